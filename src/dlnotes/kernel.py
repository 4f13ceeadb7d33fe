"""From formulas of tensors to one C loop: a recorder, elementary functions, a compiler, a cache.

A formula is run once on symbols instead of tensors, which records its arithmetic. What depends on
numbers alone is computed in float64, as Python does; the rest becomes the body of a loop. Two
kinds of loops are made of that: ``dlnotes.optim._kernel`` and ``dlnotes.activations._elementwise``.

A kernel takes about a quarter of a second to compile, once for each formula, dtype and machine; the
result is kept in ``$DLNOTES_CACHE/kernels``, by default in the user's cache folder, with its hash.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import hashlib
import math
import os
import platform
import shlex
import shutil
import stat
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch.autograd import forward_ad
from torch.utils._device import DeviceContext

Value = TypeVar("Value")

PLAIN = frozenset({torch.Tensor, torch.nn.Parameter})
"""Types of tensors without operations of their own."""

LOW_PRECISION = (torch.float16, torch.bfloat16)
"""Dtypes that are computed in float32 and rounded once."""

# dtype → how it is stored, what it is computed in, load, store
TYPES: dict[torch.dtype, tuple[str, str, str, str]] = {
    torch.float32: ("float", "float", "{0}", "{0}"),
    torch.float64: ("double", "double", "{0}", "{0}"),
    torch.float16: ("_Float16", "float", "(float){0}", "(_Float16){0}"),
    torch.bfloat16: ("uint16_t", "float", "from_bfloat16({0})", "to_bfloat16({0})"),
}

# $CC may ask for fast arithmetic, in which there is no NaN, and which makes the whole process round
# subnormal numbers to 0.
STRICT = ["-fno-fast-math", "-fno-unsafe-math-optimizations"]
FLAGS = ["-std=gnu11", "-O3", *STRICT]
# Without errno √ is one instruction; without traps both sides of a choice may be computed.
FLAGS += ["-fno-math-errno", "-fno-trapping-math"]
# Without these gcc may turn a minimum inside a formula into two branches, and the loop into scalar
# code.
FLAGS += ["-fno-thread-jumps", "-fno-tree-pre"]
# A product and a sum become one operation only where the caller allows it.
EXACT, CONTRACTED = ("-ffp-contract=off", "-lm"), ("-ffp-contract=fast", "-lm")


class Language(NamedTuple):
    """How a source becomes a library."""

    name: str
    suffix: str
    variable: str
    compilers: tuple[str, ...]
    flags: list[str]
    extras: tuple[list[str], ...]
    """Flags that some compilers do not know: the first of these that works is taken."""


# Some compilers know no OpenMP (one core, then) or no -march=native.
FAST: tuple[list[str], ...] = (["-march=native", "-fopenmp"], ["-fopenmp"], ["-march=native"], [])
C = Language("C", ".c", "CC", ("cc", "gcc", "clang"), FLAGS, FAST)
CPP = Language(
    "C++", ".cpp", "CXX", ("c++", "g++", "clang++"), ["-std=c++20", "-O2", *STRICT], ([],)
)


class Symbol:
    """A number while a formula is recorded: one for each element, or one for the whole tensor."""

    def __init__(
        self,
        program: Program,
        name: str,
        element: bool,
        truth: bool = False,
        compared: bool = False,
    ) -> None:
        self.program, self.name, self.element, self.truth = program, name, element, truth
        self.compared = compared

    @classmethod
    def __torch_function__(
        cls, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Symbol:
        """Let ``torch.exp(x)`` and the like call the method of the same name."""
        method = {"where": "choose"}.get(function.__name__, function.__name__)
        if not hasattr(cls, method):
            raise NotImplementedError(f"{function.__name__} is not compiled")
        result: Symbol = getattr(cls, method)(*args, **(kwargs or {}))
        return result

    def __add__(self, other: Any) -> Symbol:
        return self.program.record("{} + {}", self, other)

    def __radd__(self, other: Any) -> Symbol:
        return self.program.record("{} + {}", other, self)

    def __sub__(self, other: Any) -> Symbol:
        return self.program.record("{} - {}", self, other)

    def __rsub__(self, other: Any) -> Symbol:
        return self.program.record("{} - {}", other, self)

    def __mul__(self, other: Any) -> Symbol:
        return self.program.record("{} * {}", self, other)

    def __rmul__(self, other: Any) -> Symbol:
        return self.program.record("{} * {}", other, self)

    def __truediv__(self, other: Any) -> Symbol:
        return self.program.record("{} / {}", self, other)

    def __rtruediv__(self, other: Any) -> Symbol:
        return self.program.record("{} / {}", other, self)

    def __neg__(self) -> Symbol:
        return self.program.record("-{}", self)

    def __pow__(self, other: Any) -> Symbol:
        if self.element:
            if not (isinstance(other, int) and other == 2):
                raise NotImplementedError("of the powers of a tensor only the square is compiled")
            return self * self
        if isinstance(other, Symbol) and other.element:
            raise NotImplementedError("a tensor in the exponent is not compiled")
        return self.program.record("pow({}, {})", self, other)

    def __rpow__(self, other: Any) -> Symbol:
        if self.element:
            raise NotImplementedError("a tensor in the exponent is not compiled")
        return self.program.record("pow({}, {})", other, self)

    def __gt__(self, other: Any) -> Symbol:
        return self.program.record("{} > {}", self, other, truth=True)

    def __ne__(self, other: object) -> Any:
        return self.program.record("{} != {}", self, other, truth=True)

    def __eq__(self, other: object) -> bool:
        raise NotImplementedError("a formula that compares numbers is not compiled")

    def __bool__(self) -> bool:
        raise NotImplementedError("a formula that branches on a number is not compiled")

    def _method(self, form: str, *others: Any) -> Symbol:
        if not self.element:
            raise NotImplementedError("numbers have no methods")
        return self.program.record(form, self, *others)

    def choose(self, then: Any, otherwise: Any) -> Symbol:
        """``torch.where`` of a comparison."""
        if not isinstance(then, Symbol) and not isinstance(otherwise, Symbol):
            raise NotImplementedError("a choice between two constants is not compiled")
        # A condition is no operand of arithmetic, whatever it was made of.
        condition = Symbol(self.program, self.name, self.element, truth=True)
        return condition._method("{} ? {} : {}", then, otherwise)

    def sqrt(self) -> Symbol:
        """√, as the tensor's method."""
        return self._method("F(sqrt)({})")

    def abs(self) -> Symbol:
        """The absolute value."""
        return self._method("F(fabs)({})")

    def sign(self) -> Symbol:
        """1, 0 or −1; 0 for NaN, as in torch."""
        return self._method("(real)(({0} > 0) - ({0} < 0))")

    def maximum(self, other: Any) -> Symbol:
        """The larger of two numbers; NaN if one of them is NaN."""
        return self._method("({0} > {1}) | ({0} != {0}) ? {0} : {1}", other)

    def copysign(self, other: Any) -> Symbol:
        """The absolute value with the sign of another number."""
        return self._method("F(copysign)({}, {})", other)

    def exp(self) -> Symbol:
        """eˣ."""
        return self._method("vector_exp({})")

    def expm1(self) -> Symbol:
        """eˣ − 1."""
        return self._method("vector_expm1({})")

    def log1p(self) -> Symbol:
        """log(1 + x)."""
        return self._method("vector_log1p({})")

    def erf(self) -> Symbol:
        """The error function, not in double."""
        if self.program.compute == "double":
            raise NotImplementedError("erf in double is not compiled")
        return self._method("vector_erf({})")

    def clamp(self, min: float | None = None, max: float | None = None) -> Symbol:
        """The number in [min, max] that is closest to x."""
        x = self if min is None else self._method("at_least({1}, {0})", min)
        return x if max is None else x._method("at_most({1}, {0})", max)

    __hash__ = None  # type: ignore[assignment]


