"""From scores to probabilities and answers: temperature, thresholds, rejection, chosen on dev."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from dlnotes.arguments import OneOf, Positive, Range, Settings, check
from dlnotes.errors import UserError

THRESHOLDS = ("none", "one", "label")
"""Which thresholds are chosen: none (.5), one for all labels, one for each label."""
MIN_POSITIVES = 10
"""A label that fewer dev documents than this have takes the common threshold."""
MAX_TEMPERATURE = 100.0
"""The highest temperature that is chosen; its reciprocal is the lowest."""
MIN_ANSWERS = 10
"""A confidence is required only if at least this many dev documents reach it."""
FEW_DOCUMENTS = 50
"""There is a warning if the temperature is chosen on fewer documents than this."""
NO_LABEL = -1
"""The class number that means "no label"."""

_SCORES = 1 << 22  # how many are processed at once
_Probability = Annotated[float, Range(0, le=1)]


class _Dense(Protocol):
    """Labels of documents that may have several, such as `LabelSets`."""

    def dense(self) -> NDArray[np.bool_]: ...


@dataclass(frozen=True, kw_only=True)
class Deciding(Settings):
    """What to choose on the dev documents: thresholds, a temperature, or when to give no label."""

    threshold: Annotated[str, OneOf(THRESHOLDS)] = "one"
    """For documents with any number of labels: how probable a label must be to be given. none: .5;
    one: the threshold with the best micro-F1 on the dev documents, the same for all labels; label:
    for each label the threshold with its best F1 on the dev documents, or the common one where
    fewer than ten of them have the label."""

    calibrate: bool = False
    """Choose on the dev documents a temperature by which the scores are divided, so that of the
    predictions with a probability of .8, for example, 80 % are correct (Guo et al. 2017)."""

    precision: Annotated[float, Range(0, le=1)] | None = None
    """For documents with one label: give no label where the most probable one is not probable
    enough. The limit is the lowest probability such that, of the dev documents that reach it (at
    least ten), this share is classified correctly. 0: always give a label."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.precision == 0:
            object.__setattr__(self, "precision", None)

    def choose(
        self, logits: Float[Tensor, "n c"], labels: Any, *, multi_label: bool
    ) -> tuple[Decision, Rejection | None]:
        """Choose a decision on held-out documents; see `choose_decision`."""
        return choose_decision(
            logits,
            labels,
            multi_label=multi_label,
            threshold=self.threshold,
            calibrate=self.calibrate,
            precision=self.precision,
        )


