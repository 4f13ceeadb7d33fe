"""Seq2seq: equal to the paper's equations in NumPy, and able to do what they are for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlnotes.models import Seq2seq, Seq2seqTranslator
from dlnotes.nn import ALIGNMENTS, PAD, AdditiveAttention, MultiplicativeAttention, gru_update
from dlnotes.nn.decoding import BEGIN, END, beam_search, greedy
from dlnotes.optim import Adam
from dlnotes.oracles.papers.seq2seq import decode

V, W = 12, 10
SMALL: dict[str, Any] = {"embedding_dim": 5, "hidden_size": 4, "maxout_size": 3}
SIZES = {"source_vocabulary_size": V, "target_vocabulary_size": W}
both = pytest.mark.parametrize("attention", ALIGNMENTS)


def translator(attention: str = "additive", **more: Any) -> Seq2seqTranslator:
    torch.manual_seed(0)
    model = Seq2seqTranslator(**(SIZES | SMALL | {"attention": attention} | more))
    return model.double().eval()


def sequences(lengths: list[int], size: int, *, seed: int = 1, begin: bool = False) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.full((len(lengths), max(lengths)), PAD)
    for row, n in zip(rows, lengths, strict=True):
        row[:n] = torch.randint(4, size, (n,), generator=generator)
    return F.pad(rows, (1, 0), value=BEGIN) if begin else rows


SOURCE, TARGET = sequences([3, 7, 1, 5], V), sequences([4, 2, 6, 5], W, begin=True)


@both
@pytest.mark.parametrize("fused", [True, False])
def test_equals_the_papers_equations(attention: str, fused: bool) -> None:
    model = translator(attention, fused=fused)
    p = {name: value.numpy() for name, value in model.state_dict().items()}
    with torch.no_grad():
        logits, weights = model(SOURCE, TARGET).numpy(), model.attention(SOURCE, TARGET).numpy()
    for i, source in enumerate(SOURCE):
        n = int((source != PAD).sum())
        m = int((TARGET[i] != PAD).sum())
        expected, alpha = decode(p, source[:n].tolist(), TARGET[i, :m].tolist())
        np.testing.assert_allclose(logits[i, :m], expected, rtol=1e-11, atol=1e-13)
        np.testing.assert_allclose(weights[i, :m, :n], alpha, rtol=1e-11, atol=1e-13)
        assert not weights[i, :, n:].any()


def test_the_decoders_step_is_torchs() -> None:
    torch.manual_seed(0)
    cell = nn.GRUCell(6, 4).double()
    x, h = torch.randn(3, 6).double(), torch.randn(3, 4).double()
    gates = F.linear(x, cell.weight_ih, cell.bias_ih), F.linear(h, cell.weight_hh, cell.bias_hh)
    expected = cell(x, h)
    reference = torch.autograd.grad(expected.square().sum(), cell.parameters(), retain_graph=True)
    for fused in (True, False):
        ours = gru_update(*gates, h, fused=fused)
        torch.testing.assert_close(ours, expected, rtol=1e-13, atol=1e-15)
        gradient = torch.autograd.grad(ours.square().sum(), cell.parameters(), retain_graph=True)
        torch.testing.assert_close(gradient, reference, rtol=1e-11, atol=1e-13)


@both
def test_the_decoder_is_a_gru_cell_between_attention_and_output(attention: str) -> None:
    """The same loop with torch's cell, and gradients through all of it."""
    model = translator(attention)
    s, *memory = model.start(SOURCE)
    y = model.target_vectors(TARGET)
    expected = []
    for y_i in y.unbind(1):
        context, _ = model.alignment(s, type(model.alignment.memory(*memory[1:]))(*memory))
        s = model.decoder(torch.cat([y_i, context], dim=1), s)
        expected.append(model.output(model.maxout(torch.cat([s, context, y_i], dim=1))))
    logits, reference = model(SOURCE, TARGET), torch.stack(expected, dim=1)
    torch.testing.assert_close(logits, reference, rtol=1e-12, atol=1e-14)
    parameters = list(model.parameters())
    torch.testing.assert_close(
        torch.autograd.grad(logits.square().sum(), parameters),
        torch.autograd.grad(reference.square().sum(), parameters),
        rtol=1e-10,
        atol=1e-12,
    )


@both
def test_teacher_forcing_equals_writing_word_by_word(attention: str) -> None:
    model = translator(attention)
    state, steps = model.start(SOURCE), []
    for last in TARGET.unbind(1):
        logits, state = model.advance(last, state)
        assert all(len(part) == len(SOURCE) for part in state)
        steps.append(logits)
    torch.testing.assert_close(
        torch.stack(steps, dim=1), model(SOURCE, TARGET), rtol=1e-12, atol=1e-14
    )


