"""Text classifiers: token ids in, one unnormalised score a class out; and two that translate."""

from torch import nn

from dlnotes.models.dynamic_memory_network import DynamicMemoryNetwork
from dlnotes.models.entity_network import EntityNetwork
from dlnotes.models.fasttext import FastText
from dlnotes.models.han import HAN
from dlnotes.models.rcnn import RCNN
from dlnotes.models.seq2seq import Seq2seq, Seq2seqTranslator
from dlnotes.models.textcnn import TextCNN
from dlnotes.models.textrnn import TextRNN
from dlnotes.models.transformer import Transformer, TransformerTranslator

MODELS: dict[str, type[nn.Module]] = {
    "fasttext": FastText,
    "textcnn": TextCNN,
    "textrnn": TextRNN,
    "rcnn": RCNN,
    "han": HAN,
    "seq2seq": Seq2seq,
    "transformer": Transformer,
    "dmn": DynamicMemoryNetwork,
    "entnet": EntityNetwork,
}
"""Classifiers by name."""

TRANSLATORS: dict[str, type[nn.Module]] = {
    "seq2seq": Seq2seqTranslator,
    "transformer": TransformerTranslator,
}
"""Models that write a sequence, by name."""

__all__ = [
    "HAN",
    "MODELS",
    "RCNN",
    "TRANSLATORS",
    "DynamicMemoryNetwork",
    "EntityNetwork",
    "FastText",
    "Seq2seq",
    "Seq2seqTranslator",
    "TextCNN",
    "TextRNN",
    "Transformer",
    "TransformerTranslator",
]
