"""One step of many parameters in tensor operations, on any device and under any transform."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch._C._nn import flatten_dense_tensors

from dlnotes.kernel import LOW_PRECISION, PLAIN, observed

SMALL = 1 << 14
"""Tensors of up to this number of elements share a flat buffer on a CPU."""

SMALL_ELSEWHERE = 1 << 20
"""The same on another device; for a tensor of this size, launch and work take about as long."""

BUFFER_ELSEWHERE = 1 << 23
"""Maximum size of a flat buffer there: it and its temporaries need memory beside the tensors."""

PIECE = 1 << 16
"""Elements of a piece of a larger tensor, small enough for its temporaries to stay in the cache."""

Update = Callable[..., tuple[Tensor, ...]]
"""``update(theta, g, *accumulators, t)``: the new θ and the new accumulators."""


def step(rows: Sequence[Sequence[Tensor]], counts: bool, update: Update, divisible: bool) -> None:
    """Update every parameter, small ones together in flat buffers.

    Args:
        rows: For each parameter: θ, its gradient, its accumulators and, with ``counts``, its step.
        counts: Whether the steps are there.
        update: The rule.
        divisible: Whether tensors may be cut up and joined, since the rule is elementwise.
    """
    alone = _alone(rows) if divisible else [False] * len(rows)
    alike = _alike([_parts(row, counts)[0] for row in rows])
    together: dict[Any, list[Sequence[Tensor]]] = {}
    for row, separate, similar in zip(rows, alone, alike, strict=True):
        theta = row[0]
        if separate and similar and theta.numel() <= _limits(theta.device)[0]:
            together.setdefault((theta.dtype, theta.device), []).append(row)
        else:
            step_one(row, counts, update, divisible, cut=separate)
    for (_, device), some in together.items():
        for few in _portions(some, _limits(device)[1]):
            _step_flat(few, counts, update)


def _limits(device: torch.device) -> tuple[int, int | None]:
    """Maximum numbers of elements of tensors that share a flat buffer, and of the buffer."""
    return (SMALL, None) if device.type == "cpu" else (SMALL_ELSEWHERE, BUFFER_ELSEWHERE)


def _portions(rows: list[Sequence[Tensor]], most: int | None) -> Iterator[list[Sequence[Tensor]]]:
    """Rows in order, with small parameters grouped up to a maximum number of elements."""
    few: list[Sequence[Tensor]] = []
    total = 0
    for row in rows:
        total += row[0].numel()
        if few and most is not None and total > most:
            yield few
            few, total = [], row[0].numel()
        few.append(row)
    yield few


def step_one(
    row: Sequence[Tensor],
    counts: bool,
    update: Update,
    divisible: bool,
    cut: bool = False,
    exact: bool = True,
) -> None:
    """Update one parameter.

    Args:
        row: θ, its gradient, its accumulators and, with ``counts``, its step.
        counts: Whether the step is there.
        update: The rule.
        divisible: Whether rows of a sparse gradient may be updated alone.
        cut: Whether a large tensor may be updated piece by piece.
        exact: Compute with the step as a Python number; otherwise it stays a tensor, as tracers
            need it.
    """
    tensors, counter = _parts(row, counts)
    check_shapes(tensors)
    theta, g, *accumulators = tensors
    if g.is_sparse:
        g = coalesced(g) if divisible else checked(g).to_dense()
    t = None if counter is None else _count(counter, exact)
    targets = [theta, *accumulators]
    if g.is_sparse:
        if g.is_coalesced():
            rows, values = tuple(g.indices()), g.values()
        else:
            rows, values = _rows_that_agree(g)
        if len(rows) == 1:  # whole rows, as an embedding gives: several times faster
            old = [x.index_select(0, rows[0]) for x in targets]
        else:
            old = [x[rows] for x in targets]
        new = updated(update, old, values, t)
        for target, x in zip(targets, new, strict=True):
            if len(rows) == 1:
                target.index_copy_(0, rows[0], _like(target, x))
            else:
                target[rows] = _like(target, x)
        return
    columns = [[x] for x in (*targets, g)]
    plain = {*map(type, row)} <= PLAIN and theta.is_cpu and theta.numel() > PIECE
    if cut and plain and all(x.is_contiguous() for x in (*targets, g)):
        columns = [list(x.view(-1).split(PIECE)) for x in (*targets, g)]
    for *old, part in zip(*columns, strict=True):
        for target, x in zip(old, updated(update, old, part, t), strict=True):
            target.copy_(_like(target, x))


def _parts(row: Sequence[Tensor], counts: bool) -> tuple[Sequence[Tensor], Tensor | None]:
    """The tensors of a row, which have one shape, and its step."""
    return (row[:-1], row[-1]) if counts else (row, None)


def step_differentiably(row: Sequence[Tensor], counts: bool, update: Update) -> list[Tensor]:
    """Update one parameter so that autograd can differentiate through the step.

    Returns:
        The new accumulators; the old ones are unchanged, since autograd may need them.
    """
    tensors, counter = _parts(row, counts)
    check_shapes(tensors)
    t = None if counter is None else _count(counter, exact=False)
    theta, g, *accumulators = tensors
    new = updated(update, [x.clone() for x in (theta, *accumulators)], g, t)
    theta.copy_(_like(theta, new[0]))
    return [_like(old, x) for old, x in zip(accumulators, new[1:], strict=True)]


def updated(update: Update, old: Sequence[Tensor], g: Tensor, t: Any) -> tuple[Tensor, ...]:
    """The new tensors in float32 or wider, complex numbers as pairs of reals."""
    theta, g, *accumulated = map(_wide, (old[0], g, *old[1:]))
    return update(theta, g, *accumulated, t=t)


def check_shapes(tensors: Sequence[Tensor]) -> None:
    """Refuse the tensors of a parameter that no longer fit together, before any is written.

    Raises:
        RuntimeError: The parameter holds integers, or its gradient or an accumulator has another
            shape.
    """
    theta, *others = tensors
    if not (theta.is_floating_point() or theta.is_complex()):
        raise RuntimeError(f"a parameter must be floating-point or complex, got {theta.dtype}")
    for name, x in zip(["gradient", *["state"] * len(others)], others, strict=False):
        if x.shape != theta.shape:
            raise RuntimeError(
                f"the {name} of a parameter of shape {tuple(theta.shape)} has the shape "
                f"{tuple(x.shape)}: a parameter that changes its size needs a new gradient, and a "
                "new state in optimizer.state"
            )


def coalesced(g: Tensor) -> Tensor:
    """A sparse gradient with each row once; in low precision its rows are added up in float32.

    On CUDA, where counting the different rows would wait for the device, it keeps the number of
    rows that it had: see `_summed`.

    Raises:
        IndexError: See `checked`.
        RuntimeError: See `checked`.
    """
    g = checked(g)
    if _waits(g):
        return _summed(g)
    if g.dtype in LOW_PRECISION:
        return g.float().coalesce().to(g.dtype)
    return g.coalesce()


def _waits(g: Tensor) -> bool:
    """Whether coalescing a gradient would wait for a device."""
    return g.is_cuda and not g.is_coalesced()


def _summed(g: Tensor) -> Tensor:
    """A sparse gradient with the sum of each row at the first of its indices, zeros at the others.

    The indices are sorted. No shape depends on how many of them differ.
    """
    if g.sparse_dim() != 1 or g.is_complex() or not g._values().numel():  # none of a model's
        return g.coalesce()
    index, order = g._indices()[0].sort(stable=True)
    values = _wide(g._values()).flatten(1) if g.dense_dim() else _wide(g._values()).unsqueeze(1)
    # Bag i begins at i if that is the first of its index, otherwise where the next index begins, so
    # that it is empty.
    place = torch.arange(len(index), device=index.device)
    first = torch.searchsorted(index, index) == place
    offsets = torch.where(first, place, torch.searchsorted(index, index, right=True))
    sums = torch.nn.functional.embedding_bag(order, values, offsets, mode="sum")
    sums = sums.view_as(g._values()).to(g.dtype)
    return torch.sparse_coo_tensor(index.unsqueeze(0), sums, g.shape, check_invariants=False)


def _rows_that_agree(g: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
    """What `_summed` returns, with the whole sum at each repeated index: all write the same."""
    index = g._indices()[0]
    return (index,), g._values().index_select(0, torch.searchsorted(index, index))


def checked(g: Tensor) -> Tensor:
    """Check that a sparse gradient lies within its memory; torch does not, and may crash.

    This is checked on a CPU only, since reading the indices elsewhere would wait for the device,
    and not under a tracer, which would have to record it.

    Raises:
        IndexError: An index is outside of its shape.
        RuntimeError: The memory of indices or values has become smaller.
    """
    if not g.is_cpu or observed():
        return g
    indices = g._indices()
    for name, x in (("indices", indices), ("values", g._values())):
        last = sum((size - 1) * step for size, step in zip(x.shape, x.stride(), strict=True))
        end = (x.storage_offset() + last + 1) * x.itemsize
        if x.numel() and x.untyped_storage().nbytes() < end:
            raise RuntimeError(f"the memory of a sparse gradient's {name} has become too small")
    if not indices.numel():
        return g
    sizes = g.shape[: g.sparse_dim()]
    for low, high, size in zip(
        indices.amin(1).tolist(), indices.amax(1).tolist(), sizes, strict=True
    ):
        if low < 0 or high >= size:
            raise IndexError(
                f"a sparse gradient of shape {tuple(g.shape)} has the index "
                f"{low if low < 0 else high}: it must be from 0 to {size - 1}"
            )
    return g


def _step_flat(rows: Sequence[Sequence[Tensor]], counts: bool, update: Update) -> None:
    """Update small dense tensors of one dtype, those with the same step count at once."""
    same: dict[Any, list[Sequence[Tensor]]] = {None: list(rows)}
    if counts:
        same = {}
        for row, t in zip(rows, _count_all([row[-1] for row in rows]), strict=True):
            same.setdefault(t, []).append(row[:-1])
    for t, some in same.items():
        theta, g, *accumulators = (list(column) for column in zip(*some, strict=True))
        targets = [theta, *accumulators]
        old = [flatten_dense_tensors(column) for column in targets]
        new = updated(update, old, flatten_dense_tensors(g), t)
        sizes = list(map(Tensor.numel, theta))
        for column, flat in zip(targets, new, strict=True):
            parts = flat.to(column[0].dtype).split(sizes)
            shaped = [
                p if x.dim() == 1 else p.view(x.shape) for p, x in zip(parts, column, strict=True)
            ]
            try:
                torch._foreach_copy_(column, shaped)
            except RuntimeError:  # which takes no negated tensors
                for x, part in zip(column, shaped, strict=True):
                    x.copy_(part)


def _count(step: Tensor, exact: bool) -> Any:
    """Count a step and return its number, in float64 as Python's arithmetic is."""
    step += 1
    return step.item() if exact else step.double().reshape(())


