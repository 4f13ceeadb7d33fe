"""MathJax, from the package sphinx-mathjax-offline, as a file of the site."""

from __future__ import annotations

import hashlib
import shutil
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from dlnotes.errors import UserError

VERSION = "3.2.2"
FILE = "tex-svg.js"
"""One file that reads TeX and draws SVG: it needs no fonts and loads nothing later."""
SHA256 = "d4295dc33744836935c1399feece5159577b34c5c8ffb9f1c6324cd82e03a882"
PACKAGE = "sphinx-mathjax-offline"


def place(folder: Path) -> None:
    """Copy MathJax into a folder, which is created.

    Raises:
        UserError: The package is not installed, or holds another version.
    """
    try:
        file = Path(str(distribution(PACKAGE).locate_file(f"{PACKAGE}/static/mathjax/{FILE}")))
        content = file.read_bytes()
    except (PackageNotFoundError, OSError) as error:
        raise UserError(
            f"the book's formulas need MathJax {VERSION}, which the package {PACKAGE} has: "
            "pip install '.[docs]'"
        ) from error
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise UserError(f"{file} is not MathJax {VERSION}; the book is made for that version")
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, folder / FILE)
