"""Rules inside torch's machinery: sparse rows, autograd, vmap, compile, sharding, hypothesis."""

import os
import tempfile
from functools import partial

import pytest
import torch
import torch.multiprocessing as mp
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import Parameter

from dlnotes.optim import OPTIMIZERS, AdamW
from dlnotes.oracles.optimizers import ORACLES, loss, start

TORCH = tuple(map(int, torch.__version__.split(".")[:2]))
every_rule = pytest.mark.parametrize("name", OPTIMIZERS)
every_path = pytest.mark.parametrize("fused", [None, False], ids=["default", "operations"])


# --- sparse gradients ----------------------------------------------------------------------------


def embedding(sparse: bool, width: int = 4) -> torch.nn.Embedding:
    torch.manual_seed(0)
    return torch.nn.Embedding(50, width, sparse=sparse)


@every_path
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@every_rule
def test_sparse_equals_dense_on_the_touched_rows(name, weight_decay, fused):
    """Rows that are touched at each step move as in the dense rule, the others not at all."""
    sparse, dense = embedding(True), embedding(False)
    before = dense.weight.detach().clone()
    rows = torch.tensor([3, 7, 7, 49, 3, 0])
    touched = [0, 3, 7, 49]
    others = [i for i in range(50) if i not in touched]
    a = OPTIMIZERS[name](sparse.parameters(), lr=0.1, weight_decay=weight_decay, fused=fused)
    b = OPTIMIZERS[name](dense.parameters(), lr=0.1, weight_decay=weight_decay, fused=fused)
    for step in range(6):
        for net, optimizer in ((sparse, a), (dense, b)):
            optimizer.zero_grad()
            (net(rows.roll(step)).sin().pow(2).sum() * (step + 1)).backward()
        assert sparse.weight.grad.is_sparse
        assert not sparse.weight.grad.is_coalesced()
        a.step()
        b.step()
    torch.testing.assert_close(sparse.weight[touched], dense.weight[touched], rtol=1e-5, atol=1e-7)
    assert torch.equal(sparse.weight[others], before[others])
    assert (sparse.weight[touched] != before[touched]).all()
    for key in a.accumulators:
        x, y = (o.state[net.weight][key] for o, net in ((a, sparse), (b, dense)))
        torch.testing.assert_close(x[touched], y[touched], rtol=1e-5, atol=1e-7)
        assert (x[others] == 0).all()


@every_rule
def test_rows_that_are_not_touched_wait(name):
    """The accumulators of a row change only with its gradients; t counts the parameter's steps."""
    w = Parameter(torch.ones(3, 2))
    optimizer = OPTIMIZERS[name]([w], lr=0.1, weight_decay=0.0)
    for row in (0, 1, 1):
        w.grad = torch.sparse_coo_tensor([[row]], torch.ones(1, 2), (3, 2), check_invariants=True)
        optimizer.step()
    alone = Parameter(torch.ones(1, 2))
    once = OPTIMIZERS[name]([alone], lr=0.1, weight_decay=0.0)
    alone.grad = torch.ones(1, 2)
    once.step()
    for key in optimizer.accumulators:
        assert torch.equal(optimizer.state[w][key][0], once.state[alone][key][0])
        assert (optimizer.state[w][key][2] == 0).all()
    assert torch.equal(w[2], torch.ones(2))


@pytest.mark.parametrize(
    ("name", "oracle"),
    [
        ("gradient-descent", lambda p: torch.optim.SGD(p, lr=0.1)),
        ("adam", lambda p: torch.optim.SparseAdam(p, lr=0.1, eps=1e-14)),
        ("adagrad", lambda p: torch.optim.Adagrad(p, 0.1, initial_accumulator_value=1e-8, eps=0)),
    ],
)
def test_sparse_equals_torch_where_torch_has_it(name, oracle):
    ours, theirs = embedding(True).double(), embedding(True).double()
    hyper = {"eps": 1e-14} if name == "adam" else {}  # SparseAdam adds ε to the uncorrected root
    a = OPTIMIZERS[name](ours.parameters(), lr=0.1, **hyper)
    b = oracle(list(theirs.parameters()))
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        rows = torch.randint(50, (30,), generator=generator)
        for net, optimizer in ((ours, a), (theirs, b)):
            optimizer.zero_grad()
            net(rows).sin().pow(2).sum().backward()
            optimizer.step()
    torch.testing.assert_close(ours.weight, theirs.weight, rtol=1e-8, atol=1e-11)
    assert not torch.equal(ours.weight.float(), embedding(True).weight)


