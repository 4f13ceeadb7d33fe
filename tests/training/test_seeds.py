"""Several seeds at once are the single trainings, seed by seed."""

import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector
from torch.utils._python_dispatch import TorchDispatchMode

from dlnotes.data.dataset import Dataset, load_dataset
from dlnotes.errors import UserError
from dlnotes.training.classifier import TextClassifier
from dlnotes.training.evaluate import evaluate
from dlnotes.training.fit import TrainingState, fit
from dlnotes.training.objectives import Hierarchical, SingleLabel, mean_loss
from dlnotes.training.seeds import Seeds
from dlnotes.training.settings import Optimization, Training

pytestmark = pytest.mark.skipif(
    tuple(map(int, torch.__version__.split(".")[:2])) < (2, 7), reason="refused there"
)

SEEDS = [3, 4, 5]
CASES: dict[str, tuple[str, dict[str, Any], Optimization]] = {
    "entnet": (
        "entnet",
        {"embedding_dim": 8, "slots": 4},
        Optimization(
            lr=0.01, epochs=6, batch_size=16, clip_norm=0.5, schedule="halving", patience=2
        ),
    ),
    "dmn+": (
        "dmn",
        {"embedding_dim": 8, "hidden_size": 8, "dropout": 0.0},
        Optimization(
            lr=0.01, epochs=4, batch_size=16, optimizer_settings={"weight_decay": 1e-3}, warmup=0.2
        ),
    ),
    "dmn": (
        "dmn",
        {"embedding_dim": 8, "hidden_size": 8, "dropout": 0.0, "variant": "dmn"},
        Optimization(lr=0.1, epochs=3, batch_size=16, optimizer="adagrad"),
    ),
    "textcnn": (
        "textcnn",
        {"embedding_dim": 8, "maps": 5, "dropout": 0.0, "sparse": False, "max_norm": 0.3},
        Optimization(lr=0.3, epochs=3, batch_size=None, optimizer="momentum"),
    ),
}
SAID: dict[str, Any] = {"epochs": 1, "schedule": "constant", "warmup": 0.0}
TOLERANCE = {"rtol": 1e-9, "atol": 1e-11}


class InDouble(SingleLabel):
    """The loss of float64 scores, which `SingleLabel` computes in float32."""

    def loss(self, outputs: Any, labels: Tensor) -> Tensor:
        return mean_loss(outputs, labels)


@pytest.fixture
def doubles() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    """Where somebody is, after one to five sentences about three people."""
    random = np.random.default_rng(0)

    def story() -> tuple[str, str]:
        told = [
            (random.choice(["Mary", "John", "Anna"]), random.choice(["hall", "garden", "attic"]))
            for _ in range(random.integers(1, 6))
        ]
        who = told[random.integers(len(told))][0]
        answer = [place for name, place in told if name == who][-1]
        sentences = " ".join(f"{name} went to the {place}." for name, place in told)
        return str(answer), f"{sentences} <question> Where is {who}?"

    data = {split: [story() for _ in range(n)] for split, n in (("train", 70), ("dev", 40))}
    return load_dataset(data, tokenizer="sentences")


