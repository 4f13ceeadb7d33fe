"""Build the book: the notes as a site, in each of its languages."""

from __future__ import annotations

import http.server
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import webbrowser
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from chapters.words import LANGUAGES
from dlnotes.cli import run
from dlnotes.errors import UserError
from dlnotes.files import make_folder, remove_abandoned

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = Path(__file__).parent / "chapters" / "pages.py"
_BUILDING = ".building-"
_MARK = ".dlnotes"
"""A file of each language's folder, by which this program knows its own sites."""


def main(out: Path = ROOT / "build" / "docs", open: bool = False) -> None:
    """Build the site and run every cell of every page; warnings are errors.

    Args:
        out: Folder of the site.
        open: Serve the site on this machine and open it in the browser, until Ctrl-C.
    """
    for package in ("sphinx", "furo", "myst_nb"):
        if find_spec(package) is None:
            raise UserError(f"the book needs the package {package}: pip install '.[docs]'")
    make_folder(out)
    _check_can_be_replaced(out)
    remove_abandoned(out, _BUILDING)
    # The cells' results are not in OUT: their place becomes part of the address of a database, in
    # which a "?" has another meaning.
    with (
        tempfile.TemporaryDirectory(dir=out.absolute(), prefix=_BUILDING) as work,
        tempfile.TemporaryDirectory() as cells,
    ):
        if {*"?%"} & {*cells}:
            raise UserError(f"the folder for temporary files must have no ? and no %: {cells}")
        _set_up_kernels(Path(work) / "ipython")
        build(Path(work), Path(cells))
        for folder in LANGUAGES:
            (Path(work) / folder / _MARK).touch()
            shutil.rmtree(out / folder, ignore_errors=True)
            (Path(work) / folder).rename(out / folder)
    shutil.copyfile(DOCS / "index.html", out / "index.html")
    print(out / "index.html")
    if open:
        _serve(out)


def _check_can_be_replaced(out: Path) -> None:
    """Require that the folder of the site, if it exists, holds an earlier site.

    Raises:
        UserError: It holds something else.
    """
    sites = [out / folder for folder in LANGUAGES]
    ours = [site.is_dir() and (site / _MARK).is_file() for site in sites]
    others = [site for site, is_ours in zip(sites, ours, strict=True) if not is_ours]
    if not any(ours):
        others.append(out / "index.html")
    for path in (*sites, out / "index.html"):
        if path.is_symlink() or (path in others and path.exists()):
            raise UserError(f"--out: {path} is not of a site of this program; give another")


def build(out: Path, cells: Path) -> None:
    """Build the pages of all languages.

    Args:
        out: Folder of the built pages, in which each language has a folder.
        cells: Folder of the results of the cells, which the languages share.

    Raises:
        UserError: There was a warning or an error, which Sphinx has printed.
    """
    # Sphinx forks a process for each core. OpenMP's threads are not forked with it: if they had
    # begun, the forked process would wait for them forever. With a single one, none begins.
    # The locale of the user may be one that this machine does not have.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "LC_ALL": "C"}
    # In a separate process, because Sphinx ignores some signals and takes others for errors of a
    # page.
    command = [sys.executable, str(PAGES), str(out), str(cells)]
    with subprocess.Popen(command, env=environment, start_new_session=True) as pages:
        try:
            failed = pages.wait()
        finally:
            _end(pages)
    if failed:
        raise UserError("the book has the errors above")


def _end(leader: subprocess.Popen[bytes]) -> None:
    """End a group of processes and the kernels that they have started in groups of their own."""
    import psutil

    with suppress(ProcessLookupError):  # all have ended
        os.killpg(leader.pid, signal.SIGSTOP)  # no more kernels are started
        started = []
        with suppress(psutil.NoSuchProcess):
            started = psutil.Process(leader.pid).children(recursive=True)
        for process in started:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        os.killpg(leader.pid, signal.SIGKILL)
        psutil.wait_procs(started, timeout=3)


def _set_up_kernels(folder: Path) -> None:
    """Keep the user's own profile, kernels and warnings out of the book, and log only errors."""
    profile = folder / "profile_default"
    profile.mkdir(parents=True)
    (profile / "ipython_kernel_config.py").write_text("c.IPKernelApp.log_level = 40\n", "utf-8")
    os.environ["IPYTHONDIR"] = str(folder)
    os.environ.pop("JUPYTER_PATH", None)
    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"
    os.environ.pop("PYTHONWARNINGS", None)


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
