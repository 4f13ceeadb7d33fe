"""dlnotes runs: every kind of folder is listed or explained, never a traceback."""

import json
import os
import shutil
from pathlib import Path

import pytest
from test_bad_input import told

OLD = Path(__file__).parent / "old_runs"


def listed(result):
    """Cells of the table's rows, and the lines below it."""
    assert result.code == 0, result.err
    lines = [line for line in result.out.splitlines() if line.strip()]
    table = [line.split() for line in lines if ": " not in line]
    return table, [line for line in lines if ": " in line]


@pytest.fixture
def folder(tmp_path):
    """Runs of all kinds, some of them below another folder, and folders that are none."""
    for name in ("textcnn", "ensemble", "translator", "interrupted"):
        shutil.copytree(OLD / name, tmp_path / name)
    shutil.copytree(OLD / "fasttext", tmp_path / "more" / "[b]fasttext[/b]")
    shutil.copytree(OLD / "textcnn", tmp_path / "textcnn" / "within")  # a run's own affair
    (tmp_path / "more" / "none").mkdir()
    (tmp_path / "more" / "none" / "notes.txt").write_text("metrics.json")
    for i, name in enumerate(["textcnn", "ensemble", "translator", "more/[b]fasttext[/b]"]):
        os.utime(tmp_path / name / "metrics.json", (1.6e9 + i, 1.6e9 + i))
    return tmp_path


def test_runs_of_all_kinds(script, folder):
    table, problems = listed(script("runs", folder))
    head, _, *rows = table
    assert " ".join(head) == "name model corpus dev accuracy test accuracy macro-F1 BLEU epochs seconds date"  # fmt: skip
    assert {row[0]: row[1:-2] for row in rows} == {
        "ensemble": ["ensemble", "train", "1.0000", "1.0000", "1.0000", "–", "–", "–"],
        "more/[b]fasttext[/b]": [
            "fasttext",
            "train",
            "0.6250",
            "0.6333",
            "0.3176",
            "–",
            "3",
            "0.0",
        ],
        "textcnn": ["textcnn", "train", "1.0000", "1.0000", "1.0000", "–", "3", "0.0"],
        "translator": ["seq2seq", "de→en", "–", "–", "–", "0.0", "3", "0.0"],
    }
    assert [row[0] for row in rows] == sorted(row[0] for row in rows)
    assert problems == ["interrupted: not finished: go on with --resume"]


@pytest.mark.parametrize(
    ("field", "first", "last"),
    [
        ("test_accuracy", ["ensemble", "textcnn"], "translator"),
        ("macro-f1", ["ensemble", "textcnn"], "translator"),
        ("bleu", ["translator"], "textcnn"),
        ("date", ["more/[b]fasttext[/b]", "translator"], "textcnn"),
        ("model", ["ensemble", "more/[b]fasttext[/b]"], "textcnn"),
    ],
)
def test_sorting(script, folder, field, first, last):
    table, _ = listed(script("runs", folder, "--sort", field))
    names = [row[0] for row in table[2:]]
    assert names[: len(first)] == first
    assert names[-1] == last


def damage(text):
    return lambda run: (run / "metrics.json").write_text(text)


DAMAGED = {
    "in pieces": (damage('{"settings": '), "metrics.json is damaged: Expecting value"),
    "not UTF-8": (lambda run: (run / "metrics.json").write_bytes(b'{"\xff": 1}'), "metrics.json is damaged: 'utf-8'"),
    "empty": (damage(""), "metrics.json is damaged"),
    "deep": (damage("[" * 100_000), "metrics.json is damaged"),
    "a list": (damage("[1]"), "metrics.json is not a record of a training: it has no settings"),
    "settings of another kind": (damage('{"settings": 3}'), "metrics.json is not a record of a training"),
    "a folder": (lambda run: [(run / "metrics.json").unlink(), (run / "metrics.json").mkdir()], "metrics.json cannot be read: Is a directory"),
    "no record": (lambda run: (run / "metrics.json").unlink(), "no metrics.json"),
    "no classifier": (lambda run: shutil.rmtree(run / "classifier"), "damaged: it has neither a classifier nor a translator"),
    "a dangling link": (lambda run: [(run / "metrics.json").unlink(), (run / "metrics.json").symlink_to("no")], "no metrics.json"),
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGED.values(), ids=DAMAGED)
def test_damaged_runs_are_listed_with_the_reason(script, folder, case):
    spoil, reason = case
    spoil(folder / "textcnn")
    table, problems = listed(script("runs", folder))
    assert len(table) == 2 + 3
    assert any(line.startswith(f"textcnn: {reason}") for line in problems), problems


