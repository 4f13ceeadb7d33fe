"""A connection to ``dlnotes serve`` without a socket: bytes go to its protocol, answers come back.

The clock of the event loop is turned by hand and the model runs in the loop's own thread, so the
same bytes always lead to the same answers, and time limits cost no time.
"""

import asyncio
import json
import random
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import uvicorn
from uvicorn.server import ServerState

from dlnotes.errors import UserError
from dlnotes.serving.app import make_app
from dlnotes.serving.limits import Limits
from dlnotes.serving.protocol import BoundedProtocol
from dlnotes.training.explain import Explanation

LIMITS = Limits(
    max_bytes=2000, max_held=2000, max_texts=5, max_explained=30, read_seconds=1, answer_seconds=1
)
LONGEST = 60.0
"""Seconds after which the server has closed every connection, whatever came."""
STATUSES = {100, 200, 400, 404, 405, 408, 411, 413, 415, 421, 422, 429, 431, 501, 503, 505}


class Answer(NamedTuple):
    """What came back for one request."""

    status: int
    error: str


class Guess:
    """A classifier that takes no time."""

    multi_label = True
    label_names = ("law", "sport")

    def classify(self, texts: list[str], top_k: int) -> list[dict[str, Any]]:
        """Always the same."""
        top = [{"label": label, "probability": 0.5} for label in self.label_names[:top_k]]
        return [{"labels": ["law"], "probabilities": [0.5], "top": top} for _ in texts]

    def explain(self, texts: list[str]) -> list[Explanation]:
        """Every token weighs the same."""
        tokens = [text.split() for text in texts]
        return [
            Explanation("law", 0.5, t, {"attention": [1.0] * len(t)}, "attention") for t in tokens
        ]


class Loop(asyncio.SelectorEventLoop):
    """An event loop whose clock is turned by hand, and which has no other threads."""

    def __init__(self) -> None:
        super().__init__()
        self.later = 0.0
        self.failed: list[str] = []
        self.set_exception_handler(lambda _, context: self.failed.append(str(context)))

    def time(self) -> float:
        """The time that was set."""
        return self.later

    def run_in_executor(self, executor: Any, function: Any, *arguments: Any) -> Any:
        """Call a function at once."""
        done = self.create_future()
        try:
            done.set_result(function(*arguments))
        except BaseException as error:
            done.set_exception(error)
        return done

    def settle(self) -> None:
        """Run what can run now."""
        self.call_soon(self.stop)
        self.run_forever()
        while self._ready:
            self.call_soon(self.stop)
            self.run_forever()

    def skip(self) -> float:
        """Turn the clock to when something is next to happen; infinity where nothing is."""
        timers = [timer.when() for timer in self._scheduled if not timer.cancelled()]
        self.later = max(self.later, min(timers, default=float("inf")))
        return self.later


class Wire(asyncio.Transport):
    """Keeps what the server writes."""

    def __init__(self, loop: Loop) -> None:
        super().__init__({"sockname": ("127.0.0.1", 1), "peername": ("127.0.0.1", 2)})
        self._loop = loop
        self.protocol: Any = None
        self.written = bytearray()
        self.reading, self.closed = True, False

    def write(self, data: Any) -> None:
        assert not self.closed, "something was written after the end"
        self.written += data

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._loop.call_soon(self.protocol.connection_lost, None)

    def abort(self) -> None:
        self.close()

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def get_write_buffer_size(self) -> int:
        return 0


