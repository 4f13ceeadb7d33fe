"""Every activation against torch: values, every kind of derivative, every kind of tensor."""

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.func import grad, hessian, jacfwd, jacrev, jvp, vmap

from compiling import compiles
from dlnotes.activations import ACTIVATIONS, Step, elu, relu, sigmoid
from dlnotes.oracles.activations import ORACLES, Oracle

every = pytest.mark.parametrize("case", ORACLES, ids=lambda case: case.name)
# Where the slope at NaN is that of one side.
KINKED = {"step", "relu", "leaky_relu", "prelu", "rrelu", "maxout", "hardtanh", "relu6"}
KINKED |= {"hardsigmoid", "softshrink", "hardshrink"}
# Value or slope is a difference of numbers of the size of x somewhere.
DIFFERENCES = {"gelu", "silu", "mish", "tanhshrink", "swiglu"}


def samples(dtype=torch.float64, n=2001):
    """An even grid on [-8, 8] without 0, then random points."""
    torch.manual_seed(0)
    grid = torch.linspace(-8, 8, n, dtype=torch.float64)
    return torch.cat((grid[grid.abs() > 1e-6], 3 * torch.randn(n, dtype=torch.float64))).to(dtype)


def with_gradient(f, x, g=None):
    x = x.detach().clone().requires_grad_()
    y = f(x)
    (dx,) = torch.autograd.grad(y, x, torch.ones_like(y) if g is None else g)
    return y.detach(), dx


def assert_equal(case: Oracle, x, g=None, **tolerance):
    for mine, theirs in zip(
        with_gradient(case.ours, x, g), with_gradient(case.torch, x, g), strict=True
    ):
        torch.testing.assert_close(mine, theirs, **tolerance)


@every
def test_equals_torch_in_float64(case):
    x = samples()
    # gelu's slope and softplus's value cancel, or are lost, far on the left: 1e-15 of the scale 1.
    assert_equal(case, x, torch.randn_like(x), rtol=1e-12, atol=1e-15)


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_equals_torch_in_lower_precision(case, dtype):
    """Within four roundings, and the distance of torch's kernel from its own float64 result.

    The latter is nothing, but for the gelu that torch 2.13 has for AVX-512: 7 roundings at x = 3.
    """
    x, eps = samples(dtype), torch.finfo(dtype).eps
    results = with_gradient(case.ours, x), with_gradient(case.torch, x)
    for mine, theirs, exact in zip(*results, with_gradient(case.torch, x.double()), strict=True):
        assert (mine.dtype, mine.shape) == (theirs.dtype, theirs.shape)
        allowed = 4 * eps * (1 + theirs.double().abs()) + (theirs.double() - exact).abs()
        assert ((mine.double() - theirs.double()).abs() <= allowed).all()


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_near_the_truth(case, dtype):
    """Four roundings in float32, one in half precision, against float64 on the same points.

    Those whose tail or slope is a difference are held to the absolute error instead.
    """
    if case.name in {"glu", "swiglu"}:
        pytest.skip("the halves that the case makes are rounded: test_activation_details.py")
    x = samples(dtype)
    info = torch.finfo(dtype)
    eps = info.eps * (0.501 if info.bits == 16 else 4)  # one rounding is half an eps
    absolute = eps if case.name in DIFFERENCES else info.smallest_normal * info.eps
    for mine, exact in zip(
        with_gradient(case.ours, x), with_gradient(case.torch, x.double()), strict=True
    ):
        torch.testing.assert_close(mine.double(), exact, rtol=eps, atol=absolute)


@every
def test_derivatives_of_every_mode_and_order(case):
    x = samples(n=10).requires_grad_()  # none at a kink
    assert gradcheck(
        case.ours,
        x,
        check_forward_ad=True,
        check_batched_grad=True,
        check_batched_forward_grad=True,
        check_undefined_grad=True,
    )
    assert gradgradcheck(case.ours, x, check_fwd_over_rev=True, check_batched_grad=True)


def transformable(case: Oracle):
    """Torch's function, or the same written out where torch's fails under vmap (torch 2.13).

    rrelu has no rule for vmap; vmap(hessian) of prelu raises a RuntimeError about sizes.
    """
    slope = {"rrelu": (1 / 8 + 1 / 3) / 2, "prelu": 0.25}.get(case.name)
    return case.torch if slope is None else lambda x: F.leaky_relu(x, slope)


