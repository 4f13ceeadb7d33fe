"""Cheap baselines to try first: TF-IDF and a linear classifier, by scikit-learn."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from dlnotes.data.dataset import Dataset
from dlnotes.data.documents import Documents
from dlnotes.data.labels import LabelSets
from dlnotes.errors import UserError
from dlnotes.training.decision import choose_decision
from dlnotes.training.evaluate import metrics

BASELINES = {
    "tfidf": "TF-IDF with logistic regression",
    "svm": "TF-IDF with a linear SVM",
}
"""Name and description of each baseline."""


class Baseline(NamedTuple):
    """A fitted baseline.

    Attributes:
        scores: Maps documents to unnormalised scores, shape (n, c).
        seconds: How long fitting took.
        parts: The fitted TF-IDF vectorizer and the linear model, which are all there is to save.
        has_probabilities: Whether the softmax of the scores (with several labels per document: the
            sigmoid) gives probabilities. It does not for an SVM, whose scores are margins.
    """

    scores: Callable[[Documents], Float[Tensor, "n c"]]
    seconds: float
    parts: tuple[Any, Any]
    has_probabilities: bool = True


def fit_baseline(name: str, dataset: Dataset) -> Baseline:
    """Fit a baseline to the training documents.

    Args:
        name: A key of `BASELINES`.
        dataset: The documents; the test split is not read.

    Raises:
        UserError: scikit-learn is not installed; ``svm`` where a document may have several labels;
            the training documents contain no word or only one class.
    """
    try:
        from sklearn.linear_model import LogisticRegression
        from sklearn.multiclass import OneVsRestClassifier
        from sklearn.svm import LinearSVC
    except ImportError as error:
        raise UserError(_MISSING) from error
    splits = [dataset.train]
    try:
        if name == "svm":
            _check_single(dataset)
            fitted = _learned(dataset, splits, LinearSVC(C=1.0), _margins)
            return fitted._replace(has_probabilities=False)
        if dataset.multi_label:
            # Liblinear is the fastest for many two-class problems with sparse features.
            one = LogisticRegression(C=10.0, solver="liblinear", max_iter=1000)
            return _learned_sets(dataset, OneVsRestClassifier(one))
        model = LogisticRegression(C=10.0, max_iter=1000)
        return _learned(dataset, splits, model, _log_probabilities, sublinear_tf=True)
    except ValueError as error:  # no word, or one class
        raise UserError(f"the baseline cannot learn from these documents: {error}") from error


def check_baselines() -> None:
    """Require scikit-learn.

    Raises:
        UserError: It is not installed.
    """
    try:
        import sklearn.linear_model  # noqa: F401
    except ImportError as error:
        raise UserError(_MISSING) from error


def _check_single(dataset: Dataset) -> None:
    if dataset.multi_label:
        raise UserError(
            "the baseline svm is for one label per document; for several there is tfidf"
        )


def _margins(svm: Any, features: Any) -> NDArray[np.float64]:
    values: NDArray[np.float64] = svm.decision_function(features)
    # For two classes, scikit-learn returns one margin per document: that of the second class.
    return values if values.ndim == 2 else np.stack([-values, values], axis=1)


def tfidf_svm(dataset: Dataset, *, c: float = 1.0) -> dict[str, Any]:
    """Fit a linear SVM to the training and the dev split, and measure it on the test split.

    It has no epoch to choose, so that it can also learn from the dev documents. Features are word
    uni- and bigrams of our tokenization, weighted by term frequency and inverse document frequency.
    With more than two classes, each class is separated from the rest.

    Args:
        dataset: The same documents that the deep models see.
        c: Inverse strength of the L2 penalty.

    Returns:
        A record like that of `tfidf_logistic_regression`; its ``loss`` treats the margins as
        scores.

    Raises:
        UserError: scikit-learn is not installed; a document may have several labels, whose
            thresholds must be chosen on dev documents.
    """
    try:
        from sklearn.svm import LinearSVC
    except ImportError as error:
        raise UserError(_MISSING) from error
    _check_single(dataset)
    return _measured(dataset, [dataset.train, dataset.dev], LinearSVC(C=c), _margins)


def tfidf_logistic_regression(
    dataset: Dataset, *, c: float = 10.0, class_weights: str = "none", thresholds: Any = ("one",)
) -> dict[str, Any]:
    """Fit a logistic regression to the training split, and measure it on the test split.

    Features are word uni- and bigrams of our tokenization, weighted by sublinear term frequency
    and inverse document frequency. Where a document may have several labels, there is one
    regression per label, and thresholds are chosen on the dev split.

    Args:
        dataset: The same splits that the deep models see.
        c: Inverse strength of the L2 penalty.
        class_weights: ``none``, or ``balanced``: documents of rare classes weigh more.
        thresholds: With several labels per document: the ways to choose thresholds that are
            measured, see `choose_thresholds`.

    Returns:
        A record like that of `train_classifier`: ``test``, ``seconds``, ``documents_per_second``.
        With several labels per document, ``test`` and ``dev`` belong to the first of `thresholds`,
        and ``test_by_threshold`` has the test figures of each.

    Raises:
        UserError: scikit-learn is not installed.
    """
    try:
        from sklearn.linear_model import LogisticRegression
    except ImportError as error:
        raise UserError(_MISSING) from error
    weights = class_weights if class_weights != "none" else None
    if dataset.multi_label:
        from sklearn.multiclass import OneVsRestClassifier

        # Liblinear is the fastest for many two-class problems with sparse features.
        one = LogisticRegression(C=c, class_weight=weights, solver="liblinear", max_iter=1000)
        return _measured_sets(dataset, OneVsRestClassifier(one), tuple(thresholds))
    model = LogisticRegression(C=c, class_weight=weights, max_iter=1000)
    return _measured(dataset, [dataset.train], model, _log_probabilities, sublinear_tf=True)


def tfidf_dev_scores(dataset: Dataset) -> tuple[Float[Tensor, "n c"], dict[str, float]]:
    """Score the dev documents by the classifier of `tfidf_logistic_regression`.

    Args:
        dataset: The documents; the test split is not read.

    Returns:
        Unnormalised scores, and the ``seconds`` and ``documents_per_second`` of the training.

    Raises:
        UserError: See `fit_baseline`.
    """
    fitted = fit_baseline("tfidf", dataset)
    speed = len(dataset.train) / fitted.seconds
    return fitted.scores(dataset.dev), {"seconds": fitted.seconds, "documents_per_second": speed}


def _log_probabilities(model: Any, features: Any) -> NDArray[np.float64]:
    found: NDArray[np.float64] = model.predict_log_proba(features)
    return found


_MISSING = 'the baseline needs scikit-learn: pip install "dlnotes[demo]"'


def _measured(
    dataset: Dataset,
    splits: Sequence[Documents],
    model: Any,
    score: Callable[[Any, Any], NDArray[np.float64]],
    **weighting: Any,
) -> dict[str, Any]:
    scored, seconds, *_ = _learned(dataset, splits, model, score, **weighting)
    test = dataset.read_test()
    return {
        "test": metrics(scored(test), test.labels).summary(),
        "seconds": seconds,
        "documents_per_second": sum(map(len, splits)) / seconds,
    }


def _learned(
    dataset: Dataset,
    splits: Sequence[Documents],
    model: Any,
    score: Callable[[Any, Any], NDArray[np.float64]],
    **weighting: Any,
) -> Baseline:
    """Fit a model to the documents of some splits."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(
        tokenizer=str.split, token_pattern=None, lowercase=False, ngram_range=(1, 2), **weighting
    )
    texts = [text for split in splits for text in _texts(split)]
    labels = np.concatenate([split.labels for split in splits])
    began = time.perf_counter()
    model.fit(vectorizer.fit_transform(texts), labels)
    seconds = time.perf_counter() - began

    def scored(documents: Documents) -> Tensor:
        # The model has no column for a class that no training document has.
        logits = torch.full((len(documents), len(dataset.label_names)), -torch.inf)
        scores = score(model, vectorizer.transform(_texts(documents)))
        logits[:, model.classes_] = torch.from_numpy(scores).float()
        return logits

    return Baseline(scored, seconds, (vectorizer, model))


