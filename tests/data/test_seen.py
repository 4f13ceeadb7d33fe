"""Old documents are told from new ones by their content, and dev documents stay dev documents."""

import numpy as np
import polars as pl
import pytest

from dlnotes.data.dataset import load_dataset
from dlnotes.data.keys import word_keys
from dlnotes.data.seen import Inheritance, Seen, keys_of
from dlnotes.data.tokenized import tokenize
from dlnotes.data.vocabulary import Vocabulary
from dlnotes.errors import UserError


def documents(n, seed=0, labels=("a", "b")):
    random = np.random.default_rng(seed)
    words = np.array([f"w{i}" for i in range(300)])
    return [(labels[i % len(labels)], " ".join(random.choice(words, 6))) for i in range(n)]


def texts_of(split):
    return [split.text(i) for i in range(len(split))]


def labelled(split):
    return sorted(zip(texts_of(split), split.labels.tolist(), strict=True))


def following(first, sources, replay=True, **settings):
    """A data set that takes over from another."""
    inherit = Inheritance(first.vocabulary, first.labels, first.seen(), replay)
    sources = sources if isinstance(sources, dict) else {"train": sources}
    return load_dataset(sources, inherit=inherit, split_seed=9, **settings)


OLD, NEW = documents(200), documents(100, 1, ("c", "a"))


@pytest.fixture(scope="module")
def first():
    return load_dataset({"train": OLD}, split_seed=0)


@pytest.mark.parametrize("order", [OLD + NEW, NEW + OLD, NEW + OLD[::-1], NEW + OLD + OLD])
def test_dev_stays_dev_and_train_stays_train(first, order):
    then = following(first, order)
    old, new = dict(map(reversed, OLD)), dict(map(reversed, NEW))
    dev, train = texts_of(then.dev), texts_of(then.train)
    assert sorted(t for t in dev if t in old) == sorted(texts_of(first.dev))
    assert sorted(t for t in train if t in old) == sorted(texts_of(first.train))
    # The new ones are cut as usual.
    assert sum(t in new for t in dev) == 10
    assert sorted([*dev, *train]) == sorted([*old, *new])


def test_the_third_generation_knows_the_first(first):
    second = following(first, NEW)
    third = following(second, OLD + NEW + documents(50, 2))
    for split in ("dev", "train"):
        before = {*texts_of(getattr(first, split)), *texts_of(getattr(second, split))}
        assert before <= {*texts_of(getattr(third, split))}
    assert not {*texts_of(third.dev)} & {*texts_of(first.train), *texts_of(second.train)}
    assert not {*texts_of(third.train)} & {*texts_of(first.dev), *texts_of(second.dev)}


def test_a_dev_text_is_not_learned_from_with_any_label(first):
    text = first.dev.text(0)
    label = first.label_names[first.dev.labels[0]]
    other = "b" if label == "a" else "a"
    for extra in ([(other, text)], [(label, text)], [(label, f"  {text.upper()} ")]):
        then = following(first, OLD + extra + NEW)
        assert text not in texts_of(then.train)
        assert texts_of(then.dev).count(text) == 1
        assert then.old.left_out == 1


def test_a_text_that_was_in_both_splits_is_a_dev_document():
    """It stood in the file several times; the copies that were learned from are learned no more."""
    twice = [(label, f"text {i // 4}") for i, label in enumerate("abab" * 60)]
    first = load_dataset({"train": twice}, split_seed=0)
    both = {*texts_of(first.dev)} & {*texts_of(first.train)}
    assert both
    then = following(first, twice + NEW)
    assert not both & {*texts_of(then.train)}
    old = {text for _, text in twice}
    assert [t for t in texts_of(then.dev) if t in old] == texts_of(first.dev)
    assert then.old.left_out == sum(text in both for text in texts_of(first.train))


def test_a_changed_label_of_a_training_text_is_learned_from(first):
    text, other = first.train.text(0), 1 - first.train.labels[0]
    then = following(first, [("ab"[other], text), *NEW])
    assert (text, other) in labelled(then.train)
    assert text not in texts_of(then.dev)
    assert then.old.relabelled.tolist() == [0]


