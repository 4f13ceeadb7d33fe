"""The one training loop."""

from __future__ import annotations

import copy
import math
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from dlnotes.arguments import Count, Natural, Seed, Share, checked
from dlnotes.data.batches import BatchSampler
from dlnotes.data.documents import Examples
from dlnotes.errors import UserError
from dlnotes.training.board import Board
from dlnotes.training.checkpoint import load_checkpoint, save_checkpoint
from dlnotes.training.evaluate import (
    Metrics,
    SequenceMetrics,
    evaluate,
    evaluate_sequences,
    predict,
)
from dlnotes.training.progress import Progress
from dlnotes.training.schedule import Schedule, constant
from dlnotes.training.sound import defect


class Interrupted(Exception):  # noqa: N818 -- not an error: the user asked for it
    """Training was stopped by a signal, after the checkpoint was written."""


@dataclass
class State:
    """Where training stands; plain numbers, so that a checkpoint can hold it.

    Attributes:
        epoch: Epochs done.
        batch: Batches done in the epoch under way.
        step: Updates done.
        loss_sum: Sum of the losses of the documents seen in the epoch under way.
        seen: Documents seen in the epoch under way.
        seconds: Time spent training, evaluation included.
        train_seconds: Time spent in updates alone.
        documents: Documents trained on.
        best: Dev accuracy and negative dev loss of the best epoch.
        best_epoch: The epoch whose weights are kept, from 1.
        history: A record of each epoch.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    seen: int = 0
    seconds: float = 0.0
    train_seconds: float = 0.0
    documents: int = 0
    best: tuple[float, float] = (-1.0, 0.0)
    best_epoch: int = 0
    history: list[dict[str, float]] = field(default_factory=list)


@checked
def fit(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    train: Examples,
    dev: Examples | None,
    *,
    epochs: Count,
    batch_size: Count | None,
    seed: Seed = 0,
    device: torch.device | str = "cpu",
    amp: bool = False,
    schedule: Schedule = constant,
    clip_gradients: Callable[[Iterable[Tensor]], Tensor] | None = None,
    label_smoothing: Share = 0.0,
    class_weights: Tensor | None = None,
    patience: Count | None = None,
    stop_after: Count | None = None,
    bucket: Count = 50,
    checkpoint: Path | None = None,
    checkpoint_every: Natural = 0,
    resume: bool = False,
    settings: dict[str, Any] | None = None,
    board: Board | None = None,
    progress: bool = True,
) -> State:
    """Train `model`; it ends with the weights of its best epoch on `dev`.

    The loss is the mean cross-entropy of a batch, see `mean_loss`. A model with a method
    ``constrain_`` has it called after each update (TextCNN's max-norm). A model whose attribute
    ``log_likelihood`` is not None gives the log-probability of the labels, (tokens, labels) → (b,),
    without computing that of all classes (FastText's hierarchical softmax): the loss is then made
    of it, unless label smoothing asks for all classes. The best epoch is the one with the highest
    dev accuracy and, among equals, the lowest dev loss.

    Labels may be sequences, one a document (b, u): the one that begins a target, its tokens, the
    one that ends it, then padding. The model then maps tokens and labels to scores of the next
    label at each position, the loss is the mean over the labels that are not padding, and
    accuracy is theirs.

    Args:
        model: Maps token ids (b, t) to scores (b, c); already on `device`.
        optimizer: Any optimizer over the model's parameters.
        train: What to learn from.
        dev: What early stopping and the choice of the epoch look at; without it the last epoch is
            the best.
        epochs: Passes over `train`.
        batch_size: Documents an update; None for all of them (batch gradient descent).
        seed: Decides the order of the documents. Dropout draws from torch's global generator.
        device: Where to compute.
        amp: Forward pass in bf16 autocast.
        schedule: Factor of each group's learning rate as a function of the step.
        clip_gradients: Called with the parameters before each update, returns the total norm.
        label_smoothing: Share of the target spread over all classes.
        class_weights: Weight in the loss of a document of each class, shape (c,).
        patience: Stop after so many epochs without a better one; None for never.
        stop_after: Stop after so many of the epochs; `schedule` still spreads over all of them.
        bucket: See `BatchSampler`.
        checkpoint: File for checkpoints: every `checkpoint_every` updates, when interrupted and
            at the end.
        checkpoint_every: Updates between two checkpoints; 0 for none before the end.
        resume: Go on from `checkpoint`, bit for bit.
        settings: Stored in the checkpoint and compared on resuming.
        board: Where curves, histograms and figures go.
        progress: Show a progress bar on standard error.

    Returns:
        The final state, with the history of the epochs.

    Raises:
        UserError: The loss, the loss on `dev`, a weight or a state of the optimizer is not finite,
            or a weight has grown beyond all measure; a checkpoint that does not fit; bad
            arguments. No checkpoint is written then: the one before stays as it is.
        Interrupted: SIGINT or SIGTERM came; the checkpoint was written first.
    """
    if class_weights is not None and not bool(
        (class_weights.isfinite() & (class_weights >= 0)).all()
    ):
        raise UserError(f"class_weights must be finite and at least 0, not {class_weights}")
    device = torch.device(device)
    sampler = BatchSampler(train.lengths, batch_size, seed=seed, bucket=bucket)
    steps = epochs * len(sampler)
    rates = [group["lr"] for group in optimizer.param_groups]
    weights = None if class_weights is None else class_weights.to(device)
    constrain = getattr(model, "constrain_", lambda: None)
    likelihood = getattr(model, "log_likelihood", None) if label_smoothing == 0 else None
    measure: Callable[..., Metrics | SequenceMetrics] = evaluate
    if dev is not None and dev.batch(np.arange(min(1, len(dev)))).labels.dim() == 2:
        measure = evaluate_sequences
    state = State()
    best_weights: dict[str, Tensor] = {}
    saved_at: int | None = None

    def diverged(what: str) -> UserError:
        kept = f"; {checkpoint} holds the last good state, of step {saved_at}"
        return UserError(
            f"{what} at step {state.step} (epoch {state.epoch + 1}): the training has diverged; "
            f"lower --lr (now {rates[0]:g}) or clip the gradients with --clip-norm 1"
            f"{kept if saved_at is not None else ''}"
        )

    def check() -> None:
        if found := defect(model, optimizer):
            raise diverged(found)

    def save() -> None:
        nonlocal saved_at
        if checkpoint:
            check()
            parts = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            rest = {"best_weights": best_weights, "state": asdict(state), "settings": settings}
            save_checkpoint(checkpoint, parts | rest)
            saved_at = state.step

    if resume:
        if checkpoint is None:
            raise UserError("resume needs a checkpoint file")
        saved = load_checkpoint(checkpoint)
        _same_settings(checkpoint, saved, settings)
        try:
            model.load_state_dict(saved["model"])
            optimizer.load_state_dict(saved["optimizer"])
            state = State(**saved["state"])
            best_weights = {name: w.to(device) for name, w in saved["best_weights"].items()}
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{checkpoint} belongs to another model or optimizer") from error
        saved_at = state.step
        if board:
            board.resume(state.step)
    found = defect(model, optimizer)
    if not found and any(w.isnan().any() for w in best_weights.values()):
        found = "the best epoch's weights hold NaN"
    if found:
        whose = (
            f"{checkpoint} is of no use: train again without --resume"
            if resume
            else ("look at what the model was made from, such as --vectors")
        )
        raise UserError(f"{found} before the first update: {whose}")

    loss_sum = torch.zeros((), device=device) + state.loss_sum
    model.train()
    with _signals() as stop, Progress(steps, state.step, shown=progress) as bar:
        last = epochs if stop_after is None else min(stop_after, epochs)
        while state.epoch < last and not _out_of_patience(state, patience):
            batches = sampler.epoch(state.epoch)
            began = clock = time.perf_counter()
            seen_before = state.seen  # not 0 in an epoch that is resumed
            for indices in batches[state.batch :]:
                factor = schedule(state.step, steps)
                for group, rate in zip(optimizer.param_groups, rates, strict=True):
                    group["lr"] = rate * factor
                batch = train.batch(indices)
                tokens = batch.tokens.to(device, non_blocking=True)
                labels = batch.labels.to(device, non_blocking=True)
                optimizer.zero_grad(set_to_none=True)
                with torch.autocast(device.type, torch.bfloat16, enabled=amp):
                    if likelihood:
                        chosen = likelihood(tokens, labels)
                    else:
                        logits, labels = predict(model, tokens, labels)
                if likelihood:
                    share = torch.ones_like(labels) if weights is None else weights[labels]
                    loss = -(share * chosen.float()).sum() / share.sum()
                else:
                    loss = mean_loss(logits.float(), labels, weights, label_smoothing)
                loss.backward()
                norm = clip_gradients(model.parameters()) if clip_gradients else None
                optimizer.step()
                constrain()
                loss_sum += loss.detach() * len(indices)
                state.step += 1
                state.batch += 1
                state.seen += len(indices)
                state.documents += len(indices)
                stopping = stop()
                saving = checkpoint_every and state.step % checkpoint_every == 0
                # Reading a value waits for the device: only now and then.
                if state.step % 10 == 0 or state.batch == len(batches) or stopping or saving:
                    value = loss.item()
                    if not math.isfinite(total := loss_sum.item()):
                        raise diverged(f"the loss became {total}")
                    bar.update(state.step, state.epoch, loss=value, documents=state.documents)
                    if board:
                        board.step(model, state.step, value, rates[0] * factor, norm)
                if stopping or saving:
                    state.loss_sum = loss_sum.item()
                    now = time.perf_counter()
                    state.seconds += now - clock
                    state.train_seconds += now - clock
                    clock = now
                    save()
                if stopping:
                    raise Interrupted
            check()
            trained = time.perf_counter()
            speed = (state.seen - seen_before) / (trained - began)
            measured = None if dev is None else measure(model, dev, device=device, amp=amp)
            if measured is not None and not math.isfinite(measured.loss):
                raise diverged(f"the loss on dev became {measured.loss}")
            state.train_seconds += trained - clock
            state.seconds += time.perf_counter() - clock
            state.epoch += 1
            record = {
                "epoch": state.epoch,
                "train_loss": loss_sum.item() / state.seen,
                "documents_per_second": speed,
            }
            if measured is None:
                state.best_epoch = state.epoch
            else:
                record |= {f"dev_{name}": value for name, value in measured.summary().items()}
                if (measured.accuracy, -measured.loss) > tuple(state.best):
                    state.best = (measured.accuracy, -measured.loss)
                    state.best_epoch = state.epoch
                    best_weights = copy.deepcopy(model.state_dict())
            state.history.append(record)
            bar.epoch(record, is_best=state.best_epoch == state.epoch)
            if board:
                board.epoch(model, state.step, record)
            state.batch = state.seen = 0
            state.loss_sum = 0.0
            loss_sum.zero_()
            if stop() and state.epoch < last:
                save()
                raise Interrupted
        save()
    if dev is not None:
        model.load_state_dict(best_weights)
    return state


def mean_loss(
    logits: Float[Tensor, "n c"],
    labels: Int[Tensor, " n"],
    weights: Float[Tensor, " c"] | None = None,
    smoothing: float = 0.0,
) -> Float[Tensor, ""]:
    r"""Cross-entropy of several documents, each with the weight of its own class.

    .. math::
        L = \frac{\sum_i w_{y_i} \ell_i}{\sum_i w_{y_i}}, \qquad
        \ell_i = -(1 - \varepsilon) \log p_{i y_i} - \frac{\varepsilon}{c} \sum_k \log p_{ik}

    Differs from ``F.cross_entropy`` where there are both weights and smoothing: that multiplies
    each class's share of the smoothed target by the class's weight, so that a class a hundred times
    rarer is drawn into every document a hundred times more strongly, and nothing is learned.

    Args:
        logits: Scores.
        labels: True classes; a negative one leaves its row out.
        weights: :math:`w`; None for 1 each.
        smoothing: :math:`\varepsilon`, the share of the target spread over all classes.
    """
    if weights is None or smoothing == 0:
        return F.cross_entropy(logits, labels, weights, label_smoothing=smoothing)
    each = F.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="none")
    share = weights[labels.clamp(min=0)] * (labels >= 0)
    return (share * each).sum() / share.sum()


def _out_of_patience(state: State, patience: int | None) -> bool:
    return patience is not None and state.epoch - state.best_epoch >= patience


def _same_settings(
    checkpoint: Path, saved: dict[str, Any], settings: dict[str, Any] | None
) -> None:
    before = saved.get("settings")
    if before == settings or before is None or settings is None:
        return
    name = next(n for n in [*before, *settings] if before.get(n) != settings.get(n))
    raise UserError(
        f"{checkpoint} was written with {name}={before.get(name)!r}, now it is "
        f"{settings.get(name)!r}: resume with the same settings, or give another --out"
    )


@contextmanager
def _signals() -> Iterator[Callable[[], bool]]:
    """Whether SIGINT or SIGTERM came; a second one ends the process at once.

    An exception in the middle of an update would leave some parameters old and others new, so
    the loop asks between updates instead.
    """
    came: list[int] = []
    old: dict[signal.Signals, Any] = {}

    def note(number: int, frame: FrameType | None) -> None:
        if came:
            raise KeyboardInterrupt
        came.append(number)

    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                old[number] = signal.signal(number, note)
            except ValueError:  # not in the main thread, where signals cannot be caught
                break
        yield lambda: bool(came)
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
