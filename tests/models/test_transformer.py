"""The Transformer's layers against torch's, its weights as explanations, and what it can learn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlnotes.models import Transformer
from dlnotes.models.transformer import (
    Decoder,
    DecoderLayer,
    Encoder,
    EncoderLayer,
    TransformerTranslator,
)
from dlnotes.nn import PAD
from dlnotes.nn.attention import MultiHeadAttention
from dlnotes.nn.decoding import BEGIN, END, beam_search, greedy
from dlnotes.nn.positions import sinusoidal
from dlnotes.optim import Adam
from dlnotes.training.schedule import linear, with_warmup

B, T, U, E, H, FF = 4, 7, 5, 12, 3, 20
SOURCE = torch.tensor([7, 1, 4, 6])
close = partial(torch.testing.assert_close, rtol=1e-10, atol=1e-12)
every_layer = pytest.mark.parametrize(
    ("activation", "norm_first"), [("relu", False), ("gelu", False), ("relu", True), ("gelu", True)]
)


@pytest.fixture
def _double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


def copied(ours: nn.Module, theirs: nn.Module) -> None:
    """Torch's weights, moved away from where they start, in our module by their names."""
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    ours.load_state_dict(theirs.state_dict())


def gradients(y: Tensor, module: nn.Module, *inputs: Tensor) -> dict[str, Tensor]:
    weights = torch.linspace(-1, 1, y.numel()).view_as(y)
    named = dict(module.named_parameters()) | {f"input {i}": x for i, x in enumerate(inputs)}
    values = torch.autograd.grad((y * weights).sum(), list(named.values()))
    return dict(zip(named, values, strict=True))


def torchs(kind: type[nn.Module], activation: str, norm_first: bool) -> Any:
    return kind(
        E, H, FF, dropout=0.1, activation=activation, norm_first=norm_first, batch_first=True
    ).train(False)


@pytest.mark.usefixtures("_double")
@pytest.mark.parametrize("masked", [False, True])
@every_layer
def test_encoder_layer_equals_torch(activation: str, norm_first: bool, masked: bool) -> None:
    theirs = torchs(nn.TransformerEncoderLayer, activation, norm_first)
    ours = EncoderLayer(E, H, FF, 0.1, activation, norm_first).eval()
    copied(ours, theirs)
    x = torch.randn(B, T, E, requires_grad=True)
    real = torch.arange(T) < (SOURCE if masked else torch.full((B,), T)).unsqueeze(1)
    y, _ = ours(x, real if masked else None)
    expected = theirs(x, src_key_padding_mask=~real if masked else None)
    close(y[real], expected[real])
    close(gradients(y[real], ours, x), gradients(expected[real], theirs, x))


@pytest.mark.usefixtures("_double")
@every_layer
def test_encoder_equals_torch(activation: str, norm_first: bool) -> None:
    layer = torchs(nn.TransformerEncoderLayer, activation, norm_first)
    norm = nn.LayerNorm(E) if norm_first else None
    theirs = nn.TransformerEncoder(layer, 3, norm=norm, enable_nested_tensor=False).eval()
    ours = Encoder(
        E,
        num_layers=3,
        num_heads=H,
        feedforward_dim=FF,
        activation=activation,
        norm_first=norm_first,
    ).eval()
    copied(ours, theirs)
    x = torch.randn(B, T, E, requires_grad=True)
    real = torch.arange(T) < SOURCE.unsqueeze(1)
    y, nothing = ours(x, real)
    expected = theirs(x, src_key_padding_mask=~real)
    close(y[real], expected[real])
    close(gradients(y[real], ours, x), gradients(expected[real], theirs, x))
    assert nothing == []
    again, weights = ours(x, real, return_weights=True)
    close(again[real], y[real])
    assert [a.shape for a in weights] == [(B, H, T, T)] * 3


