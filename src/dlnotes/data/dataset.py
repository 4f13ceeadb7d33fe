"""A data set ready for training: splits, vocabulary and labels."""

from __future__ import annotations

import hashlib
import re
import threading
import unicodedata
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from dlnotes.arguments import Seed, check_names, checked
from dlnotes.data.documents import Documents, check_labels, single_labels, spelling
from dlnotes.data.duplicates import Duplicates, Part, find_duplicates
from dlnotes.data.labels import LabelSets
from dlnotes.data.mapped import arange, take
from dlnotes.data.readers import (
    Source,
    are_truth_values,
    check_readable,
    files_of,
    first_documents,
    named_labels,
)
from dlnotes.data.reading import MAX_TOKENS, Reading
from dlnotes.data.seen import Inheritance, Keys, Parts, Seen, keys_of
from dlnotes.data.seen import Label as Label
from dlnotes.data.splits import iterative_split, stratified_split
from dlnotes.data.streams import inner_suffix
from dlnotes.data.subwords import Subwords
from dlnotes.data.tokenization import MARKS, SUBWORDS
from dlnotes.data.tokenized import TokenizedTexts, fingerprint, tokenize
from dlnotes.data.vocabulary import SPECIALS, Vocabulary
from dlnotes.data.writing_systems import Choice, choose_tokenizer
from dlnotes.errors import UserError

_FEW_DEV = 10  # documents: with more, a warning is given if their share is not the wanted one
_READ_BESIDE = 1 << 28  # bytes: a test split of this size is read within seconds
_SPLITS = ("train", "dev", "test", "unsup")


