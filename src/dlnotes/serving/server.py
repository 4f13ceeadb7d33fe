"""Listen at an address, and serve a classifier there until a signal arrives."""

from __future__ import annotations

import errno
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from types import FrameType

import uvicorn

from dlnotes.errors import UserError
from dlnotes.serving.app import make_app
from dlnotes.serving.hosts import Hosts, bare
from dlnotes.serving.limits import Limits
from dlnotes.serving.protocol import BoundedProtocol
from dlnotes.training.classifier import Classifier

_SWITCH = 5e-4
"""Python's thread switch interval, in seconds. The event loop has to get the GIL back after each
system call, and with the default of 0.005 s it would wait that long for a thread that computes."""


def bind(host: str, port: int) -> socket.socket:
    """Create a socket that is bound to an address and listens.

    Clients can connect at once, but are not answered until `serve` runs.

    Args:
        host: A name or number of this machine.
        port: A port, or 0 for any that is free.

    Raises:
        UserError: The port is taken or not allowed, or the host is not this machine.
    """
    try:
        found = socket.getaddrinfo(
            bare(host), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (OSError, UnicodeError) as error:
        raise UserError(f"host {host!r} is not an address of this machine: {error}") from error
    family, kind, protocol, _, address = found[0]
    listener = socket.socket(family, kind, protocol)
    try:
        if sys.platform != "win32":  # there it would share the port with another program
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        # Two programs may both bind before one of them listens.
        listener.listen(1)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            told = f"port {port} of {host} is in use; give another --port, or 0 for any"
        elif error.errno == errno.EACCES:
            told = f"port {port} of {host} is not allowed; give a --port of 1024 or more"
        else:
            told = f"host {host!r} is not an address of this machine: {error.strerror}"
        raise UserError(told) from error
    return listener


def url_of(listener: socket.socket) -> str:
    """The address to open in a browser on this machine."""
    host, port = listener.getsockname()[:2]
    if host in ("0.0.0.0", "::"):  # all addresses of the machine; one cannot connect to these
        host = "localhost"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class _Server(uvicorn.Server):
    """Calls a function when it listens."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], object]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()


def serve(
    classifier: Classifier,
    listener: socket.socket,
    *,
    name: str,
    limits: Limits,
    hosts: Hosts,
    ready: Callable[[], object],
) -> None:
    """Answer requests until a signal arrives; requests in flight are still answered.

    Args:
        classifier: The classifier that answers.
        listener: The socket that `bind` made.
        name: The classifier's name on the page.
        limits: How much a client may ask for.
        hosts: The names that the server may be called by.
        ready: Called when the server listens.

    Raises:
        KeyboardInterrupt: SIGINT, or, in programs that ask for it, another signal.
    """

    class Protocol(BoundedProtocol):
        pass

    Protocol.limits = limits
    config = uvicorn.Config(
        make_app(classifier, name, limits, hosts),
        http=Protocol,
        ws="none",
        loop="uvloop" if find_spec("uvloop") else "asyncio",
        lifespan="on",
        interface="asgi3",
        proxy_headers=False,
        server_header=False,
        access_log=False,
        log_config=None,
        log_level="critical",  # clients' mistakes are reported to the clients
        timeout_graceful_shutdown=round(limits.read_seconds + limits.answer_seconds),
    )
    server = _Server(config, ready)
    switch = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH)
    try:
        with _hang_up(server):
            server.run([listener])
    finally:
        sys.setswitchinterval(switch)


@contextmanager
def _hang_up(server: uvicorn.Server) -> Iterator[None]:
    """Handle SIGHUP (a closed terminal) like SIGTERM: shut down, then raise it again."""
    number, came = getattr(signal, "SIGHUP", None), False  # Windows has none

    def end(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came = server.should_exit = True

    before = signal.getsignal(number) if number else signal.SIG_IGN
    if number is None or before is signal.SIG_IGN:  # nohup
        yield
        return
    signal.signal(number, end)
    try:
        yield
    finally:
        signal.signal(number, before)
        if came:
            signal.raise_signal(number)