@pytest.mark.usefixtures("_double")
@every_layer
def test_decoder_layer_equals_torch(activation: str, norm_first: bool) -> None:
    theirs = torchs(nn.TransformerDecoderLayer, activation, norm_first)
    ours = DecoderLayer(E, H, FF, 0.1, activation, norm_first).eval()
    copied(ours, theirs)
    x = torch.randn(B, U, E, requires_grad=True)
    memory = torch.randn(B, T, E, requires_grad=True)
    real = torch.arange(T) < SOURCE.unsqueeze(1)
    y, (k, v) = ours(x, ours.multihead_attn.keys_values(memory, real), real)
    later = ~torch.ones(U, U, dtype=torch.bool).tril()
    expected = theirs(x, memory, tgt_mask=later, memory_key_padding_mask=~real)
    close(y, expected)
    close(gradients(y, ours, x, memory), gradients(expected, theirs, x, memory))
    assert k.shape == v.shape == (B, H, U, E // H)


@pytest.mark.usefixtures("_double")
@pytest.mark.parametrize("norm_first", [False, True])
def test_decoder_equals_torch(norm_first: bool) -> None:
    layer = torchs(nn.TransformerDecoderLayer, "relu", norm_first)
    theirs = nn.TransformerDecoder(layer, 3, norm=nn.LayerNorm(E) if norm_first else None).eval()
    ours = Decoder(E, num_layers=3, num_heads=H, feedforward_dim=FF, norm_first=norm_first).eval()
    copied(ours, theirs)
    x = torch.randn(B, U, E, requires_grad=True)
    memory = torch.randn(B, T, E, requires_grad=True)
    real, target = (
        torch.arange(n) < lengths.unsqueeze(1)
        for n, lengths in ((T, SOURCE), (U, torch.tensor([5, 2, 1, 4])))
    )
    y, _ = ours(x, ours.read(memory, real), real)
    expected = theirs(
        x,
        memory,
        tgt_mask=~torch.ones(U, U, dtype=torch.bool).tril(),
        tgt_key_padding_mask=~target,
        memory_key_padding_mask=~real,
    )
    close(y[target], expected[target])
    close(gradients(y[target], ours, x, memory), gradients(expected[target], theirs, x, memory))


# ------------------------------------------------------------------------- the classifier

SMALL: dict[str, Any] = {
    "embedding_dim": 8,
    "num_heads": 2,
    "num_layers": 2,
    "feedforward_dim": 16,
}


def classifier(**settings: Any) -> Transformer:
    torch.manual_seed(0)
    return Transformer(vocabulary_size=30, num_classes=3, **{**SMALL, **settings}).eval()


def documents(*lengths: int, columns: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    tokens = torch.zeros(len(lengths), max(*lengths, columns), dtype=torch.int64)
    for row, n in zip(tokens, lengths, strict=True):
        row[:n] = torch.randint(1, 30, (n,), generator=generator)
    return tokens


@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_classifier_is_torchs_encoder_and_pooling(pooling: str) -> None:
    model = classifier(pooling=pooling, norm_first=True).double()
    layer = nn.TransformerEncoderLayer(8, 2, 16, norm_first=True, batch_first=True)
    encoder = nn.TransformerEncoder(layer, 2, nn.LayerNorm(8), enable_nested_tensor=False)
    encoder.double().eval().load_state_dict(model.encoder.state_dict())
    for n in (1, 2, 9):
        tokens = documents(n)
        positions = sinusoidal(n, 8, dtype=torch.float64)
        h = encoder(model.vectors.weight[tokens] * 8**0.5 + positions)
        pooled = h.mean(dim=1) if pooling == "mean" else h.max(dim=1).values
        close(model(tokens), model.output(pooled))


def test_words_and_positions_start_of_one_size() -> None:
    model = Transformer(vocabulary_size=3000, num_classes=2, **SMALL | {"embedding_dim": 64})
    words = model.vectors.weight[1:] * 64**0.5
    assert words.std().item() == pytest.approx(1, rel=0.02)
    assert sinusoidal(100, 64).square().mean().sqrt().item() == pytest.approx(0.5**0.5, rel=1e-3)


def test_order_matters() -> None:
    model = classifier()
    tokens = documents(6)
    assert not torch.allclose(model(tokens), model(tokens.flip(1)))


def test_an_empty_document_pools_to_zeros() -> None:
    model = classifier()
    close(model(documents(0, 3))[0], model.output.bias, rtol=0, atol=0)
    close(model(documents(0, columns=0))[0], model.output.bias, rtol=0, atol=0)


def test_long_documents_need_no_table() -> None:
    model = classifier(num_layers=1)
    assert model(documents(3000)).isfinite().all()


def test_explain_shows_the_weights_of_forward() -> None:
    model = classifier().double()
    tokens = documents(6, 1, 0, 4, columns=8)
    shown = model.explain(tokens)
    assert list(shown) == [
        name
        for layer in (1, 2)
        for name in (f"layer {layer}", f"layer {layer}, head 1", f"layer {layer}, head 2")
    ]
    sums = torch.tensor([1.0, 1, 0, 1], dtype=torch.float64)
    for name, weights in shown.items():
        assert weights.shape == tokens.shape, name
        assert (weights >= 0).all(), name
        assert not weights[tokens == PAD].any(), name
        close(weights.sum(dim=1), sums)
    # The first layer's, from torch's module on what forward gives it.
    theirs = nn.MultiheadAttention(8, 2, batch_first=True).double()
    theirs.load_state_dict(model.encoder.layers[0].self_attn.state_dict())
    x = model.vectors(tokens[:1, :6]) * 8**0.5 + sinusoidal(6, 8, dtype=torch.float64)
    _, heads = theirs(x, x, x, average_attn_weights=False)
    for head in (0, 1):
        expected = heads[0, head].mean(dim=0)
        close(shown[f"layer 1, head {head + 1}"][0, :6], expected)
    close(shown["layer 1"][0, :6], heads[0].mean(dim=(0, 1)))
    assert not any(weights.requires_grad for weights in shown.values())


def test_explain_without_columns() -> None:
    shown = classifier().explain(torch.zeros(2, 0, dtype=torch.int64))
    assert all(weights.shape == (2, 0) for weights in shown.values())


def test_written_out_and_fused_attention_give_the_same_scores() -> None:
    model = classifier().double()
    tokens = documents(9, 1, 0, 4)
    fused = model(tokens)
    for module in model.modules():
        if isinstance(module, MultiHeadAttention):
            module.fused = False
    close(model(tokens), fused)


def test_paper_defaults() -> None:
    for model in (
        Transformer(vocabulary_size=5, num_classes=2),
        TransformerTranslator(source_vocabulary_size=5, target_vocabulary_size=5),
    ):
        layers = model.encoder.layers
        assert len(layers) == 6
        assert layers[0].self_attn.num_heads == 8
        assert layers[0].linear1.weight.shape == (2048, 512)
        assert layers[0].dropout.p == layers[0].self_attn.dropout == 0.1
        assert not layers[0].norm_first
    assert model.output.weight is model.target_vectors.weight


# ------------------------------------------------------------------------- the translator


def translator(v: int = 11, **settings: Any) -> TransformerTranslator:
    torch.manual_seed(0)
    return TransformerTranslator(
        source_vocabulary_size=30, target_vocabulary_size=v, **{**SMALL, **settings}
    ).eval()


def targets(*lengths: int, v: int = 11) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    rows = torch.zeros(len(lengths), max(lengths), dtype=torch.int64)
    for row, n in zip(rows, lengths, strict=True):
        row[:n] = torch.randint(4, v, (n,), generator=generator)
        row[0] = BEGIN
    return rows


@pytest.mark.filterwarnings("ignore:enable_nested_tensor is True")
@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("tied", [False, True])
def test_translator_is_torchs_transformer(norm_first: bool, tied: bool) -> None:
    model = translator(norm_first=norm_first, tied=tied).double()
    theirs = nn.Transformer(8, 2, 2, 2, 16, norm_first=norm_first, batch_first=True)
    if not norm_first:
        theirs.encoder.norm = theirs.decoder.norm = None
    theirs.double().eval()
    theirs.encoder.load_state_dict(model.encoder.state_dict())
    theirs.decoder.load_state_dict(model.decoder.state_dict())
    source, target = documents(6, 1, 4, columns=9), targets(5, 3, 7)

    def embedded(weight: Tensor, tokens: Tensor) -> Tensor:
        return weight[tokens] * 8**0.5 + sinusoidal(tokens.shape[1], 8, dtype=torch.float64)

    h = theirs(
        embedded(model.source_vectors.weight, source),
        embedded(model.target_vectors.weight, target),
        tgt_mask=nn.Transformer.generate_square_subsequent_mask(7).double(),
        src_key_padding_mask=source == PAD,
        memory_key_padding_mask=source == PAD,
    )
    weight = model.target_vectors.weight if tied else model.output.weight
    assert (model.output.weight is model.target_vectors.weight) == tied
    rows = target != PAD
    logits = model(source, target)
    assert logits.shape == (3, 7, 11)
    close(logits[rows], (h @ weight.T + model.output.bias)[rows])


def test_a_logit_sees_no_later_target() -> None:
    model = translator()
    source, target = documents(6, 3), targets(5, 5)
    other = target.clone()
    other[:, 3:] = 4 + (other[:, 3:] - 3) % 7
    assert (other != target).sum() == 4
    a, b = model(source, target), model(source, other)
    assert torch.equal(a[:, :3], b[:, :3])
    assert (a[:, 3:] != b[:, 3:]).any(dim=2).all()


def test_padding_of_either_side_changes_nothing() -> None:
    model = translator().double()
    source, target = documents(6, 3, 0), targets(5, 2, 4)
    rows = target != PAD
    padded = model(F.pad(source, (0, 4)), F.pad(target, (0, 3)))[:, :5]
    close(padded[rows], model(source, target)[rows])
    alone = [
        model(s[None, :n], t[None, :m])[0]
        for s, n, t, m in zip(source, (6, 3, 0), target, (5, 2, 4), strict=True)
    ]
    close(model(source, target)[rows], torch.cat(alone))


@pytest.mark.parametrize("tied", [False, True])
def test_poison_in_the_padding_rows_goes_nowhere(tied: bool) -> None:
    model = translator(tied=tied)
    source, target = documents(6, 3, 0, columns=8), targets(5, 2, 4)
    rows = target != PAD
    clean = model(source, target)[rows]
    with torch.no_grad():
        model.source_vectors.weight[PAD] = torch.nan
        model.target_vectors.weight[PAD] = torch.nan
    poisoned = model(source, target)[rows]
    # If tied, the row of padding is also the output's weights of a word that is never right.
    first = 1 if tied else 0
    assert torch.equal(poisoned[:, first:], clean[:, first:])
    if not tied:
        poisoned.square().sum().backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("tied", [False, True])
def test_every_parameter_of_the_translator_gets_a_gradient(tied: bool) -> None:
    model = translator(tied=tied).train()
    source, target = documents(6, 3, 2), targets(5, 2, 4)
    F.cross_entropy(
        model(source, target)[:, :-1].flatten(0, 1), target[:, 1:].flatten(), ignore_index=PAD
    ).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name


@pytest.mark.parametrize("norm_first", [False, True])
def test_cached_steps_give_the_logits_of_the_whole(norm_first: bool) -> None:
    model = translator(norm_first=norm_first).double()
    source, target = documents(6, 1, 0, 4, columns=9), targets(8, 8, 8, 8)
    whole = model(source, target)
    state = model.start(source)
    for i in range(8):
        assert all(x.shape[0] == 4 for x in state)
        logits, state = model.advance(target[:, i], state)
        close(logits, whole[:, i])


def test_beams_can_be_reordered() -> None:
    model = translator().double()
    source, target = documents(6, 1, 3, 4), targets(3, 3, 3, 3)
    order = torch.tensor([2, 0, 0])
    state = model.start(source)
    for i in range(2):
        _, state = model.advance(target[:, i], state)
    state = tuple(x.index_select(0, order) for x in state)
    logits, _ = model.advance(target[order, 2], state)
    close(logits, model(source, target)[order, 2])


def test_searches_write_what_the_whole_says() -> None:
    model = translator().double()
    source = documents(6, 1, 0, 4, 5, 9)
    words = greedy(model, source, max_length=6)
    words_of_beam, scores = beam_search(model, source, beam=3, max_length=6)
    one, _ = beam_search(model, source, beam=1, max_length=6)
    assert torch.equal(one, words)
    for written in (words, words_of_beam):
        begun = F.pad(written, (1, 0), value=BEGIN)
        logits = model(source, begun)[:, :-1].clone()
        logits[:, :, [PAD, BEGIN]] = -torch.inf
        real = written != PAD
        if written is words:
            assert torch.equal(logits.argmax(dim=2)[real], words[real])
        else:
            log_p = logits.log_softmax(dim=2).gather(2, written.unsqueeze(2)).squeeze(2)
            total = log_p.masked_fill(~real, 0.0).sum(dim=1)
            close(scores, total / ((5 + real.double().sum(dim=1)) / 6) ** 0.6)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("source_vocabulary_size", 1),
        ("target_vocabulary_size", 3),
        ("embedding_dim", 0),
        ("num_heads", 3),
        ("num_layers", 0),
        ("feedforward_dim", 0),
        ("activation", "tanh"),
        ("dropout", 1.0),
    ],
)
def test_bad_hyper_parameters_of_the_translator(argument: str, value: Any) -> None:
    settings = {"source_vocabulary_size": 9, "target_vocabulary_size": 9, **SMALL}
    with pytest.raises(ValueError, match=rf"{argument} is {value!r}; allowed: "):
        TransformerTranslator(**{**settings, argument: value})


