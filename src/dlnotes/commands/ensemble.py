"""Join trained runs into an ensemble, weighted on the dev split."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from rich.table import Table
from tyro.conf import arg

from dlnotes.arguments import Range, checked
from dlnotes.commands.sources import check_data_folder, sources_of
from dlnotes.data.download import cache_folder
from dlnotes.display import console
from dlnotes.errors import UserError
from dlnotes.training.decision import Deciding
from dlnotes.training.ensemble import load_members, make_ensemble
from dlnotes.training.evaluate import headline


@checked
def main(
    runs: tuple[Path, ...],
    /,
    out: Path,
    average: str = "probabilities",
    weights: str = "greedy",
    rounds: Annotated[int, Range(1, lt=100_001)] = 50,
    train: tuple[Path, ...] = (),
    dev: tuple[Path, ...] = (),
    test: tuple[Path, ...] = (),
    data_dir: Path | None = None,
    deciding: Annotated[Deciding, arg(name="")] = Deciding(),
) -> None:
    """Average trained classifiers; choose them and their weights on dev, then measure on test once.

    The runs may be of different models, tokenizers and vocabularies, but must have learned the same
    labels from the same documents. Train runs of different seeds with one --split-seed: they then
    share the dev split. Bagging: train each with --bootstrap. Boosting: train each with --boost and
    the runs before it, and join them with --weights boosting.

    Args:
        runs: Folders that dlnotes train wrote.
        out: Run folder of the ensemble.
        average: What is averaged: probabilities, or logits (the geometric mean of the
            probabilities).
        weights: greedy, equal or boosting. Greedy adds one run at a time, each time the one with
            which dev accuracy becomes highest; a run may be added several times. Where a text may
            have several labels, micro-F1 takes the place of accuracy, with the best threshold that
            is the same for all labels, whatever --threshold is.
        rounds: How many times the greedy choice adds a run.
        train: The training documents, if their files have moved since the first run was trained.
        dev: Dev documents that no run was trained on; default: the runs' common dev split.
        test: Test documents; default: those of the first run.
        data_dir: Folder of corpora, as for dlnotes train.
        deciding: How the ensemble is to decide.
    """
    if not runs:
        raise UserError("give one or more runs")
    check_data_folder(data_dir)
    sources = sources_of(runs[0], train, data_dir)
    sources |= {split: paths for split, paths in (("dev", dev), ("test", test)) if paths}
    members = load_members(runs, sources, cache_dir=cache_folder() / "tokens")
    _, record = make_ensemble(
        members, out, average=average, weights=weights, rounds=rounds, deciding=deciding
    )
    splits = [split for split in ("dev", "test") if split in record]
    named = headline(record["dev"])
    table = Table("run", "weight", *(f"{split} {n}" for split in splits for n in named.values()))

    def cells(row: dict[str, Any]) -> list[str]:
        return [f"{row[split][figure]:.4f}" for split in splits for figure in named]

    for row in record["members"]:
        table.add_row(row["run"], f"{row['weight']:.3f}", *cells(row))
    table.add_row("ensemble", "1", *cells(record))
    console().print(table)