@dataclass(frozen=True, kw_only=True)
class Decision(Settings):
    r"""How scores become probabilities, and probabilities answers.

    With the temperature :math:`T`, scores :math:`z` become the probabilities

    .. math:: p = \mathrm{softmax}(z / T) \quad\text{or, with several labels,}\quad
        p_k = \sigma(z_k / T)

    With one label per document, the most probable label is given if its probability is at least
    `reject`; with several, all labels whose probabilities are at least their `threshold`.

    Raises:
        UserError: The temperature is not above 0, or a probability is outside of [0, 1].
    """

    temperature: Positive = 1.0
    """:math:`T`: above 1 it makes a classifier less confident, below 1 more confident."""

    threshold: _Probability | tuple[_Probability, ...] = 0.5
    """Lowest probability with which a label is given; one for all labels or one for each."""

    reject: _Probability = 0.0
    """Where the most probable label has a lower probability, the answer is "no label"; for
    classifiers that give one label per document."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.threshold, int | float):  # a file has a list
            object.__setattr__(self, "threshold", tuple(self.threshold))

    def scaled(self, logits: Float[Tensor, "*n c"]) -> Float[Tensor, "*n c"]:
        """Scores divided by the temperature; the same tensor if the temperature is 1."""
        return logits if self.temperature == 1 else logits / self.temperature

    def probabilities(
        self, logits: Float[Tensor, "*n c"], multi_label: bool = False
    ) -> Float[Tensor, "*n c"]:
        """Probability of each label.

        Args:
            logits: Unnormalised scores.
            multi_label: Whether a document may have several labels: then each has a probability of
                its own, otherwise they add up to 1.
        """
        scaled = self.scaled(logits)
        return scaled.sigmoid() if multi_label else scaled.softmax(-1)

    def chosen(self, probabilities: Float[Tensor, "*n c"]) -> Bool[Tensor, "*n c"]:
        """Which of several labels are given, by their probabilities."""
        dtype, device = probabilities.dtype, probabilities.device
        return probabilities >= torch.tensor(self.threshold, dtype=dtype, device=device)

    def decide(
        self, logits: Float[Tensor, "n c"], multi_label: bool = False
    ) -> Int[Tensor, " n"] | Bool[Tensor, "n c"]:
        """The answers: class numbers (or `NO_LABEL`), or with several labels which are given.

        Args:
            logits: Unnormalised scores.
            multi_label: See `probabilities`.
        """
        probabilities = self.probabilities(logits, multi_label)
        if multi_label:
            return self.chosen(probabilities)
        confidence, best = probabilities.max(-1)
        return best.masked_fill(self.rejected(confidence), NO_LABEL)

    def rejected(self, confidence: Float[Tensor, "*n"]) -> Bool[Tensor, "*n"]:
        """Whether this probability of the most probable label is too low to give it."""
        return confidence < torch.tensor(
            self.reject, dtype=confidence.dtype, device=confidence.device
        )

    def check_labels(self, classes: int) -> None:
        """Require one threshold for all labels, or one for each.

        Raises:
            UserError: The number of thresholds is not that of the labels.
        """
        if isinstance(self.threshold, tuple) and len(self.threshold) != classes:
            raise UserError(
                f"threshold must be one number or {classes:,}, one for each label, not "
                f"{len(self.threshold):,}"
            )

    def changed(self) -> dict[str, Any]:
        """The fields that differ from their defaults, in types that JSON has."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
            if value != getattr(DEFAULT, name)
        }


DEFAULT = Decision()


def decision_from(found: Any) -> Decision:
    """Make a decision from the fields that `Decision.changed` returned.

    Args:
        found: The mapping that was read from a file; None for the default.

    Raises:
        UserError: `found` is not such a mapping.
    """
    if found is None:
        return DEFAULT
    check({"decision": Mapping[str, Any]}, {"decision": found})
    try:
        return Decision(**found)
    except UserError as error:
        raise UserError(f"decision: {error}") from error


def choose_temperature(
    logits: Float[Tensor, "n c"], labels: Any, multi_label: bool = False
) -> float:
    r"""The temperature with which the scores of held-out documents have the lowest loss.

    Temperature scaling (Guo et al. 2017, https://arxiv.org/abs/1706.04599):

    .. math:: T^* = \arg\min_{T > 0} -\sum_i \log \mathrm{softmax}(z_i / T)_{y_i}

    and, with several labels, the sum of the binary cross-entropies of all labels. The loss is
    convex in :math:`x = 1/T`, and its slope :math:`\sum_i (\mathbb{E}_{p_i}[z_i] - z_{i y_i})`
    rises with :math:`x`; Newton's method between two bounds finds the root of the slope, in
    float64. The most probable label does not change.

    If all documents are classified correctly, the loss keeps falling as :math:`T` becomes smaller.
    Such documents do not show how confident the classifier should be, and :math:`T` is 1. If the
    loss still falls at `MAX_TEMPERATURE`, as with scores that contradict the labels, :math:`T` is
    `MAX_TEMPERATURE`.

    Args:
        logits: Unnormalised scores of documents that were not trained on. Documents whose label is
            impossible (a score of -inf) or whose scores contain NaN are ignored.
        labels: Class numbers (n,), or with several labels zeros and ones (n, c) or `LabelSets`.
        multi_label: Whether a document may have several labels.
    """
    slope = (_slopes_of_several if multi_label else _slopes_of_one)(logits, labels)
    low, high = 1 / MAX_TEMPERATURE, MAX_TEMPERATURE
    if (at_low := slope(low)[0]) >= 0:
        # With scores that are all equal, the loss does not depend on the temperature.
        return MAX_TEMPERATURE if at_low > 0 else 1.0
    if slope(high)[0] <= 0:
        return 1.0
    x, step = 1.0, math.inf
    while abs(step) > 1e-10 * x and high - low > 1e-10 * x:
        value, rise = slope(x)
        low, high = (x, high) if value < 0 else (low, x)
        after = x - value / rise if rise > 0 else math.inf
        if not low < after < high:
            after = math.sqrt(low * high)
        step, x = after - x, after
    return 1 / x


