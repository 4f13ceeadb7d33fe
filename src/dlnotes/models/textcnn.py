"""TextCNN: convolutions of several widths and max over time."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from dlnotes.activations import relu
from dlnotes.nn import PAD, WordVectors, widen
from dlnotes.nn.hyperparameters import (
    check_choice,
    check_classifier,
    check_dropout,
    check_integer,
)
from dlnotes.nn.kernels import few_kernels

CHANNELS = ("rand", "static", "non-static", "multichannel")


class MaxOverTime(torch.autograd.Function):
    r"""Convolution and maximum over time in one, with a gradient that knows of the maximum.

    .. math::
        y_{bm} = \max_{i\,\text{inside}} \sum_{k<h} w_{mk} \cdot x_{b,i+k}, \qquad
        \frac{\partial y_{bm}}{\partial w_{mk}} = x_{b,i^*+k}, \qquad
        \frac{\partial y_{bm}}{\partial x_{b,i^*+k}} = w_{mk}

    where :math:`i^*(b, m)` is the window that won (the first of equal ones). All other windows have
    gradient zero, so that the backward pass adds up one window a filter instead of convolving
    over the whole document: two weighted ``embedding_bag`` of :math:`b\,m\,h` rows. On one CPU
    thread a training step of TextCNN takes 0.68, 0.54 and 0.41 times that with ``conv1d`` and
    ``max``, in batches of 50 documents of 11, 20 and 144 tokens (0.96, 0.63 and 0.28 times that
    with windows unfolded and multiplied; 0.92, 0.59 and 0.33 with one shifted product a place).
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(
        x: Float[Tensor, "b t e"], w: Float[Tensor, "m e h"], inside: Bool[Tensor, "b t-h+1"]
    ) -> tuple[Float[Tensor, "b m"], Int[Tensor, "b m"]]:
        """Value of the best window of every filter, and where it starts."""
        c = F.conv1d(x.transpose(1, 2), w)  # b m t-h+1
        value, start = c.masked_fill_(~inside.unsqueeze(1), -torch.inf).max(dim=2)
        return value, start

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        """Keep what the gradient needs."""
        x, w, _ = inputs
        ctx.save_for_backward(x, w, output[1])
        ctx.mark_non_differentiable(output[1])

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, Tensor, None]:
        """Gradients of ``x`` and ``w``."""
        x, w, start = ctx.saved_tensors
        (b, t, e), (m, _, h) = x.shape, w.shape
        g = gradients[0].to(x.dtype).t().unsqueeze(1).expand(m, h, b).reshape(m * h, b)
        # Row of x, seen as (b t) e, under each place k of the winning window.
        first = start + t * torch.arange(b, device=x.device).unsqueeze(1)  # b m
        place = torch.arange(h, device=x.device).unsqueeze(1)  # h 1
        row = (first.t().unsqueeze(1) + place).reshape(m * h, b)
        # Rows of x by filter and place.
        dw = F.embedding_bag(row, x.reshape(b * t, e), mode="sum", per_sample_weights=g)  # mh e
        # Rows of w by position: the same pairs, sorted by their other half.
        row, order = row.flatten().sort()
        offsets = torch.searchsorted(row, torch.arange(b * t, device=x.device))
        dx = F.embedding_bag(
            order // b,
            w.transpose(1, 2).reshape(m * h, e).to(x.dtype),
            offsets,
            mode="sum",
            per_sample_weights=g.flatten()[order],
        )  # bt e
        return dx.view(b, t, e), dw.view(m, h, e).transpose(1, 2).to(w.dtype), None


