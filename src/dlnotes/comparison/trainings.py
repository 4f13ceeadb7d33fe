"""The trainings of a comparison: their descriptions and their results.

The description of a training consists of numbers and strings only. Therefore `Budget.map` can run
it in another process and find its result again in the cache (`dlnotes.claims.cache`).
"""

from __future__ import annotations

import ctypes
import pickle
import random
import sys
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from dlnotes.arguments import fields_of
from dlnotes.data.dataset import Dataset, load_dataset
from dlnotes.data.documents import Documents
from dlnotes.data.labels import LabelSets
from dlnotes.data.layout import LABEL, TEXT, Layout
from dlnotes.data.readers import read
from dlnotes.data.reading import Reading
from dlnotes.data.splits import iterative_split
from dlnotes.data.tokenization import SUBWORDS
from dlnotes.data.tokenized import fingerprint, tokenize_texts
from dlnotes.errors import UserError
from dlnotes.training.baseline import BASELINES, fit_baseline
from dlnotes.training.classifier import reading_for, reads_sentences
from dlnotes.training.decision import DEFAULT, Decision, choose_decision
from dlnotes.training.evaluate import metrics
from dlnotes.training.fit import OutOfTime
from dlnotes.training.settings import Training
from dlnotes.training.train import train_classifier
from dlnotes.training.trials import contributions_of, num_threads_set_to

WHERE, LINE = "file", "line"
"""Columns of `documents_of`: the file and the line of a document."""

SAME = "same"
"""Column of `documents_of`: the number of the first document with the same text."""


@dataclass(frozen=True)
class Corpus:
    """Files of documents as every training of a comparison reads them.

    Attributes:
        files: The files of each split: train, and optionally dev and test.
        digests: SHA-256 of each split.
        reading: Settings of `Reading` that are not the default.
        tokenizers: The tokenization for models that read words and for those that read sentences.
        labels: The labels, as text.
        multi_label: Whether a document may have several.
    """

    files: Mapping[str, Sequence[str]]
    digests: Mapping[str, str]
    reading: Mapping[str, Any]
    tokenizers: Sequence[str]
    labels: Sequence[str]
    multi_label: bool


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training, and the documents that it is measured on.

    Attributes:
        corpus: The fields of a `Corpus`, as a mapping.
        model: A name in `dlnotes.models.MODELS`, or one of `BASELINES`.
        seed: Seed of the training, of the dev split and of the folds.
        folds: Number of parts into which the training documents are divided; the training is
            measured on one of them. 0 if there are test documents.
        fold: Number of the part that it is measured on.
        halvings: How many times the documents to learn from are halved.
        training: Settings of the training that differ from the recipe.
        minutes: Time limit of a network's training; None for no limit.
        device: See `choose_device`.
    """

    corpus: Mapping[str, Any]
    model: str
    seed: int
    folds: int = 0
    fold: int = 0
    halvings: int = 0
    training: Mapping[str, Any] = field(default_factory=dict)
    minutes: float | None = None
    device: str = "cpu"

    @property
    def item(self) -> dict[str, Any]:
        """The argument of `train_and_measure`, which is also the key of the result in the cache."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Result:
    r"""The result of a training.

    The figure by which models are compared is the ratio :math:`\sum_i a_i / \sum_i b_i` over the
    documents on which they are measured, see `dlnotes.training.trials.Trial`.

    Attributes:
        error: Why the training failed; all other fields are then empty.
        documents: Number of training documents, including those on which the epoch is chosen.
        hits: :math:`a_i` of each document that was measured.
        outcomes: :math:`b_i` of each document; empty if all are 1.
        figures: ``accuracy`` or ``micro_f1``, and ``macro_f1``.
        seconds: Time of the training.
        trained_per_second: Documents per second in training.
        predicted_per_second: Documents per second in prediction, from raw text to scores.
        bytes: Size of the saved model on disk.
        memory: Peak memory of the process, including Python and torch, in MiB; None if the system
            does not report it.
        given: With folds: the probability of each document's label.
        other: With folds: the probability of the most probable other label.
        suggested: Class number of that other label. With several labels per document, `given`,
            `other` and `suggested` belong to the label whose presence or absence is most doubtful.
        sums: With several labels per document only: see
            `dlnotes.comparison.label_errors.thresholds_multi_label`.
    """

    error: str = ""
    documents: int = 0
    hits: Sequence[float] = ()
    outcomes: Sequence[float] = ()
    figures: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    trained_per_second: float = 0.0
    predicted_per_second: float = 0.0
    bytes: int = 0
    memory: float | None = None
    given: Sequence[float] = ()
    other: Sequence[float] = ()
    suggested: Sequence[int] = ()
    sums: Sequence[Sequence[float]] = ()


