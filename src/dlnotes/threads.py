"""How many threads torch gets and how they wait for one another; imports no torch."""

from __future__ import annotations

import math
import os
import sys
from contextlib import suppress
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")


def settle() -> None:
    """Let torch have threads that sleep while they wait, and no more than it may use.

    OpenMP's threads wait for one another in a loop that keeps their cores busy. Where another
    program has one of the cores, a thread does so for the whole time in which its partner is not
    running, in each of the many parallel regions of an update: FastText, TextRNN and TextCNN then
    train at a tenth of the speed of a single thread. Asleep, they leave the core to whoever needs
    it.

    Call it before torch is loaded: afterwards it does nothing, because OpenMP reads the environment
    once. What the environment says already (``OMP_WAIT_POLICY``, ``GOMP_SPINCOUNT``,
    ``OMP_NUM_THREADS``) stays. All commands of dlnotes call it.
    """
    if "torch" in sys.modules:
        return
    if "GOMP_SPINCOUNT" not in os.environ:
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    limit = cpu_limit()
    if limit < (os.cpu_count() or 1):
        os.environ.setdefault("OMP_NUM_THREADS", str(limit))


def cpu_limit() -> int:
    """How many CPUs this process may use: those that it may run on, and a container's limit.

    A share of a CPU counts as a whole one.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    cpus = len(affinity(0)) if affinity else os.cpu_count() or 1
    for quota in _quotas():
        cpus = min(cpus, math.ceil(quota))
    return max(1, cpus)


def _quotas() -> list[float]:
    """The limits of the control groups that this process is in, in CPUs.

    Linux, https://docs.kernel.org/admin-guide/cgroup-v2.html#cpu-interface-files, and version 1,
    https://docs.kernel.org/scheduler/sched-bwc.html.
    """
    found = []
    for folder in _groups():
        with suppress(OSError, ValueError, ZeroDivisionError):
            if folder.is_relative_to(_CGROUPS / "cpu"):
                quota = int((folder / "cpu.cfs_quota_us").read_text())
                period = int((folder / "cpu.cfs_period_us").read_text())
            else:
                quota, period = map(int, (folder / "cpu.max").read_text().split())
            if quota > 0:  # -1 and "max" (a ValueError) are no limit
                found.append(quota / period)
    return found


def _groups() -> list[Path]:
    """The folders of this process's control groups for CPUs, and of those around them.

    In a container its own group usually looks as if it were the outermost one.
    """
    folders = [_CGROUPS, _CGROUPS / "cpu"]
    with suppress(OSError, ValueError):
        for line in _MEMBERSHIP.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            root = _CGROUPS / "cpu" if controllers else _CGROUPS
            if not controllers or "cpu" in controllers.split(","):
                group = root / path.lstrip("/")
                folders += [f for f in (group, *group.parents) if f.is_relative_to(root)]
    return list(dict.fromkeys(folders))
