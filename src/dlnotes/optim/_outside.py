"""Find, in the bytecode of a function, what it reads and sets outside of its arguments."""

from __future__ import annotations

import dis
import enum
import functools
import sys
import types
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from torch import Tensor

CONSTANT = {*sys.stdlib_module_names, "torch", "numpy"}
"""Packages that are not searched: their numbers, such as math.pi, stay, and nearly all of their
functions depend on their arguments alone. See `_reads_a_state` for those that do not."""

_STATES = {"os", "posix", "nt", "genericpath", "time", "datetime", "random"}
"""Modules of the standard library whose functions read the environment, files, clocks or random
numbers."""


def found_outside(
    function: Any, tensors: tuple[str, ...] = (), seen: frozenset[Any] = frozenset()
) -> Iterator[str]:
    """Say what a function reads or sets that is not an argument and may change.

    Classes, modules and functions count as constant. Functions that it calls are also searched.

    Args:
        function: The function, or a method of a class.
        tensors: Those of its arguments that are tensors.
        seen: Functions that are being searched.
    """
    owner = getattr(function, "__self__", None)
    function = getattr(function, "__func__", function)
    function = getattr(function, "__wrapped__", function)
    if not isinstance(function, types.FunctionType) or function in seen:
        return
    if _is_constant(function.__module__):
        return
    outer = function.__code__
    cells = _cells(function)
    # The class, where the function is its method.
    bound = {outer.co_varnames[0]: owner} if owner is not None and outer.co_argcount else {}
    codes = [outer]
    for code in codes:
        codes += [x for x in code.co_consts if isinstance(x, types.CodeType)]
        steps = [x for x in dis.get_instructions(code) if x.opname not in _BETWEEN]
        assigned = {x for step in steps if step.opname.startswith("STORE_") for x in _names(step)}
        arguments = {*tensors} - assigned if code is outer else set()
        local = {**(bound if code is outer else {}), **_imported(steps)}
        for i, step in enumerate(steps):
            if not _names(step):
                continue
            name = _names(step)[-1]
            if step.opname == "STORE_GLOBAL" or (step.opname == "STORE_DEREF" and name in cells):
                yield _sets(function, name)
            if step.opname == "LOAD_GLOBAL":
                values = function.__globals__
                if name in _OPEN and name not in values:
                    yield (
                        f"{function.__name__} calls {name}, and what that reads is not seen here: "
                        "make it an argument"
                    )
            elif step.opname == "LOAD_DEREF":
                values = cells
            elif "LOAD_FAST" in step.opname:
                values = local
            else:
                continue
            attributes = _attributes(steps[i + 1 :])
            after = steps[i + 1 + len(attributes)]  # what uses the value: no code ends here
            if name not in values and name not in arguments:
                continue
            if _is_read_by_name(steps, i, after):
                attributes.append(after.argval)
            if after.opname == "STORE_ATTR":
                yield _sets(function, ".".join([name, *attributes, str(after.argval)]))
            if name in values:
                yield from _reads(function, name, values[name], attributes, seen)
            elif attributes and (attributes[0] == "grad" or not hasattr(Tensor, attributes[0])):
                yield (
                    f"{function.__name__} reads {name}.{attributes[0]}, which the tensors of a "
                    "step do not have: make it an argument"
                )


def _cells(function: types.FunctionType) -> dict[str, Any]:
    """The names that a function takes from the enclosing one, except for those without a value."""
    found = {}
    names = function.__code__.co_freevars
    for name, cell in zip(names, function.__closure__ or (), strict=True):
        with suppress(ValueError):
            found[name] = cell.cell_contents
    return found


def _reads(
    function: types.FunctionType,
    name: str,
    value: Any,
    attributes: list[str],
    seen: frozenset[Any],
) -> Iterator[str]:
    """Follow a name and the attributes that are read from it."""
    constant = False
    for attribute in attributes:
        if not isinstance(value, (types.ModuleType, type, types.FunctionType)):
            break
        constant = isinstance(value, types.ModuleType) and _is_constant(value.__name__)
        try:
            value = getattr(value, attribute)
        except AttributeError:  # the call will raise the error
            return
        name = f"{name}.{attribute}"
    if _reads_a_state(value):
        yield (
            f"{function.__name__} calls {name}, which may return something else at a later step; "
            "a compiled loop would keep its first value: make it a hyper-parameter"
        )
    constant = constant or _is_imported(name, value)
    if constant and not isinstance(value, (list, set, Mapping, Tensor)):
        return
    if isinstance(value, functools.partial):
        fixed = [*value.args, *value.keywords.values()]
        if all(isinstance(x, (int, float, str)) for x in fixed):
            yield from _reads(function, name, value.func, [], seen)
            return
    if not isinstance(value, types.FunctionType) and _is_stateless(value):
        value = type(value).__call__
    if isinstance(value, (types.FunctionType, types.MethodType)) or hasattr(value, "__wrapped__"):
        yield from found_outside(value, (), seen | {function})
    elif not isinstance(value, _NO_VALUES):
        yield (
            f"{function.__name__} reads {name} = {short(value)}, which is no argument; a compiled "
            "loop would keep its first value: make it a hyper-parameter"
        )


