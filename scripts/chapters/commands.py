"""The help of a command, as a part of a page."""

from __future__ import annotations

import io
import os
import re
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from unittest import mock

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from dlnotes import commands

_WIDE = "10000"
"""Columns of a terminal in which no line is broken."""


@dataclass
class Help:
    """What ``dlnotes COMMAND --help`` prints.

    Attributes:
        usage: Its first line.
        about: The paragraphs before the options.
        options: Pairs: an argument or option as it is written, and what it does.
    """

    usage: str
    about: list[str]
    options: list[tuple[str, str]] = field(default_factory=list)


def help_of(command: str) -> Help:
    """The help of a command, read from what it prints.

    Args:
        command: What follows ``dlnotes``, such as "train" or "translate train".
    """
    name, *rest = command.split()
    printed = io.TextIOWrapper(
        io.BytesIO(), "utf-8"
    )  # tyro takes the encoding of a StringIO for ASCII
    with mock.patch.dict(os.environ, COLUMNS=_WIDE), redirect_stdout(printed):
        commands.run(name, [*rest, "--help"])
    printed.seek(0)
    lines = printed.read().splitlines()
    frame = next(number for number, line in enumerate(lines) if line.startswith("╭"))
    usage, *about = "\n".join(lines[:frame]).strip().split("\n\n")
    found = Help(_plain(usage.removeprefix("usage: ")), [" ".join(p.split()) for p in about])
    for line in lines[frame:]:
        if not line.startswith("│"):
            continue
        row = line.strip("│").rstrip()[1:]
        if row[:1].strip():
            written, _, told = row.partition("  ")
            found.options.append((_plain(written), told.strip()))
        elif row.strip():
            written, told = found.options[-1]
            found.options[-1] = (written, f"{told} {row.strip()}".strip())
    found.options = [(written, _told(told)) for written, told in found.options if told]
    return found


def _plain(written: str) -> str:
    """An option without the marks of its types: ``--dev [PATH [PATH ...]]`` is ``--dev PATH …``."""
    repeated = re.sub(r"\[*\[(\w+) \[\1 \.\.\.\]\]+", r"\1 …", written)
    return repeated.replace("{None}|", "")


def _told(told: str) -> str:
    """What an option does, without a default that says nothing."""
    return re.sub(r" ?\(default: (None)?\)", "", told)


def as_markdown(command: str, found: Help) -> str:
    """A command as Markdown, its options as Sphinx's, so that pages can link to them.

    Args:
        command: Its name.
        found: Its help.
    """
    parts = [f"```text\n{found.usage}\n```", *map(_escaped, found.about)]
    parts.append(f"```{{program}} dlnotes {command}\n```")
    for written, told in found.options:
        if written.startswith("-h,"):
            continue
        if written.startswith("-"):
            parts.append(f"```{{option}} {written}\n{_escaped(told)}\n```")
        else:
            parts.append(f"- `{written}`: {_escaped(told)}")
    return "\n\n".join(parts)


def _escaped(text: str) -> str:
    """Text with Markdown's special characters escaped, and options as code."""
    options = re.split(r"((?<![\w-])--?[a-z][\w-]*)", text)
    return "".join(
        f"`{part}`" if number % 2 else re.sub(r"([\\`*_{}\[\]<>$#|~@])", r"\\\1", part)
        for number, part in enumerate(options)
    )


class Command(SphinxDirective):
    """``command NAME``: what ``dlnotes NAME --help`` says."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """Read the help while the page is built."""
        (name,) = self.arguments
        return self.parse_text_to_nodes(as_markdown(name, help_of(name)))
