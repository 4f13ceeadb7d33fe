"""The pictures of the pages: drawn by Python, and some of them to play with in the browser."""

from __future__ import annotations

import json
from html import escape
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util.docutils import SphinxDirective

from chapters import ravine
from chapters.figures import FIGURES
from chapters.words import say


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
        file = f"{'../' * self.env.docname.count('/')}_static/figures/{name}"
        return "".join(
            f'<img class="only-{scheme}" src="{file}-{scheme}.svg" alt="{alt}">'
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


class Interactive(Picture):
    """A figure that ``docs/_static/KIND.js`` draws; the picture stands in without JavaScript."""

    kind: ClassVar[str]
    words: ClassVar[tuple[str, ...]]
    """What the figure says, in English."""

    def given(self) -> dict[str, Any]:
        """What the figure is to draw."""
        raise NotImplementedError

    def run(self) -> list[nodes.Node]:
        """Hand it and the words to the JavaScript."""
        words = {word: say(word, self.config.language) for word in self.words}
        given = escape(json.dumps({**self.given(), "words": words}, ensure_ascii=False))
        begin = f'<figure class="picture interactive {self.kind}" data-given="{given}">'
        return self.figure(begin + self.images())


class Ravine(Interactive):
    """``ravine NAME``: the path of a rule, with sliders for its arguments."""

    option_spec: ClassVar[dict[str, Any]] = {
        "alt": directives.unchanged_required,
        "rule": lambda value: directives.choice(value, ("gradient-descent", "momentum")),
        "lr": float,
        "beta": float,
    }
    kind = "ravine"
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

    def given(self) -> dict[str, Any]:
        """The rule and the surface."""
        rule, lr = self.options["rule"], self.options["lr"]
        if lr not in ravine.RATES[rule]:
            raise self.error(f"lr: {lr} is none of the rates {ravine.RATES[rule]} of {rule}")
        return {
            "rule": rule,
            "lr": lr,
            "rates": ravine.RATES[rule],
            "beta": self.options.get("beta", 0.0),
            "kappa": ravine.KAPPA,
            "start": ravine.START,
        }


INTERACTIVE: dict[str, type[Interactive]] = {each.kind: each for each in (Ravine,)}
"""Directive → interactive figure."""