@every
def test_function_transforms(case):
    x = samples(n=6)[:8].reshape(2, 4)

    def total(f):
        return lambda row: (f(row) ** 2).sum()

    for transform in (
        lambda f: vmap(f),
        lambda f: vmap(f, in_dims=1, out_dims=1),
        lambda f: vmap(grad(total(f))),
        lambda f: vmap(vmap(grad(f))),
        lambda f: vmap(hessian(total(f))),
        lambda f: vmap(jacfwd(f)),
        lambda f: vmap(jacrev(f)),
    ):
        torch.testing.assert_close(
            transform(case.ours)(x), transform(transformable(case))(x), rtol=1e-12, atol=1e-14
        )


@every
def test_second_derivative_equals_torch(case):
    def second(f, x):
        return vmap(grad(grad(f)))(x)

    x = samples()
    torch.testing.assert_close(
        second(case.ours, x), second(transformable(case), x), rtol=1e-11, atol=1e-14
    )


@every
@pytest.mark.parametrize("order", [2, 3])
def test_nested_forward_mode_is_nested_reverse_mode(case, order):
    """Of a function of a curve, at kinks as well: x″ counts, too, where the slope is constant."""
    v = torch.tensor([0.0, -0.0, 1.0, -1.0, 3.0, -3.0, 6.0, 0.3, -120.0, 120.0]).double()

    def along(t):
        return (case.ours(v + t + t**2) ** 2).sum()

    def forward(f):
        return lambda t: jvp(f, (t,), (torch.ones_like(t),))[1]

    forwards, backwards = along, along
    for _ in range(order):
        forwards, backwards = forward(forwards), grad(backwards)
    t = torch.zeros((), dtype=torch.float64)
    torch.testing.assert_close(forwards(t), backwards(t))


@every
def test_forward_and_reverse_mode_agree_at_zero(case):
    for zero in (0.0, -0.0):
        x = torch.tensor([zero], dtype=torch.float64)
        _, reverse = with_gradient(case.ours, x)
        with forward_ad.dual_level():
            dual = case.ours(forward_ad.make_dual(x, torch.ones_like(x)))
            forward = forward_ad.unpack_dual(dual).tangent
        assert torch.equal(forward, reverse)
        torch.testing.assert_close((case.ours(x), reverse), with_gradient(case.torch, x))


@every
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_nan_and_infinity(case, dtype):
    x = torch.tensor([float("nan"), float("inf"), -float("inf")], dtype=dtype)
    y, dx = with_gradient(case.ours, x)
    # In float64: torch's float32 gelu for AVX-512 makes NaN of an infinity.
    want_y, want_dx = (t.to(dtype) for t in with_gradient(case.torch, x.double()))
    torch.testing.assert_close(y, want_y, equal_nan=True)
    assert y[0].isnan()
    if case.name != "step":
        torch.testing.assert_close(dx[1:], want_dx[1:], equal_nan=True)
    if case.name not in KINKED:
        assert dx[0].isnan()
    # A NaN among ordinary elements, where a vectorized kernel is used, spoils only itself.
    x = samples(dtype)
    x[5] = float("nan")
    y, dx = with_gradient(case.ours, x)
    assert y.isnan().nonzero().flatten().tolist() == [5]


@every
def test_a_nan_gradient_propagates(case):
    x = samples()
    _, dx = with_gradient(case.ours, x, torch.full_like(x, float("nan")))
    if case.name != "step":
        assert dx[x > 0].isnan().all()


@every
def test_no_gradient_stays_none_or_zero(case):
    """What comes after may not depend on its input: autograd then hands on no tensor at all."""

    class Constant(torch.autograd.Function):
        @staticmethod
        def forward(ctx, y):
            return y.clone()

        @staticmethod
        def backward(ctx, g):
            return None

    x = samples().requires_grad_()
    (dx,) = torch.autograd.grad(Constant.apply(case.ours(x)).sum(), x, allow_unused=True)
    assert dx is None or torch.equal(dx, torch.zeros_like(x))


