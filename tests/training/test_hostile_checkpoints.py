"""Checkpoints, locks and folders that are made to harm, and disks that are full at any moment."""

import os
import pickle
import resource
import shutil
import signal
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import dlnotes.training.fit as fit_module
from dlnotes.data.dataset import load_dataset
from dlnotes.data.seen import Seen
from dlnotes.data.vocabulary import Vocabulary
from dlnotes.errors import UserError
from dlnotes.files import locked
from dlnotes.training.checkpoint import load_checkpoint
from dlnotes.training.classifier import TextClassifier
from dlnotes.training.fit import Interrupted
from dlnotes.training.train import train_classifier
from forking import error_in_a_process
from small import SMALL, pairs

RUN = {"model": "fasttext", "epochs": 2, "recipe": "plain", "progress": False, "model_settings": SMALL["fasttext"]}  # fmt: skip


def train(out, **options):
    return train_classifier(load_dataset({"train": pairs(240, 0)}), out=out, **RUN, **options)


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """A run that was stopped in its second epoch."""
    out = tmp_path_factory.mktemp("runs") / "run"
    update = fit_module._Loop.update

    def stopping(loop, indices):
        found = update(loop, indices)
        if loop.state.step == 6:
            os.kill(os.getpid(), signal.SIGINT)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit_module._Loop, "update", stopping)
        with pytest.raises(Interrupted):
            train(out)
    return out


def state(**fields):
    return lambda saved: saved["state"].update(fields)


def group(**fields):
    return lambda saved: saved["optimizer"]["param_groups"][0].update(fields)


def same_again(levels=60):
    inner = [1]
    for _ in range(levels):
        inner = [inner, inner]
    return inner


def enormous(saved):
    name = next(iter(saved["model"]))
    saved["best_weights"] = {name: torch.zeros(1, 1).expand(10**6, 10**6)}


LIES = {
    "epoch text": state(epoch="x"),
    "epoch negative": state(epoch=-5),
    "epoch a fraction": state(epoch=1.5),
    "batch beyond the last": state(batch=10**12),
    "nothing seen": state(seen=0),
    "loss text": state(loss_sum="a"),
    "history text": state(history="x"),
    "history of numbers": state(history=[1]),
    "history of texts": state(history=[{"dev_loss": "low"}]),
    "best of one": state(best=(1.0,)),
    "step enormous": state(step=10**30),
    "seconds infinite": state(seconds=float("inf")),
    "weights enormous": enormous,
    "weights of another model": lambda saved: saved.update(best_weights={"a": torch.ones(1)}),
    "epsilon text": group(eps="x"),
    "betas of one": group(betas=(0.1,)),
    "settings a list": lambda saved: saved.update(settings=[1]),
    "documents a list": lambda saved: saved.update(documents=[1]),
    "the same again and again": lambda saved: saved["settings"].update(lr=same_again()),
}


@pytest.mark.parametrize("case", LIES)
def test_a_checkpoint_that_lies_is_refused_at_once(interrupted, tmp_path, case):
    out = tmp_path / "run"
    shutil.copytree(interrupted, out)
    saved = torch.load(out / "checkpoint.pt", weights_only=True)
    LIES[case](saved)
    torch.save(saved, out / "checkpoint.pt")
    before = (out / "checkpoint.pt").read_bytes()
    with pytest.raises(UserError, match=r"checkpoint.pt .*(damaged|not a checkpoint)") as told:
        train(out, resume=True)
    assert "\n" not in str(told.value)
    assert len(str(told.value)) < 500 + len(str(out))
    assert (out / "checkpoint.pt").read_bytes() == before


class Evil:
    def __reduce__(self):
        return (Path.touch, (Path("was_run"),))


