"""Deep-learning notes as running code, proved against PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dlnotes.training.classifier import TextClassifier

__all__ = ["TextClassifier"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import the classifier, and with it torch, when it is asked for."""
    if name == "TextClassifier":
        from dlnotes.training.classifier import TextClassifier

        return TextClassifier
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
