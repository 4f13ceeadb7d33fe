"""Training beside programs that keep the cores busy."""

import json
import subprocess
import sys

import pytest

import bench_busy


@pytest.mark.slow
def test_each_way_of_waiting_is_measured_in_each_situation(script, tmp_path):
    path = tmp_path / "busy.json"
    done = script(
        *("bench_busy", "--models", "entnet", "--turns", 1, "--seconds", 0.1, "--json", path)
    )
    assert done.code == 0, done.err
    rows = json.loads(path.read_text())["rows"]
    assert [row["situation"] for row in rows] == ["busy", "quiet"]
    for row in rows:
        speeds = row["documents_per_second"]
        assert speeds.keys() == {"one thread", "in a loop", "asleep", "as it suits"}
        assert min(speeds.values()) > 0
        rival = "one thread" if row["situation"] == "busy" else "in a loop"
        assert row["ratio"] == speeds["as it suits"] / speeds[rival]


def test_the_other_programs_end(monkeypatch):
    started = []

    class Noted(subprocess.Popen):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            started.append(self)

    monkeypatch.setattr(bench_busy.subprocess, "Popen", Noted)
    states = []

    def interrupted():
        with bench_busy.others(2):
            states.extend(program.poll() for program in started)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert states == [None, None]
    assert len(started) == 2
    assert all(program.poll() is not None for program in started)
    assert sys.executable == started[0].args[0]
