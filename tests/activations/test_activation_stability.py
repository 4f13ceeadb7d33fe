"""Slopes far out, where the textbook forms underflow to 0."""

import runpy

import pytest
import torch
import torch.nn.functional as F

from compiling import compiles
from dlnotes import activations as act
from dlnotes.activations import _elementwise, elu, relu, sigmoid, softplus, stability, tanh
from dlnotes.activations.selu import ALPHA, SCALE
from dlnotes.activations.stability import FAR, slopes, table, ulps

each = pytest.mark.parametrize("far", FAR, ids=lambda far: far.name)


@each
def test_right_to_two_ulp_in_float32_where_torch_says_zero(far):
    ours, torchs, truth = slopes(far, torch.linspace(far.start, far.end, 10_001))
    assert truth.float().min() > 0
    assert ulps(ours, truth).max() <= 2
    assert (torchs == 0).all()


@each
def test_right_in_float64(far):
    ours, _, truth = slopes(far, torch.linspace(far.start, far.end, 1001, dtype=torch.float64))
    torch.testing.assert_close(ours, truth, rtol=1e-14, atol=0)


def test_no_overflow_at_the_largest_numbers():
    huge = torch.tensor([-3e38, -1e4, 1e4, 3e38], requires_grad=True)
    more = (act.selu, act.mish, act.softsign, act.logsigmoid, act.hardswish, act.tanhshrink)
    for f in (sigmoid, tanh, elu, relu, *more):
        y = f(huge)
        (dx,) = torch.autograd.grad(y.sum(), huge)
        assert y.isfinite().all()
        assert dx.isfinite().all()


