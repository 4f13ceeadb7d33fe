"""Text classifiers: token ids in, one unnormalised score a class out."""

from torch import nn

from dlnotes.models.dynamic_memory_network import DynamicMemoryNetwork
from dlnotes.models.entity_network import EntityNetwork
from dlnotes.models.fasttext import FastText
from dlnotes.models.han import HAN
from dlnotes.models.rcnn import RCNN
from dlnotes.models.textcnn import TextCNN
from dlnotes.models.textrnn import TextRNN
from dlnotes.models.transformer import Transformer

MODELS: dict[str, type[nn.Module]] = {
    "fasttext": FastText,
    "textcnn": TextCNN,
    "textrnn": TextRNN,
    "rcnn": RCNN,
    "han": HAN,
    "transformer": Transformer,
    "dmn": DynamicMemoryNetwork,
    "entnet": EntityNetwork,
}

__all__ = [
    "HAN",
    "MODELS",
    "RCNN",
    "DynamicMemoryNetwork",
    "EntityNetwork",
    "FastText",
    "TextCNN",
    "TextRNN",
    "Transformer",
]
