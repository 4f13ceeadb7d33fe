"""Adagrad."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from dlnotes.optim._rule import UpdateRule

if TYPE_CHECKING:
    from torch.optim.optimizer import ParamsT
    from typing_extensions import Unpack

    from dlnotes.optim._rule import Options


class Adagrad(UpdateRule):
    r"""Adagrad (Duchi, Hazan & Singer 2011, https://jmlr.org/papers/v12/duchi11a.html; notes, §4).

    .. math::
        G &← G + g^2 \\
        θ &← θ − α g / \sqrt{G + ε}

    ==== ==========================================
    θ    ``params``
    g    ``p.grad``
    G    ``state[p]["G"]``, the sum of all g²
    α    ``lr``
    ε    ``eps``
    ==== ==========================================

    Differs from torch: the notes have ε = 1e-8 under the root, where it limits a step to 10⁴ αg;
    torch adds 1e-10 to the root. Equal to
    ``torch.optim.Adagrad(initial_accumulator_value=eps, eps=0)``.

    Args:
        params: Parameters, named parameters or groups.
        lr: Learning rate α >= 0, a float or a tensor of one element.
        eps: ε >= 0, added under the root.
        weight_decay: L2 penalty λ >= 0: g ← g + λθ.
        options: ``maximize``, ``differentiable`` and ``fused``: see ``UpdateRule``.

    Raises:
        ValueError: A hyper-parameter is outside of its range, there is no parameter, or a
            parameter appears twice.
    """

    accumulators = ("G",)

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-2,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, lr=lr, eps=eps, weight_decay=weight_decay, **options)

    @staticmethod
    def rule(
        theta: Tensor, g: Tensor, G: Tensor, *, lr: float, eps: float
    ) -> tuple[Tensor, Tensor]:
        """G ← G + g² ; θ ← θ − αg/√(G + ε)."""
        G = G + g**2
        return theta - lr * g / (G + eps).sqrt(), G
