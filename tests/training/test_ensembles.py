"""Ensembles of runs: what they read, save and refuse."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from dlnotes.commands.sources import sources_of
from dlnotes.data.dataset import load_dataset
from dlnotes.errors import UserError
from dlnotes.training.classifier import Ensemble, TextClassifier
from dlnotes.training.ensemble import (
    boost,
    bootstrap,
    dev_split,
    load_members,
    make_ensemble,
)
from dlnotes.training.evaluate import scores
from dlnotes.training.train import train_classifier

TEXTS = ["the goal of the match", "", "never seen words", "Court! Judge?"]


@pytest.fixture(scope="module")
def sources(labelled, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    for split, n, seed in (("train", 240, 0), ("test", 60, 1), ("fresh", 60, 2)):
        rows = [f"{label}\t{text}\n" for label, text in labelled(n, seed)]
        (folder / f"{split}.tsv").write_text("".join(rows))
    return {split: folder / f"{split}.tsv" for split in ("train", "test", "fresh")}


@pytest.fixture(scope="module")
def runs(sources, tmp_path_factory):
    """Four runs: two seeds, another tokenizer and model, and another dev split."""
    folder = tmp_path_factory.mktemp("runs")
    made = {}
    data = {k: sources[k] for k in ("train", "test")}
    for name, split_seed, more in (
        ("a", 0, {"seed": 0}),
        ("b", 0, {"seed": 1}),
        ("characters", 0, {"seed": 2, "tokenizer": "characters", "max_tokens": 20}),
        ("other-split", 5, {"seed": 5}),
    ):
        reading = {k: v for k, v in more.items() if k != "seed"}
        dataset = load_dataset(data, split_seed=split_seed, **reading)
        train_classifier(
            dataset, out=folder / name, model="fasttext", recipe="plain",
            model_settings={"buckets": 50, "ngrams": 2 if name == "characters" else 1},
            lr=0.005, epochs=1, batch_size=16, seed=more["seed"], progress=False,
        )  # fmt: skip
        made[name] = folder / name
    return made


@pytest.mark.parametrize("average", ["probabilities", "logits"])
def test_saved_and_loaded_ensemble_agree(runs, sources, tmp_path, average):
    chosen = [runs["a"], runs["b"], runs["characters"]]
    data = {k: sources[k] for k in ("train", "test")}
    members = load_members(chosen, data)
    ensemble, record = make_ensemble(members, tmp_path / "e", average=average, weights="equal")
    each = [TextClassifier.load(run).probabilities(TEXTS).double() for run in chosen]
    mean = sum(each) / 3
    if average == "logits":
        mean = (sum(p.log() for p in each) / 3).softmax(-1)
    torch.testing.assert_close(ensemble.probabilities(TEXTS).double(), mean, rtol=1e-5, atol=1e-7)
    loaded = TextClassifier.load(tmp_path / "e")
    assert isinstance(loaded, Ensemble)
    assert torch.equal(loaded.probabilities(TEXTS), ensemble.probabilities(TEXTS))
    assert loaded.classify(TEXTS, top_k=2) == ensemble.classify(TEXTS, top_k=2)
    assert loaded.classify([]) == []
    assert record == json.loads((tmp_path / "e" / "metrics.json").read_text())
    assert record["documents"] == {"dev": 24, "test": 60}
    assert [row["weight"] for row in record["members"]] == [1 / 3] * 3
    assert loaded.evaluate(sources["test"]).accuracy == record["test"]["accuracy"]
    for run, row in zip(chosen, record["members"], strict=True):
        own = json.loads((run / "metrics.json").read_text())
        for split in ("dev", "test"):
            assert row[split]["accuracy"] == own[split]["accuracy"]
            assert row[split]["loss"] == pytest.approx(own[split]["loss"], rel=1e-5)


def test_the_greedy_ensemble_is_not_worse_on_dev_and_keeps_only_what_counts(
    runs, sources, tmp_path
):
    chosen = [runs["a"], runs["b"], runs["characters"]]
    data = {k: sources[k] for k in ("train", "test")}
    ensemble, record = make_ensemble(load_members(chosen, data), tmp_path / "e")
    assert sum(ensemble.weights) == pytest.approx(1)
    best = max((row["dev"]["accuracy"], -row["dev"]["loss"]) for row in record["members"])
    assert (record["dev"]["accuracy"], -record["dev"]["loss"] + 1e-6) >= best
    kept = {path.name for path in (tmp_path / "e" / "classifier").iterdir() if path.is_dir()}
    assert kept == {f"member-{k + 1}" for k, w in enumerate(ensemble.weights) if w > 0}
    loaded = TextClassifier.load(tmp_path / "e")
    torch.testing.assert_close(
        loaded.probabilities(TEXTS), ensemble.probabilities(TEXTS), rtol=1e-6, atol=1e-8
    )
    with pytest.raises(UserError, match="already holds a run"):
        make_ensemble(load_members(chosen, data), tmp_path / "e")


def test_a_refitted_member_is_weighed_by_what_it_said_before(sources, tmp_path):
    data = {k: sources[k] for k in ("train", "test")}
    settings = {"model": "textcnn", "lr": 0.01, "epochs": 2, "batch_size": 16, "progress": False}
    records, members = {}, {}
    for refit in (False, True):
        out = tmp_path / str(refit)
        _, records[refit] = train_classifier(load_dataset(data), out=out, refit=refit, **settings)
        (members[refit],) = load_members([out], data)
    assert members[False].dev_scores is None
    # Both trainings began alike, up to the choice of the epoch.
    torch.testing.assert_close(members[True].score_dev(), members[False].score_dev())
    now = scores(members[True].classifier.model, members[True].dataset.dev)
    assert not torch.allclose(now, members[True].score_dev())  # it has seen them since
    _, record = make_ensemble([members[True]], None)
    assert record["dev"] == records[False]["dev"] == records[True]["dev"]
    # Dev documents that it never saw are scored by what it is now.
    (fresh,) = load_members([tmp_path / "True"], data | {"dev": sources["fresh"]})
    assert fresh.dev_scores is None
    (tmp_path / "True" / "dev_scores.pt").write_bytes(b"junk")
    with pytest.raises(UserError, match="does not hold the scores of the run's dev"):
        load_members([tmp_path / "True"], data)


def test_a_document_that_one_member_trained_on_is_not_dev(runs, sources):
    data = {"train": sources["train"]}
    both = [runs["a"], runs["other-split"]]
    with pytest.raises(UserError, match=r"a and .*other-split differ.*split seed is 0 and 5"):
        load_members(both, data)
    members = load_members(both, data | {"dev": sources["fresh"]})
    assert len(members[0].dataset.dev) == 60
    with pytest.raises(UserError, match=r"the dev documents are those that .*a was trained on"):
        load_members(both, data | {"dev": sources["train"]})
    with pytest.raises(UserError, match="was trained on other documents"):
        load_members(both, {"train": sources["fresh"]})


def test_a_run_with_dev_documents_of_its_own_wants_them(sources, tmp_path):
    dataset = load_dataset({"train": sources["train"], "dev": sources["fresh"]})
    settings = {"buckets": 50}
    train_classifier(
        dataset,
        out=tmp_path / "r",
        model="fasttext",
        model_settings=settings,
        epochs=1,
        progress=False,
    )
    with pytest.raises(UserError, match="give them with --dev FILE"):
        load_members([tmp_path / "r"], {"train": sources["train"]})
    load_members([tmp_path / "r"], {"train": sources["train"], "dev": sources["fresh"]})


def test_labels_keep_their_order_with_dev_documents_given(sources, tmp_path):
    """A run may have them in another order than the alphabet's, as one that learned new ones."""
    given = {"train": sources["train"], "dev": sources["fresh"]}
    dataset = load_dataset(given, labels=["tech", "sport", "law"])
    _, record = train_classifier(
        dataset, out=tmp_path / "r", model="fasttext", model_settings={"buckets": 50},
        recipe="plain", lr=0.05, epochs=3, progress=False,
    )  # fmt: skip
    (member,) = load_members([tmp_path / "r"], given)
    assert member.dataset.label_names == member.classifier.label_names == ["tech", "sport", "law"]
    right = member.score_dev().argmax(1).numpy() == member.dataset.dev.labels
    assert right.mean() == record["dev"]["accuracy"] > 0.8


