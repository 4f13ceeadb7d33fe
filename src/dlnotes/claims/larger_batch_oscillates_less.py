"""A larger batch oscillates less."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import Parameter

from dlnotes.claims.claim import Budget, Claim, Finding, Verdict
from dlnotes.claims.statistics import student_interval
from dlnotes.data.batches import BGD, MBGD, SGD
from dlnotes.optim import GradientDescent

SAMPLES, SEEDS, CHAINS = 256, 10, 40
BATCHES = (1, 4, 16, 64)
RAISED = (1, 4, 16)
"""Batch sizes for which the learning rate is also raised in proportion to the batch."""
RATE = 0.02
WARM_UP, STEPS = 200, 500
WITHIN = 0.15
"""Allowed relative deviation from the theory, which is that of a small learning rate."""
LESS = 2.0
"""Oscillation counts as less if it is this many times smaller."""


def line() -> tuple[Tensor, Tensor]:
    """Points near a line: inputs with a constant 1, ``(n, 2)``, and outputs ``(n,)``."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(SAMPLES, generator=generator, dtype=torch.float64)
    y = 1.5 * x - 0.5 + 0.5 * torch.randn(SAMPLES, generator=generator, dtype=torch.float64)
    return torch.stack([x, torch.ones_like(x)], 1), y


X, Y = line()
BEST = torch.linalg.lstsq(X, Y[:, None]).solution[:, 0]
HESSIAN: Tensor = X.T @ X / SAMPLES


def cost(theta: Tensor) -> Tensor:
    """Half of the mean squared error, above its minimum.

    Args:
        theta: Slope and intercept. Shape (…, 2).
    """
    away = theta - BEST
    above: Tensor = 0.5 * (away @ HESSIAN * away).sum(-1)
    return above


def oscillation(batch: int, rate: float, seeds: int) -> Tensor:
    """The mean cost of SGD around the minimum at a constant rate, long after it has arrived there.

    Args:
        batch: Number of samples per update, drawn with replacement.
        rate: α.
        seeds: Number of seeds; each has 40 runs.

    Returns:
        Shape (seeds,).
    """
    generator = torch.Generator().manual_seed(batch)
    theta = BEST.expand(seeds * CHAINS, 2)
    total = torch.zeros(seeds * CHAINS, dtype=torch.float64)
    for step in range(WARM_UP + STEPS):
        drawn = torch.randint(SAMPLES, (len(theta), batch), generator=generator)
        x, y = X[drawn], Y[drawn]
        residual = (x * theta[:, None]).sum(-1) - y
        (theta,) = GradientDescent.update(theta, (residual[..., None] * x).mean(1), lr=rate)
        if step >= WARM_UP:
            total += cost(theta)
    return total.view(seeds, CHAINS).mean(1) / STEPS


def theory(batch: int, rate: float) -> float:
    r"""The theoretical value of `oscillation` for a small learning rate.

    With Σ the covariance of the gradients of single samples at the minimum:

    .. math::
        \frac{α}{4} \, \frac{\operatorname{tr} Σ}{B}
    """
    g = (X @ BEST - Y)[:, None] * X
    return rate / 4 * float(g.square().sum(1).mean()) / batch


def descend(batches: Iterable[list[int]], rate: float, epochs: int = 4) -> tuple[Tensor, Tensor]:
    """Gradient descent from a distant start.

    Args:
        batches: The samples of each update of an epoch.
        rate: α.
        epochs: How many.

    Returns:
        The weights after each update, ``(updates + 1, 2)``, and how many samples had been read.
    """
    theta = Parameter(torch.tensor([-1.3, 1.5], dtype=torch.float64))
    optimizer = GradientDescent([theta], lr=rate)
    points, read = [theta.detach().clone()], [0]
    for _ in range(epochs):
        for batch in batches:
            theta.grad = X[batch].T @ (X[batch] @ theta.detach() - Y[batch]) / len(batch)
            optimizer.step()
            points.append(theta.detach().clone())
            read.append(read[-1] + len(batch))
    return torch.stack(points), torch.tensor(read)


def draw_regimes(figure: Figure) -> None:
    """Draw the three regimes of the notes in three of four panels."""
    plane, _, updates, epochs = figure.axes
    generator = torch.Generator().manual_seed(0)
    regimes: dict[str, tuple[MBGD, float]] = {
        f"BGD: all {SAMPLES}, α = 0.5": (BGD(SAMPLES), 0.5),
        "MBGD: 16 samples, α = 0.2": (MBGD(SAMPLES, 16, generator=generator), 0.2),
        "SGD: 1 sample, α = 0.05": (SGD(SAMPLES, generator=generator), 0.05),
    }
    w, b = torch.meshgrid(
        torch.linspace(-1.6, 2.4, 80, dtype=torch.float64),
        torch.linspace(-1.6, 1.8, 80, dtype=torch.float64),
        indexing="ij",
    )
    z = cost(torch.stack([w, b], -1))
    plane.contour(w, b, z, np.logspace(-3, 0.6, 12), colors="gray", alpha=0.6, linewidths=0.6)
    colours = ("#000000", "#009E73", "#D55E00")
    for (label, (batches, rate)), colour in zip(regimes.items(), colours, strict=True):
        path, read = descend(batches, rate)
        above = cost(path)
        plane.plot(path[:, 0], path[:, 1], ".-", color=colour, lw=0.8, ms=3)
        updates.loglog(range(1, len(path) + 1), above, color=colour, lw=1, label=label)
        epochs.semilogy(read / SAMPLES, above, color=colour, lw=1)
    plane.plot(*BEST, "*", color="red", ms=11)
    plane.set(xlabel="slope", ylabel="intercept", title="four epochs (star: the minimum)")
    updates.set(xlabel="update, counted from 1", ylabel="cost above the minimum")
    updates.legend(fontsize=8)
    epochs.set(xlabel="epochs", ylabel="cost above the minimum")


