"""Beyond some size of the batch, its gradient hardly changes its direction."""

from __future__ import annotations

import math

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.func import grad, vmap

from dlnotes.claims import batch_sizes
from dlnotes.claims.claim import Budget, Claim, Finding, Verdict
from dlnotes.claims.races import Parameters
from dlnotes.claims.statistics import LEAST_PAIRS, decide, student_interval

SIZES = (1, 4, 16, 64, 256, 1024, 4096, 16384)
CLOSE = 10  # degrees
POINTS = (0, 10, 40)  # updates with the whole training set before the gradients are looked at
_RATE = 0.5
_DRAWS = 50  # batches of each size


def gradients(parameters: Parameters) -> Tensor:
    """The gradient of each training example, one in a row."""
    learned = batch_sizes.problem()
    x, y = learned.train
    each = vmap(grad(lambda p, x, y: learned.loss(p, (x[None], y[None]))), (None, 0, 0))
    return torch.cat([g.flatten(1) for g in each(parameters, x, y).values()], dim=1)


def noise_scale(g: Tensor) -> float:
    r"""McCandlish et al.'s simple noise scale, https://arxiv.org/abs/1812.06162, eq. 2.9.

    .. math::
        B = \operatorname{tr} Σ / ‖G‖²

    Args:
        g: The gradient of each example, ``(n, parameters)``; their mean is G, their covariance Σ.
    """
    return float(g.var(dim=0).sum() / g.mean(dim=0).square().sum())


def angle(g: Tensor, size: int, generator: torch.Generator) -> float:
    """The mean angle between the gradient of a batch and that of all examples, in degrees."""
    # With replacement: without, a batch of nearly all examples has hardly any noise left.
    drawn = torch.randint(len(g), (_DRAWS, size), generator=generator)
    times = torch.zeros(_DRAWS, len(g)).scatter_add_(1, drawn, torch.ones(_DRAWS, size))
    means = times @ g / size
    cosine = torch.cosine_similarity(means, g.mean(dim=0, keepdim=True)).clamp(-1, 1)
    return float(torch.rad2deg(cosine.acos()).mean())


def look(seed: int) -> dict[str, list[float]]:
    """Angles, averaged over the points of a training, and the noise scale at each point."""
    learned = batch_sizes.problem()
    generator = torch.Generator().manual_seed(seed)
    parameters = learned.init(generator)
    scales, angles = [], []
    for step in range(POINTS[-1] + 1):
        if step in POINTS:
            g = gradients(parameters)
            scales.append(noise_scale(g))
            angles.append([angle(g, size, generator) for size in SIZES])
        slopes = grad(learned.loss)(parameters, learned.train)
        parameters = {name: p - _RATE * slopes[name] for name, p in parameters.items()}
    return {"scales": scales, "angles": np.mean(angles, axis=0).tolist()}


def experiment(budget: Budget) -> Finding:
    """Measure angles and noise scales along a training, from several initial weights."""
    found = budget.map(look, budget.seeds(10))
    angles = np.array([each["angles"] for each in found])
    scales = np.array([each["scales"] for each in found])
    bend = float(np.median(batch_sizes.bends(batch_sizes.sweep(budget))))
    scale = float(np.exp(np.log(scales).mean()))
    close = [decide(CLOSE - angles[:, i]) for i in range(len(SIZES))]
    verdict, condition, at = Verdict.DOES_NOT_HOLD, "", SIZES[-1]
    if Verdict.HOLDS in close:
        at = SIZES[close.index(Verdict.HOLDS)]
        verdict = Verdict.HOLDS if at <= 4 * bend else Verdict.HOLDS_ONLY_IF
    if len(found) < LEAST_PAIRS:
        verdict = Verdict.NOT_DECIDED
    if verdict is Verdict.HOLDS_ONLY_IF:
        condition = (
            f"a batch has at least {at:,} examples, which is far beyond the {bend:.0f} at which "
            f"larger batches stop saving steps (gradient noise scale: {scale:.0f} examples)"
        )
    reached = angles[:, SIZES.index(1024)]
    low, high = student_interval(reached)

    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.semilogx(SIZES, angles.T, color="C0", alpha=0.3)
    left.semilogx(SIZES, angles.mean(0), "o-", color="C0", label="measured")
    sizes = np.geomspace(1, SIZES[-1])
    predicted = np.degrees(np.arctan(np.sqrt(scale / sizes)))
    left.semilogx(sizes, predicted, "--", color="gray", label="from the noise scale")
    left.axvline(bend, color="C3", linestyle=":", label="steps to a target stop falling")
    left.set(xlabel="examples of a batch", ylabel="angle to the full gradient (degrees)")
    left.legend()
    right.semilogy(POINTS, scales.T, "o-", color="C1", alpha=0.4)
    right.set(xlabel="updates before", ylabel="noise scale tr Σ / ‖G‖² (examples)")
    return Finding(
        verdict=verdict,
        condition=condition,
        effect=float(reached.mean()),
        effect_name="angle between the gradients of 1,024 examples and of all (degrees)",
        interval=(low, high),
        runs=len(found),
        numbers=[
            {
                "batch": size,
                "angle to the full gradient (degrees)": float(angles[:, i].mean()),
                "predicted (degrees)": math.degrees(math.atan(math.sqrt(scale / size))),
                "bend of the steps (examples)": bend,
                "noise scale, start": float(scales[:, 0].mean()),
                "noise scale, end": float(scales[:, -1].mean()),
            }
            for i, size in enumerate(SIZES)
        ],
        figure=figure,
        left_out=(
            "Batches without replacement, which come closer in a small training set; the noise "
            "scale late in training, where the gradient vanishes."
        ),
    )


CLAIM = Claim(
    name="large-batch-stops-changing-direction",
    notes="§8, 7",
    sentence="Once a batch is large enough, making it larger hardly changes the direction.",
    hypothesis=(
        "Along a training on the digits, the gradient of a batch of four times the size at which "
        "steps to a target stop falling is on average less than "
        f"{CLOSE} degrees from that of all examples."
    ),
    criterion=(
        f"Holds if the mean angle is less than {CLOSE} degrees up to that size; holds only if the "
        "batch is larger, if a larger one is needed; does not hold if no size tried is enough; "
        "sign-flip test at .05 over ten initial weights."
    ),
    literature=(
        "A batch as large as the noise scale tr(Σ)/‖G‖² halves the gain of a further example "
        "(McCandlish et al. 2018, https://arxiv.org/abs/1812.06162)."
    ),
    experiment=experiment,
)
