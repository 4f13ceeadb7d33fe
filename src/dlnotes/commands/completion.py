"""Print a script that completes commands and options in your shell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, Union

import tyro

from dlnotes.commands import COMMANDS, load


def main(shell: Literal["bash", "zsh", "tcsh"], /) -> None:
    """Print the completion script of a shell.

    For bash: dlnotes completion bash > ~/.local/share/bash-completion/completions/dlnotes

    Args:
        shell: The shell.
    """
    programs = {name: load(name) for name in COMMANDS}
    tyro.cli(_choice(programs), prog="dlnotes", args=["--tyro-print-completion", shell])


def _choice(programs: dict[str, Any]) -> Any:
    """A type that tyro reads as one of several commands."""
    commands = [
        Annotated[
            Any,
            tyro.conf.subcommand(
                name, constructor=_several(found) if isinstance(found, dict) else found
            ),
        ]
        for name, found in programs.items()
    ]
    return Union[tuple(commands)]  # noqa: UP007 -- made from a list


def _several(programs: dict[str, Any]) -> Callable[..., None]:
    """A command that has commands of its own."""

    def chosen(command: Any) -> None:
        pass

    chosen.__annotations__["command"] = Annotated[_choice(programs), tyro.conf.arg(name="")]
    return chosen
