"""What a chapter shows from the records, as Markdown for its page and for its notebook."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

from chapters import measured, of_models, words
from chapters.words import say, translate
from dlnotes.claims.report import effect
from dlnotes.errors import UserError
from dlnotes.files import read_json
from dlnotes.oracles import Comparison, Row, comparisons
from tables import SIZES, markdown, measured_entries, story_seeds, summary

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "results"


def proof(notes: str, language: str) -> str:
    """Compare with the oracles, and table the differences.

    Args:
        notes: What is compared, a name per line, as `dlnotes verify` prints it.
        language: Sphinx's name of the language.

    Raises:
        UserError: There is no such comparison, or it fails.
    """
    head = ["ours", "compared with", "arguments", "cases", "largest difference", "allowed"]
    rows = []
    for note in notes.splitlines():
        for row in _compared(note):
            shown = f"{row.difference:.0e}" if row.difference else "0"
            told = (row.note, f"`{row.oracle}`", row.mapping)
            cells = [translate(text, language) for text in told]
            rows.append([*cells, str(row.cases), shown, f"{row.tolerance:g}"])
    return _table(head, rows, language)


def named_in(pages: Iterable[Path]) -> set[str]:
    """The comparisons that the ``proof`` directives of pages name.

    Raises:
        UserError: A page is not UTF-8.
    """
    found: set[str] = set()
    for page in pages:
        try:
            text = page.read_text("utf-8")
        except UnicodeDecodeError as error:
            raise UserError(f"{page} is not UTF-8: {error.reason} at byte {error.start}") from error
        for _, body in _PROOF.findall(text):
            found.update(body.split("\n"))
    return found


_PROOF = re.compile(r"^(`{3,}|:{3,})\{proof\}[ ]*\n(.*?)\n\1[ ]*$", re.M | re.S)
_rows: dict[str, tuple[Row, ...]] = {}


def keep_rows(note: str, rows: tuple[Row, ...]) -> None:
    """Keep the rows of a comparison for this process and those forked from it.

    Args:
        note: Its name.
        rows: What `compare` returned.
    """
    _rows[note] = rows


@cache
def _comparisons() -> tuple[Comparison, ...]:
    """All of them, not yet run: making them takes longer than most of them do."""
    return tuple(comparisons())


def compare(note: str) -> tuple[Row, ...]:
    """Run a comparison.

    Args:
        note: Its name; without one of this name there is no row.
    """
    return tuple(c.row() for c in _comparisons() if c.note == note)


def _compared(note: str) -> tuple[Row, ...]:
    if note not in _rows:
        keep_rows(note, compare(note))
    rows = _rows[note]
    if not rows:
        raise UserError(f"proof: dlnotes verify has no comparison {note!r}")
    for row in rows:
        if not row.ok:
            raise UserError(f"proof: {note} differs from {row.oracle} by {row.difference}")
    return rows


def speed(names: str, language: str) -> str:
    """How fast something is compared with torch's, from the benchmark that timed it.

    Args:
        names: What one of the records in `SPEEDS` has timed, one per line.
        language: Sphinx's name of the language.

    Raises:
        UserError: No benchmark timed all of them.
    """
    given = names.splitlines()
    for file, table in SPEEDS.items():
        record = read_json(RESULTS / "benchmarks" / file, "has no benchmark")
        if found := table(record, given, language):
            return found
    raise UserError(f"speed: no record of {', '.join(SPEEDS)} has {', '.join(map(repr, given))}")


def _steps(record: dict[str, Any], names: Sequence[str], language: str) -> str:
    """The time of a step of optimizers, a row for each size of model."""
    timed = [row for row in record["rows"] if "milliseconds" in row]
    known = [row for name in names for row in timed if row["rule"] == name]
    if {row["rule"] for row in known} != {*names}:
        return ""
    columns = ["tensors", "ours, ms", "torch default, ms", "torch fused, ms"]
    several = ["rule"] * (len(names) > 1)
    rows = []
    for row in known:
        times = row["milliseconds"]
        ours, others = times["ours"], [times.get("default"), times.get("fused")]
        if row["beside"].startswith("itself"):  # torch has no such step
            others = [None, None]
        cells = [
            *(f"`{row[column]}`" for column in several),
            translate(SIZES[row["model"]], language),
            f"{ours:#.3g}".rstrip("."),
            *(f"{other:#.3g}".rstrip(".") if other else "–" for other in others),
            *(f"{other / ours:.2f}" if other else "–" for other in others),
        ]
        rows.append(cells)
    table = _table([*several, *columns, "default / ours", "fused / ours"], rows, language)
    if language.startswith("zh"):
        timed_what = (
            f"在{_machine(record, language)}测得：一次更新所需的时间，以及比值（大于 1 表示本书"
            "更快）"
        )
    else:
        timed_what = (
            f"Time of one update on {_machine(record, language)}; a ratio above 1 in the last two "
            "columns means that ours is faster"
        )
    return f"{table}\n\n{_repeated(timed_what, record, language)}"


def _passes(record: dict[str, Any], names: Sequence[str], language: str) -> str:
    """The time of forward and backward pass of activations as a multiple of torch's."""
    ratios = record["ratios"]
    if not {*names} <= {*ratios}:
        return ""
    rows = [
        [f"`{name}`", *(f"{ratios[name][how]:.2f}" for how in ("eager", "compiled"))]
        for name in names
    ]
    table = _table(["activation", "ours / torch", "both compiled"], rows, language)
    if language.startswith("zh"):
        timed_what = (
            f"在{_machine(record, language)}测得：对 {record['size']:,} 个 float32 元素做一次"
            "前向传播和一次反向传播所需的时间，除以 torch 所需的时间，小于 1 表示更快；"
            "最后一列是两者都用 `torch.compile` 编译之后的比值"
        )
    else:
        timed_what = (
            f"Time of a forward and a backward pass over {record['size']:,} elements in float32 on "
            f"{_machine(record, language)}, divided by torch's: below 1 is faster. In the last "
            "column, `torch.compile` compiled both"
        )
    return f"{table}\n\n{_repeated(timed_what, record, language)}"


