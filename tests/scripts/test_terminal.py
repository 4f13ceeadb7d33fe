"""Tables, progress and help on terminals of any width; answers that are JSON; completion."""

import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from running import ROOT

from dlnotes.commands import completion, ensemble, predict, verify
from dlnotes.commands.evaluate import _print_confusion, _print_figures
from dlnotes.commands.runs import Row, _list
from dlnotes.oracles.comparison import Row as Compared
from dlnotes.training.decision import Decision
from dlnotes.training.progress import Progress
from measured import figures_of

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture
def terminal(monkeypatch, capsys):
    """Have a terminal of a width; the returned function gives the lines that it shows."""

    def of(width):
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("COLUMNS", str(width))
        capsys.readouterr()

        def shown():
            captured = capsys.readouterr()
            return re.split(r"[\n\r]+", ESCAPE.sub("", captured.out + captured.err))

        return shown

    return of


def row(**more):
    long = "a rather long note, ours against torch.nn.functional.something_long"
    given = {"note": long, "oracle": long, "mapping": long, "cases": 1, "difference": 0.0}
    return Compared(**given | {"tolerance": 1e-10} | more)


@pytest.mark.parametrize(("width", "mapped"), [(80, False), (60, False), (120, True), (200, True)])
def test_verify_fits_the_terminal(terminal, monkeypatch, width, mapped):
    monkeypatch.setattr(verify, "rows", lambda steps: iter([row(), row()]))
    shown = terminal(width)
    verify.main()
    lines = shown()
    assert max(map(len, lines)) <= width
    assert any("mapping" in line and "oracle" in line for line in lines) == mapped
    assert sum(line.rstrip().endswith(" yes") for line in lines) == 2


def test_verify_into_a_pipe_has_a_line_per_row(monkeypatch, capsys):
    monkeypatch.setattr(verify, "rows", lambda steps: iter([row(note="[red]x"), row(tolerance=-1)]))
    with pytest.raises(SystemExit):
        verify.main()
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert [line.split()[-1] for line in out.splitlines()[-3:-1]] == ["yes", "NO"]
    assert "[red]x" in out


RUNS = [
    Row(
        name=f"fasttext-[red]{i}-{'long' * 10 * i}",
        model="fasttext",
        corpus="ag_news",
        dev_accuracy=0.9,
        test_accuracy=0.8123,
        macro_f1=0.7,
        epochs=10,
        seconds=1234.5,
        date="2026-01-01 10:00:00",
    )
    for i in range(2)
]


@pytest.mark.parametrize("width", [48, 60, 80, 100, 140])
def test_runs_fit_the_terminal_and_no_figure_is_folded(terminal, width):
    shown = terminal(width)
    _list(RUNS)
    lines = shown()
    assert max(map(len, lines)) <= width
    assert sum("0.8123" in line for line in lines) == 2
    text = " ".join(" ".join(lines).split())
    assert ("This terminal is too narrow for seconds" in text) == (width < 140)
    assert ("1,234.5" in text) == (width == 140)


def test_runs_into_a_pipe_have_all_columns(capsys):
    _list(RUNS)
    out = capsys.readouterr().out
    assert out.count("1,234.5") == 2
    assert RUNS[1].name in out
    assert "too narrow" not in out


def test_evaluate_shows_the_50_most_frequent_classes_and_any_label(terminal):
    figures = {"accuracy": 0.5, "macro_f1": 0.5, "micro_f1": 0.5, "loss": 1.0}
    one = {"precision": 0.5, "recall": 0.5, "f1": 0.5}
    labels = [f"class {i}" for i in range(997)] + ["[/bold]\x1b[2J", "x" * 500, "a\nb"]
    figures["classes"] = {label: one | {"documents": i} for i, label in enumerate(labels)}
    shown = terminal(80)
    _print_figures(figures)
    lines = shown()
    assert len(lines) < 65
    assert max(map(len, lines)) <= 80
    assert any(r"[/bold]\x1b[2J" in line for line in lines)
    assert any(r"a\nb" in line for line in lines)
    assert "The 50 most frequent of 1,000 classes; --json has all." in lines


@pytest.mark.parametrize("classes", [2, 20, 3000])
def test_evaluate_shows_confusion_of_any_number_of_classes(terminal, classes):
    confusion = np.eye(classes, dtype=np.int64)
    confusion[0, 1] = 3
    shown = terminal(80)
    _print_confusion(figures_of(confusion), [f"class {i} " + "long " * 20 for i in range(classes)])
    lines = shown()
    assert max(map(len, lines)) <= 80
    assert len(lines) < 30
    assert any("75.0%" in line for line in lines)


