"""Claims about real text: corpora that stand in a folder, what is missing, and who is best."""

import math
from importlib import import_module
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dlnotes.claims import adagrad_suits_sparse_data, adam_is_the_best, texts
from dlnotes.claims.claim import Budget, Verdict
from dlnotes.claims.races import Entry, Method, Race, Run, train
from dlnotes.errors import UserError

QUICK = Budget(quick=True)
ABOUT_TEXTS = [
    "adagrad_suits_sparse_data",
    "adam_beats_rmsprop_on_sparse_gradients",
    "adam_converges_faster",
    "adam_is_the_best",
    "adaptive_rules_are_alike",
]


def write(folder, name, n, classes):
    """Documents of 3 to 30 words of 120, of which each class has 20 of its own."""
    generator = np.random.default_rng(len(name))
    (folder / name).mkdir(parents=True)
    for split, size in (("train", n), ("test", 80)):
        lines = []
        for i in range(size):
            label = min(int(generator.geometric(0.5)) - 1, classes - 1) if i >= 40 else i % classes
            length = int(generator.integers(3, 31))
            own = generator.random(length) < 0.5
            words = np.where(
                own,
                generator.integers(20, size=length) + 20 * label,
                generator.integers(120, size=length),
            )
            lines.append(f"class{label}\t{' '.join(f'word{w}' for w in words)}\n")
        (folder / name / f"{split}.tsv").write_text("".join(lines), "utf-8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("corpora")
    for name, n, classes in (("trec", 1900, 4), ("r52", 1800, 6), ("bbc", 300, 3)):
        write(made, name, n, classes)
    return str(made)


def test_a_corpus_is_read_up_to_its_length(folder):
    corpus = texts.read("trec", folder)
    sizes = [len(part[0]) for part in corpus[:3]]
    assert sum(sizes[:2]) == 1900
    assert sizes[2] == 80
    assert sizes[1] == pytest.approx(190, abs=4)
    assert corpus.classes == 4
    assert 100 < corpus.words <= 122
    assert corpus.train[0].shape[1] == texts.TOKENS["trec"] < 30
    assert texts.read("trec", folder, tokens=2).train[0].shape[1] == 2


def test_words_are_counted(folder):
    tokens = torch.tensor([[2, 3, 2, 0], [5, 1, 0, 0]])
    assert texts.counts(tokens, 4).tolist() == [[0, 0, 2, 1], [0, 1, 0, 0]]


@pytest.mark.parametrize("model", [*texts.MODELS])
def test_models_of_the_product_learn_the_texts(folder, model):
    of = texts.problem("bbc", model, folder)
    (run,) = train(of, Method.named("adam"), [(0.03, 0)], 60, 32)
    assert run.test > 0.75 > run.dev[0]
    (same,) = train(texts.training("bbc", model, folder), Method.named("adam"), [(0.03, 0)], 60, 32)
    assert same.loss == run.loss  # the same training, measured otherwise
    assert same.test < 0.5 * same.dev[0]


def test_what_cannot_be_had_is_told_in_a_line(tmp_path, monkeypatch, folder):
    def no_network(*_, **__):
        raise UserError("no connection")

    monkeypatch.setattr(texts.corpora, "load", no_network)
    lines = []
    assert texts.digests(["trec", "r52"], tell=lines.append) == {}
    assert lines[0] == "the claims about texts go without trec: no connection"
    assert "--data-dir FOLDER" in lines[1]
    assert len(lines) == 2
    assert not any("\n" in line for line in lines)


def test_a_digest_follows_the_texts(tmp_path, folder):
    lines = []
    first = texts.digests(["trec", "bbc", "r52"], folder, lines.append)
    assert [*first] == ["trec", "bbc", "r52"]
    assert not lines
    for name in ("trec", "bbc"):
        write(tmp_path, name, 1900 if name == "trec" else 301, 4 if name == "trec" else 3)
    second = texts.digests(["trec", "bbc", "r52"], str(tmp_path), lines.append)
    assert second["trec"] == first["trec"]
    assert second["bbc"] != first["bbc"]
    assert len(lines) == 1
    assert "r52" in lines[0]


@pytest.mark.parametrize("name", ABOUT_TEXTS)
def test_claims_read_the_texts_that_there_are(name, folder):
    claim = import_module(f"dlnotes.claims.{name}").CLAIM
    found = dict.fromkeys(claim.corpora, "digest")
    lacking = claim.corpora[-1]
    del found[lacking]
    told = []
    budget = Budget(quick=True, corpora=found, data_dir=folder, progress=told.append)
    finding = claim.experiment(budget)
    assert finding.verdict is Verdict.NOT_DECIDED  # of three seeds
    assert f"Not found: {lacking}." in finding.left_out
    said = str(finding.numbers)
    assert next(iter(found)) in said
    assert f"{lacking} " not in said
    assert told == sorted(told)
    assert told[-1] == 1
    assert all(axes.has_data() for axes in finding.figure.axes)


def test_documents_of_a_corpus_are_sets_of_words(folder):
    generator = torch.Generator().manual_seed(0)
    parts = adagrad_suits_sparse_data.real("trec", generator, folder)
    assert [len(x) for x, _ in parts] == [500] * 3
    for x, y in parts:
        assert {*x.unique().tolist()} == {0, 1}
        assert x.shape[1] == adagrad_suits_sparse_data.WORDS
        assert 0.3 < (y > 0).double().mean() < 0.7  # half the documents are of the first class


# Adam is the best


def leads(n=10, **means):
    generator = np.random.default_rng(0)
    return {rival: mean + generator.normal(0, 0.004, n) for rival, mean in means.items()}


SAFE = {"lion": 0.03, "nadam": 0.01}


@pytest.mark.parametrize(
    ("steps", "seconds", "says"),
    [
        (SAFE, SAFE, "holds"),
        ({"lion": 0.03, "nadam": 0.001}, SAFE, "holds"),  # the margin is half a point
        (SAFE, {"lion": -0.02, "nadam": 0.0}, "holds only if steps are counted; in equal seconds "
         "lion is ahead"),
        (SAFE, {"lion": -0.02, "nadam": -0.03}, "holds only if steps are counted; in equal seconds "
         "lion and nadam are ahead"),
        ({"lion": 0.03, "nadam": -0.02}, SAFE, "does not hold"),
        ({"lion": 0.03, "nadam": -0.002}, SAFE, "not decided"),
    ],
)  # fmt: skip
def test_who_is_best(steps, seconds, says):
    verdict, condition = adam_is_the_best.judged(leads(**steps), leads(**seconds))
    assert f"{verdict.value} {condition}".strip() == says


def test_few_seeds_decide_nothing():
    assert adam_is_the_best.judged(leads(9, **SAFE), leads(9, **SAFE))[0] is Verdict.NOT_DECIDED


def test_a_lead_is_the_mean_over_all_cases():
    def raced(adam, lion):
        entries = {
            name: Entry(name, 0.1, {}, [Run(0.1, k, [0, 5], [], [0, x], x) for k, x in enumerate(of)], 1.0, 1, False)
            for name, of in (("adam", adam), ("lion", lion))
        }  # fmt: skip
        return Race("planted", entries, 5, 8, True, 0.0)

    races = [raced([0.9, 0.8], [0.5, 0.8]), raced([0.7, math.nan], [0.8, 0.6])]
    races[1].entries["adam"].runs[1].diverged = True
    found = adam_is_the_best.overall(races, ["lion"], "test")
    np.testing.assert_allclose(found["lion"], [(0.4 - 0.1) / 2, (0.0 - 0.6) / 2])


def test_what_tuning_is_worth():
    grid = adam_is_the_best.GRID
    tuning = dict.fromkeys(grid, math.nan) | {grid[0]: 0.5, grid[3]: 0.9, 1e5: 1.0}
    race = SimpleNamespace(entries={"adam": SimpleNamespace(tuning=tuning)})
    curve = adam_is_the_best.tuned_by_chance(race, "adam")
    assert len(curve) == len(grid)
    assert curve[0] == pytest.approx(100 * 1.4 / len(grid))
    assert curve[-1] == pytest.approx(90)  # what was added to the grid does not count


def test_defaults_are_those_of_the_rules():
    rate = adam_is_the_best.default_rate
    assert rate(Method.named("adam")) == 0.001
    assert rate(Method.named("adadelta")) == 1.0
