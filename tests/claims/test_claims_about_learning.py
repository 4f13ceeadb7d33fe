"""Claims about learning: each runs, what is certain is found, and a planted contrary changes it."""

import math
from dataclasses import dataclass
from importlib import import_module
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dlnotes.claims import (
    adadelta_keeps_learning,
    adagrad_ends_early,
    adagrad_suits_sparse_data,
    adam_beats_rmsprop_on_sparse_gradients,
    adam_converges_faster,
    adam_is_the_best_on_planted_data,
    adaptive_rules_are_alike,
    adaptive_rules_suit_texts,
    batch_sizes,
    ensembles_beat_the_best_model,
    large_batch_stops_changing_direction,
    larger_batch_needs_fewer_steps,
    mini_batch_costs_less_per_example,
    mini_batch_needs_fewer_steps,
    moving_targets,
    relu_converges_faster,
    relu_units_die,
    sgd_is_hard_to_parallelise,
    sigmoid_saturates,
    too_large_batch_needs_more_time,
)
from dlnotes.claims.claim import Budget, Verdict
from dlnotes.claims.problems import documents
from dlnotes.claims.races import Method, Run
from dlnotes.claims.statistics import decide
from dlnotes.claims.targets import Reached, reach, steps_to
from dlnotes.data.dataset import Dataset
from dlnotes.data.digits import Split, digits

NAMES = [
    "adadelta_keeps_learning",
    "adagrad_ends_early",
    "adagrad_suits_sparse_data",
    "adam_beats_rmsprop_on_sparse_gradients",
    "adam_converges_faster",
    "adaptive_rules_are_alike",
    "adaptive_rules_suit_texts",
    "ensembles_beat_the_best_model",
    "large_batch_stops_changing_direction",
    "larger_batch_needs_fewer_steps",
    "mini_batch_costs_less_per_example",
    "mini_batch_needs_fewer_steps",
    "adam_is_the_best_on_planted_data",
    "relu_converges_faster",
    "relu_units_die",
    "sgd_is_hard_to_parallelise",
    "sigmoid_saturates",
    "too_large_batch_needs_more_time",
]
QUICK = Budget(quick=True)


@dataclass(frozen=True)
class Short(Budget):
    """All seeds, so that there is a verdict, and a tenth of the updates."""

    def steps(self, n: int) -> int:
        return n // 10


@pytest.mark.parametrize("name", NAMES)
def test_quick_run_has_all_parts_and_decides_nothing(name):
    claim = import_module(f"dlnotes.claims.{name}").CLAIM
    assert claim.name == name.replace("_", "-")
    finding = claim.experiment(QUICK)
    assert finding.verdict is Verdict.NOT_DECIDED  # of three seeds
    assert math.isfinite(finding.effect)
    assert finding.runs >= (0 if name in UNTRAINED else 3)
    assert len({tuple(row) for row in finding.numbers}) == 1
    assert finding.figure.axes
    assert all(axes.has_data() for axes in finding.figure.axes)


UNTRAINED = ("sigmoid_saturates", "mini_batch_costs_less_per_example")

# Batches


def sizes(steps, seconds, seeds=10):
    """A planted sweep: steps and seconds of an update for each batch size, and 2 % of noise."""
    noise = np.random.default_rng(0).normal(0, 0.02, (len(batch_sizes.LIMITS), seeds))
    return {
        size: batch_sizes.Size(
            size,
            Reached(1.0, (steps(size) * np.exp(noise[i])).tolist(), 10**6, 0),
            [seconds(size)] * seeds,
        )
        for i, size in enumerate(batch_sizes.LIMITS)
    }


LAWS = {
    "steps fall as 1/B": (lambda b: 1e5 / b, lambda b: 1.0),
    "steps are constant": (lambda b: 100.0, lambda b: 1.0 + b),
    "steps fall up to 64": (lambda b: 6400 / min(b, 64), lambda b: 1 + b / 1000),
    "more steps beyond 64": (lambda b: 6400 / b if b <= 64 else 10.0 * b, lambda b: 1.0),
}


@pytest.mark.parametrize(
    ("module", "law", "verdict"),
    [
        (larger_batch_needs_fewer_steps, "steps fall as 1/B", "holds"),
        (larger_batch_needs_fewer_steps, "steps are constant", "does not hold"),
        (
            larger_batch_needs_fewer_steps,
            "steps fall up to 64",
            "holds only if the batch has at most 64 examples",
        ),
        (
            larger_batch_needs_fewer_steps,
            "more steps beyond 64",
            "holds only if the batch has at most 64 examples",
        ),
        (mini_batch_needs_fewer_steps, "steps fall as 1/B", "holds"),
        (mini_batch_needs_fewer_steps, "steps are constant", "does not hold"),
        (too_large_batch_needs_more_time, "steps are constant", "holds"),
        (too_large_batch_needs_more_time, "steps fall up to 64", "holds"),
        (too_large_batch_needs_more_time, "steps fall as 1/B", "does not hold"),
    ],
)
def test_claims_about_batches_follow_the_steps(monkeypatch, module, law, verdict):
    planted = sizes(*LAWS[law])
    some = lambda budget, wanted=tuple(planted): {size: planted[size] for size in wanted}  # noqa: E731
    monkeypatch.setattr(batch_sizes, "sweep", some)
    assert module.CLAIM.experiment(Budget()).says == verdict


