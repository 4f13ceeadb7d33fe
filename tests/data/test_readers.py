"""The same four documents in every format that people have, and every way to get one wrong."""

import gzip
import json
from pathlib import Path

import polars as pl
import pytest

from dlnotes.data.readers import read
from dlnotes.errors import UserError

LABELS = ["pos", "neg", "pos", "neg"]
TEXTS = ['She said "good", twice.', "not good 中文", "  spaces  kept ", ""]
DOCUMENTS = list(zip(LABELS, TEXTS, strict=True))


def quoted(text):
    return '"' + text.replace('"', '""') + '"'


def write_csv(path, header=True):
    rows = [f"7,{label},{quoted(text)}" for label, text in DOCUMENTS]
    path.write_text("\n".join((["id,label,text"] if header else []) + rows) + "\n", "utf-8")


def write_tsv(path):
    path.write_text("".join(f"{label}\t{text}\n" for label, text in DOCUMENTS), "utf-8")


def write_tsv_with_header(path):
    rows = [f"7\t{text}\t{label}\n" for label, text in DOCUMENTS]
    path.write_text("id\ttext\tlabel\n" + "".join(rows), "utf-8")


def write_jsonl(path):
    rows = [json.dumps({"text": text, "label": label, "id": [7]}) for label, text in DOCUMENTS]
    path.write_text("\n".join(rows), "utf-8")


def write_fasttext(path):
    path.write_text("".join(f"__label__{label} {text}\n" for label, text in DOCUMENTS), "utf-8")


def write_parquet(path):
    pl.DataFrame({"id": 7, "label": LABELS, "text": TEXTS}).write_parquet(path)


WRITERS = {
    "a.csv": write_csv,
    "a.tsv": write_tsv,
    "b.tsv": write_tsv_with_header,
    "a.jsonl": write_jsonl,
    "a.ndjson": write_jsonl,
    "a.txt": write_fasttext,
    "a.ft": write_fasttext,
    "a.parquet": write_parquet,
}


def documents(source, **options):
    frame = pl.concat(list(read(source, **options)))
    return list(zip(frame["label"], frame["text"], strict=True))


@pytest.mark.parametrize("block_bytes", [40, 1 << 20])
@pytest.mark.parametrize("name", [*WRITERS, *(f"{n}.gz" for n in WRITERS if "parquet" not in n)])
def test_every_format_gives_the_same_documents(tmp_path, name, block_bytes):
    path = tmp_path / name.removesuffix(".gz")
    WRITERS[path.name](path)
    if name.endswith(".gz"):
        packed = tmp_path / name
        packed.write_bytes(gzip.compress(path.read_bytes()))
        path = packed
    assert documents(path, block_bytes=block_bytes) == DOCUMENTS


def test_folder_with_a_folder_per_class(tmp_path):
    for i, (label, text) in enumerate(DOCUMENTS):
        (tmp_path / label).mkdir(exist_ok=True)
        (tmp_path / label / f"{i}.txt").write_text(text, "utf-8")
    assert sorted(documents(tmp_path)) == sorted(DOCUMENTS)
    assert sorted(documents(tmp_path, block_bytes=1)) == sorted(DOCUMENTS)


def test_iterables_of_pairs_and_data_frames():
    assert documents(iter(DOCUMENTS)) == DOCUMENTS
    assert documents([(1, "a"), (2, "b")]) == [("1", "a"), ("2", "b")]
    assert documents(pl.DataFrame({"text": ["x"], "label": [3]})) == [("3", "x")]
    with pytest.raises(UserError, match=r"pairs \(label, text\)"):
        documents(["just a text"])
    with pytest.raises(UserError, match="no column 'label'"):
        documents(pl.DataFrame({"text": ["x"]}))


@pytest.mark.parametrize("columns", [("label", "text"), ("1", "2"), ("LABEL", "Text")])
def test_columns_by_name_and_number(tmp_path, columns):
    label, text = columns
    with_header = not label.isdigit()
    write_csv(tmp_path / "a.csv", header=with_header)
    assert documents(tmp_path / "a.csv", label_column=label, text_column=text) == DOCUMENTS


def test_several_text_columns_are_joined(tmp_path):
    path = tmp_path / "ag.csv"
    path.write_text('"3","Title","First ""line""\nsecond"\n"4","B","C"\n')
    found = documents(path, label_column="0", text_column="1,2")
    assert found == [("3", 'Title First "line"\nsecond'), ("4", "B C")]