def deflated(path):
    torch.save({"random": 1, "zeros": torch.zeros(1 << 22)}, path)
    with zipfile.ZipFile(path) as stored:
        parts = {part.filename: stored.read(part) for part in stored.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in parts.items():
            packed.writestr(name, content)


FILES = {
    "code": lambda path: path.write_bytes(pickle.dumps(Evil())),
    "code in torch's format": lambda path: torch.save({"random": Evil()}, path),
    "code in torch's old format": lambda path: torch.save({"random": Evil()}, path, _use_new_zipfile_serialization=False),
    "a terabyte that is asked for": lambda path: path.write_bytes(b"\x80\x02cbuiltins\nbytearray\n\x8a\x06\0\0\0\0\0\x01\x85R."),
    "a bomb": deflated,
}  # fmt: skip


@pytest.mark.parametrize("case", FILES)
def test_a_checkpoint_runs_no_code_and_unpacks_nothing(tmp_path, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    FILES[case](tmp_path / "c.pt")
    with pytest.raises(UserError, match=r"c\.pt is not a checkpoint of dlnotes, or is damaged"):
        load_checkpoint(tmp_path / "c.pt")
    assert not (tmp_path / "was_run").exists()


def test_digests_of_documents_that_are_a_bomb(tmp_path):
    arrays = {name: np.zeros(1 << 20, np.uint64) for name in Seen.__dataclass_fields__}
    np.savez_compressed(tmp_path / "d.npz", **arrays)
    with pytest.raises(UserError, match=r"d\.npz cannot be read or is damaged"):
        Seen.load(tmp_path / "d.npz")


def test_more_words_than_the_weights_have_numbers(tmp_path):
    path = tmp_path / "vocabulary.txt"
    path.write_bytes(b"<pad>\n<unk>" + b"\na" * 5)
    with pytest.raises(UserError, match=r"txt: 7 lines, where there may be at most 6 tokens$"):
        Vocabulary.load(path, 6)


# --- what lies where a run writes ----------------------------------------------------------------


def test_no_file_of_somebody_else_is_emptied_through_a_link(tmp_path):
    out, mine = tmp_path / "run", tmp_path / "mine"
    out.mkdir()
    mine.write_text("precious")
    (out / ".lock").symlink_to(mine)
    with pytest.raises(UserError, match=rf"cannot write .*{out}.*symbolic link"):
        train(out)
    assert mine.read_text() == "precious"


@pytest.mark.parametrize("name", ["metrics.json", "config.yaml", "classifier", "classifier/config.json"])  # fmt: skip
def test_a_new_run_replaces_nothing_through_a_link(tmp_path, name):
    out, mine = tmp_path / "run", tmp_path / "mine"
    (out / name).parent.mkdir(parents=True)
    mine.write_text("precious")
    (out / name).symlink_to(mine)
    with pytest.raises(UserError, match=r"is a link to .*mine|already holds a run"):
        train(out)
    assert mine.read_text() == "precious"


def test_a_lock_that_is_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / ".lock")
    with pytest.raises(UserError, match=r"cannot write .*\.lock"), locked(tmp_path / ".lock", "it"):
        pass


def _hold_and_die(path):
    with locked(path, "it"):
        os.kill(os.getpid(), signal.SIGKILL)


def test_the_lock_of_a_process_that_was_killed_holds_nobody_up(tmp_path):
    tmp_path.joinpath("run").mkdir()
    lock = tmp_path / "run" / ".lock"
    assert "killed by signal 9" in error_in_a_process(_hold_and_die, lock)
    assert "process" in lock.read_text()
    train(tmp_path / "run")
    assert not lock.exists()


# --- a full disk ---------------------------------------------------------------------------------


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _save_with_little_room(most, tokens, folder):
    """Save another classifier where no file may have more than `most` bytes."""
    torch.manual_seed(1)
    settings = {"embedding_dim": 2, "maps": 1}
    other = TextClassifier.create("textcnn", settings, Vocabulary(tokens), ["a", "b"])
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    try:
        other.save(folder)
    except UserError as error:
        told = str(error)
        assert "cannot write" in told, told
        assert "\n" not in told, told
    else:
        raise AssertionError("saved")


def test_a_classifier_is_the_old_one_wherever_the_disk_is_full(tmp_path):
    """The room ends within each of the files in turn."""
    words = ["<pad>", "<unk>", *(f"word{i}" for i in range(30))]
    settings = {"embedding_dim": 2, "maps": 1}
    made = partial(TextClassifier.create, "textcnn", settings)
    made(Vocabulary([*words, "more"]), ["a", "b"]).save(tmp_path / "other")
    sizes = {len(file) for file in content(tmp_path / "other").values()}
    made(Vocabulary(words), ["a", "b"]).save(tmp_path / "one")
    before = content(tmp_path / "one")
    # The last limit lets all but the largest file be written; below it one fails ever earlier.
    for most in sorted({0, 1} | {s - 1 for s in sizes} | {s // 2 for s in sizes}):
        trouble = error_in_a_process(
            _save_with_little_room, most, [*words, "more"], tmp_path / "one"
        )
        assert not trouble, (most, trouble)
        assert content(tmp_path / "one") == before


def test_whatever_fails_last_leaves_the_old_files(tmp_path, monkeypatch):
    words = ["<pad>", "<unk>", "goal"]
    settings = {"embedding_dim": 2, "maps": 1}
    TextClassifier.create("textcnn", settings, Vocabulary(words), ["a", "b"]).save(tmp_path)
    before, sync = content(tmp_path), os.fsync
    for last in range(4):
        left = [last]

        def full(number, left=left):
            left[0] -= 1
            if left[0] < 0:
                raise OSError(28, "No space left on device")
            sync(number)

        monkeypatch.setattr(os, "fsync", full)
        other = TextClassifier.create("textcnn", settings, Vocabulary([*words, "x"]), ["c", "d"])
        with pytest.raises(UserError, match="No space left on device"):
            other.save(tmp_path)
        assert content(tmp_path) == before


def _train_with_little_room(most, out):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    try:
        train(out, resume=True)
    except (UserError, OSError) as error:
        told = str(error)
        if "\n" in told:
            raise AssertionError(told) from error


@pytest.mark.slow
def test_a_training_goes_on_bit_for_bit_after_the_disk_was_full(interrupted, tmp_path):
    whole = tmp_path / "whole"
    shutil.copytree(interrupted, whole)
    train(whole, resume=True)
    wanted = content(whole / "classifier")
    sizes = [path.stat().st_size for path in whole.rglob("*") if path.is_file()]
    for i, most in enumerate(sorted({0, *(s - 1 for s in sizes)})):
        out = tmp_path / str(i)
        shutil.copytree(interrupted, out)
        assert not error_in_a_process(_train_with_little_room, most, out)
        train(out, resume=True)
        assert content(out / "classifier") == wanted
        assert not list(out.rglob(".*"))


# --- clocks ----------------------------------------------------------------------


def test_a_clock_that_goes_backwards_changes_nothing(tmp_path, monkeypatch):
    classifier, _ = train(None)
    times = iter(range(2_000_000_000, 0, -3600))
    monkeypatch.setattr("time.time", lambda: float(next(times)))
    again, record = train(tmp_path / "run", checkpoint_every=1)
    assert record["seconds"] >= 0
    for name, weight in classifier.model.state_dict().items():
        assert torch.equal(weight, again.model.state_dict()[name])
    assert torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["state"]["epoch"] == 2
