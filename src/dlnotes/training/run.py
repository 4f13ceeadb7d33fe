"""One training from its settings to its record: device, folder, checkpoints, TensorBoard log."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import nn
from typing_extensions import Self

from dlnotes.data.documents import Examples
from dlnotes.files import write_json
from dlnotes.training import distributed
from dlnotes.training.board import Board
from dlnotes.training.compiling import check_compiler
from dlnotes.training.device import choose_device
from dlnotes.training.fit import TrainingState, fit
from dlnotes.training.folder import CHECKPOINT, METRICS, run_folder
from dlnotes.training.objectives import Objective
from dlnotes.training.record import provenance
from dlnotes.training.settings import Optimization


class Run:
    """A training and the folder that it writes, as a context manager.

    Within the context, no other program can write to the folder (see `run_folder`). Afterwards,
    torch's global random-number generators are in the same state as before.

    If several processes train together, only the first one writes.

    Attributes:
        out: The run folder; None to write nothing, as in all other processes of a group.
        group: The processes that train together; known within the context.
        progress: Whether to show progress.

    Args:
        training: How the model is trained.
        settings: All settings by name, for the record; a resumed run must have the same.
        out: The run folder; None to write nothing.
        device: See `choose_device`.
        checkpoint_every: See `fit`.
        resume: Resume from the checkpoint in `out`.
        progress: Show progress.
        time_limit: See `fit`.

    Raises:
        UserError: The device is not available; the folder already holds a run (and `resume` is not
            set), another program is writing to it, or it cannot be written to.
    """

    def __init__(
        self,
        training: Optimization,
        settings: Mapping[str, Any],
        *,
        out: Path | None,
        device: str,
        checkpoint_every: int,
        resume: bool,
        progress: bool,
        time_limit: float | None = None,
    ) -> None:
        self.training, self.settings, self.out = training, dict(settings), out
        self._folder = out
        self.checkpoint_every, self.resume, self.progress = checkpoint_every, resume, progress
        self.time_limit = time_limit
        self.device = choose_device(device, amp=training.amp)
        if training.compile:
            check_compiler(self.device)  # before anything is written
        self.board: Board | None = None
        self.group = distributed.Group()
        self._states: list[TrainingState] = []
        self._stack = ExitStack()

    def fit(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        objective: Objective,
        train: Examples,
        dev: Examples | None,
        *,
        checkpoint: str = CHECKPOINT,
        stop_after: int | None = None,
        stop_below: float | None = None,
        keep_end: bool = False,
    ) -> TrainingState:
        """Call `fit` with this run's settings; only the first call logs to TensorBoard.

        If a training of a large model was too short for a checkpoint, and the run was interrupted
        after it, resuming the run repeats that training.
        """
        first = not self._states
        if self.out and self.board is None:
            self.board = Board(self.out)
        file = self._folder / checkpoint if self._folder else None
        exists, ended = self.group.on_first(partial(self._is_there, file))
        state = fit(
            model,
            optimizer,
            objective,
            train,
            dev,
            self.training,
            device=self.device,
            stop_after=stop_after,
            stop_below=stop_below,
            checkpoint=file,
            checkpoint_every=self.checkpoint_every,
            resume=self.resume and (exists or (first and not ended)),
            settings=self.settings,
            keep_end=keep_end,
            board=self.board if first else None,
            progress=self.progress,
            time_limit=self.time_limit,
        )
        self._states.append(state)
        return state

    def _is_there(self, file: Path | None) -> tuple[bool, bool]:
        """Whether this checkpoint exists, and whether the record does, which is written last."""
        if file is None or self._folder is None:
            return False, False
        return file.exists(), (self._folder / METRICS).exists()

    def record(self, model: nn.Module, unit: str = "documents") -> dict[str, Any]:
        """The part of ``metrics.json`` that all trainings share: provenance, settings, epochs.

        Args:
            model: The trained model.
            unit: Word for the examples in the keys of the record.
        """
        trained = sum(state.documents for state in self._states)
        busy = sum(state.train_seconds for state in self._states)
        return {
            **provenance(self.training.seed),
            "settings": self.settings,
            **({"processes": self.group.size} if self.group.size > 1 else {}),
            "parameters": sum(p.numel() for p in model.parameters()),
            "best_epoch": self._states[0].best_epoch,
            "history": self._states[0].history,
            "seconds": sum(state.seconds for state in self._states),
            f"{unit}_per_second": trained / max(1e-9, busy),
        }

    def write(self, record: Mapping[str, Any]) -> None:
        """Write ``metrics.json``."""
        if self.out:
            write_json(self.out / METRICS, record)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.group = distributed.current()
            self.device = self.group.device(self.device)
            if not self.group.is_first:
                self.out, self.progress = None, False
            if self.out:
                stack.enter_context(run_folder(self.out, self.resume))
            stack.enter_context(torch.random.fork_rng(range(torch.cuda.device_count())))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._stack:
            if self.board:
                self.board.close()
