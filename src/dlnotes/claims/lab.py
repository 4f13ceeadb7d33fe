"""Find claims by name and run their experiments."""

from __future__ import annotations

import base64
import difflib
import importlib
import io
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl

from dlnotes.claims import CLAIMS
from dlnotes.claims.cache import Cache, digest_of_code
from dlnotes.claims.claim import Budget, Claim, Finding
from dlnotes.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Outcome:
    """A claim with what its experiment has found.

    Attributes:
        claim: The claim.
        source: Its file.
        verdict: See `Finding.verdict`; its value.
        says: The verdict with its condition.
        effect: See `Finding`.
        effect_name: See `Finding`.
        interval: See `Finding`.
        runs: See `Finding`.
        numbers: See `Finding`.
        left_out: See `Finding`.
        svg: The figure; black is ``currentColor`` and white the variable ``--page`` of the style.
        png: The figure in base64.
        seconds: How long the experiment took when it was computed, summed over its processes.
    """

    claim: Claim
    source: Path
    verdict: str
    says: str
    effect: float
    effect_name: str
    interval: tuple[float, float]
    runs: int
    numbers: list[dict[str, Any]]
    left_out: str
    svg: str
    png: str
    seconds: float

    @property
    def record(self) -> dict[str, Any]:
        """What is written to JSON."""
        texts = ("name", "notes", "sentence", "hypothesis", "criterion", "literature")
        found = ("verdict", "says", "effect", "effect_name", "interval", "runs", "seconds")
        return (
            {name: getattr(self.claim, name) for name in texts}
            | {name: getattr(self, name) for name in found}
            | {"left_out": self.left_out, "numbers": self.numbers}
        )


def chosen(names: Sequence[str]) -> list[str]:
    """The modules of some claims.

    Args:
        names: As on the command line, with hyphens or underscores; none for all of them.

    Raises:
        UserError: There is no such claim.
    """
    modules = [name.replace("-", "_") for name in names] or list(CLAIMS)
    example = CLAIMS[0].replace("_", "-")
    for name, module in zip(names, modules, strict=False):
        if module not in CLAIMS:
            known = ", ".join(each.replace("_", "-") for each in _near(module))
            told = f"the nearest are {known}" if known else f"an example is {example}"
            raise UserError(f"there is no claim {name!r}; {told}")
    return list(dict.fromkeys(modules))


def _near(module: str) -> list[str]:
    """At most five claims that a name may mean: their names contain it or are spelled like it."""
    low = module.lower()
    inside = [each for each in CLAIMS if low and low in each]
    return (inside or difflib.get_close_matches(low, CLAIMS, 3, 0.4))[:5]


def load(module: str) -> Claim:
    """The claim of a module.

    Args:
        module: One of `CLAIMS`.
    """
    claim: Claim = importlib.import_module(f"dlnotes.claims.{module}").CLAIM
    return claim


def run(
    claim: Claim,
    source: Path,
    *,
    quick: bool = False,
    processes: int = 1,
    folder: Path | None = None,
    progress: Callable[[float], None] | None = None,
    corpora: Mapping[str, str] | None = None,
    data_dir: str = "",
) -> Outcome:
    """Run the experiment of a claim, or return its result from the cache.

    Args:
        claim: The claim.
        source: Its file; results are found again as long as it and its imports do not change.
        quick: See `Budget`.
        processes: See `Budget`.
        folder: Folder of the cache; see `Cache`.
        progress: See `Budget`.
        corpora: See `Budget`; those that the claim does not name are not given to it.
        data_dir: See `Budget`.
    """
    code = digest_of_code(source)
    read = {name: digest for name, digest in (corpora or {}).items() if name in claim.corpora}
    cache = Cache(code, folder)
    budget = Budget(quick, processes, cache, progress, read, data_dir)

    def compute() -> dict[str, Any]:
        finding, seconds = cache.timed(lambda: claim.experiment(budget))
        svg, png = drawn(finding.figure, claim.name)
        return {**_plain(finding), "svg": svg, "png": png, "seconds": seconds}

    outcomes = Cache(code + digest_of_code(Path(__file__)), folder)
    settings = {"claim": claim.name, "quick": quick, **({"corpora": read} if read else {})}
    found = outcomes.get(settings, compute)
    budget.done(1.0)
    return Outcome(claim, source, **{**found, "interval": tuple(found["interval"])})


def _plain(finding: Finding) -> dict[str, Any]:
    """What JSON can hold of a finding."""
    return {
        "verdict": finding.verdict.value,
        "says": finding.says,
        "effect": float(finding.effect),
        "effect_name": finding.effect_name,
        "interval": [float(x) for x in finding.interval],
        "runs": int(finding.runs),
        "numbers": [
            {key: x if isinstance(x, str) else float(x) for key, x in row.items()}
            for row in finding.numbers
        ],
        "left_out": finding.left_out,
    }


def drawn(figure: Figure, name: str) -> tuple[str, str]:
    """A figure as SVG for a page of either colour scheme, and as PNG in base64.

    Args:
        figure: What to draw.
        name: Prefix of the ids in the SVG, which must be unique on a page.
    """
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=80)
    with _readable_anywhere(figure):
        written = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(written, format="svg", metadata=nothing)
    svg = written.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'href="#', f'href="#{name}-', svg)
    svg = re.sub(r"url\(#", f"url(#{name}-", svg)
    svg = re.sub("#000000|black", "currentColor", svg)
    svg = re.sub("#ffffff|white", "var(--page)", svg)
    svg = re.sub(
        r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', r'<svg role="img" viewBox="\1">', svg, count=1
    )
    return svg, base64.b64encode(png.getvalue()).decode()


@contextmanager
def _readable_anywhere(figure: Figure) -> Iterator[None]:
    """Make the background transparent, and the ids in the SVG the same each time."""
    figure.patch.set_alpha(0)
    for axes in figure.axes:
        axes.patch.set_alpha(0)
    with mpl.rc_context({"svg.hashsalt": "dlnotes", "svg.fonttype": "path"}):
        yield
