"""Splitting examples of which each has several labels: rare labels are kept, shares are right."""

import time
from fractions import Fraction

import numpy as np
import pytest

from dlnotes.data.dataset import load_dataset
from dlnotes.data.labels import LabelSets
from dlnotes.data.splits import _IterativeSplit, iterative_split


def drawn(seed=0, n=2000, classes=40, mean=1.3):
    """Sets of labels, some of which are frequent and many are rare; some sets are empty."""
    rng = np.random.default_rng(seed)
    share = 1 / np.arange(1, classes + 1) ** 1.3
    sizes = rng.poisson(mean, n)
    return LabelSets.build(rng.choice(classes, sizes.sum(), p=share / share.sum()), sizes, classes)


def off(labels, parts, fractions):
    """How far each part is from its share of each label."""
    return [
        np.abs(labels.take(part).counts() - share * labels.counts())
        for part, share in zip(parts, fractions, strict=True)
    ]


@pytest.mark.parametrize("fractions", [(0.9, 0.1), (0.5, 0.5), (0.7, 0.1, 0.2), (0.1, 0.9)])
@pytest.mark.parametrize("seed", range(3))
def test_each_example_is_in_one_part_and_each_part_has_its_share_of_each_label(seed, fractions):
    labels = drawn(seed)
    parts = iterative_split(labels, fractions, seed)
    assert np.sort(np.concatenate(parts)).tolist() == list(range(len(labels)))
    assert all((np.diff(part) > 0).all() for part in parts)
    random = np.split(
        np.random.default_rng(seed).permutation(len(labels)),
        (np.cumsum(fractions[:-1]) * len(labels)).astype(int),
    )
    for own, other in zip(
        off(labels, parts, fractions), off(labels, random, fractions), strict=True
    ):
        assert own.max() <= 6
        assert own.mean() <= min(1.2, 0.6 * other.mean())
    for part, share in zip(parts, fractions, strict=True):
        assert abs(len(part) - share * len(labels)) <= 30
        empty = (labels.take(part).sizes == 0).sum()
        assert abs(empty - share * (labels.sizes == 0).sum()) <= 1
    counts = labels.counts()
    largest = parts[int(np.argmax(fractions))]
    assert labels.take(largest).counts()[counts > 1].min() >= 1
    for part, share in zip(parts, fractions, strict=True):
        assert labels.take(part).counts()[counts * share >= 1].min() >= 1


@pytest.mark.parametrize("seed", range(5))
def test_a_label_of_two_examples_is_in_the_largest_part(seed):
    """Also where the rarer labels of its examples would take both to the other part."""
    rng = np.random.default_rng(seed)
    lists = [[*rng.choice(60, rng.integers(0, 6), replace=False)] for _ in range(150)]
    lists += [[60 + i, i] for i in range(20)] * 2
    ids = np.array([i for each in lists for i in each], np.int64)
    labels = LabelSets.build(ids, np.array(list(map(len, lists))), 80)
    for fractions in ((0.9, 0.1), (0.6, 0.4)):
        train, dev = iterative_split(labels, fractions, seed)
        assert labels.take(train).counts()[labels.counts() > 1].min() >= 1
        assert len(dev) >= fractions[1] * len(labels) - 5


@pytest.mark.parametrize("everything_in", [0, 1])
def test_examples_are_moved_until_no_part_lacks_a_label(everything_in):
    labels = drawn(n=300)
    split = _IterativeSplit(labels, [Fraction(9, 10), Fraction(1, 10)], 0)
    for example in range(len(labels)):
        split.put(example, everything_in)
    split.mend()
    train, dev = (np.flatnonzero(np.array(split.part_of) == part) for part in range(2))
    counts = labels.counts()
    assert labels.take(train).counts()[counts > 1].min() >= 1
    assert labels.take(dev).counts()[counts >= 10].min() >= 1


def test_one_label_each_is_divided_as_its_share_says():
    labels = LabelSets.single(np.repeat(np.arange(3), [100, 50, 10]), 3)
    train, dev = iterative_split(labels, (0.9, 0.1), 0)
    assert labels.take(train).counts().tolist() == [90, 45, 9]
    assert labels.take(dev).counts().tolist() == [10, 5, 1]


# What the seed and the labels decide is the same for ever: a run is split again by its seed.
SPLIT = [0, 4, 10, 13, 19]


def test_the_split_depends_on_nothing_but_labels_and_seed():
    labels = LabelSets.build(np.arange(60) * 7 % 5, np.arange(24) % 6, 5)
    assert iterative_split(labels, (0.8, 0.2), 0)[1].tolist() == SPLIT
    assert iterative_split(labels, (0.8, 0.2), 1)[1].tolist() != SPLIT


@pytest.mark.parametrize("n", [0, 1, 2, 6])
def test_few_examples(n):
    labels = LabelSets.build(np.arange(n) % 2, np.ones(n, np.int64), 2)
    train, dev = iterative_split(labels, (0.9, 0.1), 0)
    assert len(train) + len(dev) == n
    assert (len(train) >= 1) == (n >= 1)
    assert (len(dev) >= 1) == (n == 6)  # two examples are the only ones of their labels


@pytest.mark.parametrize("fractions", [(1.2, -0.2), (0.5, 0.4), (), (1.0, 0.0)])
def test_bad_fractions(fractions):
    with pytest.raises(ValueError, match="positive and add up to 1"):
        iterative_split(drawn(n=10), fractions, 0)


def test_many_labels_are_split_in_seconds():
    labels = drawn(n=100_000, classes=3000, mean=4)
    start = time.process_time()
    iterative_split(labels, (0.9, 0.1), 0)
    assert time.process_time() - start < 6


def test_goemotions_is_split_more_evenly_than_at_random(shared_data):
    source = shared_data / "goemotions" / "train.tsv.gz"
    if not source.exists():
        pytest.skip("needs the corpus goemotions")
    data = load_dataset({"train": source}, label_separator="|", split_seed=1)
    total = data.train.labels.counts() + data.dev.labels.counts()
    n = len(data.train) + len(data.dev)
    assert abs(len(data.dev) - n / 10) <= 30
    assert np.abs(data.dev.labels.counts() - total / 10).max() <= 1
    whole = data.train.labels.concatenate(data.dev.labels)
    random = whole.take(np.random.default_rng(0).permutation(n)[: n // 10])
    assert np.abs(random.counts() - total / 10).max() > 20
