"""The native code under AddressSanitizer and UndefinedBehaviorSanitizer.

Nothing in the package is changed for that: the compilers' flags are in ``$CC`` and ``$CXX``, and a
cache of its own holds what they make. Only our code is checked, but every allocation, torch's too,
is surrounded by memory that it may not touch.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FLAGS = "-fsanitize=address,undefined -fno-sanitize-recover=all -g"
HERE = Path(__file__).parent


def runtimes():
    """The sanitizers' libraries, which have to be loaded before Python's own."""
    for variable, usual in (("CC", "gcc"), ("CXX", "g++")):
        named = os.environ.get(variable, usual)
        if Path(named.split()[0] if named.split() else usual).name != usual:
            pytest.skip(f"${variable} is {named}, and this is for {usual}")
    if platform.system() != "Linux" or not (shutil.which("gcc") and shutil.which("g++")):
        pytest.skip("needs GCC on Linux")
    found = []
    for name in ("libasan.so", "libubsan.so"):
        command = ["gcc", f"-print-file-name={name}"]
        path = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        if not Path(path).is_absolute():  # gcc repeats the name of what it does not have
            pytest.skip(f"there is no {name}")
        found.append(path)
    return found


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory):
    """Run a script of this folder with checks."""
    cache = tmp_path_factory.mktemp("sanitized")
    environment = {
        **os.environ,
        "CC": f"gcc {FLAGS}",
        "CXX": f"g++ {FLAGS}",
        "LD_PRELOAD": " ".join(runtimes()),
        "ASAN_OPTIONS": "detect_leaks=0",  # Python and torch leave theirs to the system
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "DLNOTES_CACHE": str(cache),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }

    def run(*command):
        done = subprocess.run(
            [sys.executable, *map(str, command)],
            cwd=HERE,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
        return done.stdout

    run.cache = cache
    return run


@pytest.mark.slow
@pytest.mark.timeout(900)  # checks make each loop many times slower
@pytest.mark.parametrize("loops", ["optimizers", "activations", "means"])
def test_loops(sanitized, loops):
    assert sanitized("sanitized_loops.py", loops)
    libraries = [*Path(sanitized.cache, "kernels").glob("*.so")]
    assert libraries
    for library in libraries:
        content = library.read_bytes()
        assert b"__asan_report_" in content, "a library without checks"
        assert b"__ubsan_handle_" in content


@pytest.mark.slow
def test_hostile_contexts(sanitized):
    """A part of the matrix, with every mode and rule; all of it would take an hour."""
    found = sanitized("optim/hostile_contexts.py", 5, 24)
    *failed, summary = map(json.loads, found.splitlines())
    assert failed == []
    assert summary["cells"] >= 30
