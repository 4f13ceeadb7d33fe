"""Save and load a model's weights in safetensors format, checked against the model on loading."""

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
from dlnotes.training.finite import defect
from dlnotes.training.folder import WEIGHTS

_BELONGS_TO = "belongs_to"
_FEW = 1 << 20  # tokens that cost little to read; a wrong number is found with the weights' shapes


class _MismatchError(Exception):
    """The weights belong to another model than the one that is described."""


class _HasModel(Protocol):
    model: nn.Module


_Made = TypeVar("_Made", bound=_HasModel)


def digest_of(config: Mapping[str, Any], fields: Iterable[str], *parts: Any) -> str:
    """SHA-256 of what the other files in the weights' folder contain.

    The order of names does not matter.

    Args:
        config: Content of `CONFIG`. Fields that are not in `fields` are ignored, so that later
            versions may add some.
        fields: Names of the fields that are used, in addition to the format.
        parts: Contents of the other files, in types that JSON has.
    """
    used = {name: config[name] for name in ("format", *fields)}
    return hashlib.sha256(json.dumps((used, *parts), sort_keys=True).encode()).hexdigest()


def weights_writer(
    model: nn.Module, folder: Path, belongs_to: str | None = None
) -> Callable[[Path], None]:
    """A function that writes a model's weights, for `dlnotes.files.write_together`.

    Args:
        model: The model.
        folder: Folder of the `WEIGHTS` file, for messages.
        belongs_to: Digest of the folder's other files, see `digest_of`.

    Raises:
        UserError: The weights are not finite.
    """
    if found := defect(model):
        raise UserError(f"{folder / WEIGHTS} is not written: {found}")
    weights: dict[str, Tensor] = {}
    places = set()
    for name, weight in model.state_dict().items():
        # Weights that two layers share are written twice, since safetensors refuses shared memory.
        shared = weight.data_ptr() in places
        places.add(weight.data_ptr())
        weights[name] = weight.clone() if shared else weight.contiguous()
    metadata = None if belongs_to is None else {_BELONGS_TO: belongs_to}
    return lambda path: save_file(weights, path, metadata)


def max_vocabulary_size(folder: Path) -> int:
    """Upper bound of the number of tokens in the vocabulary that belongs to a folder's weights.

    The weights have a vector for each token, of at least one number of two bytes.

    Args:
        folder: Folder of the `WEIGHTS` file.

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
    """Create a model and load the weights that `weights_writer` wrote into it.

    The model is first created without memory, on the device "meta", and compared with the names and
    shapes in the header of the file. Sizes that do not fit the weights are thus refused before they
    are allocated.

    Args:
        make: Creates an object with the untrained model.
        folder: Folder of the `WEIGHTS` file.
        what: Description of the model by the folder's other files, for messages.
        belongs_to: Digest of the other files, see `digest_of`.

    Returns:
        The result of `make`, whose model is in evaluation mode.

    Raises:
        UserError: There are no weights, they are damaged or not finite, or they belong to another
            model; or `make` raises it.
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
    """The weights that a model would have, on the device "meta": without memory and values.

    Args:
        make: Creates the model.
    """
    with torch.device("meta"), _Sketching(sys.maxsize):
        return make().state_dict()


# Functions that set weights in place when a layer is created.
_SETTERS = ("uniform_", "normal_", "zero_", "fill_", "copy_", "constant_", "kaiming_uniform_")


class _Sketching(TorchFunctionMode):
    """Stops the creation of a model that has many more layers than the file has weights for.

    No weight is initialized, since the first use of that on the device "meta" takes seconds.
    """

    def __init__(self, tensors: int) -> None:
        super().__init__()
        self.left = tensors

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") in _SETTERS:
            return args[0] if args else kwargs["tensor"]  # functions of torch.nn.init use keywords
        result = func(*args, **kwargs)
        if isinstance(result, Tensor):  # never stop functions that turn gradients off and on again
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
