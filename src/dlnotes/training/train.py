"""From named settings to a trained classifier in a run folder."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from rich.console import Console

from dlnotes.arguments import Natural, checked
from dlnotes.data.dataset import Dataset
from dlnotes.data.vectors import read_vectors
from dlnotes.errors import UserError
from dlnotes.files import write_atomically
from dlnotes.training import pretrained
from dlnotes.training.classifier import CLASSIFIER, TextClassifier
from dlnotes.training.evaluate import check_scores, metrics, scores
from dlnotes.training.objectives import Hierarchical, SingleLabel
from dlnotes.training.run import Run
from dlnotes.training.settings import Training

REFIT = "refit.pt"
"""Checkpoint of training again, with the dev documents."""
DEV_SCORES = "dev_scores.pt"
"""Of a run that was trained on its dev documents in the end: the scores it gave them before."""

_EXPLAINED = 5  # dev documents whose attention goes to TensorBoard


@checked
def train_classifier(
    dataset: Dataset,
    model: str = "fasttext",
    training: Training | None = None,
    *,
    model_settings: Mapping[str, Any] | None = None,
    out: Path | None = None,
    device: str = "auto",
    checkpoint_every: Natural = 0,
    resume: bool = False,
    progress: bool = True,
    **settings: Annotated[Any, Training],
) -> tuple[TextClassifier, dict[str, Any]]:
    """Train, choose the epoch on dev, then read and measure the test split, once.

    Args:
        dataset: What to learn.
        model: A name in `dlnotes.models.MODELS`.
        training: How to train; default `Training()`.
        model_settings: The model's hyper-parameters where they differ from its defaults.
        out: Run folder: the classifier's folder, ``metrics.json``, ``checkpoint.pt`` and the
            TensorBoard log. None keeps nothing.
        device: See `choose_device`.
        checkpoint_every: See `fit`.
        resume: Go on from the checkpoint in `out`.
        progress: Show progress.
        settings: Fields of `training` that are to be others.

    Returns:
        The trained classifier and its record (what ``metrics.json`` holds).

    Raises:
        UserError: Settings or files that cannot be used; a training that diverged (see `fit`).
        dlnotes.training.fit.Interrupted: A signal came; the checkpoint was written.
    """
    training = replace(training or Training(), **settings)
    every = {
        "model": model,
        "model_settings": dict(model_settings or {}),
        **asdict(training),
        **dataset.described,
        "data": dict(dataset.fingerprints),
    }
    run = Run(
        training,
        every,
        out=out,
        device=device,
        checkpoint_every=checkpoint_every,
        resume=resume,
        progress=progress,
    )
    with run:
        start = partial(_start, run, model, model_settings or {})
        classifier, optimizer, vectors = start(dataset)
        objective = _objective(classifier, training, dataset)
        state = run.fit(classifier.model, optimizer, objective, dataset.train, dataset.dev)
        score = partial(scores, device=run.device, amp=training.amp)
        dev_scores = score(classifier.model, dataset.dev)
        dev = metrics(dev_scores, dataset.dev.labels)
        documents = {"train": len(dataset.train), "dev": len(dataset.dev)}
        if training.refit:
            console = Console(stderr=True, quiet=not progress)
            console.print(f"again up to epoch {state.best_epoch}, with the dev documents")
            dataset = dataset.whole()
            classifier, optimizer, vectors = start(dataset)
            objective = _objective(classifier, training, dataset)
            run.fit(
                classifier.model,
                optimizer,
                objective,
                dataset.train,
                None,
                checkpoint=REFIT,
                stop_after=state.best_epoch,
            )
        record = {
            **run.record(classifier.model),
            "data": dict(dataset.fingerprints),
            "documents": documents,
            "vocabulary": len(dataset.vocabulary),
            "pretrained": vectors,
            "dev": dev.summary(),
        }
        if out:
            # Saved before the test split is opened: nothing wrong with it can lose the training.
            classifier.save(out / CLASSIFIER)
            if training.refit:
                write_atomically(out / DEV_SCORES, partial(torch.save, dev_scores))
        run.write(record)
        board = run.board
        if dataset.has_test:
            began = time.perf_counter()
            try:
                test_documents = dataset.read_test()
            except UserError as error:
                kept = f" (the trained classifier is kept in {out / CLASSIFIER})" if out else ""
                raise UserError(f"{error}{kept}") from error
            test_scores = check_scores(score(classifier.model, test_documents), "the trained model")
            test = metrics(test_scores, test_documents.labels)
            record["documents"]["test"] = len(test_documents)
            record["data"] = dict(dataset.fingerprints)
            record["test"] = test.summary() | {"classes": test.per_class(dataset.label_names)}
            record["test_seconds"] = time.perf_counter() - began
            if board:
                board.figures(test, state.step, split="test")
                board.result(test, test_documents, dataset.label_names, state.step, split="test")
        if board:
            board.result(dev, dataset.dev, dataset.label_names, state.step, split="dev")
            if classifier.can_explain:
                some = range(min(_EXPLAINED, len(dataset.dev)))
                explained = classifier.explain_documents(dataset.dev, some)
                board.attention(explained, state.step, split="dev")
            final = {f"dev {name}": value for name, value in record["dev"].items()}
            if "test" in record:
                final["test accuracy"] = record["test"]["accuracy"]
                final["test macro_f1"] = record["test"]["macro_f1"]
            board.hyper_parameters(every, final)
        run.write(record)
    return classifier, record


def _start(
    run: Run, model: str, model_settings: Mapping[str, Any], dataset: Dataset
) -> tuple[TextClassifier, torch.optim.Optimizer, int]:
    """An untrained classifier, its optimizer, and how many words start with a vector."""
    assert isinstance(run.training, Training)
    vectors, seed = run.training.vectors, run.training.seed
    own, words = _with_class_counts(model_settings, dataset), None
    if vectors:
        if vectors != pretrained.WORD2VEC:
            words = read_vectors(Path(vectors), dataset.vocabulary)
        own = pretrained.with_vectors(model, own, vectors, words)
    torch.manual_seed(seed)
    classifier = TextClassifier.create(
        model,
        own,
        dataset.vocabulary,
        dataset.label_names,
        tokenizer=dataset.tokenizer,
        max_tokens=dataset.max_tokens,
        labels=dataset.labels,
    ).to(run.device)
    if vectors == pretrained.WORD2VEC:  # only now: this takes minutes, the settings are checked
        words = pretrained.learn(dataset, classifier, seed, run.progress)
    if words:
        pretrained.start_from(words, classifier)
    optimizer = run.training.make_optimizer(classifier.model.parameters())
    return classifier, optimizer, len(words.ids) if words else 0


def _objective(classifier: TextClassifier, training: Training, dataset: Dataset) -> SingleLabel:
    weights = None
    if training.class_weights == "balanced":
        counts = np.bincount(dataset.train.labels, minlength=len(dataset.label_names))
        balanced = len(dataset.train) / (len(counts) * np.maximum(1, counts))
        weights = torch.tensor(balanced, dtype=torch.float32)
    if training.label_smoothing == 0 and Hierarchical.suits(classifier.model):
        return Hierarchical(weights)
    return SingleLabel(weights, training.label_smoothing)


def _with_class_counts(model_settings: Mapping[str, Any], dataset: Dataset) -> dict[str, Any]:
    """A hierarchical output gets its tree from the training labels, unless it has one."""
    if model_settings.get("output") != "hierarchical":
        return dict(model_settings)
    counts = np.bincount(dataset.train.labels, minlength=len(dataset.label_names))
    return {"class_counts": tuple(counts.tolist()), **model_settings}
