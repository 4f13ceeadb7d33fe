"""Settings of a training: the single place where each is named, typed, checked and described."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from torch import Tensor
from typing_extensions import Self

from dlnotes.arguments import (
    Count,
    Natural,
    NotNegative,
    OneOf,
    Positive,
    Share,
    check,
    check_names,
    hints_of,
)
from dlnotes.errors import UserError
from dlnotes.optim import OPTIMIZERS
from dlnotes.training.decision import Deciding
from dlnotes.training.fit import Fitting
from dlnotes.training.schedule import SCHEDULES

RECIPE_NAMES = ("default", "paper", "plain")
"""Names of the tables in `dlnotes.training.recipes`."""

_ELSEWHERE = {"sgd": "gradient-descent, and momentum"}


@dataclass(frozen=True, kw_only=True)
class Optimization(Fitting):
    """How a model is fitted and by which optimizer: what all trainings share."""

    optimizer: Annotated[str, OneOf(OPTIMIZERS, _ELSEWHERE)] = "adam"
    """Which of our optimizers: gradient-descent, momentum, adam, …"""

    lr: NotNegative = 1e-3
    """Learning rate; with adam, 1e-3 suits most models, and about 1e-2 suits fasttext."""

    optimizer_settings: Annotated[Mapping[str, Any], tyro.conf.Suppress] = field(
        default_factory=dict, hash=False
    )
    """The optimizer's hyper-parameters where they differ from its defaults."""

    label_smoothing: Share = 0.0
    """Fraction of the target that is spread over all classes."""

    def with_optimizer_args(self, given: Sequence[str], optimizer: str | None = None) -> Self:
        """A copy with hyper-parameters of the optimizer from the command line.

        Args:
            given: Strings of the form ``name=value``.
            optimizer: Name of the optimizer, if this training leaves it open.

        Raises:
            UserError: See `parse_settings`.
        """
        if not given:
            return self
        name = optimizer or self.optimizer
        parsed = parse_settings(name, OPTIMIZERS[name], given)
        return replace(self, optimizer_settings=parsed)

    def make_optimizer(self, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
        """Create the optimizer over parameters in float32.

        Raises:
            UserError: The rule refuses a hyper-parameter.
        """
        for name, value in {"lr": self.lr, **self.optimizer_settings}.items():
            for number in value if isinstance(value, list | tuple) else (value,):
                if isinstance(number, int | float) and abs(number) > torch.finfo(torch.float32).max:
                    raise UserError(
                        f"{name} must be a number that float32 holds, below 3.4e+38, not {number:g}"
                    )
        try:
            return OPTIMIZERS[self.optimizer](parameters, lr=self.lr, **self.optimizer_settings)
        except (TypeError, ValueError) as error:
            raise UserError(f"{self.optimizer}: {error}") from error


@dataclass(frozen=True, kw_only=True)
class Training(Deciding, Optimization):
    """How a classifier is trained; see `train_classifier`.

    A field that is None is left to the model's recipe (see `dlnotes.training.recipes.resolve`). In
    a resumed run, it has the value that the run was started with.
    """

    recipe: Annotated[str, OneOf(RECIPE_NAMES)] | None = None
    """What fills in the settings that are not given, including those of the model. default: values
    chosen on dev splits of several corpora, adapted to the number of documents; paper: sizes and
    settings of the paper that published the model; plain: adam with a rate of 1e-3, 10 epochs of
    batches of 64 documents, and the model's own sizes. Default: default."""

    # Unlike in the base class, None is allowed here, until `resolve` fills it in.
    optimizer: Annotated[str, OneOf(OPTIMIZERS, _ELSEWHERE)] | None = None  # type: ignore[assignment]
    """Which of our optimizers: gradient-descent, momentum, adam, … Default: what the recipe
    says."""

    lr: NotNegative | None = None  # type: ignore[assignment]
    """Learning rate. Default: what the recipe says; for another optimizer than the recipe's, a rate
    that suits it."""

    epochs: Count | None = None  # type: ignore[assignment]
    """Maximum number of passes over the training documents. Default: what the recipe says, more for
    few documents."""

    batch_size: Natural | None = None
    """Documents per update: 1 is SGD, 0 is all of them (batch gradient descent). Default: what the
    recipe says."""

    schedule: Annotated[str, OneOf(SCHEDULES)] | None = None  # type: ignore[assignment]
    """Learning rate over the steps: constant, linear (down to 0), inverse_sqrt or halving (after
    each eighth of the steps). Default: what the recipe says."""

    warmup: Share | None = None  # type: ignore[assignment]
    """Fraction of the steps over which the learning rate rises linearly. Default: what the recipe
    says."""

    clip_norm: NotNegative | None = None
    """Scale the gradients down to this total norm; 0 for never. Default: what the recipe says."""

    patience: Natural | None = None
    """Stop after this many epochs without an improvement on the dev split; 0 for never. Default:
    what the recipe says."""

    label_smoothing: Share | None = None  # type: ignore[assignment]
    """Fraction of the target that is spread over all classes. Default: what the recipe says."""

    vectors: str | Path | None = None
    """Path of word vectors to start from, in the format of word2vec (text or binary), GloVe or
    fastText (.vec or .bin), also .gz. Or the word word2vec: first learn them from the training
    documents, as HAN's authors do. A file determines `embedding_dim`; the trained classifier does
    not need the file."""

    class_weights: Annotated[str, OneOf(("none", "balanced"))] = "none"
    """none, or balanced: rare classes weigh more. A document has the weight n / (classes ·
    documents of its class) in the loss. Where a document may have several labels, each of its
    labels has the weight (documents without this label) / (documents with it)."""

    focal_gamma: NotNegative = 0.0
    """Above 0, the focal loss (Lin et al. 2017): each cross-entropy is multiplied by (1 - p) to
    this power, with the probability p of the correct answer, so that documents that are already
    learned count less. 2 is usual."""

    refit: bool | None = None
    """After the best epoch is chosen on dev, train once more from the start up to that epoch, on
    the training and dev documents together, with a vocabulary of both (like a baseline, which has
    no epoch to choose). If the loss on the training documents is then clearly higher than the first
    time, that training continues until it is about as low. The dev figures of the record are those
    of the first training, the test figures those of the second. Default: what the recipe says."""

    def __post_init__(self) -> None:
        if isinstance(self.vectors, Path):  # so that a record can hold it
            object.__setattr__(self, "vectors", str(self.vectors))
        given = self.batch_size
        super().__post_init__()
        if given == 0:  # the base class makes it None, which here would leave it to the recipe
            object.__setattr__(self, "batch_size", 0)


@dataclass(frozen=True, kw_only=True)
class TranslatorTraining(Optimization):
    """How a translator is trained and how it searches; see `train_translator`."""

    batch_size: Count = 128
    """Pairs per update."""

    clip_norm: Positive | None = 1.0
    """Scale the gradients down to this total norm; None for never."""

    beam: Count = 5
    """Beam size (number of hypotheses) when the test split is translated; 1 is greedy."""

    length_penalty: float = 0.6
    """Exponent of the length penalty; higher values favour longer translations."""


def parse_settings(what: str, kind: Callable[..., Any], given: Sequence[str]) -> dict[str, Any]:
    """Hyper-parameters from the command line, typed by the signature that takes them.

    Args:
        what: Name of the model or optimizer, for messages.
        kind: The class that takes them as keyword-only arguments.
        given: Strings of the form ``name=value``.

    Raises:
        UserError: A name is unknown, or a value is not of the default's type.
    """
    sizes = ("vocabulary_size", "num_classes", "lr")
    allowed = {
        name: parameter.default
        for name, parameter in inspect.signature(kind).parameters.items()
        if parameter.default is not parameter.empty and name not in sizes
    }
    settings: dict[str, Any] = {}
    defaults = ", ".join(f"{n}={v}" for n, v in allowed.items())
    for item in given:
        name, equals, text = item.partition("=")
        name = name.strip().replace("-", "_")
        check_names(what, "setting", [f"{name}{equals}{text}"], allowed, defaults)
        if not equals:
            raise UserError(f"{what}: {name} has no value; write {name}={allowed[name]}")
        settings[name] = _typed(what, name, text, allowed[name])
    if isinstance(kind, type) and issubclass(kind, torch.nn.Module):  # an optimizer checks its own
        try:
            check(hints_of(kind.__init__), settings)
        except UserError as error:
            raise UserError(f"{what}: {error}") from error
    return settings


def _typed(what: str, name: str, text: str, default: Any) -> Any:
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = text
    if text.lower() in ("true", "false", "none"):
        value = {"true": True, "false": False, "none": None}[text.lower()]
    if isinstance(default, float) and type(value) is int:
        try:
            value = float(value)
        except OverflowError as error:
            raise UserError(f"{what}: {name} is too large for a number: {text[:40]}…") from error
    if isinstance(default, tuple) and isinstance(value, int | float):
        value = (value,)
    if default is not None and value is not None and type(value) is not type(default):
        kind = type(default).__name__
        raise UserError(f"{what}: {name} must be of type {kind} like {default!r}, not {text!r}")
    return value
