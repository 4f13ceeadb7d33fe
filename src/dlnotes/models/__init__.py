"""Text classifiers: token ids in, one unnormalised score a class out."""

from torch import nn

from dlnotes.models.fasttext import FastText
from dlnotes.models.seq2seq import Seq2seq, Seq2seqTranslator
from dlnotes.models.textcnn import TextCNN
from dlnotes.models.textrnn import TextRNN

MODELS: dict[str, type[nn.Module]] = {
    "fasttext": FastText,
    "textcnn": TextCNN,
    "textrnn": TextRNN,
    "seq2seq": Seq2seq,
}
"""Classifiers by name."""

TRANSLATORS: dict[str, type[nn.Module]] = {
    "seq2seq": Seq2seqTranslator,
}
"""Models that write a sequence, by name."""

__all__ = [
    "MODELS",
    "TRANSLATORS",
    "FastText",
    "Seq2seq",
    "Seq2seqTranslator",
    "TextCNN",
    "TextRNN",
]
