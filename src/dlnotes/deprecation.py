"""Old names of what has moved: they keep working, and a warning gives the new name."""

from __future__ import annotations

import sys
import warnings
from importlib import import_module
from typing import Any

MOVED = {
    **{
        f"dlnotes.nn.alignment.{name}": f"dlnotes.nn.attention.{name}"
        for name in ("ALIGNMENTS", "AdditiveAttention", "MultiplicativeAttention")
    },
    "dlnotes.nn.alignment.Memory": "dlnotes.nn.attention.AttentionMemory",
    "dlnotes.nn.Memory": "dlnotes.nn.AttentionMemory",
    **{
        f"dlnotes.models.ensemble.{name}": f"dlnotes.models.averaging.{name}"
        for name in ("AVERAGES", "average_scores", "greedy_weights", "samme")
    },
    **{
        f"dlnotes.foundations.digits.{name}": f"dlnotes.data.digits.{name}"
        for name in ("MIRRORS", "MNIST", "Split", "digits", "mnist", "read_idx")
    },
    "dlnotes.models.entity_network.Memory": "dlnotes.models.entity_network.SlotRecurrence",
    "dlnotes.models.seq2seq.SPECIALS": "dlnotes.models.seq2seq.NUM_RESERVED",
    "dlnotes.models.seq2seq.UNKNOWN": "dlnotes.nn.UNK",
    "dlnotes.data.babi.QUESTION": "dlnotes.data.tokenization.QUESTION_TOKEN",
    "dlnotes.data.pairs.MARKS": "dlnotes.data.pairs.TARGET_MARKS",
    "dlnotes.data.tokenization.QUESTION": "dlnotes.data.tokenization.QUESTION_TOKEN",
    "dlnotes.data.tokenization.SENTENCE_END": "dlnotes.data.tokenization.SENTENCE_END_TOKEN",
    "dlnotes.data.corpora.Source": "dlnotes.data.corpora.CorpusSplit",
    "dlnotes.nn.decoding.State": "dlnotes.nn.decoding.DecoderState",
    **{
        f"dlnotes.optim{module}.{name}": f"dlnotes.data.batches.{name}"
        for module in ("", ".gradient_descent")
        for name in ("BGD", "SGD", "MBGD")
    },
    "dlnotes.optim.conversion.State": "dlnotes.optim.conversion.ParameterState",
    "dlnotes.training.fit.State": "dlnotes.training.fit.TrainingState",
    "dlnotes.training.fit.mean_loss": "dlnotes.training.objectives.mean_loss",
    "dlnotes.training.train.CHECKPOINT": "dlnotes.training.folder.CHECKPOINT",
    "dlnotes.training.train.METRICS": "dlnotes.training.folder.METRICS",
    "dlnotes.training.train.WORD2VEC": "dlnotes.training.pretrained.WORD2VEC",
    "dlnotes.training.train.choose_device": "dlnotes.training.device.choose_device",
    "dlnotes.training.train.claim": "dlnotes.training.folder.create_run_folder",
    "dlnotes.training.train.parse_settings": "dlnotes.training.settings.parse_settings",
}
"""Old name → new name, each with its module."""


def keep_old_names(module: str) -> None:
    """Give a module a ``__getattr__`` for the names in :data:`MOVED` that it had.

    Python calls it for a name that the module does not have (PEP 562). It is set here and not
    written in the module, where it would make a type checker accept any name.

    Args:
        module: The module's ``__name__``.
    """

    def find(name: str) -> Any:
        old = f"{module}.{name}"
        if old not in MOVED:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        new_module, _, new_name = MOVED[old].rpartition(".")
        warnings.warn(f"{old} is now {MOVED[old]}", DeprecationWarning, stacklevel=2)
        return getattr(import_module(new_module), new_name)

    vars(sys.modules[module])["__getattr__"] = find
