"""Time our rules and models beside torch's on a GPU, and count how often training waits for it.

`make gpu` records all of it.
"""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import Parameter
from torch.nn import functional as F

import bench_models
import bench_optimizers
from dlnotes.arguments import Count, OneOf, check_names, checked
from dlnotes.cli import run
from dlnotes.data.documents import Batch
from dlnotes.files import check_output, write_json
from dlnotes.models import MODELS
from dlnotes.nn import PAD, QUESTION, SENTENCE_END
from dlnotes.optim import Adam
from dlnotes.training.compiling import compiled, sparse_look_ups_not_compiled
from dlnotes.training.device import choose_device
from dlnotes.training.fit import Fitting, fit
from dlnotes.training.objectives import Hierarchical, SingleLabel
from dlnotes.training.record import provenance
from dlnotes.training.transfer import send_tokens
from ordinary.examples import sentences, story_and_question
from ordinary.training import longest, padded

Row = dict[str, Any]


def seconds(work: Callable[[], None], device: torch.device) -> float:
    """Seconds of a call, until the device has finished its work."""
    wait(device)
    start = time.perf_counter()
    work()
    wait(device)
    return time.perf_counter() - start


def wait(device: torch.device) -> None:
    """Wait until the device has finished all of its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def medians(
    contestants: dict[str, Callable[[], None]], turns: int, device: torch.device
) -> dict[str, float]:
    """Median seconds of each, measured in alternation after two rounds of warm-up."""
    taken: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(turns + 2):
        for name, work in contestants.items():
            took = seconds(work, device)
            if turn >= 2:
                taken[name].append(took)
    return {name: statistics.median(times) for name, times in taken.items()}


def step(model: str, name: str, turns: int, device: torch.device) -> Row:
    """A step of one rule on parameters of `bench_optimizers`."""
    params = []
    for p in bench_optimizers.parameters(model, name):
        assert p.grad is not None
        params.append(Parameter(p.detach().to(device)))
        params[-1].grad = p.grad.to(device)
    optimizers = bench_optimizers.timed_contestants(name, params, model)
    for kind, optimizer in list(optimizers.items()):
        try:
            bench_optimizers.step_and_check(optimizer, params)
        except RuntimeError:  # torch has no fused Adagrad for CUDA, and says so in the first step
            if kind != "fused":
                raise
            del optimizers[kind]
    steps = bench_optimizers.STEPS[model]

    def of(optimizer: torch.optim.Optimizer) -> Callable[[], None]:
        def work() -> None:
            for _ in range(steps):
                optimizer.step()

        return work

    found = medians({kind: of(o) for kind, o in optimizers.items()}, turns, device)
    for optimizer in optimizers.values():
        bench_optimizers.step_and_check(optimizer, params)
    milliseconds = {kind: s / steps * 1e3 for kind, s in found.items()}
    beside = bench_optimizers.opponent(name, model)
    return {"model": model, "rule": name, "beside": beside, "milliseconds": milliseconds}


def scored(model: nn.Module, *inputs: Tensor) -> Tensor:
    """The outputs of a model."""
    scores: Tensor = model(*inputs)
    return scores


@dataclass
class Trainee:
    """A model, its optimizer and its batches on the device.

    Attributes:
        model: The model.
        optimizer: Its optimizer.
        batches: Inputs and labels.
        device: The device of both.
        amp: Whether to compute in bf16 autocast.
        forward: The model, or its compiled form.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    batches: list[tuple[list[Tensor], Tensor]]
    device: torch.device
    amp: bool = False
    forward: Callable[..., Tensor] = scored

    def train(self) -> None:
        """An update for each batch."""
        self.model.train()
        for inputs, labels in self.batches:
            self.optimizer.zero_grad(set_to_none=True)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.amp):
                scores = self.forward(self.model, *inputs)
            loss: Any = F.cross_entropy(scores.float(), labels)
            loss.backward()
            self.optimizer.step()

    @torch.no_grad()
    def loss(self) -> float:
        """Mean loss of the batches without dropout."""
        self.model.eval()
        losses = [F.cross_entropy(self.model(*x), y) for x, y in self.batches]
        return torch.stack(losses).mean().item()


VOCABULARY, CLASSES = 10_000, 6


def documents(case: bench_models.Case, batches: int, size: int) -> list[list[list[int]]]:
    """Generated documents, in batches of similar length; each class has its own words."""
    generator = torch.Generator().manual_seed(0)
    story = case.lists is story_and_question
    marked = case.lists in (sentences, story_and_question)
    low, high = (60, 360) if case.corpus == "imdb" else (30, 60) if story else (6, 24)
    lengths = torch.randint(low, high, (batches * size,), generator=generator).tolist()
    made = []
    for i, n in enumerate(sorted(lengths)):
        ids = torch.randint(4 + CLASSES, VOCABULARY, (n,), generator=generator).tolist()
        ids[::3] = [4 + i % CLASSES] * len(ids[::3])
        if marked:
            ids[7::8] = [SENTENCE_END] * len(ids[7::8])
        if story:
            ids[-5] = QUESTION
        made.append(ids)
    return [made[i : i + size] for i in range(0, len(made), size)]


