"""Gradient accumulation: a batch that is computed in micro-batches gives the same update."""

import pytest
import ranks
import torch
from torch import nn

import dlnotes.training.fit as fit_module
from dlnotes.errors import UserError
from dlnotes.optim import GradientDescent
from dlnotes.training.fit import Fitting
from dlnotes.training.objectives import Hierarchical, SingleLabel
from dlnotes.training.train import train_classifier
from small import SMALL, fitted

UNEVEN = [0.37, 2.9, 1e-3]
"""Weights whose sums are rounded, so that micro-batches count very differently."""
CASES = {
    "textcnn": {},
    "fasttext": {},
    "han": {},
    "transformer": {},
    "weights": {},
    "weights of paths": {
        "model": "fasttext",
        "settings": {"output": "hierarchical"},
        "objective": Hierarchical(UNEVEN),
    },
    "uneven weights": {"objective": SingleLabel(UNEVEN, 0.1, 2.0)},
    "paths": {},
    "several labels": {},
    "sequences": {},
    "norm": {},
    "huge": {},
    "huge sparse": {},
    "all": {"batch_size": None},
}


@pytest.mark.parametrize("name", CASES)
def test_the_update_is_that_of_the_whole_batch(name, monkeypatch):
    for limit in ("_MAX_TOKENS", "_PART_TOKENS"):  # `ranks` changes them
        monkeypatch.setattr(fit_module, limit, getattr(fit_module, limit))
    monkeypatch.setitem(ranks.CASES, name, ranks.CASES.get(name, {}) | CASES[name])
    whole, losses = ranks.train(name)
    sizes = []
    forward = fit_module._Loop.forward

    def noting(loop, tokens, labels):
        sizes.append(len(tokens))
        return forward(loop, tokens, labels)

    monkeypatch.setattr(fit_module._Loop, "forward", noting)
    parts, their_losses = ranks.train(name, micro_batch_size=5)
    assert max(sizes) == 5
    torch.testing.assert_close(parts, whole, rtol=1e-10, atol=1e-13)
    torch.testing.assert_close(their_losses, losses, rtol=1e-6, atol=0)


@pytest.mark.parametrize("micro", [None, 2])
def test_a_batch_whose_documents_count_nothing_changes_nothing(dataset, micro):
    torch.manual_seed(0)
    model = ranks.make(dataset, "textcnn", dropout=0.0)
    before = {name: w.clone() for name, w in model.state_dict().items()}
    rule = GradientDescent(model.parameters(), lr=1.0)
    nothing = SingleLabel([0.0] * len(dataset.label_names))
    state = fitted(
        model, rule, dataset.train, None, nothing, epochs=1, batch_size=8, micro_batch_size=micro,
        progress=False,
    )  # fmt: skip
    assert state.history[0]["train_loss"] == 0.0
    torch.testing.assert_close(dict(model.state_dict()), before, rtol=0, atol=0)


def test_mixed_precision_and_micro_batches(dataset):
    """bf16 needs no scaling of the loss: what is added up are float32 gradients."""
    found = []
    for micro in (None, 3):
        torch.manual_seed(0)
        model = ranks.make(dataset, "textcnn", dropout=0.0)
        rule = GradientDescent(model.parameters(), lr=0.1)
        options = {"epochs": 1, "batch_size": 16, "amp": True, "progress": False}
        fitted(model, rule, dataset.train, None, micro_batch_size=micro, **options)
        found.append(dict(model.state_dict()))
    torch.testing.assert_close(*found, rtol=0.02, atol=2e-3)


def test_a_run_is_resumed_with_other_micro_batches(dataset, tmp_path):
    """A training that ran out of memory goes on with smaller ones."""
    options = {
        "model": "textcnn", "recipe": "plain", "epochs": 2, "batch_size": 16, "progress": False,
        "model_settings": SMALL["textcnn"] | {"dropout": 0.0},
    }  # fmt: skip
    _, whole = train_classifier(dataset, out=tmp_path / "whole", **options)
    update = fit_module._Loop.update

    def fails(loop, indices):
        if loop.state.step == 9:
            raise MemoryError
        return update(loop, indices)

    out = tmp_path / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit_module._Loop, "update", fails)
        with pytest.raises(UserError, match="with a micro_batch_size it takes less"):
            train_classifier(dataset, out=out, checkpoint_every=4, **options)
    options |= {"micro_batch_size": 3}
    with pytest.warns(UserWarning, match=r"micro_batch_size none \(now 3\): the training goes on"):
        _, record = train_classifier(dataset, out=out, resume=True, **options)
    assert record["settings"]["micro_batch_size"] == 3
    for one, other in zip(record["history"], whole["history"], strict=True):
        assert one["dev_loss"] == pytest.approx(other["dev_loss"], rel=1e-4)


class Normalized(nn.Module):
    """Statistics of the batch: a document's scores depend on the others."""

    def __init__(self, words, classes):
        super().__init__()
        self.vectors, self.norm = nn.Embedding(words, 4), nn.BatchNorm1d(4)
        self.output = nn.Linear(4, classes)

    def forward(self, tokens):
        return self.output(self.norm(self.vectors(tokens).sum(1)))


def test_a_model_that_cannot_be_cut_up_is_refused(dataset):
    model = Normalized(len(dataset.vocabulary), len(dataset.label_names))
    rule = GradientDescent(model.parameters(), lr=0.1)
    told = r"^micro_batch_size=4 cannot train a model with BatchNorm1d \(norm\): the mean and"
    with pytest.raises(UserError, match=told):
        fitted(model, rule, dataset.train, None, epochs=1, micro_batch_size=4, progress=False)
    fitted(model, rule, dataset.train, None, epochs=1, progress=False)


@pytest.mark.parametrize("value", [0, -1, 1.5, True])
def test_what_is_no_number_of_documents(value):
    with pytest.raises(UserError, match=r"^micro_batch_size must be (at least 1|an integer)"):
        Fitting(micro_batch_size=value)
