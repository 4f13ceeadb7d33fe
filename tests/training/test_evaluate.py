"""Figures against scikit-learn's."""

import math
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
import torch
from torch import nn

from dlnotes.data.documents import Batch
from dlnotes.errors import UserError
from dlnotes.models import MODELS
from dlnotes.training.board import confusion_figure
from dlnotes.training.evaluate import (
    Metrics,
    check_scores,
    evaluate,
    metrics,
    scores,
)
from dlnotes.training.objectives import Sequence, SingleLabel
from measured import measured

sklearn_metrics = pytest.importorskip("sklearn.metrics")


@pytest.mark.parametrize("seed", range(5))
def test_metrics_equal_scikit_learn(seed):
    random = np.random.default_rng(seed)
    # With few documents and many classes, some never occur and some are never predicted.
    labels = random.integers(0, 5, 20)
    logits = torch.from_numpy(random.normal(size=(20, 7)))
    ours = metrics(logits, labels)
    predictions = logits.argmax(1).numpy()
    assert ours.accuracy == sklearn_metrics.accuracy_score(labels, predictions)
    for average in ("macro", "micro"):
        theirs = sklearn_metrics.f1_score(labels, predictions, average=average, zero_division=0)
        assert getattr(ours, f"{average}_f1") == pytest.approx(theirs, rel=1e-12)
    by_class = sklearn_metrics.precision_recall_fscore_support(
        labels, predictions, labels=range(7), zero_division=0
    )
    mine = (ours.precision, ours.recall, ours.f1, ours.confusion.sum(1))
    for a, b in zip(mine, by_class, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    matrix = sklearn_metrics.confusion_matrix(labels, predictions, labels=range(7))
    assert (ours.confusion == matrix).all()
    truth = sklearn_metrics.log_loss(labels, logits.softmax(1).numpy(), labels=range(7))
    assert ours.loss == pytest.approx(truth, rel=1e-9)
    assert (ours.predictions == predictions).all()
    confidence = logits.softmax(1).numpy().max(1)
    np.testing.assert_allclose(ours.confidence, confidence, rtol=1e-12)
    assert ours.summary() == {
        "loss": ours.loss,
        "accuracy": ours.accuracy,
        "macro_f1": ours.macro_f1,
        "micro_f1": ours.micro_f1,
        "ece": ours.ece,
    }
    names = ("precision", "recall", "f1", "documents")
    for i, (label, row) in enumerate(ours.per_class(list("abcdefg")).items()):
        assert label == "abcdefg"[i]
        assert row == pytest.approx({n: c[i] for n, c in zip(names, by_class, strict=True)})


def test_one_document_and_none():
    """Where a count is 1 or 0: a share is of all documents, and of none it is 0."""
    one = metrics(torch.tensor([[0.0, 2.0, 1.0]]), np.array([1]))
    assert (one.accuracy, one.macro_f1, one.micro_f1) == (1.0, 1.0, 1.0)
    assert one.precision.tolist() == one.recall.tolist() == one.f1.tolist() == [0.0, 1.0, 0.0]
    nothing = np.zeros(0, np.int64)
    none = Metrics(0.0, nothing, nothing, nothing.astype(np.float32), 2)
    assert (none.accuracy, none.macro_f1, none.micro_f1) == (0.0, 0.0, 0.0)
    assert none.f1.tolist() == [0.0, 0.0]


def test_figures_cannot_be_changed():
    figures = metrics(torch.eye(2), np.array([0, 1]))
    with pytest.raises(FrozenInstanceError):
        figures.loss = 0.0
    with pytest.raises(FrozenInstanceError):
        Sequence().evaluate(Table(), Sequences([[7]])).loss = 0.0


class Spy(nn.Module):
    """Remembers how it was asked."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(3, 5))
        self.sizes, self.dtypes = [], set()

    def forward(self, tokens):
        self.sizes.append(tuple(tokens.shape))
        bags = nn.functional.one_hot(tokens % 5, 5).float().mean(1)
        out = bags @ self.weight.T
        self.dtypes.add(out.dtype)
        return out


def test_small_sets_take_one_batch_and_no_batch_is_larger_than_its_limit(dataset):
    spy = Spy()
    scores(spy, dataset.train)
    assert len(spy.sizes) == 1
    assert spy.sizes[0][0] == len(dataset.train)
    spy.sizes.clear()
    many = dataset.train.take(np.arange(9000) % len(dataset.train))
    assert len(scores(spy, many)) == 9000
    assert len(spy.sizes) > 1
    assert all(documents * length <= 1 << 15 for documents, length in spy.sizes)


def test_low_precision_is_the_models_and_ends_there(dataset):
    spy = Spy()
    low, full = (scores(spy, dataset.dev, amp=amp) for amp in (True, False))
    assert spy.dtypes == {torch.bfloat16, torch.float32}
    assert low.dtype == full.dtype == torch.float32
    torch.testing.assert_close(low, full, rtol=0.02, atol=0.02)
    assert evaluate(spy, dataset.dev, amp=True).loss == metrics(low, dataset.dev.labels).loss
    assert evaluate(spy, dataset.dev).loss == metrics(full, dataset.dev.labels).loss


def test_scores_without_probabilities_are_refused():
    nan, inf = math.nan, math.inf
    good = [[1.0, 2.0, -inf], [3.0, 3.0, 3.0], [-(2.0**99), 2.0**99, 0.0]]
    assert check_scores(torch.tensor(good), "it").tolist() == good
    bad = [[1.0, nan, 2.0], [inf, 1.0, 1.0], [-inf, -inf, -inf]]
    for rows in ([*good, bad[0]], [*good, bad[1]], [bad[2], *good]):
        with pytest.raises(UserError, match="the model gives 1 of 4 documents scores that are no"):
            check_scores(torch.tensor(rows), "the model")
    with pytest.raises(UserError, match="gives 1,500 of 3,000 documents"):
        check_scores(torch.tensor([[nan, nan], [0.0, 1.0]] * 1500), "it")


class Sequences:
    """Targets by document; the tokens are the documents' numbers."""

    def __init__(self, targets):
        self.targets = targets
        self.lengths = np.ones(len(targets), np.int64)

    def __len__(self):
        return len(self.targets)

    def batch(self, indices):
        rows = [torch.tensor([1, *self.targets[i]]) for i in indices]
        labels = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        return Batch(torch.tensor(indices.tolist())[:, None], labels)


class Table(nn.Module):
    """Expects the token after the one that it has been given, in a vocabulary of 12."""

    def __init__(self, certainty=None):
        super().__init__()
        self.certainty = certainty if certainty is not None else torch.ones(1000)

    def forward(self, tokens, labels):
        right = nn.functional.one_hot((labels + 1) % 12, 12)
        return right * self.certainty[tokens[:, 0]][:, None, None]


def test_figures_of_sequences_count_real_tokens():
    # After 1 it expects 2, and so on: 3 of the 7 tokens; what is padded does not count.
    documents = Sequences([[2, 3, 9, 1], [5], [2, 9]])
    hit, miss = math.log(math.e + 11) - 1, math.log(math.e + 11)
    for certain in (1.0, 0.0):
        model = Table(torch.full((3,), certain))
        figures = Sequence().evaluate(model, documents)
        assert figures.tokens == 7
        mean = (3 * hit + 4 * miss) / 7 if certain else math.log(12)
        assert figures.loss == pytest.approx(mean, rel=1e-6)
        assert figures.summary() == {"loss": figures.loss, "accuracy": figures.accuracy}
    assert Sequence().evaluate(Table(), documents).accuracy == pytest.approx(3 / 7)
    one = Sequence().evaluate(Table(), Sequences([[2]]))
    assert (one.accuracy, one.tokens) == (1.0, 1)
    assert one.loss == pytest.approx(hit, rel=1e-6)
    none = Sequence().evaluate(Table(), Sequences([[]]))
    assert (none.loss, none.accuracy, none.tokens) == (0.0, 0.0, 0)


def test_many_small_losses_count_beside_a_large_one(monkeypatch):
    monkeypatch.setattr("dlnotes.training.objectives._BATCH_TOKENS", 1)
    certainty = torch.cat([torch.full((1,), 2.0**26), torch.zeros(300)])
    figures = Sequence().evaluate(Table(certainty), Sequences([[9]] * 301))
    assert figures.loss == pytest.approx((2.0**26 + 300 * math.log(12)) / 301, rel=1e-9)


def test_low_precision_of_sequences():
    class Low(Table):
        def forward(self, tokens, labels):
            self.enabled = torch.is_autocast_cpu_enabled()
            return super().forward(tokens, labels).bfloat16()

    model = Low()
    documents = Sequences([[2, 3, 9, 1], [5], [2, 9]])
    full = Sequence().evaluate(Table(), documents)
    for amp in (True, False):
        low = Sequence().evaluate(model, documents, amp=amp)
        assert model.enabled is amp
        assert low.loss == pytest.approx(full.loss, rel=1e-6), "the loss is computed in float32"


def test_what_is_predicted_of_classes_and_of_sequences():
    tokens, classes = torch.tensor([[0], [1]]), torch.tensor([2, 0])
    assert SingleLabel().forward(lambda x: x.float(), tokens, classes).tolist() == [[0.0], [1.0]]
    labels = torch.tensor([[1, 5, 2], [1, 2, 0]])
    logits, target = Sequence().forward(Table(), tokens, labels), Sequence.targets(labels)
    assert logits.shape == (4, 12)
    assert target.tolist() == [5, 2, 2, -100]
    assert logits.argmax(1).tolist() == [2, 6, 2, 3]


def test_scores_are_in_the_documents_order(dataset):
    torch.manual_seed(0)
    model = MODELS["textcnn"](vocabulary_size=len(dataset.vocabulary), num_classes=3)
    together = scores(model, dataset.train)
    one_by_one = model.eval()(dataset.train.batch(np.array([17])).tokens)
    torch.testing.assert_close(together[17:18], one_by_one.detach(), rtol=1e-5, atol=1e-6)
    assert model.train() is model
    scores(model, dataset.dev)
    assert model.training, "evaluation must give the model back in the mode it came in"


def test_evaluation_draws_no_random_numbers(dataset):
    model = MODELS["textcnn"](vocabulary_size=len(dataset.vocabulary), num_classes=3)
    before = torch.get_rng_state()
    first, second = evaluate(model, dataset.dev), evaluate(model, dataset.dev)
    assert first.loss == second.loss
    assert torch.equal(before, torch.get_rng_state())


def test_confusion_figure_shows_every_label_and_count():
    labels, predictions = np.array([0] * 4 + [1] * 12), np.array([0] * 3 + [1] * 13)
    figure = confusion_figure(measured(labels, predictions, 2), ["neg", "pos"])
    axes = figure.axes[0]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["neg", "pos"]
    assert sorted(t.get_text() for t in axes.texts) == ["1", "12", "3"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "label")
