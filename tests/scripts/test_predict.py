"""dlnotes predict: pipes line by line, files in and out with all that they hold, mistakes."""

import csv
import gzip
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest
import torch
from running import process
from test_bad_input import told

from dlnotes.data import readers
from dlnotes.data.tables import write_table
from dlnotes.training import evaluate, scoring
from dlnotes.training.classifier import TextClassifier

RUN = Path(__file__).parent / "old_runs" / "textcnn"
ENSEMBLE = RUN.with_name("ensemble")
# Line breaks within a text are of a kind that only bytes tell from those that end a line.
TEXTS = ["w1 w2", "", '[b]quoted[/b] "w3", twice', "w1\u2028w2 \x00 :smile:", "w4\x85w1 é中"]


@pytest.fixture(scope="module")
def expected():
    """The label of each of TEXTS and its probability."""
    return [(x["label"], x["probability"]) for x in TextClassifier.load(RUN).classify(TEXTS)]


def stdin(content):
    return SimpleNamespace(buffer=io.BytesIO(content))


def rows(out):
    # A line ends with a line feed alone, not where str.splitlines ends one.
    return [json.loads(line) for line in out.removesuffix("\n").split("\n") if line]


def same(answers, expected, label="label"):
    assert [a[label] for a in answers] == [label for label, _ in expected]
    for a, (_, probability) in zip(answers, expected, strict=True):
        assert float(a["probability"]) == pytest.approx(probability, rel=1e-4)


# --- pipes ------------------------------------------------------------------------------------


def test_each_line_of_a_pipe_is_answered_before_the_next_is_written(monkeypatch):
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    child = process("predict", RUN, stdin=subprocess.PIPE)
    try:
        for text in [*TEXTS[:3], "w1 " * 50_000]:
            child.stdin.write(f"{text}\n")
            child.stdin.flush()
            assert json.loads(child.stdout.readline())["text"] == text
        child.stdin.write("no line break")
        child.stdin.close()
        assert json.loads(child.stdout.readline())["text"] == "no line break"
        assert child.stdout.readline() == ""
        assert child.wait(60) == 0
    finally:
        child.kill()


def test_what_the_lines_of_a_pipe_may_hold(script, expected):
    content = "\ufeff" + "\r\n".join(TEXTS)
    answered = rows(script("predict", RUN, stdin=stdin(content.encode())).out)
    assert [a["text"] for a in answered] == TEXTS
    same(answered, expected)
    assert script("predict", RUN, "--file", "-", stdin=stdin(b"")).out == ""


def test_plenty_of_lines_in_pieces_that_cut_lines_and_letters(script):
    texts = [f"w{i % 7} é中 {i}" for i in range(500)]

    class Pieces(io.BytesIO):
        def read1(self, size=-1):
            return super().read1(11)

    content = "\n".join(texts).encode()
    answered = rows(script("predict", RUN, stdin=SimpleNamespace(buffer=Pieces(content))).out)
    assert [a["text"] for a in answered] == texts
    at_once = rows(script("predict", RUN, stdin=stdin(content)).out)
    same(answered, [(a["label"], a["probability"]) for a in at_once])


def test_lines_before_one_that_is_not_utf8_are_answered(script):
    result = script("predict", RUN, stdin=stdin(b"w1\nw2\n\xff\nw3\n"))
    assert "standard input:3: not UTF-8" in told(result)
    assert [row["text"] for row in rows(result.out)] == ["w1", "w2"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("w1\nw2\n".encode("utf-16"), "looks like UTF-16; .*: iconv -f utf-16 -t utf-8$"),
        ("w1\nw2\n".encode("utf-32"), "looks like UTF-32; .*: iconv -f utf-32 -t utf-8$"),
        ("w1\nw2\n".encode("utf-16-be"), "looks like UTF-16; .*: iconv -f utf-16be -t utf-8$"),
        # gzip writes the time, so that ids would differ between test processes.
        (gzip.compress(b"w1\n", mtime=0), "is compressed: decompress it first$"),
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "is an image, not text$"),
    ],
)
def test_what_is_piped_in_and_is_not_utf8_is_told(script, content, message):
    assert re.search(
        f"standard input {message}", told(script("predict", RUN, stdin=stdin(content)))
    )


