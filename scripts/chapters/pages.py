"""Build the pages of all languages: ``python -m chapters.pages OUT CELLS``.

A single process does this, because what the languages share is then made once.
"""

from __future__ import annotations

import sys
from pathlib import Path

from sphinx.cmd.build import main

from chapters.words import LANGUAGES

DOCS = Path(__file__).parents[2] / "docs"


def build(folder: str, language: str, out: Path, cells: Path) -> int:
    """Build the pages of one language, and return Sphinx's exit status.

    Args:
        folder: Folder of the pages in docs/.
        language: Sphinx's name of the language.
        out: Folder of the built pages.
        cells: Folder of the results of the cells.
    """
    settings = {
        "-b": "html",
        "-c": str(DOCS),
        "-d": str(out / f"doctrees-{folder}"),
        "--jobs": "auto",
    }
    defined = {"language": language, "nb_execution_cache_path": str(cells)}
    arguments = ["--fail-on-warning", "--quiet"]
    arguments += [part for setting in settings.items() for part in setting]
    arguments += [part for name, value in defined.items() for part in ("-D", f"{name}={value}")]
    return main([*arguments, str(DOCS / folder), str(out / folder)])


if __name__ == "__main__":
    out, cells = map(Path, sys.argv[1:])
    sys.exit(any(build(*language, out, cells) for language in LANGUAGES.items()))
