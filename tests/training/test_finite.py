"""What is kept or handed out is finite: checkpoints, classifiers, the trained model itself."""

import dataclasses
import itertools
import os
import signal
import warnings

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import dlnotes.training.fit as fit_module
from dlnotes.data.pairs import load_pairs
from dlnotes.errors import UserError
from dlnotes.optim import OPTIMIZERS, Adam, GradientDescent, clip_grad_norm_
from dlnotes.training import evaluate
from dlnotes.training.board import Board, confusion_figure, gradient_norm
from dlnotes.training.classifier import TextClassifier
from dlnotes.training.ensemble import load_members, make_ensemble
from dlnotes.training.explain import Explanation, attention_figure
from dlnotes.training.finite import MAX_WEIGHT, defect
from dlnotes.training.folder import CLASSIFIER, WEIGHTS
from dlnotes.training.objectives import Sequence, SingleLabel
from dlnotes.training.settings import Optimization
from dlnotes.training.train import train_classifier
from dlnotes.training.translation import train_translator
from dlnotes.training.weights import weights_writer
from measured import measured
from small import SMALL, fitted, make

NAN, INF = float("nan"), float("inf")


def run(dataset, model, optimizer=None, **options):
    optimizer = optimizer or Adam(model.parameters(), lr=0.02)
    options = {"epochs": 3, "batch_size": 16, "progress": False, "dev": dataset.dev} | options
    return fitted(model, optimizer, dataset.train, options.pop("dev"), **options)


UPDATES = 14  # in an epoch: 216 documents


def unused_row(model, optimizer):
    """A vector of padding, which no loss ever sees."""
    return model.vectors.weight.data[0]


PLACES = {
    "a weight that no loss sees": (unused_row, "vectors.weight holds"),
    "a bias": (lambda m, o: m.output.bias.data, "output.bias holds|loss became"),
    "a state of the optimizer": (
        lambda m, o: o.state[m.output.weight]["v"],
        "optimizer's v of output.weight holds|loss became",
    ),
}


def plant(optimizer, at, place, value, model):
    """Put a number into a tensor when `at` updates are done."""
    calls = itertools.count(1)

    def hook(*_):
        if next(calls) == at:
            place(model, optimizer)[:1] = value

    optimizer.register_step_post_hook(hook)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("at", [1, 3 * UPDATES])
@pytest.mark.parametrize("with_dev", [True, False])
def test_nothing_that_is_not_finite_is_returned(dataset, place, value, at, with_dev):
    """In the first update and in the very last one, with a dev split and without."""
    model = make(dataset)
    optimizer = Adam(model.parameters(), lr=0.02)
    plant(optimizer, at, PLACES[place][0], value, model)
    with pytest.raises(UserError, match=PLACES[place][1]) as told:
        run(dataset, model, optimizer, dev=dataset.dev if with_dev else None)
    epoch = 1 + (at - 1) // UPDATES
    assert f"(epoch {epoch}): the training has diverged; lower --lr (now 0.02)" in str(told.value)
    assert "good state" not in str(told.value)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("at", [7, 18])
