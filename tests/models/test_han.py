"""HAN against the paper's equations, and its sentences read in any grouping."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dlnotes.models import HAN
from dlnotes.models import han as module
from dlnotes.models.han import ContextAttention, group_by_length
from dlnotes.nn import PAD, QUESTION, SENTENCE_END, sentences
from dlnotes.oracles.papers.han import Trace, of_parameters

V = 30


def build(**settings: Any) -> HAN:
    torch.manual_seed(0)
    sizes = {"embedding_dim": 5, "hidden_size": 4, "context_size": 6, **settings}
    model = HAN(vocabulary_size=V, num_classes=3, **sizes).double().eval()
    with torch.no_grad():  # Weights far from uniform.
        model.word_attention.context.mul_(5)
        model.sentence_attention.context.mul_(5)
    return model


def documents(lengths: list[list[int]]) -> Tensor:
    """Documents with sentences of these lengths."""
    generator = torch.Generator().manual_seed(1)
    rows = []
    for document in lengths:
        row: list[int] = []
        for n in document:
            row += [*torch.randint(4, V, (n,), generator=generator).tolist(), SENTENCE_END]
        rows.append(row)
    t = max(map(len, rows)) + 2
    return torch.tensor([row + [PAD] * (t - len(row)) for row in rows])


LENGTHS = [[3, 1, 7], [5], [2, 2, 9, 1, 4], [12, 3], []]
TOKENS = documents(LENGTHS)


def traced(model: HAN, tokens: Tensor) -> Trace:
    p = {name: parameter.detach().numpy() for name, parameter in model.named_parameters()}
    grid = sentences(tokens[None], max_sentences=30, max_words=60).words[0]
    return of_parameters(p, [row[row != PAD].tolist() for row in grid])


@pytest.mark.parametrize("fused", [True, False])
def test_han_equals_the_papers_equations(fused: bool) -> None:
    model = build(fused=fused)
    seen: list[Any] = []
    model.sentences.register_forward_hook(lambda *call: seen.append(call[1][0]))
    model.sentence_attention.register_forward_hook(lambda *call: seen.append(call[2][0]))
    scores = model(TOKENS).detach().numpy()
    sentence_vectors, vectors = (x.detach().numpy() for x in seen)
    weights = {k: w.numpy() for k, w in model.explain(TOKENS).items()}
    W, b = model.output.weight.detach().numpy(), model.output.bias.detach().numpy()
    for i, document in enumerate(LENGTHS):
        if not document:
            np.testing.assert_array_equal(scores[i], b)
            assert not weights["word"][i].any()
            assert not weights["sentence"][i].any()
            continue
        trace = traced(model, TOKENS[i])
        word = (TOKENS[i] > QUESTION).numpy()

        def close(ours: Any, theirs: Any) -> None:
            np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=1e-13)

        close(sentence_vectors[i, : len(document)], trace.sentence_vectors)
        close(weights["word"][i, word], np.concatenate(trace.word_weights))
        close(weights["sentence"][i, word], np.repeat(trace.sentence_weights, document))
        close(vectors[i], trace.document)
        close(scores[i], W @ trace.document + b)
        assert not weights["word"][i, ~word].any()
        assert not weights["sentence"][i, ~word].any()


def test_levels_are_torchs_gru() -> None:
    model = build()
    tokens = TOKENS[1, :5]
    gru = nn.GRU(5, 4, batch_first=True, bidirectional=True).double()
    model.words.copy_to(gru)
    h = gru(model.vectors.weight[tokens][None])[0]
    s, alpha = model.word_attention(h, torch.ones(1, 5, dtype=torch.bool))
    model.sentences.copy_to(gru := nn.GRU(8, 4, batch_first=True, bidirectional=True).double())
    expected = model.output(gru(s[None])[0][0, 0])  # one sentence has all the weight
    torch.testing.assert_close(model(TOKENS)[1], expected, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(model.explain(TOKENS)["word"][1, :5], alpha[0])


def test_weights_sum_to_one() -> None:
    torch.manual_seed(2)
    tokens = torch.randint(1, 12, (20, 40)).masked_fill(
        torch.arange(40) >= torch.randint(0, 41, (20, 1)), PAD
    )
    model = build()
    weights = model.explain(tokens)
    grid = sentences(tokens, max_sentences=30, max_words=60)
    for row in range(len(tokens)):
        inside = grid.mask[row]
        assert all((w[row] >= 0).all() and not w[row][~inside].any() for w in weights.values())
        if not inside.any():
            continue
        total = 0.0
        for s in grid.sentence[row][inside].unique():
            here = inside & (grid.sentence[row] == s)
            assert weights["word"][row][here].sum().item() == pytest.approx(1, abs=1e-12)
            (weight,) = weights["sentence"][row][here].unique()
            total += weight.item()
        assert total == pytest.approx(1, abs=1e-12)


def test_weights_are_those_of_what_is_read() -> None:
    model = build(max_sentences=2, max_words=4)
    weights = model.explain(TOKENS)
    # The first document's sentences have 3, 1 and 7 words: two are read.
    assert (weights["word"][0] > 0).nonzero().flatten().tolist() == [0, 1, 2, 4]
    # Of a sentence of 5 words 4 are.
    assert (weights["word"][1] > 0).nonzero().flatten().tolist() == [0, 1, 2, 3]
    assert {w.shape for w in weights.values()} == {TOKENS.shape}
    empty = model.explain(torch.zeros(3, 0, dtype=torch.int64))
    assert {w.shape for w in empty.values()} == {(3, 0)}


def test_a_sentence_has_one_vector_wherever_it_stands() -> None:
    model = build()
    a, b, c = TOKENS[0, :3], TOKENS[1, :5], TOKENS[2, 6:15]
    end = torch.tensor([SENTENCE_END])
    one = torch.cat([a, end, b, end, c])
    other = torch.cat([c, end, end, a, end, b])
    tokens = nn.utils.rnn.pad_sequence([one, other, b], batch_first=True)
    seen: list[Tensor] = []
    model.sentences.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    model(tokens)
    (s,) = seen
    for left, right in (((0, 0), (1, 1)), ((0, 1), (1, 2)), ((0, 2), (1, 0)), ((0, 1), (2, 0))):
        torch.testing.assert_close(s[left], s[right], rtol=1e-12, atol=1e-14)
    model(b[None])
    torch.testing.assert_close(seen[1][0, 0], s[2, 0], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("groups", [1, 2, 100])
def test_groups_change_nothing(groups: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build()

    def run() -> tuple[Tensor, tuple[Tensor, ...]]:
        scores = model(TOKENS)
        return scores, torch.autograd.grad(scores.square().sum(), list(model.parameters()))

    expected = run()
    monkeypatch.setattr(module, "GROUPS", groups)
    torch.testing.assert_close(run(), expected, rtol=1e-11, atol=1e-13)
    model.data_dependent = False  # all rows of a whole grid, as on a GPU
    torch.testing.assert_close(run(), expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("lengths", [[0], [0, 0], [3], [0, 5, 1, 0, 2, 2, 9], [1] * 50])
def test_groups_hold_every_sentence_once(lengths: list[int]) -> None:
    words = (torch.arange(10) < torch.tensor(lengths)[:, None]).long() * 7
    groups = group_by_length(words)
    rows = torch.cat([i for i, _ in groups]).tolist()
    assert len(set(rows)) == len(rows)
    assert set(rows) >= {i for i, n in enumerate(lengths) if n > 0}
    if any(lengths):
        assert all(lengths[i] > 0 for i in rows)
    ((every, width),) = group_by_length(words, data_dependent=False)
    assert every.tolist() == list(range(len(lengths)))
    assert width == words.shape[1]
    for i, width in groups:
        assert max(1, *(lengths[j] for j in i.tolist())) == width


def test_attention_over_nothing_is_zero() -> None:
    torch.manual_seed(0)
    attention = ContextAttention(4, 3)
    h = torch.randn(3, 5, 4, requires_grad=True)
    real = torch.arange(5) < torch.tensor([[5], [0], [2]])
    s, alpha = attention(h, real)
    assert not s[1].any()
    assert not alpha[~real].any()
    torch.testing.assert_close(alpha.sum(dim=1), torch.tensor([1.0, 0.0, 1.0]))
    (s.square().sum() + alpha.square().sum()).backward()
    assert h.grad is not None
    assert not h.grad[~real].any()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in attention.parameters())


def test_gradients_of_the_attention() -> None:
    torch.manual_seed(0)
    attention = ContextAttention(4, 3).double()
    h = torch.randn(3, 5, 4, dtype=torch.float64, requires_grad=True)
    real = torch.arange(5) < torch.tensor([[5], [0], [2]])
    assert torch.autograd.gradcheck(lambda h: attention(h, real), h)
