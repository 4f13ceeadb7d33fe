"""check_rule passes what is right and names what is wrong."""

import datetime
import functools
import inspect
import math
import os
import random
import sys
import textwrap
import time
import types
from math import pi

import pytest
import torch
from torch import float32
from torch.nn import Parameter

from dlnotes.errors import UserError
from dlnotes.optim import OPTIMIZERS, Adam, Muon, ScheduleFree, UpdateRule, check_rule
from dlnotes.optim._outside import found_outside
from dlnotes.optim.properties import _close, _Fails, _same

RULES = {**OPTIMIZERS, "muon": Muon, "schedule-free": ScheduleFree}
SCALE = [2.0]


@pytest.mark.parametrize("name", RULES)
def test_our_rules_have_every_property(name):
    tried = check_rule(RULES[name])
    expected = {"arguments alone", "dtypes", "resume", "groups", "sparse rows", "differentiable"}
    assert expected <= {*tried}
    assert ("C loop" in tried and "vmap" in tried) == (name != "muon")


class Velocity(UpdateRule):
    """Keeps its velocity where no state_dict finds it."""

    elementwise = True
    kept = None

    @classmethod
    def update(cls, theta, g, *, maximize=False, weight_decay=0.0, lr):
        return (theta - lr * (-g if maximize else g),)

    @staticmethod
    def rule(theta, g, *, lr):
        return theta - lr * g

    def step(self, closure=None):
        self.speed = 0.5 * getattr(self, "speed", 0.0) + 1
        self.param_groups[0]["lr"] = 0.01 * self.speed
        return super().step(closure)


class Hidden(UpdateRule):
    elementwise = True

    @staticmethod
    def rule(theta, g, *, lr):
        Hidden.m = 0.9 * getattr(Hidden, "m", 0.0) + 0.1 * g.mean()
        return theta - lr * (g + Hidden.m)


class InPlace(UpdateRule):
    @staticmethod
    def rule(theta, g, *, lr):
        return theta.sub_(lr * g)


class InPlaceOnAccumulators(UpdateRule):
    accumulators = ("V",)

    @staticmethod
    def rule(theta, g, V, *, lr):
        V.mul_(0.9).add_(g)
        return theta - lr * V, V


class NotElementwise(UpdateRule):
    elementwise = True

    @staticmethod
    def rule(theta, g, *, lr):
        return theta - lr * g / g.norm()


class Reversed(UpdateRule):
    elementwise = True

    @staticmethod
    def rule(theta, g, *, lr):
        return theta - lr * g.roll(1, 0)


class Global(UpdateRule):
    @staticmethod
    def rule(theta, g, *, lr):
        return theta - lr * SCALE[0] * g


class Noisy(UpdateRule):
    @staticmethod
    def rule(theta, g, *, lr):
        return theta - lr * (g + torch.randn_like(g))


class TooFew(UpdateRule):
    accumulators = ("V",)

    @staticmethod
    def rule(theta, g, V, *, lr):
        return theta - lr * (0.9 * V + g)


class HidesNan(UpdateRule):
    elementwise = True

    @staticmethod
    def rule(theta, g, *, lr):
        return theta - lr * g.nan_to_num()


class Detached(UpdateRule):
    elementwise = True

    @staticmethod
    def rule(theta, g, *, lr):
        return theta - lr * g.detach() ** 2 * g.sign()


class Branching(UpdateRule):
    elementwise = True

    @staticmethod
    def rule(theta, g, *, lr):
        return theta - lr * g if g.numel() == 0 or g.flatten()[0] > -9 else theta


class Still(UpdateRule):
    @staticmethod
    def rule(theta, g, *, lr):
        return theta + 0 * lr * g


class Constant(UpdateRule):
    """Its own dtype: float64 whatever the parameter has."""

    elementwise = False

    @staticmethod
    def rule(theta, g, *, lr):
        rate = lr if theta.dtype == torch.float64 else 2 * lr
        return theta - rate * g


class OnGradient(UpdateRule):
    @staticmethod
    def rule(theta, g, *, lr):
        return theta - lr * g.clamp_(-1, 1)


class InPlaceAtFirst(UpdateRule):
    @staticmethod
    def rule(theta, g, *, t, lr):
        return theta - lr * (g.mul_(2) if t == 1 else g)


