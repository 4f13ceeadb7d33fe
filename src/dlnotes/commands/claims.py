"""Test the claims of the notes by experiments, and write a report."""

from __future__ import annotations

import base64
import inspect
import io
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro
from matplotlib.image import imread
from rich import box
from rich import progress as bars
from rich.table import Table
from torch.utils.tensorboard import SummaryWriter

from dlnotes.arguments import checked
from dlnotes.claims import CLAIMS, cache, lab, texts
from dlnotes.claims.lab import Outcome
from dlnotes.claims.report import effect, report, runs, seconds
from dlnotes.commands.sources import check_data_folder
from dlnotes.display import console, tell
from dlnotes.errors import UserError
from dlnotes.files import check_output, make_folder, resolved, write_json, write_text
from dlnotes.threads import cpu_limit
from dlnotes.training.folder import check_not_of_a_run
from dlnotes.training.record import provenance

REPORT, PART, FIGURE = "report.html", "part.html", "figure.png"
QUICK = "quick"

_AT_ONCE = 0.5  # seconds: what takes less was in the cache
_PRIOR = 3.0  # units of cost


@checked
def main(
    names: Annotated[tuple[str, ...], tyro.conf.Positional] = (),
    quick: bool = False,
    json: Path | None = None,
    out: Path = Path("runs/claims"),
    data_dir: Path | None = None,
) -> None:
    """Test the claims of the notes, and write a report of the verdicts.

    Results are kept in a cache: what has been computed is not computed again until its code
    changes, so an interrupted run continues where it stopped. The times that are shown are those of
    the computation, summed over its processes, even where the results come from the cache. Claims
    about texts read corpora, which are downloaded once; a claim says which corpora it had to leave
    out.

    The report of all claims is report.html in --out, that of some of them part.html. A quick run
    writes into the folder quick, so that it replaces nothing of a full run.

    Args:
        names: The claims; default: all of them.
        quick: Only try out the experiments, with three seeds and a tenth of the steps, which are
            too few for a verdict.
        json: Also write what was found to this file.
        out: Folder for the reports and for TensorBoard.
        data_dir: Folder of corpora, as for dlnotes train.
    """
    modules = lab.chosen(names)
    claims = [lab.load(module) for module in modules]
    if json:
        _check_apart(json, out, [claim.name for claim in claims])
        check_output(json)
        check_not_of_a_run(json=json)
    if quick:
        out /= QUICK
    make_folder(out)
    for name in (REPORT, PART):
        check_output(out / name)
    for claim in claims:
        if (out / claim.name).exists():
            make_folder(out / claim.name)
            check_output(out / claim.name / FIGURE)
    torch.set_num_threads(1)  # the work is spread over processes
    check_data_folder(data_dir)
    folder = str(data_dir or os.environ.get("DLNOTES_DATA") or "")
    if folder and not Path(folder).is_dir():
        raise UserError(f"data folder {folder!r} (DLNOTES_DATA) not found")
    wanted = dict.fromkeys(name for claim in claims for name in claim.corpora)
    corpora = texts.digests(wanted, folder, tell)
    outcomes: list[Outcome] = []
    missing = False
    with Progress([claim.cost for claim in claims]) as progress:
        for claim in claims:
            source = inspect.getsourcefile(claim.experiment)
            assert source is not None, claim.name
            progress.begin(claim.name)
            try:
                outcome = lab.run(
                    claim,
                    Path(source),
                    quick=quick,
                    processes=cpu_limit(),
                    progress=progress.share,
                    corpora=corpora,
                    data_dir=folder,
                )
            except KeyboardInterrupt:
                if not cache.UNWRITABLE:
                    tell("What has been computed is kept: the same command goes on from there.")
                raise
            except UserError as error:  # no scikit-learn, say: the others are tested all the same
                progress.end(f"error: {claim.name} is left out: {error}")
                missing = True
                continue
            progress.end(f"{claim.name}: {outcome.says} ({seconds(outcome.seconds)})")
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
    page = out / (REPORT if len(outcomes) == len(CLAIMS) else PART)
    write_text(page, report(outcomes, about))
    if json:
        write_json(json, {**facts, "quick": quick, "claims": [o.record for o in outcomes]})
    shown = console()
    shown.print(_table(outcomes, about["run"] if quick else ""))
    shown.print(f"Report: {page}")
    if missing:
        sys.exit(2)


