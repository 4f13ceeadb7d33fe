"""A training that ends in any way goes on as if nothing had been, and says what it cannot do."""

import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata

import dlnotes.training.fit as fit_module
from dlnotes.data.dataset import load_dataset
from dlnotes.errors import UserError
from dlnotes.files import locked
from dlnotes.optim import Adam
from dlnotes.training import checkpoint
from dlnotes.training.board import Board
from dlnotes.training.ensemble import load_members, make_ensemble
from dlnotes.training.fit import Interrupted
from dlnotes.training.objectives import SingleLabel
from dlnotes.training.run import Run
from dlnotes.training.settings import Training
from dlnotes.training.train import train_classifier
from small import SMALL, fitted, make


class Clock:
    """A clock that training and writing advance."""

    def __init__(self, monkeypatch, *, update=30.0, save=1.0, evaluate=0.0):
        self.now, self.saves = 0.0, []
        self.update, self.save, self.evaluate = update, save, evaluate
        self.stop_at = 0
        monkeypatch.setattr(fit_module, "time", SimpleNamespace(perf_counter=lambda: self.now))
        real = fit_module.save_checkpoint

        def save_checkpoint(path, state):
            self.now += self.save
            real(path, state)
            self.saves.append(state["state"]["step"])

        monkeypatch.setattr(fit_module, "save_checkpoint", save_checkpoint)

    def run(self, dataset, path, **options):
        model = make(dataset, "fasttext")
        optimizer = Adam(model.parameters(), lr=0.02)
        optimizer.register_step_post_hook(self.step)
        clock = self

        class Slow(SingleLabel):
            def evaluate(self, *args, **options):
                clock.now += clock.evaluate
                return super().evaluate(*args, **options)

        options = {"epochs": 3, "batch_size": 16, "progress": False} | options
        return fitted(
            model, optimizer, dataset.train, dataset.dev, Slow(), checkpoint=path, **options
        )

    def step(self, *_):
        self.now += self.update
        self.stop_at -= 1
        if self.stop_at == 0:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize(
    ("times", "every", "steps"),
    [
        ({"update": 30}, 0, [2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30, 32, 34, 36, 38, 40, 42]),
        ({"update": 5}, 0, [12, 14, 26, 28, 40, 42]),
        ({"update": 1}, 0, [14, 28, 42]),
        # Writing takes longer than a twentieth of an epoch, or of a minute.
        ({"update": 1, "save": 1}, 0, [14, 42]),
        ({"update": 0.1, "save": 0.2}, 0, [14, 42]),
        ({"update": 5, "save": 20}, 0, [12, 42]),
        ({"update": 0.1, "save": 1}, 5, [5, 10, 14, 15, 20, 25, 30, 35, 40, 42]),
        ({"update": 0.1, "save": 1}, 14, [14, 28, 42]),
    ],
)  # fmt: skip
def test_checkpoints_come_by_time_and_cost_little(
    dataset, tmp_path, monkeypatch, times, every, steps
):
    """One after each epoch and one a minute, unless writing takes more than 5 % of the time."""
    clock = Clock(monkeypatch, **{"save": 0.01} | times)
    clock.run(dataset, tmp_path / "c.pt", checkpoint_every=every)
    if every == 5:  # the first epoch's end is saved, as nothing is known of the time it takes
        steps.remove(14)
    assert clock.saves == steps
    if not every:
        # The last one is written in any case.
        assert clock.save * (len(clock.saves) - 1) <= 0.05 * clock.now + clock.save


