"""Rewrite the README's tables from the records in results/."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dlnotes.cli import run
from dlnotes.errors import UserError
from dlnotes.training.classifier import read_json

ROOT = Path(__file__).parents[1]
MODELS = {
    "fasttext": "FastText",
    "textcnn": "TextCNN",
    "textrnn": "TextRNN",
    "seq2seq": "Seq2seq",
    "ensemble": "Ensemble",
    "tfidf": "TF-IDF + logistic regression",
    "svm": "TF-IDF + linear SVM",
}


def main(
    readme: Path = ROOT / "README.md", results: Path = ROOT / "results", check: bool = False
) -> None:
    """Replace what stands between the markers of the README.

    Args:
        readme: The file to rewrite.
        results: Folder of the records.
        check: Change nothing; fail if the table is not the one of the records.
    """
    new = readme.read_text("utf-8")
    for name, content in {"results": accuracies(results), "speed": speeds(results)}.items():
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        before, found, rest = new.partition(begin)
        _, closed, after = rest.partition(end)
        if not found or not closed:
            raise UserError(f"{readme} has no {begin} … {end} to fill")
        new = f"{before}{begin}\n{content}\n{end}{after}"
    if check and new != readme.read_text("utf-8"):
        raise UserError(f"the tables in {readme} are not those of {results}: run `make results`")
    if not check:
        readme.write_text(new, "utf-8")


def accuracies(results: Path) -> str:
    """A Markdown row for each record, corpus by corpus, the best first."""
    entries = [read_json(path, "has no results") for path in sorted(results.glob("*.json"))]
    done = [entry for entry in entries if "record" in entry]
    done.sort(key=lambda e: (e["corpus"], -e["record"]["test"]["accuracy"]["mean"]))
    rows = [
        "| corpus | model | test accuracy | macro-F1 | seeds | documents/s | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    return "\n".join(rows + [_row(entry) for entry in done])


def speeds(results: Path) -> str:
    """How many times faster than torch's default and fused optimizers a step is."""
    record = read_json(results / "benchmarks" / "optimizers.json", "has no benchmark")
    timed = [row for row in record["rows"] if "milliseconds" in row]
    rows = {(row["model"], row["rule"]): row["milliseconds"] for row in timed}
    sizes = list(dict.fromkeys(model for model, _ in rows))
    head = "| rule | " + " | ".join(f"{size} × default | {size} × fused" for size in sizes) + " |"
    lines = [head, "|---" * (1 + 2 * len(sizes)) + "|"]
    for rule in dict.fromkeys(rule for _, rule in rows):
        times = [rows[size, rule] for size in sizes]
        cells = [
            f"{t[other] / t['ours']:.2f}" if t.get(other) else "–"
            for t in times
            for other in ("default", "fused")
        ]
        lines.append(f"| {rule} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _row(entry: dict[str, Any]) -> str:
    record = entry["record"]
    figures = [record["test"][name] for name in ("accuracy", "macro_f1")]
    shown = [f"{100 * f['mean']:.1f} ± {100 * f['std']:.1f}" for f in figures]
    return (
        f"| {entry['corpus']} | {MODELS.get(entry['model'], entry['model'])} "
        f"| {shown[0]} | {shown[1]} | {len(entry['seeds'])} "
        f"| {record['documents_per_second']['mean']:,.0f} "
        f"| {record['seconds']['mean']:.0f} |"
    )


if __name__ == "__main__":
    run(main)
