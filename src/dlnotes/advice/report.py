"""What a race says: a recommendation in a sentence, a table and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from dlnotes.advice.evidence import Difference, SeedVariance, differences_from_best, interval
from dlnotes.advice.race import NO_TIME, Entry, seeds_of
from dlnotes.advice.runner import CorpusStatistics
from dlnotes.errors import UserError
from dlnotes.training.trials import TFIDF

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SURE = 0.05
_SMALL = 0.005  # half a point: a smaller difference is not worth more time
_CHANGED = 1.25  # a candidate with changed settings must be 25 % faster to be preferred
_FEW = 50  # dev documents: the 95 % interval of an accuracy of 80 % is over 20 points wide

NAMES = {TFIDF: "TF-IDF with logistic regression"}
"""What a model is called in a sentence, where its name is not used."""


@dataclass(frozen=True)
class Advice:
    """What follows from a race.

    Attributes:
        entries: All candidates of the race.
        metric: What they are compared by: accuracy or micro-F1.
        documents: Dev documents.
    """

    entries: Sequence[Entry]
    metric: str
    documents: int

    def __post_init__(self) -> None:
        if not self.ranked:
            why = "; ".join(dict.fromkeys(e.left_out for e in self.entries if e.left_out))
            raise UserError(f"nothing could be measured ({why or NO_TIME}): give more --minutes")

    @cached_property
    def ranked(self) -> list[Entry]:
        """The candidates that are compared, the best first.

        Those that were trained for all of their epochs; if there is no network among them, those
        that were trained for a part of them as well.
        """
        full = [e for e in self.entries if e.runs and not e.failed]
        full = full or [e for e in self.entries if e.runs]
        if any(e.candidate.has_epochs for e in full):
            found = full
        else:
            found = [e for e in self.entries if e.trials and not e.parent]
        # The cheaper one of equal ones comes first.
        return sorted(found, key=lambda e: (-e.score, _cost(e)))

    @property
    def best(self) -> Entry:
        """The candidate with the best figure."""
        return self.ranked[0]

    @cached_property
    def seeds(self) -> SeedVariance:
        """The variance between seeds, of all candidates that have several."""
        return seeds_of(self.entries)

    @cached_property
    def differences(self) -> dict[str, Difference]:
        """By how much the best candidate is better than each other one, by name."""
        others = self.ranked[1:]
        found = differences_from_best(self.best.trials, [e.trials for e in others], self.seeds)
        return {e.name: d for e, d in zip(others, found, strict=True)}

    @cached_property
    def alike(self) -> list[Entry]:
        """Candidates not shown to be worse than the best."""
        return [e for e in self.ranked[1:] if self.differences[e.name].p >= _SURE]

    @cached_property
    def recommended(self) -> Entry:
        """The cheapest candidate among the best and those that are practically as good.

        Practically as good: not shown to be worse, and at most half a point behind, or one document
        where that is more. What is further behind may be worse although these documents do not show
        it.
        """
        limit = max(_SMALL, 1.5 / self.documents)
        close = [e for e in self.alike if self.differences[e.name].mean <= limit]
        return min([self.best, *close], key=_cost)

    @cached_property
    def network(self) -> Entry | None:
        """The recommended model that ``dlnotes train`` trains."""
        if self.recommended.candidate.has_epochs:
            return self.recommended
        return next((e for e in self.ranked if e.candidate.has_epochs), None)

    @property
    def compares_models(self) -> bool:
        """Whether there is more than one model to choose from."""
        return len({e.candidate.model for e in self.ranked}) > 1

    @property
    def sentence(self) -> str:
        """The recommendation."""
        chosen, best = self.recommended, self.best
        few = " So few dev documents decide nothing." if self.documents < _FEW else ""
        on = f"on {self.documents:,} dev document{'s' * (self.documents != 1)}"
        reaches = f"{percent(chosen.score)} {self.metric} {on}{part(chosen)}"
        if chosen is not best:
            d = self.differences[chosen.name]
            gain = best.seconds / max(1e-9, chosen.seconds)
            if gain >= 1.1:
                why = f"it trains {gain:.1f} times as fast"
            elif chosen.candidate.changes:
                why = "it trains as fast"
            else:
                why = "it needs no options"
            return (
                f"Use {called(chosen)} ({reaches}): these documents show no difference from the "
                f"best, {called(best)} ({percent(best.score)}{part(best)}, {_points(d)}), and "
                f"{why}.{few}"
            )
        told = f"Use {called(chosen)}: {reaches}"
        others = [e for e in self.alike if e.candidate.model != best.candidate.model]
        if others:
            listed = ", ".join(
                f"{called(e)} ({percent(e.score)}{part(e)}, {_points(self.differences[e.name])})"
                for e in others[:3]
            )
            more = f" and {len(others) - 3} more" if len(others) > 3 else ""
            return f"{told}; these documents show no difference from {listed}{more}.{few}"
        if not self.compares_models:
            model = NAMES.get(best.candidate.model, best.candidate.model)
            told = f"Only {model} was measured{' in full' * bool(best.runs)}, with nothing"
            if len(self.ranked) == 1:
                return f"{told} to compare: {reaches}.{few}"
            return f"{told} but its settings to compare: {called(best)} has {reaches}.{few}"
        worse = next(e for e in self.ranked if e.candidate.model != best.candidate.model)
        d = self.differences[worse.name]
        following = f"{called(worse)}{part(worse)}"
        return f"{told}, {100 * d.mean:.1f} points more than the next model, {following}."

    def verdict(self, entry: Entry) -> str:
        """How a candidate compares with the best one, in a few words."""
        if entry.failed:
            return "failed from another seed"
        if entry is self.best:
            return f"best{part(entry)}"
        if entry.name in self.differences:
            if entry in self.alike:
                return f"no difference shown{part(entry)}"
            behind = 100 * self.differences[entry.name].mean
            return f"worse by {behind:.1f} points{part(entry)}"
        if entry.left_out:
            return entry.left_out
        return "there was no time for all epochs" if entry.trials else NO_TIME

    @property
    def untried(self) -> dict[str, list[str]]:
        """Names of the candidates that have no figure, by the reason."""
        found: dict[str, list[str]] = {}
        for e in self.entries:
            if not e.trials:
                found.setdefault(e.left_out or NO_TIME, []).append(e.name)
        return found

    def rows(self) -> list[tuple[str, ...]]:
        """A row of the table for each candidate that has a figure.

        Its name, figure with interval, share of the epochs, seeds, seconds of a training, documents
        per second, verdict.
        """
        rest = [e for e in self.entries if e not in self.ranked and e.trials]
        rest.sort(key=lambda e: -e.score)
        found: list[tuple[str, ...]] = []
        for e in [*self.ranked, *rest]:
            low, high = interval(e.trials, seeds=self.seeds)
            found.append(
                (
                    e.name,
                    f"{percent(e.score)} ({100 * low:.1f} to {100 * high:.1f})",
                    f"{100 * e.share:.0f} %"
                    if not e.runs
                    else "all" * e.candidate.has_epochs or "–",
                    f"{len(e.trials)}" if e.candidate.has_epochs else "–",
                    _few_digits(e.measured_seconds),
                    f"{e.documents_per_second:,.0f}",
                    self.verdict(e),
                )
            )
        return found

    def record(self) -> list[dict[str, Any]]:
        """The rows of the table as records for a file."""
        return [
            {
                "name": e.name,
                "model": e.candidate.model,
                "changes": dict(e.candidate.changes),
                "score": e.score if e.trials else None,
                "interval": list(interval(e.trials, seeds=self.seeds)) if e.trials else None,
                "scores": [t.score for t in e.runs],
                "first": {"share": e.share, "score": e.first.score, "seconds": e.first.seconds}
                if e.first and e.share < 1
                else None,
                "seconds": e.seconds if e.trials else None,
                "documents_per_second": e.documents_per_second if e.trials else None,
                "difference": asdict(self.differences[e.name])
                if e.name in self.differences
                else None,
                "verdict": self.verdict(e),
            }
            for e in self.entries
        ]

    def draw(self) -> Figure:
        """Figure on dev with its interval against the seconds of a training, a point each."""
        from matplotlib.figure import Figure
        from matplotlib.ticker import LogLocator, NullFormatter

        shown = sorted((e for e in self.entries if e.trials), key=lambda e: -e.score)
        figure = Figure(figsize=(9, max(3.5, 0.27 * len(shown) + 1.6)), layout="constrained")
        axes = figure.subplots()
        ends: list[float] = []
        for e in shown:
            low, high = (100 * end for end in interval(e.trials, seeds=self.seeds))
            ends += [low, high]
            chosen = e is self.recommended
            color = "#e0701d" if chosen else "#1f5fa8" if e in self.ranked else "#9a9a9a"
            x, y = e.measured_seconds, 100 * e.score
            axes.errorbar(
                [x],
                [y],
                yerr=[[max(0.0, y - low)], [max(0.0, high - y)]],
                fmt="o",
                color=color,
                mfc=color if e.runs else "white",
                capsize=3,
                zorder=3 + chosen,
            )
        low, high = min(ends), max(ends)
        span = max(1.0, high - low)
        hollow = any(not e.runs for e in shown)
        axes.set(
            xscale="log",
            xlabel="seconds of a training" + ", hollow: a part of the epochs" * hollow,
            ylabel=f"{self.metric} on dev, % (95 % interval)",
            ylim=(low - 0.05 * span, high + 0.05 * span),
        )
        # The names stand in a column beside the points, so that none lies on another.
        for i, e in enumerate(shown):
            axes.annotate(
                e.name,
                (e.measured_seconds, 100 * e.score),
                xytext=(1.03, 1 - (i + 0.5) / len(shown)),
                textcoords="axes fraction",
                va="center",
                fontsize="small",
                fontweight="bold" if e is self.recommended else "normal",
                annotation_clip=False,
                arrowprops={
                    "arrowstyle": "-",
                    "color": "#c8c8c8",
                    "linewidth": 0.7,
                    "relpos": (0, 0.5),
                    "shrinkA": 2,
                },
            )
        axes.set_title(f"recommended: {self.recommended.name}", fontsize="medium")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.grid(alpha=0.3)
        return figure


def facts(statistics: CorpusStatistics, tokenizer: str) -> list[tuple[str, str]]:
    """What a corpus is like, line by line."""
    m = statistics
    (largest, most), (smallest, fewest) = m.largest, m.smallest
    several = [] if m.labels is None else [("labels per document", f"{m.labels:.2f}")]
    ratio = f": {most / fewest:,.1f} times as many" if fewest else ""
    if most == fewest:
        balance = f"none, each class has {most:,}"
    else:
        balance = f"{largest} has {most:,}, {smallest} {fewest:,}{ratio}"
    return [
        ("documents", f"{m.documents:,} to learn from, {m.dev:,} for dev"),
        ("classes", f"{m.classes:,}"),
        *several,
        ("imbalance", balance),
        ("length", f"{m.tokens:.1f} tokens on average, {m.longest:,} at most ({tokenizer})"),
        ("sparsity", f"{100 * m.once:.0f} % of {m.types:,} different tokens occur once"),
    ]


def called(entry: Entry) -> str:
    """What a candidate is called in a sentence."""
    return NAMES.get(entry.candidate.model, entry.name.replace(", ", " with ", 1))


def part(entry: Entry) -> str:
    """The words after a figure that was measured after a part of the epochs; else ""."""
    return "" if entry.runs else f" after {100 * entry.share:.0f} % of its epochs"


def percent(score: float) -> str:
    """A figure from 0 to 1, in percent."""
    return f"{100 * score:.1f} %"


def _few_digits(seconds: float) -> str:
    return f"{seconds:.1f}" if seconds >= 1 else f"{seconds:.1g}"


def _points(difference: Difference) -> str:
    return f"{100 * difference.mean:.1f} ± {100 * difference.margin:.1f} points apart"


def _cost(entry: Entry) -> float:
    return entry.seconds * (_CHANGED if entry.candidate.changes else 1.0)
