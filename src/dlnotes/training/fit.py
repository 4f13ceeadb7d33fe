"""The training loop of all models."""

from __future__ import annotations

import copy
import functools
import math
import signal
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from numbers import Real
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Protocol, runtime_checkable

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dlnotes.arguments import (
    Count,
    Natural,
    NotNegative,
    OneOf,
    Positive,
    Range,
    Seed,
    Settings,
    Share,
    check,
    checked,
)
from dlnotes.data.batches import BatchSampler, by_length
from dlnotes.data.documents import Examples
from dlnotes.deprecation import keep_old_names
from dlnotes.errors import Interrupted as Interrupted
from dlnotes.errors import Terminated, UserError, memory_for
from dlnotes.optim.clipping import clip_grad_norm_
from dlnotes.training import distributed, sharding
from dlnotes.training.board import Board, gradient_norm
from dlnotes.training.checkpoint import (
    check_same_settings,
    load_checkpoint,
    random_state,
    restore_random,
    save_checkpoint,
)
from dlnotes.training.compiling import compiled, sparse_look_ups_not_compiled
from dlnotes.training.finite import defect
from dlnotes.training.objectives import Objective
from dlnotes.training.progress import Progress
from dlnotes.training.replica import CPUReplica, DDPReplica, make_replica
from dlnotes.training.schedule import SCHEDULES, with_warmup
from dlnotes.training.transfer import BatchLoader, PendingNumbers

_MAX_TOKENS = 1 << 18
"""Most padded tokens in a batch that is computed at once; ordinary batches stay below it."""
_PART_TOKENS = 1 << 15
"""Most padded tokens in each part of a batch that has more."""
_REPORT_EVERY = 10  # updates
_UNREAD = 2  # pending reports before the loop waits for the device, so that its queue stays short
_FORESEEN = 0.2  # share of a time limit after which the time of all epochs is estimated
_MUCH = 1.5  # the estimate may exceed the limit by this factor, since patience may end it earlier
_SAVE_EVERY = 60.0  # seconds
_SAVING_SHARE = 0.05  # the share of the time that checkpoints may take
_SAVED_AT_ONCE, _SAVED_PER_SECOND = 16e6, 400e6  # bytes, to estimate the first checkpoint's time


class OutOfTime(Exception):  # noqa: N818 -- not an error: the time was set
    """Training was stopped because its `time_limit` was too short."""


@dataclass(frozen=True, kw_only=True)
class Fitting(Settings):
    """How `fit` goes through the training documents."""

    epochs: Count = 10
    """Maximum number of passes over the training documents."""

    batch_size: Natural | None = 64
    """Documents per update: 1 is SGD, 0 or None is all of them (batch gradient descent)."""

    micro_batch_size: Count | None = None
    """Documents that a process computes at once. A larger batch is computed in parts, whose
    gradients are added up before the update (gradient accumulation): the update is the same but
    takes less memory. Default: the process's whole share of a batch."""

    schedule: Annotated[str, OneOf(SCHEDULES)] = "constant"
    """Learning rate over the steps: constant, linear (down to 0), inverse_sqrt or halving (after
    each eighth of the steps)."""

    warmup: Share = 0.0
    """Fraction of the steps over which the learning rate rises linearly."""

    clip_norm: Positive | None = None
    """Scale the gradients down to this total norm."""

    patience: Count | None = None
    """Stop after this many epochs without an improvement on the dev split."""

    seed: Seed = 0
    """Seed of the documents' order; in a run also of the initial weights and of dropout."""

    amp: bool = False
    """Compute in bf16 autocast."""

    shard: bool = False
    """With several processes, each holds only a part of the weights, gradients and optimizer states
    (FSDP), for models in blocks (transformer) that are too large for one device. No effect with one
    process."""

    compile: bool = False
    """Compile the model with torch.compile (PyTorch 2.4 or newer), once for all shapes of batches,
    which takes half a minute or more at the start. Worth trying for transformer and textcnn on a
    GPU. Models that read word by word (entnet, dmn, seq2seq) are compiled again for other lengths,
    too often to become faster."""

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "batch_size", self.batch_size or None)


def check_complete(name: str, fitting: Fitting, *more: str) -> None:
    """Require that no setting is left to a recipe, where there is none.

    Args:
        name: Name of the argument, for the message.
        fitting: The settings.
        more: Names of required settings in addition to epochs, schedule and warmup.

    Raises:
        UserError: A required setting is None.
    """
    for needed in ("epochs", "schedule", "warmup", *more):
        if getattr(fitting, needed) is None:
            raise UserError(f"{name} leaves {needed} to a recipe, which is for train_classifier")


