"""The training core gives the numbers that it gave before it was rebuilt."""

import json
import math

import fingerprints
import pytest
import torch

MADE = json.loads(fingerprints.FILE.read_text())


@pytest.fixture(scope="module")
def kept():
    """Those of this version of torch, or of one that draws the same random numbers."""
    kind = fingerprints.kind()
    for name in ("torch", "stream"):
        for made in MADE:
            if made["kind"][name] == kind[name]:
                return made
    pytest.skip(f"torch {torch.__version__} draws other random numbers than those that were kept")


def same(found, kept, name):
    """Bit for bit where numbers can be, to rtol 1e-5 elsewhere."""
    expected = kept["fingerprints"][name]
    numbers = [*expected["losses"], expected["dev"], *expected["test"]]
    assert all(map(math.isfinite, numbers))
    assert len(expected["losses"]) >= 15
    if fingerprints.kind() == kept["kind"]:
        assert found == expected
        return
    assert found.keys() == expected.keys()
    for part, value in expected.items():
        assert found[part] == pytest.approx(value, rel=1e-5), part


@pytest.mark.parametrize("name", fingerprints.CLASSIFIERS)
def test_classifier(name, kept):
    same(fingerprints.classifier(name), kept, f"classifier {name}")


@pytest.mark.parametrize("name", fingerprints.TRANSLATORS)
def test_translator(name, kept, tmp_path):
    same(fingerprints.translator(name, tmp_path), kept, f"translator {name}")
