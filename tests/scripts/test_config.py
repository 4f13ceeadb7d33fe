"""Every run writes a file that repeats it, and a command takes its options from such a file."""

import json
import os
import re
import sys
from pathlib import Path

import pytest
import yaml
from running import process
from test_bad_input import told

from dlnotes import cli
from dlnotes.commands import config

SMALL = ["--model", "textcnn", "--model-args", "embedding_dim=4", "maps=3", "widths=(2,3)"]
SETTINGS = [*SMALL, "--epochs", 2, "--lr", 0.02, "--batch-size", 0, "--optimizer-args", "betas=0.8,0.9", "--schedule", "linear", "--patience", 1, "--seed", 3, "--min-freq", 2, "--split-seed", 4, "--class-weights", "balanced"]  # fmt: skip


def record(folder):
    found = json.loads((folder / "metrics.json").read_text())
    history = [{k: v for k, v in row.items() if "per_second" not in k} for row in found["history"]]
    return found["settings"], history, found["test"]


@pytest.fixture
def run(script, files, tmp_path):
    out = tmp_path / "first"
    data = ["--train", files / "train.tsv", "--test", files / "test.tsv"]
    result = script("train", *data, *SETTINGS, "--out", out, "--device", "cpu")
    assert result.code == 0, result.err
    return out


def test_a_runs_file_repeats_it(script, run, tmp_path):
    result = script("train", "--config", run / "config.yaml", "--out", tmp_path / "second")
    assert result.code == 0, result.err
    assert record(tmp_path / "second") == record(run)
    said = yaml.safe_load((run / "config.yaml").read_text())
    assert (said["lr"], said["batch_size"], said["seed"]) == (0.02, 0, 3)
    assert said["model_settings"] == {"embedding_dim": 4, "maps": 3, "widths": "(2, 3)"}
    repeated = yaml.safe_load((tmp_path / "second" / "config.yaml").read_text())
    assert repeated == said


def test_the_command_line_wins(script, run, tmp_path):
    for i, order in enumerate(((0, 1), (1, 0))):
        parts = [[f"--config={run / 'config.yaml'}"], ["--epochs", 1, "--optimizer-args", "eps=1e-6"]]  # fmt: skip
        out = tmp_path / str(i)
        result = script("train", *parts[order[0]], *parts[order[1]], "--out", out)
        assert result.code == 0, result.err
        settings, history, _ = record(out)
        assert len(history) == settings["epochs"] == 1
        assert settings["optimizer_settings"] == {"eps": 1e-6}
        assert settings["lr"] == 0.02


def test_an_interrupted_run_has_it_too_and_goes_on_with_it(script, run, tmp_path):
    result = script("train", "--config", run / "config.yaml", "--out", run, "--resume")
    assert result.code == 0, result.err


def test_numbers_as_yaml_reads_them(script, files, tmp_path):
    """It takes 1e-3 for a text."""
    file = tmp_path / "c.yaml"
    file.write_text(
        f"train: {files / 'train.tsv'}\nmodel: textcnn\nlr: 2e-2\nepochs: 1\nrefit: no\namp: off\n"
        "model-settings: {embedding_dim: 4, maps: 3}\nvectors:\nclip_norm: ~\n"
    )
    result = script("train", "--config", file, "--out", tmp_path / "run")
    assert result.code == 0, result.err
    settings, *_ = json.loads((tmp_path / "run" / "metrics.json").read_text())["settings"], None
    assert settings["lr"] == 0.02
    assert (settings["refit"], settings["vectors"], settings["clip_norm"]) == (False, None, None)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("epoch: 3", "has no setting 'epoch'; .*; did you mean 'epochs'"),
        ("epochs: 0", "epochs must be at least 1, not 0"),
        ("resume: true", "has no setting 'resume'"),
        ("model_settings: 3", "model_settings must be a table, not 3"),
        ("lr: {a: 1}", "lr must be a finite number of at least 0, not {.a.: 1}"),
        ("- 1\n- 2", "must hold a table"),
        ("3: 4", "must hold a table"),
        ("a: b: c", "is not YAML"),
        ("optimizer_settings: {beta: 1}", "adam has no setting 'beta=1'"),
    ],
)
def test_mistakes_are_told_in_one_line(script, tmp_path, text, told):
    file = tmp_path / "c.yaml"
    file.write_text(text)
    result = script("train", "--config", file)
    assert result.code == 2
    assert result.out == ""
    (line,) = result.err.splitlines()
    assert re.search(told, line), line


def test_a_file_that_is_not_there(script, tmp_path):
    result = script("train", "--config", tmp_path / "none.yaml")
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "none.yaml cannot be read: No such file" in result.err


