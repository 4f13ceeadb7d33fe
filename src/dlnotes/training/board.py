"""TensorBoard logs: curves, histograms, pictures and texts of a run."""

from __future__ import annotations

import errno
import functools
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Concatenate, ParamSpec

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from dlnotes.data.documents import Documents
from dlnotes.display import printable
from dlnotes.training.evaluate import EvaluationMetrics, Metrics
from dlnotes.training.explain import Explanation, attention_figure
from dlnotes.training.figure_text import prepare_text
from dlnotes.training.multi_label import MultiLabelMetrics
from dlnotes.training.reliability import Reliability, reliability_figure

_MATRIX_CLASSES = 25
"""With more classes, a confusion matrix is too large to read, and the most frequent mistakes are
drawn instead."""
_PAIRS = 20
_LABELS = 100
"""Rows of the table of labels."""
# What can begin markup in Markdown or HTML. At the start of a text that is any character, such as
# the 1 of "1.".
_MARKUP = re.compile(r"^[!-~]|[&<>|*_`~\[\]\\!#:@]")

_HISTOGRAM_VALUES = 100_000
# TensorBoard's bins end at ±1e20, and the sum of the squares must also fit into float32.
_HISTOGRAM_LARGEST = 1e16

_FIRST = ("batch_size", "epochs", "lr", "model", "optimizer")

_P = ParamSpec("_P")


def _drawing(
    draw: Callable[Concatenate[Board, _P], None],
) -> Callable[Concatenate[Board, _P], None]:
    """Replace any error of a method by a warning: a picture must not end a training."""

    @functools.wraps(draw)
    def drawn(self: Board, /, *args: _P.args, **kwargs: _P.kwargs) -> None:
        if self._broken:
            return
        try:
            if not self._folder.is_dir():  # the writer would create it again
                raise FileNotFoundError(errno.ENOENT, "there is no such folder", str(self._folder))
            draw(self, *args, **kwargs)
        except Exception as error:
            self._leave_out(draw.__name__, error)

    return drawn


