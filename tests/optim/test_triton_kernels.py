"""The kernels that rules have on a GPU, run on a CPU (see `triton_in_torch`)."""

import copy
import sys
from types import SimpleNamespace

import pytest
import torch
import triton_in_torch
from torch.nn import Parameter

from dlnotes.optim import OPTIMIZERS, GradientDescent, UpdateRule, _kernel, _rule, _triton
from dlnotes.oracles.optimizers import ORACLES, loss, start

CPU = torch.device("cpu")
SIZES = (23, 24, 1, 1024, 1200, 2048)
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
NOT_ELEMENTWISE = {"muon"}


@pytest.fixture(autouse=True)
def built(monkeypatch):
    """Has the kernels of GPUs take the tensors of the CPU; all of them that were made."""
    triton_in_torch.install(monkeypatch)
    made = []

    def build(rule, dtype, maximize, hyper):
        made.append(_triton.build(rule, dtype, maximize, hyper, CPU))
        return made[-1]

    monkeypatch.setattr(_kernel, "build", build)
    monkeypatch.setattr(_triton, "_built", {})
    return made


def stepped(name, dtype, steps=4, **options):
    params = [Parameter(start(n, dtype).detach()) for n in SIZES]
    optimizer = OPTIMIZERS[name](params, **ORACLES[name].grid[0], **options)
    for step in range(steps):
        optimizer.zero_grad()
        for p in params[step % 2 :]:  # the first has a step count of its own
            loss(p, step).backward()
        optimizer.step()
    return [p.detach() for p in params], optimizer.state_dict()["state"]


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.05}, {"maximize": True}], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_kernel_computes_what_tensor_operations_do(name, options, dtype, built):
    expected = stepped(name, dtype, fused=False, **options)
    before = triton_in_torch.Kernel.launches
    found = stepped(name, dtype, **options)
    launches = triton_in_torch.Kernel.launches - before
    kernels = [kernel for kernel in built if isinstance(kernel, _triton.Kernel)]
    assert bool(kernels) == (name not in NOT_ELEMENTWISE)
    assert launches == (4 + 4 if kernels else 0)  # all tensors in one; four to try it out
    tolerance = 4 * torch.finfo(dtype).eps
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def test_a_kernel_may_be_forced(built):
    expected, _ = stepped("adam", torch.float32, fused=False)
    found, _ = stepped("adam", torch.float32, fused=True)
    torch.testing.assert_close(found, expected)
    assert isinstance(built[0], _triton.Kernel)


def test_tensors_that_begin_anywhere(built):
    """Their addresses are no multiples of 16 bytes."""
    made = []
    for fused in (None, False):
        whole = torch.linspace(-2, 3, 3001)
        params = [Parameter(part) for part in (whole[1:1300], whole[1300:3000])]
        optimizer = GradientDescent(params, lr=0.1, fused=fused)
        for p in params:
            p.grad = torch.cos(p.detach())
        optimizer.step()
        made.append(whole)
    assert torch.equal(*made)
    assert isinstance(built[0], _triton.Kernel)


class Wave(UpdateRule):
    """Takes a function that Triton's text does not have."""

    elementwise = True

    @staticmethod
    def rule(theta, g, *, lr):
        return theta - lr * g.exp()


def test_what_cannot_be_written_takes_tensor_operations(built):
    p = Parameter(torch.ones(3))
    p.grad = torch.zeros(3)
    Wave([p], lr=0.5).step()
    assert p.tolist() == [0.5] * 3
    assert isinstance(built[0], NotImplementedError)
    with pytest.raises(RuntimeError, match=r"fused=True, but there is no kernel: .*exp"):
        Wave([p], lr=0.5, fused=True).step()


def test_a_kernel_that_computes_something_else_is_not_taken(built, monkeypatch):
    monkeypatch.setitem(_triton.FORMS, "{} - {}", "{} + {}")
    p = Parameter(torch.ones(3))
    p.grad = torch.ones(3)
    GradientDescent([p], lr=0.5).step()
    assert p.tolist() == [0.5] * 3
    assert "differs from the plain one in theta" in str(built[0])


def test_without_triton_nothing_changes(built, monkeypatch):
    monkeypatch.setitem(sys.modules, "triton", None)
    p = Parameter(torch.ones(3))
    p.grad = torch.ones(3)
    GradientDescent([p], lr=0.5).step()
    assert p.tolist() == [0.5] * 3
    assert str(built[0]) == "Triton is not installed"


class Grows(UpdateRule):
    """Divides a number by 0 at the fourth step."""

    accumulators = ("m",)

    @staticmethod
    def rule(theta, g, m, *, t, lr):
        return theta - lr / (4 - t) * g, m + g


