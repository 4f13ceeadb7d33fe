"""What the user leaves out is the recipe's; what the user says wins, and a run can be repeated."""

import json
import math
import warnings
from dataclasses import asdict, fields, replace

import pytest
import torch

from dlnotes import TextClassifier
from dlnotes.data.dataset import load_dataset
from dlnotes.errors import UserError
from dlnotes.models import MODELS
from dlnotes.optim import OPTIMIZERS
from dlnotes.training import recipes
from dlnotes.training.classifier import make_model
from dlnotes.training.fit import Fitting, fit
from dlnotes.training.objectives import SingleLabel
from dlnotes.training.recipes import PAPERS, PLAIN, RECIPES, Facts, recipe_for, resolve
from dlnotes.training.settings import Training
from dlnotes.training.train import train_classifier
from small import SMALL, make

SENTENCES = ("han", "dmn", "entnet")
FEW = [(f"{'good' if i % 2 else 'bad'}", f"{'fine great' if i % 2 else 'poor dull'} film {i}") for i in range(12)]  # fmt: skip


def tokenizer(model):
    return "sentences" if model in SENTENCES else "basic_english"


def few(model, **sources):
    return load_dataset({"train": FEW, **sources}, tokenizer=tokenizer(model), split_seed=0)


# --- the tables -----------------------------------------------------------------------------------


def test_every_model_has_a_recipe_and_a_paper():
    assert [*RECIPES] == [*PAPERS] == [*MODELS]
    assert all(recipe.record for recipe in RECIPES.values())


@pytest.mark.parametrize("table", [RECIPES, PAPERS], ids=["default", "paper"])
@pytest.mark.parametrize("model", MODELS)
def test_recipes_say_what_is_allowed(table, model):
    recipe = table[model]
    known = {f.name for f in fields(Training)}
    training = Training(**{f.name: getattr(recipe, f.name) for f in fields(recipe) if f.name in known})  # fmt: skip
    with torch.device("meta"):
        made = make_model(model, MODELS[model], {"vocabulary_size": 9, "num_classes": 2}, recipe.model_settings)  # fmt: skip
    training.make_optimizer(made.parameters())


SIZES = [12, 120, 600, 1500, 3000, 5000, 7000, 9600, 25_000, 76_000, 150_000]


@pytest.mark.parametrize("model", MODELS)
def test_recipes_scale_with_the_documents(model):
    found = [recipe_for(model, Facts(n, 2, 40.0)) for n in SIZES]
    base = RECIPES[model]
    epochs, batches = [r.epochs for r in found], [r.batch_size for r in found]
    assert epochs == sorted(epochs, reverse=True)
    assert batches == sorted(batches)
    assert 3 <= epochs[-1] < base.epochs < epochs[1] <= 40
    assert (batches[0], batches[-1]) == (4, base.batch_size * 4)
    at_reference = found[SIZES.index(recipes.REFERENCE)]
    assert (at_reference.epochs, at_reference.batch_size) == (base.epochs, base.batch_size)
    # Few documents get enough updates to learn, many do not take forever.
    updates = [r.epochs * math.ceil(n / r.batch_size) for n, r in zip(SIZES, found, strict=True)]
    assert min(updates) >= 100
    assert max(updates) <= 20_000
    assert [r.min_freq for r in found] == sorted(r.min_freq for r in found)
    assert found[0].min_freq == 1


@pytest.mark.parametrize("model", MODELS)
def test_many_classes_take_more_epochs(model):
    found = [recipe_for(model, Facts(5_000, c, 40.0)).epochs for c in (2, 10, 52, 160, 3_000)]
    base = RECIPES[model].epochs
    assert (found[:2], found[3:]) == ([base] * 2, [2 * base] * 2)
    assert base < found[2] < 2 * base


