"""The loss of a batch against its formula: class weights and label smoothing, alone and together."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dlnotes.data.dataset import load_dataset
from dlnotes.optim import GradientDescent
from dlnotes.training.ensemble import load_members, make_ensemble
from dlnotes.training.objectives import SingleLabel, mean_loss
from dlnotes.training.train import train_classifier
from small import fitted


def formula(logits, labels, weights, smoothing):
    """Loss and gradient by hand, in float64."""
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    classes = logits.shape[1]
    q = (1 - smoothing) * np.eye(classes)[labels] + smoothing / classes
    share = weights[labels] / weights[labels].sum()
    return -(share * (q * np.log(p)).sum(1)).sum(), share[:, None] * (p - q)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0, 1.0), (0.37, 3.7, 37.0, 0.0), (5.0, 1e-3, 1.0, 900.0)])  # fmt: skip
@pytest.mark.parametrize("rows", [1, 17])
def test_the_formula_and_its_gradient(rows, weights, smoothing):
    random = np.random.default_rng(rows)
    logits, labels = random.normal(size=(rows, 4)) * 3, random.integers(0, 3, rows)
    loss, gradient = formula(logits, labels, np.array(weights), smoothing)
    x = torch.from_numpy(logits).requires_grad_()
    w = torch.tensor(weights, dtype=torch.float64)
    found = mean_loss(x, torch.from_numpy(labels), w, smoothing)
    found.backward()
    assert found.item() == pytest.approx(loss, rel=1e-12)
    np.testing.assert_allclose(x.grad, gradient, rtol=1e-12, atol=1e-14)


def test_each_option_alone_is_torchs_bit_for_bit():
    torch.manual_seed(0)
    logits, labels = torch.randn(33, 5), torch.randint(5, (33,))
    weights = torch.rand(5)
    for w, s in ((None, 0.0), (weights, 0.0), (None, 0.1)):
        expected = F.cross_entropy(logits, labels, w, label_smoothing=s)
        assert torch.equal(mean_loss(logits, labels, w, s), expected)
    together = F.cross_entropy(logits, labels, weights, label_smoothing=0.1)
    assert not torch.allclose(mean_loss(logits, labels, weights, 0.1), together)


def test_padding_of_sequences_counts_nothing():
    torch.manual_seed(0)
    logits, labels, weights = torch.randn(9, 4), torch.randint(4, (9,)), torch.rand(4)
    labels[[2, 5, 8]] = -100
    x = logits.clone().requires_grad_()
    loss = mean_loss(x, labels, weights, 0.1)
    real = labels >= 0
    torch.testing.assert_close(loss, mean_loss(logits[real], labels[real], weights, 0.1))
    loss.backward()
    assert (x.grad[~real] == 0).all()
    assert x.grad.isfinite().all()


SIZES = {"common": 500, "seldom": 50, "rare": 5}
WORDS = {"common": ["goal", "team", "match"], "seldom": ["chip", "code", "web"], "rare": ["court", "judge", "law"]}  # fmt: skip


@pytest.fixture(scope="module")
def unequal(tmp_path_factory):
    """A file of 500, 50 and 5 documents of three easy classes."""
    random = np.random.default_rng(0)
    rows = [
        f"{label}\t{' '.join(random.choice(WORDS[label], 4))} the of\n"
        for label, n in SIZES.items()
        for _ in range(n)
    ]
    path = tmp_path_factory.mktemp("unequal") / "train.tsv"
    path.write_text("".join(rows))
    return path


BOTH = {"class_weights": "balanced", "label_smoothing": 0.1, "lr": 0.01, "progress": False}
MODELS = [
    ("fasttext", {"buckets": 100}, {}),
    ("fasttext", {"buckets": 100}, {"refit": True}),
    ("textcnn", {"embedding_dim": 8, "maps": 4}, {}),
    ("fasttext", {"buckets": 100, "output": "hierarchical"}, {"lr": 0.1}),
]


@pytest.mark.parametrize(("model", "settings", "options"), MODELS)
def test_rare_classes_are_learned_with_both(unequal, model, settings, options):
    dataset = load_dataset({"train": unequal}, split_seed=0)
    classifier, record = train_classifier(
        dataset, model, model_settings=settings, epochs=10, **(BOTH | options)
    )
    assert record["dev"]["accuracy"] == 1.0
    assert record["dev"]["macro_f1"] == 1.0
    assert [row["label"] for row in classifier.classify(["goal team", "web chip", "law"])] == list(SIZES)  # fmt: skip


def test_an_ensemble_of_such_runs_is_as_good(unequal, tmp_path):
    runs = []
    for seed in (0, 1):
        runs.append(tmp_path / str(seed))
        dataset = load_dataset({"train": unequal}, split_seed=7)
        train_classifier(
            dataset, out=runs[-1], model="fasttext", model_settings={"buckets": 100}, epochs=10,
            seed=seed, **BOTH,
        )  # fmt: skip
    _, record = make_ensemble(load_members(runs, {"train": unequal}), None)
    assert record["dev"]["accuracy"] == 1.0


def test_a_step_of_training_in_half_precision_follows_the_formula(unequal):
    """The scores are bf16, the loss is float32; one full-batch step."""
    dataset = load_dataset({"train": unequal}, split_seed=0)
    weights, smoothing, rate = torch.tensor([0.37, 3.7, 37.0]), 0.2, 0.5

    class Bag(torch.nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.bag = torch.nn.EmbeddingBag(len(dataset.vocabulary), 8, padding_idx=0)
            self.output = torch.nn.Linear(8, 3)

        def forward(self, tokens):
            return self.output(self.bag(tokens))

    model, twin = Bag(), Bag()
    rule = GradientDescent(model.parameters(), lr=rate)
    state = fitted(
        model, rule, dataset.train, None, epochs=1, batch_size=None, bucket=1, amp=True,
        class_weights=weights, label_smoothing=smoothing, progress=False,
    )  # fmt: skip
    tokens, labels = dataset.train.batch(np.arange(len(dataset.train)))
    with torch.autocast("cpu", torch.bfloat16):
        logits = twin(tokens)
    assert logits.dtype == torch.bfloat16
    logits = logits.float()
    loss, gradient = formula(
        logits.detach().double().numpy(), labels.numpy(), weights.double().numpy(), smoothing
    )
    assert state.history[0]["train_loss"] == pytest.approx(loss, rel=1e-5)
    logits.backward(torch.from_numpy(gradient).float())
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p, q - rate * q.grad, rtol=1e-3, atol=1e-4)


def test_refit_weighs_the_classes_of_all_its_documents(unequal, monkeypatch):
    dataset = load_dataset({"train": unequal}, split_seed=0)
    given = []

    class Spy(SingleLabel):
        def __init__(self, class_weights, *more):
            given.append(class_weights)
            super().__init__(class_weights, *more)

    monkeypatch.setattr("dlnotes.training.targets.SingleLabel", Spy)
    train_classifier(
        dataset, "fasttext", model_settings={"buckets": 9}, epochs=1, refit=True, **BOTH
    )
    for weights, split in zip(
        given, (dataset.train, dataset.with_dev_in_train().train), strict=True
    ):
        counts = np.bincount(split.labels)
        np.testing.assert_allclose(weights, len(split) / (3 * counts), rtol=1e-6)