def tensors(
    items: list[tuple[Any, ...]], labels: Iterable[int], device: torch.device, model: nn.Module
) -> tuple[list[Tensor], Tensor]:
    """The padded inputs of a batch, with what the model prepares of them, and its labels."""
    inputs = [
        send_tokens(torch.tensor([padded(item, longest(part)) for item in part]), device, model)
        for part in zip(*items, strict=True)
    ]
    return inputs, torch.tensor(list(labels)).to(device)


COMPILED = ("fasttext", "textcnn", "transformer")
"""Models that torch.compile can make one graph of, for batches of any shape."""


def training(
    name: str,
    turns: int,
    device: torch.device,
    batches: int,
    larger: int,
    amp: bool,
    compile: bool = False,
) -> Row:
    """Updates of our model and of the same model made of torch's layers, on the same batches."""
    with ExitStack() as stack:
        return _training(name, turns, device, batches, larger, amp, compile, stack)


def _training(
    name: str,
    turns: int,
    device: torch.device,
    batches: int,
    larger: int,
    amp: bool,
    compile: bool,
    stack: ExitStack,
) -> Row:
    case = bench_models.CASES[name]
    size = case.batch_size * larger
    pieces = documents(case, batches, size)
    torch.manual_seed(0)
    sizes = {"vocabulary_size": VOCABULARY, "num_classes": CLASSES}
    alike = {key: x for key, x in case.settings.items() if key not in case.ours_alone}
    made: dict[str, Trainee] = {}
    for side in bench_models.SIDES:
        mine = side == "ours"
        model = MODELS[name](**sizes, **case.settings) if mine else case.ordinary(**sizes, **alike)
        model.to(device)
        optimizer = (Adam if mine else torch.optim.Adam)(model.parameters(), lr=case.lr)
        inputs = [
            [(ids,) if mine else case.lists(ids, case.settings, VOCABULARY) for ids in piece]
            for piece in pieces
        ]
        labels = [[(k * size + i) % CLASSES for i in range(size)] for k in range(batches)]
        data = [tensors(x, y, device, model) for x, y in zip(inputs, labels, strict=True)]
        forward = scored
        if compile:
            torch.compiler.reset()
            forward = compiled(scored, device)
            stack.enter_context(sparse_look_ups_not_compiled(model))
        made[side] = Trainee(model, optimizer, data, device, amp, forward)
    before = {side: trainee.loss() for side, trainee in made.items()}
    found = medians({side: t.train for side, t in made.items()}, turns, device)
    after = {side: trainee.loss() for side, trainee in made.items()}
    for side, loss in after.items():
        if not loss < before[side]:
            raise RuntimeError(f"{side} {name} learned nothing: {before[side]:.3f} to {loss:.3f}")
    speeds = {side: batches * size / took for side, took in found.items()}
    return {
        "model": name,
        "batch_size": size,
        "amp": amp,
        "compile": compile,
        "settings": case.settings,
        "documents_per_second": speeds,
        "ratio": speeds["ours"] / speeds["ordinary"],
        "loss": after,
    }


class Generated:
    """Generated documents as `fit` takes them, with labels.

    Args:
        pieces: The documents; the label of each is its number in its piece, modulo `CLASSES`.
    """

    def __init__(self, pieces: list[list[list[int]]]) -> None:
        self._documents = [ids for piece in pieces for ids in piece]
        labels = [i % CLASSES for piece in pieces for i in range(len(piece))]
        self._labels = torch.tensor(labels)
        self.lengths = np.array(list(map(len, self._documents)), np.int64)

    def __len__(self) -> int:
        return len(self._documents)

    def batch(self, indices: NDArray[np.int64]) -> Batch:
        """Some of them, padded."""
        chosen = [self._documents[i] for i in indices]
        width = max(map(len, chosen))
        tokens = torch.tensor([ids + [PAD] * (width - len(ids)) for ids in chosen])
        return Batch(tokens, self._labels[torch.from_numpy(indices)])


UPDATES = 100


def waiting(name: str, device: torch.device, updates: int, amp: bool) -> Row:
    """How often `fit` waits for CUDA in a number of updates of a model, and how fast it is.

    Both are differences between a training of twice as many updates and one of as many, so that
    what is done once per training does not count. A short training goes ahead, so that what is
    done once per process does not count either. On a CPU there is nothing to wait for.
    """
    trained(name, device, 2, amp)
    few, many = (trained(name, device, n, amp) for n in (updates, 2 * updates))
    batch_size = bench_models.CASES[name].batch_size
    return {
        "model": name,
        "batch_size": batch_size,
        "amp": amp,
        "updates": updates,
        "waits": many[0] - few[0] if device.type == "cuda" else None,
        "documents_per_second": {"fit": updates * batch_size / (many[1] - few[1])},
    }


