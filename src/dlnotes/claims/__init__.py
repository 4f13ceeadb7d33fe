"""Every claim of the notes, tested by an experiment: one file for each.

A module is imported when its claim is asked for.
"""

from __future__ import annotations

CLAIMS: tuple[str, ...] = (
    "adam_is_the_best",
    "momentum_damps_oscillation",
)
"""The modules of this package that define a ``CLAIM``."""
