"""Scores of a trained model from several threads: the same numbers, and nothing else is changed."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from dlnotes.training import evaluate, scoring
from dlnotes.training.evaluate import evaluating
from small import make


@pytest.fixture
def threaded(monkeypatch):
    """Threads for the smallest work, two of them."""
    monkeypatch.setattr(scoring, "_WORTH_THREADS", 0.0)
    monkeypatch.setattr(scoring, "_MIN_DOCUMENTS", 8)
    monkeypatch.setattr(scoring, "_MIN_TOKENS", 1)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", ["fasttext", "textcnn", "textrnn", "transformer"])
def test_they_are_those_of_one_thread(dataset, threaded, name):
    model = make(dataset, name).eval()
    expected = evaluate.scores(model, dataset.train)
    torch.testing.assert_close(scoring.scores(model, dataset.train), expected, rtol=1e-5, atol=1e-6)


def new_threads():
    """What torch takes for the number of threads in a thread that has not used it yet."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(torch.get_num_threads).result()


def test_the_number_of_threads_stays(dataset, threaded):
    model = make(dataset).eval()
    inside = []

    def look(*_):
        inside.append((torch.get_num_threads(), threading.current_thread().name))

    model.register_forward_hook(look)
    scoring.scores(model, dataset.train)
    assert torch.get_num_threads() == new_threads() == 2
    workers = {threads for threads, name in inside if name != "MainThread"}
    assert workers == {1}
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: scoring.scores(model, dataset.train), range(12)))
    assert torch.get_num_threads() == new_threads() == 2
    with scoring.single_threaded():
        assert torch.get_num_threads() == 1
        scoring.scores(model, dataset.train)
    assert torch.get_num_threads() == new_threads() == 2


def test_an_error_in_a_batch_leaves_all_as_it_was(dataset, threaded):
    model = make(dataset).train()
    calls = iter(range(100))

    def fail(*_):
        if next(calls) == 3:
            raise RuntimeError("broken")

    handle = model.register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="broken"):
        scoring.scores(model, dataset.train)
    assert model.training
    assert torch.get_num_threads() == new_threads() == 2
    handle.remove()
    calls = iter(range(3, 9))
    model.register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="broken"):
        evaluate.scores(model, dataset.train)
    assert model.training


@pytest.mark.timeout(20)
def test_a_thread_that_cannot_be_started_leaves_none_waiting(dataset, threaded, monkeypatch):
    model, start, started = make(dataset).eval(), threading.Thread.start, []

    scoring.scores(model, dataset.train)  # what is compiled has a thread of its own

    def limited(thread):
        started.append(thread)
        if len(started) == 2:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        scoring.scores(model, dataset.train)
    assert not started[0].is_alive()
    assert torch.get_num_threads() == 2


def test_what_surrounds_it_does_not_matter(dataset, threaded):
    model = make(dataset).eval()
    expected = scoring.scores(model, dataset.train)
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(scoring.scores(model, dataset.train), expected)
    finally:
        torch.set_default_dtype(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(scoring.scores(model, dataset.train), expected)
    with torch.device("meta"):
        assert torch.equal(scoring.scores(model, dataset.train), expected)


def test_threads_share_a_model_that_is_in_evaluation_mode(dataset, threaded):
    """Each would switch dropout on for the others when it is done."""
    model = make(dataset, dropout=0.9).eval()
    expected = scoring.scores(model, dataset.train)
    switched = []
    original = type(model).train

    def train(self, mode=True):
        switched.append(mode)
        return original(self, mode)

    type(model).train = train
    try:
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda _: scoring.scores(model, dataset.train), range(12)))
    finally:
        type(model).train = original
    assert switched == []
    assert all(torch.equal(scores, expected) for scores in found)


def test_evaluation_mode_ends_with_an_error():
    model = torch.nn.Dropout()

    def fail():
        with evaluating(model):
            assert not model.training
            raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        fail()
    assert model.training


def test_batches_are_of_all_documents_once():
    lengths = np.random.default_rng(0).integers(0, 5000, 300)
    batches = scoring._batches(lengths)
    assert sorted(np.concatenate(batches).tolist()) == list(range(300))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * lengths[batch].max() <= 1 << 15
