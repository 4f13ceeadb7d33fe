"""Adadelta keeps learning after many updates."""

from __future__ import annotations

import math

from dlnotes.claims import moving_targets
from dlnotes.claims.claim import Budget, Claim, Finding
from dlnotes.claims.races import Method
from dlnotes.claims.statistics import decide

FACTOR = 2


def experiment(budget: Budget, ours: str = "adadelta") -> Finding:
    """Let Adadelta, and Adagrad for comparison, learn a target that moves late."""
    found = {
        name: moving_targets.pursue(Method.named(name), budget)
        for name in dict.fromkeys((ours, "adagrad"))
    }
    lost = moving_targets.lost(found[ours], moving_targets.LONGER[-1])
    return Finding(
        verdict=decide(-lost, margin=-math.log10(FACTOR)),
        **moving_targets.about(found, ours),
        left_out="Networks; other ρ and ε than the defaults.",
    )


CLAIM = Claim(
    name="adadelta-keeps-learning",
    notes="§8, 9",
    sentence="Adadelta keeps learning after many updates.",
    hypothesis=(
        "On least squares with random examples, at the rate that is best for the first "
        f"{moving_targets.PHASE} updates, Adadelta learns a target that moves after "
        f"{moving_targets.LONGER[-1] * moving_targets.PHASE} updates less than {FACTOR} times "
        "worse than the first one in as many updates."
    ),
    criterion=(
        f"Holds if the mean log10 ratio of the errors is less than log10({FACTOR}); does not hold "
        "if it is greater; sign-flip test at .05 over twenty seeds."
    ),
    literature=(
        "Its averages forget, so that progress goes on after many updates (Zeiler 2012, "
        "https://arxiv.org/abs/1212.5701)."
    ),
    experiment=experiment,
)
