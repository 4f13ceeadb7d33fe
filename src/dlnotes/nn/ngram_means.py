"""The mean of a document's word and n-gram vectors in compiled code, for training on a CPU.

Tensor operations need about twenty passes over the batch to compute the ids, and also gather the
padding, with weight 0. The compiled code computes the ids of one document and adds up their vectors
while they are in the processor's cache. Both give the same bits, because the vectors are added in
the same order.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules import module

from dlnotes.kernel import EXACT, alias, compiled, observed, run_in_thread, warn_once_not_compiled
from dlnotes.nn.vectors import PAD

_GRAIN = 1 << 15  # numbers that are worth a thread
_DTYPES = {torch.float32: "float", torch.float64: "double"}

_HOOKS_OF_ALL = (
    *(module._global_forward_pre_hooks, module._global_forward_hooks),
    *(module._global_backward_pre_hooks, module._global_backward_hooks),
)
"""Hooks that watch every module."""

# Odd, and near 2**64 / golden ratio: consecutive multiples spread evenly (Knuth, TAOCP 3, 6.4).
MULTIPLIER = 0x9E3779B97F4A7C15 - 2**64
"""A of `dlnotes.models.fasttext.ngram_ids`."""


class Ngrams(NamedTuple):
    """Which n-grams have an id, see `dlnotes.models.fasttext.ngram_ids`."""

    ngrams: int
    """The longest, in words."""
    first: int
    """The smallest id."""
    buckets: int
    """Number of ids."""


Means = Callable[[nn.EmbeddingBag, Tensor, Ngrams], Tensor]


def mean_vectors(
    vectors: nn.EmbeddingBag, tokens: Int[Tensor, "b t"], grams: Ngrams, plain: Means
) -> Float[Tensor, "b e"] | None:
    """The mean vectors, with a sparse gradient; None where the compiled code does not apply.

    It applies while gradients are recorded, to contiguous float32 and float64 tensors on a CPU, if
    there is a C compiler and nothing besides autograd (such as a hook) observes the operations.

    Args:
        vectors: A vector per id.
        tokens: Ids of the words, `PAD` among them.
        grams: The n-grams.
        plain: The same by tensor operations, with which the compiled code is compared once.
    """
    weight = vectors.weight
    if not torch.is_grad_enabled() or observed() or not _only_adds_up(vectors):
        return None
    if weight.dtype not in _DTYPES:
        return None
    rows, words = alias(weight), alias(tokens, (torch.int64,))
    if rows is None or words is None:
        return None
    if not (rows.is_contiguous() and words.is_contiguous()):
        return None
    code = _code(weight.dtype, plain)
    found = code and _forward(rows, words, grams, code)
    if not found:
        return None
    means: Tensor = _Means.apply(weight, found, code)
    return means


def _only_adds_up(vectors: nn.EmbeddingBag) -> bool:
    """Whether the module has its original behaviour, and no hook watches it."""
    return (
        type(vectors) is nn.EmbeddingBag
        and "forward" not in vars(vectors)
        and (vectors.mode, vectors.max_norm, vectors.padding_idx) == ("sum", None, None)
        and not (vectors.scale_grad_by_freq or vectors.include_last_offset)
        and not (vectors._forward_hooks or vectors._forward_pre_hooks)
        and not (vectors._backward_hooks or vectors._backward_pre_hooks)
        and not any(_HOOKS_OF_ALL)
    )


class _Code(NamedTuple):
    """The functions of ``ngram_means.c``."""

    forward: Callable[..., int]
    backward: Callable[..., None]


class _Means(torch.autograd.Function):
    """The means as a function of the vectors; what `_forward` has found becomes its result."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, found: tuple[Tensor, ...], code: _Code) -> Tensor:
        means, *ids = found
        ctx.save_for_backward(*ids)
        ctx.shape, ctx.code = weight.shape, code
        return means

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None]:
        ids, counts = ctx.saved_tensors
        return _backward(g, ids, counts, ctx.shape, ctx.code), None, None


