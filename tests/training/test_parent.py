"""A training that starts from a finished one: weights grow, settings are taken over."""

import dataclasses
import json
import pickle
import shutil

import numpy as np
import pytest
import torch

from dlnotes import TextClassifier
from dlnotes.data.dataset import load_dataset
from dlnotes.data.reading import Reading
from dlnotes.data.tokenization import MARKS
from dlnotes.data.tokenized import tokenize_texts
from dlnotes.data.vocabulary import Vocabulary
from dlnotes.errors import UserError
from dlnotes.models import MODELS
from dlnotes.training import fit
from dlnotes.training.classifier import Ensemble, default_tokenizer
from dlnotes.training.parent import Parent, grow_from
from dlnotes.training.recipes import RECIPES
from dlnotes.training.settings import Training
from dlnotes.training.train import train_classifier
from small import SMALL

KINDS = {
    **{name: (name, {}) for name in MODELS},
    "fasttext of words": ("fasttext", {"ngrams": 1}),
    "fasttext of trigrams": ("fasttext", {"ngrams": 3, "buckets": 7}),
    "fasttext, hierarchical": ("fasttext", {"output": "hierarchical", "class_counts": (5, 2, 1)}),
    "static textcnn": ("textcnn", {"channels": "static"}),
    "multichannel textcnn": ("textcnn", {"channels": "multichannel"}),
    "dmn of sentences": ("dmn", {"dropout": 0.0}),
    "entnet with keys": ("entnet", {"slots": 2, "keys": (5, 6)}),
}


def classifier(kind, words, labels, seed):
    model, more = KINDS[kind]
    settings = SMALL[model] | more
    torch.manual_seed(seed)
    tokens = ["<pad>", "<unk>", "<eos>", "<question>", *words]
    if default_tokenizer(model) == "sentences":
        tokens = ["<pad>", "<unk>", *MARKS["sentences"], *words]
    return TextClassifier.create(
        model, settings, Vocabulary(tokens), labels, tokenizer=default_tokenizer(model)
    )


OLD_WORDS = [f"w{i}" for i in range(9)]
# So many more words that a size of the vocabulary is one of something else before, or after.
GROWTH = {"words": (4, 0), "labels": (0, 1), "as many of both": (3, 3), "nothing": (0, 0)}


@pytest.mark.parametrize("growth", GROWTH)
@pytest.mark.parametrize("kind", KINDS)
def test_old_documents_have_the_scores_that_they_had(kind, growth):
    words, labels = GROWTH[growth]
    if "hierarchical" in kind and labels:
        return  # refused, see below
    names = ["a", "b", "c"]
    old = classifier(kind, OLD_WORDS, names, 0)
    new = classifier(kind, OLD_WORDS + [f"n{i}" for i in range(words)], names + [f"d{i}" for i in range(labels)], 1)  # fmt: skip
    fresh = {name: weight.clone() for name, weight in new.model.state_dict().items()}
    kept = {name: weight.clone() for name, weight in old.model.state_dict().items()}
    grow_from(old, new)
    texts = [" ".join(np.random.default_rng(i).choice(OLD_WORDS, 3 + i)) + "." for i in range(8)]
    scores = [
        c.scores(lambda tokenizer: tokenized(texts, tokenizer), labelled=False)[0]
        for c in (old, new)
    ]
    torch.testing.assert_close(scores[1][:, :3], scores[0], rtol=1e-6, atol=1e-6)
    for name, weight in new.model.state_dict().items():
        assert torch.equal(old.model.state_dict()[name], kept[name])
        if weight.shape == kept[name].shape:
            assert torch.equal(weight, kept[name]), name
        else:  # every old row is there, and the others are those of a model that begins
            rows = {tuple(row.flatten().tolist()) for row in weight}
            assert {tuple(row.flatten().tolist()) for row in kept[name]} <= rows
            more = rows - {tuple(row.flatten().tolist()) for row in kept[name]}
            assert more <= {tuple(row.flatten().tolist()) for row in fresh[name]}
            assert len(more) == len(weight) - len(kept[name])
    if "multichannel" in kind and words:
        assert torch.equal(new.model.vectors.weight[-words:], new.model.static_vectors.weight[-words:])  # fmt: skip


