"""Adagrad's effective learning rate shrinks, so that training ends early.

Changed after earlier runs: where the target does not change, Adagrad is compared with an Adagrad
whose effective rate is frozen after the first phase. Before, a rule was compared with itself at the
end of that phase, so that one that had merely reached its noise level also seemed to have ended
early.
"""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor

from dlnotes.claims import moving_targets
from dlnotes.claims.claim import Budget, Claim, Finding, Verdict
from dlnotes.claims.races import Method
from dlnotes.claims.statistics import decide_each
from dlnotes.optim import Adagrad

FACTOR = 2
KEPT = "adagrad, rate kept after the first phase"


class KeptAdagrad(Adagrad):
    """Adagrad for the first phase; after it, the effective learning rate is frozen."""

    @staticmethod
    def rule(  # type: ignore[override]  # it also counts updates
        theta: Tensor, g: Tensor, G: Tensor, *, t: float, lr: float, eps: float
    ) -> tuple[Tensor, Tensor]:
        """G grows up to the end of the phase."""
        if t <= moving_targets.PHASE:
            G = G + g**2
        return theta - lr * g / (G + eps).sqrt(), G


def experiment(budget: Budget, ours: str = "adagrad") -> Finding:
    """Let Adagrad and its controls learn a target that moves and one that does not."""
    methods = [Method.named(name) for name in (ours, "gradient-descent")]
    methods.append(Method(KEPT, KeptAdagrad))
    found = {method.name: moving_targets.pursue(method, budget) for method in methods}
    longest = moving_targets.LONGER[-1]
    lost = moving_targets.lost(found[ours], longest)
    behind = np.log10(found[ours].at_rest) - np.log10(found[KEPT].at_rest)
    moved, ended = decide_each([lost, behind], margin=math.log10(FACTOR))
    verdict, condition = moved, ""
    if moved is Verdict.HOLDS and ended is not Verdict.HOLDS:
        verdict, condition = Verdict.HOLDS_ONLY_IF, "the target moves during training"
        if ended is Verdict.NOT_DECIDED:
            condition += "; it is not decided for one at rest"
    return Finding(
        verdict=verdict,
        condition=condition,
        **moving_targets.about(found, ours),
        left_out="Networks, whose gradients change during training without any new data.",
    )


CLAIM = Claim(
    name="adagrad-ends-early",
    notes="§8, 9",
    sentence="Adagrad's effective learning rate shrinks towards 0, so that training ends early.",
    hypothesis=(
        "On least squares with random examples, at the rate that is best for the first "
        f"{moving_targets.PHASE} updates, Adagrad learns a target that moves after "
        f"{moving_targets.LONGER[-1] * moving_targets.PHASE} updates more than {FACTOR} times "
        "worse than the first one in as many updates; and without a change its error after those "
        f"updates is more than {FACTOR} times that of an Adagrad whose effective rate stays as it "
        f"is after the first {moving_targets.PHASE}."
    ),
    criterion=(
        "Holds if both are so; holds with the condition that the target moves, if only the first "
        f"is shown; does not hold if a late target is learned less than {FACTOR} times worse; else "
        "not decided. Sign-flip tests of log10 ratios over twenty seeds, corrected by Holm, at .05."
    ),
    literature=(
        "Adadelta was made against this decay (Zeiler 2012, https://arxiv.org/abs/1212.5701); for "
        "convex problems at rest it is what makes Adagrad converge (Duchi et al. 2011, "
        "https://jmlr.org/papers/v12/duchi11a.html)."
    ),
    experiment=experiment,
)
