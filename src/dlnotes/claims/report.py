"""One self-contained page of HTML with all verdicts, figures and numbers."""

from __future__ import annotations

import html
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from dlnotes.claims import CHAPTERS
from dlnotes.claims.claim import Verdict
from dlnotes.claims.lab import Outcome

_COUNTED = {
    Verdict.HOLDS.value: "hold",
    Verdict.HOLDS_ONLY_IF.value: "hold under a condition",
    Verdict.DOES_NOT_HOLD.value: "do not hold",
    Verdict.NOT_DECIDED.value: "not decided",
}
_INTRODUCTION = (
    "Hypotheses and criteria were written before this run. Some were corrected after earlier runs, "
    "because they did not measure what they claimed to; the code of such a claim begins with what "
    "was changed. Nothing is corrected for the number of "
    "claims. The effect is shown with its 95 % interval or the range that its name says, alone "
    "where that has the same digits. Runs are trainings, those for tuning included; claims that "
    "look at the same ones count them each. Times are what the computation took, added up over its "
    "processes, the time of results that several claims share for each of them."
)

_STYLE = """
:root { color-scheme: light dark; --page: #fff; --ink: #1c1c1e; --soft: #5c5c66; --line: #d8d8de;
  --card: #f6f6f8; --link: #0b57d0; --yes: #19703a; --no: #b3261e; --if: #8a5300; --open: #5c5c66 }
@media (prefers-color-scheme: dark) { :root { --page: #16171a; --ink: #e8e8ea; --soft: #a6a6b0;
  --line: #3a3b40; --card: #1f2024; --link: #8ab4f8; --yes: #7fd39a; --no: #ff9a90; --if: #f0b860;
  --open: #a6a6b0 } }
* { box-sizing: border-box }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 60rem; background: var(--page);
  color: var(--ink); font: 1rem/1.55 system-ui, sans-serif; overflow-wrap: anywhere }
h1 { line-height: 1.2 } h2 { margin: 3rem 0 0 } h3 { margin: 0 0 .25rem; font-size: 1.2rem;
  line-height: 1.3 }
a { color: var(--link) } p { margin: .5rem 0 } nav ul { margin: .5rem 0; padding-left: 1.25rem }
section { margin: 1.25rem 0; padding: 1rem 1.25rem; border: 1px solid var(--line);
  border-radius: 8px }
.soft { color: var(--soft); font-size: .9rem } .verdict b { font-weight: 650 }
.holds b { color: var(--yes) } .holds-only-if b { color: var(--if) }
.does-not-hold b { color: var(--no) } .not-decided b { color: var(--open) }
figure { margin: 1rem 0; overflow-x: auto }
figure svg { display: block; width: 100%; min-width: 34rem; height: auto; fill: currentColor }
dl { display: grid; grid-template-columns: 7rem minmax(0, 1fr); gap: .3rem 1rem; margin: 1rem 0 }
dt { color: var(--soft) } dd { margin: 0 }
.wide { overflow-x: auto } table { border-collapse: collapse; width: 100%; font-size: .9rem }
th, td { padding: .3rem .6rem; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; overflow-wrap: normal }
.all { min-width: 34rem } .all td:first-child { width: 34% } .all td:nth-child(2) { width: 28% }
.all th[colspan] { padding-top: 1rem }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
details { margin: .5rem 0 } summary { cursor: pointer; color: var(--link) }
pre { overflow-x: auto; padding: .75rem; background: var(--card); font-size: .8rem;
  line-height: 1.45 }
@media (max-width: 40rem) { dl { grid-template-columns: minmax(0, 1fr); gap: 0 }
  dd { margin-bottom: .6rem } section { padding: .75rem }
  .all { min-width: 0 } .all thead, .all td.n { display: none }
  .all tr { display: block; padding: .5rem 0; border-bottom: 1px solid var(--line) }
  .all td, .all th[colspan] { display: block; width: auto !important; padding: .1rem 0;
    border: 0 } }
"""


