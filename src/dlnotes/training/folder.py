"""The files of a run folder, and the rules for writing one; does not import torch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

from dlnotes import launch
from dlnotes.errors import UserError
from dlnotes.files import locked, make_folder, option_of, resolved

METRICS = "metrics.json"
"""The record: provenance, settings, figures."""
CHECKPOINT = "checkpoint.pt"
"""Everything that is needed to resume a training."""
REFIT = "refit.pt"
"""The checkpoint of a refit, the second training with the dev documents."""
DEV_SCORES = "dev_scores.pt"
"""Scores of the dev documents by the model that was trained without them (--refit)."""
DOCUMENTS = "documents.npz"
"""Digests of the documents, so that a training with --from can tell old from new ones."""
OPTIONS = "config.yaml"
"""The options that repeat a run."""
CLASSIFIER, TRANSLATOR = "classifier", "translator"
"""Folder of the trained classifier or translator."""
FIRST_CLASSIFIER = "first-classifier"
"""Folder of the classifier that was trained without the dev documents (--refit). Another training
starts from this one, since it can be measured on them."""
CONFIG = "config.json"
"""Description of a classifier or translator, in its folder."""
WEIGHTS = "model.safetensors"
"""Weights of a classifier or translator."""
VOCABULARY, LABELS = "vocabulary.txt", "labels.json"
"""The tokens and the labels of a classifier."""
MERGES = "merges.txt"
"""The subwords of a classifier that reads bpe."""
VOCABULARIES = ("source.txt", "target.txt")
"""The tokens of a translator's two languages."""
LOCK = ".lock"
"""Exists while a program writes the run, and names that program."""
RESTARTS = ".restarts"
"""Exists once the processes of torchrun have begun or resumed the run, so that they resume it when
they are restarted."""
LOG = "events.out.tfevents.*"
"""Files of the TensorBoard log."""
# Files that an output must not replace.
_OF_A_RUN = (METRICS, CHECKPOINT, REFIT, DEV_SCORES, DOCUMENTS, OPTIONS)
_OF_A_MODEL = (CONFIG, WEIGHTS, VOCABULARY, MERGES, LABELS, *VOCABULARIES)

_held: ContextVar[frozenset[Path]] = ContextVar("_held", default=frozenset())


@contextmanager
def run_folder(out: Path, resume: bool | None = False) -> Iterator[None]:
    """Create the run folder and lock it against other programs; a nested call does nothing.

    The folder may contain the TensorBoard log of a training that ended before its first checkpoint.
    That log is moved to the sub-folder ``abandoned-1`` (or the next free number), so that it does
    not mix with the log of the new run.

    Args:
        out: The folder.
        resume: See `create_run_folder`.

    Raises:
        UserError: See `create_run_folder`; or another program is writing to the folder.
    """
    place = resolved(out)
    if place in _held.get():
        yield
        return
    if out.is_dir():
        make_folder(out)  # so that the error for a read-only folder names it and not the lock
    else:
        create_run_folder(out, resume)
    with locked(out / LOCK, f"cannot write to {out}: it"):
        create_run_folder(out, resume)
        if not resume:
            _set_log_apart(out)
        token = _held.set(_held.get() | {place})
        try:
            yield
        finally:
            _held.reset(token)


def check_not_of_a_run(**paths: Path | None) -> None:
    """Require that no output replaces a file of a run, a classifier or a translator.

    Args:
        paths: The outputs, by the names of their options.

    Raises:
        UserError: An output would.
    """
    for name, path in paths.items():
        if path is None:
            continue
        place = resolved(path)
        for names, signs in (
            (_OF_A_RUN, (METRICS, CHECKPOINT, CLASSIFIER, TRANSLATOR)),
            (_OF_A_MODEL, (CONFIG,)),
        ):
            if place.name in names and any((place.parent / sign).exists() for sign in signs):
                raise UserError(
                    f"{option_of(name)}: {path} is a file of the run itself; give another"
                )


def check_no_run(folder: Path) -> None:
    """Require that a folder for a classifier is not a run folder, which contains one of its own.

    Raises:
        UserError: It is a run folder.
    """
    names = (CLASSIFIER, TRANSLATOR, METRICS, CHECKPOINT)
    if any(os.path.exists(folder / name) for name in names):  # noqa: PTH110 -- never raises
        raise UserError(f"{folder} holds a run: save to another folder")


def is_restarted(out: Path) -> bool:
    """Whether torchrun (``--max-restarts``) has restarted the training of a run folder.

    The first attempt removes the mark of an earlier training. Otherwise, after it was refused the
    folder of another run, the next attempt would take that run for its own.

    Args:
        out: The folder.
    """
    sign = out / RESTARTS
    if launch.restart_count() == 0:
        with suppress(OSError):
            sign.unlink(missing_ok=True)
        return False
    return sign.exists() and any((out / name).exists() for name in (CHECKPOINT, METRICS))


def sign_restarts(out: Path) -> None:
    """Mark the run, so that it is resumed if torchrun restarts the processes."""
    if launch.may_restart():
        with suppress(OSError):  # without the mark, a restart is refused the folder
            (out / RESTARTS).touch()


def _set_log_apart(out: Path) -> None:
    if logs := sorted(out.glob(LOG)):
        number = 1
        while (apart := out / f"abandoned-{number}").exists():
            number += 1
        apart.mkdir()
        for log in logs:
            log.rename(apart / log.name)


def _link_to_a_file(out: Path) -> Path | None:
    """A link in the place of a file or folder that the run would write, if there is one."""
    folders = (CLASSIFIER, TRANSLATOR, FIRST_CLASSIFIER)
    inside = [Path(folder, name) for folder in folders for name in _OF_A_MODEL]
    for path in (out / name for name in [*map(Path, (*_OF_A_RUN, *folders)), *inside]):
        if os.path.islink(path) and os.path.exists(path):  # noqa: PTH110, PTH114 -- never raise
            return path
    return None


def create_run_folder(out: Path, resume: bool | None = False) -> None:
    """Create the run folder.

    Args:
        out: The folder.
        resume: Whether to resume the run in the folder; None for a run that cannot be resumed.

    Raises:
        UserError: The folder already holds a run and `resume` is not set, or it holds none and
            `resume` is set, or it cannot be written to.
    """
    if resume and not any((out / name).exists() for name in (CHECKPOINT, METRICS)):
        raise UserError(
            f"{out / CHECKPOINT} does not exist: there is nothing to resume; leave out --resume"
        )
    if not resume and any((out / name).exists() for name in (CHECKPOINT, METRICS)):
        way = ", or --resume to go on" if resume is False and (out / CHECKPOINT).exists() else ""
        raise UserError(f"{out} already holds a run: give another --out{way}")
    if not resume and (link := _link_to_a_file(out)):
        raise UserError(
            f"{link} is a link to {os.path.realpath(link)}, which the run would replace: remove "
            "the link, or give another --out"
        )
    make_folder(out)
