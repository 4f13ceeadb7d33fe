"""Race models on your own documents, and recommend one with the evidence."""

from __future__ import annotations

import shlex
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from textwrap import indent
from typing import Annotated, Any

from rich import box, progress
from rich.table import Table
from tyro.conf import arg

from dlnotes import commands
from dlnotes.advice.program import program
from dlnotes.advice.race import Race
from dlnotes.advice.report import Advice, facts, part
from dlnotes.advice.runner import MODELS, TrialRunner
from dlnotes.arguments import Range, Seed, checked
from dlnotes.cli import other_command
from dlnotes.commands import config as config_file
from dlnotes.commands import train as train_command
from dlnotes.commands.sources import check_data_folder, files_of_options
from dlnotes.data.corpora import label_separator
from dlnotes.data.corpora import load as load_corpus
from dlnotes.data.dataset import Dataset, load_dataset
from dlnotes.data.download import cache_folder
from dlnotes.data.readers import Source, stem_of
from dlnotes.data.reading import Reading
from dlnotes.display import console, tell
from dlnotes.errors import UserError
from dlnotes.files import check_different, check_output, make_folder, write_atomically, write_json
from dlnotes.training.classifier import reading_for, reads_sentences
from dlnotes.training.device import choose_device
from dlnotes.training.record import provenance
from dlnotes.training.trials import TFIDF

RECORD, PICTURE = "advice.json", "advice.png"

_RESERVED = 0.04  # of the time limit, for start-up and the picture, and also:
_RESERVED_SECONDS = 1.0