@dataclass
class TrainingState:
    """The progress of a training, in plain numbers, so that a checkpoint can hold it.

    Attributes:
        epoch: Epochs completed.
        batch: Batches completed in the current epoch.
        step: Updates completed.
        loss_sum: Sum of the losses of the documents seen in the current epoch.
        seen: Documents seen in the current epoch.
        epoch_seconds: Time spent in the updates of the current epoch.
        seconds: Time spent training, including evaluation but not checkpoints.
        train_seconds: Time spent in updates only.
        documents: Documents trained on, each counted once per epoch.
        best: Dev score (see `EvaluationMetrics`) and negative dev loss of the best epoch.
        best_epoch: The epoch whose weights are kept, from 1.
        history: One record per epoch.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    seen: int = 0
    epoch_seconds: float = 0.0
    seconds: float = 0.0
    train_seconds: float = 0.0
    documents: int = 0
    best: tuple[float, float] = (-math.inf, 0.0)
    best_epoch: int = 0
    history: list[dict[str, float]] = field(default_factory=list)


def is_better(score: float, loss: float, best: tuple[float, float]) -> bool:
    """Whether an epoch is better than the best one so far.

    Args:
        score: Its dev score, higher is better.
        loss: Its dev loss, which decides between equal scores.
        best: Dev score and negative dev loss of the best epoch.
    """
    return (score, -loss) > tuple(best)


def out_of_patience(epoch: int, best_epoch: int, patience: int | None) -> bool:
    """Whether a training has had `patience` epochs without an improvement.

    Args:
        epoch: Epochs completed.
        best_epoch: The best of them, from 1.
        patience: See `Fitting`.
    """
    return patience is not None and epoch - best_epoch >= patience


@dataclass
class _Report:
    """Figures of an update, which may still be on their way from the device.

    Attributes:
        state: State of the training after the update.
        rate: Learning rate of the update.
        figures: Loss of the update, sum of the losses of the epoch and, if the update is logged,
            the norm of the gradient.
    """

    state: TrainingState
    rate: Any
    figures: PendingNumbers


@runtime_checkable
class Constrained(Protocol):
    """A model whose weights are brought back into their bounds after each update."""

    def constrain_(self) -> None:
        """Change the weights in place (TextCNN's max-norm)."""


@checked
def fit(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    objective: Objective,
    train: Examples,
    dev: Examples | None,
    fitting: Fitting,
    *,
    device: torch.device | str = "cpu",
    stop_after: Count | None = None,
    stop_below: NotNegative | None = None,
    bucket: Count = 50,
    checkpoint: Path | None = None,
    checkpoint_every: Natural = 0,
    resume: bool = False,
    settings: Mapping[str, Any] | None = None,
    keep_end: bool = True,
    board: Board | None = None,
    progress: bool = True,
    time_limit: Positive | None = None,
) -> TrainingState:
    """Train `model`; it ends in training mode, with the weights of its best epoch on `dev`.

    The best epoch is the one with the highest score on `dev` (see `EvaluationMetrics`) and, among
    equal scores, the lowest loss. The weights of a model that is `Constrained` are constrained
    after each update.

    In a process group (see `dlnotes.training.distributed`), all processes must call it with the
    same arguments, and end with the same weights. `batch_size` counts the documents of all
    processes together. They share the evaluation; the first one reads and writes `checkpoint`.

    Args:
        model: The model, already on `device`; it need not be in a `DistributedDataParallel`.
        optimizer: Any optimizer over the model's parameters.
        objective: Defines the loss and the evaluation.
        train: Training examples.
        dev: Examples for early stopping and for the choice of the best epoch. Without them, the
            last epoch is the best.
        fitting: How to go through `train`. Dropout draws from torch's global generator.
        device: Where to compute.
        stop_after: Stop after this many of the epochs; the schedule still extends over all of them.
        stop_below: After `stop_after` epochs, continue until the mean loss of an epoch on `train`
            is at most this, or all epochs are completed.
        bucket: See `BatchSampler`.
        checkpoint: File for checkpoints. They are written within an epoch (see `checkpoint_every`),
            after each epoch unless this would take more than 5 % of the time, when interrupted, and
            at the end.
        checkpoint_every: Updates between two checkpoints; 0 for one per minute, or fewer if writing
            them would take more than 5 % of the time.
        resume: Resume from `checkpoint`, bit for bit.
        settings: Stored in the checkpoint and compared on resuming; default: those of `fitting`.
        keep_end: Always write a checkpoint at the end. Otherwise a large one is left out, for
            callers that save the trained model themselves.
        board: TensorBoard writer.
        progress: Show a progress bar on standard error.
        time_limit: Give up after this many seconds, or as soon as it is foreseeable that all epochs
            would take much longer.

    Returns:
        The final state, with the history of the epochs.

    Raises:
        UserError: The loss, the loss on `dev`, a weight or a state of the optimizer is not finite,
            or a weight exceeds 1.8e19; the checkpoint does not fit or cannot be written; there is
            not enough memory; an argument is not allowed. The last checkpoint then stays as it is.
        Interrupted: SIGINT, SIGTERM or SIGHUP arrived; `checkpoint`, if given, was written before.
        OutOfTime: `time_limit` is too short.
    """
    if not isinstance(objective, Objective):
        raise UserError(f"objective must be an instance such as SingleLabel(), not {objective!r}")
    check_complete("fitting", fitting)
    for name, examples in (("train", train), ("dev", dev)):
        if examples is not None and not len(examples):
            raise UserError(f"{name} has no documents")
    model = distributed.unwrapped(model)
    _check_can_be_cut(model, fitting)
    loop = _Loop(
        model,
        optimizer,
        objective.to(torch.device(device)),
        train,
        dev,
        fitting,
        torch.device(device),
        bucket,
        asdict(fitting) if settings is None else settings,
        checkpoint,
        checkpoint_every,
        board,
        keep_end=keep_end,
        time_limit=math.inf if time_limit is None else time_limit,
    )
    if resume:
        loop.resume()
    else:
        loop.group.seed_by_rank()
    loop.check_before_the_first_update(resume)
    loop.shard()
    last = fitting.epochs if stop_after is None else min(stop_after, fitting.epochs)
    with (
        _signals(once=loop.group.size > 1) as stop,
        torch.enable_grad(),
        Progress(loop.steps, loop.state.step, shown=progress and loop.group.is_first) as bar,
        loop.batches,
        sparse_look_ups_not_compiled(model) if fitting.compile else nullcontext(),
    ):
        loop.group = replace(loop.group, stop=stop)
        try:
            loop.run(last, stop_below, bar)
        except Interrupted:  # in all processes
            loop.unshard()
            raise
    return loop.state


def _check_can_be_cut(model: nn.Module, fitting: Fitting) -> None:
    """Require that batches may be cut up: no output may depend on the other documents of a batch.

    Raises:
        UserError: The model normalizes by the statistics of a batch, which is cut up.
    """
    several = distributed.current().size > 1
    if not several and fitting.micro_batch_size is None:
        return
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._NormBase) and module.training:
            what = (
                "several processes" if several else f"micro_batch_size={fitting.micro_batch_size}"
            )
            raise UserError(
                f"{what} cannot train a model with {type(module).__name__} ({name}): the mean and "
                "variance of a batch are not those of its parts"
            )


