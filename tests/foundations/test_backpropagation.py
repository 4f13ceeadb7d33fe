import math

import pytest
import torch
import torch.nn.functional as F

from dlnotes import activations as ours
from dlnotes.foundations.backpropagation import INITIALISATIONS, Network
from dlnotes.foundations.perceptron import CORNERS, GATES, identity

ACTIVATIONS = {
    "identity": identity,
    "step": ours.step,
    "straight-through step": ours.Step(straight_through=True),
    "sigmoid": ours.sigmoid,
    "tanh": ours.tanh,
    "relu": ours.relu,
    "leaky_relu": ours.leaky_relu,
    "prelu": ours.PReLU().double(),
    "rrelu": ours.rrelu,
    "elu": ours.elu,
    "softplus": ours.softplus,
    "gelu": ours.gelu,
    "silu": ours.silu,
}
either_loss = pytest.mark.parametrize("cross_entropy", [True, False], ids=["softmax", "squared"])


def network_and_data(activation, cross_entropy, sizes=(6, 5, 4, 3)):
    torch.manual_seed(0)
    network = Network(
        sizes, activation, cross_entropy=cross_entropy, initialisation="he", dtype=torch.float64
    )
    for b in network.biases:
        b.normal_()
    x = torch.randn(7, sizes[0], dtype=torch.float64)
    classes = torch.randint(sizes[-1], (7,))
    y = F.one_hot(classes, sizes[-1]).double() if cross_entropy else torch.randn(7, sizes[-1])
    return network, x, y.double()


@either_loss
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_gradient_equals_autograds(activation, cross_entropy):
    network, x, y = network_and_data(ACTIVATIONS[activation], cross_entropy)
    gradients = network.backward(network.forward(x), y)
    by_hand = [p.grad for p in network.parameters()] + gradients.z + gradients.a

    for p in network.parameters():
        p.requires_grad_()
    values = network.forward(x.requires_grad_())
    loss = network.loss(values.a[-1], y)
    by_autograd = torch.autograd.grad(
        loss,
        network.parameters() + values.z + values.a,
        allow_unused=True,
        materialize_grads=True,
    )
    assert len(by_hand) == len(by_autograd) == 6 + 3 + 4
    torch.testing.assert_close(by_hand, list(by_autograd), rtol=1e-10, atol=1e-16)
    if activation != "step":
        assert all(g.abs().sum() > 0 for g in by_hand)


@either_loss
@pytest.mark.parametrize("activation", ["identity", "sigmoid", "tanh", "elu", "softplus", "gelu"])
def test_gradients_pass_the_numerical_check(activation, cross_entropy):
    network, x, y = network_and_data(ACTIVATIONS[activation], cross_entropy)
    assert network.check(x, y, rtol=1e-7) < 1e-7


@pytest.mark.parametrize("wrong", ["sign", "scale", "one entry", "nan"])
def test_the_numerical_check_notices(wrong, monkeypatch):
    network, x, y = network_and_data(ours.tanh, True)
    right = network.backward

    def backward(values, y):
        gradients = right(values, y)
        g = network.weights[1].grad
        if wrong == "sign":
            g.neg_()
        elif wrong == "scale":
            g.mul_(1.001)
        elif wrong == "one entry":
            g[2, 3] += 1e-3
        else:
            g[0, 0] = math.nan
        return gradients

    monkeypatch.setattr(network, "backward", backward)
    with pytest.raises(AssertionError, match=r"∂J/∂W of layer 2 differs"):
        network.check(x, y)


def test_the_numerical_check_leaves_the_parameters_alone():
    network, x, y = network_and_data(ours.tanh, True)
    before = [p.clone() for p in network.parameters()]
    network.check(x, y)
    assert all(p.equal(q) for p, q in zip(before, network.parameters(), strict=True))
    with pytest.raises(ValueError, match=r"float64.*float32"):
        network.check(x.float(), y)


@either_loss
def test_losses_equal_torchs(cross_entropy):
    network, x, y = network_and_data(ours.tanh, cross_entropy)
    output = network(x)
    if cross_entropy:
        expected = F.cross_entropy(output, y.argmax(1))
    else:
        expected = F.mse_loss(output, y, reduction="sum") / (2 * len(y))
    torch.testing.assert_close(network.loss(output, y), expected)


