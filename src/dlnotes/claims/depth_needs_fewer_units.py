"""A deep narrow network needs far fewer units than one hidden layer."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from matplotlib.figure import Figure
from torch import Tensor

from dlnotes.activations import relu
from dlnotes.claims.claim import Budget, Claim, Finding, Verdict
from dlnotes.claims.networks import Descent, gradients, initial, outputs
from dlnotes.claims.statistics import decide, student_interval
from dlnotes.optim import Adam

FOLDS = range(1, 11)
SHALLOW, DEEP = (1, 87, 1), (1, 10, 10, 10, 1)  # 262 and 251 parameters
RATES = (1e-3, 3e-3, 1e-2, 3e-2)
SEEDS, STEPS = 10, 3000
X = torch.linspace(0, 1, 129, dtype=torch.float64)[:, None]


def tent(x: Tensor, folds: int) -> Tensor:
    """Two ReLUs per layer, folded on each other: 2^folds straight pieces between 0 and 1."""
    for _ in range(folds):
        x = 2 * relu(x) - 4 * relu(x - 0.5)
    return x


TARGETS: dict[str, Callable[[Tensor], Tensor]] = {
    "sawtooth": lambda x: tent(x, 4),
    "sine": lambda x: (1 + torch.sin(2 * math.pi * x)) / 2,
}


def pieces(folds: int) -> int:
    """Count the straight pieces of the folded tent on [0, 1], by its changes of slope."""
    x = torch.linspace(0, 1, 2 ** (folds + 2) + 1, dtype=torch.float64)  # exact: powers of two
    slopes = tent(x, folds).diff()
    return 1 + int((slopes[1:] != slopes[:-1]).sum())


def learned(sizes: tuple[int, ...], target: Callable[[Tensor], Tensor], steps: int) -> Tensor:
    """Train from all seeds at all rates with Adam, as one.

    Returns:
        The mean squared error at the end, (rates, seeds).
    """
    y = target(X)
    parameters = initial(sizes, torch.arange(SEEDS).repeat(len(RATES)), "he")
    parameters[1] = -parameters[0] * torch.rand(  # the first layer's bends lie in [0, 1]
        parameters[0].shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )

    def losses(theta: list[Tensor]) -> Tensor:
        return (outputs(theta, X, relu) - y).square().mean((1, 2))

    rates = torch.tensor(RATES, dtype=torch.float64).repeat_interleave(SEEDS)
    descent = Descent(Adam, rates, betas=(0.9, 0.999), eps=1e-8)
    start = rates[:, None, None]
    for step in range(steps):
        descent.rates = start * (1 - step / steps)
        parameters = descent.step(parameters, gradients(losses, parameters)[1])
    return losses(parameters).detach().nan_to_num(nan=math.inf).view(len(RATES), SEEDS)


def experiment(budget: Budget) -> Finding:
    """Count the pieces of a folded network; train a wide and a deep network of equal size."""
    folded = [pieces(folds) for folds in FOLDS]
    exact = folded == [2**folds for folds in FOLDS]

    rows, verdicts, gains = [], {}, {}
    for name, target in TARGETS.items():
        found = {}
        for shape, sizes in (("wide", SHALLOW), ("deep", DEEP)):
            error = learned(sizes, target, budget.steps(STEPS))
            best = error[error.log().mean(1).argmin()]  # at its own best rate
            found[shape] = best.log10()
            rows.append(
                {
                    "target": name,
                    "network": "-".join(map(str, sizes)),
                    "parameters": sum((n + 1) * m for n, m in zip(sizes, sizes[1:])),
                    "mean squared error, best start": best.min().item(),
                    "median": best.median().item(),
                }
            )
            budget.done(len(rows) / 4)
        gains[name] = (found["wide"] - found["deep"]).tolist()
        verdicts[name] = decide(gains[name])

    if not exact or verdicts["sawtooth"] is Verdict.DOES_NOT_HOLD:
        verdict = Verdict.DOES_NOT_HOLD
    elif verdicts["sawtooth"] is Verdict.NOT_DECIDED:
        verdict = Verdict.NOT_DECIDED
    elif verdicts["sine"] is Verdict.HOLDS:
        verdict = Verdict.HOLDS
    else:
        verdict = Verdict.HOLDS_ONLY_IF

    figure = Figure(figsize=(8, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.semilogy([2 * k for k in FOLDS], folded, "o-", label="deep: two units per layer")
    units = range(2, 2 * FOLDS[-1] + 1)
    left.semilogy(units, [n + 1 for n in units], label="one layer, at most")
    left.set(xlabel="hidden units", ylabel="straight pieces", title="what can be built")
    left.legend(fontsize=8)
    for i, (name, each) in enumerate(gains.items()):
        right.plot([i] * len(each), each, "o", alpha=0.5)
    right.axhline(0, color="grey", ls=":")
    right.set(
        xticks=range(len(gains)),
        xticklabels=list(gains),
        xlim=(-0.5, 1.5),
        ylabel="log₁₀ (error, wide / deep)",
        title="what Adam learns, equal parameters",
    )
    return Finding(
        verdict=verdict,
        condition=(
            "the function has many folds; a smooth one gains nothing"
            if verdict is Verdict.HOLDS_ONLY_IF
            else ""
        ),
        effect=sum(gains["sawtooth"]) / SEEDS,
        effect_name="log₁₀ of the learned error on the sawtooth, wide − deep",
        interval=student_interval(gains["sawtooth"]),
        runs=len(rows) * len(RATES) * SEEDS,
        numbers=rows,
        figure=figure,
        left_out="Other widths and depths, more than one input, other rules than Adam.",
    )


CLAIM = Claim(
    name="depth-needs-fewer-units",
    notes="§8, 2",
    sentence="A deep narrow network fits the same function with far fewer units.",
    hypothesis=(
        "k layers of two ReLUs have exactly 2^k straight pieces on [0, 1], where one hidden layer "
        "of n units has at most n + 1. And trained with Adam, each at its own best rate, a network "
        "of three hidden layers ends with a lower error than one wide layer with as many "
        "parameters, on a sawtooth of 16 pieces and on a sine, over 10 paired starts."
    ),
    criterion=(
        "Does not hold if the count is another, or the wide network is better on the sawtooth; "
        "holds if the deep one is better on both; holds only if the function has many folds if it "
        "is better on the sawtooth but not on the sine."
    ),
    literature=(
        "There are functions that take exponentially more units in a shallower network (Telgarsky "
        "2016, https://arxiv.org/abs/1602.04485); networks of random weights, before and after "
        "training, use far fewer pieces than they could (Hanin & Rolnick 2019, "
        "https://arxiv.org/abs/1901.09021)."
    ),
    experiment=experiment,
)
