"""What mathematics demands of the verdicts, and that each experiment can say the contrary."""

import importlib
import math

import pytest
import torch
from matplotlib.figure import Figure

from dlnotes.activations import tanh
from dlnotes.claims import CLAIMS
from dlnotes.claims.claim import Budget, Verdict
from dlnotes.claims.networks import Descent, gradients, initial, outputs
from dlnotes.foundations.backpropagation import Network
from dlnotes.optim import Adam, GradientDescent, Momentum, Nesterov

HOLDS, DOES_NOT_HOLD = Verdict.HOLDS, Verdict.DOES_NOT_HOLD
ONLY_IF, NOT_DECIDED = Verdict.HOLDS_ONLY_IF, Verdict.NOT_DECIDED

#: Module → its verdict, and the bounds of its effect.
DEMANDED = {
    "perceptron_learns_and_or_not_xor": (HOLDS, 14, 14),
    "hidden_layer_learns_xor": (HOLDS, 1, 1),
    "one_hidden_layer_fits_any_function": (ONLY_IF, 625, 1024),  # √x: 1/(4√n) ≤ 0.01
    "depth_needs_fewer_units": (HOLDS, 10, 30),
    "small_rates_need_many_rounds": (HOLDS, -1.1, -0.9),
    "large_rates_step_over_the_minimum": (HOLDS, 2 - 1e-5, 2 + 1e-5),
    "networks_diverge_above_two_over_sharpness": (DOES_NOT_HOLD, 0.8, 1.3),
    "full_batch_direction_is_exact": (HOLDS, 0.5, 1),
    "batch_descent_finds_the_global_optimum": (ONLY_IF, 0, 1e-6),
    "sgd_is_not_linearly_convergent": (ONLY_IF, -1.5, -0.5),
    "larger_batch_oscillates_less": (ONLY_IF, 58, 70),
    "nesterov_corrects_momentum": (ONLY_IF, 1.4, math.sqrt(3)),
    "too_large_batch_needs_too_much_memory": (ONLY_IF, 20, 60),
    "adam_is_rmsprop_with_momentum": (HOLDS, 0, 1e-12),
    "no_activation_is_one_linear_map": (HOLDS, 0, 1e-12),
    "depth_makes_gradients_vanish_or_explode": (ONLY_IF, 0.1, 0.5),
    "adam_as_printed_is_adam": (DOES_NOT_HOLD, 0.1 - 1e-6, 0.1 + 1e-6),
    "beta2_is_usually_9999": (DOES_NOT_HOLD, 0, 0),
    "rmsprop_first_step_is_alpha": (DOES_NOT_HOLD, 31.6, 31.7),
    "momentum_is_torchs": (ONLY_IF, 10 - 1e-6, 10 + 1e-6),
    "epsilon_may_stand_under_the_root": (ONLY_IF, 1e-4, 1.02e-4),
    "a_constant_slope_means_linear": (ONLY_IF, 1, 1),
}


def claim_module(name):
    return importlib.import_module(f"dlnotes.claims.{name}")


def find(name):
    return claim_module(name).CLAIM.experiment(Budget(quick=True))


@pytest.mark.parametrize("name", DEMANDED)
def test_verdict_and_effect(name):
    verdict, low, high = DEMANDED[name]
    told = []
    finding = claim_module(name).CLAIM.experiment(Budget(quick=True, progress=told.append))
    assert finding.verdict is verdict, finding.numbers
    assert low <= finding.effect <= high
    assert finding.interval[0] <= finding.effect <= finding.interval[1]
    assert isinstance(finding.figure, Figure)
    assert finding.figure.axes
    assert all(row.keys() == finding.numbers[0].keys() for row in finding.numbers)
    assert all(type(v) in (str, int, float) for row in finding.numbers for v in row.values())
    assert told == sorted(told)
    assert all(0 <= share <= 1 for share in told)


@pytest.mark.parametrize(
    "name", [*DEMANDED, "trained_depth_beats_width", "clipping_cures_explosion"]
)
def test_is_in_the_list_under_its_name(name):
    claim = claim_module(name).CLAIM
    assert name in CLAIMS
    assert claim.name == name.replace("_", "-")
    assert claim.notes.startswith("§")
    assert "https://" in claim.literature


one_layer = claim_module("one_hidden_layer_fits_any_function")
adam = claim_module("adam_is_rmsprop_with_momentum")
FUNCTIONS = claim_module("perceptron_learns_and_or_not_xor").functions()
OSCILLATION = claim_module("larger_batch_oscillates_less").theory
THEORY = claim_module("full_batch_direction_is_exact").theory


def as_printed(*args):
    """Notes that print what the paper has."""
    return claim_module("adam_as_printed_is_adam").adam(*args)


