"""Choose how a trained classifier decides: temperature, thresholds, rejection."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from jaxtyping import Float
from rich.table import Table
from torch import Tensor
from tyro.conf import arg

from dlnotes.arguments import OneOf, Range, checked
from dlnotes.commands.runs import given_fields, layout_as_trained
from dlnotes.commands.sources import check_data_folder, sources_of
from dlnotes.data.download import cache_folder
from dlnotes.data.layout import Layout
from dlnotes.data.tokenized import fingerprint, tokenize
from dlnotes.display import console
from dlnotes.errors import UserError
from dlnotes.files import option_of, read_json
from dlnotes.models.averaging import average_scores
from dlnotes.training.calibration import recorded_decision, rewrite_decision
from dlnotes.training.classifier import Classifier, Ensemble, TextClassifier
from dlnotes.training.decision import (
    THRESHOLDS,
    Deciding,
    Decision,
    check_precision,
    warn_of_temperature,
)
from dlnotes.training.ensemble import learned_by, load_members, read_record
from dlnotes.training.evaluate import metrics
from dlnotes.training.folder import METRICS

_NAMES = {
    "loss": "loss",
    "ece": "calibration error (ECE)",
    "accuracy": "accuracy",
    "micro_f1": "micro-F1",
    "macro_f1": "macro-F1",
    "coverage": "documents with a label",
    "answered_accuracy": "accuracy of these labels",
}


@checked
def main(
    run: Path,
    /,
    temperature: bool = True,
    threshold: Annotated[str, OneOf(THRESHOLDS)] | None = None,
    precision: Annotated[float, Range(0, le=1)] | None = None,
    reset: bool = False,
    dev: tuple[Path, ...] = (),
    layout: Annotated[Layout, arg(name="")] = Layout(),
    train: tuple[Path, ...] = (),
    data_dir: Path | None = None,
) -> None:
    """Choose the temperature, thresholds and rejection of a trained classifier on dev documents.

    Its weights stay as they are: only "decision" in the config.json of the classifier changes, and
    with it the probabilities and answers of dlnotes predict and dlnotes evaluate. The dev documents
    are those of the training, found again in the files or the corpus that it read.

    Args:
        run: Folder that dlnotes train or dlnotes ensemble wrote.
        temperature: Divide the scores by a temperature, so that of the predictions with a
            probability of .8, say, 80 % are correct (Guo et al. 2017); --no-temperature divides
            by 1.
        threshold: For documents with any number of labels: how probable a label must be to be
            given. none (.5), one (the threshold with the best micro-F1, the same for all labels) or
            label (one for each label). Default: as in training.
        precision: For documents with one label: the share of the answers that should be correct.
            Where the most probable label is too improbable for that, none is given; 0: always give
            one. Default: as in training.
        reset: Choose nothing; go back to the decision of the training, or to the defaults where the
            folder has no record of a training.
        dev: Other dev documents, from which the classifier has not learned. Needed where the folder
            holds a classifier without its run.
        layout: Where texts and labels are in --dev. Default: as in training.
        train: The training documents, of which the run's dev documents are a part, if their files
            have moved since the training.
        data_dir: Folder of corpora, as for dlnotes train.
    """
    classifier = TextClassifier.load(run)
    record: dict[str, Any] = {}
    if (run / METRICS).exists():
        record = read_json(run / METRICS, "is not a finished run", finite=False)
    if reset:
        others: dict[str, Any] = {
            "no_temperature": not temperature,
            "threshold": threshold,
            "precision": precision is not None,
            "dev": dev,
            **given_fields(layout),
            "train": train,
            "data_dir": data_dir,
        }
        if given := next((name for name, value in others.items() if value), None):
            raise UserError(f"--reset chooses nothing: leave out --reset or {option_of(given)}")
        rewrite_decision(run, recorded_decision(run / METRICS, record))
        as_when = "as after the training" if record else f"as by default: it has no {METRICS}"
        console().print(f"{run} decides {as_when}")
        return
    if not dev and (given := next(iter(given_fields(layout)), None)):
        raise UserError(f"{option_of(given)} belongs to --dev FILE")
    if dev and (train or data_dir):
        given = "--train" if train else "--data-dir"
        raise UserError(
            f"{given} is where the run's own dev documents are found, and --dev gives others: "
            f"leave out {given} or --dev"
        )
    if threshold and not classifier.multi_label:
        raise UserError(
            f"--threshold {threshold} is for classifiers that give a document any number of "
            f"labels, and {run} gives one; see --precision"
        )
    check_precision(precision, classifier.multi_label)
    deciding = _as_in_training(record, temperature, threshold, precision)
    if dev:
        scores, labels = _given(run, record, classifier, dev, layout)
    else:
        scores, labels = _of_the_run(run, classifier, train, data_dir)
    decision, rejection = deciding.choose(scores, labels, multi_label=classifier.multi_label)
    if rejection and deciding.precision and not rejection.reached:
        of_training = (
            ""
            if precision
            else "; this precision is the training's: give another one, or --precision 0 for none"
        )
        refusal = rejection.refusal(deciding.precision)
        raise UserError(f"{refusal}{of_training}; {run} stays as it is")
    if temperature:
        warn_of_temperature(decision.temperature, len(scores))
    rewrite_decision(run, decision)
    both = classifier.decision, decision
    figures = [metrics(scores, labels, each).summary() for each in both]
    _print(len(scores), both, figures)


def _as_in_training(
    record: Mapping[str, Any], temperature: bool, threshold: str | None, precision: float | None
) -> Deciding:
    settings = record.get("settings")
    before: Mapping[str, Any] = settings if isinstance(settings, Mapping) else {}
    try:
        return Deciding(
            threshold=threshold or before.get("threshold", "one"),
            calibrate=temperature,
            precision=before.get("precision") if precision is None else precision,
        )
    except UserError as error:
        raise UserError(f"{METRICS}: {error}") from error


def _given(
    run: Path,
    record: Mapping[str, Any],
    classifier: Classifier,
    dev: tuple[Path, ...],
    layout: Layout,
) -> tuple[Float[Tensor, "n c"], Any]:
    """Scores and labels of dev documents of the user's own."""
    data, settings = record.get("data", {}), record.get("settings", {})
    learned = [data.get("train"), *([data.get("dev")] if settings.get("refit") else [])]
    if fingerprint(dev) in learned:
        raise UserError(f"{run} has learned from these documents: leave out --dev, or give others")
    read = partial(
        tokenize,
        dev,
        layout=layout_as_trained(run, layout),
        cache_dir=cache_folder() / "tokens",
        multi_label=classifier.multi_label,
    )
    learned_from = {run: classifier}
    if isinstance(classifier, Ensemble):
        learned_from = dict(zip(map(Path, classifier.names), classifier.members, strict=True))
    for name, each in learned_from.items():
        if (name / METRICS).exists() and (seen := learned_by(name, read_record(name)[0])):
            assert isinstance(each, TextClassifier)
            texts = read(each.subwords or each.tokenizer)
            seen.warn_of_learned(texts.keys, str(name), "dev")
    return classifier.scores(read, labelled=True)


