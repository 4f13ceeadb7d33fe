"""The pictures of the pages: drawn by Python, some of them interactive in the browser."""

from __future__ import annotations

import json
from collections.abc import Collection
from html import escape
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util.docutils import SphinxDirective

from chapters import attention, curves, depth, gates, race, ravine
from chapters.figures import FIGURES
from chapters.words import say
from dlnotes.foundations.perceptron import CORNERS, GATES


def _among(names: Collection[str], name: str) -> str:
    """The name, if it is one of these; docutils' ``choice`` knows lower-case names alone."""
    if name not in names:
        raise ValueError(f"{name} is none of {', '.join(names)}")
    return name


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
        """Add the caption to the figure that ``begin`` opens."""
        caption = self.parse_content_to_nodes()
        return [
            nodes.raw("", f"{begin}<figcaption>", format="html"),
            *caption,
            nodes.raw("", "</figcaption></figure>", format="html"),
        ]


class Interactive(Picture):
    """A figure that ``docs/_static/KIND.js`` draws; without JavaScript, the picture is shown."""

    kind: ClassVar[str]
    words: ClassVar[tuple[str, ...]]
    """What the figure says, in English."""

    def given(self) -> dict[str, Any]:
        """What the figure is to draw."""
        raise NotImplementedError

    def run(self) -> list[nodes.Node]:
        """Pass the data and the words to the JavaScript."""
        words = {word: say(word, self.config.language) for word in self.words}
        given = escape(json.dumps({**self.given(), "words": words}, ensure_ascii=False))
        begin = f'<figure class="picture interactive {self.kind}" data-given="{given}">'
        return self.figure(begin + self.images())


class Ravine(Interactive):
    """``ravine NAME``: the path of a rule, with sliders for its arguments."""

    option_spec: ClassVar[dict[str, Any]] = {
        "alt": directives.unchanged_required,
        "rule": lambda value: _among(ravine.RATES, value),
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


class Perceptron(Interactive):
    """``perceptron NAME``: a perceptron's line over the corners, and how it learns a gate."""

    kind = "perceptron"
    words = (
        *("target 1", "target 0", "output 1", "wrong", "next sample", "function"),
        *("weight w₁", "weight w₂", "bias b"),
        *("Show one sample", "Show all four", "Start again"),
        "{n} of 4 outputs are correct.",
        "Sample ({x}): the output was {a}, the target is {y}.",
    )

    def given(self) -> dict[str, Any]:
        """The gates, and the weights to begin with."""
        return {
            "corners": CORNERS.tolist(),
            "gates": {name: y.tolist() for name, y in GATES.items()},
            "start": dict(zip(("w1", "w2", "b"), gates.START, strict=True)),
            "lr": gates.RATE,
        }


class Depth(Interactive):
    """``depth NAME``: the gradient's size in each layer of a deep network."""

    kind = "depth"
    words = (
        *("activation", "none", "weights s", "layers L", "Start again"),
        *("layer l", "|δₗ| / |δ| of the last layer"),
        "The gradient of layer 1 is {n} times that of layer {L}: it vanishes.",
        "The gradient of layer 1 is {n} times that of layer {L}: it explodes.",
        "The gradient of layer 1 is {n} times that of layer {L}: it neither vanishes nor explodes.",
    )

    def given(self) -> dict[str, Any]:
        """The network to begin with, the scales to choose from, and how means are computed."""
        return {
            "activation": "sigmoid",
            "scale": 1.0,
            "depth": 20,
            "scales": depth.SCALES,
            "points": depth.POINTS,
            "reach": depth.REACH,
        }


class Race(Interactive):
    """``race NAME``: rules on a surface, with sliders for the steps and the rates."""

    option_spec: ClassVar[dict[str, Any]] = {
        "alt": directives.unchanged_required,
        "surface": lambda value: _among(race.GRADIENTS, value),
        "rules": lambda value: [_among(race.RACERS, each) for each in value.split()],
    }
    kind = "race"
    words = (
        *race.GRADIENTS,
        "surface",
        "steps t",
        "Play",
        "Pause",
        "Start again",
        "learning rate of",
        "all rules",
        "× its best rate",
        "rule",
        "height above the minimum",
        "After",
        "steps",
        ": the lowest is",
    )

    def given(self) -> dict[str, Any]:
        """The surfaces, and who runs: all of them without ``:rules:``."""
        return race.given(
            self.options.get("rules", list(race.RACERS)), self.options.get("surface", "ravine")
        )


class Slope(Interactive):
    """``slope NAME``: an activation with its slope and a tangent to move."""

    option_spec: ClassVar[dict[str, Any]] = {
        "alt": directives.unchanged_required,
        "activation": lambda value: _among(curves.CURVES, value),
        "x": float,
    }
    kind = "slope"
    words = (
        *("activation", "tangent", "in the notes", "others"),
        "The curve of {name}, its slope as a dashed curve, and the tangent at a point.",
    )

    def given(self) -> dict[str, Any]:
        """The names to choose from, and what is shown first."""
        others = [name for name in curves.CURVES if name not in curves.OF_THE_NOTES]
        return {
            "activation": self.options["activation"],
            "x": self.options["x"],
            "groups": [
                (group, [(name, curves.title(name)) for name in names])
                for group, names in (("in the notes", curves.OF_THE_NOTES), ("others", others))
            ],
        }


class WordWeights(Interactive):
    """``word-weights NAME``: questions whose words are coloured by what trained models look at."""

    kind = "word-weights"
    words = ("question", "model")

    def given(self) -> dict[str, Any]:
        """The record, with its names in the page's language."""
        record, language = attention.record(), self.config.language
        names = [attention.name(reading, language) for reading in record["readings"]]
        return {
            "questions": record["questions"],
            "readings": [
                {"name": name, "method": reading["method"], "answers": reading["answers"]}
                for name, reading in zip(names, record["readings"], strict=True)
            ],
            "question": 0,
            "reading": 0,
            "labels": {label: say(word, language) for label, word in attention.LABELS.items()},
            "meanings": {how: say(text, language) for how, text in attention.MEANINGS.items()},
        }


INTERACTIVE: dict[str, type[Interactive]] = {
    each.kind: each for each in (Ravine, Race, Perceptron, Depth, Slope, WordWeights)
}
"""Directive → interactive figure."""
