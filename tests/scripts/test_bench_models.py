"""scripts/bench_models.py: both sides train the same model, and are compared only if equally good."""

import json
import statistics
from dataclasses import replace

import numpy as np
import pytest
import torch
from running import process
from torch import nn

import bench_models as bench
from dlnotes.models import MODELS
from dlnotes.nn import QUESTION, SENTENCE_END
from ordinary.training import longest, padded

SIZES = {"vocabulary_size": 30, "num_classes": 3}


def both(name):
    case = bench.CASES[name]
    if name == "fasttext":
        case = replace(case, settings=case.settings | {"buckets": 100})
    alike = {k: v for k, v in case.settings.items() if k not in case.ours_alone}
    return case, MODELS[name](**SIZES, **case.settings), case.ordinary(**SIZES, **alike)


def test_every_model_is_timed():
    assert list(bench.CASES) == list(MODELS)


@pytest.mark.parametrize("name", MODELS)
def test_both_models_are_of_the_same_size(name):
    _, ours, ordinary = both(name)
    sizes = [sum(p.numel() for p in model.parameters()) for model in (ours, ordinary)]
    # RCNN trains the two contexts at a document's ends, too.
    assert sizes[0] - sizes[1] == (2 * 50 if name == "rcnn" else 0)


PREFIXES = {
    "textrnn": {"lstm.": "recurrence."},
    "rcnn": {"rnn.": ""},
    "han": {
        "words.gru.": "words.",
        "words.hidden.": "word_attention.hidden.",
        "words.context.": "word_attention.context.",
        "sentences.gru.": "sentences.",
        "sentences.hidden.": "sentence_attention.hidden.",
        "sentences.context.": "sentence_attention.context.",
    },
    "seq2seq": {
        "label_vectors.": "target_vectors.",
        "maxout.": "maxout.linear.",
        **{f"{part}.": f"alignment.{part}." for part in "WUv"},
    },
    "entnet": {f"{part}.weight": part for part in "UVWH"},
}
DMN = {"W_r": ("W", "b", 0), "W": ("W", "b", 1), "U_r": ("U", "c", 0), "U": ("U", "c", 1)}


@torch.no_grad()
def same_weights(name, ours, ordinary):
    weights = ours.state_dict()
    for theirs, parameter in ordinary.named_parameters():
        part, _, kind = theirs.partition(".")
        if name == "dmn" and part in DMN:
            *which, half = DMN[part]
            parameter.copy_(weights[f"attend.{which[kind == 'bias']}"].chunk(2)[half])
            continue
        key = theirs
        for before, after in PREFIXES.get(name, {}).items():
            if theirs.startswith(before):
                key = after + theirs.removeprefix(before)
        if "_l0" in key and key not in weights:
            front, last = key.rpartition(".")[::2]
            direction = "leftward" if last.endswith("_reverse") else "rightward"
            layer = "" if name == "rcnn" else ".0"
            key = f"{front}.{direction}{layer}.{last.removesuffix('_reverse')}".removeprefix(".")
        if key.endswith("context.weight"):
            key = key.removesuffix(".weight")
        parameter.copy_(weights[key].view_as(parameter))


# Windows of nothing but padding count in the ordinary TextCNN, as everywhere but with us.
@pytest.mark.parametrize("name", [name for name in MODELS if name != "textcnn"])
def test_both_models_give_the_same_scores_with_the_same_weights(name):
    """Padded to more than the batch needs, as the ordinary trainer does."""
    torch.manual_seed(0)
    case, ours, ordinary = both(name)
    same_weights(name, ours.eval(), ordinary.eval())
    random = np.random.default_rng(0)
    documents = [random.integers(4, 30, n).tolist() for n in (9, 5, 7)]
    if name in ("han", "dmn", "entnet"):
        documents = [[*d[:3], SENTENCE_END, *d[3:]] for d in documents]
    if name in ("dmn", "entnet"):
        documents = [[*d, QUESTION, 5, 6, *d[:1]] for d in documents]
    tokens = torch.tensor([d + [0] * (14 - len(d)) for d in documents])
    examples = [case.lists(d, case.settings, 30) for d in documents]
    inputs = []
    for part in zip(*examples, strict=True):
        shape = tuple(n + 2 for n in longest(part))
        inputs.append(torch.tensor([padded(item, shape) for item in part]))
    torch.testing.assert_close(ordinary(*inputs), ours(tokens), rtol=1e-4, atol=1e-5)


def test_two_models_through_the_script(script, files, tmp_path):
    record = tmp_path / "models.json"
    done = script(
        "bench_models", "--models", "textcnn", "rcnn", "--corpus", files.name,
        "--data-dir", files.parent, "--epochs", 8, "--json", record,
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "goals met" in done.out
    written = json.loads(record.read_text())
    assert {"command", "commit", "versions", "machine", "goals"} <= written.keys()
    assert [row["model"] for row in written["rows"]] == ["textcnn", "rcnn"]
    for row in written["rows"]:
        assert row["documents"] == {"train": 180, "dev": 20}
        assert min(row["accuracy"].values()) > 0.9
        pieces = row["pieces"]
        assert len(pieces["ours"]) == len(pieces["ordinary"]) == 8
        ratios = [a / b for a, b in zip(pieces["ours"], pieces["ordinary"], strict=True)]
        assert row["ratio"] == statistics.median(ratios)
        assert row["documents_per_second"] == {s: statistics.median(pieces[s]) for s in pieces}


class Constant(nn.Module):
    """Learns nothing, fast."""

    def __init__(self, *, num_classes, **settings):
        super().__init__()
        self.scores = nn.Parameter(torch.zeros(num_classes))

    def forward(self, tokens):
        return self.scores + torch.zeros(len(tokens), 1)


def test_no_time_is_shown_of_a_model_that_is_less_accurate(script, files, tmp_path, monkeypatch):
    monkeypatch.setitem(MODELS, "textcnn", Constant)
    record = tmp_path / "models.json"
    done = script(
        "bench_models", "--models", "textcnn", "--corpus", files.name,
        "--data-dir", files.parent, "--epochs", 8, "--json", record,
    )  # fmt: skip
    assert done.code == 1
    assert "not equally accurate: textcnn: accuracy 0.500 on dev, the ordinary model's" in done.err
    (row,) = json.loads(record.read_text())["rows"]
    assert "documents_per_second" not in row
    assert "ratio" not in row


@pytest.mark.parametrize(
    ("ours", "ordinary", "says"),
    [
        (0.86, 0.90, "accuracy 0.860"),
        (0.88, 0.90, None),
        (0.99, 0.90, None),
        (0.90, 0.61, "has only 0.610"),  # of the largest class there are 0.6
        (float("nan"), 0.90, "accuracy nan"),
        (0.90, float("nan"), "ordinary model's nan"),
    ],
)
def test_accuracies_that_may_be_compared(ours, ordinary, says):
    labels = np.array([0] * 6 + [1] * 4)
    reason = bench.unequal({"ours": ours, "ordinary": ordinary}, labels, 3.0)
    assert (reason is None) if says is None else says in reason


def test_an_unknown_model_is_a_mistake_wherever_the_script_is_started(tmp_path):
    """In a process of its own, which finds the ordinary models by itself."""
    started = process("bench_models", "--models", "textcmm", cwd=tmp_path)
    _, err = started.communicate()
    assert started.returncode == 2
    assert "no model 'textcmm'" in err
