"""Plan the trainings of a comparison, and run those whose results are not in the cache."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from dlnotes.claims.cache import Cache, digest_of_code
from dlnotes.claims.claim import Budget
from dlnotes.comparison import trainings
from dlnotes.comparison.label_errors import (
    HeldOutPrediction,
    LabelErrors,
    rank_label_errors,
    thresholds_multi_label,
    thresholds_single_label,
)
from dlnotes.comparison.report import Comparison
from dlnotes.comparison.trainings import (
    SAME,
    Corpus,
    Result,
    Run,
    documents_of,
    folds_of,
    labels_of,
)
from dlnotes.data.dataset import load_dataset
from dlnotes.data.download import cache_folder
from dlnotes.data.labels import LabelSets
from dlnotes.data.reading import Reading
from dlnotes.data.tokenized import fingerprint
from dlnotes.errors import UserError
from dlnotes.training.baseline import BASELINES
from dlnotes.training.classifier import reading_for, reads_sentences

_HALVINGS = 4  # a learning curve starts with a sixteenth of the documents
_LEAST = 20  # fewest documents of a learning curve; on average it also needs two of each label


@dataclass(frozen=True)
class ComparisonData:
    """The documents of a comparison, and what is known of them.

    Attributes:
        corpus: How trainings read the documents.
        train: The training documents, each with its file and line.
        test: Number of test documents.
        notes: Warnings about the documents.
    """

    corpus: Corpus
    train: pl.DataFrame
    test: int
    notes: list[str]

    @classmethod
    def of(
        cls, files: Mapping[str, Sequence[Path]], reading: Reading, models: Sequence[str]
    ) -> ComparisonData:
        """Read the files of a comparison, and check that models can be trained on them.

        Args:
            files: The files of each split: train, and optionally dev and test.
            reading: How to read them.
            models: Names of the models, see `Run`.

        Raises:
            UserError: See `load_dataset`; a test document has a label that no training document
                has.
        """
        files = {split: tuple(map(Path.absolute, paths)) for split, paths in files.items() if paths}
        tokens = cache_folder() / "tokens"
        words = load_dataset(files, reading_for("fasttext", reading, 0), cache_dir=tokens)
        test = len(words.read_test()) if "test" in files else 0
        tokenizers = [words.tokenizer]
        if any(model not in BASELINES and reads_sentences(model) for model in models):
            sentences = reading_for("han", reading, 0)
            found = load_dataset(files, sentences, cache_dir=tokens, sentences=True)
            tokenizers.append(found.tokenizer)
        duplicates = words.duplicates(test="test" in files).summary()
        default = Reading()
        corpus = Corpus(
            {split: tuple(map(str, paths)) for split, paths in files.items()},
            {split: fingerprint(list(paths)) for split, paths in files.items()},
            {n: v for n, v in asdict(reading).items() if v != getattr(default, n)},
            tokenizers,
            words.label_names,
            words.multi_label,
        )
        train = documents_of(
            corpus.files["train"], reading, words.multi_label, corpus.tokenizers[0]
        )
        hint = "(dlnotes train --check-data FILE lists them)."
        return cls(corpus, train, test, [f"{duplicates} {hint}"] if duplicates else [])

    @cached_property
    def same(self) -> NDArray[np.int64]:
        """For each training document, the number of the first one with the same text."""
        return self.train[SAME].to_numpy()

    @cached_property
    def labels(self) -> NDArray[np.int64] | LabelSets:
        """The class numbers of the training documents."""
        return labels_of(self.train, self.corpus)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The trainings of a comparison.

    Attributes:
        documents: The documents.
        models: Names of the models, see `Run`.
        seeds: Seeds of the trainings and of the folds.
        folds: See `Run`.
        curve: Whether to also train on a half, a quarter and so on of the documents.
        training: See `Run`.
        minutes: See `Run`.
        device: See `Run`.
    """

    documents: ComparisonData
    models: Sequence[str]
    seeds: Sequence[int]
    folds: int = 0
    curve: bool = False
    training: Mapping[str, Any] = field(default_factory=dict)
    minutes: float | None = None
    device: str = "cpu"

    def __post_init__(self) -> None:
        size, texts = len(self.documents.train), self.documents.train[SAME].n_unique()
        if self.folds > texts:
            different = f" with {texts:,} different texts" * (texts < size)
            raise UserError(
                f"folds is {self.folds}, but there are {size:,} training documents{different}"
            )

    @property
    def notes(self) -> list[str]:
        """Remarks about the folds."""
        if not self.folds:
            return []
        same = self.documents.same
        many = int((np.bincount(same)[same] > 1).sum())
        if not many:
            return []
        return [
            f"{many:,} training documents have the same text as another one; those with the same "
            "text are in the same fold, so that none is measured by a model that has learned it."
        ]

    @property
    def halvings(self) -> int:
        """How many times the documents are halved for the learning curves."""
        if not self.curve:
            return 0
        size = len(self.documents.train)
        size -= -(-size // self.folds) if self.folds else 0
        least = max(_LEAST, 2 * len(self.documents.corpus.labels))
        return max((h for h in range(1, _HALVINGS + 1) if size // 2**h >= least), default=0)

    def runs(self) -> dict[tuple[str, int], list[Run]]:
        """The trainings, by model and number of halvings."""
        found: dict[tuple[str, int], list[Run]] = {}
        corpus = asdict(self.documents.corpus)
        for model in self.models:
            for halvings in range(self.halvings + 1):
                # A baseline has no random weights: without folds, all seeds give the same result.
                same = model in BASELINES and not (self.folds or halvings)
                found[model, halvings] = [
                    Run(
                        corpus=corpus,
                        model=model,
                        seed=seed,
                        folds=self.folds,
                        fold=fold,
                        halvings=halvings,
                        training={} if model in BASELINES else self.training,
                        minutes=self.minutes,
                        device=self.device,
                    )
                    for seed in self.seeds[: 1 if same else None]
                    for fold in range(self.folds or 1)
                ]
        return found

    def run(
        self,
        *,
        processes: int = 1,
        progress: Callable[[float], None] | None = None,
        folder: Path | None = None,
    ) -> Comparison:
        """Run all trainings that are not in the cache.

        Args:
            processes: Number of trainings at the same time.
            progress: Called with the share that is done.
            folder: Folder of the cache; default: ``comparisons`` in the cache of dlnotes.

        Raises:
            UserError: No model could be trained; a file has changed.
        """
        runs = self.runs()
        cache = Cache(
            digest_of_code(Path(trainings.__file__)), folder or cache_folder() / "comparisons"
        )
        budget = Budget(processes=processes, cache=cache, progress=progress)
        items = [run.item for each in runs.values() for run in each]
        found = iter(budget.map(trainings.train_and_measure, items))
        results = {key: [Result(**next(found)) for _ in each] for key, each in runs.items()}
        documents, labels = self.documents, self.documents.labels
        comparison = Comparison(
            results,
            documents.corpus.multi_label,
            [folds_of(labels, documents.same, self.folds, seed) for seed in self.seeds]
            if self.folds
            else [],
            len(documents.train) if self.folds else documents.test,
        )
        if not comparison.ranked:
            why = "; ".join(f"{model}: {error}" for model, error in comparison.failed.items())
            raise UserError(f"no model could be trained ({why})")
        return comparison


def find_label_errors(comparison: Comparison, documents: ComparisonData) -> LabelErrors:
    """How doubtful the label of each training document is, by models that have not learned it.

    Args:
        comparison: A comparison with folds.
        documents: The documents of the comparison.

    Raises:
        UserError: No model has probabilities.
    """
    predictions, labels = [], documents.labels
    for model in comparison.ranked:
        runs = comparison.results[model, 0]
        if not all(len(run.given) == len(run.hits) for run in runs):
            continue
        for seed, fold_of in enumerate(comparison.fold_of):
            first = seed * comparison.folds
            of_folds = runs[first : first + comparison.folds]
            given, other = np.zeros((2, comparison.documents))
            suggested = np.zeros(comparison.documents, np.int64)
            for fold, run in enumerate(of_folds):
                where = fold_of == fold
                given[where], other[where] = run.given, run.other
                suggested[where] = run.suggested
            if isinstance(labels, LabelSets):
                sums = np.sum([run.sums for run in of_folds], axis=0)
                thresholds = thresholds_multi_label(sums, suggested, labels)
            else:
                thresholds = thresholds_single_label(given, suggested, labels)
            predictions.append(HeldOutPrediction(given, other, suggested, *thresholds))
    if not predictions:
        raise UserError(
            "--label-errors needs a model with probabilities: svm has none, give other --models"
        )
    return rank_label_errors(predictions)
