"""Data on which Adam is not the best choice: a counterexample of Wilson et al."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from dlnotes.claims.claim import Budget, Claim, Finding
from dlnotes.claims.races import Batch, Method, Parameters, Problem, races, train
from dlnotes.claims.statistics import decide, student_interval

N = 100
"""Number of training examples."""
POSITIVE = 0.6  # the share of those with the label 1
METHODS = ("gradient-descent", "momentum", "nesterov", "adagrad", "rmsprop", "adadelta", "adam")
_STEPS = 300


def examples(n: int, seed: int, unique: bool) -> tuple[Tensor, Tensor]:
    r"""Wilson et al.'s separable data (section 3.3 of https://arxiv.org/abs/1705.08292).

    The first feature is the label, the next two are always 1. After them, each example has features
    that no other example has: one for a positive example, five for a negative one.

    .. math::
        x_{ij} = \begin{cases} y_i & j = 1 \\ 1 & j = 2, 3 \\
        1 & j = 4 + 5 (i − 1), …, 4 + 5 (i − 1) + 2 (1 − y_i) \\ 0 & \text{else} \end{cases}

    Args:
        n: Number of examples.
        seed: Seed of the labels.
        unique: Whether the unique features have columns. New examples need none: no training
            example has moved the weights of their unique features from 0.

    Returns:
        Features ``(n, 3 + 5 N)`` and labels −1 and 1.
    """
    generator = torch.Generator().manual_seed(seed)
    y = torch.where(torch.rand(n, generator=generator) < POSITIVE, 1.0, -1.0)
    x = torch.zeros(n, 3 + 5 * N)
    x[:, 0], x[:, 1:3] = y, 1
    if unique:
        for i in range(n):
            first = 3 + 5 * i
            x[i, first : first + (1 if y[i] > 0 else 5)] = 1
    return x, y


def loss(parameters: Parameters, batch: Batch) -> Tensor:
    """Mean squared error of a linear model."""
    x, y = batch
    return (x @ parameters["w"] - y).square().mean()


def error(parameters: Parameters, batch: Batch) -> Tensor:
    """The share of examples with the wrong sign."""
    x, y = batch
    return (x @ parameters["w"] * y <= 0).double().mean()


def problem(seed: int) -> Problem:
    """Least squares on a draw of the data, measured by the training loss."""
    data = examples(N, seed, unique=True)
    return Problem(
        f"separable {seed}",
        lambda _: {"w": torch.zeros(3 + 5 * N)},
        loss,
        loss,
        train=data,
        dev=data,
        test=data,
        higher_is_better=False,
    )


def test(of: Problem, method: Method, rate: float, steps: int) -> float:
    """The test measure after a training."""
    return train(of, method, [(rate, 0)], steps, N)[0].test


def experiment(budget: Budget, adam: str = "adam", plain: str = "gradient-descent") -> Finding:
    """Fit ten draws of the data with each rule, at the rate with the lowest training loss."""
    draws = budget.seeds(10)
    errors: dict[str, list[float]] = {name: [] for name in METHODS}
    fitted: dict[str, list[float]] = {name: [] for name in METHODS}
    rates = tuple(10 ** (k / 2) for k in range(-6, 1))
    methods = [replace(Method.named(name), rates=rates) for name in METHODS]
    cases = [((seed,), N) for seed in draws]
    found = races(problem, cases, methods, budget, steps=_STEPS, seeds=1, tuning_seeds=1)
    for seed, raced in zip(draws, found, strict=True):
        new = examples(500, seed + 500, unique=False)
        tested = replace(problem(seed), measure=error, test=new)
        for method in methods:
            rate, steps = raced.entries[method.name].rate, budget.steps(_STEPS)
            settings = {"test": seed, "method": method.name, "rate": rate, "steps": steps}
            errors[method.name].append(
                budget.cached(
                    settings,
                    partial(test, tested, method, rate, steps),
                )
            )
            fitted[method.name].append(raced.figures(method.name)[0])
    difference = 100 * (np.array(errors[plain]) - np.array(errors[adam]))
    low, high = student_interval(difference)

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for i, some in enumerate(errors.values()):
        axes.plot([i] * len(some), 100 * np.array(some), "o", color="C0", alpha=0.4)
    axes.set_xticks(range(len(errors)), errors, rotation=30, ha="right")
    axes.axhline(100 * (1 - POSITIVE), color="gray", linestyle=":")
    axes.set(ylabel="error on new examples (%)", ylim=(-2, 60))
    return Finding(
        verdict=decide(difference),
        effect=float(difference.mean()),
        effect_name=f"error on new examples, {plain} − {adam} (points)",
        interval=(low, high),
        runs=sum(raced.runs + len(methods) for raced in found),
        numbers=[
            {
                "method": name,
                "error on new examples (%)": 100 * float(np.mean(some)),
                "training loss": float(np.mean(fitted[name])),
            }
            for name, some in errors.items()
        ],
        figure=figure,
        left_out="Other ε: with a large one, Adam comes close to momentum and to its solution.",
    )


CLAIM = Claim(
    name="adam-is-the-best-on-planted-data",
    notes="§8, 10",
    sentence="Adam is the best choice even on data built against adaptive rules.",
    hypothesis=(
        "On Wilson et al.'s separable data, least squares by Adam makes fewer errors on new "
        "examples than by gradient descent, both fitted at the rate with the lowest training loss."
    ),
    criterion=(
        "Holds if the mean of gradient descent's error minus Adam's is positive over ten draws of "
        "the data; does not hold if it is negative; sign-flip test at .05."
    ),
    literature=(
        "Adaptive rules weight every feature alike and call all new examples positive; gradient "
        "descent finds the solution of the smallest norm and makes no error (Wilson et al. 2017, "
        "https://arxiv.org/abs/1705.08292)."
    ),
    experiment=experiment,
)
