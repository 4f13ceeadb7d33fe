"""The same four documents in every format that people have, and every way to get one wrong."""

import gzip
import json
from pathlib import Path

import polars as pl
import pytest

from dlnotes.data.layout import Layout
from dlnotes.data.readers import check_readable, first_documents, read
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


@pytest.mark.parametrize("name", [name for name in WRITERS if "parquet" not in name])
def test_a_file_comes_in_blocks_of_whole_records_with_their_lines(tmp_path, name):
    """Memory stays small, and a message about a later block still names the right line."""
    WRITERS[name](tmp_path / name)
    at_once = list(read(tmp_path / name))
    whole = pl.concat(at_once)
    parts = list(read(tmp_path / name, block_bytes=40))
    assert len(parts) > len(at_once)
    assert pl.concat(parts).equals(whole)
    header = name in ("a.csv", "b.tsv")
    assert whole["line"].to_list() == [header + i for i in (1, 2, 3, 4)]


def test_a_suffix_in_capitals(tmp_path):
    random = "\n".join(f"a\t{i * 7919 % 10007}" for i in range(3000))
    (tmp_path / "DATA.TSV.GZ").write_bytes(gzip.compress(random.encode()))
    assert len(documents(tmp_path / "DATA.TSV.GZ", block_bytes=64)) == 3000


def test_parquet_goes_in_slices_and_has_lines(tmp_path):
    n = (3 << 17) + 1
    frame = pl.DataFrame({"label": ["a"] * n, "text": [str(i) for i in range(n)]})
    frame.write_parquet(tmp_path / "a.parquet")
    parts = list(read(tmp_path / "a.parquet"))
    heights = [part.height for part in parts]
    assert heights[:8] == [1 << i for i in range(10, 18)]
    assert max(heights) == 1 << 17
    whole = pl.concat(parts)
    assert whole["text"].to_list() == frame["text"].to_list()
    assert whole["line"].to_list() == list(range(1, n + 1))


def test_parquet_that_is_much_smaller_than_its_text_goes_in_blocks_of_its_text(tmp_path):
    texts = [str(i) * 1000 for i in range(10, 30)]
    frame = pl.DataFrame({"label": ["a"] * 20_000, "text": texts * 1000})
    frame.write_parquet(tmp_path / "a.parquet")
    assert (tmp_path / "a.parquet").stat().st_size < 400_000  # of 40 MB
    parts = list(read(tmp_path / "a.parquet", block_bytes=1 << 20))
    assert max(part["text"].str.len_bytes().sum() for part in parts) < 3 << 20
    assert len(parts) < 60
    assert pl.concat(parts)["text"].equals(frame["text"])


@pytest.mark.parametrize("name", ["p[1].parquet", "p*.parquet", "[x]/p.parquet"])
def test_a_parquet_file_whose_name_looks_like_a_pattern_is_itself(tmp_path, name):
    """Polars would read the files that the name matches."""
    for file, text in ((name, "right"), ("p1.parquet", "wrong"), ("x/p.parquet", "wrong")):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        pl.DataFrame({"label": ["a"], "text": [text]}).write_parquet(tmp_path / file)
    assert documents(tmp_path / name) == [("a", "right")]


def test_parts_without_documents_are_passed_over_and_told(tmp_path):
    """Programs that write in parts leave such ones."""
    for name, text in (("0.csv", ""), ("1.csv", "label,text\na,x\n"), ("2.csv", "label,text\n")):
        (tmp_path / name).write_text(text)
    pl.DataFrame({"label": [], "text": []}, {"label": pl.String, "text": pl.String}).write_parquet(
        tmp_path / "3.parquet"
    )
    with pytest.warns(UserWarning, match="holds no documents") as told:
        assert documents(tmp_path / "*") == [("a", "x")]
    names = [str(each.message).split()[0] for each in told]
    assert names == [str(tmp_path / name) for name in ("0.csv", "2.csv", "3.parquet")]
    firsts = list(first_documents([tmp_path / "*"], Layout()))
    assert [name for name, _ in firsts] == [str(tmp_path / "1.csv")]
    with pytest.raises(UserError, match=r"0\.csv holds no documents"):
        list(first_documents(tmp_path / "0.csv", Layout()))
    (tmp_path / "1.csv").unlink()
    with pytest.raises(UserError, match=r".*0\.csv and 2 more hold no documents"):
        documents(tmp_path / "*")


def test_what_is_absent_in_parquet_and_data_frames(tmp_path):
    frame = pl.DataFrame({"label": ["a", None], "text": [None, "x"], "title": ["t", "u"]})
    frame.write_parquet(tmp_path / "a.parquet")
    for source in (tmp_path / "a.parquet", frame):
        with pytest.raises(UserError, match="2: the record has no label"):
            documents(source)
    frame[:1].write_parquet(tmp_path / "a.parquet")
    for source in (tmp_path / "a.parquet", frame[:1]):
        assert documents(source) == [("a", "")]
    with pytest.raises(UserError, match="no text column 'body'; the file has: label, text, title"):
        documents(tmp_path / "a.parquet", text_column="body")


