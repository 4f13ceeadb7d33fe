"""Races between methods: each has the same problem, tuning budget, seeds and steps.

How a race is run follows DeepOBS (https://arxiv.org/abs/1903.05499) and Wilson et al. 2017
(https://arxiv.org/abs/1705.08292):

1. Each method is tried at every learning rate of a common logarithmic grid, over seeds that are
   used for tuning only. While the best rate lies on an edge, the grid is extended there.
2. Its best rate is run again over the seeds that the verdict rests on. The k-th run of each method
   has the same initial weights and the same batches.

All rates and seeds of a method are trained at once: the parameters of all runs are rows of one
tensor, to which the pure function of the rule is applied. Thirty runs of a small network with
batches of 32 take a fifth of the time of a loop over them.
"""

from __future__ import annotations

import importlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from dlnotes.claims.cache import digest_of_data
from dlnotes.claims.claim import Budget
from dlnotes.claims.statistics import paired_differences
from dlnotes.optim import OPTIMIZERS, UpdateRule
from dlnotes.optim._kernel import is_elementwise

Parameters = dict[str, Tensor]
Batch = tuple[Tensor, ...]

GRID = tuple(10 ** (k / 2) for k in range(-7, 4))
"""Learning rates, two for each power of ten: 3e-4 to 30."""

_STEP = math.sqrt(10)  # factor between two rates of an extended grid
_EXTENSIONS = 4  # rates that are added at most on an edge
_CHECKS = 20  # points of a curve
_CUT = 0.25  # the share of the steps after which losers are stopped in tuning
_TIMED = 30  # updates that are timed


@dataclass(frozen=True)
class Problem:
    """A problem to train on.

    Attributes:
        name: Its name, which is also a part of the key of cached results.
        init: Makes the parameters of a run from a generator; they depend on nothing else.
        loss: ``loss(parameters, batch)``, a pure function that returns one number.
        measure: ``measure(parameters, data)``, a pure function that returns one number, such as
            accuracy. Learning rates are chosen by it.
        train: Training examples: tensors with an example in each row.
        dev: Examples on which learning rates are chosen.
        test: Examples on which results are reported.
        higher_is_better: Whether a larger measure is better.
        worst: The measure that a diverged run is given.
        at_once: How many runs are trained at once; 1 trains run by run, without vmap.
    """

    name: str
    init: Callable[[torch.Generator], Parameters]
    loss: Callable[[Parameters, Batch], Tensor]
    measure: Callable[[Parameters, Batch], Tensor]
    train: Batch
    dev: Batch
    test: Batch
    higher_is_better: bool = True
    worst: float | None = None
    at_once: int = 128

    @property
    def digest(self) -> str:
        """SHA-256 of its data, its name and the initial parameters of a run."""
        initial = self.init(torch.Generator().manual_seed(0)).values()
        data = [*self.train, *self.dev, *self.test, *initial]
        return f"{self.name} {digest_of_data(data)}"


def classification(
    name: str, make: Callable[[], nn.Module], train: Batch, dev: Batch, test: Batch, **options: Any
) -> Problem:
    """A problem from a module without state: cross-entropy, measured by accuracy from 0 to 1.

    Args:
        name: Name of the problem; must differ where anything but the data differs.
        make: Makes the module, with initial weights from the global generator.
        train: Inputs and labels.
        dev: Inputs and labels on which learning rates are chosen.
        test: Inputs and labels on which results are reported.
        options: See `Problem`.
    """
    module = make().to(train[0].device)

    def init(generator: torch.Generator) -> Parameters:
        seed = int(torch.randint(2**31, (), generator=generator))
        with torch.random.fork_rng(()):
            torch.manual_seed(seed)
            made = make()
        return {name: p.detach().to(train[0].device) for name, p in made.named_parameters()}

    def loss(parameters: Parameters, batch: Batch) -> Tensor:
        x, y = batch
        return nn.functional.cross_entropy(functional_call(module, parameters, (x,)), y)

    def accuracy(parameters: Parameters, data: Batch) -> Tensor:
        x, y = data
        scores: Tensor = functional_call(module, parameters, (x,))
        return (scores.argmax(-1) == y).double().mean()

    return Problem(name, init, loss, accuracy, train, dev, test, **{"worst": 0.0, **options})