def experiment(budget: Budget) -> Finding:
    """Measure how far SGD stays from the minimum, at a fixed rate and at one that grows with B."""
    seeds = len(budget.seeds(SEEDS))
    settings = [(size, RATE, "constant") for size in BATCHES]
    settings += [(size, RATE * size, "raised with the batch") for size in RAISED]
    measured: dict[tuple[str, int], Tensor] = {}
    rows: list[dict[str, str | float]] = []
    for size, rate, kind in settings:
        found = measured[kind, size] = oscillation(size, rate, seeds)
        mean, expected = float(found.mean()), theory(size, rate)
        rows.append(
            {
                "batch": size,
                "rate": rate,
                "which is": kind,
                "mean cost above the minimum": mean,
                "in theory, for a small rate": expected,
            }
        )
        budget.done(len(rows) / len(settings))

    figure = Figure(figsize=(9, 7), layout="constrained")
    figure.subplots(2, 2)
    draw_regimes(figure)
    spread = figure.axes[1]
    for i, kind in enumerate(("constant", "raised with the batch")):
        mine = [row for row in rows if row["which is"] == kind]
        sizes = [float(row["batch"]) for row in mine]
        expected_all = [float(row["in theory, for a small rate"]) for row in mine]
        values = [float(row["mean cost above the minimum"]) for row in mine]
        spread.loglog(sizes, values, "o", color=f"C{i}", label=f"rate {kind}")
        spread.loglog(sizes, expected_all, color=f"C{i}", lw=1)
    spread.set(xlabel="samples of a batch", title="about the minimum (lines: theory)")
    spread.set_xticks(BATCHES, map(str, BATCHES))
    spread.minorticks_off()
    spread.legend(fontsize=8)

    same = [float(measured["constant", size].mean()) for size in BATCHES]
    as_theory = all(
        abs(m / theory(size, RATE) - 1) < WITHIN for m, size in zip(same, BATCHES, strict=True)
    )
    falls = all(a > LESS * b for a, b in pairwise(same))
    first, *_, last = (float(measured["raised with the batch", size].mean()) for size in RAISED)
    verdict = Verdict.DOES_NOT_HOLD
    if as_theory and falls:
        verdict = Verdict.HOLDS if first > LESS * last else Verdict.HOLDS_ONLY_IF
    ratios = (measured["constant", BATCHES[0]] / measured["constant", BATCHES[-1]]).log().tolist()
    low, high = np.exp(student_interval(ratios))
    return Finding(
        verdict=verdict,
        condition=(
            "the learning rate stays the same; raised in proportion to the batch, it oscillates "
            "as much"
            if verdict is Verdict.HOLDS_ONLY_IF
            else ""
        ),
        effect=float(np.exp(np.mean(ratios))),
        effect_name=(
            f"cost about the minimum, batches of {BATCHES[0]} / of {BATCHES[-1]}, constant rate"
        ),
        interval=(float(low), float(high)),
        runs=len(settings) * seeds * CHAINS,
        numbers=rows,
        figure=figure,
        left_out="Functions that are not quadratic; sampling without replacement.",
    )


CLAIM = Claim(
    name="larger-batch-oscillates-less",
    notes="§8, 5; §8, 7",
    sentence="Updates from single examples are noisy; a larger batch oscillates less.",
    hypothesis=(
        "SGD that has reached the minimum of a least-squares problem goes on moving about it. At "
        "a constant learning rate α its mean cost there is α tr(Σ) / 4B for batches of B samples, "
        "Σ the covariance of the gradients of single samples; also when α grows with B, it is "
        "smaller for a larger batch."
    ),
    criterion=(
        f"Does not hold if, at α = {RATE}, a mean cost is more than 15 % from the formula or is "
        "not less than half the cost at a quarter of the batch size. Else holds if batches of "
        f"{RAISED[-1]} at {RAISED[-1]} times the rate have less than half the cost of single "
        "samples, too; and holds with the "
        "condition that the rate stays the same if they do not."
    ),
    literature=(
        "The cost about the minimum is in proportion to α/B (Bottou, Curtis & Nocedal 2018, "
        "Theorem 4.6, https://arxiv.org/abs/1606.04838), so a rate in proportion to the batch "
        "keeps the noise (Goyal et al. 2017, https://arxiv.org/abs/1706.02677; Smith & Le 2018, "
        "https://arxiv.org/abs/1710.06451)."
    ),
    experiment=experiment,
)
