"""Training from several seeds at once: every tensor has the seed as a further dimension."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from dlnotes.data.batches import BatchSampler
from dlnotes.data.documents import Documents
from dlnotes.errors import UserError
from dlnotes.nn import PAD, sentences, split_question
from dlnotes.nn.recurrence import written_out
from dlnotes.optim import UpdateRule
from dlnotes.optim.clipping import clip_scale
from dlnotes.training.finite import MAX_WEIGHT
from dlnotes.training.fit import Constrained, check_complete, is_better, out_of_patience
from dlnotes.training.objectives import Hierarchical, SingleLabel
from dlnotes.training.schedule import SCHEDULES, with_warmup
from dlnotes.training.settings import Optimization

# Updates between two checks of the device's progress. On a GPU they are queued, and must last while
# other trainings are served; on a CPU they are already done, and other trainings wait for them.
_QUEUED = {"cpu": 8, "cuda": 64}
# Documents that are scored together: enough to fill a GPU. The hidden states of a whole split for
# all replicas could exceed its memory.
_BLOCK = 512
# Most graphs of an update, for batches from short to long documents: each takes seconds to capture,
# and every further one saves less padding.
_SIZES = 5
_NO_LABEL = -100  # ignored by the objective


@dataclass
class SeedProgress:
    """The progress of the training from one seed; see also `TrainingState`.

    Attributes:
        seed: Seed of the initial weights, the order of the documents and dropout.
        history: One record per epoch.
        best: Dev score and negative dev loss of the best epoch.
        best_epoch: The epoch whose weights are kept, from 1.
        stopped: Why the training ended before the last epoch: patience, hopeless or diverged.
    """

    seed: int
    history: list[dict[str, float]] = field(default_factory=list)
    best: tuple[float, float] = (-math.inf, 0.0)
    best_epoch: int = 0
    stopped: str | None = None


class Size(NamedTuple):
    """Size to which a batch is padded; sentences and words are for models that read sentences."""

    tokens: int
    sentences: int = 0
    words: int = 0


class Seeds:
    """Train replicas of a model, one per seed, as a single training.

    Each replica is trained as `fit` would train it from its seed alone, with its own initial
    weights, order of the documents, gradient norm, best epoch and patience. The results are the
    same up to rounding, except for the random numbers of dropout: these come from a generator per
    replica, so that they do not depend on the other replicas.

    On a CUDA device, an update is captured in a CUDA graph, once for each of a few sizes of
    batches, and replayed, so that an update of small models takes as long as its kernels and not as
    long as Python. While the device works, `run` yields, so that one thread can keep several
    trainings going, each on its own stream.

    Args:
        models: One untrained model per seed. Each ends with the weights of its best epoch.
        seeds: Seeds of the order of the documents and of dropout; one per model.
        objective: What the models are trained for.
        train: Training documents.
        dev: Documents on which the best epoch is chosen.
        training: How to train; its `seed` is not used.
        device: Where to compute.
        bucket: See `BatchSampler`.
        keep: For an epoch, how many replicas continue after it: those that are best on `dev` so
            far. The others are stopped as hopeless.
        graph: Capture updates in CUDA graphs; default: on a CUDA device.

    Raises:
        UserError: Mixed precision, compilation, micro-batches, sparse gradients, a hierarchical
            output or torch before 2.7, with which seeds can only be trained one by one; settings
            that are left to a recipe.
    """

    def __init__(
        self,
        models: Sequence[nn.Module],
        seeds: Sequence[int],
        objective: SingleLabel,
        train: Documents,
        dev: Documents,
        training: Optimization,
        *,
        device: torch.device | str = "cpu",
        bucket: int = 50,
        keep: Mapping[int, int] | None = None,
        graph: bool | None = None,
    ) -> None:
        _check(models, seeds, objective, training)
        self.device = torch.device(device)
        self.models, self.training, self.keep = list(models), training, dict(keep or {})
        self.objective = objective.to(self.device)
        self.graph = self.device.type == "cuda" if graph is None else graph
        self.model: Any = _template(models[0], self._dropped).to(self.device)
        self.train, self.dev = (_Split(d, models[0], self.device) for d in (train, dev))
        self.samplers = [
            BatchSampler(train.lengths, training.batch_size, seed=seed, bucket=bucket)
            for seed in seeds
        ]
        self.batches = len(self.samplers[0])
        self.replicas = [SeedProgress(seed) for seed in seeds]
        self.generators = [torch.Generator(self.device).manual_seed(seed) for seed in seeds]
        self.epoch, self.seconds = 0, 0.0
        self.shapes = {name: p.shape for name, p in models[0].named_parameters()}
        start = torch.stack([parameters_to_vector(m.parameters()).detach() for m in models])
        self.best: Float[Tensor, "r p"] = start.to(self.device)
        steps = training.epochs * self.batches
        schedule = with_warmup(SCHEDULES[training.schedule], training.warmup)
        self.rates = torch.tensor(
            [training.lr * schedule(step, steps) for step in range(steps)], dtype=torch.float64
        ).to(self.device)
        self.done = torch.zeros(1, dtype=torch.long, device=self.device)  # updates
        self.at = torch.zeros(1, dtype=torch.long, device=self.device)  # the same in the epoch
        self.sizes = self._sizes()
        self.given: Iterator[Tensor] | None = None
        self.dropouts: list[tuple[float, torch.Size]] = []  # share and shape of each
        self._find_dropouts()
        self._stack(list(range(len(seeds))), self.best.clone(), None)

    def _stack(
        self, members: list[int], theta: Float[Tensor, "r p"], accumulated: list[Tensor] | None
    ) -> None:
        """Continue with these replicas: theta has all their parameters, a row per replica."""
        self.members, r = members, len(members)
        self.theta = theta.requires_grad_()
        self.rule = cast(UpdateRule, self.training.make_optimizer([self.theta]))
        self.hyper = {
            name: value
            for name, value in self.rule.param_groups[0].items()
            if name in self.rule.kernel_names() and name != "lr"
        }
        if accumulated is None:
            accumulated = [torch.zeros_like(theta) for _ in self.rule.accumulators]
        self.accumulated = accumulated
        self.loss_sum = torch.zeros(r, device=self.device, dtype=theta.dtype)
        b = self.samplers[0].batch_size
        self.order = torch.zeros(self.batches, r, b, dtype=torch.long, device=self.device)
        self.figures = torch.zeros(r, 2, dtype=torch.float64, device=self.device)
        self.graphs: dict[Any, torch.cuda.CUDAGraph] = {}
        self.pool: Any = None
        self.warm: set[Any] = set()
        self.masks = [torch.empty(r, *shape, device=self.device) for _, shape in self.dropouts]

    @property
    def alive(self) -> list[int]:
        """The replicas that are still trained."""
        return [i for i, replica in enumerate(self.replicas) if replica.stopped is None]

    def run(self) -> Iterator[None]:
        """Train to the end, and give the models the weights of their best epochs.

        Yields:
            None, whenever the device has enough work queued.
        """
        while self.epoch < self.training.epochs and self.alive:
            yield from self.run_epoch()
        self.load_best()

    def load_best(self) -> None:
        """Give the models the weights of their best epochs so far."""
        for model, weights in zip(self.models, self.best, strict=True):
            own = next(model.parameters())
            vector_to_parameters(weights.to(own.device, copy=True), model.parameters())

    def state_dict(self) -> dict[str, Any]:
        """The state that is needed to continue after an epoch; on a CPU, bit for bit."""
        return {
            "epoch": self.epoch,
            "seconds": self.seconds,
            "members": self.members,
            "theta": self.theta.detach(),
            "accumulated": self.accumulated,
            "done": self.done,
            "best": self.best,
            "replicas": [asdict(replica) for replica in self.replicas],
            "generators": [generator.get_state() for generator in self.generators],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from the state of a training with the same seeds, settings and documents.

        Args:
            state: The result of `state_dict`.
        """
        self.epoch, self.seconds = state["epoch"], state["seconds"]
        self.best = state["best"].to(self.device)
        self.done.copy_(state["done"])
        self.replicas = [SeedProgress(**replica) for replica in state["replicas"]]
        for generator, bits in zip(self.generators, state["generators"], strict=True):
            generator.set_state(bits)
        accumulated = [a.to(self.device) for a in state["accumulated"]]
        self._stack(list(state["members"]), state["theta"].to(self.device), accumulated)

    def run_epoch(self) -> Iterator[None]:
        """Train for an epoch, evaluate on dev, and decide which replicas continue.

        Yields:
            None, whenever the device has enough work queued. The epoch ends with the iterator.
        """
        began = time.perf_counter()
        orders = [self.samplers[i].epoch(self.epoch) for i in self.members]
        table = np.full(self.order.shape, -1, np.int64)
        for r, batches in enumerate(orders):
            for k, batch in enumerate(batches):
                table[k, r, : len(batch)] = batch
        self.order.copy_(torch.from_numpy(table))
        needed = np.where(table < 0, 0, self.train.needs[table]).max(axis=(1, 2))
        self.at.zero_()
        self.loss_sum.zero_()
        waiting = _Waiting(self.device)
        for k, need in enumerate(needed.tolist()):
            self._do(self._update, next(s for n, s in self.sizes.items() if n >= need))
            if (k + 1) % _QUEUED.get(self.device.type, 8) == 0:
                yield from waiting.for_the_last_but_one()
        self._do(self._measure, "dev")
        rows = torch.cat([self.figures, self.loss_sum.double().unsqueeze(1)], dim=1)
        worst = self.theta.detach().abs().amax(1, keepdim=True).double()
        rows = torch.cat([rows, worst], dim=1).to("cpu", non_blocking=True)
        yield from waiting.for_all()
        self.epoch += 1
        self._note(rows.tolist(), len(self.train.labels))
        self.seconds += time.perf_counter() - began

    def _note(self, rows: list[list[float]], documents: int) -> None:
        """Record an epoch; keep the best weights; stop replicas."""
        for r, (i, (accuracy, dev_loss, loss_sum, largest)) in enumerate(
            zip(self.members, rows, strict=True)
        ):
            replica = self.replicas[i]
            if replica.stopped:
                continue
            loss = loss_sum / documents
            if not (math.isfinite(loss) and math.isfinite(dev_loss) and largest <= MAX_WEIGHT):
                replica.stopped = "diverged"
                continue
            replica.history.append(
                {
                    "epoch": self.epoch,
                    "train_loss": loss,
                    "dev_loss": dev_loss,
                    "dev_accuracy": accuracy,
                }
            )
            if is_better(accuracy, dev_loss, replica.best):
                replica.best, replica.best_epoch = (accuracy, -dev_loss), self.epoch
                self.best[i] = self.theta.detach()[r]
            if out_of_patience(self.epoch, replica.best_epoch, self.training.patience):
                replica.stopped = "patience"
        if (most := self.keep.get(self.epoch)) is not None:
            ranked = sorted(self.alive, key=lambda i: self.replicas[i].best, reverse=True)
            for i in ranked[most:]:
                self.replicas[i].stopped = "hopeless"
        # New graphs take seconds to capture, which pays only if many replicas have stopped.
        alive = self.alive
        if alive and 4 * len(alive) <= 3 * len(self.members):
            rows_left = torch.tensor([self.members.index(i) for i in alive], device=self.device)
            self._stack(
                alive,
                self.theta.detach()[rows_left],
                [a[rows_left] for a in self.accumulated],
            )

    def evaluate(self, documents: Documents) -> list[tuple[float, float]]:
        """Measure the best epoch of each replica on some documents, without dropout.

        Args:
            documents: At least one, with labels.

        Returns:
            For each replica the share of documents classified correctly, from 0 to 1, and the mean
            cross-entropy in nats.
        """
        split = _Split(documents, self.models[0], self.device)
        accuracy_and_loss = self._figures(self.best, split).tolist()
        return [(accuracy, loss) for accuracy, loss in accuracy_and_loss]

    # The work of the device

    def _do(self, work: Any, size: Any) -> None:
        """Call `work`: directly the first time, by a graph of its kernels from then on."""
        if work == self._update:
            self._draw_masks()
        key = (work.__name__, size)
        if not self.graph or key not in self.warm:
            self.warm.add(key)  # the first call may allocate what cannot be captured
            work(size)
            return
        if key not in self.graphs:
            # Captured on the training's own stream: matrix products have a workspace per stream,
            # which graphs that are replayed at the same time must not share.
            stream = torch.cuda.current_stream(self.device)
            on_default = stream == torch.cuda.default_stream(self.device)  # cannot be captured
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self.pool, stream=None if on_default else stream):
                work(size)
            self.pool = self.pool or graph.pool()
            self.graphs[key] = graph
        self.graphs[key].replay()

    def _update(self, size: Size) -> None:
        """Update all replicas by the batches in row `at` of `order`."""
        i = self.order.index_select(0, self.at).squeeze(0)  # r b
        missing = i < 0
        i = i.clamp(min=0)
        tokens = self.train.tokens[:, : size.tokens][i]  # r b t
        labels = self.train.labels[i].masked_fill(missing, _NO_LABEL)  # r b
        self._fit_to(size)
        self.model.train()
        losses = vmap(self._loss)(self._parameters(self.theta), list(self.masks), tokens, labels)
        (g,) = torch.autograd.grad(losses.sum(), self.theta)
        with torch.no_grad():
            self.loss_sum += losses.detach() * (~missing).sum(dim=1)
            if (limit := self.training.clip_norm) is not None:
                norm = torch.linalg.vector_norm(g, dim=1, keepdim=True)  # r 1
                g = g * clip_scale(norm, limit)
            hyper = {**self.hyper, "lr": self.rates.index_select(0, self.done).squeeze(0)}
            self.done += 1
            if "t" in self.rule.hyper_names():
                hyper["t"] = self.done.double().squeeze(0)
            new = self.rule.update(self.theta, g, *self.accumulated, **hyper)
            for old, x in zip((self.theta, *self.accumulated), new, strict=True):
                old.copy_(x)
            if isinstance(self.model, Constrained):
                constrained = _Constraint(self.model)
                named = {f"model.{n}": p for n, p in self._parameters(self.theta).items()}
                vmap(lambda p: functional_call(constrained, p, ()))(named)
            self.at += 1

    def _loss(
        self,
        parameters: dict[str, Tensor],
        masks: list[Tensor],
        tokens: Int[Tensor, "b t"],
        labels: Int[Tensor, " b"],
    ) -> Float[Tensor, ""]:
        """Loss of one replica."""
        self.given = iter(masks)
        scores = functional_call(self.model, parameters, (tokens,))
        return self.objective.loss(scores, labels)

    def _measure(self, _: str) -> None:
        """Figures on dev."""
        self.figures.copy_(self._figures(self.theta, self.dev))

    @torch.no_grad()
    def _figures(self, theta: Float[Tensor, "r p"], split: _Split) -> Float[Tensor, "r 2"]:
        """Accuracy and mean loss of each replica, without dropout."""
        self.model.eval()
        sums = torch.zeros(len(theta), 2, dtype=torch.float64, device=self.device)
        parameters = self._parameters(theta)
        for size, documents in split.blocks:
            tokens, labels = split.tokens[documents, : size.tokens], split.labels[documents]
            self._fit_to(size)
            scores = vmap(lambda p, x: functional_call(self.model, p, (x,)), in_dims=(0, None))(
                parameters, tokens
            ).float()  # r n c
            expected = labels.expand(len(theta), -1)
            loss = F.cross_entropy(scores.transpose(1, 2), expected, reduction="none")
            right = scores.argmax(2) == expected
            sums += torch.stack([right.double().sum(1), loss.double().sum(1)], dim=1)
        return sums / len(split.labels)

    def _parameters(self, theta: Float[Tensor, "r p"]) -> dict[str, Tensor]:
        """The parameters of all replicas by name."""
        parts = theta.split([shape.numel() for shape in self.shapes.values()], dim=1)
        return {
            name: part.view(len(theta), *shape)
            for (name, shape), part in zip(self.shapes.items(), parts, strict=True)
        }

    def _fit_to(self, size: Size) -> None:
        if size.sentences:
            self.model.max_sentences, self.model.max_words = size.sentences, size.words

    def _sizes(self) -> dict[int, Size]:
        """A few sizes, by the need that each covers; chosen by the batches of the first epoch."""
        needs = self.train.needs
        orders = [sampler.epoch(0) for sampler in self.samplers]
        needed = [max(needs[b].max() for b in step) for step in zip(*orders, strict=True)]
        shares = np.linspace(0, 100, _SIZES + 1)[1:-1]
        enough = {*np.percentile(needed, shares, method="higher").tolist(), int(needs.max())}
        return {n: self.train.size(n) for n in sorted(enough)}

    # Dropout

    def _dropped(self, module: nn.Dropout, x: Tensor) -> Tensor:
        """Dropout by a mask that was drawn before, cut to the shape of `x`."""
        if not module.training or module.p == 0:
            return x
        if self.given is None:
            self.dropouts.append((module.p, x.shape))
            return x
        mask = next(self.given)[tuple(slice(n) for n in x.shape)]
        return x * mask / (1 - module.p)

    def _find_dropouts(self) -> None:
        """Call the model once, to record the share and the shape of each dropout."""
        size = self.sizes[max(self.sizes)]
        b = self.samplers[0].batch_size
        tokens = self.train.tokens[:1, : size.tokens].expand(b, -1)
        self._fit_to(size)
        self.model.train()
        with torch.no_grad():
            self.model(tokens)

    def _draw_masks(self) -> None:
        for (share, _), mask in zip(self.dropouts, self.masks, strict=True):
            for i, row in zip(self.members, mask, strict=True):
                row.bernoulli_(1 - share, generator=self.generators[i])


