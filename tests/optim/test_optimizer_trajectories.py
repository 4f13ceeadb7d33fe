"""Closed-loop trajectories against torch.optim, through the exact mappings, and the errata."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from dlnotes.optim import (
    OPTIMIZERS,
    Adadelta,
    Adagrad,
    Adam,
    GradientDescent,
    Momentum,
    Nesterov,
    RAdam,
    RMSProp,
    _kernel,
)
from dlnotes.oracles import Comparison
from dlnotes.oracles.optimizers import ORACLES, case, loss, start, trajectory

RTOL = 1e-10  # atol is 0: a looser one lets a wrong place of ε through

grid = [
    pytest.param(name, hyper, id=f"{name}-{i}")
    for name, oracle in ORACLES.items()
    for i, hyper in enumerate(oracle.grid)
]


def close(ours: Tensor, theirs: Tensor, rtol: float = RTOL) -> None:
    assert (ours[-1] - ours[0]).abs().min() > 0, "a parameter did not move"
    torch.testing.assert_close(ours, theirs, rtol=rtol, atol=0)


def test_every_rule_has_an_oracle():
    assert list(ORACLES) == list(OPTIMIZERS)
    assert all(ORACLES[name].rule is rule for name, rule in OPTIMIZERS.items())


@pytest.mark.parametrize("fused", [None, False], ids=["kernel", "operations"])
@pytest.mark.parametrize("weight_decay", [0.0, 0.05])
@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize(("name", "hyper"), grid)
def test_equals_torch_in_float64(name, hyper, maximize, weight_decay, fused):
    oracle = ORACLES[name]
    if maximize and not oracle.climbs:
        pytest.skip("torch's has no maximize in this version")
    hyper = {**hyper, "weight_decay": weight_decay} | ({"maximize": True} if maximize else {})
    ours = trajectory(lambda p: oracle.rule(p, **hyper, fused=fused), maximize=maximize)
    close(ours, trajectory(lambda p: oracle.torch(p, **oracle.mapped(**hyper)), maximize=maximize))


@pytest.mark.parametrize("name", ORACLES)
def test_the_comparison_would_notice(name):
    """A rate wrong by one part in a million is far outside of the tolerance."""
    oracle = ORACLES[name]
    hyper = oracle.grid[0]

    def off(lr, **same):
        return oracle.mapped(lr=lr * (1 + 1e-6), **same)

    wrong, right = case(oracle._replace(mapped=off), hyper), case(oracle, hyper)
    assert 1e-4 > Comparison("", "", "", [wrong], RTOL, "each").row().difference > 100 * RTOL
    assert Comparison("", "", "", [right], RTOL, "each").row().ok


@pytest.mark.parametrize("fused", [None, False], ids=["kernel", "operations"])
@pytest.mark.parametrize("name", ORACLES)
def test_equals_torch_in_float32(name, fused):
    """The order of operations differs from torch's: rounding only, 200 steps, same gradients."""
    oracle = ORACLES[name]
    generator = torch.Generator().manual_seed(1)
    grads = torch.randn(200, 23, generator=generator)
    ours, theirs = start(dtype=torch.float32), start(dtype=torch.float32)
    a = oracle.rule([ours], **oracle.grid[0], fused=fused)
    b = oracle.torch([theirs], **oracle.mapped(**oracle.grid[0]))
    for g in grads:
        ours.grad, theirs.grad = g.clone(), g.clone()
        a.step()
        b.step()
    moved = (theirs - start(dtype=torch.float32)).abs().max()
    assert moved > 1e-3
    torch.testing.assert_close(ours, theirs, rtol=2e-5, atol=2e-6 * moved.item())


