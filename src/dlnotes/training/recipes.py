"""Recipes: how a model is trained, and how large it is, unless the user decides.

`RECIPES` holds the default recipes, `PAPERS` those of the models' papers, and `PLAIN` is a training
without a recipe. `recipe_for` fits a recipe to the documents, and `resolve` fills in the settings
that the user does not give.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

from dlnotes.arguments import check, fields_of
from dlnotes.data.dataset import Dataset
from dlnotes.data.reading import Reading
from dlnotes.errors import UserError
from dlnotes.files import read_json
from dlnotes.training.checkpoint import DEFAULTS_BEFORE, load_checkpoint
from dlnotes.training.classifier import listed_as_tuples
from dlnotes.training.folder import CHECKPOINT, METRICS
from dlnotes.training.pretrained import WORD2VEC
from dlnotes.training.settings import Training


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Settings of a training, of the model and of how documents are read.

    The fields from `optimizer` to `refit` are those of `Training`. For `clip_norm` and `patience`,
    0 and None mean never; for `batch_size`, 0 means all documents.
    """

    optimizer: str = "adam"
    optimizer_settings: Mapping[str, Any] = field(default_factory=dict)
    """The optimizer's hyper-parameters; not used if the user chooses another optimizer."""
    lr: float = 1e-3
    schedule: str = "constant"
    warmup: float = 0.0
    epochs: int = 10
    batch_size: int = 64
    label_smoothing: float = 0.0
    clip_norm: float | None = None
    patience: int | None = None
    refit: bool = False
    model_settings: Mapping[str, Any] = field(default_factory=dict)
    """The model's sizes where they differ from its own defaults."""
    min_freq: int = 1
    max_tokens: int | None = None
    record: str = ""
    """The record in results/ of the search for this recipe, if it is one of `RECIPES`."""


PLAIN = Recipe()
"""Adam at a constant rate, for any model; the behaviour of dlnotes before it had recipes."""

_NETWORK = Recipe(
    lr=3e-3,
    schedule="linear",
    epochs=8,
    patience=4,
    batch_size=32,
    label_smoothing=0.1,
    refit=True,
    min_freq=2,
    max_tokens=400,
)
"""Base of the recipes of all models except FastText."""

# Chosen on dev splits, never on a test split, for `REFERENCE` documents (see the records named in
# `record`); `recipe_for` adapts them to other numbers.
RECIPES: dict[str, Recipe] = {
    "fasttext": Recipe(
        lr=5e-3,
        schedule="linear",
        epochs=20,
        patience=6,
        batch_size=32,
        label_smoothing=0.1,
        refit=True,
        model_settings={"embedding_dim": 100, "dropout": 0.5},  # and buckets: see `recipe_for`
        record="recipes/fasttext",
    ),
    "textcnn": replace(_NETWORK, model_settings={"embedding_dim": 200}, record="recipes/textcnn"),
    "textrnn": replace(
        _NETWORK,
        model_settings={"embedding_dim": 200},
        max_tokens=256,
        record="recipes/textrnn",
    ),
    "rcnn": replace(
        _NETWORK,
        model_settings={
            "embedding_dim": 200,
            "context_size": 100,
            "hidden_size": 200,
            "cell": "gru",
        },
        max_tokens=256,
        record="recipes/rcnn",
    ),
    "han": replace(_NETWORK, model_settings={"embedding_dim": 200}, record="recipes/han"),
    "seq2seq": replace(
        _NETWORK,
        model_settings={"embedding_dim": 200, "hidden_size": 100, "maxout_size": 100},
        max_tokens=256,
        record="recipes/seq2seq",
    ),
    "transformer": replace(
        _NETWORK,
        optimizer_settings={"betas": (0.9, 0.98), "eps": 1e-9},
        lr=2e-3,
        warmup=0.1,
        model_settings={
            "embedding_dim": 128,
            "num_heads": 4,
            "num_layers": 1,
            "feedforward_dim": 256,
            "dropout": 0.2,
        },
        max_tokens=256,
        record="recipes/transformer",
    ),
    "dmn": replace(
        _NETWORK,
        epochs=10,
        batch_size=64,
        model_settings={
            "embedding_dim": 200,
            "hidden_size": 100,
            "dropout": 0.4,
            "vector_scale": 0.1,
        },
        record="recipes/dmn",
    ),
    "entnet": replace(
        _NETWORK,
        epochs=10,
        batch_size=64,
        model_settings={"embedding_dim": 100, "dropout": 0.5},
        record="recipes/entnet",
    ),
}
"""Default recipe of each model."""

