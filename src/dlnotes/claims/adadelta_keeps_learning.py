"""Adadelta keeps learning after many updates."""

from __future__ import annotations

import math

from matplotlib.figure import Figure

from dlnotes.claims import moving_targets
from dlnotes.claims.claim import Budget, Claim, Finding
from dlnotes.claims.races import Method
from dlnotes.claims.statistics import decide, student_interval

FACTOR = 2


def experiment(budget: Budget, ours: str = "adadelta") -> Finding:
    """Let Adadelta learn a target that moves late; Adagrad beside it."""
    found = {
        name: moving_targets.pursue(Method.named(name), budget)
        for name in dict.fromkeys((ours, "adagrad"))
    }
    lost = moving_targets.lost(found[ours], moving_targets.LONGER[-1])
    low, high = student_interval(lost)
    figure = Figure(figsize=(9, 4), layout="constrained")
    errors, step_sizes = figure.subplots(1, 2)
    moving_targets.draw(errors, step_sizes, found)
    return Finding(
        verdict=decide(-lost, margin=-math.log10(FACTOR)),
        effect=float(10 ** lost.mean()),
        effect_name=(
            f"{ours}: error on the second target / on the first, after equally many updates"
        ),
        interval=(10**low, 10**high),
        runs=moving_targets.runs(found),
        numbers=moving_targets.rows(found),
        figure=figure,
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
