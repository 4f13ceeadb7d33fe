"""A race of candidates within a time limit: which are tried, for how long, which are stopped.

The number of candidates shrinks as in successive halving (Jamieson & Talwalkar 2016,
https://arxiv.org/abs/1502.07943): all are tried for about a quarter of their epochs, the better
ones for all of them, and the best over several seeds.
"""

from __future__ import annotations

import math
import signal
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from dlnotes.advice.evidence import Difference, SeedVariance, paired_difference, seed_variance
from dlnotes.errors import UserError
from dlnotes.training.fit import Interrupted, OutOfTime
from dlnotes.training.trials import TFIDF, Trial

# The first trial has a *whole* schedule over a quarter of the epochs. A training that is stopped
# after a quarter of its schedule would still have nearly its full learning rate, so that large
# rates and small batches would look worse than they are. Fewer documents instead of fewer epochs
# would save less: with fewer documents a recipe has more epochs. And the linear baseline, which is
# strong on few documents, would push aside models that need many.
SHARE = 0.25
"""Share of its epochs that a candidate should have in its first trial.

The number of epochs is rounded and at least 1, so that with few epochs the true share differs; a
model with a single epoch has all of it. `Race._promising` says which shares are compared.
"""

NO_TIME = "there was no time to try it"
"""The usual reason for leaving a candidate out."""

MAX_SEEDS = 5
"""Maximum number of trainings of a candidate."""

_SOME_SEEDS = 3
_ALWAYS = 3  # models that are trained for all of their epochs although they are behind
_LEADERS = 2  # models whose settings are varied
# The p-value below which one candidate is clearly behind another. It is not corrected for the
# number of candidates or of comparisons, so some are stopped by chance; only the p-values of the
# final table are corrected (`differences_from_best`).
_CLEAR = 0.05
# Shares of the time after which the next part of the race begins.
_MODELS, _FULL, _VARIED, _VARIED_FULL = 0.4, 0.65, 0.8, 0.9
_EACH = 1 / 8  # share of the time that a first trial may take
_ORDINARY = 0.75  # share of `_EACH` that a first trial may take where the reading was quick
_CAUTION = 1.15  # factor by which trainings may take longer than expected
_SHORTEST = 0.1  # seconds that must be left to begin a trial


