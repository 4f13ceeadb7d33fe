"""Without an activation a network is one linear map."""

from __future__ import annotations

from collections.abc import Callable

import torch
from matplotlib.figure import Figure
from torch import Tensor

from dlnotes.activations import relu, sigmoid, tanh
from dlnotes.claims.claim import Budget, Claim, Finding, Verdict
from dlnotes.foundations.backpropagation import Network
from dlnotes.foundations.perceptron import identity

DEPTHS = (1, 2, 5, 10, 50)
WIDTH, SAMPLES, TOLERANCE = 16, 200, 1e-12
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": identity,
    "tanh": tanh,
    "relu": relu,
    "sigmoid": sigmoid,
}


def collapsed(network: Network) -> tuple[Tensor, Tensor]:
    """The one layer that a network would be without its activations: W_L … W₁ and its bias."""
    W, b = torch.eye(WIDTH, dtype=torch.float64), torch.zeros(WIDTH, dtype=torch.float64)
    for weight, bias in zip(network.weights, network.biases, strict=True):
        W, b = weight @ W, weight @ b + bias
    return W, b


def distance_from_one_layer(activation: Callable[[Tensor], Tensor], depth: int, seed: int) -> float:
    """Largest difference between a network and its collapsed layer, relative to the output."""
    generator = torch.Generator().manual_seed(seed)
    network = Network([WIDTH] * (depth + 1), activation, dtype=torch.float64, generator=generator)
    for b in network.biases:
        b.normal_(generator=generator)
    x = torch.randn(SAMPLES, WIDTH, dtype=torch.float64, generator=generator)
    W, b = collapsed(network)
    one_layer = x @ W.T + b
    return ((network(x) - one_layer).abs().max() / one_layer.abs().max()).item()


def experiment(budget: Budget) -> Finding:
    """Compare networks of random weights with the product of their matrices."""
    seeds = range(3 if budget.quick else 20)
    worst = {
        name: [max(distance_from_one_layer(f, depth, seed) for seed in seeds) for depth in DEPTHS]
        for name, f in ACTIVATIONS.items()
    }
    linear = max(worst["none"])
    curved = min(d for name, each in worst.items() if name != "none" for d in each[1:])

    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axes = figure.subplots()
    for name, each in worst.items():
        axes.loglog(DEPTHS, [max(d, 1e-17) for d in each], "o-", label=name)
    axes.axhline(TOLERANCE, color="grey", ls=":")
    axes.set(
        xlabel="layers",
        ylabel="relative difference",
        title="Networks beside the product of their matrices",
    )
    axes.legend(title="activation")
    return Finding(
        verdict=Verdict.HOLDS if linear < TOLERANCE < 1e-2 < curved else Verdict.DOES_NOT_HOLD,
        effect=linear,
        effect_name="largest relative difference between a linear network and one layer",
        interval=(linear, linear),
        runs=0,
        numbers=[
            {
                "activation": name,
                **{f"{d} layers": each[i] for i, d in enumerate(DEPTHS)},
            }
            for name, each in worst.items()
        ],
        figure=figure,
    )


CLAIM = Claim(
    name="no-activation-is-one-linear-map",
    notes="§8, 12",
    sentence="Without an activation a network of any depth is one linear map (with its bias).",
    hypothesis=(
        "In float64 the outputs of networks of 1 to 50 layers without activation equal those of "
        "the one layer W = W_L … W₁ within a relative 1e-12; with tanh, ReLU or sigmoid between "
        "two or more layers they differ by more than 1 %."
    ),
    criterion="Holds if both are so for every depth and seed; else does not hold.",
    literature=(
        "A product of matrices is a matrix. Training one is another matter: deep linear networks "
        "learn with non-linear dynamics (Saxe, McClelland & Ganguli 2014, "
        "https://arxiv.org/abs/1312.6120)."
    ),
    experiment=experiment,
)
