"""What a model looked at: the classifier's explanations, the page, the figure, the command line."""

import re
from html.parser import HTMLParser

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dlnotes.errors import UserError
from dlnotes.models import MODELS
from dlnotes.training.classifier import default_tokenizer
from dlnotes.training.explain import Explanation, attention_figure, page
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
        assert e.weights
        for weights in e.weights.values():
            assert len(weights) == len(e.tokens)
            assert all(0 <= w <= 1 + 1e-5 for w in weights)
    first = explained[0]
    assert first.tokens[:4] == ["the", "goal", "of", "the"]
    assert any(max(weights) > 0 for weights in first.weights.values())


def test_a_model_without_attention_says_so(datasets):
    classifier = train(datasets, "fasttext")
    assert not classifier.can_explain
    with pytest.raises(UserError, match="fasttext has no attention"):
        classifier.explain([TEXT])


class Spans(HTMLParser):
    def __init__(self):
        super().__init__()
        self.shades, self.words, self.open = [], [], []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        if tag == "span":
            self.shades.append(float(re.search(r"([\d.]+)\)$", dict(attrs)["style"])[1]))

    def handle_endtag(self, tag):
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data):
        if self.open and self.open[-1] == "span":
            self.words.append(data)


def test_page_shades_words_by_their_weight_and_escapes_them():
    e = Explanation(
        "a<b", 0.75, ["x", "<b>", "y"], {"word": [0.1, 0.4, 0.0], "word, head 1": [0, 0, 0]}
    )
    html = page([e], title="T & t")
    read = Spans()
    read.feed(html)
    assert read.words == ["x", "<b>", "y"] * 2
    assert read.shades == [0.25, 1.0, 0.0, 0.0, 0.0, 0.0]
    assert "a&lt;b · 0.750" in html
    assert "T &amp; t" in html
    assert html.index("word, up to 0.4") < html.index("<details>") < html.index("word, head 1")


def test_figure_has_a_row_an_attention_and_a_column_a_token():
    e = Explanation(
        "a", 0.75, [f"w{i}" for i in range(50)], {"k": [0.1] * 49 + [9], "k, 1": [1] * 50}
    )
    axes = attention_figure(e, most=40).axes[0]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["k"]
    assert [t.get_text() for t in axes.get_xticklabels()] == e.tokens[:40]
    assert (torch.as_tensor(axes.images[0].get_array()) == 1).all()
    assert attention_figure(Explanation("a", 0.5, [], {"k": []})).axes


def test_training_draws_attention_for_tensorboard(datasets, tmp_path):
    train(datasets, "han", tmp_path / "run")
    events = EventAccumulator(str(tmp_path / "run")).Reload()
    assert {f"dev/attention {i}" for i in range(5)} <= set(events.Tags()["images"])
