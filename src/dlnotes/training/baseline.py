"""The cheap thing to try first: TF-IDF and logistic regression, by scikit-learn."""

from __future__ import annotations

import time
from typing import Any

import torch

from dlnotes.data.dataset import Dataset
from dlnotes.data.documents import Documents
from dlnotes.errors import UserError
from dlnotes.training.evaluate import metrics


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
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
    except ImportError as error:
        raise UserError('the baseline needs scikit-learn: pip install "dlnotes[demo]"') from error
    vectorizer = TfidfVectorizer(
        tokenizer=str.split,
        token_pattern=None,
        lowercase=False,
        ngram_range=(1, 2),
        sublinear_tf=True,
    )
    pipeline = make_pipeline(vectorizer, LogisticRegression(C=c, max_iter=1000))
    began = time.perf_counter()
    pipeline.fit(_texts(dataset.train), dataset.train.labels)
    seconds = time.perf_counter() - began
    test = dataset.read_test()
    probabilities = pipeline.predict_proba(_texts(test))
    # A class that no training document has left no column.
    logits = torch.full((len(test), len(dataset.label_names)), -torch.inf)
    logits[:, pipeline.classes_] = torch.from_numpy(probabilities).float().log()
    return {
        "test": metrics(logits, test.labels).summary(),
        "seconds": seconds,
        "documents_per_second": len(dataset.train) / seconds,
    }


def _texts(documents: Documents) -> list[str]:
    return [documents.text(i) for i in range(len(documents))]
