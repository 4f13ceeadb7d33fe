"""Word vectors, and the tokens that stand for no word and for an unknown one."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

PAD = 0
"""Token id of padding: it fills the right end of every row that is shorter than its batch."""
UNK = 1
"""Token id of words that the vocabulary does not have."""


def as_ids(tokens: Int[Tensor, "b t"]) -> Int[Tensor, "b t"]:
    """Token ids of any integer type as int64, in which n-grams are hashed.

    Raises:
        ValueError: ``tokens`` are not integers, or do not have a row per document.
    """
    if tokens.is_floating_point() or tokens.is_complex() or tokens.dtype == torch.bool:
        raise ValueError(f"tokens are {tokens.dtype}; allowed: integers, the ids of words")
    if tokens.dim() != 2:
        raise ValueError(
            f"tokens have the shape {tuple(tokens.shape)}; allowed: two dimensions, a row of ids "
            "per document"
        )
    return tokens if tokens.dtype == torch.int64 else tokens.long()


def widen(tokens: Int[Tensor, "b t"], width: int) -> Int[Tensor, "b t2"]:
    """Append padding columns until there are at least ``width`` of them.

    The number of columns is known without looking at the data, so this never waits for a GPU.

    Raises:
        ValueError: See :func:`as_ids`.
    """
    tokens = as_ids(tokens)
    missing = width - tokens.shape[1]
    return F.pad(tokens, (0, missing), value=PAD) if missing > 0 else tokens


class WordVectors(nn.Embedding):
    r"""One trainable vector per word; the vector of :data:`PAD` is zero and stays zero.

    .. math:: x_i = E_{w_i}, \qquad E \sim U(-s, s), \qquad E_{\text{PAD}} = 0

    Args:
        vocabulary_size: Number of token ids, including padding and the unknown word.
        embedding_dim: Length of a vector.
        scale: :math:`s`.
        sparse: Whether the gradient is a sparse tensor, which holds only the rows of the batch.
        trainable: If False, the vectors are a buffer: saved, but not a parameter, and without
            gradient.

    Shapes:
        tokens ``b t`` → vectors ``b t e``.
    """

    def __init__(
        self,
        vocabulary_size: int,
        embedding_dim: int,
        *,
        scale: float,
        sparse: bool = False,
        trainable: bool = True,
    ) -> None:
        super().__init__(vocabulary_size, embedding_dim, padding_idx=PAD, sparse=sparse)
        with torch.no_grad():
            self.weight.uniform_(-scale, scale)
            self.weight[PAD].zero_()
        if not trainable:
            weight = self.weight.detach()
            del self.weight
            self.register_buffer("weight", weight)

    def forward(self, input: Int[Tensor, "b t"]) -> Float[Tensor, "b t e"]:
        """Look the vectors up."""
        # Zero by construction, not only by initialisation: whatever is in the PAD row (vectors
        # loaded from a file, NaN after a bad step) affects neither the scores nor the gradients.
        return super().forward(input).masked_fill((input == PAD).unsqueeze(-1), 0.0)


@torch.no_grad()
def set_word_vectors(
    weight: Float[Tensor, "v e"],
    ids: Int[Tensor, " n"],
    rows: Float[Tensor, "n e"],
    vocabulary_size: int,
) -> None:
    r"""Copy pretrained vectors into a model's, in place; the other words get random vectors.

    .. math:: E_w \sim U(-a, a), \qquad a = \sqrt{3 \operatorname{Var}(\text{rows})}

    so that both have the same variance (Kim 2014, 4.3). The vector of :data:`PAD` becomes zero, and
    rows from ``vocabulary_size`` on (FastText's n-grams) stay as they are.

    Args:
        weight: The model's vectors, changed in place.
        ids: The words whose vectors are known.
        rows: Their vectors.
        vocabulary_size: Number of token ids.
    """
    a = (3 * rows.var(correction=0)).sqrt().item()
    weight[:vocabulary_size].uniform_(-a, a)
    weight[PAD] = 0
    weight[ids.to(weight.device)] = rows.to(weight.device, weight.dtype)
