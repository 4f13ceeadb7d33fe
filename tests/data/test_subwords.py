"""Byte-pair encoding: learned from counts, applied by its merges, kept as lines of text."""

import itertools
import os
import pickle
import random
import subprocess
import sys
import time

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlnotes.data.dataset import load_dataset
from dlnotes.data.reading import Reading
from dlnotes.data.subwords import Subwords, join_pieces
from dlnotes.data.tokenization import MAX_MERGES, TOKENIZERS
from dlnotes.data.tokenized import tokenize, tokenize_texts
from dlnotes.errors import UserError

pytest.importorskip("tokenizers")

COUNTS = {"low": 5, "lower": 2, "newest": 6, "widest": 3, ",": 9}


def learned(counts=None, **how):
    counts = counts or COUNTS
    return Subwords.learn(pl.Series(list(counts)), np.array(list(counts.values())), **how)


def tokens(texts, tokenizer):
    found = tokenize_texts(texts, tokenizer)
    types = found.types.to_list()
    runs = np.split(found.tokens, found.offsets[1:-1])
    return [[types[k] for k in run] for run in runs]


def sennrich(counts, merges):
    """The program in Sennrich et al. 2016, Algorithm 1, without the mark at a word's end."""
    vocabulary = {tuple(word): n for word, n in counts.items()}
    done = []
    for _ in range(merges):
        pairs = {}
        for word, n in vocabulary.items():
            for pair in itertools.pairwise(word):
                pairs[pair] = pairs.get(pair, 0) + n
        if not pairs or max(pairs.values()) < 2:
            break
        best = max(pairs, key=pairs.get)
        assert sum(n == pairs[best] for n in pairs.values()) == 1, "a tie decides nothing here"
        done.append(" ".join(best))
        merged = {}
        for word, n in vocabulary.items():
            new, i = [], 0
            while i < len(word):
                two = word[i : i + 2] == best
                new.append("".join(best) if two else word[i])
                i += 2 if two else 1
            merged[tuple(new)] = n
        vocabulary = merged
    return done


def test_the_merges_are_those_of_the_paper():
    counts = {"aab": 7, "ab": 5, "abc": 4, "cab": 2}
    expected = sennrich(counts, 3)
    assert list(learned(counts, merges=3).merges) == expected == ["a b", "a ab", "ab c"]


def test_no_more_merges_are_made_room_for_than_the_words_allow(monkeypatch):
    """The package makes room for all in advance, and ends the program where there is none."""
    import tokenizers

    sizes = []

    def trainer(**given):
        sizes.append(given["vocab_size"])
        return make(**given)

    make = tokenizers.trainers.BpeTrainer
    monkeypatch.setattr(tokenizers.trainers, "BpeTrainer", trainer)
    most = learned(merges=MAX_MERGES).merges
    letters = sum(map(len, COUNTS)) - len(COUNTS)
    assert sizes == [len(set().union(*COUNTS)) + letters]
    assert len(most) <= letters
    with pytest.raises(UserError, match="merges must be at least 1 and at most 1,000,000"):
        learned(merges=MAX_MERGES + 1)
    with pytest.raises(UserError, match="merges must be at least 1 and at most 1,000,000"):
        Reading(merges=10**9)


def test_what_is_said_of_merges_in_vain_is_told():
    pairs = [("a", "some words"), ("b", "other words")] * 10
    with pytest.warns(UserWarning, match="merges=5 has no effect: the tokenizer is basic_english"):
        load_dataset({"train": pairs}, merges=5)
    few = [("a", "xy"), ("b", "zw")] * 2
    with pytest.warns(UserWarning, match="bpe has learned no merges, so all words are cut into"):
        load_dataset({"train": few}, tokenizer="bpe")


def test_the_number_of_merges_is_bounded_and_rare_pairs_are_left():
    assert len(learned(merges=2).merges) == 2
    assert learned().merges == ()  # no pair occurs 10 times
    assert learned({word: 20 * n for word, n in COUNTS.items()}).merges


def test_words_are_cut_and_can_be_joined():
    subwords = learned(merges=6)
    (found,) = tokens(["Lowest, Newest!"], subwords)
    assert found[found.index(",") :][0] == ","
    assert found[0] == "low"
    assert found[1].startswith("##")
    words, numbers = join_pieces(found)
    assert words == ["lowest", ",", "newest", "!"]
    assert len(numbers) == len(found)
    assert numbers == sorted(numbers)


TEXT = st.text(alphabet=st.sampled_from("lowernst ,#-'é́中字🤷\u200d\x1c\x00\u2028</s>"))


@settings(max_examples=200, deadline=None)
@given(st.lists(TEXT, max_size=4))
@pytest.mark.parametrize("name", ["bpe", "sentence_bpe"])
def test_joined_pieces_are_the_words(name, texts):
    subwords = Subwords(learned(merges=6).merges, name)
    whole = {"bpe": "words", "sentence_bpe": "sentence_words"}[name]
    for found, expected in zip(tokens(texts, subwords), tokens(texts, whole), strict=True):
        assert join_pieces(found)[0] == expected


