"""Within reason, a larger batch needs fewer updates and less time."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from matplotlib.figure import Figure

from dlnotes.claims import batch_sizes
from dlnotes.claims.claim import Budget, Claim, Finding, Verdict
from dlnotes.claims.statistics import LEAST_PAIRS, decide, student_interval


def experiment(budget: Budget) -> Finding:
    """Compare each batch size with the next smaller one, in updates and in seconds."""
    sizes = batch_sizes.sweep(budget)
    order = list(sizes)
    steps = {size: np.log2(sizes[size].reached.counted) for size in order}
    seconds = {size: steps[size] + np.log2(sizes[size].seconds) for size in order}
    numbers = batch_sizes.rows(sizes)
    last = order[0]  # up to here each larger batch has been better in both
    saved = False
    for i, (small, large) in enumerate(pairwise(order)):
        fewer = decide(steps[small] - steps[large])
        faster = decide(seconds[small] - seconds[large])
        numbers[i + 1] |= {"fewer updates than before": fewer.value, "less time": faster.value}
        if fewer is faster is Verdict.HOLDS and last == small:
            last = large
            saved = True
    numbers[0] |= {"fewer updates than before": "", "less time": ""}
    compared = last if saved else order[1]
    total = seconds[order[0]] - seconds[compared]
    low, high = student_interval(total)

    figure = Figure(figsize=(9, 4), layout="constrained")
    for axes, what in zip(figure.subplots(1, 2), ("steps", "seconds"), strict=True):
        batch_sizes.draw(axes, sizes, what)
        axes.axvline(last, color="gray", linestyle=":")
    verdict = Verdict.HOLDS_ONLY_IF if saved else Verdict.DOES_NOT_HOLD
    if last == order[-1]:
        verdict = Verdict.HOLDS
    if len(total) < LEAST_PAIRS:
        verdict = Verdict.NOT_DECIDED
    return Finding(
        verdict=verdict,
        condition=f"the batch has at most {last} examples"
        if verdict is Verdict.HOLDS_ONLY_IF
        else "",
        effect=float(2 ** total.mean()),
        effect_name=f"time to the target, single examples / batches of {compared}",
        interval=(2**low, 2**high),
        runs=batch_sizes.runs(sizes),
        numbers=numbers,
        figure=figure,
        left_out="Other problems; seconds are those of one thread of a CPU.",
    )


CLAIM = Claim(
    name="larger-batch-needs-fewer-steps",
    notes="§8, 7",
    sentence="Within reason, a larger batch needs fewer iterations and uses the hardware better.",
    hypothesis=(
        "Each batch that is four times as large reaches a training loss of "
        f"{batch_sizes.TARGET} on the digits in fewer updates and in less time, at the best rate."
    ),
    criterion=(
        "Holds if that is so up to the whole training set; holds only up to the size after which "
        "it is no longer so; does not hold if already four examples are no better than one. For "
        "each step the sign-flip test at .05 over ten paired seeds."
    ),
    literature=(
        "Perfect scaling, then diminishing returns, then none, on every problem tried (Shallue et "
        "al. 2019, https://jmlr.org/papers/v20/18-789.html)."
    ),
    experiment=experiment,
)
