"""scripts/tables.py shows what the records say, and under which conditions it was reached."""

import json
import re

import pytest
from running import ROOT

import bench_optimizers
import tables
from dlnotes.errors import UserError
from tables import advice, busy, fasttext, label_errors, speeds, verdicts

ENTRIES = sorted((ROOT / "results").glob("*.json"))


def entry(name):
    return json.loads((ROOT / "results" / f"{name}.json").read_text())


NAMES = tuple(tables.tables(ROOT))


@pytest.fixture
def table(script, tmp_path):
    """The tables of some entries, in a README of their markers."""

    def fill(*entries):
        results = tmp_path / "results"
        results.mkdir()
        for folder in ("babi-seeds", "benchmarks", "claims"):
            (results / folder).symlink_to(ROOT / "results" / folder)
        for i, each in enumerate(entries):
            (results / f"{i}.json").write_text(json.dumps(each))
        readme = tmp_path / "README.md"
        readme.write_text("".join(f"<!-- {name} -->\n<!-- /{name} -->\n" for name in NAMES))
        done = script("tables", "--root", tmp_path)
        assert done.code == 0, done.err
        return readme.read_text()

    return fill


def between(text, name):
    return text.partition(f"<!-- {name} -->\n")[2].partition("\n<!--")[0].splitlines()


def test_a_marker_that_is_wrong_or_missing_is_told(script, table, tmp_path):
    table(entry("trec-svm"))
    page = tmp_path / "docs" / "page.md"
    page.parent.mkdir()
    page.write_text("<!-- speeed -->\n<!-- /speeed -->\n")
    done = script("tables", "--root", tmp_path)
    assert done.code == 2
    assert "page.md: <!-- speeed --> is none of chapters," in done.err
    page.write_text("<!-- speed -->\n")
    assert "page.md: <!-- speed --> has no end" in script("tables", "--root", tmp_path).err
    for alone, rest in (
        ("<!--speed-->", "\n<!-- /speed -->\n"),
        ("<!-- /speed -->", "\n"),
        (" <!-- speed -->", "\n<!-- /speed -->\n"),
    ):
        page.write_text(f"Some text.\n{alone}{rest}")
        told = script("tables", "--root", tmp_path).err
        assert f"page.md: {alone.strip()} stands alone" in told, alone
    page.write_text("A table twice:\n<!-- speed -->\nold\n<!-- /speed -->\n")
    assert "page.md are not those" in script("tables", "--root", tmp_path, "--check").err
    assert script("tables", "--root", tmp_path).code == 0
    assert script("tables", "--root", tmp_path, "--check").code == 0
    assert "| adam |" in page.read_text()
    readme = tmp_path / "README.md"
    readme.write_text(readme.read_text().replace("claims -->", "speed -->"))
    done = script("tables", "--root", tmp_path)
    assert "has the markers of the tables ['claims']" in done.err


def test_pages_are_listed_in_the_order_of_their_index(tmp_path):
    folder = tmp_path / "docs" / "en"
    folder.mkdir(parents=True)
    assert tables.page_list(tmp_path, "docs/en") == "–"
    for name in ("a", "b", "index"):
        (folder / f"{name}.md").write_text(f"---\nx: y\n---\n\n# Page {name}\n\n## Part\n")
    expected = "[Page a](docs/en/a.md) · [Page b](docs/en/b.md)"
    assert tables.page_list(tmp_path, "docs/en") == expected
    with (folder / "index.md").open("a") as index:
        index.write("```{toctree}\n:maxdepth: 1\n\nb\n```\n```{toctree}\na\nresults/index\n```\n")
    expected = "[Page b](docs/en/b.md) · [Page a](docs/en/a.md)"
    assert tables.page_list(tmp_path, "docs/en") == expected
    # A page that includes another is listed by the title of that, which the link shows.
    (folder / "a.md").write_text("```{include} ../c.md\n```\n")
    (tmp_path / "docs" / "c.md").write_text("# Page c\n")
    expected = "[Seite b](docs/en/b.md) · [Page c](docs/c.md)"
    assert tables.page_list(tmp_path, "docs/en", {"Page b": "Seite b"}) == expected


