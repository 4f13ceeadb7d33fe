import gzip
import struct

import pytest
import torch
import torch.nn.functional as F

from dlnotes.activations import relu, sigmoid
from dlnotes.data.digits import MNIST, digits, mnist, read_idx
from dlnotes.errors import UserError
from dlnotes.foundations.backpropagation import Network


def write_idx(path, tensor):
    header = bytes([0, 0, 8, tensor.dim()]) + struct.pack(f">{tensor.dim()}I", *tensor.shape)
    path.write_bytes(gzip.compress(header + bytes(tensor.flatten().tolist())))


@pytest.fixture
def folder(tmp_path):
    """MNIST's four files in small: grey noise, and for class k a bright column 2k."""
    torch.manual_seed(0)
    for images, labels, n in zip(list(MNIST)[::2], list(MNIST)[1::2], (300, 60), strict=True):
        y = torch.randint(10, (n,), dtype=torch.uint8)
        x = torch.randint(50, (n, 28, 28), dtype=torch.uint8)
        for picture, k in zip(x, y.tolist(), strict=True):
            picture[:, 2 * k] += 200
        write_idx(tmp_path / f"{images}.gz", x)
        write_idx(tmp_path / f"{labels}.gz", y)
    return tmp_path


def train(network, split, lr, epochs, batch=16):
    optimizer = torch.optim.SGD(network.parameters(), lr=lr)
    y = F.one_hot(split.y, 10).to(split.x.dtype)
    generator = torch.Generator().manual_seed(0)
    for _ in range(epochs):
        for rows in torch.randperm(len(y), generator=generator).split(batch):
            network.backward(network.forward(split.x[rows]), y[rows])
            optimizer.step()


def accuracy(network, split):
    return (network(split.x).argmax(1) == split.y).double().mean().item()


@pytest.mark.parametrize(("activation", "cross_entropy"), [(relu, True), (sigmoid, False)])
def test_reads_handwritten_digits(activation, cross_entropy):
    pytest.importorskip("sklearn")
    torch.manual_seed(0)
    training, test = digits()
    network = Network([64, 64, 10], activation, cross_entropy=cross_entropy)
    assert accuracy(network, test) < 0.3
    train(network, training, lr=0.1 if cross_entropy else 1.0, epochs=30 if cross_entropy else 60)
    assert accuracy(network, test) >= 0.96


def test_the_digits_are_split_without_overlap():
    pytest.importorskip("sklearn")
    training, test = digits(seed=3)
    assert (len(training.x), len(test.x)) == (1437, 360)
    assert training.x.min() == 0
    assert training.x.max() == 1
    everything = torch.cat((torch.cat(training[:1]), test.x)).sort(0).values
    again = torch.cat([split.x for split in digits(seed=4)]).sort(0).values
    assert everything.equal(again)
    assert not training.y.equal(digits(seed=4)[0].y)
    assert training.y.equal(digits(seed=3)[0].y)


def test_the_classic_network_reads_mnists_files(folder):
    training, test = mnist(folder, download=False)
    assert training.x.shape == (300, 784)
    assert test.x.shape == (60, 784)
    assert training.x.dtype == torch.float32
    pixels = read_idx(folder / "train-images-idx3-ubyte.gz")
    torch.testing.assert_close(training.x, pixels.reshape(300, 784) / 255)
    torch.manual_seed(0)
    network = Network([784, 100, 10], relu)
    train(network, training, lr=0.05, epochs=15)
    assert accuracy(network, test) > 0.95


def test_idx_is_read_byte_for_byte(tmp_path):
    tensor = torch.arange(24, dtype=torch.uint8).reshape(2, 3, 4)
    write_idx(tmp_path / "t.gz", tensor)
    assert read_idx(tmp_path / "t.gz").equal(tensor)
    write_idx(tmp_path / "empty.gz", tensor[:0])
    assert read_idx(tmp_path / "empty.gz").shape == (0, 3, 4)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no file"),
        (b"hello", "[Nn]ot a gzipped file"),
        (gzip.compress(b"hello world"), "not an IDX file"),
        (gzip.compress(b""), "not an IDX file"),
        (gzip.compress(b"\0\0\x08\x02\0\0"), "not an IDX file"),
        (
            gzip.compress(b"\0\0\x08\x01\0\0\0\x05abc"),
            r"3 bytes of data, but its header says \(5,\)",
        ),
        (gzip.compress(b"\0\0\x08\x01\0\0\0\x03abc")[:-9], "ended before"),
    ],
    # gzip writes the time, so that ids made of the bytes would differ between test processes.
    ids=["missing", "plain", "text", "empty", "short header", "wrong length", "cut off"],
)
def test_a_bad_idx_file_is_a_users_error(tmp_path, content, message):
    path = tmp_path / "bad.gz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_idx(path)


def test_images_and_labels_must_be_equally_many(folder):
    write_idx(folder / "t10k-labels-idx1-ubyte.gz", torch.zeros(59, dtype=torch.uint8))
    with pytest.raises(UserError, match="t10k has 60 images and 59 labels"):
        mnist(folder, download=False)


IMAGES, LABELS = list(MNIST)[:2]


@pytest.mark.parametrize(
    ("name", "tensor", "said"),
    [
        (IMAGES, torch.zeros(300, 27, 28), r"holds 300 × 27 × 28 where .* images of 28 × 28"),
        (IMAGES, torch.zeros(300), r"holds 300 where"),
        (IMAGES, torch.zeros(0, 28, 28), r"holds 0 × 28 × 28 where"),
        (LABELS, torch.zeros(300, 2), r"300 images and 300 × 2 labels"),
        (LABELS, torch.full((300,), 10), r"has a label 10; digits are 0 to 9"),
    ],
)
def test_files_that_hold_something_else_are_told(folder, name, tensor, said):
    write_idx(folder / f"{name}.gz", tensor.to(torch.uint8))
    with pytest.raises(UserError, match=said):
        mnist(folder, download=False)


@pytest.mark.parametrize("damage", ["cut", "random", "block", "empty"])
def test_damaged_gzip_is_told(folder, damage):
    path = folder / f"{IMAGES}.gz"
    whole = path.read_bytes()
    path.write_bytes(
        {
            "cut": whole[: len(whole) // 2],
            "random": b"no gzip at all",
            "block": whole[:10] + b"\xff" * 100,
            "empty": b"",
        }[damage]
    )
    with pytest.raises(UserError, match=f"{IMAGES}.gz.*(damaged|not an IDX file)"):
        mnist(folder, download=False)


def test_a_missing_file_is_told_once(folder):
    (folder / f"{LABELS}.gz").unlink()
    with pytest.raises(UserError, match=f"^there is no file [^ ]*{LABELS}.gz$"):
        mnist(folder, download=False)
