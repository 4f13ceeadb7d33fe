"""Figures against scikit-learn's."""

import numpy as np
import pytest
import torch

from dlnotes.models import MODELS
from dlnotes.training.board import confusion_figure
from dlnotes.training.evaluate import evaluate, metrics, scores

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
    figure = confusion_figure(np.array([[3, 1], [0, 12]]), ["neg", "pos"])
    axes = figure.axes[0]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["neg", "pos"]
    assert sorted(t.get_text() for t in axes.texts) == ["1", "12", "3"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "label")
