"""Write a FastText model as fastText's .bin file, which then computes the same function.

This is possible for models of single words (no n-grams) with a softmax and one label per document.
The file has version 12 of the format of https://github.com/facebookresearch/fastText. Differences
between the two programs are compensated by the numbers in the file:

- fastText's output layer has no bias. Therefore every word vector gets an additional number, 1,
  whose mean over a text is 1, and whose weight in the output layer is the bias.
- fastText reads an end-of-line mark after the words of a text. The mark is not in the vocabulary
  that is written here, and words outside the vocabulary are ignored.
- fastText therefore also ignores unknown words, which our model reads as the word ``<unk>``. This
  word is in the vocabulary: if it replaces the unknown words of a text, the prediction is the same.

fastText hashes n-grams differently, which cannot be compensated.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from dlnotes.data.tokenization import MARKS
from dlnotes.errors import UserError
from dlnotes.models import FastText
from dlnotes.training.classifier import Ensemble, TextClassifier

_MAGIC, _VERSION = 793712314, 12
_SOFTMAX, _SUPERVISED = 3, 3
_END = "</s>"


def save_bin(classifier: TextClassifier | Ensemble, path: Path) -> None:
    """Write a classifier in fastText's format.

    Raises:
        UserError: The format cannot represent the classifier; the message says why.
    """
    model = classifier.model if isinstance(classifier, TextClassifier) else None
    if not isinstance(classifier, TextClassifier) or not isinstance(model, FastText):
        raise UserError("--format fasttext is for a run of the model fasttext")
    if model.ngrams > 1:
        why = f"it was trained with n-grams up to {model.ngrams}, which fastText hashes differently"
    elif not isinstance(model.output, nn.Linear):
        why = "its hierarchical softmax has another tree of labels than fastText's"
    elif classifier.multi_label:
        why = "for several labels fastText computes only approximate probabilities, from a table"
    elif classifier.tokenizer in MARKS or _END in classifier.vocabulary.tokens:
        why = f"its vocabulary has the word {_END}, at which fastText ends a line"
    elif classifier.vocabulary.tokens.str.contains(r"[\s\x00]").any():
        why = "its vocabulary has a word that contains a blank"
    else:
        path.write_bytes(_bytes(classifier, model))
        return
    raise UserError(f"fastText's format cannot hold this classifier: {why}")


def _bytes(classifier: TextClassifier, model: FastText) -> bytes:
    words = classifier.vocabulary.tokens.slice(1).to_list()  # without padding
    labels = [f"__label__{name}" for name in classifier.label_names]
    temperature = classifier.decision.temperature
    output: Any = model.output
    vectors = _array(model.vectors.weight)[1 : len(words) + 1]
    A = np.concatenate([vectors, np.ones((len(words), 1), np.float32)], axis=1)
    W = np.concatenate([_array(output.weight), _array(output.bias)[:, None]], axis=1) / temperature
    # dim, ws, epoch, minCount, neg, wordNgrams, loss, model, bucket, minn, maxn, lrUpdateRate, t
    settings = (A.shape[1], 5, 5, 1, 5, 1, _SOFTMAX, _SUPERVISED, 0, 0, 0, 100, 1e-4)
    out = [struct.pack("<2i12id", _MAGIC, _VERSION, *settings)]
    sizes = (len(words) + len(labels), len(words), len(labels), len(words), -1)
    out.append(struct.pack("<3i2q", *sizes))
    for kind, entries in enumerate((words, labels)):
        out += [entry.encode() + b"\0" + struct.pack("<qb", 1, kind) for entry in entries]
    for matrix in (A, W):
        out.append(struct.pack("<?2q", False, *matrix.shape) + matrix.astype("<f4").tobytes())
    return b"".join(out)


def _array(weight: Any) -> NDArray[np.float32]:
    array: NDArray[np.float32] = weight.detach().cpu().float().numpy()
    return array
