"""Time what the first chapters implement in alternation with torch's layers, autograd and SGD."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, NamedTuple

import torch
import torch.nn.functional as F
import tyro
from rich.table import Table
from torch import Tensor, nn
from torch.nn import Parameter

from dlnotes import optim
from dlnotes.activations import sigmoid, tanh
from dlnotes.arguments import Count, checked
from dlnotes.cli import run
from dlnotes.display import console
from dlnotes.files import check_output, write_json
from dlnotes.foundations.backpropagation import Network
from dlnotes.foundations.perceptron import CORNERS, GATES, Neuron, Perceptron, identity
from dlnotes.foundations.vanishing_gradients import deep_network, losses, task
from dlnotes.training.record import provenance

CHECKED = 8  # updates after which both sides must have computed the same
CHECKED_DEEP = 1  # 20 layers amplify the rounding errors of each update


class Side(NamedTuple):
    """One of the two sides of a comparison.

    Attributes:
        call: Does the work that is timed.
        state: What it changes.
    """

    call: Callable[[], object]
    state: Callable[[], list[Tensor]]


class Case(NamedTuple):
    """What is timed; each call repeats it `times` times."""

    ours: Side
    torch: Side
    times: int


def unit(ours: Neuron, f: Callable[[Tensor], Tensor], updates: int) -> Case:
    """A unit with 20 inputs that is shown one sample after another."""
    inputs, lr = len(ours.w), 0.01
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(updates, inputs, generator=generator)
    y = (x @ torch.randn(inputs, generator=generator) > 0).float()

    layer = nn.Linear(inputs, 1)
    for p in layer.parameters():
        nn.init.zeros_(p)
    optimizer = torch.optim.SGD(layer.parameters(), lr)

    def loss(x: Tensor, y: Tensor) -> Tensor:
        return F.mse_loss(f(layer(x).squeeze(1)), y) / 2

    def learn() -> float:
        for xi, yi in zip(x.unsqueeze(1), y.unsqueeze(1), strict=True):
            optimizer.zero_grad()
            loss(xi, yi).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        with torch.no_grad():
            return loss(x, y).item()

    return Case(
        Side(lambda: ours.learn(x, y, lr, epochs=1), lambda: [ours.w, ours.b]),
        Side(learn, lambda: [layer.weight[0], layer.bias[0]]),
        updates,
    )


def straight_through(z: Tensor) -> Tensor:
    """The step function, whose gradient is passed through unchanged."""
    return (z > 0) + (z - z.detach())


def network(ours: Network, f: Callable[[], nn.Module], x: Tensor, y: Tensor, updates: int) -> Case:
    """Updates of a network, all on the same batch."""
    theirs, lr = sequential(ours, f), 0.1
    labels = y.argmax(1)
    optimizers = (
        optim.GradientDescent(ours.parameters(), lr),
        torch.optim.SGD(theirs.parameters(), lr),
    )

    def by_hand() -> None:
        for _ in range(updates):
            ours.backward(ours.forward(x), y)
            optimizers[0].step()

    def by_autograd() -> None:
        for _ in range(updates):
            optimizers[1].zero_grad()
            output = theirs(x)
            if ours.cross_entropy:
                loss = F.cross_entropy(output, labels)
            else:
                loss = F.mse_loss(output, y, reduction="sum") / (2 * len(y))
            loss.backward()  # type: ignore[no-untyped-call]
            optimizers[1].step()

    return Case(
        Side(by_hand, ours.parameters),
        Side(by_autograd, lambda: list(theirs.parameters())),
        updates,
    )


def sequential(network: Network, f: Callable[[], nn.Module]) -> nn.Sequential:
    """The same layers in torch, with the same weights."""
    layers: list[nn.Module] = []
    for W, b in zip(network.weights, network.biases, strict=True):
        linear = nn.Linear(W.shape[1], W.shape[0])
        linear.weight, linear.bias = Parameter(W.clone()), Parameter(b.clone())
        layers += [linear, f()]
    return nn.Sequential(*(layers[:-1] if network.cross_entropy else layers))


def deep(clip_norm: float | None, updates: int) -> Case:
    """Updates of 20 layers of ReLU on 256 samples, as the chapter's `losses` makes them."""
    ours = deep_network(20, "relu", "he")
    theirs, lr = sequential(ours, nn.ReLU), 0.01

    def train() -> list[float]:
        x, y = task(256)
        labels = y.argmax(1)
        optimizer = torch.optim.SGD(theirs.parameters(), lr)
        history = []
        for _ in range(updates):
            optimizer.zero_grad()
            loss = F.cross_entropy(theirs(x), labels)
            history.append(loss.item())
            loss.backward()  # type: ignore[no-untyped-call]
            if clip_norm is not None:
                nn.utils.clip_grad_norm_(theirs.parameters(), clip_norm)
            optimizer.step()
        return history

    return Case(
        Side(lambda: losses(ours, lr, updates, clip_norm), ours.parameters),
        Side(train, lambda: list(theirs.parameters())),
        updates,
    )


