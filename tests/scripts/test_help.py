"""The help of every command: paragraphs fill the terminal, whatever the lines of the docstrings are."""

import os
import re
import subprocess
import sys
from contextlib import suppress
from itertools import pairwise

import pytest

from dlnotes.commands import COMMANDS, main

PROGRAMS = [[name] for name in COMMANDS if name not in ("completion", "translate")] + [
    ["translate", "train"],
    ["translate", "score"],
]


def short_lines(options):
    """Lines that have room for the first word of the next line."""
    inside = [line[2:-2] for line in options.splitlines() if re.match("│ |  ", line)]
    assert len(inside) > 2
    for line, following in pairwise(inside):
        indent = len(following) - len(following.lstrip())
        # Where the option's name is longer than its column, its description begins below it.
        if following.strip() and indent > 5 and line[:indent].endswith("  ") and line[indent:]:
            word = following.split()[0]
            if len(line.rstrip()) + len(" ") + len(word) <= len(line):
                yield line


@pytest.mark.parametrize("program", PROGRAMS, ids=" ".join)
def test_descriptions_of_options_fill_their_lines(script, monkeypatch, program):
    monkeypatch.setenv("COLUMNS", "100")
    name, *rest = program
    shown = script(name.replace("-", "_"), *rest, "--help")
    assert shown.code == 0
    about, _, options = re.split(r"\n(╭.*| (?:positional arg|opt).*)\n", shown.out, maxsplit=1)
    assert list(short_lines(options)) == []
    paragraphs = about.strip().split("\n\n")[1:]
    assert paragraphs
    for part in paragraphs:
        for line, following in pairwise(part.splitlines()):
            assert len(line) <= 100 < len(f"{line} {following.split()[0]}")


@pytest.mark.parametrize("columns", ["40", "80", "nonsense"])
@pytest.mark.parametrize("program", [[], ["train"], ["predict"], ["translate", "train"]])
def test_no_line_is_wider_than_the_terminal(capsys, monkeypatch, program, columns):
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setattr("sys.argv", ["dlnotes", *program, "--help"])
    with suppress(SystemExit):
        main()
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) == (40 if columns == "40" else 80)


def test_a_terminal_without_room_has_40_columns():
    command = [sys.executable, "-m", "dlnotes", "predict", "--help"]
    for columns in ("1", "5"):
        shown = subprocess.run(
            command,
            env=os.environ | {"COLUMNS": columns},
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert max(map(len, shown.stdout.splitlines())) == 40
