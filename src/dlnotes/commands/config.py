"""Options from a file: ``--config FILE`` holds, in YAML, what the command line may say as well."""

from __future__ import annotations

import itertools
import re
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from dlnotes import launch
from dlnotes.arguments import OneOf, check, check_names
from dlnotes.cli import NOT_WRITTEN, expanded, refuse_empty
from dlnotes.errors import UserError
from dlnotes.files import option_of, read_file, write_text
from dlnotes.parsing import ARGUMENTS, option_types
from dlnotes.training.folder import OPTIONS, run_folder, sign_restarts

_MAX_BYTES = 1 << 24  # bytes of a configuration file
_ALL = {"optimizer", "lr", "epochs", "batch_size", "schedule", "patience"}
"""Options that every run's file has, and that hardly anyone writes down together."""

OVERRIDES = {
    "--train": ("corpus",),
    "--corpus": ("train", "dev", "test", "from"),
    "--from": ("corpus",),
}
"""Options of the command line, and the options of a file that each of them overrides."""


def with_config(main: Any, arguments: Sequence[str]) -> list[str]:
    """The command line with the options of its ``--config FILE`` put before its own, which win.

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
    refuse_empty(given)
    _refuse_none(main, given)
    _refuse_repeated(main, given)
    given = _with_truth_values(main, given)
    if "config" not in option_types(main):
        return given
    files: list[str] = []
    for i, argument in enumerate(given):
        if argument == "--":  # what follows are texts
            break
        option, equals, value = argument.partition("=")
        if option == "--config" and (equals or i + 1 < len(given)):
            files.append(value if equals else given[i + 1])
    if not files:
        return given
    if len(files) > 1:
        raise UserError(f"give one --config, not {len(files)}: {', '.join(files)}")
    options = _of_earlier_version(read_config(expanded(files[0])), option_types(main))
    for option, others in OVERRIDES.items():
        if any(argument.partition("=")[0] == option for argument in given):
            options = {name: value for name, value in options.items() if name not in others}
    return [*given[:first], *to_arguments(main, options, files[0]), *given[first:]]


def _refuse_none(main: Any, arguments: Sequence[str]) -> None:
    """Refuse an option that takes several values but is given none, as by an empty glob."""
    several = _of_several(main)
    for option, value in itertools.pairwise([*arguments, "--"]):
        if option == "--":
            return
        if option in several and value.startswith("--"):
            raise UserError(f"{option} is given without a value; leave it out or give one")


def _refuse_repeated(main: Any, arguments: Sequence[str]) -> None:
    """Refuse an option of several values that is given twice: only the last ones would count."""
    several, seen = _of_several(main), set()
    for argument in itertools.takewhile(lambda each: each != "--", arguments):
        option = argument.partition("=")[0].replace("_", "-")
        if option in seen:
            raise UserError(f"{option} is given twice: give all its values after one {option}")
        seen |= several & {option}


def _of_several(main: Any) -> set[str]:
    """The options of which several values are allowed."""
    return {
        option_of(ARGUMENTS.get(name, name))
        for name, hint in option_types(main).items()
        if typing.get_origin(hint) is tuple
    }


def _with_truth_values(main: Any, arguments: Sequence[str]) -> list[str]:
    """Write ``--refit`` as ``--refit True`` where None is allowed too: tyro wants a value then."""
    flags = {option_of(name) for name, hint in option_types(main).items() if hint == (bool | None)}
    words = {flag: [flag, "True"] for flag in flags}
    words |= {flag.replace("--", "--no-", 1): [flag, "False"] for flag in flags}
    found: list[str] = []
    texts = arguments.index("--") if "--" in arguments else len(arguments)
    for i, argument in enumerate(arguments):
        given = i + 1 < texts and arguments[i + 1] in ("True", "False", "None")
        found += [argument] if given or i >= texts else words.get(argument, [argument])
    return found


def _of_earlier_version(options: dict[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a run's file; one from before there were recipes gets ``recipe: plain``."""
    if "recipe" not in known or "recipe" in options or not options.keys() >= _ALL:
        return options
    everything = {} if options["batch_size"] is not None else {"batch_size": 0}
    return {**options, "recipe": "plain", **everything}


