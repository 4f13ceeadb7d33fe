"""The documents of each training: folds, halves, and what is measured on."""

import itertools

import numpy as np
import pytest

from dlnotes.comparison import trainings
from dlnotes.comparison.plan import ComparisonData, Plan
from dlnotes.comparison.trainings import Corpus, Run, folds_of, halved, train_and_measure
from dlnotes.data.labels import LabelSets
from dlnotes.data.reading import Reading
from dlnotes.errors import UserError


def sets(n, classes=4, seed=0):
    random = np.random.default_rng(seed)
    sizes = random.integers(0, 3, n)
    return LabelSets.build(random.integers(classes, size=sizes.sum()), sizes, classes)


def test_folds_differ_by_one_document():
    labels = np.repeat([0, 1, 2], [50, 31, 4])
    found = folds_of(labels, np.arange(85), 10, 0)
    assert {*np.bincount(found, minlength=10)} <= {8, 9}
    for label, size in ((0, 5), (1, 3), (2, 0)):
        counts = np.bincount(found[labels == label], minlength=10)
        assert set(counts) <= {size, size + 1}
    assert not np.array_equal(found, folds_of(labels, np.arange(85), 10, 1))


def test_folds_of_several_labels_have_their_share_of_each():
    labels = sets(400)
    found = folds_of(labels, np.arange(400), 4, 0)
    assert {*np.bincount(found)} <= {*range(95, 106)}
    for fold in range(4):
        counts = labels.take(np.flatnonzero(found == fold)).counts()
        assert np.abs(counts - labels.counts() / 4).max() < 4


@pytest.mark.parametrize("labels", [np.random.default_rng(1).integers(3, size=300), sets(300)])
def test_equal_texts_are_in_one_fold(labels):
    random = np.random.default_rng(0)
    same = np.arange(300)
    same[100:] = random.integers(60, size=200)  # some texts are there several times
    found = folds_of(labels, same, 5, 0)
    assert all(len({*found[same == text]}) == 1 for text in range(100))
    assert {*np.bincount(found, minlength=5)} <= {*range(40, 81)}
    if not isinstance(labels, LabelSets):  # as evenly as without them, but for two documents
        for label in range(3):
            counts = np.bincount(found[labels == label], minlength=5)
            assert counts.max() - counts.min() <= 2
        assert {*np.bincount(found)} <= {59, 60, 61}


@pytest.mark.parametrize(
    "labels", [np.arange(10), LabelSets.single(np.arange(10), 10), np.array([0] * 9 + [1])]
)
def test_no_fold_is_empty(labels):
    assert {*folds_of(labels, np.arange(10), 10, 0)} == {*range(10)}
    same = np.array([0, 0, 2, 2, 2, 5, 6, 6, 6, 6])
    assert {*folds_of(labels, same, 4, 0)} == {*range(4)}


@pytest.mark.parametrize("labels", [np.repeat([0, 1], [60, 20]), sets(80)])
def test_halves_are_nested(labels):
    chosen = np.arange(0, 80, 1)
    parts = [halved(labels, chosen, h, 3) for h in range(4)]
    assert [len(part) for part in parts] == pytest.approx([80, 40, 20, 10], abs=1)
    assert all(set(small) < set(large) for large, small in itertools.pairwise(parts))
    if not isinstance(labels, LabelSets):
        assert [int(labels[part].sum()) for part in parts[1:]] == pytest.approx([10, 5, 2.5], abs=1)


@pytest.fixture
def file(tmp_path):
    lines = [f"{'xy'[i % 2]}\t{'xy'[i % 2]}word document{i}\n" for i in range(40)]
    (tmp_path / "train.tsv").write_text("".join(lines))
    return tmp_path / "train.tsv"


def test_a_fold_is_measured_by_a_training_on_the_others(file):
    documents = ComparisonData.of({"train": [file]}, Reading(), ["tfidf"])
    plan = Plan(documents=documents, models=["tfidf"], seeds=[0, 1], folds=4)
    seen = []
    for run in plan.runs()["tfidf", 0]:
        sources = trainings._sources(run, Corpus(**run.corpus))
        parts = [set(sources[split]["text"]) for split in ("train", "test")]
        assert not parts[0] & parts[1]
        assert len(parts[0] | parts[1]) == 40
        assert len(parts[1]) == 10
        seen += sorted(parts[1])
    assert sorted(seen) == sorted(2 * list(documents.train["text"]))


def test_no_model_is_measured_on_a_copy_of_what_it_has_learned(tmp_path):
    file = tmp_path / "copies.tsv"
    texts = [f"{'xy'[i % 2]}\tword document{i % 15}\n" for i in range(45)]
    texts += ["x\tWord  document3\n", "y\t\n", "x\t\n"]  # the same tokens; and none at all
    file.write_text("".join(texts))
    documents = ComparisonData.of({"train": [file]}, Reading(), ["tfidf"])
    plan = Plan(documents=documents, models=["tfidf"], seeds=[0], folds=4)
    for run in plan.runs()["tfidf", 0]:
        sources = trainings._sources(run, Corpus(**run.corpus))
        learned, unseen = (set(sources[split]["text"]) - {""} for split in ("train", "test"))
        assert unseen
        assert not learned & unseen
        assert ("Word  document3" in unseen) == ("word document3" in unseen)
    assert plan.notes[0].startswith("46 training documents have the same text as another one")
    with pytest.raises(
        UserError, match=r"folds is 18, but there are 48 .* with 17 different texts"
    ):
        Plan(documents=documents, models=["tfidf"], seeds=[0], folds=18)


def test_what_is_kept_of_a_training(file):
    documents = ComparisonData.of({"train": [file]}, Reading(), ["svm", "fasttext"])
    plan = Plan(
        documents=documents, models=["svm", "fasttext"], seeds=[0], folds=4, training={"epochs": 2}
    )
    for model in plan.models:
        found = train_and_measure(plan.runs()[model, 0][0].item)
        assert not found["error"]
        assert found["figures"]["accuracy"] == np.mean(found["hits"])
        assert (len(found["hits"]), found["documents"]) == (10, 30)
        assert min(found["bytes"], found["trained_per_second"], found["predicted_per_second"]) > 0
        assert (len(found["given"]) == 10) == (model == "fasttext")  # a SVM has no probabilities
    assert np.all(np.add(found["given"], found["other"]) == pytest.approx(1, abs=1e-5))
    answers = np.array(found["given"]) > found["other"]
    assert np.array_equal(answers, np.array(found["hits"]) == 1)


def test_what_cannot_be_learned_is_a_result_and_a_lost_file_is_not(file, monkeypatch):
    documents = ComparisonData.of({"train": [file]}, Reading(), ["fasttext"])
    run = Plan(documents=documents, models=["fasttext"], seeds=[0], folds=4).runs()["fasttext", 0][
        0
    ]
    late = Run(**{**run.item, "minutes": 1e-6})
    assert train_and_measure(late.item)["error"] == "takes more than 1e-06 minutes"
    monkeypatch.setattr(
        trainings, "load_dataset", lambda *_, **__: (_ for _ in ()).throw(UserError("no"))
    )
    assert train_and_measure(run.item)["error"] == "no"
    file.write_text(file.read_text() + "x\tmore\n")
    trainings._read.cache_clear()
    with pytest.raises(UserError, match="was changed during the comparison"):
        train_and_measure(run.item)
