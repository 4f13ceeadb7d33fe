"""Around the application: headers of every answer, counting, and no traceback for a client."""

from __future__ import annotations

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dlnotes.display import tell
from dlnotes.serving.limits import Refused
from dlnotes.serving.metrics import Metrics

_HEADERS = [
    (name.encode(), value.encode())
    for name, value in {
        # Nothing but this server's own files, and no style or script inside of the page.
        "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
        "img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'",
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cross-origin-resource-policy": "same-origin",
        "cache-control": "no-store",
    }.items()
]
_PREDICT = "/predict"


class Guard:
    """ASGI middleware.

    Args:
        app: The application.
        metrics: Counts requests.
        paths: Those that are counted by name.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, paths: frozenset[str]) -> None:
        self.app, self._metrics, self._paths = app, metrics, paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.perf_counter(), 0

        async def with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *_HEADERS]
            await send(message)

        try:
            if any(name == b"transfer-encoding" for name, _ in scope["headers"]):
                why = Refused(411, "give the length of the body in a header Content-Length")
                await _answer(why, with_headers)
            else:
                await self.app(scope, receive, with_headers)
        except Exception as error:
            tell(f"warning: a request failed: {type(error).__name__}: {error}")
            if not status:
                await _answer(Refused(500, "the server failed to answer"), with_headers)
        finally:
            path = scope["path"]
            self._metrics.count(path if path in self._paths else "other", status)
            if path == _PREDICT:
                self._metrics.seconds.observe(time.perf_counter() - began)


async def _answer(why: Refused, send: Send) -> None:
    """Refuse, and close the connection, for what comes next in it is not known."""
    body = why.body
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": why.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
