"""Compare every rule, activation and model with torch and the papers."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

from rich.table import Table
from rich.text import Text

from dlnotes.arguments import Count, checked
from dlnotes.cli import console
from dlnotes.files import check_output, write_json
from dlnotes.oracles import rows
from dlnotes.training.folder import check_not_of_a_run
from dlnotes.training.record import provenance


@checked
def main(json: Path | None = None, steps: Count = 300) -> None:
    """Compare everything with its oracle; exit with 1 when a row is out of its tolerance.

    Args:
        json: Also write the rows to this file.
        steps: Steps of a trajectory.
    """
    if json:
        check_output(json)
        check_not_of_a_run(json=json)
    compared = list(rows(steps))
    table = Table(title="Ours against torch and the papers, float64")
    for heading in ("note", "oracle", "mapping", "cases", "largest difference", "tolerance", "ok"):
        table.add_column(heading, justify="right" if heading[0] in "lct" else "left")
    for row in compared:
        table.add_row(
            row.note,
            row.oracle,
            row.mapping,
            str(row.cases),
            f"{row.difference:.1e}",
            f"{row.tolerance:.0e}" if row.tolerance else "0",
            "yes" if row.ok else Text("NO", style="bold red"),
        )
    if json:  # before the reader of what is printed may go away
        record = [{**asdict(row), "ok": row.ok} for row in compared]
        write_json(json, {**provenance(0), "rows": record})
    console().print(table)
    if not compared or not all(row.ok for row in compared):
        sys.exit(1)
