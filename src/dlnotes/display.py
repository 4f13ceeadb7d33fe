"""Names and texts of other people on a terminal: as they are, except for what would act on it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

# Control characters (of which terminals make commands), lone surrogates (no UTF-8), and the marks
# that reorder the text around them.
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str, most: int | None = None, *, keep: str = "") -> str:
    r"""Text that can be shown anywhere: control characters as escapes, such as ``\x1b``.

    Args:
        text: Anything.
        most: A longer text is cut to so many characters; an ellipsis stands for its middle, since
            names often differ at their ends.
        keep: Control characters that stay.
    """
    if most is not None and len(text) > most:
        text = f"{text[: most - most // 2 - 1]}…{text[-(most // 2) :]}"
    return UNPRINTABLE.sub(lambda found: found[0] if found[0] in keep else _escape(found[0]), text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def console(*, stderr: bool = False, quiet: bool = False) -> Console:
    """Where tables and progress are printed: what people call their files and labels is shown.

    Brackets are no markup, colons no emoji, numbers no decoration, and control characters are
    escaped. Into a pipe lines are as long as they have to be.

    Args:
        stderr: Print to standard error.
        quiet: Print nothing.
    """
    from rich.console import Console  # needless in most commands
    from rich.text import Text

    class Plain(Console):
        def render_str(self, text: str, **options: Any) -> Text:
            return super().render_str(printable(text, keep="\n"), **options)

        def on_broken_pipe(self) -> None:
            raise  # called while the error is handled; `cli.run` knows what to do

    made = Plain(stderr=stderr, quiet=quiet, markup=False, emoji=False, highlight=False)
    if not made.is_terminal:
        made.width = 10_000
    return made
