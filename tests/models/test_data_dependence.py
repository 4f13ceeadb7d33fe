"""Models whose shapes may depend on their tokens, and the same without: for other devices, traces."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.fx.experimental.proxy_tensor import make_fx

from dlnotes.models import HAN, MODELS, DynamicMemoryNetwork, EntityNetwork
from dlnotes.nn import PAD, QUESTION, SENTENCE_END
from dlnotes.nn.sentences import is_data_dependent

MODELS_OF_SENTENCES = {
    "han": (HAN, {}),
    "han, written out": (HAN, {"fused": False}),
    "dmn": (DynamicMemoryNetwork, {"variant": "dmn", "passes": 2}),
    "dmn+": (DynamicMemoryNetwork, {"variant": "dmn+", "passes": 2}),
    "entnet": (EntityNetwork, {"slots": 3}),
}
each = pytest.mark.parametrize("name", MODELS_OF_SENTENCES)


def build(name: str, data_dependent: bool | None) -> nn.Module:
    kind, settings = MODELS_OF_SENTENCES[name]
    torch.manual_seed(0)
    sizes = {"embedding_dim": 5, "max_sentences": 4, "max_words": 5, "dropout": 0.0}
    model = kind(vocabulary_size=20, num_classes=3, **sizes, **settings).double()
    assert model.data_dependent is None
    model.data_dependent = data_dependent
    return model


def documents(*documents: list[list[int]]) -> Tensor:
    """Rows of sentences; each row's last is a question, and an empty one is none."""
    rows = []
    for *story, question in documents:
        row = [token for sentence in story for token in (*sentence, SENTENCE_END)]
        rows.append([*row, QUESTION, *question] if question else row)
    t = max(map(len, rows))
    return torch.tensor([row + [PAD] * (t - len(row)) for row in rows])


TOKENS = documents(
    [[4, 5, 6], [7], [8, 9], [10, 4]], [[5], [6, 7], []], [[]], [[4, 4, 5, 6, 7, 8, 9], [1], [5]]
)
OTHERS = documents([[9, 8], [5, 5, 5, 5, 5, 5, 5], [4], [6, 6], [7, 8, 9]], [[4], []])


def run(model: nn.Module, tokens: Tensor) -> tuple[Any, ...]:
    """Scores, every gradient, and what the model explains itself with."""
    scores = model(tokens)
    gradients = torch.autograd.grad(scores.square().sum(), list(model.parameters()))
    return scores, gradients, model.explain(tokens)


@each
@pytest.mark.parametrize("tokens", [TOKENS, OTHERS, TOKENS[2:3], TOKENS[:, :0]])
def test_values_and_gradients_are_the_same(name: str, tokens: Tensor) -> None:
    found, expected = (run(build(name, choice), tokens) for choice in (False, True))
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-14)


@each
def test_by_default_shapes_depend_on_data_on_a_cpu_only(name: str) -> None:
    found, expected = (run(build(name, choice), TOKENS) for choice in (None, True))
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    model = build(name, None).to("meta")
    assert model(TOKENS.to("meta")).shape == (4, 3)
    model.data_dependent = True
    with pytest.raises((RuntimeError, NotImplementedError)):  # a meta tensor has no values
        model(TOKENS.to("meta"))


def test_the_default_is_decided_in_one_place() -> None:
    for device, expected in {"cpu": True, "meta": False}.items():
        tokens = TOKENS.to(device)
        assert is_data_dependent(tokens, None) is expected
        assert is_data_dependent(tokens, True) is True
        assert is_data_dependent(tokens, False) is False


@each
def test_a_trace_holds_for_other_documents(name: str) -> None:
    """Forward and backward, traced with tensors that have no values."""
    model = build(name, False)
    parameters = dict(model.named_parameters())

    def step(parameters: dict[str, Tensor], tokens: Tensor) -> tuple[Tensor, ...]:
        scores = functional_call(model, parameters, (tokens,))
        return scores, *torch.autograd.grad(scores.square().sum(), list(parameters.values()))

    traced = make_fx(step, tracing_mode="fake")(parameters, TOKENS)
    for tokens in (TOKENS, TOKENS.flip(0), torch.zeros_like(TOKENS)):
        found, expected = traced(parameters, tokens), step(parameters, tokens)
        torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-14)


@pytest.mark.skipif(
    tuple(map(int, torch.__version__.split(".")[:2])) < (2, 6),
    reason="its torch.export is a prototype",
)
@pytest.mark.filterwarnings("ignore:The tensor attributes.*_flat_weights")  # torch's GRU
@each
def test_an_exported_model_takes_any_number_of_documents(name: str) -> None:
    model = build(name, False).eval()
    batch = torch.export.Dim("batch")
    program = torch.export.export(model, (TOKENS,), dynamic_shapes={"tokens": {0: batch}})
    for tokens in (TOKENS, TOKENS[:2].flip(0), TOKENS.repeat(3, 1)):
        found, expected = program.module()(tokens), model(tokens)
        torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-14)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["han", "dmn+", "entnet"])
def test_what_reads_the_tokens_cannot_be_traced(name: str) -> None:
    """Otherwise the two tests above would prove nothing."""
    with pytest.raises(Exception, match=r"(?i)data.dependent"):
        make_fx(build(name, True), tracing_mode="fake")(TOKENS)


def test_it_is_no_hyper_parameter() -> None:
    """Folders of classifiers hold the constructor's arguments: old ones load, new ones are as old."""
    for kind in MODELS.values():
        assert "data_dependent" not in inspect.signature(kind).parameters
    for name in MODELS_OF_SENTENCES:
        assert build(name, False).state_dict().keys() == build(name, None).state_dict().keys()
