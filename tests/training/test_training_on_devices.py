"""Training on a device: it ends near the CPU's, and goes on as if nothing had been."""

import contextlib
import copy
import warnings

import pytest
import torch

from dlnotes.models import MODELS
from dlnotes.optim import OPTIMIZERS, Adam
from dlnotes.training.evaluate import evaluate, scores
from dlnotes.training.fit import _Loop
from small import fitted, make, without_tf32
from waiting import cuda_errors, no_waiting

every_model = pytest.mark.parametrize("name", MODELS)


@pytest.fixture(autouse=True)
def _exact():
    """Neither TF32, which has ten bits, nor sums whose order changes from run to run."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    with without_tf32(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*deterministic")
        yield
    torch.use_deterministic_algorithms(False)


def trained(dataset, name, device, *, full=True, rule="adam", dropout=0.0, model=None, **options):
    """A model after a short training on a device."""
    model = (model or make(dataset, name, dropout=dropout)).to(device)
    if full and getattr(model, "reads_sentences", False):
        model.data_dependent = False  # as on a GPU
    optimizer = OPTIMIZERS[rule](model.parameters(), lr=0.02)
    torch.manual_seed(3)
    options = {"epochs": 3, "batch_size": 16, "progress": False, "device": device} | options
    return model, fitted(model, optimizer, dataset.train, dataset.dev, **options)


def losses(state):
    return [epoch["train_loss"] for epoch in state.history]


@every_model
def test_a_training_ends_near_the_one_on_the_cpu(name, device, dataset):
    model, state = trained(dataset, name, device, clip_norm=1.0)
    _, on_cpu = trained(dataset, name, "cpu", full=False, clip_norm=1.0)
    assert losses(state)[-1] < 0.9 * losses(state)[0]
    assert losses(state) == pytest.approx(losses(on_cpu), rel=0.02, abs=0.005)
    assert {p.device.type for p in model.parameters()} == {device.type}
    figures = evaluate(model, dataset.dev, device=device)
    there = scores(model, dataset.dev, device=device)
    assert there.device.type == "cpu"
    torch.testing.assert_close(there, scores(model.to("cpu"), dataset.dev), rtol=1e-4, atol=1e-4)
    assert figures.accuracy > 0.5


@every_model
def test_bfloat16_ends_near_float32(name, device, dataset):
    _, half = trained(dataset, name, device, amp=True)
    _, full = trained(dataset, name, device)
    assert losses(half)[-1] < 0.9 * losses(half)[0]
    assert losses(half) == pytest.approx(losses(full), rel=0.25, abs=0.05)
    assert losses(half) != losses(full)


@every_model
@pytest.mark.parametrize("options", [{}, {"amp": True, "clip_norm": 1.0}], ids=["", "bf16"])
def test_an_update_does_not_wait(name, options, device, dataset, monkeypatch):
    """From the batch to the constraint of the weights; the first makes what is made once."""
    update, backward = _Loop.update, _Loop.backward

    def watched_update(loop, indices):
        with cuda_errors(device if loop.state.step else torch.device("cpu")):
            return update(loop, indices)

    def watched_backward(loop, indices):
        # Not around the whole update: under a mode a rule takes another path.
        with no_waiting(device) if loop.state.step else contextlib.nullcontext():
            return backward(loop, indices)

    monkeypatch.setattr(_Loop, "update", watched_update)
    monkeypatch.setattr(_Loop, "backward", watched_backward)
    _, state = trained(dataset, name, device, epochs=1, **options)
    assert state.step > 2


def bits(model):
    return {key: x.cpu() for key, x in model.state_dict().items()}


@every_model
def test_a_resumed_training_has_the_same_bits(name, device, dataset, tmp_path):
    options = {"dropout": 0.3, "checkpoint": tmp_path / "whole.pt"}
    model, state = trained(dataset, name, device, **options)
    options = {"dropout": 0.3, "checkpoint": tmp_path / "parts.pt", "checkpoint_every": 5}
    trained(dataset, name, device, stop_after=1, **options)
    torch.manual_seed(99)
    part, resumed = trained(dataset, name, device, resume=True, **options)
    assert losses(resumed) == losses(state)
    for key, x in bits(model).items():
        assert torch.equal(bits(part)[key], x), key


@pytest.mark.parametrize("rule", OPTIMIZERS)
def test_a_checkpoint_goes_on_on_another_device_and_back(rule, device, dataset, tmp_path):
    options = {"rule": rule, "checkpoint": tmp_path / "checkpoint.pt"}
    _, whole = trained(dataset, "textcnn", "cpu", rule=rule)
    trained(dataset, "textcnn", device, stop_after=1, **options)
    told = pytest.warns(UserWarning, match="device cuda") if device.type == "cuda" else None
    with told or contextlib.nullcontext():
        trained(dataset, "textcnn", "cpu", stop_after=2, resume=True, **options)
    told = pytest.warns(UserWarning, match="device cpu") if device.type == "cuda" else None
    with told or contextlib.nullcontext():
        model, state = trained(dataset, "textcnn", device, resume=True, **options)
    assert losses(state) == pytest.approx(losses(whole), rel=0.02, abs=0.005)
    assert {p.device.type for p in model.parameters()} == {device.type}


def test_a_model_that_fit_has_trained_is_the_best_epochs(device, dataset):
    model = make(dataset, "textcnn").to(device)
    before = copy.deepcopy(bits(model))
    optimizer = Adam(model.parameters(), lr=0.02)
    state = fitted(
        model, optimizer, dataset.train, dataset.dev, epochs=2, device=device, progress=False
    )
    assert state.best_epoch in (1, 2)
    assert any(not torch.equal(x, before[key]) for key, x in bits(model).items())
    found = evaluate(model, dataset.dev, device=device)
    assert found.accuracy == max(epoch["dev_accuracy"] for epoch in state.history)