def test_late_gradients_are_those_of_workers_that_take_turns(monkeypatch):
    """Three workers by hand: each adds a gradient at the weights that it has read last."""
    module, rate, limit, workers = sgd_is_hard_to_parallelise, 0.1, 40, 3
    x, y = module.digits_splits()[0]
    order = torch.randint(len(x), (limit,), generator=torch.Generator().manual_seed(5)).tolist()
    W1, b1, W2, b2 = module.initial(module.SIZES, [5], "he")
    weights = [W1[0].T, b1[0, 0], W2[0].T, b2[0, 0]]

    def loss_of(values, xs, ys):
        hidden = torch.nn.functional.linear(xs.double(), *values[:2]).relu()
        scores = torch.nn.functional.linear(hidden, *values[2:])
        return torch.nn.functional.cross_entropy(scores, ys)

    has_read = [weights] * workers
    losses = []
    for step, i in enumerate(order):
        mine = [w.clone().requires_grad_() for w in has_read[step % workers]]
        loss_of(mine, x[i : i + 1], y[i : i + 1]).backward()
        weights = [w - rate * m.grad for w, m in zip(weights, mine, strict=True)]
        has_read[step % workers] = weights
        losses.append(loss_of(weights, x, y).item())
    best = losses.index(min(losses))
    monkeypatch.setattr(module, "EVERY", 1)
    monkeypatch.setattr(module, "TARGET", losses[best] + 1e-9)
    found = [module.updates((n, (rate,), (5,), limit)) for n in (workers, 2)]
    assert found[0] == [[best + 1]]
    assert found[1] != found[0]


@pytest.mark.parametrize(
    ("power", "says"),
    [
        (0.0, "does not hold"),  # late gradients cost nothing
        (1.0, "holds"),  # nothing is won
        (0.3, "holds only if there are 16 or 64 workers"),  # 4 / 4^0.3 > 2, 16 / 16^0.3 < 8
        (0.49, "holds only if there are 16 or 64 workers; it is not decided for 4"),
    ],
)
def test_planted_workers(monkeypatch, power, says):
    def planted(item):
        workers, rates, seeds, _ = item
        # 4 workers vary so much that what is half of 4 is not decided.
        noise = np.random.default_rng(0).normal(
            0, 1 if workers == 4 and power == 0.49 else 0.01, 10
        )
        each = 100 * workers**power * np.exp(noise[: len(seeds)])
        return [(each * (1 + abs(math.log2(rate / 0.125)))).tolist() for rate in rates]

    monkeypatch.setattr(sgd_is_hard_to_parallelise, "updates", planted)
    assert sgd_is_hard_to_parallelise.CLAIM.experiment(Budget()).says == says


def test_nothing_is_decided_if_one_worker_misses_the_target(monkeypatch):
    def planted(item):
        workers, rates, seeds, limit = item
        taken = [100.0 * workers] * len(seeds)
        if workers == 1 and 0 in seeds:
            taken[0] = limit
        return [taken for _ in rates]

    monkeypatch.setattr(sgd_is_hard_to_parallelise, "updates", planted)
    assert sgd_is_hard_to_parallelise.CLAIM.experiment(Budget()).verdict is Verdict.NOT_DECIDED


@pytest.mark.parametrize(
    ("best", "rate", "edge"), [(1 / 8, 1 / 8, "no"), (2.0, 2.0, "no"), (1e3, 4.0, "yes")]
)
def test_rates_of_workers_are_tried_beyond_an_edge(monkeypatch, best, rate, edge):
    def planted(item):
        return [[100 * (1 + abs(math.log2(rate / best)))] * len(item[2]) for rate in item[1]]

    monkeypatch.setattr(sgd_is_hard_to_parallelise, "updates", planted)
    found = sgd_is_hard_to_parallelise.CLAIM.experiment(Budget())
    assert {(row["best rate"], row["on edge"]) for row in found.numbers} == {(rate, edge)}
    rates = len(sgd_is_hard_to_parallelise.RATES) + {0.125: 0, 2.0: 3, 4.0: 3}[rate]
    assert found.runs == 4 * (3 * rates + 10)


