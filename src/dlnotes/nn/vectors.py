"""Word vectors, and the token that stands for no word."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

PAD = 0
"""Token id of padding: it fills the right end of every row that is shorter than its batch."""


def widen(tokens: Int[Tensor, "b t"], width: int) -> Int[Tensor, "b t2"]:
    """Append padding columns until there are at least ``width`` of them.

    The number of columns is known without looking at the data, so this never waits for a GPU.
    """
    missing = width - tokens.shape[1]
    return F.pad(tokens, (0, missing), value=PAD) if missing > 0 else tokens


class WordVectors(nn.Embedding):
    r"""One trainable vector a word; the vector of :data:`PAD` is zero and stays zero.

    .. math:: x_i = E_{w_i}, \qquad E \sim U(-s, s), \qquad E_{\text{PAD}} = 0

    Args:
        vocabulary_size: number of token ids, padding and the unknown word included.
        embedding_dim: length of a vector.
        scale: :math:`s`.
        sparse: give the gradient as a sparse tensor that holds the rows of the batch only.

    Shapes:
        tokens ``b t`` → vectors ``b t e``.
    """

    def __init__(
        self, vocabulary_size: int, embedding_dim: int, *, scale: float, sparse: bool = False
    ) -> None:
        super().__init__(vocabulary_size, embedding_dim, padding_idx=PAD, sparse=sparse)
        with torch.no_grad():
            self.weight.uniform_(-scale, scale)
            self.weight[PAD].zero_()

    def forward(self, input: Int[Tensor, "b t"]) -> Float[Tensor, "b t e"]:
        """Look the vectors up."""
        # Zero by construction, not only by initialisation: whatever stands in the PAD row (vectors
        # loaded from a file, NaN after a bad step) reaches neither the scores nor the gradients.
        return super().forward(input).masked_fill((input == PAD).unsqueeze(-1), 0.0)