@dataclass
class Dataset:
    """Training and dev documents, memory-mapped; test documents are read only on request.

    Attributes:
        train: What the vocabulary is built on and the model learns from.
        dev: What model choice and early stopping look at.
        vocabulary: Ids of the tokens; by default built on `train` alone.
        label_names: Label of each class number, as text.
        labels: The labels as `load_dataset` was given them.
        reading: How the sources were read.
        described: Description of the data for the record of a run.
        fingerprints: SHA-256 of each source read so far.
        inherited: What was taken over from an earlier training.
        old: Which documents of the training source that earlier training has seen.
        subwords: The tokenization, if it was learned.
        why: Why a tokenizer other than the usual one was chosen; empty otherwise.
    """

    train: Documents
    dev: Documents
    vocabulary: Vocabulary
    label_names: list[str]
    labels: list[Label]
    reading: Reading
    described: dict[str, Any]
    fingerprints: dict[str, str]
    _test: Source | None = field(repr=False)
    _tokenize: Callable[[Source], TokenizedTexts] = field(repr=False)
    _vocabulary_of: Callable[..., Vocabulary] = field(repr=False)
    _parts: dict[str, Part] = field(repr=False)
    inherited: Inheritance | None = field(default=None, repr=False)
    old: Parts | None = field(default=None, repr=False)
    subwords: Subwords | None = field(default=None, repr=False)
    why: str = ""
    _reading: Future[TokenizedTexts] | None = field(default=None, repr=False)

    @property
    def tokenizer(self) -> str:
        """Name of the tokenization."""
        return self.reading.tokenizer or "basic_english"

    @property
    def multi_label(self) -> bool:
        """Whether a document may have several labels, or none."""
        return isinstance(self.train.labels, LabelSets)

    @property
    def max_tokens(self) -> int | None:
        """Documents are cut to this many tokens; None if they are not cut."""
        return self.reading.most_tokens

    @property
    def has_test(self) -> bool:
        """Whether there is a test split to read."""
        return self._test is not None

    def with_dev_in_train(self) -> Dataset:
        """The data set with the dev documents also in `train`, and a vocabulary of both."""
        parts = [part for name, part in self._parts.items() if name != "test"]
        vocabulary = self._vocabulary_of(*parts)
        both = self.train.concatenate(self.dev, vocabulary)
        dev = both.take(np.arange(len(self.train), len(both)))
        return replace(self, train=both, dev=dev, vocabulary=vocabulary)

    def subset(self, train: NDArray[np.int64], dev: NDArray[np.int64]) -> Dataset:
        """A subset of the documents, with a vocabulary of its training documents.

        Args:
            train: Indices of training documents, none of them twice.
            dev: Indices of dev documents.
        """
        numbers = {"train": np.sort(train), "dev": np.sort(dev)}
        parts = {
            name: (texts, indices[numbers[name]])
            for name, (texts, indices) in self._parts.items()
            if name in numbers
        }
        vocabulary = self._vocabulary_of(parts["train"])
        limits = vocabulary, self.max_tokens
        return replace(
            self,
            train=self.train.take(numbers["train"]).limited(*limits),
            dev=self.dev.take(numbers["dev"]).limited(*limits),
            vocabulary=vocabulary,
            fingerprints=dict(self.fingerprints),
            _parts=parts,
        )

    def token_counts(self) -> NDArray[np.int64]:
        """How often each type of token occurs in the training documents; 0 if only elsewhere."""
        texts, indices = self._parts["train"]
        return texts.counts(indices)

    def seen(self) -> Seen:
        """The training and dev documents of this data set and of earlier trainings."""
        splits = {name: part for name, part in self._parts.items() if name != "test"}
        parts: dict[bool, list[Keys]] = {True: [], False: []}
        for name, (texts, indices) in splits.items():
            found = [take(each, indices, texts.folder) for each in keys_of(texts)]
            parts[name == "train"].append(Keys(*found))
        seen = Seen.of(parts[True], parts[False], folder=self.train.folder)
        earlier = self.inherited and self.inherited.seen
        return seen.union(earlier) if earlier else seen

    def text_keys(self, split: str) -> NDArray[np.uint64]:
        """A hash of each document's tokens, see `Keys`.

        Args:
            split: ``train`` or ``dev``, or ``test`` once that has been read.
        """
        texts, indices = self._parts[split]
        return texts.keys[indices]

    def limited(self, min_freq: int, max_tokens: int | None) -> Dataset:
        """The data set read with other limits; see `Reading`.

        Raises:
            UserError: A limit that is not allowed.
        """
        reading = replace(self.reading, min_freq=min_freq, max_tokens=max_tokens)
        rebuild = partial(self._vocabulary_of, min_freq=reading.min_freq)
        vocabulary = self.vocabulary
        if (min_freq, max_tokens) == (self.reading.min_freq or 1, self.reading.max_tokens):
            train, dev = self.train, self.dev
        else:
            vocabulary = rebuild(self._parts["train"])
            train, dev = (
                part.limited(vocabulary, reading.most_tokens) for part in (self.train, self.dev)
            )
        return replace(
            self,
            train=train,
            dev=dev,
            vocabulary=vocabulary,
            reading=reading,
            described={**self.described, **asdict(reading)},
            fingerprints=dict(self.fingerprints),
            _vocabulary_of=rebuild,
        )

    def duplicates(self, *, test: bool = False) -> Duplicates:
        """Find texts that occur in several splits, or with different labels.

        Args:
            test: Whether to look at the test split as well; it is then read.

        Raises:
            UserError: The test split is unreadable.
        """
        if test and self._test is not None and "test" not in self._parts:
            self._read_test_texts()
        return find_duplicates({k: v for k, v in self._parts.items() if test or k != "test"})

    def check_test(self) -> None:
        """Look at the first test documents, so that errors are raised before a long training.

        Raises:
            UserError: They are unreadable, or have a label unknown to training.
        """
        for name, first in first_documents(self._test, self.reading):
            check_labels(first, name, self.label_names)

    def prefetch_test(self) -> None:
        """Start to tokenize a test split of moderate size in another thread.

        Errors are raised when the split is used.
        """
        source = self._test
        if source is None or "test" in self._parts or self._reading is not None:
            return
        files = files_of(source)
        sizes = [file.stat().st_size for file in files if file.is_file()]
        if files and len(sizes) == len(files) and sum(sizes) < _READ_BESIDE:
            reading = self._reading = Future[TokenizedTexts]()
            # Not a daemon: the program waits for the thread before it exits.
            threading.Thread(target=_fill, args=(reading, self._tokenize, source)).start()

    def _read_test_texts(self) -> TokenizedTexts:
        assert self._test is not None
        reading, self._reading = self._reading, None
        texts = self._tokenize(self._test) if reading is None else reading.result()
        self._parts["test"] = texts, arange(len(texts), texts.folder)
        return texts

    def test_fingerprint(self) -> str | None:
        """SHA-256 of the test split's source; None without one."""
        return None if self._test is None else fingerprint(self._test)

    def read_test(self) -> Documents:
        """Read the test split; to be done once, when training is over.

        Raises:
            UserError: There is none, it is unreadable, or it holds a label unknown to training.
        """
        if self._test is None:
            raise UserError("the data set has no test split; give one with --test FILE")
        texts = self._read_test_texts()
        self.fingerprints["test"] = texts.fingerprint
        documents = Documents(
            texts,
            self.vocabulary,
            self.label_names,
            max_tokens=self.max_tokens,
            multi_label=self.multi_label,
        )
        _warn_of_cut(self.reading, documents)
        return documents


