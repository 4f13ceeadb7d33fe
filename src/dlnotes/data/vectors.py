"""Pretrained word vectors from files of the usual formats; only a vocabulary's rows are kept.

| format | how it is recognised |
|---|---|
| word2vec text, fastText ``.vec`` | a first line of two numbers: words and dimensions |
| GloVe text | lines of a word and numbers |
| word2vec binary | the two numbers, and then bytes that no text has |
| fastText ``.bin`` | its magic number |

In text, any number of spaces and tabs separates fields. All files may be compressed (see
`dlnotes.data.streams`) except the last, of which only the wanted rows are read from the disk.
"""

from __future__ import annotations

import io
import mmap
import re
import struct
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import polars as pl
from numpy.typing import NDArray

from dlnotes.arguments import checked
from dlnotes.data.streams import check_file, open_binary
from dlnotes.data.vocabulary import PAD, UNK, Vocabulary
from dlnotes.errors import UserError
from dlnotes.files import write_atomically

_BLOCK_BYTES = 1 << 22
_HEAD_BYTES = 1 << 20  # by which the format is recognised
_FASTTEXT_MAGIC = struct.pack("<i", 793712314)
_HEADER = re.compile(rb"\s*(\d{1,18})[ \t]+(\d{1,18})\s*")
_NO_TEXT = re.compile(rb"[\x00-\x08\x0e-\x1f]")
_MOST_DIMENSIONS = 1 << 14
_NOT_VECTORS = (
    "is not a file of word vectors: known are word2vec (text and binary), GloVe and fastText (.vec "
    "and .bin)"
)


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

    The file is read a block at a time, and the numbers of other words are not parsed: 400,000 words
    of 300 numbers, of which 20,000 are kept, take 1.9 s of one core as text (1.0 GB), about 7 s
    when that is gzipped, and 0.9 s in word2vec's binary form (0.5 GB).

    Args:
        path: The file.
        vocabulary: The words to keep. If a word has several vectors, the first counts.

    Warns:
        UserWarning: The first line gives one word more than there are, or fewer words.

    Raises:
        UserError: No such file; not one of the formats, or damaged; no word in common.
    """
    wanted = {word.encode(): i for i, word in enumerate(vocabulary.tokens) if i != PAD}
    check_file(path)
    with open_binary(path) as file:
        found = _read(path, file, wanted)
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
        path: The file; an existing one is replaced once everything is written.
        vocabulary: Gives the words of the ids. Words with white space are left out, since the
            format cannot hold them, and so is the unknown word, which stands for other words in
            another vocabulary.
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


def _read(path: Path, file: IO[bytes], wanted: dict[bytes, int]) -> _Found:
    head = file.read(_HEAD_BYTES)
    if head.startswith(_FASTTEXT_MAGIC):
        if not isinstance(file, io.BufferedReader):
            raise UserError(f"{path}: a compressed fastText .bin; decompress it first")
        return _read_fasttext(path, wanted)
    if not head:
        raise UserError(f"{path} is empty: it has no word vectors")
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UserError(f"{path} is UTF-16; convert it to UTF-8 first")
    head = head.removeprefix(b"\xef\xbb\xbf")
    end = b"\r" if b"\r" in head and b"\n" not in head else b"\n"
    first, _, rest = head.partition(end)
    header = _HEADER.fullmatch(first)
    words = dim = None
    if header:
        words, dim = int(header[1]), int(header[2])
        if not 1 <= dim <= _MOST_DIMENSIONS:
            raise UserError(
                f"{path}:1: vectors of {dim:,} numbers; allowed: 1 to {_MOST_DIMENSIONS:,}"
            )
        head = rest
    lines = [line for line in head.replace(b"\t", b" ").split(end) if line.strip()]
    if len(head) > _HEAD_BYTES // 2 and len(lines) > 1:
        lines.pop()  # it may continue after the head
    counts = Counter(count for count in map(_numbers, lines) if count)
    usual = counts[dim] if dim else sum(counts.values())
    if 2 * usual < len(lines) and _NO_TEXT.search(head):
        if words is None or dim is None:
            raise UserError(f"{path} {_NOT_VECTORS}")
        return _read_binary(path, file, head, wanted, words, dim)
    at = 1 + (words is not None)
    if not counts and any(_numbers(line.replace(b",", b".")) for line in lines[:100]):
        raise UserError(f"{path}:{at}: numbers with a decimal comma; they need a point")
    if dim is None:
        if 2 * usual < len(lines) or not counts:
            raise UserError(f"{path} {_NOT_VECTORS}")
        dim = counts.most_common(1)[0][0]
    elif not usual and lines:
        raise UserError(
            f"{path}:{at}: {_numbers(lines[0])} numbers, where the first line says {dim}"
        )
    return _read_text(path, file, head, wanted, words, dim, end)


def _numbers(line: bytes) -> int:
    """How many numbers there are at the end of a line, not counting its first field."""
    count = 0
    for field in reversed(line.split()[1:]):
        if not _is_number(field):
            break
        count += 1
    return count


def _is_number(field: bytes) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return b"_" not in field


def _blocks(file: IO[bytes], rest: bytes, end: bytes) -> Iterator[bytes]:
    """Blocks of whole lines with spaces in place of tabs; the last line gets a line break."""
    while chunk := file.read(_BLOCK_BYTES):
        rest += chunk
        stop = rest.rfind(end) + 1
        if stop:
            yield rest[:stop].replace(b"\t", b" ")
            rest = rest[stop:]
    if rest:
        yield rest.replace(b"\t", b" ").removesuffix(end) + end


def _read_text(
    path: Path,
    file: IO[bytes],
    first: bytes,
    wanted: dict[bytes, int],
    words: int | None,
    dim: int,
    line_end: bytes,
) -> _Found:
    found: _Found = {}
    number = int(words is not None)  # of the line
    last, blank = b"", 0  # the last line that is not blank, and blank lines after it
    for block in _blocks(file, first, line_end):
        kept: dict[int, tuple[int, bytes]] = {}
        find, get, start = block.find, wanted.get, 0
        # A loop over lines, but not over their numbers: `find` skips these at the speed of memory,
        # far faster than NumPy finds the line breaks of a whole block.
        while start < len(block):
            end = find(line_end, start)
            number += 1
            stop = find(b" ", start, end)
            if stop > start:
                word = block[start:stop]
            else:  # a space before the word, or none after it
                word = next(iter(block[start:end].split(None, 1)), b"")
            blank = 0 if word else blank + 1
            i = get(word)
            if i is not None and i not in found and i not in kept:
                numbers = _vector(path, number, block[start:end], dim)
                if numbers:
                    kept[i] = number, numbers
            start = end + 1
        found |= _rows(path, kept, dim)
        last = block.rstrip().rpartition(line_end)[2] or last
    if last:
        _vector(path, number - blank, last, dim)  # it may be cut off
    lines = number - blank - (words is not None)
    if words is not None and lines != words:
        if lines < words - 1:
            raise UserError(f"{path} is cut off: it has {lines:,} of {words:,} words")
        warnings.warn(
            f"{path}: the first line says {words:,} words, but there are {lines:,}", stacklevel=4
        )
    return found


def _vector(path: Path, number: int, line: bytes, dim: int) -> bytes | None:
    """The numbers of a line, joined by single spaces; None if its word has spaces in it."""
    fields = line.split()[1:]
    if len(fields) > dim and not all(map(_is_number, fields)):
        return None
    if len(fields) != dim:
        raise UserError(f"{path}:{number}: {len(fields)} numbers, where others have {dim}")
    return b" ".join(fields)


def _rows(path: Path, kept: dict[int, tuple[int, bytes]], dim: int) -> _Found:
    """Parse the vectors of some words.

    Args:
        path: Where they come from, for messages.
        kept: For the id of each word, the number of its line and the numbers in it.
        dim: How many numbers there are.
    """
    if not kept:
        return {}
    try:
        frame = pl.read_csv(
            # An empty line first: Polars decompresses what begins like compressed data, as "x^".
            io.BytesIO(b"\n".join([b"", *(numbers for _, numbers in kept.values())])),
            skip_rows=1,
            separator=" ",
            has_header=False,
            quote_char=None,
            schema={str(d): pl.Float32 for d in range(dim)},
        )
    except pl.exceptions.PolarsError as error:
        for number, numbers in kept.values():
            for field in numbers.split():
                if not _is_number(field):
                    shown = field[:40].decode(errors="replace")
                    raise UserError(f"{path}:{number}: {shown!r} is not a number") from error
        first, *_, last = [number for number, _ in kept.values()] * 2
        raise UserError(
            f"{path}: a vector in lines {first} to {last} is not made of numbers"
        ) from error
    rows = frame.to_numpy()
    for row, (number, _) in zip(rows, kept.values(), strict=True):
        if not np.isfinite(row).all():
            raise UserError(f"{path}:{number}: the vector is not finite")
    return dict(zip(kept, rows, strict=True))


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
            if len(rest) > max(_HEAD_BYTES, 2 * size) + len(chunk):
                end = -1
                break
        word = rest[place:end].lstrip(b"\n")
        if end < 0 or b"\n" in word:
            raise UserError(
                f"{path} is damaged, or not a file of word vectors: word {number + 1:,} has no end"
            )
        i = wanted.get(word)
        if i is not None and i not in found:
            found[i] = np.frombuffer(rest, "<f4", dim, end + 1).copy()  # does not keep the block
        place = end + 1 + size
    if rest[place:].strip() or file.read(1):
        warnings.warn(
            f"{path}: the file goes on after the {words:,} words that its first line gives",
            stacklevel=4,
        )
    return found


def _read_fasttext(path: Path, wanted: dict[bytes, int]) -> _Found:
    r"""Vectors as fastText's ``get_word_vector`` gives them.

    A vector is the mean of the row of the word, if the dictionary has it, and of the rows of its
    character n-grams (Bojanowski et al. 2017, https://arxiv.org/abs/1607.04606), so that most words
    get a vector even if the dictionary does not have them.
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
            # The vocabulary's marks, such as <unk>, are not words, and n-grams would be no use.
            composed = maxn and bucket and (word in rows or not word.startswith(b"<"))
            grams = character_ngrams(word, minn, maxn, bucket) if composed else []
            if pruned >= 0:
                grams = [prune[gram] for gram in grams if gram in prune]
            chosen = [nwords + gram for gram in grams]
            if word in rows:
                chosen.append(rows[word])
            if chosen:
                found[i] = matrix[chosen].mean(axis=0)
        del matrix  # the map cannot be closed while an array uses it
    return found


def character_ngrams(word: bytes, minn: int, maxn: int, bucket: int) -> list[int]:
    """Numbers of a word's character n-grams in fastText: the hash of each, modulo `bucket`.

    The n-grams are those of ``<word>`` with `minn` to `maxn` characters of UTF-8; ``<`` and ``>``
    alone are none. The hash is FNV-1a of 32 bits, with fastText's mistake: a byte above 127 is
    negative there, so that it also flips the upper 24 bits.
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
