"""Closed-loop trajectories against torch.optim in float64, through the exact mappings."""

import pytest
import torch
from torch import Tensor

from dlnotes.optim import OPTIMIZERS, Adam, GradientDescent, Momentum

STEPS = 300


def loss(w: Tensor) -> Tensor:
    """A curved valley with a saddle: every coordinate sees another gradient each step."""
    return (0.5 * w**2 + torch.sin(3 * w) * w.roll(1)).sum() + (w[1:] - w[:-1] ** 2).pow(2).sum()


def start() -> torch.nn.Parameter:
    generator = torch.Generator().manual_seed(0)
    return torch.nn.Parameter(torch.randn(23, dtype=torch.float64, generator=generator) / 2)


def trajectory(make, steps: int = STEPS) -> Tensor:
    w = start()
    optimizer = make([w])
    path = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss(w).backward()
        optimizer.step()
        path.append(w.detach().clone())
    return torch.stack(path)


@pytest.mark.parametrize("weight_decay", [0.0, 0.05])
@pytest.mark.parametrize(
    ("ours", "oracle"),
    [
        (
            lambda p, **k: GradientDescent(p, lr=0.003, **k),
            lambda p, **k: torch.optim.SGD(p, lr=0.003, **k),
        ),
        (
            lambda p, **k: Momentum(p, lr=0.01, beta=0.9, **k),
            lambda p, **k: torch.optim.SGD(p, lr=0.01 * (1 - 0.9), momentum=0.9, **k),
        ),
        (
            lambda p, **k: Adam(p, lr=0.01, betas=(0.8, 0.99), eps=1e-6, **k),
            lambda p, **k: torch.optim.Adam(p, lr=0.01, betas=(0.8, 0.99), eps=1e-6, **k),
        ),
    ],
    ids=["gradient-descent", "momentum", "adam"],
)
def test_equals_torch(ours, oracle, weight_decay):
    path = trajectory(lambda p: ours(p, weight_decay=weight_decay))
    expected = trajectory(lambda p: oracle(p, weight_decay=weight_decay))
    assert path[-1].sub(path[0]).abs().min() > 0
    torch.testing.assert_close(path, expected, rtol=1e-10, atol=0)


def test_momentum_with_copied_arguments_is_another_trajectory():
    path = trajectory(lambda p: Momentum(p, lr=0.01, beta=0.9))
    naive = trajectory(lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9))
    assert (path - naive).abs().max() > 0.1


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_resumes_bit_for_bit(name):
    whole = trajectory(lambda p: OPTIMIZERS[name](p, lr=0.003), 40)
    w = start()
    optimizer = OPTIMIZERS[name]([w], lr=0.003)
    for step in range(40):
        if step == 17:
            w = torch.nn.Parameter(w.detach().clone())
            fresh = OPTIMIZERS[name]([w])
            fresh.load_state_dict(optimizer.state_dict())
            optimizer = fresh
        optimizer.zero_grad()
        loss(w).backward()
        optimizer.step()
    assert torch.equal(w, whole[-1])
