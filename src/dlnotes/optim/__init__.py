"""The optimizers of the notes: each is one pure rule, proved against ``torch.optim``."""

from dlnotes.optim._rule import UpdateRule
from dlnotes.optim.adam import Adam
from dlnotes.optim.gradient_descent import GradientDescent
from dlnotes.optim.momentum import Momentum

OPTIMIZERS: dict[str, type[UpdateRule]] = {
    "gradient-descent": GradientDescent,
    "momentum": Momentum,
    "adam": Adam,
}
"""Command-line name → optimizer."""

__all__ = ["OPTIMIZERS", "Adam", "GradientDescent", "Momentum", "UpdateRule"]