def tokenized(texts, tokenizer):
    return tokenize_texts(texts, tokenizer)


SETTINGS = {"recipe": "plain", "refit": True, "model_settings": SMALL["textcnn"], "epochs": 2, "lr": 0.02, "device": "cpu"}  # fmt: skip


@pytest.fixture(scope="session")
def old_and_new(labelled):
    old = [pair for pair in labelled(240, 0) if pair[0] != "law"]
    return old, [pair for pair in labelled(120, 1) if pair[0] == "law"] + [("tech", "robots think")] * 2  # fmt: skip


@pytest.fixture(scope="session")
def parent(old_and_new, tmp_path_factory):
    """A finished run; the tests that write into it copy it."""
    out = tmp_path_factory.mktemp("parents") / "run"
    labels, texts = zip(*old_and_new[0], strict=True)
    TextClassifier.train(texts, labels, "textcnn", out=out, batch_size=32, seed=3, **SETTINGS)
    return out


def columns(pairs):
    labels, texts = zip(*pairs, strict=True)
    return list(texts), list(labels)


def test_a_classifier_goes_on_with_new_words_and_labels(parent, old_and_new, tmp_path):
    old, new = old_and_new
    texts, labels = columns(old + new)
    then = TextClassifier.train(texts, labels, start_from=parent, epochs=12, out=tmp_path / "next")
    assert then.model_name == "textcnn"
    assert then.labels == ["sport", "tech", "law"]
    assert {"court", "robots"} <= {*then.vocabulary.tokens.to_list()}
    assert then.predict(["court judge", "goal team", "code web"]) == ["law", "sport", "tech"]
    record = json.loads((tmp_path / "next" / "metrics.json").read_text())
    digest = record["settings"]["parent"]
    first = TextClassifier.load(parent)
    assert record["parent"] == {
        "run": str(parent),
        "digest": digest,
        "vocabulary": len(first.vocabulary),
        "labels": 2,
    }
    # What was not given and a recipe would fill in is as it was in the parent's training.
    settings = record["settings"]
    assert (settings["lr"], settings["batch_size"], settings["seed"], settings["epochs"]) == (0.02, 32, 0, 12)  # fmt: skip
    assert {"embedding_dim": 8, "maps": 4}.items() <= settings["model_settings"].items()
    assert json.loads((parent / "metrics.json").read_text())["settings"]["parent"] is None


def test_old_dev_documents_are_dev_documents(parent, old_and_new):
    texts, labels = columns(old_and_new[0])
    then = TextClassifier.train(texts, labels, start_from=parent, lr=0.0)
    before = json.loads((parent / "metrics.json").read_text())
    assert then.record["documents"] == before["documents"]
    assert then.record["dev"] == pytest.approx(before["dev"])


def test_a_parent_that_was_refit_has_not_learned_from_its_dev_documents(parent, old_and_new):
    """Another training starts from what was trained without them."""
    of = Parent.of(parent)
    assert of.settings["refit"]
    assert not of.learned_dev
    assert len(of.classifier.vocabulary) <= len(TextClassifier.load(parent).vocabulary)
    texts, labels = columns(old_and_new[0])
    first = TextClassifier.train(texts, labels, "textcnn", seed=3, batch_size=32, **SETTINGS)
    assert Parent.of(first).digest == of.digest
    assert Parent.of(pickle.loads(pickle.dumps(first))).digest == of.digest
    assert Parent.of(first.before_refit).digest == of.digest != digest_of_refit(first)
    # Its folder within the run is the run, too.
    assert Parent.of(parent / "first-classifier").run == parent


def digest_of_refit(classifier):
    return Parent(classifier, "").digest


def test_where_nothing_else_was_kept_dev_documents_are_training_documents(parent, old_and_new, tmp_path):  # fmt: skip
    run = shutil.copytree(parent, tmp_path / "run")
    shutil.rmtree(run / "first-classifier")
    old, new = old_and_new
    seen = Parent.of(run).seen
    with pytest.warns(UserWarning, match="run has learned from its dev documents"):
        then = TextClassifier.train(*columns(old + new), start_from=run, epochs=1)
    assert set(then.seen.train) > {*seen.train, *seen.dev}
    assert not set(then.seen.dev) & {*seen.train, *seen.dev}
    with pytest.raises(UserError, match="no dev documents: the earlier training has learned from all"):  # fmt: skip
        TextClassifier.train(*columns(old), start_from=run, epochs=1)


