"""Sparse gradients in one native pass: equal to the plain step, and safe with whatever it is given."""

import contextlib
import threading

import pytest
import torch
from torch.nn import Parameter

from dlnotes.optim import OPTIMIZERS, UpdateRule, _kernel, _native

every_rule = pytest.mark.parametrize("name", OPTIMIZERS)
SHAPES = [(50,), (50, 1), (50, 10), (50, 3, 5), (7, 2500), (1, 4)]


@pytest.fixture(autouse=True)
def native():
    if isinstance(library := _native.load(), Exception):
        pytest.skip(f"no compiler: {library}")


@pytest.fixture
def taken(monkeypatch):
    """Whether each attempt of a step by rows was one of the kernel's."""
    found = []
    plain = _native.step_rows
    monkeypatch.setattr(_native, "step_rows", lambda *a: found.append(plain(*a)) or found[-1])
    return found


def gradient(shape, n, dtype=torch.float64, seed=0):
    """n rows, of which many have the same index."""
    generator = torch.Generator().manual_seed(seed)
    index = torch.randint(shape[0], (1, n), generator=generator)
    values = torch.randn(n, *shape[1:], generator=generator, dtype=torch.float64).to(dtype)
    return torch.sparse_coo_tensor(index, values, shape, check_invariants=True)


def pair(name, shape, dtype=torch.float64, **hyper):
    """The same parameter with the native pass and with plain operations."""
    start = torch.rand(shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    made = [Parameter(start.clone()) for _ in range(2)]
    hyper = {"lr": 0.01, **hyper}
    return made, [OPTIMIZERS[name]([p], fused=f, **hyper) for p, f in zip(made, (None, False))]  # noqa: B905


@every_rule
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.1, "maximize": True}], ids=str)
def test_equals_the_plain_step(name, shape, options, taken):
    made, optimizers = pair(name, shape, **options)
    for step, n in enumerate((0, 1, 40, 300)):
        g = gradient(shape, n, seed=step)
        for p, optimizer in zip(made, optimizers, strict=True):
            p.grad = g.clone()
            optimizer.step()
            assert torch.equal(p.grad.to_dense(), g.to_dense())
            assert p.grad.is_coalesced() == g.is_coalesced()
    torch.testing.assert_close(made[0], made[1], rtol=1e-12, atol=1e-14)
    mine, theirs = (o.state[p] for o, p in zip(optimizers, made, strict=True))
    assert mine.keys() == theirs.keys()
    for key in mine:
        torch.testing.assert_close(mine[key], theirs[key], rtol=1e-11, atol=1e-14)
    elementwise = OPTIMIZERS[name].elementwise is not False
    assert taken == [True] * (4 * elementwise)


@every_rule
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_other_dtypes_without_rows_that_occur_twice(name, dtype):
    made, optimizers = pair(name, (50, 10), dtype)
    for p, optimizer in zip(made, optimizers, strict=True):
        index = torch.randperm(50, generator=torch.Generator().manual_seed(0))[:20].unsqueeze(0)
        values = gradient((20, 10), 20, dtype).to_dense()
        p.grad = torch.sparse_coo_tensor(index, values, (50, 10), check_invariants=True)
        for _ in range(3):
            optimizer.step()
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(made[0], made[1], rtol=4 * eps, atol=eps / 100)


def test_rows_of_low_precision_are_added_in_float32():
    """In float16 4,000 times 0.001 after 2,000 would get lost one by one."""
    p = Parameter(torch.zeros(2, 1, dtype=torch.float16))
    values = torch.tensor([2048.0, *[0.5] * 4000], dtype=torch.float16).unsqueeze(1)
    index = torch.zeros(1, 4001, dtype=torch.int64)
    p.grad = torch.sparse_coo_tensor(index, values, (2, 1), check_invariants=True)
    OPTIMIZERS["gradient-descent"]([p], lr=1.0).step()
    assert p.tolist() == [[-4048.0], [0.0]]


@every_rule
def test_the_number_of_threads_changes_no_bit(name):
    results = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            made, (optimizer, _) = pair(name, (3000, 40), torch.float32)
            for step in range(3):
                made[0].grad = gradient((3000, 40), 9000, torch.float32, seed=step)
                optimizer.step()
            results.append(made[0].detach())
    finally:
        torch.set_num_threads(before)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_a_row_that_occurs_in_many_blocks(taken):
    """Its gradients are added up by whoever has the first of them, and nobody else."""
    n = 3 * _kernel.BLOCK
    p = Parameter(torch.zeros(9, dtype=torch.float64))
    index = torch.full((1, n), 4)
    p.grad = torch.sparse_coo_tensor(index, torch.ones(n).double(), (9,), check_invariants=True)
    OPTIMIZERS["gradient-descent"]([p], lr=1.0).step()
    assert p.tolist() == [0, 0, 0, 0, -n, 0, 0, 0, 0]
    assert taken == [True]


@pytest.mark.parametrize("wrong", [-1, 50, 2**31, 2**40, -(2**63)])
@pytest.mark.parametrize("name", ["gradient-descent", "adam"])
def test_an_index_outside_of_the_parameter(name, wrong):
    made, optimizers = pair(name, (50, 10))
    for p, optimizer in zip(made, optimizers, strict=True):
        before = p.detach().clone()
        index = torch.tensor([[3, 4, wrong]])
        p.grad = torch.sparse_coo_tensor(
            index, torch.ones(3, 10).double(), (50, 10), check_invariants=False
        )
        with pytest.raises(IndexError, match=f"has the index {wrong}: it must be from 0 to 49"):
            optimizer.step()
        assert torch.equal(p, before)


