"""Choose the objective, class weights and initial biases by the labels of the documents."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from dlnotes.data.dataset import Dataset
from dlnotes.data.labels import LabelSets
from dlnotes.errors import UserError
from dlnotes.training.objectives import Hierarchical, MultiLabel, Objective, SingleLabel
from dlnotes.training.settings import Training


def class_counts(dataset: Dataset) -> NDArray[np.int64]:
    """How many training documents have each class, shape (classes,)."""
    labels = dataset.train.labels
    if isinstance(labels, LabelSets):
        return labels.counts()
    counts: NDArray[np.int64] = np.bincount(labels, minlength=len(dataset.label_names))
    return counts


def class_weights(dataset: Dataset) -> Float[Tensor, " c"]:
    r"""Weights that balance the classes, see ``class_weights`` of `Training`.

    Let :math:`n_k` of :math:`n` documents have class :math:`k`. With one label per document, a
    document of class :math:`k` has the weight :math:`n / (c\, n_k)`. With several, the weight is
    :math:`w_k = (n - n_k) / n_k`, so that the documents that have the class together weigh as much
    as those that do not.
    """
    counts, n = class_counts(dataset), len(dataset.train)
    if dataset.multi_label:
        weights = np.maximum(1, n - counts) / np.maximum(1, counts)
    else:
        weights = n / (len(counts) * np.maximum(1, counts))
    return torch.tensor(weights, dtype=torch.float32)


def objective_for(model: nn.Module, training: Training, dataset: Dataset) -> Objective:
    """The objective of a training.

    Args:
        model: The network.
        training: How it is trained.
        dataset: The documents.
    """
    weights = class_weights(dataset) if training.class_weights == "balanced" else None
    smoothing, gamma = training.label_smoothing or 0.0, training.focal_gamma
    if dataset.multi_label:
        # Compare epochs with their best thresholds, since these are chosen at the end.
        threshold = 0.5 if training.threshold == "none" else None
        return MultiLabel(weights, smoothing, threshold, gamma)
    if smoothing == 0 and Hierarchical.suits(model):
        return Hierarchical(weights, gamma)
    return SingleLabel(weights, smoothing, gamma)


def check_output_layer(model_settings: Mapping[str, Any], dataset: Dataset) -> None:
    """Refuse an output layer that cannot give several labels.

    Raises:
        UserError: It is a hierarchical softmax, whose classes are mutually exclusive.
    """
    if dataset.multi_label and model_settings.get("output") == "hierarchical":
        raise UserError(
            "output must be 'softmax' where a text may have several labels, not 'hierarchical': "
            "the probabilities of a hierarchical softmax exclude one another"
        )


def warn_of_slow_loss(model_settings: Mapping[str, Any], training: Training) -> None:
    """Warn if label smoothing takes away the advantage of a hierarchical softmax."""
    if model_settings.get("output") == "hierarchical" and training.label_smoothing:
        warnings.warn(
            f"label_smoothing={training.label_smoothing:g} needs the probability of every class, "
            "so that output='hierarchical' is trained no faster than a softmax; "
            "label_smoothing=0 is faster",
            stacklevel=3,
        )


@torch.no_grad()
def start_at_frequencies(
    model: nn.Module, dataset: Dataset, weights: Float[Tensor, " c"] | None = None
) -> None:
    r"""Initialize the biases of a multi-label model to the log-odds of the labels' frequencies.

    With this bias, the untrained model predicts each label with the probability with which it
    occurs (one half, with a balanced loss). Otherwise it would predict half of all labels for every
    document, and training would have to unlearn this first (Karpathy 2019,
    https://karpathy.github.io/2019/04/25/recipe/):

    .. math:: b_k = \log \frac{w_k (n_k + 1/2)}{n - n_k + 1/2}

    A model whose output has no bias is not changed.

    Args:
        model: An untrained model; the last rows of its layer ``output`` are those of the classes.
        dataset: The documents that it will learn from.
        weights: :math:`w`, the weights of the objective.
    """
    bias = getattr(getattr(model, "output", None), "bias", None)
    if not isinstance(bias, Tensor):
        return
    counts = torch.from_numpy(class_counts(dataset)).double()
    odds = (counts + 0.5) / (len(dataset.train) - counts + 0.5)
    if weights is not None:
        odds = odds * weights.double().cpu()
    bias[-len(counts) :] = odds.log().to(bias)
