import json
import math
import time

import pytest
import torch

from dlnotes.claims import cache
from dlnotes.claims.cache import Cache, digest_of_code, digest_of_data
from dlnotes.claims.claim import Budget
from dlnotes.errors import UserError

VALUE = {"a": [1, 0.5, "x", None], "bad": [math.inf, -math.inf]}


class Counter:
    def __init__(self, value=VALUE):
        self.calls, self.value = 0, value

    def __call__(self):
        self.calls += 1
        return self.value


def test_a_result_is_computed_once(tmp_path):
    compute = Counter()
    for _ in range(2):
        assert Cache("code", tmp_path / "new").get({"lr": 0.1}, compute) == VALUE
    assert compute.calls == 1


def test_it_is_the_same_in_the_first_run_as_in_the_second(tmp_path):
    first, second = (Cache("c", tmp_path).get({}, Counter({"t": (1, math.nan)})) for _ in range(2))
    assert repr(first) == repr(second) == "{'t': [1, nan]}"


@pytest.mark.parametrize(("code", "settings"), [("other", {"lr": 0.1}), ("code", {"lr": 0.2})])
def test_other_code_or_settings_are_another_result(tmp_path, code, settings):
    Cache("code", tmp_path).get({"lr": 0.1}, Counter(1))
    assert Cache(code, tmp_path).get(settings, Counter(2)) == 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[: len(text) // 2],
        lambda text: text.replace("0.5", "0.6"),
        lambda text: "[" * 100_000,
        lambda text: "[1]",
        lambda text: "\0" * 100,
    ],
)
def test_what_is_damaged_is_computed_again(tmp_path, damage):
    compute = Counter()
    Cache("code", tmp_path).get({}, compute)
    (file,) = tmp_path.glob("*.json")
    file.write_text(damage(file.read_text()))
    assert Cache("code", tmp_path).get({}, compute) == VALUE
    assert compute.calls == 2
    assert json.loads(file.read_text())["value"]["a"] == VALUE["a"]


def test_an_interrupted_run_costs_what_is_missing(tmp_path):
    calls, interrupt = [], iter([KeyboardInterrupt])

    def work(item):
        if item == 3 and (stop := next(interrupt, None)):
            raise stop
        calls.append(item)
        return item * 10

    shares = []
    budget = Budget(cache=Cache("code", tmp_path), progress=shares.append)
    with pytest.raises(KeyboardInterrupt):
        budget.map(work, range(5))
    assert calls == [0, 1, 2]
    assert shares == [0.2, 0.4, 0.6]
    assert budget.map(work, range(5)) == [0, 10, 20, 30, 40]
    assert calls == [0, 1, 2, 3, 4]


@pytest.fixture
def clock(monkeypatch):
    """A clock that is moved by hand."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    return now


def test_seconds_are_those_of_the_computation_cached_or_not(tmp_path, clock):
    def work(seconds):
        clock[0] += seconds
        return seconds

    def experiment(budget):
        budget.cached({"part": 1}, lambda: work(1) + budget.cached({"part": 2}, lambda: work(10)))
        budget.map(work, [100, 200])
        budget.charge(1000)
        clock[0] += 10_000  # what is not cached

    for code, found in (("a", 0), ("a", 3), ("b", 0)):
        cache = Cache(code, tmp_path)
        _, seconds = cache.timed(lambda cache=cache: experiment(Budget(cache=cache)))
        assert seconds == 11_311
        assert cache.found == found


def test_an_interrupted_computation_counts_what_was_there(tmp_path, clock):
    def work(seconds):
        clock[0] += seconds

    Budget(cache=Cache("a", tmp_path)).map(work, [1])
    cache = Cache("a", tmp_path)
    budget = Budget(cache=cache)
    assert cache.timed(lambda: budget.map(work, [1, 10]))[1] == 11
    assert (cache.found, cache.computed) == (1, 1)


@pytest.mark.parametrize("blocked", ["a file", "a full disk"])
def test_where_nothing_can_be_kept_all_is_computed_and_told_once(
    tmp_path, monkeypatch, capsys, blocked
):
    folder = tmp_path / "cache"
    if blocked == "a file":
        folder.touch()
    else:

        def full(*_):
            raise UserError("no space")

        monkeypatch.setattr(cache, "write_text", full)
    monkeypatch.setattr(cache, "UNWRITABLE", set())
    compute = Counter()
    for code in ("a", "b"):
        assert Cache(code, folder).get({}, compute) == VALUE
        assert Budget(cache=Cache(code, folder)).map(lambda _: compute(), [1, 2]) == [VALUE] * 2
    assert compute.calls == 6
    told = capsys.readouterr().err
    assert told.startswith("results are computed, but not kept: ")
    assert told.count("\n") == 1


def test_a_quick_result_is_not_taken_for_a_full_one(tmp_path):
    compute = Counter()
    for quick in (True, False):
        budget = Budget(quick=quick, cache=Cache("code", tmp_path))
        budget.cached({}, compute)
        budget.map(lambda item: compute(), [1])
    assert compute.calls == 4


def test_digest_of_code_follows_imports_but_not_comments(tmp_path):
    file = tmp_path / "claim.py"

    def digest(text):

        cache._read.cache_clear()
        file.write_text(text)
        return digest_of_code(file)

    plain = digest("x = 1\n")
    assert digest('"""Says."""\n\nx  =  1  # one\n') == plain
    assert digest("x = 2\n") != plain
    assert digest("x = 1\nfrom dlnotes.optim.adam import Adam\n") != plain
    adam = digest("from dlnotes.optim import adam\n")
    with pytest.MonkeyPatch.context() as patch:
        read = cache._read.__wrapped__
        patch.setattr(
            cache, "_read", lambda path: ("new", ()) if path.name == "adam.py" else read(path)
        )
        assert digest_of_code(file) != adam


def test_digest_of_data_depends_on_type_shape_and_values():
    x = torch.arange(4.0)
    others = [x + 1, x.double(), x.view(2, 2), x[:3]]
    digests = {digest_of_data([tensor]) for tensor in [x, *others]}
    assert len(digests) == 5
    assert digest_of_data([x.clone()]) == digest_of_data([x])
    assert digest_of_data([torch.tensor(1)]) != digest_of_data([torch.tensor(2)])
