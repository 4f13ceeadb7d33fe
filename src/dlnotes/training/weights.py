"""Weights of a model in a file of numbers, which is compared with the model before it is read."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from dlnotes.errors import UserError
from dlnotes.files import check_regular, in_utf8
from dlnotes.training.folder import WEIGHTS
from dlnotes.training.sound import defect

_BELONGS_TO = "belongs_to"
_FEW = 1 << 20  # tokens, which cost little, and are told of when the weights are looked at


class _MismatchError(Exception):
    """The weights are of another model than the one that is described."""


class _HasModel(Protocol):
    model: nn.Module


_Made = TypeVar("_Made", bound=_HasModel)


def digest_of(config: Mapping[str, Any], fields: Iterable[str], *parts: Any) -> str:
    """SHA-256 of what belongs to the weights in a folder, whatever the order of names.

    Args:
        config: What `CONFIG` holds. Other fields than those named do not count, so that a later
            version may add some.
        fields: Names of the fields that are used, beside the format.
        parts: What the other files hold, as JSON can hold it.
    """
    used = {name: config[name] for name in ("format", *fields)}
    return hashlib.sha256(json.dumps((used, *parts), sort_keys=True).encode()).hexdigest()


def weights_writer(
    model: nn.Module, folder: Path, belongs_to: str | None = None
) -> Callable[[Path], None]:
    """What writes a model's weights, for `dlnotes.files.write_together`.

    Args:
        model: The model.
        folder: Where `WEIGHTS` is to be, for messages.
        belongs_to: Digest of what the folder's other files hold.

    Raises:
        UserError: The weights are not finite.
    """
    if found := defect(model):
        raise UserError(f"{folder / WEIGHTS} is not written: {found}")
    weights: dict[str, Tensor] = {}
    places = set()
    for name, weight in model.state_dict().items():
        # Of weights that two layers share the file holds two copies: safetensors refuses one.
        shared = weight.data_ptr() in places
        places.add(weight.data_ptr())
        weights[name] = weight.clone() if shared else weight.contiguous()
    metadata = None if belongs_to is None else {_BELONGS_TO: belongs_to}
    return lambda path: save_file(weights, path, metadata)


def most_tokens(folder: Path) -> int:
    """How many tokens a vocabulary may have beside the weights in a folder.

    Each has a vector of one number of two bytes at least.

    Args:
        folder: Where `WEIGHTS` is.

    Raises:
        UserError: There are no weights.
    """
    return max(_FEW, _existing(folder).stat().st_size // 2)


def _existing(folder: Path) -> Path:
    path = folder / WEIGHTS
    try:
        check_regular(path)
    except FileNotFoundError as error:
        raise UserError(f"{folder} has no {WEIGHTS}: training has not finished") from error
    return path


def with_weights(make: Callable[[], _Made], folder: Path, what: str, belongs_to: str) -> _Made:
    """Make a model and give it the weights that `weights_writer` wrote.

    The model is made without memory first and compared with the names and shapes at the beginning
    of the file, so that sizes that do not fit the weights are refused before they are allocated.

    Args:
        make: Makes what has the untrained model.
        folder: Where `WEIGHTS` is.
        what: What the folder's other files describe, for messages.
        belongs_to: Digest of what the other files hold.

    Returns:
        What `make` made; its model is in evaluation mode.

    Raises:
        UserError: There are no weights, they are damaged or not finite, or they belong to another
            model; what `make` raises.
    """
    path = _existing(folder)
    try:
        with in_utf8(path) as place, safe_open(place, "pt") as file:
            shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
            written_for = (file.metadata() or {}).get(_BELONGS_TO)
        with torch.device("meta"), _Sketching(1_000 + 100 * len(shapes)):
            sketch = _sketch(make, what)
        _check_shapes(shapes, sketch, what)
        if written_for not in (None, belongs_to):
            raise _MismatchError(
                "it was saved with other files than are beside it now; copy or save all of them "
                "together, or wait until they have been written"
            )
        with in_utf8(path) as place:
            weights = load_file(place)
        for name, weight in weights.items():
            if weight.dtype != sketch[name].dtype:
                raise _MismatchError(f"{name} is of {weight.dtype}, not of {sketch[name].dtype}")
    except UserError:
        raise
    except (
        _MismatchError,
        SafetensorError,
        OSError,
        RuntimeError,
        OverflowError,
        KeyError,  # safetensors knows more data types than torch
    ) as error:
        problem = " ".join(str(error).split())[:300]
        raise UserError(f"{path} is damaged or foreign: {problem}") from error
    made = make()
    made.model.load_state_dict(weights)
    if found := defect(made.model):
        raise UserError(f"{path} cannot be used: {found}; train again")
    made.model.eval()
    return made


def sketched(make: Callable[[], nn.Module]) -> dict[str, Tensor]:
    """What the weights of a model would be, without memory and without their values.

    Args:
        make: Makes the model.
    """
    with torch.device("meta"), _Sketching(sys.maxsize):
        return make().state_dict()


# Functions that set weights in place when a layer is made.
_SETTERS = ("uniform_", "normal_", "zero_", "fill_", "copy_", "constant_", "kaiming_uniform_")


class _Sketching(TorchFunctionMode):
    """Stops the making of a model of many more layers than the file has weights for.

    No weight is set: on the device "meta" that takes seconds at its first use.
    """

    def __init__(self, tensors: int) -> None:
        super().__init__()
        self.left = tensors

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") in _SETTERS:
            return args[0] if args else kwargs["tensor"]  # of torch.nn.init
        result = func(*args, **kwargs)
        if isinstance(result, Tensor):  # nothing may stop what turns gradients off and on again
            self.left -= 1
            if self.left < 0:
                raise _MismatchError("it has weights for fewer layers than config.json describes")
        return result


def _sketch(make: Callable[[], _HasModel], what: str) -> dict[str, Tensor]:
    try:
        return make().model.state_dict()
    except (RuntimeError, OverflowError) as error:
        raise _MismatchError(f"{what} with its hyper_parameters is too large to make") from error


def _check_shapes(shapes: Mapping[str, list[int]], sketch: Mapping[str, Tensor], what: str) -> None:
    for name in sketch:
        if name not in shapes:
            raise _MismatchError(f"{name} is missing, which {what} has")
    for name, shape in shapes.items():
        if name not in sketch:
            raise _MismatchError(f"it has {name[:80]!r}, which {what} does not have")
        if shape != (wanted := list(sketch[name].shape)):
            raise _MismatchError(f"{name} has the shape {shape}, but {wanted} in {what}")
