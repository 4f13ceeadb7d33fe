"""Arguments of the public functions, checked against the annotations in their signatures."""

from __future__ import annotations

import difflib
import functools
import inspect
import math
import sys
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TypeVar, Union

import numpy as np
from typing_extensions import Self

from dlnotes.errors import UserError, on_command_line
from dlnotes.files import as_path

_P = ParamSpec("_P")
_R = TypeVar("_R")


@dataclass(frozen=True)
class Range:
    """Which numbers are allowed; used as metadata in ``Annotated``.

    Attributes:
        ge: The smallest one.
        gt: A lower bound that is not allowed itself.
        lt: An upper bound that is not allowed itself.
        le: The largest one.
    """

    ge: float | None = None
    gt: float | None = None
    lt: float | None = None
    le: float | None = None

    def allows(self, value: float) -> bool:
        """Whether `value` is within the bounds."""
        return (
            (self.ge is None or value >= self.ge)
            and (self.gt is None or value > self.gt)
            and (self.lt is None or value < self.lt)
            and (self.le is None or value <= self.le)
        )

    def __str__(self) -> str:
        bounds = {
            "at least": self.ge,
            "above": self.gt,
            "below": self.lt,
            "at most": self.le,
        }
        return " and ".join(f"{word} {n:,}" for word, n in bounds.items() if n is not None)


@dataclass(frozen=True, eq=False)
class OneOf:
    """Which names are allowed; used as metadata in ``Annotated``.

    Attributes:
        names: A collection, or a table whose keys are the names.
        other: Names that are used elsewhere, each with the name used here.
    """

    names: Collection[str]
    other: Mapping[str, str] = field(default_factory=dict)

    def allows(self, value: Any) -> bool:
        """Whether `value` is one of them."""
        return value in self.names

    def __str__(self) -> str:
        return f"one of {', '.join(self.names)}"


Count = Annotated[int, Range(1)]
Natural = Annotated[int, Range(0)]
Seed = Annotated[int, Range(0, lt=2**63)]
NotNegative = Annotated[float, Range(0)]
Positive = Annotated[float, Range(gt=0)]
Share = Annotated[float, Range(0, lt=1)]