class _Split:
    """Documents on a device, and the size that a batch needs to hold each."""

    def __init__(self, documents: Documents, model: Any, device: torch.device) -> None:
        tokens, labels = documents.batch(np.arange(len(documents)))
        self.lengths = self.needs = documents.lengths
        self.words = 0
        if hasattr(model, "max_sentences"):
            story, question = split_question(tokens, max_words=model.max_words, data_dependent=True)
            grid = sentences(
                story,
                max_sentences=model.max_sentences,
                max_words=model.max_words,
                data_dependent=True,
            )
            self.needs = (grid.words != PAD).any(2).sum(1).clamp(min=1).numpy()
            self.words = max(grid.words.shape[2], question.shape[1])
        self.tokens, self.labels = tokens.to(device), labels.to(device)
        order = np.argsort(self.needs, kind="stable")
        self.blocks = [
            (self.size(int(self.needs[part].max())), torch.from_numpy(part).to(device))
            for part in np.split(order, np.arange(_BLOCK, len(order), _BLOCK))
        ]

    def size(self, need: int) -> Size:
        """The size of a batch that can hold all documents with at most this need."""
        tokens = int(self.lengths[self.needs <= need].max(initial=1))
        return Size(tokens, need, self.words) if self.words else Size(tokens)


class _Waiting:
    """Waits for a device by yielding."""

    def __init__(self, device: torch.device) -> None:
        self.cuda = device.type == "cuda"
        self.events: list[Any] = []

    def for_the_last_but_one(self) -> Iterator[None]:
        """Wait for all work but the last part, so that the device always has work queued."""
        self._mark()
        yield from self._until(1)

    def for_all(self) -> Iterator[None]:
        """Wait until all work is done."""
        self._mark()
        yield from self._until(0)

    def _mark(self) -> None:
        if self.cuda:
            event = torch.cuda.Event()
            event.record()
            self.events.append(event)

    def _until(self, left: int) -> Iterator[None]:
        yield
        while len(self.events) > left:
            if self.events[0].query():
                del self.events[0]
            else:
                yield