def test_the_checkpoint_stays_good_and_resume_goes_on_from_it(dataset, tmp_path, place, at):
    """A fault that comes once, such as that of a device: the run ends as if it had not been."""
    options = {"checkpoint_every": 5, "settings": {"lr": 0.02}}
    whole = make(dataset)
    run(dataset, whole, checkpoint=tmp_path / "whole.pt", **options)
    path = tmp_path / "checkpoint.pt"
    model = make(dataset)
    optimizer = Adam(model.parameters(), lr=0.02)
    plant(optimizer, at, PLACES[place][0], NAN, model)
    good = at // 5 * 5
    kept = f"checkpoint.pt holds the last good state, of step {good}$"
    with pytest.raises(UserError, match=kept) as told:
        run(dataset, model, optimizer, checkpoint=path, **options)
    # Looked at by the next checkpoint or the epoch's end, whichever comes first.
    assert f"at step {min(good + 5, -(-at // UPDATES) * UPDATES)} " in str(told.value)
    saved = torch.load(path, weights_only=True)
    assert saved["state"]["step"] == good
    for tensor in (*saved["model"].values(), *saved["best_weights"].values()):
        assert tensor.isfinite().all()
    for entries in saved["optimizer"]["state"].values():
        assert all(e.isfinite().all() for e in entries.values())
    again = make(dataset)
    run(dataset, again, checkpoint=path, resume=True, **options)
    for a, b in zip(whole.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_resumed_run_that_is_lost_names_what_it_was_resumed_from(dataset, tmp_path):
    path = tmp_path / "checkpoint.pt"
    run(dataset, make(dataset), stop_after=1, checkpoint=path)
    model = make(dataset)
    optimizer = Adam(model.parameters(), lr=0.02)
    plant(optimizer, 3, unused_row, NAN, model)
    with pytest.raises(UserError, match=r"at step 28 .*holds the last good state, of step 14$"):
        run(dataset, model, optimizer, checkpoint=path, resume=True)


def test_an_interruption_does_not_save_what_is_lost(dataset, tmp_path):
    model = make(dataset)
    optimizer = Adam(model.parameters(), lr=0.02)
    plant(optimizer, 7, unused_row, NAN, model)
    calls = itertools.count(1)
    optimizer.register_step_post_hook(
        lambda *_: next(calls) == 8 and os.kill(os.getpid(), signal.SIGINT)
    )
    path = tmp_path / "checkpoint.pt"
    with pytest.raises(UserError, match=r"vectors.weight holds NaN at step 8 .*of step 5"):
        run(dataset, model, optimizer, checkpoint=path, checkpoint_every=5)
    assert torch.load(path, weights_only=True)["state"]["step"] == 5


def test_what_is_not_finite_at_the_start_is_told_before_the_first_update(dataset, tmp_path):
    model = make(dataset)
    unused_row(model, None)[0] = NAN
    with pytest.raises(UserError, match=r"vectors.weight holds NaN before the first update: .*--vectors"):  # fmt: skip
        run(dataset, model)


@pytest.mark.parametrize("part", ["model", "optimizer", "best_weights"])
def test_a_checkpoint_that_is_not_finite_is_not_gone_on_from(dataset, tmp_path, part):
    """Such as an earlier version could write."""
    path = tmp_path / "checkpoint.pt"
    run(dataset, make(dataset), epochs=3, stop_after=1, checkpoint=path)
    saved = torch.load(path, weights_only=True)
    tensors = saved[part]["state"][0]["m"] if part == "optimizer" else saved[part]["output.bias"]
    tensors[0] = NAN
    torch.save(saved, path)
    with pytest.raises(UserError, match=r"NaN before the first update: .*checkpoint.pt cannot be used"):  # fmt: skip
        run(dataset, make(dataset), checkpoint=path, resume=True)


@pytest.mark.parametrize("loss", [NAN, INF])
def test_a_loss_on_dev_that_is_not_finite_chooses_no_epoch(dataset, tmp_path, monkeypatch, loss):
    """Accuracy would: of NaN scores the first class is the best, and some documents are of it."""
    evaluate, calls = SingleLabel.evaluate, itertools.count(1)

    def lost(*args, **options):
        measured = evaluate(*args, **options)
        return dataclasses.replace(measured, loss=loss) if next(calls) == 2 else measured

    monkeypatch.setattr(SingleLabel, "evaluate", lost)
    path = tmp_path / "checkpoint.pt"
    with pytest.raises(UserError, match=rf"loss on dev became {loss} at step 28 \(epoch 2\): .*of step 25"):  # fmt: skip
        run(dataset, make(dataset), patience=1, checkpoint=path, checkpoint_every=5)
    assert torch.load(path, weights_only=True)["state"]["best_epoch"] == 1


def test_sequences_on_dev_are_looked_at_as_well(numbers, tmp_path, monkeypatch):
    evaluate = Sequence.evaluate
    monkeypatch.setattr(
        Sequence,
        "evaluate",
        lambda *args, **options: dataclasses.replace(evaluate(*args, **options), loss=NAN),
    )
    with pytest.raises(UserError, match="loss on dev became nan"):
        train_translator(numbers, out=tmp_path / "run", **TRANSLATOR)


class Masked(nn.Module):
    """A classifier with buffers: a mask of -inf, which is no fault, and a running mean."""

    def __init__(self, dataset):
        super().__init__()
        torch.manual_seed(0)
        self.bag = nn.EmbeddingBag(len(dataset.vocabulary), 3, padding_idx=0)
        self.register_buffer("mask", torch.tensor([0.0, -INF, 0.0]))
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.register_buffer("empty", torch.zeros(0))

    def forward(self, tokens):
        return self.bag(tokens) + 0 * self.mask.clamp(min=-1e9)


def test_a_mask_in_a_buffer_is_no_fault(dataset, tmp_path):
    model = Masked(dataset)
    path = tmp_path / "checkpoint.pt"
    run(dataset, model, checkpoint=path, checkpoint_every=3)
    again = Masked(dataset)
    run(dataset, again, checkpoint=path, resume=True)
    weights_writer(model, tmp_path)
    model.mean[1] = NAN
    assert defect(model) == "mean holds NaN"
    with pytest.raises(UserError, match="mean holds NaN"):
        run(dataset, model)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64])  # fmt: skip
