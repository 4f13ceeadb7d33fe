"""Pictures of scripts: nothing of them is cut off."""

import importlib.util

import pytest
import torch
from running import ROOT

from drawing import inside
from optimizers.pictures import NAMES, draw_corpus, draw_rates
from optimizers.surfaces import RATES, SURFACES


def load(name):
    spec = importlib.util.spec_from_file_location(f"pictures_{name}", ROOT / "scripts" / f"{name}.py")  # fmt: skip
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_learning_rates():
    heights = torch.logspace(0, -12, len(RATES), dtype=torch.float64)
    inside(draw_rates({name: {"adam": heights, "momentum": heights / 2} for name in SURFACES}))


@pytest.mark.parametrize("last", [0.0, 1e-9])
def test_a_line_that_leaves_the_picture_does_not_take_its_label_along(last):
    curve = [1.0, 0.1, last]
    one = {"lr": 0.1, "steps": [0, 10, 20], "seconds": [[0, 1, 2]] * 2, "loss": [curve] * 2}
    result = {rule: one | {"accuracy": [[50.0, 99.0, 100.0]] * 2} for rule in ("adam", "momentum")}
    figure = inside(draw_corpus(result, "title\nof two lines"))
    for axes in figure.axes:
        assert all(-0.1 < text.xyann[1] < 1.1 for text in axes.texts)
        assert [t.get_text().partition(",")[0] for t in axes.texts] == [NAMES[r] for r in result]


@pytest.mark.parametrize(
    "name", ["neuron", "layers", "gradient_descent", "prelu", "vanishing_gradients"]
)
def test_figures_of_the_notes(name):
    inside(load("plot_activations").figures()[name]())


@pytest.mark.parametrize("count", [0, 1, 13])
def test_digits(count):
    pictures = torch.rand(count, 64)
    inside(load("train_digits").picture_grid(pictures, ["3 read as 8"] * count))
