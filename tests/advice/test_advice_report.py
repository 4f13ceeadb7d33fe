"""What a race recommends, and how it says so."""

import numpy as np
import pytest
from fakes import Field, trial

from dlnotes.advice.evidence import EXPECTED_DEGREES, interval, paired_difference
from dlnotes.advice.race import Candidate, Entry
from dlnotes.advice.report import Advice, facts
from dlnotes.advice.runner import CorpusStatistics
from dlnotes.errors import UserError
from drawing import inside


def advice(planted, seconds=100, documents=1000):
    field = Field(planted, documents)
    return Advice(field.race(seconds).run(), "accuracy", documents)


def entry(name, hits, seconds, seeds=1, **changes):
    network = name != "tfidf"
    trials = [trial(hits, seconds=seconds, network=network) for _ in range(seeds)]
    return Entry(Candidate(name, changes), first=trials[0] if network else None, runs=trials)


def hits(right, n=500, shift=0):
    """The first so many documents are answered correctly, or as many from a later one on."""
    return np.roll(np.arange(n) < right, shift)


def test_the_best_is_recommended_where_it_is_better():
    found = advice({"tfidf": (0.70, 1), "quick": (0.75, 4), "good": (0.90, 20)})
    assert found.recommended.name == "good"
    assert found.sentence.startswith("Use good: ")
    assert "points more than the next model, quick." in found.sentence
    rows = {row[0]: row for row in found.rows()}
    assert rows["good"][-1] == "best"
    assert rows["tfidf"][-1].startswith("worse by ")
    assert rows["tfidf"][2:4] == ("–", "–")
    assert rows["good"][2] == "all"
    assert rows["good"][1].count(" to ") == 1


def test_tfidf_is_recommended_where_it_wins():
    found = advice({"tfidf": (0.90, 1), "quick": (0.80, 4), "slow": (0.82, 20)})
    assert found.recommended.name == "tfidf"
    assert found.sentence.startswith("Use TF-IDF with logistic regression: 90")
    assert found.network.name == "slow"


def test_of_equal_ones_the_cheaper_is_recommended_and_no_difference_is_said():
    same = hits(400)
    found = Advice([entry("slow", same, 20.0), entry("quick", same, 5.0)], "accuracy", 500)
    assert found.recommended.name == "quick"
    assert found.verdict(found.entries[0]) == "no difference shown"
    slower = Advice(
        [entry("slow", hits(402), 20.0), entry("quick", hits(400), 5.0)], "accuracy", 500
    )
    assert slower.best.name == "slow"
    assert slower.recommended.name == "quick"
    assert (
        "these documents show no difference from the best, slow (80.4 %, 0.4 ± " in slower.sentence
    )
    assert slower.sentence.endswith("it trains 4.0 times as fast.")
    assert slower.verdict(slower.entries[1]) == "no difference shown"


def test_a_difference_that_may_be_chance_is_told_but_worth_the_time():
    """Two points in 500 documents: no difference is shown, and the better figure is taken."""
    entries = [entry("slow", hits(400), 20.0), entry("quick", hits(390, shift=40), 5.0)]
    found = Advice(entries, "accuracy", 500)
    assert found.recommended.name == "slow"
    assert found.sentence == (
        "Use slow: 80.0 % accuracy on 500 dev documents; these documents show no difference from "
        f"quick (78.0 %, 2.0 ± {100 * found.differences['quick'].margin:.1f} points apart)."
    )


def test_one_of_a_dozen_documents_is_no_reason_to_wait():
    entries = [entry("slow", hits(10, 12), 20.0), entry("quick", hits(9, 12), 5.0)]
    found = Advice(entries, "accuracy", 12)
    assert found.recommended.name == "quick"
    assert found.sentence.endswith(" So few dev documents decide nothing.")


@pytest.mark.parametrize("documents", [2, 20])
def test_few_documents_on_which_all_agree_decide_nothing(documents):
    same = hits(documents, documents)
    found = Advice([entry("slow", same, 20.0), entry("quick", same, 5.0)], "accuracy", documents)
    assert "these documents show no difference" in found.sentence
    assert "± 0" not in found.sentence
    assert found.sentence.endswith(" So few dev documents decide nothing.")


def test_a_single_candidate_is_not_recommended():
    alone = entry("m", hits(400), 1.0)
    found = Advice([alone], "accuracy", 500)
    assert not found.compares_models
    assert found.sentence == (
        "Only m was measured in full, with nothing to compare: 80.0 % accuracy on 500 dev "
        "documents."
    )
    alone.runs = []  # a first trial is left
    assert Advice([alone], "accuracy", 500).sentence.startswith("Only m was measured, with nothing")


def test_a_single_model_is_compared_with_itself_alone():
    plain = entry("m", hits(400), 1.0)
    found = Advice([plain, entry("m", hits(300), 1.0, lr=0.1)], "accuracy", 500)
    assert not found.compares_models
    assert found.sentence == (
        "Only m was measured in full, with nothing but its settings to compare: m has 80.0 % "
        "accuracy on 500 dev documents."
    )
    found = Advice([plain, entry("m", hits(490), 1.0, lr=0.1)], "accuracy", 500)
    assert found.sentence.startswith("Only m was measured in full, with nothing but its settings")
    assert ": m with lr 0.1 has 98.0 %" in found.sentence
    other = entry("tfidf", hits(100), 1.0)
    assert Advice([plain, other], "accuracy", 500).compares_models