@pytest.mark.parametrize("bend", [4, 60, 500])
def test_bend_of_the_steps_is_found(bend):
    found = batch_sizes.bends(sizes(lambda b: 50 * (1 + bend / b), lambda b: 1.0))
    assert np.median(found) == pytest.approx(bend, rel=0.15)


@pytest.mark.parametrize(("alone", "verdict"), [(100, "holds"), (5, "does not hold")])
def test_time_of_an_example(monkeypatch, alone, verdict):
    generator = np.random.default_rng(0)

    def seconds(problem, method, rate, size):
        return (alone if size == 1 else size) * generator.uniform(0.9, 1.1)

    monkeypatch.setattr(mini_batch_costs_less_per_example, "seconds_per_step", seconds)
    finding = mini_batch_costs_less_per_example.CLAIM.experiment(Budget())
    assert finding.says == verdict
    assert finding.effect == pytest.approx(alone, rel=0.1)


def gradients_of(mean, noise, n=4000):
    generator = torch.Generator().manual_seed(0)
    return mean + noise * torch.randn(n, 50, generator=generator)


@pytest.mark.parametrize(("mean", "noise"), [(1.0, 1.0), (1.0, 10.0), (0.5, 5.0)])
def test_noise_scale_of_planted_gradients(mean, noise):
    scale = large_batch_stops_changing_direction.noise_scale(gradients_of(mean, noise))
    sampling = (noise / mean) ** 2 / 4000  # of the mean itself
    assert scale == pytest.approx((noise / mean) ** 2 / (1 + sampling), rel=0.15)


def test_angle_falls_with_the_batch_as_the_noise_scale_says():
    g, generator = gradients_of(1.0, 4.0), torch.Generator().manual_seed(0)
    scale = large_batch_stops_changing_direction.noise_scale(g)
    for size in (1, 16, 256):
        expected = large_batch_stops_changing_direction.predicted(scale, size)
        found = large_batch_stops_changing_direction.angle(g, size, generator)
        assert found == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize(
    ("noise", "says"),
    [(0.01, "holds"), (5.0, "holds only if a batch has at least 1,024"), (400, "does not hold")],
)
def test_direction_of_planted_gradients(monkeypatch, noise, says):
    module = large_batch_stops_changing_direction
    planted = sizes(lambda b: 100 * (1 + 10 / b), lambda b: 1.0)
    monkeypatch.setattr(batch_sizes, "sweep", lambda budget: planted)

    def look(seed):
        g, generator = gradients_of(1.0, noise, 1000), torch.Generator().manual_seed(seed)
        angles = [module.angle(g, size, generator) for size in module.SIZES]
        return {"scales": [module.noise_scale(g)] * len(module.POINTS), "angles": angles}

    monkeypatch.setattr(module, "look", look)
    assert module.CLAIM.experiment(Budget()).says.startswith(says)


# Targets


def run_of(values, every=10):
    return Run(1.0, 0, steps=[every * i for i in range(len(values))], dev=list(values))


@pytest.mark.parametrize(
    ("values", "higher", "target", "steps"),
    [
        ([2.0, 1.0, 0.0], False, 0.5, 15),
        ([2.0, 1.0, 0.0], False, 1.0, 10),
        ([0.1, 0.5, 0.9], True, 0.7, 15),
        ([0.1, 0.5, 0.9], True, 0.95, math.inf),
        ([0.1, 0.5, 0.9], True, 0.05, 0),
        ([0.1, 0.5, math.nan], True, 0.7, math.inf),
        ([0.1, 0.9, 0.1], True, 0.5, 5),  # the first time counts
    ],
)
def test_steps_to_a_target(values, higher, target, steps):
    assert steps_to(target, run_of(values), higher) == pytest.approx(steps)


def test_rates_are_extended_until_the_best_is_inside():
    learned = batch_sizes.problem()
    method = Method("SGD", Method.named("gradient-descent").rule, rates=(0.01, 0.02))
    found = reach(1.5, learned, method, QUICK, steps=40, batch_size=64)
    assert found.rate > 0.08
    assert found.misses == 0
    assert found.trials > 4
    never = reach(-1.0, learned, method, QUICK, steps=4, batch_size=4)
    assert never.misses == 3
    assert (never.counted == 8).all()


# Adagrad and Adadelta


@pytest.mark.parametrize(
    ("name", "shrinks"), [("adagrad", True), ("gradient-descent", False), ("adadelta", False)]
)
def test_effective_rate(name, shrinks):
    _, of = moving_targets.follow(Method.named(name), [0.1] * 4, [0, 1, 2, 3], 300, 300)
    assert of.shape == (300, 4)
    assert (np.diff(of, axis=0) < 0).all() == shrinks
    if name == "gradient-descent":
        np.testing.assert_allclose(of, 0.1, rtol=1e-9)


