"""What a GPU is told in an update of each model: not much more than with torch's own layers."""

from dataclasses import replace

import pytest
import torch
from torch.func import functional_call, stack_module_state
from torch.nn import functional as F

import bench_gpu
import bench_models
from dlnotes.models import MODELS
from dlnotes.nn import PAD
from launches import Launches, counted

META, CPU = torch.device("meta"), torch.device("cpu")
SIZES = {"vocabulary_size": bench_gpu.VOCABULARY, "num_classes": bench_gpu.CLASSES}
AT_MOST = 1.2
"""Operations of ours for each of the ordinary model's."""


def update_of(name, side, device):
    """An update without the optimizer's part, on documents of the lengths that are timed."""
    case = bench_models.CASES[name]
    small = {"buckets": 100} if name == "fasttext" else {}
    case = replace(case, settings=case.settings | small)
    ids = bench_gpu.documents(case, 1, 8)[0]
    if side == "ours":
        model, items = MODELS[name](**SIZES, **case.settings), [(row,) for row in ids]
    else:
        alike = {key: x for key, x in case.settings.items() if key not in case.ours_alone}
        model = case.ordinary(**SIZES, **alike)
        items = [case.lists(row, case.settings, bench_gpu.VOCABULARY) for row in ids]
    inputs, labels = bench_gpu.tensors(items, [0] * len(items), device, model.to(device))

    def update():
        F.cross_entropy(model(*inputs), labels).backward()

    return update, model


@pytest.mark.parametrize("name", MODELS)
def test_ours_are_not_many_more_than_the_ordinary_models(name, monkeypatch):
    """On meta tensors ours take the way of a GPU, and whatever would wait for it is an error."""
    ours, model = update_of(name, "ours", META)
    ordinary, other = update_of(name, "ordinary", CPU)
    found = counted(ours, monkeypatch)
    beside = counted(ordinary, monkeypatch)
    for each in (model, other):
        assert all(p.grad is not None for p in each.parameters())
    assert 10 < found.total() <= AT_MOST * beside.total(), found - beside


def test_operations_are_counted(monkeypatch):
    """A recurrence is one, whatever its length; a view is none."""

    def of(tokens):
        gru = torch.nn.GRU(3, 4)
        x = torch.ones(tokens, 2, 3, requires_grad=True)
        return counted(lambda: gru(x)[0].transpose(0, 1).sum().backward(), monkeypatch)

    assert of(2) == of(9)
    assert (of(5)["gru"], of(5)["gru backward"], of(5)["sum"], of(5)["t"]) == (1, 1, 1, 0)
    with Launches() as launches:
        torch.ones(2, 3) + 1
    assert launches.counts == {"ones": 1, "add": 1}


TOKENS = torch.tensor([[5, 6, 7, 8, 9], [4, 4, 3, 0, 0], [2, 0, 0, 0, 0], [0, 0, 0, 0, 0]])


def textcnn(seed=0):
    torch.manual_seed(seed)
    sizes = {"vocabulary_size": 10, "num_classes": 3, "embedding_dim": 6, "maps": 5}
    return MODELS["textcnn"](**sizes, widths=(1, 2, 4), dropout=0.0).double()


def both_ways(model, tokens):
    """Scores and gradients with the winning windows' gradients alone, and with those of all."""
    found = []
    for few in (False, True):
        model.few_kernels = few
        scores = model(tokens)
        weights = torch.linspace(-1, 1, scores.numel(), dtype=torch.float64).view_as(scores)
        found.append((scores, torch.autograd.grad((scores * weights).sum(), [*model.parameters()])))
    return found


@pytest.mark.parametrize("tokens", [TOKENS, TOKENS[1:], TOKENS[:, :1], TOKENS[:, :0]])
def test_both_ways_of_textcnn_agree(tokens):
    few, winners = both_ways(textcnn(), tokens)
    torch.testing.assert_close(few, winners, rtol=1e-12, atol=1e-14)


def test_padding_of_textcnn_counts_neither_way():
    """With a bias above 0, zeros would win against words that score below."""
    model = textcnn()
    model.few_kernels = True
    with torch.no_grad():
        for convolution in model.filters:
            convolution.bias.fill_(5.0)
            convolution.weight.abs_().neg_()
        model.vectors.weight.abs_()
        model.vectors.weight[PAD] = torch.nan
    torch.testing.assert_close(model(F.pad(TOKENS, (0, 4))), model(TOKENS))


def test_textcnn_of_several_seeds_takes_either_way():
    models = [textcnn(seed) for seed in range(3)]
    parameters, buffers = stack_module_state(models)
    template = textcnn()
    for few in (False, True):
        template.few_kernels = few
        found = torch.func.vmap(
            lambda p, b: functional_call(template, (p, b), (TOKENS,)), in_dims=(0, 0)
        )(parameters, buffers)
        expected = torch.stack([model(TOKENS) for model in models])
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)
