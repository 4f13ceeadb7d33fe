"""Train a text classifier: a corpus or your own files in, a run folder out."""

from __future__ import annotations

import shlex
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from dlnotes.arguments import Natural, checked
from dlnotes.cli import expanded, other_command, resume_hint
from dlnotes.commands import config as config_file
from dlnotes.data.corpora import load
from dlnotes.data.dataset import load_dataset
from dlnotes.data.download import cache_folder
from dlnotes.data.readers import Source
from dlnotes.data.reading import Reading
from dlnotes.data.tables import check_writable, write_table
from dlnotes.display import tell
from dlnotes.errors import UserError
from dlnotes.files import check_different
from dlnotes.models import MODELS
from dlnotes.training import ensemble
from dlnotes.training.classifier import reading_for
from dlnotes.training.folder import check_not_of_a_run
from dlnotes.training.pretrained import WORD2VEC
from dlnotes.training.recipes import optimizer_for, settle
from dlnotes.training.settings import Training, parse_settings
from dlnotes.training.train import size_of, train_classifier


@checked
def main(
    model: str = "fasttext",
    corpus: str | None = None,
    train: tuple[Path, ...] = (),
    dev: tuple[Path, ...] = (),
    test: tuple[Path, ...] = (),
    data_dir: Path | None = None,
    out: Path | None = None,
    training: Annotated[Training, arg(name="")] = Training(),
    reading: Annotated[Reading, arg(name="")] = Reading(),
    bootstrap: bool = False,
    boost: tuple[Path, ...] = (),
    model_args: tuple[str, ...] = (),
    optimizer_args: tuple[str, ...] = (),
    device: str = "auto",
    checkpoint_every: Natural = 0,
    resume: bool = False,
    dry_run: bool = False,
    check_data: Path | None = None,
    config: Path | None = None,
) -> None:
    """Train a text classifier and measure it on the test split, once, at the end.

    Give --corpus NAME (bbc comes with the package; ag_news, imdb, trec, sst2, mr, 20ng and
    yelp_polarity are downloaded), or your own files with --train and --test: CSV, TSV, JSONL,
    fastText's __label__ format, each also packed (.gz, .bz2, .xz, .zst, .zip), Parquet, or a folder
    with a sub-folder per class.

    Args:
        model: fasttext, textcnn, textrnn, rcnn, han, seq2seq, transformer, dmn or entnet.
        corpus: Name of a corpus. Default bbc when --train is not given.
        train: Your own training documents, one or more files.
        dev: Your own dev documents; without them a part of the training documents is cut off.
        test: Your own test documents.
        data_dir: Folder of corpora, NAME/train.tsv[.gz] and so on; looked at before downloading.
        out: Run folder. Default runs/MODEL-CORPUS.
        training: How the model is trained.
        reading: How texts become documents.
        bootstrap: Draw as many training documents with replacement (bagging), by --seed.
        boost: Runs so far of a boosted ensemble, in order: draw the documents that they get wrong
            more often (boosting; see dlnotes ensemble --weights boosting).
        model_args: The model's own hyper-parameters, for example embedding_dim=100 dropout=0.3.
        optimizer_args: The optimizer's own, for example betas=0.9,0.98.
        device: auto, cpu, cuda, cuda:1 (and so on) or mps (untested).
        checkpoint_every: Updates between two checkpoints within an epoch; 0: a minute, or more
            where writing them would take more than 5 % of the time.
        resume: Go on with the run in --out, bit for bit, after an interruption.
        dry_run: Print all settings, as a run's config.yaml has them, and the size of the training;
            do not train, and write nothing.
        check_data: List documents that stand in several splits, and equal texts with different
            labels, in this file (.csv, .jsonl or .parquet).
        config: Options from a YAML file, such as a run's config.yaml; those given here win.
    """
    if bootstrap and boost:
        raise UserError("give either --bootstrap or --boost, not both")
    if corpus and train:
        raise UserError("give either --corpus or --train, not both")
    if not train and (test or dev):
        raise UserError("--test and --dev belong to --train FILE; a corpus brings its own")
    if model not in MODELS:
        with config_file.named(config):
            raise UserError(f"--model must be one of {', '.join(MODELS)}, not {model!r}")
    if train:
        name = train[0].absolute().name.split(".")[0] or "data"
        own = {"train": train, "dev": dev, "test": test}
        sources: dict[str, Source] = {split: paths for split, paths in own.items() if paths}
    else:
        name = corpus or "bbc"
        sources = dict(load(name, data_dir=data_dir, cache_dir=cache_folder()))
    out = out or Path("runs") / f"{model}-{name}"
    with config_file.named(config):
        model_settings = parse_settings(model, MODELS[model], model_args)
        optimizer = optimizer_for(training, model, out if resume else None)
        training = training.with_optimizer_args(optimizer_args, optimizer)
    if check_data:
        check_writable(check_data)
        check_not_of_a_run(check_data=check_data)
    words = (None if training.vectors is None else Path(training.vectors),)
    inputs = {"train": train, "dev": dev, "test": test, "vectors": words, "config": (config,)}
    for option, given in inputs.items():
        for each in given:
            check_different(**{option: each, "check_data": check_data})
            check_different(**{option: each, "out": out})
    # As they are seen from any folder: a run and its repeat have the same settings.
    training = replace(training, vectors=_absolute(training.vectors))
    boost = tuple(run.absolute() for run in boost)
    seed = training.seed
    reading = reading_for(model, reading, seed)
    cache = None if dry_run else cache_folder() / "tokens"
    dataset = load_dataset(sources, reading, name=name, cache_dir=cache)
    duplicates = dataset.duplicates(test=check_data is not None)
    if found := duplicates.summary():
        hint = f"see {check_data}" if check_data else "--check-data FILE lists them"
        print(f"note: {found} ({hint})", file=sys.stderr)
    with config_file.named(config):
        settled = settle(training, model, model_settings, dataset, resumed=out if resume else None)
    training, model_settings, dataset = settled.said, settled.model_settings, settled.dataset
    if not resume:
        tell(settled.description(model))
    if boost:
        members = ensemble.load_members(boost, sources, cache_dir=cache)
        split_by = ensemble.dev_split(asdict(reading) | {"seed": seed}, dataset.fingerprints)
        dataset = ensemble.boost(dataset, members, split_by, seed)
    elif bootstrap:
        dataset = ensemble.bootstrap(dataset, seed)
    files = {"train": train, "dev": dev, "test": test}
    options = {
        "model": model,
        "corpus": None if train else name,
        **{split: [path.absolute() for path in paths] for split, paths in files.items()},
        "data_dir": data_dir and data_dir.absolute(),
        "model_settings": model_settings,
        **asdict(training),
        **asdict(reading),
        "min_freq": dataset.reading.min_freq,
        "max_tokens": dataset.reading.max_tokens,
        "bootstrap": bootstrap,
        "boost": boost,
        "device": device,
        "checkpoint_every": checkpoint_every,
    }
    if dry_run:
        size = size_of(dataset, model, training, model_settings)
        print(config_file.as_text(options), end="")
        print("".join(f"# {name}: {number:,}\n" for name, number in size.items()), end="")
        return
    with (
        resume_hint(out),
        config_file.named(config),
        config_file.begun_run(out, options, resume),
    ):
        if check_data:
            write_table(check_data, [duplicates.table()])
        _, record = train_classifier(
            dataset,
            model,
            training,
            model_settings=model_settings,
            out=out,
            device=device,
            checkpoint_every=checkpoint_every,
            resume=resume,
        )
    if resume:  # maybe with other test documents than it began with
        config_file.write_options(out, options)
    for split in ("dev", "test"):
        if split in record:
            figures = record[split]
            print(
                f"{split:4}  accuracy {figures['accuracy']:.4f}  macro-F1 {figures['macro_f1']:.4f}"
                f"  ({record['documents'][split]:,} documents)"
            )
    if not check_data and dataset.has_test:
        shared = dataset.duplicates(test=True).shared["test"]
        if shared:
            print(f"note: {shared:,} test documents occur in train or dev, too", file=sys.stderr)
    print(f"{record['seconds']:.1f} s, {record['documents_per_second']:,.0f} documents/s → {out}")
    where = f"./{out}" if str(out).startswith("-") else str(out)
    predict = f"{other_command('predict')} {shlex.quote(where)}"
    print(f'Classify your own text:  {predict} "some text"')


def _absolute(vectors: str | Path | None) -> str | None:
    """The file of word vectors, from any folder."""
    if vectors is None:
        return None
    return str(vectors if vectors == WORD2VEC else expanded(vectors).absolute())
