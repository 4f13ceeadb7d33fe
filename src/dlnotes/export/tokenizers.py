r"""Tokenizations as steps of Python's own `str` and `re`, for a program without polars.

The regular expressions of polars are those of Rust. Their character classes, such as ``\w`` and
``\p{Lu}``, differ from Python's or do not exist there, and change with the version of Unicode.
Therefore the characters of each class are determined by polars itself and written out.
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
    """The steps that turn a text into tokens.

    Args:
        tokenizer: A name in `dlnotes.data.tokenization.NAMES`.

    Raises:
        UserError: The tokenizer needs a package of its own, jieba or tokenizers.
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
        f"the tokenizer {tokenizer} needs a package of its own, which an exported program lacks"
    )


def _basic_english() -> list[Step]:
    single = {k: v for k, v in rules.BASIC_ENGLISH.items() if len(k) == 1}
    several = "|".join(re.escape(k) for k in rules.BASIC_ENGLISH if len(k) > 1)
    # All patterns of several characters become a blank. The quotation mark is removed first, as in
    # `cased`.
    return [["map", {'"': ""}], ["sub", several, " "], ["map", single], _BETWEEN_BLANKS]


def _substitutions(pairs: list[tuple[str, str]]) -> list[Step]:
    return [["sub", to_python(p), re.sub(r"\$\{?(\d)\}?", r"\\g<\1>", r)] for p, r in pairs]


def to_python(pattern: str) -> str:
    r"""Translate a regular expression of Rust into one of Python that matches the same strings.

    Character classes are written out; so are the word boundary ``\b``, by such classes, and a
    ``(?i)`` at the beginning.
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
    """The characters in a class of Rust's regular expressions, as ranges for use within brackets.

    Args:
        of: The class.
        letters: Whether the class contains only letters that equal one of a to z when case is
            ignored, so that only these need to be tested.
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

    Σ is left out, since its lower case depends on the letters around it, which Python handles.
    """
    lower = _characters().str.to_lowercase()
    return {c: low for c, low in zip(_characters(), lower, strict=True) if c != low and c != "Σ"}


@functools.cache
def _letters() -> pl.Series:
    """The characters that equal one of a to z when case is ignored."""
    among = _characters()
    held: pl.Series = among.filter(among.str.contains(r"\A(?i)[a-z]\z"))
    return held


@functools.cache
def _characters() -> pl.Series:
    """All characters of Unicode."""
    return pl.Series([chr(n) for n in range(0x110000) if not 0xD800 <= n < 0xE000])
