"""make gpu on this machine: what it says without a GPU, and its parts with the CPU in its place."""

import json
import re
import subprocess
import sys
import zipfile

import pytest
import torch
from running import ROOT

import gpu
from compiling import compiles
from dlnotes.training import compiling
from small import FUSED_ON_CPU


def ran(*arguments):
    command = [sys.executable, str(ROOT / "scripts" / "gpu.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_there_is_one_line(tmp_path):
    done = ran("--json", tmp_path / "gpu.json")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: make gpu needs a CUDA device, and torch sees none here\n"
    assert not (tmp_path / "gpu.json").exists()


def test_babi_needs_its_data():
    done = ran("--babi", "babi-1-dmn")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == ("error: --babi needs --data-dir FOLDER, the folder with babi/en-10k\n")


def test_babi_trains_the_named_pairs_and_nothing_else(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(gpu, "install", lambda wheels, target: None)
    monkeypatch.setattr(gpu, "commands", None)
    given = ["--babi", "babi-99-dmn", "--data-dir", str(tmp_path), "--out", str(tmp_path / "out")]
    record = tmp_path / "gpu.json"
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--device", "cpu", "--json", str(record), *given])
    assert gpu.main() == 2
    assert "error: 'babi-99-dmn' must be babi-TASK-MODEL" in capfd.readouterr().err
    assert not record.exists()


def test_without_a_wheel_there_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(gpu, "wanted", lambda: ["pytest", "no-such-package"])
    with pytest.raises(SystemExit) as end:
        gpu.install(tmp_path, tmp_path / "target")
    assert end.value.code == 2
    told = capsys.readouterr().err
    assert told.startswith(f"error: no-such-package is missing and {tmp_path} has no wheel of it")
    assert told.count("\n") == 1


def wheel(folder, name, broken=False):
    """The smallest package."""
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as file:
        about = f"{name}-1.0.dist-info"
        file.writestr(f"{name}/__init__.py", "answer = 42\n")
        file.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        if not broken:
            kind = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
            file.writestr(f"{about}/WHEEL", kind)
        file.writestr(f"{about}/RECORD", "")
    return path


def test_what_is_missing_is_installed_beside_what_is_there(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(gpu, "wanted", lambda: ["pytest", "missing.here"])
    wheel(tmp_path, "missing_here")
    target = tmp_path / "target"
    gpu.install(tmp_path, target)
    assert capsys.readouterr().out == f"1 packages installed in {target}\n"
    assert (target / "missing_here" / "__init__.py").read_text() == "answer = 42\n"
    assert not (target / "pytest").exists()
    assert gpu.missing() == []
    gpu.install(tmp_path, target)
    assert capsys.readouterr().out.startswith("0 packages")


def test_a_wheel_that_pip_refuses_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(gpu, "wanted", lambda: ["missing_here"])
    wheel(tmp_path, "missing_here", broken=True)
    with pytest.raises(SystemExit):
        gpu.install(tmp_path, tmp_path / "target")
    told = capsys.readouterr().err
    assert told.startswith("error: the wheels cannot be installed: ")
    assert told.count("\n") == 1


def test_a_part_that_takes_too_long_ends_and_the_record_says_what_is_done(tmp_path, monkeypatch):
    """The parts before keep their figures; what a part wrote before it was stopped counts."""
    report = '<testsuites><testsuite><testcase classname="a" name="b"/><testcase classname="a" name="c"><failure message="1 == 2"/></testcase><testcase classname="a" name="d"><skipped/></testcase></testsuite></testsuites>'  # fmt: skip

    def parts(device, folder, quick):
        python = [sys.executable, "-c"]
        write = f"import pathlib; pathlib.Path({str(folder)!r}, "
        rows = f"{write}'optimizers.json').write_text('{{\"rows\": [1]}}'); import time; time.sleep(60)"  # fmt: skip
        return {
            "tests-a": [*python, f"{write}'tests-a.xml').write_text({report!r})"],
            "optimizers": [*python, rows],
            "models": [*python, "raise SystemExit(3)"],
        }

    monkeypatch.setattr(gpu, "commands", parts)
    monkeypatch.setattr(gpu, "install", lambda wheels, target: None)
    monkeypatch.setattr(gpu, "SHARES", {"tests": 0.5, "optimizers": 0.3, "models": 1.0})
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--device", "cpu", "--json", str(tmp_path / "gpu.json"), "--minutes", "0.2"])  # fmt: skip
    assert gpu.main() == 1
    record = json.loads((tmp_path / "gpu.json").read_text())
    assert record["versions"]["cuda"] == torch.version.cuda
    done = record["parts"]
    failures = [{"test": "a::c", "message": "1 == 2"}]
    counts = {"passed": 1, "failed": 1, "skipped": 1, "failures": failures}
    assert done["tests-a"].items() >= {"exit_code": 0, **counts}.items()
    assert (done["optimizers"]["exit_code"], done["optimizers"]["rows"]) == (None, [1])
    assert done["optimizers"]["seconds"] < 10
    assert done["models"]["exit_code"] == 3


def test_every_file_of_tests_on_devices_is_a_part(tmp_path):
    parts = gpu.commands("cuda", tmp_path, False)
    assert list(parts) == [*(f"tests-{x}" for x in ("activations", "models", "optim", "scripts", "training")), "optimizers", "waits", "models"]  # fmt: skip
    parametrized = re.compile(r"^def test_\w+\(([^)]*, )?device[,)]", re.MULTILINE)
    own = re.compile(r"""parametrize\(\s*\(?["'](\w+["'], ["'])?device""")  # not the fixture
    for path in (ROOT / "tests").rglob("test_*.py"):
        text = path.read_text()
        if parametrized.search(text) and not own.search(text):
            assert any(str(path) in command for command in parts.values()), path


def test_benchmarks_write_each_row(script, tmp_path):
    path = tmp_path / "rows.json"
    done = script(
        *("bench_gpu", "optimizers", "--json", path, "--device", "cpu", "--turns", 1),
        *("--rules", "gradient-descent", "adam", "--shapes", "tiny"),
    )
    assert done.code == 0, done.err
    record = json.loads(path.read_text())
    assert [row["rule"] for row in record["rows"]] == ["gradient-descent", "adam"]
    for row in record["rows"]:
        kinds = row["milliseconds"].keys()
        assert {"ours", "default", "foreach"} <= kinds
        assert "fused" in kinds or not FUSED_ON_CPU
        assert all(ms > 0 for ms in row["milliseconds"].values())
    done = script(
        *("bench_gpu", "models", "--json", path, "--device", "cpu", "--turns", 1),
        *("--batches", 1, "--models", "entnet", "--larger", 1, "--no-compile"),
    )
    assert done.code == 0, done.err
    rows = json.loads(path.read_text())["rows"]
    assert [(row["model"], row["amp"]) for row in rows] == [("entnet", False), ("entnet", True)]
    assert all(x > 0 for row in rows for x in row["documents_per_second"].values())
    done = script(
        *("bench_gpu", "waits", "--json", path, "--device", "cpu", "--updates", 60),
        *("--models", "fasttext"),
    )
    assert done.code == 0, done.err
    (row,) = json.loads(path.read_text())["rows"]
    assert (row["model"], row["updates"], row["waits"]) == ("fasttext", 60, None)
    assert row["documents_per_second"]["fit"] > 0


@pytest.mark.slow
@compiles
def test_a_compiled_model_is_timed_beside_a_compiled_ordinary_one(script, tmp_path, monkeypatch):
    monkeypatch.setattr(compiling, "BACKEND", "aot_eager")
    path = tmp_path / "rows.json"
    done = script(
        *("bench_gpu", "models", "--json", path, "--device", "cpu", "--turns", 1),
        *("--batches", 1, "--models", "textcnn", "--larger", 1),
    )
    assert done.code == 0, done.err
    rows = json.loads(path.read_text())["rows"]
    ways = [(row["model"], row["amp"], row["compile"]) for row in rows]
    assert ways == [("textcnn", False, False), ("textcnn", True, False), ("textcnn", True, True)]
    assert all(x > 0 for x in rows[-1]["documents_per_second"].values())