@dataclass(frozen=True)
class Method:
    """A rule with its hyper-parameters, except for the learning rate.

    Attributes:
        name: What it is called in tables; names are unique in a race.
        rule: The rule.
        hyper: Its hyper-parameters; those that are missing have their defaults.
        rates: The learning rates that are tried; every method of a race has equally many.
    """

    name: str
    rule: type[UpdateRule]
    hyper: Mapping[str, Any] = field(default_factory=dict)
    rates: tuple[float, ...] = GRID

    @classmethod
    def named(cls, name: str, **hyper: Any) -> Method:
        """A rule of `OPTIMIZERS` without weight decay."""
        return cls(name, OPTIMIZERS[name], {"weight_decay": 0.0, **hyper})

    @property
    def settings(self) -> dict[str, Any]:
        """The part of the cache's key that describes the method."""
        return {
            "method": self.name,
            "rule": _name(self.rule),
            "hyper": dict(self.hyper),
            "rates": list(self.rates),
        }


@dataclass
class Run:
    """A training.

    Attributes:
        rate: Its learning rate.
        seed: Seed of its weights and batches.
        steps: The numbers of updates after which it was measured, including 0.
        loss: Training loss: mean over the updates since the last measurement; at step 0, the loss
            of the first batch.
        dev: The measure on dev.
        test: The measure on test at the end; NaN if it did not get there.
        diverged: Whether a loss or a measure was not finite.
        stopped: Whether it was stopped as a loser.
    """

    rate: float
    seed: int
    steps: list[int] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    dev: list[float] = field(default_factory=list)
    test: float = math.nan
    diverged: bool = False
    stopped: bool = False

    @property
    def final(self) -> float:
        """The measure on dev at the end; NaN if it did not get there."""
        return math.nan if self.diverged or self.stopped else self.dev[-1]


@dataclass
class Entry:
    """How a method did.

    Attributes:
        method: Its name.
        rate: Its best rate.
        tuning: The mean measure on dev for each rate tried: NaN where a run diverged; for a rate
            that was stopped as a loser, the measure when it was stopped.
        runs: The runs at the best rate, in the order of the seeds.
        seconds_per_step: Seconds of an update of a single run.
        trials: How many trainings the tuning took.
        on_edge: Whether the best rate is on an edge of the extended grid, so that a better one may
            lie beyond it.
    """

    method: str
    rate: float
    tuning: dict[float, float]
    runs: list[Run]
    seconds_per_step: float
    trials: int
    on_edge: bool

    def at(self, step: float) -> list[float]:
        """The measure on dev after `step` updates, interpolated linearly, for each run.

        Args:
            step: It need not be whole.
        """
        return [
            math.nan if run.diverged else float(np.interp(step, run.steps, run.dev))
            for run in self.runs
        ]


@dataclass
class Race:
    """How all methods did on a problem.

    Attributes:
        problem: Its name.
        entries: By the name of the method.
        steps: Updates of each run.
        batch_size: Examples per update.
        higher_is_better: Whether a larger measure is better.
        worst: The measure that a diverged run is given.
    """

    problem: str
    entries: dict[str, Entry]
    steps: int
    batch_size: int
    higher_is_better: bool
    worst: float | None

    @property
    def runs(self) -> int:
        """How many trainings it took, those for tuning included."""
        return sum(entry.trials + len(entry.runs) for entry in self.entries.values())

    def figures(self, method: str, of: str = "test") -> list[float]:
        """A figure for each seed; NaN for a run that diverged.

        Args:
            method: Its name.
            of: "test" or "dev" after equal steps; "seconds" for dev after the seconds in which the
                fastest method makes all its steps; "loss" for the training loss at the end.
        """
        entry = self.entries[method]
        if of == "test":
            return [math.nan if run.diverged else run.test for run in entry.runs]
        if of == "dev":
            return [run.final for run in entry.runs]
        if of == "loss":
            return [math.nan if run.diverged else run.loss[-1] for run in entry.runs]
        if of == "seconds":
            fastest = min(other.seconds_per_step for other in self.entries.values())
            return entry.at(self.steps * fastest / entry.seconds_per_step)
        raise ValueError(f"of must be test, dev, seconds or loss, got {of!r}")

    def differences(self, ours: str, theirs: str, of: str = "test") -> list[float]:
        """By how much one method is better than another, seed by seed; see `paired_differences`."""
        loss = of == "loss"
        return paired_differences(
            self.figures(ours, of),
            self.figures(theirs, of),
            higher_is_better=self.higher_is_better and not loss,
            worst=None if loss else self.worst,
        )

    def best(self, of: str = "test") -> str:
        """The method with the best mean, where a diverged run counts as the worst."""
        names = list(self.entries)
        best = names[0]
        for name in names[1:]:
            if np.mean(self.differences(name, best, of)) > 0:
                best = name
        return best

    def rows(self) -> list[dict[str, str | float]]:
        """A row for each method, for `Finding.numbers`."""
        return [
            {
                "problem": self.problem,
                "batch": self.batch_size,
                "method": name,
                "best rate": entry.rate,
                "trials": entry.trials,
                "on edge": "yes" if entry.on_edge else "no",
                "test": _mean(self.figures(name, "test")),
                "dev": _mean(self.figures(name, "dev")),
                "dev, equal seconds": _mean(self.figures(name, "seconds")),
                "training loss": _mean(self.figures(name, "loss")),
                "diverged": sum(run.diverged for run in entry.runs),
                "µs per step": 1e6 * entry.seconds_per_step,
            }
            for name, entry in self.entries.items()
        ]