PAPERS: dict[str, Recipe] = {
    # Joulin et al. 2017, section 3.1: a rate of .05 to .5 that falls to 0, 5 epochs, one document
    # per update, 10 hidden units.
    "fasttext": Recipe(
        optimizer="gradient-descent", lr=0.25, schedule="linear", epochs=5, batch_size=1
    ),
    # Kim 2014, section 3.1: Adadelta (its own rate is 1), batches of 50, early stopping on dev.
    "textcnn": Recipe(
        optimizer="adadelta",
        optimizer_settings={"rho": 0.95, "eps": 1e-6},
        lr=1.0,
        epochs=25,
        batch_size=50,
        patience=5,
    ),
    # Liu et al. 2016, section 5.2: Adagrad with a rate of .1.
    "textrnn": Recipe(optimizer="adagrad", lr=0.1, epochs=10),
    # Lai et al. 2015, section 4.3: stochastic gradient descent with a rate of .01.
    "rcnn": Recipe(optimizer="gradient-descent", lr=0.01, epochs=20, batch_size=1, patience=5),
    # Yang et al. 2016, section 3.3: momentum of .9, batches of 64 documents; they choose the rate
    # on dev and do not report it. Our momentum is a moving average, so that .1 is .01 in torch.
    "han": Recipe(optimizer="momentum", lr=0.1, epochs=10, batch_size=64, patience=5),
    # Bahdanau et al. 2015, section 4.2 and appendix B: Adadelta, batches of 80, clipped to 1.
    "seq2seq": Recipe(
        optimizer="adadelta",
        optimizer_settings={"rho": 0.95, "eps": 1e-6},
        lr=1.0,
        epochs=10,
        batch_size=80,
        clip_norm=1.0,
    ),
    # Vaswani et al. 2017, section 5.3 and 5.4: 4,000 of 100,000 updates warm up to
    # (512 · 4,000)^-1/2.
    "transformer": Recipe(
        optimizer_settings={"betas": (0.9, 0.98), "eps": 1e-9},
        lr=7e-4,
        schedule="inverse_sqrt",
        warmup=0.04,
        epochs=10,
        label_smoothing=0.1,
    ),
    # Xiong et al. 2016, section 6.2.
    "dmn": Recipe(lr=1e-3, epochs=256, batch_size=100, patience=20),
    # Henaff et al. 2017, section 5.1 and appendix A.
    "entnet": Recipe(lr=1e-2, schedule="halving", epochs=200, batch_size=32, clip_norm=40.0),
}
"""Recipe of each model's paper; the models' default sizes are those of the papers."""

RATES: dict[str, float] = {
    "gradient-descent": 0.5,
    "momentum": 0.5,
    "nesterov": 0.5,
    "adagrad": 0.03,
    "adadelta": 3.0,
}
"""Default learning rates of optimizers for which Adam's rate does not work, chosen with TextCNN on
trec's dev split (results/recipes/textcnn.json)."""

FASTTEXT_RATES: dict[str, float] = {
    "gradient-descent": 5.0,
    "momentum": 20.0,
    "nesterov": 20.0,
    "adagrad": 0.1,
    "adadelta": 10.0,
    "rmsprop": 5e-3,
}
"""Default learning rates for FastText, which averages its n-grams, so that the gradient of each is
divided by their number (results/recipes/fasttext.json)."""

TIMES_ADAM: dict[str, float] = {"rmsprop": 0.5, "lion": 0.33, "radam": 5.0, "adamax": 2.0}
"""Factors by which optimizers multiply the default recipe's rate, which is Adam's; 1 for those not
listed. Chosen like the rates above."""

REFERENCE = 5_000
"""Number of training documents for which `RECIPES` is written."""
_REFIT_BELOW = 10_000  # documents: with more, a tenth of them is not worth a second training
_FASTTEXT_REFIT_BELOW = 30_000  # documents: up to here, a refit of FastText takes minutes at most
_MIN_BATCH = 4  # documents: larger batches would give a dozen documents too few updates
_FEW_CLASSES = 10  # with more classes, an epoch has fewer documents of each to learn from
_LONG = 100  # tokens: the time of FastText's updates grows with their number


