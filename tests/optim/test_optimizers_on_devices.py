"""Every rule on a device against its plain step on the CPU, in float64."""

import contextlib
import copy
import math

import pytest
import torch
from torch.nn import Parameter

from dlnotes.optim import OPTIMIZERS, _plain, clip_grad_norm_, clip_grad_value_
from dlnotes.oracles.optimizers import ORACLES, loss, start

every_rule = pytest.mark.parametrize("name", OPTIMIZERS)
SHAPES = [(23,), (6, 4), (1,), (40, 30), (20_000,)]
CLOSE = {"rtol": 1e-10, "atol": 1e-13}


def stepped(name, device, steps=25, lr=None, dtype=torch.float64, least=None, **options):
    """Parameters of several shapes after some steps, on the CPU, and the optimizer.

    With ``least``, the size of gradients is at least that, and they are positive.
    """
    hyper = ORACLES[name].grid[0]
    params = [
        Parameter(start(math.prod(shape), dtype).detach().view(shape).to(device))
        for shape in SHAPES
    ]
    optimizer = OPTIMIZERS[name](params, **{**hyper, "lr": lr or hyper["lr"]}, **options)
    advance(optimizer, params, range(steps), least)
    return [p.detach().cpu() for p in params], optimizer


def advance(optimizer, params, steps, least=None):
    for step in steps:
        optimizer.zero_grad()
        for p in params:
            loss(p.flatten(), step).backward()
            if least:
                p.grad.abs_().clamp_(min=least)
        optimizer.step()


@every_rule
@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.05}, {"maximize": True}], ids=str)
def test_a_trajectory_is_that_of_the_plain_step_on_the_cpu(name, options, device):
    found, optimizer = stepped(name, device, 8, **options)
    expected, _ = stepped(name, "cpu", 8, fused=False, **options)
    torch.testing.assert_close(found, expected, **CLOSE)
    for p, state in optimizer.state.items():
        for key, value in state.items():
            # As torch's: to read the number of the step then never waits for a GPU.
            assert value.device.type == ("cpu" if key == "step" else p.device.type)


@every_rule
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
def test_lower_precision_is_rounded_as_on_the_cpu(name, dtype, device):
    """Away from 0: there a rounding decides whether √v is 0, and which sign a momentum has."""
    found, expected = (
        stepped(name, place, 3, dtype=dtype, least=0.5, **options)[0]
        for place, options in ((device, {}), ("cpu", {"fused": False}))
    )
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(found, expected, rtol=4 * eps, atol=4 * eps)


@every_rule
def test_sparse_rows_move_as_a_dense_table_of_these_rows(name, device):
    rows = torch.tensor([5, 2, 5, 9, 2, 5])
    places = torch.unique(rows)
    table = torch.linspace(1, 3, 36, dtype=torch.float64).view(12, 3)
    large, small = Parameter(table.to(device)), Parameter(table[places])
    hyper = ORACLES[name].grid[0]
    optimizers = OPTIMIZERS[name]([large], **hyper), OPTIMIZERS[name]([small], fused=False, **hyper)
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        values = torch.randn(len(rows), 3, generator=generator, dtype=torch.float64)
        large.grad = torch.sparse_coo_tensor(rows[None], values, (12, 3)).to(device)
        assert not large.grad.is_coalesced()
        small.grad = torch.zeros(12, 3, dtype=torch.float64).index_add(0, rows, values)[places]
        for optimizer in optimizers:
            optimizer.step()
    expected = table.clone()
    expected[places] = small.detach()
    torch.testing.assert_close(large.detach().cpu(), expected, **CLOSE)
    assert torch.equal(large.detach().cpu()[0], table[0])