def _mean(figures: Sequence[float]) -> float:
    """The mean of the runs that did not diverge; another column counts those that did."""
    finite = [x for x in figures if math.isfinite(x)]
    return float(np.mean(finite)) if finite else math.nan


def race(
    problem: Problem,
    methods: Sequence[Method],
    budget: Budget,
    *,
    steps: int,
    batch_size: int,
    seeds: int = 10,
    tuning_seeds: int = 3,
    progress: tuple[float, float] = (0.0, 1.0),
) -> Race:
    """Race methods on a problem.

    Args:
        problem: The problem.
        methods: The methods, which must have equally many learning rates.
        budget: Decides the number of steps and seeds, and keeps results.
        steps: Updates of a full run.
        batch_size: Examples per update; at most the whole training set.
        seeds: Number of paired runs that the verdict rests on.
        tuning_seeds: Number of runs at each rate in tuning.
        progress: The share of the experiment that is done before and after this race.

    Raises:
        ValueError: Methods are not tuned alike, or two have the same name.
    """
    shared = _shared(methods, budget, steps, batch_size, seeds, tuning_seeds)
    low, high = progress
    found = []
    for i, method in enumerate(methods):
        settings = {**shared, "problem": problem.digest, **method.settings}
        found.append(budget.cached(settings, partial(_entered, problem, method, shared)))
        budget.done(low + (high - low) * (i + 1) / len(methods))
    return _race(problem, methods, found, shared)


def races(
    make: Callable[..., Problem],
    cases: Sequence[tuple[Sequence[Any], int]],
    methods: Sequence[Method],
    budget: Budget,
    *,
    steps: int,
    seeds: int = 10,
    tuning_seeds: int = 3,
) -> list[Race]:
    """Race methods on several problems, in the parallel processes of the budget.

    Args:
        make: Makes a problem; at the top level of a module, since other processes call it.
        cases: Arguments of `make` (numbers and strings) and the batch size of each race.
        methods: See `race`; rules at the top level of a module.
        budget: See `race`.
        steps: See `race`.
        seeds: See `race`.
        tuning_seeds: See `race`.

    Raises:
        ValueError: See `race`.
    """
    items: list[dict[str, Any]] = []
    raced = []
    for arguments, batch_size in cases:
        problem = make(*arguments)
        shared = _shared(methods, budget, steps, batch_size, seeds, tuning_seeds)
        raced.append((problem, shared))
        made = {"make": _name(make), "arguments": list(arguments), "problem": problem.digest}
        items += [{**made, **shared, **method.settings} for method in methods]
    found = budget.map(_enter_item, items)
    n = len(methods)
    return [
        _race(problem, methods, found[i * n : (i + 1) * n], shared)
        for i, (problem, shared) in enumerate(raced)
    ]


def _enter_item(item: Mapping[str, Any]) -> dict[str, Any]:
    problem = _named(item["make"])(*item["arguments"])
    rates = tuple(item["rates"])
    method = Method(item["method"], _named(item["rule"]), item["hyper"], rates)
    return _entered(problem, method, item)


def _name(thing: Any) -> str:
    return f"{thing.__module__}:{thing.__qualname__}"


def _named(name: str) -> Any:
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)


