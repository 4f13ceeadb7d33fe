"""Activations, the notes' and others, each proved against torch: one file, one activation.

A file gives two formulas, the value and the slope; :func:`activation` makes the rest of them
(``_activation``). Every function is also a module, under the name that torch gives it, and carries
its derivative: ``sigmoid.slope(x)``. On a CPU with a C compiler a formula is one pass through
memory, as torch's own kernels are (``_elementwise``); ``torch.compile`` makes one of it too
(``scripts/bench_activations.py``).

``torch.export`` exports the operations of a value and not its slope, as of every
``autograd.Function``: an exported program is for inference. Its gradients are those of the
operations, which differ at kinks and for very large x; a straight-through step passes none.
"""

from torch import nn

from dlnotes.activations._activation import Activation, Module, activation
from dlnotes.activations.celu import CELU, celu
from dlnotes.activations.elu import ELU, elu
from dlnotes.activations.gelu import GELU, gelu
from dlnotes.activations.glu import GLU, glu
from dlnotes.activations.hardshrink import Hardshrink, hardshrink
from dlnotes.activations.hardsigmoid import Hardsigmoid, hardsigmoid
from dlnotes.activations.hardswish import Hardswish, hardswish
from dlnotes.activations.hardtanh import Hardtanh, hardtanh
from dlnotes.activations.leaky_relu import LeakyReLU, leaky_relu
from dlnotes.activations.logsigmoid import LogSigmoid, logsigmoid
from dlnotes.activations.maxout import Maxout, maxout
from dlnotes.activations.mish import Mish, mish
from dlnotes.activations.prelu import PReLU, prelu
from dlnotes.activations.relu import ReLU, relu
from dlnotes.activations.relu6 import ReLU6, relu6
from dlnotes.activations.rrelu import RReLU, rrelu
from dlnotes.activations.selu import SELU, selu
from dlnotes.activations.sigmoid import Sigmoid, sigmoid
from dlnotes.activations.silu import SiLU, silu
from dlnotes.activations.softplus import Softplus, softplus
from dlnotes.activations.softshrink import Softshrink, softshrink
from dlnotes.activations.softsign import Softsign, softsign
from dlnotes.activations.squared_relu import SquaredReLU, squared_relu
from dlnotes.activations.step import Step, step
from dlnotes.activations.swiglu import SwiGLU, swiglu
from dlnotes.activations.tanh import Tanh, tanh
from dlnotes.activations.tanhshrink import Tanhshrink, tanhshrink

#: Command-line name → module; Maxout, a layer with an input size, is missing, and so are
#: GLU and SwiGLU, which halve a size.
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
    "hardtanh": Hardtanh,
    "relu6": ReLU6,
    "hardsigmoid": Hardsigmoid,
    "hardswish": Hardswish,
    "selu": SELU,
    "celu": CELU,
    "mish": Mish,
    "softsign": Softsign,
    "logsigmoid": LogSigmoid,
    "softshrink": Softshrink,
    "hardshrink": Hardshrink,
    "tanhshrink": Tanhshrink,
    "squared-relu": SquaredReLU,
}

__all__ = [
    "ACTIVATIONS",
    "CELU",
    "ELU",
    "GELU",
    "GLU",
    "SELU",
    "Activation",
    "Hardshrink",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "LeakyReLU",
    "LogSigmoid",
    "Maxout",
    "Mish",
    "Module",
    "PReLU",
    "RReLU",
    "ReLU",
    "ReLU6",
    "SiLU",
    "Sigmoid",
    "Softplus",
    "Softshrink",
    "Softsign",
    "SquaredReLU",
    "Step",
    "SwiGLU",
    "Tanh",
    "Tanhshrink",
    "activation",
    "celu",
    "elu",
    "gelu",
    "glu",
    "hardshrink",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "leaky_relu",
    "logsigmoid",
    "maxout",
    "mish",
    "prelu",
    "relu",
    "relu6",
    "rrelu",
    "selu",
    "sigmoid",
    "silu",
    "softplus",
    "softshrink",
    "softsign",
    "squared_relu",
    "step",
    "swiglu",
    "tanh",
    "tanhshrink",
]
