"""Train the memory networks on bAbI as in their papers: from ten seeds, one chosen on dev."""

from __future__ import annotations

import ast
import hashlib
import re
import statistics
import time
import traceback
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dlnotes.arguments import Count, Positive, check_names, checked, fields_of, hints_of
from dlnotes.cli import run
from dlnotes.data.corpora import BABI, load
from dlnotes.data.dataset import Dataset, load_dataset
from dlnotes.data.documents import Documents
from dlnotes.display import tell
from dlnotes.errors import UserError
from dlnotes.files import check_output, make_folder, read_json, write_json
from dlnotes.models import MODELS
from dlnotes.training.checkpoint import check_same_settings, load_checkpoint, save_checkpoint
from dlnotes.training.classifier import TextClassifier
from dlnotes.training.device import choose_device
from dlnotes.training.objectives import SingleLabel
from dlnotes.training.record import provenance
from dlnotes.training.seeds import Seeds
from dlnotes.training.settings import Optimization, parse_settings

PAPERS: dict[str, tuple[Optimization, dict[int, int]]] = {
    # Henaff et al. 2017, section 5.1 and appendix A. Tasks 14 and 16 are learned with lr=0.003 and
    # not with their 0.01: test error 0.0 % instead of 5.0, and 0.1 % instead of 50.9
    # (results/babi-seeds/h100-2.json and h100-3.json).
    "entnet": (
        Optimization(lr=0.01, schedule="halving", epochs=200, batch_size=32, clip_norm=40.0),
        {50: 5, 100: 3},
    ),
    # Xiong et al. 2016, section 6.2, but for their L2 penalty of 1e-3: with that as a part of the
    # gradient, as `Adam` has it, task 17 is still at chance after 44 epochs.
    "dmn": (
        Optimization(
            lr=1e-3,
            epochs=256,
            batch_size=100,
            patience=20,
            optimizer_settings={"weight_decay": 1e-5},
        ),
        {60: 5},
    ),
}
"""Model → its paper's training, and after which epochs how many of the seeds go on."""

_SIZES = ("vocabulary_size", "num_classes")  # settings of a model that the data decide
_LATE = "not begun"  # the error that is recorded for a pair whose training the time did not allow
_PERFECT = 10  # further epochs after a seed has no error on dev


@checked
def main(
    names: tuple[str, ...],
    /,
    data_dir: Path,
    out: Path,
    seeds: Count = 10,
    minutes: Positive = 8.0,
    at_once: Count = 6,
    device: str = "auto",
    commit: str | None = None,
    check: bool = False,
    resume: bool = False,
    save_every: Positive = 60.0,
) -> None:
    """Train every named pair of task and model; write out/babi-seeds.json every minute.

    The state of each training is saved after an epoch, at most every --save-every seconds. With
    --resume, trainings that were stopped, killed or out of time continue from it, on a CPU with the
    same result bit for bit; finished ones are left as they are.

    A name is babi-TASK-MODEL. Settings of the training or of the model that differ from `PAPERS`
    follow after a colon: babi-17-dmn:lr=0.003,patience=40,dropout=0.2. A pair that fails does not
    end the others, but the exit code is then 2.

    Args:
        names: What to train, at least one; those named first begin first.
        data_dir: Folder with babi/en-10k.
        out: Folder of the record.
        seeds: Number of seeds per pair, from 0.
        minutes: Time after which every training ends as it is, and is measured.
        at_once: Number of trainings that share the device.
        device: auto, cpu or cuda.
        commit: The commit to record where there is no git.
        check: First compare a few updates of the first and the last pair on the GPU with those
            computed without a graph and on the CPU, and print how fast updates are.
        resume: Continue the trainings in --out.
        save_every: Minimum number of seconds between two saved states of a training.
    """
    began = time.perf_counter()
    if not names:
        raise UserError("give one or more names babi-TASK-MODEL, such as babi-1-entnet")
    for i, name in enumerate(names):
        _parse(name)
        if name in names[:i]:
            raise UserError(f"{name} is given twice")
    where = choose_device(device)
    if check and where.type != "cuda":
        raise UserError(f"--check compares a CUDA device with the CPU, but device is {where}")
    if not data_dir.is_dir():
        raise UserError(f"--data-dir: there is no folder {data_dir}")
    make_folder(out)
    check_output(out / "babi-seeds.json")
    records = _records_before(out, resume)
    torch.set_num_threads(1 if where.type == "cuda" else torch.get_num_threads())
    if check:
        for name in dict.fromkeys([names[0], names[-1]]):
            _check(name, data_dir, where)
    waiting = [name for name in names if not records.get(name, {}).get("over")]
    active: dict[str, Pair] = {}
    written, deadline = began, began + 60 * minutes
    while (waiting or active) and time.perf_counter() < deadline:
        if waiting and len(active) < at_once:
            name = waiting.pop(0)
            with _guarded(name, records):
                active[name] = Pair(
                    name, data_dir, seeds, where, began, _state(out, name), save_every
                )
        for name, pair in list(active.items()):
            with _guarded(name, records) as guard, pair.context():
                if next(pair.work, "over") == "over":
                    records[name] = pair.record(commit)
                    write_json(out / "babi-seeds.json", records)  # before the state is gone
                    pair.state.unlink(missing_ok=True)
                    del active[name]
            if guard.failed:
                active.pop(name, None)
        if time.perf_counter() - written > 60:
            for name, pair in active.items():
                with _guarded(name, records), pair.context():
                    records[name] = pair.record(commit)
            write_json(out / "babi-seeds.json", records)
            written = time.perf_counter()
    for name, pair in active.items():
        with _guarded(name, records), pair.context():
            records[name] = pair.record(commit)
    for name in waiting:
        records.setdefault(name, {"error": _LATE})
    write_json(out / "babi-seeds.json", records)
    for name in names:
        print(name, records[name].get("error") or _line(records[name]), flush=True)
    if failed := [name for name in names if records[name].get("error", _LATE) != _LATE]:
        raise UserError(f"{len(failed)} of {len(names)} pairs failed: {', '.join(failed)}")


