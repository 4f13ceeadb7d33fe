"""What a chapter shows of the records: Markdown for its page and for its notebook alike."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from chapters.words import say, translate
from dlnotes.claims.report import effect
from dlnotes.errors import UserError
from dlnotes.files import read_json
from dlnotes.oracles import Comparison, Row, comparisons
from tables import SIZES

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


def speed(rule: str, language: str) -> str:
    """The time of a step beside torch's, from the benchmark's record.

    Args:
        rule: An optimizer, as the command line calls it.
        language: Sphinx's name of the language.

    Raises:
        UserError: The record has no such rule.
    """
    record = read_json(RESULTS / "benchmarks" / "optimizers.json", "has no benchmark")
    rows = [r for r in record["rows"] if r["rule"] == rule and "milliseconds" in r]
    if not rows:
        raise UserError(f"speed: results/benchmarks/optimizers.json has no rule {rule!r}")
    columns = ["tensors", "ours, ms", "torch default, ms", "torch fused, ms"]
    lines = _head([*columns, "× default", "× fused"], language)
    for row in rows:
        times = row["milliseconds"]
        ours, others = times["ours"], [times.get("default"), times.get("fused")]
        if row["beside"].startswith("itself"):  # torch has no such step
            others = [None, None]
        cells = [
            translate(SIZES[row["model"]], language, TRANSLATIONS),
            f"{ours:#.3g}",
            *(f"{other:#.3g}" if other else "–" for other in others),
            *(f"{other / ours:.2f}" if other else "–" for other in others),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    machine, torch = record["machine"], record["versions"]["torch"]
    command = record["command"].partition(" --")[0]
    if language.startswith("zh"):
        told = (
            f"在 {machine['cores']} 个核（{machine['processor']}）上、torch {torch} 中"
            f"一次更新所需的时间，取多次交替测量的中位数；重新测量：`{command}`。"
        )
    else:
        told = (
            f"Time of one update on {machine['cores']} cores ({machine['processor']}) with torch "
            f"{torch}, the median of measurements in alternation. `{command}` repeats it."
        )
    return "\n".join([*lines, "", told])


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
            lines.append(
                f"- *{sentence}* This {said}. Measured: {found} ({measured}). "
                f"`dlnotes claims {name}` repeats the experiment."
            )
    return "\n".join(lines)


def _head(columns: list[str], language: str) -> list[str]:
    names = [say(column, language) for column in columns]
    return [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]


ROWS = {"proof": proof, "speed": speed, "verdicts": verdicts}
"""Directive → what it writes."""
