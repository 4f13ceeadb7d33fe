"""Time our rules against torch.optim in alternation, on three models and a sparse gradient.

Every rule is compared with torch's own: its default, foreach and fused versions, if they exist.
torch has no Lion and no Schedule-Free; these are compared with themselves in tensor operations, and
the row says so. Muon gets only the matrices of a model, and none of 4096², since a step would take
minutes. The sparse gradient is that of an embedding; only some of torch's optimizers accept one.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Annotated, Any, cast

import torch
from rich.table import Table
from torch.nn import Parameter
from torch.optim import Optimizer

from dlnotes.arguments import Count, OneOf, check_names, checked
from dlnotes.cli import run
from dlnotes.display import console
from dlnotes.files import check_output, write_json
from dlnotes.optim import OPTIMIZERS, Muon, ScheduleFree, UpdateRule
from dlnotes.oracles.optimizers import ORACLES
from dlnotes.training.record import provenance

MODELS: dict[str, list[tuple[int, ...]]] = {
    "mid": [(256, 256)] * 24 + [(256,)] * 48,
    "tiny": [(64,)] * 400,
    "big": [(4096, 4096)] * 2,
    "sparse": [(1_100_000, 10)],
}
SPARSE: dict[str, type[Optimizer]] = {
    "gradient-descent": torch.optim.SGD,
    "adagrad": torch.optim.Adagrad,
    "adam": torch.optim.SparseAdam,
}
ROWS = 34_560  # of the sparse gradient: 64 reviews of 270 words and their bigrams
RULES: dict[str, type[UpdateRule]] = {**OPTIMIZERS, "muon": Muon, "schedule-free": ScheduleFree}
MATRICES = {"mid": [(256, 256)] * 24, "tiny": [(8, 8)] * 400}  # of the models, for Muon
STEPS = {"mid": 5, "tiny": 3, "big": 1, "sparse": 1}  # of one turn

LR = 1e-4

PLAIN = ("gradient-descent", "momentum", "nesterov")
DEFAULT_GOALS = {  # × faster than torch's default: (plain rules, adaptive rules)
    "mid": (1.5, 3.0),
    "tiny": (5.0, 10.0),
    "big": (1.0, 2.5),
}
SPARSE_GOALS = {"adam": 5.0, "adagrad": 3.0, "gradient-descent": 1.5}
FUSED_GOALS = {"mid": 1.0, "tiny": 1.0, "big": 1 / 1.15}


def shapes(model: str, name: str) -> list[tuple[int, ...]]:
    """Of the parameters that a rule gets; none if it does not run on the model."""
    if model == "sparse":
        return MODELS[model] if name in OPTIMIZERS else []
    return list(MATRICES.get(model, [])) if name == "muon" else MODELS[model]


def parameters(model: str, name: str) -> list[Parameter]:
    """A model's parameters for a rule, with gradients."""
    torch.manual_seed(0)
    params = [Parameter(torch.randn(shape)) for shape in shapes(model, name)]
    for p in params:
        p.grad = rows_like(p) if model == "sparse" else torch.randn_like(p)
    return params


