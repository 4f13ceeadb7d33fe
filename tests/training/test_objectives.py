"""What depends on the kind of label: losses against torch's and NumPy's, decisions, figures."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dlnotes.data.documents import Batch
from dlnotes.errors import UserError
from dlnotes.optim import Adam
from dlnotes.training.board import Board
from dlnotes.training.fit import Fitting, fit
from dlnotes.training.multi_label import multi_label_metrics
from dlnotes.training.objectives import Hierarchical, MultiLabel, SingleLabel


def logits_and_labels(n=50, c=7, seed=0):
    torch.manual_seed(seed)
    return 3 * torch.randn(n, c), (torch.rand(n, c) < 0.3).long()


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_loss_of_several_labels_is_the_formula(weighted, smoothing):
    logits, labels = logits_and_labels()
    weights = torch.linspace(0.5, 4, 7) if weighted else None
    found = MultiLabel(weights, smoothing).loss(logits.bfloat16(), labels)
    z = logits.bfloat16().double().numpy()
    w = np.ones(7) if weights is None else weights.double().numpy()
    y = (1 - smoothing) * labels.double().numpy() + smoothing / 2
    log_p, log_q = -np.logaddexp(0, -z), -np.logaddexp(0, z)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(-(w * y * log_p + (1 - y) * log_q).sum(1).mean(), rel=1e-5)


def test_each_label_is_decided_by_its_own_probability():
    logits = torch.tensor([[0.0, 1.0, -1.0], [-9.0, -9.0, -9.0]])
    objective = MultiLabel()
    torch.testing.assert_close(objective.link(logits), torch.sigmoid(logits))
    assert objective.decide(logits).tolist() == [[True, True, False], [False] * 3]
    per_class = MultiLabel(threshold=torch.tensor([0.6, 0.7, 0.2]))
    assert per_class.decide(logits)[0].tolist() == [False, True, True]
    one = SingleLabel()
    assert one.decide(logits).tolist() == [1, 0]
    torch.testing.assert_close(one.link(logits).sum(1), torch.ones(2))


def test_figures_of_several_labels_are_scikit_learns():
    sklearn = pytest.importorskip("sklearn.metrics")
    logits, labels = logits_and_labels(200)
    labels[:9] = 0
    labels[:, 6] = 0
    logits[:, 6] = -5
    logits[5] = -5
    chosen = MultiLabel().decide(logits)
    found = multi_label_metrics(logits, labels.numpy())
    y, p = labels.numpy(), chosen.numpy()
    assert found.micro_f1 == pytest.approx(sklearn.f1_score(y, p, average="micro"))
    # A class that occurs nowhere has no F1; scikit-learn counts it as 0.
    seen = sklearn.f1_score(y[:, :6], p[:, :6], average="macro")
    assert found.macro_f1 == pytest.approx(seen)
    # A document without labels and predictions is correct; scikit-learn's zero_division.
    samples = sklearn.f1_score(y, p, average="samples", zero_division=1)
    assert found.samples_f1 == pytest.approx(samples)
    assert found.subset_accuracy == pytest.approx(sklearn.accuracy_score(y, p))
    assert found.hamming_loss == pytest.approx(sklearn.hamming_loss(y, p))
    assert found.loss == pytest.approx(7 * F.binary_cross_entropy_with_logits(logits, labels.float()).item())  # fmt: skip
    assert found.score == found.micro_f1


@pytest.mark.parametrize("kind", [SingleLabel, Hierarchical, MultiLabel])
@pytest.mark.parametrize("weights", [(math.nan, 1.0), (math.inf, 1.0), (-1.0, 1.0)])
def test_weights_are_numbers(kind, weights):
    with pytest.raises(UserError, match=r"_weights must be finite and at least 0, not "):
        kind(torch.tensor(weights))


@pytest.mark.parametrize("threshold", [-0.1, 1.1, math.nan])
def test_thresholds_are_probabilities(threshold):
    with pytest.raises(UserError, match="threshold must be at least 0 and at most 1, not "):
        MultiLabel(threshold=threshold)


class Bags:
    """Documents of words 1 … 8; word k says label k % 4, and a document has up to three."""

    def __init__(self, n, seed):
        random = np.random.default_rng(seed)
        self.tokens = random.integers(1, 9, (n, 3))
        self.labels = np.zeros((n, 4), np.int64)
        for row, words in zip(self.labels, self.tokens, strict=True):
            row[words % 4] = 1
        self.lengths = np.full(n, 3)

    def __len__(self):
        return len(self.tokens)

    def batch(self, indices):
        return Batch(torch.from_numpy(self.tokens[indices]), torch.from_numpy(self.labels[indices]))


def test_several_labels_per_document_are_learned_in_the_one_loop():
    torch.manual_seed(0)
    model = nn.Sequential(nn.EmbeddingBag(9, 16, mode="sum"), nn.Linear(16, 4))
    train, dev = Bags(400, 0), Bags(80, 1)
    state = fit(
        model, Adam(model.parameters(), lr=0.03), MultiLabel(), train, dev,
        Fitting(epochs=12, batch_size=20), progress=False,
    )  # fmt: skip
    assert state.history[-1]["dev_micro_f1"] > 0.98
    best = max(state.history, key=lambda row: (row["dev_micro_f1"], -row["dev_loss"]))
    assert state.best_epoch == best["epoch"]
    assert MultiLabel().evaluate(model, dev).micro_f1 == pytest.approx(best["dev_micro_f1"])


def test_labels_are_drawn_the_worst_first(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    labels = np.array([[1, 0], [1, 1], [0, 1]])
    logits = torch.tensor([[2.0, 2.0], [2.0, -2.0], [-2.0, -2.0]])
    found = multi_label_metrics(logits, labels)
    board = Board(tmp_path)
    MultiLabel().draw(board, found, None, label_names=["good", "bad"], step=7, split="dev")
    board.close()
    log = accumulator.EventAccumulator(str(tmp_path), size_guidance={"tensors": 0})
    log.Reload()
    (event,) = log.Tensors("dev/labels/text_summary")
    rows = event.tensor_proto.string_val[0].decode().splitlines()[2:]
    assert rows == ["| &#98;ad | 0.000 | 0 | 1 | 2 |", "| &#103;ood | 1.000 | 2 | 0 | 0 |"]


def test_an_objective_moves_its_weights():
    for objective in (SingleLabel(torch.ones(3)), Hierarchical(torch.ones(3)), MultiLabel(torch.ones(3))):  # fmt: skip
        moved = objective.to(torch.device("meta"))
        held = [x for x in vars(moved).values() if isinstance(x, torch.Tensor)]
        assert [x.device.type for x in held] == ["meta"]