class Progress:
    """Tells how far a run is: a bar in a terminal, else a line on stderr for each claim.

    Claims differ in how long they take, so progress is measured by their costs. How many seconds a
    unit of cost takes on this machine is estimated from the claims that were computed rather than
    found in the cache.

    Args:
        costs: See `Claim.cost`, in the order of the claims.
    """

    def __init__(self, costs: Sequence[float]) -> None:
        self._costs = [*costs]
        self._at = -1
        self._done = 0.0  # of the claim at hand, from 0 to 1
        self._spent, self._paid = 0.0, 0.0  # seconds, and the cost that they paid for
        self._screen = console(stderr=True)
        self._bar = bars.Progress(
            bars.TextColumn("{task.description}"),
            bars.BarColumn(bar_width=24),
            bars.TaskProgressColumn(),
            bars.TimeElapsedColumn(),
            bars.TextColumn("{task.fields[left]}"),
            console=self._screen,
            transient=True,
            disable=not self._screen.is_terminal,
        )
        self._task = self._bar.add_task("", total=sum(self._costs), left="")

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()

    def begin(self, name: str) -> None:
        """The next claim begins."""
        self._at += 1
        self._done, self._began = 0.0, time.monotonic()
        self._bar.update(self._task, description=f"{self._at + 1}/{len(self._costs)} {name}")
        self._show()

    def share(self, share: float) -> None:
        """A share of it is done, from 0 to 1."""
        self._done = share
        self._show()

    def end(self, line: str) -> None:
        """It is done."""
        spent = time.monotonic() - self._began
        if spent > _AT_ONCE:
            self._spent += spent
            self._paid += self._costs[self._at]
        self._done = 1.0
        self._show()
        if self._screen.is_terminal:
            self._bar.console.print(line, highlight=False, soft_wrap=True)
        else:
            left = self.left()
            told = f", {left} left" if left else ""
            tell(f"{self._at + 1}/{len(self._costs)} {line}{told}")

    def left(self) -> str:
        """About how long the claims to come will take; "" after the last one."""
        here = self._costs[self._at]
        rest = sum(self._costs[self._at + 1 :]) + (1 - self._done) * here
        if not rest:
            return ""
        spent, paid = self._spent, self._paid
        if self._done < 1:
            spent += time.monotonic() - self._began
            paid += self._done * here
        # Before anything is known, expect one second for a unit of cost.
        return f"about {seconds(rest * (spent + _PRIOR) / (paid + _PRIOR))}"

    def _show(self) -> None:
        completed = sum(self._costs[: self._at]) + self._done * self._costs[self._at]
        left = self.left()
        self._bar.update(self._task, completed=completed, left=f"{left} left" if left else "")


def _check_apart(json: Path, out: Path, names: Sequence[str]) -> None:
    """Require that the record overwrites nothing else that is written.

    Raises:
        UserError: It would overwrite the report or a claim's folder.
    """
    place, folders = resolved(json), (out, out / QUICK)
    written = {
        **dict.fromkeys(folders, "the folder of the report"),
        **{folder / page: "the report" for folder in folders for page in (REPORT, PART)},
        cache.results_folder(): "the cache of results",
        **{folder / name: f"the figure of {name}" for folder in folders for name in names},
    }
    for path, what in written.items():
        other = resolved(path)
        inside = path not in folders and other in place.parents
        if (
            inside
            or place == other
            or (place.exists() and other.exists() and place.samefile(other))
        ):
            raise UserError(f"--json {json} is where {what} goes: give another file")


def _table(outcomes: list[Outcome], run: str) -> Table:
    title = f"The claims of the notes, tested{f' ({run})' * bool(run)}"
    table = Table(title=title, box=box.SIMPLE_HEAD)
    for heading in ("claim", "verdict", "effect, 95 % interval", "runs", "time"):
        table.add_column(heading, justify="right" if heading in ("runs", "time") else "left")
    for o in outcomes:
        told = f"{effect(o.effect, o.interval)} {o.effect_name}"
        table.add_row(o.claim.name, o.says, told, runs(o.runs), seconds(o.seconds))
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
        (folder / FIGURE).write_bytes(png)
        image = imread(io.BytesIO(png), format="png")
        image = (255 * np.asarray(image)[..., :3]).astype(np.uint8)
        writer.add_image("figure", image, dataformats="HWC")
