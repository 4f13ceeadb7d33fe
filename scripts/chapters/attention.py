"""What trained models look at in a few questions: the record of ``scripts/attention.py``.

``docs/_static/word-weights.js`` colours the words in the browser; a test compares the two.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from chapters.words import say
from dlnotes.files import read_json
from tables import MODELS

RECORD = Path(__file__).parents[2] / "results" / "attention" / "trec.json"

LABELS = {
    "ABBR": "an abbreviation",
    "DESC": "a description",
    "ENTY": "a thing",
    "HUM": "a person",
    "LOC": "a place",
    "NUM": "a number",
}
"""What the questions of each class ask for."""

MEANINGS = {
    "attention": "The number below a word is its weight; the weights of a question add up to 1.",
    "occlusion": (
        "The number below a word is what it adds to the log-odds of the label: blue speaks for the "
        "label, orange against it."
    ),
}
"""Method of a reading → what its numbers are."""


@cache
def record() -> dict[str, Any]:
    """What `scripts/attention.py` wrote."""
    found: dict[str, Any] = read_json(RECORD, "has no attention")
    return found


def name(reading: dict[str, Any], language: str) -> str:
    """A model, and which of its weights are shown.

    Args:
        reading: One of the record's ``readings``.
        language: Sphinx's name of the language.
    """
    if reading["method"] != "attention":
        kind = say("words left out", language)
    elif ", head " in reading["line"]:
        kind = f"{say('head', language)} {reading['line'].rpartition(' ')[2]}"
    elif reading["model"] == "transformer":
        kind = say("mean of the heads", language)
    else:
        kind = say("attention", language)
    return f"{MODELS[reading['model']]} · {kind}"


def shades(method: str, weights: Sequence[float]) -> list[float]:
    """How strong the colour of each weight is, from 0 to 1.

    Args:
        method: Method of the reading. ``attention`` has weights from 0 to 1, which are shown by
            their square root, so that 0.1 can be distinguished from 0. Other weights are divided by
            the largest one of the text.
        weights: A weight per word.
    """
    if method == "attention":
        return [math.sqrt(min(1.0, max(0.0, weight))) for weight in weights]
    most = max(0.01, *map(abs, weights))
    return [abs(weight) / most for weight in weights]
