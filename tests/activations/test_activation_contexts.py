"""Contexts that change what torch's operations do, at the first call and later (``hostile.py``)."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import hostile
import pytest

from compiling import compiles
from dlnotes import kernel

PROGRAM = Path(hostile.__file__)


def has_compiler():
    try:
        kernel.compiled("int one(void) { return 1; }\n", *kernel.EXACT)
    except (OSError, RuntimeError):
        return False
    return True


def failures(cells):
    """Run the cells; what failed, with its reason."""
    environment = {
        **os.environ,
        "HOSTILE_COMPILER": str(int(has_compiler())),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    done = subprocess.run(
        [sys.executable, PROGRAM, *cells],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    results = dict(line.split("\t", 1) for line in done.stdout.splitlines())
    assert list(results) == list(cells)
    return {name: text.replace("\\n", "\n") for name, text in results.items() if text}


def test_a_first_call_under_every_mode():
    """With a default dtype that is none of torch's own, and in a context of another device."""
    cells = itertools.product(["bfloat16"], ["cpu", "meta"], hostile.MODES, ["first"])
    assert failures(["/".join(names) for names in cells]) == {}


@compiles
def test_the_compiler_is_imported_by_who_compiles_alone():
    """It takes longer than all else that an activation needs."""
    program = "import sys, dlnotes.activations; sys.exit('torch._dynamo' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("device", hostile.DEVICES)
@pytest.mark.parametrize("dtype", hostile.DTYPES)
def test_every_context(dtype, device):
    """Default dtype × default device × mode × first or later call."""
    cells = itertools.product([dtype], [device], hostile.MODES, hostile.CALLS)
    assert failures(["/".join(names) for names in cells]) == {}
