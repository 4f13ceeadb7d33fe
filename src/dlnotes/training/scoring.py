"""Scores of many documents by a model that is trained."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Barrier

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from dlnotes.data.documents import Documents
from dlnotes.training import evaluate
from dlnotes.training.evaluate import evaluating

_LEAST_TOKENS = 1 << 12
"""Padded tokens in a batch: what a model makes of them stays in the processor's cache."""
_LEAST_DOCUMENTS, _MOST_TOKENS = 64, 1 << 15
"""Batches of long documents have more tokens, up to the second, to hold the first many documents:
a recurrent model has a step per position."""
_WORTH_THREADS = 0.05
"""Estimated seconds of work from which threads are started, which can take 0.03."""

_cores: ContextVar[int | None] = ContextVar("_cores", default=None)


@contextmanager
def single_threaded() -> Iterator[None]:
    """Let torch compute each operation of this program in one thread.

    For a program that classifies many small blocks: where the cores are busy, softmax of a thousand
    rows takes 15 ms in two threads. `scores` goes on using as many threads as there were. It is for
    whole programs, since the number of threads is the process's.
    """
    threads = torch.get_num_threads()
    token = _cores.set(threads)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        _cores.reset(token)


def scores(
    model: nn.Module,
    documents: Documents,
    *,
    device: torch.device | str = "cpu",
    classes: int | None = None,
) -> Float[Tensor, "n c"]:
    """Compute what `dlnotes.training.evaluate.scores` does, on a CPU in a fraction of the time.

    The two agree up to rounding.

    Torch cuts each operation of a batch into a part per thread, and after each the threads wait for
    one another. Here every thread has batches of its own and waits for nobody, and the batches are
    small. On two cores that are shared with other programs, TextCNN with its default sizes reads
    short texts 4 times as fast and TextRNN 8 times.

    Args:
        model: Maps token ids (b, t) to scores (b, c); already on `device`.
        documents: At least one document.
        device: Where to compute.
        classes: About how many classes there are; with very many, batches have fewer documents.
    """
    return kept(model, documents, evaluate.keep_all, device=device, classes=classes)[0]


def kept(
    model: nn.Module,
    documents: Documents,
    keep: evaluate.Keep,
    *,
    device: torch.device | str = "cpu",
    classes: int | None = None,
) -> list[Tensor]:
    """What `keep` keeps of the scores, see `dlnotes.training.evaluate.kept`; arguments as above."""
    batches = _batches(documents.lengths, evaluate.most_documents(classes))
    if torch.device(device).type != "cpu" or len(batches) == 1:
        return evaluate.kept(model, documents, keep, device=device, classes=classes)

    gathered = evaluate.Gathered(documents)

    def score(indices: NDArray[np.int64]) -> None:
        with torch.inference_mode(), torch.autocast("cpu", enabled=False):  # of this thread
            found = model(documents.batch(indices).tokens).float()
            gathered.put(indices, keep(found, indices))

    with evaluating(model):
        began = time.perf_counter()
        score(batches[0])
        worth = (time.perf_counter() - began) * len(batches) >= _WORTH_THREADS
        if worth:
            _in_threads(score, batches[1:])
        else:
            for indices in batches[1:]:
                score(indices)
    return gathered.columns


def _in_threads(
    score: Callable[[NDArray[np.int64]], None], batches: list[NDArray[np.int64]]
) -> None:
    """A thread per core, each of which computes its operations alone."""
    before = torch.get_num_threads()
    count = min(_cores.get() or before, len(batches))
    started = Barrier(count + 1)

    def start() -> None:
        torch.get_num_threads()  # otherwise torch sets the number when the thread first computes
        torch.set_num_threads(1)
        started.wait()

    with ThreadPoolExecutor(count, initializer=start) as pool:
        try:
            parts = pool.map(score, batches)
            started.wait()
        except BaseException:  # no further thread, or Ctrl-C: those that wait must not for ever
            started.abort()
            raise
        # The number of threads is each thread's own, but what it was set to last is what a thread
        # begins with that uses torch for the first time.
        torch.set_num_threads(before)
        list(parts)  # their errors


def _batches(lengths: NDArray[np.int64], most: int | None = None) -> list[NDArray[np.int64]]:
    """Documents of like length together, the longest first; at most so many in a batch."""
    order = np.argsort(lengths, kind="stable")[::-1]
    batches, start = [], 0
    while start < len(order):
        longest = max(1, int(lengths[order[start]]))
        many = min(_LEAST_DOCUMENTS, _MOST_TOKENS // longest)
        many = max(1, many, _LEAST_TOKENS // longest)
        stop = start + min(many, most or many)
        batches.append(order[start:stop])
        start = stop
    return batches