class Served:
    """A server that is reached by `talk` alone."""

    def __init__(self) -> None:
        class Protocol(BoundedProtocol):
            limits = LIMITS

        self.loop = Loop()
        asyncio.set_event_loop(self.loop)
        guard = make_app(Guess(), "fuzzed", LIMITS)  # type: ignore[arg-type]
        self._config = uvicorn.Config(
            guard, http=Protocol, ws="none", lifespan="off", interface="asgi3", log_config=None,
            log_level="critical", access_log=False, server_header=False, proxy_headers=False,
        )  # fmt: skip
        self._config.load()
        self._protocol, self._state = Protocol, ServerState()
        self._lifespan = guard.app.router.lifespan_context(guard.app)  # type: ignore[attr-defined]
        self.loop.run_until_complete(self._lifespan.__aenter__())

    def close(self) -> None:
        """Stop the server."""
        self.loop.run_until_complete(self._lifespan.__aexit__(None, None, None))
        self.loop.close()
        asyncio.set_event_loop(None)

    def talk(self, data: bytes, cuts: list[int], *, half_close: bool) -> list[Answer]:
        """What is answered until the connection ends.

        Args:
            data: What the client sends.
            cuts: Where one packet ends and the next one begins.
            half_close: Whether the client then tells that nothing more will come.
        """
        wire = Wire(self.loop)
        wire.protocol = self._protocol(self._config, self._state, {}, self.loop)
        wire.protocol.connection_made(wire)
        for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
            self._wait(lambda: wire.reading or wire.closed)
            if not wire.closed and end > start:
                wire.protocol.data_received(data[start:end])
        self.loop.settle()
        if half_close and not wire.closed:
            wire.protocol.eof_received()
        self._wait(lambda: wire.closed)
        self.loop.settle()
        assert not self._state.tasks, "a request goes on without its connection"
        assert not self._state.connections
        assert not self.loop.failed, self.loop.failed
        return answers(bytes(wire.written))

    def _wait(self, until: Callable[[], bool]) -> None:
        """Let time pass until something holds."""
        most = self.loop.later + LONGEST
        self.loop.settle()
        while not until():
            assert self.loop.skip() <= most, "the connection is never closed"
            self.loop.settle()


def answers(written: bytes) -> list[Answer]:
    """Each answer in what a server wrote, which must be answers and nothing else."""
    found = []
    while written:
        head, end, rest = written.partition(b"\r\n\r\n")
        assert end, written
        assert head.startswith(b"HTTP/1.1 "), head
        status, lines = int(head[9:12]), head.lower().split(b"\r\n")[1:]
        assert status in STATUSES, head
        lengths = [int(line[16:]) for line in lines if line.startswith(b"content-length: ")]
        assert len(lengths) == (status != 100), head
        written = rest
        if status == 100:
            continue
        body = rest[: lengths[0]]
        if body and not body.startswith(b"HTTP/1.1 "):  # otherwise the answer to HEAD
            assert len(body) == lengths[0]
            written = rest[lengths[0] :]
        else:
            body = b""
        error = "(HEAD)"
        if status != 200 and body:
            error = json.loads(body)["error"]
            assert "\n" not in error
        found.append(Answer(status, error))
        assert b"connection: close" not in lines or not written, "answers after the last one"
    return found


def check(served: Served, data: bytes) -> None:
    """Send bytes in one packet and in several.

    Raises:
        UserError: A request was refused.
    """
    draw = random.Random(zlib.crc32(data))
    half_close = draw.random() < 0.7
    cuts = sorted(draw.choices(range(len(data) + 1), k=draw.choice((1, 2, 5, 20))))
    found = served.talk(data, [], half_close=half_close)
    in_pieces = served.talk(data, cuts, half_close=half_close)
    for answer in found:  # what fails in a callback is the server's mistake, not the client's
        assert not answer.error.endswith("callback error)"), answer
    statuses = [answer.status for answer in found]
    told = [answer.status for answer in in_pieces]
    if b"100-continue" in data.lower():  # its connection ends where it is refused before its body
        statuses = statuses[: len(told)]
    if 429 not in statuses:  # how many are sent ahead depends on the time of the answers
        assert statuses == told, (found, in_pieces, cuts)
    body = b'{"text": "goal"}'.ljust(LIMITS.max_held)  # fits only if nothing else is held
    head = "POST /predict HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: "
    well = served.talk(f"{head}{len(body)}\r\n\r\n".encode() + body, [], half_close=False)
    assert [answer.status for answer in well] == [200], well
    for answer in found:
        if answer.status != 200:
            raise UserError(f"{answer.status}: {answer.error}")
