"""Adamax."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from dlnotes.optim._rule import UpdateRule

if TYPE_CHECKING:
    from torch.optim.optimizer import ParamsT
    from typing_extensions import Unpack

    from dlnotes.optim._rule import Options


class Adamax(UpdateRule):
    r"""Adamax: Adam with the maximum norm (Kingma & Ba 2015, Algorithm 2).

    https://arxiv.org/abs/1412.6980, section 7.1. The root of the mean square is replaced by the
    largest gradient so far, which decays:

    .. math::
        m &← β_1 m + (1 − β_1) g \\
        u &← \max(β_2 u, |g| + ε) \\
        θ &← θ − α m / ((1 − β_1^t) u)

    ====== =============================================
    θ      ``params``
    g      ``p.grad``
    m, u   ``state[p]["m"]``, ``state[p]["u"]``
    t      ``state[p]["step"]``, counted for each parameter
    α      ``lr``
    β₁, β₂ ``betas``
    ε      ``eps``
    ====== =============================================

    Differs from the paper: the paper has no ε, and divides 0 by 0 where there has been no gradient.
    Equal to ``torch.optim.Adamax``, defaults included.

    Args:
        params: Parameters, named parameters or groups.
        lr: Learning rate α >= 0, a float or a tensor of one element.
        betas: Decays (β₁, β₂) in [0, 1) of the average and of the maximum.
        eps: ε >= 0, added to the size of a gradient.
        weight_decay: L2 penalty λ >= 0: g ← g + λθ.
        options: ``maximize``, ``differentiable`` and ``fused``: see ``UpdateRule``.

    Raises:
        ValueError: A hyper-parameter is outside of its range, there is no parameter, or a
            parameter appears twice.
    """

    accumulators = ("m", "u")

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, **options)

    @staticmethod
    def rule(
        theta: Tensor,
        g: Tensor,
        m: Tensor,
        u: Tensor,
        *,
        t: float,
        lr: float,
        betas: tuple[float, float],
        eps: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """θ ← θ − α m̂/u with u ← max(β₂u, |g| + ε)."""
        beta1, beta2 = betas
        m = beta1 * m + (1 - beta1) * g
        u = (beta2 * u).maximum(g.abs() + eps)
        m_hat = m / (1 - beta1**t)
        return theta - lr * m_hat / u, m, u