@pytest.mark.parametrize(("keep_end", "steps"), [(True, [28, 42]), (False, [28])])
def test_a_large_checkpoint_waits_for_its_time_from_the_first_one_on(
    dataset, tmp_path, monkeypatch, keep_end, steps
):
    """Writing so many bytes is expected to take longer than a twentieth of the first epoch."""
    clock = Clock(monkeypatch, update=1, save=10)
    monkeypatch.setattr(fit_module, "_SAVED_AT_ONCE", 0.0)
    model = make(dataset, "fasttext")
    # Adam's two accumulators and the best weights: four times the model.
    size = 4 * sum(w.nbytes for w in model.state_dict().values())
    monkeypatch.setattr(fit_module, "_SAVED_PER_SECOND", size / 1.2)  # so 1.2 s, for 23 s before it
    clock.run(dataset, tmp_path / "c.pt", keep_end=keep_end)
    assert clock.saves == steps


def test_only_updates_are_counted_as_training(dataset, tmp_path, monkeypatch):
    clock = Clock(monkeypatch, update=2, save=7, evaluate=3)
    state = clock.run(dataset, tmp_path / "c.pt", checkpoint_every=4)
    assert len(clock.saves) > 10
    assert state.train_seconds == 42 * 2
    assert state.seconds == 42 * 2 + 3 * 3
    speeds = [row["documents_per_second"] for row in state.history]
    assert speeds == [len(dataset.train) / (14 * 2)] * 3


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("stop_at", [1, 5, 13, 14])
def test_the_parts_of_an_epoch_add_up(dataset, tmp_path, monkeypatch, stop_at, old):
    clock, path = Clock(monkeypatch, update=2, save=7, evaluate=3), tmp_path / "c.pt"
    clock.stop_at = 14 + stop_at
    with pytest.raises(Interrupted) as stopped:
        clock.run(dataset, path)
    assert stopped.value.number == signal.SIGTERM
    if old:  # a checkpoint of a version that did not keep the time
        saved = torch.load(path, weights_only=True)
        del saved["state"]["epoch_seconds"], saved["documents"], saved["threads"], saved["torch"]
        torch.save(saved, path)
    clock.now += 1000
    state = clock.run(dataset, path, resume=True)
    assert (state.train_seconds, state.seconds) == (42 * 2, 42 * 2 + 3 * 3)
    speeds = [row["documents_per_second"] for row in state.history]
    # The last batch has fewer documents than the others, which an old checkpoint does not tell.
    exact = len(dataset.train) / (14 * 2)
    assert speeds == pytest.approx([exact] * 3, rel=2e-2 if old else 1e-12)


def test_a_finished_training_is_not_written_again(dataset, tmp_path, monkeypatch):
    clock, path = Clock(monkeypatch), tmp_path / "c.pt"
    clock.run(dataset, path)
    saves = list(clock.saves)
    assert len(set(saves)) == len(saves)
    clock.run(dataset, path, resume=True)
    assert clock.saves == saves


@pytest.mark.parametrize("at", ["the last save", "loading the best weights"])
def test_a_signal_after_the_last_epoch_counts(dataset, tmp_path, monkeypatch, at):
    clock, path = Clock(monkeypatch, save=1000), tmp_path / "c.pt"
    if at == "the last save":
        real = fit_module.save_checkpoint

        def save_checkpoint(path, state):
            real(path, state)
            if state["state"]["step"] == 42:
                os.kill(os.getpid(), signal.SIGTERM)

        monkeypatch.setattr(fit_module, "save_checkpoint", save_checkpoint)
    else:
        load = torch.nn.Module.load_state_dict

        def load_state_dict(self, *args):
            os.kill(os.getpid(), signal.SIGTERM)
            return load(self, *args)

        monkeypatch.setattr(torch.nn.Module, "load_state_dict", load_state_dict)
    with pytest.raises(Interrupted):
        clock.run(dataset, path)
    assert torch.load(path, weights_only=True)["state"]["step"] == 42


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_second_signal_ends_at_once(dataset, tmp_path, number):
    if signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip("ignored, as under nohup")
    path, model = tmp_path / "c.pt", make(dataset)
    optimizer = Adam(model.parameters(), lr=0.02)

    def twice(*_):
        for _ in range(2):
            os.kill(os.getpid(), number)

    optimizer.register_step_post_hook(twice)
    with pytest.raises(KeyboardInterrupt) as stopped:
        fitted(model, optimizer, dataset.train, None, epochs=1, checkpoint=path, progress=False)
    assert getattr(stopped.value, "number", signal.SIGINT) == number
    assert list(tmp_path.iterdir()) == []