@every
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_any_layout(case, dtype):
    image = samples(dtype)[: 2 * 3 * 4 * 5].reshape(2, 3, 4, 5)
    layouts = {
        "transposed": image.transpose(1, 3),
        "strided": image[:, :, ::2, 1::2],
        "expanded": image[:1].expand(4, -1, -1, -1),
        "channels last": image.contiguous(memory_format=torch.channels_last),
        "0-dim": image[0, 0, 0, 0],
        "no element": image[:0],
    }
    for name, x in layouts.items():
        mine, theirs = with_gradient(case.ours, x), with_gradient(case.torch, x)
        torch.testing.assert_close(mine, theirs, msg=lambda text, name=name: f"{name}: {text}")
        assert mine[0].shape == x.shape
        assert mine[0].dtype == dtype
    if not case.layer:
        y = case.ours(layouts["channels last"])
        assert y.is_contiguous(memory_format=torch.channels_last)


@every
def test_meta_device(case):
    x = torch.empty(3, 4, device="meta", requires_grad=True)
    y = case.ours(x)
    assert (y.shape, y.dtype, y.device.type) == (x.shape, x.dtype, "meta")
    y.sum().backward()
    assert x.grad.shape == x.shape


@every
@pytest.mark.parametrize("dtype", [torch.complex64, torch.int64, torch.bool], ids=str)
def test_only_real_floating_point(case, dtype):
    if case.layer and not dtype.is_complex:
        pytest.skip("the test's linear pieces of an integer tensor are floating point")
    with pytest.raises(ValueError, match=rf"(?i){case.name}.*real floating-point.*{dtype}"):
        case.ours(torch.ones(2, dtype=dtype))


@every
def test_the_input_is_left_alone(case):
    x = samples().requires_grad_()
    before, version = x.detach().clone(), x._version
    y = case.ours(x)
    g = torch.randn_like(y)
    g_before = g.clone()
    y.backward(g)
    assert torch.equal(x.detach(), before)
    assert x._version == version
    assert torch.equal(g, g_before)


@compiles
@every
def test_traced_whole_by_torch_compile(case):
    """``aot_eager`` traces forward and backward as ``inductor`` does, without its compiler."""
    torch._dynamo.reset()
    x = samples(torch.float32)
    compiled = torch.compile(case.ours, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(with_gradient(compiled, x), with_gradient(case.ours, x))


@compiles
@pytest.mark.parametrize(
    "transform",
    [
        lambda f: grad(lambda x: f(x).sum()),
        lambda f: vmap(grad(f)),
        lambda f: grad(lambda x: vmap(f)(x).sum()),
        lambda f: grad(lambda x: grad(lambda z: f(z).sum())(x).sum()),
        jacrev,
        jacfwd,
        lambda f: lambda x: torch.func.jvp(f, (x,), (torch.ones_like(x),))[1],
    ],
)
def test_transforms_under_torch_compile_use_the_slope(transform):
    """torch.compile itself differentiates the forward pass, and wrongly (torch 2.13)."""
    torch._dynamo.reset()
    x = torch.tensor([-120.0, -1.0, 0.0, 2.0])
    for f in (sigmoid, relu, Step(straight_through=True)):
        compiled = torch.compile(transform(f), backend="aot_eager")
        torch.testing.assert_close(compiled(x), transform(f)(x))


@compiles
def test_vmap_alone_is_traced_whole_by_torch_compile():
    torch._dynamo.reset()
    x = samples(torch.float32)[1:].reshape(2, -1)
    compiled = torch.compile(vmap(sigmoid), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), sigmoid(x))


@pytest.mark.slow
@compiles
@every
def test_compiled_by_inductor(case):
    torch._dynamo.reset()
    x = samples(torch.float32)
    compiled = torch.compile(case.ours, fullgraph=True)
    exact = (t.float() for t in with_gradient(case.torch, x.double()))
    torch.testing.assert_close(with_gradient(compiled, x), tuple(exact), rtol=1e-5, atol=1e-6)


@every
def test_module_is_the_function(case):
    if case.layer:
        pytest.skip("its size is another: test_activation_details.py")
    module = ACTIVATIONS[case.name.replace("_", "-")]().eval()
    function = elu if case.name == "elu" else case.ours  # the case has another alpha
    x = samples(torch.float32)
    assert torch.equal(module(x), function(x))
