"""Several processes end with what one ends with."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import ranks

FEW = ["textcnn", "fasttext", "weights", "few", "one", "unused", "huge sparse"]
"""Cases that between them take every path of the code."""


def torchrun(count, *arguments, more=(), **environment):
    """Run a Python script in several processes."""
    here = Path(ranks.__file__).parent
    path = os.pathsep.join([str(here), str(here.parent), *sys.path])
    return subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", *more]
        + ["--nproc-per-node", str(count), *map(str, arguments)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path} | environment,
        capture_output=True,
        text=True,
        timeout=280,
    )


def check(tmp_path, count, cases):
    done = torchrun(count, ranks.__file__, tmp_path, *cases)
    assert done.returncode == 0, done.stderr
    wrong = []
    for case in cases:
        weights, losses = ranks.train(case)
        theirs, their_losses = torch.load(tmp_path / f"{case}.pt")
        try:
            torch.testing.assert_close(theirs, weights, rtol=1e-10, atol=1e-13)
            torch.testing.assert_close(their_losses, losses, rtol=1e-6, atol=0)
        except AssertionError as error:
            wrong.append(f"{case}: {error}")
    assert not wrong, "\n".join(wrong)


def test_two_processes_are_one(tmp_path):
    check(tmp_path, 2, FEW)


@pytest.mark.slow
def test_two_processes_are_one_in_every_case(tmp_path):
    check(tmp_path, 2, [case for case in ranks.CASES if case not in FEW])


@pytest.mark.slow
def test_four_processes_are_one(tmp_path):
    check(tmp_path, 4, [*FEW, "paths", "several labels", "norm"])
