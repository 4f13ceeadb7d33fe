"""Build the book: the notes as a site, in each of its languages."""

from __future__ import annotations

import http.server
import shutil
import threading
import webbrowser
from functools import partial
from pathlib import Path

from sphinx.cmd.build import build_main

from chapters.words import LANGUAGES
from dlnotes.cli import run
from dlnotes.errors import UserError
from dlnotes.files import make_folder

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def main(out: Path = ROOT / "build" / "docs", open: bool = False) -> None:
    """Build the site, all warnings being errors; every cell of every page is run.

    Args:
        out: Folder of the site.
        open: Serve the site on this machine and open it in the browser, until Ctrl-C.
    """
    make_folder(out)
    for folder, language in LANGUAGES.items():
        build(folder, language, out)
    shutil.rmtree(out / "jupyter_execute", ignore_errors=True)  # what MyST-NB leaves there
    shutil.copyfile(DOCS / "index.html", out / "index.html")
    print(out / "index.html")
    if open:
        _serve(out)


def build(folder: str, language: str, out: Path) -> None:
    """Build the pages of one language.

    Args:
        folder: Folder of the pages in docs/.
        language: Sphinx's name of the language.
        out: Folder of the site.

    Raises:
        UserError: There was a warning or an error, which Sphinx has printed.
    """
    settings = ["-D", f"language={language}", "-c", str(DOCS)]
    # What Sphinx keeps of an earlier build does not know that a record or a source has changed.
    work = ["--fresh-env", "-d", str(out.parent / f".doctrees-{out.name}" / folder)]
    strict = ["--fail-on-warning", "--quiet"]
    pages, site = str(DOCS / folder), str(out / folder)
    if build_main(["-b", "html", *strict, *settings, *work, pages, site]):
        raise UserError(f"the pages in {DOCS / folder} have the errors above")


def _serve(site: Path) -> None:
    handler = partial(_Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        address = f"http://127.0.0.1:{server.server_port}/"
        print(f"{address} (Ctrl-C stops it)", flush=True)
        threading.Timer(0.3, webbrowser.open, [address]).start()
        server.serve_forever()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    """Does not print a line per file."""

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


if __name__ == "__main__":
    run(main)