def test_every_task_has_a_page_in_both_readmes():
    names = set(
        re.findall(r"^([\w-]+)$", (ROOT / "docs/en/how-to/index.md").read_text("utf-8"), re.M)
    )
    shown = tables.page_list(ROOT, "docs/en/how-to", tables.HOW_TO).split(" · ")
    assert len(shown) == len(names) > 17
    for link in shown:
        assert re.match(r"\[[^\]]*[一-鿿]", link), link


def measured(model, *, dev=None, test, corpus="trec", **other):
    """An entry of results/."""
    record = {"test": {"accuracy": {"mean": test}}}
    if dev is not None:
        record["dev"] = {"accuracy": {"mean": dev}}
    return {"corpus": corpus, "model": model, "record": record, **other}


def test_the_summary_shows_what_dev_prefers_whatever_its_test_figure():
    kim = {"accuracy": 93.6, "source": "Kim 2014", "vectors": "some"}
    entries = [
        measured("textcnn", dev=0.9, test=0.80, published=kim),
        measured("han", dev=0.8, test=0.95, published={"accuracy": 90, "source": "X"}),
        measured("svm", test=0.7),
        measured("tfidf", test=0.75),
        measured("svm", test=0.5, corpus="mine"),
    ]
    assert tables.summary(entries).splitlines()[2:] == [
        "| mine † | – | – | 50.0 linear SVM |",
        "| trec | 80.0 TextCNN | 93.6 (Kim 2014, given some vectors) | 75.0 logistic regression |",
    ]
    chinese = tables.summary(entries, language="zh").splitlines()[2:]
    assert chinese[1].endswith("| 75.0 逻辑回归 |")
    assert [line.count("|") for line in chinese] == [5, 5]


def test_the_summary_has_the_mean_over_the_stories_and_other_measures():
    entries = [entry("babi-1-dmn"), entry("babi-7-dmn"), entry("babi-3-dmn")]
    (row,) = tables.summary(entries).splitlines()[2:]
    assert row == "| bAbI, 2 tasks (mean error, %) | 0.65 DMN+ | 1.20 (the paper's) | – |"
    entries += [entry("babi-1-entnet"), entry("babi-7-entnet")]  # dev prefers this model
    (row,) = tables.summary(entries).splitlines()[2:]
    assert row == "| bAbI, 2 tasks (mean error, %) | 0.00 Entity Network | 0.00 (the paper's) | – |"
    rows = tables.summary([entry("multi30k-transformer"), entry("goemotions-ensemble")])
    assert "| goemotions (micro-F1) | 58.9 Ensemble | – | – |" in rows
    assert "| multi30k † (BLEU) | 38.8 Transformer | 36.5 (" in rows


def test_given_word_vectors_are_named(table):
    text = table(entry("imdb-textcnn"), entry("imdb-han"))
    assert "| 87.5 (TextCNN, bentrevett/pytorch-sentiment-analysis, given GloVe vectors) |" in text
    (han,) = [line for line in between(text, "results") if line.startswith("| imdb | HAN")]
    assert han.endswith("|  |")  # the paper's IMDB is another corpus


def test_a_story_task_with_fewer_questions_than_the_papers_stands_apart(table):
    text = table(entry("babi-3-dmn"), entry("babi-1-dmn"), entry("babi-7-dmn"))
    _, _, *rows = between(text, "stories")
    assert rows == [
        "| 1 | 0.0 | 0.0 | 0.0 | 1 × 12 |",
        "| 7 | 1.3 | 1.3 | 2.4 | 1 × 20 |",
        "| **mean of the 2** | **0.65** | **0.65** | **1.20** |  |",
        "| 3 (1,000 questions) | 70.9 | 70.9 | 1.1 | 1 × 60 |",
    ]


DATA = {"train": "a", "dev": "b", "test": "c"}


def short_run(task, *, dev, test, seeds=1):
    """An entry of results/ for EntNet."""
    figures = {"dev": [1 - error / 100 for error in dev], "test": [1 - test / 100]}
    record = {split: {"accuracy": {"runs": runs}} for split, runs in figures.items()}
    record |= {"seed": list(range(seeds)), "data": DATA, "documents": {"train": 9000, "dev": 1000}}
    published = {"accuracy": 99.8, "source": "somebody"}
    known = {"corpus": f"babi-{task}", "model": "entnet", "published": published}
    return {**known, "settings": {"epochs": 60}, "record": record}