@dataclass
class _Loop:
    """A running training; the fields without a default are arguments of `fit`."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    objective: Objective
    train: Examples
    dev: Examples | None
    fitting: Fitting
    device: torch.device
    bucket: int
    settings: Mapping[str, Any]
    checkpoint: Path | None
    checkpoint_every: int
    board: Board | None
    state: TrainingState = field(default_factory=TrainingState)
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    saved_at: int | None = None
    unsaved: bool = True
    save_from: float | None = None  # earliest time at which saving takes at most its share
    keep_end: bool = True
    time_limit: float = math.inf
    agreed: tuple[int, ...] = ()  # `requests` of several processes together, from the last update

    def __post_init__(self) -> None:
        self.began = self.saved_time = time.perf_counter()
        fitting, model = self.fitting, self.model
        self.sampler = BatchSampler(
            self.train.lengths, fitting.batch_size, seed=fitting.seed, bucket=self.bucket
        )
        self.steps = fitting.epochs * len(self.sampler)
        self.schedule = with_warmup(SCHEDULES[fitting.schedule], fitting.warmup)
        self.rates = [group["lr"] for group in self.optimizer.param_groups]
        self.constrained = model if isinstance(model, Constrained) else None
        self.loss_sum = torch.zeros((), device=self.device)
        # A compiled model prepares its batches within the compiled graph.
        reader = None if fitting.compile else model
        self.batches = BatchLoader(self.train, self.device, reader)
        self.reports: deque[_Report] = deque()
        self.outputs = self.objective.forward
        if fitting.compile:
            if distributed.current().size > 1:
                raise UserError("compile cannot be used with several processes; leave it out")
            self.outputs = compiled(self.outputs, self.device)
        self.group = distributed.current()
        self.replica: DDPReplica | CPUReplica | sharding.Shards | None = None
        self.shards: sharding.Shards | None = None
        if self.group.size > 1:
            self.require_same()
            if not fitting.shard:
                self.replica = make_replica(self.group, model, self.outputs)

    def shard(self) -> None:
        """Shard the model over the processes, if that is asked for."""
        if self.fitting.shard and self.group.size > 1:
            self.shards = sharding.Shards(self.group, self.model, self.optimizer, self.outputs)
            self.replica = self.shards
            self.best_weights = self.shards.shard(self.best_weights)

    def unshard(self) -> None:
        """Gather the whole model in each process again."""
        if self.shards:
            self.shards.end()
            self.best_weights = {
                name: sharding.full_tensor(w) for name, w in self.best_weights.items()
            }
            self.shards = self.replica = None

    def full_parameters(self) -> AbstractContextManager[None]:
        """Context in which `model` has all its weights, even if it is sharded."""
        return self.shards.full_parameters() if self.shards else nullcontext()

    def require_same(self) -> None:
        """Require the same settings, documents and weights in all processes."""
        self.group.require_same(
            {
                "settings": self.settings,
                "documents": {
                    name: None if split is None else (len(split), int(split.lengths.sum()))
                    for name, split in (("train", self.train), ("dev", self.dev))
                },
                "weights": [
                    (name, w.shape, w.requires_grad) for name, w in self.model.named_parameters()
                ],
            }
        )

    def run(self, last: int, below: float | None, bar: Progress) -> None:
        """Train to epoch `last` or longer (see `fit`), or until patience ends or a signal comes."""
        state, patience = self.state, self.fitting.patience
        self.model.train()
        while (state.epoch < last or self.is_above(below)) and not out_of_patience(
            state.epoch, state.best_epoch, patience
        ):
            self.epoch(bar)
            if any(
                self.group.all_reduce_max(
                    self.group.stop(), self.is_cheap() or self.is_due(state.step)
                )
            ):
                self.save()
            if (stopping := self.group.all_reduce_max(self.group.stop())[0]) > 0:
                raise Interrupted(stopping)
        if self.unsaved and (self.keep_end or not self.expected_saving()):
            self.save()
        self.unshard()
        if self.best_weights:  # empty if the training had no dev documents
            self.model.load_state_dict(self.best_weights)
        if (stopping := self.group.all_reduce_max(self.group.stop())[0]) > 0:
            raise Interrupted(stopping)

    def is_above(self, below: float | None) -> bool:
        """Whether the loss of the last epoch is still above `below`, and epochs are left."""
        if below is None or self.state.epoch >= self.fitting.epochs:
            return False
        return self.state.history[-1]["train_loss"] > below

    def epoch(self, bar: Progress) -> None:
        """Do the rest of the current epoch, then evaluate."""
        state, batches = self.state, self.sampler.epoch(self.state.epoch)
        clock = time.perf_counter()
        with memory_for(self.what_takes_memory):
            todo = batches[state.batch :]
            self.batches.prefetch(part for indices in todo for part in self.parts_here(indices))
            for indices in todo:
                if self.takes_too_long():
                    raise OutOfTime
                loss, norm = self.update(indices)
                last = state.batch == len(batches)
                stopping, saving = self.agreed or self.requests()
                usual = state.step % _REPORT_EVERY == 0 or last
                if usual or stopping or saving:
                    self.note(loss, norm, log=usual)
                self.report(bar, wait=last or bool(stopping or saving))
                if stopping or saving:
                    state.loss_sum = self.loss_sum.item()
                    self.count_updates(clock)
                    self.save()
                    clock = time.perf_counter()
                if stopping:
                    raise Interrupted(stopping)
        with self.full_parameters():
            self.end_epoch(bar, clock)

    def end_epoch(self, bar: Progress, clock: float) -> None:
        """Check the weights, evaluate, and show and log the epoch's figures."""
        state = self.state
        self.check()
        self.count_updates(clock)
        clock = time.perf_counter()
        record = {
            "epoch": state.epoch + 1,
            "train_loss": self.loss_sum.item() / state.seen,
            "documents_per_second": state.seen / max(1e-9, state.epoch_seconds),
        }
        try:
            with memory_for("the dev documents"):
                self.measure(record)
        except Interrupted:  # after resuming, the epoch is evaluated again
            state.loss_sum = self.loss_sum.item()
            self.save()
            raise
        state.seconds += time.perf_counter() - clock
        bar.epoch(record, is_best=state.best_epoch == state.epoch)
        if self.board:
            self.board.epoch(self.model, state.step, record)

    @property
    def what_takes_memory(self) -> str:
        """Description of an update, for messages about memory."""
        micro, whole = self.fitting.micro_batch_size, self.fitting.batch_size
        if micro is None:
            return f"an update with batch_size={whole} (with a micro_batch_size it takes less)"
        return f"an update with micro_batch_size={micro}"

    def count_updates(self, since: float) -> None:
        """Count the time since `since` as spent in updates."""
        state, seconds = self.state, time.perf_counter() - since
        state.seconds += seconds
        state.train_seconds += seconds
        state.epoch_seconds += seconds

    def takes_too_long(self) -> bool:
        """Whether the time limit is reached, or will foreseeably be too short."""
        spent, limit = time.perf_counter() - self.began, self.time_limit
        if spent < _FORESEEN * limit:
            return False
        return spent >= limit or spent * self.steps > _MUCH * limit * self.state.step

    def is_due(self, step: int) -> bool:
        """Whether a checkpoint is due after update `step`."""
        if self.checkpoint is None:
            return False
        if self.checkpoint_every:
            return step % self.checkpoint_every == 0
        return time.perf_counter() >= self.saved_time + _SAVE_EVERY and self.is_cheap()

    def is_cheap(self) -> bool:
        """Whether checkpoints would take no more than their share of the time with one now."""
        if self.save_from is None:
            taken = self.expected_saving()
            self.save_from = self.began + taken * (1 - _SAVING_SHARE) / _SAVING_SHARE
        return time.perf_counter() >= self.save_from

    def expected_saving(self) -> float:
        """Estimated seconds to write a checkpoint of this model; 0 if it is small."""
        state = self.optimizer.state.values()
        accumulators = (value for each in state for value in each.values())
        tensors = [*self.model.state_dict().values(), *self.best_weights.values()]
        tensors += [value for value in accumulators if isinstance(value, Tensor)]
        size: int = sum(tensor.nbytes for tensor in tensors)
        return max(0.0, size - _SAVED_AT_ONCE) / _SAVED_PER_SECOND

    def update(self, indices: NDArray[Any]) -> tuple[Tensor, Tensor | None]:
        """Do one update; return its loss and, if it is known, the norm of the gradient."""
        state = self.state
        factor = self.schedule(state.step, self.steps)
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.backward(indices)
        norm = self.clip()
        self.optimizer.step()
        if self.constrained:
            self.constrained.constrain_()
        self.unsaved = True
        self.loss_sum += loss * len(indices)
        state.step += 1
        state.batch += 1
        state.seen += len(indices)
        state.documents += len(indices)
        return loss, norm

    def clip(self) -> Tensor | None:
        """Clip the gradient if that is asked for; return its norm before, if it is known."""
        limit = self.fitting.clip_norm
        if self.shards:  # always needed for the log, since no process has the whole gradient
            parts = self.shards.sharded.parameters()
            norm: Tensor = sharding.full_tensor(clip_grad_norm_(parts, max_norm=limit or math.inf))
            return norm
        if limit is None:
            return None
        return clip_grad_norm_(self.model.parameters(), max_norm=limit)

    def backward(self, indices: NDArray[Any]) -> Tensor:
        """Add the gradients of a batch's loss to those of the parameters; return the loss.

        Each process of a group computes a share of the batch, in `parts`. The mean over the batch
        is the sum of the contributions of all parts. A process without documents computes one of
        another process with weight 0, because all must take part in summing the gradients.
        """
        group, share = self.group, self.group.own_indices(indices)
        parts = self.parts_here(indices)
        if len(parts) == group.size == 1 and not self.may_count_nothing:
            tokens, labels = self.batch(indices)
            loss = self.objective.loss(self.forward(tokens, labels), labels)
            loss.backward()
            return loss.detach()
        batches = [self.batch(part) for part in parts]
        sizes = [self.objective.size(labels).to(self.wide) for _, labels in batches]
        if not len(share):
            sizes = [torch.zeros_like(size) for size in sizes]
        size = torch.stack(sizes).sum()
        divisor = self.replica.divisor(size) if self.replica else size
        total = torch.zeros((), dtype=self.wide, device=self.device)
        for i, ((tokens, labels), each) in enumerate(zip(batches, sizes, strict=True)):
            with self.accumulating(more=i + 1 < len(batches)):
                outputs = self.forward(tokens, labels)
                if len(share) and not (self.may_count_nothing and each == 0):
                    loss = self.objective.loss(outputs, labels) * (each / divisor)
                else:
                    loss = outputs.sum() * 0
                loss.backward()
            total += loss.detach()
        if self.replica:
            total, *agreed = self.replica.average(total, size, self.requests(after=1))
            self.agreed = tuple(agreed)
        return total

    def requests(self, after: int = 0) -> tuple[int, int]:
        """The signal that asks to stop (or 0), and whether a checkpoint is due.

        After the last update of an epoch none is due here: `run` decides about it after evaluation.

        Args:
            after: Updates that `state` does not count yet.
        """
        last = self.state.batch + after == len(self.sampler)
        return self.group.stop(), self.is_due(self.state.step + after) and not last

    def parts(self, indices: NDArray[Any]) -> list[NDArray[Any]]:
        """Split documents into parts that are computed at once; mostly there is only one.

        No part has more documents than `micro_batch_size`. If a huge document makes a batch exceed
        `_MAX_TOKENS` padded tokens, it is split into parts of `_PART_TOKENS`.
        """
        lengths, most = self.train.lengths[indices], self.fitting.micro_batch_size
        tokens = _MAX_TOKENS
        if len(indices) * int(lengths.max()) > _MAX_TOKENS:
            tokens = _PART_TOKENS
        elif most is None or len(indices) <= most:
            return [indices]
        return [indices[part] for part in by_length(lengths, tokens, most)]

    def forward(self, tokens: Tensor, labels: Tensor) -> Any:
        """What the loss is computed from."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.fitting.amp):
            if self.replica:
                return self.replica(tokens, labels)
            return self.outputs(self.model, tokens, labels)

    def accumulating(self, more: bool) -> AbstractContextManager[None]:
        """Context for forward and backward of a part; `more` says whether other parts follow."""
        return self.replica.accumulating(more) if self.replica else nullcontext()

    @property
    def wide(self) -> torch.dtype:
        """The type in which the losses of the parts are added up."""
        return torch.float32 if self.device.type == "mps" else torch.float64

    @functools.cached_property
    def may_count_nothing(self) -> bool:
        """Whether a batch may have a total weight of 0, so that its mean loss would be NaN."""
        weights = self.objective.weights
        return weights is not None and bool((weights == 0).any())

    def parts_here(self, indices: NDArray[Any]) -> list[NDArray[Any]]:
        """The parts of a batch that this process computes.

        A process without documents computes one of another process, because all must take part in
        summing the gradients.
        """
        share = self.group.own_indices(indices)
        return self.parts(share if len(share) else indices[:1])

    def batch(self, indices: NDArray[Any]) -> tuple[Tensor, Tensor]:
        """Tokens and labels of documents."""
        return self.batches.take(indices)

    def note(self, loss: Tensor, norm: Tensor | None, *, log: bool) -> None:
        """Request the figures of the last update from the device, without waiting for them."""
        figures = [loss, self.loss_sum]
        if log and self.board:
            figures.append(gradient_norm(self.model) if norm is None else norm)
        rate = self.optimizer.param_groups[0]["lr"]
        state = replace(self.state)
        self.reports.append(_Report(state, rate, PendingNumbers(self.device, *figures)))

    def report(self, bar: Progress, *, wait: bool) -> None:
        """Show and log the figures that have arrived.

        Args:
            bar: The progress bar that shows them.
            wait: Whether to wait for the figures that have not arrived.

        Raises:
            UserError: The training has diverged.
        """
        while self.reports and (
            wait or len(self.reports) > _UNREAD or self.reports[0].figures.is_ready()
        ):
            report = self.reports.popleft()
            state = report.state
            loss, total, *norm = report.figures.read()
            if not math.isfinite(total):
                raise self.diverged(f"the loss became {total}", state)
            bar.update(state.step, state.epoch, loss=loss, documents=state.documents)
            if norm and self.board:
                self.board.step(state.step, loss, report.rate, norm[0])

    def measure(self, record: dict[str, float]) -> None:
        """End the epoch: add the figures on dev to `record`; keep the weights if they are best."""
        state, model = self.state, self.model
        if self.dev is None:
            state.best_epoch = state.epoch + 1
        else:
            # All processes use the first one's figures: rounding could make others decide
            # differently.
            score, loss, summary = self.group.all_gather_object(self.evaluated())[0]
            if not math.isfinite(loss):
                raise self.diverged(f"the loss on dev became {loss}")
            record |= {f"dev_{name}": value for name, value in summary.items()}
            if is_better(score, loss, state.best):
                state.best = (score, -loss)
                state.best_epoch = state.epoch + 1
                shards = self.shards
                self.best_weights = (
                    shards.sharded_weights() if shards else copy.deepcopy(model.state_dict())
                )
        self.unsaved = True
        state.history.append(record)
        state.epoch += 1
        state.batch = state.seen = 0
        state.loss_sum = state.epoch_seconds = 0.0
        self.loss_sum.zero_()

    def evaluated(self) -> tuple[float, float, dict[str, float]]:
        """Score, loss and all figures on dev."""
        assert self.dev is not None
        figures = self.objective.evaluate(
            self.model, self.dev, device=self.device, amp=self.fitting.amp, group=self.group
        )
        return figures.score, figures.loss, figures.summary()

    def diverged(self, what: str, state: TrainingState | None = None) -> UserError:
        state = state or self.state
        return UserError(
            f"{what} at step {state.step} (epoch {state.epoch + 1}): the training has diverged; "
            f"lower --lr (now {self.rates[0]:g}) or clip the gradients with --clip-norm 1"
            f"{self.kept}"
        )

    @property
    def kept(self) -> str:
        """The last good checkpoint of a training that has failed, for messages."""
        if self.saved_at is None:
            return ""
        return f"; {self.checkpoint} holds the last good state, of step {self.saved_at}"

    def check(self) -> None:
        """Refuse to go on with weights that are not finite."""
        if found := defect(self.model, self.optimizer):
            raise self.diverged(found)

    def check_before_the_first_update(self, resumed: bool) -> None:
        """Refuse to start with weights that are not finite."""
        found = defect(self.model, self.optimizer)
        if not found and any(w.isnan().any() for w in self.best_weights.values()):
            found = "the best epoch's weights hold NaN"
        if found:
            whose = (
                f"{self.checkpoint} cannot be used: train again without --resume"
                if resumed
                else "look at what the model was made from, such as --vectors"
            )
            raise UserError(f"{found} before the first update: {whose}")

    def save(self) -> None:
        """Write the checkpoint, if there is a file for it."""
        if not self.checkpoint:
            return
        with self.full_parameters():
            self.write(self.checkpoint)

    def write(self, file: Path) -> None:
        """Write a checkpoint, which has the same form for any number of processes."""
        began = time.perf_counter()
        self.check()
        if self.board:
            self.board.flush()  # a resumed training does not log the steps up to here again
        saved = {
            "model": self.model.state_dict(),
            "optimizer": self.shards.full_optimizer_state()
            if self.shards
            else self.optimizer.state_dict(),
            "best_weights": (
                self.shards.gather_full(self.best_weights) if self.shards else self.best_weights
            ),
            "state": asdict(self.state),
            "settings": self.settings,
            **self.circumstances(),
        }
        saved["random"], *others = self.group.all_gather_object(random_state())
        if others:
            saved["random_of_others"] = others
        try:
            self.group.on_first(lambda: save_checkpoint(file, saved))
        except UserError as error:
            raise UserError(f"{error}{self.kept}") from error
        self.saved_at, self.unsaved = self.state.step, False
        self.saved_time = time.perf_counter()
        taken = self.saved_time - began
        self.save_from = self.saved_time + taken * (1 - _SAVING_SHARE) / _SAVING_SHARE

    def circumstances(self) -> dict[str, Any]:
        """What a resumed training should have in common with this one, besides the settings."""
        splits = {"train": self.train, "dev": self.dev}
        return {
            "documents": {name: len(docs) for name, docs in splits.items() if docs is not None},
            "device": self.device.type,
            "threads": torch.get_num_threads(),
            "processes": self.group.size,
            "micro_batch_size": self.fitting.micro_batch_size or "none",
        }

    def resume(self) -> None:
        """Restore the training from the checkpoint."""
        if self.checkpoint is None:
            raise UserError("resume needs a checkpoint file")
        file = self.checkpoint
        saved = self.group.on_first(lambda: load_checkpoint(file))
        now = self.circumstances()
        check_same_settings(
            self.checkpoint,
            saved.get("settings"),
            self.settings,
            documents=(saved.get("documents", {}), now["documents"]),
        )
        try:
            self.state = _state(saved["state"], batches=len(self.sampler))
            _check_weights(saved["best_weights"], self.model)
            _check_groups(saved["optimizer"]["param_groups"], self.optimizer)
            self.model.load_state_dict(saved["model"])
            self.optimizer.load_state_dict(saved["optimizer"])
            weights = saved["best_weights"].items()
            self.best_weights = {name: w.to(self.device) for name, w in weights}
            random = [saved["random"], *saved.get("random_of_others", [])]
            same = len(random) == self.group.size
            restore_random(random[self.group.rank if same else 0])
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{self.checkpoint} belongs to another model or optimizer or another version of "
                "dlnotes, or is damaged: give another --out"
            ) from error
        if not same:
            self.group.seed_by_rank()
        self.loss_sum += self.state.loss_sum
        self.saved_at, self.unsaved = self.state.step, False
        changed = [
            f"{name} {was} (now {is_})"
            for name, was, is_ in (
                ("torch", saved.get("torch"), str(torch.__version__)),
                ("device", saved.get("device"), now["device"]),
                ("threads", saved.get("threads"), now["threads"]),
                ("processes", saved.get("processes", 1), now["processes"]),
                (
                    "micro_batch_size",
                    saved.get("micro_batch_size", "none"),
                    now["micro_batch_size"],
                ),
            )
            if was not in (None, is_)
        ]
        if changed:
            warnings.warn(
                f"{self.checkpoint} was written with {', '.join(changed)}: the training goes on, "
                "but not bit for bit as it would have",
                stacklevel=2,
            )
        if self.board:
            self.board.resume(self.state.step)


def _state(saved: Mapping[str, Any], batches: int) -> TrainingState:
    """The state in a checkpoint, also in one of an earlier version.

    Args:
        saved: The state as the checkpoint holds it.
        batches: Number of batches per epoch.

    Raises:
        ValueError: It is not a valid state; entries of a wrong type raise other exceptions.
    """
    share = saved["seen"] / max(1, saved["documents"])
    state = TrainingState(**{"epoch_seconds": share * saved["train_seconds"], **saved})
    check(_OF_A_STATE, vars(state))
    if state.batch > batches or (state.batch == 0) != (state.seen == 0):
        raise ValueError(f"{state.batch} batches with {state.seen} documents")
    figures = [*state.best, *(value for record in state.history for value in record.values())]
    if len(state.best) != 2 or not all(isinstance(value, Real) for value in figures):
        raise TypeError(f"figures are numbers, unlike some of {figures!r:.200}")
    return state


_OF_A_STATE: dict[str, Any] = {
    **dict.fromkeys(("epoch", "batch", "step", "seen", "documents", "best_epoch"), Natural),
    **dict.fromkeys(("epoch_seconds", "seconds", "train_seconds"), Annotated[float, Range(0)]),
    "loss_sum": float,
    "best": Sequence[float],
    "history": Sequence[Mapping[str, float]],
}


def _check_weights(saved: Mapping[str, Any], model: nn.Module) -> None:
    """Require the best epoch's weights to fit the model, if there are any."""
    if saved:
        wanted = {name: weight.shape for name, weight in model.state_dict().items()}
        if {name: weight.shape for name, weight in saved.items()} != wanted:
            raise ValueError("the best epoch's weights are of another model")


