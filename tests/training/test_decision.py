"""From scores to answers: what is chosen on dev is the best there is, and what it means."""

import itertools
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import f1_score

from dlnotes.errors import UserError
from dlnotes.training.decision import (
    MAX_TEMPERATURE,
    NO_LABEL,
    Decision,
    choose_decision,
    choose_reject,
    choose_temperature,
    choose_thresholds,
    decision_from,
)

scipy_optimize = pytest.importorskip("scipy.optimize")


def nll(logits, labels, temperature, several):
    scaled = logits.double() / temperature
    if several:
        target = torch.from_numpy(labels).double()
        return F.binary_cross_entropy_with_logits(scaled, target).item()
    return F.cross_entropy(scaled, torch.from_numpy(labels)).item()


def drawn(seed, several, n=400, classes=5):
    """Scores of which the labels are drawn, so that a temperature of 1 is right."""
    torch.manual_seed(seed)
    z = torch.randn(n, classes) * 2
    if several:
        return z, (torch.rand(n, classes) < z.sigmoid()).numpy()
    return z, torch.distributions.Categorical(logits=z).sample().numpy()


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("factor", [0.02, 0.3, 1, 4, 50])
def test_temperature_has_the_lowest_loss(factor, several):
    z, labels = drawn(0, several)
    found = choose_temperature(factor * z, labels, several)

    def of_log(t):
        return nll(factor * z, labels, np.exp(t), several)

    best = scipy_optimize.minimize_scalar(
        of_log, bounds=(-5, 5), method="bounded", options={"xatol": 1e-10}
    )
    assert found == pytest.approx(np.exp(best.x), rel=1e-5)
    assert of_log(np.log(found)) <= best.fun + 1e-15


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("true", [0.5, 1, 3])
def test_a_known_temperature_is_found_again(true, several):
    z, labels = drawn(1, several, n=20_000)
    assert choose_temperature(true * z, labels, several) == pytest.approx(true, rel=0.03)


@pytest.mark.parametrize("several", [False, True])
def test_temperatures_at_the_ends(several):
    z, labels = drawn(2, several)
    separated = (z > 0).numpy() if several else z.argmax(1).numpy()
    assert choose_temperature(z, separated, several) == 1
    assert choose_temperature(torch.zeros_like(z), labels, several) == 1
    reversed_ = (z < 0).numpy() if several else z.argmin(1).numpy()
    assert choose_temperature(z, reversed_, several) == MAX_TEMPERATURE
    assert choose_temperature(z[:0], labels[:0], several) == 1


@pytest.mark.parametrize("several", [False, True])
def test_scores_that_are_no_numbers_and_impossible_labels_do_not_count(several):
    z, labels = drawn(3, several)
    expected = choose_temperature(z, labels, several)
    spoilt = torch.cat([z, torch.full((1, 5), torch.nan), z[:1]])
    more = np.concatenate([labels, labels[:1], labels[:1]])
    spoilt[-1] = torch.where(torch.arange(5) == 1, 1.0, -torch.inf)
    if several:
        more[-1] = [True, False, True, True, True]  # each of a score of ±inf but the second
        spoilt[-1, 1] = torch.nan
    else:
        more[-1] = 2
    assert choose_temperature(spoilt, more, several) == pytest.approx(expected, rel=1e-9)
    if not several:  # a class that cannot be, but is not the label, changes nothing
        wider = torch.cat([z, torch.full((len(z), 1), -torch.inf)], 1)
        assert choose_temperature(wider, labels) == pytest.approx(expected, rel=1e-9)


def brute_force(p, truth):
    """The best F1 over every threshold that has an effect of its own."""
    cuts = np.unique(p)
    return max(f1_score(truth.ravel(), (p >= cut).ravel(), zero_division=0) for cut in cuts)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_thresholds_have_the_best_f1(seed, ties):
    random = np.random.default_rng(seed)
    truth = random.random((40, 4)) < [0.5, 0.3, 0.1, 0.9]
    p = (random.random((40, 4)) * 0.7 + 0.3 * truth).astype(np.float32)
    if ties:
        p = p.round(1)
    one = choose_thresholds(torch.from_numpy(p), truth, "one")
    assert f1_score(truth.ravel(), (p >= one).ravel()) == pytest.approx(brute_force(p, truth))
    each = choose_thresholds(torch.from_numpy(p), truth, "label", min_positives=1)
    chosen = Decision(threshold=each).chosen(torch.from_numpy(p)).numpy()
    for k in range(4):
        f1 = f1_score(truth[:, k], chosen[:, k])
        assert f1 == pytest.approx(brute_force(p[:, k], truth[:, k]))


def test_documents_without_labels_say_nothing_of_thresholds():
    logits, labels = torch.randn(5, 3), np.zeros((5, 3), bool)
    for how in ("one", "label"):
        with pytest.warns(UserWarning, match="none of the dev documents has a label"):
            decision, _ = choose_decision(logits, labels, multi_label=True, threshold=how)
        assert decision.chosen(torch.tensor([0.4, 0.6, 0.5])).tolist() == [False, True, True]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        choose_decision(logits, labels, multi_label=True, threshold="none")