#: Module → what to put in the place of its names, and the verdict that this must bring.
PLANTED = {
    "perceptron_learns_and_or_not_xor": [
        ({"functions": lambda: {**FUNCTIONS, "XOR": FUNCTIONS["OR"]}}, DOES_NOT_HOLD),
        ({"functions": lambda: {**FUNCTIONS, "AND": FUNCTIONS["XOR"]}}, DOES_NOT_HOLD),
    ],
    "hidden_layer_learns_xor": [({"WIDTHS": (1,)}, DOES_NOT_HOLD)],
    "one_hidden_layer_fits_any_function": [
        ({"FUNCTIONS": {**one_layer.FUNCTIONS, "jump": torch.sqrt}}, HOLDS),
        ({"relu": lambda z: z}, DOES_NOT_HOLD),
    ],
    "depth_needs_fewer_units": [
        ({"tent": lambda x, folds: x}, DOES_NOT_HOLD),
        ({"square": lambda x, layers: x}, DOES_NOT_HOLD),
    ],
    "small_rates_need_many_rounds": [
        ({"BAND": (-0.6, -0.4)}, DOES_NOT_HOLD),
        ({"rounds_on_a_parabola": lambda rate: 100}, DOES_NOT_HOLD),
    ],
    "large_rates_step_over_the_minimum": [({"LIMIT": 1.9999}, DOES_NOT_HOLD)],
    # On a quadratic a rate above the limit does diverge; below it none is above.
    "networks_diverge_above_two_over_sharpness": [
        ({"SIZES": (1, 1), "RATES": (2.1, 3.0, 4.0)}, HOLDS),
        ({"SIZES": (1, 1), "RATES": (0.1, 1.0, 1.9)}, NOT_DECIDED),
    ],
    "full_batch_direction_is_exact": [
        ({"theory": lambda g, batch: 2 * THEORY(g, batch)}, DOES_NOT_HOLD),
        ({"operations": lambda n: 80_000}, DOES_NOT_HOLD),
    ],
    "batch_descent_finds_the_global_optimum": [
        ({"TOO_LARGE": 0.5}, HOLDS),
        ({"STEPS": 20}, DOES_NOT_HOLD),
    ],
    "sgd_is_not_linearly_convergent": [({"NOISE": 0.0}, DOES_NOT_HOLD)],
    "larger_batch_oscillates_less": [
        ({"theory": lambda batch, rate: 2 * OSCILLATION(batch, rate)}, DOES_NOT_HOLD),
        ({"BATCHES": (1, 1, 1)}, DOES_NOT_HOLD),
        ({"oscillation": lambda *a: torch.full((3,), OSCILLATION(a[0], 0.02))}, HOLDS),
    ],
    "nesterov_corrects_momentum": [
        ({"RULES": {"momentum": Nesterov, "nesterov": Momentum}}, NOT_DECIDED),
        ({"better": lambda *_: HOLDS}, HOLDS),
        ({"better": lambda *_: DOES_NOT_HOLD}, DOES_NOT_HOLD),
        ({"theory": lambda rule, condition: 1 - 1 / condition}, NOT_DECIDED),
    ],
    "too_large_batch_needs_too_much_memory": [
        ({"PART": 1000, "BATCHES": (8, 256)}, HOLDS),
        ({"SAME": 0.0, "BATCHES": (8, 256)}, HOLDS),
        ({"WORDS": 200_000}, DOES_NOT_HOLD),
        ({"backward": lambda *_: (100, [torch.ones(1)])}, DOES_NOT_HOLD),
        ({"backward": lambda _, x, *__: (len(x) ** 2, [torch.ones(1)])}, DOES_NOT_HOLD),
    ],
    "adam_is_rmsprop_with_momentum": [
        ({"BETA2": 0.99}, HOLDS),
        ({"VARIANTS": {"all": adam.composed(correction=False)}}, DOES_NOT_HOLD),
        ({"VARIANTS": {"all": adam.composed(), "ablation": adam.composed()}}, DOES_NOT_HOLD),
    ],
    "no_activation_is_one_linear_map": [
        ({"ACTIVATIONS": {"none": tanh, "tanh": tanh}}, DOES_NOT_HOLD),
    ],
    "depth_makes_gradients_vanish_or_explode": [
        ({"NETWORKS": {("tanh", "glorot"): "vanishes"}}, DOES_NOT_HOLD),
        ({"NETWORKS": {("tanh", "unit"): "explodes"}, "SCALES": {0.8: "vanishes"}}, HOLDS),
    ],
    "adam_as_printed_is_adam": [({"as_printed": as_printed}, HOLDS)],
    "beta2_is_usually_9999": [({"PRINTED": 0.999}, HOLDS)],
    "rmsprop_first_step_is_alpha": [({"BETAS": (0.5, 0.9), "NOTES": 0.5}, HOLDS)],
    "momentum_is_torchs": [({"BETA": 0.0}, HOLDS)],
    "epsilon_may_stand_under_the_root": [
        ({"SCALES": (0.01, 0.1, 1.0)}, HOLDS),
        ({"EPS": 1e-2}, DOES_NOT_HOLD),
    ],
    "a_constant_slope_means_linear": [
        ({"FUNCTIONS": {"2x": lambda x: 2 * x, "x²": lambda x: x**2}}, HOLDS),
    ],
}


