"""Momentum damps the oscillation of gradient descent and converges faster (notes, §8, 8).

Changed after a first run: damping is also measured with an equal first step. The moving average of
the notes makes the first step 1/(1 − β) times smaller at the same learning rate, and any rule with
smaller steps oscillates less.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from dlnotes.claims.claim import Budget, Claim, Finding, Verdict
from dlnotes.optim import GradientDescent, Momentum, Nesterov, UpdateRule

CONDITION_NUMBERS = (10.0, 100.0, 1000.0, 10000.0)
STARTS = 10
TOLERANCE = 0.05  # of a measured rate, in its distance from 1
DIMENSIONS = 20
LESS = 0.95  # a shorter way is one that is at least 5 % shorter
MOST_STEPS = 50_000
TUNED = ("gradient descent", "momentum", "nesterov")
EQUAL = "momentum, same rate"
SAME_STEP = "momentum, same first step"
SMALLER = "gradient descent, a tenth of the rate"


def tuned(method: str, kappa: float) -> tuple[type[UpdateRule], dict[str, float], float]:
    r"""The optimal rate of a method on a quadratic with eigenvalues 1 to κ, and its convergence.

    Polyak 1964; Lessard, Recht & Packard 2016, https://arxiv.org/abs/1408.3595, table 1:

    .. math::
        \frac{κ − 1}{κ + 1}, \quad \frac{√κ − 1}{√κ + 1}, \quad 1 − \frac{2}{√(3κ + 1)}

    for gradient descent, momentum and Nesterov. The moving average of the notes needs the learning
    rate of the papers divided by 1 − β.

    Args:
        method: One of the three.
        kappa: Condition number κ.

    Returns:
        Rule, hyper-parameters, and the factor by which the error shrinks per step.
    """
    root = math.sqrt(kappa)
    if method == "gradient descent":
        return GradientDescent, {"lr": 2 / (1 + kappa)}, (kappa - 1) / (kappa + 1)
    if method == "momentum":
        beta = ((root - 1) / (root + 1)) ** 2
        lr = 4 / (root + 1) ** 2 / (1 - beta)
        return Momentum, {"lr": lr, "beta": beta}, math.sqrt(beta)
    wide = math.sqrt(3 * kappa + 1)
    beta = (wide - 2) / (wide + 2)
    return Nesterov, {"lr": 4 / (3 * kappa + 1) / (1 - beta), "beta": beta}, 1 - 2 / wide


def errors(rule: type[UpdateRule], hyper: dict[str, Any], theta: Tensor, steps: int) -> Tensor:
    """The path of a rule on ½ Σ λᵢ θᵢ², the eigenvalues λ from 1 to κ on a logarithmic scale.

    Args:
        rule: The update rule.
        hyper: Its hyper-parameters, and ``kappa``.
        theta: Starts, ``(starts, dimensions)``, float64.
        steps: Number of steps.

    Returns:
        ``(steps + 1, starts, dimensions)``: the minimum is at 0.
    """
    kappa = hyper.pop("kappa")
    eigenvalues = torch.logspace(0, math.log10(kappa), theta.shape[1], dtype=torch.float64)
    state = [torch.zeros_like(theta) for _ in rule.accumulators]
    path = [theta]
    for _ in range(steps):
        theta, *state = rule.update(theta, eigenvalues * theta, *state, **hyper)
        path.append(theta)
    return torch.stack(path)


def travel(path: Tensor) -> float:
    """How far the coordinate of the steepest direction travels, in units of its first distance.

    1 is the straight way; each swing across the valley adds to it.

    Args:
        path: From `errors`.
    """
    steepest = path[..., -1]
    return float(((steepest[1:] - steepest[:-1]).abs().sum(0) / steepest[0].abs()).mean())


def experiment(budget: Budget) -> Finding:
    """Measure the factor per step at the optimal rate of each method, and the oscillation."""
    generator = torch.Generator().manual_seed(0)
    starts = torch.randn(
        len(budget.seeds(STARTS)), DIMENSIONS, generator=generator, dtype=torch.float64
    )
    figure = Figure(figsize=(7.5, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    numbers: list[dict[str, str | float]] = []
    speedups: list[Tensor] = []
    travels: dict[str, list[float]] = {}
    agree, runs = True, 0
    for i, kappa in enumerate(CONDITION_NUMBERS):
        measured: dict[str, Tensor] = {}
        gentle = (Momentum, {"lr": 2 / (1 + kappa), "beta": 0.9}, math.nan)
        equal = (Momentum, {"lr": 2 / (1 + kappa) / (1 - 0.9), "beta": 0.9}, math.nan)
        smaller = (GradientDescent, {"lr": 0.2 / (1 + kappa)}, math.nan)
        methods = {name: tuned(name, kappa) for name in TUNED}
        methods |= {EQUAL: gentle, SAME_STEP: equal, SMALLER: smaller}
        for name, (rule, hyper, theory) in methods.items():
            # In theory, enough steps for an error of 1e-60, where that does not take longer.
            steps = 1000 if math.isnan(theory) else math.ceil(138 / -math.log(theory))
            steps = budget.steps(min(steps, MOST_STEPS))
            path = errors(rule, {**hyper, "kappa": kappa}, starts, steps)
            norms = path.norm(dim=2)
            half = steps // 2  # before, the factor depends on the start
            measured[name] = (norms[-1] / norms[half]) ** (1 / (steps - half))
            factor = float(measured[name].mean())
            exact = name != "nesterov" and not math.isnan(theory)  # Nesterov's is an upper bound
            agrees = abs(factor - theory) <= TOLERANCE * (1 - theory)
            agree &= agrees or not exact
            travels.setdefault(name, []).append(travel(path))
            runs += len(starts)
            numbers.append(
                {
                    "κ": kappa,
                    "method": name,
                    "factor per step, theory": theory,
                    "measured": factor,
                    "agrees": ("yes" if agrees else "no") if exact else "",
                    "steps to 1e-6": math.log(1e6) / -math.log(factor) if factor < 1 else math.inf,
                    "travel of the steepest coordinate": travels[name][-1],
                }
            )
            if kappa == 100:
                left.semilogy(norms[:300, 0] / norms[0, 0], label=name)
            budget.done((i + len(measured) / len(methods)) / len(CONDITION_NUMBERS))
        speedups.append(measured["momentum"].log() / measured["gradient descent"].log())
    for name in methods:
        right.loglog(CONDITION_NUMBERS, travels[name], "o-", label=name)
    left.set(xlabel="step", ylabel="distance to the minimum", title="convergence, κ = 100")
    right.set(xlabel="condition number κ", title="travel across the valley")
    left.legend(fontsize="small")
    faster = min(float(x.min()) for x in speedups) > 1
    plain = np.asarray(travels["gradient descent"])
    settings = {
        EQUAL: "at gradient descent's rate",
        SAME_STEP: "with a first step as large as gradient descent's",
        "momentum": "at its own best rate",
    }
    damped = {name: bool((np.asarray(travels[name]) < LESS * plain).all()) for name in settings}
    condition = ""
    if not agree:
        verdict = Verdict.NOT_DECIDED
    elif not (faster and any(damped.values())):
        verdict = Verdict.DOES_NOT_HOLD
    elif all(damped.values()):
        verdict = Verdict.HOLDS
    else:
        verdict = Verdict.HOLDS_ONLY_IF
        yes, no = (
            " or ".join(
                where
                for name, where in settings.items()
                if damped[name] is so and (so or name != "momentum")
            )
            for so in (True, False)
        )
        condition = f"it damps {yes}, but not {no}"
        if not damped["momentum"]:
            condition = (
                f"just one of the two is asked for: {yes} it damps"
                + f", {no} it does not" * bool(no)
                + "; at its own best rate it is faster and does not damp"
            )
    return Finding(
        verdict=verdict,
        condition=condition,
        effect=float(speedups[-1].mean()),
        effect_name="range over starts: speed-up over gradient descent at κ = 10⁴ (times)",
        interval=(float(speedups[-1].min()), float(speedups[-1].max())),
        runs=runs,
        numbers=numbers,
        figure=figure,
        left_out="Noisy gradients, where the gain depends on the batch.",
    )


CLAIM = Claim(
    name="momentum-damps-oscillation",
    notes="§8, 8",
    sentence="Momentum damps the oscillation of gradient descent and converges faster.",
    hypothesis=(
        "On quadratics with condition numbers κ of 10 to 10,000: (1) each at its optimal rate, the "
        "error shrinks per step by (κ−1)/(κ+1) with gradient descent and by (√κ−1)/(√κ+1) with "
        "momentum; (2) the steepest coordinate travels less far with momentum in three settings: "
        "with β = 0.9 at gradient descent's optimal rate and with a first step as large as "
        "gradient descent's, and at momentum's own best rate."
    ),
    criterion=(
        "Holds if both factors agree with theory to 5 % of their distance from 1 for each κ, "
        "momentum needs fewer steps from each start, and the steepest coordinate travels 5 % less "
        "far in all three settings. Holds with a condition if that is true only in some of them. "
        "Does not hold if it damps in none of them, or momentum is slower from a start. "
        "Not decided if a factor disagrees with theory. Gradient descent at a tenth of its "
        "rate is shown beside them: its smaller step alone damps."
    ),
    literature=(
        "Polyak 1964 proves the two rates; Lessard, Recht & Packard 2016 "
        "(https://arxiv.org/abs/1408.3595) has them in one table with Nesterov's. On noisy "
        "quadratics momentum helps at large batch only: Zhang et al. 2019 "
        "(https://arxiv.org/abs/1907.04164)."
    ),
    experiment=experiment,
)
