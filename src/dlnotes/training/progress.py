"""What a person sees while a model trains."""

from __future__ import annotations

import time
from contextlib import suppress
from types import TracebackType

from rich import progress
from rich.console import Console


class _Console(Console):
    def on_broken_pipe(self) -> None:
        raise  # called while the error is handled; rich would end the program


def tell(line: str, *, shown: bool = True) -> None:
    """Print a line on standard error, if it can be written."""
    with suppress(OSError):
        _Console(stderr=True, quiet=not shown).print(line, highlight=False, markup=False)


class Progress:
    """A bar with loss, documents per second and remaining time, and a line per epoch.

    Where they cannot be written, because their reader has gone or the disk is full, they are lost,
    and the training goes on.

    Args:
        steps: Updates in all.
        done: Updates done before.
        shown: False shows nothing.
    """

    def __init__(self, steps: int, done: int = 0, *, shown: bool = True) -> None:
        self._console = _Console(stderr=True, quiet=not shown)
        self._bar = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(bar_width=24),
            progress.MofNCompleteColumn(),
            progress.TextColumn("loss {task.fields[loss]:.4f}  {task.fields[speed]:,.0f} docs/s"),
            progress.TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=not shown or not self._console.is_terminal,
        )
        self._task = self._bar.add_task(
            "training", total=steps, completed=done, loss=float("nan"), speed=0.0
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
                self._task, completed=step, loss=loss, speed=speed, description=f"epoch {epoch + 1}"
            )

    def epoch(self, record: dict[str, float], *, is_best: bool) -> None:
        """Print a line for a finished epoch."""
        dev = ""
        if "dev_loss" in record:
            named = {"dev_accuracy": "dev accuracy", "dev_micro_f1": "dev micro-F1"}
            shown = (f"{name} {record[key]:.4f}  " for key, name in named.items() if key in record)
            dev = f"dev loss {record['dev_loss']:.4f}  {next(shown, '')}"
        with suppress(OSError):
            self._bar.console.print(
                f"epoch {record['epoch']:3.0f}  loss {record['train_loss']:.4f}  {dev}"
                f"{record['documents_per_second']:8,.0f} docs/s{'  *' if is_best else ''}",
                highlight=False,
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
