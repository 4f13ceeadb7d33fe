"""Gradient descent, and the three regimes of the notes: BGD, SGD and MBGD."""

from __future__ import annotations

from collections.abc import Iterator, Sized
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils.data import Sampler

from dlnotes.optim._rule import UpdateRule

if TYPE_CHECKING:
    from torch.optim.optimizer import ParamsT
    from typing_extensions import Unpack

    from dlnotes.optim._rule import Options


class GradientDescent(UpdateRule):
    r"""Gradient descent (Cauchy 1847; notes, §2 and §4).

    .. math::
        θ ← θ − α g

    ==== ====================
    θ    ``params``
    g    ``p.grad``
    α    ``lr``
    ==== ====================

    The notes' BGD, SGD and MBGD are this rule with a gradient from all samples, from one sample or
    from ``batch_size`` samples: see ``BGD``, ``SGD`` and ``MBGD``. Equal to ``torch.optim.SGD``
    without momentum, the default of ``lr`` included.

    Args:
        params: Parameters, named parameters or groups.
        lr: Learning rate α >= 0, a float or a tensor of one element.
        weight_decay: L2 penalty λ >= 0: g ← g + λθ.
        options: ``maximize``, ``differentiable`` and ``fused``: see ``UpdateRule``.

    Raises:
        ValueError: A hyper-parameter is outside of its range, there is no parameter, or a
            parameter appears twice.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        weight_decay: float = 0.0,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, lr=lr, weight_decay=weight_decay, **options)

    @staticmethod
    def rule(theta: Tensor, g: Tensor, *, lr: float) -> Tensor:
        """θ ← θ − αg."""
        return theta - lr * g


class MBGD(Sampler[list[int]]):
    """Mini-batch gradient descent: every update uses ``batch_size`` samples.

    One rule, ``GradientDescent``, serves all regimes; what differs is the samples behind a
    gradient, so a regime is a batch sampler::

        loader = DataLoader(dataset, batch_sampler=MBGD(dataset, batch_size=32))

    Every epoch goes through all samples in a new order; the last batch may be smaller.

    Args:
        samples: The data set, or the number of its samples.
        batch_size: Samples of an update, >= 1.
        generator: Source of the order; by default torch's own.

    Raises:
        ValueError: There are no samples or ``batch_size`` is below 1.
    """

    def __init__(
        self, samples: Sized | int, batch_size: int, *, generator: torch.Generator | None = None
    ) -> None:
        if not isinstance(samples, (int, Sized)):
            raise ValueError(
                f"samples must be a data set or its size, got {type(samples).__name__}; the "
                "optimizer of all batch regimes is GradientDescent"
            )
        self.samples = samples if isinstance(samples, int) else len(samples)
        if self.samples < 1:
            raise ValueError(f"samples must be at least 1, got {self.samples}")
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        self.batch_size = batch_size
        self.generator = generator

    def __len__(self) -> int:
        """Updates of an epoch."""
        return -(-self.samples // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        """The batches of one epoch, as lists of indices."""
        order = torch.randperm(self.samples, generator=self.generator)
        return (batch.tolist() for batch in order.split(self.batch_size))


class BGD(MBGD):
    """Batch gradient descent: every update uses all samples, in their order.

    Args:
        samples: The data set, or the number of its samples.

    Raises:
        ValueError: There are no samples.
    """

    def __init__(self, samples: Sized | int) -> None:
        super().__init__(samples, 1)
        self.batch_size = self.samples

    def __iter__(self) -> Iterator[list[int]]:
        """The one batch."""
        yield list(range(self.samples))


class SGD(MBGD):
    """Stochastic gradient descent: every update uses one sample, in a new order each epoch.

    Args:
        samples: The data set, or the number of its samples.
        generator: Source of the order; by default torch's own.

    Raises:
        ValueError: There are no samples.
    """

    def __init__(self, samples: Sized | int, *, generator: torch.Generator | None = None) -> None:
        super().__init__(samples, 1, generator=generator)
