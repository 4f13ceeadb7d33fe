"""Checks of hyper-parameters whose errors say what is wrong and what is allowed."""

from __future__ import annotations

from collections.abc import Iterable


def check_integer(name: str, value: object, minimum: int) -> None:
    """Require an integer of at least ``minimum``.

    Raises:
        ValueError: ``value`` is not an int (bool does not count) or is too small.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise ValueError(f"{name} is {value!r}; allowed: an integer of at least {minimum}")


def check_dropout(name: str, value: object) -> None:
    """Require a probability of dropping a number, below 1.

    Raises:
        ValueError: ``value`` is outside [0, 1).
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1:
        raise ValueError(f"{name} is {value!r}; allowed: 0 <= {name} < 1")


def check_choice(name: str, value: object, allowed: Iterable[str]) -> None:
    """Require one of the ``allowed`` words.

    Raises:
        ValueError: ``value`` is none of them.
    """
    allowed = tuple(allowed)
    if value not in allowed:
        raise ValueError(f"{name} is {value!r}; allowed: {', '.join(map(repr, allowed))}")


def check_classifier(vocabulary_size: int, num_classes: int) -> None:
    """Require room for padding and the unknown word, and two classes to tell apart.

    Raises:
        ValueError: Either number is below 2.
    """
    check_integer("vocabulary_size", vocabulary_size, 2)
    check_integer("num_classes", num_classes, 2)
