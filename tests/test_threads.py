"""Torch's threads: how many, and how they wait."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from dlnotes import threads


@pytest.fixture
def system(tmp_path, monkeypatch):
    """A machine of 8 CPUs without control groups."""
    monkeypatch.setattr(threads, "_CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(threads, "_MEMBERSHIP", tmp_path / "membership")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    return tmp_path


def limit(folder, quota, period=100_000, version=2):
    folder.mkdir(parents=True, exist_ok=True)
    if version == 2:
        (folder / "cpu.max").write_text(f"{quota} {period}\n")
    else:
        (folder / "cpu.cfs_quota_us").write_text(f"{quota}\n")
        (folder / "cpu.cfs_period_us").write_text(f"{period}\n")


def test_without_a_limit_all_cpus_of_the_process_count(system):
    assert threads.cpu_limit() == 8
    limit(system / "cgroup", "max")
    limit(system / "cgroup" / "cpu", -1, version=1)
    assert threads.cpu_limit() == 8


@pytest.mark.parametrize(
    ("quota", "cpus"), [(200_000, 2), (150_000, 2), (10_000, 1), (1_600_000, 8)]
)
@pytest.mark.parametrize("version", [1, 2])
def test_a_containers_limit_counts(system, quota, cpus, version):
    limit(system / "cgroup" / ("cpu" if version == 1 else ""), quota, version=version)
    assert threads.cpu_limit() == cpus


def test_the_smallest_limit_of_the_groups_around_counts(system):
    (system / "membership").write_text("0::/slice/service\n")
    limit(system / "cgroup" / "slice" / "service", 400_000)
    assert threads.cpu_limit() == 4
    limit(system / "cgroup" / "slice", 300_000)
    assert threads.cpu_limit() == 3
    limit(system / "cgroup" / "other", 100_000)
    assert threads.cpu_limit() == 3


def test_the_group_of_the_cpu_controller_counts_in_version_1(system):
    (system / "membership").write_text("4:memory:/m\n2:cpu,cpuacct:/docker/a\n1:cpuset:/c\n")
    limit(system / "cgroup" / "cpu" / "docker" / "a", 250_000, version=1)
    for other in ("m", "c"):
        limit(system / "cgroup" / "cpu" / other, 100_000, version=1)
    assert threads.cpu_limit() == 3


@pytest.mark.parametrize("text", ["", "words\n", "100000 0\n", "\x00"])
def test_a_file_that_cannot_be_read_is_no_limit(system, text):
    (system / "cgroup").mkdir()
    (system / "cgroup" / "cpu.max").write_text(text)
    (system / "membership").write_text("no colon\n")
    assert threads.cpu_limit() == 8


def settled(before="", **environment):
    """The environment after `settle` in a process of its own."""
    names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS")
    program = f"{before}\nimport os\nfrom dlnotes import threads\nthreads.cpu_limit = lambda: 1\n"
    program += f"os.cpu_count = lambda: 4\nthreads.settle()\nprint(*map(os.environ.get, {names}))"
    kept = {name: value for name, value in os.environ.items() if name not in names}
    done = subprocess.run(
        [sys.executable, "-c", program], env=kept | environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_threads_sleep_and_are_limited_unless_the_environment_says_otherwise():
    assert settled() == ["passive", "None", "1"]
    assert settled(OMP_WAIT_POLICY="active", OMP_NUM_THREADS="3") == ["active", "None", "3"]
    assert settled(GOMP_SPINCOUNT="7") == ["None", "7", "1"]


def test_nothing_changes_once_torch_is_loaded():
    assert settled("import torch") == ["None", "None", "None"]


@pytest.mark.skipif(sys.platform != "linux", reason="this OpenMP tells its settings on Linux")
@pytest.mark.parametrize("command", [["-m", "dlnotes", "train"], ["scripts/train.py"]])
def test_the_commands_settle_before_torch_is_loaded(command):
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}
    done = subprocess.run(
        [sys.executable, *command, "--help"],
        env=kept | {"OMP_DISPLAY_ENV": "verbose"},
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    # The policy itself reads PASSIVE also where nothing says so.
    assert re.search(r"GOMP_SPINCOUNT = '0'", done.stderr), done.stderr
