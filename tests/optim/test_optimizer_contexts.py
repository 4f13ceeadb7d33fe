"""Steps in unusual contexts, in processes of their own (``hostile_contexts.py``), and arguments."""

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import Parameter

from dlnotes.optim import (
    OPTIMIZERS,
    Adam,
    GradientDescent,
    Momentum,
    RMSProp,
    UpdateRule,
    _kernel,
    _native,
)

every_rule = pytest.mark.parametrize("name", OPTIMIZERS)
every_path = pytest.mark.parametrize("fused", [None, False])


def hostile(part, parts):
    program = Path(__file__).with_name("hostile_contexts.py")
    done = subprocess.run(
        [sys.executable, str(program), str(part), str(parts)],
        capture_output=True,
        text=True,
        check=False,
        env={
            **os.environ,
            "OMP_WAIT_POLICY": "PASSIVE",
            "PYTHONPATH": os.pathsep.join(sys.path),
        },
    )
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert done.returncode == 0, done.stderr[-2000:]
    failed = [line for line in lines if "error" in line]
    assert not failed, "\n".join(f"{line['cell']}: {line['error']}" for line in failed[:3])
    return lines[-1]["cells"]


def test_some_hostile_contexts():
    assert hostile(3, 17) > 40  # with each mode and each device at a first step


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("part", range(2))
def test_all_hostile_contexts(part):
    assert hostile(part, 2) > 300


# --- what a step leaves behind -------------------------------------------------------------------


@every_path
@pytest.mark.parametrize("ambient", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_steps_are_counted_whatever_the_default_dtype_is(ambient, fused):
    """bfloat16 and float16 would stop at 256 and 2,048."""
    ends = []
    for default in (torch.float32, ambient):
        p = Parameter(torch.ones(3, dtype=torch.float32))
        torch.set_default_dtype(default)
        try:
            optimizer = Adam([p], lr=1e-4, fused=fused)
            for _ in range(2100):
                p.grad = torch.ones(3, dtype=torch.float32)
                optimizer.step()
            optimizer.load_state_dict(optimizer.state_dict())
        finally:
            torch.set_default_dtype(torch.float32)
        step = optimizer.state[p]["step"]
        assert (step.item(), step.dtype, step.device.type) == (2100, torch.float32, "cpu")
        ends.append(p.detach())
    assert torch.equal(*ends)


@every_rule
def test_a_first_step_in_inference_mode_can_be_followed_by_one_outside(name):
    p, q = Parameter(torch.ones(3)), Parameter(torch.ones(3))
    optimizer, reference = (OPTIMIZERS[name]([x], lr=0.1) for x in (p, q))
    for k in range(4):
        p.grad, q.grad = torch.ones(3), torch.ones(3)
        if k % 2:
            optimizer.step()
        else:
            with torch.inference_mode():
                optimizer.step()
                optimizer.load_state_dict(optimizer.state_dict())
        reference.step()
    assert torch.equal(p, q)


@every_rule
def test_a_trace_has_the_step(name):
    """make_fx records the update; running the graph moves the parameter again."""
    p, q = Parameter(torch.ones(3)), Parameter(torch.ones(3))
    optimizer, reference = (OPTIMIZERS[name]([x], lr=0.1) for x in (p, q))

    def step(g):
        p.grad = g
        optimizer.step()
        return p.detach().clone()

    for _ in range(2):
        step(torch.ones(3))
    graph = make_fx(step)(torch.ones(3))
    operations = {node.target for node in graph.graph.nodes}
    assert torch.ops.aten.copy_.default in operations
    before = p.detach().clone()
    with torch.no_grad():
        graph(torch.ones(3))
    assert not torch.equal(p, before)
    for _ in range(4):
        q.grad = torch.ones(3)
        reference.step()
    torch.testing.assert_close(p, q, rtol=1e-6, atol=0)


@pytest.mark.skipif(
    tuple(map(int, torch.__version__.split(".")[:2])) < (2, 6),
    reason="torch < 2.6 does not trace the hooks around a step",
)
def test_all_rules_can_be_compiled_in_one_process():
    """torch.compile has a limit of recompilations for one code object."""
    torch._dynamo.reset()
    for rule in OPTIMIZERS.values():
        p, q = Parameter(torch.ones(3)), Parameter(torch.ones(3))
        compiled, plain = rule([p], lr=torch.tensor(0.1)), rule([q], lr=0.1)
        step = torch.compile(compiled.step, fullgraph=True, backend="eager")
        for _ in range(3):
            p.grad, q.grad = torch.ones(3), torch.ones(3)
            step()
            plain.step()
        torch.testing.assert_close(p, q, rtol=1e-5, atol=0)


# --- arguments -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "arguments", "meant"),
    [
        (Adam, {"weigth_decay": 0.1}, "weight_decay"),
        (Adam, {"beta": (0.9, 0.99)}, "betas"),
        (Momentum, {"momentum": 0.99}, None),
        (RMSProp, {"alpha": 0.9}, None),
        (Adam, {"amsgrad": True}, None),
        (GradientDescent, {"foreach": True}, None),
        (GradientDescent, {"learning_rate": 0.1}, None),
        (Adam, {"t": 3}, None),
    ],
)
def test_unknown_arguments_are_refused(rule, arguments, meant):
    (name,) = arguments
    with pytest.raises(TypeError, match=f"{rule.__name__}.*unexpected.*{name!r}") as error:
        rule([Parameter(torch.ones(1))], **arguments)
    assert "it takes lr, " in str(error.value)
    assert (f"did you mean {meant!r}" in str(error.value)) == (meant is not None)