def _updates(record: dict[str, Any], names: Sequence[str], language: str) -> str:
    """The time of an update of units and networks, and of clipping, beside torch's."""
    timed = record["rows"]
    if not {*names} <= {*timed}:
        return ""
    rows = [
        [
            f"`{name}`" if name.isidentifier() else translate(name, language),
            *(f"{timed[name][side]:,.0f}" for side in ("ours", "torch")),
            f"{timed[name]['ratio']:.2f}",
        ]
        for name in names
    ]
    table = _table(["timed", "ours, µs", "torch, µs", "ours / torch"], rows, language)
    if language.startswith("zh"):
        timed_what = f"在{_machine(record, language)}测得，单位为微秒"
    else:
        timed_what = f"Time in microseconds on {_machine(record, language)}"
    return f"{table}\n\n{_repeated(timed_what, record, language)}"


def _machine(record: dict[str, Any], language: str) -> str:
    """What a benchmark ran on."""
    machine, torch = record["machine"], record["versions"]["torch"]
    if language.startswith("zh"):
        return f" {machine['cores']} 个核（{machine['processor']}）上用 torch {torch} "
    return f"{machine['cores']} cores ({machine['processor']}) with torch {torch}"


def _repeated(timed_what: str, record: dict[str, Any], language: str) -> str:
    """How a benchmark was made, and how to make it again."""
    command = record["command"].partition(" --")[0]
    if language.startswith("zh"):
        return f"{timed_what}，取多次交替测量的中位数；重新测量：`{command}`。"
    return f"{timed_what}. Medians of measurements in alternation; `{command}` repeats them."


SPEEDS = {
    "optimizers.json": _steps,
    "activations.json": _passes,
    "foundations.json": _updates,
}
"""Record of a benchmark → function that tables the named entries, or gives "" if one is missing."""


def verdicts(names: str, language: str) -> str:
    """What the experiments found about the claims of a chapter, from their record.

    Args:
        names: A claim per line.
        language: Sphinx's name of the language.

    Raises:
        UserError: The record has no such claim.
    """
    lines = []
    for name in names.splitlines():
        row = measured.claim_of(name, "verdicts")
        condition = row["says"].removeprefix(row["verdict"]).strip()
        sentence, condition = (translate(text, language) for text in (row["sentence"], condition))
        verdict = say(row["verdict"], language)
        number = effect(row["effect"], row["interval"])
        found = words.measured(number, row["effect_name"], language)
        if language.startswith("zh"):
            said = f"**{verdict}**" + (f"，条件是：{condition}" if condition else "")
            lines.append(
                f"- “{sentence}”结论：{said}。测得：{found}。复现：`dlnotes claims {name}`。"
            )
        else:
            said = f"**{verdict}**" + (f" {condition}" if condition else "")
            verb = "is " if row["verdict"] == "not decided" else ""
            lines.append(
                f"- *{sentence}* This {verb}{said}. Measured: {found}. "
                f"`dlnotes claims {name}` repeats the experiment."
            )
        if row["verdict"] == "not decided":
            # Its effect may be far from 0: the question is then whether it exceeds a margin, or
            # occurs in every case.
            asked = (translate(row[what], language) for what in ("hypothesis", "criterion"))
            summary = say("What was tested", language)
            text = f"<p>{'</p><p>'.join(escape(each) for each in asked)}</p>"
            lines.append(
                f'\n  <details class="answer"><summary>{summary}</summary>{text}</details>\n'
            )
    return "\n".join(lines)


def corpora(content: str, language: str) -> str:
    """For each corpus the best model of ours, the best published figure, and the baseline.

    Args:
        content: Content of the directive, which must be empty.
        language: Sphinx's name of the language.
    """
    return summary(measured_entries(RESULTS), story_seeds(RESULTS), language[:2])


def _table(columns: list[str], rows: list[list[str]], language: str) -> str:
    return markdown([say(column, language) for column in columns], rows)


ROWS = {
    "proof": proof,
    "speed": speed,
    "verdicts": verdicts,
    "numbers": measured.table,
    "advice": measured.advice,
    "corpora": corpora,
    **of_models.ROWS,
}
"""Directive → what it writes."""
