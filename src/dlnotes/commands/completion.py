"""Print a script that completes commands and options in your shell."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable
from typing import Annotated, Any, Literal, Union

import tyro

from dlnotes.commands import COMMANDS, load
from dlnotes.errors import UserError

# Its completer, a Python program, prints what fish wants: a completion, a tab, its description.
_FISH = """\
set -g __dlnotes_completer '{completer}'
function __dlnotes_complete
    set -l words (commandline -opc) (commandline -ct)
    set -l found (python3 -c $__dlnotes_completer $words (math (count $words) - 1))
    if test "$found" = __TYRO_COMPLETE_FILES__
        __fish_complete_path (commandline -ct)
    else
        printf '%s\\n' $found
    end
end
complete -c dlnotes -f -a '(__dlnotes_complete)'
"""


def main(shell: Literal["bash", "zsh", "fish"], /) -> None:
    """Print the completion script of a shell.

    For bash: dlnotes completion bash > ~/.local/share/bash-completion/completions/dlnotes

    For fish: dlnotes completion fish > ~/.config/fish/completions/dlnotes.fish

    For zsh, into a folder of its fpath: dlnotes completion zsh > ~/.zfunc/_dlnotes

    Args:
        shell: The shell.
    """
    if shell == "fish":
        found = re.search(r"'PYTHON_EOF'.*?\n(.*)\nPYTHON_EOF\n", _script("bash"), re.DOTALL)
        if not found:
            raise UserError("completion for fish needs tyro 1.0 or later: pip install -U tyro")
        completer = found[1]
        escaped = completer.replace("\\", "\\\\").replace("'", "\\'")
        print(_FISH.replace("{completer}", escaped), end="")
    else:
        print(_script(shell), end="")


def _script(shell: str) -> str:
    """The script that tyro makes for a shell."""
    programs = {name: load(name) for name in COMMANDS}
    made = io.StringIO()
    with contextlib.redirect_stdout(made), contextlib.suppress(SystemExit):
        tyro.cli(_choice(programs), prog="dlnotes", args=["--tyro-print-completion", shell])
    # A description of several lines would be taken for as many completions.
    return "".join(
        line.replace("\\n", " ") if line.startswith("COMPLETION_SPEC =") else line
        for line in made.getvalue().splitlines(keepends=True)
    )


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
