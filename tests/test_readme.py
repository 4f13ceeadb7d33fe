"""What the README shows is what happens: its commands run, its snippets too, its table is current."""

import contextlib
import io
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def commands():
    lines = "".join(blocks("sh")).splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.strip()]


def run(arguments, folder, **options):
    return subprocess.run(
        arguments, cwd=folder, capture_output=True, text=True, check=False, **options
    )


def test_every_make_target_exists():
    targets = {c[1] for c in commands() if c[0] == "make"} | set(
        re.findall(r"`make (\S+?)`", README)
    )
    assert {"demo", "test", "board"} <= targets
    for target in targets:
        done = run(["make", "--dry-run", target], ROOT)
        assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def after_the_commands(tmp_path_factory):
    """A folder in which every python command of the README has run, in order."""
    folder = tmp_path_factory.mktemp("reader")
    (folder / "scripts").symlink_to(ROOT / "scripts")
    rows = ["I loved it,good", "a waste of time,bad", "I would watch it again,good", "so dull,bad"]
    for name, repeats in (("reviews.csv", 25), ("more-reviews.csv", 3)):
        text = "\n".join(["text,label", *rows * repeats])
        (folder / name).write_text(text + "\n")
    outputs = {}
    for command in commands():
        if command[0] in ("python", "dlnotes"):
            program = ["-m", "dlnotes"] if command[0] == "dlnotes" else []
            done = run([sys.executable, *program, *command[1:]], folder)
            assert done.returncode == 0, done.stderr
            outputs[Path(command[1]).stem] = done.stdout
    return folder, outputs


def test_the_commands_on_own_data_run(after_the_commands):
    _, outputs = after_the_commands
    assert set(outputs) == {"train", "predict", "evaluate"}
    assert '"label": "good"' in outputs["predict"]
    assert "macro-F1" in outputs["evaluate"]


def test_the_python_snippets_run(after_the_commands, monkeypatch):
    folder, _ = after_the_commands
    monkeypatch.chdir(folder)
    snippets = blocks("python")
    assert snippets
    for snippet in snippets:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(snippet, "README.md", "exec"), {})
        assert printed.getvalue().strip()


def test_the_output_of_a_rule_of_ones_own_is_shown(capsys):
    shown = re.findall(
        r"^```python\n([^`]*?check_rule[^`]*)^```\n\n```text\n(.*?)^```$", README, re.S | re.M
    )
    ((snippet, output),) = shown
    exec(compile(snippet, "README.md", "exec"), {})
    assert capsys.readouterr().out == output


def test_the_table_is_that_of_the_records():
    done = run([sys.executable, "scripts/tables.py", "--check"], ROOT)
    assert done.returncode == 0, done.stderr


def test_files_that_are_named_exist():
    linked = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    sources = re.findall(r"`((?:\w+/)?\w+\.py)`", README)
    scripts = re.findall(r"scripts/(\w+\.py)", README)
    assert {"optim/adam.py", "nn/attention.py"} <= set(sources)
    assert {"train.py", "bench_optimizers.py"} <= set(scripts)
    assert linked
    for path in linked:
        assert (ROOT / path).exists(), path
    for path in sources:
        assert (ROOT / "src" / "dlnotes" / path).exists(), path
    for name in scripts:
        assert (ROOT / "scripts" / name).exists(), name


@pytest.mark.slow
def test_the_demo(tmp_path):
    """Its table has the three rows, and our models reach what the README says of them."""
    done = run([sys.executable, "scripts/demo.py", "--out", str(tmp_path / "demo")], ROOT)
    assert done.returncode == 0, done.stderr
    rows = dict(
        re.findall(r"^ +(FastText|TextCNN|TF-IDF)[^\d]* (0\.\d+)", done.stdout, re.MULTILINE)
    )
    assert set(rows) == {"FastText", "TextCNN", "TF-IDF"}
    assert all(float(accuracy) > 0.94 for accuracy in rows.values())
    assert re.search(r"sports \d\.\d+ +The striker", done.stdout)
    assert re.search(r"business \d\.\d+ +Shares fell", done.stdout)