def test_a_reader_that_goes_away_is_no_error():
    child = process("predict", RUN, stdin=subprocess.PIPE)
    child.stdin.write("w1\n")
    child.stdin.flush()
    child.stdout.readline()
    child.stdout.close()
    try:
        child.stdin.write("w1\n" * 100_000)
        child.stdin.close()
    except BrokenPipeError:
        pass
    assert child.wait(60) == 0
    assert child.stderr.read() == ""


def test_top_k_and_the_shape_of_an_answer(script):
    text = 'w1 "é中"\\ w2'
    line = script("predict", RUN, text, "--top-k", 2).out
    (found,) = TextClassifier.load(RUN).classify([text], top_k=2)
    assert line == json.dumps({**found, "text": text}, ensure_ascii=False) + "\n"
    assert len(rows(script("predict", RUN, "w1").out)[0]["top"]) == 3


# --- files ------------------------------------------------------------------------------------


def quoted(text):
    return '"' + text.replace('"', '""') + '"'


def put(path, content):
    content = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(content) if path.suffix.lower() == ".gz" else content)
    return path


def cut(path):
    path.write_bytes(gzip.compress(b"text\n" + b"x y z\n" * 99)[:-9])
    return path


def as_csv(path, end="\r\n"):
    lines = [f"{i},{quoted(t)},{quoted(f'n{end}{i}')}" for i, t in enumerate(TEXTS)]
    return put(path, "\ufeff" + end.join(['id,text,"a ""note"""', *lines]) + end)


def as_jsonl(path):
    records = [{"id": 10**25 + i, "text": t, "z": {"y": [i, None]}} for i, t in enumerate(TEXTS)]
    return put(path, "\r\n\n".join(json.dumps(r, ensure_ascii=False) for r in records))


def as_parquet(path):
    frame = pl.DataFrame({"id": range(5), "text": TEXTS, "tags": [["a"], [], None, ["b"], [None]]})
    frame.with_columns(pl.col("text").replace("", None)).write_parquet(path)
    return path


def as_tsv(path):
    return put(path, "id\ttext\tnote\n" + "".join(f"{i}\t{t}\t\n" for i, t in enumerate(TEXTS)))


MAKE = {
    "a.txt": lambda path: put(path, "\ufeff" + "\r\n".join(TEXTS)),
    "a.txt.gz": lambda path: put(path, "\n".join(TEXTS) + "\n"),
    "a": lambda path: put(path, "\n".join(TEXTS)),
    "a.csv": as_csv,
    "A.CSV.GZ": as_csv,
    "a.tsv": as_tsv,
    "a.jsonl": as_jsonl,
    "a.jsonl.gz": as_jsonl,
    "a.parquet": as_parquet,
}


def table(path):
    """Rows of what was written, as dictionaries."""
    content = path.read_bytes()
    content = gzip.decompress(content) if path.suffix == ".gz" else content
    if ".parquet" in path.suffixes:
        return pl.read_parquet(path).to_dicts()
    if ".csv" in path.suffixes:
        return list(csv.DictReader(io.StringIO(content.decode(), newline=""), strict=True))
    return [json.loads(line) for line in content.decode().removesuffix("\n").split("\n")]


@pytest.mark.parametrize("out", ["o.jsonl", "o.csv", "o.parquet", "o.jsonl.gz", "o.csv.gz"])
@pytest.mark.parametrize("name", MAKE)
def test_files_in_and_out(script, tmp_path, name, out, expected):
    path = MAKE[name](tmp_path / name)
    if ("parquet" in name or "jsonl" in name) and "csv" in out:
        line = told(script("predict", RUN, "--file", path, "--out", tmp_path / out))
        if "parquet" in name:
            assert "column 'tags' is of type List(String): CSV holds flat values; write .js" in line
        else:
            assert "'z' holds lists or objects, and CSV flat values" in line
        assert sorted(x.name for x in tmp_path.iterdir()) == [name]
        return
    result = script("predict", RUN, "--file", path, "--out", tmp_path / out)
    assert result.code == 0, result.err
    assert result.out == ""
    found = table(tmp_path / out)
    same(found, expected)
    texts = [None if not t and name == "a.parquet" else t for t in TEXTS]
    assert [row["text"] for row in found] == texts
    columns = list(found[0])
    assert columns[-2:] == ["label", "probability"]
    if "csv" in name.lower():
        assert columns[:-2] == ["id", "text", 'a "note"']
        assert [row['a "note"'] for row in found] == [f"n\r\n{i}" for i in range(5)]
    if "jsonl" in name:
        assert [row["id"] for row in found] == [10**25 + i for i in range(5)]
        assert [row["z"] for row in found] == [{"y": [i, None]} for i in range(5)]
    if "parquet" in name:
        assert [row["tags"] for row in found] == [["a"], [], None, ["b"], [None]]
    assert sorted(x.name for x in tmp_path.iterdir()) == sorted([name, out])


