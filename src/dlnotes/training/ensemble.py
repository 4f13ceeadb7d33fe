"""Make ensembles of trained runs, and draw the training documents of boosted or bagged members."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dlnotes.arguments import OneOf, Range, Seed, check_fields, checked, fields_of
from dlnotes.data.dataset import Dataset, load_dataset
from dlnotes.data.documents import Documents
from dlnotes.data.labels import LabelSets
from dlnotes.data.readers import Source
from dlnotes.data.reading import Reading
from dlnotes.data.seen import Seen
from dlnotes.errors import UserError
from dlnotes.files import check_regular, read_json, write_json
from dlnotes.models.averaging import AVERAGES, average_scores, greedy_weights, samme
from dlnotes.training.calibration import choose_decision_for, must_choose
from dlnotes.training.classifier import Ensemble, TextClassifier, check_same_answers
from dlnotes.training.decision import Deciding
from dlnotes.training.evaluate import check_scores, metrics, scores
from dlnotes.training.folder import CLASSIFIER, DEV_SCORES, DOCUMENTS, METRICS, run_folder
from dlnotes.training.multi_label import score_and_loss
from dlnotes.training.record import provenance

WEIGHTING = ("greedy", "equal", "boosting")


@dataclass
class Member:
    """A trained run, and the documents as its classifier reads them.

    Attributes:
        run: The run's folder.
        classifier: The trained classifier.
        dataset: The documents, encoded by the classifier's vocabulary.
        split: What determined the dev documents of its training, see `dev_split`.
        dev_scores: Scores of `dataset.dev` from before the classifier was also trained on these
            documents (see `refit` of `train_classifier`); None if it has not learned from them.
    """

    run: Path
    classifier: TextClassifier
    dataset: Dataset
    split: dict[str, Any]
    dev_scores: Float[Tensor, "n c"] | None = None

    def score_dev(self) -> Float[Tensor, "n c"]:
        """Scores of the dev documents by a classifier that has not learned from them.

        Raises:
            UserError: Some scores are NaN.
        """
        if self.dev_scores is not None:
            return check_scores(self.dev_scores, f"{self.run} before --refit")
        return self.score(self.dataset.dev)

    def score(self, documents: Documents) -> Float[Tensor, "n c"]:
        """Scores of other documents.

        Raises:
            UserError: Some scores are NaN.
        """
        return check_scores(scores(self.classifier.model, documents), str(self.run))


@checked
def load_members(
    runs: Sequence[Path], sources: Mapping[str, Source], *, cache_dir: Path | None = None
) -> list[Member]:
    """Load runs that were trained on the same documents.

    A document that a run has trained on cannot be a dev document of the ensemble. The runs' dev
    split is made again from the settings in their ``metrics.json`` and must be the same for all,
    unless `sources` contains dev documents.

    Args:
        runs: Run folders of single models.
        sources: ``train``, and optionally ``dev`` and ``test``, as for `load_dataset`.
        cache_dir: See `dlnotes.data.tokenized.tokenize`.

    Raises:
        UserError: A folder is not such a run, the dev documents of the runs differ, or they were
            not trained on `sources`.
    """
    members: list[Member] = []
    for number, run in enumerate(runs):
        if run.resolve() in (each.resolve() for each in runs[:number]):
            raise UserError(f"{run} is given twice")
    classifiers = [_loaded(run) for run in runs]
    check_same_answers([str(run) for run in runs], classifiers)
    records = [_record(run) for run in runs]
    for run, (_, data, _) in zip(runs, records, strict=True):
        if data["train"] != records[0][1]["train"]:
            raise UserError(
                f"{runs[0]} and {run} have learned from different documents: the members of an "
                "ensemble must have learned from the same ones"
            )
    for run, classifier, record in zip(runs, classifiers, records, strict=True):
        settings, data, documents = record
        if settings.get("parent") and "dev" not in sources:
            raise _kept_dev(run)
        split = dev_split(settings, data)
        dataset = load_dataset(
            sources,
            replace(reading_of(run, settings), tokenizer=classifier.tokenizer),
            cache_dir=cache_dir,
            vocabulary=classifier.vocabulary,
            labels=classifier.labels,
            subwords=classifier.subwords,
        )
        if dataset.fingerprints["train"] != data["train"]:
            raise UserError(f"{run} was trained on other documents than those given for training")
        if "dev" in dataset.fingerprints:
            if dataset.fingerprints["dev"] == data["train"]:
                raise UserError(f"the dev documents are those that {run} was trained on")
        elif "dev" in data:
            raise UserError(f"{run} had dev documents of its own: give them with --dev FILE")
        elif members and split != members[0].split:
            raise UserError(
                f"the dev documents of {runs[0]} and {run} differ, so that one may have trained on "
                f"the other's ({_difference(members[0].split, split)}): train with the same "
                f"{_options(members[0].split, split)}, or give documents that none has seen with "
                "--dev FILE"
            )
        dev_scores = None
        as_trained = dataset.fingerprints.get("dev") == data.get("dev")
        # A run with a file of dev documents may also have kept the dev documents of its parent.
        if as_trained and settings.get("parent") and documents.get("dev") != len(dataset.dev):
            raise _kept_dev(run)
        if settings.get("refit") and as_trained:
            shape = len(dataset.dev), len(classifier.label_names)
            dev_scores = _kept_scores(run / DEV_SCORES, shape)
        elif not as_trained and (seen := learned_by(run, settings)):
            seen.warn_of_learned(dataset.text_keys("dev"), str(run), "dev")
        members.append(Member(run, classifier, dataset, split, dev_scores))
    return members


def _loaded(run: Path) -> TextClassifier:
    classifier = TextClassifier.load(run)
    if not isinstance(classifier, TextClassifier):
        raise _is_ensemble(run)
    return classifier


def _kept_dev(run: Path) -> UserError:
    return UserError(
        f"{run} started from another run, whose dev documents it kept, so that they cannot be "
        "found again: give documents that no run has seen with --dev FILE"
    )


def _is_ensemble(run: Path) -> UserError:
    return UserError(f"{run} is an ensemble itself; give the runs that it is made of")


def read_record(run: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Settings and fingerprints of the data, from the record of a finished training.

    Raises:
        UserError: There is no such record, it is that of an ensemble, or it lacks an entry that an
            ensemble needs.
    """
    settings, data, _ = _record(run)
    return settings, data


