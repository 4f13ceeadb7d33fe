"""Averages of classifiers' scores, and the weights of members and documents in ensembles."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from dlnotes.nn.hyperparameters import check_choice, check_integer

AVERAGES = ("probabilities", "logits")


def average_scores(
    scores: Sequence[Float[Tensor, "n c"]],
    weights: Sequence[float],
    kind: str = "probabilities",
    *,
    multi_label: bool = False,
) -> Float[Tensor, "n c"]:
    r"""Scores of an ensemble whose members have the scores :math:`s_k`.

    .. math::
        p = \sum_k w_k\,\mathrm{softmax}(s_k) \quad\text{or}\quad
        p = \mathrm{softmax}\Bigl(\sum_k w_k\,s_k\Bigr), \qquad w_k \ge 0,\ \sum_k w_k = 1

    The mean of probabilities is a vote in which an unsure member counts little either way. The mean
    of logits is the normalised geometric mean of the probabilities: a member that is sure of "no"
    has a veto. Of several labels each has a probability of its own, with the sigmoid in the place
    of the softmax.

    Args:
        scores: ``n c`` of each member, unnormalised.
        weights: :math:`w`, one a member.
        kind: ``probabilities`` or ``logits``.
        multi_label: Whether a document may have several labels.

    Returns:
        ``n c``, :math:`\log p`: its softmax is :math:`p`. Of several labels
        :math:`\log p - \log(1 - p)`, whose sigmoid is :math:`p`.

    Raises:
        ValueError: Weights that are negative or do not add up to 1, another number of weights than
            members, or an unknown kind.
    """
    check_choice("kind", kind, AVERAGES)
    if (
        len(weights) != len(scores)
        or not all(w >= 0 for w in weights)
        or not abs(sum(weights) - 1) <= 1e-6  # NaN is refused too
    ):
        raise ValueError(
            f"weights is {list(weights)!r}; allowed: {len(scores)} numbers of at least 0, of sum 1"
        )
    total = None
    for s, w in zip(scores, weights, strict=True):
        if w > 0:
            total = _plus(total, s, w, kind, multi_label)
    assert total is not None
    return _scores(total, kind, multi_label)


def _plus(
    total: Tensor | None, s: Tensor, w: float, kind: str, multi_label: bool = False
) -> Tensor:
    """A running sum with one more member in it; sums of probabilities are kept as logarithms.

    Of several labels those of the probabilities for and against each: ``2 n c``.
    """
    if kind == "logits":
        return w * s if total is None else total + w * s
    term = torch.stack([F.logsigmoid(s), F.logsigmoid(-s)]) if multi_label else s.log_softmax(-1)
    term = term + torch.tensor(w, dtype=s.dtype).log()
    return term if total is None else torch.logaddexp(total, term)


def _scores(total: Tensor, kind: str, multi_label: bool) -> Tensor:
    """Scores from a running sum."""
    if not multi_label:
        return total.log_softmax(-1)
    return total if kind == "logits" else total[0] - total[1]


def greedy_weights(
    scores: Sequence[Float[Tensor, "n c"]],
    labels: Int[Tensor, " n"],
    *,
    kind: str = "probabilities",
    rounds: int = 50,
    multi_label: bool = False,
    figures: Callable[[Float[Tensor, "n c"]], tuple[float, float]] | None = None,
) -> list[float]:
    """Choose members, and how much each counts, on labelled documents that none has trained on.

    Greedy selection with replacement (Caruana et al. 2004,
    https://doi.org/10.1145/1015330.1015432). Start with an empty ensemble; each round add the
    member with which the ensemble is most accurate (among equals: has the lowest loss, then comes
    first), which may be one that is in it already. A member's share of the additions is its
    weight. The best of all rounds is kept, so that the ensemble is on these documents never worse
    than the best single member, which is the first round's.

    Args:
        scores: ``n c`` of each member, unnormalised.
        labels: ``n``, the true classes; not looked at if there are `figures`.
        kind: What is averaged, see :func:`average_scores`.
        rounds: Members to add.
        multi_label: Whether a document may have several labels.
        figures: What takes the place of accuracy and loss: averaged scores → a figure that is to be
            high and one that is to be low.

    Returns:
        One weight a member, 0 for those left out; their sum is 1.

    Raises:
        ValueError: An unknown kind, or less than one round.
    """
    check_choice("kind", kind, AVERAGES)
    check_integer("rounds", rounds, 1)

    def accuracy_and_loss(log_p: Tensor) -> tuple[float, float]:
        accuracy = (log_p.argmax(-1) == labels).double().mean().item()
        return accuracy, F.nll_loss(log_p, labels).item()

    measure = figures or accuracy_and_loss
    members = [s.double() for s in scores]
    counts, total = [0] * len(members), None
    best, kept = (-1.0, 0.0), counts
    for round_ in range(1, rounds + 1):
        ways = []
        for k, s in enumerate(members):
            sums = _plus(total, s, 1.0, kind, multi_label)
            sums = sums / round_ if kind == "logits" else sums
            accuracy, loss = measure(_scores(sums, kind, multi_label))
            ways.append((accuracy, -loss, -k))
        accuracy, gain, k = max(ways)
        counts[-k] += 1
        total = _plus(total, members[-k], 1.0, kind, multi_label)
        if (accuracy, gain) > best:
            best, kept = (accuracy, gain), counts.copy()
    return [count / sum(kept) for count in kept]


def samme(
    wrong: Bool[Tensor, "k n"], num_classes: int
) -> tuple[Float[Tensor, " k"], Float[Tensor, " n"]]:
    r"""Boosting's weights of members and of documents (SAMME, the AdaBoost of several classes).

    Algorithm 2 of Zhu et al. 2009 (https://doi.org/10.4310/SII.2009.v2.n3.a8), for
    :math:`k = 1, 2, \dots`, with all :math:`d_i = 1/n` at first:

    .. math::
        \mathrm{err}_k = \sum_i d_i\,[k \text{ is wrong on } i], \qquad
        \alpha_k = \log\frac{1-\mathrm{err}_k}{\mathrm{err}_k} + \log(c-1), \qquad
        d_i \propto d_i\,e^{\alpha_k [k \text{ is wrong on } i]}

    Member :math:`k+1` trains on documents drawn with the probabilities :math:`d`, so that it sees
    most of what the members before it get wrong.

    Args:
        wrong: ``k n``, whether a member, in the order of training, misclassifies a document.
        num_classes: :math:`c`.

    Returns:
        ``k``, the members' :math:`\alpha`; ``n``, the documents' :math:`d` for the next member.

    Raises:
        ValueError: A member without an error (nothing is left to learn from), or one that is no
            better than chance, :math:`\mathrm{err} \ge 1 - 1/c`.
    """
    d = torch.full((wrong.shape[1],), 1 / wrong.shape[1], dtype=torch.float64)
    alphas = []
    for k, missed in enumerate(wrong):
        err = d[missed].sum()
        if not 0 < err < 1 - 1 / num_classes:
            raise ValueError(
                f"the weighted error of member {k + 1} is {err.item():.4g}; allowed: above 0 and "
                f"below 1 - 1/{num_classes}"
            )
        alpha = ((1 - err) / err).log() + torch.tensor(num_classes - 1.0).double().log()
        d = d * (alpha * missed).exp()
        d = d / d.sum()
        alphas.append(alpha)
    return torch.stack(alphas), d
