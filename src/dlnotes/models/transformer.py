"""Transformer: attention in place of recurrence; as a classifier and as a translator."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from dlnotes.activations import gelu, relu
from dlnotes.nn import PAD, WordVectors, masked_max, masked_mean, widen
from dlnotes.nn.attention import MultiHeadAttention
from dlnotes.nn.decoding import DecoderState
from dlnotes.nn.hyperparameters import (
    check_choice,
    check_classifier,
    check_dropout,
    check_integer,
)
from dlnotes.nn.positions import sinusoidal

ACTIVATIONS = {"relu": relu, "gelu": gelu}
POOLING = {"mean": masked_mean, "max": masked_max}
KeysValues = tuple[Tensor, Tensor]


class _Layer(nn.Module):
    """What the layers of encoder and decoder share: residual connections and two linear maps."""

    def __init__(
        self,
        embedding_dim: int,
        num_heads: int,
        feedforward_dim: int,
        dropout: float,
        activation: str,
        norm_first: bool,
    ) -> None:
        super().__init__()
        check_integer("feedforward_dim", feedforward_dim, 1)
        check_choice("activation", activation, ACTIVATIONS)
        self.activation = ACTIVATIONS[activation]
        self.norm_first = norm_first
        self.self_attn = MultiHeadAttention(embedding_dim, num_heads, dropout=dropout)
        self.linear1 = nn.Linear(embedding_dim, feedforward_dim)
        self.linear2 = nn.Linear(feedforward_dim, embedding_dim)
        self.norm1 = nn.LayerNorm(embedding_dim)
        self.norm2 = nn.LayerNorm(embedding_dim)
        self.dropout = nn.Dropout(dropout)
        for linear in (self.linear1, self.linear2):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def feed_forward(self, x: Float[Tensor, "b t e"]) -> Float[Tensor, "b t e"]:
        """Two linear maps of each position by itself."""
        y: Tensor = self.linear2(self.dropout(self.activation(self.linear1(x))))
        return y

    def sublayer_input(self, norm: nn.Module, x: Float[Tensor, "b t e"]) -> Float[Tensor, "b t e"]:
        """What a sublayer reads."""
        y: Tensor = norm(x) if self.norm_first else x
        return y

    def sublayer_output(
        self, norm: nn.Module, x: Float[Tensor, "b t e"], y: Float[Tensor, "b t e"]
    ) -> Float[Tensor, "b t e"]:
        """What comes of a sublayer that read ``x`` and returned ``y``."""
        x = x + self.dropout(y)
        z: Tensor = x if self.norm_first else norm(x)
        return z


class EncoderLayer(_Layer):
    r"""Self-attention and two linear maps, each with a residual connection and a normalisation.

    .. math::
        y = \mathrm{norm}(x + \mathrm{attention}(x, x)), \qquad
        z = \mathrm{norm}(y + W_2\,\mathrm{ReLU}(W_1 y + b_1) + b_2)

    or with ``norm_first`` :math:`y = x + \mathrm{attention}(\mathrm{norm}(x))` and so on. Equal to
    ``torch.nn.TransformerEncoderLayer``, whose ``state_dict`` it loads.
    """

    def forward(
        self,
        x: Float[Tensor, "b t e"],
        real: Bool[Tensor, "b t"] | None = None,
        *,
        return_weights: bool = False,
    ) -> tuple[Float[Tensor, "b t e"], Float[Tensor, "b h t t"] | None]:
        """Next state of each position, and how the heads looked, or None."""
        y, weights = self.self_attn(
            self.sublayer_input(self.norm1, x), real=real, return_weights=return_weights
        )
        x = self.sublayer_output(self.norm1, x, y)
        x = self.sublayer_output(
            self.norm2, x, self.feed_forward(self.sublayer_input(self.norm2, x))
        )
        return x, weights


class DecoderLayer(_Layer):
    """An encoder layer that looks back only, and at the encoder's states in between.

    Equal to ``torch.nn.TransformerDecoderLayer``, whose ``state_dict`` it loads.
    """

    def __init__(
        self,
        embedding_dim: int,
        num_heads: int,
        feedforward_dim: int,
        dropout: float,
        activation: str,
        norm_first: bool,
    ) -> None:
        super().__init__(embedding_dim, num_heads, feedforward_dim, dropout, activation, norm_first)
        self.multihead_attn = MultiHeadAttention(embedding_dim, num_heads, dropout=dropout)
        self.norm3 = nn.LayerNorm(embedding_dim)

    def forward(
        self,
        x: Float[Tensor, "b u e"],
        source: KeysValues,
        real: Bool[Tensor, "b t"] | None = None,
        past: KeysValues | None = None,
    ) -> tuple[Float[Tensor, "b u e"], KeysValues]:
        """Next state of each position.

        Args:
            x: u positions.
            source: Keys and values of the encoder's states, ``b h t d``.
            real: Which of those count.
            past: Keys and values of the n positions before ``x``, ``b h n d``.

        Returns:
            The states, and the keys and values of all positions so far, ``b h n+u d``.
        """
        q, k, v = self.self_attn.project(self.sublayer_input(self.norm1, x))
        if past is not None:
            k, v = torch.cat([past[0], k], dim=2), torch.cat([past[1], v], dim=2)
        # Padding on the right is in sight of padding only.
        y, _ = self.self_attn.attend(q, k, v, causal=True)
        x = self.sublayer_output(self.norm1, x, y)
        q = self.multihead_attn.queries(self.sublayer_input(self.norm2, x))
        y, _ = self.multihead_attn.attend(q, *source, real=real)
        x = self.sublayer_output(self.norm2, x, y)
        x = self.sublayer_output(
            self.norm3, x, self.feed_forward(self.sublayer_input(self.norm3, x))
        )
        return x, (k, v)


class _Stack(nn.Module):
    """Layers on top of one another, with a last normalisation if ``norm_first``."""

    layer: ClassVar[type[_Layer]]

    def __init__(
        self,
        embedding_dim: int,
        *,
        num_layers: int = 6,
        num_heads: int = 8,
        feedforward_dim: int = 2048,
        dropout: float = 0.1,
        activation: str = "relu",
        norm_first: bool = False,
    ) -> None:
        super().__init__()
        check_integer("num_layers", num_layers, 1)
        self.layers = nn.ModuleList(
            self.layer(embedding_dim, num_heads, feedforward_dim, dropout, activation, norm_first)
            for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(embedding_dim) if norm_first else None


class Encoder(_Stack):
    """A stack of :class:`EncoderLayer`, with a last normalisation if ``norm_first``.

    Equal to ``torch.nn.TransformerEncoder``, whose ``state_dict`` it loads.

    Args:
        embedding_dim: Numbers a position.
        num_layers: Layers.
        num_heads: Heads of each attention.
        feedforward_dim: Numbers between the two linear maps.
        dropout: Share dropped in training of attention weights, between the two linear maps, and
            of what each sublayer adds.
        activation: ``relu`` or ``gelu``, between the two linear maps.
        norm_first: Normalise what a sublayer reads instead of the sum that it makes.

    Shapes:
        x ``b t e``, real ``b t`` → ``b t e``, and the weights ``b h t t`` of each layer if asked.

    Raises:
        ValueError: A hyper-parameter is outside its range.
    """

    layer = EncoderLayer

    def forward(
        self,
        x: Float[Tensor, "b t e"],
        real: Bool[Tensor, "b t"] | None = None,
        *,
        return_weights: bool = False,
    ) -> tuple[Float[Tensor, "b t e"], list[Float[Tensor, "b h t t"]]]:
        """Read the documents."""
        collected = []
        for layer in self.layers:
            x, weights = layer(x, real, return_weights=return_weights)
            if weights is not None:
                collected.append(weights)
        return x if self.norm is None else self.norm(x), collected


class Decoder(_Stack):
    """A stack of :class:`DecoderLayer`, with a last normalisation if ``norm_first``.

    Equal to ``torch.nn.TransformerDecoder``, whose ``state_dict`` it loads. The arguments are those
    of :class:`Encoder`.
    """

    layer = DecoderLayer

    def read(
        self, memory: Float[Tensor, "b t e"], real: Bool[Tensor, "b t"] | None = None
    ) -> list[KeysValues]:
        """Keys and values that each layer sees of the encoder's states."""
        attentions: list[Any] = [layer.multihead_attn for layer in self.layers]
        return [each.keys_values(memory, real) for each in attentions]

    def forward(
        self,
        x: Float[Tensor, "b u e"],
        source: Iterable[KeysValues],
        real: Bool[Tensor, "b t"] | None = None,
        past: Iterable[KeysValues | None] | None = None,
    ) -> tuple[Float[Tensor, "b u e"], list[KeysValues]]:
        """States of u positions; see :class:`DecoderLayer`, of whose pairs here is one a layer."""
        past = [None] * len(self.layers) if past is None else past
        collected = []
        for layer, its_source, its_past in zip(self.layers, source, past, strict=True):
            x, so_far = layer(x, its_source, real, its_past)
            collected.append(so_far)
        return x if self.norm is None else self.norm(x), collected