def test_a_threshold_lies_between_two_probabilities():
    p = torch.tensor([[0.9], [0.7], [0.3], [0.1]])
    assert choose_thresholds(p, np.array([[1], [1], [0], [0]]), "one") == pytest.approx(0.5)
    close = torch.tensor([[0.5], [torch.nextafter(torch.tensor(0.5), torch.tensor(1.0)).item()]])
    cut = choose_thresholds(close, np.array([[0], [1]]), "one")
    assert Decision(threshold=cut).chosen(close).tolist() == [[False], [True]]


def test_rare_labels_take_the_threshold_of_all():
    random = np.random.default_rng(0)
    truth = random.random((200, 3)) < 0.3
    truth[:, 2] = False
    truth[:9, 2] = True  # one fewer than it takes
    p = torch.from_numpy(random.random((200, 3)) * 0.5 + 0.3 * truth)
    p[:, 2] /= 4
    one, each = (choose_thresholds(p, truth, how) for how in ("one", "label"))
    assert each[2] == one
    assert len({*each}) == 3
    truth[9, 2] = True
    assert choose_thresholds(p, truth, "label")[2] < 0.25
    assert choose_thresholds(p, truth, "none") == 0.5
    assert choose_thresholds(p, np.zeros((200, 3), bool), "one") == 0.5


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("precision", [0.5, 0.8, 0.95, 1.0])
def test_rejection_keeps_the_most_answers_that_are_precise_enough(seed, precision):
    random = np.random.default_rng(seed)
    confidence = random.random(60).astype(np.float32).round(2)
    correct = random.random(60) < confidence
    found = choose_reject(confidence, correct, precision, min_answers=1)
    ways = [(correct[confidence >= cut].mean(), (confidence >= cut).mean()) for cut in confidence]
    enough = [coverage for share, coverage in ways if share >= precision]
    assert found.reached == bool(enough)
    assert found.coverage == (max(enough) if enough else max(ways)[1])
    kept = ~Decision(reject=found.reject).rejected(torch.from_numpy(confidence)).numpy()
    assert kept.mean() == found.coverage
    assert correct[kept].mean() == found.precision


def test_precision_out_of_reach_is_told_and_rejects_nothing():
    z = torch.tensor([[3.0, 0], [2.0, 0], [1.0, 0]]).repeat_interleave(10, 0)
    decision, rejection = choose_decision(z, np.repeat([1, 0, 0], 10), precision=0.9)
    assert (decision.reject, rejection.reached) == (0, False)
    assert rejection.precision == pytest.approx(2 / 3)
    assert "the best is 0.6667, with 30 of 30 documents answered" in rejection.refusal(0.9)
    decision, rejection = choose_decision(z, np.repeat([0, 0, 1], 10), precision=0.9)
    assert decision.decide(z[::10]).tolist() == [0, 0, NO_LABEL]
    assert choose_decision(z, np.repeat([0, 0, 1], 10), precision=0) == (Decision(), None)
    with pytest.raises(UserError, match="precision"):
        choose_decision(z, np.eye(2, dtype=bool)[[0, 1, 1]], multi_label=True, precision=0.9)


def test_a_confidence_rests_on_ten_answers():
    confidence = np.linspace(1, 0.5, 30)
    correct = np.arange(30) < 9  # one too few
    found = choose_reject(confidence, correct, 0.95)
    assert (found.reached, found.answered, found.documents) == (False, 10, 30)
    assert found.precision == pytest.approx(0.9)
    correct[9] = True
    found = choose_reject(confidence, correct, 0.95)
    assert (found.reached, found.answered) == (True, 10)
    few = choose_reject(confidence[:9], correct[:9], 0.5)
    assert not few.reached
    assert "cannot be chosen on 9 dev documents: it takes at least 10" in few.refusal(0.5)


def test_probabilities_and_answers():
    z = torch.tensor([[2.0, 0.0, -1.0], [0.2, 0.1, 0.0]])
    warm = Decision(temperature=2, threshold=(0.7, 0.5, 0.3), reject=0.4)
    assert warm.probabilities(z).tolist() == (z / 2).softmax(-1).tolist()
    assert warm.probabilities(z, True).tolist() == (z / 2).sigmoid().tolist()
    assert warm.decide(z).tolist() == [0, NO_LABEL]
    assert warm.decide(z, True).tolist() == [[True, True, True], [False, True, True]]
    assert Decision().scaled(z) is z
    assert decision_from(warm.changed()) == warm
    assert decision_from(None) == decision_from({}) == Decision()
    assert Decision().changed() == {}


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": 0},
        {"temperature": float("nan")},
        {"threshold": 1.1},
        {"threshold": [0.5, -0.1]},
        {"threshold": "one"},
        {"reject": 2},
        {"rejects": 0.5},
        [],
    ],
)
def test_decisions_that_cannot_be(wrong):
    with pytest.raises(UserError, match="decision"):
        decision_from(wrong)


def test_as_many_thresholds_as_labels():
    for classes, threshold in itertools.product((2, 3), (0.5, (0.1, 0.2))):
        decision = Decision(threshold=threshold)
        if threshold == 0.5 or classes == 2:
            decision.check_labels(classes)
        else:
            with pytest.raises(UserError, match="one number or 3"):
                decision.check_labels(classes)