def _check_groups(saved: list[Mapping[str, Any]], optimizer: torch.optim.Optimizer) -> None:
    """Require the optimizer's settings in a checkpoint to have the types of its settings now."""
    for was, group in zip(saved, optimizer.param_groups, strict=True):
        for name, value in was.items():
            if name != "params" and name in group and _kind(value) != _kind(group[name]):
                raise TypeError(f"{name} is {value!r:.200}")


def _kind(value: Any) -> Any:
    """The kind of a setting: all numbers are of one kind, and sequences are compared by element."""
    if isinstance(value, tuple | list):
        return [_kind(each) for each in value]
    if value is None or isinstance(value, bool):  # None lets torch choose a bool such as foreach
        return bool
    number = isinstance(value, Real) or (isinstance(value, Tensor) and value.numel() == 1)
    return Real if number else type(value)


@contextmanager
def _signals(*, once: bool = False) -> Iterator[Callable[[], int]]:
    """Catch signals; yields a function that returns the number of the first one, or 0.

    The signals are SIGINT, SIGTERM and, unless it is ignored (nohup), SIGHUP. An exception in the
    middle of an update would leave some parameters old and others new, so the loop asks for signals
    between updates instead. A second signal ends the process at once.

    Args:
        once: Ignore further signals. On Ctrl-C, each process of torchrun gets one signal from the
            terminal and another one from torchrun, which also ends processes that take too long.

    Raises:
        Interrupted: A signal arrived that the loop had not acted on.
    """
    came: list[int] = []
    old: dict[signal.Signals, Any] = {}

    def note(number: int, frame: FrameType | None) -> None:
        if came and not once:
            raise KeyboardInterrupt if number == signal.SIGINT else Terminated(number)
        came.append(number)

    numbers = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    try:
        for number in numbers:
            try:
                old[number] = signal.signal(number, note)
            except ValueError:  # not in the main thread, where signals cannot be caught
                break
        yield lambda: came[0] if came else 0
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
    if came:
        raise Interrupted(came[0])


keep_old_names(__name__)
