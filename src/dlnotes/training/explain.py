"""Explanations of a classifier's labels: the weights of the words as a web page or a figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from dlnotes.display import as_html, printable
from dlnotes.training.stories import Story, story_figure, story_html

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ATTENTION, OCCLUSION = "attention", "occlusion"
_STORY = "story"

_MEANING = {
    ATTENTION: """<p>Method: attention. The stronger the colour of a word, the larger its weight: no
colour means 0, full colour means 1 (all of the attention), and a weight of a quarter has half the
colour. The largest weight of each line is given. Point at a word to read its weight.</p>""",
    _STORY: """<p>Method: gates. A row is a sentence of the story. A column is a slot of the
network's memory (entnet), or a pass over the story (dmn): the stronger the colour, the wider its
gate was open to the sentence. No colour means 0, full colour means 1, and a quarter has half the
colour. Slots that were open to the same sentences, and so follow the same thing, are next to each
other. Where there are slots, the last row is the question, with the share of each slot in the
answer. Point at a cell to read its number.</p>""",
    OCCLUSION: """<p>Method: occlusion. The classifier read each text again without each of its
words. The weight of a word is how much the log-odds of the label fall when it is left out: at +0.69
the word doubles the odds, at −0.69 it halves them. A word that occurs several times is left out
everywhere, and its occurrences share the weight. The colours of each text are scaled to its largest
weight. Point at a word to read its weight.</p>
<p class="legend"><span class="against" style="--w:1">against the label</span>
<i></i><span style="--w:1">for the label</span></p>""",
}

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
 :root {{ color-scheme: light dark; --text: #1a1a1a; --page: #fff; --faint: #555;
         --for: 70 130 220; --against: 235 130 40; }}
 @media (prefers-color-scheme: dark) {{
  :root {{ --text: #e8e8e8; --page: #16181c; --faint: #a5a5a5;
          --for: 40 95 185; --against: 165 80 10; }} }}
 body {{ font: 16px/1.9 system-ui, sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em;
        color: var(--text); background: var(--page); overflow-wrap: anywhere; }}
 h1 {{ font-size: 1.4em; }} h2 {{ font-size: 1.1em; margin: 2em 0 0; }}
 figure {{ margin: .6em 0; }} figcaption, summary {{ color: var(--faint); font-size: .85em; }}
 span {{ --hue: var(--for); padding: .12em .2em; border-radius: .2em;
        background: rgb(var(--hue) / var(--w)); print-color-adjust: exact; }}
 .story table {{ border-spacing: 0; width: 100%; line-height: 1.3; }}
 .story > table > tbody > tr {{ display: flex; flex-wrap: wrap; gap: 0 1em; padding: .15em 0; }}
 .story th {{ font-weight: inherit; text-align: start; }}
 .story > table > tbody > tr > * {{ flex: 1 1 20em; padding: 0; }}
 .story td table {{ table-layout: fixed; border-spacing: 1px; font-size: .8em; }}
 .story td td {{ height: 1.5em; padding: 0; text-align: center; --hue: var(--for);
               background: rgb(var(--hue) / var(--w)); outline: 1px solid rgb(128 128 128 / .25);
               print-color-adjust: exact; }}
 .story td th {{ text-align: center; padding: 0; color: var(--faint); }}
 .story .answer td td {{ --hue: var(--against); }} .story .answer th {{ font-style: italic; }}
 .against {{ --hue: var(--against); }}
 .legend {{ display: flex; }} .legend span {{ border-radius: 0; }}
 .legend i {{ flex: 0 1 8em; print-color-adjust: exact; background: linear-gradient(90deg,
             rgb(var(--against)), rgb(var(--against) / 0) 50%, rgb(var(--for) / 0) 50%,
             rgb(var(--for))); }}
</style>
<h1>{title}</h1>
{meaning}
{body}
</html>
"""

# Smaller changes of the log-odds are never shown in full colour, even if they are the largest.
_LEAST = 0.01
# Words that a caption names for each side, for phones, which have no pointer to read weights with.
_NAMED = 5


@dataclass(frozen=True)
class Explanation:
    """Which words of a document led to a label.

    Attributes:
        label: The label that is explained.
        probability: Probability of the label.
        tokens: The words of the document.
        weights: For each name of a line of weights, the weight of each token.
        method: ``attention``, whose weights are not negative, or ``occlusion``, whose weights (see
            :func:`~dlnotes.training.attribution.occlusion`) have either sign.
        story: For models with gates, the gates of each sentence.
    """

    label: str
    probability: float
    tokens: list[str]
    weights: dict[str, list[float]]
    method: str = ATTENTION
    story: Story | None = None

    @property
    def title(self) -> str:
        """Label and probability."""
        return f"{printable(self.label, 40)} ({self.probability:.2f})"


