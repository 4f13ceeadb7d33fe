"""`from dlnotes import TextClassifier`: trained on what Python holds, labels come back as given."""

import copy
import json
import pickle
import subprocess
import sys
from functools import partial

import numpy as np
import polars as pl
import pytest
import torch

import dlnotes
from dlnotes import TextClassifier
from dlnotes.data.columns import as_labels, as_texts
from dlnotes.data.dataset import load_dataset
from dlnotes.data.vocabulary import Vocabulary
from dlnotes.errors import UserError
from dlnotes.training.classifier import Ensemble, default_tokenizer
from dlnotes.training.ensemble import load_members, make_ensemble
from dlnotes.training.train import train_classifier
from small import SMALL

QUICK = {"model_settings": {"buckets": 50, "embedding_dim": 8}, "lr": 0.1, "batch_size": 8, "epochs": 4}  # fmt: skip


@pytest.fixture(scope="module")
def columns(labelled):
    labels, texts = zip(*labelled(90, 0), strict=True)
    return list(texts), list(labels)


def trained(columns, labels=None, **settings):
    texts, names = columns
    return TextClassifier.train(texts, names if labels is None else labels, **QUICK | settings)


@pytest.fixture(scope="module")
def classifier(columns):
    return trained(columns)


ASKED = ["the goal of the match", "court", "web code"]