class Facts(NamedTuple):
    """What a recipe depends on: facts about the training documents.

    Attributes:
        documents: Number of documents.
        classes: Number of classes.
        tokens: Mean number of tokens per document.
        characters: Whether the tokens are characters.
        multi_label: Whether a document may have several labels.
    """

    documents: int
    classes: int
    tokens: float
    characters: bool = False
    multi_label: bool = False


def recipe_for(model: str, facts: Facts, recipe: str = "default") -> Recipe:
    r"""The recipe of a model for these documents.

    The recipes of papers and the plain one are the same for all documents. A default recipe is
    written for :math:`n_0` = `REFERENCE` documents; for :math:`n` documents of :math:`c` classes

    .. math::
        \mathrm{epochs} = \mathrm{epochs}_0 \, (n / n_0)^{-1/2} \min(2, \max(1, c / 10)^{1/4}), \\
        \mathrm{batch} = \mathrm{batch}_0 \, 2^k, \quad
        k = \lfloor \tfrac12 \log_2 (n / n_0) \rceil_0

    where :math:`\lfloor x \rceil_0` is :math:`x` rounded towards 0; the epochs are at least 3 and
    at most 40, the batch is at least 4 and :math:`k` at most 2. FastText's rate is
    :math:`\mathrm{lr}_0 (n / n_0)^{-1/2}`, at least 0.003 and at most 0.02. It has two buckets per
    n-gram of the documents: at least 10,000 and at most 100,000, or, with more than 10,000
    documents, at most 10 per document and 500,000 in total. If the tokens are characters, it also
    has trigrams; if documents have more than 100 tokens on average, its vectors are half as long.
    Below 1,000 documents, rare tokens are not left out; from 10,000 on (FastText: 30,000), there is
    no refit with the dev documents. With several labels per document there is no label smoothing,
    since the smoothed zeros of many labels would outweigh the ones.

    Args:
        model: A name in `dlnotes.models.MODELS`; any other name gets the plain recipe.
        facts: Facts about the training documents.
        recipe: default, paper or plain.
    """
    if recipe != "default" or model not in RECIPES:
        return PAPERS.get(model, PLAIN) if recipe == "paper" else PLAIN
    base = RECIPES[model]
    n = max(1, facts.documents)
    scale = n / REFERENCE
    doublings = min(2, int(math.log2(scale) / 2))
    many_classes = min(2, max(1, facts.classes / _FEW_CLASSES) ** 0.25)
    lr, sizes, refit_below = base.lr, dict(base.model_settings), _REFIT_BELOW
    if model == "fasttext":
        refit_below = _FASTTEXT_REFIT_BELOW
        lr = float(f"{min(0.02, max(0.003, lr * scale**-0.5)):.1g}")
        ngrams = 3 if facts.characters else 2
        most = min(500_000, max(100_000, 10 * n))
        of_ngrams = 2 * n * facts.tokens * (ngrams - 1)
        sizes |= {"ngrams": ngrams, "buckets": _rounded(min(most, max(10_000, of_ngrams)))}
        if facts.tokens > _LONG:
            sizes["embedding_dim"] //= 2
    return replace(
        base,
        lr=lr,
        epochs=min(40, max(3, round(base.epochs * scale**-0.5 * many_classes))),
        batch_size=max(_MIN_BATCH, int(base.batch_size * 2.0**doublings)),
        label_smoothing=0.0 if facts.multi_label else base.label_smoothing,
        refit=base.refit and n < refit_below,
        model_settings=sizes,
        min_freq=base.min_freq if n >= 1_000 else 1,
    )


def _rounded(number: float) -> int:
    """The number rounded to two significant digits."""
    digits: int = 10 ** max(0, math.floor(math.log10(number)) - 1)
    return round(number / digits) * digits


def rate_for(optimizer: str, model: str, recipe: str, own: Recipe) -> float:
    """The learning rate of an optimizer for which the user gives none.

    Args:
        optimizer: A name in `dlnotes.optim.OPTIMIZERS`.
        model: A name in `dlnotes.models.MODELS`.
        recipe: default, paper or plain; the plain one has the same rate for all optimizers.
        own: The model's recipe of this name.
    """
    if optimizer == own.optimizer or recipe == "plain":
        return own.lr
    if model == "fasttext" and optimizer in FASTTEXT_RATES:
        return FASTTEXT_RATES[optimizer]
    if optimizer in RATES:
        return RATES[optimizer]
    return RECIPES.get(model, PLAIN).lr * TIMES_ADAM.get(optimizer, 1.0)


