"""What the tests of serving share: a classifier of each kind, in folders."""

from dataclasses import replace

import pytest
import torch

from dlnotes.data.vocabulary import Vocabulary
from dlnotes.training.classifier import Ensemble, TextClassifier
from dlnotes.training.decision import Decision
from small import SMALL

WORDS = ["<pad>", "<unk>", "the", "goal", "of", "team", "a", "chip", "and", "code", "web", "é", "!"]


def made(model="fasttext", **more):
    """A classifier with random weights: here it does not matter that they are not trained."""
    torch.manual_seed(1)
    labels = ["good", "sport", "tech"]
    classifier = TextClassifier.create(model, SMALL[model], Vocabulary(WORDS), labels, **more)
    with torch.no_grad():
        for weight in classifier.model.parameters():
            weight.add_(torch.randn_like(weight))
    classifier.model.eval()
    return classifier


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """Folders of one classifier of each kind."""
    folder = tmp_path_factory.mktemp("served")
    one = made()
    kinds = {"one": one, "several": made(multi_label=True), "attention": made("transformer")}
    kinds["ensemble"] = Ensemble([one, kinds["attention"]], [0.25, 0.75], ["a", "b"])
    kinds["decided"] = replace(one, decision=Decision(temperature=2.0, reject=0.6))
    for name, classifier in kinds.items():
        classifier.save(folder / name)
    return folder
