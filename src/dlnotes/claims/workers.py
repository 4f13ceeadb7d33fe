"""Work in parallel processes, one thread each."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from dlnotes.claims.claim import Budget


def call_all(budget: Budget, function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
    """See `Budget.map`."""
    settings = [
        {"function": f"{function.__module__}.{function.__qualname__}", "item": item}
        | {"quick": budget.quick}
        for item in items
    ]
    began, total = time.perf_counter(), 0.0
    results: dict[int, Any] = {}
    if budget.cache is not None:
        for i, each in enumerate(settings):
            found, value, seconds = budget.cache.look_up(each)
            if found:
                results[i] = value
                total += seconds

    def keep(i: int, value: Any, seconds: float) -> None:
        nonlocal total
        total += seconds
        kept = budget.cache
        results[i] = value if kept is None else kept.keep(settings[i], value, seconds)
        budget.done(len(results) / len(items))

    missing = [i for i in range(len(items)) if i not in results]
    if budget.processes == 1 or len(missing) < 2:
        for i in missing:
            keep(i, *_timed(function, items[i]))
    else:
        pool = _pool(budget.processes)
        futures = {pool.submit(_timed, function, items[i]): i for i in missing}
        try:
            for future in as_completed(futures):
                keep(futures[future], *future.result())
        except BaseException:
            _pool.cache_clear()
            _end(pool)
            raise
    budget.charge(total - (time.perf_counter() - began))
    budget.done(1.0)
    return [results[i] for i in range(len(items))]


def _timed(function: Callable[[Any], Any], item: Any) -> tuple[Any, float]:
    began = time.perf_counter()
    value = function(item)
    return value, time.perf_counter() - began


@lru_cache(maxsize=1)
def _pool(processes: int) -> ProcessPoolExecutor:
    """Processes that are started once for all experiments: each takes seconds to import torch."""
    # Spawned: a fork of a process with threads, or with a CUDA context, may hang.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, mp_context=context, initializer=_start)
    atexit.register(pool.shutdown)
    return pool


def _start() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process ends this one
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)


def _end_with_parent() -> None:
    """End this process when its parent is gone: it would wait for work forever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _end(pool: ProcessPoolExecutor) -> None:
    """End processes in the middle of their work."""
    processes = list((pool._processes or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.terminate()