def test_folder_with_a_folder_per_class(tmp_path):
    for i, (label, text) in enumerate(DOCUMENTS):
        (tmp_path / label).mkdir(exist_ok=True)
        (tmp_path / label / f"{i}.txt").write_text(text, "utf-8")
    assert sorted(documents(tmp_path)) == sorted(DOCUMENTS)
    assert sorted(documents(tmp_path, block_bytes=1)) == sorted(DOCUMENTS)


def test_what_a_folder_may_hold(tmp_path):
    """Folders in folders, packed files; what begins with a dot is the system's."""
    for name in ("b/2.txt", "b/deep/deeper/1.txt", ".git/config", "a/.DS_Store", "readme"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "a" / "3.txt.gz").write_bytes(gzip.compress(b"packed"))
    frames = list(read(tmp_path, block_bytes=7))
    assert pl.concat(frames).rows() == [
        ("a", "packed", 1),
        ("b", "b/2.txt", 2),
        ("b", "b/deep/deeper/1.txt", 1),
    ]
    assert [frame.height for frame in frames] == [2, 1], "a block ends when it is full"


@pytest.mark.parametrize(
    "content",
    [gzip.compress(b"cut" * 99)[:-9], b""],
    ids=["cut off", "empty"],  # a gzip file holds the second in which it was made
)
def test_a_broken_file_in_a_folder_is_named(tmp_path, content):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.txt").write_bytes(b"x")
    (tmp_path / "a" / "2.txt.gz").write_bytes(content)
    if content:
        with pytest.raises(UserError, match=r"a/2\.txt\.gz: broken compressed file"):
            documents(tmp_path)
    (tmp_path / "a" / "2.txt.gz").unlink()
    (tmp_path / "a" / "3.txt").write_bytes(b"x\n\xff")
    with pytest.raises(UserError, match=r"a/3\.txt:2: not UTF-8 \(byte 0xff\)"):
        documents(tmp_path)


def test_iterables_of_pairs_and_data_frames():
    assert documents(iter(DOCUMENTS)) == DOCUMENTS
    assert documents([(1, "a"), (2, "b")]) == [("1", "a"), ("2", "b")]
    assert documents(pl.DataFrame({"text": ["x"], "label": [3]})) == [("3", "x")]
    with pytest.raises(UserError, match=r"pairs \(label, text\)"):
        documents(iter(["just a text"]))
    with pytest.raises(UserError, match=r"no column 'label'; it has \['text'\]"):
        documents(pl.DataFrame({"text": ["x"]}))


def test_an_iterable_of_many_pairs_is_numbered_through():
    n = (1 << 16) + 2
    frames = list(read((i % 2, str(i)) for i in range(n)))
    assert len(frames) == 2, "an iterable may be larger than memory"
    whole = pl.concat(frames)
    assert whole["line"].to_list() == list(range(1, n + 1))
    assert whole["text"][-1] == str(n - 1)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([("a", "x"), ("b", "y", "z")], r"record 2: expected pairs .*, got \('b', 'y', 'z'\)"),
        ([("a", "x"), 7], "record 2: expected pairs .*, got 7"),
        ([("a", "x"), ("b", 3)], "record 2: the text must be a string, got 3"),
        ([("a", "x"), ("b", None)], "record 2: the text must be a string, got None"),
        ([("a", "x"), (None, "y")], "the iterable:2: the record has no label"),
        ([], "the iterable holds no documents"),
    ],
)
def test_wrong_pairs_are_told_by_their_number(pairs, message):
    with pytest.raises(UserError, match=message):
        documents(iter(pairs))


def test_an_empty_data_frame():
    with pytest.raises(UserError, match="the data frame holds no documents"):
        documents(pl.DataFrame({"label": [], "text": []}))


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


def test_a_document_longer_than_pythons_limit_of_a_csv_field(tmp_path):
    long = "word " * 40_000
    path = tmp_path / "a.csv"
    path.write_text(f'a,"two\nlines"\n\nb,{long}\n')
    found = documents(path, label_column="0", text_column="1")
    assert found == [("a", "two\nlines"), ("b", long)]
    path.write_text(f"a,{long}\nb,y\n")
    found = documents(path, label_column="0", text_column="1")
    assert found == [("a", long), ("b", "y")]


