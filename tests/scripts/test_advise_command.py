"""``dlnotes advise``: from files to a recommendation."""

import contextlib
import io
import json
import shlex
import textwrap
import time
from types import SimpleNamespace

import numpy as np
import pytest

from dlnotes.advice import race
from dlnotes.advice import runner as advice_runner
from dlnotes.advice.report import Advice
from dlnotes.advice.runner import CorpusStatistics, TrialRunner
from dlnotes.commands import advise
from dlnotes.data.dataset import load_dataset
from dlnotes.errors import UserError
from dlnotes.training.fit import Interrupted, OutOfTime
from dlnotes.training.trials import Trial, run_trial


@pytest.fixture(autouse=True)
def few_models(request, monkeypatch):
    """Little to try, so that races end early."""
    if "slow" not in request.keywords:
        monkeypatch.setattr(advise, "MODELS", ("tfidf", "fasttext"))
        monkeypatch.setattr(race, "MAX_SEEDS", 2)
        if "varies" not in request.node.name:
            monkeypatch.setattr(TrialRunner, "vary", lambda *_: ())


def trial(hits, *, network=True):
    """A trial with these hits."""
    return Trial({}, hits.astype(float), np.ones(len(hits)), 1.0, 100.0, [0.5] * network)


def test_a_race_on_own_files(script, files, tmp_path):
    out = tmp_path / "out"
    result = script("advise", "--train", files / "train.tsv", "--minutes", 3, "--out", out)
    assert result.code == 0, result.err
    assert "there was nothing left to try" in result.out
    assert result.out.startswith("Use ")
    for said in ("accuracy", "180 to learn from, 20 for dev", "each class has 90", "verdict"):
        assert said in result.out
    record = json.loads((out / "advice.json").read_text())
    assert record["sentence"] == result.out.splitlines()[0]
    assert record["corpus"]["documents"] == 180
    assert record["record"]["seed"] == 0
    assert {c["model"] for c in record["candidates"]} == {"tfidf", "fasttext"}
    assert (out / "advice.png").read_bytes().startswith(b"\x89PNG")
    assert f"  {record['command']}\n" in result.out
    program, *words = shlex.split(record["command"])
    assert program == "python"
    assert words[1:3] == ["--train", str(files / "train.tsv")]
    # The words are perfectly telling, so that there is nothing to gain over the cheapest.
    assert record["recommended"] == "tfidf"
    assert_is_what_was_measured(record, result, "accuracy")


def assert_is_what_was_measured(record, result, figure):
    """The program that is printed reaches what the race measured of the baseline."""
    _, printed = result.out.split("Train it with scikit-learn, in Python (what was measured):\n")
    printed = printed.split("\n\nThe best model")[0].split("\nEvidence:")[0]
    assert textwrap.dedent(printed).strip() == record["program"].strip()
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(record["program"], {})
    (baseline,) = (c for c in record["candidates"] if c["model"] == "tfidf")
    assert said.getvalue().startswith(f"{figure} on dev: ")
    assert float(said.getvalue().split()[-1]) == pytest.approx(baseline["score"], abs=1e-9)


def test_the_command_that_is_recommended_runs(script, files, tmp_path, monkeypatch):
    monkeypatch.setattr(advise, "MODELS", ("fasttext",))
    monkeypatch.chdir(tmp_path)
    odd = tmp_path / "my texts;.tsv"
    odd.write_text((files / "train.tsv").read_text())
    options = ("--dev-fraction", 0.2, "--tokenizer", "cased", "--seed", 3)
    result = script("advise", "--train", odd, *options)
    assert result.code == 0, result.err
    command = json.loads((tmp_path / "runs/advice/my texts;/advice.json").read_text())["command"]
    words = shlex.split(command)[2:]
    assert "--dev-fraction=0.2" in words
    assert "--tokenizer=cased" in words
    assert "--seed=3" in words
    trained = script("train", *words, "--out", tmp_path / "run")
    assert trained.code == 0, trained.err
    settings = json.loads((tmp_path / "run/metrics.json").read_text())["settings"]
    assert (settings["model"], settings["tokenizer"], settings["seed"]) == ("fasttext", "cased", 3)


