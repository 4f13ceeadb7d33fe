"""The figures of the perceptron, of back-propagation and of depth: what they show is computed."""

import json
import math
import re
from html import escape
from pathlib import Path

import pytest
import torch

pytest.importorskip("sphinx", reason="needs the extra docs")
pytest.importorskip("myst_nb", reason="needs the extra docs")

from browser import CHROMIUM, Browser
from chapters import depth, gates, pictures, words
from chapters.figures import back_propagation
from chapters.figures import gates as gate_figures
from dlnotes.foundations.perceptron import CORNERS, GATES

DOCS = Path(__file__).parents[2] / "docs"
STATIC = DOCS / "_static"
in_a_browser = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")


@pytest.fixture(autouse=True)
def _not_compiled(monkeypatch):
    """Operation by operation, to be quick."""
    monkeypatch.setattr("dlnotes.activations._elementwise.in_one_pass", lambda *_: None)


@pytest.mark.parametrize("gate", sorted(gate_figures.WEIGHTS))
def test_the_drawn_lines_separate_their_gates(gate):
    unit = gates.perceptron(*gate_figures.WEIGHTS[gate])
    assert unit(CORNERS.double()).equal(GATES[gate].double())


def test_the_alternative_text_of_the_network_has_its_numbers():
    network = back_propagation.small_network()
    x, y = (
        torch.tensor([back_propagation.X]).double(),
        torch.tensor([[back_propagation.Y]]).double(),
    )
    values = network.forward(x)
    gradients = network.backward(values, y)
    shown = [*values.a[1].flatten(), values.a[2], network.loss(values.a[2], y)]
    shown += [gradients.z[1], *gradients.z[0].flatten()]
    for language in words.LANGUAGES:
        page = (DOCS / language / "back-propagation.md").read_text("utf-8")
        alt = re.search(r":alt: (.*)", page)[1]
        numbers = re.findall(r"−?0\.\d+", alt)
        assert numbers == [f"{float(n):.3f}".replace("-", "−") for n in shown]


@pytest.mark.parametrize(
    ("activation", "scale"),
    [("sigmoid", 1.0), ("tanh", 1.0), ("tanh", 4.0), ("ReLU", math.sqrt(2)), ("none", 0.8)],
)
def test_wide_networks_have_the_sizes_of_the_formula(activation, scale):
    formula = depth.sizes(activation, scale, 8)
    found = depth.measured(activation, scale, 8, width=512)
    torch.testing.assert_close(found.log(), formula.log(), rtol=0.05, atol=0.1)
    assert formula[-1] == 1


def test_relu_keeps_the_gradient_at_root_two_and_a_network_without_activation_at_one():
    for activation, scale in (("ReLU", math.sqrt(2)), ("none", 1.0)):
        ones = torch.ones(40, dtype=torch.float64)
        torch.testing.assert_close(depth.sizes(activation, scale, 40), ones)
    assert {1.0, math.sqrt(2)} <= set(depth.SCALES)


def page(kind, folder, language):
    """A page with one figure and no more, as the site has it."""
    figure = pictures.INTERACTIVE[kind]
    said = {word: words.say(word, words.LANGUAGES[language]) for word in figure.words}
    given = escape(json.dumps({**object.__new__(figure).given(), "words": said}))
    scripts = "".join(f"<script>{(STATIC / f'{n}.js').read_text()}</script>" for n in ("interactive", kind))  # fmt: skip
    text = (
        f"<!doctype html><meta charset=utf-8><style>{(STATIC / 'book.css').read_text()}</style>"
        f"<figure class='picture interactive {kind}' data-given='{given}'><img alt='a picture'></figure>{scripts}"
    )
    (folder / f"{kind}.html").write_text(text, "utf-8")
    return (folder / f"{kind}.html").as_uri()


@pytest.fixture
def browser(tmp_path):
    browser = Browser(tmp_path / "profile", width=360, height=740, phone=True)
    yield browser
    assert browser.complaints() == []
    browser.close()


def drawn(browser):
    return json.loads(browser.run("document.querySelector('figure').dataset.drawn"))


def said(browser):
    return browser.run("document.querySelector('.said').textContent")


def press(browser, key, code, times=1):
    for _ in range(times):
        browser.press(key, code)


def after(state):
    """What Python's perceptron is after one more sample."""
    unit = gates.perceptron(state["w1"], state["w2"], state["b"])
    gates.learn(unit, state["gate"], state["next"])
    return [*unit.w.tolist(), unit.b.item()], unit(CORNERS.double()).tolist()


@in_a_browser
def test_the_perceptron_learns_as_pythons_does_with_the_keyboard_alone(browser, tmp_path):
    browser.open(page("perceptron", tmp_path, "en"))
    first = drawn(browser)
    assert [first[k] for k in ("w1", "w2", "b")] == list(gates.START)
    browser.press("Tab", 9)
    for gate in GATES:
        assert drawn(browser)["gate"] == gate
        press(browser, "Tab", 9, 4)  # the button of one sample
        for _ in range(12):
            before = drawn(browser)
            browser.press("Enter", 13)
            now = drawn(browser)
            weights, outputs = after(before)
            assert [now[k] for k in ("w1", "w2", "b")] == weights
            assert now["outputs"] == outputs
            assert now["next"] == (before["next"] + 1) % 4
            right = sum(a == y for a, y in zip(outputs, GATES[gate].tolist(), strict=True))
            assert now["right"] == right
            assert said(browser).endswith(f"{right} of 4 outputs are correct.")
        browser.press("Tab", 9)
        press(browser, "Enter", 13, 10)  # all four, ten times
        assert (drawn(browser)["right"] == 4) == (gate != "XOR")
        browser.press("Tab", 9)
        browser.press("Enter", 13)  # from the start
        assert drawn(browser) == {**first, "gate": gate, "right": drawn(browser)["right"]}
        browser.run("document.querySelector('select').focus()")
        browser.press("ArrowDown", 40)
    press(browser, "Tab", 9)
    browser.press("ArrowRight", 39)
    assert drawn(browser)["w1"] == gates.START[0] + 0.5


@in_a_browser
def test_the_gradients_of_the_figure_are_pythons(browser, tmp_path):
    browser.open(page("depth", tmp_path, "zh"))
    first = drawn(browser)
    assert (first["activation"], first["scale"], first["depth"]) == ("sigmoid", 1.0, 20)
    browser.press("Tab", 9)
    for name in depth.ACTIVATIONS:
        for _ in depth.SCALES:
            now = drawn(browser)
            assert now["activation"] == name
            ours = depth.sizes(name, now["scale"], now["depth"]).tolist()
            assert now["sizes"] == pytest.approx(ours, rel=1e-9)
            what = "vanishes" if ours[0] < 0.01 else "explodes" if ours[0] > 100 else "neither vanishes nor explodes"  # fmt: skip
            assert now["what"] == what
            assert {"vanishes": "消失", "explodes": "爆炸", "neither vanishes nor explodes": "没有"}[what] in said(browser)  # fmt: skip
            browser.run("document.querySelector('input').focus()")
            browser.press("ArrowRight", 39)
        assert drawn(browser)["scale"] == depth.SCALES[-1]
        browser.run("document.querySelector('input').value = 0")
        browser.press("Tab", 9)
        press(browser, "ArrowLeft", 37, 3)
        browser.run("document.querySelector('select').focus()")
        browser.press("ArrowDown", 40)
    browser.run("document.querySelector('button').click()")
    assert drawn(browser) == first
    assert browser.run("document.querySelector('img').hidden")
    assert browser.run("document.documentElement.scrollWidth <= innerWidth")