def test_members_with_other_labels_are_refused(runs, sources):
    members = load_members([runs["a"], runs["b"]], {"train": sources["train"]})
    other = dataclasses.replace(members[1].classifier, label_names=["law", "sport", "war"])
    with pytest.raises(UserError, match=r"/a has law, sport, tech and .*/b has law, sport, war"):
        Ensemble([members[0].classifier, other], [0.5, 0.5], [str(runs["a"]), str(runs["b"])])


def test_a_run_counts_once(runs, sources, tmp_path):
    linked = tmp_path / "linked"
    linked.symlink_to(runs["a"])
    with pytest.raises(UserError, match="linked is given twice"):
        load_members([runs["a"], runs["b"], linked], {"train": sources["train"]})


def test_an_ensemble_is_no_member_and_damage_is_told(runs, sources, tmp_path):
    data = {"train": sources["train"]}
    make_ensemble(load_members([runs["a"]], data), tmp_path / "e")
    for together in ([tmp_path / "e"], [runs["a"], tmp_path / "e"]):
        with pytest.raises(UserError, match="/e is an ensemble itself"):
            load_members(together, data)
    with pytest.raises(UserError, match="/e is an ensemble itself"):
        sources_of(tmp_path / "e")
    config = tmp_path / "e" / "classifier" / "config.json"
    content = json.loads(config.read_text())
    del content["average"]
    config.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"config\.json is damaged: 'average' is missing"):
        TextClassifier.load(tmp_path / "e")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"average": "votes"}, "average must be one of"),
        ({"weights": "best"}, "weights must be one of"),
        ({"rounds": 0}, "rounds must be at least 1"),
    ],
)
def test_bad_settings_of_an_ensemble(settings, message):
    with pytest.raises(UserError, match=message):
        make_ensemble([], None, **settings)


