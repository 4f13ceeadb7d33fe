r"""The bAbI tasks: short stories with questions (Weston et al. 2015, arXiv:1502.05698), CC BY 3.0.

A file holds stories, one after the other; the line number 1 begins a new one::

    1 Mary moved to the bathroom.
    2 John went to the hallway.
    3 Where is Mary?<TAB>bathroom<TAB>1

A question's last field has the numbers of the lines that its answer follows from. As a corpus, an
example is a question with what was told before it: the label is the answer, the text is ``Mary
moved to the bathroom. John went to the hallway. <question> Where is Mary?``. An answer of several
words (``n,s``) is one label.

The corpora are ``babi-1`` to ``babi-20``, version 1.2, with 10,000 questions a task to learn from
(set en-10k) and 1,000 to test, except ``babi-3``: its 1,000 training questions are those of the
set en. The last tenth of the training stories is the split dev.
"""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl

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


SHA256 = {
    (1, "train"): "749ea9f7c99070feb2d88c975a254417a0dcc8274add4435ae5ae24c7afc7e9d",
    (1, "test"): "55acf66cef2f6d798e2aa1d056e1ec8f24e910ea9215b639450574321132959b",
    (2, "train"): "d4074c0c5d54f70ce2f538056ce2b6ef6a313da336da4245f1a24f1298e37ef3",
    (2, "test"): "eff93fb9cd81ba02eb765772cf7cc269769ed44ec71cbbbc19cfb16ee5eba0f6",
    (3, "train"): "a6e78019f36a02a7ed71fe6aaded0b563ff09c8deec392931801fcd9c6af4d60",
    (3, "test"): "17795c977100baf8188f386522ae301b62d6c1a13efc01b3aea781e588b4d57f",
    (4, "train"): "5d11b821d35234988ab907866aa7ce718e6b6d751acf63bdef52262afb59f12c",
    (4, "test"): "07f0ca18ddeea9eed4ba6d59e162adcb0ce44815721114b3540d92825509331e",
    (5, "train"): "2506910935b701bac64fc8b1d7ff12bd8d0f47ceefca183454282bec784c12a5",
    (5, "test"): "ec825c1c8a76e63a31f0d7a7763cd63740e98332fa9bdf246a19068949bd5f97",
    (6, "train"): "602f379184bf3cb59660d0f7769d9c94ccdc1fc4d82dfe90bd460d985b1ff0c5",
    (6, "test"): "b108b16f1eccbd1c24df6dca2649079a7b2f10af7fd12d4c45a3393802de59e3",
    (7, "train"): "4a2508733bef9b38cfce4b3108a91b83cdee378de4a7370e4d32fea2dacd3b7d",
    (7, "test"): "a74d1f2b91329b2bae814d41cdac2fbdfdf0328562b7d8afa9a0fa576d461e27",
    (8, "train"): "9518da2d3aa5d98bec33335e0d5ba3a22c2bd1929ee679085d37eb50a7652e4a",
    (8, "test"): "362a653c821a580fa315a85243b4f03bfa06fa7e0269b6f8e596f8fe6911646a",
    (9, "train"): "5f8949f6ef7d64516fc4dd5732b12b5932d057b1a614e8ac94e795fb020d4ff0",
    (9, "test"): "63590aff3f89993db409f0e9a9eb39c2a5b9d5efff99b255d800a891b0044d9f",
    (10, "train"): "c5c0788b0446095c07a0442784cad2b59c1d58e875ebe8ad852f5e3f628613f4",
    (10, "test"): "fde8f20ed0b3ba979058ed391a566af34653f23baab5b2793ee37f87ef4e88b7",
    (11, "train"): "edfcd97fecd4a5045af25e1790cf1408856ae362c39521b1b69cd32b88ec0ced",
    (11, "test"): "46f3290d0158ce1285a40cd2d793f5a65f86ae5000226e165cbc85a3dfeb2f6f",
    (12, "train"): "39d58df3564916c66cebc98befb65d605c032181e51208730fd8837a77bc166a",
    (12, "test"): "6437718f8f9801ce345869e910b896836cdc6fd2d01dc7b4d2df49730703b4b1",
    (13, "train"): "c530fdf122d26617a8a03ba5cdbacee87c22624ba7f50d1f07f9658c900e22d8",
    (13, "test"): "76a25b684f23c9cc473d8cd1465506168b9a1ec8891cfc59d0bbd87e6a064990",
    (14, "train"): "c322e0814eef71f088af1aa1334e7ae4b1ee6ca18f2ee94c05e2189226964ed6",
    (14, "test"): "e3f0b19858ffbec3ed1e49076cc4d1295a89ce146c50318b862f13f202b3caf2",
    (15, "train"): "0a86673f7fafa484f8ee394048f03de19405bdc40b58f21086969efad2862010",
    (15, "test"): "32b77e117fe9acf5f94906684e3b5206de0108e646c76e1da3e022896ec7ee94",
    (16, "train"): "27fef347ce0b25dd148efea2b15f154926e0e9069d4ea6ab9cfca3add492ab35",
    (16, "test"): "4a11e55366f2a5a859b5a81f683ee23801bdbe71ef984e51adb976bd053e8dcf",
    (17, "train"): "8a383651e009db50d6c9effed5778b8646c28c55fadb1592b5f4d8d3a187bbce",
    (17, "test"): "9e1e0250ed4ec1831757fab26c04138f81ea557ebf6976a220db879cbed04bac",
    (18, "train"): "9e7c15107067d2070170ef12579a8bfe34dfc35a7ac9ebd13f2001dc1a7488f9",
    (18, "test"): "d34f70eb7228a276fcb3a7854174fe562c5634f4fb454a39fc3d1ad9934be3ef",
    (19, "train"): "6cfdc6f448e3cf0e3d8a390fa3add461935b033f89ede32aeef30812401ec91e",
    (19, "test"): "023e391f0d7f79c9e6ae1c46c093e2d0dbd50ab8fbd8965e037a75e3614c20e5",
    (20, "train"): "36f20f3baf6bad2297d5b9fd877e633550c36106fe78bc10ddfb7b1eede62573",
    (20, "test"): "bd3bde3788ac14ba0ae095078f7b820fbd2bfa6a34dba9d1d46a34afde9c2729",
}
"""(task, split) → checksum of the file, as it is in the archive, that the split is made of."""


keep_old_names(__name__)
