"""What a user gives is checked against the signature: names, types and ranges, in one line."""

import copy
import inspect
import json
import pickle
from collections import UserDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import IntEnum
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, NamedTuple

import numpy as np
import pytest
import torch

from dlnotes.arguments import Count, Natural, Positive, Range, Settings, Share, checked, hints_of
from dlnotes.data.dataset import load_dataset
from dlnotes.data.pairs import load_pairs
from dlnotes.data.reading import Reading
from dlnotes.data.word2vec import learn_from, learn_vectors
from dlnotes.errors import UserError
from dlnotes.models import MODELS, TRANSLATORS
from dlnotes.optim import OPTIMIZERS
from dlnotes.training.classifier import TextClassifier
from dlnotes.training.ensemble import boost, bootstrap, load_members, make_ensemble
from dlnotes.training.fit import Fitting, fit
from dlnotes.training.settings import Training, parse_settings
from dlnotes.training.train import train_classifier
from dlnotes.training.translation import Translator, train_translator


class Pair(NamedTuple):
    """A tuple of a kind of its own."""

    one: float
    other: float


class Colour(IntEnum):
    """A number with a name."""

    RED = 1


@dataclass(frozen=True, kw_only=True)
class Rest(Settings):
    """Further keywords."""

    note: str = ""
    parts: int | None = None


@checked
def sample(
    thing: Any,
    *,
    count: Count = 1,
    natural: Natural | None = 0,
    rate: Annotated[float, Range(0)] = 0.1,
    share: Share = 0.0,
    norm: Positive | None = None,
    flag: bool = False,
    name: str = "",
    path: Path | None = None,
    source: Path | Sequence[Path] | Iterable[tuple[str, str]] = (),
    sources: Mapping[str, Path | Sequence[Path] | Iterable[tuple[str, str]]] | None = None,
    place: torch.device | str = "cpu",
    sizes: tuple[Count, ...] = (),
    pair: tuple[float, float] = (0.0, 0.0),
    texts: Sequence[str] = (),
    settings: Mapping[str, Any] | None = None,
    call: Callable[[], None] | None = None,
    **rest: Annotated[Any, Rest],
) -> dict[str, Any]:
    """Gives back what it got."""
    return {k: v for k, v in locals().items() if k != "rest"} | rest


