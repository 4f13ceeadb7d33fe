"""Batches without documents, and documents without positions."""

import pytest
import torch

from dlnotes.nn.attention import (
    AdditiveAttention,
    MultiHeadAttention,
    MultiplicativeAttention,
    attention,
    fused_attention,
)
from dlnotes.nn.pooling import last_states, masked_max, masked_mean
from dlnotes.nn.recurrence import CELLS, Bidirectional, written_out
from dlnotes.nn.sentences import sentences, split_question

shapes = pytest.mark.parametrize(("b", "t"), [(2, 0), (0, 3), (0, 0)])
either = pytest.mark.parametrize("fused", [True, False])


def batch(b, t, e=4):
    return torch.randn(b, t, e, requires_grad=True), torch.ones(b, t, dtype=torch.bool)


@shapes
@pytest.mark.parametrize("pool", [masked_max, masked_mean, last_states])
def test_pooling_over_nothing_is_zero(pool, b, t):
    x, real = batch(b, t)
    y = pool(x, real)
    assert torch.equal(y, torch.zeros(b, 4))
    y.sum().backward()
    assert torch.equal(x.grad, torch.zeros(b, t, 4))


@shapes
@either
@pytest.mark.parametrize("cell", CELLS)
def test_a_recurrence_over_nothing_has_no_states(cell, fused, b, t):
    x, real = batch(b, t)
    layers = Bidirectional(4, 3, cell=cell, num_layers=2, fused=fused)
    y = layers(x, real)
    assert y.shape == (b, t, 6)
    assert torch.equal(last_states(y, real), torch.zeros(b, 6))
    assert written_out(layers.rightward[0], x).shape == (b, t, 3)


@shapes
def test_attention_to_nothing_is_zero(b, t):
    q, k = torch.randn(b, 1, 5, 4), torch.randn(b, 1, t, 4)
    real = torch.ones(b, t, dtype=torch.bool)
    for mask in (None, real[:, None, None, :]):
        for y in (attention(q, k, k, mask)[0], fused_attention(q, k, k, mask)):
            assert torch.equal(y, torch.zeros(b, 1, 5, 4))
    assert attention(k, q, q)[0].shape == fused_attention(k, q, q).shape == (b, 1, t, 4)


@shapes
@either
@pytest.mark.parametrize("causal", [True, False])
def test_many_heads_over_nothing(fused, causal, b, t):
    x, real = batch(b, t)
    layer = MultiHeadAttention(4, 2, fused=fused)
    asks = torch.randn(b, 3, 4)
    for seen in (None, real):
        assert layer(x, real=seen, causal=causal)[0].shape == (b, t, 4)
        y, weights = layer(asks, x, real=seen, return_weights=True)
        assert weights.shape == (b, 2, 3, t)
        assert torch.equal(y, layer.out_proj.bias.expand(b, 3, 4))


@shapes
@pytest.mark.parametrize(
    "kind", [lambda: AdditiveAttention(4, 4, 3), lambda: MultiplicativeAttention(4, 4)]
)
def test_attention_of_one_query_to_nothing_is_zero(kind, b, t):
    layer = kind()
    mean, weights = layer(torch.randn(b, 4), layer.memory(*batch(b, t)))
    assert torch.equal(mean, torch.zeros(b, 4))
    assert weights.shape == (b, t)


@shapes
def test_no_words_make_one_empty_row(b, t):
    tokens = torch.full((b, t), 7)
    grid = sentences(tokens, max_sentences=3, max_words=3)
    assert grid.words.shape == (b, 1, 1)
    assert not grid.words.any()
    assert not grid.at_tokens(torch.ones(b, 1, 1)).any()
    story, question = split_question(tokens, max_words=3)
    assert len(story) == len(question) == b
    assert question.shape[1] >= 1
