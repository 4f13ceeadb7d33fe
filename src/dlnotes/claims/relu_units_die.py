"""ReLU units die.

Changed after a first run: learning rates are chosen on seeds that are used for nothing else; tests
are corrected for their number, and inconclusive ones leave a case undecided; a run that diverges
counts as one in which no unit died.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from dlnotes.claims.claim import Budget, Claim, Finding, Verdict
from dlnotes.claims.problems import digits_splits
from dlnotes.claims.races import Batch, Method, Parameters, Problem, train
from dlnotes.claims.statistics import decide_each, student_interval
from dlnotes.optim import OPTIMIZERS

UNITS = 64
RATES = tuple(10 ** (k / 2) for k in range(-4, 4))
BIASES = (0.0, -1.0)
SLOPES = {"relu": 0.0, "leaky ReLU": 0.1}
DEAD = 0.05  # share of dead units from which the claim counts as true
_STEPS = 300


def problem(negative_slope: float, bias: float) -> Problem:
    """Digits with one hidden layer, measured by the share of units without a positive input.

    Args:
        negative_slope: Slope of the activation for negative inputs: 0 for ReLU.
        bias: Initial value of all biases of the hidden layer.
    """
    data = digits_splits()

    def init(generator: torch.Generator) -> Parameters:
        return {
            "w": math.sqrt(2 / 64) * torch.randn(UNITS, 64, generator=generator),
            "b": torch.full((UNITS,), bias),
            "v": math.sqrt(1 / UNITS) * torch.randn(10, UNITS, generator=generator),
            "c": torch.zeros(10),
        }

    def hidden(parameters: Parameters, x: Tensor) -> Tensor:
        return nn.functional.linear(x, parameters["w"], parameters["b"])

    def loss(parameters: Parameters, batch: Batch) -> Tensor:
        a = nn.functional.leaky_relu(hidden(parameters, batch[0]), negative_slope)
        return nn.functional.cross_entropy(
            nn.functional.linear(a, parameters["v"], parameters["c"]), batch[1]
        )

    def never_positive(parameters: Parameters, data: Batch) -> Tensor:
        return (hidden(parameters, data[0]) <= 0).all(dim=0).double().mean()

    return Problem(
        f"digits, 64-{UNITS}-10, slope {negative_slope}, bias {bias}",
        init,
        loss,
        never_positive,
        train=data[0],
        dev=data[0],
        test=data[0],
        higher_is_better=False,
    )


def look(setting: tuple[str, float, tuple[int, ...], int]) -> dict[str, list[list[float]]]:
    """Dead units and training loss at the end for each rate and seed, and the most dead units.

    For a run that diverged, the values at the start count, since later ones are unknown.

    Args:
        setting: Activation, bias, seeds, updates.
    """
    activation, bias, seeds, steps = setting
    pairs = [(rate, seed) for rate in RATES for seed in seeds]
    method = Method("SGD", OPTIMIZERS["gradient-descent"])
    runs = train(problem(SLOPES[activation], bias), method, pairs, steps, 16)

    def table(of: list[float]) -> list[list[float]]:
        return np.array(of).reshape(len(RATES), len(seeds)).tolist()

    return {
        "dead": table([run.dev[0 if run.diverged else -1] for run in runs]),
        "start": table([run.dev[0] for run in runs]),
        "loss": table([math.inf if run.diverged else run.loss[-1] for run in runs]),
        "most": table([run.dev[0] if run.diverged else max(run.dev) for run in runs]),
    }


def experiment(budget: Budget, ours: str = "relu") -> Finding:
    """Count dead units for each rate and bias, and those of leaky ReLU for comparison."""
    tuning = len(budget.tuning_seeds(5))
    seeds = (*budget.tuning_seeds(5), *budget.seeds(10))
    keys = [(ours, bias) for bias in BIASES] + [("leaky ReLU", bias) for bias in BIASES]
    keys = list(dict.fromkeys(keys))
    looked = budget.map(look, [(*key, seeds, budget.steps(_STEPS)) for key in keys])

    def of(what: str, part: slice) -> dict[tuple[str, float], np.ndarray[Any, np.dtype[Any]]]:
        return {key: np.array(each[what])[:, part] for key, each in zip(keys, looked, strict=True)}

    told = slice(tuning, None)
    tuned = of("loss", slice(tuning))
    dead, loss, start, most = (of(what, told) for what in ("dead", "loss", "start", "most"))
    back = {key: most[key] - dead[key] for key in keys}
    died = {key: dead[key] - start[key] for key in keys}
    chance = math.log(10)
    found: dict[tuple[str, float], dict[str, int]] = {}
    for key in keys:
        means = tuned[key].mean(axis=1)
        best = int(np.argmin(means))
        learns = [i for i in range(len(RATES)) if means[i] < chance / 2] or [best]
        found[key] = {"best": best, "largest": max(learns)}
    plain = ours, BIASES[0]
    rates = {"best": "the best", "largest": "the largest at which the network still learns"}
    cases = {(bias, found[ours, bias][which]): which for which in rates for bias in BIASES}
    tested = decide_each([died[ours, bias][i] for bias, i in cases], margin=DEAD)
    said = dict(zip(cases, tested, strict=True))
    extreme = [
        f"biases start at {bias:g} and the learning rate is {RATES[i]:.2g}, {rates[cases[bias, i]]}"
        for (bias, i), each in said.items()
        if each is Verdict.HOLDS
    ]
    verdict = said[BIASES[0], found[plain]["best"]]
    if verdict is not Verdict.HOLDS:
        if extreme:
            verdict = Verdict.HOLDS_ONLY_IF
        elif Verdict.NOT_DECIDED in said.values():
            verdict = Verdict.NOT_DECIDED
    at = found[plain]["largest"]
    share = 100 * died[plain][at]
    low, high = student_interval(share)

    figure = Figure(figsize=(9, 4), layout="constrained")
    for axes, bias in zip(figure.subplots(1, 2, sharey=True), BIASES, strict=True):
        for name in dict.fromkeys((ours, "leaky ReLU")):
            shares = 100 * dead[name, bias]
            (line,) = axes.semilogx(RATES, shares.mean(axis=1), "o-", label=name)
            axes.semilogx(RATES, shares, ".", color=line.get_color(), alpha=0.2)
        axes.axvline(RATES[found[ours, bias]["best"]], color="gray", linestyle=":")
        axes.set(title=f"biases start at {bias:g}", xlabel="learning rate (dotted: the best)")
    figure.axes[0].set_ylabel("units without positive input (%)")
    figure.axes[0].legend()
    return Finding(
        verdict=verdict,
        condition="; or ".join(extreme) if verdict is Verdict.HOLDS_ONLY_IF else "",
        effect=float(share.mean()),
        effect_name=(
            "units without a positive input for any training digit after "
            f"{budget.steps(_STEPS)} updates, although they had one at the start; rate "
            f"{RATES[at]:.2g}, the largest at which the network still learns (%)"
        ),
        interval=(low, high),
        runs=len(seeds) * len(RATES) * len(keys),
        numbers=[
            {
                "activation": name,
                "biases start at": bias,
                "rate": rate,
                "units without positive input (%)": float(100 * dead[name, bias][i].mean()),
                "of these from the start (%)": float(100 * start[name, bias][i].mean()),
                "came back (points)": float(100 * back[name, bias][i].mean()),
                "training loss": float(loss[name, bias][i].mean()),
                "best rate": "yes" if i == found[name, bias]["best"] else "",
            }
            for name, bias in keys
            for i, rate in enumerate(RATES)
        ],
        figure=figure,
        left_out=(
            "Whether dead units never come back, for which the trainings are too short (how many "
            "came back in them is among the numbers). Deeper networks, other rules than gradient "
            "descent, longer trainings."
        ),
    )


CLAIM = Claim(
    name="relu-units-die",
    notes="§8, 11",
    sentence="ReLU is fragile: units die during training.",
    hypothesis=(
        f"At the rate with the lowest training loss, more than {100 * DEAD:g} % of the ReLU units "
        f"of a 64-{UNITS}-10 network have no positive input for any training digit after {_STEPS} "
        "updates with batches of 16, although they had one at the start."
    ),
    criterion=(
        "Holds if that is so with biases from 0; holds with a condition if it is so only for "
        "biases from −1, or at the largest rate that still halves the loss of guessing; does not "
        "hold if there are fewer in all of these; else not decided. Rates are chosen on five other "
        "seeds. A run that diverges counts as one in which no unit died. Sign-flip tests over ten "
        "seeds, corrected for their number by Holm, at .05."
    ),
    literature=(
        "Units die where a large step moves them off the data; a leak on the left keeps a gradient "
        "(Maas et al. 2013, https://ai.stanford.edu/~amaas/papers/relu_hybrid_icml2013_final.pdf); "
        "deep narrow networks may be dead from the start (Lu et al. 2019, "
        "https://arxiv.org/abs/1903.06733)."
    ),
    experiment=experiment,
)
