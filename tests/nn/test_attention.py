"""Attention against torch's, the two ways of computing it, its masks, and the positions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dlnotes.nn.attention import MultiHeadAttention, attention, fused_attention
from dlnotes.nn.positions import sinusoidal

B, T, S, E, H = 4, 5, 7, 12, 3
close = partial(torch.testing.assert_close, rtol=1e-11, atol=1e-13)
both_ways = pytest.mark.parametrize("fused", [True, False])


@pytest.fixture(autouse=True)
def _double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


def real(*lengths: int, columns: int) -> Tensor:
    return torch.arange(columns) < torch.tensor(lengths).unsqueeze(1)


def pair(fused: bool = True) -> tuple[MultiHeadAttention, nn.MultiheadAttention]:
    ours = MultiHeadAttention(E, H, fused=fused)
    theirs = nn.MultiheadAttention(E, H, batch_first=True)
    nn.init.normal_(theirs.in_proj_bias)
    nn.init.normal_(theirs.out_proj.bias)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def gradients(y: Tensor, module: nn.Module, *inputs: Tensor) -> dict[str, Tensor]:
    """Gradients of a weighted sum of ``y``, by name, in the order of torch's names."""
    weights = torch.linspace(-1, 1, y.numel()).view_as(y)
    named = dict(module.named_parameters())
    named |= {f"input {i}": x for i, x in enumerate(inputs)}
    values = torch.autograd.grad((y * weights).sum(), list(named.values()))
    return dict(zip(named, values, strict=True))


@both_ways
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("causal", [False, True])
def test_self_attention_equals_torch(fused: bool, masked: bool, causal: bool) -> None:
    ours, theirs = pair(fused)
    x = torch.randn(B, S, E, requires_grad=True)
    seen = real(7, 1, 4, 6, columns=S) if masked else None
    later = ~torch.ones(S, S, dtype=torch.bool).tril() if causal else None
    y, nothing = ours(x, real=seen, causal=causal)
    expected, weights = theirs(
        x,
        x,
        x,
        key_padding_mask=None if seen is None else ~seen,
        attn_mask=later,
        average_attn_weights=False,
    )
    # At padding torch's queries are those of x, ours those of zeros; neither is of use.
    rows = torch.ones(B, S, dtype=torch.bool) if seen is None else seen
    close(y[rows], expected[rows])
    close(gradients(y[rows], ours, x), gradients(expected[rows], theirs, x))
    assert nothing is None
    again, ours_weights = ours(x, real=seen, causal=causal, return_weights=True)
    close(again, y)
    close(ours_weights.transpose(1, 2)[rows], weights.transpose(1, 2)[rows])


@both_ways
@pytest.mark.parametrize("masked", [False, True])
def test_cross_attention_equals_torch(fused: bool, masked: bool) -> None:
    ours, theirs = pair(fused)
    x = torch.randn(B, T, E, requires_grad=True)
    memory = torch.randn(B, S, E, requires_grad=True)
    seen = real(7, 1, 4, 6, columns=S) if masked else None
    y, _ = ours(x, memory, real=seen)
    expected, weights = theirs(
        x,
        memory,
        memory,
        key_padding_mask=None if seen is None else ~seen,
        average_attn_weights=False,
    )
    close(y, expected)
    close(gradients(y, ours, x, memory), gradients(expected, theirs, x, memory))
    close(ours(x, memory, real=seen, return_weights=True)[1], weights)


@both_ways
def test_a_causal_query_after_others_sees_all_of_them(fused: bool) -> None:
    ours, _ = pair(fused)
    x = torch.randn(B, S, E)
    expected, _ = ours(x, causal=True)
    q, k, v = ours.project(x)
    for t in (1, 3, S):
        close(ours.attend(q[:, :, S - t :], k, v, causal=True)[0], expected[:, S - t :])


@pytest.mark.parametrize("shape", [(1, 1, T, S), (B, 1, 1, S), (B, H, T, S)])
def test_the_written_out_formula_equals_the_kernel(shape: tuple[int, ...]) -> None:
    q, k, v = (torch.randn(B, H, n, 4, requires_grad=True) for n in (T, S, S))
    mask = torch.rand(shape) < 0.4  # in 160 rows of 7 some see nothing
    assert shape != (B, H, T, S) or not mask.any(dim=-1).all()
    y, weights = attention(q, k, v, mask)
    kernel = fused_attention(q, k, v, mask)
    close(kernel, y)
    close(weights.sum(dim=-1), mask.any(dim=-1).expand(B, H, T).double())
    assert not weights.masked_select(~mask).any()
    g = torch.randn_like(y)
    close(torch.autograd.grad(kernel, (q, k, v), g), torch.autograd.grad(y, (q, k, v), g))


