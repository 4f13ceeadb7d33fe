import json
import math

import pytest
import torch

from dlnotes.claims import cache
from dlnotes.claims.cache import Cache, digest_of_code, digest_of_data
from dlnotes.claims.claim import Budget

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
