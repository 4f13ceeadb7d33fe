"""A data set ready for training: splits, vocabulary and labels."""

from __future__ import annotations

import hashlib
import unicodedata
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from dlnotes.arguments import Seed, check_names, checked
from dlnotes.data.documents import Documents, spelling
from dlnotes.data.duplicates import Duplicates, Part, find_duplicates
from dlnotes.data.readers import Source, check_readable, files_of
from dlnotes.data.reading import MAX_TOKENS, Reading
from dlnotes.data.splits import stratified_split
from dlnotes.data.streams import inner_suffix
from dlnotes.data.tokenization import MARKS
from dlnotes.data.tokenized import TokenizedTexts, fingerprint, tokenize
from dlnotes.data.vocabulary import SPECIALS, Vocabulary
from dlnotes.errors import UserError

_SPLITS = ("train", "dev", "test", "unsup")
Label = str | int | float | bool
"""What a label may be: what JSON keeps as it is."""


@dataclass
class Dataset:
    """Train and dev documents in memory-mapped form; test documents only when asked for.

    Attributes:
        train: What the vocabulary is built on and the model learns from.
        dev: What model choice and early stopping look at.
        vocabulary: Ids of the tokens; by default built on `train` alone.
        label_names: Label of each class number, as text.
        labels: The labels as `load_dataset` was given them.
        reading: How the sources were read.
        described: Description of the data for the record of a run.
        fingerprints: SHA-256 of each source read so far.
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

    @property
    def tokenizer(self) -> str:
        """Name of the tokenization."""
        return self.reading.tokenizer or "basic_english"

    @property
    def max_tokens(self) -> int | None:
        """Longer documents are read up to here."""
        return self.reading.most_tokens

    @property
    def has_test(self) -> bool:
        """Whether there is a test split to read."""
        return self._test is not None

    def whole(self) -> Dataset:
        """The same with the dev documents among those to learn from, and a vocabulary of both."""
        vocabulary = self._vocabulary_of(self._parts["train"], self._parts["dev"])
        both = self.train.joined(self.dev, vocabulary)
        dev = both.take(np.arange(len(self.train), len(both)))
        return replace(self, train=both, dev=dev, vocabulary=vocabulary)

    def limited(self, min_freq: int, max_tokens: int | None) -> Dataset:
        """The same, read with other limits; see `Reading`.

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
        """Documents that stand in several splits, or that have several labels.

        Args:
            test: Look at the test split, too, for which it is read.

        Raises:
            UserError: The test split is unreadable.
        """
        if test and self._test is not None and "test" not in self._parts:
            self._read_test_texts()
        return find_duplicates({k: v for k, v in self._parts.items() if test or k != "test"})

    def _read_test_texts(self) -> TokenizedTexts:
        assert self._test is not None
        texts = self._tokenize(self._test)
        self._parts["test"] = texts, np.arange(len(texts))
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
        documents = Documents(texts, self.vocabulary, self.label_names, max_tokens=self.max_tokens)
        _tell_cut(self.reading, documents)
        return documents


