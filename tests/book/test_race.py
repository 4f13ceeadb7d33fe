"""The race of the nine rules: its surfaces and rates, its tables, and its paths in a browser."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("sphinx", reason="needs the extra docs")
pytest.importorskip("myst_nb", reason="needs the extra docs")

from browser import CHROMIUM, Browser
from chapters import figures, mathjax, measured, race, rows, words
from dlnotes.claims.surfaces import SURFACES
from dlnotes.errors import UserError
from dlnotes.optim import OPTIMIZERS

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("surface", SURFACES)
def test_the_gradients_are_those_of_the_claims_surfaces(surface):
    at = torch.randn(2, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    at.requires_grad_()
    (expected,) = torch.autograd.grad(SURFACES[surface].height(*at).sum(), at)
    ours = torch.stack(race.GRADIENTS[surface](*at.detach()))
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)


def test_the_samples_differ_and_their_mean_is_the_surface():
    for surface in SURFACES:
        shifts = race.shifts(surface)
        assert len({tuple(each) for each in shifts.tolist()}) == race.SAMPLES
        torch.testing.assert_close(shifts.sum(0), torch.zeros(2).double(), rtol=0, atol=1e-12)
        torch.testing.assert_close(
            shifts.norm(dim=1), torch.full((race.SAMPLES,), race.NOISE[surface]).double()
        )


def test_sgd_alone_looks_at_single_samples():
    """After as many updates as there are samples, each has been looked at once."""
    paths = {name: race.path(name, "ravine", 1e-9, race.SAMPLES) for name in ("BGD", "MBGD", "SGD")}
    for steps, name in ((1, "SGD"), (3, "MBGD")):
        assert (paths[name][steps] - paths["BGD"][steps]).norm() > 1e-10
    for name in ("MBGD", "SGD"):
        assert (paths[name][-1] - paths["BGD"][-1]).norm() < 1e-14


def test_a_racer_takes_the_path_of_its_rule():
    for name, racer in race.RACERS.items():
        theta = torch.nn.Parameter(torch.tensor(SURFACES["ravine"].start, dtype=torch.float64))
        optimizer = OPTIMIZERS[racer.rule]([theta], lr=0.1)
        theta.grad = torch.stack(race.GRADIENTS["ravine"](*theta.detach()))
        if racer.batch < race.SAMPLES:
            theta.grad += race.shifts("ravine")[: racer.batch].mean(0)
        optimizer.step()
        torch.testing.assert_close(race.path(name, "ravine", 0.1, 1)[1], theta.detach())


def test_the_rates_are_the_records():
    record = json.loads(measured.CLAIMS.read_text("utf-8"))
    (claim,) = (c for c in record["claims"] if c["name"] == "adam-converges-faster-on-surfaces")
    for row in claim["numbers"]:
        for name, racer in race.RACERS.items():
            if racer.rule == row["rule"]:
                assert race.best_rate(name, row["surface"]) == row["best rate"]


def heights(path, surface):
    return SURFACES[surface].height(*path.T)


def test_beales_function_shows_what_the_page_on_adagrad_says():
    surface = "Beale's function"
    names = ("BGD", "Adagrad", "RMSProp", "Adadelta")
    paths = {n: race.path(n, surface, race.best_rate(n, surface), 200) for n in names}
    steps = {n: path.diff(dim=0).norm(dim=1) for n, path in paths.items()}
    for name in ("BGD", "Adagrad"):
        assert steps[name][0] > 2
        assert 0.0005 < steps[name][-20:].mean() < 0.0015
    for name in ("RMSProp", "Adadelta"):
        assert 0.1 < steps[name][0] < 0.15
        valley = steps[name][10:60]
        assert 0.015 < valley.min() < valley.max() < 0.035
    for name in ("BGD", "Adagrad"):
        assert steps[name][10] > 0.06 > 0.01 > steps[name][59]
    assert steps["Adadelta"][60:].min() == steps["Adadelta"][-1]
    assert round(steps["Adadelta"][-1].item(), 3) == 0.004
    for step in range(4, 201):
        assert min(names, key=lambda n: heights(paths[n], surface)[step]) == "Adagrad"

    # "lower its rate to a third"
    slow = race.path("RMSProp", surface, race.best_rate("RMSProp", surface) * 10**-0.5, 200)
    last = steps["RMSProp"][-20:].mean()
    assert 0.03 < last < 0.045
    assert slow.diff(dim=0).norm(dim=1)[-20:].mean() / last == pytest.approx(1 / 4, abs=0.03)
    assert heights(slow, surface)[-1] > 1 > 0.01 > heights(paths["RMSProp"], surface)[-1]
    end = heights(paths["RMSProp"], surface)[-50:].diff()
    assert end.min() < 0 < end.max()  # it jumps about the minimum


@pytest.mark.parametrize("language", ["en", "zh"])
def test_choosing_an_optimizer_says_what_its_picture_shows(language):
    page = (words.REPHRASINGS.parents[1] / language / "choosing-an-optimizer.md").read_text("utf-8")
    rows = measured.numbers("adam-is-the-best", {"problem": "all", "rate is": "tuned"})
    seven = {racer.rule for racer in race.RACERS.values()}
    after = {
        k: {r["method"]: r[f"dev, best of {k} rates (%)"] for r in rows if r["method"] in seven}
        for k in (1, 2, 4, 8)
    }
    for reached in after.values():
        assert min(reached, key=reached.get) == "gradient-descent"
    *_, first, last = sorted(after[8].values(), reverse=True)
    behind = max(after[8].values()) - last
    assert max(after[1].values()) - after[1]["gradient-descent"] > behind
    told = (round(behind), round(last), round(first), round(max(after[8].values())))
    assert told == (16, 72, 79, 88)
    caption = {"en": "it is 16 percentage points", "zh": "低 16 个百分点"}
    alt = {"en": "has 72 % and the others 79 to 88", "zh": "梯度下降为 72%，其余为 79% 至 88%"}
    assert caption[language] in page
    assert alt[language] in page


def test_the_page_on_adam_says_what_its_race_shows():
    names = ("Momentum", "RMSProp", "Adam")

    def height(name, surface, times=1.0):
        steps, rate = SURFACES[surface].steps, times * race.best_rate(name, surface)
        return heights(race.path(name, surface, rate, steps), surface)[-1]

    valley = "Rosenbrock's valley"
    assert min(names, key=lambda n: height(n, valley)) == "Adam"
    assert max(names, key=lambda n: height(n, "ravine")) == "Adam"
    assert race.best_rate("Adam", valley) / race.best_rate("RMSProp", valley) == pytest.approx(
        50, rel=0.01
    )
    assert height("Adam", valley, 0.1) > 100 * height("Adam", valley)


def test_a_table_of_numbers_has_the_records_figures():
    table = measured.table("adaptive-rules-suit-texts\nmethod -> optimizer\nbest rate", "en")
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    assert lines[0] == ["optimizer", "best rate"]
    found = {
        row["method"]: row["best rate"] for row in measured.numbers("adaptive-rules-suit-texts", {})
    }
    assert len(lines) == 2 + len(found)
    for method, shown in lines[2:]:
        assert float(shown) == pytest.approx(found[method.strip("`")], rel=5e-3)
    only = measured.table("adaptive-rules-suit-texts\nmethod = adam\ntest", "en")
    assert len(only.splitlines()) == 3
    assert "优化器" in measured.table("adaptive-rules-suit-texts\nmethod -> optimizer", "zh_CN")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x\nbatch", "no claim 'x'"),
        ("adam-is-the-best\nx", "no column 'x'"),
        ("adam-is-the-best\nproblem = x\nmethod", r"no row with \{'problem': 'x'\}"),
    ],
)
def test_numbers_that_no_record_has_are_refused(text, message):
    with pytest.raises(UserError, match=message):
        measured.table(text, "en")


def test_the_table_of_advice_has_the_records_figures():
    table = rows.ROWS["advice"]("", "en")
    entry = json.loads((ROOT / "results" / "advice" / "trec.json").read_text("utf-8"))
    tried = {each["name"]: each["first"] for each in entry["race"]}
    (line,) = (line for line in table.splitlines() if "| trec |" in line)
    for name in ("textcnn", "textcnn, optimizer adagrad"):
        assert f"| {100 * tried[name]['score']:.1f} % |" in line
    assert f"| {100 * tried['textcnn']['share']:.0f} |" in line


def test_speed_of_several_rules_says_which():
    table = rows.speed("rmsprop\nadagrad", "en").splitlines()
    assert table[0].startswith("| rule |")
    assert sum(line.startswith("| `adagrad` |") for line in table) == 4
    with pytest.raises(UserError, match=r"speed: no record of .* has 'adagrad', 'x'"):
        rows.speed("adagrad\nx", "en")


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A page with the race alone, as the book shows it."""
    folder = tmp_path_factory.mktemp("race")
    try:
        mathjax.place(tmp_path_factory.mktemp("mathjax"))
    except UserError as error:
        pytest.skip(f"needs MathJax: {error}")
    pages = folder / "pages"
    pages.mkdir()
    (pages / "index.md").write_text(
        "# Race\n\n```{race} race_all\n:surface: ravine\n:alt: The paths.\n\nA caption.\n```\n"
    )
    figures.draw("race_all", folder / "figures")  # as scripts/book.py does before Sphinx
    out = folder / "site"
    options = ["-D", "language=en", "-c", str(ROOT / "docs"), "-d", str(folder / "trees")]
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "--fail-on-warning", *options, str(pages), str(out)],
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT / 'scripts'}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return out / "index.html"


