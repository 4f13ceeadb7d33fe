"""The optimizers of the notes: each is one pure rule, proved against ``torch.optim``."""

from dlnotes.deprecation import keep_old_names
from dlnotes.optim._rule import UpdateRule
from dlnotes.optim.adadelta import Adadelta
from dlnotes.optim.adagrad import Adagrad
from dlnotes.optim.adam import Adam, AdamW
from dlnotes.optim.clipping import clip_grad_norm_, clip_grad_value_
from dlnotes.optim.conversion import from_torch, to_torch
from dlnotes.optim.gradient_descent import GradientDescent
from dlnotes.optim.momentum import Momentum
from dlnotes.optim.nesterov import Nesterov
from dlnotes.optim.rmsprop import RMSProp

OPTIMIZERS: dict[str, type[UpdateRule]] = {
    "gradient-descent": GradientDescent,
    "momentum": Momentum,
    "nesterov": Nesterov,
    "rmsprop": RMSProp,
    "adagrad": Adagrad,
    "adadelta": Adadelta,
    "adam": Adam,
    "adamw": AdamW,
}
"""Command-line name → optimizer."""

__all__ = [
    "OPTIMIZERS",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "GradientDescent",
    "Momentum",
    "Nesterov",
    "RMSProp",
    "UpdateRule",
    "clip_grad_norm_",
    "clip_grad_value_",
    "from_torch",
    "to_torch",
]

keep_old_names(__name__)
