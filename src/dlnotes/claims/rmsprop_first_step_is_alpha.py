"""With β = 0.999 RMSProp's first step is about α."""

from __future__ import annotations

import math

import torch
from matplotlib.figure import Figure
from torch import Tensor

from dlnotes.claims.claim import Budget, Claim, Finding, Verdict
from dlnotes.optim import RMSProp

BETAS = (0.9, 0.99, 0.999)
NOTES = 0.999
ABOUT = 2.0
STEPS, LR = 3000, 0.01


def first_steps(beta: float) -> Tensor:
    """|step|/α with the constant gradient 1."""
    theta, S = torch.zeros(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    sizes = []
    for _ in range(STEPS):
        new, S = RMSProp.rule(theta, torch.ones_like(theta), S, lr=1.0, beta=beta, eps=1e-8)
        sizes.append((theta - new).item())
        theta = new
    return torch.tensor(sizes, dtype=torch.float64)


def furthest(beta: float) -> float:
    """From a start 0.1 beside the minimum of x²/2 with α = 0.01: how far it is carried away."""
    x, S = torch.full((1,), 0.1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    most = 0.0
    for _ in range(STEPS):
        x, S = RMSProp.rule(x, x, S, lr=LR, beta=beta, eps=1e-8)
        most = max(most, x.abs().item())
    return most


def experiment(budget: Budget) -> Finding:
    """Measure RMSProp's steps from the first one on for three β."""
    sizes = {beta: first_steps(beta) for beta in BETAS}
    first = sizes[NOTES][0].item()

    figure = Figure(figsize=(6, 3.8), layout="constrained")
    axes = figure.subplots()
    for beta, each in sizes.items():
        axes.loglog(range(1, STEPS + 1), each, label=f"β = {beta}")
    axes.set(xlabel="step", ylabel="step / α", title="RMSProp with a constant gradient")
    axes.legend()
    return Finding(
        verdict=Verdict.HOLDS if 1 / ABOUT <= first <= ABOUT else Verdict.DOES_NOT_HOLD,
        effect=first,
        effect_name="first step with β = 0.999 / α",
        interval=(first, first),
        runs=len(BETAS),
        numbers=[
            {
                "β": beta,
                "first step / α": each[0].item(),
                "1/√(1 − β)": 1 / math.sqrt(1 - beta),
                "steps until it is below 2α": int((each >= 2).sum()),
                "furthest from the minimum, from 0.1": furthest(beta),
            }
            for beta, each in sizes.items()
        ],
        figure=figure,
    )


CLAIM = Claim(
    name="rmsprop-first-step-is-alpha",
    notes="§9",
    sentence="With β = 0.999, which the notes call usual, RMSProp's first step is about α in size.",
    hypothesis="With β = 0.999 and S from 0, RMSProp's first step is between α/2 and 2α.",
    criterion="Holds if it is; else does not hold. In theory it is α/√(1 − β) = 31.6 α.",
    literature=(
        "Hinton's lecture 6e (https://www.cs.toronto.edu/~tijmen/csc321/slides/"
        "lecture_slides_lec6.pdf) has β = 0.9, torch 0.99; the bias correction of Adam (Kingma & "
        "Ba 2015, §3, https://arxiv.org/abs/1412.6980) is there for values near 1."
    ),
    experiment=experiment,
)
