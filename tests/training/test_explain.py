"""What a model looked at: the classifier's explanations, the page, the figure, the command line."""

import math
import re
import warnings
from html.parser import HTMLParser

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dlnotes.models import MODELS
from dlnotes.training.classifier import Ensemble, default_tokenizer
from dlnotes.training.explain import (
    ATTENTION,
    OCCLUSION,
    Explanation,
    attention_figure,
    explanations_html,
)
from dlnotes.training.train import train_classifier
from small import SMALL

EXPLAINED = [name for name in MODELS if hasattr(MODELS[name], "explain")]
TEXT = "The goal of the match. It was a <b> team!"


def train(datasets, name, out=None):
    return train_classifier(
        datasets(default_tokenizer(name)),
        out=out,
        model=name,
        model_settings=SMALL[name],
        lr=0.02,
        epochs=1,
        batch_size=16,
        progress=False,
    )[0]


def test_models_with_attention():
    assert EXPLAINED == ["han", "seq2seq", "transformer", "dmn", "entnet"]


@pytest.mark.parametrize("name", EXPLAINED)
def test_explanations_are_of_the_classifiers_choice(datasets, name):
    classifier = train(datasets, name)
    classifier.model.train()
    texts = [TEXT, "", "code"]
    explained = classifier.explain(texts)
    assert classifier.model.training  # as it was, though dropout was off meanwhile
    for result, e in zip(classifier.classify(texts), explained, strict=True):
        assert e.label == result["label"]
        assert e.probability == pytest.approx(result["probability"], rel=1e-5)
    for e in explained:
        assert e.method == ATTENTION
        assert e.weights
        for weights in e.weights.values():
            assert len(weights) == len(e.tokens)
            assert all(0 <= w <= 1 + 1e-5 for w in weights)
    first = explained[0]
    assert first.tokens[:4] == ["the", "goal", "of", "the"]
    assert any(max(weights) > 0 for weights in first.weights.values())


@pytest.mark.parametrize("name", [name for name in MODELS if name not in EXPLAINED])
def test_models_without_attention_are_explained_by_occlusion(datasets, name):
    classifier = train(datasets, name)
    classifier.model.train()
    texts = [TEXT, "", "code"]
    explained = classifier.explain(texts)
    assert classifier.model.training
    for result, e in zip(classifier.classify(texts), explained, strict=True):
        assert e.label == result["label"]
        assert e.probability == pytest.approx(result["probability"], rel=1e-5)
        assert e.method == OCCLUSION
        (weights,) = e.weights.values()
        assert len(weights) == len(e.tokens)
    assert explained[0].tokens[:4] == ["the", "goal", "of", "the"]


def test_texts_are_explained_up_to_max_tokens(datasets):
    classifier = train(datasets, "fasttext")
    classifier.max_tokens = 2
    (e,) = classifier.explain([TEXT])
    assert e.tokens == ["the", "goal"]
    assert [len(w) for w in e.weights.values()] == [2]


def test_an_ensemble_is_explained_by_occlusion_of_raw_words(datasets):
    members = [train(datasets, name) for name in ("fasttext", "han")]
    ensemble = Ensemble(members, [0.75, 0.25], ["a", "b"])
    found = ensemble.explain([TEXT, ""])
    for result, e in zip(ensemble.classify([TEXT, ""]), found, strict=True):
        assert e.label == result["label"]
        assert e.probability == pytest.approx(result["probability"], rel=1e-5)
    assert found[0].tokens == TEXT.split()
    (weights,) = found[0].weights.values()
    label = ensemble.label_names.index(found[0].label)
    with_goal, without = ensemble.probabilities([TEXT, TEXT.replace("goal", "")])[:, label].tolist()
    expected = math.log(with_goal / (1 - with_goal)) - math.log(without / (1 - without))
    assert weights[1] == pytest.approx(expected, abs=1e-4)
    assert found[1].tokens == []


def test_an_ensemble_of_models_of_characters_takes_out_characters(datasets):
    characters = train_classifier(
        datasets("characters"), "fasttext",
        model_settings=SMALL["fasttext"], epochs=1, progress=False,
    )[0]  # fmt: skip
    words = train(datasets, "fasttext")
    assert Ensemble([characters] * 2, [0.5] * 2, ["a", "b"]).explain(["a b"])[0].tokens == [
        "a",
        "b",
    ]
    assert Ensemble([characters] * 2, [0.5] * 2, ["a", "b"]).explain(["ab"])[0].tokens == ["a", "b"]
    assert Ensemble([characters, words], [0.5] * 2, ["a", "b"]).explain(["ab"])[0].tokens == ["ab"]


class Spans(HTMLParser):
    def __init__(self):
        super().__init__()
        self.shades, self.sides, self.titles, self.words, self.open = [], [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        if tag == "span":
            attrs = dict(attrs)
            self.shades.append(float(re.fullmatch(r"--w:([\d.]+)", attrs["style"])[1]))
            self.sides.append(attrs.get("class", "for"))
            self.titles.append(attrs.get("title"))

    def handle_endtag(self, tag):
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data):
        if self.open and self.open[-1] == "span":
            self.words.append(data)


