"""Adam converges faster."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dlnotes.claims import texts
from dlnotes.claims.claim import Budget, Claim, Finding, Verdict
from dlnotes.claims.problems import convergence, digits_splits, documents, network
from dlnotes.claims.races import Method, Problem, races
from dlnotes.claims.statistics import (
    against_the_closest,
    decide_each,
    over_cases,
    student_interval,
    together,
)

PROBLEMS = ("digits", "words", "trec", "r52")
BATCHES = (8, 64, 512)
OTHERS = ("gradient-descent", "momentum", "rmsprop")
SEEDS = 14  # of 36 tests corrected by Holm, one of ten pairs could never reach .05
_STEPS = 100
_LEAST, _MOST = 1e-7, 10.0  # nats; lower losses are rounding errors of float32, down to 0
CORPORA = ("trec", "r52")

Leads = NDArray[np.float64]


def problem(what: str, data_dir: str = "") -> Problem:
    """A network on dense pixels, a linear classifier on made-up words, or FastText on real ones.

    Args:
        what: An entry of `PROBLEMS`.
        data_dir: Folder of corpora; "" for none.
    """
    if what in CORPORA:
        return texts.training(what, "FastText", data_dir)
    if what == "digits":
        return convergence("digits, 64-32-10", lambda: network(64, 32, 10), digits_splits()[0])
    made_up = documents(1000, words=200, classes=10, length=10, seed=0)
    return convergence("words, 200-10", lambda: network(200, 10), made_up)


def rates(name: str) -> tuple[float, ...]:
    """Seven rates; rules that divide by the size of the gradient need smaller ones."""
    first = -2 if name in ("gradient-descent", "momentum", "nesterov") else -6
    return tuple(10 ** (k / 2) for k in range(first, first + 7))


def logarithm(figures: list[float]) -> Leads:
    """The binary logarithm of losses, of which none is 0: float32 gives 0 for a small one."""
    losses = np.nan_to_num(np.array(figures), nan=_MOST)
    found: Leads = np.log2(np.clip(losses, _LEAST, _MOST))
    return found


def judged(
    leads: dict[tuple[str, int, str], Leads], cells: list[tuple[str, int]]
) -> dict[str, Verdict]:
    """The verdict of each case: whether all rivals are slower.

    Args:
        leads: Paired differences, by problem, batch size and rival.
        cells: Pairs of a problem and a batch size.
    """
    said = dict(zip(leads, decide_each([*leads.values()]), strict=True))
    return {
        f"{what} with batches of {batch}": together(
            [each for key, each in said.items() if key[:2] == (what, batch)]
        )
        for what, batch in cells
    }


def experiment(budget: Budget, ours: str = "adam", others: tuple[str, ...] = OTHERS) -> Finding:
    """Race Adam against each rule that it is made of, on each problem, at each batch size."""
    problems = [what for what in PROBLEMS if what not in CORPORA or what in budget.corpora]
    if budget.quick:
        problems = problems[:3]
    cases = [((what, budget.data_dir), batch) for what in problems for batch in BATCHES]
    methods = [replace(Method.named(name), rates=rates(name)) for name in (ours, *others)]
    numbers: list[dict[str, str | float]] = []
    leads: dict[tuple[str, int, str], Leads] = {}
    found = races(problem, cases, methods, budget, steps=_STEPS, seeds=SEEDS, tuning_seeds=2)
    figure = Figure(figsize=(9, 2.5 * len(problems)), layout="constrained")
    panels = figure.subplots(len(problems), len(BATCHES), squeeze=False)
    for raced, axes in zip(found, panels.flat, strict=True):
        numbers += raced.rows()
        losses = {name: logarithm(raced.figures(name)) for name in raced.entries}
        for name in others:
            leads[raced.problem, raced.batch_size, name] = losses[name] - losses[ours]
        for name, entry in raced.entries.items():
            curves = np.array([run.dev for run in entry.runs if not run.diverged])
            if curves.size:
                axes.semilogy(entry.runs[0].steps, curves.mean(axis=0), label=name)
        axes.set_title(f"{raced.problem}, batch {raced.batch_size}", fontsize=9)
    figure.axes[0].legend(fontsize=8)
    figure.supxlabel("updates")
    figure.supylabel("training loss (nats)")

    cells = [(raced.problem, raced.batch_size) for raced in found]
    said = judged(leads, cells)
    verdict = over_cases([*said.values()])
    best_in, open_for = (
        [case for case, each in said.items() if each is wanted]
        for wanted in (Verdict.HOLDS, Verdict.NOT_DECIDED)
    )
    # The effect is the lead over the closest competitor of each case, chosen on other seeds.
    closest = np.mean(
        [
            against_the_closest(0 * theirs[0], theirs)
            for theirs in ([leads[what, batch, name] for name in others] for what, batch in cells)
        ],
        axis=0,
    )
    low, high = student_interval(closest)
    return Finding(
        verdict=verdict,
        condition=(
            f"the problem is {' or '.join(best_in)}"
            + f"; it is not decided for {', '.join(open_for)}" * bool(open_for)
            if verdict is Verdict.HOLDS_ONLY_IF
            else ""
        ),
        effect=float(2 ** closest.mean()),
        effect_name=(
            f"training loss of the best of {', '.join(others)}, divided by that of {ours}: "
            f"geometric mean of {len(cells)} cases"
        ),
        interval=(2**low, 2**high),
        runs=sum(raced.runs for raced in found),
        numbers=numbers,
        figure=figure,
        left_out=(
            "Decays other than the defaults; schedules of the rate; large networks."
            + texts.left_out(budget, CORPORA)
        ),
    )


CLAIM = Claim(
    name="adam-converges-faster",
    notes="§8, 10",
    sentence="Adam converges faster than the rules that it combines.",
    hypothesis=(
        f"After {_STEPS} updates at its best rate, Adam has a lower training loss than gradient "
        "descent, momentum and RMSProp at theirs, on digits, made-up words, TREC and Reuters, with "
        f"batches of {', '.join(map(str, BATCHES))}."
    ),
    criterion=(
        "Holds if that is so for all problems and batch sizes; holds only for those for which it "
        "is so against all three rules; does not hold if in each of them one of the rules is "
        f"faster; else not decided. Sign-flip tests over {SEEDS} paired seeds, corrected for their "
        "number by Holm, at .05."
    ),
    literature=(
        "Adam's lead grows with the batch and comes from heavy-tailed classes, words above all "
        "(Kunstner et al., https://arxiv.org/abs/2304.13960 and https://arxiv.org/abs/2402.19449)."
    ),
    experiment=experiment,
    corpora=CORPORA,
    cost=120.0,
)