def kept(dataset, path, **options):
    model = make(dataset)
    rule = Adam(model.parameters(), lr=0.02)
    options = {"epochs": 1, "progress": False} | options
    return fitted(model, rule, dataset.train, dataset.dev, checkpoint=path, **options)


def test_a_checkpoint_that_cannot_be_used_is_told(dataset, tmp_path):
    path = tmp_path / "c.pt"
    kept(dataset, path)
    whole = path.read_bytes()
    make(dataset)
    random = torch.get_rng_state()
    torch.save([1], tmp_path / "list")
    torch.save({"random": {}, "state": {"seen": 0}}, tmp_path / "foreign")
    for content, told in (
        (b"", "it is empty"),
        (whole[:2000], "is damaged"),
        (whole[:-500], "is damaged"),
        (b"junk" * 100, "is damaged"),
        ((tmp_path / "list").read_bytes(), "is not a checkpoint of dlnotes"),
        ((tmp_path / "foreign").read_bytes(), "belongs to another model"),
    ):
        path.write_bytes(content)
        with pytest.raises(UserError, match=told) as error:
            kept(dataset, path, resume=True)
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)
    path.unlink()
    path.mkdir()
    with pytest.raises(UserError, match=r"c\.pt cannot be read: Is a directory"):
        kept(dataset, path, resume=True)
    path.rmdir()
    path.write_bytes(whole)
    saved = torch.load(path, weights_only=True)
    torch.save(saved | {"state": saved["state"] | {"moons": 3}}, path)
    with pytest.raises(UserError, match="another version of dlnotes"):
        kept(dataset, path, resume=True)
    assert torch.equal(random, torch.get_rng_state())
    path.write_bytes(whole)
    kept(dataset, path, resume=True)
    assert not torch.equal(random, torch.get_rng_state())


def test_other_circumstances_are_told_and_no_obstacle(dataset, tmp_path, recwarn):
    path = tmp_path / "c.pt"
    kept(dataset, path)
    kept(dataset, path, resume=True)
    assert not recwarn.list
    saved = torch.load(path, weights_only=True)
    torch.save(saved | {"torch": "2.0.0", "device": "cuda", "threads": 64}, path)
    told = r"written with torch 2\.0\.0 \(now .*\), device cuda \(now cpu\), threads 64 \(now 1\): the training goes on"  # fmt: skip
    with pytest.warns(UserWarning, match=told):
        state = kept(dataset, path, resume=True)
    assert state.epoch == 1


RUN = {"model": "fasttext", "epochs": 2, "recipe": "plain", "progress": False, "model_settings": SMALL["fasttext"]}  # fmt: skip


def test_changed_documents_are_named(labelled, tmp_path):
    sources = {"train": labelled(240, 0), "dev": labelled(30, 2), "test": labelled(60, 1)}
    out = tmp_path / "run"
    train_classifier(load_dataset(sources), out=out, **RUN)
    for change, told in (
        ({"train": labelled(250, 0)}, r"\(train had 240 documents, now it has 250\)"),
        ({"train": labelled(240, 9)}, r"\(train had 240 documents, now as many others\)"),
        (
            {"train": labelled(250, 0), "dev": labelled(31, 2)},
            r"\(train had 240 documents, now it has 250; dev had 30 documents, now it has 31\)",
        ),
        ({"dev": None}, r"\(dev was given then\)"),
    ):
        given = {name: part for name, part in {**sources, **change}.items() if part}
        with pytest.raises(UserError, match=told) as error:
            train_classifier(load_dataset(given), out=out, resume=True, **RUN)
        assert "{" not in str(error.value)
    changed = load_dataset({**sources, "test": labelled(61, 1)})
    with pytest.raises(UserError, match="is finished, and was measured on test documents, but now"):
        train_classifier(changed, out=out, resume=True, **RUN)


