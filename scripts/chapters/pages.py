"""Build the pages of all languages: ``python pages.py OUT CELLS``, as `book.py` runs it."""

from __future__ import annotations

import sys
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

if __name__ == "__main__":
    # Import from scripts/, not from this folder. PYTHONPATH would reach the cells of the pages.
    sys.path[0] = str(Path(__file__).parents[1])

from jupyter_cache import get_cache

from chapters.figures import FIGURES, draw
from chapters.rows import compare, keep_rows, named_in
from chapters.words import LANGUAGES
from dlnotes.errors import UserError

Result = TypeVar("Result")

DOCS = Path(__file__).parents[2] / "docs"


def main(out: Path, cells: Path) -> int:
    """Build the pages of all languages, and return an exit status.

    Args:
        out: Folder of the built pages, in which each language has a folder.
        cells: Folder of the results of the cells.
    """
    make_beforehand(out / "figures")
    # Make the database now: two readers that find none would both make it, and one would fail.
    _ = get_cache(cells).db
    for folder, language in LANGUAGES.items():
        # In a process of its own, because Sphinx keeps the words of its first language.
        process = get_context("fork").Process(target=build, args=(folder, language, out, cells))
        process.start()
        process.join()
        if process.exitcode:
            if process.exitcode < 0:
                print(f"error: signal {-process.exitcode} ended Sphinx", file=sys.stderr)
            return 1
    return 0


def make_beforehand(figures: Path) -> None:
    """Draw the figures and run the comparisons of all pages, with all cores.

    The processes that read the pages are forked from this one, and so have the comparisons.

    Args:
        figures: Folder of the figures.

    Raises:
        UserError: A figure or a comparison has an error.
    """
    pages = [page for folder in LANGUAGES for page in sorted((DOCS / folder).rglob("*.md"))]
    notes = sorted(named_in(pages))
    with ProcessPoolExecutor() as pool:
        drawn = {name: pool.submit(draw, name, figures) for name in FIGURES}
        compared = {note: pool.submit(compare, note) for note in notes}
        try:
            for name, figure in drawn.items():
                _result("the figure", name, figure)
            for note, rows in compared.items():
                keep_rows(note, _result("the comparison", note, rows))
        except UserError:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _result(what: str, name: str, future: Future[Result]) -> Result:
    try:
        return future.result()
    except (Exception, SystemExit) as error:
        kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
        raise UserError(f"{what} {name}: {kind}{error}") from error


def build(folder: str, language: str, out: Path, cells: Path) -> None:
    """Build the pages of one language.

    Args:
        folder: Folder of the pages in docs/.
        language: Sphinx's name of the language.
        out: Folder of the built pages.
        cells: Folder of the results of the cells.

    Raises:
        SystemExit: Always, with the exit status of Sphinx, which has printed warnings and errors.
    """
    from sphinx.cmd.build import main as sphinx

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
    sys.exit(sphinx([*arguments, str(DOCS / folder), str(out / folder)]))


if __name__ == "__main__":
    try:
        # Without `exit_handler`, whose handlers of signals the processes of Sphinx would inherit.
        sys.exit(main(*map(Path, sys.argv[1:])))
    except UserError as error:
        sys.exit(f"error: {error}")