class Cached(UpdateRule):
    @staticmethod
    def rule(theta, g, *, lr, cache={}):  # noqa: B006 (the defect)
        cache["calls"] = cache.get("calls", 0) + 1
        return theta - lr * g


class ByRows(UpdateRule):
    elementwise = True

    @staticmethod
    def rule(theta, g, *, lr):
        return theta - lr * (g - g.mean(-1, keepdim=True) if g.dim() == 2 else g)


class OfMany(UpdateRule):
    elementwise = True

    @staticmethod
    def rule(theta, g, *, lr):
        return theta - lr * (g / g.norm() if g.dim() and g.shape[0] > 100 else g)


class OfLarge(UpdateRule):
    elementwise = True

    @staticmethod
    def rule(theta, g, *, lr):
        return theta - lr * (g / g.norm() if g.numel() > 50_000 else g)


class NoEps(UpdateRule):
    accumulators = ("G",)

    @staticmethod
    def rule(theta, g, G, *, lr):
        G = G + g**2
        return theta - lr * g / G.sqrt(), G


class TooSmallEps(UpdateRule):
    @staticmethod
    def rule(theta, g, *, lr, eps=1e-60):
        return theta - lr * g / (g.abs() + eps)


class WithSelf(UpdateRule):
    def rule(self, theta, g, *, lr):
        return theta - lr * g


class Extra(UpdateRule):
    @staticmethod
    def rule(theta, g, scale, *, lr):
        return theta - lr * scale * g


class Listed(UpdateRule):
    accumulators = ("V",)

    @staticmethod
    def rule(theta, g, V, *, lr):
        return [theta - lr * g, V]


class Single(UpdateRule):
    @staticmethod
    def rule(theta, g, *, lr):
        return (theta - lr * g).float()


class SingleAccumulator(UpdateRule):
    accumulators = ("V",)

    @staticmethod
    def rule(theta, g, V, *, lr):
        V = 0.9 * V + g
        return theta - lr * V, V.float()


class Narrowed(UpdateRule):
    @staticmethod
    def rule(theta, g, *, lr):
        return theta - lr * g.float()


class Narrowest(UpdateRule):
    @staticmethod
    def rule(theta, g, *, lr):
        return theta - lr * torch.empty_like(g, dtype=torch.bfloat16).copy_(g)


class TensorConstant(UpdateRule):
    @staticmethod
    def rule(theta, g, *, lr):
        return theta - lr * torch.tensor(0.1) * g


class WrongDecay(UpdateRule):
    elementwise = True

    @staticmethod
    def rule(theta, g, *, lr):
        return theta - lr * g

    @staticmethod
    def decay(theta, g, *, lr, weight_decay):
        return theta, g + weight_decay * theta / theta.norm()


class OneRate(UpdateRule):
    """Takes the learning rate of the first group for all of them."""

    @staticmethod
    def rule(theta, g, *, lr):
        return theta - lr * g

    def step(self, closure=None):
        for group in self.param_groups:
            group["lr"] = self.param_groups[0]["lr"]
        return super().step(closure)


class FirstRate(UpdateRule):
    """Keeps the learning rates that it was made with."""

    @staticmethod
    def rule(theta, g, *, lr):
        return theta - lr * g

    def step(self, closure=None):
        self.rates = getattr(self, "rates", [group["lr"] for group in self.param_groups])
        for group, lr in zip(self.param_groups, self.rates, strict=True):
            group["lr"] = lr
        return super().step(closure)


class Rounded(UpdateRule):
    """Makes a number of the learning rate, which has one for each under vmap."""

    elementwise = True

    @staticmethod
    def rule(theta, g, *, lr):
        return theta - lr * g if lr > 1e-9 else theta + 0 * g