class Program:
    """The recorded arithmetic of one formula as C text."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.storage, self.compute, self.load, self.store = TYPES[dtype]
        self.scalars: list[str] = []
        self.constants: dict[str, str] = {}
        self.body: list[str] = []

    def record(self, form: str, *operands: Any, truth: bool = False) -> Symbol:
        """Append one operation and return its result."""
        if not all(isinstance(x, (Symbol, int, float)) for x in operands):
            raise NotImplementedError("only arithmetic of tensors and numbers is compiled")
        element = any(isinstance(x, Symbol) and x.element for x in operands)
        given = [x for x in operands if isinstance(x, Symbol) and x.element]
        if not truth and given and all(x.compared for x in given):
            # In torch that is arithmetic of bools, or of numbers in the default dtype.
            raise NotImplementedError("arithmetic of comparisons alone is not compiled")
        text = form.format(*(self._operand(x, element) for x in operands))
        if element:
            name = f"e{len(self.body)}"
            self.body.append(f"        const {'int' if truth else 'real'} {name} = {text};\n")
        else:
            return self.number(text)
        return Symbol(self, name, True, truth, compared=truth)

    def number(self, text: str) -> Symbol:
        """A number of the whole tensor, kept in one place."""
        name = f"scalar[{len(self.scalars)}]"
        self.scalars.append(f"    {name} = {text};\n")
        return Symbol(self, name, False)

    def constants_text(self) -> str:
        """The numbers of the whole tensor, rounded to what the elements are computed in."""
        return "".join(
            f"    const real {name} = (real){text};\n" for text, name in self.constants.items()
        )

    def prelude(self) -> str:
        """What the library begins with."""
        header = Path(__file__).with_name("kernel.h").read_text(encoding="utf-8")
        wide = int(self.compute == "double")
        return f"#define WIDE {wide}\n{header}\ntypedef {self.storage} stored;\n"

    def _operand(self, x: Symbol | float, element: bool) -> str:
        text = x.name if isinstance(x, Symbol) else _literal(x)
        if not element or (isinstance(x, Symbol) and x.element):
            return text
        if not isinstance(x, Symbol):
            return f"(real){text}"
        return self.constants.setdefault(text, f"c{len(self.constants)}")


def _literal(x: float) -> str:
    """A number as C writes it, to the last digit."""
    if math.isfinite(x):
        return float(x).hex()
    return "NAN" if math.isnan(x) else "INFINITY" if x > 0 else "-INFINITY"


def compiled(source: str, *flags: str, language: Language = C) -> Path:
    """The path of a compiled library, from the cache when it is there and intact.

    Args:
        source: Its text.
        flags: More flags of the compiler, libraries last.
        language: ``C`` or ``CPP``.

    Raises:
        OSError: There is no compiler or no place for the library, or it cannot be loaded.
        RuntimeError: The compiler failed.
    """
    compiler = _compiler(language)
    kind = [*language.flags, *flags, repr(language.extras)]
    parts = [source, *compiler, *kind, *_version(compiler), _machine()]
    name = (
        hashlib.sha256("\n".join(parts).encode(errors="surrogateescape")).hexdigest()[:32] + ".so"
    )
    cache = _cache()
    if cache is not None:
        if _intact(cache / name):
            return cache / name
        # A full disk, a quota, a file system without programs: try again in another place.
        with contextlib.suppress(OSError, RuntimeError):
            return _compile(source, compiler, flags, language, cache / name)
    library = _temporary() / name
    if not _intact(library):
        _compile(source, compiler, flags, language, library)
    return library


_WORK = "compiling-"
_PATIENCE = 120  # seconds for one compilation, which takes one or two
_ABANDONED = 3600  # seconds after which nobody can still be compiling in a folder
_hung: set[str] = set()


def _compile(
    source: str, compiler: list[str], flags: tuple[str, ...], language: Language, library: Path
) -> Path:
    """Compile a source, and put the library and its seal where they belong."""
    _remove_abandoned(library.parent)
    with tempfile.TemporaryDirectory(prefix=_WORK, dir=library.parent) as work:
        text, made = Path(work, f"kernel{language.suffix}"), Path(work, "kernel.so")
        text.write_text(source, encoding="utf-8")
        for extra in language.extras:
            command = [*compiler, "-shared", "-fPIC", *language.flags, *extra]
            command += [str(text), "-o", str(made), *flags]  # libraries come after the source
            done = _run(command)
            # One that was killed may know the flags: the slower library must not be kept.
            if done.returncode <= 0:
                break
        if done.returncode or not made.exists():
            raise RuntimeError(_cause(compiler[0], done))
        ctypes.CDLL(str(made))  # OSError if it is no library: it must not be kept
        seal = Path(work, "kernel.sha256")
        seal.write_bytes(_seal(library, made))
        # Each rename is atomic. Between the two, another process finds a library without its seal
        # and compiles one of its own.
        for new, place in ((made, library), (seal, library.with_suffix(".sha256"))):
            if place.is_dir() and not place.is_symlink():
                shutil.rmtree(place)
            new.replace(place)
    return library


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a compiler, unless it has already exceeded the time limit."""
    if command[0] not in _hung:
        try:
            return subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                check=False,
                timeout=_PATIENCE,
            )
        except subprocess.TimeoutExpired:
            _hung.add(command[0])
    raise RuntimeError(f"{command[0]} took more than {_PATIENCE} s") from None