@pytest.mark.skipif(sys.platform == "win32", reason="devices of Unix")
@pytest.mark.parametrize("kind", ["a pipe", "an endless device"])
def test_a_pipe_or_a_device_is_not_read(tmp_path, kind):
    path = Path("/dev/zero")
    if kind == "a pipe":
        path = tmp_path / "config.yaml"
        os.mkfifo(path)
    with process("train", "--config", path) as started:  # so that the test need not wait forever
        try:
            out, err = started.communicate(timeout=60)
        finally:
            started.kill()
    assert (started.returncode, out) == (2, "")
    assert err == f"error: --config {path} cannot be read: it is a pipe or a device\n"


def test_a_large_file_is_not_read(script, tmp_path, monkeypatch):
    monkeypatch.setattr(config, "_MAX_BYTES", 20)
    path = tmp_path / "config.yaml"
    path.write_text("model: fasttext # long")
    assert "has more than 20 bytes" in told(script("train", "--config", path))
    path.write_text("model: nonsense")
    assert "--model must be one of" in told(script("train", "--config", path))


def test_a_type_that_does_not_fit_is_told(script, tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("epochs: many")
    result = script("train", "--config", file)
    assert result.code == 2
    assert "Traceback" not in result.err
    assert "epochs" in result.err


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("epochs: yes", "epochs must be an integer of at least 1, not True"),
        ("seed: null", "seed must be an integer of at least 0 and below .*, not None"),
        ("corpus: no", "corpus must be text, not False"),
        ("refit: 1", "refit must be True or False, not 1"),
        ('refit: "true"', "refit must be True or False, not 'true'"),
        ("lr: [0.1, 0.2]", r"lr must be a finite number of at least 0, not \[0.1, 0.2\]"),
        ('text_column: [text, "--refit"]', r"text_column must be the name or number of a column, not \['text'"),
        ("boost: 3", r"boost must be a tuple \(.*\), not \[3\]"),
        ("seed: 010", "seed must be an integer of at least 0 and below .*, not '010'"),
        ("seed: 1:30", "seed must be an integer of at least 0 and below .*, not '1:30'"),
        ("lr: 0.1\nlr: 0.2", "has lr twice"),
        ('train: ""', "train is empty; leave it out or give a value"),
        ("corpus: ''", "corpus is empty; leave it out or give a value"),
        ("dev-fraction: 0.1\ndev_fraction: 0.2", "has dev_fraction twice"),
        ("a: " + "[" * 3000, "is not YAML"),
        ("lr: " + "9" * 5000, "is not YAML|must be a finite number"),
    ],
)  # fmt: skip
def test_values_of_another_type_are_told_with_the_file(script, tmp_path, text, told):
    file = tmp_path / "c.yaml"
    file.write_text(text)
    result = script("train", "--config", file)
    assert (result.code, result.out) == (2, ""), result.err
    (line,) = result.err.splitlines()
    assert re.search(f"c.yaml.*({told})", line), line


def test_lists_are_for_tuples_and_numbers_for_columns(script, files, tmp_path):
    table = tmp_path / "-t.csv"
    table.write_text("".join(f"{line}\n".replace("\t", ",") for line in (files / "train.tsv").read_text().splitlines()))  # fmt: skip
    file = tmp_path / "c.yaml"
    file.write_text(
        f"train: {table}\nepochs: 1\nmodel: textcnn\nlabel_column: 0\ntext_column: 1\n"
        "model_settings: {embedding_dim: 4, maps: 2, widths: [2, 3]}\nout: runs/odd\n"
        "optimizer_settings: {betas: [0.8, 0.9]}\n"
    )
    result = script("train", "--config", file, "--out", tmp_path / "run")
    assert result.code == 0, result.err
    settings = json.loads((tmp_path / "run" / "metrics.json").read_text())["settings"]
    assert settings["model_settings"]["widths"] == [2, 3]
    assert settings["optimizer_settings"] == {"betas": [0.8, 0.9]}
    assert (settings["label_column"], settings["text_column"]) == ("0", "1")


def test_one_file_alone_and_only_where_it_is_an_option(script, run, tmp_path):
    twice = script("train", "--config", run / "config.yaml", f"--config={run / 'config.yaml'}")
    assert (twice.code, "give one --config, not 2" in twice.err) == (2, True)
    text = script("predict", run, "--", "--config", "foo")
    assert [json.loads(line)["text"] for line in text.out.splitlines()] == ["--config", "foo"]