def untrained(dataset: Dataset, model: str, settings: dict[str, Any], seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return TextClassifier.create(
        model, settings, dataset.vocabulary, dataset.label_names, tokenizer=dataset.tokenizer
    ).model


def together(
    dataset: Dataset,
    case: str,
    seeds: list[int] = SEEDS,
    objective: SingleLabel | None = None,
    settings: dict[str, Any] | None = None,
    training: Optimization | None = None,
    **options: Any,
) -> Seeds:
    model, own, recipe = CASES[case]
    models = [untrained(dataset, model, {**own, **(settings or {})}, seed) for seed in seeds]
    objective = objective or SingleLabel()
    return Seeds(
        models, seeds, objective, dataset.train, dataset.dev, training or recipe, **options
    )


def alone(dataset: Dataset, case: str, seed: int) -> tuple[nn.Module, TrainingState]:
    name, settings, training = CASES[case]
    model = untrained(dataset, name, settings, seed)
    training = replace(training, seed=seed)
    optimizer = training.make_optimizer(model.parameters())
    state = fit(model, optimizer, InDouble(), dataset.train, dataset.dev, training, progress=False)
    return model, state


@pytest.mark.parametrize("case", CASES)
@pytest.mark.usefixtures("doubles")
def test_each_seed_goes_as_it_goes_alone(dataset: Dataset, case: str) -> None:
    trained = together(dataset, case, objective=InDouble())
    for _ in trained.run():
        pass
    for model, replica in zip(trained.models, trained.replicas, strict=True):
        expected, state = alone(dataset, case, replica.seed)
        assert len(replica.history) == len(state.history)
        assert replica.best_epoch == state.best_epoch
        for found, wanted in zip(replica.history, state.history, strict=True):
            assert found["train_loss"] == pytest.approx(wanted["train_loss"], rel=1e-9)
            assert found["dev_accuracy"] == wanted["dev_accuracy"]
            # Figures are computed from scores in float32.
            assert found["dev_loss"] == pytest.approx(wanted["dev_loss"], rel=1e-6)
        for p, q in zip(model.parameters(), expected.parameters(), strict=True):
            torch.testing.assert_close(p, q, **TOLERANCE)
    if case == "entnet":
        assert {len(r.history) for r in trained.replicas} != {6}, "no seed ran out of patience"


@pytest.mark.parametrize("case", ["dmn+", "entnet"])
@pytest.mark.usefixtures("doubles")
def test_dropout_of_a_seed_does_not_depend_on_the_others(dataset: Dataset, case: str) -> None:
    def losses(seeds: list[int]) -> dict[int, list[float]]:
        trained = together(dataset, case, seeds, InDouble(), settings={"dropout": 0.5})
        for _ in range(2):
            for _ in trained.run_epoch():
                pass
        return {r.seed: [h["train_loss"] for h in r.history] for r in trained.replicas}

    three, other, one = losses([3, 4, 5]), losses([9, 4]), losses([4])
    assert three[4] == pytest.approx(other[4], rel=1e-9)
    assert three[4] == pytest.approx(one[4], rel=1e-9)


def test_replicas_with_the_same_weights_get_different_masks(dataset: Dataset) -> None:
    trained = together(dataset, "dmn+", [3, 4], settings={"dropout": 0.5})
    trained._draw_masks()
    facts, answer = trained.masks
    assert facts.shape[:3] == (2, 16, 5)
    assert answer.shape == (2, 16, 16)
    for mask in trained.masks:
        assert set(mask.unique().tolist()) == {0.0, 1.0}
        assert not mask[0].equal(mask[1])


@pytest.mark.usefixtures("doubles")
def test_replicas_that_are_left_go_on_as_before(dataset: Dataset) -> None:
    every = together(dataset, "dmn+", objective=InDouble())
    some = together(dataset, "dmn+", objective=InDouble(), keep={1: 2, 2: 1})
    for _ in every.run():
        pass
    for _ in some.run():
        pass
    assert sorted(len(r.history) for r in some.replicas) == [1, 2, 4]
    assert sorted(r.stopped or "" for r in some.replicas) == ["", "hopeless", "hopeless"]
    for a, b in zip(some.replicas, every.replicas, strict=True):
        for found, wanted in zip(a.history, b.history, strict=False):
            assert found == pytest.approx(wanted, rel=1e-9)
    first = [r.history[0]["dev_accuracy"] for r in every.replicas]
    dropped = next(i for i, r in enumerate(some.replicas) if len(r.history) == 1)
    assert first[dropped] == min(first)


def test_a_replica_that_diverges_ends_alone(dataset: Dataset) -> None:
    trained = together(dataset, "entnet")
    untrained = [parameters_to_vector(m.parameters()).detach() for m in trained.models]
    with torch.no_grad():
        trained.theta[1] = torch.nan
    for _ in trained.run_epoch():
        pass
    trained.load_best()
    assert [r.stopped for r in trained.replicas] == [None, "diverged", None]
    assert len(trained.replicas[0].history) == 1
    best = [parameters_to_vector(m.parameters()).detach() for m in trained.models]
    assert all(weights.isfinite().all() for weights in best)
    assert [bool(w.equal(u)) for w, u in zip(best, untrained, strict=True)] == [False, True, False]


def test_the_best_epochs_are_measured_on_other_documents(dataset: Dataset) -> None:
    trained = together(dataset, "entnet")
    for _ in trained.run():
        pass
    found = trained.evaluate(dataset.train)
    for pair, model in zip(found, trained.models, strict=True):
        alone = evaluate(model, dataset.train)
        assert pair == pytest.approx((alone.accuracy, alone.loss), rel=1e-6)
    assert found != trained.evaluate(dataset.dev)


class _Waits(TorchDispatchMode):
    """Refuses what makes a device wait, and what a CUDA graph cannot hold."""

    names = ("_local_scalar_dense", "nonzero", "_unique2", "masked_select", "is_nonzero", "equal")

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None):
        name = function._schema.name.removeprefix("aten::")
        assert name not in self.names, name
        if name == "index":
            assert all(i is None or i.dtype is torch.long for i in args[1])
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("case", ["entnet", "dmn+"])
def test_an_update_reads_nothing_back_from_the_device(dataset: Dataset, case: str) -> None:
    trained = together(dataset, case, settings={"dropout": 0.1})
    size = next(iter(trained.sizes.values()))
    with _Waits():
        trained._update(size)
        trained._measure("dev")