class Sticky(UpdateRule):
    """Counts its steps where no state_dict finds them."""

    @staticmethod
    def rule(theta, g, *, lr):
        return theta - lr * g

    def step(self, closure=None):
        self.steps = getattr(self, "steps", 0) + 1
        if self.steps % 3 == 0:
            return None
        return super().step(closure)


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        (Velocity, "'resume'.*accumulators"),
        (Hidden, "'arguments alone'.*sets Hidden.m.*accumulators"),
        (InPlace, "'pure'.*argument theta in place"),
        (InPlaceOnAccumulators, "'pure'.*argument V in place"),
        (OnGradient, "'pure'.*argument g in place"),
        (InPlaceAtFirst, "'pure'.*argument g in place"),
        (Cached, "'pure'.*changes a hyper-parameter"),
        (ByRows, "'elementwise'.*elementwise = False"),
        (OfMany, "'elementwise'.*elementwise = False"),
        (OfLarge, "'elementwise'.*elementwise = False"),
        (NoEps, r"'finite'.*in torch.float64 a gradient of 0 gives NaN or infinity in theta"),
        (TooSmallEps, r"'finite'.*in torch.float32 a gradient of 0"),
        (WithSelf, "'accumulators'.*takes self, theta, g, and must take theta, g; .*@staticmethod"),
        (
            Extra,
            "'accumulators'.*takes theta, g, scale, and must take theta, g; write \\* before scale",
        ),
        (Listed, "'accumulators'.*returns a list, and must return a tuple: theta, V"),
        (Single, "'accumulators'.*new theta of a parameter in torch.float64 is torch.float32"),
        (SingleAccumulator, "'accumulators'.*new V of a parameter in torch.float64 is .*float32"),
        (Narrowed, "'dtypes'.*in torch.float64 a tensor is rounded to torch.float32"),
        (Narrowest, "'dtypes'.*in torch.float64 a tensor is rounded to torch.bfloat16"),
        (TensorConstant, "'dtypes'.*default dtype.*dtype=theta.dtype"),
        (WrongDecay, "'weight decay': with weight_decay=0.1, 'elementwise'"),
        (Sticky, "'resume'.*accumulators"),
        (Rounded, "'vmap'"),
        (OneRate, "'groups'.*with its own lr"),
        (FirstRate, "'groups'.*that a scheduler sets"),
        (NotElementwise, "'elementwise'.*elementwise = False"),
        (Reversed, "'elementwise'"),
        (Global, r"'arguments alone'.*reads SCALE = \[2.0\]"),
        (Noisy, "'pure'.*different results"),
        (TooFew, "'accumulators'.*returns 1 tensors, and must return 2: theta, V"),
        (HidesNan, "'NaN'.*leaves no trace"),
        (Detached, "'differentiable'"),
        (Branching, "'vmap'"),
        (Constant, "'dtypes'.*float32"),
    ],
)
def test_planted_defects_are_named(rule, reason):
    with pytest.raises(UserError, match=f"^{rule.__name__} fails {reason}") as error:
        check_rule(rule, lr=0.01)
    assert "\n" not in str(error.value)


def test_a_closure_counts_as_a_global():
    scale = 2.0

    class Closed(UpdateRule):
        @staticmethod
        def rule(theta, g, *, lr):
            return theta - lr * scale * g

    with pytest.raises(UserError, match=r"reads scale = 2.0"):
        check_rule(Closed, lr=0.01)


def test_modules_and_functions_are_no_globals():
    class Rooted(UpdateRule):
        elementwise = True

        @staticmethod
        def rule(theta, g, *, lr):
            return theta - lr / math.sqrt(2) * torch.sign(g) * g.abs()

    assert "vmap" in check_rule(Rooted, lr=0.01)


def made(rule, decay=None):
    """A rule of one function."""
    body = {"rule": rule if isinstance(rule, classmethod) else staticmethod(rule)}
    if decay is not None:
        body["decay"] = staticmethod(decay)
    return type("Made", (UpdateRule,), body)


class Settings:
    scale = 2.0

    class Inner:
        scale = (3.0,)

    @staticmethod
    def scaled(g):
        return SCALE[0] * g

    @classmethod
    def by_class(cls, g):
        return cls.scale * g


class Live(type):
    @property
    def scale(cls):
        return 4.0


class Lively(metaclass=Live):
    pass


class Instance:
    @property
    def scale(self):
        return 5.0


INSTANCE = Instance()
CONFIG = types.ModuleType("config_of_a_user")
CONFIG.scale = 6.0
exec("def scaled(g):\n    return scale * g", CONFIG.__dict__)
sys.modules[CONFIG.__name__] = CONFIG
WEIGHT = torch.tensor(2.0)


