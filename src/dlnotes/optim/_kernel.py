"""From a pure rule to one C loop: all tensors of a step in one call, in place, on all cores.

The rule itself is run once on symbols instead of tensors, which records its arithmetic. What
depends only on hyper-parameters and on t (such as bias corrections) is computed once per tensor in
float64, as Python does in the plain step; the rest becomes the body of a loop. The C compiler may
not contract or reorder operations, so each of them is rounded once, as IEEE 754 requires. The same
holds for torch on a CPU, except that its √ may come from a vector library that is off by an ulp.
Rules without a root therefore agree bit for bit with the plain step, the others to a few ulp per
step. Every kernel is compared with the plain step on a sample before it is used.
"""

from __future__ import annotations

import ctypes
import math
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from dlnotes.kernel import EXACT, TYPES, Program, Symbol, compiled, run_in_thread

if TYPE_CHECKING:
    from dlnotes.optim._rule import UpdateRule

TEMPLATE = """\
{prelude}
#include <stdlib.h>

/* What depends on hyper-parameters and on t alone. */
static void prepare(const double *hyper, double t, double *scalar) {{
    (void)hyper, (void)t, (void)scalar;
{scalars}}}

static void update(int64_t n, const double *scalar, {arguments}) {{
    (void)scalar;
{constants}    for (int64_t i = 0; i < n; i++) {{
{body}    }}
}}

/* Tensor k has the elements offset[k] … offset[k + 1] - 1 of one long list of all elements, which
   is cut into blocks. pointer[j * tensors + k]: θ, g, the accumulators and, last, the step. */
void run(int64_t tensors, const int64_t *offset, void *const *pointer, const double *hyper,
         int64_t threads) {{
    const int64_t total = offset[tensors], size = {block};
    const int64_t blocks = (total + size - 1) / size;
    (void)threads;
    if ({counts})
        for (int64_t k = 0; k < tensors; k++) *(float *)pointer[{arrays} * tensors + k] += 1;
#pragma omp parallel num_threads(threads) if (threads > 1)
    {{
        double scalar[{slots}], now = NAN; /* no t is equal to that */
#pragma omp for schedule(guided) nowait
        for (int64_t b = 0; b < blocks; b++) {{
            const int64_t start = b * size, end = start + size < total ? start + size : total;
            int64_t k = 0, above = tensors;
            while (above - k > 1) {{
                const int64_t middle = (k + above) / 2;
                if (offset[middle] <= start) k = middle; else above = middle;
            }}
            for (; k < tensors && offset[k] < end; k++) {{
                const int64_t from = offset[k] > start ? offset[k] : start;
                const int64_t to = offset[k + 1] < end ? offset[k + 1] : end;
                if (from >= to) continue;
                const double t = {counts} ? *(float *)pointer[{arrays} * tensors + k] : 0;
                if (t != now) prepare(hyper, now = t, scalar);
                update(to - from, scalar, {pass_on});
            }}
        }}
    }}
}}

/* Sorts keys by their upper 32 bits, which are below `bound`; equal ones stay in their order.
   Returns where they are then: in `key` or in `other`. */
static uint64_t *sorted(int64_t n, uint64_t *key, uint64_t *other, uint64_t bound) {{
    enum {{ DIGIT = 11, VALUES = 1 << DIGIT }};
    for (int shift = 32; shift < 64 && bound - 1 >> (shift - 32); shift += DIGIT) {{
        int64_t before[VALUES + 1] = {{0}};
        for (int64_t i = 0; i < n; i++) before[(key[i] >> shift) % VALUES + 1]++;
        for (int v = 0; v < VALUES; v++) before[v + 1] += before[v];
        for (int64_t i = 0; i < n; i++) other[before[(key[i] >> shift) % VALUES]++] = key[i];
        uint64_t *swap = key;
        key = other, other = swap;
    }}
    return key;
}}

/* Updates the rows that the keys from … to - 1 begin: a key has the index of a row above, and where
   in g its gradient is below. Those with the same index are added up, in their order. */
static void update_rows(int64_t from, int64_t to, int64_t n, const uint64_t *key, int64_t columns,
                        const double *scalar, void *const *pointer) {{
    real total[{piece}];
    stored sum[{piece}];
    while (from < to && from > 0 && key[from] >> 32 == key[from - 1] >> 32) from++;
    for (int64_t i = from, next; i < to; i = next) {{
        const int64_t row = (int64_t)(key[i] >> 32);
        const int64_t later = (int64_t)(key[i + {ahead} < n ? i + {ahead} : n - 1] >> 32) * columns;
{prefetch}        for (next = i + 1; next < n && (int64_t)(key[next] >> 32) == row;) next++;
        for (int64_t c = 0; c < columns; c += {piece}) {{
            const int64_t width = columns - c < {piece} ? columns - c : {piece};
            const stored *g = (const stored *)pointer[1] + (uint32_t)key[i] * columns + c;
            if (next - i > 1) {{
                for (int64_t k = 0; k < width; k++) total[k] = {load_g};
                for (int64_t other = i + 1; other < next; other++) {{
                    g = (const stored *)pointer[1] + (uint32_t)key[other] * columns + c;
                    for (int64_t k = 0; k < width; k++) total[k] += {load_g};
                }}
                for (int64_t k = 0; k < width; k++) sum[k] = {store_sum};
                g = sum;
            }}
            update(width, scalar, {pass_row});
        }}
    }}
}}

/* Row i of g belongs to row index[i] of θ and the accumulators, which have `rows` rows of `columns`
   numbers. pointer: θ, g, the accumulators and, last, the step. Returns 0; or 1, and nothing is
   changed, if an index is outside of the rows, or memory is lacking. */
int64_t run_rows(int64_t n, int64_t rows, int64_t columns, const int64_t *index,
                 void *const *pointer, const double *hyper, int64_t threads) {{
    (void)threads;
    if (n > UINT32_MAX || rows > UINT32_MAX) return 1;
    uint64_t *const memory = malloc((n ? n : 1) * 2 * sizeof *memory), *key = memory;
    if (!memory) return 1;
    int in_order = 1;
    for (int64_t i = 0; i < n; i++) {{
        const int64_t row = index[i];
        if (row < 0 || row >= rows) {{
            free(memory);
            return 1;
        }}
        key[i] = (uint64_t)row << 32 | (uint64_t)i;
        in_order &= i == 0 || key[i - 1] < key[i];
    }}
    if (!in_order) key = sorted(n, memory, memory + n, (uint64_t)rows);
    double scalar[{slots}];
    if ({counts}) *(float *)pointer[{arrays}] += 1;
    prepare(hyper, {counts} ? *(float *)pointer[{arrays}] : 0, scalar);
    const int64_t size = columns < {block} ? {block} / columns : 1;
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(guided)
    for (int64_t from = 0; from < n; from += size)
        update_rows(from, from + size < n ? from + size : n, n, key, columns, scalar, pointer);
    free(memory);
    return 0;
}}
"""