def optimizer_for(training: Training, model: str, out: Path | None = None) -> str:
    """The optimizer that a training will have.

    Args:
        training: The user's choices.
        model: A name in `dlnotes.models.MODELS`.
        out: The run folder, if the run is to be resumed.
    """
    before = settings_of_run(out, model) if out else {}
    own = recipe_for(model, Facts(REFERENCE, 2, 1.0), training.recipe or _name(before))
    return training.optimizer or str(before.get("optimizer", own.optimizer))


class ResolvedTraining(NamedTuple):
    """A training whose settings are all known.

    Attributes:
        training: Settings of which none is left to a recipe; here None means all documents for
            `batch_size`, and never for `clip_norm` and `patience`.
        model_settings: The model's hyper-parameters, including those from the recipe.
        dataset: The documents, read as the recipe says.
        chosen: The settings that the recipe filled in, for `description`.
    """

    training: Training
    model_settings: dict[str, Any]
    dataset: Dataset
    chosen: dict[str, Any]

    @property
    def as_options(self) -> Training:
        """The training as a user would write it: 0 for all documents and for never."""
        values: dict[str, Any] = {name: getattr(self.training, name) or 0 for name in OFF}
        return replace(self.training, **values)

    @property
    def has_chosen(self) -> bool:
        """Whether the recipe filled in anything."""
        return any(value != {} for value in self.chosen.values())

    @property
    def facts(self) -> Facts:
        """The facts that the recipe depends on."""
        return facts_of(self.dataset)

    def description(self, model: str, parent: str | None = None) -> str:
        """What the recipe chose and for which documents, in one line.

        Args:
            model: A name in `dlnotes.models.MODELS`.
            parent: Name of the run that the training starts from and takes its settings from.
        """
        documents, classes, tokens, *_ = self.facts
        chosen = dict(self.chosen)
        said = []
        if optimizer := chosen.pop("optimizer", None):
            said.append(_called(optimizer, chosen.pop("optimizer_settings", {})))
        chosen.pop("optimizer_settings", None)
        schedule = [chosen.pop("schedule")] if "schedule" in chosen else []
        if warmup := chosen.pop("warmup", 0):
            schedule.append(f"warm-up {warmup:g}")
        of_rate = f" ({', '.join(schedule)})" if schedule else ""
        if "lr" in chosen:
            said.append(f"lr {chosen.pop('lr'):g}{of_rate}")
        elif schedule:
            said.append(f"schedule {', '.join(schedule)}")
        size = chosen.pop("batch_size", None)
        batches = [] if size is None else [f"batches of {_many(size or documents, 'document')}"]
        if "epochs" in chosen:
            epochs = f"up to {_many(chosen.pop('epochs'), 'epoch')}"
            said.append(" in ".join([epochs, *batches]))
        else:
            said += batches
        own = chosen.pop("model_settings", {})
        # A value of 0 or None means that something is not done.
        said += [f"{n.replace('_', ' ')} {v}" for n, v in chosen.items() if v and v is not True]
        said += [n for n, v in chosen.items() if v is True]
        said += [f"{n} {v:,}" if type(v) is int else f"{n} {v}" for n, v in own.items()]
        name = "recipe" if self.training.recipe == "default" else f"recipe {self.training.recipe}"
        rest = f"; other settings that are not given are those of {parent}" if parent else ""
        nothing = "nothing" if parent else "nothing, all is given"
        return (
            f"{name}: {model} on {_many(documents, 'document')} of {_many(classes, 'class')}, "
            f"{tokens:.0f} tokens on average: {', '.join(said) or nothing}{rest}"
        )


OFF = ("batch_size", "clip_norm", "patience")
"""Settings that a user turns off with 0, and that are None when training."""
FILLED = tuple(f.name for f in fields(Recipe) if f.name in Training.__dataclass_fields__)
"""Settings of a training that a recipe fills in."""


def facts_of(dataset: Dataset) -> Facts:
    """The facts about a data set that a recipe depends on."""
    lengths = dataset.train.lengths
    return Facts(
        len(lengths),
        len(dataset.label_names),
        float(lengths.mean()),
        dataset.tokenizer.endswith("characters"),
        dataset.multi_label,
    )


