"""Parallel text: aligned files, marks around targets, tokens that can be put together again."""

import gzip
import re

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlnotes.data import pairs
from dlnotes.data.pairs import Pairs, load_pairs, read_pairs, with_marks
from dlnotes.data.tokenization import TOKENIZERS, detokenize
from dlnotes.data.tokenized import tokenize_texts
from dlnotes.data.vocabulary import PAD, UNK, Vocabulary
from dlnotes.errors import UserError
from dlnotes.nn import decoding


def tokens(text):
    return pl.DataFrame({"text": [text]}).select(TOKENIZERS["words"](pl.col("text")))["text"][0].to_list()  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Two young, White males.", "two young , white males ."),
        ("A man's T-shirt (red) isn't 'new'!", "a man 's t @-@ shirt ( red ) isn 't ' new ' !"),
        ("1,000 of 3.5 at 10:30, No. 7.", "1,000 of 3.5 at 10 : 30 , no . 7 ."),
        ("Ein „Ess-Zimmer“ – Bücher\u2028mit ß", "ein „ ess @-@ zimmer “ – bücher mit ß"),
        ("a-b-c - d_e", "a @-@ b @-@ c - d_e"),
        ('say "yes and no" now', 'say " yes and no " now'),
        ("", ""),
        (" \t ", ""),
    ],
)
def test_words(text, expected):
    assert tokens(text) == expected.split()


@pytest.mark.parametrize(
    "text",
    [
        "two young, white males.",
        "a man's t-shirt (red) isn't new; who's? you!",
        'a sign: "stop here" and "go", says the 1,000 [new] one…',
        "ein „ess-zimmer“ – bücher",
        "a “closed-off” road",
        "",
    ],
)
def test_detokenize_undoes_words(text):
    assert detokenize(tokens(text)) == text


@settings(max_examples=30)
@given(st.text(st.characters(max_codepoint=127)))
def test_words_lose_nothing_but_space_and_case(text):
    kept = "".join(tokens(text)).replace("@-@", "-")
    squeezed = re.sub(r"\s+", "", text.lower().replace("@-@", "-"))
    # Beyond ASCII polars and Python differ in what is white space and lower case.
    printable = re.sub(r"[\x1c-\x1f]", "", squeezed)
    assert re.sub(r"[\x1c-\x1f]", "", kept) == printable


@settings(max_examples=30)
@given(st.text())
def test_any_text_becomes_words_without_spaces_in_them(text):
    assert not any(re.search(r"[ \t\r\n]", word) or not word for word in tokens(text))


def test_begin_and_end_have_one_number():
    assert (pairs.BEGIN, pairs.END) == (decoding.BEGIN, decoding.END)


SOURCE = ["ein Hund", "eine Katze schläft .", "", "Hund"]
TARGET = ["a dog", "a cat sleeps .", "nothing", "dog dog dog"]


def make(**more):
    source, target = (tokenize_texts(side, "words") for side in (SOURCE, TARGET))
    ours = Vocabulary.from_counts(source.types, source.counts())
    theirs = with_marks(Vocabulary.from_counts(target.types, target.counts(), min_freq=2))
    return Pairs(source, target, ours, theirs, **more), ours, theirs


def test_a_batch_has_targets_between_marks():
    made, ours, theirs = make()
    assert list(theirs.tokens) == ["<pad>", "<unk>", "<s>", "</s>", "dog", "a"]
    batch = made.batch(np.array([3, 1, 2]))
    hund, eine, katze, asleep, stop = ours.ids(["hund", "eine", "katze", "schläft", "."]).tolist()
    assert batch.tokens.tolist() == [
        [hund, PAD, PAD, PAD], [eine, katze, asleep, stop], [PAD] * 4,
    ]  # fmt: skip
    assert batch.labels.tolist() == [
        [2, 4, 4, 4, 3, PAD], [2, 5, UNK, UNK, UNK, 3], [2, UNK, 3, PAD, PAD, PAD],
    ]  # fmt: skip
    assert made.lengths.tolist() == [2, 4, 0, 1]
    assert len(made) == 4
    cut = make(max_tokens=2)[0].batch(np.array([1]))
    assert cut.tokens.tolist() == [[eine, katze]]
    assert cut.labels.tolist() == [[2, 5, UNK, 3]]


def test_marks_take_no_more_room_than_there_is():
    vocabulary = Vocabulary(["<pad>", "<unk>", "a", "</s>", "b", "c"])
    assert list(with_marks(vocabulary).tokens) == ["<pad>", "<unk>", "<s>", "</s>", "a", "b", "c"]
    assert list(with_marks(vocabulary, 5).tokens) == ["<pad>", "<unk>", "<s>", "</s>", "a"]


def folder_with(folder, **files):
    for name, lines in files.items():
        split, language = name.split("_")
        text = "".join(f"{line}\n" for line in lines).encode()
        if split == "train":
            (folder / f"{split}.{language}.gz").write_bytes(gzip.compress(text))
        else:
            (folder / f"{split}.{language}").write_bytes(text.replace(b"\n", b"\r\n"))
    return folder


def test_a_folder_of_splits(tmp_path):
    folder = folder_with(
        tmp_path, train_de=SOURCE, train_en=TARGET, val_de=["Hund"], val_en=["a dog"],
        test2016_de=["eine\x0bKatze\u2028"], test2016_en=["A cat"],
    )  # fmt: skip
    data = load_pairs(folder, min_freq=1)
    assert (len(data.train), len(data.dev)) == (4, 1)
    assert set(data.fingerprints) == {"train.de.gz", "train.en.gz", "val.de", "val.en"}
    assert data.read("test2016") == (["eine\x0bKatze\u2028"], ["A cat"])
    assert "test2016.en" in data.fingerprints
    # The vocabularies know the training pairs alone, and of these only what was asked for.
    few = load_pairs(folder, min_freq=1, max_pairs=1)
    assert sorted(few.source_vocabulary.tokens[2:]) == ["ein", "hund"]
    assert list(few.target_vocabulary.tokens[:4]) == ["<pad>", "<unk>", "<s>", "</s>"]


def test_what_cannot_be_used_is_told(tmp_path):
    folder_with(tmp_path, train_de=SOURCE, train_en=TARGET[:3])
    with pytest.raises(UserError, match=r"train.de.gz has 4 lines and .*train.en.gz has 3: line i"):
        load_pairs(tmp_path)
    with pytest.raises(UserError, match=r"has no test2016.de, compressed or not"):
        pairs.split_files(tmp_path, "test2016", ("de", "en"))
    good = tmp_path / "good"
    good.write_text("x\n")
    for content, message in (
        (b"", "is empty"),
        (b"ok\n\xff\n", r"bad.txt:2: not UTF-8"),
    ):
        bad = tmp_path / "bad.txt"
        bad.write_bytes(content)
        with pytest.raises(UserError, match=message):
            read_pairs(bad, good)
    torn = tmp_path / "torn.gz"
    torn.write_bytes((tmp_path / "train.de.gz").read_bytes()[:-9])
    with pytest.raises(UserError, match="broken compressed file"):
        read_pairs(torn, good)
    with pytest.raises(UserError, match="cannot be read"):
        read_pairs(tmp_path / "no", good)
    with pytest.raises(UserError, match="max_pairs must be at least 1"):
        load_pairs(tmp_path, max_pairs=0)
    source, target = tokenize_texts(["a"], "words"), tokenize_texts(["a", "b"], "words")
    vocabulary = Vocabulary(["<pad>", "<unk>"])
    with pytest.raises(UserError, match="1 sentences have 2 translations"):
        Pairs(source, target, vocabulary, with_marks(vocabulary))
