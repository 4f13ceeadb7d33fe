"""Schedule-Free gradient descent: different parameters for training and evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from dlnotes.optim._rule import UpdateRule

if TYPE_CHECKING:
    from torch.optim.optimizer import ParamsT
    from typing_extensions import Unpack

    from dlnotes.optim._rule import Options


class ScheduleFree(UpdateRule):
    r"""Schedule-Free gradient descent (Defazio et al. 2024, https://arxiv.org/abs/2405.15682).

    Gradients are taken at y, and what has been learned is the average x of all z:

    .. math::
        y &= (1 − β) z + β x \\
        z &← z − α ∇J(y) \\
        x &← (1 − 1/t) x + z / t

    An optimizer is handed gradients at its own parameters, so these *are* y. With d = z − x, which
    starts at 0 as every accumulator does, the same iteration reads

    .. math::
        e &= d − α g \\
        θ &← θ + e/t + (1 − β) ((1 − 1/t) e − d) \\
        d &← (1 − 1/t) e

    and x = θ − (1 − β) d: :meth:`averaged` puts it into the parameters while a model is evaluated,
    or saved for use; to continue later, save model and optimizer outside of it. A constant α takes
    the place of a schedule.

    ==== ==========================================
    θ    ``params``: y
    g    ``p.grad``
    d    ``state[p]["d"]``
    t    ``state[p]["step"]``, counted for each parameter
    α    ``lr``
    β    ``beta``
    ==== ==========================================

    Differs from the paper: x averages with 1/t instead of 1/(t + 1), so that the point at which
    training started is no part of it; so does the authors' package. Equal to
    ``schedulefree.SGDScheduleFree(momentum=beta)`` with a constant rate.

    Args:
        params: Parameters, named parameters or groups.
        lr: Learning rate α >= 0, a float or a tensor of one element.
        beta: β in [0, 1): how much of x is in y.
        weight_decay: L2 penalty λ >= 0: g ← g + λθ.
        options: ``maximize``, ``differentiable`` and ``fused``: see ``UpdateRule``.

    Raises:
        ValueError: A hyper-parameter is outside of its range, there is no parameter, or a
            parameter appears twice.
    """

    accumulators = ("d",)

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1.0,
        beta: float = 0.9,
        weight_decay: float = 0.0,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, lr=lr, beta=beta, weight_decay=weight_decay, **options)

    @staticmethod
    def rule(
        theta: Tensor, g: Tensor, d: Tensor, *, t: float, lr: float, beta: float
    ) -> tuple[Tensor, Tensor]:
        """θ ← θ + e/t + (1−β)((1−1/t)e − d) with e = d − αg ; d ← (1 − 1/t)e."""
        e = d - lr * g
        new = (1 - 1 / t) * e
        return theta + e / t + (1 - beta) * (new - d), new

    _inside_averaged = False

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within ``with``, the parameters are the average x; then they are y again.

        ``step`` and ``load_state_dict`` raise a RuntimeError there: at the end y would come back
        without them. So do ``state_dict``, copies and pickles of the optimizer, which belong to y:
        loaded beside the average, they would train on from another point. A second ``with`` within
        the first changes nothing.
        """
        if self._inside_averaged:
            yield
            return
        ys = []
        with torch.no_grad():
            for group in self.param_groups:
                for p in filter(self.state.get, group["params"]):
                    ys.append((p, p.clone()))
                    p -= (1 - group["beta"]) * self.state[p]["d"]
        self._inside_averaged = True
        try:
            yield
        finally:
            self._inside_averaged = False
            with torch.no_grad():
                for p, y in ys:
                    p.copy_(y)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a copy of a state: see ``UpdateRule``.

        Raises:
            RuntimeError: The parameters are the average: see ``averaged``.
            ValueError: It is the state of another rule, or of other parameters.
        """
        self._refuse_the_average("load_state_dict")
        super().load_state_dict(state_dict)

    def state_dict(self) -> dict[str, Any]:
        """The state of the optimizer, as in ``torch.optim``.

        Raises:
            RuntimeError: The parameters are the average: see ``averaged``.
        """
        self._refuse_the_average("state_dict")
        return super().state_dict()

    def __getstate__(self) -> dict[str, Any]:
        self._refuse_the_average("__getstate__")
        return super().__getstate__()

    def _step_group(self, group: dict[str, Any]) -> None:
        self._refuse_the_average("step")
        super()._step_group(group)

    def _refuse_the_average(self, what: str) -> None:
        if self._inside_averaged:
            raise RuntimeError(
                f"ScheduleFree.{what}() must not be called within averaged(): the parameters are "
                "the average there; leave the with block first"
            )