def by_class_attribute(theta, g, *, lr):
    return theta - lr * Settings.scale * g


def by_nested_class(theta, g, *, lr):
    return theta - lr * Settings.Inner.scale[0] * g


def by_static_method(theta, g, *, lr):
    return theta - lr * Settings.scaled(g)


def by_class_method(theta, g, *, lr):
    return theta - lr * Settings.by_class(g)


def by_property(theta, g, *, lr):
    return theta - lr * Lively.scale * g


def by_instance(theta, g, *, lr):
    return theta - lr * INSTANCE.scale * g


def by_module_attribute(theta, g, *, lr):
    return theta - lr * CONFIG.scale * g


def by_function_of_a_module(theta, g, *, lr):
    return theta - lr * CONFIG.scaled(g)


def by_import(theta, g, *, lr):
    import config_of_a_user as config

    return theta - lr * config.scale * g


def by_import_from(theta, g, *, lr):
    from config_of_a_user import scale

    return theta - lr * scale * g


def by_own_class(cls, theta, g, *, lr):
    return theta - lr * cls.factor * g


def by_function_attribute(theta, g, *, lr):
    return theta - lr * by_function_attribute.scale * g


by_function_attribute.scale = 7.0


def by_getattr(theta, g, *, lr):
    return theta - lr * getattr(Settings, "scale", 1.0) * g


def by_gradient(theta, g, *, lr):
    return theta - lr * (g if theta.grad is None else theta.grad)


def by_tensor(theta, g, *, lr):
    return theta - lr * WEIGHT * g


def by_attribute_of_theta(theta, g, *, lr):
    return theta - lr * theta.scale * g


def by_comprehension(theta, g, *, lr):
    return theta - lr * sum(Settings.scale * x for x in (g, g))


def by_environment(theta, g, *, lr):
    return theta - lr * len(sys.argv) * g


def by_getenv(theta, g, *, lr):
    return theta - lr * float(os.getenv("SCALE", "1")) * g


def by_getenv_from(theta, g, *, lr):
    from os import getenv

    return theta - lr * float(getenv("SCALE", "1")) * g


def by_clock(theta, g, *, lr):
    return theta - lr * (1 + time.time() // 1e12) * g


def by_date(theta, g, *, lr):
    return theta - lr * (1 + 0 * datetime.datetime.now().year) * g


def by_luck(theta, g, *, lr):
    return theta - lr * (1 + random.random() // 2) * g


def by_threads(theta, g, *, lr):
    return theta - lr * torch.get_num_threads() * g


def by_grad_mode(theta, g, *, lr):
    return theta - lr * (g if torch.is_grad_enabled() else -g)


def by_seed(theta, g, *, lr):
    return theta - lr * (1 + 0 * torch.initial_seed()) * g


def setting_a_global(theta, g, *, lr):
    global COUNT
    COUNT = 1
    return theta - lr * g


def setting_a_class_attribute(theta, g, *, lr):
    Settings.seen = True
    return theta - lr * g


def setting_an_attribute_of_theta(theta, g, *, lr):
    theta.seen = True
    return theta - lr * g


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (by_class_attribute, r"reads Settings\.scale = 2\.0"),
        (by_nested_class, r"reads Settings\.Inner\.scale = \(3\.0,\)"),
        (by_static_method, r"scaled reads SCALE = \[2\.0\]"),
        (by_class_method, r"by_class reads cls\.scale = 2\.0"),
        (by_property, r"reads Lively\.scale = 4\.0"),
        (by_instance, r"reads INSTANCE = <"),
        (by_module_attribute, r"reads CONFIG\.scale = 6\.0"),
        (by_function_of_a_module, r"scaled reads scale = 6\.0"),
        (by_import, r"reads config\.scale = 6\.0"),
        (by_import_from, r"reads scale = 6\.0"),
        (classmethod(by_own_class), r"reads cls\.factor = 8\.0"),
        (by_function_attribute, r"reads by_function_attribute\.scale = 7\.0"),
        (by_getattr, r"reads Settings\.scale = 2\.0"),
        (by_gradient, r"reads theta\.grad, which the tensors of a step do not have"),
        (by_tensor, r"reads WEIGHT = tensor\(2\.\)"),
        (by_attribute_of_theta, r"reads theta\.scale, which the tensors of a step do not have"),
        (by_comprehension, r"reads Settings\.scale = 2\.0"),
        (by_environment, r"reads sys\.argv = "),
        (by_getenv, r"calls os\.getenv, which may return something else at a later step"),
        (by_getenv_from, r"calls getenv, "),
        (by_clock, r"calls time\.time, "),
        (by_date, r"calls datetime\.datetime\.now, "),
        (by_luck, r"calls random\.random, "),
        (by_threads, r"calls torch\.get_num_threads, "),
        (by_grad_mode, r"calls torch\.is_grad_enabled, "),
        (by_seed, r"calls torch\.initial_seed, "),
        (setting_a_global, r"sets COUNT.*accumulators"),
        (setting_a_class_attribute, r"sets Settings\.seen.*accumulators"),
        (setting_an_attribute_of_theta, r"sets theta\.seen.*accumulators"),
    ],
)
def test_whatever_a_rule_reads_or_sets_outside_is_named(function, reason):
    rule = made(function)
    rule.factor = 8.0
    with pytest.raises(UserError, match=f"^Made fails 'arguments alone': .*{reason}") as error:
        check_rule(rule, lr=0.01)
    assert "\n" not in str(error.value)