def test_marks_of_sentences_stay_whole():
    subwords = learned(merges=6, tokenizer="sentence_bpe")
    (found,) = tokens(["Low. Newest <question> lower?"], subwords)
    assert "</s>" in found
    assert "<question>" in found


def test_marks_are_not_learned_from():
    assert learned({"</s>": 50, "ab": 30}, tokenizer="sentence_bpe").merges == ("a b",)


@pytest.mark.parametrize("threads", ["1", "2"])
def test_learning_is_deterministic(threads):
    """Whatever the order of words and the number of threads, in another process."""
    words = [f"{a}{b}{c}" for a in "abcde" for b in "éfgh" for c in "ijkl中"]  # many ties
    random.Random(threads).shuffle(words)
    program = (
        "import polars as pl, numpy as np\n"
        "from dlnotes.data.subwords import Subwords\n"
        f"words = {words!r}\n"
        "print(Subwords.learn(pl.Series(words), np.full(len(words), 20)).digest)"
    )
    env = os.environ | {"RAYON_NUM_THREADS": threads, "PYTHONPATH": os.pathsep.join(sys.path)}
    ran = subprocess.run(
        [sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == learned(dict.fromkeys(sorted(words), 20)).digest


def test_saved_loaded_and_pickled(tmp_path):
    subwords = learned(merges=6)
    subwords.save(tmp_path / "merges.txt")
    for other in (Subwords.load(tmp_path / "merges.txt"), pickle.loads(pickle.dumps(subwords))):
        assert other == subwords
        assert tokens(["lowest newer"], other) == tokens(["lowest newer"], subwords)
    assert (tmp_path / "merges.txt").read_text().splitlines() == list(subwords.merges)


@pytest.mark.parametrize("content", [b"a b\nab\n", b"a  b\n", b"a b c\n", b"\xff b\n", b"a \n"])
def test_a_damaged_file_is_told_in_one_line(tmp_path, content):
    (tmp_path / "merges.txt").write_bytes(content)
    with pytest.raises(UserError, match=r"merges\.txt.*(two pieces|UTF-8)") as told:
        Subwords.load(tmp_path / "merges.txt")
    assert "\n" not in str(told.value)


def test_a_missing_package_is_told_in_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(UserError, match=r"pip install 'dlnotes\[bpe\]'"):
        learned()


@pytest.mark.parametrize("word", ["a", "ab"])
def test_a_long_line_without_spaces_takes_seconds(word):
    began = time.perf_counter()
    subwords = learned({word * 500_000: 12, "ab": 30})
    (found,) = tokens([word * 500_000], subwords)
    assert "".join(piece.removeprefix("##") for piece in found) == word * 500_000
    assert time.perf_counter() - began < 60


ROWS = [("a", f"lower newest {'unseen' * (i > 29)} word{i}") for i in range(40)]
PAIRS = ROWS + [("b", text.replace("lower", "widest")) for _, text in ROWS]


def test_only_training_documents_are_learned_from():
    dataset = load_dataset({"train": PAIRS}, tokenizer="bpe", merges=100, dev_fraction=0.3)
    texts = pl.Series([dataset.train.text(i) for i in range(len(dataset.train))])
    words = texts.str.replace_all(" ##", "", literal=True).str.split(" ").explode()
    counted = words.filter(words != "").value_counts()
    again = Subwords.learn(
        counted[words.name], counted["count"].to_numpy().astype(np.int64), merges=100
    )
    assert dataset.subwords == again
    own = load_dataset({"train": PAIRS, "dev": [("a", "zz zz"), ("b", "zz")]}, tokenizer="bpe", merges=9)  # fmt: skip
    assert not any("z" in merge for merge in own.subwords.merges)
    assert own.dev.text(0).split() == ["z", "##z", "z", "##z"]


def test_iterators_are_read_once(monkeypatch):
    listed = load_dataset({"train": PAIRS}, tokenizer="bpe", merges=9)
    streamed = load_dataset({"train": iter(PAIRS)}, tokenizer="bpe", merges=9)
    assert streamed.subwords == listed.subwords
    assert streamed.fingerprints == listed.fingerprints


def test_the_cache_tells_merges_apart(tmp_path):
    path, cache = tmp_path / "train.tsv", tmp_path / "cache"
    path.write_text("".join(f"{label}\t{text}\n" for label, text in PAIRS))
    for merges in (2, 6):
        subwords = learned(merges=merges)
        for _ in range(2):
            kept = tokenize(path, subwords, cache_dir=cache)
            assert kept.types.to_list() == tokenize(path, subwords).types.to_list()
    assert len(list(cache.iterdir())) == 2


def test_bpe_without_merges_is_refused():
    with pytest.raises(UserError, match="bpe is learned"):
        tokenize(PAIRS, "bpe")
    assert "bpe" not in TOKENIZERS