def rows_like(p: Parameter) -> torch.Tensor:
    """A gradient of some rows of an embedding; as in texts, some of them occur often."""
    index = torch.randint(len(p), (ROWS,))
    index[: ROWS // 4] = torch.randint(500, (ROWS // 4,))
    values = torch.randn(ROWS, *p.shape[1:])
    return torch.sparse_coo_tensor(index.unsqueeze(0), values, p.shape, check_invariants=True)


def torchs(name: str, model: str) -> tuple[type[Optimizer] | None, dict[str, Any]]:
    """The optimizer of torch with the mapped hyper-parameters; None if it has no such rule."""
    if model == "sparse":
        return SPARSE.get(name), {"lr": LR}
    if name == "muon":
        return getattr(torch.optim, "Muon", None), {"lr": LR}  # it came with torch 2.9
    oracle = ORACLES.get(name)
    if oracle is None or oracle.source:
        return None, {}
    # NAdam's oracle is torch's with a sum in float64.
    own = getattr(torch.optim, cast(Any, oracle.torch).__name__)
    return own, oracle.mapped(**{**oracle.grid[0], "lr": LR})


def opponent(name: str, model: str) -> str:
    """What a rule is compared with."""
    own, _ = torchs(name, model)
    if own is not None:
        return f"torch {own.__name__}"
    no = "torch's takes no sparse gradient" if model == "sparse" else "not in torch"
    return f"itself in tensor operations: {no}"


def contestants(name: str, params: list[Parameter], model: str) -> dict[str, Optimizer]:
    """Our rule and torch's three ways of running its own, with mapped hyper-parameters.

    A rule that torch does not have is compared with itself in tensor operations, as ``default``.
    """
    hyper = {**(ORACLES[name].grid[0] if name in ORACLES else {}), "lr": LR}
    made: dict[str, Optimizer] = {"ours": RULES[name](params, **hyper)}
    own, mapped = torchs(name, model)
    if own is None:
        made["default"] = RULES[name](params, **hyper, fused=False)
        return made
    known = signature(own).parameters
    made["default"] = own(params, **mapped)
    for kind in ("foreach", "fused"):
        if kind in known and model != "sparse":
            with suppress(RuntimeError):  # before torch 2.4 nothing is fused on a CPU
                made[kind] = own(params, **{**mapped, kind: True})
    return made


def timed_contestants(name: str, params: list[Parameter], model: str) -> dict[str, Optimizer]:
    """Those that can take many steps on the same gradient.

    Torch's Nesterov with foreach cannot: it adds the momentum to p.grad itself, which then grows
    without bound.
    """
    made = contestants(name, params, model)
    if name == "nesterov":
        made.pop("foreach", None)
    return made


def some(p: Parameter) -> torch.Tensor:
    """The elements of a parameter that every step should change."""
    if p.grad is not None and p.grad.is_sparse:
        return p.detach()[p.grad._indices()[0, :64]]
    return p.detach().view(-1)[:64]


def step_and_check(optimizer: Optimizer, params: list[Parameter]) -> None:
    """Make one step, which must change every parameter and leave it finite."""
    before = [some(p).clone() for p in params]
    optimizer.step()
    if any(torch.equal(some(p), old) for p, old in zip(params, before, strict=True)):
        raise RuntimeError(f"a step of {type(optimizer).__name__} did not move every parameter")
    # A sum is not finite where any number is not, and needs no tensor of its own.
    if not all(p.detach().sum().isfinite() for p in params):
        raise RuntimeError(f"a step of {type(optimizer).__name__} left a number that is not finite")


def times(model: str, name: str, turns: int) -> dict[str, float]:
    """Median milliseconds of a step of each implementation, measured in alternation.

    On ``big``, torch's fused Adam is also timed as ``limit``, the speed that the memory allows.
    """
    params = parameters(model, name)
    optimizers = timed_contestants(name, params, model)
    if model == "big":
        optimizers["limit"] = torch.optim.Adam(params, lr=LR, fused=True)
    for optimizer in optimizers.values():
        for _ in range(2):
            step_and_check(optimizer, params)
    taken: dict[str, list[float]] = {kind: [] for kind in optimizers}
    for _ in range(turns):
        for kind, optimizer in optimizers.items():
            start = time.perf_counter()
            for _ in range(STEPS[model]):
                optimizer.step()
            taken[kind].append((time.perf_counter() - start) / STEPS[model] * 1e3)
    for optimizer in optimizers.values():
        step_and_check(optimizer, params)
    return {kind: statistics.median(values) for kind, values in taken.items()}


def moved_bytes(model: str, name: str) -> int:
    """Bytes that a step moves if θ and the accumulators are read and written once, and g read once.

    Of a sparse gradient every row counts, however often it occurs.
    """
    elements = sum(torch.Size(shape).numel() for shape in shapes(model, name))
    if model == "sparse":
        elements = ROWS * MODELS[model][0][1]
    return 4 * elements * (3 + 2 * len(RULES[name].accumulators))


def in_fresh_process(job: str, name: str, cache: str) -> float:
    """The figure that ``--job`` prints in a process of its own."""
    command = [sys.executable, __file__, "--job", job, "--rules", name]
    environment = {**os.environ, "DLNOTES_CACHE": cache}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return float(done.stdout)


def first_step(name: str) -> float:
    """Seconds of the first step of a process."""
    params = parameters("mid", name)
    optimizer = RULES[name](params, lr=LR)
    start = time.perf_counter()
    step_and_check(optimizer, params)
    return time.perf_counter() - start


def peak(name: str, kind: str) -> float:
    """MiB by which two steps raise the process's largest memory, accumulators included."""
    params = parameters("big", name)
    optimizer = contestants(name, params, "big")[kind]
    Path("/proc/self/clear_refs").write_text("5")  # the largest memory is counted from here
    before = memory("VmRSS")
    for _ in range(2):
        step_and_check(optimizer, params)
    return memory("VmHWM") - before


def memory(which: str) -> float:
    """Memory of this process in MiB, from Linux; getrusage would include the parent's."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(which):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"/proc/self/status has no {which}")


JOBS: dict[str, Callable[[str], float]] = {
    "first-step": first_step,
    "peak-ours": partial(peak, kind="ours"),
    "peak-foreach": partial(peak, kind="foreach"),
    "peak-default": partial(peak, kind="default"),
}


@checked
def main(
    json: Path | None = None,
    rules: tuple[str, ...] = tuple(RULES),
    models: tuple[str, ...] = tuple(MODELS),
    turns: Count = 31,
    job: Annotated[str, OneOf(JOBS)] | None = None,
) -> None:
    """Print a step's time for each rule, model and implementation, and which goals are met.

    Ours and torch's default, foreach and fused are measured in alternation; figures are medians.

    Args:
        json: Also write all figures to this file.
        rules: The rules to time.
        models: mid: 24 matrices of 256² and 48 vectors; tiny: 400 vectors of 64; big: two matrices
            of 4096²; sparse: 34,560 rows of 10 numbers of a parameter that has 1,100,000.
        turns: Number of measurements of each implementation (half as many on big).
        job: For the script itself: one measurement in a separate process.
    """
    check_names("the benchmark", "rule", rules, RULES)
    check_names("the benchmark", "model", models, MODELS)
    if job:
        print(JOBS[job](rules[0]))
        return
    if json:
        check_output(json)
    rows: list[dict[str, Any]] = []
    goals: list[tuple[str, float, float]] = []  # what, reached, goal: reached ≥ goal
    for model in models:
        table = Table(title=f"{model}: milliseconds of a step on {torch.get_num_threads()} threads")
        for heading in (
            "rule",
            "beside",
            "ours",
            "default",
            "foreach",
            "fused",
            "× default",
            "× fused",
            "GB/s",
        ):
            table.add_column(heading, justify="left" if heading in ("rule", "beside") else "right")
        for name in (name for name in rules if shapes(model, name)):
            ms = times(model, name, turns if model != "big" else max(3, turns // 2))
            speed = moved_bytes(model, name) / ms["ours"] / 1e6
            row = {
                "model": model,
                "rule": name,
                "beside": opponent(name, model),
                "milliseconds": ms,
                "gigabytes_per_second": speed,
            }
            rows.append(row)
            default = ms["default"] / ms["ours"]
            goal = 1.0
            if model == "sparse":
                goal = SPARSE_GOALS.get(name, goal)
            elif name != "muon":
                goal = DEFAULT_GOALS[model][name not in PLAIN]
            goals.append((f"{model} {name} × default", default, goal))
            fused = ms["fused"] / ms["ours"] if "fused" in ms else None
            if fused:
                goals.append((f"{model} {name} × fused", fused, FUSED_GOALS[model]))
            if "limit" in ms:
                limit = moved_bytes("big", "adam") / ms["limit"] / 1e6
                row["of_fused_adam"] = speed / limit
                goals.append((f"big {name}, bandwidth of fused Adam", speed / limit, 0.8))
            table.add_row(
                name,
                opponent(name, model),
                *(
                    f"{ms[k]:.3f}" if k in ms else "–"
                    for k in ("ours", "default", "foreach", "fused")
                ),
                f"{default:.2f}",
                f"{fused:.2f}" if fused else "–",
                f"{speed:.1f}",
            )
        console().print(table)
    table = Table(title="First step of a process (seconds), and memory on big (MiB more)")
    for heading in ("rule", "cold", "warm cache", "ours", "foreach or default"):
        table.add_column(heading, justify="left" if heading == "rule" else "right")
    for name in rules:
        own, _ = torchs(name, "big")
        beside = "default" if own is None else "foreach"
        peaks = [f"peak-{kind}" for kind in ("ours", beside) if shapes("big", name)]
        with tempfile.TemporaryDirectory() as cache:
            cold, warm = (in_fresh_process("first-step", name, cache) for _ in range(2))
            mib = [in_fresh_process(job, name, cache) for job in peaks]
        rows.append({"rule": name, "first_step": [cold, warm], "peak_mib": mib})
        goals.append((f"{name} first step, 6 s", 6 / cold, 1.0))
        goals.append((f"{name} first step with a warm cache, 1 s", 1 / warm, 1.0))
        if mib:
            # Code that is loaded at the first step and ctypes count as well: 8 MiB of leeway.
            reached = (mib[1] + 8) / (mib[0] + 1e-9)
            goals.append((f"{name} peak memory against {beside}", reached, 1.0))
        memories = [f"{x:.0f}" for x in mib] or ["–", "–"]
        table.add_row(name, f"{cold:.2f}", f"{warm:.2f}", *memories)
    console().print(table)
    missed = [goal for goal in goals if not goal[1] >= goal[2]]
    load = ", ".join(f"{x:.1f}" for x in os.getloadavg())
    print(f"{len(goals) - len(missed)} of {len(goals)} goals met (load of the machine: {load})")
    for what, reached, goal in missed:
        print(f"  missed: {what}: {reached:.2f}, goal {goal:.2f}")
    if json:
        listed = [{"goal": w, "reached": r, "at_least": g, "met": r >= g} for w, r, g in goals]
        write_json(
            json,
            {
                **provenance(0),
                "turns": turns,
                "load": os.getloadavg(),
                "rows": rows,
                "goals": listed,
            },
        )


if __name__ == "__main__":
    run(main)