@pytest.mark.parametrize("fused", [None, False], ids=["kernel", "operations"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", ORACLES)
def test_low_precision_is_rounded_once(name, dtype, fused):
    """One step from stored values is the float64 step, rounded: half an ulp, and float32's error.

    The accumulators of float16 need a gradient that is not tiny: 0.001 g² has to be a float16.
    """
    oracle = ORACLES[name]
    generator = torch.Generator().manual_seed(2)
    w = torch.nn.Parameter((torch.randn(1000, generator=generator) + 3).to(dtype))
    optimizer = oracle.rule([w], **oracle.grid[0], fused=fused)
    for _ in range(5):
        before = w.detach().double()
        state = {k: v.double() for k, v in optimizer.state[w].items()}
        w.grad = (torch.randn(1000, generator=generator) * 4).to(dtype)
        optimizer.step()
        group = optimizer.param_groups[0]
        hyper = {k: group[k] for k in (*type(optimizer).kernel_names(), "maximize")}
        if "step" in optimizer.state[w]:
            hyper["t"] = optimizer.state[w]["step"].item()
        zeros = torch.zeros(1000, dtype=torch.float64)
        accumulators = [state.get(k, zeros) for k in type(optimizer).accumulators]
        truth = type(optimizer).update(before, w.grad.double(), *accumulators, **hyper)
        found = [w, *(optimizer.state[w][k] for k in type(optimizer).accumulators)]
        for x, expected in zip(found, truth, strict=True):
            half_ulp = torch.finfo(dtype).eps / 2
            tiny = torch.finfo(dtype).smallest_normal * half_ulp
            assert ((x.double() - expected).abs() <= 1.01 * half_ulp * expected.abs() + tiny).all()


# --- the kernel's arithmetic --------------------------------------------------------------------


class Array(np.ndarray):
    """NumPy's array with the methods that the rules call; NumPy rounds every √ correctly."""

    def sqrt(self):
        return np.sqrt(self)

    def abs(self):
        return np.abs(self)

    def sign(self):
        return np.sign(self)

    def maximum(self, other):
        return np.maximum(self, other)

    def clamp(self, max):
        return np.minimum(self, max)

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        return {torch.where: np.where}[function](*args).view(cls)


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_kernel_is_ieee_arithmetic_bit_for_bit(name, dtype, maximize, decay):
    """40 steps of the kernel are 40 steps of the pure rule on NumPy arrays, to the last bit."""
    rule, generator = OPTIMIZERS[name], torch.Generator().manual_seed(3)
    w = torch.nn.Parameter(torch.randn(70_001, dtype=dtype, generator=generator))
    optimizer = rule([w], lr=0.01, weight_decay=decay, maximize=maximize)
    hyper = {k: optimizer.param_groups[0][k] for k in rule.kernel_names()}
    kernel = _kernel.build(rule, dtype, maximize, hyper)
    if isinstance(kernel, Exception):
        pytest.skip(f"no kernel on this machine: {kernel}")
    theta, *accumulators = (
        x.numpy().copy().view(Array)
        for x in (w.detach(), *(torch.zeros_like(w) for _ in rule.accumulators))
    )
    for t in range(1, 41):
        w.grad = torch.randn(70_001, dtype=dtype, generator=generator)
        optimizer.step()
        step = {"t": float(t)} if "t" in rule.hyper_names() else {}
        g = w.grad.numpy().view(Array)
        theta, *accumulators = rule.update(
            theta, g, *accumulators, maximize=maximize, **hyper, **step
        )
    assert np.array_equal(w.detach().numpy(), theta)
    for key, value in zip(rule.accumulators, accumulators, strict=True):
        assert np.array_equal(optimizer.state[w][key].numpy(), value)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_paths_agree(name):
    """Kernel and tensor operations: the same bits without a root, else up to torch's √."""

    def run(fused):
        generator = torch.Generator().manual_seed(4)
        shapes = [(), (0,), (1,), (7, 3), (64,), (300, 300), (17, 5, 3)]
        params = [torch.nn.Parameter(torch.randn(s, generator=generator)) for s in shapes]
        optimizer = OPTIMIZERS[name](params, lr=0.01, weight_decay=0.01, fused=fused)
        for _ in range(20):
            for p in params:
                p.grad = torch.randn(p.shape, generator=generator)
            optimizer.step()
        return params, optimizer.state_dict()

    (ours, state), (plain, plain_state) = run(None), run(False)
    if "sqrt" in OPTIMIZERS[name].rule.__code__.co_names:
        assert name not in ("gradient-descent", "momentum", "nesterov", "adamax", "lion")
        for a, b in zip(ours, plain, strict=True):
            torch.testing.assert_close(a, b, rtol=2e-6, atol=2e-7)
    else:
        for a, b in zip(ours, plain, strict=True):
            assert torch.equal(a, b)
    assert state["state"].keys() == plain_state["state"].keys()
    for key in state["state"]:
        assert state["state"][key].keys() == plain_state["state"][key].keys()
        for k, x in state["state"][key].items():
            y = plain_state["state"][key][k]
            assert x.dtype == y.dtype
            assert x.shape == y.shape


# --- one rule is another one ---------------------------------------------------------------------


def test_momentum_with_beta_0_is_gradient_descent():
    close(
        trajectory(lambda p: Momentum(p, lr=0.003, beta=0.0)),
        trajectory(lambda p: GradientDescent(p, lr=0.003)),
    )


def test_nesterov_with_beta_0_is_gradient_descent():
    close(
        trajectory(lambda p: Nesterov(p, lr=0.003, beta=0.0)),
        trajectory(lambda p: GradientDescent(p, lr=0.003)),
    )


def test_adam_with_beta1_0_is_rmsprop_with_bias_correction():
    """Adam(β₁ = 0) = RMSProp with α√c₂ and ε√c₂, c₂ = 1 − β₂ᵗ."""

    class Corrected(RMSProp):
        def step(self, closure=None):
            self.t = getattr(self, "t", 0) + 1
            root = math.sqrt(1 - 0.99**self.t)
            self.param_groups[0].update(lr=0.003 * root, eps=1e-4 * root)
            return super().step(closure)

    close(
        trajectory(lambda p: Adam(p, lr=0.003, betas=(0.0, 0.99), eps=1e-4)),
        trajectory(lambda p: Corrected(p, lr=0.003, beta=0.99, eps=1e-4)),
    )


def test_adadelta_with_a_frozen_numerator_is_rmsprop_with_eps_under_the_root():
    """D = 0 for good leaves Δ = √ε g/√(G + ε): RMSProp, ε under the root, at the rate α√ε."""
    eps, lr = 1e-3, 0.01

    class Frozen(Adadelta):
        def step(self, closure=None):
            out = super().step(closure)
            for state in self.state.values():
                state["D"].zero_()
            return out

    class Inside(RMSProp):
        @staticmethod
        def rule(theta, g, S, *, lr, beta, eps):
            S = beta * S + (1 - beta) * g**2
            return theta - lr * g / (S + eps).sqrt(), S

    close(
        trajectory(lambda p: Frozen(p, lr=lr / math.sqrt(eps), rho=0.9, eps=eps)),
        trajectory(lambda p: Inside(p, lr=lr, beta=0.9, eps=eps)),
    )


def test_momentum_is_also_sgd_with_dampening_from_a_zero_buffer():
    """torch skips dampening at its first step unless the buffer is there."""

    def seeded(params):
        optimizer = torch.optim.SGD(params, lr=0.01, momentum=0.9, dampening=0.9)
        for p in params:
            optimizer.state[p]["momentum_buffer"] = torch.zeros_like(p)
        return optimizer

    ours = trajectory(lambda p: Momentum(p, lr=0.01, beta=0.9))
    close(ours, trajectory(seeded))
    unseeded = trajectory(lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, dampening=0.9))
    assert (ours - unseeded).abs().max() > 0.01


def test_nesterov_parameters_are_the_look_ahead_point():
    """The notes' form: V ← βV + (1−β)∇J(φ − αβV), φ ← φ − αV; ours is at θ = φ − αβV."""
    lr, beta = 0.01, 0.9
    phi = start().detach()
    V = torch.zeros_like(phi)
    path = []
    for step in range(300):
        point = (phi - lr * beta * V).requires_grad_()
        (g,) = torch.autograd.grad(loss(point, step), point)
        V = beta * V + (1 - beta) * g
        phi = phi - lr * V
        path.append(phi - lr * beta * V)
    ours = trajectory(lambda p: Nesterov(p, lr=lr, beta=beta))
    close(ours, torch.stack(path))


# --- errata of the notes (§9): how far apart the two readings are --------------------------------


def test_erratum_adam_as_printed_is_not_adam():
    """Uncorrected V over √Ŝ, no ε: the first step is (1−β₁) = 1/10 of Algorithm 1's."""

    class Printed(Adam):
        @staticmethod
        def rule(theta, g, m, v, *, t, lr, betas, eps):
            beta1, beta2 = betas
            m = beta1 * m + (1 - beta1) * g
            v = beta2 * v + (1 - beta2) * g**2
            return theta - lr * m / (v / (1 - beta2**t)).sqrt(), m, v

    ours = trajectory(lambda p: Adam(p, lr=0.01))
    printed = trajectory(lambda p: Printed(p, lr=0.01))
    first = (printed[0] - start()) / (ours[0] - start())
    torch.testing.assert_close(first, torch.full_like(first, 0.1), rtol=1e-5, atol=0)
    assert (ours - printed).abs().max() > 0.05


def test_erratum_beta2_of_adam():
    """The notes' 0.9999 remembers a gradient ten times longer than the paper's 0.999."""
    half_life = {}
    for beta2 in (0.999, 0.9999):
        w = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
        optimizer = Adam([w], betas=(0.9, beta2))
        for t in range(8000):
            w.grad = torch.full_like(w, float(t == 0))
            optimizer.step()
            if optimizer.state[w]["v"] <= (1 - beta2) / 2:
                half_life[beta2] = t
                break
    assert half_life == {0.999: 693, 0.9999: 6932}


def test_erratum_first_step_of_rmsprop():
    """β = 0.999 without bias correction: the first step is 31.6 α."""
    for beta, factor in ((0.999, 31.62), (0.9, 3.162)):
        w = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
        w.grad = torch.tensor([0.37], dtype=torch.float64)
        RMSProp([w], lr=0.01, beta=beta).step()
        assert -w.item() / 0.01 == pytest.approx(factor, rel=1e-3)


def test_erratum_momentum_with_copied_arguments():
    ours = trajectory(lambda p: Momentum(p, lr=0.01, beta=0.9))
    naive = trajectory(lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9))
    assert (ours - naive).abs().max() > 0.1


