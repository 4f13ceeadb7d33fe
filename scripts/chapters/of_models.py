"""What pages show from the records of models: their figures and their training times."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from chapters.words import say
from dlnotes.errors import UserError
from dlnotes.files import read_json
from tables import (
    BASELINES,
    MODELS,
    accuracies,
    label_sets,
    markdown,
    measured_entries,
    stories,
    story_seeds,
    translations,
)

RESULTS = Path(__file__).parents[2] / "results"


@cache
def _entries() -> list[dict[str, Any]]:
    return measured_entries(RESULTS)


def _of(model: str, directive: str) -> list[dict[str, Any]]:
    found = [entry for entry in _entries() if entry["model"] == model]
    if not found:
        raise UserError(f"{directive}: results/ has no record of the model {model!r}")
    return found


def figures_of(model: str, language: str) -> str:
    """A model's figures on every corpus that it has a record of, beside those of TF-IDF.

    Args:
        model: A model, as the command line calls it, or ``ensemble``.
        language: Not used: these pages are in English alone.

    Raises:
        UserError: There is no record of it.
    """
    own = _of(model, "figures-of")
    corpora = {entry["corpus"] for entry in own}
    beside = [e for e in _entries() if e["model"] in BASELINES and e["corpus"] in corpora]
    parts = []
    if any("accuracy" in e["record"]["test"] and not e["corpus"].startswith("babi") for e in own):
        parts.append(accuracies([*own, *beside]))
    if any("test_by_threshold" in entry["record"] for entry in own):
        parts.append(label_sets([*own, *beside]))
    if any(entry["corpus"].startswith("babi") for entry in own):
        parts.append(stories(own, story_seeds(RESULTS)))
    if translated := translations(own):
        parts.append(translated)
    if any("best_member" in entry["record"] for entry in own):
        parts.append(_beside_members(own))
    return "\n\n".join(parts)


def _beside_members(ensembles: list[dict[str, Any]]) -> str:
    """Each ensemble beside the member that is best on dev."""
    rows = []
    for entry in sorted(ensembles, key=lambda entry: str(entry["corpus"])):
        members = ", ".join(f"{n} × `{name}`" for name, n in entry["members"].items())
        for figure, best in entry["record"]["best_member"].items():
            ours = entry["record"]["test"][figure]
            told = [f"{100 * x['mean']:.1f} ± {100 * x['std']:.1f}" for x in (ours, best)]
            rows.append([entry["corpus"], members, figure.replace("_f1", "-F1"), *told])
    return markdown(["corpus", "members", "figure", "ensemble", "member best on dev"], rows)


def time_of(model: str, language: str) -> str:
    """How long a model trained for its figures, and its speed compared with torch's own layers.

    Args:
        model: A model, as the command line calls it, or ``ensemble``.
        language: Not used: these pages are in English alone.

    Raises:
        UserError: There is no record of it.
    """
    own = _of(model, "time-of")
    rows = []
    tasks = [entry for entry in own if entry["corpus"].startswith("babi")]
    for entry in sorted(own, key=lambda entry: str(entry["corpus"])):
        if entry not in tasks:
            record = entry["record"]
            documents = record["documents"].get("train")
            vectors = ", with word2vec" if entry["settings"].get("vectors") else ""
            tokens = (entry.get("reading") or {}).get("tokenizer", "")
            name = f"{entry['corpus']}{', characters' if tokens == 'characters' else ''}{vectors}"
            means = (record[what]["mean"] for what in ("seconds", "documents_per_second"))
            many = f"{documents:,}" if documents else "–"
            rows.append([name, many, *(f"{mean:,.0f}" for mean in means)])
    if tasks:
        seconds = statistics.median(e["record"]["seconds"]["mean"] for e in tasks)
        speed = statistics.median(e["record"]["documents_per_second"]["mean"] for e in tasks)
        documents = statistics.median(e["record"]["documents"]["train"] for e in tasks)
        medians = [f"{median:,.0f}" for median in (documents, seconds, speed)]
        rows.append([f"bAbI, a task (median of {len(tasks)})", *medians])
    cores = sorted({entry["record"]["machine"]["cores"] for entry in own})
    told = [
        "Time of the trainings that gave the figures above, on machines with "
        f"{' or '.join(map(str, cores))} cores."
    ]
    record = read_json(RESULTS / "benchmarks" / "models.json", "has no benchmark")
    for row in record["rows"]:
        if row["model"] == model:
            speeds, machine = row["documents_per_second"], record["machine"]
            told.append(
                f"Training on {row['corpus']}, on {machine['cores']} cores "
                f"({machine['processor']}) with torch {record['versions']['torch']}, it learns "
                f"from {speeds['ours']:,.0f} documents per second. The same network of torch's own "
                "layers, with documents padded to the longest of the corpus, learns from "
                f"{speeds['ordinary']:,.0f}: ours is {row['ratio']:.1f} times as fast. "
                f"{_other_than_above(row, own, record['machine'])}"
                "`python scripts/bench_models.py` repeats it."
            )
    record = read_json(RESULTS / "benchmarks" / "gpu.json", "has no benchmark")
    for row in record["parts"]["models"]["rows"]:
        if row["model"] == model and not row["amp"]:
            speeds = row["documents_per_second"]
            told.append(
                f"On a GPU ({record['machine']['gpu']}), in batches of {row['batch_size']}, it "
                f"learns from {speeds['ours']:,.0f} documents per second, and torch's layers "
                f"learn from {speeds['ordinary']:,.0f} (dlnotes of commit "
                f"`{record['commit'][:7]}`)."
            )
    table = markdown(["trained on", "documents", "seconds", "documents/s"], rows)
    return f"{table}\n\n{' '.join(told)}"


def _other_than_above(
    row: dict[str, Any], own: list[dict[str, Any]], machine: dict[str, Any]
) -> str:
    """Why a benchmark's speed is not that of the trainings on the same corpus, if there are any.

    Args:
        row: The model's row of the benchmark.
        own: The model's records.
        machine: The machine of the benchmark.
    """
    beside = [entry for entry in own if entry["corpus"] == row["corpus"]]
    if not beside:
        return ""
    tokens = row["reading"].get("max_tokens")
    read = f", documents of at most {tokens} tokens" if tokens else ""
    plain = next((e for e in beside if not e["settings"].get("vectors")), beside[0])
    threads = plain["record"]["machine"]["threads"]
    return (
        f"This is not the speed in the table: the benchmark has {_listed(row['settings'])}{read} "
        f"and {_counted(machine['threads'])}; the training in the table has "
        f"{_listed(plain['settings'].get('model_settings', {}))} and {_counted(threads)}. "
    )


def _listed(settings: dict[str, Any]) -> str:
    """The sizes of a model that are set."""
    sizes = (f"`{name}={value}`" for name, value in settings.items() if name != "dropout")
    return ", ".join(sizes) or "the model's default sizes"


def _counted(threads: int) -> str:
    return "one thread" if threads == 1 else f"{threads} threads"


def speeds_of_models(content: str, language: str) -> str:
    """How fast the models learn compared with the same networks of torch's own layers.

    Args:
        content: Content of the directive, which must be empty.
        language: Sphinx's name of the language.
    """
    record = read_json(RESULTS / "benchmarks" / "models.json", "has no benchmark")
    columns = ("model", "corpus", "ours, documents/s", "torch, documents/s", "ours / torch")
    rows = []
    for row in record["rows"]:
        speeds = (row["documents_per_second"][side] for side in ("ours", "ordinary"))
        shown = [f"{speed:,.0f}" for speed in speeds]
        rows.append([MODELS[row["model"]], row["corpus"], *shown, f"{row['ratio']:.2f}"])
    table = markdown([say(column, language) for column in columns], rows)
    machine, torch = record["machine"], record["versions"]["torch"]
    if language.startswith("zh"):
        told = (
            f"在 {machine['cores']} 个核（{machine['processor']}）上用 torch {torch} 测得，取多次"
            "交替测量的中位数，大于 1 表示更快。集成没有单独一行：它逐个训练各个成员。重新测量："
            "`python scripts/bench_models.py`。"
        )
    else:
        told = (
            f"Measured on {machine['cores']} cores ({machine['processor']}) with torch {torch}; "
            "medians of measurements in alternation; above 1 is faster. An ensemble has no row of "
            "its own: it trains its members one after the other. `python scripts/bench_models.py` "
            "repeats it."
        )
    return f"{table}\n\n{told}"


def figures_on(corpus: str, language: str) -> str:
    """The figures of all models on a corpus, the best first.

    Args:
        corpus: Its name in the records.
        language: Not used: these pages are in English alone.

    Raises:
        UserError: There is no record of it.
    """
    found = [entry for entry in _entries() if entry["corpus"] == corpus]
    if not found:
        raise UserError(f"figures-on: results/ has no record of the corpus {corpus!r}")
    table = accuracies(found)
    # Without the first column, the corpus, which is the same in all rows.
    return "\n".join("|" + line.split("|", 2)[2] for line in table.splitlines())


ROWS: dict[str, Callable[[str, str], str]] = {
    "figures-of": figures_of,
    "figures-on": figures_on,
    "model-speed": speeds_of_models,
    "time-of": time_of,
}
"""Directive → what it writes."""