def _cause(compiler: str, done: subprocess.CompletedProcess[str]) -> str:
    """Why a compilation failed: the line that says it, then all lines."""
    lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
    if not lines:
        status = f"exit status {done.returncode}" if done.returncode else "it wrote no library"
        return f"{compiler} failed: {status}"
    first = next((line for line in lines if "error" in line.lower()), lines[-1])
    return "\n".join([f"{compiler} failed: {first.strip()}", *lines])


def _compiler(language: Language) -> list[str]:
    """The command of a compiler, with the flags that the user has put into $CC or $CXX."""
    named = os.environ.get(language.variable, "")
    try:
        words = shlex.split(named)
    except ValueError as error:  # an unclosed quotation mark
        raise FileNotFoundError(f"${language.variable} is {named!r}: {error}") from None
    if words and shutil.which(words[0]):
        return words
    found = None if words else next(filter(shutil.which, language.compilers), None)
    if found is None:
        names = language.compilers
        looked = (
            f"${language.variable} is {named!r}"
            if words
            else f"looked for ${language.variable}, {', '.join(names[:-1])} and {names[-1]}"
        )
        raise FileNotFoundError(f"there is no {language.name} compiler ({looked})")
    return [found]


def _version(compiler: list[str]) -> list[str]:
    """What changes when a compiler is replaced by another one of the same name."""
    path = Path(shutil.which(compiler[0]) or compiler[0])
    status = path.stat()
    return [str(path), str(status.st_size), str(status.st_mtime_ns)]