def read_config(file: Path) -> dict[str, Any]:
    """What a configuration file says.

    Raises:
        UserError: It cannot be read or is not a YAML table.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        """Reads integers as decimal (010 is not 8), and refuses a name that occurs twice."""

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            seen: set[Any] = set()
            for key, _ in node.value:
                name = str(key.value).replace("-", "_")
                if name in seen:
                    raise UserError(f"{file} has {key.value} twice")
                seen.add(name)
            return super().construct_mapping(node, deep)

    Loader.yaml_implicit_resolvers = {
        first: [pair for pair in pairs if not pair[0].endswith((":int", ":timestamp"))]
        for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    Loader.add_implicit_resolver(
        "tag:yaml.org,2002:int", re.compile("[-+]?(0|[1-9][0-9]*)$"), list("-+0123456789")
    )
    try:
        options = yaml.load(read_file(file, _MAX_BYTES).decode("utf-8-sig"), Loader)
    except FileNotFoundError as error:
        raise UserError(f"--config {file} cannot be read: No such file or directory") from error
    except UserError as error:
        raise UserError(f"--config {error}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        problem = str(error).splitlines()[0] if isinstance(error, RecursionError) else error
        problem = " ".join(str(problem).split())
        raise UserError(f"--config {file} is not YAML: {problem}") from error
    if options is None:
        raise UserError(f"--config {file} is empty")
    if not isinstance(options, dict) or not all(isinstance(name, str) for name in options):
        raise UserError(f"--config {file} must hold a table, lines of the form name: value")
    return {name.replace("-", "_"): value for name, value in options.items()}


def to_arguments(main: Callable[..., Any], options: Mapping[str, Any], file: str) -> list[str]:
    """The options of a command line that say the same.

    Raises:
        UserError: A name that is not an option, or a value of another type.
    """
    types = {
        name: hint for name, hint in option_types(main).items() if name not in ("config", "resume")
    }
    listed = [{v: k for k, v in ARGUMENTS.items()}.get(name, name) for name in types]
    check_names(file, "setting", options, listed)
    found: list[str] = []
    for name, given in options.items():
        option = option_of(ARGUMENTS.get(name, name))
        if name in ARGUMENTS:
            if not isinstance(given, dict):
                raise UserError(f"{file}: {name} must be a table, not {given!r}")
            found += [option, *(f"{key}={_tuple(each)}" for key, each in given.items())]
            continue
        if given is None and typing.get_origin(types[name]) is tuple:
            continue
        value = _typed(types[name], given)
        try:
            check({name: types[name]}, {name: value})
        except UserError as error:
            raise UserError(f"{file}: {error}") from error
        if given == "":
            raise UserError(f"{file}: {name} is empty; leave it out or give a value")
        if isinstance(value, bool) and types[name] is bool:
            found.append(option if value else option.replace("--", "--no-", 1))
        elif isinstance(value, list):
            found += [option, *map(str, value)]
        else:
            found.append(f"{option}={value}")
    return found


def _typed(hint: Any, value: Any) -> Any:
    """Convert a value of YAML to the type of its option: a path, a float such as 1e-3, a string."""
    kinds = _kinds(hint)
    if isinstance(value, bool) and "yes" in _names(hint):
        value = "yes" if value else "no"  # which YAML reads as truth values
    if typing.get_origin(hint) is tuple and not isinstance(value, list):
        value = [value]  # one file where there may be several
    if isinstance(value, list):
        return [Path(each) if Path in kinds and isinstance(each, str) else each for each in value]
    if isinstance(value, str) and Path in kinds:
        return value if str in kinds else Path(value)
    if isinstance(value, str) and float in kinds:
        try:
            return float(value)
        except ValueError:
            return value
    if isinstance(value, int) and not isinstance(value, bool) and str in kinds:
        return str(value)
    return value


def _names(hint: Any) -> set[str]:
    """The names that an annotation allows."""
    names = set(hint.names) if isinstance(hint, OneOf) else set()
    return names.union(*map(_names, typing.get_args(hint)))


def _kinds(hint: Any) -> set[Any]:
    """The plain types in an annotation."""
    inner = typing.get_args(hint)
    if typing.get_origin(hint) is Annotated:
        inner = inner[:1]
    return set().union(*map(_kinds, inner)) if inner else {hint}


def _tuple(value: Any) -> Any:
    """Lists as tuples, which YAML does not have."""
    return tuple(map(_tuple, value)) if isinstance(value, list) else value


@contextmanager
def naming_config_file(config: Path | None) -> Iterator[None]:
    """Name the configuration file in a `UserError` of which it may be the cause."""
    try:
        yield
    except UserError as error:
        if config is None:
            raise
        raise UserError(f"{error} (options are also read from {config})") from error


@contextmanager
def run_folder_with_options(out: Path, options: Mapping[str, Any], resume: bool) -> Iterator[None]:
    """Make and lock a run folder, and write the file of options that repeats the run.

    Of several processes, only the first does so. The file of a resumed run is not replaced, because
    its settings have not been compared yet.

    Args:
        out: The run folder.
        options: The options by name.
        resume: Whether to continue the run that it holds.

    Raises:
        UserError: See `run_folder`.
    """
    if launch.rank() > 0:
        yield
        return
    try:
        with run_folder(out, resume):
            sign_restarts(out)
            if not resume:
                write_options(out, options)
            yield
    except OSError as error:
        if error.filename is None and error.errno in NOT_WRITTEN:
            error.filename = str(out)
        raise


def write_options(out: Path, options: Mapping[str, Any]) -> None:
    """Write the file that repeats a run into its folder."""
    write_text(out / OPTIONS, to_yaml(options))


def to_yaml(options: Mapping[str, Any]) -> str:
    """Options as YAML."""
    import yaml

    plain = {name: _plain(value) for name, value in options.items()}
    text: str = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=10_000)
    return text


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        # As on the command line, because YAML has no tuples and reads 1e-3 as a string.
        return {
            name: each if isinstance(each, bool | int) else str(each)
            for name, each in value.items()
        }
    if isinstance(value, Path):
        return str(value)
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value
