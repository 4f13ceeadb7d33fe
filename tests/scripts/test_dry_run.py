"""What a training would be is printed, and nothing is written; recipes on the command line."""

import json

import pytest
import yaml
from test_bad_input import told

SMALL = ["--model", "textcnn", "--model-args", "embedding_dim=4", "maps=3"]


def figures(folder):
    return json.loads((folder / "metrics.json").read_text())


def test_a_dry_run_prints_all_settings_and_writes_nothing(script, files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DLNOTES_CACHE", str(tmp_path / "cache"))
    data = ["--train", files / "train.tsv", "--test", files / "test.tsv"]
    result = script("train", *data, *SMALL, "--patience", 0, "--dry-run")
    assert result.code == 0, result.err
    assert list(tmp_path.iterdir()) == []
    assert "recipe: textcnn on 180 documents of 2 classes, 6 tokens on average: adam" in result.err
    said = yaml.safe_load(result.out)
    assert (said["recipe"], said["lr"], said["patience"], said["min_freq"]) == ("default", 0.003, 0, 1)  # fmt: skip
    assert said["model_settings"] == {"embedding_dim": 4, "maps": 3}
    # words of 4 numbers, three widths of 3 maps with a bias, and the output
    assert f"# parameters: {11 * 4 + (3 + 4 + 5) * 4 * 3 + 3 * 3 + 9 * 2 + 2}\n" in result.out
    assert "# training documents: 180\n" in result.out
    assert f"# updates per epoch: {-(-180 // said['batch_size'])}\n" in result.out
    # What it prints is a configuration, and a run of it has the same one.
    (tmp_path / "c.yaml").write_text(result.out)
    run = script("train", "--config", "c.yaml", "--epochs", 1, "--out", "run")
    assert run.code == 0, run.err
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text()) == said | {"epochs": 1}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--model-args", "embedding_dim=0"], "embedding_dim"),
        (["--model", "transformer", "--model-args", "num_heads=3"], "num_heads"),
        (["--optimizer-args", "betas=2,3"], "betas"),
        (["--recipe", "best"], "recipe must be one of default, paper, plain, not 'best'"),
        (["--patience", "-1"], "patience must be at least 0"),
    ],
)
def test_a_dry_run_finds_mistakes(script, files, given, message):
    assert message in told(script("train", "--train", files / "train.tsv", *given, "--dry-run"))


@pytest.mark.parametrize(
    ("given", "refit"), [([], True), (["--refit"], True), (["--no-refit"], False), (["--refit", "True"], True)]
)  # fmt: skip
def test_refit_is_given_as_it_was(script, files, given, refit):
    result = script("train", *given, "--train", files / "train.tsv", "--dry-run")
    assert result.code == 0, result.err
    assert yaml.safe_load(result.out)["refit"] is refit


def test_a_file_from_before_there_were_recipes_repeats_its_run(script, files, tmp_path):
    data = ["--train", files / "train.tsv", "--test", files / "test.tsv"]
    first = ["--recipe", "plain", "--model", "textrnn", "--epochs", 2, "--batch-size", 0]
    small = ["--model-args", "embedding_dim=8", "hidden_size=4"]
    assert script("train", *data, *first, *small, "--out", tmp_path / "first").code == 0
    said = yaml.safe_load((tmp_path / "first" / "config.yaml").read_text())
    del said["recipe"]
    old = dict.fromkeys(("batch_size", "clip_norm", "patience"))  # how it was written
    (tmp_path / "old.yaml").write_text(yaml.safe_dump(said | old))
    result = script("train", "--config", tmp_path / "old.yaml", "--out", tmp_path / "second")
    assert result.code == 0, result.err
    one, other = figures(tmp_path / "first"), figures(tmp_path / "second")
    assert other["settings"] == one["settings"]
    assert other["test"] == one["test"]


def test_paper_and_an_optimizer_of_ones_own(script, files):
    data = ["--train", files / "train.tsv", "--model", "textcnn", "--dry-run"]
    paper = yaml.safe_load(script("train", *data, "--recipe", "paper").out)
    assert (paper["optimizer"], paper["lr"], paper["batch_size"]) == ("adadelta", 1.0, 50)
    assert (paper["optimizer_settings"], paper["model_settings"]) == ({"rho": "0.95", "eps": "1e-06"}, {})  # fmt: skip
    own = yaml.safe_load(script("train", *data, "--optimizer", "adadelta", "--optimizer-args", "rho=0.8").out)  # fmt: skip
    assert (own["lr"], own["optimizer_settings"]) == (3.0, {"rho": "0.8"})
    args = ["--recipe", "paper", "--optimizer-args", "rho=0.8"]  # those of the recipe's optimizer
    mixed = yaml.safe_load(script("train", *data, *args).out)
    assert mixed["optimizer_settings"] == {"rho": "0.8", "eps": "1e-06"}