def test_no_autograd_graph_is_built():
    network, x, y = network_and_data(ours.tanh, True)
    values = network.forward(x)
    assert torch.is_grad_enabled()
    assert not any(tensor.requires_grad for tensor in values.z + values.a)
    for p in network.parameters():
        p.requires_grad_()  # as an optimizer's parameters may
    values = network.forward(x)
    assert values.a[-1].requires_grad  # a test of backward must have a graph to leave alone
    gradients = network.backward(values, y)
    for tensor in [*gradients.z, *gradients.a, *(p.grad for p in network.parameters())]:
        assert not tensor.requires_grad
        assert tensor.grad_fn is None


def test_backward_asks_the_activation_for_its_slope_and_autograd_for_nothing(monkeypatch):
    def refuse(*_args, **_kwargs):
        raise AssertionError("autograd was asked")

    for module, name in (
        (torch.autograd, "grad"),
        (torch.autograd, "backward"),
        (torch.autograd.forward_ad, "make_dual"),
        (torch.func, "jvp"),
        (torch.func, "grad"),
        (torch.func, "vjp"),
    ):
        monkeypatch.setattr(module, name, refuse)

    @ours.activation(lambda: 3.0)  # a slope that is not the value's: it is what is used
    def line(z):
        return 1 * z

    network, x, y = network_and_data(line, True)
    gradients = network.backward(network.forward(x), y)
    for da, dz in zip(gradients.a[1:-1], gradients.z, strict=False):
        assert dz.equal(3 * da)


@either_loss
@pytest.mark.parametrize("tied", [[0, 1], [1, 2], [0, 2], [0, 1, 2]])
def test_tied_layers_get_the_sum_of_their_gradients(tied, cross_entropy):
    network, x, y = network_and_data(ours.tanh, cross_entropy, sizes=(4, 4, 4, 4))
    first, *others = tied
    for layer in others:
        network.weights[layer] = network.weights[first]
        network.biases[layer] = network.biases[first]
    assert len(network.parameters()) == 2 * (4 - len(tied))
    for _ in range(2):  # the second pass must not add to the first
        network.backward(network.forward(x), y)
    by_hand = [p.grad for p in network.parameters()]
    for p in network.parameters():
        p.requires_grad_()
    loss = network.loss(network(x), y)
    by_autograd = torch.autograd.grad(loss, network.parameters())
    torch.testing.assert_close(by_hand, list(by_autograd), rtol=1e-10, atol=1e-16)
    for p in network.parameters():
        p.requires_grad_(False)
    assert network.check(x, y, rtol=1e-7) < 1e-7


@pytest.mark.parametrize("callable_", [lambda z: z.tanh(), torch.tanh, torch.nn.Tanh()])
def test_an_activation_without_a_slope_is_refused(callable_):
    with pytest.raises(TypeError, match=r"activation must have a slope, its derivative, got"):
        Network([3, 2], callable_)


def test_one_hidden_layer_learns_xor():
    torch.manual_seed(2)
    network = Network([2, 4, 2], ours.tanh)
    y = F.one_hot(GATES["XOR"].long(), 2).float()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.5)
    for _ in range(500):
        network.backward(network.forward(CORNERS), y)
        optimizer.step()
    assert network(CORNERS).argmax(1).equal(GATES["XOR"].long())


def test_without_an_activation_the_layers_are_one_linear_map():
    network, x, _ = network_and_data(identity, True)
    W, b = torch.eye(6).double(), torch.zeros(6).double()
    for Wl, bl in zip(network.weights, network.biases, strict=True):
        W, b = Wl @ W, Wl @ b + bl
    torch.testing.assert_close(network(x), x @ W.T + b)


@pytest.mark.parametrize("name", INITIALISATIONS)
def test_initialisation_has_the_deviation_it_says(name):
    generator = torch.Generator().manual_seed(0)
    network = Network([400, 300, 10], initialisation=name, generator=generator)
    for W in network.weights:
        assert W.std() == pytest.approx(INITIALISATIONS[name](W.size(1), W.size(0)), rel=0.05)
    again = Network([400, 300, 10], initialisation=name, generator=generator.manual_seed(0))
    assert again.weights[0].equal(network.weights[0])


def test_says_what_is_wrong():
    with pytest.raises(ValueError, match=r"sizes must be at least two positive.*\[3\]"):
        Network([3])
    with pytest.raises(ValueError, match=r"initialisation must be one of small.*'big'"):
        Network([3, 2], initialisation="big")
