"""scripts/tables.py says under which conditions a published figure was reached."""

import json

import pytest
from running import ROOT

from tables import verdicts

ENTRIES = sorted((ROOT / "results").glob("*.json"))


def entry(name):
    return json.loads((ROOT / "results" / f"{name}.json").read_text())


@pytest.fixture
def table(script, tmp_path):
    """The README's tables of some entries."""

    def fill(*entries):
        results = tmp_path / "results"
        results.mkdir()
        for folder in ("benchmarks", "claims"):
            (results / folder).symlink_to(ROOT / "results" / folder)
        for i, each in enumerate(entries):
            (results / f"{i}.json").write_text(json.dumps(each))
        readme = tmp_path / "README.md"
        names = (
            "results",
            "label-sets",
            "stories",
            "translations",
            "speed",
            "model-speed",
            "recipes",
            "claims",
        )
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


def test_corpora_of_several_labels_have_a_table_of_their_own(table):
    def figures(micro, macro):
        pairs = {"micro_f1": micro, "macro_f1": macro, "mean_average_precision": 0.4}
        return {name: {"mean": m, "std": 0.01, "runs": [m] * 3} for name, m in pairs.items()}

    by = {"one": figures(0.5, 0.3), "label": figures(0.45, 0.4)}
    sets = {
        "corpus": "goemotions",
        "model": "tfidf",
        "settings": {"class_weights": "balanced"},
        "published": {"micro_f1": 51.0, "source": "somebody"},
        "record": {"test": by["one"], "test_by_threshold": by},
    }
    text = table(sets, entry("trec-tfidf"))
    (row,) = [line for line in text.splitlines() if line.startswith("| goemotions")]
    assert row == (
        "| goemotions | TF-IDF + logistic regression, balanced | 50.0 ± 1.0 | 30.0 ± 1.0 "
        "| 45.0 ± 1.0 | 40.0 ± 1.0 | 40.0 ± 1.0 | 3 | micro-F1 51.0 (somebody) |"
    )
    assert text.index("| trec | TF-IDF") < text.index("<!-- label-sets -->") < text.index(row)


def test_verdicts_stand_in_the_order_of_the_notes(tmp_path):
    def row(name, verdict, says, **other):
        shown = {"sentence": f"{name} is so.", "effect": 1.5, "effect_name": "steps, a | b"}
        return {"name": name, "verdict": verdict, "says": says, "seconds": 45, **shown, **other}

    (tmp_path / "claims").mkdir()
    rows = [
        row("adam-is-the-best", "holds only if", "holds only if it rains", interval=[1, 2], runs=0),
        row("hidden-layer-learns-xor", "holds", "holds", interval=[1.5, 1.5], runs=1234),
    ]
    (tmp_path / "claims" / "record.json").write_text(json.dumps({"claims": rows}))
    lines = verdicts(tmp_path).splitlines()
    assert lines[2:] == [
        "| hidden-layer-learns-xor is so. `hidden-layer-learns-xor` | **holds** "
        "| 1.500 steps, a &#124; b | 1,234 |",
        "| adam-is-the-best is so. `adam-is-the-best` | **holds only if** it rains "
        "| 1.500 [1, 2] steps, a &#124; b | – |",
        "",
        "All of them took 1 min 30 s of computation, added up over processes.",
    ]
    (tmp_path / "claims" / "quick.json").write_text(json.dumps({"claims": rows[:1]}))
    assert verdicts(tmp_path).splitlines() == [
        *lines[:-1],
        lines[-1] + " With `--quick` it is 45 s.",
    ]
