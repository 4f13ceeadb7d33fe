"""The pictures in the docstrings are drawn from the functions."""

import importlib.util
import inspect
import re
from pathlib import Path

import pytest
import torch

from dlnotes import activations as act
from dlnotes.oracles.activations import ORACLES

DRAWN = {
    "step": act.step,
    "sigmoid": act.sigmoid,
    "tanh": act.tanh,
    "relu": act.relu,
    "leaky_relu": act.LeakyReLU(0.1),
    "prelu": lambda x: act.prelu(x, torch.tensor([0.25])),
    "rrelu": act.rrelu,
    "maxout": lambda x: act.maxout(torch.stack((-x / 2 - 1, x / 4, x - 1), -1)),
    "elu": act.elu,
    "softplus": act.softplus,
    "gelu": act.gelu,
    "silu": act.silu,
    "hardtanh": act.hardtanh,
    "relu6": act.relu6,
    "hardsigmoid": act.hardsigmoid,
    "hardswish": act.hardswish,
    "selu": act.selu,
    "celu": act.CELU(2.0),
    "mish": act.mish,
    "softsign": act.softsign,
    "logsigmoid": act.logsigmoid,
    "softshrink": act.Softshrink(1.0),
    "hardshrink": act.Hardshrink(1.0),
    "tanhshrink": act.tanhshrink,
    "squared_relu": act.squared_relu,
    "glu": lambda x: act.glu(torch.stack((1 - x / 2, x), -1)).squeeze(-1),
    "swiglu": lambda x: act.swiglu(torch.stack((1 - x / 2, x), -1)).squeeze(-1),
}
PICTURE = re.compile(r"height (\S+) to ([\d.]*\d).*::\n\n((?:.*\n)*?)\n\S")


@pytest.fixture(scope="module")
def plots():
    path = Path(__file__).parents[2] / "scripts" / "plot_activations.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_one_is_drawn():
    assert DRAWN.keys() == {case.name for case in ORACLES}


@pytest.mark.parametrize("name", DRAWN)
def test_the_docstring_shows_the_function(name, plots):
    low, high, picture = PICTURE.search(inspect.getdoc(getattr(act, name))).groups()
    lines = [line[4:].rstrip() for line in picture.splitlines()]
    drawn = plots.text_plot(DRAWN[name], float(low), float(high), len(lines))
    assert drawn == "\n".join(lines)
