"""Processes that compute for a command end with it, however it ends."""

import os
import signal
import subprocess
import sys
import time

import pytest

PROGRAM = """
import os, time
from dlnotes.claims.workers import _pool
if __name__ == "__main__":
    print(_pool(1).submit(os.getpid).result(), flush=True)
    time.sleep(600)
"""


def is_there(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_workers_of_a_command_that_is_killed_do_not_stay(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, str(tmp_path / "program.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        worker = int(program.stdout.readline())
        assert is_there(worker)
        program.send_signal(signal.SIGKILL)
        program.wait()
        end = time.monotonic() + 60
        while is_there(worker) and time.monotonic() < end:
            time.sleep(0.05)
    assert not is_there(worker)
