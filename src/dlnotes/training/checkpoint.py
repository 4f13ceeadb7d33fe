"""Checkpoints: all that a run needs to go on bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from dlnotes.errors import UserError
from dlnotes.files import write_atomically


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write `state` and the random-number generators' states atomically."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    random = {"cpu": torch.get_rng_state(), "cuda": cuda}
    write_atomically(path, lambda temporary: torch.save({**state, "random": random}, temporary))


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read what `save_checkpoint` wrote and restore the generators' states.

    Raises:
        UserError: There is no such file, or it is not a checkpoint of dlnotes.
    """
    if not path.exists():
        raise UserError(f"{path} does not exist: there is nothing to resume; leave out --resume")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        random = state.pop("random")
        torch.set_rng_state(random["cpu"])
        if random["cuda"] and len(random["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(random["cuda"])
    except Exception as e:  # an unpickler may trip over a damaged file in any way
        raise UserError(
            f"{path} is not a checkpoint of dlnotes, or is damaged; train again without --resume"
        ) from e
    return dict(state)
