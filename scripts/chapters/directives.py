"""The directives of the book's pages, as an extension of Sphinx."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.search.zh import SearchChinese
from sphinx.util.docutils import SphinxDirective

from chapters import mathjax, ravine
from chapters.figures import FIGURES, draw
from chapters.notebooks import write_notebooks
from chapters.rows import ROWS
from chapters.words import LANGUAGES, say
from dlnotes.errors import UserError


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


class Picture(SphinxDirective):
    """``picture NAME``: one of the committed figures, with ``:alt:`` and a caption."""

    required_arguments = 1
    has_content = True
    option_spec: ClassVar[dict[str, Any]] = {"alt": directives.unchanged_required}

    def run(self) -> list[nodes.Node]:
        """Show it in the colours of the scheme."""
        begin = f'<figure class="picture">{self.images()}'
        return self.figure(begin)

    def images(self) -> str:
        """The picture for the light scheme and for the dark one."""
        (name,) = self.arguments
        if name not in FIGURES:
            raise self.error(f"{name} is none of the figures {', '.join(FIGURES)}")
        if not self.options.get("alt"):
            raise self.error(f"the figure {name} needs :alt:, the text for those who cannot see it")
        alt = escape(self.options["alt"])
        return "".join(
            f'<img class="only-{scheme}" src="_static/figures/{name}-{scheme}.svg" alt="{alt}">'
            for scheme in ("light", "dark")
        )

    def figure(self, begin: str) -> list[nodes.Node]:
        """Put the caption into the figure that ``begin`` opens."""
        caption = self.parse_content_to_nodes()
        return [
            nodes.raw("", f"{begin}<figcaption>", format="html"),
            *caption,
            nodes.raw("", "</figcaption></figure>", format="html"),
        ]


class Ravine(Picture):
    """``ravine NAME``: the interactive figure; the picture NAME stands in without JavaScript."""

    option_spec: ClassVar[dict[str, Any]] = {
        "alt": directives.unchanged_required,
        "rule": lambda value: directives.choice(value, ("gradient-descent", "momentum")),
        "lr": float,
        "beta": float,
    }

    def run(self) -> list[nodes.Node]:
        """Hand the rule, the surface and the words to ``ravine.js``."""
        words = (
            "learning rate α",
            "momentum β",
            "steps t",
            "After",
            "steps",
            "moves away from the minimum",
            "arrived",
            "same α without momentum",
            "start",
            "minimum",
            "Start again",
        )
        rule, lr = self.options["rule"], self.options["lr"]
        if lr not in ravine.RATES[rule]:
            raise self.error(f"lr: {lr} is none of the rates {ravine.RATES[rule]} of {rule}")
        given = {
            "rule": rule,
            "lr": lr,
            "rates": ravine.RATES[rule],
            "beta": self.options.get("beta", 0.0),
            "kappa": ravine.KAPPA,
            "start": ravine.START,
            "words": {word: say(word, self.config.language) for word in words},
        }
        data = escape(json.dumps(given, ensure_ascii=False))
        return self.figure(f'<figure class="picture ravine" data-ravine="{data}">{self.images()}')


class Exercise(SphinxDirective):
    """``exercise``: a question; its number is counted."""

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
    """``answer``: what is hidden until the reader asks for it."""

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
        link = f'<p><a href="notebooks/{page}.ipynb" download>{text}</a></p>'
        return [nodes.raw("", link, format="html")]


class ChineseSearch(SearchChinese):
    """Sphinx 9.0 names a stemmer after the language, and there is none for Chinese.

    Latin words are stemmed as English: https://github.com/sphinx-doc/sphinx/issues/14229
    """

    language_name = "English"


def _write_static(app: Sphinx) -> None:
    static = Path(app.outdir) / "_static"
    mathjax.place(static / "mathjax")
    for name in FIGURES:
        draw(name, static / "figures")


def _add_language(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Tell ``_templates/page.html`` where the page's translation is."""
    context["book_language"] = "zh" if app.config.language.startswith("zh") else "en"
    context["book_root"] = "../" * (page.count("/") + 1)
    context["book_page"] = page if doctree is not None else "index"  # the search has no twin


def _write_notebooks(app: Sphinx, error: Exception | None) -> None:
    if error is None:
        write_notebooks(Path(app.srcdir), Path(app.outdir), app.config.language)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register everything with Sphinx."""
    if app.config.language not in LANGUAGES.values():
        raise UserError(f"the book has no language {app.config.language}")
    for name in ROWS:
        app.add_directive(name, FromRecords)
    for name, directive in {
        "picture": Picture,
        "ravine": Ravine,
        "exercise": Exercise,
        "answer": Answer,
        "notebook": Notebook,
    }.items():
        app.add_directive(name, directive)
    app.add_search_language(ChineseSearch)
    app.connect("builder-inited", _write_static)
    app.connect("html-page-context", _add_language)
    app.connect("build-finished", _write_notebooks)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
