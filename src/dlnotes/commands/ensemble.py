"""Join trained runs into an ensemble, weighted on the dev split."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from rich.table import Table
from tyro.conf import arg

from dlnotes.arguments import Range, checked
from dlnotes.data.corpora import load
from dlnotes.data.download import cache_folder
from dlnotes.data.readers import Source
from dlnotes.display import console
from dlnotes.errors import UserError
from dlnotes.training.decision import Deciding
from dlnotes.training.ensemble import load_members, make_ensemble, read_record
from dlnotes.training.evaluate import headline


@checked
def main(
    runs: tuple[Path, ...],
    /,
    out: Path,
    average: str = "probabilities",
    weights: str = "greedy",
    rounds: Annotated[int, Range(1, below=100_001)] = 50,
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
        average: probabilities, or logits (the geometric mean of the probabilities).
        weights: greedy (add, again and again, the run with which dev accuracy is highest, or
            where a text may have several labels micro-F1 with the best one threshold for all of
            them, whatever --threshold is), equal, or boosting.
        rounds: How many runs the greedy choice adds.
        train: The training documents, when the runs were trained on your own files.
        dev: Dev documents that no run was trained on; default: the runs' common dev split.
        test: Test documents; default: the corpus' own.
        data_dir: Folder of corpora, as for dlnotes train.
        deciding: How the ensemble is to decide.
    """
    if not runs:
        raise UserError("give one or more runs")
    sources: dict[str, Source] = {}
    if train:
        sources["train"] = train
    else:
        settings, _ = read_record(runs[0])
        try:
            sources |= load(settings["corpus"], data_dir=data_dir, cache_dir=cache_folder())
        except (KeyError, UserError) as error:
            raise UserError(
                f"cannot find what {runs[0]} was trained on ({error}): give --train FILE, and "
                "--dev FILE if it had one"
            ) from error
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