def test_a_slip_in_a_group_is_said_and_other_entries_are_not():
    p = Parameter(torch.ones(1))
    with pytest.warns(UserWarning, match="^Adam does not know 'weigth_decay'.*'weight_decay'"):
        Adam([{"params": [p], "weigth_decay": 0.1}])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Adam([{"params": [p], "name": "head", "initial_lr": 0.1, "max_lr": 1.0, "swa_lr": 0.1}])


@pytest.mark.parametrize(
    ("arguments", "allowed"),
    [
        ({"lr": "1e-3"}, "a finite number >= 0"),
        ({"lr": True}, "a finite number >= 0"),
        ({"lr": [0.1]}, "a finite number >= 0"),
        ({"lr": 1j}, "a finite number >= 0"),
        ({"lr": torch.tensor(1j)}, "a finite number >= 0"),
        ({"lr": torch.tensor(True)}, "a finite number >= 0"),
        ({"eps": "1e-8"}, "a finite number >= 0"),
        ({"betas": (0.9, "0.99")}, r"two numbers in \[0, 1\)"),
        ({"betas": "99"}, r"two numbers in \[0, 1\)"),
        ({"maximize": "no"}, "True or False"),
        ({"maximize": 1}, "True or False"),
        ({"fused": "yes"}, "True, False or None"),
    ],
    ids=str,
)
def test_what_is_no_number_is_refused(arguments, allowed):
    (name,) = arguments
    with pytest.raises(ValueError, match=f"{name} must be {allowed}, got "):
        Adam([Parameter(torch.ones(1))], **arguments)


def test_numbers_of_numpy_are_numbers():
    p, q = Parameter(torch.ones(3)), Parameter(torch.ones(3))
    hyper = {"lr": np.float64(0.25), "betas": (np.float64(0.5), 0.75), "eps": np.float32(0.5)}
    optimizers = Adam([p], **hyper), Adam([q], lr=0.25, betas=(0.5, 0.75), eps=0.5)
    for _ in range(3):
        p.grad, q.grad = torch.ones(3), torch.ones(3)
        for optimizer in optimizers:
            optimizer.step()
    assert torch.equal(p, q)


# --- rules of the user's own ---------------------------------------------------------------------


