import math

import pytest
import torch

from dlnotes.foundations.vanishing_gradients import deep_network, gradient_norms, losses, task


def first_over_last(activation, initialisation, depth=16):
    """Through how many times smaller (or larger) the gradient has become on its way back."""
    norms = gradient_norms(depth, activation, initialisation)
    return (norms[0] / norms[-2]).item()  # the last layer has another size


def test_vanishes_through_sigmoids_and_faster_the_deeper():
    assert first_over_last("sigmoid", "glorot") < 1e-6
    per_layer = [first_over_last("sigmoid", "glorot", depth) ** (1 / depth) for depth in (8, 16)]
    assert all(factor < 0.5 for factor in per_layer)  # below σ' ≤ 1/4 times a little for W


def test_explodes_with_large_weights():
    assert first_over_last("tanh", "unit") > 1e3
    assert gradient_norms(16, "relu", "unit")[0] > 1e8


def test_right_weights_keep_it():
    assert 0.2 < first_over_last("tanh", "glorot") < 5
    assert 0.1 < first_over_last("relu", "he") < 10


def test_small_weights_leave_no_gradient_at_all():
    for activation in ("tanh", "relu"):
        assert gradient_norms(16, activation, "small").max() < 1e-12


@pytest.mark.parametrize(
    ("lr", "clip_norm", "learns"),
    [(0.5, None, False), (0.5, 1.0, True), (0.005, None, True)],
    ids=["explodes", "clipped", "smaller rate"],
)
def test_clipping_or_a_smaller_rate_cures_the_explosion(lr, clip_norm, learns):
    history = losses(deep_network(4, "relu", "unit"), lr, steps=200, clip_norm=clip_norm)
    assert history[0] > 1000
    if learns:
        assert history[-1] < 0.1
    else:
        assert math.isnan(history[-1])


def test_the_task_is_what_it_says():
    x, y = task(50)
    assert y.sum(1).equal(torch.ones(50))
    assert (x[:, :10] * y).sum(1).equal(x[:, :10].max(1).values)