@pytest.fixture(params=["desktop", "phone"])
def browser(request, tmp_path):
    size = {"width": 360, "height": 740, "phone": True} if request.param == "phone" else {}
    browser = Browser(tmp_path / "profile", **size)
    yield browser
    browser.close()


def drawn(browser):
    return json.loads(browser.run("document.querySelector('figure.race').dataset.drawn"))


def text(browser, selector):
    return browser.run(f"document.querySelector('figure.race {selector}').textContent")


def choose(browser, place, value):
    """From the select at this place in the figure."""
    browser.run(
        f"(() => {{ const s = document.querySelectorAll('.race select')[{place}];"
        f"s.value = {json.dumps(value)}; s.dispatchEvent(new Event('change')); }})()"
    )


in_a_browser = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")


@pytest.mark.slow
@pytest.mark.timeout(600)
@in_a_browser
def test_every_path_is_pythons(page, browser):
    """Every rule on every surface, at a third of its best rate, at the best one and at 1.6 times."""
    browser.open(page.as_uri())
    seen = []
    for surface in SURFACES:
        choose(browser, 0, surface)
        browser.run("document.querySelectorAll('.race input[type=range]')[1].focus()")
        seen.append(drawn(browser))
        for _ in range(2):
            browser.press("ArrowRight", 39)
        seen.append(drawn(browser))
        for _ in range(7):
            browser.press("ArrowLeft", 37)
        seen.append(drawn(browser))
    assert len({(each["surface"], each["rates"]["Adam"]) for each in seen}) == 3 * len(SURFACES)
    for each in seen:
        steps = SURFACES[each["surface"]].steps
        assert set(each["paths"]) == set(race.RACERS)
        for name, path in each["paths"].items():
            theirs = torch.tensor(path, dtype=torch.float64)
            ours = race.path(name, each["surface"], each["rates"][name], len(theirs) - 1)
            finite = len(theirs) == steps + 1  # else it left the numbers, as it does in Python
            if not finite:
                beyond = race.path(name, each["surface"], each["rates"][name], len(theirs))[-1]
                assert not beyond.isfinite().all(), name
            torch.testing.assert_close(theirs, ours, rtol=1e-9, atol=1e-9)


