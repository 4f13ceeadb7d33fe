"""What the functions say to arguments that they cannot take."""

import warnings
from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from compiling import compiles
from dlnotes import activations as act
from dlnotes.activations import elu, leaky_relu, maxout, prelu, relu, rrelu, sigmoid, softplus, step

inf, nan = float("inf"), float("nan")
NUMBERS = {
    "elu: alpha": lambda x, a: elu(x, a),
    "leaky_relu: negative_slope": lambda x, a: leaky_relu(x, a),
    "softplus: beta": lambda x, a: softplus(x, a),
    "celu: alpha": lambda x, a: act.celu(x, a),
    "hardtanh: min_val": lambda x, a: act.hardtanh(x, a, 2.0),
    "hardtanh: max_val": lambda x, a: act.hardtanh(x, 0.0, a),
    "softshrink: lambd": lambda x, a: act.softshrink(x, a),
    "hardshrink: lambd": lambda x, a: act.hardshrink(x, a),
    "rrelu: lower": lambda x, a: rrelu(x, a, 0.5),
    "rrelu: upper": lambda x, a: rrelu(x, 0.1, a, training=True),
}
every = pytest.mark.parametrize("argument", NUMBERS)


@every
@pytest.mark.parametrize("value", [inf, -inf, nan, 1e39, -(10**400)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_setting_is_finite_in_the_precision_of_x(argument, value, dtype):
    with pytest.raises(
        ValueError, match=rf"^{argument} must be a finite number.*{dtype}, got"
    ) as e:
        NUMBERS[argument](torch.randn(3, dtype=dtype), value)
    assert str(value) in str(e.value)


@every
@pytest.mark.parametrize(
    "value",
    ["0.1", None, True, 1j, [0.1], torch.ones(1), torch.tensor(0.1, requires_grad=True)],
    ids=repr,
)
def test_a_setting_is_a_number(argument, value):
    got = f"a tensor {tuple(value.shape)}" if isinstance(value, torch.Tensor) else repr(value)
    with pytest.raises(TypeError, match=rf"^{argument} must be a finite number.*, got ") as error:
        NUMBERS[argument](torch.randn(3), value)
    assert str(error.value).endswith(f", got {got}")


@every
@pytest.mark.parametrize(
    "value", [1, np.float32(0.25), np.int64(1), Fraction(1, 4), torch.tensor(0.25)]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_any_kind_of_number_will_do(argument, value, dtype):
    if argument.startswith("rrelu: lower"):
        value = value / 4
    x = torch.randn(3).to(dtype)
    torch.manual_seed(0)
    y = NUMBERS[argument](x, value)
    torch.manual_seed(0)
    assert torch.equal(y, NUMBERS[argument](x, float(value)))


@pytest.mark.parametrize(
    ("ours", "torchs"),
    [
        (lambda x: elu(x, -1.5), lambda x: F.elu(x, -1.5)),
        (lambda x: elu(x, 0.0), lambda x: F.elu(x, 0.0)),
        (lambda x: elu(x.double(), 1e300), lambda x: F.elu(x.double(), 1e300)),
        (lambda x: leaky_relu(x, 0), lambda x: F.leaky_relu(x, 0)),
        (lambda x: leaky_relu(x, -3), lambda x: F.leaky_relu(x, -3)),
        (lambda x: softplus(x, -2.0), lambda x: F.softplus(x, -2.0)),
        (lambda x: rrelu(x, -0.5, -0.5), lambda x: F.rrelu(x, -0.5, -0.5)),
    ],
)
def test_what_mathematics_allows_is_allowed(ours, torchs):
    x = torch.linspace(-4, 4, 50).requires_grad_()
    torch.testing.assert_close(ours(x), torchs(x))
    slopes = [torch.autograd.grad(f(x).sum(), x)[0] for f in (ours, torchs)]
    torch.testing.assert_close(*slopes)


MODES = {
    "plain": lambda f: lambda x: f(x),
    "no_grad": lambda f: torch.no_grad()(lambda x: f(x)),
    "inference": lambda f: torch.inference_mode()(lambda x: f(x)),
    "vmap": lambda f: torch.func.vmap(lambda x: f(x)),
    "grad": lambda f: lambda x: torch.func.grad(lambda z: f(z).sum())(x),
    "jvp": lambda f: lambda x: torch.func.jvp(lambda z: f(z), (x,), (x,)),
    "slope": lambda f: lambda x: f.slope(x),
}


class WithZero:
    """softplus(x, 0.) and its slope."""

    def __call__(self, x):
        return softplus(x, 0.0)

    def slope(self, x):
        return softplus.slope(x, 0.0)


def set_to_zero():
    """A module whose setting is changed after it was made."""
    module = act.Softplus()
    module.beta = 0
    return module


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "x", [torch.randn(3), torch.randn(3).half(), torch.zeros(3, device="meta")]
)
@pytest.mark.parametrize("f", [WithZero(), set_to_zero()])
def test_softplus_with_zero_is_one_clear_error(mode, x, f):
    for _ in range(2):  # the first call and a later one
        with pytest.raises(ValueError, match=r"^softplus: beta must be .* other than 0 .*, got 0"):
            MODES[mode](f)(x)


@compiles
@pytest.mark.parametrize("fullgraph", [True, False])
def test_softplus_with_zero_under_torch_compile(fullgraph):
    torch._dynamo.reset()
    f = torch.compile(lambda x: softplus(x, 0.0), fullgraph=fullgraph, backend="eager")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of graph breaks
        with pytest.raises(
            Exception, match=r"softplus: beta must be .* other than 0 .*got 0.0"
        ) as e:
            f(torch.randn(3))
    assert fullgraph or e.type is ValueError


@compiles
def test_a_setting_may_vary_under_torch_compile():
    torch._dynamo.reset()
    f = torch.compile(lambda x, a: elu(x, alpha=a), fullgraph=True, backend="aot_eager")
    x = torch.randn(10)
    for alpha in (0.1, 0.2, 0.3, 0.4):
        torch.testing.assert_close(f(x, alpha), F.elu(x, alpha))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: elu(), "elu: missing a required argument: 'x'"),
        (lambda x: elu(x, 1.0, 2.0), "elu: too many positional arguments"),
        (lambda x: elu(x, 1.0, alpha=2.0), "elu: multiple values for argument 'alpha'"),
        (lambda x: elu(x, beta=2.0), "elu: got an unexpected keyword argument 'beta'"),
        (lambda x: relu(x, True), "relu: too many positional arguments"),
        (lambda x: sigmoid(3.0), "sigmoid: x must be a tensor, got float"),
        (lambda x: relu([1.0]), "relu: x must be a tensor, got list"),
        (lambda x: rrelu(1.0), "rrelu: x must be a tensor, got float"),
        (lambda x: maxout(1.0), "maxout: x must be a tensor, got float"),
        (lambda x: prelu(1.0, x), "prelu: x must be a tensor, got float"),
        (lambda x: prelu(x, 0.25), "prelu: weight must be a real floating-point tensor, got 0.25"),
        (lambda x: prelu(x, torch.ones(1).int()), "prelu: weight .*, got torch.int32"),
        (lambda x: step(x, "yes"), "step: straight_through must be True or False, got 'yes'"),
        (lambda x: step(x, 1), "step: straight_through must be True or False, got 1"),
        (lambda x: rrelu(x, 0.1, 0.2, "no"), "rrelu: training must be True or False, got 'no'"),
        (lambda x: act.ELU("x"), "elu: alpha must be a finite number, got 'x'"),
    ],
)
def test_the_message_names_function_argument_and_value(call, message):
    with pytest.raises(TypeError, match=f"^{message}$"):
        call(torch.randn(3))


