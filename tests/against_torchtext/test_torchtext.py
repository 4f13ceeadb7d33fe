"""Ours against torchtext 0.18 itself; runs in its own environment (`make test-torchtext`)."""

import numpy as np
import pytest

from dlnotes.data.dataset import load_dataset
from dlnotes.data.readers import read
from dlnotes.data.tokenized import tokenize
from dlnotes.data.vocabulary import Vocabulary
from dlnotes.errors import UserError

pytest.importorskip("torchtext", reason="torchtext has an environment of its own")

import torch
import torchtext
from torch.utils.data.datapipes.iter import IterableWrapper
from torchtext.data.utils import get_tokenizer
from torchtext.vocab import build_vocab_from_iterator

torchtext.disable_torchtext_deprecation_warning()

ENGLISH = ["trec", "mr", "sst1", "sst2", "r52", "20ng", "imdb", "agnews_partial"]
SPECIALS = ["<pad>", "<unk>"]


@pytest.mark.parametrize("name", ENGLISH)
def test_tokens_and_vocabulary_of_every_english_set(shared_data, name):
    """Token for token and, for the vocabulary of the training split, id for id."""
    split = get_tokenizer("basic_english")
    files = sorted(path for path in (shared_data / name).glob("*.tsv*"))
    assert files
    for path in files:
        ours = tokenize(path)
        theirs = [split(text) for frame in read(path) for text in frame["text"]]
        assert np.diff(ours.offsets).tolist() == [len(tokens) for tokens in theirs]
        flat = [token for tokens in theirs for token in tokens]
        assert ours.types.gather(ours.tokens).to_list() == flat
        if path.name.startswith("train.tsv"):
            vocab = build_vocab_from_iterator(theirs, specials=SPECIALS)
            vocabulary = Vocabulary.from_counts(ours.types, ours.counts())
            assert vocabulary.tokens.to_list() == vocab.get_itos()
            assert vocabulary.ids(ours.types)[ours.tokens].tolist() == vocab(flat)
            rare = build_vocab_from_iterator(theirs, specials=SPECIALS, min_freq=3, max_tokens=500)
            cut = Vocabulary.from_counts(ours.types, ours.counts(), min_freq=3, max_size=500)
            assert cut.tokens.to_list() == rare.get_itos()


PAIRS = [(1 + i % 2, text) for i, text in enumerate(["The cat sat.", "A dog ran!"] * 20)]


def test_iterators_of_torchtext_datasets_go_into_our_data_sets():
    """torchtext.datasets gives iterable data pipes of (int label, text)."""
    pipe = IterableWrapper(PAIRS).shuffle().sharding_filter()
    dataset = load_dataset({"train": pipe, "test": IterableWrapper(PAIRS[:4])})
    assert dataset.label_names == ["1", "2"]
    assert len(dataset.train) + len(dataset.dev) == 40
    assert dataset.read_test().text(0) == "the cat sat ."


def test_vocab_objects_go_into_our_data_sets():
    split = get_tokenizer("basic_english")
    vocab = build_vocab_from_iterator((split(text) for _, text in PAIRS), specials=SPECIALS)
    vocab.set_default_index(1)
    dataset = load_dataset({"train": PAIRS, "test": PAIRS[:2]}, vocabulary=vocab)
    assert len(dataset.vocabulary) == len(vocab)
    batch = dataset.read_test().batch(np.array([0]))
    assert batch.tokens[0].tolist() == vocab(split(PAIRS[0][1]))
    with pytest.raises(UserError, match="tokens must begin with"):
        load_dataset({"train": PAIRS}, vocabulary=build_vocab_from_iterator([["a"]]))


def test_this_is_the_environment_it_says():
    assert torchtext.__version__.startswith("0.18.0")
    assert torch.__version__.startswith("2.3.1")
