"""Too large a batch needs too much memory.

Changed after a first run: memory grows with the batch by construction, so it is compared with the
memory that an update needs whatever the batch size is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from dlnotes.claims.claim import Budget, Claim, Finding, Verdict
from dlnotes.claims.statistics import over_cases
from dlnotes.models import TextCNN, TextRNN, Transformer
from dlnotes.optim import OPTIMIZERS

WORDS, CLASSES, TOKENS = 4000, 6, 24
MODELS: dict[str, Callable[[], nn.Module]] = {
    "TextCNN": lambda: TextCNN(vocabulary_size=WORDS, num_classes=CLASSES, dropout=0.0),
    "TextRNN": lambda: TextRNN(vocabulary_size=WORDS, num_classes=CLASSES, dropout=0.0),
    "Transformer": lambda: Transformer(
        vocabulary_size=WORDS,
        num_classes=CLASSES,
        embedding_dim=64,
        num_layers=2,
        feedforward_dim=256,
        dropout=0.0,
    ),
}
BATCHES = (8, 16, 32, 64, 128)
PART = 8
SAME = 1e-10
RULES = ("gradient-descent", "momentum", "rmsprop", "adam")


def documents(batch: int) -> tuple[Tensor, Tensor]:
    """Documents of random words, all of the same length, and classes."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(2, WORDS, (batch, TOKENS), generator=generator)
    return x, torch.randint(CLASSES, (batch,), generator=generator)


def backward(model: nn.Module, x: Tensor, y: Tensor, part: int) -> tuple[int, list[Tensor]]:
    """Gradients of the mean loss, added up over parts of the batch.

    Args:
        model: The model.
        x: Tokens.
        y: Classes.
        part: Number of examples that are computed at a time.

    Returns:
        The largest number of bytes that autograd keeps for a backward pass (without parameters;
        memory that tensors share is counted once), and the gradient of each parameter.
    """
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    most = 0
    model.zero_grad()
    for some, classes in zip(x.split(part), y.split(part), strict=True):
        kept: dict[int, Tensor] = {}  # keeps them alive, so that no address is used twice

        def keep(saved: Tensor, kept: dict[int, Tensor] = kept) -> Tensor:
            kept[saved.untyped_storage().data_ptr()] = saved
            return saved

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda saved: saved):
            # Copies: views would keep the whole batch alive.
            scores, labels = model(some.clone()), classes.clone()
            loss = nn.functional.cross_entropy(scores, labels, reduction="sum") / len(x)
        sizes = {at: t.untyped_storage().nbytes() for at, t in kept.items() if at not in own}
        most = max(most, sum(sizes.values()))
        loss.backward()
    return most, [p.grad.clone() for p in model.parameters() if p.grad is not None]


def made(name: str) -> nn.Module:
    """A model with the same weights each time."""
    with torch.random.fork_rng(()):
        torch.manual_seed(0)
        return MODELS[name]()


def held(model: nn.Module, rule: str) -> int:
    """Bytes of parameters, gradients and the optimizer's state after a step."""
    parameters = list(model.parameters())
    for p in parameters:
        p.grad = torch.ones_like(p)
    optimizer = OPTIMIZERS[rule](parameters)
    optimizer.step()
    state = [x for each in optimizer.state.values() for x in each.values()]
    tensors = [*parameters, *parameters, *(x for x in state if isinstance(x, Tensor))]
    return sum(x.nbytes for x in tensors)


