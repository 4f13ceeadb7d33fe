"""A training that began with torch's optimizer goes on with ours, and the other way round."""

import copy

import pytest
import torch

from dlnotes.optim import (
    OPTIMIZERS,
    Adagrad,
    Adam,
    AdamW,
    Momentum,
    NAdam,
    RAdam,
    UpdateRule,
    from_torch,
    to_torch,
)
from dlnotes.optim.conversion import CONVERSIONS
from dlnotes.oracles.optimizers import ORACLES, loss, start

every_case = pytest.mark.parametrize(
    ("name", "hyper"),
    [
        (name, {**hyper, **more})
        for name, oracle in ORACLES.items()
        if oracle.rule in CONVERSIONS  # torch has no Lion
        for hyper in oracle.grid
        for more in ({}, {"weight_decay": 0.05})
    ],
    ids=str,
)


def steps(params, optimizer, first, last):
    for step in range(first, last):
        for p in params:
            (p.grad,) = torch.autograd.grad(loss(p, step), p)
        optimizer.step()


def params():
    return [start(5), start(23)]


def assert_they_go_on_alike(ours, optimizer, theirs, reference):
    steps(theirs, reference, 7, 20)
    steps(ours, optimizer, 7, 20)
    assert_equal(ours, theirs)


def copy_to(params, others):
    for p, q in zip(params, others, strict=True):
        q.data.copy_(p)


def assert_equal(ours, theirs):
    for p, q, old in zip(ours, theirs, params(), strict=True):
        torch.testing.assert_close(p.detach(), q.detach(), rtol=1e-12, atol=0)
        assert not torch.equal(p, old)


@every_case
def test_torchs_state_goes_on_in_ours(name, hyper):
    oracle = ORACLES[name]
    theirs, ours = params(), params()
    reference = oracle.torch(theirs, **oracle.mapped(**hyper))
    steps(theirs, reference, 0, 7)
    saved = copy.deepcopy(reference.state_dict())
    converted = from_torch(OPTIMIZERS[name], saved)
    assert str(saved) == str(reference.state_dict())  # it is left as it was
    copy_to(theirs, ours)
    optimizer = oracle.rule(ours)  # with other hyper-parameters, which the state replaces
    optimizer.load_state_dict(converted)
    assert_they_go_on_alike(ours, optimizer, theirs, reference)


@every_case
def test_our_state_goes_on_in_torchs(name, hyper):
    oracle = ORACLES[name]
    theirs, ours = params(), params()
    optimizer = oracle.rule(ours, **hyper)
    steps(ours, optimizer, 0, 7)
    converted = to_torch(OPTIMIZERS[name], optimizer.state_dict())
    copy_to(ours, theirs)
    reference = getattr(torch.optim, type(oracle.torch(params())).__name__)(theirs)
    reference.load_state_dict(converted)
    assert_they_go_on_alike(ours, optimizer, theirs, reference)


@every_case
def test_there_and_back(name, hyper):
    ours = params()
    optimizer = ORACLES[name].rule(ours, **hyper)
    steps(ours, optimizer, 0, 5)
    saved = optimizer.state_dict()
    back = from_torch(OPTIMIZERS[name], to_torch(OPTIMIZERS[name], saved))
    assert back["param_groups"][0].keys() == saved["param_groups"][0].keys()
    for key, value in saved["param_groups"][0].items():
        close = pytest.approx(value, rel=1e-14) if isinstance(value, float) else value
        assert back["param_groups"][0][key] == close, key
    for i, state in saved["state"].items():
        assert back["state"][i].keys() == state.keys()
        for key, x in state.items():
            torch.testing.assert_close(back["state"][i][key], x, rtol=1e-13, atol=1e-20)


def test_dampened_momentum_is_the_average_itself():
    theirs, ours = params(), params()
    reference = torch.optim.SGD(theirs, lr=0.01, momentum=0.9, dampening=0.9)
    steps(theirs, reference, 0, 5)
    copy_to(theirs, ours)
    optimizer = Momentum(ours)
    optimizer.load_state_dict(from_torch(Momentum, reference.state_dict()))
    steps(theirs, reference, 5, 15)
    steps(ours, optimizer, 5, 15)
    assert_equal(ours, theirs)


@pytest.mark.parametrize("name", [n for n, r in OPTIMIZERS.items() if r in CONVERSIONS])
def test_rates_of_a_scheduler_are_converted_as_the_rate(name):
    oracle = ORACLES[name]
    hyper = {**oracle.grid[0], "lr": 0.02}
    reference = oracle.torch(params(), **oracle.mapped(**hyper))
    ours = oracle.rule(params(), **hyper)
    for optimizer in (reference, ours):
        torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
        optimizer.param_groups[0] |= {"name": "encoder", "lr": optimizer.param_groups[0]["lr"] / 4}
    there = to_torch(OPTIMIZERS[name], ours.state_dict())["param_groups"][0]
    here = from_torch(OPTIMIZERS[name], reference.state_dict())["param_groups"][0]
    for converted, native in ((there, reference), (here, ours)):
        group = native.param_groups[0]
        assert converted["name"] == "encoder"
        assert converted["initial_lr"] == pytest.approx(group["initial_lr"], rel=1e-14)
        assert converted["lr"] == pytest.approx(group["initial_lr"] / 4, rel=1e-14)