def test_another_vocabulary_is_another_run(dataset, labelled, tmp_path):
    sources, out = {"train": labelled(240, 0)}, tmp_path / "run"
    _, record = train_classifier(load_dataset(sources), out=out, **RUN)
    assert record["settings"]["vocabulary_sha256"] is None
    mine = load_dataset(sources, vocabulary=dataset.vocabulary)
    with pytest.raises(UserError, match="vocabulary_sha256=None"):
        train_classifier(mine, out=out, resume=True, **RUN)


def test_files_are_the_same_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check = checkpoint.check_same_settings
    before = {"vectors": "a.vec", "boost": ["one"]}
    check(tmp_path, before, {"vectors": str(tmp_path / "a.vec"), "boost": [str(tmp_path / "one")]})
    with pytest.raises(UserError, match=r"written with vectors='a.vec', now"):
        check(tmp_path, before, {"vectors": "b.vec"})
    with pytest.raises(UserError, match=r"written with boost=.'one'., now"):
        check(tmp_path, before, {"boost": []})


def test_the_callers_random_numbers_stay(dataset, tmp_path):
    torch.manual_seed(7)
    before = torch.get_rng_state()
    for options in ({}, {"refit": True}, {"resume": True}):
        train_classifier(dataset, out=None if "refit" in options else tmp_path / "run", **RUN, **options)  # fmt: skip
        assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(UserError):
        train_classifier(dataset, **RUN, lr=1e30)
    assert torch.equal(torch.get_rng_state(), before)


# --- the run folder -----------------------------------------------------------------------------