@pytest.mark.parametrize(
    "name",
    [
        *("selu", "celu", "mish", "logsigmoid", "tanhshrink", "softsign", "hardswish"),
        *("hardtanh", "silu", "softplus"),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_no_derivative_overflows_or_is_lost_far_out(name, dtype):
    """Value, slope and second derivative, also where eˣ or e⁻ˣ is infinite."""
    sizes = torch.tensor([30.0, 80, 90, 104, 700, 800, 1e4, 1e30, 1e37], dtype=dtype)
    x = torch.cat([-sizes, sizes]).requires_grad_()
    found, wanted = [], []
    for f, results, at in (
        (getattr(act, name), found, x),
        (getattr(F, name), wanted, x.detach().double().requires_grad_()),
    ):
        y = f(at)
        (dx,) = torch.autograd.grad(y.sum(), at, create_graph=True)
        ddx = torch.autograd.grad(dx.sum(), at)[0] if dx.requires_grad else torch.zeros_like(at)
        results += [y.detach(), dx.detach(), ddx]
    for mine, theirs in zip(found[:2], wanted[:2], strict=True):
        assert mine.isfinite().all()
        torch.testing.assert_close(mine, theirs.to(dtype), rtol=1e-6, atol=1e-37)
    torch.testing.assert_close(found[2], wanted[2].nan_to_num(0).to(dtype), rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "truth"),
    [
        ("mish", lambda x: x * torch.tanh(torch.log1p(torch.exp(x)))),
        ("logsigmoid", lambda x: -log1p_of_exp(-x)),
        # Not torch's own: up to 2.3 at least, those are a difference, eˣ − 1.
        ("selu", lambda x: SCALE * torch.where(x > 0, x, ALPHA * torch.expm1(x))),
        ("celu", lambda x: torch.where(x > 0, x, torch.expm1(x))),
    ],
)
def test_values_keep_their_digits_in_float32(name, truth):
    x = torch.cat([torch.linspace(-80, 80, 20_001), torch.logspace(-30, 0, 1001)])
    x = torch.cat([x, -x])
    y, exact = getattr(act, name)(x), truth(x.double())
    torch.testing.assert_close(y.double(), exact, rtol=6e-7, atol=0)


def test_second_derivatives_at_zero():
    """Where |x| has none."""
    x = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    for name in ("mish", "logsigmoid", "tanhshrink", "softsign", "silu", "softplus"):
        seconds = []
        for f in (getattr(act, name), getattr(F, name)):
            (dx,) = torch.autograd.grad(f(x).sum(), x, create_graph=True)
            seconds.append(torch.autograd.grad(dx.sum(), x)[0])
        torch.testing.assert_close(*seconds, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(
    ("name", "second"), [("logsigmoid", -0.25), ("softplus", 0.25), ("silu", 0.5), ("mish", 0.64)]
)
def test_second_derivatives_in_forward_mode(name, second):
    """At 0, and where e⁻ˣ is infinite in float32: autograd sees the operations of the value."""
    h = torch.func.jacfwd(torch.func.jacfwd(getattr(act, name)))
    for zero in (0.0, -0.0):
        assert h(torch.tensor(zero, dtype=torch.float64)).item() == pytest.approx(second, rel=1e-12)
    for far in (-1e4, -100.0, 100.0, 1e4):
        assert abs(h(torch.tensor(far)).item()) < 1e-37


def log1p_of_exp(x):
    """Softplus; F.softplus itself is x from 20 on."""
    return x.clamp(min=0) + torch.log1p(torch.exp(-x.abs()))


def test_the_series_of_log1p_is_that_of_artanh(monkeypatch):
    """In float64, which shows digits of the coefficients that float32 does not."""
    monkeypatch.setattr(_elementwise, "_compiles_in_float32_on_a_cpu", lambda x: x.is_cpu)
    s = torch.linspace(0, 1 / 3, 101, dtype=torch.float64)
    series = sum(2 * s**k / k for k in range(1, 14, 2))
    torch.testing.assert_close(_elementwise.log1p(2 * s / (1 - s)), series, rtol=1e-14, atol=0)


def test_series_are_for_float32_on_a_cpu(monkeypatch):
    asked, x = _elementwise._compiles_in_float32_on_a_cpu, torch.zeros(1)
    assert not asked(x)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert [asked(each) for each in (x, x.double(), x.to("meta"))] == [True, False, False]


@pytest.mark.parametrize("name", ["expm1", "log1p"])
def test_series_for_the_compiler_keep_the_digits_in_eager_torch_too(name, monkeypatch):
    """What torch.compile traces instead of torch's function, which takes seconds to compile."""
    monkeypatch.setattr(_elementwise, "_compiles_in_float32_on_a_cpu", lambda x: x.is_cpu)
    sizes = torch.logspace(-30, 2, 10_001)
    x = torch.cat([-sizes, torch.tensor([-29.9, -30.1, -104.0, -3e38, float("-inf")])])
    if name == "log1p":
        x = torch.cat([sizes[sizes < 1], torch.linspace(0.1, 1, 10_001)])
    y, truth = getattr(_elementwise, name)(x), getattr(torch, name)(x.double())
    assert ulps(y.abs(), truth.abs()).max() <= 2
    assert torch.equal(y.signbit(), truth.signbit())
    assert getattr(_elementwise, name)(torch.zeros(1)).item() == 0


backends = pytest.mark.parametrize(
    "backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)]
)


@compiles
@backends
@pytest.mark.parametrize(
    ("ours", "torchs"), [(tanh, torch.tanh), (elu, F.elu), (softplus, log1p_of_exp)]
)
def test_torch_compile_keeps_the_digits_of_small_values(ours, torchs, backend):
    """Inductor's own expm1 is eˣ − 1: torch's ELU at −1e-7 is off by a fifth, then."""
    torch._dynamo.reset()
    far = torch.tensor([-31.0, -104.0, -3e38, float("-inf")])
    below = torch.cat([-torch.logspace(-30, 2, 10_001), far])
    x = torch.cat([below, -below])
    y, truth = torch.compile(ours, fullgraph=True, backend=backend)(x), torchs(x.double())
    assert ulps(y.abs(), truth.abs()).max() <= 3
    assert torch.equal(y.signbit(), truth.signbit())
    zero, nan = torch.compile(ours, fullgraph=True, backend=backend)(torch.tensor([0.0, torch.nan]))
    torch.testing.assert_close(zero, torchs(torch.tensor(0.0)), rtol=1e-7, atol=0)
    assert nan.isnan()


@compiles
@backends
def test_torch_compile_keeps_the_digits_of_the_sigmoid(backend):
    torch._dynamo.reset()
    compiled = torch.compile(sigmoid, fullgraph=True, backend=backend)
    x = torch.linspace(-104, 104, 100_001).requires_grad_()
    y = compiled(x)
    (dx,) = torch.autograd.grad(y.sum(), x)
    e = torch.exp(-x.detach().double().abs())
    slope = ulps(dx, e / (1 + e) ** 2)
    assert slope.max() <= 4
    assert slope[(x.abs() >= 17) & (x.abs() <= 100)].max() <= 2
    normal = x.detach() > -87  # 1 / (1 + e⁻ˣ) is 0 from -89 down, as torch's is
    assert ulps(y.detach(), torch.sigmoid(x.detach().double()))[normal].max() <= 2
    far = torch.tensor([-torch.inf, -3e38, -200.0, 200.0, 3e38, torch.inf, torch.nan])
    y = compiled(far.requires_grad_())
    (dx,) = torch.autograd.grad(y.sum(), far)
    torch.testing.assert_close(y.detach(), torch.sigmoid(far.detach()), equal_nan=True)
    assert (dx[:-1] == 0).all()
    assert dx[-1].isnan()


def test_the_table_shows_it(capsys):
    lines = table().splitlines()
    assert lines[1] == "|---|---|---|---|---|---|"
    assert [line.split()[1] for line in lines[2::3]] == ["sigmoid′", "tanh′", "elu′"]
    assert all(0 <= int(line.split()[-2]) <= 2 for line in lines[2:])
    runpy.run_path(stability.__file__, run_name="__main__")
    assert capsys.readouterr().out.splitlines() == lines
    assert "| sigmoid′ | 17 | 4.14e-08 | 0 | 4.14e-08 |" in table()
