"""Train a classifier from named settings, into a run folder."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch

from dlnotes.arguments import Natural, Positive, check_fields, checked, plain
from dlnotes.data.dataset import Dataset
from dlnotes.data.documents import Documents
from dlnotes.data.vectors import PretrainedVectors
from dlnotes.deprecation import keep_old_names
from dlnotes.display import tell
from dlnotes.errors import UserError, memory_for
from dlnotes.files import read_json, write_atomically
from dlnotes.training import distributed, pretrained
from dlnotes.training import folder as run_folder
from dlnotes.training.calibration import choose_decision_for, must_choose
from dlnotes.training.checkpoint import check_same_settings
from dlnotes.training.classifier import TextClassifier, check_model
from dlnotes.training.evaluate import evaluate, headline, metrics, scores
from dlnotes.training.fit import TrainingState
from dlnotes.training.folder import CLASSIFIER, DEV_SCORES, DOCUMENTS, FIRST_CLASSIFIER, REFIT
from dlnotes.training.objectives import Objective
from dlnotes.training.parent import Parent, grow_from
from dlnotes.training.recipes import resolve
from dlnotes.training.run import Run
from dlnotes.training.settings import Training
from dlnotes.training.targets import (
    check_output_layer,
    class_counts,
    objective_for,
    start_at_frequencies,
    warn_of_slow_loss,
)

_EXPLAINED = 5  # dev documents whose attention goes to TensorBoard


@checked
@distributed.process_group()
def train_classifier(
    dataset: Dataset,
    model: str | None = None,
    training: Training | None = None,
    *,
    model_settings: Mapping[str, Any] | None = None,
    start_from: Any = None,
    out: Path | None = None,
    device: str = "auto",
    checkpoint_every: Natural = 0,
    resume: bool = False,
    progress: bool = True,
    time_limit: Positive | None = None,
    **settings: Annotated[Any, Training],
) -> tuple[TextClassifier, dict[str, Any]]:
    """Train, choose the best epoch on dev, then read the test split and measure on it, once.

    All processes that torchrun has started must call this with the same arguments (see
    `dlnotes.training.distributed`); only the first one writes to `out`.

    Args:
        dataset: The documents.
        model: A name in `dlnotes.models.MODELS`; default: fasttext, or the model of `start_from`.
        training: How to train; default: `Training()`. Settings that it leaves open are filled in by
            the recipe (see `dlnotes.training.recipes.resolve`) or, with `start_from`, taken from
            the parent's training.
        model_settings: The model's hyper-parameters where they differ from the recipe's.
        start_from: A trained classifier, its folder, a run folder or a `Parent`, whose weights are
            the initial ones. `dataset` must be loaded with its `inheritance`.
        out: Run folder, for the classifier's folder, ``metrics.json``, ``checkpoint.pt`` and the
            TensorBoard log. None writes nothing.
        device: See `choose_device`.
        checkpoint_every: See `fit`.
        resume: Resume from the checkpoint in `out`. A finished run is not trained again; its
            classifier and record are returned.
        progress: Show progress.
        time_limit: Seconds that a training may take, see `fit`.
        settings: Fields of `training` to override.

    Returns:
        The trained classifier and its record (the content of ``metrics.json``).

    Raises:
        UserError: Settings or files cannot be used; the training diverged (see `fit`).
        dlnotes.training.fit.Interrupted: A signal arrived; the checkpoint was written.
        dlnotes.training.fit.OutOfTime: `time_limit` is too short.
    """
    if model is not None:
        check_model(model)
    training = replace(training or Training(), **settings)
    own = plain("model_settings", model_settings or {})
    parent = None if start_from is None else Parent.of(start_from)
    if parent:
        parent.check_model(model, own)
        training = parent.training(training)
        parent.check_dataset(dataset, training)
        if missing := parent.missing(dataset):
            warnings.warn(f"{missing}: it may forget them", stacklevel=4)
        _tell_of_learned(dataset, parent, "dev")
        if parent.learned_dev:
            warnings.warn(
                f"{parent.name} has learned from its dev documents (refit), and nothing that has "
                "not was kept: they are training documents now, and dev documents are new ones",
                stacklevel=4,
            )
        model, own = parent.classifier.model_name, plain("", parent.model_settings())
    model = model or "fasttext"
    check_output_layer(own, dataset)
    must_choose(training, dataset.multi_label)  # refuse impossible choices at once
    group = distributed.current()
    resolved = resolve(training, model, own, dataset, resumed=out if resume else None)
    training, own, dataset, _ = resolved
    warn_of_slow_loss(own, training)
    if not resume:
        shown = progress and resolved.has_chosen and group.is_first
        tell(resolved.description(model), shown=shown)
    all_settings = {
        "model": model,
        "model_settings": own,
        **asdict(training),
        **pretrained.fingerprint(training.vectors),
        **dataset.described,
        "parent": parent and parent.digest,
        # Without the test split: it is read at the end, or an earlier training may have read it.
        "data": {k: v for k, v in dataset.fingerprints.items() if k != "test"},
    }
    if out and resume and (finished := _finished(out, all_settings, dataset)):
        return finished
    group.on_first(dataset.check_test)
    with Run(
        training,
        all_settings,
        out=out,
        device=device,
        checkpoint_every=checkpoint_every,
        resume=resume,
        progress=progress,
        time_limit=time_limit,
    ) as run:
        out, progress = run.out, run.progress
        if group.size == 1:
            dataset.prefetch_test()
        train = partial(_train, run, model, own, parent)
        # A refit needs the first training's last checkpoint, if it is interrupted.
        trained = train(dataset, dataset.dev, keep_end=training.refit)
        where: dict[str, Any] = {"device": run.device, "amp": training.amp}
        first, decided = trained.classifier, {}
        deciding = must_choose(training, first.multi_label)
        if deciding or training.refit:
            dev_scores = scores(first.model, dataset.dev, group=group, **where)
        if deciding:
            labels = dataset.dev.labels
            decided = choose_decision_for(first, dev_scores, labels, training)
            dev = metrics(dev_scores, labels, first.decision)
        else:
            dev = evaluate(first.model, dataset.dev, group=group, **where)
        # What is logged after the last update has a later step: a resumed run logs it again.
        step = trained.state.step + 1
        if board := run.board:
            named = {"label_names": dataset.label_names, "step": step}
            board.draw_in_background(
                trained.objective.draw, board, dev, dataset.dev, split="dev", **named
            )
        documents = {"train": len(dataset.train), "dev": len(dataset.dev)}
        first.seen = dataset.seen()
        if training.refit:
            best = trained.state.best_epoch
            if out:
                first.save(out / FIRST_CLASSIFIER)
            tell(f"training again up to epoch {best}, with the dev documents", shown=progress)
            loss = trained.state.history[best - 1]["train_loss"]
            dataset = dataset.with_dev_in_train()
            until = {"stop_after": best, "stop_below": _AS_LOW * loss + _OR_LOW}
            trained = train(dataset, None, checkpoint=REFIT, **until)
        classifier = trained.classifier
        classifier.seen = first.seen
        classifier.decision = first.decision
        if training.refit:
            first.model.eval()
            classifier.before_refit = first.to(torch.device("cpu"))
        record = {
            **run.record(classifier.model),
            "data": dict(dataset.fingerprints),
            "documents": documents,
            "vocabulary": len(dataset.vocabulary),
            "pretrained": trained.pretrained,
            "dev": dev.summary(),
            **decided,
        }
        if parent:
            record["parent"] = parent.summary()
        if out:
            # Saved before the test split is opened, so that an error in it cannot lose the model.
            classifier.save(out / CLASSIFIER)
            classifier.seen.save(out / DOCUMENTS)
            if training.refit:
                write_atomically(out / DEV_SCORES, partial(torch.save, dev_scores))
        run.write(record)
        if dataset.has_test:
            record = group.on_first(lambda: _measure_test(run, trained, dataset, step, record))
            if parent and group.is_first:
                _tell_of_learned(dataset, parent, "test")
        if board:
            if classifier.has_attention:
                some = range(min(_EXPLAINED, len(dataset.dev)))
                explained = list(classifier.explain_documents(dataset.dev, some))
                board.draw_in_background(board.attention, explained, step, split="dev")
            final = {f"dev {name}": value for name, value in record["dev"].items()}
            if "test" in record:
                final |= {f"test {name}": record["test"][name] for name in headline(record["test"])}
            board.hyper_parameters(all_settings, final, step)
        run.write(record)
    classifier.model.eval()
    return classifier, record


_AS_LOW, _OR_LOW = 1.3, 0.05
"""A refit continues while its loss is above `_AS_LOW` times that of the first training, plus
`_OR_LOW`.