def of_seeds(task, *, dev, test, median=9.0, loss=0.1, seeds=10, **other):
    """A record of scripts/babi_seeds.py, whose other seed is better on test and worse on dev."""
    replicas = [
        {"seed": 0, "dev_error": dev + 1, "dev_loss": 9.0},
        {"seed": 1, "dev_error": dev, "dev_loss": loss},
    ]
    known = {"corpus": f"babi-{task}", "model": "entnet", "seeds": list(range(seeds))}
    known |= {"epochs": 48, "chosen": 1, "replicas": replicas, "data": DATA}
    return {**known, "test_error": test, "test_error_median": median, **other}


def story_row(tmp_path, entries, **files):
    """The row of task 16, with these files of scripts/babi_seeds.py."""
    folder = tmp_path / "babi-seeds"
    folder.mkdir(exist_ok=True)
    for name, records in files.items():
        (folder / f"{name}.json").write_text(json.dumps(records))
    text = tables.stories(entries, tables.story_seeds(tmp_path))
    (row,) = [line for line in text.splitlines() if line.startswith("| 16 ")]
    return row


def test_the_training_that_is_best_on_dev_is_shown_whatever_its_test_error(tmp_path):
    better_on_test = short_run(16, dev=[3.0], test=0.5)
    name = "babi-16-entnet"
    papers = {name: of_seeds(16, dev=2.5, test=1.0, median=4.0)}
    assert story_row(tmp_path, [better_on_test]) == "| 16 | 0.5 | 0.5 | 0.2 | 1 × 60 |"
    row = story_row(tmp_path, [better_on_test], first=papers)
    assert row == "| 16 | 1.0 | 4.0 | 0.2 | 10 × 48 |"
    others = {f"{name}:lr=0.003,slots=9": of_seeds(16, dev=2.0, test=7.0, median=41.7)}
    row = story_row(tmp_path, [better_on_test], first=papers, second=others)
    assert row == "| 16 | 7.0 | 41.7 | 0.2 | 10 × 48, `lr=0.003,slots=9` |"
    best_of_short = short_run(16, dev=[1.9, 5.0], test=8.0, seeds=2)
    row = story_row(tmp_path, [best_of_short])
    assert row == "| 16 | 8.0 | – | 0.2 | 2 × 60 |"


def test_of_equal_errors_on_dev_more_seeds_count_then_the_dev_loss(tmp_path):
    name, short = "babi-16-entnet", short_run(16, dev=[2.0], test=1.0)
    records = {
        name: of_seeds(16, dev=2.0, test=2.0, loss=0.2),
        f"{name}:lr=1": of_seeds(16, dev=2.0, test=3.0, loss=0.1),
        f"{name}:lr=2": of_seeds(16, dev=2.0, test=1.0, loss=0.01, seeds=2),
    }
    row = story_row(tmp_path, [short], first=records)
    assert row == "| 16 | 3.0 | 9.0 | 0.2 | 10 × 48, `lr=1` |"


def test_trainings_that_failed_or_had_other_documents_are_not_shown(tmp_path):
    name, short = "babi-16-entnet", short_run(16, dev=[2.0], test=1.0)
    failed = {
        name: {"error": "not begun"},
        f"{name}:lr=1": of_seeds(16, dev=0.0, test=0.0, error="RuntimeError()"),
    }
    assert story_row(tmp_path, [short], first=failed) == "| 16 | 1.0 | 1.0 | 0.2 | 1 × 60 |"
    other = {name: of_seeds(16, dev=0.0, test=0.0, data=DATA | {"test": "d"})}
    with pytest.raises(UserError, match="entnet on babi-16 have different documents"):
        story_row(tmp_path, [short], first=other)


def test_the_records_of_ten_seeds_are_in_the_book():
    text = (ROOT / "docs" / "en" / "results" / "babi.md").read_text("utf-8")
    shown = tables.story_seeds(ROOT / "results")
    assert sum(map(len, shown.values())) == 17
    assert "| 10 × 48, `lr=0.003` |" in text  # task 16 of EntNet


