"""Train four models on trec's questions, and record which words of new questions they look at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from dlnotes.arguments import Count, Seed, checked
from dlnotes.cli import run
from dlnotes.data.corpora import load
from dlnotes.data.dataset import load_dataset
from dlnotes.files import check_output, write_json
from dlnotes.training.classifier import reads_sentences
from dlnotes.training.record import provenance
from dlnotes.training.settings import Training
from dlnotes.training.train import train_classifier

OUT = Path(__file__).parents[1] / "results" / "attention" / "trec.json"
CORPUS = "trec"
MODELS = ("han", "seq2seq", "transformer", "textcnn")
QUESTIONS = (
    "How many moons does Jupiter have?",
    "Who wrote the first computer program?",
    "Where does the Danube begin?",
    "What does NASA stand for?",
    "Why do leaves turn red in autumn?",
    "What animal sleeps standing up?",
)


@checked
def main(
    data_dir: Path | None = None,
    out: Path = OUT,
    epochs: Count | None = None,
    seed: Seed = 0,
) -> None:
    """Train each model by its recipe; the test documents of the corpus are not read.

    Args:
        data_dir: Folder of corpora (NAME/train.tsv[.gz]), searched before downloading.
        out: The record, which ``docs/_static/word-weights.js`` shows in the book.
        epochs: Number of epochs of each training; default: what its recipe says.
        seed: Seed of the weights.
    """
    check_output(out)
    torch.set_num_threads(1)
    train = load(CORPUS, data_dir=data_dir)["train"]
    readings: list[dict[str, Any]] = []
    for model in MODELS:
        dataset = load_dataset({"train": train}, sentences=reads_sentences(model))
        training = Training(seed=seed, epochs=epochs)
        classifier, made = train_classifier(dataset, model, training, progress=False)
        explained = classifier.explain(QUESTIONS)
        # With a single sentence, attention to sentences says nothing.
        lines = [name for name in explained[0].weights if name != "sentence"]
        for line in lines:
            answers = [
                {
                    "label": each.label,
                    "probability": round(each.probability, 4),
                    "tokens": each.tokens,
                    "weights": [round(weight, 4) for weight in each.weights[line]],
                }
                for each in explained
            ]
            method = explained[0].method
            readings.append({"model": model, "line": line, "method": method, "answers": answers})
        print(f"{model}: {100 * made['dev']['accuracy']:.1f} % on dev, {made['seconds']:.0f} s")
    record = {"corpus": CORPUS, "questions": QUESTIONS, "readings": readings, **provenance(seed)}
    write_json(out, record)


if __name__ == "__main__":
    run(main)