def test_what_is_given_wins_even_where_it_is_the_default(parent):
    of = Parent.of(parent)
    other = {"seed": 5, "class_weights": "balanced", "focal_gamma": 2.0, "amp": True}
    of.settings |= {**other, "calibrate": True, "precision": 0.9, "schedule": "linear"}
    taken = of.training(Training())
    for name in (*other, "calibrate", "precision"):
        assert getattr(taken, name) == getattr(Training(), name)
    assert taken.schedule == "linear"
    assert of.training(Training(schedule="constant")).schedule == "constant"


def test_the_tokenizer_may_be_named_as_in_the_training(old_and_new):
    first = TextClassifier.train(*columns(old_and_new[0]), "han", tokenizer="words", model_settings=SMALL["han"], epochs=1)  # fmt: skip
    assert Parent.of(first).reading(Reading(tokenizer="words")).tokenizer == "sentence_words"
    with pytest.raises(UserError, match=r"--tokenizer is .*characters, but "):
        Parent.of(first).reading(Reading(tokenizer="characters"))


def test_documents_to_measure_on_that_were_learned_from_are_told(parent, old_and_new):
    old, new = old_and_new
    known = [text for label, text in old]
    with pytest.warns(UserWarning, match=r"has learned from \d+ of the dev documents"):
        TextClassifier.train(*columns(new), start_from=parent, dev=columns(old), replay=False)
    of = Parent.of(parent)
    data = load_dataset({"train": new, "test": old}, of.reading(Reading()), inherit=of.inheritance(replay=False))  # fmt: skip
    with pytest.warns(UserWarning, match=r"has learned from (\d+) of the test documents") as told:
        train_classifier(data, start_from=parent, epochs=1, progress=False)
    count = next(int(str(w.message).split(" from ")[1].split()[0]) for w in told if "test" in str(w.message))  # fmt: skip
    assert 0 < count < len(known)  # its dev documents aside


def test_missing_dev_documents_are_told(parent, old_and_new):
    with pytest.warns(UserWarning, match=r"\d+ of the dev documents of .*run are not among"):
        TextClassifier.train(*columns(old_and_new[1]), start_from=parent, epochs=1)


def test_from_a_classifier_in_memory(parent, old_and_new):
    texts, labels = columns(old_and_new[0])
    first = TextClassifier.train(texts, labels, "textcnn", **SETTINGS)
    kept = {name: weight.clone() for name, weight in first.model.state_dict().items()}
    then = TextClassifier.train(*columns([*old_and_new[0], *old_and_new[1]]), start_from=first)
    assert set(then.seen.dev) >= set(first.seen.dev)
    assert not set(then.seen.dev) & set(first.seen.train)
    assert then.record["settings"]["lr"] == 0.02
    assert then.record["parent"]["run"] is None
    for name, weight in first.model.state_dict().items():
        assert torch.equal(weight, kept[name])


def test_from_a_saved_classifier(parent, old_and_new, tmp_path):
    shutil.copytree(parent / "classifier", tmp_path / "alone")
    then = TextClassifier.train(*columns(old_and_new[1]), start_from=tmp_path / "alone", epochs=1)
    assert then.record["settings"]["lr"] == RECIPES["textcnn"].lr
    assert then.labels == ["sport", "tech", "law"]
    # The folder within a run is the run.
    assert Parent.of(parent / "classifier").run == parent


def test_what_may_be_forgotten_is_told(parent, old_and_new):
    with pytest.warns(UserWarning, match=r"\d+ of the texts that .*run has learned from are not among"):  # fmt: skip
        TextClassifier.train(*columns(old_and_new[1]), start_from=parent, epochs=1)


@pytest.mark.filterwarnings("error")
def test_without_replay_nothing_is_told(parent, old_and_new):
    TextClassifier.train(*columns(old_and_new[1]), start_from=parent, epochs=1, replay=False)


