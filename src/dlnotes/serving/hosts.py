"""Check the names by which a server is called, in the header Host, against DNS rebinding.

A web page of ``evil.example`` can let that name resolve to 127.0.0.1 after it has been loaded. The
browser of its reader then takes a server on the reader's own machine for ``evil.example``, and lets
the page read its answers. Only the header Host distinguishes such a request from others.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from ipaddress import ip_address

from dlnotes.errors import UserError
from dlnotes.serving.limits import Refused

_LOCAL = ("localhost", "127.0.0.1", "::1")
# RFC 3986, section 3.2: an address in brackets or a name, which may be empty, and a port.
_HEADER = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9._~!$&'()*+,;=%-]*))(?::[0-9]*)?")
# Browsers take what ends in a number, decimal or hexadecimal, for an IPv4 address.
_NAME = re.compile(
    r"(?=.{1,253}$)(?:[a-z0-9_-]{1,63}\.)*(?!(?:[0-9]+|0x[0-9a-f]*)$)[a-z0-9_-]{1,63}"
)
_SHOWN = 100


class Hosts:
    """The names that a request may call a server by; ports are ignored.

    They are localhost, 127.0.0.1, [::1] and `listens_on`. A server that can be reached over a
    network may also be called by the name of its machine, and by every IP address: it may have
    several, or be reached through another one, and DNS rebinding needs a name, not an IP address.

    Args:
        listens_on: The host that the server was told to listen on.
        more: Further names; ``*.example.org`` is every name below it, ``*`` every name. Letters
            beyond ASCII are encoded as browsers do (``xn--…``).

    Raises:
        UserError: One of `more` is not a name.
    """

    def __init__(self, listens_on: str = "127.0.0.1", more: Sequence[str] = ()) -> None:
        host = _address(bare(listens_on)) or _name(listens_on) or listens_on
        names = {*_LOCAL, host}
        self._any_address = host not in _LOCAL
        if _address(host) and ip_address(host).is_loopback:
            self._any_address = False
        if self._any_address:
            names.add(socket.gethostname().lower())
        self._any_name = "*" in more
        self._below: tuple[str, ...] = ()
        for given in more:
            below = given.startswith("*.")
            name = _name(given[2:]) if below else _address(bare(given)) or _name(given)
            if given == "*":
                continue
            if name is None:
                raise UserError(
                    "allowed_hosts must be names such as example.org, *.example.org or *, or IP "
                    f"addresses, without http:// and port, not {given!r}"
                )
            if below:
                self._below += (f".{name}",)
            else:
                names.add(name)
        self._names = names

    def check(self, header: bytes) -> None:
        """Require that a request with this header Host is for the server.

        Raises:
            Refused: It is not.
        """
        value = header.decode("latin-1")
        found = _HEADER.fullmatch(value.lower())
        if not found:
            raise Refused(
                400, "the header Host must be a name or an IP address, with a port or without"
            )
        if self._any_name:
            return
        name = (found[1] or found[2]).removesuffix(".")
        if not name:
            raise Refused(421, "the header Host is empty; it must be a name of this server")
        address = _address(name)
        if address is not None:
            allowed = self._any_address or address in self._names
        else:
            allowed = name in self._names or name.endswith(self._below)
        if not allowed:
            raise Refused(
                421,
                f"the request is for {value[:_SHOWN]}, which is not a name of this server; "
                "--allowed-hosts adds names",
            )


def bare(address: str) -> str:
    """An IP address without the brackets that it has in a URL."""
    return address[1:-1] if address[:1] + address[-1:] == "[]" else address


def _address(name: str) -> str | None:
    """An IP address in its usual form; None for any other name, and for an address with a link.

    Clients leave out the link (``%eth0``) in the header.
    """
    try:
        return None if "%" in name else str(ip_address(name))
    except ValueError:
        return None


def _name(name: str) -> str | None:
    """A name as in the header, in lower case and ASCII; None if it is not a name."""
    if not name.isascii():
        import idna  # here, because it belongs to an extra

        try:
            name = idna.encode(name, uts46=True).decode()
        except idna.IDNAError:
            return None
    name = name.lower().removesuffix(".")
    return name if _NAME.fullmatch(name) else None
