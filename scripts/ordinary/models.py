"""The nine models made of torch's own layers, with our sizes and initial word vectors."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


def word_vectors(vocabulary_size: int, embedding_dim: int, scale: float) -> nn.Embedding:
    """Word vectors that start at U(-scale, scale), zero at padding."""
    layer = nn.Embedding(vocabulary_size, embedding_dim, padding_idx=0)
    nn.init.uniform_(layer.weight, -scale, scale)
    with torch.no_grad():
        layer.weight[0].zero_()
    return layer


def states(recurrence: nn.RNNBase, x: Tensor, real: Tensor) -> Tensor:
    """States of a recurrence over the real positions: packed, run, unpacked."""
    lengths = real.sum(1).clamp(min=1).cpu()  # torch wants them there, and waits for them
    packed = pack_padded_sequence(x, lengths, True, enforce_sorted=False)
    return pad_packed_sequence(recurrence(packed)[0], True, total_length=x.shape[1])[0]


def maximum(h: Tensor, real: Tensor) -> Tensor:
    """Maximum over the real positions."""
    return h.masked_fill(~real.unsqueeze(2), -torch.inf).max(dim=1).values


def softmax(score: Tensor, real: Tensor) -> Tensor:
    """Weights of the real positions."""
    return score.masked_fill(~real, -1e9).softmax(dim=1)


def weighted(h: Tensor, alpha: Tensor) -> Tensor:
    """Sum of states, weighted."""
    return torch.bmm(alpha.unsqueeze(1), h).squeeze(1)


class FastText(nn.Module):
    """``nn.EmbeddingBag`` over the ids of words and bigrams."""

    def __init__(
        self, *, vocabulary_size: int, num_classes: int, embedding_dim: int, buckets: int
    ) -> None:
        super().__init__()
        rows = vocabulary_size + buckets
        self.vectors = nn.EmbeddingBag(rows, embedding_dim, mode="mean", padding_idx=0)
        nn.init.uniform_(self.vectors.weight, -1 / embedding_dim, 1 / embedding_dim)
        self.output = nn.Linear(embedding_dim, num_classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """Score the documents."""
        return self.output(self.vectors(tokens))


class TextCNN(nn.Module):
    """``nn.Conv1d``, ReLU and the maximum over time."""

    def __init__(
        self,
        *,
        vocabulary_size: int,
        num_classes: int,
        embedding_dim: int,
        widths: tuple[int, ...],
        maps: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.vectors = word_vectors(vocabulary_size, embedding_dim, 0.25)
        self.filters = nn.ModuleList(
            nn.Conv1d(embedding_dim, maps, h, padding=h - 1) for h in widths
        )
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(maps * len(widths), num_classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """Score the documents."""
        x = self.vectors(tokens).transpose(1, 2)
        pooled = [F.relu(convolution(x)).max(dim=2).values for convolution in self.filters]
        return self.output(self.dropout(torch.cat(pooled, dim=1)))


class TextRNN(nn.Module):
    """A bidirectional ``nn.LSTM`` over packed documents, and the maximum of its states."""

    def __init__(
        self,
        *,
        vocabulary_size: int,
        num_classes: int,
        embedding_dim: int,
        hidden_size: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.vectors = word_vectors(vocabulary_size, embedding_dim, 0.25)
        self.lstm = nn.LSTM(embedding_dim, hidden_size, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(2 * hidden_size, num_classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """Score the documents."""
        real = tokens != 0
        h = states(self.lstm, self.dropout(self.vectors(tokens)), real)
        return self.output(self.dropout(maximum(h, real)))


class RCNN(nn.Module):
    """A bidirectional ``nn.RNN``; each word with the states beside it; the maximum over time."""

    def __init__(
        self,
        *,
        vocabulary_size: int,
        num_classes: int,
        embedding_dim: int,
        context_size: int,
        hidden_size: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.vectors = word_vectors(vocabulary_size, embedding_dim, 0.25)
        self.rnn = nn.RNN(
            embedding_dim, context_size, bias=False, batch_first=True, bidirectional=True
        )
        self.hidden = nn.Linear(2 * context_size + embedding_dim, hidden_size)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(hidden_size, num_classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """Score the documents."""
        real = tokens != 0
        e = self.dropout(self.vectors(tokens))
        left, right = states(self.rnn, e, real).chunk(2, dim=2)
        left, right = F.pad(left[:, :-1], (0, 0, 1, 0)), F.pad(right[:, 1:], (0, 0, 0, 1))
        y = torch.tanh(self.hidden(torch.cat([left, e, right], dim=2)))
        return self.output(self.dropout(maximum(y, real)))


class Level(nn.Module):
    """A level of HAN: a bidirectional ``nn.GRU``, and attention by a trained vector."""

    def __init__(self, input_size: int, hidden_size: int, context_size: int) -> None:
        super().__init__()
        self.gru = nn.GRU(input_size, hidden_size, batch_first=True, bidirectional=True)
        self.hidden = nn.Linear(2 * hidden_size, context_size)
        self.context = nn.Linear(context_size, 1, bias=False)

    def forward(self, x: Tensor, real: Tensor) -> Tensor:
        """A vector for each row."""
        h = states(self.gru, x, real)
        score = self.context(torch.tanh(self.hidden(h))).squeeze(2)
        return weighted(h, softmax(score, real))


class HAN(nn.Module):
    """One level over the words of each sentence, another over the sentences."""

    def __init__(
        self,
        *,
        vocabulary_size: int,
        num_classes: int,
        embedding_dim: int,
        hidden_size: int,
        context_size: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.vectors = word_vectors(vocabulary_size, embedding_dim, 0.25)
        self.words = Level(embedding_dim, hidden_size, context_size)
        self.sentences = Level(2 * hidden_size, hidden_size, context_size)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(2 * hidden_size, num_classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """Score the documents, ``b s w``."""
        rows = tokens.flatten(0, 1)
        sentences = self.words(self.dropout(self.vectors(rows)), rows != 0)
        document = self.sentences(sentences.view(*tokens.shape[:2], -1), tokens[:, :, 0] != 0)
        return self.output(self.dropout(document))


class Seq2seq(nn.Module):
    """Bidirectional ``nn.GRU``, additive attention, one step of an ``nn.GRUCell``, maxout.

    Labels are numbered after padding, the unknown word, the beginning (2) and the end.
    """

    def __init__(
        self,
        *,
        vocabulary_size: int,
        num_classes: int,
        embedding_dim: int,
        hidden_size: int,
        maxout_size: int,
        dropout: float,
    ) -> None:
        super().__init__()
        e, n = embedding_dim, hidden_size
        self.vectors = word_vectors(vocabulary_size, e, 0.1)
        self.label_vectors = word_vectors(4 + num_classes, e, 0.1)
        self.encoder = nn.GRU(e, n, batch_first=True, bidirectional=True)
        self.initial = nn.Linear(n, n)
        self.W = nn.Linear(n, n, bias=False)
        self.U = nn.Linear(2 * n, n, bias=False)
        self.v = nn.Linear(n, 1, bias=False)
        self.decoder = nn.GRUCell(e + 2 * n, n)
        self.maxout = nn.Linear(3 * n + e, 2 * maxout_size)
        self.output = nn.Linear(maxout_size, 4 + num_classes)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """Score the documents."""
        real = tokens != 0
        h = states(self.encoder, self.dropout(self.vectors(tokens)), real)
        _, leftward = h[:, 0].chunk(2, dim=1)
        s = torch.tanh(self.initial(leftward))
        score = self.v(torch.tanh(self.W(s).unsqueeze(1) + self.U(h))).squeeze(2)
        context = weighted(h, softmax(score, real))
        y = self.dropout(self.label_vectors(tokens.new_full((len(tokens),), 2)))
        s = self.decoder(torch.cat([y, context], dim=1), s)
        t = self.maxout(self.dropout(torch.cat([s, context, y], dim=1)))
        return self.output(t.view(len(t), 2, -1).max(dim=1).values)[:, 4:]


class Transformer(nn.Module):
    """``nn.TransformerEncoder`` and the mean of its states."""

    positions: Tensor

    def __init__(
        self,
        *,
        vocabulary_size: int,
        num_classes: int,
        embedding_dim: int,
        num_layers: int,
        num_heads: int,
        feedforward_dim: int,
        dropout: float,
    ) -> None:
        super().__init__()
        d = embedding_dim
        self.vectors = word_vectors(vocabulary_size, d, (3 / d) ** 0.5)
        layer = nn.TransformerEncoderLayer(d, num_heads, feedforward_dim, dropout, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, num_layers, enable_nested_tensor=False)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(d, num_classes)
        angles = torch.arange(1024.0).unsqueeze(1) * 10_000 ** (-torch.arange(0, d, 2) / d)
        waves = torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)
        self.register_buffer("positions", waves, persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Score the documents."""
        real = tokens != 0
        x = self.vectors(tokens) * self.vectors.embedding_dim**0.5
        x = self.dropout(x + self.positions[: tokens.shape[1]])
        h = self.encoder(x, src_key_padding_mask=~real)
        h = h.masked_fill(~real.unsqueeze(2), 0).sum(dim=1) / real.sum(dim=1, keepdim=True)
        return self.output(self.dropout(h))


