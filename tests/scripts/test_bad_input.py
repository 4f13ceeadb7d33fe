"""A user's mistakes: one line that says what, where and what to do; exit code 2; nothing lost."""

import io
import os
from types import SimpleNamespace

import pytest

from small import model_args

GOOD = "sport\tgoal team\ntech\tchip code\n" * 20


def train(files, *more, **own):
    """Arguments of a quick training in which `own` replaces files."""
    chosen = {"train": files / "train.tsv", "test": files / "test.tsv"} | own
    given = [part for name, path in chosen.items() if path for part in (f"--{name}", path)]
    return ["train", *given, "--epochs", 1, *model_args("fasttext"), *more]


def case(make, *expected):
    return pytest.param(make, expected)


def put(path, content):
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def loop(path):
    path.symlink_to(path)
    return path


CASES = {
    "missing file": case(lambda f, t: train(f, train=t / "no.tsv"), "no.tsv does not exist"),
    "missing test file": case(lambda f, t: train(f, test=t / "no.tsv"), "no.tsv does not exist"),
    "missing column": case(
        lambda f, t: train(f, train=put(t / "a.csv", "klass,text\na,b\n"), **{"label-column": "label"}),
        "a.csv: no label column 'label'; the file has: klass, text", "--label-column",
    ),
    "empty file": case(lambda f, t: train(f, train=put(t / "a.tsv", "")), "a.tsv holds no documents"),
    "one class": case(lambda f, t: train(f, train=put(t / "a.tsv", "x\ty\n" * 9)), "only one class, 'x'"),
    "unseen label": case(
        lambda f, t: train(f, test=put(t / "b.tsv", "sport\tx\nlaw\ty\n")),
        "b.tsv:2: label 'law' does not occur",
    ),
    "unseen label far behind": case(
        lambda f, t: train(f, test=put(t / "b.tsv", ("sport\t" + "x" * 10**6 + "\n") * 6 + "law\ty\n")),
        "b.tsv:7: label 'law' does not occur", "the trained classifier is kept in",
    ),
    "not UTF-8": case(lambda f, t: train(f, train=put(t / "a.tsv", GOOD.encode() + b"x\t\xff\n")), "a.tsv:41: not UTF-8"),
    "too few fields": case(lambda f, t: train(f, train=put(t / "a.tsv", GOOD + "x\n")), "a.tsv:41: too few fields"),
    "nan loss": case(lambda f, t: train(f, "--optimizer", "gradient-descent", "--lr", 1e38, "--epochs", 9), "the loss became", "lower --lr"),
    "unwritable output": case(lambda f, t: train(f, "--out", put(t / "file", "") / "run"), "cannot write to", "give another --out"),
    "unknown model": case(lambda f, t: train(f, "--model", "bert"), "--model must be one of fasttext, textcnn, textrnn, rcnn, han, seq2seq, transformer, dmn, entnet, not 'bert'"),
    "unknown optimizer": case(lambda f, t: train(f, "--optimizer", "shampoo"), "optimizer must be one of"),
    "bad lr": case(lambda f, t: train(f, "--lr", -1), "lr must be"),
    "lr is no number": case(lambda f, t: train(f, "--lr", "nan"), "lr must be a finite number of at least 0, not nan"),
    "lr is infinite": case(lambda f, t: train(f, "--lr", "inf"), "lr must be a finite number"),
    "no epoch": case(lambda f, t: train(f, "--epochs", 0), "epochs must be at least 1, not 0"),
    "negative seed": case(lambda f, t: train(f, "--seed", -1), "seed must be at least 0"),
    "optimizer": case(lambda f, t: train(f, "--optimizer", "sgd"), "not 'sgd'; see gradient-descent, and momentum"),
    "negative batch": case(lambda f, t: train(f, "--batch-size", -1), "--batch-size must be at least 0, not -1"),
    "all steps rise": case(lambda f, t: train(f, "--warmup", 1), "warmup must be at least 0 and below 1, not 1.0"),
    "clip_norm is no number": case(lambda f, t: train(f, "--clip-norm", "nan"), "--clip-norm must be a finite number of at least 0, not nan"),
    "all documents are dev": case(lambda f, t: train(f, "--dev-fraction", 1), "--dev-fraction must be above 0 and below 1"),
    "no word": case(lambda f, t: train(f, "--max-size", 0), "--max-size must be at least 1"),
    "bad class weights": case(lambda f, t: train(f, "--class-weights", "equal"), "--class-weights must be one of none, balanced, not 'equal'"),
    "nearly a model setting": case(lambda f, t: train(f, "embeding_dim=3"), "fasttext has no setting 'embeding_dim=3'", "did you mean 'embedding_dim'?"),
    "model setting is no number": case(lambda f, t: train(f, "dropout=1e999"), "dropout must be a finite number, not inf"),
    "no member is added": case(lambda f, t: ["ensemble", t, "--out", t / "x", "--rounds", 0], "rounds must be at least 1 and below 100,001, not 0"),
    "no dimension": case(lambda f, t: ["learn_vectors", f / "train.tsv", "--out", t / "x", "--dimensions", 0], "dimensions must be at least 1, not 0"),
    "no beam": case(lambda f, t: ["translate", "train", "--data-dir", t, "--beam", 0], "beam must be at least 1, not 0"),
    "no hidden unit": case(lambda f, t: ["train_digits", "--hidden", 0, "--out", t / "x"], "hidden must be a tuple"),
    "digits' lr is no number": case(lambda f, t: ["train_digits", "--lr", "nan", "--out", t / "x"], "lr must be a finite number of at least 0, not nan"),
    "bad model setting": case(lambda f, t: ["train", "--train", f / "train.tsv", "--model-args", "size=3"], "fasttext has no setting 'size=3'", "embedding_dim=10"),
    "unknown corpus": case(lambda f, t: ["train", "--corpus", "nope"], "corpus 'nope' is none of"),
    "corpus and train": case(lambda f, t: train(f, "--corpus", "bbc"), "give either --corpus or --train"),
    "test without train": case(lambda f, t: ["train", "--test", f / "test.tsv"], "belong to --train FILE"),
    "no cuda": case(lambda f, t: train(f, "--device", "cuda"), "torch sees no CUDA device"),
    "nothing to resume": case(lambda f, t: train(f, "--resume"), "there is nothing to resume"),
    "not a run, evaluate": case(lambda f, t: ["evaluate", t, "--test", f / "test.tsv"], "is not a trained classifier", "config.json"),
    "not a run, predict": case(lambda f, t: ["predict", t / "no", "x"], "is not a trained classifier"),
    "epochs are no number": case(lambda f, t: train(f, "--epochs", "x"), "error: --epochs must be an integer of at least 1, not 'x'"),
    "port is no number": case(lambda f, t: ["serve", t, "--port=x"], "error: --port must be an integer of at least 0 and at most 65,535, not 'x'"),
    "option without a value": case(lambda f, t: train(f, "--amp=true"), "error: --amp takes no value: give --amp or --no-amp, not 'true'"),
    "another one": case(lambda f, t: train(f, "--no-refit", "maybe"), "error: --refit takes no value: give --refit or --no-refit, not 'maybe'"),
    "a third one": case(lambda f, t: train(f, "--refit=maybe"), "error: --refit takes no value: give --refit or --no-refit, not 'maybe'"),
    "no label is given": case(lambda f, t: ["predict", t, "--top-k", 0, "x"], "error: --top-k must be at least 1, not 0"),
    "nothing may be sent": case(lambda f, t: ["serve", t, "--max-bytes", 0], "error: --max-bytes must be at least 1, not 0"),
    "unknown home": case(lambda f, t: train(f, "--from", "~no-such-user/x"), "error: --from: there is no home folder ~no-such-user"),
    "data folder is a file": case(lambda f, t: ["train", "--corpus", "trec", "--data-dir", put(t / "a", "")], "a is a file, not a folder"),
    "blank path": case(lambda f, t: ["predict", " ", "x"], "error: PATH: a path must not be blank: ' '"),
    "blank path among several": case(lambda f, t: train(f, train=" "), "error: --train: a path must not be blank: ' '"),
    "link to itself": case(lambda f, t: train(f, train=loop(t / "loop")), "error: --train ", "loop cannot be read: it is a link that leads back to itself"),
    "vectors that link to themselves": case(lambda f, t: train(f, "--vectors", loop(t / "loop")), "error: --vectors ", "loop cannot be read: it is a link that leads back to itself"),
    "null character in vectors": case(lambda f, t: train(f, "--config", put(t / "c.yaml", 'vectors: "a\\0b"')), "error: --vectors: a path must not hold a null character", "(options are also read from ", "c.yaml)"),
    "pattern of a link to itself": case(lambda f, t: train(f, train=loop(t / "loop.csv").with_name("*.csv")), "loop.csv cannot be read: it is a link that leads back to itself"),
    "errors as text": case(lambda f, t: ["evaluate", t, "--test", f / "test.tsv", "--errors", "e.txt"], "error: --errors e.txt must end in .csv or .csv.gz"),
    "foreign folder": case(lambda f, t: [put(t / "config.json", "{}"), "predict", t, "x"][1:], "not a run of dlnotes"),
}  # fmt: skip


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder to stand in: the default --out lies below it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def told(result):
    assert result.code == 2, result
    line = result.err.strip().splitlines()[-1]
    assert line.startswith("error: ")
    assert "Traceback" not in result.err
    return line


