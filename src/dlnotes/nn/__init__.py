"""Parts that two or more models use."""

from dlnotes.deprecation import keep_old_names
from dlnotes.nn.attention import (
    ALIGNMENTS,
    AdditiveAttention,
    AttentionMemory,
    MultiplicativeAttention,
)
from dlnotes.nn.hierarchical_softmax import HierarchicalSoftmax
from dlnotes.nn.pooling import last_states, masked_max, masked_mean
from dlnotes.nn.recurrence import (
    CELLS,
    Bidirectional,
    gru_step,
    gru_update,
    lstm_step,
    rnn_step,
)
from dlnotes.nn.sentences import QUESTION, SENTENCE_END, sentences, split_question
from dlnotes.nn.vectors import PAD, UNK, WordVectors, set_word_vectors, widen

__all__ = [
    "ALIGNMENTS",
    "CELLS",
    "PAD",
    "QUESTION",
    "SENTENCE_END",
    "UNK",
    "AdditiveAttention",
    "AttentionMemory",
    "Bidirectional",
    "HierarchicalSoftmax",
    "MultiplicativeAttention",
    "WordVectors",
    "gru_step",
    "gru_update",
    "last_states",
    "lstm_step",
    "masked_max",
    "masked_mean",
    "rnn_step",
    "sentences",
    "set_word_vectors",
    "split_question",
    "widen",
]

keep_old_names(__name__)