def clipping(
    ours: Callable[[list[Parameter]], object],
    theirs: Callable[[list[Parameter]], object],
    times: int,
) -> Case:
    """Clipping of the gradients of 20 layers, 64 units wide."""

    def side(clip: Callable[[list[Parameter]], object]) -> Side:
        generator = torch.Generator().manual_seed(0)
        params = [Parameter(p) for p in deep_network(20, "relu", "he").parameters()]
        for p in params:
            p.grad = torch.randn(p.shape, generator=generator)

        def call() -> None:
            for _ in range(times):
                clip(params)

        return Side(call, lambda: [p.grad for p in params if p.grad is not None])

    return Case(side(ours), side(theirs), times)


def cases(times: int, deep_times: int | None = None) -> dict[str, Case]:
    """Name → what is timed.

    Args:
        times: Updates in a call.
        deep_times: The same for 20 layers; default: `times`.
    """
    deep_times = deep_times or times
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(32, 784, generator=generator)
    y = torch.eye(10)[torch.randint(10, (32,), generator=generator)]
    small = Network([2, 4, 1], tanh, cross_entropy=False, generator=generator)
    large = Network([784, 100, 10], sigmoid, generator=generator)
    xor = GATES["XOR"].unsqueeze(1)
    ours, theirs = (
        (partial(of.clip_grad_norm_, max_norm=1.0), partial(of.clip_grad_value_, clip_value=0.1))
        for of in (optim, nn.utils)
    )
    return {
        "update of a linear unit": unit(Neuron(20, identity), lambda z: z, times),
        "update of a sigmoid neuron": unit(Neuron(20, sigmoid), torch.sigmoid, times),
        "update of a perceptron": unit(Perceptron(20), straight_through, times),
        "update of a 2-4-1 network on XOR": network(small, nn.Tanh, CORNERS, xor, times),
        "update of a 784-100-10 network": network(large, nn.Sigmoid, x, y, times),
        "update of 20 layers": deep(None, deep_times),
        "update of 20 layers, clipped": deep(1.0, deep_times),
        "clip_grad_norm_": clipping(ours[0], theirs[0], times),
        "clip_grad_value_": clipping(ours[1], theirs[1], times),
    }


def check(name: str, case: Case) -> None:
    """Make both sides work, which must change something, and compare what they have computed."""
    before = [p.detach().clone() for p in case.ours.state()]
    case.ours.call()
    case.torch.call()
    mine = [p.detach() for p in case.ours.state()]
    if all(torch.equal(p, old) for p, old in zip(mine, before, strict=True)):
        raise AssertionError(f"{name}: nothing has changed")
    reference = [p.detach() for p in case.torch.state()]
    torch.testing.assert_close(mine, reference, rtol=1e-4, atol=1e-6, msg=lambda m: f"{name}: {m}")


def measure(case: Case, rounds: int) -> dict[str, float]:
    """Median microseconds of each side, and the median of our time as a multiple of torch's."""
    # With a single thread, the time of other processes is not counted.
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    taken: dict[Side, list[float]] = {case.ours: [], case.torch: []}
    for i in range(rounds):
        # The second of a pair finds the caches as the first left them, so the order alternates.
        for side in (case.ours, case.torch) if i % 2 else (case.torch, case.ours):
            start = clock()
            side.call()
            taken[side].append((clock() - start) / case.times * 1e6)
    ratios = [a / b for a, b in zip(*taken.values(), strict=True)]
    return {
        "ours": statistics.median(taken[case.ours]),
        "torch": statistics.median(taken[case.torch]),
        "ratio": statistics.median(ratios),
    }


@checked
def main(
    times: Count = 20,
    rounds: Count = 200,
    json_file: Annotated[Path | None, tyro.conf.arg(name="json")] = None,
) -> None:
    """Print the time of updates and of clipping in float32, ours and torch's.

    On a machine with other work, set OMP_NUM_THREADS=1: then the CPU time of the thread is
    measured. With more threads, wall time is measured.

    Args:
        times: Updates in a measurement.
        rounds: How often each side is measured, in alternation; the medians are printed.
        json_file: Also write the figures to this file.
    """
    if json_file is not None:
        check_output(json_file)
    table = Table(title=f"Microseconds on {torch.get_num_threads()} threads")
    for heading in ("", "ours", "torch", "ours / torch"):
        table.add_column(heading, justify="right" if heading else "left")
    rows: dict[str, dict[str, float]] = {}
    for name, case in cases(CHECKED, CHECKED_DEEP).items():
        check(name, case)
    for name, case in cases(times).items():
        row = rows[name] = measure(case, rounds)
        table.add_row(name, f"{row['ours']:.1f}", f"{row['torch']:.1f}", f"{row['ratio']:.2f}")
    console().print(table)
    if json_file is not None:
        record = {"times": times, "rounds": rounds, "rows": rows, **provenance(seed=0)}
        write_json(json_file, record)


if __name__ == "__main__":
    run(main)
