r"""The largest of k linear pieces."""

from typing import Any

import torch
from torch import Tensor, nn

from dlnotes.activations._activation import Differentiable, apply, check_input, keep


def _winner(z: Tensor, y: Tensor, dim: int) -> Tensor:
    """The winner's number: how many pieces come before the first that equals y, or is NaN."""
    before = torch.ones_like(y, dtype=torch.bool)
    # Eager torch is fastest in bytes; torch.compile makes vector code of floats alone.
    compiling = torch.compiler.is_compiling()
    winner = torch.zeros_like(y, dtype=y.dtype if compiling else torch.uint8)
    for piece in z.unbind(dim)[:-1]:
        before = before & (piece != y) & (piece == piece)
        winner = winner + before
    return winner.to(torch.uint8)


class _Maxout(Differentiable):
    @staticmethod
    def forward(z: Tensor, dim: int) -> Tensor:
        return z.amax(dim)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        z, ctx.dim = inputs
        ctx.shape = z.shape
        ctx.set_materialize_grads(False)  # no gradient is not a gradient of zeros
        keep(ctx, _winner(z, output, ctx.dim))

    @staticmethod
    def backward(ctx: Any, g: Tensor | None) -> tuple[Tensor | None, None]:
        if g is None:
            return None, None
        (winner,) = ctx.saved_tensors
        if torch.compiler.is_compiling():
            number = winner.to(g.dtype)
            pieces = [torch.where(number == j, g, 0.0) for j in range(ctx.shape[ctx.dim])]
            return torch.stack(pieces, ctx.dim), None
        index = winner.long().unsqueeze(ctx.dim)
        return g.new_zeros(ctx.shape).scatter(ctx.dim, index, g.unsqueeze(ctx.dim)), None

    @staticmethod
    def tangent(ctx: Any, t: Tensor | None, _: None) -> Tensor | None:
        if t is None:
            return None
        (winner,) = ctx.saved_tensors
        return t.gather(ctx.dim, winner.long().unsqueeze(ctx.dim)).squeeze(ctx.dim)

    @staticmethod
    def operations(z: Tensor, dim: int) -> Tensor:
        at = z.detach()
        winner = _winner(at, at.amax(dim), dim)
        return z.gather(dim, winner.long().unsqueeze(dim)).squeeze(dim)


def maxout(z: Tensor, dim: int = -1) -> Tensor:
    r"""Maxout (Goodfellow et al. 2013, https://arxiv.org/abs/1302.4389).

    .. math::
        f(z) = \max_j z_j, \qquad
        \frac{\partial f}{\partial z_j} =
            \begin{cases} 1 & j \text{ wins} \\ 0 & \text{else} \end{cases}

    over the pieces j along ``dim``; of equal pieces the first wins.

    With two linear pieces it can be ReLU or :math:`|x|`; with more, any convex function of x.
    The curve: pieces −x/2 − 1, x/4 and x − 1.

    f (*) and f' (.) on x in [-4, 4], height -1 to 2::

                                |                ***
                                |              **
                                |            **
        ****                    |        ..**............
            *****               |       ***
        ---------****----......*********.----------------
                     ********** |
        .................       |
                                |

    Differs from torch's ``max(dim)``: keeps the winners as uint8, an eighth of its int64 indices.

    Shapes:
        z's without ``dim``.

    Raises:
        ValueError: There are no pieces, or more than 256, or ``z`` is not a real floating-point
            tensor.
    """
    check_input("maxout", z)
    if z.dim() == 0 or not 1 <= z.size(dim) <= 256:
        raise ValueError(
            f"maxout: needs 1 to 256 pieces along dim={dim}, got shape {tuple(z.shape)}"
        )
    return apply(_Maxout, z, dim)


class Maxout(nn.Module):
    """A layer whose every output is the largest of ``pieces`` linear functions of its input.

    Shapes:
        ``(..., in_features)`` → ``(..., out_features)``.

    Raises:
        ValueError: ``pieces`` is not an integer from 1 to 256.
    """

    def __init__(self, in_features: int, out_features: int, pieces: int = 2) -> None:
        super().__init__()
        integer = isinstance(pieces, int) and not isinstance(pieces, bool)
        if not integer or not 1 <= pieces <= 256:
            raise ValueError(f"Maxout: pieces must be an integer from 1 to 256, got {pieces!r}")
        self.pieces = pieces
        self.linear = nn.Linear(in_features, pieces * out_features)

    def forward(self, x: Tensor) -> Tensor:
        """Return the largest piece of every output."""
        return maxout(self.linear(x).unflatten(-1, (self.pieces, -1)), dim=-2)

    def extra_repr(self) -> str:
        """Show the setting."""
        return f"pieces={self.pieces}"