@pytest.mark.parametrize(
    ("f", "message"),
    [
        (
            lambda x: act.hardtanh(x, 1.0, -1.0),
            r"hardtanh: min_val must be at most max_val, got min_val=1\.0 and max_val=-1\.0",
        ),
        (lambda x: act.celu(x, 0), r"celu: alpha must be greater than 0, got alpha=0"),
        (lambda x: act.softshrink(x, -0.5), r"softshrink: lambd must be at least 0, got .*=-0\.5"),
        (lambda x: act.hardshrink(x, -0.5), r"hardshrink: lambd must be at least 0, got .*=-0\.5"),
    ],
)
def test_settings_that_no_function_has(f, message):
    for _ in range(2):
        with pytest.raises(ValueError, match=f"^{message}$"):
            f(torch.randn(3))


@compiles
def test_settings_with_a_condition_may_vary_under_torch_compile():
    torch._dynamo.reset()
    f = torch.compile(lambda x, a: act.softshrink(x, a), fullgraph=True, backend="aot_eager")
    x = torch.randn(10)
    for lambd in (0.1, 0.2, 0.3, 0.4):
        torch.testing.assert_close(f(x, lambd), F.softshrink(x, lambd))


def test_keyword_arguments_and_defaults():
    x = torch.randn(5)
    assert torch.equal(elu(x=x), elu(x, 1.0))
    assert torch.equal(elu(x, alpha=2), elu(x, 2.0))
    assert torch.equal(elu(alpha=2.0, x=x), elu(x, 2.0))


