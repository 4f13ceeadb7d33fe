"""Compare models on your own documents, and tell which differences are real."""

from __future__ import annotations

import csv
import io
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated

import polars as pl
from rich import box
from rich import progress as bars
from rich.table import Table
from tyro.conf import arg

from dlnotes.advice.runner import MODELS
from dlnotes.arguments import Count, Positive, Range, Seed, check_names, checked
from dlnotes.claims import cache
from dlnotes.commands import config as config_file
from dlnotes.commands.sources import files_of_options
from dlnotes.comparison.label_errors import LabelErrors
from dlnotes.comparison.plan import ComparisonData, Plan, find_label_errors
from dlnotes.comparison.report import Comparison
from dlnotes.comparison.trainings import LINE, WHERE
from dlnotes.data.labels import LabelSets
from dlnotes.data.layout import LABEL, TEXT
from dlnotes.data.readers import stem_of
from dlnotes.data.reading import Reading
from dlnotes.data.tables import BETWEEN, check_joins, check_writable, table_format, write_table
from dlnotes.display import console, tell
from dlnotes.errors import UserError
from dlnotes.files import (
    check_different,
    check_output,
    locked,
    make_folder,
    remove,
    write_atomically,
    write_json,
    write_text,
)
from dlnotes.threads import cpu_limit
from dlnotes.training.baseline import BASELINES, check_baselines
from dlnotes.training.device import choose_device
from dlnotes.training.fit import Interrupted
from dlnotes.training.folder import LOCK, check_not_of_a_run
from dlnotes.training.record import provenance

RECORD, TABLE, PAGE = "comparison.json", "comparison.csv", "comparison.md"
PICTURE, CURVES = "comparison.png", "curve.png"

NAMES = tuple(dict.fromkeys((*BASELINES, *MODELS)))
"""What can be compared: the baselines and the models."""

FOLDS, SEEDS = 10, 5

_SILENCE = 60.0  # seconds between two lines of progress where there is no terminal


