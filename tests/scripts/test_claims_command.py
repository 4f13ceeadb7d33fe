import json
from dataclasses import replace

import pytest

from dlnotes.claims import lab
from dlnotes.commands import claims as commands
from dlnotes.errors import UserError


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


@pytest.mark.parametrize(
    ("json", "what"),
    [
        ("out/report.html", "the report"),
        ("out/../out/report.html", "the report"),
        ("link.html", "the report"),
        ("out/part.html", "the report"),
        ("out/quick/report.html", "the report"),
        ("out/quick", "the folder of the report"),
        ("out/quick/large-rates-step-over-the-minimum/figure.png", "the figure of large-rates"),
        ("out", "the folder of the report"),
        ("out/large-rates-step-over-the-minimum", "the figure of large-rates"),
        ("out/large-rates-step-over-the-minimum/figure.png", "the figure of large-rates"),
        ("cache/claims/new.json", "the cache of results"),
    ],
)
@pytest.mark.parametrize("there", [False, True])
def test_a_record_takes_the_place_of_nothing_else(script, tmp_path, json, what, there):
    (tmp_path / "link.html").symlink_to(tmp_path / "out" / "report.html")
    if there:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "report.html").write_text("old")
    name = "large-rates-step-over-the-minimum"
    result = script("claims", name, "--json", tmp_path / json, "--out", tmp_path / "out")
    assert result.code == 2
    assert result.err.startswith(f"error: --json {tmp_path / json} is where {what}")
    assert result.err.endswith(" goes: give another file\n")
    assert result.err.count("\n") == 1
    assert not there or (tmp_path / "out" / "report.html").read_text() == "old"


def test_a_record_may_lie_beside_the_report(script, tmp_path):
    (tmp_path / "out").mkdir()
    arguments = ("a-constant-slope-means-linear", "--quick", "--out", tmp_path / "out")
    assert script("claims", *arguments, "--json", tmp_path / "out" / "record.json").code == 0
    assert (tmp_path / "out" / "record.json").exists()


def test_a_figure_that_cannot_be_written_is_told_before_the_work(script, tmp_path, monkeypatch):
    monkeypatch.setattr(lab, "run", None)  # would fail
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "momentum-damps-oscillation").touch()
    result = script("claims", "momentum-damps-oscillation", "--out", tmp_path / "out")
    assert result.code == 2
    assert "it is not a folder" in result.err
    assert result.err.count("\n") == 1


def test_claims_run_without_a_cache(script, tmp_path, monkeypatch):
    (tmp_path / "cache").touch()
    monkeypatch.setattr(commands.cache, "UNWRITABLE", set())
    name = "a-constant-slope-means-linear"
    result = script("claims", name, "--quick", "--out", tmp_path / "out")
    assert result.code == 0
    told, last = result.err.splitlines()
    assert told.startswith("results are computed, but not kept: cannot write to ")
    assert last.startswith(f"1/1 {name}: holds only if")
    assert [line.split()[-3] for line in result.out.splitlines() if "f(0) = 0" in line] == ["–"]


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
    page = (tmp_path / "out" / "quick" / "part.html").read_text()
    assert "quick" in page
    assert row["sentence"] in page
    assert "tested (quick, the mechanics only: no result)" in " ".join(result.out.split())
    folder = tmp_path / "out" / "quick" / "momentum-damps-oscillation"
    assert len([*folder.glob("events.out.tfevents.*")]) == 1
    assert (folder / "figure.png").read_bytes().startswith(b"\x89PNG")

    again = script("claims", *arguments, "--out", tmp_path / "out")
    assert again.out == result.out  # the seconds, too: nothing was computed
    assert len([*folder.glob("events.out.tfevents.*")]) == 1


def test_a_part_or_a_quick_run_replaces_nothing_of_a_full_report(script, tmp_path, monkeypatch):
    names = ("a-constant-slope-means-linear", "rmsprop-first-step-is-alpha")
    monkeypatch.setattr(commands, "CLAIMS", names)
    out = tmp_path / "out"

    def run(*arguments, code=0):
        result = script("claims", *arguments, "--out", out)
        assert result.code == code, result.err
        return result.out

    def written(folder=out):
        found = sorted(file for file in folder.rglob("*") if file.is_file())
        return {file: file.read_bytes() for file in found}

    assert "quick, the mechanics" not in run(*names)
    report = written()
    assert out / "report.html" in report
    run(names[0], "--quick")
    run(*names, "--quick")
    assert written(out / "quick").keys() & {out / "quick/report.html", out / "quick/part.html"}
    assert {file: x for file, x in written().items() if out / "quick" not in file.parents} == report
    assert str(out / "part.html") in "".join(run(names[1]).split())
    assert (out / "report.html").read_bytes() == report[out / "report.html"]
    real = lab.run

    def fails(claim, *arguments, **options):
        if claim.name == names[0]:
            raise UserError("no network")
        return real(claim, *arguments, **options)

    monkeypatch.setattr(lab, "run", fails)
    run(*names, code=2)
    assert (out / "report.html").read_bytes() == report[out / "report.html"]


