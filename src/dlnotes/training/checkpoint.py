"""Checkpoints: everything that a run needs to be resumed bit for bit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from dlnotes.errors import UserError, memory_for
from dlnotes.files import check_regular, check_stored, write_atomically

DEFAULTS_BEFORE: dict[str, Any] = {
    "recipe": "plain",
    "calibrate": False,
    "precision": None,
    "label_separator": None,
    "multi_label": None,
    "focal_gamma": 0.0,
    "parent": None,
    "merges": None,
    "compile": False,
}
"""Settings that were added later, with the values that describe what earlier versions did."""

_PATHS = ("vectors", "boost")  # paths, which are compared as absolute ones
_OF_THE_MACHINE = ("micro_batch_size", "shard")  # change the result of a training by rounding only


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write `state` atomically, with torch's version and, unless it has one, `random_state`."""
    whole = {"random": random_state(), **state, "torch": str(torch.__version__)}
    write_atomically(path, lambda temporary: torch.save(whole, temporary))


def random_state() -> dict[str, Any]:
    """States of torch's global random-number generators."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def load_checkpoint(path: Path, *, mmap: bool = False) -> dict[str, Any]:
    """Read what `save_checkpoint` wrote.

    Args:
        path: The file.
        mmap: Read each tensor only when it is used, which saves time where none is needed.

    Raises:
        UserError: The file does not exist, cannot be read, or is not a checkpoint of dlnotes.
    """
    again = "train again without --resume, into another --out"
    try:
        check_regular(path)
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
        structure = check_stored(path)
        with memory_for(str(path)):
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
        _check_tree(state, structure)
    except UserError:
        raise
    except Exception as error:  # on a damaged file an unpickler may raise anything
        told = f"{path} is not a checkpoint of dlnotes, or is damaged; {again}"
        raise UserError(told) from error
    mappings = ("settings", "documents")
    if (
        not isinstance(state, dict)
        or "random" not in state
        or not all(isinstance(state.get(name, {}), dict | None) for name in mappings)
    ):
        raise UserError(f"{path} is not a checkpoint of dlnotes; {again}")
    return state


def _check_tree(saved: Any, most: int) -> None:
    """Refuse nested lists that contain the same list again and again.

    They take a few bytes, but forever to walk: with 60 levels of lists that hold the next one
    twice, the innermost list is visited 2 to the power of 60 times.

    Args:
        saved: What a pickle holds.
        most: The size of the pickle in bytes. Each value takes at least one, unless it is repeated.

    Raises:
        ValueError: There are more values than that, or they are nested more than 100 deep.
    """
    level, seen = [saved], 0
    for _ in range(100):
        level = [
            inner
            for value in level
            if isinstance(value, dict | list | tuple)
            for inner in (value.values() if isinstance(value, dict) else value)
        ]
        seen += len(level)
        if seen > 2 * most + 1000:
            raise ValueError("it holds the same values again and again")
    if level:
        raise ValueError("it is nested too deeply")


def restore_random(random: Mapping[str, Any]) -> None:
    """Restore the states of the random-number generators, a checkpoint's entry ``random``.

    The states of CUDA are restored only if there are as many devices as before.
    """
    torch.set_rng_state(random["cpu"])
    if random["cuda"] and len(random["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(random["cuda"])


def check_same_settings(
    checkpoint: Path,
    before: Mapping[str, Any] | None,
    now: Mapping[str, Any] | None,
    *,
    documents: tuple[Mapping[str, int], Mapping[str, int]] = ({}, {}),
) -> None:
    """Require a resumed training to have the settings of its checkpoint.

    A setting that the checkpoint lacks is taken from `DEFAULTS_BEFORE`, or else is not compared.
    `micro_batch_size` and `shard` may change, since the training may have run out of memory.

    Args:
        checkpoint: The file, for the message.
        before: The settings in it.
        now: The settings of the resumed training.
        documents: How many documents each split had before and has now, where that is known.

    Raises:
        UserError: A setting has changed.
    """
    for name, value in (now or {}).items():
        was = (before or {}).get(name, DEFAULTS_BEFORE.get(name, value))
        if name in _OF_THE_MACHINE:
            continue
        if name in _PATHS:
            same = _absolute(was) == _absolute(value)
        else:
            same = _plain(was) == _plain(value)
        if same:
            continue
        if name == "data" and isinstance(was, Mapping):
            changed = [
                _difference(split, split in was, split in value, *(d.get(split) for d in documents))
                for split in dict.fromkeys([*was, *value])
                if was.get(split) != value.get(split)
            ]
            raise UserError(
                f"{checkpoint} was written with other documents ({'; '.join(changed)}): resume "
                "with the same files, or give another --out"
            )
        raise UserError(
            f"{checkpoint} was written with {name}={_cut(was)}, now it is {_cut(value)}: resume "
            "with the same settings, or give another --out"
        )


def _cut(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}…"


def _absolute(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_absolute(each) for each in value]
    return str(Path(value).absolute()) if isinstance(value, str | Path) else value


def _difference(
    split: str, there_before: bool, there_now: bool, before: int | None, now: int | None
) -> str:
    """How the documents of a split have changed, in a few words."""
    if not there_before:
        return f"{split} was not given then"
    if not there_now:
        return f"{split} was given then"
    if before is None or now is None:
        return f"those of {split} have changed"
    return f"{split} had {before:,} documents, now " + (
        f"it has {now:,}" if now != before else "as many others"
    )


def _plain(value: Any) -> Any:
    """Replace tuples by lists, since a file may not distinguish them."""
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value