def test_csv_headers_of_several_lines(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('\n"a\nb", Label ,TEXT\n1,x,y\n')
    assert pl.concat(list(read(path))).rows() == [("x", "y", 4)]
    path.write_text('"a\nb",label,text')
    with pytest.raises(UserError, match="holds no documents"):
        documents(path)


def test_csv_fields_that_are_empty(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('label,text\na,\nb,""\n')
    assert documents(path) == [("a", ""), ("b", "")]
    path.write_text("label,text\na,x\n\n,y\n")
    with pytest.raises(UserError, match=r"a\.csv:4: the record has no label"):
        documents(path)
    path.write_text('label,text\na,"x\n"\n,\nb,y\n, z\n')
    with pytest.raises(UserError, match=r"a\.csv:6: the record has no label"):
        documents(path)
    path.write_text('label,text\na,"x\n"\n,\n" ",\n')  # rows that a spreadsheet leaves
    assert documents(path) == [("a", "x\n")]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("block_bytes", [1, 8, 1 << 20])
def test_blank_lines_of_a_csv_file_are_passed_over(tmp_path, end, block_bytes):
    lines = ["", "label,text", "", "", "a,x", "", "b,y", 'c,"z"', "", ""]
    (tmp_path / "a.csv").write_bytes(end.join(lines).encode())
    frame = pl.concat(list(read(tmp_path / "a.csv", block_bytes=block_bytes)))
    assert frame.rows() == [("a", "x", 5), ("b", "y", 7), ("c", "z", 8)]
    for lines, places in (
        (["label,text", "", "a,x", "b,y"], (3, 4)),
        (["label,text", "a,x", "", "b,y"], (2, 4)),
        (["label,text", "a,x", "b,y", ""], (2, 3)),
    ):
        (tmp_path / "a.csv").write_bytes(end.join([*lines, ""]).encode())
        frame = pl.concat(list(read(tmp_path / "a.csv", block_bytes=block_bytes)))
        assert frame.rows() == [("a", "x", places[0]), ("b", "y", places[1])]


def test_fasttext_lines(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("\t __label__a  two  spaces \n__label__b\n__label__c x __label__\n")
    assert documents(path) == [("a", " two  spaces "), ("b", ""), ("c", "x __label__")]


def test_numbers_in_json_and_in_tsv_columns(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"label": 1, "text": 2.5, "title": "t"}\n')
    assert documents(path) == [("1", "2.5")]
    assert documents(path, label_column="title", text_column="text,label") == [("t", "2.5 1")]
    path = tmp_path / "a.tsv"
    path.write_text("x\ty\ta\nu\tv\tb\n")
    found = documents(path, label_column="2", text_column="0,1")
    assert found == [("a", "x y"), ("b", "u v")]
    # A name among the columns means that there is a header, a number alone does not.
    path.write_text("x\ty\tlabel\nu\tv\tb\n")
    assert documents(path, label_column="label", text_column="1") == [("b", "v")]
    assert documents(path, label_column="2", text_column="Y") == [("b", "v")]
    with pytest.raises(UserError, match="no text column '3'; the file has: x, y, label"):
        documents(path, text_column="3")


BROKEN = {
    "missing": ("a.tsv", None, "does not exist"),
    "unknown kind": ("a.docx", b"x", r"unknown kind of file; known are \.tsv, \.csv, \.jsonl"),
    "no suffix": ("a", b"x", "unknown kind of file"),
    "only gzip": ("a.gz", gzip.compress(b"x"), "unknown kind of file"),
    "gzip within": ("a.gz.docx", b"x", "unknown kind of file"),
    "label twice": (
        "a.jsonl",
        b'{"label": "a", "text": "x"}\n{"label": "a", "text": "x", "label": "b"}',
        r"a\.jsonl:2: the record has 'label' twice",
    ),
    "list twice": (
        "a.jsonl",
        b'{"label": ["a"], "label": ["a", "b"], "text": "x"}',
        r"a\.jsonl:1: the record has 'label' twice",
    ),
    "compressed parquet": (
        "a.parquet.gz",
        gzip.compress(b"x"),
        "Parquet is read uncompressed only",
    ),
    "empty": ("a.tsv", b"", "holds no documents"),
    "blank lines only": ("a.tsv", b"\n\n", "holds no documents"),
    "header only": ("a.csv", b"label,text\n", "holds no documents"),
    "empty csv": ("a.csv", b"", "holds no documents"),
    "not UTF-8, tsv": ("a.tsv", b"a\tx\nb\t\xe9t\xe9\n", r"a\.tsv:2: not UTF-8 \(byte 0xe9\)"),
    "not UTF-8, csv": ("a.csv", b"label,text\na,x\nb,\xe9\n", r"a\.csv:3: not UTF-8"),
    "not UTF-8, jsonl": ("a.jsonl", b'{"label":"\xe9"}\n', r"a\.jsonl:1: not UTF-8"),
    "too few fields, tsv": (
        "a.tsv",
        b"a\tx\nb\n",
        r"a\.tsv:2: too few fields \(1 where 2 are expected\): expected label<TAB>text",
    ),
    "too few fields, first": ("a.tsv", b"b\na\tx\n", r"a\.tsv:1: too few fields"),
    "too few fields, csv": ("a.csv", b"label,text\na,x\nb\n", r"a\.csv:3: too few fields \(1"),
    "too many fields, csv": ("a.csv", b"label,text\na,x\nb,y,z\n", r"a\.csv:3: too many fields"),
    "too few fields, chosen": (
        "b.tsv",
        b"0\t1\tlabel\ttext\nx\ty\tz\n",
        r":2: .*\(3 where 4 are expected\)$",
    ),
    "header and too few": (
        "b.tsv",
        b"text\tlabel\nx\n",
        r":2: too few fields \(1 where 2 are expected\)$",
    ),
    "several text columns": (
        "d.csv",
        b"sentiment,re,view\na,x,y\n",
        "among sentiment, re, view: name",
    ),
    "open quote": (
        "a.csv",
        b'label,text\na,x\nb,"y\nc,z\n',
        r"a\.csv:3: not CSV: a quotation mark that opens here is never closed",
    ),
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
    "json label": (
        "a.jsonl",
        b'{"label":"a","text":"x"}\n\n{"text":"x","z":1}\n',
        r":3: no label column 'label'; the record has: text, z \(",
    ),
    "json null": ("a.jsonl", b'{"label":null,"text":"x"}\n', r":1: the record has no label"),
    "json object": (
        "a.jsonl",
        b'{"label":"a","text":{"x":1}}\n',
        r"a\.jsonl:1: 'text' holds {'x': '1'}; label and text must be strings",
    ),
    "not marked": ("a.txt", b"__label__a x\nhello\n", r"a\.txt:2: the line does not begin with"),
    "mark in the text": (
        "a.txt",
        b"__label__a\n__label__a x __label__b\n",
        r"a\.txt:2: .*within its",
    ),
    "two marks in one": ("a.txt", b"__label__a__label__b x\n", r"a\.txt:1: .*without a space"),
    "not parquet": ("a.parquet", b"PAR1", r"not a readable Parquet file: .*(parquet|file)"),
    "cut gzip": (
        "a.tsv.gz",
        gzip.compress(b"a\tx\n" * 9999)[:40],
        r"a\.tsv\.gz: broken compressed file",
    ),
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


@pytest.mark.parametrize("blank", [b"", b"\n"])
def test_what_is_wrong_in_a_later_block_of_csv_is_told_by_its_line(tmp_path, blank):
    path = tmp_path / "a.csv"
    start = b"label,text\n" + b"a,x\n" * 20 + blank
    line = 22 + len(blank)
    for wrong, message in (
        (b"b,\xe9\n", r"not UTF-8 \(byte 0xe9\)"),
        (b"b\n", r"too few fields \(1 where 2 are expected\)"),
        (b"b,y,z\n", r"too many fields \(3 where 2 are expected\): a text with ','"),
        (b",y\n", "the record has no label"),
    ):
        path.write_bytes(start + wrong + b"a,x\n")
        for block_bytes in (4, 40, 1 << 20):
            with pytest.raises(UserError, match=rf"a\.csv:{line}: {message}"):
                documents(path, block_bytes=block_bytes)


def test_a_column_number_beyond_the_last(tmp_path):
    write_tsv(tmp_path / "a.tsv")
    with pytest.raises(UserError, match="no text column '5'; the file has: columns 0 to 1"):
        documents(tmp_path / "a.tsv", text_column="5")


def test_of_several_text_columns_the_absent_one_is_named(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"label":"a","title":"t","body":"b"}\n{"label":"a","title":"t"}\n')
    with pytest.raises(UserError, match=r":2: no text column 'body'; the record has: label, title"):
        documents(path, text_column="title,body")


def test_a_file_without_permission_is_refused_at_once(tmp_path, monkeypatch):
    path = tmp_path / "a.tsv"
    path.write_text("a\tx\n")

    def refuse(self, *args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # chmod does not stop root
    with pytest.raises(UserError, match=r"a\.tsv cannot be read: Permission denied"):
        check_readable(path)


def test_real_sets_are_read_whole(shared_data: Path):
    """Every record of the README's counts, none split or lost."""
    sizes = {"trec": (5452, 500), "mr": (7108, 3554), "r52": (6532, 2568)}
    for name, counts in sizes.items():
        for split, count in zip(("train", "test"), counts, strict=True):
            path = next((shared_data / name).glob(f"{split}.tsv*"))
            assert sum(frame.height for frame in read(path)) == count
