"""Too large a batch needs more time for the same loss.

Changed after a first run: the best of the smaller batches is chosen on other seeds than the one on
which it is compared, and the seconds per update are measured for each seed.
"""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from dlnotes.claims import batch_sizes
from dlnotes.claims.claim import Budget, Claim, Finding
from dlnotes.claims.statistics import against_the_closest, decide, student_interval

FACTOR = 1.5


def experiment(budget: Budget) -> Finding:
    """Compare the whole training set with batches of sixteen to a quarter of it."""
    sizes = batch_sizes.sweep(budget, (16, 64, 256, 1077))
    whole = max(sizes)
    time = {n: np.log2(found.reached.counted * found.seconds) for n, found in sizes.items()}
    best = min((n for n in sizes if n != whole), key=lambda n: time[n].mean())
    lost = -np.array(against_the_closest(time[whole], [time[n] for n in sizes if n != whole]))
    low, high = student_interval(lost)
    figure = Figure(figsize=(9, 4), layout="constrained")
    for axes, what in zip(figure.subplots(1, 2), ("examples", "seconds"), strict=True):
        batch_sizes.draw(axes, sizes, what)
    return Finding(
        verdict=decide(lost, margin=np.log2(FACTOR)),
        effect=float(2 ** lost.mean()),
        effect_name=(
            f"time to the target, whole training set / the best of smaller batches (mostly {best})"
        ),
        interval=(2**low, 2**high),
        runs=batch_sizes.runs(sizes),
        numbers=batch_sizes.rows(sizes),
        figure=figure,
        left_out="Memory; a machine that computes all examples of a batch at once.",
    )


CLAIM = Claim(
    name="too-large-batch-needs-more-time",
    notes="§8, 7",
    sentence="Too large a batch needs more total time for the same accuracy.",
    hypothesis=(
        "At the best rate of each, gradient descent with the whole training set in a batch takes "
        f"more than {FACTOR} times as long to a training loss of {batch_sizes.TARGET} on the "
        "digits as with the fastest of smaller batches."
    ),
    criterion=(
        f"Holds if the mean of log2(time ratio) over ten paired seeds is greater than "
        f"log2({FACTOR}), the fastest smaller batch being chosen for each seed by the nine others; "
        "does not hold if it is smaller; sign-flip test at .05."
    ),
    literature=(
        "The examples that are needed are constant up to some size of the batch and grow with it "
        "afterwards (Shallue et al. 2019, https://jmlr.org/papers/v20/18-789.html)."
    ),
    experiment=experiment,
)
