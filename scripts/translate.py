"""Train a translator on parallel text, translate with it, measure it by BLEU."""

from __future__ import annotations

import itertools
import json
import shlex
import sys
from pathlib import Path
from typing import Any

from dlnotes.arguments import Count, Natural, NotNegative, Positive, Seed, Share, checked
from dlnotes.cli import lines as lines_of
from dlnotes.cli import run as run_script
from dlnotes.data.pairs import load_pairs, read_pairs, split_files
from dlnotes.errors import UserError
from dlnotes.models import TRANSLATORS
from dlnotes.optim import OPTIMIZERS
from dlnotes.training.fit import Interrupted
from dlnotes.training.train import choose_device, parse_settings
from dlnotes.training.translation import Translator, bleu, train_translator


@checked
def train(
    data_dir: Path,
    source: str = "de",
    target: str = "en",
    dev: str = "val",
    test: str | None = "test2016",
    model: str = "seq2seq",
    out: Path | None = None,
    optimizer: str = "adam",
    lr: NotNegative = 1e-3,
    epochs: Count = 10,
    batch_size: Count = 128,
    seed: Seed = 0,
    device: str = "auto",
    amp: bool = False,
    schedule: str = "constant",
    warmup: Share = 0.0,
    clip_norm: Positive | None = 1.0,
    label_smoothing: Share = 0.0,
    patience: Count | None = None,
    min_freq: Count = 2,
    max_size: Count | None = None,
    max_tokens: Count | None = None,
    max_pairs: Count | None = None,
    beam: Count = 5,
    length_penalty: float = 0.6,
    model_args: tuple[str, ...] = (),
    optimizer_args: tuple[str, ...] = (),
    checkpoint_every: Natural = 200,
    resume: bool = False,
) -> None:
    """Train a translator and measure it on the test split, once, at the end.

    The folder holds aligned files, a pair a split, each also .gz: Multi30k's train.de, train.en,
    val.de, val.en, test2016.de and test2016.en, or yours. Texts are lower-cased and cut into words,
    numbers and single other characters.

    Args:
        data_dir: Folder with the files.
        source: Suffix of the files to translate from.
        target: Suffix of the files to translate to.
        dev: Name of the dev split.
        test: Name of the test split; None for no test.
        model: Which model: seq2seq, transformer.
        out: Run folder. Default runs/MODEL-SOURCE-TARGET.
        optimizer: Which of our optimizers.
        lr: Learning rate.
        epochs: Passes over the training pairs, at most.
        batch_size: Pairs an update.
        seed: Decides initial weights, dropout and the pairs' order.
        device: auto, cpu or cuda.
        amp: Compute in bf16 autocast.
        schedule: Learning rate over the steps, by name.
        warmup: Share of the steps in which the learning rate rises.
        clip_norm: Scale the gradients down to this total norm; None for never.
        label_smoothing: Share of the target that is spread over all words.
        patience: Stop after so many epochs without a better one on dev.
        min_freq: Words that are rarer in the training pairs become unknown.
        max_size: Size of each vocabulary at most.
        max_tokens: Longer sentences are read up to here.
        max_pairs: Only so many training pairs, the first.
        beam: Hypotheses kept when the test split is translated; 1 is greedy.
        length_penalty: More favours longer translations.
        model_args: The model's own hyper-parameters, for example hidden_size=256 dropout=0.3.
        optimizer_args: The optimizer's own, for example betas=0.9,0.98.
        checkpoint_every: Updates between two checkpoints; 0: only at the end.
        resume: Go on with the run in --out, bit for bit, after an interruption.
    """
    for kind, name, known in (("model", model, TRANSLATORS), ("optimizer", optimizer, OPTIMIZERS)):
        if name not in known:
            raise UserError(f"--{kind} must be one of {', '.join(known)}, not {name!r}")
    out = out or Path("runs") / f"{model}-{source}-{target}"
    reading: dict[str, Any] = {
        "min_freq": min_freq,
        "max_size": max_size,
        "max_tokens": max_tokens,
        "max_pairs": max_pairs,
    }
    model_settings = parse_settings(model, TRANSLATORS[model], model_args)
    optimizer_settings = parse_settings(optimizer, OPTIMIZERS[optimizer], optimizer_args)
    if test:
        split_files(data_dir, test, (source, target))  # now, rather than when training is over
    data = load_pairs(data_dir, source=source, target=target, dev=dev, **reading)
    try:
        _, record = train_translator(
            data,
            out,
            model=model,
            model_settings=model_settings,
            optimizer=optimizer,
            lr=lr,
            optimizer_settings=optimizer_settings,
            epochs=epochs,
            batch_size=batch_size,
            seed=seed,
            device=device,
            amp=amp,
            schedule=schedule,
            warmup=warmup,
            clip_norm=clip_norm,
            label_smoothing=label_smoothing,
            patience=patience,
            test=test,
            beam=beam,
            length_penalty=length_penalty,
            checkpoint_every=checkpoint_every,
            resume=resume,
            tokenizer=data.tokenizer,
            languages=[source, target],
            **reading,
        )
    except Interrupted:
        again = [a for a in sys.argv if a != "--resume"] + ["--resume"]
        print(f"Stopped and saved. Go on with:\n  python {shlex.join(again)}", file=sys.stderr)
        sys.exit(130)
    figures = record["dev"]
    print(
        f"dev   perplexity {figures['perplexity']:.2f}  token accuracy {figures['accuracy']:.4f}"
        f"  ({record['pairs']['dev']:,} pairs)"
    )
    if test:
        _print(test, record["test"], record["test"]["pairs"])
    print(f"{record['seconds']:.1f} s, {record['pairs_per_second']:,.0f} pairs/s → {out}")


