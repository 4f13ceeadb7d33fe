"""Files that are there whole or not at all, and nothing else is touched."""

import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
import yaml

from dlnotes.data.tables import write_table
from dlnotes.errors import UserError
from dlnotes.files import (
    check_different,
    check_output,
    lock,
    locked,
    make_folder,
    parts_of,
    read_json,
    to_json,
    write_atomically,
    write_json,
    write_text,
)

unix = pytest.mark.skipif(sys.platform == "win32", reason="permissions and pipes of Unix")


def write(path, text="new"):
    write_atomically(path, lambda temporary: temporary.write_text(text))


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail(temporary):
        temporary.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match=r"cannot write .*a.txt: No space left on device"):
        write_atomically(path, fail)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


@unix
@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_the_umask_decides_who_may_read(tmp_path, umask):
    before = os.umask(umask)
    try:
        write(tmp_path / "new.txt")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new.txt").stat().st_mode) == 0o666 & ~umask


@unix
def test_a_file_keeps_its_permissions(tmp_path):
    path = tmp_path / "secret.txt"
    path.write_text("old")
    path.chmod(0o600)
    write(path)
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@unix
def test_a_link_goes_on_pointing_at_its_file(tmp_path):
    (tmp_path / "there").mkdir()
    target, link = tmp_path / "there" / "file.txt", tmp_path / "link.txt"
    target.write_text("old")
    link.symlink_to(target)
    write(link)
    assert link.is_symlink()
    assert target.read_text() == "new"


@unix
def test_pipes_devices_and_folders_are_left_alone(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder"):
        with pytest.raises(
            UserError, match=f"cannot write .*{name}: it is there and is not a file"
        ):
            write(tmp_path / name)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    with pytest.raises(UserError, match="/dev/null: it is there and is not a file"):
        write(Path("/dev/null"))
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match=f"there is no folder {tmp_path}/none"):
        write(tmp_path / "none" / "a.txt")


def test_a_name_may_be_as_long_as_the_system_allows(tmp_path):
    write(tmp_path / ("x" * 250))
    assert [p.name for p in tmp_path.iterdir()] == ["x" * 250]


@unix
def test_a_name_of_many_bytes(tmp_path):
    name = "文" * 84  # 252 of the 255 that are allowed
    write(tmp_path / name)
    assert [p.name for p in tmp_path.iterdir()] == [name]


