"""Files that are there whole or not at all, and nothing else is touched."""

import json
import os
import stat
import sys
from pathlib import Path

import pytest

from dlnotes.errors import UserError
from dlnotes.files import check_different, make_folder, to_json, write_atomically, write_json

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
        with pytest.raises(UserError, match=f"cannot write .*{name}: it is there and is no file"):
            write(tmp_path / name)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    with pytest.raises(UserError, match="/dev/null: it is there and is no file"):
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
