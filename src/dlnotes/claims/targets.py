"""How many updates a method needs to reach a target, at the learning rate that is best for it.

AlgoPerf (https://arxiv.org/abs/2306.07179) measures training speed this way. A run that misses
the target counts as infinitely many updates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from dlnotes.claims.claim import Budget
from dlnotes.claims.races import Method, Problem, Run, train

_STEP = 2.0  # factor between two rates
_EXTENSIONS = 4


@dataclass
class Reached:
    """How fast a target was reached.

    Attributes:
        rate: The best learning rate.
        steps: Updates until the target for each seed; infinite where it was missed.
        limit: Updates after which a run was given up.
        trials: Runs that the choice of the rate took.
    """

    rate: float
    steps: list[float]
    limit: int
    trials: int

    @property
    def counted(self) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """`steps`, where a miss counts as twice the limit, which favours slow methods."""
        return np.minimum(self.steps, 2.0 * self.limit)

    @property
    def misses(self) -> int:
        """How many runs missed the target."""
        return sum(map(math.isinf, self.steps))


def steps_to(target: float, run: Run, higher_is_better: bool) -> float:
    """When a run first reaches a target, by a straight line between its measurements.

    Args:
        target: The measure on dev to reach.
        run: A training, measured at several steps.
        higher_is_better: Whether the measure grows.
    """
    sign = 1 if higher_is_better else -1
    before = (0, -math.inf)
    for step, value in zip(run.steps, run.dev, strict=True):
        gap = sign * (value - target)
        if gap >= 0:
            earlier, short = before
            return step if not step else earlier + (step - earlier) * short / (short - gap)
        before = step, gap
    return math.inf


def reach(
    target: float,
    problem: Problem,
    method: Method,
    budget: Budget,
    *,
    steps: int,
    batch_size: int,
    seeds: int = 10,
    tuning_seeds: int = 2,
) -> Reached:
    """Measure how many updates a method needs.

    The rate that reaches the target earliest, on seeds of its own, is run again; the rates are
    extended while the best lies on an edge.

    Args:
        target: The value of the problem's measure on dev to reach.
        problem: The problem.
        method: The method; the search for the best rate begins with its rates.
        budget: Decides the number of seeds, and keeps results.
        steps: The limit of updates, also of a quick run.
        batch_size: Examples per update.
        seeds: Number of runs that are reported.
        tuning_seeds: Number of runs at each rate in tuning.
    """

    def compute() -> dict[str, object]:
        better = problem.higher_is_better

        def at(rates: Sequence[float], over: range) -> dict[float, list[Run]]:
            pairs = [(rate, seed) for rate in rates for seed in over]
            runs = train(problem, method, pairs, steps, batch_size)
            return {rate: [run for run in runs if run.rate == rate] for rate in rates}

        def needed(runs: Sequence[Run]) -> list[float]:
            return [steps_to(target, run, better) for run in runs]

        # Of rates that all miss the target, the one that comes closest is the best.
        tried: dict[float, tuple[float, float]] = {}
        new, trials = sorted(method.rates), 0
        for _ in range(_EXTENSIONS + 1):
            over = budget.tuning_seeds(tuning_seeds)
            for rate, runs in at(new, over).items():
                ends = np.array([run.final for run in runs])
                missed_by = np.nan_to_num(-ends if better else ends, nan=np.inf).mean()
                counted = np.minimum(needed(runs), 2.0 * steps).mean()
                tried[rate] = float(counted), float(missed_by)
                trials += len(runs)
            best = min(sorted(tried), key=lambda rate: tried[rate])
            if best not in (min(tried), max(tried)):
                break
            new = [best / _STEP] if best == min(tried) else [best * _STEP]
        last = needed(at([best], budget.seeds(seeds))[best])
        return asdict(Reached(best, last, steps, trials))

    settings = {
        "reach": target,
        "problem": problem.digest,
        **method.settings,
        "rates": list(method.rates),
        "steps": steps,
        "batch_size": batch_size,
        "seeds": seeds,
        "tuning_seeds": tuning_seeds,
    }
    return Reached(**budget.cached(settings, compute))
