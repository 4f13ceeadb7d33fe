"""From a pure rule to one Triton kernel: all tensors of a step in one launch, in place, on a GPU.

The rule is recorded as for the loop in C (see ``_kernel``), and written in Triton's language.
Products and sums are not contracted, and division and √ are rounded correctly, so every operation
is rounded once. Every kernel has to agree with the plain step on samples before it is used.

Triton before 3.6 (PyTorch 2.10) flushes subnormal numbers to zero where it divides and takes roots
in float32; there only rules in float64, and those that do neither, have a kernel.
"""

from __future__ import annotations

import hashlib
import itertools
import linecache
from array import array
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch

from dlnotes.kernel import Program, Symbol, run_in_thread
from dlnotes.optim import _native
from dlnotes.optim._kernel import check_alike, flatten, key_of, recorded, sample

if TYPE_CHECKING:
    from dlnotes.optim._rule import UpdateRule

BLOCK = 1 << 10
"""Number of elements that each program of the grid updates."""

TYPES = {  # dtype → how it is stored, what it is computed in
    torch.float32: ("float32", "float32"),
    torch.float64: ("float64", "float64"),
    torch.float16: ("float16", "float32"),
    torch.bfloat16: ("bfloat16", "float32"),
}

# The operations of elements that `dlnotes.kernel` writes in C, in Triton's language.
FORMS = {
    "{} + {}": "{} + {}",
    "{} - {}": "{} - {}",
    "{} * {}": "{} * {}",
    "{} / {}": "tl.div_rn({}, {})",
    "-{}": "{} * -1.0",  # Triton's own negation is 0 - x, which is +0 for x = +0
    "{} > {}": "{} > {}",
    "{} != {}": "{} != {}",
    "{} ? {} : {}": "tl.where({}, {}, {})",
    "F(sqrt)({})": "tl.sqrt_rn({})",
    "F(fabs)({})": "tl.abs({})",
    "(real)(({0} > 0) - ({0} < 0))": "({0} > 0).to(tl.{real}) - ({0} < 0).to(tl.{real})",
    "({0} > {1}) | ({0} != {0}) ? {0} : {1}": "tl.where(({0} > {1}) | ({0} != {0}), {0}, {1})",
    "at_least({1}, {0})": "tl.where({0} < {1}, {1}, {0})",
    "at_most({1}, {0})": "tl.where({0} > {1}, {1}, {0})",
}
FORMS_OF_DOUBLE = {**FORMS, "{} / {}": "{} / {}", "F(sqrt)({})": "tl.sqrt({})"}

TEMPLATE = """\
import triton
import triton.language as tl


def numbers(hyper, t):
    scalar = []
{scalars}    return [{constants}]


# table: the first block of each tensor, and the number of all blocks; the elements of each tensor;
# where in the table its constants are; the addresses of all θ, all g and each accumulator; the
# constants, which are float64.
@triton.jit(do_not_specialize=["count"])
def kernel(table, count, BLOCK: tl.constexpr, ALIGNED: tl.constexpr):
    block = tl.program_id(0).to(tl.int64)
    k = block * 0
    above = k + count
    while above - k > 1:
        middle = (k + above) // 2
        found = tl.load(table + middle) <= block
        k = tl.where(found, middle, k)
        above = tl.where(found, above, middle)
    start = (block - tl.load(table + k)) * BLOCK
    n = tl.load(table + count + 1 + k)
    constant = table + tl.load(table + 2 * count + 1 + k)
    address = table + 3 * count + 1 + k
{setup}    if ALIGNED:
{aligned}    i = start + tl.arange(0, BLOCK)
    if start + BLOCK <= n:
{whole}    else:
        here = i < n
{part}"""


