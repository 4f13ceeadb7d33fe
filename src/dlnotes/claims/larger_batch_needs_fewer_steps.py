"""Within reason, a larger batch needs fewer updates and less time.

Changed after a first run: the tests are corrected for their number, the largest batch size is only
stated where they decide, and the seconds per update are measured for each seed.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from matplotlib.figure import Figure

from dlnotes.claims import batch_sizes
from dlnotes.claims.claim import Budget, Claim, Finding, Verdict
from dlnotes.claims.statistics import decide_each, student_interval, together


def experiment(budget: Budget) -> Finding:
    """Compare each batch size with the next smaller one, in updates and in seconds."""
    sizes = batch_sizes.sweep(budget)
    order = list(sizes)
    steps = {size: np.log2(sizes[size].reached.counted) for size in order}
    seconds = {size: steps[size] + np.log2(sizes[size].seconds) for size in order}
    numbers = batch_sizes.rows(sizes)
    last = order[0]  # each larger batch up to this one was better in updates and seconds
    steps_up = list(pairwise(order))
    tested = decide_each(
        [of[small] - of[large] for of in (steps, seconds) for small, large in steps_up]
    )
    fewer, faster = tested[: len(steps_up)], tested[len(steps_up) :]
    better = [together(pair) for pair in zip(fewer, faster, strict=True)]
    for row, by_steps, by_time in zip(numbers[1:], fewer, faster, strict=True):
        row |= {"fewer updates than before": by_steps.value, "less time": by_time.value}
    numbers[0] |= {"fewer updates than before": "", "less time": ""}
    beyond = Verdict.HOLDS  # why the next larger batch is not shown to be better
    for (_, large), each in zip(steps_up, better, strict=True):
        if each is not Verdict.HOLDS:
            beyond = each
            break
        last = large
    verdict = beyond
    if last != order[0] and beyond is not Verdict.HOLDS:
        verdict = Verdict.HOLDS_ONLY_IF
    compared = last if last != order[0] else order[1]
    total = seconds[order[0]] - seconds[compared]
    low, high = student_interval(total)

    figure = Figure(figsize=(9, 4), layout="constrained")
    for axes, what in zip(figure.subplots(1, 2), ("steps", "seconds"), strict=True):
        batch_sizes.draw(axes, sizes, what)
        axes.axvline(last, color="gray", linestyle=":")
    return Finding(
        verdict=verdict,
        condition=f"the batch has at most {last} examples"
        + "; beyond, it is not decided" * (beyond is Verdict.NOT_DECIDED)
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
        "this is no longer shown; does not hold if four examples are already worse than one in "
        "either; else not decided. Sign-flip tests over ten paired seeds, corrected for their "
        "number by Holm, at .05."
    ),
    literature=(
        "Perfect scaling, then diminishing returns, then none, on every problem tried (Shallue et "
        "al. 2019, https://jmlr.org/papers/v20/18-789.html)."
    ),
    experiment=experiment,
)
