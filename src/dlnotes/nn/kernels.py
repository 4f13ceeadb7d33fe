"""Whether to compute with few operations: on a GPU their number decides the time."""

from __future__ import annotations

from torch import Tensor


def few_kernels(x: Tensor, choice: bool | None) -> bool:
    """Whether to compute with as few operations as torch has, even where each does more work.

    At the sizes of these models a GPU waits for the host, which takes 10 to 30 µs for each kernel.
    A CPU waits for nothing, and has our activations and gradients in compiled code.

    Args:
        x: A tensor of the computation.
        choice: The answer; None for no on a CPU and yes on any other device.
    """
    return x.device.type != "cpu" if choice is None else choice
