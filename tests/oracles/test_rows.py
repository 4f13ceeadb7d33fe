"""Every row holds, and fails as soon as something is wrong in the function that it compares."""

import math
from dataclasses import replace
from functools import cache, partial

import pytest
import torch

from dlnotes.models import MODELS
from dlnotes.models import rcnn as rcnn_module
from dlnotes.models.textrnn import POOLING
from dlnotes.optim import OPTIMIZERS, UpdateRule
from dlnotes.oracles import (
    Case,
    activations,
    comparisons,
    foundations,
    models,
    optimizers,
    papers,
    rows,
)

STEPS = 20
CHAPTERS = {
    "optimizers": lambda: optimizers.comparisons(STEPS),
    "activations": activations.comparisons,
    "foundations": foundations.comparisons,
    "models": models.comparisons,
    "papers": papers.comparisons,
}
NOTES = {chapter: [each.note for each in made()] for chapter, made in CHAPTERS.items()}
FLOAT32 = "float32 beside float64"
MUON = ("Muon (not in the notes)", "Muon, one step")
ROUGH = {FLOAT32: 1e-5, MUON[1]: 5e-2}  # torch's Muon has bfloat16's digits
RULES = {oracle.note for oracle in optimizers.ORACLES.values()}
ALL = [note for notes in NOTES.values() for note in notes]


@cache
def computed():
    """Every comparison with what both sides return, so that the faults need not compute it anew."""

    def kept(comparison):
        return replace(
            comparison,
            cases=[
                Case(partial(list, ours()), partial(list, theirs()))
                for ours, theirs in comparison.cases
            ],
        )

    return {comparison.note: kept(comparison) for comparison in comparisons(STEPS)}


def failing(chapter):
    return {c.note for c in CHAPTERS[chapter]() if not c.row().ok}


def test_everything_has_a_row():
    assert len(ALL) == len(set(ALL))
    # Clipping by norm and by value, float32 beside float64, Muon, Schedule-Free; torch's Muon.
    assert len(NOTES["optimizers"]) == len(OPTIMIZERS) + 5 + hasattr(torch.optim, "Muon")
    assert list(optimizers.ORACLES) == list(OPTIMIZERS)
    assert NOTES["activations"] == [oracle.name for oracle in activations.ORACLES]
    assert set(foundations.UNITS) < set(NOTES["foundations"])
    assert {note.split(",")[0] for note in NOTES["models"]} == {
        "FastText", "TextCNN", "TextRNN", "multi-head attention",
        "Transformer encoder", "Transformer decoder",
    }  # fmt: skip
    assert {note.split(",")[0] for note in NOTES["papers"]} == {
        "RCNN", "HAN", "Seq2seq", "DMN", "DMN+", "EntityNetwork",
    }  # fmt: skip
    assert len(MODELS) == 9  # a new model needs a row


def test_rows_are_those_of_the_comparisons():
    made = list(rows(STEPS))
    assert [row.note for row in made] == ALL
    assert [row.note for row in made if not row.ok] == []
    for row in made:
        assert row.cases == len(computed()[row.note].cases) > 0
        if row.note.startswith("Clipping"):
            assert row.tolerance == 0
        else:
            assert 0 < row.tolerance <= ROUGH.get(row.note, 1e-10)
        assert row.oracle
        assert row.mapping


@pytest.mark.parametrize("note", ALL)
def test_a_row_holds(note):
    row = computed()[note].row()
    assert row.ok, row
    for ours, theirs in computed()[note].cases:
        assert len(ours()) == len(theirs()) > 0
        dtype = torch.float32 if note == FLOAT32 else torch.float64
        assert all(x.dtype == dtype for x in (*ours(), *theirs()))


def at(position, value):
    def fault(x):
        wrong = x.detach().clone(memory_format=torch.contiguous_format)
        wrong.view(-1)[position(x.numel())] = value
        return wrong

    return fault