@checked
def main(
    corpus: str | None = None,
    train: tuple[Path, ...] = (),
    dev: tuple[Path, ...] = (),
    data_dir: Path | None = None,
    out: Path | None = None,
    minutes: Annotated[float, Range(0.25)] = 5.0,
    reading: Annotated[Reading, arg(name="")] = Reading(),
    seed: Seed = 0,
    device: str = "auto",
    config: Path | None = None,
) -> None:
    """Race models on your own documents, and recommend one with the evidence.

    All candidates learn from the same documents and are measured on the same dev documents: TF-IDF
    with a logistic regression, our models with their recipes, then the best of them with other
    learning rates, optimizers and batch sizes. Each is first trained for about a quarter of its
    epochs. Those that are clearly behind stop there (p < .05, not corrected for the number of
    candidates; the table at the end has corrected p-values). The others are trained for all epochs,
    and the best ones from several seeds. A cheaper candidate is recommended in place of the best
    one if it is not shown to be worse, and is at most half a point or one document behind.

    Args:
        corpus: Name of a corpus, as for dlnotes train. Default bbc when --train is not given.
        train: Your own training documents, one or more files, as for dlnotes train.
        dev: Your own dev documents. Default: a part of the training documents (--dev-fraction).
        data_dir: Folder of corpora (NAME/train.tsv[.gz] and so on), searched before downloading.
        out: Folder for advice.json and advice.png. Default runs/advice/NAME.
        minutes: Time limit, at least 0.25. If there are more documents than can be learned from in
            this time, the race uses a part of them.
        reading: How texts become documents.
        seed: Seed of the first training of a candidate; further ones have the seeds after it.
        device: auto, cpu, cuda, cuda:1 (and so on) or mps (untested).
        config: Options from a YAML file; those on the command line take precedence.
    """
    began = commands.started_at.get(time.perf_counter())
    train, dev = files_of_options(train=train, dev=dev).values()
    if corpus and train:
        raise UserError("give either --corpus or --train, not both")
    if dev and not train:
        raise UserError("--dev belongs to --train FILE; a corpus brings its own")
    choose_device(device)
    check_data_folder(data_dir)
    sources: Mapping[str, Source] = {"train": train, **({"dev": dev} if dev else {})}
    given = reading
    if train:
        name = stem_of(train[0])
    else:
        name = corpus or "bbc"
        sources = dict(load_corpus(name, data_dir=data_dir, cache_dir=cache_folder()))
        sources = {split: source for split, source in sources.items() if split != "test"}
        separator = reading.label_separator or label_separator(name)
        reading = replace(reading, label_separator=separator)
    out = out or Path("runs") / "advice" / name
    inputs: dict[str, tuple[Path | None, ...]] = {"train": train, "dev": dev, "config": (config,)}
    if not train:
        inputs["corpus"] = tuple(s for s in sources.values() if isinstance(s, Path))
    outputs = out / RECORD, out / PICTURE
    for option, files in inputs.items():
        for file in files:
            for output in (out, *outputs):
                check_different(**{option: file, "out": output})
    make_folder(out)
    for output in outputs:
        check_output(output)
    seconds = 60 * minutes * (1 - _RESERVED) - _RESERVED_SECONDS

    told = False

    def load(model: str) -> Dataset:
        nonlocal told
        with warnings.catch_warnings():
            if told:
                warnings.simplefilter("ignore")
            told = True
            return load_dataset(
                sources,
                reading_for(model, reading, seed),
                name=name,
                cache_dir=cache_folder() / "tokens",
                sentences=reads_sentences(model),
            )

    clock = _since(began)
    with _progress(seconds, clock) as show:
        show("reading")
        with config_file.naming_config_file(config):
            documents = TrialRunner(load, seconds=seconds, seed=seed, device=device, clock=clock)
        race = Race(
            documents.measure, MODELS, documents.vary, seconds=seconds, clock=clock, show=show
        )
        race.run()
    if race.interrupted and not any(e.trials for e in race.entries):
        tell("Stopped before anything was measured.")
        sys.exit(128 + race.interrupted)
    figure = "micro-F1" if documents.multi_label else "accuracy"
    advice = Advice(race.entries, figure, documents.dev)
    data: dict[str, Any] = {
        "corpus": None if train else name,
        "train": train,
        "dev": dev,
        "data_dir": data_dir,
    }
    data |= _given(given)
    data |= {"seed": seed or None, "device": None if device == "auto" else device}
    command = None
    if advice.network:
        changes = documents.command_changes(advice.network.candidate)
        command = _command({**data, "model": advice.network.candidate.model, **changes})
    code = None
    if advice.recommended.candidate.model == TFIDF:
        threshold = advice.recommended.runs[0].decision.threshold
        code = program(
            {"train": train, **({"dev": dev} if dev else {})} if train else name,
            _given(reading_for("fasttext", reading, seed)),
            threshold=threshold if documents.multi_label else None,
            data_dir=data_dir,
        )
    said = notes(advice, documents, race, minutes, clock())
    _print(advice, documents, code, command, said)
    came_from = provenance(seed)
    record = {
        "record": came_from,
        "minutes": minutes,
        "seconds": clock(),
        "complete": race.complete,
        "corpus": asdict(documents.statistics),
        "documents": {"train": documents.documents, "dev": documents.dev},
        "figure": figure,
        "recommended": advice.recommended.name,
        "sentence": advice.sentence,
        "command": command,
        "program": code,
        "notes": said,
        "candidates": advice.record(),
    }
    write_json(out / RECORD, record)
    picture = advice.draw()
    write_atomically(out / PICTURE, lambda file: picture.savefig(file, format="png", dpi=120))
    print(f"Evidence: {out / RECORD}, {out / PICTURE}")
    if race.interrupted:
        sys.exit(128 + race.interrupted)


def notes(
    advice: Advice, documents: TrialRunner, race: Race, minutes: float, seconds: float
) -> list[str]:
    """What one should know of the figures."""
    found = []
    statistics = documents.statistics
    if documents.duplicates:
        found.append(f"{documents.duplicates} (dlnotes train --check-data FILE lists them).")
    if documents.documents < statistics.documents:
        found.append(
            f"Measured with {documents.documents:,} of {statistics.documents:,} documents to learn "
            "from, as many as this time allows; with all of them the order may differ (--minutes)."
        )
    if documents.dev < statistics.dev:
        found.append(f"Compared on {documents.dev:,} of {statistics.dev:,} dev documents.")
    for why, names in advice.untried.items():
        found.append(f"Left out: {'; '.join(names)} ({why}).")
    tried = sum(bool(e.trials) for e in race.entries)
    if tried > 1:
        found.append(
            f"The figure of the best of {tried} candidates is a little too high, since dev chose "
            "it: measure it on unseen documents (dlnotes train --test FILE)."
        )
    if race.interrupted:
        found.append("Stopped before the end: this is what is known by now.")
    elif race.complete and seconds < 0.8 * 60 * minutes:
        found.append(f"Ended after {seconds:.0f} seconds: there was nothing left to try.")
    return found


