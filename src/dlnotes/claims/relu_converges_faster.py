"""ReLU converges much faster than sigmoid and tanh.

Changed after a first run: "much" means twice as fast; a case is not decided if runs miss the target
or its test is inconclusive; the tests are corrected for their number.
"""

from __future__ import annotations

import math
from dataclasses import asdict
from itertools import pairwise

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor, nn

from dlnotes.claims.claim import Budget, Claim, Finding, Verdict
from dlnotes.claims.problems import digits_splits
from dlnotes.claims.races import Batch, Method, Parameters, Problem
from dlnotes.claims.statistics import decide_each, over_cases, student_interval, together
from dlnotes.claims.targets import Reached, reach
from dlnotes.optim import OPTIMIZERS

DEPTHS = (2, 4, 7, 10)  # hidden layers
WIDTH = 24
ACTIVATIONS = {"relu": torch.relu, "sigmoid": torch.sigmoid, "tanh": torch.tanh}
INITIALIZATIONS = ("usual in 2010", "variance-preserving")
MUCH = 2.0  # times as fast
TARGET = 0.75  # accuracy on the training set, AlexNet's measure
_N = 500  # training examples
_BATCH = 50
_LIMIT = 400
_UNKNOWN = 20.0  # stands for an unknown bound in log2, large enough to decide nothing

Array = NDArray[np.float64]


def initial(generator: torch.Generator, depth: int, activation: str, how: str) -> Parameters:
    r"""Weights of one of two distributions; biases are 0.

    Those usual in 2010 are uniform in ±1/√n for n inputs, the "commonly used heuristic" of Glorot &
    Bengio 2010, https://proceedings.mlr.press/v9/glorot10a.html. The others keep the variance from
    layer to layer: a standard deviation of √(2/n) for ReLU (He et al. 2015,
    https://arxiv.org/abs/1502.01852), √(2/(n + m)) for tanh (Glorot & Bengio), and four times that
    for the sigmoid, whose slope at 0 is 1/4 (ibid.).
    """
    sizes = [64, *[WIDTH] * depth, 10]
    parameters: Parameters = {}
    for i, (n, m) in enumerate(pairwise(sizes)):
        if how == INITIALIZATIONS[0]:
            w = (2 * torch.rand(m, n, generator=generator) - 1) / math.sqrt(n)
        else:
            glorot = math.sqrt(2 / (n + m))
            scale = {"relu": math.sqrt(2 / n), "tanh": glorot, "sigmoid": 4 * glorot}[activation]
            w = scale * torch.randn(m, n, generator=generator)
        parameters |= {f"{i}.w": w, f"{i}.b": torch.zeros(m)}
    return parameters


def scores(parameters: Parameters, x: Tensor, activation: str) -> Tensor:
    """The network's outputs, one for each digit."""
    last = len(parameters) // 2 - 1
    for i in range(last):
        z = nn.functional.linear(x, parameters[f"{i}.w"], parameters[f"{i}.b"])
        x = ACTIVATIONS[activation](z)
    return nn.functional.linear(x, parameters[f"{last}.w"], parameters[f"{last}.b"])


def problem(depth: int, activation: str, how: str) -> Problem:
    """Digits, measured by the accuracy on the training set."""
    x, y = (part[:_N] for part in digits_splits()[0])
    train = (x - x.mean(), y)

    def loss(parameters: Parameters, batch: Batch) -> Tensor:
        return nn.functional.cross_entropy(scores(parameters, batch[0], activation), batch[1])

    def accuracy(parameters: Parameters, data: Batch) -> Tensor:
        return (scores(parameters, data[0], activation).argmax(-1) == data[1]).double().mean()

    return Problem(
        f"{depth} hidden layers, {activation}, {how}",
        lambda generator: initial(generator, depth, activation, how),
        loss,
        accuracy,
        train,
        train,
        train,
    )


def needed(cell: tuple[int, str, str, bool]) -> Reached:
    """Number of updates to the target for a depth, an activation and an initialization."""
    depth, activation, how, quick = cell
    rates = (0.1, 0.3, 1.0, 3.0)
    method = Method("SGD", OPTIMIZERS["gradient-descent"], rates=rates)
    target, limit = (0.3, 40) if quick else (TARGET, _LIMIT)
    of = problem(depth, activation, how)
    return reach(
        target, of, method, Budget(quick=quick), steps=limit, batch_size=_BATCH, tuning_seeds=2
    )


def _as_numbers(cell: tuple[int, str, str, bool]) -> dict[str, object]:
    return asdict(needed(cell))


def ratios(other: Reached, ours: Reached) -> tuple[Array, Array]:
    """Bounds of log2(steps of the other / our steps), seed by seed.

    Of a run that missed the target it is only known that it needs more steps than the limit.

    Args:
        other: Updates of the other activation.
        ours: Updates of this one, with the same limit.
    """
    a, b = np.array(other.steps), np.array(ours.steps)
    low = np.log2(np.minimum(a, other.limit)) - np.log2(b)
    high = np.log2(a) - np.log2(np.minimum(b, ours.limit))
    return np.maximum(low, -_UNKNOWN), np.minimum(high, _UNKNOWN)