def _count_all(steps: list[Tensor]) -> list[float]:
    torch._foreach_add_(steps, 1)
    try:
        return cast("list[float]", torch.stack(steps).view(-1).tolist())
    except RuntimeError:  # of several shapes or on several devices
        return [x.item() for x in steps]


_kind = attrgetter("dtype", "device", "layout", "shape")


def _alike(rows: Sequence[Sequence[Tensor]]) -> list[bool]:
    """For each parameter, whether its tensors may go into flat buffers.

    They must be dense and real, and of one dtype, device and shape.
    """
    tensors = [x for row in rows for x in row]
    kinds = [{*map(attrgetter(name), tensors)} for name in ("dtype", "device", "layout")]
    if {*map(type, tensors)} <= PLAIN and [*map(len, kinds)] == [1, 1, 1]:  # the usual case
        if torch.strided not in kinds[2] or not rows[0][0].is_floating_point():
            return [False] * len(rows)
        shapes = list(map(attrgetter("shape"), tensors))
        width = len(rows[0])
        columns = [shapes[j::width] for j in range(width)]
        if all(column == columns[0] for column in columns):
            return [True] * len(rows)
    return [
        {*map(type, row)} <= PLAIN
        and len({*map(_kind, row)}) == 1
        and row[0].layout is torch.strided
        and row[0].is_floating_point()
        for row in rows
    ]