@checked
def load_dataset(
    sources: Mapping[str, Source],
    reading: Reading | None = None,
    *,
    name: str | None = None,
    cache_dir: Path | None = None,
    vocabulary: Any = None,
    labels: Sequence[Label] | None = None,
    seed: Seed | None = None,
    **settings: Annotated[Any, Reading],
) -> Dataset:
    """Tokenize `sources`, cut a dev split where there is none and build the vocabulary.

    Args:
        sources: ``train`` and optionally ``dev`` and ``test``: files, folders, data frames or
            iterables of (label, text) pairs.
        reading: How to read them; default `Reading()`.
        name: What the records of trainings call the data set.
        cache_dir: See `dlnotes.data.tokenized.tokenize`.
        vocabulary: Use this one, a `Vocabulary` or a ``torchtext.vocab.Vocab``, instead of
            building one (`min_freq` and `max_size` then say nothing).
        labels: The classes in the order of their numbers; sources have their text. Default: those
            of the training documents, sorted.
        seed: Deprecated, the old name of `split_seed`.
        settings: Fields of `reading` to override.

    Raises:
        UserError: No ``train``, or a source of another name; what reading raises; fewer than two
            classes; too few documents.
    """
    check_names("load_dataset", "source", sources, _SPLITS)
    if "train" not in sources:
        raise UserError("sources must have the training documents under the name 'train'")
    if seed is not None:
        warnings.warn("seed of load_dataset is now split_seed", DeprecationWarning, stacklevel=3)
        settings = {"split_seed": seed, **settings}
    reading = replace(reading or Reading(), **settings)
    tokenizer, split_seed = reading.tokenizer or "basic_english", reading.split_seed or 0
    reading = replace(reading, tokenizer=tokenizer, split_seed=split_seed, **reading.found_out())

    def read(source: Source) -> TokenizedTexts:
        return tokenize(source, tokenizer, reading, cache_dir=cache_dir)

    test = sources.get("test")
    for file in files_of(test):
        check_readable(file)  # now, rather than when training is over
    texts = read(sources["train"])
    if len(texts.label_names) < 2:
        raise UserError(
            f"{texts.name}: only one class, {texts.label_names[0]!r}; "
            "a classifier needs at least two (is the right column the label?)"
        )
    if reading.header in (None, "auto"):
        _warn_of_header(texts)
    _warn_of_classes(texts)
    _warn_of_spellings(texts)
    labels = list(labels or texts.label_names)
    if len(set(labels)) < len(labels):
        raise UserError(f"labels must be different from one another, not {labels}")
    label_names = list(map(str, labels))
    fingerprints = {"train": texts.fingerprint}
    train_indices = np.arange(len(texts))
    dev_texts, dev_indices = texts, train_indices
    if "dev" in sources:
        dev_texts = read(sources["dev"])
        dev_indices = np.arange(len(dev_texts))
        fingerprints["dev"] = dev_texts.fingerprint
    else:
        fractions = (1 - reading.dev_fraction, reading.dev_fraction)
        try:
            train_indices, dev_indices = stratified_split(texts.labels, fractions, split_seed)
        except ValueError as error:
            raise UserError(
                f"dev_fraction is {reading.dev_fraction}: too near to 0 or 1 to cut a split"
            ) from error
        if not len(train_indices) or not len(dev_indices):
            raise UserError(
                f"{texts.name}: {len(texts):,} documents of {len(texts.label_names):,} classes are "
                "too few to cut a dev split: each class needs two documents, or there must be dev "
                f"documents (--dev FILE){_DOUBT * _is_doubtful(texts)}"
            )
    if vocabulary is not None and not isinstance(vocabulary, Vocabulary):
        vocabulary = Vocabulary.from_torchtext(vocabulary)

    def vocabulary_of(
        *parts: tuple[TokenizedTexts, NDArray[np.int64]], min_freq: int = reading.min_freq or 1
    ) -> Vocabulary:
        if isinstance(vocabulary, Vocabulary):
            return vocabulary
        types = pl.concat([part.types for part, _ in parts])
        counts = np.concatenate([part.counts(indices) for part, indices in parts])
        return Vocabulary.from_counts(
            types,
            counts,
            min_freq=min_freq,
            max_size=reading.max_size,
            marks=MARKS.get(tokenizer, ()),
        )

    train_part, dev_part = (texts, train_indices), (dev_texts, dev_indices)
    built = vocabulary_of(train_part)
    if len(built) == len(SPECIALS) + len(MARKS.get(tokenizer, ())):
        warnings.warn(
            f"{texts.name}: no token occurs {reading.min_freq or 1:,} times (--min-freq), so the "
            "vocabulary is empty",
            stacklevel=3,
        )
    view = partial(
        Documents, vocabulary=built, label_names=label_names, max_tokens=reading.most_tokens
    )
    train, dev = view(texts, indices=train_indices), view(dev_texts, indices=dev_indices)
    _tell_cut(reading, train, dev)
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
        },
        fingerprints=fingerprints,
        _test=test,
        _tokenize=read,
        _vocabulary_of=vocabulary_of,
        _parts={"train": train_part, "dev": dev_part},
    )


def _digest(vocabulary: Vocabulary) -> str:
    return hashlib.sha256("\n".join(vocabulary.tokens).encode()).hexdigest()


_DOUBT = "; is the right column the label? (choose with --label-column)"


def _is_doubtful(texts: TokenizedTexts) -> bool:
    """Whether there are so many classes that the labels may be texts."""
    return 2 * len(texts.label_names) > len(texts)


def _warn_of_classes(texts: TokenizedTexts) -> None:
    if _is_doubtful(texts) and len(texts) > 9:
        warnings.warn(
            f"{texts.name}: {len(texts.label_names):,} classes for {len(texts):,} documents"
            f"{_DOUBT}",
            stacklevel=4,
        )


def _warn_of_spellings(texts: TokenizedTexts) -> None:
    """Labels that people take for one, such as 1 and 1.0, or Good and good."""
    found: dict[str, str] = {}
    for label in texts.label_names:
        other = found.setdefault(unicodedata.normalize("NFKC", spelling(label)).casefold(), label)
        if other != label:
            warnings.warn(
                f"{texts.name}: the labels {other!r} and {label!r} are two classes", stacklevel=4
            )
            return


def _warn_of_header(texts: TokenizedTexts) -> None:
    """A first line that names columns differently from what is expected has become a document."""
    counts = np.bincount(texts.labels)
    if counts.max() == 1:
        return
    first = 0
    for name, end in texts.files:
        table = inner_suffix(Path(name)) in (".csv", ".tsv")
        if table and texts.lines[first] == 1 and counts[texts.labels[first]] == 1:
            label = texts.label_names[texts.labels[first]]
            warnings.warn(
                f"{texts.where(first)}: the label {label!r} occurs nowhere else: if this line has "
                "the names of the columns, give --header yes, if not, --header no",
                stacklevel=4,
            )
        first = end


def _tell_cut(reading: Reading, *splits: Documents) -> None:
    """Warn of documents that are cut without having been asked for it."""
    cut = sum(documents.cut for documents in splits)
    if cut and reading.max_tokens is None:
        warnings.warn(
            f"{cut:,} of {sum(map(len, splits)):,} documents are longer than {MAX_TOKENS:,} tokens "
            "and are cut there; another limit: --max-tokens, 0 for none",
            stacklevel=3,
        )
