"""Training speed on a machine whose cores are busy, depending on how torch's threads wait."""

from __future__ import annotations

import itertools
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

import bench_models
from bench_gpu import CLASSES, VOCABULARY, Trainee, documents, tensors
from dlnotes import threads
from dlnotes.arguments import Count, Positive, check_names, checked
from dlnotes.cli import run
from dlnotes.display import console
from dlnotes.errors import UserError
from dlnotes.files import check_output, write_json
from dlnotes.models import MODELS
from dlnotes.optim import Adam
from dlnotes.training.record import provenance

WAITING: dict[str, dict[str, str]] = {
    "one thread": {"OMP_NUM_THREADS": "1"},
    "in a loop": {"GOMP_SPINCOUNT": "300000"},
    "asleep": {"OMP_WAIT_POLICY": "passive"},
    "as it suits": {},
}
"""How threads wait: OpenMP's default is a loop; the commands decide by what else is running."""
BARS = {"busy": ("one thread", 0.7), "quiet": ("in a loop", 0.95)}
"""In each situation, what threads that wait as it suits must reach, and how much of it."""
PROGRAM = """
from dlnotes.threads import configure
configure()  # before torch is imported
import sys
from bench_busy import measure
measure(sys.argv[1], float(sys.argv[2]))
"""


def measure(model: str, seconds: float) -> None:
    """Print documents per second of a training in this process."""
    case, cpu = bench_models.CASES[model], torch.device("cpu")
    torch.manual_seed(0)
    network = MODELS[model](vocabulary_size=VOCABULARY, num_classes=CLASSES, **case.settings)
    labels = [i % CLASSES for i in range(case.batch_size)]
    batches = [
        tensors([(ids,) for ids in piece], labels, cpu, network)
        for piece in documents(case, 8, case.batch_size)
    ]
    optimizer = Adam(network.parameters(), lr=case.lr)
    Trainee(network, optimizer, batches[:2], cpu).train()
    done, start = 0, time.perf_counter()
    for batch in itertools.cycle(batches):
        Trainee(network, optimizer, [batch], cpu).train()
        done += case.batch_size
        if (taken := time.perf_counter() - start) >= seconds:
            print(done / taken)
            return


@contextmanager
def others(number: int) -> Iterator[None]:
    """Programs that do nothing but keep a core busy."""
    running = [subprocess.Popen([sys.executable, "-c", "while 1: pass"]) for _ in range(number)]
    try:
        yield
    finally:
        for program in running:
            program.kill()
            program.wait()


def speed(model: str, waiting: str, seconds: float) -> float:
    """Documents per second in a process of its own: OpenMP reads its environment once."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, model, str(seconds)],
        cwd=Path(__file__).parent,
        env=clean | WAITING[waiting],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise UserError(f"{model}: {(done.stderr.strip().splitlines() or ['it failed'])[-1]}")
    return float(done.stdout)


@checked
def main(
    json: Path | None = None,
    models: tuple[str, ...] = tuple(bench_models.CASES),
    situations: tuple[str, ...] = tuple(BARS),
    turns: Count = 5,
    seconds: Positive = 3.0,
) -> None:
    """Print documents per second of each model, on a quiet machine and on a busy one.

    The ways of waiting are measured in alternation; figures are medians. On the busy machine, each
    core also runs a program that never waits.

    Args:
        json: Also write all figures to this file.
        models: The models to train.
        situations: quiet or busy.
        turns: Number of measurements of each.
        seconds: Duration of a measurement.
    """
    check_names("the benchmark", "model", models, bench_models.CASES)
    check_names("the benchmark", "situation", situations, BARS)
    if json:
        check_output(json)
    cores = threads.cpu_limit()
    record: dict[str, Any] = {**provenance(0), "turns": turns, "cores": cores, "rows": []}
    for situation in situations:
        rival, least = BARS[situation]
        table = Table(title=f"{situation}: documents per second")
        for heading in ("model", *WAITING, f"as it suits / {rival}"):
            table.add_column(heading, justify="left" if heading == "model" else "right")
        for model in models:
            found: dict[str, list[float]] = {waiting: [] for waiting in WAITING}
            with others(cores if situation == "busy" else 0):
                for _ in range(turns):
                    for waiting, speeds in found.items():
                        speeds.append(speed(model, waiting, seconds))
            medians = {waiting: statistics.median(speeds) for waiting, speeds in found.items()}
            ratio = medians["as it suits"] / medians[rival]
            row = {"situation": situation, "model": model, "documents_per_second": medians}
            record["rows"].append({**row, "ratio": ratio, "at_least": least})
            table.add_row(
                model,
                *(f"{x:,.0f}" for x in medians.values()),
                f"{ratio:.2f}{' missed' * (ratio < least)}",
            )
            if json:
                write_json(json, record)
        console().print(table)


if __name__ == "__main__":
    run(main)
