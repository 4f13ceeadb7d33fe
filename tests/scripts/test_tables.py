"""scripts/tables.py says under which conditions a published figure was reached."""

import json

import pytest
from running import ROOT

ENTRIES = sorted((ROOT / "results").glob("*.json"))


def entry(name):
    return json.loads((ROOT / "results" / f"{name}.json").read_text())


@pytest.fixture
def table(script, tmp_path):
    """The README's tables of some entries."""

    def fill(*entries):
        results = tmp_path / "results"
        results.mkdir()
        (results / "benchmarks").symlink_to(ROOT / "results" / "benchmarks")
        for i, each in enumerate(entries):
            (results / f"{i}.json").write_text(json.dumps(each))
        readme = tmp_path / "README.md"
        names = ("results", "stories", "translations", "speed", "model-speed", "recipes")
        readme.write_text("".join(f"<!-- {name} -->\n<!-- /{name} -->\n" for name in names))
        done = script("tables", "--readme", readme, "--results", results)
        assert done.code == 0, done.err
        return readme.read_text()

    return fill


def test_given_word_vectors_are_named(table):
    text = table(entry("imdb-textcnn"), entry("imdb-han"))
    assert "| 87.5 (TextCNN, bentrevett/pytorch-sentiment-analysis, given GloVe vectors) |" in text
    (han,) = [line for line in text.splitlines() if line.startswith("| imdb | HAN")]
    assert han.endswith("|  |")  # the paper's IMDB is another corpus


def test_a_story_task_with_fewer_questions_than_the_papers_says_so(table):
    text = table(entry("babi-3-dmn"), entry("babi-1-dmn"))
    assert "\n| 3 (1,000 questions) |" in text
    assert "\n| 1 |" in text


def test_every_published_figure_has_a_source():
    published = [
        each["published"] for each in map(entry, [p.stem for p in ENTRIES]) if "published" in each
    ]
    assert len(published) > 50
    assert all(each["source"] for each in published)
