"""An example in a mini-batch costs a fraction of what it costs alone."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.figure import Figure

from dlnotes.claims.batch_sizes import problem
from dlnotes.claims.claim import Budget, Claim, Finding
from dlnotes.claims.races import Method, seconds_per_step
from dlnotes.claims.statistics import decide, student_interval

SIZES = (1, 4, 16, 64, 256, 1024)
COMPARED = 64
FACTOR = 10


def times(budget: Budget) -> list[list[float]]:
    """Seconds per example for each round and batch size.

    A round measures all sizes, so that other work of the machine affects them alike.
    """
    learned, method = problem(), Method.named("gradient-descent")
    return [
        [seconds_per_step(learned, method, 0.1, size) / size for size in SIZES]
        for _ in budget.seeds(10)
    ]


def experiment(budget: Budget) -> Finding:
    """Time an update for each batch size, in several rounds."""
    seconds = np.array(budget.cached({"times": SIZES}, lambda: times(budget)))
    factors = np.log10(seconds[:, 0] / seconds[:, SIZES.index(COMPARED)])
    low, high = student_interval(factors)

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.loglog(SIZES, 1e6 * seconds.T, color="C0", alpha=0.3)
    axes.loglog(SIZES, 1e6 * np.median(seconds, axis=0), "o-", color="C0", label="median")
    alone = 1e6 * np.median(seconds[:, 0])
    axes.loglog(
        SIZES, alone / np.array(SIZES), "--", color="gray", label="an update costs the same"
    )
    axes.set(xlabel="examples of a batch", ylabel="µs an example")
    axes.set_xticks(SIZES, map(str, SIZES))
    axes.legend()
    return Finding(
        verdict=decide(factors, margin=math.log10(FACTOR)),
        effect=float(10 ** factors.mean()),
        effect_name=f"time of an example alone / in a batch of {COMPARED}",
        interval=(10**low, 10**high),
        runs=0,
        numbers=[
            {"batch": size, "µs an example": float(1e6 * np.median(seconds[:, i]))}
            for i, size in enumerate(SIZES)
        ],
        figure=figure,
        left_out="One small network on one thread of the CPU; GPUs gain more.",
    )


CLAIM = Claim(
    name="mini-batch-costs-less-per-example",
    notes="§8, 6",
    sentence="Matrix operations make an example of a mini-batch much cheaper than one alone.",
    hypothesis=(
        f"An update of a 64-32-10 network takes less than 1/{FACTOR} of the time per example with "
        f"a batch of {COMPARED}."
    ),
    criterion=(
        f"Holds if the mean of log10(time alone / time in the batch) over ten rounds is greater "
        f"than {math.log10(FACTOR):g}; does not hold if it is smaller; sign-flip test at .05."
    ),
    literature=(
        "The time of an update is constant until the hardware is full (Shallue et al. 2019, "
        "https://jmlr.org/papers/v20/18-789.html)."
    ),
    experiment=experiment,
)
