"""Stochastic gradient descent with one to all examples per update: steps to a common target.

The experiment behind the claims about mini-batches. It follows Shallue et al. 2019,
https://jmlr.org/papers/v20/18-789.html: the learning rate is tuned for each batch size, and the
result is how many updates it takes to reach a fixed training loss.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from dlnotes.claims.claim import Budget
from dlnotes.claims.problems import convergence, digits_splits, network
from dlnotes.claims.races import Method, Problem, seconds_per_step
from dlnotes.claims.targets import Reached, reach
from dlnotes.optim import OPTIMIZERS

TARGET = 0.3
"""Training loss in nats: about 92 % of the digits are right. A quick run stops at 1.5."""

LIMITS = {1: 2400, 4: 800, 16: 300, 64: 160, 256: 160, 1077: 160}
"""Batch size → updates after which a run is given up. The last batch is the whole training set."""


@dataclass
class Size:
    """What a batch size needs.

    Attributes:
        batch_size: Examples per update.
        reached: Updates to the target.
        seconds: Seconds per update, measured once for each seed, so that their spread is a part of
            the spread of the time to the target.
        took: Seconds that it took to find `reached`.
    """

    batch_size: int
    reached: Reached
    seconds: list[float]
    took: float = 0.0


def problem() -> Problem:
    """Digits, a hidden layer of 32 ReLU units."""
    return convergence("digits, 64-32-10", lambda: network(64, 32, 10), digits_splits()[0])


def sweep(budget: Budget, sizes: tuple[int, ...] = tuple(LIMITS)) -> dict[int, Size]:
    """Steps and seconds to the target for batch sizes.

    Args:
        budget: Decides the number of seeds, and keeps results.
        sizes: Keys of `LIMITS`.
    """
    wanted = [(size, budget.quick) for size in sizes]
    missing = [setting for setting in wanted if setting not in _known]
    budget.charge(sum(_known[setting].took for setting in wanted if setting in _known))
    found = budget.map(measure, missing)
    seconds = timed(budget)
    for setting, (reached, took) in zip(missing, found, strict=True):
        _known[setting] = Size(setting[0], Reached(**reached), seconds[setting[0]], took)
    return {setting[0]: _known[setting] for setting in wanted}


def timed(budget: Budget) -> dict[int, list[float]]:
    """Seconds per update for each batch size.

    They are measured in alternation, so that other work of the machine affects all sizes alike, and
    in this process, after the others have ended.
    """

    def compute() -> tuple[list[list[float]], float]:
        began = time.perf_counter()
        learned, method = problem(), Method("SGD", OPTIMIZERS["gradient-descent"])
        rounds = [
            [seconds_per_step(learned, method, 0.1, size) for size in LIMITS]
            for _ in budget.seeds(10)
        ]
        return rounds, time.perf_counter() - began

    if budget.quick in _rounds:
        budget.charge(_rounds[budget.quick][1])
    else:
        _rounds[budget.quick] = budget.cached({"seconds": list(LIMITS)}, compute)
    rounds, _ = _rounds[budget.quick]
    return dict(zip(LIMITS, map(list, zip(*rounds, strict=True)), strict=True))


# Several claims use the same runs, and the seconds of these count for each of them.
_known: dict[tuple[int, bool], Size] = {}
_rounds: dict[bool, tuple[list[list[float]], float]] = {}


def measure(setting: tuple[int, bool]) -> tuple[dict[str, Any], float]:
    """The updates that a batch size needs, as a mapping, and the seconds that this took.

    Args:
        setting: The batch size, and whether the run is quick.
    """
    began = time.perf_counter()
    size, quick = setting
    # The best rate grows with the batch size up to the limit that the loss surface sets.
    middle = min(1.0, 0.06 * size**0.6)
    rates = tuple(middle * 2**k for k in (-1, 0, 1))
    method = Method("SGD", OPTIMIZERS["gradient-descent"], rates=rates)
    learned = problem()
    reached = reach(
        1.5 if quick else TARGET,
        learned,
        method,
        Budget(quick=quick),
        steps=LIMITS[size] // (4 if quick else 1),
        batch_size=size,
    )
    return asdict(reached), time.perf_counter() - began


def rows(sizes: dict[int, Size]) -> list[dict[str, str | float]]:
    """A row for each batch size, for `Finding.numbers`."""
    return [
        {
            "batch": size,
            "best rate": found.reached.rate,
            "steps to the target": float(found.reached.counted.mean()),
            "examples to the target": float(size * found.reached.counted.mean()),
            "seconds to the target": float(np.mean(found.seconds * found.reached.counted)),
            "missed": found.reached.misses,
            "µs an example": 1e6 * float(np.median(found.seconds)) / size,
        }
        for size, found in sizes.items()
    ]


def bends(sizes: dict[int, Size]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    r"""The batch size at which the number of steps stops falling as 1/B, for each seed.

    It is the B* of the best fit, in logarithms, of McCandlish et al.'s law
    (https://arxiv.org/abs/1812.06162, eq. 2.11) with any factor a:

    .. math::
        \text{steps} = a (1 + B^* / B)
    """
    batch = np.array(list(sizes))[:, None]
    steps = np.log(np.stack([found.reached.counted for found in sizes.values()]))
    tried = np.geomspace(1, 1000, 301)
    errors = [(steps - np.log1p(bend / batch)).var(axis=0) for bend in tried]
    found: np.ndarray[tuple[int], np.dtype[np.float64]] = tried[np.argmin(errors, axis=0)]
    return found


def runs(sizes: dict[int, Size]) -> int:
    """The number of trainings of a sweep; each claim that uses it counts all of them."""
    return sum(f.reached.trials + len(f.reached.steps) for f in sizes.values())


def draw(axes: Axes, sizes: dict[int, Size], what: str) -> None:
    """Draw steps, examples or seconds to the target against the batch size.

    Args:
        axes: Where.
        sizes: From `sweep`.
        what: "steps", "examples" or "seconds".
    """
    x = np.array(list(sizes))
    factor = {
        "steps": np.ones((len(x), 1)),
        "examples": x[:, None],
        "seconds": np.array([found.seconds for found in sizes.values()]),
    }[what]
    y = factor * np.stack([found.reached.counted for found in sizes.values()])
    axes.loglog(x, y, "o", color="C0", alpha=0.3, markersize=4)
    axes.loglog(x, y.mean(1), "o-", color="C0")
    axes.set(xlabel="examples of a batch", ylabel=f"{what} to the target")
    axes.set_xticks(x, map(str, x))
    axes.minorticks_off()
