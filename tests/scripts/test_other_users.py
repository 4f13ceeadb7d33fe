"""Folders of another user: each refusal is one line, and what is there stays as it is.

The tests of most machines in CI run as root, whom no permission stops. A process of root without
capabilities is stopped by them like anybody else.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from small import model_args

SETPRIV = shutil.which("setpriv")
NOBODY = 65534
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not hasattr(os, "geteuid") or os.geteuid() != 0 or SETPRIV is None,
        reason="needs root, who may give files to other users, and setpriv",
    ),
]

COMMANDS = """
import contextlib, io, json, os, sys
from dlnotes import commands

assert not os.access(sys.argv[2], os.W_OK), "root without capabilities may write here"
results = []
for cache, name, *arguments in json.loads(sys.argv[1]):
    os.environ["DLNOTES_CACHE"] = cache
    sys.argv = ["dlnotes", name, *arguments]
    told, code = io.StringIO(), 0
    try:
        with open(os.devnull, "w") as out, contextlib.redirect_stdout(out), contextlib.redirect_stderr(told):
            commands.main()
    except SystemExit as end:
        code = end.code
    results.append((code, told.getvalue()))
print(json.dumps(results))
"""


def content(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_folders_of_another_user_are_told_and_stay_as_they_are(script, files, tmp_path):
    data = ("--model", "fasttext", "--train", files / "train.tsv")
    train = ("train", *data, "--epochs", 1, *model_args("fasttext"))
    assert script(*train, "--out", tmp_path / "run").code == 0
    read_only, cache, mine = (tmp_path / name for name in ("read-only", "cache", "mine"))
    for folder in (read_only, cache, mine):
        folder.mkdir()
    usual = os.environ["DLNOTES_CACHE"]
    shutil.copytree(Path(usual, "kernels"), cache / "kernels")  # compiling them takes long
    shutil.copytree(tmp_path / "run", tmp_path / "secret" / "run")
    before = content(tmp_path)
    secret = tmp_path / "secret"
    for folder in (read_only, cache, tmp_path / "run", secret / "run"):
        for path in (folder, *folder.rglob("*")):
            if "kernels" not in path.parts:
                os.chown(path, NOBODY, NOBODY)
    (secret / "run").chmod(0o700)
    denied, no_out = "Permission denied", "Permission denied; give another --out"
    cases = [
        (usual, (*train, "--out", read_only / "x"), f"cannot write to {read_only / 'x'}: {no_out}"),
        (usual, (*train, "--out", read_only), f"cannot write to {read_only}: {no_out}"),
        (
            usual,
            (*train, "--out", tmp_path / "run", "--resume"),
            f"cannot write to {tmp_path / 'run'}: {no_out}",
        ),
        (usual, ("predict", secret / "run", "x"), f"config.json cannot be read: {denied}"),
        (usual, ("train", *data, "--from", secret / "run", "--out", mine / "f"), denied),
        (usual, ("runs", secret / "run", tmp_path / "run"), denied),
        (usual, ("runs", secret), f"warning: {secret / 'run'} is left out: {denied}"),
        (
            str(cache),
            (*train, "--out", mine / "run"),
            f"warning: the cache {cache / 'tokens'} cannot be written ({denied}): going on",
        ),
    ]
    done = subprocess.run(
        [
            *(SETPRIV, "--bounding-set=-all", "--inh-caps=-all", sys.executable, "-c", COMMANDS),
            json.dumps([[where, *map(str, command)] for where, command, _ in cases]),
            read_only,
        ],
        capture_output=True, text=True, timeout=200, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for (_, command, sentence), (code, told) in zip(cases, json.loads(done.stdout), strict=True):
        goes_on = sentence.startswith("warning: the cache")
        assert code == (0 if goes_on else 2), (command, told)
        lines = [line for line in told.splitlines() if line.startswith(("error: ", "warning: "))]
        assert sentence in lines[0], (command, told)
        assert len(lines) == 1 + (command[:2] == ("runs", secret)), told
        assert "Traceback" not in told
    kept = {path: text for path, text in content(tmp_path).items() if mine not in path.parents}
    assert kept == before
    assert (mine / "run" / "metrics.json").exists()
    assert [path.name for path in mine.iterdir()] == ["run"]
