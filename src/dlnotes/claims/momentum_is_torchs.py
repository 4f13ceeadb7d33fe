"""The notes' momentum is torch's with the same arguments."""

from __future__ import annotations

from functools import partial

import torch
from matplotlib.figure import Figure
from torch import Tensor

from dlnotes.claims.claim import Budget, Claim, Finding, Verdict
from dlnotes.optim import Momentum
from dlnotes.oracles.optimizers import ORACLES, start, trajectory

LR, BETA, STEPS = 0.01, 0.9, 300
EXACT = 1e-10


def experiment(budget: Budget) -> Finding:
    """Run both with the same arguments, and with the learning rate multiplied by 1 − β."""
    oracle = ORACLES["momentum"]
    ours = trajectory(lambda p: Momentum(p, lr=LR, beta=BETA, fused=False), STEPS)
    others = {
        "copied": {"lr": LR, "momentum": BETA},
        "dampening": {"lr": LR, "momentum": BETA, "dampening": BETA},
        "mapped": oracle.mapped(lr=LR, beta=BETA),
    }
    paths = {
        name: trajectory(partial(torch.optim.SGD, **given), STEPS) for name, given in others.items()
    }
    begin = start().detach()
    moved = (ours[-1] - begin).abs().max()

    def apart(path: Tensor) -> float:
        return ((path - ours).abs().max() / moved).item()

    first = ((paths["copied"][0] - begin).norm() / (ours[0] - begin).norm()).item()
    copied, mapped = apart(paths["copied"]), apart(paths["mapped"])
    if copied < EXACT:
        verdict = Verdict.HOLDS
    else:
        verdict = Verdict.HOLDS_ONLY_IF if mapped < EXACT else Verdict.DOES_NOT_HOLD

    figure = Figure(figsize=(6, 3.8), layout="constrained")
    axes = figure.subplots()
    axes.plot(ours[:, 0], label="notes", lw=3)
    for name, path in paths.items():
        axes.plot(path[:, 0], "--", label=f"torch, {name}")
    axes.set(xlabel="step", ylabel="first parameter", title="Momentum, α = 0.01, β = 0.9")
    axes.legend(fontsize=8)
    return Finding(
        verdict=verdict,
        condition="torch's rate is α(1 − β)" if verdict is Verdict.HOLDS_ONLY_IF else "",
        effect=first,
        effect_name="first step, torch with the same arguments / notes",
        interval=(first, first),
        runs=1 + len(paths),
        numbers=[
            {
                "torch.optim.SGD": ", ".join(f"{k}={v:g}" for k, v in others[name].items()),
                "largest distance between the two paths / distance travelled": apart(path),
            }
            for name, path in paths.items()
        ],
        figure=figure,
    )


CLAIM = Claim(
    name="momentum-is-torchs",
    notes="§9; §4",
    sentence="The notes' momentum, V ← βV + (1 − β)g, is torch's with the same arguments.",
    hypothesis=(
        "Over 300 float64 steps torch.optim.SGD(lr=α, momentum=β) takes the path of the notes' "
        "rule within 1e-10 of the distance travelled."
    ),
    criterion=(
        "Holds if it does; holds with the rate α(1 − β), if only that matches; else does not "
        "hold. dampening = β, which looks like the average, is shown too: torch leaves it out of "
        "the first step."
    ),
    literature=(
        "torch adds gradients up, v ← μv + g "
        "(https://pytorch.org/docs/stable/generated/torch.optim.SGD.html), the notes average them."
    ),
    experiment=experiment,
)
