"""Texts as one flat array of numbers, kept on disk and mapped into memory.

A file is tokenized once. Its distinct tokens (*types*) are numbered as they appear, and every
document is a run of these numbers in one flat array. The numbering knows nothing of a
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
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Annotated, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from dlnotes.arguments import checked, fields_of
from dlnotes.data import chinese
from dlnotes.data.keys import KeyArray, text_keys
from dlnotes.data.labels import LabelSets
from dlnotes.data.layout import LABEL, TEXT, Layout
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

_CACHE_FORMAT = "3"
_BUILDING = ".building-"
_DIGEST_BYTES = 64


@dataclass(frozen=True)
class TokenizedTexts:
    """Documents as runs of type numbers.

    Attributes:
        name: Where the texts come from, for messages.
        tokens: Type of every token, all documents after one another, shape (tokens,).
        offsets: Where each document begins in `tokens`, and the end, shape (documents + 1,).
        types: The distinct tokens.
        labels: Index into `label_names` of every document, shape (documents,); `LabelSets` where a
            document may have several.
        label_names: The distinct labels, sorted.
        lines: Line of the source at which each document begins, shape (documents,).
        fingerprint: SHA-256 of the source's content.
        files: Of a source of files the name of each, and how many documents there are up to its
            end.
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

    def where(self, document: int) -> str:
        """File and line of a document."""
        name = next((name for name, end in self.files if document < end), self.name)
        return f"{name}:{self.lines[document]}"

    def label_of(self, document: int) -> str:
        """The label of a document; several have a comma between two."""
        if isinstance(self.labels, LabelSets):
            return ", ".join(self.label_names[i] for i in self.labels.of(document))
        return self.label_names[int(self.labels[document])]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def keys(self) -> KeyArray:
        """A number per document that follows from its tokens, see `text_keys`."""
        return text_keys(self)

    def counts(self, documents: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
        """How often each type occurs, in all documents or in those given."""
        chosen = np.ones(len(self), bool)
        if documents is not None:
            chosen[:] = False
            chosen[documents] = True
        total = np.zeros(len(self.types), np.int64)
        # In pieces, since a corpus may be larger than memory.
        for start in range(0, len(self), 1 << 16):
            offsets = self.offsets[start : start + (1 << 16) + 1]
            piece = self.tokens[offsets[0] : offsets[-1]]
            kept = np.repeat(chosen[start : start + (1 << 16)], np.diff(offsets))
            total += np.bincount(piece[kept], minlength=len(total))
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
        tokenizer: A name in `dlnotes.data.tokenization.READY`, or what was learned.
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
        # The digest is that of what was given, as `fingerprint` has it.
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
    """What gives the tokens of each text, empty strings among them.

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
    arrays = _number(frames, tokenizer, tokens := io.BytesIO())
    return TokenizedTexts(name, np.frombuffer(tokens.getbuffer(), np.int32), *arrays, fingerprint())


_Arrays = tuple[
    NDArray[np.int64], pl.Series, NDArray[np.int64] | LabelSets, list[str], NDArray[np.int64]
]


def _number(frames: Iterable[pl.DataFrame], tokenizer: str | Subwords, sink: IO[bytes]) -> _Arrays:
    """Write the flat array of type numbers to `sink`; return all the rest."""
    type_of: dict[str, int] = {}
    label_of: dict[str, int] = {}
    lengths, labels, lines = [], [], []
    sizes: list[NDArray[np.int64]] = []  # how many labels each document has
    several = False
    split = _splitter(tokenizer)
    for frame in frames:
        lists = split(frame[TEXT])
        tokens = lists.explode(empty_as_null=False)
        # Categorical hashes each token once; its codes are distinct, but neither dense nor
        # the same from one block to the next.
        codes = tokens.cast(pl.Categorical).to_physical().to_numpy()
        first = np.full(int(codes.max(initial=0)) + 1, -1, np.int64)
        first[codes[::-1]] = np.arange(len(codes) - 1, -1, -1)
        present = np.flatnonzero(first >= 0)
        present = present[np.argsort(first[present])]
        numbers = np.empty(len(first), np.int32)
        numbers[present] = [  # a loop over distinct tokens
            type_of.setdefault(t, len(type_of)) if t else -1 for t in tokens.gather(first[present])
        ]
        flat = numbers[codes]
        real = flat >= 0  # the empty strings between two spaces are no tokens
        sink.write(flat[real].tobytes())
        ends = np.concatenate([[0], np.cumsum(real)])
        bounds = np.concatenate([[0], np.cumsum(lists.list.len().to_numpy().astype(np.int64))])
        lengths.append(np.diff(ends[bounds]))
        given = frame[LABEL]
        if given.dtype == pl.List:
            several = True
            sizes.append(given.list.len().to_numpy().astype(np.int64))
            given = given.explode(empty_as_null=False)
        else:
            sizes.append(np.ones(len(given), np.int64))
        names = given.unique().to_list()
        numbered = [label_of.setdefault(name, len(label_of)) for name in names]
        column = given.replace_strict(names, numbered, return_dtype=pl.Int64)
        labels.append(column.to_numpy())
        lines.append(frame["line"].to_numpy())
    offsets = np.concatenate([[0], np.cumsum(np.concatenate(lengths))]).astype(np.int64)
    label_names = sorted(label_of)
    rank = {name: i for i, name in enumerate(label_names)}
    order = np.array([rank[name] for name in label_of], np.int64)
    types = pl.Series("type", list(type_of), dtype=pl.String)
    numbers_of_labels = order[np.concatenate(labels).astype(np.int64)]
    sets: NDArray[np.int64] | LabelSets = numbers_of_labels
    if several:
        sets = LabelSets.build(numbers_of_labels, np.concatenate(sizes), len(label_names))
    return offsets, types, sets, label_names, np.concatenate(lines)


def _write(
    entry: Path,
    what: str,
    frames: Callable[[], Iterator[pl.DataFrame]],
    ends: list[int],
    tokenizer: str | Subwords,
) -> bool:
    """Build a cache entry beside its place and move it there whole; False where that fails.

    An entry is one file, so that it is replaced in one step whoever reads it meanwhile: the digest
    of all that follows, the numbers of tokens, documents, labels and offsets of labels (0 where
    each document has one label), these arrays and the lines, and the rest as JSON.
    """
    building = None
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        remove_abandoned(entry.parent, _BUILDING)
        descriptor, building = tempfile.mkstemp(prefix=_BUILDING, dir=entry.parent)
        with os.fdopen(descriptor, "w+b") as file:
            file.write(bytes(_DIGEST_BYTES + 32))
            offsets, types, labels, label_names, lines = _number(frames(), tokenizer, file)
            bounds = np.empty(0, np.int64)
            ids = labels.ids if isinstance(labels, LabelSets) else labels
            if isinstance(labels, LabelSets):
                bounds = labels.offsets
            for array in (offsets, lines, ids, bounds):
                file.write(array.astype(np.int64).tobytes())
            file.write(json.dumps([what, list(types), label_names, ends]).encode())
            file.seek(_DIGEST_BYTES)
            file.write(np.array([offsets[-1], len(lines), len(ids), len(bounds)]).tobytes())
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
    """A cache entry, or None where there is none that is whole and of this content."""
    try:
        if not entry.is_file():
            return None
        with entry.open("rb") as file:
            if file.read(_DIGEST_BYTES) != sha256_of(file).encode():
                return None
            file.seek(_DIGEST_BYTES)
            count, documents, labelled, bound = np.fromfile(file, np.int64, 4).tolist()
            begin = file.tell()
            tokens: NDArray[np.int32] = np.empty(0, np.int32)
            if count:
                # Of the open file: by its name it may be another one by now.
                tokens = np.memmap(file, np.int32, "r", begin, (count,))
            file.seek(begin + count * tokens.itemsize)
            offsets, lines, ids, bounds = (
                np.fromfile(file, np.int64, n) for n in (documents + 1, documents, labelled, bound)
            )
            found, types, label_names, ends = json.loads(file.read())
    except (OSError, ValueError):  # the latter where it is cut at this very moment
        return None
    if found != what:
        return None
    column = pl.Series("type", types, dtype=pl.String)
    files = tuple(zip(names, ends, strict=True))
    labels = LabelSets(ids, bounds, len(label_names)) if bound else ids
    arrays = (offsets, column, labels, label_names, lines)
    return TokenizedTexts(names[0], tokens, *arrays, fingerprint, files)


def fingerprint(source: Source) -> str:
    """SHA-256 of a file, of every file below a folder with its name, or of labels and texts.

    Of several files it is that of their fingerprints.
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
            name = os.fsencode(member.relative_to(path))  # which need not be UTF-8
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