class DynamicMemoryNetwork(nn.Module):
    """DMN+: GRUs of torch's, and the attention GRU of linear layers, fact by fact."""

    def __init__(
        self,
        *,
        vocabulary_size: int,
        num_classes: int,
        embedding_dim: int,
        hidden_size: int,
        passes: int,
        dropout: float,
    ) -> None:
        super().__init__()
        e, h = embedding_dim, hidden_size
        self.vectors = word_vectors(vocabulary_size, e, 3**0.5)
        self.question = nn.GRU(e, h, batch_first=True)
        self.fusion = nn.GRU(e, h, batch_first=True, bidirectional=True)
        self.hidden = nn.Linear(4 * h, h)
        self.weight = nn.Linear(h, 1)
        self.W_r, self.U_r, self.W, self.U = (nn.Linear(h, h) for _ in range(4))
        self.update = nn.ModuleList(nn.Linear(3 * h, h) for _ in range(passes))
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(2 * h, num_classes)

    def forward(self, story: Tensor, question: Tensor) -> Tensor:
        """Answer the questions: story ``b s w``, question ``b q``."""
        lengths = (question != 0).sum(dim=1).cpu()
        asked = pack_padded_sequence(self.vectors(question), lengths, True, enforce_sorted=False)
        q = self.question(asked)[1][0]
        told = story[:, :, 0] != 0
        rightward, leftward = states(self.fusion, self.dropout(self.facts(story)), told).chunk(2, 2)
        f = rightward + leftward
        m = q
        for update in self.update:
            h = torch.zeros_like(q)
            for f_i, g_i in zip(f.unbind(1), self.gates(f, q, m, told).unbind(1), strict=True):
                r = torch.sigmoid(self.W_r(f_i) + self.U_r(h))
                n = torch.tanh(self.W(f_i) + r * self.U(h))
                h = g_i.unsqueeze(1) * n + (1 - g_i).unsqueeze(1) * h
            m = F.relu(update(torch.cat([m, h, q], dim=1)))
        return self.output(self.dropout(torch.cat([m, q], dim=1)))

    def facts(self, story: Tensor) -> Tensor:
        """Each sentence as a sum of its words, weighted by their position."""
        real = (story != 0).unsqueeze(3)
        x = self.vectors(story)
        w, e = x.shape[2:]
        j = torch.arange(1, w + 1, device=x.device).view(w, 1) / real.sum(
            dim=2, keepdim=True
        ).clamp(min=1)
        d = torch.arange(1, e + 1, device=x.device) / e
        return (x * ((1 - j) - d * (1 - 2 * j)) * real).sum(dim=2)

    def gates(self, f: Tensor, q: Tensor, m: Tensor, told: Tensor) -> Tensor:
        """How much each fact counts, by its likeness to question and memory."""
        q, m = q.unsqueeze(1), m.unsqueeze(1)
        z = torch.cat([f * q, (f - q).abs(), f * m, (f - m).abs()], dim=2)
        return softmax(self.weight(torch.tanh(self.hidden(z))).squeeze(2), told)