BLOCK = 1 << 15  # elements: a few cache-sized pieces for each core to choose from
PIECE = 1 << 10  # elements of a row whose gradients are added up at a time
AHEAD = 16  # rows that are fetched from memory before their turn


def translate(
    rule: type[UpdateRule], dtype: torch.dtype, maximize: bool, hyper: dict[str, Any]
) -> str:
    """The C text of a rule.

    Args:
        rule: The optimizer.
        dtype: The dtype of parameters, gradients and accumulators.
        maximize: Whether to ascend.
        hyper: The hyper-parameters in the order in which the kernel will get them; only which of
            them are pairs and whether there is weight decay matters.

    Returns:
        The source of a library with two functions, ``run`` for dense gradients and ``run_rows``
        for those of rows.

    Raises:
        NotImplementedError: The rule does more than arithmetic with +, −, ·, /, √ and squares.
    """
    if dtype not in TYPES:
        raise NotImplementedError(f"{dtype} is not compiled")
    program = Program(dtype)
    names, outputs = recorded(program, rule, maximize, hyper)
    counts = "t" in rule.hyper_names()
    written = ["theta", *rule.accumulators]
    loads = [f"        const real v_{n} = {program.load.format(f'p_{n}[i]')};\n" for n in names]
    stores = [
        f"        p_{n}[i] = {program.store.format(x.name)};\n"
        for n, x in zip(written, outputs, strict=True)
    ]
    return TEMPLATE.format(
        prelude=program.prelude(),
        scalars="".join(program.scalars),
        constants=program.constants_text(),
        body="".join(loads + program.body + stores),
        arguments=", ".join(
            f"{'' if n in written else 'const '}stored *restrict p_{n}" for n in names
        ),
        pass_on=", ".join(
            f"(stored *)pointer[{j} * tensors + k] + (from - offset[k])" for j in range(len(names))
        ),
        pass_row=", ".join(
            "g" if j == 1 else f"(stored *)pointer[{j}] + row * columns + c"
            for j in range(len(names))
        ),
        prefetch="".join(
            f"        __builtin_prefetch((stored *)pointer[{j}] + later, 1);\n"
            for j in range(len(names))
            if j != 1
        ),
        load_g=program.load.format("g[k]"),
        store_sum=program.store.format("total[k]"),
        piece=PIECE,
        ahead=AHEAD,
        arrays=len(names),
        slots=max(1, len(program.scalars)),
        counts=int(counts),
        block=BLOCK,
    )


