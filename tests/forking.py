"""A function in a process of its own, which it may kill.

Scripts that use this run with this folder on PYTHONPATH.
"""

import os
import signal
import traceback


def error_in_a_fork(function, *arguments, seconds=120):
    """What went wrong when a fork of this process called a function; empty if nothing did."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        signal.alarm(seconds)
        message = ""
        try:
            function(*arguments)
        except BaseException:
            message = traceback.format_exc(limit=-4)
        os.write(writing, message.encode()[-4000:])
        os._exit(1 if message else 0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        message = pipe.read().decode(errors="replace")
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return f"{message}killed by signal {os.WTERMSIG(status)}"
    return message or ("" if status == 0 else f"exit status {status}")
