"""Classify raw text with a trained classifier."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

from dlnotes.cli import lines as lines_of
from dlnotes.errors import UserError
from dlnotes.files import write_atomically
from dlnotes.training.classifier import TextClassifier
from dlnotes.training.explain import Explanation, page


def main(
    run: Path,
    texts: tuple[str, ...] = (),
    /,
    file: Path | None = None,
    top_k: int = 3,
    explain: Path | None = None,
) -> None:
    """Print a JSON object a text: label, probability and the top k labels.

    Args:
        run: Folder that dlnotes train or dlnotes ensemble wrote.
        texts: Texts to classify. Without any (and without --file), lines of standard input.
        file: Classify the lines of this file.
        top_k: How many labels to give.
        explain: Also write an HTML page with the words coloured by the model's attention (han,
            seq2seq, transformer, dmn, entnet), or by what leaving each of them out takes from the
            log-odds of the label (the other models, and ensembles).
    """
    if texts and file:
        raise UserError("give texts or --file, not both")
    classifier = TextClassifier.load(run)
    lines = iter(texts) if texts else lines_of(file)
    explained: list[Explanation] = []
    while batch := list(itertools.islice(lines, 1024)):
        for text, result in zip(batch, classifier.classify(batch, top_k=top_k), strict=True):
            print(json.dumps({**result, "text": text}, ensure_ascii=False))
        if explain:
            explained += classifier.explain(batch)
    if explain:
        html = page(explained, title=f"What {run} looked at")
        write_atomically(explain, lambda path: path.write_text(html, "utf-8"))
