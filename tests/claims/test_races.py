import itertools
import math
import time

import numpy as np
import pytest
import torch
from torch import nn

from dlnotes.claims.claim import Budget
from dlnotes.claims.races import (
    Entry,
    Method,
    Problem,
    Race,
    Run,
    _order,
    classification,
    expected_best,
    race,
    races,
    seconds_per_step,
    train,
)
from dlnotes.optim import OPTIMIZERS, GradientDescent, UpdateRule

RATES = (0.01, 0.1)
DATA = torch.Generator().manual_seed(5)
X = torch.randn(60, 4, generator=DATA, dtype=torch.float64)
Y = (X[:, 0] + 0.3 * torch.randn(60, generator=DATA, dtype=torch.float64) > 0).long()


def blobs(hidden=3, **options):
    def make():
        return nn.Sequential(nn.Linear(4, hidden), nn.Tanh(), nn.Linear(hidden, 2)).double()

    parts = [(X[i : i + 20], Y[i : i + 20]) for i in (0, 20, 40)]
    return classification(f"blobs {hidden}", make, *parts, **options)


def bowl(noise=0.0, **options):
    """A quadratic, of which every example is another noise on the gradient; the loss is measured."""

    def loss(parameters, batch):
        return (parameters["w"] ** 2).sum() / 2 + noise * (batch[0].mean(0) * parameters["w"]).sum()

    data = (torch.randn(64, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64),)

    def init(generator):
        return {"w": torch.randn(3, generator=generator, dtype=torch.float64)}

    options = {"higher_is_better": False, **options}
    return Problem("bowl", init, loss, loss, data, data, data, **options)


def one_by_one(problem, method, rate, seed, steps, size):
    """What `train` does for one run, by the optimizer's own step."""
    parameters = problem.init(torch.Generator().manual_seed(seed))
    parameters = {name: p.clone().requires_grad_() for name, p in parameters.items()}
    optimizer = method.rule(list(parameters.values()), lr=rate, **method.hyper)
    for rows in torch.from_numpy(_order(len(problem.train[0]), size, steps, seed)):
        optimizer.zero_grad()
        problem.loss(parameters, tuple(x[rows] for x in problem.train)).backward()
        optimizer.step()
    with torch.no_grad():
        losses = problem.loss(parameters, problem.dev).item()
        return losses, problem.measure(parameters, problem.test).item()


class Normalized(UpdateRule):
    """Not elementwise: the norm is that of a parameter."""

    @staticmethod
    def rule(theta, g, *, lr):
        return theta - lr * g / (g.norm() + 1e-8)


@pytest.mark.parametrize(
    ("name", "at_once"),
    [
        *((name, 128) for name in [*OPTIMIZERS, "normalized"]),
        ("adam", 1),
        ("normalized", 1),
        ("adam", 3),
    ],
)
def test_runs_trained_as_one_are_those_trained_one_by_one(name, at_once):
    base = blobs(at_once=at_once)
    problem = Problem(**{**vars(base), "measure": base.loss, "higher_is_better": False})
    method = Method(name, Normalized) if name == "normalized" else Method.named(name)
    pairs = [(rate, seed) for rate in (0.01, 0.3) for seed in (4, 5)]
    runs = train(problem, method, pairs, 25, 7)
    assert [(run.rate, run.seed) for run in runs] == pairs
    for run in runs:
        dev, test = one_by_one(problem, method, run.rate, run.seed, 25, 7)
        assert run.dev[-1] == pytest.approx(dev, rel=1e-9)
        assert run.test == pytest.approx(test, rel=1e-9)
        assert run.steps[0] == 0
        assert run.steps[-1] == 25


def test_all_methods_have_the_same_weights_and_batches():
    runs = {
        name: train(blobs(), Method.named(name), [(0.0, seed) for seed in range(3)], 10, 5)
        for name in ("gradient-descent", "adam")
    }
    ours, theirs = ([run.loss for run in some] for some in runs.values())
    assert ours == theirs  # with a rate of 0 the loss depends on weights and batches alone
    assert len({run.loss[0] for run in runs["adam"]}) == 3


def test_an_epoch_has_every_example_once():
    order = _order(12, 4, 6, 0)
    assert sorted(order[:3].ravel()) == [*range(12)]
    assert sorted(order[3:].ravel()) == [*range(12)]
    assert (order[:3] != order[3:]).any()
    assert (_order(12, 4, 6, 1) != order).any()


def test_a_grid_is_extended_while_its_best_lies_on_an_edge():
    small = Method("sgd", GradientDescent, rates=(1e-3, 1e-2))
    entry = race(bowl(), [small], Budget(), steps=10, batch_size=64).entries["sgd"]
    assert len(entry.tuning) == 6  # 0.03, 0.1, 0.3 and 1 were added
    assert entry.rate == pytest.approx(1.0)
    assert entry.on_edge  # it was extended as often as is allowed
    wide = Method("sgd", GradientDescent, rates=(0.1, 1.0, 3.0))
    entry = race(bowl(), [wide], Budget(), steps=10, batch_size=64).entries["sgd"]
    assert [*entry.tuning] == [0.1, 1.0, 3.0]
    assert not entry.on_edge


def test_rates_are_chosen_on_other_seeds_than_those_of_the_verdict():
    budget = Budget()
    assert not {*budget.seeds(100)} & {*budget.tuning_seeds(100)}
    found = race(blobs(), [Method.named("adam")], budget, steps=5, batch_size=5)
    entry = found.entries["adam"]
    assert [run.seed for run in entry.runs] == [*range(10)]
    assert {run.rate for run in entry.runs} == {entry.rate}
    assert found.runs == entry.trials + 10
    assert entry.trials == 3 * len(entry.tuning)


