"""One hidden layer fits any function, with enough units."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from matplotlib.figure import Figure
from torch import Tensor

from dlnotes.activations import relu
from dlnotes.claims.claim import Budget, Claim, Finding, Verdict

FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "sine": lambda x: torch.sin(2 * math.pi * x),
    "sawtooth of 32 teeth": lambda x: 1 - (64 * x % 2 - 1).abs(),
    "square root": torch.sqrt,
    "jump": lambda x: (x > 1 / 3).double(),
}
CONTINUOUS = ("sine", "sawtooth of 32 teeth", "square root")
WIDTHS = tuple(2**k for k in range(1, 11))
ALLOWED = 0.01
GRID = torch.linspace(0, 1, 2**13 + 1, dtype=torch.float64)


def fitted(f: Callable[[Tensor], Tensor], width: int, x: Tensor) -> Tensor:
    r"""One hidden layer of ReLUs that interpolates f linearly between equidistant points.

    .. math::
        \hat f(x) = f(0) + \sum_{k=0}^{n-1} (s_k − s_{k−1}) \operatorname{relu}(x − k/n)

    with :math:`s_k` the slope of f from k/n to (k + 1)/n, and :math:`s_{-1} = 0`.

    Args:
        f: The function to fit on [0, 1].
        width: The number n of hidden units.
        x: Where to evaluate the network.
    """
    knots = torch.linspace(0, 1, width + 1, dtype=torch.float64)
    slopes = f(knots).diff() * width
    weights = slopes.diff(prepend=slopes.new_zeros(1))
    parts = [relu(some[:, None] - knots[:-1]) @ weights for some in x.split(1024)]
    return f(knots[:1]) + torch.cat(parts)


def experiment(budget: Budget) -> Finding:
    """Fit three continuous functions and one with a jump, with 2 to 1024 units."""
    errors = {
        name: [(fitted(f, width, GRID) - f(GRID)).abs().max().item() for width in WIDTHS]
        for name, f in FUNCTIONS.items()
    }
    needed = {
        name: next((n for n, e in zip(WIDTHS, each, strict=True) if e <= ALLOWED), math.inf)
        for name, each in errors.items()
    }
    fits = all(needed[name] < math.inf for name in CONTINUOUS)
    verdict = Verdict.DOES_NOT_HOLD
    if fits:
        verdict = Verdict.HOLDS_ONLY_IF if needed["jump"] == math.inf else Verdict.HOLDS
    most = max(needed[name] for name in CONTINUOUS)

    figure = Figure(figsize=(8, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, each in errors.items():
        left.loglog(WIDTHS, [max(e, 1e-6) for e in each], "o-", label=name, base=2)
    left.axhline(ALLOWED, color="grey", ls=":")
    left.set(xlabel="hidden units", ylabel="largest error on [0, 1]", ylim=(1e-6, 3), yscale="log")
    left.legend(fontsize=8)
    for name in ("square root", "jump"):
        right.plot(GRID, FUNCTIONS[name](GRID), color="grey")
        right.plot(GRID, fitted(FUNCTIONS[name], 8, GRID), label=f"{name}, 8 units")
    right.legend(fontsize=8)
    return Finding(
        verdict=verdict,
        condition="the function is continuous" if verdict is Verdict.HOLDS_ONLY_IF else "",
        effect=most,
        effect_name=(
            f"least power of two of units for an error of {ALLOWED}, most of three continuous "
            "functions"
        ),
        interval=(most, most),
        runs=0,
        numbers=[
            {
                "function": name,
                f"units for {ALLOWED}": "never" if units == math.inf else units,
                **{f"error, {n} units": errors[name][WIDTHS.index(n)] for n in (8, 64, 1024)},
            }
            for name, units in needed.items()
        ],
        figure=figure,
        left_out="More than one input; what gradient descent finds instead of the construction.",
    )


CLAIM = Claim(
    name="one-hidden-layer-fits-any-function",
    notes="§8, 2",
    sentence="One hidden layer can fit any function, but may need many units.",
    hypothesis=(
        "With up to 1024 hidden ReLUs one layer comes within 0.01 of a sine, of a sawtooth of 32 "
        "teeth and of the square root everywhere on [0, 1]; and of a function with a jump."
    ),
    criterion=(
        "Does not hold if one of the continuous functions is missed; holds with a continuous "
        "function, if the jump alone is missed; holds if all four are met."
    ),
    literature=(
        "One hidden layer comes as close as one likes to every continuous function on a bounded "
        "set (Cybenko 1989, https://doi.org/10.1007/BF02551274; Leshno et al. 1993 for every "
        "activation but polynomials, https://doi.org/10.1016/S0893-6080(05)80131-5)."
    ),
    experiment=experiment,
)
