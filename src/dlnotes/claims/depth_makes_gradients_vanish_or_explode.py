"""Depth makes gradients vanish or explode.

Changed after a first run: a case is not decided where its interval contains a hundredfold change.
"""

from __future__ import annotations

import math

import torch
from matplotlib.figure import Figure
from torch import Tensor

from dlnotes.claims.claim import Budget, Claim, Finding, Verdict
from dlnotes.claims.networks import gradients, initial, outputs
from dlnotes.claims.statistics import student_interval
from dlnotes.foundations.vanishing_gradients import ACTIVATIONS, CLASSES, WIDTH, task

DEPTH, SEEDS = 32, 10
NETWORKS = {
    ("sigmoid", "glorot"): "vanishes",
    ("sigmoid", "unit"): "",
    ("tanh", "small"): "vanishes",
    ("tanh", "glorot"): "stays",
    ("tanh", "unit"): "explodes",
    ("relu", "small"): "vanishes",
    ("relu", "glorot"): "vanishes",
    ("relu", "he"): "stays",
    ("relu", "unit"): "explodes",
}
"""Activation and initialisation → what theory expects; "" where it depends on more."""
STEPS = (10, 20, 50, 100, 200, 500)
UNITS = 32
SCALES = {0.8: "vanishes", 1.0: "stays", 1.25: "explodes"}
"""Scale of an orthogonal recurrent matrix → what theory expects of a linear recurrence."""
MUCH = 100.0
"""A gradient has vanished or exploded if it is this many times smaller or larger in the first layer
than in the last, or after the steps back in time."""


def behaviour(low: float, high: float, layers: int) -> str:
    """The verdict that an interval of log factors per layer gives for a number of layers."""
    if high * layers < -math.log(MUCH):
        return "vanishes"
    if low * layers > math.log(MUCH):
        return "explodes"
    if -math.log(MUCH) <= low * layers and high * layers <= math.log(MUCH):
        return "stays"
    return "not decided"


def gradient_norms(activation: str, initialisation: str) -> Tensor:
    """‖∂J/∂b‖ of every hidden layer of untrained networks: (layers, seeds), first layer first.

    It is ∂J/∂z summed over the samples. ∂J/∂W has the layer's inputs as a further factor, which may
    grow while ∂J/∂z shrinks. Float64 is used because products of many small factors are 0 in
    float32.
    """
    x, y = (each.double() for each in task(256))
    theta = initial([WIDTH] * DEPTH + [CLASSES], range(SEEDS), initialisation)

    def losses(theta: list[Tensor]) -> Tensor:
        scores = outputs(theta, x, ACTIVATIONS[activation])
        return -(y * scores.log_softmax(-1)).sum((1, 2)) / len(y)

    _, g = gradients(losses, theta)
    return torch.stack([b.norm(dim=(1, 2)) for b in g[1:-2:2]])


def through_time(scale: float, nonlinear: bool, seed: int) -> list[float]:
    """log₁₀ of ‖∂h_T/∂h_0 v‖ for a random unit v, after each number of steps T.

    h_t = f(W h_{t−1} + x_t), with W `scale` times an orthogonal matrix and small noise as x; the
    derivative is carried along by the chain rule and scaled to 1, so that it neither overflows nor
    vanishes.
    """
    generator = torch.Generator().manual_seed(seed)
    W, _ = torch.linalg.qr(torch.randn(UNITS, UNITS, generator=generator).double())
    W = scale * W
    h = torch.zeros(UNITS, dtype=torch.float64)
    v = torch.randn(UNITS, generator=generator).double()
    v, size, sizes = v / v.norm(), 0.0, []
    for step in range(1, max(STEPS) + 1):
        z = W @ h + 0.1 * torch.randn(UNITS, generator=generator).double()
        h = (
            z.tanh() if nonlinear else torch.zeros_like(z)
        )  # the derivative of a linear recurrence does not depend on h
        v = ((1 - h**2) if nonlinear else 1.0) * (W @ v)
        size += v.norm().log10().item()
        v = v / v.norm()
        if step in STEPS:
            sizes.append(size)
    return sizes