@checked
def main(
    train: tuple[Path, ...],
    test: tuple[Path, ...] = (),
    dev: tuple[Path, ...] = (),
    models: tuple[str, ...] = (),
    folds: Annotated[int, Range(2)] | None = None,
    seeds: Count | None = None,
    curve: bool = False,
    label_errors: Path | None = None,
    epochs: Count | None = None,
    minutes: Positive | None = None,
    processes: Count | None = None,
    out: Path | None = None,
    reading: Annotated[Reading, arg(name="")] = Reading(),
    seed: Seed = 0,
    device: str = "cpu",
    config: Path | None = None,
) -> None:
    """Compare models on your own documents, and tell which differences are real.

    Each model is trained with its recipe, on the same documents and one CPU thread; none is tuned.
    With --test, each is trained from several seeds and measured on the test documents. Without,
    they are cross-validated: the training documents are divided into stratified folds, and each
    fold is measured by a training on the others. A table groups the models that cannot be told
    apart, by the paired bootstrap over documents and seeds, or across folds by the corrected
    resampled t-test; p-values are corrected for the number of pairs. It is written as CSV, JSON,
    Markdown and a picture.

    Trainings are kept in a cache: an interrupted comparison continues with the same command, and
    one with more models or seeds trains only what is new.

    Args:
        train: Training documents, one or more files, as for dlnotes train.
        test: Test documents. They are only measured on; nothing is chosen with them.
        dev: Dev documents, which choose the epoch. Default: a part of the training documents.
        models: Which models. Default: tfidf and svm (TF-IDF with logistic regression and with a
            linear SVM) and all models that dlnotes trains.
        folds: Without --test: the number of folds. Documents with the same text are in the same
            fold. Default 10.
        seeds: With --test: from how many seeds each model is trained, default 5. Without: how many
            times the documents are divided into folds, default 1.
        curve: Also train on a half, a quarter, an eighth and a sixteenth of the documents, to tell
            whether more of them would help.
        label_errors: Write the training documents to this file (.csv, .jsonl, .parquet), the most
            doubtful labels first, as judged by models that have not learned from the document. It
            needs folds, not --test. An earlier file of this name is replaced.
        epochs: Number of epochs for each network. Default: what its recipe says.
        minutes: Leave out a network whose training takes longer than this. Default: no limit.
        processes: How many trainings run at the same time. Default: one for each core, or one on a
            GPU.
        out: Folder for comparison.json, .csv, .md and .png. Default runs/compare/NAME.
        reading: How texts become documents.
        seed: The first of the seeds.
        device: cpu, auto, cuda, cuda:1 (and so on) or mps (untested).
        config: Options from a YAML file; those on the command line take precedence.
    """
    if test and folds is not None:
        raise UserError("give either --test or --folds: with test documents there are no folds")
    if test and label_errors:
        raise UserError(
            "--label-errors needs folds, so that each document is judged by models that have not "
            "learned from it: leave out --test"
        )
    if not train:
        raise UserError("--train must name at least one file")
    count = seeds or (SEEDS if test else 1)
    if seed + count > 2**63:
        raise UserError(
            f"--seed {seed} is too large for {count} seeds: the last of them must be below 2^63"
        )
    check_names("dlnotes compare", "model", models, NAMES)
    for i, model in enumerate(models):
        if model in models[:i]:
            raise UserError(f"--models names {model} twice")
    if set(models or NAMES) & set(BASELINES):
        check_baselines()
    where = choose_device(device)
    files = files_of_options(train=train, dev=dev, test=test)
    name = stem_of(files["train"][0])
    out = out or Path("runs") / "compare" / name
    outputs = [out / file for file in (RECORD, TABLE, PAGE, PICTURE, CURVES)]
    for option, inputs in {**files, "config": (config,)}.items():
        for file in inputs:
            for output in (out, *outputs):
                check_different(**{option: file, "out": output})
            check_different(**{option: file, "label_errors": label_errors})
    for output in outputs:
        check_different(out=output, label_errors=label_errors)
    if label_errors:
        check_writable(label_errors)
        check_not_of_a_run(label_errors=label_errors)
    make_folder(out)
    for output in outputs:
        check_output(output)
    with config_file.naming_config_file(config):
        documents = ComparisonData.of(files, reading, models or NAMES)
    multi_label = documents.corpus.multi_label
    if multi_label and "svm" in models:
        raise UserError("svm is for one label per document; for several there is tfidf")
    if label_errors and multi_label and table_format(label_errors) == "csv":
        check_joins("label_errors", documents.corpus.labels, BETWEEN, "give a .jsonl file")
    plan = Plan(
        documents=documents,
        models=models or tuple(n for n in NAMES if n != "svm" or not multi_label),
        seeds=range(seed, seed + count),
        folds=0 if test else folds or FOLDS,
        curve=curve,
        training={} if epochs is None else {"epochs": epochs},
        minutes=minutes,
        device=str(where),
    )
    if label_errors and set(plan.models) <= {"svm"}:
        raise UserError("--label-errors needs a model with probabilities, and svm has none")
    many = processes or (cpu_limit() if where.type == "cpu" else 1)
    with locked(out / LOCK, f"cannot write to {out}: it"):
        comparison = _compared(plan, many)
        said = [*comparison.notes, *plan.notes, *documents.notes]
        if curve and not plan.halvings:
            said.append("There are too few documents for a learning curve.")
        if label_errors:
            said.append(
                _write_label_errors(
                    label_errors, find_label_errors(comparison, documents), documents
                )
            )
        # The files come first, since printing ends the program where a pipe's reader has gone.
        written = _write(out, comparison, said, name, seed, plan)
    _print(comparison, said)
    print(f"Written: {', '.join(map(str, written))}")


def _compared(plan: Plan, processes: int) -> Comparison:
    """Run the trainings; after an interruption, the same command continues."""
    try:
        with Progress(sum(map(len, plan.runs().values()))) as progress:
            return plan.run(processes=processes, progress=progress.share)
    except (Interrupted, KeyboardInterrupt) as stop:
        if not cache.UNWRITABLE:
            tell("What has been trained is kept: the same command goes on from there.")
        if isinstance(stop, Interrupted):
            sys.exit(128 + stop.number)
        raise


