"""The form of requests and answers, for checks and for OpenAPI."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dlnotes.files import repeated
from dlnotes.serving.limits import Refused

_MOST_LABELS = 1_000_000
_SHOWN = 40
_ESCAPED_LETTER = re.compile(rb"\\u00[567]")
Kind = TypeVar("Kind", bound=BaseModel)


class PredictRequest(BaseModel):
    """One text, or several."""

    model_config = ConfigDict(extra="forbid", strict=True)

    text: Annotated[str | None, Field(description="A text; its answer is an object.")] = None
    texts: Annotated[
        list[str] | None, Field(description="Texts; their answer is a list of objects.")
    ] = None
    top_k: Annotated[
        int, Field(ge=1, le=_MOST_LABELS, description="How many labels to give under top.")
    ] = 3

    def given(self, most: int) -> list[str]:
        """The texts.

        Raises:
            Refused: Neither or both fields are given, or more than `most` texts.
        """
        if (self.text is None) == (self.texts is None):
            raise Refused(422, "give either text or texts")
        texts = [self.text] if self.text is not None else self.texts or []
        if len(texts) > most:
            raise Refused(422, f"a request may have at most {most:,} texts, not {len(texts):,}")
        return texts


class ExplainRequest(BaseModel):
    """A text whose words are weighed."""

    model_config = ConfigDict(extra="forbid", strict=True)

    text: str


class Labelled(BaseModel):
    """A label and its probability."""

    label: str
    probability: float


class LabelAnswer(BaseModel):
    """The label of a text; null if it is less probable than the run requires."""

    label: str | None
    probability: float
    top: list[Labelled]
    text: str


class LabelsAnswer(BaseModel):
    """The labels of a text, the most probable first; there may be none."""

    labels: list[str]
    probabilities: list[float]
    top: list[Labelled]
    text: str


class Story(BaseModel):
    """A text as a memory network read it, sentence by sentence."""

    columns: Annotated[list[str], Field(description="Slots of the memory, or passes.")]
    sentences: list[str]
    gates: Annotated[list[list[float]], Field(description="A row per sentence, from 0 to 1.")]
    question: str
    answer: Annotated[list[float], Field(description="Share of each slot; empty without slots.")]


class Explanation(BaseModel):
    """Weights of the words for one label."""

    label: str
    probability: float
    method: Annotated[str, Field(description="attention or occlusion")]
    tokens: list[str]
    weights: Annotated[
        dict[str, list[float]], Field(description="A weight per token, in one or several ways.")
    ]
    story: Annotated[Story | None, Field(description="Only of the models dmn and entnet.")] = None


class Health(BaseModel):
    """That the server answers, and what it serves."""

    status: str
    name: str
    model: str
    labels: int
    several_labels: bool
    max_explained: int


class Problem(BaseModel):
    """Why a request is refused."""

    error: Annotated[str, Field(description="One plain sentence.")]


def parse(kind: type[Kind], body: bytes) -> Kind:
    """A request from its JSON.

    Raises:
        Refused: 400 if it is not JSON or has a field twice, 422 if it has other fields or values.
    """
    if not body:
        raise Refused(400, "the body is empty; it must be a JSON object")
    asked: Kind | None = None
    first: Any = None
    try:
        asked = kind.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    if first and first["type"] == "json_invalid":
        reason = first["msg"].removeprefix("Invalid JSON: ")
        raise Refused(400, f"the body is not valid JSON: {reason}")
    if twice := _twice(body, kind):
        raise Refused(400, f"the body has {twice!r} twice")
    if asked is not None:
        return asked
    if first["type"] == "extra_forbidden":
        unknown = str(first["loc"][0])[:_SHOWN]
        raise Refused(422, f"{unknown!r} is not a field; fields are {', '.join(kind.model_fields)}")
    if not first["loc"]:
        raise Refused(422, "the body must be a JSON object")
    where = ".".join(map(str, first["loc"]))
    raise Refused(422, f"{where}: {first['msg'][:1].lower()}{first['msg'][1:]}")


class _Fields(list[tuple[str, object]]):
    """The fields of an object of JSON."""


def _twice(body: bytes, kind: type[BaseModel]) -> str | None:
    """The first field that a request has twice; None without one."""
    # Decoding all of it again would take longer than the first time.
    written = (body.count(f'"{name}"'.encode()) for name in kind.model_fields)
    if max(written) < 2 and not _ESCAPED_LETTER.search(body):
        return None
    try:
        found = json.loads(body, object_pairs_hook=_Fields)
    except (ValueError, RecursionError):  # pydantic takes it, or tells what is wrong
        return None
    if not isinstance(found, _Fields):
        return None
    return next(iter(repeated(name for name, _ in found)), None)
