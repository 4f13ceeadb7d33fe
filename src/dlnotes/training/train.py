"""From named settings to a trained classifier in a run folder."""

from __future__ import annotations

import ast
import inspect
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch
from rich.console import Console
from torch import Tensor
from typing_extensions import Unpack

from dlnotes.arguments import (
    Count,
    Natural,
    NotNegative,
    Positive,
    Seed,
    Share,
    check_names,
    checked,
)
from dlnotes.data.dataset import Dataset
from dlnotes.data.vectors import PretrainedVectors, read_vectors
from dlnotes.data.word2vec import EPOCHS, learn_vectors
from dlnotes.errors import UserError
from dlnotes.files import write_atomically
from dlnotes.models import MODELS
from dlnotes.nn import set_word_vectors
from dlnotes.optim import OPTIMIZERS, clip_grad_norm_
from dlnotes.training.board import Board
from dlnotes.training.classifier import CLASSIFIER, TextClassifier, write_json
from dlnotes.training.evaluate import check_scores, metrics, scores
from dlnotes.training.fit import State, fit
from dlnotes.training.record import provenance
from dlnotes.training.schedule import SCHEDULES, with_warmup

CHECKPOINT, METRICS = "checkpoint.pt", "metrics.json"
REFIT = "refit.pt"
"""Checkpoint of training again, with the dev documents."""
DEV_SCORES = "dev_scores.pt"
"""Of a run that was trained on its dev documents in the end: the scores it gave them before."""

CLASS_WEIGHTS = ("none", "balanced")

WORD2VEC = "word2vec"
"""In place of a file of word vectors: learn them from the training documents."""

_EXPLAINED = 5  # dev documents whose attention goes to TensorBoard


class Described(TypedDict, total=False):
    """What a run's record says of its documents, where they were read; see `load_dataset`.

    Attributes:
        corpus: Their name.
        split_seed: What decided the dev split, where it is not the run's seed.
        bootstrap: Whether they were drawn with replacement.
        boost: The runs before, in a boosted ensemble.
    """

    corpus: str
    split_seed: int
    bootstrap: bool
    boost: list[str]
    tokenizer: str
    min_freq: int
    max_size: int | None
    max_tokens: int | None
    dev_fraction: float
    text_column: str | None
    label_column: str | None