@pytest.mark.parametrize(
    ("model", "settings", "told"),
    [
        ("rcnn", {}, "--model is rcnn, but textcnn in "),
        (None, {"model_settings": {"maps": 5}}, "maps is 5, but 4 in "),
        (None, {"model_settings": {"map": 4}}, "map is 4, but None in "),
        (None, {"tokenizer": "characters"}, "--tokenizer is characters, but basic_english in "),
        (None, {"max_tokens": 3}, "--max-tokens is 3, but None in "),
        (None, {"min_freq": 2}, "--min-freq is 2, but 1 in "),
        (None, {"max_size": 4}, "max_size must be 1[0-9] or more, what .* has, not 4"),
        (None, {"vectors": "word2vec"}, "vectors=word2vec would learn all word vectors again"),
    ],
)
def test_contradictions(parent, old_and_new, model, settings, told):
    with pytest.raises(UserError, match=told):
        TextClassifier.train(*columns(old_and_new[1]), model, start_from=parent, **settings)


@pytest.mark.parametrize("settings", [{}, {"multi_label": True}])
def test_documents_of_several_labels_need_a_training_of_their_own(parent, settings):
    told = "run gives one label for each text, but .*: train a new run on the old and the new documents"
    labels = [["law", "tech"], [], ["tech"], ["law"]] * 5
    with pytest.raises(UserError, match=told):
        TextClassifier.train(
            ["goal", "chip", "web", "a"] * 5, labels, start_from=parent, **settings
        )


def test_the_same_again_is_no_contradiction(parent, old_and_new):
    texts, labels = columns([*old_and_new[0], *old_and_new[1]])
    TextClassifier.train(texts, labels, "textcnn", start_from=parent, tokenizer="basic_english", epochs=1, min_freq=1, model_settings={"maps": 4, "widths": [3, 4, 5]})  # fmt: skip


def test_another_optimizer_has_a_rate_of_its_own(parent):
    of = Parent.of(parent)
    assert of.training(Training(epochs=7)).lr == 0.02
    assert of.training(Training(optimizer="adagrad")).lr == Training().lr
    of.settings |= {"optimizer": "momentum", "optimizer_settings": {"momentum": 0.5}}
    assert of.training(Training(epochs=7)).optimizer == "momentum"
    assert of.training(Training(epochs=7)).optimizer_settings == {"momentum": 0.5}
    assert of.training(Training(optimizer="adagrad")).optimizer_settings == {}


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda run: (run / "metrics.json").unlink(), "run is not finished: go on with it first"),
        (
            lambda run: (run / "first-classifier" / "config.json").unlink(),
            "is not a trained classifier",
        ),
        (lambda run: (run / "metrics.json").write_text("{}"), "metrics.json is damaged"),
        (lambda run: (run / "documents.npz").write_bytes(b"0"), "documents.npz cannot be read"),
        (lambda run: shutil.rmtree(run), "is not a trained classifier|has no"),
    ],
)
def test_a_parent_that_cannot_be_used(parent, old_and_new, tmp_path, damage, told):
    run = shutil.copytree(parent, tmp_path / "run")
    damage(run)
    with pytest.raises(UserError, match=told):
        TextClassifier.train(*columns(old_and_new[1]), start_from=run)


def test_no_parent_is_an_ensemble_or_a_number(parent, tmp_path):
    Ensemble([TextClassifier.load(parent)], [1.0], ["one"]).save(tmp_path / "ensemble")
    with pytest.raises(UserError, match="is an ensemble: start from one of the runs"):
        Parent.of(tmp_path / "ensemble")
    with pytest.raises(UserError, match="start_from must be a TextClassifier or its folder, not a"):
        Parent.of(3)


def test_a_hierarchical_output_takes_no_new_label(old_and_new, tmp_path):
    old, new = old_and_new
    settings = {"output": "hierarchical", "ngrams": 1}
    first = TextClassifier.train(*columns(old), model_settings=settings, epochs=1)
    with pytest.raises(UserError, match="has no place for the new label law: train a new run"):
        TextClassifier.train(*columns(old + new), start_from=first, epochs=1)
    then = TextClassifier.train(*columns([*old, ("tech", "robots think")]), start_from=first, epochs=1)  # fmt: skip
    own = first.before_refit.hyper_parameters
    assert then.hyper_parameters["class_counts"] == own["class_counts"]