def trained(name: str, device: torch.device, updates: int, amp: bool) -> tuple[int, float]:
    """Number of waits for CUDA, from torch's warnings, and seconds of a training of one epoch."""
    case = bench_models.CASES[name]
    torch.manual_seed(0)
    sizes = {"vocabulary_size": VOCABULARY, "num_classes": CLASSES}
    model = MODELS[name](**sizes, **case.settings).to(device)
    before = [p.detach().clone() for p in model.parameters()]
    objective = Hierarchical() if Hierarchical.suits(model) else SingleLabel()
    examples = Generated(documents(case, updates, case.batch_size))
    optimizer = Adam(model.parameters(), lr=case.lr)
    fitting = Fitting(epochs=1, batch_size=case.batch_size, amp=amp)

    def train() -> None:
        where: Any = {"device": device, "progress": False}
        state = fit(model, optimizer, objective, examples, None, fitting, **where)
        assert state.step == updates

    cuda = device.type == "cuda"
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        if cuda:
            torch.cuda.set_sync_debug_mode("warn")
        try:
            took = seconds(train, device)
        finally:
            if cuda:
                torch.cuda.set_sync_debug_mode("default")
    if all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True)):
        raise RuntimeError(f"{name} learned nothing")
    return sum("synchronizing CUDA operation" in str(w.message) for w in told), took


@checked
def main(
    part: Annotated[str, OneOf(("optimizers", "models", "waits"))],
    /,
    json: Path,
    device: str = "cuda",
    turns: Count = 15,
    rules: tuple[str, ...] = tuple(bench_optimizers.RULES),
    models: tuple[str, ...] = tuple(bench_models.CASES),
    shapes: tuple[str, ...] = tuple(bench_optimizers.MODELS),
    batches: Count = 8,
    larger: tuple[int, ...] = (1, 8),
    compile: bool = True,
    updates: Count = UPDATES,
) -> None:
    """Print and record times on a device, row by row, so that an interruption loses only one row.

    Args:
        part: optimizers, models or waits.
        json: File to which all rows are written after each one.
        device: auto, cpu, cuda, cuda:1 (and so on).
        turns: Number of measurements of each; figures are their medians.
        rules: With optimizers: the rules to time, ours against torch's default, foreach and fused.
        models: With models: the models to time, against ordinary ones with torch's Adam.
        shapes: With optimizers: the parameters, as in bench_optimizers.
        batches: With models: batches of a measurement.
        larger: With models: how many times larger the batches are than on a CPU.
        compile: With models: whether to time some of them compiled, at the end; it takes a minute
            each.
        updates: With waits: the number of updates in which they are counted.
    """
    check_names("the benchmark", "rule", rules, bench_optimizers.RULES)
    check_names("the benchmark", "model", models, bench_models.CASES)
    check_names("the benchmark", "shape", shapes, bench_optimizers.MODELS)
    check_output(json)
    where = choose_device(device)
    jobs: list[Callable[[], Row]] = []
    if part == "optimizers":
        for shape in shapes:
            for name in rules:
                if bench_optimizers.shapes(shape, name):
                    jobs.append(lambda s=shape, n=name: step(s, n, turns, where))  # type: ignore[misc]
    elif part == "waits":
        for name in models:
            jobs.append(lambda n=name: waiting(n, where, updates, where.type == "cuda"))  # type: ignore[misc]
    else:
        for factor in larger:
            for amp in (False, True):
                for name in models:
                    jobs.append(
                        lambda n=name, k=factor, a=amp: training(n, turns, where, batches, k, a)  # type: ignore[misc]
                    )
        for name in COMPILED if compile else ():
            if name in models:
                jobs.append(
                    lambda n=name: training(n, turns, where, batches, max(larger), True, True)  # type: ignore[misc]
                )
    rows: list[Row] = []
    for job in jobs:
        row = job()
        rows.append(row)
        write_json(json, {**provenance(0), "turns": turns, "rows": rows})
        found = row.get("milliseconds") or row["documents_per_second"]
        unit = "ms" if "milliseconds" in row else "docs/s"
        name = " ".join(str(row[key]) for key in ("model", "rule", "batch_size") if key in row)
        figures = ", ".join(f"{kind} {x:,.4g}" for kind, x in found.items())
        name += " bf16" * bool(row.get("amp")) + " compiled" * bool(row.get("compile"))
        if "waits" in row:
            figures = f"{row['waits']} waits in {row['updates']} updates, {figures}"
        print(f"{name}: {figures} {unit}", flush=True)


if __name__ == "__main__":
    run(main)