def test_a_target_that_does_not_move_is_followed_alike_in_all_runs():
    rule = Method.named("momentum")
    together, _ = moving_targets.follow(rule, [0.1, 0.2], [5, 6], 30, 60)
    for i, (rate, seed) in enumerate([(0.1, 5), (0.2, 6)]):
        alone, _ = moving_targets.follow(rule, [rate], [seed], 30, 60)
        np.testing.assert_allclose(together[:, i], alone[:, 0], rtol=1e-10)


def test_both_ways_to_a_target_are_equally_long():
    plain, seeds = Method.named("gradient-descent"), list(range(8))
    distances, _ = moving_targets.follow(plain, [0.02] * 8, seeds, 300, 301)
    np.testing.assert_array_equal(distances[0], 1)
    assert (distances[299] < 0.1).all()
    np.testing.assert_allclose(distances[300], 1, rtol=0.35)  # what noise has left of the first


@pytest.mark.parametrize(
    ("module", "ours", "says"),
    [
        (adagrad_ends_early, "adagrad", "holds only if the target moves during training"),
        (adagrad_ends_early, "gradient-descent", "does not hold"),
        (adadelta_keeps_learning, "adadelta", "holds"),
        (adadelta_keeps_learning, "adagrad", "does not hold"),
    ],
)
def test_who_follows_a_target(module, ours, says):
    assert module.experiment(Budget(), ours=ours).says == says


@pytest.mark.parametrize(
    ("at_rest", "says"),
    [
        (10.0, "holds"),  # times the error of a rate that is kept
        (1.5, "holds only if the target moves during training"),
        (0.3, "holds only if the target moves during training"),
    ],
)
def test_a_rule_that_ends_early_is_behind_its_control(monkeypatch, at_rest, says):
    def pursue(method, budget):
        noise = np.exp(np.random.default_rng(len(method.name)).normal(0, 0.01, 20))
        kept = adagrad_ends_early.KEPT
        end = {"adagrad": at_rest, "gradient-descent": 0.01, kept: 1.0}[method.name]
        steps = [1.0] * moving_targets.PHASE
        return moving_targets.Pursuit(
            0.1, noise.tolist(), (end * noise).tolist(), [(10 * noise).tolist()] * 3,
            [[1.0]] * 3, steps, 5,
        )  # fmt: skip

    monkeypatch.setattr(moving_targets, "pursue", pursue)
    assert adagrad_ends_early.experiment(Budget()).says == says


def test_a_rate_is_kept_after_the_first_phase():
    phase = moving_targets.PHASE
    control = Method("kept", adagrad_ends_early.KeptAdagrad)
    rates, seeds, steps = [0.3] * 3, [0, 1, 2], phase + 50
    (ours, size), (kept, constant) = (
        moving_targets.follow(method, rates, seeds, steps, steps)
        for method in (Method.named("adagrad"), control)
    )
    np.testing.assert_array_equal(ours[: phase + 1], kept[: phase + 1])
    np.testing.assert_allclose(constant[phase:], constant[phase - 1 : -1], rtol=1e-6)
    assert (size[-1] < constant[-1]).all()


@pytest.mark.parametrize(
    ("methods", "verdict"),
    [
        (("gradient-descent", "adagrad"), Verdict.HOLDS),
        (("adagrad", "gradient-descent"), Verdict.DOES_NOT_HOLD),
    ],
)
def test_sparse_words(methods, verdict):
    assert adagrad_suits_sparse_data.experiment(Short(), methods).verdict is verdict


def test_a_rotation_changes_nothing_for_gradient_descent():
    plain, rotated = (adagrad_suits_sparse_data.problem(0, r) for r in (False, True))
    x, z = plain.train[0], rotated.train[0]
    torch.testing.assert_close(x @ x.T, z @ z.T, rtol=1e-4, atol=1e-4)
    assert (x == 0).double().mean() > 0.8
    assert (z == 0).double().mean() < 0.02  # documents without any word


# Texts


@pytest.mark.parametrize(
    ("plain", "adaptive", "says"),
    [
        (("gradient-descent",), ("adam", "adagrad"), "holds"),
        (("adam", "momentum"), ("gradient-descent", "adagrad"), "not decided"),
        (("adam",), ("gradient-descent", "momentum"), "does not hold"),
        (("momentum",), ("gradient-descent", "adam"), "holds only if the rule is one of: adam"),
    ],
)
def test_who_suits_texts(plain, adaptive, says):
    assert adaptive_rules_suit_texts.experiment(Short(), plain, adaptive).says == says