def test_every_published_figure_has_a_source():
    published = [
        each["published"] for each in map(entry, [p.stem for p in ENTRIES]) if "published" in each
    ]
    assert len(published) > 50
    assert all(each["source"] for each in published)
    assert not any("not recorded" in each["source"] for each in published)


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
    (row,) = [line for line in between(text, "label-sets") if line.startswith("| goemotions")]
    assert row == (
        "| goemotions | TF-IDF + logistic regression, balanced | 50.0 ± 1.0 | 30.0 ± 1.0 "
        "| 45.0 ± 1.0 | 40.0 ± 1.0 | 40.0 ± 1.0 | 3 | micro-F1 51.0 (somebody) |"
    )
    assert between(text, "results")[2].startswith("| trec | TF-IDF")
    assert len(between(text, "results")) == len(between(text, "label-sets")) == 3


def test_speeds_of_rules_that_torch_does_not_have_and_of_sparse_gradients(tmp_path):
    def row(model, rule, beside, **milliseconds):
        return {"model": model, "rule": rule, "beside": beside, "milliseconds": milliseconds}

    itself = "itself in tensor operations: not in torch"
    no_sparse = "itself in tensor operations: torch's takes no sparse gradient"
    rows = [
        row("mid", "adam", "torch Adam", ours=1.0, default=4.0, foreach=3.0, fused=1.5),
        row("mid", "lion", itself, ours=1.0, default=2.0),
        row("mid", "muon", "torch Muon", ours=2.0, default=1.0),
        row("mid", "schedule-free", itself, ours=2.0, default=7.0),
        row("big", "adam", "torch Adam", ours=10.0, default=20.0, fused=11.0, limit=10.0),
        row("sparse", "adam", "torch SparseAdam", ours=1.0, default=6.0),
        row("sparse", "lion", no_sparse, ours=1.0, default=9.0),
        {"rule": "adam", "first_step": [1.0, 0.1], "peak_mib": [1.0, 2.0]},
    ]
    (tmp_path / "benchmarks").mkdir()
    path = tmp_path / "benchmarks" / "optimizers.json"
    path.write_text(json.dumps({"rows": rows}))
    assert speeds(tmp_path).splitlines() == [
        "*mid*: 24 matrices of 256² and 48 biases; *big*: two matrices of 4096²; *sparse*: 34,560 "
        "rows of an embedding of 1,100,000 × 10; muon is for matrices: 24 of 256² and 400 of 8².",
        "",
        "| rule | mid × default | mid × fused | big × default | big × fused | sparse × default |",
        "|---|---|---|---|---|---|",
        "| adam | 4.00 | 1.50 | 2.00 | 1.10 | 6.00 |",
        "| lion \\* | 2.00 | – | – | – | – |",
        "| muon | 0.50 | – | – | – | – |",
        "| schedule-free \\* | 3.50 | – | – | – | – |",
    ]


def test_fasttext_beside_the_c_program_and_threads_beside_others(tmp_path):
    (tmp_path / "benchmarks").mkdir()
    rows = {
        "theirs": {"seconds": 4.0, "ratio": 1.0, "accuracy": 0.897},
        "ours, warm": {"seconds": 2.5, "ratio": 0.625, "accuracy": 0.90123},
    }
    path = tmp_path / "benchmarks" / "fasttext.json"
    path.write_text(json.dumps({"corpora": {"imdb": {"rows": rows}}}))
    assert fasttext(tmp_path).splitlines()[2:] == [
        "| imdb | C++ program, 5 epochs | 4.00 | 1.00 | 89.70 |",
        "| imdb | ours, the same files once more | 2.50 | 0.62 | 90.12 |",
    ]
    speeds = {"one thread": 3900.4, "in a loop": 220.0, "asleep": 7800.0}
    for situation in ("quiet", "busy"):
        row = {"situation": situation, "model": "fasttext", "documents_per_second": speeds}
        path = tmp_path / "benchmarks" / f"{situation}.json"
        path.write_text(json.dumps({"cores": 2, "rows": [row]}))
    assert busy(tmp_path).splitlines()[2:] == [
        "| FastText | none | 3,900 | 220 | 7,800 |",
        "| FastText | 2, one for each core | 3,900 | 220 | 7,800 |",
    ]


