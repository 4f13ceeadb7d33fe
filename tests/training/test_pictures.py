"""Pictures and texts for TensorBoard: any label, any number of classes, nothing cut off."""

import html
import itertools
import re
import threading
import time
import warnings
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.font_manager import findfont
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugin_util import markdown_to_safe_html

from dlnotes.training import figure_text as module
from dlnotes.training.board import Board, confusion_figure, escape_markdown
from dlnotes.training.explain import Explanation, attention_figure, explanations_html
from dlnotes.training.figure_text import prepare_text
from drawing import inside
from measured import measured

HOSTILE = [
    r"$\frac{$",
    "$5 and $6",
    "a\nb\tc",
    "\x1b[2J" + "\x07" * 20,
    "x" * 5000,
    "体育新闻",
    "שלום",
    "\udcff\U0010fffd",
    "[/bold]",
    "<script>",
]


@pytest.fixture(autouse=True)
def untold(monkeypatch):
    monkeypatch.setattr(module, "_told", False)


@pytest.fixture
def fonts(monkeypatch):
    """The fonts that are installed, for this test."""
    installed = {}
    monkeypatch.setattr(module, "_fonts", lambda: installed)
    module._family_with.cache_clear()
    yield installed
    module._family_with.cache_clear()


def documents(classes, n=2000):
    random = np.random.default_rng(0)
    labels = random.integers(0, classes, n)
    predictions = np.where(random.random(n) < 0.7, labels, random.integers(0, classes, n))
    return measured(labels, predictions, classes)


@pytest.mark.parametrize("classes", [1, 2, 3, 10, 25, 26])
@pytest.mark.parametrize("names", ["short", "long", "hostile"])
def test_confusion_figures_are_whole(classes, names):
    named = {
        "short": [f"c{i}" for i in range(classes)],
        "long": [f"a rather long name of class {i}" for i in range(classes)],
        "hostile": list(itertools.islice(itertools.cycle(HOSTILE), classes)),
    }
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "no installed font")
        figure = confusion_figure(documents(classes), named[names])
    inside(figure)


@pytest.mark.parametrize("classes", [100, 10_000])
def test_many_classes_are_drawn_as_their_most_frequent_mistakes(classes):
    labels, predictions = np.zeros(50, int), np.zeros(50, int)
    labels[:30], predictions[:30] = classes - 1, 3
    labels[30:35], predictions[30:35] = 5, 6
    began = time.perf_counter()
    figure = inside(
        confusion_figure(measured(labels, predictions, classes), [f"c{i}" for i in range(classes)])
    )
    assert time.perf_counter() - began < 2  # .1 s; a matrix of 10,000 classes takes hours
    (axes,) = figure.axes
    names = [t.get_text() for t in axes.get_yticklabels()]
    assert names == [f"c{classes - 1} → c3", "c5 → c6"]
    assert [bar.get_width() for bar in axes.patches] == [30, 5]
    assert "35 of 50 documents misclassified" in figure.get_suptitle()


def test_no_more_than_20_mistakes_are_drawn_and_none_is_fine():
    figure = inside(confusion_figure(documents(1000), [f"c{i}" for i in range(1000)]))
    assert len(figure.axes[0].patches) == 20
    labels = np.arange(40)
    figure = inside(confusion_figure(measured(labels, labels, 40), [str(i) for i in labels]))
    assert figure.get_suptitle() == "0 of 40 documents misclassified"


def test_most_confused_counts_pairs():
    of = documents(7)
    matrix = of.confusion.copy()
    np.fill_diagonal(matrix, 0)
    found = of.most_confused(1000).tolist()
    assert {(a, b): n for a, b, n in found} == {
        (a, b): matrix[a, b] for a, b in np.argwhere(matrix)
    }
    counts = [n for *_, n in found]
    assert counts == sorted(counts, reverse=True)
    assert of.most_confused(3).tolist() == found[:3]
    assert len(measured([], [], 7).most_confused(3)) == 0


@pytest.mark.parametrize("tokens", [0, 1, 2, 10, 60])
def test_attention_figures_are_whole_and_uniform_attention_is_faint(tokens):
    words = list(itertools.islice(itertools.cycle(["w", *HOSTILE]), tokens))
    weights = {"uniform": [1 / max(1, tokens)] * tokens, "one": [1.0] + [0.0] * (tokens - 1)}
    if not tokens:
        weights = {"uniform": []}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "no installed font")
        figure = attention_figure(Explanation(HOSTILE[0] * 30, 0.5, words, weights))
    (image,) = inside(figure).axes[0].images
    shades = np.asarray(image.norm(image.get_array()))
    if tokens >= 10:
        assert shades[0].max() < 0.35
        assert shades[1, 0] == 1


@pytest.mark.parametrize("name", HOSTILE)
def test_prepared_text_keeps_what_can_be_drawn(name):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "no installed font")
        (shown,), style = prepare_text([name])
    assert len(shown) <= 30
    assert style["parse_math"] is False
    assert not re.search(r"[\x00-\x1f]", shown)
    if name.isascii() and name.isprintable() and len(name) <= 30:
        assert shown == name


@pytest.mark.parametrize(
    ("name", "without"), [("体育 a", "□□ a"), ("שלום", "שלום"), ("😀🚀 a\u200d", "😀□ a\u200d")]
)
def test_what_the_usual_font_lacks_is_kept_with_a_font_that_has_it(
    fonts, monkeypatch, name, without
):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "no installed font")
        assert prepare_text([name])[0] == [without]
    have = module._characters
    every = frozenset(map(ord, name))
    monkeypatch.setattr(module, "_characters", lambda f: every if f == "every.ttf" else have(f))
    module._family_with.cache_clear()
    fonts["Every"] = "every.ttf"
    families = ["DejaVu Sans", *(["Every"] if name != without else [])]
    assert prepare_text([name]) == ([name], {"fontfamily": families, "parse_math": False})


