"""Devices by name."""

import pytest
import torch

from dlnotes.errors import UserError
from dlnotes.training.device import choose_device


@pytest.fixture
def two_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.fixture
def nothing(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


def test_with_cuda(two_gpus):
    assert choose_device("auto") == torch.device("cuda")
    assert choose_device("cuda:1", amp=True) == torch.device("cuda:1")
    assert choose_device("cpu") == torch.device("cpu")
    with pytest.raises(
        UserError, match="device is cuda:2, but there are 2 of them, counted from 0"
    ):
        choose_device("cuda:2")


def test_with_mps(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device("mps") == torch.device("mps")
    with pytest.raises(UserError, match=r"amp .* needs a CUDA device"):
        choose_device("mps", amp=True)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("cuda", "device is cuda, but torch sees no CUDA device here; use cpu or auto"),
        ("cuda:0", "device is cuda:0, but torch sees no CUDA device here"),
        ("mps", "device is mps, but torch has no MPS here"),
        ("cpu:1", "device is cpu:1, but there are 1 of them"),
        *((name, r"device must be auto, cpu, cuda, cuda:1 \(and so on\) or mps, not ") for name in ("", "gpu", "cuda:", "cuda:x", "cuda:-1", "CUDA", "meta", "cuda:1:2")),
    ],
)  # fmt: skip
def test_what_is_not_there_is_told(nothing, name, told):
    assert choose_device("auto") == torch.device("cpu")
    with pytest.raises(UserError, match=f"^{told}"):
        choose_device(name)
