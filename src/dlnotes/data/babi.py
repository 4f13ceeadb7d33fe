r"""The bAbI tasks: short stories with questions (Weston et al. 2015, arXiv:1502.05698), CC BY 3.0.

A file holds stories, one after another; line number 1 begins a new story::

    1 Mary moved to the bathroom.
    2 John went to the hallway.
    3 Where is Mary?<TAB>bathroom<TAB>1

The last field of a question lists the numbers of the lines that its answer follows from. In a
corpus, each question is one example. Its text is the story so far and the question, ``Mary moved to
the bathroom. John went to the hallway. <question> Where is Mary?``; its label is the answer. An
answer of several words (``n,s``) is one label.

The corpora are ``babi-1`` to ``babi-20``, version 1.2, with 10,000 training questions per task (set
en-10k) and 1,000 test questions. Only ``babi-3`` has 1,000 training questions, those of the set en.
The last tenth of the training stories is the dev split.
"""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import polars as pl

from dlnotes.arguments import checked
from dlnotes.data.tokenization import QUESTION_TOKEN
from dlnotes.deprecation import keep_old_names
from dlnotes.errors import UserError

TASKS = range(1, 21)
SETS = {task: "en" if task == 3 else "en-10k" for task in TASKS}
"""For each task, the set (a folder of the archive) that its files are taken from."""


class Question(NamedTuple):
    """A question and the story before it.

    Attributes:
        story: Number of the story in its file, from 0.
        sentences: The story so far, without earlier questions.
        question: The question with its question mark.
        answer: The answer; several words are joined by commas.
        facts: Numbers, from 1, of the ``sentences`` that the answer follows from.
    """

    story: int
    sentences: tuple[str, ...]
    question: str
    answer: str
    facts: tuple[int, ...]

    @property
    def text(self) -> str:
        """The document that a classifier reads."""
        return " ".join([*self.sentences, QUESTION_TOKEN, self.question])


def read_questions(lines: Iterable[str]) -> Iterator[Question]:
    """Read the questions in a file's lines, in order.

    Raises:
        ValueError: A line is not in the format; the message says which one.
    """
    story, last = -1, 0
    sentences: list[str] = []
    place: dict[int, int] = {}  # line of the story → number of the sentence
    for at, line in enumerate(lines, 1):
        number, _, rest = line.rstrip("\r\n").partition(" ")
        n = int(number) if number.isdecimal() else 0
        text, *fields = rest.split("\t")
        if n not in (1, last + 1) or not text.strip() or len(fields) not in (0, 2):
            raise ValueError(
                f"line {at}: {line.strip()!r} is neither 'n sentence' nor "
                f"'n question<TAB>answer<TAB>facts' with n = {last + 1} or 1"
            )
        if n == 1:
            story, sentences, place = story + 1, [], {}
        last = n
        if not fields:
            sentences.append(text.strip())
            place[n] = len(sentences)
            continue
        answer, facts = fields
        try:
            numbers = tuple(place[int(fact)] for fact in facts.split())
        except (KeyError, ValueError):
            raise ValueError(f"line {at}: {facts!r} are not numbers of earlier sentences") from None
        yield Question(story, tuple(sentences), text.strip(), answer.strip(), numbers)


@checked
def read_file(path: Path) -> list[Question]:
    """Read the questions of a file, which may be gzipped.

    Raises:
        UserError: The file cannot be read, is damaged or is not in the format.
    """
    try:
        content = path.read_bytes()
        text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode()
        return list(read_questions(io.StringIO(text)))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, EOFError) as error:
        raise UserError(f"{path}: damaged, or not a bAbI file: {error}") from error


def without_dev(questions: Sequence[Question]) -> tuple[list[Question], list[Question]]:
    """Split questions into training and dev questions: dev gets the last tenth of the stories."""
    first = questions[-1].story + 1 - (questions[-1].story + 1) // 10 if questions else 0
    train = [q for q in questions if q.story < first]
    return train, [q for q in questions if q.story >= first]


def local(folder: Path, task: int) -> dict[str, pl.DataFrame] | None:
    """Read the splits of a task from the archive's files below ``folder``, plain or gzipped.

    Returns:
        For each split the columns label, text and facts (numbers of sentences, separated by
        spaces); None if one of the task's two files is missing.
    """
    read = {}
    for split in ("train", "test"):
        name = f"qa{task}_*_{split}.txt"
        found = [f for end in ("", ".gz") for f in sorted((folder / SETS[task]).glob(name + end))]
        if not found:
            return None
        read[split] = read_file(found[0])
    train, dev = without_dev(read["train"])
    return {"train": _frame(train), "dev": _frame(dev), "test": _frame(read["test"])}


def _frame(questions: Sequence[Question]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "label": [q.answer for q in questions],
            "text": [q.text for q in questions],
            "facts": [" ".join(map(str, q.facts)) for q in questions],
        },
        schema={"label": pl.String, "text": pl.String, "facts": pl.String},
    )


SHA256: dict[tuple[int, str], str] = {
    (int(task), split): sha256
    for task, splits in json.loads(
        resources.files(__package__).joinpath("babi.json").read_text("utf-8")
    ).items()
    for split, sha256 in splits.items()
}
"""(task, split) → SHA-256 of the archive's file that the split is read from."""


keep_old_names(__name__)
