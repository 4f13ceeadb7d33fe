"""Requests that wait together are answered together, in a thread of their own."""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby

from dlnotes.serving.limits import Limits, Refused, busy

Predict = Callable[[list[str], int], Sequence[str]]
"""From texts and top_k to an answer per text."""

_MOST_TEXTS = 256
_MOST_CHARACTERS = 1 << 20
"""Limits of a batch; only a single larger request may exceed them, as a batch of its own."""

_PAUSE = 0.002
"""Seconds to wait after a batch with several requests, so that the clients' next ones arrive."""


@dataclass(eq=False)
class _Job:
    """A request that waits."""

    texts: list[str]
    top_k: int
    answer: asyncio.Future[Sequence[str]]


class Batcher:
    """Gives the texts of several requests to the model at once.

    The model handles one large batch faster than many small ones. Requests that arrive while it
    works on one batch therefore form the next batch. A single request does not wait for others. The
    model runs in its own thread, so the event loop stays free to read requests and write answers.

    Args:
        predict: The model; called in one thread only.
        limits: How many texts may wait and for how long.
        on_batch: Called with the number of texts of each batch.
    """

    def __init__(
        self, predict: Predict, limits: Limits, on_batch: Callable[[int], object] = lambda n: None
    ) -> None:
        self._predict, self._limits, self._on_batch = predict, limits, on_batch
        self._jobs: deque[_Job] = deque()
        self._wake = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "dlnotes-predict")
        self._context = contextvars.copy_context()
        self._worker: asyncio.Task[None] | None = None
        self.waiting = 0
        """Texts that no batch has taken yet."""

    def start(self) -> None:
        """Begin to answer; needs a running event loop."""
        self._worker = asyncio.get_running_loop().create_task(self._work())

    async def stop(self) -> None:
        """Answer no further request."""
        if self._worker:
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def ask(self, texts: list[str], top_k: int) -> Sequence[str]:
        """The answer to each text.

        Raises:
            Refused: Too many texts wait already, or the answer takes too long.
        """
        if self.waiting + len(texts) > self._limits.max_waiting:
            raise busy("too many texts are waiting for an answer; try again later")
        loop = asyncio.get_running_loop()
        job = _Job(texts, top_k, loop.create_future())
        timer = loop.call_later(self._limits.answer_seconds, self._late, job)
        self._jobs.append(job)
        self.waiting += len(texts)
        self._wake.set()
        try:
            return await job.answer
        finally:
            timer.cancel()

    def _late(self, job: _Job) -> None:
        if not job.answer.done():
            seconds = f"{self._limits.answer_seconds:g} s"
            job.answer.set_exception(Refused(503, f"the answer took longer than {seconds}"))

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._wake.wait()
            self._wake.clear()
            await asyncio.sleep(0)  # requests that have arrived with the first one join it
            while batch := self._next():
                self._on_batch(sum(len(job.texts) for job in batch))
                found = await loop.run_in_executor(
                    self._thread, self._context.run, self._answers, batch
                )
                for job, answer in zip(batch, found, strict=True):
                    if job.answer.done():  # too late, or the client is gone
                        continue
                    if isinstance(answer, BaseException):
                        job.answer.set_exception(answer)
                    else:
                        job.answer.set_result(answer)
                if len(batch) > 1:
                    # Clients in a loop: their next requests would come just after the next batch
                    # has been taken. The event loop writes and reads meanwhile, undisturbed.
                    await asyncio.sleep(_PAUSE)

    def _next(self) -> list[_Job]:
        batch: list[_Job] = []
        texts = characters = 0
        while self._jobs:
            job = self._jobs[0]
            texts += len(job.texts)
            characters += sum(map(len, job.texts))
            if batch and (texts > _MOST_TEXTS or characters > _MOST_CHARACTERS):
                break
            self._jobs.popleft()
            self.waiting -= len(job.texts)
            if job.answer.done():  # nobody waits for it any more
                texts -= len(job.texts)
                characters -= sum(map(len, job.texts))
            else:
                batch.append(job)
        return batch

    def _answers(self, batch: list[_Job]) -> list[Sequence[str] | Exception]:
        """An answer or an error per job, computed in the thread; an error concerns only its job."""
        found: dict[int, Sequence[str] | Exception] = {}
        by_k = sorted(range(len(batch)), key=lambda i: batch[i].top_k)
        for top_k, group in groupby(by_k, key=lambda i: batch[i].top_k):
            places = list(group)
            try:
                found |= self._together(batch, places, top_k)
            except Exception as error:
                if len(places) == 1:
                    found[places[0]] = error
                    continue
                for i in places:
                    try:
                        found |= self._together(batch, [i], top_k)
                    except Exception as own:
                        found[i] = own
        return [found[i] for i in range(len(batch))]

    def _together(
        self, batch: list[_Job], places: list[int], top_k: int
    ) -> dict[int, Sequence[str]]:
        texts = [text for i in places for text in batch[i].texts]
        answers, start, found = self._predict(texts, top_k), 0, {}
        for i in places:
            found[i] = answers[start : start + len(batch[i].texts)]
            start += len(batch[i].texts)
        return found
