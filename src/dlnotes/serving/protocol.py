"""uvicorn's HTTP protocol with bounds on time, headers and connections."""

from __future__ import annotations

import asyncio
import re
from http import HTTPStatus
from typing import Any, ClassVar

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from dlnotes.serving.limits import Limits, Refused, content_length

_HEAD_BYTES = 1 << 16
"""Most bytes of a request line and its headers."""
_PIPELINED = 32
"""Requests that one client may send ahead of their answers."""
_GRACE = 5.0
"""Seconds beyond the time for an answer, for the client to read it."""
_WHOLE_URL = re.compile(rb"[a-z]+://([^/?#]*)", re.IGNORECASE)
_ANSWERED_VERSION = re.compile(rb" HTTP/1\.[01]\s*$")
_OTHER_VERSION = re.compile(rb"\r*[A-Z-]+ +[^ ]+ +HTTP/(?!1\.[01])[0-9]\.[0-9]")


class BoundedProtocol(HttpToolsProtocol):
    """A connection that cannot stay busy forever and whose memory is bounded.

    uvicorn leaves limits on header size and request time to a proxy in front of it. Here a request
    must arrive in time and the client must read the answer in time. Otherwise the connection is
    closed, with an error response if no response has begun.

    The parser is given only the heads of requests, a line at a time, so that it is known where each
    head ends. A body is as long as its Content-Length, whatever else the head says: where a client
    asks for an upgrade to another protocol, the parser would leave the body to that protocol.
    No upgrade is offered here, so the header is ignored (RFC 9110, section 7.8).
    """

    limits: ClassVar[Limits] = Limits()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept a connection, or refuse one too many."""
        super().connection_made(transport)
        self._timer: asyncio.TimerHandle | None = None
        self._line = bytearray()  # the request line, as far as it has arrived
        self._head = 0  # bytes of the head that is arriving
        self._left = 0  # bytes of the body that is arriving
        self._reading_head = True
        self._unanswered = 0  # requests whose heads have arrived
        self._deaf = False  # what still arrives is ignored
        self._ending = False
        self._last_word: Refused | None = None
        self._arm(self.limits.read_seconds, self._close)
        if len(self.connections) > self.limits.max_connections:
            self._end(Refused(503, "too many connections are open; try again later"))

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._disarm()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Divide what has arrived into heads and bodies."""
        self._unset_keepalive_if_required()
        at = 0
        while at < len(data) and not (self._deaf or self.transport.is_closing()):
            if self._reading_head:
                end = data.find(b"\n", at) + 1 or len(data)
                part = data[at : min(end, at + _HEAD_BYTES - self._head)]
                self._read_head(part)
            else:
                part = data[at : at + self._left]
                self._left -= len(part)
                self.on_body(part)
            at += len(part)
            if not (self._reading_head or self._left or self._deaf):
                self._arrived()

    def _read_head(self, part: bytes) -> None:
        """Parse a line of a head, or what has arrived of it."""
        if not self._head:
            self._arm(self.limits.read_seconds, self._late)
        elif self._head == _HEAD_BYTES:
            most = f"{_HEAD_BYTES:,} bytes"
            self._end(Refused(431, f"the request line and the headers have more than {most}"))
            return
        self._head += len(part)
        in_first = not self._line.endswith(b"\n")
        if in_first:
            self._line += part
        try:
            self.parser.feed_data(part)
        except httptools.HttpParserUpgrade:
            pass
        except httptools.HttpParserInvalidMethodError:
            self._refuse_method()
            return
        except httptools.HttpParserError as error:
            # The answer must not depend on how much of the line has arrived with the mistake.
            in_url = isinstance(error, httptools.HttpParserInvalidURLError)
            if _OTHER_VERSION.match(self._line) and not in_url:
                self._refuse_version()
            else:
                self._end(Refused(400, f"this is not a valid HTTP request ({error})"))
            return
        if in_first and self._line.endswith(b"\n"):
            if not self._line.strip():
                self._line.clear()  # an empty line before a request is allowed
            elif not _ANSWERED_VERSION.search(self._line):
                self._refuse_version()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; white space after its value is not part of it (RFC 9112, section 5.1)."""
        super().on_header(name, value.rstrip(b" \t"))

    def _refuse_version(self) -> None:
        self._end(Refused(505, "this server speaks HTTP/1.1 and HTTP/1.0"))

    def _refuse_method(self) -> None:
        """Refuse a method that is not known, or a line that does not begin with one.

        The parser stops at the first letter that no method has there, so the rest of the line may
        not have arrived.
        """
        if self._line.lstrip(b"\r\n")[:1].isalpha():
            self._end(
                Refused(501, "this server knows the methods GET, HEAD and POST, not this one")
            )
        else:
            why = "it does not begin with the name of a method, such as GET"
            self._end(Refused(400, f"this is not a valid HTTP request ({why})"))

    def on_headers_complete(self) -> None:
        """Start the request, unless too many wait in its connection or its head is wrong."""
        if len(self.pipeline) >= _PIPELINED:
            most = f"a connection may send {_PIPELINED} requests ahead of their answers"
            self._end(Refused(429, f"{most}, not more"))
            return
        if self.parser.get_method() == b"CONNECT":
            allow = {"allow": "GET, HEAD, POST"}
            self._end(Refused(405, "this server is not a proxy: it does not know CONNECT", allow))
            return
        hosts = sum(name == b"host" for name, _ in self.headers)
        if hosts > 1 or (hosts == 0 and self.parser.get_http_version() == "1.1"):
            self._end(Refused(400, f"a request has one header Host, not {hosts}"))  # RFC 9112, 3.2
            return
        if not self.url.startswith(b"/") and not self._take_host():
            self._end(Refused(400, "the request line must name a path, such as /health"))
            return
        given = dict(self.headers)
        self._left = content_length(given.get(b"content-length", b"0"))
        super().on_headers_complete()
        self._reading_head, self._head = False, 0
        self._unanswered += 1
        if b"transfer-encoding" in given:  # refused by the application: the end is not known
            self._left, self.cycle.keep_alive = 0, False

    def _take_host(self) -> bool:
        """Take the host from a whole URL in the request line (RFC 9112, section 3.2.2).

        Returns:
            Whether there is a whole URL.
        """
        whole = _WHOLE_URL.match(self.url)
        if whole is None:
            return False
        others = [(name, value) for name, value in self.headers if name != b"host"]
        self.headers[:] = [(b"host", whole[1]), *others]
        rest = self.url[whole.end() :]
        self.url = rest if rest.startswith(b"/") else b"/" + rest
        return True

    def on_message_complete(self) -> None:
        """The parser has seen the end of a head; see `_arrived`."""

    def _arrived(self) -> None:
        """The request has arrived: from now on the time for its answer counts."""
        super().on_message_complete()
        self.parser = httptools.HttpRequestParser(self)
        self._line.clear()
        self._reading_head = True
        self._deaf = not self.cycle.keep_alive
        if self.cycle.response_complete:  # before all of it had arrived
            self._arm(self.limits.read_seconds, self._close)
        else:
            self._arm(self.limits.answer_seconds + _GRACE, self.transport.abort)

    def eof_received(self) -> bool:  # type: ignore[override]
        """The client sends nothing more, but may still read: answer what has arrived."""
        if self._line.strip() if self._reading_head else not self.cycle.response_started:
            self._end(Refused(400, "the connection ended before the request was whole"))
        else:
            self._end()
        return True  # do not close yet

    def on_response_complete(self) -> None:
        """The answer is written; the timer keeps running until the client has read it."""
        self._unanswered -= 1
        super().on_response_complete()
        if self._ending and not self._unanswered:
            self._end()
        elif self._left and self.expect_100_continue and self.cycle.response_complete:
            self._close()  # a client that was told the answer before the body may not send it
        if self.cycle.more_body or self._head or self.transport.get_write_buffer_size():
            return  # keep the timer of a request that is arriving, or an answer that is not read
        if self.cycle.response_complete:
            self._disarm()
        else:  # the next one that was sent ahead is being answered
            self._arm(self.limits.answer_seconds + _GRACE, self.transport.abort)

    def _late(self) -> None:
        if self._left and self.cycle.response_started:
            self.transport.abort()  # it sends a body that nobody wants, or does not read
        elif not (self._line or self._left):
            self._end()  # empty lines are not a request
        else:
            seconds = f"{self.limits.read_seconds:g} s"
            self._end(Refused(408, f"the request took longer than {seconds} to arrive"))

    def _close(self) -> None:
        self.transport.close()

    def _end(self, why: Refused | None = None) -> None:
        """Read no further request: answer those that are whole, then send `why`, and close."""
        if self.transport.is_closing():
            return
        if not self._ending:
            self._deaf, self._ending, self._last_word = True, True, why
        if self._left and self._unanswered > 1:  # it waits behind others, and will not be whole
            self.pipeline.popleft()
            self._unanswered -= 1
            self._left = 0
        broken_off = bool(self._left and self._unanswered)
        if self._unanswered > broken_off:
            self._arm(self.limits.answer_seconds + _GRACE, self.transport.abort)
            return
        if self._last_word:
            self._tell(self._last_word)
        self._arm(_GRACE, self.transport.abort)
        self.transport.close()
        if broken_off:
            self.cycle.disconnected = True
            self.cycle.message_event.set()

    def _tell(self, why: Refused) -> None:
        """Answer without the application."""
        body = why.body
        headers = {
            "content-type": "application/json",
            "content-length": str(len(body)),
            "connection": "close",
            **why.headers,
        }
        head = f"HTTP/1.1 {why.status} {HTTPStatus(why.status).phrase}\r\n"
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self.transport.write(f"{head}{lines}\r\n".encode() + body)

    def _arm(self, seconds: float, then: Any) -> None:
        self._disarm()
        self._timer = self.loop.call_later(seconds, then)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