@pytest.mark.parametrize("others", [1, 0])
def test_a_dev_document_whose_label_was_corrected_stays_one(first, others):
    text, other = first.dev.text(0), 1 - first.dev.labels[0]
    corrected = [("ab"[other] if t == text else label, t) for label, t in OLD]
    then = following(first, corrected * (1 + others) + NEW)
    assert (text, other) in labelled(then.dev)
    assert texts_of(then.dev).count(text) == 1
    assert text not in texts_of(then.train)
    assert {*texts_of(first.dev)} <= {*texts_of(then.dev)}
    assert then.old.missing_dev == 0


def test_missing_dev_documents_are_counted(first):
    gone = {*texts_of(first.dev)[:3]}
    left = [(label, text) for label, text in OLD if text not in gone]
    assert following(first, left + NEW).old.missing_dev == 3
    found = [(label, text) for label, text in OLD if text in gone]
    assert following(first, {"train": left + NEW, "dev": found}).old.missing_dev == 0


def test_without_replay_old_documents_are_not_learned_from(first):
    then = following(first, OLD + NEW, replay=False)
    assert not {*texts_of(then.train)} & {text for _, text in OLD}
    assert {*texts_of(first.dev)} <= {*texts_of(then.dev)}
    assert then.vocabulary.tokens[: len(first.vocabulary)].equals(first.vocabulary.tokens)


def test_dev_documents_of_their_own(first):
    more = documents(20, 3)
    then = following(first, {"train": OLD + NEW, "dev": more})
    assert sorted(texts_of(then.dev)) == sorted([*texts_of(first.dev), *(t for _, t in more)])
    # Those that are given as dev documents are not there twice.
    own = load_dataset({"train": OLD, "dev": more})
    then = following(own, {"train": OLD + more[:3] + NEW, "dev": more})
    assert sorted(texts_of(then.dev)) == sorted(t for _, t in more)
    assert not {*texts_of(then.train)} & {t for _, t in more}
    assert len(then.with_dev_in_train().train) == len(then.train) + len(then.dev)


def test_words_and_labels_come_after_the_old_ones(first):
    frequent = [("c", "often often often rare")] * 2 + [("c", "often w1")]
    then = following(first, OLD + frequent, min_freq=3)
    size = len(first.vocabulary)
    assert then.vocabulary.tokens[:size].equals(first.vocabulary.tokens)
    assert then.vocabulary.tokens[size:].to_list() == ["often"]
    assert then.label_names == ["a", "b", "c"]
    # What the vocabulary leaves out is counted over old and new documents.
    once = load_dataset({"train": [*OLD, ("a", "twice twice"), ("a", "twice twice")]}, min_freq=5, max_size=len(first.vocabulary))  # fmt: skip
    assert "twice" not in once.vocabulary.tokens
    assert "twice" in following(once, [*OLD, *[("a", "twice twice")] * 2, *[("b", "twice z")] * 4], min_freq=5).vocabulary.tokens  # fmt: skip


def test_a_full_vocabulary_does_not_grow(first):
    size = len(first.vocabulary)
    new = [("a", "x x x y y"), ("b", "x y z"), ("b", "x z")]
    for most, found in ((size - 9, []), (size, []), (size + 1, ["x"]), (None, ["x", "y", "z"])):
        grown = first.vocabulary.extended(*counts(new), max_size=most)
        assert grown.tokens[size:].to_list() == found
        assert grown.tokens[:size].equals(first.vocabulary.tokens)


def counts(pairs):
    texts = tokenize(pairs)
    return texts.types, texts.counts()


def test_old_labels_that_are_gone_keep_their_numbers(first):
    then = following(first, [("z", f"new {i}") for i in range(20)])
    assert then.label_names == ["a", "b", "z"]
    assert {*then.train.labels.tolist()} == {2}


@pytest.mark.parametrize(
    ("old", "found", "labels"),
    [
        ([1, 0], ["0", "1", "2"], [1, 0, 2]),
        ([3, 2], ["2.0", "-7"], [3, 2, -7]),
        (["b", "a"], ["c", "a"], ["b", "a", "c"]),
        ([True, False], ["true", "False"], [True, False]),
    ],
)
def test_labels_keep_numbers_and_types(old, found, labels):
    inherit = Inheritance(Vocabulary(["<pad>", "<unk>"]), old)
    assert inherit.with_new(found) == labels
    assert [type(label) for label in inherit.with_new(found)] == [type(old[0])] * len(labels)


