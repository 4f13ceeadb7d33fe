"""RMSProp, Adadelta and Adam behave alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
from matplotlib.figure import Figure

from dlnotes.claims import texts
from dlnotes.claims.claim import Budget, Claim, Finding, Verdict
from dlnotes.claims.problems import digits_splits, documents, network
from dlnotes.claims.races import Batch, Method, Problem, Race, classification, races
from dlnotes.claims.statistics import LEAST_PAIRS, decide_alike, student_interval

ALIKE = ("rmsprop", "adadelta", "adam")
PROBLEMS = (("digits", 64, 32, 10), ("words", 200, 10), ("words", 200, 16, 10))
TEXTS = (("trec", "FastText"), ("trec", "TextCNN"), ("bbc", "FastText"))
BATCHES = (8, 64)
_OTHER = "gradient-descent"
_STEPS = 150


def problem(what: str, *sizes: int) -> Problem:
    """A classifier of digits or of made-up documents.

    Args:
        what: "digits" or "words".
        sizes: Of the layers.
    """
    splits: Sequence[Batch] = digits_splits()
    if what == "words":
        splits = [documents(800, 200, 10, 10, seed) for seed in range(3)]
    name = f"{what}, {'-'.join(map(str, sizes))}"
    train, dev, test = splits
    return classification(name, lambda: network(*sizes), train, dev, test)


def experiment(budget: Budget, alike: tuple[str, ...] = ALIKE) -> Finding:
    """Compare differences in test accuracy between tuned rules with those between seeds."""
    rates = tuple(10 ** (k / 2) for k in range(-6, 3))
    entered = dict.fromkeys((*alike, _OTHER))
    methods = [replace(Method.named(name), rates=rates) for name in entered]
    real = [(*kind, budget.data_dir) for kind in TEXTS if kind[0] in budget.corpora]
    batches = [*BATCHES]
    if budget.quick:
        real, batches = real[:1], batches[1:]
    found: list[Race] = []
    for make, all_arguments in ((problem, PROBLEMS), (texts.problem, real)):
        cases = [(arguments, batch) for arguments in all_arguments for batch in batches]
        part = budget.part(0.2, 1) if make is texts.problem else budget.part(0, 0.2)
        found += races(make, cases, methods, part, steps=_STEPS, seeds=20, tuning_seeds=2)
    numbers: list[dict[str, str | float]] = []
    equal = []
    ratios: dict[str, np.ndarray[tuple[int], np.dtype[np.float64]]] = {}
    columns = 3
    rows = -(-len(found) // columns)
    figure = Figure(figsize=(10, 3 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).flat
    for axes in panels[len(found) :]:
        axes.remove()
    for raced, axes in zip(found, panels[: len(found)], strict=True):
        # What another seed changes within a method, in points.
        variances = [np.var(_points(raced.figures(name)), ddof=1) for name in alike]
        spread = float(np.sqrt(np.mean(variances)))
        said = {}
        for a, b in combinations(entered, 2):
            gap = 100 * np.array(raced.differences(a, b))
            said[a, b] = decide_alike(gap, margin=spread)
            numbers.append(
                {
                    "problem": raced.problem,
                    "batch": raced.batch_size,
                    "methods": f"{a} − {b}",
                    "test accuracy (points)": float(gap.mean()),
                    "spread over seeds (points)": spread,
                    "alike": said[a, b].value,
                }
            )
            if a in alike and b in alike:
                pair = f"{a} − {b}, {raced.problem}, batches of {raced.batch_size}"
                ratios[pair] = gap / spread
        equal.append([said[pair] for pair in combinations(alike, 2)])
        for name, entry in raced.entries.items():
            curves = 100 * np.array([run.dev for run in entry.runs if not run.diverged])
            axes.plot(entry.runs[0].steps, curves.mean(axis=0), label=name)
            low, high = curves.min(axis=0), curves.max(axis=0)
            axes.fill_between(entry.runs[0].steps, low, high, alpha=0.15)
        axes.set_title(f"{raced.problem}, batch {raced.batch_size}", fontsize=9)
    figure.supxlabel("updates")
    figure.axes[0].set_ylabel("dev accuracy (%)")
    figure.axes[0].legend(fontsize=8)

    where = [
        f"{raced.problem} with batches of {raced.batch_size}"
        for raced, said in zip(found, equal, strict=True)
        if {*said} == {Verdict.HOLDS}
    ]
    verdict = Verdict.NOT_DECIDED
    if len(budget.seeds(20)) >= LEAST_PAIRS:
        if len(where) == len(found):
            verdict = Verdict.HOLDS
        elif where:
            verdict = Verdict.HOLDS_ONLY_IF
        elif all(Verdict.DOES_NOT_HOLD in said for said in equal):
            verdict = Verdict.DOES_NOT_HOLD
    worst = max(ratios, key=lambda pair: abs(ratios[pair].mean()))
    largest = ratios[worst] * np.sign(ratios[worst].mean() or 1)
    low, high = student_interval(largest)
    return Finding(
        verdict=verdict,
        condition=f"the problem is {' or '.join(where)}"
        if verdict is Verdict.HOLDS_ONLY_IF
        else "",
        effect=float(largest.mean()),
        effect_name=(
            "largest difference in accuracy between two rules / standard deviation over seeds "
            f"({worst}; of {len(ratios)})"
        ),
        interval=(low, high),
        runs=sum(raced.runs for raced in found),
        numbers=numbers,
        figure=figure,
        left_out="Larger networks, longer trainings."
        + texts.left_out(budget, [name for name, _ in TEXTS]),
    )


def _points(figures: list[float]) -> list[float]:
    return [100 * x if np.isfinite(x) else 0.0 for x in figures]


CLAIM = Claim(
    name="adaptive-rules-are-alike",
    notes="§8, 10",
    sentence="RMSProp, Adadelta and Adam behave alike in many cases.",
    hypothesis=(
        "Each at its best rate, the mean test accuracies of any two of them differ by less than "
        "the standard deviation over seeds of one of them, on digits, made-up words, TREC and BBC "
        f"News, with batches of {' and '.join(map(str, BATCHES))}."
    ),
    criterion=(
        "The spread is the pooled standard deviation over seeds, estimated from the same runs. Two "
        "rules are alike if two one-sided t tests at .05 over twenty paired seeds say so. "
        "Holds if all pairs are alike in all cases; holds only for the cases where all are; does "
        "not hold if each case has a pair that differs by more; else not decided."
    ),
    literature=(
        "With equal tuning, the order of these rules changes from problem to problem and the "
        "differences are small (Schmidt et al. 2021, https://arxiv.org/abs/2007.01547)."
    ),
    experiment=experiment,
    corpora=("trec", "bbc"),
    cost=100.0,
)
