"""The figure of what models look at: its record, and what the browser makes of it."""

import json
import math
from html import escape
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("sphinx", reason="needs the extra docs")
pytest.importorskip("myst_nb", reason="needs the extra docs")

import attention as script
from browser import CHROMIUM, Browser
from chapters import attention, pictures, rows, words

STATIC = Path(__file__).parents[2] / "docs" / "_static"
in_a_browser = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")


def check(record):
    """Weights of every word of every question, of every model."""
    assert tuple(record["questions"]) == script.QUESTIONS
    assert tuple(dict.fromkeys(r["model"] for r in record["readings"])) == script.MODELS
    for reading in record["readings"]:
        assert len(reading["answers"]) == len(script.QUESTIONS)
        for question, answer in zip(script.QUESTIONS, reading["answers"], strict=True):
            assert "".join(answer["tokens"]) == question.lower().replace(" ", "")
            assert len(answer["weights"]) == len(answer["tokens"])
            assert answer["label"] in attention.LABELS
            assert 1 / 6 <= answer["probability"] <= 1
            if reading["method"] == "attention":
                assert sum(answer["weights"]) == pytest.approx(1, abs=1e-3)
                assert min(answer["weights"]) >= 0


def test_the_record_has_weights_of_every_word():
    check(attention.record())


def test_every_reading_has_a_name_of_its_own_in_both_languages():
    for language in words.LANGUAGES.values():
        names = [attention.name(reading, language) for reading in attention.record()["readings"]]
        assert len(set(names)) == len(names)


def test_the_table_of_corpora_has_the_records_figures():
    test = json.loads((rows.RESULTS / "mr-ensemble.json").read_text("utf-8"))["record"]["test"]
    for language, words_of_it, published in (
        ("en", "Ensemble", "76.2 (fastText bigram, Yao et al. 2019)"),
        ("zh_CN", "集成", "76.2（fastText bigram，Yao et al. 2019）"),
    ):
        table = rows.corpora("", language)
        (row,) = (line for line in table.splitlines() if line.startswith("| mr |"))
        assert f"{100 * test['accuracy']['mean']:.1f} {words_of_it}" in row
        assert published in row
        assert "| bbc |" in table


def test_shades_grow_with_the_weight():
    shades = attention.shades("attention", [0.0, 0.25, 1.0, 1.1])
    assert shades == [0.0, 0.5, 1.0, 1.0]
    assert attention.shades("occlusion", [0.5, -2.0, 0.0]) == [0.25, 1.0, 0.0]
    assert attention.shades("occlusion", [0.001, 0.0]) == pytest.approx([0.1, 0.0])


@pytest.mark.slow
def test_the_script_writes_such_a_record(tmp_path):
    lines = [
        f"{label}\t{text.format(i)}\n"
        for i in range(20)
        for label, text in (
            ("HUM", "Who wrote book {} ?"),
            ("NUM", "How many moons has planet {} ?"),
            ("LOC", "Where is city {} ?"),
        )
    ]
    (tmp_path / "trec").mkdir()
    (tmp_path / "trec" / "train.tsv").write_text("".join(lines))
    (tmp_path / "trec" / "test.tsv").write_text("not read")  # no label: reading it would fail
    script.main(tmp_path, tmp_path / "record.json", epochs=1)
    check(json.loads((tmp_path / "record.json").read_text("utf-8")))


@pytest.fixture(params=sorted(words.LANGUAGES))
def figure(request, tmp_path):
    """A page with the figure and no more, as the site has it, on a phone."""
    language = words.LANGUAGES[request.param]
    fake = SimpleNamespace(config=SimpleNamespace(language=language))
    said = {word: words.say(word, language) for word in pictures.WordWeights.words}
    given = escape(json.dumps({**pictures.WordWeights.given(fake), "words": said}))
    files = ("book.css", "interactive.js", "word-weights.js")
    style, base, own = ((STATIC / name).read_text() for name in files)
    (tmp_path / "attention.html").write_text(
        "<!doctype html><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<style>{style}</style>"
        f"<figure class='picture interactive word-weights' data-given='{given}'><img alt='words'>"
        f"</figure><script>{base}</script><script>{own}</script>",
        "utf-8",
    )
    browser = Browser(tmp_path / "profile", width=360, height=740, phone=True)
    browser.open((tmp_path / "attention.html").as_uri())
    yield browser, language
    browser.close()


def drawn(browser):
    return json.loads(browser.run("document.querySelector('figure.word-weights').dataset.drawn"))


@pytest.mark.slow
@in_a_browser
def test_words_have_the_records_weights_and_pythons_shades(figure):
    browser, _ = figure
    record = attention.record()
    for q in range(len(record["questions"])):
        for r, reading in enumerate(record["readings"]):
            browser.run(
                "[question, reading] = document.querySelectorAll('.word-weights select');"
                f"question.value = {q}; reading.value = {r};"
                "reading.dispatchEvent(new Event('input', {bubbles: true}))"
            )
            found, answer = drawn(browser), reading["answers"][q]
            shades = found.pop("shades")
            assert found == {"question": q, "reading": r, **answer}
            assert shades == pytest.approx(
                attention.shades(reading["method"], answer["weights"]), rel=1e-12
            )
            items = browser.run("[...document.querySelectorAll('.word-weights li span')].map(s => s.textContent)")  # fmt: skip
            assert items == answer["tokens"]
            numbers = browser.run("[...document.querySelectorAll('.word-weights li small')].map(s => s.textContent)")  # fmt: skip
            for shown, weight in zip(numbers, answer["weights"], strict=True):
                assert math.isclose(float(shown.replace("−", "-")), weight, abs_tol=0.00501)
            against = browser.run("[...document.querySelectorAll('.word-weights li')].map(s => s.className == 'against')")  # fmt: skip
            assert against == [weight < 0 for weight in answer["weights"]]
    assert browser.run("document.documentElement.scrollWidth <= innerWidth")
    assert browser.complaints() == []


@pytest.mark.slow
@in_a_browser
def test_it_works_with_the_keyboard(figure):
    browser, language = figure
    assert browser.run("document.querySelector('.word-weights img').hidden")
    browser.run("document.querySelector('.word-weights select').focus()")
    browser.press("ArrowDown", 40)
    browser.press("Tab", 9)
    browser.press("ArrowDown", 40)
    found = drawn(browser)
    assert (found["question"], found["reading"]) == (1, 1)
    said = browser.run("document.querySelector('.word-weights .said').textContent")
    name = attention.name(attention.record()["readings"][1], language)
    label = words.say(attention.LABELS[found["label"]], language)
    assert said == f"{name} → {label} ({found['label']}), p = {found['probability']:.2f}"