def _record(run: Path) -> tuple[dict[str, Any], dict[str, str], dict[str, Any]]:
    """The result of `read_record`, and how many documents each split had."""
    path = run / METRICS
    record = read_json(path, "is not a finished run", finite=False)
    check_fields(path, record, {"settings": Mapping[str, Any], "data": Mapping[str, Any]})
    settings, data = record["settings"], record["data"]
    if settings.get("model") == "ensemble":
        raise _is_ensemble(run)
    check_fields(path, settings, {"seed": Seed})
    check_fields(path, data, dict.fromkeys({"train", *data}, str))
    documents = record.get("documents", {})
    check_fields(path, {"documents": documents}, {"documents": Mapping[str, Any]})
    return settings, data, documents


def learned_by(run: Path, settings: Mapping[str, Any]) -> Seen | None:
    """The documents that a run has seen; None if they are not known.

    Those that it has learned from, after a refit also the dev documents, are under ``train``.

    Args:
        run: The run's folder.
        settings: The settings in its record.

    Raises:
        UserError: The file with the documents' digests is damaged.
    """
    seen = Seen.load(run / DOCUMENTS)
    return seen.with_dev_learned() if seen and settings.get("refit") else seen


def reading_of(run: Path, settings: Mapping[str, Any]) -> Reading:
    """How a run read its documents; settings that its record lacks have their defaults.

    Raises:
        UserError: The record is damaged.
    """
    known = {name: settings[name] for name in fields_of(Reading) if name in settings}
    try:
        return Reading(**{"split_seed": settings["seed"], **known})
    except UserError as error:
        raise UserError(f"{run / METRICS}: {error}") from error


