"""A classifier's network as a torch.export program and as an ONNX file."""

from __future__ import annotations

import copy
import importlib.util
import io
import itertools
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
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
"""The largest allowed `difference` of an exported network's scores from the model's."""

_LARGEST = 3 << 29
"""Bytes of weights above which torch writes them beside an ONNX file, not into it."""
_OF_TORCH = {"tanh": torch.tanh, "sigmoid": torch.sigmoid, "relu": torch.relu}


class Averaged(nn.Module):
    """A copy of a classifier's network, or of an ensemble's with their average, on the CPU.

    The copies are in evaluation mode.

    Args:
        models: The network of one classifier, or those of an ensemble's members.
        weights: Weights of the members, see `average_scores`.
        average: What is averaged, see `average_scores`.
        multi_label: Whether a document may have several labels.
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

    def forward(self, *tokens: Int[Tensor, "b t"]) -> Float[Tensor, "b c"]:
        """Score documents, given their tokens for each member."""
        pairs = zip(self.members, tokens, strict=True)
        scores: list[Tensor] = [member(ids) for member, ids in pairs]
        if len(scores) == 1:
            return scores[0]
        return average_scores(scores, self.weights, self.average, multi_label=self.multi_label)


class Exportable(Averaged):
    """The same network in a form that can be exported, with the same scores.

    Each loop over positions becomes one operator (see `dlnotes.export.recurrence`), and no shape
    depends on the values of tokens. Documents get additional columns of padding, so that a batch
    without any column is not a special case.
    """

    def __init__(self, *averaged: Any, **rest: Any) -> None:
        super().__init__(*averaged, **rest)
        # With this many columns of padding, FastText can form n-grams of all lengths.
        self.columns: list[int] = [getattr(member, "ngrams", 1) for member in self.members]
        module: Any
        for module in self.members.modules():
            if type(module) in SCANNED:
                module.__class__ = SCANNED[type(module)]
            if hasattr(module, "data_dependent"):
                module.data_dependent = False
            if hasattr(module, "fused"):
                module.fused = True

    def forward(self, *tokens: Int[Tensor, "b t"]) -> Float[Tensor, "b c"]:
        """Score documents, given their tokens for each member."""
        pairs = zip(tokens, self.columns, strict=True)
        return super().forward(*(F.pad(ids, (0, n), value=PAD) for ids, n in pairs))


def program_of(model: Exportable) -> torch.export.ExportedProgram:
    """Export a network: token ids ``b t`` of each member → scores ``b c``, for any b and t.

    Raises:
        UserError: torch is too old.
    """
    check_torch()
    # No size is 0 or 1 and no two are equal: the tracer would take such sizes for constants.
    examples = tuple(torch.ones(3, 5 + 2 * i, dtype=torch.int64) for i in range(len(model.members)))
    dims = tuple(dict.fromkeys((0, 1), torch.export.Dim.DYNAMIC) for _ in examples)
    with _quiet(), torch.no_grad(), _activations_of_torch(), _sizes_as_symbols():
        program = torch.export.export(model, examples, dynamic_shapes=(dims,), strict=False)
    # Guards record every size that the tracer looked at, even if no operation depends on it, and
    # would refuse a batch of one document. `difference` runs the program on such sizes instead.
    program._guards_code = []
    return program


def save_program(program: torch.export.ExportedProgram, path: Path) -> None:
    """Write a program for `torch.export.load`."""
    # torch's own writer ends the process where the disk is full.
    written = io.BytesIO()
    with _quiet():
        torch.export.save(program, written)
    path.write_bytes(written.getbuffer())


def save_onnx(program: torch.export.ExportedProgram, path: Path) -> None:
    """Write a program as ONNX: inputs ``tokens_0`` and so on, output ``scores``.

    Raises:
        UserError: onnx or onnxscript is not installed, or the weights are larger than `_LARGEST`.
    """
    require("onnx", "onnxscript")
    weights = [*program.state_dict.values(), *program.constants.values()]
    size = sum(weight.nbytes for weight in weights if isinstance(weight, torch.Tensor))
    if size > _LARGEST:
        raise UserError(
            f"the weights take {size / 1e9:.1f} GB, but one ONNX file holds at most "
            f"{_LARGEST / 1e9:.1f} GB: use --format torch"
        )
    from onnx_ir.passes.common import RemoveUnusedNodesPass

    with _quiet(), torch.no_grad():
        converted = torch.onnx.export(
            program,
            dynamo=True,
            optimize=True,
            verbose=False,
            output_names=["scores"],
            custom_translation_table=_exactly(),
        )
        assert converted is not None
        # What the optimizer has folded away may stay as a constant; onnxruntime would tell of it.
        RemoveUnusedNodesPass()(converted.model)
        converted.save(path)


def _exactly() -> dict[Callable[..., Any], Callable[..., Any]]:
    """Translations of sigmoid and tanh that use exp instead of ONNX's own operators.

    onnxruntime approximates those operators by rational functions. With exp, the scores of a
    TextRNN are twice as close to those in double precision.
    """
    import onnxscript

    op: Any = onnxscript.opset18

    def sigmoid(x: Any) -> Any:
        return op.Reciprocal(
            op.Add(op.Exp(op.Neg(x)), op.CastLike(op.Constant(value_float=1.0), x))
        )

    def tanh(x: Any) -> Any:
        two = op.CastLike(op.Constant(value_float=2.0), x)
        one = op.CastLike(op.Constant(value_float=1.0), x)
        return op.Sub(op.Div(two, op.Add(op.Exp(op.Neg(op.Mul(x, two))), one)), one)

    return {torch.ops.aten.sigmoid.default: sigmoid, torch.ops.aten.tanh.default: tanh}


def require(*packages: str) -> None:
    """Require packages of the extra ``export``.

    Raises:
        UserError: A package is not installed.
    """
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise UserError(f"export needs the package {package}: pip install 'dlnotes[export]'")


Scores = Callable[..., Float[Tensor, "b c"]]
"""Maps token ids ``b t`` of each member to scores."""


def difference(model: Averaged, scores: Scores, sizes: Sequence[int]) -> float:
    r"""How far scores :math:`s` are from a model's scores :math:`z`.

    This is the largest value of

    .. math::
        \frac{|s - z|}{\max(1, |z|, 4\,\epsilon / \tau)}, \qquad
        \epsilon = \max_k |z_k - z^{64}_k|, \quad \tau = \text{TOLERANCE}

    where :math:`z^{64}` are the model's scores in double precision. A recurrence may amplify the
    rounding errors of a document so much that the model itself is off by more than the tolerance;
    the larger this error :math:`\epsilon`, the less the document counts.

    It is measured on batches of 1, 2 and 64 random documents of at most 0, 1, 2, 6 and 41 tokens;
    the examples for tracing have 5 tokens or a few more.

    Args:
        model: The model.
        scores: The exported network.
        sizes: Size of each member's vocabulary.
    """
    random = torch.Generator().manual_seed(0)
    worst = torch.zeros(())
    exact = copy.deepcopy(model).double()
    for batch, longest in itertools.product((1, 2, 64), (0, 1, 2, 6, 41)):
        tokens = [documents(batch, longest, size, random) for size in sizes]
        with torch.inference_mode():
            z = model(*tokens)
            own = (z - exact(*tokens)).abs().amax(1, keepdim=True)
        scale = torch.maximum(z.abs(), 4 / TOLERANCE * own).clamp(min=1)
        far = (scores(*tokens) - z).abs() / scale
        worst = torch.maximum(worst, far.max())  # propagates NaN
    return worst.item()


def documents(batch: int, longest: int, size: int, random: torch.Generator) -> Int[Tensor, "b t"]:
    """Random documents with padding; one token in five has a low id, such as those of marks."""
    tokens = torch.randint(1, size, (batch, longest), generator=random)
    first = torch.randint(1, min(size, 4), (batch, longest), generator=random)
    often = torch.rand(batch, longest, generator=random) < 0.2
    lengths = torch.randint(0, longest + 1, (batch, 1), generator=random)
    lengths[-1] = longest
    return torch.where(often, first, tokens).where(torch.arange(longest) < lengths, PAD)


def check_torch() -> None:
    """Require a version of torch that can export recurrences.

    Raises:
        UserError: It is too old.
    """
    major, minor, *_ = torch.__version__.split(".")
    if (int(major), int(minor)) < NEEDED:
        needed = ".".join(map(str, NEEDED))
        raise UserError(f"export needs torch {needed} or newer; this is {torch.__version__}")


@contextmanager
def _activations_of_torch() -> Iterator[None]:
    """Replace our activations by torch's, which are a single operator in every format.

    Ours are formulas, which torch.compile turns into fast code; some of their operations do not
    exist in ONNX. The values are the same up to rounding.
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
    """Let the tracer assume nothing about a size from its value in the example."""
    from torch.fx.experimental import _config

    config: Any = _config
    with config.patch(backed_size_oblivious=True):
        yield


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the exporter's warnings and log messages."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
