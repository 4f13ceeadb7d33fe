"""Learning-rate schedules: pure functions of the step, so there is nothing to save."""

from __future__ import annotations

import math
from collections.abc import Callable

from dlnotes.errors import UserError

Schedule = Callable[[int, int], float]
"""(step from 0, number of steps) → factor of the learning rate."""

AfterWarmup = Callable[[int, int, int], float]
"""(step from 0, number of steps, steps of warm-up that came before) → factor."""


def constant(step: int, steps: int, warmup: int = 0) -> float:
    """The learning rate itself, all the time."""
    return 1.0


def linear(step: int, steps: int, warmup: int = 0) -> float:
    """From the learning rate down to 0 in equal steps (fastText, arXiv:1607.01759)."""
    return max(0.0, 1 - step / max(1, steps))


def inverse_sqrt(step: int, steps: int, warmup: int = 0) -> float:
    """Down with the square root of the number of updates, warm-up included.

    With a warm-up this is the schedule of Vaswani et al. 2017 (arXiv:1706.03762, section 5.3), with
    its highest rate, the paper's (d · warm-up steps)^-1/2, as the learning rate.
    """
    peak = warmup + 1
    return math.sqrt(peak / (peak + step))


def halving(step: int, steps: int, warmup: int = 0) -> float:
    """Halved after each eighth of the steps: every 25 of 200 epochs (arXiv:1612.03969)."""
    return 0.5 ** (8 * step // max(1, steps))


SCHEDULES: dict[str, AfterWarmup] = {
    "constant": constant,
    "linear": linear,
    "inverse_sqrt": inverse_sqrt,
    "halving": halving,
}


def with_warmup(schedule: AfterWarmup, warmup: float) -> Schedule:
    """Rise in equal steps over the first share `warmup` of the steps, then follow `schedule`.

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
