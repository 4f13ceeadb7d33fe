"""As gradients get sparse, Adam beats RMSProp."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from matplotlib.figure import Figure

from dlnotes.claims.claim import Budget, Claim, Finding, Verdict
from dlnotes.claims.problems import convergence, documents, network
from dlnotes.claims.races import Method, Problem, Race, races, train
from dlnotes.claims.statistics import decide, student_interval
from dlnotes.optim import OPTIMIZERS

LENGTHS = (64, 16, 4, 1)  # words of a document, from dense to sparse gradients
WORDS, CLASSES, BATCH = 300, 20, 8
_STEPS = 200
_FREQUENT = 4  # classes that make up more than half of the documents


def problem(length: int) -> Problem:
    """A linear classifier of made-up documents; the loss on documents that it has not seen."""
    draw = (documents(1000, WORDS, CLASSES, length, seed) for seed in range(3))
    train, dev, test = draw
    made = convergence(f"words, {length} a document", lambda: network(WORDS, CLASSES), train)
    return replace(made, dev=dev, test=test)


def density(of: Problem) -> float:
    """The share of a gradient's columns, one for each word, that are not 0."""
    x = of.train[0][: len(of.train[0]) // BATCH * BATCH]
    return float((x.view(-1, BATCH, WORDS) > 0).any(dim=1).double().mean())


def by_frequency(of: Problem, method: Method, raced: Race, budget: Budget) -> dict[str, float]:
    """Test loss on frequent and on rare classes."""
    x, y = of.test
    steps = budget.steps(_STEPS)
    groups = {"frequent": y < _FREQUENT, "rare": y >= _FREQUENT}

    def compute() -> dict[str, float]:
        pairs = [(raced.entries[method.name].rate, seed) for seed in budget.seeds(10)]
        found = {}
        for name, rows in groups.items():
            runs = train(replace(of, test=(x[rows], y[rows])), method, pairs, steps, BATCH)
            found[name] = float(np.mean([run.test for run in runs]))
        return found

    settings = {"groups": of.digest, **method.settings, "rate": raced.entries[method.name].rate}
    kept: dict[str, float] = budget.cached(settings, compute)
    return kept


def experiment(budget: Budget, ours: str = "adam", theirs: str = "rmsprop") -> Finding:
    """Race both rules on ever shorter documents; RMSProp with Adam's decay beside them."""
    rates = tuple(10 ** (k / 2) for k in range(-6, 1))
    methods = [
        replace(Method.named(ours), rates=rates),
        replace(Method.named(theirs), rates=rates),
        Method("rmsprop, β = 0.999", OPTIMIZERS["rmsprop"], {"beta": 0.999}, rates),
    ]
    cases = [((length,), BATCH) for length in LENGTHS]
    found = races(problem, cases, methods, budget, steps=_STEPS, tuning_seeds=2)
    leads, densities, numbers = [], [], []
    runs = sum(raced.runs for raced in found)
    for length, raced in zip(LENGTHS, found, strict=True):
        of = problem(length)
        densities.append(density(of))
        leads.append(np.array(raced.differences(ours, theirs)))
        for row, method in zip(raced.rows(), methods, strict=True):
            groups = by_frequency(of, method, raced, budget)
            runs += 2 * len(raced.entries[method.name].runs)
            losses = {f"test loss, {name} classes": loss for name, loss in groups.items()}
            numbers.append({"density of gradients": densities[-1], **row, **losses})
    grown = leads[-1] - leads[0]
    ahead, grows = decide(leads[-1]), decide(grown)
    verdict = ahead
    if ahead is Verdict.HOLDS and grows is not Verdict.HOLDS:
        verdict = grows  # it is ahead, but not because gradients are sparse
    low, high = student_interval(grown)

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.axhline(0, color="gray", linewidth=1)
    axes.semilogx(densities, leads, "o", color="C0", alpha=0.3)
    axes.semilogx(densities, np.mean(leads, axis=1), "o-", color="C0")
    axes.set_xticks(densities, [f"{density:.2g}" for density in densities])
    axes.minorticks_off()
    axes.invert_xaxis()
    axes.set(
        xlabel="share of words with a gradient in an update: ever sparser",
        ylabel=f"test loss, {theirs} − {ours} (nats)",
    )
    return Finding(
        verdict=verdict,
        effect=float(grown.mean()),
        effect_name=f"lead of {ours} in test loss, sparsest − densest (nats)",
        interval=(low, high),
        runs=runs,
        numbers=numbers,
        figure=figure,
        left_out="Several draws of the documents; texts of people; other batch sizes.",
    )


CLAIM = Claim(
    name="adam-beats-rmsprop-on-sparse-gradients",
    notes="§8, 10",
    sentence="As gradients become sparser, Adam does better than RMSProp.",
    hypothesis=(
        "A linear classifier of documents whose words and classes follow Zipf's law has a lower "
        f"test loss after {_STEPS} updates with Adam than with RMSProp if a document has one word, "
        f"and Adam's lead is greater than if it has {LENGTHS[0]}; both at their best rates."
    ),
    criterion=(
        "Holds if the lead with one word and its growth are positive; does not hold if one of them "
        "is negative; sign-flip tests at .05 over ten paired seeds."
    ),
    literature=(
        "RMSProp without a bias correction takes too large steps where β is near 1, as sparse "
        "gradients need it (Kingma & Ba 2015, https://arxiv.org/abs/1412.6980, section 6.4)."
    ),
    experiment=experiment,
)
