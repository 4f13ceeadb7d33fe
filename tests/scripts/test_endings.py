"""However a program is ended: one line, the right exit code, and what is finished is kept."""

import errno
import importlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from running import ROOT

import dlnotes.commands
import dlnotes.training.train as train_module
from dlnotes.data.dataset import Dataset
from dlnotes.files import locked
from dlnotes.training.fit import TrainingState
from small import model_args

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and streams of Unix")


def arguments(files, out, *more):
    return [
        "--model", "fasttext", "--train", files / "train.tsv", "--test", files / "test.tsv", "--out", out,
        "--epochs", 2, "--batch-size", 8, *model_args("fasttext"), *more,
    ]  # fmt: skip


@pytest.fixture(autouse=True)
def _ctrl_c():
    """Signals as in a terminal, whatever runs the tests."""
    old = [(n, signal.getsignal(n)) for n, _ in SIGNALS]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    for number, handler in old:
        signal.signal(number, handler)


SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]


def sends(number, function):
    """The same function, to which a signal comes."""

    def sent(*args, **kwargs):
        result = function(*args, **kwargs)
        signal.raise_signal(number)
        return result

    return sent


@pytest.mark.parametrize("command", ["train --help", "runs", "predict /run text"])
def test_a_current_folder_that_was_removed_is_told(tmp_path, command):
    """torch's own libraries cannot be loaded then: oneMKL ends the process with a line of its own."""
    gone = tmp_path / "gone"
    gone.mkdir()
    shell = f'cd "$0" && rmdir "$0" && exec "$1" -m dlnotes {command}'
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        ["sh", "-c", shell, gone, sys.executable], capture_output=True, text=True, env=environment
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: the current folder cannot be used (No such file or directory); it may have been "
        "removed: change to another one with cd\n"
    )


@pytest.fixture(scope="module")
def trained(files, tmp_path_factory):
    """A finished run; to be copied by those who change it."""
    out = tmp_path_factory.mktemp("trained") / "run"
    command = [sys.executable, "-m", "dlnotes", "train", *map(str, arguments(files, out))]
    subprocess.run(command, check=True, capture_output=True, env=os.environ | {"OMP_NUM_THREADS": "1"})  # fmt: skip
    return out


