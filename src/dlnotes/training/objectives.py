"""What depends on the kind of label: targets, loss, link, decision, figures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from typing_extensions import Self

from dlnotes.arguments import NotNegative, Share, check
from dlnotes.data.batches import by_length
from dlnotes.data.documents import Documents, Examples
from dlnotes.data.vocabulary import PAD
from dlnotes.errors import UserError
from dlnotes.training.board import Board
from dlnotes.training.decision import Decision, choose_thresholds
from dlnotes.training.distributed import ALONE, Group
from dlnotes.training.evaluate import (
    EvaluationMetrics,
    Metrics,
    SequenceMetrics,
    evaluate,
    evaluating,
    scores,
)
from dlnotes.training.multi_label import MultiLabelMetrics, multi_label_metrics

# Padded tokens in an evaluation batch of sequences, where every token of the target has a score for
# the whole vocabulary.
_BATCH_TOKENS = 1 << 11


@runtime_checkable
class GivesLogLikelihood(Protocol):
    """A model that computes the log-probability of a label without those of all other classes."""

    log_likelihood: Any
    """(tokens, labels) → (b,), or None if its output layer cannot do this."""


class Objective(ABC):
    """What a model is trained for: how its outputs become a loss, and how they are evaluated.

    `fit` calls `forward` and `loss` in every update and `evaluate` after every epoch.

    Attributes:
        weights: Weight of each class, shape (c,); None for 1 each.
    """

    weights: Float[Tensor, " c"] | None = None

    def to(self, device: torch.device) -> Self:
        """Move the class weights to a device."""
        if self.weights is not None:
            self.weights = self.weights.to(device)
        return self

    def forward(self, model: nn.Module, tokens: Tensor, labels: Tensor) -> Any:
        """Compute the outputs that `loss` needs; called under autocast in mixed precision.

        Args:
            model: The model, in training mode.
            tokens: Token ids (b, t).
            labels: Labels, as batches of the documents have them.

        Returns:
            Scores (b, c).
        """
        return model(tokens)

    @abstractmethod
    def loss(self, outputs: Any, labels: Tensor) -> Float[Tensor, ""]:
        """Mean loss of a batch in nats, in float32 (float64 for a float64 model).

        Args:
            outputs: The result of `forward`.
            labels: The same labels as in `forward`.
        """

    def size(self, labels: Tensor) -> Float[Tensor, ""]:
        """The denominator of the mean in `loss`; used to combine the losses of several parts."""
        return torch.tensor(float(len(labels)), device=labels.device)

    @abstractmethod
    def evaluate(
        self,
        model: nn.Module,
        documents: Examples,
        *,
        device: torch.device | str = "cpu",
        amp: bool = False,
        group: Group = ALONE,
    ) -> EvaluationMetrics:
        """Measure `model` on `documents`, without dropout.

        Args:
            model: Maps token ids (b, t) to scores (b, c), or for `Sequence` token ids (b, t) and
                labels (b, u - 1) to scores (b, u - 1, vocabulary); already on `device`. Its mode,
                training or evaluation, is restored.
            documents: At least one document. The labels depend on the objective: class numbers
                (b,), for `MultiLabel` zeros and ones (b, c), for `Sequence` token ids (b, u).
            device: Where to compute.
            amp: Compute in bf16 where autocast allows it.
            group: Processes that share the work; all of them must call this, see
                `Group.own_batches`.
        """

    @abstractmethod
    def draw(self, board: Board, figures: Any, documents: Documents, **where: Any) -> None:
        """Write the plots and tables of a split's figures to TensorBoard.

        Args:
            board: The TensorBoard log.
            figures: The result of `evaluate`.
            documents: The split.
            where: ``label_names``, ``step`` (the update after which they were measured) and
                ``split`` (its name).
        """


class SingleLabel(Objective):
    r"""Each document has one label.

    The link is the softmax, the decision the most probable class. With the weight :math:`w` of each
    class and the label smoothing :math:`\varepsilon` the loss is

    .. math::
        L = \frac{\sum_i w_{y_i} (1 - p_{i y_i})^\gamma \ell_i}{\sum_i w_{y_i}}, \qquad
        \ell_i = -(1 - \varepsilon) \log p_{i y_i} - \frac{\varepsilon}{c} \sum_k \log p_{ik}

    With :math:`\gamma > 0` it is the focal loss (Lin et al. 2017,
    https://arxiv.org/abs/1708.02002), in which documents that have become easy count less.

    Differs from ``F.cross_entropy`` where there are both weights and smoothing: that function
    multiplies each class's share of the smoothed target by the class's weight. Every document is
    then pulled a hundred times more strongly towards a class that is a hundred times rarer, and
    nothing is learned.

    Args:
        class_weights: :math:`w`, shape (c,); None for 1 each.
        label_smoothing: :math:`\varepsilon`, the share of the target spread over all classes.
        focal_gamma: :math:`\gamma`.

    Raises:
        UserError: A weight is negative or not finite.
    """

    def __init__(
        self,
        class_weights: Float[Tensor, " c"] | None = None,
        label_smoothing: float = 0.0,
        focal_gamma: float = 0.0,
    ) -> None:
        _check(label_smoothing, focal_gamma)
        self.weights = _weights("class_weights", class_weights)
        self.label_smoothing, self.focal_gamma = label_smoothing, focal_gamma

    def loss(self, outputs: Any, labels: Tensor) -> Float[Tensor, ""]:
        """Weighted mean of the cross-entropies."""
        logits, smoothing = _wide(outputs), self.label_smoothing
        return mean_loss(logits, labels, self.weights, smoothing, self.focal_gamma)

    def size(self, labels: Tensor) -> Float[Tensor, ""]:
        """Sum of the documents' weights."""
        if self.weights is None:
            return super().size(labels)
        found = self.weights[labels]
        # In float32, the sums over parts would round differently from the sum over the whole batch.
        # MPS has no float64.
        return found.sum(dtype=None if found.device.type == "mps" else torch.float64)

    def evaluate(
        self,
        model: nn.Module,
        documents: Examples,
        *,
        device: torch.device | str = "cpu",
        amp: bool = False,
        group: Group = ALONE,
    ) -> Metrics:
        """Accuracy, F1 and the other figures of `Metrics`."""
        found = evaluate(model, cast(Documents, documents), device=device, amp=amp, group=group)
        return cast(Metrics, found)

    def draw(self, board: Board, figures: Metrics, documents: Documents, **where: Any) -> None:
        """Confusion matrix, reliability, and the most confident wrong predictions."""
        board.confusion(figures, documents, **where)
        board.reliability(figures.reliability, where["step"], split=where["split"])

    @staticmethod
    def link(logits: Float[Tensor, "n c"]) -> Float[Tensor, "n c"]:
        """Probabilities of the classes, which are mutually exclusive."""
        return logits.softmax(-1)

    @staticmethod
    def decide(logits: Float[Tensor, "n c"]) -> Int[Tensor, " n"]:
        """The most probable class."""
        return logits.argmax(-1)


class Hierarchical(SingleLabel):
    """Each document has one label, and the model a hierarchical softmax: a label costs O(log c).

    Everything else is as in `SingleLabel`. There is no label smoothing, since it would need the
    probability of every class, which such an output layer avoids computing.

    Args:
        class_weights: Weight of each class in the loss, shape (c,); None for 1 each.
        focal_gamma: See `SingleLabel`.

    Raises:
        UserError: A weight is negative or not finite.
    """

    def __init__(
        self, class_weights: Float[Tensor, " c"] | None = None, focal_gamma: float = 0.0
    ) -> None:
        super().__init__(class_weights, focal_gamma=focal_gamma)

    @staticmethod
    def suits(model: nn.Module) -> bool:
        """Whether `model` has a ``log_likelihood``."""
        return isinstance(model, GivesLogLikelihood) and model.log_likelihood is not None

    def forward(self, model: nn.Module, tokens: Tensor, labels: Tensor) -> Any:
        """Log-probability of each document's label, shape (b,)."""
        return cast(GivesLogLikelihood, model).log_likelihood(tokens, labels)

    def loss(self, outputs: Any, labels: Tensor) -> Float[Tensor, ""]:
        """The weighted mean of the negative log-likelihoods."""
        weights = self.weights
        each = -_wide(outputs)
        share = torch.ones_like(each) if weights is None else weights[labels].to(each.dtype)
        if self.focal_gamma:
            each = each * (-torch.expm1(-each)).clamp(min=1e-12) ** self.focal_gamma
        loss: Tensor = (share * each).sum() / share.sum()
        return loss


class MultiLabel(Objective):
    r"""Each document has any number of labels, none included.

    Labels are a matrix of zeros and ones with a row per document. The link is the sigmoid
    :math:`p = \sigma(z)` of each class; a class is chosen if its probability is at least the
    threshold. The loss is the mean over the documents of the sum over the classes of the binary
    cross-entropy, with a weight :math:`w_k` for documents that have class :math:`k`:

    .. math::
        L = -\frac{1}{n} \sum_{ik} \bigl( w_k y_{ik} (1 - p_{ik})^\gamma \log p_{ik}
            + (1 - y_{ik}) p_{ik}^\gamma \log (1 - p_{ik}) \bigr)

    and with label smoothing :math:`y` becomes :math:`(1 - \varepsilon) y + \varepsilon / 2`. With
    :math:`\gamma > 0` it is the focal loss (Lin et al. 2017, https://arxiv.org/abs/1708.02002), in
    which decisions that have become easy count less.

    Differs from ``F.binary_cross_entropy_with_logits``, which also takes the mean over the classes:
    with 3,000 classes, the gradients would be 3,000 times smaller, and because of Adam's
    :math:`\epsilon` the word vectors would hardly be updated. The sum is the negative
    log-likelihood of a document's labels, just as the cross-entropy is that of a single label.

    Args:
        positive_weights: :math:`w`, shape (c,); None for 1 each.
        label_smoothing: :math:`\varepsilon`.
        threshold: Lowest probability of a chosen class, one for all or one per class. None
            evaluates with the single threshold that has the highest micro-F1 on the evaluated
            documents, which compares epochs by what they achieve once a threshold has been chosen.
        focal_gamma: :math:`\gamma`.

    Raises:
        UserError: A weight is negative or not finite, or a threshold is outside of [0, 1].
    """

    def __init__(
        self,
        positive_weights: Float[Tensor, " c"] | None = None,
        label_smoothing: float = 0.0,
        threshold: float | Float[Tensor, " c"] | None = 0.5,
        focal_gamma: float = 0.0,
    ) -> None:
        _check(label_smoothing, focal_gamma)
        try:
            low = torch.as_tensor(0.5 if threshold is None else threshold)
            within = bool((low >= 0).all() and (low <= 1).all())
        except (TypeError, ValueError, RuntimeError):
            within = False
        if not within:
            raise UserError(f"threshold must be at least 0 and at most 1, not {threshold}")
        self.weights = _weights("positive_weights", positive_weights)
        self.label_smoothing, self.focal_gamma = label_smoothing, focal_gamma
        self.threshold = threshold

    def loss(self, outputs: Any, labels: Tensor) -> Float[Tensor, ""]:
        """Mean over the documents of the binary cross-entropies of their labels."""
        z, smooth = _wide(outputs), self.label_smoothing
        y = (1 - smooth) * labels.to(z.dtype) + smooth / 2
        n = max(1, len(z))
        if not self.focal_gamma:
            weights = None if self.weights is None else self.weights.to(z.dtype)
            summed = F.binary_cross_entropy_with_logits(z, y, pos_weight=weights, reduction="sum")
            return summed / n
        log_p, log_q = F.logsigmoid(z), F.logsigmoid(-z)
        w = 1.0 if self.weights is None else self.weights
        positive = w * y * (self.focal_gamma * log_q).exp() * log_p
        negative = (1 - y) * (self.focal_gamma * log_p).exp() * log_q
        return -(positive + negative).sum() / n

    def evaluate(
        self,
        model: nn.Module,
        documents: Examples,
        *,
        device: torch.device | str = "cpu",
        amp: bool = False,
        group: Group = ALONE,
    ) -> MultiLabelMetrics:
        """F1 in its three averages, and the other figures of `MultiLabelMetrics`."""
        found = cast(Documents, documents)
        labels: Any = found.labels
        classes = labels.shape[1] if isinstance(labels, np.ndarray) else labels.classes
        where: dict[str, Any] = {"device": device, "amp": amp, "group": group}
        logits = scores(model, found, classes=classes, **where)
        return multi_label_metrics(logits, labels, self.decision(logits, labels), whose=None)

    def decision(self, logits: Float[Tensor, "n c"], labels: Any) -> Decision:
        """The thresholds; if none is set, the best one for these documents."""
        threshold: Any = self.threshold
        if threshold is None:
            threshold = choose_thresholds(self.link(logits), labels, "one")
        elif isinstance(threshold, Tensor):
            threshold = tuple(threshold.tolist()) if threshold.dim() else float(threshold)
        return Decision(threshold=threshold)

    def draw(
        self, board: Board, figures: MultiLabelMetrics, documents: Documents, **where: Any
    ) -> None:
        """A table of the labels, the worst first."""
        board.label_table(figures, **where)
        place = {"step": where["step"], "split": where["split"]}
        board.reliability(figures.reliability, **place, what="true")

    @staticmethod
    def link(logits: Float[Tensor, "n c"]) -> Float[Tensor, "n c"]:
        """Probability of each class, independent of the others."""
        return logits.sigmoid()

    def decide(self, logits: Float[Tensor, "n c"]) -> Bool[Tensor, "n c"]:
        """Which classes are chosen."""
        threshold = 0.5 if self.threshold is None else self.threshold
        return self.link(logits) >= torch.as_tensor(threshold).to(logits.device)


class Sequence(Objective):
    r"""The label is a sequence, predicted token by token from the true tokens before it.

    Labels (b, u) consist of the start token, the target, the end token, and padding. The model maps
    tokens and labels to scores of the next token at each position. The link is the softmax over the
    vocabulary, the decision the most probable token (for a whole sequence: beam search). The loss
    is the mean cross-entropy over the tokens that are not padding.

    Args:
        label_smoothing: Share of the target spread over all tokens.
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        _check(label_smoothing)
        self.label_smoothing = label_smoothing

    @staticmethod
    def targets(labels: Int[Tensor, "b u"]) -> Int[Tensor, " n"]:
        """The token to predict at each position; at padding -100, which cross-entropy ignores."""
        target = labels[:, 1:]
        return target.masked_fill(target == PAD, -100).flatten()

    def forward(self, model: nn.Module, tokens: Tensor, labels: Tensor) -> Any:
        """Scores of the next token at each position, (b·(u-1), vocabulary)."""
        logits: Tensor = model(tokens, labels[:, :-1])  # b u v
        return logits.flatten(0, 1)

    def loss(self, outputs: Any, labels: Tensor) -> Float[Tensor, ""]:
        """Mean cross-entropy per token."""
        target = self.targets(labels)
        return mean_loss(_wide(outputs), target, None, self.label_smoothing)

    def size(self, labels: Tensor) -> Float[Tensor, ""]:
        """Number of tokens that are not padding."""
        return (self.targets(labels) >= 0).sum().float()

    def evaluate(
        self,
        model: nn.Module,
        documents: Examples,
        *,
        device: torch.device | str = "cpu",
        amp: bool = False,
        group: Group = ALONE,
    ) -> SequenceMetrics:
        """Loss and accuracy per token."""
        device = torch.device(device)
        batches = list(by_length(documents.lengths, _BATCH_TOKENS))
        sums = torch.zeros(len(batches), 3, dtype=torch.float64, device=device)
        autocast = torch.autocast(device.type, torch.bfloat16, enabled=amp)
        with evaluating(model), torch.inference_mode(), autocast:
            for i in group.own_batches(range(len(batches))):
                batch = documents.batch(batches[i])
                tokens, labels = (x.to(device, non_blocking=True) for x in batch)
                logits, target = self.forward(model, tokens, labels), self.targets(labels)
                loss = F.cross_entropy(logits.float(), target, reduction="sum")
                correct = logits.argmax(-1) == target
                sums[i] = torch.stack([loss, correct.sum(), (target >= 0).sum()])
        whole = torch.zeros(3, dtype=torch.float64)
        for row in group.merge([sums.cpu()], batches)[0]:  # the same order for any number of them
            whole += row
        total, correct_tokens, count = whole.tolist()
        return SequenceMetrics(total / max(1, count), correct_tokens / max(1, count), int(count))

    def draw(self, board: Board, figures: Any, documents: Any, **where: Any) -> None:
        """Draw nothing."""


def mean_loss(
    logits: Float[Tensor, "n c"],
    labels: Int[Tensor, " n"],
    weights: Float[Tensor, " c"] | None = None,
    smoothing: float = 0.0,
    focal_gamma: float = 0.0,
) -> Float[Tensor, ""]:
    """The loss of `SingleLabel`.

    Args:
        logits: Scores.
        labels: True classes; rows with a negative one are ignored.
        weights: Weight of each class; None for 1 each.
        smoothing: Share of the target spread over all classes.
        focal_gamma: Exponent of the focal loss.
    """
    weights = weights if weights is None else weights.to(logits.dtype)
    if focal_gamma == 0 and (weights is None or smoothing == 0):
        return F.cross_entropy(logits, labels, weights, label_smoothing=smoothing)
    each = F.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="none")
    known, label = labels >= 0, labels.clamp(min=0)
    if focal_gamma:
        # 1 - p as the sum of the other probabilities: exact, with a gradient, where p rounds to 1.
        true = torch.arange(logits.shape[-1], device=logits.device) == label.unsqueeze(-1)
        others = logits.log_softmax(-1).masked_fill(true, -torch.inf).logsumexp(-1)
        each = each * (focal_gamma * others).exp()
    share = known if weights is None else weights[label] * known
    return (share * each).sum() / share.sum()


def _wide(scores: Tensor) -> Tensor:
    """Scores in float32; those in float64 remain so."""
    return scores if scores.dtype is torch.float64 else scores.float()


def _weights(name: str, weights: Any) -> Float[Tensor, " c"] | None:
    """Class weights as float32, checked."""
    if weights is None:
        return None
    try:
        found = torch.as_tensor(weights, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{name} must be numbers, one per class, not {weights!r}") from error
    if found.dim() != 1 or not bool((found.isfinite() & (found >= 0)).all()):
        raise UserError(f"{name} must be finite and at least 0, not {weights}")
    return found


def _check(label_smoothing: Any, focal_gamma: Any = 0.0) -> None:
    given = {"label_smoothing": label_smoothing, "focal_gamma": focal_gamma}
    check({"label_smoothing": Share, "focal_gamma": NotNegative}, given)