def test_lines_are_those_of_the_file(tmp_path):
    tsv = tmp_path / "a.tsv"
    tsv.write_text("\na\tx\n\n\nb\ty\n")
    assert pl.concat(list(read(tsv)))["line"].to_list() == [2, 5]
    csv = tmp_path / "a.csv"
    csv.write_text('label,text\na,"two\nlines"\n\nb,y\nc,"z"\n')
    for block_bytes in (8, 1 << 20):
        frame = pl.concat(list(read(csv, block_bytes=block_bytes)))
        assert frame["line"].to_list() == [2, 5, 6]
        assert frame["text"].to_list() == ["two\nlines", "y", "z"]


def test_tabs_in_a_text_and_windows_line_ends(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_bytes(b"\xef\xbb\xbfa\tone\ttwo\r\nb\tthree\r\n")
    assert documents(path) == [("a", "one\ttwo"), ("b", "three")]


BROKEN = {
    "missing": ("a.tsv", None, "does not exist"),
    "unknown kind": ("a.docx", b"x", "unknown kind of file"),
    "empty": ("a.tsv", b"", "holds no documents"),
    "blank lines only": ("a.tsv", b"\n\n", "holds no documents"),
    "header only": ("a.csv", b"label,text\n", "holds no documents"),
    "empty csv": ("a.csv", b"", "holds no documents"),
    "not UTF-8, tsv": ("a.tsv", b"a\tx\nb\t\xe9t\xe9\n", r"a\.tsv:2: not UTF-8 \(byte 0xe9\)"),
    "not UTF-8, csv": ("a.csv", b"label,text\na,x\nb,\xe9\n", r"a\.csv:3: not UTF-8"),
    "not UTF-8, jsonl": ("a.jsonl", b'{"label":"\xe9"}\n', r"a\.jsonl:1: not UTF-8"),
    "too few fields, tsv": ("a.tsv", b"a\tx\nb\n", r"a\.tsv:2: too few fields \(1 where 2"),
    "too few fields, first": ("a.tsv", b"b\na\tx\n", r"a\.tsv:1: too few fields"),
    "too few fields, csv": ("a.csv", b"label,text\na,x\nb\n", r"a\.csv:3: too few fields \(1"),
    "too many fields, csv": ("a.csv", b"label,text\na,x\nb,y,z\n", r"a\.csv:3: too many fields"),
    "open quote": ("a.csv", b'label,text\na,x\nb,"y\n', r"a\.csv:3: not CSV"),
    "missing column": ("a.csv", b"klass,text\na,x\n", None),
    "other header": (
        "a.csv",
        b"sentiment,review\na,x\n",
        "no columns 'label' and 'text' among sent",
    ),
    "half a header": (
        "a.tsv",
        b"sentence\tlabel\nx\ta\n",
        "no text column 'text'; the file has: sent",
    ),
    "no label": ("a.tsv", b"a\tx\n\tx\n", r"a\.tsv:2: the record has no label"),
    "broken json": ("a.jsonl", b'{"label":"a","text":"x"}\n{"label"\n', r"a\.jsonl:2: not a JSON"),
    "json list": ("a.jsonl", b"[1]\n", r"a\.jsonl:1: not a JSON record: not an object"),
    "json key": ("a.jsonl", b'{"label":"a","body":"x"}\n', r":1: no text column 'text'.*body"),
    "not marked": ("a.txt", b"__label__a x\nhello\n", r"a\.txt:2: the line does not begin with"),
    "two labels": ("a.txt", b"__label__a __label__b x\n", r"a\.txt:1: the line has several labels"),
    "not parquet": ("a.parquet", b"PAR1", "not a readable Parquet file"),
    "not gzip": ("a.tsv.gz", b"a\tx\n", "broken gzip file"),
    "cut gzip": ("a.tsv.gz", gzip.compress(b"a\tx\n" * 9999)[:40], "broken gzip file"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_bad_files_are_told_by_name_and_line(tmp_path, case):
    name, content, message = BROKEN[case]
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    options = {"label_column": "label"} if message is None else {}
    with pytest.raises(UserError, match=message or "no label column 'label'; the file has: klass"):
        documents(path, **options)


def test_a_column_number_beyond_the_last(tmp_path):
    write_tsv(tmp_path / "a.tsv")
    with pytest.raises(UserError, match="no text column '5'; the file has: columns 0 to 1"):
        documents(tmp_path / "a.tsv", text_column="5")


def test_real_sets_are_read_whole(shared_data: Path):
    """Every record of the README's counts, none split or lost."""
    sizes = {"trec": (5452, 500), "mr": (7108, 3554), "r52": (6532, 2568)}
    for name, counts in sizes.items():
        for split, count in zip(("train", "test"), counts, strict=True):
            path = next((shared_data / name).glob(f"{split}.tsv*"))
            assert sum(frame.height for frame in read(path)) == count
