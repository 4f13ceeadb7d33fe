"""Train a translator on parallel text, translate with it, measure it by BLEU."""

from __future__ import annotations

import itertools
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import arg

from dlnotes.arguments import Natural, checked
from dlnotes.cli import lines as lines_of
from dlnotes.cli import resume_hint
from dlnotes.commands import config as config_file
from dlnotes.data.pairs import load_pairs, read_pairs, split_files
from dlnotes.data.reading import PairReading
from dlnotes.display import printable
from dlnotes.errors import UserError
from dlnotes.files import check_different, check_output, write_json
from dlnotes.models import TRANSLATORS
from dlnotes.training import distributed
from dlnotes.training.device import choose_device
from dlnotes.training.folder import check_not_of_a_run, is_restarted
from dlnotes.training.settings import TranslatorTraining, parse_settings
from dlnotes.training.translation import Translator, bleu, train_translator


@checked
@distributed.process_group_of_command()
def train(
    data_dir: Path,
    test: str | None = "test2016",
    model: str = "seq2seq",
    out: Path | None = None,
    reading: Annotated[PairReading, arg(name="")] = PairReading(),
    training: Annotated[TranslatorTraining, arg(name="")] = TranslatorTraining(),
    model_args: tuple[str, ...] = (),
    optimizer_args: tuple[str, ...] = (),
    device: str = "auto",
    checkpoint_every: Natural = 0,
    resume: bool = False,
    config: Path | None = None,
) -> None:
    """Train a translator and measure it on the test split, once, at the end.

    The folder holds two aligned files per split, which may be compressed: Multi30k's train.de,
    train.en, val.de, val.en, test2016.de and test2016.en, or your own. Texts are lower-cased and
    cut into words, numbers and single other characters.

    Args:
        data_dir: Folder with the files.
        test: Name of the test split; None for no test.
        model: Which model: seq2seq, transformer.
        out: Run folder. Default runs/MODEL-SOURCE-TARGET.
        reading: How texts become pairs.
        training: How the model is trained.
        model_args: The model's own hyper-parameters, for example hidden_size=256 dropout=0.3.
        optimizer_args: The optimizer's own hyper-parameters, for example betas=0.9,0.98.
        device: auto, cpu, cuda, cuda:1 (and so on) or mps (untested).
        checkpoint_every: Updates between two checkpoints within an epoch. 0: one checkpoint every
            minute, or less often if writing them would take more than 5 % of the time.
        resume: Continue the interrupted run in --out, with the same result bit for bit.
        config: Options from a YAML file, such as a run's config.yaml; those on the command line
            take precedence.
    """
    if model not in TRANSLATORS:
        with config_file.naming_config_file(config):
            raise UserError(f"--model must be one of {', '.join(TRANSLATORS)}, not {model!r}")
    out = out or Path("runs") / f"{model}-{reading.source}-{reading.target}"
    group = distributed.current()
    resume = group.on_first(partial(is_restarted, out)) or resume
    with config_file.naming_config_file(config):
        model_settings = parse_settings(model, TRANSLATORS[model], model_args)
        training = training.with_optimizer_args(optimizer_args)
    if test:  # now, rather than when training is over
        split_files(data_dir, test, (reading.source, reading.target))
    data = load_pairs(data_dir, reading)
    options = {
        "data_dir": data_dir.absolute(),
        "test": test,
        "model": model,
        "model_settings": model_settings,
        **asdict(training),
        **asdict(reading),
        "device": device,
        "checkpoint_every": checkpoint_every,
    }
    with (
        resume_hint(out),
        config_file.naming_config_file(config),
        config_file.run_folder_with_options(out, options, resume),
    ):
        _, record = train_translator(
            data,
            model,
            training,
            out=out,
            model_settings=model_settings,
            test=test,
            device=device,
            checkpoint_every=checkpoint_every,
            resume=resume,
        )
    if not group.is_first:
        return
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
    """Print the translation of each text on a line of its own.

    Args:
        run: Folder that dlnotes translate train wrote.
        texts: Texts to translate. Without texts or --file, the lines of standard input.
        file: Translate the lines of this file.
        beam: Beam width, the number of hypotheses that are kept; 1 is greedy search.
        max_length: Maximum number of tokens in a translation.
        length_penalty: Larger values favour longer translations.
        device: auto, cpu, cuda, cuda:1 (and so on) or mps (untested).
    """
    if texts and file:
        raise UserError("give texts or --file, not both")
    translator = Translator.load(run, choose_device(device))
    lines = iter(texts) if texts else lines_of(file)
    while batch := list(itertools.islice(lines, 256)):
        for text in translator.translate(
            batch, beam=beam, max_length=max_length, length_penalty=length_penalty
        ):
            print(printable(text), flush=True)


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
        run: Folder that dlnotes translate train wrote.
        source: File to translate; it may be compressed.
        reference: File with the reference translation, line by line.
        beam: Beam width, the number of hypotheses that are kept; 1 is greedy search.
        length_penalty: Larger values favour longer translations.
        device: auto, cpu, cuda, cuda:1 (and so on) or mps (untested).
        json_file: Also write the figures to this file.
    """
    if json_file:
        check_output(json_file)
        check_not_of_a_run(json_file=json_file)
    check_different(source=source, reference=reference, json_file=json_file)
    texts, references = read_pairs(source, reference)
    translator = Translator.load(run, choose_device(device))
    written = translator.write(texts, beam=beam, length_penalty=length_penalty)
    figures = bleu(written, references, translator.tokenizer)
    if json_file:
        write_json(json_file, figures)
    _print("BLEU", figures, len(texts))


def _print(name: str, figures: dict[str, Any], pairs: int) -> None:
    for kind in ("detokenized", "tokenized"):
        measured = figures[kind]
        print(f"{name:8}  BLEU {measured['bleu']:.2f}  {kind}, {measured['signature']}")
    print(f"          ({pairs:,} pairs)")


main = {"train": train, "translate": translate, "score": score}
