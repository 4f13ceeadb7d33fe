"""How texts become documents: the one place that defines, checks and describes these settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from dlnotes.arguments import Count, Natural, OneOf, Range, Seed, Settings
from dlnotes.data.layout import Layout
from dlnotes.data.tokenization import MAX_MERGES, NAMES

MAX_TOKENS = 20_000
"""The default of `Limits.max_tokens`."""


@dataclass(frozen=True, kw_only=True)
class Limits(Settings):
    """What is left out of texts."""

    min_freq: Count = 1
    """Tokens that are rarer in the training documents become unknown."""

    max_size: Count | None = None
    """Maximum size of the vocabulary."""

    max_tokens: Natural | None = None
    """Documents are cut after this many tokens; a story keeps its question and loses the end of the
    text before it. Default: 20,000, so that one huge document does not take all memory; 0 for no
    limit."""

    @property
    def most_tokens(self) -> int | None:
        """The number of tokens that `max_tokens` stands for; None where there is no limit."""
        return MAX_TOKENS if self.max_tokens is None else self.max_tokens or None


@dataclass(frozen=True, kw_only=True)
class Reading(Limits, Layout):
    """How labelled texts become documents; see `load_dataset`."""

    min_freq: Count | None = None  # type: ignore[assignment]
    """Tokens that are rarer in the training documents become unknown. Default: what the recipe of
    the training says; 1 where there is none."""

    max_tokens: Natural | None = None
    """Documents are cut after this many tokens; a story keeps its question and loses the end of the
    text before it; 0 for no limit. Default: what the recipe of the training says; 20,000 where it
    says nothing, so that one huge document does not take all memory."""

    tokenizer: Annotated[str, OneOf(NAMES)] | None = None
    """basic_english, cased (the same without lower-casing), words (all punctuation kept),
    characters (Chinese and the like), jieba (Chinese words) or bpe (pieces of words, learned from
    the training documents). With sentence ends marked, for models that read sentences: sentences
    (basic_english), sentence_words, sentence_characters, sentence_jieba or sentence_bpe. Default:
    what suits the script of the texts: characters or sentence_characters where it has no spaces
    between words, words or sentence_words where it has spaces but no capital letters, otherwise
    basic_english or sentences."""

    merges: Annotated[int, Range(1, le=MAX_MERGES)] | None = None
    """How many merges bpe learns at most. Default: 30,000, and only of pairs that occur at least 10
    times."""

    dev_fraction: Annotated[float, Range(gt=0, lt=1)] = 0.1
    """Fraction of the training documents that become dev documents if none are given, drawn class
    by class."""

    multi_label: bool | None = None
    """Whether a text may have several labels, or none. Default: as the training documents have
    them."""

    split_seed: Seed | None = None
    """Seed of the dev split; runs with the same one can form an ensemble. Default: the seed of the
    training, or 0."""


@dataclass(frozen=True, kw_only=True)
class PairReading(Limits):
    """How parallel text becomes pairs; see `load_pairs`."""

    source: str = "de"
    """Suffix of the files to translate from."""

    target: str = "en"
    """Suffix of the files to translate to."""

    dev: str = "val"
    """Name of the dev split."""

    min_freq: Count = 2
    """Words that are rarer in the training pairs become unknown."""

    max_pairs: Count | None = None
    """Use only this many training pairs, the first ones."""
