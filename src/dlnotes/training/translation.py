"""Translators: trained from parallel text, kept in a folder, measured by BLEU."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from dlnotes.arguments import Count, Natural, OneOf, Range, check_fields, checked, plain
from dlnotes.data.batches import by_length
from dlnotes.data.columns import as_texts
from dlnotes.data.documents import Documents
from dlnotes.data.pairs import TARGET_MARKS, ParallelText
from dlnotes.data.tokenization import TOKENIZERS, detokenize
from dlnotes.data.tokenized import tokenize_texts
from dlnotes.data.vocabulary import PAD, UNK, Vocabulary
from dlnotes.errors import UserError
from dlnotes.files import (
    as_path,
    json_writer,
    make_folder,
    read_json,
    write_text,
    write_together,
)
from dlnotes.models import TRANSLATORS
from dlnotes.nn.decoding import END, Decodable, DecoderState, beam_search
from dlnotes.training import distributed, objectives
from dlnotes.training.classifier import listed_as_tuples, make_model
from dlnotes.training.device import choose_device
from dlnotes.training.folder import CONFIG, TRANSLATOR, VOCABULARIES, WEIGHTS
from dlnotes.training.run import Run
from dlnotes.training.settings import TranslatorTraining
from dlnotes.training.weights import digest_of, max_vocabulary_size, weights_writer, with_weights

_FORMAT = "dlnotes translator 1"
_NOT_ONE = "is not a trained translator of dlnotes"
_FIELDS = {
    "model": Annotated[str, OneOf(TRANSLATORS)],
    "hyper_parameters": Mapping[str, Any],
    "tokenizer": Annotated[str, OneOf(TOKENIZERS)],
}

# Padded source tokens in a batch of sentences to translate, not counting beams.
_BATCH_TOKENS = 1 << 10


@dataclass
class _KnownWords:
    """A model that never writes the unknown word, which does not translate anything."""

    model: Decodable

    def start(self, source: Tensor) -> DecoderState:
        return self.model.start(source)

    def advance(self, last: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState]:
        logits, state = self.model.advance(last, state)
        logits = logits.clone()
        logits[:, UNK] = -torch.inf
        return logits, state


@dataclass
class Translator:
    """A model with everything that it needs to translate raw text.

    Attributes:
        model: The network.
        model_name: Its name in `TRANSLATORS`.
        hyper_parameters: Keyword arguments that the model was created with, except the sizes.
        source_vocabulary: Ids of the source's tokens.
        target_vocabulary: Ids of the target's tokens.
        tokenizer: Name of the tokenization.
        device: Where the model is.
    """

    model: nn.Module = field(repr=False)
    model_name: str
    hyper_parameters: dict[str, Any]
    source_vocabulary: Vocabulary = field(repr=False)
    target_vocabulary: Vocabulary = field(repr=False)
    tokenizer: str = "words"
    device: torch.device = torch.device("cpu")  # noqa: RUF009 -- a device is immutable

    @classmethod
    def create(
        cls,
        model_name: str,
        hyper_parameters: Mapping[str, Any],
        source_vocabulary: Vocabulary,
        target_vocabulary: Vocabulary,
        tokenizer: str = "words",
    ) -> Translator:
        """Create an untrained translator.

        Raises:
            UserError: The model is unknown or refuses a hyper-parameter.
        """
        if model_name not in TRANSLATORS:
            raise UserError(f"model must be one of {', '.join(TRANSLATORS)}, not {model_name!r}")
        sizes = {
            "source_vocabulary_size": len(source_vocabulary),
            "target_vocabulary_size": len(target_vocabulary),
        }
        model = make_model(model_name, TRANSLATORS[model_name], sizes, hyper_parameters)
        vocabularies = source_vocabulary, target_vocabulary
        return cls(model, model_name, dict(hyper_parameters), *vocabularies, tokenizer)

    def to(self, device: torch.device | str) -> Translator:
        """Move the model to a device, see `choose_device`."""
        self.device = choose_device(device)
        self.model.to(self.device)
        return self

    def save(self, folder: str | Path) -> None:
        """Write the translator's four files into `folder`, which is created if needed.

        Raises:
            UserError: The folder cannot be written to.
        """
        folder = as_path(folder, "folder")
        make_folder(folder, advice="")
        vocabularies = self.source_vocabulary, self.target_vocabulary
        config = {
            "format": _FORMAT,
            "model": self.model_name,
            "hyper_parameters": self.hyper_parameters,
            "tokenizer": self.tokenizer,
        }
        tokens = [vocabulary.tokens.to_list() for vocabulary in vocabularies]
        belongs_to = digest_of(config, _FIELDS, *tokens)
        paths = [folder / name for name in VOCABULARIES]
        write_together(
            {
                folder / WEIGHTS: weights_writer(self.model, folder, belongs_to),
                **{path: each.save for path, each in zip(paths, vocabularies, strict=True)},
                folder / CONFIG: json_writer(config),
            }
        )

    @classmethod
    def load(cls, folder: str | Path, device: torch.device | str = "cpu") -> Translator:
        """Read what `save` wrote.

        Args:
            folder: The translator's folder, or a run's, which contains it.
            device: Where to put the model, see `choose_device`.

        Raises:
            UserError: `folder` is not a translator, one of its files is damaged, or its files do
                not belong together; the device is not available.
        """
        folder, where = as_path(folder, "folder"), choose_device(device)
        if os.path.isdir(folder / TRANSLATOR):  # noqa: PTH112 -- False where it may not be asked
            folder = folder / TRANSLATOR
        config = read_json(folder / CONFIG, _NOT_ONE)
        if not isinstance(config, dict) or config.get("format") != _FORMAT:
            raise UserError(f"{folder / CONFIG} does not say {_FORMAT!r}: {folder} {_NOT_ONE}")
        check_fields(folder / CONFIG, config, _FIELDS)
        most = max_vocabulary_size(folder)
        source, target = (Vocabulary.load(folder / name, most) for name in VOCABULARIES)
        if not target.has_marks(TARGET_MARKS):
            raise UserError(f"{folder / VOCABULARIES[1]}: {TARGET_MARKS} must follow the specials")

        def make() -> Translator:
            try:
                return cls.create(
                    config["model"],
                    listed_as_tuples(config["hyper_parameters"]),
                    source,
                    target,
                    config["tokenizer"],
                )
            except UserError as error:
                raise UserError(f"{folder / CONFIG}: {error}") from error

        what = f"a {config['model']} of {len(source):,} and {len(target):,} tokens"
        tokens = [vocabulary.tokens.to_list() for vocabulary in (source, target)]
        belongs_to = digest_of(config, _FIELDS, *tokens)
        return with_weights(make, folder, what, belongs_to).to(where)

    @checked
    def write(
        self,
        texts: Any,
        *,
        beam: Annotated[int, Range(1, lt=1_001)] = 5,
        max_length: Count = 100,
        length_penalty: float = 0.6,
    ) -> list[list[str]]:
        """Translate raw texts into tokens, none of which is the unknown word.

        Args:
            texts: n sentences: a list, a tuple, a generator, an array or a column of a data frame.
            beam: See `beam_search`; 1 is greedy. At most 1,000.
            max_length: Maximum number of tokens; also limited to twice the longest source in the
                batch, plus 10.
            length_penalty: See `beam_search`.

        Raises:
            UserError: `texts` is a single string, or one of its items is not a string; `beam` or
                `max_length` is out of range.
        """
        texts = as_texts(texts)
        if not texts:
            return []
        tokenized = tokenize_texts(texts, self.tokenizer)
        documents = Documents(tokenized, self.source_vocabulary, None)
        words = self.target_vocabulary.tokens.to_list()
        results: list[list[str]] = [[] for _ in texts]
        self.model.eval()
        writer = _KnownWords(cast(Decodable, self.model))
        with torch.inference_mode():
            for indices in by_length(documents.lengths, _BATCH_TOKENS):
                source = documents.batch(indices).tokens.to(self.device)
                longest = min(max_length, 2 * source.shape[1] + 10)
                ids, _ = beam_search(
                    writer,
                    source,
                    beam=beam,
                    max_length=longest,
                    length_penalty=length_penalty,
                )
                for i, row in zip(indices, ids.tolist(), strict=True):
                    results[i] = [words[word] for word in row if word not in (PAD, END)]
        return results

    def translate(self, texts: Any, **search: Any) -> list[str]:
        """Translate raw texts; for arguments and errors see `write`.

        Returns:
            Texts in lower case, which consist of words in the vocabulary. The translation of an
            empty text is empty.
        """
        texts = as_texts(texts)
        written = self.write(texts, **search)
        return [
            detokenize(tokens) if text.strip() else ""
            for text, tokens in zip(texts, written, strict=True)
        ]


def bleu(
    written: Sequence[Sequence[str]], references: Sequence[str], tokenizer: str = "words"
) -> dict[str, Any]:
    r"""BLEU of translations (Papineni et al. 2002, https://aclanthology.org/P02-1040) by sacrebleu.

    There are two figures, each with sacrebleu's signature, which describes how it was computed:

    - ``detokenized`` compares the detokenized translations with the raw references, both in lower
      case and tokenized by sacrebleu's ``13a``. It is comparable with other work that reports the
      same signature.
    - ``tokenized`` compares lower-cased tokens, both by our tokenization, as in notebooks and older
      papers.

    Args:
        written: Tokens of each translation.
        references: The true translations, as raw text.
        tokenizer: Name of the translations' tokenization.

    Raises:
        UserError: sacrebleu is not installed.
    """
    metric = _sacrebleu()
    tokens = tokenize_texts(references, tokenizer)
    types = tokens.types.gather(tokens.tokens).to_list()
    cuts = tokens.offsets.tolist()
    cut = [" ".join(types[a:b]) for a, b in itertools.pairwise(cuts)]
    result = {}
    for name, how, translations, truths in (
        ("detokenized", "13a", [detokenize(t) for t in written], list(references)),
        ("tokenized", "none", [" ".join(t) for t in written], cut),
    ):
        # force suppresses sacrebleu's warning of tokenized input, which is intended here.
        measure = metric(lowercase=True, tokenize=how, force=True)
        score = measure.corpus_score(translations, [truths])
        result[name] = {
            "bleu": score.score,
            "signature": str(measure.get_signature()),
            "brevity_penalty": score.bp,
            "precisions": list(score.precisions),
        }
    return result


def _sacrebleu() -> Any:
    try:
        from sacrebleu.metrics.bleu import BLEU
    except ImportError as error:
        raise UserError(
            "BLEU needs the package sacrebleu: pip install 'dlnotes[translation]'"
        ) from error
    return BLEU


@checked
@distributed.process_group()
def train_translator(
    data: ParallelText,
    model: str = "seq2seq",
    training: TranslatorTraining | None = None,
    *,
    out: Path,
    model_settings: Mapping[str, Any] | None = None,
    test: str | None = "test2016",
    device: str = "auto",
    checkpoint_every: Natural = 0,
    resume: bool = False,
    progress: bool = True,
    **settings: Annotated[Any, TranslatorTraining],
) -> tuple[Translator, dict[str, Any]]:
    """Train, choose the best epoch on dev, then translate the test split and measure it, once.

    All processes that torchrun has started must call this with the same arguments (see
    `dlnotes.training.distributed`); only the first one writes to `out`.

    Args:
        data: The parallel text.
        model: A name in `TRANSLATORS`.
        training: How to train; default: `TranslatorTraining()`.
        out: Run folder, for the translator's folder, ``metrics.json``, ``checkpoint.pt``, the
            TensorBoard log and the translations of the test split.
        model_settings: The model's hyper-parameters where they differ from its defaults.
        test: Name of the test split; None for no test.
        device: See `choose_device`.
        checkpoint_every: See `fit`.
        resume: Resume from the checkpoint in `out`.
        progress: Show progress.
        settings: Fields of `training` to override.

    Returns:
        The trained translator and its record (the content of ``metrics.json``).

    Raises:
        UserError: Settings or files cannot be used; the training diverged (see `fit`).
        dlnotes.training.fit.Interrupted: A signal arrived; the checkpoint was written.
    """
    training = replace(training or TranslatorTraining(), **settings)
    if test:
        _sacrebleu()  # refuse now if it is missing, not after the training
    own = plain("model_settings", model_settings or {})
    all_settings = {
        "model": model,
        "model_settings": own,
        **asdict(training),
        **data.described,
        "data": dict(data.fingerprints),
    }
    with Run(
        training,
        all_settings,
        out=out,
        device=device,
        checkpoint_every=checkpoint_every,
        resume=resume,
        progress=progress,
    ) as run:
        torch.manual_seed(training.seed)
        translator = Translator.create(
            model,
            own,
            data.source_vocabulary,
            data.target_vocabulary,
            data.tokenizer,
        ).to(run.device)
        network = translator.model
        optimizer = training.make_optimizer(network.parameters())
        objective = objectives.Sequence(training.label_smoothing)
        state = run.fit(network, optimizer, objective, data.train, data.dev)
        where: dict[str, Any] = {"device": run.device, "group": run.group}
        dev = objective.evaluate(network, data.dev, amp=training.amp, **where)
        record: dict[str, Any] = {
            **run.record(network, "pairs"),
            "data": dict(data.fingerprints),
            "pairs": {"train": len(data.train), "dev": len(data.dev)},
            "vocabularies": [len(data.source_vocabulary), len(data.target_vocabulary)],
            "dev": {**dev.summary(), "perplexity": float(np.exp(dev.loss))},
        }
        if run.out:
            # Saved before the test split is opened, so that an error in it cannot lose the model.
            translator.save(run.out / TRANSLATOR)
        run.write(record)
        final = {f"dev {name}": value for name, value in record["dev"].items()}
        if test:
            search = {"beam": training.beam, "length_penalty": training.length_penalty}
            record["test"] = run.group.on_first(
                lambda: score(translator, data, test, run.out, **search)
            )
            record["data"] = dict(data.fingerprints)
            run.write(record)
            final["test BLEU"] = record["test"]["detokenized"]["bleu"]
        if run.board:
            run.board.hyper_parameters(all_settings, final, state.step + 1)
    network.eval()
    return translator, record


def score(
    translator: Translator, data: ParallelText, split: str, out: Path | None, **search: Any
) -> dict[str, Any]:
    """Translate a split and measure the translations; they are also written to `out`.

    Raises:
        UserError: The split cannot be read, or sacrebleu is missing.
    """
    texts, references = data.read(split)
    written = translator.write(texts, **search)
    if out:
        text = "".join(f"{detokenize(tokens)}\n" for tokens in written)
        path = out / f"{split}.{data.languages[1]}"
        write_text(path, text)
    figures = bleu(written, references, translator.tokenizer)
    return {"split": split, "pairs": len(texts), **search, **figures}