_NO_VALUES = (
    *(types.ModuleType, type, enum.Enum, types.BuiltinFunctionType),
    *(types.MethodDescriptorType, types.WrapperDescriptorType, types.GetSetDescriptorType),
)
_OPEN = ("globals", "eval", "exec", "open", "input")
_BETWEEN = ("CACHE", "EXTENDED_ARG", "NOP", "PUSH_NULL")


def _sets(function: types.FunctionType, name: str) -> str:
    return (
        f"{function.__name__} sets {name}, so that a step depends on those before it; what is "
        "carried on must be in accumulators"
    )


def _names(step: dis.Instruction) -> list[str]:
    """The names of an instruction: newer Pythons load and store two at once."""
    found = step.argval if isinstance(step.argval, tuple) else (step.argval,)
    return [x for x in found if isinstance(x, str)]


def _attributes(steps: list[dis.Instruction]) -> list[str]:
    """The attributes that these instructions read first, each from the one before."""
    found = []
    for step in steps:
        if step.opname not in ("LOAD_ATTR", "LOAD_METHOD"):
            break
        found.append(str(step.argval))
    return found


def _is_read_by_name(steps: list[dis.Instruction], i: int, after: dis.Instruction) -> bool:
    """Whether the value that instruction i loads is an argument of ``getattr`` with a string."""
    before = steps[i - 1] if i else None
    called = before is not None and before.opname == "LOAD_GLOBAL" and before.argval == "getattr"
    return called and after.opname == "LOAD_CONST" and isinstance(after.argval, str)


def _imported(steps: list[dis.Instruction]) -> dict[str, Any]:
    """What the function itself imports, by its local names."""
    found: dict[str, Any] = {}
    module: Any = None
    value: Any = None
    for step in steps:
        if step.opname == "IMPORT_NAME":
            value = module = sys.modules.get(step.argval)
        elif step.opname == "IMPORT_FROM":
            value = getattr(module, step.argval, None)
        elif step.opname == "STORE_FAST" and value is not None:
            found[step.argval], value = value, None
        else:
            value = None
    return found


def _is_imported(name: str, value: Any) -> bool:
    """Whether a name and its value are those of the standard library, torch or NumPy.

    The name is compared as well, because equal integers or strings may be the same object.
    """
    if isinstance(value, (int, str, type(None))):
        return False
    for module in list(sys.modules.values()):
        if _is_constant(getattr(module, "__name__", "")) and vars(module).get(name) is value:
            return True
    return False


def _is_stateless(value: Any) -> bool:
    """Whether a user's object can be called and has no attributes of its own."""
    slots = any("__slots__" in vars(c) for c in type(value).__mro__[:-1])
    if slots or getattr(value, "__dict__", None) != {} or not callable(value):
        return False
    return isinstance(type(value).__call__, types.FunctionType)


def _reads_a_state(value: Any) -> bool:
    """Whether a function of the standard library or torch returns something that may change.

    Of torch: ``get_num_threads`` and others that begin so, ``is_grad_enabled`` and others that end
    so, ``initial_seed``.
    """
    if isinstance(value, type) or not callable(value):
        return False
    owner = getattr(value, "__self__", None)
    owner = owner if isinstance(owner, (type, types.ModuleType)) else type(owner)
    module = getattr(value, "__module__", None) or getattr(owner, "__module__", owner.__name__)
    package, name = str(module).partition(".")[0], str(getattr(value, "__name__", ""))
    if package == "torch":
        return name.startswith("get_") or name.endswith("_enabled") or name == "initial_seed"
    return package in _STATES


def _is_constant(module: Any) -> bool:
    return str(module).partition(".")[0] in CONSTANT


def short(value: Any) -> str:
    """The beginning of what Python prints of a value."""
    text = (repr(value).splitlines() or [""])[0]
    return text if len(text) <= 40 else f"{text[:37]}…"