class TextCNN(nn.Module):
    r"""Convolutional network for sentences (Kim 2014, https://arxiv.org/abs/1408.5882).

    .. math::
        c_i = \mathrm{ReLU}(w \cdot x_{i:i+h-1} + b), \qquad \hat c = \max_i c_i, \qquad
        s = W\,([\hat c_1 \dots \hat c_m] \circ r) + b'

    with :math:`x` the word vectors, ``maps`` filters :math:`w` of each width :math:`h`, :math:`r`
    the dropout mask, and every row of :math:`W` kept at a norm of at most ``max_norm`` by
    :meth:`constrain_`. The maximum is over all windows that hold a word of the document. As in the
    author's code they reach over both of its ends, where zero vectors stand: this is how a filter
    sees that a sentence begins with "how many".

    ``channels`` chooses one of the paper's four variants:

    - ``rand``: word vectors start at U(−0.25, 0.25) as in the author's code and are trained;
    - ``static``: pretrained vectors (``scripts/train.py --vectors``) that stay as they are;
    - ``non-static``: pretrained vectors, trained on; as a network the same as ``rand``;
    - ``multichannel``: both, two channels with one start. Each filter is applied to both and the
      results are added, which is one convolution of the channels' sum.

    Differs from the paper: windows of nothing but zeros do not count (the author's code fills all
    documents up to one length); torch's initialisation of the filters and the output layer;
    inverted dropout, so that nothing is rescaled at test time.

    Args:
        vocabulary_size: Number of token ids, padding and the unknown word included.
        num_classes: Number of scores.
        embedding_dim: Length of a word vector.
        widths: Filter widths, in words.
        maps: Filters of each width.
        dropout: Share of the pooled features dropped in training.
        max_norm: Largest norm of a row of the output weights; 0 for no limit.
        channels: ``rand``, ``static``, ``non-static`` or ``multichannel``.
        sparse: Give the gradient of the word vectors as a sparse tensor.

    Shapes:
        tokens ``b t`` → scores ``b c``.

    Raises:
        ValueError: A hyper-parameter is outside its range.
    """

    few_kernels: bool | None = None
    """Whether to take torch's ReLU, and a backward pass that convolves over the whole document, in
    place of :class:`MaxOverTime`: see :func:`~dlnotes.nn.kernels.few_kernels`.

    Not a hyper-parameter, for it changes no number by more than rounding.
    """

    def __init__(
        self,
        *,
        vocabulary_size: int,
        num_classes: int,
        embedding_dim: int = 300,
        widths: tuple[int, ...] = (3, 4, 5),
        maps: int = 100,
        dropout: float = 0.5,
        max_norm: float = 3.0,
        channels: str = "rand",
        sparse: bool = False,
    ) -> None:
        super().__init__()
        check_classifier(vocabulary_size, num_classes)
        check_integer("embedding_dim", embedding_dim, 1)
        check_integer("maps", maps, 1)
        if not isinstance(widths, (tuple, list)) or not widths:
            raise ValueError(f"widths is {widths!r}; allowed: one or more integers of at least 1")
        for width in widths:
            check_integer("widths", width, 1)
        check_dropout("dropout", dropout)
        if not max_norm >= 0:
            raise ValueError(f"max_norm is {max_norm!r}; allowed: above 0, or 0 for no limit")
        check_choice("channels", channels, CHANNELS)
        self.widths = tuple(widths)
        self.max_norm = max_norm
        self.vectors = WordVectors(
            vocabulary_size,
            embedding_dim,
            scale=0.25,
            sparse=sparse,
            trainable=channels != "static",
        )
        self.static_vectors: WordVectors | None = None
        if channels == "multichannel":
            self.static_vectors = WordVectors(
                vocabulary_size, embedding_dim, scale=0.25, trainable=False
            )
            self.static_vectors.load_state_dict(self.vectors.state_dict())
        self.filters = nn.ModuleList(nn.Conv1d(embedding_dim, maps, h) for h in self.widths)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(maps * len(self.widths), num_classes)

    def forward(self, tokens: Int[Tensor, "b t"]) -> Float[Tensor, "b c"]:
        """Score the documents."""
        tokens = widen(tokens, 1)
        x = self.vectors(tokens)  # b t e
        if self.static_vectors is not None:
            x = x + self.static_vectors(tokens)  # w · x + w · x' = w · (x + x')
        few = few_kernels(x, self.few_kernels)
        pooled = (self._maxima if few else self._winners)(x, tokens)
        # ReLU keeps the order of numbers, so the maximum may come first.
        features = (torch.relu if few else relu)(torch.cat(pooled, dim=1))  # b m
        scores: Tensor = self.output(self.dropout(features))  # b c
        return scores

    def _maxima(
        self, x: Float[Tensor, "b t e"], tokens: Int[Tensor, "b t"]
    ) -> list[Float[Tensor, "b m"]]:
        """Best window of each filter, with the gradients of all windows, in few operations."""
        # A window counts if its first word does; the first ones begin with zeros, and count.
        widest = max(self.widths)
        outside = F.pad(tokens[:, 1:] == PAD, (widest, 0)).unsqueeze(1)  # b 1 t+widest-1
        x = x.transpose(1, 2)  # b e t
        pooled = []
        filters: Any = self.filters
        for h, convolution in zip(self.widths, filters, strict=True):
            c = F.conv1d(x, convolution.weight, convolution.bias, padding=h - 1)  # b m t+h-1
            c = c.masked_fill(outside[:, :, widest - h :], -torch.inf)
            pooled.append(c.max(dim=2).values)
        return pooled

    def _winners(
        self, x: Float[Tensor, "b t e"], tokens: Int[Tensor, "b t"]
    ) -> list[Float[Tensor, "b m"]]:
        """Best window of each filter, with the gradients of those alone."""
        words = tokens != PAD
        pooled = []
        for h, convolution in zip(self.widths, self.filters, strict=True):
            inside = F.pad(words, (h - 1, 0), value=True)  # b t+h-1, by the first word
            inside[:, 0] = True  # of a document without words
            padded = F.pad(x, (0, 0, h - 1, h - 1))  # b t+2h-2 e
            value, _ = MaxOverTime.apply(padded, convolution.weight, inside)  # b m
            pooled.append(value + convolution.bias)  # keeps the order, too
        return pooled

    @torch.no_grad()
    def constrain_(self) -> None:
        """Rescale the output rows whose norm is above ``max_norm``; call it after every step."""
        if self.max_norm > 0:
            weight = self.output.weight  # c m
            norm = weight.norm(dim=1, keepdim=True)  # c 1
            weight.mul_((self.max_norm / norm).clamp(max=1.0))
