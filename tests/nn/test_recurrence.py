"""Recurrences: torch's kernels, and the same steps written out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from dlnotes.nn import CELLS, Bidirectional, gru_step, lstm_step, rnn_step
from dlnotes.nn.recurrence import reversal, written_out

every_cell = pytest.mark.parametrize("cell", CELLS)


def weighted(y: Tensor, seed: int = 5) -> Tensor:
    """A number whose gradient differs in every entry of y."""
    generator = torch.Generator().manual_seed(seed)
    return (y * torch.randn(y.shape, dtype=y.dtype, generator=generator)).sum()


@every_cell
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("started", [False, True])
def test_written_out_equals_torch(cell: str, bias: bool, started: bool) -> None:
    torch.manual_seed(0)
    module: Any = CELLS[cell](5, 7, bias=bias, batch_first=True).double()
    x = torch.randn(3, 6, 5, dtype=torch.float64, requires_grad=True)
    start = torch.randn(3, 7, dtype=torch.float64, requires_grad=True) if started else None
    h0 = torch.zeros(1, 3, 7, dtype=torch.float64) if start is None else start.unsqueeze(0)
    y = written_out(module, x, start)
    expected = module(x, (h0, torch.zeros_like(h0)) if cell == "lstm" else h0)[0]
    torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-14)
    inputs = [x, *module.parameters(), *([] if start is None else [start])]
    torch.testing.assert_close(
        torch.autograd.grad(weighted(y), inputs),
        torch.autograd.grad(weighted(expected), inputs),
        rtol=1e-11,
        atol=1e-13,
    )


def test_lstm_step_keeps_torchs_memory() -> None:
    torch.manual_seed(0)
    lstm = nn.LSTM(5, 7, batch_first=True).double()
    x = torch.randn(3, 6, 5, dtype=torch.float64)
    W, U, b = lstm.weight_ih_l0, lstm.weight_hh_l0, lstm.bias_ih_l0 + lstm.bias_hh_l0
    h = c = torch.zeros(3, 7, dtype=torch.float64)
    for x_t in x.unbind(dim=1):
        h, c = lstm_step(x_t, h, c, W, U, b)
    _, (last_h, last_c) = lstm(x)
    torch.testing.assert_close((h, c), (last_h[0], last_c[0]), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("step", "shapes"),
    [
        (rnn_step, [(2, 3), (2, 4), (4, 3), (4, 4), (4,)]),
        (lstm_step, [(2, 3), (2, 4), (2, 4), (16, 3), (16, 4), (16,)]),
        (gru_step, [(2, 3), (2, 4), (12, 3), (12, 4), (12,), (12,)]),
    ],
)
def test_gradients_of_the_steps(step: Any, shapes: list[tuple[int, ...]]) -> None:
    torch.manual_seed(0)
    inputs = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    assert torch.autograd.gradcheck(step, inputs)


def packed(module: Any, x: Tensor, lengths: Tensor) -> Tensor:
    sequence = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    return pad_packed_sequence(module(sequence)[0], batch_first=True, total_length=x.shape[1])[0]


LENGTHS = torch.tensor([9, 1, 4, 2, 9, 12, 3])


@every_cell
@pytest.mark.parametrize("num_layers", [1, 3])
@pytest.mark.parametrize("direction", ["copy_from", "copy_to"])
@pytest.mark.parametrize("fused", [True, False])
def test_bidirectional_equals_torch_on_packed_rows(
    cell: str, num_layers: int, direction: str, fused: bool
) -> None:
    torch.manual_seed(0)
    theirs: Any = CELLS[cell](5, 7, num_layers, batch_first=True, bidirectional=True).double()
    ours = Bidirectional(5, 7, cell=cell, num_layers=num_layers, fused=fused).double()
    getattr(ours, direction)(theirs)
    x = torch.randn(len(LENGTHS), 14, 5, dtype=torch.float64, requires_grad=True)
    real = torch.arange(14) < LENGTHS[:, None]
    y, expected = ours(x, real), packed(theirs, x, LENGTHS)
    torch.testing.assert_close(y, expected, rtol=1e-10, atol=1e-12)
    parameters = dict(theirs.named_parameters())
    pairs = [
        (ours_, parameters[name.removesuffix("0") + f"{layer}{suffix}"])
        for cells, suffix in ((ours.rightward, ""), (ours.leftward, "_reverse"))
        for layer, cell_ in enumerate(cells)
        for name, ours_ in cell_.named_parameters()
    ]
    assert len(pairs) == len(parameters)
    gradients = torch.autograd.grad(weighted(y), [x, *(ours_ for ours_, _ in pairs)])
    references = torch.autograd.grad(weighted(expected), [x, *(theirs_ for _, theirs_ in pairs)])
    torch.testing.assert_close(gradients, references, rtol=1e-10, atol=1e-12)


@every_cell
@pytest.mark.parametrize("fused", [True, False])
def test_what_stands_at_padding_goes_nowhere(cell: str, fused: bool) -> None:
    torch.manual_seed(0)
    ours = Bidirectional(5, 7, cell=cell, num_layers=2, fused=fused)
    x = torch.randn(len(LENGTHS), 14, 5)
    real = torch.arange(14) < LENGTHS[:, None]
    y = ours(x, real)
    assert not y[~real].any()
    assert torch.equal(ours(x.masked_fill(~real.unsqueeze(2), 1e9), real), y)


def test_reversal() -> None:
    real = torch.arange(5) < torch.tensor([[3], [0], [5], [1]])
    expected = [[2, 1, 0, 3, 4], [0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [0, 1, 2, 3, 4]]
    assert reversal(real).tolist() == expected
