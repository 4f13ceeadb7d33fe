"""The compiled means of word and n-gram vectors are those of the tensor operations, bit for bit."""

import itertools

import pytest
import torch
from torch import nn
from torch.autograd import forward_ad

from dlnotes import kernel
from dlnotes.models.fasttext import FastText, mean_vectors
from dlnotes.nn import PAD, ngram_means
from dlnotes.nn.ngram_means import Ngrams

ROWS, WORDS, DIMENSIONS = 90, 50, 10


def compiled(vectors, tokens, which):
    return ngram_means.mean_vectors(vectors, tokens, which, mean_vectors)


def bag(weight):
    return nn.EmbeddingBag.from_pretrained(weight, freeze=False, mode="sum", sparse=True)


def vectors(dtype=torch.float32, rows=ROWS, dimensions=DIMENSIONS):
    return bag(torch.randn(rows, dimensions, dtype=dtype))


def documents(b, t):
    """Random words, with padding at the end, in between, everywhere and nowhere."""
    tokens = torch.randint(1, WORDS, (b, t))
    for i, row in enumerate(tokens):
        if i % 4 == 1:
            row[torch.randint(0, t + 1, ()) :] = PAD
        elif i % 4 == 2:
            row[torch.rand(t) < 0.4] = PAD
        elif i % 8 == 3:
            row[:] = PAD
    return tokens


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("count", [1, 2])
def test_means_and_gradients_are_equal(dtype, count, threads, monkeypatch):
    threads(count)
    monkeypatch.setattr(ngram_means, "_GRAIN", 1)
    for (b, t), ngrams in itertools.product([(1, 1), (9, 2), (64, 23), (3, 700)], [1, 2, 3, 5]):
        tokens, which = documents(b, t), Ngrams(ngrams, WORDS, ROWS - WORDS)
        weight = vectors(dtype)
        expected, found = mean_vectors(weight, tokens, which), compiled(weight, tokens, which)
        assert found is not None
        assert found.dtype is dtype
        assert torch.equal(found, expected)
        g = torch.randn_like(found)
        gradients = [torch.autograd.grad(x, weight.weight, g)[0] for x in (expected, found)]
        assert all(gradient.is_sparse for gradient in gradients)
        assert torch.equal(*(gradient.to_dense() for gradient in gradients))
        filled = set(gradients[1]._indices()[0].tolist())
        assert PAD not in filled  # nor does padding touch a row in any other way
        assert filled == set(gradients[0]._indices()[0].tolist()) - {PAD}


def test_no_documents():
    model = FastText(vocabulary_size=WORDS, num_classes=3)
    scores = model(torch.empty(0, 4, dtype=torch.int64))
    assert scores.shape == (0, 3)
    scores.sum().backward()


def test_an_id_outside_is_torchs_error():
    model = FastText(vocabulary_size=WORDS, num_classes=2, ngrams=1)
    for wrong in (WORDS, 2**40, -1):
        tokens = torch.tensor([[3, wrong, 4]])
        assert compiled(model.vectors, tokens, Ngrams(1, WORDS, 0)) is None
        with pytest.raises((IndexError, RuntimeError)):
            model(tokens)


def test_ids_of_fewer_rows_than_n_grams_have():
    """A weight that somebody has cut is not read beyond its end."""
    tokens = documents(8, 20)
    assert compiled(vectors(rows=WORDS + 3), tokens, Ngrams(2, WORDS, 40)) is None


def test_other_contexts_take_the_tensor_operations():
    tokens, which, weight = documents(4, 5), Ngrams(2, WORDS, 40), vectors()
    assert compiled(weight, tokens, which) is not None
    with torch.no_grad():
        assert compiled(weight, tokens, which) is None
    with torch.inference_mode():
        assert compiled(weight, tokens, which) is None
    with forward_ad.dual_level():
        assert compiled(weight, tokens, which) is None
    with torch.utils._python_dispatch.TorchDispatchMode():
        assert compiled(weight, tokens, which) is None
    found = []
    torch.func.vmap(lambda x: found.append(compiled(weight, x, which)) or x)(tokens[None])
    assert found == [None]
    assert compiled(weight, tokens.int(), which) is None
    assert compiled(weight, tokens.mT.contiguous().mT, which) is None
    assert compiled(vectors(torch.bfloat16), tokens, which) is None
    assert compiled(bag(torch.randn(DIMENSIONS, ROWS).mT), tokens, which) is None
    assert compiled(weight.to("meta"), tokens, which) is None