@unix
def test_links_in_a_circle_are_told(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    one.symlink_to(other)
    other.symlink_to(one)
    with pytest.raises(UserError, match="one"):
        write(one)
    with pytest.raises(UserError, match="one"):
        check_different(test=tmp_path / "a", json=one)


def test_outputs_and_inputs_are_different_files(tmp_path):
    check_different(test=tmp_path / "a", errors=None, json=tmp_path / "b")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    for other in (tmp_path / "a", tmp_path / "." / "a", tmp_path / "link"):
        with pytest.raises(UserError, match=r"--test and --json-file are the same file"):
            check_different(test=tmp_path / "a", json_file=other)


@unix
def test_another_name_of_the_file_keeps_the_old_content(tmp_path):
    path, other = tmp_path / "a.txt", tmp_path / "b.txt"
    path.write_text("old")
    other.hardlink_to(path)
    write(path)
    assert (path.read_text(), other.read_text()) == ("new", "old")


@unix
def test_a_link_to_a_folder_is_told(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    with pytest.raises(UserError, match="link: it is there and is not a file"):
        write(tmp_path / "link")


@unix
@pytest.mark.skipif(
    hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write everywhere"
)
def test_what_is_read_only_stays(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    path.chmod(0o444)
    with pytest.raises(UserError, match=r"a\.txt: it is read-only"):
        write(path)
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(UserError, match=r"the folder .*locked is read-only"):
        check_output(tmp_path / "locked" / "a.txt")


@unix
def test_where_standard_output_goes_nothing_else_is_written(tmp_path):
    """To replace the file would lose what is printed."""
    path = tmp_path / "out.txt"
    (tmp_path / "link").symlink_to(path)
    for number, name in ((1, "output"), (2, "error")):
        kept = os.dup(number)
        try:
            with path.open("w") as file:
                os.dup2(file.fileno(), number)
            for other in (path, tmp_path / "link", Path(f"/dev/fd/{number}")):
                with pytest.raises(UserError, match=f"standard {name} goes there"):
                    check_output(other)
        finally:
            os.dup2(kept, number)
            os.close(kept)
    check_output(path)


KILLED = """
import os, signal, sys
from pathlib import Path
from dlnotes.files import write_atomically

def write(temporary):
    temporary.write_text("half")
    print("begun", flush=True)
    sys.stdin.readline()
    os.kill(os.getpid(), signal.SIGKILL)

write_atomically(Path(sys.argv[1]), write)
"""


@unix
def test_what_a_killed_writer_leaves_is_removed_and_what_a_living_one_writes_is_not(tmp_path):
    path = tmp_path / "check[point].pt"
    other = tmp_path / f".{path.name}-notes"  # someone else's
    other.touch()
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", KILLED, path], **pipes) as child:
        assert child.stdout.readline() == "begun\n"
        write(path, "one")
        assert len(list(tmp_path.iterdir())) == 3  # that of the living one is there
        child.communicate("\n")
        assert child.returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 3
    (left,) = tmp_path.glob(".check*-[0-9a-f]*")
    parts_of(left).mkdir()
    (parts_of(left) / "000000.parquet").touch()
    write(path, "two")
    assert sorted(tmp_path.iterdir()) == sorted([other, path])
    assert path.read_text() == "two"


@unix
def test_a_table_is_locked_while_it_is_written(tmp_path):
    """The library that writes it must not put another file in the place of the locked one."""
    locks = []

    def blocks():
        yield pl.DataFrame({"a": [1]})
        yield pl.DataFrame({"a": [2]})

    class Watched(type(tmp_path)):
        def replace(self, target):
            with self.open("rb") as file, pytest.raises(BlockingIOError):
                lock(file)
            locks.append(self.name)
            return super().replace(target)

    for name in ("a.parquet", "a.csv", "a.jsonl"):
        write_table(Watched(tmp_path) / name, blocks())
    assert len(locks) == 3
    assert pl.read_parquet(tmp_path / "a.parquet")["a"].to_list() == [1, 2]


FULL = """
import resource, sys
from pathlib import Path

import polars as pl, torch
from safetensors.torch import save_file
from dlnotes.data.tables import write_table
from dlnotes.errors import UserError
from dlnotes.files import write_atomically, write_text

resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
folder, much = Path(sys.argv[1]), torch.arange(1 << 20)
for name, write in {
    "torch.pt": lambda path: write_atomically(path, lambda p: torch.save(much, p)),
    "safetensors": lambda path: write_atomically(path, lambda p: save_file({"a": much}, p)),
    "a.txt": lambda path: write_text(path, "x" * (1 << 22)),
    "a.csv": lambda path: write_table(path, [pl.DataFrame({"a": range(1 << 20)})]),
    "a.parquet": lambda path: write_table(path, [pl.DataFrame({"a": range(1 << 20)})]),
}.items():
    path = folder / name
    path.write_text("old")
    try:
        write(path)
    except UserError as error:
        print(name, path.read_text(), error)
print(sorted(p.name for p in folder.iterdir()))
"""


@unix
@pytest.mark.slow
def test_a_full_disk_is_told_by_its_name_and_the_old_file_stays(tmp_path):
    """A file that may not grow stands for the disk; the libraries' own errors say no such thing."""
    run = [sys.executable, "-c", FULL, tmp_path]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    *told, names = done.stdout.splitlines()
    files = ["torch.pt", "safetensors", "a.txt", "a.csv", "a.parquet"]
    assert [line.split()[:2] for line in told] == [[name, "old"] for name in files]
    for name, line in zip(files, told, strict=True):
        assert f"cannot write {tmp_path / name}: File too large" in line
    assert names == str(sorted(files))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux")
def test_an_error_that_is_not_the_disks_stays_as_it_is(tmp_path):
    def fail(temporary):
        raise RuntimeError("a fault of ours")

    with pytest.raises(RuntimeError, match="a fault of ours"):
        write_atomically(tmp_path / "a", fail)
    assert list(tmp_path.iterdir()) == []


@unix
def test_a_lock_names_its_holder_and_goes_with_it(tmp_path):
    file = tmp_path / ".lock"
    told = f"it is in use by process {os.getpid()} on "
    with locked(file, "it"):
        with pytest.raises(UserError, match=told), locked(file, "it"):
            pass
        assert file.exists()
    assert not file.exists()
    code = "import os, sys; from pathlib import Path; from dlnotes.files import locked\n"
    code += (
        "with locked(Path(sys.argv[1]), 'it'): print('held', flush=True); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, file], capture_output=True, check=False)
    assert file.exists()
    with locked(file, "it"):
        pass
    assert not file.exists()


@unix
def test_without_locks_nothing_is_refused_and_nothing_removed(tmp_path, monkeypatch):
    import fcntl

    def none(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", none)
    left = tmp_path / ".a.txt-01234567"
    left.touch()
    with locked(tmp_path / ".lock", "it"), locked(tmp_path / ".lock", "it"):
        write(tmp_path / "a.txt")
    assert left.exists()


def test_bytes_that_are_not_utf8_are_written_as_text(tmp_path):
    path = os.fsdecode(b"caf\xe9")
    write_json(tmp_path / "a.json", {"path": path, "other": "é→"})
    assert read_json(tmp_path / "a.json", "") == {"path": r"caf\udce9", "other": "é→"}
    write_text(tmp_path / "a.yaml", yaml.safe_dump({"path": path}, allow_unicode=True))
    assert yaml.safe_load((tmp_path / "a.yaml").read_text("utf-8")) == {"path": path}


def test_a_folder_that_is_missing_is_not_called_damaged(tmp_path):
    (tmp_path / "file").touch()
    for name, why in (("none", "there is no such folder"), ("file", "it is a file"), (".", "it has no a.json")):  # fmt: skip
        with pytest.raises(UserError, match=f"is no run: {why}"):
            read_json(tmp_path / name / "a.json", "is no run")


def test_a_name_that_occurs_twice_is_found_in_time_proportional_to_the_names(tmp_path):
    file = tmp_path / "a.json"
    file.write_text("{" + ",".join(f'"{i}":1' for i in range(100_000)) + ',"99999":2}')
    start = time.monotonic()
    with pytest.raises(UserError, match="it has '99999' twice"):
        read_json(file, "")
    assert time.monotonic() - start < 10  # all pairs of names would take a minute


def test_json_has_no_nan(tmp_path):
    nan, inf = float("nan"), float("inf")
    value = {"a": nan, "b": [1.5, inf, {"c": (-inf, True, None, "NaN", 3)}]}

    def refuse(constant):
        raise AssertionError(constant)

    write_json(tmp_path / "x.json", value)
    read = json.loads((tmp_path / "x.json").read_text(), parse_constant=refuse)
    assert read == {"a": None, "b": [1.5, None, {"c": [None, True, None, "NaN", 3]}]}
    assert json.loads(to_json(nan)) is None
    with pytest.raises(TypeError):  # no user's mistake
        to_json({"a": {1, 2}})


def test_a_folder_is_made_and_can_be_written_to(tmp_path):
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []


@pytest.mark.parametrize("below", ["file", "file/below"])
def test_a_folder_that_cannot_be_made_is_told(tmp_path, below):
    (tmp_path / "file").write_text("kept")
    with pytest.raises(UserError, match=r"cannot write to .*file.*; give another --out"):
        make_folder(tmp_path / below)
    assert (tmp_path / "file").read_text() == "kept"


def test_a_folder_that_is_there_keeps_its_files(tmp_path):
    (tmp_path / ".writable").write_text("mine")
    make_folder(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".writable"]


@pytest.mark.parametrize(("name", "told"), [("file", "not a folder"), ("file/x", "Not a directory"), ("a\0b", "null")])  # fmt: skip
def test_a_folder_that_cannot_be_made_is_told_with_the_callers_advice(tmp_path, name, told):
    (tmp_path / "file").write_text("")
    for advice in ("", "; give another --model-dir"):
        with pytest.raises(UserError) as found:
            make_folder(tmp_path / name, advice=advice)
        assert re.fullmatch(rf"cannot write to '?{re.escape(str(tmp_path))}[^:]*: .*{told}[^;]*{advice}", str(found.value))  # fmt: skip
        assert str(found.value).count("cannot write") == 1


def test_a_file_that_a_library_puts_in_place_has_the_usual_permissions(tmp_path):
    def write(temporary):
        other = temporary.with_name("other")
        other.write_text("new")
        other.chmod(0o600)
        other.replace(temporary)

    usual = tmp_path / "usual"
    usual.write_text("x")
    write_atomically(tmp_path / "a", write)
    assert (tmp_path / "a").stat().st_mode == usual.stat().st_mode


def test_an_output_in_a_folder_that_is_an_input(tmp_path):
    check_different(test=tmp_path / "a", errors=tmp_path / "b")
    for output in (tmp_path / "x.csv", tmp_path / "class" / "x.csv"):
        with pytest.raises(
            UserError, match=r"--errors .*x\.csv lies in --test .*: give another --err"
        ):
            check_different(test=tmp_path, errors=output)
    with pytest.raises(UserError, match="--train and --out are the same file"):
        check_different(train=tmp_path, out=tmp_path)
