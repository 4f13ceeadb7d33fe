"""Loops over positions as one operator, so that an exported model reads texts of any length.

When a Python loop is traced, it becomes as many copies of its body as the example has positions,
and so do torch's recurrent kernels. torch's higher-order operator ``scan`` keeps the loop, in a
torch.export program as well as in ONNX, where it becomes the operator Scan.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from dlnotes.models.dynamic_memory_network import AttentionGRU
from dlnotes.models.entity_network import EntityNetwork, slot_step
from dlnotes.nn.recurrence import gru_update, lstm_step, rnn_step

_State = TypeVar("_State", bound="Tensor | tuple[Tensor, ...]")


def states_of(
    step: Callable[[Any, Any], Any], start: _State, x: Tensor | tuple[Tensor, ...]
) -> tuple[_State, Tensor]:
    """Run a step over the positions.

    Args:
        step: (state, inputs at a position) → next state and output at this position.
        start: The initial state.
        x: The inputs at all positions, ``b t *`` each.

    Returns:
        The last state, and the outputs at all positions, ``b t *``.
    """
    from torch._higher_order_ops.scan import scan

    def kept(state: Any, x_t: Any) -> Any:
        state, y = step(state, x_t)
        return state, y.clone()  # the outputs of torch's scan must not share memory

    by_position = tuple(a.transpose(0, 1) for a in x) if isinstance(x, tuple) else x.transpose(0, 1)
    state, y = scan(kept, start, by_position)
    return state, y.transpose(0, 1)


class _Scanned(nn.RNNBase):
    """A layer that reads in one direction; its forward returns ``(states, None)``."""

    def _biases(self, W: Tensor, *biases: Tensor) -> tuple[Tensor, Tensor]:
        b, c = biases or (W.new_zeros(len(W)), W.new_zeros(len(W)))
        return b, c

    def _start(self, x: Tensor, given: Tensor | None) -> Tensor:
        return x.new_zeros(x.shape[0], self.hidden_size) if given is None else given[0]


class ScannedRNN(_Scanned, nn.RNN):
    """``nn.RNN`` by a scan."""

    def forward(self, x: Tensor, start: Any = None) -> tuple[Tensor, None]:  # type: ignore[override]
        """Read the documents."""
        W, U, *biases = self.parameters()
        bias = torch.add(*self._biases(W, *biases))

        def step(h: Tensor, x_t: Tensor) -> tuple[Tensor, Tensor]:
            h = rnn_step(x_t, h, W, U, bias, fused=True)
            return h, h

        return states_of(step, self._start(x, start), x)[1], None


class ScannedLSTM(_Scanned, nn.LSTM):
    """``nn.LSTM`` by a scan."""

    def forward(self, x: Tensor, start: Any = None) -> tuple[Tensor, None]:  # type: ignore[override]
        """Read the documents."""
        W, U, *biases = self.parameters()
        bias = torch.add(*self._biases(W, *biases))
        h0, c0 = (None, None) if start is None else start

        def step(state: tuple[Tensor, Tensor], x_t: Tensor) -> Any:
            state = lstm_step(x_t, *state, W, U, bias, fused=True)
            return state, state[0]

        return states_of(step, (self._start(x, h0), self._start(x, c0)), x)[1], None


class ScannedGRU(_Scanned, nn.GRU):
    """``nn.GRU`` by a scan."""

    def forward(self, x: Tensor, start: Any = None) -> tuple[Tensor, None]:  # type: ignore[override]
        """Read the documents."""
        W, U, *biases = self.parameters()
        b, c = self._biases(W, *biases)

        def step(h: Tensor, x_t: Tensor) -> tuple[Tensor, Tensor]:
            h = gru_update(x_t, h @ U.T + c, h, fused=True)
            return h, h

        return states_of(step, self._start(x, start), F.linear(x, W, b))[1], None


class ScannedAttentionGRU(AttentionGRU):
    """`AttentionGRU` by a scan."""

    def forward(
        self, products: Float[Tensor, "b s n"], g: Float[Tensor, "b s"]
    ) -> Float[Tensor, "b h"]:
        """Read the facts."""
        start = products.new_zeros(products.shape[0], products.shape[2] // self.parts)

        def step(h: Tensor, position: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            h = self.step(h, *position)
            return h, h

        return states_of(step, start, (products, g.unsqueeze(2)))[0]


class ScannedEntityNetwork(EntityNetwork):
    """`EntityNetwork` by a scan."""

    def _full_precision(self, s: Tensor) -> AbstractContextManager[Any]:
        return nullcontext()  # a program that contains autocast cannot be saved

    def _recur(
        self, h: Tensor, s: Tensor, key: Tensor, candidate: Tensor, key_term: Tensor, real: Tensor
    ) -> tuple[Float[Tensor, "b m d"], Float[Tensor, "b s m"]]:
        one = s.new_ones(())

        def step(h: Tensor, position: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
            s, key, candidate, real = position
            h, gate, *_ = slot_step(
                h, s, key, candidate, real, key_term, self.U, self.phi.weight, one, torch.sigmoid
            )
            return h, gate

        return states_of(step, h.contiguous(), (s, key, candidate, real))


SCANNED: dict[type[nn.Module], type[nn.Module]] = {
    nn.RNN: ScannedRNN,
    nn.LSTM: ScannedLSTM,
    nn.GRU: ScannedGRU,
    AttentionGRU: ScannedAttentionGRU,
    EntityNetwork: ScannedEntityNetwork,
}
