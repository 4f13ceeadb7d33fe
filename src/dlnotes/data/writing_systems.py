"""Which tokenization suits the script that texts are written in."""

from __future__ import annotations

import itertools
import warnings
from typing import NamedTuple

import polars as pl

from dlnotes.data.layout import TEXT, Layout
from dlnotes.data.readers import Source, files_of, read

_NO_SPACES = (
    r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}\p{Yi}"
    r"\p{Tai_Le}\p{New_Tai_Lue}\p{Tai_Tham}\p{Javanese}\p{Balinese}]"
)
_NO_CASE, _LETTER, _WITH_MARKS = r"\p{Lo}", r"\p{L}", r"[\p{L}\p{M}]"

# Share of the letters. Words of these scripts are a third to a quarter as long as English ones, so
# a fifth of the letters is about half of a text. In doubt the choice is characters: a model can
# combine them into words, but it cannot divide a line without spaces.
_SHARE = 0.2
# The sample: how many documents of a block, spread evenly over it, how many first characters of
# each, and how many first blocks of a file; and the size of a block.
_DOCUMENTS, _CHARACTERS, _BLOCKS, _BLOCK_BYTES = 1000, 1000, 8, 1 << 20


class Choice(NamedTuple):
    """A tokenization, and why it is not the usual one (empty if it is)."""

    tokenizer: str
    why: str = ""


def choose_tokenizer(source: Source, layout: Layout, *, sentences: bool = False) -> Choice:
    """Choose a tokenization by a sample of the texts, which is the same at every call.

    Args:
        source: The training documents, which can be read again.
        layout: Where texts are in files.
        sentences: Whether sentence ends must be marked.

    Returns:
        ``characters`` where at least a fifth of the letters are of scripts without spaces between
        words, ``words`` where half of them are of scripts without capitals, which have punctuation
        of their own, and ``basic_english`` elsewhere. With `sentences`, ``sentence_characters``,
        ``sentence_words`` and ``sentences``.

    Raises:
        UserError: What `read` raises.
    """
    sample = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about files: they come when these are read as a whole
        each: list[Source] = [*files_of(source)] or [source]
        for one in each:
            # With several labels, so that texts without a label raise no error here.
            blocks = read(one, layout, multi_label=True, block_bytes=_BLOCK_BYTES)
            for frame in itertools.islice(blocks, _BLOCKS):
                step = -(-frame.height // _DOCUMENTS)
                sample.append(frame[TEXT].gather_every(step).str.head(_CHARACTERS))
    texts = pl.concat(sample)

    def count(pattern: str) -> int:
        return int(texts.str.count_matches(pattern).sum())

    if (share := count(_NO_SPACES) / max(1, count(_WITH_MARKS))) >= _SHARE:
        why = f"{share:.0%} of the letters are of scripts without spaces".replace("%", " %")
        return Choice("sentence_characters" if sentences else "characters", why)
    if (share := count(_NO_CASE) / max(1, count(_LETTER))) >= 0.5:
        why = f"{share:.0%} of the letters are of scripts without capitals".replace("%", " %")
        return Choice("sentence_words" if sentences else "words", why)
    return Choice("sentences" if sentences else "basic_english")