@pytest.mark.parametrize("name", MAKE)
def test_blocks_of_a_few_bytes_make_the_same_file(tmp_path, name):
    path = MAKE[name](tmp_path / name)
    whole, parts = (list(readers.read_records(path, block_bytes=n)) for n in (1 << 22, 30))
    assert len(whole) == 1
    assert len(parts) > 1 or name == "a.parquet"
    assert [t for part in parts for t in part.texts] == TEXTS
    assert pl.concat(p.columns for p in parts).equals(whole[0].columns)
    assert [p.share for p in parts] == sorted(p.share for p in parts)
    assert parts[-1].share == 1


def test_a_table_of_many_blocks_is_one_file(tmp_path):
    frames = [
        pl.DataFrame({"n": range(i * 10, i * 10 + 10), "s": ["x\n,"] * 10}) for i in range(30)
    ]
    for name in ("o.parquet", "o.csv", "o.jsonl.gz"):
        write_table(tmp_path / name, iter(frames))
        assert [int(row["n"]) for row in table(tmp_path / name)] == list(range(300))
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_columns_that_are_called_as_ours(script, tmp_path, kind, expected):
    frame = pl.DataFrame({"label": ["x"] * 5, "predicted_label": ["y"] * 5, "text": TEXTS})
    path = tmp_path / f"a.{kind}"
    getattr(frame, {"csv": "write_csv", "jsonl": "write_ndjson"}.get(kind, f"write_{kind}"))(path)
    result = script("predict", RUN, "--file", path, "--out", tmp_path / f"o.{kind}")
    assert result.code == 0, result.err
    assert "a column 'label': ours is 'predicted_predicted_label'" in result.err
    found = table(tmp_path / f"o.{kind}")
    same(found, expected, "predicted_predicted_label")
    assert {(row["label"], row["predicted_label"]) for row in found} == {("x", "y")}


def test_a_later_record_with_a_field_that_is_called_as_ours(script, tmp_path, monkeypatch):
    first = ['{"text": "w1", "note": "label"}', '{"text": "\\"label\\":"}'] * 2000
    path = put(tmp_path / "a.jsonl", "\n".join([*first, '{"text": "w1", "label": null}']))
    read = readers.read_records
    monkeypatch.setattr(
        "dlnotes.commands.predict.read_records", lambda *a, **k: read(*a, block_bytes=4096, **k)
    )
    result = script("predict", RUN, "--file", path, "--out", tmp_path / "o.jsonl")
    assert "has 'label' already, and the first ones have not" in told(result)
    assert not (tmp_path / "o.jsonl").exists()


@pytest.mark.parametrize("out", ["o.csv", "o.jsonl", "o.parquet"])
def test_several_labels_in_a_file(script, tmp_path, out):
    path = put(tmp_path / "a.txt", "w1\nw2\n")
    assert script("predict", RUN, "--file", path, "--out", tmp_path / out, "--top-k", 2).code == 0
    expected = TextClassifier.load(RUN).classify(["w1", "w2"], top_k=2)
    for row, want in zip(table(tmp_path / out), expected, strict=True):
        second = want["top"][1]["label"]
        assert second == (row["label_2"] if "csv" in out else row["top"][1]["label"])
        assert row["label"] == want["label"]


@pytest.mark.parametrize("out", ["o.csv", "o.jsonl", "o.parquet"])
@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_a_table_without_rows(script, tmp_path, name, out):
    path = put(tmp_path / name, "text,n\n")
    if name == "a.parquet":
        pl.DataFrame(schema={"text": pl.String, "n": pl.Int64}).write_parquet(path)
    result = script("predict", RUN, "--file", path, "--out", tmp_path / out)
    assert result.code == 0, result.err
    if out == "o.parquet":
        assert pl.read_parquet(tmp_path / out).columns == ["text", "n", "label", "probability"]
    else:
        header = "text,n,label,probability\n" if out == "o.csv" else ""
        assert (tmp_path / out).read_text() == header
    assert script("predict", RUN, "--file", path).out == ""


