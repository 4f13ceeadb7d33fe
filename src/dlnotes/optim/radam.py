"""RAdam."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dlnotes.optim._rule import UpdateRule

if TYPE_CHECKING:
    from torch.optim.optimizer import ParamsT
    from typing_extensions import Unpack

    from dlnotes.optim._rule import Options


class RAdam(UpdateRule):
    r"""RAdam: Adam with a rectified rate (Liu et al. 2020, https://arxiv.org/abs/1908.03265).

    Early on, √v̂ is estimated from few gradients and varies too much. ρ is the effective number of
    gradients in the estimate. Up to ρ = 5 the step is that of momentum; above, it is Adam's step
    times r, which grows to 1:

    .. math::
        m &← β_1 m + (1 − β_1) g \\
        v &← β_2 v + (1 − β_2) g^2 \\
        \hat{m} &= m / (1 − β_1^t) \\
        ρ_∞ &= 2 / (1 − β_2) − 1, \quad ρ = ρ_∞ − 2 t β_2^t / (1 − β_2^t) \\
        r^2 &= \frac{(ρ − 4)(ρ − 2) ρ_∞}{(ρ_∞ − 4)(ρ_∞ − 2) ρ} \\
        θ &← θ − α \hat{m} \begin{cases}
            r \sqrt{1 − β_2^t} / (\sqrt{v} + ε) & ρ > 5 \\
            1 & \text{else} \end{cases}

    ====== =============================================
    θ      ``params``
    g      ``p.grad``
    m, v   ``state[p]["m"]``, ``state[p]["v"]``
    t      ``state[p]["step"]``, counted for each parameter
    α      ``lr``
    β₁, β₂ ``betas``
    ε      ``eps``
    ====== =============================================

    Differs from the paper: ε, which the paper does not have, is added to √v before the bias
    correction, and the bound is ρ > 5 instead of ρ > 4; both as in torch. Equal to
    ``torch.optim.RAdam``, defaults included.

    Args:
        params: Parameters, named parameters or groups.
        lr: Learning rate α >= 0, a float or a tensor of one element.
        betas: Decays (β₁, β₂) in [0, 1) of the two moving averages.
        eps: ε >= 0, added to the root.
        weight_decay: L2 penalty λ >= 0: g ← g + λθ.
        options: ``maximize``, ``differentiable`` and ``fused``: see ``UpdateRule``.

    Raises:
        ValueError: A hyper-parameter is outside of its range, there is no parameter, or a
            parameter appears twice.
    """

    accumulators = ("m", "v")

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
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
        v: Tensor,
        *,
        t: float,
        lr: float,
        betas: tuple[float, float],
        eps: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """θ ← θ − α m̂ r√(1−β₂ᵗ)/(√v + ε) once ρ > 5; until then θ ← θ − α m̂."""
        beta1, beta2 = betas
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g  # in this order g² alone cannot overflow
        m_hat = m / (1 - beta1**t)
        correction = 1 - beta2**t
        most = 2 / (1 - beta2) - 1
        rho = most - 2 * t * beta2**t / correction
        # 1 or 0 in place of a branch, so that one loop and one trace do both.
        on = (rho > 5) * 1.0
        off = 1 - on
        square = on * (rho - 4) * (rho - 2) * most / (on * (most - 4) * (most - 2) * rho + off)
        scale = (square * correction) ** 0.5 + off
        # A choice, as 0 · √v would be NaN where v has overflowed; 0 · v would be, too.
        divisor = torch.where(v.clamp(max=0.0) + off > 0, 1.0, v.sqrt() + eps)
        return theta - lr * m_hat * scale / divisor, m, v
