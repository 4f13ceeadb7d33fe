"""The training core gives the numbers that it gave before it was rebuilt."""

import json
import math

import fingerprints
import pytest

KEPT = json.loads(fingerprints.FILE.read_text())


def same(found, kept):
    """Bit for bit where numbers can be, to rtol 1e-5 elsewhere."""
    if fingerprints.kind() == KEPT["kind"]:
        assert found == kept
        return
    assert found.keys() == kept.keys()
    for name, value in kept.items():
        assert found[name] == pytest.approx(value, rel=1e-5), name


def finite(fingerprint):
    numbers = [*fingerprint["losses"], fingerprint["dev"], *fingerprint["test"]]
    return all(map(math.isfinite, numbers)) and len(fingerprint["losses"]) >= 15


@pytest.mark.parametrize("name", fingerprints.CLASSIFIERS)
def test_classifier(name):
    kept = KEPT["fingerprints"][f"classifier {name}"]
    assert finite(kept)
    same(fingerprints.classifier(name), kept)


@pytest.mark.parametrize("name", fingerprints.TRANSLATORS)
def test_translator(name, tmp_path):
    kept = KEPT["fingerprints"][f"translator {name}"]
    assert finite(kept)
    same(fingerprints.translator(name, tmp_path), kept)
