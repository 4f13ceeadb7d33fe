"""Texts as one flat array of numbers, kept on disk and mapped into memory.

A file is tokenized once. Its distinct tokens (*types*) are numbered as they appear, and every
document is a run of these numbers in one flat array. The numbering does not depend on a
vocabulary, a split or a seed, so one cached copy serves all of them: a vocabulary is a table
from type to id that is applied when a batch is gathered.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tempfile
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Annotated, Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from dlnotes.arguments import checked, fields_of
from dlnotes.data import chinese
from dlnotes.data.keys import KeyArray, text_keys
from dlnotes.data.labels import LabelSets
from dlnotes.data.layout import LABEL, TEXT, Layout
from dlnotes.data.mapped import GrowingArray, document_slices, slices
from dlnotes.data.readers import (
    BLOCK_BYTES,
    Source,
    check_readable,
    files_of,
    read,
    separated,
)
from dlnotes.data.streams import ignored
from dlnotes.data.subwords import Subwords
from dlnotes.data.tokenization import JIEBA, READY, SUBWORDS, TOKENIZERS
from dlnotes.errors import UserError
from dlnotes.files import remove, remove_abandoned, sha256_of

_CACHE_FORMAT = "5"
_BUILDING = ".building-"
_DIGEST_BYTES, _SIZES = 64, 40


@dataclass(frozen=True)
class TokenizedTexts:
    """Documents as runs of type numbers.

    Attributes:
        name: Where the texts come from, for messages.
        tokens: Type of every token, one document after another, shape (tokens,).
        offsets: Where each document begins in `tokens`, and the end, shape (documents + 1,).
        types: The distinct tokens.
        labels: Index into `label_names` of every document, shape (documents,); `LabelSets` where a
            document may have several.
        label_names: The distinct labels, sorted.
        lines: Line of the source at which each document begins, shape (documents,).
        fingerprint: SHA-256 of the source's content.
        files: If the source is files, the name of each and the number of documents up to its end.
        folder: Folder for the files of large arrays made from these; None for memory.
    """

    name: str
    tokens: NDArray[np.int32]
    offsets: NDArray[np.int64]
    types: pl.Series
    labels: NDArray[np.int64] | LabelSets
    label_names: list[str]
    lines: NDArray[np.int64]
    fingerprint: str
    files: tuple[tuple[str, int], ...] = ()
    folder: Path | None = None

    def location(self, document: int) -> str:
        """File and line of a document."""
        name = next((name for name, end in self.files if document < end), self.name)
        return f"{name}:{self.lines[document]}"

    def label_of(self, document: int) -> str:
        """The label of a document; several are joined by commas."""
        if isinstance(self.labels, LabelSets):
            return ", ".join(self.label_names[i] for i in self.labels.of(document))
        return self.label_names[int(self.labels[document])]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def keys(self) -> KeyArray:
        """A hash of each document's tokens, see `text_keys`."""
        return text_keys(self)

    def counts(self, documents: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
        """How often each type occurs, in all documents or in those given."""
        chosen = np.ones(len(self), bool)
        if documents is not None:
            chosen[:] = False
            chosen[documents] = True
        total = np.zeros(len(self.types), np.int64)
        for rows in document_slices(self.offsets):
            offsets = self.offsets[rows.start : rows.stop + 1]
            piece = self.tokens[offsets[0] : offsets[-1]]
            kept = np.repeat(chosen[rows], np.diff(offsets))
            counts = np.bincount(piece[kept])
            total[: len(counts)] += counts
        return total


@checked
def tokenize(
    source: Source,
    tokenizer: str | Subwords = "basic_english",
    layout: Layout | None = None,
    *,
    cache_dir: Path | None = None,
    multi_label: bool = False,
    block_bytes: int = BLOCK_BYTES,
    **settings: Annotated[Any, Layout],
) -> TokenizedTexts:
    """Read and tokenize labelled texts.

    Args:
        source: What `dlnotes.data.readers.read` takes.
        tokenizer: A name in `dlnotes.data.tokenization.READY`, or learned `Subwords`.
        layout: See `read`.
        cache_dir: Where the arrays of files are kept, keyed by the files' content. Without it, and
            where it cannot be written to, they are held in memory.
        multi_label: See `read`.
        block_bytes: See `read`.
        settings: Fields of `layout` to override.

    Warns:
        UserWarning: The cache cannot be written.

    Raises:
        UserError: An unknown `tokenizer`, a file that changes while it is read, or what `read`
            raises.
    """
    _check_tokenizer(tokenizer)
    layout = replace(layout or Layout(), **settings)
    files = files_of(source)
    if not files:
        digest = hashlib.sha256()
        # Labels are separated after they are hashed, so that the digest equals `fingerprint`.
        given = separated(_hashed(read(source, block_bytes=block_bytes), digest), layout)
        return _in_memory("the texts", given, tokenizer, digest.hexdigest)
    for file in files:
        check_readable(file)
    found = fingerprint(files)
    ends: list[int] = []  # how many documents there are up to the end of each file

    def frames() -> Iterator[pl.DataFrame]:
        ends.clear()
        documents = 0
        for file in files:
            for frame in read(file, layout, multi_label=multi_label, block_bytes=block_bytes):
                documents += frame.height
                yield frame
            ends.append(documents)
        if fingerprint(files) != found:
            named = ", ".join(map(str, files))
            raise UserError(f"{named} was changed while it was read; try again")

    names = [str(file) for file in files]
    if cache_dir is not None:
        # The suffix decides how a file is read, so it is part of the key.
        suffixes = ["".join(file.suffixes) for file in files]
        how = {name: getattr(layout, name) for name in fields_of(Layout)}
        how["multi_label"] = multi_label
        by = _described(tokenizer)
        what = json.dumps([found, _CACHE_FORMAT, suffixes, by, how, pl.__version__])
        entry = cache_dir / hashlib.sha256(what.encode()).hexdigest()[:32]
        cached = _load(entry, what, names, found)
        if cached is None and _write(entry, what, frames, ends, tokenizer):
            cached = _load(entry, what, names, found)
        if cached is not None:
            return cached
    texts = _in_memory(names[0], frames(), tokenizer, lambda: found)
    return replace(texts, files=tuple(zip(names, ends, strict=True)))


def tokenize_texts(texts: Sequence[str] | pl.Series, tokenizer: str | Subwords) -> TokenizedTexts:
    """Tokenize texts without labels, in memory: what prediction uses."""
    _check_tokenizer(tokenizer)
    column = texts if isinstance(texts, pl.Series) else list(texts)
    frame = pl.DataFrame({TEXT: column}, schema={TEXT: pl.String})
    frame = frame.with_columns(pl.lit("").alias(LABEL), pl.lit(0, pl.Int64).alias("line"))
    return _in_memory("the texts", [frame], tokenizer, str)


def _check_tokenizer(tokenizer: str | Subwords) -> None:
    if isinstance(tokenizer, str) and tokenizer in SUBWORDS:
        raise UserError(f"the tokenizer {tokenizer} is learned: give the Subwords themselves")
    if isinstance(tokenizer, str) and tokenizer not in READY:
        raise UserError(f"tokenizer must be one of {', '.join(READY)}, not {tokenizer!r}")


def _described(tokenizer: str | Subwords) -> str:
    """What the tokens depend on, for the key of a cache entry."""
    if isinstance(tokenizer, Subwords):
        return f"{tokenizer.tokenizer} {tokenizer.digest}"
    if tokenizer in JIEBA:
        with suppress(PackageNotFoundError):
            return f"{tokenizer} {version('jieba')}"
    return tokenizer


def _splitter(tokenizer: str | Subwords) -> Callable[[pl.Series], pl.Series]:
    """The function that gives the tokens of each text, including empty strings.

    Raises:
        UserError: A package is missing.
    """
    if isinstance(tokenizer, Subwords):
        return tokenizer
    if tokenizer in JIEBA:
        return partial(chinese.words, sentences=tokenizer == "sentence_jieba")
    expression = TOKENIZERS[tokenizer](pl.col(TEXT)).alias(TEXT)
    return lambda texts: texts.to_frame().select(expression)[TEXT]


def _in_memory(
    name: str,
    frames: Iterable[pl.DataFrame],
    tokenizer: str | Subwords,
    fingerprint: Callable[[], str],
) -> TokenizedTexts:
    numbered = _number(frames, tokenizer, tokens := io.BytesIO())
    return TokenizedTexts(
        name, np.frombuffer(tokens.getbuffer(), np.int32), *numbered, fingerprint()
    )


class _Numbered(NamedTuple):
    """The fields of `TokenizedTexts` that `_number` returns, which are not the flat array."""

    offsets: NDArray[np.int64]
    types: pl.Series
    labels: NDArray[np.int64] | LabelSets
    label_names: list[str]
    lines: NDArray[np.int64]


def _number(
    frames: Iterable[pl.DataFrame],
    tokenizer: str | Subwords,
    sink: IO[bytes],
    folder: Path | None = None,
) -> _Numbered:
    """Write the flat array of type numbers to `sink`; return all the rest.

    Args:
        frames: Blocks of documents.
        tokenizer: Their tokenization.
        sink: Where the array is written.
        folder: Folder for the files of arrays with an element per document; None for memory.
    """
    types = _Types()
    label_of: dict[str, int] = {}
    offsets, labels, lines, sizes = (GrowingArray(np.int64, folder) for _ in range(4))
    offsets.append(np.zeros(1))
    count = 0  # tokens so far
    several = False
    split = _splitter(tokenizer)
    for frame, lists in _beside(frames, lambda frame: split(frame[TEXT])):
        flat = types.numbers(lists.explode(empty_as_null=False))
        real = flat >= 0  # the empty strings between two spaces are no tokens
        sink.write(flat[real].tobytes())
        ends = np.concatenate([[0], np.cumsum(real)])
        bounds = np.cumsum(lists.list.len().to_numpy().astype(np.int64))
        offsets.append(count + ends[bounds])
        count += int(ends[-1])
        given = frame[LABEL]
        if given.dtype == pl.List:
            several = True
            sizes.append(given.list.len().to_numpy())
            given = given.explode(empty_as_null=False)
        else:
            sizes.append(np.ones(len(given)))
        names = given.unique().to_list()
        numbered = [label_of.setdefault(name, len(label_of)) for name in names]
        column = given.replace_strict(names, numbered, return_dtype=pl.Int64)
        labels.append(column.to_numpy())
        lines.append(frame["line"].to_numpy())
    counts, label_names = sizes.array(), sorted(label_of)
    rank = {name: i for i, name in enumerate(label_names)}
    order = np.array([rank[name] for name in label_of], np.int64)
    ids: NDArray[np.int64] = labels.array()
    for part in slices(len(ids)):
        ids[part] = order[ids[part]]
    sets = LabelSets.build(ids, counts, len(label_names)) if several else None
    given_labels = ids if sets is None else sets
    return _Numbered(offsets.array(), types.all(), given_labels, label_names, lines.array())


def _beside(
    frames: Iterable[pl.DataFrame], split: Callable[[pl.DataFrame], pl.Series]
) -> Iterator[tuple[pl.DataFrame, pl.Series]]:
    """Frames and their tokens; another thread makes these while the caller uses the previous."""
    with ThreadPoolExecutor(1, "dlnotes-tokens") as pool:
        waiting: deque[tuple[pl.DataFrame, Future[pl.Series]]] = deque()
        for frame in frames:
            waiting.append((frame, pool.submit(split, frame)))
            if len(waiting) > _AHEAD:
                before, tokens = waiting.popleft()
                yield before, tokens.result()
        for before, tokens in waiting:
            yield before, tokens.result()


_AHEAD = 1  # frames tokenized in advance: each has some megabytes of text
_NEW, _EMPTY = -2, -1


class _Types:
    """Numbers distinct tokens in the order in which they appear.

    A categorical type hashes each token once; its codes are distinct, but not in this order. They
    stay the same from one block to the next, and so only new tokens have to be looked at.
    """

    def __init__(self) -> None:
        self._categories = pl.Categorical(pl.Categories.random())
        self._codes = pl.Series([], dtype=self._categories)  # keeps the categories alive
        self._number_of = np.empty(0, np.int32)  # by code
        self._types: list[pl.Series] = []
        self._count = 0

    def numbers(self, tokens: pl.Series) -> NDArray[np.int32]:
        """The number of each token, -1 for empty strings."""
        codes = tokens.cast(self._categories).to_physical().to_numpy()
        more = int(codes.max(initial=0)) + 1 - len(self._number_of)
        if more > 0:
            of_new = np.full(max(more, len(self._number_of)), _NEW, np.int32)
            self._number_of = np.concatenate([self._number_of, of_new])
        found: NDArray[np.int32] = self._number_of[codes]
        places = np.flatnonzero(found == _NEW)
        if not len(places):
            return found
        new = codes[places]
        lowest = int(new.min())
        first = np.full(int(new.max()) - lowest + 1, -1, np.int64)
        first[new[::-1] - lowest] = places[::-1]  # the first of several places is written last
        first = np.sort(first[first >= 0])
        words, new = tokens.gather(first), codes[first]
        filled = (words != "").to_numpy()
        count = int(filled.sum())
        self._number_of[new[~filled]] = _EMPTY
        self._number_of[new[filled]] = np.arange(self._count, self._count + count)
        self._types.append(words.filter(filled))
        self._count += count
        found[places] = self._number_of[codes[places]]
        return found

    def all(self) -> pl.Series:
        """The tokens in the order of their numbers."""
        return pl.concat(
            [pl.Series("type", [], pl.String), *(t.alias("type") for t in self._types)]
        )


def _write(
    entry: Path,
    what: str,
    frames: Callable[[], Iterator[pl.DataFrame]],
    ends: list[int],
    tokenizer: str | Subwords,
) -> bool:
    """Write a cache entry to a temporary file and move it into place; return False on failure.

    An entry is one file, so that it is replaced in one step even while others read it. It holds, in
    this order: the digest of all that follows; the numbers of tokens, documents, labels, offsets of
    labels (0 where each document has one label) and bytes of the types; the tokens; the offsets,
    lines, labels and offsets of labels; the types; and the rest as JSON. The arrays begin at
    multiples of 8 bytes, so that they can be mapped.
    """
    building = None
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        remove_abandoned(entry.parent, _BUILDING)
        descriptor, building = tempfile.mkstemp(prefix=_BUILDING, dir=entry.parent)
        with os.fdopen(descriptor, "w+b") as file:
            file.write(bytes(_DIGEST_BYTES + _SIZES))
            found = _number(frames(), tokenizer, file, entry.parent)
            if isinstance(found.labels, LabelSets):
                labels, bounds = found.labels.ids, found.labels.offsets
            else:
                labels, bounds = found.labels, np.empty(0, np.int64)
            file.write(bytes(-file.tell() % 8))
            for array in (found.offsets, found.lines, labels, bounds):
                for part in slices(len(array)):
                    file.write(array[part].tobytes())
            begin = file.tell()
            found.types.to_frame().write_ipc(file)
            file.seek(0, os.SEEK_END)
            sizes = [found.offsets[-1], len(found.lines), len(labels), len(bounds)]
            sizes.append(file.tell() - begin)
            file.write(json.dumps([what, found.label_names, ends]).encode())
            file.seek(_DIGEST_BYTES)
            file.write(np.array(sizes, np.int64).tobytes())
            file.seek(_DIGEST_BYTES)
            digest = sha256_of(file)
            file.seek(0)
            file.write(digest.encode())
        if entry.is_dir():
            remove(entry)
        Path(building).replace(entry)
        return True
    except OSError as error:
        warnings.warn(
            f"the cache {entry.parent} cannot be written ({error.strerror or error}): going on "
            "without it; name another with DLNOTES_CACHE",
            stacklevel=3,
        )
        return False
    finally:
        if building:
            remove(Path(building))


def _load(entry: Path, what: str, names: list[str], fingerprint: str) -> TokenizedTexts | None:
    """A cache entry, or None if there is none that is complete and of this content."""
    try:
        if not entry.is_file():
            return None
        with entry.open("rb") as file:
            if file.read(_DIGEST_BYTES) != sha256_of(file).encode():
                return None
            # Map the open file: its name may belong to another one by now.
            data = np.memmap(file, np.uint8, "r")
        tokens, documents, labelled, bound, of_types = (
            data[_DIGEST_BYTES : _DIGEST_BYTES + _SIZES].view(np.int64).tolist()
        )
        begin = _DIGEST_BYTES + _SIZES
        flat = data[begin : begin + 4 * tokens].view(np.int32)
        begin += -(-4 * tokens // 8) * 8
        arrays = []
        for count in (documents + 1, documents, labelled, bound):
            # As plain arrays: every slice of a memmap would be a memmap, which takes time.
            arrays.append(np.asarray(data[begin : begin + 8 * count].view(np.int64)))
            begin += 8 * count
        types = pl.read_ipc(data[begin : begin + of_types].tobytes())["type"]
        found, label_names, ends = json.loads(data[begin + of_types :].tobytes())
    except (OSError, ValueError, pl.exceptions.PolarsError):  # truncated at this very moment
        return None
    if found != what:
        return None
    offsets, lines, ids, bounds = arrays
    files = tuple(zip(names, ends, strict=True))
    labels = LabelSets(ids, bounds, len(label_names)) if bound else ids
    rest = (offsets, types, labels, label_names, lines)
    return TokenizedTexts(names[0], flat, *rest, fingerprint, files, entry.parent)


def fingerprint(source: Source) -> str:
    """SHA-256 of a file, of the names and contents of a folder's files, or of labels and texts.

    For several files it is that of their fingerprints.
    """
    files = files_of(source)
    if not files:
        digest = hashlib.sha256()
        for _ in _hashed(read(source), digest):
            pass
        return digest.hexdigest()
    if len(files) > 1:
        return hashlib.sha256("".join(map(fingerprint, files)).encode()).hexdigest()
    path = files[0]
    if path.is_file():
        with path.open("rb") as file:
            return sha256_of(file)
    digest = hashlib.sha256()
    for member in sorted(path.rglob("*")):
        if member.is_file() and not ignored(member.relative_to(path)):
            name = os.fsencode(member.relative_to(path))  # a name need not be UTF-8
            digest.update(name + f"\0{member.stat().st_size}\0".encode())
            digest.update(member.read_bytes())
    return digest.hexdigest()


def _hashed(frames: Iterator[pl.DataFrame], digest: hashlib._Hash) -> Iterator[pl.DataFrame]:
    for frame in frames:
        labels = frame[LABEL]
        if labels.dtype == pl.List:
            labels = labels.list.eval(pl.lit("\1") + pl.element()).list.join("")
        digest.update("\0".join(pl.concat([labels, frame[TEXT]])).encode())
        yield frame
