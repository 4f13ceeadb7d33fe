"""The application: which path gives which answer."""

from __future__ import annotations

import asyncio
import contextvars
import json
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import asdict
from importlib.resources import files
from typing import Any

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Route

from dlnotes import __version__
from dlnotes.serving import schema
from dlnotes.serving.batching import Batcher
from dlnotes.serving.guard import JSON, Guard
from dlnotes.serving.hosts import Hosts
from dlnotes.serving.limits import Held, Limits, Refused, busy, content_length
from dlnotes.serving.metrics import CONTENT_TYPE, Metrics
from dlnotes.training.answers import json_objects
from dlnotes.training.classifier import Classifier, TextClassifier

_PAGE = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/style.css": ("style.css", "text/css; charset=utf-8"),
    "/script.js": ("script.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
"""The page's files by path. They are read once; request paths are never used as file names."""
_PREDICT = "/predict"
_EXPLAINED = 8
"""Explanations that may be queued or running: each may run the model once per word of its text."""
_REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"model": schema.Problem, "description": "This is not HTTP, or the body is not JSON."},
    413: {"model": schema.Problem, "description": "The body is too large."},
    415: {
        "model": schema.Problem,
        "description": "The Content-Type is not application/json, or there is a Content-Encoding.",
    },
    422: {"model": schema.Problem, "description": "A field or value is not allowed."},
    421: {"model": schema.Problem, "description": "The Host is not one of this server's names."},
    429: {"model": schema.Problem, "description": "Too many requests are waiting."},
    503: {"model": schema.Problem, "description": "The answer took too long."},
}
_NOT_HERE = {
    404: "there is nothing at this path; /openapi.json lists what there is",
    405: "this path does not accept this method",
}
_encode = json.JSONEncoder(allow_nan=False).encode


def make_app(
    classifier: Classifier, name: str, limits: Limits, hosts: Hosts | None = None
) -> Guard:
    """The ASGI application for one classifier.

    Args:
        classifier: The classifier that answers.
        name: Its name on the page.
        limits: How much a client may ask for.
        hosts: The names that the server may be called by; None for those of this machine only.
    """
    metrics, held = Metrics(), Held(limits.max_held)
    batcher: Batcher
    explaining = ThreadPoolExecutor(1, "dlnotes-explain")
    explanations = 0
    context = contextvars.copy_context()

    def predictions(texts: list[str], top_k: int) -> Sequence[str]:
        return json_objects(classifier, texts, top_k, _encode)

    def explained(text: str) -> str:
        found = classifier.explain([text])
        return _encode([asdict(explanation) for explanation in found])

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        nonlocal batcher
        batcher = Batcher(predictions, limits, metrics.batches.observe)
        batcher.start()
        metrics.waiting.set_function(lambda: batcher.waiting)
        yield
        await batcher.stop()
        explaining.shutdown(wait=False, cancel_futures=True)

    app = FastAPI(
        title="dlnotes serve",
        version=__version__,
        description=f"Classifies texts with {name}.",
        docs_url=None,  # these load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
        exception_handlers={
            Refused: _refused,
            HTTPException: _not_here,
            ClientDisconnect: _gone,
            Exception: _failed,
        },
        routes=[_page_route(path, *of_page) for path, of_page in _PAGE.items()],
    )
    Answer = schema.LabelsAnswer if classifier.multi_label else schema.LabelAnswer

    async def predicted(request: Request) -> bytes:
        size = _length(request, limits)
        held.take(size)
        try:
            asked = schema.parse(schema.PredictRequest, await request.body())
            texts = asked.given(limits.max_texts)
            answers = await batcher.ask(texts, asked.top_k) if texts else []
            metrics.texts.inc(len(texts))
        finally:
            held.give_back(size)
        if asked.text is not None:
            return answers[0].encode()
        return f"[{', '.join(answers)}]".encode()

    @app.post(
        _PREDICT,
        response_model=None,
        responses={200: {"model": Answer | list[Answer]}, **_REFUSALS},  # type: ignore[valid-type]
        openapi_extra=_body_of(schema.PredictRequest),
    )
    async def predict(request: Request) -> Response:
        """Classify a text, or several, as the command dlnotes predict does."""
        return Response(await predicted(request), media_type=JSON)

    @app.post(
        "/explain",
        response_model=None,
        responses={200: {"model": list[schema.Explanation]}, **_REFUSALS},
        openapi_extra=_body_of(schema.ExplainRequest),
    )
    async def explain(request: Request) -> Response:
        """Weigh the words of a text, as dlnotes predict --explain does."""
        nonlocal explanations
        size = _length(request, limits)
        held.take(size)
        try:
            text = schema.parse(schema.ExplainRequest, await request.body()).text
            if len(text) > limits.max_explained:
                most = f"{limits.max_explained:,} characters"
                raise Refused(422, f"a text of at most {most} is explained, not {len(text):,}")
            if explanations >= _EXPLAINED:
                raise busy("too many texts are being explained; try again later")
            explanations += 1
            running = asyncio.get_running_loop().run_in_executor(
                explaining, context.run, explained, text
            )
            running.add_done_callback(explanation_done)
            told = await asyncio.wait_for(asyncio.shield(running), limits.answer_seconds)
        except asyncio.TimeoutError:
            seconds = f"{limits.answer_seconds:g} s"
            raise Refused(503, f"the explanation took longer than {seconds}") from None
        finally:
            held.give_back(size)
        return Response(told, media_type=JSON)

    def explanation_done(running: asyncio.Future[str]) -> None:
        nonlocal explanations
        explanations -= 1
        if not running.cancelled():
            running.exception()  # mark it as retrieved, or asyncio logs it when nobody waits

    @app.get("/health")
    async def health() -> schema.Health:
        """Report that the server answers, and what it serves."""
        return schema.Health(
            status="ok",
            name=name,
            model=_kind(classifier),
            labels=len(classifier.label_names),
            several_labels=classifier.multi_label,
            max_explained=limits.max_explained,
        )

    @app.get("/metrics", response_class=Response)
    async def prometheus() -> Response:
        """Report how much was asked and how fast it was answered, for Prometheus."""
        return Response(metrics.text(), headers={"content-type": CONTENT_TYPE})

    known = frozenset([*_PAGE, _PREDICT, "/explain", "/health", "/metrics", "/openapi.json"])
    return Guard(app, metrics, known, {_PREDICT: predicted}, hosts or Hosts())


