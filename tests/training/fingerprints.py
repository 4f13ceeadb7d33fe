"""Losses and scores of short trainings of every model, written down before the core was rebuilt.

``python tests/training/fingerprints.py`` writes those of this version of torch again; that is right
only where numbers are meant to change, and the commit then says why.
"""

import json
import platform
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from dlnotes.data.dataset import load_dataset
from dlnotes.data.pairs import load_pairs
from dlnotes.training.record import provenance
from dlnotes.training.train import train_classifier
from dlnotes.training.translation import train_translator
from small import SMALL, random_stream

FILE = Path(__file__).with_name("fingerprints.json")
UPDATES = 20

_SHARED = {"epochs": 3, "batch_size": 24, "device": "cpu", "progress": False}

CLASSIFIERS = {
    "fasttext": {"lr": 0.05},
    "fasttext, hierarchical": {"lr": 0.05, "model_settings": {"output": "hierarchical"}},
    "fasttext, hierarchical, weighted": {
        "lr": 0.05,
        "model_settings": {"output": "hierarchical"},
        "class_weights": "balanced",
    },
    "fasttext, weighted, smoothed": {
        "lr": 0.05,
        "class_weights": "balanced",
        "label_smoothing": 0.1,
    },
    "fasttext, refit": {"lr": 0.05, "refit": True, "patience": 1},
    "textcnn": {"schedule": "linear", "label_smoothing": 0.1, "clip_norm": 0.5},
    "textrnn": {"optimizer": "rmsprop", "warmup": 0.2},
    "rcnn": {"optimizer": "nesterov", "lr": 0.05},
    "han": {"optimizer": "adadelta", "lr": 1.0},
    "seq2seq": {"optimizer": "adagrad", "lr": 0.01, "class_weights": "balanced"},
    "transformer": {"schedule": "inverse_sqrt", "warmup": 0.1, "optimizer": "adamw"},
    "dmn": {"optimizer": "momentum", "lr": 0.01},
    "entnet": {"schedule": "halving", "batch_size": 0, "epochs": UPDATES},
}
TRANSLATORS = {
    "seq2seq": {"embedding_dim": 8, "hidden_size": 8, "maxout_size": 8},
    "transformer": {"embedding_dim": 8, "num_heads": 2, "num_layers": 1, "feedforward_dim": 8},
}


def kind():
    """Where numbers are the same to the last bit."""
    return {
        "processor": provenance(0)["machine"]["processor"],
        "vectors": torch.backends.cpu.get_cpu_capability(),
        "system": platform.system(),
        "torch": torch.__version__,
        "stream": random_stream(),
    }


def documents(n, seed):
    """Three classes, each with words of its own; rarer classes come later."""
    random = np.random.default_rng(seed)
    words = [["goal", "team", "match"], ["chip", "code", "web"], ["court", "judge"]]
    found = []
    for i in range(n):
        label = min(2, int(3 * random.random() ** 1.5))
        own = random.choice(words[label], 2 + random.integers(3))
        noise = random.choice(["the", "a", "of", "it", "."], 1 + random.integers(6))
        found.append((f"class {label}", " ".join(random.permutation([*own, *noise]))))
        del i
    return found


def losses_of(train):
    """What `train` returns, and the loss of each of its first updates."""
    losses = []
    backward = torch.Tensor.backward

    def noting(self, *args, **kwargs):
        losses.append(self.item())
        return backward(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "backward", noting)
        result = train()
    return result, losses[:UPDATES]


def classifier(name):
    """Fingerprint of a classifier's training."""
    settings = _SHARED | CLASSIFIERS[name]
    model = name.split(",")[0]
    own = SMALL[model] | settings.pop("model_settings", {})
    reading = {"tokenizer": "sentences" if model in ("han", "dmn", "entnet") else "basic_english"}
    sources = {"train": documents(240, 0), "test": documents(60, 1)}
    dataset = load_dataset(sources, split_seed=0, **reading)
    (trained, record), losses = losses_of(
        lambda: train_classifier(dataset, model, model_settings=own, recipe="plain", **settings)
    )
    scores = trained.probabilities([text for _, text in documents(8, 2)])
    return {
        "losses": losses,
        "dev": record["dev"]["loss"],
        "test": [record["test"][figure] for figure in ("loss", "accuracy", "macro_f1")],
        "probabilities": scores.flatten().tolist(),
    }


def translator(name, folder):
    """Fingerprint of a translator's training."""
    random = np.random.default_rng(0)
    for split, n in (("train", 120), ("val", 24), ("test2016", 12)):
        lines = [" ".join(random.choice(["ein", "zwei", "drei"], 3)) for _ in range(n)]
        english = dict(zip(("ein", "zwei", "drei"), ("one", "two", "three"), strict=True))
        (folder / f"{split}.de").write_text("".join(f"{line}\n" for line in lines))
        said = [" ".join(english[word] for word in line.split()) for line in lines]
        (folder / f"{split}.en").write_text("".join(f"{line}\n" for line in said))
    data = load_pairs(folder, source="de", target="en", dev="val")
    (_, record), losses = losses_of(
        lambda: train_translator(
            data,
            name,
            out=folder / "run",
            model_settings=TRANSLATORS[name],
            lr=0.01,
            label_smoothing=0.1,
            clip_norm=0.5,
            **_SHARED,
        )
    )
    return {
        "losses": losses,
        "dev": record["dev"]["loss"],
        "test": [record["test"]["detokenized"]["bleu"], record["test"]["tokenized"]["bleu"]],
    }


def main():
    from tempfile import TemporaryDirectory

    torch.set_num_threads(1)
    found = {f"classifier {name}": classifier(name) for name in CLASSIFIERS}
    for name in TRANSLATORS:
        with TemporaryDirectory() as folder:
            found[f"translator {name}"] = translator(name, Path(folder))
    made = {"made with": provenance(0)["commit"], "kind": kind(), "fingerprints": found}
    others = [
        one for one in json.loads(FILE.read_text()) if one["kind"]["torch"] != torch.__version__
    ]
    FILE.write_text(json.dumps([made, *others], indent=1) + "\n")


if __name__ == "__main__":
    main()
