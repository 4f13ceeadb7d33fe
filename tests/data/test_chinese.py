"""Chinese words by jieba: deterministic, silent, and apart from what a program does with jieba."""

import os
import subprocess
import sys
import time

import polars as pl
import pytest

from dlnotes.data import chinese
from dlnotes.data.dataset import load_dataset
from dlnotes.data.tokenized import tokenize_texts
from dlnotes.errors import UserError

TEXT = "我来到北京清华大学。他喜欢iPhone 4 吗？是的"
WORDS = [
    "我",
    "来到",
    "北京",
    "清华大学",
    "。",
    "他",
    "喜欢",
    "iphone",
    "4",
    "吗",
    "？",
    "是",
    "的",
]


def test_words():
    pytest.importorskip("jieba")
    found = chinese.words(pl.Series(["", " \u3000\n", TEXT, "🤷🏽é́"])).to_list()
    assert found == [[], [], WORDS, list("🤷🏽é́")]


def test_words_of_sentences():
    pytest.importorskip("jieba")
    given = f"{TEXT}<question>谁"
    (found,) = chinese.words(pl.Series([given]), sentences=True).to_list()
    assert [word for word in found if word not in ("</s>", "<question>")] == [*WORDS, "谁"]
    assert found.count("</s>") == 2
    assert found[-2:] == ["<question>", "谁"]


def test_nothing_is_printed_or_left_in_the_temporary_folder(tmp_path):
    pytest.importorskip("jieba")
    program = (
        "import jieba, polars as pl\n"
        "jieba.dt.FREQ, jieba.dt.total = {'我来到北京': 9}, 9\n"
        "from dlnotes.data.chinese import words\n"
        f"print(' '.join(words(pl.Series([{TEXT!r}]))[0]))"
    )
    folders = {name: str(tmp_path) for name in ("TMPDIR", "TEMP", "TMP")}
    env = os.environ | folders | {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONUTF8": "1"}
    ran = subprocess.run(
        [sys.executable, "-W", "always", "-c", program],
        env=env,
        capture_output=True,
        text=True,
        check=True,
        encoding="utf-8",
    )
    assert ran.stdout.split() == WORDS
    assert "jieba" not in ran.stderr
    assert "dict" not in ran.stderr
    assert list(tmp_path.iterdir()) == []


def test_long_texts_have_the_same_words_and_take_seconds():
    pytest.importorskip("jieba")
    long = chinese.words(pl.Series([TEXT * 500]))[0].to_list()
    assert long == WORDS * 500
    began = time.perf_counter()
    run = chinese.words(pl.Series(["的" * 100_000]))[0].to_list()
    assert "".join(run) == "的" * 100_000
    assert time.perf_counter() - began < 30


def test_a_missing_package_is_told_in_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "jieba", None)
    chinese._jieba.cache_clear()
    try:
        for use in (
            lambda: tokenize_texts(["好"], "jieba"),
            lambda: load_dataset({"train": [("a", "好"), ("b", "坏")] * 9}, tokenizer="jieba"),
        ):
            with pytest.raises(UserError, match=r"pip install 'dlnotes\[jieba\]'"):
                use()
    finally:
        chinese._jieba.cache_clear()
