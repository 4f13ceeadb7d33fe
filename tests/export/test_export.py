"""What is exported scores, decides and prints as the classifier does, and replaces nothing."""

import dataclasses
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from dlnotes import files
from dlnotes.data.tokenization import MARKS
from dlnotes.data.vocabulary import Vocabulary
from dlnotes.errors import UserError
from dlnotes.export import folder as exporting
from dlnotes.export import program as programs
from dlnotes.export.folder import FULL, check_place, export, write_rest
from dlnotes.export.program import (
    NEEDED,
    TOLERANCE,
    Averaged,
    Exportable,
    difference,
    program_of,
    save_onnx,
    save_program,
)
from dlnotes.export.session import ExportedClassifier, Session
from dlnotes.files import kept
from dlnotes.training.classifier import Ensemble, TextClassifier, default_tokenizer
from dlnotes.training.decision import Decision

ROOT = Path(__file__).parents[2]
new_torch = pytest.mark.skipif(
    tuple(map(int, torch.__version__.split(".")[:2])) < NEEDED, reason="the exporter is too old"
)
unix = pytest.mark.skipif(sys.platform == "win32", reason="no fork, no flock")
WORDS = ["the", "goal", "of", "team", "match", "chip", "code", "web", ".", "?", "Mary"]
TEXTS = ["The GOAL of the team.", "", "unknown words", "code? Web! <br />chip", "of " * 40]
SMALL = {
    "fasttext": {"embedding_dim": 8, "ngrams": 3, "buckets": 64},
    "textcnn": {"embedding_dim": 8, "maps": 6},
    "textrnn": {"embedding_dim": 8, "hidden_size": 6},
    "rcnn": {"embedding_dim": 8, "context_size": 6, "hidden_size": 10},
    "han": {"embedding_dim": 8, "hidden_size": 4, "context_size": 6, "max_words": 5},
    "seq2seq": {"embedding_dim": 8, "hidden_size": 6, "maxout_size": 6},
    "transformer": {
        "embedding_dim": 8, "num_heads": 2, "num_layers": 2, "feedforward_dim": 16,
    },
    "dmn": {"embedding_dim": 8, "hidden_size": 6, "max_words": 9, "max_sentences": 7},
    "entnet": {"embedding_dim": 8, "slots": 5, "max_words": 9, "max_sentences": 7},
}  # fmt: skip


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def make(name="fasttext", settings=None, labels=("sport", "tech", "news"), **rest):
    """A classifier with random weights that are large enough to tell its labels apart."""
    torch.manual_seed(0)
    tokenizer = rest.pop("tokenizer", default_tokenizer(name))
    tokens = ["<pad>", "<unk>", *MARKS.get(tokenizer, ()), *WORDS]
    made = TextClassifier.create(
        name, settings or SMALL[name], Vocabulary(tokens), labels, tokenizer=tokenizer, **rest
    )
    with torch.no_grad():
        for parameter in made.model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return made


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A FastText without n-grams, as ONNX."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    classifier = make(settings={"embedding_dim": 8, "ngrams": 1}, max_tokens=30)
    out = tmp_path_factory.mktemp("exports") / "onnx"
    return classifier, out, export(classifier, out)