class TritonProgram(Program):
    """The recorded arithmetic of one rule as Triton's text, and of its numbers as Python's."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__(dtype)
        self.stored, self.real = TYPES[dtype]

    def record(self, form: str, *operands: Any, truth: bool = False) -> Symbol:
        """Append one operation and return its result."""
        if any(isinstance(x, Symbol) and x.element for x in operands):
            forms = FORMS_OF_DOUBLE if self.real == "float64" else FORMS
            if form not in forms:
                raise NotImplementedError(f"{form} is not written in Triton's language")
            form = forms[form].replace("{real}", self.real)
        return super().record(form, *operands, truth=truth)

    def number(self, text: str) -> Symbol:
        """A number of the whole tensor, which the host computes."""
        name = f"scalar[{len(self.scalars)}]"
        self.scalars.append(f"    scalar.append({text})\n")
        return Symbol(self, name, False)

    def _operand(self, x: Symbol | float, element: bool) -> str:
        text = x.name if isinstance(x, Symbol) else f"float({str(float(x))!r})"
        if not element or (isinstance(x, Symbol) and x.element):
            return text
        return self.constants.setdefault(text, f"c{len(self.constants)}")


def translate(
    rule: type[UpdateRule], dtype: torch.dtype, maximize: bool, hyper: dict[str, Any]
) -> str:
    """The text of a module with ``kernel`` and ``numbers``; arguments as of `_kernel.translate`.

    Raises:
        NotImplementedError: The rule does more than arithmetic with what `FORMS` has.
    """
    program = TritonProgram(dtype)
    names, outputs = recorded(program, rule, maximize, hyper)
    written = ["theta", *rule.accumulators]
    real, stored = program.real, program.stored
    setup = [
        f"    {name} = tl.load(constant + {j}).to(tl.float64, bitcast=True).to(tl.{real})\n"
        for j, name in enumerate(program.constants.values())
    ]
    setup += [
        f"    p_{n} = tl.load(address + {j} * count).to(tl.pointer_type(tl.{stored}))\n"
        for j, n in enumerate(names)
    ]

    def piece(masked: bool) -> str:
        # What is outside of the tensor is computed from ones, and not stored.
        of_load, of_store = (", mask=here, other=1.0", ", mask=here") if masked else ("", "")
        lines = [f"        v_{n} = tl.load(p_{n} + i{of_load}).to(tl.{real})\n" for n in names]
        lines += [
            line.replace("const real ", "").replace("const int ", "").replace(";\n", "\n")
            for line in program.body
        ]
        lines += [
            f"        tl.store(p_{n} + i, {x.name}.to(tl.{stored}){of_store})\n"
            for n, x in zip(written, outputs, strict=True)
        ]
        return "".join(lines)

    return TEMPLATE.format(
        scalars="".join(program.scalars),
        constants=", ".join(program.constants),
        setup="".join(setup),
        aligned="".join(f"        p_{n} = tl.multiple_of(p_{n}, 16)\n" for n in names),
        whole=piece(False),
        part=piece(True),
    )


class Kernel:
    """A rule in Triton's language.

    Args:
        source: What :func:`translate` returns.
        rule: The optimizer.
        device: The device of the tensors.
    """

    def __init__(self, source: str, rule: type[UpdateRule], device: torch.device) -> None:
        digest = hashlib.sha256(source.encode()).hexdigest()[:16]
        file = f"<triton kernel of {rule.__name__}, {digest}>"
        # Triton reads the source of a function from where Python's tracebacks read it.
        linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
        module: dict[str, Any] = {"__name__": file}
        exec(compile(source, file, "exec"), module)
        self.kernel, self.numbers = module["kernel"], module["numbers"]
        self.tensors, self.counts = 2 + len(rule.accumulators), "t" in rule.hyper_names()
        self.device, self.launched = device, None
        # With TRITON_INTERPRET=1 Triton runs kernels on the CPU. It copies their arguments there,
        # but not what the addresses in the table point to: the process would crash.
        if device.type == "cuda" and not isinstance(self.kernel, module["triton"].JITFunction):
            raise RuntimeError("TRITON_INTERPRET is set, but a kernel needs the GPU's own memory")

    def __call__(
        self, count: int, offsets: array[int], pointers: array[int], hyper: dict[str, Any]
    ) -> None:
        """Start the update of tensors in place, and return without waiting for the GPU.

        As after any operation of torch, a tensor may be freed at once: its memory is reused only by
        what comes later on the stream that it was allocated for. Steps are counted last, so that an
        error before that leaves everything as it was.

        Args:
            count: See ``_kernel.Kernel.__call__``, also for the others.
            offsets: Elements before each tensor, and the number of all.
            pointers: Addresses on the GPU, but for those of the steps.
            hyper: The hyper-parameters.
        """
        columns = self.tensors
        places = pointers.buffer_info()[0] + 8 * columns * count  # of the addresses of the steps
        steps = _native.next_steps(count, places) if self.counts else [0.0] * count
        numbers = flatten(hyper)
        row = {t: i for i, t in enumerate(dict.fromkeys(steps))}
        constants = array("d", [x for t in row for x in self.numbers(numbers, t)])
        table = torch.empty(
            (3 + columns) * count + 1 + len(constants),
            dtype=torch.int64,
            device="cpu",
            pin_memory=self.device.type == "cuda",  # to be copied without waiting
        )
        rows = array("q", map(row.__getitem__, steps) if len(row) > 1 else bytes(8 * count))
        blocks = _native.lay_out(columns, BLOCK, offsets, pointers, rows, constants, table)
        if blocks:
            table = table.to(self.device, non_blocking=True)
            self.launch(table, count, abs(blocks), aligned=blocks > 0)
        if self.counts:
            _native.advance(count, places)

    def launch(self, table: torch.Tensor, count: int, blocks: int, aligned: bool) -> None:
        """Start the kernel on the stream that is current."""
        with torch.cuda.device(self.device) if self.device.type == "cuda" else nullcontext():
            self.launched = self.kernel[(blocks,)](
                table, count, BLOCK=BLOCK, ALIGNED=aligned, enable_fp_fusion=False
            )


_built: dict[Any, Kernel | Exception] = {}


def build(
    rule: type[UpdateRule],
    dtype: torch.dtype,
    maximize: bool,
    hyper: dict[str, Any],
    device: torch.device,
) -> Kernel | Exception:
    """The kernel of a rule on a device, or why there is none; arguments as of `_kernel.build`."""
    key = (key_of(rule, dtype, maximize, hyper), device)
    if key not in _built:
        _built[key] = run_in_thread(_build, rule, dtype, maximize, hyper, device)
    return _built[key]


def _build(
    rule: type[UpdateRule],
    dtype: torch.dtype,
    maximize: bool,
    hyper: dict[str, Any],
    device: torch.device,
) -> Kernel | Exception:
    try:
        source = translate(rule, dtype, maximize, hyper)
        kernel = Kernel(source, rule, device)
        _try_out(kernel, rule, dtype, maximize, hyper)
    except Exception as reason:  # a rule may raise anything, and a driver may be too old
        if isinstance(reason, ModuleNotFoundError) and reason.name == "triton":
            return NotImplementedError("Triton is not installed")
        return NotImplementedError(f"{rule.__name__} is not compiled for {device}: {reason}")
    return kernel


def _check_subnormal(kernel: Kernel) -> None:
    """Look at the instructions of a kernel that has been launched.

    A sample would not show this: beside ordinary numbers such as ε, subnormal ones have no effect.

    Raises:
        RuntimeError: It flushes subnormal numbers to zero, or is not in NVIDIA's language.
    """
    asm = getattr(kernel.launched, "asm", None)
    if asm is not None and ".ftz" in asm.get("ptx", ".ftz"):
        raise RuntimeError(
            "this Triton may flush subnormal numbers to zero; 3.6 does not on NVIDIA"
        )


def _try_out(
    kernel: Kernel,
    rule: type[UpdateRule],
    dtype: torch.dtype,
    maximize: bool,
    hyper: dict[str, Any],
) -> None:
    """Compare a kernel with the plain rule on the CPU; RuntimeError unless they agree."""
    # In turn: numbers of both signs or not; addresses that are multiples of 16, and others.
    for mixed, shift in itertools.product((False, True), (0, 1)):
        hyper, values, step, expected = sample(rule, dtype, maximize, hyper, mixed)
        times = BLOCK // len(values[0]) + 1  # a whole block and a part of one
        given = [torch.cat([x[:shift], x.repeat(times)]).to(kernel.device)[shift:] for x in values]
        pointers = array("q", [x.data_ptr() for x in given])
        if kernel.counts:
            pointers.append(step.data_ptr())
        kernel(1, array("q", [0, len(given[0])]), pointers, hyper)
        found = [given[0].cpu(), *(x.cpu() for x in given[2:])]
        check_alike(rule, dtype, found, [x.repeat(times) for x in expected], mixed)
        _check_subnormal(kernel)
