"""What a comparison says of trainings whose results are known."""

import numpy as np
import pytest

from dlnotes.comparison.report import Comparison
from dlnotes.comparison.trainings import Result


def result(hits, *, seconds=1.0, documents=100, outcomes=(), **rest):
    score = np.sum(hits) / (np.sum(outcomes) if len(outcomes) else len(hits))
    name = "micro_f1" if len(outcomes) else "accuracy"
    return Result(
        hits=np.asarray(hits, float),
        outcomes=outcomes,
        figures={name: score, "macro_f1": score / 2},
        seconds=seconds,
        documents=documents,
        trained_per_second=10.0,
        predicted_per_second=20.0,
        bytes=1_500_000,
        **rest,
    )


def answers(accuracy, seed, n=400):
    """Whether documents are classified correctly: the first ones are easy."""
    random = np.random.default_rng(seed)
    return np.arange(n) / n + random.normal(0, 0.03, n) < accuracy


def on_test(**accuracies):
    runs = {
        (model, 0): [result(answers(accuracy, 10 * i + s), seconds=9.0 - i) for s in range(5)]
        for i, (model, accuracy) in enumerate(accuracies.items())
    }
    return Comparison(runs, False, [], 400)


def test_what_is_alike_and_what_is_worse():
    found = on_test(han=0.85, svm=0.85, dmn=0.6)
    assert {row.model: row.group for row in found.rows} == {"han": "a", "svm": "a", "dmn": "b"}
    first, second = (row.model for row in found.rows[:2])
    sentence = found.sentence
    assert sentence.startswith(f"{first} is best: 8")
    assert f"not told apart from it: {second} (" in sentence
    assert "Worse: dmn (2" in sentence
    assert "p < .001" in sentence
    assert found.rows[2].score_std == pytest.approx(np.std(found.scores("dmn"), ddof=1))
    assert found.method.endswith("by the paired bootstrap over documents and seeds.")
    assert not found.notes[0].startswith("5 seeds")


def test_the_next_one_is_worse():
    assert ", and all others are worse: the next is dmn (2" in on_test(han=0.85, dmn=0.6).sentence


def test_of_one_training_there_is_no_deviation():
    runs = {(model, 0): [result(answers(0.8, i))] for i, model in enumerate(("han", "svm"))}
    found = Comparison(runs, False, [], 400)
    assert [row.score_std for row in found.rows] == [None, None]
    assert "±" not in found.table()[0][2]
    assert found.legend.startswith("Figures of one training each. Models that share a letter")
    alone = on_test(han=0.85).legend
    assert alone.startswith("Mean ± standard deviation over seeds. A training has one thread")


def test_one_model_has_nothing_to_be_compared_with():
    found = on_test(han=0.85)
    assert found.sentence.startswith("Only han was measured: 8")
    assert found.rows[0].group == "a"
    assert "## Pairs" not in found.markdown("Title", [])


def test_single_trainings_are_called_so():
    runs = {(m, 0): [result(answers(a, i))] for i, (m, a) in enumerate((("a", 0.8), ("b", 0.7)))}
    found = Comparison(runs, False, [], 400)
    assert "of these trainings, not of other seeds of the same models" in found.method
    assert "±" not in found.table()[0][2]


def test_a_model_that_fails_once_is_left_out():
    found = on_test(han=0.85, dmn=0.9)
    found.results["dmn", 0][3] = Result(error="diverged")
    assert found.ranked == ["han"]
    assert found.notes[0] == "Left out: dmn (1 of 5 trainings: diverged)."


def test_folds_are_put_together_in_the_order_of_the_documents():
    random = np.random.default_rng(0)
    fold_of = [random.permutation(np.arange(40) % 4) for _ in range(2)]
    right = random.random((2, 40)) < 0.7
    runs = [result(right[s][fold_of[s] == f]) for s in range(2) for f in range(4)]
    found = Comparison({("han", 0): runs}, False, fold_of, 40)
    assert np.array_equal(found.measured("han").hits, right)
    assert found.measured_on == "4 folds of 40 documents, divided 2 times"


def folded(*accuracies, documents=400):
    fold_of = [np.arange(400) % 5]
    runs = {}
    for i, accuracy in enumerate(accuracies):
        right = answers(accuracy, i)
        key = ("han", i)
        runs[key] = [result(right[fold_of[0] == f], documents=documents >> i) for f in range(5)]
    return Comparison(runs, False, fold_of, 400)


def test_more_documents_help():
    told = folded(0.8, 0.7).more_documents
    assert told.startswith("More documents are likely to help: from 200 to 400 documents")
    assert "the accuracy of han changed by +9.5 points" in told


def test_more_documents_do_not_help():
    runs = folded(0.8, 0.8).results
    runs["han", 1][:] = runs["han", 0]
    told = Comparison(runs, False, [np.arange(400) % 5], 400).more_documents
    # Up to rounding of the folds' figures: half a point is not ruled out by 400 documents.
    assert told.startswith(("More documents of this kind would hardly", "Whether more documents"))
    assert "+0.0 points" in told


def test_many_documents_show_that_more_do_not_help():
    n = 10_000
    right = answers(0.8, 0, n)
    runs = {("han", h): [result(right, documents=n >> h)] for h in range(2)}
    told = Comparison(runs, False, [], n).more_documents
    assert told.startswith("More documents of this kind would hardly help")


def test_few_documents_do_not_tell_whether_more_help():
    runs = {
        ("han", 0): [result(answers(0.8, 0, 50))],
        ("han", 1): [result(answers(0.74, 1, 50), documents=50)],
    }
    told = Comparison(runs, False, [], 50).more_documents
    assert told.startswith("Whether more documents would help han is not shown")


def test_several_labels_are_compared_by_micro_f1():
    random = np.random.default_rng(0)
    outcomes = random.integers(2, 6, 300).astype(float)
    runs = {
        (model, 0): [result(np.minimum(outcomes, random.binomial(5, p, 300)), outcomes=outcomes)]
        for model, p in (("han", 0.6), ("dmn", 0.4))
    }
    found = Comparison(runs, True, [], 300)
    assert found.measured("han").figures[0] == pytest.approx(found.mean("han"))
    assert "% micro-F1 on 300 test documents, and all others are worse" in found.sentence
    assert found.headings[2] == "micro-F1, %"


def test_the_page_has_table_pairs_and_curves():
    page = folded(0.8, 0.7).markdown("Models on x", ["careful"])
    assert page.startswith("# Models on x\n\nOnly han was measured")
    assert "| model | group | accuracy, % |" in page
    assert "| han | 200 | 7" in page
    assert "Note: careful" in page
    assert "| a – b |" not in page
    assert "p, bootstrap (by Holm)" in on_test(a=0.8, b=0.7).markdown("x", [])
