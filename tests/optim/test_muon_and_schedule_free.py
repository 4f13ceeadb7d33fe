"""The two rules that are no OPTIMIZERS: matrices alone, and other weights for evaluation."""

import copy
import pickle

import pytest
import torch
from torch.nn import Parameter

from dlnotes.errors import UserError
from dlnotes.optim import Muon, ScheduleFree
from dlnotes.optim.muon import orthogonalized
from dlnotes.oracles.optimizers import beside_the_others, loss, start

ROWS = list(beside_the_others(300))


@pytest.mark.parametrize("comparison", ROWS, ids=[c.note for c in ROWS])
def test_equals_its_oracle(comparison):
    assert comparison.row().ok


def test_the_singular_values_come_near_1():
    generator = torch.Generator().manual_seed(0)
    for shape in ((8, 30), (30, 8), (16, 16)):
        matrix = torch.randn(shape, dtype=torch.float64, generator=generator)
        sigma = torch.linalg.svdvals(orthogonalized(matrix, 5, 1e-7))
        assert 0.3 < sigma.min() <= sigma.max() < 1.25
        assert sigma.median() > 0.65


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch.optim.Muon came with 2.9")
def test_muon_follows_torchs_for_many_steps():
    """Gradients of full rank: bfloat16 is all that is between them."""
    generator = torch.Generator().manual_seed(0)
    ours, theirs = (Parameter(torch.zeros(8, 12)) for _ in range(2))
    a, b = Muon([ours], lr=0.02), torch.optim.Muon([theirs], lr=0.02)
    for _ in range(20):
        ours.grad = torch.randn(8, 12, generator=generator)
        theirs.grad = ours.grad.clone()
        a.step()
        b.step()
    torch.testing.assert_close(a.state[ours]["B"], b.state[theirs]["momentum_buffer"])
    assert (ours - theirs).norm() < 0.02 * theirs.norm()


@pytest.mark.parametrize("shape", [(5,), (), (2, 3, 4)])
def test_muon_refuses_what_is_no_matrix(shape):
    with pytest.raises(UserError, match=r"params of Muon must be real matrices.*AdamW") as error:
        Muon([Parameter(torch.ones(2, 2)), Parameter(torch.ones(shape))])
    assert "\n" not in str(error.value)
    optimizer = Muon([Parameter(torch.ones(2, 2))])
    with pytest.raises(UserError, match="matrices"):
        optimizer.add_param_group({"params": [Parameter(torch.ones(shape))]})
    assert len(optimizer.param_groups) == 1
    with pytest.raises(UserError, match="complex"):
        Muon([Parameter(torch.ones(2, 2, dtype=torch.complex64))])
    for steps in (-1, 2.5, 100, 10**9, float("inf")):
        with pytest.raises(ValueError, match="ns_steps must be an integer"):
            Muon([Parameter(torch.ones(2, 2))], ns_steps=steps)


def test_the_other_face_of_schedule_free():
    """Within ``averaged`` the parameters are the average of all z; afterwards they are y again."""
    w = start()
    optimizer = ScheduleFree([w], lr=0.05)
    z = w.detach().clone()
    zs = []
    for step in range(50):
        optimizer.zero_grad()
        loss(w, step).backward()
        z = z - 0.05 * w.grad
        zs.append(z)
        optimizer.step()
    y = w.detach().clone()
    with optimizer.averaged():
        torch.testing.assert_close(w.detach(), torch.stack(zs).mean(0), rtol=1e-10, atol=0)
    assert torch.equal(w, y)
    assert (y - torch.stack(zs).mean(0)).abs().max() > 1e-3


@pytest.mark.parametrize("eps", [0.0, 1e-60, 1e-45, 1e-7])
@pytest.mark.parametrize("size", [0.0, 1e-45, 1e-30, 1e-20])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_muon_of_a_small_gradient_is_finite(eps, size, dtype):
    w = Parameter(torch.ones(3, 4, dtype=dtype))
    optimizer = Muon([w], lr=0.5, eps=eps, weight_decay=0)
    for _ in range(3):
        w.grad = torch.full_like(w, size)
        optimizer.step()
    assert w.isfinite().all()
    assert (w == 1).all() or size > 0


def test_within_averaged_nothing_is_lost():
    w = start()
    optimizer = ScheduleFree([w], lr=0.05)
    for step in range(3):
        optimizer.zero_grad()
        loss(w, step).backward()
        optimizer.step()
    y, state = w.detach().clone(), optimizer.state_dict()
    with optimizer.averaged():
        x, d = w.detach().clone(), optimizer.state[w]["d"].clone()
        with pytest.raises(RuntimeError, match=r"^ScheduleFree.step\(\) must not .*averaged\(\)"):
            optimizer.step()
        with pytest.raises(RuntimeError, match=r"^ScheduleFree.load_state_dict\(\) must not"):
            optimizer.load_state_dict(state)
        with optimizer.averaged():
            assert torch.equal(w, x)
        assert torch.equal(w, x)
        assert torch.equal(optimizer.state[w]["d"], d)
    assert torch.equal(w, y)
    assert not torch.equal(x, y)
    optimizer.step()
    assert not torch.equal(w, y)
    optimizer.load_state_dict(state)
    with pytest.raises(KeyError), optimizer.averaged():  # an evaluation that fails
        raise KeyError
    optimizer.step()


@pytest.mark.parametrize(
    "save", [lambda o: o.state_dict(), copy.deepcopy, pickle.dumps], ids=["state", "copy", "pickle"]
)
def test_the_state_belongs_to_y_and_is_not_saved_beside_the_average(save):
    p = torch.nn.Parameter(torch.ones(3))
    optimizer = ScheduleFree([p], lr=0.1)
    p.grad = torch.ones(3)
    optimizer.step()
    with optimizer.averaged(), pytest.raises(RuntimeError, match="within averaged"):
        save(optimizer)
    save(optimizer)


def test_muon_names_the_shape_that_it_refuses():
    with pytest.raises(UserError, match=r"got a tensor of shape \(3,\)"):
        Muon([torch.nn.Parameter(torch.ones(3))])