def _page_route(path: str, name: str, kind: str) -> Route:
    content = (files("dlnotes.serving") / "page" / name).read_bytes()

    async def answer(_: Request) -> Response:
        return Response(content, headers={"content-type": kind})

    return Route(path, answer)


def _body_of(kind: type[BaseModel]) -> dict[str, Any]:
    """OpenAPI's description of a body that the endpoint reads: FastAPI would read any size."""
    content = {"application/json": {"schema": kind.model_json_schema()}}
    return {"requestBody": {"required": True, "content": content}}


def _length(request: Request, limits: Limits) -> int:
    """The size of the body from its Content-Length; the HTTP parser enforces it.

    Raises:
        Refused: The body is too large, or is not JSON according to its headers.
    """
    kind, length, encoded = "", b"0", False
    for name, value in request.scope["headers"]:
        if name == b"content-type":
            kind = value.decode("latin-1").partition(";")[0].strip().lower()
        elif name == b"content-length":
            length = value
        elif name == b"content-encoding":
            encoded = True
    if kind != JSON or encoded:
        raise Refused(415, f"send plain JSON, with the header Content-Type: {JSON}")
    size = content_length(length)
    if size > limits.max_bytes:
        raise Refused(413, f"a request may have at most {limits.max_bytes:,} bytes")
    return size


def _kind(classifier: Classifier) -> str:
    if isinstance(classifier, TextClassifier):
        return classifier.model_name
    return f"ensemble of {len(getattr(classifier, 'members', ()))}"


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return Response(error.body, error.status, error.headers, JSON)


async def _gone(request: Request, error: Exception) -> Response:
    """Answer, for the metrics, a client that has left or was too slow."""
    return await _refused(request, Refused(408, "the request did not arrive"))


async def _failed(request: Request, error: Exception) -> Response:
    """Answer after a fault of the program or of the run, which `Guard` reports on the console."""
    return await _refused(request, Refused(500, "the server failed to answer this request"))


async def _not_here(request: Request, error: Exception) -> Response:
    """Answer the router's 404 and 405."""
    assert isinstance(error, HTTPException)
    sentence = _NOT_HERE.get(error.status_code, "this request cannot be answered")
    refused = Refused(error.status_code, sentence, dict(error.headers or {}))
    return await _refused(request, refused)
