"""Choice of the device by its name."""

from __future__ import annotations

import torch

from dlnotes.errors import UserError

_KINDS = ("cpu", "cuda", "mps")


def choose_device(name: str | torch.device, *, amp: bool = False) -> torch.device:
    """A device by name.

    Args:
        name: ``cpu``, ``cuda``, a numbered one such as ``cuda:1``, or ``mps`` (Apple's, on which
            dlnotes is not tested). ``auto`` is CUDA where it is available, otherwise the CPU. Or a
            ``torch.device``, which is returned unchanged if it is of any other type.
        amp: Whether to compute in bf16 autocast.

    Raises:
        UserError: The name is unknown, the device is not available, or `amp` is used without CUDA.
    """
    if isinstance(name, torch.device) and name.type not in _KINDS:
        return name
    name = str(name)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, number = name.partition(":")
    if kind not in _KINDS or (":" in name and not number.isdecimal()):
        raise UserError(f"device must be auto, cpu, cuda, cuda:1 (and so on) or mps, not {name!r}")
    if kind == "cuda" and not torch.cuda.is_available():
        raise UserError(f"device is {name}, but torch sees no CUDA device here; use cpu or auto")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise UserError("device is mps, but torch has no MPS here; use cpu or auto")
    found = torch.cuda.device_count() if kind == "cuda" else 1
    if number and int(number) >= found:
        raise UserError(f"device is {name}, but there are {found} of them, counted from 0")
    if amp and kind != "cuda":
        raise UserError("amp (bf16 autocast) needs a CUDA device; leave it out on a CPU")
    return torch.device(name)
