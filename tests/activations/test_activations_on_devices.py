"""Every activation on a device against torch's function on the CPU."""

import pytest
import torch

from dlnotes.activations import ACTIVATIONS, Maxout, rrelu
from dlnotes.oracles.activations import ORACLES

every = pytest.mark.parametrize("case", ORACLES, ids=lambda case: case.name)


def samples(dtype=torch.float64):
    grid = torch.linspace(-8, 8, 1001, dtype=torch.float64)
    return grid[grid.abs() > 1e-6].to(dtype)


def derivatives(f, x):
    """Value, gradient, and the gradient of the gradient where there is one; on the CPU."""
    x = x.detach().requires_grad_()
    y = f(x)
    (dx,) = torch.autograd.grad(y, x, torch.cos(x.detach()), create_graph=True)
    found = [y.detach(), dx.detach()]
    if dx.requires_grad:
        found += torch.autograd.grad(dx, x, torch.sin(x.detach()), materialize_grads=True)
    else:
        found.append(torch.zeros_like(x))
    return [each.cpu() for each in found]


@every
def test_values_gradients_and_double_backward(case, device):
    pairs = [(case.ours, case.torch), *case.settings]
    if case.name == "swiglu":
        pairs = pairs[:1]  # the other references are in NumPy, without a second derivative
    for ours, theirs in pairs:
        found, expected = derivatives(ours, samples().to(device)), derivatives(theirs, samples())
        torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-14)


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_lower_precision(case, dtype, device):
    """Within four roundings of float64 on the same points."""
    x, eps = samples(dtype), torch.finfo(dtype).eps
    found = case.ours(x.to(device))
    assert (found.dtype, found.device.type) == (dtype, device.type)
    expected = case.torch(x.double())
    torch.testing.assert_close(found.cpu().double(), expected, rtol=4 * eps, atol=4 * eps)


@every
def test_what_is_not_finite(case, device):
    x = torch.tensor([torch.nan, torch.inf, -torch.inf, 0.0, -0.0], dtype=torch.float64)
    found, expected = case.ours(x.to(device)).cpu(), case.torch(x)
    torch.testing.assert_close(found, expected, equal_nan=True, rtol=0, atol=1e-15)


@every
def test_forward_mode_and_vmap(case, device):
    x = samples().to(device)
    _, tangent = torch.func.jvp(case.ours, (x,), (torch.cos(x),))
    (slope,) = torch.func.vjp(case.ours, x)[1](torch.cos(x))
    torch.testing.assert_close(tangent, slope, rtol=1e-12, atol=1e-15)
    rows = torch.func.vmap(case.ours)(x.view(-1, 4))
    torch.testing.assert_close(rows.flatten(), case.ours(x), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_a_module_moves_with_its_parameters(name, device):
    module = ACTIVATIONS[name]().double().eval()
    expected = module(samples())
    found = module.to(device)(samples().to(device))
    assert found.device.type == device.type
    torch.testing.assert_close(found.detach().cpu(), expected.detach(), rtol=1e-12, atol=1e-14)


def test_maxout_is_a_layer_that_moves(device):
    torch.manual_seed(0)
    layer = Maxout(5, 3).double()
    x = torch.randn(7, 5, dtype=torch.float64)
    expected = layer(x)
    found = layer.to(device)(x.to(device))
    torch.testing.assert_close(found.detach().cpu(), expected.detach(), rtol=1e-12, atol=1e-14)


def test_rrelu_draws_on_the_device_what_its_seed_says(device):
    x = -torch.ones(4000, device=device, dtype=torch.float64)
    torch.manual_seed(0)
    first = rrelu(x, 0.2, 0.6, True)
    torch.manual_seed(0)
    assert torch.equal(rrelu(x, 0.2, 0.6, True), first)
    assert not torch.equal(rrelu(x, 0.2, 0.6, True), first)
    assert -0.6 <= first.min() < -0.58
    assert -0.22 < first.max() <= -0.2
