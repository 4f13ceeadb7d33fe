"""What the fuzzer has found stays mended, and every target reads its seeds."""

import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from seeds import seeds
from targets import TARGETS, check, remove_folder

from fuzz import CORPUS, changed, known


@pytest.fixture(autouse=True, scope="module")
def _no_leftovers():
    yield
    remove_folder()


FOUND = sorted(CORPUS.glob("*/*"))


@pytest.mark.parametrize("path", FOUND, ids=lambda path: f"{path.parent.name}-{path.name[-6:]}")
def test_what_was_found_is_told_in_one_line(path):
    if path.parent.name not in TARGETS:
        pytest.skip("needs the extra serve")
    told = check(path.parent.name, path.read_bytes())
    assert told is not None or path.parent.name == "serve"  # whose requests may be right


@pytest.mark.parametrize("target", TARGETS)
def test_seeds_are_read(target):
    for seed in seeds(target):
        assert check(target, seed) is None


@pytest.mark.parametrize("target", [t for t in TARGETS if t != "parquet"])  # polars may abort
def test_a_few_changes_are_read_or_told(target):
    draw, begins = random.Random(1), known(target)
    for _ in range(20):
        check(target, changed(draw.choice(begins), begins, draw))
