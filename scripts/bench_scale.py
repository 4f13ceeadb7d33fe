"""Text larger than memory: how memory and time of a training grow with the number of documents."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

CLASSES, VOCABULARY, OWN = 4, 1_000_000, 100
SHORTEST, LONGEST = 20, 60  # words of a document
_BLOCK = 1 << 17  # documents that are made at once
_CONSONANTS, _VOWELS = "bcdfghjklmnprstvwxyz", "aeiou"


def word(rank: int) -> str:
    """A word of one to three syllables; the frequent ones, of low rank, are short."""
    letters = ""
    while True:
        rank, syllable = divmod(rank, 100)
        letters += _CONSONANTS[syllable // 5] + _VOWELS[syllable % 5]
        if not rank:
            return letters
        rank -= 1


def write_corpus(path: Path, documents: int, seed: int = 0) -> None:
    r"""Write a corpus that can be learned, a line ``label<TAB>text`` per document.

    Ranks of words are log-uniform, :math:`P(r) \propto 1 / r` (Zipf). A tenth of a document's words
    are drawn from those of its class.
    """
    rng = np.random.default_rng(seed)
    words = pl.Series([word(rank) for rank in range(VOCABULARY)])
    with path.open("wb") as file:
        for start in range(0, documents, _BLOCK):
            n = min(_BLOCK, documents - start)
            labels = rng.integers(CLASSES, size=n)
            lengths = rng.integers(SHORTEST, LONGEST, size=n, endpoint=True)
            ranks = np.exp(rng.random(lengths.sum()) * np.log(VOCABULARY)).astype(np.int64) - 1
            own = rng.random(len(ranks)) < 0.1
            first = OWN * (1 + np.repeat(labels, lengths)[own])
            ranks[own] = first + ranks[own] % OWN
            texts = (
                pl.DataFrame({"row": np.repeat(np.arange(n), lengths), "word": words.gather(ranks)})
                .group_by("row", maintain_order=True)
                .agg(pl.col("word").str.join(" "))["word"]
            )
            pl.DataFrame({"label": labels, "text": texts}).write_csv(
                file, separator="\t", include_header=False, quote_style="never"
            )