@every_rule
@pytest.mark.parametrize("clip", [None, 0.7])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", [(12,), (12, 3), (12, 3, 2)], ids=str)
def test_rows_are_added_up_without_counting_them(name, clip, dtype, shape, device, monkeypatch):
    """As on CUDA, where to count them is to wait: equal to coalesced rows on the CPU, bit for bit."""
    rows = torch.tensor([5, 2, 5, 9, 2, 5, 11, 0])
    made = []
    for place, waits in ((device, True), (torch.device("cpu"), False)):
        if device.type == "cpu":
            monkeypatch.setattr(_plain, "_waits", lambda g, w=waits: w and not g.is_coalesced())
        p = Parameter(torch.linspace(1, 3, math.prod(shape)).view(shape).to(place, dtype))
        optimizer = OPTIMIZERS[name]([p], fused=False, **ORACLES[name].grid[0])
        generator = torch.Generator().manual_seed(0)
        for _ in range(4):
            values = torch.randn(len(rows), *shape[1:], generator=generator, dtype=torch.float64)
            p.grad = torch.sparse_coo_tensor(rows[None], values.to(dtype), shape).to(place)
            whole = p.grad.to_dense()
            if clip:
                clip_grad_norm_([p], clip)
                assert not torch.equal(p.grad.to_dense(), whole)
            optimizer.step()
        made.append(p.detach().cpu())
    if device.type == "cpu" and not clip:
        assert torch.equal(*made)
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(*made, rtol=8 * eps, atol=8 * eps)


@every_rule
@pytest.mark.parametrize("most", [1, 300, 10**9])
def test_large_parameters_share_buffers_on_a_gpu(name, most, device, monkeypatch):
    """The CPU joins small ones alone; with the limits of a GPU its numbers are the same."""
    expected, _ = stepped(name, "cpu", 4, fused=False)
    joined = []
    flat = _plain._step_flat

    def noted(rows, counts, update):
        joined.append([row[0].numel() for row in rows])
        return flat(rows, counts, update)

    monkeypatch.setattr(_plain, "_step_flat", noted)
    monkeypatch.setattr(_plain, "BUFFER_ELSEWHERE", most)
    if device.type == "cpu":
        monkeypatch.setattr(_plain, "_limits", lambda place: (10**6, most))
    found, _ = stepped(name, device, 4, fused=False)
    torch.testing.assert_close(found, expected, **CLOSE)
    sizes = [math.prod(shape) for shape in SHAPES]
    cut = {1: [[n] for n in sizes], 300: [sizes[:3], *([n] for n in sizes[3:])], 10**9: [sizes]}
    if joined:  # none of a rule that is not elementwise
        assert joined == 4 * cut[most]
    assert bool(joined) == (name not in ("muon",))


def _as_default(device):
    torch.set_default_device(device)
    return contextlib.ExitStack()


def _in_double(device):
    torch.set_default_dtype(torch.float64)
    return contextlib.ExitStack()


CONTEXTS = {
    "default device": _as_default,
    "with device": lambda device: device,
    "default dtype": _in_double,
    "no_grad": lambda device: torch.no_grad(),
    "inference mode": lambda device: torch.inference_mode(),
    "autocast": lambda device: torch.autocast(device.type, torch.bfloat16),
}


@every_rule
@pytest.mark.parametrize("context", CONTEXTS)
def test_what_surrounds_a_step_changes_nothing(name, context, device):
    expected, _ = stepped(name, "cpu", 3, fused=False)
    params = [Parameter(start(math.prod(s)).detach().view(s).to(device)) for s in SHAPES]
    optimizer = OPTIMIZERS[name](params, **ORACLES[name].grid[0])
    before = torch.get_default_dtype()
    try:
        for step in range(3):
            optimizer.zero_grad()
            for p in params:
                loss(p.flatten(), step).backward()
            with CONTEXTS[context](device):
                optimizer.step()
            torch.set_default_device(None)
            torch.set_default_dtype(before)
    finally:
        torch.set_default_device(None)
        torch.set_default_dtype(before)
    torch.testing.assert_close([p.detach().cpu() for p in params], expected, **CLOSE)


@every_rule
def test_a_learning_rate_may_be_a_tensor_on_the_device(name, device):
    lr = ORACLES[name].grid[0]["lr"]
    found, _ = stepped(name, device, 3, lr=torch.tensor(lr, dtype=torch.float64, device=device))
    expected, _ = stepped(name, "cpu", 3, fused=False)
    torch.testing.assert_close(found, expected, **CLOSE)


@every_rule
def test_a_state_goes_on_on_another_device(name, device):
    """From the CPU to the device and back."""
    expected, _ = stepped(name, "cpu", 9, fused=False)
    params, optimizer = stepped(name, "cpu", 3)
    for place, steps in ((device, range(3, 6)), ("cpu", range(6, 9))):
        moved = [Parameter(p.to(place)) for p in params]
        other = OPTIMIZERS[name](moved, **ORACLES[name].grid[0])
        other.load_state_dict(optimizer.state_dict())
        advance(other, moved, steps)
        params, optimizer = [p.detach().cpu() for p in moved], other
    torch.testing.assert_close(params, expected, **CLOSE)


