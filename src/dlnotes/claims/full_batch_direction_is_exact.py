"""Batch gradient descent has the exact direction and pays for it with every sample."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from dlnotes.claims.claim import Budget, Claim, Finding, Verdict
from dlnotes.claims.statistics import student_interval

DIMENSION, SAMPLES, DRAWS = 20, 1024, 2000
BATCHES = tuple(4**k for k in range(6))
SIZES = (2**12, 2**14, 2**16, 2**18)
WITHIN = 0.1
"""Allowed relative deviation from theory, estimated from 2,000 batches."""


def per_sample_gradients(n: int) -> Tensor:
    """Gradients of least squares at the origin, one row per sample."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, DIMENSION, dtype=torch.float64, generator=generator)
    w = torch.randn(DIMENSION, dtype=torch.float64, generator=generator)
    y = x @ w + torch.randn(n, dtype=torch.float64, generator=generator)
    return -y[:, None] * x


def distances(g: Tensor, batch: int) -> tuple[float, Tensor]:
    """E‖g_B − g‖² of random batches, and the cosine of each one with the full gradient."""
    generator = torch.Generator().manual_seed(batch)
    full = g.mean(0)
    means = torch.stack(
        [g[torch.randperm(len(g), generator=generator)[:batch]].mean(0) for _ in range(DRAWS)]
    )
    squared = (means - full).square().sum(1).mean().item()
    return squared, torch.cosine_similarity(means, full[None], dim=1)


def theory(g: Tensor, batch: int) -> float:
    r"""E‖g_B − g‖² of B samples of n without replacement.

    .. math::
        \frac{\operatorname{tr} Σ}{B} \cdot \frac{n − B}{n − 1}
    """
    n = len(g)
    spread = (g - g.mean(0)).square().sum(1).mean().item()
    return spread / batch * (n - batch) / (n - 1)


def gradient(n: int) -> Callable[[], Tensor]:
    """A full gradient of n samples, ready to be computed."""
    x = torch.ones(n, DIMENSION, dtype=torch.float64)
    w, y = torch.zeros(DIMENSION, 1, dtype=torch.float64), torch.ones(n, 1, dtype=torch.float64)
    return lambda: x.T @ (x @ w - y) / n


def operations(n: int) -> int:
    """Floating-point operations of one full gradient, as torch counts them."""
    compute = gradient(n)
    with FlopCounterMode(display=False) as counter:
        compute()
    return int(counter.get_total_flops())


def seconds(n: int) -> float:
    """CPU time of one full gradient, the minimum of several measurements."""
    compute, best = gradient(n), float("inf")
    for _ in range(5):
        start = time.thread_time()
        for _ in range(2**18 // n):
            compute()
        best = min(best, (time.thread_time() - start) / (2**18 // n))
    return best


def experiment(budget: Budget) -> Finding:
    """Compare gradients of batches with the full one; time a full gradient against n."""
    g = per_sample_gradients(SAMPLES)
    measured, drawn = [], []
    for batch in BATCHES:
        squared, cosine = distances(g, batch)
        measured.append(squared)
        drawn.append(cosine)
        budget.done(len(measured) / len(BATCHES))
    cosines = [cosine.mean().item() for cosine in drawn]
    expected = [theory(g, batch) for batch in BATCHES]
    as_theory = all(
        abs(m / e - 1) < WITHIN for m, e in zip(measured[:-1], expected[:-1], strict=True)
    )
    exact = measured[-1] < 1e-24 and cosines == sorted(cosines)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        times = [seconds(n) for n in SIZES]
    finally:
        torch.set_num_threads(threads)
    counts = [operations(n) for n in SIZES]
    proportional = all(c * SIZES[0] == counts[0] * n for c, n in zip(counts, SIZES, strict=True))

    measures: dict[str, tuple[tuple[int, ...], Sequence[float], Sequence[float | str]]] = {
        "E‖g_B − g‖²": (BATCHES, measured, expected),
        "mean cosine of g_B to g": (BATCHES, cosines, [""] * len(BATCHES)),
        "operations of a full gradient": (SIZES, counts, [4 * DIMENSION * n for n in SIZES]),
        "CPU ms of a full gradient": (SIZES, [1000 * t for t in times], [""] * len(SIZES)),
    }
    rows: list[dict[str, str | float]] = [
        {"measure": name, "samples": n, "value": value, "in theory": wanted}
        for name, columns in measures.items()
        for n, value, wanted in zip(*columns, strict=True)
    ]

    figure = Figure(figsize=(8, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.loglog(BATCHES[:-1], measured[:-1], "o", label="measured")
    left.loglog(BATCHES[:-1], expected[:-1], "-", label="theory")
    left.set(
        xlabel=f"batch (of {SAMPLES} samples)", ylabel="E‖g_B − g‖²", title="0 for all samples"
    )
    left.legend()
    right.loglog(SIZES, [1000 * s for s in times], "o-")
    right.set(xlabel="samples n", ylabel="milliseconds of CPU", title="one update of BGD")
    return Finding(
        verdict=Verdict.HOLDS if as_theory and exact and proportional else Verdict.DOES_NOT_HOLD,
        effect=cosines[-1] - cosines[0],
        effect_name="cosine to the full gradient, all samples − one sample",
        interval=student_interval((cosines[-1] - drawn[0]).tolist()),
        runs=0,
        numbers=rows,
        figure=figure,
        left_out=f"A larger n than {SIZES[-1]}, where memory would add to the cost.",
    )


CLAIM = Claim(
    name="full-batch-direction-is-exact",
    notes="§8, 4",
    sentence="The direction of BGD is accurate, and an update is slow on many samples.",
    hypothesis=(
        "The squared distance of a batch's gradient from the full one is tr(Σ)/B · (n − B)/(n − 1) "
        "for B of n samples, so 0 for all of them; and the operations of a full gradient grow in "
        "proportion to n."
    ),
    criterion=(
        "Holds if 2000 batches of each size agree with the formula within 10 %, the cosine to the "
        "full gradient rises with B to 1, and the operations that torch counts are in proportion "
        "to n; else does not hold. CPU time is shown beside them."
    ),
    literature=(
        "Bottou, Curtis & Nocedal 2018, §3.3 and §5, https://arxiv.org/abs/1606.04838: the "
        "variance of a mini-batch gradient falls as 1/B, its cost rises as B."
    ),
    experiment=experiment,
)
