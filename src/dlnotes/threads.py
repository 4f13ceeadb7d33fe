"""How many threads torch gets and how these wait for one another; does not import torch."""

from __future__ import annotations

import math
import os
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")
_SCHEDULE = Path("/proc/self/schedstat")

_PERIOD = 0.2
"""Seconds between two looks at how long the main thread waited for a core."""
_BUSY, _QUIET = 0.15, 0.1
"""Fractions of its time that the main thread waits for a core: above `_BUSY` the machine counts as
busy, below `_QUIET` as quiet. Measured: at most 0.03 with nothing else running, and 0.32 to 0.53
with another program on each core, whether torch's threads spin or sleep."""
_CALM = 5
"""Periods in a row that have to be quiet until the machine counts as quiet again."""

_ASLEEP = {"OMP_WAIT_POLICY": "passive"}
_WATCHED = {**_ASLEEP, "GOMP_SPINCOUNT": "300000"}
"""libgomp's default spin count, but none while it manages more threads than CPUs, see `_Watch`."""


def configure() -> None:
    """Limit torch's threads to the CPUs there are, and choose how they wait for one another.

    By default, a thread of OpenMP that waits for the others polls in a loop (it spins). That is
    fastest as long as no other program needs the cores. If one does, a thread spins for as long as
    the thread that it waits for has no core, in each of the many parallel regions of an update. A
    training is then two to three times slower than with a single thread. A thread that sleeps
    leaves its core to other programs.

    A watching thread therefore checks five times a second how long the main thread waited for a
    core. While that is too long, torch's threads sleep. The results do not depend on it. torch's
    threads always sleep where the system does not report this time (Linux does), where only one CPU
    is available, or where OMP_NUM_THREADS differs from the number of available CPUs.

    Call this function before torch is imported, because OpenMP reads the environment only once.
    Variables that are already set (``OMP_WAIT_POLICY``, ``GOMP_SPINCOUNT``, ``OMP_NUM_THREADS``)
    are kept. All commands of dlnotes call it.
    """
    if "torch" in sys.modules:
        return
    limit = cpu_limit()
    if limit < (os.cpu_count() or 1):
        os.environ.setdefault("OMP_NUM_THREADS", str(limit))
    said = {name: os.environ[name] for name in _WATCHED if name in os.environ}
    if said and said != _WATCHED:  # they are ours where another command has started this one
        return
    number, cpus = os.environ.get("OMP_NUM_THREADS"), _cpus()
    if cpus == 1 or number not in (None, str(cpus)) or not _Watch.works():
        os.environ |= _ASLEEP
        os.environ.pop("GOMP_SPINCOUNT", None)
    else:
        os.environ |= _WATCHED
        _Watch().begin()


class _Watch:
    """Watches whether the main thread waits for a core, and if so lets torch's threads sleep.

    libgomp, torch's OpenMP library on Linux, stops spinning as soon as it manages more threads than
    there are CPUs (see ``GOMP_SPINCOUNT`` in
    https://gcc.gnu.org/onlinedocs/libgomp/GOMP_005fSPINCOUNT.html). Every Python thread that runs a
    parallel operation gets its own team of OpenMP threads, which lives as long as it does. So an
    extra thread that runs one such operation and then stays idle makes torch's threads sleep, and
    they spin again when it ends.
    """

    @staticmethod
    def works() -> bool:
        """Whether the system reports how long a thread waited: on some, the file always says 0."""
        try:
            return int(_SCHEDULE.read_text().split()[2]) > 0
        except (OSError, ValueError, IndexError):
            return False

    def __init__(self) -> None:
        self.released = threading.Event()
        self.schedule = os.open(_SCHEDULE, os.O_RDONLY)
        self.waited = self.read()
        self.time = time.monotonic()
        self.calm = 0
        self.idle: threading.Thread | None = None

    def begin(self) -> None:
        threading.Thread(target=self.run, name="dlnotes-watch").start()

    def run(self) -> None:
        main = threading.main_thread()
        try:
            while main.is_alive():
                main.join(_PERIOD)
                if main.is_alive():
                    self.look()
        finally:  # a thread that torch has computed in has to end before the interpreter does
            self.loop()

    def read(self) -> int:
        """Nanoseconds for which the main thread was ready, but had no core.

        https://docs.kernel.org/scheduler/sched-stats.html#proc-pid-schedstat

        This is a single system call, because Python releases its lock (the GIL) for each one. On a
        busy machine the main thread could then wait for this thread, which holds the lock but has
        no core.
        """
        return int(os.pread(self.schedule, 100, 0).split()[1])

    def look(self) -> None:
        before, self.waited = self.waited, self.read()
        then, self.time = self.time, time.monotonic()
        share = (self.waited - before) / 1e9 / (self.time - then)
        self.calm = self.calm + 1 if share < _QUIET else 0
        if share > _BUSY:
            self.sleep()
        elif self.calm >= _CALM:
            self.loop()

    def sleep(self) -> None:
        """From now on, let torch's threads sleep while they wait."""
        if not self.idle and "torch" in sys.modules:
            self.released = threading.Event()
            self.idle = threading.Thread(target=self.compute, name="dlnotes-idle")
            self.idle.start()

    def compute(self) -> None:
        with suppress(ImportError, AttributeError):  # it is loaded, or being loaded
            import torch

            # In parallel: torch gives each thread 32,768 numbers.
            torch.zeros(1 << 17, dtype=torch.float32, device="cpu").add_(1)
        self.released.wait()

    def loop(self) -> None:
        """From now on, let torch's threads spin while they wait."""
        if self.idle:
            self.released.set()
            self.idle.join()
            self.idle = None


def cpu_limit() -> int:
    """How many CPUs this process may use: those that it may run on, and a container's limit.

    A share of a CPU counts as a whole one.
    """
    cpus = _cpus()
    for quota in _quotas():
        cpus = min(cpus, math.ceil(quota))
    return max(1, cpus)


def _cpus() -> int:
    """How many CPUs this process may run on."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


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
