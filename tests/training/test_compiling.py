"""A compiled training is the same training, and says what is missing where nothing compiles."""

import pytest
import torch

from compiling import compiles
from dlnotes.errors import UserError
from dlnotes.optim import Adam
from dlnotes.training import compiling, distributed
from small import fitted, make

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _afresh():
    """Nothing compiled before, nothing compiled left."""
    torch.compiler.reset()
    compiling.check_compiler.cache_clear()
    yield
    torch.compiler.reset()
    compiling.check_compiler.cache_clear()


@pytest.fixture
def traced(monkeypatch):
    """Traced and differentiated as ever, but run operation by operation: in seconds."""
    monkeypatch.setattr(compiling, "BACKEND", "aot_eager")


def trained(dataset, name, sizes=None, **options):
    """Losses of the epochs, and the model."""
    model = make(dataset, name, **{"dropout": 0.0, **(sizes or {})})
    torch.manual_seed(5)
    options = {"epochs": 2, "batch_size": 8, "progress": False} | options
    optimizer = Adam(model.parameters(), lr=0.01)
    state = fitted(model, optimizer, dataset.train, dataset.dev, **options)
    return [epoch["train_loss"] for epoch in state.history], model


WAYS = {
    "fasttext": ("fasttext", {}, {}),
    "fasttext, hierarchical": ("fasttext", {"output": "hierarchical"}, {}),
    "textcnn, sparse": ("textcnn", {"sparse": True}, {"clip_norm": 0.5}),
    "textcnn, bf16": ("textcnn", {}, {"amp": True}),
}


def graphs():
    """How many graphs were compiled."""
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


@compiles
@pytest.mark.parametrize(
    "way", [pytest.param(way, marks=[pytest.mark.slow] * way.startswith("textcnn")) for way in WAYS]
)
def test_a_compiled_training_has_the_same_numbers(way, dataset, traced):
    name, settings, options = WAYS[way]
    expected, plain = trained(dataset, name, settings, **options)
    before = graphs()
    found, model = trained(dataset, name, settings, **options, compile=True)
    made = graphs() - before
    assert found == pytest.approx(expected, rel=2e-2 if "amp" in options else 1e-5)
    assert found[1] < 0.95 * found[0]
    assert made > 1  # the probe is one
    assert not any("forward" in vars(module) for module in model.modules())
    assert made < 10  # whatever the shapes of the batches
    if "amp" not in options:
        for key, weight in model.state_dict().items():
            torch.testing.assert_close(weight, plain.state_dict()[key], rtol=1e-3, atol=1e-5)


@compiles
def test_a_sparse_gradient_stays_sparse(dataset, traced, monkeypatch):
    kinds = set()

    def watched(self, closure=None):
        kinds.update(p.grad.is_sparse for p in self.param_groups[0]["params"][:1])
        return step(self, closure)

    step = Adam.step
    monkeypatch.setattr(Adam, "step", watched)
    trained(dataset, "fasttext", compile=True, epochs=1)
    assert kinds == {True}


@pytest.mark.slow
@compiles
def test_a_compiled_training_goes_on_where_it_was(dataset, traced, tmp_path):
    options = {"compile": True, "settings": {"compile": True}}
    whole, model = trained(dataset, "textcnn", {"dropout": 0.3}, epochs=3, **options)
    options |= {"checkpoint": tmp_path / "c.pt", "epochs": 3}
    trained(dataset, "textcnn", {"dropout": 0.3}, stop_after=1, **options)
    found, resumed = trained(dataset, "textcnn", {"dropout": 0.3}, resume=True, **options)
    assert found == whole
    for key, weight in resumed.state_dict().items():
        assert torch.equal(weight, model.state_dict()[key]), key
    with pytest.raises(UserError, match="compile=True, now it is False"):
        trained(dataset, "textcnn", resume=True, **options | {"settings": {"compile": False}})


def test_an_old_torch_is_told(monkeypatch):
    monkeypatch.setattr(torch, "__version__", "2.3.1")
    with pytest.raises(UserError, match=r"^compile needs torch 2.4 or newer, not 2.3.1; leave it"):
        compiling.check_compiler(CPU)


@pytest.mark.slow
@compiles
@pytest.mark.parametrize("name", ["fasttext", "textcnn"])
def test_with_torchs_compiler_it_is_the_same_training(name, dataset):
    expected, _ = trained(dataset, name)
    found, _ = trained(dataset, name, compile=True)
    assert found == pytest.approx(expected, rel=1e-4)


def test_several_processes_are_told(dataset, monkeypatch):
    monkeypatch.setattr(distributed, "current", lambda: distributed.Group(0, 2))
    with pytest.raises(UserError, match=r"^compile cannot be used with several processes"):
        trained(dataset, "textcnn", compile=True)