@every_rule
def test_sparse_with_two_sparse_dimensions_none_at_all_and_low_precision(name):
    generator = torch.Generator().manual_seed(0)
    for dtype in (torch.float32, torch.bfloat16, torch.complex64):
        values = torch.randn(3, 2, generator=generator).to(dtype)
        w, twin = (Parameter(torch.ones(4, 5, 2, dtype=dtype)) for _ in range(2))
        a, b = (OPTIMIZERS[name]([p], lr=4.0, weight_decay=0.0) for p in (w, twin))
        index = torch.tensor([[0, 3, 0], [1, 4, 1]])
        g = torch.sparse_coo_tensor(index, values, (4, 5, 2), check_invariants=True)
        w.grad, twin.grad = g, g.to_dense()
        copies = w.grad.to_dense().clone()
        a.step()
        b.step()
        torch.testing.assert_close(w[[0, 3], [1, 4]], twin[[0, 3], [1, 4]], rtol=1e-6, atol=0)
        assert (w == 1).sum() == 4 * 5 * 2 - 4
        assert torch.equal(w.grad.to_dense(), copies)
    w = Parameter(torch.ones(4, 2))
    empty = torch.empty(1, 0, dtype=torch.long)
    w.grad = torch.sparse_coo_tensor(empty, torch.empty(0, 2), (4, 2), check_invariants=True)
    OPTIMIZERS[name]([w]).step()
    assert torch.equal(w, torch.ones(4, 2))


# --- differentiable steps ------------------------------------------------------------------------


def one_step(name, hyper, theta, g, lr, *accumulators):
    """The new parameter and the new accumulators as a function of everything else."""
    p = theta.clone()
    p.retain_grad()
    p.grad = g
    optimizer = OPTIMIZERS[name]([p], lr=lr, differentiable=True, **hyper)
    if accumulators or "t" in optimizer.hyper_names():
        optimizer.state[p] = dict(zip(optimizer.accumulators, accumulators, strict=True))
    if "t" in optimizer.hyper_names():
        optimizer.state[p]["step"] = torch.tensor(3.0)
    optimizer.step()
    return (p, *(optimizer.state[p][k] for k in optimizer.accumulators))


@every_rule
def test_gradcheck_through_a_step(name):
    generator = torch.Generator().manual_seed(0)
    rule = OPTIMIZERS[name]

    def draw(*shape, low=0.5):
        x = torch.rand(shape, dtype=torch.float64, generator=generator) + low
        return x.requires_grad_()

    accumulators = [draw(4) for _ in rule.accumulators]
    inputs = (draw(4), draw(4), draw(low=0.01), *accumulators)
    for hyper in ({"weight_decay": 0.1}, {"weight_decay": 0.0, "maximize": True}):
        assert torch.autograd.gradcheck(partial(one_step, name, hyper), inputs)


