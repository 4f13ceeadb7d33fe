"""Trainings that choose how their classifier decides: chosen on dev, kept, resumed, explained."""

import json
import pickle
import shutil

import pytest
import torch

from dlnotes.data.dataset import load_dataset
from dlnotes.errors import UserError
from dlnotes.training.calibration import describe_decision, has_trained_decision, rewrite_decision
from dlnotes.training.classifier import Ensemble, TextClassifier
from dlnotes.training.decision import Deciding, Decision
from dlnotes.training.ensemble import load_members, make_ensemble
from dlnotes.training.settings import Training
from dlnotes.training.train import train_classifier

TEXTS = [
    "the goal of the match",
    "goal team match goal goal",
    "",
    "never seen words",
    "Court! Judge?",
]
SETTINGS = {
    "model": "fasttext",
    "recipe": "plain",
    "model_settings": {"buckets": 2000, "ngrams": 2},
    "lr": 0.3,
    "epochs": 3,
    "batch_size": 16,
    "progress": False,
    "device": "cpu",
}


def noisy(labelled, n, seed):
    """Documents of which a quarter have the label of the next one: nobody can be sure of them."""
    rows = labelled(n, seed)
    return [(rows[i - 1][0] if i % 4 == 0 else label, text) for i, (label, text) in enumerate(rows)]


