"""A network's learning rate must stay below two over its largest curvature."""

from __future__ import annotations

import math

import torch
from matplotlib.figure import Figure
from torch import Tensor

from dlnotes.activations import tanh
from dlnotes.claims.claim import Budget, Claim, Finding, Verdict
from dlnotes.claims.networks import Descent, gradients, initial, outputs
from dlnotes.claims.statistics import student_interval
from dlnotes.optim import GradientDescent

SIZES: tuple[int, ...] = (1, 16, 16, 1)
RATES = (0.1, 0.3, 0.5)
SEEDS, STEPS, QUICK_STEPS, CHECKS = 10, 6000, 1500, 30
X = torch.linspace(-1, 1, 20, dtype=torch.float64)[:, None]
Y = 4 * X**3 - 3 * X
"""Chebyshev's third polynomial."""


def losses(theta: list[Tensor]) -> Tensor:
    """Half the mean squared error of each run."""
    return (outputs(theta, X, tanh) - Y).square().mean((1, 2)) / 2


def sharpness(theta: list[Tensor], v: list[Tensor], iterations: int) -> tuple[Tensor, list[Tensor]]:
    """The Hessian's largest eigenvalue for each run, by power iteration from v.

    Returns:
        The Rayleigh quotients, (runs,), and the vectors, from which the next call may start.
    """
    leaves = [p.detach().requires_grad_() for p in theta]
    slopes = torch.autograd.grad(losses(leaves).sum(), leaves, create_graph=True)
    quotient = torch.zeros(len(v[0]), dtype=torch.float64)
    for _ in range(iterations):
        size = torch.stack([each.square().sum((1, 2)) for each in v]).sum(0).sqrt()[:, None, None]
        v = [each / size for each in v]
        along = sum((s * each).sum() for s, each in zip(slopes, v, strict=True))
        assert isinstance(along, Tensor)
        hv = torch.autograd.grad(along, leaves, retain_graph=True)
        quotient = torch.stack([(h * each).sum((1, 2)) for h, each in zip(hv, v, strict=True)]).sum(
            0
        )
        v = list(hv)
    return quotient, v


def experiment(budget: Budget) -> Finding:
    """Train small networks with the full batch, and follow loss and sharpness."""
    steps = QUICK_STEPS if budget.quick else STEPS
    rates = torch.tensor(RATES, dtype=torch.float64).repeat_interleave(SEEDS)
    theta = initial(SIZES, torch.arange(SEEDS).repeat(len(RATES)), "glorot")
    generator = torch.Generator().manual_seed(0)
    v = [torch.randn(p.shape, dtype=torch.float64, generator=generator) for p in theta]
    descent = Descent(GradientDescent, rates)
    checked, products, heights = [], [], []
    for step in range(steps + 1):
        loss, g = gradients(losses, theta)
        if step % (steps // CHECKS) == 0:
            curvature, v = sharpness(theta, v, 60 if step == 0 else 20)
            checked.append(step)
            products.append(rates * curvature / 2)
            heights.append(loss)
            budget.done(step / steps)
        theta = descent.step(theta, g)
    product, height = torch.stack(products), torch.stack(heights)  # (checks, runs)

    above = (product > 1) & product.isfinite()
    crossed = above.any(0)
    first = above.double().argmax(0)
    at_crossing = height.gather(0, first[None])[0]
    end = height[-CHECKS // 3 :].nan_to_num(nan=math.inf).median(0).values
    diverged = ~(end <= 10 * height[0])
    went_on = crossed & (end < at_crossing)
    share_diverged = (diverged & crossed).sum().item() / max(1, int(crossed.sum()))
    share_went_on = went_on.sum().item() / max(1, int(crossed.sum()))
    verdict = Verdict.NOT_DECIDED
    if int(crossed.sum()) >= SEEDS and share_diverged >= 0.9:
        verdict = Verdict.HOLDS
    elif int(crossed.sum()) >= SEEDS and share_went_on >= 0.9:
        verdict = Verdict.DOES_NOT_HOLD

    late = product[CHECKS // 2 :, crossed].nan_to_num(nan=math.inf).median(0).values
    low, high = student_interval(late.clamp(max=1e6).tolist()) if late.numel() else (0.0, 0.0)
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for run in range(len(rates)):
        rate = run // SEEDS
        label = f"α = {RATES[rate]}" if run % SEEDS == 0 else None
        left.plot(checked, product[:, run], color=f"C{rate}", alpha=0.5, lw=1, label=label)
        right.semilogy(checked, height[:, run], color=f"C{rate}", alpha=0.5, lw=1)
    left.axhline(1, color="black", ls=":")
    left.set(
        xlabel="steps", ylabel="α λ_max / 2", ylim=(0, 2), title="sharpness, dotted: the limit"
    )
    left.legend(fontsize=8)
    right.set(xlabel="steps", ylabel="loss", title="loss of the same runs")
    return Finding(
        verdict=verdict,
        effect=late.clamp(max=1e6).mean().item() if late.numel() else 0.0,
        effect_name=("α λ_max / 2 late in training, mean of the runs that exceeded 1"),
        interval=(low, high),
        runs=len(rates),
        numbers=[
            {
                "rate": rate,
                "runs above 2/λ_max": int(crossed[i * SEEDS : (i + 1) * SEEDS].sum()),
                "of them diverged": int((diverged & crossed)[i * SEEDS : (i + 1) * SEEDS].sum()),
                "of them with a lower loss at the end": int(
                    went_on[i * SEEDS : (i + 1) * SEEDS].sum()
                ),
                "loss at the start": height[0, i * SEEDS : (i + 1) * SEEDS].median().item(),
                "loss at the end": end[i * SEEDS : (i + 1) * SEEDS].median().item(),
            }
            for i, rate in enumerate(RATES)
        ],
        figure=figure,
        left_out="Larger networks; mini-batches; other losses than the squared error.",
    )


CLAIM = Claim(
    name="networks-diverge-above-two-over-sharpness",
    notes="§8, 3; §2",
    sentence=(
        "As on a quadratic, a learning rate above two over the largest curvature keeps gradient "
        "descent on a network from converging."
    ),
    hypothesis=(
        "Tanh networks trained with the full batch at α = 0.1, 0.3 and 0.5 diverge once α exceeds "
        "2/λ_max of their Hessian."
    ),
    criterion=(
        "Of the runs that are above the limit at a check: holds if nine of ten diverge (a loss "
        "above ten times the first); does not hold if nine of ten end with a lower loss than they "
        "had there; else, or with fewer than ten such runs, not decided. The end is the median of "
        "the last third, since single losses jump."
    ),
    literature=(
        "Full-batch descent sharpens until λ_max is about 2/α and goes on from there, the loss "
        "falling unevenly: the edge of stability (Cohen et al. 2021, "
        "https://arxiv.org/abs/2103.00065)."
    ),
    experiment=experiment,
)
