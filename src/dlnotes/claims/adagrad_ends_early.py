"""Adagrad's effective learning rate shrinks, so that training ends early.

Changed after a first run: without a change of the target, Adagrad is compared with itself at the
end of the first phase. Gradient descent at a constant rate stays at the level of its noise, so
Adagrad is ahead of it there by design.
"""

from __future__ import annotations

import math

import numpy as np
from matplotlib.figure import Figure

from dlnotes.claims import moving_targets
from dlnotes.claims.claim import Budget, Claim, Finding, Verdict
from dlnotes.claims.races import Method
from dlnotes.claims.statistics import decide_each, student_interval

FACTOR = 2


def experiment(budget: Budget, ours: str = "adagrad") -> Finding:
    """Let Adagrad and gradient descent learn a target that moves, and one that does not."""
    found = {
        name: moving_targets.pursue(Method.named(name), budget)
        for name in (ours, "gradient-descent")
    }
    longest = moving_targets.LONGER[-1]
    lost = moving_targets.lost(found[ours], longest)
    progress = np.log10(found[ours].before) - np.log10(found[ours].at_rest)
    margin = math.log10(FACTOR)
    moved, ended = decide_each([lost - margin, margin - progress])
    verdict, condition = moved, ""
    if moved is Verdict.HOLDS and ended is not Verdict.HOLDS:
        verdict, condition = Verdict.HOLDS_ONLY_IF, "the target moves during training"
        if ended is Verdict.NOT_DECIDED:
            condition += "; it is not decided for one at rest"
    low, high = student_interval(lost)
    figure = Figure(figsize=(9, 4), layout="constrained")
    errors, step_sizes = figure.subplots(1, 2)
    moving_targets.draw(errors, step_sizes, found)
    return Finding(
        verdict=verdict,
        condition=condition,
        effect=float(10 ** lost.mean()),
        effect_name=(
            f"{ours}: error on the second target / on the first, after equally many updates"
        ),
        interval=(10**low, 10**high),
        runs=moving_targets.runs(found),
        numbers=moving_targets.rows(found),
        figure=figure,
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
        f"updates is more than 1/{FACTOR} of that after the first {moving_targets.PHASE}."
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