def test_page_shades_words_by_their_weight_and_escapes_them():
    e = Explanation(
        "a<b", 0.75, ["x", "<b>", "y"], {"word": [0.25, 1.0, 0.0], "word, head 1": [0, 0, 0]}
    )
    html = explanations_html([e], title="T & t")
    read = Spans()
    read.feed(html)
    assert read.words == ["x", "<b>", "y"] * 2
    assert read.shades == [0.5, 1.0, 0.0, 0.0, 0.0, 0.0]
    assert "<bdi>a&lt;b</bdi> · 0.750" in html
    assert "T &amp; t" in html
    assert html.index("word, up to 1") < html.index("<details>") < html.index("word, head 1")
    assert set(read.sides) == {"for"}
    assert "Method: occlusion" not in html
    assert "Method: attention. The stronger the colour of a word, the larger its weight" in html


LINE = "change in log-odds"


def test_page_of_occlusion_names_the_method_and_has_two_hues_and_a_legend():
    tokens = ["x", "<b>", "y", '"&']
    e = Explanation("a<b", 0.75, tokens, {LINE: [0.5, -2.0, 0.0, 1.0]}, OCCLUSION)
    html = explanations_html([e, e], title="T")
    read = Spans()
    read.feed(html)
    assert read.words == ["against the label", "for the label", *tokens * 2]
    assert read.sides == ["against", "for", *["for", "against", "for", "for"] * 2]
    assert read.shades == [1.0, 1.0, *[0.25, 1.0, 0.0, 0.5] * 2]
    assert read.titles[2:6] == ["+0.50", "−2.00", "+0.00", "+1.00"]
    assert html.count("Method: occlusion") == html.count('<p class="legend">') == 1
    assert "log-odds of the label" in html
    assert "Method: attention" not in html
    assert "<b>" not in html
    caption = "<br>for: &quot;&amp; +1.00, x +0.50<br>against: &lt;b&gt; −2.00</figcaption>"
    assert re.sub("</?bdi>", "", html).count(LINE + caption) == 2


def test_page_of_both_methods_explains_both():
    attention = Explanation("a", 0.75, ["x"], {"word": [1.0]})
    evidence = Explanation("a", 0.75, ["x"], {LINE: [1.0]}, OCCLUSION)
    html = explanations_html([attention, evidence, attention], title="T")
    assert html.count("Method: occlusion") == html.count("Method: attention") == 1


@pytest.mark.parametrize("weights", [[], [0.0], [1e-7, -1e-7]])
def test_page_of_occlusion_leaves_rounding_errors_white(weights):
    html = explanations_html(
        [Explanation("a", 0.5, ["x", "y"][: len(weights)], {LINE: weights}, OCCLUSION)], title="T"
    )
    read = Spans()
    read.feed(html)
    assert read.shades[2:] == [0.0] * len(weights)
    assert f">{LINE}</figcaption>" in html
    assert (">no words<" in html) == (not weights)


def test_page_names_five_words_for_each_side():
    weights = [*(i / 10 for i in range(1, 9)), *(-i / 10 for i in range(1, 9))]
    tokens = [f"w{i}" for i in range(16)]
    # A repeated word has the same weight everywhere and is named once.
    e = Explanation("a", 0.5, [*tokens, "w7"], {LINE: [*weights, 0.8]}, OCCLUSION)
    html = explanations_html([e], title="T")
    read = re.sub("</?bdi>", "", html)
    assert "for: w7 +0.80, w6 +0.70, w5 +0.60, w4 +0.50, w3 +0.40<" in read
    assert "against: w15 −0.80, w14 −0.70, w13 −0.60, w12 −0.50, w11 −0.40<" in read


def test_figure_has_a_row_an_attention_and_a_column_a_token():
    e = Explanation("a", 0.75, [f"w{i}" for i in range(50)], {"k": [0.02] * 50, "k, 1": [1] * 50})
    axes = attention_figure(e, most=40).axes[0]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["k"]
    assert [t.get_text() for t in axes.get_xticklabels()] == e.tokens[:40]
    shades = axes.images[0].norm(axes.images[0].get_array())
    assert shades.tolist() == [pytest.approx([0.02**0.5] * 40)]  # uniform attention is faint
    assert attention_figure(Explanation("a", 0.5, [], {"k": []})).axes


def test_training_draws_attention_for_tensorboard(datasets, tmp_path):
    train(datasets, "han", tmp_path / "run")
    events = EventAccumulator(str(tmp_path / "run")).Reload()
    assert {f"dev/attention {i}" for i in range(5)} <= set(events.Tags()["images"])


def test_training_draws_nothing_for_models_without_attention(datasets, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a training explained a document by occlusion")

    monkeypatch.setattr("dlnotes.training.classifier.occlusion", refuse)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the board makes warnings of errors
        train(datasets, "fasttext", tmp_path / "run")
    events = EventAccumulator(str(tmp_path / "run")).Reload()
    assert not [tag for tag in events.Tags()["images"] if "attention" in tag]
