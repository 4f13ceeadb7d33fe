"""The figure of an activation with its slope: every value and slope is Python's."""

import json
import re
from html import escape
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("sphinx", reason="needs the extra docs")
pytest.importorskip("myst_nb", reason="needs the extra docs")

from browser import CHROMIUM, Browser
from chapters import curves, pictures, rows, words
from dlnotes import activations
from dlnotes.errors import UserError
from dlnotes.oracles.activations import ORACLES
from plot_activations import MORE, SHEET

STATIC = Path(__file__).parents[2] / "docs" / "_static"
in_a_browser = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")


@pytest.fixture(autouse=True)
def _not_compiled(monkeypatch):
    """Operation by operation, to be quick."""
    monkeypatch.setattr("dlnotes.activations._elementwise.in_one_pass", lambda *_: None)


def test_a_curve_is_the_activation_of_its_name():
    """The two lists that `curves` joins have the same order."""
    for oracle, title in zip(ORACLES, {**SHEET, **MORE}, strict=True):
        first = re.split(r"[ ,]", title.lower().replace("soft sh", "softsh").replace("hard ", "hard"))[0]  # fmt: skip
        assert oracle.name.replace("_", "").startswith(first.replace("shrinkage", "")[:4])
    x = torch.linspace(-4, 4, 81, dtype=torch.float64)
    for name in activations.ACTIVATIONS:
        known = name.replace("-", "_")
        if known not in curves.SETTINGS:
            assert curves.CURVES[known](x).equal(getattr(activations, known)(x))
    assert set(curves.OF_THE_NOTES) <= set(curves.CURVES)
    assert set(curves.SETTINGS) <= set(curves.CURVES)


def test_a_jump_is_not_drawn_as_a_line():
    y = curves.with_gaps(torch.tensor([0.0, 0.05, 1.0, 1.05]))
    assert y.isnan().tolist() == [False, False, True, False]


def test_the_speed_rows_are_those_of_the_record():
    record = json.loads((rows.RESULTS / "benchmarks" / "activations.json").read_text("utf-8"))
    for language in words.LANGUAGES.values():
        table = rows.speed("sigmoid\nrelu", language).splitlines()
        cells = [[cell.strip() for cell in line.strip("| ").split("|")] for line in table[2:4]]
        for (name, *shown), expected in zip(cells, ("sigmoid", "relu"), strict=True):
            assert name == f"`{expected}`"
            assert [float(x) for x in shown] == pytest.approx(
                [record["ratios"][expected][how] for how in ("eager", "compiled")], abs=0.00501
            )
        assert "python scripts/bench_activations.py" in table[-1]
    with pytest.raises(UserError, match=r"speed: .* 'sigmoid', 'momentum'"):
        rows.speed("sigmoid\nmomentum", "en")  # each is in another record


def page(folder, language, phone):
    """A page with the figure and no more, as the site has it."""
    given = pictures.Slope.given(SimpleNamespace(options={"activation": "sigmoid", "x": 1.0}))
    said = {word: words.say(word, words.LANGUAGES[language]) for word in pictures.Slope.words}
    given = escape(json.dumps({**given, "words": said}))
    read = {
        name: (STATIC / name).read_text() for name in ("book.css", "interactive.js", "slope.js")
    }
    text = (
        "<!doctype html><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<style>{read['book.css']}</style>"
        f"<figure class='picture interactive slope' data-given='{given}'><img alt='a curve'></figure>"
        f"<script>{read['interactive.js']}</script><script>{read['slope.js']}</script>"
    )
    (folder / "slope.html").write_text(text, "utf-8")
    size = {"width": 360, "height": 740, "phone": True} if phone else {}
    browser = Browser(folder / "profile", **size)
    browser.open((folder / "slope.html").as_uri())
    return browser


@pytest.fixture(scope="module")
def figure(tmp_path_factory):
    browser = page(tmp_path_factory.mktemp("slope"), "en", phone=False)
    yield browser
    browser.close()


def drawn(browser):
    return json.loads(browser.run("document.querySelector('figure.slope').dataset.drawn"))


