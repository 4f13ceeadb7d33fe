"""One perceptron learns AND and OR, not XOR."""

from __future__ import annotations

from itertools import product

import torch
from matplotlib.figure import Figure
from torch import Tensor

from dlnotes.claims.claim import Budget, Claim, Finding, Verdict
from dlnotes.foundations.perceptron import CORNERS, GATES, Perceptron

X = CORNERS.double()
NOT_SEPARABLE = {"XOR", "XNOR"}


def functions() -> dict[str, Tensor]:
    """All 16 truth tables over two inputs; those without a name are named by their outputs."""
    names = {tuple(y.int().tolist()): name for name, y in GATES.items()}
    names[tuple((1 - GATES["XOR"]).int().tolist())] = "XNOR"
    tables = product((0, 1), repeat=4)
    return {names.get(y, "".join(map(str, y))): torch.tensor(y).double() for y in tables}


def learn(y: Tensor) -> tuple[bool, int, float]:
    """Train a perceptron until it makes no mistake or its weights repeat.

    With inputs 0 and 1 and α = 1 all weights stay whole numbers, so that floating point is exact.
    If the weights repeat while there are mistakes, they do so forever. This proves that the
    perceptron never learns the function, without a limit on the number of steps.

    Returns:
        Whether it has learned, after how many epochs this was known, and the largest share of
        correct answers in any epoch.
    """
    unit = Perceptron(2, torch.float64)
    seen: set[tuple[float, ...]] = set()
    best, epochs = 0.0, 0
    while True:
        right = (unit(X) == y).double().mean().item()
        best = max(best, right)
        weights = (*unit.w.tolist(), unit.b.item())
        if right == 1 or weights in seen:
            return right == 1, epochs, best
        seen.add(weights)
        unit.learn(X, y, lr=1.0, epochs=1)
        epochs += 1


def experiment(budget: Budget) -> Finding:
    """Train one perceptron on each of the 16 functions of two inputs."""
    results = {name: (y, *learn(y)) for name, y in functions().items()}
    as_claimed = all(done == (name not in NOT_SEPARABLE) for name, (_, done, *_) in results.items())
    learned = sum(done for _, done, *_ in results.values())

    figure = Figure(figsize=(8, 4.4), layout="constrained")
    for axes, (name, (y, done, epochs, _)) in zip(
        figure.subplots(2, 8).flat, results.items(), strict=True
    ):
        axes.scatter(X[:, 0], X[:, 1], c=["white" if v == 0 else "C0" for v in y], edgecolors="C0")
        axes.set_title(f"{name}\n{epochs} epochs" if done else f"{name}\nnever", fontsize=9)
        axes.set(xlim=(-0.4, 1.4), ylim=(-0.4, 1.4), xticks=[], yticks=[], aspect="equal")
        axes.set_facecolor("white" if done else "mistyrose")
    figure.suptitle("The 16 functions of two inputs (filled: 1), and when one perceptron has them")
    return Finding(
        verdict=Verdict.HOLDS if as_claimed else Verdict.DOES_NOT_HOLD,
        effect=learned,
        effect_name="functions of two inputs that one perceptron learns (of 16)",
        interval=(learned, learned),
        runs=len(results),
        numbers=[
            {
                "function": name,
                "learned": "yes" if done else "never",
                "epochs": epochs,
                "corners right at best (%)": 100 * best,
            }
            for name, (_, done, epochs, best) in results.items()
        ],
        figure=figure,
    )


CLAIM = Claim(
    name="perceptron-learns-and-or-not-xor",
    notes="§8, 1",
    sentence="A single perceptron learns AND and OR, but not XOR.",
    hypothesis=(
        "With the delta rule from zero weights, a perceptron makes no mistake on AND and OR after "
        "finitely many epochs, as on the 12 other functions that a line separates; on XOR and its "
        "negation its weights return to earlier ones while it still makes mistakes."
    ),
    criterion="Holds if that is so for all 16 functions of two inputs; else does not hold.",
    literature=(
        "The perceptron stops making mistakes if a line separates the classes (Novikoff 1962, "
        "https://classes.cs.uchicago.edu/archive/2009/spring/35900-1/papers/novikoff.pdf); no line "
        "separates XOR (Minsky & Papert 1969, https://mitpress.mit.edu/9780262630221/perceptrons/)."
    ),
    experiment=experiment,
)
