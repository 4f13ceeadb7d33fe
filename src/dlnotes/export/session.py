"""A classifier whose network is an ONNX file, run by onnxruntime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from dlnotes.data.labels import LabelSets
from dlnotes.data.subwords import Subwords
from dlnotes.data.tokenized import TokenizedTexts
from dlnotes.errors import UserError
from dlnotes.training.classifier import Classifier, Ensemble, TextClassifier
from dlnotes.training.explain import Explanation

_BATCH = 64


class Session:
    """An ONNX file as a function of token ids.

    Args:
        path: The file.
        threads: Number of threads of onnxruntime; None for its default.
    """

    def __init__(self, path: Path, threads: int | None = None) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if threads:
            options.intra_op_num_threads = threads
        network = path.read_bytes()  # onnxruntime itself opens no path that is not UTF-8
        self._session: Any = onnxruntime.InferenceSession(
            network, options, providers=["CPUExecutionProvider"]
        )
        self._names = [put.name for put in self._session.get_inputs()]

    def __call__(self, *tokens: Int[Tensor, "b t"]) -> Float[Tensor, "b c"]:
        """Score documents, given their tokens for each member."""
        given = {name: ids.numpy() for name, ids in zip(self._names, tokens, strict=True)}
        return torch.from_numpy(self._session.run(None, given)[0])


class ExportedClassifier(Classifier):
    """A trained classifier whose scores are computed by a `Session`.

    Args:
        classifier: The classifier that was exported.
        session: The exported network.
    """

    def __init__(self, classifier: TextClassifier | Ensemble, session: Session) -> None:
        self.members = members_of(classifier)
        self.label_names, self.labels = classifier.label_names, classifier.labels
        self.decision, self.multi_label = classifier.decision, classifier.multi_label
        self.session = session
        self.scored = 0
        """Number of documents in the last call of `scores`."""

    def save(self, folder: str | Path) -> None:
        """Always raise an error, since an exported classifier is already saved."""
        raise UserError("an exported classifier is already saved")

    def explain(self, texts: Any) -> list[Explanation]:
        """Always raise an error, since an exported network gives scores only."""
        raise UserError("an exported classifier cannot explain its labels; use the run instead")

    def scores(
        self, read: Callable[[str | Subwords], TokenizedTexts], *, labelled: bool
    ) -> tuple[Float[Tensor, "n c"], NDArray[np.int64] | LabelSets]:
        """Scores of texts, and their labels; see `Classifier`."""
        names = self.label_names if labelled else None
        documents = [member.documents(read, names) for member in self.members]
        self.scored = n = len(documents[0])
        order = np.argsort(documents[0].lengths, kind="stable")
        found = torch.empty(n, len(self.label_names))
        for start in range(0, n, _BATCH):
            batch = order[start : start + _BATCH]
            tokens = [each.batch(batch).tokens for each in documents]
            found[torch.from_numpy(batch)] = self.session(*tokens)
        return found, documents[0].labels


def members_of(classifier: TextClassifier | Ensemble) -> list[TextClassifier]:
    """The classifier itself, or the members of an ensemble with a weight above 0."""
    if isinstance(classifier, TextClassifier):
        return [classifier]
    pairs = zip(classifier.members, classifier.weights, strict=True)
    return [member for member, weight in pairs if weight > 0]