@checked
def train_classifier(
    dataset: Dataset,
    out: Path | None,
    *,
    model: str,
    model_settings: Mapping[str, Any] | None = None,
    vectors: Path | str | None = None,
    optimizer: str = "adam",
    lr: NotNegative = 1e-3,
    optimizer_settings: Mapping[str, Any] | None = None,
    epochs: Count = 10,
    batch_size: Count | None = 64,
    seed: Seed = 0,
    device: str = "auto",
    amp: bool = False,
    schedule: str = "constant",
    warmup: Share = 0.0,
    clip_norm: Positive | None = None,
    label_smoothing: Share = 0.0,
    class_weights: str = "none",
    patience: Count | None = None,
    refit: bool = False,
    checkpoint_every: Natural = 0,
    resume: bool = False,
    progress: bool = True,
    **described: Unpack[Described],
) -> tuple[TextClassifier, dict[str, Any]]:
    """Train, choose the epoch on dev, then read and measure the test split, once.

    Args:
        dataset: What to learn.
        out: Run folder: the classifier's folder, ``metrics.json``, ``checkpoint.pt`` and the
            TensorBoard log. None keeps nothing.
        model: A name in `dlnotes.models.MODELS`.
        model_settings: Its hyper-parameters where they differ from the defaults.
        vectors: Pretrained word vectors to start from, see `read_vectors`. They decide
            `embedding_dim`. The trained classifier does not need the file. Or "word2vec": learn
            them first from the training documents, see `learn_vectors`.
        optimizer: A name in `OPTIMIZERS`.
        lr: Learning rate.
        optimizer_settings: Its hyper-parameters where they differ from the defaults.
        epochs: Passes over the training documents, at most.
        batch_size: Documents an update; None for all of them.
        seed: Decides initial weights, dropout and order.
        device: ``cpu``, ``cuda`` or ``auto``.
        amp: bf16 autocast.
        schedule: A name in `SCHEDULES`.
        warmup: Share of the steps in which the learning rate rises.
        clip_norm: Scale the gradients down to this total norm.
        label_smoothing: See `fit`.
        class_weights: ``none``, or ``balanced``: n / (classes · documents of the class). A
            document counts in the loss with the weight of its own class, see `mean_loss`.
        patience: See `fit`.
        refit: When the epoch is chosen, train once more from the start, on the training and the dev
            documents together, with a vocabulary of both, the same settings and up to that epoch:
            a baseline without an epoch to choose learns from all documents, too. The dev figures of
            the record are those of the first training, the test figures those of the second.
        checkpoint_every: See `fit`.
        resume: Go on from the checkpoint in `out`.
        progress: Show progress.
        described: How the documents were read, for the record.

    Returns:
        The trained classifier and its record (what ``metrics.json`` holds).

    Raises:
        UserError: Settings or files that cannot be used; a training that diverged (see `fit`).
        dlnotes.training.fit.Interrupted: A signal came; the checkpoint was written.
    """
    settings: dict[str, Any] = {
        "model": model,
        "model_settings": dict(model_settings or {}),
        "vectors": str(vectors) if vectors else None,
        "optimizer": optimizer,
        "lr": lr,
        "optimizer_settings": dict(optimizer_settings or {}),
        "epochs": epochs,
        "batch_size": batch_size,
        "seed": seed,
        "amp": amp,
        "schedule": schedule,
        "warmup": warmup,
        "clip_norm": clip_norm,
        "label_smoothing": label_smoothing,
        "class_weights": class_weights,
        "patience": patience,
        "refit": refit,
        **described,
        "data": dict(dataset.fingerprints),
    }
    place = check_choices(device, amp, optimizer, schedule)
    if class_weights not in CLASS_WEIGHTS:
        raise UserError(f"class_weights must be none or balanced, not {class_weights!r}")
    if out:
        claim(out, resume)

    def start(dataset: Dataset) -> tuple[TextClassifier, torch.optim.Optimizer, int]:
        own = _with_class_counts(model_settings or {}, dataset)
        pretrained = None
        if vectors and vectors != WORD2VEC:
            pretrained = read_vectors(Path(vectors), dataset.vocabulary)
        if vectors:
            own = _with_vectors(model, own, vectors, pretrained)
        torch.manual_seed(seed)
        classifier = TextClassifier.create(
            model,
            own,
            dataset.vocabulary,
            dataset.label_names,
            tokenizer=dataset.tokenizer,
            max_tokens=dataset.max_tokens,
        ).to(place)
        if vectors == WORD2VEC:  # only now: this takes minutes, and the settings have been checked
            pretrained = _learn_vectors(dataset, classifier, seed, progress)
        if pretrained:
            _start_from(pretrained, classifier)
        rule = make_optimizer(optimizer, classifier.model.parameters(), lr, optimizer_settings)
        return classifier, rule, len(pretrained.ids) if pretrained else 0

    classifier, rule, pretrained = start(dataset)
    learn = learning(
        settings,
        device=place,
        checkpoint_every=checkpoint_every,
        progress=progress,
    )
    board = Board(out) if out else None
    try:
        state = learn(
            classifier.model,
            rule,
            dataset.train,
            dataset.dev,
            class_weights=_class_weights(class_weights, dataset),
            checkpoint=out / CHECKPOINT if out else None,
            resume=resume,
            board=board,
        )
        dev_scores = scores(classifier.model, dataset.dev, device=place, amp=amp)
        dev = metrics(dev_scores, dataset.dev.labels)
        documents = {"train": len(dataset.train), "dev": len(dataset.dev)}
        spent = [state]
        if refit:
            console = Console(stderr=True, quiet=not progress)
            console.print(f"again up to epoch {state.best_epoch}, with the dev documents")
            dataset = dataset.whole()
            classifier, rule, pretrained = start(dataset)
            checkpoint = out / REFIT if out else None
            again = learn(
                classifier.model,
                rule,
                dataset.train,
                None,
                class_weights=_class_weights(class_weights, dataset),
                stop_after=state.best_epoch,
                checkpoint=checkpoint,
                resume=resume and checkpoint is not None and checkpoint.exists(),
            )
            spent.append(again)
        trained, busy = sum(s.documents for s in spent), sum(s.train_seconds for s in spent)
        record: dict[str, Any] = {
            **provenance(seed),
            "settings": settings,
            "data": dict(dataset.fingerprints),
            "documents": documents,
            "vocabulary": len(dataset.vocabulary),
            "pretrained": pretrained,
            "parameters": sum(p.numel() for p in classifier.model.parameters()),
            "best_epoch": state.best_epoch,
            "history": state.history,
            "dev": dev.summary(),
            "seconds": sum(s.seconds for s in spent),
            "documents_per_second": trained / max(1e-9, busy),
        }
        if out:
            # Saved before the test split is opened: nothing wrong with it can lose the training.
            classifier.save(out / CLASSIFIER)
            if refit:
                write_atomically(out / DEV_SCORES, partial(torch.save, dev_scores))
            write_json(out / METRICS, record)
        if dataset.has_test:
            began = time.perf_counter()
            try:
                test_documents = dataset.read_test()
            except UserError as error:
                kept = f" (the trained classifier is kept in {out / CLASSIFIER})" if out else ""
                raise UserError(f"{error}{kept}") from error
            test_scores = scores(classifier.model, test_documents, device=place, amp=amp)
            test = metrics(check_scores(test_scores, "the trained model"), test_documents.labels)
            record["documents"]["test"] = len(test_documents)
            record["data"] = dict(dataset.fingerprints)
            record["test"] = test.summary() | {"classes": test.per_class(dataset.label_names)}
            record["test_seconds"] = time.perf_counter() - began
            if board:
                board.figures(test, state.step, split="test")
                board.result(test, test_documents, dataset.label_names, state.step, split="test")
        if board and out:
            board.result(dev, dataset.dev, dataset.label_names, state.step, split="dev")
            if classifier.has_attention:
                some = range(min(_EXPLAINED, len(dataset.dev)))
                explained = classifier.explain_documents(dataset.dev, some)
                board.attention(explained, state.step, split="dev")
            final = {f"dev {name}": value for name, value in record["dev"].items()}
            if "test" in record:
                final["test accuracy"] = record["test"]["accuracy"]
                final["test macro_f1"] = record["test"]["macro_f1"]
            board.hyper_parameters(settings, final)
            write_json(out / METRICS, record)
    finally:
        if board:
            board.close()
    return classifier, record


