"""How tyro makes a command line from a function: its paths, its settings, and their descriptions.

tyro keeps most line breaks of a docstring. They are removed here, so that each paragraph of the
help fills the width of the terminal.
"""

from __future__ import annotations

import functools
import inspect
import re
import typing
from collections.abc import Callable
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import docstring_parser
from tyro.constructors import (
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    PrimitiveTypeInfo,
    StructConstructorSpec,
    StructFieldSpec,
    StructTypeInfo,
)

from dlnotes.arguments import Settings, fields_of
from dlnotes.cli import expanded


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
