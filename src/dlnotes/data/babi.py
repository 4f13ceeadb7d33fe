r"""The bAbI tasks: short stories with questions (Weston et al. 2015, arXiv:1502.05698), CC BY 3.0.

A file holds stories, one after the other; the line number 1 begins a new one::

    1 Mary moved to the bathroom.
    2 John went to the hallway.
    3 Where is Mary?<TAB>bathroom<TAB>1

A question's last field has the numbers of the lines that its answer follows from. As a corpus, an
example is a question with what was told before it: the label is the answer, the text is ``Mary
moved to the bathroom. John went to the hallway. <question> Where is Mary?``. An answer of several
words (``n,s``) is one label.

The corpora are ``babi-1`` to ``babi-20``, version 1.2, with 10,000 questions per task to learn from
(set en-10k) and 1,000 to test, except ``babi-3``: its 1,000 training questions are those of the
set en. The last tenth of the training stories is the split dev.
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
"""Task → the set, a folder of the archive, that its files are taken from."""


class Question(NamedTuple):
    """A question and what was told before it.

    Attributes:
        story: number of the story in its file, from 0.
        sentences: the story so far, other questions left out.
        question: with its question mark.
        answer: several words are joined by a comma.
        facts: which of the ``sentences`` the answer follows from, numbered from 1.
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
    """Read the questions of a file's lines, in their order.

    Raises:
        ValueError: a line that is not in the format; says which one.
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
        UserError: the file cannot be read, is damaged or not in the format.
    """
    try:
        content = path.read_bytes()
        text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode()
        return list(read_questions(io.StringIO(text)))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, EOFError) as error:
        raise UserError(f"{path}: damaged, or not a file of bAbI: {error}") from error


def without_dev(questions: Sequence[Question]) -> tuple[list[Question], list[Question]]:
    """Cut the last tenth of the stories off, so that no story is on both sides."""
    first = questions[-1].story + 1 - (questions[-1].story + 1) // 10 if questions else 0
    train = [q for q in questions if q.story < first]
    return train, [q for q in questions if q.story >= first]


def local(folder: Path, task: int) -> dict[str, pl.DataFrame] | None:
    """Splits of a task from the archive's files, plain or gzipped, in ``folder``/en-10k.

    Returns:
        For each split the columns label, text and facts (numbers of sentences, a space between
        two); None if one of the task's two files is not there.
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
"""(task, split) → checksum of the file, as it is in the archive, that the split is made of."""


keep_old_names(__name__)
