"""Beyond some size of the batch, its gradient hardly changes its direction.

Changed after a first run: the measure is the angle between the gradient of a batch and that of a
batch four times as large that contains it, not the angle to the gradient of all examples.
"""

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
from dlnotes.claims.statistics import decide_each, student_interval

SIZES = (1, 4, 16, 64, 256, 1024, 4096)
LARGER = 4  # times
CLOSE = 10  # degrees
POINTS = (0, 10, 40)  # updates with the whole training set before the gradients are looked at
_RATE = 0.5
_DRAWS = 50  # batches of each size


def gradients(parameters: Parameters) -> Tensor:
    """The gradient of each training example, one per row."""
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
    """By how much a batch changes direction as it becomes four times as large.

    Examples are drawn with replacement, as from an infinite data set. Without replacement, a batch
    of nearly all examples of a small training set would have hardly any noise.

    Args:
        g: The gradient of each example.
        size: Examples of the smaller batch, which the larger one contains.
        generator: Of the draws.

    Returns:
        The mean angle between the two gradients in degrees.
    """
    drawn = torch.randint(len(g), (_DRAWS, LARGER * size), generator=generator)
    small, large = (
        torch.zeros(_DRAWS, len(g)).scatter_add_(1, some, torch.ones(some.shape)) @ g
        for some in (drawn[:, :size], drawn)
    )
    cosine = torch.cosine_similarity(small, large).clamp(-1, 1)
    return float(torch.rad2deg(cosine.acos()).mean())


def predicted(scale: float, size: float) -> float:
    """The same angle as the noise scale predicts it: the batches share a quarter of their noise."""
    noise, rest = scale / size, scale / size / LARGER
    return math.degrees(math.acos((1 + rest) / math.sqrt((1 + noise) * (1 + rest))))


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
    found = budget.part(0, 0.3).map(look, budget.seeds(10))
    angles = np.array([each["angles"] for each in found])
    scales = np.array([each["scales"] for each in found])
    bend = float(np.median(batch_sizes.bends(batch_sizes.sweep(budget.part(0.3, 1)))))
    budget.done(1)
    scale = float(np.exp(np.log(scales).mean()))
    close = decide_each([CLOSE - angles[:, i] for i in range(len(SIZES))])
    asked = max((i for i, size in enumerate(SIZES) if size <= LARGER * bend), default=0)
    verdict, condition = close[asked], ""
    enough = [size for size, each in zip(SIZES, close, strict=True) if each is Verdict.HOLDS]
    if verdict is Verdict.DOES_NOT_HOLD and enough:
        verdict = Verdict.HOLDS_ONLY_IF
        condition = (
            f"a batch has at least {min(enough):,} examples; larger ones save few steps from about "
            f"{bend:.0f} examples on (gradient noise scale: {scale:.0f} examples)"
        )
    elif verdict is Verdict.DOES_NOT_HOLD and Verdict.NOT_DECIDED in close:
        verdict = Verdict.NOT_DECIDED
    changes = angles[:, asked]
    low, high = student_interval(changes)

    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.semilogx(SIZES, angles.T, color="C0", alpha=0.3)
    left.semilogx(SIZES, angles.mean(0), "o-", color="C0", label="measured")
    sizes = np.geomspace(1, SIZES[-1])
    left.semilogx(
        sizes,
        [predicted(scale, size) for size in sizes],
        "--",
        color="gray",
        label="from the noise scale",
    )
    left.axvline(bend, color="C3", linestyle=":", label="steps to a target stop falling")
    left.set(
        xlabel="examples of a batch", ylabel=f"change in a batch {LARGER} times as large (degrees)"
    )
    left.legend()
    right.semilogy(POINTS, scales.T, "o-", color="C1", alpha=0.4)
    right.set(xlabel="updates before", ylabel="noise scale tr Σ / ‖G‖² (examples)")
    return Finding(
        verdict=verdict,
        condition=condition,
        effect=float(changes.mean()),
        effect_name=(
            f"angle between the gradients of {SIZES[asked]} examples and of {LARGER} times as many "
            "(degrees)"
        ),
        interval=(low, high),
        runs=len(found),
        numbers=[
            {
                "batch": size,
                "change of direction when it is four times as large (degrees)": float(
                    angles[:, i].mean()
                ),
                "less than allowed": close[i].value,
                "predicted (degrees)": predicted(scale, size),
                "bend of the steps (examples)": bend,
                "noise scale, start": float(scales[:, 0].mean()),
                "noise scale, end": float(scales[:, -1].mean()),
            }
            for i, size in enumerate(SIZES)
        ],
        figure=figure,
        left_out=(
            "Batches without replacement, which change less in a small training set; the noise "
            "scale late in training, where the gradient vanishes."
        ),
    )


CLAIM = Claim(
    name="large-batch-stops-changing-direction",
    notes="§8, 7",
    sentence="Once a batch is large enough, making it larger hardly changes the direction.",
    hypothesis=(
        "Along a training on the digits, the gradient of a batch of four times the size "
        "beyond which more examples save no steps changes its direction by less than "
        f"{CLOSE} degrees on average as the batch becomes {LARGER} times as large again. Examples "
        "are drawn with replacement, so batches may be larger than the training set."
    ),
    criterion=(
        f"Holds if the mean angle is less than {CLOSE} degrees for the largest size tried up to "
        f"{LARGER} times that size (64, where that is 76); holds with the condition that the batch "
        "is larger, if it is greater there and less for a larger one; does not hold if it is "
        "greater for all; else not decided. Sign-flip tests over ten initial weights, corrected "
        "for their number by Holm, at .05."
    ),
    literature=(
        "A batch as large as the noise scale tr(Σ)/‖G‖² halves the gain of a further example "
        "(McCandlish et al. 2018, https://arxiv.org/abs/1812.06162)."
    ),
    experiment=experiment,
)
