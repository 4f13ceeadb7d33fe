"""The race against a long sweep: its record, and going on after an interruption."""

import json
from dataclasses import replace

import pytest

from dlnotes.advice import race, runner
from dlnotes.advice.race import Candidate
from dlnotes.advice.runner import TrialRunner
from dlnotes.errors import UserError


@pytest.fixture(autouse=True)
def small(tmp_path, monkeypatch):
    """A corpus of 120 documents, and little to try."""
    monkeypatch.setattr(runner, "MODELS", ("tfidf", "fasttext"))
    monkeypatch.setattr(race, "MAX_SEEDS", 1)
    monkeypatch.setattr(TrialRunner, "_probed", lambda _: (1, 1e-4))  # takes seconds
    monkeypatch.setattr(TrialRunner, "vary", lambda _, c: [Candidate(c.model, {"lr": 0.1})])
    (tmp_path / "trec").mkdir()
    lines = [f"{'ab'[i % 2]}\tw{i % 7} w{i % 2 * (i % 5)} common{i % 3}\n" for i in range(120)]
    for split in ("train", "test"):
        (tmp_path / "trec" / f"{split}.tsv").write_text("".join(lines))


def test_it_is_recorded_and_goes_on_where_it_was_interrupted(script, tmp_path, monkeypatch):
    path, real, calls = tmp_path / "results" / "trec.json", TrialRunner.measure, []

    def bar(stops):
        def measure(self, candidate, share, seed, limit):
            if stops():
                raise KeyboardInterrupt
            calls.append((candidate.name, seed))
            return real(self, candidate, share, seed, limit)

        monkeypatch.setattr(TrialRunner, "measure", measure)
        calls.clear()
        options = ("--minutes", 0.5, "--data-dir", tmp_path, "--results", path.parent)
        return script("advise_bar", "trec", *options)

    half_a_race = bar(lambda: len(calls) == 1)
    assert half_a_race.code == 130
    assert not path.exists()

    assert (
        bar(lambda: path.exists() and len(json.loads(path.read_text())["sweep"]) == 2).code == 130
    )
    kept = json.loads(path.read_text())
    assert kept["sweep"].keys() == {"tfidf", "fasttext"}
    assert "gap" not in kept

    ended = bar(lambda: False)
    assert ended.code == 0, ended.err
    assert calls == [("fasttext, lr 0.1", 0), *calls[1:]]
    assert (
        sorted(calls) == [(n, s) for n in ("fasttext", "fasttext, lr 0.1") for s in (0, 1, 2)][1:]
    )
    found = json.loads(path.read_text())
    assert found["race"] == kept["race"]
    assert found["sweep"]["tfidf"] == kept["sweep"]["tfidf"]
    assert found["sweep"]["fasttext"][:1] == kept["sweep"]["fasttext"]
    means = {name: sum(each) / len(each) for name, each in found["sweep"].items()}
    assert found["best_score"] == max(means.values())
    assert found["gap"] == pytest.approx(found["best_score"] - means[found["recommended"]])
    assert found["record"].keys() >= {"command", "commit", "seed", "versions", "machine"}
    assert found["seconds"]["sweep"] > kept["seconds"]["sweep"] > 0

    assert "continued" not in found  # the same code on the same machine
    again = bar(lambda: False)
    assert (again.code, calls) == (0, [])
    assert again.out == ended.out.splitlines(keepends=True)[-1]


def test_figures_of_other_code_are_signed_with_its_commit(script, tmp_path):
    path = tmp_path / "results" / "trec.json"
    options = ("trec", "--minutes", 0.5, "--data-dir", tmp_path, "--results", path.parent)
    assert script("advise_bar", *options).code == 0
    # A record as the first version of the script left it, in the middle of the sweep.
    old = json.loads(path.read_text())
    for key in ("score", "best", "best_score", "gap", "holds"):
        del old[key]
    old["sweep"] = {"tfidf": old["sweep"]["tfidf"], "fasttext": old["sweep"]["fasttext"][:1]}
    old["record"]["commit"] = "8734499"
    path.write_text(json.dumps(old))
    done = script("advise_bar", *options)
    assert done.code == 0, done.err
    found = json.loads(path.read_text())
    assert found["record"] == old["record"]
    (later,) = found["continued"]
    assert later["commit"] != "8734499"
    assert later.keys() == {*old["record"], "measured"}
    trained = {
        f"{name}, seed {seed}"
        for name, scores in found["sweep"].items()
        for seed in range(len(scores))
    }
    assert len(later["measured"]) == len({*later["measured"]})
    assert {*later["measured"]} == trained - {"tfidf, seed 0", "fasttext, seed 0"}


def test_a_recommendation_that_diverges_on_all_documents_is_recorded(script, tmp_path, monkeypatch):
    path, real, calls = tmp_path / "results" / "trec.json", TrialRunner.measure, []

    def measure(self, candidate, share, seed, limit):
        if self._seconds > 1e6 and candidate.model == "fasttext":  # of the sweep
            calls.append(candidate.name)
            raise UserError("the loss became nan at step 3")
        trial, had = real(self, candidate, share, seed, limit)
        if candidate.model == "tfidf":
            trial = replace(trial, hits=0 * trial.hits)
        return trial, had

    monkeypatch.setattr(TrialRunner, "measure", measure)
    options = ("trec", "--minutes", 0.5, "--data-dir", tmp_path, "--results", path.parent)
    done = script("advise_bar", *options)
    assert done.code == 0, done.err
    found = json.loads(path.read_text())
    assert found["recommended"].startswith("fasttext")
    assert (found["score"], found["gap"], found["holds"]) == (None, None, False)
    assert found["best"] == "tfidf"
    said = "failed from seed 0 (the loss became nan at step 3) on all documents; best of the sweep"
    assert said in done.out
    calls.clear()
    again = script("advise_bar", *options)
    assert (again.code, calls) == (0, [])
    assert said in again.out
