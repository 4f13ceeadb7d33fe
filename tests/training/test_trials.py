"""A trial is a training, measured on dev document by document."""

import contextlib

import numpy as np
import pytest

from dlnotes.data.dataset import load_dataset
from dlnotes.errors import UserError
from dlnotes.optim import Adam
from dlnotes.training import fit
from dlnotes.training.fit import OutOfTime
from dlnotes.training.settings import Training
from dlnotes.training.train import train_classifier
from dlnotes.training.trials import run_trial
from small import SMALL, fitted, make


@pytest.mark.parametrize("model", ["tfidf", "fasttext", "textcnn"])
def test_its_score_is_the_accuracy_of_its_documents(dataset, model):
    found = run_trial(dataset, model, Training(epochs=3), model_settings=SMALL.get(model))
    assert found.hits.shape == found.outcomes.shape == (len(dataset.dev),)
    assert set(found.hits) <= {0.0, 1.0}
    assert found.score == pytest.approx(found.dev["accuracy"])
    assert found.score > 0.5
    assert found.seconds > 0
    assert len(found.epochs) == (0 if model == "tfidf" else 3)


def test_it_is_the_training_of_the_command(dataset):
    training = Training(epochs=3, seed=1)
    found = run_trial(dataset, "textcnn", training, model_settings=SMALL["textcnn"])
    _, record = train_classifier(
        dataset, "textcnn", training, model_settings=SMALL["textcnn"], progress=False
    )
    assert found.dev == record["dev"]
    assert found.epochs == [epoch["dev_accuracy"] for epoch in record["history"]]


def test_dev_documents_are_read_as_the_recipe_reads_them(labelled):
    """Of more than a thousand documents it leaves out words that occur once."""
    train = [(label, f"{text} rare{i}") for i, (label, text) in enumerate(labelled(1200, 0))]
    dataset = load_dataset({"train": train, "dev": train[:100]})
    found = run_trial(dataset, "textcnn", Training(epochs=1), model_settings=SMALL["textcnn"])
    assert found.score == pytest.approx(found.dev["accuracy"]) == pytest.approx(found.epochs[0])
    assert found.score > 0.5


@pytest.mark.parametrize("model", ["tfidf", "fasttext"])
def test_of_several_labels_it_is_micro_f1(model):
    random = np.random.default_rng(0)
    sets = [[name for name in "abc" if random.random() < 0.4] for _ in range(200)]
    documents = [(labels, " ".join([*(f"is{n}" for n in labels), "the"])) for labels in sets]
    dataset = load_dataset({"train": documents})
    found = run_trial(dataset, model, Training(epochs=5), model_settings=SMALL.get(model))
    assert found.score == pytest.approx(found.dev["micro_f1"])
    assert found.score > 0.5


def test_the_test_split_is_not_opened(tmp_path):
    (tmp_path / "test.tsv").write_text("unknown\tx\n")
    train = [("a", "good film"), ("b", "bad film")] * 20
    dataset = load_dataset({"train": train, "test": [tmp_path / "test.tsv"]})
    run_trial(dataset, "fasttext", Training(epochs=1), model_settings=SMALL["fasttext"])


def test_a_time_that_is_not_enough_ends_it(dataset):
    with pytest.raises(OutOfTime):
        run_trial(dataset, "textcnn", Training(epochs=100_000), time_limit=0.3)


@pytest.mark.parametrize(("share", "done"), [(1.2, 1.0), (0.8, 0.8), (0.3, 0.2 * 0.3)])
def test_what_would_take_much_longer_ends_early(dataset, monkeypatch, share, done):
    """An update takes a second, and the limit is a share of what all of them take."""
    updates = []
    monkeypatch.setattr(fit.time, "perf_counter", lambda: float(len(updates)))
    real = fit._Loop.update

    def update(self, indices):
        updates.append(1)
        return real(self, indices)

    monkeypatch.setattr(fit._Loop, "update", update)
    steps = -(-len(dataset.train) // 2)
    options = {"epochs": 1, "batch_size": 2, "progress": False, "time_limit": share * steps}
    model = make(dataset)
    with pytest.raises(OutOfTime) if done < 1 else contextlib.nullcontext():
        fitted(model, Adam(model.parameters()), dataset.train, None, **options)
    assert len(updates) == pytest.approx(done * steps, abs=1)


def test_a_baseline_without_a_word_is_a_users_error():
    dataset = load_dataset({"train": [("a", "x"), ("b", "y")] * 10, "dev": [("a", "x")]})
    empty = load_dataset({"train": [("a", ""), ("b", "")] * 10, "dev": [("a", "x")]})
    assert run_trial(dataset, "tfidf").score == 1
    with pytest.raises(UserError, match="the baseline cannot learn from these documents"):
        run_trial(empty, "tfidf")