# Imports of nothing but the standard library, numpy and onnxruntime with what it needs.
ALONE = """
import runpy, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "polars", "dlnotes", "onnx", "safetensors", "jaxtyping"):
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def answers(out, *arguments, stdin=None):
    """What the program prints in a process of its own that cannot import torch."""
    command = [sys.executable, "-I", "-c", ALONE, str(out / "predict.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, input=stdin)
    assert not done.returncode, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@contextmanager
def after_a_line(command):
    """The program, which has classified a line and has its standard input still open."""
    # Where the tests run in the background, SIGINT may be ignored, and a child would inherit that.
    heeding = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(
        command, stdin=-1, stdout=-1, stderr=-1, text=True, preexec_fn=heeding
    ) as program:
        program.stdin.write("goal\n")
        program.stdin.flush()
        assert json.loads(program.stdout.readline())["text"] == "goal"
        yield program


def assert_same_answers(found, classifier, texts, top_k=3):
    expected = classifier.classify(texts, top_k=top_k)
    assert [answer.pop("text") for answer in found] == texts
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        for answer in (one, other):
            answer["probabilities"] = [p["probability"] for p in answer["top"]] + [
                *answer.get("probabilities", ()), answer.get("probability", 0.0)
            ]  # fmt: skip
            answer.pop("probability", None)
            for each in answer["top"]:
                del each["probability"]
        np.testing.assert_allclose(one.pop("probabilities"), other.pop("probabilities"), atol=1e-5)
        assert one == other


@new_torch
def test_the_program_answers_as_the_classifier_without_torch(exported):
    classifier, out, found = exported
    assert found.difference <= TOLERANCE
    assert found.without_program is None
    assert_same_answers(answers(out, *TEXTS), classifier, TEXTS)
    lines = answers(out, "--top-k", "1", stdin="a goal\nthe code\n")
    assert_same_answers(lines, classifier, ["a goal", "the code"], 1)


@new_torch
@pytest.mark.parametrize(
    ("multi_label", "decision"),
    [
        (False, Decision(temperature=2.5)),
        (True, Decision(temperature=0.5, threshold=(0.3, 0.5, 0.9))),
        (True, Decision(threshold=0.45)),
    ],
)
def test_temperature_thresholds_and_rejection_go_along(exported, tmp_path, multi_label, decision):
    classifier, out, _ = exported
    classifier = dataclasses.replace(classifier, decision=decision, multi_label=multi_label)
    if not multi_label:  # some answers are rejected, and some are not
        surest = classifier.probabilities(TEXTS).amax(1)
        reject = float(surest.min() + surest.max()) / 2
        classifier.decision = dataclasses.replace(decision, reject=reject)
    write_rest(classifier, tmp_path, "onnx")
    (tmp_path / "model.onnx").write_bytes((out / "model.onnx").read_bytes())
    found = answers(tmp_path, *TEXTS)
    if multi_label:
        assert len({len(answer["labels"]) for answer in found}) > 1
    else:
        assert {answer["label"] is None for answer in found} == {True, False}
    assert_same_answers(found, classifier, TEXTS)


@new_torch
def test_an_exported_classifier_is_measured_like_its_run(exported, tmp_path):
    classifier, out, _ = exported
    file = tmp_path / "test.tsv"
    file.write_text(
        "".join(f"{'sport' if i % 2 else 'tech'}\t{TEXTS[i % 5]}x\n" for i in range(70))
    )
    session = ExportedClassifier(classifier, Session(out / "model.onnx"))
    assert session.evaluate([file]).summary() == classifier.evaluate([file]).summary()
    assert session.scored == 70


def test_a_difference_is_seen():
    model = Averaged([make().model])
    sizes = [13]
    assert difference(model, model, sizes) == 0
    assert difference(model, lambda x: model(x) + 1e-4, sizes) > TOLERANCE
    assert not difference(model, lambda x: model(x) * float("nan"), sizes) <= TOLERANCE
    longer = lambda x: model(x) + (1.0 if x.shape[1] > 6 else 0.0)  # noqa: E731
    assert difference(model, longer, sizes) > TOLERANCE


@new_torch
def test_a_network_that_differs_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "difference", lambda *_: float("nan"))
    with pytest.raises(UserError, match="scores differ from the model's by nan"):
        export(make(settings={"embedding_dim": 8, "ngrams": 1}), tmp_path / "out", "torch")
    assert not any(tmp_path.iterdir())


def test_an_old_torch_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "__version__", "2.3.1+cu121")
    with pytest.raises(UserError, match=r"export needs torch 2\.13 or newer; this is 2\.3\.1"):
        export(make(), tmp_path / "out", "torch")


@new_torch
def test_a_missing_package_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(programs.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"needs the package onnx: pip install 'dlnotes\[export\]'"):
        export(make(), tmp_path / "out")


def test_nothing_but_an_earlier_export_is_replaced(tmp_path):
    run, out = tmp_path / "run", tmp_path / "out"
    run.mkdir()
    for place in (run, run / "inside", tmp_path):
        with pytest.raises(UserError, match="it is the run"):
            check_place(run, place, overwrite=True)
    check_place(run, out, overwrite=False)
    out.mkdir()
    check_place(run, out, overwrite=False)
    (out / "notes.txt").touch()
    with pytest.raises(UserError, match="not empty"):
        check_place(run, out, overwrite=False)
    with pytest.raises(UserError, match="does not hold an earlier export"):
        check_place(run, out, overwrite=True)
    (out / "config.json").write_text("[mine")
    with pytest.raises(UserError, match="not empty"):
        check_place(run, out, overwrite=False)
    (out / "config.json").write_text(json.dumps({"format": "another program's"}))
    with pytest.raises(UserError, match="does not hold an earlier export"):
        check_place(run, out, overwrite=True)
    (out / "config.json").write_text(json.dumps({"format": exporting._FORMAT}))
    check_place(run, out, overwrite=True)
    with pytest.raises(UserError, match="not a folder"):
        check_place(run, out / "notes.txt", overwrite=True)
    link = tmp_path / "link"
    link.symlink_to(run)
    with pytest.raises(UserError, match="it is the run"):
        check_place(run, link, overwrite=True)


def test_an_export_is_written_into_the_folder_that_is_there(tmp_path, monkeypatch):
    """The current folder is not taken away, and what is not of an earlier export stays."""
    monkeypatch.chdir(tmp_path)
    classifier = make(settings={"embedding_dim": 8, "ngrams": 1})
    export(classifier, Path(), "fasttext")
    written = {path.name for path in tmp_path.iterdir()}
    assert written == {"model.bin", "config.json", "labels.json", "vocabulary.txt"}
    Path("thesis.txt").write_text("x")
    of_export(tmp_path, "model.onnx", "2-vocabulary.txt")
    export(classifier, Path(), "fasttext")
    assert {path.name for path in tmp_path.iterdir()} == {*written, "thesis.txt"}
    assert Path("thesis.txt").read_text() == "x"


@new_torch
def test_the_program_tells_what_it_cuts_and_stops_when_nobody_reads(exported):
    classifier, out, _ = exported
    command = [sys.executable, "-I", "-c", ALONE, str(out / "predict.py")]
    long = "of " * 31
    done = subprocess.run([*command, long, "goal", long], capture_output=True, text=True)
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 3)
    assert done.stderr == "warning: texts of more than 30 tokens are cut there\n"
    assert_same_answers(answers(out, "-", stdin="a goal\n"), classifier, ["a goal"])
    helped = subprocess.run([*command, "--help"], capture_output=True, text=True)
    assert helped.returncode == 0
    assert "--top-k" in helped.stdout
    assert "probability" not in helped.stdout
    with after_a_line(command) as program:
        program.stdout.close()  # as `head -1` does
        program.stdin.write("goal\n" * 3)
        program.stdin.close()
        assert program.stderr.read() == ""
    assert program.returncode == 0


@new_torch
def test_the_program_refuses_what_dlnotes_refuses(exported):
    _, out, _ = exported
    (plain,) = answers(out, stdin="good\n")
    (marked,) = answers(out, stdin="\ufeffgood\n")
    assert marked == plain
    for arguments, given, code, told in (
        (("--top-k",), b"", 2, "argument --top-k: expected one argument"),
        (("--top-k", "x", "hi"), b"", 2, "argument --top-k: invalid int value: 'x'"),
        (("--top-k", "0", "hi"), b"", 2, "argument --top-k: must be at least 1, not 0"),
        (("hi", "--top-k", "-1"), b"", 2, "not -1"),
        (("--topk", "1", "hi"), b"", 2, "unrecognized arguments: --topk"),
        ((b"caf\xe9",), b"", 1, "error: 'utf-8' codec can't encode character"),
        ((), b"\xff\xfe bad\n", 1, "error: 'utf-8' codec can't decode byte 0xff"),
    ):
        command = [sys.executable, "-I", "-c", ALONE, str(out / "predict.py"), *arguments]
        done = subprocess.run(command, capture_output=True, check=False, input=given)
        assert (done.returncode, done.stdout) == (code, b"")
        assert told in done.stderr.decode()
        assert b"Traceback" not in done.stderr


@new_torch
def test_the_programs_lines_are_those_of_dlnotes(exported):
    classifier, out, _ = exported
    command = [sys.executable, "-I", "-c", ALONE, str(out / "predict.py")]
    given = b"a\rgoal\r\n\r\r\ncode"
    done = subprocess.run(command, capture_output=True, check=True, input=given)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert_same_answers(found, classifier, ["a\rgoal", "\r", "code"])


@new_torch
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_the_program_tells_of_a_full_disk_and_ends_when_it_is_told_to(exported):
    _, out, _ = exported
    command = [sys.executable, "-I", "-c", ALONE, str(out / "predict.py")]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*command, "goal"], stdout=full, stderr=-1, text=True)
    assert (done.returncode, done.stderr) == (1, "error: [Errno 28] No space left on device\n")
    closed = ["sh", "-c", '"$@" <&-', "sh", *command]
    done = subprocess.run(closed, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert "there is no standard input" in done.stderr
    with after_a_line(command) as program:  # now it waits for the next one
        program.send_signal(signal.SIGINT)
        assert program.stderr.read() == ""
    assert program.returncode == 130


@new_torch
@pytest.mark.slow
def test_the_network_of_an_entity_network_is_loaded_without_a_word(tmp_path, capfd):
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    path = tmp_path / "model.onnx"
    save_onnx(program_of(Exportable([make("entnet").model])), path)
    onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert capfd.readouterr().err == ""


@new_torch
@pytest.mark.parametrize(("kind", "int8"), [("onnx", True), ("torch", False)])
def test_a_path_that_is_not_utf8(kind, int8, tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    classifier = make(settings={"embedding_dim": 8, "ngrams": 1})
    out = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    found = export(classifier, out, kind, int8=int8)
    assert found.network.is_file()
    if kind == "onnx":
        assert [answer["text"] for answer in answers(out, *TEXTS)] == TEXTS


@new_torch
def test_a_full_disk_does_not_end_the_process(tmp_path):
    resource = pytest.importorskip("resource")
    program = program_of(Exportable([make(settings={"embedding_dim": 64, "ngrams": 1}).model]))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        with pytest.raises(OSError, match="too large"):
            save_program(program, tmp_path / "model.pt2")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)


@new_torch
def test_weights_that_are_too_large_for_onnx_are_told(tmp_path, monkeypatch):
    monkeypatch.setattr(programs, "_LARGEST", 100)
    with pytest.raises(UserError, match=r"take 0\.0 GB, but one ONNX file .*: use --format torch"):
        export(small(), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    export(small(), tmp_path / "out", "torch")


@new_torch
def test_a_folder_in_the_place_of_the_network_is_told_before_it_is_converted(tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "_write_network", pytest.fail)
    out = tmp_path / "out"
    (out / "model.onnx").mkdir(parents=True)
    (out / "config.json").write_text('{"format": "dlnotes export 1"}')
    (out / "labels.json").write_text("[]")
    check_place(tmp_path / "run", out, overwrite=True)
    with pytest.raises(UserError, match=r"model\.onnx: what is there does not belong"):
        export(small(), out, "onnx")
    assert (out / "labels.json").read_text() == "[]"


# --- fastText's format -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "rest", "why"),
    [
        ({"ngrams": 2, "buckets": 9}, {}, "hashes differently"),
        ({"ngrams": 1, "output": "hierarchical"}, {}, "another tree of labels"),
        ({"ngrams": 1}, {"multi_label": True}, "from a table"),
        ({"ngrams": 1}, {"tokenizer": "sentences"}, "fastText ends a line"),
    ],
)
def test_what_fasttexts_format_cannot_hold_is_told_and_leaves_nothing(
    settings, rest, why, tmp_path
):
    with pytest.raises(UserError, match=why):
        export(make(settings=settings, **rest), tmp_path / "out", "fasttext")
    with pytest.raises(UserError, match="of the model fasttext"):
        export(make("textcnn"), tmp_path / "out", "fasttext")
    assert not any(tmp_path.iterdir())


def test_fasttexts_file_is_its_version_and_replaces_an_export(tmp_path):
    classifier = make(settings={"embedding_dim": 8, "ngrams": 1})
    out = tmp_path / "out"
    for _ in range(2):
        found = export(classifier, out, "fasttext")
        assert found.without_program
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert found.network.read_bytes()[:8] == np.array([793712314, 12], "<i4").tobytes()


FIRST, SECOND = ["sport", "tech", "news"], ["good", "bad"]


def small(labels=FIRST):
    return make(settings={"embedding_dim": 8, "ngrams": 1}, labels=labels)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def of_export(folder, *names):
    """Add files to an export, such as those of another format."""
    config = json.loads((folder / "config.json").read_text())
    config["files"] += names
    (folder / "config.json").write_text(json.dumps(config))
    for name in names:
        (folder / name).write_text("x")


class Killed(BaseException):
    """What stands for the end of the process."""


@contextmanager
def killed_at(moment):
    """Let the process die before that change of the file system, and change nothing thereafter."""
    seen = []

    def dying(change):
        def changed(*given, **rest):
            seen.append(change)
            if len(seen) >= moment:
                raise Killed
            return change(*given, **rest)

        return changed

    with pytest.MonkeyPatch.context() as patch:
        for name in ("rename", "replace", "unlink", "remove", "mkdir", "rmdir"):
            patch.setattr(os, name, dying(getattr(os, name)))
        yield


@unix
@pytest.mark.parametrize("there", ["an export", "an export and more", "an empty folder", None])
def test_an_export_that_is_killed_at_any_moment(tmp_path, there):
    """The folder holds one export or says that it does not, and the next export succeeds."""
    run, out, whole = tmp_path / "run", tmp_path / "here" / "out", tmp_path / "whole"
    out.parent.mkdir()
    export(small(SECOND), whole, "fasttext")
    new = contents(whole)
    for at in range(1, 200):
        shutil.rmtree(out, ignore_errors=True)
        if there == "an empty folder":
            out.mkdir()
        if there in ("an export", "an export and more"):
            export(small(), out, "fasttext")
            of_export(out, "predict.py")  # which the new one does not have
            if there == "an export and more":
                (out / "thesis.txt").write_text("x")
        old = contents(out) if there else {}
        thesis = {"thesis.txt": b"x"} if there == "an export and more" else {}
        try:
            with killed_at(at):
                export(small(SECOND), out, "fasttext")
            done = True
        except Killed:
            done = False
        found = contents(out) if out.exists() else {}
        if found not in (old, new | thesis):
            assert json.loads(found["config.json"]) == {
                "format": "dlnotes export 1",
                "unfinished": True,
                "files": sorted((old.keys() | new.keys()) - {"thesis.txt"}),
            }
            with pytest.raises(UserError, match="holds an unfinished export: --overwrite"):
                check_place(run, out, overwrite=False)
            assert thesis.items() <= found.items()
        check_place(run, out, overwrite=True)
        export(small(SECOND), out, "fasttext")
        assert contents(out) == new | thesis
        left = [path for path in out.parent.rglob(".*") if any(path.iterdir())]
        assert left == []
        if done:
            break
    assert at > 5


@new_torch
@unix
def test_the_program_refuses_the_files_of_two_exports(exported, tmp_path):
    _, out, _ = exported
    out = Path(shutil.copytree(out, tmp_path / "out"))
    config, vocabulary = out / "config.json", out / "vocabulary.txt"
    command = [sys.executable, "-I", "-c", ALONE, str(out / "predict.py"), "goal"]
    told = f"error: {out} holds an unfinished export: export it again\n"
    # An export replaces all files while the program reads them.
    vocabulary.unlink()
    os.mkfifo(vocabulary)
    with subprocess.Popen(command, stdout=-1, stderr=-1, text=True) as program:
        with vocabulary.open("w") as pipe:  # the program is reading here
            age(config)
            pipe.write("<pad>\n<unk>\n")
        assert program.communicate() == ("", told)
        assert program.returncode == 1
    # An export was killed.
    config.write_text('{"format": "dlnotes export 1", "unfinished": true}')
    (out / "labels.json").unlink()
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", told)


def killed(out):
    """Leave what an export leaves that the system kills before it is done."""
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        patch.setattr(exporting, "write_rest", lambda *_: stack.enter_context(killed_at(1)))
        with pytest.raises(Killed):
            export(small(), out, "fasttext")


def age(path):
    """Let a file, or a folder and all that is in it, be two hours old."""
    before = time.time() - 7200
    for each in (path, *path.rglob("*")):
        os.utime(each, (before, before))


@unix
@pytest.mark.parametrize("there", [False, True])
def test_what_a_killed_export_has_left_is_removed_by_the_next(tmp_path, there, monkeypatch):
    out = tmp_path / "out"
    if there:
        out.mkdir()
    killed(out)
    (left,) = (out if there else tmp_path).glob(".*")
    assert {path.name for path in left.iterdir()} == {"unfinished", "files"}
    check_place(tmp_path / "run", out, overwrite=False)  # it is still empty
    with monkeypatch.context() as patch:
        patch.setattr(files, "lock", lambda _: False)  # a file system without locks
        export(small(), tmp_path / "third", "fasttext")
        export(small(), out, "fasttext")
        assert left.is_dir()
        age(left)
        export(small(), out, "fasttext")
        assert not left.exists()
    shutil.rmtree(out)
    if there:
        out.mkdir()
    killed(out)
    export(small(), out, "fasttext")
    assert list(tmp_path.rglob(".*")) == []


@unix
@pytest.mark.parametrize("inside", [False, True])
def test_what_others_have_named_alike_stays(tmp_path, inside):
    out = tmp_path / "out"
    folder = out if inside else tmp_path
    folder.mkdir(exist_ok=True)
    names = ["my-precious", "0123abcd", "0123ABCD", "0123abcdef", "link", "89abcdef"]
    for name in names[:4]:
        (folder / f".dlnotes-export-{name}").mkdir()
        (folder / f".dlnotes-export-{name}" / "thesis.txt").write_text("x")
    for name in ("0123abcd", "my-precious"):
        (folder / f".dlnotes-export-{name}" / "unfinished").write_text("by me")
    (folder / ".dlnotes-export-notes.txt").write_text("x")
    (folder / ".dlnotes-export-01234567").write_text("x")
    for name in names[4:]:
        (folder / f".dlnotes-export-{name}").symlink_to(f".dlnotes-export-{names[0]}")
    before = sorted(path for path in folder.rglob("*"))
    for path in before:
        os.utime(path, (time.time() - 7200,) * 2)
    if inside:
        with pytest.raises(UserError, match="out is not empty"):
            check_place(tmp_path / "run", out, overwrite=False)
        with pytest.raises(UserError, match="does not hold an earlier export"):
            check_place(tmp_path / "run", out, overwrite=True)
        with pytest.raises(UserError, match="does not hold an earlier export"):
            export(small(), out, "fasttext")
        for path in before:
            if path.name in (".dlnotes-export-notes.txt", ".dlnotes-export-my-precious"):
                alone = tmp_path / f"only{path.name}"
                alone.mkdir()
                shutil.move(shutil.copytree(path, tmp_path / "x") if path.is_dir() else
                            shutil.copy(path, tmp_path / "x"), alone / path.name)  # fmt: skip
                with pytest.raises(UserError, match="is not empty"):
                    check_place(tmp_path / "run", alone, overwrite=False)
    else:
        export(small(), out, "fasttext")
        export(small(), out, "fasttext")
        before = sorted({*before, out, *out.iterdir()})
    assert sorted(path for path in folder.rglob("*")) == before


@unix
def test_an_export_in_the_making_is_left_alone(tmp_path, monkeypatch):
    """However long a part of it takes that writes nothing."""
    write_rest = exporting.write_rest

    def slowly(*given):
        monkeypatch.setattr(exporting, "write_rest", write_rest)
        (folder,) = tmp_path.rglob(".*")
        age(folder)
        export(small(), tmp_path / "second", "fasttext")
        if folder.parent == tmp_path / "first":
            with pytest.raises(UserError, match="first: another export is writing to it"):
                check_place(tmp_path / "run", tmp_path / "first", overwrite=True)
        return write_rest(*given)

    for make_first in (False, True):
        if make_first:
            shutil.rmtree(tmp_path / "first")
            (tmp_path / "first").mkdir()
        monkeypatch.setattr(exporting, "write_rest", slowly)
        export(small(), tmp_path / "first", "fasttext")
        assert {path.name for path in tmp_path.iterdir()} == {"first", "second"}


@pytest.mark.parametrize("there", [False, True])
def test_of_two_exports_at_once_the_second_replaces_nothing(tmp_path, monkeypatch, there):
    write_rest, out = exporting.write_rest, tmp_path / "out"
    if there:
        out.mkdir()

    def meanwhile(*given):
        monkeypatch.setattr(exporting, "write_rest", write_rest)
        export(small(SECOND), out, "fasttext", overwrite=False)
        return write_rest(*given)

    monkeypatch.setattr(exporting, "write_rest", meanwhile)
    with pytest.raises(UserError, match="out is not empty: give another OUT, or --overwrite"):
        export(small(), out, "fasttext", overwrite=False)
    assert json.loads((out / "labels.json").read_text()) == SECOND
    assert list(tmp_path.rglob(".*")) == []
    monkeypatch.setattr(exporting, "write_rest", meanwhile)
    shutil.rmtree(out)
    if there:
        out.mkdir()
    export(small(), out, "fasttext", overwrite=True)
    assert json.loads((out / "labels.json").read_text()) == FIRST


@unix
def test_two_exports_do_not_put_files_into_a_folder_at_once(tmp_path):
    out = tmp_path / "out"
    export(small(), out, "fasttext")
    before = contents(out)
    with kept(out), pytest.raises(UserError, match=r"out: another export is writing to it"):
        export(small(SECOND), out, "fasttext")
    assert contents(out) == before
    assert list(tmp_path.rglob(".*")) == []


ANOTHER = """
import codecs, os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tests.export.test_export import check_place, export, small
out, classifier = Path(sys.argv[2]), small()
codecs.lookup("utf-8-sig")  # Python reads its file
os.setuid(65534)
check_place(out / "../run", out, overwrite=True)
export(classifier, out, "fasttext")
export(classifier, out, "fasttext")
"""


@unix
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs another user")
def test_a_folder_in_one_that_is_read_only():
    """Such as a volume in a container."""
    with tempfile.TemporaryDirectory() as folder:
        parent, out = Path(folder), Path(folder) / "out"
        out.mkdir()
        out.chmod(0o777)
        parent.chmod(0o555)
        command = [sys.executable, "-c", ANOTHER, str(ROOT), str(out)]
        subprocess.run(command, check=True)
        before = contents(out)
        assert before
        out.chmod(0o555)
        done = subprocess.run(command, capture_output=True, text=True)
        assert f"cannot write {out}: Permission denied" in done.stderr
        assert contents(out) == before


@new_torch
def test_what_is_named_alike_stays(tmp_path):
    out = tmp_path / "out"
    export(small(), out, "fasttext")
    mine = [out / "2024-vocabulary.txt", out / "predict.py", out / "model.pt2"]
    for path in mine:
        path.write_text("mine")
    (out / "model.onnx").mkdir()
    export(small(SECOND), out, "fasttext")
    assert json.loads((out / "labels.json").read_text()) == SECOND
    assert [path.read_text() for path in mine] == ["mine"] * 3
    assert (out / "model.onnx").is_dir()
    before = contents(out)
    told = "what is there does not belong to the earlier export; move it"
    with pytest.raises(UserError, match=rf"model\.pt2: {told}"):
        export(small(), out, "torch")
    assert contents(out) == before
    (out / "model.onnx").rmdir()
    with pytest.raises(UserError, match=rf"predict\.py: {told}"):
        export(small(), out, "onnx")
    (out / "predict.py").unlink()
    export(small(), out, "onnx")
    assert (out / "predict.py").read_text() != "mine"
    assert (out / "model.pt2").read_text() == "mine"


@pytest.mark.parametrize("more", ["../mine", "{}/mine", "a/mine", "\0", "mine", ["mine"], 1, None])
def test_a_list_of_files_that_is_not_of_an_export_removes_nothing_else(tmp_path, more):
    out = tmp_path / "out"
    export(small(), out, "fasttext")
    mine = [tmp_path / "mine", out / "mine", out / "a" / "mine"]
    (out / "a").mkdir()
    for path in mine:
        path.write_text("mine")
    config = json.loads((out / "config.json").read_text())
    config["files"].append(more.format(tmp_path) if isinstance(more, str) else more)
    (out / "config.json").write_text(json.dumps(config))
    export(small(SECOND), out, "fasttext")
    assert json.loads((out / "labels.json").read_text()) == SECOND
    assert [path.read_text() for path in mine] == ["mine"] * 3


def test_an_export_of_an_earlier_version_is_replaced(tmp_path):
    """It has no list of its files."""
    out = tmp_path / "out"
    export(small(), out, "fasttext")
    config = json.loads((out / "config.json").read_text())
    assert set(config.pop("files")) == {path.name for path in out.iterdir()}
    (out / "config.json").write_text(json.dumps(config))
    (out / "2-vocabulary.txt").write_text("of an ensemble")
    export(small(SECOND), out, "fasttext")
    assert not (out / "2-vocabulary.txt").exists()


@unix
def test_an_empty_folder_that_was_to_hold_an_export_is_removed_after_an_hour(tmp_path):
    out = tmp_path / "out"
    export(small(), out, "fasttext")
    empty = out / ".dlnotes-export-deadbeef"
    empty.mkdir()
    export(small(), out, "fasttext")
    assert empty.is_dir()  # another process may just have made it
    age(empty)
    export(small(), out, "fasttext")
    assert not empty.exists()


@unix
def test_a_link_to_a_folder_is_followed(tmp_path):
    run, out, link = tmp_path / "run", tmp_path / "out", tmp_path / "link"
    link.symlink_to("out")
    with pytest.raises(UserError, match=r"link: it is a link to .*out, which does not exist"):
        check_place(run, link, overwrite=True)
    out.mkdir()
    check_place(run, link, overwrite=False)
    export(small(), link, "fasttext")
    check_place(run, link, overwrite=True)
    export(small(SECOND), link, "fasttext")
    assert link.is_symlink()
    assert json.loads((out / "labels.json").read_text()) == SECOND
    assert {path.name for path in tmp_path.iterdir()} == {"out", "link"}


def test_a_full_disk_leaves_an_export_as_it_was(tmp_path, monkeypatch):
    out = tmp_path / "out"
    export(small(), out, "fasttext")
    before = contents(out)

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for name in ("write_json", "write_rest"):
        with monkeypatch.context() as patch:
            patch.setattr(exporting, name, full)
            with pytest.raises(UserError, match=r"out: No space left on device"):
                export(small(SECOND), out, "fasttext")
        assert contents(out) == before
        assert list(tmp_path.rglob(".*")) == []


@pytest.mark.slow
def test_the_package_fasttext_predicts_the_same(tmp_path):
    python = ROOT / ".venv-fasttext" / "bin" / "python"
    if not python.exists():
        pytest.skip("make .venv-fasttext/.ready")
    decision = Decision(temperature=1.7)
    classifier = make(settings={"embedding_dim": 8, "ngrams": 1}, decision=decision)
    export(classifier, tmp_path / "out", "fasttext")
    texts = ["the goal of the team", "<unk> code", "goal", "web . <unk> ?"]
    program = (
        "import fasttext, json, sys; model = fasttext.load_model(sys.argv[1])\n"
        "for text in sys.argv[2:]:\n"
        "    labels, p = model.predict(text, k=3)\n"
        "    print(json.dumps([labels, p.tolist()]))"
    )
    command = [str(python), "-c", program, str(tmp_path / "out" / "model.bin"), *texts]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    # A word that no vocabulary has: dlnotes reads <unk> as such a word, too.
    for line, expected in zip(
        done.stdout.splitlines(), classifier.classify(texts, top_k=3), strict=True
    ):
        labels, p = json.loads(line)
        assert labels == [f"__label__{each['label']}" for each in expected["top"]]
        # The program adds 1e-5 to a probability before it takes the logarithm.
        ours = [each["probability"] + 1e-5 for each in expected["top"]]
        np.testing.assert_allclose(p, ours, atol=2e-6)


# --- every model -------------------------------------------------------------------------------


@new_torch
@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_every_model_has_the_same_scores_in_both_formats(name, tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    classifier = make(name)
    classifier.model.eval()
    program = programs.program_of(exporting.network_of(classifier, Exportable))
    programs.save_program(program, tmp_path / "model.pt2")
    programs.save_onnx(program, tmp_path / "model.onnx")
    loaded = torch.export.load(tmp_path / "model.pt2").module()
    session = Session(tmp_path / "model.onnx", threads=1)
    random = torch.Generator().manual_seed(1)
    for batch in (1, 2, 64):
        for longest in (0, 1, 2, 6, 50):
            tokens = programs.documents(batch, longest, len(classifier.vocabulary), random)
            with torch.inference_mode():
                expected = classifier.model(tokens)
            for scores in (loaded, session):
                torch.testing.assert_close(scores(tokens), expected, rtol=1e-5, atol=1e-5)


@new_torch
@pytest.mark.slow
@pytest.mark.parametrize("average", ["probabilities", "logits"])
def test_an_ensemble_is_one_network_and_reads_text_in_several_ways(average, tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    members = [
        make(),
        make("textcnn", tokenizer="cased", max_tokens=7),
        make("textcnn", tokenizer="characters"),
    ]
    ensemble = Ensemble(members, [0.3, 0.7, 0.0], ["a", "b", "c"], average)
    found = export(ensemble, tmp_path / "out", int8=True)
    assert found.difference <= TOLERANCE < found.quantized < 1
    (tmp_path / "out" / FULL).replace(found.network)
    assert_same_answers(answers(tmp_path / "out", *TEXTS), ensemble, TEXTS)
