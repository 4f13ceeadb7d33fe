"""What is fuzzed: each target takes the bytes of one file, and must read or refuse them.

The bytes of the target ``serve`` are those of a connection instead.

To refuse is to raise a `UserError` of one line. Anything else, or too much time or memory, is a
defect.
"""

import shutil
import tempfile
import warnings
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch

from dlnotes.commands import config
from dlnotes.data.readers import read
from dlnotes.data.seen import Seen
from dlnotes.data.vectors import read_vectors
from dlnotes.data.vocabulary import Vocabulary
from dlnotes.errors import UserError
from dlnotes.training.checkpoint import load_checkpoint
from dlnotes.training.classifier import TextClassifier

try:
    import connection
except ModuleNotFoundError:  # of the extra serve
    connection = None

WORDS = ["<pad>", "<unk>", "goal", "court", "web"]


@cache
def folder() -> Path:
    """A place for the files, and a trained classifier in it."""
    place = Path(tempfile.mkdtemp(prefix="dlnotes-fuzz-"))
    torch.manual_seed(0)
    settings = {"embedding_dim": 2, "maps": 1}
    made = TextClassifier.create("textcnn", settings, Vocabulary(WORDS), ["law", "sport"])
    made.save(place / "whole")
    return place


def remove_folder() -> None:
    """Remove what `folder` has made."""
    if _served.cache_info().currsize:
        _served().close()
        _served.cache_clear()
    if folder.cache_info().currsize:
        shutil.rmtree(folder())
        folder.cache_clear()


def _read(suffix: str, data: bytes) -> None:
    file = folder() / f"a{suffix}"
    file.write_bytes(data)
    for frame in read(file, block_bytes=1 << 10):
        assert frame.columns == ["label", "text", "line"]
        assert not frame["label"].has_nulls()


def _load(name: str, data: bytes) -> None:
    spoilt = folder() / "spoilt"
    shutil.rmtree(spoilt, ignore_errors=True)
    shutil.copytree(folder() / "whole", spoilt)
    (spoilt / name).write_bytes(data)
    found = TextClassifier.load(spoilt)
    found.predict(["the goal", ""])


def _file(read: Callable[[Path], object], data: bytes) -> None:
    file = folder() / "file"
    file.write_bytes(data)
    read(file)


@cache
def _served() -> Any:
    return connection.Served()


def _connection(data: bytes) -> None:
    connection.check(_served(), data)


TARGETS: dict[str, Callable[[bytes], None]] = {
    **{
        suffix: partial(_read, f".{suffix}")
        for suffix in ("csv", "tsv", "jsonl", "txt", "parquet", "csv.gz", "tsv.zip")
    },
    **{
        name: partial(_load, name)
        for name in ("config.json", "labels.json", "vocabulary.txt", "model.safetensors")
    },
    "checkpoint.pt": partial(_file, load_checkpoint),
    "documents.npz": partial(_file, Seen.load),
    "config.yaml": partial(_file, config.read_config),
    "vectors.vec": partial(_file, lambda file: read_vectors(file, Vocabulary(WORDS))),
}
if connection:
    TARGETS["serve"] = _connection
"""By the name, or the end of the name, of the file."""


def check(target: str, data: bytes) -> str | None:
    """Read a file.

    Returns:
        What is told against it; None if it was read.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            TARGETS[target](data)
        except UserError as error:
            told = str(error)
            assert told, "nothing is told"
            assert "\n" not in told, told
            assert len(told) < 2000, told[:2000]
            return told
    return None
