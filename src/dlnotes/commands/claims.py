"""Test the claims of the notes by experiments, and write a report."""

from __future__ import annotations

import base64
import inspect
import io
import os
import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro
from matplotlib.image import imread
from rich import box, progress
from rich.table import Table
from torch.utils.tensorboard import SummaryWriter

from dlnotes.arguments import checked
from dlnotes.claims import lab
from dlnotes.claims.lab import Outcome
from dlnotes.claims.report import effect, report, seconds
from dlnotes.display import console, tell
from dlnotes.errors import UserError
from dlnotes.files import check_output, make_folder, write_json, write_text
from dlnotes.training.folder import check_not_of_a_run
from dlnotes.training.record import provenance

REPORT = "report.html"


@checked
def main(
    names: Annotated[tuple[str, ...], tyro.conf.Positional] = (),
    quick: bool = False,
    json: Path | None = None,
    out: Path = Path("runs/claims"),
) -> None:
    """Test the claims of the notes, and write a report of the verdicts.

    Results are kept in the cache: what has been computed is not computed again until its code
    changes, so a run that was interrupted goes on where it was.

    Args:
        names: The claims; default: all of them.
        quick: Run only the mechanics: three seeds and a tenth of the steps decide little.
        json: Also write what was found to this file.
        out: Folder for the report and for TensorBoard.
    """
    modules = lab.chosen(names)
    if json:
        check_output(json)
        check_not_of_a_run(json=json)
    make_folder(out)
    check_output(out / REPORT)
    torch.set_num_threads(1)  # the work is spread over processes
    outcomes: list[Outcome] = []
    missing = False
    with _progress() as bar:
        task = bar.add_task("", total=len(modules))
        for i, module in enumerate(modules):
            claim = lab.load(module)
            source = inspect.getsourcefile(claim.experiment)
            assert source is not None, module
            bar.update(task, description=claim.name)

            def show(share: float, done: int = i) -> None:
                bar.update(task, completed=done + share)

            try:
                outcome = lab.run(
                    claim, Path(source), quick=quick, processes=_cores(), progress=show
                )
            except UserError as error:  # no network, say: the others are tested all the same
                tell(f"error: {claim.name} is left out: {error}")
                missing = True
                continue
            outcomes.append(outcome)
            _to_tensorboard(outcome, out / claim.name)
    facts = provenance(0)
    about = {
        "run": "quick, the mechanics only: no result" if quick else "full",
        "commit": (facts["commit"] or "–")[:12],
        "torch": facts["versions"]["torch"],
        "trainings": f"{sum(o.runs for o in outcomes):,}",
        "time": seconds(sum(o.seconds for o in outcomes)),
    }
    write_text(out / REPORT, report(outcomes, about))
    if json:
        write_json(json, {**facts, "quick": quick, "claims": [o.record for o in outcomes]})
    shown = console()
    shown.print(_table(outcomes))
    shown.print(f"Report: {out / REPORT}")
    if missing:
        sys.exit(2)


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _progress() -> progress.Progress:
    screen = console(stderr=True)
    return progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(bar_width=24),
        progress.TaskProgressColumn(),
        progress.TimeElapsedColumn(),
        progress.TextColumn("left"),
        progress.TimeRemainingColumn(),
        console=screen,
        transient=True,
        disable=not screen.is_terminal,
    )


def _table(outcomes: list[Outcome]) -> Table:
    table = Table(title="The claims of the notes, tested", box=box.SIMPLE_HEAD)
    for heading in ("claim", "verdict", "effect, 95 % interval", "runs", "time"):
        table.add_column(heading, justify="right" if heading in ("runs", "time") else "left")
    for o in outcomes:
        told = f"{effect(o.effect, o.interval)} {o.effect_name}"
        table.add_row(o.claim.name, o.says, told, f"{o.runs:,}", seconds(o.seconds))
    return table


def _to_tensorboard(outcome: Outcome, folder: Path) -> None:
    """Write sentence, verdict, effect and figure of a claim as a run of TensorBoard.

    The figure is also written as figure.png.
    """
    for old in folder.glob("events.out.tfevents.*"):  # one point, not a history
        old.unlink()
    with SummaryWriter(str(folder)) as writer:
        told = (
            f"**{outcome.says}**: {outcome.effect_name} {effect(outcome.effect, outcome.interval)}"
        )
        writer.add_text("claim", f"{outcome.claim.sentence}\n\n{told}")
        writer.add_scalar("effect", outcome.effect)
        png = base64.b64decode(outcome.png)
        (folder / "figure.png").write_bytes(png)
        image = imread(io.BytesIO(png), format="png")
        image = (255 * np.asarray(image)[..., :3]).astype(np.uint8)
        writer.add_image("figure", image, dataformats="HWC")