@every_rule
def test_meta_gradient_with_respect_to_the_learning_rate(name):
    """d loss(θ after 4 steps) / d lr, through every step, equals a central difference."""

    def end(lr):
        p = start(5).detach().clone().requires_grad_()
        q = p.clone()
        q.retain_grad()
        optimizer = OPTIMIZERS[name]([q], lr=lr, differentiable=True)
        for step in range(4):
            (g,) = torch.autograd.grad(loss(q, step), q, create_graph=True)
            q.grad = g
            optimizer.step()
        return loss(q, 4)

    lr = torch.tensor(0.02, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(end(lr), lr)
    with torch.no_grad():
        h = 1e-6
        with torch.enable_grad():
            difference = (end(lr.detach() + h) - end(lr.detach() - h)) / (2 * h)
    assert slope != 0
    torch.testing.assert_close(slope, difference.detach(), rtol=1e-5, atol=0)


# --- vmap, compile -------------------------------------------------------------------------------


@every_rule
def test_vmap_over_learning_rates_equals_the_loop_exactly(name):
    rule = OPTIMIZERS[name]
    defaults = rule([Parameter(torch.ones(1))]).defaults
    hyper = {k: defaults[k] for k in rule.kernel_names() if k != "lr"}

    first = start(8).detach()

    def run(lr: Tensor) -> Tensor:
        theta = first
        accumulators = [torch.zeros_like(theta) for _ in rule.accumulators]
        for step in range(30):
            g = torch.func.grad(lambda x, step=step: loss(x, step))(theta)
            t = {"t": step + 1.0} if "t" in rule.hyper_names() else {}
            theta, *accumulators = rule.update(theta, g, *accumulators, lr=lr, **hyper, **t)
        return theta

    rates = torch.logspace(-3, -1, 7, dtype=torch.float64)
    swept = torch.func.vmap(run)(rates)
    looped = torch.stack([run(lr) for lr in rates])
    assert torch.equal(swept, looped)
    assert len({x.item() for x in swept[:, 0]}) == 7


@every_rule
@pytest.mark.skipif(TORCH < (2, 6), reason="torch < 2.6 does not trace the hooks around a step")
def test_compiled_step_without_graph_breaks_and_without_recompiling(name):
    from torch._dynamo.testing import CompileCounter

    torch._dynamo.reset()
    params = [start(5), start(7)]
    twins = [start(5), start(7)]
    lr = torch.tensor(0.01)
    optimizer = OPTIMIZERS[name](params, lr=lr)
    reference = OPTIMIZERS[name](twins, lr=0.01)
    counter = CompileCounter()
    step = torch.compile(optimizer.step, fullgraph=True, backend=counter)
    for i in range(6):
        rate = 2.0 ** -(i + 5)
        lr.fill_(rate)
        reference.param_groups[0]["lr"] = rate
        for p, q in zip(params, twins, strict=True):
            p.grad, q.grad = torch.sin(p.detach() + i), torch.sin(q.detach() + i)
        step()
        reference.step()
    for p, q in zip(params, twins, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=0)
    assert not torch.equal(params[0], start(5))
    assert counter.frame_count <= 2  # with and without accumulators to be made


@pytest.mark.slow
@pytest.mark.skipif(TORCH < (2, 6), reason="torch < 2.6 does not trace the hooks around a step")
def test_compiled_step_with_inductor():
    torch._dynamo.reset()
    p, q = start(7), start(7)
    optimizer, reference = AdamW([p], lr=torch.tensor(0.01)), AdamW([q], lr=0.01)
    step = torch.compile(optimizer.step, fullgraph=True)
    for i in range(5):
        p.grad, q.grad = torch.sin(p.detach() + i), torch.sin(q.detach() + i)
        step()
        reference.step()
    torch.testing.assert_close(p, q, rtol=1e-8, atol=0)


def test_default_path_compiles_nothing_more_when_the_rate_changes():
    from dlnotes.optim import _kernel

    w = start()
    optimizer = AdamW([w], lr=0.1)
    for i in range(20):
        optimizer.param_groups[0]["lr"] = 0.1 / (i + 1)
        w.grad = torch.ones_like(w)
        optimizer.step()
        if i == 0:
            built = len(_kernel._built)
    assert len(_kernel._built) == built


# --- sharded -------------------------------------------------------------------------------------


def _net(dtype=torch.float64):
    torch.manual_seed(0)
    layers = torch.nn.Linear(6, 7), torch.nn.Tanh(), torch.nn.Linear(7, 3)
    return torch.nn.Sequential(*layers).to(dtype)


def _batch(step, rank, ranks=2):
    x = torch.randn(8, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(step))
    return x.chunk(ranks)[rank]


def _unsharded(name):
    net = _net()
    optimizer = OPTIMIZERS[name](net.parameters(), lr=0.02, weight_decay=0.01)
    for step in range(6):
        optimizer.zero_grad()
        (sum(net(_batch(step, r)).pow(2).mean() for r in range(2)) / 2).backward()
        optimizer.step()
    return [p.detach() for p in net.parameters()]


def _rank(rank: int, folder: str, kind: str) -> None:
    os.environ.update(GLOO_SOCKET_IFNAME="lo")
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/{kind}", rank=rank, world_size=2
    )
    for name in OPTIMIZERS:
        net = _net()
        if kind == "fsdp2":
            from torch.distributed.fsdp import fully_shard

            fully_shard(net)
            optimizer = OPTIMIZERS[name](net.parameters(), lr=0.02, weight_decay=0.01)
        else:
            from torch.distributed.optim import ZeroRedundancyOptimizer

            optimizer = ZeroRedundancyOptimizer(
                net.parameters(), optimizer_class=OPTIMIZERS[name], lr=0.02, weight_decay=0.01
            )
        for step in range(6):
            optimizer.zero_grad()
            net(_batch(step, rank)).pow(2).mean().backward()
            if kind == "zero":
                for p in net.parameters():
                    torch.distributed.all_reduce(p.grad)
                    p.grad /= 2
            optimizer.step()
        params = [p.full_tensor() if kind == "fsdp2" else p for p in net.parameters()]
        for p, q in zip(params, _unsharded(name), strict=True):
            torch.testing.assert_close(p.detach(), q, rtol=1e-12, atol=1e-15)
        if kind == "fsdp2":
            for state in optimizer.state.values():
                for key in optimizer.accumulators:
                    assert type(state[key]).__name__ == "DTensor"
    torch.distributed.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["fsdp2", "zero"])
