"""Adam converges faster."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from matplotlib.figure import Figure

from dlnotes.claims.claim import Budget, Claim, Finding, Verdict
from dlnotes.claims.problems import convergence, digits_splits, documents, network
from dlnotes.claims.races import Method, Problem, races
from dlnotes.claims.statistics import LEAST_PAIRS, holm, sign_flip_test, student_interval

PROBLEMS = ("digits", "words")
BATCHES = (8, 64, 512)
OTHERS = ("gradient-descent", "momentum", "rmsprop")
_STEPS = 100
_LOWEST = 1e-7  # below are rounding errors of float32, down to 0
_HIGHEST = 10.0  # also what a diverged run counts as


def problem(what: str) -> Problem:
    """A network for dense pixels, or a linear classifier of sparse words.

    Args:
        what: An entry of `PROBLEMS`.
    """
    if what == "digits":
        return convergence("digits, 64-32-10", lambda: network(64, 32, 10), digits_splits()[0])
    texts = documents(1000, words=200, classes=10, length=10, seed=0)
    return convergence("words, 200-10", lambda: network(200, 10), texts)


def rates(name: str) -> tuple[float, ...]:
    """Seven rates; rules that divide by the size of the gradient need smaller ones."""
    first = -2 if name in ("gradient-descent", "momentum", "nesterov") else -6
    return tuple(10 ** (k / 2) for k in range(first, first + 7))


def experiment(budget: Budget, ours: str = "adam", others: tuple[str, ...] = OTHERS) -> Finding:
    """Race Adam with each rule that it is made of, on each problem, at each batch size."""
    cases = [((what,), batch) for what in PROBLEMS for batch in BATCHES]
    methods = [replace(Method.named(name), rates=rates(name)) for name in (ours, *others)]
    numbers: list[dict[str, str | float]] = []
    leads: dict[tuple[str, int, str], np.ndarray[tuple[int], np.dtype[np.float64]]] = {}
    found = races(problem, cases, methods, budget, steps=_STEPS, tuning_seeds=2)
    figure = Figure(figsize=(9, 5), layout="constrained")
    panels = figure.subplots(len(PROBLEMS), len(BATCHES), squeeze=False)
    for raced, axes in zip(found, panels.flat, strict=True):
        numbers += raced.rows()
        losses = {name: np.nan_to_num(raced.figures(name), nan=np.inf) for name in raced.entries}
        losses = {name: np.clip(loss, _LOWEST, _HIGHEST) for name, loss in losses.items()}
        for name in others:
            ratio = np.log2(losses[name] / losses[ours])
            leads[raced.problem, raced.batch_size, name] = ratio
        for name, entry in raced.entries.items():
            curves = np.array([run.dev for run in entry.runs if not run.diverged])
            if curves.size:
                axes.semilogy(entry.runs[0].steps, curves.mean(axis=0), label=name)
        axes.set_title(f"{raced.problem}, batch {raced.batch_size}", fontsize=9)
    figure.axes[0].legend(fontsize=8)
    figure.supxlabel("updates")
    figure.supylabel("training loss (nats)")

    p = holm([sign_flip_test(lead) for lead in leads.values()])
    faster = {key: q <= 0.05 and leads[key].mean() > 0 for key, q in zip(leads, p, strict=True)}
    cells = [(raced.problem, raced.batch_size) for raced in found]
    best_in = [
        f"{what} with batches of {batch}"
        for what, batch in cells
        if all(faster[what, batch, name] for name in others)
    ]
    verdict = Verdict.HOLDS_ONLY_IF if best_in else Verdict.DOES_NOT_HOLD
    if len(best_in) == len(cells):
        verdict = Verdict.HOLDS
    # The effect is that of the closest competitor, cell by cell.
    closest = np.mean(
        [min((leads[what, batch, name] for name in others), key=np.mean) for what, batch in cells],
        axis=0,
    )
    if len(closest) < LEAST_PAIRS:
        verdict = Verdict.NOT_DECIDED
    low, high = student_interval(closest)
    return Finding(
        verdict=verdict,
        condition=(
            f"the problem is {' or '.join(best_in)}" if verdict is Verdict.HOLDS_ONLY_IF else ""
        ),
        effect=float(2 ** closest.mean()),
        effect_name=f"training loss of the best of {', '.join(others)} / of {ours}",
        interval=(2**low, 2**high),
        runs=sum(raced.runs for raced in found),
        numbers=numbers,
        figure=figure,
        left_out="Decays other than the defaults; schedules of the rate; large networks.",
    )


CLAIM = Claim(
    name="adam-converges-faster",
    notes="§8, 10",
    sentence="Adam converges faster than the rules that it combines.",
    hypothesis=(
        f"After {_STEPS} updates at its best rate, Adam has a lower training loss than gradient "
        "descent, momentum and RMSProp at theirs, on two problems, with batches of "
        f"{', '.join(map(str, BATCHES))}."
    ),
    criterion=(
        "Holds if that is so for both problems and all batch sizes; holds only for those for which "
        "it is so against all three rules; does not hold if there is none. Sign-flip tests over "
        "ten paired seeds, corrected for their number by Holm, at .05."
    ),
    literature=(
        "Adam's lead grows with the batch and comes from heavy-tailed classes, words above all "
        "(Kunstner et al., https://arxiv.org/abs/2304.13960 and https://arxiv.org/abs/2402.19449)."
    ),
    experiment=experiment,
)
