"""The one loop: what it keeps, when it stops, what it refuses, and going on bit for bit."""

import os
import re
import signal
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import dlnotes.training.fit as fit_module
from dlnotes.errors import UserError
from dlnotes.models import MODELS
from dlnotes.optim import OPTIMIZERS, Adam, GradientDescent, clip_grad_norm_
from dlnotes.training import checkpoint
from dlnotes.training.board import Board
from dlnotes.training.classifier import default_tokenizer
from dlnotes.training.evaluate import evaluate
from dlnotes.training.fit import Interrupted
from dlnotes.training.objectives import SingleLabel
from dlnotes.training.schedule import constant, halving, inverse_sqrt, linear, with_warmup
from small import fitted, make


def run(dataset, model, optimizer=None, **options):
    optimizer = optimizer or Adam(model.parameters(), lr=0.02)
    options = {"epochs": 3, "batch_size": 16, "progress": False} | options
    return fitted(model, optimizer, dataset.train, dataset.dev, **options)


@pytest.mark.parametrize("name", MODELS)
def test_every_model_learns(datasets, name):
    dataset = datasets(default_tokenizer(name))
    model = make(dataset, name)
    state = run(dataset, model, epochs=8)
    assert evaluate(model, dataset.read_test()).accuracy >= 0.9
    assert len(state.history) == 8


def test_the_best_epochs_weights_are_a_real_copy(dataset):
    """With a rate that ruins the model later, the weights kept must be those of the best epoch."""
    model = make(dataset)
    seen = []

    class Spy(SingleLabel):
        def evaluate(self, model, documents, **options):
            seen.append({n: w.clone() for n, w in model.state_dict().items()})
            return super().evaluate(model, documents, **options)

    schedule = lambda step, steps: 1 if step < 28 else 300  # noqa: E731
    state = run(dataset, model, epochs=6, schedule=schedule, objective=Spy())
    assert state.best_epoch < 6
    kept = model.state_dict()
    for name, weight in seen[state.best_epoch - 1].items():
        assert torch.equal(kept[name], weight)
    assert any(not torch.equal(kept[n], w) for n, w in seen[-1].items())
    best = max(state.history, key=lambda r: (r["dev_accuracy"], -r["dev_loss"]))
    assert best["epoch"] == state.best_epoch


def test_patience(dataset):
    model = make(dataset)
    state = run(dataset, model, GradientDescent(model.parameters(), lr=0.0), epochs=9, patience=2)
    assert (state.epoch, state.best_epoch) == (3, 1)