def experiment(budget: Budget) -> Finding:
    """Measure the factor per layer of deep networks, and per step of recurrences."""
    rows: list[dict[str, str | float]] = []
    as_expected = []
    changes = []
    norms = {}
    for (activation, initialisation), expected in NETWORKS.items():
        norms[activation, initialisation] = all_norms = gradient_norms(activation, initialisation)
        logs = ((all_norms[0] / all_norms[-1]).log() / (DEPTH - 2)).tolist()
        low, high = student_interval(logs)
        what = behaviour(low, high, DEPTH - 2)
        changes.append(what != "stays")
        as_expected.append(expected in ("", what) or what == "not decided")
        rows.append(
            {
                "network": f"{activation}, {initialisation} weights",
                "factor per layer": math.exp(sum(logs) / SEEDS),
                "low": math.exp(low),
                "high": math.exp(high),
                "gradient": what,
            }
        )
        budget.done(len(rows) / (len(NETWORKS) + 2 * len(SCALES)))
    curves = {}
    for nonlinear in (False, True):
        for scale, expected in SCALES.items():
            paths = torch.tensor(
                [through_time(scale, nonlinear, s) for s in range(SEEDS)], dtype=torch.float64
            )
            logs = (paths[:, -1] * math.log(10) / STEPS[-1]).tolist()
            low, high = student_interval(logs)
            what = behaviour(low, high, STEPS[-1])
            name = f"{'tanh' if nonlinear else 'linear'} recurrence, {scale} · orthogonal"
            curves[name] = paths.mean(0)
            changes.append(what != "stays")
            as_expected.append(nonlinear or what in (expected, "not decided"))
            rows.append(
                {
                    "network": name,
                    "factor per layer": math.exp(sum(logs) / SEEDS),
                    "low": math.exp(low),
                    "high": math.exp(high),
                    "gradient": what,
                }
            )
    if not all(as_expected):
        verdict = Verdict.DOES_NOT_HOLD
    elif any(row["gradient"] == "not decided" for row in rows):
        verdict = Verdict.NOT_DECIDED
    else:
        verdict = Verdict.HOLDS if all(changes) else Verdict.HOLDS_ONLY_IF
    kept = [str(row["network"]) for row in rows if row["gradient"] == "stays"]
    sigmoid = rows[0]

    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for (activation, initialisation), each in norms.items():
        left.semilogy(
            range(1, DEPTH), each.median(1).values, label=f"{activation}, {initialisation}"
        )
    left.set(
        xlabel="layer (1: first)", ylabel="‖∂J/∂b‖", title=f"{DEPTH} layers", ylim=(1e-75, 1e40)
    )
    left.legend(fontsize=7)
    for name, path in curves.items():
        right.plot(STEPS, path, "o--" if "tanh" in name else "o-", label=name)
    right.set(xlabel="steps back in time", ylabel="log₁₀ ‖∂h_T/∂h_0 v‖", title="recurrences")
    right.legend(fontsize=7, loc="lower left")
    return Finding(
        verdict=verdict,
        condition=(
            "weights times slope differ from 1; the gradient keeps its size in these networks: "
            + "; ".join(kept)
            if verdict is Verdict.HOLDS_ONLY_IF
            else ""
        ),
        effect=float(sigmoid["factor per layer"]),
        effect_name="factor of the gradient per layer, sigmoid with Glorot's weights",
        interval=(float(sigmoid["low"]), float(sigmoid["high"])),
        runs=0,
        numbers=rows,
        figure=figure,
        left_out=(
            "Three of the twelve pairs of activation and initialisation. Residual connections and "
            "normalisation, which keep gradients too; LSTM and GRU."
        ),
    )


CLAIM = Claim(
    name="depth-makes-gradients-vanish-or-explode",
    notes="§8, 13",
    sentence="Depth makes gradients vanish or explode.",
    hypothesis=(
        "Through 32 layers the norm of the gradient changes more than a hundredfold for nine pairs "
        "of an activation (sigmoid, tanh, ReLU) and an initialisation (a small deviation, 1, "
        "Glorot's, He's), and over "
        "500 steps of every recurrence with an orthogonal matrix times 0.8, 1 or 1.25: to 0 where "
        "weights times slope are below 1, to infinity where they are above."
    ),
    criterion=(
        "95 % intervals of the factor over 10 seeds. Does not hold if the direction is not that of "
        "theory for a network or a linear recurrence; not decided if an interval does not tell "
        "whether the change is a hundredfold; holds if no gradient keeps its size; else holds with "
        "the condition that weights times slope differ from 1."
    ),
    literature=(
        "Bengio, Simard & Frasconi 1994, https://doi.org/10.1109/72.279181; Glorot & Bengio 2010, "
        "https://proceedings.mlr.press/v9/glorot10a.html; He et al. 2015, "
        "https://arxiv.org/abs/1502.01852; Pascanu, Mikolov & Bengio 2013, "
        "https://arxiv.org/abs/1211.5063."
    ),
    experiment=experiment,
)
