"""The activations of the notes, each proved against torch: one file, one activation.

A file gives two formulas, the value and the slope; :func:`activation` makes the rest of them
(``_activation``). Every function is also a module, under the name that torch gives it, and carries
its derivative: ``sigmoid.slope(x)``. On a CPU with a C compiler a formula is one pass through
memory, as torch's own kernels are (``_elementwise``); ``torch.compile`` makes one of it too
(``scripts/bench_activations.py``).
"""

from torch import nn

from dlnotes.activations._activation import Activation, Module, activation
from dlnotes.activations.elu import ELU, elu
from dlnotes.activations.gelu import GELU, gelu
from dlnotes.activations.leaky_relu import LeakyReLU, leaky_relu
from dlnotes.activations.maxout import Maxout, maxout
from dlnotes.activations.prelu import PReLU, prelu
from dlnotes.activations.relu import ReLU, relu
from dlnotes.activations.rrelu import RReLU, rrelu
from dlnotes.activations.sigmoid import Sigmoid, sigmoid
from dlnotes.activations.silu import SiLU, silu
from dlnotes.activations.softplus import Softplus, softplus
from dlnotes.activations.step import Step, step
from dlnotes.activations.tanh import Tanh, tanh

#: Command-line name → module; Maxout is missing, for it is a layer with an input size.
ACTIVATIONS: dict[str, type[nn.Module]] = {
    "step": Step,
    "sigmoid": Sigmoid,
    "tanh": Tanh,
    "relu": ReLU,
    "leaky-relu": LeakyReLU,
    "prelu": PReLU,
    "rrelu": RReLU,
    "elu": ELU,
    "softplus": Softplus,
    "gelu": GELU,
    "silu": SiLU,
}

__all__ = [
    "ACTIVATIONS",
    "ELU",
    "GELU",
    "Activation",
    "LeakyReLU",
    "Maxout",
    "Module",
    "PReLU",
    "RReLU",
    "ReLU",
    "SiLU",
    "Sigmoid",
    "Softplus",
    "Step",
    "Tanh",
    "activation",
    "elu",
    "gelu",
    "leaky_relu",
    "maxout",
    "prelu",
    "relu",
    "rrelu",
    "sigmoid",
    "silu",
    "softplus",
    "step",
    "tanh",
]
