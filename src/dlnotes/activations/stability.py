"""Far out, where torch's float32 slope is 0 and the true one is not.

``python -m dlnotes.activations.stability`` prints the table.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from dlnotes.activations.elu import elu
from dlnotes.activations.sigmoid import sigmoid
from dlnotes.activations.tanh import tanh


class Far(NamedTuple):
    """An activation, torch's, the true slope, and the stretch of x on which to compare them."""

    name: str
    ours: Callable[[Tensor], Tensor]
    torch: Callable[[Tensor], Tensor]
    slope: Callable[[float], float]
    start: float
    end: float


FAR = [
    Far(
        "sigmoid",
        sigmoid,
        torch.sigmoid,
        lambda x: math.exp(-x) / (1 + math.exp(-x)) ** 2,
        start=17,
        end=100,
    ),
    Far(
        "tanh",
        tanh,
        torch.tanh,
        lambda x: 4 * math.exp(-2 * x) / (1 + math.exp(-2 * x)) ** 2,
        start=10,
        end=40,
    ),
    # Out of place torch takes ELU's slope from x, and is right; in place it has only the output.
    Far("elu", elu, lambda x: F.elu(x.clone(), inplace=True), math.exp, start=-20, end=-100),
]


def slopes(far: Far, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Our slope and torch's in x's precision, and the true one in float64."""

    def slope(f: Callable[[Tensor], Tensor]) -> Tensor:
        at = x.detach().clone().requires_grad_()
        return torch.autograd.grad(f(at).sum(), at)[0]

    truth = torch.tensor([far.slope(v) for v in x.tolist()], dtype=torch.float64)
    return slope(far.ours), slope(far.torch), truth


def ulps(value: Tensor, truth: Tensor) -> Tensor:
    """How many float32 numbers apart value and the rounded truth lie (both positive)."""
    return (value.view(torch.int32) - truth.float().view(torch.int32)).abs()


def table() -> str:
    """The comparison as a Markdown table."""
    rows = [
        "| slope | at x | true | torch float32 | ours float32 | ours, ulp |",
        "|---|---|---|---|---|---|",
    ]
    for far in FAR:
        x = torch.linspace(far.start, far.end, 3)
        numbers = (x, *slopes(far, x))
        for at, ours, torchs, truth in zip(*numbers, strict=True):
            wrong = ulps(ours, truth).item()
            rows.append(
                f"| {far.name}′ | {at:g} | {truth:.4g} | {torchs:.4g} | {ours:.4g} | {wrong} |"
            )
    return "\n".join(rows)


if __name__ == "__main__":
    print(table())  # noqa: T201
