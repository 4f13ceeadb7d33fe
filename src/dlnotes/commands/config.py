"""Options from a file: ``--config FILE`` holds, in YAML, what the command line may say as well."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from dlnotes.arguments import Settings, check_names, fields_of
from dlnotes.errors import UserError
from dlnotes.files import write_atomically
from dlnotes.training.folder import OPTIONS

ARGUMENTS = {"model_settings": "model_args", "optimizer_settings": "optimizer_args"}
"""Tables in the file, and the options that take ``name=value`` on the command line."""


def with_config(main: Any, arguments: Sequence[str]) -> list[str]:
    """The command line with the options of its ``--config FILE`` before its own, which so win.

    Args:
        main: The command's function, or its functions by name, of which the first argument names
            one.
        arguments: The command line after the command's name.

    Raises:
        UserError: A file that cannot be read, is not a YAML table, or has a name that is not an
            option.
    """
    given = list(arguments)
    first = 0
    if isinstance(main, Mapping):
        if not given or given[0] not in main:
            return given
        main, first = main[given[0]], 1
    for i, argument in enumerate(given):
        option, equals, value = argument.partition("=")
        if option == "--config" and (equals or i + 1 < len(given)):
            file = Path(value if equals else given[i + 1])
            return [*given[:first], *options(main, read(file), str(file)), *given[first:]]
    return given


def read(file: Path) -> dict[str, Any]:
    """What a configuration file says.

    Raises:
        UserError: It cannot be read or is not a YAML table.
    """
    import yaml

    try:
        said = yaml.safe_load(file.read_text("utf-8"))
    except OSError as error:
        raise UserError(f"--config {file} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"--config {file} is not YAML: {error}") from error
    said = {} if said is None else said
    if not isinstance(said, dict) or not all(isinstance(name, str) for name in said):
        raise UserError(f"--config {file} must hold a table, lines of the form name: value")
    return {name.replace("-", "_"): value for name, value in said.items()}


def options(main: Callable[..., Any], said: Mapping[str, Any], file: str) -> list[str]:
    """The options of a command line that say the same."""
    known = [name for name in names(main) if name not in ("config", "resume")]
    listed = [{v: k for k, v in ARGUMENTS.items()}.get(name, name) for name in known]
    check_names(file, "setting", said, listed)
    found: list[str] = []
    for name, value in said.items():
        option = f"--{ARGUMENTS.get(name, name).replace('_', '-')}"
        if name in ARGUMENTS:
            if not isinstance(value, dict):
                raise UserError(f"{file}: {name} must be a table, not {value!r}")
            found += [option, *(f"{key}={each}" for key, each in value.items())]
        elif isinstance(value, bool):
            found.append(option if value else option.replace("--", "--no-", 1))
        elif isinstance(value, list):
            found += [option, *map(str, value)]
        elif isinstance(value, dict):
            raise UserError(f"{file}: {name} must be one value, not a table")
        else:
            found += [option, str(value)]
    return found


def names(main: Callable[..., Any]) -> list[str]:
    """The options of a command; its groups of settings are taken apart."""
    hints = typing.get_type_hints(inspect.unwrap(main), include_extras=True)
    found: list[str] = []
    for name in inspect.signature(main).parameters:
        kind = hints[name]
        kind = typing.get_args(kind)[0] if typing.get_origin(kind) is Annotated else kind
        if isinstance(kind, type) and issubclass(kind, Settings):
            found += [field for field in fields_of(kind) if field not in ARGUMENTS]
        else:
            found.append(name)
    return found


def write(folder: Path, said: Mapping[str, Any]) -> None:
    """Write the file that repeats a run."""
    import yaml

    plain = {name: _plain(value) for name, value in said.items()}
    text = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=10_000)
    write_atomically(folder / OPTIONS, lambda path: path.write_text(text, "utf-8"))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        # As they would stand on the command line: YAML has no tuples, and reads 1e-3 as a text.
        return {
            name: each if isinstance(each, bool | int) else str(each)
            for name, each in value.items()
        }
    if isinstance(value, Path):
        return str(value)
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value
