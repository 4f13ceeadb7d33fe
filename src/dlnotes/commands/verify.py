"""Compare every rule, activation and model with torch and the papers."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from dlnotes.arguments import Count, checked
from dlnotes.display import console
from dlnotes.files import check_output, write_json
from dlnotes.oracles import rows
from dlnotes.training.folder import check_not_of_a_run
from dlnotes.training.record import provenance

_WIDE = 120  # columns of a terminal


@checked
def main(json: Path | None = None, steps: Count = 300) -> None:
    """Compare everything with its oracle; exit with 1 if a difference exceeds its tolerance.

    Args:
        json: Also write the rows to this file.
        steps: Number of optimizer steps in each trajectory.
    """
    if json:
        check_output(json)
        check_not_of_a_run(json=json)
    compared = list(rows(steps))
    out = console()
    wide = out.width >= _WIDE
    table = Table(
        title="Ours against torch and the papers, float64",
        box=box.SIMPLE_HEAD,
        padding=(0, 1) if wide else 0,
        pad_edge=False,
    )
    for heading in ("note", "oracle", "mapping", "cases", "largest difference", "tolerance", "ok"):
        if heading != "mapping" or wide:
            justify: Any = "right" if heading[0] in "lct" else "left"
            table.add_column(heading, justify=justify, overflow="fold")
    for row in compared:
        table.add_row(
            row.note,
            row.oracle,
            *([row.mapping] if wide else []),
            str(row.cases),
            f"{row.difference:.1e}",
            f"{row.tolerance:.0e}" if row.tolerance else "0",
            "yes" if row.ok else Text("NO", "bold red"),
        )
    if json:  # first, since printing ends the program where a pipe's reader has gone
        record = [{**asdict(row), "ok": row.ok} for row in compared]
        write_json(json, {**provenance(0), "rows": record})
    out.print(table)
    if not wide:
        out.print(f"From {_WIDE} columns, in a pipe and by --json, the mapping is shown as well.")
    if not compared or not all(row.ok for row in compared):
        sys.exit(1)
