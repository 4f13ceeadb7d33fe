"""What a vocabulary is made of, kept in and asked for: mistakes are told in one line."""

import numpy as np
import polars as pl
import pytest

from dlnotes.data.documents import Documents
from dlnotes.data.tokenized import tokenize_texts
from dlnotes.data.vocabulary import Vocabulary
from dlnotes.errors import UserError

WORDS = ["<pad>", "<unk>", "goal", "web"]

FORMS = {
    "list": list,
    "tuple": tuple,
    "generator": iter,
    "array": np.array,
    "objects": lambda tokens: np.array(tokens, dtype=object),
    "column": pl.Series,
}


@pytest.mark.parametrize("form", FORMS)
def test_tokens_come_in_many_forms(form):
    vocabulary = Vocabulary(FORMS[form](WORDS))
    assert vocabulary.tokens.to_list() == WORDS
    assert vocabulary.ids(FORMS[form](["web", "never", "web"])).tolist() == [3, 1, 3]
    counted = Vocabulary.from_counts(FORMS[form](["web", "goal"]), np.array([1, 2]))
    assert counted.tokens.to_list() == WORDS


NO_TOKENS = {
    "text": ("goal", "must be a list of texts, not 'goal'"),
    "bytes": (b"goal", "must be a list of texts, not b'goal'"),
    "None": (None, "must be a list of texts, not None"),
    "a number": (3, "must be a list of texts, not 3"),
    "None inside": (["<pad>", None], r"\[1\] is None: every token must be a string"),
    "bytes inside": (["<pad>", b"x"], r"\[1\] is b'x': every token must be a string"),
    "numbers": ([1, 2], r"\[0\] is 1: every token must be a string"),
    "a column of numbers": (pl.Series([1, 2]), r"\[0\] is 1: every token must be a string"),
    "null": (pl.Series(["<pad>", None]), r"\[1\] is None: every token must be a string"),
    "rows": (np.array([["<pad>", "<unk>"]]), r"\[0\] is .*: every token must be a string"),
    "half a character": (["<pad>", "\ud800"], r"must be texts that UTF-8 can hold, not '\\ud800'"),
}  # fmt: skip


@pytest.mark.parametrize("case", NO_TOKENS)
def test_what_is_no_token_is_told(case):
    tokens, message = NO_TOKENS[case]
    with pytest.raises(UserError, match=f"^tokens ?{message}$"):
        Vocabulary(tokens)
    with pytest.raises(UserError, match=f"^types ?{message}$"):
        Vocabulary(WORDS).ids(tokens)
    with pytest.raises(UserError, match=f"^types ?{message}$"):
        Vocabulary.from_counts(tokens, np.array([1, 2]))


def test_counts_are_looked_at():
    with pytest.raises(UserError, match=r"^types and counts must be equally long, not 1 and 2$"):
        Vocabulary.from_counts(["a"], np.array([1, 2]))
    for min_freq in ("1", 1.0, True, None):
        with pytest.raises(UserError, match=r"^min_freq must be an integer of at least 1, not"):
            Vocabulary.from_counts(["a"], np.array([1]), min_freq=min_freq)


@pytest.mark.parametrize("max_tokens", ["3", 1.0, True, 0, -1])
def test_a_limit_is_a_number(max_tokens):
    with pytest.raises(UserError, match=r"^max_tokens must be .*at least 1 or None, not"):
        Documents(tokenize_texts(["a"], "words"), Vocabulary(WORDS), None, max_tokens=max_tokens)


def test_files(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    Vocabulary(WORDS).save("~/words.txt")
    for path in (tmp_path / "words.txt", str(tmp_path / "words.txt"), "~/words.txt"):
        assert Vocabulary.load(path).tokens.to_list() == WORDS
    with pytest.raises(UserError, match=r"cannot be read: Is a directory$"):
        Vocabulary.load(tmp_path)
    with pytest.raises(UserError, match=r"has no other.txt$"):
        Vocabulary.load(tmp_path / "other.txt")
    with pytest.raises(UserError, match=r"^cannot write .*words.txt: No such file or directory$"):
        Vocabulary(WORDS).save(tmp_path / "no" / "words.txt")
    for token in ("a\nb", "a\r"):
        with pytest.raises(UserError, match=r"^cannot write .*: the token 'a\\.*' holds a line break$"):  # fmt: skip
            Vocabulary([*WORDS, token]).save(tmp_path / "words.txt")
    assert Vocabulary.load(tmp_path / "words.txt").tokens.to_list() == WORDS