def test_what_is_left_to_the_plain_step(taken):
    """Memory that is shared, has gaps, is read-only in other ways, or gradients of other forms."""

    class Own(torch.Tensor):
        pass

    whole = torch.rand(100, 10).double()
    values = torch.ones(3, 10).double()
    index = torch.tensor([[1, 7, 1]])
    sparse = torch.sparse_coo_tensor(index, values, (50, 10), check_invariants=True)
    two = torch.sparse_coo_tensor(
        torch.tensor([[1, 7], [2, 3]]), values[:2, 0], (50, 10), check_invariants=True
    )
    gaps = torch.sparse_coo_tensor(
        index, torch.ones(3, 20).double()[:, ::2], (50, 10), check_invariants=True
    )
    for theta, g in (
        (whole[::2], sparse),
        (whole.T.contiguous().T[:50], sparse),
        (whole[:50].clone(), two),
        (whole[:50].clone(), gaps),
        (whole[:50].clone().as_subclass(Own), sparse),
    ):
        p = Parameter(theta)
        p.grad = g
        expected = p.detach().clone().as_subclass(torch.Tensor) - 0.1 * g.to_dense()
        OPTIMIZERS["gradient-descent"]([p], lr=0.1).step()
        torch.testing.assert_close(p.detach().as_subclass(torch.Tensor), expected)
    assert not any(taken)
    values = torch.rand(50, 10).double()
    p = Parameter(values)  # the gradient's numbers are the parameter's own
    every = torch.arange(50).unsqueeze(0)
    p.grad = torch.sparse_coo_tensor(every, values, (50, 10), check_invariants=True)
    before = values.clone()
    OPTIMIZERS["gradient-descent"]([p], lr=0.1).step()
    torch.testing.assert_close(p.detach(), before - 0.1 * before)
    assert not any(taken)


def test_memory_around_the_parameter_is_not_touched():
    whole = torch.full((70, 10), 7.0)
    p = Parameter(whole[10:60])
    optimizer = OPTIMIZERS["adam"]([p], lr=0.1)
    for step in range(3):
        p.grad = gradient((50, 10), 200, torch.float32, seed=step)
        optimizer.step()
    assert (whole[:10] == 7).all()
    assert (whole[60:] == 7).all()
    assert (whole[10:60] != 7).any()


def test_autograd_knows_of_the_change():
    w = Parameter(torch.rand(50, 10))
    (w * w).sum().backward()
    loss = (w * w).sum()
    w.grad = gradient((50, 10), 9, torch.float32)
    OPTIMIZERS["adam"]([w], lr=0.1).step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_dense_and_sparse_parameters_of_one_group(taken):
    made = [[Parameter(torch.ones(50, 10).double()), Parameter(torch.ones(9).double())]]
    made.append([Parameter(p.detach().clone()) for p in made[0]])
    optimizers = [OPTIMIZERS["adam"](ps, lr=0.1, fused=f) for ps, f in zip(made, (None, False))]  # noqa: B905
    for step in range(4):
        for ps, optimizer in zip(made, optimizers, strict=True):
            ps[0].grad = gradient((50, 10), 30, seed=step)
            ps[1].grad = torch.ones(9).double() if step % 2 else None
            optimizer.step()
    for a, b in zip(*made, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)
    assert taken == [True] * 4


def test_a_rule_of_ones_own(taken):
    class Sign(UpdateRule):
        """Not arithmetic alone: it is not compiled."""

        elementwise = True

        @staticmethod
        def rule(theta, g, *, lr):
            return theta - lr * g.sign()

    class Decaying(UpdateRule):
        accumulators = ("m",)

        @staticmethod
        def rule(theta, g, m, *, lr, t):
            m = m + g
            return theta - lr / t * m, m

    for rule, native in ((Sign, False), (Decaying, True)):
        ps = [Parameter(torch.ones(50, 10).double()) for _ in range(2)]
        for p, fused in zip(ps, (None, False), strict=True):
            optimizer = rule([p], lr=0.1, fused=fused)
            for step in range(3):
                p.grad = gradient((50, 10), 30, seed=step)
                optimizer.step()
        torch.testing.assert_close(ps[0], ps[1], rtol=1e-12, atol=1e-14)
        assert taken == [native] * 3
        taken.clear()


def test_threads_that_change_the_indices_meanwhile():
    """What is read once is checked once: no index leads out of the parameter."""
    p = Parameter(torch.zeros(50, 10))
    g = gradient((50, 10), 5000, torch.float32)
    p.grad = g
    optimizer = OPTIMIZERS["gradient-descent"]([p], lr=0.1)
    stop = threading.Event()

    def disturb():
        index = g._indices()
        while not stop.is_set():
            index.fill_(10**6)
            index.zero_()

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        for _ in range(300):
            with contextlib.suppress(IndexError, RuntimeError):
                optimizer.step()
    finally:
        stop.set()
        thread.join()
    assert p.shape == (50, 10)
