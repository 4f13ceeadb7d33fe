"""Several processes end with what one ends with."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import ranks
import torch
import torch.distributed.fsdp

from dlnotes.training import replica
from small import pairs

CAN_SHARD = hasattr(torch.distributed.fsdp, "fully_shard")  # not before torch 2.6
FEW = [
    "textcnn",
    "fasttext",
    "weights",
    "few",
    "one",
    "unused",
    "odd",
    "seldom sparse",
    "messages",
    "little memory",
    "some",
    "huge",
    "huge sparse",
    "wrapped",
]
FEW += ["micro", "micro sparse", "micro weights"]
CASES = [case for case in ranks.CASES if CAN_SHARD or not case.startswith("shards")]
if CAN_SHARD:
    FEW += ["shards", "shards of a translator", "shards by adam"]
"""Cases that between them take every path of the code."""
NEVER = ("SIGTERM", 0, 10_000)
"""No signal: there is no such update."""


def torchrun(count, *arguments, more=(), started=None):
    """Run a Python script in several processes; when it runs, call `started`."""
    here = Path(ranks.__file__).parent
    path = os.pathsep.join([str(here), str(here.parent), *sys.path])
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", *more),
        *("--nproc-per-node", str(count), *map(str, arguments)),
    ]
    with subprocess.Popen(
        command,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as program:
        try:
            if started:
                started(program)
            out, error = program.communicate(timeout=280)
        finally:
            program.kill()
    return subprocess.CompletedProcess(command, program.returncode, out, error)


def check(tmp_path, count, cases):
    done = torchrun(count, ranks.__file__, tmp_path, *ranks.MISHAPS, *cases)
    assert done.returncode == 0, done.stderr
    wrong = []
    for case in cases:
        weights, losses = ranks.train(case, micro_batch_size=None)
        theirs, their_losses = torch.load(tmp_path / f"{case}.pt")
        try:
            torch.testing.assert_close(theirs, weights, rtol=1e-10, atol=1e-13)
            torch.testing.assert_close(their_losses, losses, rtol=1e-6, atol=0)
        except AssertionError as error:
            wrong.append(f"{case}: {error}")
    assert not wrong, "\n".join(wrong)
    for mishap, told in (
        ("no number", "the loss became nan at step"),
        ("no figures", "no figures"),
        ("other settings", "has other settings than that of rank 0"),
        ("other documents", "has other documents than that of rank 0"),
        ("other weights", "has other weights than that of rank 0"),
    ):
        errors = torch.load(tmp_path / f"{mishap}.pt")
        assert errors == errors[:1] * count
        assert told in errors[0]


def test_two_processes_are_one(tmp_path):
    check(tmp_path, 2, FEW)


@pytest.mark.slow
def test_two_processes_are_one_in_every_case(tmp_path):
    check(tmp_path, 2, [case for case in CASES if case not in FEW])


@pytest.mark.slow
def test_four_processes_are_one(tmp_path):
    check(tmp_path, 4, [*FEW, "paths", "several labels", "norm"])


@pytest.fixture
def documents(tmp_path):
    file = tmp_path / "documents.tsv"
    file.write_text(
        "label\ttext\n" + "".join(f"{a}\t{b} {i}\n" for i, (a, b) in enumerate(pairs(90, 0)))
    )
    return file


def options(documents, out, *more, dropout=0.3, sizes=("embedding_dim=8", "maps=4")):
    """A training of 12 updates in each of 3 epochs, with a checkpoint after every 5."""
    return [
        *("--train", documents, "--model", "textcnn", "--epochs", 3, "--patience", 0, "--no-refit"),
        *("--batch-size", 7, "--checkpoint-every", 5, "--out", out, *more),
        *("--model-args", *sizes, f"dropout={dropout}"),
    ]


def command(count, documents, out, *more, sent=NEVER, restarts=0, dtype="float32", **keywords):
    """`dlnotes train` in several processes."""
    script = Path(ranks.__file__).with_name("dying.py")
    arguments = options(documents, out, *more, **keywords)
    return torchrun(count, script, *sent, dtype, *arguments, more=["--max-restarts", str(restarts)])


def ends(out):
    """What a run ends with: its weights, and the figures of its epochs."""
    found = torch.load(out / "checkpoint.pt")
    history = [{n: v for n, v in e.items() if "second" not in n} for e in found["state"]["history"]]
    return found["model"], history


def lines(text):
    """What dlnotes writes on standard error, without what torchrun does."""
    return [line for line in text.splitlines() if line.startswith(("error", "warning", "Stopped"))]


@pytest.mark.parametrize("other", [["--dry-run"], ["--out", "elsewhere"]])
def test_options_that_one_process_alone_has_are_refused_before_anything(documents, tmp_path, other):
    """A process that ended early would leave the others waiting."""
    script = tmp_path / "differing.py"
    script.write_text(
        "import os, sys\n"
        "from dlnotes.commands import run\n"
        f"sys.argv += {other} * (os.environ['RANK'] == '1')\n"
        "run('train')\n"
    )
    out = tmp_path / "out"
    done = torchrun(2, script, *options(documents, out))
    assert done.returncode == 1
    assert lines(done.stderr) == [
        "error: the process of rank 1 has other options than that of rank 0: start all of them "
        "with the same version, the same options and the same files"
    ]
    assert not out.exists()


def test_rows_of_a_gradient_that_are_not_zero_are_found():
    nan, inf = float("nan"), float("inf")
    zeros = [(0, 0, 0), (0, -0.0, 0)]
    others = [(0, -1, 0), (2, 0, 0), (1, -1, 0), (-3, -2, -1), (0, nan, 0), (0, 0, -inf)]
    others += [(0, -1e-45, 0)]
    table = torch.nn.Parameter(torch.zeros(len(zeros + others), 3))
    assert not replica._used_rows(table).any()
    table.grad = torch.tensor(zeros + others)
    expected = [False] * len(zeros) + [True] * len(others)
    assert replica._used_rows(table).tolist() == expected
    table.grad = table.grad.to_sparse(1).coalesce()
    assert replica._used_rows(table).tolist() == expected


@pytest.mark.slow
@pytest.mark.skipif(torch.__version__.startswith("2.3."), reason="its torchrun cannot restart")
def test_a_group_that_is_restarted_ends_with_the_same_bits(documents, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    done = command(2, documents, whole)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("documents/s") == 1
    assert done.stderr.count("epoch   1") == 1
    assert len(list(whole.glob("events*"))) == 2  # of the training and its hyper-parameters
    done = command(2, documents, killed, sent=("SIGKILL", 1, 18), restarts=1)
    assert done.returncode == 0, done.stderr
    (line,) = lines(done.stderr)
    lost = "error: another process of this training ended, or cannot be reached any more"
    assert line in (lost, "Stopped.")  # torchrun's SIGTERM may come before it is noticed
    assert_equal(ends(killed), ends(whole))


@pytest.mark.slow
def test_a_run_that_is_refused_is_not_resumed_by_a_restart(documents, tmp_path):
    out = tmp_path / "out"
    done = command(2, documents, out, sent=("SIGKILL", 0, 18), restarts=0)
    assert done.returncode == 1
    assert (out / "checkpoint.pt").exists()
    before = (out / "checkpoint.pt").read_bytes()
    done = command(2, documents, out, restarts=1)
    assert done.returncode == 1
    told = f"error: {out} already holds a run: give another --out, or --resume to go on"
    assert lines(done.stderr) == [told] * 2  # once in each attempt
    assert (out / "checkpoint.pt").read_bytes() == before


@pytest.mark.parametrize(
    ("end", "code", "told"),
    [
        ("sys.exit(143)", 143, ""),
        ("sys.exit('refused')", 1, "refused"),
        ("raise UserError('refused')", 2, "error: refused"),
        ("raise OSError(28, 'refused')", 2, "error: cannot write: refused"),
        ("raise BrokenPipeError", 0, ""),
        ("raise KeyboardInterrupt", 130, "Stopped."),
        ("raise RuntimeError('a bug')", 1, "RuntimeError: a bug"),
    ],
)
def test_a_process_whose_group_still_works_ends_with_its_own_code(
    tmp_path, monkeypatch, end, code, told
):
    """Threads that free tensors while Python ends would abort it: exit code -6."""
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    script = tmp_path / "ending.py"
    script.write_text(
        "import atexit, sys, torch\n"
        "from dlnotes.cli import exit_handler\n"
        "from dlnotes.errors import UserError\n"
        "from dlnotes.training.distributed import process_group\n"
        "from pathlib import Path\n"
        "with exit_handler(), process_group() as group:\n"
        "    atexit.register(Path(f'{sys.argv[1]}/{group.rank}').touch)\n"
        "    print('written')\n"
        "    for _ in range(200):\n"
        "        torch.distributed.all_reduce(torch.zeros(200000), async_op=True)\n"
        f"    {end}\n"
    )
    # Without Python, torchrun does not ask for output without a buffer.
    done = torchrun(2, sys.executable, script, tmp_path, more=["--no-python"])
    assert done.returncode == (code > 0), done.stderr
    assert f"exitcode  : {code}" in done.stderr or code == 0
    assert "exitcode  : -6" not in done.stderr
    assert told in done.stderr
    # torchrun may kill the process of one rank before it ends by itself.
    ended = {path.name for path in tmp_path.iterdir()} & {"0", "1"}
    assert ended
    if "0" in ended:
        assert done.stdout == "written\n"


@pytest.mark.parametrize("late", [0, 1])
@pytest.mark.parametrize("end", ["raise UserError('refused')", "raise OSError(28, 'refused')"])
def test_an_error_in_all_processes_is_one_line(tmp_path, late, end):
    """torchrun stops the process of one rank as soon as that of another has ended."""
    script = tmp_path / "late.py"
    script.write_text(
        "import time\n"
        "from dlnotes.cli import exit_handler\n"
        "from dlnotes.errors import UserError\n"
        "from dlnotes.training.distributed import process_group\n"
        "with exit_handler(), process_group() as group:\n"
        f"    time.sleep(group.rank == {late})\n"
        f"    {end}\n"
    )
    done = torchrun(2, script)
    (line,) = lines(done.stderr)
    assert line.endswith("refused")
    assert done.stderr.count("exitcode  : 2") == 2


def test_a_mistake_before_there_is_a_group_is_told_by_the_first_process(tmp_path):
    script = tmp_path / "slow.py"
    script.write_text(
        "import time\n"
        "from dlnotes import launch\n"
        "from dlnotes.cli import exit_handler\n"
        "from dlnotes.errors import UserError\n"
        "with exit_handler():\n"
        "    time.sleep(2 * (launch.rank() == 0))\n"
        "    raise UserError('refused')\n"
    )
    assert lines(torchrun(2, script).stderr) == ["error: refused"]


def test_an_interrupted_process_waits_for_nobody():
    ranked = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
    code = "from dlnotes import cli\ncli._MOMENT = 200\n"
    code += "with cli.exit_handler(): raise KeyboardInterrupt"
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | ranked, timeout=100)
    assert done.returncode == 130


def test_a_handler_that_waits_does_not_keep_a_process(tmp_path):
    script = tmp_path / "waiting.py"
    script.write_text(
        "import atexit, time\n"
        "from dlnotes import cli\n"
        "from dlnotes.training.distributed import process_group\n"
        "atexit.register(time.sleep, 200)\n"
        "cli._CLEAN_UP = 0.1\n"
        "with cli.exit_handler(), process_group(): raise KeyboardInterrupt\n"
    )
    start = time.monotonic()
    done = torchrun(2, script)
    assert "exitcode  : 130" in done.stderr
    assert time.monotonic() - start < 60


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2, 4])
def test_a_signal_to_one_process_stops_all_and_any_number_resumes(documents, tmp_path, count):
    whole, out = tmp_path / "whole", tmp_path / "out"
    same = {"dropout": 0.3} if count == 2 else {"dropout": 0.0, "dtype": "float64"}
    done = command(2, documents, whole, **same)
    assert done.returncode == 0, done.stderr
    done = command(2, documents, out, sent=("SIGTERM", 1, 18), **same)
    assert done.returncode == 1
    assert "exitcode  : 143" in done.stderr
    assert lines(done.stderr) == ["Stopped and saved. Go on with:"]
    # It is heard when the processes next speak, in the update after.
    assert torch.load(out / "checkpoint.pt")["state"]["step"] == 19
    done = command(count, documents, out, "--resume", **same)
    assert done.returncode == 0, done.stderr
    if count == 2:
        assert_equal(ends(out), ends(whole))
        return
    assert f"processes 2 (now {count})" in done.stderr
    weights, history = ends(out)
    expected, expected_history = ends(whole)
    torch.testing.assert_close(weights, expected, rtol=1e-10, atol=1e-13)
    assert [e["dev_accuracy"] for e in history] == [e["dev_accuracy"] for e in expected_history]


@pytest.mark.slow
@pytest.mark.skipif(not CAN_SHARD, reason="its torch has no fully_shard")
def test_a_sharded_training_is_resumed_by_any_number_of_processes(documents, tmp_path):
    whole, out, alone = tmp_path / "whole", tmp_path / "out", tmp_path / "alone"
    more = ["--shard", "--model", "transformer", "--optimizer", "momentum"]
    sizes = ["embedding_dim=8", "num_heads=2", "num_layers=2", "feedforward_dim=16"]
    same = {"dropout": 0.0, "sizes": sizes, "dtype": "float64"}
    done = command(2, documents, whole, *more, **same)
    assert done.returncode == 0, done.stderr
    done = command(2, documents, out, *more, sent=("SIGTERM", 1, 18), **same)
    assert lines(done.stderr) == ["Stopped and saved. Go on with:"]
    shutil.copytree(out, alone)
    done = command(2, documents, out, *more, "--resume", **same)
    assert done.returncode == 0, done.stderr
    assert_equal(ends(out), ends(whole))
    done = command(1, documents, alone, *more, "--resume", **same)
    assert done.returncode == 0, done.stderr
    torch.testing.assert_close(ends(alone)[0], ends(whole)[0], rtol=1e-10, atol=1e-13)


@pytest.mark.slow
def test_what_cannot_be_sharded_is_one_line(documents, tmp_path):
    done = command(2, documents, tmp_path / "out", "--shard")
    (line,) = lines(done.stderr)
    told = "for models in blocks, such as the transformer, not for TextCNN"
    assert told in line if CAN_SHARD else "shard needs torch 2.6 or later" in line


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "to"), [("reading", 0), ("reading", 1), ("evaluation", "torchrun")]
)
def test_a_signal_is_heard_while_others_are_waited_for(documents, tmp_path, place, to):
    """Rank 0 reads, or evaluates, for minutes; torchrun kills who has not ended after 30 s."""
    sign, out, sent = tmp_path / "sign", tmp_path / "out", []

    def send(program):
        while not sign.exists():
            assert program.poll() is None, program.communicate()[1]
            time.sleep(0.1)
        time.sleep(0.5)
        number = program.pid if to == "torchrun" else int((tmp_path / f"sign{to}").read_text())
        os.kill(number, signal.SIGTERM)
        sent.append(time.monotonic())

    script = Path(ranks.__file__).with_name("slow.py")
    done = torchrun(2, script, place, sign, *options(documents, out), started=send)
    assert time.monotonic() - sent[0] < 25
    assert done.returncode == 1
    stopped = "Stopped." if place == "reading" else "Stopped and saved. Go on with:"
    assert lines(done.stderr) == [stopped]
    assert (out / "checkpoint.pt").exists() == (place == "evaluation")
    if place == "evaluation":
        assert torch.load(out / "checkpoint.pt")["state"]["step"] == 12
        done = command(2, documents, out, "--resume")
        assert done.returncode == 0, done.stderr
        done = command(2, documents, tmp_path / "whole")
        assert_equal(ends(out), ends(tmp_path / "whole"))


@pytest.mark.slow
def test_a_mistake_and_a_divergence_are_one_line(documents, tmp_path):
    out = tmp_path / "out"
    for more, told in (
        (["--optimizer", "nonsense"], "optimizer must be"),
        (["--nonsense"], "nonsense"),
        (["--lr", "1e30", "--clip-norm", "0"], "the training has diverged"),
        (["--device", "cpu:1"], "device is cpu:1"),
    ):
        done = command(2, documents, out, *more)
        assert done.returncode == 1
        (line,) = lines(done.stderr)
        assert told in line
        assert "exitcode  : 2" in done.stderr
        assert "dlnotes/" not in done.stderr.replace("dying.py", "")  # no traceback


def assert_equal(found, expected):
    torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)
