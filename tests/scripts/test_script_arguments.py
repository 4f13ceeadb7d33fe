"""Scripts that only the repository needs: a mistake is told in one line, before the work starts."""

import os

import pytest

CASES = {
    "train_digits": [
        (["--epochs", "0"], "epochs must be at least 1, not 0"),
        (["--lr", "-1"], "lr must be at least 0, not -1.0"),
        (["--lr", "nan"], "lr must be a finite number"),
        (["--hidden", "0"], "at least 1"),
        (["--batch-size", "0"], "--batch-size must be at least 1"),
        (["--seed", "-1"], "seed must be"),
        (["--dataset", "mnist", "--data-dir", "NOWHERE"], "there is no file NOWHERE/train-images"),
        (["--out", "FILE"], "cannot write to FILE: it is not a folder"),
        (["--out", "FILE/below"], "cannot write to FILE/below"),
    ],
    "plot_activations": [
        (["--dpi", "0"], "dpi must be at least 10 and below 1,001, not 0"),
        (["--dpi", "100000"], "dpi must be"),
        (["--out", "FILE"], "cannot write to FILE: it is not a folder"),
    ],
    "bench_activations": [
        (["--size", "0"], "size must be at least 4,096"),
        (["--size", "5000"], "--size must be a multiple of 4096"),
        (["--rounds", "0"], "rounds must be at least 1"),
        (["--json", "NOWHERE/x.json"], "there is no folder NOWHERE"),
    ],
    "bench_foundations": [
        (["--times", "0"], "times must be at least 1"),
        (["--rounds", "0"], "rounds must be at least 1"),
        (["--json", "NOWHERE/x.json"], "there is no folder NOWHERE"),
    ],
    "bench_optimizers": [
        (["--turns", "0"], "turns must be at least 1"),
        (["--rules", "adma"], "has no rule 'adma'"),
        (["--rules", "nesterv"], "did you mean 'nesterov'?"),
        (["--models", "nope"], "no model 'nope'; its models are: mid, tiny, big"),
        (["--job", "nope"], "job must be one of first-step"),
        (["--json", "NOWHERE/x.json"], "there is no folder NOWHERE"),
    ],
    "bench_models": [
        (["--documents", "0"], "documents must be at least 1"),
        (["--epochs", "-1"], "epochs must be at least 1"),
        (["--margin", "nan"], "margin must be"),
        (["--models", "nope"], "no model 'nope'; its models are: fasttext, "),
        (["--json", "NOWHERE/x.json"], "there is no folder NOWHERE"),
    ],
    "tables": [
        (["--root", "NOWHERE"], "--root: there is no folder NOWHERE"),
    ],
    "demo": [
        (["--seed", "-1"], "seed must be"),
        (["--out", "FILE"], "cannot write to FILE: it is not a folder"),
    ],
}


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [(name, *case) for name, cases in CASES.items() for case in cases],
    ids=lambda value: "-".join(value) if isinstance(value, list) else None,
)
def test_a_mistake_is_one_line(script, tmp_path, monkeypatch, name, arguments, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "FILE").write_text("kept")
    result = script(name, *arguments)
    assert result.code == 2
    assert result.out == ""
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1
    assert said in result.err
    assert (tmp_path / "FILE").read_text() == "kept"


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
@pytest.mark.parametrize("name", ["train_digits", "plot_activations", "demo"])
def test_a_read_only_folder_is_told(script, tmp_path, name):
    folder = tmp_path / "read-only"
    folder.mkdir(mode=0o500)
    for out in (folder, folder / "new"):
        result = script(name, "--out", out)
        assert result.code == 2
        assert (
            result.err == f"error: cannot write to {out}: Permission denied; give another --out\n"
        )
