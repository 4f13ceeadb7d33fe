"""Hashes of words and documents, to find equal ones without comparing texts.

They are the same in every version and on every machine, because a run stores those of its
documents.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from dlnotes.data.mapped import document_slices, empty

if TYPE_CHECKING:
    from dlnotes.data.tokenized import TokenizedTexts

KeyArray = NDArray[np.uint64]

_PIECE = 1 << 16  # words at a time
_BASE = np.uint64(0xD1342543DE82EF95)
_FIRST, _SECOND = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53)


def word_keys(words: pl.Series) -> KeyArray:
    r"""A hash of each word.

    .. math::
        \mathrm{mix}\Bigl(n + \sum_{i=1}^{n} (b_i + 1)\,A^i\Bigr) \pmod{2^{64}}

    where :math:`b_1, …, b_n` are the bytes of the word in UTF-8 and :math:`A` is an odd number. mix
    spreads the sum over all bits: twice it multiplies :math:`x \oplus (x \gg 33)` by an odd number.

    Args:
        words: Texts, none of them null.

    Returns:
        Shape (words,).
    """
    found = [np.empty(0, np.uint64)]
    for start in range(0, len(words), _PIECE):
        piece = words.slice(start, _PIECE)
        lengths = piece.str.len_bytes().to_numpy().astype(np.int64)
        text = np.frombuffer("".join(piece.to_list()).encode(), np.uint8)
        powers = np.cumprod(np.full(lengths.max(initial=0), _BASE))
        begins = np.cumsum(lengths) - lengths
        terms = (text + np.uint64(1)) * powers[np.arange(len(text)) - np.repeat(begins, lengths)]
        sums = lengths.astype(np.uint64)
        filled = np.flatnonzero(lengths)
        if len(filled):
            sums[filled] += np.add.reduceat(terms, begins[filled])
        for factor in (_FIRST, _SECOND):
            sums = (sums ^ (sums >> np.uint64(33))) * factor
        found.append(sums ^ (sums >> np.uint64(33)))
    return np.concatenate(found)


def text_keys(texts: TokenizedTexts) -> KeyArray:
    """A hash of each document's tokens; 0 for documents without tokens.

    Args:
        texts: The documents.

    Returns:
        Shape (documents,).
    """
    keys: KeyArray = empty(len(texts), np.uint64, texts.folder)
    of_type = word_keys(texts.types)
    for rows in document_slices(texts.offsets):
        keys[rows] = 0
        offsets = texts.offsets[rows.start : rows.stop + 1]
        lengths = np.diff(offsets)
        mixed = of_type[texts.tokens[offsets[0] : offsets[-1]]]
        places = np.arange(len(mixed)) - np.repeat(offsets[:-1] - offsets[0], lengths)
        # The order counts: every position has its own factor, which is odd so that no bit is lost.
        mixed = mixed * (2 * places.astype(np.uint64) + np.uint64(1))
        mixed ^= mixed >> np.uint64(29)
        filled = np.flatnonzero(lengths)
        if len(filled):
            sums = np.add.reduceat(mixed, (offsets[:-1] - offsets[0])[filled])
            keys[rows.start + filled] = np.maximum(sums, np.uint64(1))
    return keys