def parse_settings(what: str, kind: Callable[..., Any], given: Sequence[str]) -> dict[str, Any]:
    """Hyper-parameters from the command line, typed by the signature that takes them.

    Args:
        what: Whose hyper-parameters they are, for messages.
        kind: The class whose keyword-only arguments they are.
        given: ``name=value`` each.

    Raises:
        UserError: An unknown name or a value of another type than the default.
    """
    sizes = ("vocabulary_size", "num_classes", "lr")
    allowed = {
        name: parameter.default
        for name, parameter in inspect.signature(kind).parameters.items()
        if parameter.default is not parameter.empty and name not in sizes
    }
    settings: dict[str, Any] = {}
    defaults = ", ".join(f"{n}={v}" for n, v in allowed.items())
    for item in given:
        name, equals, text = item.partition("=")
        name = name.strip().replace("-", "_")
        check_names(what, "setting", [f"{name}{equals}{text}"], allowed, defaults)
        if not equals:
            raise UserError(f"{what}: {name} has no value; write {name}={allowed[name]}")
        settings[name] = _typed(what, name, text, allowed[name])
    return settings


def _typed(what: str, name: str, text: str, default: Any) -> Any:
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = text
    if text.lower() in ("true", "false", "none"):
        value = {"true": True, "false": False, "none": None}[text.lower()]
    if isinstance(default, float) and type(value) is int:
        value = float(value)
    if isinstance(default, tuple) and isinstance(value, int | float):
        value = (value,)
    if default is not None and value is not None and type(value) is not type(default):
        kind = type(default).__name__
        raise UserError(f"{what}: {name} must be of type {kind} like {default!r}, not {text!r}")
    return value


def check_choices(device: str, amp: bool, optimizer: str, schedule: str) -> torch.device:
    """The device, once all that is chosen by name is there.

    Raises:
        UserError: An unknown or missing device, optimizer or schedule; `amp` without CUDA.
    """
    place = choose_device(device)
    if amp and place.type != "cuda":
        raise UserError("amp (bf16 autocast) needs a CUDA device; leave it out on a CPU")
    if optimizer not in OPTIMIZERS:
        raise UserError(f"optimizer must be one of {', '.join(OPTIMIZERS)}, not {optimizer!r}")
    if schedule not in SCHEDULES:
        raise UserError(f"schedule must be one of {', '.join(SCHEDULES)}, not {schedule!r}")
    return place


def make_optimizer(
    name: str, parameters: Iterable[Tensor], lr: float, settings: Mapping[str, Any] | None = None
) -> torch.optim.Optimizer:
    """A rule of `OPTIMIZERS` over parameters in float32.

    Raises:
        UserError: A hyper-parameter that the rule refuses.
    """
    if lr > torch.finfo(torch.float32).max:
        raise UserError(f"lr must be a number that float32 holds, below 3.4e+38, not {lr:g}")
    try:
        return OPTIMIZERS[name](parameters, lr=lr, **(settings or {}))
    except (TypeError, ValueError) as error:
        raise UserError(f"{name}: {error}") from error


