"""RMSProp."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from dlnotes.optim._rule import UpdateRule

if TYPE_CHECKING:
    from torch.optim.optimizer import ParamsT
    from typing_extensions import Unpack

    from dlnotes.optim._rule import Options


class RMSProp(UpdateRule):
    r"""RMSProp (Hinton 2012, lecture 6e; notes, §4).

    https://www.cs.toronto.edu/~tijmen/csc321/slides/lecture_slides_lec6.pdf, slide 29:

    .. math::
        S &← β S + (1 − β) g^2 \\
        θ &← θ − α g / (\sqrt{S} + ε)

    ==== ====================
    θ    ``params``
    g    ``p.grad``
    S    ``state[p]["S"]``
    α    ``lr``
    β    ``beta``
    ε    ``eps``
    ==== ====================

    Differs from the notes: they call β = 0.999 usual; the default here is Hinton's 0.9. S starts
    at 0 without a correction, so the first step is α/√(1−β): 3.2α with 0.9, 31.6α with 0.999. ε
    stands outside of the root, as in torch, and limits a step to 10⁸ αg; under the root the same
    1e-8 would limit it to 10⁴ αg.

    Equal to ``torch.optim.RMSprop(alpha=beta)``, whose default is 0.99.

    Args:
        params: Parameters, named parameters or groups.
        lr: Learning rate α >= 0, a float or a tensor of one element.
        beta: Decay β in [0, 1) of the moving average.
        eps: ε >= 0, added to the root.
        weight_decay: L2 penalty λ >= 0: g ← g + λθ.
        options: ``maximize``, ``differentiable`` and ``fused``: see ``UpdateRule``.

    Raises:
        ValueError: A hyper-parameter is outside of its range, there is no parameter, or a
            parameter appears twice.
    """

    accumulators = ("S",)

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-2,
        beta: float = 0.9,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, lr=lr, beta=beta, eps=eps, weight_decay=weight_decay, **options)

    @staticmethod
    def rule(
        theta: Tensor, g: Tensor, S: Tensor, *, lr: float, beta: float, eps: float
    ) -> tuple[Tensor, Tensor]:
        """S ← βS + (1−β)g² ; θ ← θ − αg/(√S + ε)."""
        S = beta * S + (1 - beta) * g * g  # in this order g² alone cannot overflow
        return theta - lr * g / (S.sqrt() + eps), S