def embed(
    vectors: WordVectors, tokens: Int[Tensor, "b t"], *, first: int = 0
) -> Float[Tensor, "b t e"]:
    r"""Word vectors times :math:`\sqrt e`, plus the positions from ``first`` on."""
    x: Tensor = vectors(tokens)
    t, e = x.shape[1:]
    return x * math.sqrt(e) + sinusoidal(t, e, first=first, device=x.device, dtype=x.dtype)


def _vectors(vocabulary_size: int, embedding_dim: int, sparse: bool = False) -> WordVectors:
    check_integer("embedding_dim", embedding_dim, 1)
    # A variance of 1/e, so that embed() gives numbers of the size of the positions'.
    return WordVectors(
        vocabulary_size, embedding_dim, scale=math.sqrt(3 / embedding_dim), sparse=sparse
    )


class Transformer(nn.Module):
    r"""Encoder of the Transformer as a classifier (Vaswani et al. 2017).

    .. math::
        h_1 \dots h_n = \mathrm{Encoder}(\sqrt e\,x_i + P_i), \qquad
        s = W\,\frac1n \sum_i h_i + b

    with word vectors :math:`x`, sinusoidal positions :math:`P`
    (:func:`~dlnotes.nn.positions.sinusoidal`) and layers of :class:`EncoderLayer`, over the real
    tokens only (https://arxiv.org/abs/1706.03762). The defaults are the paper's base model.

    Differs from the paper: it has no decoder but pools the states; biases and dropout as in
    torch's layers (see :class:`~dlnotes.nn.attention.MultiHeadAttention` and :class:`Encoder`);
    ``gelu`` (Devlin et al. 2018) and ``norm_first`` (Xiong et al. 2020,
    https://arxiv.org/abs/2002.04745) are later choices.

    Args:
        vocabulary_size: Number of token ids, padding and the unknown word included.
        num_classes: Number of scores.
        embedding_dim: Length :math:`e` of a word vector and of every state.
        num_layers: Layers.
        num_heads: Heads of each attention; they divide ``embedding_dim``.
        feedforward_dim: Numbers between a layer's two linear maps.
        pooling: ``mean`` or ``max``.
        activation: ``relu`` or ``gelu``.
        norm_first: Normalise before each sublayer instead of after it.
        dropout: Share dropped in training of word vectors, inside the layers, of the pooled state.
        sparse: Give the gradient of the word vectors as a sparse tensor.

    Shapes:
        tokens ``b t`` → scores ``b c``. An empty document has a pooled state of zeros.

    Raises:
        ValueError: A hyper-parameter is outside its range.
    """

    def __init__(
        self,
        *,
        vocabulary_size: int,
        num_classes: int,
        embedding_dim: int = 512,
        num_layers: int = 6,
        num_heads: int = 8,
        feedforward_dim: int = 2048,
        pooling: str = "mean",
        activation: str = "relu",
        norm_first: bool = False,
        dropout: float = 0.1,
        sparse: bool = False,
    ) -> None:
        super().__init__()
        check_classifier(vocabulary_size, num_classes)
        check_choice("pooling", pooling, POOLING)
        check_dropout("dropout", dropout)
        self.pooling = pooling
        self.vectors = _vectors(vocabulary_size, embedding_dim, sparse)
        self.encoder = Encoder(
            embedding_dim,
            num_layers=num_layers,
            num_heads=num_heads,
            feedforward_dim=feedforward_dim,
            dropout=dropout,
            activation=activation,
            norm_first=norm_first,
        )
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(embedding_dim, num_classes)

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """The layers of the encoder, which are computed one after the other."""
        return list(self.encoder.layers)

    def forward(self, tokens: Int[Tensor, "b t"]) -> Float[Tensor, "b c"]:
        """Score the documents."""
        h, real, _ = self._encode(tokens)
        scores: Tensor = self.output(self.dropout(POOLING[self.pooling](h, real)))  # b c
        return scores

    @torch.no_grad()
    def explain(self, tokens: Int[Tensor, "b t"]) -> dict[str, Float[Tensor, "b t"]]:
        """How much each token is attended to, on average over the tokens that attend.

        Put the model in evaluation mode first.

        Returns:
            "layer 1", the mean over its heads, "layer 1, head 1", "layer 1, head 2" and so on;
            non-negative, 0 at padding, with a sum of 1 a document (0 if it is empty).
        """
        t = tokens.shape[1]
        _, real, weights = self._encode(tokens, return_weights=True)
        attention: dict[str, Tensor] = {}
        for layer, a in enumerate(weights, start=1):
            n = real.sum(dim=1).clamp(min=1).view(-1, 1, 1)  # b 1 1
            heads = (a * real[:, None, :, None]).sum(dim=2)[:, :, :t] / n  # b h t
            attention[f"layer {layer}"] = heads.mean(dim=1)
            for head, mean in enumerate(heads.unbind(dim=1), start=1):
                attention[f"layer {layer}, head {head}"] = mean
        return attention

    def _encode(
        self, tokens: Int[Tensor, "b t"], *, return_weights: bool = False
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        tokens = widen(tokens, 1)
        real = tokens != PAD  # b t
        x = self.dropout(embed(self.vectors, tokens))  # b t e
        h, weights = self.encoder(x, real, return_weights=return_weights)
        return h, real, weights


class TransformerTranslator(nn.Module):
    r"""Encoder and decoder: one sequence in, another out (Vaswani et al. 2017).

    .. math::
        p(y_{i+1} \mid y_1 \dots y_i, x) = \mathrm{softmax}\bigl(
        W\,\mathrm{Decoder}(\sqrt e\,y + P,\; \mathrm{Encoder}(\sqrt e\,x + P))_i + b\bigr)

    https://arxiv.org/abs/1706.03762. Trained on the logits of :meth:`forward`; writes word by word
    with :func:`dlnotes.nn.decoding.greedy` or :func:`~dlnotes.nn.decoding.beam_search`, for which
    it keeps the keys and values of what is written. The defaults are the paper's base model.

    Differs from the paper: the two vocabularies have vectors of their own; the output has a bias;
    biases and dropout as in torch's layers.

    Args:
        source_vocabulary_size: Number of token ids of the source.
        target_vocabulary_size: Number of token ids of the target, with
            :data:`~dlnotes.nn.decoding.BEGIN` and :data:`~dlnotes.nn.decoding.END`.
        embedding_dim: Length :math:`e` of a word vector and of every state.
        num_layers: Layers of the encoder, and of the decoder.
        num_heads: Heads of each attention; they divide ``embedding_dim``.
        feedforward_dim: Numbers between a layer's two linear maps.
        tied: The output layer's weights :math:`W` are the target's word vectors. The row of padding
            then belongs to a word that is never right.
        activation: ``relu`` or ``gelu``.
        norm_first: Normalise before each sublayer instead of after it.
        dropout: Share dropped in training of word vectors and inside the layers.

    Shapes:
        source ``b t``, target ``b u`` → logits ``b u v``. The target begins with BEGIN, and logit i
        is for target i+1.

    Raises:
        ValueError: A hyper-parameter is outside its range.
    """

    def __init__(
        self,
        *,
        source_vocabulary_size: int,
        target_vocabulary_size: int,
        embedding_dim: int = 512,
        num_layers: int = 6,
        num_heads: int = 8,
        feedforward_dim: int = 2048,
        tied: bool = True,
        activation: str = "relu",
        norm_first: bool = False,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        check_integer("source_vocabulary_size", source_vocabulary_size, 2)
        check_integer("target_vocabulary_size", target_vocabulary_size, 4)
        check_dropout("dropout", dropout)
        self.source_vectors = _vectors(source_vocabulary_size, embedding_dim)
        self.target_vectors = _vectors(target_vocabulary_size, embedding_dim)
        self.encoder = Encoder(
            embedding_dim,
            num_layers=num_layers,
            num_heads=num_heads,
            feedforward_dim=feedforward_dim,
            dropout=dropout,
            activation=activation,
            norm_first=norm_first,
        )
        self.decoder = Decoder(
            embedding_dim,
            num_layers=num_layers,
            num_heads=num_heads,
            feedforward_dim=feedforward_dim,
            dropout=dropout,
            activation=activation,
            norm_first=norm_first,
        )
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(embedding_dim, target_vocabulary_size)
        nn.init.zeros_(self.output.bias)
        if tied:
            self.output.weight = self.target_vectors.weight

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """The layers of the encoder, which are computed one after the other."""
        return list(self.encoder.layers)

    def forward(
        self, source: Int[Tensor, "b t"], target: Int[Tensor, "b u"]
    ) -> Float[Tensor, "b u v"]:
        """Score every next word of the targets."""
        real, memory = self._read(source)
        h, _ = self.decoder(self.dropout(embed(self.target_vectors, target)), memory, real)
        logits: Tensor = self.output(h)  # b u v
        return logits

    def start(self, source: Int[Tensor, "b t"]) -> DecoderState:
        """Read the sources; see :class:`~dlnotes.nn.decoding.Decodable`.

        Returns:
            Where the sources are real, ``b t``; for each layer of the decoder the keys and values
            of the source, ``b h t d``; then those of what is written, ``b h 0 d``.
        """
        real, memory = self._read(source)
        read = [x for pair in memory for x in pair]
        return real, *read, *(x[:, :, :0] for x in read)

    def advance(
        self, last: Int[Tensor, " b"], state: DecoderState
    ) -> tuple[Float[Tensor, "b v"], DecoderState]:
        """From the last word, score the next; see :class:`~dlnotes.nn.decoding.Decodable`."""
        real, *both = state
        memory, past = both[: len(both) // 2], both[len(both) // 2 :]
        x = embed(self.target_vectors, last.unsqueeze(1), first=past[0].shape[2])  # b 1 e
        h, pairs = self.decoder(
            self.dropout(x),
            zip(memory[::2], memory[1::2], strict=True),
            real,
            zip(past[::2], past[1::2], strict=True),
        )
        logits: Tensor = self.output(h[:, 0])  # b v
        return logits, (real, *memory, *(x for pair in pairs for x in pair))

    def _read(self, source: Int[Tensor, "b t"]) -> tuple[Bool[Tensor, "b t"], list[KeysValues]]:
        source = widen(source, 1)
        real = source != PAD  # b t
        h, _ = self.encoder(self.dropout(embed(self.source_vectors, source)), real)
        return real, self.decoder.read(h, real)
