"""NAdam."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from dlnotes.optim._rule import UpdateRule

if TYPE_CHECKING:
    from torch.optim.optimizer import ParamsT
    from typing_extensions import Unpack

    from dlnotes.optim._rule import Options


class NAdam(UpdateRule):
    r"""NAdam: Adam with Nesterov momentum (Dozat 2016).

    https://openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ, with the schedule of μ that it recommends:
    μ starts near β₁/2 and grows to β₁ as training goes on. The step takes the gradient itself and
    the average of the next step, as Nesterov's does:

    .. math::
        μ_t &= β_1 (1 − \tfrac{1}{2} · 0.96^{tψ}) \\
        m &← β_1 m + (1 − β_1) g \\
        v &← β_2 v + (1 − β_2) g^2 \\
        c &← 1 − (1 − c) μ_t \\
        \hat{m} &= μ_{t+1} m / (1 − (1 − c) μ_{t+1}) + (1 − μ_t) g / c \\
        \hat{v} &= v / (1 − β_2^t) \\
        θ &← θ − α \hat{m} / (\sqrt{\hat{v}} + ε)

    ====== =============================================
    θ      ``params``
    g      ``p.grad``
    m, v   ``state[p]["m"]``, ``state[p]["v"]``
    c      ``state[p]["c"]``, 1 − μ₁μ₂…μ_t
    t      ``state[p]["step"]``, counted for each parameter
    α      ``lr``
    β₁, β₂ ``betas``
    ε      ``eps``
    ψ      ``momentum_decay``
    ====== =============================================

    The product of the momenta depends on all earlier steps and has no closed form in t, so it is an
    accumulator. It is one number, but is kept for each element like every accumulator: it then
    follows the rows of a sparse gradient and is saved with the rest, at the price of a tensor. Its
    complement c is kept because accumulators start at 0.

    Equal to ``torch.optim.NAdam``, defaults included; torch keeps the product in float32, ours has
    the parameter's dtype, so in float64 the two differ by 1e-7 of a step.

    Args:
        params: Parameters, named parameters or groups.
        lr: Learning rate α >= 0, a float or a tensor of one element.
        betas: Decays (β₁, β₂) in [0, 1) of the two moving averages.
        eps: ε >= 0, added to the root.
        momentum_decay: ψ >= 0, how fast μ grows to β₁.
        weight_decay: L2 penalty λ >= 0: g ← g + λθ.
        options: ``maximize``, ``differentiable`` and ``fused``: see ``UpdateRule``.

    Raises:
        ValueError: A hyper-parameter is outside of its range, there is no parameter, or a
            parameter appears twice.
    """

    accumulators = ("m", "v", "c")

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        momentum_decay: float = 4e-3,
        weight_decay: float = 0.0,
        **options: Unpack[Options],
    ) -> None:
        own = {"betas": betas, "eps": eps, "momentum_decay": momentum_decay}
        super().__init__(params, lr=lr, **own, weight_decay=weight_decay, **options)

    @staticmethod
    def rule(
        theta: Tensor,
        g: Tensor,
        m: Tensor,
        v: Tensor,
        c: Tensor,
        *,
        t: float,
        lr: float,
        betas: tuple[float, float],
        eps: float,
        momentum_decay: float,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """θ ← θ − α m̂/(√v̂ + ε), m̂ of the gradient and of the average one step ahead."""
        beta1, beta2 = betas
        mu = beta1 * (1 - 0.5 * 0.96 ** (t * momentum_decay))
        mu_next = beta1 * (1 - 0.5 * 0.96 ** ((t + 1) * momentum_decay))
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g  # in this order g² alone cannot overflow
        c = 1 - (1 - c) * mu
        m_hat = mu_next * m / (1 - (1 - c) * mu_next) + (1 - mu) * g / c
        v_hat = v / (1 - beta2**t)
        return theta - lr * m_hat / (v_hat.sqrt() + eps), m, v, c
