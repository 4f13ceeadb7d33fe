"""Word vectors that a classifier starts from."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import torch

from dlnotes.data.dataset import Dataset
from dlnotes.data.streams import check_file
from dlnotes.data.vectors import PretrainedVectors, read_vectors
from dlnotes.data.vocabulary import Vocabulary
from dlnotes.data.word2vec import VectorLearning, learn_vectors
from dlnotes.display import console, tell
from dlnotes.errors import UserError
from dlnotes.files import sha256_of
from dlnotes.models import MODELS
from dlnotes.nn import set_word_vectors
from dlnotes.training.classifier import TextClassifier

WORD2VEC = "word2vec"
"""Given instead of a file of word vectors: learn the vectors from the training documents."""


def fingerprint(vectors: Path | str | None) -> dict[str, str]:
    """Digest of a file of word vectors, which a resumed run compares with that in its record."""
    if not vectors or vectors == WORD2VEC:
        return {}
    check_file(Path(vectors))
    try:
        with Path(vectors).open("rb") as file:
            return {"vectors_sha256": sha256_of(file)}
    except OSError as error:
        raise UserError(f"{vectors} cannot be read: {error.strerror}") from error


def settings_for_vectors(
    model: str,
    model_settings: dict[str, Any],
    vectors: Path | str,
    pretrained: PretrainedVectors | None,
) -> dict[str, Any]:
    """Complete the model's settings by what the vectors determine: length, TextCNN's channels.

    Raises:
        UserError: The settings contradict the vectors.
    """
    if model not in MODELS:
        return model_settings
    parameters = inspect.signature(MODELS[model]).parameters
    filled: dict[str, Any] = {}
    if pretrained:
        dim = filled["embedding_dim"] = pretrained.rows.shape[1]
        if model_settings.get("embedding_dim", dim) != dim:
            raise UserError(
                f"embedding_dim is {model_settings['embedding_dim']}, but the vectors in {vectors} "
                f"have {dim} numbers: leave embedding_dim out"
            )
    if "channels" in parameters:
        filled["channels"] = "non-static"
        if model_settings.get("channels") == "rand":
            raise UserError("channels=rand takes no --vectors; leave one of them out")
    return filled | model_settings


def read(vectors: Path, vocabulary: Vocabulary, progress: bool) -> PretrainedVectors:
    """Read vectors for the vocabulary's words from a file; print how many words have one."""
    found = read_vectors(vectors, vocabulary)
    words = f"{len(found.ids):,} of the vocabulary's {len(vocabulary):,} words"
    tell(f"{vectors}: vectors of {words}", shown=progress)
    return found


def learn(
    dataset: Dataset, classifier: TextClassifier, seed: int, progress: bool
) -> PretrainedVectors:
    """Learn word vectors from the training documents."""
    vectors: Any = classifier.model.vectors
    with console(stderr=True, quiet=not progress).status("word2vec") as status:
        learning = VectorLearning(dimensions=vectors.embedding_dim, seed=seed)
        learned = learn_vectors(
            dataset.train,
            dataset.vocabulary,
            learning,
            on_epoch=lambda done: status.update(f"word2vec: {done} of {learning.epochs} passes"),
        )
    tell(f"word2vec: {len(learned.ids):,} word vectors learned", shown=progress)
    return learned


def start_from(pretrained: PretrainedVectors, classifier: TextClassifier) -> None:
    """Set the embedding of each word that has a vector to it."""
    ids, rows = torch.from_numpy(pretrained.ids), torch.from_numpy(pretrained.rows)
    vectors: Any = classifier.model.vectors
    set_word_vectors(vectors.weight, ids, rows, len(classifier.vocabulary))
    static: Any = getattr(classifier.model, "static_vectors", None)
    if static is not None:
        static.load_state_dict(vectors.state_dict())