def _measured_sets(dataset: Dataset, model: Any, thresholds: Sequence[str]) -> dict[str, Any]:
    """Fit one regression per label, and measure with each way to choose thresholds."""
    scored, seconds, *_ = _learned_sets(dataset, model)
    test = dataset.read_test()
    dev_scores, test_scores = scored(dataset.dev), scored(test)
    figures = figures_by_threshold(
        dev_scores, dataset.dev.labels, test_scores, test.labels, thresholds
    )
    dev, measured = figures[thresholds[0]]
    return {
        "dev": dev,
        "test": measured,
        "test_by_threshold": {how: found for how, (_, found) in figures.items()},
        "best_epoch": None,
        "seconds": seconds,
        "documents_per_second": len(dataset.train) / seconds,
    }


def _learned_sets(dataset: Dataset, model: Any) -> Baseline:
    """Like `_learned`, with one regression per label."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.preprocessing import MultiLabelBinarizer

    vectorizer = TfidfVectorizer(
        tokenizer=str.split,
        token_pattern=None,
        lowercase=False,
        ngram_range=(1, 2),
        sublinear_tf=True,
    )
    sets = dataset.train.labels
    assert isinstance(sets, LabelSets)
    # A label of all documents or of none needs no regression, and scikit-learn would warn.
    learned = np.flatnonzero((sets.counts() > 0) & (sets.counts() < len(sets)))
    began = time.perf_counter()
    binarizer = MultiLabelBinarizer(classes=np.arange(sets.classes), sparse_output=True)
    matrix = binarizer.fit_transform([sets.of(i) for i in range(len(sets))])
    model.fit(vectorizer.fit_transform(_texts(dataset.train)), matrix[:, learned])
    seconds = time.perf_counter() - began

    def scored(documents: Documents) -> Tensor:
        logits = torch.full((len(documents), sets.classes), -torch.inf)
        logits[:, sets.counts() == len(sets)] = torch.inf
        found = model.decision_function(vectorizer.transform(_texts(documents)))
        logits[:, learned] = torch.from_numpy(found).float().reshape(len(documents), -1)
        return logits

    return Baseline(scored, seconds, (vectorizer, model))


def figures_by_threshold(
    dev_scores: Float[Tensor, "n c"],
    dev_labels: Any,
    test_scores: Float[Tensor, "m c"],
    test_labels: Any,
    thresholds: Sequence[str],
) -> dict[str, tuple[dict[str, float], dict[str, float]]]:
    """Dev and test figures for each way to choose thresholds on the dev split.

    Args:
        dev_scores: Unnormalised scores of the dev documents.
        dev_labels: Their `LabelSets`.
        test_scores: The same of the test documents.
        test_labels: Their `LabelSets`.
        thresholds: See `choose_thresholds`.
    """
    found = {}
    for how in thresholds:
        decision, _ = choose_decision(dev_scores, dev_labels, multi_label=True, threshold=how)
        each = ((dev_scores, dev_labels), (test_scores, test_labels))
        dev, test = (metrics(scores, labels, decision).summary() for scores, labels in each)
        found[how] = dev, test
    return found


def _texts(documents: Documents) -> list[str]:
    return [documents.text(i) for i in range(len(documents))]