def _records_before(out: Path, resume: bool) -> dict[str, Any]:
    """The records of trainings that did not fail; none without --resume.

    Raises:
        UserError: There are trainings, and --resume is not given.
    """
    path = out / "babi-seeds.json"
    if not resume:
        if path.exists() or any(out.glob("*.state")):
            raise UserError(
                f"--out {out} has trainings: go on with --resume, or give another --out"
            )
        return {}
    if not path.exists():  # killed within the first minute
        return {}
    records = read_json(path, "has no trainings of several seeds")
    return {name: record for name, record in records.items() if "error" not in record}


def _state(out: Path, name: str) -> Path:
    """The file of a training's state; characters that file names must not have are replaced."""
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return out / f"{name.partition(':')[0]}-{digest}.state"


class _guarded:  # noqa: N801 -- reads as a word
    """Keep a training that fails from ending the others."""

    def __init__(self, name: str, records: dict[str, Any]) -> None:
        self.name, self.records, self.failed = name, records, False

    def __enter__(self) -> _guarded:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, where: Any) -> bool:
        if isinstance(error, Exception):
            self.failed = True
            if isinstance(error, UserError):
                tell(f"{self.name} failed: {error}")
            else:
                traceback.print_exception(error)
            told = str(error) if isinstance(error, UserError) else repr(error)
            self.records[self.name] = {**self.records.get(self.name, {}), "error": told}
            return True
        return False


