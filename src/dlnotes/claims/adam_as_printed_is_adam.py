"""Adam as the notes print it, W − αV/√Ŝ, is Adam."""

from __future__ import annotations

import torch
from matplotlib.figure import Figure
from torch import Tensor

from dlnotes.claims.adam_is_rmsprop_with_momentum import BETA1, BETA2, LR, adam
from dlnotes.claims.claim import Budget, Claim, Finding, Verdict
from dlnotes.oracles.optimizers import loss, start

STEPS, CLOSE = 1000, 0.01


def as_printed(
    theta: Tensor, g: Tensor, V: Tensor, S: Tensor, t: int
) -> tuple[Tensor, Tensor, Tensor]:
    """θ ← θ − αV/√Ŝ: V is not corrected, and there is no ε."""
    V = BETA1 * V + (1 - BETA1) * g
    S = BETA2 * S + (1 - BETA2) * g * g
    return theta - LR * V / (S / (1 - BETA2**t)).sqrt(), V, S


def experiment(budget: Budget) -> Finding:
    """Run both from the same start, and from a parameter whose gradient is 0."""
    gradient = torch.func.grad(loss)
    steps, ends = {}, {}
    for rule in (adam, as_printed):
        theta = start().detach()
        m, v = torch.zeros_like(theta), torch.zeros_like(theta)
        sizes = []
        for t in range(1, STEPS + 1):
            before = theta
            theta, m, v = rule(theta, gradient(theta, t), m, v, t)
            sizes.append((theta - before).abs().mean())
        steps[rule.__name__] = torch.stack(sizes)
        zero = torch.zeros(1, dtype=torch.float64)
        ends[rule.__name__] = theta, rule(zero, zero, zero, zero, 1)[0].item()
    ours, printed = steps.values()
    first = (printed[0] / ours[0]).item()
    tenth = (printed[9] / ours[9]).item()
    apart = (ends["as_printed"][0] - ends["adam"][0]).abs().max()
    moved = (ends["adam"][0] - start().detach()).abs().max()
    same = abs(first - 1) < CLOSE and ends["as_printed"][1] == 0

    figure = Figure(figsize=(6, 3.8), layout="constrained")
    axes = figure.subplots()
    shown = min(60, STEPS)
    for name, sizes_of in (("Algorithm 1", ours), ("as printed", printed)):
        axes.plot(range(1, shown + 1), sizes_of[:shown] / LR, "o-", ms=3, label=name)
    axes.set(xlabel="step", ylabel="mean |step| / α", ylim=(0, None), title="Size of the steps")
    axes.legend()
    return Finding(
        verdict=Verdict.HOLDS if same else Verdict.DOES_NOT_HOLD,
        effect=first,
        effect_name="first step, as printed / Algorithm 1",
        interval=(first, first),
        runs=2,
        numbers=[
            {"measure": "first step, as printed / Algorithm 1", "value": first},
            {"measure": "tenth step, as printed / Algorithm 1", "value": tenth},
            {
                "measure": f"distance after {STEPS} steps / distance travelled",
                "value": (apart / moved).item(),
            },
            {
                "measure": "θ = 0 after g = 0, Algorithm 1",
                "value": str(ends["adam"][1]),
            },
            {"measure": "θ = 0 after g = 0, as printed", "value": str(ends["as_printed"][1])},
        ],
        figure=figure,
    )


CLAIM = Claim(
    name="adam-as-printed-is-adam",
    notes="§9",
    sentence="Adam's update is W − αV/√Ŝ, with the uncorrected V and without ε.",
    hypothesis=(
        "In float64 the printed update takes Algorithm 1's first step within 1 %, and leaves a "
        "parameter whose gradient is 0 where it is."
    ),
    criterion="Holds if both are so; else does not hold.",
    literature=(
        "Algorithm 1 of Kingma & Ba 2015, https://arxiv.org/abs/1412.6980, divides V̂ = V/(1 − "
        "β₁ᵗ) by √Ŝ + ε: so the first step is α, where the printed form's is (1 − β₁)α = 0.1α."
    ),
    experiment=experiment,
)
