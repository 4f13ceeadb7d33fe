"""How many requests ``dlnotes serve`` answers per second, how fast, and in how much memory."""

from __future__ import annotations

import asyncio
import json as jsonlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from rich.table import Table

from dlnotes.arguments import Count, Natural, Positive, checked
from dlnotes.cli import run
from dlnotes.data.corpora import load
from dlnotes.data.readers import read
from dlnotes.display import console, tell
from dlnotes.errors import UserError
from dlnotes.files import check_output, write_json
from dlnotes.threads import cpu_limit
from dlnotes.training.classifier import TextClassifier
from dlnotes.training.record import provenance

BAR = {"requests_per_second": 2000.0, "p99_ms": 50.0, "mib_per_million": 5.0}
WARM = 0.1
"""Share of the requests before memory counts, as caches and free lists of the allocator fill up."""


class Client(asyncio.Protocol):
    """A connection that sends its next request as soon as it has read an answer.

    Attributes:
        latencies: Seconds from each request to the end of its answer.
        wrong: Number of wrong answers and of requests without an answer.
    """

    def __init__(self, requests: list[bytes], place: int, ended: asyncio.Future[None]) -> None:
        self._requests, self._place, self._ended = requests, place, ended
        self._buffer = bytearray()
        self._open = False
        self.stopping = False
        self.latencies: list[float] = []
        self.wrong = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._send()

    def _send(self) -> None:
        self._open, self._start = True, time.perf_counter()
        self._transport.write(self._requests[self._place])
        self._place = (self._place + 1) % len(self._requests)

    def data_received(self, data: bytes) -> None:
        """Check whether the answer is complete, and whether it is right."""
        self._buffer += data
        head = self._buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        at = self._buffer.find(b"content-length: ") + 16
        length = int(self._buffer[at : self._buffer.index(b"\r", at)])
        if len(self._buffer) < head + 4 + length:
            return
        self.latencies.append(time.perf_counter() - self._start)
        body = self._buffer[head + 4 :]
        right = self._buffer.startswith(b"HTTP/1.1 200") and body.startswith(b'{"label')
        self.wrong += not (right and len(body) == length)
        self._buffer.clear()
        self._open = False
        if self.stopping:
            self._transport.close()
        else:
            self._send()

    def connection_lost(self, error: Exception | None) -> None:
        """Count a request that was not answered."""
        self.wrong += self._open or not self.stopping
        if not self._ended.done():
            self._ended.set_result(None)