def test_taken_documents_are_those_documents(dataset):
    train = dataset.train
    drawn = np.array([5, 0, 5, 7])
    taken = train.take(drawn)
    assert len(taken) == 4
    assert len(train) == 216
    assert [taken.text(i) for i in range(4)] == [train.text(i) for i in drawn]
    ours, all_of_them = taken.batch(np.arange(4)), train.batch(drawn)
    assert torch.equal(ours.tokens, all_of_them.tokens)
    assert torch.equal(ours.labels, all_of_them.labels)


def test_bootstrap_draws_with_replacement_by_seed(dataset):
    one, same, other = bootstrap(dataset, 1), bootstrap(dataset, 1), bootstrap(dataset, 2)
    texts = [[d.train.text(i) for i in range(216)] for d in (one, same, other)]
    assert texts[0] == texts[1] != texts[2]
    assert len(set(map(id, texts))) == 3
    starts = {tuple(np.unique(d.train._rows)) for d in (one, other)}
    assert all(0.55 < len(s) / 216 < 0.72 for s in starts)  # 1 - 1/e of them
    assert one.dev is dataset.dev


def test_boosting_draws_what_the_members_get_wrong(runs, sources):
    data = {"train": sources["train"]}
    members = load_members([runs["a"]], data)
    dataset = load_dataset(data)
    split = dev_split({"seed": 0}, dataset.fingerprints)
    drawn = boost(dataset, members, split, seed=3)
    model, train = members[0].classifier.model, members[0].dataset.train
    wrong = model(train.batch(np.arange(len(train))).tokens).argmax(1).numpy() != train.labels
    assert 0 < wrong.mean() < 2 / 3
    is_hard = np.isin(drawn.train._rows, dataset.train._rows[wrong])
    # SAMME gives the hard ones the weight 1 - 1/classes together.
    assert is_hard.mean() == pytest.approx(2 / 3, abs=0.1)
    with pytest.raises(UserError, match=r"trained on other documents \(split seed is 0 and 1\)"):
        boost(dataset, members, split | {"split seed": 1}, seed=3)


def test_boosting_stops_when_nothing_is_wrong(runs, sources):
    members = load_members([runs["a"]], {"train": sources["train"]})
    train = members[0].dataset.train
    with torch.no_grad():
        predicted = members[0].classifier.model(train.batch(np.arange(len(train))).tokens)
    train.labels[:] = predicted.argmax(1).numpy()
    with pytest.raises(UserError, match="boosting cannot go on"):
        make_ensemble(members, None, weights="boosting")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"dev_fraction": 0.3}, "dev_fraction is 0.1 and 0.3.*give the same --dev-fraction$"),
        ({"split_seed": 7}, "split seed is 0 and 7.*give the same --split-seed$"),
        (
            {"dev_fraction": 0.3, "split_seed": 7},
            "give the same --split-seed and --dev-fraction$",
        ),
    ],
)
def test_what_makes_another_dev_split_is_named_by_its_options(runs, sources, change, told):
    data = {"train": sources["train"]}
    members = load_members([runs["a"]], data)
    dataset = load_dataset(data, **{"split_seed": 0} | change)
    split = dev_split(dataclasses.asdict(dataset.reading) | {"seed": 0}, dataset.fingerprints)
    with pytest.raises(UserError, match=told):
        boost(dataset, members, split, 0)
