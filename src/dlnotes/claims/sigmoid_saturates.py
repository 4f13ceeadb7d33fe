"""A sigmoid saturates and kills gradients.

Changed after a first run: tests are corrected for their number, and inconclusive ones leave a case
undecided.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from dlnotes.activations import relu, sigmoid
from dlnotes.claims.claim import Budget, Claim, Finding, Verdict
from dlnotes.claims.problems import digits_splits
from dlnotes.claims.statistics import decide_each, over_cases, student_interval

SCALES = (1, 4, 16, 64)  # factors of the first layer's weights
UNITS = 32
FACTOR = 10
_ACTIVATIONS = {"sigmoid": sigmoid, "relu": relu}


def look(x: Tensor, y: Tensor, scale: float, seed: int, name: str) -> tuple[float, float]:
    """How many units are saturated, and how much of the gradient passes through them.

    Args:
        x: Images.
        y: Digits.
        scale: Factor of the weights W of the first layer, whose output is z = Wx + b.
        seed: Seed of all weights.
        name: Name of the activation.

    Returns:
        The share of pairs of a unit and an image whose slope is at most a tenth of the largest one,
        and the root mean square of ∂J/∂z divided by that of ∂J/∂f(z).
    """
    generator = torch.Generator().manual_seed(seed)
    w = scale * torch.randn(64, UNITS, generator=generator).double() / 8
    v = torch.randn(UNITS, 10, generator=generator).double() / math.sqrt(UNITS)
    activation = _ACTIVATIONS[name]
    z = (x @ w).requires_grad_()
    a = activation(z)
    j = nn.functional.cross_entropy(a @ v, y)
    before, behind = torch.autograd.grad(j, (z, a))
    slope = activation.slope(z.detach())
    saturated = (
        (slope <= slope.new_tensor(0.1 * (0.25 if name == "sigmoid" else 1))).double().mean()
    )
    return float(saturated), float(before.square().mean().sqrt() / behind.square().mean().sqrt())


def experiment(budget: Budget, ours: str = "sigmoid") -> Finding:
    """Measure gradients on the digits before training, for larger and larger weights."""
    (x, y), *_ = digits_splits()
    x = (x - x.mean()).double()
    seeds = budget.seeds(20)
    found = {
        (name, scale): np.array([look(x, y, scale, seed, name) for seed in seeds])
        for name in (ours, "relu")
        for scale in SCALES
    }
    less = {  # than ReLU passes with the same weights
        scale: np.log10(found["relu", scale][:, 1] / found[ours, scale][:, 1]) for scale in SCALES
    }
    said = dict(zip(SCALES, decide_each([*less.values()], margin=math.log10(FACTOR)), strict=True))
    killed = [scale for scale in SCALES if said[scale] is Verdict.HOLDS]
    verdict, condition = over_cases([*said.values()]), ""
    if verdict is Verdict.HOLDS_ONLY_IF and killed != [*SCALES[-len(killed) :]]:
        verdict = Verdict.NOT_DECIDED  # not from some scale on
    if verdict is Verdict.HOLDS_ONLY_IF:
        condition = (
            f"the weights are at least {min(killed)} times as large as in the usual initialization"
        )
        open_for = [f"{scale}" for scale in SCALES if said[scale] is Verdict.NOT_DECIDED]
        if open_for:
            condition += f"; it is not decided for {', '.join(open_for)} times"
    most = less[SCALES[-1]]
    low, high = student_interval(most)

    figure = Figure(figsize=(9, 4), layout="constrained")
    for k, (axes, label) in enumerate(
        zip(
            figure.subplots(1, 2),
            ("share of saturated units", "gradient behind the unit / before it"),
            strict=True,
        )
    ):
        for name in (ours, "relu"):
            values = np.array([found[name, scale][:, k] for scale in SCALES])
            axes.plot(SCALES, values.mean(axis=1), "o-", label=name)
        axes.set(xlabel="scale of the weights", ylabel=label, xscale="log")
        axes.set_xticks(SCALES, map(str, SCALES))
        axes.minorticks_off()
    figure.axes[1].set_yscale("log")
    figure.axes[0].legend()
    return Finding(
        verdict=verdict,
        condition=condition,
        effect=float(10 ** most.mean()),
        effect_name=(
            f"gradient that passes through ReLU / through {ours}, weights scaled by {SCALES[-1]}"
        ),
        interval=(10**low, 10**high),
        runs=0,
        numbers=[
            {
                "activation": name,
                "scale of the weights": scale,
                "saturated units (%)": float(100 * values[:, 0].mean()),
                "gradient that passes": float(values[:, 1].mean()),
            }
            for (name, scale), values in found.items()
        ],
        figure=figure,
        left_out="What training does to the weights; several layers.",
    )


CLAIM = Claim(
    name="sigmoid-saturates",
    notes="§8, 11",
    sentence="A sigmoid saturates and kills the gradients.",
    hypothesis=(
        f"In a network for the digits, a sigmoid passes less than 1/{FACTOR} of the gradient that "
        "ReLU passes from the same weights, whether these are small or up to "
        f"{SCALES[-1]} times as large."
    ),
    criterion=(
        "Holds if that is so for weights of all scales; holds only if the weights are large, if it "
        "is so from some scale on; does not hold if the opposite is shown at every scale; else not "
        "decided. Sign-flip tests of log10 ratios over twenty seeds, corrected for their number by "
        "Holm, at .05."
    ),
    literature=(
        "Sigmoid layers saturate early in training and may stay so (Glorot & Bengio 2010, "
        "https://proceedings.mlr.press/v9/glorot10a.html)."
    ),
    experiment=experiment,
)