def test_a_decay_and_an_update_are_searched_too():
    def rule(theta, g, *, lr):
        return theta - lr * g

    def decay(theta, g, *, lr, weight_decay):
        return theta, g + Settings.scale * weight_decay * theta

    with pytest.raises(UserError, match=r"decay reads Settings\.scale"):
        check_rule(made(rule, decay), lr=0.01)

    class Updated(UpdateRule):
        @staticmethod
        def rule(theta, g, *, lr):
            return theta - lr * g

        @classmethod
        def update(cls, theta, g, *accumulators, **hyper):
            return super().update(theta, SCALE[0] * g, *accumulators, **hyper)

    with pytest.raises(UserError, match=r"update reads SCALE"):
        check_rule(Updated, lr=0.01)


def test_a_closure_that_counts():
    calls = 0

    def rule(theta, g, *, lr):
        nonlocal calls
        calls += 1
        return theta - lr * g

    with pytest.raises(UserError, match=r"'arguments alone'.*(sets|reads) calls"):
        check_rule(made(rule), lr=0.01)


def test_constants_of_torch_and_methods_of_other_rules_are_no_globals():
    def rule(theta, g, m, v, *, t, lr, betas=(0.9, 0.99), eps=1e-8):
        import math as numbers

        scale = torch.pi / math.pi * numbers.e / math.e + torch.finfo(g.dtype).eps * 0
        scale = scale * (2 if torch.is_complex(g) or datetime.MAXYEAR < 0 else 1)
        return Adam.rule(theta, scale * g, m, v, t=t, lr=lr, betas=betas, eps=eps)

    both = type("Both", (UpdateRule,), {"accumulators": ("m", "v"), "rule": staticmethod(rule)})
    assert "arguments alone" in check_rule(both, lr=0.01)


def test_the_rule_in_the_documentation_has_every_property():
    text = inspect.getdoc(UpdateRule).split("::\n\n")[1].split("optimizer =")[0]
    names = {"UpdateRule": UpdateRule}
    exec(textwrap.dedent(text), names)
    tried = check_rule(names["SignDescent"], lr=0.01)
    assert {"NaN", "elementwise", "C loop"} <= {*tried}


def test_a_rate_in_a_tensor_is_tried_like_a_number():
    tried = check_rule(Adam, lr=torch.tensor(0.01))
    assert tried == check_rule(Adam, lr=0.01)
    assert "C loop" in tried


