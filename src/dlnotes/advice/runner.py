"""The documents of a race: what is known of them, and trials on as many of them as time allows."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dlnotes.advice.race import Candidate
from dlnotes.data.dataset import Dataset
from dlnotes.data.labels import LabelSets
from dlnotes.errors import UserError
from dlnotes.training.classifier import reads_sentences
from dlnotes.training.fit import OutOfTime
from dlnotes.training.recipes import ResolvedTraining, facts_of, rate_for, recipe_for, resolve
from dlnotes.training.settings import Training
from dlnotes.training.trials import TFIDF, Trial, num_threads_set_to, run_trial

MODELS = (
    TFIDF,
    "fasttext",
    "textcnn",
    "textrnn",
    "transformer",
    "rcnn",
    "han",
    "seq2seq",
    "entnet",
    "dmn",
)
"""What is tried, in this order: the quickest first."""

_OTHER_OPTIMIZERS = ("adagrad", "lion")
_MAX_DEV = 4_000  # dev documents at most: more cost time and hardly make the figures surer
_PROBED = 300  # documents on which the speed of TextCNN is measured
_PROBE = 0.05  # share of the time that this measurement may take
_FEW = 1_000  # documents that are trained on in any case
_MANY_CLASSES = 50  # classes from which the baseline takes time even with few documents
# Share of the time that TextCNN may take with all of its epochs. It is large, because few
# candidates on all documents are better than many on a part: the order of the candidates may change
# with the number of documents (networks gain more from further documents than the baseline does).
_WHOLE = 0.4


@dataclass(frozen=True)
class CorpusStatistics:
    """What a corpus is like.

    Attributes:
        documents: Number of training documents.
        dev: Number of dev documents.
        classes: Number of classes.
        tokens: Mean number of tokens per document.
        longest: Number of tokens of the longest document.
        types: Number of different tokens.
        once: Share of the different tokens that occur once: how sparse the data are.
        largest: The class with the most documents, and how many it has.
        smallest: The one with the fewest.
        labels: Mean number of labels per document; None where each has one.
    """

    documents: int
    dev: int
    classes: int
    tokens: float
    longest: int
    types: int
    once: float
    largest: tuple[str, int]
    smallest: tuple[str, int]
    labels: float | None

    @classmethod
    def of(cls, dataset: Dataset) -> CorpusStatistics:
        """Measure the training documents."""
        lengths, labels = dataset.train.lengths, dataset.train.labels
        occurs = dataset.token_counts()
        occurs = occurs[occurs > 0]
        if isinstance(labels, LabelSets):
            counts, per_document = labels.counts(), float(labels.sizes.mean())
        else:
            counts = np.bincount(labels, minlength=len(dataset.label_names))
            per_document = None
        first, last = int(counts.argmax()), int(counts.argmin())
        return cls(
            documents=len(lengths),
            dev=len(dataset.dev),
            classes=len(dataset.label_names),
            tokens=float(lengths.mean()),
            longest=int(lengths.max()),
            types=len(occurs),
            once=float((occurs == 1).mean()) if len(occurs) else 0.0,
            largest=(dataset.label_names[first], int(counts[first])),
            smallest=(dataset.label_names[last], int(counts[last])),
            labels=per_document,
        )


class TrialRunner:
    """Trials on the documents of a data set.

    All candidates learn from the same documents and are measured on the same dev documents. Where
    there are too many for the time, a random part of them is used.

    Args:
        load: Reads the documents for a model, given its name; models that read sentences need other
            tokens than the rest.
        seconds: Time limit of the whole race.
        seed: Seed of the first training of each candidate, and of random draws.
        device: See `choose_device`.
        clock: Returns the seconds since the race began.

    Attributes:
        statistics: What the documents are like, before a part of them is drawn.
        documents: How many are learned from.
        dev: How many dev documents are used.
        duplicates: See `Duplicates.summary`; of all documents.
    """

    def __init__(
        self,
        load: Callable[[str], Dataset],
        *,
        seconds: float,
        seed: int = 0,
        device: str = "auto",
        clock: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._clock = clock
        with suppress(
            ImportError
        ):  # so that the baseline's time is its own; it tells what is missing
            import sklearn.feature_extraction.text
            import sklearn.linear_model  # noqa: F401
        self._load, self._seconds, self._seed, self._device = load, seconds, seed, device
        whole = load("fasttext")
        self.statistics = CorpusStatistics.of(whole)
        if not self.statistics.types:
            raise UserError(
                f"no training document has a token (tokenizer {whole.tokenizer!r}): there is "
                "nothing to learn from"
            )
        self.duplicates = whole.duplicates().summary()
        self._random = np.random.default_rng(seed)
        self._dev = self._drawn(len(whole.dev), _MAX_DEV)
        self._train = np.arange(len(whole.train))
        self._loaded: dict[bool, Dataset] = {False: whole}
        self._resolved: dict[str, ResolvedTraining] = {}
        if len(self._dev) < len(whole.dev):
            self._loaded[False] = whole.subset(self._train, self._dev)
        self._threads, each = self._probed()
        if len(self._train) > _FEW:
            self._train = self._drawn(len(self._train), self._affordable(each))
            self._dev = self._dev[self._drawn(len(self._dev), _enough_dev(len(self._train)))]
            self._loaded[False] = whole.subset(self._train, self._dev)

    @property
    def documents(self) -> int:
        """How many documents are learned from."""
        return len(self._train)

    @property
    def dev(self) -> int:
        """How many dev documents are used."""
        return len(self._dev)

    @property
    def multi_label(self) -> bool:
        """Whether a document may have several labels."""
        return self._loaded[False].multi_label

    @property
    def tokenizer(self) -> str:
        """Name of the tokenization."""
        return self._loaded[False].tokenizer

    def measure(
        self, candidate: Candidate, share: float, seed: int, time_limit: float
    ) -> tuple[Trial, float]:
        """See `dlnotes.advice.race.TrialFunction`."""
        with num_threads_set_to(self._threads):
            return self._measured(candidate, share, seed, time_limit)

    def _measured(
        self, candidate: Candidate, share: float, seed: int, time_limit: float
    ) -> tuple[Trial, float]:
        began = time.perf_counter()
        if candidate.model == TFIDF:
            self._check_baseline(time_limit)
            began = time.perf_counter()
            trial, had = run_trial(self.dataset(TFIDF), TFIDF), 1.0
        else:
            epochs = self.resolved(candidate.model).training.epochs or 1
            some = max(1, round(share * epochs))
            training = Training(seed=self._seed + seed, epochs=some, **candidate.changes)
            left = time_limit - (time.perf_counter() - began)
            if left <= 0:
                raise OutOfTime
            trial = run_trial(
                self.dataset(candidate.model),
                candidate.model,
                training,
                device=self._device,
                time_limit=left,
            )
            had = some / epochs
        # Including the time around the training, so that the time of others can be predicted.
        return replace(trial, seconds=time.perf_counter() - began), had

    def vary(self, candidate: Candidate) -> Iterator[Candidate]:
        """The same model with other learning rates, optimizers and batch sizes, one change each."""
        own = self.resolved(candidate.model).training
        assert own.lr is not None
        for factor in (3, 1 / 3):
            yield Candidate(candidate.model, {"lr": float(f"{own.lr * factor:.1g}")})
        for optimizer in _OTHER_OPTIMIZERS:
            if optimizer != own.optimizer:
                yield Candidate(candidate.model, {"optimizer": optimizer})
        if own.batch_size:
            for size in (own.batch_size // 2, own.batch_size * 2):
                if 1 <= size <= self.documents:
                    yield Candidate(candidate.model, {"batch_size": size})

    def resolved(self, model: str) -> ResolvedTraining:
        """The recipe of a model for these documents."""
        if model not in self._resolved:
            self._resolved[model] = resolve(Training(), model, {}, self.dataset(model))
        return self._resolved[model]

    def command_changes(self, candidate: Candidate) -> dict[str, Any]:
        """The settings that a command for all documents must give, beside the model.

        The recipe for all documents may have another learning rate or batch size than the recipe
        for the part that was raced on. A change is therefore scaled: its ratio to the recipe stays.
        """
        changes = dict(candidate.changes)
        if self.documents == self.statistics.documents or candidate.model == TFIDF:
            return changes
        small = self.resolved(candidate.model)
        large = recipe_for(
            candidate.model, facts_of(small.dataset)._replace(documents=self.statistics.documents)
        )
        if "lr" in changes and small.training.lr:
            rate = rate_for(large.optimizer, candidate.model, "default", large)
            changes["lr"] = float(f"{changes['lr'] / small.training.lr * rate:.2g}")
        if "batch_size" in changes and small.training.batch_size:
            factor = changes["batch_size"] / small.training.batch_size
            changes["batch_size"] = max(1, round(large.batch_size * factor))
        return changes

    def dataset(self, model: str) -> Dataset:
        """The documents as a model reads them.

        Raises:
            UserError: The sentences cannot be read.
        """
        sentences = model != TFIDF and reads_sentences(model)
        if sentences not in self._loaded:
            whole = self._load(model)
            self._loaded[sentences] = whole.subset(self._train, self._dev)
        return self._loaded[sentences]

    @property
    def _left(self) -> float:
        return max(0.1, self._seconds - self._clock())  # `fit` wants a positive limit

    def _drawn(self, n: int, most: int) -> NDArray[np.int64]:
        if n <= most:
            return np.arange(n)
        drawn: NDArray[np.int64] = np.sort(self._random.choice(n, most, replace=False))
        return drawn

    def _probed(self) -> tuple[int, float]:
        """The faster number of threads, and the seconds that TextCNN trains per document.

        On a busy computer, threads that wait for each other may take twenty times as long as one.
        """
        dataset, most = self._loaded[False], torch.get_num_threads()
        some = self._random.choice(len(dataset.train), min(len(dataset.train), _PROBED), False)
        probed = dataset.subset(some, np.arange(min(len(dataset.dev), _PROBED)))
        training = Training(epochs=1, batch_size=self.resolved("textcnn").training.batch_size)
        self._resolved.clear()  # since a part of the documents may be used in the end

        def seconds(threads: int, limit: float) -> float:
            with num_threads_set_to(threads), suppress(OutOfTime):
                given: Any = {"device": self._device, "time_limit": limit}
                return 1 / run_trial(probed, "textcnn", training, **given).documents_per_second
            return math.inf

        began = time.perf_counter()
        found = {1: seconds(1, self._left)}  # includes loading and compiling
        if time.perf_counter() - began > _PROBE * self._seconds:  # measuring again costs too much
            return 1, found[1]
        found = {1: seconds(1, self._left)}
        if most > 1 and found[1] < math.inf:
            found[most] = seconds(most, 1 + 3 * found[1] * len(probed.train))
        best = min(found, key=found.__getitem__)
        return best, found[best]

    def _affordable(self, each: float) -> int:
        """How many documents TextCNN can learn from for all its epochs in its share of the time.

        Args:
            each: Seconds per document.
        """
        limit, facts = _WHOLE * self._left, facts_of(self._loaded[False])
        low, high = _FEW, len(self._train)
        while low < high:
            some = (low + high + 1) // 2
            epochs = recipe_for("textcnn", facts._replace(documents=some)).epochs
            # Measuring a document takes about a third of learning from it.
            dev = min(len(self._dev), _enough_dev(some))
            if epochs * (some + dev / 3) * each <= limit:
                low = some
            else:
                high = some - 1
        return low

    def _check_baseline(self, time_limit: float) -> None:
        """Refuse to begin the baseline, which cannot be stopped, if it would take too long.

        Raises:
            OutOfTime: The baseline would take longer.
        """
        dataset = self.dataset(TFIDF)
        n, parts = len(dataset.train), 8
        if n < 2_000 and len(dataset.label_names) < _MANY_CLASSES:
            return
        if time_limit <= 0:
            raise OutOfTime
        began = time.perf_counter()
        some = self._random.choice(n, n // parts, replace=False)
        run_trial(dataset.subset(some, np.arange(len(dataset.dev))), TFIDF)
        # The factor: with more documents there are more features, so iterations take longer.
        if 1.5 * parts * (time.perf_counter() - began) > time_limit:
            raise OutOfTime


def _enough_dev(train: int) -> int:
    """Dev documents for a number of training documents: more would take most of the time."""
    return max(_FEW, train)
