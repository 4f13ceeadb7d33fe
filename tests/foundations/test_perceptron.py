import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dlnotes.activations import elu, relu, sigmoid, tanh
from dlnotes.errors import UserError
from dlnotes.foundations.backpropagation import Network
from dlnotes.foundations.perceptron import CORNERS, GATES, Neuron, Perceptron, identity


@pytest.mark.parametrize("gate", ["AND", "OR", "NAND"])
def test_learns_the_gates_that_a_line_separates(gate):
    perceptron = Perceptron(2)
    losses = perceptron.learn(CORNERS, GATES[gate], lr=1.0, epochs=20)
    assert perceptron(CORNERS).equal(GATES[gate])
    assert losses[0] > 0
    assert losses[-5:] == [0] * 5  # and it stays there


def test_does_not_learn_xor():
    losses = Perceptron(2).learn(CORNERS, GATES["XOR"], lr=1.0, epochs=1000)
    assert min(losses) > 0


real = st.floats(-1e6, 1e6)


@given(real, real, real)
def test_no_line_at_all_separates_xor(w1, w2, b):
    perceptron = Perceptron(2, dtype=torch.float64)
    perceptron.w, perceptron.b = torch.tensor([w1, w2]).double(), torch.tensor(b).double()
    assert not perceptron(CORNERS.double()).equal(GATES["XOR"].double())


def test_the_delta_rule_step_by_step():
    """From zero, OR with α = 1, worked out by hand: a mistake moves w by ±x and b by ±1."""
    perceptron = Perceptron(2)
    steps = []
    for x, y in zip(CORNERS.split(1), GATES["OR"].split(1), strict=True):
        perceptron.learn(x, y, lr=1.0, epochs=1)
        steps.append([*perceptron.w.tolist(), perceptron.b.item()])
    assert steps == [[0, 0, 0], [0, 1, 1], [0, 1, 1], [0, 1, 1]]


def test_the_linear_units_gradient_is_the_notes_formula():
    """∂J/∂w₁ = x₁ (w·x − y) for one sample."""
    unit = Neuron(3, identity)
    unit.w = torch.tensor([0.5, -1.0, 2.0])
    x, y = torch.tensor([[2.0, 3.0, -1.0]]), torch.tensor([0.5])
    error = 0.5 * 2 - 3 - 2 - 0.5
    dw, db = unit.gradient(x, y)
    assert dw.tolist() == [2 * error, 3 * error, -1 * error]
    assert db == error
    assert unit.loss(x, y) == error**2 / 2


@pytest.mark.parametrize("activation", [identity, sigmoid, tanh, relu, elu])
def test_gradient_equals_autograd(activation):
    torch.manual_seed(0)
    neuron = Neuron(5, activation, dtype=torch.float64)
    x, y = torch.randn(20, 5, dtype=torch.float64), torch.randn(20, dtype=torch.float64)
    neuron.w, neuron.b = torch.randn(5).double(), torch.randn(()).double()
    ours = neuron.gradient(x, y)
    neuron.w.requires_grad_()
    neuron.b.requires_grad_()
    theirs = torch.autograd.grad(neuron.loss(x, y), (neuron.w, neuron.b))
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)


def test_an_activation_without_a_slope_is_refused():
    with pytest.raises(TypeError, match=r"activation must have a slope.*got <lambda>"):
        Neuron(2, lambda z: z)


def test_the_perceptrons_delta_is_the_straight_through_gradient():
    torch.manual_seed(0)
    x, y = torch.randn(50, 4, dtype=torch.float64), torch.randint(2, (50,)).double()
    perceptron = Perceptron(4, dtype=torch.float64)
    perceptron.w = torch.randn(4).double()
    dw, db = perceptron.gradient(x, y)
    error = (perceptron(x) - y) / 50
    torch.testing.assert_close(dw, x.T @ error)
    torch.testing.assert_close(db, error.sum())


def test_a_linear_unit_finds_the_least_squares_line():
    torch.manual_seed(0)
    x = torch.randn(40, 2, dtype=torch.float64)
    y = x @ torch.tensor([1.0, -2.0]).double() + 0.5 + 0.1 * torch.randn(40).double()
    unit = Neuron(2, identity, dtype=torch.float64)
    for _ in range(2000):
        dw, db = unit.gradient(x, y)
        unit.w, unit.b = unit.w - 0.3 * dw, unit.b - 0.3 * db
    design = torch.cat((x, torch.ones(40, 1)), 1)
    best = torch.linalg.lstsq(design, y[:, None]).solution[:, 0]
    torch.testing.assert_close(torch.cat((unit.w, unit.b[None])), best, rtol=1e-10, atol=0)


def test_a_sigmoid_neuron_learns_or():
    neuron = Neuron(2, sigmoid)
    losses = neuron.learn(CORNERS, GATES["OR"], lr=2.0, epochs=200)
    assert (neuron(CORNERS) > 0.5).float().equal(GATES["OR"])
    assert losses[-1] < 0.1 * losses[0]


@pytest.mark.parametrize("bias", [0.0, 0.5])
def test_erratum_a_constant_derivative_is_affine_and_linear_only_without_a_bias(bias):
    """The linear unit, and layers of it, which are one linear unit (notes, errata)."""
    neuron = Neuron(3, identity, torch.float64)
    neuron.w, neuron.b = torch.tensor([2.0, -1.0, 3.0]).double(), torch.tensor(bias).double()
    generator = torch.Generator().manual_seed(0)
    network = Network(
        [3, 5, 4], identity, cross_entropy=False, dtype=torch.float64, generator=generator
    )
    for b in network.biases:
        b.fill_(bias)
    x, y = torch.randn(2, 7, 3, dtype=torch.float64, generator=generator)
    for f in (neuron, network):
        slopes = torch.autograd.functional.jacobian(lambda x, f=f: f(x).sum(0), x)
        assert slopes.abs().min() > 0.01
        torch.testing.assert_close(slopes, slopes[..., :1, :].expand_as(slopes))  # of all samples
        origin = f(torch.zeros_like(x))
        torch.testing.assert_close(f(x + y), f(x) + f(y) - origin)
        assert torch.allclose(f(x + y), f(x) + f(y)) == (bias == 0)
        assert origin.any() == (bias != 0)


@pytest.mark.parametrize("lr", [10.0, 1e10])
def test_a_descent_that_diverges_ends_in_an_error(lr):
    """The weights are lost before or after the loss is."""
    with pytest.raises(UserError, match=r"not finite after epoch \d+: .*lower lr \(now 1"):
        Neuron(2, identity).learn(CORNERS, GATES["OR"], lr=lr, epochs=100)
    with pytest.raises(UserError, match="not finite after epoch 1"):
        Neuron(2, identity).learn(CORNERS, GATES["OR"], lr=1e38, epochs=1)


def test_infinite_weights_with_a_loss_of_zero_are_lost_as_well():
    x, y = torch.tensor([[10.0, 10.0], [-10.0, -10.0]]), torch.tensor([1.0, 0.0])
    with pytest.raises(UserError, match="not finite after epoch 1"):
        Perceptron(2).learn(x, y, lr=1e38, epochs=1)