@pytest.fixture(scope="module")
def sources(labelled, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    for split, n, seed in (("train", 240, 0), ("dev", 120, 1), ("test", 120, 2)):
        rows = [f"{label}\t{text}\n" for label, text in noisy(labelled, n, seed)]
        (folder / f"{split}.tsv").write_text("".join(rows))
    return {split: folder / f"{split}.tsv" for split in ("train", "dev", "test")}


@pytest.fixture(scope="module")
def dataset(sources):
    return lambda: load_dataset(sources, split_seed=0)


@pytest.fixture(scope="module")
def runs(dataset, tmp_path_factory):
    """The same training without a decision, with one, and with one and --refit."""
    folder = tmp_path_factory.mktemp("runs")
    chosen = {"calibrate": True, "precision": 0.8}
    for name, more in (("plain", {}), ("decided", chosen), ("refit", {**chosen, "refit": True})):
        train_classifier(dataset(), out=folder / name, **SETTINGS, **more)
    return {name: folder / name for name in ("plain", "decided", "refit")}


def record_of(run):
    return json.loads((run / "metrics.json").read_text())


def test_calibrated_probabilities_are_as_often_right_as_they_say(runs, sources):
    plain, record = record_of(runs["plain"]), record_of(runs["decided"])
    decision = record["decision"]
    assert "decision" not in plain
    assert decision["temperature"] > 1.1
    assert decision["dev_before"] == plain["dev"]
    assert decision["dev_after"] == record["dev"]
    for split in ("dev", "test"):
        assert record[split]["ece"] < plain[split]["ece"]
        assert record[split]["loss"] < plain[split]["loss"]
        assert record[split]["accuracy"] == plain[split]["accuracy"]
        assert record[split]["coverage"] < 1
        assert "coverage" not in plain[split]
    assert record["dev"]["answered_accuracy"] >= 0.8
    loaded = TextClassifier.load(runs["decided"])
    measured = loaded.evaluate(sources["test"]).summary()
    assert measured == pytest.approx({n: record["test"][n] for n in measured}, rel=1e-5)
    assert "temperature" in describe_decision(decision, 120)
    assert "no label below" in describe_decision(decision, 120)
    kept = round(record["dev"]["coverage"] * 120)
    assert f"({kept} of 120 documents labelled" in describe_decision(decision, 120)


def test_every_answer_uses_the_decision(runs):
    plain, decided = (TextClassifier.load(runs[name]) for name in ("plain", "decided"))
    temperature, reject = decided.decision.temperature, decided.decision.reject
    expected = (plain.probabilities(TEXTS).log() / temperature).softmax(-1)
    torch.testing.assert_close(decided.probabilities(TEXTS), expected)
    assert decided.predict_proba(TEXTS).tolist() == decided.probabilities(TEXTS).tolist()
    values, _ = decided.best(TEXTS, 1)
    torch.testing.assert_close(values[:, 0], expected.amax(1))
    unsure = (expected.amax(1) < reject).tolist()
    assert True in unsure, (reject, expected)
    assert False in unsure, (reject, expected)
    answers = [
        None if no else label for no, label in zip(unsure, plain.predict(TEXTS), strict=True)
    ]
    assert decided.predict(TEXTS) == answers
    told_ = decided.classify(TEXTS, top_k=2)
    assert [one["label"] for one in told_] == answers
    assert [one["top"][0]["label"] for one in told_] == plain.predict(TEXTS)
    found, before = (c.explain(TEXTS[:1])[0] for c in (decided, plain))
    assert found.probability == pytest.approx(expected[0].max().item(), rel=1e-5)
    assert found.label == before.label
    ((ours,), (theirs,)) = (e.weights.values() for e in (found, before))
    assert sum(map(abs, ours)) < sum(map(abs, theirs))


def test_it_is_kept_in_the_folder_and_in_a_pickle(runs, tmp_path):
    decided = TextClassifier.load(runs["decided"])
    decided.save(tmp_path / "copy")
    for again in (TextClassifier.load(tmp_path / "copy"), pickle.loads(pickle.dumps(decided))):
        assert again.decision == decided.decision != Decision()
        assert again.predict(TEXTS) == decided.predict(TEXTS)
    plain = json.loads((runs["plain"] / "classifier" / "config.json").read_text())
    assert "decision" not in plain


def test_refit_takes_what_was_chosen_before_it(runs):
    decided, refit = (record_of(runs[name]) for name in ("decided", "refit"))
    assert refit["decision"] == decided["decision"]
    assert refit["dev"] == decided["dev"]
    assert TextClassifier.load(runs["refit"]).decision.temperature > 1


def test_resumed_and_finished_runs_decide_alike(runs, dataset, tmp_path):
    chosen = {"calibrate": True, "precision": 0.8}
    again, record = train_classifier(
        dataset(), out=runs["decided"], resume=True, **SETTINGS, **chosen
    )
    assert again.decision == TextClassifier.load(runs["decided"]).decision
    run = shutil.copytree(runs["decided"], tmp_path / "run")
    (run / "metrics.json").unlink()
    shutil.rmtree(run / "classifier")
    resumed, other = train_classifier(dataset(), out=run, resume=True, **SETTINGS, **chosen)
    assert resumed.decision == again.decision
    assert other["decision"] == record["decision"]
    for changed in ({}, {**chosen, "precision": 0.7}):
        with pytest.raises(UserError, match=r"calibrate=True|precision=0\.8"):
            train_classifier(dataset(), out=run, resume=True, **SETTINGS, **changed)


def test_a_precision_out_of_reach_does_not_lose_the_training(dataset):
    data = dataset()
    data.dev.labels[:] = (data.dev.labels + 2) % 3
    with pytest.warns(
        UserWarning, match=r"no confidence that .* reaches --precision 1: the best is"
    ):
        classifier, record = train_classifier(data, **SETTINGS, precision=1)
    assert classifier.decision == Decision()
    assert "decision" in record


def test_a_threshold_for_one_label_is_refused_before_training(dataset, runs, sources):
    with pytest.raises(UserError, match=r"^threshold \(label\) is for classifiers"):
        train_classifier(dataset(), **SETTINGS, threshold="label")
    with pytest.raises(UserError, match=r"^threshold \(label\) is for classifiers"):
        make_ensemble(
            load_members([runs["plain"]], sources), None, deciding=Deciding(threshold="label")
        )


def test_no_precision():
    assert Deciding(precision=0).precision is None
    assert Training(precision=0).precision is None


def test_ensembles_have_a_decision_of_their_own(runs, sources, tmp_path):
    members = load_members([runs["plain"], runs["decided"]], sources)
    plain, before = make_ensemble(members, None, weights="equal")
    deciding = Deciding(calibrate=True, precision=0.8)
    made, record = make_ensemble(members, tmp_path / "e", weights="equal", deciding=deciding)
    # The members are the same model, so that the average has its scores: theirs do not count twice.
    alone = record_of(runs["decided"])["decision"]
    assert record["decision"]["temperature"] == pytest.approx(alone["temperature"], rel=1e-4)
    assert record["test"]["ece"] < before["test"]["ece"]
    loaded = TextClassifier.load(tmp_path / "e")
    assert isinstance(loaded, Ensemble)
    assert loaded.decision == made.decision != plain.decision == Decision()
    torch.testing.assert_close(
        loaded.probabilities(TEXTS), TextClassifier.load(runs["decided"]).probabilities(TEXTS)
    )
    assert loaded.predict(TEXTS) == TextClassifier.load(runs["decided"]).predict(TEXTS)
    explained = loaded.explain(TEXTS[:1])[0]
    assert explained.probability == pytest.approx(loaded.best(TEXTS[:1], 1)[0].item())
    with pytest.raises(UserError, match="threshold"):
        make_ensemble(members, None, deciding=Deciding(threshold="two"))


def test_rewriting_changes_nothing_else(runs, tmp_path):
    run = shutil.copytree(runs["plain"], tmp_path / "run")
    before = (run / "classifier" / "config.json").read_bytes()
    rewrite_decision(run, Decision(temperature=2.0))
    assert not has_trained_decision(run)
    assert TextClassifier.load(run).decision == Decision(temperature=2.0)
    rewrite_decision(run / "classifier", Decision())
    assert (run / "classifier" / "config.json").read_bytes() == before
    assert has_trained_decision(run)


@pytest.mark.parametrize("wrong", [{"temperature": -1}, {"threshold": [0.5]}, [1], {"new": 1}])
def test_a_damaged_decision_is_told_by_its_file(runs, tmp_path, wrong):
    run = shutil.copytree(runs["plain"], tmp_path / "run")
    path = run / "classifier" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "decision": wrong}))
    with pytest.raises(UserError, match=r"config\.json: "):
        TextClassifier.load(run)
