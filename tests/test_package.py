"""The package itself: one-way imports, a wheel that works without the checkout."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from dlnotes.data import vocabulary
from dlnotes.nn import PAD, UNK

ROOT = Path(__file__).parents[1]


def test_padding_and_the_unknown_word_have_one_id():
    """Models may not import data, so the ids stand in two places."""
    assert (PAD, UNK) == (vocabulary.PAD, vocabulary.UNK)


def test_nothing_asks_for_ipywidgets_in_a_notebook():
    """As tqdm does when pooch imports it into a kernel."""
    program = """
import sys, types
sys.modules["ipywidgets"] = None  # not installed
sys.modules["ipykernel.zmqshell"] = types.ModuleType("zmqshell")
sys.modules["IPython"] = types.ModuleType("IPython")
sys.modules["IPython"].get_ipython = object
import dlnotes.data.download
assert "tqdm.auto" in sys.modules
"""
    pytest.importorskip("tqdm", reason="pooch needs none")
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_a_wheel_builds_and_works(tmp_path):
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "-w",
        str(tmp_path),
        str(ROOT),
    ]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("dlnotes-*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    program = """
import dlnotes, sys
assert dlnotes.__file__.startswith(sys.argv[1]), dlnotes.__file__
from dlnotes.data.corpora import CORPORA
assert len(CORPORA) > 20
from dlnotes.data.dataset import load_dataset
from dlnotes.training.train import train_classifier
pairs = [("good", "fine film"), ("bad", "dull film")] * 20
classifier, record = train_classifier(
    load_dataset({"train": pairs}), model="textcnn", epochs=3, progress=False
)
assert classifier.classify(["fine"])[0]["label"] == "good"
from dlnotes.oracles import rows
proofs = list(rows(steps=5))
assert len(proofs) > 40
assert all(row.ok for row in proofs), proofs
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "site")],
        cwd=tmp_path, env={"PYTHONPATH": str(tmp_path / "site"), "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
