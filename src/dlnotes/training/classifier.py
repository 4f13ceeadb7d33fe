"""A trained text classifier: a folder that anyone can read, and nothing in it is a pickle."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dlnotes.arguments import Count, check, check_names, checked, fields_of, hints_of
from dlnotes.data.columns import FOR_FILES, as_texts, load_columns
from dlnotes.data.dataset import Label
from dlnotes.data.documents import Documents
from dlnotes.data.readers import Source
from dlnotes.data.reading import Reading
from dlnotes.data.tokenization import MARKS, TOKENIZERS
from dlnotes.data.tokenized import TokenizedTexts, tokenize, tokenize_texts
from dlnotes.data.vocabulary import Vocabulary
from dlnotes.errors import UserError, memory_for
from dlnotes.files import read_json, write_atomically, write_json
from dlnotes.models import MODELS
from dlnotes.models.averaging import average_scores
from dlnotes.training.attribution import evidence, explain_words, occlusion
from dlnotes.training.device import choose_device
from dlnotes.training.evaluate import Metrics, check_scores, evaluating, metrics
from dlnotes.training.explain import ATTENTION, OCCLUSION, Explanation
from dlnotes.training.folder import CLASSIFIER, CONFIG
from dlnotes.training.scoring import scores
from dlnotes.training.sound import defect

_FORMAT = "dlnotes text classifier 1"
_ENSEMBLE_FORMAT = "dlnotes ensemble 1"
WEIGHTS, VOCABULARY, LABELS = "model.safetensors", "vocabulary.txt", "labels.json"


class Classifier(ABC):
    """What labels raw text: one trained model, or an ensemble of several.

    Attributes:
        label_names: Label of each class number, as text.
        labels: The same as it was given to training: a string, an integer, a whole float or a bool.
    """

    label_names: list[str]
    labels: list[Label]

    @abstractmethod
    def save(self, folder: str | Path) -> None:
        """Write the classifier into `folder`, which is made if needed."""

    @abstractmethod
    def scores(
        self, read: Callable[[str], TokenizedTexts], *, labelled: bool
    ) -> tuple[Float[Tensor, "n c"], NDArray[np.int64]]:
        """Unnormalised scores of texts, and their class numbers (zeros where not `labelled`).

        Args:
            read: Gives the texts, tokenized by the tokenizer of that name.
            labelled: Whether the texts have labels that are to be looked at.
        """

    def evaluate(self, source: Source, **how: Any) -> Metrics:
        """Measure on labelled texts.

        Args:
            source: What `dlnotes.data.tokenized.tokenize` takes.
            how: Its other arguments.

        Raises:
            UserError: `source` cannot be read or has a label that this classifier does not know.
        """
        read = partial(tokenize, source, **how)
        return metrics(*self.scores(read, labelled=True))

    @checked
    def probabilities(self, texts: Sequence[str]) -> Float[Tensor, "n c"]:
        """Probability of each class for each raw text."""
        return self._probabilities(texts)

    def _probabilities(self, texts: Sequence[str] | pl.Series) -> Float[Tensor, "n c"]:
        if not len(texts):
            return torch.empty(0, len(self.label_names))
        read = partial(tokenize_texts, texts)
        return self.scores(read, labelled=False)[0].softmax(-1)

    def best(
        self, texts: Sequence[str] | pl.Series, top_k: int
    ) -> tuple[Float[Tensor, "n k"], Int[Tensor, "n k"]]:
        """Probabilities and class numbers of the most probable labels of raw texts."""
        best = self._probabilities(texts).topk(min(top_k, len(self.label_names)))
        return best.values, best.indices

    @checked
    def classify(self, texts: Sequence[str], *, top_k: Count = 1) -> list[dict[str, Any]]:
        """Most probable labels of raw texts.

        Args:
            texts: Any number of texts.
            top_k: How many labels to give under ``top``.

        Returns:
            For each text ``label``, ``probability`` and ``top``, a list of such pairs.

        Raises:
            UserError: `top_k` is below 1.
        """
        probabilities, classes = (found.tolist() for found in self.best(texts, top_k))
        results = []
        for row in zip(classes, probabilities, strict=True):
            top = [
                {"label": self.label_names[c], "probability": p} for c, p in zip(*row, strict=True)
            ]
            results.append({**top[0], "top": top})
        return results

    def predict(self, texts: Any) -> list[Label]:
        """Most probable label of each raw text.

        Args:
            texts: n texts: a list, a tuple, a generator, an array or a column of a data frame.

        Returns:
            n labels, of the type that the labels in training had. The folder of a classifier keeps
            that type. A classifier that was trained on files has strings.

        Raises:
            UserError: `texts` is a single string, or one of its items is not a string.
        """
        return [self.labels[best] for best in self.predict_proba(texts).argmax(1)]

    def predict_proba(self, texts: Any) -> NDArray[np.float32]:
        """Probability of each class for each raw text.

        Args:
            texts: n texts, in the forms of `predict`.

        Returns:
            Probabilities, shape (n, classes), in the order of `label_names`.

        Raises:
            UserError: As `predict` does.
        """
        probabilities: NDArray[np.float32] = self.probabilities(as_texts(texts)).numpy()
        return probabilities

    @abstractmethod
    def explain(self, texts: Sequence[str]) -> list[Explanation]:
        """Classify raw texts and tell which words the labels were chosen for."""


@dataclass
class TextClassifier(Classifier):
    """A model with all it needs to read raw text.

    Attributes:
        model: The network.
        model_name: Its name in `MODELS`.
        hyper_parameters: Keyword arguments that made the model, sizes excepted.
        vocabulary: Ids of the tokens.
        label_names: Label of each class number, as text.
        tokenizer: Name of the tokenization.
        max_tokens: Longer texts are read up to here.
        device: Where the model is.
        labels: Label of each class number as it was given to training: a string, an integer, a
            whole float or a bool.
        record: What `train` found out (see `train_classifier`); None for a classifier that was
            loaded: a run's folder has it in ``metrics.json``.
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
    record: dict[str, Any] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not self.labels:
            self.labels = list(self.label_names)

    @classmethod
    def train(
        cls,
        texts: Any,
        labels: Any,
        model: str = "fasttext",
        *,
        dev: tuple[Any, Any] | None = None,
        model_settings: Mapping[str, Any] | None = None,
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
                one type. `predict` returns them as they are here. Classes are in the order of their
                labels: numbers by size, strings alphabetically.
            model: A name in `dlnotes.models.MODELS`.
            dev: A pair (texts, labels) that the epoch is chosen on; None to cut `dev_fraction` off.
            model_settings: The model's hyper-parameters where they differ from its defaults.
            out: Run folder, see `train_classifier`; None keeps nothing.
            device: See `choose_device`.
            checkpoint_every: See `fit`.
            resume: Go on from the checkpoint in `out`.
            progress: Show progress.
            settings: Fields of `Training` (such as ``epochs``, ``lr`` and ``seed``) and of
                `Reading` (such as ``tokenizer`` and ``max_tokens``).

        Returns:
            The trained classifier; its `record` says how the training went.

        Raises:
            UserError: Texts, labels or settings that cannot be used (of an item it names the
                argument, the position and the value); a training that diverged.
            dlnotes.training.fit.Interrupted: A signal came.
        """
        from dlnotes.training.settings import Training  # these import this module
        from dlnotes.training.train import train_classifier

        check_model(model)
        of_reading = [name for name in fields_of(Reading) if name not in FOR_FILES]
        known = [*fields_of(Training), *of_reading]
        check_names("TextClassifier.train", "setting", settings, known)
        training = Training(**{n: v for n, v in settings.items() if n not in of_reading})
        reading = Reading(**{n: v for n, v in settings.items() if n in of_reading})
        classifier, record = train_classifier(
            load_columns(texts, labels, reading_for(model, reading, training.seed), dev=dev),
            model,
            training,
            model_settings=model_settings,
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
        """Make an untrained classifier.

        Raises:
            UserError: An unknown model, a hyper-parameter that it refuses, or a vocabulary without
                the marks that it reads.
        """
        check_model(model_name)
        marks = MARKS.get(default_tokenizer(model_name), ())
        if tuple(vocabulary.tokens[2 : 2 + len(marks)]) != marks:
            raise UserError(f"{model_name} reads sentences: the tokenizer must be 'sentences'")
        sizes = {"vocabulary_size": len(vocabulary), "num_classes": len(label_names)}
        model = make_model(model_name, MODELS[model_name], sizes, hyper_parameters)
        labels = list(label_names)
        return cls(model, model_name, dict(hyper_parameters), vocabulary, labels, **rest)

    def to(self, device: torch.device) -> TextClassifier:
        """Move the model."""
        self.model.to(device)
        self.device = device
        return self

    def save(self, folder: str | Path) -> None:
        """Write the classifier's four files into `folder`, which is made if needed.

        The `record` is not among them; the labels keep their type.

        Raises:
            UserError: The folder cannot be written to.
        """
        folder = Path(folder)
        config = {
            "format": _FORMAT,
            "model": self.model_name,
            "hyper_parameters": self.hyper_parameters,
            "tokenizer": self.tokenizer,
            "max_tokens": self.max_tokens,
        }
        make_folder(folder)
        write_atomically(folder / VOCABULARY, self.vocabulary.save)
        write_json(folder / LABELS, self.labels)
        save_weights(self.model, folder)
        write_json(folder / CONFIG, config)

    @classmethod
    def load(
        cls, folder: str | Path, device: torch.device | str = "cpu"
    ) -> TextClassifier | Ensemble:
        """Load a classifier or an ensemble from its folder.

        Args:
            folder: The classifier's folder, or a run's, which has it inside.
            device: Where to put the model.

        Raises:
            UserError: `folder` is no classifier, or one of its files is damaged.
        """
        folder = Path(folder)
        if (folder / CLASSIFIER).is_dir():
            folder = folder / CLASSIFIER
        config = read_json(folder / CONFIG, "is not a trained classifier of dlnotes")
        if isinstance(config, dict) and config.get("format") == _ENSEMBLE_FORMAT:
            return _load_ensemble(folder, config, device)
        if not isinstance(config, dict) or config.get("format") != _FORMAT:
            raise UserError(f"{folder / CONFIG} does not say {_FORMAT!r}: not a run of dlnotes")
        labels = read_json(folder / LABELS, "is not a trained classifier of dlnotes")
        if not (folder / VOCABULARY).is_file():
            raise UserError(f"{folder} has no {VOCABULARY}: not a trained classifier of dlnotes")
        vocabulary = Vocabulary.load(folder / VOCABULARY)
        try:
            tokenizer, max_tokens = config["tokenizer"], config["max_tokens"]
            hyper = {
                name: tuple(value) if isinstance(value, list) else value
                for name, value in config["hyper_parameters"].items()
            }
            model_name = config["model"]
        except (KeyError, AttributeError) as error:
            raise UserError(f"{folder / CONFIG} is damaged: {error} is missing") from error
        if tokenizer not in TOKENIZERS:
            raise UserError(f"{folder / CONFIG}: unknown tokenizer {tokenizer!r}")
        made = cls.create(
            model_name,
            hyper,
            vocabulary,
            list(map(str, labels)),
            tokenizer=tokenizer,
            max_tokens=max_tokens,
            labels=labels,
        )
        load_weights(made.model, folder)
        return made.to(torch.device(device))

    def __getstate__(self) -> dict[str, Any]:
        """What a pickle holds: Python's own types and NumPy arrays, no module and no device."""
        weights = {name: w.cpu().numpy() for name, w in self.model.state_dict().items()}
        tokens = self.vocabulary.tokens.to_list()
        return {**vars(self), "model": weights, "vocabulary": tokens, "device": str(self.device)}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        """Make the model again, on its device if that is here and on the CPU otherwise."""
        vocabulary = Vocabulary(state["vocabulary"])
        made = self.create(
            state["model_name"], state["hyper_parameters"], vocabulary, state["label_names"]
        )
        made.model.load_state_dict({n: torch.tensor(w) for n, w in state["model"].items()})
        made.model.eval()
        vars(self).update(state, model=made.model, vocabulary=vocabulary)
        try:
            self.to(choose_device(state["device"]))
        except UserError:
            self.to(torch.device("cpu"))

    def scores(
        self, read: Callable[[str], TokenizedTexts], *, labelled: bool
    ) -> tuple[Float[Tensor, "n c"], NDArray[np.int64]]:
        """Scores of texts, and their class numbers; see `Classifier`."""
        labels = self.label_names if labelled else None
        texts = read(self.tokenizer)
        documents = Documents(texts, self.vocabulary, labels, max_tokens=self.max_tokens)
        found = scores(self.model, documents, device=self.device)
        return check_scores(found, f"this {self.model_name}"), documents.labels

    @property
    def has_attention(self) -> bool:
        """Whether the model has an attention to show, which costs no more than to classify."""
        return hasattr(self.model, "explain")

    def explain(self, texts: Sequence[str]) -> list[Explanation]:
        """Classify raw texts and tell what the model looked at: attention, or else `occlusion`."""
        tokenized = tokenize_texts(texts, self.tokenizer)
        documents = Documents(tokenized, self.vocabulary, None, max_tokens=self.max_tokens)
        return list(self.explain_documents(documents, range(len(documents))))

    def explain_documents(
        self, documents: Documents, indices: Iterable[int]
    ) -> Iterator[Explanation]:
        """Like `explain`, for documents that are tokenized already; a generator."""
        explain: Any = getattr(self.model, "explain", None)
        with evaluating(self.model):
            for i in indices:
                tokens = documents.batch(np.array([i])).tokens.to(self.device)
                with torch.inference_mode():
                    probability, best = self.model(tokens).softmax(-1)[0].max(0)
                    attention = explain(tokens) if explain else {}
                words = documents.text(i).split()
                if not explain:
                    attention = {
                        evidence(tokens[0]): occlusion(self.model, tokens, label=int(best))[None]
                    }
                # The model may have widened the row.
                weights = {
                    n: w[0, : len(words)].float().cpu().tolist() for n, w in attention.items()
                }
                method = ATTENTION if explain else OCCLUSION
                label = self.label_names[int(best)]
                yield Explanation(label, float(probability), words, weights, method)


@dataclass
class Ensemble(Classifier):
    """Trained classifiers whose scores are averaged; each reads text in its own way.

    Attributes:
        members: The classifiers; all with the same labels.
        weights: How much each counts; their sum is 1.
        names: What each is called, for messages and the record.
        average: What is averaged, see `average_scores`.

    Raises:
        UserError: Two members have different labels.
    """

    members: list[TextClassifier] = field(repr=False)
    weights: list[float]
    names: list[str]
    average: str = "probabilities"
    label_names: list[str] = field(init=False)
    labels: list[Label] = field(init=False)

    def __post_init__(self) -> None:
        self.label_names, self.labels = self.members[0].label_names, self.members[0].labels
        for name, member in zip(self.names, self.members, strict=True):
            if member.label_names != self.label_names:
                raise UserError(
                    f"the members of an ensemble must have the same labels, but {self.names[0]} "
                    f"has {', '.join(self.label_names[:9])} and {name} has "
                    f"{', '.join(member.label_names[:9])}"
                )

    def save(self, folder: str | Path) -> None:
        """Write a folder for each member that counts, and what joins them.

        Raises:
            UserError: The folder cannot be written to.
        """
        folder = Path(folder)
        counting = [k for k, weight in enumerate(self.weights) if weight > 0]
        for k in counting:
            self.members[k].save(folder / f"member-{k + 1}")
        config = {
            "format": _ENSEMBLE_FORMAT,
            "average": self.average,
            "members": [
                {"folder": f"member-{k + 1}", "name": self.names[k], "weight": self.weights[k]}
                for k in counting
            ],
        }
        write_json(folder / CONFIG, config)

    def scores(
        self, read: Callable[[str], TokenizedTexts], *, labelled: bool
    ) -> tuple[Float[Tensor, "n c"], NDArray[np.int64]]:
        """Averaged scores of texts, and their class numbers; see `Classifier`."""
        each = [member.scores(read, labelled=labelled) for member in self.members]
        return average_scores([s for s, _ in each], self.weights, self.average), each[0][1]

    def explain(self, texts: Sequence[str]) -> list[Explanation]:
        """Classify raw texts and leave their words out one by one, see `explain_words`."""
        characters = all(member.tokenizer == "characters" for member in self.members)

        def score(copies: Sequence[str]) -> Float[Tensor, "n c"]:
            return self.scores(partial(tokenize_texts, copies), labelled=False)[0]

        return [
            explain_words(score, text, self.label_names, characters=characters) for text in texts
        ]


def _load_ensemble(folder: Path, config: dict[str, Any], device: torch.device | str) -> Ensemble:
    try:
        each = [(folder / m["folder"], m["name"], m["weight"]) for m in config["members"]]
        average = config["average"]
    except (KeyError, TypeError) as error:
        raise UserError(f"{folder / CONFIG} is damaged: {error} is missing") from error
    members = []
    for place, _, _ in each:
        member = TextClassifier.load(place, device)
        if not isinstance(member, TextClassifier):
            raise UserError(f"{place} is an ensemble; the members of one must be single models")
        members.append(member)
    return Ensemble(members, [w for _, _, w in each], [name for _, name, _ in each], average)


def check_model(name: Any) -> None:
    """Require the name of a model.

    Raises:
        UserError: There is none of this name.
    """
    if not isinstance(name, str) or name not in MODELS:
        raise UserError(f"model must be one of {', '.join(MODELS)}, not {name!r}")


def default_tokenizer(model_name: str) -> str:
    """Name of the tokenization that a model in `MODELS` expects of English text."""
    by_sentence = getattr(MODELS[model_name], "reads_sentences", False)
    return "sentences" if by_sentence else "basic_english"


def reading_for(model_name: str, reading: Reading, seed: int) -> Reading:
    """How a model's texts are read, with what `reading` leaves to the model and to the training.

    Args:
        model_name: A name in `MODELS`.
        reading: What the user says.
        seed: The seed of the training.
    """
    return replace(
        reading,
        tokenizer=reading.tokenizer or default_tokenizer(model_name),
        split_seed=seed if reading.split_seed is None else reading.split_seed,
    )


def make_model(
    name: str,
    kind: type[nn.Module],
    sizes: Mapping[str, int],
    hyper_parameters: Mapping[str, Any],
) -> nn.Module:
    """Check hyper-parameters and make the model that they describe.

    Args:
        name: What it is called, for messages.
        kind: Its class.
        sizes: What the data decide.
        hyper_parameters: What the user decides.

    Raises:
        UserError: An unknown hyper-parameter, or a value that is not allowed.
    """
    hints = {n: hint for n, hint in hints_of(kind.__init__).items() if n not in sizes}
    check_names(name, "setting", hyper_parameters, hints)
    given = ", ".join(f"{key}={value}" for key, value in {**sizes, **hyper_parameters}.items())
    with memory_for(f"{name} with {given}"):
        try:
            check(hints, hyper_parameters)
            return kind(**sizes, **hyper_parameters)
        except (TypeError, ValueError) as error:
            raise UserError(f"{name}: {error}") from error


def save_weights(model: nn.Module, folder: Path) -> None:
    """Write a model's weights, atomically.

    Raises:
        UserError: They are not finite.
    """
    if found := defect(model):
        raise UserError(f"{folder / WEIGHTS} is not written: {found}")
    weights: dict[str, Tensor] = {}
    places = set()
    for name, weight in model.state_dict().items():
        # Of weights that two layers share the file holds two copies: safetensors refuses one.
        shared = weight.data_ptr() in places
        places.add(weight.data_ptr())
        weights[name] = weight.clone() if shared else weight.contiguous()
    write_atomically(folder / WEIGHTS, lambda path: save_file(weights, path))


def load_weights(model: nn.Module, folder: Path) -> None:
    """Read what `save_weights` wrote; the model is then in evaluation mode.

    Raises:
        UserError: There are none, they are damaged or not finite, or they belong to another model.
    """
    try:
        model.load_state_dict(load_file(folder / WEIGHTS))
    except FileNotFoundError as error:
        raise UserError(f"{folder} has no {WEIGHTS}: training has not finished") from error
    except (SafetensorError, RuntimeError) as error:
        problem = " ".join(str(error).split())[:200]
        raise UserError(f"{folder / WEIGHTS} is damaged or foreign: {problem}") from error
    if found := defect(model):
        raise UserError(f"{folder / WEIGHTS} is of no use: {found}; train again")
    model.eval()


def make_folder(folder: Path) -> None:
    """Make a folder and those above it.

    Raises:
        UserError: It cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}") from error
