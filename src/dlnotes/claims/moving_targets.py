"""A target that moves after some time: which rules can still follow?

The experiment behind the claims about Adagrad and Adadelta: least squares on new random examples at
each update, whose true weights change once. The change is as large as the distance from the start
to the first weights, so a rule that keeps its ability to learn follows it equally fast.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from dlnotes.claims.claim import Budget
from dlnotes.claims.races import Method
from dlnotes.claims.statistics import student_interval

Array = NDArray[np.float64]

WEIGHTS = 20
PHASE = 200
"""Updates in which a rule is tuned to learn the first target."""

LONGER = (1, 4, 16)
"""Numbers of phases after which the target moves."""

_BATCH = 5
_NOISE = 1.0  # compared with targets of standard deviation √20
_MEASURED = 20  # updates at the end of a phase, over which the error is averaged


@dataclass
class Pursuit:
    """How a rule followed.

    Attributes:
        rate: Its learning rate, the best for the first phase.
        before: Squared distance to the first target after one phase, relative to that of the
            start, for each seed.
        at_rest: The same after 16 phases without a change.
        after: For each entry of `LONGER` the same for the second target, a phase after the change.
        curves: For each entry of `LONGER` the mean over seeds after each update.
        step_sizes: The factor of the gradient in the step, as a geometric mean over weights and
            seeds, after each update of the longest run before the change.
        trials: Runs that the choice of the rate took.
    """

    rate: float
    before: list[float]
    at_rest: list[float]
    after: list[list[float]]
    curves: list[list[float]]
    step_sizes: list[float]
    trials: int


def follow(
    method: Method, rates: list[float], seeds: list[int], change: int, steps: int
) -> tuple[Array, Array]:
    """Train one run for each pair of a rate and a seed.

    Args:
        method: The rule; elementwise.
        rates: The rate of each run.
        seeds: The seed of each run.
        change: Updates before the target moves.
        steps: Updates in all.

    Returns:
        Relative squared distances to the current target, ``(steps + 1, runs)``, before each update
        and after the last; and geometric means over weights of what multiplied the gradient,
        ``(steps, runs)``.
    """
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def normal(*shape: int) -> Tensor:
        return torch.stack(
            [torch.randn(*shape, dtype=torch.float64, generator=g) for g in generators]
        )

    target, move = normal(WEIGHTS), normal(WEIGHTS)
    move *= target.norm(dim=1, keepdim=True) / move.norm(dim=1, keepdim=True)
    start = target.square().sum(dim=1)
    rule = method.rule
    lr = torch.tensor(rates, dtype=torch.float64).unsqueeze(1)
    theta = torch.zeros_like(target)
    group = rule([theta], lr=1.0, **method.hyper).param_groups[0]
    hyper = {name: group[name] for name in rule.kernel_names() if name != "lr"}
    accumulated = [torch.zeros_like(theta) for _ in rule.accumulators]
    distances, sizes = [], []
    for t in range(1, steps + 1):
        if t == change + 1:
            target = target + move
        distances.append((theta - target).square().sum(dim=1) / start)
        x = normal(_BATCH, WEIGHTS)
        y = torch.einsum("rbw,rw->rb", x, target) + _NOISE * normal(_BATCH)
        g = torch.einsum("rbw,rb->rw", x, torch.einsum("rbw,rw->rb", x, theta) - y) / _BATCH
        counted: dict[str, Any] = {"t": t} if "t" in rule.hyper_names() else {}
        new, *accumulated = rule.update(theta, g, *accumulated, lr=lr, **hyper, **counted)
        sizes.append(((theta - new) / g).abs().log().mean(dim=1).exp())
        theta = new
    distances.append((theta - target).square().sum(dim=1) / start)
    return torch.stack(distances).numpy(), torch.stack(sizes).numpy()


def pursue(method: Method, budget: Budget) -> Pursuit:
    """Tune a rule for the first phase, and measure how it follows the second target.

    Args:
        method: The rule.
        budget: Decides the number of seeds, and keeps results; a quick run has all updates.
    """

    def compute() -> dict[str, object]:
        tuning = list(budget.tuning_seeds(5))
        tried: dict[float, float] = {}
        new = list(method.rates)
        while new:
            pairs = [(rate, seed) for rate in new for seed in tuning]
            ends = _error(
                follow(method, [r for r, _ in pairs], [s for _, s in pairs], PHASE, PHASE)[0]
            )
            for i, rate in enumerate(new):
                part = ends[i * len(tuning) : (i + 1) * len(tuning)]
                tried[rate] = float(np.nan_to_num(np.log(part), nan=np.inf).mean())
            best = min(sorted(tried), key=lambda rate: tried[rate])
            step = {min(tried): 10**-0.5, max(tried): 10**0.5}.get(best)
            new = [best * step] if step else []
        seeds = list(budget.seeds(20))
        after, curves = [], []
        for phases in LONGER:
            change = phases * PHASE
            distances, sizes = follow(method, [best] * len(seeds), seeds, change, change + PHASE)
            after.append(_error(distances).tolist())
            curves.append(np.exp(np.log(distances).mean(axis=1)).tolist())
        rest = follow(method, [best] * len(seeds), seeds, change, change)[0]
        return {
            "rate": best,
            "before": _error(rest[: PHASE + 1]).tolist(),
            "at_rest": _error(rest).tolist(),
            "after": after,
            "curves": curves,
            "step_sizes": np.exp(np.log(sizes[:change]).mean(axis=1)).tolist(),
            "trials": len(tried) * len(tuning),
        }

    return Pursuit(**budget.cached({"pursue": method.settings}, compute))


def _error(distances: Array) -> Array:
    """The mean over the last updates, for each run; infinite if it has diverged."""
    error: Array = np.nan_to_num(distances[-_MEASURED:], nan=np.inf).clip(max=1e9).mean(axis=0)
    return error


def lost(found: Pursuit, phases: int) -> Array:
    """How much worse the second target was learned than the first, log10 for each seed.

    Args:
        found: How a rule followed.
        phases: An entry of `LONGER`.
    """
    lost: Array = np.log10(found.after[LONGER.index(phases)]) - np.log10(found.before)
    return lost


def about(found: dict[str, Pursuit], ours: str) -> dict[str, Any]:
    """The arguments of a `Finding` about a rule besides its verdict: effect, runs, numbers, figure.

    Args:
        found: How the rules followed.
        ours: The rule.
    """
    each = lost(found[ours], LONGER[-1])
    low, high = student_interval(each)
    return {
        "effect": float(10 ** each.mean()),
        "effect_name": (
            f"{ours}: error on the second target / on the first, after equally many updates"
        ),
        "interval": (10**low, 10**high),
        "runs": _runs(found),
        "numbers": _rows(found),
        "figure": _draw(found),
    }


def _rows(found: dict[str, Pursuit]) -> list[dict[str, str | float]]:
    """A row for each rule, for `Finding.numbers`."""
    return [
        {
            "method": name,
            "best rate": each.rate,
            "error after a phase": _middle(each.before),
            f"error after {LONGER[-1]} phases": _middle(each.at_rest),
            **{
                f"a phase after a change at {phases}": _middle(each.after[i])
                for i, phases in enumerate(LONGER)
            },
            "step size after a phase": each.step_sizes[PHASE - 1],
            f"step size after {LONGER[-1]} phases": each.step_sizes[-1],
        }
        for name, each in found.items()
    ]


def _middle(x: list[float]) -> float:
    return float(np.exp(np.log(x).mean()))


def _runs(found: dict[str, Pursuit]) -> int:
    """The number of all trainings."""
    return sum(each.trials + (len(LONGER) + 1) * len(each.before) for each in found.values())


def _draw(found: dict[str, Pursuit]) -> Figure:
    """Draw the errors of the longest run and the sizes of the steps."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    errors, sizes = figure.subplots(1, 2)
    for name, each in found.items():
        errors.semilogy(each.curves[-1], label=name)
        sizes.loglog(range(1, len(each.step_sizes) + 1), each.step_sizes, label=name)
    errors.axvline(LONGER[-1] * PHASE, color="gray", linestyle=":")
    errors.set(xlabel="updates", ylabel="relative squared error")
    sizes.set(xlabel="updates", ylabel="effective learning rate")
    errors.legend()
    return figure
