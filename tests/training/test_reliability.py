"""Calibration error by hand, and its diagram."""

import numpy as np
import pytest
import torch

from dlnotes.training.decision import choose_decision
from dlnotes.training.evaluate import metrics
from dlnotes.training.reliability import reliability, reliability_figure


def by_hand(confidence, correct, bins=15):
    total = 0.0
    for b in range(bins):
        low, high = b / bins, (b + 1) / bins
        inside = [i for i, p in enumerate(confidence) if low < p <= high or (b == 0 and p == 0)]
        if inside:
            share = sum(correct[i] for i in inside) / len(inside)
            mean = sum(float(confidence[i]) for i in inside) / len(inside)
            total += len(inside) / len(confidence) * abs(share - mean)
    return total


@pytest.mark.parametrize("seed", range(3))
def test_equals_the_definition(seed):
    random = np.random.default_rng(seed)
    p = random.random(200)
    p[:3] = 0, 1, 0.2
    correct = random.random(200) < p**2
    found = reliability(p, correct)
    assert found.ece == pytest.approx(by_hand(p, correct), rel=1e-12)
    assert found.counts.sum() == 200
    halves = reliability(p[:70], correct[:70]) + reliability(p[70:], correct[70:])
    assert halves.ece == pytest.approx(found.ece, rel=1e-12)


def test_nothing_and_the_ends():
    assert reliability(np.zeros(0, np.float32), np.zeros(0, bool)).ece == 0
    certain = np.array([1.0, 1.0, 0.0], np.float32)
    assert reliability(certain, np.array([True, True, False])).ece == 0
    assert reliability(certain, np.array([False, False, True])).ece == 1


def test_metrics_have_the_error_of_the_scaled_confidences():
    torch.manual_seed(0)
    z = 2 * torch.randn(3000, 4)
    labels = torch.distributions.Categorical(logits=z).sample().numpy()
    sure = 3 * z
    before = metrics(sure, labels)
    expected = by_hand(sure.softmax(1).amax(1).numpy(), sure.argmax(1).numpy() == labels)
    assert before.ece == pytest.approx(expected, rel=1e-5)
    decision, _ = choose_decision(sure, labels, calibrate=True, precision=0.9)
    after = metrics(sure, labels, decision)
    assert after.ece < 0.03 < before.ece
    assert after.loss < before.loss
    assert after.accuracy == before.accuracy
    confidence = (sure / decision.temperature).softmax(1).amax(1)
    answered = (confidence >= decision.reject).numpy()
    assert after.coverage == answered.mean()
    assert after.answered_accuracy == (sure.argmax(1).numpy() == labels)[answered].mean() >= 0.9
    assert {"coverage", "answered_accuracy"} == after.summary().keys() - before.summary().keys()


def test_figure_has_a_bar_for_each_bin_that_is_not_empty():
    found = reliability(np.array([0.5, 0.52, 0.9]), np.array([True, False, True]))
    figure = reliability_figure(found, title="dev")
    above, below = figure.axes
    assert "dev: expected calibration error 0.0" in above.get_title()
    assert [bar.get_height() for bar in above.containers[0]] == [0.5, 1.0]
    assert sum(bar.get_height() for bar in below.containers[0]) == 3
    figure.canvas.draw()
    reliability_figure(found + found, title="x").canvas.draw()