def test_the_sizes_and_rules_of_the_table_are_those_of_the_benchmark():
    assert tables.SIZES.keys() == bench_optimizers.MODELS.keys()
    assert bench_optimizers.MODELS["mid"] == [(256, 256)] * 24 + [(256,)] * 48
    assert bench_optimizers.MODELS["tiny"] == [(64,)] * 400
    assert bench_optimizers.MODELS["big"] == [(4096, 4096)] * 2
    assert bench_optimizers.MODELS["sparse"] == [(1_100_000, 10)]
    assert bench_optimizers.ROWS == 34_560
    assert bench_optimizers.MATRICES == {"mid": [(256, 256)] * 24, "tiny": [(8, 8)] * 400}


def test_advice_is_shown_from_its_records(tmp_path):
    assert advice(tmp_path) == ""
    (tmp_path / "advice").mkdir()

    def record(name, **other):
        known = {"corpus": name, "minutes": 1.0, "sentence": f"Use m on {name}.", "raced_on": 1000}
        known |= {"measures": {"documents": 4000}, "seconds": {"sweep": 640.0}, **other}
        (tmp_path / "advice" / f"{name}.json").write_text(json.dumps(known))

    record("a", score=0.87, best="n, lr 0.1", best_score=0.875, gap=0.005, raced_on=4000)
    record("b", score=None, best="n", best_score=0.9, gap=None)
    record("c")  # still measuring
    assert advice(tmp_path).splitlines() == [
        "- a, 1 min, 4,000 documents: “Use m on a.” Trained on all of them from several seeds it "
        "has 87.0 %; the best of a sweep of 11 minutes, n, lr 0.1, has 87.5 %.",
        "- b, 1 min, 1,000 of 4,000 documents: “Use m on b.” Trained on all of them from several "
        "seeds it diverges; the best of a sweep of 11 minutes, n, has 90.0 %.",
    ]


def test_planted_label_errors_are_shown_from_their_records(tmp_path):
    assert label_errors(tmp_path) == ""
    (tmp_path / "label-errors").mkdir()
    plants = [{"called_wrong_precision": p} for p in (0.5, 0.6)]
    entry = {"corpus": "c", "documents": 1500, "share": 0.1, "models": ["m", "n"]}
    entry |= {"precision": 0.7, "plants": plants}
    (tmp_path / "label-errors" / "c.json").write_text(json.dumps(entry))
    assert label_errors(tmp_path) == (
        "- c, 1,500 documents, 10 % wrong labels planted at random, 2 times, by m and n: of the "
        "10 % most doubtful documents 70 % were planted, of those that are called wrong 55 %."
    )


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
        "| 1.500 (steps, a &#124; b) | 1,234 |",
        "| adam-is-the-best is so. `adam-is-the-best` | **holds only if** it rains "
        "| 1.500 [1, 2] (steps, a &#124; b) | – |",
        "",
        "All of them took 1 min 30 s of computation, added up over processes.",
    ]
    (tmp_path / "claims" / "quick.json").write_text(json.dumps({"claims": rows[:1]}))
    assert verdicts(tmp_path).splitlines() == [
        *lines[:-1],
        lines[-1] + " With `--quick` it is 45 s.",
    ]


def test_activations_and_tokenizers_are_shown_from_their_records(tmp_path):
    (tmp_path / "benchmarks").mkdir()
    ratios = {"tanh": {"eager": 0.5, "compiled": 0.8}, "rrelu, training": {"eager": 2.0}}
    path = tmp_path / "benchmarks" / "activations.json"
    path.write_text(json.dumps({"ratios": ratios}))
    assert tables.activation_speeds(tmp_path).splitlines()[2:] == [
        "| tanh | 2.00 | 1.25 |",
        "| rrelu, training | 0.50 | – |",
    ]
    rows = [
        {"corpus": "tnews", "model": "textcnn", "tokenizer": tokenizer, "dev accuracy": accuracy}
        for tokenizer, accuracy in (("jieba", 0.25), ("basic_english", 0.125))
    ]
    path = tmp_path / "benchmarks" / "tokenizers.json"
    path.write_text(json.dumps({"rows": rows}))
    assert tables.tokenizers(tmp_path).splitlines()[2:] == [
        "| tnews | TextCNN | 12.5 | – | 25.0 | – |"
    ]
