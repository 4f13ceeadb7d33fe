"""Parallel text: two files whose lines are translations of one another.

Multi30k (Elliott et al. 2016, https://arxiv.org/abs/1605.00459) comes in this form, with a pair of
files per split: ``train.de`` and ``train.en``, ``val.de`` … ``test2016.en``, plain or compressed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from dlnotes.arguments import checked
from dlnotes.data.documents import Batch, Documents
from dlnotes.data.reading import PairReading
from dlnotes.data.streams import COMPRESSED, read_text
from dlnotes.data.tokenized import TokenizedTexts, tokenize_texts
from dlnotes.data.vocabulary import PAD, SPECIALS, Vocabulary
from dlnotes.deprecation import keep_old_names
from dlnotes.errors import UserError
from dlnotes.files import sha256_of

BEGIN, END = 2, 3
"""Token ids of the marks that begin and end a target."""
TARGET_MARKS = ("<s>", "</s>")
"""These marks."""


class Pairs:
    """Sentences and their translations, numbered by two vocabularies.

    Args:
        source: The sentences.
        target: Their translations, one each.
        source_vocabulary: Gives every token of a sentence its id.
        target_vocabulary: Gives every token of a translation its id; has BEGIN and END.
        max_tokens: Sentences and translations are cut to this many tokens.

    Raises:
        UserError: There are not as many translations as sentences; `max_tokens` is below 1.
    """

    def __init__(
        self,
        source: TokenizedTexts,
        target: TokenizedTexts,
        source_vocabulary: Vocabulary,
        target_vocabulary: Vocabulary,
        *,
        max_tokens: int | None = None,
    ) -> None:
        if len(source) != len(target):
            raise UserError(f"{len(source)} sentences have {len(target)} translations")
        self._source = Documents(source, source_vocabulary, None, max_tokens=max_tokens)
        self._target = Documents(target, target_vocabulary, None, max_tokens=max_tokens)
        self.lengths: NDArray[np.int64] = self._source.lengths

    def __len__(self) -> int:
        return len(self._source)

    def batch(self, indices: NDArray[np.int64]) -> Batch:
        """Gather pairs: tokens, shape (b, t); labels BEGIN, translation, END and PAD, (b, u)."""
        labels = F.pad(self._target.batch(indices).tokens, (1, 1), value=PAD)
        labels[:, 0] = BEGIN
        ends = torch.from_numpy(self._target.lengths[indices] + 1)
        labels[torch.arange(len(indices)), ends] = END
        return Batch(self._source.batch(indices).tokens, labels)


@dataclass
class ParallelText:
    """Training and dev pairs; test pairs are read only on request.

    Attributes:
        train: What the vocabularies are built on and the model learns from.
        dev: What model choice and early stopping look at.
        source_vocabulary: Ids of the source's tokens.
        target_vocabulary: Ids of the target's tokens; ``<s>`` is 2 and ``</s>`` is 3.
        tokenizer: Name of the tokenization.
        folder: Where the files are.
        languages: Their suffixes, source and target.
        described: Description of the data for the record of a run.
        fingerprints: SHA-256 of each file read so far.
    """

    train: Pairs
    dev: Pairs
    source_vocabulary: Vocabulary = field(repr=False)
    target_vocabulary: Vocabulary = field(repr=False)
    tokenizer: str
    folder: Path
    languages: tuple[str, str]
    described: dict[str, Any]
    fingerprints: dict[str, str]

    def read(self, split: str) -> tuple[list[str], list[str]]:
        """Lines of another split; the test split is read once, when training is over.

        Raises:
            UserError: What `read_pairs` raises.
        """
        files = split_files(self.folder, split, self.languages)
        return read_pairs(*files, fingerprints=self.fingerprints)


@checked
def load_pairs(
    folder: Path,
    reading: PairReading | None = None,
    *,
    tokenizer: str = "words",
    **settings: Annotated[Any, PairReading],
) -> ParallelText:
    """Read the training and dev pairs of a folder, and build both vocabularies on the former.

    Args:
        folder: Holds ``train.SOURCE``, ``train.TARGET``, ``DEV.SOURCE`` and ``DEV.TARGET``.
        reading: How to read them; default `PairReading()`.
        tokenizer: A name in `dlnotes.data.tokenization.TOKENIZERS`.
        settings: Fields of `reading` to override.

    Raises:
        UserError: Missing, unreadable or misaligned files; a setting out of range.
    """
    reading = replace(reading or PairReading(), **settings)
    languages, max_size = (reading.source, reading.target), reading.max_size
    fingerprints: dict[str, str] = {}
    texts: list[list[TokenizedTexts]] = []
    for split in ("train", reading.dev):
        files = split_files(folder, split, languages)
        sides = read_pairs(*files, fingerprints=fingerprints)
        until = reading.max_pairs if split == "train" else None
        texts.append([tokenize_texts(lines[:until], tokenizer) for lines in sides])
    source_vocabulary, target_vocabulary = (
        Vocabulary.from_counts(
            side.types, side.counts(), min_freq=reading.min_freq, max_size=max_size
        )
        for side in texts[0]
    )
    target_vocabulary = with_marks(target_vocabulary, max_size)
    train_pairs, dev_pairs = (
        Pairs(
            sides[0],
            sides[1],
            source_vocabulary,
            target_vocabulary,
            max_tokens=reading.most_tokens,
        )
        for sides in texts
    )
    return ParallelText(
        train=train_pairs,
        dev=dev_pairs,
        source_vocabulary=source_vocabulary,
        target_vocabulary=target_vocabulary,
        tokenizer=tokenizer,
        folder=folder,
        languages=languages,
        described={"languages": [*languages], "tokenizer": tokenizer, **asdict(reading)},
        fingerprints=fingerprints,
    )


def with_marks(vocabulary: Vocabulary, max_size: int | None = None) -> Vocabulary:
    """The vocabulary of a target: with ``<s>`` and ``</s>`` after the specials."""
    first = len(SPECIALS)
    words = [token for token in vocabulary.tokens[first:] if token not in TARGET_MARKS]
    if max_size is not None:
        words = words[: max(0, max_size - first - len(TARGET_MARKS))]
    return Vocabulary([*SPECIALS, *TARGET_MARKS, *words])


def split_files(folder: Path, split: str, languages: Sequence[str]) -> tuple[Path, Path]:
    """The two files of a split, compressed or not.

    Raises:
        UserError: A file is missing.
    """
    found = []
    for language in languages:
        plain = folder / f"{split}.{language}"
        names = (plain, *(Path(f"{plain}{suffix}") for suffix in COMPRESSED))
        file = next((f for f in names if f.is_file()), None)
        if file is None:
            raise UserError(
                f"{folder} has no {plain.name}, compressed or not; "
                "give a folder with train, val and test2016, each in two languages"
            )
        found.append(file)
    return found[0], found[1]


@checked
def read_pairs(
    source: Path, target: Path, *, fingerprints: dict[str, str] | None = None
) -> tuple[list[str], list[str]]:
    """Lines of two aligned files.

    Args:
        source: One file, plain or compressed.
        target: The other.
        fingerprints: The SHA-256 of each file is added under its name.

    Raises:
        UserError: A file that is unreadable or empty; two files with different numbers of lines.
    """
    sides = []
    for path in (source, target):
        lines, fingerprint = _lines(path)
        if fingerprints is not None:
            fingerprints[path.name] = fingerprint
        sides.append(lines)
    counts = [len(lines) for lines in sides]
    if counts[0] != counts[1]:
        raise UserError(
            f"{source} has {counts[0]:,} lines and {target} has {counts[1]:,}: "
            "line i of the one must be the translation of line i of the other"
        )
    return sides[0], sides[1]


def _lines(path: Path) -> tuple[list[str], str]:
    # Not splitlines(), for which other characters than a line feed end a line as well.
    lines = read_text(path).split("\n")
    with path.open("rb") as file:
        fingerprint = sha256_of(file)
    if lines[-1] == "":
        lines.pop()
    if not lines:
        raise UserError(f"{path} is empty")
    return [line.rstrip("\r") for line in lines], fingerprint


keep_old_names(__name__)
