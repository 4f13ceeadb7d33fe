"""Pretrained word vectors from the files that people have; only the rows of a vocabulary are kept.

| format | how it is recognised |
|---|---|
| word2vec text, fastText ``.vec`` | a first line of two numbers: words and dimensions |
| GloVe text | a first line of a word and numbers |
| word2vec binary | the two numbers, and then no line of text |
| fastText ``.bin`` | its magic number |

All may be gzipped but the last, of which only the rows that are wanted are read from the disk.
"""

from __future__ import annotations

import gzip
import io
import mmap
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import numpy as np
import polars as pl
from numpy.typing import NDArray

from dlnotes.arguments import checked
from dlnotes.data.vocabulary import PAD, UNK, Vocabulary
from dlnotes.errors import UserError
from dlnotes.files import write_atomically

_BLOCK_BYTES = 1 << 22
_FASTTEXT_MAGIC = struct.pack("<i", 793712314)
_HEADER = re.compile(rb"\s*(\d+)[ \t]+(\d+)\s*")


@dataclass(frozen=True)
class PretrainedVectors:
    """Vectors of some of the words of a vocabulary.

    Attributes:
        ids: The words' ids, ascending, shape (n,).
        rows: Their vectors, shape (n, dimensions).
    """

    ids: NDArray[np.int64]
    rows: NDArray[np.float32]


@checked
def read_vectors(path: Path, vocabulary: Vocabulary) -> PretrainedVectors:
    """Read the vectors of the vocabulary's words.

    The file is read a block at a time, and the numbers of other words are not looked at: 400,000
    words of 300 numbers, of which 20,000 are kept, take 1.9 s of one core as text (1.0 GB), about
    7 s when that is gzipped, and 0.9 s in word2vec's binary form (0.5 GB).

    Args:
        path: The file.
        vocabulary: Whose words to keep. Of several vectors of a word the first counts.

    Raises:
        UserError: No such file; not one of the formats, or damaged; no word in common.
    """
    wanted = {word.encode(): i for i, word in enumerate(vocabulary.tokens) if i != PAD}
    try:
        with path.open("rb") as raw:
            zipped = raw.read(2) == b"\x1f\x8b"
        with cast(IO[bytes], gzip.open(path)) if zipped else path.open("rb") as file:
            found = _read(path, file, wanted, zipped)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(
            f"{path} cannot be read: {getattr(error, 'strerror', 0) or error}"
        ) from error
    if not found:
        raise UserError(
            f"{path} has none of the vocabulary's {len(vocabulary):,} words: "
            "vectors of another language, or another tokenizer?"
        )
    ids = np.array(sorted(found), np.int64)
    rows = np.stack([found[i] for i in ids.tolist()]).astype(np.float32)
    if not np.isfinite(rows).all():
        bad = int(ids[~np.isfinite(rows).all(1)][0])
        raise UserError(f"{path}: the vector of {vocabulary.tokens[bad]!r} is not finite")
    return PretrainedVectors(ids, rows)


@checked
def write_vectors(path: Path, vocabulary: Vocabulary, vectors: PretrainedVectors) -> int:
    """Write vectors in word2vec's text format, which most programs read.

    Args:
        path: The file; what was there is replaced when all is written.
        vocabulary: Gives the words of the ids. Words with white space are left out, since the
            format has no place for them, and so is the unknown word: to another vocabulary other
            words are unknown.
        vectors: The vectors.

    Returns:
        How many were written.

    Raises:
        UserError: The file cannot be written.
    """
    words = [vocabulary.tokens[i] for i in vectors.ids.tolist()]
    unknown = vocabulary.tokens[UNK]
    kept = [k for k, word in enumerate(words) if word != unknown and word.split() == [word]]

    def write(path: Path) -> None:
        with path.open("w", encoding="utf-8") as file:
            file.write(f"{len(kept)} {vectors.rows.shape[1]}\n")
            for k in kept:
                file.write(f"{words[k]} {' '.join(f'{x:.6g}' for x in vectors.rows[k].tolist())}\n")

    write_atomically(path, write)
    return len(kept)