def test_empty_fields_of_csv_are_empty_texts(script, tmp_path):
    path = put(tmp_path / "a.csv", "text,n\nw1,\n,x\n")
    for out in ("o.jsonl", "o.parquet"):
        assert script("predict", RUN, "--file", path, "--out", tmp_path / out).code == 0
        found = table(tmp_path / out)
        assert [(row["text"], row["n"]) for row in found] == [("w1", ""), ("", "x")]
    assert script("predict", RUN, "--file", path, "--out", tmp_path / "o.csv").code == 0
    assert (tmp_path / "o.csv").read_text().splitlines()[1].startswith("w1,,class ")


def test_texts_and_pipes_into_a_file(script, tmp_path, expected):
    assert script("predict", RUN, *TEXTS[1:3], "--out", tmp_path / "o.csv").code == 0
    same(table(tmp_path / "o.csv"), expected[1:3])
    content = stdin("\n".join(TEXTS).encode())
    assert script("predict", RUN, "--out", tmp_path / "p.parquet", stdin=content).code == 0
    same(table(tmp_path / "p.parquet"), expected)
    assert script("predict", RUN, "--out", tmp_path / "q.parquet", stdin=stdin(b"")).code == 0
    assert table(tmp_path / "q.parquet") == []


def test_tsv_without_a_header(script, tmp_path):
    path = put(tmp_path / "a.tsv", "x\tw1\tw2\ny\tw3\n")
    assert script("predict", RUN, "--file", path, "--out", tmp_path / "o.jsonl").code == 0
    found = table(tmp_path / "o.jsonl")
    assert [(row["label"], row["text"]) for row in found] == [("x", "w1\tw2"), ("y", "w3")]
    assert "predicted_label" in found[0]
    path = put(tmp_path / "b.tsv", "w1\nw3\n")
    assert [row["text"] for row in rows(script("predict", RUN, "--file", path).out)] == ["w1", "w3"]
    path = put(tmp_path / "c.tsv", "w1\tb\nw3\td\n")
    found = rows(script("predict", RUN, "--file", path, "--text-column", 0).out)
    assert [row["text"] for row in found] == ["w1", "w3"]


@pytest.fixture
def trained_with(tmp_path):
    """A copy of the run whose record says that it was trained with other columns."""

    def make(**columns):
        run = shutil.copytree(RUN, tmp_path / "run", dirs_exist_ok=True)
        record = json.loads((run / "metrics.json").read_text())
        record["settings"] |= columns
        (run / "metrics.json").write_text(json.dumps(record))
        return run

    return make


def test_the_column_that_the_run_was_trained_with(script, tmp_path, trained_with):
    run = trained_with(text_column="review")
    both = put(tmp_path / "a.csv", "text,review\nw1,w2\n")
    assert rows(script("predict", run, "--file", both).out)[0]["text"] == "w2"
    given = script("predict", run, "--file", both, "--text-column", "text")
    assert rows(given.out)[0]["text"] == "w1"
    other = put(tmp_path / "b.jsonl", '{"text": "w3"}')
    assert rows(script("predict", run, "--file", other).out)[0]["text"] == "w3"
    neither = put(tmp_path / "c.csv", "body,n\nw1,w2\n")
    line = told(script("predict", run, "--file", neither))
    assert "c.csv: no text column 'review'; the file has: body, n" in line
    assert "trained with --text-column review" in line
    (run / "metrics.json").write_text("{")  # a record in pieces does not stop anybody
    assert rows(script("predict", run, "--file", both).out)[0]["text"] == "w1"
    joined = script("predict", run, "--file", both, "--text-column", "review,text")
    assert rows(joined.out)[0]["text"] == "w2 w1"


# --- mistakes ---------------------------------------------------------------------------------


def parquet(path, **columns):
    pl.DataFrame(columns).write_parquet(path)
    return path