GOOD = {
    "count": [1, 2**63 - 1], "natural": [0, None], "rate": [0, 0.0, 1e300, 3], "share": [0, 0.999], "norm": [1e-9, 2, None],
    "flag": [True, False], "name": ["", "x"], "path": [Path("x"), None], "place": ["cpu", torch.device("cpu")],
    "sizes": [(), (1, 2), [3]], "pair": [(0.1, 1), [1, 2]], "texts": [["a"], ("a", "b")], "settings": [None, {}, {"a": 1}],
    "call": [None, print], "note": ["x"], "parts": [3, None],
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_what_is_allowed_arrives_as_it_is(name):
    for value in GOOD[name]:
        assert sample(0, **{name: value})[name] is value


NAN, INF = float("nan"), float("inf")
BAD = {
    "count": ([0, -1], "at least 1"),
    "count  ": ([2**63, 10**30, -(10**30)], "at least 1 and below 9,223,372,036,854,775,808"),
    "count ": ([True, 1.0, 1.5, "1", None, NAN, INF, torch.tensor(1), [1]], "an integer of at least 1"),
    "natural": ([-1], "at least 0 or None"),
    "natural ": (["0", False, 0.0], "an integer of at least 0 or None"),
    "rate": ([-1, -1e-300], "at least 0"),
    "rate ": ([NAN, INF, -INF, "1e-3", True, None, torch.tensor(0.1), 1j], "a finite number of at least 0"),
    "share": ([1, 1.0, -0.1], "at least 0 and below 1"),
    "norm": ([0, 0.0, -1], "above 0 or None"),
    "norm ": ([INF, "1", False], "a finite number above 0 or None"),
    "flag": ([1, 0, None, "true", "no", 1.0], "True or False"),
    "name": ([1, None, b"x", Path("x")], "text"),
    "path": ([3, b"x", ["x"]], "a path or None"),
    "sizes": ([3, "3", (0,), (1, 2.0), [True], None], "a tuple "),
    "pair": ([0.1, (0.1,), (1, 2, 3), (NAN, 0.0), "ab"], "a tuple "),
    "texts": (["abc", b"abc", 3], "a list"),
    "settings": (["a=1", [], 3], "a mapping or None"),
    "parts": (["3", 1.5], "an integer or None"),
    "parts ": ([2**63], "an integer of at most 64 bits or None"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_is_not_allowed_is_named_with_what_is(name):
    values, allowed = BAD[name]
    name = name.strip()
    for value in values:
        with pytest.raises(UserError) as told:
            sample(0, **{name: value})
        assert str(told.value).startswith(f"{name} must be {allowed}"), told.value
        assert str(told.value).endswith(f", not {' '.join(repr(value).split())}")


def test_text_stands_for_a_path_where_there_is_one(monkeypatch):
    monkeypatch.setenv("HOME", "/home/of/anna")
    home = Path("/home/of/anna")
    assert sample(0, path="x/y")["path"] == Path("x/y")
    for path in ("~/x", Path("~/x")):
        assert sample(0, path=path)["path"] == home / "x"
        assert sample(0, source=[path, "y"])["source"] == [home / "x", Path("y")]
        given = sample(0, sources={"train": path, "dev": ("y",)})["sources"]
        assert given == {"train": home / "x", "dev": (Path("y"),)}
    assert sample("~/x", name="~/x", settings={"a": "~/x"}, texts=["~/x"])["thing"] == "~/x"
    pairs = [("a", "b"), ["a", "b"]]
    assert sample(0, source=pairs)["source"] is pairs
    assert sample(0, name="~/x")["name"] == "~/x"
    assert sample(0, texts=["~/x"])["texts"] == ["~/x"]
    with pytest.raises(UserError, match=r"^path must be a path, not ''$"):
        sample(0, path="")
    with pytest.raises(UserError, match=r"^train must be a path, not ''$"):
        sample(0, sources={"train": ""})
    with pytest.raises(
        UserError, match=r"^path is ~nobody-of-this-name/x, but there is no such home"
    ):
        sample(0, path="~nobody-of-this-name/x")


def test_a_long_value_is_cut():
    with pytest.raises(UserError) as told:
        sample(0, count=list(range(1000)))
    assert len(str(told.value)) < 200


def test_an_unknown_name_is_told_with_the_nearest_one():
    with pytest.raises(UserError, match=r"sample has no argument 'cuont'; .*; did you mean 'count'\?$"):  # fmt: skip
        sample(0, cuont=3)
    with pytest.raises(UserError, match=r"did you mean 'parts'\?"):
        sample(0, part=3)
    with pytest.raises(UserError, match=r"no argument 'xyzzy'; its arguments are: thing, count, .*, note, parts$"):  # fmt: skip
        sample(0, xyzzy=3)


def test_numbers_of_numpy_become_pythons():
    """So that a record can be written as JSON."""
    got = sample(0, count=np.int64(3), rate=np.float32(0.5), flag=np.bool_(True))
    assert [(type(got[n]), got[n]) for n in ("count", "rate", "flag")] == [(int, 3), (float, 0.5), (bool, True)]  # fmt: skip
    with pytest.raises(UserError, match="count must be at least 1, not 0"):
        sample(0, count=np.int64(0))


def test_the_signature_is_still_there():
    assert list(inspect.signature(sample).parameters)[:2] == ["thing", "count"]
    assert sample.__doc__ == "Gives back what it got."
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'thing'"):
        sample()


DOORS = [
    fit, train_classifier, train_translator, load_members, make_ensemble, boost, bootstrap, load_dataset, load_pairs,
    learn_vectors, learn_from, TextClassifier.classify, Translator.write,
]  # fmt: skip
WRONG = {int: ["3", 2.5, True, NAN], float: ["1e-3", True, NAN, INF], bool: [1, "false"], str: [3, None]}  # fmt: skip


def wrong(hint):
    """Values of other types than an annotation's only one."""
    base = hint.__origin__ if hasattr(hint, "__metadata__") else hint
    options = [a.__origin__ if hasattr(a, "__metadata__") else a for a in getattr(base, "__args__", (base,))]  # fmt: skip
    kinds = [k for k in options if k in WRONG]
    if len(kinds) != 1 or any(o not in (*WRONG, type(None)) for o in options):
        return []
    return [v for v in WRONG[kinds[0]] if v is not None or type(None) not in options]


@pytest.mark.parametrize("door", DOORS, ids=lambda d: d.__qualname__)
def test_every_number_flag_and_text_is_checked_at_every_door(door):
    """Before anything is done: no other argument is even looked at."""
    with pytest.raises(UserError, match=f"{door.__name__} has no argument 'sede'"):
        door(sede=3)
    tried = 0
    for name, hint in hints_of(door).items():
        for value in wrong(hint):
            with pytest.raises(UserError, match=f"^{name} must be "):
                door(**{name: value})
            tried += 1
    assert tried or door is load_members


def test_the_arguments_of_training_have_ranges(dataset):
    for name, value, allowed in (
        ("lr", -1e-3, "at least 0 or None"),
        ("epochs", 0, "at least 1 or None"),
        ("batch_size", -1, "at least 0 or None"),
        ("seed", -1, "at least 0"),
        ("warmup", 1.0, "at least 0 and below 1 or None"),
        ("clip_norm", -1e-3, "at least 0 or None"),
        ("label_smoothing", 1.0, "at least 0 and below 1 or None"),
        ("patience", -1, "at least 0 or None"),
        ("checkpoint_every", -1, "at least 0"),
    ):
        with pytest.raises(UserError, match=f"{name} must be {allowed}"):
            train_classifier(dataset, "fasttext", **{name: value})
    with pytest.raises(UserError, match=r"no argument 'epoch'; .*; did you mean 'epochs'\?"):
        train_classifier(dataset, "fasttext", epoch=3)
    with pytest.raises(UserError, match=r"did you mean 'batch_size'\?"):
        Fitting(epochs=1, batchsize=3)


@pytest.mark.parametrize("name", [*MODELS, *(f"{name} translator" for name in TRANSLATORS)])
def test_every_hyper_parameter_of_every_model_is_checked(dataset, datasets, name):
    name, _, kind = name.partition(" ")
    models = TRANSLATORS if kind else MODELS
    vocabulary = datasets("sentences").vocabulary

    def create(settings):
        if kind:
            return Translator.create(name, settings, vocabulary, vocabulary)
        return TextClassifier.create(name, settings, vocabulary, ["a", "b"])

    with pytest.raises(UserError, match=rf"{name} has no setting 'dropuot'; .*did you mean 'dropout'\?"):  # fmt: skip
        create({"dropuot": 0.1})
    with pytest.raises(UserError, match=f"{name} has no setting '.*vocabulary_size'"):
        create({next(n for n in hints_of(models[name].__init__) if "vocabulary" in n): 9})
    tried = set()
    for setting, hint in hints_of(models[name].__init__).items():
        if "vocabulary_size" in setting or setting == "num_classes":
            continue
        for value in wrong(hint):
            with pytest.raises(UserError, match=f"^{name}: {setting} must be "):
                create({setting: value})
            tried.add(setting)
    assert {"dropout", "embedding_dim"} <= tried


def test_settings_on_the_command_line_name_the_nearest():
    with pytest.raises(UserError, match=r"no setting 'dropuot=0.1'; .*did you mean 'dropout'\?"):
        parse_settings("textcnn", MODELS["textcnn"], ["dropuot=0.1"])
    with pytest.raises(UserError, match=r"textcnn: maps has no value; write maps=100"):
        parse_settings("textcnn", MODELS["textcnn"], ["maps"])


def test_how_documents_are_read_is_checked_too():
    for wrong_, told in (({"name": 3}, "name must be text"), ({"min_freq": "3"}, "min_freq must be an integer"), ({"min_frq": 2}, "did you mean 'min_freq'")):  # fmt: skip
        with pytest.raises(UserError, match=told):
            load_dataset({"train": [("a", "x"), ("b", "y")] * 9}, **wrong_)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"eps": np.float32(0.5)}, {"eps": 0.5}),
        ({"betas": (np.float64(0.5), 1)}, {"betas": (0.5, 1)}),
        ({np.str_("output"): np.str_("softmax")}, {"output": "softmax"}),
        (MappingProxyType({"a": [True, None, Colour.RED]}), {"a": [True, None, 1]}),
        (UserDict({"a": {"b": np.int64(3)}}), {"a": {"b": 3}}),
        ({"betas": Pair(0.1, 0.2)}, {"betas": (0.1, 0.2)}),
    ],
)
def test_settings_are_plain_values(given, kept):
    """So that a record and a checkpoint can hold them, and nobody changes them from outside."""
    training = Training(optimizer_settings=given)
    assert training.optimizer_settings == kept
    assert repr(training.optimizer_settings) == repr(kept)
    json.dumps(asdict(training))
    hash(training)
    assert training == pickle.loads(pickle.dumps(training)) == copy.deepcopy(training)


