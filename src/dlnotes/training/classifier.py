"""Trained text classifiers and ensembles, saved as folders that contain no pickle."""

from __future__ import annotations

import math
import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import polars as pl
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor, nn

from dlnotes.arguments import (
    Count,
    OneOf,
    Range,
    check,
    check_fields,
    check_names,
    checked,
    fields_of,
    hints_of,
)
from dlnotes.data.columns import FOR_FILES, as_labels, as_texts, load_columns
from dlnotes.data.dataset import Label
from dlnotes.data.documents import Documents
from dlnotes.data.labels import LabelSets
from dlnotes.data.readers import Source
from dlnotes.data.reading import MAX_TOKENS, Reading
from dlnotes.data.seen import Seen
from dlnotes.data.subwords import Subwords, join_pieces
from dlnotes.data.tokenization import JIEBA, MARKS, NAMES, SUBWORDS
from dlnotes.data.tokenized import TokenizedTexts, tokenize, tokenize_texts
from dlnotes.data.vocabulary import Vocabulary
from dlnotes.display import tell
from dlnotes.errors import UserError, memory_for
from dlnotes.files import (
    as_path,
    json_writer,
    make_folder,
    read_json,
    repeated,
    write_json,
    write_together,
)
from dlnotes.models import MODELS
from dlnotes.models.averaging import AVERAGES, average_scores
from dlnotes.nn import QUESTION
from dlnotes.training.attribution import explain_words, occlusion, weights_name
from dlnotes.training.decision import DEFAULT, NO_LABEL, Decision, decision_from
from dlnotes.training.device import choose_device
from dlnotes.training.evaluate import (
    Metrics,
    MetricsMap,
    ScoreMap,
    check_probabilities,
    check_scores,
    evaluating,
    metrics,
)
from dlnotes.training.explain import ATTENTION, OCCLUSION, Explanation
from dlnotes.training.folder import (
    CLASSIFIER,
    CONFIG,
    LABELS,
    MERGES,
    VOCABULARY,
    WEIGHTS,
    check_no_run,
)
from dlnotes.training.multi_label import MultiLabelMetrics
from dlnotes.training.scoring import map_scores, scores
from dlnotes.training.stories import as_story
from dlnotes.training.weights import digest_of, max_vocabulary_size, weights_writer, with_weights

_FORMAT = "dlnotes text classifier 1"
_SCORES = 1 << 24
"""How many scores are processed at once."""
_ENSEMBLE_FORMAT = "dlnotes ensemble 1"
_NOT_ONE = "is not a trained classifier of dlnotes"
_FIELDS = {
    "model": Annotated[str, OneOf(MODELS)],
    "hyper_parameters": Mapping[str, Any],
    "tokenizer": Annotated[str, OneOf(NAMES)],
    "max_tokens": Count | None,
}
_ENSEMBLE_FIELDS = {"average": Annotated[str, OneOf(AVERAGES)], "members": list[Any]}
_WITHOUT_SPACES = ("characters", "sentence_characters", *JIEBA)
_MEMBER_FIELDS = {"folder": str, "name": str, "weight": Annotated[float, Range(0)]}


class Answer(NamedTuple):
    """The answer to one text of a classifier that gives any number of labels.

    Attributes:
        labels: Class numbers of the labels that it gives, the most probable first.
        probabilities: Probabilities of `labels`.
        top: Class numbers of the most probable labels, whether they are given or not.
        top_probabilities: Probabilities of `top`.
    """

    labels: list[int]
    probabilities: list[float]
    top: list[int]
    top_probabilities: list[float]


