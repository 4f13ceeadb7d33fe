"""Train a text classifier: a corpus or your own files in, a run folder out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from dlnotes.arguments import Count, Natural, NotNegative, Positive, Seed, Share, checked
from dlnotes.cli import same_command
from dlnotes.data.corpora import load
from dlnotes.data.dataset import load_dataset
from dlnotes.data.download import cache_folder
from dlnotes.data.readers import Source
from dlnotes.errors import UserError
from dlnotes.models import MODELS
from dlnotes.optim import OPTIMIZERS
from dlnotes.training import ensemble
from dlnotes.training.classifier import default_tokenizer
from dlnotes.training.fit import Interrupted
from dlnotes.training.train import parse_settings, train_classifier


@checked
def main(
    model: str = "fasttext",
    corpus: str | None = None,
    train: Path | None = None,
    dev: Path | None = None,
    test: Path | None = None,
    text_column: str | None = None,
    label_column: str | None = None,
    data_dir: Path | None = None,
    vectors: str | None = None,
    out: Path | None = None,
    optimizer: str = "adam",
    lr: NotNegative = 1e-3,
    epochs: Count = 10,
    batch_size: Natural = 64,
    seed: Seed = 0,
    split_seed: Seed | None = None,
    bootstrap: bool = False,
    boost: tuple[Path, ...] = (),
    device: str = "auto",
    amp: bool = False,
    schedule: str = "constant",
    warmup: Share = 0.0,
    clip_norm: Positive | None = None,
    label_smoothing: Share = 0.0,
    class_weights: str = "none",
    patience: Count | None = None,
    refit: bool = False,
    tokenizer: str | None = None,
    min_freq: Count = 1,
    max_size: Count | None = None,
    max_tokens: Count | None = None,
    dev_fraction: float = 0.1,
    model_args: tuple[str, ...] = (),
    optimizer_args: tuple[str, ...] = (),
    checkpoint_every: Natural = 200,
    resume: bool = False,
) -> None:
    """Train a text classifier and measure it on the test split, once, at the end.

    Give --corpus NAME (bbc comes with the package; ag_news, imdb, trec, sst2, mr, 20ng and
    yelp_polarity are downloaded), or your own files with --train and --test: CSV, TSV, JSONL,
    Parquet, fastText's __label__ format, each also .gz, or a folder with a sub-folder per class.

    Args:
        model: fasttext, textcnn, textrnn, rcnn, han, seq2seq, transformer, dmn or entnet.
        corpus: Name of a corpus. Default bbc when --train is not given.
        train: Your own training documents.
        dev: Your own dev documents; without them a part of the training documents is cut off.
        test: Your own test documents.
        text_column: Name or number (from 0) of the text's column; several: 1,2.
        label_column: Name or number (from 0) of the label's column.
        data_dir: Folder of corpora, NAME/train.tsv[.gz] and so on; looked at before downloading.
        vectors: Word vectors to start from: a file of word2vec (text or binary), GloVe or fastText
            (.vec or .bin), also .gz; or word2vec, to learn them first from the training documents,
            as HAN's authors do.
        out: Run folder. Default runs/MODEL-CORPUS.
        optimizer: Which of our optimizers: gradient-descent, momentum, adam, …
        lr: Learning rate; with adam 1e-3 suits most models, fasttext wants about 1e-2.
        epochs: Passes over the training documents, at most.
        batch_size: Documents an update: 1 is SGD, 0 is all of them (BGD).
        seed: Decides the dev split, initial weights, dropout and the documents' order.
        split_seed: Decides the dev split instead; runs with the same can form an ensemble.
        bootstrap: Draw as many training documents with replacement (bagging), by --seed.
        boost: Runs so far of a boosted ensemble, in order: draw the documents that they get wrong
            more often (boosting; see dlnotes ensemble --weights boosting).
        device: auto, cpu or cuda.
        amp: Compute in bf16 autocast.
        schedule: Learning rate over the steps: constant, linear (down to 0), inverse_sqrt or
            halving (after each eighth of the steps).
        warmup: Share of the steps in which the learning rate rises.
        clip_norm: Scale the gradients down to this total norm.
        label_smoothing: Share of the target that is spread over all classes.
        class_weights: none, or balanced (rare classes weigh more).
        patience: Stop after so many epochs without a better one on dev.
        refit: When dev has chosen the epoch, train again up to it on training and dev documents
            together; twice the time, a tenth more documents.
        tokenizer: basic_english, cased (the same without lower-casing), sentences (the first with
            sentence ends marked; the default of models that read sentences), words (all punctuation
            kept) or characters (Chinese and the like).
        min_freq: Tokens that are rarer in the training documents become unknown.
        max_size: Size of the vocabulary at most.
        max_tokens: Longer documents are read up to here.
        dev_fraction: Share of the training documents that becomes dev.
        model_args: The model's own hyper-parameters, for example embedding_dim=100 dropout=0.3.
        optimizer_args: The optimizer's own, for example betas=0.9,0.98.
        checkpoint_every: Updates between two checkpoints; 0: only at the end.
        resume: Go on with the run in --out, bit for bit, after an interruption.
    """
    if bootstrap and boost:
        raise UserError("give either --bootstrap or --boost, not both")
    if corpus and train:
        raise UserError("give either --corpus or --train, not both")
    if not train and (test or dev):
        raise UserError("--test and --dev belong to --train FILE; a corpus brings its own")
    for kind, name, known in (("model", model, MODELS), ("optimizer", optimizer, OPTIMIZERS)):
        if name not in known:
            raise UserError(f"--{kind} must be one of {', '.join(known)}, not {name!r}")
    if train:
        name = train.name.split(".")[0]
        own = {"train": train, "dev": dev, "test": test}
        sources: dict[str, Source] = {split: path for split, path in own.items() if path}
    else:
        name = corpus or "bbc"
        sources = dict(load(name, data_dir=data_dir, cache_dir=cache_folder()))
    out = out or Path("runs") / f"{model}-{name}"
    reading: dict[str, Any] = {
        "tokenizer": tokenizer or default_tokenizer(model),
        "min_freq": min_freq,
        "max_size": max_size,
        "max_tokens": max_tokens,
        "dev_fraction": dev_fraction,
        "text_column": text_column,
        "label_column": label_column,
    }
    model_settings = parse_settings(model, MODELS[model], model_args)
    optimizer_settings = parse_settings(optimizer, OPTIMIZERS[optimizer], optimizer_args)
    split_seed = seed if split_seed is None else split_seed
    cache = cache_folder() / "tokens"
    dataset = load_dataset(sources, seed=split_seed, cache_dir=cache, **reading)
    if boost:
        members = ensemble.load_members(boost, sources, cache_dir=cache)
        ours = reading | {"seed": seed, "split_seed": split_seed}
        split_by = ensemble.dev_split(ours, dataset.fingerprints)
        dataset = ensemble.boost(dataset, members, split_by, seed)
    elif bootstrap:
        dataset = ensemble.bootstrap(dataset, seed)
    try:
        _, record = train_classifier(
            dataset,
            out,
            model=model,
            model_settings=model_settings,
            vectors=vectors,
            optimizer=optimizer,
            lr=lr,
            optimizer_settings=optimizer_settings,
            epochs=epochs,
            batch_size=batch_size or None,
            seed=seed,
            device=device,
            amp=amp,
            schedule=schedule,
            warmup=warmup,
            clip_norm=clip_norm,
            label_smoothing=label_smoothing,
            class_weights=class_weights,
            patience=patience,
            refit=refit,
            checkpoint_every=checkpoint_every,
            resume=resume,
            corpus=name,
            split_seed=split_seed,
            bootstrap=bootstrap,
            boost=[str(run) for run in boost],
            **reading,
        )
    except Interrupted:
        again = same_command("--resume")
        print(f"Stopped and saved. Go on with:\n  {again}", file=sys.stderr)
        sys.exit(130)
    for split in ("dev", "test"):
        if split in record:
            figures = record[split]
            print(
                f"{split:4}  accuracy {figures['accuracy']:.4f}  macro-F1 {figures['macro_f1']:.4f}"
                f"  ({record['documents'][split]:,} documents)"
            )
    print(f"{record['seconds']:.1f} s, {record['documents_per_second']:,.0f} documents/s → {out}")
