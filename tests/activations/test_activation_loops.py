"""Every formula as one C loop, against its tensor operations and against the truth."""

import importlib
import inspect
import threading

import numpy as np
import pytest
import torch
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import BaseTorchFunctionMode

from dlnotes import kernel
from dlnotes.activations import _elementwise, elu, glu, leaky_relu, sigmoid, softplus
from dlnotes.activations._elementwise import elementwise, in_one_pass, in_operations
from dlnotes.oracles.activations import ORACLES

every = pytest.mark.parametrize("case", ORACLES, ids=lambda case: case.name)
SETTINGS = {
    "elu": {"alpha": 1.5},
    "leaky_relu": {"negative_slope": 0.1},
    "softplus": {"beta": 0.5},
    "celu": {"alpha": 2.0},
    "hardtanh": {"min_val": -0.5, "max_val": 2.0},
    "softshrink": {"lambd": 0.25},
    "hardshrink": {"lambd": 0.25},
}
MASKED = {"relu", "leaky_relu", "hardtanh", "relu6", "hardsigmoid", "softshrink", "hardshrink"}
OF_TWO = {"prelu", "glu", "swiglu"}
# Value or slope is a difference of larger numbers.
DIFFERENCES = {"gelu", "silu", "mish", "tanhshrink", "glu", "swiglu"}
# step's slope is a constant, maxout is no formula, rrelu is leaky_relu and a product.
POINTWISE = [case.name for case in ORACLES if case.name not in {"step", "maxout", "rrelu"}]
FORMULAS = [(name, which) for name in POINTWISE for which in ("value", "slope")]
FORMULAS += [(name, "mask") for name in sorted(MASKED)]


def formula_of(name, which):
    """What runs as a loop: the value, the mask, or g times the slope."""
    module = importlib.import_module(f"dlnotes.activations.{name}")
    if which == "value":
        return getattr(module, f"_{name}" if name in OF_TWO else name).value
    if which == "mask":
        names = vars(module).keys() & {"active", "positive", "inside", "outside"}
        return named_only(getattr(module, names.pop()))
    return times(named_only(module.slopes if name in OF_TWO else module.slope))


def named_only(formula):
    """The formula, called with all settings, of those that it names."""
    named = inspect.signature(formula).parameters
    return lambda *x, **settings: formula(
        *x, **{name: s for name, s in settings.items() if name in named}
    )


def times(slope):
    def formula(g, *x, **settings):
        slopes = slope(*x, **settings)
        return tuple(g * s for s in slopes) if isinstance(slopes, tuple) else g * slopes

    return formula


def arguments(name, which, x):
    g = torch.linspace(-2, 3, x.numel(), dtype=x.dtype).reshape(x.shape)
    if which == "slope" and name in MASKED:
        return [g, x > 0]
    second = {"prelu": torch.tensor(0.3, dtype=x.dtype)}.get(name, x.flip(0))
    tensors = [x, second] if name in OF_TWO else [x]
    return [g, *tensors] if which == "slope" else tensors


def one_pass(f, tensors, settings=None):
    """By a loop that is made here and now, or None."""
    return in_one_pass(lambda *x, **s: f(*x, **s), tensors, settings or {})


def compiler():
    try:
        kernel.compiled("int one(void) { return 1; }\n", *kernel.EXACT)
    except (OSError, RuntimeError) as reason:
        pytest.skip(f"no compiler on this machine: {reason}")


def points(dtype, n=20_001):
    torch.manual_seed(0)
    return torch.cat((torch.linspace(-30, 30, n, dtype=dtype), 3 * torch.randn(n, dtype=dtype)))


def as_list(result):
    return list(result) if isinstance(result, tuple) else [result]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(("name", "which"), FORMULAS)
