"""check_rule passes what is right and names what is wrong."""

import math

import pytest
import torch

from dlnotes.errors import UserError
from dlnotes.optim import OPTIMIZERS, Muon, ScheduleFree, UpdateRule, check_rule

RULES = {**OPTIMIZERS, "muon": Muon, "schedule-free": ScheduleFree}
SCALE = [2.0]


@pytest.mark.parametrize("name", RULES)
def test_our_rules_have_every_property(name):
    tried = check_rule(RULES[name])
    assert {"arguments alone", "dtypes", "resume", "sparse rows", "differentiable"} <= {*tried}
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


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        (Velocity, "'resume'.*accumulators"),
        (Hidden, "'arguments alone'.*different results"),
        (InPlace, "'arguments alone'.*argument theta in place"),
        (InPlaceOnAccumulators, "'arguments alone'.*argument V in place"),
        (NotElementwise, "'elementwise'.*elementwise = False"),
        (Reversed, "'elementwise'"),
        (Global, r"'arguments alone'.*reads SCALE = \[2.0\]"),
        (Noisy, "'arguments alone'.*different results"),
        (TooFew, "'accumulators'.*returns 1 tensors, and must return 2: theta, V"),
        (HidesNan, "'NaN'.*leaves no trace"),
        (Detached, "'differentiable'"),
        (Branching, "'vmap'"),
        (Still, "'accumulators'.*moves no element"),
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


def test_what_is_no_rule_or_cannot_be_made():
    with pytest.raises(UserError, match=r"subclass of UpdateRule, got <class 'torch\.optim"):
        check_rule(torch.optim.SGD)
    with pytest.raises(UserError, match="misses the argument 'lr'"):
        check_rule(Noisy)
    with pytest.raises(UserError, match="lr must be"):
        check_rule(OPTIMIZERS["adam"], lr=-1)
