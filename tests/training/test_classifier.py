"""A run folder: complete, readable, without a pickle, and refused when it is not one."""

import json
import os
import re
import signal
import threading
import warnings

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import dlnotes.data.dataset as dataset_module
import dlnotes.training.fit as fit_module
import dlnotes.training.run as run_module
import dlnotes.training.train as train_module
from dlnotes.data.vocabulary import Vocabulary
from dlnotes.errors import UserError
from dlnotes.models import MODELS
from dlnotes.optim import Adam
from dlnotes.training.classifier import TextClassifier
from dlnotes.training.evaluate import scores
from dlnotes.training.fit import Interrupted
from dlnotes.training.schedule import linear
from dlnotes.training.settings import parse_settings
from dlnotes.training.train import train_classifier
from small import fitted, pairs

SMALL_RUN = {
    "model": "textcnn",
    "recipe": "plain",
    "model_settings": {"embedding_dim": 8, "maps": 4, "widths": (2, 3)},
    "lr": 0.02,
    "batch_size": 16,
    "progress": False,
}


@pytest.fixture
def trained(dataset, tmp_path):
    out = tmp_path / "run"
    classifier, record = train_classifier(dataset, out=out, epochs=10, **SMALL_RUN)
    return classifier, record, out


def test_saved_and_loaded_classifier_agree(trained):
    classifier, _, out = trained
    loaded = TextClassifier.load(out)
    texts = ["the goal of the match", "", "never seen words", "Court! Judge?"]
    assert torch.equal(loaded.probabilities(texts), classifier.probabilities(texts))
    result = loaded.classify(texts, top_k=9)
    assert [r["label"] for r in result[:1]] == ["sport"]
    assert result[3]["label"] == "law"
    for row in result:
        assert len(row["top"]) == 3
        assert sum(t["probability"] for t in row["top"]) == pytest.approx(1, abs=1e-5)
        assert row["probability"] == max(t["probability"] for t in row["top"])
    assert loaded.classify([]) == []
    with pytest.raises(UserError, match="top_k must be at least 1"):
        loaded.classify(texts, top_k=0)


def test_run_folder(trained):
    _, record, out = trained
    names = {path.name for path in out.iterdir() if not path.name.startswith("events")}
    assert names == {"classifier", "metrics.json", "checkpoint.pt", "documents.npz"}
    files = {path.name for path in (out / "classifier").iterdir()}
    assert files == {"model.safetensors", "config.json", "vocabulary.txt", "labels.json"}
    torch.load(out / "checkpoint.pt", weights_only=True)
    assert load_file(out / "classifier" / "model.safetensors")
    assert json.loads((out / "metrics.json").read_text()) == json.loads(json.dumps(record))
    for key in ("command", "commit", "seed", "versions", "machine", "data", "seconds", "history"):
        assert key in record
    assert set(record["data"]) == {"train", "test"}
    assert all(re.fullmatch("[0-9a-f]{64}", value) for value in record["data"].values())
    assert record["test"]["accuracy"] > 0.8
    assert record["documents"] == {"train": 216, "dev": 24, "test": 60}


def test_tensorboard_log(trained):
    _, record, out = trained
    log = EventAccumulator(str(out), size_guidance={"tensors": 0, "scalars": 0})
    log.Reload()
    tags = log.Tags()
    for tag in (
        "train/loss", "train/learning rate", "train/gradient norm", "train/documents per second",
        "dev/accuracy", "dev/loss", "dev/macro f1", "test/accuracy", "final/dev accuracy",
    ):  # fmt: skip
        assert tag in tags["scalars"], tag
    assert log.Scalars("test/accuracy")[-1].value == pytest.approx(record["test"]["accuracy"])
    assert len(log.Scalars("dev/loss")) == 10
    assert "test/confusion matrix" in tags["images"]
    assert "weights/output.weight" in tags["histograms"]
    assert "gradients/output.weight" in tags["histograms"]
    assert "test/wrong predictions/text_summary" in tags["tensors"]
    assert "_hparams_/session_start_info" in log.summary_metadata