def test_erratum_place_of_eps():
    """√(G + 1e-8) has the floor 1e-4; √G + 1e-8 does not: a gradient of 1e-6 moves 100 α less."""

    class Outside(Adagrad):
        @staticmethod
        def rule(theta, g, G, *, lr, eps):
            G = G + g**2
            return theta - lr * g / (G.sqrt() + eps), G

    moved = []
    for rule in (Adagrad, Outside):
        w = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
        w.grad = torch.tensor([1e-6], dtype=torch.float64)
        rule([w], lr=1.0, eps=1e-8).step()
        moved.append(-w.item())
    assert moved[0] == pytest.approx(0.01, rel=1e-4)
    assert moved[1] == pytest.approx(1.0, rel=0.011)


def test_erratum_batch_gradient_descent_needs_a_suitable_rate():
    """½ θᵀ diag(1, 10) θ is convex: α below 2/10 converges, above it diverges."""
    curvature = torch.tensor([1.0, 10.0], dtype=torch.float64)
    ends = {}
    for lr in (0.19, 0.21):
        w = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))
        optimizer = GradientDescent([w], lr=lr)
        for _ in range(300):
            w.grad = curvature * w.detach()
            optimizer.step()
        ends[lr] = w.detach().abs().max().item()
    assert ends[0.19] < 1e-10
    assert ends[0.21] > 1e10


@pytest.mark.parametrize("fused", [None, False])
@pytest.mark.parametrize(("dtype", "large"), [(torch.float16, 9e3), (torch.float32, 1e21)])
def test_radam_is_torchs_where_v_overflows(dtype, large, fused):
    ours, theirs = (torch.nn.Parameter(torch.ones(2, dtype=dtype)) for _ in range(2))
    optimizers = RAdam([ours], fused=fused), torch.optim.RAdam([theirs])
    for step in range(8):
        for p, optimizer in zip((ours, theirs), optimizers, strict=True):
            p.grad = torch.tensor([large if step < 2 else 1.0, 1.0], dtype=dtype)
            optimizer.step()
        assert torch.isfinite(ours).all()
        torch.testing.assert_close(
            ours, theirs, rtol=1e-2 if dtype is torch.float16 else 1e-6, atol=0
        )
