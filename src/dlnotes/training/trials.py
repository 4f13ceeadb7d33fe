"""One trial: a model with its settings, trained and measured on the dev documents.

Used by ``dlnotes advise`` and the search for recipes.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from dlnotes.data.dataset import Dataset
from dlnotes.data.labels import LabelSets
from dlnotes.training.baseline import tfidf_dev_scores
from dlnotes.training.decision import DEFAULT, Decision, choose_decision
from dlnotes.training.device import choose_device
from dlnotes.training.evaluate import metrics, scores
from dlnotes.training.settings import Training
from dlnotes.training.train import train_classifier

TFIDF = "tfidf"
"""The name of the baseline: TF-IDF and logistic regression."""


@dataclass(frozen=True)
class Trial:
    r"""The result of a trial.

    The figure by which trials are compared is a ratio of two sums over the dev documents,

    .. math:: \frac{\sum_i a_i}{\sum_i b_i}

    With one label per document it is the accuracy (:math:`a_i` is 1 for a correct document and else
    0, :math:`b_i = 1`). With several labels it is micro-F1 (:math:`a = 2 tp`,
    :math:`b = 2 tp + fp + fn` of each document).

    Attributes:
        dev: Figures on dev by name.
        hits: :math:`a_i`, shape (documents,).
        outcomes: :math:`b_i`, shape (documents,).
        seconds: Time of training and evaluation.
        documents_per_second: Speed of training.
        epochs: Dev accuracy, or micro-F1, after each epoch; empty for a baseline.
        decision: How scores become labels.
    """

    dev: Mapping[str, float]
    hits: NDArray[np.float64]
    outcomes: NDArray[np.float64]
    seconds: float
    documents_per_second: float
    epochs: list[float] = field(default_factory=list)
    decision: Decision = DEFAULT

    @property
    def score(self) -> float:
        """The figure by which trials are compared."""
        return float(self.hits.sum() / max(1.0, self.outcomes.sum()))


def run_trial(
    dataset: Dataset,
    model: str,
    training: Training | None = None,
    *,
    model_settings: Mapping[str, Any] | None = None,
    device: str = "auto",
    time_limit: float | None = None,
) -> Trial:
    """Train on the training documents and measure on the dev documents; no test split is opened.

    Args:
        dataset: The documents.
        model: A name in `dlnotes.models.MODELS`, or `TFIDF`, which needs no settings.
        training: See `train_classifier`; there is no refit with the dev documents.
        model_settings: See `train_classifier`.
        device: See `choose_device`.
        time_limit: Seconds that the trial may take, see `fit`; the baseline cannot be stopped.

    Raises:
        UserError: See `train_classifier` and `tfidf_dev_scores`.
        dlnotes.training.fit.OutOfTime: `time_limit` is too short.
        dlnotes.training.fit.Interrupted: A signal arrived.
    """
    dataset = replace(dataset, _test=None)
    if model == TFIDF:
        logits, took = tfidf_dev_scores(dataset)
        decision = _decision(logits, dataset, training or Training())
        return _trial(dataset, logits, decision, **took)
    training = replace(training or Training(), refit=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # many trials would repeat the same warnings
        classifier, record = train_classifier(
            dataset,
            model,
            training,
            model_settings=model_settings,
            device=device,
            progress=False,
            time_limit=time_limit,
        )
    # The dev documents, read with the limits of the recipe.
    dev = dataset.dev.limited(classifier.vocabulary, classifier.max_tokens)
    logits = scores(classifier.model, dev, device=choose_device(device))
    epochs = [_headline(epoch) for epoch in record["history"]]
    took = {name: record[name] for name in ("seconds", "documents_per_second")}
    return _trial(dataset, logits, classifier.decision, **took, epochs=epochs)


def _headline(epoch: Mapping[str, float]) -> float:
    return epoch["dev_accuracy" if "dev_accuracy" in epoch else "dev_micro_f1"]


def _decision(logits: Float[Tensor, "n c"], dataset: Dataset, training: Training) -> Decision:
    if not dataset.multi_label:
        return DEFAULT
    how = training.threshold
    return choose_decision(logits, dataset.dev.labels, multi_label=True, threshold=how)[0]


def _trial(
    dataset: Dataset, logits: Float[Tensor, "n c"], decision: Decision, **took: Any
) -> Trial:
    labels = dataset.dev.labels
    hits, outcomes = contributions_of(logits, labels, decision)
    dev = metrics(logits, labels, decision).summary()
    return Trial(dev, hits, outcomes, **took, decision=decision)


def contributions_of(
    logits: Float[Tensor, "n c"], labels: NDArray[np.int64] | LabelSets, decision: Decision
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Each document's contributions to the figure by which trials are compared.

    Args:
        logits: Unnormalised scores of the documents.
        labels: Labels of the documents.
        decision: How scores become labels.

    Returns:
        `Trial.hits` and `Trial.outcomes`.
    """
    several = isinstance(labels, LabelSets)
    given = decision.decide(logits, several).numpy()
    if isinstance(labels, LabelSets):
        true = labels.dense(np.arange(len(labels)))
        return 2.0 * (true & given).sum(1), (true.sum(1) + given.sum(1)).astype(float)
    hits = (labels == given).astype(float)
    return hits, np.ones(len(hits))


@contextmanager
def num_threads_set_to(number: int) -> Iterator[None]:
    """Compute on this number of threads, also in scikit-learn."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        from threadpoolctl import threadpool_limits  # comes with scikit-learn
    except ImportError:
        limits: Any = nullcontext()
    else:
        limits = threadpool_limits(number, user_api="blas")
    try:
        with limits:
            yield
    finally:
        torch.set_num_threads(before)
