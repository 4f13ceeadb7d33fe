"""Run the CUDA tests and benchmarks where there are torch and a GPU but no package index.

`make gpu` calls it. It imports nothing but torch until the missing packages are there.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from importlib.metadata import PackageNotFoundError, distribution
from itertools import groupby
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import torch

ROOT = Path(__file__).parents[1]
MINUTES = 8.0
SHARES = {"tests": 0.4, "optimizers": 0.35, "waits": 0.4, "models": 1.0}
"""Share of the remaining time that the parts of each kind may take together, in this order."""


def wanted() -> list[str]:
    """The packages in wheels.txt."""
    lines = (ROOT / "wheels.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def missing() -> list[str]:
    """The packages that this Python does not have."""
    found = []
    for name in wanted():
        try:
            distribution(name)
        except PackageNotFoundError:
            found.append(name)
    return found


def install(wheels: Path, target: Path) -> None:
    """Install the missing packages into a separate folder; existing packages are not changed."""
    sys.path[:0] = [str(target), str(ROOT / "src")]
    importlib.invalidate_caches()
    files = []
    for name in missing():
        plain = name.replace("-", "_").replace(".", "_").lower()
        made = [w for w in sorted(wheels.glob("*.whl")) if w.name.lower().startswith(plain + "-")]
        if not made:
            fail(
                f"{name} is missing and {wheels} has no wheel of it: run `make gpu-wheels` on a "
                "machine with a package index and bring the folder here"
            )
        files.append(str(made[-1]))
    if files:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
        done = subprocess.run(
            [*command, "--disable-pip-version-check", "--target", str(target), *files],
            capture_output=True,
            text=True,
        )
        if done.returncode:
            told = (done.stderr or done.stdout).strip().splitlines() or ["pip failed"]
            fail(f"the wheels cannot be installed: {told[-1]}")
        importlib.invalidate_caches()
    print(f"{len(files)} packages installed in {target}", flush=True)


def fail(why: str) -> None:
    """Exit with a message of one line."""
    print(f"error: {why}", file=sys.stderr)
    sys.exit(2)


def run_within(
    seconds: float, command: list[str], environment: dict[str, str], output: Path | None = None
) -> int | None:
    """The exit code of a command; None if it took too long, when all of its processes end.

    Args:
        seconds: How long it may take.
        command: The program and its arguments.
        environment: Its environment.
        output: File for its output; None leaves it on the terminal.
    """
    with output.open("wb") if output else nullcontext() as file:
        child = subprocess.Popen(
            command, cwd=ROOT, env=environment, start_new_session=True, stdout=file, stderr=file
        )
        try:
            return child.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()


def run_all(
    parts: dict[str, list[str]],
    seconds: float,
    at_once: int,
    environment: dict[str, str],
    folder: Path,
) -> Iterator[tuple[str, int | None, float]]:
    """Run commands, and yield the name, exit code and seconds of each, in their order.

    Args:
        parts: The commands by name.
        seconds: How long they may take together.
        at_once: How many run at a time; if several, their output is shown when they have ended.
        environment: Environment of the commands.
        folder: Folder for the output of commands that run at the same time.
    """
    deadline = time.monotonic() + seconds

    def one(name: str, output: Path | None) -> tuple[str, int | None, float]:
        begun = time.monotonic()
        within = max(1.0, deadline - begun)
        code = run_within(within, parts[name], environment, output)
        return name, code, time.monotonic() - begun

    if at_once <= 1:
        for name in parts:
            yield one(name, None)
        return
    outputs = {name: folder / f"{name}.txt" for name in parts}
    with ThreadPoolExecutor(at_once) as pool:
        for found in pool.map(one, outputs, outputs.values()):
            print(outputs[found[0]].read_text(errors="replace"), flush=True)
            yield found


def _kind(part: tuple[str, list[str]]) -> str:
    """Tests or a benchmark, by the name of a part."""
    return part[0].split("-")[0]


def outcome(report: Path) -> dict[str, Any]:
    """Numbers of tests, and what failed, from pytest's report."""
    if not report.exists():
        return {}
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    failures = []
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        bad = [x for x in case if x.tag in ("failure", "error")]
        kind = "failed" if bad else "skipped" if case.find("skipped") is not None else "passed"
        counts[kind] += 1
        if bad:
            name = f"{case.get('classname')}::{case.get('name')}"
            failures.append({"test": name, "message": (bad[0].get("message") or "")[:500]})
    return {**counts, "failures": failures}


