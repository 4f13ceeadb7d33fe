from dlnotes.foundations import _oracles


def test_every_row_of_the_table_holds():
    table = list(_oracles.rows())
    assert len(table) == len(_oracles.UNITS) + 3
    for row in table:
        assert row.difference <= row.tolerance, row


def test_a_wrong_gradient_shows(monkeypatch):
    right = _oracles.Neuron.gradient
    monkeypatch.setattr(
        _oracles.Neuron, "gradient", lambda *a: tuple(g * (1 + 1e-9) for g in right(*a))
    )
    wrong = [row.note for row in _oracles.rows() if not row.difference <= row.tolerance]
    assert wrong == list(_oracles.UNITS)
