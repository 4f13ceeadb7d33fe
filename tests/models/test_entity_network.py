"""EntityNetwork: against the paper's equations in NumPy, its derivatives, and what it can learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from dlnotes.activations import prelu, sigmoid
from dlnotes.models import EntityNetwork
from dlnotes.models.entity_network import SlotRecurrence
from dlnotes.nn import PAD, QUESTION, SENTENCE_END
from dlnotes.oracles.papers import entity_network as reference
from stories import documents

V, C = 30, 4


def build(**settings: Any) -> EntityNetwork:
    """A network in float64 of which no weight is at its start: masks and slopes matter."""
    torch.manual_seed(0)
    settings = {"embedding_dim": 7, "slots": 4, **settings}
    model = EntityNetwork(vocabulary_size=V, num_classes=C, **settings).double().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("masks") or name.startswith("phi"):
                parameter.add_(torch.randn_like(parameter) / 3)
            else:
                parameter.mul_(5)
    return model


def numbers(model: EntityNetwork) -> dict[str, Any]:
    p = {name: value.detach().numpy() for name, value in model.named_parameters()}
    if "keys" not in p:
        p["keys"] = p["vectors.weight"][model.key_tokens.numpy()]
    return p


def stories(lengths: list[int], seed: int = 0) -> list[tuple[list[list[int]], list[int]]]:
    random = np.random.default_rng(seed)
    return [
        (
            [random.integers(4, V, random.integers(1, 6)).tolist() for _ in range(n)],
            random.integers(4, V, 3).tolist(),
        )
        for n in lengths
    ]


@pytest.mark.parametrize("keys", [(), (9, 4, 17)])
def test_equals_the_papers_equations(keys: tuple[int, ...]) -> None:
    model = build(keys=keys)
    told = stories([1, 6, 3, 11, 2])
    tokens = documents(told)
    answers = (reference.answer(numbers(model), *each) for each in told)
    scores, gates, relevance = zip(*answers, strict=True)
    torch.testing.assert_close(
        model(tokens), torch.from_numpy(np.stack(scores)), rtol=1e-11, atol=1e-12
    )
    read = model.gates(tokens)
    for row, gate in enumerate(gates):
        torch.testing.assert_close(read.weights[row, : len(gate)], torch.from_numpy(gate))
    torch.testing.assert_close(read.answer, torch.from_numpy(np.stack(relevance)))
    drawn = model.explain(tokens)
    assert list(drawn) == [f"slot {j + 1}" for j in range(len(keys) or 4)]
    for row, ((story, _), gate) in enumerate(zip(told, gates, strict=True)):
        for j, weights in enumerate(drawn.values()):
            expected: list[float] = []
            for i, sentence in enumerate(story):
                expected += [*([0.0] if i else []), *[gate[i, j]] * len(sentence)]
            expected += [0.0] * (tokens.shape[1] - len(expected))
            torch.testing.assert_close(weights[row], torch.tensor(expected).double())


def test_a_document_without_a_question_is_its_own() -> None:
    model = build()
    ((story, _),) = stories([3])
    asked = documents([(story, [word for sentence in story for word in sentence])])
    plain = asked[:, : (asked[0] == QUESTION).nonzero()[0, 0]]
    torch.testing.assert_close(model(plain), model(asked))
    assert model.explain(plain)["slot 1"].shape == plain.shape


def memory_by_autograd(
    h: Tensor,
    s: Tensor,
    key: Tensor,
    candidate: Tensor,
    key_term: Tensor,
    U: Tensor,
    slopes: Tensor,
    real: Tensor,
) -> tuple[Tensor, Tensor]:
    gates = []
    for t in range(s.shape[1]):
        gate = sigmoid((h @ s[:, t, :, None]).squeeze(2) + key[:, t]) * real[:, t, None]
        x = h @ U.T + candidate[:, t, None] + key_term
        new = prelu(x.flatten(0, 1), slopes).view_as(h)
        after = F.normalize(h + gate.unsqueeze(2) * new, dim=2)
        h = torch.where(real[:, t, None, None], after, h)
        gates.append(gate)
    return h, torch.stack(gates, dim=1)


def arguments(b: int = 3, n: int = 4, m: int = 2, d: int = 5) -> list[Tensor]:
    generator = torch.Generator().manual_seed(2)
    shapes = ((b, m, d), (b, n, d), (b, n, m), (b, n, d), (m, d), (d, d), (d,))
    made = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    return [x.requires_grad_() for x in made]


def test_the_written_out_derivatives_are_those_of_the_equations() -> None:
    inputs = arguments()
    real = torch.arange(4) < torch.tensor([4, 2, 0])[:, None]
    h, *gates = SlotRecurrence.apply(*inputs, real, True)[:5]
    expected, expected_gates = memory_by_autograd(*inputs, real)
    torch.testing.assert_close(h, expected, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(torch.stack(gates, 1), expected_gates, rtol=1e-12, atol=1e-14)
    weights = torch.randn_like(h)
    torch.testing.assert_close(
        torch.autograd.grad((h * weights).sum(), inputs),
        torch.autograd.grad((expected * weights).sum(), inputs),
        rtol=1e-11,
        atol=1e-13,
    )
    assert torch.autograd.gradcheck(lambda *x: SlotRecurrence.apply(*x, real, True)[0], inputs)
    with torch.no_grad():
        assert torch.equal(SlotRecurrence.apply(*inputs, real, False)[0], h)


def test_a_slot_of_zeros_stays_finite() -> None:
    inputs = [torch.zeros_like(x).requires_grad_() for x in arguments()]
    h = SlotRecurrence.apply(*inputs, torch.ones(3, 4, dtype=torch.bool), True)[0]
    assert not h.any()
    assert all(g.isfinite().all() for g in torch.autograd.grad(h.sum(), inputs))


def test_sentences_of_padding_leave_the_memory_as_it_is_bit_for_bit() -> None:
    # Not normalised again either: a division by a length of nearly 1 would show.
    inputs = arguments()
    real = torch.arange(4) < torch.tensor([4, 1, 0])[:, None]
    h = SlotRecurrence.apply(*inputs, real, True)[0]
    after_one = SlotRecurrence.apply(
        *(x[:, :1] if x.dim() == 3 and x.shape[1] == 4 else x for x in inputs), real[:, :1], True
    )[0]
    assert torch.equal(h[1], after_one[1])
    assert torch.equal(h[2], inputs[0][2])


def test_half_precision_around_it_leaves_the_memory_in_full() -> None:
    model = build().float()
    tokens = documents(stories([4, 2]))
    expected = model.explain(tokens)
    with torch.autocast("cpu", torch.bfloat16):
        scores = model(tokens)
        torch.testing.assert_close(model.explain(tokens), expected)
    torch.testing.assert_close(scores.float(), model(tokens), rtol=0.05, atol=0.1)
    scores.float().square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_starts_as_the_paper_says() -> None:
    model = EntityNetwork(vocabulary_size=2000, num_classes=3)
    assert model.keys.shape == (20, 100)
    for parameter in (model.vectors.weight[1:], model.U, model.V, model.W, model.H, model.keys):
        assert abs(parameter.mean().item()) < 0.01
        assert parameter.std().item() == pytest.approx(0.1, rel=0.05)
    assert (model.masks == 1).all()
    assert (model.question_masks == 1).all()
    assert (model.phi.weight == 1).all()
    assert not model.vectors.weight[PAD].any()


@pytest.mark.parametrize("keys", [(0,), (3, V), (-1,), (True,), (2.0,)])
def test_keys_are_token_ids(keys: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"keys is .*; allowed: "):
        EntityNetwork(vocabulary_size=V, num_classes=C, keys=keys)


def test_tied_keys_are_the_word_vectors_and_learn_with_them() -> None:
    model = build(keys=(9, 4))
    assert "keys" not in dict(model.named_parameters())
    model(documents(stories([2]))).square().sum().backward()
    assert model.vectors.weight.grad is not None
    assert model.vectors.weight.grad[[9, 4]].any(dim=1).all()


# ------------------------------------------------------------------ what it can learn


def learn(
    model: EntityNetwork, examples: Any, *, steps: int, lr: float = 0.01, batch: int = 32
) -> float:
    """Train on fresh examples, then the accuracy on 500 more."""
    random = np.random.default_rng(0)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = lr * 0.5 ** (4 * step // steps)
        tokens, answers = examples(random, batch)
        optimizer.zero_grad()
        F.cross_entropy(model(tokens), answers).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 40.0)
        optimizer.step()
    with torch.no_grad():
        tokens, answers = examples(random, 500)
        return float((model(tokens).argmax(1) == answers).double().mean())


def padded(rows: list[list[int]]) -> Tensor:
    tokens = torch.full((len(rows), max(map(len, rows))), PAD)
    for to, row in zip(tokens, rows, strict=True):
        to[: len(row)] = torch.tensor(row)
    return tokens


def counting(random: np.random.Generator, n: int) -> tuple[Tensor, Tensor]:
    """How often did the first of two words come? One a sentence, up to 5 sentences."""
    rows, answers = [], []
    for length in random.integers(1, 6, n):
        said = random.integers(4, 6, length).tolist()
        rows.append([token for word in said for token in (word, SENTENCE_END)] + [QUESTION, 4])
        answers.append(said.count(4))
    return padded(rows), torch.tensor(answers)


def world(
    random: np.random.Generator, n: int, *, steps: int = 3, side: int = 10
) -> tuple[Tensor, Tensor]:
    """Section 5.1: two agents are put on a grid, turn and move; where is one of them?"""
    agents, turn, move = (4, 5), (6, 7, 8, 9), 10
    here = 16  # and the following: x, then y
    rows, answers = [], []
    ways = np.array([(0, 1), (0, -1), (1, 0), (-1, 0)])
    for _ in range(n):
        at = random.integers(0, side, (2, 2))
        way = random.integers(0, 4, 2)
        row: list[int] = []
        for k in (0, 1):
            x, y = at[k]
            row += [agents[k], here + x, here + side + y, SENTENCE_END]
            row += [agents[k], turn[way[k]], SENTENCE_END]
        for k, acts in zip(random.integers(0, 2, steps), random.integers(0, 2, steps), strict=True):
            if acts:
                far = int(random.integers(1, 6))
                at[k] = np.clip(at[k] + far * ways[way[k]], 0, side - 1)
                row += [agents[k], move + far, SENTENCE_END]
            else:
                way[k] = random.integers(0, 4)
                row += [agents[k], turn[way[k]], SENTENCE_END]
        asked = int(random.integers(0, 2))
        rows.append([*row, QUESTION, agents[asked]])
        answers.append(int(at[asked] @ [side, 1]))
    return padded(rows), torch.tensor(answers)


@pytest.mark.slow
def test_learns_to_count() -> None:
    torch.manual_seed(0)
    model = EntityNetwork(vocabulary_size=6, num_classes=6, embedding_dim=16, slots=3)
    assert learn(model, counting, steps=300, lr=0.03) > 0.97


@pytest.mark.slow
def test_follows_two_agents_on_a_grid() -> None:
    torch.manual_seed(0)
    model = EntityNetwork(vocabulary_size=40, num_classes=100, embedding_dim=50, slots=6)
    accuracy = learn(model, world, steps=1500, batch=64)
    tokens, answers = world(np.random.default_rng(1), 5000)
    # What can be had without following anyone: where the agent was put.
    asked = tokens[torch.arange(5000), (tokens == QUESTION).int().argmax(1) + 1]
    start = torch.where(
        asked == 4, 0, 7
    )  # place of the sentence: agent, x, y, end; agent, way, end
    x, y = (tokens.gather(1, (start + i)[:, None])[:, 0] for i in (1, 2))
    standing = float((10 * (x - 16) + y - 26 == answers).double().mean())
    assert accuracy > standing + 0.05, (accuracy, standing)
