"""The race against a long sweep: its record, and going on after an interruption."""

import json

import pytest

from dlnotes.advice import corpus, race
from dlnotes.advice.corpus import Corpus
from dlnotes.advice.race import Candidate


def test_it_is_recorded_and_goes_on_where_it_was_interrupted(script, tmp_path, monkeypatch):
    monkeypatch.setattr(corpus, "MODELS", ("tfidf", "fasttext"))
    monkeypatch.setattr(race, "MOST_SEEDS", 1)
    monkeypatch.setattr(Corpus, "_probed", lambda _: (1, 1e-4))  # takes seconds
    monkeypatch.setattr(Corpus, "vary", lambda _, c: [Candidate(c.model, {"lr": 0.1})])
    (tmp_path / "trec").mkdir()
    lines = [f"{'ab'[i % 2]}\tw{i % 7} w{i % 2 * (i % 5)} common{i % 3}\n" for i in range(120)]
    for split in ("train", "test"):
        (tmp_path / "trec" / f"{split}.tsv").write_text("".join(lines))
    path, real, calls = tmp_path / "results" / "trec.json", Corpus.measure, []

    def bar(stops):
        def measure(self, candidate, share, seed, limit):
            if stops():
                raise KeyboardInterrupt
            calls.append((candidate.name, seed))
            return real(self, candidate, share, seed, limit)

        monkeypatch.setattr(Corpus, "measure", measure)
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

    again = bar(lambda: False)
    assert (again.code, calls) == (0, [])
    assert again.out == ended.out.splitlines(keepends=True)[-1]
