"""Gradient descent: the one rule of the notes' three regimes, BGD, SGD and MBGD."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from dlnotes.deprecation import keep_old_names
from dlnotes.optim._rule import UpdateRule

if TYPE_CHECKING:
    from torch.optim.optimizer import ParamsT
    from typing_extensions import Unpack

    from dlnotes.optim._rule import Options


class GradientDescent(UpdateRule):
    r"""Gradient descent (Cauchy 1847; notes, §2 and §4).

    .. math::
        θ ← θ − α g

    ==== ====================
    θ    ``params``
    g    ``p.grad``
    α    ``lr``
    ==== ====================

    The notes' BGD, SGD and MBGD are this rule with a gradient from all samples, from one sample or
    from ``batch_size`` samples: see ``dlnotes.data.batches``. Equal to ``torch.optim.SGD`` without
    momentum, the default of ``lr`` included.

    Args:
        params: Parameters, named parameters or groups.
        lr: Learning rate α >= 0, a float or a tensor of one element.
        weight_decay: L2 penalty λ >= 0: g ← g + λθ.
        options: ``maximize``, ``differentiable`` and ``fused``: see ``UpdateRule``.

    Raises:
        ValueError: A hyper-parameter is outside of its range, there is no parameter, or a
            parameter appears twice.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        weight_decay: float = 0.0,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, lr=lr, weight_decay=weight_decay, **options)

    @staticmethod
    def rule(theta: Tensor, g: Tensor, *, lr: float) -> Tensor:
        """θ ← θ − αg."""
        return theta - lr * g


keep_old_names(__name__)