async def load_on(
    port: int, requests: list[bytes], connections: int, seconds: float, most: int, pid: int
) -> dict[str, Any]:
    """Keep a number of connections busy, and return the figures.

    Args:
        port: Port of the server.
        requests: The requests, which are sent in order, again and again.
        connections: Number of connections that are kept open.
        seconds: Duration.
        most: Stop early after this many requests; 0 means no limit.
        pid: Process of the server, whose memory is measured.
    """
    loop = asyncio.get_running_loop()
    clients, ends = [], []
    began = time.perf_counter()
    for i in range(connections):
        ends.append(loop.create_future())
        make = partial(Client, requests, i * len(requests) // connections, ends[-1])
        _, client = await loop.create_connection(make, "127.0.0.1", port)
        clients.append(client)
    memory = [(0, resident(pid))]

    def done() -> int:
        return sum(len(client.latencies) for client in clients)

    while time.perf_counter() - began < seconds and (not most or done() < most):
        await asyncio.sleep(min(1.0, seconds / 10))
        memory.append((done(), resident(pid)))
    for client in clients:
        client.stopping = True
    await asyncio.wait_for(asyncio.gather(*ends), 60)
    taken = time.perf_counter() - began
    latencies = np.concatenate([np.array(client.latencies) for client in clients]) * 1e3
    p50, p99 = np.percentile(latencies, [50, 99])
    kept = [*memory[:: max(1, len(memory) // 20)], memory[-1]]
    grown = growth([(n, size / 2**20) for n, size in memory])
    return {
        "connections": connections,
        "seconds": taken,
        "requests": len(latencies),
        "lost": sum(client.wrong for client in clients),
        "requests_per_second": len(latencies) / taken,
        "p50_ms": float(p50),
        "p99_ms": float(p99),
        "max_ms": float(latencies.max()),
        "mib_per_million": grown,
        "memory": [{"after_requests": n, "mib": round(size / 2**20, 1)} for n, size in kept],
    }


def growth(memory: list[tuple[int, float]]) -> float | None:
    """How fast memory grows: the slope of a line that is fitted to its sizes by least squares.

    Args:
        memory: Pairs of a number of requests and the MiB after them.

    Returns:
        MiB per million requests; None if fewer than two sizes come after the first `WARM` of them.
    """
    n, mib = np.array(memory, float).T
    late = n >= WARM * n[-1]
    if len(np.unique(n[late])) < 2:
        return None
    return float(np.polyfit(n[late] / 1e6, mib[late], 1)[0])


def resident(pid: int) -> int:
    """Bytes of memory of a process (Linux)."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096


@contextmanager
def served(folder: Path) -> Iterator[tuple[int, int]]:
    """``dlnotes serve`` in a separate process: its port and its process id."""
    command = [sys.executable, "-m", "dlnotes", "serve", str(folder), "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout
        line = server.stdout.readline()
        if "http://" not in line:
            raise UserError("the server did not start")
        yield int(line.partition("http://")[2].split()[0].rpartition(":")[2]), server.pid
    finally:
        server.terminate()
        server.wait()


@checked
def main(
    json: Path | None = None,
    folder: Path | None = None,
    data_dir: Path | None = None,
    corpus: str = "trec",
    connections: Count = 48,
    seconds: Positive = 60.0,
    requests: Natural = 0,
) -> None:
    """Print requests per second and latencies of a FastText that classifies single texts.

    The load generator runs on the same machine, and every request has another test document.

    Args:
        json: Also write all figures to this file, which holds a run with --requests and one
            without.
        folder: A run to serve. Default: a FastText is trained for an epoch.
        data_dir: Folder of corpora, searched before downloading.
        corpus: Name of the corpus.
        connections: Number of open connections, each with one request at a time.
        seconds: Duration; with --requests, the maximum duration.
        requests: Stop after this many requests, to see whether memory stays flat; 0 means no limit.
    """
    if json:
        check_output(json)
    splits = load(corpus, data_dir=data_dir)
    texts = pl.concat(read(splits["test"]))["text"].to_list()
    asked = []
    for text in texts:
        body = jsonlib.dumps({"text": text}).encode()
        head = "POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        asked.append(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    with tempfile.TemporaryDirectory() as temporary:
        if folder is None:
            train = pl.concat(read(splits["train"]))
            folder = Path(temporary) / "fasttext"
            TextClassifier.train(
                train["text"], train["label"].to_list(), "fasttext", epochs=1, refit=False, seed=0
            ).save(folder)
        with served(folder) as (port, pid):
            asyncio.run(load_on(port, asked, connections, min(3.0, seconds), 0, pid))
            found = asyncio.run(load_on(port, asked, connections, seconds, requests, pid))
    if found["requests"] < requests:
        tell(
            f"warning: {found['requests']:,} of {requests:,} requests in {seconds:g} s; for more "
            "give --seconds"
        )
    kind = "memory" if requests else "speed"
    headings = ["requests", "lost", "requests/s", "p50, ms", "p99, ms", "max, ms", "MiB"]
    table = Table(kind, *headings, "MiB per million")
    sizes = [each["mib"] for each in found["memory"]]
    table.add_row(
        "", f"{found['requests']:,}", str(found["lost"]), f"{found['requests_per_second']:,.0f}",
        *(f"{found[name]:.1f}" for name in ("p50_ms", "p99_ms", "max_ms")),
        f"{sizes[0]:.0f} to {max(sizes):.0f}",
        "" if found["mib_per_million"] is None else f"{found['mib_per_million']:+.1f}",
    )  # fmt: skip
    console().print(table)
    if json:
        record = jsonlib.loads(json.read_text("utf-8")) if json.exists() else {}
        row = {**provenance(0), "corpus": corpus, "cores": cpu_limit(), **found}
        write_json(json, {**record, "bar": BAR, kind: row})


if __name__ == "__main__":
    run(main)
