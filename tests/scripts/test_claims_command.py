import json

import pytest

from dlnotes.claims import lab


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DLNOTES_CACHE", str(tmp_path / "cache"))


def test_an_unknown_claim_is_one_line(script, tmp_path):
    result = script("claims", "momentum-dampens", "--out", tmp_path / "out")
    assert result.code == 2
    begins = (
        "error: there is no claim 'momentum-dampens'; the nearest are momentum-damps-oscillation"
    )
    assert result.err.startswith(begins)
    assert result.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_quick_run_leaves_a_report_a_record_and_a_run_of_tensorboard(script, tmp_path):
    arguments = ("momentum-damps-oscillation", "--quick", "--json", tmp_path / "claims.json")
    result = script("claims", *arguments, "--out", tmp_path / "out")
    assert result.code == 0, result.err
    assert "momentum-damps-oscillation" in result.out
    assert f"Report: {tmp_path}" in result.out
    (row,) = json.loads((tmp_path / "claims.json").read_text())["claims"]
    assert row["name"] == "momentum-damps-oscillation"
    assert row["verdict"] in ("holds", "holds only if", "does not hold", "not decided")
    assert row["interval"][0] <= row["effect"] <= row["interval"][1]
    assert row["runs"] > 0
    assert row["seconds"] > 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert "quick" in page
    assert row["sentence"] in page
    folder = tmp_path / "out" / "momentum-damps-oscillation"
    assert len([*folder.glob("events.out.tfevents.*")]) == 1
    assert (folder / "figure.png").read_bytes().startswith(b"\x89PNG")

    again = script("claims", *arguments, "--out", tmp_path / "out")
    assert again.out == result.out  # the seconds, too: nothing was computed
    assert len([*folder.glob("events.out.tfevents.*")]) == 1


def test_a_claim_without_its_data_is_left_out_and_the_others_are_tested(
    script, tmp_path, monkeypatch
):
    from dlnotes.errors import UserError

    real = lab.run

    def run(claim, *arguments, **options):
        if claim.name == "adam-is-the-best":
            raise UserError("no network")
        return real(claim, *arguments, **options)

    monkeypatch.setattr(lab, "run", run)
    names = ("adam-is-the-best", "momentum-damps-oscillation")
    result = script("claims", *names, "--quick", "--out", tmp_path / "out")
    assert result.code == 2
    assert result.err == "error: adam-is-the-best is left out: no network\n"
    assert "momentum-damps-oscillation" in (tmp_path / "out" / "report.html").read_text()
