"""Choose on dev documents how a classifier decides, at the end of its training or later."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from dlnotes.arguments import check
from dlnotes.errors import UserError
from dlnotes.files import read_json, write_json
from dlnotes.training.classifier import Classifier, decision_in
from dlnotes.training.decision import (
    DEFAULT,
    Deciding,
    Decision,
    check_precision,
    check_threshold,
    decision_from,
    warn_of_temperature,
)
from dlnotes.training.evaluate import metrics
from dlnotes.training.folder import CLASSIFIER, CONFIG, METRICS

_BEFORE, _AFTER = "dev_before", "dev_after"


def must_choose(choices: Deciding, multi_label: bool) -> bool:
    """Whether anything has to be chosen on dev documents.

    Raises:
        UserError: See `check_precision` and `check_threshold`.
    """
    check_precision(choices.precision, multi_label)
    check_threshold(choices.threshold, multi_label)
    thresholds = multi_label and choices.threshold != "none"
    return thresholds or choices.calibrate or choices.precision is not None


def choose_decision_for(
    classifier: Classifier, scores: Float[Tensor, "n c"], labels: Any, choices: Deciding
) -> dict[str, Any]:
    """Choose the decision of a classifier on dev documents.

    Args:
        classifier: The classifier whose decision is set.
        scores: Scores of dev documents, by a classifier that has not learned from them.
        labels: The labels of these documents.
        choices: What to choose. There is a warning if the precision cannot be reached.

    Returns:
        The entry of a record: under ``decision`` the decision, and the dev figures before and
        after it.

    Raises:
        UserError: See `choose_decision`.
    """
    decision, rejection = choices.choose(scores, labels, multi_label=classifier.multi_label)
    if choices.precision and rejection and not rejection.reached:
        warnings.warn(f"{rejection.refusal(choices.precision)}; nothing is rejected", stacklevel=2)
    if choices.calibrate:
        warn_of_temperature(decision.temperature, len(scores))
    classifier.decision = decision
    before, after = (metrics(scores, labels, each) for each in (DEFAULT, decision))
    return {
        "decision": {
            **decision.changed(),
            _BEFORE: before.summary(),
            _AFTER: after.summary(),
        }
    }


def describe_decision(record: Mapping[str, Any], documents: int) -> str:
    """What `choose_decision_for` has chosen on this number of documents, in one line."""
    before, after = record[_BEFORE], record[_AFTER]
    parts = []
    if "temperature" in record:
        errors = f"{before['ece']:.4f} → {after['ece']:.4f}"
        parts.append(f"temperature {record['temperature']:.3g} (calibration error {errors})")
    if "threshold" in record:
        found = record["threshold"]
        several = isinstance(found, list)
        shown = f"{min(found):.3f} to {max(found):.3f}" if several else f"{found:.3f}"
        change = f"{before['micro_f1']:.4f} → {after['micro_f1']:.4f}"
        parts.append(f"threshold{'s' * several} {shown} (micro-F1 {change})")
    if "reject" in record:
        parts.append(
            f"no label below a probability of {record['reject']:.4f} "
            f"({round(after['coverage'] * documents):,} of {documents:,} documents labelled, "
            f"{after['answered_accuracy']:.4f} of these correctly)"
        )
    return ", ".join(parts) or "as by default"


def recorded_decision(path: Path, record: Mapping[str, Any]) -> Decision:
    """The decision in the record of a training; the default where it has none.

    Raises:
        UserError: The record is damaged.
    """
    found = record.get("decision") or {}
    try:
        check({"decision": Mapping[str, Any]}, {"decision": found})
        return decision_from({n: v for n, v in found.items() if n not in (_BEFORE, _AFTER)})
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def has_trained_decision(run: Path) -> bool:
    """Whether a run's classifier still has the decision that the figures of its record belong to.

    Also True if one of the two cannot be read.
    """
    try:
        record = read_json(run / METRICS, "", finite=False)
        now = decision_from(read_json(run / CLASSIFIER / CONFIG, "").get("decision"))
        return now == recorded_decision(run / METRICS, record)
    except (UserError, AttributeError):
        return True


def rewrite_decision(run: Path, decision: Decision) -> None:
    """Change the decision of a classifier in a folder, and nothing else in it.

    Args:
        run: The classifier's folder, or a run's, which has it inside.
        decision: The new one.

    Raises:
        UserError: The folder cannot be read or written to.
    """
    folder = run / CLASSIFIER if (run / CLASSIFIER).is_dir() else run
    config = read_json(folder / CONFIG, "is not a trained classifier of dlnotes")
    config.pop("decision", None)
    write_json(folder / CONFIG, {**config, **decision_in(decision)})
