"""A finished training that another one starts from: what is taken over, and how it grows.

By default its documents are learned from again, since a network that is trained on new documents
alone forgets the old ones (catastrophic interference, McCloskey & Cohen 1989,
https://doi.org/10.1016/S0079-7421(08)60536-8; rehearsal, Robins 1995,
https://doi.org/10.1080/09540099550039318). Accuracy on trec's test split, after a training on half
of its training documents without the class HUM:

| then trained on | FastText | TextCNN |
|---|---|---|
| the rest, with the old documents | 0.892 | 0.886 |
| the rest | 0.878 | 0.840 |
| HUM, with the old documents | 0.820 | 0.832 |
| HUM | 0.772 | 0.130 |

Trained on all of them at once: 0.900 and 0.852 (one seed; see the slow test of trec).
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from inspect import signature
from pathlib import Path
from typing import Any

import torch

from dlnotes.arguments import fields_of
from dlnotes.data.dataset import Dataset
from dlnotes.data.layout import Layout
from dlnotes.data.reading import Reading
from dlnotes.data.seen import Inheritance, Seen
from dlnotes.errors import UserError
from dlnotes.files import as_path, option_of
from dlnotes.models import MODELS
from dlnotes.nn import HierarchicalSoftmax
from dlnotes.training.classifier import TextClassifier, tokenizer_for
from dlnotes.training.ensemble import read_record, reading_of
from dlnotes.training.folder import (
    CHECKPOINT,
    CLASSIFIER,
    DOCUMENTS,
    FIRST_CLASSIFIER,
    METRICS,
)
from dlnotes.training.pretrained import WORD2VEC
from dlnotes.training.recipes import FILLED, OFF
from dlnotes.training.settings import Training
from dlnotes.training.weights import sketched

_TAKEN_OVER = {*FILLED, "recipe"} - {"refit"}
"""Settings that the next training takes over where they are not given."""
_LEAVE_OUT = "leave it out"
_MAY_DIFFER = ("max_size", "split_seed", "dev_fraction")
"""Settings of `Reading` that may differ for new documents."""


@dataclass(eq=False)
class Parent:
    """A trained classifier to start from.

    Attributes:
        classifier: The trained classifier; after a refit, the one from before it where it was kept.
        name: Name of the classifier, for messages.
        run: Its run folder; None for a classifier without a run.
        settings: Settings of its training, from the record; empty without a run.
        fingerprints: SHA-256 of its sources, from the record.
        seen: Digests of its documents; None if they are not known.
        learned_dev: Whether it has also learned from its dev documents: there was a refit, and the
            classifier from before it was not kept.
        digest: SHA-256 of its weights, tokens and labels.
    """

    classifier: TextClassifier
    name: str
    run: Path | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    fingerprints: dict[str, str] = field(default_factory=dict)
    seen: Seen | None = None
    learned_dev: bool = False
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        self.digest = _digest(self.classifier)

    @classmethod
    def of(cls, source: Any) -> Parent:
        """Make a parent of a classifier or a folder.

        Args:
            source: A classifier, its folder, or a run folder; a `Parent` is returned unchanged.

        Raises:
            UserError: `source` is an ensemble, or a run that is not finished or is damaged.
        """
        if isinstance(source, Parent):
            return source
        if isinstance(source, TextClassifier):
            settings = (source.record or {}).get("settings", {})
            first = source.before_refit
            learned_dev = bool(settings.get("refit")) and first is None
            own = dict(settings)
            return cls(first or source, "the classifier", None, own, {}, source.seen, learned_dev)
        if not isinstance(source, str | Path):
            kind = type(source).__name__
            raise UserError(f"start_from must be a TextClassifier or its folder, not a {kind}")
        folder = as_path(source, "start_from")
        of_run = folder.name in (CLASSIFIER, FIRST_CLASSIFIER)
        if of_run and (folder.parent / METRICS).exists():
            folder = folder.parent
        finished = (folder / METRICS).exists()
        if (folder / CHECKPOINT).exists() and not finished:
            raise UserError(f"{folder} is not finished: go on with it first (--resume)")
        with torch.random.fork_rng(()):
            before_refit = folder / FIRST_CLASSIFIER
            use_it = finished and before_refit.is_dir() and read_record(folder)[0].get("refit")
            classifier = TextClassifier.load(before_refit if use_it else folder)
        if not isinstance(classifier, TextClassifier):
            raise UserError(
                f"{folder} is an ensemble: start from one of the runs that it is made of"
            )
        if not finished:
            return cls(classifier, str(folder))
        settings, fingerprints = read_record(folder)
        seen = Seen.load(folder / DOCUMENTS)
        run = folder.absolute()
        learned_dev = bool(settings.get("refit")) and not before_refit.is_dir()
        return cls(classifier, str(folder), run, settings, fingerprints, seen, learned_dev)

    def inheritance(self, *, replay: bool = True) -> Inheritance:
        """What a new data set takes over; see `load_dataset`.

        Args:
            replay: Whether to learn from the parent's training documents again.
        """
        own, seen = self.classifier, self.seen
        if seen and self.learned_dev:
            seen = seen.with_dev_learned()
        return Inheritance(own.vocabulary, own.labels, seen, replay, own.subwords)

    def check_model(self, name: str | None, settings: Mapping[str, Any]) -> None:
        """Require that the given model and hyper-parameters are those of the parent.

        Args:
            name: The model's name; None if it is not given.
            settings: The hyper-parameters that are given.

        Raises:
            UserError: One differs.
        """
        if name is not None and name != self.classifier.model_name:
            raise self._contradiction("--model", name, self.classifier.model_name)
        own = self.model_settings()
        for key, value in settings.items():
            if key not in own or _listed(value) != _listed(own[key]):
                raise self._contradiction(key, value, own.get(key))

    def model_settings(self) -> dict[str, Any]:
        """All hyper-parameters of the model."""
        parameters = signature(MODELS[self.classifier.model_name]).parameters.values()
        defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
        return defaults | self.classifier.hyper_parameters

    @property
    def dev_fraction(self) -> float:
        """Fraction of the training documents that was split off for dev in its training."""
        return float(self.settings.get("dev_fraction", Reading().dev_fraction))

    def reading(self, given: Reading) -> Reading:
        """How to read documents: as in the parent's training.

        Args:
            given: The user's choices; only ``max_size``, ``split_seed`` and ``dev_fraction`` may
                differ from the parent's.

        Raises:
            UserError: Another setting differs.
        """
        plain = Reading()
        if self.settings:
            own = reading_of(self.run or Path(self.name), self.settings)
            bound = tuple(fields_of(Reading))
        else:
            limit = self.classifier.max_tokens or 0
            own = replace(given, tokenizer=self.classifier.tokenizer, max_tokens=limit)
            bound = ("tokenizer", "max_tokens")
        if given.multi_label and not self.classifier.multi_label:
            raise self._one_label_only("multi_label asks for any number of labels for a text")
        for name in bound:
            value = getattr(given, name)
            if name == "tokenizer":
                value = tokenizer_for(self.classifier.model_name, value)
            said = value != getattr(plain, name) and value != getattr(own, name)
            if name == "multi_label" and value is self.classifier.multi_label:
                said = False  # in a record, None means that the documents determined it
            if said and name not in _MAY_DIFFER:
                laid_out = name in fields_of(Layout)
                advice = "new files need the same columns and marks" if laid_out else _LEAVE_OUT
                raise self._contradiction(option_of(name), value, getattr(own, name), advice)
        largest = given.max_size
        if largest is not None and largest < (size := len(self.classifier.vocabulary)):
            raise UserError(
                f"max_size must be {size:,} or more, what {self.name} has, not {largest:,}"
            )
        return replace(
            own,
            max_size=own.max_size if largest is None else largest,
            dev_fraction=given.dev_fraction,
            split_seed=own.split_seed if given.split_seed is None else given.split_seed,
            multi_label=True if self.classifier.multi_label else own.multi_label,
        )

    def training(self, given: Training) -> Training:
        """How to train: settings that a recipe would fill in are taken from the parent's training.

        Given settings take precedence; ``refit``, and settings that no recipe fills in, are not
        taken over. With another optimizer, neither are its learning rate and hyper-parameters.

        Args:
            given: The user's choices.
        """
        plain = Training()
        left = _TAKEN_OVER & self.settings.keys()
        if given.optimizer not in (None, self.settings.get("optimizer")):
            left -= {"optimizer", "lr", "optimizer_settings"}
        # In a record, None means "never". Here 0 means that, and None leaves it to the recipe.
        taken: dict[str, Any] = {
            name: 0 if self.settings[name] is None and name in OFF else self.settings[name]
            for name in left
            if getattr(given, name) == getattr(plain, name)
        }
        try:
            return replace(given, **taken)
        except UserError as error:
            raise UserError(f"{self.name}: {error}") from error

    def check_dataset(self, dataset: Dataset, training: Training) -> None:
        """Require that a data set numbers the tokens and labels as the classifier does.

        Raises:
            UserError: It does not, or the model cannot take new labels.
        """
        own = self.classifier
        same = dataset.vocabulary.tokens[: len(own.vocabulary)].equals(own.vocabulary.tokens)
        if not same or dataset.label_names[: len(own.label_names)] != own.label_names:
            raise UserError(
                f"dataset has other tokens or labels than {self.name}: load it with "
                "load_dataset(…, inherit=Parent.of(…).inheritance())"
            )
        if dataset.multi_label and not own.multi_label:
            raise self._one_label_only("the documents have several, or none")
        if own.multi_label and not dataset.multi_label:
            raise UserError(
                f"{self.name} gives a text any number of labels, but dataset has one for each: "
                "load it with multi_label=True"
            )
        new = dataset.label_names[len(own.label_names) :]
        if new and any(isinstance(m, HierarchicalSoftmax) for m in own.model.modules()):
            raise UserError(
                f"{self.name} has a hierarchical output, whose tree has no place for the new "
                f"{'labels' if len(new) > 1 else 'label'} {', '.join(new[:9])}: train a new run on "
                "all documents, or start from one with output=softmax"
            )
        if training.vectors == WORD2VEC:
            raise UserError(
                f"vectors=word2vec would learn all word vectors again, but those of {self.name} "
                "are kept: leave it out"
            )

    def missing(self, dataset: Dataset) -> str | None:
        """A message that says how many of the parent's training texts are missing now.

        None if none is missing, or if they are not learned from again.
        """
        if (
            not dataset.old
            or not dataset.old.missing
            or not (of := dataset.inherited)
            or not of.replay
        ):
            return None
        return (
            f"{dataset.old.missing:,} of the texts that {self.name} has learned from are not among "
            "the documents"
        )

    def missing_dev(self, dataset: Dataset) -> str | None:
        """A message that says how many of its dev documents are missing now; None if none is."""
        if not dataset.old or not (count := dataset.old.missing_dev):
            return None
        return (
            f"{count:,} of the dev documents of {self.name} are not among the documents, so "
            "figures on dev cannot be compared with its own"
        )

    def summary(self) -> dict[str, Any]:
        """The entry in the record of the training that starts from it."""
        return {
            "run": None if self.run is None else str(self.run),
            "digest": self.digest,
            "vocabulary": len(self.classifier.vocabulary),
            "labels": len(self.classifier.labels),
        }

    def _one_label_only(self, other: str) -> UserError:
        return UserError(
            f"{self.name} gives one label for each text, but {other}: train a new run on the "
            "old and the new documents together"
        )

    def _contradiction(
        self, option: str, value: Any, own: Any, advice: str = _LEAVE_OUT
    ) -> UserError:
        return UserError(f"{option} is {value}, but {own} in {self.name}: {advice}")


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _digest(classifier: TextClassifier) -> str:
    digest = hashlib.sha256()
    what = (classifier.model_name, sorted(classifier.hyper_parameters.items()), classifier.labels)
    digest.update(repr((*what, classifier.tokenizer, classifier.max_tokens)).encode())
    if classifier.subwords:
        digest.update(classifier.subwords.digest.encode())
    digest.update("\n".join(classifier.vocabulary.tokens).encode())
    for name, weight in classifier.model.state_dict().items():
        digest.update(f"{name} {tuple(weight.shape)}".encode())
        digest.update(weight.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


@torch.no_grad()
def grow_from(old: TextClassifier, new: TextClassifier) -> None:
    """Copy the weights of an old classifier into a new one that has more tokens and labels.

    The tokens and labels of the old classifier come first in the new one. Their rows are copied bit
    for bit; rows of new ones keep their initial values. In a weight with a row per label, new rows
    come last. In a weight with a row per token they need not: FastText has the rows of its n-grams
    after those of the tokens. To find out which weights have a row per token, the shapes are
    compared with those of a model with one more token.

    Args:
        old: The trained classifier.
        new: An untrained one of the same model and hyper-parameters, changed in place.
    """
    tokens, shift = len(old.vocabulary), len(new.vocabulary) - len(old.vocabulary)

    def shapes(tokens: int) -> dict[str, torch.Size]:
        sizes = {"vocabulary_size": tokens, "num_classes": len(old.label_names)}
        made = sketched(lambda: type(old.model)(**sizes, **old.hyper_parameters))
        return {name: weight.shape for name, weight in made.items()}

    before, larger = shapes(tokens), shapes(tokens + 1)
    weights = new.model.state_dict()
    for name, weight in old.model.state_dict().items():
        spans: list[list[tuple[slice, slice]]] = []
        for dim, size in enumerate(weight.shape):
            first = tokens if larger[name][dim] > before[name][dim] else size
            spans.append([(slice(first), slice(first))])
            if first < size:
                spans[-1].append((slice(first, size), slice(first + shift, size + shift)))
        for pieces in itertools.product(*spans):
            place = tuple(to for _, to in pieces)
            weights[name][place] = weight[tuple(taken for taken, _ in pieces)]
