import pytest
import torch


@pytest.fixture(autouse=True, scope="package")
def _one_thread():
    """These matrices are too small to share: on a busy machine a second thread only waits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
