"""Mini-batches need far fewer updates than single examples."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.figure import Figure

from dlnotes.claims import batch_sizes
from dlnotes.claims.claim import Budget, Claim, Finding
from dlnotes.claims.statistics import decide, student_interval

COMPARED = 64
FACTOR = 5


def experiment(budget: Budget) -> Finding:
    """Count the updates to a training loss for single examples and for mini-batches."""
    sizes = batch_sizes.sweep(budget, (1, 16, COMPARED))
    ratios = np.log10(sizes[1].reached.counted / sizes[COMPARED].reached.counted)
    low, high = student_interval(ratios)
    figure = Figure(figsize=(6, 4), layout="constrained")
    batch_sizes.draw(figure.subplots(), sizes, "steps")
    return Finding(
        verdict=decide(ratios, margin=math.log10(FACTOR)),
        effect=float(10 ** ratios.mean()),
        effect_name=f"updates to the target, single examples / batches of {COMPARED}",
        interval=(10**low, 10**high),
        runs=batch_sizes.runs(sizes),
        numbers=batch_sizes.rows(sizes),
        figure=figure,
        left_out="Other problems, other rules than gradient descent.",
    )


CLAIM = Claim(
    name="mini-batch-needs-fewer-steps",
    notes="§8, 6",
    sentence="Mini-batch gradient descent needs far fewer iterations than single examples do.",
    hypothesis=(
        f"At the best rate of each, batches of {COMPARED} reach a training loss of "
        f"{batch_sizes.TARGET} on the digits in less than 1/{FACTOR} of the updates."
    ),
    criterion=(
        "Holds if the mean of log10(updates with single examples / updates with batches) over ten "
        f"paired seeds is greater than log10({FACTOR}); does not hold if it is smaller; sign-flip "
        "test at .05."
    ),
    literature=(
        "Updates fall as 1/B at first, so that 64 examples would need 1/64 of them at best "
        "(Shallue et al. 2019, https://jmlr.org/papers/v20/18-789.html)."
    ),
    experiment=experiment,
)