def test_a_loop_is_its_formula_up_to_roundings(name, which, dtype):
    """Both are as far from the formula in float64, or of the sizes that cancel in it."""
    compiler()
    f, settings = formula_of(name, which), SETTINGS.get(name, {})
    tensors = arguments(name, which, points(dtype))
    with torch.no_grad():
        fast = one_pass(f, tensors, settings)
        if name == "gelu" and dtype is torch.float64:
            assert fast is None  # there is no erf in double
            return
        plain = in_operations(f, tensors, settings)
        truth = f(*(t.double() for t in tensors), **settings)
    eps = torch.finfo(dtype).eps
    for x, y, exact in zip(*map(as_list, (fast, plain, truth)), strict=True):
        if x.dtype is torch.bool:
            assert torch.equal(x, y)
            continue
        absolute = 4 * eps * (30 if name in DIFFERENCES else 1e-30)
        for mine in (x, y):
            torch.testing.assert_close(mine.double(), exact, rtol=6 * eps, atol=absolute)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(
    ("name", "low", "high", "ulps"),
    [
        ("exp", -1, 1, 2),
        ("exp", -87, 88.7, 2),
        ("exp", -103, -87, 2),  # in float the result has few digits left
        ("expm1", -1e-3, 1e-3, 2),
        ("expm1", -1, 1, 2),
        ("expm1", -40, 88.7, 2),
        ("log1p", -0.999, 0, 2),
        ("log1p", 0, 1, 2),
        ("log1p", 0, 1e6, 2),
        ("erf", -1e-3, 1e-3, None),
        ("erf", -6, 6, None),
    ],
)
def test_elementary_functions(name, low, high, ulps, dtype):
    compiler()
    if name == "erf" and dtype is torch.float64:
        pytest.skip("there is no erf in double")

    def f(x):
        return getattr(torch, name)(x)

    x = torch.linspace(low, high, 100_001, dtype=dtype)
    with torch.no_grad():
        found = one_pass(f, [x])
    if name == "erf":
        torch.testing.assert_close(found.double(), f(x.double()), rtol=0, atol=5e-7)
        return
    if dtype is torch.float64:
        exact, ulps = f(x), ulps + 1  # torch's own is off by one
    else:
        exact = f(x.double())
    away = torch.full_like(exact, torch.inf)
    rounded = exact.to(dtype).abs()
    ulp = torch.nextafter(rounded, away.to(dtype)) - rounded
    assert ((found.double() - exact).abs() <= ulps * ulp.double()).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", ["exp", "expm1", "log1p", "erf"])
def test_elementary_functions_at_their_ends(name, dtype):
    compiler()
    if name == "erf" and dtype is torch.float64:
        pytest.skip("there is no erf in double")
    tiny, huge = torch.finfo(dtype).tiny, torch.finfo(dtype).max
    inf, nan = torch.inf, torch.nan
    x = torch.tensor([0.0, tiny, -tiny, huge, -huge, inf, -inf, nan, -1, -2, 1], dtype=dtype)
    with torch.no_grad():
        found = one_pass(lambda x: getattr(torch, name)(x), [x])
    absolute = 5e-7 if name == "erf" else 0
    if name == "erf":
        expected = torch.erf(x)
    else:  # torch 2.3's log1p is infinite at the largest number
        with np.errstate(all="ignore"):
            expected = torch.from_numpy(getattr(np, name)(x.numpy()))
    torch.testing.assert_close(found, expected, equal_nan=True, atol=absolute, rtol=1e-6)


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_an_element_has_the_same_bits_wherever_it_lies(case, dtype):
    """In the vector part of the loop, in its remainder, on one thread or on two."""
    x = points(dtype, 40_000)
    y = case.ours(x)
    for start, end in ((0, 1), (1, 14), (3, 40_010), (77_777, None)):
        assert torch.equal(case.ours(x[start:end]), y[start:end])
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert torch.equal(case.ours(x), y)
        odd = x[1:].flip(0)  # the threads' parts differ in size
        assert torch.equal(case.ours(odd), y[1:].flip(0))
    finally:
        torch.set_num_threads(threads)


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_without_a_compiler_the_numbers_are_the_same_to_a_few_ulp(case, dtype, monkeypatch):
    def both(x):
        x = x.clone().requires_grad_()
        y = case.ours(x)
        return y.detach(), *torch.autograd.grad(y, x, torch.full_like(y, 0.7))

    x = torch.cat((points(dtype), torch.tensor([0.0, -0.0, torch.inf, -torch.inf, torch.nan])))
    x = x.to(dtype)
    fast = both(x)
    monkeypatch.setattr(_elementwise, "in_one_pass", lambda *_: None)
    eps = torch.finfo(dtype).eps
    absolute = 60 * eps if case.name in DIFFERENCES else 1e-37
    for mine, plain in zip(fast, both(x), strict=True):
        torch.testing.assert_close(mine, plain, rtol=8 * eps, atol=absolute, equal_nan=True)


def test_no_compiler_no_loop(monkeypatch, tmp_path):
    monkeypatch.setenv("CC", "/nonexistent/cc")
    monkeypatch.setenv("DLNOTES_CACHE", str(tmp_path))
    f = formula_of("sigmoid", "value")
    x = torch.randn(100)
    with torch.no_grad():
        assert one_pass(f, [x]) is None
        assert torch.equal(elementwise(f)(x), f(x))


def test_a_decorated_formula_keeps_its_name_and_its_text():
    def cube(x):
        """x³."""
        return x * x * x

    decorated = elementwise(cube)
    assert (decorated.__name__, decorated.__doc__) == ("cube", "x³.")
    assert decorated(torch.tensor([2.0])).item() == 8