def test_fasttexts_buckets_scale_with_the_tokens():
    found = [recipe_for("fasttext", Facts(n, 2, 40.0)).model_settings["buckets"] for n in SIZES]
    assert found == sorted(found)
    assert (found[0], found[SIZES.index(600)], found[SIZES.index(25_000)], found[-1]) == (10_000, 48_000, 250_000, 500_000)  # fmt: skip


def test_fasttext_learns_faster_from_few_documents():
    rates = [recipe_for("fasttext", Facts(n, 2, 40.0)).lr for n in SIZES]
    assert rates == sorted(rates, reverse=True)
    at_reference = rates[SIZES.index(recipes.REFERENCE)]
    assert (rates[0], at_reference, rates[-1]) == (0.02, RECIPES["fasttext"].lr, 0.003)


def test_long_documents_have_shorter_vectors():
    found = [recipe_for("fasttext", Facts(600, 2, t)).model_settings for t in (100.0, 101.0)]
    assert [s["embedding_dim"] for s in found] == [100, 50]


def test_characters_have_trigrams():
    found = [recipe_for("fasttext", Facts(600, 2, 40.0, c)).model_settings for c in (False, True)]
    assert [(s["ngrams"], s["buckets"]) for s in found] == [(2, 48_000), (3, 96_000)]


@pytest.mark.parametrize("model", MODELS)
def test_many_documents_are_not_trained_on_twice(model):
    most = 30_000 if model == "fasttext" else 10_000
    refits = [recipe_for(model, Facts(n, 2, 9.0)).refit for n in (500, most - 1, most)]
    assert refits == [True, True, False]


@pytest.mark.parametrize("model", MODELS)
def test_several_labels_are_not_smoothed(model):
    smoothing = [recipe_for(model, Facts(5_000, 2, 9.0, False, s)).label_smoothing for s in (False, True)]  # fmt: skip
    assert smoothing == [0.1, 0.0]


def test_a_hierarchical_output_is_not_smoothed(dataset):
    found = resolve(Training(), "fasttext", {"output": "hierarchical"}, dataset)
    assert found.training.label_smoothing == 0
    asked = resolve(Training(label_smoothing=0.2), "fasttext", {"output": "hierarchical"}, dataset)
    assert asked.training.label_smoothing == 0.2


@pytest.mark.parametrize("name", ["paper", "plain"])
def test_other_recipes_do_not_scale(name):
    found = [recipe_for("textcnn", Facts(n, 2, 9.0), name) for n in SIZES]
    assert found == [{"paper": PAPERS["textcnn"], "plain": PLAIN}[name]] * len(SIZES)
    assert recipe_for("a model of one's own", Facts(9, 2, 9.0), "paper") == PLAIN


# --- what is given wins ---------------------------------------------------------------------------


GIVEN = {
    "optimizer": "adamw",
    "lr": 0.5,
    "schedule": "halving",
    "warmup": 0.0,
    "epochs": 7,
    "batch_size": 5,
    "label_smoothing": 0.0,
    "clip_norm": 3.0,
    "patience": 9,
    "refit": True,
}


@pytest.mark.parametrize("name", ["default", "paper", "plain"])
@pytest.mark.parametrize("setting", GIVEN)
def test_what_is_given_wins(dataset, name, setting):
    given = Training(recipe=name, **{setting: GIVEN[setting]})
    found = resolve(given, "transformer", {}, dataset)
    assert getattr(found.training, setting) == GIVEN[setting]
    assert setting not in found.chosen
    assert None not in (getattr(found.training, f) for f in GIVEN if f not in ("clip_norm", "patience"))  # fmt: skip
    others = resolve(Training(recipe=name), "transformer", {}, dataset)
    if setting != "optimizer":
        assert replace(found.training, **{setting: None}) == replace(
            others.training, **{setting: None}
        )