class Classifier(ABC):
    """Assigns labels to raw text: one trained model, or an ensemble of several.

    Attributes:
        label_names: Label of each class number, as text.
        labels: The same labels as they were given to training: strings, integers, whole floats or
            bools.
        decision: How scores become probabilities and answers.
        multi_label: Whether a document may have several labels.
    """

    label_names: list[str]
    labels: list[Label]
    decision: Decision
    multi_label: bool

    @abstractmethod
    def save(self, folder: str | Path) -> None:
        """Write the classifier into `folder`, which is created if needed."""

    @abstractmethod
    def scores(
        self, read: Callable[[str | Subwords], TokenizedTexts], *, labelled: bool
    ) -> tuple[Float[Tensor, "n c"], NDArray[np.int64] | LabelSets]:
        """Unnormalised scores of texts, and their labels (zeros where not `labelled`).

        Args:
            read: Returns the texts, tokenized by the tokenizer of that name or by the given
                subwords.
            labelled: Whether to read the labels of the texts.
        """

    def evaluate(self, source: Source, **how: Any) -> Metrics | MultiLabelMetrics:
        """Measure on labelled texts.

        Args:
            source: What `dlnotes.data.tokenized.tokenize` takes.
            how: Further arguments of it.

        Raises:
            UserError: `source` cannot be read or has a label that this classifier does not know;
                the loss is infinite.
        """
        read = partial(tokenize, source, **{"multi_label": self.multi_label, **how})
        return _finite(metrics(*self.scores(read, labelled=True), self.decision))

    def probabilities(self, texts: Any) -> Float[Tensor, "n c"]:
        """Probability of each class for each raw text.

        Args:
            texts: n texts, in the forms of `predict`.

        Raises:
            UserError: As in `predict`.
        """
        given = _given(texts)
        if not len(given):
            return torch.empty(0, len(self.label_names))
        read = partial(tokenize_texts, given)
        found, _ = self.scores(read, labelled=False)
        return self.decision.probabilities(found, self.multi_label)

    @checked
    def best(self, texts: Any, top_k: Count) -> tuple[Float[Tensor, "n k"], Int[Tensor, "n k"]]:
        """Probabilities and class numbers of the most probable labels of raw texts.

        Args:
            texts: n texts, in the forms of `predict`.
            top_k: How many labels to return; all if there are fewer.

        Raises:
            UserError: As in `predict`; `top_k` is below 1.
        """
        return self._best_of(_given(texts), top_k)

    def _best_of(
        self, texts: list[str] | pl.Series, top_k: int
    ) -> tuple[Float[Tensor, "n k"], Int[Tensor, "n k"]]:
        if not len(texts):
            nothing = torch.empty(0, min(top_k, len(self.label_names)))
            return nothing, nothing.long()
        found, _ = self.scores(partial(tokenize_texts, texts), labelled=False)
        return _best(self.decision.probabilities(found, self.multi_label), top_k)

    @checked
    def answers(self, texts: Any, top_k: Count = 1) -> list[Answer]:
        """Labels of raw texts, by a classifier that gives any number of them.

        Args:
            texts: n texts, in the forms of `predict`.
            top_k: How many of the most probable labels to return in addition; all if there are
                fewer.

        Raises:
            UserError: As in `predict`; `top_k` is below 1.
        """
        given, found = _given(texts), []
        step = max(1, _SCORES // len(self.label_names))
        for start in range(0, len(given), step):
            p = self.probabilities(given[start : start + step])
            best = p.topk(min(top_k, p.shape[1]))
            chosen, classes = self.decision.chosen(p).nonzero(as_tuple=True)
            values = p[chosen, classes]
            order = torch.from_numpy(np.lexsort([-values.numpy(), chosen.numpy()]))
            ends = chosen.bincount(minlength=len(p)).cumsum(0)[:-1]
            parts = (part[order].tensor_split(ends) for part in (classes, values))
            rows = zip(*parts, best.indices, best.values, strict=True)
            found += [Answer(*(part.tolist() for part in row)) for row in rows]
        return found

    def answers_of(self, scaled: Float[Tensor, " c"]) -> list[tuple[int, float]]:
        """The labels of a text that are explained, and their probabilities.

        These are the labels that the text is given, the most probable first. If it is given none,
        or can be given only one, it is the most probable label.

        Args:
            scaled: Scores of the text, divided by the temperature.
        """
        p = scaled.sigmoid() if self.multi_label else scaled.softmax(-1)
        probability, best = p.max(-1)
        found = [(int(best), float(probability))]
        if self.multi_label and (given := self.decision.chosen(p).nonzero().flatten().tolist()):
            found = sorted(((k, float(p[k])) for k in given), key=lambda pair: -pair[1])
        return found

    @checked
    def classify(self, texts: Any, *, top_k: Count = 1) -> list[dict[str, Any]]:
        """Most probable labels of raw texts.

        Args:
            texts: n texts, in the forms of `predict`.
            top_k: How many labels to return under ``top``; all if there are fewer.

        Returns:
            For each text ``label``, ``probability`` and ``top``, a list of such pairs. Where the
            probability is below the one that `decision` requires, ``label`` is None. For a
            classifier that gives any number of labels, ``labels`` and their ``probabilities``, the
            most probable first, and ``top``.

        Raises:
            UserError: As in `predict`; `top_k` is below 1.
        """
        if self.multi_label:
            return [self._told(answer) for answer in self.answers(texts, top_k)]
        probabilities, classes = self.best(texts, top_k)
        rejected = self.decision.rejected(probabilities[:, 0]).tolist()
        results = []
        for no_label, *row in zip(rejected, classes.tolist(), probabilities.tolist(), strict=True):
            top = [
                {"label": self.label_names[c], "probability": p} for c, p in zip(*row, strict=True)
            ]
            results.append({**top[0], **({"label": None} if no_label else {}), "top": top})
        return results

    def _told(self, answer: Answer) -> dict[str, Any]:
        names = self.label_names
        pairs = zip(answer.top, answer.top_probabilities, strict=True)
        return {
            "labels": [names[k] for k in answer.labels],
            "probabilities": answer.probabilities,
            "top": [{"label": names[k], "probability": p} for k, p in pairs],
        }

    def predict(self, texts: Any) -> list[Any]:
        """Most probable label of each raw text, or its labels.

        Args:
            texts: n texts: a list, a tuple, a generator, an array or a column of a data frame.

        Returns:
            n labels, of the type that the labels had in training, which a saved classifier keeps.
            A classifier that was trained on files returns strings. None stands for "no label": the
            most probable one is less probable than `decision` requires. Where a text may have
            several labels, n lists of labels, the most probable first.

        Raises:
            UserError: `texts` is a single string, or one of its items is not a string.
        """
        if self.multi_label:
            return [[self.labels[k] for k in a.labels] for a in self.answers(as_texts(texts))]
        probabilities, best = self.best(as_texts(texts), 1)
        answers = best.masked_fill(self.decision.rejected(probabilities), NO_LABEL)
        return [None if k == NO_LABEL else self.labels[k] for k in answers.flatten().tolist()]

    def predict_proba(self, texts: Any) -> NDArray[np.float32]:
        """Probability of each class for each raw text.

        Args:
            texts: n texts, in the forms of `predict`.

        Returns:
            Probabilities, shape (n, classes), in the order of `label_names`.

        Raises:
            UserError: As in `predict`.
        """
        probabilities: NDArray[np.float32] = self.probabilities(texts).numpy()
        return probabilities

    @abstractmethod
    def explain(self, texts: Any) -> list[Explanation]:
        """Classify raw texts, and say which words led to the labels.

        There is one explanation per text or, where texts may have several labels, one for each
        label that a text is given (for the most probable one, if it is given none).

        Args:
            texts: n texts, in the forms of `predict`.

        Raises:
            UserError: As in `predict`.
        """


@dataclass
class TextClassifier(Classifier):
    """A model with everything that it needs to read raw text.

    Attributes:
        model: The network.
        model_name: Its name in `MODELS`.
        hyper_parameters: Keyword arguments that the model was created with, except the sizes.
        vocabulary: Ids of the tokens.
        label_names: Label of each class number, as text.
        tokenizer: Name of the tokenization.
        max_tokens: Longer texts are cut to this many tokens.
        device: Where the model is.
        labels: Label of each class number as it was given to training: a string, an integer, a
            whole float or a bool.
        subwords: The learned tokenization, with ``bpe`` and ``sentence_bpe``.
        record: The record of the training (see `train_classifier`). None for a loaded classifier;
            the run's folder has it in ``metrics.json``.
        seen: Digests of the documents that it was trained on, for a training that starts from it.
            None for a loaded classifier; the run's folder has them.
        decision: How scores become probabilities and answers, as chosen on dev documents.
        before_refit: For a classifier that has also learned from the dev documents (see
            `Training.refit`): the one that was trained without them, for a training that starts
            from it. None for a loaded classifier; the run's folder has it.
    """

    model: nn.Module = field(repr=False)
    model_name: str
    hyper_parameters: dict[str, Any]
    vocabulary: Vocabulary = field(repr=False)
    label_names: list[str]
    tokenizer: str = "basic_english"
    max_tokens: int | None = None
    device: torch.device = torch.device("cpu")  # noqa: RUF009 -- a device is immutable
    labels: list[Label] = field(default_factory=list)
    multi_label: bool = False
    subwords: Subwords | None = field(default=None, repr=False)
    record: dict[str, Any] | None = field(default=None, repr=False)
    decision: Decision = DEFAULT
    seen: Seen | None = field(default=None, repr=False)
    before_refit: TextClassifier | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not self.labels:
            self.labels = list(self.label_names)
        if self.tokenizer in SUBWORDS and self.subwords is None:
            raise UserError(f"tokenizer is {self.tokenizer}: subwords must be given")

    @classmethod
    def train(
        cls,
        texts: Any,
        labels: Any,
        model: str | None = None,
        *,
        dev: tuple[Any, Any] | None = None,
        model_settings: Mapping[str, Any] | None = None,
        start_from: TextClassifier | str | Path | None = None,
        replay: bool = True,
        out: str | Path | None = None,
        device: str = "auto",
        checkpoint_every: int = 0,
        resume: bool = False,
        progress: bool = False,
        **settings: Any,
    ) -> TextClassifier:
        """Train a classifier on texts and labels.

        .. code-block:: python

            from dlnotes import TextClassifier

            classifier = TextClassifier.train(texts, labels, "textcnn", epochs=5)
            classifier.predict(["I would watch it again"])

        Args:
            texts: n texts: a list, a tuple, a generator, an array or a column of a data frame.
            labels: n labels, in the same forms: strings, integers, whole floats or bools, all of
                one type. `predict` returns labels of this type. Classes are in the order of their
                labels: numbers by size, strings alphabetically.
            model: A name in `dlnotes.models.MODELS`; default: fasttext, or the model of
                `start_from`.
            dev: A pair (texts, labels) on which the best epoch is chosen; None to split off
                `dev_fraction` of the texts.
            model_settings: The model's hyper-parameters where they differ from its defaults.
            start_from: A classifier to start from, or the folder of one or of a run. Its model,
                tokenization and `max_tokens` are used; the vocabulary grows by the new words, and
                new labels come after its own. Settings that a recipe would fill in (``lr``,
                ``epochs``, …) are taken from its training where they are not given; all others have
                their defaults. Give its documents and new ones together, since a training on new
                documents alone forgets some of the old ones. Documents that were dev documents
                remain so.
            replay: Learn again from documents that `start_from` has learned from, where they are
                among `texts`.
            out: Run folder, see `train_classifier`; None to write nothing.
            device: See `choose_device`.
            checkpoint_every: See `fit`.
            resume: Resume from the checkpoint in `out`.
            progress: Show progress.
            settings: Fields of `Training` (such as ``epochs``, ``lr`` and ``seed``) and of
                `Reading` (such as ``tokenizer`` and ``max_tokens``).

        Returns:
            The trained classifier; its `record` says how the training went.

        Raises:
            UserError: Texts, labels or settings cannot be used (for an item, the message names the
                argument, the position and the value); the training diverged.
            dlnotes.training.fit.Interrupted: A signal arrived.
        """
        from dlnotes.training.parent import Parent  # these import this module
        from dlnotes.training.settings import Training
        from dlnotes.training.train import train_classifier

        parent = None if start_from is None else Parent.of(start_from)
        if model is not None:
            check_model(model)
        of_reading = [name for name in fields_of(Reading) if name not in FOR_FILES]
        known = [*fields_of(Training), *of_reading]
        check_names("TextClassifier.train", "setting", settings, known)
        training = Training(**{n: v for n, v in settings.items() if n not in of_reading})
        reading = Reading(**{n: v for n, v in settings.items() if n in of_reading})
        inherit = None
        if parent:
            parent.check_model(model, model_settings or {})
            inherit = parent.inheritance(replay=replay)
            training, reading = parent.training(training), parent.reading(reading)
        else:
            reading = reading_for(model or "fasttext", reading, training.seed)
        dataset = load_columns(
            texts,
            labels,
            reading,
            dev=dev,
            inherit=inherit,
            sentences=reads_sentences(model or "fasttext"),
        )
        if parent and replay and (missing := parent.missing_dev(dataset)):
            warnings.warn(missing, stacklevel=2)
        if dataset.why:
            tell(f"tokenizer: {dataset.tokenizer} ({dataset.why})", shown=progress)
        classifier, record = train_classifier(
            dataset,
            model,
            training,
            model_settings=model_settings,
            start_from=parent,
            out=None if out is None else Path(out),
            device=device,
            checkpoint_every=checkpoint_every,
            resume=resume,
            progress=progress,
        )
        classifier.record = record
        return classifier

    @classmethod
    def create(
        cls,
        model_name: str,
        hyper_parameters: Mapping[str, Any],
        vocabulary: Vocabulary,
        label_names: Sequence[str],
        **rest: Any,
    ) -> TextClassifier:
        """Create an untrained classifier.

        Raises:
            UserError: The model is unknown or refuses a hyper-parameter, the vocabulary lacks the
                marks that the model reads, or there are fewer than two different labels.
        """
        check_model(model_name)
        given = {"hyper_parameters": hyper_parameters, "label_names": label_names}
        check({"hyper_parameters": Mapping[str, Any], "label_names": Sequence[str]}, given)
        if twice := repeated(label_names):
            told = f"label_names must be different from one another, not {twice[0]!r} twice"
            raise UserError(told)
        if not isinstance(vocabulary, Vocabulary):
            raise UserError(f"vocabulary must be a Vocabulary, not a {type(vocabulary).__name__}")
        marks = MARKS.get(default_tokenizer(model_name), ())
        if not vocabulary.has_marks(marks):
            raise UserError(
                f"{model_name} reads sentences: the tokenizer must be one of {', '.join(MARKS)}"
            )
        sizes = {"vocabulary_size": len(vocabulary), "num_classes": len(label_names)}
        model = make_model(model_name, MODELS[model_name], sizes, hyper_parameters)
        labels = list(label_names)
        return cls(model, model_name, dict(hyper_parameters), vocabulary, labels, **rest)

    def to(self, device: torch.device | str) -> TextClassifier:
        """Move the model to a device, see `choose_device`."""
        self.device = choose_device(device)
        self.model.to(self.device)
        return self

    def save(self, folder: str | Path) -> None:
        """Write the classifier's four or five files into `folder`, which is created if needed.

        The `record` is not written; the labels keep their type.

        Raises:
            UserError: The folder cannot be written to.
        """
        folder = as_path(folder, "folder")
        config = {
            "format": _FORMAT,
            "model": self.model_name,
            "hyper_parameters": self.hyper_parameters,
            "tokenizer": self.tokenizer,
            "max_tokens": self.max_tokens,
            **({"multi_label": True} if self.multi_label else {}),  # earlier versions had none
            **decision_in(self.decision),
        }
        make_folder(folder, advice="")
        check_no_run(folder)
        tokens = self.vocabulary.tokens.to_list()
        learned = [self.subwords.digest] if self.subwords else []
        belongs_to = digest_of(config, _FIELDS, self.labels, tokens, *learned)
        write_together(
            {
                folder / WEIGHTS: weights_writer(self.model, folder, belongs_to),
                folder / VOCABULARY: self.vocabulary.save,
                **({folder / MERGES: self.subwords.save} if self.subwords else {}),
                folder / LABELS: json_writer(self.labels),
                folder / CONFIG: json_writer(config),
            }
        )

    @classmethod
    def load(
        cls, folder: str | Path, device: torch.device | str = "cpu"
    ) -> TextClassifier | Ensemble:
        """Load a classifier or an ensemble from its folder.

        Args:
            folder: The classifier's folder, or a run's, which contains it.
            device: Where to put the model, see `choose_device`.

        Raises:
            UserError: `folder` is not a classifier, one of its files is damaged, or its files do
                not belong together; the device is not available.
        """
        folder, where = as_path(folder, "folder"), choose_device(device)
        if os.path.isdir(folder / CLASSIFIER):  # noqa: PTH112 -- False where it may not be asked
            folder = folder / CLASSIFIER
        config = read_json(folder / CONFIG, _NOT_ONE)
        if isinstance(config, dict) and config.get("format") == _ENSEMBLE_FORMAT:
            return _load_ensemble(folder, config, where)
        return cls._load(folder, config, where)

    @classmethod
    def _load(cls, folder: Path, config: Any, device: torch.device) -> TextClassifier:
        """Load a single classifier, whose `CONFIG` has been read."""
        if not isinstance(config, dict) or config.get("format") != _FORMAT:
            raise UserError(f"{folder / CONFIG} does not say {_FORMAT!r}: not a run of dlnotes")
        check_fields(folder / CONFIG, config, _FIELDS)
        labels = _read_labels(folder / LABELS)
        multi_label = config.get("multi_label", False)
        check_fields(folder / CONFIG, {"multi_label": multi_label}, {"multi_label": bool})
        decision = _read_decision(folder / CONFIG, config, len(labels))
        vocabulary = Vocabulary.load(folder / VOCABULARY, max_vocabulary_size(folder))
        subwords, learned = None, []
        if config["tokenizer"] in SUBWORDS:
            subwords = Subwords.load(folder / MERGES, config["tokenizer"])
            learned = [subwords.digest]

        def make() -> TextClassifier:
            try:
                return cls.create(
                    config["model"],
                    listed_as_tuples(config["hyper_parameters"]),
                    vocabulary,
                    list(map(str, labels)),
                    tokenizer=config["tokenizer"],
                    max_tokens=config["max_tokens"],
                    labels=labels,
                    multi_label=multi_label,
                    decision=decision,
                    subwords=subwords,
                )
            except UserError as error:
                raise UserError(f"{folder / CONFIG}: {error}") from error

        what = f"a {config['model']} of {len(labels):,} labels and {len(vocabulary):,} tokens"
        belongs_to = digest_of(config, _FIELDS, labels, vocabulary.tokens.to_list(), *learned)
        return with_weights(make, folder, what, belongs_to).to(device)

    def __getstate__(self) -> dict[str, Any]:
        """State for pickling: built-in types and NumPy arrays, without modules and devices."""
        weights = {name: w.cpu().numpy() for name, w in self.model.state_dict().items()}
        tokens = self.vocabulary.tokens.to_list()
        seen = None if self.seen is None else vars(self.seen)
        plain = {"vocabulary": tokens, "device": str(self.device), "seen": seen}
        return {**vars(self), **plain, "model": weights, "decision": self.decision.changed()}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        """Create the model again, on its device if that is available and else on the CPU."""
        vocabulary = Vocabulary(state["vocabulary"])
        made = self.create(
            state["model_name"], state["hyper_parameters"], vocabulary, state["label_names"]
        )
        made.model.load_state_dict({n: torch.tensor(w) for n, w in state["model"].items()})
        made.model.eval()
        decision = decision_from(state.get("decision"))  # earlier versions had none
        seen = Seen(**state["seen"]) if state.get("seen") else None
        own = {"model": made.model, "vocabulary": vocabulary, "decision": decision, "seen": seen}
        vars(self).update({**state, **own})
        try:
            self.to(choose_device(state["device"]))
        except UserError:
            self.to(torch.device("cpu"))

    def scores(
        self, read: Callable[[str | Subwords], TokenizedTexts], *, labelled: bool
    ) -> tuple[Float[Tensor, "n c"], NDArray[np.int64] | LabelSets]:
        """Scores of texts, and their labels; see `Classifier`."""
        documents = self.documents(read, self.label_names if labelled else None)
        found = scores(self.model, documents, device=self.device, classes=len(self.label_names))
        return check_scores(found, f"this {self.model_name}"), documents.labels

    def evaluate(self, source: Source, **how: Any) -> Metrics | MultiLabelMetrics:
        """Measure on labelled texts; see `Classifier`."""
        if self.multi_label:
            return super().evaluate(source, **how)
        documents = self.documents(partial(tokenize, source, **how), self.label_names)
        assert not isinstance(documents.labels, LabelSets)
        measure = MetricsMap(documents.labels, self.decision)
        return _finite(
            measure.metrics(self._map_scores(documents, measure), f"this {self.model_name}")
        )

    def _best_of(
        self, texts: list[str] | pl.Series, top_k: int
    ) -> tuple[Float[Tensor, "n k"], Int[Tensor, "n k"]]:
        if not len(texts):
            return super()._best_of(texts, top_k)
        documents = self.documents(partial(tokenize_texts, texts), None)

        def keep(scored: Tensor, _: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
            return _best(self.decision.probabilities(scored, self.multi_label), top_k)

        values, indices = self._map_scores(documents, keep)
        check_probabilities(values, f"this {self.model_name}")
        return values, indices

    def documents(
        self, read: Callable[[str | Subwords], TokenizedTexts], labels: Sequence[str] | None
    ) -> Documents:
        """Texts as the model reads them.

        Args:
            read: See `Classifier.scores`.
            labels: The labels that they may have; None to ignore the labels.
        """
        texts = read(self.subwords or self.tokenizer)
        documents = Documents(
            texts,
            self.vocabulary,
            labels,
            max_tokens=self.max_tokens,
            multi_label=self.multi_label,
        )
        # Only at the default, which the user has not chosen.
        if documents.num_truncated and self.max_tokens == MAX_TOKENS:
            warnings.warn(f"texts of more than {MAX_TOKENS:,} tokens are cut there", stacklevel=2)
        return documents

    def _map_scores(self, documents: Documents, score_map: ScoreMap) -> list[Tensor]:
        classes = len(self.label_names)
        return map_scores(self.model, documents, score_map, device=self.device, classes=classes)

    @property
    def has_attention(self) -> bool:
        """Whether the model has attention weights, which cost no more than classifying."""
        return hasattr(self.model, "explain")

    def explain(self, texts: Any) -> list[Explanation]:
        """Classify raw texts and explain the labels: by attention, or else by `occlusion`."""
        documents = self.documents(partial(tokenize_texts, as_texts(texts)), None)
        return list(self.explain_documents(documents, range(len(documents))))

    def explain_documents(
        self, documents: Documents, indices: Iterable[int]
    ) -> Iterator[Explanation]:
        """Like `explain`, for documents that are tokenized already; a generator."""
        explain: Any = getattr(self.model, "explain", None)
        gates_of: Any = getattr(self.model, "gates", None)
        decision = self.decision
        with evaluating(self.model):
            for i in indices:
                tokens = documents.batch(np.array([i])).tokens.to(self.device)
                with torch.inference_mode():
                    scaled = decision.scaled(self.model(tokens))[0]
                    gates = gates_of(tokens) if gates_of else None
                    if gates:
                        attention = gates.at_tokens(tokens.shape[1])
                    else:
                        attention = explain(tokens) if explain else {}
                words, same = documents.words(i), tokens[0]
                part = torch.arange(len(words))
                if self.subwords:
                    words, parts = join_pieces(words)
                    number = {word: k for k, word in enumerate(words)}
                    part = torch.tensor(parts, dtype=torch.int64)
                    same = torch.tensor([number[words[k]] for k in parts], dtype=torch.int64)
                story = None
                if gates:
                    questions = (tokens[0] == QUESTION).nonzero()[:1].flatten().tolist()
                    asked = questions[0] if questions else tokens.shape[1]
                    story = as_story(words, part.tolist(), gates, asked)
                for label, probability in self.answers_of(scaled):
                    if not explain:
                        found = occlusion(
                            self.model,
                            tokens,
                            label=label,
                            temperature=decision.temperature,
                            multi_label=self.multi_label,
                            words=same,
                        )
                        attention = {weights_name(same): found[None]}
                    # The weight of a word is the sum over its subwords. The row may be longer than
                    # the document, since the model may have padded it.
                    weights = {
                        n: torch.zeros(len(words))
                        .index_add(0, part, w[0, : len(part)].cpu().to(torch.get_default_dtype()))
                        .tolist()
                        for n, w in attention.items()
                    }
                    method = ATTENTION if explain else OCCLUSION
                    yield Explanation(
                        self.label_names[label], probability, words, weights, method, story
                    )


def check_same_answers(names: Sequence[str], classifiers: Sequence[TextClassifier]) -> None:
    """Require that classifiers give the same kind of answer, with the same labels.

    Args:
        names: Name of each classifier, for messages.
        classifiers: The members of an ensemble.

    Raises:
        UserError: They do not.
    """
    if not classifiers:
        return
    first, labels = names[0], classifiers[0].label_names
    for name, each in zip(names, classifiers, strict=True):
        if each.multi_label != classifiers[0].multi_label:
            several, one = (name, first)[:: 1 if each.multi_label else -1]
            raise UserError(
                f"the members of an ensemble must give the same kind of answer, but {several} "
                f"gives a text any number of labels and {one} gives it one"
            )
        if each.label_names == labels:
            continue
        if sorted(each.label_names) == sorted(labels):
            raise UserError(
                f"{name} has the labels of {first} in another order, as a run has that "
                "started from another one (--from); the members of an ensemble must all have "
                "started from the same run, or all from none"
            )
        raise UserError(
            f"the members of an ensemble must have the same labels, but {first} "
            f"has {', '.join(labels[:9])} and {name} has {', '.join(each.label_names[:9])}"
        )


@dataclass
class Ensemble(Classifier):
    """Trained classifiers whose scores are averaged; each reads text in its own way.

    Attributes:
        members: The classifiers; all with the same labels.
        weights: Weight of each member; they add up to 1.
        names: Name of each member, for messages and the record.
        average: What is averaged, see `average_scores`.
        decision: How averaged scores become probabilities and answers. The members' own decisions
            are not used.

    Raises:
        UserError: There is no member, a member is not a `TextClassifier`, or two have different
            labels; the number of weights or names is not that of the members; weights are negative
            or do not add up to 1; `average` is unknown.
    """

    members: list[TextClassifier] = field(repr=False)
    weights: list[float]
    names: list[str]
    average: str = "probabilities"
    decision: Decision = DEFAULT
    label_names: list[str] = field(init=False)
    labels: list[Label] = field(init=False)
    multi_label: bool = field(init=False)

    def __post_init__(self) -> None:
        if not self.members:
            raise UserError("members must be one or more classifiers, not none")
        members: list[Any] = [*self.members]
        if not all(isinstance(member, TextClassifier) for member in members):
            kinds = ", ".join(type(member).__name__ for member in members)
            raise UserError(f"each of members must be a TextClassifier, but they are: {kinds}")
        for what, number in (("weights", len(self.weights)), ("names", len(self.names))):
            if number != len(self.members):
                raise UserError(f"there are {len(self.members)} members, but {number} {what}")
        check({"average": Annotated[str, OneOf(AVERAGES)]}, {"average": self.average})
        if not _add_up(self.weights):
            raise UserError(f"weights must be at least 0 and add up to 1, not {self.weights}")
        check_same_answers(self.names, self.members)
        self.label_names, self.labels = self.members[0].label_names, self.members[0].labels
        self.multi_label = self.members[0].multi_label

    def save(self, folder: str | Path) -> None:
        """Write a folder for each member whose weight is above 0, and the ensemble's own file.

        Raises:
            UserError: The folder cannot be written to.
        """
        folder = as_path(folder, "folder")
        make_folder(folder, advice="")
        check_no_run(folder)
        counting = [k for k, weight in enumerate(self.weights) if weight > 0]
        for k in counting:
            self.members[k].save(folder / f"member-{k + 1}")
        config = {
            "format": _ENSEMBLE_FORMAT,
            "average": self.average,
            **decision_in(self.decision),
            "members": [
                {"folder": f"member-{k + 1}", "name": self.names[k], "weight": self.weights[k]}
                for k in counting
            ],
        }
        write_json(folder / CONFIG, config)

    def scores(
        self, read: Callable[[str | Subwords], TokenizedTexts], *, labelled: bool
    ) -> tuple[Float[Tensor, "n c"], NDArray[np.int64] | LabelSets]:
        """Averaged scores of texts, and their labels; see `Classifier`."""
        each = [member.scores(read, labelled=labelled) for member in self.members]
        found = [s for s, _ in each]
        averaged = average_scores(found, self.weights, self.average, multi_label=self.multi_label)
        return averaged, each[0][1]

    def explain(self, texts: Any) -> list[Explanation]:
        """Classify raw texts and explain the labels by occlusion, see `explain_words`."""
        texts = as_texts(texts)
        characters = all(member.tokenizer in _WITHOUT_SPACES for member in self.members)

        def score(copies: Sequence[str]) -> Float[Tensor, "n c"]:
            found, _ = self.scores(partial(tokenize_texts, copies), labelled=False)
            return self.decision.scaled(found)

        how: Any = {
            "characters": characters,
            "multi_label": self.multi_label,
            "answers": self.answers_of,
        }
        return [e for text in texts for e in explain_words(score, text, self.label_names, **how)]


def _read_labels(path: Path) -> list[Label]:
    labels = read_json(path, _NOT_ONE)
    try:
        found = as_labels(labels)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    if len(found) < 2:
        raise UserError(f"{path}: labels must be two or more, not {found}")
    if twice := repeated(found):
        raise UserError(f"{path}: each label must occur once, but {twice[0]!r} occurs twice")
    return found


def listed_as_tuples(hyper_parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Turn the lists in hyper-parameters that were read from JSON back into tuples."""
    return {n: tuple(v) if isinstance(v, list) else v for n, v in hyper_parameters.items()}


def _load_ensemble(folder: Path, config: dict[str, Any], device: torch.device) -> Ensemble:
    path = folder / CONFIG
    check_fields(path, config, _ENSEMBLE_FIELDS)
    weights: dict[str, float] = {}
    names = []
    for i, member in enumerate(config["members"]):
        try:
            check_fields(path, member, _MEMBER_FIELDS)
        except UserError as error:
            raise UserError(f"{error} (members[{i}])") from error
        place = member["folder"]
        if place in ("", "..") or "\0" in place or Path(place).name != place or place in weights:
            raise UserError(
                f"{path}: the folder of each member must be a name of its own within {folder}, not "
                f"{place[:80]!r} (members[{i}])"
            )
        weights[place] = member["weight"]
        names.append(member["name"])
    if not _add_up(weights.values()):
        raise UserError(f"{path}: the weights of the members must add up to 1")
    members = []
    for place in weights:
        member_config = read_json(folder / place / CONFIG, _NOT_ONE)
        members.append(TextClassifier._load(folder / place, member_config, device))
    decision = _read_decision(path, config, len(members[0].label_names))
    return Ensemble(members, list(weights.values()), names, config["average"], decision)


def decision_in(decision: Decision) -> dict[str, Any]:
    """The entry of `CONFIG` for a decision; the default has none, as in earlier versions."""
    changed = decision.changed()
    return {"decision": changed} if changed else {}


def _read_decision(path: Path, config: Mapping[str, Any], classes: int) -> Decision:
    try:
        decision = decision_from(config.get("decision"))
        decision.check_labels(classes)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return decision


def _finite(measured: Metrics | MultiLabelMetrics) -> Metrics | MultiLabelMetrics:
    if not math.isfinite(measured.loss):
        raise UserError(
            "the loss is infinite, since some scores overflow float32: the "
            "training has diverged; train again with a lower --lr"
        )
    return measured


def _add_up(weights: Iterable[float]) -> bool:
    """Whether weights are at least 0 and add up to 1; False if one is NaN."""
    weights = list(weights)
    return all(weight >= 0 for weight in weights) and abs(sum(weights) - 1) <= 1e-6


def _given(texts: Any) -> list[str] | pl.Series:
    """Texts, checked; a polars column of strings needs no check."""
    if isinstance(texts, pl.Series) and texts.dtype == pl.String and not texts.has_nulls():
        return texts
    return as_texts(texts)


def _best(
    probabilities: Float[Tensor, "n c"], top_k: int
) -> tuple[Float[Tensor, "n k"], Int[Tensor, "n k"]]:
    """Probabilities and class numbers of the `top_k` most probable classes."""
    if top_k == 1:
        best: Any = probabilities.max(-1, keepdim=True)
    else:
        best = probabilities.topk(min(top_k, probabilities.shape[-1]))
    return best.values, best.indices


def check_model(name: Any) -> None:
    """Require the name of a model.

    Raises:
        UserError: There is no model of this name.
    """
    if not isinstance(name, str) or name not in MODELS:
        raise UserError(f"model must be one of {', '.join(MODELS)}, not {name!r}")


def default_tokenizer(model_name: str) -> str:
    """Name of the tokenization that a model in `MODELS` expects for English text."""
    return "sentences" if reads_sentences(model_name) else "basic_english"


def reads_sentences(model_name: str) -> bool:
    """Whether a model in `MODELS` reads a document sentence by sentence."""
    return bool(getattr(MODELS[model_name], "reads_sentences", False))


def reading_for(model_name: str, reading: Reading, seed: int) -> Reading:
    """Complete `reading` by what depends on the model and on the training.

    For a model that `reads_sentences`, the tokenizations ``bpe``, ``jieba``, ``characters`` and
    ``words`` are replaced by those that also mark sentences. A tokenizer that is left open stays
    so: `load_dataset` chooses it by the texts, and must be told whether the model reads sentences.

    Args:
        model_name: A name in `MODELS`.
        reading: The user's choices.
        seed: The seed of the training.
    """
    return replace(
        reading,
        tokenizer=tokenizer_for(model_name, reading.tokenizer),
        split_seed=seed if reading.split_seed is None else reading.split_seed,
    )


def tokenizer_for(model_name: str, tokenizer: str | None) -> str | None:
    """The tokenization that a model gets when the user names one; see `reading_for`."""
    if reads_sentences(model_name) and f"sentence_{tokenizer}" in MARKS:
        return f"sentence_{tokenizer}"
    return tokenizer


def make_model(
    name: str,
    kind: type[nn.Module],
    sizes: Mapping[str, int],
    hyper_parameters: Mapping[str, Any],
) -> nn.Module:
    """Check hyper-parameters and create the model that they describe.

    Args:
        name: Name of the model, for messages.
        kind: Class of the model.
        sizes: Arguments that depend on the data.
        hyper_parameters: Arguments that the user chooses.

    Raises:
        UserError: A hyper-parameter is unknown, or has a value that is not allowed.
    """
    hints = {n: hint for n, hint in hints_of(kind.__init__).items() if n not in sizes}
    check_names(name, "setting", hyper_parameters, hints)
    given = ", ".join(f"{key}={value}" for key, value in {**sizes, **hyper_parameters}.items())
    with memory_for(f"{name} with {given}"):
        try:
            check(hints, hyper_parameters)
            for setting, value in hyper_parameters.items():
                for number in value if isinstance(value, tuple | list) else (value,):
                    if isinstance(number, int) and number >= 2**31:
                        raise UserError(f"{setting} must be below 2**31, not {number}")
            return kind(**sizes, **hyper_parameters)
        except (TypeError, ValueError) as error:
            raise UserError(f"{name}: {error}") from error
