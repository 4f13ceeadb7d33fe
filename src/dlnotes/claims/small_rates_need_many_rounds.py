"""A learning rate that is too small needs many rounds."""

from __future__ import annotations

import math

import torch
from matplotlib.figure import Figure
from torch import Tensor

from dlnotes.activations import tanh
from dlnotes.claims.claim import Budget, Claim, Finding, Verdict
from dlnotes.claims.networks import Descent, gradients, initial, outputs
from dlnotes.claims.statistics import student_interval
from dlnotes.foundations.vanishing_gradients import CLASSES, WIDTH, task
from dlnotes.optim import GradientDescent

REDUCTION = 1e-6
FASTEST = 0.25  # αλ of the largest rate
HALVINGS = 6
SEEDS, TARGET, RATE = 10, 1.5, 0.4
BAND = (-1.1, -0.9)


def rounds_on_a_parabola(rate: float) -> int:
    """Steps until x²/2 is a million times smaller than at the start."""
    x = torch.ones(1, dtype=torch.float64)
    for step in range(1, 1_000_000):
        x = GradientDescent.rule(x, x, lr=rate)
        if x.item() ** 2 <= REDUCTION:
            return step
    raise AssertionError("not reached")


def rounds_of_networks(rates: Tensor) -> Tensor:
    """Steps of full-batch descent until a tanh network's loss is below the target.

    Returns:
        Shape (starts, rates).
    """
    x, y = (each.double() for each in task(256))
    parameters = initial([WIDTH, 16, CLASSES], torch.arange(SEEDS).repeat(len(rates)), "glorot")

    def losses(theta: list[Tensor]) -> Tensor:
        return -(y * outputs(theta, x, tanh).log_softmax(-1)).sum((1, 2)) / len(y)

    descent = Descent(GradientDescent, rates.repeat_interleave(SEEDS))
    rounds = torch.full((SEEDS * len(rates),), math.nan, dtype=torch.float64)
    step = 0
    while rounds.isnan().any():
        loss, g = gradients(losses, parameters)
        rounds[rounds.isnan() & (loss < TARGET)] = step
        parameters = descent.step(parameters, g)
        step += 1
    return rounds.view(len(rates), SEEDS).T


def slope(rates: Tensor, rounds: list[float]) -> float:
    """Slope of log rounds against log rate, by least squares."""
    a, r = rates.log(), torch.tensor(rounds, dtype=torch.float64).log()
    a, r = a - a.mean(), r - r.mean()
    return ((a @ r) / (a @ a)).item()


def experiment(budget: Budget) -> Finding:
    """Halve the rate again and again and count the steps to a fixed goal."""
    halvings = 0.5 ** torch.arange(HALVINGS, dtype=torch.float64)
    rates = FASTEST * halvings
    parabola = [float(rounds_on_a_parabola(rate)) for rate in rates.tolist()]
    exact = [math.log(REDUCTION) / 2 / math.log1p(-rate) for rate in rates.tolist()]
    agree = all(0 <= n - e < 1 for n, e in zip(parabola, exact, strict=True))

    coarse = RATE * halvings[: 3 if budget.quick else 5]
    networks = rounds_of_networks(coarse).tolist()
    slopes = [slope(coarse, rounds) for rounds in networks]
    low, high = student_interval(slopes)
    on_parabola = slope(rates[2:], parabola[2:])
    inside = [BAND[0] < s < BAND[1] for s in (on_parabola, low, high)]

    figure = Figure(figsize=(8, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.loglog(rates, parabola, "o", label="measured")
    left.loglog(rates, exact, "-", label="theory")
    left.set(xlabel="α λ", ylabel="steps", title="parabola, to a millionth of the loss")
    left.legend()
    for rounds in networks:
        right.loglog(coarse, rounds, "o-", color="C0", alpha=0.4)
    right.set_xticks(coarse, [f"{rate:.3g}" for rate in coarse.tolist()])
    right.minorticks_off()
    right.set(xlabel="α", title=f"tanh network, to a loss of {TARGET}")
    return Finding(
        verdict=Verdict.HOLDS if agree and all(inside) else Verdict.DOES_NOT_HOLD,
        effect=sum(slopes) / len(slopes),
        effect_name="slope of log steps against log α, tanh network (−1: inverse)",
        interval=(low, high),
        runs=len(networks) * len(coarse) + len(parabola),
        numbers=[
            {"problem": "parabola", "rate (αλ or α)": a, "steps": n, "steps in theory": round(e, 1)}
            for a, n, e in zip(rates.tolist(), parabola, exact, strict=True)
        ]
        + [
            {
                "problem": "network, mean of 10 starts",
                "rate (αλ or α)": a,
                "steps": sum(n[i] for n in networks) / SEEDS,
                "steps in theory": "",
            }
            for i, a in enumerate(coarse.tolist())
        ],
        figure=figure,
    )


CLAIM = Claim(
    name="small-rates-need-many-rounds",
    notes="§8, 3",
    sentence="With too small a learning rate gradient descent needs many rounds.",
    hypothesis=(
        "Below αλ = 1/4 half the rate takes twice the steps to the same loss: on a parabola "
        "log(10⁻³)/log(1 − αλ) steps, rounded up; on a tanh network the slope of log steps "
        "against log α lies between −1.1 and −0.9."
    ),
    criterion=(
        "Holds if the parabola's counts are those of the formula, and the 95 % interval of the "
        "network's slope over 10 starts lies in that band; else does not hold."
    ),
    literature=(
        "Small steps follow the gradient flow, whose time is α times the number of steps "
        "(Goodfellow, Bengio & Courville 2016, §4.3 and §8.2, https://www.deeplearningbook.org/)."
    ),
    experiment=experiment,
)
