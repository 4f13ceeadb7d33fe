"""What all tests share: the folder of real data sets, and a cache of their own."""

import os
from pathlib import Path

import pytest
import torch

SHARED = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real data sets beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip("needs the real data sets in ../shared/data")
    return SHARED


@pytest.fixture(
    params=[
        "cpu",
        pytest.param(
            "cuda",
            marks=[
                pytest.mark.cuda,
                pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
            ],
        ),
    ]
)
def device(request: pytest.FixtureRequest) -> torch.device:
    """The CPU, and CUDA where there is one: a test of the one proves the test of the other."""
    return torch.device(request.param)


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    """Tiny tensors: a second thread only waits, for ages on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory):
    """Neither read nor fill the user's cache."""
    old = os.environ.get("DLNOTES_CACHE")
    os.environ["DLNOTES_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    os.environ.pop("DLNOTES_DATA", None)
    yield
    if old is None:
        del os.environ["DLNOTES_CACHE"]
    else:
        os.environ["DLNOTES_CACHE"] = old