def test_a_corpus_takes_the_place_of_files_and_the_other_way_round(script, run, files, tmp_path):
    said = yaml.safe_load((run / "config.yaml").read_text())
    assert said["train"]
    result = script("train", "--config", run / "config.yaml", "--corpus", "nowhere", "--out", tmp_path / "x")  # fmt: skip
    assert "nowhere" in result.err
    file = tmp_path / "c.yaml"
    file.write_text("corpus: nowhere\nepochs: 1\n")
    result = script("train", "--config", file, "--train", files / "train.tsv", "--out", tmp_path / "y")  # fmt: skip
    assert result.code == 0, result.err


@pytest.mark.parametrize("text", ['train: ["a\\0b"]', 'train: x.csv\nout: "a\\0b"'])
def test_a_path_with_a_null_character_is_told(script, tmp_path, text):
    file = tmp_path / "c.yaml"
    file.write_text(text)
    line = told(script("train", "--config", file))
    assert line.endswith(r": a path must not hold a null character: 'a\x00b'")


@pytest.mark.parametrize("option", ["--train", "--out", "--corpus", "--text-column"])
@pytest.mark.parametrize("form", ["{} ", "{}="])
def test_an_empty_value_is_no_value(script, option, form):
    result = script("train", *form.format(option).split(" "))
    assert (result.code, result.err) == (
        2,
        f"error: {option} is empty; leave it out or give a value\n",
    )


@pytest.mark.parametrize("given", [["--out", ""], ["--out="]])
def test_an_empty_value_is_none_of_a_program_that_is_no_command_either(given, monkeypatch, capsys):
    def build(out: Path = Path("site")) -> None:
        """Build."""
        pytest.fail(f"built in {out}")

    monkeypatch.setattr("sys.argv", ["book.py", *given])
    with pytest.raises(SystemExit) as end:
        cli.run(build)
    shown = capsys.readouterr()
    assert (end.value.code, shown.out) == (2, "")
    assert shown.err == "error: --out is empty; leave it out or give a value\n"


@pytest.mark.parametrize("given", [["evaluate", ""], ["predict", "", "x"], ["export", "x", ""]])
def test_an_empty_path_is_not_the_current_folder(script, given):
    result = script(*given)
    assert result.code == 2
    assert "error: PATH: a path must not be empty; . is the current folder" in result.err


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (["--dev", "x", ""], "--dev: a path must not be empty; . is the current folder"),
        ([""], "an argument is empty; For full helptext, run "),
        (["--train", "x", ""], "--train: a path must not be empty; . is the current folder"),
    ],
)
def test_an_empty_argument_that_is_not_understood_is_told(script, given, error):
    assert told(script("train", *given)).startswith(f"error: {error}")


def test_learned_vectors_are_no_file(script, files, tmp_path, monkeypatch):
    """Even where there is one of that name."""
    pytest.importorskip("gensim")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "word2vec").touch()
    given = ["--train", files / "train.tsv", "--vectors", "word2vec", *SMALL, "--epochs", 1]
    assert script("train", *given, "--out", tmp_path / "run").code == 0
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["vectors"] == "word2vec"


def test_vectors_are_found_from_anywhere(script, files, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "here" / "some.vec").write_text("goal 1 0 0 0\nteam 0 1 0 0\n")
    given = ["--train", files / "train.tsv", "--vectors", "some.vec", *SMALL, "--epochs", 1]
    assert script("train", *given, "--out", tmp_path / "run").code == 0
    monkeypatch.chdir(tmp_path)
    again = script("train", "--config", tmp_path / "run" / "config.yaml", "--out", tmp_path / "two")
    assert again.code == 0, again.err


def test_yes_and_no_are_no_truth_values(script, tmp_path):
    """YAML reads no as false."""
    data = tmp_path / "a.csv"
    data.write_text("a,x\nb,y\n" * 10)
    config = tmp_path / "c.yaml"
    config.write_text(f"train: {data}\nheader: no\nepochs: 1\n")
    result = script("train", "--config", config, "--out", tmp_path / "r")
    assert result.code == 0, result.err


@pytest.mark.parametrize("option", ["--train", "--test", "--boost", "--model-args"])
def test_an_option_without_a_value_is_told(script, option):
    """An empty variable or glob must not train on something else."""
    for more in ([], ["--epochs", "1"]):
        assert f"{option} is given without a value" in told(script("train", option, *more))


@pytest.mark.parametrize("option", ["--train", "--dev", "--test", "--boost", "--model-args"])
def test_an_option_of_several_values_that_is_given_twice_is_told(script, option):
    twice = (option, "a=1", option.replace("l-a", "l_a") + "=b=2")
    assert f"{option} is given twice: give all" in told(script("train", *twice))


def test_an_empty_file_is_no_configuration(script, tmp_path):
    (tmp_path / "c.yaml").write_text("")
    assert "c.yaml is empty" in told(script("train", "--config", tmp_path / "c.yaml"))
