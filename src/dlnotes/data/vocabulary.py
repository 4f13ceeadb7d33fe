"""Vocabulary: which number each token has."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from dlnotes.errors import UserError
from dlnotes.files import as_path, read_file

_LARGEST = 1 << 28  # bytes of a file, over ten million tokens

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
        if isinstance(tokens, str | bytes) or not isinstance(tokens, pl.Series | Iterable):
            raise UserError(f"tokens must be a list of texts, not {tokens!r}")
        given = tokens if isinstance(tokens, pl.Series) else list(tokens)
        if isinstance(given, list) and not all(isinstance(token, str) for token in given):
            i, token = next((i, t) for i, t in enumerate(given) if not isinstance(t, str))
            raise UserError(f"tokens[{i}] is {token!r}: every token must be a string")
        try:
            self.tokens = pl.Series("token", given, dtype=pl.String)
        except UnicodeEncodeError as error:
            shown = ascii(error.object[:60])
            raise UserError(f"tokens must be texts that UTF-8 can hold, not {shown}") from error
        if tuple(self.tokens[:2]) != SPECIALS:
            raise UserError(f"tokens must begin with {SPECIALS}, not {tuple(self.tokens[:2])}")
        if self.tokens.n_unique() != len(self.tokens):
            twice = self.tokens.filter(self.tokens.is_duplicated())[0]
            raise UserError(f"tokens must be distinct, but {twice!r} occurs twice")

    @classmethod
    def from_counts(
        cls,
        types: Sequence[str] | pl.Series,
        counts: NDArray[np.int64],
        *,
        min_freq: int = 1,
        max_size: int | None = None,
        marks: Sequence[str] = (),
    ) -> Vocabulary:
        """Order distinct tokens by how often they occur.

        Args:
            types: Tokens; those given several times have the sum of their counts.
            counts: How often each of `types` occurs in the training split.
            min_freq: Rarer tokens are left out (they become UNK). At least 1.
            max_size: Size of the vocabulary at most, the two specials and the marks included.
            marks: Tokens that get the ids from 2 on, whether they occur or not.

        Raises:
            UserError: `min_freq` below 1 or `max_size` below the number of specials and marks.
        """
        reserved = [*SPECIALS, *marks]
        if min_freq < 1:
            raise UserError(f"min_freq must be at least 1, not {min_freq}")
        if max_size is not None and max_size < len(reserved):
            raise UserError(f"max_size must be at least {len(reserved)}, not {max_size}")
        frame = pl.DataFrame(
            {"token": types, "count": counts}, schema_overrides={"token": pl.String}
        )
        if frame["token"].is_duplicated().any():
            frame = frame.group_by("token").agg(pl.col("count").sum())
        ordered = frame.filter(
            (pl.col("count") >= min_freq) & ~pl.col("token").is_in(reserved)
        ).sort("count", "token", descending=[True, False])["token"]
        if max_size is not None:
            ordered = ordered.head(max_size - len(reserved))
        return cls([*reserved, *ordered])

    @classmethod
    def from_torchtext(cls, vocab: Any) -> Vocabulary:
        """Take over a ``torchtext.vocab.Vocab``, id for id.

        Raises:
            UserError: Its specials are not ``["<pad>", "<unk>"]``, in this order and first.
        """
        return cls(vocab.get_itos())

    @classmethod
    def load(cls, path: str | Path) -> Vocabulary:
        """Read what `save` wrote.

        Raises:
            UserError: The file is missing, is not a vocabulary or has more than 256 MiB.
        """
        path = as_path(path)
        try:
            text = read_file(path, _LARGEST).decode("utf-8-sig")
            return cls(text.replace("\r\n", "\n").split("\n"))
        except FileNotFoundError as error:
            raise UserError(f"{path.parent} has no {path.name}") from error
        except UnicodeDecodeError as error:
            raise UserError(f"{path}: not a vocabulary: not UTF-8") from error
        except UserError as error:
            raise UserError(f"{path}: not a vocabulary: {error}") from error

    def save(self, path: str | Path) -> None:
        """Write one token a line; a token never holds white space."""
        as_path(path).write_text("\n".join(self.tokens), "utf-8")

    def ids(self, types: Sequence[str] | pl.Series) -> NDArray[np.int32]:
        """Ids of distinct tokens; UNK for those that are not in the vocabulary.

        The word ``<pad>`` is one of these: a text that has it is not padded there.
        """
        words = self.tokens.slice(PAD + 1)
        numbered = pl.int_range(PAD + 1, len(self), dtype=pl.Int32, eager=True)
        ids: pl.Series = pl.Series("token", types, dtype=pl.String).replace_strict(
            words, numbered, default=UNK
        )
        numbers: NDArray[np.int32] = ids.to_numpy()
        return numbers

    def has_marks(self, marks: Sequence[str]) -> bool:
        """Whether these tokens are reserved: the first after the specials, in this order."""
        first = len(SPECIALS)
        return tuple(self.tokens[first : first + len(marks)]) == tuple(marks)

    def __len__(self) -> int:
        return len(self.tokens)