def _intact(library: Path) -> bool:
    """Whether a library is, byte for byte, what the compilation for its name wrote.

    Loading one that is cut short or altered would kill the interpreter, and so would calling one
    that was made of another source.
    """
    seal = library.with_suffix(".sha256")
    try:
        for path, largest in ((library, 1 << 26), (seal, 64)):
            status = path.stat()
            if not stat.S_ISREG(status.st_mode) or status.st_size > largest:
                return False  # reading a pipe, for example, would never end
        return _seal(library, library) == seal.read_bytes()
    except OSError:
        return False


def _seal(library: Path, content: Path) -> bytes:
    """The hash of a library and its name."""
    return hashlib.sha256(library.name.encode() + content.read_bytes()).hexdigest().encode()


def _remove_abandoned(folder: Path) -> None:
    """Remove what compilations that were killed have left."""
    for work in folder.glob(f"{_WORK}*"):
        try:
            if time.time() - work.stat().st_mtime > _ABANDONED:
                shutil.rmtree(work, ignore_errors=True)
        except OSError:  # another process was faster
            pass


def run_in_thread(function: Callable[..., Value], *args: Any) -> Value:
    """Call a function in a thread of its own and return its result.

    Torch keeps the default device, dispatch and function modes, transforms, grad mode and inference
    mode for each thread. So what is built there does not depend on which of these the first caller
    has active.
    """
    try:
        with ThreadPoolExecutor(1, "dlnotes-kernels") as pool:
            result = pool.submit(function, *args)
    except RuntimeError:  # no threads: there are too many, or the interpreter is shutting down
        return function(*args)
    return result.result()


def observed() -> bool:
    """Whether anything records, transforms or replaces the operations of this thread.

    A compiled loop does not go through torch's dispatcher, so that a tracer, a mode, a transform or
    forward-mode autograd would not see it.
    """
    return (
        torch.compiler.is_compiling()
        or torch._C._len_torch_dispatch_stack() > 0
        or torch._C._are_functorch_transforms_active()
        or forward_ad._current_level >= 0
        or torch._C._get_tracing_state() is not None
        or any(
            type(torch._C._get_function_stack_at(i)) is not DeviceContext
            for i in range(torch._C._len_torch_function_stack())
        )
    )


