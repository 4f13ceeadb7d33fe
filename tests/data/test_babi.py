"""bAbI: the format, the splits, the archive."""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import tarfile
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from dlnotes.data import babi, corpora
from dlnotes.data.babi import Question, read_file, read_questions, without_dev
from dlnotes.data.corpora import CORPORA, load
from dlnotes.errors import UserError

STORY = """\
1 Mary moved to the bathroom.
2 Where is Mary? \tbathroom\t1
3 John went to the hallway.
4 Daniel took the milk.
5 How do you go there?\tn,s\t4 3
1 Sandra sat down.
2 Is Sandra standing?\tno\t1
"""


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DLNOTES_DATA", raising=False)
    monkeypatch.setenv("DLNOTES_CACHE", str(tmp_path / "cache"))


def test_questions_with_what_was_told_before() -> None:
    first, second, third = read_questions(io.StringIO(STORY))
    told = ("Mary moved to the bathroom.",)
    assert first == Question(0, told, "Where is Mary?", "bathroom", (1,))
    told = (*told, "John went to the hallway.", "Daniel took the milk.")
    # Lines 4 and 3 of the file are sentences 3 and 2 of the story: the question has no number.
    assert second == Question(0, told, "How do you go there?", "n,s", (3, 2))
    assert third == Question(1, ("Sandra sat down.",), "Is Sandra standing?", "no", (1,))
    assert third.text == "Sandra sat down. <question> Is Sandra standing?"


