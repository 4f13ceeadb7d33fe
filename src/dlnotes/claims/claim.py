"""What a claim is, what its experiment may spend, and what it finds."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from dlnotes.claims.cache import Cache

Item = TypeVar("Item")

_QUICK_SEEDS = 3
_QUICK_STEPS = 10  # a quick run makes this many times fewer steps
_TUNING = 1000  # the first seed for tuning
_ROUNDING = 1e-6  # relative amount by which an effect may lie outside its interval

COLOURS = ("#000000", "#0072B2", "#56B4E9", "#D55E00", "#009E73", "#CC79A7", "#E69F00")
"""Okabe and Ito's palette, which colour-blind readers can tell apart."""


class Verdict(enum.Enum):
    """What an experiment says about a claim."""

    HOLDS = "holds"
    HOLDS_ONLY_IF = "holds only if"
    DOES_NOT_HOLD = "does not hold"
    NOT_DECIDED = "not decided"


@dataclass(frozen=True)
class Budget:
    """What an experiment may spend.

    Attributes:
        quick: Whether the experiment is only tried out, with a few seeds and a tenth of the steps.
        processes: How many processes may compute at a time.
        cache: Keeps results between runs; None keeps none.
        progress: Called with the share of the experiment that is done, from 0 to 1.
        corpora: The available corpora, with the SHA-256 of each; see `dlnotes.claims.texts`.
        data_dir: Folder where corpora are looked for first; "" for none.
    """

    quick: bool = False
    processes: int = 1
    cache: Cache | None = None
    progress: Callable[[float], None] | None = None
    corpora: Mapping[str, str] = field(default_factory=dict)
    data_dir: str = ""

    def seeds(self, n: int) -> range:
        """The seeds of the runs that the verdict rests on.

        Args:
            n: How many a full run has.
        """
        return range(min(n, _QUICK_SEEDS) if self.quick else n)

    def tuning_seeds(self, n: int) -> range:
        """Seeds for choosing hyper-parameters, none of which is among `seeds`.

        Args:
            n: How many a full run has.
        """
        return range(_TUNING, _TUNING + (min(n, 1) if self.quick else n))

    def steps(self, n: int) -> int:
        """How many updates to make.

        Args:
            n: How many a full run makes.
        """
        return max(1, n // _QUICK_STEPS) if self.quick else n

    def done(self, share: float) -> None:
        """Tell that a share of the experiment is done, from 0 to 1."""
        if self.progress is not None:
            self.progress(share)

    def part(self, low: float, high: float) -> Budget:
        """The budget of a part of an experiment, which reports its own progress from 0 to 1.

        Args:
            low: The share of the experiment that is done before it.
            high: The share that is done after it.
        """
        return replace(self, progress=lambda share: self.done(low + (high - low) * share))

    def cached(self, settings: Mapping[str, Any], compute: Callable[[], Any]) -> Any:
        """What `compute` returns, or what it returned for the same code and settings before.

        Args:
            settings: All that the result depends on, except for the code: numbers, strings, lists
                and mappings of them. Different computations of a claim need different settings.
            compute: Returns numbers, strings, None, lists and mappings (with strings as keys) of
                them.
        """
        if self.cache is None:
            return compute()
        return self.cache.get({**settings, "quick": self.quick}, compute)

    def charge(self, seconds: float) -> None:
        """Count seconds that another claim has spent on results that this one also uses."""
        if self.cache is not None:
            self.cache.saved += seconds

    def map(self, function: Callable[[Item], Any], items: Iterable[Item]) -> list[Any]:
        """Call a function for each item, in parallel processes, each result `cached`.

        Progress is reported from 0 to 1 over the items.

        Args:
            function: A function at the top level of a module, since other processes call it. Its
                results are restricted like those of `cached`.
            items: Numbers, strings, or tuples or mappings of them.
        """
        from dlnotes.claims.workers import call_all

        return call_all(self, function, list(items))


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What an experiment has found.

    Attributes:
        verdict: What it says about the claim.
        condition: For `Verdict.HOLDS_ONLY_IF`: what follows "holds only if", such as "the batch is
            large".
        effect: The measured size of the effect.
        effect_name: What `effect` is, with its unit: "dev accuracy, momentum − SGD (points)".
        interval: A 95 % confidence interval that contains the effect; (effect, effect) for an exact
            result. Where it is a range instead, `effect_name` says "range over …".
        runs: How many trainings it took, including those for tuning.
        numbers: The table behind the verdict: rows with the same keys.
        figure: Shows it at a glance; drawn with `matplotlib.figure.Figure`, not with pyplot.
        left_out: What had to be left out of the experiment.
    """

    verdict: Verdict
    condition: str = ""
    effect: float
    effect_name: str
    interval: tuple[float, float]
    runs: int
    numbers: list[dict[str, str | float]]
    figure: Figure
    left_out: str = ""

    def __post_init__(self) -> None:
        if (self.verdict is Verdict.HOLDS_ONLY_IF) != bool(self.condition):
            raise ValueError(f"condition must go with {Verdict.HOLDS_ONLY_IF}: {self.condition!r}")
        low, high = self.interval
        if not low <= high:  # NaN, too
            raise ValueError(f"interval must be (low, high), got {self.interval}")
        slack = _ROUNDING * abs(self.effect) if math.isfinite(self.effect) else 0.0
        if not low - slack <= self.effect <= high + slack:
            raise ValueError(f"effect must lie in {self.interval}, got {self.effect}")

    @property
    def says(self) -> str:
        """The verdict with its condition."""
        return f"{self.verdict.value} {self.condition}".strip()


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A claim of the notes and the experiment that tests it.

    Attributes:
        name: Its name on the command line; with underscores, that of its module.
        notes: Where the notes say it: "§8, 8".
        sentence: The claim, restated.
        hypothesis: The claim in measurable terms, fixed before the data.
        criterion: When it holds, and when it does not.
        literature: What others found, with URLs.
        experiment: Runs the experiment.
        corpora: Names of the corpora that it reads, where they are available.
        cost: About how many seconds a full run takes on two cores, to estimate the time left.
    """

    name: str
    notes: str
    sentence: str
    hypothesis: str
    criterion: str
    literature: str
    experiment: Callable[[Budget], Finding]
    corpora: tuple[str, ...] = ()
    cost: float = 2.0
