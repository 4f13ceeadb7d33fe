r"""Tokenization as polars expressions: no Python loop ever touches a token.

``basic_english`` is the normalisation of ``torchtext.data.utils.get_tokenizer("basic_english")``
(https://docs.pytorch.org/text/0.18.0/data_utils.html): lower-case; drop ``"``; a space around
``'``, ``.``, ``,``, ``(``, ``)``, ``!`` and ``?``; a space for ``;``, ``:`` and ``<br />``; split
at white space. ``cased`` is the same without lower-casing. ``characters`` makes every character
that is not white space a token (Chinese and other scripts without spaces). ``sentences`` is
``basic_english`` with a mark between sentences, for models that read a document sentence by
sentence. ``words`` is for translation: lower-case; words, numbers and every other character that is
not white space are tokens; ``'s`` and the like are separated from their word; a hyphen within a
word becomes ``@-@``, so that :func:`detokenize` can put everything together again.
``sentence_words`` and ``sentence_characters`` are ``words`` and ``characters`` with marks between
sentences in all scripts.

Two more are not expressions: ``jieba`` (`dlnotes.data.chinese`) and ``bpe``
(`dlnotes.data.subwords`).

The same expression serves training and prediction.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

import polars as pl

from dlnotes.deprecation import keep_old_names

# What Python's str.split takes for white space, the C0 separators and all Unicode spaces included.
SPACES = "\t\n\v\f\r\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(
    map(chr, range(0x2000, 0x200B))
)

SENTENCE_END_TOKEN, QUESTION_TOKEN = "</s>", "<question>"
"""Marks between two sentences and before a question at a document's end; models know their ids."""

BASIC_ENGLISH = {
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
    **dict.fromkeys(SPACES, " "),
}
"""What `basic_english` replaces, and by what."""


def basic_english(text: pl.Expr) -> pl.Expr:
    """Tokens of each text, a list of strings from which empty strings must be dropped."""
    return cased(text.str.to_lowercase())


def cased(text: pl.Expr) -> pl.Expr:
    """Tokens as by `basic_english`, but not lower-cased, so that names differ from words."""
    # The quotation mark goes first: what it leaves may be a <br />.
    text = text.str.replace_all('"', "", literal=True)
    return text.str.replace_many(BASIC_ENGLISH).str.split(" ")


# Rules, not a model: fast enough for every corpus, and the same in training and prediction.
_ABBREVIATION = r"(?i)\b(mr|mrs|ms|dr|prof|st|sr|jr|vs|etc|e\.g|i\.e|[a-z])\.\s"
# What a sentence begins with: a capital, a digit, an emoji, or a letter of a script without
# capitals. Georgian has some, but texts do not use them; ª and º are Latin.
_EMOJI = r"\p{Extended_Pictographic}\p{Regional_Indicator}"
_BEGIN = rf"(?:[\p{{Lu}}\p{{N}}\p{{Georgian}}{_EMOJI}]|[^\P{{Lo}}ªº])"
# Ends of sentences that no script uses for anything else: CJK, Arabic, Urdu, Devanagari, Armenian,
# Ethiopic, Khmer, Burmese, Tibetan.
_STOPS = "。！？｡．⁇⁈⁉؟۔।॥։።፧។៕။།"


def _sentence_ends(stops: str) -> list[tuple[str, str]]:
    end = (
        # She left. Then; emoji may follow the point at once: with their colours and joiners.
        rf"""([{stops}]["')\]{_EMOJI}\p{{Emoji_Modifier}}\u200d\ufe0f]*)\s+(["'(\[]*{_BEGIN})"""
        r"|(\s[.!?])\s"  # she left . then: text that was tokenized already
        r"|\n|<br /><br />"
    )
    return [
        (_ABBREVIATION, "${1}.\ufdd0"),
        (end, f"$1$3 {SENTENCE_END_TOKEN} $2"),
        ("\ufdd0", " "),
    ]


SENTENCE_ENDS = _sentence_ends(".!?" + _STOPS)
"""Patterns and replacements that put marks between sentences, applied one after another."""


def sentences(text: pl.Expr) -> pl.Expr:
    """Tokens of each text as by `basic_english`, and `SENTENCE_END_TOKEN` between two sentences.

    A sentence ends at ``.``, ``!`` or ``?`` (and their likes in other scripts, such as ``।`` and
    ``؟``), with straight quotes, brackets and emoji after it, when white space and what may begin a
    sentence follow: a capital letter, a digit, an emoji, or a letter of a script without capitals;
    but not after initials and a few abbreviations. It also ends at one of the three between two
    spaces; at a new line; and at ``<br /><br />``. Marks that are already in the text,
    `SENTENCE_END_TOKEN` and `QUESTION_TOKEN`, are kept.
    """
    return basic_english(_with_ends(text, SENTENCE_ENDS))


