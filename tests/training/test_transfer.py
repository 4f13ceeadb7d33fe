"""Batches that are gathered ahead and figures that come late change no training.

On a CPU neither happens, so here it does what `fit` does with CUDA.
"""

import math
import signal
import threading

import numpy as np
import pytest
import torch
from torch import nn

from dlnotes.errors import UserError
from dlnotes.optim import Adam
from dlnotes.training import fit as fit_module
from dlnotes.training import transfer
from dlnotes.training.fit import Interrupted
from dlnotes.training.progress import Progress
from dlnotes.training.transfer import BatchLoader, PendingNumbers
from small import fitted, make

CPU = torch.device("cpu")


@pytest.fixture
def as_on_cuda(monkeypatch):
    """A thread gathers batches, and figures have never come before they are waited for."""
    monkeypatch.setattr(transfer, "_AHEAD", ("cpu",))
    monkeypatch.setattr(PendingNumbers, "is_ready", lambda self: False)


@pytest.fixture
def shown(monkeypatch):
    """What the progress bar was told."""
    told = []

    def update(self, step, epoch, *, loss, documents):
        told.append((step, epoch, loss, documents))

    monkeypatch.setattr(Progress, "update", update)
    return told


def trained(dataset, *, train=None, model=None, **options):
    """Losses of the epochs and weights after a training with dropout."""
    model = model or make(dataset, "textrnn", dropout=0.3)
    torch.manual_seed(5)
    options = {"epochs": 3, "batch_size": 4, "progress": False} | options
    optimizer = Adam(model.parameters(), lr=0.01)
    state = fitted(model, optimizer, train or dataset.train, dataset.dev, **options)
    return [epoch["train_loss"] for epoch in state.history], model.state_dict()


def batch_threads():
    return [t for t in threading.enumerate() if t.name.startswith("batches")]


def test_the_numbers_are_the_same(dataset, shown, request):
    expected = trained(dataset)
    in_time, shown[:] = list(shown), []
    assert len(in_time) > 3 * 4
    request.getfixturevalue("as_on_cuda")
    found = trained(dataset)
    assert found[0] == expected[0]
    assert shown == in_time
    for key, weight in found[1].items():
        assert torch.equal(weight, expected[1][key]), key
    assert batch_threads() == []


