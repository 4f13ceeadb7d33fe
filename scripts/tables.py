"""Rewrite the tables of the READMEs and of the book's pages from the records in results/."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from chapters import words
from dlnotes.claims import CHAPTERS
from dlnotes.claims.report import effect, seconds
from dlnotes.cli import run
from dlnotes.data.corpora import CORPORA
from dlnotes.errors import UserError
from dlnotes.files import read_json, write_text
from dlnotes.training.recipes import RECIPES

ROOT = Path(__file__).parents[1]
MODELS = {
    "fasttext": "FastText",
    "textcnn": "TextCNN",
    "textrnn": "TextRNN",
    "rcnn": "RCNN",
    "han": "HAN",
    "seq2seq": "Seq2seq",
    "transformer": "Transformer",
    "dmn": "DMN+",
    "entnet": "Entity Network",
    "ensemble": "Ensemble",
    "tfidf": "TF-IDF + logistic regression",
    "svm": "TF-IDF + linear SVM",
}
BASELINES = ("tfidf", "svm")
CHINESE = {
    "Ensemble": "集成",
    "logistic regression": "逻辑回归",
    "linear SVM": "线性 SVM",
    "characters": "按字切分",
    "Keras's example": "Keras 示例",
    "given Google News vectors": "使用 Google News 词向量",
    "3 layers, d 256": "3 层，d = 256",
    ", ": "，",
}
"""Names of models and sources in the Chinese README."""
HOW_TO = {
    "Train on your own CSV": "用自己的 CSV 训练",
    "Texts with several labels": "多标签文本",
    "Start from word vectors": "从词向量开始",
    "Compare models": "比较模型",
    "Join several classifiers": "集成多个分类器",
    "Go on after an interruption": "中断之后继续训练",
    "Several processes and machines": "多进程与多台机器",
    "Train on a GPU": "在 GPU 上训练",
    "Text larger than memory": "大于内存的文本",
    "A billion documents on a cluster": "集群上的十亿篇文档",
    "Trust the probabilities": "让概率可信",
    "Use a classifier without dlnotes": "不装 dlnotes 也能用分类器",
    "Serve a classifier over HTTP": "通过 HTTP 提供分类服务",
    "Answer questions about stories": "回答关于故事的问题",
    "Train a translator": "训练翻译模型",
    "An update rule of your own": "自己写更新规则",
    "An activation of your own": "自己写激活函数",
    "A model of your own": "自己写模型",
}
"""Title of a page of docs/en/how-to → its title in the Chinese README."""
SIZES = {
    "mid": "24 matrices of 256² and 48 biases",
    "tiny": "400 tensors of 64",
    "big": "two matrices of 4096²",
    "sparse": "34,560 rows of an embedding of 1,100,000 × 10",
}
"""The models of the optimizers' benchmark."""


def main(root: Path = ROOT, check: bool = False) -> None:
    """Replace the tables between markers in README.md, README.zh.md and the pages of docs/.

    ``<!-- speed -->`` begins the table of that name, ``<!-- /speed -->`` ends it. Each table must
    be in at least one file.

    Args:
        root: Folder that holds the READMEs, docs/ and results/.
        check: Change nothing; fail if a table differs from the records.
    """
    results = root / "results"
    if not results.is_dir():
        raise UserError(f"--root: there is no folder {results}")
    shown = tables(root)
    files = [*sorted(root.glob("README*.md")), *sorted((root / "docs").rglob("*.md"))]
    found: set[str] = set()
    for file in files:
        old = file.read_text("utf-8")
        new, names = fill(old, shown, file)
        found |= names
        if check and new != old:
            raise UserError(f"the tables in {file} are not those of {results}: run `make results`")
        if new != old:
            write_text(file, new)
    if missing := shown.keys() - found:
        raise UserError(f"no file in {root} has the markers of the tables {sorted(missing)}")


def tables(root: Path) -> dict[str, str]:
    """Every table by the name of its markers."""
    results = root / "results"
    measured, seeds = measured_entries(results), story_seeds(results)
    return {
        "chapters": page_list(root, "docs/en"),
        "chapters-zh": page_list(root, "docs/zh"),
        "how-to": page_list(root, "docs/en/how-to"),
        "how-to-zh": page_list(root, "docs/en/how-to", HOW_TO),
        "summary": summary(measured, seeds),
        "summary-zh": summary(measured, seeds, "zh"),
        "results": accuracies(measured),
        "label-sets": label_sets(measured),
        "stories": stories(measured, seeds),
        "translations": translations(measured),
        "tokenizers": tokenizers(results),
        "speed": speeds(results),
        "activation-speed": activation_speeds(results),
        "model-speed": model_speeds(results),
        "fasttext": fasttext(results),
        "busy": busy(results),
        "gpu-steps": gpu_steps(results),
        "gpu-models": gpu_models(results),
        "scale": scales(results),
        "export": exports(results),
        "serve": served(results),
        "recipes": recipes(),
        "claims": verdicts(results),
        "advice": advice(results),
        "label-errors": label_errors(results),
    }


