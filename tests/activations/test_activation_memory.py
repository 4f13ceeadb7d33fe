"""What is kept for the backward pass, against torch."""

import weakref

import pytest
import torch
import torch.nn.functional as F
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

from dlnotes.activations import maxout, rrelu
from dlnotes.oracles.activations import ORACLES

every = pytest.mark.parametrize("case", ORACLES, ids=lambda case: case.name)
N = 1 << 12
MASKED = {"relu", "leaky_relu", "rrelu", "hardtanh", "relu6", "hardsigmoid", "softshrink"}
MASKED |= {"hardshrink"}


def kept(f, *shape) -> int:
    """Bytes in the distinct tensors that f keeps for its backward pass."""
    sizes = {}

    def pack(tensor):
        sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    x = torch.randn(shape, requires_grad=True)
    with saved_tensors_hooks(pack, lambda tensor: tensor):
        y = f(x)
    y.sum().backward()  # the graph, and so every tensor seen, lived until here
    return sum(sizes.values())


@every
def test_not_more_than_torch(case):
    if case.name == "maxout":
        pytest.skip("below, without the layer of pieces")
    assert kept(case.ours, N) <= kept(case.torch, N)


masked = pytest.mark.parametrize(
    "case",
    [case for case in ORACLES if case.name in MASKED],
    ids=lambda case: case.name,
)


@masked
def test_a_byte_an_element_for_a_fixed_slope(case):
    assert kept(case.ours, N) == N
    assert kept(case.torch, N) >= 4 * N


@masked
def test_no_gradient_is_made_for_the_mask(case):
    """Autograd's own default is a tensor of zeros in every backward pass."""
    x = torch.randn(N, requires_grad=True)
    y, g = case.ours(x), torch.randn(N)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        torch.autograd.grad(y, x, g)
    called = [event.name for event in profile.events()]
    assert any("Backward" in name for name in called)
    assert "aten::zeros" not in called


def test_rrelu_keeps_its_noise_only():
    assert kept(lambda x: rrelu(x, training=True), N) == 4 * N
    assert kept(lambda x: F.rrelu(x, training=True), N) == 8 * N


def test_maxout_keeps_a_byte_an_output():
    assert kept(maxout, N, 2) == N
    assert kept(lambda z: z.max(-1).values, N, 2) == 8 * N


@every
def test_checkpointing_frees_what_forward_mode_would_need(case):
    """save_for_forward must not hold what a saved-tensor hook has packed away."""
    alive = []

    def pack(tensor):
        alive.append(weakref.ref(tensor))
        return tensor.clone()

    def f(x):
        with saved_tensors_hooks(pack, lambda tensor: tensor):
            return case.ours(x * 2)

    y = f(torch.randn(N, requires_grad=True))
    assert alive or case.name == "step"
    assert [ref() for ref in alive] == [None] * len(alive)
    x = torch.randn(N, requires_grad=True)
    (direct,) = torch.autograd.grad(case.ours(x).sum(), x)
    (again,) = torch.autograd.grad(checkpoint(case.ours, x, use_reentrant=False).sum(), x)
    assert torch.equal(direct, again)
    assert y.requires_grad