class EntityNetwork(nn.Module):
    """Slots updated sentence by sentence, as the paper's equations read."""

    def __init__(
        self,
        *,
        vocabulary_size: int,
        num_classes: int,
        embedding_dim: int,
        slots: int,
        max_words: int,
    ) -> None:
        super().__init__()
        d = embedding_dim
        self.vectors = nn.Embedding(vocabulary_size, d, padding_idx=0)
        self.masks = nn.Parameter(torch.ones(max_words, d))
        self.question_masks = nn.Parameter(torch.ones(max_words, d))
        self.keys = nn.Parameter(torch.empty(slots, d))
        self.U, self.V, self.W, self.H = (nn.Linear(d, d, bias=False) for _ in range(4))
        self.phi = nn.PReLU(d, init=1.0)
        self.output = nn.Linear(d, num_classes, bias=False)
        layers = (self.U, self.V, self.W, self.H, self.output, self.vectors)
        for weight in (self.keys, *(layer.weight for layer in layers)):
            nn.init.normal_(weight, 0, 0.1)
        with torch.no_grad():
            self.vectors.weight[0].zero_()

    def forward(self, story: Tensor, question: Tensor) -> Tensor:
        """Answer the questions: story ``b s w``, question ``b q``."""
        sentences = (self.vectors(story) * self.masks[: story.shape[2]]).sum(dim=2)
        q = (self.vectors(question) * self.question_masks[: question.shape[1]]).sum(dim=1)
        h = self.keys.expand(len(story), -1, -1)
        for s, told in zip(sentences.unbind(1), (story[:, :, 0] != 0).unbind(1), strict=True):
            s = s.unsqueeze(1)
            gate = torch.sigmoid((s * h).sum(dim=2) + (s * self.keys).sum(dim=2))
            x = self.U(h) + self.V(self.keys) + self.W(s)
            candidate = self.phi(x.transpose(1, 2)).transpose(1, 2)
            new = F.normalize(h + gate.unsqueeze(2) * candidate, dim=2)
            h = torch.where(told[:, None, None], new, h)
        p = (h * q.unsqueeze(1)).sum(dim=2).softmax(dim=1)
        u = (p.unsqueeze(2) * h).sum(dim=1)
        return self.output(self.phi(q + self.H(u)))
