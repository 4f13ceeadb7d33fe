"""What a terminal gets to see: no commands in names, no markup, no characters it does not have."""

import io
import os
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from dlnotes import cli
from dlnotes.display import ASCII_FALLBACK, console, printable, tell
from dlnotes.errors import UserError


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[2Jb", r"a\x1b[2Jb"),
        ("\x9b31m", r"\x9b31m"),  # the same in one character
        ("a\nb\tc\rd\0", r"a\nb\tc\rd\x00"),
        ("\u202eabc\u2066\u2028", r"\u202eabc\u2066\u2028"),  # would reorder what is around it
        ("\udcff", r"\udcff"),
        ("[bold] $x$ שלום 体育 é 👩\u200d🚀 \u3000", "[bold] $x$ שלום 体育 é 👩\u200d🚀 \u3000"),
    ],
)
def test_printable(text, shown):
    assert printable(text) == shown
    assert printable(shown) == shown


def test_long_names_lose_their_middle():
    assert printable("abcdefghij", 10) == "abcdefghij"
    assert printable("abcdefghijk", 10) == "abcd…ghijk"
    assert printable("abcdefghijk", 2) == "…k"
    assert printable("abcdefghijk", 1) == "…"
    assert len(printable("\x1b" * 20, 10)) == 10
    assert printable("a\nb\nc", keep="\n") == "a\nb\nc"


def printed(monkeypatch, *objects, **options):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    console().print(*objects, **options)
    return stream.getvalue()


@pytest.mark.parametrize("name", ["[/bold]", "[red]x[/red]", ":smile: 12 'a' http://x", r"\[x]"])
def test_names_are_no_markup(monkeypatch, name):
    from rich.table import Table

    assert printed(monkeypatch, name) == f"{name}\n"
    table = Table(name, title=name)
    table.add_row(name)
    assert printed(monkeypatch, table).count(name) == 3


def test_escape_sequences_do_not_reach_the_terminal(monkeypatch):
    from rich.table import Table

    table = Table("a\x1b[2J")
    table.add_row("\x1b]0;title\x07")
    for shown in (printed(monkeypatch, table), printed(monkeypatch, "\x1b[2J\n\x9b")):
        assert "\x1b" not in shown
        assert "\x9b" not in shown
        assert r"\x1b" in shown


def test_lines_into_a_pipe_are_not_cut(monkeypatch):
    assert printed(monkeypatch, "word " * 100) == "word " * 100 + "\n"


def test_an_ascii_terminal_gets_likenesses():
    text = "a → b … 0.1–0.2 −1 2 × 3 ü 体"
    shown = text.encode("ascii", ASCII_FALLBACK).decode()
    assert shown == r"a -> b ... 0.1-0.2 -1 2 x 3 \xfc \u4f53"


TABLE = """
from dlnotes import cli
from dlnotes.display import console
from rich.table import Table

def main():
    table = Table("体", "x", title="ti…")
    table.add_row("ü→", "[red]x")
    console().print(table)

cli.run(main)
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    file = tmp_path_factory.mktemp("display") / "table.py"
    file.write_text(TABLE, "utf-8")
    return file


def test_errors_have_no_control_characters(capsys):
    def main():
        raise UserError("no file \x1b[2J\x9b of this\nname")

    with pytest.raises(SystemExit):
        cli.run(main, arguments=list)
    assert capsys.readouterr().err == "error: no file \\x1b[2J\\x9b of this name\n"


def run(program, **environment):
    wanted = {k: v for k, v in os.environ.items() if k not in ("FORCE_COLOR", "PYTHONIOENCODING")}
    return subprocess.run(
        [sys.executable, str(program)], capture_output=True, check=True, env=wanted | environment
    ).stdout


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
)
def test_tables_in_ascii_are_straight(program, environment):
    lines = run(program, **environment).decode("ascii").splitlines()
    assert len({len(line) for line in lines}) == 1
    assert r"| \xfc-> | [red]x |" in lines


def test_no_colours_into_a_pipe_and_none_where_nobody_wants_them(program):
    assert b"\x1b" not in run(program, PYTHONIOENCODING="utf-8")
    coloured = run(program, PYTHONIOENCODING="utf-8", FORCE_COLOR="1", TERM="xterm")
    assert b"\x1b[" in coloured
    plain = run(program, PYTHONIOENCODING="utf-8", FORCE_COLOR="1", NO_COLOR="1")
    assert not re.search(rb"\x1b\[3\d", plain)


@pytest.mark.parametrize("line", ["a\nb  c", "\x1b[2J", "[red]x[/red] :smile:", "word " * 100])
def test_what_is_told_is_one_line_as_it_is(capsys, line):
    tell(line)
    assert capsys.readouterr().err == f"{printable(' '.join(line.split()))}\n"
    tell(line, shown=False)
    assert capsys.readouterr().err == ""


def test_what_nobody_can_read_is_not_told(monkeypatch):
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stderr", full)
        tell("a")
        monkeypatch.undo()
        with suppress(OSError):
            full.close()
