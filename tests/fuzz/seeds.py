"""Whole files of every kind, which the fuzzer changes."""

import bz2
import gzip
import io
import zipfile

import numpy as np
import polars as pl
import torch
from targets import folder

from dlnotes.data.seen import Seen
from dlnotes.training.checkpoint import save_checkpoint

ROWS = [("law", 'the court, and "the" judge'), ("sport", "goal\u200d \u05d0"), ("law", "a b")]
TSV = "".join(f"{label}\t{text}\n" for label, text in ROWS).encode()
CSV = b'label,text,n\nlaw,"the ""court""\nhere",1\nsport,goal,2\n'
JSONL = b'{"label": "law", "text": "a \\u00e9"}\n{"text": "b", "label": ["x", "y"], "n": 1.50}\n'


def _packed(content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.tsv", content)
    return file.getvalue()


def _parquet() -> bytes:
    file = io.BytesIO()
    pl.DataFrame(ROWS, ["label", "text"], orient="row").write_parquet(file)
    return file.getvalue()


def _checkpoint() -> bytes:
    path = folder() / "seed.pt"
    save_checkpoint(
        path, {"model": {"w": torch.ones(2)}, "settings": {"lr": 0.1}, "state": {"epoch": 1}}
    )
    return path.read_bytes()


def _documents() -> bytes:
    path = folder() / "seed.npz"
    key = np.arange(3, dtype=np.uint64)
    Seen(*[key] * len(Seen.__dataclass_fields__)).save(path)
    return path.read_bytes()


def _requests() -> list[bytes]:
    def post(path: str, body: bytes, more: str = "") -> bytes:
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        return f"{head}Content-Length: {len(body)}\r\n{more}\r\n".encode() + body

    def get(path: str, more: str = "", method: str = "GET") -> bytes:
        return f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{more}\r\n".encode()

    one = post("/predict", b'{"text": "the goal", "top_k": 1}')
    last = "Connection: close\r\n"
    upgrade = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAM\r\n"
    return [
        one,
        post("/predict", b'{"texts": ["goal", "\\u00e9", ""]}', "Expect: 100-continue\r\n"),
        post("/explain", b'{"text": "the goal"}'),
        get("/health") + one * 2 + get("/metrics", last),
        get("/", method="HEAD") + get("/openapi.json") + get("/style.css?a=%20#b", last),
        get("http://127.0.0.1:80/health") + one + get("http://localhost?x"),
        b"GET /health HTTP/1.0\r\n\r\n",
        b"\r\n" + post("/predict", b'{"text": "x"}', upgrade) + get("/health", upgrade),
    ]


def seeds(target: str) -> list[bytes]:
    """Files that the target reads."""
    whole = folder() / "whole" / target
    if whole.exists():
        return [whole.read_bytes()]
    return {
        "csv": [CSV, CSV.replace(b",", b";"), CSV.decode().encode("utf-16")],
        "tsv": [TSV, b"label\ttext\tn\n" + b"a\t\"b\tc\"\t1\n" * 3],
        "jsonl": [JSONL, b"[" + JSONL.strip().replace(b"\n", b",\n") + b"]"],
        "txt": [b"__label__a __label__b the court\n__label__b goal\n"],
        "parquet": [_parquet()],
        "csv.gz": [gzip.compress(CSV), bz2.compress(CSV)],
        "tsv.zip": [_packed(TSV)],
        "checkpoint.pt": [_checkpoint()],
        "documents.npz": [_documents()],
        "serve": _requests(),
        "config.yaml": [b"model: textcnn\nlr: 1e-3\nmodel_settings: {maps: 3}\ntrain: [a.csv, b.csv]\n"],
        "vectors.vec": [b"2 3\ngoal 1 2 3\ncourt .5 -1e3 0\n", b"goal 1 2\nweb 3 4\n"],
    }[target]  # fmt: skip