def test_several_labels_are_compared_by_micro_f1(script, tmp_path):
    random = np.random.default_rng(0)
    lines = []
    for _ in range(150):
        labels = [name for name in "abc" if random.random() < 0.4]
        lines.append(json.dumps({"text": " ".join([f"is{n}" for n in labels] + ["the"]), "label": labels}))  # fmt: skip
    (tmp_path / "s.jsonl").write_text("\n".join(lines))
    out = tmp_path / "out"
    result = script("advise", "--train", tmp_path / "s.jsonl", "--out", out)
    assert result.code == 0, result.err
    assert "micro-F1" in result.out
    assert "labels per document" in result.out
    record = json.loads((out / "advice.json").read_text())
    assert record["figure"] == "micro-F1"
    assert_is_what_was_measured(record, result, "micro-F1")


def test_ctrl_c_ends_it_and_what_is_there_is_recommended(script, files, tmp_path, monkeypatch):
    real = TrialRunner.measure

    def measure(self, candidate, *rest):
        if candidate.model == "fasttext":
            raise Interrupted
        return real(self, candidate, *rest)

    monkeypatch.setattr(TrialRunner, "measure", measure)
    out = tmp_path / "out"
    result = script("advise", "--train", files / "train.tsv", "--out", out)
    assert result.code == 130
    assert result.out.startswith("Only TF-IDF with logistic regression was measured")
    assert "Stopped before the end" in result.out
    assert json.loads((out / "advice.json").read_text())["command"] is None


def test_ctrl_c_before_anything_is_measured(script, files, tmp_path, monkeypatch):
    def measure(*_):
        raise Interrupted

    monkeypatch.setattr(TrialRunner, "measure", measure)
    result = script("advise", "--train", files / "train.tsv", "--out", tmp_path / "out")
    assert (result.code, result.out) == (130, "")
    assert result.err == "Stopped before anything was measured.\n"


def test_without_time_for_anything_nothing_is_recommended(script, files, tmp_path, monkeypatch):
    def measure(*_):
        raise OutOfTime

    monkeypatch.setattr(TrialRunner, "measure", measure)
    result = script("advise", "--train", files / "train.tsv", "--out", tmp_path / "out")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("error: nothing could be measured (")
    assert result.err.endswith("): give more --minutes\n")
    assert result.err.count("\n") == 1


@pytest.mark.parametrize(
    ("raced", "multi_label", "said"),
    [
        (900, True, "(what was measured)"),
        (500, False, "(the same with all documents)"),
        (500, True, "(the same with all documents, but for the threshold, which is that of the "),
    ],
)
def test_what_the_program_has_in_common_with_the_race_is_said(capsys, raced, multi_label, said):
    statistics = CorpusStatistics(900, 100, 2, 10.25, 37, 5000, 0.5, ("a", 600), ("b", 300), None)
    documents = SimpleNamespace(
        documents=raced, dev=100, statistics=statistics, multi_label=multi_label, tokenizer="words"
    )
    runs = [trial(np.arange(100) < 80, network=False)]
    advice = Advice([race.Entry(race.Candidate("tfidf"), runs=runs)], "micro-F1", 100)
    advise._print(advice, documents, "code", None, [])
    assert f"Train it with scikit-learn, in Python {said}" in capsys.readouterr().out
    runs = [trial(np.arange(100) < 10)]
    other = race.Entry(race.Candidate("textcnn"), first=runs[0], runs=runs)
    one, both = Advice([other], "micro-F1", 100), Advice([*advice.entries, other], "micro-F1", 100)
    slow = race.Entry(race.Candidate("textcnn"), first=trial(np.arange(100) < 99), share=0.3)
    leads = Advice([*advice.entries, slow], "micro-F1", 100)
    for found, code, before in (
        (one, None, "The command that trains it"),
        (both, "code", "The best model that dlnotes trains"),
        (leads, None, "Train it (measured after 30 % of its epochs)"),
    ):
        advise._print(found, documents, code, "dlnotes train", [])
        assert f"\n{before}:\n  dlnotes train" in capsys.readouterr().out


