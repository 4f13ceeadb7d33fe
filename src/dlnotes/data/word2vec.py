"""Word vectors learned from documents, without looking at their labels."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from dlnotes.arguments import Count, OneOf, Range, Settings, checked, fields_of
from dlnotes.data.corpora import UNSUP
from dlnotes.data.documents import Documents
from dlnotes.data.layout import TEXT
from dlnotes.data.readers import BLOCK_BYTES, Source, check_readable, without_labels
from dlnotes.data.streams import inner_suffix, read_lines
from dlnotes.data.tokenization import MARKS, READY, SENTENCE_END_TOKEN
from dlnotes.data.tokenized import TokenizedTexts, tokenize, tokenize_texts
from dlnotes.data.vectors import PretrainedVectors, write_vectors
from dlnotes.data.vocabulary import PAD, SPECIALS, Vocabulary
from dlnotes.errors import UserError
from dlnotes.files import check_output

_BLOCK = 512  # documents
_BLOCK_TOKENS = 1 << 22  # with padding; documents of a block with more are read one by one


@dataclass(frozen=True, kw_only=True)
class VectorLearning(Settings):
    """How word vectors are learned; see `learn_vectors`."""

    dimensions: Count = 300
    """Length of a vector."""

    epochs: Count = 8
    """Passes over the texts."""

    seed: Annotated[int, Range(0, lt=2**32)] = 0
    """Seed of the initial vectors and of the samples."""


@dataclass(frozen=True, kw_only=True)
class TextLearning(VectorLearning):
    """How word vectors are learned from raw text; see `learn_from`."""

    tokenizer: Annotated[str, OneOf(READY)] = "basic_english"
    """How texts become tokens: use that of the classifier that will start from the vectors."""

    min_freq: Count = 5
    """Rarer words get no vector."""


@checked
def learn_vectors(
    documents: Documents,
    vocabulary: Vocabulary,
    learning: VectorLearning | None = None,
    *,
    on_epoch: Callable[[int], None] | None = None,
    **settings: Annotated[Any, VectorLearning],
) -> PretrainedVectors:
    r"""Learn vectors that predict the neighbours of a word (Mikolov et al. 2013).

    Skip-gram with negative sampling (https://arxiv.org/abs/1310.4546), computed by the package
    gensim: for a word w and a neighbour c, at most five words away in the same sentence, it
    maximises

    .. math::
        \log σ(u_c^\top v_w) + \sum_{i=1}^{5} \log σ(-u_{n_i}^\top v_w), \qquad
        n_i \sim \text{frequency}^{3/4}

    and returns v. It uses one thread, so that the seed determines the result: IMDB's 6.8 million
    tokens take 2 to 3 minutes.

    Args:
        documents: What to learn from; without marks of sentence ends, a document is one sentence.
        vocabulary: The vocabulary that numbers their tokens.
        learning: How to learn them; default `VectorLearning()`.
        on_epoch: Called after each pass with the number of passes done.
        settings: Fields of `learning` to override.

    Returns:
        A vector for each token that occurs, including the unknown word.

    Raises:
        UserError: gensim is not installed, no document has a token, or the vectors are not finite.
    """
    learning = replace(learning or VectorLearning(), **settings)
    word2vec, callback = _gensim()
    passes = count(1)
    report = {"on_epoch_end": lambda *_: on_epoch(next(passes)) if on_epoch else None}
    # If it is not reserved as a mark, it is a word like any other.
    marked = vocabulary.has_marks(MARKS["sentences"])
    end = vocabulary.tokens.index_of(SENTENCE_END_TOKEN) if marked else None
    with TemporaryDirectory() as folder:
        # Ids rather than words: words may contain what gensim treats as white space.
        path = Path(folder) / "sentences.txt"
        with path.open("w", encoding="ascii") as file:
            file.writelines(" ".join(map(str, s)) + "\n" for s in _sentences(documents, end))
        if not path.stat().st_size:
            raise UserError("no word vectors can be learned: the training documents have no token")
        model = word2vec(
            corpus_file=str(path),
            vector_size=learning.dimensions,
            sg=1,
            negative=5,
            window=5,
            sample=1e-4,
            min_count=1,  # the vocabulary has been cut already
            epochs=learning.epochs,
            workers=1,
            seed=learning.seed,
            callbacks=[type("Report", (callback,), report)()],
        )
    ids = np.array([int(word) for word in model.wv.index_to_key], np.int64)
    order = ids.argsort()
    rows = model.wv.vectors[order].astype(np.float32)
    if not np.isfinite(rows).all():
        raise UserError(
            f"word2vec's vectors are not finite after {learning.epochs} passes: the training has "
            "diverged; try another --seed or fewer --epochs"
        )
    return PretrainedVectors(ids[order], rows)


@checked
def learn_from(
    sources: Sequence[Source],
    out: Path,
    learning: TextLearning | None = None,
    *,
    cache_dir: Path | None = None,
    on_epoch: Callable[[int], None] | None = None,
    **settings: Annotated[Any, TextLearning],
) -> int:
    """Learn vectors from several sources of text together and write a file of them.

    Args:
        sources: Files, folders, data frames or iterables, as for `read`; their labels are ignored.
            A ``.txt`` or ``.txt.gz`` file has one text per line and needs no labels.
        out: The file, in word2vec's text format; `read_vectors` reads it.
        learning: How to learn them; default `TextLearning()`.
        cache_dir: See `dlnotes.data.tokenized.tokenize`.
        on_epoch: Called after each pass with the number of passes done.
        settings: Fields of `learning` to override.

    Returns:
        How many vectors the file has.

    Raises:
        UserError: What reading and `learn_vectors` raise; `out` cannot be written or is one of the
            sources; no word occurs `min_freq` times.
    """
    learning = replace(learning or TextLearning(), **settings)
    _gensim()  # now, rather than when all is read
    check_output(out)
    for source in sources:
        if isinstance(source, Path) and source.resolve() == out.resolve():
            raise UserError(f"out is {out}, which is one of the texts: give another file")
    texts = [_tokenized(source, learning.tokenizer, cache_dir) for source in sources]
    marks = MARKS.get(learning.tokenizer, ())
    types = pl.concat([part.types for part in texts])
    vocabulary = Vocabulary.from_counts(
        types,
        np.concatenate([part.counts() for part in texts]),
        min_freq=learning.min_freq,
        marks=marks,
    )
    if len(types) and len(vocabulary) == len(SPECIALS) + len(marks):
        raise UserError(
            f"min_freq is {learning.min_freq}, but no word of the texts occurs as often: there is "
            "no vector to learn"
        )
    documents = [Documents(part, vocabulary, None) for part in texts]
    learned = learn_vectors(
        functools.reduce(lambda both, part: both.concatenate(part, vocabulary), documents),
        vocabulary,
        VectorLearning(**{name: getattr(learning, name) for name in fields_of(VectorLearning)}),
        on_epoch=on_epoch,
    )
    return write_vectors(out, vocabulary, learned)


def unlabelled(splits: Mapping[str, Source]) -> list[Source]:
    """What to learn vectors from in a corpus: the training texts and those without a label."""
    return [splits[name] for name in ("train", UNSUP) if name in splits]


def _tokenized(source: Source, tokenizer: str, cache_dir: Path | None) -> TokenizedTexts:
    if not (isinstance(source, Path) and source.is_file() and inner_suffix(source) == ".txt"):
        return tokenize(source, tokenizer, cache_dir=cache_dir)
    check_readable(source)
    blocks = [lines[TEXT] for lines in read_lines(source, BLOCK_BYTES)]
    if not blocks:
        raise UserError(f"{source} has no text")
    texts = pl.concat(blocks)
    # A file for fastText's own program has labels.
    return tokenize_texts(without_labels(texts).to_list(), tokenizer)


def _sentences(documents: Documents, end: int | None) -> Iterator[list[int]]:
    """Token ids of each sentence, or of each document where no sentence ends are marked."""
    for start in range(0, len(documents), _BLOCK):
        block = np.arange(start, min(start + _BLOCK, len(documents)))
        huge = len(block) * int(documents.lengths[block].max()) > _BLOCK_TOKENS
        for some in np.split(block, block[1:] - start) if huge else [block]:
            yield from _sentences_of(documents.batch(some).tokens.numpy(), end)


def _sentences_of(tokens: NDArray[np.int64], end: int | None) -> Iterator[list[int]]:
    for padded in tokens:
        row = padded[padded != PAD]
        ends = row == (PAD if end is None else end)
        for piece in np.split(row, np.flatnonzero(ends)):
            words = [word for word in piece.tolist() if word != end]
            if words:
                yield words


def _gensim() -> tuple[Any, Any]:
    try:
        from gensim.models import Word2Vec
        from gensim.models.callbacks import CallbackAny2Vec
    except ImportError as error:
        raise UserError(
            "word2vec needs the package gensim: pip install 'dlnotes[word2vec]'"
        ) from error
    logging.getLogger("gensim").setLevel(logging.ERROR)  # it warns of texts of a few words
    return Word2Vec, CallbackAny2Vec