@pytest.mark.parametrize(
    "context",
    [
        torch.inference_mode,
        torch.no_grad,
        lambda: torch.device("meta"),
        torch.utils._python_dispatch.TorchDispatchMode,
    ],
)
def test_the_callers_modes_are_not_blamed_on_the_rule(context):
    expected = check_rule(Adam)
    with context():
        tried = check_rule(Adam)
    assert tried == expected


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64], ids=str)
def test_the_default_dtype_is_not_blamed_on_the_rule(dtype):
    torch.set_default_dtype(dtype)
    try:
        assert "C loop" in check_rule(Adam)
        assert torch.get_default_dtype() == dtype
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(
    ("hyper", "message"),
    [
        ({"fused": True}, "^fused must be left out, as it is tried anyway, got True$"),
        ({"maximize": True}, "^maximize must be left out"),
        ({"differentiable": False}, "^differentiable must be left out, .*got False$"),
        ({"lr": 0}, "^lr must not be 0: "),
        ({"lr": torch.tensor(0.0)}, "^lr must not be 0: "),
        ({"lr": 1e-30}, "^Adam moves no element .* with lr=1e-30, with"),
        ({"eps": 0}, "^Adam fails 'finite': in torch.float64 a gradient of 0 gives NaN"),
        ({"lr": 1e39}, "^Adam fails 'finite': in torch.float32 a gradient gives NaN or infinity"),
        ({"params": []}, "^Adam cannot be made with .*params"),
    ],
)
def test_hyper_parameters_that_try_nothing(hyper, message):
    with pytest.raises(UserError, match=message) as error:
        check_rule(Adam, **hyper)
    assert "\n" not in str(error.value)


def test_a_large_rate_is_not_blamed_on_the_rule():
    """In float16 the parameters become infinite, with and without the C loop."""
    assert "C loop" in check_rule(OPTIMIZERS["gradient-descent"], lr=1e6)


def test_not_a_number_equals_itself_alone():
    a = torch.tensor([math.nan, math.inf, 1.0])
    assert _same(a, a.clone())
    largest = torch.finfo(torch.float32).max
    for other in ([7.0, math.inf, 1.0], [math.nan, largest, 1.0], [math.nan, math.inf, 2.0]):
        assert not _same(a, torch.tensor(other))
        with pytest.raises(_Fails, match="what"):
            _close([a], [torch.tensor(other)], 1e-3, "what")
    _close([a], [a.clone()], 1e-3, "what")


def test_a_rule_without_a_rule():
    with pytest.raises(UserError, match=r"^rule must be a subclass .*<class .*UpdateRule'>$"):
        check_rule(UpdateRule)
    with pytest.raises(UserError, match=r"^rule must be a subclass of UpdateRule, got Adam \($"):
        check_rule(Adam([Parameter(torch.ones(1))]))
    with pytest.raises(TypeError, match=r"^Nothing needs a @staticmethod rule"):
        type("Nothing", (UpdateRule,), {})

    class Broken(UpdateRule):
        def __init__(self, params, **hyper):
            raise KeyError("a\nb")

        @staticmethod
        def rule(theta, g, *, lr):
            return theta - lr * g

    with pytest.raises(UserError, match=r"^Broken cannot be made with {}: ") as error:
        check_rule(Broken)
    assert "\n" not in str(error.value)


def test_what_is_no_rule_or_cannot_be_made():
    with pytest.raises(UserError, match=r"subclass of UpdateRule, got <class 'torch\.optim"):
        check_rule(torch.optim.SGD)
    with pytest.raises(UserError, match="misses the argument 'lr'"):
        check_rule(Noisy)
    with pytest.raises(UserError, match="lr must be"):
        check_rule(OPTIMIZERS["adam"], lr=-1)


def centered(theta, g, m, v, *, lr):
    m, v = 0.9 * m + 0.1 * g, 0.9 * v + 0.1 * g * g
    return theta - lr * g / ((v - m * m).sqrt() + 1e-8), m, v


def stale(theta, g, m, *, lr):
    return theta - lr * m, g


def from_a_threshold(theta, g, *, lr):
    return theta - lr * torch.where(g.abs() > 5, g, g * 0)


def of(rule, accumulators=(), **body):
    """A rule of one function with accumulators."""
    return type(
        "Of", (UpdateRule,), {"rule": staticmethod(rule), "accumulators": accumulators, **body}
    )


@pytest.mark.parametrize(
    ("rule", "accumulators"), [(centered, ("m", "v")), (stale, ("m",)), (from_a_threshold, ())]
)
def test_right_rules_pass(rule, accumulators):
    assert "C loop" in check_rule(of(rule, accumulators), lr=0.01) or rule is from_a_threshold


