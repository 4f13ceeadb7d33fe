"""Figures of trained models, computed from scores and true labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from dlnotes.data.batches import by_length
from dlnotes.data.documents import Documents
from dlnotes.data.labels import LabelSets
from dlnotes.data.mapped import empty
from dlnotes.errors import UserError
from dlnotes.training.decision import DEFAULT, Decision
from dlnotes.training.distributed import ALONE, Group
from dlnotes.training.multi_label import MultiLabelMetrics, multi_label_metrics
from dlnotes.training.reliability import Reliability, reliability
from dlnotes.training.transfer import send, send_tokens

# Padded tokens in an evaluation batch: enough to keep the cores busy, and little memory.
_BATCH_TOKENS = 1 << 15
# Scores in an evaluation batch; it is only reached with more than 512 classes.
_BATCH_SCORES = 1 << 24
_MAX_CELLS = 1 << 26

ScoreMap = Callable[[Tensor, NDArray[np.int64]], tuple[Tensor, ...]]
"""Maps a batch's scores (b, c) and document numbers (b,) to the tensors (b, …) to keep of it."""


class EvaluationMetrics(Protocol):
    """Results of an evaluation, for any kind of label."""

    @property
    def loss(self) -> float:
        """Mean loss in nats."""
        ...

    @property
    def score(self) -> float:
        """The figure by which the best epoch is selected; higher is better."""
        ...

    def summary(self) -> dict[str, float]:
        """The figures that are single numbers, by name."""
        ...


