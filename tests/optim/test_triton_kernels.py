"""The kernels that rules have on a GPU, run on a CPU (see `triton_in_torch`)."""

import sys

import pytest
import torch
import triton_in_torch
from torch.nn import Parameter

from dlnotes.optim import OPTIMIZERS, GradientDescent, UpdateRule, _kernel, _triton
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
    assert launches == (4 + 2 if kernels else 0)  # all tensors in one; two to try it out
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
