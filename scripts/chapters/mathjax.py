"""MathJax from its npm package: fetched once, checked, and then copied into every site."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from dlnotes.errors import UserError

VERSION = "3.2.2"
FILE = "tex-svg.js"
"""One file that reads TeX and draws SVG: it needs no fonts and loads nothing later."""
SHA256 = "d4295dc33744836935c1399feece5159577b34c5c8ffb9f1c6324cd82e03a882"
KEPT = Path(__file__).parents[2] / "build" / "mathjax" / VERSION / FILE


def place(folder: Path) -> None:
    """Copy MathJax into a folder.

    Args:
        folder: Where to; it is made.

    Raises:
        UserError: The package cannot be had, or is not the one expected.
    """
    if not KEPT.is_file():
        _fetch()
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(KEPT, folder / FILE)


def _fetch() -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise UserError(
            f"the book's formulas need MathJax {VERSION}, which npm downloads: install npm, or put "
            f"es5/{FILE} of that package at {KEPT}"
        )
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [npm, "pack", "--silent", f"mathjax@{VERSION}"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise UserError(f"npm pack mathjax@{VERSION} failed: {last}")
        with tarfile.open(Path(folder) / done.stdout.strip()) as package:
            member = package.extractfile(f"package/es5/{FILE}")
            content = member.read() if member else b""
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise UserError(f"mathjax@{VERSION} from npm is not the package whose sum is known")
    KEPT.parent.mkdir(parents=True, exist_ok=True)
    beside = KEPT.with_name(f"{FILE}.{os.getpid()}")
    beside.write_bytes(content)
    beside.replace(KEPT)
