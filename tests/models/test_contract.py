"""What every model promises, on every model; small settings, a few seconds in all."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import functional as F

from dlnotes.models import HAN, MODELS, RCNN, FastText, TextCNN, TextRNN
from dlnotes.models.fasttext import ngram_ids
from dlnotes.models.textcnn import MaxOverTime
from dlnotes.nn import PAD, last_states, masked_max, masked_mean


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    # On tensors this small a second thread only waits, for seconds when the machine is busy.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


V, C = 40, 3
SMALL: dict[str, list[dict[str, Any]]] = {
    "fasttext": [
        {"embedding_dim": 8, "buckets": 64},
        {"embedding_dim": 8, "ngrams": 1},
        {"embedding_dim": 8, "ngrams": 4, "buckets": 64},
        {"embedding_dim": 8, "ngrams": 1, "output": "hierarchical", "class_counts": (5, 1, 1)},
    ],
    "textcnn": [
        {"embedding_dim": 8, "maps": 6},
        {"embedding_dim": 8, "maps": 6, "widths": (1, 7)},
        {"embedding_dim": 8, "maps": 6, "channels": "multichannel"},
    ],
    "textrnn": [
        {"embedding_dim": 8, "hidden_size": 6},
        {"embedding_dim": 8, "hidden_size": 6, "pooling": "mean", "num_layers": 2},
        {"embedding_dim": 8, "hidden_size": 6, "pooling": "last"},
    ],
    "transformer": [
        {"embedding_dim": 8, "num_heads": 2, "num_layers": 2, "feedforward_dim": 16},
        {
            "embedding_dim": 8,
            "num_heads": 4,
            "num_layers": 1,
            "feedforward_dim": 12,
            "pooling": "max",
            "activation": "gelu",
            "norm_first": True,
        },
    ],
    "rcnn": [
        {"embedding_dim": 8, "context_size": 6, "hidden_size": 10},
        {"embedding_dim": 8, "context_size": 6, "hidden_size": 10, "fused": False},
        {"embedding_dim": 8, "context_size": 6, "hidden_size": 10, "cell": "lstm"},
    ],
    "han": [
        {"embedding_dim": 8, "hidden_size": 4, "context_size": 6},
        {
            "embedding_dim": 8,
            "hidden_size": 4,
            "context_size": 6,
            "max_sentences": 2,
            "max_words": 5,
        },
    ],
    "dmn": [
        {"embedding_dim": 8, "hidden_size": 6},
        {"embedding_dim": 8, "hidden_size": 6, "variant": "dmn", "passes": 2},
        {"embedding_dim": 8, "hidden_size": 6, "max_words": 4, "max_sentences": 3},
    ],
    "entnet": [
        {"embedding_dim": 8, "slots": 5},
        {"embedding_dim": 8, "slots": 2, "max_words": 4, "max_sentences": 3},
    ],
    "seq2seq": [
        {"embedding_dim": 8, "hidden_size": 6, "maxout_size": 6},
        {"embedding_dim": 8, "hidden_size": 6, "maxout_size": 6, "attention": "multiplicative"},
    ],
}
RECURRENT = ("textrnn", "rcnn", "han", "seq2seq", "dmn")
CASES = [
    pytest.param(name, settings, id=f"{name}{i}")
    for name, variants in SMALL.items()
    for i, settings in enumerate(variants)
]
every_model = pytest.mark.parametrize(("name", "settings"), CASES)


def build(name: str, settings: dict[str, Any], **more: Any) -> Any:
    torch.manual_seed(0)
    # Dense gradients unless a test asks: they can be compared and differentiated again.
    return MODELS[name](vocabulary_size=V, num_classes=C, **{"sparse": False, **settings, **more})


def documents(lengths: list[int], columns: int | None = None, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.full((len(lengths), max(lengths) if columns is None else columns), PAD)
    for row, n in zip(tokens, lengths, strict=True):
        row[:n] = torch.randint(1, V, (n,), generator=generator)
    return tokens


MIXED = [9, 1, 0, 4, 2, 9, 12, 3]


def test_every_model_is_tested() -> None:
    assert SMALL.keys() == MODELS.keys()


@every_model
def test_scores_have_one_row_a_document(name: str, settings: dict[str, Any]) -> None:
    scores = build(name, settings)(documents(MIXED))
    assert scores.shape == (len(MIXED), C)
    assert scores.dtype == torch.float32
    assert scores.isfinite().all()


@every_model
def test_ids_may_be_integers_of_any_type(name: str, settings: dict[str, Any]) -> None:
    model, tokens = build(name, settings).eval(), documents(MIXED)
    expected = model(tokens)
    for dtype in (torch.int32, torch.int16, torch.uint8):
        assert torch.equal(model(tokens.to(dtype)), expected)


@pytest.mark.parametrize("name", SMALL)
def test_tokens_that_are_no_ids_are_told(name: str) -> None:
    model, tokens = build(name, SMALL[name][0]), documents(MIXED)
    for dtype in (torch.float32, torch.bool, torch.complex64):
        with pytest.raises(ValueError, match=rf"^tokens are {dtype}; allowed: integers"):
            model(tokens.to(dtype))
    for wrong in (tokens[0], tokens[None], torch.tensor(3)):
        shape = re.escape(str(tuple(wrong.shape)))
        with pytest.raises(ValueError, match=f"^tokens have the shape {shape}; allowed: two"):
            model(wrong)


def test_ngrams_are_hashed_in_64_bits() -> None:
    tokens = torch.tensor([[2_000_000_000, 1_999_999_999, 7]])
    given: dict[str, int] = {"ngrams": 3, "first": 10, "buckets": 1_000_000}
    assert torch.equal(ngram_ids(tokens.int(), **given), ngram_ids(tokens, **given))


@every_model
@pytest.mark.parametrize("extra", [1, 3, 50])
def test_appended_padding_changes_nothing(name: str, settings: dict[str, Any], extra: int) -> None:
    model = build(name, settings).double().eval()
    tokens = documents(MIXED)
    before, after = model(tokens), model(F.pad(tokens, (0, extra), value=PAD))
    torch.testing.assert_close(after, before, rtol=1e-12, atol=1e-14)
    if name == "fasttext":
        assert torch.equal(after, before)


@every_model
def test_appended_padding_changes_no_gradient(name: str, settings: dict[str, Any]) -> None:
    model = build(name, settings).double().eval()
    tokens = documents(MIXED)
    parameters = list(model.parameters())
    before = torch.autograd.grad(model(tokens).square().sum(), parameters)
    padded = F.pad(tokens, (0, 20), value=PAD)
    after = torch.autograd.grad(model(padded).square().sum(), parameters)
    torch.testing.assert_close(after, before, rtol=1e-11, atol=1e-13)


@every_model
def test_batched_equals_one_by_one(name: str, settings: dict[str, Any]) -> None:
    model = build(name, settings).double().eval()
    tokens = documents(MIXED)
    single = [model(row[None, :n]) for row, n in zip(tokens, MIXED, strict=True)]
    torch.testing.assert_close(model(tokens), torch.cat(single), rtol=1e-12, atol=1e-14)


@every_model
def test_every_parameter_gets_a_gradient(name: str, settings: dict[str, Any]) -> None:
    model = build(name, settings)
    F.cross_entropy(model(documents(MIXED)), torch.arange(len(MIXED)) % C).backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        if (name, key) == ("dmn", "weight.bias") and settings.get("variant") != "dmn":
            # DMN+ adds it to all scores of a softmax, which does not see it: what is left is noise.
            assert parameter.grad.abs().max() < 1e-6
        else:
            assert parameter.grad.any(), key


@every_model
@pytest.mark.parametrize("sparse", [False, True])
def test_padding_row_is_zero_and_has_no_gradient(
    name: str, settings: dict[str, Any], sparse: bool
) -> None:
    model = build(name, settings, sparse=sparse)
    weight = model.vectors.weight
    assert not weight[PAD].any()
    tokens = documents([4, 2, 3], columns=8)
    model(tokens).square().sum().backward()
    assert weight.grad.is_sparse == sparse
    assert not weight.grad.to_dense()[PAD].any()
    touched = weight.grad.to_dense()[:V].any(dim=1).nonzero().flatten()
    assert set(touched.tolist()) <= set(tokens.unique().tolist()) - {PAD}


@every_model
def test_sparse_gradient_equals_the_dense_one(name: str, settings: dict[str, Any]) -> None:
    gradients = []
    for sparse in (False, True):
        model = build(name, settings, sparse=sparse).eval()
        model(documents(MIXED)).square().sum().backward()
        gradients.append(model.vectors.weight.grad.to_dense())
    torch.testing.assert_close(*gradients)


@every_model
def test_poison_in_the_padding_row_goes_nowhere(name: str, settings: dict[str, Any]) -> None:
    model = build(name, settings).eval()
    tokens = documents([9, 1, 4, 2], columns=15)
    clean = model(tokens)
    with torch.no_grad():
        model.vectors.weight[PAD] = torch.nan
    poisoned = model(tokens)
    assert torch.equal(poisoned, clean)
    poisoned.square().sum().backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad.isfinite().all(), key


@every_model
def test_sixteen_documents_are_learned_by_heart(name: str, settings: dict[str, Any]) -> None:
    model = build(name, settings, dropout=0.0)
    tokens = documents([int(n) for n in torch.arange(16) % 9 + 3])
    labels = torch.randint(0, C, (16,), generator=torch.Generator().manual_seed(3))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    for _ in range(300):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(tokens), labels)
        loss.backward()
        optimizer.step()
        if hasattr(model, "constrain_"):
            model.constrain_()
        if loss < 0.05:
            break
    assert (model(tokens).argmax(dim=1) == labels).all()
    assert loss < 0.05


@every_model
@pytest.mark.parametrize("columns", [0, 1, 2, 30])
def test_unknown_and_empty_documents_have_finite_scores(
    name: str, settings: dict[str, Any], columns: int
) -> None:
    model = build(name, settings)
    empty = torch.full((2, columns), PAD)
    unknown = torch.full((2, max(columns, 1)), 1)
    for tokens in (empty, unknown):
        model.zero_grad()
        scores = model(tokens)
        assert scores.isfinite().all()
        scores.square().sum().backward()
        assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@every_model
def test_meta_device(name: str, settings: dict[str, Any]) -> None:
    with torch.device("meta"):
        model = build(name, settings)
    scores = model(torch.ones(5, 7, dtype=torch.int64, device="meta"))
    assert scores.shape == (5, C)
    assert scores.device.type == "meta"


@every_model
def test_forward_never_reads_the_data(name: str, settings: dict[str, Any]) -> None:
    if getattr(MODELS[name], "reads_sentences", False):
        pytest.skip("a grid of sentences is cut to the documents' size on a CPU, and only there")
    # .item(), .nonzero(), a boolean index and packing all raise on a tensor that has no data: what
    # passes here has no reason to wait for a GPU.
    with FakeTensorMode() as fake:
        model = build(name, settings)
        tokens = fake.from_tensor(documents(MIXED))
        assert model(tokens).shape == (len(MIXED), C)


@every_model
def test_one_trace_serves_other_documents(name: str, settings: dict[str, Any]) -> None:
    if getattr(MODELS[name], "reads_sentences", False):
        pytest.skip("a grid of sentences is cut to the documents' size on a CPU, and only there")
    # Nor does Python branch on them: the recorded operations give the scores of another batch.
    model = build(name, settings).eval()
    traced = make_fx(model)(documents(MIXED))
    other = documents([0, 12, 3, 12, 1, 5, 7, 2], seed=7)
    torch.testing.assert_close(traced(other), model(other))
    called = {str(node.target) for node in traced.graph.nodes}
    waiting = ("_local_scalar_dense", "nonzero", "aten.index.", "masked_select", "pack_padded")
    assert not any(word in name for name in called for word in waiting), called


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@every_model
def test_models_can_be_vmapped(name: str, settings: dict[str, Any]) -> None:
    if name in RECURRENT and settings.get("fused", True):
        pytest.skip("torch has no batching rule for its recurrent kernels")
    models = [build(name, settings).eval() for _ in range(2)]
    with torch.no_grad():
        for parameter in models[1].parameters():
            parameter.mul_(2)
    parameters, _ = torch.func.stack_module_state(models)
    tokens = documents(MIXED)
    both = torch.func.vmap(lambda p: torch.func.functional_call(models[0], p, (tokens,)))(
        parameters
    )
    torch.testing.assert_close(both, torch.stack([model(tokens) for model in models]))


@every_model
def test_state_round_trip(name: str, settings: dict[str, Any], tmp_path: Any) -> None:
    model = build(name, settings).eval()
    torch.save(model.state_dict(), tmp_path / "model.pt")
    torch.manual_seed(9)
    other = MODELS[name](vocabulary_size=V, num_classes=C, **settings).eval()
    tokens = documents(MIXED)
    assert not torch.equal(other(tokens), model(tokens))
    other.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    assert torch.equal(other(tokens), model(tokens))


@pytest.mark.parametrize("name", MODELS)
def test_hyper_parameters_are_plain_and_keyword_only(name: str) -> None:
    parameters = inspect.signature(MODELS[name], eval_str=True).parameters
    assert list(parameters)[:2] == ["vocabulary_size", "num_classes"]
    for parameter in parameters.values():
        assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
        plain = {int, float, bool, str, tuple[int, ...]}
        assert parameter.annotation in plain, parameter
        if parameter.name not in ("vocabulary_size", "num_classes"):
            kind = typing.get_origin(parameter.annotation) or parameter.annotation
            assert type(parameter.default) is kind, parameter


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        *((name, {"vocabulary_size": 1}) for name in MODELS),
        *((name, {"num_classes": 1}) for name in MODELS),
        *((name, {"num_classes": 2.5}) for name in MODELS),
        *((name, {"embedding_dim": 0}) for name in MODELS),
        *((name, {"dropout": 1.0}) for name in MODELS),
        *((name, {"dropout": -0.1}) for name in MODELS),
        *((name, {"dropout": float("nan")}) for name in MODELS),
        ("fasttext", {"ngrams": 0}),
        ("fasttext", {"buckets": 0}),
        ("fasttext", {"buckets": 2**31}),
        ("fasttext", {"output": "tree"}),
        ("fasttext", {"class_counts": (1, 2)}),
        ("fasttext", {"class_counts": (1, 2, -1)}),
        ("textcnn", {"maps": 0}),
        ("textcnn", {"widths": ()}),
        ("textcnn", {"widths": (3, 0)}),
        ("textcnn", {"max_norm": -1.0}),
        ("textcnn", {"channels": "two"}),
        ("textcnn", {"max_norm": float("nan")}),
        ("textrnn", {"hidden_size": 0}),
        ("textrnn", {"num_layers": 0}),
        ("textrnn", {"num_layers": True}),
        ("textrnn", {"pooling": "sum"}),
        ("transformer", {"num_heads": 3}),
        ("transformer", {"num_layers": 0}),
        ("transformer", {"feedforward_dim": 0}),
        ("transformer", {"activation": "tanh"}),
        ("transformer", {"pooling": "last"}),
        ("textrnn", {"cell": "rnn"}),
        ("rcnn", {"context_size": 0}),
        ("rcnn", {"hidden_size": 0}),
        ("rcnn", {"cell": "rnn"}),
        ("han", {"hidden_size": 0}),
        ("han", {"context_size": 0}),
        ("han", {"max_sentences": 0}),
        ("han", {"max_words": 0}),
        ("dmn", {"hidden_size": 0}),
        ("dmn", {"passes": 0}),
        ("dmn", {"variant": "dmn++"}),
        ("dmn", {"max_words": 0}),
        ("dmn", {"max_sentences": 0}),
        ("dmn", {"vector_scale": 0}),
        ("dmn", {"vector_scale": float("inf")}),
        ("dmn", {"vector_scale": float("nan")}),
        ("entnet", {"slots": 0}),
        ("entnet", {"max_words": 0}),
        ("entnet", {"max_sentences": 0}),
        ("seq2seq", {"hidden_size": 0}),
        ("seq2seq", {"maxout_size": 0}),
        ("seq2seq", {"attention": "dot"}),
    ],
)
def test_bad_hyper_parameters(name: str, wrong: dict[str, Any]) -> None:
    ((argument, value),) = wrong.items()
    with pytest.raises(ValueError, match=rf"{argument} is .*; allowed: ") as error:
        MODELS[name](**{"vocabulary_size": V, "num_classes": C, **wrong})
    assert repr(value) in str(error.value) or argument == "widths"


# ------------------------------------------------------------------------------ FastText


def test_fasttext_without_ngrams_is_embedding_bag_mean() -> None:
    model = build("fasttext", {"ngrams": 1, "embedding_dim": 8})
    bag = nn.EmbeddingBag(V, 8, mode="mean", padding_idx=PAD)
    bag.load_state_dict({"weight": model.vectors.weight})
    tokens = documents(MIXED)
    torch.testing.assert_close(model(tokens), model.output(bag(tokens)))


def test_fasttext_is_the_mean_of_words_and_ngrams() -> None:
    model = build("fasttext", {"ngrams": 3, "buckets": 50, "embedding_dim": 8})
    assert len(model.vectors.weight) == V + 50
    tokens = documents(MIXED)
    for row, n in zip(tokens, MIXED, strict=True):
        if n == 0:
            continue
        words = row[None, :n]
        ids = [*words[0].tolist()]
        for i in range(n):
            for end in range(i + 2, min(i + 3, n) + 1):
                gram = ngram_ids(words[:, i:end], ngrams=end - i, first=V, buckets=50)
                ids.append(int(gram[0, -1]))
        expected = model.output(model.vectors.weight[ids].mean(dim=0))
        torch.testing.assert_close(model(words)[0], expected)


def test_ngram_ids_ignore_padding_and_depend_on_order() -> None:
    ids = ngram_ids(
        torch.tensor([[5, 6, 7, PAD], [6, 5, PAD, PAD]]), ngrams=3, first=100, buckets=2**30
    )
    assert ((ids == PAD) == torch.tensor([[0, 0, 1, 0, 1], [0, 1, 1, 1, 1]])).all()
    real = ids[ids != PAD]
    assert len(real.unique()) == len(real) == 4
    assert (real >= 100).all()


@pytest.mark.parametrize("buckets", [1000, 2**16, 99_991, 3_000_000])
def test_ngrams_spread_over_the_buckets_like_random_numbers(buckets: int) -> None:
    n = 400  # every pair of 400 words: the regular grid on which a weak hash collides
    pairs = torch.cartesian_prod(torch.arange(2, n + 2), torch.arange(2, n + 2))
    ids = ngram_ids(pairs, ngrams=2, first=7, buckets=buckets).flatten() - 7
    assert ids.min() >= 0
    assert ids.max() < buckets
    used = len(ids.unique())
    expected = buckets * (1 - (1 - 1 / buckets) ** (n * n))
    assert used > 0.98 * expected


def test_fasttext_starts_uniform() -> None:
    weight = FastText(vocabulary_size=5000, num_classes=2, embedding_dim=20).vectors.weight[1:]
    assert -1 / 20 <= weight.min() < -0.0499
    assert 0.0499 < weight.max() <= 1 / 20
    assert weight.std().item() == pytest.approx(1 / 20 / 3**0.5, rel=0.01)


# ------------------------------------------------------------------------------- TextCNN


def test_textcnn_is_conv1d_and_max_over_time() -> None:
    model = build("textcnn", {"embedding_dim": 8, "maps": 6}).eval()
    for n in (1, 2, 5, 30):
        tokens = documents([n])
        x = model.vectors.weight[tokens].transpose(1, 2)  # b e t
        pooled = [
            F.relu(F.conv1d(x, f.weight, f.bias, padding=h - 1)).amax(2)
            for h, f in zip(model.widths, model.filters, strict=True)
        ]
        torch.testing.assert_close(model(tokens), model.output(torch.cat(pooled, dim=1)))


def test_textcnn_sees_where_a_document_begins() -> None:
    """One filter of width 2 that answers to a zero vector before word 2."""
    settings = {"embedding_dim": 1, "maps": 1, "widths": (2,), "dropout": 0.0}
    model = build("textcnn", settings).eval()
    with torch.no_grad():
        model.vectors.weight[2:5] = torch.tensor([[1.0], [2.0], [3.0]])
        model.filters[0].weight.copy_(torch.tensor([[[-5.0, 1.0]]]))
        model.filters[0].bias.zero_()
        model.output.weight.fill_(1.0)
        model.output.bias.zero_()
    scores = model(torch.tensor([[2, 4, 3], [4, 2, 2], [3, 2, 0]]))
    torch.testing.assert_close(scores[:, 0], torch.tensor([1.0, 3.0, 2.0], dtype=scores.dtype))


def test_max_over_time_has_the_gradients_of_convolution_and_maximum() -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 9, 5, dtype=torch.float64, requires_grad=True)
    w = torch.randn(6, 5, 3, dtype=torch.float64, requires_grad=True)
    inside = torch.arange(7) < torch.tensor([7, 1, 4, 2]).unsqueeze(1)
    y, _ = MaxOverTime.apply(x, w, inside)
    c = F.conv1d(x.transpose(1, 2), w).masked_fill(~inside.unsqueeze(1), -torch.inf)
    expected = c.max(dim=2).values
    torch.testing.assert_close(y, expected)
    weights = torch.randn_like(y)
    torch.testing.assert_close(
        torch.autograd.grad((y * weights).sum(), (x, w)),
        torch.autograd.grad((expected * weights).sum(), (x, w)),
    )
    function = lambda x, w: MaxOverTime.apply(x, w, inside)[0]  # noqa: E731
    assert torch.autograd.gradcheck(function, (x, w))
    assert torch.autograd.gradgradcheck(function, (x, w))


def test_textcnn_max_norm_rescales_the_rows_that_are_too_long() -> None:
    model = build("textcnn", {"max_norm": 3.0})
    with torch.no_grad():
        model.output.weight.copy_(torch.ones_like(model.output.weight))
        model.output.weight[1] *= 0.1
        model.output.weight[2] = 0.0
    before = model.output.weight.detach().clone()
    model.constrain_()
    after = model.output.weight.detach()
    torch.testing.assert_close(after[0], before[0] * 3 / before[0].norm())
    assert torch.equal(after[1:], before[1:])
    model.max_norm = 0.0
    model.output.weight.data *= 100
    model.constrain_()
    assert model.output.weight[0].norm() > 100


# ------------------------------------------------------------------------------- TextRNN


@pytest.mark.parametrize("pooling", ["max", "mean", "last"])
def test_textrnn_is_the_packed_lstm_and_pooling(pooling: str) -> None:
    settings = {"embedding_dim": 8, "hidden_size": 6, "num_layers": 2, "pooling": pooling}
    model = build("textrnn", settings).eval()
    lstm = nn.LSTM(8, 6, 2, batch_first=True, bidirectional=True)
    model.recurrence.copy_to(lstm)
    for n in (1, 2, 9):
        tokens = documents([n])
        h, (state, _) = lstm(model.vectors.weight[tokens])
        pooled = {
            "max": h.max(dim=1).values,
            "mean": h.mean(dim=1),
            "last": torch.cat([state[-2], state[-1]], dim=1),
        }[pooling]
        torch.testing.assert_close(model(tokens), model.output(pooled))


@pytest.mark.parametrize("pool", [masked_max, masked_mean, last_states])
def test_pooling_of_nothing_is_zero(pool: Any) -> None:
    x = torch.full((2, 3, 4), torch.nan)
    assert torch.equal(pool(x, torch.zeros(2, 3, dtype=torch.bool)), torch.zeros(2, 4))


def test_paper_defaults() -> None:
    cnn = TextCNN(vocabulary_size=10, num_classes=2)
    assert [f.weight.shape for f in cnn.filters] == [(100, 300, h) for h in (3, 4, 5)]
    assert (cnn.dropout.p, cnn.max_norm) == (0.5, 3.0)
    assert FastText(vocabulary_size=10, num_classes=2).vectors.embedding_dim == 10
    assert TextRNN(vocabulary_size=10, num_classes=2).pooling == "max"
    rcnn = RCNN(vocabulary_size=10, num_classes=2)
    assert rcnn.hidden.weight.shape == (100, 50 + 50 + 50)
    assert isinstance(rcnn.rightward, nn.RNN)
    han = HAN(vocabulary_size=10, num_classes=2)
    assert han.vectors.weight.shape == (10, 200)
    for recurrence, attention in (
        (han.words, han.word_attention),
        (han.sentences, han.sentence_attention),
    ):
        assert recurrence.rightward[0].hidden_size == 50
        assert attention.hidden.weight.shape == (100, 100)
