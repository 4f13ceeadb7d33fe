"""Muon."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from dlnotes.errors import UserError
from dlnotes.optim._rule import UpdateRule

if TYPE_CHECKING:
    from torch.optim.optimizer import ParamsT
    from typing_extensions import Unpack

    from dlnotes.optim._rule import Options


class Muon(UpdateRule):
    r"""Muon: momentum that is made orthogonal (Jordan et al. 2024).

    https://kellerjordan.github.io/posts/muon/. For the weights of hidden layers, which are
    matrices. The momentum's singular values are all brought near 1, so that a step changes what the
    layer does in every direction alike:

    .. math::
        B &← β B + (1 − β) g \\
        O &= \operatorname{NS}(β B + (1 − β) g) \\
        θ &← (1 − α λ) θ − α \sqrt{\max(1, n / m)} \, O

    of a θ with n rows and m columns, where NS divides a matrix by its Frobenius norm and repeats
    Newton and Schulz's iteration

    .. math::
        A = X X^\top, \quad X ← 3.4445 X + (−4.775 A + 2.0315 A^2) X

    on the matrix or, where it has more rows than columns, on its transpose. The coefficients are
    those of the authors: five iterations bring every singular value that is not tiny into about
    [0.7, 1.2], no closer.

    ==== ==========================================
    θ    ``params``, matrices
    g    ``p.grad``
    B    ``state[p]["B"]``
    α    ``lr``
    β    ``beta``
    λ    ``weight_decay``
    ==== ==========================================

    A step depends on the whole matrix: ``elementwise`` is False, there is no compiled loop, and a
    sparse gradient counts as a dense one.

    Differs from torch: ``torch.optim.Muon(momentum=beta)`` iterates in bfloat16, this rule in the
    parameter's dtype or in float32 if that is wider; the steps differ by up to 5 % of their largest
    element. Otherwise the two are equal, defaults included.

    Args:
        params: Parameters, named parameters or groups, all with two dimensions. Biases, embeddings
            and the output layer are commonly left to AdamW.
        lr: Learning rate α >= 0, a float or a tensor of one element.
        beta: Decay β in [0, 1) of the moving average.
        eps: ε >= 0, the least norm to divide by. A gradient of 0 gives a step of 0 in any case.
        ns_steps: Number of iterations, at most 99, as in torch.
        weight_decay: Decoupled decay λ >= 0.
        options: ``maximize``, ``differentiable`` and ``fused``: see ``UpdateRule``.

    Raises:
        UserError: A parameter is not a real matrix.
        ValueError: A hyper-parameter is outside of its range, there is no parameter, or a
            parameter appears twice.
    """

    accumulators = ("B",)
    elementwise = False

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        beta: float = 0.95,
        eps: float = 1e-7,
        ns_steps: int = 5,
        weight_decay: float = 0.1,
        **options: Unpack[Options],
    ) -> None:
        own: dict[str, Any] = {"beta": beta, "eps": eps, "ns_steps": ns_steps}
        super().__init__(params, lr=lr, **own, weight_decay=weight_decay, **options)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of matrices with separate hyper-parameters.

        Raises:
            UserError: A parameter is not a real matrix.
            ValueError: A hyper-parameter is outside of its range or a parameter appears twice.
        """
        super().add_param_group(param_group)
        for p in param_group["params"]:
            if p.dim() != 2 or p.is_complex():
                self.param_groups.pop()
                kind = "complex tensor" if p.is_complex() else "tensor"
                raise UserError(
                    f"params of Muon must be real matrices, of two dimensions, got a {kind} of "
                    f"shape {tuple(p.shape)}; give the others to another optimizer, such as AdamW"
                )

    @staticmethod
    def rule(
        theta: Tensor, g: Tensor, B: Tensor, *, lr: float, beta: float, eps: float, ns_steps: int
    ) -> tuple[Tensor, Tensor]:
        """B ← βB + (1−β)g ; θ ← θ − α √max(1, n/m) NS(βB + (1−β)g)."""
        B = beta * B + (1 - beta) * g
        rows, columns = theta.shape
        stretch = max(1, rows / max(1, columns)) ** 0.5
        return theta - lr * stretch * orthogonalized(beta * B + (1 - beta) * g, ns_steps, eps), B

    @staticmethod
    def decay(theta: Tensor, g: Tensor, *, lr: Any, weight_decay: Any) -> tuple[Tensor, Tensor]:
        """θ ← (1 − αλ)θ, the gradient stays as it is."""
        return (1 - lr * weight_decay) * theta, g


def orthogonalized(matrix: Tensor, steps: int, eps: float) -> Tensor:
    """A matrix with its singular values brought near 1 by Newton and Schulz's iteration.

    Args:
        matrix: The matrix.
        steps: Number of iterations.
        eps: The least norm to divide by.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrix.shape[0] > matrix.shape[1]  # the smaller of the two products is the cheaper one
    X = matrix.mT if tall else matrix
    # The squares of a smaller norm underflow, and 0 / 0 is NaN.
    X = X / X.norm().clamp(min=max(eps, torch.finfo(X.dtype).tiny ** 0.5))
    for _ in range(int(steps)):
        A = X @ X.mT
        X = a * X + (b * A + c * A @ A) @ X
    result: Tensor = X.mT if tall else X
    return result