def test_the_seeds_of_all_candidates_count():
    """Five seeds of each differ as much as the documents explain: two points are a difference."""
    random = np.random.default_rng(0)

    def network(name, accuracy):
        runs = [trial(random.random(4000) < accuracy) for _ in range(5)]
        return Entry(Candidate(name), first=runs[0], runs=runs)

    found = Advice([network("a", 0.80), network("b", 0.77)], "accuracy", 4000)
    assert found.seeds.degrees == EXPECTED_DEGREES + 8
    assert found.verdict(found.ranked[1]).startswith("worse by ")
    # Those with one seed each are compared with what the others show.
    a, b, c = entry("a", hits(450), 1.0), entry("b", hits(440), 1.0), entry("c", hits(300), 1.0, 5)
    found = Advice([a, b, c], "accuracy", 500)
    assert found.differences["b"].error == paired_difference(a.runs, b.runs, found.seeds).error
    assert found.differences["b"].error < paired_difference(a.runs, b.runs).error
    low, high = interval(a.runs, seeds=found.seeds)
    assert f"({100 * low:.1f} to {100 * high:.1f})" in found.rows()[0][1]
    assert found.record()[0]["interval"] == [low, high]


def test_a_variation_is_recommended_only_where_it_is_better():
    plain, varied = entry("m", hits(400), 10.0), entry("m", hits(401), 9.5, lr=0.1)
    found = Advice([plain, varied], "accuracy", 500)
    assert found.recommended is plain
    assert "the best, m with lr 0.1 (" in found.sentence
    assert found.sentence.endswith("and it needs no options.")
    better = entry("m", hits(480), 9.5, lr=0.1)
    assert Advice([plain, better], "accuracy", 500).recommended is better


def test_a_network_that_had_a_part_of_its_epochs_is_compared_where_none_had_all():
    field = Field({"tfidf": (0.7, 1), "slow": (0.9, 100)})
    found = Advice(field.race(60).run(), "accuracy", 1000)
    assert found.recommended.name == "slow"
    assert found.rows()[0][2] == "25 %"
    assert "accuracy on 1,000 dev documents after 25 % of its epochs, " in found.sentence
    assert found.verdict(found.recommended) == "best after 25 % of its epochs"
    assert "of its epochs" not in found.verdict(found.ranked[1])


def test_a_part_of_the_epochs_is_said_wherever_a_figure_is_compared():
    part = entry("net", hits(400), 20.0)
    part.runs, part.share = [], 0.25
    baseline = entry("tfidf", hits(400), 1.0)
    ahead = Advice([baseline, part], "accuracy", 500)
    assert ahead.recommended is baseline
    assert "no difference from net (80.0 % after 25 % of its epochs, 0.0 ± " in ahead.sentence
    assert ahead.verdict(part) == "no difference shown after 25 % of its epochs"
    part.first = trial(hits(401), seconds=20.0)
    behind = Advice([baseline, part], "accuracy", 500)
    assert "the best, net (80.2 % after 25 % of its epochs, 0.2 ± " in behind.sentence
    part.first = trial(hits(200), seconds=20.0)
    worse = Advice([baseline, part], "accuracy", 500)
    assert worse.sentence.endswith("than the next model, net after 25 % of its epochs.")
    assert worse.verdict(part) == "worse by 40.0 points after 25 % of its epochs"
    part.runs = [part.first]
    assert "epochs" not in Advice([baseline, part], "accuracy", 500).sentence


def test_a_single_dev_document_is_one():
    found = Advice([entry("m", hits(1, 1), 1.0)], "accuracy", 1)
    assert "100.0 % accuracy on 1 dev document. So few" in found.sentence


def test_nothing_measured_is_an_error_in_a_line():
    field = Field({"net": (0.7, 1)})
    field.now = 60.0
    with pytest.raises(
        UserError, match=r"nothing could be measured \(there was no time to try it\): give"
    ):
        Advice(field.race(60).run(), "accuracy", 1000)


def test_what_failed_from_another_seed_is_not_recommended():
    wild = entry("wild", hits(490), 1.0)
    wild.failed = 1
    found = Advice([wild, entry("calm", hits(400), 5.0)], "accuracy", 500)
    assert found.recommended.name == "calm"
    assert found.verdict(wild) == "failed from another seed"


def test_the_picture_shows_each_candidate_that_has_a_figure():
    found = advice(
        {"tfidf": (0.7, 1), "quick": (0.8, 4), "slow": (0.85, 12), "endless": (0.9, 1e6)}, 60
    )
    figure = inside(found.draw())
    (axes,) = figure.axes
    named = {text.get_text() for text in axes.texts}
    assert named == {"tfidf", "quick", "slow"}
    assert axes.get_title() == f"recommended: {found.recommended.name}"


def test_facts_of_a_corpus():
    statistics = CorpusStatistics(900, 100, 2, 10.25, 37, 5000, 0.5, ("a", 600), ("b", 300), None)
    assert facts(statistics, "words") == [
        ("documents", "900 to learn from, 100 for dev"),
        ("classes", "2"),
        ("imbalance", "a has 600, b 300: 2.0 times as many"),
        ("length", "10.2 tokens on average, 37 at most (words)"),
        ("sparsity", "50 % of 5,000 different tokens occur once"),
    ]