MISTAKES = {
    "missing file": (lambda t: ["--file", t / "no.csv"], "--file: ", "no.csv cannot be read: No such file"),
    "a folder": (lambda t: ["--file", t], "is a folder; give a file"),
    "unknown suffix": (lambda t: ["--file", put(t / "a.docx", "x")], "a.docx: unknown kind of file; known are .txt (a text per line), .csv"),
    "compressed parquet": (lambda t: ["--file", put(t / "a.parquet.gz", "x")], "Parquet is read uncompressed only"),
    "its own name": (lambda t: ["--file", put(t / "a.pdf", "%PDF-1.7\n")], "a.pdf is a PDF: convert it to text"),
    "no parquet": (lambda t: ["--file", put(t / "a.parquet", "x")], "not a readable Parquet file"),
    "no gzip": (lambda t: ["--file", cut(t / "b.csv.gz")], "b.csv.gz: broken compressed file"),
    "missing column": (lambda t: ["--file", put(t / "a.csv", "a,b\nx,y\n"), "--text-column", "c"], "no text column 'c'; the file has: a, b", "--text-column"),
    "no header": (lambda t: ["--file", put(t / "a.csv", "a,b\nx,y\n")], "no text column 'text'; the file has: a, b"),
    "missing parquet column": (lambda t: ["--file", parquet(t / "a.parquet", a=["x"])], "no text column 'text'; the file has: a"),
    "missing json field": (lambda t: ["--file", put(t / "a.jsonl", '{"text":"x"}\n{"a":1}')], "a.jsonl:2: no text column 'text'; the record has: a"),
    "no json": (lambda t: ["--file", put(t / "a.jsonl", '{"text":"x"}\nx')], "a.jsonl:2: not a JSON record"),
    "columns of lines": (lambda t: ["--file", put(t / "a.txt", "x"), "--text-column", "1"], "has a text per line and no columns"),
    "columns of a pipe": (lambda t: ["--text-column", "1"], "--text-column belongs to --file"),
    "empty": (lambda t: ["--file", put(t / "a.txt", "")], "a.txt is empty"),
    "empty csv": (lambda t: ["--file", put(t / "a.csv", "\n")], "a.csv is empty"),
    "empty jsonl": (lambda t: ["--file", put(t / "a.jsonl", "")], "a.jsonl is empty"),
    "not utf-8": (lambda t: ["--file", put(t / "a.txt", b"x\n\xe9\n")], "a.txt:2: not UTF-8 (byte 0xe9)"),
    "not utf-8, csv": (lambda t: ["--file", put(t / "a.csv", b"text\nx\n\xe9\n")], "a.csv:3: not UTF-8"),
    "an argument that is not utf-8": (lambda t: ["\udcff"], "text 1 is not UTF-8"),
    "texts and file": (lambda t: ["x", "--file", put(t / "a.txt", "x")], "give texts or --file, not both"),
    "texts and pipe": (lambda t: ["x", "--file", "-"], "give texts or --file -, not both"),
    "unknown out": (lambda t: ["x", "--out", t / "o.tsv"], "o.tsv: unknown kind of file to write; known are .jsonl"),
    "out nowhere": (lambda t: ["x", "--out", t / "no" / "o.csv"], "there is no folder"),
    "out is a folder": (lambda t: ["x", "--out", put(t / "x", "").with_name("o.csv"), (t / "o.csv").mkdir()][:3], "it is there and is not a file"),
    "top_k": (lambda t: ["x", "--top-k", 0], "--top-k must be at least 1"),
    "device": (lambda t: ["x", "--device", "tpu"], "device must be auto, cpu, cuda"),
}  # fmt: skip