@pytest.mark.parametrize(
    ("lines", "wrong"),
    [
        ("2 Mary left.\n", "line 1"),
        ("1 Mary left.\n3 John left.\n", "line 2: '3 John left.' is neither .* n = 2 or 1"),
        ("1 Mary left.\nJohn left.\n", "line 2"),
        ("1 Mary left.\n\n", "line 2"),
        ("1 \n", "line 1"),
        ("1 Mary left.\n2 Who left?\tMary\n", "line 2"),
        ("1 Mary left.\n2 Who left?\tMary\t1\t1\n", "line 2"),
        ("1 Mary left.\n2 Who left?\tMary\t2\n", "line 2: '2' are not numbers of earlier"),
        ("1 Mary left.\n2 Who left?\tMary\t1\n3 Who left?\tMary\t2\n", "line 3: '2'"),
        ("1 Mary left.\n2 Who left?\tMary\tx\n", "line 2: 'x'"),
        ("1 M left.\n1 J left.\n2 K left.\n2 Who left?\tJ\t1\n", "line 4"),
    ],
)
def test_what_is_not_in_the_format_is_refused_by_its_line(lines: str, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        list(read_questions(io.StringIO(lines)))


def test_files_plain_gzipped_and_damaged(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(STORY)
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(STORY.encode()))
    assert read_file(tmp_path / "a.txt") == read_file(tmp_path / "a.txt.gz")
    content = gzip.compress(STORY.encode())
    (tmp_path / "a.txt.gz").write_bytes(content[: len(content) // 2])
    (tmp_path / "b.txt.gz").write_bytes(STORY.encode())
    (tmp_path / "c.txt").write_text("a\tb\n")
    for name in ("a.txt.gz", "b.txt.gz", "c.txt", "missing.txt"):
        with pytest.raises(UserError, match=re.escape(str(tmp_path / name))):
            read_file(tmp_path / name)


def stories(n: int, word: str = "") -> str:
    return "".join(
        f"1 {word}Mary moved {i}.\n2 Where is she?\ta{i % 3}\t1\n3 Where?\tb\t1\n" for i in range(n)
    )


def test_dev_is_the_last_tenth_of_the_stories() -> None:
    train, dev = without_dev(list(read_questions(io.StringIO(stories(25)))))
    assert [q.story for q in train] == [i for i in range(23) for _ in range(2)]
    assert [q.story for q in dev] == [23, 23, 24, 24]
    assert without_dev([]) == ([], [])


def test_a_local_folder_gives_the_splits(tmp_path: Path) -> None:
    for task, folder in ((1, "en-10k"), (10, "en-10k"), (3, "en")):
        place = tmp_path / "babi" / folder
        place.mkdir(parents=True, exist_ok=True)
        (place / f"qa{task}_a-task_train.txt.gz").write_bytes(
            gzip.compress(stories(20, f"task {task} ").encode())
        )
        (place / f"qa{task}_a-task_test.txt").write_text(stories(1))
    (tmp_path / "babi/en-10k/qa3_a-task_train.partial.txt").write_text("not the whole file")
    for task in (1, 10, 3):
        splits = load(f"babi-{task}", data_dir=tmp_path)
        assert list(splits) == ["train", "dev", "test"]
        train, dev, test = splits.values()
        assert isinstance(train, pl.DataFrame)
        assert (len(train), len(dev), len(test)) == (36, 4, 2)  # type: ignore[arg-type]
        assert train.row(0) == (
            "a0",
            f"task {task} Mary moved 0. <question> Where is she?",
            "1",
        )
    train = tmp_path / "babi-1/train.tsv"
    train.parent.mkdir()
    for split in ("train", "test"):
        train.with_name(f"{split}.tsv").touch()
    assert load("babi-1", data_dir=tmp_path)["train"] == train


def archive(task: int, train: str, test: str) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        for name, text in {
            "en/qa1_a-task_train.txt": "of another set",
            "en-10k/qa11_a-task_train.txt": "of another task",
            f"en-10k/._qa{task}_a-task_train.txt": "of a Macintosh",
            f"en-10k/qa{task}_a-task_train.txt": train,
            f"en-10k/qa{task}_a-task_test.txt": test,
        }.items():
            info = tarfile.TarInfo(f"tasks_1-20_v1-2/{name}")
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
    return content.getvalue()


@pytest.mark.parametrize("right", [True, False])
def test_the_archives_files_are_checked_one_by_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, right: bool
) -> None:
    train, test = stories(10), stories(2)
    for split, text in (("train", train), ("test", test if right else test.lower())):
        digest = hashlib.sha256(text.encode()).hexdigest()
        monkeypatch.setitem(babi.SHA256, (1, split), digest)
    path = tmp_path / "cache/downloads/tasks_1-20_v1-2.tar.gz"

    def fetch(urls: Any, sha256: str, path: Path) -> Path:
        assert sha256 == ""
        path.parent.mkdir(parents=True)
        path.write_bytes(archive(1, train, test))
        return path

    monkeypatch.setattr(corpora, "fetch", fetch)
    monkeypatch.setitem(CORPORA["babi-1"].counts, "train", 18)  # type: ignore[attr-defined]
    monkeypatch.setitem(CORPORA["babi-1"].counts, "dev", 2)  # type: ignore[attr-defined]
    monkeypatch.setitem(CORPORA["babi-1"].counts, "test", 4)  # type: ignore[attr-defined]
    if not right:
        with pytest.raises(UserError, match=r"wrong checksum .*qa1_a-task_test\.txt \(deleted\)"):
            load("babi-1")
        assert not path.exists()
        return
    splits = load("babi-1")
    lines = Path(str(splits["dev"])).read_text().splitlines()
    assert lines == [
        "a0\tMary moved 9. <question> Where is she?",
        "b\tMary moved 9. <question> Where?",
    ]


@pytest.mark.parametrize("poison", ["no archive", "empty", "cut", "other files", "a folder"])
@pytest.mark.parametrize("served", ["right", "wrong"])
def test_a_poisoned_download_is_fetched_anew(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, poison: str, served: str
) -> None:
    """Nobody knows the archive's checksum, so that anything may lie in its place."""
    train, test = stories(10), stories(2)
    good = archive(1, train, test)
    poisons = {
        "no archive": b"<html>Please log in.</html>",
        "empty": b"",
        "cut": good[: len(good) // 2],
        "other files": archive(2, train, test),
    }
    for split, text in (("train", train), ("test", test)):
        digest = hashlib.sha256(text.encode()).hexdigest()
        monkeypatch.setitem(babi.SHA256, (1, split), digest)
    for split, count in (("train", 18), ("dev", 2), ("test", 4)):
        monkeypatch.setitem(CORPORA["babi-1"].counts, split, count)  # type: ignore[attr-defined]
    path = tmp_path / "cache/downloads/tasks_1-20_v1-2.tar.gz"
    path.parent.mkdir(parents=True)
    if poison == "a folder":
        (path / "in it").mkdir(parents=True)
    else:
        path.write_bytes(poisons[poison])
    requests = []

    def download(url: str, sha256: str, path: Path) -> None:
        if not path.exists():
            requests.append(url)
            path.write_bytes(good if served == "right" else b"<html>Please log in.</html>")

    monkeypatch.setattr("dlnotes.data.download._download", download)
    if served == "wrong":
        with pytest.raises(UserError, match="is not a readable archive"):
            load("babi-1")
        assert not path.exists()
    else:
        for _ in range(2):
            assert len(Path(str(load("babi-1")["dev"])).read_text().splitlines()) == 2
        assert path.read_bytes() == good
    assert len(requests) == 1 + (poison == "a folder" and served == "wrong")  # that was none


@pytest.mark.slow
@pytest.mark.parametrize("task", babi.TASKS)
def test_the_real_files(shared_data: Path, task: int) -> None:
    folder = shared_data / "babi"
    splits = babi.local(folder, task)
    assert splits is not None
    assert {s: len(frame) for s, frame in splits.items()} == CORPORA[f"babi-{task}"].counts
    assert set(splits["test"]["label"]) | set(splits["dev"]["label"]) <= set(
        splits["train"]["label"]
    )
    for split in ("train", "test"):
        (path,) = (folder / babi.SETS[task]).glob(f"qa{task}_*_{split}.txt*")
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
        assert hashlib.sha256(content).hexdigest() == babi.SHA256[task, split]
