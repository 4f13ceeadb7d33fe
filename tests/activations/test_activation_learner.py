"""An activation that is not in the library, in the lines that a learner writes."""

import inspect
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.func import grad, hessian, jacfwd, vmap
from torch.testing import assert_close

from compiling import compiles
from dlnotes import kernel
from dlnotes.activations import Module, _elementwise, activation
from dlnotes.foundations.backpropagation import Network


def slope(x: Tensor) -> Tensor:
    return 1 / (1 + x.abs()) ** 2


@activation(slope)
def softsign(x: Tensor) -> Tensor:
    return x / (1 + x.abs())


class Softsign(Module, function=softsign):
    """The module."""


def points(dtype=torch.float64, n=101):
    return torch.linspace(-8, 8, 2 * n, dtype=dtype)  # without 0


def value_and_gradient(f, x):
    x = x.clone().requires_grad_()
    y = f(x)
    return y.detach(), torch.autograd.grad(y, x, torch.ones_like(y))[0]


def test_value_and_derivatives_of_every_mode_and_order():
    x = points(n=5).requires_grad_()
    assert_close(softsign(x), F.softsign(x), rtol=1e-14, atol=0)
    assert gradcheck(
        softsign, x, check_forward_ad=True, check_batched_grad=True, check_batched_forward_grad=True
    )
    assert gradgradcheck(softsign, x, check_fwd_over_rev=True, check_batched_grad=True)


@pytest.mark.parametrize(
    "transform",
    [
        vmap,
        lambda f: vmap(grad(lambda row: f(row).sum())),
        lambda f: vmap(hessian(lambda row: (f(row) ** 2).sum())),
        lambda f: vmap(jacfwd(f)),
    ],
)
def test_function_transforms(transform):
    x = points(n=6).reshape(3, 4)
    assert_close(transform(softsign)(x), transform(F.softsign)(x), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_is_rounded_once(dtype):
    x = points(dtype)
    for mine, exact in zip(
        value_and_gradient(softsign, x), value_and_gradient(F.softsign, x.double()), strict=True
    ):
        assert mine.dtype is dtype
        assert_close(mine.double(), exact, rtol=0.501 * torch.finfo(dtype).eps, atol=0)


def test_its_value_and_its_gradient_are_one_pass_each(monkeypatch):
    try:
        kernel.compiled("int one(void) { return 1; }\n", *kernel.EXACT)
    except (OSError, RuntimeError) as reason:
        pytest.skip(f"no compiler on this machine: {reason}")
    x = points(torch.float32)
    first = value_and_gradient(softsign, x)
    monkeypatch.setattr(_elementwise, "in_operations", None)  # not needed any more
    assert_close(value_and_gradient(softsign, x), first, rtol=0, atol=0)


@compiles
def test_torch_compile_traces_it_whole():
    torch._dynamo.reset()
    compiled = torch.compile(softsign, fullgraph=True, backend="aot_eager")
    x = points(torch.float32)
    assert_close(value_and_gradient(compiled, x), value_and_gradient(F.softsign, x))
    assert_close(compiled(x), F.softsign(x))


def test_the_module():
    module = Softsign()
    x = points()
    assert torch.equal(module(x), softsign(x))
    assert torch.equal(module.slope(x), softsign.slope(x))
    assert repr(module) == "Softsign()"
    assert not module.state_dict()
    assert pickle.loads(pickle.dumps(softsign)) is softsign
    assert pickle.loads(pickle.dumps(softsign.slope)) is softsign.slope
    assert list(inspect.signature(softsign.slope).parameters) == ["x"]
    assert softsign.slope.__doc__.startswith("The derivative of softsign ")
    assert isinstance(pickle.loads(pickle.dumps(module)), Softsign)


def test_back_propagation_by_hand_takes_it():
    network = Network([3, 4, 2], softsign, dtype=torch.float64)
    x, y = torch.randn(5, 3).double(), torch.eye(2).double()[[0, 1, 0, 1, 1]]
    assert network.check(x, y, rtol=1e-7) < 1e-7


def test_errors_carry_its_name():
    with pytest.raises(ValueError, match=r"^softsign: x must be a real floating-point tensor"):
        softsign(torch.ones(2, dtype=torch.int64))
    with pytest.raises(TypeError, match=r"^softsign: got an unexpected keyword argument 'alpha'"):
        softsign(torch.ones(2), alpha=1.0)


def test_settings_flags_masks_and_several_tensors():
    def outside(x: Tensor) -> Tensor:
        return x.abs() > 1

    def bend(outside: Tensor, low: float, mirrored: bool) -> Tensor:
        sloped = low + outside * (1 - low)
        return -sloped if mirrored else sloped

    @activation(bend, mask=outside, nonzero=("low",))
    def bent(x: Tensor, low: float = 0.5, mirrored: bool = False) -> Tensor:
        y = torch.where(x > 1, x - 1 + low, torch.where(x > -1, low * x, x + 1 - low))
        return -y if mirrored else y

    def slopes(x: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
        return a.expand_as(x) if isinstance(x, Tensor) else a, x

    @activation(slopes)
    def scale(x: Tensor, a: Tensor) -> Tensor:
        return a * x

    x, a = points(n=4).requires_grad_(), torch.tensor([0.5, 2, 1, 3] * 2).double().requires_grad_()
    for low, mirrored in ((0.25, False), (2.0, True)):
        assert gradcheck(lambda x, s=(low, mirrored): bent(x, *s), x, check_forward_ad=True)
    assert_close(
        bent.slope(points(torch.float32), 0.25), 0.25 + 0.75 * (points(torch.float32).abs() > 1)
    )
    assert gradcheck(scale, (x, a), check_forward_ad=True, check_batched_grad=True)
    with pytest.raises(ValueError, match=r"^bent: low must be a finite number other than 0"):
        bent(x, 0.0)


def test_a_tensor_without_a_derivative_is_a_constant():
    @activation(lambda noise: noise)
    def product(x: Tensor, noise: Tensor) -> Tensor:
        return x * noise

    x, noise = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0], requires_grad=True)
    _, tangent = torch.func.jvp(product, (x, noise.detach()), (torch.ones(2), torch.ones(2)))
    assert tangent.tolist() == [3, 4]
    y = product(x.requires_grad_(), noise)
    assert torch.autograd.grad(y.sum(), (x, noise), allow_unused=True)[1] is None


def test_a_slope_that_asks_for_what_is_not_there_is_refused():
    with pytest.raises(TypeError, match=r"softsign: .*slope must be among x and its mask, got y"):

        @activation(lambda y: 1 - y)
        def softsign(x: Tensor) -> Tensor:
            return x

    with pytest.raises(TypeError, match=r"bent: .* must be among x, a, low and its mask, got y"):

        @activation(lambda y: 1 - y)
        def bent(x: Tensor, a: Tensor, low: float = 0.5) -> Tensor:
            return x