def test_an_existing_run_is_not_overwritten(trained, dataset):
    _, _, out = trained
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match=r"already holds a run: give another --out, or --resume"):
        train_classifier(dataset, out=out, model="fasttext", progress=False)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def damaged_weights(out):
    path = out / "model.safetensors"
    path.write_bytes(path.read_bytes()[:100])


def other_weights(out):
    config = json.loads((out / "config.json").read_text())
    config["hyper_parameters"]["maps"] = 5
    (out / "config.json").write_text(json.dumps(config))


DAMAGE = {
    "no folder": (lambda out: [p.unlink() for p in out.iterdir()], "is not a trained classifier"),
    "no weights": (lambda out: (out / "model.safetensors").unlink(), "training has not finished"),
    "cut weights": (damaged_weights, "damaged or foreign"),
    "other weights": (other_weights, "damaged or foreign"),
    "not json": (lambda out: (out / "config.json").write_text("{"), "is damaged"),
    "foreign json": (lambda out: (out / "config.json").write_text("{}"), "does not say"),
    "no vocabulary": (lambda out: (out / "vocabulary.txt").unlink(), "has no vocabulary.txt"),
    "odd vocabulary": (lambda out: (out / "vocabulary.txt").write_text("x"), "not a vocabulary"),
    "cut vocabulary": (
        lambda out: (out / "vocabulary.txt").write_text("<pad>\n<unk>"),
        "damaged or foreign",
    ),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_folders_are_refused(trained, case):
    _, _, out = trained
    damage, message = DAMAGE[case]
    damage(out / "classifier")
    for folder in (out, out / "classifier"):
        with pytest.raises(UserError, match=message):
            TextClassifier.load(folder)


def sample(*, width: int = 3, rate: float = 0.5, kind: str = "max", deep: bool = False, sizes: tuple[int, ...] = (1, 2), cap: int | None = None):  # fmt: skip
    """Hyper-parameters of every type."""


def test_settings_are_typed_by_the_signature():
    given = ["width=4", "rate=1", "kind=mean", "deep=true", "sizes=3,4,5", "cap=7"]
    assert parse_settings("sample", sample, given) == {
        "width": 4, "rate": 1.0, "kind": "mean", "deep": True, "sizes": (3, 4, 5), "cap": 7,
    }  # fmt: skip
    assert parse_settings("sample", sample, ["sizes=3"]) == {"sizes": (3,)}
    for bad in ("width=x", "width=1.5", "rate=fast", "deep=1", "kind=3"):
        with pytest.raises(UserError, match=f"{bad.split('=')[0]} must be of type"):
            parse_settings("sample", sample, [bad])
    with pytest.raises(UserError, match=r"has no setting 'depth=3'; its settings are: width=3"):
        parse_settings("sample", sample, ["depth=3"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "bert"}, "model must be one of fasttext, textcnn, textrnn, rcnn, han"),
        ({"optimizer": "shampoo"}, "optimizer must be one of"),
        ({"schedule": "cosine"}, "schedule must be one of"),
        ({"device": "tpu"}, "device must be auto, cpu, cuda"),
        ({"amp": True, "device": "cpu"}, "amp .* needs a CUDA device"),
        ({"lr": -1.0}, "lr must be"),
        ({"clip_norm": -0.1}, "clip_norm must be at least 0 or None"),
        ({"class_weights": "odd"}, "class_weights must be one of none, balanced"),
        ({"model_settings": {"dropout": 2.0}}, "dropout"),
        ({"model_settings": {"nonsense": 1}}, "nonsense"),
        ({"optimizer_settings": {"betas": (2.0, 0.9)}}, "betas"),
    ],
)
def test_bad_settings(dataset, tmp_path, settings, message):
    with pytest.raises(UserError, match=message):
        train_classifier(dataset, **({"model": "textcnn", "progress": False} | settings))


