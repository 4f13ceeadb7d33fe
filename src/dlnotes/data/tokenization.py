r"""Tokenization as polars expressions: no Python loop ever touches a token.

``basic_english`` is the normalisation of ``torchtext.data.utils.get_tokenizer("basic_english")``
(https://docs.pytorch.org/text/0.18.0/data_utils.html): lower-case; drop ``"``; a space around
``'``, ``.``, ``,``, ``(``, ``)``, ``!`` and ``?``; a space for ``;``, ``:`` and ``<br />``; split
at white space. ``cased`` is the same without lower-casing. ``characters`` makes every character
that is not white space a token (Chinese and other scripts without spaces). ``sentences`` is
``basic_english`` with a mark between sentences, for models that read a document sentence by
sentence. ``words`` is for translation: lower-case; words and numbers, every other character that is
not white space by itself; ``'s`` and its like apart from their word; a hyphen within a word becomes
``@-@``, so that :func:`detokenize` can put everything together again.

The same expression serves training and prediction.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

import polars as pl

from dlnotes.deprecation import keep_old_names

# What Python's str.split takes for white space, the C0 separators and all Unicode spaces included.
_SPACES = "\t\n\v\f\r\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(
    map(chr, range(0x2000, 0x200B))
)

SENTENCE_END_TOKEN, QUESTION_TOKEN = "</s>", "<question>"
"""Marks between two sentences and before a question at a document's end; models know their ids."""

_BASIC_ENGLISH = {
    "'": " ' ",
    ".": " . ",
    **dict.fromkeys(("<br />", "<BR />", "<Br />", "<bR />"), " "),
    ",": " , ",
    "(": " ( ",
    ")": " ) ",
    "!": " ! ",
    "?": " ? ",
    ";": " ",
    ":": " ",
    **dict.fromkeys(_SPACES, " "),
}


def basic_english(text: pl.Expr) -> pl.Expr:
    """Tokens of each text, a list of strings in which empty strings are to be dropped."""
    return cased(text.str.to_lowercase())


def cased(text: pl.Expr) -> pl.Expr:
    """The same in the case that the text has, which tells names from words."""
    # The quotation mark goes first: what it leaves may be a <br />.
    text = text.str.replace_all('"', "", literal=True)
    return text.str.replace_many(_BASIC_ENGLISH).str.split(" ")


# Rules, not a model: fast enough for every corpus, and the same in training and prediction.
_ABBREVIATION = r"(?i)\b(mr|mrs|ms|dr|prof|st|sr|jr|vs|etc|e\.g|i\.e|[a-z])\.\s"
_END_OF_SENTENCE = (
    r"""([.!?]["')\]]*)\s+(["'(\[]*[\p{Lu}\p{N}])"""  # She left. Then
    r"|(\s[.!?])\s"  # she left . then: text that was tokenized already
    r"|\n|<br /><br />"
)


def sentences(text: pl.Expr) -> pl.Expr:
    """Tokens of each text as by `basic_english`, and `SENTENCE_END_TOKEN` between two sentences.

    A sentence ends at ``.``, ``!`` or ``?``, closing quotes and brackets included, when white space
    and a capital letter or a digit follow, but not after initials and a few abbreviations; at one
    of the three between two spaces; at a new line; and at ``<br /><br />``. Marks that stand in the
    text, `SENTENCE_END_TOKEN` and `QUESTION_TOKEN`, are kept.
    """
    text = text.str.replace_all(_ABBREVIATION, "${1}.\ufdd0").str.replace_all(
        _END_OF_SENTENCE, f"$1$3 {SENTENCE_END_TOKEN} $2"
    )
    return basic_english(text.str.replace_all("\ufdd0", " ", literal=True))


def characters(text: pl.Expr) -> pl.Expr:
    """Characters of each text in lower case, white space made empty strings to be dropped."""
    blank = dict.fromkeys(_SPACES + " ", "")
    return text.str.to_lowercase().str.replace_many(blank).str.split("")


_CLITICS = "s|t|m|d|re|ve|ll"
_WORD = rf"@-@|['\u2019](?:{_CLITICS})\b|\d+(?:[.,]\d+)+|\w+|[^\w\s]"


def words(text: pl.Expr) -> pl.Expr:
    """Words, numbers and single other characters of each text in lower case."""
    text = text.str.to_lowercase().str.replace_all(r"\b-\b", " @-@ ")
    return text.str.extract_all(_WORD)


_TOGETHER = [
    (re.compile(r" @-@ "), "-"),
    (re.compile(r'" ([^"]*) "'), r'"\1"'),
    (re.compile(r"„ ([^„“]*) “"), r"„\1“"),
    (re.compile(r"“ ([^“”]*) ”"), r"“\1”"),
    (re.compile(rf" (['\u2019](?:{_CLITICS})\b|[.,!?;:)\]}}%…])"), r"\1"),
    (re.compile(r"([(\[{]) "), r"\1"),
]


def detokenize(tokens: Iterable[str]) -> str:
    """A text of the tokens that :func:`words` gives, with the usual spaces.

    Lower case stays; which single quotation mark opens is not known.
    """
    text = " ".join(tokens)
    for pattern, replacement in _TOGETHER:
        text = pattern.sub(replacement, text)
    return text


TOKENIZERS: dict[str, Callable[[pl.Expr], pl.Expr]] = {
    "basic_english": basic_english,
    "cased": cased,
    "characters": characters,
    "sentences": sentences,
    "words": words,
}

MARKS: dict[str, tuple[str, ...]] = {"sentences": (SENTENCE_END_TOKEN, QUESTION_TOKEN)}
"""Tokens that a tokenization reserves; they have the first ids after the vocabulary's specials."""


keep_old_names(__name__)
