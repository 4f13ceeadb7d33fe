"""The pairs are trained side by side; a pair that fails or does not get its turn is recorded."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", minversion="2.7", reason="see test_seeds.py")

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


def test_two_pairs_and_one_that_fails(script: Any, babi: Path, tmp_path: Path) -> None:
    names = [
        f"babi-1-entnet:{SMALL}",
        "babi-1-entnet:slots=-1",
        f"babi-1-dmn:{SMALL},hidden_size=4",
    ]
    where = ["--data-dir", babi, "--out", tmp_path / "out", "--device", "cpu", "--commit", "abc"]
    ran = script("babi_seeds", *names, *where, "--seeds", 2, "--check")
    assert ran.code == 0, ran.err
    assert "weights apart from the CPU's: [0.0, 0.0, 0.0]" in ran.out
    records = json.loads((tmp_path / "out" / "babi-seeds.json").read_text())
    assert "slots" in records[names[1]]["error"]
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


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("babi-1-han", "'babi-1-han' must be babi-TASK-MODEL with a model of entnet, dmn"),
        ("babi-1-entnet:lr=x", "lr must be"),
    ],
)
def test_a_bad_name_is_refused_at_once(
    script: Any, babi: Path, tmp_path: Path, name: str, message: str
) -> None:
    ran = script("babi_seeds", name, "--data-dir", babi, "--out", tmp_path)
    assert ran.code == 2
    assert message in ran.err
    assert ran.err.count("\n") == 1
