"""Text larger than memory: how memory and time of a training grow with the number of documents.

FastText is trained on generated corpora of growing size, each by ``dlnotes train`` in a separate
process with one thread. The peak of its private memory is measured (RssAnon in /proc/PID/status,
without the pages of mapped files, which the system can drop), and its CPU time and wall time, since
others may use the machine as well.
"""

from __future__ import annotations

import json as jsonlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from matplotlib.figure import Figure
from rich.table import Table

from chapters.colors import BLUE, GREY, ORANGE
from dlnotes.arguments import Count, checked
from dlnotes.cli import run
from dlnotes.display import console
from dlnotes.errors import UserError
from dlnotes.files import check_output, read_json, write_json
from dlnotes.training.record import provenance

CLASSES, VOCABULARY, OWN = 4, 1_000_000, 100
SHORTEST, LONGEST = 20, 60  # words of a document
SETTINGS = {
    "epochs": 1,
    "batch_size": 4096,
    "lr": 0.01,
    "dev_fraction": 0.02,
    "model_args": ["embedding_dim=10", "ngrams=2", "buckets=100000"],
}
START = 1000
"""Documents of the smallest run, which shows the fixed cost of a training."""
BAR = 0.25
"""Goal: maximum private memory, per byte of text."""

_BLOCK = 1 << 17  # documents that are generated at a time
_CONSONANTS, _VOWELS = "bcdfghjklmnprstvwxyz", "aeiou"