def commands(device: str, folder: Path, quick: bool) -> dict[str, list[str]]:
    """The command of each part. Each file of tests is a part, since a test may break the device."""
    tests = sorted((ROOT / "tests").rglob("test_*_on_devices.py"))
    python = [sys.executable, "-m", "pytest", "--tb=short", "-p", "no:cacheprovider"]
    marked = "cuda" if device == "cuda" else "not cuda"
    cores = os.cpu_count() or 1
    if device == "cuda" and cores >= 8 and importlib.util.find_spec("xdist"):
        python += ["--numprocesses", str(cores // 4)]
    bench = [sys.executable, str(ROOT / "scripts" / "bench_gpu.py")]
    own = ["--device", device]
    turns = ["--turns", "7"]
    small: dict[str, list[str]] = {"optimizers": turns, "waits": [], "models": turns}
    if quick:
        tests = [path for path in tests if path.parent.name == "activations"]
        small["optimizers"] = ["--turns", "1", "--shapes", "tiny"]
        small["waits"] = ["--updates", "3", "--models", "textcnn"]
        small["models"] = [
            "--no-compile",
            "--turns",
            "1",
            "--larger",
            "1",
            "--batches",
            "1",
            "--models",
            "textcnn",
        ]
    parts = {}
    for path in tests:
        report = str(folder / f"tests-{path.parent.name}.xml")
        parts[f"tests-{path.parent.name}"] = [
            *(*python, "-m", marked, "--junitxml", report, str(path))
        ]
    for name, options in small.items():
        parts[name] = [*bench, name, "--json", str(folder / f"{name}.json"), *own, *options]
    return parts


def main() -> int:
    """Install, run each part, and write the record after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, default=ROOT / "results/benchmarks/gpu.json")
    parser.add_argument("--wheels", type=Path, default=ROOT / "wheels")
    parser.add_argument("--target", type=Path, default=ROOT / "build/gpu")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="for all of it")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--commit", help="the commit to record where there is no git")
    parser.add_argument("--quick", action="store_true", help="a little of each part, to try it")
    parser.add_argument(
        "--babi",
        nargs="+",
        metavar="NAME",
        help="do nothing but to train these names of babi_seeds.py, with --data-dir",
    )
    parser.add_argument("--data-dir", type=Path, help="folder with babi/en-10k")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "babi", help="of --babi")
    given = parser.parse_args()
    if given.babi and not given.data_dir:
        fail("--babi needs --data-dir FOLDER, the folder with babi/en-10k")
    start = time.monotonic()
    if given.device == "cuda" and not torch.cuda.is_available():
        fail("make gpu needs a CUDA device, and torch sees none here")
    install(given.wheels.resolve(), given.target.resolve())
    files: Any = importlib.import_module("dlnotes.files")
    provenance = importlib.import_module("dlnotes.training.record").provenance
    folder = ROOT / "build" / "gpu-parts"
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    paths = [str(given.target.resolve()), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "PYTHONUNBUFFERED": "1",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # sums of matrix products in one order
    }
    if given.babi:
        command = [sys.executable, str(ROOT / "scripts" / "babi_seeds.py"), *given.babi]
        options = {"data-dir": given.data_dir.resolve(), "out": given.out.resolve()}
        options |= {"device": given.device, "minutes": given.minutes}
        command += [f"--{name}={value}" for name, value in options.items()]
        command += ["--commit", given.commit] if given.commit else []
        return subprocess.call(command, cwd=ROOT, env=environment)
    record: dict[str, Any] = {**provenance(0), "device": given.device, "parts": {}}
    record["commit"] = record["commit"] or given.commit
    record["versions"]["cuda"] = torch.version.cuda
    end = start + given.minutes * 60
    for kind, some in groupby(commands(given.device, folder, given.quick).items(), _kind):
        begun = time.monotonic()
        within = max(1.0, (end - begun) * SHARES[kind])
        # Tests run side by side; nothing runs beside what is timed.
        at_once = (os.cpu_count() or 1) // 2 if kind == "tests" else 1
        for name, code, seconds in run_all(dict(some), within, at_once, environment, folder):
            part: dict[str, Any] = {"exit_code": code, "seconds": seconds}
            if kind == "tests":
                part |= outcome(folder / f"{name}.xml")
            elif (found := folder / f"{name}.json").exists():
                part["rows"] = files.read_json(found, "is no record")["rows"]
            record["parts"][name] = part
            record["seconds"] = time.monotonic() - start
            files.write_json(given.json, record)
            ended = "out of time" if code is None else f"exit code {code}"
            print(f"{name}: {ended} after {seconds:.0f} s; {given.json}", flush=True)
    return int(any(part["exit_code"] != 0 for part in record["parts"].values()))


if __name__ == "__main__":
    sys.exit(main())
