"""Greedy and beam search against searches written as loops over everything."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from dlnotes.nn import PAD
from dlnotes.nn.decoding import BEGIN, END, DecoderState, beam_search, greedy

V = 7


class Grammar:
    """Random distributions of the next word given the source and the last two words."""

    def __init__(self, seed: int = 0, sharpness: float = 1.0, end: float = 0.0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.logits = sharpness * torch.randn(50, V, V, V, generator=generator, dtype=torch.float64)
        self.logits[..., END] += end
        self.steps = 0

    def start(self, source: Tensor) -> DecoderState:
        return source[:, 0], torch.full_like(source[:, 0], PAD)

    def advance(self, last: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState]:
        self.steps += 1
        source, before = state
        return self.logits[source, before, last], (source, last)

    def log_p(self, source: int, words: tuple[int, ...]) -> float:
        total, before, last = 0.0, PAD, BEGIN
        for word in words:
            logits = self.logits[source, before, last].clone()
            logits[[PAD, BEGIN]] = -torch.inf
            total += float(logits.log_softmax(0)[word])
            before, last = last, word
        return total


def penalised(log_p: float, n: int, alpha: float) -> float:
    return log_p / ((5 + n) / 6) ** alpha


def everything(length: int) -> list[tuple[int, ...]]:
    """All sequences of at most ``length`` words that end."""
    words = [w for w in range(V) if w not in (PAD, BEGIN, END)]
    return [(*body, END) for n in range(length) for body in itertools.product(words, repeat=n)]


def unpadded(row: Tensor) -> tuple[int, ...]:
    words = tuple(row.tolist())
    n = words.index(END) + 1 if END in words else len(words)
    assert not any(words[n:])
    return words[:n]


SOURCES = torch.arange(50).unsqueeze(1)


@pytest.mark.parametrize("alpha", [0.0, 0.6, 2.0])
def test_a_wide_beam_is_an_exhaustive_search(alpha: float) -> None:
    model, length = Grammar(), 4
    words, scores = beam_search(model, SOURCES, beam=400, max_length=length, length_penalty=alpha)
    lengths = set()
    for source, (row, score) in enumerate(zip(words, scores, strict=True)):
        best = max(
            everything(length), key=lambda y: penalised(model.log_p(source, y), len(y), alpha)
        )
        assert unpadded(row) == best
        expected = penalised(model.log_p(source, best), len(best), alpha)
        assert float(score) == pytest.approx(expected, rel=1e-12)
        lengths.add(len(best))
    assert len(lengths) > 1


def one_source(model: Grammar, source: int, beam: int, length: int, alpha: float) -> tuple:
    """The same search, with lists and loops."""
    alive: list[tuple[int, ...]] = [()]
    ended: list[tuple[int, ...]] = []
    words = [w for w in range(V) if w not in (PAD, BEGIN)]
    for _ in range(length):
        longer = [(*y, w) for y in alive for w in words]
        longer.sort(key=lambda y: -model.log_p(source, y))
        ended += [y for y in longer[:beam] if y[-1] == END]
        alive = [y for y in longer if y[-1] != END][:beam]
        if len(ended) >= beam:
            break
    return max(ended or alive[:1], key=lambda y: penalised(model.log_p(source, y), len(y), alpha))


@pytest.mark.parametrize("beam", [1, 2, 3, 5])
@pytest.mark.parametrize("end", [-2.0, 0.0, 1.0])
def test_beam_search_equals_the_loop(beam: int, end: float) -> None:
    model = Grammar(seed=beam, end=end)
    words, scores = beam_search(model, SOURCES, beam=beam, max_length=6)
    for source, (row, score) in enumerate(zip(words, scores, strict=True)):
        best = one_source(model, source, beam, 6, 0.6)
        assert unpadded(row) == best
        expected = penalised(model.log_p(source, best), len(best), 0.6)
        assert float(score) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("end", [-9.0, 0.0, 2.0])
@pytest.mark.parametrize("length", [1, 2, 8])
def test_a_beam_of_one_is_greedy(end: float, length: int) -> None:
    model = Grammar(seed=3, end=end)
    words = greedy(model, SOURCES, max_length=length)
    assert torch.equal(beam_search(model, SOURCES, beam=1, max_length=length)[0], words)
    assert words.shape[1] <= length


def test_greedy_takes_the_most_probable_word() -> None:
    model = Grammar(seed=5)
    words = greedy(model, SOURCES, max_length=9)
    for source, row in enumerate(words):
        written: tuple[int, ...] = ()
        while len(written) < 9 and END not in written:
            choices = [(*written, w) for w in range(V) if w not in (PAD, BEGIN)]
            written = max(choices, key=lambda y: model.log_p(source, y))
        assert unpadded(row) == written


@pytest.mark.parametrize("beam", [1, 3])
def test_batched_equals_one_by_one(beam: int) -> None:
    model = Grammar(seed=6, end=1.0)
    words, scores = beam_search(model, SOURCES, beam=beam, max_length=10)
    for source, row, score in zip(SOURCES, words, scores, strict=True):
        alone, its_score = beam_search(model, source[None], beam=beam, max_length=10)
        assert unpadded(alone[0]) == unpadded(row)
        assert float(its_score) == float(score)


def test_searches_stop_when_all_have_ended() -> None:
    model = Grammar(end=50.0)
    assert torch.equal(greedy(model, SOURCES, max_length=100), torch.full((50, 1), END))
    assert model.steps == 1
    words, scores = beam_search(model, SOURCES, beam=4, max_length=100)
    assert model.steps < 20
    assert all(unpadded(row) == (END,) for row in words)
    assert (scores > -1e-9).all()


def test_an_unfinished_sequence_is_the_last_resort() -> None:
    model = Grammar(end=-40.0)
    words, scores = beam_search(model, SOURCES, beam=2, max_length=5)
    assert words.shape == (50, 5)
    assert not (words == END).any()
    expected = penalised(model.log_p(7, tuple(words[7].tolist())), 5, 0.6)
    assert float(scores[7]) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("search", ["greedy", "beam"])
def test_padding_and_begin_are_never_written(search: str) -> None:
    model = Grammar()
    model.logits[..., [PAD, BEGIN]] += 30
    if search == "greedy":
        words = greedy(model, SOURCES, max_length=5)
    else:
        words, scores = beam_search(model, SOURCES, beam=3, max_length=5)
        assert scores.isfinite().all()
    for row in words:
        assert not {PAD, BEGIN} & set(unpadded(row))


def test_bad_arguments() -> None:
    for wrong in ({"beam": 0, "max_length": 5}, {"beam": 2, "max_length": 0}):
        with pytest.raises(ValueError, match="is 0; allowed: "):
            beam_search(Grammar(), SOURCES, **wrong)
    with pytest.raises(ValueError, match="max_length is 0; allowed: "):
        greedy(Grammar(), SOURCES, max_length=0)
