"""Kill small trainings at random moments, resume them, and compare the results bit for bit."""

from __future__ import annotations

import hashlib
import importlib
import io
import json as jsonlib
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import torch

from dlnotes import commands
from dlnotes.arguments import Count, Natural, checked
from dlnotes.cli import run
from dlnotes.display import tell
from dlnotes.errors import UserError
from dlnotes.files import check_output, write_json
from dlnotes.training.folder import CHECKPOINT, CLASSIFIER, CONFIG, LOCK, METRICS, REFIT, WEIGHTS
from dlnotes.training.record import provenance

CASES: dict[str, list[str]] = {
    "fasttext": ["--model", "fasttext", "--refit", "--model-args", "buckets=100"],
    "textcnn": ["--model", "textcnn", "--model-args", "embedding_dim=8", "maps=4"],
}
"""Trainings by name. TextCNN draws random numbers at each update, for its dropout; --refit trains
twice, with a checkpoint of its own for each."""
_USUAL = ["--epochs", "4", "--batch-size", "32", "--recipe", "plain", "--device", "cpu"]
_OF_TIME = ("seconds", "documents_per_second", "test_seconds", "command", "commit")
# What a run folder holds, from the last thing that is written to the first one.
_STAGES = (
    ("the record", METRICS),
    ("the classifier", f"{CLASSIFIER}/{CONFIG}"),
    ("half of the classifier", f"{CLASSIFIER}/{WEIGHTS}"),
    ("the checkpoint of the second training", REFIT),
    ("the checkpoint", CHECKPOINT),
    ("a lock", LOCK),
    ("a folder", "."),
)


def write_documents(folder: Path) -> list[str]:
    """Documents of three classes; the options that read them."""
    draw = random.Random(0)
    words = {"sport": ["goal", "team"], "tech": ["chip", "code"], "law": ["court", "judge"]}
    for split, count in (("train", 300), ("test", 60)):
        lines = []
        for i in range(count):
            label = list(words)[i % 3]
            chosen = [*draw.choices(words[label], k=2), *draw.choices(["the", "a", "of"], k=4)]
            lines.append(f"{label}\t{' '.join(chosen)}\n")
        (folder / f"{split}.tsv").write_text("".join(lines), "utf-8")
    return ["--train", str(folder / "train.tsv"), "--test", str(folder / "test.tsv")]


def begin(arguments: list[str]) -> int:
    """Start ``dlnotes train`` with these arguments in a fork of this process; return its id.

    The fork starts with all modules imported, so each training takes little time. What it writes to
    standard error is shown only if it fails.
    """
    process = os.fork()
    if process == 0:
        code = 1
        try:
            with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()) as told:
                try:
                    commands.run("train", arguments)
                    code = 0
                except SystemExit as end:
                    code = int(end.code or 0)
                except BaseException:
                    told.write(traceback.format_exc())
            if code:
                sys.__stderr__ and sys.__stderr__.write(told.getvalue())
        finally:
            os._exit(code)
    return process


def wait(process: int, seconds: float | None = None) -> bool:
    """Wait for a process, and kill it after some seconds.

    Returns:
        Whether it has finished.

    Raises:
        UserError: It has failed.
    """
    until = None if seconds is None else time.perf_counter() + seconds
    while until is None or time.perf_counter() < until:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            if status:
                raise UserError(f"a training failed with status {status}, see above")
            return True
        time.sleep(0.0005)
    os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    if status and not os.WIFSIGNALED(status):
        raise UserError(f"a training failed with status {status}, see above")
    return not status


def content(out: Path) -> dict[str, Any]:
    """The part of a finished run that must be equal in an undisturbed one.

    It leaves out times, the command line and the TensorBoard log. Of a checkpoint, which also has
    times, it has the tensors and the states of the random number generators.
    """
    found: dict[str, Any] = {}
    for path in sorted(p for p in out.rglob("*") if p.is_file()):
        name = str(path.relative_to(out))
        if name == METRICS:
            found[name] = _timeless(jsonlib.loads(path.read_text("utf-8")))
        elif path.suffix == ".pt" and name in (CHECKPOINT, REFIT):
            saved = torch.load(path, weights_only=True)
            kept = {key: saved[key] for key in ("model", "optimizer", "best_weights", "random")}
            found[name] = hashlib.sha256(_bytes(kept)).hexdigest()
        elif "tfevents" not in name:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _timeless(each) for name, each in value.items() if name not in _OF_TIME}
    return [_timeless(each) for each in value] if isinstance(value, list) else value


