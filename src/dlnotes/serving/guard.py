"""Around the application: headers of every answer, counting, and no traceback for a client."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dlnotes.display import tell
from dlnotes.serving.hosts import Hosts
from dlnotes.serving.limits import Refused
from dlnotes.serving.metrics import Metrics

JSON = "application/json"
_HEADERS = [(b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store")]
# Nothing but this server's own files, and no style or script inside of the page.
_CSP = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
    b" base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_BROWSER_HEADERS = [
    *_HEADERS,
    (b"content-security-policy", _CSP),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
]

Endpoint = Callable[[Request], Awaitable[bytes]]
"""Answers a request with JSON, or raises `Refused`."""


class Guard:
    """ASGI middleware that checks requests, counts them, and adds headers to the answers.

    Args:
        app: The application.
        metrics: Counts requests.
        paths: The paths that are counted by name.
        direct: Endpoints whose POST requests are handled here. Passing them through FastAPI would
            take longer than everything else in a prediction.
        hosts: The names that a request may call the server by.
    """

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics,
        paths: frozenset[str],
        direct: Mapping[str, Endpoint],
        hosts: Hosts,
    ) -> None:
        self.app, self._metrics, self._paths, self._direct = app, metrics, paths, direct
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status, path = time.perf_counter(), 0, scope["path"]
        endpoint = self._direct.get(path) if scope["method"] == "POST" else None
        head = scope["method"] == "HEAD"
        if head:  # as GET, but without the body
            scope = {**scope, "method": "GET"}
        headers = _HEADERS if endpoint else _BROWSER_HEADERS

        async def with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *headers]
            elif head:
                message = {**message, "body": b""}
            try:
                await send(message)
            except RuntimeError as error:  # uvloop: the connection was closed meanwhile
                raise ClientDisconnect from error

        try:
            self._check(scope["headers"])
            if endpoint:
                await _send(with_headers, 200, await endpoint(Request(scope, receive)))
            else:
                await self.app(scope, receive, with_headers)
        except Refused as why:
            await _send(with_headers, why.status, why.body, why.headers)
        except ClientDisconnect:
            status = 408  # only for the metrics: nobody reads it
        except Exception as error:
            tell(f"warning: a request failed: {type(error).__name__}: {error}")
            if not status:
                failed = Refused(500, "the server failed to answer this request")
                await _send(with_headers, failed.status, failed.body)
        finally:
            self._metrics.count(path if path in self._paths else "other", status)
            if endpoint:
                self._metrics.seconds.observe(time.perf_counter() - began)

    def _check(self, headers: list[tuple[bytes, bytes]]) -> None:
        """Check the headers that matter for every path.

        Raises:
            Refused: The request is for another server, or the end of its body is not known.
        """
        for name, value in headers:
            if name == b"host":
                self._hosts.check(value)
        if any(name == b"transfer-encoding" for name, _ in headers):
            why = "give the length of the body in a header Content-Length"
            raise Refused(411, why, {"connection": "close"})


async def _send(
    send: Send, status: int, body: bytes, more: Mapping[str, str] | None = None
) -> None:
    headers = [
        (b"content-type", JSON.encode()),
        (b"content-length", str(len(body)).encode()),
        *((name.encode(), value.encode()) for name, value in (more or {}).items()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
