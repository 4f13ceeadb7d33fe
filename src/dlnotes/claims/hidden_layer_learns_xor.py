"""A hidden layer makes XOR learnable."""

from __future__ import annotations

import torch
from matplotlib.figure import Figure
from torch import Tensor

from dlnotes.activations import tanh
from dlnotes.claims.claim import Budget, Claim, Finding, Verdict
from dlnotes.claims.networks import Descent, gradients, initial, outputs, xor_losses
from dlnotes.claims.statistics import wilson_interval
from dlnotes.foundations.perceptron import CORNERS, GATES, Perceptron
from dlnotes.optim import GradientDescent

X, XOR = CORNERS.double(), GATES["XOR"].double()
SEEDS, STEPS, RATE = 20, 1000, 1.0
WIDTHS = (1, 2, 3, 4, 8)


def perceptrons() -> Tensor:
    """XOR's four answers from three perceptrons, each trained by itself: AND of OR and NAND."""

    def learned(gate: str) -> Perceptron:
        unit = Perceptron(2, torch.float64)
        unit.learn(X, GATES[gate].double(), lr=1.0, epochs=20)
        return unit

    hidden = torch.stack([learned("OR")(X), learned("NAND")(X)], 1)
    return learned("AND")(hidden)


def learn(width: int, seeds: range, steps: int) -> tuple[Tensor, list[Tensor]]:
    """Whether each start classifies all four inputs correctly at the end, and the weights."""
    parameters = initial([2, width, 1], seeds, "glorot")
    descent = Descent(GradientDescent, torch.full((len(seeds),), RATE, dtype=torch.float64))
    for _ in range(steps):
        parameters = descent.step(parameters, gradients(xor_losses, parameters)[1])
    answers = outputs(parameters, X, tanh)[..., 0]
    return ((answers > 0) == (XOR == 1)).all(dim=1), parameters


def experiment(budget: Budget) -> Finding:
    """Build XOR from three perceptrons, and learn it by gradient descent from several starts."""
    built = bool((perceptrons() == XOR).all())
    shares = {}
    seeds, steps = budget.seeds(SEEDS), budget.steps(STEPS)
    for width in WIDTHS:
        learned, parameters = learn(width, seeds, steps)
        shares[width] = learned.double().mean().item()
    effect = shares[WIDTHS[-1]]

    figure = Figure(figsize=(8, 3.6), layout="constrained")
    bars, plane = figure.subplots(1, 2)
    bars.bar([str(width) for width in WIDTHS], [100 * share for share in shares.values()])
    bars.set(
        xlabel="hidden units",
        ylabel="starts that learn XOR (%)",
        ylim=(0, 105),
        title=f"{len(seeds)} starts, {steps} steps each",
    )
    grid = torch.linspace(-0.5, 1.5, 80, dtype=torch.float64)
    z = outputs(parameters, torch.cartesian_prod(grid, grid), tanh)[0].tanh().view(80, 80).T
    plane.contourf(grid, grid, z, levels=20, cmap="RdBu")
    plane.contour(grid, grid, z, levels=[0.0], colors="black")
    plane.scatter(X[:, 0], X[:, 1], c=["white" if v == 0 else "black" for v in XOR], edgecolors="k")
    plane.set(title=f"what one network of {WIDTHS[-1]} hidden units says", aspect="equal")
    return Finding(
        verdict=Verdict.HOLDS if built and effect == 1 else Verdict.DOES_NOT_HOLD,
        effect=effect,
        effect_name=f"share of starts from which {WIDTHS[-1]} hidden units learn XOR",
        interval=wilson_interval(effect, len(seeds)),
        runs=len(seeds) * len(WIDTHS),
        numbers=[
            {"hidden units": "2 perceptrons, built", "starts that learn XOR (%)": 100.0 * built},
            *(
                {"hidden units": str(width), "starts that learn XOR (%)": 100 * share}
                for width, share in shares.items()
            ),
        ],
        figure=figure,
    )


CLAIM = Claim(
    name="hidden-layer-learns-xor",
    notes="§8, 1",
    sentence="A network with one hidden layer learns XOR.",
    hypothesis=(
        "Three perceptrons, AND of OR and NAND, each trained on its own gate, answer XOR exactly; "
        "and gradient descent through 8 hidden tanh units learns XOR from every one of 20 starts."
    ),
    criterion=(
        "Holds if both are so; else does not hold. Fewer units are shown beside it: two suffice "
        "for a solution, but not for finding it from every start."
    ),
    literature=(
        "Back-propagation learns XOR with two hidden units, with occasional failures (Rumelhart, "
        "Hinton & Williams 1986, https://doi.org/10.1038/323533a0 and its longer report, "
        "https://apps.dtic.mil/sti/citations/ADA164453)."
    ),
    experiment=experiment,
)