def explanations_html(explanations: Sequence[Explanation], *, title: str) -> str:
    """A self-contained HTML page; lines of single heads (names with a comma) are folded."""
    parts = []
    for e in explanations:
        parts.append(f"<h2><bdi>{as_html(e.label)}</bdi> · {e.probability:.3f}</h2>")
        if e.story:
            parts.append(story_html(e.story))
            continue
        line = _line if e.method == ATTENTION else _signed_line
        whole = {name: w for name, w in e.weights.items() if "," not in name}
        parts += [line(e.tokens, name, w) for name, w in whole.items()]
        if len(whole) < len(e.weights):
            rest = [line(e.tokens, n, w) for n, w in e.weights.items() if n not in whole]
            parts.append(f"<details><summary>{len(rest)} more</summary>{''.join(rest)}</details>")
    methods = dict.fromkeys(_STORY if e.story else e.method for e in explanations)
    meaning = "\n".join(_MEANING[method] for method in methods)
    return _PAGE.format(title=as_html(title), meaning=meaning, body="\n".join(parts))


def _line(tokens: Sequence[str], name: str, weights: Sequence[float]) -> str:
    top = max(weights, default=0.0)
    words = " ".join(
        f'<span title="{w:.3g}" style="--w:{min(1, max(0, w)) ** 0.5:.2f}">{as_html(token)}</span>'
        for token, w in zip(tokens, weights, strict=True)
    )
    return _figure(words, f"{escape(name)}, up to {top:.3g}")


def _signed_line(tokens: Sequence[str], name: str, weights: Sequence[float]) -> str:
    top = max(_LEAST, *map(abs, weights), 0.0)
    words = " ".join(
        f'<span{" class=against" if w < 0 else ""} title="{_signed(w)}" '
        f'style="--w:{abs(w) / top:.2f}">{as_html(token)}</span>'
        for token, w in zip(tokens, weights, strict=True)
    )
    caption = [escape(name)]
    rising = sorted(set(zip(weights, tokens, strict=True)))  # a repeated word once
    for side, pairs in {"for": rising[::-1], "against": rising}.items():
        said = [
            f"<bdi>{as_html(token)}</bdi> {_signed(w)}"
            for w, token in pairs[:_NAMED]
            if (w if side == "for" else -w) >= _LEAST
        ]
        if said:
            caption.append(f"{side}: {', '.join(said)}")
    return _figure(words, "<br>".join(caption))


def _figure(words: str, caption: str) -> str:
    """A line of words, in the direction of their script, with its caption."""
    return (
        f'<figure dir="auto">{words or "no words"}'
        f'<figcaption dir="ltr">{caption}</figcaption></figure>'
    )


def _signed(weight: float) -> str:
    return f"{weight:+.2f}".replace("-", "−")


def attention_figure(explanation: Explanation, *, most: int = 40) -> Figure:
    """Draw attention weights: a column per token of the document's start, a row per attention.

    Single heads are left out. The scale is the same for all documents and attentions, from 0 to 1
    (all of the attention). A story is drawn by :func:`~dlnotes.training.stories.story_figure`.
    """
    if explanation.story:
        return story_figure(explanation.story, explanation.title)
    from matplotlib.colors import PowerNorm  # slow to import, and most programs draw nothing
    from matplotlib.figure import Figure

    from dlnotes.training.figure_text import prepare_text

    tokens = explanation.tokens[:most] or ["(empty)"]
    names = [name for name in explanation.weights if "," not in name]
    rows = np.array([(explanation.weights[n][:most] or [0.0]) for n in names])
    words, style = prepare_text(tokens, most=20)
    height = 1 + max(1.3, 0.35 * len(names)) + 0.085 * max(map(len, words))  # inches
    figure = Figure(figsize=(5 + 0.28 * len(words), height), layout="constrained")
    axes = figure.subplots()
    # Each of many words has a small weight: the square root makes a tenth visible.
    image = axes.imshow(rows, cmap="Blues", norm=PowerNorm(0.5, vmin=0, vmax=1), aspect="auto")
    axes.set_xticks(range(len(words)), words, rotation=90, **style)
    axes.set_yticks(range(len(names)), names)
    figure.colorbar(image, label="weight", ticks=[0, 0.1, 0.25, 0.5, 1], pad=0.02)
    (label,), style = prepare_text([explanation.label], most=40)
    title = f"{label} ({explanation.probability:.2f})"
    axes.set_title(title, fontsize="medium", **style)
    return figure
