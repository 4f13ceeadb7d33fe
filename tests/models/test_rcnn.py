"""RCNN against the paper's equations and against torch's modules."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dlnotes.models import RCNN
from dlnotes.nn import PAD
from dlnotes.oracles.papers.rcnn import Trace, of_parameters

LENGTHS = [9, 1, 4, 2, 9, 12, 3]


def build(**settings: Any) -> RCNN:
    torch.manual_seed(0)
    sizes = {"embedding_dim": 5, "context_size": 4, "hidden_size": 6, **settings}
    model = RCNN(vocabulary_size=20, num_classes=3, **sizes).double().eval()
    with torch.no_grad():  # Away from zero, where they start.
        model.first.normal_()
        model.last.normal_()
    return model


def documents() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(1, 20, (len(LENGTHS), 14), generator=generator)
    return tokens.masked_fill(torch.arange(14) >= torch.tensor(LENGTHS)[:, None], PAD)


def traced(model: RCNN, tokens: Tensor) -> Trace:
    p = {name: parameter.detach().numpy() for name, parameter in model.named_parameters()}
    return of_parameters(p, tokens.tolist())


@pytest.mark.parametrize("fused", [True, False])
def test_rcnn_equals_the_papers_equations(fused: bool) -> None:
    model = build(fused=fused)
    tokens = documents()
    seen: list[Tensor] = []
    model.dropout.register_forward_hook(lambda *call: seen.append(call[2]))
    scores = model(tokens).detach().numpy()
    contexts = model.contexts(seen[0], tokens != PAD)  # b t l each
    left, right = (c.detach().numpy() for c in contexts)
    for i, n in enumerate(LENGTHS):
        trace = traced(model, tokens[i, :n])
        np.testing.assert_allclose(left[i, :n], trace.left, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(right[i, :n], trace.right, rtol=1e-12, atol=1e-14)
        y3 = seen[1][i].detach().numpy()
        np.testing.assert_allclose(y3, trace.latent.max(axis=0), rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(scores[i], trace.scores, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("cell", ["simple", "lstm", "gru"])
def test_fused_equals_written_out(cell: str) -> None:
    fused, written_out = build(cell=cell), build(cell=cell, fused=False)
    tokens = documents()
    y, expected = fused(tokens), written_out(tokens)
    torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(
        torch.autograd.grad(y.square().sum(), list(fused.parameters())),
        torch.autograd.grad(expected.square().sum(), list(written_out.parameters())),
        rtol=1e-11,
        atol=1e-13,
    )


@pytest.mark.parametrize("cell", ["simple", "lstm", "gru"])
def test_contexts_are_torchs_bidirectional_states_shifted(cell: str) -> None:
    model = build(cell=cell)
    with torch.no_grad():
        model.first.zero_()
        model.last.zero_()
    kind: Any = {"simple": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}[cell]
    both = kind(5, 4, bias=cell != "simple", batch_first=True, bidirectional=True).double()
    both.load_state_dict(
        {
            **model.rightward.state_dict(),
            **{f"{name}_reverse": w for name, w in model.leftward.state_dict().items()},
        }
    )
    x = torch.randn(3, 7, 5, dtype=torch.float64)
    left, right = model.contexts(x, torch.ones(3, 7, dtype=torch.bool))
    zero = torch.zeros(3, 1, 4, dtype=torch.float64)
    states_right, states_left = both(x)[0].chunk(2, dim=2)
    torch.testing.assert_close(
        left, torch.cat([zero, states_right[:, :-1]], dim=1), rtol=1e-12, atol=1e-14
    )
    torch.testing.assert_close(
        right, torch.cat([states_left[:, 1:], zero], dim=1), rtol=1e-12, atol=1e-14
    )


@pytest.mark.parametrize("fused", [True, False])
def test_gradients(fused: bool) -> None:
    model = build(fused=fused)
    names, parameters = zip(*model.named_parameters(), strict=True)
    tokens = documents()[1:4, :4]

    def scores(*parameters: Tensor) -> Tensor:
        state = dict(zip(names, parameters, strict=True))
        y: Tensor = torch.func.functional_call(model, state, (tokens,))
        return y

    # Of the word vectors, gradcheck would find the row of padding frozen: that is meant.
    vectors = names.index("vectors.weight")
    rest = [p.detach().clone().requires_grad_(i != vectors) for i, p in enumerate(parameters)]
    assert torch.autograd.gradcheck(scores, rest)


def test_a_word_does_not_see_itself_in_its_contexts() -> None:
    model = build()
    x = torch.randn(1, 5, 5, dtype=torch.float64)
    real = torch.ones(1, 5, dtype=torch.bool)
    left, right = model.contexts(x, real)
    x[0, 2] += 1
    left2, right2 = model.contexts(x, real)
    assert torch.equal(left2[:, :3], left[:, :3])
    assert torch.equal(right2[:, 2:], right[:, 2:])
    assert (left2[:, 3:] != left[:, 3:]).any(dim=2).all()
    assert (right2[:, :2] != right[:, :2]).any(dim=2).all()
