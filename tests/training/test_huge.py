"""Huge documents and very many classes: bounded memory, and the same numbers."""

import numpy as np
import pytest
import torch

from dlnotes.data.batches import by_length
from dlnotes.data.dataset import load_dataset
from dlnotes.data.documents import Documents
from dlnotes.optim import GradientDescent
from dlnotes.training import evaluate, fit, scoring
from dlnotes.training.classifier import TextClassifier
from dlnotes.training.objectives import Hierarchical, MultiLabel, Sequence, SingleLabel
from dlnotes.training.train import train_classifier
from small import fitted, make

WEIGHTS = torch.tensor([0.5, 1.0, 3.0])


@pytest.fixture
def asked(monkeypatch):
    """Padded tokens of every batch that documents were gathered for."""
    sizes = []
    batch = Documents.batch

    def noting(self, indices):
        found = batch(self, indices)
        sizes.append(found.tokens.numel())
        return found

    monkeypatch.setattr(Documents, "batch", noting)
    return sizes


@pytest.mark.parametrize("name", ["fasttext", "textrnn", "transformer"])
@pytest.mark.parametrize(
    "objective",
    [
        lambda: SingleLabel(),
        lambda: SingleLabel(WEIGHTS),
        lambda: SingleLabel(WEIGHTS, 0.1),
        lambda: Hierarchical(WEIGHTS),
    ],
    ids=["plain", "weighted", "smoothed", "hierarchical"],
)
def test_an_update_in_parts_is_the_update_of_the_batch(
    dataset, asked, monkeypatch, name, objective
):
    hierarchical = isinstance(objective(), Hierarchical)
    if hierarchical and name != "fasttext":
        pytest.skip("has no hierarchical output")
    weights, losses = [], []
    for most, part in ((1 << 18, 1 << 15), (100, 40)):
        monkeypatch.setattr(fit, "_MAX_TOKENS", most)
        monkeypatch.setattr(fit, "_PART_TOKENS", part)
        own = {"output": "hierarchical"} if hierarchical else {}
        model = make(dataset, name, dropout=0.0, **own).double()
        rule = GradientDescent(model.parameters(), lr=0.1)
        asked.clear()
        state = fitted(
            model, rule, dataset.train, None, objective(), epochs=2, batch_size=32, progress=False,
            clip_norm=0.1,
        )  # fmt: skip
        assert state.step == 2 * -(-len(dataset.train) // 32)
        assert (max(asked) <= max(40, dataset.train.lengths.max())) == (part == 40)
        weights.append([w.detach().clone() for w in model.parameters()])
        losses.append([epoch["train_loss"] for epoch in state.history])
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    for one, other in zip(*weights, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)


def test_what_a_mean_is_divided_by():
    labels = torch.tensor([0, 2, 2])
    assert SingleLabel().size(labels) == 3
    assert SingleLabel(WEIGHTS).size(labels) == Hierarchical(WEIGHTS).size(labels) == 6.5
    assert MultiLabel().size(torch.ones(3, 4)) == 3
    assert Sequence().size(torch.tensor([[2, 7, 3, 0], [2, 7, 7, 3]])) == 5


def test_a_huge_document_among_many_does_not_fill_memory(asked):
    words = " ".join(f"w{i % 50}" for i in range(300_000))
    pairs = [("ab"[i % 2], f"w{i % 50} w{i % 7}") for i in range(100)] + [("a", words)]
    with pytest.warns(UserWarning, match="2 of 202 documents are longer than 20,000 tokens"):
        dataset = load_dataset({"train": pairs, "dev": pairs})
    settings = {"recipe": "plain", "model_settings": {"buckets": 100}, "epochs": 1, "device": "cpu", "progress": False}  # fmt: skip
    classifier, _ = train_classifier(dataset, "fasttext", **settings)
    assert classifier.max_tokens == 20_000
    classifier.predict([words, "w1"] * 3)
    assert max(asked) == 20_000  # such a document by itself
    assert sum(asked) < 20_000 * 12


def test_evaluation_batches_of_many_classes_have_few_documents():
    lengths = np.full(1000, 3)
    for batches in (
        list(by_length(lengths, 1 << 15, evaluate.max_batch_documents(1_000_000))),
        scoring._batches(lengths, evaluate.max_batch_documents(1_000_000)),
    ):
        assert sorted(np.concatenate(batches).tolist()) == list(range(1000))
        assert max(map(len, batches)) == 16
    assert len(list(by_length(lengths, 1 << 15, evaluate.max_batch_documents(512)))) == 1
    assert len(list(by_length(lengths, 1 << 15, evaluate.max_batch_documents(1 << 30)))) == 1000


@pytest.mark.parametrize("amount", [1, 6, 1 << 24])
def test_figures_batch_by_batch_are_those_of_all_scores(dataset, monkeypatch, amount):
    monkeypatch.setattr(evaluate, "_BATCH_SCORES", amount)
    model = make(dataset).eval()
    logits = evaluate.scores(model, dataset.train, classes=3)
    labels = dataset.train.labels
    found, expected = evaluate.evaluate(model, dataset.train), evaluate.metrics(logits, labels)
    for one, other in zip(vars(found).values(), vars(expected).values(), strict=True):
        assert np.array_equal(one, other)
    assert found.loss == torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels)).item()


def test_figures_of_very_many_classes():
    """Sparse ones: the confusion matrix alone would take 80 GB."""
    n, classes = 1000, 100_000
    random = np.random.default_rng(0)
    labels = random.integers(0, classes, n)
    predictions = np.where(random.random(n) < 0.5, labels, random.integers(0, classes, n))
    figures = evaluate.Metrics(0.0, labels, predictions, np.ones(n, np.float32), classes)
    assert figures.accuracy == (labels == predictions).mean()
    assert len(figures.per_class([str(i) for i in range(classes)])) == classes
    pairs = figures.confusions
    assert pairs[:, 2].sum() == n
    assert pairs[pairs[:, 0] == pairs[:, 1], 2].sum() == (labels == predictions).sum()
    with pytest.raises(MemoryError, match="of 100,000 classes is too large"):
        _ = figures.confusion
    few = evaluate.Metrics(0.0, labels % 5, predictions % 5, figures.confidence, 5)
    dense = np.zeros((5, 5), np.int64)
    for label, predicted, count in few.confusions:
        dense[label, predicted] = count
    assert np.array_equal(dense, few.confusion)


@pytest.mark.parametrize("output", ["hierarchical", "softmax"])
def test_thousands_of_classes_are_learned_and_predicted(tmp_path, output):
    classes = 1000
    pairs = [
        (f"class {i % classes}", f"w{i % classes // 60} v{i % 60}") for i in range(2 * classes)
    ]
    dataset = load_dataset({"train": pairs, "dev": pairs[:90], "test": pairs[:80]})
    classifier, record = train_classifier(
        dataset, "fasttext", model_settings={"output": output, "buckets": 100}, epochs=1,
        batch_size=256, device="cpu", progress=False,
    )  # fmt: skip
    assert record["documents"]["test"] == 80
    assert len(record["test"]["classes"]) == classes
    classifier.save(tmp_path)
    loaded = TextClassifier.load(tmp_path)
    texts = [text for _, text in pairs[:9]]
    best = loaded.predict_proba(texts).argmax(1)
    assert loaded.predict(texts) == [loaded.labels[k] for k in best]
    assert [one["label"] for one in loaded.classify(texts, top_k=3)] == loaded.predict(texts)
