"""Adam's β₂ is usually 0.9999."""

from __future__ import annotations

import inspect

import torch
from matplotlib.figure import Figure
from torch import Tensor

from dlnotes.claims.claim import Budget, Claim, Finding, Verdict
from dlnotes.optim import Adam

PRINTED, PAPER = 0.9999, 0.999
FALL, BEFORE = 0.01, 20_000
"""The gradient's size falls to a hundredth after so many steps."""
RECOVERED = 0.5


def defaults() -> dict[str, float]:
    """β₂ of every optimizer of ``torch.optim`` that has ``betas``."""
    found = {}
    for name in sorted(vars(torch.optim)):
        rule = getattr(torch.optim, name)
        if inspect.isclass(rule) and issubclass(rule, torch.optim.Optimizer):
            betas = inspect.signature(rule).parameters.get("betas")
            if betas is not None:
                found[name] = float(betas.default[1])
    return found


def steps_after_fall(beta2: float, longest: int) -> Tensor:
    """|step|/α from when the gradient has fallen from 1 to a hundredth, and m with it."""
    theta = torch.zeros(1, dtype=torch.float64)
    g = torch.full_like(theta, FALL)
    m, v = g, torch.full_like(theta, 1 - beta2**BEFORE)  # the average of so many ones
    sizes = []
    for t in range(BEFORE + 1, BEFORE + longest + 1):
        new, m, v = Adam.rule(theta, g, m, v, t=float(t), lr=1.0, betas=(0.9, beta2), eps=1e-8)
        sizes.append((theta - new).item())
        theta = new
    return torch.tensor(sizes, dtype=torch.float64)


def experiment(budget: Budget) -> Finding:
    """Look at the defaults, and at how long either β₂ remembers gradients that are gone."""
    usual = defaults()
    share = sum(value == PRINTED for value in usual.values()) / len(usual)
    longest = 120_000
    sizes = {beta2: steps_after_fall(beta2, longest) for beta2 in (PAPER, PRINTED)}
    recovery = {beta2: int((each < RECOVERED).sum()) for beta2, each in sizes.items()}

    figure = Figure(figsize=(6, 3.8), layout="constrained")
    axes = figure.subplots()
    for beta2, each in sizes.items():
        axes.semilogx(range(1, longest + 1), each, label=f"β₂ = {beta2}")
    axes.set(
        xlabel="steps after the gradients have fallen to 1/100",
        ylabel="step / α",
        title="How long Adam remembers large gradients",
    )
    axes.legend()
    return Finding(
        verdict=Verdict.HOLDS if share > 0.5 else Verdict.DOES_NOT_HOLD,
        effect=recovery[PRINTED] / recovery[PAPER],
        effect_name="steps until half the step is back after gradients fell, β₂ 0.9999 / 0.999",
        interval=(recovery[PRINTED] / recovery[PAPER],) * 2,
        runs=2,
        numbers=[
            *(
                {"measure": f"β₂ of torch.optim.{n} by default", "value": v}
                for n, v in usual.items()
            ),
            *(
                {"measure": f"steps until half the step is back, β₂ = {beta2}", "value": n}
                for beta2, n in recovery.items()
            ),
        ],
        figure=figure,
        left_out="Whether 0.9999 trains some network better.",
    )


CLAIM = Claim(
    name="beta2-is-usually-9999",
    notes="§9",
    sentence="Adam's β₂ is usually 0.9999.",
    hypothesis="Most optimizers of torch.optim that have a β₂ have 0.9999 by default.",
    criterion=(
        "Holds if more than half have; else does not hold. Beside it: how many steps it takes "
        "until the step is half of α again after the gradients have fallen to a hundredth."
    ),
    literature=(
        "Kingma & Ba 2015, https://arxiv.org/abs/1412.6980, propose 0.999; 0.95 to 0.98 are common "
        "for Transformers (Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, have 0.98)."
    ),
    experiment=experiment,
)
