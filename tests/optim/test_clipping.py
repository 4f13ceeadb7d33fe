"""Clipping against torch's, and the names of the batch regimes."""

import math
import pickle

import pytest
import torch
from torch.nn import Parameter
from torch.utils.data import DataLoader, TensorDataset

from dlnotes.data.batches import BGD, MBGD, SGD
from dlnotes.errors import UserError
from dlnotes.optim import GradientDescent, clip_grad_norm_, clip_grad_value_


def parameters(scale=1.0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    params = [Parameter(torch.zeros(s, dtype=dtype)) for s in [(3, 4), (5,), (), (2, 3, 2)]]
    for p in params:
        p.grad = torch.randn(p.shape, generator=generator).to(dtype) * scale
    params.insert(2, Parameter(torch.zeros(7)))  # without a gradient
    return params


def grads(params):
    return [p.grad for p in params if p.grad is not None]


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("norm_type", [0.5, 1.0, 2.0, 3.0, math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_norm_equals_torch(scale, norm_type, dtype):
    ours, theirs = parameters(scale, dtype), parameters(scale, dtype)
    a = clip_grad_norm_(ours, 1.5, norm_type)
    b = torch.nn.utils.clip_grad_norm_(theirs, 1.5, norm_type)
    assert torch.equal(a, b)
    for x, y in zip(grads(ours), grads(theirs), strict=True):
        assert torch.equal(x, y)
    if a > 2:
        after = clip_grad_norm_(ours, 1e9, norm_type)
        assert after.item() == pytest.approx(1.5, rel=1e-2 if dtype is torch.bfloat16 else 1e-5)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_norm_of_what_is_not_finite(value):
    ours, theirs = parameters(), parameters()
    for params in (ours, theirs):
        params[0].grad[1, 1] = value
    before = [g.clone() for g in grads(ours)]
    with pytest.raises(RuntimeError, match="cannot be clipped"):
        clip_grad_norm_(ours, 1.0, error_if_nonfinite=True)
    for x, y in zip(grads(ours), before, strict=True):
        torch.testing.assert_close(x, y, rtol=0, atol=0, equal_nan=True)
    clip_grad_norm_(ours, 1.0)
    torch.nn.utils.clip_grad_norm_(theirs, 1.0)
    for x, y in zip(grads(ours), grads(theirs), strict=True):
        torch.testing.assert_close(x, y, rtol=0, atol=0, equal_nan=True)
    if math.isinf(value):
        assert ours[0].grad[1, 1].isnan()
        assert (ours[1].grad == 0).all()
    else:
        assert all(g.isnan().all() for g in grads(ours))


@pytest.mark.parametrize("clip_value", [0.0, 0.3, 10.0])
def test_value_equals_torch(clip_value):
    ours, theirs = parameters(), parameters()
    clip_grad_value_(ours, clip_value)
    torch.nn.utils.clip_grad_value_(theirs, clip_value)
    for x, y in zip(grads(ours), grads(theirs), strict=True):
        assert torch.equal(x, y)
    assert all((g.abs() <= clip_value).all() for g in grads(ours))


@pytest.mark.parametrize("clip", [clip_grad_norm_, clip_grad_value_])
def test_an_index_outside_of_a_sparse_gradient(clip):
    """In torch a negative one corrupts memory."""
    w = Parameter(torch.ones(5, 2))
    values = torch.ones(2, 2)
    w.grad = torch.sparse_coo_tensor([[1, -1]], values, (5, 2), check_invariants=False)
    with pytest.raises(IndexError, match="has the index -1: it must be from 0 to 4"):
        clip(w, 1.0)
    assert torch.equal(w.grad._values(), values)


def test_sparse_complex_one_parameter_and_generators():
    w = Parameter(torch.zeros(5, 2))
    index, values = torch.tensor([[1, 3, 1]]), torch.tensor([[3.0, 0], [0, 4], [0, 0]])
    w.grad = torch.sparse_coo_tensor(index, values, (5, 2), check_invariants=True)
    assert clip_grad_norm_(w, 1.0) == 5.0
    torch.testing.assert_close(w.grad.to_dense().norm(), torch.tensor(1.0))
    clip_grad_value_(w, 0.25)
    assert w.grad.to_dense().abs().max() == 0.25
    z = Parameter(torch.zeros(1, dtype=torch.complex64))
    z.grad = torch.tensor([3 + 4j])
    assert clip_grad_norm_((p for p in [z]), 10.0) == 5.0
    clip_grad_value_(z, 3.5)
    assert z.grad.item() == 3 + 3.5j
    assert clip_grad_norm_([Parameter(torch.zeros(2))], 1.0) == 0


def test_bad_arguments_raise():
    params = parameters()
    for bad in (-1.0, math.nan):
        with pytest.raises(ValueError, match="max_norm must be >= 0, got"):
            clip_grad_norm_(params, bad)
        with pytest.raises(ValueError, match="clip_value must be >= 0, got"):
            clip_grad_value_(params, bad)
    for bad in (0.0, -2.0, math.nan):
        with pytest.raises(ValueError, match="norm_type must be > 0, got"):
            clip_grad_norm_(params, 1.0, bad)


# --- BGD, SGD, MBGD ------------------------------------------------------------------------------


def test_batch_regimes():
    data = TensorDataset(torch.arange(10.0))
    for regime, sizes in (
        (BGD(data), [10]),
        (SGD(data), [1] * 10),
        (MBGD(data, 4), [4, 4, 2]),
    ):
        loader = DataLoader(data, batch_sampler=regime)
        batches = [x for (x,) in loader]
        assert [len(x) for x in batches] == sizes
        assert len(loader) == len(regime) == len(sizes)
        assert sorted(torch.cat(batches).tolist()) == list(range(10))
    assert list(BGD(3)) == list(BGD(3)) == [[0, 1, 2]]


def test_batch_regimes_shuffle_anew_each_epoch_and_by_seed():
    regime = MBGD(100, 7, generator=torch.Generator().manual_seed(0))
    first, second = list(regime), list(regime)
    assert first != second
    assert list(MBGD(100, 7, generator=torch.Generator().manual_seed(0))) == first
    orders = [list(SGD(50, generator=torch.Generator().manual_seed(s))) for s in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]


def test_batch_regimes_reject_what_is_not_a_data_set():
    with pytest.raises(ValueError, match="samples must be at least 1, not 0"):
        MBGD(0, 3)
    for size in (0, True, 2.0, "2"):
        with pytest.raises(ValueError, match=f"batch_size must be .* at least 1, not {size!r}"):
            MBGD(3, size)
    for samples in (True, None, 3.0, object):
        with pytest.raises(ValueError, match="samples must be a data set or its size, not"):
            SGD(samples)


OF_OPTIMIZERS = {
    "parameters": lambda net: ((net.parameters(),), {}),
    "with a rate": lambda net: ((net.parameters(),), {"lr": 0.1}),
    "list": lambda net: ((list(net.parameters()),), {}),
    "list with a rate": lambda net: ((list(net.parameters()), 0.1), {}),
    "names": lambda net: ((list(net.named_parameters()),), {}),
    "table": lambda net: ((dict(net.named_parameters()),), {}),
    "groups": lambda net: (([{"params": net.parameters(), "lr": 0.1}],), {}),
    "one": lambda net: ((net.weight,), {}),
    "module": lambda net: ((net,), {}),
    "by name": lambda net: ((), {"params": net.parameters(), "lr": 0.1}),
    "momentum": lambda net: ((9,), {"momentum": 0.9}),
}


@pytest.mark.parametrize("case", OF_OPTIMIZERS)
@pytest.mark.parametrize("regime", [BGD, SGD, MBGD])
def test_a_regime_that_is_taken_for_an_optimizer_tells_which_to_use(regime, case):
    args, options = OF_OPTIMIZERS[case](torch.nn.Linear(2, 2))
    with pytest.raises(UserError, match=rf"^{regime.__name__} is not an optimizer, but draws .*: use dlnotes.optim.GradientDescent\(params, lr=0.1\), or Momentum$"):  # fmt: skip
        regime(*args, **options)


def test_data_sets_are_not_taken_for_parameters():
    for samples in ([torch.ones(2)] * 3, [("a", torch.ones(2))] * 3, "abc", range(3)):
        assert len(SGD(samples)) == 3
    assert len(MBGD(samples=range(3), batch_size=2)) == 2
    assert list(pickle.loads(pickle.dumps(BGD(3)))) == [[0, 1, 2]]


def test_the_regimes_are_one_rule_on_other_batches():
    """θ ← θ − α (θ − mean of the batch): by hand, in the order of each regime."""
    x = torch.tensor([1.0, 2.0, 3.0, 6.0])
    for make in (
        lambda g: BGD(4),
        lambda g: MBGD(4, 2, generator=g),
        lambda g: SGD(4, generator=g),
    ):
        w, by_hand = Parameter(torch.zeros(())), 0.0
        optimizer = GradientDescent([w], lr=0.5)
        for batch in make(torch.Generator().manual_seed(0)):
            optimizer.zero_grad()
            (0.5 * (w - x[batch]) ** 2).mean().backward()
            optimizer.step()
        for batch in make(torch.Generator().manual_seed(0)):
            by_hand -= 0.5 * (by_hand - x[batch].mean().item())
        assert w.item() == pytest.approx(by_hand, rel=1e-6)
        assert w.item() != 0


def test_conjugate_gradients_are_clipped():
    w = torch.nn.Parameter(torch.full((2, 2), 1 + 1j, dtype=torch.complex128))
    (w.mH @ torch.full((2, 2), 2 + 1j, dtype=torch.complex128)).abs().sum().backward()
    assert w.grad.is_conj()
    clip_grad_value_([w], 1e-3)
    assert w.grad.real.abs().max() == w.grad.imag.abs().max() == 1e-3
