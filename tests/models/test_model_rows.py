"""The rows that scripts/verify.py shows of the models are right, and can be wrong."""

import pytest
import torch

from dlnotes.models import _oracles, rcnn
from dlnotes.models.textrnn import POOLING
from reference import rows as papers


def test_models_equal_torchs_modules():
    rows = list(_oracles.rows())
    assert [row.note for row in rows if not row.difference <= row.tolerance] == []
    assert {row.note.split(",")[0] for row in rows} == {
        "FastText", "TextCNN", "TextRNN", "multi-head attention",
        "Transformer encoder", "Transformer decoder",
    }  # fmt: skip


def test_models_equal_the_papers_equations():
    rows = list(papers.rows())
    assert [note for note, _, difference in rows if not difference <= 1e-12] == []
    notes = {note.split(",")[0] for note, *_ in rows}
    assert notes == {"RCNN", "HAN", "Seq2seq", "DMN", "DMN+", "EntityNetwork"}


def test_a_mistake_shows(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(POOLING, "max", lambda x, real: x.amax(dim=1))  # reads padding
    monkeypatch.setattr(rcnn, "tanh", torch.sigmoid)
    wrong = {row.note for row in _oracles.rows() if not row.difference <= row.tolerance}
    assert wrong == {"TextRNN, LSTM", "TextRNN, GRU"}
    assert {note for note, _, difference in papers.rows() if not difference <= 1e-12} == {"RCNN"}