def _bytes(value: Any) -> bytes:
    if isinstance(value, torch.Tensor):
        return value.contiguous().numpy().tobytes()
    if isinstance(value, dict):
        return b"".join(str(key).encode() + _bytes(each) for key, each in value.items())
    if isinstance(value, list | tuple):
        return b"".join(map(_bytes, value))
    return repr(value).encode()


def stage(out: Path) -> str:
    """How far a killed training has come."""
    return next((told for told, name in _STAGES if (out / name).exists()), "nothing")


def disturbed(
    arguments: list[str], out: Path, longest: float, draw: random.Random, most: int
) -> list[str]:
    """Train with kills at random moments, and return how far the run was at each kill.

    Args:
        arguments: Arguments of ``dlnotes train``.
        out: The run folder.
        longest: Seconds within which a kill comes.
        draw: Draws the moments.
        most: Maximum number of kills.
    """
    met: list[str] = []
    while True:
        again = any((out / name).exists() for name in (CHECKPOINT, METRICS))
        process = begin([*arguments, "--out", str(out), *(["--resume"] if again else [])])
        if wait(process, draw.uniform(0, longest) if len(met) < most else None):
            return met
        met.append(stage(out))


@contextmanager
def _own_cache(folder: Path) -> Iterator[None]:
    os.environ["DLNOTES_CACHE"] = str(folder / "cache")
    yield


def soak(
    kills: int, seed: int, folder: Path, told: Callable[[int], object] = lambda _: None
) -> dict[str, Any]:
    """Kill trainings until a number of kills is reached.

    Args:
        kills: Number of kills.
        seed: Decides the moments, as far as the machine's speed does not.
        folder: An empty folder to write to.
        told: Called with the number of kills so far.

    Returns:
        For each case, how many trainings were killed, how far they were, and the names of the files
        in which they differ from an undisturbed training.
    """
    draw, given = random.Random(seed), write_documents(folder)
    figures: dict[str, dict[str, Any]] = {}
    wanted: dict[str, dict[str, Any]] = {}
    seconds: dict[str, float] = {}
    for name, own in CASES.items():
        for turn in ("cold", "warm"):  # the first one fills the cache of tokens
            began, out = time.perf_counter(), folder / f"{name}-{turn}"
            wait(begin([*given, *_USUAL, *own, "--out", str(out)]))
            seconds[name], wanted[name] = time.perf_counter() - began, content(out)
        figures[name] = {
            "seconds": seconds[name],
            "trainings": 0,
            "kills": 0,
            "met": Counter[str](),
            "different": [],
        }
    done = 0
    while done < kills:
        name = list(CASES)[sum(each["trainings"] for each in figures.values()) % len(CASES)]
        found = figures[name]
        out = folder / f"{name}-{found['trainings']}"  # its own: what has ended is not resumed
        arguments = [*given, *_USUAL, *CASES[name]]
        met = disturbed(arguments, out, 1.2 * seconds[name], draw, kills - done)
        found["trainings"] += 1
        found["kills"] += len(met)
        found["met"].update(met)
        ended, expected = content(out), wanted[name]
        files = sorted(ended | expected)
        found["different"] += [n for n in files if ended.get(n) != expected.get(n)]
        done += len(met)
        told(done)
    return figures


@checked
def main(json: Path | None = None, kills: Count = 300, seed: Natural = 0) -> None:
    """Kill small trainings at random moments (SIGKILL), and resume them until they are finished.

    Each one must end with the same files as an undisturbed training, bit for bit: classifier, dev
    scores, settings, the record except for its times, and the tensors in the checkpoints.

    Args:
        json: Also write the figures to this file.
        kills: Number of kills.
        seed: Decides the moments, as far as the machine's speed does not.
    """
    if json:
        check_output(json)
    torch.set_num_threads(1)
    for module in (
        "dlnotes.commands.train",
        "dlnotes.commands.config",
        "tyro",
        "matplotlib.font_manager",
    ):
        importlib.import_module(module)  # once, and not in each of the processes
    with tempfile.TemporaryDirectory() as place, _own_cache(Path(place)):
        began = time.perf_counter()
        figures = soak(kills, seed, Path(place), lambda done: tell(f"{done} of {kills} kills"))
        took = time.perf_counter() - began
    for name, found in figures.items():
        print(f"{name}: {found['kills']} kills of {found['trainings']} trainings")
        for where, count in found["met"].most_common():
            print(f"  {count:4} met {where}")
    if json:
        write_json(json, {**provenance(seed), "kills": kills, "took": took, "cases": figures})
    if different := {name: f["different"] for name, f in figures.items() if f["different"]}:
        raise UserError(f"not what an undisturbed training ends with: {different}")
    print("Every training has ended with the bits of an undisturbed one.")


if __name__ == "__main__":
    run(main)