def test_off_is_not_left_to_the_recipe(dataset):
    given = Training(batch_size=0, clip_norm=0, patience=0)
    found = resolve(given, "textcnn", {}, dataset)
    assert RECIPES["textcnn"].patience
    assert [found.training.batch_size, found.training.clip_norm, found.training.patience] == [None] * 3  # fmt: skip
    assert [found.as_options.batch_size, found.as_options.clip_norm, found.as_options.patience] == [
        0
    ] * 3


def test_sizes_are_merged_one_by_one(dataset):
    found = resolve(Training(), "transformer", {"num_layers": 2, "pooling": "max"}, dataset)
    own = RECIPES["transformer"].model_settings
    assert found.model_settings == {**own, "num_layers": 2, "pooling": "max"}
    assert "num_layers" not in found.chosen["model_settings"]


def test_optimizers_settings_are_merged_and_belong_to_the_recipes_own(dataset):
    def own(**given):
        return resolve(Training(**given), "transformer", {}, dataset).training.optimizer_settings

    betas = (0.9, 0.98)
    assert own() == own(optimizer="adam") == {"betas": betas, "eps": 1e-9}
    assert own(optimizer_settings={"eps": 1e-6}) == {"betas": betas, "eps": 1e-6}
    assert own(optimizer="rmsprop") == own(optimizer="adamw") == {}
    assert own(recipe="plain") == {}


def test_what_is_settled_stays(dataset):
    once = resolve(Training(epochs=3), "transformer", {"num_layers": 2}, dataset)
    again = resolve(once.as_options, "transformer", once.model_settings, once.dataset)
    assert again[:2] == once[:2]
    assert again.dataset.described == once.dataset.described
    assert not again.has_chosen
    assert once.has_chosen


# --- how documents are read -----------------------------------------------------------------------


def test_the_recipe_reads_where_nothing_is_said(dataset, monkeypatch):
    monkeypatch.setitem(RECIPES, "textcnn", replace(RECIPES["textcnn"], max_tokens=5))
    monkeypatch.setattr(recipes, "recipe_for", lambda model, facts, name="default": RECIPES[model])
    found = resolve(Training(), "textcnn", {}, dataset).dataset
    expected = load_dataset({"train": [(d, t) for d, t in texts_of(dataset)]}, split_seed=0, min_freq=2, max_tokens=5)  # fmt: skip
    assert found.dev.lengths.max() == expected.train.lengths.max() == 5
    assert dataset.train.lengths.max() > 5  # as it was
    assert found.described["min_freq"] == 2
    assert (found.reading.min_freq, found.max_tokens) == (2, 5)
    said = load_dataset({"train": FEW * 9}, split_seed=0, min_freq=1, max_tokens=4)
    kept = resolve(Training(), "textcnn", {}, said).dataset
    assert (kept.reading.min_freq, kept.max_tokens) == (1, 4)
    assert kept.vocabulary.tokens.to_list() == said.vocabulary.tokens.to_list()


def texts_of(dataset):
    return [
        (dataset.label_names[dataset.train.labels[i]], dataset.train.text(i))
        for i in range(len(dataset.train))
    ]


@pytest.mark.parametrize("min_freq", [1, 3])
@pytest.mark.parametrize("max_tokens", [None, 4])
def test_limits_are_the_same_before_and_after(labelled, min_freq, max_tokens):
    sources = {"train": [*labelled(60, 0), ("law", "<question> once")], "test": labelled(9, 1)}
    read = {"tokenizer": "sentences", "split_seed": 0}
    before = load_dataset(sources, **read, min_freq=min_freq, max_tokens=max_tokens)
    after = load_dataset(sources, **read, max_tokens=6).limited(min_freq, max_tokens)
    assert after.described == before.described
    for one, other in ((before, after), (before.with_dev_in_train(), after.with_dev_in_train())):
        assert one.vocabulary.tokens.to_list() == other.vocabulary.tokens.to_list()
        for split in ("train", "dev"):
            a, b = getattr(one, split), getattr(other, split)
            every = torch.arange(len(a)).numpy()
            assert torch.equal(a.batch(every).tokens, b.batch(every).tokens)
            assert a.num_truncated == b.num_truncated
    assert torch.equal(before.read_test().batch(every[:9]).tokens, after.read_test().batch(every[:9]).tokens)  # fmt: skip


