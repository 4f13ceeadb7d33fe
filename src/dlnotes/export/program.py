"""A classifier's network as a program of torch.export and as a file of ONNX."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from dlnotes.activations import _activation
from dlnotes.errors import UserError
from dlnotes.export.recurrence import SCANNED
from dlnotes.models.averaging import average_scores
from dlnotes.nn import PAD

NEEDED = (2, 13)
"""The first version of torch whose exporter is known to keep loops as loops."""

TOLERANCE = 1e-5
"""How far scores of what was exported may be from the model's."""

_OF_TORCH = {"tanh": torch.tanh, "sigmoid": torch.sigmoid, "relu": torch.relu}


class Exportable(nn.Module):
    """Models as they can be exported: copies on the CPU, in evaluation mode, with the same scores.

    Loops over positions become one operator each (`dlnotes.export.recurrence`), and no shape
    depends on the tokens' values. Documents get more columns of padding than they have, so that a
    batch without a column is no case of its own.

    Args:
        models: one classifier, or the members of an ensemble.
        weights: of the members, see `average_scores`.
        average: what is averaged.
        multi_label: whether a document may have several labels.
    """

    def __init__(
        self,
        models: Sequence[nn.Module],
        weights: Sequence[float] = (1.0,),
        average: str = "probabilities",
        multi_label: bool = False,
    ) -> None:
        super().__init__()
        self.weights, self.average, self.multi_label = tuple(weights), average, multi_label
        self.members = nn.ModuleList(copy.deepcopy(m).cpu().eval() for m in models)
        self.requires_grad_(False)
        # FastText makes n-grams of all lengths of what has at least as many columns.
        self.columns = [getattr(model, "ngrams", 1) for model in models]
        for module in self.members.modules():
            if type(module) in SCANNED:
                module.__class__ = SCANNED[type(module)]
            if hasattr(module, "data_dependent"):
                module.data_dependent = False
            if hasattr(module, "fused"):
                module.fused = True

    def forward(self, *tokens: Int[Tensor, "b t"]) -> Float[Tensor, "b c"]:
        """Score the documents, of which every member has its own tokens."""
        scores: list[Tensor] = [
            member(F.pad(ids, (0, columns), value=PAD))
            for member, columns, ids in zip(self.members, self.columns, tokens, strict=True)
        ]
        if len(scores) == 1:
            return scores[0]
        return average_scores(scores, self.weights, self.average, multi_label=self.multi_label)


def program_of(model: Exportable) -> torch.export.ExportedProgram:
    """The program of torch.export: token ids ``b t`` of each member → scores ``b c``, any b and t.

    Raises:
        UserError: torch is too old, or cannot export the model.
    """
    check_torch()
    # Sizes of which none is 0 or 1 and no two are the same, lest they be taken for constants.
    examples = tuple(torch.ones(3, 5 + 2 * i, dtype=torch.int64) for i in range(len(model.members)))
    dims = tuple(dict.fromkeys((0, 1), torch.export.Dim.DYNAMIC) for _ in examples)
    with _quiet(), torch.no_grad(), _activations_of_torch(), _sizes_as_symbols():
        return torch.export.export(model, examples, dynamic_shapes=(dims,), strict=False)


def check_torch() -> None:
    """Require a torch that can export recurrences.

    Raises:
        UserError: It is too old.
    """
    major, minor, *_ = torch.__version__.split(".")
    if (int(major), int(minor)) < NEEDED:
        needed = ".".join(map(str, NEEDED))
        raise UserError(f"export needs torch {needed} or newer; this is {torch.__version__}")


@contextmanager
def _activations_of_torch() -> Iterator[None]:
    """Let activations be torch's own, which are one operator each in every format.

    Ours are formulas that torch.compile makes fast code of; some of their operations do not exist
    in ONNX. The values are the same up to rounding.
    """
    ours = _activation.apply

    def apply(function: Any, *inputs: Any) -> Tensor:
        theirs = _OF_TORCH.get(function.__name__)
        return theirs(*inputs) if theirs else ours(function, *inputs)

    _activation.apply = apply
    try:
        yield
    finally:
        _activation.apply = ours


@contextmanager
def _sizes_as_symbols() -> Iterator[None]:
    """Take nothing for granted of a size because the example's is neither 0 nor 1."""
    from torch.fx.experimental import _config

    with _config.patch(backed_size_oblivious=True):
        yield


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's words about itself."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
