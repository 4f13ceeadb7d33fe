"""A function whose first derivative is constant is linear."""

from __future__ import annotations

from collections.abc import Callable

import torch
from matplotlib.figure import Figure
from torch import Tensor

from dlnotes.claims.claim import Budget, Claim, Finding, Verdict

FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "2x": lambda x: 2 * x,
    "2x + 3": lambda x: 2 * x + 3,
    "|x|": lambda x: x.abs(),
    "x²": lambda x: x**2,
}
POINTS = torch.tensor([-4.0, -1.5, 0.5, 2.0, 3.0], dtype=torch.float64)


def constant_slope(f: Callable[[Tensor], Tensor]) -> bool:
    """Whether the derivative is the same at all points."""
    slopes = torch.func.vmap(torch.func.grad(f))(POINTS)
    return bool((slopes == slopes[0]).all())


def linear(f: Callable[[Tensor], Tensor]) -> bool:
    """Whether f(ax + by) = a f(x) + b f(y); the points and factors are exact in binary."""
    x, y = POINTS[:, None], POINTS[None]
    return all(
        bool((f(a * x + b * y) == a * f(x) + b * f(y)).all())
        for a, b in ((1.0, 1.0), (2.0, -0.5), (0.0, 0.0))
    )


def without_offset(f: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """f(x) − f(0)."""
    return lambda x: f(x) - f(torch.zeros_like(x))


def experiment(budget: Budget) -> Finding:
    """Look at the slopes and at the sums of four functions."""
    found = {name: (constant_slope(f), linear(f)) for name, f in FUNCTIONS.items()}
    counterexamples = [name for name, (slope, line) in found.items() if slope and not line]
    affine = all(linear(without_offset(FUNCTIONS[name])) for name in counterexamples)
    verdict = Verdict.HOLDS
    if counterexamples:
        verdict = Verdict.HOLDS_ONLY_IF if affine else Verdict.DOES_NOT_HOLD
    n = len(counterexamples)

    figure = Figure(figsize=(5, 3.8), layout="constrained")
    axes = figure.subplots()
    x = torch.linspace(-2, 2, 101, dtype=torch.float64)
    for name, (slope, line) in found.items():
        text = "linear" if line else "constant slope, not linear" if slope else "neither"
        axes.plot(x, FUNCTIONS[name](x), label=f"{name}: {text}")
    axes.plot(0, 0, "o", color="black")
    axes.set(title="A linear function goes through the origin")
    axes.legend(fontsize=8)
    return Finding(
        verdict=verdict,
        condition="f(0) = 0" if verdict is Verdict.HOLDS_ONLY_IF else "",
        effect=n,
        effect_name=f"functions of {len(found)} with a constant slope that are not linear",
        interval=(n, n),
        runs=0,
        numbers=[
            {
                "function": name,
                "constant slope": "yes" if slope else "no",
                "linear": "yes" if line else "no",
            }
            for name, (slope, line) in found.items()
        ],
        figure=figure,
    )


CLAIM = Claim(
    name="a-constant-slope-means-linear",
    notes="§9; §6",
    sentence="Linear functions are those with a constant first derivative.",
    hypothesis=(
        "Of 2x, 2x + 3, |x| and x², exactly those with the same derivative at all points satisfy "
        "f(ax + by) = a f(x) + b f(y)."
    ),
    criterion=(
        "Holds if that is so; holds with f(0) = 0, if the exceptions are linear once f(0) is "
        "taken off; else does not hold."
    ),
    literature=(
        "x ↦ ax + b with b ≠ 0 is affine (https://en.wikipedia.org/wiki/Affine_transformation): a "
        "layer with a bias is, so that a network without activations is affine too."
    ),
    experiment=experiment,
)