class Board:
    """Writes the TensorBoard log of one run.

    What cannot be drawn is left out with a warning; when the log can no longer be written, so is
    the rest of it.

    Args:
        folder: The run's folder.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        # Never None: where a later log repeats steps of an earlier one, TensorBoard hides the
        # earlier ones only if the first log also names its first step.
        self._purge_step = 0
        self._broken = False
        self._waited_for: list[Future[None]] = []

    def draw_in_background(self, draw: Callable[..., None], *args: Any, **kwargs: Any) -> None:
        """Call `draw`, which draws on this board, in another thread; `close` waits for it.

        Args:
            draw: The function to call.
            args: Its arguments; nobody may change them meanwhile.
            kwargs: Its keyword arguments.
        """
        self._waited_for.append(self._drawers.submit(draw, *args, **kwargs))

    @functools.cached_property
    def _drawers(self) -> ThreadPoolExecutor:
        # One thread, since matplotlib is not thread-safe.
        return ThreadPoolExecutor(1, "dlnotes-pictures")

    @functools.cached_property
    def _writer(self) -> SummaryWriter:
        return SummaryWriter(str(self._folder), purge_step=self._purge_step)

    def resume(self, step: int) -> None:
        """Hide what was logged after `step`; must be called before anything is logged."""
        self._purge_step = step + 1

    def _leave_out(self, what: str, error: Exception) -> None:
        if self._broken:  # already reported by a nested call
            return
        # The writer, or the attempt to create it, would fail again at every call.
        self._broken = isinstance(error, OSError) or "_writer" not in vars(self)
        rest = ", and nothing after it" * self._broken
        warnings.warn(f"TensorBoard: {what} could not be drawn: {error}{rest}", stacklevel=3)

    @_drawing
    def flush(self) -> None:
        """Write out everything that has been logged so far."""
        if "_writer" in vars(self):
            self._writer.flush()

    @_drawing
    def step(self, step: int, loss: float, lr: Any, norm: float) -> None:
        """Curves of an update: loss, learning rate, gradient norm (before clipping)."""
        self._scalar("train/loss", loss, step)
        self._scalar("train/learning rate", float(lr), step)
        self._scalar("train/gradient norm", norm, step)

    @_drawing
    def epoch(self, model: nn.Module, step: int, record: dict[str, float]) -> None:
        """Dev figures, speed, and histograms of weights and of the last batch's gradients."""
        for name, value in record.items():
            if name.startswith("dev_"):
                self._scalar(f"dev/{name[4:].replace('_', ' ')}", value, step)
        self._scalar("train/documents per second", record["documents_per_second"], step)
        for name, weight in model.named_parameters():
            self._histogram(f"weights/{name}", weight.detach(), step)
        for name, values in _gradients(model):
            self._histogram(f"gradients/{name}", values, step)
        self._writer.flush()

    @_drawing
    def confusion(
        self,
        measured: Metrics,
        documents: Documents,
        label_names: list[str],
        step: int,
        *,
        split: str,
        wrong: int = 20,
    ) -> None:
        """Confusion matrix, and the wrong predictions that the model was most confident of."""
        figure = confusion_figure(measured, label_names)
        self._writer.add_figure(f"{split}/confusion matrix", figure, step)
        missed = np.flatnonzero(measured.predictions != measured.labels)
        missed = missed[np.argsort(-measured.confidence[missed], kind="stable")][:wrong]
        told = []
        for i in missed:
            label = escape_markdown(label_names[measured.labels[i]])
            guess = escape_markdown(label_names[measured.predictions[i]])
            probability = f"{measured.confidence[i]:.3f}"
            # Not a table: next to a long text, TensorBoard breaks the words of other columns.
            told.append(f"**{label}**, predicted **{guess}** ({probability})")
            told.append(f"> {escape_markdown(documents.text(int(i)))}")
        self._writer.add_text(f"{split}/wrong predictions", "\n\n".join(told or ["none"]), step)

    @_drawing
    def reliability(
        self, found: Reliability, step: int, *, split: str, what: str = "correct"
    ) -> None:
        """Reliability diagram: whether predictions come true as often as their probability says."""
        figure = reliability_figure(found, title=split, what=what)
        self._writer.add_figure(f"{split}/reliability", figure, step)

    @_drawing
    def label_table(
        self, measured: MultiLabelMetrics, label_names: list[str], step: int, *, split: str
    ) -> None:
        """F1 and counts of the labels of a split: at most 100 labels, the worst first."""
        rows = ["| label | F1 | correct | wrong | missed |", "|---|---|---|---|---|"]
        for i in np.argsort(measured.f1, kind="stable")[:_LABELS]:
            counts = " | ".join(f"{count:,}" for count in measured.counts[i])
            rows.append(f"| {escape_markdown(label_names[i])} | {measured.f1[i]:.3f} | {counts} |")
        if len(label_names) > _LABELS:
            rows.append(f"\nThe {_LABELS} worst of {len(label_names):,} labels.")
        self._writer.add_text(f"{split}/labels", "\n".join(rows), step)

    @_drawing
    def attention(self, explanations: Iterable[Explanation], step: int, *, split: str) -> None:
        """Attention weights in some documents, or the memory's gates in some stories."""
        for i, explanation in enumerate(explanations):
            what = "gates" if explanation.story else "attention"
            self._writer.add_figure(f"{split}/{what} {i}", attention_figure(explanation), step)

    @_drawing
    def metrics(self, measured: EvaluationMetrics, step: int, *, split: str) -> None:
        """Final figures of a split."""
        for name, value in measured.summary().items():
            self._scalar(f"{split}/{name.replace('_', ' ')}", value, step)

    @_drawing
    def hyper_parameters(
        self, settings: dict[str, Any], figures: dict[str, float], step: int
    ) -> None:
        """Settings and final figures of the run for the HPARAMS page.

        The page sorts settings by name and initially shows five. For these to be batch_size,
        epochs, lr, model and optimizer, the names of all others begin with ``settings/``.
        """
        chosen: dict[str, Any] = {}
        for name, value in settings.items():
            if name == "data":  # digests
                continue
            for key, each in value.items() if isinstance(value, dict) else ((name, value),):
                if isinstance(each, int | float | str):
                    chosen[key if key in _FIRST and key == name else f"settings/{key}"] = each
        named = {f"final/{name}": value for name, value in figures.items()}
        self._writer.add_hparams(chosen, named, run_name=".", global_step=step)

    def close(self) -> None:
        """Write everything out and close the log; if nothing was logged, no log is created."""
        try:
            for drawn in self._waited_for:
                drawn.result()
        finally:  # even if a picture fails unexpectedly
            if self._waited_for:
                self._drawers.shutdown()
            self._close()

    @_drawing
    def _close(self) -> None:
        if "_writer" in vars(self):
            self._writer.close()

    def _scalar(self, name: str, value: float, step: int) -> None:
        self._writer.add_scalar(name, value, step)

    @_drawing
    def _histogram(self, name: str, values: Tensor, step: int) -> None:
        # Every k-th value of a large tensor gives nearly the same histogram at hardly any cost.
        values = values.flatten()[:: 1 + values.numel() // _HISTOGRAM_VALUES]
        if values.numel() and float(values.abs().max()) <= _HISTOGRAM_LARGEST:  # False for NaN
            self._writer.add_histogram(name, values.float().cpu(), step)


def confusion_figure(measured: Metrics, label_names: Sequence[str]) -> Figure:
    """Draw a confusion matrix, or with more than 25 classes the most frequent mistakes.

    Args:
        measured: Figures of some documents.
        label_names: Label of each class.
    """
    if len(label_names) > _MATRIX_CLASSES:
        return _pairs_figure(measured, label_names)
    return _matrix_figure(measured.confusion, label_names)


def _matrix_figure(confusion: NDArray[np.int64], label_names: Sequence[str]) -> Figure:
    """Confusion matrix: rows are labels, columns predictions, shades are shares of a row."""
    classes = len(label_names)
    names, style = prepare_text(label_names, most=24)
    side = max(3.0, 1 + 0.5 * classes) + 0.07 * max(map(len, names))  # inches
    figure = Figure(figsize=(side + 1, side), layout="compressed")
    axes = figure.subplots()
    shares = confusion / np.maximum(1, confusion.sum(1, keepdims=True))
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(classes), names, rotation=45, ha="right", rotation_mode="anchor", **style)
    axes.set_yticks(range(classes), names, **style)
    axes.set_xlabel("predicted")
    axes.set_ylabel("label")
    size = min(10, 50 / len(str(confusion.max(initial=0))))  # points: fits into a cell
    for (row, column), count in np.ndenumerate(confusion):
        if count:
            shade = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(count), ha="center", va="center", color=shade, size=size)
    figure.colorbar(image, label="share of the row", shrink=0.8)
    return figure


