"""What a model computes from token ids alone, computed by the host while a GPU works.

Cutting documents into sentences or hashing n-grams takes dozens of small operations on integers. On
a GPU the host would have to launch each of them, and to wait before it knows a size that depends on
the result. The host has the documents before the GPU does, so it can do this itself
(`dlnotes.training.transfer`), and a model finds the results attached to its tokens.
"""

from __future__ import annotations

from typing import Any, Protocol, cast

import torch
from jaxtyping import Int
from torch import Tensor


class Prepares(Protocol):
    """A model whose forward pass begins with a function of the token ids alone."""

    def prepare(self, tokens: Int[Tensor, "b t"]) -> tuple[Tensor, ...]:
        """What the forward pass needs of the tokens; no parameter is involved."""
        ...


def attach(model: Prepares, tokens: Int[Tensor, "b t"], made: tuple[Tensor, ...]) -> None:
    """Attach to tokens what ``model.prepare`` returned for them, wherever it was computed.

    Args:
        model: The model; others do not see it.
        tokens: The very tensor of documents that the model will get: a tensor that an operation
            makes of it has nothing attached.
        made: The result, on the device of the tokens.
    """
    vars(tokens)["_prepared"] = (model, _version(tokens), made)


def attached(model: Prepares, tokens: Int[Tensor, "b t"]) -> tuple[Tensor, ...] | None:
    """What was attached for this model; None if nothing was, or the tokens have changed since."""
    if torch.compiler.is_compiling():
        return None
    owner, version, made = vars(tokens).get("_prepared", (None, None, None))
    if owner is not model or version != _version(tokens):
        return None
    return cast("tuple[Tensor, ...]", made)


def prepared(model: Prepares, tokens: Int[Tensor, "b t"]) -> tuple[Tensor, ...]:
    """What was attached to the tokens for this model; if nothing was, it is computed now."""
    made = attached(model, tokens)
    return model.prepare(tokens) if made is None else made


def _version(tokens: Any) -> int:
    """How often a tensor has been changed in place; one of inference mode does not count."""
    return 0 if tokens.is_inference() else int(tokens._version)