def _fill(
    reading: Future[TokenizedTexts], read: Callable[[Source], TokenizedTexts], source: Source
) -> None:
    try:
        reading.set_result(read(source))
    except BaseException as error:
        reading.set_exception(error)


@checked
def load_dataset(
    sources: Mapping[str, Source],
    reading: Reading | None = None,
    *,
    name: str | None = None,
    cache_dir: Path | None = None,
    vocabulary: Any = None,
    labels: Sequence[Label] | None = None,
    inherit: Inheritance | None = None,
    sentences: bool = False,
    subwords: Subwords | None = None,
    seed: Seed | None = None,
    **settings: Annotated[Any, Reading],
) -> Dataset:
    """Tokenize `sources`, split off dev documents if none are given, and build the vocabulary.

    Args:
        sources: ``train`` and optionally ``dev`` and ``test``: files, folders, data frames or
            iterables of (label, text) pairs.
        reading: How to read them; default `Reading()`.
        name: What the records of trainings call the data set.
        cache_dir: See `dlnotes.data.tokenized.tokenize`.
        vocabulary: Use this one, a `Vocabulary` or a ``torchtext.vocab.Vocab``, instead of
            building one (`min_freq` and `max_size` are then ignored).
        labels: The classes in the order of their numbers; in the sources, labels are their text.
            Default: those of the training documents, sorted.
        inherit: What to take over from an earlier training: its tokens and labels keep their
            numbers, and new ones follow; texts are cut into the same subwords; its dev documents
            stay dev documents, whichever source they are in, and of the training documents only
            new ones may become dev documents.
        sentences: Whether the model reads sentences, so that their ends must be marked. Used if
            `reading` names no tokenizer, so that it is chosen by the script of the texts.
        subwords: A tokenization that has already been learned.
        seed: Deprecated, the old name of `split_seed`.
        settings: Fields of `reading` to override.

    Raises:
        UserError: There is no ``train``, or a source of another name; reading fails; there are
            fewer than two classes, or too few documents.
    """
    check_names("load_dataset", "source", sources, _SPLITS)
    if "train" not in sources:
        raise UserError("sources must have the training documents under the name 'train'")
    if seed is not None:
        warnings.warn("seed of load_dataset is now split_seed", DeprecationWarning, stacklevel=3)
        settings = {"split_seed": seed, **settings}
    reading = replace(reading or Reading(), **settings)
    if inherit is not None:
        subwords = inherit.subwords or subwords
    # Sources may be read several times, iterators only once.
    again = {k: list(v) for k, v in sources.items() if isinstance(v, Iterator) and k != "test"}
    sources = {**sources, **again}
    tokenizer, why = Choice(subwords.tokenizer if subwords else reading.tokenizer or "")
    if not tokenizer:
        tokenizer, why = choose_tokenizer(sources["train"], reading, sentences=sentences)
    split_seed = reading.split_seed or 0
    reading = replace(reading, tokenizer=tokenizer, split_seed=split_seed, **reading.auto_as_none())
    learning = subwords is None and tokenizer in SUBWORDS
    if reading.merges is not None and tokenizer not in SUBWORDS:
        warnings.warn(
            f"merges={reading.merges} has no effect: the tokenizer is {tokenizer}, and only bpe "
            "has merges (--tokenizer bpe)",
            stacklevel=3,
        )

    def read(source: Source, multi_label: bool) -> TokenizedTexts:
        # Subwords are learned from words, so the texts are cut into these first.
        how = subwords or SUBWORDS.get(tokenizer, tokenizer)
        return tokenize(source, how, reading, cache_dir=cache_dir, multi_label=multi_label)

    def read_train() -> TokenizedTexts:
        several = reading.multi_label
        return _with_labels(read(sources["train"], several is True), several)

    test = sources.get("test")
    for file in files_of(test):
        check_readable(file)  # now, rather than when training is over
    texts = read_train()
    found_labels = sorted({*texts.label_names, *named_labels(sources["train"], reading)})
    if len(found_labels) < 2 and inherit is None:
        found = "".join(f"only one class, {name!r}" for name in texts.label_names)
        raise UserError(
            f"{texts.name}: {found or 'no text has a label'}; "
            "a classifier needs at least two (is the right column the label?)"
        )
    multi_label = isinstance(texts.labels, LabelSets)
    if reading.header in (None, "auto"):
        _warn_of_header(texts)
    _warn_of_classes(texts)
    _warn_of_spellings(texts)
    _warn_of_separators(texts, reading)
    labels = list(labels or found_labels)
    if inherit is not None:
        labels = inherit.with_new(labels)
    if len(set(labels)) < len(labels):
        raise UserError(f"labels must be different from one another, not {labels}")
    label_names = list(map(str, labels))
    fingerprints = {"train": texts.fingerprint}
    dev_texts = None
    if "dev" in sources:
        dev_texts = read(sources["dev"], multi_label)
        fingerprints["dev"] = dev_texts.fingerprint
    old = None if inherit is None else inherit.parts(texts, dev_texts)
    parts = _split(texts, dev_texts, reading, old)
    if learning:
        indices = parts["train"][1]
        subwords = Subwords.learn(
            texts.types, texts.counts(indices), tokenizer=tokenizer, merges=reading.merges
        )
        if not subwords.merges:
            warnings.warn(
                f"{texts.name}: bpe has learned no merges, so all words are cut into characters: "
                "no pair of them occurs "
                + ("twice" if reading.merges else "10 times (another limit: --merges)"),
                stacklevel=3,
            )
        pieces = {id(texts): read_train()}
        if dev_texts is not None:
            pieces[id(dev_texts)] = read(sources["dev"], multi_label)
        parts = {name: (pieces[id(part)], chosen) for name, (part, chosen) in parts.items()}
    if vocabulary is not None and not isinstance(vocabulary, Vocabulary):
        vocabulary = Vocabulary.from_torchtext(vocabulary)

    def vocabulary_of(*parts: Part, min_freq: int = reading.min_freq or 1) -> Vocabulary:
        if isinstance(vocabulary, Vocabulary):
            return vocabulary
        types = pl.concat([part.types for part, _ in parts])
        counts = np.concatenate([part.counts(indices) for part, indices in parts])
        limits: dict[str, Any] = {"min_freq": min_freq, "max_size": reading.max_size}
        if inherit is not None:
            return inherit.vocabulary.extended(types, counts, **limits)
        return Vocabulary.from_counts(
            types,
            counts,
            marks=MARKS.get(tokenizer, ()),
            **limits,
        )

    built = vocabulary_of(parts["train"])
    if len(built) == len(SPECIALS) + len(MARKS.get(tokenizer, ())):
        empty = parts["train"][0].counts(parts["train"][1]).sum() == 0
        why = (
            "no training text has a token (empty texts?)"
            if empty
            else f"no token occurs {reading.min_freq or 1:,} times (--min-freq)"
        )
        warnings.warn(
            f"{texts.name}: {why}, so the vocabulary is empty",
            stacklevel=3,
        )
    train, dev, *old_dev = (
        Documents(
            part,
            built,
            label_names,
            indices=indices,
            max_tokens=reading.most_tokens,
            multi_label=multi_label,
        )
        for part, indices in parts.values()
    )
    for more in old_dev:
        dev = dev.concatenate(more, built)
    _warn_of_cut(reading, train, dev)
    return Dataset(
        train=train,
        dev=dev,
        vocabulary=built,
        label_names=label_names,
        labels=labels,
        reading=reading,
        described={
            "corpus": name,
            "labels": labels,
            "vocabulary_sha256": None if vocabulary is None else _digest(built),
            "bootstrap": False,
            "boost": [],
            **asdict(reading),
            **({"merges_sha256": subwords.digest} if subwords else {}),
        },
        fingerprints=fingerprints,
        _test=test,
        _tokenize=partial(read, multi_label=multi_label),
        _vocabulary_of=vocabulary_of,
        _parts=parts,
        inherited=inherit,
        old=old,
        subwords=subwords,
        why=why,
    )