@both
def test_fused_changes_no_number(attention: str) -> None:
    models = [translator(attention, fused=fused) for fused in (True, False)]
    logits = [model(SOURCE, TARGET) for model in models]
    torch.testing.assert_close(*logits, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(
        *(
            torch.autograd.grad(y.square().sum(), list(model.parameters()))
            for y, model in zip(logits, models, strict=True)
        ),
        rtol=1e-10,
        atol=1e-12,
    )


@both
def test_padding_reaches_nothing(attention: str) -> None:
    model = translator(attention)
    clean, weights = model(SOURCE, TARGET), model.attention(SOURCE, TARGET)
    longer = F.pad(SOURCE, (0, 4), value=PAD)
    torch.testing.assert_close(model(longer, TARGET), clean, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(
        model.attention(longer, TARGET), F.pad(weights, (0, 4)), rtol=1e-12, atol=1e-14
    )
    with torch.no_grad():
        model.vectors.weight[PAD] = model.target_vectors.weight[PAD] = torch.nan
    poisoned = model(SOURCE, TARGET)
    assert torch.equal(poisoned, clean)
    poisoned.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@both
def test_a_source_that_is_empty_is_read_all_the_same(attention: str) -> None:
    model = translator(attention)
    for source in (SOURCE.masked_fill(torch.arange(4).unsqueeze(1) == 2, PAD), SOURCE[:, :0]):
        logits = model(source, TARGET)
        assert logits.isfinite().all()
        weights = model.attention(source, TARGET)
        assert weights.shape == (4, 7, source.shape[1])
        assert not weights[2].any()
        model.zero_grad()
        logits.sum().backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(
    "attention",
    [AdditiveAttention(4, 6, 5), AdditiveAttention(4, 6, 5, fused=False), MultiplicativeAttention(4, 6)],
    ids=["additive", "written out", "multiplicative"],
)  # fmt: skip
def test_attention_sees_real_positions_only(attention: Any) -> None:
    torch.manual_seed(0)
    attention.double()
    query = torch.randn(3, 4).double()
    values = torch.randn(3, 5, 6).double()
    real = torch.arange(5) < torch.tensor([[3], [5], [0]])
    clean, weights = attention(query, attention.memory(values, real))
    short, short_weights = attention(query[:1], attention.memory(values[:1, :3], real[:1, :3]))
    torch.testing.assert_close(clean[:1], short)
    torch.testing.assert_close(weights[:1, :3], short_weights)
    torch.testing.assert_close(weights.sum(1), torch.tensor([1.0, 1.0, 0.0]).double())
    assert not clean[2].any()
    values = values.masked_fill(~real.unsqueeze(2), torch.nan).requires_grad_()
    poisoned, _ = attention(query, attention.memory(values, real))
    assert torch.equal(poisoned, clean)
    (gradient,) = torch.autograd.grad(poisoned.sum(), values)
    assert gradient.isfinite().all()


def test_multiplicative_attention_with_the_identity_is_torchs() -> None:
    torch.manual_seed(0)
    attention = MultiplicativeAttention(4, 4).double()
    nn.init.eye_(attention.W.weight)
    query, values = torch.randn(3, 4).double(), torch.randn(3, 5, 4).double()
    real = torch.arange(5) < torch.tensor([[3], [5], [1]])
    ours, _ = attention(query, attention.memory(values, real))
    theirs = F.scaled_dot_product_attention(
        query.unsqueeze(1), values, values, attn_mask=real.unsqueeze(1), scale=1.0
    )
    torch.testing.assert_close(ours, theirs.squeeze(1), rtol=1e-12, atol=1e-14)


# ------------------------------------------------------------------------ the classifier


def classifier(**more: Any) -> Seq2seq:
    torch.manual_seed(0)
    return Seq2seq(vocabulary_size=V, num_classes=5, **(SMALL | {"dropout": 0.0} | more))


def test_scores_are_the_first_positions_logits_of_the_classes() -> None:
    model = classifier().double()
    target = sequences([2, 3, 1, 0], 9, begin=True)
    logits = model(SOURCE, target)
    assert logits.shape == (4, 4, 4 + 5)
    torch.testing.assert_close(model(SOURCE), logits[:, 0, 4:], rtol=1e-12, atol=1e-14)


@both
def test_explain_gives_the_weights_of_the_first_label(attention: str) -> None:
    model = classifier(attention=attention).double()
    weights = model.explain(SOURCE)["label"]
    assert weights.shape == SOURCE.shape
    assert torch.equal(weights == 0, SOURCE == PAD)
    torch.testing.assert_close(weights.sum(1), torch.ones(4).double())
    begin = torch.full((4, 1), BEGIN)
    assert torch.equal(weights, model.attention(SOURCE, begin)[:, 0])
    # They are what forward used: without the token that weighs most the context is another.
    s, memory = model._read(SOURCE)
    context, again = model.alignment(s, memory)
    torch.testing.assert_close(again, weights, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(context, (weights.unsqueeze(2) * memory.values).sum(1))


def train(
    model: nn.Module, batch: Callable[[], tuple[Tensor, Tensor]], steps: int, lr: float
) -> None:
    optimizer = Adam(model.parameters(), lr=lr)
    model.train()
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = lr * (1 - step / steps)
        source, target = batch()
        logits = model(source, target[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1), target[:, 1:].flatten(), ignore_index=PAD)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    model.eval()


@both
def test_several_labels_are_learned_in_their_order(attention: str) -> None:
    model = classifier(attention=attention, hidden_size=16, embedding_dim=8, maxout_size=16)
    random = np.random.default_rng(0)
    source = sequences([int(n) for n in random.integers(4, 8, 12)], V)
    wanted = [random.permutation(5)[: random.integers(0, 5)].tolist() for _ in source]
    target = torch.full((12, 6), PAD)
    for row, labels in zip(target, wanted, strict=True):
        row[: len(labels) + 2] = torch.tensor([BEGIN, *(4 + c for c in labels), END])
    train(model, lambda: (source, target), steps=150, lr=0.02)
    for beam in (1, 3):
        found = model.labels(source, 4, beam=beam)
        assert [[c for c in row if c >= 0] for row in found.tolist()] == wanted
    assert model.labels(source, 2).tolist() == [[*w, -1, -1][:2] for w in wanted]
    # The first of them is what the scores of the classes choose, where there is one.
    some = [i for i, w in enumerate(wanted) if w]
    assert model(source).argmax(1)[some].tolist() == [wanted[i][0] for i in some]


def test_a_label_is_never_unknown() -> None:
    model = classifier()
    with torch.no_grad():
        model.output.bias[:4] += 50.0
        model.output.bias[END] -= 100.0
    found = model.labels(SOURCE, 3)
    assert found.shape == (4, 3)
    assert ((found >= 0) & (found < 5)).all()


# ------------------------------------------------------------------------ writing


@both
def test_a_beam_of_one_is_greedy_and_a_wider_one_finds_no_less(attention: str) -> None:
    model = translator(attention)
    with torch.no_grad():  # uneven enough to make the search matter
        model.output.weight.mul_(8.0)
    words = greedy(model, SOURCE, max_length=9)
    one, score = beam_search(model, SOURCE, beam=1, max_length=9)
    assert torch.equal(one, words)
    _, wider = beam_search(model, SOURCE, beam=6, max_length=9)
    assert (wider >= score - 1e-9).float().mean() >= 0.75


DIGITS = 10


def digit_strings(generator: torch.Generator, n: int, *, longest: int = 8) -> list[list[int]]:
    lengths = torch.randint(1, longest + 1, (n,), generator=generator).tolist()
    return [torch.randint(4, 4 + DIGITS, (k,), generator=generator).tolist() for k in lengths]


def padded(rows: list[list[int]]) -> Tensor:
    width = max(map(len, rows))
    return torch.tensor([row + [PAD] * (width - len(row)) for row in rows])


TASKS = {"copy": list, "reverse": lambda row: row[::-1], "sort": sorted}
STEPS = {"copy": 220, "reverse": 220, "sort": 320}


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_writes_unseen_strings(task: str) -> None:
    """Copying, reversing and sorting digits: whole strings, written freely, not seen before."""
    torch.manual_seed(0)
    size = 4 + DIGITS
    model = Seq2seqTranslator(
        source_vocabulary_size=size, target_vocabulary_size=size, embedding_dim=32,
        hidden_size=64, maxout_size=64, dropout=0.0,
    )  # fmt: skip
    rule: Any = TASKS[task]
    generator = torch.Generator().manual_seed(1)
    unseen = [row for row in digit_strings(generator, 700) if len(row) > 4][:300]
    banned = {tuple(row) for row in unseen}

    def batch() -> tuple[Tensor, Tensor]:
        rows = [r for r in digit_strings(generator, 128) if tuple(r) not in banned]
        return padded(rows), padded([[BEGIN, *rule(r), END] for r in rows])

    train(model, batch, steps=STEPS[task], lr=5e-3)
    words = greedy(model, padded(unseen), max_length=12).tolist()
    right = [
        w[: w.index(END)] == rule(r) if END in w else False
        for w, r in zip(words, unseen, strict=True)
    ]
    assert np.mean(right) >= 0.98