def _of_the_run(
    run: Path, classifier: Classifier, train: tuple[Path, ...], data_dir: Path | None
) -> tuple[Float[Tensor, "n c"], Any]:
    """Scores and labels of the dev documents that the run was measured on."""
    if not (run / METRICS).exists():
        raise UserError(f"{run} has no {METRICS}, and so no dev documents: give --dev FILE")
    runs = [run]
    if isinstance(classifier, Ensemble):
        runs = [Path(name) for name in classifier.names]
        if missing := next((each for each in runs if not (each / METRICS).exists()), None):
            raise UserError(
                f"{run} was made of {missing}, which is not there (paths are seen from the folder "
                "in which dlnotes ensemble ran): give --dev FILE"
            )
    check_data_folder(data_dir)
    sources = sources_of(runs[0], train, data_dir)
    sources.pop("test", None)
    members = load_members(runs, sources, cache_dir=cache_folder() / "tokens")
    scores = [member.score_dev() for member in members]
    labels = members[0].dataset.dev.labels
    if isinstance(classifier, Ensemble):
        averaged = average_scores(
            scores, classifier.weights, classifier.average, multi_label=classifier.multi_label
        )
        return averaged, labels
    return scores[0], labels


def _print(
    documents: int, decisions: tuple[Decision, Decision], figures: list[dict[str, float]]
) -> None:
    table = Table(f"{documents:,} dev documents")
    for name in ("before", "now"):
        table.add_column(name, justify="right")
    table.add_row("temperature", *(f"{d.temperature:.4g}" for d in decisions))
    if any(d.threshold != Decision().threshold for d in decisions):
        table.add_row("threshold", *(_thresholds(d) for d in decisions))
    if any(d.reject for d in decisions):
        table.add_row("least probability of a label", *(f"{d.reject:.4f}" for d in decisions))
    one_label = "accuracy" in figures[0]
    for name, shown in _NAMES.items():
        if one_label and name.endswith("_f1"):  # a temperature does not change them
            continue
        if any(name in each for each in figures):
            cells = [f"{each[name]:.4f}" if name in each else "" for each in figures]
            if name == "coverage":
                cells = [
                    f"{round(each.get(name, 1) * documents):,} of {documents:,}" for each in figures
                ]
            table.add_row(shown, *cells)
    console().print(table)


def _thresholds(decision: Decision) -> str:
    if isinstance(decision.threshold, float | int):
        return f"{decision.threshold:.4f}"
    return f"{np.min(decision.threshold):.4f} to {np.max(decision.threshold):.4f}"