def measured_entries(results: Path) -> list[dict[str, Any]]:
    """The entries of ``results/`` that have been measured."""
    every = [read_json(path, "has no results") for path in sorted(results.glob("*.json"))]
    return [entry for entry in every if "record" in entry]


def markdown(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown.

    Args:
        headings: Headings of the columns.
        rows: The cells of each row.
    """
    lines = [f"| {' | '.join(cells)} |" for cells in (headings, *rows)]
    return "\n".join([lines[0], "|---" * len(headings) + "|", *lines[1:]])


def fill(text: str, shown: Mapping[str, str], file: Path) -> tuple[str, set[str]]:
    """A file's text with its tables, and their names.

    Raises:
        UserError: A marker is not closed, is misspelt, or no table has its name.
    """
    found: set[str] = set()
    parts, rest = [], text
    while begin := re.search(r"^<!-- ([a-z-]+) -->\n", rest, re.MULTILINE):
        name = begin[1]
        _, closed, after = rest[begin.end() :].partition(f"<!-- /{name} -->")
        if name not in shown or not closed:
            raise UserError(
                f"{file}: {begin[0].strip()} "
                + ("has no end" if name in shown else f"is none of {', '.join(shown)}")
            )
        parts.append(f"{rest[: begin.end()]}{shown[name]}\n{closed}")
        found.add(name)
        rest, between = after, rest[: begin.start()]
        _check_no_marker(between, shown, file)
    _check_no_marker(rest, shown, file)
    return "".join([*parts, rest]), found


def _check_no_marker(text: str, shown: Mapping[str, str], file: Path) -> None:
    """Require that no single marker is left, which has lost its other one or is misspelt.

    Raises:
        UserError: There is one.
    """
    for marker in re.finditer(r"<!--\s*/?\s*([\w-]+)\s*-->", text):
        if marker[1] in shown:
            told = f"a table stands between <!-- {marker[1]} --> and <!-- /{marker[1]} -->"
            raise UserError(
                f"{file}: {marker[0]} stands alone; {told}, each at the start of a line"
            )


def page_list(root: Path, folder: str, translated: Mapping[str, str] = MappingProxyType({})) -> str:
    """Links to the pages of a folder in the order of its index, by their titles.

    Without an index the order is that of the names. A page that only includes another one has its
    title, and the link leads to that one, which GitHub can show.

    Args:
        root: Folder of the file that has the links.
        folder: Folder of the pages, below `root`.
        translated: Titles in another language.
    """
    index = root / folder / "index.md"
    trees = re.findall(
        r"^```\{toctree\}\n(.*?)^```$",
        index.read_text("utf-8") if index.is_file() else "",
        re.MULTILINE | re.DOTALL,
    )
    named = [line.strip() for tree in trees for line in tree.splitlines()]
    links = {}
    for page in sorted((root / folder).glob("*.md")):
        shown, text = page.resolve(), page.read_text("utf-8")
        if included := re.match(r"```\{include\} (\S+)\n", text):
            shown = (page.parent / included[1]).resolve()
            text = shown.read_text("utf-8")
        if title := re.search(r"^# (.+)$", text, re.MULTILINE):
            name = translated.get(title[1], title[1])
            links[page.stem] = f"[{name}]({shown.relative_to(root.resolve()).as_posix()})"
    order = [name for name in named if name in links] or [n for n in links if n != "index"]
    return " · ".join(links[name] for name in order) or "–"


def summary(
    entries: list[dict[str, Any]],
    of_seeds: Mapping[tuple[int, str], list[StoryRun]] = MappingProxyType({}),
    language: str = "en",
) -> str:
    """For each corpus the best model of ours, the best published figure, and the baseline.

    "Best of ours" is the model that is best on dev; of the published figures and of the baselines,
    the highest one is shown.

    Args:
        entries: The entries of ``results/``.
        of_seeds: From `story_seeds`.
        language: "en" or "zh".
    """
    zh = language == "zh"
    head = ["corpus", "best of ours", "published, same test documents", "TF-IDF baseline"]
    if zh:
        head = ["语料", "本项目最佳", "已发表的结果（测试集相同）", "TF-IDF 基线"]
    rows = []
    by_corpus: dict[str, list[dict[str, Any]]] = {}
    for entry in entries:
        if not _task(entry):
            by_corpus.setdefault(entry["corpus"], []).append(entry)
    for corpus, group in sorted(by_corpus.items()):
        best = max((e for e in group if "dev" in e["record"]), key=_dev, default=None)
        baselines = [e for e in group if e["model"] in BASELINES]
        published = [e["published"] for e in group if "published" in e]
        name = f"{corpus}{'' if corpus in CORPORA else ' †'}{_unit(group[0], zh)}"
        known = max(published, key=_published, default=None)
        before = f"{_published(known):.1f}{_bracketed(_source(known), zh)}" if known else "–"
        baseline = _figure(max(baselines, key=_test, default=None), zh).replace("TF-IDF + ", "")
        rows.append([name, _figure(best, zh), before, baseline])
    if row := _babi_row(entries, of_seeds, zh):
        rows.append(row)
    return markdown(head, rows)


def _dev(entry: dict[str, Any]) -> float:
    dev = entry["record"]["dev"]
    return float(dev["micro_f1" if "micro_f1" in dev else "accuracy"]["mean"])


def _measure(entry: dict[str, Any]) -> str:
    """What the figure of an entry's test split is."""
    return next(
        name for name in ("bleu", "accuracy", "micro_f1") if name in entry["record"]["test"]
    )


def _test(entry: dict[str, Any]) -> float:
    measure = _measure(entry)
    mean = float(entry["record"]["test"][measure]["mean"])
    return mean if measure == "bleu" else 100 * mean


def _published(published: dict[str, Any]) -> float:
    return float(
        next(published[name] for name in ("bleu", "accuracy", "micro_f1") if name in published)
    )


def _unit(entry: dict[str, Any], zh: bool) -> str:
    told = {"bleu": "BLEU", "micro_f1": "micro-F1"}.get(_measure(entry), "")
    return _bracketed(told, zh) if told else ""


def _bracketed(told: str, zh: bool) -> str:
    return f"（{_translated(told)}）" if zh else f" ({told})"


def _translated(told: str) -> str:
    for english, chinese in CHINESE.items():
        told = told.replace(english, chinese)
    return told


def _figure(entry: dict[str, Any] | None, zh: bool) -> str:
    if entry is None:
        return "–"
    model = _translated(_model(entry)) if zh else _model(entry)
    return f"{_test(entry):.1f} {model}"


def _babi_row(
    entries: list[dict[str, Any]], of_seeds: Mapping[tuple[int, str], list[StoryRun]], zh: bool
) -> list[str]:
    """Mean test error of the model with the lowest mean dev error, and the error in its paper."""
    best, paper, full, _ = _story_runs(entries, of_seeds)
    means = {
        model: statistics.fmean(best[task, model].dev_error for task in full)
        for model in dict.fromkeys(model for _, model in best)
        if full and all((task, model) in best for task in full)
    }
    if not means:
        return []
    model = min(means, key=lambda name: means[name])
    ours = statistics.fmean(best[task, model].test_error for task in full)
    theirs = _error(_mean([paper.get((task, model)) for task in full]), 2)
    corpus = f"bAbI, {len(full)} tasks (mean error, %)"
    source = "the paper's"
    if zh:
        corpus, source = f"bAbI，{len(full)} 个任务（平均错误率，%）", "原论文"
    return [corpus, f"{ours:.2f} {MODELS[model]}", f"{theirs}{_bracketed(source, zh)}", "–"]


def accuracies(entries: list[dict[str, Any]]) -> str:
    """A Markdown row for each record, corpus by corpus, the best first."""
    done = [e for e in entries if "accuracy" in e["record"]["test"] and not _task(e)]
    done.sort(key=lambda e: (e["corpus"], -e["record"]["test"]["accuracy"]["mean"]))
    rows = [
        "| corpus | model | test accuracy | macro-F1 | seeds | published, same split |",
        "|---|---|---|---|---|---|",
    ]
    return "\n".join(rows + [_row(entry) for entry in done])


def label_sets(entries: list[dict[str, Any]]) -> str:
    """A row for each record of a corpus whose texts have several labels, the best first.

    Micro- and macro-F1 with one threshold for all labels and with one for each.
    """
    done = [e for e in entries if "test_by_threshold" in e["record"]]
    if not done:
        return ""
    done.sort(key=lambda e: (e["corpus"], -e["record"]["test"]["micro_f1"]["mean"]))
    rows = [
        "| corpus | model | one threshold: micro-F1 | macro-F1 | one for each label: micro-F1 "
        "| macro-F1 | mAP | seeds | published, same split |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for entry in done:
        record = entry["record"]
        by = record["test_by_threshold"]
        cells = [
            _percent(by[how][figure]) if how in by else "–"
            for how in ("one", "label")
            for figure in ("micro_f1", "macro_f1")
        ]
        cells.append(_percent(record["test"]["mean_average_precision"]))
        published = entry.get("published")
        before = f"micro-F1 {published['micro_f1']:.1f} ({_source(published)})" if published else ""
        seeds = len(record["test"]["micro_f1"]["runs"])
        shown = " | ".join([entry["corpus"], _model(entry), *cells, str(seeds), before])
        rows.append(f"| {shown} |")
    return "\n".join(rows)


def _percent(figure: dict[str, Any]) -> str:
    return f"{100 * figure['mean']:.1f} ± {100 * figure['std']:.1f}"


def translations(entries: list[dict[str, Any]]) -> str:
    """BLEU of each translation; nothing while there is no record."""
    lines = []
    for e in entries:
        if "languages" in e:
            bleu, published = e["record"]["test"]["bleu"]["mean"], e["published"]
            name = f"{e['corpus']} {'→'.join(e['languages'])}"
            lines.append(
                f"| {name} | {MODELS[e['model']]} | {e['settings']['epochs']} | {bleu:.1f} "
                f"| {published['bleu']:.1f} ({published['source']}) |"
            )
    if not lines:
        return ""
    head = ["| corpus | model | epochs | test BLEU | published |", "|---|---|---|---|---|"]
    return "\n".join(head + lines)


@dataclass(frozen=True)
class StoryRun:
    """The result of training a model on a bAbI task with some settings; errors in percent.

    Attributes:
        settings: Settings that differ from those of the paper in ``scripts/babi_seeds.py``.
        seeds: Number of seeds.
        epochs: Number of epochs.
        dev_error: Dev error of the seed that is best on dev.
        dev_loss: Dev loss of the same seed, if it is known.
        test_error: Test error of the same seed.
        median: Median test error of all seeds, if it is known.
        data: Digest of each split.
    """

    settings: str
    seeds: int
    epochs: int
    dev_error: float
    dev_loss: float | None
    test_error: float
    median: float | None
    data: dict[str, str]

    @property
    def rank(self) -> tuple[float, int, float, str]:
        """A key that is lowest for the best training on dev; of equal ones, for more seeds."""
        loss = math.inf if self.dev_loss is None else self.dev_loss
        return round(self.dev_error, 6), -self.seeds, loss, self.settings


def story_seeds(results: Path) -> dict[tuple[int, str], list[StoryRun]]:
    """The trainings of ``scripts/babi_seeds.py``, by task and model."""
    found: dict[tuple[int, str], list[StoryRun]] = {}
    for path in sorted((results / "babi-seeds").glob("*.json")):
        for name, record in read_json(path, "has no trainings of several seeds").items():
            if "error" in record:  # it failed, or did not get its turn
                continue
            (picked,) = [r for r in record["replicas"] if r["seed"] == record["chosen"]]
            run = StoryRun(
                settings=name.partition(":")[2],
                seeds=len(record["seeds"]),
                epochs=record["epochs"],
                dev_error=picked["dev_error"],
                dev_loss=picked["dev_loss"],
                test_error=record["test_error"],
                median=record["test_error_median"],
                data=record["data"],
            )
            found.setdefault((_task(record), record["model"]), []).append(run)
    return found


def stories(
    entries: list[dict[str, Any]],
    of_seeds: Mapping[tuple[int, str], list[StoryRun]] = MappingProxyType({}),
) -> str:
    """Test error of the memory networks on each bAbI task, and the published one.

    Of several trainings for a task, the one with the lowest error on dev is shown.

    Args:
        entries: The entries of ``results/``.
        of_seeds: From `story_seeds`.

    Raises:
        UserError: Trainings for a task have different documents.
    """
    best, paper, full, fewer = _story_runs(entries, of_seeds)
    models = [name for name in ("entnet", "dmn") if any(model == name for _, model in best)]
    lines = [
        "| bAbI task | "
        + " | ".join(f"{MODELS[name]} | median | paper | seeds × epochs" for name in models)
        + " |",
        "|---" * (1 + 4 * len(models)) + "|",
    ]

    def row(name: str, cells: Iterable[str]) -> None:
        lines.append(f"| {name} | {' | '.join(cells)} |")

    def of_task(task: int) -> list[str]:
        cells = []
        for model in models:
            run = best.get((task, model))
            errors = [run.test_error, run.median] if run else [None, None]
            cells += [_error(error) for error in (*errors, paper.get((task, model)))]
            cells.append(_told_run(run))
        return cells

    for task in full:
        row(f"{task}", of_task(task))
    if full:
        means = []
        for model in models:
            runs = [best.get((task, model)) for task in full]
            columns = [
                [run.test_error if run else None for run in runs],
                [run.median if run else None for run in runs],
                [paper.get((task, model)) for task in full],
            ]
            means += [*(f"**{_error(_mean(column), 2)}**" for column in columns), ""]
        row(f"**mean of the {len(full)}**", means)
    for task in sorted(fewer):
        row(f"{task} ({fewer[task]:,} questions)", of_task(task))
    return "\n".join(lines)


def _story_runs(
    entries: list[dict[str, Any]], of_seeds: Mapping[tuple[int, str], list[StoryRun]]
) -> tuple[
    dict[tuple[int, str], StoryRun], dict[tuple[int, str], float], list[int], dict[int, int]
]:
    """The best training of each task and model, the papers' errors, and the tasks.

    Returns:
        Best training and published error by task and model; the tasks with as many questions as
        the papers had; the others with their number of questions.
    """
    told = {(_task(e), e["model"]): e for e in entries if _task(e)}
    best = {pair: _best_run(pair, [_run_of(e)], of_seeds.get(pair, [])) for pair, e in told.items()}
    paper = {pair: 100 - e["published"]["accuracy"] for pair, e in told.items() if "published" in e}
    # The published figures are for 10,000 training questions.
    fewer = {task: n for (task, _), e in told.items() if (n := _questions(e)) < 10_000}
    full = sorted({task for task, _ in best} - fewer.keys())
    return best, paper, full, fewer


def _task(entry: dict[str, Any]) -> int:
    """Number of the bAbI task of an entry, or 0."""
    corpus, _, task = entry["corpus"].partition("-")
    return int(task) if corpus == "babi" else 0


def _questions(entry: dict[str, Any]) -> int:
    """How many questions there were to train on and to choose the epoch."""
    documents = entry["record"]["documents"]
    return int(documents["train"] + documents["dev"])


def _run_of(entry: dict[str, Any]) -> StoryRun:
    """The training of an entry; of several seeds it tells the test error of the best on dev."""
    record = entry["record"]
    errors = [100 * (1 - accuracy) for accuracy in record["test"]["accuracy"]["runs"]]
    seeds = len(record["seed"])
    return StoryRun(
        settings="",
        seeds=seeds,
        epochs=entry["settings"]["epochs"],
        dev_error=100 * (1 - max(record["dev"]["accuracy"]["runs"])),
        dev_loss=None,
        test_error=statistics.fmean(errors),
        median=statistics.median(errors) if len(errors) == seeds else None,
        data=record["data"],
    )


def _best_run(pair: tuple[int, str], *runs: list[StoryRun]) -> StoryRun:
    """The one that is best on dev."""
    every = [run for some in runs for run in some]
    if any(run.data != every[0].data for run in every):
        raise UserError(f"the trainings of {pair[1]} on babi-{pair[0]} have different documents")
    return min(every, key=lambda run: run.rank)


def _error(percent: float | None, digits: int = 1) -> str:
    return "–" if percent is None else f"{percent:.{digits}f}"


def _mean(errors: list[float | None]) -> float | None:
    """Of all tasks, or nothing."""
    known = [error for error in errors if error is not None]
    return statistics.fmean(known) if len(known) == len(errors) else None


def _told_run(run: StoryRun | None) -> str:
    if run is None:
        return "–"
    settings = f", `{run.settings}`" if run.settings else ""
    return f"{run.seeds} × {run.epochs}{settings}"


def recipes() -> str:
    """The default recipe of each model, and the record that chose it."""
    lines = [
        "| model | rate | epochs | batch | smoothing | sizes | min freq, max tokens | chosen by |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, recipe in RECIPES.items():
        rate = f"{recipe.optimizer} {recipe.lr:g}, {recipe.schedule}"
        rate += f", warm-up {recipe.warmup:g}" if recipe.warmup else ""
        epochs = f"{recipe.epochs}, patience {recipe.patience or '–'}"
        sizes = ", ".join(f"{size} {value}" for size, value in recipe.model_settings.items())
        read = f"{recipe.min_freq}, {recipe.max_tokens or '–'}"
        lines.append(
            f"| {MODELS[name]} | {rate} | {epochs}{', refit' * recipe.refit} | {recipe.batch_size} "
            f"| {recipe.label_smoothing or '–'} | {sizes} | {read} | `{recipe.record}` |"
        )
    return "\n".join(lines)


def speeds(results: Path) -> str:
    """How many times faster than torch's default and fused optimizers a step is.

    A rule that torch does not have is compared with itself in tensor operations, and marked. A rule
    has no figure for a size if no model of this size suits it. For the sparse gradient, for which
    torch has no fused step, only rules with a sparse step in torch have a figure.
    """
    record = read_json(results / "benchmarks" / "optimizers.json", "has no benchmark")
    timed = [row for row in record["rows"] if "milliseconds" in row]
    rows = {(row["model"], row["rule"]): row for row in timed}
    columns = [
        (size, other)
        for size in dict.fromkeys(model for model, _ in rows)
        for other in (("default",) if size == "sparse" else ("default", "fused"))
    ]
    told = "; ".join(f"*{size}*: {SIZES[size]}" for size in dict.fromkeys(s for s, _ in columns))
    if any(rule == "muon" for _, rule in rows):
        told += "; muon is for matrices: 24 of 256² and 400 of 8²"
    head = "| rule | " + " | ".join(f"{size} × {other}" for size, other in columns) + " |"
    lines = [f"{told[0].upper()}{told[1:]}.", "", head, "|---" * (1 + len(columns)) + "|"]
    for rule in dict.fromkeys(rule for _, rule in rows):
        cells, note = [], ""
        for size, other in columns:
            row = rows.get((size, rule), {"milliseconds": {}})
            beside, times = row.get("beside", ""), row["milliseconds"]
            alone = beside.startswith("itself")
            if alone and size != "sparse":
                note = " \\*"
            shown = times.get(other) and not (alone and size == "sparse")
            cells.append(f"{times[other] / times['ours']:.2f}" if shown else "–")
        lines.append(f"| {rule}{note} | {' | '.join(cells)} |")
    return "\n".join(lines)


def activation_speeds(results: Path) -> str:
    """How many times faster than torch's each activation is, forward and backward together."""
    record = read_json(results / "benchmarks" / "activations.json", "has no benchmark")
    hows = ("eager", "compiled")
    rows = [  # the record has our time / torch's
        [name, *(f"{1 / ratios[how]:.2f}" if how in ratios else "–" for how in hows)]
        for name, ratios in record["ratios"].items()
    ]
    return markdown(["activation", "× torch", "× torch, both compiled"], rows)


def tokenizers(results: Path) -> str:
    """Accuracy on dev of two models with each tokenization."""
    record = read_json(results / "benchmarks" / "tokenizers.json", "has no benchmark")
    names = {"basic_english": "words", "characters": "characters", "jieba": "jieba", "bpe": "bpe"}
    found: dict[tuple[str, str], dict[str, float]] = {}
    for row in record["rows"]:
        found.setdefault((row["corpus"], row["model"]), {})[row["tokenizer"]] = row["dev accuracy"]
    rows = [
        [corpus, MODELS[model], *(f"{100 * by[n]:.1f}" if n in by else "–" for n in names)]
        for (corpus, model), by in found.items()
    ]
    return markdown(["corpus", "model", *names.values()], rows)


def advice(results: Path) -> str:
    """What ``dlnotes advise`` said, and what a much longer search found."""
    lines = []
    for path in sorted((results / "advice").glob("*.json")):
        entry = read_json(path, "is no record of a race")
        if "gap" not in entry:  # not at its end yet
            continue
        documents = entry["measures"]["documents"]
        part = "" if entry["raced_on"] == documents else f"{entry['raced_on']:,} of "
        has = "diverges" if entry["gap"] is None else f"has {100 * entry['score']:.1f} %"
        lines.append(
            f"- {entry['corpus']}, {entry['minutes']:g} min, {part}{documents:,} documents: "
            f"“{entry['sentence']}” Trained on all of them from several seeds it {has}; the best "
            f"of a sweep of {entry['seconds']['sweep'] / 60:.0f} minutes, {entry['best']}, has "
            f"{100 * entry['best_score']:.1f} %."
        )
    return "\n".join(lines)


def label_errors(results: Path) -> str:
    """How many planted label errors were found."""
    lines = []
    for path in sorted((results / "label-errors").glob("*.json")):
        entry = read_json(path, "has no planted label errors")
        plants = entry["plants"]
        called = sum(plant["called_wrong_precision"] for plant in plants) / len(plants)
        share, models = f"{100 * entry['share']:g} %", " and ".join(entry["models"])
        lines.append(
            f"- {entry['corpus']}, {entry['documents']:,} documents, {share} wrong labels planted "
            f"at random, {len(plants)} times, by {models}: of the {share} most doubtful documents "
            f"{100 * entry['precision']:.0f} % were planted, of those that are called wrong "
            f"{100 * called:.0f} %."
        )
    return "\n".join(lines)


def model_speeds(results: Path) -> str:
    """Documents per second in training of each model and of the ordinary way."""
    record = read_json(results / "benchmarks" / "models.json", "has no benchmark")
    lines = ["| model | corpus | ours, documents/s | ordinary | × |", "|---|---|---|---|---|"]
    for row in record["rows"]:
        speed = row["documents_per_second"]
        lines.append(
            f"| {MODELS[row['model']]} | {row['corpus']} | {speed['ours']:,.0f} "
            f"| {speed['ordinary']:,.0f} | {row['ratio']:.2f} |"
        )
    return "\n".join(lines)


def fasttext(results: Path) -> str:
    """Time and accuracy of FastText's whole command and of the C++ program."""
    record = read_json(results / "benchmarks" / "fasttext.json", "has no benchmark")
    names = {
        "theirs": "C++ program, 5 epochs",
        "ours, cold": "ours, nothing read before",
        "ours, warm": "ours, the same files once more",
        "ours, equal epochs": "ours, 5 epochs, files read before",
    }
    lines = ["| corpus | | seconds | × C++ | accuracy (%) |", "|---|---|---|---|---|"]
    for corpus, found in record["corpora"].items():
        for kind, row in found["rows"].items():
            lines.append(
                f"| {corpus} | {names[kind]} | {row['seconds']:.2f} | {row['ratio']:.2f} "
                f"| {100 * row['accuracy']:.2f} |"
            )
    return "\n".join(lines)


def busy(results: Path) -> str:
    """Training speed of each model by how threads wait, alone and beside other programs."""
    records = [
        read_json(results / "benchmarks" / f"{situation}.json", "has no benchmark")
        for situation in ("quiet", "busy")
    ]
    headings = ["model", "other programs", *records[0]["rows"][0]["documents_per_second"]]
    lines = [f"| {' | '.join(headings)} |", "|---" * len(headings) + "|"]
    others = {"quiet": "none", "busy": f"{records[1]['cores']}, one for each core"}
    for row in records[0]["rows"] + records[1]["rows"]:
        cells = " | ".join(f"{speed:,.0f}" for speed in row["documents_per_second"].values())
        lines.append(f"| {MODELS[row['model']]} | {others[row['situation']]} | {cells} |")
    return "\n".join(lines)


def gpu_steps(results: Path) -> str:
    """Milliseconds of an optimizer step on a GPU."""
    record = read_json(results / "benchmarks" / "gpu.json", "has no benchmark")
    lines = [
        "| rule | parameters | dlnotes, ms | torch's fused | foreach | default |",
        "|---|---|---|---|---|---|",
    ]
    for row in record["parts"]["optimizers"]["rows"]:
        times = row["milliseconds"]
        cells = [times.get(kind) for kind in ("ours", "fused", "foreach", "default")]
        told = " | ".join("–" if x is None else f"{x:.2f}" for x in cells)
        lines.append(f"| {row['rule']} | {SIZES[row['model']]} | {told} |")
    return "\n".join(lines)


def gpu_models(results: Path) -> str:
    """Training speed on a GPU beside the same models of torch's layers, and how often it waits."""
    parts = read_json(results / "benchmarks" / "gpu.json", "has no benchmark")["parts"]
    # A negative difference of two times is no measurement.
    waits = {
        row["model"]: row
        for row in parts["waits"]["rows"]
        if row["documents_per_second"]["fit"] > 0
    }
    lines = [
        "| model | documents per batch | dlnotes, documents/s | torch's layers | ratio "
        "| waits for the GPU in 100 updates |",
        "|---|---|---|---|---|---|",
    ]
    for row in parts["models"]["rows"]:
        speeds = row["documents_per_second"]
        wait = str(waits[row["model"]]["waits"]) if row["model"] in waits else "–"
        lines.append(
            f"| {MODELS[row['model']]}{' (bf16)' * row['amp']} | {row['batch_size']} "
            f"| {speeds['ours']:,.0f} | {speeds['ordinary']:,.0f} | {row['ratio']:.2f} | {wait} |"
        )
    return "\n".join(lines)


def scales(results: Path) -> str:
    """Memory and time of a training over the number of its documents."""
    record = read_json(results / "benchmarks" / "scale.json", "has no benchmark")
    columns = ["documents", "text, MB", "private memory, MB", "CPU time per document, µs"]
    rows = []
    for row in record["rows"]:
        cost = row.get("cpu_microseconds_per_document")
        cells = [
            f"{row['documents']:,}",
            f"{row['text_bytes'] / 1e6:,.0f}",
            f"{row['private_bytes'] / 1e6:,.0f}",
            f"{cost:.0f}" if cost else "–",
        ]
        rows.append(cells)
    return markdown(columns, rows)


def served(results: Path) -> str:
    """How fast single texts are answered over HTTP, and what that takes."""
    record = read_json(results / "benchmarks" / "serve.json", "has no benchmark")
    headings = ["load", "requests", "per second", "median", "99 % within", "lost", "memory"]
    rows = []
    for row in (record[kind] for kind in ("speed", "memory") if kind in record):
        memory = [each["mib"] for each in row["memory"]]
        cells = [
            f"{row['seconds']:.0f} s, {row['connections']} connections",
            f"{row['requests']:,}",
            f"{row['requests_per_second']:,.0f}",
            *(f"{row[f'p{share}_ms']:.0f} ms" for share in (50, 99)),
            f"{row['lost']}",
            f"{memory[0]:.0f}, then at most {max(memory[1:]):.0f} MiB",
        ]
        rows.append(cells)
    return markdown(headings, rows)


def exports(results: Path) -> str:
    """How far exported scores are from the models', and what quantization costs."""
    record = read_json(results / "benchmarks" / "export.json", "has no benchmark")
    lines = [
        "| model | ONNX differs by | torch.export by | ONNX, MB | int8, MB | accuracy | int8 |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in record["rows"].items():
        cells = [
            MODELS[name],
            *(f"{row['difference'][kind]:.0e}" for kind in ("onnx", "torch")),
            *(f"{row[kind]['megabytes']:.1f}" for kind in ("onnx", "int8")),
            *(f"{100 * row[kind]['accuracy']:.1f}" for kind in ("onnx", "int8")),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def verdicts(results: Path) -> str:
    """What the experiments say about each claim of the notes, and what they took.

    The time of a quick run is also given if there is a record of one: ``claims/quick.json``.
    """
    record = read_json(results / "claims" / "record.json", "has no claims")
    by_module = {row["name"].replace("-", "_"): row for row in record["claims"]}
    lines = ["| claim | verdict | effect, 95 % interval | runs |", "|---|---|---|---|"]
    for modules in CHAPTERS.values():
        for row in (by_module[module] for module in modules if module in by_module):
            condition = words.translate(row["says"].removeprefix(row["verdict"]).strip(), "en")
            found = effect(row["effect"], row["interval"])
            cells = [
                f"{row['sentence']} `{row['name']}`",
                f"**{row['verdict']}** {condition}".strip(),
                words.measured(found, row["effect_name"], "en"),
                f"{row['runs']:,}" if row["runs"] else "–",
            ]
            lines.append(f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |")
    lines += ["", f"All of them took {_time(record)} of computation, added up over processes."]
    quick = results / "claims" / "quick.json"
    if quick.is_file():
        lines[-1] += f" With `--quick` it is {_time(read_json(quick, 'has no claims'))}."
    return "\n".join(lines)


def _time(record: dict[str, Any]) -> str:
    """What the claims of a record took."""
    return seconds(sum(row["seconds"] for row in record["claims"]))


def _row(entry: dict[str, Any]) -> str:
    record = entry["record"]
    figures = [record["test"][name] for name in ("accuracy", "macro_f1")]
    shown = [_percent(figure) for figure in figures]
    published = entry.get("published")
    before = f"{published['accuracy']:.1f} ({_source(published)})" if published else ""
    return (
        f"| {entry['corpus']} | {_model(entry)} "
        f"| {shown[0]} | {shown[1]} | {len(figures[0]['runs'])} | {before} |"
    )


def _model(entry: dict[str, Any]) -> str:
    """Name of an entry's model, with what distinguishes it from others."""
    model: str = MODELS.get(entry["model"], entry["model"])
    tokens = entry.get("reading", {}).get("tokenizer")
    if tokens in ("cased", "characters"):
        model = f"{model}, {tokens}"
    if vectors := entry.get("settings", {}).get("vectors"):
        if isinstance(vectors, dict):
            vectors = f"word2vec of {', '.join(vectors['corpora'])}"
        model = f"{model}, {vectors}"
    if entry.get("settings", {}).get("class_weights") == "balanced":
        model = f"{model}, balanced"
    return model


def _source(published: dict[str, Any]) -> str:
    """Which model the figure is of, who published it, and the word vectors it was given, if any."""
    vectors = published.get("vectors")
    source: str = published["source"]
    return f"{source}, given {vectors} vectors" if vectors else source


if __name__ == "__main__":
    run(main)