_Found = dict[int, NDArray[np.float32]]


def _read(path: Path, file: IO[bytes], wanted: dict[bytes, int], zipped: bool) -> _Found:
    first = file.readline(1 << 20)
    if first.startswith(_FASTTEXT_MAGIC):
        if zipped:
            raise UserError(f"{path}: a gzipped fastText .bin; unpack it first")
        return _read_fasttext(path, wanted)
    header = _HEADER.fullmatch(first)
    words = None
    if header:
        words, dim = int(header[1]), int(header[2])
        first = file.readline(1 << 20)
        if _numbers(first) != dim:
            return _read_binary(path, file, first, wanted, words, dim)
    else:
        dim = _numbers(first)
    if dim < 1:
        raise UserError(
            f"{path} is not a file of word vectors: known are word2vec (text and binary), GloVe "
            "and fastText (.vec and .bin)"
        )
    return _read_text(path, file, first, wanted, words, dim)


def _numbers(line: bytes) -> int:
    """How many numbers follow the word of a line; 0 where anything else does."""
    try:
        return len([float(field) for field in line.strip().split(b" ")[1:]])
    except ValueError:
        return 0


def _blocks(file: IO[bytes], rest: bytes) -> Iterator[bytes]:
    """Blocks of whole lines; the last line gets its line break."""
    while chunk := file.read(_BLOCK_BYTES):
        end = chunk.rfind(b"\n") + 1
        if end:
            yield rest + chunk[:end]
            rest = chunk[end:]
        else:
            rest += chunk
    if rest:
        yield rest if rest.endswith(b"\n") else rest + b"\n"


def _read_text(
    path: Path, file: IO[bytes], first: bytes, wanted: dict[bytes, int], words: int | None, dim: int
) -> _Found:
    found: _Found = {}
    lines = 0
    for block in _blocks(file, first):
        kept: dict[int, bytes] = {}
        find, get, start, before = block.find, wanted.get, 0, lines
        # A loop over lines, but not over their numbers: `find` passes these at the speed of memory,
        # which no search for the line breaks of a whole block by NumPy comes near.
        while start < len(block):
            end = find(b"\n", start)
            i = get(block[start : find(b" ", start, end)])
            lines += 1
            if i is not None and i not in found and i not in kept:
                numbers = block[start:end].split(b" ", 1)[1].strip()
                count = numbers.count(b" ") + 1
                if count < dim:
                    where = lines + (words is not None)
                    raise UserError(f"{path}:{where}: {count} numbers, where others have {dim}")
                if count == dim:  # else the word has spaces in it, and is another one
                    kept[i] = numbers
            start = end + 1
        if kept:
            try:
                frame = pl.read_csv(
                    io.BytesIO(b"\n".join(kept.values())),
                    separator=" ",
                    has_header=False,
                    quote_char=None,
                    schema={str(d): pl.Float32 for d in range(dim)},
                )
            except pl.exceptions.PolarsError as error:
                raise UserError(
                    f"{path}: a vector in lines {before + 1} to {lines} is not made of numbers"
                ) from error
            found |= zip(kept, frame.to_numpy(), strict=True)
    if words is not None and lines != words:
        raise UserError(f"{path} is cut off: it has {lines:,} of {words:,} words")
    return found


def _read_binary(
    path: Path, file: IO[bytes], rest: bytes, wanted: dict[bytes, int], words: int, dim: int
) -> _Found:
    found: _Found = {}
    size = 4 * dim
    place = 0
    for number in range(words):
        # A record's place depends on the lengths of all words before it: there is no way around
        # a loop.
        while (end := rest.find(b" ", place)) < 0 or end + 1 + size > len(rest):
            chunk = file.read(_BLOCK_BYTES)
            if not chunk:
                raise UserError(
                    f"{path} is cut off, or not a file of word vectors: it has {number:,} of "
                    f"{words:,} words"
                )
            rest, place = rest[place:] + chunk, 0
        i = wanted.get(rest[place:end].lstrip(b"\n"))
        if i is not None and i not in found:
            found[i] = np.frombuffer(rest, "<f4", dim, end + 1).copy()  # the block goes
        place = end + 1 + size
    return found