def train_and_measure(item: Mapping[str, Any]) -> dict[str, Any]:
    """Train a model and measure it.

    If documents cannot be learned from, or a training diverges, this is also a result, since it
    would happen again. If a file cannot be read, there is no result.

    Args:
        item: See `Run.item`.

    Returns:
        The fields of a `Result`.

    Raises:
        UserError: A file cannot be read, or has changed.
        dlnotes.training.fit.Interrupted: A signal arrived.
    """
    run = Run(**item)
    corpus = Corpus(**run.corpus)
    sources = _sources(run, corpus)
    try:
        with warnings.catch_warnings(), num_threads_set_to(1):
            warnings.simplefilter("ignore")  # the command has already warned about the files
            return asdict(_measured(run, corpus, sources))
    except OutOfTime:
        return asdict(Result(error=f"takes more than {run.minutes:g} minutes"))
    except UserError as error:
        return asdict(Result(error=str(error)))


def documents_of(
    paths: Sequence[str], reading: Reading, multi_label: bool, tokenizer: str
) -> pl.DataFrame:
    """Read documents, with the place of each and the number of the first one with the same text.

    Args:
        paths: The files.
        reading: How to read them.
        multi_label: Whether to return labels as lists.
        tokenizer: Texts are the same if they have the same tokens by this tokenization, and at
            least one. A learned tokenization is replaced by the one that it refines.

    Raises:
        UserError: See `read`.
    """
    layout = {name: getattr(reading, name) for name in fields_of(Layout)}
    frames = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path in paths:
            for frame in read(Path(path), multi_label=multi_label, **layout):
                if multi_label and frame.schema[LABEL] != pl.List:
                    frame = frame.with_columns(pl.concat_list(LABEL))
                found = frame.select(LABEL, TEXT, LINE)
                frames.append(found.with_columns(pl.lit(path).alias(WHERE)))
    documents = pl.concat(frames)
    keys = tokenize_texts(documents[TEXT], SUBWORDS.get(tokenizer, tokenizer)).keys
    _, first, text = np.unique(keys, return_index=True, return_inverse=True)
    same = np.where(keys == 0, np.arange(len(keys)), first[text])
    return documents.with_columns(pl.Series(SAME, same))


def folds_of(
    labels: NDArray[np.int64] | LabelSets, same: NDArray[np.int64], folds: int, seed: int
) -> NDArray[np.int64]:
    """Divide documents into parts that have nearly the same share of each label.

    Documents with the same text are in the same part, since a model that has learned one of them
    would know the others by heart.

    With one label per document, the texts that occur most often come first; those that occur once
    follow class by class, in random order. Each text goes to the part with the fewest documents of
    its classes and, among equal ones, with the fewest documents. If all texts are different, the
    sizes of parts differ by at most one. With several labels per document, the different texts are
    divided by `iterative_split`.

    Args:
        labels: Labels of the documents.
        same: For each document, the number of the first one with the same text, shape (n,).
        folds: Number of parts; at most the number of different texts.
        seed: Seed of the division.

    Returns:
        The number of each document's part.
    """
    first, text = np.unique(same, return_inverse=True)
    found = np.zeros(len(first), np.int64)
    if isinstance(labels, LabelSets):
        for i, part in enumerate(iterative_split(labels.take(first), [1 / folds] * folds, seed)):
            found[part] = i
        return found[text]
    members = np.split(np.argsort(text, kind="stable"), np.cumsum(np.bincount(text))[:-1])
    by_class = _class_by_class(labels[first], seed)
    order = by_class[np.argsort([-len(members[i]) for i in by_class], kind="stable")]
    sizes, have = [0] * folds, [[0] * folds for _ in range(int(labels.max()) + 1)]
    for i in order:
        classes = labels[members[i]].tolist()
        lacks = [(sum(have[c][k] for c in classes), sizes[k], k) for k in range(folds)]
        fold = min(lacks)[2]
        found[i] = fold
        sizes[fold] += len(classes)
        for c in classes:
            have[c][fold] += 1
    return found[text]


