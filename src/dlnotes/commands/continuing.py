"""Where a run's documents are, so that a training that starts from it can read them again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from dlnotes.commands import config
from dlnotes.data.corpora import load
from dlnotes.data.dataset import Dataset, load_dataset
from dlnotes.data.download import cache_folder
from dlnotes.data.layout import LABEL, TEXT
from dlnotes.data.readers import Source, check_readable, read
from dlnotes.data.reading import Reading
from dlnotes.data.seen import Seen
from dlnotes.data.tokenized import fingerprint
from dlnotes.display import tell
from dlnotes.errors import UserError
from dlnotes.files import read_json
from dlnotes.training.folder import METRICS, OPTIONS
from dlnotes.training.parent import Parent

_SPLITS = ("train", "dev", "test")
_Splits = dict[str, list[Any]]
"""Files and data frames of each split."""


def sources_with_parents(
    run: Path, data_dir: Path | None = None, *, later: tuple[Path, ...] = ()
) -> _Splits:
    """What a run was trained on, together with the runs that it started from.

    Args:
        run: Its folder.
        data_dir: Folder of corpora, where it is not the one that the options say.
        later: The runs that started from it.

    Raises:
        UserError: Its folder does not say, or a run that it started from has been replaced.
    """
    if not (run / OPTIONS).exists():
        raise UserError(f"{run} has no {OPTIONS} that says where its documents are")
    said = config.read_config(run / OPTIONS)
    parent = said.get("from")
    found = _sources_before(run, Path(parent), data_dir, later) if parent else {}
    if said.get("corpus"):
        folder = data_dir or said.get("data_dir")
        own: Mapping[str, Any] = load(
            str(said["corpus"]),
            data_dir=Path(folder) if folder else None,
            cache_dir=cache_folder(),
        )
    else:
        own = {split: [Path(file) for file in said.get(split) or ()] for split in _SPLITS}
    for split in _SPLITS:
        given = own.get(split, [])
        given = given if isinstance(given, list) else [given]
        # Test documents are those of the last run that has any, as when it was trained.
        before = [] if split == "test" and given else found.get(split, [])
        found[split] = _joined(before, given)
    return found


def _sources_before(
    run: Path, parent: Path, data_dir: Path | None, later: tuple[Path, ...]
) -> _Splits:
    """What `parent`, which `run` started from, was trained on."""
    later = (*later, run.resolve())
    if parent.resolve() in later:
        raise UserError(f"{run} started from {parent}, which started from {run} itself")
    try:
        now = Parent.of(parent)
    except UserError as error:
        raise UserError(f"{run} started from a run that is gone: {error}") from error
    before = read_json(run / METRICS, "is not a run", finite=False).get("parent")
    if isinstance(before, Mapping) and before.get("digest") != now.digest:
        raise UserError(f"{parent}, which {run} started from, is gone: another run is there now")
    found = sources_with_parents(parent, data_dir, later=later)
    return _all_learned(found) if now.learned_dev else found


def _all_learned(sources: _Splits) -> _Splits:
    """The same with the dev documents as training documents."""
    return {**sources, "train": _joined(sources["train"], sources["dev"]), "dev": []}


def _readable(parts: list[Any]) -> tuple[list[Any], str | None]:
    """Those that can be read, and what is wrong with the last one that cannot."""
    found, problem = [], None
    for part in parts:
        try:
            if isinstance(part, Path):
                check_readable(part)
            found.append(part)
        except UserError as error:
            problem = str(error)
    return found, problem


def _joined(old: list[Any], new: list[Any]) -> list[Any]:
    """The old ones, then those of the new ones that are not files among the old."""
    there = {file.resolve() for file in old if isinstance(file, Path)}
    return [*old, *(f for f in new if not isinstance(f, Path) or f.resolve() not in there)]


def as_source(parts: list[Any], reading: Reading) -> Source:
    """Files and data frames as one source."""
    if all(isinstance(part, Path) for part in parts):
        return parts
    several = reading.multi_label is True
    blocks = [
        frame.select(LABEL, TEXT)
        for part in parts
        for frame in (
            [part] if isinstance(part, pl.DataFrame) else read(part, reading, multi_label=several)
        )
    ]
    if any(block.schema[LABEL] == pl.List for block in blocks):
        one = pl.concat_list(pl.col(LABEL))
        blocks = [b if b.schema[LABEL] == pl.List else b.with_columns(one) for b in blocks]
    return pl.concat(blocks)


def continued(
    parent: Parent,
    given: Mapping[str, Sequence[Path]],
    reading: Reading,
    *,
    replay: bool,
    name: str,
    cache_dir: Path | None,
) -> Dataset:
    """The documents of a training that starts from another: the old ones, and those given.

    Args:
        parent: The training to start from.
        given: New files of each split; test files take the place of the old ones.
        reading: How to read them.
        replay: Whether to learn from the old training documents again.
        name: See `load_dataset`.
        cache_dir: See `load_dataset`.

    Raises:
        UserError: The old documents cannot be read, and are needed; or what `load_dataset` raises.
    """
    old: _Splits = {}
    problems: dict[str, str] = {}
    if parent.run is None:
        problems["train"] = f"{parent.name} is no run folder, and does not say its documents"
    else:
        try:
            old = sources_with_parents(parent.run)
        except UserError as error:
            problems["train"] = str(error)
    for split, parts in old.items():
        old[split], wrong = _readable(parts)
        if wrong:
            problems[split] = wrong
    problem = problems.get("train") or problems.get("dev")
    if not given.get("train") and problem:
        raise UserError(f"{problem}: give --train FILE")
    if parent.seen is None and parent.run is not None:
        candidates = [old["train"]] if old else [[file] for file in given.get("train", [])]
        parent.seen = _seen_before(parent, candidates, old.get("dev", []), cache_dir)
    if parent.learned_dev and old:
        old = _all_learned(old)
    splits = {
        "train": _joined(old.get("train", []), [*given.get("train", [])]),
        "dev": _joined(old.get("dev", []), [*given.get("dev", [])]),
        "test": [*given.get("test", [])] or old.get("test", []),
    }
    sources = {split: as_source(parts, reading) for split, parts in splits.items() if parts}
    if "test" in problems and not splits["test"]:
        tell(f"note: {problems['test']}, so nothing is measured on it")
    if parent.seen is None:
        tell(
            f"note: the documents of {parent.name} are not known: what is not given again may be "
            "forgotten, and its dev documents cannot be told from others"
        )
    inherit = parent.inheritance(replay=replay)
    dataset = load_dataset(sources, reading, name=name, cache_dir=cache_dir, inherit=inherit)
    if problem and (missing := parent.missing(dataset)):
        raise UserError(
            f"{problem}, and {missing}: give them as well (--train OLD NEW), or --no-replay to "
            "learn from the new ones alone and forget some of the old"
        )
    return dataset


def _seen_before(
    parent: Parent, candidates: list[list[Any]], dev: list[Any], cache_dir: Path | None
) -> Seen | None:
    """The documents of a run of an earlier version, which kept no digests of them.

    Args:
        parent: The run.
        candidates: What its training documents may be, to be compared by SHA-256.
        dev: Its own dev documents, if it had any.
        cache_dir: See `load_dataset`.
    """
    for parts in candidates:
        reading = parent.reading(Reading(dev_fraction=parent.dev_fraction))
        sources = {"train": as_source(parts, reading)}
        if dev:
            sources["dev"] = as_source(dev, reading)
        found = {split: fingerprint(source) for split, source in sources.items()}
        if found == {k: v for k, v in parent.fingerprints.items() if k != "test"}:
            subwords = parent.classifier.subwords
            return load_dataset(sources, reading, cache_dir=cache_dir, subwords=subwords).seen()
    return None


def tell_what_is_new(parent: Parent, dataset: Dataset) -> None:
    """Say in a line what a training takes over and what is new to it."""
    old = dataset.old
    assert old is not None
    words = len(dataset.vocabulary) - len(parent.classifier.vocabulary)
    labels = dataset.label_names[len(parent.classifier.label_names) :]
    kept = [
        (len(old.train), "training document"),
        (len(old.dev), "dev document"),
    ]
    added = [
        (len(old.new), "document"),
        (len(old.relabelled), "changed label"),
        (words, "token"),
        (len(labels), "label"),
    ]
    if missing := parent.missing_dev(dataset):
        tell(f"note: {missing}")
    named = f" ({', '.join(labels[:9])}{', …' * (len(labels) > 9)})" if labels else ""
    left_out = ""
    if old.left_out:
        left_out = f"; {old.left_out:,} equal to dev documents left out"
    tell(
        f"note: from {parent.name}, a {parent.classifier.model_name}: again "
        f"{_listed(kept)}; new {_listed(added)}{named}{left_out}"
    )


def _listed(counts: list[tuple[int, str]]) -> str:
    """The counts that are not 0, in words."""
    found = [f"{n:,} {what}{'s' * (n != 1)}" for n, what in counts if n]
    return ", ".join(found) or "nothing"