class Normalized(UpdateRule):
    """A step of length α in each parameter: not elementwise, and does not say so."""

    @staticmethod
    def rule(theta, g, *, lr):
        return theta - lr * g / g.norm()


@every_path
@pytest.mark.parametrize("n", [2, 100_000])
def test_a_rule_that_is_not_elementwise_sees_whole_parameters(n, fused):
    params = [Parameter(torch.zeros(n)) for _ in range(2)]
    for k, p in enumerate(params):
        p.grad = torch.full((n,), k + 1.0)
    Normalized(params, lr=1.0, fused=fused).step()
    for p in params:
        assert p.double().norm().item() == pytest.approx(1.0, abs=1e-3)


def test_a_rule_that_is_not_elementwise_sees_whole_sparse_gradients():
    class Centered(UpdateRule):
        @staticmethod
        def rule(theta, g, *, lr):
            return theta - lr * (g - g.mean())

    p = Parameter(torch.zeros(4, 2))
    p.grad = torch.sparse_coo_tensor([[1]], torch.ones(1, 2), (4, 2), check_invariants=True)
    Centered([p], lr=1.0).step()
    expected = torch.tensor([[0.25, 0.25], [-0.75, -0.75], [0.25, 0.25], [0.25, 0.25]])
    assert torch.equal(p.detach(), expected)


def test_a_rule_may_say_that_it_is_elementwise_or_not():
    seen = []

    class Signed(UpdateRule):
        elementwise = True

        @staticmethod
        def rule(theta, g, *, lr):
            seen.append(tuple(g.shape))
            return theta - lr * g.sign()

    class Whole(Signed):
        elementwise = False

    params = [Parameter(torch.zeros(2)), Parameter(torch.zeros(3))]
    for p in params:
        p.grad = torch.ones_like(p)
    Signed(params, lr=1.0).step()
    assert (5,) in seen  # joined
    seen.clear()
    Whole(params, lr=1.0).step()
    assert seen == [(2,), (3,)]


@every_path
def test_hyper_parameters_of_any_kind(fused):
    class Own(UpdateRule):
        @staticmethod
        def rule(theta, g, *, lr, mode, scale=2.0, weights=(1.0, 2.0, 3.0), flag=False):
            g = scale * g * weights[2]
            if flag:
                g = g + 1
            return theta - lr * g if mode == "down" else theta + lr * g

    def moved(**hyper):
        p = Parameter(torch.zeros(2))
        p.grad = torch.ones(2)
        Own([p], lr=0.5, fused=fused, **hyper).step()  # without weight_decay, too
        return p[0].item()

    assert moved(mode="down") == -3.0
    assert moved(mode="up") == 3.0
    assert moved(mode="up", scale=1.0, weights=(0, 0, 1)) == 0.5
    assert moved(mode="up", flag=True) == 3.5
    assert moved(mode="down", weight_decay=0.5) == -3.0
    with pytest.raises(TypeError, match="misses the argument 'mode'"):
        moved()


def test_whole_numbers_and_flags_arrive_as_such():
    seen = []

    class Repeated(UpdateRule):
        elementwise = True

        @staticmethod
        def rule(theta, g, *, lr, times, flag):
            seen.append((times, flag))
            return theta - lr * g

    p = Parameter(torch.ones(1))
    p.grad = torch.ones(1)
    Repeated([p], lr=1, times=2, flag=True, fused=False).step()
    assert [tuple(map(type, each)) for each in seen] == [(int, bool)]


@pytest.mark.parametrize("options", [{}, {"fused": False}, {"differentiable": True}], ids=str)
@pytest.mark.parametrize("kind", ["small", "large", "sparse"])
def test_a_rule_that_forgets_an_accumulator_is_an_error(kind, options):
    class Forgetful(UpdateRule):
        accumulators = ("m",)
        elementwise = True

        @staticmethod
        def rule(theta, g, m, *, lr):
            return theta - lr * (m + g)

    p = torch.zeros(1 << 17 if kind == "large" else 4, 1)
    p.grad = torch.ones_like(p)
    if kind == "sparse":
        p.grad = p.grad.to_sparse(1)
    with pytest.raises(ValueError, match="shorter"):
        Forgetful([p], lr=1.0, **options).step()


