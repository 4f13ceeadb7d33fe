"""Images of handwritten digits: scikit-learn's 1,797, and MNIST's 70,000."""

import gzip
import math
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dlnotes.arguments import checked
from dlnotes.data.download import fetch
from dlnotes.errors import UserError

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
MNIST = {
    "train-images-idx3-ubyte": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}
"""File (each ends in .gz) → SHA-256: training images and labels, test images and labels."""


class Split(NamedTuple):
    """Images, ``(n, pixels)`` with values in [0, 1], and the digits 0 to 9 that they show."""

    x: Tensor
    y: Tensor


def digits(seed: int = 0) -> tuple[Split, Split]:
    """Return scikit-learn's 8 × 8 digits, shuffled: 1,437 to train with and 360 to test with.

    Raises:
        UserError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise UserError("these digits come with scikit-learn: pip install scikit-learn") from None
    images, labels = load_digits(return_X_y=True)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    x, y = torch.tensor(images / 16, dtype=torch.float32)[order], torch.tensor(labels)[order]
    return Split(x[:1437], y[:1437]), Split(x[1437:], y[1437:])


@checked
def mnist(folder: Path, download: bool = True) -> tuple[Split, Split]:
    """Return MNIST's 28 × 28 digits: 60,000 to train with and 10,000 to test with.

    Args:
        folder: Where its four files are, or will be put.
        download: Whether to fetch missing files and check all; otherwise the folder is read as it
            is.

    Raises:
        UserError: A file cannot be obtained, or does not hold what its name says.
    """
    if download:
        for name, sha256 in MNIST.items():
            urls = [f"{mirror}{name}.gz" for mirror in MIRRORS]
            fetch(urls, sha256, folder / f"{name}.gz")
    x, y, x_test, y_test = (read_idx(folder / f"{name}.gz") for name in MNIST)
    splits = Split(x, y), Split(x_test, y_test)
    for (images, labels), name in zip(splits, ("train", "t10k"), strict=True):
        if images.shape[1:] != (28, 28) or not len(images):
            raise UserError(
                f"{folder}: {name} holds {_sizes(images)} where there must be images of 28 × 28"
            )
        if labels.shape != images.shape[:1]:
            raise UserError(
                f"{folder}: {name} has {len(images)} images and {_sizes(labels)} labels"
            )
        if int(labels.max()) > 9:
            raise UserError(f"{folder}: {name} has a label {int(labels.max())}; digits are 0 to 9")
    return (
        Split(x.flatten(1).float() / 255, y.long()),
        Split(x_test.flatten(1).float() / 255, y_test.long()),
    )


def _sizes(tensor: Tensor) -> str:
    return " × ".join(map(str, tensor.shape)) or "one number"


@checked
def read_idx(path: Path) -> Tensor:
    """Read a gzipped IDX file of bytes: 0, 0, 8, the number of dimensions, their sizes, the data.

    Raises:
        UserError: The file is missing, or is not an IDX file.
    """
    try:
        raw = gzip.decompress(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"there is no file {path}") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{path} is damaged, or no gzip file: {error}") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    if raw[:3] != b"\0\0\x08" or len(raw) < 4 + 4 * raw[3]:
        raise UserError(f"{path}: not an IDX file of bytes")
    start = 4 + 4 * raw[3]
    shape = tuple(np.frombuffer(raw, ">u4", raw[3], 4).tolist())
    data = np.frombuffer(raw, np.uint8, offset=start)
    if data.size != math.prod(shape):
        raise UserError(f"{path}: {data.size} bytes of data, but its header says {shape}")
    return torch.from_numpy(data.reshape(shape).copy())
