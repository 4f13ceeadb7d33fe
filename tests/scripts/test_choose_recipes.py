"""Candidates for recipes are measured on dev, once, and what was measured is kept."""

import json

import pytest
from choose_recipes import main, measured, some

from dlnotes.data.layout import LABEL, TEXT
from dlnotes.errors import UserError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    corpus = tmp_path / "data" / "trec"
    corpus.mkdir(parents=True)
    lines = [f"{'good' if i % 2 else 'bad'}\t{'fine great' if i % 2 else 'poor dull'} film {i}\n" for i in range(60)]  # fmt: skip
    (corpus / "train.tsv").write_text("".join(lines))
    (corpus / "test.tsv").write_text("not a table")  # it is not opened
    recipes = tmp_path / "recipes"
    recipes.mkdir()
    monkeypatch.setattr("choose_recipes.RECIPES", recipes)
    return tmp_path


TRIAL = {
    "corpus": "trec",
    "reading": {},
    "model_settings": {"embedding_dim": 8, "buckets": 100},
    "settings": {"lr": 0.1, "epochs": 3},
    "seed": 0,
}


def test_a_trial_is_measured_on_dev(folder):
    found = measured("fasttext", TRIAL, folder / "data")
    assert len(found["epochs"]) == 3
    assert found["dev"]["accuracy"] == max(found["epochs"]) > 0.8
    assert set(found["dev"]) == {"accuracy", "macro_f1", "loss"}
    baseline = measured("tfidf", {**TRIAL, "documents": 40}, folder / "data")
    assert baseline["dev"]["accuracy"] > 0.8


def test_what_has_figures_is_not_measured_again(folder, capsys):
    path = folder / "recipes" / "fasttext.json"
    done = {**TRIAL, "dev": {"accuracy": 0.5}}
    path.write_text(json.dumps({"model": "fasttext", "trials": [done, TRIAL]}))
    main(("fasttext",), data_dir=folder / "data")
    entry = json.loads(path.read_text())
    assert entry["trials"][0] == done
    assert entry["trials"][1]["dev"]["accuracy"] > 0.8
    assert entry["record"]["seed"] == 0
    assert capsys.readouterr().out.count("dev accuracy") == 1
    with pytest.raises(UserError, match=r"no trials of 'han' in .*; there are: fasttext"):
        main(("han",), data_dir=folder / "data")


def test_a_part_of_the_documents_never_changes(folder):
    source = folder / "data" / "trec" / "train.tsv"
    first, again = some(source, 9), some(source, 9)
    assert first.columns == [LABEL, TEXT]
    assert first.equals(again)
    assert len(first) == 9
    assert first[TEXT][0] != "poor dull film 0"
    assert some(source, 20)[:9].equals(first)
