"""DynamicMemoryNetwork: against the papers' equations in NumPy, and what it can learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from dlnotes.models import DynamicMemoryNetwork
from dlnotes.models.dynamic_memory_network import AttentionGRU, encode_positions
from dlnotes.nn import PAD, SENTENCE_END, gru_step
from dlnotes.oracles.papers import dynamic_memory_network as reference
from stories import documents

V, C = 30, 4


def build(**settings: Any) -> DynamicMemoryNetwork:
    torch.manual_seed(0)
    settings = {"embedding_dim": 5, "hidden_size": 7, **settings}
    model = DynamicMemoryNetwork(vocabulary_size=V, num_classes=C, **settings).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) / 5)
        model.vectors.weight[PAD] = 0
    return model


def stories(lengths: list[int]) -> list[tuple[list[list[int]], list[int]]]:
    random = np.random.default_rng(0)

    def words(low: int, high: int) -> list[int]:
        drawn: list[int] = random.integers(4, V, random.integers(low, high)).tolist()
        return drawn

    return [([words(1, 6) for _ in range(n)], words(1, 4)) for n in lengths]


@pytest.mark.parametrize("passes", [1, 3])
@pytest.mark.parametrize("variant", ["dmn", "dmn+"])
def test_equals_the_papers_equations(variant: str, passes: int) -> None:
    model = build(variant=variant, passes=passes)
    p = {name: value.detach().numpy() for name, value in model.named_parameters()}
    told = stories([1, 6, 3, 9, 2])
    tokens = documents(told)
    answered = []
    for story, question in told:
        if variant == "dmn":
            marked = [s for sentence in story for s in (sentence, [SENTENCE_END])][:-1]
            answered.append(reference.dmn(p, marked, question, passes))
        else:
            answered.append(reference.dmn_plus(p, story, question, passes))
    expected = torch.from_numpy(np.stack([scores for scores, _ in answered]))
    torch.testing.assert_close(model(tokens), expected, rtol=1e-11, atol=1e-12)
    drawn = model.explain(tokens)
    assert list(drawn) == [f"episode {k + 1}" for k in range(passes)]
    for row, ((story, _), (_, weights)) in enumerate(zip(told, answered, strict=True)):
        for k, episode in enumerate(drawn.values()):
            numbers: list[float] = []
            for i, sentence in enumerate(story):
                numbers += [*([0.0] if i else []), *[weights[k][i]] * len(sentence)]
            numbers += [0.0] * (tokens.shape[1] - len(numbers))
            torch.testing.assert_close(episode[row], torch.tensor(numbers).double())


def test_with_all_weights_open_the_attention_gru_is_a_gru() -> None:
    torch.manual_seed(0)
    ours = AttentionGRU(6, update_gate=True).double()
    theirs = torch.nn.GRU(6, 6, batch_first=True).double()
    with torch.no_grad():
        theirs.weight_ih_l0.copy_(ours.W)
        theirs.weight_hh_l0.copy_(ours.U)
        theirs.bias_ih_l0.copy_(ours.b.normal_())
        theirs.bias_hh_l0.copy_(ours.c.normal_())
    f = torch.randn(3, 5, 6, dtype=torch.float64)
    h = ours(ours.products(f), torch.ones(3, 5, dtype=torch.float64))
    torch.testing.assert_close(h, theirs(f)[0][:, -1], rtol=1e-12, atol=1e-14)
    step = torch.zeros(3, 6, dtype=torch.float64)
    for x in f.unbind(1):
        step = gru_step(x, step, ours.W, ours.U, ours.b, ours.c)
    torch.testing.assert_close(h, step, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("update_gate", [False, True])
def test_derivatives_of_the_attention_gru(update_gate: bool) -> None:
    torch.manual_seed(0)
    cell = AttentionGRU(3, update_gate=update_gate).double()
    f = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    g = torch.rand(2, 4, dtype=torch.float64)
    g[1, 2:] = 0
    g.requires_grad_()

    def function(f: Tensor, g: Tensor, *_: Tensor) -> Tensor:
        h: Tensor = cell(cell.products(f), g)
        return h

    assert torch.autograd.gradcheck(function, (f, g, *cell.parameters()))


def test_a_weight_of_zero_passes_the_state_on_bit_for_bit() -> None:
    torch.manual_seed(0)
    for update_gate in (False, True):
        cell = AttentionGRU(6, update_gate=update_gate)
        products = cell.products(torch.randn(3, 5, 6))
        g = torch.rand(3, 5)
        g[:, 2:] = 0
        assert torch.equal(cell(products, g), cell(products[:, :2], g[:, :2]))


def test_position_encoding_tells_the_order_of_words() -> None:
    x = torch.randn(1, 1, 3, 8, dtype=torch.float64)
    real = torch.ones(1, 1, 3, dtype=torch.bool)
    expected = reference.position_encoding(x[0, 0].numpy())
    torch.testing.assert_close(encode_positions(x, real)[0, 0], torch.from_numpy(expected))
    assert not torch.allclose(encode_positions(x.flip(2), real), encode_positions(x, real))


def test_paper_defaults() -> None:
    model = DynamicMemoryNetwork(vocabulary_size=V, num_classes=C)
    assert (model.vectors.embedding_dim, model.question.hidden_size) == (80, 80)
    assert (model.passes, model.plus, model.dropout.p) == (3, True, 0.1)
    weights = [layer.weight for layer in model.update]
    assert len({w.data_ptr() for w in weights}) == 3


@pytest.mark.parametrize(("given", "scale"), [({}, 3**0.5), ({"vector_scale": 0.1}, 0.1)])
def test_word_vectors_start_at_this_scale(given: dict[str, float], scale: float) -> None:
    torch.manual_seed(0)
    model = DynamicMemoryNetwork(vocabulary_size=500, num_classes=C, **given)
    largest = model.vectors.weight.abs().max().item()
    assert 0.99 * scale < largest <= scale


# ------------------------------------------------------------------ what it can learn

PEOPLE, PLACES, THINGS = (4, 5, 6), (7, 8, 9, 10), (11, 12)


def one_fact(random: np.random.Generator, _: bool) -> tuple[list[list[int]], int, int]:
    """People go to places; where is one of them?"""
    story, at = [], {}
    for _step in range(random.integers(2, 6)):
        who, place = random.choice(PEOPLE), random.choice(PLACES)
        story.append([who, place])
        at[who] = place
    asked = random.choice(list(at))
    return story, asked, at[asked]


def two_facts(random: np.random.Generator, easy: bool) -> tuple[list[list[int]], int, int]:
    """Everyone goes somewhere and takes something; where is one of the things (easy: people)?"""
    who, places = random.permutation(PEOPLE)[:2], random.permutation(PLACES)[:2]
    things = random.permutation(THINGS)
    facts = [*zip(who, places, strict=True), *zip(who, things, strict=True)]
    story = [list(facts[i]) for i in random.permutation(len(facts))]
    k = int(random.integers(0, 2))
    return story, who[k] if easy else things[k], places[k]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variant", "tell", "lr"),
    [("dmn", one_fact, 0.006), ("dmn+", one_fact, 0.006), ("dmn+", two_facts, 0.003)],
)
def test_finds_the_facts_an_answer_needs(variant: str, tell: Any, lr: float) -> None:
    # Two facts are found in steps, first the person, then the place: half of the questions are
    # easy ones. Even so, how many updates it takes depends on the start.
    random = np.random.default_rng(1)

    def examples(n: int, easy: int) -> tuple[Tensor, Tensor]:
        told = [tell(random, i < easy) for i in range(n)]
        tokens = documents([(story, [asked]) for story, asked, _ in told])
        return tokens, torch.tensor([answer - PLACES[0] for _, _, answer in told])

    torch.manual_seed(1)
    model = DynamicMemoryNetwork(
        vocabulary_size=13,
        num_classes=len(PLACES),
        embedding_dim=32,
        hidden_size=32,
        passes=2,
        variant=variant,
        dropout=0.0,
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    accuracy = 0.0
    for step in range(1, 1001):
        tokens, answers = examples(32, easy=16)
        optimizer.zero_grad()
        F.cross_entropy(model(tokens), answers).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        if step % 50 == 0:
            with torch.no_grad():
                tokens, answers = examples(300, easy=0)
                accuracy = float((model(tokens).argmax(1) == answers).double().mean())
            if accuracy > 0.97:
                break
    assert accuracy > 0.97