def test_a_broken_compiler_is_not_used(monkeypatch, tmp_path):
    compiler()
    wrong = tmp_path / "cc"
    wrong.write_text(
        "#!/bin/sh\n"
        'for a; do case "$a" in *.c) sed -i "s/= vector_exp(/= 1.001f * vector_exp(/" "$a";; esac; done\n'
        'exec cc "$@"\n'
    )
    wrong.chmod(0o755)
    monkeypatch.setenv("DLNOTES_CACHE", str(tmp_path))
    f = formula_of("sigmoid", "value")
    with torch.no_grad():
        assert one_pass(f, [torch.randn(100)]) is not None
        monkeypatch.setenv("CC", str(wrong))
        assert one_pass(f, [torch.randn(100)]) is None


def test_what_takes_the_loop():
    """Plain tensors of one layout but for gaps; everything else goes operation by operation."""
    compiler()
    f = formula_of("sigmoid", "slope")
    image = torch.randn(2, 3, 4, 5)
    last = image.contiguous(memory_format=torch.channels_last)

    def takes(*tensors):
        return one_pass(f, tensors) is not None

    with torch.no_grad():
        assert takes(image, image)
        assert takes(last, last)
        assert takes(image.transpose(0, 2), image.transpose(0, 2))
        assert takes(torch.randn(()), torch.randn(()))
        assert not takes(image, last)
        assert not takes(image, image.double())
        assert takes(image[:, ::2], image[:, ::2])  # copies without gaps
        assert takes(image[:, :1], image[:, 1:2].contiguous())
        assert not takes(image.half(), image.half())
        assert takes(image[:1].expand(2, -1, -1, -1), image)
        assert takes(torch.randn(()).expand(2, 3, 4, 5), image)  # the gradient of a sum
        assert takes(torch.randn(2, 1, 4, 1).expand(2, 3, 4, 5), image)
        assert not takes(image[:0], image[:0])
        assert not takes(image.to("meta"), image.to("meta"))
        assert not takes(image.to_sparse(), image.to_sparse())
        z = torch.complex(torch.randn(1), torch.randn(1)).conj().imag  # lazily negated
        assert not takes(z, z)
        freed = torch.randn(100)[10:]
        freed.untyped_storage().resize_(0)
        assert not takes(freed, freed)
        askew = torch.frombuffer(bytearray(41), dtype=torch.uint8)[1:].view(torch.uint8)
        askew = torch.frombuffer(askew.numpy(), dtype=torch.float32)
        assert not takes(askew, askew)
        nested = torch.nested.nested_tensor([torch.randn(2), torch.randn(3)])
        assert not takes(nested, nested)
        assert not takes(image.to_mkldnn(), image.to_mkldnn())
        assert not takes(image.as_subclass(Labelled), image)
        assert not takes(image, image.as_subclass(Labelled))
        assert takes(torch.nn.Parameter(image), image)
        for device in ("cpu", "meta"):  # a default device changes no operation on given tensors
            with torch.device(device):
                assert takes(image, image)
        with BaseTorchFunctionMode():  # what other modes do is theirs to say
            assert not takes(image, image)
    assert not takes(image, image)  # autograd may be recording


def half(*shape, dim):
    """The second half of a tensor of random numbers; the shape is the half's."""
    whole = list(shape)
    whole[dim] *= 2
    return torch.randn(whole, dtype=torch.float64).chunk(2, dim)[1]


LAYOUTS = {
    "halves of the last dimension": lambda: half(6, 100, dim=-1),
    "halves of a middle dimension": lambda: half(6, 3, 70, dim=1),
    "halves of the first dimension": lambda: half(6, 3, 70, dim=0),
    "rows of a size of 1": lambda: half(6, 1, 1, 100, dim=1),
    "the same row several times": lambda: torch.randn(6, 100, dtype=torch.float64)[:1].expand(
        6, -1
    ),
    "small rows": lambda: half(50, 4, dim=-1),
    "rows of 8": lambda: half(50, 8, dim=-1),
    "rows at two distances": lambda: half(4, 6, 100, dim=-1)[:, :4],
    "columns": lambda: half(100, 6, dim=0).t(),
    "every second number": lambda: torch.randn(6, 200, dtype=torch.float64)[:, ::2],
    "more threads than rows": lambda: half(2, 70_000, dim=-1),
    "several threads for a row": lambda: half(2, 100_001, dim=-1),
    "many rows": lambda: half(300, 1000, dim=-1),
    "channels last": lambda: half(2, 80, 5, 6, dim=1).contiguous(memory_format=torch.channels_last),
}