def _pairs_figure(measured: Metrics, label_names: Sequence[str]) -> Figure:
    """A bar for each of the most frequent mistakes."""
    pairs = measured.most_confused(_PAIRS).tolist()
    wrong = int((measured.labels != measured.predictions).sum())
    figure = Figure(figsize=(9, 1.5 + 0.28 * len(pairs)), layout="constrained")
    title = f"{wrong:,} of {len(measured.labels):,} documents misclassified"
    if not pairs:
        figure.suptitle(title, fontsize="medium")
        return figure
    figure.suptitle(f"{title}; the most frequent mistakes (label → predicted)", fontsize="medium")
    axes = figure.subplots()
    both = (
        f"{printable(label_names[label], 30)} → {printable(label_names[guess], 30)}"
        for label, guess, _ in pairs
    )
    names, style = prepare_text(both, most=80)
    bars = axes.barh(range(len(pairs)), [count for *_, count in pairs], color="#1f5fa8")
    axes.bar_label(bars, [f"{count:,}" for *_, count in pairs], padding=3)
    axes.set_yticks(range(len(pairs)), names, **style)
    axes.set_ylim(len(pairs) - 0.4, -0.6)  # the first at the top
    axes.margins(x=0.15)
    axes.set_xlabel("documents")
    axes.locator_params(axis="x", integer=True)
    return figure


def escape_markdown(text: str) -> str:
    """Escape a text for Markdown, on one line and cut to 400 characters."""
    text = " ".join(text.split()) or "(empty)"
    text = printable(text if len(text) <= 400 else f"{text[:400]} …")
    return _MARKUP.sub(lambda found: f"&#{ord(found[0])};", text)


def gradient_norm(model: nn.Module) -> Tensor:
    """Norm of all gradients taken as one vector, without waiting for the device."""
    squares = [values.square().sum() for _, values in _gradients(model)]
    return torch.stack(squares).sum().sqrt() if squares else torch.zeros(())


def _gradients(model: nn.Module) -> list[tuple[str, Tensor]]:
    """Gradients by name; for a sparse gradient, its stored values."""
    return [
        (name, p.grad.coalesce().values() if p.grad.is_sparse else p.grad)
        for name, p in model.named_parameters()
        if p.grad is not None
    ]
