"""FastText: the mean of word and n-gram vectors, and one linear layer."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dlnotes.nn import PAD, HierarchicalSoftmax, widen
from dlnotes.nn.hyperparameters import (
    check_choice,
    check_classifier,
    check_dropout,
    check_integer,
)
from dlnotes.nn.ngram_means import MULTIPLIER, Ngrams
from dlnotes.nn.ngram_means import mean_vectors as compiled_mean_vectors
from dlnotes.nn.prepared import attached
from dlnotes.nn.vectors import as_ids


def ngram_ids(
    tokens: Int[Tensor, "b t"], *, ngrams: int, first: int, buckets: int
) -> Int[Tensor, "b n"]:
    r"""Ids of the n-grams of 2 to ``ngrams`` words, hashed to ``buckets`` numbers.

    .. math::
        h_1(i) = w_i, \qquad h_n(i) = A\,h_{n-1}(i) + w_{i+n-1} \pmod{2^{64}}, \qquad
        \mathrm{id} = \text{first} + \lfloor \text{buckets} \cdot \mathrm{mix}(h_n) / 2^{32} \rfloor

    mix is the upper half of :math:`A\,(h \oplus (h \gg 32))`. Multiplying and shifting instead
    of dividing makes the ids in a handful of passes over the integers.

    Args:
        tokens: ``b t``.
        ngrams: Longest n-gram, in words; 1 gives no ids.
        first: The smallest id.
        buckets: Number of ids, below :math:`2^{31}`.

    Returns:
        ``b n``, the bigrams, then the trigrams, and so on; :data:`~dlnotes.nn.PAD` for an n-gram
        that touches padding.

    Raises:
        ValueError: See :func:`~dlnotes.nn.vectors.as_ids`.
    """
    tokens = as_ids(tokens)
    words = tokens != PAD
    h, real = tokens, words
    ids = []
    for n in range(2, min(ngrams, tokens.shape[1]) + 1):
        h = h[:, :-1] * MULTIPLIER + tokens[:, n - 1 :]  # b t-n+1
        real = real[:, :-1] & words[:, n - 1 :]
        # Without the shift, pairs of a regular grid of ids fall on a lattice and collide.
        upper = ((h ^ (h >> 32)) * MULTIPLIER >> 32) & 0xFFFFFFFF
        ids.append(torch.where(real, (upper * buckets >> 32) + first, PAD))
    return torch.cat(ids, dim=1) if ids else tokens[:, :0]


def bags(tokens: Int[Tensor, "b t"], grams: Ngrams) -> tuple[Tensor, Tensor]:
    """Ids of each document's words and n-grams, ``b n``, and which of them are real, ``b n``.

    In place of padding stands the first word of the document, so that no vector is read that the
    document does not read.
    """
    ngrams, first, buckets = grams
    others = ngram_ids(tokens, ngrams=ngrams, first=first, buckets=buckets)
    ids = torch.cat([tokens, others], dim=1)  # b n
    real = ids != PAD
    return torch.where(real, ids, tokens[:, :1]), real


def mean_vectors(
    vectors: nn.EmbeddingBag, tokens: Int[Tensor, "b t"], grams: Ngrams
) -> Float[Tensor, "b e"]:
    """The mean of the vectors of a document's words and n-grams; zeros for an empty document.

    It is a weighted ``embedding_bag`` in which padding has weight 0. On a CPU torch has a fast
    kernel for that and a slow one for bags with a ``padding_idx``: the forward pass takes 0.19–0.29
    and a training step with sparse gradients 0.24–0.31 times that of ``mode="mean"`` with
    ``padding_idx`` (0.5 and 0.5 times that of ``embedding`` and a masked mean; 0.75 and 0.9 times
    that of packed rows with offsets, whose packing would stop a GPU). The ids
    are those of :func:`bags`.

    Args:
        vectors: A vector per id, to be added up.
        tokens: ``b t``, t >= 1.
        grams: The n-grams.
    """
    ids, real = bags(tokens, grams)
    x: Tensor = vectors(ids, per_sample_weights=real.to(vectors.weight.dtype))  # b e
    return x / real.sum(dim=1, keepdim=True).clamp(min=1)


class FastText(nn.Module):
    r"""Bag of words and n-grams (Joulin et al. 2016, https://arxiv.org/abs/1607.01759).

    .. math:: s = B\,\frac{1}{N}\sum_{k=1}^{N} A_{x_k} + b

    where :math:`x_1 \dots x_N` are the ids of the document's words and of its n-grams (hashed, see
    :func:`ngram_ids`), and :math:`A` starts at :math:`U(-1/e, 1/e)`.

    The mean is :func:`mean_vectors`; training with sparse gradients on a CPU has it from compiled
    code (see `dlnotes.nn.ngram_means`).

    With many classes ``output="hierarchical"`` replaces :math:`B` and the softmax by
    :class:`~dlnotes.nn.HierarchicalSoftmax`: the scores are then log-probabilities, and a step of
    training costs :math:`O(\log c)` (see :attr:`log_likelihood`).

    Differs from the paper: the output layer has a bias and torch's initialisation, where the
    authors' program has none and starts at zero; another hash function; fewer buckets than the
    paper's 10 million.

    Args:
        vocabulary_size: Number of token ids, padding and the unknown word included.
        num_classes: Number of scores.
        embedding_dim: :math:`e`, the paper's 10.
        ngrams: Longest n-gram, in words; 1 for words alone.
        buckets: Number of vectors that the n-grams share (below :math:`2^{31}`).
        dropout: Share of the document vector dropped in training; the paper has none.
        sparse: Give the gradient of :math:`A` as a sparse tensor, for an optimizer that takes such.
            With a million buckets and 64 reviews of IMDB a training step, without the optimizer's,
            takes 2 ms instead of 35: a dense gradient is as large as :math:`A`. The same for the
            nodes of a hierarchical output.
        output: ``softmax`` or ``hierarchical``.
        class_counts: How often each class occurs in training, for the Huffman tree of the
            hierarchical output (training fills it in); without, the tree is balanced.

    Shapes:
        tokens ``b t`` → scores ``b c``. An empty document has a document vector of zeros.

    Raises:
        ValueError: A hyper-parameter is outside its range.
    """

    def __init__(
        self,
        *,
        vocabulary_size: int,
        num_classes: int,
        embedding_dim: int = 10,
        ngrams: int = 2,
        buckets: int = 1_000_000,
        dropout: float = 0.0,
        sparse: bool = True,
        output: str = "softmax",
        class_counts: tuple[int, ...] = (),
    ) -> None:
        super().__init__()
        check_classifier(vocabulary_size, num_classes)
        check_integer("embedding_dim", embedding_dim, 1)
        check_integer("ngrams", ngrams, 1)
        check_integer("buckets", buckets, 1)
        if buckets >= 2**31:
            raise ValueError(f"buckets is {buckets!r}; allowed: below 2**31")
        check_dropout("dropout", dropout)
        check_choice("output", output, ("softmax", "hierarchical"))
        if class_counts and (len(class_counts) != num_classes or min(class_counts) < 0):
            raise ValueError(
                f"class_counts is {class_counts!r}; allowed: (), or an integer of at least 0 for "
                f"each of {num_classes} classes"
            )
        self.ngrams = ngrams
        self.buckets = buckets
        self.vocabulary_size = vocabulary_size
        rows = vocabulary_size + (buckets if ngrams > 1 else 0)
        self.vectors = nn.EmbeddingBag(rows, embedding_dim, mode="sum", sparse=sparse)
        self.dropout = nn.Dropout(dropout)
        self.output: nn.Linear | HierarchicalSoftmax
        if output == "softmax":
            self.output = nn.Linear(embedding_dim, num_classes)
        else:
            counts = class_counts or (1,) * num_classes
            self.output = HierarchicalSoftmax(embedding_dim, counts, sparse=sparse)
        with torch.no_grad():
            self.vectors.weight.uniform_(-1 / embedding_dim, 1 / embedding_dim)
            self.vectors.weight[PAD].zero_()

    @property
    def log_likelihood(
        self,
    ) -> Callable[[Int[Tensor, "b t"], Int[Tensor, " b"]], Float[Tensor, " b"]] | None:
        """Log-probability of one class a document, where it costs less than all the scores.

        None for the softmax output. No loss: what the model says of the classes that it is asked
        about, in training mode as in any other.
        """
        output = self.output
        if not isinstance(output, HierarchicalSoftmax):
            return None
        return lambda tokens, labels: output.log_likelihood(self._features(tokens), labels)

    def forward(self, tokens: Int[Tensor, "b t"]) -> Float[Tensor, "b c"]:
        """Score the documents."""
        scores: Tensor = self.output(self._features(tokens))  # b c
        return scores

    def prepare(self, tokens: Int[Tensor, "b t"]) -> tuple[Tensor, Tensor]:
        """The ids whose vectors are averaged, and the share of each in the mean: 1/N or 0."""
        ids, real = bags(widen(tokens, 1), self._grams)
        shares = real.to(self.vectors.weight.dtype)
        return ids, shares / real.sum(dim=1, keepdim=True).clamp(min=1)

    @property
    def _grams(self) -> Ngrams:
        return Ngrams(self.ngrams, self.vocabulary_size, self.buckets)

    def _features(self, tokens: Int[Tensor, "b t"]) -> Float[Tensor, "b e"]:
        features: Tensor = self.dropout(self._mean(tokens))
        return features

    def _mean(self, tokens: Int[Tensor, "b t"]) -> Float[Tensor, "b e"]:
        vectors, grams = self.vectors, self._grams
        if made := attached(self, tokens):
            ids, shares = made
            mean: Tensor = vectors(ids, per_sample_weights=shares)
            return mean
        tokens = widen(tokens, 1)
        x = compiled_mean_vectors(vectors, tokens, grams, mean_vectors) if vectors.sparse else None
        return mean_vectors(vectors, tokens, grams) if x is None else x
