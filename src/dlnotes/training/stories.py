"""How a memory network read a story: its gates for each sentence, as a web page or a figure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from dlnotes.display import as_html, printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from dlnotes.nn.sentences import Gates

# With fewer columns than this, each gate is also given as a number.
_FEW = 6
# How many slots a caption names at most, and their least share of the answer; for phones, which
# have no pointer to read numbers with.
_NAMED, _LEAST = 5, 0.05
_NUMBERED = 60  # with more columns, a figure makes them narrow and numbers only some of them
_SHADES = ((0.95, "█"), (0.6, "▓"), (0.3, "▒"), (0.05, "░"), (0.0, "·"))


@dataclass(frozen=True)
class Story:
    """A story as a memory network read it.

    Attributes:
        columns: Name of each slot, or of each pass over the story.
        sentences: The sentences that the network read.
        gates: For each sentence, how wide the gate of each slot or pass was open, from 0 to 1.
        question: The question; empty for a document that is its own question.
        answer: Share of each slot in the answer; empty if there are no slots.
    """

    columns: list[str]
    sentences: list[str]
    gates: list[list[float]]
    question: str
    answer: list[float]

    def sort_slots(self) -> Story:
        """A copy in which slots that were open to the same sentences are next to each other.

        Passes over a story keep their order.
        """
        if not self.answer:
            return self

        def key(k: int) -> tuple[list[bool], int]:
            return [row[k] < 0.5 for row in self.gates], k

        order = sorted(range(len(self.columns)), key=key)
        return Story(
            [self.columns[k] for k in order],
            self.sentences,
            [[row[k] for k in order] for row in self.gates],
            self.question,
            [self.answer[k] for k in order],
        )

    @property
    def answer_heading(self) -> str:
        """Heading of the slots' shares: the question, or for a document without one "answer"."""
        return self.question or ("answer" if self.answer else "")

    @property
    def answer_summary(self) -> str:
        """A clause that names the slots with the largest shares in the answer."""
        if not self.answer:
            return ""
        shares = sorted(zip(self.answer, self.columns, strict=True), key=lambda pair: -pair[0])
        told = [f"{column} ({share:.2f})" for share, column in shares[:_NAMED] if share >= _LEAST]
        return f"the answer reads {', '.join(told)}"


def as_story(words: Sequence[str], part: Sequence[int], gates: Gates, asked: int) -> Story:
    """Make a story of the gates that a model has computed for one document.

    Args:
        words: The document's words.
        part: Index of the word that each token belongs to.
        gates: Result of the model's ``gates`` for this document alone.
        asked: Position of the token that marks the question; at least the number of tokens if there
            is none.
    """
    count = len(part)
    told: dict[int, dict[int, None]] = {}  # indices of the words of each sentence, without repeats
    sentence, in_grid = gates.grid.sentence[0].tolist(), gates.grid.mask[0].tolist()
    for i in range(min(count, len(sentence))):
        if in_grid[i]:
            told.setdefault(sentence[i], {})[part[i]] = None
    question = dict.fromkeys(part[i] for i in range(asked + 1, count))
    return Story(
        gates.columns,
        [" ".join(words[k] for k in some) for some in told.values()],
        gates.weights[0, list(told)].tolist(),
        " ".join(words[k] for k in question),
        [] if gates.answer is None else gates.answer[0].tolist(),
    )


def story_html(story: Story) -> str:
    """An HTML table: a row per sentence, a cell per slot or pass (on phones, below the text)."""
    story = story.sort_slots()
    numbers = "".join(f'<th scope="col">{_number(column)}</th>' for column in story.columns)
    name = escape(story.columns[0].partition(" ")[0])
    rows = [f'<tr><th scope="row">{name}</th><td><table><tr>{numbers}</tr></table></td></tr>']
    rows += [
        _row(sentence, story.columns, weights)
        for sentence, weights in zip(story.sentences, story.gates, strict=True)
    ]
    caption = ["no sentences"] * (not story.sentences)
    question = as_html(story.question)
    if story.answer:
        rows.append(_row(story.answer_heading, story.columns, story.answer, "answer"))
        caption += [escape(story.answer_summary)] * bool(story.answer_summary)
    elif question:
        rows.append(f'<tr class="answer"><th scope="row" dir="auto">{question}</th></tr>')
    told = f"<figcaption>{'; '.join(caption)}</figcaption>" * bool(caption)
    return f'<figure class="story"><table>{"".join(rows)}</table>{told}</figure>'


