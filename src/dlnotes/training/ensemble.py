"""From trained runs to an ensemble, and to the next member of a boosted one."""

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
from dlnotes.training.calibration import decide_for, decides
from dlnotes.training.classifier import Ensemble, TextClassifier, check_same_answers
from dlnotes.training.decision import Deciding
from dlnotes.training.evaluate import check_scores, metrics, scores
from dlnotes.training.folder import CLASSIFIER, DEV_SCORES, DOCUMENTS, METRICS, run_folder
from dlnotes.training.multi_label import score_and_loss
from dlnotes.training.record import provenance

WEIGHTING = ("greedy", "equal", "boosting")


@dataclass
class Member:
    """A trained run and the documents, as its classifier reads them.

    Attributes:
        run: The run's folder.
        classifier: What was trained.
        dataset: Its splits, numbered by the classifier's vocabulary.
        split: What decided which documents were dev in training, see `dev_split`.
        dev_scores: Of `dataset.dev`, given before the classifier was trained on these documents
            too (see `refit` of `train_classifier`); None where it has not seen them.
    """

    run: Path
    classifier: TextClassifier
    dataset: Dataset
    split: dict[str, Any]
    dev_scores: Float[Tensor, "n c"] | None = None

    def score_dev(self) -> Float[Tensor, "n c"]:
        """Scores of the dev documents by a classifier that has not learned from them.

        Raises:
            UserError: They are not numbers.
        """
        if self.dev_scores is not None:
            return check_scores(self.dev_scores, f"{self.run} before --refit")
        return self.score(self.dataset.dev)

    def score(self, documents: Documents) -> Float[Tensor, "n c"]:
        """Scores of other documents.

        Raises:
            UserError: They are not numbers.
        """
        return check_scores(scores(self.classifier.model, documents), str(self.run))


@checked
def load_members(
    runs: Sequence[Path], sources: Mapping[str, Source], *, cache_dir: Path | None = None
) -> list[Member]:
    """Load runs that were trained on the same documents.

    A document that one run has trained on is no dev document for an ensemble. The runs' dev split
    is cut again from what their ``metrics.json`` says, and must be the same for all, unless
    `sources` has dev documents of its own.

    Args:
        runs: Run folders of single models.
        sources: ``train``, and optionally ``dev`` and ``test``, as for `load_dataset`.
        cache_dir: See `dlnotes.data.tokenized.tokenize`.

    Raises:
        UserError: A folder that is not such a run, runs whose dev documents differ, or `sources`
            that are not what the runs were trained on.
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
        # A run with a file of dev documents may have kept those of its parent beside them.
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
        UserError: There is no such record, it is that of an ensemble, or it lacks what an ensemble
            needs to know of its members.
    """
    settings, data, _ = _record(run)
    return settings, data


def _record(run: Path) -> tuple[dict[str, Any], dict[str, str], dict[str, Any]]:
    """What `read_record` gives, and how many documents each split had."""
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
    """The documents that a run has seen, those it has learned from as ``train``; None: not known.

    Args:
        run: Its folder.
        settings: Those of its record.

    Raises:
        UserError: What it says of them is damaged.
    """
    seen = Seen.load(run / DOCUMENTS)
    return seen.with_dev_learned() if seen and settings.get("refit") else seen


def reading_of(run: Path, settings: Mapping[str, Any]) -> Reading:
    """How a run read its documents; what its record does not say had the default.

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
    except Exception as error:  # an unpickler may trip over a damaged file in any way
        raise UserError(f"{path} does not hold the scores of the run's dev documents") from error
    if not fits:
        raise UserError(
            f"{path} does not hold the scores of the run's dev documents, of shape {shape}"
        )
    return cast(Tensor, kept)


def dev_split(settings: Mapping[str, Any], data: Mapping[str, str]) -> dict[str, Any]:
    """What decides which documents are dev: equal for two runs whose dev documents are the same."""
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
    """The options of dlnotes train that decide what is different."""
    different = [name for name in {**one, **other} if one.get(name) != other.get(name)]
    return " and ".join(f"--{name.replace(' ', '-').replace('_', '-')}" for name in different)


@checked
def make_ensemble(
    members: Sequence[Member],
    out: Path | None,
    *,
    average: Annotated[str, OneOf(AVERAGES)] = "probabilities",
    weights: Annotated[str, OneOf(WEIGHTING)] = "greedy",
    rounds: Annotated[int, Range(1, below=100_001)] = 50,
    deciding: Deciding | None = None,
) -> tuple[Ensemble, dict[str, Any]]:
    """Weigh the members on dev, then read and measure the test split, once.

    Args:
        members: What `load_members` gave.
        out: Run folder: the ensemble's folder and ``metrics.json``. None keeps nothing.
        average: ``probabilities`` or ``logits``, see `average_scores`.
        weights: ``greedy`` chooses on dev (see `greedy_weights`); ``equal`` weighs all equally;
            ``boosting`` takes the weights that boosting gave the members, which were trained one
            after the other in this order (see `samme`), divided by their sum.
        rounds: Of the greedy choice.
        deciding: What is chosen for the averaged scores on dev; default `Deciding()`.

    Returns:
        The ensemble and its record (what ``metrics.json`` holds).

    Raises:
        UserError: Settings or members that cannot be used.
    """
    if not members:
        raise UserError("members must be one or more trained runs, not none")
    names = [str(member.run) for member in members]
    # Made before anything is scored: members with different labels are refused at once.
    equal = [1 / len(members)] * len(members)
    ensemble = Ensemble([m.classifier for m in members], equal, names, average)
    deciding = deciding or Deciding()
    decides(deciding, ensemble.multi_label)  # what is not possible is refused at once
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
        if split == "dev" and decides(deciding, ensemble.multi_label):
            record.update(decide_for(ensemble, averaged, documents.labels, deciding))
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

    The algorithm weighs the documents in the loss; here an equal number is drawn with the
    weights as probabilities, which is the same in the mean and asks nothing of the training loop.

    Args:
        dataset: What the next member is to be trained on.
        members: The members so far, in the order of their training.
        split: The `dev_split` of `dataset`.
        seed: Decides the draw.

    Raises:
        UserError: A member trained on other documents, with no error in training, or no better
            than chance.
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
    """As many training documents, drawn with replacement: bagging's data for one member.

    Breiman 1996, https://doi.org/10.1007/BF00058655. The vocabulary stays that of all of them.

    Args:
        dataset: What to draw from.
        seed: Decides the draw.
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