def test_texts_are_shares_of_words_and_no_test_document_is_read(monkeypatch):
    monkeypatch.setattr(Dataset, "read_test", None)
    monkeypatch.setattr(
        adaptive_rules_suit_texts, "splits", adaptive_rules_suit_texts.splits.__wrapped__
    )
    (x, y), (held, labels), (other, _) = adaptive_rules_suit_texts.splits()
    assert (len(x) + len(held), len(other)) == (1487, 212)
    assert set(y.tolist()) == set(labels.tolist()) == set(range(5))
    for part in (x, held, other):
        torch.testing.assert_close(part.sum(1), torch.ones(len(part)))
        assert (part > 0).double().mean() < 0.1
    # "the" has the first column, and about one word in eighteen is "the".
    assert x[:, 0].mean() == pytest.approx(0.07, abs=0.03)
    assert (x[:, 0] > 0).double().mean() > 0.99
    assert not (x[:, None] == held[:3]).all(2).any()


# Adam


@pytest.mark.parametrize(
    ("adam", "plain", "verdict"),
    [
        ("adam", "gradient-descent", Verdict.DOES_NOT_HOLD),
        ("gradient-descent", "adam", Verdict.HOLDS),
        ("adagrad", "adam", Verdict.NOT_DECIDED),
    ],
)
def test_planted_data(monkeypatch, adam, plain, verdict):
    module = adam_is_the_best_on_planted_data
    monkeypatch.setattr(module, "METHODS", (adam, plain))
    finding = module.experiment(Short(), adam=adam, plain=plain)
    assert finding.verdict is verdict
    errors = {row["method"]: row["error on new examples (%)"] for row in finding.numbers}
    for name, error in errors.items():
        # Adaptive rules call all new examples positive; gradient descent is always right.
        expected = 0 if name == "gradient-descent" else 100 * (1 - module.POSITIVE)
        assert error == pytest.approx(expected, abs=3)


def test_planted_data_are_those_of_the_paper():
    x, y = adam_is_the_best_on_planted_data.examples(50, 0, unique=True)
    assert (x[:, 0] == y).all()
    assert (x[:, 1:3] == 1).all()
    own = x[:, 3:]
    assert ((own > 0).sum(dim=0) <= 1).all()
    assert torch.equal(own.sum(dim=1), torch.where(y > 0, 1.0, 5.0))


@pytest.mark.parametrize(
    ("ours", "other", "verdict"),
    [
        ("adam", "gradient-descent", Verdict.HOLDS),
        ("gradient-descent", "adam", Verdict.DOES_NOT_HOLD),
    ],
)
def test_who_converges_faster(monkeypatch, ours, other, verdict):
    monkeypatch.setattr(adam_converges_faster, "PROBLEMS", ("words",))
    monkeypatch.setattr(adam_converges_faster, "BATCHES", (64,))
    assert adam_converges_faster.experiment(Short(), ours, (other,)).verdict is verdict


@pytest.mark.parametrize(
    ("rates", "says"),
    [
        ([[0.5, 0.5, 0.5]] * 12, "holds"),
        ([[0.5, 0.5, 0.5]] + [[0.5, -0.5, 0.5]] * 11, "holds only if the problem is planted 0 with "
         "batches of 8"),
        ([[0.5, 0.5, 0.5]] + [[0.5, 0.0, 0.5]] + [[0.5, -0.5, 0.5]] * 10, "holds only if the problem "
         "is planted 0 with batches of 8; it is not decided for planted 1 with batches of 8"),
        ([[0.5, -0.5, 0.5]] * 12, "does not hold"),
        ([[0.5, 0.0, 0.5]] * 12, "not decided"),
    ],
)  # fmt: skip
def test_planted_leads_of_adam(monkeypatch, rates, says):
    """A lead in each of twelve cases over each of three rivals, as many as a full run has."""
    module = adam_converges_faster

    def planted(*_, seeds, **__):
        found = []
        for i, means in enumerate(rates):
            noise = np.random.default_rng(i).uniform(-0.1, 0.1, (3, seeds))
            losses = {"adam": [1.0] * seeds}
            for name, mean, each in zip(module.OTHERS, means, noise, strict=True):
                losses[name] = (2 ** (mean + each)).tolist()
            entry = SimpleNamespace(runs=[run_of([2.0, 1.0])])
            found.append(
                SimpleNamespace(
                    problem=f"planted {i}",
                    batch_size=8,
                    runs=0,
                    entries=dict.fromkeys(losses, entry),
                    figures=losses.get,
                    rows=lambda: [{}],
                )
            )
        return found

    monkeypatch.setattr(module, "races", planted)
    budget = Budget(corpora=dict.fromkeys(module.CORPORA, ""))
    assert module.experiment(budget).says == says