def report(outcomes: Sequence[Outcome], about: Mapping[str, str]) -> str:
    """The page.

    Args:
        outcomes: What was found, in the order of the page.
        about: Names and values for the top of the page, such as the commit.
    """
    facts = " · ".join(f"{escape(key)} {escape(value)}" for key, value in about.items())
    counts = Counter(o.verdict for o in outcomes)
    verdicts = ", ".join(
        f'<span class="verdict {_kind(verdict)}"><b>{counts[verdict]} {words}</b></span>'
        for verdict, words in _COUNTED.items()
        if counts[verdict]
    )
    chapters = {
        title: [o for o in outcomes if o.claim.name.replace("-", "_") in modules]
        for title, modules in CHAPTERS.items()
    }
    placed = {o.claim.name for found in chapters.values() for o in found}
    chapters["Others"] = [o for o in outcomes if o.claim.name not in placed]
    chapters = {title: found for title, found in chapters.items() if found}
    contents = "".join(
        f'<li><a href="#{_anchor(title)}">{escape(title)}</a>'
        f' <span class="soft">({len(found)})</span></li>'
        for title, found in chapters.items()
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "style-src 'unsafe-inline'\">\n"
        "<title>The claims of the notes, tested</title>\n"
        f"<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        f'<h1>The claims of the notes, tested</h1>\n<p class="soft">{facts}</p>\n'
        f"<p>Of {len(outcomes)} claims: {verdicts}.</p>\n<p>{_INTRODUCTION}</p>\n"
        f'<nav aria-label="Chapters"><ul>{contents}</ul></nav>\n'
        '<div class="wide" role="region" aria-label="All claims" tabindex="0">'
        '<table class="all"><thead><tr><th>claim</th><th>verdict</th>'
        '<th>effect, 95 % interval</th><th class="n">runs</th><th class="n">time</th></tr></thead>'
        + "".join(
            f'<tbody><tr><th colspan="5">{escape(title)}</th></tr>{"".join(map(_row, found))}'
            "</tbody>"
            for title, found in chapters.items()
        )
        + "</table></div>\n"
        + "\n".join(
            f'<h2 id="{_anchor(title)}">{escape(title)}</h2>\n' + "\n".join(map(_section, found))
            for title, found in chapters.items()
        )
        + "\n</main>\n</body>\n</html>\n"
    )


def _row(outcome: Outcome) -> str:
    name, sentence = escape(outcome.claim.name), escape(outcome.claim.sentence)
    return (
        f'<tr><td><a href="#{name}">{sentence}</a></td><td>{_verdict(outcome)}</td>'
        f"<td>{escape(effect(outcome.effect, outcome.interval))}<br>"
        f'<span class="soft">{escape(outcome.effect_name)}</span></td>'
        f'<td class="n">{runs(outcome.runs)}</td><td class="n">{seconds(outcome.seconds)}</td></tr>'
    )


def _section(outcome: Outcome) -> str:
    claim = outcome.claim
    texts = {
        "hypothesis": claim.hypothesis,
        "criterion": claim.criterion,
        "found elsewhere": claim.literature,
        "left out": outcome.left_out,
    }
    told = "".join(
        f"<dt>{name}</dt><dd>{_linked(text)}</dd>" for name, text in texts.items() if text
    )
    source = outcome.source.read_text("utf-8")
    found = escape(effect(outcome.effect, outcome.interval))
    trained = f"{outcome.runs:,} runs, " if outcome.runs else ""
    rows = len(outcome.numbers)
    return (
        f'<section id="{escape(claim.name)}">\n<h3>{escape(claim.sentence)}</h3>\n'
        f'<p class="soft">notes, {escape(claim.notes)} · <code>dlnotes claims '
        f"{escape(claim.name)}</code></p>\n"
        f"<p>{_verdict(outcome)}</p>\n"
        f"<p>{escape(outcome.effect_name)}: {found} "
        f'<span class="soft">· {trained}{seconds(outcome.seconds)}</span></p>\n'
        f'<figure tabindex="0" aria-label="Figure: {escape(claim.sentence)}">'
        f"{_named(outcome.svg, outcome)}</figure>\n<dl>{told}</dl>\n"
        f"<details><summary>The numbers: {rows} row{'s' * (rows != 1)}</summary>"
        f"{_table(outcome.numbers)}</details>\n"
        f"<details><summary>The code: {escape(outcome.source.name)}</summary>"
        f'<pre tabindex="0"><code>{escape(source)}</code></pre></details>\n</section>'
    )