class Pair:
    """A task and a model, trained from all seeds on its own CUDA stream."""

    def __init__(
        self,
        name: str,
        data_dir: Path,
        seeds: int,
        device: torch.device,
        began: float,
        state: Path,
        save_every: float,
    ):
        self.name, self.began, self.state, self.save_every = name, began, state, save_every
        self.corpus, self.model, self.training, self.own = _parse(name)
        self.stream: torch.cuda.Stream | None = None
        if device.type == "cuda":
            self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        with self.context():
            self.dataset = _dataset(self.corpus, data_dir)
            self.seeds = _seeds(self.dataset, self.model, self.own, self.training, seeds, device)
        self.work = self._run()
        self.perfect: int | None = None
        self.test: Documents | None = None
        self.settings: dict[str, Any] = {
            "seeds": seeds,
            "keep": self.seeds.keep,
            "data": dict(self.dataset.fingerprints),
            **asdict(self.training),
            **{f"model {name}": value for name, value in self.own.items()},
        }
        self.saved = time.perf_counter()
        if state.exists():
            self._load()
        sizes = [tuple(size) for size in self.seeds.sizes.values()]
        self._say(f"begins: {self.seeds.batches} updates an epoch, sizes {sizes}")

    def context(self) -> Any:
        """The pair's stream as the current one."""
        return torch.cuda.stream(self.stream) if self.stream else nullcontext()

    def _run(self) -> Iterator[None]:
        said = time.perf_counter()
        while not self.over:
            yield from self.seeds.run_epoch()
            epoch, best = self.seeds.epoch, max(r.best for r in self.seeds.replicas)
            if best[0] == 1.0:
                self.perfect = self.perfect or epoch
            if time.perf_counter() - self.saved >= self.save_every:
                self._save()
            if epoch == 1 or time.perf_counter() - said > 20:
                said = time.perf_counter()
                self._say(self.progress())
        self._say(f"over: {self.progress()}")

    @property
    def over(self) -> bool:
        """Whether nothing is left to train."""
        epoch = self.seeds.epoch
        enough = self.perfect is not None and epoch >= self.perfect + _PERFECT
        return enough or epoch >= self.training.epochs or not self.seeds.alive

    def _save(self) -> None:
        state = self.seeds.state_dict() | {"perfect": self.perfect, "settings": self.settings}
        save_checkpoint(self.state, state)
        self.saved = time.perf_counter()

    def _load(self) -> None:
        state = load_checkpoint(self.state)
        check_same_settings(self.state, state["settings"], self.settings)
        with self.context():
            self.seeds.load_state_dict(state)
        self.perfect = state["perfect"]
        self._say(f"goes on after epoch {self.seeds.epoch}")

    def progress(self) -> str:
        """A line."""
        seeds = self.seeds
        dev = sorted(100 * (1 - r.best[0]) for r in seeds.replicas)
        losses = [r.history[-1]["train_loss"] for r in seeds.replicas if r.history]
        steps = seeds.epoch * seeds.batches / max(1e-9, seeds.seconds)
        return (
            f"epoch {seeds.epoch}, {len(seeds.alive)} seeds, {steps:.0f} updates/s, "
            f"least train loss {min(losses, default=0):.4f}, dev errors "
            + " ".join(f"{e:.1f}" for e in dev)
        )

    def _say(self, what: str) -> None:
        print(f"{time.perf_counter() - self.began:6.1f} s  {self.name}: {what}", flush=True)

    def record(self, commit: str | None) -> dict[str, Any]:
        """What is known so far."""
        replicas = self.seeds.replicas
        self.test = self.test or self.dataset.read_test()
        test = self.seeds.evaluate(self.test)
        chosen = max(range(len(replicas)), key=lambda i: replicas[i].best)
        errors = [100 * (1 - accuracy) for accuracy, _ in test]
        record = provenance(replicas[0].seed) | {
            "corpus": self.corpus,
            "model": self.model,
            "settings": {"model_settings": self.own, **asdict(self.training)},
            "keep": {str(k): v for k, v in self.seeds.keep.items()},
            "seeds": [r.seed for r in replicas],
            "data": dict(self.dataset.fingerprints),
            "seconds": self.seeds.seconds,
            "epochs": self.seeds.epoch,
            "over": self.over,
            "perfect_on_dev_from_epoch": self.perfect,
            "chosen": replicas[chosen].seed,
            "test_error": errors[chosen],
            "test_error_median": statistics.median(errors),
            "test_errors": errors,
            "replicas": [
                {
                    "seed": r.seed,
                    "best_epoch": r.best_epoch,
                    "dev_error": 100 * (1 - r.best[0]),
                    "dev_loss": -r.best[1],
                    "stopped": r.stopped,
                    "dev_errors": [round(100 * (1 - h["dev_accuracy"]), 2) for h in r.history],
                    "dev_losses": [float(f"{h['dev_loss']:.4g}") for h in r.history],
                    "train_losses": [float(f"{h['train_loss']:.4g}") for h in r.history],
                }
                for r in replicas
            ],
        }
        record["commit"] = record["commit"] or commit
        return record


def _line(record: dict[str, Any]) -> str:
    return (
        f"{record['epochs']} epochs, {record['seconds']:.0f} s, seed {record['chosen']}: "
        f"test error {record['test_error']:.1f} (median {record['test_error_median']:.1f})"
    )