@pytest.mark.parametrize(("number", "code"), SIGNALS)
@pytest.mark.parametrize(
    ("where", "name"),
    [(dlnotes.commands, "load"), (dlnotes.commands, "partial")],
    ids=["imports", "start"],
)
def test_a_signal_at_the_start(script, files, tmp_path, monkeypatch, where, name, number, code):
    monkeypatch.setattr(where, name, sends(number, getattr(where, name)))
    result = script("train", *arguments(files, tmp_path / "run"))
    assert (result.code, result.out, result.err) == (code, "", "Stopped.\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("handler", [signal.SIG_IGN, lambda *_: None])
def test_a_hang_up_that_is_ignored_ends_nothing(script, trained, monkeypatch, handler):
    """nohup, or a program that calls ours and handles the signal itself."""
    signal.signal(signal.SIGHUP, handler)
    dlnotes.commands.load("runs")
    monkeypatch.setattr(json, "loads", sends(signal.SIGHUP, json.loads))
    result = script("runs", trained.parent)
    assert (result.code, result.err) == (0, "")
    assert signal.getsignal(signal.SIGHUP) == handler


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_a_signal_while_documents_are_read(script, files, tmp_path, monkeypatch, number, code):
    command = importlib.import_module("dlnotes.commands.train")
    monkeypatch.setattr(command, "load_dataset", sends(number, command.load_dataset))
    result = script("train", *arguments(files, tmp_path / "run"))
    assert (result.code, result.err) == (code, "Stopped.\n")


@pytest.mark.parametrize(("number", "code"), SIGNALS)
@pytest.mark.parametrize("name", ["create", "read_test", "evaluate"])
def test_a_signal_before_and_after_training(
    script, files, tmp_path, monkeypatch, name, number, code
):
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        where = {"create": train_module.TextClassifier, "read_test": Dataset}.get(name, train_module)  # fmt: skip
        patch.setattr(where, name, sends(number, getattr(where, name)))
        stopped = script("train", *arguments(files, out))
    assert stopped.code == code
    usual = ("recipe: ", "epoch", "training again up to epoch")
    last = [line for line in stopped.err.splitlines() if not line.startswith(usual)]
    assert not (out / ".lock").exists()
    if name == "create":
        assert last == ["Stopped before the first checkpoint: nothing is kept."]
        again = script("train", *arguments(files, out))
    else:
        assert last[0] == "Stopped. Go on with:"
        assert last[1].endswith("--resume")
        assert len(last) == 2
        again = script("train", *last[1].split()[2:])
    assert again.code == 0, again.err
    assert json.loads((out / "metrics.json").read_text())["test"]


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_a_signal_in_training_has_its_own_exit_code(
    script, files, tmp_path, monkeypatch, number, code
):
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr("dlnotes.training.fit.clip_grad_norm_", sends(number, lambda *_, **__: None))  # fmt: skip
        stopped = script("train", *arguments(files, out, "--clip-norm", 1))
    assert stopped.code == code
    assert "Stopped and saved. Go on with:" in stopped.err
    assert script("train", *arguments(files, out, "--clip-norm", 1), "--resume").code == 0


@pytest.mark.parametrize("name", ["predict", "evaluate", "runs", "ensemble"])
def test_a_signal_in_another_command(script, files, trained, monkeypatch, tmp_path, name):
    module = dlnotes.commands.load  # the command's own module is loaded first
    module(name)
    monkeypatch.setattr(json, "loads", sends(signal.SIGINT, json.loads))
    given = {
        "predict": [trained, "x"],
        "evaluate": [trained, "--test", files / "test.tsv"],
        "runs": [trained.parent],
        "ensemble": [trained, "--out", tmp_path / "x", "--train", files / "train.tsv"],
    }[name]
    result = script(name, *given)
    assert (result.code, result.err) == (130, "Stopped.\n")


# --- streams ------------------------------------------------------------------------------------


def shell(line, *, code=0, **more):
    """Run a line of the shell in which $D is dlnotes."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "D": f"{sys.executable} -m dlnotes"} | more
    environment["PYTHONPATH"] = str(ROOT / "src")
    done = subprocess.run(
        ["bash", "-c", line], capture_output=True, env=environment, check=False, timeout=120
    )
    assert done.returncode == code, done
    assert b"Traceback" not in done.stderr
    assert b"Exception" not in done.stderr
    return done.stdout.decode("utf-8", "surrogateescape"), done.stderr.decode()


def put(*arguments):
    return " ".join(f"'{argument}'" for argument in arguments)


@pytest.mark.slow
@pytest.mark.parametrize("streams", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_stream_that_is_closed_is_the_null_device(files, tmp_path, streams):
    out = tmp_path / "run"
    shell(f"$D train {put(*arguments(files, out))} {streams}")
    assert "test" in json.loads((out / "metrics.json").read_text())
    for file in (out / "classifier").iterdir():  # none has got the number of a stream
        assert b"accuracy" not in file.read_bytes()


@pytest.mark.parametrize("streams", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_no_file_gets_the_number_of_a_stream(streams):
    """What a library then prints would be written into it."""
    code = "import os, sys; from dlnotes.cli import exit_handler\n"
    code += "with exit_handler(): number = os.open(os.devnull, os.O_RDONLY)\n"
    code += "sys.exit(number < 3 or sys.stdout is None or sys.stderr is None)"
    shell(f'{sys.executable} -c "{code}" {streams}')


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux")
def test_output_that_cannot_be_written(files, trained, tmp_path):
    out = tmp_path / "run"
    _, err = shell(f"$D train {put(*arguments(files, out))} >/dev/full", code=2)
    assert err.splitlines()[-1] == "error: cannot write to standard output: No space left on device"
    assert "test" in json.loads((out / "metrics.json").read_text())
    shell(f"$D train {put(*arguments(files, tmp_path / 'other'))} 2>/dev/full")
    assert (tmp_path / "other" / "metrics.json").exists()
    _, err = shell("$D train --help >/dev/full", code=2)
    assert err == "error: cannot write to standard output: No space left on device\n"
    _, err = shell("$D train --help | true; exit ${PIPESTATUS[0]}")
    assert err == ""
    _, err = shell(f"$D predict {trained} goal >/dev/full", code=2)
    assert err == "error: cannot write to standard output: No space left on device\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux")
@pytest.mark.parametrize("buffer", ["", "1"])
@pytest.mark.parametrize(
    ("call", "told"),
    [
        ("raise OSError(errno.ENOSPC, 'No space left on device')", "cannot write"),
        ("print('x')", None),
        ("print('x' * 100_000)", None),
    ],
)
def test_standard_output_is_blamed_only_where_it_refuses(call, told, buffer):
    for stream in ("stdout", "null") if told else ("full",):
        code = f"import errno; from dlnotes.cli import exit_handler\nwith exit_handler(): {call}"
        where = {"stdout": "", "null": "> /dev/null", "full": "> /dev/full"}[stream]
        out, err = shell(f'PYTHONUNBUFFERED={buffer} {sys.executable} -c "{code}" {where}', code=2)
        what = told or "cannot write to standard output"
        assert (out, err) == ("", f"error: {what}: No space left on device\n")


def test_a_run_that_does_not_fit_is_named(script, files, tmp_path, monkeypatch):
    def init(self, *_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(TrainingState, "__init__", init)
    result = script("train", *arguments(files, tmp_path / "run"))
    assert result.code == 2
    assert f"error: {tmp_path / 'run'}: No space left on device" in result.err.splitlines()


@pytest.mark.slow
def test_a_reader_of_the_progress_that_goes_away_ends_no_training(files, tmp_path):
    out = tmp_path / "run"
    line = f"$D train {put(*arguments(files, out, '--epochs', 30, '--patience', 0))} 2>&1 | head -2"
    shown, _ = shell(f"{line}; exit ${{PIPESTATUS[0]}}")
    assert shown.splitlines()[1].startswith("epoch   1")
    assert len(json.loads((out / "metrics.json").read_text())["history"]) == 30


@pytest.mark.slow
def test_closed_streams_of_other_commands(files, trained, tmp_path):
    _, err = shell(f"$D predict {trained} <&-", code=2)
    assert err == "error: there is no standard input; give texts or --file FILE\n"
    _, err = shell(f"$D translate translate {trained} <&-", code=2)
    assert len(err.splitlines()) == 1
    shell(f"$D evaluate {trained} --json {tmp_path / 'a.json'} >&-")
    assert json.loads((tmp_path / "a.json").read_text())["accuracy"]


@pytest.mark.slow
def test_names_that_are_not_utf8_and_a_terminal_without_them(files, tmp_path):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    folder.mkdir()
    shutil.copy(files / "train.tsv", folder / "train.tsv")
    given = arguments(files, "RUN")
    given[given.index(files / "train.tsv")] = "TRAIN"
    line = put(*given).replace("'RUN'", "$'caf\\xe9/run'").replace("'TRAIN'", "$'caf\\xe9/train.tsv'")  # fmt: skip
    here = f"cd {tmp_path}; "
    _, err = shell(f"{here}$D train {line} >out.txt", PYTHONIOENCODING="ascii")
    assert len([line for line in err.splitlines() if "TensorBoard" in line]) <= 1
    assert " -> caf" in (tmp_path / "out.txt").read_text("ascii")
    record = json.loads((folder / "run" / "metrics.json").read_text("utf-8"))
    assert record["command"].count(r"caf\udce9") == 2
    options = yaml.safe_load((folder / "run" / "config.yaml").read_text("utf-8"))
    assert options["train"] == [str(folder / "train.tsv")]
    shell(f"{here}$D train --config $'caf\\xe9/run/config.yaml' --out $'caf\\xe9/again'")


# --- paths --------------------------------------------------------------------------------------


def test_home_is_known_in_every_path(script, files, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("train.tsv", "test.tsv"):
        shutil.copy(files / name, tmp_path / name)
    (tmp_path / "some.vec").write_text("goal 1 0 0 0\nteam 0 1 0 0\n")
    given = ["--model", "textcnn", "--model-args", "maps=2", "--epochs", 1, "--vectors", "~/some.vec"]  # fmt: skip
    assert script("train", "--train=~/train.tsv", "--out=~/run", *given).code == 0
    (tmp_path / "c.yaml").write_text("train: ~/train.tsv\nout: ~/other\nvectors: ~/some.vec\nmodel: textcnn\nepochs: 1\n")  # fmt: skip
    assert script("train", "--config=~/c.yaml", "--model-args", "maps=2").code == 0
    records = [json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("run", "other")]  # fmt: skip
    assert records[0]["settings"] == records[1]["settings"]
    assert records[0]["settings"]["vectors"] == str(tmp_path / "some.vec")
    measured = script("evaluate", "~/run", "--test=~/test.tsv", "--json=~/a.json")
    assert measured.code == 0, measured.err
    assert script("predict", "~/run", "--file=~/test.tsv", "--out=~/b.csv").code == 0
    assert script("runs", "~", "--json=~/c.json").code == 0
    assert {"a.json", "b.csv", "c.json"} <= {p.name for p in tmp_path.iterdir()}
    assert script("predict", "~nobody-of-this-name/run", "x").code == 2


def test_a_runs_own_files_are_no_place_for_a_report(script, files, trained, tmp_path):
    before = {p: p.read_bytes() for p in trained.rglob("*") if p.is_file()}
    (tmp_path / "link.json").symlink_to(trained / "metrics.json")
    test = ["--test", files / "test.tsv"]
    for command in (
        ["evaluate", trained, *test, "--json", trained / "metrics.json"],
        ["evaluate", trained, "--json", trained / "metrics.json"],
        ["evaluate", trained, "--json", tmp_path / "link.json"],
        ["evaluate", trained, *test, "--json", trained / "classifier" / "config.json"],
        ["predict", trained, "x", "--explain", trained / "checkpoint.pt"],
        ["runs", trained.parent, "--json", trained / "config.yaml"],
        ["verify", "--json", trained / "metrics.json"],
        ["learn_vectors", files / "train.tsv", "--out", trained / "classifier" / "vocabulary.txt"],
    ):
        result = script(*command)
        assert result.code == 2, command
        assert "is a file of the run itself; give another" in result.err
        assert len(result.err.splitlines()) == 1
    assert {p: p.read_bytes() for p in before} == before
    mine = script("evaluate", trained, "--json", trained / "figures.json")
    assert mine.code == 0
    (trained / "figures.json").unlink()


def test_standard_output_is_no_file_to_replace(files, trained, tmp_path):
    out, _ = shell(f"cd {tmp_path}; $D evaluate {trained} --json /dev/stdout >out.txt; echo $?; cat out.txt")  # fmt: skip
    assert out == "2\n"


def test_a_missing_run_is_called_missing(script, tmp_path):
    for command in (
        ["predict", tmp_path / "no", "x"],
        ["evaluate", tmp_path / "no", "--test", tmp_path / "x"],
        ["evaluate", tmp_path / "no"],
        ["translate", "translate", tmp_path / "no", "x"],
        ["ensemble", tmp_path / "no", "--out", tmp_path / "x"],
    ):
        result = script(*command)
        assert result.code == 2
        (line,) = result.err.splitlines()
        assert f"{tmp_path / 'no'}" in line
        assert "there is no such folder" in line


# --- the run folder -----------------------------------------------------------------------------


def test_two_programs_never_write_one_run(script, files, trained, tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    told = f"it is in use by process {os.getpid()} on "
    with locked(out / ".lock", "it"):
        for more in ([], ["--resume"]):
            result = script("train", *arguments(files, out, *more))
            assert (result.code, result.out) == (2, "")
            assert told in result.err
        assert not (out / "config.yaml").exists()
        given = ["--train", files / "train.tsv"]
        assert told in script("ensemble", trained, "--out", out, *given).err
    pytest.importorskip("gensim")
    vectors = tmp_path / "words.vec"
    with locked(tmp_path / ".words.vec.lock", "it"):
        learned = script("learn_vectors", files / "train.tsv", "--out", vectors)
        assert (learned.code, told in learned.err) == (2, True)
    # What only reads needs no lock, and has none to write.
    with locked(trained / ".lock", "it"):
        assert script("predict", trained, "x").code == 0
        assert script("evaluate", trained, "--test", files / "test.tsv").code == 0
        assert script("runs", trained.parent).code == 0


@pytest.mark.parametrize("gone", ["removed", "a file"])
def test_a_folder_that_goes_away_in_training(script, files, tmp_path, monkeypatch, gone):
    out = tmp_path / "run"
    real = TrainingState.__init__

    def init(self, *args, **kwargs):
        real(self, *args, **kwargs)
        if not out.is_dir():  # gone already: the state is copied later
            return
        shutil.rmtree(out)
        if gone == "a file":
            out.touch()

    monkeypatch.setattr(TrainingState, "__init__", init)
    result = script("train", *arguments(files, out))
    assert result.code == 2
    (line,) = [row for row in result.err.splitlines() if row.startswith("error")]
    assert f"there is no folder {out}" in line


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounts a small disk")
def test_a_full_disk(script, files, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, check=False).returncode:
        pytest.skip("may not mount")
    try:
        given = arguments(files, disk / "run", "--recipe", "plain")
        at = given.index("--model-args")
        for buckets, fits in ((5_000, True), (50_000, False)):
            given[at + 1] = f"buckets={buckets}"
            result = script("train", *given)
            told = [row for row in result.err.splitlines() if row.startswith("error: ")]
            assert (result.code == 0) == fits, result.err
            assert fits or len(told) == 1
            assert fits or "checkpoint.pt: No space left on device" in told[0]
            assert "Traceback" not in result.err
            assert not [p.name for p in (disk / "run").rglob(".*")]
            shutil.rmtree(disk / "run")
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def mistakes(result):
    """Lines on standard error; some mistakes show only when the recipe has been told."""
    return [line for line in result.err.splitlines() if not line.startswith("recipe: ")]


# --- configuration ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("model: bert", "--model must be one of fasttext, .*, not 'bert'"),
        ("model_settings: {moons: 3}", "fasttext has no setting 'moons=3'"),
        ("model_settings: {dropout: 2}", "fasttext: dropout"),
        (
            "model_settings: {embedding_dim: 0}",
            "fasttext: embedding_dim is 0; allowed: an integer of at least 1",
        ),
        ("model_settings: {embedding_dim: a}", "fasttext: embedding_dim must be of type int"),
        ("optimizer_settings: {moons: 3}", "adam has no setting 'moons=3'"),
    ],
)
def test_a_mistake_in_a_models_settings_names_the_file(script, files, tmp_path, text, told):
    file = tmp_path / "c.yaml"
    file.write_text(f"train: {files / 'train.tsv'}\n{text}\n")
    result = script("train", "--config", file, "--out", tmp_path / "run")
    assert (result.code, result.out) == (2, "")
    (line,) = mistakes(result)
    assert str(file) in line
    assert re.search(told, line), line


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--batch-size", "9e18"], "--batch-size must be an integer of at least 0, not '9e18'"),
        (["--batch-size", 10**20], "--batch-size must be at least 0 and below 9,223,.* not 1000"),
        (["--max-size", 10**30], "--max-size must be at least 1 and below 9,223,"),
        (["--lr", "x"], "--lr must be a finite number of at least 0, not 'x'"),
        (["--epohcs", 3], "Unrecognized options: --epohcs, 3; Perhaps you meant: --epochs"),
        (["--epochs"], "Missing value for argument '--epochs'"),
        (["stray"], "Unrecognized options: stray"),
        (["--optimizer-args", "eps=1e300"], "eps must be a number that float32 holds"),
        (["--model-args", "embedding_dim=100000000"], "not enough memory for .*embedding_dim=1000"),
        (["--model-args", f"embedding_dim={10**20}"], "embedding_dim"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line(script, files, tmp_path, monkeypatch, given, told):  # fmt: skip
    monkeypatch.setenv("COLUMNS", "40")
    train = ["--train", files / "train.tsv", "--out", tmp_path / "run"]
    result = script("train", *train, *given)
    assert (result.code, result.out) == (2, "")
    (line,) = mistakes(result)
    assert line.startswith("error: ")
    assert re.search(told, line), line


@pytest.mark.slow
def test_a_reader_that_goes_away_loses_no_file(files, trained, tmp_path):
    for name, given in (
        (
            "evaluate",
            [trained, "--test", files / "test.tsv", "--errors", tmp_path / "evaluate.csv"],
        ),
        ("runs", [trained.parent]),
    ):
        file = tmp_path / f"{name}.json"
        shell(f"$D {name} {put(*given)} --json {file} | true; exit ${{PIPESTATUS[0]}}")
        assert json.loads(file.read_text())
    assert (tmp_path / "evaluate.csv").exists()