def test_a_loss_that_float32_calls_0_gives_finite_leads():
    logs = adam_converges_faster.logarithm([0.0, 1.0, 2.0, math.nan, 1e9, math.inf])
    assert np.isfinite(logs).all()
    assert logs[0] < -15
    assert logs[1:3].tolist() == [0, 1]
    assert logs[3] == logs[4] == logs[5] == math.log2(10)


@pytest.mark.parametrize(
    ("adam", "other", "verdict", "effect"),
    [
        (0.0, 1e-3, Verdict.HOLDS, 1e4),  # losses of 0 are rounding errors
        (0.0, 0.0, Verdict.NOT_DECIDED, 1),
        (math.nan, 1e-3, Verdict.DOES_NOT_HOLD, 1e-4),
        (0.5, math.inf, Verdict.HOLDS, 20),
    ],
)
def test_losses_of_0_and_runs_that_diverged(monkeypatch, adam, other, verdict, effect):
    losses = {"adam": [adam] * 10, "rmsprop": [other] * 10}
    planted = SimpleNamespace(
        problem="planted",
        batch_size=8,
        runs=20,
        entries={name: SimpleNamespace(runs=[]) for name in losses},
        figures=losses.get,
        rows=lambda: [{"method": name} for name in losses],
    )
    monkeypatch.setattr(adam_converges_faster, "PROBLEMS", ("planted",))
    monkeypatch.setattr(adam_converges_faster, "BATCHES", (8,))
    monkeypatch.setattr(adam_converges_faster, "races", lambda *_, **__: [planted])
    finding = adam_converges_faster.experiment(Budget(), others=("rmsprop",))
    assert finding.verdict is verdict
    assert finding.effect == pytest.approx(effect)
    assert finding.interval == pytest.approx((effect, effect))


class PlantedRace:
    """Of Adam and RMSProp, with a given mean lead of Adam."""

    problem, batch_size, runs = "planted", 8, 0
    size = 40

    def __init__(self, lead, seed):
        self.lead = lead + np.random.default_rng(seed).normal(0, 0.01, self.size)
        names = "adam", "rmsprop", "rmsprop, β = 0.999"
        self.entries = {name: SimpleNamespace(rate=0.1) for name in names}

    def differences(self, ours, theirs):
        assert (ours, theirs) == ("adam", "rmsprop")
        return self.lead.tolist()

    def rows(self):
        return [{"method": name} for name in self.entries]


@pytest.mark.parametrize(
    ("leads", "verdict"),
    [
        ([0.0, 0.0, 0.1, 0.2], Verdict.HOLDS),
        ([0.0, 0.0, -0.1, -0.2], Verdict.DOES_NOT_HOLD),
        ([0.3, 0.2, 0.2, 0.1], Verdict.DOES_NOT_HOLD),  # ahead, but less so on sparse gradients
        ([0.1, 0.1, 0.1, 0.1], Verdict.DOES_NOT_HOLD),  # ahead, but no more so
        ([0.0, 0.0, 0.0, 0.0], Verdict.DOES_NOT_HOLD),  # no lead that matters
        ([0.0, 0.0, 0.0, 0.0045], Verdict.NOT_DECIDED),
    ],
)
def test_planted_leads_on_sparse_gradients(monkeypatch, leads, verdict):
    module = adam_beats_rmsprop_on_sparse_gradients
    batches = range(len(module.BATCHES))
    planted = [PlantedRace(lead, 10 * i + j) for i in batches for j, lead in enumerate(leads)]
    if verdict is Verdict.NOT_DECIDED:  # two kinds of seeds, far apart
        for race in planted:
            race.lead += 0.1 * (-1) ** np.arange(race.size) * (race is planted[3])
    monkeypatch.setattr(module, "races", lambda *_, **__: planted)
    monkeypatch.setattr(module, "by_frequency", lambda _: {"frequent": 1.0, "rare": 2.0})
    finding = module.experiment(Budget())
    assert finding.verdict is verdict
    grown = np.mean([leads[-1] - leads[0] for _ in batches])
    assert finding.effect == pytest.approx(grown, abs=0.01)


def test_shorter_documents_have_sparser_gradients():
    module = adam_beats_rmsprop_on_sparse_gradients
    made_up = [module.problem(module.MADE_UP, length) for length in module.LENGTHS]
    found = [module.density(of, 8) for of in made_up]
    assert found == sorted(found, reverse=True)
    assert found[0] > 10 * found[-1]


def test_documents_follow_zipfs_law():
    x, y = documents(20000, words=50, classes=8, length=6, seed=0)
    shares = torch.bincount(y, minlength=8).double() / len(y)
    law = 1 / torch.arange(1, 9).double()
    torch.testing.assert_close(shares, law / law.sum(), rtol=0.1, atol=0)
    torch.testing.assert_close(x.norm(dim=1), torch.ones(len(y)))