def _split(
    texts: TokenizedTexts, dev_texts: TokenizedTexts | None, reading: Reading, old: Parts | None
) -> dict[str, Part]:
    """The training and dev documents; dev documents are split off if none are given.

    Raises:
        UserError: There are too few documents.
    """
    new = arange(len(texts), texts.folder) if old is None else old.new
    before = new[:0], new[:0]
    if old is not None:
        before = np.union1d(old.train, old.relabelled), old.dev
    if dev_texts is not None:
        parts = {
            "train": (texts, _united(before[0], new)),
            "dev": (dev_texts, arange(len(dev_texts), dev_texts.folder)),
        }
        if len(before[1]):
            parts["old dev"] = texts, before[1]
        _check_new(texts, parts["train"][1], old)
        return parts
    if old is not None and not len(new) and not len(before[1]):
        raise UserError(
            f"{texts.name}: there are no dev documents: the earlier training has learned from all "
            f"of the {len(texts):,} documents; give new ones, or dev documents (--dev FILE)"
        )
    fractions, seed = (1 - reading.dev_fraction, reading.dev_fraction), reading.split_seed or 0
    try:
        if isinstance(texts.labels, LabelSets):
            train, dev = iterative_split(texts.labels.take(new), fractions, seed)
        else:
            labels = take(texts.labels, new, texts.folder)
            train, dev = stratified_split(labels, fractions, seed, texts.folder)
    except ValueError as error:
        raise UserError(
            f"dev_fraction is {reading.dev_fraction}: too near to 0 or 1 to cut a split"
        ) from error
    wanted = reading.dev_fraction * len(new)
    if max(len(dev), wanted) > _FEW_DEV and not wanted / 2 <= len(dev) <= 2 * wanted:
        warnings.warn(
            f"{texts.name}: {len(dev):,} of the {len(new):,} documents become dev documents, not "
            f"{reading.dev_fraction:g} of them: the {len(texts.label_names):,} labels have too few "
            "documents for that share; to choose the dev documents yourself, give --dev FILE",
            stacklevel=2,
        )
    chosen = tuple(
        _united(others, take(new, part, texts.folder))
        for others, part in zip(before, (train, dev), strict=True)
    )
    _check_new(texts, chosen[0], old)
    if not all(map(len, chosen)):
        raise UserError(
            f"{texts.name}: {len(texts):,} documents of {len(texts.label_names):,} classes are "
            "too few to cut a dev split: each class needs two documents, or there must be dev "
            f"documents (--dev FILE){_DOUBT * _is_doubtful(texts)}"
        )
    return {"train": (texts, chosen[0]), "dev": (texts, chosen[1])}