@pytest.mark.slow
def test_the_time_is_kept(script, files, tmp_path):
    began = time.perf_counter()
    out = tmp_path / "out"
    result = script("advise", "--train", files / "train.tsv", "--minutes", 0.5, "--out", out)
    assert result.code == 0, result.err
    assert time.perf_counter() - began < 30 * 1.1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--train", "NOWHERE.tsv"], "NOWHERE.tsv does not exist"),
        (["--train", "EMPTY.tsv"], "EMPTY.tsv holds no documents"),
        (["--train", "ONE.tsv"], "only one class, 'a'"),
        (["--train", "ONE.tsv", "--minutes", "0"], "minutes must be at least 0.25, not 0.0"),
        (["--train", "ONE.tsv", "--minutes", "nan"], "minutes must be"),
        (["--train", "ONE.tsv", "--minutes", "0.2"], "minutes must be at least 0.25, not 0.2"),
        (["--train", "ONE.tsv", "--corpus", "trec"], "either --corpus or --train"),
        (["--dev", "ONE.tsv"], "--dev belongs to --train"),
        (["--train", "ONE.tsv", "--device", "gpu"], "device"),
        (["--train", "ONE.tsv", "--model", "textcnn"], "--model"),
        (["--train", "ONE.tsv", "--out", "ONE.tsv"], "ONE.tsv"),
    ],
)
def test_a_mistake_is_one_line(script, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "EMPTY.tsv").write_text("")
    (tmp_path / "ONE.tsv").write_text("a\tsome text\n" * 9)
    result = script("advise", *arguments)
    assert result.code == 2
    assert result.out == ""
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1
    assert said in result.err


@pytest.mark.parametrize("option", ["train", "dev", "config", "corpus"])
@pytest.mark.parametrize("output", ["advice.json", "advice.png"])
@pytest.mark.parametrize("spelling", ["plain", "dots", "link to it", "link from it"])
def test_no_input_is_replaced(script, files, tmp_path, monkeypatch, option, output, spelling):
    monkeypatch.setattr(advise, "TrialRunner", None)  # it is told before the race
    out, mine = tmp_path / "out", tmp_path / "mine"
    out.mkdir()
    mine.mkdir()
    texts = (files / "train.tsv").read_bytes()
    for split in ("train", "test"):
        (mine / f"{split}.tsv").write_bytes(texts)
    given = mine / "train.tsv"
    if spelling == "link from it":
        (out / output).symlink_to(given)
    elif spelling == "link to it" or option == "corpus":  # whose files have names of their own
        given.rename(out / output)
        given.symlink_to(out / output)
    else:
        given = (out / ".." / "out" if spelling == "dots" else out) / output
    content = b"seed: 1\n" if option == "config" else texts
    given.write_bytes(content)
    inputs = {"train": files / "train.tsv", option: given}
    if option == "corpus":
        inputs = {"corpus": "mine", "data-dir": tmp_path}
    arguments = [word for name, value in inputs.items() for word in (f"--{name}", value)]
    result = script("advise", *arguments, "--out", out)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"error: --{option} and --out are the same file, ")
    assert result.err.endswith(": give another --out\n")
    assert given.read_bytes() == content


@pytest.mark.parametrize("output", ["advice.json", "advice.png"])
def test_what_cannot_be_written_is_told_before_the_race(
    script, files, tmp_path, monkeypatch, output
):
    monkeypatch.setattr(advise, "TrialRunner", None)
    arguments = ("--train", files / "train.tsv", "--out", tmp_path / "out")
    (tmp_path / "out" / output).mkdir(parents=True)
    result = script("advise", *arguments)
    assert (result.code, result.out) == (2, "")
    assert result.err == f"error: cannot write {tmp_path / 'out' / output}: it is there and is not a file\n"  # fmt: skip
    (tmp_path / "out" / output).rmdir()
    (tmp_path / "out" / output).symlink_to(tmp_path / "nowhere" / "x")
    result = script("advise", *arguments)
    assert result.err == f"error: cannot write {tmp_path / 'out' / output}: there is no folder {tmp_path / 'nowhere'}\n"  # fmt: skip


def test_dev_documents_that_are_learned_from_are_told(script, files, tmp_path, monkeypatch):
    monkeypatch.setattr(advise, "MODELS", ("tfidf",))
    file, out = files / "train.tsv", tmp_path / "out"
    result = script("advise", "--train", file, "--dev", file, "--out", out)
    assert result.code == 0, result.err
    assert "note: 200 dev documents also occur in earlier splits" in result.out
    assert "(dlnotes train --check-data FILE lists them)." in result.out
    assert "200 dev documents" in json.loads((out / "advice.json").read_text())["notes"][0]


