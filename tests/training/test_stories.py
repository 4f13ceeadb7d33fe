"""How a memory network read a story: sentences, gates and shares, as page, figure and lines."""

import re
import sys
from html import unescape

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dlnotes.commands import predict
from dlnotes.data.dataset import load_dataset
from dlnotes.models import MODELS
from dlnotes.training.board import Board
from dlnotes.training.classifier import TextClassifier
from dlnotes.training.explain import Explanation, attention_figure, explanations_html
from dlnotes.training.stories import Story, story_figure, story_html, story_lines
from drawing import inside
from small import SMALL

TEXTS = [
    ("hall", "Mary went to the hall. John slept. <question> Where is Mary?"),
    ("attic", "John went to the attic. Mary slept. <question> Where is John?"),
] * 8
STORY = "Mary slept. Unheard sayings! John went to the attic. <question> Where is John?"
STORIES = [name for name in MODELS if hasattr(MODELS[name], "gates")]
SLOTS = Story(
    ["slot 1", "slot 2", "slot 3"],
    ["mary slept .", "john <b> ate .", "mary ate ."],
    [[0.0, 1.0, 0.9], [1.0, 0.0, 0.25], [0.04, 0.6, 1.0]],
    "who ate ?",
    [0.04, 0.25, 0.71],
)
PASSES = Story(["episode 1", "episode 2"], SLOTS.sentences, [[1, 0.2]] * 3, "who ?", [])


def dataset(tokenizer="sentences"):
    data = {"train": TEXTS, "dev": TEXTS[:4]}
    return load_dataset(data, tokenizer=tokenizer, min_freq=1)


def untrained(name, tokenizer="sentences"):
    of = dataset(tokenizer)
    torch.manual_seed(0)
    return TextClassifier.create(
        name,
        SMALL[name],
        of.vocabulary,
        of.label_names,
        tokenizer=of.tokenizer,
        subwords=of.subwords,
    )


def test_memory_networks_have_gates():
    assert STORIES == ["dmn", "entnet"]


@pytest.mark.parametrize("name", STORIES)
def test_gates_stand_at_the_sentences_they_are_of(name):
    classifier = untrained(name)
    (e,) = classifier.explain([STORY])
    story = e.story
    assert story.question == "where is john ?"
    assert story.sentences == ["mary slept .", "unheard sayings !", "john went to the attic ."]
    assert len(story.columns) == len(e.weights) > 1
    for k, column in enumerate(story.columns):
        # The weights of the tokens are the same numbers.
        first = [e.tokens.index(word) for word in ("mary", "unheard", "john")]
        assert [row[k] for row in story.gates] == [e.weights[column][i] for i in first]
    assert bool(story.answer) == (name == "entnet")
    if story.answer:
        assert sum(story.answer) == pytest.approx(1)


@pytest.mark.parametrize("name", STORIES)
def test_documents_that_are_their_own_question_or_empty_are_stories_too(name):
    classifier = untrained(name)
    classifier.max_tokens = 3  # the end of a story and the question
    plain, cut, empty = (e.story for e in classifier.explain(["Mary. John slept.", STORY, ""]))
    assert (plain.sentences, plain.question) == (["mary ."], "")
    assert (cut.sentences, cut.question) == ([], "where is")
    assert (empty.sentences, empty.gates, empty.question) == ([], [], "")
    for story in (plain, empty):
        story_html(story)
        inside(story_figure(story, "x"))
        assert list(story_lines(story, "x"))


def test_pieces_of_words_are_joined():
    pytest.importorskip("tokenizers")
    (e,) = untrained("entnet", "sentence_bpe").explain([STORY])
    assert e.story.sentences[-1] == "john went to the attic ."
    assert e.story.question == "where is john ?"


def test_slots_that_were_open_at_the_same_sentences_stand_together():
    story = SLOTS.sort_slots()
    assert story.columns == ["slot 2", "slot 3", "slot 1"]
    assert story.gates == [[1.0, 0.9, 0.0], [0.0, 0.25, 1.0], [0.6, 1.0, 0.04]]
    assert story.answer == [0.25, 0.71, 0.04]
    assert story.answer_summary == "the answer reads slot 3 (0.71), slot 2 (0.25)"
    assert PASSES.sort_slots() is PASSES


def cells(html):
    """Head, shades and numbers of each row."""
    found = []
    for head, row in re.findall(
        r'<th scope="row"[^>]*>(.*?)</th>(.*?)(?=<th scope="row"|$)', html, re.DOTALL
    ):
        shades = [float(shade) for shade in re.findall(r"--w:([\d.]+)", row)]
        found.append((unescape(head), shades, re.findall(r'">([\d.]*)</td>', row)))
    return found


