"""What ``dlnotes export`` prints and refuses; what it writes is tested in tests/export."""

import pytest
import torch

from dlnotes.commands.train import main as train
from dlnotes.export.program import NEEDED
from dlnotes.training.settings import Training


@pytest.fixture(scope="module")
def run(files, tmp_path_factory):
    """A FastText of words only, which can be a .bin of fastText."""
    out = tmp_path_factory.mktemp("runs") / "words"
    train(
        model="fasttext",
        train=(files / "train.tsv",),
        out=out,
        training=Training(epochs=1, recipe="plain"),
        model_args=("ngrams=1", "embedding_dim=4"),
    )
    return out


def test_it_prints_what_it_wrote_without_control_characters(script, run, tmp_path):
    out = tmp_path / "a\x1b[31m\nb"
    result = script("export", run, out, "--format", "fasttext")
    assert result.code == 0, result.err
    assert "\x1b" not in result.out
    assert result.out.startswith(f"{tmp_path}/" + r"a\x1b[31m\nb/")
    assert any(out.glob("*.bin"))


def test_the_command_that_it_prints_can_be_pasted(script, run, tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    if tuple(map(int, torch.__version__.split(".")[:2])) < NEEDED:
        pytest.skip("the exporter is too old")
    result = script("export", run, tmp_path / "a b")
    assert result.code == 0, result.err
    assert f"\npython '{tmp_path}/a b/predict.py' TEXT " in result.out


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (("--test", "x.tsv"), "--test belongs to --int8, which reports what it costs"),
        (("--label-column", "x"), "--label-column belongs to --int8, which reports what it costs"),
        (("--int8", "--format", "torch"), "--int8 is for --format onnx, not torch"),
        (("--format", "pickle"), "format must be one of"),
    ],
)
def test_mistakes_are_told_before_anything_is_written(script, run, tmp_path, given, error):
    result = script("export", run, tmp_path / "out", *given)
    assert result.code == 2
    assert error in result.err
    assert "Traceback" not in result.err
    assert not (tmp_path / "out").exists()


def test_another_folder_is_not_replaced(script, run, tmp_path):
    (tmp_path / "mine.txt").write_text("kept")
    result = script("export", run, tmp_path, "--format", "fasttext")
    assert (result.code, (tmp_path / "mine.txt").read_text()) == (2, "kept")
    assert f"{tmp_path} is not empty: give another OUT, or --overwrite" in result.err