def test_a_bad_test_split_does_not_lose_the_training(dataset, tmp_path):
    dataset._test = [("unseen", "x")]
    out = tmp_path / "run"
    with pytest.raises(
        UserError, match=r"'unseen' does not occur.*the trained classifier is kept in"
    ):
        train_classifier(
            dataset,
            out=out,
            model="fasttext",
            model_settings={"buckets": 99},
            epochs=1,
            progress=False,
        )
    assert TextClassifier.load(out).classify(["goal"])


def test_a_training_too_short_for_a_checkpoint_is_repeated(dataset, tmp_path, monkeypatch):
    settings = {
        "model": "fasttext",
        "model_settings": {"buckets": 99},
        "epochs": 2,
        "refit": False,
        "progress": False,
    }
    expected = train_classifier(dataset, out=tmp_path / "whole", **settings)[1]
    assert (tmp_path / "whole" / "checkpoint.pt").exists()
    monkeypatch.setattr(fit_module, "_SAVED_AT_ONCE", 0.0)
    monkeypatch.setattr(fit_module, "_SAVED_PER_SECOND", 1.0)
    test, dataset._test = dataset._test, [("unseen", "x")]
    out = tmp_path / "run"
    with pytest.raises(UserError, match="'unseen' does not occur"):
        train_classifier(dataset, out=out, **settings)
    assert not (out / "checkpoint.pt").exists()
    dataset._test = test
    record = train_classifier(dataset, out=out, resume=True, **settings)[1]
    for name in ("history", "dev", "test"):
        assert without_times(record[name]) == without_times(expected[name])


def without_times(record):
    rows = record if isinstance(record, list) else [record]
    return [{k: v for k, v in row.items() if "second" not in k} for row in rows]


def test_the_test_split_is_read_meanwhile(dataset, tmp_path, monkeypatch):
    files = tmp_path / "test.tsv"
    files.write_text("".join(f"{label}\t{text}\n" for label, text in pairs(60, 1)))
    threads = []
    inner = dataset._tokenize

    def noted(source):
        threads.append(threading.current_thread())
        return inner(source)

    dataset._tokenize, dataset._test = noted, files
    _, record = train_classifier(dataset, model="fasttext", epochs=1, progress=False)
    assert record["documents"]["test"] == 60
    assert threads
    assert threading.main_thread() not in threads
    # What cannot be read is told where it is used, and read again.
    (broken := tmp_path / "broken.csv").write_text("text\nno label\n")
    dataset._parts.pop("test")
    dataset._test = broken
    dataset.prefetch_test()
    for _ in range(2):
        with pytest.raises(UserError, match=r"broken\.csv"):
            dataset.read_test()
    # Nothing is read beside when it would take long, or when it is no file.
    for source, most in ((files, 5), ([("a", "x")], 1 << 28)):
        monkeypatch.setattr(dataset_module, "_READ_BESIDE", most)
        dataset._test = source
        dataset.prefetch_test()
        assert dataset._reading is None


def test_refit_learns_from_all_documents_up_to_the_chosen_epoch(dataset, tmp_path):
    settings = {
        **SMALL_RUN,
        "epochs": 5,
        "seed": 3,
        "schedule": "linear",
    }
    chosen, before = train_classifier(dataset, **settings)
    classifier, record = train_classifier(dataset, out=tmp_path / "run", refit=True, **settings)
    assert record["dev"] == before["dev"]  # the choice is that of a run without
    assert record["best_epoch"] == before["best_epoch"]
    torch.manual_seed(3)
    whole = dataset.with_dev_in_train()
    twin = MODELS["textcnn"](
        vocabulary_size=len(whole.vocabulary), num_classes=3, **settings["model_settings"]
    )
    fitted(
        twin, Adam(twin.parameters(), lr=0.02), whole.train, None,
        epochs=5, stop_after=record["best_epoch"], batch_size=16, seed=3, schedule=linear,
        progress=False,
    )  # fmt: skip
    for a, b, c in zip(
        classifier.model.parameters(), twin.parameters(), chosen.model.parameters(), strict=True
    ):
        assert torch.equal(a, b)
        assert a.shape != c.shape or not torch.equal(a, c)
    kept = torch.load(tmp_path / "run" / "dev_scores.pt", weights_only=True)
    assert torch.equal(kept, scores(chosen.model, dataset.dev))
    loaded = TextClassifier.load(tmp_path / "run")
    assert torch.equal(loaded.probabilities(["the goal"]), classifier.probabilities(["the goal"]))
    log = EventAccumulator(str(tmp_path / "run"), size_guidance={"scalars": 0})
    log.Reload()
    assert len(log.Scalars("train/documents per second")) == 5  # those of the first training


