"""It does not matter whether ε = 1e-8 stands under the root or beside it."""

from __future__ import annotations

import torch
from matplotlib.figure import Figure
from torch import Tensor

from dlnotes.claims.claim import Budget, Claim, Finding, Verdict
from dlnotes.optim import RMSProp

EPS, BETA, STEPS = 1e-8, 0.9, 1000
SCALES = tuple(10.0**k for k in range(-10, 2))
ALIKE = 0.01
LARGE = 1e-3
"""Ten times √ε: for larger gradients the two steps should be alike."""


def step(scale: float, under: bool) -> float:
    """|step|/α once S is the square of a constant gradient of this size."""
    g = torch.full((1,), scale, dtype=torch.float64)
    theta, S = torch.zeros_like(g), torch.zeros_like(g)
    size = 0.0
    for _ in range(STEPS):
        beside, S = RMSProp.rule(theta, g, S, lr=1.0, beta=BETA, eps=0.0 if under else EPS)
        size = (under_root(g, S) if under else theta - beside).item()
    return size


def under_root(g: Tensor, S: Tensor) -> Tensor:
    """g/√(S + ε), as the notes print it."""
    return g / (S + EPS).sqrt()


def experiment(budget: Budget) -> Finding:
    """Compare the steps for gradients from 1e-10 to 10."""
    ratios = {scale: step(scale, under=True) / step(scale, under=False) for scale in SCALES}
    alike = {scale: abs(ratio - 1) < ALIKE for scale, ratio in ratios.items()}
    if all(alike.values()):
        verdict = Verdict.HOLDS
    elif all(alike[scale] for scale in SCALES if scale >= LARGE):
        verdict = Verdict.HOLDS_ONLY_IF
    else:
        verdict = Verdict.DOES_NOT_HOLD
    smallest = min(ratios.values())

    figure = Figure(figsize=(6, 3.8), layout="constrained")
    axes = figure.subplots()
    for under, name in ((False, "beside: √S + ε"), (True, "under: √(S + ε)")):
        axes.loglog(SCALES, [step(scale, under) for scale in SCALES], "o-", label=name)
    axes.axvline(EPS**0.5, color="grey", ls=":")
    axes.set(
        xlabel="size of the gradient (dotted: √ε)", ylabel="step / α", title="RMSProp, ε = 1e-8"
    )
    axes.legend()
    return Finding(
        verdict=verdict,
        condition=("gradients are far above √ε = 1e-4" if verdict is Verdict.HOLDS_ONLY_IF else ""),
        effect=smallest,
        effect_name="smallest ratio of the steps, ε under the root / beside it",
        interval=(smallest, smallest),
        runs=2 * len(SCALES),
        numbers=[
            {"gradient": f"{scale:.0e}", "step under the root / beside it": ratio}
            for scale, ratio in ratios.items()
        ],
        figure=figure,
    )


CLAIM = Claim(
    name="epsilon-may-stand-under-the-root",
    notes="§9; §4",
    sentence="ε = 1e-8 only guards against division by zero, under the root or beside it.",
    hypothesis=(
        "For constant gradients from 1e-10 to 10 RMSProp's steps with √(S + ε) and with √S + ε "
        "differ by less than 1 %."
    ),
    criterion=(
        "Holds if they do at every size; holds with gradients far above √ε, if they do from "
        "1e-3 on; else does not hold."
    ),
    literature=(
        "How large ε is matters more than is thought: tuned, it changes which optimizer wins (Choi "
        "et al. 2019, https://arxiv.org/abs/1910.05446)."
    ),
    experiment=experiment,
)