MODULES = [
    getattr(act, name)
    for name in act.__all__
    if isinstance(getattr(act, name), type)
    and issubclass(getattr(act, name), torch.nn.Module)
    and name != "Module"
]


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("name", ["inplace", "foo"])
def test_a_module_refuses_an_unknown_setting(module, name):
    sizes = (3, 2) if module is act.Maxout else ()
    with pytest.raises(TypeError, match=f"unexpected keyword argument '{name}'") as e:
        module(*sizes, **{name: True})
    assert "\n" not in str(e.value)


def test_settings_that_a_learners_module_leaves_out():
    class Bounded(act.Module, function=act.hardtanh):
        """Without a constructor of its own."""

    x = torch.linspace(-4, 4, 9)
    assert torch.equal(Bounded(max_val=3.0)(x), F.hardtanh(x, -1.0, 3.0))
    assert torch.equal(Bounded(max_val=3.0, min_val=-2.0)(x), F.hardtanh(x, -2.0, 3.0))
    assert repr(Bounded(max_val=3.0)) == "Bounded(min_val=-1.0, max_val=3.0)"
    with pytest.raises(TypeError, match=r"^Bounded\(\) .*'upper'; it takes min_val, max_val$"):
        Bounded(upper=3.0)
    with pytest.raises(TypeError, match=r"^ReLU\(\) .*'inplace'; it takes none$"):
        act.ReLU(inplace=True)


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: act.Maxout(3, 2, 0), ValueError, "Maxout: pieces must be an integer from 1 to"),
        (lambda: act.Maxout(3, 2, 257), ValueError, "Maxout: pieces must .*, got 257"),
        (lambda: act.Maxout(3, 2, 1.5), ValueError, "Maxout: pieces must .*, got 1.5"),
        (lambda: act.PReLU(0), ValueError, "PReLU: num_parameters must be an integer >= 1, got 0"),
        (lambda: act.PReLU(-1), ValueError, "PReLU: num_parameters must be .*, got -1"),
        (lambda: act.PReLU(init=nan), ValueError, "PReLU: init must be a finite number.*, got nan"),
        (lambda: act.PReLU(init="a"), TypeError, "PReLU: init must be a finite number, got 'a'"),
        (lambda: act.RReLU("a"), TypeError, "rrelu: lower must be a finite number, got 'a'"),
        (lambda: act.RReLU(0.5, 0.1), ValueError, "rrelu: lower must be at most upper"),
        (lambda: act.Maxout(3, 2, True), ValueError, "Maxout: pieces must .*, got True"),
        (lambda: act.PReLU(True), ValueError, "PReLU: num_parameters must .*, got True"),
        (lambda: act.Hardtanh(3, 1), ValueError, "hardtanh: min_val .*, got min_val=3 and max_val"),
        (lambda: act.Hardtanh(max_val=-2), ValueError, "hardtanh: .*, got min_val=-1.0 and max_va"),
        (lambda: act.Hardtanh("a"), TypeError, "hardtanh: min_val must be .* number, got 'a'"),
        (lambda: act.CELU(-1.0), ValueError, "celu: alpha must be greater than 0, got alpha=-1.0"),
        (lambda: act.Softshrink(-0.5), ValueError, "softshrink: lambd must be at least 0, got"),
        (lambda: act.Hardshrink(-0.5), ValueError, "hardshrink: lambd must be at least 0, got"),
        (lambda: act.Softplus(0), ValueError, "softplus: beta must be .* other than 0 .*, got 0"),
        (lambda: act.ELU(nan), ValueError, "elu: alpha must be a finite number .*, got nan"),
        (lambda: act.LeakyReLU(True), TypeError, "leaky_relu: negative_slope must .*, got True"),
        (lambda: act.Step(1), TypeError, "step: straight_through must be True or False, got 1"),
        (lambda: act.GLU(1.5), TypeError, "GLU: dim must be an integer, got 1.5"),
        (lambda: act.SwiGLU(True), TypeError, "SwiGLU: dim must be an integer, got True"),
        (lambda: act.RReLU(generator=3), TypeError, "RReLU: generator must be a torch.Generator"),
    ],
)
def test_modules_refuse_settings_when_they_are_built(build, error, message):
    with pytest.raises(error, match=f"^{message}"):
        build()