# ------------------------------------------------------------------------- what it can learn


def examples(n: int, rule: Callable[[Tensor], Tensor], generator: torch.Generator) -> Any:
    """Random digits (ids 4 to 13), at most 8, and what the rule makes of them."""
    source = torch.zeros(n, 8, dtype=torch.int64)
    target = torch.zeros(n, 10, dtype=torch.int64)
    target[:, 0] = BEGIN
    lengths = torch.randint(1, 9, (n,), generator=generator)
    digits = torch.randint(4, 14, (n, 8), generator=generator)
    for i, (m, row) in enumerate(zip(lengths.tolist(), digits, strict=True)):
        source[i, :m] = row[:m]
        target[i, 1 : m + 1] = rule(row[:m])
        target[i, m + 1] = END
    return source, target


RULES = {
    "copy": lambda x: x,
    "reverse": lambda x: x.flip(0),
    "sort": lambda x: x.sort().values,
}


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES)
def test_translator_learns(rule: str) -> None:
    torch.manual_seed(0)
    model = TransformerTranslator(
        source_vocabulary_size=14,
        target_vocabulary_size=14,
        embedding_dim=64,
        num_heads=4,
        num_layers=1,
        feedforward_dim=128,
        dropout=0.0,
    )
    generator = torch.Generator().manual_seed(0)
    optimizer = Adam(model.parameters(), lr=5e-3, betas=(0.9, 0.98), eps=1e-9)
    steps = 600
    factor = with_warmup(linear, 0.1)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 5e-3 * factor(step, steps)
        source, target = examples(64, RULES[rule], generator)
        logits = model(source, target[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1), target[:, 1:].flatten(), ignore_index=PAD)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    source, target = examples(500, RULES[rule], torch.Generator().manual_seed(1))
    model.eval()
    written = greedy(model, source, max_length=9)
    expected = target[:, 1 : 1 + written.shape[1]]
    assert (written == expected).all(dim=1).double().mean() >= 0.98
