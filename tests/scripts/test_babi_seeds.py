"""The pairs are trained side by side; a pair that fails or does not get its turn is recorded."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", minversion="2.7", reason="see test_seeds.py")

from dlnotes.training.seeds import Seeds  # noqa: E402

OFTEN = ("--save-every", 1e-9)
SMALL = "epochs=2,batch_size=16,embedding_dim=4"


@pytest.fixture(scope="module")
def babi(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with task 1: where somebody is, two questions per story."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "babi" / "en-10k").mkdir(parents=True)
    random = np.random.default_rng(0)
    for split, n in (("train", 40), ("test", 10)):
        lines = []
        for _ in range(n):
            for k in (1, 3):
                where = random.choice(["hall", "garden", "attic"])
                lines.append(f"{k} Mary went to the {where}.")
                lines.append(f"{k + 1} Where is Mary? \t{where}\t{k}")
        text = "".join(f"{line}\n" for line in lines)
        (folder / "babi" / "en-10k" / f"qa1_x_{split}.txt").write_text(text)
    return folder


@pytest.fixture(scope="module")
def damaged(babi: Path) -> Path:
    """The same with a task 2 that cannot be read."""
    for split in ("train", "test"):
        (babi / "babi" / "en-10k" / f"qa2_x_{split}.txt").write_text("Mary went home.\n")
    return babi


def test_two_pairs_and_some_that_fail(
    script: Any, damaged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure = Seeds.evaluate

    def broken(seeds: Seeds, documents: Any) -> Any:
        if seeds.training.epochs == 1:
            raise RuntimeError("a fault of the program")
        return measure(seeds, documents)

    monkeypatch.setattr(Seeds, "evaluate", broken)
    names = [
        f"babi-1-entnet:{SMALL}",
        "babi-1-entnet:slots=-1",
        f"babi-1-dmn:{SMALL},hidden_size=4",
        "babi-2-entnet",
        f"babi-1-entnet:{SMALL},optimizer_settings={{'betas':(0.9,0.99),'eps':1e-7}}",
        "babi-1-entnet:epochs=1,embedding_dim=4",
    ]
    where = ["--data-dir", damaged, "--out", tmp_path / "out", "--device", "cpu", "--commit", "abc"]
    ran = script("babi_seeds", *names, *where, "--seeds", 2)
    assert ran.code == 2
    *told, last = [line for line in ran.err.splitlines() if not line.startswith(" ")]
    assert last == f"error: 3 of 6 pairs failed: {names[1]}, {names[3]}, {names[5]}"
    assert told[0].startswith(f"{names[1]} failed: ")
    assert told[1].startswith(f"{names[3]} failed: ")
    assert "line 1: 'Mary went home.' is neither" in told[1]
    assert told[2:] == [
        "Traceback (most recent call last):",
        "RuntimeError: a fault of the program",
    ]
    records = json.loads((tmp_path / "out" / "babi-seeds.json").read_text())
    assert "slots" in records[names[1]]["error"]
    assert "'n sentence'" in records[names[3]]["error"]
    assert records[names[5]]["error"] == "RuntimeError('a fault of the program')"
    betas = records[names[4]]["settings"]["optimizer_settings"]
    assert betas == {"betas": [0.9, 0.99], "eps": 1e-7}
    for name in names[::2]:
        record = records[name]
        assert record["epochs"] == 2
        assert record["settings"]["model_settings"]["embedding_dim"] == 4
        assert record["settings"]["batch_size"] == 16
        assert [len(r["dev_errors"]) for r in record["replicas"]] == [2, 2]
        best = min(record["replicas"], key=lambda r: (r["dev_error"], r["dev_loss"]))
        assert record["chosen"] == best["seed"]
        assert record["test_error"] == record["test_errors"][best["seed"]]


def test_when_time_is_up_everything_is_recorded(script: Any, babi: Path, tmp_path: Path) -> None:
    names = [f"babi-1-entnet:{SMALL},epochs=100000", f"babi-1-entnet:{SMALL}"]
    where = ["--data-dir", babi, "--out", tmp_path, "--device", "cpu"]
    ran = script("babi_seeds", *names, *where, "--seeds", 1, "--minutes", 0.03, "--at-once", 1)
    assert ran.code == 0, ran.err
    records = json.loads((tmp_path / "babi-seeds.json").read_text())
    assert len(records[names[0]]["test_errors"]) == 1
    assert records[names[1]] == {"error": "not begun"}


def test_killed_and_resumed_is_as_uninterrupted(
    script: Any, babi: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = "epochs=4,batch_size=16,embedding_dim=4,dropout=0.2"
    names = [f"babi-1-entnet:{small}", f"babi-1-dmn:{small},hidden_size=4"]

    def ran(out: Path, *more: Any) -> Any:
        where = ["--data-dir", babi, "--out", out, "--device", "cpu", "--seeds", 2]
        return script("babi_seeds", *names, *where, "--at-once", 1, *OFTEN, *more)

    def records(out: Path) -> dict[str, Any]:
        found = json.loads((out / "babi-seeds.json").read_text())
        kept = ("over", "epochs", "chosen", "test_errors", "replicas", "settings", "data")
        return {name: {key: record[key] for key in kept} for name, record in found.items()}

    assert ran(tmp_path / "whole").code == 0
    expected, out = records(tmp_path / "whole"), tmp_path / "killed"
    assert [record["over"] for record in expected.values()] == [True, True]

    run_epoch = Seeds.run_epoch

    def killed(seeds: Seeds) -> Any:
        for k, step in enumerate(run_epoch(seeds)):
            if (seeds.epoch, k) == (at, 0):  # in the middle of an epoch
                raise SystemExit(137)
            yield step

    for at in (2, 3):  # twice in the first training
        with monkeypatch.context() as patch:
            patch.setattr(Seeds, "run_epoch", killed)
            assert ran(out, *["--resume"] * (at > 2)).code == 137
        assert len(list(out.glob("*.state"))) == 1
        assert not (out / "babi-seeds.json").exists()
    refused = ran(out)
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert f"--out {out} has trainings: go on with --resume, or give another --out" in refused.err
    done = ran(out, "--resume")
    assert done.code == 0, done.err
    assert "goes on after epoch 3" in done.out
    assert records(out) == expected
    assert not list(out.glob("*.state"))
    before = (out / "babi-seeds.json").read_bytes()
    again = ran(out, "--resume")  # nothing is left to do
    assert again.code == 0
    assert "begins" not in again.out
    assert json.loads((out / "babi-seeds.json").read_bytes()) == json.loads(before)


def test_a_state_of_other_seeds_is_refused(script: Any, babi: Path, tmp_path: Path) -> None:
    name = f"babi-1-entnet:{SMALL},epochs=100000"
    where = ["--data-dir", babi, "--out", tmp_path, "--device", "cpu"]
    assert script("babi_seeds", name, *where, "--seeds", 1, "--minutes", 0.001).code == 0
    more = ["--minutes", 0.03, "--resume", *OFTEN]
    assert script("babi_seeds", name, *where, "--seeds", 1, *more).code == 0
    (state,) = tmp_path.glob("*.state")
    refused = script("babi_seeds", name, *where, "--seeds", 2, *more)
    assert refused.code == 2
    assert "seeds" in refused.err.splitlines()[0]
    assert state.exists()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.cuda
def test_a_gpu_is_compared_with_the_cpu(script: Any, babi: Path, tmp_path: Path) -> None:
    where = ["--data-dir", babi, "--out", tmp_path, "--device", "cuda"]
    ran = script("babi_seeds", f"babi-1-entnet:{SMALL}", *where, "--seeds", 2, "--check")
    assert ran.code == 0, ran.err
    assert "WARNING" not in ran.out
    assert ran.out.count("10 seeds, epoch") == 3


MISTAKES: dict[str, tuple[list[Any], str]] = {
    "another model": (["babi-1-han"], "'babi-1-han' must be babi-TASK-MODEL with a task from 1 to 20 and a model of entnet, dmn"),
    "another task": (["babi-21-dmn"], "'babi-21-dmn' must be babi-TASK-MODEL with a task from 1 to 20"),
    "a rate": (["babi-1-entnet:lr=x"], "lr must be"),
    "no value": (["babi-1-entnet:lr"], "babi-1-entnet:lr: 'lr' must be SETTING=VALUE"),
    "no such setting": (["babi-1-entnet:lrr=1"], "babi-1-entnet has no setting 'lrr=1'; .*did you mean 'lr'"),
    "a size": (["babi-1-dmn:num_classes=3"], "babi-1-dmn has no setting 'num_classes=3'"),
    "half a mapping": (["babi-1-dmn:optimizer_settings={'betas':(0.9,"], "optimizer_settings must be a mapping"),
    "a type": (["babi-1-dmn:dropout=much"], "dropout must be of type float"),
    "twice": (["babi-1-dmn", "babi-1-dmn"], "babi-1-dmn is given twice"),
    "no name": ([], "give one or more names"),
    "nothing to check": (["--check"], "give one or more names"),
    "check a CPU": (["babi-1-dmn", "--check"], "--check compares a CUDA device with the CPU, but device is cpu"),
    "no seed": (["babi-1-dmn", "--seeds", 0], "seeds must be at least 1, not 0"),
    "none at once": (["babi-1-dmn", "--seeds", 1, "--at-once", 0], "--at-once must be at least 1, not 0"),
    "no time": (["babi-1-dmn", "--minutes", "nan"], "minutes must be a finite number above 0, not nan"),
    "no data": (["babi-1-dmn", "--data-dir", "nowhere"], "--data-dir: there is no folder nowhere"),
    "a file": (["babi-1-dmn", "--out", __file__], "it is not a folder; give another --out"),
}  # fmt: skip


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_are_refused_at_once(script: Any, babi: Path, tmp_path: Path, case: str) -> None:
    given, message = MISTAKES[case]
    defaults = {"--data-dir": babi, "--out": tmp_path / "out", "--device": "cpu"}
    for option, value in defaults.items():
        given = given if option in given else [*given, option, value]
    ran = script("babi_seeds", *given)
    assert ran.code == 2
    assert re.search(message, ran.err)
    assert ran.err.count("\n") == 1
    assert not (tmp_path / "out").exists()
