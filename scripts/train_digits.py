"""Train a network with hand-written back-propagation to read handwritten digits."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from dlnotes.activations import ACTIVATIONS
from dlnotes.arguments import Count, NotNegative, Seed, checked
from dlnotes.cli import run
from dlnotes.data.digits import Split, digits, mnist
from dlnotes.data.download import cache_folder
from dlnotes.errors import UserError, memory_for
from dlnotes.files import make_folder, write_json
from dlnotes.foundations.backpropagation import INITIALISATIONS, Network, Pass
from dlnotes.optim import OPTIMIZERS
from dlnotes.training.record import provenance
from dlnotes.training.settings import Optimization


def accuracy(network: Network, split: Split) -> float:
    """The share of digits read correctly."""
    return (network(split.x).argmax(1) == split.y).double().mean().item()


def log_layers(board: Any, network: Network, values: Pass, step: int) -> None:
    """Gradient norm of every layer, and the share of each hidden layer that no longer learns."""
    for layer, (W, z) in enumerate(zip(network.weights, values.z, strict=True), start=1):
        assert W.grad is not None
        board.add_scalar(f"gradient norm/layer {layer}", W.grad.norm().item(), step)
        if layer < len(network.weights):
            flat = network.activation.slope(z).abs() < 0.01
            board.add_scalar(f"saturated share/layer {layer}", flat.double().mean().item(), step)
            dead = flat.all(0)  # whatever the digit, nothing changes
            board.add_scalar(f"dead units/layer {layer}", dead.double().mean().item(), step)


def picture_grid(pictures: Tensor, titles: list[str]) -> Figure:
    """Square pictures, each scaled to its own range, in rows of ten."""
    side = math.isqrt(pictures.size(1))
    rows = max(1, math.ceil(len(pictures) / 10))
    figure = Figure(figsize=(10, 1.25 * rows), layout="constrained")
    if not len(pictures):
        figure.suptitle("none")
    for i, ax in enumerate(figure.subplots(rows, 10, squeeze=False).flat):
        ax.axis("off")
        if i < len(pictures):
            ax.imshow(pictures[i].reshape(side, side), cmap="gray")
            ax.set_title(titles[i], fontsize=8)
    return figure


def wrong_digits(network: Network, split: Split, most: int = 40) -> Figure:
    """The misread digits, those of which the network was surest first."""
    output = network(split.x)
    confidence, read = output.softmax(1).max(1)
    wrong = (read != split.y).nonzero().flatten()
    wrong = wrong[confidence[wrong].argsort(descending=True)][:most]
    titles = [f"{int(split.y[i])} read as {int(read[i])}" for i in wrong]
    return picture_grid(split.x[wrong], titles)


def diverged(what: str, step: int, epoch: int, lr: float) -> UserError:
    """The error of a training that diverged; only its TensorBoard log is kept."""
    where = f"step {step} (epoch {epoch})"
    return UserError(
        f"{what} at {where}: the training has diverged; try a smaller --lr than {lr:g}"
    )


@checked
def main(
    dataset: str = "digits",
    hidden: tuple[Count, ...] = (100,),
    activation: str = "relu",
    optimizer: str = "adam",
    lr: NotNegative = 3e-3,
    epochs: Count = 30,
    batch_size: Count = 32,
    initialisation: str = "he",
    squared_error: bool = False,
    seed: Seed = 0,
    data_dir: Path | None = None,
    out: Path = Path("runs/digits"),
) -> None:
    """Train on handwritten digits, write a TensorBoard log, and print the test accuracy.

    Args:
        dataset: digits (8 × 8, they come with scikit-learn) or mnist (28 × 28, 11 MB, downloaded).
        hidden: Number of units in each hidden layer.
        activation: A name of dlnotes.activations.ACTIVATIONS.
        optimizer: A name of dlnotes.optim.OPTIMIZERS.
        lr: Learning rate.
        epochs: Number of passes over the training images.
        batch_size: Images per step.
        initialisation: Standard deviation of the first weights: small, glorot, he or unit.
        squared_error: Use the squared error in place of softmax cross-entropy.
        seed: Seed of the weights, the order, and the split of `digits`.
        data_dir: Folder of MNIST's four files, which are downloaded to it if they are missing;
            default: the user's cache folder.
        out: Folder of the TensorBoard run.
    """
    choices = {
        "dataset": (dataset, ("digits", "mnist")),
        "activation": (activation, ACTIVATIONS),
        "optimizer": (optimizer, OPTIMIZERS),
        "initialisation": (initialisation, INITIALISATIONS),
    }
    for argument, (given, known) in choices.items():
        if given not in known:
            raise UserError(f"--{argument}: {given!r} is not one of {', '.join(known)}")
    make_folder(out)
    torch.set_num_threads(1)  # at this size a second thread would only wait
    if dataset == "digits":
        training, test = digits(seed)
    else:
        training, test = mnist(data_dir or cache_folder() / "mnist", download=data_dir is None)
    generator = torch.Generator().manual_seed(seed)
    with memory_for(f"a network with hidden={hidden}"):
        network = Network(
            [training.x.size(1), *hidden, 10],
            ACTIVATIONS[activation]().eval(),  # RReLU with its mean slope: it must not change
            cross_entropy=not squared_error,
            initialisation=initialisation,
            generator=generator,
        )
    optimise = Optimization(optimizer=optimizer, lr=lr).make_optimizer(network.parameters())
    y = torch.eye(10)[training.y]
    board: Any = SummaryWriter(str(out))
    step, start = 0, time.perf_counter()
    figures: dict[str, float] = {}
    for epoch in range(1, epochs + 1):
        total = 0.0
        order = torch.randperm(len(y), generator=generator)
        for rows in torch.split(order, batch_size):
            values = network.forward(training.x[rows])
            network.backward(values, y[rows])
            loss = network.loss(values.a[-1], y[rows]).item()
            if not math.isfinite(loss):
                raise diverged(f"the loss is {loss}", step, epoch, lr)
            if step % 50 == 0:
                board.add_scalar("loss", loss, step)
                log_layers(board, network, values, step)
            optimise.step()
            total += loss * len(rows)
            step += 1
        if not all(bool(p.isfinite().all()) for p in network.parameters()):
            raise diverged("the weights are not finite", step, epoch, lr)
        figures = {
            "train_loss": total / len(y),
            "train_accuracy": accuracy(network, training),
            "test_accuracy": accuracy(network, test),
        }
        for name, value in figures.items():
            board.add_scalar(name.replace("_", " "), value, step)
        print(f"epoch {epoch:3d}  " + "  ".join(f"{k} {v:.4f}" for k, v in figures.items()))
    units = network.weights[0][:50]
    board.add_figure("weights/layer 1", picture_grid(units, [f"{i}" for i in range(len(units))]))
    board.add_figure("wrongly read digits", wrong_digits(network, test))
    board.close()
    seconds = time.perf_counter() - start
    record = {**figures, "seconds": seconds, **provenance(seed)}
    write_json(out / "result.json", record)
    wrong = round((1 - figures["test_accuracy"]) * len(test.y))
    print(f"test accuracy {figures['test_accuracy']:.2%}: {wrong} of {len(test.y)} wrongly read")
    print(f"look: tensorboard --logdir {out}")


if __name__ == "__main__":
    run(main)