def _with_ends(text: pl.Expr, ends: list[tuple[str, str]]) -> pl.Expr:
    for pattern, replacement in ends:
        text = text.str.replace_all(pattern, replacement)
    return text


def characters(text: pl.Expr) -> pl.Expr:
    """Characters of each text in lower case; white space gives empty strings, to be dropped."""
    blank = dict.fromkeys(SPACES + " ", "")
    return text.str.to_lowercase().str.replace_many(blank).str.split("")


_FULL_STOPS = f"{_STOPS}…；"
_CLOSING = r"""」』”’"'）)】》〉〕\]"""
_OTHER_ENDS = [
    # Letters without case, such as Korean, Arabic and Chinese ones: no capital begins a sentence.
    rf"([.!?][{_CLOSING}]*)\s+([^\s\p{{L}}]*\p{{Lo}})",
    rf"(\p{{Lo}}[.!?]+[{_CLOSING}]*)(\p{{Lo}})",
    # Thai and Lao have white space between clauses and no full stop.
    r"([\p{Thai}\p{Lao}])\s+([\p{Thai}\p{Lao}])",
]
SENTENCE_ENDS_OF_ALL_SCRIPTS = [
    *_sentence_ends(".!?"),  # the other stops need no white space after them
    # In three steps, since regular expressions of exported programs backtrack: none tries a stop
    # twice.
    (f"([{_FULL_STOPS}][{_FULL_STOPS}{_CLOSING}]*)", "${1}\ufdd0"),
    (rf"\ufdd0\s*([^\s{_FULL_STOPS}{_CLOSING}])", f" {SENTENCE_END_TOKEN} $1"),
    ("\ufdd0", ""),
    *((end, f"$1 {SENTENCE_END_TOKEN} $2") for end in _OTHER_ENDS),
]
"""The same for `sentence_words` and `sentence_characters`: sentence ends of all scripts."""


def marked(text: pl.Expr) -> pl.Expr:
    """Texts with a mark at the ends of sentences, in whatever script."""
    return _with_ends(text, SENTENCE_ENDS_OF_ALL_SCRIPTS)


MARK = f"{SENTENCE_END_TOKEN}|{QUESTION_TOKEN}"
"""Pattern of the two marks."""


def sentence_characters(text: pl.Expr) -> pl.Expr:
    """Tokens of each text as by `characters`, and `SENTENCE_END_TOKEN` between two sentences.

    A sentence ends as in `sentences` and, closing quotes and brackets included, at 。！？；… and
    their likes in other scripts. Letters without case need not be capital to begin a sentence. In
    Thai and Lao white space ends a sentence. Marks that are already in the text are kept.
    """
    blank = dict.fromkeys(SPACES, " ")
    text = marked(text).str.to_lowercase().str.replace_many(blank)
    return text.str.extract_all(rf"{MARK}|\S")


_CLITICS = "s|t|m|d|re|ve|ll"
WORD = rf"@-@|['\u2019](?:{_CLITICS})\b|\d+(?:[.,]\d+)+|\w+|[^\w\s]"
"""Pattern of a token of `words`."""
HYPHEN = (r"\b-\b", " @-@ ")
"""Pattern of a hyphen within a word, and what replaces it."""


def words(text: pl.Expr) -> pl.Expr:
    """Words, numbers and single other characters of each text in lower case."""
    return text.str.to_lowercase().str.replace_all(*HYPHEN).str.extract_all(WORD)


def sentence_words(text: pl.Expr) -> pl.Expr:
    """Tokens of each text as by `words`, and the marks of `sentence_characters`."""
    text = marked(text).str.to_lowercase().str.replace_all(*HYPHEN)
    return text.str.extract_all(f"{MARK}|{WORD}")


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

    The text stays in lower case. Single quotation marks keep their spaces, since it is not known
    which of them open.
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
    "sentence_characters": sentence_characters,
    "sentence_words": sentence_words,
}
"""The tokenizations that are expressions."""

JIEBA = ("jieba", "sentence_jieba")
"""Chinese words, see `dlnotes.data.chinese`."""

SUBWORDS = {"bpe": "words", "sentence_bpe": "sentence_words"}
"""Tokenizations that are learned, see `dlnotes.data.subwords`, and the one that they refine."""

MAX_MERGES = 1_000_000
"""The largest number of merges that may be asked for."""

READY = (*TOKENIZERS, *JIEBA)
"""Names of the tokenizations that need not be learned."""

NAMES = (*READY, *SUBWORDS)
"""Names of all tokenizations."""

_MARKED = ("sentences", "sentence_characters", "sentence_words", "sentence_jieba", "sentence_bpe")
MARKS: dict[str, tuple[str, ...]] = dict.fromkeys(_MARKED, (SENTENCE_END_TOKEN, QUESTION_TOKEN))
"""Tokens that a tokenization reserves; they have the first ids after the vocabulary's specials."""


keep_old_names(__name__)