def test_a_claim_without_its_data_is_left_out_and_the_others_are_tested(
    script, tmp_path, monkeypatch
):
    real = lab.run
    monkeypatch.setattr(commands.texts, "digests", lambda *_: {})

    def run(claim, *arguments, **options):
        if claim.name == "adam-is-the-best":
            raise UserError("no network")
        return real(claim, *arguments, **options)

    monkeypatch.setattr(lab, "run", run)
    names = ("adam-is-the-best", "momentum-damps-oscillation")
    result = script("claims", *names, "--quick", "--out", tmp_path / "out")
    assert result.code == 2
    first, second = result.err.splitlines()
    assert first.startswith("1/2 error: adam-is-the-best is left out: no network, about ")
    assert second.startswith("2/2 momentum-damps-oscillation: ")
    assert not second.endswith("left")
    assert "momentum-damps-oscillation" in (tmp_path / "out/quick/part.html").read_text()


def test_texts_that_cannot_be_had_are_told_and_the_claim_is_tested_without_them(
    script, tmp_path, monkeypatch
):
    def experiment(budget):
        assert budget.data_dir == str(tmp_path)
        assert [*budget.corpora] == ["trec"]
        raise UserError("seen")

    for split in ("train", "test"):
        file = tmp_path / "trec" / f"{split}.tsv"
        file.parent.mkdir(exist_ok=True)
        file.write_text("".join(f"class{i % 2}\tword{i} word{i % 2}\n" for i in range(60)))
    real = lab.load("adagrad_suits_sparse_data")
    planted = replace(real, experiment=experiment)
    monkeypatch.setattr(lab, "load", lambda _: planted)
    arguments = (real.name, "--quick", "--out", tmp_path / "out", "--data-dir", tmp_path)
    result = script("claims", *arguments)
    told, last = result.err.splitlines()
    assert told.startswith("the claims about texts go without r52: corpus 'r52' is none of ")
    assert last == f"1/1 error: {real.name} is left out: seen"


def test_a_data_folder_that_is_not_there_is_one_line(script, tmp_path):
    result = script("claims", "--data-dir", tmp_path / "no", "--out", tmp_path / "out")
    assert result.code == 2
    wrong = f"error: --data-dir {tmp_path / 'no'} does not exist; give a folder of corpora\n"
    assert result.err == wrong


def test_an_interrupted_run_says_that_it_goes_on(script, tmp_path, monkeypatch):
    def run(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(lab, "run", run)
    result = script("claims", "momentum-damps-oscillation", "--out", tmp_path / "out")
    assert result.code == 130
    assert "the same command goes on from there.\nStopped.\n" in result.err


@pytest.fixture
def clock(monkeypatch):
    """A clock that is moved by hand."""
    now = [0.0]
    monkeypatch.setattr(commands.time, "monotonic", lambda: now[0])
    return now


def test_time_left_follows_the_costs_and_not_the_number_of_claims(clock, capsys):
    with commands.Progress([10, 10, 80]) as progress:
        progress.begin("first")
        clock[0] += 0.1  # from the cache: that says nothing of the others
        progress.end("first")
        progress.begin("second")
        clock[0] += 50
        progress.share(0.5)
        assert seconds_of(progress.left()) == pytest.approx(85 * 53 / 8, rel=0.01)
        clock[0] += 50
        progress.end("second")
        progress.begin("third")
        assert seconds_of(progress.left()) == pytest.approx(80 * 103 / 13, rel=0.01)
        clock[0] += 720
        progress.share(0.9)
        assert seconds_of(progress.left()) == pytest.approx(8 * 823 / 85, rel=0.01)
        progress.end("third")
        assert progress.left() == ""
    first, second, third = capsys.readouterr().err.splitlines()
    assert first == "1/3 first, about 1 min 30 s left"
    assert second == "2/3 second, about 10 min 34 s left"
    assert third == "3/3 third"


def seconds_of(text):
    """Of "about 7 min 20 s"."""
    numbers = [float(x) for x in text.replace("about", "").replace("min", "").strip(" s").split()]
    return numbers[0] if len(numbers) == 1 else 60 * numbers[0] + numbers[1]