def _united(numbers: NDArray[np.int64], more: NDArray[np.int64]) -> NDArray[np.int64]:
    """Both together, ascending; `more` is already sorted."""
    return np.union1d(numbers, more) if len(numbers) else more


def _check_new(texts: TokenizedTexts, train: NDArray[np.int64], old: Parts | None) -> None:
    if old is not None and not len(train):
        raise UserError(
            f"{texts.name}: there is nothing to learn from: the earlier training has seen all of "
            f"the {len(texts):,} documents"
        )


def _with_labels(texts: TokenizedTexts, multi_label: bool | None) -> TokenizedTexts:
    """The texts with one label each, or any number, as `multi_label` says; None: as they are."""
    labels = texts.labels
    if multi_label and not isinstance(labels, LabelSets):
        if are_truth_values(texts.label_names):
            raise UserError(
                f"{texts.name}: with multi_label a column of {' and '.join(texts.label_names)} "
                "would be a single label, which a text has or has not: name a column for each of "
                "several (--label-column A,B), or leave out --multi-label"
            )
        return replace(texts, labels=LabelSets.single(labels, len(texts.label_names)))
    if multi_label is False and isinstance(labels, LabelSets):
        return replace(texts, labels=single_labels(texts, why="as multi_label is False"))
    return texts


