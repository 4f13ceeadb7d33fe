"""What torch checks of its own optimizers, for every rule, and what it does not."""

import copy
import io
import math
import pickle
import weakref

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import lr_scheduler
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

import dlnotes.kernel
from dlnotes.optim import OPTIMIZERS, Adam, Momentum, UpdateRule, _kernel, _native

TORCH = tuple(map(int, torch.__version__.split(".")[:2]))
CASES = list(OPTIMIZERS)
ADAPTIVE = [name for name in CASES if name not in ("gradient-descent", "momentum", "nesterov")]

every_rule = pytest.mark.parametrize("name", CASES)
every_path = pytest.mark.parametrize("fused", [None, False], ids=["default", "operations"])


def model(seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    torch.manual_seed(seed)
    net = torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))
    return net.to(dtype)


def backward(net: torch.nn.Module, step: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(16, 5, generator=generator).to(next(net.parameters()).dtype)
    loss = net(x).pow(2).mean() + net(x).sin().sum()
    loss.backward()
    return loss


def train(net, optimizer, steps, first=0):
    for step in range(first, first + steps):
        optimizer.zero_grad()
        backward(net, step)
        optimizer.step()


def same(a, b) -> bool:
    """Equal to the last bit, down through dicts and lists."""
    if isinstance(a, Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


# --- arguments -----------------------------------------------------------------------------------

BAD = {
    "lr": [-1.0, math.nan, math.inf, "fast", None, torch.ones(2)],
    "weight_decay": [-1e-3, math.nan, math.inf],
    "eps": [-1e-8, math.nan],
    "momentum_decay": [-0.1, math.nan, math.inf],
    "beta": [-0.1, 1.0, math.nan],
    "rho": [-0.1, 1.0],
    "betas": [(-0.1, 0.9), (0.9, 1.0), (0.9,), (0.9, 0.9, 0.9), 0.9, (math.nan, 0.9)],
}


@every_rule
def test_bad_hyper_parameters_raise_and_say_what_is_allowed(name):
    rule = OPTIMIZERS[name]
    known = {"maximize", "differentiable", "fused"}
    hyper = set(rule([Parameter(torch.ones(1))]).defaults) - known
    assert hyper <= BAD.keys()
    for argument in hyper:
        for value in BAD[argument]:
            with pytest.raises(ValueError, match=f"{argument} must be .*, got ") as error:
                rule([Parameter(torch.ones(1))], **{argument: value})
            assert repr(value) in str(error.value)
            with pytest.raises(ValueError, match=f"{argument} must be "):
                rule([{"params": [Parameter(torch.ones(1))], argument: value}])


@every_rule
def test_empty_and_duplicate_parameters_raise(name):
    w = Parameter(torch.ones(1))
    with pytest.raises(ValueError, match="empty parameter list"):
        OPTIMIZERS[name]([])
    with pytest.raises(ValueError, match="same parameter twice"):
        OPTIMIZERS[name]([w, w])
    with pytest.raises(ValueError, match="more than one parameter group"):
        OPTIMIZERS[name]([{"params": [w]}, {"params": [w]}])
    with pytest.raises(TypeError):
        OPTIMIZERS[name](w)
    with pytest.raises(TypeError):
        OPTIMIZERS[name](["w"])
    with pytest.raises(ValueError, match="non-leaf"):
        OPTIMIZERS[name]([w * 2])


@every_rule
def test_a_rejected_group_leaves_the_optimizer_as_it_was(name):
    w, u = Parameter(torch.ones(1)), Parameter(torch.ones(1))
    optimizer = OPTIMIZERS[name]([w])
    with pytest.raises(ValueError, match="twice"):
        optimizer.add_param_group({"params": [u, u]})
    with pytest.raises(ValueError, match="lr must be"):
        optimizer.add_param_group({"params": [u], "lr": -1})
    assert len(optimizer.param_groups) == 1


def test_fused_and_differentiable_exclude_each_other():
    with pytest.raises(ValueError, match="differentiable"):
        Adam([Parameter(torch.ones(1))], fused=True, differentiable=True)


@every_rule
def test_every_hyper_parameter_lives_in_param_groups(name):
    """A change there, as a scheduler makes it, is what counts; the constructor's value is not."""
    group = OPTIMIZERS[name]([Parameter(torch.ones(1))]).param_groups[0]
    for key in group.keys() - {"params", "maximize", "differentiable", "fused"}:
        nets = model(), model()
        new = (0.3, 0.6) if key == "betas" else 0.25
        built = OPTIMIZERS[name](nets[0].parameters(), **{key: new})
        changed = OPTIMIZERS[name](nets[1].parameters())
        changed.param_groups[0][key] = new
        for net, optimizer in zip(nets, (built, changed), strict=True):
            train(net, optimizer, 3)
        assert same(nets[0].state_dict(), nets[1].state_dict()), key


# --- gradients that are late or missing ----------------------------------------------------------


@every_path
@every_rule
def test_a_late_parameter_starts_where_it_starts(name, fused):
    """A parameter whose first gradient comes at step 10 moves as in an optimizer of its own."""
    early, late = Parameter(torch.ones(4)), Parameter(torch.ones(4))
    alone = Parameter(torch.ones(4))
    both = OPTIMIZERS[name]([early, late], lr=0.01, fused=fused)
    own = OPTIMIZERS[name]([alone], lr=0.01, fused=fused)
    for step in range(20):
        early.grad = torch.full_like(early, step + 1.0)
        late.grad = torch.full_like(late, step - 9.5) if step >= 10 else None
        both.step()
        if step < 10:
            assert torch.equal(late, torch.ones(4))
        else:
            alone.grad = late.grad.clone()
            own.step()
    assert torch.equal(late, alone)
    assert not torch.equal(early, late)


@every_path
@every_rule
def test_without_any_gradient_nothing_happens(name, fused):
    net = model()
    optimizer = OPTIMIZERS[name](net.parameters(), fused=fused)
    before = copy.deepcopy(net.state_dict())
    optimizer.step()
    assert same(net.state_dict(), before)
    assert not optimizer.state


@every_path
@every_rule
def test_zero_gradient_moves_nothing_from_rest(name, fused):
    w = Parameter(torch.tensor([1.0, -2.0, 0.0]))
    optimizer = OPTIMIZERS[name]([w], weight_decay=0.0, fused=fused)
    for _ in range(3):
        w.grad = torch.zeros_like(w)
        optimizer.step()
    assert torch.equal(w, torch.tensor([1.0, -2.0, 0.0]))


@every_rule
def test_momentum_goes_on_with_a_zero_gradient(name):
    w = Parameter(torch.ones(3))
    optimizer = OPTIMIZERS[name]([w], lr=0.1, weight_decay=0.0)
    w.grad = torch.ones(3)
    optimizer.step()
    before = w.detach().clone()
    w.grad = torch.zeros(3)
    optimizer.step()
    without = ("gradient-descent", "rmsprop", "adagrad", "adadelta")
    assert torch.equal(w, before) == (name in without)


@every_path
@every_rule
def test_gradient_is_left_alone(name, fused):
    for maximize in (False, True):
        net = model()
        optimizer = OPTIMIZERS[name](
            net.parameters(), weight_decay=0.1, maximize=maximize, fused=fused
        )
        for step in range(3):
            optimizer.zero_grad()
            backward(net, step)
            grads = [p.grad for p in net.parameters()]
            copies = [g.clone() for g in grads]
            versions = [g._version for g in grads]
            optimizer.step()
            assert all(p.grad is g for p, g in zip(net.parameters(), grads, strict=True))
            assert same([p.grad for p in net.parameters()], copies)
            assert [g._version for g in grads] == versions


@every_path
@every_rule
def test_maximize_is_descent_of_the_negative(name, fused):
    up, down = Parameter(torch.arange(4.0)), Parameter(torch.arange(4.0))
    ascent = OPTIMIZERS[name]([up], maximize=True, weight_decay=0.0, fused=fused)
    descent = OPTIMIZERS[name]([down], weight_decay=0.0, fused=fused)
    for step in range(5):
        up.grad = torch.sin(torch.arange(4.0) + step)
        down.grad = -up.grad
        ascent.step()
        descent.step()
    assert torch.equal(up, down)
    assert not torch.equal(up, torch.arange(4.0))


@every_path
@every_rule
def test_autograd_notices_a_step_between_forward_and_backward(name, fused):
    w = Parameter(torch.ones(3))
    optimizer = OPTIMIZERS[name]([w], fused=fused)
    for _ in range(2):  # the second step takes the short way
        loss = (w**2).sum()
        w.grad = torch.ones(3)
        optimizer.step()
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()


# --- closure, groups, names ----------------------------------------------------------------------


@every_rule
def test_closure_computes_gradients_and_its_loss_is_returned(name):
    net, twin = model(), model()
    optimizer = OPTIMIZERS[name](net.parameters())
    calls = []

    def closure():
        assert torch.is_grad_enabled()
        optimizer.zero_grad()
        calls.append(backward(net))
        return calls[-1]

    with torch.no_grad():
        assert optimizer.step(closure) is calls[0]
    train(twin, OPTIMIZERS[name](twin.parameters()), 1)
    assert same(net.state_dict(), twin.state_dict())
    assert optimizer.step() is None


@every_path
@every_rule
def test_groups_have_hyper_parameters_of_their_own(name, fused):
    net, first, second = model(), model(), model()
    grouped = OPTIMIZERS[name](
        [{"params": net[0].parameters()}], lr=0.01, weight_decay=0.0, fused=fused
    )
    grouped.add_param_group({"params": net[2].parameters(), "lr": 0.1, "weight_decay": 0.5})
    apart = [
        OPTIMIZERS[name](first[0].parameters(), lr=0.01, weight_decay=0.0, fused=fused),
        OPTIMIZERS[name](second[2].parameters(), lr=0.1, weight_decay=0.5, fused=fused),
    ]
    for step in range(4):
        generator = torch.Generator().manual_seed(step)
        for params in zip(net.parameters(), first.parameters(), second.parameters(), strict=True):
            g = torch.randn(params[0].shape, generator=generator)
            for p in params:
                p.grad = g.clone()
        for optimizer in (grouped, *apart):
            optimizer.step()
    assert same(net[0].state_dict(), first[0].state_dict())
    assert same(net[2].state_dict(), second[2].state_dict())


@every_rule
@pytest.mark.skipif(TORCH < (2, 6), reason="torch < 2.6 has no named parameters in optimizers")
def test_named_parameters(name):
    net, twin = model(), model()
    named = OPTIMIZERS[name](net.named_parameters())
    assert named.param_groups[0]["param_names"] == [n for n, _ in net.named_parameters()]
    train(net, named, 2)
    train(twin, OPTIMIZERS[name](twin.parameters()), 2)
    assert same(net.state_dict(), twin.state_dict())
    assert named.state_dict()["param_groups"][0]["param_names"][0] == "0.weight"


@every_rule
@pytest.mark.skipif(TORCH < (2, 6), reason="torch < 2.6 has no named parameters in optimizers")
def test_where_only_one_side_has_names_the_order_counts(name):
    net = model()
    named = OPTIMIZERS[name](net.named_parameters())
    unnamed = OPTIMIZERS[name](net.parameters())
    train(net, named, 2)
    unnamed.load_state_dict(named.state_dict())
    again = OPTIMIZERS[name](net.named_parameters())
    again.load_state_dict(unnamed.state_dict())
    for optimizer in (unnamed, again):
        for p in net.parameters():
            assert same(dict(optimizer.state[p]), dict(named.state[p]))


@every_rule
def test_parameters_may_be_exchanged_in_a_group(name):
    """Pruning and growing, as splatting does it: the short way must notice."""
    a, b, c = (Parameter(torch.ones(3)) for _ in range(3))
    optimizer = OPTIMIZERS[name]([a, b], lr=0.1)
    for _ in range(3):
        for p in (a, b, c):
            p.grad = torch.ones(3)
        optimizer.step()
    stopped = b.detach().clone()
    optimizer.state.pop(b, None)
    optimizer.param_groups[0]["params"] = [a, c]
    optimizer.step()
    assert torch.equal(b, stopped)
    once = Parameter(torch.ones(3))
    once.grad = torch.ones(3)
    OPTIMIZERS[name]([once], lr=0.1).step()
    assert torch.equal(c, once)


@every_path
@every_rule
def test_data_and_state_may_be_moved(name, fused):
    """Other memory behind a parameter or an accumulator between two steps is used, not the old."""
    net, twin = model(), model()
    optimizer = OPTIMIZERS[name](net.parameters(), fused=fused)
    reference = OPTIMIZERS[name](twin.parameters(), fused=fused)
    for step in range(6):
        train(net, optimizer, 1, step)
        train(twin, reference, 1, step)
        for p in net.parameters():
            p.data = p.data.clone()
            for key, value in optimizer.state.get(p, {}).items():
                optimizer.state[p][key] = value.clone()
            if optimizer.state.get(p):
                optimizer.state[p] = dict(optimizer.state[p])
    assert same(net.state_dict(), twin.state_dict())


def another(p, optimizer):
    p.grad = torch.linspace(-1, 1, 16).view(4, 4)


def another_of_the_same_object(p, optimizer):
    p.grad.data = torch.linspace(-1, 1, 16).view(4, 4)


def transposed_gradient(p, optimizer):
    p.grad = torch.linspace(-1, 1, 16).view(4, 4).t()


def gradient_transposed_where_it_is(p, optimizer):
    p.grad.data = p.grad.data.t()


def sparse_gradient(p, optimizer):
    p.grad = torch.eye(4).to_sparse(1)


def no_gradient(p, optimizer):
    p.grad = None


def transposed_where_it_is(p, optimizer):
    p.data = p.data.t()


def moved(p, optimizer):
    p.data = p.data + 1


def exchanged_within_its_storage(p, optimizer):
    p.set_(torch.linspace(0, 1, 16).view(4, 4).t())


def fewer_rows(p, optimizer):
    p.data = p.data[:2]
    p.grad = torch.ones(2, 4)
    optimizer.state.clear()


def other_shape(p, optimizer):
    p.data = p.data.view(2, 8)
    p.grad = torch.ones(2, 8)
    optimizer.state.clear()


def other_dtype(p, optimizer):
    p.data = p.data.double()
    p.grad = torch.ones(4, 4, dtype=torch.float64)
    optimizer.state.clear()


def frozen(p, optimizer):
    p.requires_grad_(False)


def accumulators_transposed_where_they_are(p, optimizer):
    state = optimizer.state.get(p, {})
    state.update({name: x.t() for name, x in state.items() if x.dim() == 2})


def other_accumulators(p, optimizer):
    state = optimizer.state.get(p, {})
    state.update({name: x + 1 for name, x in state.items()})


def another_state(p, optimizer):
    if p in optimizer.state:
        optimizer.state[p] = {name: x / 2 for name, x in optimizer.state[p].items()}


def swapped(p, optimizer):
    other = Parameter(torch.linspace(0, 1, 16).view(4, 4))
    other.grad = torch.ones(4, 4)
    p.grad = torch.ones(4, 4)
    torch.utils.swap_tensors(p, other)


def gradient_of_another_kind(p, optimizer):
    p.grad = torch._neg_view(torch.linspace(-1, 1, 16).view(4, 4))


CHANGES = [
    another,
    another_of_the_same_object,
    transposed_gradient,
    gradient_transposed_where_it_is,
    sparse_gradient,
    no_gradient,
    transposed_where_it_is,
    moved,
    exchanged_within_its_storage,
    fewer_rows,
    other_shape,
    other_dtype,
    frozen,
    accumulators_transposed_where_they_are,
    other_accumulators,
    another_state,
    swapped,
    gradient_of_another_kind,
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@every_rule
def test_what_changes_between_two_steps_is_noticed(name, change):
    """After equal steps the kernel's short way must see what no longer is as it was."""
    results = []
    for fused in (None, False):
        generator = torch.Generator().manual_seed(0)
        a, b = (Parameter(torch.randn(4, 4, generator=generator)) for _ in range(2))
        optimizer = OPTIMIZERS[name]([a, b], lr=0.1, fused=fused)
        for step in range(6):
            if step == 3:
                with torch.no_grad():
                    change(a, optimizer)
            else:
                for p in (a, b):
                    p.grad = torch.randn(p.shape, generator=generator).to(p.dtype)
            optimizer.step()
        results.append((a, b))
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def fewer_elements_in_the_gradient(p, optimizer):
    p.grad.data = torch.ones(2, 3)


def fewer_elements_in_the_parameter(p, optimizer):
    p.data = p.data[:3]


@every_path
@pytest.mark.parametrize("size", [16, 64])
@pytest.mark.parametrize(
    "change", [fewer_elements_in_the_gradient, fewer_elements_in_the_parameter]
)
@every_rule
def test_memory_of_others_is_not_touched(name, change, size, fused):
    """A gradient and a parameter that no longer fit together are an error, as torch's."""
    p = Parameter(torch.ones(4, size))
    optimizer = OPTIMIZERS[name]([p], fused=fused)
    for _ in range(3):
        p.grad = torch.ones_like(p)
        optimizer.step()
    whole = p.data
    change(p, optimizer)
    before = whole.clone()
    with pytest.raises(RuntimeError, match=r"size|shape"):
        optimizer.step()
    assert torch.equal(whole, before)


def broken_headers(monkeypatch):
    monkeypatch.setenv("CXX", "c++ -DTensorImpl=2")


def no_compiler(monkeypatch):
    monkeypatch.setenv("CXX", "/nonexistent/c++")


@pytest.mark.parametrize(
    ("missing", "reason"),
    [(no_compiler, r"no C\+\+ compiler.*\$CXX"), (broken_headers, r"c\+\+ failed")],
)
@every_rule
def test_without_the_quick_look_the_step_falls_back(name, missing, reason, monkeypatch, tmp_path):
    monkeypatch.setattr(_native, "_loaded", [])
    monkeypatch.setattr(dlnotes.kernel, "_warned", [])
    monkeypatch.setenv("DLNOTES_CACHE", str(tmp_path))
    missing(monkeypatch)
    net, twin = model(), model()
    optimizer = OPTIMIZERS[name](net.parameters())
    with pytest.warns(RuntimeWarning, match=reason) as warned:
        train(net, optimizer, 5)
    assert len(warned) == 1  # once in a process, in one line
    assert "\n" not in str(warned[0].message)
    train(twin, OPTIMIZERS[name](twin.parameters(), fused=False), 5)
    assert same(net.state_dict(), twin.state_dict())
    with pytest.raises(RuntimeError, match=reason):
        train(net, OPTIMIZERS[name](net.parameters(), fused=True), 1)


# --- learning rates ------------------------------------------------------------------------------


@every_path
@every_rule
def test_learning_rate_as_float_and_as_tensor(name, fused):
    nets = [model() for _ in range(3)]
    rates = [0.0078125, torch.tensor(0.0078125), torch.tensor([0.0078125], dtype=torch.float64)]
    for net, lr in zip(nets, rates, strict=True):
        train(net, OPTIMIZERS[name](net.parameters(), lr=lr, fused=fused), 4)
    assert same(nets[0].state_dict(), nets[1].state_dict())
    assert same(nets[0].state_dict(), nets[2].state_dict())


SCHEDULERS = {
    "LambdaLR": lambda o: lr_scheduler.LambdaLR(o, lambda t: 0.9**t),
    "MultiplicativeLR": lambda o: lr_scheduler.MultiplicativeLR(o, lambda t: 0.9),
    "StepLR": lambda o: lr_scheduler.StepLR(o, 2, 0.5),
    "MultiStepLR": lambda o: lr_scheduler.MultiStepLR(o, [2, 4]),
    "ConstantLR": lambda o: lr_scheduler.ConstantLR(o, total_iters=3),
    "LinearLR": lambda o: lr_scheduler.LinearLR(o, total_iters=4),
    "ExponentialLR": lambda o: lr_scheduler.ExponentialLR(o, 0.8),
    "PolynomialLR": lambda o: lr_scheduler.PolynomialLR(o, 8),
    "CosineAnnealingLR": lambda o: lr_scheduler.CosineAnnealingLR(o, 5),
    "CosineAnnealingWarmRestarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 3),
    "CyclicLR": lambda o: lr_scheduler.CyclicLR(o, 1e-3, 1e-2, 2, cycle_momentum=False),
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(o, 0.1, 10, cycle_momentum=False),
    "ReduceLROnPlateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=0),
    "SequentialLR": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.ConstantLR(o), lr_scheduler.ExponentialLR(o, 0.5)], [3]
    ),
    "ChainedScheduler": lambda o: lr_scheduler.ChainedScheduler(
        [lr_scheduler.ConstantLR(o), lr_scheduler.ExponentialLR(o, 0.5)]
    ),
}


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@every_rule
def test_schedulers(name, scheduler):
    """Steps under a scheduler are steps at the rates it sets."""
    w, twin = Parameter(torch.ones(3)), Parameter(torch.ones(3))
    optimizer, by_hand = OPTIMIZERS[name]([w], lr=0.01), OPTIMIZERS[name]([twin], lr=0.01)
    schedule = SCHEDULERS[scheduler](optimizer)
    rates = []
    for step in range(8):
        rates.append(optimizer.param_groups[0]["lr"])
        by_hand.param_groups[0]["lr"] = rates[-1]
        w.grad, twin.grad = torch.full((3,), step - 2.5), torch.full((3,), step - 2.5)
        optimizer.step()
        by_hand.step()
        schedule.step(1.0) if scheduler == "ReduceLROnPlateau" else schedule.step()
    assert len(set(rates)) > 1
    assert torch.equal(w, twin)


def test_schedulers_reach_all_of_torch():
    known = {n for n in lr_scheduler.__all__ if n not in ("LRScheduler", "SWALR")}
    assert known <= SCHEDULERS.keys()


# --- kinds of tensors ----------------------------------------------------------------------------


@every_path
@every_rule
def test_shapes_and_strides(name, fused):
    """Zero-dim, empty, transposed, strided and channels-last parameters move as flat ones do."""
    generator = torch.Generator().manual_seed(0)
    values = [
        torch.randn((), generator=generator),
        torch.empty(0),
        torch.randn(6, 4, generator=generator).t(),
        torch.randn(9, 6, generator=generator)[:, ::2],
        torch.randn(2, 3, 4, 5, generator=generator).to(memory_format=torch.channels_last),
        torch.randn(40000, generator=generator)[::2],
    ]
    starts = [v.clone() for v in values]
    params = [Parameter(v) for v in values]
    flat = [Parameter(v.clone().reshape(-1).contiguous()) for v in values]
    for p, v in zip(params, values, strict=True):
        assert p.stride() == v.stride()
    a = OPTIMIZERS[name](params, lr=0.1, fused=fused)
    b = OPTIMIZERS[name](flat, lr=0.1, fused=False)
    for _ in range(5):  # odd: Lion goes as far forth as back
        for p, q in zip(params, flat, strict=True):
            g = torch.randn(p.shape, generator=generator)
            p.grad, q.grad = g, g.reshape(-1).clone()
        a.step()
        b.step()
    for p, q, v, before in zip(params, flat, values, starts, strict=True):
        torch.testing.assert_close(p.reshape(-1), q, rtol=1e-5, atol=1e-6)
        assert p.data_ptr() == v.data_ptr()
        assert p.numel() == 0 or (p != before).double().mean() > 0.9


@every_path
@every_rule
def test_gradients_of_another_layout(name, fused):
    """Expanded, transposed and lazily negated gradients count with the values they show."""
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(1, dtype=torch.complex64, generator=generator)
    layouts = [
        torch.ones(()).expand(3, 3),
        torch.randn(3, 3, generator=generator).t(),
        z.conj().imag,
    ]
    assert layouts[2].is_neg()
    assert layouts[2].is_contiguous()
    params = [Parameter(torch.ones(g.shape)) for g in layouts]
    twins = [Parameter(torch.ones(g.shape)) for g in layouts]
    a = OPTIMIZERS[name](params, lr=0.1, fused=fused)
    b = OPTIMIZERS[name](twins, lr=0.1, fused=fused)
    for plain in (True, False):
        for p, q, g in zip(params, twins, layouts, strict=True):
            q.grad = torch.empty(g.shape).copy_(g)
            p.grad = q.grad.clone() if plain else g
        a.step()
        b.step()
    for p, q in zip(params, twins, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-6, atol=0)


@every_rule
def test_parameters_that_share_memory_are_updated_in_turn(name):
    storage = torch.ones(70_000)
    ties = [Parameter(storage), Parameter(storage)]
    assert ties[0].data_ptr() == ties[1].data_ptr()
    apart = Parameter(torch.ones(70_000))
    tied = OPTIMIZERS[name](ties, lr=0.125, weight_decay=0.0)
    once = [OPTIMIZERS[name]([apart], lr=0.125, weight_decay=0.0) for _ in range(2)]
    for _ in range(2):
        for p in (*ties, apart):
            p.grad = torch.ones(70_000)
        tied.step()
        for optimizer in once:
            optimizer.step()
    torch.testing.assert_close(ties[0], apart, rtol=1e-6, atol=0)


@every_path
@every_rule
def test_complex_is_its_real_view(name, fused):
    generator = torch.Generator().manual_seed(0)
    z = Parameter(torch.randn(5, dtype=torch.complex64, generator=generator))
    x = Parameter(torch.view_as_real(z.detach()).clone())
    a = OPTIMIZERS[name]([z], lr=0.1, weight_decay=0.1, fused=fused)
    b = OPTIMIZERS[name]([x], lr=0.1, weight_decay=0.1, fused=False)
    for step in range(4):
        g = torch.randn(5, dtype=torch.complex64, generator=generator)
        z.grad = g.conj() if step % 2 else g
        x.grad = torch.view_as_real(z.grad.resolve_conj()).clone()
        a.step()
        b.step()
    assert torch.equal(torch.view_as_real(z.detach()), x)


@every_path
@every_rule
def test_mixed_dtypes_in_one_group(name, fused):
    dtypes = [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.complex64]
    together = [Parameter(torch.ones(3, dtype=d)) for d in dtypes * 2]
    apart = [Parameter(torch.ones(3, dtype=d)) for d in dtypes * 2]
    optimizers = [OPTIMIZERS[name](together, lr=0.1, fused=fused)]
    optimizers += [OPTIMIZERS[name]([p], lr=0.1, fused=fused) for p in apart]
    for step in range(3):
        for p in together + apart:
            p.grad = torch.full_like(p, 0.5 + step)
        for optimizer in optimizers:
            optimizer.step()
    assert same(together, apart)
    assert not torch.equal(together[0], torch.ones(3))
    accumulated = optimizers[0].state.get(together[2], {})
    assert all(x.dtype == torch.bfloat16 for k, x in accumulated.items() if k != "step")


# --- saving and going on -------------------------------------------------------------------------


@every_path
@every_rule
def test_resumes_bit_for_bit_through_a_file(name, fused):
    """state_dict → file → weights_only load → new optimizer goes on as if nothing had happened."""
    net, twin = model(), model()
    optimizer = OPTIMIZERS[name](net.parameters(), lr=0.02, fused=fused)
    reference = OPTIMIZERS[name](twin.parameters(), lr=0.02, fused=fused)
    train(twin, reference, 12)
    train(net, optimizer, 5)
    file = io.BytesIO()
    torch.save({"net": net.state_dict(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    net = model(seed=1)
    optimizer = OPTIMIZERS[name](net.parameters(), lr=9.0)
    train(net, optimizer, 2)  # what it has done so far is to be forgotten
    net.load_state_dict(saved["net"])
    optimizer.load_state_dict(saved["optimizer"])
    train(net, optimizer, 7, first=5)
    assert same(net.state_dict(), twin.state_dict())
    assert same(optimizer.state_dict(), reference.state_dict())


@every_path
@every_rule
def test_loading_does_not_alias(name, fused):
    """The dict that was loaded stays what it was while the optimizer goes on (torch's changes)."""
    net = model()
    optimizer = OPTIMIZERS[name](net.parameters(), fused=fused)
    train(net, optimizer, 2)
    saved = optimizer.state_dict()
    before = copy.deepcopy(saved)
    other = OPTIMIZERS[name](model().parameters(), fused=fused)
    other_net = model()
    other = OPTIMIZERS[name](other_net.parameters(), fused=fused)
    other.load_state_dict(saved)
    train(other_net, other, 3)
    assert same(saved, before)
    assert same(optimizer.state_dict(), before)


@every_rule
def test_older_state_dicts(name):
    """Options that did not exist yet take their defaults, and a step may be a plain number."""
    net, twin = model(), model()
    optimizer = OPTIMIZERS[name](net.parameters())
    reference = OPTIMIZERS[name](twin.parameters())
    train(net, optimizer, 3)
    train(twin, reference, 3)
    old = copy.deepcopy(optimizer.state_dict())
    for group in old["param_groups"]:
        for key in ("maximize", "differentiable", "fused"):
            del group[key]
    for state in old["state"].values():
        if "step" in state:
            state["step"] = int(state["step"])
    optimizer.load_state_dict(old)
    train(net, optimizer, 3, first=3)
    train(twin, reference, 3, first=3)
    assert same(net.state_dict(), twin.state_dict())


@every_rule
def test_deepcopy_and_pickle_then_step(name):
    def go_on(copied):
        net, optimizer = copied
        train(net, optimizer, 3, first=3)
        return net.state_dict(), optimizer.state_dict()

    net = model()
    optimizer = OPTIMIZERS[name](net.parameters())
    train(net, optimizer, 3)
    copies = [copy.deepcopy((net, optimizer)), pickle.loads(pickle.dumps((net, optimizer)))]
    expected = go_on((net, optimizer))
    for copied in copies:
        assert copied[1].param_groups[0]["params"][0] is next(copied[0].parameters())
        assert same(go_on(copied), expected)


@every_path
@every_rule
def test_is_deterministic(name, fused):
    def run():
        torch.manual_seed(0)
        params = [Parameter(torch.randn(s)) for s in [(300, 400), (7,), (40_000,)]]
        optimizer = OPTIMIZERS[name](params, fused=fused)
        for _ in range(5):
            for p in params:
                p.grad = torch.randn_like(p)
            optimizer.step()
        return params

    first = run()
    threads = torch.get_num_threads()
    try:
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            assert same(run(), first)
    finally:
        torch.set_num_threads(threads)


@every_rule
def test_forgotten_gradients_are_freed(name):
    """The short way keeps no gradient alive after zero_grad."""
    w = Parameter(torch.ones(3))
    optimizer = OPTIMIZERS[name]([w])
    for _ in range(3):
        w.grad = torch.ones(3)
        optimizer.step()
    alive = weakref.ref(w.grad)
    optimizer.zero_grad()
    assert alive() is None


# --- hooks, scaler -------------------------------------------------------------------------------


@every_rule
def test_hooks(name):
    net = model()
    optimizer = OPTIMIZERS[name](net.parameters())
    seen = []
    handles = [
        optimizer.register_step_pre_hook(lambda o, args, kwargs: seen.append("pre")),
        optimizer.register_step_post_hook(lambda o, args, kwargs: seen.append("post")),
        optimizer.register_state_dict_post_hook(lambda o, d: seen.append("saved")),
        optimizer.register_load_state_dict_pre_hook(lambda o, d: seen.append("loading")),
        optimizer.register_load_state_dict_post_hook(lambda o: seen.append("loaded")),
    ]
    train(net, optimizer, 1)
    optimizer.load_state_dict(optimizer.state_dict())
    assert seen == ["pre", "post", "saved", "loading", "loaded"]
    for handle in handles:
        handle.remove()
    train(net, optimizer, 1)
    assert len(seen) == 5


@every_rule
def test_global_hooks(name):
    net = model()
    optimizer = OPTIMIZERS[name](net.parameters())
    seen = []
    handles = [
        register_optimizer_step_pre_hook(lambda *_: seen.append("pre")),
        register_optimizer_step_post_hook(lambda *_: seen.append("post")),
    ]
    train(net, optimizer, 1)
    for handle in handles:
        handle.remove()
    train(net, optimizer, 1)
    assert seen == ["pre", "post"]


@every_rule
def test_a_profile_shows_the_step(name):
    net = model()
    optimizer = OPTIMIZERS[name](net.parameters())
    with torch.profiler.profile() as profile:
        train(net, optimizer, 1)
    names = {event.key for event in profile.key_averages()}
    assert f"Optimizer.step#{type(optimizer).__name__}.step" in names


@every_rule
def test_grad_scaler_unscales_and_skips_a_step_on_infinity(name):
    if TORCH < (2, 3):
        pytest.skip("torch.amp.GradScaler for the CPU came with torch 2.3")
    net, twin = model(), model()
    optimizer = OPTIMIZERS[name](net.parameters())
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    scaler.scale(backward_loss(net)).backward()
    scaler.step(optimizer)
    scaler.update()
    train(twin, OPTIMIZERS[name](twin.parameters()), 1)
    assert same(net.state_dict(), twin.state_dict())  # 1024 is a power of 2: nothing is rounded
    before = copy.deepcopy((net.state_dict(), optimizer.state_dict()))
    next(net.parameters()).grad.fill_(math.inf)
    scaler.step(optimizer)
    scaler.update()
    assert same((net.state_dict(), optimizer.state_dict()), before)
    assert scaler.get_scale() == 512.0


def backward_loss(net):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(16, 5, generator=generator)
    return net(x).pow(2).mean() + net(x).sin().sum()


# --- paths ---------------------------------------------------------------------------------------


@every_rule
def test_fused_true_is_the_kernel_or_an_error(name):
    hyper = {"weight_decay": 0.0}
    w = Parameter(torch.ones(3))
    optimizer = OPTIMIZERS[name]([w], fused=True, **hyper)
    w.grad = torch.ones(3)
    group = {k: optimizer.param_groups[0][k] for k in optimizer.kernel_names()}
    reason = _kernel.build(OPTIMIZERS[name], torch.float32, False, group)
    if isinstance(reason, Exception):
        with pytest.raises(RuntimeError, match="no kernel"):
            optimizer.step()
        return
    optimizer.step()
    assert not torch.equal(w, torch.ones(3))
    good, bad = Parameter(torch.ones(3)), Parameter(torch.ones(3, 4)[:, ::2])
    optimizer = OPTIMIZERS[name]([good, bad], fused=True)
    good.grad, bad.grad = torch.ones(3), torch.ones(3, 2)
    with pytest.raises(RuntimeError, match=r"plain contiguous tensor.*\(3, 2\)"):
        optimizer.step()
    assert torch.equal(good, torch.ones(3))
    optimizer = OPTIMIZERS[name]([good, rows := Parameter(torch.ones(3, 2))], fused=True, **hyper)
    rows.grad = torch.ones(3, 2).to_sparse(1)
    with pytest.raises(RuntimeError, match=r"gradient of a parameter is sparse.*\(3, 2\)"):
        optimizer.step()
    assert torch.equal(good, torch.ones(3))


@every_rule
def test_without_a_compiler_the_step_falls_back(name, monkeypatch, tmp_path):
    monkeypatch.setattr(_kernel, "_built", {})
    monkeypatch.setenv("CC", "/nonexistent/cc")
    monkeypatch.setenv("DLNOTES_CACHE", str(tmp_path))
    monkeypatch.setattr(dlnotes.kernel, "_warned", [])
    net, twin = model(), model()
    with pytest.warns(RuntimeWarning, match="no C compiler"):
        train(net, OPTIMIZERS[name](net.parameters()), 5)
    assert all(isinstance(k, FileNotFoundError) for k in _kernel._built.values())
    assert _kernel._built
    train(twin, OPTIMIZERS[name](twin.parameters(), fused=False), 5)
    assert same(net.state_dict(), twin.state_dict())
    with pytest.raises(RuntimeError, match="no C compiler"):
        train(net, OPTIMIZERS[name](net.parameters(), fused=True), 1)


def test_a_broken_compiler_is_not_used(monkeypatch, tmp_path):
    """A library that computes something else is refused by the trial, whatever made it."""
    wrong = tmp_path / "cc"
    wrong.write_text(
        "#!/bin/sh\n"
        'for a; do case "$a" in *.c) sed -i "s/= v_theta - /= v_theta + /" "$a";; esac; done\n'
        'exec cc "$@"\n'
    )
    wrong.chmod(0o755)
    monkeypatch.setattr(_kernel, "_built", {})
    monkeypatch.setenv("CC", str(wrong))
    monkeypatch.setenv("DLNOTES_CACHE", str(tmp_path))
    reason = _kernel.build(Momentum, torch.float32, False, {"lr": 1, "beta": 1, "weight_decay": 0})
    assert isinstance(reason, RuntimeError)
    assert "the compiled Momentum differs from the plain one in theta" in str(reason)


def test_a_rule_that_is_not_arithmetic_still_works():
    class SignDescent(UpdateRule):
        @staticmethod
        def rule(theta, g, *, lr):
            return theta - lr * g.sign()

    w = Parameter(torch.zeros(3))
    w.grad = torch.tensor([2.0, -3.0, 0.0])
    SignDescent([w], lr=0.5, weight_decay=0.0).step()
    assert w.tolist() == [-0.5, 0.5, 0.0]


def test_a_rule_that_branches_is_not_compiled():
    class Warm(UpdateRule):
        @staticmethod
        def rule(theta, g, *, t, lr):
            return theta - lr * g if t > 2 else theta + 0 * g

    w = Parameter(torch.zeros(3))
    optimizer = Warm([w], lr=1.0, weight_decay=0.0)
    seen = []
    for _ in range(4):
        w.grad = torch.ones(3)
        optimizer.step()
        seen.append(w[0].item())
    assert seen == [0.0, 0.0, -1.0, -2.0]


class Own(Parameter):
    """A type that may have operations of its own."""


@every_path
@every_rule
def test_parameters_of_another_type_beside_plain_ones(name, fused):
    def trained(kinds):
        net = model()
        layers = [net[0].weight, net[0].bias, net[2].weight, net[2].bias]
        for p, kind in zip(layers, kinds, strict=True):
            owner = net[0] if any(p is x for x in net[0].parameters()) else net[2]
            setattr(owner, "weight" if p.dim() == 2 else "bias", kind(p.detach()))
        train(net, OPTIMIZERS[name](net.parameters(), fused=fused), 4)
        return net

    plain = trained([Parameter] * 4)
    for kinds in ([Parameter, Own, Parameter, Own], [Own, Own, Own, Parameter], [Own] * 4):
        mixed = trained(kinds)
        assert [type(p) for p in mixed.parameters()] == kinds
        for p, q in zip(mixed.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(p.detach(), q.detach(), rtol=1e-5, atol=1e-7)
    optimizer = OPTIMIZERS[name](mixed.parameters(), fused=True)
    backward(mixed)
    with pytest.raises(RuntimeError, match="fused=True, but a parameter"):
        optimizer.step()
