"""The progress bar of a training."""

from __future__ import annotations

import math
import time
from contextlib import suppress
from types import TracebackType

from rich import progress

from dlnotes.display import console


class Progress:
    """A bar with loss, documents per second and remaining time, and a line per epoch.

    If the output cannot be written, because a pipe is closed or the disk is full, it is lost and
    the training goes on.

    Args:
        steps: Total number of updates.
        done: Updates that were done before.
        shown: Whether to show anything.
    """

    def __init__(self, steps: int, done: int = 0, *, shown: bool = True) -> None:
        self._console = console(stderr=True, quiet=not shown)
        # Columns in their order, each with the width of terminal from which it is shown.
        least_width = {
            progress.TextColumn("{task.description}"): 0,
            progress.BarColumn(bar_width=24): 70 + 2 * len(str(steps)),
            progress.MofNCompleteColumn(): 60,
            progress.TextColumn("loss {task.fields[loss]}"): 0,
            progress.TextColumn("{task.fields[speed]}"): 40,
            progress.TimeRemainingColumn(): 60,
        }
        width = self._console.width
        self._bar = progress.Progress(
            *(column for column, least in least_width.items() if width >= least),
            console=self._console,
            transient=True,
            disable=not shown or not self._console.is_terminal,
        )
        self._task = self._bar.add_task(
            "training", total=steps, completed=done, loss="–", speed="– docs/s"
        )
        self._began = time.perf_counter()
        self._documents: int | None = None

    def update(self, step: int, epoch: int, *, loss: float, documents: int) -> None:
        """Show the state after an update."""
        now = time.perf_counter()
        if self._documents is None:
            self._documents, self._began = documents, now
        speed = (documents - self._documents) / max(1e-9, now - self._began)
        with suppress(OSError):
            self._bar.update(
                self._task,
                completed=step,
                loss=_loss(loss),
                speed=_speed(speed),
                description=f"epoch {epoch + 1}",
            )

    def epoch(self, record: dict[str, float], *, is_best: bool) -> None:
        """Print a line for a finished epoch."""
        dev = ""
        if "dev_loss" in record:
            named = {"dev_accuracy": "dev accuracy", "dev_micro_f1": "dev micro-F1"}
            shown = (f"{named[key]} {record[key]:.4f}  " for key in named if key in record)
            dev = f"dev loss {_loss(record['dev_loss'])}  {next(shown, '')}"
        with suppress(OSError):
            self._bar.console.print(
                f"epoch {record['epoch']:3.0f}  loss {_loss(record['train_loss'])}  {dev}"
                f"{_speed(record['documents_per_second']):>15}{'  *' if is_best else ''}",
                soft_wrap=True,
            )

    def __enter__(self) -> Progress:
        with suppress(OSError):
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with suppress(OSError):
            self._bar.stop()


def _loss(value: float) -> str:
    """Four decimals, unless the loss is so large that they mean nothing."""
    return f"{value:.4f}" if abs(value) < 1e5 or not math.isfinite(value) else f"{value:.3g}"


def _speed(value: float) -> str:
    """Documents per second; a dash where the value is not valid."""
    return f"{value:,.0f} docs/s" if math.isfinite(value) and value >= 0 else "– docs/s"