def test_the_page_has_a_row_for_each_sentence_and_one_for_the_answer():
    html = explanations_html(
        [Explanation("a<b", 0.75, ["x"], {"slot 1": [1.0]}, story=SLOTS)], title="T"
    )
    rows = cells(html.partition("<h2>")[2])
    assert [head for head, *_ in rows] == ["slot", *SLOTS.sentences, "who ate ?"]
    assert "<b>" not in html
    assert rows[2][1] == [0.0, 0.5, 1.0]  # by the square root
    assert rows[-1][1] == [0.5, 0.84, 0.2]
    assert rows[-1][2] == ["0.25", "0.71", "0.04"]
    assert html.count('class="answer"') == 1
    assert '<th scope="col">2</th><th scope="col">3</th><th scope="col">1</th>' in html
    assert "the answer reads slot 3 (0.71), slot 2 (0.25)</figcaption>" in html
    assert "Method: gates" in html
    assert "Method: attention" not in html
    rows = cells(story_html(PASSES))
    assert [head for head, *_ in rows] == ["episode", *PASSES.sentences, "who ?"]
    assert rows[-1][1:] == ([], [])
    many = Story([f"slot {k}" for k in range(1, 21)], ["x"], [[0.5] * 20], "", [0.05] * 20)
    assert cells(story_html(many))[1] == ("x", [0.71] * 20, [""] * 20)  # no room for numbers


def test_a_figure_has_a_row_for_each_sentence_and_one_for_the_answer():
    e = Explanation("attic", 0.75, [], {}, story=SLOTS)
    figure = inside(attention_figure(e))
    gates, answer = [axes for axes in figure.axes if axes.images][:2]
    assert [t.get_text() for t in gates.get_yticklabels()] == SLOTS.sentences
    assert [t.get_text() for t in answer.get_yticklabels()] == ["who ate ?"]
    assert [t.get_text() for t in answer.get_xticklabels()] == ["2", "3", "1"]
    assert gates.images[0].get_array().tolist() == SLOTS.sort_slots().gates
    assert answer.images[0].get_array().tolist() == [SLOTS.sort_slots().answer]
    assert gates.get_title() == "attic (0.75)"
    figure = inside(story_figure(PASSES, "attic (0.75)"))
    assert figure.axes[0].get_title() == "who ?\nattic (0.75)"


def test_long_stories_and_many_slots_are_drawn_small_enough():
    random = np.random.default_rng(0)
    hostile = ["$x$ \x1b[2J" + "y" * 500, "体育", "<b>"]
    story = Story(
        [f"slot {k + 1}" for k in range(200)],
        [f"{i} {hostile[i % 3]}" for i in range(100)],
        random.random((100, 200)).tolist(),
        "z" * 500,
        random.random(200).tolist(),
    )
    figure = inside(story_figure(story, "a" * 500))
    axes = figure.axes[0]
    names = [t.get_text() for t in axes.get_yticklabels()]
    assert len(names) == 30
    assert names[-1].startswith("99 $x$ \\x1b[2J")
    assert len(axes.get_xticklabels()) <= 60
    assert max(figure.get_size_inches()) < 40


def test_lines_for_a_terminal():
    assert list(story_lines(SLOTS, "attic (0.75)")) == [
        "attic (0.75): the answer reads slot 3 (0.71), slot 2 (0.25)",
        "          slot  231",
        "mary slept .    █▓·",
        "john <b> ate .  ·░█",
        "mary ate .      ▓█·",
        "who ate ?       ░▓·",
    ]
    assert list(story_lines(PASSES, "x"))[-2:] == ["mary ate .      █░", "who ?"]
    two_digits = Story(["slot 9", "slot 10"], ["x"], [[1, 0]], "", [1, 0])
    assert list(story_lines(two_digits, "t"))[1:] == [
        "         1",
        "  slot  90",
        "x       █·",
        "answer  █·",
    ]


def test_gates_are_pictures_of_tensorboard(tmp_path):
    board = Board(tmp_path / "run")
    of_words = Explanation("attic", 0.75, ["x"], {"word": [1.0]})
    board.attention([Explanation("attic", 0.75, [], {}, story=SLOTS), of_words], 1, split="dev")
    board.close()
    events = EventAccumulator(str(tmp_path / "run")).Reload()
    assert events.Tags()["images"] == ["dev/gates 0", "dev/attention 1"]


def test_predict_writes_the_page_and_draws_on_a_terminal_alone(tmp_path, monkeypatch, capsys):
    untrained("entnet").save(tmp_path / "run")
    html = tmp_path / "page.html"

    def told():
        predict.main(tmp_path / "run", (STORY,) * 4, explain=html, device="cpu")
        captured = capsys.readouterr()
        assert len(captured.out.splitlines()) == 4
        return captured.err

    assert "slot" not in told()
    assert html.read_text().count('<figure class="story">') == 4
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    lines = told().splitlines()
    assert sum(line.startswith("where is john ?") for line in lines) == 3
    assert sum(line.startswith("john went to the attic .  ") for line in lines) == 3