def choose_device(name: str) -> torch.device:
    """A device by name; ``auto`` is CUDA where there is one.

    Raises:
        UserError: Another name, or CUDA where there is none.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name not in ("cpu", "cuda"):
        raise UserError(f"device must be auto, cpu or cuda, not {name!r}")
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("device is cuda, but torch sees no CUDA device here; use cpu or auto")
    return torch.device(name)


def learning(settings: dict[str, Any], **options: Any) -> Callable[..., State]:
    """`fit` with what `settings` say about it, and further of its `options`.

    Raises:
        UserError: A warm-up or a norm that cannot be used.
    """
    named = ("epochs", "batch_size", "seed", "amp", "label_smoothing", "patience")
    return partial(
        fit,
        **{name: settings[name] for name in named},
        schedule=with_warmup(SCHEDULES[settings["schedule"]], settings["warmup"]),
        clip_gradients=clipping(settings["clip_norm"]),
        settings=settings,
        **options,
    )


def claim(out: Path, resume: bool = False) -> None:
    """Make the run folder.

    Raises:
        UserError: It holds a run already (unless that is to be resumed) or cannot be written to.
    """
    if not resume and any((out / name).exists() for name in (CHECKPOINT, METRICS)):
        raise UserError(f"{out} already holds a run: give another --out, or --resume to go on")
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(f"cannot write to {out}: {error.strerror}; give another --out") from error


def clipping(clip_norm: float | None) -> Callable[..., Any] | None:
    """Clipping to a total norm; None for none.

    Raises:
        UserError: The norm is not above 0.
    """
    if clip_norm is None:
        return None
    if not clip_norm > 0:
        raise UserError(f"clip_norm must be above 0, not {clip_norm}")
    return partial(clip_grad_norm_, max_norm=clip_norm)


def _with_class_counts(model_settings: Mapping[str, Any], dataset: Dataset) -> dict[str, Any]:
    """A hierarchical output gets its tree from the training labels, unless it has one."""
    if model_settings.get("output") != "hierarchical":
        return dict(model_settings)
    counts = np.bincount(dataset.train.labels, minlength=len(dataset.label_names))
    return {"class_counts": tuple(counts.tolist()), **model_settings}


def _with_vectors(
    model: str,
    model_settings: dict[str, Any],
    vectors: Path | str,
    pretrained: PretrainedVectors | None,
) -> dict[str, Any]:
    """A file decides the length of a vector; with vectors TextCNN is not CNN-rand."""
    if model not in MODELS:
        return model_settings
    parameters = inspect.signature(MODELS[model]).parameters
    filled: dict[str, Any] = {}
    if pretrained:
        dim = filled["embedding_dim"] = pretrained.rows.shape[1]
        if model_settings.get("embedding_dim", dim) != dim:
            raise UserError(
                f"embedding_dim is {model_settings['embedding_dim']}, but the vectors in {vectors} "
                f"have {dim} numbers: leave embedding_dim out"
            )
    if "channels" in parameters:
        filled["channels"] = "non-static"
        if model_settings.get("channels") == "rand":
            raise UserError("channels=rand takes no --vectors; leave one of them out")
    return filled | model_settings


def _learn_vectors(
    dataset: Dataset, classifier: TextClassifier, seed: int, progress: bool
) -> PretrainedVectors:
    vectors: Any = classifier.model.vectors
    console = Console(stderr=True, quiet=not progress)
    with console.status("word2vec") as status:
        learned = learn_vectors(
            dataset.train,
            dataset.vocabulary,
            dimensions=vectors.embedding_dim,
            seed=seed,
            on_epoch=lambda done: status.update(f"word2vec: {done} of {EPOCHS} passes"),
        )
    console.print(f"word2vec: {len(learned.ids):,} word vectors learned", highlight=False)
    return learned


def _start_from(pretrained: PretrainedVectors, classifier: TextClassifier) -> None:
    ids, rows = torch.from_numpy(pretrained.ids), torch.from_numpy(pretrained.rows)
    vectors: Any = classifier.model.vectors
    set_word_vectors(vectors.weight, ids, rows, len(classifier.vocabulary))
    static: Any = getattr(classifier.model, "static_vectors", None)
    if static is not None:
        static.load_state_dict(vectors.state_dict())


def _class_weights(kind: str, dataset: Dataset) -> torch.Tensor | None:
    if kind == "none":
        return None
    classes = len(dataset.label_names)
    counts = np.bincount(dataset.train.labels, minlength=classes)
    return torch.tensor(len(dataset.train) / (classes * np.maximum(1, counts)), dtype=torch.float32)