NUMBERS = (torch.float32, torch.float64, torch.bool)
"""The types of numbers that the compiled loops take."""


def alias(t: torch.Tensor, dtypes: tuple[torch.dtype, ...] = NUMBERS) -> torch.Tensor | None:
    """An alias of a tensor of numbers in the CPU's memory, or None for any other tensor.

    No other thread has the alias, whereas one may give ``t`` itself other memory while compiled
    code runs.
    """
    found = alias_of_any_extent(t, dtypes)
    if found is None:
        return None
    end = (found.storage_offset() + found.numel()) * found.element_size()
    return found if found.untyped_storage().nbytes() >= end else None


def alias_of_any_extent(
    t: torch.Tensor, dtypes: tuple[torch.dtype, ...] = NUMBERS
) -> torch.Tensor | None:
    """Like `alias`, but also for a tensor that repeats elements, such as an expanded one."""
    if type(t) not in PLAIN:
        return None
    try:
        t = t.detach()
        if not (
            t.is_cpu
            and t.layout is torch.strided
            and t.dtype in dtypes
            and not t.is_nested
            and not t.is_neg()
        ):
            return None
        address, memory = t.data_ptr(), t.untyped_storage().nbytes()
    except RuntimeError:  # a wrapper's tensor has neither
        return None
    # A lazy zero has no address, and no memory lies behind one whose storage was freed.
    if not address or not memory or address % t.element_size():
        return None
    return t


_warned: list[str] = []


def warn_once_not_compiled(reason: Exception) -> None:
    """Warn, once in a process, that there are no compiled loops, and what that costs.

    Args:
        reason: Why there are none. A formula that cannot be compiled (NotImplementedError) does not
            warn.
    """
    if isinstance(reason, NotImplementedError) or _warned:
        return
    first = (str(reason).splitlines() or [type(reason).__name__])[0].rstrip(":")
    _warned.append(first)
    warnings.warn(
        f"dlnotes cannot use compiled loops: {first}. Results are the same; optimizer steps and "
        "activations take several times as long on a CPU. They need a C and a C++ compiler",
        RuntimeWarning,
        stacklevel=2,
    )


@functools.lru_cache(maxsize=1)
def _machine() -> str:
    """What ``-march=native`` depends on; a cache in a shared home serves several machines."""
    cpu = Path("/proc/cpuinfo")
    flags = (
        [x for x in cpu.read_text().splitlines() if x.startswith(("flags", "Features"))]
        if cpu.exists()
        else []
    )
    return "\n".join([platform.platform(), platform.processor(), *flags[:1]])


def _cache() -> Path | None:
    """A folder for compiled kernels that only this user can write to, or None.

    Anyone who can write to it can run code in this process.
    """
    try:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        folder = Path(os.environ.get("DLNOTES_CACHE") or Path(home, "dlnotes")) / "kernels"
        folder = folder.absolute()  # a relative path may look like an option of the compiler
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
        if not hasattr(os, "geteuid"):  # Windows, where nobody has tried it
            return None
        if status.st_uid == os.geteuid() and not status.st_mode & 0o022:
            return folder if os.access(folder, os.W_OK) else None
    except (OSError, RuntimeError):  # no home, or one that cannot be written to
        return None
    _distrust(folder)
    return None


@functools.lru_cache(maxsize=1)
def _distrust(folder: Path) -> None:
    warnings.warn(
        f"others than this user can write to {folder}: kernels are compiled again in each process. "
        f"chmod go-w {folder}, or a $DLNOTES_CACHE of your own, avoids that",
        RuntimeWarning,
        stacklevel=2,
    )


_folders: list[tuple[Path, int]] = []


def _temporary() -> Path:
    """A folder of this process alone, for as long as it runs."""
    if not _folders or not _folders[-1][0].is_dir():  # systems remove old temporary folders
        _folders.append((Path(tempfile.mkdtemp(prefix="dlnotes-kernels-")), os.getpid()))
    return _folders[-1][0]


@atexit.register  # now, so that it is called after the handlers of those who import this
def _remove_folders() -> None:
    for folder, owner in _folders:
        if os.getpid() == owner:  # a forked child leaves its parent's folder
            shutil.rmtree(folder, ignore_errors=True)
