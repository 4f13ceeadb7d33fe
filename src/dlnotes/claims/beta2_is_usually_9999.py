"""Adam's β₂ is usually 0.9999.

Changed after a first run: the effect is now the share of optimizers with this default, on which the
verdict rests. Before, it was how long the two values of β₂ remember gradients.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from dlnotes.claims.claim import Budget, Claim, Finding, Verdict
from dlnotes.optim import Adam

PRINTED = 0.9999
FALL, BEFORE, AFTER = 0.3, 20_000, 15_000
"""The gradient falls from 1 to `FALL` after `BEFORE` steps; `AFTER` more steps follow."""
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


def steps_after_fall(beta2: Tensor) -> Tensor:
    """|step|/α for each β₂ after the gradient, and m with it, have fallen. Shape (steps, β₂)."""
    theta, g = torch.zeros_like(beta2), torch.full_like(beta2, FALL)
    m, v = g, 1 - beta2**BEFORE  # the average of so many ones
    sizes = []
    for t in range(BEFORE + 1, BEFORE + AFTER + 1):
        betas: Any = (0.9, beta2)
        new, m, v = Adam.rule(theta, g, m, v, t=float(t), lr=1.0, betas=betas, eps=1e-8)
        sizes.append(theta - new)
        theta = new
    return torch.stack(sizes)


def experiment(budget: Budget) -> Finding:
    """Compare defaults, and how long each β₂ remembers past gradients."""
    usual = defaults()
    share = sum(value == PRINTED for value in usual.values()) / len(usual)
    compared = (0.999, 0.9999)
    sizes = steps_after_fall(torch.tensor(compared, dtype=torch.float64)).T
    recovery = [int((each < RECOVERED).sum()) for each in sizes]

    found: dict[str, str | float] = {
        **{f"β₂ of torch.optim.{name} by default": value for name, value in usual.items()},
        **{
            f"steps until half the step is back, β₂ = {beta2}": n
            for beta2, n in zip(compared, recovery, strict=True)
        },
    }

    figure = Figure(figsize=(6, 3.8), layout="constrained")
    axes = figure.subplots()
    for beta2, each in zip(compared, sizes, strict=True):
        axes.semilogx(range(1, AFTER + 1), each, label=f"β₂ = {beta2}")
    axes.set(
        xlabel="steps after the gradients have fallen to 0.3",
        ylabel="step / α",
        title="How long Adam remembers large gradients",
    )
    axes.legend()
    return Finding(
        verdict=Verdict.HOLDS if share > 0.5 else Verdict.DOES_NOT_HOLD,
        effect=100 * share,
        effect_name=f"optimizers of torch.optim with a β₂ that have {PRINTED} by default (%)",
        interval=(100 * share, 100 * share),
        runs=0,
        numbers=[{"measure": measure, "value": value} for measure, value in found.items()],
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
        "until the step is half of α again after the gradients have fallen to 0.3."
    ),
    literature=(
        "Kingma & Ba 2015, https://arxiv.org/abs/1412.6980, propose 0.999; 0.95 to 0.98 are common "
        "for Transformers (Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, have 0.98)."
    ),
    experiment=experiment,
)
