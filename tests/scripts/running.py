"""Running the scripts as a user does: what the tests of scripts share."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass
class Result:
    """What a script printed, and its exit code."""

    code: int
    out: str
    err: str


def process(name, *arguments, **options):
    """Start a script in a process of its own."""
    command = [sys.executable, str(ROOT / "scripts" / f"{name}.py"), *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}  # as in the tests' own process
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, stdout=pipe, stderr=pipe, text=True, env=environment, **options
    )
