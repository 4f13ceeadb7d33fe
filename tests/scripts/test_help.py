"""The help of every command: paragraphs fill the lines, whatever the lines of the docstrings are."""

import re
from itertools import pairwise

import pytest

from dlnotes.commands import COMMANDS

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
    assert [part for part in paragraphs if "\n" in part] == []