@pytest.mark.parametrize("width", [20, 40, 80, 120])
@pytest.mark.parametrize("steps", [1, 10**9])
def test_progress_fits_the_terminal(terminal, width, steps):
    shown = terminal(width)
    with Progress(steps) as bar:
        bar.update(steps // 2, 0, loss=float("nan"), documents=10**9)
        bar.update(steps, 999, loss=1e30, documents=10**9 + 10)
        bar.update(steps, 999, loss=0.5, documents=5)  # fewer than before
        bar._bar.refresh()
    lines = shown()
    assert max(map(len, lines)) <= width
    assert width == 20 or any("epoch 1000" in line and "loss 0.5" in line for line in lines)
    assert not any("-" in line.partition("docs/s")[0].partition("loss")[2] for line in lines)
    assert not any("inf" in line for line in lines)
    assert width == 20 or not any("…" in line for line in lines)  # nothing is cut


def test_lines_of_epochs_are_wrapped_by_the_terminal_alone(terminal):
    """A line that rich has cut into several stays so when the window becomes wider."""
    shown = terminal(30)
    with Progress(10) as bar:
        bar.epoch({"epoch": 1, "train_loss": 0.5, "documents_per_second": 1e9}, is_best=True)
    assert "epoch   1  loss 0.5000  1,000,000,000 docs/s  *" in shown()


@pytest.mark.parametrize("speed", [float("inf"), float("nan"), -1.0, 1e9])
def test_epochs_without_a_terminal_are_a_line_each(capsys, speed):
    with Progress(10) as bar:
        bar.update(1, 0, loss=float("nan"), documents=10**9)
        for loss in (float("nan"), 1e30, 0.5):
            record = {"epoch": 1, "train_loss": loss, "dev_loss": loss, "dev_accuracy": 0.5}
            bar.epoch(record | {"documents_per_second": speed}, is_best=True)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "\x1b" not in captured.err
    lines = captured.err.splitlines()
    assert len(lines) == 3
    shown = "1,000,000,000 docs/s" if speed == 1e9 else " – docs/s"
    assert all(shown in line for line in lines)
    assert "loss 1e+30" in lines[1]


def test_a_path_in_brackets_is_shown(tmp_path, monkeypatch, capsys):
    dev = {"accuracy": 0.5, "macro_f1": 0.5}
    record = {"members": [{"run": "runs/[red]x", "weight": 1.0, "dev": dev}]}
    record |= {"dev": dev}
    monkeypatch.setattr(ensemble, "load_members", lambda *_, **__: [])
    monkeypatch.setattr(ensemble, "make_ensemble", lambda *_, **__: (None, record))
    ensemble.main((tmp_path,), out=tmp_path / "out", train=(tmp_path / "x",))
    assert "runs/[red]x" in capsys.readouterr().out


def test_answers_are_json_without_control_characters(capsys, monkeypatch):
    import polars as pl
    import torch

    class Answers:
        label_names = ("a\x9b2J", "\u202eb")
        multi_label = False
        decision = Decision()

        def best(self, texts, top_k):
            n = len(texts)
            return torch.full((n, 2), 0.5), torch.tensor([[0, 1]] * n)

    texts = ["\x9b31m\x7f\u2028 体", "a\nb\x1b[2J", '"\\u009b"']
    predict._print(Answers(), pl.Series("text", texts), 2)
    out = capsys.readouterr().out
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u202e]", out)
    answers = [json.loads(line) for line in out.splitlines()]
    assert [answer["text"] for answer in answers] == texts
    assert [each["label"] for each in answers[0]["top"]] == list(Answers.label_names)


# --- help and completion ------------------------------------------------------------------------


def dlnotes(*arguments, **environment):
    command = [sys.executable, "-m", "dlnotes", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=True, env=os.environ | environment
    ).stdout


@pytest.mark.parametrize("width", [80, 40])
def test_help_fits_the_terminal(width):
    shown = dlnotes("--help", COLUMNS=str(width))
    assert max(map(len, shown.split("commands:")[1].partition("\n\n")[0].splitlines())) <= width


def test_help_in_ascii_has_no_escapes():
    shown = dlnotes("evaluate", "--help", PYTHONIOENCODING="ascii", COLUMNS="80")
    assert "\\u" not in shown
    assert "--test" in shown


WORDS = {
    "dlnotes tra": ["train", "translate"],
    "dlnotes translate s": ["score"],
    "dlnotes train --label-s": ["--label-separator", "--label-smoothing"],
    "dlnotes ensemble --w": ["--weights"],  # their help has several lines
    "dlnotes evaluate --te": ["--test", "--text-column"],
    "dlnotes train --boo": ["--boost", "--bootstrap"],
}


def completed(shell, tmp_path, capsys):
    """What a shell is offered for each of the words, a line for each."""
    completion.main(shell)
    script = tmp_path / f"completion.{shell}"
    script.write_text(capsys.readouterr().out)
    program = {
        "bash": [f"source {script}"]
        + [
            f"COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); COMPREPLY=(); "
            '_tyro_dlnotes; echo "${COMPREPLY[@]}"'
            for words in WORDS
        ],
        "zsh": ['_describe() { print -- ${${(@P)2}%%:*} }', "compdef() { : }", f"source {script} 2> /dev/null"]
        + [f"words=({words}); CURRENT=${{#words}}; _tyro_dlnotes" for words in WORDS],
        "fish": [f"source {script}"]
        + [f"echo (complete -C '{words}' | string replace -r '\\t.*' '')" for words in WORDS],
    }[shell]  # fmt: skip
    options = {"bash": ["--norc"], "zsh": ["-f"], "fish": ["--no-config"]}[shell]
    file = tmp_path / "program"
    file.write_text("\n".join(program))
    command = [shutil.which(shell), *options, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.splitlines()[-len(WORDS) :]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_no_words_of_the_help_are_offered(shell, tmp_path, capsys):
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    offered = [sorted(line.split()) for line in completed(shell, tmp_path, capsys)]
    assert offered == list(WORDS.values())


def test_every_completion_is_one_line(capsys):
    completion.main("bash")
    out = capsys.readouterr().out
    (line,) = (line for line in out.splitlines() if line.startswith("COMPLETION_SPEC ="))
    assert "\\n" not in line


def test_the_program_of_fish_is_the_one_of_bash(capsys):
    completion.main("fish")
    script = capsys.readouterr().out
    quoted = re.search(r"completer '((?:[^'\\]|\\.)*)'\n", script, re.DOTALL)[1]
    program = re.sub(r"\\(['\\])", r"\1", quoted)
    done = subprocess.run(
        [sys.executable, "-c", program, "dlnotes", "tra", "1"],
        capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    assert [line.partition("\t")[0] for line in done.stdout.splitlines()] == ["train", "translate"]