def checked(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Have the arguments of `function` checked by `check` before it runs.

    Numbers of NumPy become Python's. Where the annotation has a path, text becomes one and ``~`` is
    expanded, in lists and mappings of paths as well.

    Raises:
        UserError: An unknown name, or a value that the annotation does not allow.
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        hints = hints_of(function)
        given = {k: v.item() if isinstance(v, np.generic) else v for k, v in kwargs.items()}
        check_names(function.__name__, "argument", given, hints)
        values = [v.item() if isinstance(v, np.generic) else v for v in args]
        names = [name for name in signature.parameters if name != "self"]
        skipped = len(signature.parameters) - len(names)
        values[skipped:] = [
            _with_paths(name, hints[name], value)
            for name, value in zip(names, values[skipped:], strict=False)
        ]
        given = {name: _with_paths(name, hints[name], value) for name, value in given.items()}
        check(hints, dict(zip(signature.parameters, values, strict=False)) | given)
        return function(*values, **given)  # type: ignore[arg-type]

    return call


class Settings:
    """Base class of the frozen dataclasses of settings, which checks their fields.

    The docstring below a field describes it, here and on the command line; its annotation says what
    is allowed. Numbers of NumPy become Python's.

    Raises:
        UserError: An unknown name, or a value that the annotation does not allow.
    """

    def __new__(cls, *values: Any, **given: Any) -> Self:
        """Refuse unknown names with a UserError, before ``__init__`` raises a TypeError."""
        check_names(cls.__name__, "setting", given, fields_of(cls))
        return super().__new__(cls)

    def __post_init__(self) -> None:
        for name, value in list(vars(self).items()):
            object.__setattr__(self, name, plain(name, value))
        check(fields_of(type(self)), vars(self))


def plain(name: str, value: Any) -> Any:
    """A setting as a file can hold it: plain numbers and texts, lists and dictionaries of them.

    Args:
        name: Its name, for messages.
        value: Enumerations and numbers of NumPy become plain numbers, tables dictionaries.

    Raises:
        UserError: A table or a list holds something else.
    """

    def convert(value: Any, inside: bool) -> Any:
        if isinstance(value, np.generic):
            value = value.item()
        for basic in (bool, int, float, str):
            if isinstance(value, basic):
                return basic(value.value if isinstance(value, Enum) else value)
        if isinstance(value, Mapping):
            keys = [convert(key, True) for key in value]
            if not all(isinstance(key, str) for key in keys):
                raise UserError(f"{name} must have names for keys, not {value!r}")
            return dict(zip(keys, [convert(each, True) for each in value.values()], strict=True))
        if isinstance(value, list | tuple):
            kind = list if isinstance(value, list) else tuple
            return kind(convert(each, True) for each in value)
        if inside and value is not None:
            raise UserError(f"{name} may hold numbers, texts and lists of them, not {value!r}")
        return value

    try:
        return convert(value, False)
    except RecursionError as error:
        raise UserError(f"{name} contains itself, or is nested too deeply") from error


def fields_of(settings: type[Settings]) -> dict[str, Any]:
    """The annotation of each field, in their order."""
    hints = typing.get_type_hints(settings, include_extras=True)
    fields: dict[str, Any] = getattr(settings, "__dataclass_fields__", {})
    return {name: hints[name] for name in fields}


@functools.cache
def hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    """The annotation of each keyword that `function` takes, in their order."""
    hints = typing.get_type_hints(function, include_extras=True)
    found: dict[str, Any] = {}
    for parameter in inspect.signature(function).parameters.values():
        hint = hints.get(parameter.name, Any)
        if parameter.name == "self":
            continue
        if parameter.kind is parameter.VAR_KEYWORD:  # **settings: Annotated[Any, Training]
            found |= fields_of(typing.get_args(hint)[1])
        else:
            found[parameter.name] = hint
    return found


def check(hints: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Check each value against its annotation.

    Checks numbers, text, paths and tuples of them; of a list or a mapping only that it is one, not
    what is in it. A float may be given as an int, a tuple as a list; a bool is not a number, every
    number must be finite, and an integer must have at most 64 bits. Other objects pass unchecked.

    Args:
        hints: Annotations by name.
        given: Values by name; those without an annotation pass.

    Raises:
        UserError: A value is of another type or outside of its range.
    """
    for name, value in given.items():
        hint = hints.get(name, Any)
        if not _allows(hint, value):
            hinted = f"; see {found}" if (found := _other_name(hint, value)) else ""
            error = UserError(f"{name} must be {say(hint, value)}, not {_shown(value)}{hinted}")
            error.argument = name
            raise error


def _other_name(hint: Any, value: Any) -> str | None:
    """The name that a `OneOf` in an annotation has for a value that is known by another name."""
    if isinstance(hint, OneOf):
        return hint.other.get(value.lower()) if isinstance(value, str) else None
    inner = (_other_name(each, value) for each in typing.get_args(hint))
    return next(filter(None, inner), None)


def check_fields(path: Path, found: Any, hints: Mapping[str, Any]) -> None:
    """Check the fields of what was read from a file, see `check`.

    Args:
        path: The file, for messages.
        found: What was read from it; it may have other fields as well.
        hints: Annotations by name.

    Raises:
        UserError: `found` is not a mapping, lacks a field, or has one that is not allowed.
    """
    if not isinstance(found, Mapping):
        raise UserError(f"{path} is damaged: it must hold a mapping, not {_shown(found)}")
    for name in hints:
        if name not in found:
            raise UserError(f"{path} is damaged: {name!r} is missing")
    try:
        check(hints, {name: found[name] for name in hints})
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _shown(value: Any) -> str:
    try:
        shown = " ".join(repr(value).split())
    except RecursionError:
        return "a deeply nested value"
    return shown if len(shown) <= 80 else f"{shown[:80]}…"


def check_names(
    what: str, kind: str, given: Iterable[str], known: Iterable[str], listed: str = ""
) -> None:
    """Require known names.

    Args:
        what: Whose names they are, for the message.
        kind: What they name, such as ``argument``.
        given: The names, or items ``name=value``.
        known: The known names.
        listed: How the message lists these, if not just by their names.

    Raises:
        UserError: An unknown name; the message suggests the most similar one.
    """
    known = list(known)
    for item in given:
        name = item.partition("=")[0]
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            names = listed or ", ".join(known)
            raise UserError(f"{what} has no {kind} {item!r}; its {kind}s are: {names}{hint}")


def _with_paths(name: str, hint: Any, value: Any) -> Any:
    """The value with text turned into paths where the annotation has paths; a copy if changed."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if isinstance(value, str | Path):
        is_path = hint is Path or (origin in (Union, types.UnionType) and Path in inner)
        return as_path(value, name) if is_path else value
    if origin in (Union, types.UnionType):
        for one in inner:
            value = _with_paths(name, one, value)
        return value
    if not isinstance(origin, type):
        return value
    if issubclass(origin, Mapping) and isinstance(value, Mapping):
        paths = {key: _with_paths(key, inner[1], each) for key, each in value.items()}
        return paths if any(paths[key] is not value[key] for key in value) else value
    if issubclass(origin, Sequence) and type(value) in (list, tuple):
        items = [_with_paths(name, inner[0], each) for each in value]
        changed = any(new is not old for new, old in zip(items, value, strict=True))
        return type(value)(items) if changed else value
    return value


def _allows(hint: Any, value: Any) -> bool:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        ranges = (rule for rule in inner[1:] if isinstance(rule, Range | OneOf))
        return _allows(inner[0], value) and all(rule.allows(value) for rule in ranges)
    if origin in (Union, types.UnionType):
        return any(_allows(one, value) for one in inner)
    if origin is tuple:
        if not isinstance(value, tuple | list):
            return False
        each = inner[:1] * len(value) if inner[1:] == (...,) else inner
        return len(each) == len(value) and all(map(_allows, each, value))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return isinstance(value, Mapping)
    if isinstance(origin, type) and issubclass(origin, Sequence):
        # A text is a sequence of texts, and never meant as one.
        return isinstance(value, Sequence) and not isinstance(value, str | bytes)
    if hint in (int, float):
        numeric = isinstance(value, int if hint is int else int | float)
        number = numeric and not isinstance(value, bool)
        if hint is int and number and abs(value) >= _TOO_LARGE:
            return False
        if number and hint is float and isinstance(value, int):
            return abs(value) <= sys.float_info.max
        return number and (isinstance(value, int) or math.isfinite(value))
    if hint in (bool, str, Path, types.NoneType) or is_dataclass(hint):
        return isinstance(value, hint)
    return True


_TOO_LARGE = 2**63  # for an integer of torch, NumPy and polars

_WORDS = {
    int: "an integer",
    float: "a finite number",
    bool: "True or False",
    str: "text",
    Path: "a path",
    types.NoneType: "None",
}


def say(hint: Any, value: Any) -> str:
    """What an annotation allows, in words.

    Args:
        hint: The annotation.
        value: What is given; of a number that is merely out of range, only the range is told.
    """
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        found = [rule for rule in inner[1:] if isinstance(rule, Range | OneOf)]
        rules = " and ".join(map(str, found))
        if any(isinstance(rule, OneOf) for rule in found):
            return rules
        if not found:
            return say(inner[0], value)
        if _allows(inner[0], value):
            return rules
        if isinstance(value, int) and abs(value) >= _TOO_LARGE and "below" not in rules:
            return f"{rules} and below {_TOO_LARGE:,}"
        return f"{say(inner[0], value)} {'of ' * rules.startswith('at least')}{rules}"
    if origin in (Union, types.UnionType):
        if on_command_line.get():
            inner = tuple(one for one in inner if one is not types.NoneType)
        return " or ".join(say(one, value) for one in inner)
    if origin is tuple:
        each = inner[:1] if inner[1:] == (...,) else inner
        return f"a tuple ({', '.join(say(one, None) for one in each)}{', …' * (each != inner)})"
    if is_dataclass(hint) and isinstance(hint, type):
        return f"a {hint.__name__}"
    if isinstance(origin, type):
        return "a mapping" if issubclass(origin, Mapping) else "a list"
    if hint is int and isinstance(value, int) and abs(value) >= _TOO_LARGE:
        return "an integer of at most 64 bits"
    return _WORDS.get(hint, getattr(hint, "__name__", str(hint)))
