"""What the models are checked against where torch has a module: its own, with our weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlnotes.activations._oracles import Row
from dlnotes.models.fasttext import FastText
from dlnotes.models.textcnn import TextCNN
from dlnotes.models.textrnn import TextRNN
from dlnotes.models.transformer import Decoder, Encoder
from dlnotes.nn import PAD
from dlnotes.nn.attention import MultiHeadAttention

V, LENGTHS = 20, (9, 1, 5, 7)


def rows() -> Iterator[Row]:
    """Largest relative difference of an output in float64, on documents of several lengths."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.full((len(LENGTHS), max(LENGTHS)), PAD)
    for row, n in zip(tokens, LENGTHS, strict=True):
        row[:n] = torch.randint(1, V, (n,), generator=generator)
    single = [row[None, :n] for row, n in zip(tokens, LENGTHS, strict=True)]

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, dtype=torch.float64, generator=generator)

    fasttext = ready(FastText(vocabulary_size=V, num_classes=3, ngrams=1))
    bag = nn.EmbeddingBag(V, 10, mode="mean", padding_idx=PAD).double()
    bag.load_state_dict({"weight": fasttext.vectors.weight})
    expected = fasttext.output(bag(tokens))
    yield _row("FastText", "nn.EmbeddingBag (mean), nn.Linear", fasttext(tokens), expected)

    cnn = ready(TextCNN(vocabulary_size=V, num_classes=3, embedding_dim=5, maps=4))
    scores = []
    for row in single:
        x = cnn.vectors(row).transpose(1, 2)  # b e t
        pooled = [
            F.relu(F.conv1d(x, f.weight, f.bias, padding=h - 1)).amax(2)
            for h, f in zip(cnn.widths, cnn.filters, strict=True)
        ]
        scores.append(cnn.output(torch.cat(pooled, 1)))
    yield _row("TextCNN", "nn.Conv1d, maximum over time", cnn(tokens), torch.cat(scores))

    for cell, kind in (("lstm", nn.LSTM), ("gru", nn.GRU)):
        rnn = ready(
            TextRNN(vocabulary_size=V, num_classes=3, embedding_dim=5, hidden_size=4, cell=cell)
        )
        theirs: Any = kind(5, 4, batch_first=True, bidirectional=True).double()
        rnn.recurrence.copy_to(theirs)
        expected = torch.cat([rnn.output(theirs(rnn.vectors(x))[0].amax(1)) for x in single])
        name = f"nn.{kind.__name__}(bidirectional=True)"
        yield _row(f"TextRNN, {cell.upper()}", name, rnn(tokens), expected)

    ours, theirs = MultiHeadAttention(8, 2), nn.MultiheadAttention(8, 2, batch_first=True)
    x, memory, real = random(4, 6, 8), random(4, 9, 8), tokens != PAD
    ours, theirs = ready(ours), theirs.double().eval()
    theirs.load_state_dict(ours.state_dict())
    y, _ = ours(x, memory, real=real)
    expected, _ = theirs(x, memory, memory, key_padding_mask=~real)
    yield _row("multi-head attention", "nn.MultiheadAttention", y, expected)

    for norm_first in (False, True):
        sizes: dict[str, Any] = {
            "num_layers": 2,
            "num_heads": 2,
            "feedforward_dim": 12,
            "norm_first": norm_first,
        }
        encoder, decoder = ready(Encoder(8, **sizes)), ready(Decoder(8, **sizes))
        layer: dict[str, Any] = {
            "dim_feedforward": 12,
            "batch_first": True,
            "norm_first": norm_first,
        }
        read = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(8, 2, **layer),
            2,
            nn.LayerNorm(8) if norm_first else None,
            enable_nested_tensor=False,
        )
        write = nn.TransformerDecoder(
            nn.TransformerDecoderLayer(8, 2, **layer), 2, nn.LayerNorm(8) if norm_first else None
        )
        for torchs, own in ((read.double().eval(), encoder), (write.double().eval(), decoder)):
            torchs.load_state_dict(own.state_dict())
        kind_of = "pre-norm" if norm_first else "post-norm"
        h, _ = encoder(memory, real)
        expected = read(memory, src_key_padding_mask=~real)
        yield _row(
            f"Transformer encoder, {kind_of}", "nn.TransformerEncoder", h[real], expected[real]
        )
        y, _ = decoder(x, decoder.read(memory, real), real)
        past = torch.ones(6, 6, dtype=torch.bool).triu(1)
        expected = write(x, memory, tgt_mask=past, memory_key_padding_mask=~real)
        yield _row(f"Transformer decoder, {kind_of}", "nn.TransformerDecoder", y, expected)


def ready(model: Any) -> Any:
    """In float64, with weights away from where they start: zeros and ones hide mistakes."""
    generator = torch.Generator().manual_seed(1)
    model = model.double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(noise / 3)
    return model


def _row(note: str, oracle: str, ours: Tensor, theirs: Tensor) -> Row:
    difference = ((ours - theirs).abs().max() / theirs.abs().max()).item()
    return Row(note, oracle, "copied weights", difference, 1e-12)
