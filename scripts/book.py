"""Build the book: the notes as a site, in each of its languages."""

from __future__ import annotations

import http.server
import logging
import os
import shutil
import tempfile
import threading
import webbrowser
from functools import partial
from importlib.util import find_spec
from pathlib import Path

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
    for package in ("sphinx", "furo", "myst_nb"):
        if find_spec(package) is None:
            raise UserError(f"the book needs the package {package}: pip install '.[docs]'")
    make_folder(out)
    for folder in LANGUAGES:
        if (out / folder).exists() and not (out / folder / ".buildinfo").is_file():
            raise UserError(f"--out: {out / folder} is not a site of this program; give another")
    with tempfile.TemporaryDirectory(dir=out, prefix=".building-") as work:
        _set_up_kernels(Path(work) / "ipython")
        for folder, language in LANGUAGES.items():
            build(folder, language, Path(work))
        for folder in LANGUAGES:  # all of them are whole
            shutil.rmtree(out / folder, ignore_errors=True)
            (Path(work) / folder).rename(out / folder)
    shutil.copyfile(DOCS / "index.html", out / "index.html")
    print(out / "index.html")
    if open:
        _serve(out)


def build(folder: str, language: str, out: Path) -> None:
    """Build the pages of one language.

    Args:
        folder: Folder of the pages in docs/.
        language: Sphinx's name of the language.
        out: Where that folder goes to.

    Raises:
        UserError: There was a warning or an error, which Sphinx has printed.
    """
    from sphinx.cmd.build import build_main

    logging.getLogger("traitlets").setLevel(logging.WARNING)  # it reports every kernel
    settings = [
        "-D",
        f"language={language}",
        "-c",
        str(DOCS),
        "-d",
        str(out / f"doctrees-{folder}"),
        "-D",
        f"nb_execution_cache_path={out / 'cells'}",
    ]
    strict = ["--fail-on-warning", "--quiet", "--jobs", "auto"]
    if build_main(["-b", "html", *strict, *settings, str(DOCS / folder), str(out / folder)]):
        raise UserError(f"the pages in {DOCS / folder} have the errors above")


def _set_up_kernels(folder: Path) -> None:
    """Keep the user's own IPython profile out of the book; say errors alone, not every start."""
    profile = folder / "profile_default"
    profile.mkdir(parents=True)
    (profile / "ipython_kernel_config.py").write_text("c.IPKernelApp.log_level = 40\n", "utf-8")
    os.environ["IPYTHONDIR"] = str(folder)
    # tqdm asks for ipywidgets in every notebook, on stderr, which is shown on the page.
    ignored = [os.environ.get("PYTHONWARNINGS", ""), "ignore:IProgress not found"]
    os.environ["PYTHONWARNINGS"] = ",".join(filter(None, ignored))


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
