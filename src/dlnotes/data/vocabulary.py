"""Vocabulary: which number each token has."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from dlnotes.arguments import Count, checked
from dlnotes.errors import UserError
from dlnotes.files import as_path, read_file

_MAX_BYTES = 1 << 30  # bytes of a file, about a hundred million tokens
_MAX_TOKENS = 1 << 27  # tokens: a file of the shortest ones could hold more

PAD, UNK = 0, 1
"""Token ids of padding and of words that the vocabulary does not have."""
SPECIALS = ("<pad>", "<unk>")
"""These tokens."""


class Vocabulary:
    """Tokens in the order of their ids: PAD 0, UNK 1, marks, then by frequency and alphabetically.

    This is the order of ``torchtext.vocab.build_vocab_from_iterator`` with
    ``specials=["<pad>", "<unk>"]``.

    Args:
        tokens: All tokens, the two specials first.

    Raises:
        UserError: `tokens` holds something that is not a text, does not begin with the specials or
            holds a token twice.
    """

    def __init__(self, tokens: Iterable[str]) -> None:
        self.tokens = _column(tokens, "tokens")
        if tuple(self.tokens[:2]) != SPECIALS:
            raise UserError(f"tokens must begin with {SPECIALS}, not {tuple(self.tokens[:2])}")
        if self.tokens.n_unique() != len(self.tokens):
            twice = self.tokens.filter(self.tokens.is_duplicated())[0]
            raise UserError(f"tokens must be distinct, but {twice!r} occurs twice")
        self._numbered: tuple[Any, NDArray[np.int32]] | None = None

    @classmethod
    @checked
    def from_counts(
        cls,
        types: Iterable[str] | pl.Series,
        counts: NDArray[np.int64],
        *,
        min_freq: Count = 1,
        max_size: int | None = None,
        marks: Sequence[str] = (),
    ) -> Vocabulary:
        """Order distinct tokens by how often they occur.

        Args:
            types: Tokens; the counts of one that is given several times are added up.
            counts: How often each of `types` occurs in the training split.
            min_freq: Rarer tokens are left out (they become UNK). At least 1.
            max_size: Largest size of the vocabulary, including the two specials and the marks.
            marks: Tokens that get the ids from 2 on, whether they occur or not.

        Raises:
            UserError: `types` holds something that is not a text, there are more or fewer `counts`,
                `min_freq` is below 1 or `max_size` is below the number of specials and marks.
        """
        reserved = [*SPECIALS, *marks]
        if max_size is not None and max_size < len(reserved):
            raise UserError(f"max_size must be at least {len(reserved)}, not {max_size}")
        column = _column(types, "types")
        if len(column) != len(counts):
            raise UserError(
                f"types and counts must be equally long, not {len(column):,} and {len(counts):,}"
            )
        frame = pl.DataFrame(
            {"token": column, "count": counts}, schema_overrides={"token": pl.String}
        )
        if frame["token"].is_duplicated().any():
            frame = frame.group_by("token").agg(pl.col("count").sum())
        ordered = frame.filter(
            (pl.col("count") >= min_freq) & ~pl.col("token").is_in(reserved)
        ).sort("count", "token", descending=[True, False])["token"]
        if max_size is not None:
            ordered = ordered.head(max_size - len(reserved))
        return cls(pl.concat([pl.Series("token", reserved, pl.String), ordered]))

    def extended(
        self,
        types: Iterable[str] | pl.Series,
        counts: NDArray[np.int64],
        *,
        min_freq: int = 1,
        max_size: int | None = None,
    ) -> Vocabulary:
        """A vocabulary in which these tokens keep their ids, and new ones of `types` follow.

        Args:
            types: See `from_counts`; the new ones are in the order that they have there.
            counts: How often each of `types` occurs.
            min_freq: Rarer new tokens are left out.
            max_size: Largest size of the vocabulary; only new tokens are left out.

        Raises:
            UserError: See `from_counts`.
        """
        found = Vocabulary.from_counts(types, counts, min_freq=min_freq).tokens
        new = found.filter(~found.is_in(self.tokens.implode()))
        if max_size is not None:
            new = new.head(max(0, max_size - len(self)))
        return Vocabulary(pl.concat([self.tokens.alias("token"), new.alias("token")]))

    @classmethod
    def from_torchtext(cls, vocab: Any) -> Vocabulary:
        """Take over a ``torchtext.vocab.Vocab``, id for id.

        Raises:
            UserError: Its specials are not ``["<pad>", "<unk>"]``, in this order and first.
        """
        return cls(vocab.get_itos())

    @classmethod
    def load(cls, path: str | Path, most: int = _MAX_TOKENS) -> Vocabulary:
        """Read what `save` wrote.

        Args:
            path: The file.
            most: Most tokens that it may hold; they are counted before the file is parsed.

        Raises:
            UserError: The file is missing, is not a vocabulary, or has more than 1 GiB or `most`
                tokens.
        """
        path = as_path(path)
        try:
            content = read_file(path, _MAX_BYTES)
        except FileNotFoundError as error:
            raise UserError(f"{path.parent} has no {path.name}") from error
        if (lines := content.count(b"\n") + 1) > min(most, _MAX_TOKENS):
            raise UserError(
                f"{path}: {lines:,} lines, where there may be at most "
                f"{min(most, _MAX_TOKENS):,} tokens"
            )
        try:
            return cls(content.decode("utf-8-sig").replace("\r\n", "\n").split("\n"))
        except UnicodeDecodeError as error:
            raise UserError(f"{path}: not a vocabulary: not UTF-8") from error
        except UserError as error:
            raise UserError(f"{path}: not a vocabulary: {error}") from error

    def save(self, path: str | Path) -> None:
        """Write one token per line.

        Raises:
            UserError: A token holds a line break, or the file cannot be written.
        """
        path = as_path(path)
        broken = self.tokens.filter(self.tokens.str.contains(r"[\r\n]"))
        if len(broken):
            raise UserError(f"cannot write {path}: the token {broken[0]!r} holds a line break")
        try:
            path.write_text("\n".join(self.tokens.to_list()), "utf-8")
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror}") from error

    def ids(self, types: Iterable[str] | pl.Series) -> NDArray[np.int32]:
        """Ids of distinct tokens; UNK for those that are not in the vocabulary.

        A word ``<pad>`` in a text also becomes UNK, so that it is not taken for padding.
        """
        if self._numbered and self._numbered[0] is types:  # dev often has the types of train
            return self._numbered[1]
        words = self.tokens.slice(PAD + 1)
        numbered = pl.int_range(PAD + 1, len(self), dtype=pl.Int32, eager=True)
        ids: pl.Series = _column(types, "types").replace_strict(words, numbered, default=UNK)
        numbers: NDArray[np.int32] = ids.to_numpy()
        if isinstance(types, pl.Series):
            self._numbered = types, numbers
        return numbers

    def has_marks(self, marks: Sequence[str]) -> bool:
        """Whether these tokens are reserved: the first after the specials, in this order."""
        first = len(SPECIALS)
        return tuple(self.tokens[first : first + len(marks)]) == tuple(marks)

    def __len__(self) -> int:
        return len(self.tokens)


def _column(tokens: Iterable[str] | pl.Series, name: str) -> pl.Series:
    if not isinstance(tokens, pl.Series):
        if isinstance(tokens, str | bytes) or not isinstance(tokens, Iterable):
            raise UserError(f"{name} must be a list of texts, not {tokens!r}")
        tokens = list(tokens)
    elif tokens.dtype == pl.String and not tokens.has_nulls():
        return tokens.alias("token")
    for i, token in enumerate(tokens):
        if not isinstance(token, str):
            raise UserError(f"{name}[{i}] is {token!r}: every token must be a string")
    try:
        return pl.Series("token", tokens, dtype=pl.String)
    except UnicodeEncodeError as error:
        shown = ascii(error.object[:60])
        raise UserError(f"{name} must be texts that UTF-8 can hold, not {shown}") from error
