"""Run folders that are damaged or made to harm, as the commands meet them: one line, exit code 2."""

import json
import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_bad_input import told

from dlnotes.errors import UserError
from dlnotes.training.ensemble import load_members
from editing import edited

OLD = Path(__file__).parent / "old_runs"
DATA = OLD / "data"


@pytest.fixture
def runs(tmp_path):
    for name in ("fasttext", "textcnn", "ensemble", "translator"):
        shutil.copytree(OLD / name, tmp_path / name)
    return tmp_path


def hollow(folder):
    for name in ("labels.json", "vocabulary.txt", "model.safetensors"):
        (folder / name).unlink()


DAMAGE = {
    "field": (lambda f: edited(f / "config.json", max_tokens="x"), "config.json: max_tokens must be"),
    "pipe": (lambda f: [(f / "labels.json").unlink(), os.mkfifo(f / "labels.json")], "labels.json cannot be read"),
    "enormous": (lambda f: edited(f / "config.json", hyper_parameters={"maps": 10**9}), "damaged or foreign"),
    "hollow": (hollow, "has no labels.json"),
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_classifier_is_told(script, runs, case):
    damage, message = DAMAGE[case]
    damage(runs / "textcnn" / "classifier")
    test = DATA / "test.tsv"
    for arguments in (
        ("predict", runs / "textcnn", "some words"),
        ("evaluate", runs / "textcnn", "--test", test),
        ("ensemble", runs / "textcnn", "--train", DATA / "train.tsv", "--out", runs / "new"),
    ):
        assert message in told(script(*arguments))
    assert not (runs / "new").exists()
    damage(runs / "ensemble" / "classifier" / "member-2")
    assert message in told(script("predict", runs / "ensemble", "some words"))


def test_a_damaged_translator_is_told(script, runs):
    edited(runs / "translator" / "translator" / "config.json", tokenizer=[])
    line = told(script("translate", "translate", runs / "translator", "ein"))
    assert "config.json: tokenizer must be one of" in line


def test_scores_that_no_number_holds_are_no_figures(script, runs):
    path = runs / "fasttext" / "classifier" / "model.safetensors"
    weights = load_file(path)
    weights["vectors.weight"].fill_(1.7e19)
    weights["output.weight"].fill_(1.7e18)[0].neg_()
    save_file(weights, path)
    out = runs / "figures.json"
    found = script("evaluate", runs / "fasttext", "--test", DATA / "test.tsv", "--json", out)
    assert "the loss is infinite" in told(found)
    assert not out.exists()


RECORDS = {
    "a list": ("[]", "metrics.json is"),
    "deep": ('{"settings": ' * 500 + "1" + "}" * 500, "metrics.json is damaged: it is nested too deeply"),
    "half a character": ('{"settings": {"model": "\\ud800"}}', "metrics.json is damaged: it has half of a"),
    "twice": ('{"settings": {}, "settings": {}}', "metrics.json is damaged: it has 'settings' twice"),
}  # fmt: skip


@pytest.mark.parametrize("case", RECORDS)
def test_records_that_are_none(script, runs, case):
    content, message = RECORDS[case]
    (runs / "textcnn" / "metrics.json").write_text(content)
    listed = script("runs", runs, "--json", runs / "all.json")
    assert listed.code == 0, listed.err
    assert f"textcnn: {message}" in listed.out
    json.loads((runs / "all.json").read_text(), parse_constant=pytest.fail)
    assert "metrics.json" in told(script("evaluate", runs / "textcnn"))
    data = ["--train", DATA / "train.tsv", "--out", runs / "new"]
    assert "metrics.json" in told(script("ensemble", runs / "textcnn", *data))
    assert "metrics.json" in told(script("ensemble", runs / "textcnn", "--out", runs / "new"))


FIELDS = {
    "no settings": ({"settings": None}, "metrics.json: settings must be a mapping, not None"),
    "settings a list": ({"settings": []}, r"metrics.json: settings must be a mapping, not \[\]"),
    "no data": ({"data": 3}, "metrics.json: data must be a mapping, not 3"),
    "data without train": ({"data": {}}, "metrics.json is damaged: 'train' is missing"),
    "data a number": ({"data": {"train": 3}}, "metrics.json: train must be text, not 3"),
    "no seed": ({"settings": {}}, "metrics.json is damaged: 'seed' is missing"),
    "seed text": ({"settings": {"seed": "1"}}, "metrics.json: seed must be an integer"),
    "share text": ({"settings": {"seed": 1, "dev_fraction": "x"}}, "metrics.json: dev_fraction must be"),
    "tokenizer": ({"settings": {"seed": 1, "tokenizer": ["x"]}}, "metrics.json: tokenizer must be"),
}  # fmt: skip


@pytest.mark.parametrize("case", FIELDS)
def test_records_that_say_too_little_for_an_ensemble(runs, case):
    fields, message = FIELDS[case]
    edited(runs / "textcnn" / "metrics.json", **fields)
    with pytest.raises(UserError, match=message) as told:
        load_members([runs / "textcnn"], {"train": DATA / "train.tsv"})
    assert "\n" not in str(told.value)


class Evil:
    def __reduce__(self):
        return (Path.touch, (Path("was_run"),))


def shares_memory(path):
    torch.save(torch.ones(1, 1).expand(10**6, 10**6), path)


SCORES = {
    "code": lambda path: path.write_bytes(pickle.dumps(Evil())),
    "code in torch's format": lambda path: torch.save(Evil(), path),
    "a list": lambda path: torch.save([1.0], path),
    "another shape": lambda path: torch.save(torch.ones(3, 3), path),
    "enormous": shares_memory,
    "integers": lambda path: torch.save(torch.ones(24, 3, dtype=torch.int64), path),
    "empty": lambda path: path.write_bytes(b""),
    "a pipe": os.mkfifo,
    "a folder": os.mkdir,
    "missing": lambda path: None,
}


@pytest.mark.parametrize("case", SCORES)
def test_scores_that_are_none(runs, case, monkeypatch):
    monkeypatch.chdir(runs)
    run = runs / "fasttext"
    assert json.loads((run / "metrics.json").read_text())["settings"]["refit"]
    (run / "dev_scores.pt").unlink()
    SCORES[case](run / "dev_scores.pt")
    with pytest.raises(UserError, match=r"dev_scores.pt(, which| does not hold the| cannot be)"):
        load_members([run], {"train": DATA / "train.tsv"})
    assert not (runs / "was_run").exists()


def test_the_terminal_obeys_no_record(script, runs):
    path = runs / "textcnn" / "metrics.json"
    record = json.loads(path.read_text())
    record["settings"] |= {"model": "\x1b[2J\nevil", "corpus": "a\u202eb", "\x1b]0;x\x07": 1}
    path.write_text(json.dumps(record))
    (runs / "od\x1bd").mkdir()
    (runs / "od\x1bd" / "metrics.json").write_text("[]")
    both = (script("runs", runs), script("runs", runs / "textcnn", runs / "fasttext"))
    for found in both:
        assert found.code == 0, found.err
        assert not {"\x1b", "\u202e", "\x07"} & set(found.out)
    assert r"\x1b[2J\nevil" in both[0].out
    assert r"od\x1bd: metrics.json is not a record" in both[0].out