def translate(
    run: Path,
    texts: tuple[str, ...] = (),
    /,
    file: Path | None = None,
    beam: int = 5,
    max_length: int = 100,
    length_penalty: float = 0.6,
    device: str = "auto",
) -> None:
    """Print the translation of each text, a line each.

    Args:
        run: Folder that `train` wrote.
        texts: Texts to translate. Without any (and without --file), lines of standard input.
        file: Translate the lines of this file.
        beam: Hypotheses kept; 1 is greedy.
        max_length: Tokens of a translation at most.
        length_penalty: More favours longer translations.
        device: auto, cpu or cuda.
    """
    if texts and file:
        raise UserError("give texts or --file, not both")
    translator = Translator.load(run, choose_device(device))
    lines = iter(texts) if texts else lines_of(file)
    while batch := list(itertools.islice(lines, 256)):
        for text in translator.translate(
            batch, beam=beam, max_length=max_length, length_penalty=length_penalty
        ):
            print(text, flush=True)


def score(
    run: Path,
    /,
    source: Path,
    reference: Path,
    beam: int = 5,
    length_penalty: float = 0.6,
    device: str = "auto",
    json_file: Path | None = None,
) -> None:
    """Translate a file and measure the translations by BLEU.

    Args:
        run: Folder that `train` wrote.
        source: File to translate, plain or .gz.
        reference: Its true translation, line by line.
        beam: Hypotheses kept; 1 is greedy.
        length_penalty: More favours longer translations.
        device: auto, cpu or cuda.
        json_file: Write the figures here, too.
    """
    texts, references = read_pairs(source, reference)
    translator = Translator.load(run, choose_device(device))
    written = translator.write(texts, beam=beam, length_penalty=length_penalty)
    figures = bleu(written, references, translator.tokenizer)
    _print("BLEU", figures, len(texts))
    if json_file:
        try:
            json_file.write_text(json.dumps(figures, indent=1) + "\n", "utf-8")
        except OSError as error:
            raise UserError(f"cannot write {json_file}: {error.strerror}") from error


def _print(name: str, figures: dict[str, Any], pairs: int) -> None:
    for kind in ("detokenized", "tokenized"):
        measured = figures[kind]
        print(f"{name:8}  BLEU {measured['bleu']:.2f}  {kind}, {measured['signature']}")
    print(f"          ({pairs:,} pairs)")


if __name__ == "__main__":
    run_script({"train": train, "translate": translate, "score": score})
