"""A tiny data set that a model can learn."""

import pytest

from dlnotes.data.dataset import Dataset, load_dataset
from small import pairs


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
