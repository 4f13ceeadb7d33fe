"""How much a client may ask for, and the answer to one that asks for more."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass

from dlnotes.arguments import Count, Positive, Settings


@dataclass(frozen=True)
class Limits(Settings):
    """Bounds of requests; together they bound the memory that clients can make a server use."""

    max_bytes: Count = 1 << 20
    """Size of a request's body, in bytes; more is answered with 413."""
    max_texts: Count = 256
    """Texts in a request; more are answered with 422."""
    max_waiting: Count = 4096
    """Texts of all clients that may wait for the model; more are answered with 429."""
    max_held: Count = 1 << 26
    """Bytes of all requests that are being read or answered; more are answered with 429."""
    max_connections: Count = 512
    """Connections at a time; more are answered with 503."""
    max_explained: Count = 1000
    """Characters of a text that is explained; more are answered with 422."""
    read_seconds: Positive = 10.0
    """Time for a request to arrive; a slower one is answered with 408."""
    answer_seconds: Positive = 30.0
    """Time for an answer; a slower one becomes 503."""


class Refused(Exception):  # noqa: N818 -- not an error of the program
    """A request that the server refuses to answer.

    Args:
        status: HTTP status code of the answer.
        sentence: Why, in one plain sentence.
        headers: More headers of the answer.
    """

    def __init__(self, status: int, sentence: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(sentence)
        self.status, self.sentence, self.headers = status, sentence, headers or {}

    @property
    def body(self) -> bytes:
        """The answer in JSON."""
        return json.dumps({"error": self.sentence}).encode()


def content_length(value: bytes) -> int:
    """The number that a header Content-Length holds.

    Raises:
        Refused: It does not hold a number.
    """
    if not value.isdigit():
        raise Refused(400, "the header Content-Length must be a number")
    digits = value.lstrip(b"0")
    return int(digits or b"0") if len(digits) < 20 else sys.maxsize


class Held:
    """Bytes of the requests that are being read or answered.

    Args:
        most: How many bytes there may be.
    """

    def __init__(self, most: int) -> None:
        self._most, self._now = most, 0

    def take(self, size: int) -> None:
        """Count `size` more bytes.

        Raises:
            Refused: There would be too many.
        """
        if self._now + size > self._most:
            raise busy("too many requests are being answered; try again later")
        self._now += size

    def give_back(self, size: int) -> None:
        """Count `size` fewer bytes."""
        self._now -= size


def busy(sentence: str) -> Refused:
    """A 429 response that asks the client to try again in a second."""
    return Refused(429, sentence, {"retry-after": "1"})
