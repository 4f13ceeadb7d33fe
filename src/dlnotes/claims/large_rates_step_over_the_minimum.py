"""A learning rate that is too large steps over the minimum."""

from __future__ import annotations

import torch
from matplotlib.figure import Figure
from torch import Tensor

from dlnotes.claims.claim import Budget, Claim, Finding, Verdict
from dlnotes.foundations.gradient_descent import minimise
from dlnotes.optim import GradientDescent

LIMIT = 2.0
"""The value of αλ_max above which gradient descent should diverge."""
DIMENSION, STEPS, TOLERANCE = 20, 1000, 1e-6


def quadratic(seed: int) -> tuple[Tensor, Tensor]:
    """A random Hessian in a random basis, with eigenvalues from 0.1 to 10, and a start."""
    generator = torch.Generator().manual_seed(seed)
    basis, _ = torch.linalg.qr(torch.randn(DIMENSION, DIMENSION, generator=generator).double())
    values = 10 ** (2 * torch.rand(DIMENSION, dtype=torch.float64, generator=generator) - 1)
    start = torch.randn(DIMENSION, dtype=torch.float64, generator=generator)
    return basis @ values.diag() @ basis.T, start


def diverges(hessian: Tensor, start: Tensor, rates: Tensor) -> Tensor:
    """Whether the error grows over the last half of the steps, for each rate.

    The error is normalized to length 1 after every step, so that it neither overflows nor vanishes;
    only the factor of each step counts.
    """
    x, growth = start[:, None].expand(-1, len(rates)), []
    for _ in range(STEPS):
        (x,) = GradientDescent.update(x, hessian @ x, lr=rates)
        growth.append(x.norm(dim=0))
        x = x / growth[-1]
    return torch.stack(growth[STEPS // 2 :]).log().mean(0) > 0


def largest_rate(hessian: Tensor, start: Tensor) -> float:
    """The rate at which descent turns from convergence to divergence.

    16 rates between two bounds are tried, then 16 between the two neighbours around it, and so on.
    """
    low, high = 0.0, 1.0 / hessian.diagonal().min().item()
    while not diverges(hessian, start, torch.tensor([high], dtype=torch.float64)):
        high *= 2
    while high - low > TOLERANCE / 4 * high:
        rates = torch.linspace(low, high, 18, dtype=torch.float64)
        first = int(diverges(hessian, start, rates[1:]).double().argmax()) + 1
        low, high = rates[first - 1].item(), rates[first].item()
    return high


def experiment(budget: Budget) -> Finding:
    """Find the largest rate that converges on random quadratics; compare it with 2/λ_max."""
    rows = []
    for seed in range(2 if budget.quick else 10):
        hessian, start = quadratic(seed)
        steepest = torch.linalg.eigvalsh(hessian)[-1].item()
        product = largest_rate(hessian, start) * steepest
        rows.append({"quadratic": seed, "λ_max": steepest, "largest α, times λ_max": product})
    found = [row["largest α, times λ_max"] for row in rows]
    off = max(abs(product - LIMIT) for product in found)

    figure = Figure(figsize=(9, 3), layout="constrained")
    x = torch.linspace(-1.6, 1.6, 100, dtype=torch.float64)
    cases = ((0.2, "too small"), (0.9, "good"), (1.8, "steps over, comes closer"), (2.1, "leaves"))
    for axes, (rate, name) in zip(figure.subplots(1, 4, sharey=True), cases, strict=True):
        path = minimise(lambda p: p**2 / 2, torch.tensor(1.0, dtype=torch.float64), rate, 6)
        axes.plot(x, x**2 / 2, color="grey")
        axes.plot(path, path**2 / 2, "o-", ms=4)
        axes.set(title=f"αλ = {rate}\n{name}", xlim=(-1.9, 1.9), xticks=[], yticks=[])
    return Finding(
        verdict=Verdict.HOLDS if off < 10 * TOLERANCE else Verdict.DOES_NOT_HOLD,
        effect=sum(found) / len(found),
        effect_name="range over quadratics: largest rate that converges, times λ_max",
        interval=(min(found), max(found)),
        runs=len(rows),
        numbers=rows,
        figure=figure,
    )


CLAIM = Claim(
    name="large-rates-step-over-the-minimum",
    notes="§8, 3",
    sentence="Too large a learning rate steps over the minimum, and may diverge.",
    hypothesis=(
        "On a quadratic with the largest curvature λ_max, gradient descent converges for every "
        "α < 2/λ_max and diverges for every α > 2/λ_max."
    ),
    criterion=(
        "Holds if the boundary found is 2/λ_max within 1e-5 on every quadratic; else "
        "does not hold. What happens to networks is a claim of its own."
    ),
    literature=(
        "Each step multiplies the error along an eigenvector by 1 − αλ (Goodfellow, Bengio & "
        "Courville 2016, §4.3, https://www.deeplearningbook.org/contents/numerical.html)."
    ),
    experiment=experiment,
)
