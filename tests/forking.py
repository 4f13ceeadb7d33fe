"""A function in a process of its own, which it may kill.

Scripts that use this run with this folder on PYTHONPATH.
"""

import multiprocessing
import os
import signal
import traceback

import torch


def error_in_a_process(function, *arguments, seconds=120):
    """As `error_in_a_fork`, in a process that inherits none of the threads and locks of this one.

    A lock that another thread holds while a process forks is held for ever in the fork, so what
    trains is called like this. The function must be one of a module.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["dlnotes.training.train"])
    receiving, sending = context.Pipe(duplex=False)
    child = context.Process(target=_called, args=(sending, seconds, function, arguments))
    child.start()
    sending.close()
    try:
        message = receiving.recv()
    except EOFError:
        message = ""
    child.join()
    return _told(message, child.exitcode)


def _called(sending, seconds, function, arguments):
    torch.set_num_threads(1)  # as in the tests, for the same bits
    sending.send(_error(function, arguments, seconds))


def _error(function, arguments, seconds):
    """What went wrong in this process, which ends after so many seconds."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # Python's handler would wait for C to return
    signal.alarm(seconds)
    try:
        function(*arguments)
    except BaseException:
        return traceback.format_exc(limit=-4)
    return ""


def _told(message, code):
    if code < 0:
        return f"{message}killed by signal {-code}"
    return message or ("" if code == 0 else f"exit status {code}")


def error_in_a_fork(function, *arguments, seconds=120):
    """What went wrong when a fork of this process called a function; empty if nothing did."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        message = _error(function, arguments, seconds)
        os.write(writing, message.encode()[-4000:])
        os._exit(1 if message else 0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        message = pipe.read().decode(errors="replace")
    _, status = os.waitpid(child, 0)
    return _told(message, os.waitstatus_to_exitcode(status))