def test_a_replaced_rule_is_used(monkeypatch):
    """What has been compiled belongs to a function, not to a class."""

    class Replaced(UpdateRule):
        @staticmethod
        def rule(theta, g, *, lr):
            return theta - lr * g

    p = Parameter(torch.zeros(2))
    optimizer = Replaced([p], lr=1.0)
    for expected in (-1.0, 0.0):
        p.grad = torch.ones(2)
        optimizer.step()
        assert p[0].item() == expected
        monkeypatch.setattr(Replaced, "rule", staticmethod(lambda theta, g, *, lr: theta + lr * g))


# --- states of others ----------------------------------------------------------------------------


def stepped(rule, *params, **hyper):
    params = params or (Parameter(torch.ones(3)),)
    optimizer = rule(list(params), **hyper)
    for p in params:
        p.grad = torch.ones_like(p)
    optimizer.step()
    return optimizer


@pytest.mark.parametrize(
    ("rule", "other"),
    [
        (Adam, torch.optim.Adam),
        (Adam, Momentum),
        (Adam, GradientDescent),
        (RMSProp, Momentum),
        (RMSProp, torch.optim.RMSprop),
        (GradientDescent, Momentum),
        (Momentum, lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9)),
    ],
)
def test_a_state_of_another_rule_is_refused(rule, other):
    optimizer = stepped(rule)
    before = str(optimizer.state_dict())
    with pytest.raises(ValueError, match=f"not a state of {rule.__name__}: .*from_torch") as error:
        optimizer.load_state_dict(stepped(other).state_dict())
    assert "\n" not in str(error.value)
    assert str(optimizer.state_dict()) == before


def test_what_is_refused_is_said_beside_what_was_expected():
    for rule, other, message in (
        (Adam, torch.optim.Adam, "it has step, exp_avg, exp_avg_sq, and Adam has m, v, step; "),
        (GradientDescent, Momentum, "it has V, and GradientDescent has none; "),
    ):
        with pytest.raises(ValueError, match=message):
            stepped(rule).load_state_dict(stepped(other).state_dict())


def test_a_state_of_another_shape_is_refused():
    optimizer = stepped(Momentum)
    with pytest.raises(ValueError, match=r"V of a parameter of shape \(3,\).* got \(4,\)"):
        optimizer.load_state_dict(stepped(Momentum, Parameter(torch.ones(4))).state_dict())


@pytest.mark.skipif(
    tuple(map(int, torch.__version__.split(".")[:2])) < (2, 6), reason="no named parameters"
)
@every_rule
def test_states_go_to_the_parameters_of_the_same_name(name):
    rule = OPTIMIZERS[name]
    params = {n: Parameter(torch.ones(2)) for n in "abc"}
    optimizer = rule(list(params.items()))
    for k, p in enumerate(params.values()):
        p.grad = torch.full((2,), k + 1.0)
    optimizer.step()
    other = rule([(n, params[n]) for n in "cab"])
    other.load_state_dict(optimizer.state_dict())
    assert other.param_groups[0]["param_names"] == ["c", "a", "b"]
    for p in params.values():
        ours, theirs = other.state.get(p, {}), optimizer.state.get(p, {})
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    with pytest.raises(ValueError, match=r"'c'.*not in the optimizer: names must agree"):
        rule([(n, params[m]) for n, m in zip("abd", "abc", strict=True)]).load_state_dict(
            optimizer.state_dict()
        )


