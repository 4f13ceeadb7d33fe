"""Classify raw text with a trained classifier."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import polars as pl
from tyro.conf import arg

from dlnotes.arguments import Count, checked
from dlnotes.cli import line_batches
from dlnotes.commands.runs import given_fields, recorded_layout, tell_layout
from dlnotes.data.layout import Layout, TextLayout
from dlnotes.data.readers import OBJECT, Records, read_records
from dlnotes.data.streams import half_pair
from dlnotes.data.tables import BETWEEN, check_joins, check_writable, table_format, write_table
from dlnotes.display import UNPRINTABLE, console, printable
from dlnotes.errors import UserError
from dlnotes.files import (
    check_different,
    check_output,
    json_integer,
    json_number,
    option_of,
    write_text,
)
from dlnotes.training.answers import json_objects
from dlnotes.training.classifier import Classifier, TextClassifier
from dlnotes.training.device import choose_device
from dlnotes.training.explain import Explanation, explanations_html
from dlnotes.training.folder import check_not_of_a_run
from dlnotes.training.scoring import single_threaded
from dlnotes.training.stories import story_lines

_ROWS = 1 << 15  # texts that make a block of --out where they do not come from --file
_STORIES = 3  # stories that are drawn on the terminal; the page has all of them


@checked
def main(
    run: Path,
    texts: tuple[str, ...] = (),
    /,
    file: Path | None = None,
    layout: Annotated[TextLayout, arg(name="")] = TextLayout(),
    out: Path | None = None,
    top_k: Count | None = None,
    explain: Path | None = None,
    device: str = "auto",
) -> None:
    """Print a JSON object per text: label, probability and the top k labels.

    The label is null (an empty cell in CSV) where its probability is below the limit that dlnotes
    train --precision or dlnotes calibrate --precision has chosen.

    Where a text may have several labels, an object has labels (a list, the most probable first,
    which may be empty), their probabilities in the same order, and top, which does not depend on
    thresholds.

    Without texts or --file, each line of standard input is answered as it arrives. With --out a
    file is written instead: all columns of --file, then label and probability (predicted_label and
    predicted_probability where the file has columns of these names). Where a text may have several
    labels, the columns are labels and probabilities; they hold lists, in CSV separated as the
    labels of the training documents were, or else by |.

    Args:
        run: Folder that dlnotes train or dlnotes ensemble wrote.
        texts: Texts to classify.
        file: Classify each line (.txt), or a column of a table (.csv, .tsv, .jsonl, .parquet); all
            but .parquet also compressed (.gz, .bz2, .xz, .zst, .zip); - is standard input.
        layout: Where the texts are in --file. Default: as in training, or the column text.
        out: Write the answers to this file: .jsonl, .csv (either also as .gz) or .parquet.
        top_k: How many labels to give. Default 3, or 1 with --out. With --out, more than one label
            go into the column top, or in CSV into label_2, probability_2 and so on (from label_1
            on, in addition to the answer, where a text may have several labels or be given none).
        explain: Also write an HTML page that shows what decided. Han, seq2seq and transformer: the
            words coloured by attention. Dmn and entnet: the gates at each sentence, which a
            terminal shows as well for the first three texts. Other models and ensembles: the words
            coloured by how much the log-odds of the label fall when a word is left out. Where a
            text may have several labels, each that it is given is explained.
        device: auto, cpu, cuda, cuda:1 (and so on) or mps.
    """
    if file == Path("-"):
        file = None
        if texts:
            raise UserError("give texts or --file -, not both")
    if texts == ("-",):
        texts = ()
    if texts and file:
        raise UserError("give texts or --file, not both")
    if not file and (named := next(iter(given_fields(layout)), None)):
        raise UserError(
            f"{option_of(named)} belongs to --file FILE: texts and lines have no columns"
        )
    if out:
        check_writable(out)
        check_different(file=file, out=out)
    if explain:
        check_output(explain)
        check_different(file=file, explain=explain)
        check_different(out=out, explain=explain)
    check_not_of_a_run(out=out, explain=explain)
    with ExitStack() as stack:
        stack.enter_context(single_threaded())
        if file:
            blocks: Iterable[Records] = _records(file, layout, run, whole=out is not None)
        else:
            # Nobody waits for single lines on the way to a file, so larger blocks are formed.
            given = iter([_utf8(texts)]) if texts else line_batches()
            blocks = map(_plain, _gathered(given) if out else given)
        classifier = TextClassifier.load(run, choose_device(device))
        explained: list[Explanation] = []
        if explain:
            blocks = _explaining(blocks, classifier, explained)
        if file and (out or not sys.stdout.isatty()):
            shown = _with_progress(blocks, file)
            blocks = stack.enter_context(closing(shown))
        if out:
            kind = _sets if classifier.multi_label else _labels
            answer = kind(classifier, top_k, table_format(out) == "csv", run)
            write_table(out, _answered(blocks, answer, out, file))
        else:
            for block in blocks:
                _print(classifier, block.texts, top_k or 3)
    if explain:
        write_text(explain, explanations_html(explained, title=f"What {run} looked at"))
        if sys.stderr.isatty():
            _tell_stories(explained)


def _tell_stories(explained: list[Explanation]) -> None:
    """Draw the first stories on the terminal."""
    terminal = console(stderr=True)
    for explanation in explained[:_STORIES]:
        if explanation.story:
            for line in story_lines(explanation.story, explanation.title):
                terminal.print(line, no_wrap=True, overflow="ellipsis")


# --- where texts come from ----------------------------------------------------------------------


def _records(file: Path, layout: TextLayout, run: Path, *, whole: bool) -> Iterator[Records]:
    """Records of a file, with texts from the column that is given or that was used in training."""
    trained = recorded_layout(run, TextLayout)
    complete = replace(layout, **trained | given_fields(layout))
    tell_layout(trained, layout)
    try:
        return _begun(read_records(file, complete, whole=whole))
    except UserError as error:
        if layout.text_column or "text_column" not in trained:
            raise UserError(f"--file: {error}") from error
        try:
            return _begun(read_records(file, replace(complete, text_column=None), whole=whole))
        except UserError:
            options = " ".join(f"{option_of(k)} {v}" for k, v in trained.items())
            raise UserError(f"--file: {error}; the run was trained with {options}") from error


def _begun(records: Iterator[Records]) -> Iterator[Records]:
    """The same with the first block read already, which raises what is wrong with the columns."""
    first = next(records)

    def all_of_them() -> Iterator[Records]:
        yield first
        yield from records

    return all_of_them()


def _plain(texts: list[str]) -> Records:
    series = pl.Series("text", texts, dtype=pl.String)
    return Records(series, series.to_frame(), 0.0)


def _utf8(texts: Iterable[str]) -> list[str]:
    for i, text in enumerate(texts, 1):
        if half_pair(text) is not None:
            raise UserError(f"text {i} is not UTF-8: {text!r}")
    return list(texts)


def _gathered(batches: Iterable[list[str]]) -> Iterator[list[str]]:
    """The lines of many small batches in large batches, at least one of them."""
    lines: list[str] = []
    for batch in batches:
        lines += batch
        if len(lines) >= _ROWS:
            yield lines
            lines = []
    yield lines


def _explaining(
    blocks: Iterable[Records], classifier: Classifier, explained: list[Explanation]
) -> Iterator[Records]:
    for block in blocks:
        explained += classifier.explain(block.texts.to_list())
        yield block


def _with_progress(blocks: Iterable[Records], file: Path) -> Generator[Records, None, None]:
    """The same blocks, with a bar on standard error where that is a terminal."""
    if not sys.stderr.isatty():
        yield from blocks
        return
    from rich import progress

    columns = (
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(bar_width=24),
        progress.TaskProgressColumn(),
        progress.TextColumn("{task.fields[texts]:,} texts"),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=console(stderr=True), transient=True) as bar:
        task = bar.add_task(printable(file.name, 40), total=1.0, texts=0)
        done = 0
        for block in blocks:
            yield block
            done += len(block.texts)  # by now it has been classified and written
            bar.update(task, completed=block.share, texts=done)


# --- where answers go ---------------------------------------------------------------------------


def _encoder() -> Callable[[Any], str]:
    """Return a function that writes JSON for standard output, with control characters escaped."""
    unicode = (sys.stdout.encoding or "").lower().startswith("utf")
    quoted = json.JSONEncoder(ensure_ascii=not unicode).encode

    def encode(value: Any) -> str:  # JSON allows control characters above 127
        return UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", quoted(value))

    return encode


def _print(classifier: Classifier, texts: pl.Series, top_k: int) -> None:
    """Print a line per text, and flush before the next block is read."""
    lines = (f"{line}\n" for line in json_objects(classifier, texts, top_k, _encoder()))
    sys.stdout.write("".join(lines))
    sys.stdout.flush()


_Answer = Callable[[pl.Series], pl.DataFrame]
"""From texts to the columns that are added to a file."""


def _labels(classifier: Classifier, top_k: int | None, flat: bool, _: Path) -> _Answer:
    """Columns for one label per text.

    Args:
        classifier: What answers.
        top_k: How many labels are given; None for one.
        flat: Whether the file has no lists.
    """
    labels = pl.Series("label", classifier.label_names)

    def answer(texts: pl.Series) -> pl.DataFrame:
        probabilities, classes = classifier.best(texts, top_k or 1)
        columns = {}
        for k in range(classes.shape[1]):
            end = f"_{k + 1}" * (k > 0)
            columns[f"label{end}"] = labels.gather(classes[:, k].numpy())
            columns[f"probability{end}"] = pl.Series(probabilities[:, k].numpy())
        answers = pl.DataFrame(columns)
        if classes.shape[1] > 1:
            if not flat:
                answers = _nested(answers, classes.shape[1])
            elif classifier.decision.reject:  # the first label may stay empty
                first = (pl.col(name).alias(f"{name}_1") for name in ("label", "probability"))
                answers = answers.select(
                    "label", "probability", *first, pl.exclude("label", "probability")
                )
        rejected = pl.Series(classifier.decision.rejected(probabilities[:, 0]).numpy())
        if rejected.any():
            no_label = pl.when(~rejected).then(pl.col("label")).otherwise(None)
            answers = answers.with_columns(no_label.alias("label"))
        return answers

    return answer


def _sets(classifier: Classifier, top_k: int | None, flat: bool, run: Path) -> _Answer:
    """Columns where a text may have several labels.

    Args:
        classifier: What answers.
        top_k: How many of the most probable labels are given in addition; None for none.
        flat: Whether the file has no lists.
        run: Says what stood between the labels in training.

    Raises:
        UserError: The file has no lists, and a label contains what is to stand between two.
    """
    between = Layout(**recorded_layout(run, Layout)).label_delimiter or BETWEEN
    names = classifier.label_names
    most = min(top_k or 0, len(names))
    if flat:
        check_joins("out", names, between, "write .jsonl or .parquet")

    def answer(texts: pl.Series) -> pl.DataFrame:
        found = classifier.answers(texts, top_k or 1)
        labels = [[names[k] for k in a.labels] for a in found]
        columns = {
            "labels": pl.Series(labels, dtype=pl.List(pl.String)),
            "probabilities": pl.Series([a.probabilities for a in found], dtype=pl.List(pl.Float32)),
        }
        if flat:
            written = columns["probabilities"].cast(pl.List(pl.String))
            columns = {
                "labels": columns["labels"].list.join(between),
                "probabilities": written.list.join(between),
            }
        for k in range(most):
            columns[f"label_{k + 1}"] = pl.Series([names[a.top[k]] for a in found], dtype=pl.String)
            columns[f"probability_{k + 1}"] = pl.Series(
                [a.top_probabilities[k] for a in found], dtype=pl.Float32
            )
        answers = pl.DataFrame(columns)
        if top_k and not flat:
            answers = answers.select("labels", "probabilities", _top(range(1, most + 1)))
        return answers

    return answer


def _answered(
    blocks: Iterable[Records], answer: _Answer, out: Path, file: Path | None
) -> Iterator[pl.DataFrame | pl.Series]:
    """Blocks with the answers beside the columns that they have."""
    kind = table_format(out)
    names: dict[str, str] = {}
    shape: pl.Schema | None = None
    done = 0
    for block in blocks:
        answers = answer(block.texts)
        objects = OBJECT in block.columns.columns
        taken = _keys(block.columns[OBJECT]) if objects else _among(block.columns.columns)
        if not names:
            names = _free_names(answers.columns, taken, file)
        elif clash := next((name for name in names.values() if objects and taken(name)), None):
            raise UserError(
                f"{file}: a record after the first {done:,} has {clash!r} already, and the first "
                "ones have not: give all of them such a field, or none"
            )
        answers = answers.rename(names)
        done += len(block.texts)
        if objects and kind == "jsonl":
            yield _extended(block.columns[OBJECT], answers)
            continue
        frame = block.columns
        if objects:
            frame, shape = _parsed(frame[OBJECT], shape, file, out)
        yield pl.concat([frame, answers], how="horizontal")


def _nested(answers: pl.DataFrame, k: int) -> pl.DataFrame:
    """Label and probability of the best class, and a list of the best k."""
    renamed = answers.rename({"label": "label_1", "probability": "probability_1"})
    return answers.select("label", "probability", renamed.select(_top(range(1, k + 1)))["top"])


def _top(places: Iterable[int]) -> pl.Expr:
    """A list of the labels at these places and their probabilities."""
    each = [
        pl.struct(
            pl.col(f"label_{k}").alias("label"), pl.col(f"probability_{k}").alias("probability")
        )
        for k in places
    ]
    return pl.concat_list(each).alias("top")


def _free_names(
    wanted: list[str], taken: Callable[[str], bool], file: Path | None
) -> dict[str, str]:
    """A name for each column that is added; prints a note where the usual name is taken."""
    names = {}
    for name in wanted:
        free = name
        while taken(free):
            free = f"predicted_{free}"
        if free != name:
            print(f"{file} has a column {name!r}: ours is {free!r}", file=sys.stderr)
        names[name] = free
    return names


def _among(columns: list[str]) -> Callable[[str], bool]:
    return lambda name: name in columns


def _keys(objects: pl.Series) -> Callable[[str], bool]:
    """A function that says whether any of these JSON objects has a key; it parses few of them."""

    def taken(name: str) -> bool:
        written = objects.str.contains(json.dumps(name), literal=True)
        suspects = objects.filter(written | objects.str.contains("\\u", literal=True))
        return any(name in json.loads(text, parse_int=str) for text in suspects)

    return taken


def _extended(objects: pl.Series, answers: pl.DataFrame) -> pl.Series:
    """JSON objects as they are, with the answers as their last fields."""
    added = answers.select(pl.struct(pl.all()).struct.json_encode()).to_series()
    return pl.select(
        pl.concat_str(objects.str.head(-1), pl.lit(","), added.str.slice(1))
    ).to_series()


def _parsed(
    objects: pl.Series, shape: pl.Schema | None, file: Path | None, out: Path
) -> tuple[pl.DataFrame, pl.Schema]:
    """JSON objects as columns: those of the first block, whose types all others must fit.

    CSV gets numbers as they are written.
    """
    as_written = table_format(out) == "csv"
    numbers: dict[str, Any] = {"parse_int": json_integer, "parse_float": json_number}
    if as_written:
        numbers = dict.fromkeys(("parse_int", "parse_float", "parse_constant"), str)
    decode = json.JSONDecoder(**numbers).decode
    try:
        records: list[dict[str, Any]] = [decode(text) for text in objects]
    except ValueError as error:
        raise UserError(f"{file}: {error}; write .jsonl or .csv") from error
    names = list(dict.fromkeys(name for record in records for name in record))
    if shape is not None:
        if more := next((name for name in names if name not in shape), None):
            raise UserError(
                f"{file}: a later record has a field {more!r} that the first ones have not: "
                f"{out.name} would lose it; write .jsonl"
            )
        names = shape.names()
    columns = {name: [record.get(name) for record in records] for name in names}
    try:
        kinds = shape
        if as_written:
            columns = {name: [_flat(name, v) for v in values] for name, values in columns.items()}
            kinds = pl.Schema(dict.fromkeys(names, pl.String))
        # What is converted, such as integers among fractions, is compared with what it was.
        frame = pl.DataFrame(columns, schema=kinds, strict=False, infer_schema_length=None)
        for name, values in columns.items():
            if as_written:  # nothing is converted
                break
            if not all(map(_same, frame[name].to_list(), values)):
                raise TypeError(f"{name!r} has values of several types")
            if "Struct({})" in str(frame.schema[name]):
                raise TypeError(f"{name!r} has nothing but empty objects")
        return frame, frame.schema
    except (pl.exceptions.PolarsError, TypeError, OverflowError, UnicodeEncodeError) as error:
        raise UserError(
            f"{file}: its records do not fit into the columns of {out.name} "
            f"({str(error).splitlines()[0]}); write .jsonl"
        ) from error


def _same(stored: Any, value: Any) -> bool:
    """Whether a column holds what JSON says; polars adds null for absent fields of objects."""
    if isinstance(stored, dict) and isinstance(value, dict):
        return all(_same(stored.get(key), value.get(key)) for key in {**stored, **value})
    if isinstance(stored, list) and isinstance(value, list):
        return len(stored) == len(value) and all(map(_same, stored, value))
    numbers = isinstance(stored, float) and type(value) in (int, float)
    return (numbers or type(stored) is type(value)) and (stored == value or stored != stored)


def _flat(name: str, value: Any) -> str | None:
    """A value of JSON as a field of CSV."""
    if isinstance(value, list | dict):
        raise TypeError(f"{name!r} holds lists or objects, and CSV flat values")
    return str(value).lower() if isinstance(value, bool) else value
