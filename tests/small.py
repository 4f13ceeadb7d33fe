"""Hyper-parameters with which every model is tiny, and still learns the tests' documents."""

from typing import Any

import torch

from dlnotes.models import MODELS

SMALL: dict[str, dict[str, Any]] = {
    "fasttext": {"buckets": 100},
    "textcnn": {"embedding_dim": 8, "maps": 4},
    "textrnn": {"embedding_dim": 8, "hidden_size": 4},
    "rcnn": {"embedding_dim": 8, "context_size": 4, "hidden_size": 8},
    "han": {"embedding_dim": 8, "hidden_size": 4, "context_size": 8},
    "seq2seq": {"embedding_dim": 8, "hidden_size": 4, "maxout_size": 8},
    "transformer": {
        "embedding_dim": 8,
        "num_heads": 2,
        "num_layers": 1,
        "feedforward_dim": 8,
    },
    "dmn": {"embedding_dim": 8, "hidden_size": 8, "passes": 2},
    "entnet": {"embedding_dim": 8, "slots": 4},
}


def model_args(name: str) -> list[str]:
    """The same for the command line."""
    return ["--model-args", *(f"{key}={value}" for key, value in SMALL[name].items())]


def make(dataset, name="textcnn", **settings):
    """A tiny model for a data set of three classes, with the same weights at each call."""
    torch.manual_seed(0)
    sizes = {"vocabulary_size": len(dataset.vocabulary), "num_classes": 3}
    return MODELS[name](**sizes, **(SMALL[name] | settings))
