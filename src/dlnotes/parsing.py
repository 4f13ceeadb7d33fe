"""How tyro makes a command line from a function: its paths, settings, descriptions and mistakes.

tyro keeps most line breaks of a docstring. They are removed here, so that each paragraph of the
help fills the width of the terminal.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import re
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import docstring_parser
from tyro.constructors import (
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    PrimitiveTypeInfo,
    StructConstructorSpec,
    StructFieldSpec,
    StructTypeInfo,
)

from dlnotes.arguments import Settings, fields_of, hints_of, say
from dlnotes.cli import expanded
from dlnotes.errors import UserError
from dlnotes.files import option_of

ARGUMENTS = {"model_settings": "model_args", "optimizer_settings": "optimizer_args"}
"""Tables in a file of options, and the options that take ``name=value`` on the command line."""

_TRUTH = (bool, bool | None)
_REFUSED = re.compile(r"Error parsing (\S+|\[.*?\]\]): (.*?)(; For full helptext|$)")
_NOT_CHOSEN = re.compile(r"invalid choice '(.*)' for argument '(--[\w-]+)'")
_UNKNOWN = re.compile(r"Unrecognized options: ")


def registry() -> ConstructorRegistry:
    """How tyro makes paths and settings; it does so within a ``with`` statement of the registry."""
    known = ConstructorRegistry()
    known.primitive_rule(_path)
    known.struct_rule(_settings)
    return known


def later(function: Callable[..., None]) -> Callable[..., Callable[[], None]]:
    """A function with the same arguments and description that returns the call to make."""

    def call(*args: Any, **kwargs: Any) -> Callable[[], None]:
        return partial(function, *args, **kwargs)

    # Not functools.wraps, through which tyro would find the docstring of the function.
    typed: Any = call
    typed.__name__, typed.__signature__ = function.__name__, inspect.signature(function)
    typed.__annotations__ = typing.get_type_hints(function, include_extras=True)
    parsed = docstring_parser.parse(function.__doc__ or "")
    parsed.short_description = _flowing(parsed.short_description)
    parsed.long_description = _flowing(parsed.long_description)
    for part in parsed.meta:
        part.description = _flowing(part.description)
    call.__doc__ = docstring_parser.compose(parsed)
    return call


def _path(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Path] | None:
    if info.type is not Path:
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="PATH",
        instance_from_str=lambda given: expanded(given[0]),
        is_instance=lambda value: isinstance(value, Path),
        str_from_instance=lambda value: [str(value)],
    )


def _settings(info: StructTypeInfo) -> StructConstructorSpec | None:
    kind: Any = info.type
    if not isinstance(info.default, Settings) or type(info.default) is not info.type:
        return None
    hints = fields_of(kind)
    specs = [
        StructFieldSpec(
            name=field.name,
            type=hints[field.name],
            default=getattr(info.default, field.name),
            helptext=partial(_described, kind, field.name),  # only the help parses the source
        )
        for field in fields(kind)
    ]
    return StructConstructorSpec(instantiate=kind, fields=tuple(specs))


def _described(settings: Any, name: str) -> str | None:
    """The docstring below a field, of the class that has declared it last."""
    found = (_descriptions(kind).get(name) for kind in settings.__mro__[:-1])
    return next(filter(None, found), None)


@functools.cache
def _descriptions(settings: Any) -> dict[str, str | None]:
    parsed = docstring_parser.parse_from_object(settings)
    return {each.arg_name: _flowing(each.description) for each in parsed.params}


def _flowing(text: str | None) -> str | None:
    """Text with each paragraph on one line."""
    if text is None:
        return None
    return "\n\n".join(" ".join(part.split()) for part in re.split(r"\n\s*\n", text.strip()))


def option_types(main: Callable[..., Any]) -> dict[str, Any]:
    """The annotation of each option of a command, including the fields of groups of settings."""
    found: dict[str, Any] = {}
    for name, hint in hints_of(main).items():
        kind = typing.get_args(hint)[0] if typing.get_origin(hint) is Annotated else hint
        if isinstance(kind, type) and issubclass(kind, Settings):
            fields = fields_of(kind).items()
            found |= {field: each for field, each in fields if field not in ARGUMENTS}
        else:
            is_annotated = typing.get_origin(hint) is Annotated
            rules = typing.get_args(hint)[1:] if is_annotated else ()
            names = [rule.name for rule in rules if hasattr(rule, "name")]  # tyro's arg
            found[names[0] if names else name] = hint
    return found


def mistake_in_a_value(
    main: Callable[..., Any] | None, given: Sequence[str], said: str
) -> str | None:
    """What is wrong with the value of an option, in words of the command line.

    Args:
        main: The command's function, if the command line names one.
        given: The command line.
        said: What tyro says.

    Returns:
        The message; None if this is another mistake.
    """
    kinds = {option_of(name): hint for name, hint in option_types(main).items()} if main else {}
    if refused := _REFUSED.match(said):
        option = refused[1]
        hint, value = kinds.get(option), _value_of(option, given)
        if hint in _TRUTH and value is not None:
            return _takes_no_value(option, value)
        if hint is not None and value is not None and _is_number(hint):
            return f"{option} must be {say(hint, value)}, not {value!r}"
        return f"{option.strip('[').partition(' ')[0]}: {_wrong_path(given) or refused[2]}"
    if (chosen := _NOT_CHOSEN.match(said)) and kinds.get(chosen[2]) in _TRUTH:
        return _takes_no_value(chosen[2], chosen[1])
    if _UNKNOWN.match(said):
        for i, argument in enumerate(given):
            if argument == "--":
                break
            name, equals, value = argument.replace("_", "-").partition("=")
            option = name.replace("--no-", "--", 1)
            if kinds.get(name) not in _TRUTH and kinds.get(option) not in _TRUTH:
                continue
            option = name if name in kinds else option
            if equals:
                return _takes_no_value(option, value)
            more = itertools.takewhile(lambda each: not each.startswith("-"), given[i + 1 :])
            others = [each for each in more if each not in ("True", "False")]
            if others and others[0] in re.split(r"[,;] ", _UNKNOWN.sub("", said)):
                return _takes_no_value(option, others[0])
    return None


def _wrong_path(given: Sequence[str]) -> str | None:
    """Why an argument cannot be a path, if one cannot."""
    for argument in given:
        _, equals, value = argument.partition("=")
        try:
            expanded(value if equals and argument.startswith("--") else argument)
        except UserError as error:
            return str(error)
    return None


def _takes_no_value(option: str, value: str) -> str:
    against = option.replace("--", "--no-", 1)
    return f"{option} takes no value: give {option} or {against}, not {value!r}"


def _value_of(option: str, given: Sequence[str]) -> str | None:
    """The last value that an option is given."""
    found = None
    for argument, following in itertools.pairwise([*given, "--"]):
        if argument == "--":
            break
        name, equals, value = argument.partition("=")
        if name.replace("_", "-") == option:
            found = value if equals else following
    return found


def _is_number(hint: Any) -> bool:
    """Whether an annotation allows one number, or None."""
    if typing.get_origin(hint) is Annotated:
        return _is_number(typing.get_args(hint)[0])
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return all(each is types.NoneType or _is_number(each) for each in typing.get_args(hint))
    return hint in (int, float)