@pytest.mark.parametrize("name", DEMANDED)
def test_the_contrary_changes_the_verdict(name, monkeypatch):
    module = claim_module(name)
    for names, verdict in PLANTED[name]:
        with monkeypatch.context() as patch:
            for each, value in names.items():
                patch.setattr(module, each, value)
            assert find(name).verdict is verdict, names


@pytest.mark.parametrize(
    ("sawtooth", "sine", "verdict"),
    [
        (0.1, 0.1, HOLDS),
        (0.1, 10.0, ONLY_IF),
        (0.1, 1.0, ONLY_IF),
        (10.0, 0.1, DOES_NOT_HOLD),
        (1.0, 0.1, NOT_DECIDED),
    ],
)
def test_trained_depth_is_judged_on_paired_errors(sawtooth, sine, verdict, monkeypatch):
    module = claim_module("trained_depth_beats_width")
    noise = torch.randn(10, generator=torch.Generator().manual_seed(0)).double().mul(0.1).exp()
    noise = noise / noise.log().mean().exp()
    factors = {"sawtooth": sawtooth, "sine": sine}

    def learned(item):
        network, target, seeds, _ = item
        worse = torch.ones(len(seeds)).double() * torch.tensor([[2.0], [1.0], [math.inf]])
        if network == "deep":
            worse[:, -10:] *= noise * factors[target]
        return worse.tolist()

    monkeypatch.setattr(module, "learned", learned)
    finding = module.CLAIM.experiment(Budget(quick=True))
    assert finding.verdict is verdict
    assert finding.effect == pytest.approx(-math.log10(sawtooth), abs=0.01)


def test_clipping_that_does_nothing_cures_nothing(monkeypatch):
    module = claim_module("clipping_cures_explosion")
    assert find("clipping_cures_explosion").verdict is HOLDS
    monkeypatch.setattr(module, "clipped", lambda g, cure: g)
    assert find("clipping_cures_explosion").verdict is DOES_NOT_HOLD


def test_clipping_of_each_run_is_that_of_one():
    clipped = claim_module("clipping_cures_explosion").clipped
    g = [torch.randn(3, 4, 5).double() * 100, torch.randn(3, 1, 5).double() * 1e-3]
    for cure, clip in (
        ("clipped by norm", lambda p: torch.nn.utils.clip_grad_norm_(p, 1.0)),
        ("clipped by value", lambda p: torch.nn.utils.clip_grad_value_(p, 0.01)),
    ):
        ours = clipped(g, cure)
        for run in range(3):
            theirs = [torch.nn.Parameter(torch.zeros_like(each[run])) for each in g]
            for p, each in zip(theirs, g, strict=True):
                p.grad = each[run].clone()
            clip(theirs)
            for p, each in zip(theirs, ours, strict=True):
                torch.testing.assert_close(each[run], p.grad, rtol=1e-12, atol=0)
    assert (
        clipped([torch.full((1, 1, 2), 1e200, dtype=torch.float64)], "clipped by norm")[0]
        .isfinite()
        .all()
    )


@pytest.mark.parametrize("rule", [GradientDescent, Momentum, Adam])
def test_stacked_runs_are_the_runs_one_by_one(rule):
    sizes, seeds, rates = [3, 5, 4, 2], [7, 8, 7], torch.tensor([0.1, 0.1, 0.01]).double()
    x, y = torch.randn(6, 3).double(), torch.eye(2).double()[torch.arange(6) % 2]
    hyper = {n: rule([torch.zeros(1)]).defaults[n] for n in rule.kernel_names() if n != "lr"}
    begin = theta = initial(sizes, seeds, "glorot")
    descent = Descent(rule, rates, **hyper)
    for _ in range(5):
        losses, g = gradients(
            lambda p: -(y * outputs(p, x, tanh).log_softmax(-1)).sum((1, 2)) / len(y), theta
        )
        theta = descent.step(theta, g)
    assert torch.equal(begin[0][0], begin[0][2])
    assert not torch.equal(begin[0][0], begin[0][1])
    for run, lr in enumerate(rates.tolist()):
        network = Network(sizes, tanh, dtype=torch.float64)
        network.weights = [p[run].T.clone() for p in begin[::2]]
        network.biases = [p[run, 0].clone() for p in begin[1::2]]
        optimizer = rule(network.parameters(), lr=lr, **hyper)
        for _ in range(5):
            values = network.forward(x)
            network.backward(values, y)
            optimizer.step()
        assert losses[run].item() == pytest.approx(network.loss(values.a[-1], y).item(), rel=1e-12)
        for stacked, own in zip(theta[::2], network.weights, strict=True):
            torch.testing.assert_close(stacked[run].T, own, rtol=1e-9, atol=1e-13)
        for stacked, own in zip(theta[1::2], network.biases, strict=True):
            torch.testing.assert_close(stacked[run, 0], own, rtol=1e-9, atol=1e-13)
