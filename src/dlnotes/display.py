"""Show names and texts of other people on a terminal, without letting them control it."""

from __future__ import annotations

import codecs
import re
import sys
from contextlib import suppress
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

ASCII_FALLBACK = "dlnotes.ascii_fallback"
"""Name of an error handler for streams: arrows and the like in ASCII, all else escaped."""

# Control characters (which terminals execute), lone surrogates (which UTF-8 cannot hold), and the
# marks that reorder the text around them.
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str, most: int | None = None, *, keep: str = "") -> str:
    r"""Text that can be shown anywhere: control characters as escapes, such as ``\x1b``.

    Args:
        text: Anything.
        most: A longer text is cut to this many characters; an ellipsis replaces its middle, since
            names often differ at their ends.
        keep: Control characters that are not escaped.
    """
    text = UNPRINTABLE.sub(lambda found: found[0] if found[0] in keep else _escape(found[0]), text)
    if most is not None and len(text) > most:
        end = len(text) - most // 2
        text = f"{text[: most - most // 2 - 1]}…{text[end:]}"
    return text


def as_html(text: str) -> str:
    """Text as HTML; control characters, which HTML does not allow, are escaped."""
    return escape(printable(text))


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


_LIKENESSES = str.maketrans(
    {"→": "->", "…": "...", "–": "-", "−": "-", "·": "-", "×": "x"}
    | dict(zip("░▒▓█", ".:+#", strict=True))
)


def _likeness(error: UnicodeError) -> tuple[str, int]:
    """What a stream prints for a character that it cannot encode: a similar one, or an escape."""
    assert isinstance(error, UnicodeEncodeError)
    found = error.object[error.start : error.end].translate(_LIKENESSES)
    return found.encode("ascii", "backslashreplace").decode("ascii"), error.end


codecs.register_error(ASCII_FALLBACK, _likeness)


def tell(line: str, *, shown: bool = True) -> None:
    """Print a line on standard error, if it can be written.

    Args:
        line: What to print; line breaks become spaces.
        shown: False prints nothing.
    """
    with suppress(OSError):
        if shown:
            print(printable(" ".join(line.split())), file=sys.stderr, flush=True)  # noqa: T201


def console(*, stderr: bool = False, quiet: bool = False) -> Console:
    """A console for tables and progress that shows the names of files and labels as they are.

    Brackets are not markup, colons are not emoji, numbers are not highlighted, and control
    characters are escaped. In a pipe, lines are as long as necessary.

    Args:
        stderr: Print to standard error.
        quiet: Print nothing.
    """
    from rich.console import Console  # here, because most commands do not need it
    from rich.text import Text

    class Plain(Console):
        def render_str(self, text: str, **options: Any) -> Text:
            shown = printable(text, keep="\n")
            # As the stream will encode it, so that columns are as wide as what is in them.
            shown = shown.encode(self.encoding, ASCII_FALLBACK).decode(self.encoding)
            return super().render_str(shown, **options)

        def on_broken_pipe(self) -> None:
            raise  # called while the error is handled; `cli.run` knows what to do

    made = Plain(stderr=stderr, quiet=quiet, markup=False, emoji=False, highlight=False)
    if not made.is_terminal:
        made.width = 10_000
    return made
