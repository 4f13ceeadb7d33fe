"""Training from pretrained vectors: who takes them, and that a run does not need the file again."""

import inspect
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from dlnotes.data.vectors import PretrainedVectors
from dlnotes.errors import UserError
from dlnotes.models import MODELS
from dlnotes.training.classifier import TextClassifier
from dlnotes.training.train import _with_dimensions as with_dimensions
from dlnotes.training.train import train_classifier

TEXTS = ["the goal of the match", "", "never seen words"]


@pytest.fixture
def file(dataset, tmp_path):
    """Vectors of every second word of the vocabulary, and of others."""
    words = [*dataset.vocabulary.tokens[2::2], "elsewhere", "nowhere"]
    random = np.random.default_rng(0)
    rows = [f"{w} {' '.join(f'{v:.6f}' for v in random.normal(size=7))}\n" for w in words]
    path = tmp_path / "vectors.txt"
    path.write_text("".join(rows))
    return path


def train(dataset, out, model, settings, vectors, **more):
    given = {"epochs": 1, "lr": 1e-12, "batch_size": 16, "progress": False} | more
    return train_classifier(
        dataset, out, model=model, model_settings=settings, vectors=vectors, **given
    )


CASES = [
    ("textcnn", {"maps": 4, "widths": (2,)}),
    ("textcnn", {"maps": 4, "widths": (2,), "channels": "static"}),
    ("textcnn", {"maps": 4, "widths": (2,), "channels": "multichannel"}),
    ("textrnn", {"hidden_size": 4}),
    ("fasttext", {"buckets": 50}),
]


@pytest.mark.parametrize(("model", "settings"), CASES)
def test_a_model_starts_from_the_file_and_is_saved_without_it(
    dataset, file, tmp_path, model, settings
):
    classifier, record = train(dataset, tmp_path / "run", model, settings, file)
    kept = {line.split()[0]: line.split()[1:] for line in file.read_text().splitlines()}
    for name in ("vectors", "static_vectors"):
        embedding = getattr(classifier.model, name, None)
        if embedding is None:
            continue
        for i, word in enumerate(dataset.vocabulary.tokens):
            if word in kept:
                expected = torch.tensor([float(v) for v in kept[word]])
                torch.testing.assert_close(embedding.weight[i].detach(), expected)
    known = sum(word in kept for word in dataset.vocabulary.tokens)
    assert record["pretrained"] == known > 3
    assert classifier.hyper_parameters["embedding_dim"] == 7
    if model == "textcnn":
        channels = settings.get("channels", "non-static")
        assert classifier.hyper_parameters["channels"] == channels
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["settings"]["vectors"]
    file.unlink()
    loaded = TextClassifier.load(tmp_path / "run")
    assert torch.equal(loaded.probabilities(TEXTS), classifier.probabilities(TEXTS))


def test_static_vectors_stay_and_the_others_learn(dataset, file):
    settings = {"maps": 4, "widths": (2,), "channels": "multichannel"}
    classifier, record = train(dataset, None, "textcnn", settings, file, lr=0.02, epochs=6)
    moved = (classifier.model.vectors.weight - classifier.model.static_vectors.weight).abs()
    assert moved[2:].max() > 1e-3
    before, _ = train(dataset, None, "textcnn", settings, file)
    assert torch.equal(classifier.model.static_vectors.weight, before.model.static_vectors.weight)
    assert record["test"]["accuracy"] > 0.8


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"embedding_dim": 9}, r"embedding_dim is 9, but the vectors in .* have 7 numbers"),
        ({"channels": "rand"}, "channels=rand takes no --vectors"),
        ({"channels": "both"}, "channels is 'both'; allowed"),
    ],
)
def test_settings_that_contradict_the_file(dataset, file, settings, message):
    with pytest.raises(UserError, match=message):
        train(dataset, None, "textcnn", settings, file)


@pytest.mark.parametrize("name", MODELS)
def test_every_model_with_an_embedding_dim_has_vectors_of_that_size(name):
    sizes = {"vocabulary_size": 9, "num_classes": 2}
    if "embedding_dim" in inspect.signature(MODELS[name]).parameters:
        model = MODELS[name](**sizes, embedding_dim=8)
        assert model.vectors.weight.shape[1] == 8
    else:
        pretrained = PretrainedVectors(np.array([2]), np.ones((1, 8), np.float32))
        with pytest.raises(UserError, match=f"{name} cannot start from pretrained"):
            with_dimensions(name, {}, Path("x"), pretrained)


def test_without_a_file_nothing_changes(dataset):
    classifier, record = train(dataset, None, "textcnn", {"maps": 4, "embedding_dim": 5}, None)
    assert record["pretrained"] == 0
    assert classifier.hyper_parameters == {"maps": 4, "embedding_dim": 5}
