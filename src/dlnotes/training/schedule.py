"""Learning-rate schedules: pure functions of the step, so there is nothing to save."""

from __future__ import annotations

import math
from collections.abc import Callable

from dlnotes.errors import UserError

Schedule = Callable[[int, int], float]
"""(step from 0, number of steps) → factor of the learning rate."""

AfterWarmup = Callable[[int, int, int], float]
"""(step after the warm-up, from 0; number of such steps; steps of the warm-up) → factor."""


def constant(step: int, steps: int, warmup: int = 0) -> float:
    """The learning rate stays the same."""
    return 1.0


def linear(step: int, steps: int, warmup: int = 0) -> float:
    """The learning rate falls linearly to 0 (fastText, arXiv:1607.01759)."""
    return max(0.0, 1 - step / max(1, steps))


def inverse_sqrt(step: int, steps: int, warmup: int = 0) -> float:
    """The learning rate falls with the square root of the number of updates, including warm-up.

    With a warm-up this is the schedule of Vaswani et al. 2017 (arXiv:1706.03762, section 5.3). The
    learning rate is its highest one, (d · warm-up steps)^-1/2 in the paper.
    """
    peak = warmup + 1
    return math.sqrt(peak / (peak + step))


def halving(step: int, steps: int, warmup: int = 0) -> float:
    """The learning rate is halved after each eighth of the steps: after every 25 of 200 epochs.

    This is the schedule of Henaff et al. 2017 (arXiv:1612.03969).
    """
    return 0.5 ** (8 * step // max(1, steps))


SCHEDULES: dict[str, AfterWarmup] = {
    "constant": constant,
    "linear": linear,
    "inverse_sqrt": inverse_sqrt,
    "halving": halving,
}


def with_warmup(schedule: AfterWarmup, warmup: float) -> Schedule:
    """Rise linearly over the fraction `warmup` of the steps, then follow `schedule`.

    Raises:
        UserError: `warmup` is not at least 0 and below 1.
    """
    if not 0 <= warmup < 1:
        raise UserError(
            f"warmup must be a share of the steps, at least 0 and below 1, not {warmup}"
        )

    def factor(step: int, steps: int) -> float:
        rising = int(warmup * steps)
        if step < rising:
            return (step + 1) / (rising + 1)
        return schedule(step - rising, steps - rising, rising)

    return factor