def check(found):
    x = torch.tensor([found["x"]], dtype=torch.float64)
    value, slope = curves.value_and_slope(found["activation"], x)
    assert [found["value"], found["slope"]] == pytest.approx(
        [value.item(), slope.item()], rel=1e-12, abs=1e-12
    )


@pytest.mark.slow
@in_a_browser
@pytest.mark.parametrize("name", list(curves.CURVES))
def test_values_and_slopes_are_pythons(figure, name):
    # Where the slider can stand, far out, and 0 with either sign.
    points = [*(round(-8 + i * 0.05, 2) for i in range(321)), -50.0, -20.0, 20.0, 50.0, -0.0]
    found = json.loads(
        figure.run(
            f"JSON.stringify({points}.map(x => [Activations['{name}'].value(x),"
            f" Activations['{name}'].slope(x)]))"
        )
    )
    x = torch.tensor(points, dtype=torch.float64)
    ours = torch.stack(curves.value_and_slope(name, x), dim=1)
    theirs = torch.tensor(found, dtype=torch.float64)
    torch.testing.assert_close(theirs, ours, rtol=1e-12, atol=1e-12)


@pytest.mark.slow
@in_a_browser
def test_every_activation_can_be_chosen(figure):
    options = figure.run("[...document.querySelectorAll('.slope option')].map(o => o.value)")
    assert sorted(options) == sorted(curves.CURVES)
    shown = set()
    for name in options:
        figure.run(
            f"s = document.querySelector('.slope select'); s.value = '{name}';"
            "s.dispatchEvent(new Event('input', {bubbles: true}))"
        )
        assert drawn(figure)["activation"] == name
        check(drawn(figure))
        label = figure.run("document.querySelector('.slope svg').getAttribute('aria-label')")
        assert label.startswith(f"The curve of {curves.title(name)}, its slope ")
        shown.add(figure.run("document.querySelector('.slope path.value').getAttribute('d')"))
        assert "NaN" not in figure.run("document.querySelector('.slope svg').outerHTML")
    assert len(shown) == len(options)


@pytest.mark.slow
@in_a_browser
@pytest.mark.parametrize("language", sorted(words.LANGUAGES))
def test_it_works_with_the_keyboard_and_on_a_phone(tmp_path, language):
    browser = page(tmp_path, language, phone=True)
    try:
        first = drawn(browser)
        assert (first["activation"], first["x"]) == ("sigmoid", 1.0)
        check(first)
        assert browser.run("document.querySelector('.slope img').hidden")
        browser.run("document.querySelector('.slope select').focus()")
        browser.press("ArrowDown", 40)
        second = drawn(browser)
        assert second["activation"] == "tanh"
        browser.press("Tab", 9)
        for _ in range(3):
            browser.press("ArrowRight", 39)
        third = drawn(browser)
        assert (third["activation"], third["x"]) == ("tanh", 1.15)
        label = browser.run("document.querySelector('.slope svg').getAttribute('aria-label')")
        assert label.startswith({"en": "The curve of tanh, ", "zh": "tanh 的曲线，"}[language])
        check(third)
        said = browser.run("document.querySelector('.slope .said').textContent")
        assert said == f"f(1.15) = {third['value']:.6g}, f′(1.15) = {third['slope']:.6g}"
        assert browser.run("document.documentElement.scrollWidth <= innerWidth")
        names = browser.run("[...document.querySelectorAll('.slope label span')].map(s => s.textContent)")  # fmt: skip
        assert names == [words.say("activation", words.LANGUAGES[language]), "x"]
        assert browser.complaints() == []
    finally:
        browser.close()


@pytest.mark.slow
@in_a_browser
def test_the_point_can_be_dragged(figure):
    left, top, width = figure.run(
        "(b => [b.left, b.top, b.width])(document.querySelector('.slope svg').getBoundingClientRect())"
    )
    at = {"x": left + 8 + 0.25 * (width - 16), "y": top + 20}
    figure.call("Input.dispatchMouseEvent", type="mousePressed", button="left", buttons=1, clickCount=1, **at)  # fmt: skip
    figure.call("Input.dispatchMouseEvent", type="mouseReleased", button="left", **at)
    assert drawn(figure)["x"] == pytest.approx(-4, abs=0.06)
    check(drawn(figure))
