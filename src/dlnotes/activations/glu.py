r"""The gated linear unit."""

import torch
from torch import Tensor, nn

from dlnotes.activations._activation import check_dim
from dlnotes.activations._gate import gate


def sigmoid(b: Tensor) -> tuple[Tensor, Tensor]:
    """The sigmoid and its derivative, of e^−|b|."""
    e = torch.exp(torch.where(b > 0, -b, b))
    return torch.where(b > 0, 1.0, e) / (1 + e), e / (1 + e) ** 2


def slopes(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """The derivatives with respect to a and to b."""
    s, ds = sigmoid(b)
    return s, a * ds


@gate(slopes)
def _glu(a: Tensor, b: Tensor) -> Tensor:
    return a * sigmoid(b)[0]


def glu(x: Tensor, dim: int = -1) -> Tensor:
    r"""Gated linear unit (Dauphin et al. 2017, https://arxiv.org/abs/1612.08083).

    .. math::
        f(a, b) = a\, \sigma(b), \qquad
        \frac{\partial f}{\partial a} = \sigma(b), \qquad
        \frac{\partial f}{\partial b} = a\, \sigma'(b)

    with the halves a and b of x along ``dim``. The second one is the gate.

    The curve: the halves a = 1 − x/2 and b = x.

    f (*) and f' (.) on x in [-4, 4], height -1 to 1::

                                |
                                |
                         *************
               **********....   |     *****
        *******...-----------......--------***-----------
                                |  .......    ***
                                |         .......***.....
                                |                   ***
                                |                      **

    Shapes:
        x's, with half the size along ``dim``.

    Raises:
        IndexError: ``x`` has no such dimension.
        ValueError: Its size there is odd, or ``x`` is not a real floating-point tensor.
    """
    return _glu(x, dim)


class GLU(nn.Module):
    """:func:`glu` as a module.

    Raises:
        TypeError: ``dim`` is not an integer.
    """

    function = staticmethod(glu)

    def __init__(self, dim: int = -1) -> None:
        super().__init__()
        self.dim = check_dim(type(self).__name__, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Return the function of x along ``dim``."""
        return self.function(x, self.dim)

    def extra_repr(self) -> str:
        """Show the setting."""
        return f"dim={self.dim}"