@every_rule
def test_parameters_of_two_devices_in_one_group(name, device):
    here, there = (Parameter(start().detach().to(place)) for place in ("cpu", device))
    alone = Parameter(start().detach())
    both = OPTIMIZERS[name]([here, there], **ORACLES[name].grid[0])
    single = OPTIMIZERS[name]([alone], fused=False, **ORACLES[name].grid[0])
    advance(both, [here, there], range(4))
    advance(single, [alone], range(4))
    for p in (here, there):
        torch.testing.assert_close(p.detach().cpu(), alone.detach(), **CLOSE)


@every_rule
def test_a_grad_scaler_skips_a_step_on_infinity(name, device):
    p = Parameter(start().detach().float().to(device))
    optimizer = OPTIMIZERS[name]([p], **ORACLES[name].grid[0])
    scaler = torch.amp.GradScaler(device.type, init_scale=1024.0)
    scaler.scale(loss(p, 0)).backward()
    scaler.step(optimizer)
    scaler.update()
    before = copy.deepcopy((p.detach(), optimizer.state_dict()["state"]))
    assert not torch.equal(before[0].cpu(), start().detach().float())
    p.grad.fill_(math.inf)
    scaler.step(optimizer)
    scaler.update()
    torch.testing.assert_close(
        (p.detach(), optimizer.state_dict()["state"]), before, rtol=0, atol=0
    )
    assert scaler.get_scale() == 512.0


@pytest.mark.parametrize("norm_type", [1.0, 2.0, math.inf])
def test_clipping_is_that_of_torch(norm_type, device):
    grads = [torch.linspace(-3, 5, math.prod(s), dtype=torch.float64).view(s) for s in SHAPES]
    found, expected = (
        [Parameter(torch.zeros_like(g, device=place)) for g in grads] for place in (device, "cpu")
    )
    for params in (found, expected):
        for p, g in zip(params, grads, strict=True):
            p.grad = g.clone().to(p.device)
    norm = clip_grad_norm_(found, 0.7, norm_type)
    torch.testing.assert_close(
        norm.cpu(), torch.nn.utils.clip_grad_norm_(expected, 0.7, norm_type), **CLOSE
    )
    clip_grad_value_(found, 1e-3)
    torch.nn.utils.clip_grad_value_(expected, 1e-3)
    for p, q in zip(found, expected, strict=True):
        torch.testing.assert_close(p.grad.cpu(), q.grad, **CLOSE)


@every_rule
def test_a_kernel_may_be_forced(name, device):
    if name == "muon":  # it is not elementwise
        with pytest.raises(RuntimeError, match="fused=True, but there is no kernel: "):
            stepped(name, device, 1, fused=True)
        return
    found, _ = stepped(name, device, 4, fused=True)
    expected, _ = stepped(name, "cpu", 4, fused=False)
    torch.testing.assert_close(found, expected, **CLOSE)


def test_no_kernel_is_forced_on_a_device_without_one():
    p = Parameter(torch.ones(3, device="meta"))
    p.grad = torch.ones_like(p)
    with pytest.raises(RuntimeError, match="not on the CPU or a CUDA device"):
        OPTIMIZERS["adam"]([p], fused=True).step()


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@every_rule
def test_a_cuda_graph_replays_the_rules_that_count_no_steps(name):
    p = Parameter(start().detach().cuda())
    optimizer = OPTIMIZERS[name]([p], **ORACLES[name].grid[0])
    p.grad = torch.ones_like(p)
    optimizer.step()  # makes the state
    graph = torch.cuda.CUDAGraph()
    if "t" in OPTIMIZERS[name].hyper_names():
        with pytest.raises(RuntimeError, match="cannot be captured"), torch.cuda.graph(graph):
            optimizer.step()
        return
    with torch.cuda.graph(graph):
        optimizer.step()
    twin = Parameter(start().detach())
    plain = OPTIMIZERS[name]([twin], fused=False, **ORACLES[name].grid[0])
    twin.grad = torch.ones_like(twin)
    plain.step()
    for _ in range(3):
        graph.replay()
        plain.step()
    torch.testing.assert_close(p.detach().cpu(), twin.detach(), **CLOSE)