def resolve(
    training: Training,
    model: str,
    model_settings: Mapping[str, Any],
    dataset: Dataset,
    *,
    resumed: Path | None = None,
) -> ResolvedTraining:
    """Fill in the settings that the user leaves out.

    Given settings take precedence; of the hyper-parameters of model and optimizer, each one
    individually. If `min_freq` or `max_tokens` is not given, the recipe's limit is applied to the
    data set.

    Args:
        training: The user's choices for the training.
        model: A name in `dlnotes.models.MODELS`.
        model_settings: The user's choices for the model.
        dataset: The documents.
        resumed: The folder of a run that is resumed: it keeps the settings that it was started
            with.

    Raises:
        UserError: `resumed` has no checkpoint that can be read.
    """
    before = settings_of_run(resumed, model) if resumed else {}
    name = training.recipe or _name(before)
    reading = dataset.reading
    # The limits come first, since the rest of a recipe depends on how many tokens are read.
    limits = recipe_for(model, facts_of(dataset), name)
    read = {"min_freq": reading.min_freq, "max_tokens": reading.max_tokens}
    if read["min_freq"] is None:
        read["min_freq"] = before.get("min_freq", limits.min_freq)
    if read["max_tokens"] is None:
        read["max_tokens"] = before.get("max_tokens", limits.max_tokens)
    # A min_freq of 1 is no limit and need not be shown.
    chosen: dict[str, Any] = {n: v for n, v in read.items() if v not in (1, getattr(reading, n))}
    dataset = dataset.limited(**read)  # type: ignore[arg-type]
    recipe = recipe_for(model, facts_of(dataset), name)

    optimizer = training.optimizer or before.get("optimizer", recipe.optimizer)
    filled = {n: before.get(n, getattr(recipe, n)) for n in FILLED}
    if model_settings.get("output") == "hierarchical" and "label_smoothing" not in before:
        filled["label_smoothing"] = 0.0  # smoothing needs the probability of every class
    filled |= {n: v for n, v in vars(training).items() if v is not None and n in FILLED}
    if training.lr is None and "lr" not in before:
        filled["lr"] = rate_for(optimizer, model, name, recipe)
    own: Mapping[str, Any] = recipe.optimizer_settings if optimizer == recipe.optimizer else {}
    own = before.get("optimizer_settings", own)
    filled["optimizer_settings"] = {**own, **training.optimizer_settings}
    sizes = dict(before.get("model_settings", recipe.model_settings))
    if training.vectors and training.vectors != WORD2VEC:
        sizes.pop("embedding_dim", None)  # the file determines it
    chosen |= {n: v for n, v in filled.items() if getattr(training, n) is None}
    chosen["optimizer_settings"] = {
        n: v for n, v in own.items() if n not in training.optimizer_settings
    }
    chosen["model_settings"] = {n: v for n, v in sizes.items() if n not in model_settings}
    for off in OFF:
        filled[off] = filled[off] or None
    return ResolvedTraining(
        replace(training, recipe=name, **filled), {**sizes, **model_settings}, dataset, chosen
    )


def settings_of_run(run: Path, model: str) -> dict[str, Any]:
    """The settings that a run was started with, to resume it with the same ones.

    Empty if the folder has no run yet, or one of another model.

    Raises:
        UserError: The record or the checkpoint cannot be read.
    """
    path = run / METRICS
    if path.exists():
        found = read_json(path, "is not a run", finite=False)
    else:
        path = run / CHECKPOINT
        if not path.exists():  # `run_folder` reports it
            return {}
        found = load_checkpoint(path, mmap=True)
    settings = found.get("settings") if isinstance(found, Mapping) else None
    if not isinstance(settings, Mapping) or settings.get("model") != model:
        return {}
    hints = {**fields_of(Training), "model_settings": Mapping[str, Any]}
    hints |= {name: fields_of(Reading)[name] for name in ("min_freq", "max_tokens")}
    known = {name: settings[name] for name in hints if name in settings}
    try:
        check(hints, known)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    for name in ("model_settings", "optimizer_settings"):
        if name in known:  # JSON has lists instead of tuples
            known[name] = listed_as_tuples(known[name])
    return {**DEFAULTS_BEFORE, **known}


def _name(before: Mapping[str, Any]) -> str:
    return str(before.get("recipe", "default"))


def _called(optimizer: str, own: Mapping[str, Any]) -> str:
    return f"{optimizer} ({', '.join(f'{n} {v}' for n, v in own.items())})" if own else optimizer


def _many(number: int, what: str) -> str:
    plural = f"{what}es" if what.endswith("s") else f"{what}s"
    return f"{number:,} {what if number == 1 else plural}"
