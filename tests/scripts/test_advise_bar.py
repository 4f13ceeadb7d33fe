"""The race against a long sweep: its record, and going on after an interruption."""

import json

import pytest

from dlnotes.advice import corpus, race
from dlnotes.advice.corpus import Corpus


@pytest.fixture
def bar(script, tmp_path, monkeypatch):
    """Runs it on a small corpus, with little to try; what is trained is noted in its `calls`."""
    monkeypatch.setattr(corpus, "MODELS", ("tfidf", "fasttext"))
    monkeypatch.setattr(race, "MOST_SEEDS", 1)
    monkeypatch.setattr(Corpus, "_probed", lambda _: (1, 1e-4))  # takes seconds
    (tmp_path / "data" / "trec").mkdir(parents=True)
    lines = [f"{'ab'[i % 2]}\tw{i % 7} w{i % 2 * (i % 5)} common{i % 3}\n" for i in range(120)]
    for split in ("train", "test"):
        (tmp_path / "data" / "trec" / f"{split}.tsv").write_text("".join(lines))
    real, calls = Corpus.measure, []

    def measure(self, candidate, share, seed, limit):
        if len(calls) == run.stop_after:
            raise KeyboardInterrupt
        calls.append((candidate.name, share, seed))
        return real(self, candidate, share, seed, limit)

    monkeypatch.setattr(Corpus, "measure", measure)

    def run(*options, stop_after=None):
        run.stop_after = stop_after
        calls.clear()
        options = (*options, "--data-dir", tmp_path / "data", "--results", tmp_path / "results")
        return script("advise_bar", "trec", *options), list(calls)

    run.stop_after = None
    return run


def test_it_is_recorded_and_goes_on_where_it_was_interrupted(bar, tmp_path):
    path = tmp_path / "results" / "trec.json"
    half_a_race, _ = bar("--minutes", 0.5, stop_after=1)
    assert half_a_race.code == 130
    assert not path.exists()

    _, raced = bar("--minutes", 0.5, stop_after=10_000)
    whole = json.loads(path.read_text())
    path.unlink()
    of_race = len(raced) - sum(map(len, whole["sweep"].values()))

    stopped, first = bar("--minutes", 0.5, stop_after=of_race + 2)
    assert stopped.code == 130
    kept = json.loads(path.read_text())
    assert kept["sweep"].keys() == {"tfidf", "fasttext"}
    assert "gap" not in kept

    ended, rest = bar("--minutes", 0.5)
    assert ended.code == 0, ended.err
    assert not {call for call in first if call[1] == 1.0 and call in first[of_race:]} & {*rest}
    found = json.loads(path.read_text())
    assert found["sweep"] == whole["sweep"]
    assert found["race"] == kept["race"]
    assert len(found["sweep"]["fasttext"]) == 3
    means = {name: sum(each) / len(each) for name, each in found["sweep"].items()}
    assert found["best_score"] == max(means.values())
    assert found["gap"] == pytest.approx(found["best_score"] - means[found["recommended"]])
    assert found["record"].keys() >= {"command", "commit", "seed", "versions", "machine"}
    assert found["seconds"]["sweep"] > kept["seconds"]["sweep"] > 0

    again, nothing = bar("--minutes", 0.5)
    assert (again.code, nothing) == (0, [])
    assert again.out == ended.out.splitlines(keepends=True)[-1]