def _shared(
    methods: Sequence[Method],
    budget: Budget,
    steps: int,
    batch_size: int,
    seeds: int,
    tuning_seeds: int,
) -> dict[str, Any]:
    """The settings that all methods of a race share."""
    if len({len(method.rates) for method in methods}) > 1:
        tried = {method.name: len(method.rates) for method in methods}
        raise ValueError(f"methods must have the same number of rates, got {tried}")
    if len({method.name for method in methods}) < len(methods):
        raise ValueError(f"methods must have different names, got {[m.name for m in methods]}")
    return {
        "steps": budget.steps(steps),
        "batch_size": batch_size,
        "seeds": [*budget.seeds(seeds)],
        "tuning_seeds": [*budget.tuning_seeds(tuning_seeds)],
    }


def _race(
    problem: Problem,
    methods: Sequence[Method],
    found: Sequence[Mapping[str, Any]],
    shared: Mapping[str, Any],
) -> Race:
    entries = {}
    for method, entry in zip(methods, found, strict=True):
        tuning = {float(rate): value for rate, value in entry["tuning"]}
        runs = [Run(**run) for run in entry["runs"]]
        entries[method.name] = Entry(**{**entry, "tuning": tuning, "runs": runs})
    better, worst = problem.higher_is_better, problem.worst
    return Race(problem.name, entries, shared["steps"], shared["batch_size"], better, worst)


def _entered(problem: Problem, method: Method, shared: Mapping[str, Any]) -> dict[str, Any]:
    """What `_enter` returns, for JSON, where the keys of a mapping are strings."""
    entry = _enter(problem, method, shared)
    return {**asdict(entry), "tuning": [*entry.tuning.items()]}


def _enter(problem: Problem, method: Method, shared: Mapping[str, Any]) -> Entry:
    """Tune a method and run it at its best rate."""
    steps, batch_size = shared["steps"], shared["batch_size"]
    sign = 1 if problem.higher_is_better else -1
    tried: dict[float, float] = {}
    reached: dict[float, float] = {}

    def value(rate: float) -> float:
        return sign * tried[rate] if math.isfinite(tried[rate]) else -math.inf

    trials, extensions = 0, 0
    new = sorted(method.rates)
    while new:
        pairs = [(rate, seed) for rate in new for seed in shared["tuning_seeds"]]
        runs = train(problem, method, pairs, steps, batch_size, stop_losers=len(new) > 2)
        trials += len(runs)
        for rate in new:
            some = [run for run in runs if run.rate == rate]
            tried[rate] = float(np.mean([run.final for run in some]))  # NaN if one diverged
            last = [math.nan if run.diverged else run.dev[-1] for run in some]
            reached[rate] = float(np.mean(last))
        best = max(sorted(tried), key=value)  # the smallest of equal ones
        on_edge = best in (min(tried), max(tried)) and len(tried) > 1
        new = []
        if on_edge and extensions < _EXTENSIONS:
            new = [best / _STEP] if best == min(tried) else [best * _STEP]
            extensions += 1
    runs = train(problem, method, [(best, s) for s in shared["seeds"]], steps, batch_size)
    seconds = seconds_per_step(problem, method, best, batch_size)
    return Entry(method.name, best, reached, runs, seconds, trials, on_edge)


def train(
    problem: Problem,
    method: Method,
    pairs: Sequence[tuple[float, int]],
    steps: int,
    batch_size: int,
    *,
    stop_losers: bool = False,
) -> list[Run]:
    """Train at several learning rates and from several seeds.

    Args:
        problem: The problem.
        method: The method.
        pairs: Learning rate and seed of each run.
        steps: Number of updates.
        batch_size: Examples per update.
        stop_losers: Whether to stop the worse half of the rates, by the mean over seeds, after a
            quarter of the steps.

    Returns:
        The runs in the order of `pairs`.
    """
    with _one_thread():
        return _train(problem, method, pairs, steps, batch_size, stop_losers)


def _train(
    problem: Problem,
    method: Method,
    pairs: Sequence[tuple[float, int]],
    steps: int,
    batch_size: int,
    stop_losers: bool,
) -> list[Run]:
    runs = [Run(rate, seed) for rate, seed in pairs]
    stacks = [
        _Stack(problem, method, runs[i : i + problem.at_once], steps, batch_size)
        for i in range(0, len(runs), problem.at_once)
    ]
    checks = sorted({round(steps * k / _CHECKS) for k in range(_CHECKS + 1)})
    cut = next(step for step in checks if step >= _CUT * steps)
    for stack in stacks:
        for check in checks:
            if check <= cut:
                stack.advance(check)
    if stop_losers:
        sign = 1 if problem.higher_is_better else -1
        by_rate: dict[float, list[float]] = {}
        for run in runs:
            by_rate.setdefault(run.rate, []).append(
                -math.inf if run.diverged else sign * run.dev[-1]
            )
        ranked = sorted(by_rate, key=lambda rate: float(np.mean(by_rate[rate])), reverse=True)
        losers = {*ranked[math.ceil(len(ranked) / 2) :]}
        for run in runs:
            run.stopped = run.rate in losers and not run.diverged
    for stack in stacks:
        for check in checks:
            if check > cut:
                stack.advance(check)
        stack.test()
    return runs