def test_a_part_of_the_documents_stays_a_part(dataset):
    some = replace(dataset, train=dataset.train.take(torch.arange(30).numpy()))
    assert len(resolve(Training(), "textcnn", {}, some).dataset.train) == 30
    assert len(some.limited(2, 3).train) == 30


def test_a_vocabulary_that_is_given_is_kept(dataset, labelled):
    given = load_dataset({"train": labelled(60, 0)}, vocabulary=dataset.vocabulary)
    assert given.limited(3, 4).vocabulary is dataset.vocabulary


# --- rates ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["fasttext", "textcnn"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_an_optimizer_without_a_rate_gets_one_that_suits_it(dataset, model, optimizer):
    given = {"optimizer": optimizer, "epochs": 10, "batch_size": 8, "progress": False}
    _, record = train_classifier(dataset, model, model_settings=SMALL[model], **given)
    first, last = record["history"][0]["train_loss"], record["history"][-1]["train_loss"]
    assert last < 0.9 * first
    assert record["dev"]["accuracy"] > 0.6  # of three classes
    plain = resolve(Training(recipe="plain", optimizer=optimizer), model, {}, dataset)
    assert plain.training.lr == 1e-3


def test_rates(dataset):
    def lr(model, **given):
        return resolve(Training(**given), model, {}, dataset).training.lr

    assert lr("textcnn", optimizer="adadelta") == recipes.RATES["adadelta"]
    assert lr("textcnn", recipe="paper") == 1.0
    assert lr("textcnn", optimizer="adam") == lr("textcnn", optimizer="adam", recipe="paper") == RECIPES["textcnn"].lr  # fmt: skip
    assert lr("fasttext", optimizer="momentum") > lr("textcnn", optimizer="momentum")
    assert lr("textcnn", optimizer="adadelta", recipe="plain") == 1e-3


# --- trainings ------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
def test_twelve_documents(model):
    classifier, record = train_classifier(few(model), model, epochs=2, progress=False)
    assert record["settings"]["recipe"] == "default"
    assert set(RECIPES[model].model_settings) <= set(record["settings"]["model_settings"])
    assert record["history"][0]["dev_loss"] > 0
    assert classifier.predict(["fine"])


@pytest.mark.parametrize("model", MODELS)
def test_a_document_per_class(model):
    sources = {"train": FEW[:2], "dev": FEW[2:4]}
    dataset = load_dataset(sources, tokenizer=tokenizer(model))
    _, record = train_classifier(dataset, model, epochs=2, progress=False)
    assert record["documents"] == {"train": 2, "dev": 2}


def test_twelve_documents_are_learned():
    texts = [text for _, text in FEW]
    classifier = TextClassifier.train(texts, [label for label, _ in FEW])
    assert classifier.predict(texts) == [label for label, _ in FEW]
    assert classifier.record["settings"]["epochs"] == 40


def test_a_line_says_what_was_chosen(dataset, capsys):
    train_classifier(dataset, "textcnn", epochs=1, model_settings=SMALL["textcnn"], optimizer="adamw")  # fmt: skip
    line = next(x for x in capsys.readouterr().err.splitlines() if x.startswith("recipe"))
    assert line.startswith("recipe: textcnn on 216 documents of 3 classes, 6 tokens on average: lr 0.003 (linear)")  # fmt: skip
    assert "label smoothing 0.1" in line
    for given in ("epochs", "adamw", "embedding_dim"):
        assert given not in line
    found = resolve(Training(recipe="plain"), "fasttext", {}, dataset).description("fasttext")
    assert found.endswith("adam, lr 0.001 (constant), up to 10 epochs in batches of 64 documents")
    assert found.startswith("recipe plain: ")


