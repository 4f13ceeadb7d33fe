"""Adaptive rules suit sparse data: the words of news."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from dlnotes.claims.claim import COLOURS, Budget, Claim, Finding, Verdict
from dlnotes.claims.races import Batch, Method, Problem, Race, classification, races
from dlnotes.claims.statistics import decide, holm, sign_flip_test, student_interval
from dlnotes.data.corpora import load
from dlnotes.data.dataset import load_dataset
from dlnotes.data.documents import Documents
from dlnotes.data.download import cache_folder

CORPUS = "bbc"
PLAIN = ("gradient-descent", "momentum", "nesterov")
ADAPTIVE = ("rmsprop", "adagrad", "adadelta", "adam")
WORDS, DIMENSION = 4000, 10
BATCH, STEPS = 16, 400
MARGIN = 0.01
"""One point of accuracy: a smaller difference does not matter."""
MIDDLE = {"rmsprop": 0.03, "adagrad": 0.3, "adadelta": 10.0, "adam": 0.1}
"""The middle of five rates that are tried first, a factor of √10 apart; else 30."""


@cache
def splits() -> tuple[Batch, Batch, Batch]:
    """Training documents, further ones for the choice of learning rates, and the dev documents.

    The test documents of the corpus are not read. The inputs are the shares of the most frequent
    words in a document.
    """
    sources = load(CORPUS, cache_dir=cache_folder())
    data = load_dataset(dict(sources), cache_dir=cache_folder() / "tokens")
    x, y = shares(data.train)
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
    held = order[: len(y) // 7]
    kept = order[len(y) // 7 :]
    return (x[kept], y[kept]), (x[held], y[held]), shares(data.dev)


def shares(documents: Documents) -> tuple[Tensor, Tensor]:
    """The share of each word in each document, ``(n, WORDS)``, and the classes."""
    tokens, labels = documents.batch(np.arange(len(documents)))
    first = 2  # after the specials come the words, the most frequent first
    counts = torch.zeros(len(tokens), WORDS + first)
    counts.scatter_add_(1, tokens.clamp(max=WORDS + 1), (tokens < WORDS + first).float())
    counts = counts[:, first:]
    return counts / counts.sum(1, keepdim=True).clamp(min=1), labels


def problem(corpus: str) -> Problem:
    """FastText of single words: the mean of word vectors, then a linear layer.

    Args:
        corpus: Its name.
    """

    def make() -> nn.Module:
        vectors = nn.Linear(WORDS, DIMENSION, bias=False)
        nn.init.uniform_(vectors.weight, -1 / DIMENSION, 1 / DIMENSION)  # as in fastText
        return nn.Sequential(vectors, nn.Linear(DIMENSION, 5))

    return classification(f"FastText on {corpus}", make, *splits())


def rates(name: str) -> tuple[float, ...]:
    """The rates that are tried first."""
    return tuple(MIDDLE.get(name, 30.0) * 10 ** (k / 2) for k in range(-2, 3))


def experiment(
    budget: Budget, plain: tuple[str, ...] = PLAIN, adaptive: tuple[str, ...] = ADAPTIVE
) -> Finding:
    """Race all rules, and compare each adaptive one with the best of the others."""
    methods = [replace(Method.named(name), rates=rates(name)) for name in (*plain, *adaptive)]
    (found,) = races(problem, [((CORPUS,), BATCH)], methods, budget, steps=STEPS, tuning_seeds=2)
    rival = max(plain, key=lambda name: float(np.nanmax([*found.entries[name].tuning.values()])))
    leads = {name: np.array(found.differences(name, rival)) for name in adaptive}
    p = holm([sign_flip_test(lead) for lead in leads.values()])
    better = [
        name
        for (name, lead), q in zip(leads.items(), p, strict=True)
        if q <= 0.05 and lead.mean() > 0
    ]
    no_better = all(decide(lead, MARGIN) is Verdict.DOES_NOT_HOLD for lead in leads.values())
    enough = len(budget.seeds(10)) == 10
    if not enough or (not better and not no_better):
        verdict = Verdict.NOT_DECIDED
    elif not better:
        verdict = Verdict.DOES_NOT_HOLD
    else:
        verdict = Verdict.HOLDS if len(better) == len(adaptive) else Verdict.HOLDS_ONLY_IF
    mean = 100 * np.mean(list(leads.values()), axis=0)
    return Finding(
        verdict=verdict,
        condition=(
            f"the rule is one of: {', '.join(better)}" if verdict is Verdict.HOLDS_ONLY_IF else ""
        ),
        effect=float(mean.mean()),
        effect_name=f"accuracy, mean of the adaptive rules − {rival} (points)",
        interval=student_interval(mean),
        runs=found.runs,
        numbers=found.rows(),
        figure=draw(found),
        left_out="Other corpora and models; more epochs; n-grams, which are sparser.",
    )


def draw(found: Race) -> Figure:
    """Draw training loss and accuracy against updates and seconds, each rule at its best rate.

    Args:
        found: The race.
    """
    figure = Figure(figsize=(9, 7), layout="constrained")
    panels = figure.subplots(2, 2)
    for (name, entry), colour in zip(found.entries.items(), COLOURS, strict=False):
        finished = [run for run in entry.runs if not run.diverged]
        if not finished:
            continue
        steps = np.array(finished[0].steps)
        loss = np.array([run.loss for run in finished])
        accuracy = 100 * np.array([run.dev for run in finished])
        for row, y in zip(panels, (loss, accuracy), strict=True):
            for axes, x in zip(row, (steps, steps * entry.seconds_per_step), strict=True):
                axes.plot(x, y.mean(0), color=colour, lw=1.5)
                axes.fill_between(x, y.min(0), y.max(0), color=colour, alpha=0.12, lw=0)
        panels[0][0].plot([], [], color=colour, label=f"{name}, rate {entry.rate:.3g}")
    for axes in panels[0]:
        axes.set_yscale("log")
    for axes in panels.flat:
        axes.grid(alpha=0.3)
    panels[0][0].set_ylabel("training loss (nats per document)")
    panels[1][0].set_ylabel("accuracy on dev (% of documents)")
    panels[1][0].set_xlabel("updates")
    panels[1][1].set_xlabel("seconds")
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8)
    return figure


CLAIM = Claim(
    name="adaptive-rules-suit-texts",
    notes="§4, how to choose an optimizer",
    sentence="For sparse data, such as texts, adaptive rules are the right choice.",
    hypothesis=(
        "FastText on the words of BBC News, each rule at its best rate: after the same number of "
        f"updates ({STEPS} of {BATCH} documents), RMSProp, Adagrad, Adadelta and Adam are correct "
        "on more unseen documents than the best of gradient descent, momentum and Nesterov."
    ),
    criterion=(
        "Holds if that is so for all four; holds only for those for which it is; does not hold if "
        "it is so for none and each is shown to be less than a point ahead; else not decided. "
        "Which of the other three is best is decided on the documents that rates are chosen on. "
        "Sign-flip tests over ten paired seeds, corrected for their number by Holm, at .05."
    ),
    literature=(
        "Where features are sparse Adagrad has the better bound (Duchi et al. 2011, "
        "https://jmlr.org/papers/v12/duchi11a.html); rare classes and words are what slows "
        "gradient descent on texts (Kunstner et al. 2024, https://arxiv.org/abs/2402.19449); "
        "fastText itself is trained by plain SGD (Joulin et al. 2017, "
        "https://arxiv.org/abs/1607.01759)."
    ),
    experiment=experiment,
)
