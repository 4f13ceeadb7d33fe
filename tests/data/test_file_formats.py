"""Files as people have them: how they are compressed, encoded, separated, quoted and begun."""

import bz2
import codecs
import csv
import gzip
import io
import json
import lzma
import pickle
import sqlite3
import subprocess
import sys
import tarfile
import time
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from dlnotes.data import formats, streams
from dlnotes.data.dataset import load_dataset
from dlnotes.data.readers import read, read_records
from dlnotes.data.streams import numbered_lines, text_blocks, zstd
from dlnotes.errors import UserError

DOCUMENTS = [("good", "a fine film"), ("bad", "ein müdes 电影"), ("good", "again")]
TSV = "".join(f"{label}\t{text}\n" for label, text in DOCUMENTS)
CSV = "label,text\n" + TSV.replace("\t", ",")


def documents(source, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return [row[:2] for row in pl.concat(list(read(source, **options))).rows()]


def texts(path, **options):
    return [text for block in read_records(path, **options) for text in block.texts]


def put(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def zipped(**members):
    with zipfile.ZipFile(made := io.BytesIO(), "w") as archive:
        for name, content in members.items():
            archive.writestr(name.replace("_csv", ".csv"), content)
    return made.getvalue()


# --- compressed ---------------------------------------------------------------------------------

COMPRESSORS = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstd.compress,
    ".zip": lambda content: zipped(a_csv=content),
}


@pytest.mark.parametrize("suffix", COMPRESSORS)
def test_compressed_files_are_read_by_what_they_hold(tmp_path, suffix):
    compressed = COMPRESSORS[suffix](CSV.encode())
    for name in (f"a.csv{suffix}", f"A.CSV{suffix.upper()}", "named-without.csv"):
        assert documents(put(tmp_path / name, compressed)) == DOCUMENTS
    # A browser may have unpacked what it saved under the old name.
    assert documents(put(tmp_path / f"b.csv{suffix}", CSV)) == DOCUMENTS


@pytest.mark.parametrize("suffix", COMPRESSORS)
@pytest.mark.parametrize("harm", ["cut", "flipped"])
def test_a_broken_compressed_file_is_no_shorter_file(tmp_path, suffix, harm):
    compressed = bytearray(COMPRESSORS[suffix](CSV.encode() * 2000))
    if harm == "cut":
        del compressed[len(compressed) * 2 // 3 :]
    else:
        compressed[len(compressed) // 2] ^= 0xFF
    path = put(tmp_path / f"a.csv{suffix}", bytes(compressed))
    with pytest.raises(
        UserError, match=rf"a\.csv\{suffix}.*(broken compressed|cannot be read|not UTF-8)"
    ):
        documents(path)


def test_what_a_zip_file_may_hold(tmp_path):
    path = tmp_path / "reviews.zip"
    assert documents(put(path, zipped(reviews_csv=CSV, __MACOSX="x"))) == DOCUMENTS
    with pytest.raises(UserError, match=r"has 2 files in it \(a\.csv, b\.csv\), where one is need"):
        documents(put(path, zipped(a_csv=CSV, b_csv=CSV)))
    assert documents(put(tmp_path / "reviews.v2.zip", zipped(a_csv=CSV))) == DOCUMENTS
    with pytest.raises(UserError, match=r"has no file in it; unpack it and give a file"):
        documents(put(path, zipped()))
    locked = bytearray(zipped(a_csv=CSV))
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # where the flags stand
        locked[locked.index(mark) + place] |= 1
    with pytest.raises(UserError, match=r"reviews\.zip needs a password; unpack it first"):
        documents(put(path, bytes(locked)))
    with pytest.raises(UserError, match=r"unknown kind of file.*save the sheet as CSV"):
        documents(put(tmp_path / "a.xlsx", zipped(sheet_xml="x")))


@pytest.mark.parametrize("start", ["x^2", "x\x01", "\x1f\x8b", "(\xb5/\xfd", "BZh9", "PK\x03\x04"])
def test_text_may_begin_as_compressed_data_does(tmp_path, start):
    """ "x^" are the first two bytes of a zlib stream."""
    first, second = f"{start} + y = 1", "again"
    assert numbered_lines(f"{first}\n{second}\n", 7).rows() == [(7, first), (8, second)]
    if start == "x^2":
        path = put(tmp_path / "a.tsv", f"good\t{first}\n")
        assert documents(path) == [("good", first)]
        path = put(tmp_path / "b.txt", f"{first}\n{second}\n")
        assert texts(path) == [first, second]


@pytest.mark.parametrize(
    "start",
    [
        *("BZh1 is a name", "BZh9", "BZh01AY&SY", "BZh91AY&S", "PK", "PAR1", "PAR1 and others"),
        *("7zXZ", "(µ/ý", "\x1f", "P*M", "\ufefflabelled", "Rar!"),
    ],
)
def test_text_is_not_taken_for_compressed_by_its_first_letters(tmp_path, start):
    path = put(tmp_path / "a.txt", f"{start}\nagain\n")
    assert texts(path) == [start.removeprefix("\ufeff"), "again"]
    path = put(tmp_path / "a.tsv", f"{start}\tx\ngood\tagain\n")
    assert [text for _, text in documents(path)] == ["x", "again"]
    path = put(tmp_path / "a.csv.bz2", bz2.compress(f"label,text\n{start},again\n".encode()))
    assert [text for _, text in documents(path)] == ["again"]


def _parquet():
    pl.DataFrame(DOCUMENTS, ["label", "text"], orient="row").write_parquet(file := io.BytesIO())
    return file.getvalue()


def _tar():
    with tarfile.open(fileobj=(file := io.BytesIO()), mode="w") as archive:
        member = tarfile.TarInfo("a.csv")
        member.size = len(CSV.encode())
        archive.addfile(member, io.BytesIO(CSV.encode()))
    return file.getvalue()


def _large_tar():
    """Of a text: more letters than null characters."""
    with tarfile.open(fileobj=(file := io.BytesIO()), mode="w") as archive:
        member = tarfile.TarInfo("a.txt")
        member.size = 100_000
        archive.addfile(member, io.BytesIO(b"a line of it\n" * 10_000))
    return file.getvalue()


def _arrow(write):
    getattr(pl.DataFrame(DOCUMENTS, ["label", "text"], orient="row"), write)(file := io.BytesIO())
    return file.getvalue()


def _saved(save, *arrays):
    save(file := io.BytesIO(), *arrays)
    return file.getvalue()


def _torch():
    torch.save({"texts": ["x"]}, file := io.BytesIO())
    return file.getvalue()


def _sqlite():
    with sqlite3.connect(":memory:") as database:
        database.execute("create table documents (label text, text text)")
        return database.serialize()


def _exe():
    """The headers of a program for Windows: DOS's, whose last field is the place of the other."""
    stub = b"\x0e\x1f\xba\x0e\0\xb4\x09\xcd\x21This program cannot be run in DOS mode.\r\r\n$"
    return b"MZ\x90\0\x03".ljust(60, b"\0") + (128).to_bytes(4, "little") + stub.ljust(64, b"\0")


def archive(*names):
    with zipfile.ZipFile(made := io.BytesIO(), "w") as archive:
        for name in names:
            archive.writestr(name, "<x/>")
    return made.getvalue()


NO_TEXT = {
    "large tar": (_large_tar, "is a tar archive: unpack it"),
    "large tar.gz": (lambda: gzip.compress(_large_tar()), "is a tar archive: unpack it"),
    "parquet": (_parquet, "is a Parquet file: call it .parquet, and do not compress it"),
    "tar": (_tar, "is a tar archive: unpack it"),
    "tar.gz": (lambda: gzip.compress(_tar()), "is a tar archive: unpack it"),
    "twice": (
        lambda: gzip.compress(bz2.compress(CSV.encode())),
        "is compressed twice: decompress it",
    ),
    "pdf": (lambda: b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "is a PDF: convert it to text"),
    "7z": (
        lambda: b"7z\xbc\xaf\x27\x1c\0\4" + bytes(50),
        "compressed by a program that is not supported: decompress it",
    ),
    "sqlite": (
        lambda: b"SQLite format 3\0" + bytes(100),
        "is a database: write a table of it as CSV",
    ),
    "nothing": (lambda: bytes(200), "is not text: most of its bytes are 0"),
    "ASCII pdf": (lambda: b"%PDF-1.4\n1 0 obj\n<< /Type /Catalog >>\n", "is a PDF: convert it"),
    "rtf": (lambda: rb"{\rtf1\ansi{\fonttbl}\pard text\par}", "is a document in RTF: save it as"),
    "doc": (lambda: b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "is an old Office document: save it"),
    "docx": (lambda: archive("[Content_Types].xml", "word/document.xml"), "is a Word document"),
    "xlsx": (lambda: archive("[Content_Types].xml", "xl/workbook.xml"), "is an Excel workbook"),
    "ods": (lambda: archive("mimetype", "META-INF/manifest.xml"), "is an OpenDocument file"),
    "jar": (lambda: archive("META-INF/MANIFEST.MF", "A.class"), "is a program, not text"),
    "sqlite database": (_sqlite, "is a database: write a table of it as CSV"),
    "arrow": (lambda: _arrow("write_ipc"), "is an Arrow file: write it as Parquet or CSV"),
    "arrow stream": (lambda: _arrow("write_ipc_stream"), "is an Arrow file: write it as Parquet"),
    "pickle": (lambda: pickle.dumps(DOCUMENTS), "is a pickle of Python: write its texts and"),
    "old pickle": (lambda: pickle.dumps(DOCUMENTS, 2), "is a pickle of Python: write its texts"),
    "npy": (lambda: _saved(np.save, np.arange(9)), "is an array of NumPy: write its texts"),
    "npz": (lambda: _saved(np.savez, np.arange(9), np.ones(3)), "is arrays of NumPy: write"),
    "one in npz": (lambda: _saved(np.savez, np.arange(9)), "is arrays of NumPy: write"),
    "torch": (_torch, "is a file of torch.save: write its texts and labels"),
    "hdf5": (lambda: b"\x89HDF\r\n\x1a\n\0\0\0", "is an HDF5 file: write its texts and labels"),
    "ELF": (lambda: b"\x7fELF\2\1\1" + bytes(200), "is a program, not text"),
    "exe": (_exe, "is a program; if it is an archive that unpacks itself, unpack it"),
    "exe with a zip": (lambda: _exe() + zipped(a_csv=CSV), "is a program; if it is an archive"),
    "png": (lambda: b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "is an image, not text"),
    "jpeg": (lambda: b"\xff\xd8\xff\xe0\0\x10JFIF\0", "is an image, not text"),
    "mp4": (lambda: b"\0\0\0\x18ftypmp42\0\0\0\0", "is an image or a recording, not text"),
}


@pytest.mark.parametrize("kind", NO_TEXT)
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".txt", ".jsonl"])
def test_what_is_no_text_is_told(tmp_path, kind, suffix):
    make, told = NO_TEXT[kind]
    with pytest.raises(UserError, match=rf"a\{suffix} .*{told}"):
        documents(put(tmp_path / f"a{suffix}", make()))


@pytest.mark.parametrize("kind", ["docx", "npz", "pickle", "exe"])
def test_a_file_under_its_own_name_is_told_too(tmp_path, kind):
    make, told = NO_TEXT[kind]
    with pytest.raises(UserError, match=rf"a\.{kind} {told}"):
        documents(put(tmp_path / f"a.{kind}", make()))


def test_parquet_is_not_compressed_again(tmp_path):
    for name, content in {
        "a.parquet.gz": gzip.compress(_parquet()),
        "a.zip": archive("a.parquet"),
    }.items():
        with pytest.raises(
            UserError, match=r"Parquet is read uncompressed only: decompress the file"
        ):
            documents(put(tmp_path / name, content))


@pytest.mark.parametrize(
    "start",
    [
        *("PAR1", "%PDF-1", "ORC", "MZ ČR", "GIF89a", "BM", "II*", "ID3"),
        *(r"{\rtf", "FEA1", "Obj", "SQLite format 3", "fLaC", "RIFF"),
    ],
)
def test_text_in_another_encoding_is_not_taken_for_a_file_of_that_kind(tmp_path, start):
    path = put(tmp_path / "a.tsv", f"{start}\tx\ngood\tžába {'word ' * 99}\n".encode("cp1250"))
    with pytest.raises(UserError, match=r"a\.tsv:[12]: not UTF-8 \(byte 0x..\); convert"):
        documents(path)


@pytest.mark.parametrize("suffix", COMPRESSORS)
def test_an_empty_file_that_was_compressed_is_an_empty_file(tmp_path, suffix):
    path = put(tmp_path / f"a.csv{suffix}", COMPRESSORS[suffix](b""))
    with pytest.raises(UserError, match=r"(is empty|no texts|no documents)"):
        documents(path)


STREAMS = {".bz2": bz2.compress, ".xz": lzma.compress}


@pytest.mark.parametrize("suffix", STREAMS)
def test_compressed_streams_one_after_the_other_are_one_text(tmp_path, suffix):
    lines = "".join(f"{i},a text that has the number {i}\n" for i in range(20_000))
    half = lines.index("\n9999,") + 1
    between = bytes(8) if suffix == ".xz" else b""
    parts = [STREAMS[suffix](part.encode()) for part in (lines[:half], lines[half:])]
    path = put(tmp_path / f"a.csv{suffix}", between.join([*parts, b""]))
    assert streams.read_text(path) == lines


@pytest.mark.parametrize("suffix", STREAMS)
@pytest.mark.parametrize(
    "end",
    [
        *(b"plain text", b"\0", bytes(4), gzip.compress(b"x", mtime=0), bz2.compress(b"x")[:6]),
        *(lzma.compress(b"x")[:20], b"X" + bz2.compress(b"x")[1:], bz2.compress(b"x")[:-3]),
    ],
)
def test_what_follows_a_compressed_stream_is_not_left_out_without_a_word(tmp_path, suffix, end):
    path = put(tmp_path / f"a.csv{suffix}", STREAMS[suffix](CSV.encode()) + end)
    if suffix == ".xz" and not end.strip(b"\0"):
        assert documents(path) == DOCUMENTS
    else:
        with pytest.raises(
            UserError, match=rf"a\.csv\{suffix}: broken compressed file \(.+\); fetch"
        ):
            documents(path)


def test_frames_that_zstandard_passes_over(tmp_path):
    """Parallel zstd begins with one, which holds sizes."""
    begin = b"\x2a\x4d\x18" + (4).to_bytes(4, "little") + b"\0\1\2\3"
    for number in (0x50, 0x5F):
        path = put(tmp_path / "a.csv.zst", bytes([number]) + begin + zstd.compress(CSV.encode()))
        assert documents(path) == DOCUMENTS


def test_words_in_another_encoding_are_not_taken_for_gzip(tmp_path):
    start = b"\x1f\x8b\x08\x54".decode("utf-16-le")  # two Chinese characters
    path = put(tmp_path / "a.txt", f"{start}\nagain\n".encode("utf-16-le"))
    assert texts(path, encoding="utf-16-le") == [start, "again"]


# --- encodings, byte order marks, line ends -----------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.txt"])
def test_a_byte_order_mark_tells_the_encoding(tmp_path, encoding, name):
    content = {
        "a.csv": CSV,
        "a.tsv": TSV,
        "a.jsonl": "".join(json.dumps({"label": y, "text": x}) + "\n" for y, x in DOCUMENTS),
        "a.txt": "".join(f"__label__{y} {x}\n" for y, x in DOCUMENTS),
    }[name]
    assert documents(put(tmp_path / name, content.encode(encoding))) == DOCUMENTS
    # Marks stay in the middle where files are joined.
    twice = content + content.removeprefix("label,text\n")
    joined = f"\n{codecs.BOM_UTF8.decode()}".join(twice.rstrip("\n").split("\n"))
    assert documents(put(tmp_path / name, joined)) == DOCUMENTS * 2


def test_a_header_that_is_repeated_where_files_are_joined_is_no_document(tmp_path):
    path = put(tmp_path / "a.csv", CSV + "\ufeff" + CSV)
    assert documents(path) == DOCUMENTS * 2
    path = put(tmp_path / "a.tsv", "text\tlabel\nx\ta\ntext\tlabel\ny\tb\n")
    assert documents(path) == [("a", "x"), ("b", "y")]


def test_marks_in_the_files_of_a_class_folder(tmp_path):
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
    put(tmp_path / "a" / "1.txt", b"\xef\xbb\xbfone")
    put(tmp_path / "b" / "2.txt", "two".encode("utf-16"))
    assert documents(tmp_path) == [("a", "one"), ("b", "two")]


def test_a_named_encoding(tmp_path):
    path = put(tmp_path / "a.csv", "label,text\na,caf\xe9 \x80\nb,x\n".encode("latin-1"))
    assert documents(path, encoding="cp1252") == [("a", "café €"), ("b", "x")]
    with pytest.raises(UserError, match=r"a\.csv:2: not UTF-8 \(byte 0xe9\); .*--encoding"):
        documents(path)
    gb = put(tmp_path / "b.tsv", "好\t电影\n坏\t难看\n".encode("gb18030"))
    assert documents(gb, encoding="gb18030") == [("好", "电影"), ("坏", "难看")]
    with pytest.raises(UserError, match=r"b\.tsv:1: not ASCII"):
        documents(gb, encoding="ascii")
    with pytest.raises(
        UserError, match=r"encoding must be the name of an encoding.*not 'latin-17'"
    ):
        documents(gb, encoding="latin-17")
    for known_but_none in ("zlib", "rot13", "\0"):
        with pytest.raises(UserError, match="encoding must be"):
            documents(gb, encoding=known_but_none)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_utf_16_and_32_without_a_mark_are_recognised_by_their_nulls(tmp_path, encoding):
    path = put(tmp_path / "a.csv", CSV.encode(encoding))
    looks = encoding.upper()[:6]
    with pytest.raises(
        UserError, match=rf"looks like {looks} without a byte .*--encoding {encoding}"
    ):
        documents(path)
    assert documents(path, encoding=encoding) == DOCUMENTS


CHINESE = [("正面", "这部电影非常好看,我很喜欢。"), ("负面", "剧情太无聊了,演员也不行。")] * 20
WIDE = ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"]
LETTERS = {
    "a.csv": "label,text\n" + "".join(f'{y},"{x}"\n' for y, x in CHINESE),
    "a.tsv": "".join(f"{y}\t{x}\r\n" for y, x in CHINESE),
    "a.txt": "".join(f"__label__{y} {x}\r" for y, x in CHINESE),
    "a.jsonl": "".join(f'{{"label":"{y}","text":"{x}😀"}}\n' for y, x in CHINESE),
    "long.tsv": "".join(f"{y}\t{x * 500}\n" for y, x in CHINESE),
    "russian.tsv": "да\tочень хороший фильм\nнет\tплохой\n",
    "korean.tsv": "좋음\t아주 좋은 영화\n나쁨\t지루한 영화\n",
    "arabic.tsv": "جيد\tفيلم رائع\nسيئ\tممل\n",
}


def looks_like(encoding):
    return rf"looks like {encoding.upper()[:6]} without a byte order mark: .*--encoding {encoding}"


@pytest.mark.parametrize("encoding", WIDE)
@pytest.mark.parametrize("name", LETTERS)
def test_chinese_without_a_mark_is_recognised_by_its_line_ends(tmp_path, name, encoding):
    path = put(tmp_path / name, LETTERS[name].encode(encoding))
    with pytest.raises(UserError, match=looks_like(encoding)):
        documents(path)
    assert len(documents(path, encoding=encoding)) == LETTERS[name].strip().count(
        "\r" if name == "a.txt" else "\n"
    ) + (name != "a.csv")


def _numbers(kind, low, high, seed):
    return np.random.default_rng(seed).integers(low, high, 400).astype(kind).tobytes()


OTHER = {
    "words": lambda seed: _numbers("<u2", 0, 1 << 16, seed),
    "big-endian words": lambda seed: _numbers(">u2", 0, 1 << 16, seed),
    "small words": lambda seed: _numbers("<u2", 1, 200, seed),
    "sound": lambda seed: _numbers("<i2", -3000, 3000, seed),
    "token ids": lambda seed: _numbers("<i4", 0, 30_000, seed),
    "some token ids": lambda seed: _numbers("<i4", 5, 300, seed),
    "big-endian ids": lambda seed: _numbers(">i4", 1, 5000, seed),
    "long ids": lambda seed: _numbers("<i8", 0, 5000, seed),
    "floats": lambda seed: np.random.default_rng(seed).normal(size=400).astype("f4").tobytes(),
    "deflated": lambda seed: zlib.compress(_numbers("<u2", 0, 1 << 12, seed)),
    "null-ended lines": lambda seed: ("good\ta fine film\n\0" * (seed + 2)).encode(),
    "null-ended lines of GB 18030": lambda seed: ("好\t电影\n\0\0" * (seed + 2)).encode("gb18030"),
    # As letters N in the other order of bytes: text as well.
    "text in either order": lambda seed: ("一" * (300 + seed) + "\n").encode("utf-16-le"),
    "columns of texts": lambda seed: b"".join(
        f"word {i}".encode().ljust(32, b"\0") for i in range(60)
    ),
}


@pytest.mark.parametrize("kind", OTHER)
@pytest.mark.parametrize("seed", range(5))
def test_other_bytes_are_not_taken_for_text_without_a_mark(tmp_path, kind, seed):
    content = OTHER[kind](seed)
    assert b"\0" in content
    try:
        documents(put(tmp_path / "a.tsv", content))
    except UserError as error:
        assert "looks like" not in str(error)  # noqa: PT017 -- some are read, as before


def test_null_bytes_beside_others_raise_doubts(tmp_path):
    path = put(tmp_path / "a.tsv", b"\x81\0\x82\n" * 9)
    with pytest.raises(
        UserError, match=r"a\.tsv:1: not UTF-8 \(byte 0x81\), and it has null bytes: is it text\?"
    ):
        documents(path)


@pytest.mark.parametrize("end", ["\r", "\r\n", "\n"])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_line_ends_of_every_system(tmp_path, end, name):
    content = {"a.csv": CSV, "a.tsv": TSV}[name].replace("\n", end)
    assert documents(put(tmp_path / name, content)) == DOCUMENTS
    frame = pl.concat(list(read(tmp_path / name)))
    assert frame["line"].to_list() == [i + (name == "a.csv") for i in (1, 2, 3)]


def test_blocks_are_whole_lines_with_their_numbers(tmp_path):
    text = "".join(f"{'x' * (i % 50)}é{i}\n" for i in range(3000)) + "no end"
    path = put(tmp_path / "a.txt", text)
    for size in (1, 100, 1 << 16, 1 << 26):
        blocks = list(text_blocks(path, None, size))
        assert "".join(block for _, block in blocks) == text
        line = 1
        for number, block in blocks:
            assert number == line
            line += block.count("\n")
        assert all(block.endswith("\n") for _, block in blocks[:-1])


def test_a_wrong_byte_far_into_a_file_is_told_by_its_line(tmp_path):
    content = "long é line\n".encode() * 200_000
    with pytest.raises(UserError, match=r":200001: not UTF-8 \(byte 0xff\)"):
        list(text_blocks(put(tmp_path / "a.txt", content + b"\xff\n")))
    with pytest.raises(UserError, match=r":200001: not UTF-8 \(byte 0xe4\)"):  # cut in a character
        list(text_blocks(put(tmp_path / "a.txt", content + b"\xe4\xb8")))


# --- separators and quotation marks -------------------------------------------------------------


@pytest.mark.parametrize("separator", [";", "|", "\t"])
def test_the_separator_of_a_csv_file_is_found_and_told(tmp_path, separator):
    rows = [("label", "text"), ("a", "one, two, three"), ("b", "four")]
    path = put(tmp_path / "a.csv", "".join(f"{separator.join(row)}\n" for row in rows))
    with pytest.warns(UserWarning, match=r"a\.csv: fields are separated by .*--separator"):
        found = pl.concat(list(read(path))).rows()
    assert [row[:2] for row in found] == rows[1:]
    assert documents(path, separator=separator) == rows[1:], "nothing to tell"
    name = {";": "semicolon", "|": "pipe", "\t": "tab"}[separator]
    assert documents(path, separator=name) == rows[1:]


def test_the_comma_is_the_separator_whatever_the_texts_hold(tmp_path):
    rows = 'label,text\na,"x; y"\nb,u;v\nc,w|w\n'
    assert documents(put(tmp_path / "a.csv", rows))[1] == ("b", "u;v")
    path = put(tmp_path / "b.csv", "0,x;y\n1,u;v\n")
    assert documents(path, label_column="0", text_column="1") == [("0", "x;y"), ("1", "u;v")]
    only = put(tmp_path / "c.csv", "text\nx;y\nu;v\n")
    assert texts(only) == ["x;y", "u;v"]


def test_a_separator_that_is_none(tmp_path):
    path = put(tmp_path / "a.csv", CSV)
    assert documents(path, separator="auto", encoding="auto", quoting="auto", header="auto")
    for wrong in ("", '"', "\n", "x", "ab", "\r"):
        with pytest.raises(UserError, match="separator must be a single character, or one of"):
            documents(path, separator=wrong)


QUOTED = {
    'good,a 5" screen': 'a 5" screen',
    'good,"a 5"" screen, large"': 'a 5" screen, large',
    'good,"so" he said': "so he said",
    'good,he said "no"': 'he said "no"',
    'good,"two\nlines"': "two\nlines",
    'good,""': "",
    'good,""""': '"',
    "good,it's": "it's",
}


@pytest.mark.parametrize("row", QUOTED)
def test_quotation_marks_are_read_as_python_and_pandas_read_them(tmp_path, row):
    path = put(tmp_path / "a.csv", f"label,text\n{row}\nbad,x\n")
    for block_bytes in (1, 1 << 20):
        assert documents(path, block_bytes=block_bytes) == [("good", QUOTED[row]), ("bad", "x")]
    assert texts(path) == [QUOTED[row], "x"]


def test_many_inch_marks_take_no_more_time_than_other_text(tmp_path):
    seconds = []
    for mark in ('"', "'"):
        path = put(tmp_path / "a.csv", "label,text\n" + f"a,a 5{mark} screen\nb,x\n" * 60_000)
        began = time.perf_counter()
        assert len(documents(path)) == 120_000
        seconds.append(time.perf_counter() - began)
    assert seconds[0] < 10 * seconds[1] + 1


def test_an_open_quotation_mark_is_told_where_it_opens(tmp_path):
    rows = "a,x\n" * 50_000
    path = put(tmp_path / "a.csv", f'label,text\na,x\nb,"open\n{rows}')
    message = r"a\.csv:3: .*a quotation mark that opens here is never closed"
    for block_bytes in (1000, 1 << 20):
        for reader in (documents, texts):
            with pytest.raises(UserError, match=message):
                reader(path, block_bytes=block_bytes)


def test_tsv_with_and_without_quotation_marks(tmp_path):
    path = tmp_path / "a.tsv"
    quoted = 'label\ttext\ngood\t"a ""fine""\tfilm"\nbad\t"two\nlines"\ngood\tplain\n'
    expected = [("good", 'a "fine"\tfilm'), ("bad", "two\nlines"), ("good", "plain")]
    assert documents(put(path, quoted)) == expected
    assert documents(put(path, quoted.partition("\n")[2])) == expected, "without a header"
    literal = 'good\t"Fine" is the word\nbad\t"no end\ngood\t"whole"\nbad\tat the end"\n'
    assert documents(put(path, literal)) == [
        ("good", '"Fine" is the word'),
        ("bad", '"no end'),
        ("good", '"whole"'),
        ("bad", 'at the end"'),
    ]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_too_many_fields_are_an_error_and_no_shorter_text(tmp_path, name):
    tab = "\t" if name == "a.tsv" else ","
    path = put(tmp_path / name, f"text{tab}label\nhello{tab}world again{tab}good\n")
    with pytest.raises(UserError, match=r":2: too many fields \(3 where 2 are expected\): a text"):
        documents(path)
    path = put(tmp_path / name, f"good{tab}x\nbad{tab}y{tab}z\n")
    with pytest.raises(UserError, match=r":2: too many fields \(3 where 2"):
        documents(path, label_column="0", text_column="1")


# --- headers ------------------------------------------------------------------------------------


def test_a_first_document_that_looks_like_a_header(tmp_path):
    path = put(tmp_path / "a.tsv", "Text\tone\nLabel\ttwo\nText\tthree\nLabel\tfour\n")
    assert len(documents(path)) == 4
    path = put(tmp_path / "a.tsv", "noun\ttext\nverb\trun\nnoun\tbook\n")
    assert documents(path)[0] == ("noun", "text")
    for header in ("label\ttext", "Text\tLABEL", "id\tlabel\ttext"):
        columns = header.lower().split("\t")
        row = "\t".join({"id": "7", "label": "a", "text": "x"}[name] for name in columns)
        assert documents(put(tmp_path / "a.tsv", f"{header}\n{row}\n")) == [("a", "x")]


def test_the_header_may_be_said(tmp_path):
    path = put(tmp_path / "a.tsv", "label\ttext\na\tx\n")
    assert documents(path, header="no") == [("label", "text"), ("a", "x")]
    path = put(tmp_path / "a.csv", "a,x\nb,y\n")
    assert documents(path, header="no") == [("a", "x"), ("b", "y")]
    with pytest.raises(UserError, match="no label column 'label'; the file has: a, x"):
        documents(path, header="yes")
    assert documents(path, header="yes", label_column="0", text_column="1") == [("b", "y")]
    with pytest.raises(UserError, match="no label column 'a'; the file has: columns 0 to 1, with"):
        documents(path, header="no", label_column="a")
    with pytest.raises(UserError, match="no columns 'label' and 'text' among a, x, 1"):
        documents(put(path, "a,x,1\nb,y,2\n"), header="no")
    with pytest.raises(UserError, match="header must be one of auto, yes, no or None, not 'maybe'"):
        documents(path, header="maybe")


def test_a_header_that_became_a_document_is_told(tmp_path):
    rows = "".join(f"{i % 2}\tdocument {i}\n" for i in range(20))
    path = put(tmp_path / "a.tsv", "sentiment\treview\n" + rows)
    with pytest.warns(UserWarning, match=r"a\.tsv:1: the label 'sentiment' occurs nowhere else"):
        assert len(load_dataset({"train": path}).label_names) == 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_dataset({"train": path}, header="yes", label_column="0", text_column="1")
        load_dataset({"train": path}, header="no")
        load_dataset({"train": put(path, rows)})


# --- columns ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.parquet"])
def test_a_text_of_several_columns_of_which_some_are_empty(tmp_path, name):
    rows = {"label": ["a", "b", "a"], "title": ["T", "", "T2"], "body": ["", "B", "B2"]}
    frame = pl.DataFrame(rows)
    path = tmp_path / name
    if name == "a.parquet":
        frame.with_columns(pl.all().replace("", None)).write_parquet(path)
    elif name == "a.jsonl":
        frame.with_columns(pl.all().replace("", None)).write_ndjson(path)
    else:
        frame.write_csv(path, separator="\t" if name == "a.tsv" else ",", quote_style="never")
    expected = [("a", "T"), ("b", "B"), ("a", "T2 B2")]
    assert documents(path, text_column="title,body") == expected
    assert texts(path, text_column="title,body") == [text for _, text in expected]


def test_names_of_columns_with_a_comma_and_numbers_that_are_none(tmp_path):
    path = put(tmp_path / "a.csv", '"label, final","text, short",long,2020\na,x,y,z\n')
    given = {"label_column": "label, final"}
    assert documents(path, text_column="text, short", **given) == [("a", "x")]
    assert documents(path, text_column='"text, short",long', **given) == [("a", "x y")]
    assert documents(path, text_column="2020", **given) == [("a", "z")]
    for number in ("²", "٣", "-1"):
        with pytest.raises(UserError, match=f"no text column '{number}'"):
            documents(path, text_column=number, **given)


def test_names_of_columns_that_are_none(tmp_path):
    path = put(tmp_path / "a.csv", CSV)
    for column in ("", " ", "a\nb"):
        for option in ("text_column", "label_column"):
            with pytest.raises(UserError, match=f"{option} must be the name or number of a column"):
                documents(path, **{option: column})
    path = put(tmp_path / "a.jsonl", '{"label": "a", "title": "x", "body": "y"}\n')
    assert documents(path, text_column="title, body") == [("a", "x y")]


def test_one_column_for_two_things(tmp_path):
    path = put(tmp_path / "a.csv", CSV)
    with pytest.raises(UserError, match="the label and the text are both column 'text'"):
        documents(path, label_column="text")
    with pytest.raises(UserError, match="--text-column text,1 names a column twice"):
        documents(path, text_column="text,1", label_column="label")


# --- labels -------------------------------------------------------------------------------------


@pytest.mark.parametrize("label", [1, 1.0, 2.5, True, "x", 1e20])
def test_a_label_has_one_name_in_every_format(tmp_path, label):
    rows = [{"label": label, "text": "x"}, {"label": label, "text": "y"}]
    put(tmp_path / "a.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    put(tmp_path / "a.json", json.dumps(rows))
    put(tmp_path / "a.csv", f"label,text\n{label},x\n{label},y\n")
    put(tmp_path / "a.txt", f"__label__{label} x\n__label__{label} y\n")
    pl.DataFrame(rows).write_parquet(tmp_path / "a.parquet")
    found = {path.suffix: documents(path) for path in sorted(tmp_path.iterdir())}
    assert len({str(each) for each in found.values()}) == 1, found


def test_labels_of_other_files_match_where_they_are_written_differently(tmp_path):
    train = put(tmp_path / "a.csv", "label,text\n" + "1,x\n2,y\n" * 10)
    other = put(tmp_path / "b.csv", "label,text\n1.0,x\n2.0,y\n")
    dataset = load_dataset({"train": train, "dev": other, "test": other})
    assert dataset.dev.labels.tolist() == [0, 1] == dataset.read_test().labels.tolist()
    # Where both are classes, each is its own.
    train = put(tmp_path / "c.csv", "label,text\n" + "1,x\n1.0,y\n1.5,z\n" * 10)
    with pytest.warns(UserWarning, match="the labels '1' and '1.0' are two classes"):
        dataset = load_dataset({"train": train, "dev": train})
    assert dataset.dev.labels[:3].tolist() == [0, 1, 2]


def test_white_space_around_labels_is_removed_and_told(tmp_path):
    path = put(tmp_path / "a.csv", "label,text\ngood,x\ngood ,y\n\u00a0good,z\n")
    with pytest.warns(UserWarning, match=r"a\.csv:3: white space around labels is removed \('good"):
        frame = pl.concat(list(read(path)))
    assert frame["label"].to_list() == ["good"] * 3


def test_a_label_that_is_a_text(tmp_path):
    path = put(tmp_path / "a.csv", f"label,text\na,x\n{'b ' * 600}b,y\n")
    with pytest.raises(UserError, match=r"a\.csv:3: the label has more than 1,000 characters"):
        documents(path)
    with pytest.raises(UserError, match="the iterable:1: the label has more than 1,000"):
        documents([("x" * 1001, "text")])


def test_reversed_columns_are_told_as_such(tmp_path):
    rows = "".join(f"document number {i},{i % 2}\n" for i in range(60))
    path = put(tmp_path / "a.csv", "label,text\n" + rows)
    with (
        pytest.warns(UserWarning, match="60 classes for 60 documents; is the right column the lab"),
        pytest.raises(UserError, match="60 documents of 60 classes are too few to cut a dev split"),
    ):
        load_dataset({"train": path})


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_labels_that_python_has_not_are_no_classes(tmp_path, missing):
    with pytest.raises(UserError, match="the iterable:2: the record has no label"):
        documents([("a", "x"), (missing, "y")])
    frame = pl.DataFrame({"label": [1.0, missing], "text": ["x", "y"]}, strict=False)
    with pytest.raises(UserError, match="the data frame:2: the record has no label"):
        documents(frame)
    frame.write_parquet(tmp_path / "a.parquet")
    with pytest.raises(UserError, match=r"a\.parquet:2: the record has no label"):
        documents(tmp_path / "a.parquet")
    path = put(tmp_path / "a.jsonl", '{"label": 1, "text": "x"}\n{"label": NaN, "text": "y"}\n')
    with pytest.raises(UserError, match=r"a\.jsonl:2: the record has no label"):
        documents(path)


# --- fastText, JSON, folders, several files -----------------------------------------------------


def test_labels_of_fasttext_end_at_any_white_space(tmp_path):
    path = put(tmp_path / "a.txt", "__label__pos\tgood movie\n  __label__neg  bad\n__label__x\n")
    assert documents(path) == [("pos", "good movie"), ("neg", " bad"), ("x", "")]
    for line in (
        "__label__a  __label__b x",
        "__label__a\t__label__b\tx",
        " __label__a __label__b x",
    ):
        assert documents(put(path, line)) == [(["a", "b"], "x")]
    assert documents(put(path, "__label__a\n__label__a  __label__b")) == [
        (["a"], ""),
        (["a", "b"], ""),
    ]
    for line in ("__label__a x __label__b", "__label__a\tx\t__label__b", "x __label__a"):
        with pytest.raises(UserError, match=r":1: the line has the mark __label__ within its text"):
            documents(put(path, line))


def test_a_json_array(tmp_path):
    path = tmp_path / "a.json"
    rows = [{"label": "a", "text": "x\ny"}, {"label": "b", "text": "z", "more": [1, {"a": None}]}]
    expected = [("a", "x\ny"), ("b", "z")]
    for indent in (None, 2):
        content = json.dumps(rows, indent=indent)
        assert documents(put(path, f"\ufeff  {content}\n\n")) == expected
        assert texts(path) == [text for _, text in expected]
    frame = pl.concat(list(read(path)))
    assert frame["line"].to_list() == [2, 6], "the lines in which the objects begin"
    for wrong, message in {
        '[{"label": "a", "text": "x"}': ":1: not JSON: expected ',' or ']'",
        '[{"label": "a", "text": "x"},]': ":1: not JSON: Expecting value",
        '[\n{"label": "a" "text": "x"}]': ":2: not JSON: Expecting ',' delimiter",
        '[{"label": "a", "text": "x"}] more': ":1: not JSON: something follows the array",
        '[\n"a"]': ":2: not a JSON record: not an object",
        "[]": "holds no documents",
        '{\n "label": "a"\n}': ":1: not a JSON record: .*an object per line is needed, or an array",
    }.items():
        with pytest.raises(UserError, match=message):
            documents(put(path, wrong))


def test_numbers_and_null_in_json(tmp_path):
    path = tmp_path / "a.jsonl"
    lines = '{"label": 1.50, "text": null}\n{"label": "x", "text": 10000000000000000000000}\n'
    assert documents(put(path, lines)) == [("1.50", ""), ("x", "10000000000000000000000")]
    with pytest.raises(UserError, match=r":1: the record has no label"):
        documents(put(path, '{"label": null, "text": "x"}\n'))
    with pytest.raises(UserError, match=r":1: 'text' has half of a surrogate pair"):
        documents(put(path, '{"label": "a", "text": "x\\ud83d y"}\n'))
    assert documents(put(path, '{"label": "a", "text": "\\ud83d\\ude00"}\n')) == [("a", "😀")]
    with pytest.raises(UserError, match=r":1: 'label' holds \['a'\]"):
        documents(put(path, '{"label": [["a"]], "text": "x"}\n'))


def test_what_is_not_a_persons_in_a_folder(tmp_path):
    for name in (
        "a/.ipynb_checkpoints/1-checkpoint.txt",
        "a/__pycache__/x.pyc",
        "a/deep/.hidden",
        "b/Thumbs.db",
        "b/desktop.ini",
        "__MACOSX/._x",
        "__pycache__/y",
        "a/1.txt",
        "b/2.txt",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        put(tmp_path / name, name)
    assert documents(tmp_path) == [("a", "a/1.txt"), ("b", "b/2.txt")]


def test_folders_that_are_no_classes(tmp_path):
    for name in ("train/pos/1.txt", "test/pos/1.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        put(tmp_path / name, "x")
    with pytest.raises(UserError, match="has the folders test, train: give each by its own option"):
        documents(tmp_path)
    (tmp_path / "files").mkdir()
    put(tmp_path / "files" / "a.csv", CSV)
    with pytest.raises(UserError, match="has no folder per class; give its files one by one"):
        documents(tmp_path / "files")


def test_several_files_are_one_source(tmp_path):
    files = (
        put(tmp_path / "a.csv", "label,text\na,x\nb,y\n" * 5),
        put(tmp_path / "b.jsonl", '{"label": "a", "text": "z"}\n' * 5),
    )
    assert len(documents(files)) == 15
    with pytest.raises(UserError, match=r"a\.csv is given twice"):
        documents((files[0], files[0]))
    cache = tmp_path / "cache"
    for _ in range(2):  # the second time from the cache
        dataset = load_dataset({"train": list(files)}, cache_dir=cache)
        assert len(dataset.train) + len(dataset.dev) == 15
        wrong = [files[0], put(tmp_path / "c.jsonl", '{"label": "new", "text": "z"}\n')]
        with pytest.raises(UserError, match=r"c\.jsonl:1: label 'new' does not occur"):
            load_dataset({"train": files, "dev": wrong}, cache_dir=cache)


def test_several_files_on_the_command_line(tmp_path):
    put(tmp_path / "a.csv", "label,text\n" + "a,x\nb,y\n" * 10)
    put(tmp_path / "b.tsv", "a\tz\nb\tu\n" * 10)
    command = "-m dlnotes train --train a.csv b.tsv --test b.tsv a.csv --epochs 1 --out run"
    for extra in ([], ["--config", "run/config.yaml", "--out", "again"]):
        arguments = command.split() if not extra else ["-m", "dlnotes", "train", *extra]
        done = subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert "(40 documents)" in done.stdout


# --- texts to classify --------------------------------------------------------------------------


def test_texts_to_classify_in_the_same_files(tmp_path):
    assert texts(put(tmp_path / "a.csv", "id;text\n1;x, y\n2;z\n"), separator=";") == ["x, y", "z"]
    assert texts(put(tmp_path / "a.txt", b"\xef\xbb\xbfone\r\n\r\ntwo")) == ["one", "", "two"]
    assert texts(put(tmp_path / "a.csv", 'text\n"x"\n\n"  "\n""\n')) == ["x", "  ", ""]
    path = put(tmp_path / "b.ft", "__label__a x y\n__label__b\tz\n")
    with pytest.warns(UserWarning, match="labels .* are removed from the texts"):
        assert texts(path) == ["x y", "z"]
    with pytest.raises(UserError, match=r"a\.csv:2: not UTF-8"):
        texts(put(tmp_path / "a.csv", b"text\n\xe9\n"))
    assert texts(tmp_path / "a.csv", encoding="latin-1") == ["é"]


def test_a_pipe_is_not_waited_for(tmp_path):
    import os

    os.mkfifo(tmp_path / "a.csv")
    with pytest.raises(UserError, match="a pipe or a device; save what comes from it into a file"):
        documents(tmp_path / "a.csv")
    with pytest.raises(UserError, match=r"cannot be read|does not exist"):
        documents(Path("a\0.csv"))


# --- found by those who tried to break it -------------------------------------------------------


def test_two_stray_quotation_marks_swallow_no_documents_of_tsv(tmp_path):
    rows = 'pos\t"A bold start\nneg\tdull\npos\tfine\nneg\tthe end"\nneg\tbad\n'
    path = put(tmp_path / "a.tsv", rows)
    assert len(documents(path)) == 5
    assert texts(path) == ['"A bold start', "dull", "fine", 'the end"', "bad"]
    assert len(documents(path, quoting="yes")) == 2
    # Beyond what the decision is made on there is no silence: neither in training nor elsewhere.
    quoted = 'pos\t"a ""word"""\n' + "neg\tx\n" * 400_000
    put(path, quoted + rows)
    for reader in (documents, texts):
        with pytest.raises(UserError, match=r":400002: .*closed some records later .*--quoting no"):
            reader(path)
    assert len(documents(path, quoting="no")) == len(texts(path, quoting="no")) == 400_006


def test_quotation_marks_of_csv_that_are_part_of_the_texts(tmp_path):
    path = put(tmp_path / "a.csv", 'label,text\na,"open\nb,x\n')
    assert documents(path, quoting="no") == [("a", '"open'), ("b", "x")]


def test_separators_of_every_kind(tmp_path):
    path = put(tmp_path / "a.csv", "label text\na x\nb y\n")
    assert documents(path, separator=" ") == [("a", "x"), ("b", "y")]
    path = put(tmp_path / "b.csv", "sep=;\nlabel;text\na;x, y\n")
    assert documents(path) == [("a", "x, y")]
    assert pl.concat(list(read(path)))["line"].to_list() == [3]
    path = put(tmp_path / "c.tsv", "sep=\t\nlabel\ttext\na\tx\n")
    assert documents(path) == [("a", "x")]
    for name in ("a.tsv", "b.tsv"):
        path = put(tmp_path / name, "label,text\na,x\nb,y\n")
        with pytest.warns(UserWarning, match="fields are separated by ','"):
            assert pl.concat(list(read(path)))["text"].to_list() == ["x", "y"]
    rows = "".join(f"{'good' if i % 2 else 'bad'};well, text {i}\n" for i in range(9))
    path = put(tmp_path / "c.csv", rows)
    with pytest.warns(UserWarning, match="separated by ';'"):
        frame = pl.concat(list(read(path, label_column="0", text_column="1")))
    assert frame["label"].unique().sort().to_list() == ["bad", "good"]


def test_half_a_surrogate_pair_is_told_wherever_it_comes_from(tmp_path):
    with pytest.raises(UserError, match="record 2: half of a surrogate pair"):
        documents([("a", "x"), ("b", "\ud800")])
    path = put(tmp_path / "a.csv", "label,text\na,x\nb,\\ud800\n")
    with pytest.raises(UserError, match=r"a\.csv:3: half of a surrogate pair"):
        documents(path, encoding="unicode_escape")


def test_messages_are_not_as_long_as_files(tmp_path):
    for content in ("x" * (1 << 20), ",".join(f"column {i}" for i in range(5000))):
        with pytest.raises(UserError) as raised:
            documents(put(tmp_path / "a.csv", f"{content}\n1\n"))
        assert len(str(raised.value)) < 1000


def test_spellings_of_a_label_that_are_two_classes_are_told(tmp_path):
    path = put(tmp_path / "a.csv", "label,text\n" + "Good,x\ngood,y\n" * 10)
    with pytest.warns(UserWarning, match="the labels 'Good' and 'good' are two classes"):
        load_dataset({"train": path})


def test_a_class_folder_whose_name_is_no_text(tmp_path):
    import os

    folder = tmp_path / os.fsdecode(b"b\xff")
    for place in (tmp_path / "a", folder):
        try:
            place.mkdir()
        except OSError:
            pytest.skip("the file system has UTF-8 names alone")
        put(place / "1.txt", "x")
    with pytest.raises(UserError, match="has a folder whose name is not UTF-8"):
        load_dataset({"train": tmp_path})


def test_rows_of_empty_fields_stay_rows_where_texts_are_classified(tmp_path):
    for name, separator in (("a.csv", ","), ("a.tsv", "\t")):
        path = put(
            tmp_path / name, f"text{separator}n\nx{separator}1\n{separator}\n\ny{separator}2\n"
        )
        assert texts(path) == ["x", "", "y"]


def test_names_of_columns_that_became_a_text_are_told(tmp_path):
    rows = [("id", "review"), ("1", "good and nice"), ("2", "bad and sad")]
    for name, separator in (("a.csv", ","), ("a.tsv", "\t")):
        path = put(tmp_path / name, "".join(f"{separator.join(row)}\n" for row in rows))
        with pytest.warns(UserWarning, match="the first record is read as a text; .*--header yes"):
            assert texts(path, text_column="1") == ["review", "good and nice", "bad and sad"]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert texts(path, text_column="1", header="yes") == ["good and nice", "bad and sad"]
            assert len(texts(path, text_column="1", header="no")) == 3
            put(path, "".join(f"{separator.join(row)}\n" for row in rows[1:]))
            assert len(texts(path, text_column="1")) == 2


def test_training_and_prediction_decide_alike_whether_tsv_is_quoted(tmp_path):
    """By the same beginning of the file, although their blocks are not equally large."""
    quoted = 'good\t"two\nlines"\nbad\t"a ""word"""\n'
    path = put(tmp_path / "a.tsv", "good\tx\n" * 5000 + quoted)
    assert len(documents(path)) == len(texts(path)) == 5002
    path = put(tmp_path / "b.tsv", "good\tsome words\n" * 400_000 + 'bad\t"a ""word"""\n')
    assert path.stat().st_size > 1 << 22
    assert documents(path)[-1][1] == texts(path)[-1] == '"a ""word"""'


def test_auto_is_what_nothing_is(tmp_path):
    path = put(tmp_path / "a.csv", "label,text\n" + "a,x\nb,y\n" * 5)
    auto = dict.fromkeys(("header", "separator", "quoting", "encoding"), "auto")
    assert (
        load_dataset({"train": path}, **auto).described == load_dataset({"train": path}).described
    )


# --- bounds of what is held in memory -----------------------------------------------------------


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_line_that_never_ends_is_refused_with_its_number(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(streams, "LONGEST", 100_000)
    content = b"good\ta\nbad\tb\n" + b"x" * 300_000
    path = put(tmp_path / f"a.tsv{suffix}", gzip.compress(content) if suffix else content)
    with pytest.raises(UserError, match=r"a\.tsv.*:3: a line of more than 100,000 characters"):
        list(text_blocks(path, block_bytes=1))
    with pytest.raises(UserError, match="a line of more than 100,000 characters"):
        list(text_blocks(put(tmp_path / "b.txt", "x" * 1_200_000)))
    assert "".join(text for _, text in text_blocks(put(tmp_path / "c.txt", "x" * 100_000))) == (
        "x" * 100_000
    )


def test_a_field_of_csv_that_never_ends_is_refused(tmp_path, monkeypatch):
    """No line of it is long, but its quotation mark makes one field of them."""
    monkeypatch.setattr(formats, "LONGEST", 5000)
    before = csv.field_size_limit(1000)
    try:
        start = 'label,text\ngood,"fine"\nbad,"'
        assert len(documents(put(tmp_path / "a.csv", start + "word\n" * 900 + '"\n'))) == 2
        path = put(tmp_path / "b.csv", start + "word\n" * 1100 + '"\n')
        with pytest.raises(UserError, match=r"b\.csv:3: .*not closed \(or the field is too long\)"):
            documents(path)
    finally:
        csv.field_size_limit(before)


@pytest.mark.parametrize("kind", ["csv", "tsv"])
def test_columns_have_a_bound(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(formats, "MAX_COLUMNS", 5)
    separator = {"csv": ",", "tsv": "\t"}[kind]

    def table(columns):
        names = ["label", "text", *(f"c{i}" for i in range(columns - 2))]
        rows = [
            names,
            ["good", "fine", *"x" * (columns - 2)],
            ["bad", "dull", *"y" * (columns - 2)],
        ]
        return put(tmp_path / f"a.{kind}", "".join(separator.join(row) + "\n" for row in rows))

    assert documents(table(5)) == [("good", "fine"), ("bad", "dull")]
    with pytest.raises(UserError, match=r":1: 6 columns; allowed: at most 5\. Is the separator"):
        documents(table(6))


def test_a_file_that_is_read_as_a_whole_has_a_bound(tmp_path, monkeypatch):
    monkeypatch.setattr(streams, "LARGEST_WHOLE", 200)
    rows = [{"label": label, "text": text} for label, text in DOCUMENTS]
    array = put(tmp_path / "a.json", json.dumps(rows))
    assert documents(array) == DOCUMENTS
    refused = (
        "has more than 200 characters, and must be read as a whole; give a file with one record"
    )
    with pytest.raises(UserError, match=refused):
        documents(put(tmp_path / "b.json", json.dumps(rows * 10)))
    for label in ("good", "bad"):
        (tmp_path / "classes" / label).mkdir(parents=True)
        put(tmp_path / "classes" / label / "1.txt", "x" * 200)
    assert len(documents(tmp_path / "classes")) == 2
    put(tmp_path / "classes" / "good" / "2.txt", "x" * 201)
    with pytest.raises(UserError, match=refused):
        documents(tmp_path / "classes")


# --- what swallowed, or was taken for something else ----------------------------------------------


SWALLOWED = (
    'text,label\n"Hello he said,good\nfine movie,bad\nanother one,good\n'
    'the end" she wrote,bad\nlast,good\nlast two,bad\n'
)


def test_two_stray_quotation_marks_swallow_no_records_of_csv(tmp_path):
    path = put(tmp_path / "a.csv", SWALLOWED)
    expected = ['"Hello he said', "fine movie", "another one", 'the end" she wrote']
    told = r"a\.csv:2: a quotation mark opens a field, and the next one, some lines later, is not"
    for block_bytes in (1, 1 << 20):
        with pytest.warns(UserWarning, match=told):
            found = pl.concat(list(read(path, block_bytes=block_bytes)))
        assert found["text"].to_list() == [*expected, "last", "last two"]
        assert found["line"].to_list() == [2, 3, 4, 5, 6, 7]
        with pytest.warns(UserWarning, match=told):
            assert texts(path, block_bytes=block_bytes) == [*expected, "last", "last two"]
    # The same where only one line is swallowed, beside fields that are quoted properly, in the last
    # column, without a header, and several times.
    rows = 'good,"a, b"\nbad,"5 inches\ngood,10" wide\nbad,"two\nlines"\ngood,"he\nbad,she" x\n'
    with pytest.warns(UserWarning, match=r"b\.csv:3: a quotation mark opens a field") as told_once:
        assert texts(put(tmp_path / "b.csv", f"label,text\n{rows}")) == [
            *("a, b", '"5 inches', '10" wide', "two\nlines", '"he', 'she" x')
        ]
    assert len(told_once) == 1
    with pytest.warns(UserWarning, match=r"c\.csv:2: a quotation mark opens a field"):
        assert len(texts(put(tmp_path / "c.csv", rows), header="no")) == 6


PASTED = {
    "records": "name,class\nfirst,a\nsecond,b",
    "closed at the end": 'he said "so",a\nand "no",b\n',
    "a mark at its start": '"quoted" words,a\nand others',
    "only marks": '""\n"',
    "many lines": "\r\n".join(f"x{i},y{i}" for i in range(50)),
    "blank lines": "a\n\n\nb,c\n",
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("text", PASTED)
@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("end", ["\n", "\r\n", ""])
def test_a_text_that_holds_csv_is_one_text(tmp_path, text, place, end):
    field = '"' + PASTED[text].replace('"', '""') + '"'
    line_end = end or "\n"
    row = ",".join((field, "good")[:: 1 - 2 * place])
    header = ",".join(("text", "label")[:: 1 - 2 * place])
    path = put(tmp_path / "a.csv", f"{header}{line_end}{row}{line_end}{row}{end}")
    for block_bytes in (1, 1 << 20):
        assert documents(path, block_bytes=block_bytes) == [("good", PASTED[text])] * 2
    assert texts(path) == [PASTED[text]] * 2


def test_a_text_that_seems_to_hold_records_is_told(tmp_path):
    """Whether it does cannot be decided where both marks are where CSV has them."""
    rows = 'good,x\nbad,y\ngood,"He left.\nbad,a dull film\ngood,the end"\nbad,z\n'
    path = put(tmp_path / "a.csv", f"label,text\n{rows}")
    told = r"a\.csv:4: a field between quotation marks holds a line that looks like a record of its"
    for block_bytes in (1, 1 << 20):
        with pytest.warns(UserWarning, match=told):
            assert sum(each.height for each in read(path, block_bytes=block_bytes)) == 4
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(documents(path, quoting="yes")) == 4
        assert len(documents(path, quoting="no")) == 6


def test_text_after_a_closing_mark_joins_a_field_of_lines_that_are_no_records(tmp_path):
    """As Python and pandas read it."""
    path = put(tmp_path / "a.csv", 'label,text\ngood,x\n"two\nlines" more,y\n')
    assert documents(path) == [("good", "x"), ("two\nlines more", "y")]


TWICE = {
    "of no use here": ('{"text":"a","x":1,"x":2}', "x"),
    "as it is and escaped": ('{"text":"a","a/b":"x","a\\/b" : "y"}', "a/b"),
    "the text": ('{"text":"a","t\\u0065xt":"b"}', "text"),
    "a quotation mark": ('{"text":"a","\\"":"x","\\u0022":"y"}', '"'),
    "a label": ('{"label":"x","text":"a","label":"x"}', "label"),
    "with white space": ('{"text":"a","x" :1, "x"\t: 1}', "x"),
    "with a carriage return": ('{"text":"a","x"\r:1,"x":1}', "x"),
    "the empty key": ('{"text":"a","":1,"":1}', ""),
}
ONCE = [
    '{"text":"\\"x\\":1 \\"x\\":","x":{"x":1,"y":[{"x":1},{"x":2}]},"y":"\\"y\\":"}',
    '{"text":":","x":":x","y":":x\\\\"}',
    '{"x":"a\\\\","text":"","\\\\":":"}',
]


@pytest.mark.parametrize("made", TWICE)
@pytest.mark.parametrize("array", [False, True])
def test_a_key_twice_is_refused_where_whole_records_are_carried_on(tmp_path, made, array):
    record, key = TWICE[made]
    rows = ['{"text":"b","z":0}', *ONCE, record]
    content = f"[{','.join(rows)}]" if array else "\n".join(rows)
    path = put(tmp_path / "a.jsonl", content)
    with pytest.raises(UserError, match=rf"a\.jsonl:{1 if array else 5}: the record has .* twice"):
        texts(path)
    try:
        texts(path)
    except UserError as error:
        assert f"has {key!r} twice" in str(error)  # noqa: PT017
    assert texts(put(path, "\n".join(rows[:-1]))) == ["b", '"x":1 "x":', ":", ""]


def test_a_blank_text_between_marks_at_the_start_is_a_text(tmp_path):
    path = put(tmp_path / "a.csv", '""\n"a"\n""\nb\n')
    assert texts(path, header="no") == ["", "a", "", "b"]
    assert texts(put(path, '""\na\n'), header="no") == ["", "a"]
    assert texts(put(path, '""\n' * 3), header="no") == [""] * 3


def test_a_blank_line_between_marks_above_columns_is_left_out(tmp_path):
    path = put(tmp_path / "a.csv", '""\nlabel,text\ngood,a film\nbad,b film\n')
    assert documents(path) == [("good", "a film"), ("bad", "b film")]
    assert texts(path) == ["a film", "b film"]
    assert texts(put(path, '""\ntext\nhello there\n')) == ["hello there"]
    assert texts(put(path, '""\n1,a b\n'), header="no", text_column="1") == ["a b"]
    with pytest.raises(UserError, match="is empty: it holds no texts"):
        texts(put(path, '""\n'))


def test_a_key_twice_is_noticed_in_every_spelling(tmp_path):
    path = put(tmp_path / "a.jsonl", '{"label":"x","a/b":"x","a\\/b":"y"}\n')
    with pytest.raises(UserError, match=r"a\.jsonl:1: the record has 'a/b' twice"):
        documents(path, text_column="a/b")


@pytest.mark.parametrize("array", [False, True])
def test_json_that_is_nested_too_deeply(tmp_path, array):
    deep = '{"label":"a","text":1.0,"x":' + "[" * 100_000 + "]" * 100_000 + "}"
    path = put(tmp_path / "a.jsonl", f"[{deep}]" if array else deep)
    for reader in (documents, texts):
        with pytest.raises(UserError, match=r"a\.jsonl:1: nested too deeply to be read$"):
            reader(path)


def test_a_record_without_fields(tmp_path):
    with pytest.raises(UserError, match=r":1: no text column 'text'; the record has no fields$"):
        texts(put(tmp_path / "a.jsonl", "{}\n"))


LIKE_NO_TEXT = [
    *("ORCID,text\n1,a\x1b[0m b", "ORC\x1b[0m", "ORC", "ORC\na\nb\x1b", "PAR1 birdie\x1b"),
    *("FEA1\x1b", "GIF89a files\x1b", "GIF87a", "RIFFabcdWAVE", "RIFFabcdAVI ", "RIFFabcdWEBP"),
    *("DONALD, DUCK", "DONALD, DUCK\x01\x02", f"{'a' * 257}ustar", f"{'a' * 256} ustar\x07 pot"),
    *("BM1234", "MZ" + "x" * 60, "Obj", "ID3", "Rar!", "SQLite format 3", "II*", "\x08", "fLaC"),
]


@pytest.mark.parametrize("start", LIKE_NO_TEXT)
@pytest.mark.parametrize("control", ["\x1b[31m", "\x08", "\x7f", "\x0e\x0f", "\x01", "\0"])
def test_text_with_control_characters_is_not_taken_for_a_file_of_that_kind(
    tmp_path, start, control
):
    content = f"{start},text {control} with words in it\n{'x,word ' * 50}\n"
    assert len(texts(put(tmp_path / "a.txt", content))) == content.count("\n")


STRUCTURES = {
    "wav": (b"RIFF\x24\x08\0\0WAVEfmt \x10\0\0\0\1\0\1\0", "a recording"),
    "avi": (b"RIFF\x24\x08\0\0AVI LIST\xc0\0\0\0hdrl", "a recording"),
    "webp": (b"RIFF\x24\x08\0\0WEBPVP8 \x18\x08\0\0", "an image"),
    "gif": (b"GIF89a\x28\0\x28\0\xe7\xf6\0\xea\xec", "an image"),
    "duckdb": (b"\x17\x3c\x1b\xdb\x38\x16\xd4\xeaDUCK\x40" + bytes(20), "a database"),
    "feather": (b"FEA1\0\0\0\0\xff\xff\xff\xff", "an Arrow file"),
    "orc": (b"ORC\x1d\0\0\x0a\x13\x0a\x03", "a file of ORC or Avro"),
    "plain orc": (b"ORC\n\x13\n\x03\0\0\0\x12\x0c", "a file of ORC or Avro"),
    "avro": (b"Obj\x01\x02\x16avro.schema", "a file of ORC or Avro"),
    "id3": (b"ID3\3\0\0\0\0\0\x21TIT2", "a recording"),
}


@pytest.mark.parametrize("kind", STRUCTURES)
def test_kinds_whose_marks_are_letters(tmp_path, kind):
    start, told = STRUCTURES[kind]
    with pytest.raises(UserError, match=rf"a\.csv is .*{told}"):
        documents(put(tmp_path / "a.csv", start + bytes(300)))


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_form_of_tar(tmp_path, form):
    with tarfile.open(fileobj=(file := io.BytesIO()), mode="w", format=form) as packed:
        member = tarfile.TarInfo("é" * 45)
        member.size = 4
        packed.addfile(member, io.BytesIO(b"a,b\n"))
    with pytest.raises(UserError, match="is a tar archive: unpack it"):
        documents(put(tmp_path / "a.csv", file.getvalue()))


SPARSE_NULLS = [
    *("\x1b[31mred\x1b[0m\0\nsecond line\n", "\x01[31mred\x01[0m\0\nsecond line\n"),
    *("a\0\nb\x1b\n", "\x02start\x03\0\n\x02next\x03\0\n"),
    *("1\t0\t1\t1\t0\t1", "a\nb\nc\nd", "\x1b[1mb\x1b[0m\0\n" * 5, "\x0c\x0ca\0\n"),
]


@pytest.mark.parametrize("content", SPARSE_NULLS)
def test_utf_8_with_few_nulls_is_not_another_encoding(tmp_path, content):
    found = texts(put(tmp_path / "a.txt", content))
    assert found == content.removesuffix("\n").split("\n")


ONE_LINE = {
    "arabic": "فيلم رائع جدا، أنصح بمشاهدته",
    "an arabic word": "جيدجدا",
    "hindi": "यह फिल्म बहुत अच्छी है",
    "thai": "ภาพยนตร์เรื่องนี้ดีมาก",
    "russian": "очень хороший фильм",
    "greek": "πολύ καλή ταινία",
    "hebrew": "סרט טוב מאוד",
    "georgian": "ძალიან კარგი ფილმი",
}


@pytest.mark.parametrize("encoding", WIDE)
@pytest.mark.parametrize("language", ONE_LINE)
def test_a_line_without_an_end_in_another_encoding_is_told(tmp_path, language, encoding):
    with pytest.raises(UserError, match=looks_like(encoding)):
        texts(put(tmp_path / "a.txt", ONE_LINE[language].encode(encoding)))
    assert texts(put(tmp_path / "b.txt", ONE_LINE[language])) == [ONE_LINE[language]]


def test_a_zip_file_whose_member_has_an_odd_name(tmp_path):
    path = tmp_path / "a.zip"
    for name in (".hidden.csv", "__MACOSX/a.csv", "Thumbs.db"):
        told = (
            rf"a\.zip has only hidden files or an operating system's own in it \({name}\); unpack"
        )
        with pytest.raises(UserError, match=told):
            documents(put(path, archive(name)))
    with pytest.raises(UserError, match=r"6 files in it \(0, 1, 2, 3, 4, …\), where one is needed"):
        documents(put(path, archive(*"012345")))
    with zipfile.ZipFile(path, "w") as packed:  # it is read, and nothing is written anywhere
        packed.writestr("../../etc/r.csv", CSV)
    assert documents(path) == DOCUMENTS


def test_a_folder_where_a_file_is_needed(tmp_path):
    with pytest.raises(UserError, match=rf"^{tmp_path} is a folder; give a file$"):
        texts(tmp_path)


NO_PARQUET = {
    "empty": (lambda: b"", r"a\.parquet is empty: it holds no records$"),
    "text": (lambda: CSV.encode(), "not a readable Parquet file: "),
    "cut": (lambda: _parquet()[:50], "not a readable Parquet file: "),
    "compressed": (lambda: gzip.compress(_parquet()), "Parquet is read uncompressed only: decomp"),
    "zipped": (lambda: archive("a.csv"), r"not a Parquet file but a compressed one \(\.zip\)"),
    "text.gz": (lambda: gzip.compress(CSV.encode()), r"name it .*, for example \.csv\.gz$"),
    "two": (lambda: archive("a", "b"), "has 2 files in it"),
    **{kind: NO_TEXT[kind] for kind in ("xlsx", "png", "arrow", "tar.gz", "npz", "pdf", "twice")},
}


@pytest.mark.parametrize("kind", NO_PARQUET)
def test_what_is_no_parquet_is_told(tmp_path, kind):
    make, told = NO_PARQUET[kind]
    path = put(tmp_path / "a.parquet", make())
    for reader in (documents, texts):
        with pytest.raises(UserError, match=rf"a\.parquet.*{told}|{told}"):
            reader(path)