def test_an_old_torch_is_refused(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__version__", "2.6.0+cpu")
    with pytest.raises(UserError, match=r"need torch 2\.7 or newer, not 2\.6\.0\+cpu"):
        together(dataset, "entnet")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: {"training": Optimization(amp=True)}, "amp"),
        (lambda: {"training": Optimization(compile=True)}, "compile"),
        (lambda: {"training": Training(lr=0.01)}, "training leaves epochs to a recipe"),
        (lambda: {"training": Training(**SAID)}, "training leaves optimizer to a recipe"),
        (
            lambda: {"training": Training(**SAID, optimizer="adam")},
            "training leaves lr to a recipe",
        ),
        (lambda: {"settings": {"sparse": True}}, "sparse=False"),
        (lambda: {"objective": Hierarchical()}, "hierarchical"),
        (lambda: {"seeds": []}, "a model per seed"),
    ],
)
def test_what_cannot_be_trained_together_is_refused(
    dataset: Dataset, change: Callable[[], dict[str, Any]], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        together(dataset, "entnet", **change())


@pytest.mark.parametrize(("case", "dropout"), [("entnet", 0.3), ("dmn+", 0.3), ("dmn", 0.0)])
def test_a_training_that_was_stopped_goes_on_with_the_same_bits(
    dataset: Dataset, case: str, dropout: float
) -> None:
    def fresh() -> Seeds:
        training = replace(CASES[case][2], epochs=4, patience=None)
        settings = {"dropout": dropout}
        return together(dataset, case, settings=settings, training=training, keep={2: 2, 3: 1})

    whole, stopped = fresh(), fresh()
    for _ in whole.run():
        pass
    for _ in range(2):
        for _ in stopped.run_epoch():
            pass
    file = io.BytesIO()
    torch.save(stopped.state_dict(), file)
    for _ in stopped.run_epoch():  # what comes after the state does not matter
        pass
    file.seek(0)
    again = fresh()
    again.load_state_dict(torch.load(file, weights_only=True))
    for _ in again.run():
        pass
    assert again.replicas == whole.replicas
    assert [r.stopped for r in whole.replicas].count("hopeless") == 2
    assert torch.equal(again.best, whole.best)
    assert torch.equal(again.theta, whole.theta)
    for one, other in zip(again.accumulated, whole.accumulated, strict=True):
        assert torch.equal(one, other)