def _parse(name: str) -> tuple[str, str, Optimization, dict[str, Any]]:
    """Corpus, model, training and the model's settings of a name.

    Raises:
        UserError: Another task or model, or a setting that neither the training nor the model has
            or that is not allowed.
    """
    pair, _, given = name.partition(":")
    corpus, _, model = pair.rpartition("-")
    if model not in PAPERS or corpus not in BABI:
        raise UserError(
            f"{name!r} must be babi-TASK-MODEL with a task from 1 to {len(BABI)} and a model of "
            f"{', '.join(PAPERS)}"
        )
    training, own = PAPERS[model][0], []
    of_model = [name for name in hints_of(MODELS[model].__init__) if name not in _SIZES]
    known = [*fields_of(Optimization), "weight_decay", *of_model]
    for item in filter(None, re.split(r",(?=[a-z_]+=)", given)):  # commas within a value stay
        setting, equals, value = item.partition("=")
        if not equals:
            raise UserError(f"{name}: {item!r} must be SETTING=VALUE")
        check_names(pair, "setting", [item], known)
        try:
            typed = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            typed = value
        if setting == "weight_decay":
            setting, typed = "optimizer_settings", {"weight_decay": typed}
        if setting in fields_of(Optimization):
            training = replace(training, **{setting: typed})
        else:
            own.append(item)
    return corpus, model, training, parse_settings(name, MODELS[model], own)


def _dataset(corpus: str, data_dir: Path) -> Dataset:
    return load_dataset(dict(load(corpus, data_dir=data_dir)), tokenizer="sentences", name=corpus)


def _seeds(
    dataset: Dataset,
    model: str,
    own: dict[str, Any],
    training: Optimization,
    seeds: int,
    device: Any,
    **options: Any,
) -> Seeds:
    models = []
    for seed in range(seeds):
        torch.manual_seed(seed)  # as `train_classifier` does
        made = TextClassifier.create(
            model, own, dataset.vocabulary, dataset.label_names, tokenizer=dataset.tokenizer
        )
        models.append(made.model)
    return Seeds(
        models,
        range(seeds),
        SingleLabel(),
        dataset.train,
        dataset.dev,
        training,
        device=device,
        keep={k: v for k, v in PAPERS[model][1].items() if v < seeds},
        **options,
    )


def _check(name: str, data_dir: Path, device: torch.device, updates: int = 12) -> None:
    """The same few updates by a graph, without one and on the CPU; dropout off."""
    corpus, model, training, own = _parse(name)
    dataset = _dataset(corpus, data_dir)
    some = np.arange(min(len(dataset.train), updates * (training.batch_size or 1)))
    part = replace(dataset, train=dataset.train.take(some))
    losses, weights = [], []
    ways = [(device, True), (device, False), (torch.device("cpu"), False)]
    for where, graph in ways:
        seeds = _seeds(part, model, own, training, 2, where, graph=graph)
        for module in seeds.model.modules():
            if isinstance(module, torch.nn.Dropout):
                vars(module)["forward"] = torch.nn.Identity()
        for _ in seeds.run_epoch():
            pass
        losses.append([r.history[0]["train_loss"] for r in seeds.replicas])
        weights.append(seeds.theta.detach().cpu())
    apart = [float((w - weights[-1]).abs().max()) for w in weights]
    print(f"check {name}: losses with a graph, without, on the CPU: {losses}", flush=True)
    print(f"check {name}: weights apart from the CPU's: {apart}", flush=True)
    off = [max(abs(a - b) / abs(b) for a, b in zip(row, losses[2], strict=True)) for row in losses]
    print(f"check {name}: losses apart from the CPU's, as shares: {off}", flush=True)
    if not max(off) <= 1e-4:
        print(f"check {name}: WARNING, more than 1e-4", flush=True)
    if not max(abs(a - b) for a, b in zip(losses[0], losses[1], strict=True)) <= 1e-3:
        raise UserError(f"check {name}: the graph does not compute what the operations do")
    seeds = _seeds(part, model, own, training, 10, device)
    for epoch in range(3):
        began = time.perf_counter()
        for _ in seeds.run_epoch():
            pass
        torch.cuda.synchronize()
        speed = seeds.batches / (time.perf_counter() - began)
        print(f"check {name}: 10 seeds, epoch {epoch + 1}: {speed:.0f} updates/s", flush=True)


if __name__ == "__main__":
    run(main)
