"""By which names a server may be called: the header Host, checked against DNS rebinding.

A web page of ``evil.example`` can let that name resolve to 127.0.0.1 after it has been loaded. The
browser of its reader then takes a server on the reader's own machine for ``evil.example``, and lets
the page read its answers. Only the header Host tells such a request from others.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from ipaddress import ip_address

from dlnotes.errors import UserError

_LOCAL = ("localhost", "127.0.0.1", "::1")
_HEADER = re.compile(r"(?:\[([0-9a-f:.]+)\]|([^:\[\]]+))(?::[0-9]*)?")
_PATTERN = re.compile(r"\*|(?:\*\.)?[^\s*:/\[\]]+|\[?[0-9a-f:.]+\]?")


class Hosts:
    """The names that a request may call a server by; ports are not looked at.

    They are localhost, 127.0.0.1, [::1] and `listens_on`. A server that can be reached over a
    network also has the name of its machine, and every IP address: it may have several, or be
    reached through another one, and no page has an IP address of somebody else for its name.

    Args:
        listens_on: The host that the server was told to listen on.
        more: Further names; ``*.example.org`` is every name below it, ``*`` every name.

    Raises:
        UserError: One of `more` is no name.
    """

    def __init__(self, listens_on: str = "127.0.0.1", more: Sequence[str] = ()) -> None:
        names = {*_LOCAL, listens_on.lower()}
        address = _address(listens_on)
        self._any_address = listens_on.lower() not in _LOCAL
        if address is not None and ip_address(address).is_loopback:
            self._any_address = False
        if self._any_address:
            names.add(socket.gethostname().lower())
        for name in more:
            if not _PATTERN.fullmatch(name.lower()):
                raise UserError(
                    "allowed_hosts must be names such as example.org, *.example.org or *, without "
                    f"http:// and port, not {name!r}"
                )
            names.add(name.lower().strip("[]"))
        self._any_name = "*" in names
        self._below = tuple(name[1:] for name in names if name.startswith("*."))
        self._names = {_address(name) or name for name in names}

    def allows(self, header: bytes) -> bool:
        """Whether a request with this header Host is for the server."""
        if self._any_name:
            return True
        found = _HEADER.fullmatch(header.decode("latin-1").lower())
        if not found:
            return False
        name = (found[1] or found[2]).removesuffix(".")
        address = _address(name)
        if address is not None:
            return self._any_address or address in self._names
        return name in self._names or name.endswith(self._below)


def _address(name: str) -> str | None:
    """An IP address in its usual form; None for any other name."""
    try:
        return str(ip_address(name))
    except ValueError:
        return None
