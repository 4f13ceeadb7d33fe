"""Kim's four variants of TextCNN: which vectors there are, and which of them learn."""

import pytest
import torch
from torch.nn import functional as F

from dlnotes.models import TextCNN
from dlnotes.nn import PAD, WordVectors, set_word_vectors

V = 30


def make(channels, **more):
    torch.manual_seed(0)
    settings = {"embedding_dim": 6, "maps": 5, "widths": (2, 3), "dropout": 0.0} | more
    return TextCNN(vocabulary_size=V, num_classes=3, channels=channels, **settings)


def documents(n=4, t=9):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(2, V, (n, t), generator=generator)


def test_multichannel_adds_what_each_filter_gives_on_both_channels():
    model = make("multichannel").double().eval()
    with torch.no_grad():
        model.static_vectors.weight.normal_()
    tokens = documents()
    for row in tokens:
        ends = (0, 0, 2, 2)  # zeros for the widest filter
        both = [F.pad(v.weight[row], ends) for v in (model.vectors, model.static_vectors)]  # t e
        pooled = []
        for h, convolution in zip(model.widths, model.filters, strict=True):
            for w, b in zip(convolution.weight, convolution.bias, strict=True):  # w: e h
                c = [
                    sum((w.t() * x[i : i + h]).sum() for x in both) + b
                    for i in range(3 - h, 2 + len(row))
                ]
                pooled.append(torch.stack(c).relu().max())
        expected = model.output.weight @ torch.stack(pooled) + model.output.bias
        torch.testing.assert_close(model(row[None])[0], expected, rtol=1e-12, atol=1e-14)


def test_multichannel_is_a_convolution_over_two_channels_with_tied_filters():
    model = make("multichannel").double().eval()
    tokens = documents()
    x = torch.cat([model.vectors(tokens), model.static_vectors(tokens)], dim=2).transpose(1, 2)
    pooled = [
        F.conv1d(x, torch.cat([f.weight] * 2, dim=1), f.bias, padding=h - 1).relu().amax(2)
        for h, f in zip(model.widths, model.filters, strict=True)
    ]
    torch.testing.assert_close(model(tokens), model.output(torch.cat(pooled, dim=1)))


def test_the_channels_start_alike():
    model = make("multichannel")
    assert torch.equal(model.vectors.weight, model.static_vectors.weight)
    assert model.vectors.weight.data_ptr() != model.static_vectors.weight.data_ptr()


@pytest.mark.parametrize("channels", ["static", "multichannel"])
def test_static_vectors_never_change_and_get_no_gradient(channels):
    model = make(channels)
    static = model.vectors if channels == "static" else model.static_vectors
    assert not static.weight.requires_grad
    assert all(p is not static.weight for p in model.parameters())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1, weight_decay=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        F.cross_entropy(model(documents()), torch.tensor([0, 1, 2, 0])).backward()
        optimizer.step()
        model.constrain_()
    assert static.weight.grad is None
    of_static = "vectors.weight" if channels == "static" else "static_vectors.weight"
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]) == (name == of_static), name


def test_rand_and_non_static_are_one_network():
    models = make("rand"), make("non-static")
    assert torch.equal(models[0](documents()), models[1](documents()))
    assert models[0].state_dict().keys() == models[1].state_dict().keys()


@pytest.mark.parametrize("channels", ["static", "multichannel"])
def test_static_vectors_ignore_poison_in_the_padding_row(channels):
    model = make(channels).eval()
    tokens = F.pad(documents(), (0, 4), value=PAD)
    clean = model(tokens)
    static = model.vectors if channels == "static" else model.static_vectors
    static.weight[PAD] = torch.nan
    assert torch.equal(model(tokens), clean)


def test_unknown_words_get_the_variance_of_the_known():
    torch.manual_seed(0)
    vectors = WordVectors(3000, 50, scale=9.0)
    rows = torch.randn(500, 50) * 0.37
    ids = torch.arange(1000, 1500)
    set_word_vectors(vectors.weight, ids, rows, 2500)
    weight = vectors.weight.detach()
    assert torch.equal(weight[ids], rows)
    assert not weight[PAD].any()
    unknown = torch.cat([weight[1:1000], weight[1500:2500]])
    assert unknown.var().item() == pytest.approx(rows.var().item(), rel=0.02)
    assert unknown.abs().max() <= (3 * rows.var(correction=0)).sqrt()
    assert weight[2500:].abs().max() > 8  # not of the vocabulary: as they were