@pytest.mark.parametrize("case", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_told_in_a_line(script, tmp_path, case):
    make, *parts = case
    line = told(script("predict", RUN, *make(tmp_path), stdin=stdin(b"w1\n")))
    for part in parts:
        assert part in line


def test_a_fifo_is_not_waited_for(script, tmp_path):
    os.mkfifo(tmp_path / "a.csv")
    for name, option in (("predict", "--file"), ("evaluate", "--test")):
        line = told(script(name, RUN, option, tmp_path / "a.csv"))
        assert "a.csv is neither a file nor a folder, but a pipe or a device" in line


def test_what_was_there_stays_when_it_goes_wrong(script, tmp_path):
    out = put(tmp_path / "o.csv", "old")
    bad = put(tmp_path / "a.jsonl", '{"text":"x"}\n' * 9 + '{"text":"x","a":{}}')
    assert "CSV flat values" in told(script("predict", RUN, "--file", bad, "--out", out))
    assert out.read_text() == "old"
    assert sorted(x.name for x in tmp_path.iterdir()) == ["a.jsonl", "o.csv"]


# --- how fast ---------------------------------------------------------------------------------


def test_what_one_answer_imports():
    program = (
        "import sys; sys.argv = ['dlnotes', 'predict', sys.argv[1], 'w1']\n"
        "from dlnotes.commands import main; main()\n"
        "slow = 'matplotlib tensorboard sklearn rich pooch requests pandas scipy torch._dynamo'.split()\n"
        "print([name for name in slow if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program, str(RUN)], capture_output=True, text=True, check=True)  # fmt: skip
    # On torch 2.3 the activations need it, see activations/_activation.py.
    expected = ["torch._dynamo"] if torch.__version__.startswith("2.3.") else []
    assert done.stdout.splitlines()[-1] == str(expected)


@pytest.mark.parametrize("run", [RUN, ENSEMBLE])
def test_threads_give_the_scores_that_one_gives(run, monkeypatch):
    monkeypatch.setattr(scoring, "_WORTH_THREADS", 0)
    monkeypatch.setattr(scoring, "_MIN_TOKENS", 64)
    monkeypatch.setattr(scoring, "_MIN_DOCUMENTS", 4)
    texts = [f"w{i % 7} " * (i % 9) for i in range(200)]
    torch.set_num_threads(3)
    try:
        side_by_side = TextClassifier.load(run).probabilities(texts)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(1)
    monkeypatch.setattr("dlnotes.training.classifier.scores", evaluate.scores)
    torch.testing.assert_close(side_by_side, TextClassifier.load(run).probabilities(texts))


def test_columns_of_one_name_and_of_none(tmp_path):
    path = put(tmp_path / "a.csv", "text,a,,a\nx,1,2,3\n")
    (block,) = readers.read_records(path)
    assert block.columns.to_dict(as_series=False) == {"text": ["x"], "a": ["1"], "column_2": ["2"], "a_2": ["3"]}  # fmt: skip


def test_json_in_csv_and_parquet_loses_no_digit(script, tmp_path):
    """The types of the first block are none for later ones; CSV has numbers as they are written."""
    rows = [{"text": "x " * 50, "score": 1, "id": 7, **{f"c{i}": i for i in range(40)}}] * 9000
    rows += [{"text": "late", "score": 0.75, "id": "007", "big": None}]
    lines = (json.dumps({"big": 9007199254740993, **row}) + "\n" for row in rows)
    file = put(tmp_path / "a.jsonl", "".join(lines))
    assert file.stat().st_size > 1 << 22, "more than a block"
    out = tmp_path / "o.csv"
    assert script("predict", RUN, "--file", file, "--out", out).code == 0
    with out.open(newline="") as written:
        found = list(csv.DictReader(written))
    assert (found[-1]["score"], found[-1]["id"]) == ("0.75", "007")
    assert found[0]["big"] == "9007199254740993"
    assert list(found[0])[:5] == ["big", "text", "score", "id", "c0"]
    line = told(script("predict", RUN, "--file", file, "--out", tmp_path / "o.parquet"))
    assert "do not fit into the columns of o.parquet" in line
    assert line.rstrip().endswith("write .jsonl")


def test_a_file_is_not_replaced_by_its_answers(script, tmp_path):
    file = put(tmp_path / "a.csv", "text\nx\n")
    line = told(script("predict", RUN, "--file", file, "--out", file))
    assert "--file and --out are the same file" in line


NESTED = {
    "numbers in lists": ("[1, 2]", "[1.5]"),
    "objects in lists": ('[{"a": 1}]', '[{"b": "x"}]'),
    "truth values": ("1", "true"),
    "empty objects": ("{}", "{}"),
    "many digits": ("1", "9" * 5000),
    "beyond 64 bits": ("18446744073709551615", "-1"),
    "beyond floats": ("1.5", "1e400"),
    "digits among fractions": ("9007199254740993", "0.5"),
}


def is_kept(found, given):
    """Whether they are equal; absent fields of objects may have become null."""
    if isinstance(given, dict):
        return found.keys() >= given.keys() and found == dict.fromkeys(found) | given
    if isinstance(given, list):
        return len(found) == len(given) and all(map(is_kept, found, given))
    return found == given


@pytest.mark.parametrize("case", NESTED)
def test_json_that_parquet_would_change_is_refused_or_kept(script, tmp_path, case):
    lines = [f'{{"text": "x", "k": {value}}}' for value in NESTED[case]]
    file = put(tmp_path / "a.jsonl", "".join(f"{line}\n" for line in lines))
    out = tmp_path / "o.parquet"
    result = script("predict", RUN, "--file", file, "--out", out)
    if result.code:
        assert "write .jsonl" in told(result)
        assert not out.exists()
        return
    assert case not in ("beyond floats", "digits among fractions", "truth values", "many digits")
    for found, line in zip(pl.read_parquet(out)["k"].to_list(), lines, strict=True):
        assert is_kept(found, json.loads(line)["k"])


TWICE = {
    '{"text": "w1 w1", "text": "w2"}': "text",
    '{"text": "w2", "text": "w2"}': "text",
    '{"text": 1, "text": "w2"}': "text",
    '{"文本": "w1 w1", "文本": "w2"}': "文本",
    '{"文本": "w1 w1", "\\u6587本": "w2"}': "文本",
}


@pytest.mark.parametrize("line", TWICE)
def test_a_text_that_is_given_twice_is_told(script, tmp_path, line):
    name = TWICE[line]
    file = put(tmp_path / "a.jsonl", f'{{"{name}": "w2"}}\n{line}\n')
    for given in (file, put(tmp_path / "a.json", f'[{{"{name}": "w2"}},\n{line}]')):
        result = script("predict", RUN, "--file", given, "--text-column", name)
        assert f":2: the record has {name!r} twice" in told(result)


def test_what_is_not_read_may_occur_twice(script, tmp_path):
    """Also within another field, and as a value."""
    lines = ('{"k": 1, "k": 2, "text": "w2"}', '{"k": {"text": 1, "text": 2}, "text": "w2"}')
    for line in (*lines, r'{"k": "\"text\": \"text\":", "text": "w2"}'):
        file = put(tmp_path / "a.jsonl", f'{{"text": "w2"}}\n{line}\n')
        assert script("predict", RUN, "--file", file).out.count('"text": "w2"') == 2


@pytest.mark.parametrize("end", [".csv", ".jsonl", ".parquet"])
def test_what_is_written_may_not_occur_twice(script, tmp_path, end):
    for line, name in {
        '{"text": "w2", "x": 1, "x": 2}': "x",
        '{"label": "a", "text": "w2", "label": "a"}': "label",
        '{"text": "w2", "a/b": 1, "a\\/b": 2}': "a/b",
    }.items():
        file = put(tmp_path / "a.jsonl", f'{{"text": "w2"}}\n{line}\n')
        result = script("predict", RUN, "--file", file, "--out", tmp_path / f"o{end}")
        assert f"a.jsonl:2: the record has {name!r} twice" in told(result)
        assert not (tmp_path / f"o{end}").exists()


@pytest.mark.parametrize(
    "values",
    [("10", "9.99"), ("null", "1", "2.5"), ("[1, 2.5]",), ('{"a": 1}', '{"a": 1, "b": 2}')],
)
def test_what_parquet_keeps_does_not_depend_on_the_order(script, tmp_path, values):
    out = tmp_path / "o.parquet"
    for ordered in (values, values[::-1]):
        lines = (f'{{"text": "x", "k": {value}}}\n' for value in ordered)
        file = put(tmp_path / "a.jsonl", "".join(lines))
        assert script("predict", RUN, "--file", file, "--out", out).code == 0
        for found, value in zip(pl.read_parquet(out)["k"].to_list(), ordered, strict=True):
            assert is_kept(found, json.loads(value))


def test_without_the_training_s_column_the_rest_is_still_as_in_training(script, tmp_path, capsys):
    """And what is told of it is true."""
    rows = "".join(f"{i % 2},caf\xe9 text {i}\n" for i in range(40))
    put(tmp_path / "t.csv", ("sentiment,body\n" + rows).encode("cp1252"))
    given = ["--train", tmp_path / "t.csv", "--label-column", "sentiment", "--text-column", "body"]
    given += ["--encoding", "cp1252", "--epochs", 1, "--model-args", "buckets=9"]
    assert script("train", *given, "--out", tmp_path / "r").code == 0
    file = put(tmp_path / "n.csv", "text\ncaf\xe9\n".encode("cp1252"))
    result = script("predict", tmp_path / "r", "--file", file)
    assert '"text": "café"' in result.out
    assert "read as in training, with --encoding cp1252 (else: --encoding auto)" in result.err
    result = script("predict", tmp_path / "r", "--file", file, "--encoding", "auto")
    assert "not UTF-8" in told(result)