def _row(head: str, columns: Sequence[str], weights: Sequence[float], kind: str = "") -> str:
    few = len(columns) < _FEW
    cells = "".join(
        f'<td title="{escape(column)}: {w:.3g}" style="--w:{min(1, max(0, w)) ** 0.5:.2f}">'
        f"{f'{w:.2f}' if few else ''}</td>"
        for column, w in zip(columns, weights, strict=True)
    )
    named = f' class="{kind}"' * bool(kind)
    return (
        f'<tr{named}><th scope="row" dir="auto">{as_html(head)}</th>'
        f"<td><table><tr>{cells}</tr></table></td></tr>"
    )


def story_figure(story: Story, title: str, *, most: int = 30) -> Figure:
    """Draw a row per sentence and a column per slot or pass, and below the answer's attention.

    Of a long story, only the last sentences are drawn. The scale is that of
    :func:`~dlnotes.training.explain.attention_figure`.
    """
    from matplotlib.colors import PowerNorm  # slow to import, and most programs draw nothing
    from matplotlib.figure import Figure

    from dlnotes.training.figure_text import prepare_text

    story = story.sort_slots()
    sentences = story.sentences[-most:] or ["(empty)"]
    gates = np.array(story.gates[-most:] or [[0.0] * len(story.columns)])
    if len(story.sentences) > most:
        title += f", last {most} of {len(story.sentences)}"
    lines, style = prepare_text([*sentences, story.answer_heading], most=60)
    rows, columns = gates.shape
    below = bool(story.answer)
    step = -(-columns // _NUMBERED)
    width = 2.2 + 0.085 * max(map(len, lines)) + max(2.2, 0.32 * columns / step)  # inches
    figure = Figure(figsize=(width, 1.6 + 0.28 * (rows + 2 * below)), layout="constrained")
    ratios = {"height_ratios": [rows, 1.0]} if below else {}
    drawn = figure.subplots(1 + below, squeeze=False, sharex=True, gridspec_kw=ratios)[:, 0]
    norm = PowerNorm(0.5, vmin=0, vmax=1)
    shown = [(drawn[0], gates, lines[:-1], "Blues", "gate")]
    if below:
        shown.append((drawn[1], np.array([story.answer]), lines[-1:], "Oranges", "answer"))
    for axes, values, names, colours, what in shown:
        image = axes.imshow(values, cmap=colours, norm=norm, aspect="auto")
        axes.set_yticks(range(len(names)), names, **style)
        axes.set_xticks(range(0, columns, step), [_number(c) for c in story.columns[::step]])
        axes.set_xticks(np.arange(columns + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(len(names) + 1) - 0.5, minor=True)
        axes.grid(which="minor", color="0.85", linewidth=0.6)
        axes.tick_params(which="both", length=0)
        ticks = [0, 0.1, 0.25, 0.5, 1] if axes is drawn[0] else [0, 1]
        figure.colorbar(image, ax=axes, label=what, ticks=ticks, pad=0.02)
    drawn[-1].set_xlabel(story.columns[0].partition(" ")[0])
    heading = [title] if below or not story.question else [story.question, title]
    parts, style = prepare_text(heading, most=60)
    drawn[0].set_title("\n".join(parts), fontsize="medium", **style)
    return figure


def story_lines(story: Story, title: str) -> Iterator[str]:
    """Lines of text for a terminal: the fuller a character, the wider the gate was open."""
    story = story.sort_slots()
    heads = [printable(text, 48) for text in [*story.sentences, story.answer_heading]]
    what = story.columns[0].partition(" ")[0]
    width = max(map(len, [*heads, what]))
    yield f"{printable(title, 80)}{': ' * bool(story.answer_summary)}{story.answer_summary}"
    numbers = [_number(column) for column in story.columns]
    digits = max(map(len, numbers))  # written one below another
    for i in range(digits):
        name = what if i == digits - 1 else ""
        yield f"{name:>{width}}  {''.join(n.rjust(digits)[i] for n in numbers)}"
    for head, weights in zip(heads, [*story.gates, story.answer], strict=True):
        yield f"{head:<{width}}  {''.join(map(_shade, weights))}".rstrip()


def _shade(weight: float) -> str:
    return next(shade for least, shade in _SHADES if weight >= least)


def _number(column: str) -> str:
    return column.rpartition(" ")[2]