def experiment(budget: Budget) -> Finding:
    """Count the bytes that an update needs, for batches as a whole and added up from parts."""
    batches = BATCHES
    heavy, constant, same = {}, [], []
    needed: dict[str, float] = {}
    numbers: list[dict[str, str | float]] = []
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    for i, (axes, name) in enumerate(zip(figure.subplots(1, len(MODELS)), MODELS, strict=True)):
        model = made(name)
        whole = [backward(model, *documents(batch), batch)[0] for batch in batches]
        parts = [backward(model, *documents(batch), PART)[0] for batch in batches]
        rises = [
            (b - a) / (n - m)
            for (a, b), (m, n) in zip(pairwise(whole), pairwise(batches), strict=True)
        ]
        constant.append(max(parts) == min(parts))
        double, data = made(name).double(), documents(batches[-1])
        exact, added = (backward(double, *data, part)[1] for part in (batches[-1], PART))
        apart = max(
            ((a - b).abs().max() / b.abs().max()).item() for a, b in zip(added, exact, strict=True)
        )
        same.append(apart <= SAME)
        fixed = {rule: held(made(name), rule) for rule in RULES}
        more = whole[-1] > fixed["adam"]
        heavy[name] = Verdict.HOLDS if more else Verdict.DOES_NOT_HOLD
        constant_part = whole[0] - rises[0] * batches[0]
        room = fixed["adam"] - constant_part
        needed[name] = math.ceil(room / rises[0]) if rises[0] > 0 else math.inf
        numbers.append(
            {
                "model": name,
                "parameters": sum(p.numel() for p in model.parameters()),
                **{
                    f"parameters, gradients, {rule}'s state (MB)": fixed[rule] / 1e6
                    for rule in RULES
                },
                "an example (MB)": rises[-1] / 1e6,
                f"batch of {batches[-1]} (MB)": whole[-1] / 1e6,
                f"the same in parts of {PART} (MB)": parts[-1] / 1e6,
                "difference of the gradients": apart,
                "batch that needs as much as parameters and Adam": needed[name],
            }
        )
        axes.plot(batches, [x / 1e6 for x in whole], "o-", label="at once")
        axes.plot(batches, [x / 1e6 for x in parts], "o-", label=f"in parts of {PART}")
        axes.axhline(fixed["adam"] / 1e6, color="grey", ls=":", label="parameters and Adam")
        axes.set(title=name, xlabel="examples of a batch", ylim=(0, None))
        if not i:
            axes.set_ylabel("memory (MB)")
            axes.legend(fontsize=8)
    verdict, conditions = over_cases([*heavy.values()]), []
    if verdict is not Verdict.DOES_NOT_HOLD:
        if verdict is Verdict.HOLDS_ONLY_IF:
            models = [name for name, each in heavy.items() if each is Verdict.HOLDS]
            conditions.append(f"the model is the {' or the '.join(models)}")
        if all((*constant, *same)):
            verdict = Verdict.HOLDS_ONLY_IF
            conditions.append("the examples are computed at once")
    effect = min(needed.values())
    return Finding(
        verdict=verdict,
        condition=" and ".join(conditions),
        effect=effect,
        effect_name=(
            "examples of a batch that take as much memory as parameters, gradients and Adam's "
            f"state, least of {len(MODELS)} models"
        ),
        interval=(effect, effect),
        runs=0,
        numbers=numbers,
        figure=figure,
        left_out=(
            "Memory that a library needs for a moment within an operation; recomputing in the "
            "backward pass instead of keeping; longer texts, which need more; larger "
            "vocabularies, whose batch may be larger."
        ),
    )


CLAIM = Claim(
    name="too-large-batch-needs-too-much-memory",
    notes="§8, 7",
    sentence="Too large a batch needs too much memory.",
    hypothesis=(
        f"For {BATCHES[-1]} examples of {TOKENS} words autograd keeps more bytes for the backward "
        "pass of a TextCNN, a TextRNN and a Transformer than parameters, gradients and Adam's "
        "state take together, also where the gradient is added up from "
        f"parts of {PART} examples."
    ),
    criterion=(
        "Does not hold if it keeps fewer in every model. Holds with the condition that the model "
        "is one of those in which it keeps more, if there are others; and with the condition that "
        "the examples are computed at once, if in parts the bytes do not grow with the batch while "
        "the gradient is the same to 1e-10 in float64. Else holds."
    ),
    literature=(
        "Memory for activations grows with the batch and can be traded for computation (Chen et "
        "al. 2016, https://arxiv.org/abs/1604.06174); gradients that are added up give the same "
        "update, unless layers look at the whole batch, as batch normalization does (Ott et al. "
        "2018, §3, https://arxiv.org/abs/1806.00187, for updates that are delayed so)."
    ),
    experiment=experiment,
    cost=6.0,
)