def _write(
    out: Path, comparison: Comparison, said: Sequence[str], name: str, seed: int, plan: Plan
) -> list[Path]:
    """Write all files but that of the label errors, and return their paths."""
    record = {
        "record": provenance(seed),
        "data": plan.documents.corpus.digests,
        "documents": len(plan.documents.train),
        "seeds": list(plan.seeds),
        "folds": plan.folds,
        "training": plan.training,
        **comparison.record(),
        "notes": said,
    }
    write_json(out / RECORD, record)
    rows = [asdict(row) for row in comparison.rows]
    text = io.StringIO()
    table = csv.DictWriter(text, rows[0], lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_text(out / TABLE, text.getvalue())
    write_text(out / PAGE, comparison.markdown(f"Models on {name}", said))
    pictures = {PICTURE: comparison.draw()}
    if comparison.gains:
        pictures[CURVES] = comparison.draw_curves()
    else:
        remove(out / CURVES)  # of an earlier comparison
    for file, picture in pictures.items():
        write_atomically(out / file, partial(picture.savefig, format="png", dpi=120))
    return [out / file for file in (RECORD, TABLE, PAGE, *pictures)]


def _write_label_errors(path: Path, errors: LabelErrors, documents: ComparisonData) -> str:
    """Write the documents, the most doubtful first, and return a sentence to print about them."""
    names = pl.Series(documents.corpus.labels)
    labels = documents.labels
    several = isinstance(labels, LabelSets)
    frame = documents.train.with_columns(
        suggested=names.gather(errors.suggested),
        doubt=pl.Series(-errors.margin).round(6),
        probability=pl.Series(errors.given).round(6),
        wrong=pl.Series(errors.wrong),
    )
    if isinstance(labels, LabelSets):
        has = labels.have(errors.suggested)
        frame = frame.with_columns(change=pl.Series(["remove" if h else "add" for h in has]))
        frame = frame.rename({"suggested": "doubtful"})
        if table_format(path) == "csv":
            frame = frame.with_columns(pl.col(LABEL).list.join(BETWEEN))
    found = frame[errors.order]
    first = ["doubt", "wrong", LABEL, *(["doubtful", "change"] if several else ["suggested"])]
    write_table(path, [found.select(*first, "probability", WHERE, LINE, TEXT)])
    wrong = int(errors.wrong.sum())
    return (
        f"{wrong:,} of {len(frame):,} training documents ({100 * wrong / len(frame):.1f} %) seem "
        f"to have a wrong label; {path} has all of them, the most doubtful first."
    )


def _print(comparison: Comparison, said: Sequence[str]) -> None:
    screen = console()
    screen.print(comparison.sentence, soft_wrap=True, highlight=False)
    table = Table(title=f"Measured on {comparison.measured_on}", box=box.SIMPLE_HEAD)
    for heading in comparison.headings:
        table.add_column(heading, justify="left" if heading in ("model", "group") else "right")
    for row in comparison.table():
        table.add_row(*row)
    screen.print(table)
    for line in (comparison.legend, comparison.more_documents):
        if line:
            screen.print(line, soft_wrap=True, highlight=False)
    for note in said:
        screen.print(f"note: {note}", soft_wrap=True, highlight=False)


class Progress:
    """Tells how many trainings are done: a bar in a terminal, else a line every minute on stderr.

    Args:
        trainings: How many there are.
    """

    def __init__(self, trainings: int) -> None:
        self._trainings, self._told = trainings, time.monotonic()
        screen = console(stderr=True)
        self._quiet = not screen.is_terminal
        self._bar = bars.Progress(
            bars.TextColumn("trainings"),
            bars.BarColumn(bar_width=24),
            bars.MofNCompleteColumn(),
            bars.TimeElapsedColumn(),
            bars.TextColumn("left"),
            bars.TimeRemainingColumn(),
            console=screen,
            transient=True,
            disable=self._quiet,
        )
        self._task = self._bar.add_task("", total=trainings)

    def __enter__(self) -> Progress:
        with suppress(OSError):
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._bar.stop()

    def share(self, share: float) -> None:
        """A share of them is done."""
        done = round(share * self._trainings)
        with suppress(OSError):
            self._bar.update(self._task, completed=done)
        if self._quiet and time.monotonic() - self._told > _SILENCE:
            self._told = time.monotonic()
            tell(f"{done:,} of {self._trainings:,} trainings are done")
