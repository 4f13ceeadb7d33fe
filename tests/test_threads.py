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


def configured(before="", **environment):
    """The environment after `configure` in a process of its own, on a machine of 4 CPUs."""
    program = f"""{before}
import os
from dlnotes import threads
os.cpu_count = lambda: 4
os.sched_getaffinity = lambda process: range(4)
threads._CGROUPS = threads._MEMBERSHIP = threads.Path("/none")
{environment.pop("more", "")}
threads.configure()
print(*map(os.environ.get, {NAMES}), sum(t.name == "dlnotes-watch" for t in threads.threading.enumerate()))
"""
    return output(program, environment).split()


NAMES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS")


def output(program, environment=None):
    """What a program prints that starts without settings of OpenMP."""
    kept = {name: value for name, value in os.environ.items() if name not in NAMES}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=kept | (environment or {}),
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


WATCHED = ["passive", "300000", "None", "1"]
ON_LINUX = pytest.mark.skipif(not threads._Watch.works(), reason="no thread is told to wait")


@ON_LINUX
def test_threads_are_watched_unless_the_environment_says_how_they_wait():
    assert configured() == WATCHED
    assert configured(OMP_WAIT_POLICY="passive", GOMP_SPINCOUNT="300000") == WATCHED  # a command's
    assert configured(OMP_NUM_THREADS="4") == ["passive", "300000", "4", "1"]
    assert configured(OMP_WAIT_POLICY="active") == ["active", "None", "None", "0"]
    assert configured(OMP_WAIT_POLICY="passive") == ["passive", "None", "None", "0"]
    assert configured(GOMP_SPINCOUNT="7") == ["None", "7", "None", "0"]


def test_threads_always_sleep_where_watching_does_not_serve(tmp_path):
    for number in ("1", "3", "8", "4,2"):
        assert configured(OMP_NUM_THREADS=number) == ["passive", "None", number, "0"]
    few = "threads.cpu_limit = lambda: 2"
    assert configured(more=few) == ["passive", "None", "2", "0"]
    limited = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "300000"}
    assert configured(more=few, **limited) == ["passive", "None", "2", "0"]
    for text in (None, "", "words", "5 0 0"):
        file = tmp_path / "schedstat"
        if text is not None:
            file.write_text(text)
        told = f"threads._SCHEDULE = threads.Path({str(file)!r})"
        assert configured(more=told) == ["passive", "None", "None", "0"]


@pytest.fixture
def watch(tmp_path, monkeypatch):
    """A watch, and a function that says for which share of the time since then a thread waited."""
    file, now = tmp_path / "schedstat", [0.0]
    file.write_text("7 0 9\n")
    monkeypatch.setattr(threads, "_SCHEDULE", file)
    monkeypatch.setattr(threads.time, "monotonic", lambda: now[0])
    found = threads._Watch()

    def look(share):
        waited = int(file.read_text().split()[1])
        now[0] += 0.2
        file.write_text(f"7 {waited + int(share * 2e8)} 9\n")
        found.look()
        return found.idle is not None and found.idle.is_alive()

    yield look
    found.loop()


def test_threads_sleep_from_the_first_wait_until_a_second_without(watch):
    assert [watch(share) for share in (0.0, 0.05, 0.12)] == [False] * 3
    assert [watch(share) for share in (0.2, 0.5, 0.12, 0.0, 0.0, 0.0, 0.0)] == [True] * 7
    assert watch(0.12)  # neither
    assert [watch(0.05) for _ in range(6)] == [True] * 4 + [False] * 2
    assert watch(0.4)


BURN = """
from dlnotes import threads
threads._cpus = lambda: {cpus}
threads._Watch.begin = lambda watch: None
threads.configure()
import resource, time, torch
torch.set_num_threads({cpus})
x = torch.zeros(1 << 17)
watch = threads._Watch()

def share():
    "How much of a core threads take that wait half of the time for one another."
    begin, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
    for _ in range(100):
        x.add_(1)  # in parallel
        time.sleep(0.003)
    now = resource.getrusage(resource.RUSAGE_SELF)
    return (now.ru_utime - used.ru_utime) / (time.perf_counter() - begin)

share()
shares = [share()]
watch.sleep()
time.sleep(0.2)
shares.append(share())
watch.loop()
shares.append(share())
print(*shares)
"""


@ON_LINUX
@pytest.mark.skipif(threads.cpu_limit() < 2, reason="one CPU")
def test_waiting_threads_take_no_core_while_they_sleep():
    """What `_Watch` does is libgomp's own rule; here it is seen to be so."""
    looping, asleep, again = map(float, output(BURN.format(cpus=threads._cpus())).split())
    assert asleep < 0.5 * looping
    assert asleep < 0.5 * again


def test_nothing_changes_once_torch_is_loaded():
    assert configured("import torch") == ["None", "None", "None", "0"]


@ON_LINUX
def test_a_program_ends_while_threads_sleep():
    """Torch aborts a program whose interpreter ends before a thread that torch computed in."""
    program = """
import os
[os.environ.pop(name, None) for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS")]
from dlnotes import threads
threads._cpus, threads.cpu_limit, threads._BUSY = lambda: 2, lambda: 2, -1
threads.configure()
import torch, time
time.sleep(0.5)
print(sorted(each.name for each in threads.threading.enumerate()))
1 / 0
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "['MainThread', 'dlnotes-idle', 'dlnotes-watch']"
    assert done.returncode == 1
    assert done.stderr.strip().endswith("ZeroDivisionError: division by zero")


@pytest.mark.skipif(sys.platform != "linux", reason="this OpenMP tells its settings on Linux")
@pytest.mark.parametrize("command", [["-m", "dlnotes", "train"], ["scripts/train.py"]])
def test_the_commands_configure_them_before_torch_is_loaded(command):
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
    assert re.search(r"GOMP_SPINCOUNT = '(0|300000)'", done.stderr), done.stderr
