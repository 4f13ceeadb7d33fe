"""The numbers that the experiments measured, from the record of the claims."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from chapters.words import translate
from dlnotes.errors import UserError
from dlnotes.files import read_json
from dlnotes.optim import OPTIMIZERS
from dlnotes.training.recipes import RECIPES
from tables import markdown

ROOT = Path(__file__).parents[2]
CLAIMS = ROOT / "results" / "claims" / "record.json"
_PERCENT = " * 100"


def numbers(claim: str, where: Mapping[str, str]) -> list[dict[str, Any]]:
    """The rows of numbers of a claim.

    Args:
        claim: A claim of ``results/claims/record.json``.
        where: Column → value, as text, of the rows that are wanted.

    Raises:
        UserError: There is no such claim, or no such row.
    """
    rows: list[dict[str, Any]] = [
        row
        for row in claim_of(claim, "numbers")["numbers"]
        if all(_plain(row.get(column)) == value for column, value in where.items())
    ]
    if not rows:
        raise UserError(f"numbers: {claim} has no row with {dict(where)}")
    return rows


def table(text: str, language: str) -> str:
    """A table of a claim's numbers.

    Args:
        text: The claim; then a line per column, ``COLUMN`` or ``COLUMN -> HEADING``, and per
            condition on the rows, ``COLUMN = VALUE``. ``COLUMN * 100`` shows a share in percent,
            with one decimal.
        language: Sphinx's name of the language.

    Raises:
        UserError: The record has no such claim, column or row.
    """
    claim, *lines = text.strip().splitlines()
    where = dict(line.split(" = ") for line in lines if " = " in line)
    columns = [line.split(" -> ") for line in lines if " = " not in line]
    rows = numbers(claim, where)
    shown = []
    for column, *_ in columns:
        name = column.removesuffix(_PERCENT)
        if name not in rows[0]:
            raise UserError(f"numbers: {claim} has no column {name!r}")
        if name != column:
            shown.append([f"{100 * row[name]:.1f}" for row in rows])
        else:
            shown.append([_cell(row[name], language) for row in rows])
    headings = [translate(column[-1], language) for column in columns]
    return markdown(headings, zip(*shown, strict=True))


def claim_of(name: str, directive: str) -> dict[str, Any]:
    """What the record has of a claim.

    Args:
        name: Name of the claim.
        directive: The directive that needs it, for the error message.

    Raises:
        UserError: The record has no such claim.
    """
    known = _claims()
    if name not in known:
        raise UserError(f"{directive}: results/claims/record.json has no claim {name!r}")
    return known[name]


@cache
def _claims() -> dict[str, dict[str, Any]]:
    record = read_json(CLAIMS, "has no claims")
    return {row["name"]: row for row in record["claims"]}


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _cell(value: Any, language: str) -> str:
    if value in OPTIMIZERS:
        return f"`{value}`"
    if isinstance(value, float):
        if value == round(value) or abs(value) >= 1000:
            return f"{value:,.0f}".replace("-", "−")
        shown = f"{value:#.3g}".rstrip(".")
        return "−" + shown[1:] if shown.startswith("-") else shown
    return translate(str(value), language) or "–"


def advice(text: str, language: str) -> str:
    """What ``dlnotes advise`` measured of other optimizers, from its records.

    Every figure is the accuracy on dev after the first trial, which has the same share of the
    epochs for all of them.

    Args:
        text: Content of the directive, which must be empty.
        language: Sphinx's name of the language.
    """
    found: dict[tuple[str, str, str], dict[str, float]] = {}
    for path in sorted((ROOT / "results" / "advice").glob("*.json")):
        entry = read_json(path, "is no record of a race")
        tried = [each for each in entry["race"] if each["first"]]
        changed = {each["model"] for each in tried if "optimizer" in each["changes"]}
        for each in tried:
            model, changes = each["model"], each["changes"]
            if model in changed and set(changes) <= {"optimizer"}:
                share = f"{100 * each['first']['share']:.0f}"
                optimizer = changes.get("optimizer", RECIPES[model].optimizer)
                row = found.setdefault((entry["corpus"], model, share), {})
                row[optimizer] = each["first"]["score"]
    optimizers = list(dict.fromkeys(name for row in found.values() for name in row))
    headings = [
        translate(heading, language) for heading in ("corpus", "model", "share of the epochs (%)")
    ]
    rows = [
        [*key, *(f"{100 * row[name]:.1f} %" if name in row else "–" for name in optimizers)]
        for key, row in found.items()
    ]
    return markdown([*headings, *(f"`{name}`" for name in optimizers)], rows)
