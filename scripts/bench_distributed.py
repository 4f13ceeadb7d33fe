"""Training speed of processes that train one model together, against as many separate ones."""

from __future__ import annotations

import json as json_format
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.table import Table

import bench_models
from bench_gpu import CLASSES, VOCABULARY, documents
from dlnotes import launch, threads
from dlnotes.arguments import Count, OneOf, checked
from dlnotes.cli import run
from dlnotes.data.documents import Batch
from dlnotes.display import console
from dlnotes.errors import UserError
from dlnotes.files import check_output, write_json
from dlnotes.models import MODELS
from dlnotes.optim import Adam
from dlnotes.training import distributed
from dlnotes.training.fit import Fitting, fit
from dlnotes.training.objectives import SingleLabel
from dlnotes.training.recipes import RECIPES
from dlnotes.training.record import provenance

BAR = 0.9
"""Share of the speed of separate processes that a group must reach."""
TIMED = ("textcnn", "han")


class Generated:
    """Generated documents, as `fit` takes them."""

    def __init__(self, ids: list[list[int]]) -> None:
        self.ids, self.lengths = ids, np.array([len(each) for each in ids])

    def __len__(self) -> int:
        return len(self.ids)

    def batch(self, indices: NDArray[Any]) -> Batch:
        """Documents that are padded to the longest of them."""
        tokens = torch.zeros(len(indices), int(self.lengths[indices].max()), dtype=torch.int64)
        for row, i in zip(tokens, indices, strict=True):
            row[: self.lengths[i]] = torch.tensor(self.ids[i])
        return Batch(tokens, torch.from_numpy(indices % CLASSES))


@checked
def measure(model: str, folder: Path, together: bool, updates: Count, /) -> None:
    """Train in this process of torchrun, and write documents and seconds to a file in `folder`.

    Whether the processes form a group or not, each has as many documents per update.
    """
    size = launch.world_size() if together else 1
    recipe, case = RECIPES[model], bench_models.CASES[model]
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = MODELS[model](
        vocabulary_size=VOCABULARY, num_classes=CLASSES, **recipe.model_settings
    )
    optimizer = Adam(network.parameters(), lr=recipe.lr)
    # Class k has the documents k, k + CLASSES and so on, of which each process gets all classes.
    made = [ids for part in documents(case, updates * size, recipe.batch_size) for ids in part]
    train, batch = Generated(made), recipe.batch_size * size
    fitting = Fitting(epochs=1, batch_size=batch)

    def trained() -> Any:
        return fit(network, optimizer, SingleLabel(), train, None, fitting, progress=False)

    with distributed.process_group() if together else nullcontext():
        first = trained()  # warm-up, which is not timed
        (folder / f"ready-{launch.rank()}").touch()
        while len(list(folder.glob("ready-*"))) < launch.world_size():
            time.sleep(0.001)
        state = trained()
    assert state.documents == len(train)
    assert state.history[-1]["train_loss"] < first.history[0]["train_loss"]
    found = {"documents": state.documents, "seconds": state.train_seconds}
    write_json(folder / f"found-{launch.rank()}.json", found)


def speed(model: str, processes: int, updates: int, *, together: bool) -> float:
    """Documents per second of all processes together."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
                *("--nproc-per-node", str(processes), __file__, "--measure"),
                *(model, folder, str(together), str(updates)),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise UserError(f"{model}: {(done.stderr.strip().splitlines() or ['it failed'])[0]}")
        files = sorted(Path(folder).glob("found-*.json"))
        found = [json_format.loads(file.read_text(encoding="utf-8")) for file in files]
    assert len(found) == processes
    if together:  # each has counted the documents of all
        return float(found[0]["documents"] / max(each["seconds"] for each in found))
    return float(sum(each["documents"] / each["seconds"] for each in found))


@checked
def main(
    json: Path | None = None,
    models: tuple[Annotated[str, OneOf(TIMED)], ...] = TIMED,
    processes: Count = 2,
    turns: Count = 5,
    updates: Count = 60,
) -> None:
    """Print documents per second of processes that train one model together, and one model each.

    Each process has one thread, a model with the batch size of its recipe, and generated documents.
    A group averages gradients in every update; its batch is larger accordingly. Both are measured
    in alternation; figures are medians.

    Args:
        json: Also write all figures to this file.
        models: The models to train.
        processes: Number of processes.
        turns: Number of measurements of each.
        updates: Number of updates of a measurement.
    """
    if json:
        check_output(json)
    cores = threads.cpu_limit()
    if cores < processes:
        raise UserError(f"--processes must be at most {cores}, the number of cores, here")
    record: dict[str, Any] = {
        **provenance(0),
        **{"cores": cores, "processes": processes, "turns": turns, "updates": updates},
        "rows": [],
    }
    table = Table(title=f"{processes} processes: documents per second")
    for heading in ("model", "apart", "together", "together / apart"):
        table.add_column(heading, justify="left" if heading == "model" else "right")
    for model in models:
        found: dict[str, list[float]] = {"apart": [], "together": []}
        for _ in range(turns):
            for way, speeds in found.items():
                speeds.append(speed(model, processes, updates, together=way == "together"))
        medians = {way: statistics.median(speeds) for way, speeds in found.items()}
        ratio = medians["together"] / medians["apart"]
        row = {"model": model, "documents_per_second": medians, "turns": found}
        record["rows"].append({**row, "ratio": ratio, "at_least": BAR})
        missed = " missed" * (ratio < BAR)
        table.add_row(model, *(f"{x:,.0f}" for x in medians.values()), f"{ratio:.2f}{missed}")
        if json:
            write_json(json, record)
    console().print(table)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        name, where, grouped, count = sys.argv[2:]
        measure(name, Path(where), grouped == "True", int(count))
    else:
        run(main)
