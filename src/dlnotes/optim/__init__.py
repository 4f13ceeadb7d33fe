"""The optimizers of the notes and some beside them: each is one pure rule.

Those that ``torch.optim`` has are compared with it, Lion and Schedule-Free with the programs of
their papers.
"""

from dlnotes.deprecation import keep_old_names
from dlnotes.optim._rule import UpdateRule
from dlnotes.optim.adadelta import Adadelta
from dlnotes.optim.adagrad import Adagrad
from dlnotes.optim.adam import Adam, AdamW, AMSGrad
from dlnotes.optim.adamax import Adamax
from dlnotes.optim.clipping import clip_grad_norm_, clip_grad_value_
from dlnotes.optim.conversion import from_torch, to_torch
from dlnotes.optim.gradient_descent import GradientDescent
from dlnotes.optim.lion import Lion
from dlnotes.optim.momentum import Momentum
from dlnotes.optim.muon import Muon
from dlnotes.optim.nadam import NAdam
from dlnotes.optim.nesterov import Nesterov
from dlnotes.optim.properties import check_rule
from dlnotes.optim.radam import RAdam
from dlnotes.optim.rmsprop import RMSProp
from dlnotes.optim.schedule_free import ScheduleFree

OPTIMIZERS: dict[str, type[UpdateRule]] = {
    "gradient-descent": GradientDescent,
    "momentum": Momentum,
    "nesterov": Nesterov,
    "rmsprop": RMSProp,
    "adagrad": Adagrad,
    "adadelta": Adadelta,
    "adam": Adam,
    "adamw": AdamW,
    "amsgrad": AMSGrad,
    "nadam": NAdam,
    "radam": RAdam,
    "adamax": Adamax,
    "lion": Lion,
}
"""Command-line name → optimizer, for those that can train any model. ``Muon`` is missing because it
takes only matrices, and ``ScheduleFree`` because it evaluates with other weights."""

__all__ = [
    "OPTIMIZERS",
    "AMSGrad",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "GradientDescent",
    "Lion",
    "Momentum",
    "Muon",
    "NAdam",
    "Nesterov",
    "RAdam",
    "RMSProp",
    "ScheduleFree",
    "UpdateRule",
    "check_rule",
    "clip_grad_norm_",
    "clip_grad_value_",
    "from_torch",
    "to_torch",
]

keep_old_names(__name__)
