"""Averages, the greedy choice and boosting's weights, against their formulas in NumPy."""

import itertools

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from dlnotes.models.averaging import average_scores, greedy_weights, samme


def softmax(s):
    e = np.exp(s - s.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def members(k=3, n=40, c=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [3 * torch.randn(n, c, generator=generator, dtype=torch.float64) for _ in range(k)]


def figures(scores, labels):
    return (scores.argmax(-1) == labels).double().mean().item(), -F.cross_entropy(scores, labels)


WEIGHTS = [[1 / 3, 1 / 3, 1 / 3], [0.5, 0.2, 0.3], [0.0, 1.0, 0.0]]


@pytest.mark.parametrize("weights", WEIGHTS)
def test_average_is_the_formula(weights):
    scores = members()
    mean = sum(w * softmax(s.numpy()) for w, s in zip(weights, scores, strict=True))
    ours = average_scores(scores, weights).softmax(-1)
    np.testing.assert_allclose(ours, mean, rtol=1e-13)
    np.testing.assert_allclose(average_scores(scores, weights).exp(), mean, rtol=1e-13)
    mean = softmax(sum(w * s.numpy() for w, s in zip(weights, scores, strict=True)))
    np.testing.assert_allclose(average_scores(scores, weights, "logits").exp(), mean, rtol=1e-13)


def test_probabilities_and_logits_differ_where_one_member_is_sure():
    # Two are for class 0, the third is very sure of class 1: a vote against a veto.
    scores = [torch.tensor([[s, 0.0]]) for s in (2.0, 2.0, -9.0)]
    assert average_scores(scores, [1 / 3] * 3).argmax() == 0
    assert average_scores(scores, [1 / 3] * 3, "logits").argmax() == 1


def test_sure_scores_stay_finite():
    scores = [torch.tensor([[1e4, -1e4]]), torch.tensor([[-1e4, 1e4]])]
    p = average_scores(scores, [0.25, 0.75])
    torch.testing.assert_close(p.exp(), torch.tensor([[0.25, 0.75]]))
    assert average_scores(scores[:1], [1.0]).isfinite().all()


@pytest.mark.parametrize(
    ("weights", "kind", "message"),
    [
        ([0.5, 0.5], "probabilities", "allowed: 3 numbers"),
        ([0.5, 0.5, 0.5], "probabilities", "of sum 1"),
        ([1.5, -0.5, 0.0], "logits", "at least 0"),
        ([0.5, float("nan"), 0.5], "logits", "at least 0"),
        ([float("nan"), 0.5, 0.5], "probabilities", "at least 0"),
        ([float("inf"), 0.0, 0.0], "probabilities", "of sum 1"),
        ([1.0, 0.0, 0.0], "votes", "kind is 'votes'"),
    ],
)
def test_bad_averages(weights, kind, message):
    with pytest.raises(ValueError, match=message):
        average_scores(members(), weights, kind)


def one_hot_like(predictions, sure):
    return sure * F.one_hot(torch.tensor(predictions), 2).double()


@pytest.mark.parametrize("kind", ["probabilities", "logits"])
def test_greedy_finds_the_known_optimum(kind):
    # Members 0, 1 and 2 each err on one document of their own, equally surely: any two tie there,
    # all three together are right everywhere. Member 3 errs wherever it can.
    labels = torch.tensor([0, 1, 0, 1])
    right = [0, 1, 0, 1]
    scores = []
    for k in range(3):
        wrong = right.copy()
        wrong[k] = 1 - wrong[k]
        scores.append(one_hot_like(wrong, 4.0))
    scores.append(one_hot_like([1 - r for r in right], 1.0))
    weights = greedy_weights(scores, labels, kind=kind, rounds=30)
    np.testing.assert_allclose(weights, [1 / 3, 1 / 3, 1 / 3, 0])
    assert figures(average_scores(scores, weights, kind), labels)[0] == 1.0


def by_hand(scores, labels, kind, rounds):
    """The paper's loop, with lists and no running sums."""
    chosen, best, kept = [], (-1.0, 0.0), None
    for _ in range(rounds):
        ways = {}
        for k in range(len(scores)):
            of = [scores[i].numpy() for i in [*chosen, k]]
            p = (
                np.mean([softmax(s) for s in of], 0)
                if kind == "probabilities"
                else softmax(np.mean(of, 0))
            )
            loss = -np.log(p[np.arange(len(labels)), labels]).mean()
            ways[k] = ((p.argmax(-1) == labels.numpy()).mean(), -loss)
        k = max(ways, key=ways.get)
        chosen.append(k)
        if ways[k] > best:
            best, kept = ways[k], chosen.copy()
    return np.bincount(kept, minlength=len(scores)) / len(kept)


@pytest.mark.parametrize("kind", ["probabilities", "logits"])
@pytest.mark.parametrize("seed", range(10))
def test_greedy_is_the_loop_and_never_worse_than_the_best_member(kind, seed):
    labels = torch.randint(0, 4, (40,), generator=torch.Generator().manual_seed(100 + seed))
    scores = [s + 1.5 * F.one_hot(labels, 4) for s in members(5, seed=seed)]
    weights = greedy_weights(scores, labels, kind=kind, rounds=12)
    assert sum(weights) == pytest.approx(1, abs=1e-12)
    assert min(weights) >= 0
    np.testing.assert_allclose(weights, by_hand(scores, labels, kind, 12), rtol=1e-12)
    single = max(figures(s, labels) for s in scores)
    assert figures(average_scores(scores, weights, kind), labels) >= (single[0], single[1] - 1e-12)


def test_greedy_with_one_round_is_the_best_member():
    labels = torch.arange(40) % 4
    scores = members(4)
    best = max(range(4), key=lambda k: figures(scores[k], labels))
    assert greedy_weights(scores, labels, rounds=1) == [float(k == best) for k in range(4)]
    with pytest.raises(ValueError, match="rounds is 0"):
        greedy_weights(scores, labels, rounds=0)


def test_samme_is_the_formula():
    random = np.random.default_rng(0)
    wrong = random.random((4, 50)) < 0.4
    classes = 5
    alphas, d = samme(torch.from_numpy(wrong), classes)
    w = np.ones(50) / 50
    expected = []
    for missed in wrong:
        err = (w * missed).sum() / w.sum()
        alpha = np.log((1 - err) / err) + np.log(classes - 1)
        w = w * np.exp(alpha * missed)
        w = w / w.sum()
        expected.append(alpha)
    np.testing.assert_allclose(alphas, expected, rtol=1e-13)
    np.testing.assert_allclose(d, w, rtol=1e-12)
    # The last member is no better than a guess on what comes next: the point of the update.
    assert d[torch.from_numpy(wrong[-1])].sum() == pytest.approx(1 - 1 / classes)


def test_two_classes_are_adaboost():
    wrong = torch.tensor([[True, False, False, False]])
    alphas, d = samme(wrong, 2)
    assert alphas.item() == pytest.approx(np.log(3))
    assert d.tolist() == pytest.approx([1 / 2, 1 / 6, 1 / 6, 1 / 6])


@pytest.mark.parametrize("missed", [0, 2, 4])
def test_samme_refuses_perfect_and_guessing_members(missed):
    rows = list(itertools.chain([True] * missed, [False] * (4 - missed)))
    with pytest.raises(ValueError, match="weighted error of member 1"):
        samme(torch.tensor([rows]), 2)