def _alone(rows: Sequence[Sequence[Tensor]]) -> list[bool]:
    """For each parameter, whether none of its tensors shares memory that a step writes.

    Parameters that share memory are updated one after the other, so that each uses the result of
    the one before.
    """
    if _all_apart(rows):
        return [True] * len(rows)
    alone = [True] * len(rows)
    spans = []
    for k, row in enumerate(rows):
        for j, x in enumerate(row):
            try:
                start = x.data_ptr()
            except RuntimeError:  # sparse, or the tensor of a mode or a transform
                alone[k] = alone[k] and j == 1 and x.is_sparse
                continue
            n = x.numel()
            if n and not x.is_contiguous():
                n = 1 + sum((size - 1) * s for size, s in zip(x.shape, x.stride(), strict=True))
            if start and n:
                spans.append((start, start + n * x.itemsize, k, j != 1))
    spans.sort()
    last = 0
    open_spans: list[tuple[int, int, int, bool]] = []
    for span in spans:
        start, end, k, written = span
        if start >= last:
            open_spans.clear()
        for _, other_end, i, other_written in open_spans:
            if other_end > start and (written or other_written):
                alone[i] = alone[k] = False
        open_spans.append(span)
        last = max(last, end)
    return alone


def _all_apart(rows: Sequence[Sequence[Tensor]]) -> bool:
    """Whether no two of the tensors can share memory; a fast check of the usual case."""
    tensors = [x for row in rows for x in row]
    try:
        starts = np.array([*map(Tensor.data_ptr, tensors)], np.uint64)
    except RuntimeError:
        return False
    if not all(map(Tensor.is_contiguous, tensors)):
        return False
    sizes = np.array([*map(Tensor.numel, tensors)]) * np.array([x.itemsize for x in tensors])
    order = np.argsort(starts)
    ends = np.maximum.accumulate((starts + sizes.astype(np.uint64))[order])
    return bool((starts[order][1:] >= ends[:-1]).all())


def real(x: Tensor) -> Tensor:
    """A complex tensor as its real view, any other one as it is."""
    return torch.view_as_real(x.resolve_conj()) if x.is_complex() else x


def _like(target: Tensor, x: Tensor) -> Tensor:
    """A result computed from a tensor, in that tensor's dtype."""
    return (torch.view_as_complex(x.contiguous()) if target.is_complex() else x).to(target.dtype)


def _wide(x: Tensor) -> Tensor:
    """A tensor in the dtype in which it is computed with."""
    x = real(x)
    return x.float() if x.dtype in LOW_PRECISION else x