def test_an_error_before_the_launch_counts_no_step(built):
    p = Parameter(torch.ones(3))
    optimizer = Grows([p], lr=0.5)
    for _ in range(3):
        p.grad = torch.ones(3)
        optimizer.step()
    assert isinstance(built[0], _triton.Kernel)
    before = copy.deepcopy((p.detach(), optimizer.state_dict()))
    with pytest.raises(ZeroDivisionError):
        optimizer.step()
    torch.testing.assert_close((p.detach(), optimizer.state_dict()), before, rtol=0, atol=0)


def test_an_error_of_the_launch_counts_no_step(built, monkeypatch):
    params, other = [Parameter(torch.ones(3)) for _ in range(2)], Parameter(torch.ones(3))
    optimizers = [OPTIMIZERS["adam"](params), OPTIMIZERS["adam"]([other])]
    for p in (*params, other):
        p.grad = torch.ones(3)
    for optimizer in optimizers:
        optimizer.step()

    def refuse(*args, **options):
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patched:
        patched.setattr(_triton.Kernel, "launch", refuse)
        with pytest.raises(RuntimeError, match="out of memory"):
            optimizers[0].step()
    for optimizer in optimizers:
        optimizer.step()
    assert torch.equal(params[1], other)
    assert {float(state["step"]) for state in optimizers[0].state.values()} == {2.0}


def test_trials_have_numbers_of_both_signs(monkeypatch):
    """As well as infinities and NaN: what is wrong for them alone is found, too."""

    class Rule(UpdateRule):
        @staticmethod
        def rule(theta, g, *, lr):
            return theta - lr * torch.maximum(g.abs(), theta).clamp(max=2.0)

    arguments = Rule, torch.float32, False, {"lr": 0.5, "weight_decay": 0.0}, CPU
    assert isinstance(_triton.build(*arguments), _triton.Kernel)
    for form, wrong in {
        "F(fabs)({})": "{}",
        "at_most({1}, {0})": "tl.where({0} < {1}, {0}, {1})",  # NaN becomes the limit
        "({0} > {1}) | ({0} != {0}) ? {0} : {1}": "tl.where({0} > {1}, {0}, {1})",  # and is lost
    }.items():
        _triton._built.clear()
        with monkeypatch.context() as patched:
            patched.setitem(_triton.FORMS, form, wrong)
            assert "differs from the plain one in theta" in str(_triton.build(*arguments))


def test_no_kernel_is_made_for_what_has_no_gradient(built):
    params = [Parameter(torch.ones(3, dtype=dtype)) for dtype in DTYPES]
    params[1].grad = torch.ones(3)
    GradientDescent(params, lr=0.5).step()
    assert len(built) == 1
    assert params[1].tolist() == [0.5] * 3


def test_an_interpreted_kernel_is_not_given_addresses_of_a_gpu(monkeypatch):
    """TRITON_INTERPRET=1 has kernels run on the CPU, where they would be read as its own."""
    import triton

    class Interpreted(triton_in_torch.Kernel):
        pass

    monkeypatch.setattr(triton, "jit", lambda do_not_specialize: Interpreted)
    monkeypatch.setattr(triton, "JITFunction", type("JITFunction", (), {}))
    hyper = {"lr": 0.5, "weight_decay": 0.0}
    launches = Interpreted.launches
    found = _triton.build(GradientDescent, torch.float32, False, hyper, torch.device("cuda", 0))
    assert "TRITON_INTERPRET is set" in str(found)
    assert Interpreted.launches == launches


def test_a_broken_triton_is_not_said_to_be_missing(built, monkeypatch):
    monkeypatch.setitem(sys.modules, "triton.language", None)
    monkeypatch.delattr(sys.modules["triton"], "language")
    p = Parameter(torch.ones(3))
    p.grad = torch.ones(3)
    GradientDescent([p], lr=0.5).step()
    assert p.tolist() == [0.5] * 3
    assert "triton.language" in str(built[0])


def test_a_forced_kernel_says_that_a_graph_is_captured(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    there, nowhere = SimpleNamespace(is_cpu=False, is_cuda=True), torch.ones(3, device="meta")
    assert _rule._places([there]) == []
    assert "a CUDA graph is being captured" in _rule._why_nowhere([there])
    assert "not on the CPU or a CUDA device" in _rule._why_nowhere([nowhere])


def test_a_triton_that_flushes_subnormal_numbers_is_not_taken(built, monkeypatch):
    """As that before 3.6 does where it divides and takes roots."""
    monkeypatch.setattr(triton_in_torch.Kernel, "ptx", "sqrt.rn.ftz.f32")
    p = Parameter(torch.full((3,), 1.0))
    p.grad = torch.full((3,), 1e-20)  # its square is subnormal
    OPTIMIZERS["rmsprop"]([p], lr=1e-2, eps=0.0).step()
    assert torch.isfinite(p).all()
    assert "subnormal" in str(built[0])
