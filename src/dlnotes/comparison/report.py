"""The results of a comparison: a sentence, a table with groups, learning curves, and plots."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dlnotes.claims.claim import COLOURS
from dlnotes.comparison.evidence import (
    SURE,
    Difference,
    Measured,
    compact_letter_display,
    corrected_resampled_t_test,
    holm_corrected,
    paired_bootstrap,
)
from dlnotes.comparison.trainings import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WORTH = 0.005  # half a point: a smaller gain is not worth more documents
_MARKS = "osD^vPX*<>hp"
_FEW_SEEDS = 5

Results = Mapping[tuple[str, int], Sequence[Result]]
"""Results by model and number of halvings: one for each seed or, with folds, each seed and fold."""


@dataclass(frozen=True)
class Row:
    """A model's row in the table.

    Attributes:
        model: Name of the model.
        group: Letters; models that share one cannot be told apart.
        score: Mean accuracy, or micro-F1.
        score_std: Standard deviation over seeds or folds; None for a single training.
        macro_f1: Mean macro-F1.
        macro_f1_std: Standard deviation of macro-F1; None for a single training.
        trainings: Number of trainings that the means are over.
        seconds: Mean time of a training.
        trained_per_second: Documents per second in training.
        predicted_per_second: Documents per second in prediction.
        bytes: Size of the largest saved model on disk.
        memory: Largest peak memory of a process, in MiB; None if it is not known.
    """

    model: str
    group: str
    score: float
    score_std: float | None
    macro_f1: float
    macro_f1_std: float | None
    trainings: int
    seconds: float
    trained_per_second: float
    predicted_per_second: float
    bytes: int
    memory: float | None


@dataclass(frozen=True)
class Comparison:
    """The results of trainings, and what follows from them.

    Attributes:
        results: See `Results`.
        multi_label: Whether a document may have several labels.
        fold_of: The fold of each document, for each seed; empty if there are test documents.
        documents: Number of documents on which models are measured.
    """

    results: Results
    multi_label: bool
    fold_of: Sequence[NDArray[np.int64]]
    documents: int

    @property
    def metric(self) -> str:
        """Name of the metric by which models are compared."""
        return "micro-F1" if self.multi_label else "accuracy"

    @property
    def folds(self) -> int:
        """Number of folds, or 0 if there are test documents."""
        return int(self.fold_of[0].max()) + 1 if self.fold_of else 0

    @property
    def averaged_over(self) -> str:
        """What means and standard deviations are taken over: folds or seeds."""
        return "folds" if self.folds else "seeds"

    @property
    def measured_on(self) -> str:
        """Description of the documents on which models are measured."""
        if not self.folds:
            return f"{self.documents:,} test documents"
        times = f", divided {len(self.fold_of)} times" * (len(self.fold_of) > 1)
        return f"{self.folds} folds of {self.documents:,} documents{times}"

    @property
    def models(self) -> list[str]:
        """All models, in the order in which they were given."""
        return [model for model, halvings in self.results if not halvings]

    @cached_property
    def failed(self) -> dict[str, str]:
        """Models of which a training failed, with the reason; they are left out entirely."""
        found = {}
        for model in self.models:
            runs = self.results[model, 0]
            errors = [run.error for run in runs if run.error]
            if errors:
                many = f"{len(errors)} of {len(runs)} trainings: " * (len(runs) > 1)
                found[model] = f"{many}{errors[0]}"
        return found

    @cached_property
    def ranked(self) -> list[str]:
        """The models that were measured, the best first."""
        left = [model for model in self.models if model not in self.failed]
        return sorted(left, key=lambda model: -self.mean(model))

    def scores(self, model: str, halvings: int = 0) -> list[float]:
        """The figure of each training of a model."""
        name = "micro_f1" if self.multi_label else "accuracy"
        return [run.figures[name] for run in self.results[model, halvings]]

    def mean(self, model: str, halvings: int = 0) -> float:
        """The mean of `scores`."""
        return statistics.fmean(self.scores(model, halvings))

    def measured(self, model: str, halvings: int = 0) -> Measured:
        """The trainings of a model, document by document in the order of the files."""
        runs, step = self.results[model, halvings], self.folds or 1
        hits = np.zeros((len(runs) // step, self.documents))
        outcomes = np.ones_like(hits)
        for i, run in enumerate(runs):
            seed, fold = divmod(i, step)
            where = self.fold_of[seed] == fold if self.folds else np.ones(self.documents, bool)
            hits[seed, where] = run.hits
            if self.multi_label:
                outcomes[seed, where] = run.outcomes
        return Measured(hits, outcomes)

    @cached_property
    def tests(self) -> dict[str, dict[tuple[str, str], Difference]]:
        """Differences of all pairs by each available test, the better model first."""
        pairs = list(combinations(self.ranked, 2))
        if not pairs:
            return {}
        samples = paired_bootstrap({model: self.measured(model) for model in self.ranked})
        found = {"bootstrap": holm_corrected({pair: samples.difference(*pair) for pair in pairs})}
        if self.folds:
            found["t-test"] = holm_corrected({pair: self._over_folds(*pair) for pair in pairs})
        return found

    def _over_folds(self, ours: str, theirs: str, halvings: tuple[int, int] = (0, 0)) -> Difference:
        figures = (self.scores(ours, halvings[0]), self.scores(theirs, halvings[1]))
        return corrected_resampled_t_test(*figures, folds=self.folds, documents=self.documents)

    @property
    def decisive(self) -> dict[tuple[str, str], Difference]:
        """Differences by the test that decides about the groups."""
        return self.tests.get("t-test", self.tests.get("bootstrap", {}))

    @property
    def method(self) -> str:
        """The sentence that describes how the groups were found."""
        if len(self.ranked) < 2:
            return ""
        pairs = len(self.decisive)
        count = f"{pairs} pair{'s' * (pairs != 1)}"
        if self.folds:
            test = "the corrected resampled t-test over folds (Nadeau & Bengio)"
        elif all(len(self.results[model, 0]) == 1 for model in self.ranked):
            test = (
                "the paired bootstrap over documents: of these trainings, not of other seeds of "
                "the same models"
            )
        else:
            test = "the paired bootstrap over documents and seeds"
        return (
            f"Models that share a letter cannot be told apart (p ≥ {SURE:g} after Holm's "
            f"correction for {count}), by {test}."
        )

    @cached_property
    def groups(self) -> dict[str, str]:
        """The letters of each model."""
        apart = {frozenset(pair) for pair, d in self.decisive.items() if d.corrected < SURE}
        return compact_letter_display(self.ranked, apart)

    @cached_property
    def rows(self) -> list[Row]:
        """The table, the best model first."""
        found = []
        for model in self.ranked:
            runs = self.results[model, 0]
            macro = [run.figures["macro_f1"] for run in runs]
            memory = [run.memory for run in runs if run.memory is not None]
            found.append(
                Row(
                    model,
                    self.groups[model],
                    self.mean(model),
                    _std(self.scores(model)),
                    statistics.fmean(macro),
                    _std(macro),
                    len(runs),
                    statistics.fmean(run.seconds for run in runs),
                    statistics.fmean(run.trained_per_second for run in runs),
                    statistics.fmean(run.predicted_per_second for run in runs),
                    max(run.bytes for run in runs),
                    max(memory) if memory else None,
                )
            )
        return found

    @property
    def sentence(self) -> str:
        """The conclusion: which model is best, and whether the differences are real."""
        best, *others = self.rows
        reached = f"{_figure(best.score, best.score_std)} % {self.metric} on {self.measured_on}"
        if not others:
            return f"Only {best.model} was measured: {reached}."
        alike = [row for row in others if self.decisive[best.model, row.model].corrected >= SURE]
        worse = [row for row in others if row not in alike]
        said = ""
        if alike:
            said = f"; not told apart from it: {', '.join(map(self._behind, alike))}"
            quickest = min([best, *alike], key=lambda row: row.seconds)
            if quickest is not best:
                gain = best.seconds / max(1e-9, quickest.seconds)
                said += f". Of these {quickest.model} trains {gain:,.1f} times as fast as the best"
        else:
            said = f", and all others are worse: the next is {self._behind(worse[0])}"
        if alike and worse:
            said += f". Worse: {', '.join(map(self._behind, worse))}"
        return f"{best.model} is best: {reached}{said}."

    def _behind(self, row: Row) -> str:
        d = self.decisive[self.rows[0].model, row.model]
        return f"{row.model} ({100 * d.mean:.1f} points behind, {_p(d.corrected)})"

    @property
    def notes(self) -> list[str]:
        """Remarks about the figures."""
        found = []
        if self.failed:
            left_out = "; ".join(f"{model} ({why})" for model, why in self.failed.items())
            found.append(f"Left out: {left_out}.")
        networks = {len(self.results[m, 0]) for m in self.ranked} - {1}
        if not self.folds and networks and max(networks) < _FEW_SEEDS:
            found.append(
                f"{max(networks)} seeds say little about other seeds, so that differences are "
                f"rarely shown: give --seeds {_FEW_SEEDS} or more."
            )
        if len(self.ranked) > 1:
            found.append(
                "The best figure of several is a little too high, since these documents chose it."
            )
        return found

    # --- learning curves -------------------------------------------------------------------------

    def sizes(self, model: str) -> list[tuple[int, int]]:
        """Halvings and mean number of training documents, the fewest documents first."""
        found = []
        for (name, halvings), runs in self.results.items():
            if name == model and not any(run.error for run in runs):
                found.append((halvings, round(statistics.fmean(run.documents for run in runs))))
        return sorted(found, reverse=True)

    @cached_property
    def gains(self) -> dict[str, Difference]:
        """How much each model gained by the last doubling of the documents, best model first."""
        found: dict[str, Difference] = {}
        for model in self.ranked:
            if {0, 1} <= {halvings for halvings, _ in self.sizes(model)}:
                if self.folds:
                    found[model] = self._over_folds(model, model, (0, 1))
                else:
                    both = {name: self.measured(model, i) for i, name in enumerate(("all", "half"))}
                    found[model] = paired_bootstrap(both).difference("all", "half")
        return holm_corrected(found)

    @property
    def more_documents(self) -> str:
        """Whether more documents would help the best model, in a sentence."""
        if not self.gains:
            return ""
        model, d = next(iter(self.gains.items()))
        (_, half), (_, whole) = self.sizes(model)[-2:]
        told = (
            f"from {half:,} to {whole:,} documents, the {self.metric} of {model} changed by "
            f"{100 * d.mean:+.1f} points (95 % interval {100 * d.low:+.1f} to {100 * d.high:+.1f})"
        )
        others = [
            name for name, each in self.gains.items() if each.corrected < SURE and each.mean > 0
        ]
        listed = [name for name in others if name != model]
        also = f" The gain of {', '.join(listed)} is also shown." if listed else ""
        if model in others:
            said = f"More documents are likely to help: {told}."
        elif d.high < _WORTH:
            said = f"More documents of this kind would hardly help: {told}."
        else:
            also = f" It is shown for {', '.join(listed)}." if listed else ""
            said = f"Whether more documents would help {model} is not shown: {told}."
        return said + also

    # --- what is written -------------------------------------------------------------------------

    def table(self) -> list[tuple[str, ...]]:
        """The rows as text, below `headings`."""
        return [
            (
                row.model,
                row.group,
                _figure(row.score, row.score_std),
                _figure(row.macro_f1, row.macro_f1_std),
                f"{_few_digits(row.seconds)}",
                f"{row.trained_per_second:,.0f}",
                f"{row.predicted_per_second:,.0f}",
                f"{_few_digits(row.bytes / 1e6)}",
                "–" if row.memory is None else f"{row.memory:,.0f}",
            )
            for row in self.rows
        ]

    @property
    def headings(self) -> tuple[str, ...]:
        """Headings of the columns of `table`."""
        return (
            "model",
            "group",
            f"{self.metric}, %",
            "macro-F1, %",
            "training, s",
            "documents/s, training",
            "documents/s, prediction",
            "disk, MB",
            "memory, MiB",
        )

    @property
    def legend(self) -> str:
        """The text below the table: what its figures mean."""
        once = all(len(self.results[model, 0]) == 1 for model in self.ranked)
        said = (
            "Figures of one training each."
            if once
            else f"Mean ± standard deviation over {self.averaged_over}.",
            self.method,
            "A training has one thread of the CPU; its time depends on what else was running. "
            "Prediction starts from raw text. Memory is that of the whole process, of which Python "
            "and torch are a large part.",
        )
        return " ".join(filter(None, said))

    def markdown(self, title: str, notes: Sequence[str]) -> str:
        """The report as a page of Markdown."""
        lines = [f"# {title}", "", self.sentence, "", *_markdown(self.headings, self.table())]
        lines += ["", self.legend]
        for note in notes:
            lines += ["", f"Note: {note}"]
        if self.tests:
            rows = []
            for pair, d in self.decisive.items():
                others = [self.tests[name][pair] for name in self.tests]
                interval = f"{100 * d.low:+.1f} to {100 * d.high:+.1f}"
                p = [f"{each.p:.3f} ({each.corrected:.3f})" for each in others]
                rows.append((" – ".join(pair), f"{100 * d.mean:.1f}", interval, *p))
            tests = [f"p, {name} (by Holm)" for name in self.tests]
            lines += ["", "## Pairs", ""]
            lines += _markdown(("pair", "points", "95 % interval", *tests), rows)
        if self.gains:
            lines += ["", "## Learning curves", "", self.more_documents, ""]
            lines += _markdown(("model", "documents", f"{self.metric}, %"), self._curve_table())
        return "\n".join(lines) + "\n"

    def _curve_table(self) -> list[tuple[str, ...]]:
        return [
            (model, f"{size:,}", _figure(self.mean(model, h), _std(self.scores(model, h))))
            for model in self.ranked
            for h, size in self.sizes(model)
        ]

    def record(self) -> dict[str, Any]:
        """The report as values that JSON can hold."""
        return {
            "sentence": self.sentence,
            "figure": self.metric,
            "measured_on": self.measured_on,
            "method": self.method,
            "models": [asdict(row) for row in self.rows],
            "left_out": self.failed,
            "pairs": [
                {"better": better, "worse": worse}
                | {name: asdict(tests[better, worse]) for name, tests in self.tests.items()}
                for better, worse in combinations(self.ranked, 2)
            ],
            "trainings": {
                model: [
                    {"documents": run.documents, "error": run.error}
                    | {**run.figures, "seconds": run.seconds}
                    for run in self.results[model, 0]
                ]
                for model in self.models
            },
            "more_documents": self.more_documents,
            "curve": [
                {"model": model, "documents": size, "scores": self.scores(model, h)}
                | ({"gain": asdict(self.gains[model])} if not h and model in self.gains else {})
                for model in self.ranked
                for h, size in self.sizes(model)
            ]
            if self.gains
            else [],
        }

    def draw(self) -> Figure:
        """Plot the figure of each model against its training time and its prediction speed."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(10, 4.2), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        for i, row in enumerate(self.rows):
            best = bool({*row.group} & {*self.rows[0].group})
            for axes, x in ((left, row.seconds), (right, row.predicted_per_second)):
                axes.errorbar(
                    [x],
                    [100 * row.score],
                    yerr=None if row.score_std is None else [100 * row.score_std],
                    fmt=_MARKS[i % len(_MARKS)],
                    color=COLOURS[i % len(COLOURS)],
                    mfc=COLOURS[i % len(COLOURS)] if best else "white",
                    capsize=3,
                    label=f"{row.model} ({row.group})",
                )
        spread = f"mean ± standard deviation over {self.averaged_over}"
        left.set(xlabel="seconds of a training", ylabel=f"{self.metric}, % ({spread})")
        left.yaxis.label.set_fontsize("small")
        right.set(xlabel="documents per second, prediction")
        for axes in (left, right):
            _log(axes)
        handles, names = left.get_legend_handles_labels()
        figure.legend(handles, names, loc="outside right center", fontsize="small")
        figure.suptitle(
            "Models that share a letter cannot be told apart; filled: those that share one with "
            "the best.",
            fontsize="small",
        )
        return figure

    def draw_curves(self) -> Figure:
        """Plot the figure of each model against the number of documents."""
        from matplotlib.figure import Figure
        from matplotlib.ticker import FixedLocator, NullLocator

        figure = Figure(figsize=(7.5, 4.2), layout="constrained")
        axes = figure.subplots()
        shown: set[int] = set()
        for i, model in enumerate(self.ranked):
            halvings, sizes = zip(*self.sizes(model), strict=True)
            spread = [100 * (_std(self.scores(model, h)) or 0.0) for h in halvings]
            axes.errorbar(
                sizes,
                [100 * self.mean(model, h) for h in halvings],
                yerr=spread,
                fmt=f"{_MARKS[i % len(_MARKS)]}-",
                color=COLOURS[i % len(COLOURS)],
                capsize=3,
                label=model,
            )
            shown |= {*sizes}
        axes.set(
            xlabel="documents to learn from",
            ylabel=f"{self.metric}, % (mean ± standard deviation over {self.averaged_over})",
        )
        axes.yaxis.label.set_fontsize("small")
        _log(axes)
        axes.xaxis.set_major_locator(FixedLocator(sorted(shown)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter("{x:,.0f}")
        figure.legend(loc="outside right center", fontsize="small")
        return figure


def _log(axes: Axes) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:,g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.3)


def _markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    bar = "|".join(["---", *["---:"] * (len(headings) - 1)])
    cells = [" | ".join(row) for row in (headings, *rows)]
    return [f"| {cells[0]} |", f"|{bar}|", *(f"| {line} |" for line in cells[1:])]


def _std(values: Sequence[float]) -> float | None:
    return statistics.stdev(values) if len(values) > 1 else None


def _figure(mean: float, std: float | None) -> str:
    return f"{100 * mean:.1f}" + ("" if std is None else f" ± {100 * std:.1f}")


def _few_digits(x: float) -> str:
    return f"{x:,.1f}" if x >= 1 else f"{x:.1g}"


def _p(p: float) -> str:
    return "p < .001" if p < 0.001 else f"p = {p:.3f}".replace("0.", ".")