class _Stack:
    """Runs that are trained at once; each tensor has a row for each run."""

    def __init__(
        self, problem: Problem, method: Method, runs: list[Run], steps: int, batch_size: int
    ) -> None:
        self.problem, self.method, self.runs, self.step = problem, method, runs, 0
        size = min(batch_size, len(problem.train[0]))
        starts: dict[int, Parameters] = {}
        orders: dict[int, Tensor] = {}
        for seed in {run.seed for run in runs}:
            generator = torch.Generator().manual_seed(seed)
            starts[seed] = problem.init(generator)
            orders[seed] = torch.from_numpy(_order(len(problem.train[0]), size, steps, seed))
        first = starts[runs[0].seed]
        self.shapes = {name: p.shape for name, p in first.items()}
        self.theta = torch.stack(
            [torch.cat([p.reshape(-1) for p in starts[run.seed].values()]) for run in runs]
        )
        self.device = self.theta.device
        self.orders = torch.stack([orders[run.seed] for run in runs]).to(self.device)  # r s b
        rates = [[run.rate] for run in runs]
        self.rates = torch.tensor(rates, dtype=self.theta.dtype, device=self.device)  # r 1
        optimizer = method.rule([self.theta], lr=1.0, **method.hyper)
        group = optimizer.param_groups[0]
        self.hyper = {n: group[n] for n in method.rule.kernel_names() if n != "lr"}
        self.elementwise_for = {**self.hyper, "lr": 1.0}
        self.accumulated = [torch.zeros_like(self.theta) for _ in method.rule.accumulators]
        self.loss_sum, self.summed = torch.zeros(len(runs)).to(self.theta), 0
        self.together = problem.at_once > 1

    def advance(self, to: int) -> None:
        """Train up to a step, and measure."""
        self._drop()
        if not self.runs:
            return
        while self.step < to:
            self.step += 1
            self.update()
        with torch.no_grad():
            parameters = self.parameters(self.theta)
            dev = self.measured(parameters, self.problem.dev)
            if not self.step:
                self.loss_sum = self.losses(parameters, self.batch(0))
            losses = (self.loss_sum / max(1, self.summed)).tolist()
        for run, value, loss in zip(self.runs, dev, losses, strict=True):
            run.steps.append(self.step)
            run.dev.append(value)
            run.loss.append(loss)
            run.diverged = not (math.isfinite(value) and math.isfinite(loss))
        self.loss_sum, self.summed = torch.zeros_like(self.loss_sum), 0

    def test(self) -> None:
        """Measure on test."""
        self._drop()
        if self.runs:
            with torch.no_grad():
                values = self.measured(self.parameters(self.theta), self.problem.test)
            for run, value in zip(self.runs, values, strict=True):
                run.test = value

    def update(self) -> None:
        """One update of all runs."""
        theta = self.theta.requires_grad_()
        losses = self.losses(self.parameters(theta), self.batch(self.step - 1))
        (g,) = torch.autograd.grad(losses.sum(), theta)
        with torch.no_grad():
            self.loss_sum += losses
            self.summed += 1
            self.theta, *self.accumulated = self.ruled(theta.detach(), g)

    def ruled(self, theta: Tensor, g: Tensor) -> tuple[Tensor, ...]:
        """Apply the rule to rows of parameters."""
        rule = self.method.rule
        hyper = {**self.hyper, "t": float(self.step)} if "t" in rule.hyper_names() else self.hyper
        if is_elementwise(rule, self.elementwise_for):
            return rule.update(theta, g, *self.accumulated, lr=self.rates, **hyper)

        def one(lr: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
            return rule.update(*tensors, lr=lr, **hyper)

        columns = [self.parameters(x) for x in (theta, g, *self.accumulated)]
        new = [
            vmap(one)(self.rates[:, 0], *(column[name] for column in columns))
            for name in self.shapes
        ]
        return tuple(torch.cat([x.flatten(1) for x in part], 1) for part in zip(*new, strict=True))

    def batch(self, step: int) -> Batch:
        """The examples of an update, for each run."""
        return tuple(x[self.orders[:, step]] for x in self.problem.train)

    def losses(self, parameters: Parameters, batch: Batch) -> Tensor:
        """The loss of each run."""
        if self.together:
            return vmap(self.problem.loss)(parameters, batch)
        only = {name: p[0] for name, p in parameters.items()}
        return self.problem.loss(only, tuple(x[0] for x in batch)).unsqueeze(0)

    def measured(self, parameters: Parameters, data: Batch) -> list[float]:
        """The measure of each run."""
        if self.together:
            values = vmap(self.problem.measure, in_dims=(0, None))(parameters, data)
        else:
            only = {name: p[0] for name, p in parameters.items()}
            values = self.problem.measure(only, data).unsqueeze(0)
        found: list[float] = values.tolist()
        return found

    def parameters(self, theta: Tensor) -> Parameters:
        """Rows of parameters by name."""
        parts = theta.split([shape.numel() for shape in self.shapes.values()], dim=1)
        return {
            name: part.view(len(theta), *shape)
            for (name, shape), part in zip(self.shapes.items(), parts, strict=True)
        }

    def _drop(self) -> None:
        """Leave out runs that diverged or were stopped."""
        left = [i for i, run in enumerate(self.runs) if not (run.diverged or run.stopped)]
        if len(left) < len(self.runs):
            rows = torch.tensor(left, dtype=torch.long, device=self.device)
            self.runs = [self.runs[i] for i in left]
            self.theta, self.orders = self.theta.detach()[rows], self.orders[rows]
            self.rates, self.loss_sum = self.rates[rows], self.loss_sum[rows]
            self.accumulated = [x[rows] for x in self.accumulated]


def _order(n: int, size: int, steps: int, seed: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Which examples each update sees: ``(steps, size)``, epoch after epoch in random order."""
    generator = np.random.default_rng([seed, n])
    epochs = -(-steps * size // n) or 1
    order = np.concatenate([generator.permutation(n) for _ in range(epochs)])
    return order[: steps * size].reshape(steps, size)


def seconds_per_step(problem: Problem, method: Method, rate: float, batch_size: int) -> float:
    """Seconds of an update of a single run: the gradient and the step of the optimizer.

    The median of 30 updates, on one CPU thread.

    Args:
        problem: The problem.
        method: The method.
        rate: The learning rate.
        batch_size: Examples per update.
    """
    size = min(batch_size, len(problem.train[0]))
    start = problem.init(torch.Generator().manual_seed(0))
    parameters = {name: p.clone().requires_grad_() for name, p in start.items()}
    optimizer = method.rule(list(parameters.values()), lr=rate, **method.hyper)
    order = torch.from_numpy(_order(len(problem.train[0]), size, _TIMED + 3, 0))
    seconds = []
    with _one_thread():
        for rows in order.to(next(iter(start.values())).device):
            batch = tuple(x[rows] for x in problem.train)
            _wait()
            began = time.perf_counter()
            problem.loss(parameters, batch).backward()
            optimizer.step()
            optimizer.zero_grad()
            _wait()
            seconds.append(time.perf_counter() - began)
    return float(np.median(seconds[3:]))  # the first ones compile


@contextmanager
def _one_thread() -> Iterator[None]:
    """Use one thread: with small tensors, threads mostly wait for each other on a busy CPU."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _wait() -> None:
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()


def expected_best(scores: Sequence[float], higher_is_better: bool = True) -> list[float]:
    r"""The expected best of 1, 2, … of the trials of a tuning, drawn without replacement.

    Sivaprasad et al. 2020, https://arxiv.org/abs/1910.11758: what tuning is worth at each budget.

    .. math::
        E_k = Σ_i x_{(i)} \binom{i−1}{k−1} / \binom{n}{k}

    with :math:`x_{(1)} ≤ … ≤ x_{(n)}`.

    Args:
        scores: The measure of each trial; all must be finite.
        higher_is_better: Whether a larger measure is better.

    Returns:
        As many numbers as there are trials.
    """
    sign = 1 if higher_is_better else -1
    ordered = sorted(sign * x for x in scores)
    n = len(ordered)
    return [
        sign * sum(x * math.comb(i, k - 1) for i, x in enumerate(ordered)) / math.comb(n, k)
        for k in range(1, n + 1)
    ]
