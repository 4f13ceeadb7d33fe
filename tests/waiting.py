"""What would make a program wait for a GPU is an error, on a CPU as well."""

import contextlib
import warnings

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class Waits(TorchDispatchMode):
    """Raises at an operation that has to wait for a GPU to know a size or a number.

    Wider than ``torch.cuda.set_sync_debug_mode``, which does not know torch.sparse, and on any
    device, so that it finds on a CPU what would wait on a GPU.
    """

    NAMES = (
        *("_local_scalar_dense", "is_nonzero", "equal", "nonzero", "masked_select", "coalesce"),
        *("_coalesce", "_unique2", "unique_dim", "unique_consecutive", "_pack_padded_sequence"),
        *("bincount", "sparse_mask", "repeat_interleave"),
    )

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if name in self.NAMES or (name.startswith("index") and _has_a_mask(args)):
            raise RuntimeError(f"{func} waits for the device")
        return func(*args, **(kwargs or {}))


def _has_a_mask(args):
    indices = args[1] if len(args) > 1 and isinstance(args[1], (list, tuple)) else ()
    return any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in indices)


@contextlib.contextmanager
def no_waiting(device):
    """Neither what `Waits` knows nor what CUDA knows."""
    with cuda_errors(device), Waits():
        yield


@contextlib.contextmanager
def cuda_errors(device):
    """What CUDA knows to wait is an error."""
    if device.type != "cuda":
        yield
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the mode is a prototype
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")