def test_the_package_imports_torch_when_the_classifier_is_asked_for():
    program = """
import sys, dlnotes
assert "TextClassifier" in dir(dlnotes)
assert not {"torch", "numpy", "polars"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", program], check=True)
    assert dlnotes.TextClassifier is TextClassifier
    with pytest.raises(AttributeError, match="module 'dlnotes' has no attribute 'Classifier'"):
        _ = dlnotes.Classifier


def test_predictions_are_a_label_and_a_row_of_probabilities_per_text(classifier):
    assert classifier.label_names == classifier.labels == ["law", "sport", "tech"]
    assert classifier.predict(ASKED) == ["sport", "law", "tech"]
    probabilities = classifier.predict_proba(ASKED)
    assert isinstance(probabilities, np.ndarray)
    assert probabilities.shape == (3, 3)
    assert probabilities.dtype == np.float32
    assert np.allclose(probabilities.sum(1), 1)
    assert np.array_equal(probabilities, classifier.probabilities(ASKED).numpy())
    assert list(probabilities.argmax(1)) == [1, 0, 2]
    assert classifier.predict([]) == []
    assert classifier.predict_proba([]).shape == (0, 3)


def test_training_is_that_of_the_command(columns, classifier, tmp_path):
    """The same documents in the same order, split and words: the same weights, to the bit."""
    texts, labels = columns
    pairs = list(zip(labels, texts, strict=True))
    dataset = load_dataset({"train": pairs}, split_seed=0)
    other, record = train_classifier(dataset, progress=False, **QUICK)
    for ours, theirs in zip(classifier.model.parameters(), other.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    for key in ("dev", "best_epoch", "vocabulary", "parameters", "documents", "data"):
        assert classifier.record[key] == record[key], key
    assert classifier.record["settings"]["lr"] == 0.1


def test_settings_go_where_they_belong(columns):
    classifier = trained(
        columns, model="han", model_settings=SMALL["han"], epochs=1, min_freq=np.int64(2),
        max_tokens=4, seed=5, optimizer="momentum",
    )  # fmt: skip
    settings = classifier.record["settings"]
    assert classifier.tokenizer == settings["tokenizer"] == default_tokenizer("han") == "sentences"
    assert (classifier.max_tokens, settings["min_freq"], settings["optimizer"]) == (
        4,
        2,
        "momentum",
    )
    assert settings["seed"] == settings["split_seed"] == 5
    kept_apart = trained(columns, epochs=1, seed=5, split_seed=0, tokenizer="cased")
    assert kept_apart.record["settings"]["split_seed"] == 0
    assert kept_apart.tokenizer == "cased"


def test_dev_documents_of_ones_own(columns):
    texts, labels = columns
    classifier = trained(columns, dev=(np.array(texts[:9]), labels[:9]))
    assert classifier.record["documents"] == {"train": 90, "dev": 9}
    numbers = [len(label) for label in labels]
    classifier = trained(columns, numbers, dev=(texts[:9], [float(n) for n in numbers[:9]]))
    assert classifier.labels == [3, 4, 5]


LABELS = {
    "integers": {"law": 10, "sport": 9, "tech": -1},
    "whole floats": {"law": 10.0, "sport": 9.0, "tech": -1.0},
    "strings": {"law": "10", "sport": "9", "tech": ' a \n"b" \u03b1'},
    "bools": {"law": True, "sport": False, "tech": False},
}
ORDERS = {
    "integers": [-1, 9, 10],
    "whole floats": [-1.0, 9.0, 10.0],
    "strings": [" a \n\"b\" \u03b1", "10", "9"],
    "bools": [False, True],
}  # fmt: skip


@pytest.mark.parametrize("kind", LABELS)
def test_labels_come_back_as_they_were_given(columns, tmp_path, kind):
    texts, names = columns
    labels = [LABELS[kind][name] for name in names]
    classifier = trained(columns, labels, out=str(tmp_path / "run"))
    order = ORDERS[kind]
    assert classifier.labels == order
    assert classifier.label_names == [str(label) for label in order]
    expected = [LABELS[kind][name] for name in ("sport", "law", "tech")]
    for each in (
        classifier,
        TextClassifier.load(str(tmp_path / "run")),
        pickle.loads(pickle.dumps(classifier)),
    ):
        found = each.predict(ASKED)
        assert found == expected
        assert [type(label) for label in found] == [type(label) for label in expected]
        assert np.array_equal(each.predict_proba(ASKED), classifier.predict_proba(ASKED))
    assert json.loads((tmp_path / "run" / "classifier" / "labels.json").read_text()) == order
    assert classifier.evaluate(list(zip(labels, texts, strict=True))).accuracy > 0.9


def test_folders_take_strings_and_never_hold_the_record(classifier, tmp_path):
    classifier.save(str(tmp_path / "a" / "b"))
    assert {path.name for path in (tmp_path / "a" / "b").iterdir()} == {
        "config.json", "labels.json", "model.safetensors", "vocabulary.txt",
    }  # fmt: skip
    assert "record" not in json.loads((tmp_path / "a" / "b" / "config.json").read_text())
    loaded = TextClassifier.load(str(tmp_path / "a" / "b"))
    assert loaded.record is None
    assert loaded.predict(ASKED) == classifier.predict(ASKED)


def test_a_pickle_holds_plain_values_and_opens_on_another_device(classifier):
    class Plain(pickle.Unpickler):
        def find_class(self, module, name):
            assert module.split(".")[0] in ("builtins", "numpy", "_codecs") or (module, name) in (
                ("copyreg", "__newobj__"),
                ("dlnotes.training.classifier", "TextClassifier"),
            ), (module, name)
            return super().find_class(module, name)

    import io

    again = Plain(io.BytesIO(pickle.dumps(classifier))).load()
    assert again.record == classifier.record
    assert again.device == torch.device("cpu")
    assert not again.model.training
    state = classifier.__getstate__() | {"device": "cuda:99"}
    elsewhere = TextClassifier.__new__(TextClassifier)
    elsewhere.__setstate__(state)
    assert elsewhere.device == torch.device("cpu")
    twin = copy.deepcopy(classifier)
    assert np.array_equal(twin.predict_proba(ASKED), classifier.predict_proba(ASKED))
    with torch.no_grad():
        for parameter in twin.model.parameters():
            parameter.zero_()
    assert classifier.predict(ASKED) == ["sport", "law", "tech"]


def test_an_ensemble_predicts_the_same_way(columns, tmp_path):
    numbers = [len(label) for label in columns[1]]
    members = [trained(columns, numbers, seed=seed) for seed in (0, 1)]
    ensemble = Ensemble(members, [0.25, 0.75], ["a", "b"])
    ensemble.save(str(tmp_path / "both"))
    one, other = (member.predict_proba(iter(ASKED)) for member in members)
    for each in (ensemble, TextClassifier.load(str(tmp_path / "both"))):
        assert np.allclose(each.predict_proba(ASKED), 0.25 * one + 0.75 * other, atol=1e-6)
        assert each.predict(tuple(ASKED)) == [5, 3, 4]
        assert each.labels == [3, 4, 5]


FORMS = {
    "list": lambda items: items,
    "tuple": tuple,
    "generator": iter,
    "array": np.array,
    "array of objects": lambda items: np.array(items, dtype=object),
    "array of one column": lambda items: np.array(items, dtype=object)[:, None],
    "rows of one item": lambda items: [(item,) for item in items],
    "polars column": pl.Series,
    "polars data frame": lambda items: pl.DataFrame({"a": items}),
    "NumPy scalars": lambda items: list(np.array(items)),
}


@pytest.mark.parametrize("form", FORMS)
def test_texts_and_labels_may_come_in_many_forms(form):
    give = FORMS[form]
    for read, items in ((as_texts, ["a", "b c", ""]), (as_labels, [3, 1, 3]), (as_labels, ["x", "y"]), (as_labels, [True, False])):  # fmt: skip
        found = read(give(items))
        assert found == items
        assert [type(item) for item in found] == [type(item) for item in items]


@pytest.mark.parametrize("form", ["column", "data frame", "nullable", "categorical"])
def test_so_may_those_of_pandas(form):
    pandas = pytest.importorskip("pandas")
    index = [7, 5, 7]  # positions count, not the index
    column = pandas.Series(["a", "b", "a"], index=index)
    if form == "data frame":
        column = column.to_frame("text")
    elif form in ("nullable", "categorical"):
        column = column.astype({"nullable": "string", "categorical": "category"}[form])
    assert as_texts(column) == as_labels(column) == ["a", "b", "a"]
    assert as_labels(pandas.Series([1, 2], dtype="Int64")) == [1, 2]
    with pytest.raises(UserError, match=r"^texts\[1\] is (<NA>|nan|None): every text must be a"):
        as_texts(pandas.Series(["a", None], dtype="string"))


NAN = float("nan")
NO_TEXTS = {
    "a string": ("abc", r"^texts must be a list of texts, not a single one, 'abc'; for one give \["),
    "bytes": (b"abc", r"^texts must be a list of texts, not a single one, b'abc'"),
    "None": (None, "^texts must be a list or a column of texts, not None$"),
    "a number": (3, "^texts must be a list or a column of texts, not 3$"),
    "a mapping": ({"a": 1}, "^texts must be a list or a column of texts, not {'a': 1}$"),
    "a set": ({"a"}, "^texts must be a list or a column of texts, not {'a'}$"),
    "columns": (np.array([["a", "b"]]), r"^texts must be one column of texts, not of shape \(1, 2\)$"),
    "a data frame": (pl.DataFrame({"a": ["x"], "b": ["y"]}), r"not of shape \(1, 2\); choose one of a, b$"),
    "None inside": (["a", None], r"^texts\[1\] is None: every text must be a string$"),
    "null inside": (pl.Series(["a", None]), r"^texts\[1\] is None: every text"),
    "NaN inside": (np.array(["a", NAN], dtype=object), r"^texts\[1\] is nan: every text"),
    "numbers": (np.array([1.5, 2.0]), r"^texts\[0\] is 1.5: every text"),
    "bytes inside": (["a", "b", b"c"], r"^texts\[2\] is b'c': every text"),
    "tokens": ([["a", "b"]], r"^texts\[0\] is \['a', 'b'\]: every text"),
    "half a character": (["a", "b\ud800"], r"^texts\[1\] is 'b\\ud800': character 1 is half of a"),
}  # fmt: skip


CALLS = ("predict", "predict_proba", "classify", "probabilities", "best", "explain")


def asked(classifier, call, texts):
    return classifier.best(texts, 2) if call == "best" else getattr(classifier, call)(texts)


@pytest.mark.parametrize("case", NO_TEXTS)
def test_what_is_no_text_is_told_with_its_place(case, classifier):
    given, message = NO_TEXTS[case]
    ensemble = Ensemble([classifier], [1.0], ["a"])
    calls = [partial(asked, each, call) for each in (classifier, ensemble) for call in CALLS]
    for call in (*calls, lambda texts: TextClassifier.train(texts, ["a", "b"])):
        with pytest.raises(UserError, match=message) as told:
            call(given)
        assert "\n" not in str(told.value)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("form", FORMS)
def test_every_call_takes_texts_in_every_form(classifier, call, form):
    for each in (classifier, Ensemble([classifier], [1.0], ["a"])):
        found, expected = (asked(each, call, give(ASKED)) for give in (FORMS[form], list))
        if isinstance(found, torch.Tensor | np.ndarray):
            assert found.tolist() == expected.tolist()
        elif call == "best":
            assert [one.tolist() for one in found] == [one.tolist() for one in expected]
        else:
            assert found == expected


@pytest.mark.parametrize("call", CALLS)
def test_no_texts_and_very_long_ones(classifier, call):
    asked(classifier, call, [])
    if call != "explain":  # which leaves out each of the words
        asked(classifier, call, ["x" * 10**6, "", "goal " * 10**5, "\0"])


def test_how_many_labels(classifier):
    for top_k in (0, -1, 1.0, True, "2", None):
        for call in (partial(classifier.classify, ["goal"]), partial(classifier.best, ["goal"])):
            with pytest.raises(UserError, match=r"^top_k must be .*at least 1, not"):
                call(top_k=top_k)
    assert len(classifier.classify(["goal"], top_k=10**9)[0]["top"]) == 3


DEVICES = ["nonsense", "cuda:x", "", 3, None, torch.device("cuda:99")]


@pytest.mark.parametrize("device", DEVICES, ids=str)
def test_devices_that_are_not_there(classifier, device, tmp_path):
    classifier.save(tmp_path)
    for call in (classifier.to, partial(TextClassifier.load, tmp_path)):
        with pytest.raises(UserError, match=r"^device "):
            call(device)
    assert classifier.device == torch.device("cpu")
    assert classifier.predict(["goal"]) == ["sport"]


NO_FOLDERS = {
    "empty": ("", "^folder must be a path, not ''$", None),
    "None": (None, "^folder must be a path, not None$", None),
    "bytes": (b"x", "^folder must be a path, not b'x'$", None),
    "NUL": ("a\0b", "^cannot write to .*null", "is not a path: .*embedded null"),
    "half a character": ("a\ud800", "^cannot write to ", "is not a path: "),
    "a file": ("file", "^cannot write to file: it is not a folder$", "^file is not a trained classifier of dlnotes: it is a file$"),
    "below a file": ("file/x", "^cannot write to file/x: Not a directory$", "^file/x is not a trained"),
    "long": ("x" * 300, "^cannot write to x*: File name too long$", "cannot be read: File name too long$"),
    "a link to itself": ("loop", "^cannot write to loop: (File exists|Too many levels of symbolic links)$", "cannot be read: Too many levels"),
}  # fmt: skip


@pytest.mark.parametrize("case", NO_FOLDERS)
def test_folders_that_are_none(classifier, case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("x")
    (tmp_path / "loop").symlink_to("loop")
    folder, unwritable, unreadable = NO_FOLDERS[case]
    for each in (classifier, Ensemble([classifier], [1.0], ["a"])):
        with pytest.raises(UserError, match=unwritable) as told:
            each.save(folder)
        assert "\n" not in str(told.value)
    with pytest.raises(UserError, match=unreadable or unwritable):
        TextClassifier.load(folder)
    assert (tmp_path / "file").read_text() == "x"


def test_the_folder_one_is_in(classifier, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"^\. is not a trained classifier of dlnotes: it has no"):
        TextClassifier.load(".")
    classifier.save(".")
    assert TextClassifier.load(".").predict(ASKED) == classifier.predict(ASKED)


def test_paths_are_text_and_may_begin_at_home(columns, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    texts, labels = columns
    lines = "".join(f"{label}\t{text}\n" for label, text in zip(labels, texts, strict=True))
    (tmp_path / "mine.tsv").write_text(lines)
    classifier = trained(columns, out="~/runs/one", epochs=1)
    assert (tmp_path / "runs" / "one" / "metrics.json").exists()
    assert TextClassifier.load("~/runs/one").predict(ASKED) == classifier.predict(ASKED)
    classifier.save("~/kept")
    assert TextClassifier.load(tmp_path / "kept").label_names == classifier.label_names
    kept = [classifier.evaluate(path).loss for path in ("~/mine.tsv", str(tmp_path / "mine.tsv"))]
    assert kept[0] == kept[1] == classifier.evaluate(tmp_path / "mine.tsv").loss
    dataset = load_dataset({"train": "~/mine.tsv"}, cache_dir=str(tmp_path / "cache"))
    assert len(dataset.train) + len(dataset.dev) == 90
    members = load_members(["~/runs/one"], {"train": list(zip(labels, texts, strict=True))})
    make_ensemble(members, "~/runs/both")
    assert TextClassifier.load("~/runs/both").label_names == classifier.label_names


def test_sources_have_names_that_are_known():
    pairs = [("a", "x"), ("b", "y")] * 9
    with pytest.raises(
        UserError, match=r"load_dataset has no source 'tset'; .* did you mean 'test'"
    ):
        load_dataset({"train": pairs, "tset": pairs})
    with pytest.raises(
        UserError, match=r"must have the training documents under the name 'train'$"
    ):
        load_dataset({"dev": pairs})
    with pytest.raises(UserError, match=r"expected a file, a data frame or pairs .*, not None$"):
        load_dataset({"train": None})


NO_ENSEMBLES = {
    "empty": (([], [], []), "members must be one or more classifiers, not none$"),
    "of something else": ((["a"], [1.0], ["a"]), "must be a TextClassifier, but they are: str$"),
    "more weights": ((1, [0.5, 0.5], ["a"]), "there are 1 members, but 2 weights$"),
    "no weights": ((1, [], ["a"]), "there are 1 members, but 0 weights$"),
    "more names": ((1, [1.0], ["a", "b"]), "there are 1 members, but 2 names$"),
    "half": ((1, [0.5], ["a"]), r"weights must be at least 0 and add up to 1, not \[0.5\]$"),
    "negative": ((2, [2.0, -1.0], ["a", "b"]), "weights must be at least 0 and add up to 1"),
    "NaN": ((1, [NAN], ["a"]), "weights must be at least 0 and add up to 1"),
    "average": ((1, [1.0], ["a"], "votes"), "average must be one of probabilities, logits, not"),
}  # fmt: skip


@pytest.mark.parametrize("case", NO_ENSEMBLES)
def test_ensembles_that_are_none(classifier, case):
    (members, *rest), message = NO_ENSEMBLES[case]
    with pytest.raises(UserError, match=message):
        Ensemble([classifier] * members if isinstance(members, int) else members, *rest)


NO_CLASSIFIERS = {
    "vocabulary": ({"vocabulary": ["<pad>", "<unk>"]}, "^vocabulary must be a Vocabulary, not a list$"),
    "labels text": ({"label_names": "ab"}, "^label_names must be a list, not 'ab'$"),
    "a label twice": ({"label_names": ["a", "a"]}, "^label_names must be different from one another"),
    "one label": ({"label_names": ["a"]}, "num_classes is 1; allowed: an integer of at least 2$"),
    "hyper-parameters": ({"hyper_parameters": [1]}, r"^hyper_parameters must be a mapping, not \[1\]$"),
    "beyond integers": ({"hyper_parameters": {"buckets": 10**30}}, "^fasttext: buckets must be an integer of at most 64 bits"),
}  # fmt: skip


@pytest.mark.parametrize("case", NO_CLASSIFIERS)
def test_classifiers_that_are_none(case):
    change, message = NO_CLASSIFIERS[case]
    given = {
        "model_name": "fasttext",
        "hyper_parameters": {},
        "vocabulary": Vocabulary(["<pad>", "<unk>"]),
        "label_names": ["a", "b"],
    }
    with pytest.raises(UserError, match=message):
        TextClassifier.create(**given | change)


def test_a_copy_is_a_classifier_of_its_own(classifier):
    for twin in (copy.copy(classifier), copy.deepcopy(classifier)):
        assert twin.predict(ASKED) == classifier.predict(ASKED)
        twin.model.output.bias.data.fill_(1e6)
        assert twin.predict_proba(ASKED)[0, 0] != classifier.predict_proba(ASKED)[0, 0]


NO_LABELS = {
    "a string": ("ab", "^labels must be a list of labels, not a single one, 'ab'"),
    "None": (None, "^labels must be a list or a column of labels, not None$"),
    "None inside": (["x", None], r"^labels\[1\] is None: every label must be a string that is not"),
    "NaN inside": ([1.0, NAN], r"^labels\[1\] is nan: every label"),
    "blank": (["x", " "], r"^labels\[1\] is ' ': every label"),
    "fractions": ([0.5, 1.0], r"^labels\[0\] is 0.5: .* \(not a continuous one\)$"),
    "several, one blank": ([["x", " "], ["x"]], r"^labels\[0\]\[1\] is ' ': every label"),
    "several of several": ([["x"], ["x", ["y"]]], r"^labels\[1\]\[1\] is \['y'\]: every label"),
    "columns": (np.eye(2, dtype=int) * 2, r"^labels must be one column of labels, or several that hold 0 and 1, not of shape \(2, 2\) with 2 in it$"),
    "a cube": (np.zeros((2, 2, 2), int), r"^labels must be one column of labels, not of shape \(2, 2, 2\)$"),
    "pandas and NumPy: not a time": ([np.datetime64("2020"), np.datetime64("NaT")], r"^labels\[0\] is .*: every label"),
    "two numbers": ([1, 1.0], r"^labels\[1\] is 1.0, but labels\[0\] is 1: all labels must be of one"),
    "NumPy NaN": (np.array([1.0, NAN]), r"^labels\[1\] is nan: every label"),
    "two types": (["1", 1], r"^labels\[1\] is 1, but labels\[0\] is '1': all labels must be of one"),
    "bool and integer": ([1, True], r"^labels\[1\] is True, but labels\[0\] is 1: all"),
    "half a character": (["a", "b\ud800"], r"^labels\[1\] is 'b\\ud800': character 1 is half of a"),
    "long": (["a", "b" * 1001], r"^labels\[1\] has 1,001 characters; a label may have 1,000$"),
    "too few": (["a"], "^texts and labels must be equally long, not 2 and 1$"),
    "too many": (["a", "b", "a"], "^texts and labels must be equally long, not 2 and 3$"),
    "one class": (["a", "a"], "^the texts: only one class, 'a'; a classifier needs at least two"),
}  # fmt: skip


@pytest.mark.parametrize("case", NO_LABELS)
def test_what_is_no_label_is_told_with_its_place(case):
    given, message = NO_LABELS[case]
    with pytest.raises(UserError, match=message) as told:
        TextClassifier.train(["one", "two"], given)
    assert "\n" not in str(told.value)


OTHERS = {
    "nothing": ({"texts": [], "labels": []}, "^texts is empty: there is nothing to learn from$"),
    "model": ({"model": "bert"}, "^model must be one of fasttext, textcnn"),
    "model of another type": ({"model": ["fasttext"]}, r"^model must be one of .*, not \['fasttext'\]$"),
    "setting": ({"epoch": 3}, r"^TextClassifier.train has no setting 'epoch'; .* did you mean 'epochs'\?$"),
    "of files": ({"text_column": "a"}, "^TextClassifier.train has no setting 'text_column'"),
    "value": ({"epochs": 0}, "^epochs must be at least 1 or None, not 0$"),
    "value of reading": ({"min_freq": 0}, "^min_freq must be at least 1 or None, not 0$"),
    "model's": ({"model_settings": {"bucket": 1}}, "fasttext has no setting 'bucket'"),
    "dev": ({"dev": ["x"]}, r"^dev must be a pair \(texts, labels\), not \['x'\]$"),
    "dev text": ({"dev": ([None], ["a"])}, r"^dev texts\[0\] is None"),
    "dev label": ({"dev": (["x"], ["c"])}, r"^dev labels\[0\] is 'c', which does not occur in labels$"),
    "dev length": ({"dev": (["x"], [])}, "^dev texts and dev labels must be equally long, not 1 and 0$"),
    "empty dev": ({"dev": ([], [])}, "^dev texts is empty"),
}  # fmt: skip


@pytest.mark.parametrize("case", OTHERS)
def test_other_arguments_are_named_too(case):
    given, message = OTHERS[case]
    with pytest.raises(UserError, match=message):
        TextClassifier.train(**{"texts": ["x", "y"] * 9, "labels": ["a", "b"] * 9} | given)
