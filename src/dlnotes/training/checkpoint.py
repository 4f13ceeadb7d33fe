"""Checkpoints: all that a run needs to go on bit for bit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from dlnotes.errors import UserError
from dlnotes.files import write_atomically


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write `state`, the random-number generators' states and torch's version atomically."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    random = {"cpu": torch.get_rng_state(), "cuda": cuda}
    whole = {**state, "random": random, "torch": str(torch.__version__)}
    write_atomically(path, lambda temporary: torch.save(whole, temporary))


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read what `save_checkpoint` wrote.

    Raises:
        UserError: There is no such file, it cannot be read, or it is not a checkpoint of dlnotes.
    """
    again = "train again without --resume, into another --out"
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except FileNotFoundError as error:
        told = f"{path} does not exist: there is nothing to resume; leave out --resume"
        raise UserError(told) from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    if empty:
        raise UserError(f"{path} is not a checkpoint of dlnotes: it is empty; {again}")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # an unpickler may trip over a damaged file in any way
        told = f"{path} is not a checkpoint of dlnotes, or is damaged; {again}"
        raise UserError(told) from error
    if not isinstance(state, dict) or "random" not in state:
        raise UserError(f"{path} is not a checkpoint of dlnotes; {again}")
    return state


def restore_random(random: Mapping[str, Any]) -> None:
    """Give the random-number generators the states that a checkpoint has under ``random``.

    Those of CUDA only where there are as many devices as there were.
    """
    torch.set_rng_state(random["cpu"])
    if random["cuda"] and len(random["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(random["cuda"])