@dataclass(frozen=True)
class Candidate:
    """What is tried.

    Attributes:
        model: A name in `dlnotes.models.MODELS`, or `TFIDF`.
        changes: Settings of the training that differ from the model's recipe.
    """

    model: str
    changes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What it is called in tables; unique in a race."""
        said = [f"{n.replace('_', ' ')} {_short(v)}" for n, v in self.changes.items()]
        return ", ".join([self.model, *said])

    @property
    def has_epochs(self) -> bool:
        """Whether it is trained epoch by epoch, from random weights."""
        return self.model != TFIDF


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


class TrialFunction(Protocol):
    """Runs a trial of a candidate."""

    def __call__(
        self, candidate: Candidate, share: float, seed: int, time_limit: float
    ) -> tuple[Trial, float]:
        """Run a trial; return it and the share of the epochs that it had.

        Args:
            candidate: What is tried.
            share: Share of its epochs to train for; at least one epoch is trained.
            seed: Number of the training, from 0.
            time_limit: Seconds that it may take.

        Raises:
            UserError: It cannot be trained, or its training diverged.
            OutOfTime: `time_limit` is not enough.
            Interrupted: A signal came.
        """


@dataclass
class Entry:
    """How a candidate did.

    Attributes:
        candidate: What was tried.
        parent: The candidate that it is a variation of.
        first: Its trial with `share` of its epochs.
        share: The share of its epochs that `first` had.
        runs: Its trials with all of its epochs, one per seed.
        left_out: Why it was not tried, or not to the end.
        failed: How many trainings from other seeds failed where the first did not.
        short: Whether there was too little time for its next training.
    """

    candidate: Candidate
    parent: Entry | None = None
    first: Trial | None = None
    share: float = SHARE
    runs: list[Trial] = field(default_factory=list)
    left_out: str = ""
    failed: int = 0
    short: bool = False

    @property
    def name(self) -> str:
        """What it is called."""
        return self.candidate.name

    @property
    def trials(self) -> list[Trial]:
        """Its trials with all of its epochs; where it has none, its first trial."""
        return self.runs or [self.first] * (self.first is not None)  # type: ignore[list-item]

    @property
    def score(self) -> float:
        """Mean figure on dev of its `trials`."""
        trials = self.trials
        return sum(t.score for t in trials) / len(trials) if trials else -math.inf

    @property
    def measured_seconds(self) -> float:
        """Mean seconds of its `trials`, whatever share of the epochs they had."""
        return sum(t.seconds for t in self.trials) / len(self.trials)

    @property
    def seconds(self) -> float:
        """Seconds that a training with all epochs takes, or is expected to take."""
        if self.runs:
            return sum(t.seconds for t in self.runs) / len(self.runs)
        return self.first.seconds / self.share if self.first else math.inf

    @property
    def documents_per_second(self) -> float:
        """While training."""
        return max((t.documents_per_second for t in self.trials), default=0.0)


class Race:
    """A race of candidates.

    It can be stopped at any time, also by Ctrl-C; its result is then what has been measured so far.

    Args:
        measure: Runs a trial.
        models: The names to try, the quickest first.
        vary: The variations of a candidate that are worth trying.
        seconds: How long it may take.
        clock: Seconds since the race began.
        show: Is told what is going on.

    Attributes:
        entries: One for each candidate, in the order in which they were tried.
        interrupted: The number of the signal that ended it, or 0.
        complete: Whether nothing was left to be tried at the end.
    """

    def __init__(
        self,
        measure: TrialFunction,
        models: Sequence[str],
        vary: Callable[[Candidate], Iterable[Candidate]],
        *,
        seconds: float,
        clock: Callable[[], float],
        show: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.measure, self.vary, self.models = measure, vary, models
        self.seconds, self.clock, self.show = seconds, clock, show
        self.entries: list[Entry] = []
        self.interrupted = 0
        self.complete = False
        self._began = 0.0

    def run(self) -> list[Entry]:
        """Run it."""
        self._began = self.clock()
        try:
            self._first(map(Candidate, self.models), None, _MODELS)
            promising = self._promising()
            # Whether the best one keeps its lead matters more than its variations.
            self._full(promising[:1], 1.0)
            self._full(promising[1:], _FULL)
            for _ in range(_LEADERS):
                leader = self._leader()
                if leader is None:
                    break
                self._first(self.vary(leader.candidate), leader, _VARIED)
                self._full(self._ahead_of(leader), _VARIED_FULL)
                self._full(self._promising(), _VARIED_FULL)
            self._repeat(_SOME_SEEDS)
            self._last()
            self.complete = not self._alive(MAX_SEEDS) and not any(e.short for e in self.entries)
        except (Interrupted, KeyboardInterrupt) as stop:
            self.interrupted = getattr(stop, "number", 0) or signal.SIGINT
        return self.entries

    @property
    def seeds(self) -> SeedVariance:
        """The variance between seeds, of all candidates that have several."""
        return seeds_of(self.entries)

    def finished(self) -> list[Entry]:
        """Those that were trained for all of their epochs, the best first."""
        return sorted((e for e in self.entries if e.runs), key=lambda e: -e.score)

    def _left(self, until: float = 1.0) -> float:
        """Seconds until a share of the time that was available at the beginning has passed."""
        return self._began + until * (self.seconds - self._began) - self.clock()

    def _first(self, candidates: Iterable[Candidate], parent: Entry | None, until: float) -> None:
        """Try candidates for a share of their epochs."""
        for candidate in candidates:
            entry = Entry(candidate, parent)
            self.entries.append(entry)
            limit = self._first_limit
            if not candidate.has_epochs:  # its only training is a whole one
                self._train(entry, 1.0, self._left())
                continue
            if parent and parent.first:
                expected = parent.first.seconds * _relative_cost(candidate)
            else:
                expected = 0.0
            # Until one network has been tried, give it more time.
            enough = parent or any(e.first for e in self.entries)
            if self._left(until if enough else _FULL) < max(expected, limit / 4):
                self._leave_out(entry, NO_TIME)
                continue
            self._train(entry, SHARE, limit if enough else self._left(_FULL))

    def _promising(self) -> list[Entry]:
        """The candidates worth all of their epochs: those that are not clearly behind.

        The figures after the first trial are compared, for each candidate with those that had no
        larger share of their epochs. The best three models continue in any case.
        """
        tried = [e for e in self._by_score() if e.first and not e.runs and not e.left_out]
        safe = _ALWAYS - len([e for e in self.finished() if e.candidate.has_epochs])
        chosen = []
        for i, entry in enumerate(tried):
            rivals = [e for e in self.entries if e.first and e.share <= entry.share]
            best = max(rivals, key=lambda e: e.first.score)  # type: ignore[union-attr]
            clear = self._compared([best.first], [entry.first]).p < _CLEAR  # type: ignore[list-item]
            if clear and i >= safe:
                entry.left_out = _stopped(entry, best)
            else:
                chosen.append(entry)
        return chosen

    def _ahead_of(self, leader: Entry) -> list[Entry]:
        """The variations of a model that are better than it, all after the same share."""
        chosen = []
        for entry in (e for e in self._by_score() if e.parent is leader and e.first and not e.runs):
            assert leader.first is not None
            assert entry.first is not None
            if entry.first.score > leader.first.score:
                chosen.append(entry)
            else:
                entry.left_out = _stopped(entry, leader)
        return chosen

    def _full(self, entries: Iterable[Entry], until: float) -> None:
        """Train for all epochs, as far as there is time."""
        for entry in entries:
            if entry.left_out or entry.runs:
                continue
            if entry.seconds * _CAUTION <= self._left(until):
                self._train(entry, 1.0, self._left())
            elif until == 1:
                entry.short = True

    def _leader(self) -> Entry | None:
        """The best model whose settings have not been varied, if it is not clearly behind."""
        varied = [e.parent for e in self.entries if e.parent]
        for entry in self.finished():
            if entry.candidate.has_epochs and not entry.parent and entry not in varied:
                best = self.finished()[0]
                clear = entry is not best and self._compared(best.runs, entry.runs).p < _CLEAR
                return None if clear and varied else entry
        return None

    def _alive(self, seeds: int) -> list[Entry]:
        """Candidates with fewer seeds than this that are the best or not clearly behind it."""
        finished = self.finished()
        return [
            e
            for e in finished
            if e.candidate.has_epochs
            and not e.failed
            and len(e.runs) < seeds
            and (e is finished[0] or self._compared(finished[0].runs, e.runs).p >= _CLEAR)
        ]

    def _repeat(self, seeds: int) -> None:
        """Train the best ones from more seeds."""
        while fitting := [
            e for e in self._alive(seeds) if e.seconds * _CAUTION <= self._left() and not e.short
        ]:
            entry = min(fitting, key=lambda e: (len(e.runs), -e.score))
            self._train(entry, 1.0, self._left())

    def _last(self) -> None:
        """Give the remaining time to candidates that were stopped or could not be tried."""
        stopped = [e for e in self._by_score() if e.first and not e.runs and not e.parent]
        for entry in stopped:
            if entry.seconds * _CAUTION <= self._left():
                self._train(entry, 1.0, self._left())
            else:
                entry.short = True
        for entry in self.entries:
            if entry.left_out == NO_TIME and self._left() > self._first_limit / 4:
                entry.left_out = ""
                share = SHARE if entry.candidate.has_epochs else 1.0
                self._train(entry, share, min(self._first_limit, self._left()))
        self._full(self._promising(), 1.0)
        self._repeat(_SOME_SEEDS)
        self._repeat(MAX_SEEDS)

    @property
    def _first_limit(self) -> float:
        """Seconds that a first trial may take."""
        return _EACH * (self.seconds - self._began)

    def _leave_out(self, entry: Entry, why: str) -> None:
        """Note that there was not enough time for a trial."""
        entry.short = True
        if not entry.runs:
            entry.left_out = why

    def _too_long(self, first: bool, limit: float) -> str:
        """Why a first trial, or a training, was not finished in the time that it had."""
        if limit < _SHORTEST:
            return NO_TIME
        if limit < _ORDINARY * _EACH * self.seconds:  # that says nothing of the candidate
            return f"only {_seconds(limit)} were left for {'a first trial' if first else 'it'}"
        return f"{'the first trial' if first else 'a training'} takes over {_seconds(limit)}"

    def _compared(self, ours: Sequence[Trial], theirs: Sequence[Trial]) -> Difference:
        return paired_difference(ours, theirs, self.seeds)

    def _by_score(self) -> list[Entry]:
        return sorted(self.entries, key=lambda e: -e.score)

    def _train(self, entry: Entry, share: float, limit: float) -> None:
        seed = len(entry.runs)
        first = share < 1
        self.show(f"{entry.name}{', first trial' * first}{f', seed {seed}' * (seed > 0)}")
        # With few documents the baseline takes a moment; `measure` refuses what takes longer.
        if entry.candidate.has_epochs and limit < _SHORTEST:
            self._leave_out(entry, NO_TIME)
            return
        try:
            trial, had = self.measure(entry.candidate, share, seed, limit)
        except OutOfTime:
            self._leave_out(entry, self._too_long(first, limit))
        except UserError as error:
            entry.short = False
            if entry.runs:
                entry.failed += 1
            else:
                entry.left_out = str(error)
        else:
            entry.short = False
            if had < 1:
                entry.first, entry.share = trial, had
            else:
                entry.runs.append(trial)
                if entry.first is None:
                    entry.first = trial if entry.candidate.has_epochs else None
                    entry.share = 1.0


def _stopped(entry: Entry, other: Entry) -> str:
    """Why a candidate is not trained for all of its epochs."""
    assert entry.first is not None
    assert other.first is not None
    behind = 100 * (other.first.score - entry.first.score)
    if behind < 0.05:
        return f"stopped: its figure is not above that of {other.name}"
    said = f"stopped: {behind:.1f} points behind {other.name}"
    if entry.share == other.share:
        return said
    return f"{said} ({entry.share:.0%} of the epochs, the other {other.share:.0%})"


def seeds_of(entries: Iterable[Entry]) -> SeedVariance:
    """The variance between seeds, of all candidates of a race that have several."""
    return seed_variance(*(e.runs for e in entries if e.candidate.has_epochs))


def _relative_cost(candidate: Candidate) -> float:
    """Smaller batches cost more time."""
    return 1.6 if "batch_size" in candidate.changes else 1.0


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"  # _SHORTEST at least