def _kept_scores(path: Path, shape: tuple[int, int]) -> Float[Tensor, "n c"]:
    try:
        check_regular(path)
        kept: Any = torch.load(path, map_location="cpu", weights_only=True)
        fits = isinstance(kept, Tensor) and kept.is_floating_point() and kept.shape == shape
    except UserError:
        raise
    except FileNotFoundError as error:
        raise UserError(f"{path.parent} has no {path.name}, which --refit writes") from error
    except Exception as error:  # on a damaged file an unpickler may raise anything
        raise UserError(f"{path} does not hold the scores of the run's dev documents") from error
    if not fits:
        raise UserError(
            f"{path} does not hold the scores of the run's dev documents, of shape {shape}"
        )
    return cast(Tensor, kept)


def dev_split(settings: Mapping[str, Any], data: Mapping[str, str]) -> dict[str, Any]:
    """What determines a run's dev documents: if it is equal, two runs have the same ones."""
    if "dev" in data:
        return {"train": data["train"], "dev": data["dev"]}
    return {
        "train": data["train"],
        "split seed": settings.get("split_seed", settings["seed"]),
        "dev_fraction": settings.get("dev_fraction", 0.1),
        "label_column": settings.get("label_column"),
        "header": settings.get("header"),
    }


def _difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    names = [name for name in {**one, **other} if one.get(name) != other.get(name)]
    return ", ".join(f"{name} is {one.get(name)!r} and {other.get(name)!r}" for name in names)