def test_vectors_are_for_new_words_alone(old_and_new, tmp_path):
    file = tmp_path / "vectors.txt"
    file.write_text("".join(f"{word} {' '.join(['0.5'] * 8)}\n" for word in ("court", "goal")))
    texts, labels = columns([*old_and_new[0], *old_and_new[1]])
    own = {**SETTINGS, "model_settings": SMALL["textcnn"] | {"channels": "non-static"}}
    first = TextClassifier.train(*columns(old_and_new[0]), "textcnn", **own)
    then = TextClassifier.train(texts, labels, start_from=first, vectors=file, lr=0.0, epochs=1)
    row = dict(zip(then.vocabulary.tokens, then.model.vectors.weight, strict=True))
    assert row["court"].tolist() == [0.5] * 8
    first = first.before_refit
    before = dict(zip(first.vocabulary.tokens, first.model.vectors.weight, strict=True))
    assert torch.equal(row["goal"], before["goal"])


def test_labels_keep_their_type(old_and_new):
    old, new = old_and_new
    number = {"sport": 7, "tech": 3, "law": 5}
    pairs = [(number[label], text) for label, text in old + new]
    first = TextClassifier.train(*columns(pairs[: len(old)]), epochs=1)
    assert first.labels == [3, 7]
    then = TextClassifier.train(*columns(pairs), start_from=first, epochs=1)
    assert then.labels == [3, 7, 5]
    with pytest.raises(UserError, match="must be of the type"):
        TextClassifier.train(*columns(old + new), start_from=first)


def dataset_of(parent, pairs):
    of = Parent.of(parent)
    return load_dataset({"train": pairs}, of.reading(Reading()), inherit=of.inheritance())


@pytest.mark.parametrize("when", ["the first training", "the second"])
def test_resumed_it_is_the_same_bit_for_bit(parent, old_and_new, tmp_path, monkeypatch, when):
    pairs = [*old_and_new[0], *old_and_new[1]]
    options = {"start_from": parent, "lr": 0.01, "epochs": 3, "progress": False, "refit": True}
    dataset = dataset_of(parent, pairs)
    whole, record = train_classifier(dataset, out=tmp_path / "whole", **options)
    calls = []

    def stopping(self, *args, **kwargs):
        calls.append(self.dev)
        if len(calls) == 5 and when == "the first training":
            raise KeyboardInterrupt
        if calls.count(None) == 2:
            raise KeyboardInterrupt
        return update(self, *args, **kwargs)

    update = fit._Loop.update
    with monkeypatch.context() as patch:
        patch.setattr(fit._Loop, "update", stopping)
        with pytest.raises(KeyboardInterrupt):
            train_classifier(dataset, out=tmp_path / "parts", checkpoint_every=1, **options)
    again, resumed = train_classifier(dataset, out=tmp_path / "parts", resume=True, **options)
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(weight, again.model.state_dict()[name])
    assert Parent.of(tmp_path / "whole").digest == Parent.of(tmp_path / "parts").digest
    assert resumed["parent"] == record["parent"]


def test_it_is_not_resumed_from_another_parent_or_none(parent, old_and_new, tmp_path):
    pairs = [*old_and_new[0], *old_and_new[1]]
    options = {"epochs": 1, "seed": 3, "progress": False, "out": tmp_path / "run"}
    train_classifier(dataset_of(parent, pairs), start_from=parent, **options)
    other = TextClassifier.load(parent)
    with torch.no_grad():
        other.model.output.bias += 1
    with pytest.raises(UserError, match="was written with parent="):
        train_classifier(dataset_of(parent, pairs), start_from=other, resume=True, **options)
    model = {"model_settings": SMALL["textcnn"]}
    with pytest.raises(UserError, match="was written with"):
        train_classifier(dataset_of(parent, pairs), "textcnn", resume=True, **options, **model)