def test_one_document_per_update_is_said_in_the_singular(dataset):
    line = resolve(Training(recipe="paper"), "fasttext", {}, dataset).description("fasttext")
    assert "up to 5 epochs in batches of 1 document" in line
    assert "1 documents" not in line


def test_smoothing_a_hierarchical_softmax_is_warned_of(dataset):
    given = {"model_settings": {"output": "hierarchical", "buckets": 10}, "epochs": 1}
    with pytest.warns(UserWarning, match="label_smoothing=0.1 needs the probability of every"):
        train_classifier(dataset, "fasttext", **given, label_smoothing=0.1, refit=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train_classifier(dataset, "fasttext", **given)


@pytest.mark.parametrize(
    ("texts", "why"), [(["", "", "", ""], "no training text has a token"), (["a", "b", "c", "d"], "no token occurs 2 times")]
)  # fmt: skip
def test_why_a_vocabulary_is_empty(texts, why):
    with pytest.warns(UserWarning, match=why):
        TextClassifier.train(texts, ["x", "y", "x", "y"], epochs=1, min_freq=2, progress=False)


def test_records_hold_what_was_used(dataset, tmp_path):
    _, record = train_classifier(dataset, "transformer", out=tmp_path, epochs=1, progress=False)
    resolved = resolve(Training(epochs=1), "transformer", {}, dataset)
    kept = json.loads((tmp_path / "metrics.json").read_text())["settings"]
    for name, value in json.loads(json.dumps(asdict(resolved.training))).items():
        assert kept[name] == value, name
    assert kept["model_settings"] == record["settings"]["model_settings"] == resolved.model_settings
    assert kept["min_freq"] == 1


def test_resuming_keeps_what_the_run_was_begun_with(dataset, tmp_path, monkeypatch):
    """Whatever the table says by then."""
    given = {"model_settings": {"maps": 3}, "progress": False}
    whole, _ = train_classifier(dataset, "textcnn", epochs=4, **given)
    monkeypatch.setattr("dlnotes.training.fit._SAVING_SHARE", 1.0)

    def stopped(self, record, *, is_best):
        if record["epoch"] == 2:
            raise RuntimeError("stop")

    with monkeypatch.context() as patch:
        patch.setattr("dlnotes.training.progress.Progress.epoch", stopped)
        with pytest.raises(RuntimeError):
            train_classifier(dataset, "textcnn", epochs=4, out=tmp_path, **given)
    other = replace(RECIPES["textcnn"], lr=0.7, epochs=2, label_smoothing=0.0, model_settings={})
    monkeypatch.setitem(RECIPES, "textcnn", other)
    with pytest.raises(UserError, match=r"written with lr=0.003, now it is 0.5"):
        train_classifier(dataset, "textcnn", out=tmp_path, resume=True, lr=0.5, **given)
    with pytest.raises(UserError, match=r"written with recipe='default', now it is 'plain'"):
        train_classifier(dataset, "textcnn", out=tmp_path, resume=True, recipe="plain", **given)
    with pytest.raises(UserError, match=r"written with model='textcnn', now it is 'fasttext'"):
        train_classifier(dataset, "fasttext", out=tmp_path, resume=True, progress=False)
    resumed, record = train_classifier(dataset, "textcnn", out=tmp_path, resume=True, progress=False)  # fmt: skip
    assert len(record["history"]) == 4
    for name, weights in whole.model.state_dict().items():
        assert torch.equal(weights, resumed.model.state_dict()[name]), name


def test_fit_has_no_recipe(dataset):
    model = make(dataset)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(UserError, match="fitting leaves epochs to a recipe"):
        fit(model, optimizer, SingleLabel(), dataset.train, dataset.dev, Training())
    assert Fitting().epochs == 10