def warn_of_temperature(temperature: float, documents: int) -> None:
    """Warn if the dev documents say too little about the temperature that was chosen on them.

    Args:
        temperature: The result of `choose_temperature`.
        documents: Number of dev documents.
    """
    if temperature == 1:
        doubt = (
            "the temperature stays 1: the classifier is right about all dev documents, or its "
            "scores are all equal, so they do not show how confident it should be"
        )
    elif temperature == MAX_TEMPERATURE:
        doubt = (
            f"the temperature is {temperature:g}, the highest possible one: on the dev documents "
            "the scores are no better than chance"
        )
    elif documents < FEW_DOCUMENTS:
        doubt = (
            f"the temperature was chosen on only {documents:,} dev documents and is unreliable: "
            f"it takes {FEW_DOCUMENTS} or more"
        )
    else:
        return
    warnings.warn(doubt, stacklevel=3)


def _slopes_of_one(
    logits: Float[Tensor, "n c"], labels: Any
) -> Callable[[float], tuple[float, float]]:
    """First and second derivative of the cross-entropy with respect to 1/T."""
    parts = []
    y = torch.as_tensor(np.asarray(labels), dtype=torch.int64)
    for z, label in zip(_split(logits), _split(y, logits.shape[-1]), strict=True):
        z = z.double() - z.double().amax(-1, keepdim=True)
        true = z.gather(-1, label.unsqueeze(-1)).squeeze(-1)
        counts = true.isfinite() & ~z.isnan().any(-1)
        parts.append((z[counts], true[counts].sum()))

    def slopes(x: float) -> tuple[float, float]:
        first = second = 0.0
        for z, true in parts:
            p = (x * z).softmax(-1)
            z = z.masked_fill(p == 0, 0.0)  # so that 0 · -inf gives 0 instead of NaN
            mean = (p * z).sum(-1)
            first += float(mean.sum() - true)
            second += float((p * (z - mean.unsqueeze(-1)).square()).sum())
        return first, second

    return slopes


def _slopes_of_several(
    logits: Float[Tensor, "n c"], labels: Any
) -> Callable[[float], tuple[float, float]]:
    """First and second derivative of the binary cross-entropy with respect to 1/T."""
    parts = []
    y = torch.from_numpy(_dense(labels))
    for z, true in zip(_split(logits), _split(y), strict=True):
        # The loss of a label is log(1 + exp(-x m)), where m is its score in favour of the truth.
        margin = torch.where(true, z, -z).double()
        parts.append(margin[margin.isfinite()])

    def slopes(x: float) -> tuple[float, float]:
        first = second = 0.0
        for m in parts:
            wrong = (-x * m).sigmoid()
            first -= float((wrong * m).sum())
            second += float((wrong * (1 - wrong) * m.square()).sum())
        return first, second

    return slopes