def _print(
    advice: Advice,
    documents: TrialRunner,
    code: str | None,
    command: str | None,
    said: Sequence[str],
) -> None:
    screen = console()
    screen.print(advice.sentence, soft_wrap=True)
    known = Table(title="The documents", box=box.SIMPLE_HEAD, show_header=False)
    for fact in facts(documents.statistics, documents.tokenizer):
        known.add_row(*fact)
    screen.print(known)
    table = Table(title="The race", box=box.SIMPLE_HEAD)
    headings = (
        "candidate",
        f"dev {advice.metric}, 95 %",
        "epochs",
        "seeds",
        "seconds",
        "documents/s",
    )
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "candidate" else "right")
    table.add_column("verdict", overflow="fold")
    for row in advice.rows():
        table.add_row(*row)
    screen.print(table)
    for note in said:
        screen.print(f"note: {note}", soft_wrap=True)
    if code:
        raced = documents.documents + documents.dev
        every = documents.statistics.documents + documents.statistics.dev
        what = "what was measured"
        if raced < every:
            what = "the same with all documents"
            # The program has the threshold as a number, which was chosen on the part.
            what += ", but for the threshold, which is that of the race" * documents.multi_label
        print(f"Train it with scikit-learn, in Python ({what}):")
        print(indent(code, "  "))
    if command:
        print(f"{_introduction(advice)}:")
        print(f"  {command}")


def _introduction(advice: Advice) -> str:
    """What stands before the command."""
    network = advice.network
    assert network is not None
    measured = f" (measured{part(network)})" if part(network) else ""
    if network is not advice.recommended:
        return f"The best model that dlnotes trains{measured}"
    return f"{'Train it' if advice.compares_models else 'The command that trains it'}{measured}"


def _given(reading: Reading) -> dict[str, Any]:
    """What differs from the defaults."""
    return {n: v for n, v in asdict(reading).items() if v != getattr(Reading(), n)}


def _command(said: Mapping[str, Any]) -> str:
    """The command line of ``dlnotes train`` with these options."""
    options: dict[str, Any] = {}
    for name, value in said.items():
        if isinstance(value, tuple):
            value = [str(each) for each in value]
        if value not in (None, []):
            options[name] = str(value) if isinstance(value, Path) else value
    words = config_file.to_arguments(train_command.main, options, "advise")
    return f"{other_command('train')} {shlex.join(words)}"


def _since(began: float) -> Callable[[], float]:
    def clock() -> float:
        return time.perf_counter() - began

    return clock


class _progress:  # noqa: N801 -- a context
    """A bar over the time that the race may take, and what is being trained."""

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        screen = console(stderr=True)

        class Bar(progress.Progress):
            def get_renderables(self) -> Any:
                for task in self.tasks:
                    task.completed = min(seconds, clock())
                yield from super().get_renderables()

        class Left(progress.ProgressColumn):
            max_refresh = 0.5

            def render(self, task: Any) -> Any:
                left = max(0, round(seconds - clock()))
                return f"{left // 60}:{left % 60:02} left"

        self._bar = Bar(
            progress.BarColumn(bar_width=24),
            Left(),
            progress.TextColumn("{task.description}"),
            console=screen,
            transient=True,
            disable=not screen.is_terminal,
        )
        self._task = self._bar.add_task("", total=seconds)

    def __enter__(self) -> Callable[[str], None]:
        with suppress(OSError):
            self._bar.start()
        return self.show

    def show(self, what: str) -> None:
        """Say what is being trained."""
        with suppress(OSError):
            self._bar.update(self._task, description=what)

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._bar.stop()
