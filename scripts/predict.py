"""Classify raw text with a trained classifier."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

from dlnotes.cli import lines as lines_of
from dlnotes.cli import run as run_script
from dlnotes.errors import UserError
from dlnotes.training.classifier import TextClassifier


def main(
    run: Path, texts: tuple[str, ...] = (), /, file: Path | None = None, top_k: int = 3
) -> None:
    """Print a JSON object a text: label, probability and the top k labels.

    Args:
        run: Folder that scripts/train.py wrote.
        texts: Texts to classify. Without any (and without --file), lines of standard input.
        file: Classify the lines of this file.
        top_k: How many labels to give.
    """
    if texts and file:
        raise UserError("give texts or --file, not both")
    classifier = TextClassifier.load(run)
    lines = iter(texts) if texts else lines_of(file)
    while batch := list(itertools.islice(lines, 1024)):
        for text, result in zip(batch, classifier.classify(batch, top_k=top_k), strict=True):
            print(json.dumps({**result, "text": text}, ensure_ascii=False))


if __name__ == "__main__":
    run_script(main)
