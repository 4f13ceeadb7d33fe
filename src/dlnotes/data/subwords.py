r"""Subwords: byte-pair encoding, learned from the training texts.

Sennrich et al. 2016, https://arxiv.org/abs/1508.07909. At first every character is a piece. The
pair of neighbouring pieces that is most frequent in the texts,

.. math:: (a, b) = \operatorname{argmax}_{a, b} \sum_w n_w \, n_{ab}(w)

where :math:`n_w` is how often the word :math:`w` occurs and :math:`n_{ab}(w)` how often the pair
occurs in it, is merged into one piece, and so on. A word is cut by the same merges in their order.

Differs from the paper: a mark precedes the pieces that do not begin a word, instead of ending each
word, so that pieces can be read (``hel ##lo``), and merges are the same at all places of a word.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from dlnotes.arguments import OneOf, Range, checked
from dlnotes.data.tokenization import MARKS, MAX_MERGES, SUBWORDS, TOKENIZERS
from dlnotes.errors import UserError
from dlnotes.files import as_path, read_file

CONTINUES = "##"
"""Precedes a piece that continues the word of the piece before it; no word contains it."""

_MAX_BYTES = 1 << 26  # bytes of a file, millions of merges
_DEFAULT_MERGES = 30_000  # merges, unless their number is given
_RARE = 10  # pairs that are rarer are not merged, unless the number of merges is given
_LONG = 100  # characters; longer words are learned from in parts, or it would take hours
_AT_ONCE = 10_000  # repetitions of a word in one text to learn from


@dataclass(frozen=True)
class Subwords:
    """A tokenization into pieces of words.

    Attributes:
        merges: Two pieces with a space between them each, in the order in which they were learned.
        tokenizer: Its name in `SUBWORDS`.
    """

    merges: tuple[str, ...]
    tokenizer: str = "bpe"

    @classmethod
    @checked
    def learn(
        cls,
        words: pl.Series,
        counts: NDArray[np.int64],
        *,
        tokenizer: Annotated[str, OneOf(SUBWORDS)] = "bpe",
        merges: Annotated[int, Range(1, le=MAX_MERGES)] | None = None,
    ) -> Subwords:
        """Learn from words.

        Args:
            words: Distinct words.
            counts: How often each occurs in the training split.
            tokenizer: A name in `SUBWORDS`.
            merges: How many merges at most. Default: all pairs that occur at least 10 times, up to
                30,000.

        Raises:
            UserError: The package tokenizers is not installed.
        """
        library = _library()
        frame = pl.DataFrame({"word": words, "count": counts})
        marks = MARKS.get(tokenizer, ())
        frame = frame.filter((pl.col("count") > 0) & ~pl.col("word").is_in(marks))
        alphabet = set().union(*frame["word"])
        # The largest possible number of merges, since each makes a word shorter by a piece: the
        # package allocates memory for all in advance.
        most = int(frame["word"].str.len_chars().sum()) - len(frame)
        trainer = library.trainers.BpeTrainer(
            vocab_size=len(alphabet) + min(merges or _DEFAULT_MERGES, most),
            min_frequency=2 if merges else _RARE,
            show_progress=False,
        )
        learned = library.Tokenizer(library.models.BPE())
        learned.pre_tokenizer = library.pre_tokenizers.WhitespaceSplit()
        learned.train_from_iterator(_repeated(frame), trainer)
        found = json.loads(learned.to_str())["model"]["merges"]
        # Older versions of the package write a pair as one string.
        pairs = (pair if isinstance(pair, str) else " ".join(pair) for pair in found)
        return cls(tuple(pairs), tokenizer)

    @classmethod
    def load(cls, path: str | Path, tokenizer: str = "bpe") -> Subwords:
        """Read what `save` wrote.

        Raises:
            UserError: The file is missing, holds no merges or has more than 64 MiB.
        """
        path = as_path(path)
        try:
            lines = read_file(path, _MAX_BYTES).decode().replace("\r\n", "\n").split("\n")[:-1]
        except FileNotFoundError as error:
            raise UserError(f"{path.parent} has no {path.name}") from error
        except UnicodeDecodeError as error:
            raise UserError(f"{path}: not merges: not UTF-8") from error
        for number, line in enumerate(lines, 1):
            if len(line.split(" ")) != 2 or not all(line.split(" ")):
                raise UserError(
                    f"{path}:{number}: a line must hold two pieces with a space between, not "
                    f"{line[:60]!r}"
                )
        return cls(tuple(lines), tokenizer)

    def save(self, path: str | Path) -> None:
        """Write one merge per line.

        Raises:
            UserError: The file cannot be written.
        """
        path = as_path(path)
        try:
            path.write_text("".join(f"{merge}\n" for merge in self.merges), "utf-8", newline="\n")
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror}") from error

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of the merges."""
        return hashlib.sha256("\n".join(self.merges).encode()).hexdigest()

    def __call__(self, texts: pl.Series) -> pl.Series:
        """Pieces of each text, a list of strings from which empty strings must be dropped.

        Raises:
            UserError: The package tokenizers is not installed.
        """
        expression = TOKENIZERS[SUBWORDS[self.tokenizer]](pl.col("text"))
        lists = texts.alias("text").to_frame().select(expression)["text"]
        words = lists.explode(empty_as_null=False).unique()
        words = words.filter(~words.is_in(MARKS.get(self.tokenizer, ())))
        pieces = pl.Series(self._pieces(words.to_list()), dtype=pl.String)
        cut = lists.to_frame().select(
            pl.col("text").list.eval(pl.element().replace(words, pieces)).list.join(" ")
        )
        return cut["text"].str.split(" ")

    def _pieces(self, words: list[str]) -> list[str]:
        """The pieces of each word, joined by spaces."""
        encoded = self._encoder.encode_batch(words)
        return [
            word
            if len(found.offsets) == 1
            # By offsets: the names of pieces do not show characters that are in no merge.
            else f" {CONTINUES}".join(word[start:end] for start, end in found.offsets)
            for word, found in zip(words, encoded, strict=True)
        ]

    @functools.cached_property
    def _encoder(self) -> Any:
        library = _library()
        unknown = "<unk>"
        pairs = [tuple(merge.split(" ")) for merge in self.merges]
        tokens = [unknown, *(a for a, _ in pairs), *(b for _, b in pairs), *map("".join, pairs)]
        numbers = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
        model = library.models.BPE(vocab=numbers, merges=pairs, unk_token=unknown, fuse_unk=False)
        return library.Tokenizer(model)

    def __reduce__(self) -> tuple[type[Subwords], tuple[tuple[str, ...], str]]:
        """Copies and pickles hold nothing of the package tokenizers."""
        return Subwords, (self.merges, self.tokenizer)


def join_pieces(pieces: Sequence[str]) -> tuple[list[str], list[int]]:
    """Join pieces to words; also return the number of the word that each piece belongs to."""
    words: list[str] = []
    numbers = []
    for piece in pieces:
        if words and piece.startswith(CONTINUES) and piece != CONTINUES:
            words[-1] += piece.removeprefix(CONTINUES)
        else:
            words.append(piece)
        numbers.append(len(words) - 1)
    return words, numbers


def _repeated(words: pl.DataFrame) -> Iterator[str]:
    """Each word as often as it occurs: the package counts words itself and accepts no counts."""
    for word, count in words.iter_rows():
        parts = [word[i : i + _LONG] for i in range(0, len(word), _LONG)]
        for start in range(0, count, _AT_ONCE):
            yield f"{' '.join(parts)} " * min(_AT_ONCE, count - start)


def _library() -> Any:
    try:
        import tokenizers
    except ImportError as error:
        raise UserError(
            "the tokenizer bpe needs the package tokenizers: pip install 'dlnotes[bpe]'"
        ) from error
    return tokenizers