@pytest.mark.parametrize("threads", [1, 3, 5])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_loop_reads_rows_with_gaps_between_them(layout, threads):
    compiler()
    torch.manual_seed(0)
    a = LAYOUTS[layout]()
    before = a.clone()
    g = torch.randn(a.shape, dtype=a.dtype)
    number = torch.tensor(3.0, dtype=a.dtype)

    @elementwise
    def of_both(g, a, number, *, scale):
        return g * a + number, scale * a

    usual = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        with torch.no_grad():
            expected = g * a + 3, 2 * a
            results = in_one_pass(of_both.__wrapped__, [g, a, number], {"scale": 2.0})
            assert (results is None) == (layout in ("columns", "channels last"))
            torch.testing.assert_close(results or expected, expected)
            torch.testing.assert_close(of_both(g, a, number, scale=2.0), expected)
            twice = a * a + 3, 2 * a
            for dim in range(a.dim()):
                joined = of_both(a, a, number, scale=2.0, joined=dim)  # gaps everywhere
                torch.testing.assert_close(joined, torch.cat(twice, dim))
                joined = of_both(g, a, number, scale=2.0, joined=dim)
                assert joined.is_contiguous()
                torch.testing.assert_close(joined, torch.cat(expected, dim))
                torch.testing.assert_close(
                    of_both(a, g, number, scale=2.0, joined=dim - a.dim()),
                    torch.cat((g * a + 3, 2 * g), dim),
                )
    finally:
        torch.set_num_threads(usual)
    assert torch.equal(a, before)


def test_bools_are_joined_as_bools():
    """The loop writes them into bytes, not into a tensor of the numbers' dtype."""
    compiler()
    x = torch.randn(6, 100)

    @elementwise
    def signs(x):
        return x > 0, x * 1 != x  # the second is false everywhere

    with torch.no_grad():
        joined = signs(x, joined=0)
    assert torch.equal(joined, torch.cat((x > 0, x != x)))


def test_a_loop_copies_no_halves(monkeypatch):
    """A gate reads x and g and writes into the halves of the gradient."""
    compiler()
    x = torch.randn(8, 256, requires_grad=True)
    g = torch.randn(8, 128)
    glu(x).backward(g)  # makes the loops
    with torch.autograd.profiler.profile() as profile:
        glu(x).backward(g)
    called = {event.name for event in profile.function_events}
    assert "aten::chunk" in called
    assert not called & {"aten::clone", "aten::cat", "aten::copy_", "aten::exp", "aten::mul"}


def test_rows_that_end_behind_their_memory_are_not_read():
    compiler()
    x = torch.randn(8, 256)
    a, most, result = x[:, 128:], x[:7, 128:], torch.empty(8, 128)
    assert _elementwise._rows([a, result], dense=True) == (8, 128, [256, 128])
    x.untyped_storage().resize_(4 * (7 * 256 + 255))  # all but the last number
    assert _elementwise._rows([a, result], dense=True) is None
    assert _elementwise._rows([most, result[:7]], dense=False) == (7, 128, [256, 128])


class Labelled(torch.Tensor):
    """A subclass may redefine any operation."""


def test_a_loop_is_not_judged_by_the_settings_of_the_first_call():
    """With this α value and slope are infinite or NaN nearly everywhere."""
    compiler()
    f = formula_of("elu", "value")
    with torch.no_grad():
        for alpha in (3e38, 1e-320, 0.0):
            assert one_pass(f, [torch.randn(10)], {"alpha": alpha}) is not None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_memory_that_is_given_away_meanwhile_is_held(dtype):
    """Another thread may set a tensor's data while C, which holds no lock, reads it."""
    compiler()
    x = torch.zeros(1 << 21, dtype=dtype)
    stop = threading.Event()

    def give_away():
        while not stop.is_set():
            x.data = torch.zeros(1 << 21, dtype=dtype)

    other = threading.Thread(target=give_away)
    other.start()
    try:
        with torch.no_grad():
            for _ in range(30):
                assert torch.equal(sigmoid(x), torch.full_like(x, 0.5))
    finally:
        stop.set()
        other.join()


def test_settings_are_not_compiled_in():
    x = torch.tensor([-1.0, 2.0])
    assert torch.equal(elu(x, 3.0) / elu(x, 1.0), torch.tensor([3.0, 1.0]))
    assert leaky_relu(x, 0.5)[0] == -0.5
    assert leaky_relu(x, 0.25)[0] == -0.25
    assert softplus(x, 100.0)[1] == 2


@pytest.mark.parametrize("mode", ["real", "fake"])
def test_a_tracer_sees_the_operations(mode):
    x = torch.randn(10)
    traced = make_fx(sigmoid, tracing_mode=mode)(x)
    torch.testing.assert_close(traced(x + 1), sigmoid(x + 1))


def test_forward_over_reverse_without_a_graph_keeps_the_tangent():
    x = torch.randn(10, dtype=torch.float64)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(x.clone().requires_grad_(), torch.ones_like(x))
        (dx,) = torch.autograd.grad(sigmoid(dual).sum(), dual)
        tangent = forward_ad.unpack_dual(dx).tangent
    y = torch.sigmoid(x)
    torch.testing.assert_close(tangent, y * (1 - y) * (1 - 2 * y))