def test_a_settings_table_is_a_copy():
    table = {"eps": 0.5}
    training = Training(optimizer_settings=table)
    table["eps"] = 9
    assert training.optimizer_settings == {"eps": 0.5}


def test_what_no_file_can_hold_is_refused(dataset):
    for value in (torch.tensor(0.1), object(), {1, 2}):
        with pytest.raises(UserError, match="optimizer_settings may hold numbers, texts and lists"):
            Training(optimizer_settings={"eps": value})
        with pytest.raises(UserError, match="model_settings may hold numbers, texts and lists"):
            train_classifier(dataset, "fasttext", model_settings={"dropout": value})
    with pytest.raises(UserError, match="model_settings must have names for keys"):
        train_classifier(dataset, "fasttext", model_settings={1: 2})


def test_names_of_kinds_are_not_those_of_markers(dataset):
    for settings, told in (
        ({"optimizer_settings": ["eps"]}, r"optimizer_settings must be a mapping, not \['eps'\]"),
        ({"optimizer": ["adam"]}, r"optimizer must be one of gradient-descent, .*, not \['adam'\]"),
        ({"lr": 10**400}, "lr must be "),
    ):
        with pytest.raises(UserError, match=f"^{told}"):
            Training(**settings)
    for wrong_ in ({"lr": 1}, Reading(), "x"):
        with pytest.raises(UserError, match=r"^training must be a Training or None, not "):
            train_classifier(dataset, "fasttext", wrong_)
    with pytest.raises(UserError, match=r"^dataset must be a Dataset, not "):
        train_classifier([("a", "x")], "fasttext")
    with pytest.raises(UserError, match="tokenizer must be one of basic_english, "):
        Reading(tokenizer="nope")


def test_a_setting_that_contains_itself_is_told():
    circle = {"a": {}}
    circle["a"]["b"] = circle
    with pytest.raises(
        UserError, match="optimizer_settings contains itself, or is nested too deep"
    ):
        Training(optimizer_settings=circle)


@pytest.mark.parametrize("settings", [{"eps": 1e300}, {"betas": (0.9, -1e39)}])
def test_what_float32_does_not_hold_is_told_before_anything_is_done(settings):
    (name,) = settings
    told = f"{name} must be a number that float32 holds, below 3.4e.38, not "
    with pytest.raises(UserError, match=told):
        Training(optimizer_settings=settings).make_optimizer([torch.zeros(3, requires_grad=True)])


def test_a_batch_may_be_larger_than_all_documents(dataset):
    records = [train_classifier(dataset, epochs=1, progress=False, batch_size=size)[1] for size in (0, 2**62)]  # fmt: skip
    assert records[0]["dev"] == records[1]["dev"]
    with pytest.raises(UserError, match=r"eps is too large for a number"):
        parse_settings("adam", OPTIMIZERS["adam"], ["eps=1" + "0" * 400])
