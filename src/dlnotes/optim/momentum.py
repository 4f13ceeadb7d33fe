"""Momentum, as an exponential moving average of the gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from dlnotes.optim._rule import UpdateRule

if TYPE_CHECKING:
    from torch.optim.optimizer import ParamsT
    from typing_extensions import Unpack

    from dlnotes.optim._rule import Options


class Momentum(UpdateRule):
    r"""Momentum (Polyak 1964, https://doi.org/10.1016/0041-5553(64)90137-5; notes, §4).

    .. math::
        V &← β V + (1 − β) g \\
        θ &← θ − α V

    ==== ====================
    θ    ``params``
    g    ``p.grad``
    V    ``state[p]["V"]``
    α    ``lr``
    β    ``beta``
    ==== ====================

    Differs from torch: the notes average the gradients, ``torch.optim.SGD`` adds them up. Equal to
    ``SGD(lr=lr * (1 - beta), momentum=beta)``. With the same arguments, torch's steps are 1/(1−β)
    times larger; a learning rate that was chosen for torch must be multiplied by this factor.

    A sparse gradient changes only its own rows and their V, as in ``torch.optim.SparseAdam``; in
    ``torch.optim.SGD`` the momentum keeps moving all rows.

    ``OneCycleLR`` and ``CyclicLR`` vary a torch optimizer's ``momentum`` or ``betas`` as well; with
    this rule they need ``cycle_momentum=False``.

    Args:
        params: Parameters, named parameters or groups.
        lr: Learning rate α >= 0, a float or a tensor of one element.
        beta: Decay β in [0, 1) of the moving average.
        weight_decay: L2 penalty λ >= 0: g ← g + λθ.
        options: ``maximize``, ``differentiable`` and ``fused``: see ``UpdateRule``.

    Raises:
        ValueError: A hyper-parameter is outside of its range, there is no parameter, or a
            parameter appears twice.
    """

    accumulators = ("V",)

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        beta: float = 0.9,
        weight_decay: float = 0.0,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, lr=lr, beta=beta, weight_decay=weight_decay, **options)

    @staticmethod
    def rule(
        theta: Tensor, g: Tensor, V: Tensor, *, lr: float, beta: float
    ) -> tuple[Tensor, Tensor]:
        """V ← βV + (1−β)g ; θ ← θ − αV."""
        V = beta * V + (1 - beta) * g
        return theta - lr * V, V
