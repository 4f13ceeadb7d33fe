"""Folders that are damaged, foreign or made to harm: one line each, at once, and nothing is run."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from dlnotes.data.tokenization import MARKS
from dlnotes.data.vocabulary import Vocabulary
from dlnotes.errors import UserError
from dlnotes.models import MODELS, TRANSLATORS
from dlnotes.training.classifier import Ensemble, TextClassifier, default_tokenizer
from dlnotes.training.translation import Translator
from dlnotes.training.weights import _Sketching
from editing import edited
from small import SMALL

WORDS = ["<pad>", "<unk>", "goal", "court", "web"]
LABELS = ["law", "sport", "tech"]


def made(model="textcnn", labels=LABELS, **settings):
    torch.manual_seed(0)
    tokens = [*WORDS[:2], *MARKS.get(default_tokenizer(model), ()), *WORDS[2:]]
    return TextClassifier.create(
        model, SMALL[model] | settings, Vocabulary(tokens), labels,
        tokenizer=default_tokenizer(model),
    )  # fmt: skip


def translator(model="seq2seq"):
    torch.manual_seed(0)
    hyper = {
        "seq2seq": {"embedding_dim": 4, "hidden_size": 4, "maxout_size": 4},
        "transformer": {
            "embedding_dim": 4,
            "num_heads": 2,
            "num_layers": 1,
            "feedforward_dim": 4,
        },
    }
    target = Vocabulary(["<pad>", "<unk>", "<s>", "</s>", "ball"])
    return Translator.create(model, hyper[model], Vocabulary(WORDS), target)


@pytest.fixture
def folder(tmp_path):
    made().save(tmp_path / "one")
    return tmp_path / "one"


@pytest.mark.parametrize("model", MODELS)
def test_every_model_is_what_it_was(model, tmp_path):
    before = made(model)
    before.save(tmp_path)
    after = TextClassifier.load(tmp_path)
    assert before.model.state_dict().keys() == after.model.state_dict().keys()
    for name, weight in before.model.state_dict().items():
        assert torch.equal(weight, after.model.state_dict()[name])
    assert not after.model.training
    assert all(p.device.type == "cpu" for p in after.model.parameters())


def test_a_tree_of_classes_is_what_it_was(tmp_path):
    before = made("fasttext", output="hierarchical", class_counts=(3, 1, 1))
    before.save(tmp_path)
    after = TextClassifier.load(tmp_path)
    before.model.eval()
    assert torch.equal(before.probabilities(["goal"]), after.probabilities(["goal"]))


@pytest.mark.parametrize("model", TRANSLATORS)
def test_every_translator_is_what_it_was(model, tmp_path):
    before = translator(model)
    before.save(tmp_path)
    after = Translator.load(tmp_path)
    for name, weight in before.model.state_dict().items():
        assert torch.equal(weight, after.model.state_dict()[name])


def refused(load, folder, message):
    """What is told, in one short line."""
    with pytest.raises(UserError, match=message) as told:
        load(folder)
    assert torch.is_grad_enabled()
    assert "\n" not in str(told.value)
    assert len(str(told.value)) < 500 + len(str(folder))


FIELDS = {
    "model a list": ({"model": ["textcnn"]}, r"config.json: model must be one of fasttext, .*, not \['textcnn'\]$"),
    "model null": ({"model": None}, "config.json: model must be one of .*, not None$"),
    "model unknown": ({"model": "os.system"}, "config.json: model must be one of .*, not 'os.system'$"),
    "model of marks": ({"model": "han"}, "config.json: han reads sentences"),
    "tokenizer a list": ({"tokenizer": []}, r"config.json: tokenizer must be one of .*, not \[\]$"),
    "tokenizer a number": ({"tokenizer": 3}, "config.json: tokenizer must be one of .*, not 3$"),
    "max_tokens text": ({"max_tokens": "x"}, "config.json: max_tokens must be an integer .* or None, not 'x'$"),
    "max_tokens float": ({"max_tokens": 1e30}, r"config.json: max_tokens must be .*, not 1e\+30$"),
    "max_tokens zero": ({"max_tokens": 0}, "config.json: max_tokens must be at least 1 .*, not 0$"),
    "max_tokens true": ({"max_tokens": True}, "config.json: max_tokens must be .*, not True$"),
    "hyper-parameters a list": ({"hyper_parameters": [1]}, r"config.json: hyper_parameters must be a mapping, not \[1\]$"),
    "hyper-parameters null": ({"hyper_parameters": None}, "config.json: hyper_parameters must be a mapping, not None$"),
    "hyper-parameter unknown": ({"hyper_parameters": {"cmd": "rm"}}, "config.json: textcnn has no setting 'cmd'"),
    "hyper-parameter of the data": ({"hyper_parameters": {"num_classes": 9}}, "config.json: textcnn has no setting 'num_classes'"),
    "hyper-parameter text": ({"hyper_parameters": {"maps": "4"}}, "config.json: textcnn: maps must be an integer, not '4'$"),
    "hyper-parameter a mapping": ({"hyper_parameters": {"maps": {}}}, "config.json: textcnn: maps must be an integer, not {}$"),
    "hyper-parameter negative": ({"hyper_parameters": {"maps": -4}}, "config.json: textcnn: maps is -4; allowed"),
    "widths nested": ({"hyper_parameters": {"widths": [[3]]}}, r"config.json: textcnn: widths must be a tuple .*, not"),
    "enormous": ({"hyper_parameters": {"maps": 10**9, "embedding_dim": 10**6}}, "model.safetensors is damaged or foreign: .* the shape .*, but .* in a textcnn of 3 labels and 5 tokens$"),
    "enormous beyond memory": ({"hyper_parameters": {"maps": 2**31 - 1, "embedding_dim": 2**31 - 1}}, "config.json: not enough memory for textcnn with .*maps=2147483647"),
    "enormous beyond integers": ({"hyper_parameters": {"maps": 10**30}}, "config.json: textcnn: maps must be an integer of at most 64 bits, not 10*$"),
    "enormous beyond integers inside": ({"hyper_parameters": {"widths": [2, 10**30]}}, r"config.json: textcnn: widths must be a tuple .*, not \(2, 10*\)$"),
    "many layers": ({"hyper_parameters": {"widths": [2] * 10**5}}, "foreign: it has weights for fewer layers than"),
}  # fmt: skip


@pytest.mark.parametrize("case", FIELDS)
def test_a_field_that_is_not_allowed_is_named(folder, case):
    fields, message = FIELDS[case]
    edited(folder / "config.json", **fields)
    refused(TextClassifier.load, folder, message)


@pytest.mark.parametrize("field", ["model", "hyper_parameters", "tokenizer", "max_tokens"])
def test_a_field_that_is_missing_is_named(folder, field):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    del config[field]
    path.write_text(json.dumps(config))
    refused(TextClassifier.load, folder, f"config.json is damaged: '{field}' is missing$")


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        ("textrnn", {"num_layers": 10**9}),
        ("transformer", {"num_layers": 10**9}),
        ("transformer", {"feedforward_dim": 10**9}),
        ("textrnn", {"hidden_size": 2**62}),
        ("dmn", {"passes": 10**9}),
        ("entnet", {"max_words": 10**9}),
        ("fasttext", {"buckets": 2**31 - 1}),
        ("fasttext", {"output": "hierarchical", "class_counts": [2**70, 1, 1]}),
    ],
)
def test_enormous_models_are_never_made(model, settings, tmp_path):
    made(model).save(tmp_path)
    edited(tmp_path / "config.json", hyper_parameters=SMALL[model] | settings)
    refused(
        TextClassifier.load, tmp_path, r"damaged or foreign|config.json: (dmn|fasttext|textrnn): "
    )


def test_as_many_passes_as_somebody_waits_for(tmp_path):
    made("dmn", variant="dmn").save(tmp_path)  # whose weights are the same in every pass
    edited(
        tmp_path / "config.json",
        hyper_parameters=SMALL["dmn"] | {"variant": "dmn", "passes": 10**9},
    )
    refused(TextClassifier.load, tmp_path, r"config.json: dmn: passes is 1000000000; allowed: at")


def test_wherever_the_making_stops_gradients_are_on_again():
    for tensors in range(20):
        meta, sketching = torch.device("meta"), _Sketching(tensors)
        with pytest.raises(Exception, match="fewer layers than"), meta, sketching:
            made("han")
        assert torch.is_grad_enabled()


JSON = {
    "empty": (b"", "is damaged: Expecting value"),
    "cut": (b'{"format": ', "is damaged: Expecting value"),
    "text": (b'"x"', "does not say"),
    "not UTF-8": (b'{"\xff": 1}', "is damaged: 'utf-8' codec"),
    "NaN": (b'{"max_tokens": NaN}', "is damaged: NaN is not a finite number$"),
    "infinity": (b'{"max_tokens": -Infinity}', "is damaged: -Infinity is not a finite number$"),
    "infinity in digits": (b'{"max_tokens": 1e999}', "is damaged: 1e999 is not a finite number$"),
    "many digits": (b'{"max_tokens": ' + b"9" * 5000 + b"}", "is damaged: it has an integer of 5,000 digits$"),
    "twice": (b'{"model": "han", "model": "rcnn"}', "is damaged: it has 'model' twice$"),
    "deep": (b"[" * 200_000, "is damaged: it is nested too deeply$"),
    "half a character": (b'{"model": ["\\ud800"]}', "is damaged: it has half of a surrogate pair$"),
    "half a character in a name": (b'{"\\ud800": 1}', "is damaged: it has half of a surrogate pair$"),
    "deeper than people write": (b"[" * 200 + b"]" * 200, "is damaged: it is nested too deeply$"),
    "many values": (b"[" + b"[]," * 2**23 + b"[]]", "is damaged: it has more than 8,388,608 values$"),
    "NUL": (b"\0" * 9, "is damaged: Expecting value"),
}  # fmt: skip


@pytest.mark.parametrize("name", ["config.json", "labels.json"])
@pytest.mark.parametrize("case", JSON)
def test_what_is_no_json_is_damaged(folder, case, name):
    content, message = JSON[case]
    (folder / name).write_bytes(content)
    if name == "labels.json" and case == "text":
        message = "labels must be a list"
    refused(TextClassifier.load, folder, f"{name} {message}|{name}: {message}")


def test_a_byte_order_mark_is_no_damage(folder):
    for name in ("config.json", "labels.json", "vocabulary.txt"):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(b"\xef\xbb\xbf" + content.replace(b"\n", b"\r\n"))
    assert TextClassifier.load(folder).label_names == LABELS


def test_a_file_without_end_is_not_read(folder):
    with (folder / "config.json").open("wb") as file:
        file.truncate(1 << 40)  # takes no room on the disk
    refused(TextClassifier.load, folder, "config.json cannot be read: it has more than 134,217,728")
    made().save(folder)
    with (folder / "vocabulary.txt").open("ab") as file:
        file.truncate(1 << 40)
    refused(
        TextClassifier.load, folder, "vocabulary.txt cannot be read: it has more than 1,073,741,"
    )


def device(path):
    path.symlink_to("/dev/zero")


def to_itself(path):
    path.symlink_to(path.name)


def dangling(path):
    path.symlink_to("nowhere")


KINDS = {
    "pipe": (os.mkfifo, "{} cannot be read: it is a pipe or a device$"),
    "device": (device, "{} cannot be read: it is a pipe or a device$"),
    "folder": (os.mkdir, "{} cannot be read: Is a directory$"),
    "link to itself": (to_itself, "{} cannot be read: Too many levels of symbolic links$"),
    "dangling link": (dangling, " has no {}"),
}


@pytest.mark.parametrize(
    "name", ["config.json", "labels.json", "vocabulary.txt", "model.safetensors"]
)
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_file_is_not_opened(folder, kind, name):
    make, message = KINDS[kind]
    (folder / name).unlink()
    make(folder / name)
    refused(TextClassifier.load, folder, message.format(name))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_told(folder):
    folder.chmod(0)
    try:
        refused(TextClassifier.load, folder, "config.json cannot be read: Permission denied$")
    finally:
        folder.chmod(0o700)


LABEL_FILES = {
    "text": ("ab", "labels must be a list of labels, not a single one, 'ab'"),
    "null": (None, "labels must be a list"),
    "a mapping": ({"a": 1}, "labels must be a list"),
    "null inside": (["a", None, "c"], r"labels\[1\] is None: every label must be"),
    "nested": (["a", ["b"], "c"], r"labels\[1\] is \['b'\]: every label must be"),
    "twice": (["a", "b", "a"], "each label must occur once, but 'a' occurs twice$"),
    "false twice": ([False, True, False], "each label must occur once, but False occurs twice$"),
    "two types": (["1", 1, "2"], r"labels\[1\] is 1, but labels\[0\] is '1'"),
    "one": (["a"], r"labels must be two or more, not \['a'\]$"),
    "none": ([], r"labels must be two or more, not \[\]$"),
    "blank": (["a", " ", "c"], r"labels\[1\] is ' ': every label must be"),
    "long": (["a", "b", "x" * 1001], r"labels\[2\] has 1,001 characters; a label may have 1,000$"),
    "fraction": ([0.5, 1.0, 2.0], r"labels\[0\] is 0.5: every label"),
}  # fmt: skip


@pytest.mark.parametrize("case", LABEL_FILES)
def test_labels_are_looked_at(folder, case):
    labels, message = LABEL_FILES[case]
    (folder / "labels.json").write_text(json.dumps(labels))
    refused(TextClassifier.load, folder, f"labels.json: {message}")


@pytest.mark.parametrize("labels", [["a", "b"], ["a", "b", "c", "d"]])
def test_as_many_labels_as_the_weights_have(folder, labels):
    (folder / "labels.json").write_text(json.dumps(labels))
    refused(TextClassifier.load, folder, f"output.bias has the shape .* in a textcnn of {len(labels)} labels")  # fmt: skip


def test_a_long_label_is_no_damage(tmp_path):
    made(labels=["x" * 1000, "b", "c"]).save(tmp_path)
    assert TextClassifier.load(tmp_path).label_names[0] == "x" * 1000


VOCABULARIES = {
    "empty": (b"", "vocabulary.txt: not a vocabulary: tokens must begin with"),
    "without the specials": (b"goal\ncourt", "not a vocabulary: tokens must begin with"),
    "a token twice": (b"<pad>\n<unk>\na\na\nb", "not a vocabulary: tokens must be distinct, but 'a'"),
    "not UTF-8": (b"<pad>\n<unk>\n\xff", "vocabulary.txt: not a vocabulary: not UTF-8"),
    "UTF-16": ("<pad>\n<unk>".encode("utf-16"), "vocabulary.txt: not a vocabulary: not UTF-8"),
    "shorter": (b"<pad>\n<unk>\na", r"vectors.weight has the shape \[5, 8\], but \[3, 8\] in a textcnn of 3 labels and 3 tokens$"),
    "longer": ("\n".join([*WORDS, "a"]).encode(), "in a textcnn of 3 labels and 6 tokens$"),
    "line at the end": ("\n".join([*WORDS, ""]).encode(), "in a textcnn of 3 labels and 6 tokens$"),
}  # fmt: skip


@pytest.mark.parametrize("case", VOCABULARIES)
def test_vocabularies_are_looked_at(folder, case):
    content, message = VOCABULARIES[case]
    (folder / "vocabulary.txt").write_bytes(content)
    refused(TextClassifier.load, folder, message)


def changed(change):
    def spoil(path):
        weights = load_file(path)
        change(weights)
        save_file(weights, path)

    return spoil


def set_to(value):
    return changed(lambda w: w["output.bias"].fill_(value))


WEIGHT_FILES = {
    "empty": (lambda p: p.write_bytes(b""), "is damaged or foreign"),
    "cut": (lambda p: p.write_bytes(p.read_bytes()[:-1]), "is damaged or foreign"),
    "long header": (lambda p: p.write_bytes(b"\xff" * 8 + p.read_bytes()), "is damaged or foreign"),
    "a pickle": (lambda p: torch.save({"a": torch.ones(1)}, p), "is damaged or foreign"),
    "an extra tensor": (changed(lambda w: w.update(odd=torch.ones(1))), "it has 'odd', which a textcnn of 3 labels and 5 tokens does not have$"),
    "a missing tensor": (changed(lambda w: w.pop("output.bias")), "output.bias is missing, which a textcnn"),
    "another shape": (changed(lambda w: w.update({"output.bias": torch.ones(3, 1)})), r"output.bias has the shape \[3, 1\], but \[3\]"),
    "doubles": (changed(lambda w: w.update({"output.bias": torch.ones(3).double()})), "output.bias is of torch.float64, not of torch.float32"),
    "integers": (changed(lambda w: w.update({"output.bias": torch.ones(3).long()})), "output.bias is of torch.int64"),
    "NaN": (set_to(float("nan")), "model.safetensors cannot be used: output.bias holds NaN; train"),
    "infinity": (set_to(float("inf")), "model.safetensors cannot be used: output.bias holds an inf"),
    "nothing in it": (lambda p: save_file({}, p), "is damaged or foreign: .* is missing"),
}  # fmt: skip


@pytest.mark.parametrize("case", WEIGHT_FILES)
def test_weights_are_looked_at(folder, case):
    spoil, message = WEIGHT_FILES[case]
    spoil(folder / "model.safetensors")
    refused(TextClassifier.load, folder, message)


@pytest.mark.parametrize("name", ["config.json", "labels.json", "vocabulary.txt"])
def test_files_of_two_classifiers_do_not_go_together(folder, tmp_path, name):
    """What a reader would find while another classifier is being written into the folder."""
    other = made(labels=["a", "b", "c"], dropout=0.25)
    other.vocabulary = Vocabulary([*WORDS[:-1], "chip"])
    other.save(tmp_path / "other")
    shutil.copy(tmp_path / "other" / name, folder)
    refused(TextClassifier.load, folder, "model.safetensors is damaged or foreign: it was saved with other files")  # fmt: skip


def which(folder):
    """The one of two classifiers that is in a folder, or what is told of files of both."""
    try:
        found = TextClassifier.load(folder)
    except UserError as error:
        return str(error).split(": ", 1)[1][:33]
    assert found.labels == (["a", "b", "c"] if found.max_tokens else LABELS)
    return found.max_tokens


def test_who_reads_while_it_is_written_sees_one_or_the_other(folder, monkeypatch):
    other = made(labels=["a", "b", "c"])
    other.max_tokens = 9
    seen, replace = [which(folder)], Path.replace
    monkeypatch.setattr(
        Path, "replace", lambda *paths: [replace(*paths), seen.append(which(folder))]
    )
    other.save(folder)
    told = "it was saved with other files tha"
    assert seen == [None, told, told, told, 9]


@pytest.mark.parametrize("make", [made, translator])
def test_a_folder_outlives_what_cannot_be_saved(make, tmp_path):
    make().save(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    diverged = make()
    diverged.source_vocabulary = diverged.vocabulary = Vocabulary([*WORDS, "new"])
    with torch.no_grad():
        next(diverged.model.parameters()).fill_(float("nan"))
    with pytest.raises(UserError, match=r"model.safetensors is not written: .* holds NaN"):
        diverged.save(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_who_is_overtaken_while_reading_is_told(folder, monkeypatch):
    other, read = made(labels=["a", "b", "c"]), Vocabulary.load
    monkeypatch.setattr(
        Vocabulary, "load", lambda path, *most: [other.save(folder), read(path, *most)][1]
    )
    refused(TextClassifier.load, folder, "damaged or foreign: it was saved with other files")


def test_folders_of_older_versions_do_not_say_what_belongs_together(folder):
    path = folder / "model.safetensors"
    save_file(load_file(path), path)  # without metadata
    assert TextClassifier.load(folder).label_names == LABELS


def test_a_configuration_may_be_formatted_and_have_more_fields(folder):
    made().save(folder)
    path = folder / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({"later": [1], **dict(reversed(config.items()))}, indent=3))
    assert TextClassifier.load(folder).label_names == LABELS
    edited(path, hyper_parameters=config["hyper_parameters"] | {"dropout": 0.25})
    refused(TextClassifier.load, folder, "it was saved with other files")


# --- ensembles -----------------------------------------------------------------------------------


@pytest.fixture
def both(tmp_path):
    Ensemble([made(), made("fasttext")], [0.25, 0.75], ["a", "b"]).save(tmp_path / "both")
    return tmp_path / "both"


def member(**fields):
    return {"folder": "member-1", "name": "a", "weight": 1.0} | fields


ENSEMBLES = {
    "no members": ({"members": []}, "the weights of the members must add up to 1$"),
    "members a mapping": ({"members": {}}, "members must be a list, not {}$"),
    "members text": ({"members": "member-1"}, "members must be a list, not 'member-1'$"),
    "a member a number": ({"members": [3]}, r"config.json is damaged: it must hold a mapping, not 3 \(members\[0\]\)$"),
    "without a weight": ({"members": [{"folder": "member-1", "name": "a"}]}, r"'weight' is missing \(members\[0\]\)$"),
    "weight text": ({"members": [member(weight="1")]}, r"weight must be a finite number .*, not '1' \(members\[0\]\)$"),
    "weight true": ({"members": [member(weight=True)]}, "weight must be a finite number"),
    "weight negative": ({"members": [member(weight=-1)]}, "weight must be at least 0, not -1"),
    "weight huge": ({"members": [member(weight=1e300)]}, "must add up to 1$"),
    "name a list": ({"members": [member(name=["a"])]}, "name must be text, not"),
    "folder a list": ({"members": [member(folder=["a"])]}, "folder must be text, not"),
    "above": ({"members": [member(folder="../both")]}, r"must be a name of its own within .*, not '../both'"),
    "parent": ({"members": [member(folder="..")]}, "must be a name of its own"),
    "itself": ({"members": [member(folder=".")]}, "must be a name of its own"),
    "absolute": ({"members": [member(folder="/etc")]}, "must be a name of its own"),
    "NUL": ({"members": [member(folder="a\0b")]}, "must be a name of its own"),
    "twice": ({"members": [member(weight=0.5), member(weight=0.5)]}, r"must be a name of its own .*\(members\[1\]\)$"),
    "not there": ({"members": [member(folder="member-9")]}, "member-9 is not a trained classifier"),
    "average": ({"average": "votes"}, "average must be one of logits, probabilities|average must be one of probabilities, logits"),
    "average a list": ({"average": []}, "average must be one of"),
}  # fmt: skip


@pytest.mark.parametrize("case", ENSEMBLES)
def test_ensembles_are_looked_at(both, case):
    fields, message = ENSEMBLES[case]
    edited(both / "config.json", **fields)
    refused(TextClassifier.load, both, message)


def test_an_ensemble_of_itself_has_an_end(both):
    shutil.rmtree(both / "member-1")
    (both / "member-1").symlink_to(".")
    refused(TextClassifier.load, both, "member-1/config.json does not say 'dlnotes text classifier")
    (both / "member-1").unlink()
    (both / "member-1").symlink_to("member-1")
    refused(TextClassifier.load, both, "member-1/config.json cannot be read: Too many levels")


def test_members_with_other_labels_do_not_go_together(both):
    made("fasttext", labels=["a", "b", "c"]).save(both / "member-2")
    refused(
        TextClassifier.load, both, "must have the same labels, but a has law, sport, tech and b"
    )


def test_members_with_the_same_labels_in_another_order(both):
    made("fasttext", labels=["tech", "sport", "law"]).save(both / "member-2")
    refused(TextClassifier.load, both, "b has the labels of a in another order, .* the same run")


# --- translators ---------------------------------------------------------------------------------


@pytest.fixture
def parrot(tmp_path):
    translator().save(tmp_path / "parrot")
    return tmp_path / "parrot"


def test_the_configuration_of_a_translator_may_have_more_fields(parrot):
    edited(parrot / "config.json", later=[1])
    assert Translator.load(parrot).model_name == "seq2seq"
    edited(parrot / "config.json", tokenizer="characters")
    refused(Translator.load, parrot, "it was saved with other files")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model": []}, "config.json: model must be one of seq2seq, transformer, not"),
        ({"model": "textcnn"}, "config.json: model must be one of seq2seq, transformer, not"),
        ({"tokenizer": ["words"]}, "config.json: tokenizer must be one of"),
        ({"hyper_parameters": 3}, "config.json: hyper_parameters must be a mapping, not 3$"),
        ({"hyper_parameters": {"hidden_size": 10**9}}, "config.json: not enough memory for seq2seq with "),
        ({"format": "dlnotes text classifier 1"}, "does not say 'dlnotes translator 1'"),
    ],
)  # fmt: skip
def test_translators_are_looked_at(parrot, fields, message):
    edited(parrot / "config.json", **fields)
    refused(Translator.load, parrot, message)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["config.json", "source.txt", "model.safetensors"])
def test_what_is_no_file_is_not_opened_for_a_translator(parrot, kind, name):
    make, message = KINDS[kind]
    (parrot / name).unlink()
    make(parrot / name)
    refused(Translator.load, parrot, message.format(name))


def test_vocabularies_of_a_translator_are_looked_at(parrot):
    (parrot / "target.txt").write_text("\n".join(WORDS))
    refused(Translator.load, parrot, r"target.txt: \('<s>', '</s>'\) must follow the specials$")
    (parrot / "target.txt").write_text("<pad>\n<unk>\n<s>\n</s>\nbat")
    refused(Translator.load, parrot, "it was saved with other files")