def _split(values: Tensor, width: int | None = None) -> tuple[Tensor, ...]:
    """Split rows into parts of bounded memory."""
    found: tuple[Tensor, ...] = values.split(max(1, _SCORES // max(1, width or values.shape[-1])))
    return found


def choose_thresholds(
    probabilities: Float[Tensor, "n c"],
    labels: Any,
    how: str = "one",
    *,
    min_positives: int = MIN_POSITIVES,
) -> float | tuple[float, ...]:
    """The thresholds with the highest F1 on held-out documents that may have several labels.

    ``one`` maximises micro-F1. All thresholds that differ in their effect are compared, and the
    highest of the best ones is placed midway between two probabilities that occur.

    ``label`` maximises the F1 of each label by itself (SCut, Yang 2001,
    https://doi.org/10.1145/383952.383975). The threshold of a rare label would depend on few
    documents and overfit them, so a label that fewer than `min_positives` documents have takes the
    threshold of ``one``.

    Args:
        probabilities: Probabilities of the labels of documents that were not trained on.
        labels: Zeros and ones (n, c), or `LabelSets`.
        how: ``none`` (.5), ``one`` or ``label``.
        min_positives: See above.

    Raises:
        UserError: `how` is unknown.
    """
    check({"threshold": Annotated[str, OneOf(THRESHOLDS)]}, {"threshold": how})
    if how == "none":
        return DEFAULT.threshold
    p, truth = probabilities.cpu().numpy(), _dense(labels)
    common = _best_cut(p, truth)
    if how == "one":
        return common
    counts = truth.sum(0)
    columns = np.ascontiguousarray(p.T), np.ascontiguousarray(truth.T)
    return tuple(
        _best_cut(scores, true) if count >= min_positives else common
        for scores, true, count in zip(*columns, counts, strict=True)
    )


def _dense(labels: NDArray[Any] | _Dense) -> NDArray[np.bool_]:
    found = labels if isinstance(labels, np.ndarray) else labels.dense()
    return found.astype(bool, copy=False)


def _best_cut(scores: NDArray[Any], truth: NDArray[np.bool_]) -> float:
    """The threshold with the highest F1; .5 if there is no true label or its scores are all NaN.

    The best threshold lies just below the score of a true label, since lowering it further past a
    false one only adds an error. Therefore false labels below all true ones need not be sorted.
    """
    true = np.sort(scores[truth])[::-1]
    true = true[~np.isnan(true)]
    if not len(true):
        return 0.5
    false = np.sort(scores[~truth & (scores >= true[-1])])
    cuts, first = np.unique(-true, return_index=True)
    hits = np.append(first[1:], len(true))
    extra = len(false) - np.searchsorted(false, -cuts, side="left")
    f1 = 2 * hits / (hits + extra + len(true))
    cut = -cuts[f1.argmax()]
    below = scores[scores < cut]
    return _between(below.max(initial=0), cut)


def _between(below: Any, cut: Any) -> float:
    """The midpoint of two neighbouring probabilities, rounded to their type."""
    middle = cut.dtype.type((float(below) + float(cut)) / 2)
    return float(middle if below < middle <= cut else cut)


@dataclass(frozen=True)
class Rejection:
    """The confidence below which no label is given, and its effect on the dev documents.

    Attributes:
        reject: The lowest confidence with which a label is given.
        precision: Share of the given labels that are correct.
        answered: How many of the documents get a label.
        documents: How many documents there are.
        reached: Whether `precision` is at least the wanted one. If not, `precision` is the highest
            that any limit reaches, or NaN if there are too few documents.
    """

    reject: float
    precision: float
    answered: int
    documents: int
    reached: bool

    @property
    def coverage(self) -> float:
        """Share of the documents that get an answer."""
        return self.answered / self.documents

    def refusal(self, wanted: float) -> str:
        """Message for the case that the wanted precision is not reached."""
        if self.documents < MIN_ANSWERS:
            return (
                f"a confidence that reaches --precision {wanted:g} cannot be chosen on "
                f"{self.documents:,} dev documents: it takes at least {MIN_ANSWERS}"
            )
        return (
            f"no confidence that at least {MIN_ANSWERS} dev documents have reaches --precision "
            f"{wanted:g}: the best is {self.precision:.4f}, with {self.answered:,} of "
            f"{self.documents:,} documents answered"
        )


def choose_reject(
    confidences: NDArray[Any],
    correct: NDArray[np.bool_],
    precision: float,
    *,
    min_answers: int = MIN_ANSWERS,
) -> Rejection:
    """The lowest confidence limit with which answers to held-out documents are precise enough.

    Taken together, the documents with at least this confidence reach the precision. As many
    documents as possible keep their answers (the trade-off between risk and coverage of El-Yaniv &
    Wiener 2010, https://jmlr.org/papers/v11/el-yaniv10a.html), and at least `min_answers`, since
    the precision on fewer says little about other documents.

    Args:
        confidences: Probability of the most probable label, shape (n,); at least one document.
        correct: Whether that is the document's label, shape (n,).
        precision: Wanted share of correct answers among those given.
        min_answers: See above.
    """
    if len(confidences) < min_answers:
        return Rejection(0.0, math.nan, len(confidences), len(confidences), reached=False)
    order = np.argsort(-confidences, kind="stable")
    confidence = confidences[order]
    # Documents with equal confidence are kept or rejected together.
    kept = np.flatnonzero(np.append(confidence[1:] != confidence[:-1], True)) + 1
    kept = kept[kept >= min_answers]
    shares = np.cumsum(correct[order])[kept - 1] / kept
    enough = np.flatnonzero(shares >= precision)
    reached = bool(len(enough))
    # Of several equally precise limits, the one that keeps the most documents.
    at = enough[-1] if reached else np.flatnonzero(shares == shares.max())[-1]
    number = int(kept[at])
    cut = 0.0
    if number < len(order):
        cut = _between(confidence[number], confidence[number - 1])
    return Rejection(cut, float(shares[at]), number, len(order), reached)


def check_precision(precision: float | None, multi_label: bool) -> None:
    """Refuse to reject answers of a classifier that gives any number of labels.

    Raises:
        UserError: `precision` is above 0, and a document may have several labels.
    """
    if multi_label and precision:
        raise UserError(
            f"precision ({precision:g}) is for classifiers that give one label per document: where "
            "a document may have several or none, see threshold"
        )


def check_threshold(threshold: str, multi_label: bool) -> None:
    """Refuse to choose thresholds of a classifier that gives one label.

    Raises:
        UserError: `threshold` is not the default, and a document has one label.
    """
    if not multi_label and threshold != Deciding.threshold:
        raise UserError(
            f"threshold ({threshold}) is for classifiers that give a document any number of "
            "labels: where it has one, see precision"
        )


def choose_decision(
    logits: Float[Tensor, "n c"],
    labels: Any,
    *,
    multi_label: bool = False,
    threshold: str = "one",
    calibrate: bool = False,
    precision: float | None = None,
) -> tuple[Decision, Rejection | None]:
    """Choose the temperature, and with it thresholds or rejection, on held-out documents.

    Args:
        logits: Unnormalised scores of documents that were not trained on.
        labels: Class numbers (n,), or with several labels zeros and ones (n, c) or `LabelSets`.
        multi_label: Whether a document may have several labels.
        threshold: See `choose_thresholds`; has no effect with one label per document.
        calibrate: Choose a temperature; otherwise it is 1.
        precision: See `choose_reject`; None or 0 to reject nothing. If it cannot be reached,
            nothing is rejected.

    Returns:
        The decision, and the `Rejection` if a precision is wanted.

    Raises:
        UserError: See `check_precision` and `choose_thresholds`.
    """
    check_precision(precision, multi_label)
    precision = precision or None
    temperature = choose_temperature(logits, labels, multi_label) if calibrate else 1.0
    decision = Decision(temperature=temperature)
    if multi_label:
        probabilities = decision.probabilities(logits, multi_label)
        if threshold != "none" and not _dense(labels).any():
            warnings.warn(
                "none of the dev documents has a label, so that no threshold can be chosen on "
                f"them: it stays {DEFAULT.threshold}",
                stacklevel=2,
            )
        chosen = choose_thresholds(probabilities, labels, threshold)
        return replace(decision, threshold=chosen), None
    if precision is None:
        return decision, None
    confidence, best = (part.cpu().numpy() for part in decision.probabilities(logits).max(-1))
    rejection = choose_reject(confidence, best == labels, precision)
    if rejection.reached:
        decision = replace(decision, reject=rejection.reject)
    return decision, rejection