@pytest.mark.parametrize(("make", "expected"), CASES.values(), ids=CASES)
def test_one_line_and_exit_code_2(script, files, here, make, expected):
    if make is CASES["no cuda"].values[0]:
        torch = pytest.importorskip("torch")
        if torch.cuda.is_available():
            pytest.skip("there is a CUDA device")
    line = told(script(*make(files, here)))
    for part in expected:
        assert part in line


@pytest.mark.parametrize(
    ("option", "expected"),
    [(["--device", "gpu"], "device must be auto"), (["--amp", "--device", "cpu"], "amp (bf16")],
)
def test_a_device_is_refused_before_documents_are_read(script, files, here, option, expected):
    (here / "bad.tsv").write_text("x\n")
    found = script(*train(files, *option, train="bad.tsv"))
    assert found.err.startswith(f"error: {expected}")
    assert len(found.err.splitlines()) == 1


def test_a_finished_run_needs_no_device(script, files, here):
    assert script(*train(files, "--out", "run")).code == 0
    found = script(*train(files, "--out", "run", "--resume", "--device", "cuda:99"))
    assert (found.code, found.out[:4]) == (0, "dev ")


def test_a_folder_with_a_run_is_left_alone(script, files, here):
    assert script(*train(files, "--out", "run")).code == 0
    before = {path: path.read_bytes() for path in (here / "run").rglob("*") if path.is_file()}
    assert "already holds a run" in told(script(*train(files, "--out", "run")))
    (here / "bad.tsv").write_text("law\tx\n")
    assert "bad.tsv:1: label 'law'" in told(script("evaluate", "run", "--test", "bad.tsv"))
    assert "resume with the same settings" in told(
        script(*train(files, "--out", "run", "--resume", "--lr", 0.5))
    )
    assert {path: path.read_bytes() for path in before} == before


def test_a_damaged_checkpoint(script, files, here):
    assert script(*train(files, "--out", "run")).code == 0
    (here / "run" / "checkpoint.pt").write_bytes(b"PK junk")
    (here / "run" / "metrics.json").unlink()  # with it the run is finished
    assert "is not a checkpoint" in told(script(*train(files, "--out", "run", "--resume")))
    (here / "run" / "classifier" / "model.safetensors").write_bytes(b"\0" * 99)
    assert "damaged or foreign" in told(script("predict", "run", "x"))


def test_predict_names_the_line_that_is_not_utf8(script, files, here):
    assert script(*train(files, "--out", "run")).code == 0
    stream = SimpleNamespace(buffer=io.BytesIO(b"fine\n\xff\n"))
    assert "standard input:2: not UTF-8" in told(script("predict", "run", stdin=stream))
    assert "no.txt cannot be read" in told(script("predict", "run", "--file", "no.txt"))
    assert "not both" in told(script("predict", "run", "x", "--file", "no.txt"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(script, files, here):
    (here / "locked").mkdir(mode=0o500)
    assert "cannot write to" in told(script(*train(files, "--out", "locked/run")))
