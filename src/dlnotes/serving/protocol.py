"""uvicorn's HTTP protocol with bounds on time, headers and connections."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from dlnotes.serving.limits import Limits, Refused

_HEAD_BYTES = 1 << 16
"""Of a request line and headers."""
_PIPELINED = 32
"""Requests that one client may send ahead of their answers."""
_GRACE = 5.0
"""Seconds beyond the time for an answer, for the client to read it."""


class BoundedProtocol(HttpToolsProtocol):
    """A connection that cannot stay busy forever and whose memory is bounded.

    uvicorn leaves limits on header size and request time to a proxy in front of it. Here a request
    must arrive in time and the client must read the answer in time. Otherwise the connection is
    closed, with an error response if no response has begun.
    """

    limits: ClassVar[Limits] = Limits()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept a connection, or refuse one too many."""
        super().connection_made(transport)
        self._timer: asyncio.TimerHandle | None = None
        self._head = 0
        self._reading_head = True
        self._arm(self.limits.read_seconds, self._close)
        if len(self.connections) > self.limits.max_connections:
            self._refuse(Refused(503, "too many connections are open; try again later"))

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._disarm()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came, if the headers are not too large yet."""
        if self.transport.is_closing():
            return
        if self._reading_head:
            if not self._head:
                self._arm(self.limits.read_seconds, self._late)
            self._head += len(data)
        super().data_received(data)
        if self._reading_head and self._head > _HEAD_BYTES and not self.transport.is_closing():
            self._refuse(Refused(431, f"the headers have more than {_HEAD_BYTES:,} bytes"))

    def on_headers_complete(self) -> None:
        """Start the request, unless too many wait in its connection."""
        self._reading_head, self._head = False, 0
        if len(self.pipeline) >= _PIPELINED:
            self.transport.abort()
        else:
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The request has arrived: from now on the time for its answer counts."""
        super().on_message_complete()
        self._reading_head = True
        if self.cycle.response_complete:  # before all of it had arrived
            self._arm(self.limits.read_seconds, self._close)
        else:
            self._arm(self.limits.answer_seconds + _GRACE, self.transport.abort)

    def on_response_complete(self) -> None:
        """The answer is written; the time goes on while the client has not read it."""
        super().on_response_complete()
        if self.cycle.more_body or self._head or self.transport.get_write_buffer_size():
            return  # the timer of a request that is arriving, or of an answer that is not read
        if self.cycle.response_complete:
            self._disarm()
        else:  # the next one that was sent ahead is being answered
            self._arm(self.limits.answer_seconds + _GRACE, self.transport.abort)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP."""
        self._refuse(Refused(400, "this is not a valid HTTP request"))

    def _late(self) -> None:
        if self.cycle is not None and self.cycle.response_started:
            self.transport.abort()  # it sends a body that nobody wants, or does not read
        else:
            seconds = f"{self.limits.read_seconds:g} s"
            self._refuse(Refused(408, f"the request took longer than {seconds} to arrive"))

    def _close(self) -> None:
        self.transport.close()

    def _refuse(self, why: Refused) -> None:
        """Answer without the application, and close."""
        if self.transport.is_closing():
            return
        started = self.cycle is not None and not self.cycle.response_complete
        if not started or not self.cycle.response_started:
            body = why.body
            head = (
                f"HTTP/1.1 {why.status} {HTTPStatus(why.status).phrase}\r\n"
                "content-type: application/json\r\n"
                f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + body)
        self._arm(_GRACE, self.transport.abort)
        self.transport.close()
        if started:
            self.cycle.disconnected = True
            self.cycle.message_event.set()

    def _arm(self, seconds: float, then: Any) -> None:
        self._disarm()
        self._timer = self.loop.call_later(seconds, then)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