def recorded(
    program: Program, rule: type[UpdateRule], maximize: bool, hyper: dict[str, Any]
) -> tuple[list[str], tuple[Symbol, ...]]:
    """Record a rule in a program by running it on symbols.

    Returns:
        The names of its arguments, which are those of the symbols after ``v_``: θ, g and the
        accumulators; and the symbols of the new θ and the new accumulators.
    """
    if rule.elementwise is False:
        raise NotImplementedError(f"{rule.__name__} is not elementwise")
    names = ["theta", "g", *rule.accumulators]
    position = iter(range(len(flatten(hyper))))

    def symbol(value: Any) -> Any:
        if _is_pair(value):
            return tuple(map(symbol, value))
        if not _is_number(value):
            return value
        return program.number(f"hyper[{next(position)}]")

    arguments = {name: symbol(value) for name, value in hyper.items()}
    if hyper.get("weight_decay") == 0:
        arguments["weight_decay"] = 0.0
    if "t" in rule.hyper_names():
        arguments["t"] = program.number("t")
    inputs = [Symbol(program, f"v_{name}", True) for name in names]
    return names, cast("Any", rule.update)(*inputs, maximize=maximize, **arguments)


def flatten(hyper: dict[str, Any]) -> list[float]:
    """The numeric hyper-parameters as one list, in which tuples are flattened."""
    found: list[float] = []
    for value in hyper.values():
        found.extend(map(float, filter(_is_number, value if _is_pair(value) else (value,))))
    return found


def _is_pair(value: Any) -> bool:
    return isinstance(value, (tuple, list))


