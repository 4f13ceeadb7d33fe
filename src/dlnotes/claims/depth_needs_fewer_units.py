"""A deep narrow network needs far fewer units than one hidden layer."""

from __future__ import annotations

import math

import torch
from matplotlib.figure import Figure
from torch import Tensor

from dlnotes.activations import relu
from dlnotes.claims.claim import Budget, Claim, Finding, Verdict

LAYERS = range(1, 13)
GRID = torch.linspace(0, 1, 2**14 + 1, dtype=torch.float64)
"""Whole multiples of 2⁻¹⁴, on which folded tents are exact in floating point."""
ALLOWED, FAR_FEWER = 1e-6, 10


def tent(x: Tensor, folds: int) -> Tensor:
    """`folds` layers of two ReLUs, x ← 2 relu(x) − 4 relu(x − ½): a sawtooth from 0 to 1."""
    for _ in range(folds):
        x = 2 * relu(x) - 4 * relu(x - 0.5)
    return x


def square(x: Tensor, layers: int) -> Tensor:
    r"""A smooth function from layers of three ReLUs: two fold, the third keeps the sum.

    .. math::
        x^2 ≈ x − \sum_{k=1}^{n} 4^{−k} \operatorname{tent}_k(x)

    which equals x² at the multiples of 2⁻ⁿ and is linear between them, so that its largest error is
    4⁻ⁿ/4.
    """
    folded = total = x
    for k in range(1, layers + 1):
        folded = tent(folded, 1)
        total = relu(total) - folded / 4**k
    return total


def pieces(y: Tensor) -> int:
    """The number of linear pieces, from the changes of slope on the grid."""
    slopes = y.diff()
    return 1 + int((slopes[1:] != slopes[:-1]).sum())


def experiment(budget: Budget) -> Finding:
    """Count a folded network's pieces, and measure how well a deep one approaches x²."""
    rows: list[dict[str, str | float]] = []
    for n in LAYERS:
        count = pieces(tent(GRID, n))
        error = (square(GRID, n) - GRID**2).abs().max().item()
        rows.append(
            {
                "hidden layers": n,
                "pieces of the sawtooth": count,
                "its units, deep": 2 * n,
                "its units, one layer": count - 1,
                "error on x²": error,
                "units, deep": 3 * n,
                "units, one layer, at least": max(1, math.ceil(error**-0.5 / 8**0.5) - 1),
            }
        )
    exact = all(
        row["pieces of the sawtooth"] == 2**n and row["error on x²"] == 0.25 * 4.0**-n
        for n, row in zip(LAYERS, rows, strict=True)
    )
    good = next((row for row in rows if float(row["error on x²"]) <= ALLOWED), rows[-1])
    saved = float(good["units, one layer, at least"]) / float(good["units, deep"])

    figure = Figure(figsize=(8, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(GRID, tent(GRID, 4), lw=1)
    left.set(title="sawtooth of 16 pieces: 8 units in 4 layers,\n15 units in one", xlabel="x")
    errors = [float(row["error on x²"]) for row in rows]
    right.loglog([float(row["units, deep"]) for row in rows], errors, "o-", label="deep")
    right.loglog(
        [float(row["units, one layer, at least"]) for row in rows],
        errors,
        "s-",
        label="one hidden layer, at best",
    )
    right.set(xlabel="hidden units", ylabel="largest error", title="x² on [0, 1]")
    right.legend(fontsize=8)
    return Finding(
        verdict=Verdict.HOLDS if exact and saved >= FAR_FEWER else Verdict.DOES_NOT_HOLD,
        effect=saved,
        effect_name=f"units for x² within {ALLOWED:g}, one hidden layer (at least) / deep",
        interval=(saved, saved),
        runs=0,
        numbers=rows,
        figure=figure,
        left_out="What training finds: a claim of its own.",
    )


CLAIM = Claim(
    name="depth-needs-fewer-units",
    notes="§8, 2",
    sentence="A deep narrow network has the same function with far fewer units than one layer.",
    hypothesis=(
        "n layers of two ReLUs have 2ⁿ straight pieces on [0, 1], for which one hidden layer needs "
        "2ⁿ − 1 units; n layers of three ReLUs come within 4⁻ⁿ/4 of x², and within 10⁻⁶ of it with "
        "at most a tenth of the units that one layer needs."
    ),
    criterion=(
        "Holds if the counts and errors are exactly those for n from 1 to 12; else does not hold. "
        "One layer of m units has at most m + 1 pieces, and m + 1 straight pieces are at least "
        "1/(8(m + 1)²) away from x² somewhere."
    ),
    literature=(
        "Telgarsky 2016, https://arxiv.org/abs/1602.04485, for the sawtooth; Yarotsky 2017, "
        "https://arxiv.org/abs/1610.01145, for x² and all smooth functions."
    ),
    experiment=experiment,
)
