"""Prove the notes' code against torch and the papers: note, oracle, largest difference."""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch.nn import Parameter

from dlnotes.activations import _oracles as activations
from dlnotes.cli import run
from dlnotes.foundations import _oracles as foundations
from dlnotes.models import _oracles as models
from dlnotes.optim import clip_grad_norm_, clip_grad_value_
from dlnotes.optim._oracles import ORACLES, largest_difference
from dlnotes.training.classifier import write_json
from dlnotes.training.record import provenance


@dataclass
class Row:
    """One comparison."""

    note: str
    oracle: str
    mapping: str
    cases: int
    difference: float
    """The largest relative difference of all cases."""
    tolerance: float

    @property
    def ok(self) -> bool:
        """Whether the difference is a number within the tolerance."""
        return self.difference <= self.tolerance


def optimizers(steps: int) -> Iterator[Row]:
    """Every rule in closed loop against torch, float64, both ways of running it."""
    for oracle in ORACLES.values():
        worst, cases = 0.0, 0
        for hyper in oracle.grid:
            for options in ({}, {"weight_decay": 0.05}):
                for fused in (None, False):
                    rule = oracle._replace(
                        rule=lambda p, fused=fused, rule=oracle.rule, **h: rule(p, **h, fused=fused)
                    )
                    difference = largest_difference(rule, {**hyper, **options}, steps)
                    worst = difference if math.isnan(difference) else max(worst, difference)
                    cases += 1
        name = f"torch.optim.{getattr(oracle.torch, '__name__', '')}"
        yield Row(oracle.note, name, oracle.mapping, cases, worst, 1e-10)


def clipping() -> Iterator[Row]:
    """Clipping by norm and by value against torch, float64."""

    def gradients(scale: float) -> list[Parameter]:
        generator = torch.Generator().manual_seed(0)
        params = [Parameter(torch.zeros(n, dtype=torch.float64)) for n in (5, 1, 40)]
        for p in params:
            p.grad = scale * torch.randn(p.shape, dtype=torch.float64, generator=generator)
        return params

    def difference(ours: list[Parameter], theirs: list[Parameter]) -> float:
        a, b = (
            torch.cat([p.grad for p in params if p.grad is not None]) for params in (ours, theirs)
        )
        return ((a - b).abs() / b.abs()).max().item()

    scales = (1e-3, 1.0, 1e3)
    norms, values = [], []
    for scale in scales:
        for norm_type in (1.0, 2.0, math.inf):
            ours, theirs = gradients(scale), gradients(scale)
            clip_grad_norm_(ours, 1.0, norm_type)
            torch.nn.utils.clip_grad_norm_(theirs, 1.0, norm_type)
            norms.append(difference(ours, theirs))
        ours, theirs = gradients(scale), gradients(scale)
        clip_grad_value_(ours, 0.5)
        torch.nn.utils.clip_grad_value_(theirs, 0.5)
        values.append(difference(ours, theirs))
    torch_name = "torch.nn.utils.clip_grad_"
    yield Row("Clipping by norm", torch_name + "norm_", "same arguments", len(norms), max(norms), 0)
    yield Row(
        "Clipping by value", torch_name + "value_", "same arguments", len(values), max(values), 0
    )


def chapters() -> Iterator[Row]:
    """Activations and models against torch's, hand-written gradients against autograd's."""
    for row in (*activations.rows(), *foundations.rows(), *models.rows()):
        yield Row(row.note, row.oracle, row.mapping, 1, row.difference, row.tolerance)


def papers() -> Iterator[Row]:
    """Models that torch has no module for against the papers' equations, written in NumPy."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    reference = importlib.import_module("reference.rows")
    for note, oracle, difference in reference.rows():
        yield Row(note, oracle, "same weights", 1, difference, 1e-12)


def main(json: Path | None = None, steps: int = 300) -> None:
    """Compare everything with its oracle; exit with 1 when a row is out of its tolerance.

    Args:
        json: Also write the rows to this file.
        steps: Steps of a trajectory.
    """
    rows = [*optimizers(steps), *clipping(), *chapters(), *papers()]
    table = Table(title="Ours against torch and the papers, float64")
    for heading in ("note", "oracle", "mapping", "cases", "largest difference", "tolerance", "ok"):
        table.add_column(heading, justify="right" if heading[0] in "lct" else "left")
    for row in rows:
        table.add_row(
            row.note,
            row.oracle,
            row.mapping,
            str(row.cases),
            f"{row.difference:.1e}",
            f"{row.tolerance:.0e}" if row.tolerance else "0",
            "yes" if row.ok else "[bold red]NO",
        )
    width = None if sys.stdout.isatty() else 160
    Console(width=width).print(table)
    if json:
        write_json(json, {**provenance(0), "rows": [{**asdict(r), "ok": r.ok} for r in rows]})
    if not all(row.ok for row in rows):
        sys.exit(1)


if __name__ == "__main__":
    run(main)