def _read_fasttext(path: Path, wanted: dict[bytes, int]) -> _Found:
    r"""Vectors as fastText's ``get_word_vector`` gives them.

    Mean of the rows of the word, where the dictionary has it, and of its character n-grams
    (Bojanowski et al. 2017, https://arxiv.org/abs/1607.04606), so that most words get a vector
    even when the dictionary does not have them.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            version, dim, *_, model, bucket, minn, maxn, _ = struct.unpack_from("<13i", data, 4)
            place = 4 + 13 * 4 + 8
            size, nwords, _ = struct.unpack_from("<3i", data, place)
            pruned = struct.unpack_from("<q", data, place + 20)[0]
            place += 28
            rows: dict[bytes, int] = {}
            for row in range(size):
                end = data.find(b"\0", place)
                if end < 0:
                    raise ValueError("the dictionary has no end")
                word = data[place:end]
                if row < nwords and word in wanted:
                    rows[word] = row
                place = end + 10
            kept = np.frombuffer(data, "<i4", 2 * max(0, pruned), place).reshape(-1, 2).copy()
            place += kept.nbytes
            quantized = data[place] != 0
            m, n = (0, 0) if quantized else struct.unpack_from("<2q", data, place + 1)
        except (struct.error, ValueError, IndexError) as error:
            raise UserError(f"{path} is cut off or damaged: {error}") from error
        if quantized:
            raise UserError(f"{path} is quantized (.ftz): give the .bin that it was made of")
        if version < 12 and model == 3:  # supervised; such old files used no character n-grams
            maxn = 0
        rows_of_grams = bucket if maxn and pruned < 0 else max(0, pruned)
        if n != dim or m < nwords + rows_of_grams or place + 17 + 4 * m * n > len(data):
            raise UserError(f"{path} is cut off or damaged")
        prune = {int(gram): int(row) for gram, row in kept}
        found: _Found = {}
        matrix = np.frombuffer(data, "<f4", m * n, place + 17).reshape(m, n)
        for word, i in wanted.items():
            # The vocabulary's marks, such as <unk>, are no words to be put together.
            composed = maxn and bucket and (word in rows or not word.startswith(b"<"))
            grams = character_ngrams(word, minn, maxn, bucket) if composed else []
            if pruned >= 0:
                grams = [prune[gram] for gram in grams if gram in prune]
            chosen = [nwords + gram for gram in grams]
            if word in rows:
                chosen.append(rows[word])
            if chosen:
                found[i] = matrix[chosen].mean(axis=0)
        del matrix  # the map cannot be closed while an array looks at it
    return found


def character_ngrams(word: bytes, minn: int, maxn: int, bucket: int) -> list[int]:
    """Numbers of a word's character n-grams in fastText: the hash of each, modulo `bucket`.

    The n-grams are those of ``<word>`` with `minn` to `maxn` characters of UTF-8; ``<`` and ``>``
    alone are none. The hash is FNV-1a of 32 bits, with fastText's slip: a byte above 127 is
    negative there, so that it flips the upper 24 bits too.
    """
    text = b"<" + word + b">"
    begins = [i for i, byte in enumerate(text) if byte & 0xC0 != 0x80] + [len(text)]
    ids = []
    for first in range(len(begins) - 1):
        h = 2166136261
        for last in range(first + 1, min(first + maxn, len(begins) - 1) + 1):
            for byte in text[begins[last - 1] : begins[last]]:
                h = ((h ^ (byte | 0xFFFFFF00 if byte > 127 else byte)) * 16777619) & 0xFFFFFFFF
            n = last - first
            if n >= minn and not (n == 1 and (first == 0 or last == len(begins) - 1)):
                ids.append(h % bucket)
    return ids
