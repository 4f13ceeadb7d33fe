"""``dlnotes train …``, where the first process takes very long for one thing.

``torchrun … slow.py PLACE SIGN …``; the file SIGN is there once it has begun, and SIGN with a rank
at its end holds the number of that process; the rest of the line is that of ``dlnotes train``.
"""

import os
import sys
import time
from pathlib import Path

from dlnotes import launch
from dlnotes.commands import run, train
from dlnotes.training.distributed import Group

if __name__ == "__main__":
    place, sign, *arguments = sys.argv[1:]
    Path(f"{sign}{launch.rank()}").write_text(str(os.getpid()))

    def wait():
        Path(sign).touch()
        time.sleep(0.2)

    if launch.rank() == 0 and place == "reading":
        load = train.load_dataset

        def load_dataset(*given, **options):
            for _ in range(300):
                wait()
            return load(*given, **options)

        train.load_dataset = load_dataset
    if launch.rank() == 0 and place == "evaluation":
        own_batches = Group.own_batches

        def slow(group, batches):
            for batch in own_batches(group, [next(iter(batches))] * 600):
                wait()
                yield batch

        Group.own_batches = slow
    run("train", arguments)