def test_a_refit_that_learns_later_goes_on(dataset, monkeypatch):
    """Up to the loss that the first training had in its best epoch, about; here to a lower one."""
    states = []
    plain = run_module.fit
    monkeypatch.setattr(
        run_module,
        "fit",
        lambda *args, **options: states.append(plain(*args, **options)) or states[-1],
    )
    options = {**SMALL_RUN, "lr": 0.1, "epochs": 50, "patience": 1, "refit": True}
    _, record = train_classifier(dataset, **options)
    first, second = states
    best = record["best_epoch"]
    loss = first.history[best - 1]["train_loss"]
    assert second.epoch == best < 50
    assert second.history[-1]["train_loss"] <= 1.3 * loss + 0.05
    monkeypatch.setattr(train_module, "_AS_LOW", 0.0)
    monkeypatch.setattr(train_module, "_OR_LOW", 0.0)
    train_classifier(dataset, **options)
    assert states[-1].epoch == 50


@pytest.mark.parametrize("updates", [3, 45])
def test_a_refit_goes_on_where_it_was_interrupted(dataset, tmp_path, monkeypatch, updates):
    """Once while dev chooses, once in the second training."""
    settings = {
        **SMALL_RUN,
        "epochs": 3,
        "refit": True,
    }
    step, calls, stop = Adam.step, 0, 0

    def interrupt(*args, **options):
        nonlocal calls
        calls += 1
        if calls == stop:
            os.kill(os.getpid(), signal.SIGINT)
        return step(*args, **options)

    monkeypatch.setattr(Adam, "step", interrupt)
    whole, _ = train_classifier(dataset, out=tmp_path / "whole", **settings)
    needed, calls, stop = calls, 0, updates
    with pytest.raises(Interrupted):
        train_classifier(dataset, out=tmp_path / "parts", **settings)
    assert calls == updates
    assert (tmp_path / "parts" / "refit.pt").exists() == (updates == 45)
    again, record = train_classifier(dataset, out=tmp_path / "parts", resume=True, **settings)
    assert calls == needed  # none was made twice
    for a, b in zip(whole.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(a, b)
    assert record["test"]["accuracy"] > 0.5


def test_unwritable_output(dataset, tmp_path):
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(UserError, match="cannot write to"):
        train_classifier(dataset, out=file / "run", model="fasttext", progress=False)
    assert file.read_text() == "x"


def test_a_hierarchical_output_gets_its_tree_from_the_training_labels(dataset, tmp_path):
    out = tmp_path / "run"
    classifier, record = train_classifier(
        dataset, out=out, model="fasttext", model_settings={"output": "hierarchical", "ngrams": 1},
        recipe="plain", lr=0.05, epochs=8, batch_size=16, progress=False,
    )  # fmt: skip
    assert record["test"]["accuracy"] > 0.8
    assert sum(classifier.hyper_parameters["class_counts"]) == len(dataset.train)
    texts = ["the goal of the match", ""]
    loaded = TextClassifier.load(out)
    assert torch.equal(loaded.probabilities(texts), classifier.probabilities(texts))


def test_texts_that_are_cut_without_having_been_asked_for_it_are_told():
    labels = ["a", "b"]
    words = Vocabulary(["<pad>", "<unk>", "w"])
    long = "w " * 20_001
    for max_tokens, told in ((20_000, True), (10, False), (None, False)):
        made = TextClassifier.create("fasttext", {}, words, labels, max_tokens=max_tokens)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            made.predict([long])
        assert [str(each.message) for each in caught] == [
            "texts of more than 20,000 tokens are cut there"
        ] * told