def test_every_method_has_as_many_trials():
    methods = [Method("few", GradientDescent, rates=(0.1,)), Method("many", GradientDescent)]
    with pytest.raises(ValueError, match=r"same number of rates, got \{'few': 1, 'many': 11\}"):
        race(bowl(), methods, Budget(), steps=2, batch_size=4)
    with pytest.raises(ValueError, match="different names"):
        race(bowl(), [methods[0]] * 2, Budget(), steps=2, batch_size=4)


def test_a_rate_that_diverges_is_not_chosen_and_the_others_go_on():
    runs = train(bowl(), Method("sgd", GradientDescent), [(1e3, 0), (0.1, 0)], 400, 64)
    assert [run.diverged for run in runs] == [True, False]
    assert runs[0].steps[-1] < 400
    assert math.isnan(runs[0].final)
    assert runs[1].test < 1e-10


def test_losers_are_stopped_early_and_the_best_is_not():
    pairs = [(rate, seed) for rate in (1e-4, 1e-3, 1e-2, 0.1) for seed in (0, 1)]
    runs = train(bowl(), Method("sgd", GradientDescent), pairs, 40, 64, stop_losers=True)
    assert [run.stopped for run in runs] == [True] * 4 + [False] * 4
    assert all(run.steps[-1] == (10 if run.stopped else 40) for run in runs)
    alone = train(bowl(), Method("sgd", GradientDescent), [(0.1, 0)], 40, 64)
    assert runs[6].dev == pytest.approx(alone[0].dev, rel=1e-12)


def entered(name, dev, seconds, *, diverged=()):
    runs = [
        Run(0.1, k, [0, 5, 10], [9.0] * 3, [0.0, x / 2, x], x, k in diverged)
        for k, x in enumerate(dev)
    ]
    return Entry(name, 0.1, {0.1: 1.0}, runs, seconds, 3, False)


def test_equal_seconds_are_those_of_the_fastest():
    entries = {"fast": entered("fast", [0.6, 0.6], 1.0), "slow": entered("slow", [0.8, 0.8], 2.0)}
    found = Race("p", entries, 10, 4, True, 0.0)
    assert found.figures("slow", "dev") == [0.8, 0.8]
    assert found.figures("slow", "seconds") == [0.4, 0.4]  # after 5 steps
    assert found.differences("slow", "fast", "dev") == pytest.approx([0.2, 0.2])
    assert found.differences("slow", "fast", "seconds") == pytest.approx([-0.2, -0.2])
    between = Race("p", {**entries, "slow": entered("slow", [0.8, 0.8], 1.25)}, 10, 4, True, 0.0)
    assert between.figures("slow", "seconds") == pytest.approx([0.64, 0.64])  # after 8, not 5
    assert found.best() == "slow"
    assert found.best("seconds") == "fast"
    with pytest.raises(ValueError, match="of must be"):
        found.figures("slow", "speed")


def test_a_diverged_run_is_in_the_differences():
    a, b = entered("a", [0.9, 0.9], 1.0, diverged={1}), entered("b", [0.5, 0.5], 1.0)
    found = Race("p", {"a": a, "b": b}, 10, 4, True, 0.0)
    for of in ("test", "dev", "seconds"):
        assert found.differences("a", "b", of) == pytest.approx([0.4, -0.5])
    assert found.rows()[0]["diverged"] == 1


def test_seconds_are_measured_of_a_real_update():
    class Slow(GradientDescent):
        @staticmethod
        def rule(theta, g, *, lr):
            for _ in range(300):
                g = g.sin()
            return theta - lr * g

    fast = seconds_per_step(blobs(), Method("a", GradientDescent), 0.1, 8)
    slow = seconds_per_step(blobs(), Method("b", Slow, {"fused": False}), 0.1, 8)
    assert slow > 1.5 * fast > 0


def test_expected_best_is_the_mean_over_all_choices():
    scores = [0.1, 0.7, 0.4, 0.4, 0.9]
    for sign, best in ((True, max), (False, min)):
        brute = [
            np.mean([best(some) for some in itertools.combinations(scores, k)]) for k in range(1, 6)
        ]
        assert expected_best(scores, sign) == pytest.approx(brute)


def test_a_race_in_parallel_processes_is_the_same():
    methods = [Method.named("adam"), Method.named("momentum")]
    cases = [([2], 5), ([3], 8)]
    found = races(blobs, cases, methods, Budget(processes=2), steps=6, seeds=10)
    for (arguments, batch), ours in zip(cases, found, strict=True):
        alone = race(blobs(*arguments), methods, Budget(), steps=6, batch_size=batch)
        assert (ours.problem, ours.batch_size) == (alone.problem, batch)
        for name in ("adam", "momentum"):
            assert ours.entries[name].rate == alone.entries[name].rate
            assert ours.entries[name].runs == alone.entries[name].runs


@pytest.mark.slow
def test_training_all_runs_as_one_is_faster_than_a_loop():
    from dlnotes.claims.adam_is_the_best import problem

    pairs = [(rate, seed) for rate in (0.001, 0.003, 0.01, 0.03, 0.1) for seed in range(6)]
    seconds = {}
    for at_once in (128, 1):
        digits = Problem(**{**vars(problem("digits", "MLP")), "at_once": at_once})
        train(digits, Method.named("adam"), pairs[:2], 2, 32)  # what is made on first use
        began = time.process_time()
        runs = train(digits, Method.named("adam"), pairs, 60, 32)
        seconds[at_once] = time.process_time() - began
        assert all(run.steps[-1] == 60 for run in runs)
    assert seconds[1] > 1.5 * seconds[128]