def test_what_a_defect_is(dtype):
    layer = nn.Linear(3, 2, dtype=dtype)
    largest = torch.finfo(dtype).max
    # Their norm is no finite number, though they are.
    layer.weight.data.fill_(min(largest, 0.9 * MAX_WEIGHT))
    assert defect(layer) is None
    for value, told in ((NAN, "weight holds NaN"), (INF, "weight holds an infinity"), (-INF, "weight holds an infinity")):  # fmt: skip
        layer.weight.data[1, 2] = value
        assert defect(layer) == told
    layer.weight.data.zero_()
    rule = torch.optim.Adam(layer.parameters(), lr=0.1)
    layer.weight.grad, layer.bias.grad = torch.ones_like(layer.weight), torch.ones_like(layer.bias)
    rule.step()
    assert defect(layer, rule) is None
    if not dtype.is_complex:
        # Of squares, and no fault.
        rule.state[layer.bias]["exp_avg_sq"].fill_(largest)
        assert defect(layer, rule) is None
        rule.state[layer.bias]["exp_avg_sq"][1] = INF
        assert defect(layer, rule) == "the optimizer's exp_avg_sq of bias holds an infinity"


def test_a_weight_that_has_grown_beyond_measure():
    layer = nn.Linear(3, 2)
    layer.weight.data[1, 2] = -1.5 * MAX_WEIGHT
    assert defect(layer) == "weight has grown to 2.8e+19"


def test_the_check_waits_for_the_device_once(dataset):
    class Waits(torch.utils._python_dispatch.TorchDispatchMode):
        count = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            Waits.count += function is torch.ops.aten._local_scalar_dense.default
            return function(*args, **(kwargs or {}))

    model = make(dataset, "transformer")
    with Waits():
        assert defect(model) is None
    assert Waits.count == 1


def poisoned(monkeypatch, at):
    """Adam whose update number `at` leaves a NaN where no loss looks."""
    step, calls = Adam.step, itertools.count(1)

    def once(self, *args, **options):
        result = step(self, *args, **options)
        if next(calls) == at:
            self.param_groups[0]["params"][0].data[0, 0] = NAN
        return result

    monkeypatch.setattr(Adam, "step", once)


RUN = {"model": "textcnn", "recipe": "plain", "model_settings": SMALL["textcnn"], "lr": 0.02, "batch_size": 16, "epochs": 2, "progress": False}  # fmt: skip


