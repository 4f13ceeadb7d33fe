"""What a chapter shows of the records: Markdown for its page and for its notebook alike."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from chapters import measured, of_models
from chapters.words import say, translate
from dlnotes.claims.report import effect
from dlnotes.errors import UserError
from dlnotes.files import read_json
from dlnotes.oracles import Comparison, Row, comparisons
from tables import SIZES, story_seeds, summary

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "results"
TRANSLATIONS = ROOT / "docs" / "zh" / "translations.yaml"


def proof(notes: str, language: str) -> str:
    """Compare with the oracles, and table the differences.

    Args:
        notes: What is compared, a name per line, as `dlnotes verify` prints it.
        language: Sphinx's name of the language.

    Raises:
        UserError: There is no such comparison, or it fails.
    """
    head = ["ours", "compared with", "arguments", "cases", "largest difference", "allowed"]
    lines = _head(head, language)
    for note in notes.splitlines():
        for row in _compared(note):
            shown = f"{row.difference:.0e}" if row.difference else "0"
            cells = [row.note, f"`{row.oracle}`", row.mapping, str(row.cases), shown]
            if language.startswith("zh"):
                cells[0] = translate(row.note, language, TRANSLATIONS)
                cells[1] = translate(f"`{row.oracle}`", language, TRANSLATIONS)
                cells[2] = translate(row.mapping, language, TRANSLATIONS)
            lines.append(f"| {' | '.join(cells)} | {row.tolerance:g} |")
    return "\n".join(lines)


@cache
def _comparisons() -> tuple[Comparison, ...]:
    """All of them, not yet run: making them takes longer than most of them do."""
    return tuple(comparisons())


@cache
def _compared(note: str) -> tuple[Row, ...]:
    rows = tuple(c.row() for c in _comparisons() if c.note == note)
    if not rows:
        raise UserError(f"proof: dlnotes verify has no comparison {note!r}")
    for row in rows:
        if not row.ok:
            raise UserError(f"proof: {note} differs from {row.oracle} by {row.difference}")
    return rows


def speed(names: str, language: str) -> str:
    """How fast something is beside torch's, from the benchmark that timed it.

    Args:
        names: An optimizer or activations of a record in `SPEEDS`, one per line.
        language: Sphinx's name of the language.

    Raises:
        UserError: No benchmark timed all of them.
    """
    given = names.splitlines()
    for file, table in SPEEDS.items():
        record = read_json(RESULTS / "benchmarks" / file, "has no benchmark")
        if lines := table(record, given, language):
            return "\n".join(lines)
    raise UserError(f"speed: no record of {', '.join(SPEEDS)} has {', '.join(map(repr, given))}")


def _steps(record: dict[str, Any], names: Sequence[str], language: str) -> list[str]:
    """The time of a step of optimizers, a row for each size of model."""
    timed = [row for row in record["rows"] if "milliseconds" in row]
    rows = [row for name in names for row in timed if row["rule"] == name]
    if {row["rule"] for row in rows} != {*names}:
        return []
    columns = ["tensors", "ours, ms", "torch default, ms", "torch fused, ms"]
    several = ["rule"] * (len(names) > 1)
    lines = _head([*several, *columns, "× default", "× fused"], language)
    for row in rows:
        times = row["milliseconds"]
        ours, others = times["ours"], [times.get("default"), times.get("fused")]
        if row["beside"].startswith("itself"):  # torch has no such step
            others = [None, None]
        cells = [
            *(f"`{row[column]}`" for column in several),
            translate(SIZES[row["model"]], language, TRANSLATIONS),
            f"{ours:#.3g}".rstrip("."),
            *(f"{other:#.3g}".rstrip(".") if other else "–" for other in others),
            *(f"{other / ours:.2f}" if other else "–" for other in others),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    if language.startswith("zh"):
        measured = f"在{_machine(record, language)}上，一次更新所需的时间"
    else:
        measured = f"Time of one update on {_machine(record, language)}"
    return [*lines, "", _repeated(measured, record, language)]


def _passes(record: dict[str, Any], names: Sequence[str], language: str) -> list[str]:
    """The time of forward and backward pass of activations as a multiple of torch's."""
    ratios = record["ratios"]
    if not {*names} <= {*ratios}:
        return []
    lines = _head(["activation", "ours / torch", "both compiled"], language)
    for name in names:
        cells = [f"{ratios[name][how]:.2f}" for how in ("eager", "compiled")]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    if language.startswith("zh"):
        measured = (
            f"在{_machine(record, language)}上，对 {record['size']:,} 个 float32 元素做一次前向和"
            "一次反向计算的时间与 torch 之比，小于 1 表示更快；最后一列是两者都用 `torch.compile` "
            "编译之后的比值"
        )
    else:
        measured = (
            f"Time of a forward and a backward pass over {record['size']:,} elements in float32 on "
            f"{_machine(record, language)}, divided by torch's: below 1 is faster. In the last "
            "column, `torch.compile` compiled both"
        )
    return [*lines, "", _repeated(measured, record, language)]


