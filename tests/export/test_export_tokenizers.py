"""Tokenizations as the exported program has them: token for token those of polars."""

import json
import random
import runpy
import shutil
import sys
import time
import types
from importlib import resources

import polars as pl
import pytest

from dlnotes.data.tokenization import NAMES, TOKENIZERS
from dlnotes.errors import UserError
from dlnotes.export.folder import PROGRAM
from dlnotes.export.tokenizers import lower_case, members, steps_of, to_python

PIECES = [
    "a", "B", "c", "Mr. ", "mR.\n", "e.g. ", "i.e. ", "İ. ", "ı. ", "ſ. ", "K. ", "Σ", "ΑΣ", "ς", ".",
    "!", "?", " ", "  ", "\n", "\t", "\x1c", "\u3000", "<br />", "<BR />", "<bR /><br />", '"', "'",
    "'s", "’re", "-", "x-y", "1.5", "1,000", "2", "</s>", "<question>", "<pad>", "。", "」", "中",
    "文", "ไ", "ท", " ไ", "한", "국", "é", "e\u0301", "\u200d", "\ufdd0", "$1", "\\1", "ǅ", "Ⅳ", "²",
    "١", "@-@", "😀", "👍🏽", "🇩🇪", "❤️", "ა", "।", " ।", "ª", "؟", "ب", "(", ")", "[", "]", ";", ":", "_",
]  # fmt: skip
ALL = [chr(n) for n in range(1, 0x11000) if not 0xD800 <= n < 0xE000]


@pytest.fixture(scope="module")
def tokenize(tmp_path_factory):
    """The function of the program, run from a folder without a network."""
    folder = tmp_path_factory.mktemp("exported")
    program = resources.files("dlnotes.export") / PROGRAM
    with resources.as_file(program) as path:
        shutil.copy(path, folder)
    (folder / "labels.json").write_text("[]")
    (folder / "config.json").write_text(json.dumps({"lower": lower_case(), "members": []}))
    (folder / "model.onnx").touch()
    stub = types.ModuleType("onnxruntime")
    stub.InferenceSession = lambda *_, **__: None
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "onnxruntime", stub)
        return runpy.run_path(str(folder / PROGRAM))["tokenize"]


@pytest.fixture(scope="module")
def texts():
    chance = random.Random(0)
    mixed = ["".join(chance.choices(PIECES, k=chance.randrange(25))) for _ in range(1500)]
    strange = ["".join(chance.choices(ALL, k=20)) for _ in range(500)]
    runs = [
        between.join(ALL[i : i + 256]) for between in ("", " ") for i in range(0, len(ALL), 256)
    ]
    return [*mixed, *strange, *runs]


@pytest.mark.parametrize("name", TOKENIZERS)
def test_the_exported_tokenization_is_that_of_the_training(name, tokenize, texts):
    expected = pl.DataFrame({"text": texts}).select(TOKENIZERS[name](pl.col("text")))["text"]
    steps = json.loads(json.dumps(steps_of(name)))
    for text, tokens in zip(texts, expected, strict=True):
        assert tokenize(text, steps) == [t for t in tokens if t], repr(text)


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize(
    "unit", ["。", "！」", "…", "!", "?)", "好!", ". ", " ", "ไ ", "1", "1,", "-", '"']
)
def test_no_text_takes_long(name, unit, tokenize):
    """Python's regular expressions try again what has failed; those of polars do not."""
    text, steps = unit * 3000, steps_of(name)
    (expected,) = pl.DataFrame({"text": [text]}).select(TOKENIZERS[name](pl.col("text")))["text"]
    began = time.process_time()
    assert tokenize(text, steps) == [t for t in expected if t]
    assert time.process_time() - began < 1


@pytest.mark.parametrize("name", sorted({*NAMES} - {*TOKENIZERS}))
def test_what_needs_a_package_says_so(name):
    with pytest.raises(UserError, match=f"{name} needs a package of its own"):
        steps_of(name)


def test_classes_are_those_of_rust():
    assert members(r"\s").startswith("\\\t-\\\r\\ ")
    assert to_python(r"[^\s.]\S") == f"[^{members(chr(92) + 's')}.][^{members(chr(92) + 's')}]"
    assert to_python("(?i)k") == "[Kk\u212a]"


def test_the_program_is_short():
    text = (resources.files("dlnotes.export") / PROGRAM).read_text("utf-8")
    assert len(text.splitlines()) <= 85
    imports = [line.split()[1] for line in text.splitlines() if line.startswith(("import", "from"))]
    assert {*imports} - sys.stdlib_module_names == {"numpy", "onnxruntime"}
