"""Provenance of a figure: how, where and by which versions it was computed."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import dlnotes


def provenance(seed: int) -> dict[str, Any]:
    """Command, commit, seed, versions and machine.

    The commit is None outside a git checkout, and ends in ``+`` if files differ from it.
    """
    return {
        "command": shlex.join([Path(sys.executable).name, *sys.argv]),
        "commit": _commit(),
        "seed": seed,
        "versions": {
            "dlnotes": dlnotes.__version__,
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "numpy", "polars")},
        },
        "machine": {
            "system": platform.platform(),
            "processor": _processor(),
            "cores": len(os.sched_getaffinity(0))
            if hasattr(os, "sched_getaffinity")
            else os.cpu_count(),
            "threads": torch.get_num_threads(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        },
    }


def _commit() -> str | None:
    def git(*arguments: str) -> str:
        folder = Path(__file__).parent
        return subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        # A package that is installed inside another project's checkout must not record its commit.
        if not git("ls-files", "--", __file__):
            return None
        changed = "+" if git("status", "--porcelain", "--untracked-files=no") else ""
        return git("rev-parse", "HEAD") + changed
    except (OSError, subprocess.SubprocessError):
        return None


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
