"""Nesterov's accelerated gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from dlnotes.optim._rule import UpdateRule

if TYPE_CHECKING:
    from torch.optim.optimizer import ParamsT
    from typing_extensions import Unpack

    from dlnotes.optim._rule import Options


class Nesterov(UpdateRule):
    r"""Nesterov momentum (Nesterov 1983; notes, §4).

    As in Sutskever et al. 2013, https://proceedings.mlr.press/v28/sutskever13.html, the gradient
    is taken where the momentum is about to carry the parameters anyway:

    .. math::
        g &= ∇J(φ − α β V) \\
        V &← β V + (1 − β) g \\
        φ &← φ − α V

    An optimizer is handed gradients at its own parameters, so these *are* the look-ahead point,
    θ = φ − αβV, and the same iteration reads

    .. math::
        V &← β V + (1 − β) g \\
        θ &← θ − α (β V + (1 − β) g)

    ==== ==========================================
    θ    ``params``: the look-ahead point
    φ    the notes' parameters, θ + αβV
    g    ``p.grad``
    V    ``state[p]["V"]``
    α    ``lr``
    β    ``beta``
    ==== ==========================================

    The two forms are equal only for a constant α; a scheduled α would have to be known one step
    ahead. Differs from torch as ``Momentum`` does: equal to
    ``SGD(lr=lr * (1 - beta), momentum=beta, nesterov=True)``.

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
        """V ← βV + (1−β)g ; θ ← θ − α(βV + (1−β)g)."""
        V = beta * V + (1 - beta) * g
        return theta - lr * (beta * V + (1 - beta) * g), V