@dataclass(frozen=True)
class Metrics:
    r"""Figures of a classifier on a set of documents.

    With \(tp_c, fp_c, fn_c\) the true positives, false positives and false negatives of class
    \(c\): precision \(tp/(tp+fp)\), recall \(tp/(tp+fn)\), F1 \(2tp/(2tp+fp+fn)\), each 0 if its
    denominator is 0. Macro-F1 is the mean F1 of the classes that occur among labels or predictions.
    Micro-F1 pools the counts of all classes; with one label per document it equals the accuracy.

    Everything except `confusion` takes memory in proportion to documents + classes.

    Attributes:
        loss: Mean cross-entropy in nats.
        labels: True class of every document, shape (documents,).
        predictions: Predicted class of every document.
        confidence: Probability of the predicted class of every document.
        classes: How many classes there are.
        reject: Predictions with less confidence are rejected: no label is given. Only `coverage`
            and `answered_accuracy` depend on this.
    """

    loss: float
    labels: NDArray[np.int64]
    predictions: NDArray[np.int64]
    confidence: NDArray[np.float32]
    classes: int
    reject: float = 0.0

    @property
    def confusion(self) -> NDArray[np.int64]:
        """Documents by (label, prediction), shape (classes, classes).

        Raises:
            MemoryError: There are more than 8,192 classes; use `confusions`, which lists pairs.
        """
        if self.classes**2 > _MAX_CELLS:
            raise MemoryError(f"the confusion matrix of {self.classes:,} classes is too large")
        pairs = self.labels * self.classes + self.predictions
        counts: NDArray[np.int64] = np.bincount(pairs, minlength=self.classes**2)
        return counts.reshape(self.classes, self.classes)

    @property
    def confusions(self) -> NDArray[np.int64]:
        """Label, prediction and number of documents of each pair that occurs, shape (pairs, 3)."""
        pairs, counts = np.unique(self.labels * self.classes + self.predictions, return_counts=True)
        return np.stack([pairs // self.classes, pairs % self.classes, counts], axis=1)

    def most_confused(self, most: int) -> NDArray[np.int64]:
        """Rows of `confusions` that are mistakes: at most `most`, the most frequent first."""
        pairs = self.confusions
        wrong = pairs[pairs[:, 0] != pairs[:, 1]]
        first: NDArray[np.int64] = wrong[np.argsort(-wrong[:, 2], kind="stable")[:most]]
        return first

    @property
    def documents(self) -> NDArray[np.int64]:
        """Number of documents of each class, shape (classes,)."""
        return self._count(self.labels)

    @property
    def accuracy(self) -> float:
        """Share of documents classified correctly."""
        return float(self._correct.sum() / max(1, len(self.labels)))

    @property
    def precision(self) -> NDArray[np.float64]:
        """Precision of each class."""
        return _ratio(self._correct, self._count(self.predictions))

    @property
    def recall(self) -> NDArray[np.float64]:
        """Recall of each class."""
        return _ratio(self._correct, self.documents)

    @property
    def f1(self) -> NDArray[np.float64]:
        """F1 of each class."""
        return _ratio(2 * self._correct, self.documents + self._count(self.predictions))

    @property
    def _correct(self) -> NDArray[np.int64]:
        return self._count(self.labels[self.labels == self.predictions])

    def _count(self, classes: NDArray[np.int64]) -> NDArray[np.int64]:
        counts: NDArray[np.int64] = np.bincount(classes, minlength=self.classes)
        return counts

    @property
    def macro_f1(self) -> float:
        """Mean F1 of the classes that occur."""
        occurs = (self.documents + self._count(self.predictions)) > 0
        return float(self.f1[occurs].mean()) if occurs.any() else 0.0

    @property
    def micro_f1(self) -> float:
        """F1 of the pooled counts."""
        true = self._correct.sum()
        wrong = len(self.labels) - true
        return float(2 * true / max(1, 2 * true + wrong + wrong))

    @property
    def score(self) -> float:
        """The figure by which the best epoch is selected, higher is better: the accuracy."""
        return self.accuracy

    @property
    def reliability(self) -> Reliability:
        """The confidences in bins, and how many predictions are correct in each."""
        return reliability(self.confidence, self.labels == self.predictions)

    @property
    def ece(self) -> float:
        """Expected calibration error of the confidences, see `Reliability`."""
        return self.reliability.ece

    @property
    def answered(self) -> NDArray[np.bool_]:
        """Which documents get a label, shape (documents,)."""
        found: NDArray[np.bool_] = self.confidence >= self.confidence.dtype.type(self.reject)
        return found

    @property
    def coverage(self) -> float:
        """Share of documents that get a label."""
        return float(self.answered.sum() / max(1, len(self.labels)))

    @property
    def answered_accuracy(self) -> float:
        """Share of the given labels that are correct; 1 if none is given."""
        answered = self.answered
        correct = (self.labels == self.predictions)[answered]
        return float(correct.mean()) if len(correct) else 1.0

    def summary(self) -> dict[str, float]:
        """The figures that are single numbers, by name; two more if `reject` is above 0."""
        names = ["loss", "accuracy", "macro_f1", "micro_f1", "ece"]
        if self.reject > 0:
            names += ["coverage", "answered_accuracy"]
        return {name: float(getattr(self, name)) for name in names}

    def per_class(self, label_names: list[str]) -> dict[str, dict[str, Any]]:
        """Precision, recall, F1 and number of documents of each class by label."""
        columns, documents = (self.precision, self.recall, self.f1), self.documents
        return {
            label: {
                **{
                    n: float(c[i])
                    for n, c in zip(("precision", "recall", "f1"), columns, strict=True)
                },
                "documents": int(documents[i]),
            }
            for i, label in enumerate(label_names)
        }


def headline(figures: Mapping[str, Any]) -> dict[str, str]:
    """The most important figures, with their usual names.

    Args:
        figures: A `summary`, with one label per document or with several.
    """
    first = {"accuracy": "accuracy"} if "accuracy" in figures else {"micro_f1": "micro-F1"}
    return first | {"macro_f1": "macro-F1"}


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode within a context.

    A model that already is in evaluation mode is not touched, so that several threads may use it
    at the same time.
    """
    if not model.training:
        yield
        return
    model.eval()
    try:
        yield
    finally:
        model.train()


def scores(
    model: nn.Module,
    documents: Documents,
    *,
    device: torch.device | str = "cpu",
    amp: bool = False,
    classes: int | None = None,
    group: Group = ALONE,
) -> Float[Tensor, "n c"]:
    """Unnormalised scores of all documents in their order, on the CPU, without dropout.

    Args:
        model: Maps token ids (b, t) to scores (b, c); already on `device`.
        documents: At least one document.
        device: Where to compute.
        amp: Compute in bf16 where autocast allows it.
        classes: About how many classes there are; with very many, batches have fewer documents.
        group: Processes that share the work. All of them must call this, and all get all scores.
    """
    where: dict[str, Any] = {"device": device, "amp": amp, "group": group}
    return map_scores(model, documents, identity, classes=classes, **where)[0]


def map_scores(
    model: nn.Module,
    documents: Documents,
    score_map: ScoreMap,
    *,
    device: torch.device | str = "cpu",
    amp: bool = False,
    classes: int | None = None,
    group: Group = ALONE,
) -> list[Tensor]:
    """The results of a `ScoreMap` for all documents in their order, on the CPU.

    All scores together are documents × classes numbers, which may not fit into memory. Here the
    scores of each batch are discarded before the next. The other arguments are those of `scores`.
    """
    batches = partial(by_length, documents.lengths, _BATCH_TOKENS, max_batch_documents(classes))
    collector = BatchCollector(documents)
    device = torch.device(device)
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=amp)
    with evaluating(model), torch.inference_mode(), autocast:
        for indices in group.own_batches(batches()):
            tokens = send_tokens(documents.batch(indices).tokens, device, model)
            collector.add(indices, score_map(model(tokens).float(), indices))
    return group.merge(collector.columns, batches())


def identity(logits: Float[Tensor, "b c"], _: NDArray[np.int64]) -> tuple[Tensor, ...]:
    """The `ScoreMap` that keeps the scores as they are."""
    return (logits,)


def max_batch_documents(classes: int | None) -> int | None:
    """The most documents in an evaluation batch, given the number of classes; None: no limit."""
    return None if not classes else max(1, _BATCH_SCORES // classes)


class BatchCollector:
    """Collects the results of all batches, in the order of the documents.

    Each result is written to its final place at once. Many small tensors that outlive the large
    ones of their batch would leave holes in the heap into which no large one fits, and memory would
    grow with every batch. On a CPU, the results of many documents are kept in a file, see
    `dlnotes.data.mapped`.

    Args:
        documents: All documents.
    """

    def __init__(self, documents: Documents) -> None:
        self._documents, self._folder = len(documents), getattr(documents, "folder", None)
        self._columns: list[Tensor] = []

    def add(self, indices: NDArray[np.int64], kept: Sequence[Tensor]) -> None:
        """Add a batch; after the first one, several threads may do so at the same time."""
        if not self._columns:
            with torch.inference_mode(False):
                self._columns = [self._column(part) for part in kept]
        for column, part in zip(self._columns, kept, strict=True):
            column[send(torch.from_numpy(indices.copy()), part.device)] = part

    def _column(self, part: Tensor) -> Tensor:
        """A column of zeros, as `Group.merge` requires for the documents of other processes."""
        shape = (self._documents, *part.shape[1:])
        if part.device.type == "cpu" and self._folder:
            kind = torch.empty(0, dtype=part.dtype).numpy().dtype
            return torch.from_numpy(empty(shape, kind, self._folder)).zero_()
        return torch.zeros(shape, dtype=part.dtype, device=part.device)

    @property
    def columns(self) -> list[Tensor]:
        """The columns of all documents, on the CPU."""
        return [column.cpu() for column in self._columns]


def check_scores(logits: Float[Tensor, "n c"], whose: str) -> Float[Tensor, "n c"]:
    """Return the scores, or raise if a row has no valid softmax.

    Args:
        logits: Unnormalised scores.
        whose: What computed the scores, for the message.

    Raises:
        UserError: The scores of a document hold NaN or +inf, or are all -inf.
    """
    check_probabilities(logits.softmax(-1), whose)
    return logits


def check_probabilities(probabilities: Float[Tensor, "n k"], whose: str) -> None:
    """Raise if a softmax, or some columns of one, contains NaN.

    Args:
        probabilities: Probabilities of all classes or of some.
        whose: What computed the scores, for the message.

    Raises:
        UserError: The probabilities of a document hold NaN.
    """
    lost = int(probabilities.isnan().any(-1).sum())
    if lost:
        raise UserError(
            f"{whose} gives {lost:,} of {len(probabilities):,} documents scores that are not "
            "numbers (NaN or an infinity): its training has diverged; train again with a lower --lr"
        )


class MetricsMap:
    """A `ScoreMap` that keeps what the `Metrics` of a classifier are computed from.

    Args:
        labels: True classes of all documents, shape (documents,).
        decision: How scores become probabilities and answers.
    """

    def __init__(self, labels: NDArray[np.int64], decision: Decision = DEFAULT) -> None:
        self._labels, self._decision = labels, decision
        self._classes = 0

    def __call__(
        self, logits: Float[Tensor, "b c"], indices: NDArray[np.int64]
    ) -> tuple[Tensor, ...]:
        """Log-probability of the label, predicted class and its probability, per document."""
        self._classes = logits.shape[-1]
        logits = self._decision.scaled(logits)
        label = torch.from_numpy(self._labels[indices]).to(logits.device)
        confidence, predicted = logits.softmax(-1).max(-1)
        likelihood = logits.log_softmax(-1).gather(-1, label.unsqueeze(-1))
        return likelihood, predicted, confidence

    def metrics(self, kept: Sequence[Tensor], whose: str | None = None) -> Metrics:
        """Compute the figures.

        Args:
            kept: What was kept of all documents, in their order.
            whose: What computed the scores, for the message; None to skip the check for NaN.

        Raises:
            UserError: `whose` is given, and the scores of a document contain NaN.
        """
        likelihood, predicted, confidence = kept
        if whose:
            check_probabilities(confidence.unsqueeze(-1), whose)
        return Metrics(
            # Bit for bit what F.cross_entropy computes.
            loss=F.nll_loss(likelihood, torch.zeros(len(likelihood), dtype=torch.int64)).item(),
            labels=self._labels,
            predictions=predicted.numpy(),
            confidence=confidence.numpy(),
            classes=self._classes,
            reject=self._decision.reject,
        )


def evaluate(
    model: nn.Module,
    documents: Documents,
    *,
    device: torch.device | str = "cpu",
    amp: bool = False,
    whose: str | None = None,
    decision: Decision = DEFAULT,
    group: Group = ALONE,
) -> Metrics | MultiLabelMetrics:
    """Measure `model` on `documents`; for the arguments see `scores` and `MetricsMap`."""
    where: dict[str, Any] = {"device": device, "amp": amp, "group": group}
    if isinstance(documents.labels, LabelSets):
        sets = documents.labels
        logits = scores(model, documents, classes=sets.classes, **where)
        return multi_label_metrics(logits, sets, decision, whose=whose)
    measure = MetricsMap(documents.labels, decision)
    classes = int(documents.labels.max(initial=0)) + 1
    found = map_scores(model, documents, measure, classes=classes, **where)
    return measure.metrics(found, whose)


def metrics(
    logits: Float[Tensor, "n c"],
    labels: NDArray[np.int64] | LabelSets,
    decision: Decision = DEFAULT,
) -> Metrics | MultiLabelMetrics:
    """Compute figures from scores and true labels (class numbers or `LabelSets`)."""
    if isinstance(labels, LabelSets):
        return multi_label_metrics(logits, labels, decision)
    measure = MetricsMap(labels, decision)
    return measure.metrics(measure(logits, np.arange(len(labels))))


@dataclass(frozen=True)
class SequenceMetrics:
    """Figures of a model that writes sequences, each token predicted from the true ones before it.

    Attributes:
        loss: Mean cross-entropy per token in nats; its exponential is the perplexity.
        accuracy: Share of the tokens predicted correctly, including the end of each sequence.
        tokens: Number of tokens.
    """

    loss: float
    accuracy: float
    tokens: int

    @property
    def score(self) -> float:
        """The figure by which the best epoch is selected, higher is better: the accuracy."""
        return self.accuracy

    def summary(self) -> dict[str, float]:
        """The figures that are single numbers, by name."""
        return {"loss": self.loss, "accuracy": self.accuracy}


def _ratio(numerator: NDArray[np.int64], denominator: NDArray[np.int64]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = numerator / np.maximum(denominator, 1)
    return result
