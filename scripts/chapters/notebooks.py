"""A page as a notebook: its cells stay cells, and its directives become plain Markdown."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

from myst_nb.core.read import read_myst_markdown_notebook
from nbformat import from_dict, validate, writes
from sphinx.pycode import ModuleAnalyzer

from chapters.pictures import INTERACTIVE
from chapters.rows import ROWS
from chapters.words import say
from dlnotes.errors import UserError
from dlnotes.files import make_folder, write_text

_FENCE = re.compile(r"^(`{3,}|:{3,})\{([\w-]+)\}[ ]*([^\n]*)\n(.*?)^\1[ ]*$\n?", re.M | re.S)
_OPTION = re.compile(r":([\w-]+):[ ]*(.*)\n?")
_MATH_BLOCK = "$$\n{}\n$$\n"
_CODE_OR_LINK = re.compile(
    r"^(?P<fence>`{3,}).*?^(?P=fence)|`+[^`\n]+`+|(?<!!)\[([^][]+)\]\(([\w./-]+)(?:#[\w-]+)?\)",
    re.M | re.S,
)
_HTML_LINK = re.compile(r'<a href="\.[^"]*"[^>]*>(.*?)</a>', re.S)  # to a page of the site
_INTERACTIVE = re.compile(rf"^[`:]{{3,}}\{{(?:{'|'.join(INTERACTIVE)})\}}", re.M)
_HEAD = re.compile(r"^##+ .*\n+", re.M)
_TITLE = re.compile(r"^# (.+)", re.M)


def write_notebooks(pages: Path, site: Path, language: str) -> None:
    """Write every page that has cells into ``notebooks/`` of the site.

    Args:
        pages: Folder of the pages, with those in its folders.
        site: Folder of the site, with the figures.
        language: Sphinx's name of the language.

    Raises:
        UserError: A page has a directive that a notebook cannot show, or one with an error.
    """
    for page in sorted(pages.rglob("*.md")):
        text = page.read_text("utf-8")
        if "{code-cell}" in text:
            try:
                made = notebook(text, page.parent, site, language)
            except (UserError, OSError, KeyError) as error:
                raise UserError(f"{page}: no notebook can be made of it: {error}") from error
            content = writes(made)  # type: ignore[no-untyped-call]
            file = site / "notebooks" / page.relative_to(pages).with_suffix(".ipynb")
            make_folder(file.parent)
            write_text(file, content + "\n")


def notebook(text: str, pages: Path, site: Path, language: str) -> Any:
    """A page as a notebook without outputs.

    Args:
        text: The page.
        pages: Folder of the page, to which paths of its includes are relative.
        site: Folder of the site, with the figures.
        language: Sphinx's name of the language.
    """
    made = read_myst_markdown_notebook(text)
    for number, cell in enumerate(made.cells):
        cell["id"] = f"cell-{number}"  # the same in every build
        if cell.cell_type == "markdown":
            attachments: dict[str, Any] = {}
            cell.source = plain(cell.source, pages, site, language, attachments)
            if attachments:
                cell["attachments"] = attachments
    made.metadata = from_dict(  # type: ignore[no-untyped-call]
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    made.nbformat, made.nbformat_minor = 4, 5
    validate(made)
    return made


def plain(text: str, pages: Path, site: Path, language: str, attachments: dict[str, Any]) -> str:
    """Markdown without directives, and without links to other pages.

    A reader has the notebook in a folder of his own, and the site has no address that is known
    here. So the text and the title of the page take the place of a link.

    Args:
        text: The page's Markdown.
        pages: Folder of the page.
        site: Folder of the site.
        language: Sphinx's name of the language.
        attachments: The pictures are added to it.

    Raises:
        UserError: A directive has no form for notebooks.
    """

    def picture(argument: str, options: dict[str, str], body: str) -> str:
        image = (site / "_static" / "figures" / f"{argument}.png").read_bytes()
        attachments[f"{argument}.png"] = {"image/png": b64encode(image).decode()}
        return f"![{options['alt']}](attachment:{argument}.png)\n\n{inner(body)}"

    def source(argument: str, options: dict[str, str], body: str) -> str:
        file = (pages / argument).resolve()
        tags = ModuleAnalyzer.for_file(str(file), file.stem).find_tags()
        _, first, last = tags[options["pyobject"]]
        lines = file.read_text("utf-8").splitlines()[first - 1 : last]
        indent = len(lines[0]) - len(lines[0].lstrip())
        return "```python\n" + "\n".join(line[indent:] for line in lines) + "\n```\n"

    def records(name: str) -> Callable[[str, dict[str, str], str], str]:
        return lambda argument, options, body: ROWS[name](body.strip(), language) + "\n"

    def exercise(argument: str, options: dict[str, str], body: str) -> str:
        exercises.append(body)
        return f"**{say('Exercise', language)} {len(exercises)}.** {inner(body)}"

    def answer(argument: str, options: dict[str, str], body: str) -> str:
        summary = say("Answer", language)
        return f"<details><summary>{summary}</summary>\n\n{inner(body)}\n</details>\n"

    kinds: dict[str, Callable[[str, dict[str, str], str], str]] = {
        "picture": picture,
        **dict.fromkeys(INTERACTIVE, picture),
        "literalinclude": source,
        "exercise": exercise,
        "answer": answer,
        "math": lambda argument, options, body: _MATH_BLOCK.format(body.strip()),
        "notebook": lambda argument, options, body: "",
        "container": lambda argument, options, body: inner(body),
        **{name: records(name) for name in ROWS},
    }
    exercises: list[str] = []

    def replaced(found: re.Match[str]) -> str:
        _, name, argument, body = found.groups()
        if name not in kinds:
            raise UserError(f"a notebook cannot show the directive {{{name}}}")
        options = {}
        while option := _OPTION.match(body):
            options[option[1]] = option[2].strip()
            body = body[option.end() :]
        return kinds[name](argument.strip(), options, body)

    def inner(body: str) -> str:
        return _FENCE.sub(replaced, body.strip() + "\n")

    without_directives = _FENCE.sub(replaced, _noted(text, language) + "\n").strip()
    without_directives = _HTML_LINK.sub(r"\1", without_directives)
    return _CODE_OR_LINK.sub(lambda found: _unlinked(found, pages, language), without_directives)


def _noted(text: str, language: str) -> str:
    """Say at the head of a section, before its text speaks of it, that its figure is a picture."""
    note = "The figure of this section is interactive on the book's page; here it is a picture."
    for figure in reversed([*_INTERACTIVE.finditer(text)]):
        heads = [head.end() for head in _HEAD.finditer(text, 0, figure.start())]
        at = heads[-1] if heads else figure.start()
        text = f"{text[:at]}*{say(note, language)}*\n\n{text[at:]}"
    return text


def _unlinked(found: re.Match[str], pages: Path, language: str) -> str:
    """The text of a link with the title of its page, if that is another; code as it is."""
    text, target = found[2], found[3]
    if text is None:
        return found[0]
    page = pages / target
    title = _TITLE.search(page.read_text("utf-8")) if page.suffix == ".md" else None
    if title is None:
        return text
    named = title[1].strip()
    if named.casefold() == text.casefold():
        return f"*{text}*"
    return say("{text} ({title})", language).format(text=text, title=f"*{named}*")