@pytest.mark.parametrize(
    ("alike", "verdict"),
    [(("adam", "adamw"), Verdict.HOLDS), (("adam", "gradient-descent"), Verdict.DOES_NOT_HOLD)],
)
def test_who_is_alike(monkeypatch, alike, verdict):
    module = adaptive_rules_are_alike  # without weight decay AdamW is Adam
    monkeypatch.setattr(module, "PROBLEMS", module.PROBLEMS[1:2])
    monkeypatch.setattr(module, "BATCHES", (32,))
    finding = module.experiment(Short(), alike)
    assert finding.verdict is verdict
    assert "points" not in finding.effect_name
    assert (finding.effect < 1) == (verdict is Verdict.HOLDS)


# Activations


@pytest.mark.parametrize(("ours", "says"), [("sigmoid", "holds only if"), ("relu", "does not")])
def test_saturation(ours, says):
    finding = sigmoid_saturates.experiment(Budget(), ours)
    assert finding.says.startswith(says)
    if ours == "sigmoid":
        passes = [r["gradient that passes"] for r in finding.numbers if r["activation"] == ours]
        assert passes == sorted(passes, reverse=True)
        assert passes[0] <= 0.25


@pytest.mark.parametrize(
    ("steps", "says"),
    [
        (lambda name, depth: 10 if name == "relu" else 50, "holds"),
        (lambda name, depth: 10 if name == "tanh" else 50, "does not hold"),
        (
            lambda name, depth: 10 if name == "relu" and depth == 2 else 50,
            "holds only if the network has 2 hidden layers and weights usual in 2010 or "
            "2 hidden layers and weights variance-preserving",
        ),
        (lambda name, depth: 10 if name == "relu" else 15, "does not hold"),  # not much faster
        (lambda name, depth: 10 if name == "relu" else math.inf, "holds"),
        (lambda name, depth: 300 if name == "relu" else math.inf, "not decided"),
        (lambda name, depth: math.inf, "not decided"),
        (lambda name, depth: math.inf if name == "relu" else 50, "does not hold"),
    ],
)
def test_planted_steps_of_activations(monkeypatch, steps, says):
    def planted(cell):
        depth, name, _, _ = cell
        noise = np.random.default_rng(len(name)).uniform(0.9, 1.1, 10)
        return {
            "rate": 1,
            "steps": (steps(name, depth) * noise).tolist(),
            "limit": 400,
            "trials": 1,
        }

    monkeypatch.setattr(relu_converges_faster, "_as_numbers", planted)
    assert relu_converges_faster.experiment(Budget()).says == says


def test_runs_that_miss_the_target_decide_nothing():
    missed = Reached(1.0, [math.inf] * 10, 400, 0)
    some = Reached(1.0, [390.0] * 6 + [math.inf] * 4, 400, 0)
    low, high = relu_converges_faster.ratios(some, missed)
    assert (low < -10).all()
    assert (high[:6] < 0).all()
    assert (high[6:] > 10).all()
    assert decide(high, margin=1) is Verdict.NOT_DECIDED
    assert decide(relu_converges_faster.ratios(missed, some)[0], margin=1) is not Verdict.HOLDS


@pytest.mark.parametrize("how", relu_converges_faster.INITIALIZATIONS)
@pytest.mark.parametrize("name", [*relu_converges_faster.ACTIVATIONS])
def test_scores_are_those_of_a_network_of_torch(how, name):
    generator = torch.Generator().manual_seed(0)
    parameters = relu_converges_faster.initial(generator, 3, name, how)
    kinds = {"relu": torch.nn.ReLU, "sigmoid": torch.nn.Sigmoid, "tanh": torch.nn.Tanh}
    layers = []
    for i in range(4):
        linear = torch.nn.Linear(*reversed(parameters[f"{i}.w"].shape))
        linear.weight.data, linear.bias.data = parameters[f"{i}.w"], parameters[f"{i}.b"]
        layers += [linear, kinds[name]()]
    x = torch.randn(5, 64, generator=generator)
    expected = torch.nn.Sequential(*layers[:-1])(x)
    torch.testing.assert_close(relu_converges_faster.scores(parameters, x, name), expected)


def test_a_variance_preserving_start_keeps_the_variance():
    x = torch.randn(500, 64, generator=torch.Generator().manual_seed(0))
    for how, keeps in zip(relu_converges_faster.INITIALIZATIONS, (False, True), strict=True):
        deep = relu_converges_faster.initial(torch.Generator().manual_seed(0), 10, "relu", how)
        ratio = relu_converges_faster.scores(deep, x, "relu").var(dim=0).mean() / x.var()
        assert (ratio > 0.1) == keeps