@pytest.mark.filterwarnings("ignore:the texts. no training text has a token")
def test_texts_without_a_token_are_a_mistake():
    with pytest.raises(UserError, match=r"^no training document has a token"):
        TrialRunner(lambda _: load_dataset({"train": [("a", " "), ("b", "")] * 20}), seconds=60)


def test_time_that_has_passed_is_not_there_for_trials(monkeypatch):
    limits = []

    def slow(*_, time_limit, **__):
        limits.append(time_limit)
        raise OutOfTime

    monkeypatch.setattr(advice_runner, "run_trial", slow)
    assert TrialRunner(load, seconds=100, clock=lambda: 90.0).documents == 1_000
    assert limits[0] == 10
    monkeypatch.setattr(TrialRunner, "_probed", lambda _: (1, 0.001))
    assert TrialRunner(load, seconds=1000).documents == 2_160
    assert TrialRunner(load, seconds=1000, clock=lambda: 999.0).documents == 1_000


def pairs(n, seed=0):
    random = np.random.default_rng(seed)
    return [
        ("ab"[i % 2], f"{'ab'[i % 2]}{random.integers(9)} w{random.integers(n)}") for i in range(n)
    ]


def load(model, n=2400):
    return load_dataset({"train": pairs(n)}, sentences=model == "han")


def test_what_does_not_fit_into_the_time_is_raced_on_a_part():
    short = TrialRunner(load, seconds=0.01)
    assert short.documents == 1_000
    assert short.statistics.documents == 2_160
    part = short.dataset("fasttext")
    assert len(part.train) == 1_000
    assert len(part.dev) == short.dev == 240
    # Its vocabulary is that of the part.
    assert part.token_counts().sum() == part.train.lengths.sum()
    long = TrialRunner(load, seconds=1e6)
    assert long.documents == 2_160


def test_a_part_has_the_same_documents_for_models_that_read_sentences():
    corpus = TrialRunner(load, seconds=0.01)
    words, sentences = (corpus.dataset(model) for model in ("textcnn", "han"))
    first = [[part.train.text(i).split()[:2] for i in range(50)] for part in (words, sentences)]
    assert first[0] == first[1]
    assert sentences.tokenizer == "sentences"
    assert np.array_equal(words.dev.labels, sentences.dev.labels)


def test_a_first_trial_has_a_share_of_the_recipes_epochs(monkeypatch):
    corpus = TrialRunner(lambda model: load(model, 200), seconds=60)
    asked = []

    def trial(dataset, model, training, **options):
        asked.append(training)
        return run_trial(dataset, "tfidf")

    monkeypatch.setattr(advice_runner, "run_trial", trial)
    epochs = corpus.resolved("fasttext").training.epochs
    candidate = advice_runner.Candidate("fasttext", {"lr": 0.5})
    assert corpus.measure(candidate, 0.25, 2, 9.0)[1] == round(epochs / 4) / epochs
    assert (asked[0].epochs, asked[0].lr, asked[0].seed) == (round(epochs / 4), 0.5, 2)
    assert corpus.measure(candidate, 1.0, 0, 9.0)[1] == 1


def test_what_varies_changes_one_setting_each():
    corpus = TrialRunner(lambda model: load(model, 200), seconds=60)
    own = corpus.resolved("fasttext").training
    found = [dict(each.changes) for each in corpus.vary(advice_runner.Candidate("fasttext"))]
    assert all(len(changes) == 1 for changes in found)
    rates = [changes["lr"] for changes in found if "lr" in changes]
    assert rates == pytest.approx([3 * own.lr, own.lr / 3], rel=0.1)
    sizes = [changes["batch_size"] for changes in found if "batch_size" in changes]
    assert sizes == [own.batch_size // 2, own.batch_size * 2]
    assert sum("optimizer" in changes for changes in found) == 2


def test_measures_of_a_corpus():
    dataset = load_dataset(
        {
            "train": [("x", "a a b")] * 30 + [("y", "c")] * 10 + [("y", "d rare")],
            "dev": [("x", "z")],
        }
    )
    found = CorpusStatistics.of(dataset)
    assert (found.documents, found.dev, found.classes) == (41, 1, 2)
    assert (found.types, found.once) == (5, pytest.approx(2 / 5))
    assert (found.largest, found.smallest) == (("x", 30), ("y", 11))
    assert found.tokens == pytest.approx((90 + 10 + 2) / 41)
    assert found.longest == 3
    assert found.labels is None
