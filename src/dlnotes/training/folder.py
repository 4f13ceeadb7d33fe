"""What a run folder holds; it can be looked at without importing torch."""

from __future__ import annotations

from pathlib import Path

from dlnotes.errors import UserError
from dlnotes.files import make_folder

METRICS = "metrics.json"
"""The record: provenance, settings, figures."""
CHECKPOINT = "checkpoint.pt"
"""All that a training needs to go on."""
REFIT = "refit.pt"
"""The same of training again, with the dev documents."""
DEV_SCORES = "dev_scores.pt"
"""Scores of the dev documents by the model that was trained without them (--refit)."""
OPTIONS = "config.yaml"
"""The options that repeat a run."""
CLASSIFIER, TRANSLATOR = "classifier", "translator"
"""Folders of what was trained."""
CONFIG = "config.json"
"""What a classifier or translator is, in its folder."""


def create_run_folder(out: Path, resume: bool | None = False) -> None:
    """Make the run folder.

    Args:
        out: The folder.
        resume: Whether to go on with the run that it holds; None for a run that cannot be resumed.

    Raises:
        UserError: It holds a run already (unless that is to be resumed) or cannot be written to.
    """
    if not resume and any((out / name).exists() for name in (CHECKPOINT, METRICS)):
        way = "" if resume is None else ", or --resume to go on"
        raise UserError(f"{out} already holds a run: give another --out{way}")
    make_folder(out)
