r"""Tokenizations as steps of Python's own `str` and `re`, for a program without polars.

polars' regular expressions are Rust's: their classes, such as ``\w`` and ``\p{Lu}``, are others
than Python's or unknown to it, and change with the version of Unicode. Which characters they hold
is therefore asked of polars itself and written down.
"""

from __future__ import annotations

import functools
import re
from typing import Any

import polars as pl

from dlnotes.data import tokenization as rules
from dlnotes.errors import UserError

Step = list[Any]
"""``["lower"]``; ``["map", {character: text}]``; ``["sub", pattern, replacement]``; ``["find",
pattern]``, whose matches are the tokens; the last one."""

_BETWEEN_BLANKS: Step = ["find", "[^ ]+"]


def steps_of(tokenizer: str) -> list[Step]:
    """What makes the tokens of a text, step by step.

    Args:
        tokenizer: A name in `dlnotes.data.tokenization.NAMES`.

    Raises:
        UserError: It needs a package: jieba or tokenizers.
    """
    lower: list[Step] = [["lower"]]
    if tokenizer in ("basic_english", "cased", "sentences"):
        ends = _substitutions(rules.SENTENCE_ENDS) if tokenizer == "sentences" else []
        return ends + (lower if tokenizer != "cased" else []) + _basic_english()
    if tokenizer == "characters":
        return [*lower, ["find", f"[^{re.escape(rules.SPACES)} ]"]]
    if tokenizer == "words":
        return lower + _substitutions([rules.HYPHEN]) + [["find", to_python(rules.WORD)]]
    marked = _substitutions(rules.SENTENCE_ENDS_OF_ALL_SCRIPTS)
    if tokenizer == "sentence_characters":
        blank = ["map", dict.fromkeys(rules.SPACES, " ")]
        return [*marked, *lower, blank, ["find", to_python(rf"{rules.MARK}|\S")]]
    if tokenizer == "sentence_words":
        found = to_python(f"{rules.MARK}|{rules.WORD}")
        return [*marked, *lower, *_substitutions([rules.HYPHEN]), ["find", found]]
    raise UserError(
        f"the tokenizer {tokenizer} needs a package of its own, which what is exported does without"
    )


def _basic_english() -> list[Step]:
    single = {k: v for k, v in rules.BASIC_ENGLISH.items() if len(k) == 1}
    several = "|".join(re.escape(k) for k in rules.BASIC_ENGLISH if len(k) > 1)
    # All of the longer ones become a blank. The quotation mark goes first, as in `cased`.
    return [["map", {'"': ""}], ["sub", several, " "], ["map", single], _BETWEEN_BLANKS]


def _substitutions(pairs: list[tuple[str, str]]) -> list[Step]:
    return [["sub", to_python(p), re.sub(r"\$\{?(\d)\}?", r"\\g<\1>", r)] for p, r in pairs]


def to_python(pattern: str) -> str:
    r"""A regular expression of Rust as one of Python that matches the same.

    Classes are written out, a word boundary ``\b`` with them, and so is ``(?i)`` at the beginning.
    """
    any_case = pattern.startswith("(?i)")
    parts = re.findall(r"\\[pP]\{\w+\}|\\.|\(\?:|a-z|.", pattern.removeprefix("(?i)"), re.DOTALL)
    found, within = [], False
    for part in parts:
        if part in "[]" and len(part) == 1:
            within = part == "["
            found.append(part)
        elif part == r"\b":
            w = f"[{members(chr(92) + 'w')}]"
            found.append(f"(?:(?<={w})(?!{w})|(?<!{w})(?={w}))")
        elif re.fullmatch(r"\\[pP]\{\w+\}|\\[wsd]", part):
            found.append(members(part) if within else f"[{members(part)}]")
        elif part == r"\S":
            found.append(f"[^{members(chr(92) + 's')}]")
        elif any_case and re.fullmatch("[a-z]|a-z", part):
            same = members(f"(?i)[{part}]", letters=True)
            found.append(same if within else f"[{same}]")
        else:
            found.append(part)
    return "".join(found)


@functools.cache
def members(of: str, *, letters: bool = False) -> str:
    """The characters that a class of Rust's regular expressions holds, as ranges within brackets.

    Args:
        of: The class.
        letters: Whether it holds a to z and what in any case is one of these at most.
    """
    among = _letters() if letters else _characters()
    numbers = [ord(c) for c in among.filter(among.str.contains(rf"\A(?:{of})\z"))]
    starts = [n for i, n in enumerate(numbers) if i == 0 or numbers[i - 1] != n - 1]
    ends = [n for i, n in enumerate(numbers) if i + 1 == len(numbers) or numbers[i + 1] != n + 1]
    return "".join(
        re.escape(chr(a)) if a == b else f"{re.escape(chr(a))}-{re.escape(chr(b))}"
        for a, b in zip(starts, ends, strict=True)
    )


@functools.cache
def lower_case() -> dict[str, str]:
    """Lower case of each character that has one, by polars' version of Unicode.

    Σ is not among them: its lower case depends on the letters around it, as Python knows.
    """
    lower = _characters().str.to_lowercase()
    return {c: low for c, low in zip(_characters(), lower, strict=True) if c != low and c != "Σ"}


@functools.cache
def _letters() -> pl.Series:
    """The characters that are one of a to z but for their case."""
    among = _characters()
    held: pl.Series = among.filter(among.str.contains(r"\A(?i)[a-z]\z"))
    return held


@functools.cache
def _characters() -> pl.Series:
    """All characters of Unicode."""
    return pl.Series([chr(n) for n in range(0x110000) if not 0xD800 <= n < 0xE000])
