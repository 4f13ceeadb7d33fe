"""Oracles of models that torch has a module for: that module, with the weights of ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlnotes.models.fasttext import FastText
from dlnotes.models.textcnn import TextCNN
from dlnotes.models.textrnn import TextRNN
from dlnotes.models.transformer import Decoder, Encoder
from dlnotes.nn import PAD
from dlnotes.nn.attention import MultiHeadAttention
from dlnotes.oracles.comparison import Case, Comparison

V, LENGTHS = 20, (9, 1, 5, 7)


def comparisons() -> Iterator[Comparison]:
    """Yield comparisons with the output of torch's modules, on documents of several lengths."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.full((len(LENGTHS), max(LENGTHS)), PAD)
    for row, n in zip(tokens, LENGTHS, strict=True):
        row[:n] = torch.randint(1, V, (n,), generator=generator)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, dtype=torch.float64, generator=generator)

    x, memory, real = random(4, 6, 8), random(4, 9, 8), tokens != PAD
    yield _fasttext(tokens)
    yield _textcnn(tokens)
    yield _textrnn("lstm", nn.LSTM, tokens)
    yield _textrnn("gru", nn.GRU, tokens)
    yield _attention(x, memory, real)
    for norm_first in (False, True):
        yield _encoder(norm_first, memory, real)
        yield _decoder(norm_first, x, memory, real)


def ready(model: Any) -> Any:
    """Return the model in float64 with noise on its weights, since zeros and ones hide mistakes."""
    generator = torch.Generator().manual_seed(1)
    model = model.double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(noise / 3)
    return model


def _comparison(
    note: str, oracle: str, ours: Callable[[], Tensor], theirs: Callable[[], Tensor]
) -> Comparison:
    case = Case(lambda: [ours()], lambda: [theirs()])
    return Comparison(note, oracle, "copied weights", [case], 1e-12)


def _documents(tokens: Tensor) -> list[Tensor]:
    """Each document as a batch of its own, without padding."""
    return [row[None, :n] for row, n in zip(tokens, LENGTHS, strict=True)]


def _fasttext(tokens: Tensor) -> Comparison:
    model = ready(FastText(vocabulary_size=V, num_classes=3, ngrams=1))
    bag = nn.EmbeddingBag(V, 10, mode="mean", padding_idx=PAD).double()
    bag.load_state_dict({"weight": model.vectors.weight})
    return _comparison(
        "FastText",
        "nn.EmbeddingBag (mean), nn.Linear",
        lambda: model(tokens),
        lambda: model.output(bag(tokens)),
    )


def _textcnn(tokens: Tensor) -> Comparison:
    model = ready(TextCNN(vocabulary_size=V, num_classes=3, embedding_dim=5, maps=4))

    def score(document: Tensor) -> Tensor:
        x = model.vectors(document).transpose(1, 2)  # b e t
        pooled = [
            F.relu(F.conv1d(x, f.weight, f.bias, padding=h - 1)).amax(2)
            for h, f in zip(model.widths, model.filters, strict=True)
        ]
        scores: Tensor = model.output(torch.cat(pooled, 1))
        return scores

    return _comparison(
        "TextCNN",
        "nn.Conv1d, maximum over time",
        lambda: model(tokens),
        lambda: torch.cat([score(document) for document in _documents(tokens)]),
    )


def _textrnn(cell: str, kind: type[nn.RNNBase], tokens: Tensor) -> Comparison:
    model = ready(
        TextRNN(vocabulary_size=V, num_classes=3, embedding_dim=5, hidden_size=4, cell=cell)
    )
    # Any, because for mypy RNNBase requires a mode, which LSTM and GRU fill in.
    make: Any = kind
    torchs = make(5, 4, batch_first=True, bidirectional=True).double()
    model.recurrence.copy_to(torchs)

    def score(document: Tensor) -> Tensor:
        scores: Tensor = model.output(torchs(model.vectors(document))[0].amax(1))
        return scores

    return _comparison(
        f"TextRNN, {cell.upper()}",
        f"nn.{kind.__name__}(bidirectional=True)",
        lambda: model(tokens),
        lambda: torch.cat([score(document) for document in _documents(tokens)]),
    )


def _attention(x: Tensor, memory: Tensor, real: Tensor) -> Comparison:
    model = ready(MultiHeadAttention(8, 2))
    torchs = nn.MultiheadAttention(8, 2, batch_first=True).double().eval()
    torchs.load_state_dict(model.state_dict())
    return _comparison(
        "multi-head attention",
        "nn.MultiheadAttention",
        lambda: model(x, memory, real=real)[0],
        lambda: torchs(x, memory, memory, key_padding_mask=~real)[0],
    )


def _sizes(norm_first: bool) -> tuple[dict[str, Any], dict[str, Any], nn.Module | None, str]:
    """Arguments of our model and of torch's layer, torch's final layer norm, and a name."""
    ours = {"num_layers": 2, "num_heads": 2, "feedforward_dim": 12, "norm_first": norm_first}
    theirs = {"dim_feedforward": 12, "batch_first": True, "norm_first": norm_first}
    norm = nn.LayerNorm(8) if norm_first else None
    return ours, theirs, norm, "pre-norm" if norm_first else "post-norm"


def _encoder(norm_first: bool, memory: Tensor, real: Tensor) -> Comparison:
    sizes, layer, norm, kind = _sizes(norm_first)
    model = ready(Encoder(8, **sizes))
    torchs = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(8, 2, **layer), 2, norm, enable_nested_tensor=False
    )
    torchs.double().eval().load_state_dict(model.state_dict())
    return _comparison(
        f"Transformer encoder, {kind}",
        "nn.TransformerEncoder",
        lambda: model(memory, real)[0][real],
        lambda: torchs(memory, src_key_padding_mask=~real)[real],
    )


def _decoder(norm_first: bool, x: Tensor, memory: Tensor, real: Tensor) -> Comparison:
    sizes, layer, norm, kind = _sizes(norm_first)
    model = ready(Decoder(8, **sizes))
    torchs = nn.TransformerDecoder(nn.TransformerDecoderLayer(8, 2, **layer), 2, norm)
    torchs.double().eval().load_state_dict(model.state_dict())
    past = torch.ones(6, 6, dtype=torch.bool).triu(1)
    return _comparison(
        f"Transformer decoder, {kind}",
        "nn.TransformerDecoder",
        lambda: model(x, model.read(memory, real), real)[0],
        lambda: torchs(x, memory, tgt_mask=past, memory_key_padding_mask=~real),
    )