def _machine(record: dict[str, Any], language: str) -> str:
    """What a benchmark ran on."""
    machine, torch = record["machine"], record["versions"]["torch"]
    if language.startswith("zh"):
        return f" {machine['cores']} 个核（{machine['processor']}）、torch {torch} "
    return f"{machine['cores']} cores ({machine['processor']}) with torch {torch}"


def _repeated(measured: str, record: dict[str, Any], language: str) -> str:
    """How a benchmark was made, and how to make it again."""
    command = record["command"].partition(" --")[0]
    if language.startswith("zh"):
        return f"{measured}，取多次交替测量的中位数；重新测量：`{command}`。"
    return f"{measured}. Medians of measurements in alternation; `{command}` repeats them."


SPEEDS = {"optimizers.json": _steps, "activations.json": _passes}
"""Record of a benchmark → its table of the things of some names, nothing if it lacks one."""


def verdicts(names: str, language: str) -> str:
    """What the experiments found about the claims of a chapter, from their record.

    Args:
        names: A claim per line.
        language: Sphinx's name of the language.

    Raises:
        UserError: The record has no such claim.
    """
    record = read_json(RESULTS / "claims" / "record.json", "has no claims")
    by_name = {row["name"]: row for row in record["claims"]}
    lines = []
    for name in names.splitlines():
        if name not in by_name:
            raise UserError(f"verdicts: results/claims/record.json has no claim {name!r}")
        row = by_name[name]
        condition = row["says"].removeprefix(row["verdict"]).strip()
        sentence, condition, measured = (
            translate(text, language, TRANSLATIONS)
            for text in (row["sentence"], condition, row["effect_name"])
        )
        verdict = say(row["verdict"], language)
        found = effect(row["effect"], row["interval"])
        if language.startswith("zh"):
            said = f"**{verdict}**" + (f"：{condition}" if condition else "")
            lines.append(
                f"- *{sentence}* 结论：{said}。测得：{found}（{measured}）。"
                f"复现：`dlnotes claims {name}`。"
            )
        else:
            said = f"**{verdict}**" + (f" {condition}" if condition else "")
            verb = "is " if row["verdict"] == "not decided" else ""
            lines.append(
                f"- *{sentence}* This {verb}{said}. Measured: {found} ({measured}). "
                f"`dlnotes claims {name}` repeats the experiment."
            )
    return "\n".join(lines)


def corpora(content: str, language: str) -> str:
    """For each corpus the best model of ours, the best published figure, and the baseline.

    Args:
        content: Nothing.
        language: Sphinx's name of the language.
    """
    entries = [read_json(path, "has no results") for path in sorted(RESULTS.glob("*.json"))]
    measured = [entry for entry in entries if "record" in entry]
    return summary(measured, story_seeds(RESULTS), language[:2])


def _head(columns: list[str], language: str) -> list[str]:
    names = [say(column, language) for column in columns]
    return [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]


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