def experiment(budget: Budget, ours: str = "relu") -> Finding:
    """Count updates to 25 % training error for each depth, activation and initialization."""
    depths = DEPTHS[:2] if budget.quick else DEPTHS
    others = [name for name in ACTIVATIONS if name != ours]
    keys = [
        (how, depth, name) for how in INITIALIZATIONS for depth in depths for name in ACTIVATIONS
    ]
    cells = [(depth, name, how, budget.quick) for how, depth, name in keys]
    found = {
        key: Reached(**each) for key, each in zip(keys, budget.map(_as_numbers, cells), strict=True)
    }
    log = {key: np.log2(each.counted) for key, each in found.items()}
    networks = [(how, depth) for how in INITIALIZATIONS for depth in depths]
    pairs = [(how, depth, name) for how, depth in networks for name in others]
    bounds = [ratios(found[pair], found[pair[0], pair[1], ours]) for pair in pairs]
    at_least = decide_each([low for low, _ in bounds], margin=math.log2(MUCH))
    at_most = decide_each([high for _, high in bounds], margin=math.log2(MUCH))
    said = {}
    for pair, low_end, high_end in zip(pairs, at_least, at_most, strict=True):
        said[pair] = Verdict.NOT_DECIDED
        if low_end is Verdict.HOLDS:
            said[pair] = Verdict.HOLDS
        elif high_end is Verdict.DOES_NOT_HOLD:
            said[pair] = Verdict.DOES_NOT_HOLD
    faster = {
        (how, depth): together([said[how, depth, name] for name in others])
        for how, depth in networks
    }
    verdict = over_cases([*faster.values()])
    where, open_for = (
        [f"{depth} hidden layers and weights {how}" for (how, depth), v in faster.items() if v is w]
        for w in (Verdict.HOLDS, Verdict.NOT_DECIDED)
    )
    # The effect is that of the faster of the two others, network by network.
    leads = [
        min((log[how, depth, name] for name in others), key=np.mean) - log[how, depth, ours]
        for how, depth in networks
    ]
    mean = np.mean(leads, axis=0)
    low, high = student_interval(mean)

    figure = Figure(figsize=(9, 4), layout="constrained")
    for axes, how in zip(figure.subplots(1, 2, sharey=True), INITIALIZATIONS, strict=True):
        for name in ACTIVATIONS:
            steps = [2 ** log[how, depth, name] for depth in depths]
            (line,) = axes.semilogy(depths, np.exp(np.log(steps).mean(1)), "o-", label=name)
            axes.semilogy(depths, steps, ".", color=line.get_color(), alpha=0.3)
        axes.axhline(found[keys[0]].limit, color="gray", linestyle=":")
        axes.set(title=f"weights {how}", xlabel="hidden layers")
    figure.axes[0].set_ylabel("updates to 25 % training error\n(above the line: not reached)")
    figure.axes[0].legend()
    return Finding(
        verdict=verdict,
        condition=(
            f"the network has {' or '.join(where)}"
            + f"; it is not decided for {', '.join(open_for)}" * bool(open_for)
            if verdict is Verdict.HOLDS_ONLY_IF
            else ""
        ),
        effect=float(2 ** mean.mean()),
        effect_name=(
            f"updates to the target, the faster of {' and '.join(others)} / {ours}, geometric "
            "mean of all networks (a miss counts as twice the limit)"
        ),
        interval=(2**low, 2**high),
        runs=sum(each.trials + len(each.steps) for each in found.values()),
        numbers=[
            {
                "weights": how,
                "hidden layers": depth,
                "activation": name,
                "best rate": each.rate,
                "updates to the target": float(each.counted.mean()),
                "missed": each.misses,
                f"{ours} is {MUCH:g} times as fast": (
                    said[how, depth, name].value if name != ours else ""
                ),
            }
            for (how, depth, name), each in found.items()
        ],
        figure=figure,
        left_out="Convolutions, normalization, other rules than gradient descent.",
    )


CLAIM = Claim(
    name="relu-converges-faster",
    notes="§8, 11",
    sentence="ReLU converges much faster than sigmoid and tanh.",
    hypothesis=(
        "At its best rate, a network with ReLU reaches 25 % training error on the digits more than "
        f"{MUCH:g} times as fast as one with sigmoid and one with tanh, with "
        f"{', '.join(map(str, DEPTHS))} hidden layers, from weights as they were usual in 2010 and "
        "from ones that keep the variance."
    ),
    criterion=(
        "Holds if that is so for all depths and both initializations; holds only for those for "
        "which it is so; does not hold if in every network at least one ratio is shown to be "
        f'smaller; else not decided. Of a run that misses, only "more than {_LIMIT} updates" '
        "is known; a comparison is decided only if it comes out the same for every such number. "
        "Sign-flip tests of log2 ratios over ten paired seeds, corrected for their number by Holm, "
        "at .05."
    ),
    literature=(
        "ReLU reached 25 % training error six times as fast as tanh (Krizhevsky et al. 2012, "
        "https://papers.nips.cc/paper/4824); a good initialization trains deep sigmoid and tanh "
        "networks, too (Glorot & Bengio 2010, https://proceedings.mlr.press/v9/glorot10a.html)."
    ),
    experiment=experiment,
)
