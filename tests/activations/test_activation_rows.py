import pytest

from dlnotes.activations._oracles import ORACLES, rows


def test_every_row_of_the_table_holds():
    table = list(rows())
    assert [row.note for row in table] == [oracle.name for oracle in ORACLES]
    for row in table:
        assert row.difference <= row.tolerance, row


def test_a_wrong_derivative_shows(monkeypatch):
    wrong = ORACLES[1]._replace(ours=lambda x: ORACLES[1].ours(x) + 1e-9 * x)
    monkeypatch.setattr("dlnotes.activations._oracles.ORACLES", [wrong])
    (row,) = rows()
    assert row.difference == pytest.approx(8e-9, rel=1e-2)
    assert row.difference > row.tolerance