def halved(
    labels: NDArray[np.int64] | LabelSets, chosen: NDArray[np.int64], halvings: int, seed: int
) -> NDArray[np.int64]:
    """Halve documents repeatedly, with nearly the same share of each label.

    The result is contained in the result for one halving less.

    Args:
        labels: Labels of all documents.
        chosen: Numbers of the documents to halve, ascending.
        halvings: How many times they are halved.
        seed: Seed of the choice.
    """
    if isinstance(labels, LabelSets):
        for i in range(halvings):
            chosen = chosen[iterative_split(labels.take(chosen), (0.5, 0.5), seed + i)[0]]
        return chosen
    order = _class_by_class(labels[chosen], seed)
    return np.sort(chosen[order[:: 2**halvings]])


def _class_by_class(labels: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    stream = random.Random(seed)
    keys = np.array([stream.random() for _ in range(len(labels))])
    order: NDArray[np.int64] = np.lexsort((keys, labels))
    return order


def labels_of(frame: pl.DataFrame, corpus: Corpus) -> NDArray[np.int64] | LabelSets:
    """The class numbers of documents."""
    number = {name: i for i, name in enumerate(corpus.labels)}
    if not corpus.multi_label:
        return np.array([number[name] for name in frame[LABEL]], np.int64)
    sets = frame[LABEL].to_list()
    ids = np.array([number[name] for each in sets for name in each], np.int64)
    return LabelSets.build(ids, np.array([len(each) for each in sets], np.int64), len(number))


def _sources(run: Run, corpus: Corpus) -> dict[str, pl.DataFrame]:
    """The documents of each split: those to learn from, and under ``test`` those to measure on."""
    found = {
        split: _read(
            tuple(paths),
            corpus.digests[split],
            _key(corpus.reading),
            corpus.multi_label,
            corpus.tokenizers[0],
        )
        for split, paths in corpus.files.items()
    }
    train, labels = found["train"], labels_of(found["train"], corpus)
    chosen = np.arange(len(train))
    if run.folds:
        fold = folds_of(labels, train[SAME].to_numpy(), run.folds, run.seed)
        found["test"] = train[np.flatnonzero(fold == run.fold)]
        chosen = np.flatnonzero(fold != run.fold)
    found["train"] = train[halved(labels, chosen, run.halvings, run.seed)]
    return {split: frame.select(LABEL, TEXT) for split, frame in found.items()}


def _key(reading: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(reading.items()))


@lru_cache(maxsize=3)
def _read(
    paths: tuple[str, ...],
    digest: str,
    reading: tuple[tuple[str, Any], ...],
    multi_label: bool,
    tokenizer: str,
) -> pl.DataFrame:
    if fingerprint([Path(path) for path in paths]) != digest:
        raise UserError(f"{', '.join(paths)} was changed during the comparison; start it again")
    return documents_of(paths, Reading(**dict(reading)), multi_label, tokenizer)


def _measured(run: Run, corpus: Corpus, sources: Mapping[str, pl.DataFrame]) -> Result:
    is_baseline = run.model in BASELINES
    sentences = not is_baseline and reads_sentences(run.model)
    read_already: dict[str, Any] = dict.fromkeys(fields_of(Layout))
    reading = replace(
        Reading(**corpus.reading),
        tokenizer=corpus.tokenizers[sentences],
        multi_label=corpus.multi_label,
        **read_already,
    )
    # The baselines read words, as FastText does.
    reading = reading_for("fasttext" if is_baseline else run.model, reading, run.seed)
    dataset = load_dataset(sources, reading, labels=list(corpus.labels), sentences=sentences)
    labels = dataset.read_test().labels
    dataset = replace(dataset, _test=None)
    texts = sources["test"][TEXT].to_list()
    _reset_peak()
    learned = _learned_baseline(run, dataset) if is_baseline else _learned_network(run, dataset)
    memory = _peak()
    began = time.perf_counter()
    logits = learned.score(texts)
    predicting = time.perf_counter() - began
    hits, outcomes = contributions_of(logits, labels, learned.decision)
    summary = metrics(logits, labels, learned.decision).summary()
    names = ("micro_f1" if corpus.multi_label else "accuracy", "macro_f1")
    held_out: dict[str, Any] = {}
    if run.folds and not run.halvings and learned.has_probabilities:
        held_out = _held_out_predictions(
            learned.decision.probabilities(logits, corpus.multi_label), labels
        )
    return Result(
        documents=len(sources["train"]),
        hits=hits.tolist(),
        outcomes=outcomes.tolist() if corpus.multi_label else [],
        figures={name: summary[name] for name in names},
        seconds=learned.seconds,
        trained_per_second=learned.speed,
        predicted_per_second=len(texts) / max(1e-9, predicting),
        bytes=learned.bytes,
        memory=memory,
        **held_out,
    )


@dataclass(frozen=True)
class _Learned:
    score: Any  # texts -> scores (n, c)
    decision: Decision
    seconds: float
    speed: float
    bytes: int
    has_probabilities: bool = True


def _learned_network(run: Run, dataset: Dataset) -> _Learned:
    training = Training(**{**run.training, "seed": run.seed})
    limit = None if run.minutes is None else 60 * run.minutes
    given: Any = {"device": run.device, "progress": False, "time_limit": limit}
    began = time.perf_counter()
    classifier, record = train_classifier(dataset, run.model, training, **given)
    seconds = time.perf_counter() - began

    def score(texts: list[str]) -> Float[Tensor, "n c"]:
        return classifier.scores(partial(tokenize_texts, texts), labelled=False)[0]

    with tempfile.TemporaryDirectory() as folder:
        classifier.save(Path(folder) / "classifier")
        size = sum(f.stat().st_size for f in Path(folder).rglob("*") if f.is_file())
    return _Learned(score, classifier.decision, seconds, record["documents_per_second"], size)


def _learned_baseline(run: Run, dataset: Dataset) -> _Learned:
    """Fit a baseline like a network with a refit: dev decides first, then is also learned from."""
    decision, choosing = DEFAULT, 0.0
    if dataset.multi_label:
        first = fit_baseline(run.model, dataset)
        choosing = first.seconds
        found = first.scores(dataset.dev), dataset.dev.labels
        how = Training(**run.training).threshold
        decision = choose_decision(*found, multi_label=True, threshold=how)[0]
    whole = dataset.with_dev_in_train()
    baseline = fit_baseline(run.model, whole)

    def score(texts: list[str]) -> Float[Tensor, "n c"]:
        tokens = tokenize_texts(texts, whole.subwords or whole.tokenizer)
        read = Documents(tokens, whole.vocabulary, None, max_tokens=whole.max_tokens)
        return baseline.scores(read)

    return _Learned(
        score,
        decision,
        choosing + baseline.seconds,
        len(whole.train) / max(1e-9, baseline.seconds),
        len(pickle.dumps(baseline.parts)),
        baseline.has_probabilities,
    )


def _held_out_predictions(
    probabilities: Float[Tensor, "n c"], labels: NDArray[np.int64] | LabelSets
) -> dict[str, Any]:
    p = probabilities.double().numpy()
    rows = np.arange(len(p))
    sums: dict[str, Any] = {}
    if isinstance(labels, LabelSets):
        # The probability that the annotation of each label, present or absent, is right.
        has = labels.dense()
        right = np.where(has, p, 1 - p)
        sums["sums"] = [np.where(each, right, 0).sum(0).round(6).tolist() for each in (~has, has)]
        suggested = right.argmin(1)
        given = right[rows, suggested]
        other = 1 - given
    else:
        given = p[rows, labels]
        p[rows, labels] = -1.0
        suggested = p.argmax(1)
        other = p[rows, suggested]
    return {
        "given": np.round(given, 6).tolist(),
        "other": np.round(other, 6).tolist(),
        "suggested": suggested.tolist(),
        **sums,
    }


_STATUS = Path("/proc/self/status")


def _reset_peak() -> None:
    """Reset the peak memory of this process, on Linux."""
    if not sys.platform.startswith("linux"):
        return
    with suppress(OSError, AttributeError):  # musl has no malloc_trim
        ctypes.CDLL(None).malloc_trim(0)  # give back memory that an earlier training has freed
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak() -> float | None:
    """Peak memory of this process in MiB; None if the system does not report it."""
    with suppress(OSError, StopIteration):
        lines = _STATUS.read_text().splitlines()
        line = next(line for line in lines if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024
    return None
