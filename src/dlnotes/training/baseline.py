"""The cheap things to try first: TF-IDF and a linear classifier, by scikit-learn."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dlnotes.data.dataset import Dataset
from dlnotes.data.documents import Documents
from dlnotes.errors import UserError
from dlnotes.training.evaluate import metrics


def tfidf_svm(dataset: Dataset, *, c: float = 1.0) -> dict[str, Any]:
    """Fit a linear SVM on the training and the dev split, measure on the test split.

    It has no epoch to choose, so that it may learn from the dev documents too. Features are word
    uni- and bigrams of our tokenization, weighted by term frequency and inverse document frequency;
    with more than two classes, one against the rest.

    Args:
        dataset: The same documents that the deep models see.
        c: Inverse strength of the L2 penalty.

    Returns:
        A record as of `tfidf_logistic_regression`; its ``loss`` is that of the margins taken for
        scores.

    Raises:
        UserError: scikit-learn is not installed.
    """
    try:
        from sklearn.svm import LinearSVC
    except ImportError as error:
        raise UserError(_MISSING) from error

    def margins(svm: Any, features: Any) -> NDArray[np.float64]:
        values: NDArray[np.float64] = svm.decision_function(features)
        # Two classes share one hyperplane.
        return values if values.ndim == 2 else np.stack([-values, values], axis=1)

    return _measured(dataset, [dataset.train, dataset.dev], LinearSVC(C=c), margins)


def tfidf_logistic_regression(dataset: Dataset, *, c: float = 10.0) -> dict[str, Any]:
    """Fit on the training split, measure on the test split.

    Features are word uni- and bigrams of our tokenization, weighted by sublinear term frequency
    and inverse document frequency.

    Args:
        dataset: The same splits that the deep models see.
        c: Inverse strength of the L2 penalty.

    Returns:
        A record like that of `train_classifier`: ``test``, ``seconds``, ``documents_per_second``.

    Raises:
        UserError: scikit-learn is not installed.
    """
    try:
        from sklearn.linear_model import LogisticRegression
    except ImportError as error:
        raise UserError(_MISSING) from error
    model = LogisticRegression(C=c, max_iter=1000)
    return _measured(
        dataset,
        [dataset.train],
        model,
        lambda model, features: model.predict_log_proba(features),
        sublinear_tf=True,
    )


_MISSING = 'the baseline needs scikit-learn: pip install "dlnotes[demo]"'


def _measured(
    dataset: Dataset,
    splits: Sequence[Documents],
    model: Any,
    score: Callable[[Any, Any], NDArray[np.float64]],
    **weighting: Any,
) -> dict[str, Any]:
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(
        tokenizer=str.split, token_pattern=None, lowercase=False, ngram_range=(1, 2), **weighting
    )
    texts = [text for split in splits for text in _texts(split)]
    labels = np.concatenate([split.labels for split in splits])
    began = time.perf_counter()
    model.fit(vectorizer.fit_transform(texts), labels)
    seconds = time.perf_counter() - began
    test = dataset.read_test()
    # A class that no training document has left no column.
    logits = torch.full((len(test), len(dataset.label_names)), -torch.inf)
    scores = score(model, vectorizer.transform(_texts(test)))
    logits[:, model.classes_] = torch.from_numpy(scores).float()
    return {
        "test": metrics(logits, test.labels).summary(),
        "seconds": seconds,
        "documents_per_second": len(texts) / seconds,
    }


def _texts(documents: Documents) -> list[str]:
    return [documents.text(i) for i in range(len(documents))]
