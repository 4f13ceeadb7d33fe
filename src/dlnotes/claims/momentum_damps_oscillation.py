"""Momentum damps the oscillation of gradient descent and converges faster (notes, §8, 8)."""

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


def tuned(method: str, kappa: float) -> tuple[type[UpdateRule], dict[str, float], float]:
    r"""The optimal rate of a method on a quadratic with eigenvalues 1 to κ, and its convergence.

    Polyak 1964; Lessard, Recht & Packard 2016, https://arxiv.org/abs/1408.3595, table 1:

    .. math::
        \frac{κ − 1}{κ + 1}, \quad \frac{√κ − 1}{√κ + 1}, \quad 1 − \frac{2}{√(3κ + 1)}

    for gradient descent, momentum and Nesterov. The moving average of the notes has the step of the
    papers divided by 1 − β.

    Args:
        method: Of the three.
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
        rule: What makes the steps.
        hyper: Its hyper-parameters and ``kappa``.
        theta: Starts, ``(starts, dimensions)``, float64.
        steps: How many.

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


def sign_changes(path: Tensor) -> float:
    """The share of steps in which the steepest coordinate changes its sign while it matters.

    Args:
        path: From `errors`.
    """
    steepest = path[..., -1]
    large = steepest[:-1].abs() > 1e-12 * path[0].abs().max()
    changes = (steepest[1:] * steepest[:-1] < 0) & large
    return float(changes.sum() / large.sum())


def experiment(budget: Budget) -> Finding:
    """Measure the factor per step at the optimal rate of each method, against theory."""
    generator = torch.Generator().manual_seed(0)
    starts = torch.randn(
        len(budget.seeds(STARTS)), DIMENSIONS, generator=generator, dtype=torch.float64
    )
    figure = Figure(figsize=(7, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    numbers: list[dict[str, str | float]] = []
    speedups, right_ones, runs = [], [], 0
    for i, kappa in enumerate(CONDITION_NUMBERS):
        found = {}
        for method in ("gradient descent", "momentum", "nesterov"):
            rule, hyper, factor = tuned(method, kappa)
            steps = max(60, math.ceil(12 * math.log(10) / -math.log(factor)))
            steps = min(steps, budget.steps(200_000))
            path = errors(rule, {**hyper, "kappa": kappa}, starts, steps)
            norms = path.norm(dim=2)
            half = steps // 2  # before, the start still shows
            measured = (norms[-1] / norms[half]) ** (1 / (steps - half))
            rate = float(measured.mean())
            agrees = abs(rate - factor) <= TOLERANCE * (1 - factor)
            found[method] = measured
            right_ones.append(agrees)
            runs += len(starts)
            numbers.append(
                {
                    "κ": kappa,
                    "method": method,
                    "theory": factor,
                    "measured": rate,
                    "agrees": "yes" if agrees else "no",
                    "steps to 1e-6": math.log(1e6) / -math.log(rate),
                    "sign changes, steepest": sign_changes(path),
                }
            )
            if kappa == 100:
                left.semilogy(norms[:400, 0] / norms[0, 0], label=method)
            budget.done((3 * i + len(found)) / (3 * len(CONDITION_NUMBERS)))
        speedups.append(np.log(found["momentum"]) / np.log(found["gradient descent"]))
    for method in ("gradient descent", "momentum", "nesterov"):
        rows = [row for row in numbers if row["method"] == method]
        right.loglog([row["κ"] for row in rows], [row["steps to 1e-6"] for row in rows], "o-")
    left.set(xlabel="step", ylabel="distance to the minimum", title="κ = 100")
    left.legend()
    right.set(xlabel="condition number κ", ylabel="steps to 10⁻⁶")
    at_10000 = np.asarray(speedups[-1])
    least = min(float(np.min(x)) for x in speedups)
    oscillates = {
        row["method"]: row["sign changes, steepest"] for row in numbers if row["κ"] == 100
    }
    damped = oscillates["momentum"] < oscillates["gradient descent"]
    numeric = [row for row in numbers if row["method"] != "nesterov"]
    agree = all(row["agrees"] == "yes" for row in numeric)
    if not agree:
        verdict = Verdict.NOT_DECIDED
    else:
        verdict = Verdict.HOLDS if least > 1 and damped else Verdict.DOES_NOT_HOLD
    return Finding(
        verdict=verdict,
        effect=float(at_10000.mean()),
        effect_name="times fewer steps than gradient descent, κ = 10⁴",
        interval=(float(at_10000.min()), float(at_10000.max())),
        runs=runs,
        numbers=numbers,
        figure=figure,
        left_out="Noisy gradients: there the gain depends on the batch (a claim of its own).",
    )


CLAIM = Claim(
    name="momentum-damps-oscillation",
    notes="§8, 8",
    sentence="Momentum damps the oscillation of gradient descent and converges faster.",
    hypothesis=(
        "On quadratics with condition numbers κ of 10 to 10,000, each method at its optimal rate, "
        "the error shrinks per step by the factor (κ−1)/(κ+1) with gradient descent and by "
        "(√κ−1)/(√κ+1) with momentum, and the coordinate of the steepest direction changes its "
        "sign in a smaller share of the steps."
    ),
    criterion=(
        "Holds if both factors agree with theory to 5 % of their distance from 1 for each κ, "
        "momentum needs fewer steps from each start, and its steepest coordinate changes its sign "
        "less often at κ = 100. Not decided if a factor does not agree."
    ),
    literature=(
        "Polyak 1964 proves the two rates; Lessard, Recht & Packard 2016 "
        "(https://arxiv.org/abs/1408.3595) has them in one table with Nesterov's. On noisy "
        "quadratics momentum helps at large batch only: Zhang et al. 2019 "
        "(https://arxiv.org/abs/1907.04164)."
    ),
    experiment=experiment,
)