def _options(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """The options of dlnotes train behind the differences between two `dev_split`."""
    different = [name for name in {**one, **other} if one.get(name) != other.get(name)]
    return " and ".join(f"--{name.replace(' ', '-').replace('_', '-')}" for name in different)


@checked
def make_ensemble(
    members: Sequence[Member],
    out: Path | None,
    *,
    average: Annotated[str, OneOf(AVERAGES)] = "probabilities",
    weights: Annotated[str, OneOf(WEIGHTING)] = "greedy",
    rounds: Annotated[int, Range(1, lt=100_001)] = 50,
    deciding: Deciding | None = None,
) -> tuple[Ensemble, dict[str, Any]]:
    """Weight the members on dev, then read the test split and measure on it, once.

    Args:
        members: The result of `load_members`.
        out: Run folder, for the ensemble's folder and ``metrics.json``. None writes nothing.
        average: ``probabilities`` or ``logits``, see `average_scores`.
        weights: ``greedy`` chooses weights on dev (see `greedy_weights`); ``equal`` gives all
            members the same weight; ``boosting`` takes the weights of boosting (see `samme`),
            divided by their sum, for members that were trained one after another in this order.
        rounds: Number of rounds of the greedy choice.
        deciding: What to choose on dev for the averaged scores; default: `Deciding()`.

    Returns:
        The ensemble and its record (the content of ``metrics.json``).

    Raises:
        UserError: Settings or members cannot be used.
    """
    if not members:
        raise UserError("members must be one or more trained runs, not none")
    names = [str(member.run) for member in members]
    # Created before anything is scored, so that members with different labels are refused at once.
    equal = [1 / len(members)] * len(members)
    ensemble = Ensemble([m.classifier for m in members], equal, names, average)
    deciding = deciding or Deciding()
    must_choose(deciding, ensemble.multi_label)  # refuse impossible choices at once
    with run_folder(out, resume=None) if out else nullcontext():
        record = _weigh(ensemble, members, out, weights=weights, rounds=rounds, deciding=deciding)
    return ensemble, record


def _weigh(
    ensemble: Ensemble,
    members: Sequence[Member],
    out: Path | None,
    *,
    weights: str,
    rounds: int,
    deciding: Deciding,
) -> dict[str, Any]:
    """Give the ensemble its weights and measure it; see `make_ensemble`."""
    names, average = ensemble.names, ensemble.average
    labels = members[0].dataset.dev.labels
    dev = [m.score_dev() for m in members]
    several = ensemble.multi_label
    if weights == "greedy":
        ensemble.weights = greedy_weights(
            dev,
            torch.zeros(0) if isinstance(labels, LabelSets) else torch.from_numpy(labels),
            kind=average,
            rounds=rounds,
            multi_label=several,
            figures=partial(score_and_loss, labels=labels) if several else None,
        )
    elif weights == "boosting":
        alpha, _ = _boosted(members)
        ensemble.weights = (alpha / alpha.sum()).tolist()

    def figures(each: list[Float[Tensor, "n c"]], split: str, documents: Documents) -> None:
        averaged = average_scores(each, ensemble.weights, average, multi_label=several)
        if split == "dev" and must_choose(deciding, ensemble.multi_label):
            record.update(choose_decision_for(ensemble, averaged, documents.labels, deciding))
        whole = metrics(averaged, documents.labels, ensemble.decision)
        record["documents"][split] = len(documents)
        record[split] = whole.summary()
        if split == "test":
            record[split]["classes"] = whole.per_class(ensemble.label_names)
        for row, s, member in zip(record["members"], each, members, strict=True):
            row[split] = metrics(s, documents.labels, member.classifier.decision).summary()

    record: dict[str, Any] = {
        **provenance(0),
        "settings": {
            "model": "ensemble",
            "members": names,
            "average": average,
            "weights": weights,
            "rounds": rounds,
            **asdict(deciding),
        },
        "documents": {},
        "members": [
            {"run": name, "model": m.classifier.model_name, "weight": weight}
            for name, m, weight in zip(names, members, ensemble.weights, strict=True)
        ],
    }
    figures(dev, "dev", members[0].dataset.dev)
    if out:
        ensemble.save(out / CLASSIFIER)
    if members[0].dataset.has_test:
        tests = [m.dataset.read_test() for m in members]
        each = [m.score(t) for m, t in zip(members, tests, strict=True)]
        figures(each, "test", tests[0])
    record["data"] = dict(members[0].dataset.fingerprints)
    if out:
        write_json(out / METRICS, record)
    return record


@checked
def boost(
    dataset: Dataset, members: Sequence[Member], split: Mapping[str, Any], seed: Seed
) -> Dataset:
    """The training documents for the next member of a boosted ensemble (see `samme`).

    The algorithm weights the documents in the loss. Here as many documents are drawn instead, with
    the weights as probabilities: this has the same expectation and does not change the training
    loop.

    Args:
        dataset: The documents of the next member.
        members: The members so far, in the order of their training.
        split: The `dev_split` of `dataset`.
        seed: Seed of the draw.

    Raises:
        UserError: A member was trained on other documents, makes no error on the training
            documents, or is no better than chance.
    """
    if dataset.multi_label:
        raise UserError(
            "boosting is for documents of one label each: with several labels there is no one "
            "decision that a member gets right or wrong; for an ensemble train with other seeds or "
            "with --bootstrap"
        )
    for member in members:
        if member.split != split:
            raise UserError(
                f"{member.run} was trained on other documents "
                f"({_difference(member.split, split)}): give the same "
                f"{_options(member.split, split)}"
            )
    _, weights = _boosted(members)
    return _drawn(dataset, weights.numpy(), seed, boost=[str(member.run) for member in members])


@checked
def bootstrap(dataset: Dataset, seed: Seed) -> Dataset:
    """Draw as many training documents with replacement: the data of one member of bagging.

    Breiman 1996, https://doi.org/10.1007/BF00058655. The vocabulary remains that of all documents.

    Args:
        dataset: The documents to draw from.
        seed: Seed of the draw.
    """
    n = len(dataset.train)
    return _drawn(dataset, np.full(n, 1 / n), seed, bootstrap=True, bootstrap_seed=seed)


def _drawn(dataset: Dataset, probabilities: Any, seed: int, **described: Any) -> Dataset:
    n = len(dataset.train)
    drawn = np.random.default_rng(seed).choice(n, n, p=probabilities)
    train = dataset.train.take(drawn)
    return replace(dataset, train=train, described=dataset.described | described)


def _boosted(members: Sequence[Member]) -> tuple[Float[Tensor, " k"], Float[Tensor, " n"]]:
    wrong = []
    for member in members:
        train = member.dataset.train
        assert not isinstance(train.labels, LabelSets)
        predicted = member.score(train).argmax(-1)
        wrong.append(predicted != torch.from_numpy(train.labels))
    try:
        return samme(torch.stack(wrong), len(members[0].classifier.label_names))
    except ValueError as error:
        runs = ", ".join(str(member.run) for member in members)
        raise UserError(
            f"boosting cannot go on with {runs}: on training documents {error}"
        ) from error
