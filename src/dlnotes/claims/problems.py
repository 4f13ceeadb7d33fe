"""The small problems on which experiments train; they need no download."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from dlnotes.claims.races import Batch, Parameters, Problem
from dlnotes.data.digits import digits

# The activations of torch: equal to those of dlnotes, but three times as fast under vmap.
ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
}


@cache
def digits_splits() -> tuple[Batch, Batch, Batch]:
    """Scikit-learn's digits: 1,077 for training, 360 for dev and 360 for test.

    Raises:
        UserError: scikit-learn is not installed.
    """
    (x, y), test = digits()
    return (x[:1077], y[:1077]), (x[1077:], y[1077:]), tuple(test)


def network(*sizes: int, activation: str = "relu") -> nn.Sequential:
    """A fully connected network.

    Args:
        sizes: Sizes of the input, of each hidden layer and of the output.
        activation: Activation of the hidden layers, a key of `ACTIVATIONS`.
    """
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), ACTIVATIONS[activation]()]
    return nn.Sequential(*layers[:-1])


def convergence(name: str, make: Any, train: Batch, **options: Any) -> Problem:
    """A problem that is only about training: all that is measured is the training loss.

    Learning rates are chosen by it as well, on other seeds than those that are reported.

    Args:
        name: Name of the problem.
        make: Makes the network, with initial weights from the global generator.
        train: Inputs and labels.
        options: See `Problem`.
    """
    module = make()

    def init(generator: torch.Generator) -> Parameters:
        seed = int(torch.randint(2**31, (), generator=generator))
        with torch.random.fork_rng(()):
            torch.manual_seed(seed)
            return {name: p.detach() for name, p in make().named_parameters()}

    def loss(parameters: Parameters, batch: Batch) -> Tensor:
        x, y = batch
        return nn.functional.cross_entropy(functional_call(module, parameters, (x,)), y)

    return Problem(
        name, init, loss, loss, train, train, train, **{"higher_is_better": False, **options}
    )


def documents(
    n: int, words: int, classes: int, length: int, seed: int, rare: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Word counts of made-up documents, whose classes and words follow Zipf's law.

    The k-th most frequent class has a share proportional to 1/k, and so has the k-th most frequent
    word. Each class has its own favourite words, one in ten of all, that it uses eight times as
    often as the others do.

    Args:
        n: How many documents.
        words: The size of the vocabulary.
        classes: How many classes.
        length: Words per document: with fewer words, counts and gradients are sparser.
        seed: Seed of the documents; the favourite words are always the same.
        rare: The exponent of Zipf's law for the classes; 0 makes them equally frequent.

    Returns:
        Counts ``(n, words)``, each document of Euclidean length 1, and classes ``(n,)``.
    """
    fixed = torch.Generator().manual_seed(0)
    frequency = 1 / torch.arange(1, words + 1)
    favourite = torch.rand(classes, words, generator=fixed) < 0.1
    use = frequency * torch.where(favourite, 8.0, 1.0)
    generator = torch.Generator().manual_seed(seed)
    shares = torch.arange(1, classes + 1) ** -rare
    y = torch.multinomial(shares, n, replacement=True, generator=generator)
    drawn = torch.multinomial(use[y], length, replacement=True, generator=generator)
    counts = torch.zeros(n, words).scatter_add_(1, drawn, torch.ones(n, length))
    return nn.functional.normalize(counts), y
