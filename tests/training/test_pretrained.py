"""Training from pretrained vectors: who takes them, and that a run does not need the file again."""

import inspect
import json
import re

import numpy as np
import pytest
import torch

from dlnotes.data.word2vec import learn_vectors
from dlnotes.errors import UserError
from dlnotes.models import MODELS
from dlnotes.training.classifier import TextClassifier
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
    given = {
        "recipe": "plain",
        "epochs": 1,
        "lr": 1e-12,
        "batch_size": 16,
        "progress": False,
    } | more
    return train_classifier(
        dataset, out=out, model=model, model_settings=settings, vectors=vectors, **given
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
def test_every_model_has_vectors_of_the_given_size(name):
    model = MODELS[name](vocabulary_size=9, num_classes=2, embedding_dim=8)
    assert model.vectors.weight.shape[1] == 8


def test_without_a_file_nothing_changes(dataset):
    classifier, record = train(dataset, None, "textcnn", {"maps": 4, "embedding_dim": 5}, None)
    assert record["pretrained"] == 0
    assert classifier.hyper_parameters == {"maps": 4, "embedding_dim": 5}


def test_word2vec_learns_the_vectors_that_the_model_starts_from(dataset):
    settings = {"hidden_size": 4, "embedding_dim": 6}
    classifier, record = train(dataset, None, "textrnn", settings, "word2vec", seed=3)
    learned = learn_vectors(dataset.train, dataset.vocabulary, dimensions=6, seed=3)
    found = classifier.model.vectors.weight[torch.from_numpy(learned.ids)]
    torch.testing.assert_close(found, torch.from_numpy(learned.rows), rtol=0, atol=1e-6)
    assert record["pretrained"] == len(learned.ids)
    assert record["settings"]["vectors"] == "word2vec"


def test_word2vec_takes_the_model_s_own_size(dataset):
    classifier, _ = train(dataset, None, "textrnn", {"hidden_size": 4}, "word2vec", recipe="plain")
    size = inspect.signature(MODELS["textrnn"]).parameters["embedding_dim"].default
    assert classifier.model.vectors.weight.shape[1] == size


@pytest.mark.parametrize(
    ("model", "settings", "message"),
    [
        ("textrnn", {"embedding_dim": 0}, "textrnn: embedding_dim is 0; allowed: an integer of at"),
        ("textrnn", {"dropout": 2.0}, "textrnn: dropout is 2.0; allowed"),
        ("textcnn", {"channels": "rand"}, "channels=rand takes no --vectors"),
        ("nothing", {}, "nothing"),
    ],
)
def test_word2vec_refuses_before_it_learns(dataset, monkeypatch, model, settings, message):
    monkeypatch.setattr("dlnotes.training.pretrained.learn_vectors", None)
    with pytest.raises(UserError, match=message):
        train(dataset, None, model, settings, "word2vec")


def test_a_resumed_run_starts_from_the_same_vectors(dataset, file, tmp_path):
    settings = {"vectors": file, "epochs": 1, "progress": False, "model_settings": {"maps": 2}}
    out = tmp_path / "run"
    classifier, record = train_classifier(dataset, "textcnn", out=out, **settings)
    assert re.fullmatch("[0-9a-f]{64}", record["settings"]["vectors_sha256"])
    assert not classifier.model.training
    train_classifier(dataset, "textcnn", out=out, resume=True, **settings)
    file.write_text(file.read_text().replace("1", "2"))
    with pytest.raises(UserError, match="was written with vectors_sha256="):
        train_classifier(dataset, "textcnn", out=out, resume=True, **settings)
