"""Learning-rate schedules: pure functions of the step, so there is nothing to save."""

from __future__ import annotations

from collections.abc import Callable

from dlnotes.errors import UserError

Schedule = Callable[[int, int], float]
"""(step from 0, number of steps) → factor of the learning rate."""


def constant(step: int, steps: int) -> float:
    """The learning rate itself, all the time."""
    return 1.0


def linear(step: int, steps: int) -> float:
    """From the learning rate down to 0 in equal steps (fastText, arXiv:1607.01759)."""
    return max(0.0, 1 - step / max(1, steps))


def halving(step: int, steps: int) -> float:
    """Halved after each eighth of the steps: every 25 of 200 epochs (arXiv:1612.03969)."""
    return 0.5 ** (8 * step // max(1, steps))


SCHEDULES: dict[str, Schedule] = {"constant": constant, "linear": linear, "halving": halving}


def with_warmup(schedule: Schedule, warmup: float) -> Schedule:
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
        return schedule(step - rising, steps - rising)

    return factor
