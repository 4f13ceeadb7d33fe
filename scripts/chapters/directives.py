"""The directives of the book's pages, as an extension of Sphinx."""

from __future__ import annotations

import logging
import re
import shutil
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ConfigError
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.docutils import SphinxDirective
from sphinx.util.logging import getLogger

from chapters import mathjax
from chapters.commands import Command
from chapters.notebooks import write_notebooks
from chapters.pictures import INTERACTIVE, Picture
from chapters.rows import ROWS
from chapters.search import ChineseSearch
from chapters.words import LANGUAGES, say
from dlnotes.errors import UserError

DOCS = Path(__file__).parents[2] / "docs"
NAMES = ("Table", "Code", "Formula")
"""What ``docs/_static/scrolling.js`` calls the parts that scroll."""

FORMULAS = (
    "The formulas of this page are drawn by JavaScript, which comes with the page. Without it, "
    "you see their TeX source."
)


class FromRecords(SphinxDirective):
    """``proof``, ``speed`` and ``verdicts``: what `rows` writes, a name per line of the content."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """Parse what the records give."""
        try:
            text = ROWS[self.name]("\n".join(self.content), self.config.language)
        except UserError as error:
            raise self.error(str(error)) from error
        return self.parse_text_to_nodes(text)


class Exercise(SphinxDirective):
    """``exercise``: a numbered question."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """Number it within its page."""
        number = (self.env.temp_data.get("exercises") or 0) + 1
        self.env.temp_data["exercises"] = number
        title = f"{say('Exercise', self.config.language)} {number}"
        box = nodes.admonition("", nodes.title("", title), classes=["exercise"])
        box += self.parse_content_to_nodes()
        return [box]


class Answer(SphinxDirective):
    """``answer``: text that is hidden until the reader opens it."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """Fold it away; no JavaScript is needed."""
        summary = say("Answer", self.config.language)
        begin = f'<details class="answer"><summary>{summary}</summary>'
        return [
            nodes.raw("", begin, format="html"),
            *self.parse_content_to_nodes(),
            nodes.raw("", "</details>", format="html"),
        ]


class Notebook(SphinxDirective):
    """``notebook``: a link to the page as a notebook."""

    def run(self) -> list[nodes.Node]:
        """Link to what `write_notebooks` writes."""
        text = say("Download this page as a notebook", self.config.language)
        page = self.env.docname
        root = "../" * page.count("/")
        link = f'<p><a href="{root}notebooks/{page}.ipynb" download>{text}</a></p>'
        return [nodes.raw("", link, format="html")]


def _write_static(app: Sphinx) -> None:
    static = Path(app.outdir) / "_static"
    mathjax.place(static / "mathjax")
    drawn = Path(app.outdir).parent / "figures"
    if not drawn.is_dir():
        raise ConfigError("the figures are missing; scripts/book.py draws them and runs Sphinx")
    shutil.copytree(drawn, static / "figures")


class WholeNumbers(SphinxPostTransform):
    """Keeps a line from ending within a number such as 1e-12."""

    default_priority = 900
    builders = ("html",)
    number = re.compile(r"(\d[\d.]*e-\d+)")

    def run(self, **given: Any) -> None:
        """Mark the numbers for the style sheet."""
        verbatim = (nodes.FixedTextElement, nodes.literal, nodes.math, addnodes.desc_sig_element)
        for text in list(self.document.findall(nodes.Text)):
            parent = text.parent
            if isinstance(parent, nodes.literal) and self.number.fullmatch(text):
                parent["classes"].append("number")
            elif not isinstance(parent, verbatim) and self.number.search(text):
                parts = self.number.split(text)  # what stands between the numbers, and the numbers
                parent.replace(
                    text,
                    [
                        nodes.inline("", part, classes=["number"]) if i % 2 else nodes.Text(part)
                        for i, part in enumerate(parts)
                        if part
                    ],
                )


def _add_scripts(app: Sphinx, config: Config) -> None:
    names: dict[str, Any] = {f"data-{name.lower()}": say(name, config.language) for name in NAMES}
    app.add_js_file("scrolling.js", loading_method="defer", **names)


def _add_language(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Tell ``_templates/page.html`` where the translation is, and whether there are formulas."""
    context["book_language"] = "zh" if app.config.language.startswith("zh") else "en"
    context["book_root"] = "../" * (page.count("/") + 1)
    others = [f for f in LANGUAGES if f != context["book_language"]]
    twin = all((DOCS / folder / f"{page}.md").is_file() for folder in others)
    context["book_page"] = page if twin and doctree is not None else "index"
    if doctree is not None and any(doctree.findall(_is_formula)):
        context["book_formulas"] = say(FORMULAS, app.config.language)


def _is_formula(node: nodes.Node) -> bool:
    return isinstance(node, nodes.math | nodes.math_block)


def _no_type(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Keep napoleon from taking the text before a colon for the type of an attribute."""
    if what in ("attribute", "data", "property"):
        lines[:0] = ["..", ""]  # an empty comment


def _add_levels(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Give captions of tables of contents, which are headings, the correct level."""
    for part in ("body", "furo_navigation_tree"):
        if part in context:
            without = 'class="caption" role="heading"'
            context[part] = context[part].replace(without, f'{without} aria-level="2"')


def _write_notebooks(app: Sphinx, error: Exception | None) -> None:
    if error is None:
        try:
            write_notebooks(Path(app.srcdir), Path(app.outdir), app.config.language)
        except UserError as mistake:
            getLogger(__name__).warning("%s", mistake)  # which fails the build


def setup(app: Sphinx) -> dict[str, bool]:
    """Register everything with Sphinx."""
    if app.config.language not in LANGUAGES.values():
        raise UserError(f"the book has no language {app.config.language}")
    logging.getLogger("traitlets").setLevel(logging.WARNING)  # it reports every kernel
    for name in ROWS:
        app.add_directive(name, FromRecords)
    app.add_directive("picture", Picture)
    for name, figure in INTERACTIVE.items():
        app.add_directive(name, figure)
    app.add_directive("exercise", Exercise)
    app.add_directive("answer", Answer)
    app.add_directive("notebook", Notebook)
    app.add_directive("command", Command)
    app.add_search_language(ChineseSearch)
    app.add_post_transform(WholeNumbers)
    app.connect("config-inited", _add_scripts)
    app.connect("builder-inited", _write_static)
    app.connect("html-page-context", _add_language)
    app.connect("html-page-context", _add_levels, priority=900)  # after the theme
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("autodoc-process-docstring", _no_type, priority=100)  # before napoleon
    app.connect("build-finished", _write_notebooks)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