def test_a_data_set_of_its_own_is_refused(parent, old_and_new):
    other = load_dataset({"train": old_and_new[0]})
    reordered = dataclasses.replace(other, label_names=other.label_names[::-1])
    for dataset in (load_dataset({"train": old_and_new[1]}), reordered):
        with pytest.raises(UserError, match=r"inherit=Parent.of\(…\).inheritance\(\)"):
            train_classifier(dataset, start_from=parent)


def several(pairs):
    """Texts of two labels each, and of one."""
    texts, labels = columns(pairs)
    joined = [f"{one} {other}" for one, other in zip(texts[::2], texts[1::2], strict=True)]
    sets = [sorted({one, other}) for one, other in zip(labels[::2], labels[1::2], strict=True)]
    return joined + texts, sets + [[label] for label in labels]


@pytest.mark.parametrize("model", ["textcnn", "seq2seq", "fasttext"])
def test_several_labels_for_a_text(labelled, model, tmp_path):
    old = [pair for pair in labelled(240, 0) if pair[0] != "law"]
    new = labelled(240, 1)
    settings = {"model_settings": SMALL[model], "epochs": 20, "lr": 0.02, "device": "cpu"}
    first = TextClassifier.train(*several(old), model, out=tmp_path / "first", **settings)
    texts, labels = several(old)
    more, sets = several(new)
    then = TextClassifier.train(texts + more, labels + sets, start_from=tmp_path / "first")
    assert then.multi_label
    assert then.labels == ["sport", "tech", "law"]
    assert set(then.seen.dev) >= set(first.seen.dev)
    assert not set(then.seen.dev) & set(first.seen.train)
    assert then.predict(["court judge the", "goal team court judge"])[0] == ["law"]
    # Before the first update the old labels have the scores that they had.
    first = TextClassifier.train(*several(old), model, **settings)
    same = TextClassifier.train(texts + more, labels + sets, start_from=first, lr=0.0, epochs=1)
    scores = [c.scores(lambda tokenizer: tokenized(texts, tokenizer), labelled=False)[0] for c in (first.before_refit, same)]  # fmt: skip
    torch.testing.assert_close(scores[1][:, :2], scores[0], rtol=1e-5, atol=1e-5)
    with pytest.raises(UserError, match="label"):
        TextClassifier.train(texts, labels, start_from=TextClassifier.train(*columns(old), model, **settings))  # fmt: skip


TREC = {
    "fasttext": ({"embedding_dim": 50, "buckets": 100_000}, {"lr": 0.01, "epochs": 10}),
    "textcnn": ({"embedding_dim": 50, "maps": 50}, {"lr": 2e-3, "epochs": 6}),
}


@pytest.mark.slow
@pytest.mark.parametrize("model", TREC)
def test_trec_continued_with_a_class_that_is_new_beside_trec_at_once(shared_data, model):
    """Half of trec without the questions for people, then all the rest, beside all at once."""
    rows = [line.split("\t", 1) for line in (shared_data / "trec" / "train.tsv").read_text().splitlines()]  # fmt: skip
    order = np.random.default_rng(0).permutation(len(rows))
    half = [rows[i] for i in order[: len(rows) // 2] if rows[i][0] != "HUM"]
    chosen = set(map(tuple, half))
    rest = [row for row in rows if tuple(row) not in chosen]
    people = [row for row in rest if row[0] == "HUM"]
    model_settings, training = TREC[model]
    settings = {**training, "schedule": "linear", "device": "cpu"}

    def accuracy(classifier):
        return classifier.evaluate(shared_data / "trec" / "test.tsv").accuracy

    new = {"model": model, "model_settings": model_settings, **settings}
    found = {"at once": accuracy(TextClassifier.train(*columns(rows), **new))}
    first = TextClassifier.train(*columns(half), **new)
    for name, documents in (("all the rest", rest), ("people alone", people)):
        for replay in (True, False):
            then = TextClassifier.train(*columns([*half, *documents]), start_from=first, replay=replay)  # fmt: skip
            found[f"{name}{', the old ones not again' * (not replay)}"] = accuracy(then)
    assert found["all the rest"] > found["at once"] - 0.025
    assert found["people alone"] > found["people alone, the old ones not again"] + 0.03
