"""What a model makes of token ids alone, made by the host while a GPU works.

Cutting documents into sentences or hashing n-grams takes dozens of small operations on integers. A
GPU would have to be told each of them, and would have to be waited for before a size among the
results is known. The host has the documents before the GPU does, so it can do this itself
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
        """What the forward pass reads of the tokens; no parameter is involved."""
        ...


def attach(model: Prepares, tokens: Int[Tensor, "b t"], made: tuple[Tensor, ...]) -> None:
    """Say what ``model.prepare`` returned for these tokens, wherever it was computed.

    Args:
        model: Whose it is; other models do not see it.
        tokens: The documents, as the model will get them: what is made of this tensor by an
            operation has nothing attached.
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
    """What was attached to the tokens for this model, or else what it makes of them here."""
    made = attached(model, tokens)
    return model.prepare(tokens) if made is None else made


def _version(tokens: Any) -> int:
    """How often a tensor has been changed in place; one of inference mode does not count."""
    return 0 if tokens.is_inference() else int(tokens._version)