def test_what_others_make_of_the_module_is_left_to_it():
    class Other(nn.EmbeddingBag):
        pass

    tokens, which = documents(4, 5), Ngrams(2, WORDS, 40)
    sizes = {"num_embeddings": ROWS, "embedding_dim": DIMENSIONS, "sparse": True}
    assert compiled(nn.EmbeddingBag(**sizes, mode="sum"), tokens, which) is not None
    for others in (
        {"mode": "mean"},
        {"mode": "sum", "max_norm": 0.1},
        {"mode": "sum", "padding_idx": 3},
        {"mode": "sum", "scale_grad_by_freq": True},
        {"mode": "sum", "include_last_offset": True},
    ):
        assert compiled(nn.EmbeddingBag(**sizes, **others), tokens, which) is None
    assert compiled(Other(**sizes, mode="sum"), tokens, which) is None
    for hook in (
        "register_forward_hook",
        "register_forward_pre_hook",
        "register_full_backward_hook",
        "register_full_backward_pre_hook",
    ):
        module = nn.EmbeddingBag(**sizes, mode="sum")
        handle = getattr(module, hook)(lambda *_: None)
        assert compiled(module, tokens, which) is None
        handle.remove()
        assert compiled(module, tokens, which) is not None
    handle = nn.modules.module.register_module_forward_hook(lambda *_: None)
    assert compiled(module, tokens, which) is None
    handle.remove()
    module.forward = lambda *_, **__: None
    assert compiled(module, tokens, which) is None


@pytest.mark.timeout(20)
def test_n_grams_longer_than_a_document_cost_nothing():
    weight, tokens = vectors(), documents(4, 5)
    expected = mean_vectors(weight, tokens, Ngrams(5, WORDS, 40))
    for ngrams in (6, 10**9, 2**70):
        assert torch.equal(compiled(weight, tokens, Ngrams(ngrams, WORDS, 40)), expected)


@pytest.mark.parametrize("lazy", [torch._neg_view, lambda g: torch._efficientzerotensor(g.shape)])
def test_gradients_that_are_not_computed_yet(lazy):
    weight, tokens, which = vectors(), documents(4, 5), Ngrams(2, WORDS, 40)
    found = []
    for made in (compiled(weight, tokens, which), mean_vectors(weight, tokens, which)):
        x = made * 1
        made.register_hook(lazy)
        found.append(torch.autograd.grad(x.sum(), weight.weight)[0].to_dense())
    assert torch.equal(*found)


def test_the_gradient_has_no_second_derivative():
    weight = vectors()
    means = compiled(weight, documents(4, 5), Ngrams(2, WORDS, 40))
    (gradient,) = torch.autograd.grad(means.square().sum(), weight.weight, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.to_dense().sum().backward()


def test_a_weight_of_other_memory_between_the_passes():
    weight = vectors()
    means = compiled(weight, documents(4, 5), Ngrams(2, WORDS, 40))
    with torch.no_grad():
        weight.weight.zero_()
    means.sum().backward()
    assert weight.weight.grad.to_dense().abs().sum() > 0


@pytest.mark.parametrize("wrong", ["mean", "gradient"])
def test_code_that_is_wrong_is_not_used(monkeypatch, tmp_path, wrong):
    source = ngram_means.Path(ngram_means.__file__).with_name("ngram_means.c").read_text()
    broken = {
        "mean": source.replace("x[c] += v[c]", "x[c] += v[0]"),
        "gradient": source.replace("g[i * e + c] / (real)n", "g[i * e + c] / (real)(n + 1)"),
    }[wrong]
    assert broken != source
    (tmp_path / "ngram_means.c").write_text(broken)
    monkeypatch.setattr(ngram_means, "__file__", str(tmp_path / "ngram_means.py"))
    ngram_means._code.cache_clear()
    try:
        assert compiled(vectors(), documents(4, 5), Ngrams(2, WORDS, 40)) is None
    finally:
        ngram_means._code.cache_clear()


def test_without_a_compiler_training_is_the_same(monkeypatch, tmp_path):
    def trained():
        torch.manual_seed(0)
        model = FastText(vocabulary_size=WORDS, num_classes=2, buckets=40)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        for _ in range(3):
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(tokens), labels)
            loss.backward()
            optimizer.step()
        return model.state_dict()

    tokens, labels = documents(16, 9), torch.arange(16) % 2
    expected = trained()
    monkeypatch.setenv("CC", "/nonexistent/cc")
    monkeypatch.setenv("DLNOTES_CACHE", str(tmp_path))
    monkeypatch.setattr(kernel, "_warned", [])
    ngram_means._code.cache_clear()
    try:
        with pytest.warns(RuntimeWarning, match="cannot use compiled loops"):
            found = trained()
        assert ngram_means._code(torch.float32, mean_vectors) is None
    finally:
        ngram_means._code.cache_clear()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