def _is_number(value: Any) -> bool:
    """Whether a value may change from step to step; others, such as strings, are compiled in."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


class Kernel:
    """A compiled rule."""

    def __init__(self, library: Path) -> None:
        loaded = ctypes.CDLL(str(library))
        number, address = ctypes.c_int64, ctypes.c_void_p
        self._run = loaded.run
        self._run.restype = None
        self._run.argtypes = [number, *[address] * 3, number]
        self._run_rows = loaded.run_rows
        self._run_rows.restype = number
        self._run_rows.argtypes = [*[number] * 3, *[address] * 3, number]

    def __call__(
        self, count: int, offsets: array[int], pointers: array[int], hyper: dict[str, Any]
    ) -> None:
        """Update tensors in place. The caller keeps their memory alive.

        Args:
            count: The number of tensors.
            offsets: Elements before each tensor, and the number of all.
            pointers: Addresses of all θ, of all g, of each accumulator and of the steps.
            hyper: The hyper-parameters, in the order in which the rule was translated.
        """
        numbers = array("d", flatten(hyper))
        self._run(
            count,
            offsets.buffer_info()[0],
            pointers.buffer_info()[0],
            numbers.buffer_info()[0],
            _threads(offsets[count]),
        )

    def rows(
        self,
        shape: tuple[int, int, int],
        index: int,
        pointers: array[int],
        hyper: dict[str, Any],
    ) -> bool:
        """Update rows of one tensor in place. The caller keeps all memory alive.

        Args:
            shape: How many rows the gradient has, how many θ has, and how many numbers a row has.
            index: Address of the row of θ for each row of the gradient, in int64. Gradients of the
                same row are added up.
            pointers: Addresses of θ, g, each accumulator and the step.
            hyper: The hyper-parameters, in the order in which the rule was translated.

        Returns:
            Whether it was possible; if not, nothing has changed.
        """
        numbers = array("d", flatten(hyper))
        n, rows, columns = shape
        addresses = index, pointers.buffer_info()[0], numbers.buffer_info()[0]
        return not self._run_rows(n, rows, columns, *addresses, _threads(n * columns))


def _threads(elements: int) -> int:
    return max(1, min(torch.get_num_threads(), elements // BLOCK))


_built: dict[Any, Kernel | Exception] = {}
_recorded: dict[Any, str | Exception] = {}


def build(
    rule: type[UpdateRule], dtype: torch.dtype, maximize: bool, hyper: dict[str, Any]
) -> Kernel | Exception:
    """Translate, compile and check a rule, once per process.

    Args:
        rule: The optimizer.
        dtype: The dtype of parameters, gradients and accumulators.
        maximize: Whether to ascend.
        hyper: The hyper-parameters in the order in which the kernel will get them; only which of
            them are pairs and whether there is weight decay matters.

    Returns:
        The kernel, or the reason why there is none.
    """
    key = key_of(rule, dtype, maximize, hyper)
    if key not in _built:
        _built[key] = run_in_thread(_build, rule, dtype, maximize, hyper)
    return _built[key]


def _build(
    rule: type[UpdateRule], dtype: torch.dtype, maximize: bool, hyper: dict[str, Any]
) -> Kernel | Exception:
    source = record(rule, dtype, maximize, hyper)
    if isinstance(source, Exception):
        return source
    try:
        kernel = Kernel(compiled(source, *EXACT))
        _try_out(kernel, rule, dtype, maximize, hyper)
    except Exception as reason:  # no compiler, no memory, or a rule that refuses the sample
        return reason
    return kernel


def record(
    rule: type[UpdateRule], dtype: torch.dtype, maximize: bool, hyper: dict[str, Any]
) -> str | Exception:
    """The C text of a rule, or the reason why there is none; arguments as for :func:`build`."""
    key = key_of(rule, dtype, maximize, hyper)
    if key not in _recorded:
        try:
            _recorded[key] = translate(rule, dtype, maximize, hyper)
        except Exception as reason:  # a rule may do whatever it likes with numbers and tensors
            _recorded[key] = NotImplementedError(f"{rule.__name__} is not compiled: {reason}")
    return _recorded[key]


def is_elementwise(rule: type[UpdateRule], hyper: dict[str, Any]) -> bool:
    """Whether each number of a parameter is updated from its own numbers alone.

    A rule may declare this. Otherwise the rule must be recordable, since a recording consists only
    of arithmetic on single elements.
    """
    if rule.elementwise is not None:
        return rule.elementwise
    hyper = {name: 0.5 if isinstance(x, torch.Tensor) else x for name, x in hyper.items()}
    if key_of(rule, torch.float32, False, hyper) not in _recorded:
        run_in_thread(record, rule, torch.float32, False, hyper)
    return isinstance(record(rule, torch.float32, False, hyper), str)


def key_of(
    rule: type[UpdateRule], dtype: torch.dtype, maximize: bool, hyper: dict[str, Any]
) -> tuple[Any, ...]:
    """All that a kernel depends on, including functions, since those of a class may be replaced."""
    functions = (rule.rule, rule.decay, cast("Any", rule.update).__func__, rule.elementwise)
    names = (rule.__name__, rule.accumulators, rule.hyper_names())
    shape = tuple((name, _shape(value)) for name, value in hyper.items())
    return (functions, names, dtype, maximize, hyper["weight_decay"] != 0, shape)


def _shape(value: Any) -> Any:
    """A hyper-parameter without its numbers, which may change from step to step."""
    if _is_pair(value):
        return tuple(map(_shape, value))
    return float if _is_number(value) else (type(value), repr(value))


def sample(
    rule: type[UpdateRule],
    dtype: torch.dtype,
    maximize: bool,
    hyper: dict[str, Any],
    mixed: bool = False,
) -> tuple[dict[str, Any], list[torch.Tensor], torch.Tensor, tuple[torch.Tensor, ...]]:
    """What a kernel is tried on.

    Args:
        rule: See :func:`build`, also for the next three.
        dtype: Of the tensors.
        maximize: Whether to ascend.
        hyper: The hyper-parameters, whose numbers are replaced.
        mixed: Whether θ and g have numbers of both signs, and g also zeros, infinities and NaN;
            otherwise all are positive.

    Returns:
        Hyper-parameters; θ, g and accumulators that a step can have left, 43 numbers each; the
        number of that step; and the new θ and the new accumulators of the plain rule.
    """
    decays = hyper["weight_decay"] != 0

    def plausible(value: Any, number: float = 0.125) -> Any:
        if _is_pair(value):
            return tuple(plausible(x, (i + 1) / (len(value) + 2)) for i, x in enumerate(value))
        return number if _is_number(value) else value

    hyper = {name: plausible(value) for name, value in hyper.items()}
    hyper["weight_decay"] *= decays
    generator = torch.Generator("cpu").manual_seed(0)
    plain: dict[str, Any] = {"dtype": torch.float32, "device": "cpu"}
    count = 2 + len(rule.accumulators)
    values = [torch.rand(43, generator=generator, **plain).to(dtype) + 0.25 for _ in range(count)]
    options = {**hyper, "maximize": maximize}
    counts = "t" in rule.hyper_names()

    def update(t: float) -> tuple[torch.Tensor, ...]:
        wide = [x.double() if dtype is torch.float64 else x.float() for x in values]
        now: dict[str, Any] = {**options, "t": t} if counts else options
        return rule.update(*wide, **now)

    # Accumulators as an earlier step leaves them, so that they can occur.
    before = torch.rand(43, generator=generator, **plain).to(dtype) + 0.25
    if mixed:
        for first, x in enumerate((values[0], before, values[1])):
            x[first::3] *= -1
        special = [0.0, -0.0, math.inf, -math.inf, math.nan]
        before[5:10] = values[1][10:15] = torch.tensor(special, dtype=dtype, device="cpu")
    g, values[1:] = values[1], [before, *(torch.zeros_like(before) for _ in rule.accumulators)]
    values[1:] = [g, *(x.to(dtype) for x in update(2.0)[1:])]
    return hyper, values, torch.full((), 2.0, **plain), update(3.0)


def check_alike(
    rule: type[UpdateRule],
    dtype: torch.dtype,
    found: Sequence[torch.Tensor],
    expected: Sequence[torch.Tensor],
    mixed: bool = False,
) -> None:
    """Compare the new θ and accumulators of a kernel with those of the plain rule.

    Args:
        rule: The optimizer.
        dtype: Of the tensors.
        found: From the kernel.
        expected: From the plain rule.
        mixed: As of :func:`sample`. Numbers of different signs may cancel, which leaves the
            rounding of what they were.

    Raises:
        RuntimeError: They differ by more than the rounding.
    """
    names = ["theta", *rule.accumulators]
    tolerance = 16 * torch.finfo(dtype).eps
    limits: dict[str, Any] = {"rtol": tolerance, "atol": tolerance * mixed, "equal_nan": True}
    for name, x, y in zip(names, found, expected, strict=True):
        if not torch.allclose(x, y.to(dtype), **limits):
            raise RuntimeError(f"the compiled {rule.__name__} differs from the plain one in {name}")


def _try_out(
    kernel: Kernel,
    rule: type[UpdateRule],
    dtype: torch.dtype,
    maximize: bool,
    hyper: dict[str, Any],
) -> None:
    """Compare a kernel with the plain rule; RuntimeError unless they agree."""
    hyper, values, step, expected = sample(rule, dtype, maximize, hyper)
    index = torch.tensor([42, *range(41, -1, -1)], dtype=torch.int64, device="cpu")
    for by_rows in (False, True):
        given = [x.clone() for x in values]
        if by_rows:
            given[1] = given[1].flip(0)
        count = step.clone()
        pointers = array("Q", [x.data_ptr() for x in (*given, count)])
        if by_rows:
            kernel.rows((43, 43, 1), index.data_ptr(), pointers, hyper)
        else:
            kernel(1, array("q", [0, 43]), pointers, hyper)
        check_alike(rule, dtype, [given[0], *given[2:]], expected)
