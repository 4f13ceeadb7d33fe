"""Transfers to and from a device that do not make the device wait for the host.

On a CPU, batches and results are available at once. A CUDA device works through a queue that the
host fills. Reading a result, or copying from pageable memory, blocks the host until the queue is
empty, and then the device is idle until the host catches up. So batches are copied from page-locked
memory, the next batch is gathered in the meantime, and results are read once they have arrived.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import Self

from dlnotes.data.documents import Batch, Examples
from dlnotes.nn.prepared import attach

_AHEAD = ("cuda",)
"""Kinds of devices that work while the host gathers the next batch."""

_Gathered = tuple[Tensor, Tensor, tuple[Tensor, ...]]
"""Tokens, labels, and what the model prepared."""


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor to `device` without waiting for the device's queued work."""
    return pinned(tensor, device).to(device, non_blocking=True)


def pinned(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a CPU tensor to page-locked memory if `device` is CUDA; else return it unchanged."""
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor
    return tensor.pin_memory()


def send_tokens(tokens: Tensor, device: torch.device, model: Any) -> Tensor:
    """Copy tokens to `device`, with what `model` prepares from them (see `dlnotes.nn.prepared`)."""
    return _send_with(tokens, _made(model, tokens, device), device, model)


def _made(model: Any, tokens: Tensor, device: torch.device) -> tuple[Tensor, ...]:
    """What a model prepares from tokens, in page-locked memory; nothing for a CPU."""
    if device.type == "cpu" or not hasattr(model, "prepare"):
        return ()
    return tuple(pinned(x, device) for x in model.prepare(tokens))


def _send_with(
    tokens: Tensor, made: tuple[Tensor, ...], device: torch.device, model: Any
) -> Tensor:
    there = send(tokens, device)
    if made:
        attach(model, there, tuple(send(x, device) for x in made))
    return there


class BatchLoader:
    """Batches of documents on a device, as a context manager.

    If the device works asynchronously, a thread gathers the next batch meanwhile. This does not
    change which documents are in it, and an error is raised when the batch is taken.

    Args:
        documents: The documents that batches consist of.
        device: Where to put the batches.
        model: The model that will read them; what it prepares from the tokens is included.
    """

    def __init__(self, documents: Examples, device: torch.device, model: Any = None) -> None:
        self._documents, self._device, self._model = documents, device, model
        self._thread: ThreadPoolExecutor | None = None
        self._order: Iterator[NDArray[np.int64]] = iter(())
        self._next: tuple[NDArray[np.int64], Future[_Gathered]] | None = None

    def prefetch(self, order: Iterable[NDArray[np.int64]]) -> None:
        """Announce the batches that will be taken, by the indices of their documents."""
        if self._thread is not None:
            self._order = iter(order)
            self._gather_next()

    def take(self, indices: NDArray[np.int64]) -> Batch:
        """The batch of these documents, on the device."""
        if self._next is not None and np.array_equal(self._next[0], indices):
            future = self._next[1]
            self._gather_next()
            tokens, labels, made = future.result()
        else:
            tokens, labels, made = self._gathered(indices)
        there = _send_with(tokens, made, self._device, self._model)
        return Batch(there, send(labels, self._device))

    def _gather_next(self) -> None:
        indices = next(self._order, None)
        self._next = None
        if indices is not None and self._thread is not None:
            self._next = indices, self._thread.submit(self._gathered, indices)

    def _gathered(self, indices: NDArray[np.int64]) -> _Gathered:
        # Page-locked memory belongs to the current device, which each thread must set.
        cuda = self._device.type == "cuda"
        with torch.cuda.device(self._device) if cuda else nullcontext():
            batch = self._documents.batch(indices)
            made = _made(self._model, batch.tokens, self._device)
            tokens, labels = (pinned(x, self._device) for x in batch)
            return tokens, labels, made

    def __enter__(self) -> Self:
        if self._device.type in _AHEAD:
            self._thread = ThreadPoolExecutor(1, "batches")
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread is not None:
            self._thread.shutdown(cancel_futures=True)
        self._thread = self._next = None


class PendingNumbers:
    """A few numbers on their way from a device to the host.

    Args:
        device: Device of the first number.
        numbers: Scalar tensors.
    """

    def __init__(self, device: torch.device, *numbers: Tensor) -> None:
        wide = torch.float32 if device.type == "mps" else torch.float64
        together = torch.stack([x.detach().to(device, wide) for x in numbers])
        self._numbers = together
        self._copied: torch.cuda.Event | None = None
        if device.type == "cuda":
            self._numbers = torch.empty(len(numbers), dtype=wide, pin_memory=True)
            self._numbers.copy_(together, non_blocking=True)
            self._copied = torch.cuda.Event()
            self._copied.record(torch.cuda.current_stream(device))

    def is_ready(self) -> bool:
        """Whether the numbers can be read without waiting."""
        return self._copied is None or self._copied.query()

    def read(self) -> list[float]:
        """The numbers; waits for them if necessary."""
        if self._copied is not None:
            self._copied.synchronize()
        found: list[float] = self._numbers.tolist()
        return found
