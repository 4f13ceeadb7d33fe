"""Lion."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from dlnotes.optim._rule import UpdateRule

if TYPE_CHECKING:
    from torch.optim.optimizer import ParamsT
    from typing_extensions import Unpack

    from dlnotes.optim._rule import Options


class Lion(UpdateRule):
    r"""Lion (Chen et al. 2023, Program 1, https://arxiv.org/abs/2302.06675).

    Every element moves by α, whatever the size of its gradient; a rule that a program search found:

    .. math::
        c &= β_1 m + (1 − β_1) g \\
        θ &← (1 − α λ) θ − α \operatorname{sign}(c) \\
        m &← β_2 m + (1 − β_2) g

    ====== =============================================
    θ      ``params``
    g      ``p.grad``
    m      ``state[p]["m"]``
    α      ``lr``
    β₁, β₂ ``betas``
    λ      ``weight_decay``
    ====== =============================================

    Since every element moves by exactly α, the paper takes a rate 3 to 10 times smaller than
    AdamW's and a λ as many times larger. torch has no Lion; it is compared with the paper's
    program.

    Differs from the paper: NaN and infinity in the gradient become NaN in θ. The sign of NaN is 0
    in torch, and the element would silently stand still from then on.

    Args:
        params: Parameters, named parameters or groups.
        lr: Learning rate α >= 0, a float or a tensor of one element.
        betas: (β₁, β₂) in [0, 1): how much of m is in the step, and the decay of m.
        weight_decay: Decoupled decay λ >= 0.
        options: ``maximize``, ``differentiable`` and ``fused``: see ``UpdateRule``.

    Raises:
        ValueError: A hyper-parameter is outside of its range, there is no parameter, or a
            parameter appears twice.
    """

    accumulators = ("m",)

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, weight_decay=weight_decay, **options)

    @staticmethod
    def rule(
        theta: Tensor, g: Tensor, m: Tensor, *, lr: float, betas: tuple[float, float]
    ) -> tuple[Tensor, Tensor]:
        """θ ← θ − α sign(β₁m + (1−β₁)g) ; m ← β₂m + (1−β₂)g."""
        beta1, beta2 = betas
        c = beta1 * m + (1 - beta1) * g
        sign = c.sign() + (c - c)  # c − c is 0, or NaN where c is NaN or infinite
        return theta - lr * sign, beta2 * m + (1 - beta2) * g

    @staticmethod
    def decay(theta: Tensor, g: Tensor, *, lr: Any, weight_decay: Any) -> tuple[Tensor, Tensor]:
        """θ ← (1 − αλ)θ, the gradient stays as it is."""
        return (1 - lr * weight_decay) * theta, g
