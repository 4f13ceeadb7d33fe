"""``dlnotes train …``, with a signal to one process after an update of the first attempt.

``torchrun … dying.py SIGNAL RANK UPDATE DTYPE …``; the rest of the line is that of
``dlnotes train``. In float64 the order in which processes add gradients up makes no difference
that momentum or a ReLU could make large.
"""

import os
import signal
import sys

import torch

from dlnotes import launch
from dlnotes.commands import run
from dlnotes.training import fit

if __name__ == "__main__":
    name, rank, last, dtype, *arguments = sys.argv[1:]
    torch.set_default_dtype(getattr(torch, dtype))
    update = fit._Loop.update

    def dying(loop, indices):
        found = update(loop, indices)
        if (loop.state.step, launch.rank(), launch.restart_count()) == (int(last), int(rank), 0):
            os.kill(os.getpid(), getattr(signal, name))
        return found

    fit._Loop.update = dying
    run("train", arguments)
