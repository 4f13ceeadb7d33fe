"""Hyper-parameters with which every model is tiny, and still learns the tests' documents."""

from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch

from dlnotes.arguments import fields_of
from dlnotes.models import MODELS
from dlnotes.training.fit import Fitting, fit
from dlnotes.training.objectives import Hierarchical, SingleLabel
from dlnotes.training.schedule import SCHEDULES

FUSED_ON_CPU = torch.__version__ >= torch.torch_version.TorchVersion("2.4")
"""Whether torch has fused SGD, Adagrad and Adam for the CPU."""

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


def pairs(n, seed):
    """Documents of 3 to 9 words; the label is the class whose words are in the majority."""
    random = np.random.default_rng(seed)
    words = {"sport": ["goal", "team", "match"], "tech": ["chip", "code", "web"], "law": ["court", "judge"]}  # fmt: skip
    labels = sorted(words)
    out = []
    for i in range(n):
        label = labels[i % 3]
        own = random.choice(words[label], 2 + random.integers(3))
        noise = random.choice(["the", "a", "of", "it"], 1 + random.integers(5))
        out.append((label, " ".join(random.permutation(np.concatenate([own, noise])))))
    return out


def make(dataset, name="textcnn", **settings):
    """A tiny model for a data set of three classes, with the same weights at each call."""
    torch.manual_seed(0)
    sizes = {"vocabulary_size": len(dataset.vocabulary), "num_classes": 3}
    return MODELS[name](**sizes, **(SMALL[name] | settings))


def fitted(model, optimizer, train, dev, objective=None, **options):
    """`fit` with all settings as keywords; a schedule may be a function of step and steps."""
    weights = options.pop("class_weights", None)
    smoothing = options.pop("label_smoothing", 0.0)
    if objective is None:
        hierarchical = Hierarchical.suits(model) and not smoothing
        objective = Hierarchical(weights) if hierarchical else SingleLabel(weights, smoothing)
    schedule = options.get("schedule", "constant")
    known = fields_of(Fitting)
    with pytest.MonkeyPatch.context() as patch:
        if callable(schedule):
            patch.setitem(
                SCHEDULES, "a test's", lambda step, steps, warmup=0: schedule(step, steps)
            )
            options["schedule"] = "a test's"
        fitting = Fitting(**{name: options.pop(name) for name in [*options] if name in known})
        return fit(model, optimizer, objective, train, dev, fitting, **options)


def random_stream():
    """A few random numbers from a seed: versions of torch draw different ones."""
    torch.manual_seed(0)
    normal = torch.nn.init.normal_(torch.empty(64))
    uniform = torch.nn.init.uniform_(torch.empty(3, 7))
    dropped = torch.nn.functional.dropout(torch.arange(288.0).view(24, 12), 0.5)
    return [
        float(x.double().square().sum()) + float(x.flatten()[-1])
        for x in (normal, uniform, dropped)
    ]


@contextmanager
def without_tf32():
    """TF32 has ten bits."""
    matmul = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        # torch's own tests, once imported, allow cuDNN's settings to change in this way alone.
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = matmul
