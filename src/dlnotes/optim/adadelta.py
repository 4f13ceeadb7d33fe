"""Adadelta."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from dlnotes.optim._rule import UpdateRule

if TYPE_CHECKING:
    from torch.optim.optimizer import ParamsT
    from typing_extensions import Unpack

    from dlnotes.optim._rule import Options


class Adadelta(UpdateRule):
    r"""Adadelta (Zeiler 2012, Algorithm 1, https://arxiv.org/abs/1212.5701; notes, §4).

    Adagrad with a decaying average in place of the sum, and in place of α the root mean square of
    the past updates:

    .. math::
        G &← ρ G + (1 − ρ) g^2 \\
        Δ &= \sqrt{D + ε} / \sqrt{G + ε} · g \\
        D &← ρ D + (1 − ρ) Δ^2 \\
        θ &← θ − α Δ

    ==== ==========================================
    θ    ``params``
    g    ``p.grad``
    G    ``state[p]["G"]``, average of g²
    D    ``state[p]["D"]``, average of Δ²
    α    ``lr``; 1 in the paper
    ρ    ``rho``
    ε    ``eps``
    ==== ==========================================

    Equal to ``torch.optim.Adadelta``, whose default of ``rho`` is 0.9; here it is the paper's 0.95.

    Args:
        params: Parameters, named parameters or groups.
        lr: Learning rate α >= 0, a float or a tensor of one element.
        rho: Decay ρ in [0, 1) of the two moving averages.
        eps: ε >= 0, added under both roots; it also sets the size of the first steps.
        weight_decay: L2 penalty λ >= 0: g ← g + λθ.
        options: ``maximize``, ``differentiable`` and ``fused``: see ``UpdateRule``.

    Raises:
        ValueError: A hyper-parameter is outside of its range, there is no parameter, or a
            parameter appears twice.
    """

    accumulators = ("G", "D")

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1.0,
        rho: float = 0.95,
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, lr=lr, rho=rho, eps=eps, weight_decay=weight_decay, **options)

    @staticmethod
    def rule(
        theta: Tensor, g: Tensor, G: Tensor, D: Tensor, *, lr: float, rho: float, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Δ = g RMS(past Δ)/RMS(g) ; θ ← θ − αΔ, the mean squares G of g and D of Δ decaying."""
        G = rho * G + (1 - rho) * g * g  # in this order g² alone cannot overflow
        delta = (D + eps).sqrt() / (G + eps).sqrt() * g
        D = rho * D + (1 - rho) * delta * delta
        return theta - lr * delta, G, D