def test_ties_of_states_survive_loading():
    params = [Parameter(torch.ones(2)) for _ in range(2)]
    optimizer = stepped(Momentum, *params)
    optimizer.state[params[1]]["V"] = optimizer.state[params[0]]["V"]
    optimizer.load_state_dict(optimizer.state_dict())
    assert optimizer.state[params[0]]["V"] is optimizer.state[params[1]]["V"]


def test_a_captured_graph_would_repeat_one_step(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    stepped(GradientDescent)
    with pytest.raises(RuntimeError, match="CUDA graph"):
        stepped(Adam)


# --- where a kernel may not be -------------------------------------------------------------------


class Labelled(torch.Tensor):
    pass


@every_rule
def test_a_forced_kernel_takes_all_that_have_a_gradient(name):
    """Another kind of tensor stands in its way only if it has one."""
    plain, other = Parameter(torch.ones(3)), Parameter(torch.ones(3).as_subclass(Labelled))
    assert type(other) is not Parameter
    optimizer = OPTIMIZERS[name]([other, plain], fused=True)
    for _ in range(2):
        plain.grad = torch.ones(3)
        before = plain.detach().clone()
        optimizer.step()
        assert (plain != before).all()
    other.grad = torch.ones(3)
    before = plain.detach().clone()
    with pytest.raises(RuntimeError, match="fused=True"):
        optimizer.step()
    assert torch.equal(plain, before)


def test_nothing_is_compiled_for_tensors_elsewhere(monkeypatch):
    def fail():
        raise AssertionError("compiled")

    monkeypatch.setattr(_native, "load", fail)
    p = Parameter(torch.ones(3, device="meta"))
    optimizer = Adam([p])
    p.grad = torch.ones(3, device="meta")
    optimizer.step()
    optimizer = Adam([p], fused=True)
    with pytest.raises(RuntimeError, match="not on the CPU"):
        optimizer.step()


def test_infinite_constants_are_compiled():
    class Lowered(UpdateRule):
        @staticmethod
        def rule(theta, g, *, lr):
            limited = torch.where(g > -float("inf"), g, float("inf"))
            return theta - lr * limited.clamp(-1e300, float("inf"))

    p = Parameter(torch.zeros(2, dtype=torch.float64))
    p.grad = torch.tensor([2.0, -float("inf")], dtype=torch.float64)
    Lowered([p], lr=0.5, fused=True).step()
    assert p.tolist() == [-1.0, -float("inf")]


def test_a_mode_does_not_see_how_a_rule_is_looked_at():
    class Refusing(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            assert "Symbol" not in str(types)
            return function(*args, **(kwargs or {}))

    class Rooted(UpdateRule):
        @staticmethod
        def rule(theta, g, *, lr):
            return theta - lr * torch.sqrt(g)

    p = Parameter(torch.zeros(2))
    p.grad = torch.full((2,), 4.0)
    with Refusing():
        Rooted([p], lr=1.0).step()
    assert p.tolist() == [-2.0, -2.0]
    assert _kernel.is_elementwise(Rooted, {"lr": 1.0, "weight_decay": 0.0})


# --- what an attacker found ----------------------------------------------------------------------


@every_path
@pytest.mark.parametrize("name", ["rmsprop", "adadelta", "adam", "adamw"])
def test_one_huge_gradient_does_not_stop_a_parameter_for_ever(name, fused):
    """g² overflows float32 from 1.8e19 on; (1 − β) g · g does not before 5.8e19."""
    p = Parameter(torch.ones(1))
    optimizer = OPTIMIZERS[name]([p], fused=fused)
    for k in range(3):
        p.grad = torch.full((1,), 3e19 if k == 0 else 1.0)
        optimizer.step()
    assert all(x.isfinite().all() for x in optimizer.state[p].values())


@every_path
@pytest.mark.parametrize("argument", ["lr", "weight_decay", "eps"])
def test_numbers_that_overflow_float32_are_refused(argument, fused):
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        p = Parameter(torch.ones(2, dtype=dtype))
        p.grad = torch.ones_like(p)
        optimizer = Adam([p], **{argument: 1e39}, fused=fused)
        if dtype is torch.float64:
            optimizer.step()
            continue
        with pytest.raises(RuntimeError, match=f"{argument} = 1e.39 overflows float32"):
            optimizer.step()
        assert torch.equal(p, torch.ones_like(p))


@every_path
@every_rule
def test_integer_parameters_are_refused(name, fused):
    p = torch.tensor([10, 20])
    p.grad = torch.tensor([1, 1])
    with pytest.raises(RuntimeError, match=r"floating-point or complex, got torch.int64"):
        OPTIMIZERS[name]([p], fused=fused).step()
    assert p.tolist() == [10, 20]


@every_path
@every_rule
def test_negated_parameters_move(name, fused):
    x = torch.linspace(1, 2, 5)
    p, q = torch._neg_view(-x).requires_grad_(), Parameter(x.clone())
    assert p.is_neg()
    for each in (p, q):
        each.grad = torch.ones(5)
        OPTIMIZERS[name]([each], lr=0.5, fused=fused).step()
    torch.testing.assert_close(p.detach(), q.detach())


@every_path
def test_memory_shared_with_a_parameter_of_another_type_is_updated_in_order(fused):
    class Own(torch.nn.Parameter):
        pass

    memory = torch.ones(3, dtype=torch.float64)
    ours = [Own(memory[:]), Parameter(memory[:])]
    theirs = torch.ones(3, dtype=torch.float64)
    reference = [Parameter(theirs[:]), Parameter(theirs[:])]
    for params, optimizer in (
        (ours, GradientDescent(ours, lr=0.1, weight_decay=0.5, fused=fused)),
        (reference, torch.optim.SGD(reference, lr=0.1, weight_decay=0.5, foreach=False)),
    ):
        for _ in range(3):
            for p, g in zip(params, (1.0, -5.0), strict=True):
                p.grad = torch.full((3,), g, dtype=torch.float64)
            optimizer.step()
    torch.testing.assert_close(memory, theirs, rtol=1e-14, atol=0)


@every_path
def test_comparisons_are_added_as_torch_adds_them(fused):
    class Own(UpdateRule):
        @staticmethod
        def rule(theta, g, *, lr):
            return theta - lr * ((g > 2) + (g > 3))

    p = Parameter(torch.ones(1))
    p.grad = torch.full((1,), 4.0)
    Own([p], lr=0.5, fused=fused).step()
    assert p.item() == 0.5  # True + True is True


@pytest.mark.parametrize("fused", [None, False])
def test_accumulators_may_have_any_name(fused):
    class Own(UpdateRule):
        accumulators = ("int", "e0", "n")

        @staticmethod
        def rule(theta, g, a, b, c, *, lr):
            return theta - lr * (g + a), a + 1.0, b + g, c - 1.0

    p = Parameter(torch.ones(3))
    optimizer = Own([p], lr=0.5, fused=fused)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            p.grad = torch.ones(3)
            optimizer.step()
    assert p[0].item() == -0.5
    assert [x[0].item() for x in optimizer.state[p].values()] == [2.0, 2.0, -2.0]


def test_names_that_would_be_taken_for_others_are_refused():
    def rule(theta, g, *rest, lr):
        return theta

    def counted(theta, g, *rest, t, lr):
        return theta

    def reserved(theta, g, *, lr, params):
        return theta

    different = r"Own\.accumulators must have different names"
    for names, function, told in (
        (("m", "m"), rule, different),
        (("step",), counted, r"Own\.accumulators cannot have the name 'step'"),
    ):
        with pytest.raises(TypeError, match=told):
            type("Own", (UpdateRule,), {"accumulators": names, "rule": staticmethod(function)})
    with pytest.raises(TypeError, match=r"Own\.rule cannot have a hyper-parameter 'params'"):
        type("Own", (UpdateRule,), {"rule": staticmethod(reserved)})