@pytest.mark.parametrize(("at", "checkpoint"), [(2 * UPDATES, "checkpoint.pt"), (2 * UPDATES + 9, "refit.pt")])  # fmt: skip
def test_a_run_that_is_lost_leaves_no_classifier(dataset, tmp_path, monkeypatch, at, checkpoint):
    """In the last update of the first training, and while it trains again with all documents."""
    whole, _ = train_classifier(dataset, refit=True, **RUN)
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        poisoned(patch, at)
        with pytest.raises(UserError, match=rf"vectors.weight holds NaN .*{checkpoint} holds the last good state"):  # fmt: skip
            train_classifier(dataset, out=out, refit=True, checkpoint_every=4, **RUN)
    assert not (out / CLASSIFIER).exists()
    again, _ = train_classifier(dataset, out=out, refit=True, resume=True, **RUN)
    for a, b in zip(whole.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_classifier_that_is_not_finite_is_neither_written_nor_read(dataset, tmp_path):
    classifier, _ = train_classifier(dataset, **RUN)
    classifier.save(tmp_path / "good")
    weight = classifier.model.output.bias.data
    weight[0] = NAN
    with pytest.raises(UserError, match=r"output\.bias holds NaN"):
        classifier.save(tmp_path / "bad")
    assert not (tmp_path / "bad" / "model.safetensors").exists()
    path = tmp_path / "good" / "model.safetensors"
    weights = load_file(path)
    weights["output.bias"][0] = INF
    save_file(weights, path)
    with pytest.raises(UserError, match=r"model\.safetensors cannot be used: output\.bias holds an infinity"):  # fmt: skip
        TextClassifier.load(tmp_path / "good")


def test_scores_that_are_no_numbers_are_told(dataset, labelled, tmp_path):
    """Finite weights, but infinities on the way: no label, no figure, no ensemble of them."""
    runs = [tmp_path / "a", tmp_path / "b"]
    for run_, seed in zip(runs, (0, 1), strict=True):
        train_classifier(dataset, out=run_, seed=seed, **RUN)
    bad = TextClassifier.load(runs[1])
    for weight in bad.model.parameters():
        weight.data.fill_(1e19).flatten()[::2] *= -1
    with pytest.raises(UserError, match="this textcnn gives 2 of 2 documents scores that are no"):
        bad.classify(["the goal", "court"])
    weights_writer(bad.model, runs[1])(runs[1] / CLASSIFIER / WEIGHTS)
    members = load_members(runs, {"train": labelled(240, 0)})
    for weights in ("greedy", "equal", "boosting"):
        with pytest.raises(UserError, match=rf"{runs[1]} gives \d+ of \d+ documents scores that are"):  # fmt: skip
            make_ensemble(members, None, weights=weights)
    members = [dataclasses.replace(members[0], dev_scores=torch.full((24, 3), NAN))]
    with pytest.raises(UserError, match=r"before --refit gives 24 of 24 documents"):
        make_ensemble(members, None)


def test_test_figures_are_not_made_of_nan(dataset, monkeypatch, tmp_path):
    measure = evaluate.MetricsMap.__call__

    def lost(self, logits, indices):
        return measure(self, logits * NAN if len(indices) == 60 else logits, indices)

    monkeypatch.setattr(evaluate.MetricsMap, "__call__", lost)
    with pytest.raises(UserError, match="the trained model gives 60 of 60 documents scores"):
        train_classifier(dataset, out=tmp_path / "run", **RUN)


@pytest.fixture(scope="module")
def numbers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("numbers")
    words = {"eins": "one", "zwei": "two", "drei": "three"}
    random = np.random.default_rng(0)
    for split, n in (("train", 100), ("val", 10)):
        rows = [random.choice(list(words), random.integers(1, 4)).tolist() for _ in range(n)]
        for language, word in (("de", str), ("en", words.get)):
            lines = (" ".join(map(word, row)) + ".\n" for row in rows)
            (folder / f"{split}.{language}").write_text("".join(lines), "utf-8")
    return load_pairs(folder)


TRANSLATOR = {
    "model_settings": {"embedding_dim": 8, "hidden_size": 8, "maxout_size": 8},
    "epochs": 2, "batch_size": 20, "progress": False, "test": None,
}  # fmt: skip


def test_a_translator_that_is_lost_is_not_kept(numbers, tmp_path, monkeypatch):
    poisoned(monkeypatch, 10)
    with pytest.raises(UserError, match=r"holds NaN at step 10 \(epoch 2\).*of step 9"):
        train_translator(numbers, out=tmp_path / "run", checkpoint_every=3, **TRANSLATOR)
    assert {p.name for p in (tmp_path / "run").iterdir() if "events" not in p.name} == {"checkpoint.pt"}  # fmt: skip


RATES = (1e10, 1e20, 1e30)


@pytest.mark.parametrize("name", ["fasttext", "textcnn"])
@pytest.mark.parametrize("rule", OPTIMIZERS)
def test_a_rate_that_is_far_too_high_ends_in_one_line_or_in_numbers(dataset, tmp_path, rule, name):
    """With TensorBoard, clipping and half precision, or without."""
    ways = itertools.product(RATES, (None, 1.0), (False, True), (False, True))
    for i, (lr, clip, amp, with_board) in enumerate(ways):
        model = make(dataset, name, **({"sparse": False} if name == "fasttext" else {}))
        board = Board(tmp_path / str(i)) if with_board else None
        rule_ = OPTIMIZERS[rule](model.parameters(), lr=lr)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a picture that cannot be drawn would warn
            try:
                state = run(dataset, model, rule_, epochs=2, amp=amp, board=board, clip_norm=clip)
            except UserError as error:
                assert "the training has diverged; lower --lr" in str(error)  # noqa: PT017
            else:
                assert all(np.isfinite(list(record.values())).all() for record in state.history)
                assert defect(model, rule_) is None
        if board:
            board.close()


@pytest.mark.parametrize("value", [1e19, 1e20, 3e38, INF, NAN])
def test_a_histogram_that_cannot_be_drawn_is_left_out(tmp_path, value):
    layer = nn.Linear(3, 2)
    layer.weight.data[0, 0] = value
    layer.bias.grad = torch.full((2,), value)
    board = Board(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        board.step(1, value, 1.0, float(gradient_norm(layer)))
        board.epoch(layer, 1, {"documents_per_second": 1.0, "dev_loss": value})
    board.close()


def test_nothing_drawn_ends_a_training(dataset, tmp_path):
    board = Board(tmp_path)
    for name in ("add_scalar", "add_histogram", "flush"):

        def broken(*_, name=name, **__):
            raise OSError(28, f"no space for {name}")

        setattr(board._writer, name, broken)
    with pytest.warns(UserWarning, match="TensorBoard: .* could not be drawn: .*no space for"):
        state = run(dataset, make(dataset), epochs=2, board=board)
    assert state.epoch == 2


def test_a_label_or_a_word_with_dollar_signs_is_drawn(tmp_path):
    name = r"$\nonsense{$"
    for figure in (
        confusion_figure(measured([0, 1], [1, 1], 2), [name, "pos"]),
        attention_figure(Explanation(name, 0.5, [name, "$5"], {"word": [0.1, 0.9]})),
    ):
        figure.savefig(tmp_path / "figure.png")


@pytest.mark.parametrize("value", [NAN, INF])
def test_clipping_a_gradient_that_is_not_finite_is_not_silent(dataset, monkeypatch, value):
    """The norm is then not finite, and every other gradient becomes NaN or 0."""
    model = make(dataset)

    def clip(parameters, max_norm):
        if next(calls) == 3:
            model.output.bias.grad[0] = value
        return clip_grad_norm_(parameters, max_norm)

    calls = itertools.count(1)
    monkeypatch.setattr(fit_module, "clip_grad_norm_", clip)
    with pytest.raises(UserError, match="the training has diverged"):
        run(dataset, model, GradientDescent(model.parameters(), lr=0.1), clip_norm=1.0)


@pytest.mark.parametrize("weights", [(NAN, 1.0, 1.0), (INF, 1.0, 1.0), (-1.0, 1.0, 1.0)])
def test_class_weights_are_numbers(dataset, weights):
    with pytest.raises(UserError, match="class_weights must be finite and at least 0"):
        run(dataset, make(dataset), class_weights=torch.tensor(weights))


def test_numbers_of_every_kind_are_looked_at():
    """Sparse, complex and 8-bit numbers, which have no norm or no NaN in the usual place."""
    complex_nan = torch.tensor([1 + 1j, complex(NAN, 0)])
    sparse = torch.sparse_coo_tensor([[1]], [NAN], (3,), check_invariants=True)
    compressed = torch.eye(3).to_sparse_csr()
    for buffer in (torch.eye(3).to_sparse(), compressed, torch.ones(2).to(torch.float8_e4m3fn)):
        model = torch.nn.Linear(2, 2)
        model.register_buffer("extra", buffer)
        assert defect(model) is None
    for buffer in (complex_nan, sparse, torch.tensor([NAN]).to(torch.float8_e4m3fn)):
        model = torch.nn.Linear(2, 2)
        model.register_buffer("extra", buffer)
        assert defect(model) == "extra holds NaN"
    model, optimizer = torch.nn.Linear(2, 2), torch.optim.SGD([torch.ones(1)], lr=0.1)
    optimizer.state[model.weight] = {"m": complex_nan}
    assert defect(model, optimizer) == "the optimizer's m of weight holds NaN"


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_rate_that_is_no_float32_is_refused(name):
    with pytest.raises(UserError, match=r"lr must be .* below 3.4e\+38, not 1e\+39"):
        Optimization(optimizer=name, lr=1e39).make_optimizer(torch.nn.Linear(2, 2).parameters())