def test_two_ranks_equal_the_unsharded_run(kind):
    if not (torch.distributed.is_available() and torch.distributed.is_gloo_available()):
        pytest.skip("this torch is built without gloo")
    if kind == "fsdp2" and TORCH < (2, 6):
        pytest.skip("fully_shard became public in torch 2.6")
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(_rank, args=(folder, kind), nprocs=2)


# --- drawn at random -----------------------------------------------------------------------------

HYPER = {
    "lr": st.floats(1e-4, 0.5),
    "beta": st.floats(1e-3, 0.999),
    "rho": st.floats(0.0, 0.999),
    "betas": st.tuples(st.floats(0.0, 0.99), st.floats(0.0, 0.9999)),
    "eps": st.floats(1e-8, 1e-2),
    "momentum_decay": st.floats(0.0, 0.5),
    "weight_decay": st.floats(0.0, 0.2),
    "maximize": st.booleans(),
}


@settings(max_examples=120, deadline=None)
@given(data=st.data(), name=st.sampled_from(list(OPTIMIZERS)))
def test_any_shapes_hyper_parameters_and_gradients_equal_torch(data, name):
    """Against torch in float64, gradients of any size that come and go."""
    oracle = ORACLES[name]
    keys = [k for k in oracle.rule([start()]).defaults if k in HYPER]
    if not oracle.climbs:  # torch's has no maximize in this version
        keys.remove("maximize")
    hyper = {k: data.draw(HYPER[k], label=k) for k in keys}
    shapes = st.lists(st.lists(st.integers(0, 5), max_size=3).map(tuple), min_size=1, max_size=5)
    shapes = data.draw(shapes, label="shapes")
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 999), label="seed"))
    params = [Parameter(torch.randn(s, dtype=torch.float64, generator=generator)) for s in shapes]
    twins = [Parameter(p.detach().clone()) for p in params]
    fused = data.draw(st.sampled_from([None, False]), label="fused")
    a = oracle.rule(params, **hyper, fused=fused)
    b = oracle.torch(twins, **oracle.mapped(**hyper))
    moved = [0.0] * len(params)
    for _ in range(data.draw(st.integers(1, 8), label="steps")):
        size = 10.0 ** data.draw(st.integers(-3, 3), label="size")
        for i, (p, q) in enumerate(zip(params, twins, strict=True)):
            present = data.draw(st.booleans(), label="gradient")
            g = size * torch.randn(p.shape, dtype=torch.float64, generator=generator)
            p.grad, q.grad = (g, g.clone()) if present else (None, None)
            moved[i] += present
        before = [q.detach().clone() for q in twins]
        a.step()
        b.step()
        for p, q, old in zip(params, twins, before, strict=True):
            step = (q - old).abs().max().item() if q.numel() else 0.0
            size_of_q = q.abs().max().item() if q.numel() else 0.0
            torch.testing.assert_close(p, q, rtol=1e-9, atol=1e-9 * step + 1e-13 * size_of_q)
    for p, n in zip(params, moved, strict=True):
        assert n or p not in a.state or not a.state[p]
