"""The command ``dlnotes`` itself: its table, its mistakes, completion, hints that name the command."""

import gzip
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from dlnotes.commands import COMMANDS, load
from small import model_args

ROOT = Path(__file__).parents[2]


def dlnotes(*arguments, **options):
    command = [sys.executable, "-m", "dlnotes", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def test_every_command_is_a_module_and_has_a_script():
    for name, about in COMMANDS.items():
        assert load(name)
        module = name.replace("-", "_")
        assert sys.modules[f"dlnotes.commands.{module}"].__doc__.splitlines()[0] == about
        assert name == "completion" or (ROOT / "scripts" / f"{module}.py").exists()


def test_help_lists_them_and_loads_none():
    shown = dlnotes("--help")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert re.findall(r"^  (\S+) ", shown.stdout, re.MULTILINE) == list(COMMANDS)
    assert dlnotes().stdout == shown.stdout
    code = "import sys; sys.argv = ['dlnotes', '--help']; from dlnotes.commands import main; main(); print([m for m in ('torch', 'tyro', 'rich', 'polars', 'numpy') if m in sys.modules])"  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_runs_are_listed_without_importing_torch():
    code = "import sys, dlnotes.commands.runs; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_version():
    from dlnotes import __version__

    assert dlnotes("--version").stdout == f"dlnotes {__version__}\n"


def test_an_unknown_command_is_told_with_the_nearest_one():
    done = dlnotes("trian")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: dlnotes has no command 'trian'; it has train, ")
    assert done.stderr.endswith("did you mean 'train'?\n")


@pytest.mark.parametrize("command", [["--help"], ["--version"], ["completion", "bash"]])
def test_a_reader_that_goes_away_is_no_error(command):
    read, write = os.pipe()
    os.close(read)
    process = subprocess.run(
        [sys.executable, "-m", "dlnotes", *command],
        stdout=write,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(write)
    assert (process.returncode, process.stderr) == (0, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("command", [["--help"], ["runs", "tests/scripts/old_runs"]])
def test_a_full_disk_is_told(command):
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "dlnotes", *command], stdout=full, stderr=subprocess.PIPE,
            check=False, cwd=ROOT, text=True,
        )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == "error: cannot write to standard output: No space left on device\n"


def test_a_terminal_without_arrows_ends_nothing(tmp_path):
    (tmp_path / "t.tsv").write_text("a\tü x\nb\tß y\n" * 20)
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "OMP_NUM_THREADS": "1"}
    given = ["--train", tmp_path / "t.tsv", "--epochs", 1, "--model-args", "buckets=9", "--out", tmp_path / "r"]  # fmt: skip
    trained = dlnotes("train", *given, env=environment)
    assert trained.returncode == 0, trained.stderr
    assert "documents/s -> " in trained.stdout
    answer = dlnotes("predict", tmp_path / "r", "ü x", env=environment)
    assert json.loads(answer.stdout)["text"] == "ü x"


@pytest.mark.parametrize("name", ["train", "learn-vectors", "translate"])
def test_help_of_a_command_names_it(name):
    shown = dlnotes(name, "--help")
    assert shown.returncode == 0
    assert shown.stdout.startswith(f"usage: dlnotes {name} ")


def test_bash_completes_commands_and_options():
    script = dlnotes("completion", "bash").stdout
    program = script + "\n".join(
        f'COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); COMPREPLY=(); _tyro_dlnotes; echo "${{COMPREPLY[@]}}"'
        for words in ("dlnotes tra", "dlnotes translate s", "dlnotes train --label-s")
    )
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "train translate",
        "score",
        "--label-smoothing --label-separator",
    ]


@pytest.mark.parametrize(
    ("argv", "same", "other"),
    [
        (["BIN/dlnotes", "train", "--lr", "1"], "dlnotes train --lr 1 --resume", "dlnotes predict"),
        (["/not on/path/dlnotes", "train"], "'/not on/path/dlnotes' train --resume", "'/not on/path/dlnotes' predict"),
        (["/x/dlnotes/__main__.py", "train"], "python -m dlnotes train --resume", "python -m dlnotes predict"),
        (["scripts/train.py", "--out", "a b"], "python scripts/train.py --out 'a b' --resume", "python scripts/predict.py"),
        (["my scripts/train.py", "--resume"], "python 'my scripts/train.py' --resume", "python 'my scripts/predict.py'"),
    ],
)  # fmt: skip
def test_hints_name_the_command_that_was_used(monkeypatch, tmp_path, argv, same, other):
    from dlnotes.cli import other_command, same_command

    (tmp_path / "dlnotes").write_text("#!/bin/sh\n")
    (tmp_path / "dlnotes").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "argv", [argv[0].replace("BIN", str(tmp_path)), *argv[1:]])
    assert same_command("--resume") == same
    assert other_command("predict") == other


def test_the_default_run_folder_has_the_whole_name_of_the_file(
    script, files, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    for name in ("v.1.tsv", "v.2.tsv.gz"):
        content = (files / "train.tsv").read_bytes()
        (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
        result = script("train", "--train", name, "--epochs", 1, *model_args("fasttext"))
        assert result.code == 0, result.err
    assert sorted(path.name for path in Path("runs").iterdir()) == ["fasttext-v.1", "fasttext-v.2"]