def test_a_folder_is_one_trainings_at_a_time(dataset, tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    told = f"cannot write to .*run: it is in use by process {os.getpid()} on "
    with locked(out / ".lock", "it"):
        with pytest.raises(UserError, match="in use"):
            train_classifier(dataset, out=out, resume=True, **RUN)
        with pytest.raises(UserError, match="in use"):
            train_classifier(dataset, out=out, **RUN)
    with run_of(out), ThreadPoolExecutor(1) as other:  # a thread is as another program
        failed = other.submit(train_classifier, dataset, out=out, **RUN)
        with pytest.raises(UserError, match=told):
            failed.result()
    train_classifier(dataset, out=out, **RUN)
    assert not (out / ".lock").exists()


def run_of(out):
    options = {"device": "cpu", "checkpoint_every": 0, "resume": False, "progress": False}
    return Run(Training(), {}, out=out, **options)


def test_an_ensembles_folder_is_locked_too(labelled, tmp_path):
    sources = {"train": labelled(240, 0)}
    train_classifier(load_dataset(sources), out=tmp_path / "one", **RUN)
    members = load_members([tmp_path / "one"], sources)
    (tmp_path / "all").mkdir()
    with locked(tmp_path / "all" / ".lock", "it"), pytest.raises(UserError, match="in use"):
        make_ensemble(members, tmp_path / "all")
    make_ensemble(members, tmp_path / "all")
    assert sorted(p.name for p in (tmp_path / "all").iterdir()) == ["classifier", "metrics.json"]


# --- the TensorBoard log ------------------------------------------------------------------------


def points(folder):
    """The steps of each curve and histogram of a log."""
    everything = {"scalars": 0, "histograms": 0, "tensors": 0, "images": 0}
    log = EventAccumulator(str(folder), size_guidance=everything)
    log.Reload()
    curves = {tag: [point.step for point in log.Scalars(tag)] for tag in log.Tags()["scalars"]}
    for tag in log.Tags()["histograms"]:
        curves[tag] = [point.step for point in log.Histograms(tag)]
    for tag in log.Tags()["images"]:
        curves[tag] = [point.step for point in log.Images(tag)]
    return curves


class Killed(BaseException):
    """Stands for kill -9: nobody catches it."""


@pytest.mark.parametrize("at", [3, 14, 17, 21, 28])
def test_a_resumed_log_has_each_step_once(dataset, tmp_path, monkeypatch, at):
    """Whatever was logged after the checkpoint, in updates, at an epoch's end or after the last."""
    # The order of logs is that of their names, which have the second.
    seconds = SimpleNamespace(time=count(10**9).__next__)
    monkeypatch.setattr("tensorboard.summary.writer.event_file_writer.time", seconds)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    options = RUN | {"batch_size": 16, "checkpoint_every": 4}
    train_classifier(dataset, out=whole, **options)
    expected = points(whole)
    assert expected["train/loss"] == [10, 14, 20, 28]
    assert expected["dev/accuracy"] == [14, 28]
    assert expected["test/accuracy"] == expected["final/test accuracy"] == [29]
    real, calls = fit_module._Loop.update, []

    def update(self, indices):
        calls.append(0)
        if len(calls) == at + 1 and at != 28:
            raise Killed
        return real(self, indices)

    monkeypatch.setattr(fit_module._Loop, "update", update)
    hyper_parameters = Board.hyper_parameters

    def last(self, *args):
        hyper_parameters(self, *args)
        if len(calls) == 28:
            calls.append(0)
            raise Killed

    if at == 28:
        monkeypatch.setattr(Board, "hyper_parameters", last)
    with pytest.raises(Killed):
        train_classifier(dataset, out=killed, **options)
    resume = (killed / "checkpoint.pt").exists()
    assert resume == (at > 3)
    train_classifier(dataset, out=killed, resume=resume, **options)
    assert points(killed) == expected
    assert not (killed / "abandoned-1").exists(), "nothing was logged before the first checkpoint"
    train_classifier(dataset, out=killed, resume=True, **options)  # it is finished
    assert points(killed) == expected


def test_logs_of_failed_runs_are_set_apart(dataset, tmp_path):
    out = tmp_path / "run"
    for _ in range(2):
        board = Board(out)  # of a training that was killed before its first checkpoint
        board._scalar("dev/accuracy", 0.5, 99)
        board.close()
        with pytest.raises(UserError, match="diverged"):
            train_classifier(dataset, out=out, **RUN, lr=1e30)
    train_classifier(dataset, out=out, **RUN)
    assert points(out / "abandoned-2")["dev/accuracy"] == [99]
    assert [p.name for p in sorted(out.iterdir()) if p.is_dir()] == ["abandoned-1", "abandoned-2", "classifier"]  # fmt: skip
    assert points(out)["dev/accuracy"] == [4, 8]


def test_the_first_hyper_parameters_are_those_that_matter(dataset, tmp_path):
    train_classifier(dataset, out=tmp_path, **RUN)
    log = EventAccumulator(str(tmp_path))
    log.Reload()
    tag = log.PluginTagToContent("hparams")[metadata.EXPERIMENT_TAG]
    names = sorted(info.name for info in metadata.parse_experiment_plugin_data(tag).hparam_infos)
    assert names[:5] == ["batch_size", "epochs", "lr", "model", "optimizer"]
    assert {"settings/seed", "settings/buckets", "settings/amp"} <= set(names)


def test_a_log_that_cannot_be_written_ends_and_the_training_does_not(dataset, tmp_path, recwarn):
    """The error comes from the thread that writes, some time later."""
    board = Board(tmp_path)
    board._writer.flush()

    def full(*_):
        raise OSError(28, "No space left on device")

    board._writer.file_writer.event_writer._general_file_writer.write = full
    model = make(dataset)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("threading.excepthook", lambda _: None)
        state = fitted(
            model, Adam(model.parameters()), dataset.train, dataset.dev, epochs=3, board=board, progress=False,
        )  # fmt: skip
        board.close()
    assert state.epoch == 3
    (warning,) = [w for w in recwarn.list if "TensorBoard" in str(w.message)]
    assert "No space left on device, and nothing after it" in str(warning.message)


def test_memory_that_is_not_there_is_told(dataset, monkeypatch):
    for settings, told in (
        ({"embedding_dim": 10**8}, r"fasttext with .*embedding_dim=100000000.*: it asked for [\d,.]+ GiB"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=f"not enough memory for {told}"):
            train_classifier(dataset, **RUN | {"model_settings": settings})

    def much(self, indices):
        np.empty(1 << 60, np.uint8)

    monkeypatch.setattr(fit_module._Loop, "update", much)
    told = (
        r"not enough memory for an update with batch_size=64 \(with a micro_batch_size .*: Unable"
    )
    with pytest.raises(UserError, match=told):
        train_classifier(dataset, **RUN)


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(dataset, tmp_path, monkeypatch):
    path = tmp_path / "c.pt"
    real, calls = torch.save, []

    def save(value, file):
        calls.append(0)
        if len(calls) == 3:
            file.write_bytes(b"half")
            raise OSError(28, "No space left on device")
        real(value, file)

    monkeypatch.setattr(torch, "save", save)
    told = r"cannot write .*c\.pt: No space left on device; .*c\.pt holds the last good state, of step 8"  # fmt: skip
    with pytest.raises(UserError, match=told):
        kept(dataset, path, batch_size=16, checkpoint_every=4)
    assert torch.load(path, weights_only=True)["state"]["step"] == 8
    assert list(tmp_path.iterdir()) == [path]


def test_a_finished_run_is_left_as_it_is(tmp_path):
    """Resuming it again and again neither changes its figures nor lets its log grow."""
    train = [(str(i % 2), f"word{i % 2} text {i}") for i in range(40)]
    test = [("0", "word0"), ("1", "word1")]
    out = tmp_path / "run"
    settings = {"model": "fasttext", "recipe": "plain", "model_settings": SMALL["fasttext"], "out": out, "epochs": 2, "progress": False}  # fmt: skip
    _, record = train_classifier(load_dataset({"train": train, "test": test}), **settings)
    files = {path: path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}
    classifier, again = train_classifier(
        load_dataset({"train": train, "test": test}), resume=True, **settings
    )
    assert again["test"] == json.loads(json.dumps(record["test"]))
    assert classifier.predict(["word0"]) == ["0"] or classifier.predict(["word0"]) == ["1"]
    assert {path: path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()} == files
    for other in ([("0", "other"), ("1", "words")], None):
        sources = {"train": train} if other is None else {"train": train, "test": other}
        with pytest.raises(
            UserError, match="is finished, and was measured on test documents, but now"
        ):
            train_classifier(load_dataset(sources), resume=True, **settings)
    dataset = load_dataset({"train": train, "test": test})
    with pytest.raises(UserError, match=r"lr=0\.001, now it is 0\.5"):
        train_classifier(dataset, resume=True, lr=0.5, **settings)


def test_resuming_nothing_leaves_nothing(tmp_path):
    dataset = load_dataset({"train": [(str(i % 2), f"text {i}") for i in range(40)]})
    with pytest.raises(UserError, match=r"checkpoint\.pt does not exist: there is nothing to res"):
        train_classifier(dataset, "fasttext", out=tmp_path / "run", resume=True)
    assert not (tmp_path / "run").exists()


def test_a_refused_resume_leaves_the_log_as_it_is(dataset, tmp_path):
    train_classifier(dataset, out=tmp_path / "run", **RUN)
    (tmp_path / "run" / "metrics.json").unlink()  # as if it had been killed at the end
    before = sorted(path.name for path in (tmp_path / "run").iterdir())
    for change in ({"lr": 0.5}, {"epochs": 9}):
        with pytest.raises(UserError, match=r"was written with (lr|epochs)="):
            train_classifier(dataset, out=tmp_path / "run", resume=True, **(RUN | change))
    (tmp_path / "run" / "checkpoint.pt").write_bytes(b"junk")
    with pytest.raises(UserError, match="is not a checkpoint"):
        train_classifier(dataset, out=tmp_path / "run", resume=True, **RUN)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == before
