"""Hierarchical softmax against the product of sigmoids, and its tree against the theory."""

import itertools
import math
import time

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from dlnotes.models import FastText
from dlnotes.nn import HierarchicalSoftmax
from dlnotes.nn.hierarchical_softmax import huffman_lengths

COUNTS = {
    "two": [3, 1],
    "equal": [1] * 7,
    "power of two": [2] * 8,
    "zeros": [0, 0, 5, 0],
    "fibonacci": [1, 1, 2, 3, 5, 8, 13, 21, 34, 55],
    "zipf": [1000 // (i + 1) for i in range(60)],
}
every_tree = pytest.mark.parametrize("counts", COUNTS.values(), ids=COUNTS)


def make(counts, e=5, **more):
    torch.manual_seed(0)
    return HierarchicalSoftmax(e, counts, **more).double()


def inputs(counts, n=9, e=5):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(n, e, dtype=torch.float64, generator=generator)
    return x, torch.randint(0, len(counts), (n,), generator=generator)


@every_tree
def test_probabilities_are_products_of_sigmoids_along_the_paths(counts):
    layer = make(counts)
    x, _ = inputs(counts)
    nodes, signs = layer.nodes.numpy(), layer.signs.numpy()
    w, b = layer.weight.detach().numpy(), layer.bias.detach().numpy()[:, 0]
    p = np.ones((len(x), len(counts)))
    for i, row in enumerate(x.numpy()):
        for k in range(len(counts)):
            for n, sign in zip(nodes[k], signs[k], strict=True):
                if sign:
                    p[i, k] *= 1 / (1 + np.exp(-sign * (w[n] @ row + b[n])))
    np.testing.assert_allclose(layer(x).exp().detach(), p, rtol=1e-12)
    np.testing.assert_allclose(p.sum(1), 1, rtol=1e-12)


@every_tree
def test_a_class_alone_has_the_probability_of_forward(counts):
    layer = make(counts)
    x, labels = inputs(counts)
    alone = layer.log_likelihood(x, labels)
    torch.testing.assert_close(alone, layer(x).gather(1, labels[:, None])[:, 0], rtol=1e-12, atol=0)
    # Log-probabilities are scores whose cross-entropy is that of the classes alone.
    torch.testing.assert_close(-alone.mean(), F.cross_entropy(layer(x), labels), rtol=1e-12, atol=0)
    whole = torch.autograd.grad(F.cross_entropy(layer(x), labels), layer.parameters())
    parts = torch.autograd.grad(-layer.log_likelihood(x, labels).mean(), layer.parameters())
    torch.testing.assert_close(parts, whole, rtol=1e-11, atol=1e-15)


def test_extreme_scores_stay_finite():
    layer = make(COUNTS["zipf"])
    x, labels = inputs(COUNTS["zipf"])
    assert layer(1e5 * x).isfinite().all()
    assert layer.log_likelihood(1e5 * x, labels).isfinite().all()


def test_gradients_by_differences():
    layer = make(COUNTS["fibonacci"], e=3)
    x, labels = inputs(COUNTS["fibonacci"], n=4, e=3)
    x.requires_grad_()
    assert torch.autograd.gradcheck(layer, (x,))
    assert torch.autograd.gradcheck(lambda x: layer.log_likelihood(x, labels), (x,))

    def of_weights(w, b):
        state = {"weight": w, "bias": b}
        return torch.func.functional_call(layer, state, (x.detach(),))

    weights = [p.detach().clone().requires_grad_() for p in layer.parameters()]
    assert torch.autograd.gradcheck(of_weights, weights)


def test_sparse_gradient_is_the_dense_one_on_the_path():
    dense, sparse = make(COUNTS["zipf"]), make(COUNTS["zipf"], sparse=True)
    x, labels = inputs(COUNTS["zipf"], n=2)
    for layer in (dense, sparse):
        layer.log_likelihood(x, labels).sum().backward()
    for ours, theirs in zip(sparse.parameters(), dense.parameters(), strict=True):
        assert ours.grad.is_sparse
        torch.testing.assert_close(ours.grad.to_dense(), theirs.grad)
    touched = sparse.weight.grad.coalesce().indices().unique().numel()
    assert touched <= 2 * dense.nodes.shape[1]


@every_tree
def test_the_paths_are_a_tree(counts):
    layer = make(counts)
    codes = [
        tuple(zip(n[s != 0].tolist(), s[s != 0].tolist(), strict=True))
        for n, s in zip(layer.nodes, layer.signs, strict=True)
    ]
    assert [len(code) for code in codes] == huffman_lengths(counts)
    for one, other in itertools.permutations(codes, 2):
        assert one != other[: len(one)]  # no class lies on the way to another
    # Where two paths part, they are at one node and answer differently.
    for one, other in itertools.combinations(codes, 2):
        i = next(i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
        assert one[i][0] == other[i][0]
    assert {n for code in codes for n, _ in code} == set(range(len(counts) - 1))


def best_mean_depth(weights):
    """Textbook: the sum of all weights that are joined."""
    weights, total = sorted(weights), 0
    while len(weights) > 1:
        joined = weights[0] + weights[1]
        total += joined
        weights = sorted([*weights[2:], joined])
    return total


@pytest.mark.parametrize("seed", range(20))
def test_huffman_is_optimal(seed):
    random = np.random.default_rng(seed)
    counts = random.integers(1, 10 ** random.integers(1, 5), random.integers(2, 80)).tolist()
    lengths = huffman_lengths(counts)
    assert sum(c * n for c, n in zip(counts, lengths, strict=True)) == best_mean_depth(counts)
    assert sum(2.0**-n for n in lengths) == 1  # Kraft: every inner node has two children
    p = np.array(counts) / sum(counts)
    entropy = -(p * np.log2(p)).sum()
    assert entropy - 1e-9 <= (p * lengths).sum() < entropy + 1


def test_equal_counts_give_a_balanced_tree():
    for c in (2, 3, 8, 100, 1000):
        assert set(huffman_lengths([1] * c)) <= {math.floor(math.log2(c)), math.ceil(math.log2(c))}


@pytest.mark.parametrize("counts", [[], [1], [1, -1], [1, 1.5], [True, 2]])
def test_bad_counts(counts):
    with pytest.raises(ValueError, match=r"counts is .*; allowed"):
        HierarchicalSoftmax(3, counts)


def test_fasttext_gives_likelihoods_only_with_a_tree():
    settings = {"vocabulary_size": 20, "num_classes": 6, "buckets": 10}
    assert FastText(**settings).log_likelihood is None
    model = FastText(**settings, output="hierarchical", sparse=False).double()
    tokens, labels = torch.randint(1, 20, (4, 7)), torch.tensor([0, 5, 2, 2])
    torch.testing.assert_close(
        model.log_likelihood(tokens, labels),
        -F.cross_entropy(model(tokens), labels, reduction="none"),
    )
    torch.testing.assert_close(model(tokens).exp().sum(1), torch.ones(4, dtype=torch.float64))


@pytest.mark.slow
def test_one_class_costs_far_less_than_ten_thousand():
    c, e = 10_000, 10
    tree, linear = HierarchicalSoftmax(e, [1] * c, sparse=True), torch.nn.Linear(e, c)
    x, labels = torch.randn(64, e, requires_grad=True), torch.randint(0, c, (64,))
    losses = {
        "softmax": lambda: F.cross_entropy(linear(x), labels),
        "tree": lambda: -tree.log_likelihood(x, labels).mean(),
    }
    taken = {name: [] for name in losses}
    for _ in range(30):
        for name, loss in losses.items():
            tree.zero_grad()
            linear.zero_grad()
            began = time.process_time()
            loss().backward()
            taken[name].append(time.process_time() - began)
    softmax, of_tree = (np.median(times) for times in taken.values())
    assert softmax > 4 * of_tree