def test_units_die_at_large_rates_and_stay_dead():
    finding = relu_units_die.experiment(QUICK)
    dead = {
        (row["activation"], row["biases start at"], round(row["rate"], 3)): row
        for row in finding.numbers
    }
    share = "units without positive input (%)"
    assert dead["relu", 0.0, 31.623][share] > 80
    assert dead["relu", 0.0, 0.01][share] < 10
    assert dead["relu", -1.0, 0.01][share] > 25
    came_back = "came back (points)"
    assert all(row[came_back] == 0 for key, row in dead.items() if key[0] == "relu")
    assert max(row[came_back] for key, row in dead.items() if key[0] != "relu") > 1


@pytest.mark.parametrize(
    ("dead", "learns", "says"),
    [
        (
            [0.0] * 7 + [0.9],
            8,
            "holds only if biases start at 0 and the learning rate is 32, the largest at which "
            "the network still learns",
        ),
        ([0.0] * 7 + [0.9], 7, "does not hold"),
        ([0.5] * 8, 8, "holds"),
    ],
)
def test_planted_deaths(monkeypatch, dead, learns, says):
    def look(setting):
        name, bias, seeds, _ = setting
        n = len(seeds)
        mine = dead if (name, bias) == ("relu", 0.0) else [0.0] * 8
        loss = [0.2 + 0.01 * i if i < learns else 9.0 for i in range(8)]
        table = [[share * (1 + 0.01 * seed) for seed in range(n)] for share in mine]
        return {
            "dead": table,
            "start": [[0.0] * n] * 8,
            "most": table,
            "loss": [[x] * n for x in loss],
        }

    monkeypatch.setattr(relu_units_die, "look", look)
    assert relu_units_die.experiment(Budget()).says == says


def test_a_run_that_diverges_counts_as_one_in_which_no_unit_died(monkeypatch):
    def train(problem, method, pairs, steps, batch_size):
        return [
            Run(rate, seed, [0, steps], [2.0, 0.1 * rate], [0.25, 0.9], 0.9)
            if rate < 1 or seed
            else Run(rate, seed, [0], [2.0], [0.25, math.nan], diverged=True)
            for rate, seed in pairs
        ]

    monkeypatch.setattr(relu_units_die, "train", train)
    found = relu_units_die.look(("relu", 0.0, (0, 1), 10))
    assert found["dead"][-1] == [0.25, 0.9]
    assert found["most"][-1] == [0.25, 0.9]
    assert found["loss"][-1][0] == math.inf
    relu_units_die.experiment(Budget())


# Ensembles


def test_an_ensemble_of_models_that_learn_nothing_is_no_better(monkeypatch):
    first, second = digits()
    shuffled = torch.randperm(len(first.y), generator=torch.Generator().manual_seed(0))

    def unrelated(seed=0):
        return Split(first.x, first.y[shuffled]), second._replace(y=second.y.roll(1))

    monkeypatch.setattr(ensembles_beat_the_best_model, "digits", unrelated)
    finding = ensembles_beat_the_best_model.experiment(Short())
    assert finding.verdict is Verdict.NOT_DECIDED
    best = [row for row in finding.numbers if row["model"] == "best elsewhere"]
    assert best[0]["test accuracy (%)"] < 15


@pytest.mark.parametrize(
    ("best", "verdict"), [(70.0, Verdict.HOLDS), (90.0, Verdict.DOES_NOT_HOLD)]
)
def test_planted_accuracies_of_an_ensemble(monkeypatch, best, verdict):
    module = ensembles_beat_the_best_model

    def vote(setting):
        seed, _ = setting
        kinds = dict.fromkeys(module.KINDS, best)
        seeds = {f"seeds of {kind}": best for kind in kinds}
        return {**kinds, **seeds, "different": 80.0 + seed / 10}

    monkeypatch.setattr(module, "vote", vote)
    assert module.experiment(Budget()).verdict is verdict


def test_the_best_kind_of_a_part_is_chosen_on_the_others(monkeypatch):
    module = ensembles_beat_the_best_model
    steady, *lucky = module.KINDS

    def vote(setting):
        seed, _ = setting
        kinds = {kind: 95.0 if seed == i else 70.0 for i, kind in enumerate(lucky)} | {steady: 85.0}
        seeds = {f"seeds of {kind}": each + 1 for kind, each in kinds.items()}
        return {**kinds, **seeds, "different": 86.0 + seed / 10}

    monkeypatch.setattr(module, "vote", vote)
    found = module.experiment(Budget())
    rows = {row["model"]: row["test accuracy (%)"] for row in found.numbers}
    assert rows["best elsewhere"] == 85
    assert rows[f"{len(module.KINDS)} seeds of it"] == 86
    assert found.verdict is Verdict.HOLDS
