"""Text classifiers: token ids in, one unnormalised score a class out."""

from torch import nn

from dlnotes.models.fasttext import FastText
from dlnotes.models.textcnn import TextCNN
from dlnotes.models.textrnn import TextRNN
from dlnotes.models.transformer import Transformer

MODELS: dict[str, type[nn.Module]] = {
    "fasttext": FastText,
    "textcnn": TextCNN,
    "textrnn": TextRNN,
    "transformer": Transformer,
}

__all__ = ["MODELS", "FastText", "TextCNN", "TextRNN", "Transformer"]
