"""--compile where nothing compiles."""

import pytest

from compiling import compiles
from dlnotes.training import compiling


@pytest.fixture(autouse=True)
def _afresh():
    compiling.check_compiler.cache_clear()
    yield
    compiling.check_compiler.cache_clear()


@compiles
def test_without_a_compiler_there_is_one_line(script, files, tmp_path, monkeypatch):
    from torch._inductor import config

    monkeypatch.setattr(config.cpp, "cxx", ("/no/such/compiler",))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    run = tmp_path / "run"
    ran = script(
        *("train", "--model", "fasttext", "--train", files / "train.tsv", "--out", run),
        *("--test", files / "test.tsv", "--compile", "--epochs", 1),
    )
    assert ran.code == 2
    told = ran.err.splitlines()[-1]
    assert told.startswith("error: compile needs torch.compile, which does not work here for cpu (")
    assert told.endswith("); leave it out")
    assert "compiler" in told.lower()
    assert [path.name for path in run.iterdir()] == ["config.yaml"]