FAULTS = {
    "NaN": lambda x: torch.full_like(x, math.nan),
    "NaN, first": at(lambda n: 0, math.nan),
    "NaN, in the middle": at(lambda n: n // 2, math.nan),
    "NaN, last": at(lambda n: n - 1, math.nan),
    "inf": at(lambda n: n // 2, math.inf),
    "-inf": at(lambda n: n - 1, -math.inf),
    "all inf": lambda x: torch.full_like(x, math.inf),
    "sign": lambda x: -x,
    "zero": torch.zeros_like,
    "double": lambda x: 2 * x,
    "float32": lambda x: x.float(),
    "float32's digits": lambda x: x.float().double(),
    "a dimension more": lambda x: x[None],
    "a dimension more, last": lambda x: x[..., None],
    "flat": lambda x: x.flatten() if x.dim() != 1 else x[:, None],
    "one number": lambda x: x.mean() if x.dim() else x[None],
    "empty": lambda x: x.flatten()[:0],
}
# Of a tensor that is 0 by definition these make the same tensor.
SAME_OF_ZERO = {"sign", "zero", "double", "float32's digits"}


def planted(comparison, case, output, fault, both=False):
    """The comparison with one output of one case made wrong: ours, or that of both sides."""

    def spoil(function):
        outputs = list(function())
        outputs[output] = fault(outputs[output])
        return outputs

    ours, theirs = comparison.cases[case]
    cases = list(comparison.cases)
    cases[case] = Case(lambda: spoil(ours), (lambda: spoil(theirs)) if both else theirs)
    return replace(comparison, cases=cases)


def places(comparison):
    """Each output of each case."""
    return [
        (case, output)
        for case, (ours, _) in enumerate(comparison.cases)
        for output in range(len(ours()))
    ]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("note", ALL)
def test_a_fault_in_any_output_of_any_case_shows(note, fault):
    comparison = computed()[note]
    tried = 0
    for case, output in places(comparison):
        x = comparison.cases[case].ours()[output]
        wrong = FAULTS[fault](x)
        same = wrong.shape == x.shape and wrong.dtype == x.dtype and torch.equal(wrong, x)
        if same:  # 0 by definition, and what float32 can hold: slopes of 0, .1 and 1, clipped .5
            assert fault in SAME_OF_ZERO or note == FLOAT32
            assert output in comparison.zeros or fault.startswith("float32")
            continue
        tried += 1
        if fault == "float32's digits" and note == MUON[1]:  # which has bfloat16's
            continue
        assert not planted(comparison, case, output, FAULTS[fault]).row().ok, (case, output)
    assert tried or fault.startswith("float32")


@pytest.mark.parametrize("fault", ["NaN", "NaN, last", "all inf", "zero", "empty"])
@pytest.mark.parametrize("note", ALL)
def test_the_same_fault_on_both_sides_is_no_agreement(note, fault):
    comparison = computed()[note]
    for case, output in places(comparison):
        if fault == "zero" and output in comparison.zeros:
            continue
        wrong = planted(comparison, case, output, FAULTS[fault], both=True)
        assert not wrong.row().ok, (case, output)


@pytest.mark.parametrize("note", ALL)
def test_last_digits_beyond_the_tolerance_show_and_others_do_not(note):
    comparison = computed()[note]
    for case, output in places(comparison):
        x = comparison.cases[case].theirs()[output].detach()
        place = int(x.abs().nan_to_num(posinf=0).argmax())
        size = float(x.reshape(-1)[place].abs())
        if comparison.scale == "one":
            size = max(size, 1.0)

        def shifted(by, x=x, place=place, size=size):
            value = x.reshape(-1)[place]
            if comparison.tolerance == 0:
                value = torch.nextafter(value, value + by)
            return at(lambda n: place, value + by * comparison.tolerance * size)(x)

        for by in (1.01, -1.01):
            wrong = planted(comparison, case, output, lambda _, by=by: shifted(by))
            assert not wrong.row().ok, (case, output)
        if comparison.tolerance:
            right = planted(comparison, case, output, lambda _: shifted(0.98))
            assert right.row().ok, (case, output)


@pytest.mark.parametrize("note", ALL)
def test_a_missing_output_or_case_shows(note):
    comparison = computed()[note]
    assert not replace(comparison, cases=[]).row().ok
    ours, theirs = comparison.cases[-1]
    for wrong in (Case(lambda: ours()[:-1], theirs), Case(lambda: [], lambda: [])):
        assert not replace(comparison, cases=[*comparison.cases[:-1], wrong]).row().ok


# --- faults in the functions themselves, seen through the whole comparison ------------------------


SMALL = {
    "NaN": at(lambda n: n // 2, math.nan),
    "inf": at(lambda n: n // 2, math.inf),
    "sign": lambda x: -x,
    "digits": lambda x: x * (1 + 1e-9),
    "float32": lambda x: x.float(),
}


class Spoil(torch.autograd.Function):
    """The identity, but for faults in value and gradient."""

    @staticmethod
    def forward(ctx, x, value, slope):
        ctx.slope = slope
        return value(x.clone())

    @staticmethod
    def backward(ctx, g):
        return ctx.slope(g.clone()), None, None


def same(x):
    return x


def spoilt(f, value, slope):
    return lambda x: Spoil.apply(f(Spoil.apply(x, same, slope)), value, same)


@pytest.mark.parametrize(
    ("where", "fault"),
    # A gradient of another dtype cannot be planted: autograd casts it to that of the input.
    [("value", fault) for fault in SMALL] + [("slope", f) for f in SMALL if f != "float32"],
)
def test_a_fault_in_an_activation_shows(monkeypatch, where, fault):
    faults = {"value": same, "slope": same, where: SMALL[fault]}
    oracles = [
        oracle._replace(ours=spoilt(oracle.ours, **faults)) for oracle in activations.ORACLES
    ]
    monkeypatch.setattr(activations, "ORACLES", oracles)
    expected = set(NOTES["activations"])
    if where == "slope" and fault in ("sign", "digits"):
        expected -= {"step"}  # −0 is 0
    assert failing("activations") == expected


@pytest.mark.parametrize("step", [0, 7, STEPS - 1])
@pytest.mark.parametrize("fault", ["NaN", "inf", "sign", "digits"])
def test_a_fault_in_a_rule_shows(monkeypatch, fault, step):
    """In one coordinate of one step."""

    def wrong(make):
        def made(params, **hyper):
            optimizer, done = make(params, **hyper), []
            w = optimizer.param_groups[0]["params"][0]

            def spoil(*_):
                if len(done) == step:
                    with torch.no_grad():
                        w[11:12] = SMALL[fault](w[11:12])
                done.append(step)

            optimizer.register_step_post_hook(spoil)
            return optimizer

        return made

    for name, oracle in optimizers.ORACLES.items():
        monkeypatch.setitem(optimizers.ORACLES, name, oracle._replace(rule=wrong(oracle.rule)))
    assert failing("optimizers") == RULES


def test_optimizers_that_do_nothing_are_not_equal(monkeypatch):
    for name, oracle in optimizers.ORACLES.items():
        idle = oracle._replace(
            rule=lambda p, **_: torch.optim.SGD(p, lr=0.0),
            torch=lambda p, **_: torch.optim.SGD(p, lr=0.0),
        )
        monkeypatch.setitem(optimizers.ORACLES, name, idle)
    assert failing("optimizers") == {*RULES, FLOAT32}


@pytest.mark.parametrize("fault", SMALL)
@pytest.mark.parametrize("what", ["norm", "value"])
def test_a_fault_in_clipping_shows(monkeypatch, fault, what):
    right = getattr(optimizers, f"clip_grad_{what}_")

    def wrong(params, *arguments):
        out = right(params, *arguments)
        p = params[-1]
        g = SMALL[fault](p.grad)
        if g.dtype != p.dtype:
            p.grad = None
            p.data = p.data.float()
        p.grad = g
        return out

    monkeypatch.setattr(optimizers, f"clip_grad_{what}_", wrong)
    assert failing("optimizers") == {f"Clipping by {what}"}


def test_the_norm_that_clipping_returns_is_compared(monkeypatch):
    right = optimizers.clip_grad_norm_
    monkeypatch.setattr(optimizers, "clip_grad_norm_", lambda *a: right(*a) * (1 + 1e-15))
    assert failing("optimizers") == {"Clipping by norm"}


# --- implementations that are wrong for some arguments and parameters only ------------------------


def stepping_only(chosen):
    """A step over some of a group's parameters."""
    right = UpdateRule._step_group

    def wrong(optimizer, group):
        right(optimizer, {**group, "params": [p for p in group["params"] if chosen(p, group)]})

    return wrong


def zeroing_float32(optimizer, group):
    RIGHT_STEP(optimizer, group)
    kinds = {p.dtype for p in group["params"]}
    with torch.no_grad():
        for p in group["params"]:
            if len(kinds) > 1 and p.dtype == torch.float32:
                p.zero_()


RIGHT_STEP = UpdateRule._step_group
STEPS_GONE_WRONG = {
    "only the first parameter": (
        stepping_only(lambda p, group: p is group["params"][0]),
        {*RULES, *MUON, FLOAT32} & {*NOTES["optimizers"]},
    ),
    "not those of 1,000 elements": (stepping_only(lambda p, _: p.numel() < 1000), RULES),
    "not those above 65,536": (stepping_only(lambda p, _: p.numel() <= 65_536), RULES),
    "float32 beside float64 becomes 0": (zeroing_float32, {FLOAT32}),
}


@pytest.mark.parametrize("what", STEPS_GONE_WRONG)
def test_a_parameter_that_is_not_stepped_shows(monkeypatch, what):
    assert failing("optimizers") == set()
    wrong, expected = STEPS_GONE_WRONG[what]
    monkeypatch.setattr(UpdateRule, "_step_group", wrong)
    assert failing("optimizers") == expected


def test_a_rule_that_does_not_maximize_shows(monkeypatch):
    right = UpdateRule.update.__func__

    def wrong(cls, *tensors, maximize=False, **hyper):
        return right(cls, *tensors, **hyper)

    monkeypatch.setattr(UpdateRule, "update", classmethod(wrong))
    climb = {oracle.note for oracle in optimizers.ORACLES.values() if oracle.climbs}
    assert failing("optimizers") == climb
    assert len(climb) >= len(RULES) - 2


NORM, VALUE = optimizers.clip_grad_norm_, optimizers.clip_grad_value_


@pytest.mark.parametrize(
    ("function", "wrong"),
    [
        ("norm", lambda params, limit, p: NORM(params, 1.0, p)),
        ("norm", lambda params, limit, p: NORM(params, limit, p if p in (1, 2, math.inf) else 2)),
        ("value", lambda params, limit: VALUE(params, 0.5)),
    ],
    ids=["max_norm", "norm_type", "clip_value"],
)
def test_an_argument_that_clipping_ignores_shows(monkeypatch, function, wrong):
    monkeypatch.setattr(optimizers, f"clip_grad_{function}_", wrong)
    assert failing("optimizers") == {f"Clipping by {function}"}


def changed(f, where, value):
    """The function, but for what it returns at some points."""
    return lambda x: torch.where(where(x), value(x), f(x))


def constant(number):
    return lambda x: torch.full_like(x, number)


OURS = {oracle.name: oracle.ours for oracle in activations.ORACLES}
POINTS_GONE_WRONG = {
    "relu, slope 1 at 0": ("relu", changed(OURS["relu"], lambda x: x == 0, same)),
    "relu(NaN) = 0": ("relu", changed(OURS["relu"], torch.isnan, constant(0.0))),
    "step(0) = 1": ("step", changed(OURS["step"], lambda x: x == 0, constant(1.0))),
    "sigmoid = 0 far out": (
        "sigmoid",
        changed(OURS["sigmoid"], lambda x: x.abs() > 8, constant(0.0)),
    ),
    "tanh(x) = x for small x": ("tanh", changed(OURS["tanh"], lambda x: x.abs() < 1e-3, same)),
    **{
        f"{name}, NaN at {number}": (
            name,
            changed(f, lambda x, number=number: x == number, constant(math.nan)),
        )
        for name, f in OURS.items()
        for number in (0.0, 50.0, math.inf, -math.inf)
        # x Φ(x) and its like are −∞ · 0 = NaN there, and x / (1 + |x|) is ∞ / ∞, torch's too.
        if not f(torch.tensor([number])).isnan()
    },
}


@pytest.mark.parametrize("what", POINTS_GONE_WRONG)
def test_a_single_wrong_point_of_an_activation_shows(monkeypatch, what):
    assert failing("activations") == set()
    name, wrong = POINTS_GONE_WRONG[what]
    oracles = [o._replace(ours=wrong) if o.name == name else o for o in activations.ORACLES]
    monkeypatch.setattr(activations, "ORACLES", oracles)
    assert failing("activations") == {name}


FUNCTIONS = {name: getattr(activations.ours, name) for name in OURS}


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("leaky_relu", lambda x, negative_slope=0.01: FUNCTIONS["leaky_relu"](x)),
        ("elu", lambda x, alpha=1.0: FUNCTIONS["elu"](x)),
        ("elu", lambda x, alpha=1.0: FUNCTIONS["elu"](x, 1.5)),
        ("softplus", lambda x, beta=1.0: FUNCTIONS["softplus"](x)),
        ("celu", lambda x, alpha=1.0: FUNCTIONS["celu"](x)),
        ("hardtanh", lambda x, low=-1.0, high=1.0: FUNCTIONS["hardtanh"](x, low)),
        ("hardtanh", lambda x, low=-1.0, high=1.0: FUNCTIONS["hardtanh"](x, -1.0, high)),
        ("softshrink", lambda x, lambd=0.5: FUNCTIONS["softshrink"](x)),
        ("hardshrink", lambda x, lambd=0.5: FUNCTIONS["hardshrink"](x)),
        ("glu", lambda x, dim=-1: FUNCTIONS["glu"](x.flip(dim), dim)),
        ("swiglu", lambda x, dim=-1: FUNCTIONS["swiglu"](x.flip(dim), dim)),
        ("prelu", lambda x, weight: FUNCTIONS["prelu"](x, torch.full_like(weight, 0.25))),
        ("rrelu", lambda x, *bounds_and_training: FUNCTIONS["rrelu"](x)),
        ("rrelu", lambda x, a=1 / 8, b=1 / 3, t=False: FUNCTIONS["rrelu"](x, a, 1 / 3, t)),
        ("rrelu", lambda x, a=1 / 8, b=1 / 3, t=False: FUNCTIONS["rrelu"](x, 1 / 8, b, t)),
    ],
)
def test_an_argument_that_an_activation_ignores_shows(monkeypatch, name, wrong):
    monkeypatch.setattr(activations.ours, name, wrong)
    assert failing("activations") == {name}


@pytest.mark.parametrize("fault", SMALL)
@pytest.mark.parametrize("which", [0, 1])
def test_a_fault_in_a_units_gradient_shows(monkeypatch, fault, which):
    right = foundations.Neuron.gradient

    def wrong(*arguments):
        gradients = list(right(*arguments))
        gradients[which] = SMALL[fault](gradients[which])
        return gradients

    monkeypatch.setattr(foundations.Neuron, "gradient", wrong)
    assert failing("foundations") == set(foundations.UNITS)


@pytest.mark.parametrize("fault", ["NaN", "inf", "sign", "digits"])
@pytest.mark.parametrize("which", range(6))
def test_a_fault_in_back_propagation_shows(monkeypatch, fault, which):
    """In the gradient of one parameter."""
    right = foundations.Network.backward

    def wrong(network, *arguments):
        out = right(network, *arguments)
        p = network.parameters()[which]
        p.grad = SMALL[fault](p.grad)
        return out

    monkeypatch.setattr(foundations.Network, "backward", wrong)
    assert failing("foundations") == {n for n in NOTES["foundations"] if "propagation" in n}


@pytest.mark.parametrize("fault", SMALL)
def test_a_fault_in_the_descent_shows(monkeypatch, fault):
    right = foundations.minimise
    monkeypatch.setattr(foundations, "minimise", lambda *a, **k: SMALL[fault](right(*a, **k)))
    if fault in ("NaN", "inf"):  # of a path of 301 points they hit one in the middle
        monkeypatch.setattr(
            foundations,
            "minimise",
            lambda *a, **k: right(*a, **k)[-1:] * SMALL[fault](torch.ones(3)),
        )
    assert failing("foundations") == {"gradient descent"}


@pytest.mark.parametrize("fault", SMALL)
@pytest.mark.parametrize("chapter", ["models", "papers"])
def test_a_fault_in_a_model_shows(monkeypatch, chapter, fault):
    right = models.ready

    def wrong(model):
        def spoil(module, inputs, out):
            spoiled = SMALL[fault](out[0] if isinstance(out, tuple) else out)
            return (spoiled, *out[1:]) if isinstance(out, tuple) else spoiled

        model = right(model)
        model.register_forward_hook(spoil)
        return model

    monkeypatch.setattr({"models": models, "papers": papers}[chapter], "ready", wrong)
    assert failing(chapter) == set(NOTES[chapter])


def test_a_mistake_in_a_part_of_a_model_shows(monkeypatch):
    monkeypatch.setitem(POOLING, "max", lambda x, real: x.amax(dim=1))  # reads padding
    monkeypatch.setattr(rcnn_module, "tanh", torch.sigmoid)
    assert failing("models") == {"TextRNN, LSTM", "TextRNN, GRU"}
    assert failing("papers") == {"RCNN"}
