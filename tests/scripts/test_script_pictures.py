"""Pictures of scripts: nothing of them is cut off."""

import importlib.util

import pytest
import torch
from running import ROOT

from drawing import inside


def load(name):
    spec = importlib.util.spec_from_file_location(f"pictures_{name}", ROOT / "scripts" / f"{name}.py")  # fmt: skip
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "name", ["neuron", "layers", "gradient_descent", "prelu", "vanishing_gradients"]
)
def test_figures_of_the_notes(name):
    inside(load("plot_activations").figures()[name]())


@pytest.mark.parametrize("count", [0, 1, 13])
def test_digits(count):
    pictures = torch.rand(count, 64)
    inside(load("train_digits").picture_grid(pictures, ["3 read as 8"] * count))
