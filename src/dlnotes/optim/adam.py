"""Adam, and AdamW and AMSGrad beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from dlnotes.optim._rule import UpdateRule

if TYPE_CHECKING:
    from torch.optim.optimizer import ParamsT
    from typing_extensions import Unpack

    from dlnotes.optim._rule import Options


class Adam(UpdateRule):
    r"""Adam (Kingma & Ba 2015, Algorithm 1, https://arxiv.org/abs/1412.6980; notes, §4).

    .. math::
        m &← β_1 m + (1 − β_1) g \\
        v &← β_2 v + (1 − β_2) g^2 \\
        \hat{m} &= m / (1 − β_1^t) \\
        \hat{v} &= v / (1 − β_2^t) \\
        θ &← θ − α \hat{m} / (\sqrt{\hat{v}} + ε)

    ====== =============================================
    θ      ``params``
    g      ``p.grad``
    m, v   ``state[p]["m"]``, ``state[p]["v"]``
    t      ``state[p]["step"]``, counted for each parameter
    α      ``lr``
    β₁, β₂ ``betas``
    ε      ``eps``
    ====== =============================================

    Differs from the notes: they print the uncorrected average in the update (W − αV/√Ŝ), without
    ε, just after having computed V̂; and they call β₂ = 0.9999 usual, where the paper and every
    library have 0.999. Equal to ``torch.optim.Adam``, defaults included.

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
        """θ ← θ − α m̂/(√v̂ + ε) with the bias-corrected averages m̂ of g and v̂ of g²."""
        beta1, beta2 = betas
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g  # in this order g² alone cannot overflow
        m_hat = m / (1 - beta1**t)
        v_hat = v / (1 - beta2**t)
        return theta - lr * m_hat / (v_hat.sqrt() + eps), m, v


class AdamW(Adam):
    r"""Adam with decoupled weight decay; not in the notes, but expected beside Adam.

    Loshchilov & Hutter 2019, Algorithm 2, https://arxiv.org/abs/1711.05101:

    .. math::
        θ ← (1 − α λ) θ

    and then Adam's step from the gradient alone: λ is not divided by √v̂, as it is when the penalty
    is a part of the loss. Equal to ``torch.optim.AdamW``, defaults included.

    Args:
        params: Parameters, named parameters or groups.
        lr: Learning rate α >= 0, a float or a tensor of one element.
        betas: Decays (β₁, β₂) in [0, 1) of the two moving averages.
        eps: ε >= 0, added to the root.
        weight_decay: Decoupled decay λ >= 0.
        options: ``maximize``, ``differentiable`` and ``fused``: see ``UpdateRule``.

    Raises:
        ValueError: A hyper-parameter is outside of its range, there is no parameter, or a
            parameter appears twice.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, **options)

    @staticmethod
    def decay(theta: Tensor, g: Tensor, *, lr: Any, weight_decay: Any) -> tuple[Tensor, Tensor]:
        """θ ← (1 − αλ)θ, the gradient stays as it is."""
        return (1 - lr * weight_decay) * theta, g


class AMSGrad(Adam):
    r"""Adam with a denominator that never shrinks; not in the notes, but expected beside Adam.

    Reddi, Kale & Kumar 2018, Algorithm 2, https://arxiv.org/abs/1904.09237:

    .. math::
        m &← β_1 m + (1 − β_1) g \\
        v &← β_2 v + (1 − β_2) g^2 \\
        v_{\max} &← \max(v_{\max}, v) \\
        \hat{m} &= m / (1 − β_1^t) \\
        \hat{v} &= v_{\max} / (1 − β_2^t) \\
        θ &← θ − α \hat{m} / (\sqrt{\hat{v}} + ε)

    A large gradient is never forgotten. On some convex problems Adam diverges, because its steps
    grow again after a large gradient has faded from v; this rule converges there. The symbols are
    Adam's, and v_max is ``state[p]["v_max"]``.

    Differs from the paper: the paper has no bias corrections and no ε. Equal to
    ``torch.optim.Adam(amsgrad=True)``, defaults included.

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

    accumulators = ("m", "v", "v_max")  # type: ignore[assignment]

    @staticmethod
    def rule(  # type: ignore[override]
        theta: Tensor,
        g: Tensor,
        m: Tensor,
        v: Tensor,
        v_max: Tensor,
        *,
        t: float,
        lr: float,
        betas: tuple[float, float],
        eps: float,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """θ ← θ − α m̂/(√v̂ + ε), v̂ of the largest v so far."""
        beta1, beta2 = betas
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g  # in this order g² alone cannot overflow
        v_max = v_max.maximum(v)
        m_hat = m / (1 - beta1**t)
        v_hat = v_max / (1 - beta2**t)
        return theta - lr * m_hat / (v_hat.sqrt() + eps), m, v, v_max