Some tasks, such as bAbI's, are learned suddenly within one epoch, which may be a later one in the
refit."""


def _tell_of_learned(dataset: Dataset, parent: Parent, split: str) -> None:
    """Warn of documents in a split for evaluation that the parent has learned from.

    Documents that are also among the training documents now are left out: `Dataset.duplicates`
    reports these.
    """
    if parent.seen:
        keys = dataset.text_keys(split)
        others = keys[~np.isin(keys, dataset.text_keys("train"))]
        parent.seen.warn_of_learned(others, parent.name, split)


def _finished(
    out: Path, settings: Mapping[str, Any], dataset: Dataset
) -> tuple[TextClassifier, dict[str, Any]] | None:
    """The classifier and the record of a finished run; None if something is left to do.

    Raises:
        UserError: The run has other settings or was measured on other test documents.
    """
    path = out / run_folder.METRICS
    if not path.exists():
        return None
    record = read_json(path, "is not a run", finite=False)
    check_fields(path, record, {"settings": Mapping[str, Any], "data": Mapping[str, Any]})
    test = dataset.test_fingerprint()
    if "test" not in record and test is not None:
        return None
    counts = {"train": len(dataset.train), "dev": len(dataset.dev)}
    before = record.get("documents", {})
    check_same_settings(path, record["settings"], settings, documents=(before, counts))
    if record["data"].get("test") != test:
        now = "none are given" if test is None else "others are given"
        raise UserError(
            f"{out} is finished, and was measured on test documents, but now {now}: measure it "
            "with dlnotes evaluate, or give another --out"
        )
    with torch.random.fork_rng(()):
        classifier = TextClassifier.load(out)
    assert isinstance(classifier, TextClassifier)
    return classifier, record


class _Trained(NamedTuple):
    """The results of a training."""

    classifier: TextClassifier
    objective: Objective
    state: TrainingState
    pretrained: int  # words that started with a vector


def _train(
    run: Run,
    model: str,
    model_settings: Mapping[str, Any],
    parent: Parent | None,
    dataset: Dataset,
    dev: Documents | None,
    **options: Any,
) -> _Trained:
    """Train on the training documents of `dataset`, from random weights or from `parent`."""
    assert isinstance(run.training, Training)
    classifier, vectors = _start(run, run.training, model, model_settings, dataset)
    objective = objective_for(classifier.model, run.training, dataset)
    if dataset.multi_label:
        start_at_frequencies(classifier.model, dataset, objective.weights)
    if parent:
        grow_from(parent.classifier, classifier)
    optimizer = run.training.make_optimizer(classifier.model.parameters())
    state = run.fit(classifier.model, optimizer, objective, dataset.train, dev, **options)
    return _Trained(classifier, objective, state, vectors)


def size_of(
    dataset: Dataset, model: str, training: Training, model_settings: Mapping[str, Any]
) -> dict[str, int]:
    """The size of a training: numbers of documents, classes, tokens, parameters and updates.

    Args:
        dataset: The documents.
        model: A name in `dlnotes.models.MODELS`.
        training: How to train; no setting may be left to a recipe.
        model_settings: The model's hyper-parameters.

    Raises:
        UserError: Settings cannot be used.
    """
    with torch.random.fork_rng(()):
        classifier, _ = _untrained(dataset, model, training, model_settings, progress=False)
    training.make_optimizer(classifier.model.parameters())
    documents = len(dataset.train)
    return {
        "training documents": documents,
        "dev documents": len(dataset.dev),
        "classes": len(dataset.label_names),
        "tokens in the vocabulary": len(dataset.vocabulary),
        "parameters": sum(p.numel() for p in classifier.model.parameters()),
        "updates per epoch": -(-documents // (training.batch_size or documents)),
    }


def _measure_test(
    run: Run, trained: _Trained, dataset: Dataset, step: int, record: dict[str, Any]
) -> dict[str, Any]:
    """Read the test split, once, and add its figures to the record."""
    began = time.perf_counter()
    try:
        documents = dataset.read_test()
    except UserError as error:
        kept = f" (the trained classifier is kept in {run.out / CLASSIFIER})" if run.out else ""
        raise UserError(f"{error}{kept}") from error
    model = trained.classifier.model
    with memory_for("the test documents"):
        test = evaluate(
            model,
            documents,
            device=run.device,
            amp=run.training.amp,
            whose="the trained model",
            decision=trained.classifier.decision,
        )
    record["documents"]["test"] = len(documents)
    record["data"] = dict(dataset.fingerprints)
    record["test"] = test.summary() | {"classes": test.per_class(dataset.label_names)}
    record["test_seconds"] = time.perf_counter() - began
    if run.board:
        run.board.metrics(test, step, split="test")
        where = {"label_names": dataset.label_names, "step": step}
        run.board.draw_in_background(
            trained.objective.draw, run.board, test, documents, split="test", **where
        )
    return record


def _start(
    run: Run,
    training: Training,
    model: str,
    model_settings: Mapping[str, Any],
    dataset: Dataset,
) -> tuple[TextClassifier, int]:
    """An untrained classifier, and how many words start with a pretrained vector."""
    classifier, words = _untrained(dataset, model, training, model_settings, progress=run.progress)
    classifier.to(run.device)
    if training.vectors == pretrained.WORD2VEC:  # after all checks, since it may take minutes
        words = pretrained.learn(dataset, classifier, training.seed, run.progress)
    if words:
        pretrained.start_from(words, classifier)
    return classifier, len(words.ids) if words else 0


def _untrained(
    dataset: Dataset,
    model: str,
    training: Training,
    model_settings: Mapping[str, Any],
    *,
    progress: bool,
) -> tuple[TextClassifier, PretrainedVectors | None]:
    """A classifier with random weights, and the word vectors of a file, if one is given."""
    vectors, words = training.vectors, None
    own = _with_class_counts(model_settings, dataset)
    if vectors:
        if vectors != pretrained.WORD2VEC:
            words = pretrained.read(Path(vectors), dataset.vocabulary, progress)
        own = pretrained.settings_for_vectors(model, own, vectors, words)
    torch.manual_seed(training.seed)
    classifier = TextClassifier.create(
        model,
        own,
        dataset.vocabulary,
        dataset.label_names,
        tokenizer=dataset.tokenizer,
        subwords=dataset.subwords,
        max_tokens=dataset.max_tokens,
        labels=dataset.labels,
        multi_label=dataset.multi_label,
    )
    return classifier, words


def _with_class_counts(model_settings: Mapping[str, Any], dataset: Dataset) -> dict[str, Any]:
    """Add the class counts, from which a hierarchical output builds its tree, unless given."""
    if model_settings.get("output") != "hierarchical":
        return dict(model_settings)
    return {"class_counts": tuple(class_counts(dataset).tolist()), **model_settings}


keep_old_names(__name__)