def _digest(vocabulary: Vocabulary) -> str:
    return hashlib.sha256("\n".join(vocabulary.tokens.to_list()).encode()).hexdigest()


_DOUBT = "; is the right column the label? (choose with --label-column)"


def _is_doubtful(texts: TokenizedTexts) -> bool:
    """Whether there are so many classes that the labels may be texts."""
    labels = texts.labels.ids if isinstance(texts.labels, LabelSets) else texts.labels
    return 2 * len(texts.label_names) > len(labels)


def _warn_of_classes(texts: TokenizedTexts) -> None:
    if _is_doubtful(texts) and len(texts) > 9:
        warnings.warn(
            f"{texts.name}: {len(texts.label_names):,} classes for {len(texts):,} documents"
            f"{_DOUBT}",
            stacklevel=4,
        )


def _warn_of_spellings(texts: TokenizedTexts) -> None:
    """Warn of labels that look like one, such as 1 and 1.0, or Good and good."""
    found: dict[str, str] = {}
    for label in texts.label_names:
        other = found.setdefault(unicodedata.normalize("NFKC", spelling(label)).casefold(), label)
        if other != label:
            warnings.warn(
                f"{texts.name}: the labels {other!r} and {label!r} are two classes", stacklevel=4
            )
            return


# ['a', 'b'] and [], also a part of it before a separator; [1, 2], but not [other].
_IN_BRACKETS = re.compile(
    r"""[\[({]\s*['"]|(\[\s*\]|\{\s*\}|set\(\)|\[\s*\d+[\s,]+\d[\d\s,]*\])$"""
)


def _warn_of_separators(texts: TokenizedTexts, reading: Reading) -> None:
    """Warn of labels that look like several, such as a|b, and of a separator that is not used."""
    if (label := next(filter(_IN_BRACKETS.match, texts.label_names), None)) is not None:
        warnings.warn(
            f"{texts.name}: the label {label!r} is a class of its own: it looks like a list as "
            "Python prints it; write several labels as a|b (--label-separator '|'), or as a list "
            "in JSONL or Parquet",
            stacklevel=4,
        )
    if reading.label_separator is not None:
        assert isinstance(texts.labels, LabelSets)
        if texts.labels.sizes.max(initial=0) < 2:
            warnings.warn(
                f"{texts.name}: no text has several labels with {reading.label_delimiter!r} "
                "between two (--label-separator)",
                stacklevel=4,
            )
        return
    known = set(texts.label_names)
    for label in texts.label_names:
        for separator in "|;,":
            parts = {part.strip() for part in label.split(separator)}
            if len(parts) > 1 and parts <= known:
                warnings.warn(
                    f"{texts.name}: the label {label!r} is a class of its own: to read it as "
                    f"several labels, give --label-separator {separator!r}",
                    stacklevel=4,
                )
                return


def _warn_of_header(texts: TokenizedTexts) -> None:
    """Warn of a document that may be a header with other names than the expected ones."""
    sets = texts.labels
    if isinstance(sets, LabelSets):
        counts = sets.counts()
    else:
        counts = np.bincount(sets, minlength=len(texts.label_names))
    if counts.max() == 1:
        return
    first = 0
    for name, end in texts.files:
        table = inner_suffix(Path(name)) in (".csv", ".tsv")
        own = sets.of(first) if isinstance(sets, LabelSets) else sets[first : first + 1]
        if table and texts.lines[first] == 1 and len(own) == 1 and counts[own[0]] == 1:
            label = texts.label_names[own[0]]
            warnings.warn(
                f"{texts.location(first)}: the label {label!r} occurs nowhere else: if this line "
                "has the names of the columns, give --header yes, if not, --header no",
                stacklevel=4,
            )
        first = end


def _warn_of_cut(reading: Reading, *splits: Documents) -> None:
    """Warn of documents that are cut although no limit was given."""
    cut = sum(documents.num_truncated for documents in splits)
    if cut and reading.max_tokens is None:
        warnings.warn(
            f"{cut:,} of {sum(map(len, splits)):,} documents are longer than {MAX_TOKENS:,} tokens "
            "and are cut there; another limit: --max-tokens, 0 for none",
            stacklevel=3,
        )