def test_a_missing_character_is_told_once_and_drawn_as_a_square(fonts):
    with pytest.warns(UserWarning, match="install") as told:
        names = [prepare_text(["a体育"])[0][0] for _ in range(3)]
    assert names == ["a□□"] * 3
    assert len(told) == 1
    assert "\n" not in str(told[0].message)


@pytest.mark.parametrize(
    ("character", "font"), [("体", "Noto Sans CJK"), ("𐎀", "fonts.google.com")]
)
def test_the_warning_names_a_font(fonts, character, font):
    with pytest.warns(UserWarning, match=re.escape(font)):
        prepare_text([character])


def test_another_installed_font_is_found(fonts, monkeypatch):
    usual = findfont("DejaVu Sans")
    fonts |= {"Broken": "/nowhere.ttf", "Mono": findfont("DejaVu Sans Mono")}
    have = module._characters
    without = {usual: {ord("é")}}
    monkeypatch.setattr(module, "_characters", lambda file: have(file) - without.get(file, set()))
    names, style = prepare_text(["aé"])
    assert names == ["aé"]
    assert style["fontfamily"] == ["DejaVu Sans", "Mono"]


TEXTS = [
    "1. a | b \\| c",
    "- <script>alert(1)</script> <b>x</b>",
    "**bold** _x_ ~~y~~ `z` # h",
    "[link](http://x) ![i](http://y) http://z.org a@b.c",
    "&lt; &amp; &#60; $x$ \\( x \\)",
    "> quote",
    "=====",
    "+ x 体育",
]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("place", ["> {}", "**{}**, predicted", "| a |\n|---|\n| {} |"])
def test_texts_are_no_markup_in_tensorboard(text, place):
    rendered = markdown_to_safe_html(place.format(escape_markdown(text)))
    inner = re.search(r"(?:<blockquote>\s*<p>|<strong>|<td>)(.*?)</", rendered, re.DOTALL)
    assert html.unescape(inner[1]) == text


def test_texts_in_tensorboard_are_cut_and_have_no_control_characters():
    assert escape_markdown("word " * 200).endswith(" …")
    assert len(html.unescape(escape_markdown("word " * 200))) == 402
    assert html.unescape(escape_markdown("a\nb\x1b[2J")) == "a b\\x1b[2J"
    assert html.unescape(escape_markdown(" ")) == "(empty)"


def test_a_board_shows_hostile_labels_and_texts(tmp_path):
    labels, predictions = np.arange(10), np.arange(10)[::-1].copy()
    of_documents = SimpleNamespace(labels=labels, text=lambda i: HOSTILE[i])
    confidence = np.linspace(0.1, 1, 10, dtype=np.float32)
    of = replace(measured(labels, predictions, 10), confidence=confidence)
    f1 = np.linspace(1, 0, 300)
    multi = SimpleNamespace(f1=f1, counts=np.arange(900).reshape(300, 3))
    board = Board(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.filterwarnings("ignore", "no installed font")
        board.confusion(of, of_documents, HOSTILE, 1, split="dev")
        board.label_table(multi, [f"label {i} |" for i in range(300)], 1, split="dev")
        board.attention(
            [Explanation(HOSTILE[0], 0.5, HOSTILE, {"words": [0.1] * 10})], 1, split="dev"
        )
    board.close()
    events = EventAccumulator(str(tmp_path), size_guidance={"tensors": 0, "images": 0})
    events.Reload()
    assert set(events.Tags()["images"]) == {"dev/confusion matrix", "dev/attention 0"}
    text = {
        tag: events.Tensors(tag)[0].tensor_proto.string_val[0].decode()
        for tag in events.Tags()["tensors"]
    }
    wrong = text["dev/wrong predictions/text_summary"]
    assert "<script>" not in wrong
    assert "\x1b" not in wrong
    assert wrong.count("predicted **") == 10
    table = text["dev/labels/text_summary"]
    assert table.count("\n| ") == 100
    assert table.splitlines()[2].startswith("| &#108;abel 299 &#124; | 0.000 |")  # the worst first
    assert table.endswith("The 100 worst of 300 labels.")


def test_pages_show_words_in_their_direction_without_control_characters():
    e = Explanation("ספורט\x1b", 0.5, ["שלום", "\u202e\x07"], {"words": [0.5, 0.5]})
    html_page = explanations_html([e], title="[red]\x1b")
    assert not re.search(r"[\x00-\x09\x0b-\x1f\u202e]", html_page)
    assert '<figure dir="auto"><span' in html_page
    assert '<figcaption dir="ltr">' in html_page
    assert "<bdi>ספורט\\x1b</bdi> · 0.500" in html_page


def test_pictures_are_drawn_beside_and_closing_waits(tmp_path):
    board, begun, go = Board(tmp_path), threading.Event(), threading.Event()

    def draw(name, *, step):
        begun.set()
        assert go.wait(30)
        multi = SimpleNamespace(f1=np.ones(1), counts=np.ones((1, 3), int))
        board.label_table(multi, [name], step, split="dev")

    board.draw_in_background(draw, "a", step=3)
    board.draw_in_background(draw, "b", step=4)
    assert begun.wait(30)
    assert not board._waited_for[1].done()
    go.set()
    board.close()
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [event.step for event in events.Tensors("dev/labels/text_summary")] == [3, 4]


def test_a_fault_of_drawing_beside_is_not_lost(tmp_path):
    board = Board(tmp_path)
    board.draw_in_background(lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        board.close()