@pytest.mark.slow
@pytest.mark.timeout(300)
@in_a_browser
def test_the_race_works_with_the_keyboard_alone(page, browser):
    browser.open(page.as_uri())
    first = drawn(browser)
    assert text(browser, ".said").startswith("After 100 steps: the lowest is Adadelta")
    assert browser.run("document.querySelectorAll('.race input[type=checkbox]').length") == 9

    browser.run("document.querySelector('.race select').focus()")
    browser.press("Tab", 9)  # the slider of the steps
    browser.press("Home", 36)
    for _ in range(5):
        browser.press("ArrowRight", 39)
    assert text(browser, ".said").startswith("After 5 steps: ")
    points = browser.run("document.querySelector('.race polyline').getAttribute('points')")
    assert len(points.split()) == 6

    # One rule's rate alone; a rule that is hidden does not lead.
    choose(browser, 1, "SGD")
    browser.run("document.querySelectorAll('.race input[type=range]')[1].focus()")
    browser.press("ArrowLeft", 37)
    rates = drawn(browser)["rates"]
    assert rates["SGD"] == pytest.approx(first["rates"]["SGD"] * 10**-0.1)
    assert {n for n in rates if rates[n] != first["rates"][n]} == {"SGD"}
    browser.run("document.querySelectorAll('.race input[type=range]')[0].focus()")
    browser.press("End", 35)
    browser.run("document.getElementById('race-0-Adadelta').focus()")
    browser.press(" ", 32)
    assert "Adagrad" in text(browser, ".said")
    hidden = "[...document.querySelectorAll('.race polyline[visibility=hidden]')].length"
    assert browser.run(hidden) == 1

    # Start again, by its key.
    browser.run("document.querySelectorAll('.race button')[1].focus()")
    browser.press("Enter", 13)
    assert drawn(browser) == first
    assert browser.run(hidden) == 0


@pytest.mark.slow
@pytest.mark.timeout(300)
@in_a_browser
def test_the_race_plays_unless_the_reader_wants_no_motion(page, browser):
    browser.open(page.as_uri())
    steps = "Number(document.querySelector('.race input[type=range]').value)"
    play = "document.querySelectorAll('.race button')[0]"
    said = "document.querySelector('.race .said').textContent"
    before = browser.run(said)
    browser.run(f"{play}.click()")
    browser.until(f"{steps} > 0 && {steps} < 60")
    assert browser.run(f"{play}.textContent") == "Pause"
    assert browser.run(said) == before  # a screen reader is not told every frame
    browser.run(f"{play}.click()")
    paused = browser.run(steps)
    assert browser.run(said).startswith(f"After {paused} steps")
    assert browser.run(f"{play}.textContent") == "Play"

    still = [{"name": "prefers-reduced-motion", "value": "reduce"}]
    browser.call("Emulation.setEmulatedMedia", features=still)
    browser.run(f"{play}.click()")
    assert browser.run(steps) == SURFACES["ravine"].steps
    assert browser.run(f"{play}.textContent") == "Play"
