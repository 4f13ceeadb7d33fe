"""A tiny data set that a model can learn."""

import numpy as np
import pytest

from dlnotes.data.dataset import Dataset, load_dataset


def pairs(n, seed):
    """Documents of 3 to 9 words; the label is the class whose words are in the majority."""
    random = np.random.default_rng(seed)
    words = {"sport": ["goal", "team", "match"], "tech": ["chip", "code", "web"], "law": ["court", "judge"]}  # fmt: skip
    labels = sorted(words)
    out = []
    for i in range(n):
        label = labels[i % 3]
        own = random.choice(words[label], 2 + random.integers(3))
        noise = random.choice(["the", "a", "of", "it"], 1 + random.integers(5))
        out.append((label, " ".join(random.permutation(np.concatenate([own, noise])))))
    return out


@pytest.fixture(scope="session")
def labelled():
    """`pairs`, for a test that wants files of its own."""
    return pairs


@pytest.fixture
def datasets():
    def load(tokenizer: str) -> Dataset:
        sources = {"train": pairs(240, 0), "test": pairs(60, 1)}
        return load_dataset(sources, split_seed=0, tokenizer=tokenizer)

    return load


@pytest.fixture
def dataset(datasets) -> Dataset:
    return datasets("basic_english")