def test_without_dev_the_last_epoch_is_kept(dataset):
    both, model = make(dataset), make(dataset)
    options = {
        "epochs": 5,
        "batch_size": 16,
        "progress": False,
        "stop_after": 2,
        "schedule": linear,
    }
    states = []
    for m, dev in ((both, dataset.dev), (model, None)):
        torch.manual_seed(1)
        states.append(fitted(m, Adam(m.parameters(), lr=1e-3), dataset.train, dev, **options))
    assert [s.epoch for s in states] == [2, 2]
    assert states[0].best_epoch == states[1].best_epoch == 2
    assert set(states[1].history[0]) == {"epoch", "train_loss", "documents_per_second"}
    for a, b in zip(both.parameters(), model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_training_goes_on_until_its_loss_is_low_enough(dataset):
    def trained(**options):
        torch.manual_seed(1)
        model = make(dataset)
        rule = Adam(model.parameters(), lr=1e-2)
        options = {"batch_size": 16, "progress": False, "schedule": linear, **options}
        return fitted(model, rule, dataset.train, None, epochs=5, **options)

    losses = [record["train_loss"] for record in trained().history]
    assert losses == sorted(losses, reverse=True)
    for below, epochs in ((losses[0], 1), (losses[2], 3), (0.0, 5)):
        state = trained(stop_after=1, stop_below=below)
        assert [record["train_loss"] for record in state.history] == losses[:epochs]


def test_stopping_early_leaves_the_schedule_as_it_is(dataset):
    rates = []
    model = make(dataset)
    rule = Adam(model.parameters(), lr=1.0)
    rule.register_step_post_hook(lambda rule, *_: rates.append(rule.param_groups[0]["lr"]))
    run(dataset, model, rule, epochs=4, stop_after=1, schedule=lambda step, steps: 1 - step / steps)
    assert rates == [1 - i / (4 * len(rates)) for i in range(len(rates))]


def test_schedules():
    assert [linear(s, 4) for s in range(4)] == [1, 0.75, 0.5, 0.25]
    assert constant(3, 4) == 1
    # Every 25 of 200 epochs of 10 updates.
    assert [halving(s, 2000) for s in (0, 249, 250, 499, 500, 1999)] == [
        1,
        1,
        0.5,
        0.5,
        0.25,
        2**-7,
    ]
    warm = with_warmup(linear, 0.5)
    np.testing.assert_allclose(
        [warm(s, 8) for s in range(8)], [0.2, 0.4, 0.6, 0.8, 1, 0.75, 0.5, 0.25]
    )
    with pytest.raises(UserError, match="warmup must be a share"):
        with_warmup(linear, 1.0)


def test_inverse_sqrt_is_the_schedule_of_the_transformer():
    d, steps = 512, 100
    rises = 20  # the paper counts updates from 1 and reaches the peak in the last one that rises
    warm = with_warmup(inverse_sqrt, (rises - 0.5) / steps)
    paper = [d**-0.5 * min(n**-0.5, n * rises**-1.5) for n in range(1, steps + 1)]
    peak = (d * rises) ** -0.5
    np.testing.assert_allclose([peak * warm(s, steps) for s in range(steps)], paper)
    assert [inverse_sqrt(s, 9) for s in (0, 3, 8)] == [1, 1 / 2, 1 / 3]


def test_the_schedule_reaches_the_optimizer(dataset):
    model = make(dataset)
    optimizer = GradientDescent(model.parameters(), lr=0.5)
    rates = []
    optimizer.register_step_pre_hook(lambda o, *_: rates.append(o.param_groups[0]["lr"]))
    run(dataset, model, optimizer, epochs=1, schedule=linear)
    steps = len(rates)
    np.testing.assert_allclose(rates, [0.5 * (1 - s / steps) for s in range(steps)])


def test_batch_regimes_make_so_many_updates(dataset):
    documents = len(dataset.train)
    for batch_size, steps in ((None, 1), (1, documents), (50, -(-documents // 50))):
        state = run(dataset, make(dataset, "fasttext"), epochs=1, batch_size=batch_size)
        assert state.step == steps


def test_full_batch_update_is_the_gradient_of_the_mean(dataset):
    """BGD by hand: one step along the gradient over all documents."""
    model, twin = make(dataset, "fasttext", sparse=False), make(dataset, "fasttext", sparse=False)
    rate = 0.5
    run(dataset, model, GradientDescent(model.parameters(), lr=rate), epochs=1, batch_size=None)
    everything = dataset.train.batch(np.arange(len(dataset.train)))
    nn.functional.cross_entropy(twin(everything.tokens), everything.labels).backward()
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p, q - rate * q.grad, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("options", [{"class_weights": torch.tensor([1.0, 2.0, 3.0])}, {"label_smoothing": 0.1}])  # fmt: skip
def test_class_weights_and_label_smoothing_alone_are_torchs(dataset, options):
    model, twin = make(dataset, "fasttext", sparse=False), make(dataset, "fasttext", sparse=False)
    rule = GradientDescent(model.parameters(), lr=0.1)
    state = run(dataset, model, rule, epochs=1, batch_size=None, **options)
    batch = dataset.train.batch(np.arange(len(dataset.train)))
    loss = nn.functional.cross_entropy(
        twin(batch.tokens),
        batch.labels,
        options.get("class_weights"),
        label_smoothing=options.get("label_smoothing", 0.0),
    )
    assert state.history[0]["train_loss"] == pytest.approx(loss.item(), rel=1e-5)


def test_gradients_are_clipped_before_every_update(dataset, monkeypatch):
    model = make(dataset, "fasttext", sparse=False)
    calls, norms = [], []

    def clip(parameters, max_norm):
        norm = nn.utils.clip_grad_norm_(parameters, max_norm)
        calls.append(float(norm))
        return norm

    monkeypatch.setattr(fit_module, "clip_grad_norm_", clip)

    rule = GradientDescent(model.parameters(), lr=0.1)

    def measure(*_):
        norms.append(float(torch.cat([p.grad.flatten() for p in model.parameters()]).norm()))

    rule.register_step_pre_hook(measure)
    state = run(dataset, model, rule, epochs=1, clip_norm=1e-3)
    assert len(calls) == state.step
    assert min(calls) > 1e-3
    assert max(norms) < 1.001e-3


def test_constrain_is_called_after_each_update(dataset):
    model = make(dataset)
    calls = []
    model.constrain_ = lambda: calls.append(0)
    assert run(dataset, model, epochs=2).step == len(calls)


def test_a_loss_that_is_not_finite_stops_and_keeps_the_checkpoint(dataset, tmp_path):
    model = make(dataset)
    path = tmp_path / "checkpoint.pt"
    poison = {"at": 20}

    def schedule(step, steps):
        if step == poison["at"]:
            with torch.no_grad():
                model.output.weight.fill_(float("nan"))
        return 1.0

    with pytest.raises(
        UserError, match=r"loss became nan at step 2\d .*lower --lr.*last good state"
    ):
        run(dataset, model, schedule=schedule, checkpoint=path, checkpoint_every=5)
    kept = torch.load(path, weights_only=True)
    assert kept["state"]["step"] == 20
    assert all(w.isfinite().all() for w in kept["model"].values())


@pytest.mark.parametrize("stop_after", [5, 14, 20])
@pytest.mark.parametrize("name", MODELS)
def test_interrupted_and_resumed_equals_uninterrupted(dataset, tmp_path, name, stop_after):
    """SIGINT within an epoch or at its end; dropout, order, optimizer and schedule go on."""
    options = {"epochs": 3, "schedule": "linear", "warmup": 0.1, "seed": 5}
    whole = make(dataset, name)
    expected = run(dataset, whole, checkpoint=tmp_path / "a.pt", **options)

    model = make(dataset, name)
    optimizer = Adam(model.parameters(), lr=0.02)

    def interrupt(*_):
        interrupt.calls += 1
        if interrupt.calls == stop_after:
            os.kill(os.getpid(), signal.SIGINT)

    interrupt.calls = 0
    optimizer.register_step_post_hook(interrupt)
    path = tmp_path / "b.pt"
    with pytest.raises(Interrupted):
        run(dataset, model, optimizer, checkpoint=path, **options)
    torch.manual_seed(999)  # whatever happened in between must not matter
    other = make(dataset, name)
    state = run(dataset, other, checkpoint=path, resume=True, **options)
    for a, b in zip(whole.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    times = {"documents_per_second"}
    assert [{k: v for k, v in r.items() if k not in times} for r in state.history] == [
        {k: v for k, v in r.items() if k not in times} for r in expected.history
    ]
    first, second = (torch.load(tmp_path / f, weights_only=True) for f in ("a.pt", "b.pt"))
    for name, entry in first["optimizer"]["state"].items():
        for key, value in entry.items():
            assert torch.equal(value, second["optimizer"]["state"][name][key])


def test_resuming_refuses_what_does_not_fit(dataset, tmp_path):
    path = tmp_path / "c.pt"
    model = make(dataset)
    with pytest.raises(UserError, match="there is nothing to resume"):
        run(dataset, model, checkpoint=path, resume=True)
    run(dataset, model, epochs=1, checkpoint=path, settings={"lr": 1, "epochs": 1})
    with pytest.raises(UserError, match=r"written with lr=1, now it is 2"):
        run(dataset, model, checkpoint=path, resume=True, settings={"lr": 2, "epochs": 1})
    with pytest.raises(UserError, match="another model or optimizer"):
        run(dataset, make(dataset, "fasttext"), epochs=1, checkpoint=path, resume=True)
    for content in (b"", b"junk", path.read_bytes()[:-500]):
        path.write_bytes(content)
        with pytest.raises(UserError, match="is not a checkpoint"):
            run(dataset, model, checkpoint=path, resume=True)
    torch.save({"foreign": 1}, path)
    with pytest.raises(UserError, match="is not a checkpoint"):
        run(dataset, model, checkpoint=path, resume=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"patience": 0}, "patience must be at least 1"),
        ({"stop_after": 0}, "stop_after must be at least 1"),
        ({"stop_below": -1.0}, "stop_below must be at least 0"),
        ({"schedule": "odd"}, "schedule must be one of constant, linear, inverse_sqrt, halving"),
        ({"warmup": 1.0}, "warmup must be at least 0 and below 1"),
        ({"clip_norm": 0.0}, "clip_norm must be above 0"),
        ({"batch_size": -1}, "batch_size must be at least 0"),
    ],
)
def test_bad_arguments(dataset, options, message):
    with pytest.raises(UserError, match=message):
        run(dataset, make(dataset), **options)


def test_fit_knows_neither_models_nor_rules(dataset):
    """Any module, any optimizer, torch's own included."""

    class Bag(nn.Module):
        def __init__(self):
            super().__init__()
            self.bag = nn.EmbeddingBag(len(dataset.vocabulary), 3, padding_idx=0)

        def forward(self, tokens):
            return self.bag(tokens)

    model = Bag()
    run(dataset, model, torch.optim.SGD(model.parameters(), lr=5.0), epochs=10)
    assert evaluate(model, dataset.dev).accuracy > 0.9
    source = Path(fit_module.__file__).read_text()
    assert "dlnotes.models" not in source
    assert "dlnotes.optim" not in source.replace("dlnotes.optim.clipping", "")


class Waits(TorchDispatchMode):
    """Notes after which updates a value is read, which on CUDA waits for everything before it.

    The numbers of steps that Adam keeps are on the CPU everywhere: to read one waits for nothing.
    """

    NAMES = ("_local_scalar_dense", "nonzero", "masked_select", "_unique2", "_coalesce")

    def __init__(self, optimizer):
        super().__init__()
        self.optimizer, self.updates, self.after = optimizer, 0, []
        optimizer.register_step_post_hook(self.count)

    def count(self, *_):
        self.updates += 1

    def is_a_counter(self, x):
        counters = [s["step"] for s in self.optimizer.state.values() if "step" in s]
        return x.data_ptr() in [c.data_ptr() for c in counters if isinstance(c, torch.Tensor)]

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function._schema.name.removeprefix("aten::")
        if name in self.NAMES and not (name == self.NAMES[0] and self.is_a_counter(args[0])):
            self.after.append((name, self.updates))
        return function(*args, **(kwargs or {}))


def reads(dataset, model, optimizer, **options):
    """Names of what waits, in updates after which nothing should be read; and how often else.

    `PendingNumbers` are read only when they have come.
    """
    read = fit_module.PendingNumbers.read
    with Waits(optimizer) as waits, pytest.MonkeyPatch.context() as patch:

        def noted(figures):
            waits.after.append(("figures", waits.updates))
            return read(figures)

        patch.setattr(fit_module.PendingNumbers, "read", noted)
        state = run(dataset, model, optimizer, batch_size=2, epochs=1, **options)
    assert state.step == waits.updates > 100
    # The weights are looked at once before the first update, which has n = 0 as well.
    at_first = [name for name, n in waits.after if n == 0 and name != "_coalesce"]
    assert at_first[0] == "_local_scalar_dense"
    shown = [
        (n % 10 == 0 and (n, name) != (0, "_coalesce")) or n == state.step
        for name, n in waits.after
    ]
    late = [name for (name, _), due in zip(waits.after, shown, strict=True) if not due]
    hidden = at_first[1:] + late
    tenth = [n for name, n in waits.after if name != "_coalesce" and 0 < n < state.step]
    return hidden, max(map(tenth.count, tenth))


CLIPPED = {"clip_norm": 0.1}


@pytest.mark.parametrize(("options", "board"), [({}, False), (CLIPPED, True)], ids=["", "more"])
@pytest.mark.parametrize("rule", [torch.optim.SGD, torch.optim.Adam, *OPTIMIZERS.values()])
def test_the_loop_reads_values_only_now_and_then(dataset, tmp_path, rule, options, board):
    """The CPU twin of: no hidden CUDA synchronisation in an update."""
    model = make(dataset)
    kwargs = {"fused": False} if rule in OPTIMIZERS.values() else {}
    optimizer = rule(model.parameters(), lr=0.01, **kwargs)
    board = Board(tmp_path) if board else None
    hidden, at_once = reads(dataset, model, optimizer, **options, board=board)
    assert hidden == []
    assert at_once == 1  # the loss, its sum and the norm on the board


@pytest.mark.parametrize("rule", OPTIMIZERS.values())
def test_of_a_sparse_gradient_only_the_number_of_rows_is_waited_for(dataset, rule):
    model = make(dataset, "fasttext", sparse=True)
    optimizer = rule(model.parameters(), lr=0.01, fused=False)
    hidden, at_once = reads(dataset, model, optimizer, **CLIPPED)
    assert set(hidden) == {"_coalesce"}
    assert len(hidden) <= 120  # one an update
    assert at_once == 1


def test_a_value_read_in_every_update_is_noticed(dataset, monkeypatch):
    model = make(dataset)
    rule = GradientDescent(model.parameters(), lr=0.01, fused=False)
    clip = partial(clip_grad_norm_, error_if_nonfinite=True)
    monkeypatch.setattr(fit_module, "clip_grad_norm_", clip)
    hidden, _ = reads(dataset, model, rule, clip_norm=0.1)
    assert hidden.count("_local_scalar_dense") > 90


@pytest.mark.parametrize("options", [{}, {"class_weights": torch.tensor([1.0, 2.0, 3.0])}, {"label_smoothing": 0.1}])  # fmt: skip
def test_the_likelihood_of_a_label_gives_the_loss_of_all_scores(dataset, options):
    more = {"sparse": False, "output": "hierarchical"}
    model, twin = make(dataset, "fasttext", **more), make(dataset, "fasttext", **more)
    rate = 0.5
    rule = GradientDescent(model.parameters(), lr=rate)
    state = run(dataset, model, rule, epochs=1, batch_size=None, **options)
    batch = dataset.train.batch(np.arange(len(dataset.train)))
    weights, smoothing = options.get("class_weights"), options.get("label_smoothing", 0.0)
    loss = nn.functional.cross_entropy(
        twin(batch.tokens), batch.labels, weights, label_smoothing=smoothing
    )
    assert state.history[0]["train_loss"] == pytest.approx(loss.item(), rel=1e-5)
    loss.backward()
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p, q - rate * q.grad, rtol=1e-5, atol=1e-7)


def test_a_setting_that_a_later_version_adds_has_its_old_meaning(monkeypatch, tmp_path):
    monkeypatch.setitem(checkpoint.DEFAULTS_BEFORE, "decay", 0.0)
    before, path = {"lr": 1, "widths": (2, 3), "gone": 5}, tmp_path / "c.pt"
    check = checkpoint.check_same_settings
    check(path, before, {"lr": 1, "widths": [2, 3], "decay": 0.0})
    check(path, None, {"lr": 1})
    check(path, before, None)
    with pytest.raises(UserError, match=r"written with decay=0.0, now it is 0.5"):
        check(path, before, {"lr": 1, "decay": 0.5})
    with pytest.raises(UserError, match=r"written with widths=\(2, 3\), now it is \[2, 4\]"):
        check(path, before, {"lr": 1, "widths": [2, 4]})


def test_a_signal_during_the_last_measurement_counts(dataset, tmp_path):
    class Slow(SingleLabel):
        def evaluate(self, *args, **options):
            calls.append(0)
            if len(calls) == 2:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().evaluate(*args, **options)

    calls, path, whole = [], tmp_path / "c.pt", make(dataset)
    expected = run(dataset, whole, epochs=2)
    model = make(dataset)
    with pytest.raises(Interrupted):
        run(dataset, model, epochs=2, checkpoint=path, objective=Slow())
    other = make(dataset)
    state = run(dataset, other, epochs=2, checkpoint=path, resume=True, objective=Slow())
    assert len(calls) == 3  # the last one was broken off, and nothing else was left to be done
    assert state.best_epoch == expected.best_epoch
    for a, b in zip(whole.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_figures_of_any_kind_choose_the_epoch(dataset):
    class Error:
        """A score that is never positive, and nothing that progress knows by name."""

        def __init__(self, figures):
            self.loss, self.score = figures.loss, -5 - figures.loss

        def summary(self):
            return {"loss": self.loss, "error": -self.score}

    class Odd(SingleLabel):
        def evaluate(self, *args, **options):
            return Error(super().evaluate(*args, **options))

    state = run(dataset, make(dataset), epochs=3, objective=Odd(), progress=True)
    best = min(state.history, key=lambda row: row["dev_loss"])
    assert state.best_epoch == best["epoch"]


def test_an_epoch_is_one_short_line(dataset, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    run(dataset, make(dataset), epochs=2, progress=True)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    for line in lines:
        assert re.fullmatch(r"epoch   \d  loss \d\.\d{4}  dev loss \d\.\d{4}  dev accuracy \d\.\d{4}  +[\d,]+ docs/s(  \*)?", line), line  # fmt: skip


def test_what_cannot_be_fitted_is_told(dataset):
    nothing = dataset.train.take(np.arange(0))
    model = make(dataset)
    for objective, train, dev, told in (
        (
            SingleLabel,
            dataset.train,
            None,
            r"objective must be an instance such as SingleLabel\(\)",
        ),
        (SingleLabel(), nothing, None, "train has no documents"),
        (SingleLabel(), dataset.train, nothing, "dev has no documents"),
    ):
        with pytest.raises(UserError, match=told):
            fitted(model, Adam(model.parameters()), train, dev, objective, epochs=1)
    for smoothing in (float("nan"), -1.0, 2.0):
        with pytest.raises(UserError, match="label_smoothing must be "):
            SingleLabel(None, smoothing)
    for weights in ("x", [[1.0]], object()):
        with pytest.raises(UserError, match="class_weights must be "):
            SingleLabel(weights)
    assert SingleLabel([1, 2, 3]).weights.dtype == torch.float32


def test_gradients_are_on_whatever_the_caller_does(dataset):
    model = make(dataset)
    with torch.no_grad():
        state = run(dataset, model, epochs=1)
    assert state.step == 14


def test_without_settings_those_of_the_fitting_are_compared(dataset, tmp_path):
    path = tmp_path / "c.pt"
    run(dataset, make(dataset), epochs=1, checkpoint=path)
    with pytest.raises(UserError, match="written with batch_size=16, now it is 50"):
        run(dataset, make(dataset), epochs=1, batch_size=50, checkpoint=path, resume=True)