def test_figures_of_another_kind_are_left_out(script, folder):
    path = folder / "textcnn" / "metrics.json"
    record = json.loads(path.read_text())
    record |= {
        "dev": 3,
        "test": {"accuracy": "high", "macro_f1": None},
        "history": {},
        "seconds": True,
    }
    record["settings"] |= {"model": ["x"], "corpus": 7}
    path.write_text(json.dumps(record))
    table, _ = listed(script("runs", folder / "textcnn"))
    assert table[2][1:-2] == ["–"] * 7


def test_json_has_everything(script, folder, tmp_path):
    out = tmp_path / "all.json"
    assert script("runs", folder, "--json", out).code == 0
    found = {row["name"]: row for row in json.loads(out.read_text())}
    assert found["interrupted"]["problem"] == "not finished: go on with --resume"
    record = json.loads((folder / "textcnn" / "metrics.json").read_text())
    assert found["textcnn"]["settings"] == record["settings"]
    assert found["textcnn"]["test_accuracy"] == record["test"]["accuracy"]
    assert found["textcnn"]["date"].startswith("2020-09-13")
    assert len(found) == 5


def test_comparing(script, folder):
    a, b = folder / "textcnn", shutil.copytree(folder / "textcnn", folder / "other")
    same = script("runs", a, b)
    assert "All settings are the same." in same.out
    path = b / "metrics.json"
    record = json.loads(path.read_text())
    record["settings"]["model_settings"]["maps"] = 9
    record["settings"]["lr"] = None
    del record["settings"]["seed"]
    path.write_text(json.dumps(record))
    result = script("runs", b, a)
    table, _ = listed(result)
    cells = {tuple(row[:-2]): row[-2:] for row in table}
    assert cells[("model_settings.maps",)] == ["9", "3"]
    assert cells[("lr",)] == ["None", "0.05"]
    assert cells[("seed",)] == ["–", "1"]
    assert cells[("test", "accuracy")] == ["1.0000", "1.0000"]
    assert not {"optimizer", "epochs 3", "corpus", "model_settings.widths"} & {
        " ".join(c) for c in cells
    }
    unfinished = script("runs", a, folder / "interrupted")
    assert "All settings" not in unfinished.out  # there is one alone
    assert f"{folder / 'interrupted'}: not finished" in unfinished.out


def test_mistakes(script, folder, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    assert "no is not a folder" in told(script("runs", tmp_path / "no"))
    assert "there are no runs below" in told(script("runs", tmp_path / "empty"))
    assert "--sort must be one of name, model" in told(script("runs", folder, "--sort", "loss"))
    assert "empty is not a run folder; to compare" in told(script("runs", folder / "textcnn", tmp_path / "empty"))  # fmt: skip
    monkeypatch.chdir(tmp_path / "empty")
    assert "runs is not a folder" in told(script("runs"))


def test_figures_that_are_no_numbers_are_none(script, tmp_path):
    """Python writes NaN and Infinity into JSON, which is none then."""
    for name, figure in {"a": 0.5, "b": float("nan"), "c": float("inf"), "d": 0.25}.items():
        shutil.copytree(OLD / "textcnn", tmp_path / name)
        file = tmp_path / name / "metrics.json"
        record = json.loads(file.read_text())
        record["test"]["accuracy"] = figure
        file.write_text(json.dumps(record))
    out = tmp_path / "runs.json"
    table, _ = listed(script("runs", tmp_path, "--sort", "test-accuracy", "--json", out))
    assert [row[0] for row in table[2:]] == ["a", "d", "b", "c"]
    read = json.loads(out.read_text(), parse_constant=pytest.fail)
    assert [row["test_accuracy"] for row in read] == [0.5, 0.25, None, None]