def test_parts_of_a_huge_batch_are_gathered_ahead_as_well(dataset, monkeypatch, request):
    monkeypatch.setattr(fit_module, "_MAX_TOKENS", 60)
    monkeypatch.setattr(fit_module, "_PART_TOKENS", 30)
    expected = trained(dataset, batch_size=16)
    request.getfixturevalue("as_on_cuda")
    taken = []
    gathered = BatchLoader._gathered

    def noted(self, indices):
        taken.append(threading.current_thread().name.startswith("batches"))
        return gathered(self, indices)

    monkeypatch.setattr(BatchLoader, "_gathered", noted)
    found = trained(dataset, batch_size=16)
    assert found[0] == expected[0]
    assert len(taken) > 3 * (len(dataset.train) // 16 + 1)
    assert all(taken)


class Slow(nn.Module):
    """Computes an update only when the next batch is being gathered."""

    def __init__(self, dataset, begun):
        super().__init__()
        self.model, self.begun, self.updates = make(dataset), begun, 0

    def forward(self, tokens):
        if self.training and self.updates < 3:
            self.updates += 1
            assert self.begun[self.updates].wait(30), "the next batch is not gathered meanwhile"
        return self.model(tokens)


class Watched:
    """Documents that tell when each batch is begun; one of them may be broken."""

    def __init__(self, documents, broken=math.inf, error=None):
        self.documents, self.lengths = documents, documents.lengths
        self.begun = [threading.Event() for _ in range(1000)]
        self.count, self.broken, self.error = 0, broken, error

    def __len__(self):
        return len(self.documents)

    def batch(self, indices):
        self.count += 1
        self.begun[self.count - 1].set()
        if self.count > self.broken:
            raise self.error
        return self.documents.batch(indices)


def test_the_next_batch_is_gathered_while_one_is_computed(dataset, as_on_cuda):
    documents = Watched(dataset.train)
    model = Slow(dataset, documents.begun)
    trained(dataset, train=documents, model=model, epochs=1)
    assert model.updates == 3


@pytest.mark.parametrize("ahead", [False, True])
def test_what_goes_wrong_is_raised_when_the_batch_is_taken(
    dataset, shown, tmp_path, ahead, request
):
    if ahead:
        request.getfixturevalue("as_on_cuda")
    documents = Watched(dataset.train, broken=12, error=UserError("train.tsv has gone"))
    file = tmp_path / "checkpoint.pt"
    with pytest.raises(UserError, match=r"^train.tsv has gone$"):
        trained(dataset, train=documents, checkpoint=file, checkpoint_every=1)
    assert torch.load(file, weights_only=True)["state"]["step"] == 12
    assert batch_threads() == []


def test_a_batch_that_was_not_expected_is_gathered_all_the_same(dataset, as_on_cuda):
    orders = [np.array([0, 1]), np.array([2, 3]), np.array([4])]
    with BatchLoader(dataset.train, CPU) as batches:
        batches.prefetch(orders)
        for indices in (orders[0], np.array([7, 8]), orders[1], orders[2], orders[2]):
            found, expected = batches.take(indices), dataset.train.batch(indices)
            assert torch.equal(found.tokens, expected.tokens)
            assert torch.equal(found.labels, expected.labels)


class Fails(nn.Module):
    """Scores become NaN at an update."""

    def __init__(self, dataset, at):
        super().__init__()
        self.model, self.at, self.updates = make(dataset), at, 0

    def forward(self, tokens):
        self.updates += self.training
        scores = self.model(tokens)
        return scores * math.nan if self.updates >= self.at else scores


@pytest.mark.parametrize(("at", "told"), [(3, 10), (10, 10), (11, 20), (47, 50)])
def test_a_loss_that_became_nan_is_told_with_the_step_at_which_it_was_read(
    dataset, at, told, request
):
    messages = []
    for late in (False, True):
        if late:
            request.getfixturevalue("as_on_cuda")
        model = Fails(dataset, at)
        with pytest.raises(UserError) as error:
            trained(dataset, model=model, epochs=9)
        messages.append(str(error.value))
        behind = 10 * fit_module._UNREAD if late else 0
        assert model.updates <= told + behind
    assert messages[0] == messages[1]
    assert messages[0].startswith(f"the loss became nan at step {told} (epoch ")


def test_nothing_is_saved_after_a_loss_that_became_nan(dataset, as_on_cuda, tmp_path):
    """Its figures are on their way when the checkpoint is due."""
    file = tmp_path / "checkpoint.pt"
    with pytest.raises(UserError, match=r"the loss became nan at step 12 .* of step 9$"):
        trained(dataset, model=Fails(dataset, 11), checkpoint=file, checkpoint_every=3)
    assert torch.load(file, weights_only=True)["state"]["step"] == 9


def test_a_training_that_a_signal_has_stopped_goes_on_as_if_nothing_had_been(
    dataset, shown, as_on_cuda, tmp_path, monkeypatch
):
    expected = trained(dataset)
    whole, shown[:] = list(shown), []
    update = fit_module._Loop.update

    def stopped(loop, indices):
        if loop.state.step == 17:
            signal.raise_signal(signal.SIGINT)
        return update(loop, indices)

    with monkeypatch.context() as patch:
        patch.setattr(fit_module._Loop, "update", stopped)
        with pytest.raises(Interrupted):
            trained(dataset, checkpoint=tmp_path / "c.pt")
    assert shown[-1][0] == 18  # nothing is left unread
    found = trained(dataset, checkpoint=tmp_path / "c.pt", resume=True)
    assert found[0] == expected[0]
    for key, weight in found[1].items():
        assert torch.equal(weight, expected[1][key]), key
    assert [x for x in shown if x[0] != 18] == whole