def test_a_rate_of_any_size_is_no_wrong_derivative():
    assert "differentiable" in check_rule(Adam, lr=1e10)


def half(x, p):
    return x * p


class Doubling:
    def __call__(self, x):
        return 2 * x


class Keeping:
    def __init__(self):
        self.scale = 2.0

    def __call__(self, x):
        return self.scale * x


HALF, DOUBLE, KEEPING = functools.partial(half, p=0.5), Doubling(), Keeping()
tau = 6.28


def test_constants_and_functions_without_a_state_are_no_globals():
    rules = [
        lambda theta, g, *, lr: theta - lr * pi * g,
        lambda theta, g, *, lr: theta - lr * g.to(float32),
        lambda theta, g, *, lr: theta - lr * HALF(g),
        lambda theta, g, *, lr: theta - lr * DOUBLE(g),
    ]
    assert [[*found_outside(rule, ("theta", "g"))] for rule in rules] == [[], [], [], []]
    assert "C loop" in check_rule(of(rules[2]), lr=0.01)


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        (lambda theta, g, *, lr: theta - lr * KEEPING(g), "reads KEEPING"),
        (lambda theta, g, *, lr: theta - lr * tau * g, "reads tau = 6.28"),
        (lambda theta, g, *, lr: theta - lr * globals()["SCALE"][0] * g, "calls globals"),
        (lambda theta, g, *, lr: theta - lr * eval("SCALE")[0] * g, "calls eval"),
        (lambda theta, g, *, lr: theta - lr * torch.get_num_threads() * g, "get_num_threads"),
        (
            lambda g, theta, *, lr: theta - lr * g,
            "'accumulators': rule takes g, theta, .*in this order",
        ),
        (lambda theta, g, *, lr: theta - lr * g * theta / theta.abs(), "a parameter of 0"),
        (lambda theta, g, *, lr, t: theta - lr * g / (t - 7), "in theta at step 7"),
        (lambda theta, g, *, lr, t: theta - lr * g / (10 - t) ** 0.5, "in theta at step 10"),
    ],
)
def test_more_planted_defects(rule, reason):
    with pytest.raises(UserError, match=reason):
        check_rule(of(rule), lr=0.01)


def test_a_whole_tensor_in_an_elementwise_rule_is_named():
    def rule(theta, g, *, lr):
        return theta - lr * g.clamp(-g.abs().max() * 10, 10.0)

    with pytest.raises(UserError, match=r"'elementwise': a tensor without elements.*= False"):
        check_rule(of(rule, elementwise=True), lr=0.01)


def test_what_cannot_be_checked_says_so():
    def for_biases(theta, g, *, lr):
        if theta.dim() != 1:
            raise ValueError("for biases")
        return theta - lr * g

    with pytest.raises(UserError, match=r"cannot be checked.*\(6, 4\) gives .*for biases"):
        check_rule(of(for_biases, elementwise=False), lr=0.01)
    with pytest.raises(UserError, match=r"Still moves no element of the parameter with lr=0.01"):
        check_rule(Still, lr=0.01)

    class Closed(Adam):
        def __init__(self, params, lr=0.1):
            super().__init__(params, lr=lr)

    with pytest.raises(UserError, match="must take maximize, differentiable and fused"):
        check_rule(Closed)


def by_position(theta, g, lr=0.1):
    return theta - lr * g


def without_default(theta, g, lr):
    return theta - lr * g


@pytest.mark.parametrize(
    ("rule", "accumulators", "message"),
    [
        (by_position, (), r"takes lr by position: write \* before it"),
        (stale, ["m"], r"must be a tuple of names, such as \('m',\), got \['m'\]"),
        (stale, "m", "must be a tuple of names"),
        (stale, ("step",), "cannot have the name 'step'"),
    ],
)
def test_mistakes_are_told_where_the_rule_is_defined(rule, accumulators, message):
    with pytest.raises(TypeError, match=message):
        of(rule, accumulators)


def test_a_rate_by_position_is_told_where_it_is_given():
    with pytest.raises(TypeError, match=r"'lr' \(rule takes it by position: write \* before lr"):
        of(without_default)([Parameter(torch.ones(2))], lr=0.1)
