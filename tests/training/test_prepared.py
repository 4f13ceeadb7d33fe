"""What the host makes of the tokens is what the model would make of them."""

import pytest
import torch

from dlnotes.models import MODELS
from dlnotes.nn import QUESTION, SENTENCE_END
from dlnotes.nn.prepared import attach, attached, prepared
from dlnotes.training import transfer
from dlnotes.training.evaluate import scores
from small import SMALL, fitted, make

PREPARING = {name: kind for name, kind in MODELS.items() if hasattr(kind, "prepare")}
TOKENS = torch.tensor(
    [
        [4, 5, SENTENCE_END, 6, SENTENCE_END, QUESTION, 7, 8],
        [4, 5, 6, 7, SENTENCE_END, 9, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 0],
    ]
)


def build(name, **settings):
    torch.manual_seed(0)
    settings = {"dropout": 0.0, **SMALL[name], **settings}
    return MODELS[name](vocabulary_size=12, num_classes=3, **settings).double()


def run(model, tokens):
    """Scores and dense gradients."""
    model.zero_grad()
    y = model(tokens)
    (y * torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)).sum().backward()
    return y, {key: p.grad.to_dense() for key, p in model.named_parameters()}


def test_models_that_look_at_tokens_alone_prepare():
    assert PREPARING.keys() == {"fasttext", "han", "dmn", "entnet"}


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("name", PREPARING)
def test_a_model_takes_what_is_attached(name, sparse):
    model = build(name, sparse=sparse)
    expected = run(model, TOKENS)
    tokens = TOKENS.clone()
    attach(model, tokens, model.prepare(TOKENS))
    model.prepare = None  # it is not called
    torch.testing.assert_close(run(model, tokens), expected, rtol=1e-12, atol=1e-14)


def test_it_is_for_one_model_and_these_tokens():
    model, other, tokens = build("han"), build("han"), TOKENS.clone()
    made = (torch.zeros(1),)
    assert attached(model, tokens) is None
    attach(model, tokens, made)
    assert attached(model, tokens) is prepared(model, tokens) is made
    assert attached(other, tokens) is None
    assert attached(model, tokens + 0) is attached(model, tokens[:1]) is None
    tokens[0, 0] = 9
    assert attached(model, tokens) is None
    assert torch.equal(prepared(model, tokens)[0], model.prepare(tokens)[0])
    with torch.inference_mode():
        tokens = TOKENS.clone()
        attach(model, tokens, made)
        assert attached(model, tokens) is made


@pytest.mark.parametrize("name", PREPARING)
def test_batches_on_another_device_bring_it(name, dataset):
    meta = torch.device("meta")
    model = make(dataset, name)
    for ahead in ((), ("meta",)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(transfer, "_AHEAD", ahead)
            batches = transfer.BatchLoader(dataset.train, meta, model)
            indices = torch.arange(4).numpy()
            with batches:
                batches.prefetch([indices])
                tokens, _ = batches.take(indices)
        expected = model.prepare(dataset.train.batch(indices).tokens)
        found = attached(model, tokens)
        assert [(x.shape, x.dtype, x.device) for x in found] == [
            (x.shape, x.dtype, meta) for x in expected
        ]


@pytest.mark.parametrize("name", PREPARING)
def test_training_and_evaluation_with_it(name, dataset, monkeypatch):
    """As on a GPU, where a model's forward pass prepares nothing any more."""

    def trained():
        model = make(dataset, name, dropout=0.0)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        torch.manual_seed(5)
        fitted(
            model, optimizer, dataset.train, dataset.dev, epochs=1, batch_size=16, progress=False
        )
        return scores(model, dataset.dev)

    expected = trained()
    prepare, calls = PREPARING[name].prepare, []

    def noted(model, tokens, device):
        calls.append(len(tokens))
        return tuple(prepare(model, tokens))

    monkeypatch.setattr(transfer, "_made", noted)
    monkeypatch.setattr(PREPARING[name], "prepare", None)
    torch.testing.assert_close(trained(), expected, rtol=1e-4, atol=1e-5)
    assert sum(calls) == len(dataset.train) + 2 * len(dataset.dev)