@pytest.mark.parametrize(("old", "found"), [([1, 0], "x"), ([1, 0], "--5"), ([1, 0], "007"), ([1, 0], 1.5), (["1", "0"], 2), ([True, False], "maybe")])  # fmt: skip
def test_a_label_of_another_type_is_refused(old, found):
    inherit = Inheritance(Vocabulary(["<pad>", "<unk>"]), old)
    with pytest.raises(UserError, match=f"the new label {found!r} must be of the type"):
        inherit.with_new([found])


def test_nothing_to_learn_from(first):
    with pytest.raises(UserError, match="has seen all of the 200 documents"):
        following(first, OLD, replay=False)


def plain_word_key(word):
    """The formula of `word_keys` in Python's integers."""
    text, base, found = word.encode(), 0xD1342543DE82EF95, 0
    for i, byte in enumerate(text, 1):
        found += (byte + 1) * base**i
    found = (found + len(text)) % 2**64
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        found = (found ^ (found >> 33)) * factor % 2**64
    return found ^ (found >> 33)


def plain_text_key(words):
    found = 0
    for place, word in enumerate(words):
        mixed = plain_word_key(word) * (2 * place + 1) % 2**64
        found += mixed ^ (mixed >> 29)
    return found % 2**64


def test_keys_are_the_same_in_every_version():
    keys = keys_of(tokenize([("a", "one two"), ("1", "two one"), ("1.0", "two one"), ("a", "")]))
    assert keys.texts.tolist() == [
        plain_text_key(["one", "two"]),
        *[plain_text_key(["two", "one"])] * 2,
        0,
    ]
    assert keys.texts[0] == 4777941269201742697
    assert keys.labelled[1] == keys.labelled[2] != keys.labelled[0]


def test_keys_of_words(monkeypatch):
    words = ["", "a", "aa", "b", "\0", "\0\0", "中文", "é", "x" * 3000, "", "ab", "ba"]
    expected = list(map(plain_word_key, words))
    assert len(set(expected)) == len(words) - 1
    for piece in (3, 1 << 16):
        monkeypatch.setattr("dlnotes.data.keys._PIECE", piece)
        assert word_keys(pl.Series(words)).tolist() == expected
    assert not len(word_keys(pl.Series([], dtype=pl.String)))


def test_the_order_of_several_labels_does_not_matter():
    pairs = [(["a", "b"], "one"), (["b", "a"], "one"), (["a"], "one"), ([], "one"), (["b"], "one")]
    frame = pl.DataFrame({"label": [labels for labels, _ in pairs], "text": [text for _, text in pairs]})  # fmt: skip
    keys = keys_of(tokenize(frame)).labelled.tolist()
    assert keys[0] == keys[1]
    assert len({*keys}) == 4
    # One label is the same document wherever there may be several.
    assert keys[2] == keys_of(tokenize([("a", "one")])).labelled[0]


def test_a_file_of_keys(first, tmp_path):
    path = tmp_path / "documents.npz"
    assert Seen.load(path) is None
    seen = first.seen()
    seen.save(path)
    for name, array in vars(Seen.load(path)).items():
        assert np.array_equal(array, getattr(seen, name))
    whole = path.read_bytes()
    entry = whole.index(b"PK\x01\x02")  # of the directory's entries: flags, then the method
    marks = (b"\x01\x00\x00\x00", b"\x00\x00\x63\x00", b"\x00\x00\x08\x00")
    strange = [whole[: entry + 8] + mark + whole[entry + 12 :] for mark in marks]
    for damaged in (b"", b"junk", whole[:-9], whole.replace(b"<u8", b"<f8"), *strange):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"documents\.npz cannot be read or is damaged"):
            Seen.load(path)


def test_a_file_of_other_keys_is_as_none(first, tmp_path):
    path = tmp_path / "documents.npz"
    with path.open("wb") as file:
        np.savez(file, **vars(first.seen()))  # as before there was a number of the format
    assert Seen.load(path) is None


def test_test_documents_that_were_read_are_not_among_the_seen_ones():
    dataset = load_dataset({"train": OLD, "test": documents(100, 1)}, split_seed=0)
    before = dataset.seen()
    dataset.read_test()
    after = dataset.seen()
    for name in ("train", "train_labelled", "dev", "dev_labelled"):
        assert np.array_equal(getattr(after, name), getattr(before, name))