class _Constraint(nn.Module):
    """Brings a model's weights back into their bounds when called."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self) -> Tensor:
        self.model.constrain_()
        first: Tensor = next(self.model.parameters())
        return first  # vmap requires a tensor as result


def _check(
    models: Sequence[nn.Module], seeds: Sequence[int], objective: SingleLabel, training: Any
) -> None:
    # Older versions cannot vmap the backward of an autograd.Function.
    if tuple(map(int, torch.__version__.split(".")[:2])) < (2, 7):
        raise UserError(f"several seeds at once need torch 2.7 or newer, not {torch.__version__}")
    if not seeds or len(models) != len(seeds):
        raise UserError(f"there must be a model per seed, not {len(models)} for {len(seeds)} seeds")
    if isinstance(objective, Hierarchical):
        raise UserError("a hierarchical output cannot be trained from several seeds at once")
    check_complete("training", training, "optimizer", "lr")
    for name in ("amp", "compile"):
        if getattr(training, name):
            raise UserError(f"{name} cannot be used for several seeds at once")
    if training.micro_batch_size is not None:
        raise UserError("micro_batch_size cannot be used for several seeds at once")
    if any(getattr(module, "sparse", False) for module in models[0].modules()):
        raise UserError("sparse gradients cannot be used for several seeds at once: sparse=False")


def _template(model: nn.Module, dropped: Any) -> Any:
    """A copy whose forward can be vmapped over stacked weights and captured in a CUDA graph."""

    def written(cell: Any, x: Tensor) -> tuple[Tensor, None]:
        return written_out(cell, x, fused=True), None

    template: Any = copy.deepcopy(model)
    if hasattr(template, "data_dependent"):
        template.data_dependent = False
    for module in template.modules():
        if hasattr(module, "fused"):
            module.fused = True
        if isinstance(module, nn.RNNBase):
            vars(module)["forward"] = partial(written, module)
        elif isinstance(module, nn.Dropout):
            vars(module)["forward"] = partial(dropped, module)
    return template
