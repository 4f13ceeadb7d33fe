"""Fixtures of the scripts' tests."""

import runpy
import sys

import numpy as np
import pytest
from running import ROOT, Result


@pytest.fixture
def script(monkeypatch, capsys):
    """Run a script with arguments; the result's code is that of the process."""

    def run(name, *arguments, stdin=None):
        path = str(ROOT / "scripts" / f"{name}.py")
        monkeypatch.setattr(sys, "argv", [path, *map(str, arguments)])
        if stdin is not None:
            monkeypatch.setattr(sys, "stdin", stdin)
        capsys.readouterr()
        try:
            runpy.run_path(path, run_name="__main__")
            code = 0
        except SystemExit as end:
            code = end.code or 0
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return run


WORDS = {"sport": ["goal", "team", "match"], "tech": ["chip", "code", "web"]}


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """A folder with train.tsv and test.tsv of two easy classes."""
    folder = tmp_path_factory.mktemp("files")
    random = np.random.default_rng(0)
    for split, n in (("train", 200), ("test", 40)):
        rows = []
        for i in range(n):
            label = ("sport", "tech")[i % 2]
            words = [*random.choice(WORDS[label], 3), *random.choice(["the", "of", "a"], 3)]
            rows.append(f"{label}\t{' '.join(random.permutation(words))}\n")
        (folder / f"{split}.tsv").write_text("".join(rows))
    return folder