def _forward(
    vectors: Tensor, tokens: Tensor, grams: Ngrams, code: _Code
) -> tuple[Tensor, Tensor, Tensor] | None:
    """The means, the ids of each document in a row, and how many there are."""
    (b, t), (rows, e) = tokens.shape, vectors.shape
    grams = grams._replace(ngrams=min(grams.ngrams, t))  # no n-gram is longer than a document
    width = sum(t - n + 1 for n in range(1, grams.ngrams + 1))
    means = torch.empty(b, e, dtype=vectors.dtype, device="cpu")
    ids = torch.empty(b, width, dtype=torch.int64, device="cpu")
    counts = torch.empty(b, dtype=torch.int64, device="cpu")
    addresses = (x.data_ptr() for x in (tokens, vectors, means, ids, counts))
    sizes = (b, t, e, width, rows, *grams)
    failed = code.forward(*sizes, *addresses, _threads(b * width * e))
    return None if failed else (means, ids, counts)


def _backward(g: Tensor, ids: Tensor, counts: Tensor, shape: torch.Size, code: _Code) -> Tensor:
    """The gradient of the vectors, a row per id."""
    g = torch.empty(g.shape, dtype=g.dtype, device="cpu").copy_(g)  # autograd has lazy zeros
    (b, width), (_, e) = ids.shape, shape
    ends = counts.cumsum(0)
    begins = ends - counts
    total = int(ends[-1]) if b else 0
    index = torch.empty(1, total, dtype=torch.int64, device="cpu")
    values = torch.empty(total, e, dtype=g.dtype, device="cpu")
    addresses = (x.data_ptr() for x in (ids, counts, begins, g, index, values))
    code.backward(b, e, width, *addresses, _threads(total * e))
    return torch.sparse_coo_tensor(index, values, shape, check_invariants=False)


def _threads(numbers: int) -> int:
    return max(1, min(torch.get_num_threads(), numbers // _GRAIN))


@functools.cache
def _code(dtype: torch.dtype, plain: Means) -> _Code | None:
    """The compiled and tested code for a dtype; None, with a warning, if there is none."""
    text = Path(__file__).with_name("ngram_means.c").read_text(encoding="utf-8")
    constants = f"enum {{ PAD = {PAD} }};\n#define MULTIPLIER {MULTIPLIER % 2**64}ULL\n"
    headers = "".join(f"#include <{name}.h>\n" for name in ("stdint", "stdlib", "string"))
    source = f"{headers}typedef {_DTYPES[dtype]} real;\n{constants}{text}"
    try:
        library = ctypes.CDLL(str(compiled(source, *EXACT)))
    except (OSError, RuntimeError, AttributeError) as reason:
        warn_once_not_compiled(reason)
        return None
    number, address = ctypes.c_int64, ctypes.c_void_p
    library.forward.argtypes = [*[number] * 8, *[address] * 5, number]
    library.forward.restype = number
    library.backward.argtypes = [*[number] * 3, *[address] * 6, number]
    library.backward.restype = None
    code = _Code(library.forward, library.backward)
    return code if run_in_thread(_agrees, code, dtype, plain) else None


def _agrees(code: _Code, dtype: torch.dtype, plain: Means) -> bool:
    """Whether means and gradient are those of the tensor operations on a sample."""
    with torch.device("cpu"), torch.enable_grad():
        generator = torch.Generator().manual_seed(0)
        grams = Ngrams(3, 20, 30)
        tokens = torch.randint(0, 20, (7, 12), generator=generator)  # with padding between words
        tokens[3] = PAD
        weight = torch.rand(50, 10, dtype=dtype, generator=generator)
        vectors = nn.EmbeddingBag.from_pretrained(weight, freeze=False, mode="sum", sparse=True)
        g = torch.rand(7, 10, dtype=dtype, generator=generator)
        expected = plain(vectors, tokens, grams)
        # The gradient of a scalar: if one were passed in, torch would import SymPy, for a second.
        (gradient,) = torch.autograd.grad((expected * g).sum(), vectors.weight)
        found = _forward(weight, tokens, grams, code)
        if found is None:
            return False
        means, ids, counts = found
        same = _backward(g, ids, counts, weight.shape, code).to_dense()
        return torch.equal(means, expected) and torch.equal(same, gradient.to_dense())
