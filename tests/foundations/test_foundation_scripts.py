"""The programs of these chapters, run as a person runs them, but for a shorter time."""

import importlib.util
import itertools
import json
import re
from pathlib import Path

import pytest
import torch

from dlnotes.activations import tanh
from dlnotes.errors import UserError
from dlnotes.foundations.perceptron import Perceptron
from dlnotes.optim import Adam
from dlnotes.oracles.activations import ORACLES

SCRIPTS = Path(__file__).parents[2] / "scripts"


def load(name):
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def logged(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return events


@pytest.mark.parametrize(
    ("optimizer", "lr", "activation"),
    [("adam", 3e-3, "relu"), ("momentum", 1.0, "elu"), ("gradient-descent", 0.3, "rrelu")],
)
def test_train_digits(tmp_path, capsys, optimizer, lr, activation):
    pytest.importorskip("sklearn")
    load("train_digits").main(
        optimizer=optimizer, lr=lr, activation=activation, epochs=4, hidden=(40, 20), out=tmp_path
    )
    record = json.loads((tmp_path / "result.json").read_text())
    assert record["test_accuracy"] > 0.85
    assert f"test accuracy {record['test_accuracy']:.2%}" in capsys.readouterr().out
    events = logged(tmp_path)
    layers = [f"{what}/layer {n}" for what in ("saturated share", "dead units") for n in (1, 2)]
    layers += [f"gradient norm/layer {n}" for n in (1, 2, 3)]
    curves = {"loss", "train loss", "train accuracy", "test accuracy", *layers}
    assert set(events.Tags()["scalars"]) == curves
    assert set(events.Tags()["images"]) == {"weights/layer 1", "wrongly read digits"}
    loss = [event.value for event in events.Scalars("loss")]
    assert loss[-1] < loss[0]
    shares = [e.value for tag in layers[:4] for e in events.Scalars(tag)]
    assert all(0 <= share <= 1 for share in shares)


def test_digits_whose_last_update_is_lost_are_no_result(tmp_path, monkeypatch):
    """One update an epoch; the loss of that epoch was still a number."""
    pytest.importorskip("sklearn")
    step, calls = Adam.step, itertools.count(1)

    def lost(self, *args):
        step(self, *args)
        if next(calls) == 2:
            self.param_groups[0]["params"][0].data[3, 4] = float("nan")

    monkeypatch.setattr(Adam, "step", lost)
    with pytest.raises(UserError, match=r"weights are not finite at step 2 \(epoch 2\): .*smaller --lr than 0.003"):  # fmt: skip
        load("train_digits").main(epochs=2, batch_size=10_000, out=tmp_path)
    assert not (tmp_path / "result.json").exists()


@pytest.mark.slow
def test_train_digits_reaches_96_percent(tmp_path):
    pytest.importorskip("sklearn")
    load("train_digits").main(out=tmp_path)
    assert json.loads((tmp_path / "result.json").read_text())["test_accuracy"] >= 0.96


def test_dead_and_saturated_units_are_counted():
    module = load("train_digits")
    network = module.Network([3, 2, 2], module.ACTIVATIONS["relu"]())
    network.weights[0] = torch.tensor([[1.0, 0, 0], [0, 0, 0]])
    network.biases[0] = torch.tensor([0.0, -1.0])  # the second unit never answers
    values = network.forward(torch.tensor([[1.0, 0, 0], [-1.0, 0, 0]]))
    network.backward(values, torch.eye(2))
    scalars = {}

    class Board:
        def add_scalar(self, name, value, step):
            scalars[name] = value

    module.log_layers(Board(), network, values, 0)
    assert scalars["saturated share/layer 1"] == 0.75
    assert scalars["dead units/layer 1"] == 0.5


@pytest.mark.parametrize("argument", ["dataset", "activation", "optimizer", "initialisation"])
def test_train_digits_says_what_it_knows(argument, tmp_path):
    with pytest.raises(UserError, match=rf"--{argument}: 'nothing' is not one of "):
        load("train_digits").main(**{argument: "nothing"}, out=tmp_path)


def test_train_digits_stops_when_the_loss_explodes(tmp_path):
    pytest.importorskip("sklearn")
    with pytest.raises(UserError, match=r"try a smaller --lr than 1e\+30"):
        load("train_digits").main(optimizer="gradient-descent", lr=1e30, out=tmp_path)


@pytest.mark.slow
def test_plot_activations(tmp_path):
    module = load("plot_activations")
    module.main(out=tmp_path, dpi=40)
    names = {path.stem for path in tmp_path.glob("*.png")}
    wanted = {"activations", "neuron", "layers", "gradient_descent", "sigmoid", "tanh", "relu"}
    assert names >= wanted | {"prelu", "elu", "maxout", "vanishing_gradients"}
    assert set(logged(tmp_path).Tags()["images"]) == names


def test_the_sheet_has_every_activation_and_labelled_axes():
    module = load("plot_activations")
    axes = [
        ax for name in ("activations", "more_activations") for ax in module.figures()[name]().axes
    ]
    assert len(axes) == len(ORACLES)
    assert all(ax.get_xlabel() and ax.get_ylabel() and ax.get_title() for ax in axes)


def test_activations_are_timed_beside_torchs_own_functions():
    """And not beside an oracle, which may mend a slope at NaN in passes of its own."""
    cases = load("bench_activations").cases()
    assert {oracle.name for oracle in ORACLES} < cases.keys()
    for name in ("hardtanh", "relu6", "hardsigmoid", "softsign", "softshrink", "hardshrink"):
        assert cases[name][1] is getattr(torch.nn.functional, name)


def test_bench_activations_checks_before_it_times(tmp_path, capsys, monkeypatch):
    module = load("bench_activations")
    path = tmp_path / "bench.json"
    module.main(size=4096, rounds=2, compiled=False, json_file=path)
    ratios = json.loads(path.read_text())["ratios"]
    assert ratios.keys() == module.cases().keys()
    assert all(row["eager"] > 0 for row in ratios.values())
    monkeypatch.setattr(module, "cases", lambda: {"wrong": (torch.sigmoid, torch.tanh)})
    with pytest.raises(AssertionError, match="not close"):
        module.main(size=4096, rounds=2, compiled=False)


@pytest.mark.parametrize("slope", [0.1, 0.4, float("nan"), 0.0])
def test_bench_activations_looks_at_negative_inputs_of_rrelu_too(slope):
    module = load("bench_activations")

    def wrong(x):
        return torch.where(x > 0, x, slope * x)

    with pytest.raises(AssertionError, match=r"slope is outside|not close"):
        module.ratio("rrelu, training", wrong, torch.relu, 4096, 1)


def test_bench_foundations_checks_before_it_times(tmp_path, capsys, monkeypatch):
    module = load("bench_foundations")
    path = tmp_path / "bench.json"
    module.main(times=2, rounds=2, json_file=path)
    record = json.loads(path.read_text())
    assert record["rows"].keys() == module.cases(1).keys()
    assert all(row[side] > 0 for row in record["rows"].values() for side in ("ours", "torch"))
    assert {"command", "commit", "seed", "versions", "machine"} <= record.keys()
    assert "20 layers, clipped" in capsys.readouterr().out
    right = module.cases(8)["update of a sigmoid neuron"]
    with pytest.raises(AssertionError, match=r"^wrong: .*not close"):
        module.check("wrong", right._replace(torch=module.unit(Perceptron(20), tanh, 8).torch))
    with pytest.raises(AssertionError, match=r"^idle: nothing has changed"):
        module.check("idle", right._replace(ours=right.ours._replace(call=lambda: None)))


def test_the_benchmark_is_that_of_the_chapters():
    """Every row of the record is on a page, and none is missing from the script."""
    names = set(load("bench_foundations").cases(1))
    shown = set()
    for page in ("perceptron", "back-propagation", "problems"):
        text = (SCRIPTS.parent / "docs" / "en" / f"{page}.md").read_text("utf-8")
        shown |= set(re.search(r"^```\{speed\}\n(.*?)\n```$", text, re.M | re.S)[1].splitlines())
    assert shown == names
    record = SCRIPTS.parent / "results" / "benchmarks" / "foundations.json"
    assert json.loads(record.read_text("utf-8"))["rows"].keys() == names
