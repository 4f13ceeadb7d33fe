"""Train a text classifier: a corpus or your own files in, a run folder out."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from dlnotes.arguments import Natural, checked
from dlnotes.cli import expanded, other_command, resume_hint
from dlnotes.commands import config as config_file
from dlnotes.commands.continuing import continued, tell_what_is_new
from dlnotes.commands.sources import (
    check_data_folder,
    check_leads_somewhere,
    files_of_options,
)
from dlnotes.data.corpora import label_separator, load
from dlnotes.data.dataset import load_dataset
from dlnotes.data.download import cache_folder
from dlnotes.data.readers import Source, stem_of
from dlnotes.data.reading import Reading
from dlnotes.data.tables import check_writable, write_table
from dlnotes.display import tell
from dlnotes.errors import UserError
from dlnotes.files import check_different
from dlnotes.models import MODELS
from dlnotes.training import distributed, ensemble
from dlnotes.training.calibration import describe_decision, has_trained_decision, must_choose
from dlnotes.training.classifier import reading_for, reads_sentences
from dlnotes.training.device import choose_device
from dlnotes.training.evaluate import headline
from dlnotes.training.folder import check_not_of_a_run, is_restarted
from dlnotes.training.parent import Parent
from dlnotes.training.pretrained import WORD2VEC
from dlnotes.training.recipes import optimizer_for, resolve
from dlnotes.training.settings import Training, parse_settings
from dlnotes.training.targets import check_output_layer
from dlnotes.training.train import size_of, train_classifier


@checked
@distributed.process_group_of_command()
def main(
    model: str | None = None,
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
    start_from: Annotated[Path | None, arg(name="from")] = None,
    replay: bool = True,
    dry_run: bool = False,
    check_data: Path | None = None,
    config: Path | None = None,
) -> None:
    """Train a text classifier and measure it on the test split, once, at the end.

    Give --corpus NAME (bbc comes with the package; ag_news, imdb, trec, sst2, mr, 20ng,
    yelp_polarity and goemotions are downloaded), or your own files with --train and --test: CSV,
    TSV, JSONL, fastText's __label__ format (all of them also compressed: .gz, .bz2, .xz, .zst,
    .zip), Parquet, or a folder with a sub-folder per class. Texts may have several labels: lists in
    JSONL and Parquet, several __label__ marks in fastText's format; for other formats see
    --label-separator and --label-column.

    With --from RUN the training starts from a finished run. --train then names new documents, which
    may have new words and labels; without it, more epochs follow on the same documents.

    Args:
        model: fasttext, textcnn, textrnn, rcnn, han, seq2seq, transformer, dmn or entnet. Default
            fasttext, or the model of --from.
        corpus: Name of a corpus. Default bbc when --train is not given.
        train: Your own training documents, one or more files; in quotation marks also patterns such
            as 'parts/*.csv', whose files are read in the order of their names.
        dev: Your own dev documents. Default: a part of the training documents (--dev-fraction).
        test: Your own test documents.
        data_dir: Folder of corpora (NAME/train.tsv[.gz] and so on), searched before downloading.
        out: Run folder. Default runs/MODEL-CORPUS; with --train, CORPUS is the name of its first
            file without the extension.
        training: How the model is trained.
        reading: How texts become documents.
        bootstrap: Train on as many documents, drawn with replacement by --seed (bagging).
        boost: The previous runs of a boosted ensemble, in order. Documents that they get wrong are
            drawn more often (boosting; see dlnotes ensemble --weights boosting).
        model_args: The model's own hyper-parameters, for example embedding_dim=100 dropout=0.3.
        optimizer_args: The optimizer's own hyper-parameters, for example betas=0.9,0.98.
        device: auto, cpu, cuda, cuda:1 (and so on) or mps (untested).
        checkpoint_every: Updates between two checkpoints within an epoch. 0: one checkpoint every
            minute, or less often if writing them would take more than 5 % of the time.
        resume: Continue the interrupted run in --out, with the same result bit for bit.
        start_from: Start from the classifier of this run (or of a classifier's folder). Its words
            and labels keep their vectors and weights, and new ones are added. The model, its
            hyper-parameters and the reading of texts are those of the run. So are settings that a
            recipe would fill in (--optimizer, --lr, --epochs, …; not --refit), unless they are
            given. All other settings are as given, or their defaults. The run's dev documents stay
            dev documents.
        replay: With --from: also learn from the run's own training documents again, which would
            partly be forgotten otherwise (--no-replay: learn from the new ones only).
        dry_run: Print all settings, as a run's config.yaml has them, and the size of the training;
            do not train, and write nothing.
        check_data: List documents that occur in several splits, and equal texts with different
            labels, in this file (.csv, .jsonl or .parquet).
        config: Options from a YAML file, such as a run's config.yaml; those on the command line
            take precedence.
    """
    if bootstrap and boost:
        raise UserError("give either --bootstrap or --boost, not both")
    if corpus and train:
        raise UserError("give either --corpus or --train, not both")
    if not train and not start_from and (test or dev):
        raise UserError("--test and --dev belong to --train FILE; a corpus brings its own")
    if start_from and corpus:
        raise UserError("--from takes new documents with --train, not a --corpus")
    if start_from and boost:
        raise UserError("give either --from or --boost, not both")
    if not replay and not train:
        raise UserError(
            "--no-replay learns from new documents alone: give --from RUN and --train FILE"
        )
    if model not in (None, *MODELS):
        with config_file.naming_config_file(config):
            raise UserError(f"--model must be one of {', '.join(MODELS)}, not {model!r}")
    parent = None
    if start_from:
        try:
            parent = Parent.of(start_from)
        except UserError as error:
            raise UserError(f"--from {error}") from error
    check_data_folder(data_dir)
    group = distributed.current()
    # A dry run may prepare a training on another machine, and a finished run needs no device.
    if not (dry_run or resume):
        with config_file.naming_config_file(config):
            group.device(choose_device(device, amp=training.amp))
    asked, model = model, parent.classifier.model_name if parent else model or "fasttext"
    own = files_of_options(train=train, dev=dev, test=test)
    train, dev, test = own.values()
    sources: Mapping[str, Source] = {split: paths for split, paths in own.items() if paths}
    if train:
        name = stem_of(train[0])
    elif parent:
        name = str(parent.settings.get("corpus") or "data")
    else:
        name = corpus or "bbc"
        with group.local_rank_zero_first():
            sources = dict(load(name, data_dir=data_dir, cache_dir=cache_folder()))
        separator = reading.label_separator or label_separator(name)
        reading = replace(reading, label_separator=separator)
    out = out or Path("runs") / f"{model}-{name}{'-next' * bool(parent)}"
    resume = group.on_first(partial(is_restarted, out)) or resume
    with config_file.naming_config_file(config):
        model_settings = parse_settings(model, MODELS[model], model_args)
        if parent:
            parent.check_model(asked, model_settings)
            training, reading = parent.training(training), parent.reading(reading)
            model_settings = parent.model_settings()
        optimizer = optimizer_for(training, model, out if resume else None)
        training = training.with_optimizer_args(optimizer_args, optimizer)
    if check_data:
        check_writable(check_data)
        check_not_of_a_run(check_data=check_data)
    with config_file.naming_config_file(config):
        vectors = _file_of(training.vectors)
    inputs = {**own, "vectors": (vectors,), "config": (config,), "from": (start_from,)}
    for option, given in inputs.items():
        for each in given:
            check_leads_somewhere(option, each)
            check_different(**{option: each, "check_data": check_data})
            check_different(**{option: each, "out": out})
    # Absolute, so that a run has the same settings when it is repeated in another folder.
    if vectors:
        training = replace(training, vectors=str(vectors.absolute()))
    boost = tuple(run.absolute() for run in boost)
    seed = training.seed
    cache = None if dry_run else cache_folder() / "tokens"
    if parent:
        with group.local_rank_zero_first():
            dataset = continued(parent, own, reading, replay=replay, name=name, cache_dir=cache)
        tell_what_is_new(parent, dataset)
    else:
        reading = reading_for(model, reading, seed)
        with group.local_rank_zero_first():
            dataset = load_dataset(
                sources, reading, name=name, cache_dir=cache, sentences=reads_sentences(model)
            )
        reading = replace(reading, tokenizer=dataset.tokenizer)
        if dataset.why:
            tell(f"tokenizer: {dataset.tokenizer} ({dataset.why})")
    check_output_layer(model_settings, dataset)
    with config_file.naming_config_file(config):
        must_choose(training, dataset.multi_label)  # what is not possible is refused at once
    duplicates = dataset.duplicates(test=check_data is not None)
    if found := duplicates.summary():
        hint = f"see {check_data}" if check_data else "--check-data FILE lists them"
        print(f"note: {found} ({hint})", file=sys.stderr)
    with config_file.naming_config_file(config):
        resolved = resolve(
            training, model, model_settings, dataset, resumed=out if resume else None
        )
    training, model_settings, dataset = (
        resolved.as_options,
        resolved.model_settings,
        resolved.dataset,
    )
    if not resume:
        tell(resolved.description(model, parent.name if parent and parent.settings else None))
    if boost:
        members = ensemble.load_members(boost, sources, cache_dir=cache)
        split_by = ensemble.dev_split(asdict(reading) | {"seed": seed}, dataset.fingerprints)
        dataset = ensemble.boost(dataset, members, split_by, seed)
    elif bootstrap:
        dataset = ensemble.bootstrap(dataset, seed)
    options = {
        "model": model,
        "corpus": None if train or parent else name,
        **{split: [path.absolute() for path in paths] for split, paths in own.items()},
        "from": start_from and start_from.absolute(),
        "replay": replay,
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
        print(config_file.to_yaml(options), end="")
        print("".join(f"# {name}: {number:,}\n" for name, number in size.items()), end="")
        return
    with (
        resume_hint(out),
        config_file.naming_config_file(config),
        config_file.run_folder_with_options(out, options, resume),
    ):
        if check_data and group.is_first:
            write_table(check_data, [duplicates.table()])
        _, record = train_classifier(
            dataset,
            model,
            training,
            model_settings=model_settings,
            start_from=parent,
            out=out,
            device=device,
            checkpoint_every=checkpoint_every,
            resume=resume,
        )
    if not group.is_first:
        return
    if resume:  # it may have other test documents than it began with
        config_file.write_options(out, options)
    for split in ("dev", "test"):
        if split in record:
            figures = record[split]
            shown = "  ".join(f"{n} {figures[key]:.4f}" for key, n in headline(figures).items())
            print(f"{split:4}  {shown}  ({record['documents'][split]:,} documents)")
    if not has_trained_decision(out):  # a finished run that is "resumed"
        print(
            f"note: {out} decides differently since dlnotes calibrate; these figures are from "
            "before it",
            file=sys.stderr,
        )
    elif "decision" in record:
        print(
            f"decision on dev: {describe_decision(record['decision'], record['documents']['dev'])}"
        )
    if not check_data and dataset.has_test:
        shared = dataset.duplicates(test=True).shared["test"]
        if shared:
            documents = "document occurs" if shared == 1 else "documents occur"
            print(f"note: {shared:,} test {documents} in train or dev as well", file=sys.stderr)
    print(f"{record['seconds']:.1f} s, {record['documents_per_second']:,.0f} documents/s → {out}")
    where = f"./{out}" if str(out).startswith("-") else str(out)
    predict = f"{other_command('predict')} {shlex.quote(where)}"
    print(f'Classify your own text:  {predict} "some text"')


def _file_of(vectors: str | Path | None) -> Path | None:
    """The file of word vectors, where one is given."""
    if vectors is None or vectors == WORD2VEC:
        return None
    try:
        return expanded(vectors)
    except UserError as error:
        raise UserError(f"--vectors: {error}") from error
