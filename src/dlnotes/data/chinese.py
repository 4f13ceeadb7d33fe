"""Chinese words by jieba, https://github.com/fxsjy/jieba."""

from __future__ import annotations

import functools
import itertools
import logging
import re
import warnings
from typing import Any

import polars as pl

from dlnotes.data.tokenization import QUESTION_TOKEN, SENTENCE_END_TOKEN, marked
from dlnotes.errors import UserError

_MARK = re.compile(f"({SENTENCE_END_TOKEN}|{QUESTION_TOKEN})")
_PIECE = re.compile(r"(?s).{0,999}[\s，。！？；：、,!?;]|.{1,1000}")


def words(texts: pl.Series, *, sentences: bool = False) -> pl.Series:
    """Cut each text into lower-case words by jieba's dictionary and its model of unknown words.

    White space is dropped. Latin words and numbers stay whole; any other symbol is a token.

    Args:
        texts: Strings.
        sentences: Mark the ends of sentences as `sentence_characters` does.

    Returns:
        A list of strings for each text.

    Raises:
        UserError: jieba is not installed.
    """
    cut = _jieba().lcut
    if sentences:
        texts = texts.to_frame("text").select(marked(pl.col("text")))["text"]

    def tokens(text: str) -> list[str]:
        # The marks are at the odd positions.
        parts = _MARK.split(text.lower()) if sentences else [text.lower()]
        found: list[str] = []
        for i, part in enumerate(parts):
            found += [part] if i % 2 else itertools.chain.from_iterable(map(cut, _pieces(part)))
        return [token for token in found if not token.isspace()]

    return pl.Series(texts.name, [tokens(text) for text in texts], dtype=pl.List(pl.String))


def _pieces(text: str) -> list[str]:
    """Cut a long text up: jieba's time grows with the square of a stretch without punctuation.

    Pieces end at punctuation where there is any, so that the words stay the same.
    """
    return _PIECE.findall(text) if len(text) > 1000 else [text]


@functools.cache
def _jieba() -> Any:
    """A tokenizer of our own, without words that a program adds to jieba's global dictionary."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those about jieba's own code
        try:
            import jieba
        except ImportError as error:
            raise UserError(
                "the tokenizer jieba needs the package jieba: pip install 'dlnotes[jieba]'"
            ) from error
    logging.getLogger("jieba").setLevel(logging.WARNING)
    tokenizer = jieba.Tokenizer()
    # As `initialize` does, but without its cache file in the temporary folder, to which others can
    # write.
    tokenizer.FREQ, tokenizer.total = tokenizer.gen_pfdict(tokenizer.get_dict_file())
    tokenizer.initialized = True
    return tokenizer