@both_ways
def test_who_sees_nothing_gets_nothing(fused: bool) -> None:
    ours, _ = pair(fused)
    memory = torch.randn(B, S, E, requires_grad=True)
    x = torch.randn(B, T, E, requires_grad=True)
    seen = real(7, 0, 4, 0, columns=S)
    y, _ = ours(x, memory, real=seen)
    _, weights = ours(x, memory, real=seen, return_weights=True)
    assert torch.equal(weights.sum(dim=(1, 2, 3)) > 0, seen.any(dim=1))
    close(y[[1, 3]], ours.out_proj.bias.expand(2, T, E))
    for name, gradient in gradients(y, ours, x, memory).items():
        assert gradient.isfinite().all(), name


@both_ways
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("poison", [torch.nan, torch.inf])
def test_poison_in_padding_goes_nowhere(fused: bool, causal: bool, poison: float) -> None:
    ours, _ = pair(fused)
    seen = real(S, 0, 4, 6, columns=S)
    clean = torch.randn(B, S, E)
    results = []
    for dirt in (1.0, poison):
        x = clean.masked_fill(~seen.unsqueeze(2), dirt).requires_grad_()
        y, weights = ours(x, real=seen, causal=causal, return_weights=True)
        y_kernel, _ = ours(x, real=seen, causal=causal)
        grads = gradients(y, ours, x), gradients(y_kernel, ours, x)
        assert not grads[0]["input 0"][~seen].any()
        assert not grads[1]["input 0"][~seen].any()
        results.append((y, weights, y_kernel, *grads))
    torch.testing.assert_close(results[1], results[0], rtol=0, atol=0)


def test_dropped_weights_are_scaled_up_and_not_reported() -> None:
    q, k, v = torch.zeros(1, 1, 1, 2), torch.zeros(1, 1, 10_000, 2), torch.ones(1, 1, 10_000, 2)
    y, weights = attention(q, k, v, dropout=0.3)
    assert 0.95 < y[0, 0, 0, 0] < 1.05
    assert y[0, 0, 0, 0] != 1
    close(weights, torch.full_like(weights, 1e-4))


@both_ways
def test_dropout_in_training_only(fused: bool) -> None:
    ours = MultiHeadAttention(E, H, dropout=0.5, fused=fused)
    x = torch.randn(B, S, E)
    assert not torch.allclose(ours(x)[0], ours(x)[0])
    ours.eval()
    assert torch.equal(ours(x)[0], ours(x)[0])


def test_glorot_bounds() -> None:
    ours = MultiHeadAttention(48, 4)
    bound = (6 / (48 + 48)) ** 0.5
    for w in (*ours.in_proj_weight.chunk(3), ours.out_proj.weight):
        assert 0.98 * bound < w.abs().max() <= bound
    assert not ours.in_proj_bias.any()
    assert not ours.out_proj.bias.any()


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        (lambda: MultiHeadAttention(8, 3), "num_heads"),
        (lambda: MultiHeadAttention(8, 0), "num_heads"),
        (lambda: MultiHeadAttention(0, 1), "embedding_dim"),
        (lambda: MultiHeadAttention(8, 2, dropout=1.0), "dropout"),
    ],
)
def test_bad_arguments(wrong: Callable[[], object], name: str) -> None:
    with pytest.raises(ValueError, match=rf"{name} is .*; allowed: "):
        wrong()


@pytest.mark.parametrize("e", [1, 2, 7, 64])
def test_positions_are_the_papers(e: int) -> None:
    expected = np.empty((50, e))
    for p in range(50):
        for j in range(e):
            angle = p / 10000 ** (2 * (j // 2) / e)
            expected[p, j] = np.sin(angle) if j % 2 == 0 else np.cos(angle)
    p = sinusoidal(50, e, dtype=torch.float64)
    np.testing.assert_allclose(p.numpy(), expected, rtol=0, atol=1e-13)
    close(sinusoidal(20, e, first=30, dtype=torch.float64), p[30:])
    single = sinusoidal(50, e)
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single.numpy(), expected, rtol=0, atol=1e-5)
    half = sinusoidal(5000, e, dtype=torch.bfloat16)
    assert half.dtype == torch.bfloat16
    assert half.abs().max() <= 1


def test_positions_need_no_table() -> None:
    assert sinusoidal(0, 8).shape == (0, 8)
    assert sinusoidal(100_000, 4).isfinite().all()