def word(rank: int) -> str:
    """A word of one to three syllables; the frequent ones, of low rank, are short."""
    letters = ""
    while True:
        rank, syllable = divmod(rank, 100)
        letters += _CONSONANTS[syllable // 5] + _VOWELS[syllable % 5]
        if not rank:
            return letters
        rank -= 1


def write_corpus(path: Path, documents: int, seed: int = 0) -> None:
    r"""Write a corpus that can be learned, a line ``label<TAB>text`` per document.

    A file that exists is kept.

    Ranks of words are log-uniform, :math:`P(r) \propto 1 / r` (Zipf). A tenth of a document's words
    are drawn from those of its class.
    """
    if path.exists():
        return
    rng = np.random.default_rng(seed)
    words = pl.Series([word(rank) for rank in range(VOCABULARY)])
    building = path.with_suffix(".part")
    with building.open("wb") as file:
        for start in range(0, documents, _BLOCK):
            n = min(_BLOCK, documents - start)
            labels = rng.integers(CLASSES, size=n)
            lengths = rng.integers(SHORTEST, LONGEST, size=n, endpoint=True)
            ranks = np.exp(rng.random(lengths.sum()) * np.log(VOCABULARY)).astype(np.int64) - 1
            own = rng.random(len(ranks)) < 0.1
            first = OWN * (1 + np.repeat(labels, lengths)[own])
            ranks[own] = first + ranks[own] % OWN
            texts = (
                pl.DataFrame({"row": np.repeat(np.arange(n), lengths), "word": words.gather(ranks)})
                .group_by("row", maintain_order=True)
                .agg(pl.col("word").str.join(" "))["word"]
            )
            pl.DataFrame({"label": labels, "text": texts}).write_csv(
                file, separator="\t", include_header=False, quote_style="never"
            )
    building.replace(path)


def _private(pid: int) -> int:
    """Bytes of a process's private memory; 0 when it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    found = next((line for line in status.splitlines() if line.startswith("RssAnon")), "RssAnon: 0")
    return 1024 * int(found.split()[1])


def measure(documents: int, folder: Path) -> dict[str, Any]:
    """A row of the record: memory and time of one training, from its file to its test accuracy."""
    train, test, out = (folder / f"{documents}{end}" for end in (".tsv", "-test.tsv", "-run"))
    write_corpus(train, documents)
    write_corpus(test, min(documents, 100_000), seed=1)
    own = [option for name, value in SETTINGS.items() for option in _option(name, value)]
    command = [
        *(sys.executable, "-m", "dlnotes", "train", "--model", "fasttext", "--recipe", "plain"),
        *("--train", str(train), "--test", str(test), "--out", str(out), *own),
    ]
    threads = dict.fromkeys(("OMP_NUM_THREADS", "POLARS_MAX_THREADS"), "1")
    environment = os.environ | threads | {"DLNOTES_CACHE": str(folder / "cache")}
    began, peak = time.perf_counter(), 0
    with (folder / "log").open("w+b") as log:
        child = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        while True:
            peak = max(peak, _private(child.pid))
            ended, status, usage = os.wait4(child.pid, os.WNOHANG)
            if ended:
                break
            time.sleep(0.02)
        seconds = time.perf_counter() - began
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            log.seek(0)
            last = log.read().decode(errors="replace").strip().splitlines()[-1:]
            raise UserError(f"the training on {documents:,} documents failed: {last}")
    record = jsonlib.loads((out / "metrics.json").read_text(encoding="utf-8"))
    row = {
        "documents": documents,
        "text_bytes": train.stat().st_size,
        "private_bytes": peak,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "seconds": seconds,
        "training_seconds": record["seconds"],
        "vocabulary": record["vocabulary"],
        "test_accuracy": record["test"]["accuracy"],
        "load": os.getloadavg(),
    }
    shutil.rmtree(out)
    shutil.rmtree(folder / "cache" / "tokens")
    train.unlink()
    return row


def _option(name: str, value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [f"--{name.replace('_', '-')}", *map(str, values)]


def with_costs(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows with microseconds per document, without the fixed cost of a training."""
    start = min(rows, key=lambda row: int(row["documents"]))
    found = []
    for row in sorted(rows, key=lambda row: int(row["documents"])):
        more = row["documents"] - start["documents"]
        costs = {
            f"{kind}_microseconds_per_document": 1e6 * (row[name] - start[name]) / more
            for kind, name in (("cpu", "cpu_seconds"), ("clock", "seconds"))
            if more
        }
        found.append({**row, **costs})
    return found


def figure(rows: list[dict[str, Any]]) -> Figure:
    """Private memory and time per document over the number of documents."""
    rows = [row for row in rows if "cpu_microseconds_per_document" in row]
    documents = [row["documents"] for row in rows]
    drawn = Figure(figsize=(6, 6.4), layout="constrained")
    memory, cost = drawn.subplots(2, 1)
    text = [row["text_bytes"] / 1e6 for row in rows]
    memory.plot(documents, text, color=GREY, label="text")
    quarter = [BAR * each for each in text]
    memory.plot(documents, quarter, color=GREY, linestyle="--", label="a quarter of the text")
    private = [row["private_bytes"] / 1e6 for row in rows]
    memory.plot(documents, private, "o-", color=BLUE, label="private memory at its peak")
    memory.set(xscale="log", yscale="log", xlabel="documents", ylabel="MB")
    memory.legend(fontsize="small", frameon=False)
    for kind, colour, label in (("cpu", BLUE, "processor"), ("clock", ORANGE, "clock")):
        values = [row[f"{kind}_microseconds_per_document"] for row in rows]
        cost.plot(documents, values, "o-", color=colour, label=f"{label} time")
    cost.set(xscale="log", xlabel="documents", ylabel="µs per document", ylim=(0, None))
    cost.legend(fontsize="small", frameon=False)
    return drawn


@checked
def main(
    folder: Path,
    documents: tuple[Count, ...] = (10_000, 100_000, 1_000_000),
    json: Path | None = None,
    plot: Path | None = None,
) -> None:
    """Train on generated corpora and measure private memory and time.

    Args:
        folder: Folder for corpora, token cache and runs; a document needs 500 bytes.
        documents: Numbers of documents.
        json: Write the rows to this file, which keeps its rows of other numbers of documents.
        plot: Draw the figure to this file.
    """
    for out in (json, plot):
        if out:
            check_output(out)
    folder.mkdir(parents=True, exist_ok=True)
    rows = read_json(json, "is no record of this script")["rows"] if json and json.exists() else []
    started = any(row["documents"] == START for row in rows)
    # The first run compiles the optimizer's loop, and does not count.
    for number in documents if started else (START, START, *documents):
        row = measure(number, folder)
        rows = with_costs([*(r for r in rows if r["documents"] != number), row])
        if json:
            write_json(json, {**provenance(0), "settings": SETTINGS, "bar": BAR, "rows": rows})
    table = Table("documents", "text MB", "private MB", "CPU µs/document", "µs/document")
    for row in rows:
        costs = (row.get(f"{kind}_microseconds_per_document", 0.0) for kind in ("cpu", "clock"))
        sizes_in_mb = (row[f"{kind}_bytes"] / 1e6 for kind in ("text", "private"))
        shown = (f"{each:,.0f}" for each in (*sizes_in_mb, *costs))
        table.add_row(f"{row['documents']:,}", *shown)
    console().print(table)
    if plot:
        figure(rows).savefig(plot, dpi=120)


if __name__ == "__main__":
    run(main)