@pytest.mark.parametrize("name", [n for n, r in OPTIMIZERS.items() if r in CONVERSIONS])
def test_options_that_an_older_torch_did_not_have_are_not_asked_for(name):
    oracle = ORACLES[name]
    reference = oracle.torch(params(), **oracle.mapped(**oracle.grid[0]))
    steps(reference.param_groups[0]["params"], reference, 0, 2)
    expected = from_torch(OPTIMIZERS[name], reference.state_dict())
    old = copy.deepcopy(reference.state_dict())
    for option in ("foreach", "capturable", "differentiable", "fused", "maximize"):
        old["param_groups"][0].pop(option, None)
    old["param_groups"][0].pop("decoupled_weight_decay", None)
    assert str(from_torch(OPTIMIZERS[name], old)) == str(expected)


@pytest.mark.parametrize("name", [n for n, r in OPTIMIZERS.items() if r in CONVERSIONS])
def test_a_state_that_climbs_is_for_a_torch_that_can(name):
    """NAdam and RAdam cannot in torch 2.3; without a word they would go down."""
    state = ORACLES[name].rule(params(), **ORACLES[name].grid[0], maximize=True).state_dict()
    if ORACLES[name].climbs:
        assert to_torch(OPTIMIZERS[name], state)["param_groups"][0]["maximize"] is True
        return
    with pytest.raises(ValueError, match="maximize=True cannot be converted") as error:
        to_torch(OPTIMIZERS[name], state)
    assert "\n" not in str(error.value)


REFUSED = [
    (Adam, lambda p: torch.optim.Adam(p, amsgrad=True), "amsgrad"),
    (Adam, torch.optim.AdamW, "AdamW"),
    (AdamW, torch.optim.Adam, "Adam"),
    (Adam, lambda p: torch.optim.SGD(p, lr=0.1), "not a state of torch.optim.Adam"),
    (Momentum, torch.optim.Adam, "not a state of torch.optim.SGD"),
    (Momentum, lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True), "nesterov"),
    (Momentum, lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.5), "dampening"),
    (
        OPTIMIZERS["gradient-descent"],
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
        "momentum",
    ),
    (OPTIMIZERS["rmsprop"], lambda p: torch.optim.RMSprop(p, centered=True), "centered"),
    (OPTIMIZERS["rmsprop"], lambda p: torch.optim.RMSprop(p, momentum=0.9), "momentum"),
    (Adagrad, torch.optim.Adagrad, "eps"),
    (Adagrad, lambda p: torch.optim.Adagrad(p, eps=0, lr_decay=0.1), "lr_decay"),
]


@pytest.mark.parametrize(("rule", "other", "reason"), REFUSED)
def test_what_no_rule_is_equal_to_is_refused(rule, other, reason):
    optimizer = other([start(3)])
    if (rule, reason) in ((Adam, "AdamW"), (AdamW, "Adam")) and (
        "decoupled_weight_decay" not in optimizer.param_groups[0]
    ):
        pytest.skip("this torch's states do not say which of the two they are")
    with pytest.raises(ValueError, match=reason) as error:
        from_torch(rule, optimizer.state_dict())
    assert "\n" not in str(error.value)


def test_rules_of_others_are_refused():
    class Own(UpdateRule):
        @staticmethod
        def rule(theta, g, *, lr):
            return theta - lr * g

    with pytest.raises(ValueError, match=r"rule must be one of .*got 'Own'"):
        from_torch(Own, torch.optim.SGD([start(3)], lr=0.1).state_dict())
    with pytest.raises(ValueError, match="not a state of Adam"):
        to_torch(Adam, Momentum([start(3)]).state_dict())


def stepped(optimizer, **hyper):
    p = torch.nn.Parameter(torch.ones(3))
    p.grad = torch.ones(3)
    made = optimizer([p], **hyper)
    made.step()
    return made.state_dict()


def test_a_state_that_another_rule_is_equal_to_is_told_so():
    with pytest.raises(ValueError, match=r"Adam is not equal to .*amsgrad=True; AMSGrad is"):
        from_torch(Adam, stepped(torch.optim.Adam, amsgrad=True))
    with pytest.raises(ValueError, match=r"Momentum is not equal to .*nesterov=True; Nesterov is"):
        from_torch(Momentum, stepped(torch.optim.SGD, lr=0.1, momentum=0.9, nesterov=True))


@pytest.mark.parametrize("rule", [NAdam, RAdam])
def test_decoupled_decay_matters_where_something_decays(rule):
    theirs = getattr(torch.optim, rule.__name__)
    from_torch(rule, stepped(theirs, decoupled_weight_decay=True))
    state = stepped(theirs, decoupled_weight_decay=True, weight_decay=0.1)
    with pytest.raises(
        ValueError, match=f"no rule is equal to torch.optim.{rule.__name__} with dec"
    ):
        from_torch(rule, state)
