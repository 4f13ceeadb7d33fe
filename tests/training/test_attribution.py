"""What each token adds to the choice of a label: equal to a loop, and it finds what was planted."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from dlnotes.data.dataset import load_dataset
from dlnotes.errors import UserError
from dlnotes.models import MODELS
from dlnotes.training.attribution import (
    explain_words,
    log_odds,
    occlusion,
    occlusion_groups,
    occlusion_width,
    weights_name,
)
from dlnotes.training.explain import OCCLUSION
from dlnotes.training.train import train_classifier
from small import SMALL

WITHOUT_ATTENTION = [name for name in MODELS if not hasattr(MODELS[name], "explain")]
TOKENS = torch.tensor([[4, 3, 7, 3, 3, 9, 2, 4]])


def make(name, **settings):
    torch.manual_seed(0)
    model = MODELS[name](vocabulary_size=12, num_classes=3, **(SMALL[name] | settings))
    for p in model.parameters():
        nn.init.normal_(p, std=0.5)  # far from 0: sure, and sensitive to the order
    return model.double().eval()


def naive(model, tokens, label):
    """One token and one copy at a time, by the definition."""

    def odds(row):
        p = model(row).softmax(-1)[0, label]
        return (p / (1 - p)).log()

    found = []
    with torch.no_grad():
        for word in tokens[0].tolist():
            rest = [w for w in tokens[0].tolist() if w != word]
            fall = odds(tokens) - odds(torch.tensor([rest], dtype=torch.int64))
            found.append(fall / tokens[0].tolist().count(word))
    return torch.stack(found)


class Bag(nn.Module):
    """Log-odds that are a sum over the tokens: what occlusion says is then known exactly."""

    def __init__(self, worth):
        super().__init__()
        self.worth = torch.tensor(worth, dtype=torch.float64)
        self.read = []

    def forward(self, tokens):
        self.read.append(tokens.shape)
        s = self.worth[tokens].sum(1)
        return torch.stack([s, torch.zeros_like(s)], dim=1)


def test_the_models_without_attention():
    assert WITHOUT_ATTENTION == ["fasttext", "textcnn", "textrnn", "rcnn"]


@pytest.mark.parametrize("label", [None, 0, 1, 2])
@pytest.mark.parametrize("name", WITHOUT_ATTENTION)
def test_occlusion_is_a_naive_loop(name, label):
    model = make(name)
    weights = occlusion(model, TOKENS, label=label)
    chosen = int(model(TOKENS).argmax()) if label is None else label
    expected = naive(model, TOKENS, chosen)
    torch.testing.assert_close(weights, expected, rtol=1e-8, atol=1e-10)
    assert weights.abs().max() > 0.01
    assert weights.unique().numel() > 4


def test_occlusion_in_several_batches(monkeypatch):
    model = make("textcnn")
    whole = occlusion(model, TOKENS)
    monkeypatch.setattr("dlnotes.training.attribution._BATCH_TOKENS", 3 * TOKENS.shape[1])
    torch.testing.assert_close(occlusion(model, TOKENS), whole)
    monkeypatch.setattr("dlnotes.training.attribution._BATCH_TOKENS", 1)
    torch.testing.assert_close(occlusion(model, TOKENS), whole)


def test_signs_and_repeated_tokens():
    model = Bag([0, 0, 1.5, -2, 0.25])
    tokens = torch.tensor([[2, 3, 2, 4]])
    weights = occlusion(model, tokens, label=0)
    assert weights.tolist() == [1.5, -2, 1.5, 0.25]  # 2 is left out twice at once: 3 / 2
    assert model.read == [(4, 4)]  # the text, and without each of three words
    torch.testing.assert_close(occlusion(model, tokens, label=1), -weights)
    torch.testing.assert_close(occlusion(model, tokens), weights)  # 1.25 > 0: class 0


@pytest.mark.parametrize("name", WITHOUT_ATTENTION)
def test_empty_texts_one_token_and_padding(name):
    model = make(name)
    assert occlusion(model, TOKENS[:, :0]).shape == (0,)
    assert occlusion(model, torch.zeros(1, 3, dtype=torch.int64)).tolist() == [0, 0, 0]

    one = torch.tensor([[5]])
    c = int(model(one).argmax())
    nothing = model(torch.zeros(1, 0, dtype=torch.int64))
    expected = log_odds(model(one), c) - log_odds(nothing, c)
    torch.testing.assert_close(occlusion(model, one), expected, rtol=1e-8, atol=1e-10)

    padded = occlusion(model, nn.functional.pad(TOKENS, (0, 3)))
    torch.testing.assert_close(padded[:8], occlusion(model, TOKENS), rtol=1e-8, atol=1e-10)
    assert padded[8:].tolist() == [0, 0, 0]


def test_a_padding_token_within_the_text_weighs_nothing():
    tokens = torch.tensor([[2, 0, 3]])  # a text may hold the word "<pad>"
    weights = occlusion(make("fasttext"), tokens)  # without it a bigram would come up
    assert weights[1] == 0
    assert weights[0] != 0 != weights[2]


def test_log_odds_of_a_sure_choice():
    scores = torch.tensor([[60.0, 0, 0], [0.0, 0, 0]])
    found = log_odds(scores, 0).tolist()
    assert found == pytest.approx([60 - math.log(2), -math.log(2)], rel=1e-12)


@pytest.mark.parametrize("name", WITHOUT_ATTENTION)
def test_the_model_is_evaluated_and_left_in_its_mode(name):
    model = make(name, dropout=0.5)
    expected = occlusion(model, TOKENS)
    model.train()
    torch.testing.assert_close(occlusion(model, TOKENS), expected)
    assert model.training
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_groups_are_words():
    for n in (0, 1, 2, 1000, 1024):
        words = torch.arange(n).flip(0)
        assert occlusion_groups(words).tolist() == words.tolist()
        assert occlusion_width(words) == 1
        assert weights_name(words) == "change in log-odds"
    assert occlusion_groups(torch.tensor([9, 4, 9, 9, 7])).tolist() == [2, 0, 2, 2, 1]
    few = torch.arange(100_000) % 10  # as many copies are still read in seconds
    assert torch.equal(occlusion_groups(few), few)


@pytest.mark.parametrize("n", [1025, 2000, 10_000, 100_001, 3_000_000])
def test_groups_of_long_texts_are_neighbours_and_cost_no_more(n):
    words = torch.arange(n)
    group = occlusion_groups(words)
    widths = group.bincount()
    assert (group.diff() >= 0).all()
    assert occlusion_width(words) > 1
    assert (widths[:-1] == occlusion_width(words)).all()
    assert 1 <= widths[-1] <= occlusion_width(words)
    assert n * len(widths) <= 2**20 + n
    assert (
        weights_name(words)
        == f"change in log-odds of {occlusion_width(words)} neighbouring words at a time"
    )


def test_a_very_long_text_is_read_in_pieces_and_bounded_batches():
    model = Bag([0.0, 0, *(1e-3 * i for i in range(-1000, 1000))])
    tokens = torch.arange(2, 2002).repeat(2)[None]  # each word twice
    weights = occlusion(model, tokens, label=0)
    width = occlusion_width(tokens[0])
    assert width == 16
    for begin in range(0, 4000, width):
        mean = model.worth[tokens[0, begin : begin + width]].mean()
        torch.testing.assert_close(weights[begin : begin + width], mean.expand(width))
    assert all(n * t <= 1 << 15 for n, t in model.read)
    assert sum(n * t for n, t in model.read) <= 2**20 + 4000


def test_scores_that_are_not_numbers_are_refused():
    with pytest.raises(UserError, match="not numbers"):
        occlusion(Bag([0, 0, math.nan]), torch.tensor([[2, 1]]))


def planted(n, seed):
    """Labels and texts of filler words, with the one word that decides anywhere in between."""
    random = np.random.default_rng(seed)
    out = []
    for i in range(n):
        label, keyword = (("law", "court"), ("sport", "goal"), ("tech", "chip"))[i % 3]
        words = random.choice(
            ["the", "a", "of", "it", "and", "to"], random.integers(2, 10)
        ).tolist()
        words.insert(random.integers(len(words) + 1), keyword)
        out.append((label, " ".join(words)))
    return out


@pytest.mark.parametrize("name", WITHOUT_ATTENTION)
def test_a_planted_keyword_weighs_most(name):
    data = load_dataset({"train": planted(300, 0), "test": planted(3, 1)}, split_seed=0)
    settings = {"recipe": "plain", "model_settings": SMALL[name], "lr": 0.02, "epochs": 6, "batch_size": 16}  # fmt: skip
    classifier = train_classifier(data, name, progress=False, **settings)[0]
    texts = ["of the a the court it of the", "chip of the a the it", "the a it of goal"]
    found = classifier.explain(texts)
    assert [e.label for e in found] == ["law", "tech", "sport"]
    for e, keyword in zip(found, ["court", "chip", "goal"], strict=True):
        assert e.method == OCCLUSION
        ((kind, weights),) = e.weights.items()
        assert kind == "change in log-odds"
        assert e.tokens[max(range(len(weights)), key=weights.__getitem__)] == keyword
        assert max(weights) > 0.5
    # A word of another label in the same text speaks against the label.
    (mixed,) = classifier.explain(["court of court the goal court"])
    (weights,) = mixed.weights.values()
    sign = 1 if mixed.label == "sport" else -1
    assert mixed.label in ("law", "sport")
    assert sign * weights[4] > 0.5
    assert sign * sum(weights[i] for i in (0, 2, 5)) < 0


def words_of(text, **how):
    """The scores of `explain_words` are the numbers of letters a and b; and what was read."""
    read = []

    def score(texts):
        read.extend(texts)
        return torch.tensor([[float(t.count("a")), float(t.count("b"))] for t in texts])

    return explain_words(score, text, ["A", "B"], **how)[0], read


def test_raw_words_are_taken_out_with_nothing_else():
    e, read = words_of("aa  ab,\nb aa")
    assert read == ["aa  ab,\nb aa", "  ab,\nb ", "aa  \nb aa", "aa  ab,\n aa"]
    assert (e.label, e.method) == ("A", OCCLUSION)
    assert e.tokens == ["aa", "ab,", "b", "aa"]
    assert e.weights["change in log-odds"] == pytest.approx([2, 0, -1, 2])
    assert e.probability == pytest.approx(1 / (1 + math.exp(-3)))


def test_raw_characters_empty_and_long_texts():
    e, _ = words_of("aab a", characters=True)
    assert e.tokens == list("aaba")
    assert e.weights["change in log-odds"] == pytest.approx([1, 1, -1, 1])
    for text in ("", " \n"):
        e, read = words_of(text)
        assert (e.tokens, list(e.weights.values()), read) == ([], [[]], [text])
    e, read = words_of(" ".join(f"b{i}" for i in range(1100)))
    assert len(read) == 1 + 550
    assert e.weights == {
        "change in log-odds of 2 neighbouring words at a time": [pytest.approx(1)] * 1100,
    }