def _named(svg: str, outcome: Outcome) -> str:
    """The figure with the finding as its text for those who cannot see it."""
    found = effect(outcome.effect, outcome.interval)
    text = escape(f"{outcome.says}; {outcome.effect_name}: {found}")
    return svg.replace('<svg role="img"', f'<svg role="img" aria-label="{text}"', 1)


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return "<p>None.</p>"
    keys = list(dict.fromkeys(key for row in rows for key in row))
    classes = {
        key: ' class="n"' if any(isinstance(row.get(key), int | float) for row in rows) else ""
        for key in keys
    }
    head = "".join(f"<th{classes[key]}>{escape(key)}</th>" for key in keys)
    body = "".join(
        "<tr>"
        + "".join(f"<td{classes[key]}>{escape(shown(row.get(key, '')))}</td>" for key in keys)
        + "</tr>"
        for row in rows
    )
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="wide" role="region" aria-label="Numbers" tabindex="0">{table}</div>'


def _verdict(outcome: Outcome) -> str:
    """The verdict in its colour, and the condition."""
    condition = outcome.says.removeprefix(outcome.verdict)
    return (
        f'<span class="verdict {_kind(outcome.verdict)}"><b>{escape(outcome.verdict)}</b>'
        f"{escape(condition)}</span>"
    )


def _kind(verdict: str) -> str:
    """The CSS class of a verdict."""
    return verdict.replace(" ", "-")


def _anchor(title: str) -> str:
    """The id of a chapter, which no claim has."""
    return f"chapter-{escape(title.lower().replace(' ', '-'))}"


def _linked(text: str) -> str:
    """Text with its URLs as links."""
    return re.sub(r"https?://[^\s)<>]*[^\s)<>.,;:]", r'<a href="\g<0>">\g<0></a>', escape(text))


def effect(value: float | None, interval: Sequence[float | None]) -> str:
    """An effect with its interval: "1.2 [0.8, 1.6]", or alone where all have the same digits.

    Args:
        value: The effect; None stands for NaN, as in JSON.
        interval: Its lower and upper end.
    """
    low, high = map(shown, interval)
    return shown(value) if low == high == shown(value) else f"{shown(value)} [{low}, {high}]"


def shown(value: float | str | None) -> str:
    """A number with as many digits as a reader needs."""
    if value is None or isinstance(value, str):
        return value or ""
    if not math.isfinite(value):
        return "–" if math.isnan(value) else ("∞" if value > 0 else "−∞")
    if value == int(value) and abs(value) < 1e6:
        text = f"{int(value):,}"
    elif 1e-3 <= abs(value) < 1e6:
        text = f"{value:,.{max(0, 3 - math.floor(math.log10(abs(value))))}f}"
    else:
        text = f"{value:.2e}"
    return text.replace("-", "−", 1) if text.startswith("-") else text


def runs(number: int) -> str:
    """How many trainings; a dash where nothing is trained."""
    return f"{number:,}" if number else "–"


def seconds(value: float) -> str:
    """A time: "0.4 s", "12 s" or "3 min 20 s"."""
    if value < 10:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def escape(text: str) -> str:
    """Text for HTML."""
    return html.escape(text)
