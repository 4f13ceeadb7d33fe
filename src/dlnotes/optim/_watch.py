"""Whether the tensors of a step are what they were, and where: one call for all of them.

A loop in C updates 400 small tensors in 10 µs. To ask Python for their gradients, dtypes, shapes
and addresses takes many times as long, so ``watch.cpp`` reads them where torch keeps them.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dlnotes.kernel import CPP, compiled


class _Watch(ctypes.Structure):
    """``struct Watch`` of watch.cpp."""

    _fields_ = (
        ("inside", ctypes.c_int64),
        ("example", ctypes.py_object),
        ("params", ctypes.c_int64),
        ("accumulators", ctypes.c_int64),
        ("entries", ctypes.c_int64),
        ("place", ctypes.c_void_p),
        ("known", ctypes.c_void_p),
        ("name", ctypes.c_void_p),
        ("entry", ctypes.c_void_p),
        ("pointer", ctypes.c_void_p),
    )


class Watch:
    """Some parameters of one dtype in one group of an optimizer, as they are now.

    Args:
        params: The parameters.
        places: Where in the group's list they are.
        states: Their states; none where the rule keeps nothing.
        names: What of a state the kernel takes, ``step`` last.
        state: The optimizer's state.

    Attributes:
        pointers: Addresses of all θ, all g, each accumulator and the steps, after ``look``.
    """

    def __init__(
        self,
        params: Sequence[Tensor],
        places: Sequence[int],
        states: Sequence[dict[str, Tensor]] = (),
        names: Sequence[str] = (),
        state: Any = None,
    ) -> None:
        library = load()
        with torch.inference_mode(False):
            example = torch.empty(0, dtype=params[0].dtype)
        known = [*params, *states, *(s[name] for name in names for s in states)]
        entries = list(state.values()) if states else []
        # Objects that are kept can be told by their addresses: no other one gets the same.
        self._kept = known, entries, names
        self.pointers = array("Q", bytes(8 * len(params) * (2 + len(names))))
        self._arrays = [
            array("q", places),
            array("Q", map(id, known)),
            array("Q", [*map(id, names), 0]),
            array("Q", map(id, entries)),
            self.pointers,
        ]
        accumulators = len(names) - ("step" in names)
        sizes = len(params), accumulators, len(entries)
        addresses = (x.buffer_info()[0] for x in self._arrays)
        self._watch = _Watch(_inside(), example, *sizes, *addresses)  # it keeps the example
        self._look, self._idle = library.look, library.idle
        self._address = ctypes.addressof(self._watch)

    def look(self, params: list[Tensor], state: Any) -> bool:
        """Whether all is as it was and as the kernel takes it, gradients included.

        Fills ``pointers`` and tells autograd that the parameters change.

        Args:
            params: The parameters of the group.
            state: The optimizer's state.
        """
        return bool(self._look(self._address, params, state))

    def idle(self, params: list[Tensor]) -> bool:
        """Whether the same parameters still have no gradient.

        Args:
            params: The parameters of the group.
        """
        return bool(self._idle(self._address, params))


@functools.lru_cache(maxsize=1)
def load() -> ctypes.PyDLL:
    """The compiled ``watch.cpp``.

    Raises:
        OSError: There is no C++ compiler.
        RuntimeError: The compiler failed, or this torch keeps its tensors in another way.
    """
    _inside()
    home = Path(torch.__file__).parent
    source = Path(__file__).with_name("watch.cpp").read_text(encoding="utf-8")
    flags = [
        f"-I{home / 'include'}",
        f"-D_GLIBCXX_USE_CXX11_ABI={int(torch._C._GLIBCXX_USE_CXX11_ABI)}",
        f"-L{home / 'lib'}",
        "-lc10",
    ]
    if sys.platform == "darwin":  # elsewhere a library may leave names to the interpreter
        flags += ["-undefined", "dynamic_lookup"]
    another = f"// for torch {torch.__version__}\n"  # in the same folder is another library
    library = ctypes.PyDLL(str(compiled(another + source, *flags, language=CPP)))
    library.look.argtypes = [ctypes.c_void_p, ctypes.py_object, ctypes.py_object]
    library.idle.argtypes = [ctypes.c_void_p, ctypes.py_object]
    return library


@functools.lru_cache(maxsize=1)
def _inside() -> int:
    """Where in a Python tensor the pointer is that torch calls ``_cdata``, in bytes from its start.

    Raises:
        RuntimeError: It is nowhere.
    """
    tensors = [torch.empty(0), torch.nn.Parameter(torch.empty(2)), torch.empty(3)]
    for inside in range(object.__basicsize__, Tensor.__basicsize__, ctypes.sizeof(ctypes.c_void_p)):
        found = [ctypes.c_void_p.from_address(id(x) + inside).value for x in tensors]
        if found == [x._cdata for x in tensors]:
            return inside
    raise RuntimeError(f"torch {torch.__version__} keeps its tensors in an unknown way")
