"""What a model looked at: its attention over the words, as a page and as a figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
 body {{ font: 16px/1.9 system-ui, sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em;
        color: #1a1a1a; background: #fff; overflow-wrap: anywhere; }}
 h1 {{ font-size: 1.4em; }} h2 {{ font-size: 1.1em; margin: 2em 0 0; }}
 figure {{ margin: .6em 0; }} figcaption, summary {{ color: #555; font-size: .85em; }}
 span {{ padding: .12em .2em; border-radius: .2em; }}
</style>
<h1>{title}</h1>
<p>The darker a word, the more it weighed; each line is shaded from 0 to its largest weight, which
is given. Point at a word to read its weight.</p>
{body}
</html>
"""


@dataclass(frozen=True)
class Explanation:
    """A document as the model read it.

    Attributes:
        label: The most probable label.
        probability: Its probability.
        tokens: The tokens.
        weights: Name of an attention → weight of each token, not negative.
    """

    label: str
    probability: float
    tokens: list[str]
    weights: dict[str, list[float]]


def page(explanations: Sequence[Explanation], *, title: str) -> str:
    """A self-contained HTML page; names with a comma (single heads) are folded away."""
    parts = []
    for e in explanations:
        parts.append(f"<h2>{escape(e.label)} · {e.probability:.3f}</h2>")
        whole = {name: w for name, w in e.weights.items() if "," not in name}
        parts += [_line(e.tokens, name, w) for name, w in whole.items()]
        if len(whole) < len(e.weights):
            rest = [_line(e.tokens, n, w) for n, w in e.weights.items() if n not in whole]
            parts.append(f"<details><summary>{len(rest)} more</summary>{''.join(rest)}</details>")
    return _PAGE.format(title=escape(title), body="\n".join(parts))


def _line(tokens: Sequence[str], name: str, weights: Sequence[float]) -> str:
    top = max(weights, default=0.0)
    words = " ".join(
        f'<span title="{w:.3g}" style="background:rgba(70,130,220,{w / top if top else 0:.2f})">'
        f"{escape(token)}</span>"
        for token, w in zip(tokens, weights, strict=True)
    )
    return f"<figure>{words}<figcaption>{escape(name)}, up to {top:.3g}</figcaption></figure>"


def attention_figure(explanation: Explanation, *, most: int = 40) -> Figure:
    """A document's first tokens across, its attentions down, single heads left out."""
    from matplotlib.figure import Figure  # slow to import, and most programs draw nothing

    tokens = explanation.tokens[:most] or ["(empty)"]
    names = [name for name in explanation.weights if "," not in name]
    rows = np.array([(explanation.weights[n][:most] or [0.0]) for n in names])
    figure = Figure(figsize=(2 + 0.28 * len(tokens), 1.6 + 0.3 * len(names)), layout="constrained")
    axes = figure.subplots()
    axes.imshow(rows / np.maximum(rows.max(1, keepdims=True), 1e-12), cmap="Blues", vmin=0, vmax=1)
    plain: dict[str, Any] = {"parse_math": False}  # a dollar sign starts no formula
    axes.set_xticks(range(len(tokens)), tokens, rotation=90, **plain)
    axes.set_yticks(range(len(names)), names)
    title = f"{explanation.label} ({explanation.probability:.2f})"
    axes.set_title(title, fontsize="medium", **plain)
    return figure
