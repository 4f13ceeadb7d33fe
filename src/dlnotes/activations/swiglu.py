r"""The gated linear unit with SiLU as the gate."""

from torch import Tensor

from dlnotes.activations._gate import gate
from dlnotes.activations.glu import GLU, sigmoid


def slopes(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """The derivatives with respect to a and to b."""
    s, ds = sigmoid(b)
    return b * s, a * (s + b * ds)


@gate(slopes)
def _swiglu(a: Tensor, b: Tensor) -> Tensor:
    return a * (b * sigmoid(b)[0])


def swiglu(x: Tensor, dim: int = -1) -> Tensor:
    r"""SwiGLU (Shazeer 2020, https://arxiv.org/abs/2002.05202).

    .. math::
        f(a, b) = a\, b\, \sigma(b), \qquad
        \frac{\partial f}{\partial a} = b\, \sigma(b), \qquad
        \frac{\partial f}{\partial b} = a\, \bigl(\sigma(b) + b\, \sigma'(b)\bigr)

    with the halves a and b of x along ``dim``.

    The curve: the halves a = 1 − x/2 and b = x.

    f (*) and f' (.) on x in [-4, 4], height -2 to 1::

                                |
                                |
                         ..........********
        .................-----*****---..---***-----------
        **********************  |       ..    *
                                |         ..   **
                                |           ..   *
                                |             ..  *
                                |               .. *
                                |                 ..*

    Differs from the paper: the second half is the gate, as in torch's ``glu``; in the paper, which
    writes a product of two layers, the first factor is.

    Shapes:
        x's, with half the size along ``dim``.

    Raises:
        IndexError: ``x`` has no such dimension.
        ValueError: Its size there is odd, or ``x`` is not a real floating-point tensor.
    """
    return _swiglu(x, dim)


class SwiGLU(GLU):
    """:func:`swiglu` as a module."""

    function = staticmethod(swiglu)
