"""Ensembles of different models beat the best single one.

Changed after a first run, in which twenty splits used the same digits again and again, so that the
differences were not independent: each run now has a tenth of the digits for itself.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from dlnotes.claims.claim import Budget, Claim, Finding
from dlnotes.claims.problems import network
from dlnotes.claims.statistics import decide, student_interval
from dlnotes.data.digits import digits
from dlnotes.optim import Adam

_PARTS = 10  # disjoint, of 179 digits each
_TRAIN, _DEV = 100, 29  # examples of a part; all others are for its test
_STEPS = 150


def convolutional() -> nn.Module:
    """Eight filters of 3 × 3 pixels, of which the greatest of each 2 × 2 count."""
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(128, 10),
    )


KINDS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: network(64, 10),
    "ReLU network": lambda: network(64, 64, 10),
    "deep tanh network": lambda: network(64, 32, 32, 32, 10, activation="tanh"),
    "convolutional": convolutional,
}


def train(kind: str, seed: int, x: Tensor, y: Tensor, steps: int) -> nn.Module:
    """Train a model with Adam on batches of 50."""
    with torch.random.fork_rng(()):
        torch.manual_seed(seed)
        model = KINDS[kind]()
    generator = torch.Generator().manual_seed(seed)
    optimizer = Adam(model.parameters(), lr=0.01)
    for _ in range(steps):
        rows = torch.randint(len(y), (50,), generator=generator)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
        optimizer.step()
    return model


def vote(setting: tuple[int, int]) -> dict[str, float]:
    """Test accuracies for a part of the digits: of each kind, of the best, and of two ensembles.

    Args:
        setting: The part, which is also the seed of the models; updates of each training.

    Returns:
        Accuracies in percent: each kind; "best", the kind that is best on dev; "different", the
        mean probabilities of one model of each kind; "seeds", those of as many models of the best
        kind.
    """
    seed, steps = setting
    first, second = digits()
    x, y = torch.cat([first.x, second.x]), torch.cat([first.y, second.y])
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
    size = len(y) // _PARTS
    part = order[seed * size : (seed + 1) * size]
    train_rows, dev, test = part.split([_TRAIN, _DEV, size - _TRAIN - _DEV])

    @torch.no_grad()
    def probabilities(model: nn.Module, rows: Tensor) -> Tensor:
        p: Tensor = model(x[rows]).softmax(dim=1)
        return p

    def accuracy(p: Tensor, rows: Tensor) -> float:
        return float(100 * (p.argmax(dim=1) == y[rows]).double().mean())

    models = {kind: train(kind, seed, x[train_rows], y[train_rows], steps) for kind in KINDS}
    best = max(KINDS, key=lambda kind: accuracy(probabilities(models[kind], dev), dev))
    found = {kind: accuracy(probabilities(model, test), test) for kind, model in models.items()}
    others = [
        train(best, 1000 * k + seed, x[train_rows], y[train_rows], steps)
        for k in range(1, len(KINDS))
    ]
    ensembles = {"different": [*models.values()], "seeds": [models[best], *others]}
    for name, members in ensembles.items():
        mean = torch.stack([probabilities(model, test) for model in members]).mean(dim=0)
        found[name] = accuracy(mean, test)
    return {**found, "best": found[best]}


def experiment(budget: Budget, ensemble: str = "different") -> Finding:
    """Compare an ensemble with its best member on disjoint parts of the digits."""
    splits = budget.seeds(_PARTS)
    found = budget.map(vote, [(seed, budget.steps(_STEPS)) for seed in splits])
    of = {name: np.array([each[name] for each in found]) for name in found[0]}
    gain = of[ensemble] - of["best"]
    low, high = student_interval(gain)
    against_seeds = of[ensemble] - of["seeds"]

    names = [*KINDS, "best", "seeds", "different"]
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.boxplot([of[name] - of["best"] for name in names])
    axes.axhline(0, color="gray", linewidth=1)
    labels = [*KINDS, "best on dev", f"{len(KINDS)} seeds of it", "one of each"]
    axes.set_xticks(range(1, len(names) + 1), labels, rotation=20, ha="right")
    axes.set_ylabel("test accuracy − the best's (points)")
    return Finding(
        verdict=decide(gain),
        effect=float(gain.mean()),
        effect_name=(
            "test accuracy, ensemble of different models − best single one (points; of as many "
            f"seeds of that one: {float((of['seeds'] - of['best']).mean()):+.2f})"
        ),
        interval=(low, high),
        runs=len(splits) * (2 * len(KINDS) - 1),
        numbers=[
            {
                "model": label,
                "test accuracy (%)": float(of[name].mean()),
                "against the best single model (points)": float((of[name] - of["best"]).mean()),
                "better than seeds of the best": decide(against_seeds).value
                if name == "different"
                else "",
            }
            for name, label in zip(names, labels, strict=True)
        ],
        figure=figure,
        left_out="Models of text; models each tuned to its best; weighted votes.",
    )


CLAIM = Claim(
    name="ensembles-beat-the-best-model",
    notes="§8, 14",
    sentence="Ensembles of different models beat the best single one.",
    hypothesis=(
        f"The mean probabilities of {len(KINDS)} models of different kinds, each trained on the "
        f"same {_TRAIN} digits, are right more often on new ones than the kind that is best on dev."
    ),
    criterion=(
        "Holds if the mean difference of the test accuracies over ten disjoint parts of "
        "the digits, each with its own training, dev and test examples, is positive; does not hold "
        "if it is negative; sign-flip test at .05. Whether different "
        "models help more than other seeds of the best one is told beside it."
    ),
    literature=(
        "An ensemble is better than its members on average, the more so the less their errors "
        "agree (Krogh & Vedelsby 1995, https://papers.nips.cc/paper/1001); seeds of one network "
        "are strong, too (Lakshminarayanan et al. 2017, https://arxiv.org/abs/1612.01474)."
    ),
    experiment=experiment,
)
