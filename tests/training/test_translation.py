"""Labels that are sequences in the one loop; translators in folders; BLEU."""

import os
import re
import signal

import numpy as np
import polars as pl
import pytest
import torch
from torch import nn

from dlnotes.data.batches import BatchSampler
from dlnotes.data.documents import Batch
from dlnotes.data.pairs import load_pairs
from dlnotes.errors import UserError
from dlnotes.models import MODELS
from dlnotes.nn.decoding import BEGIN, END
from dlnotes.optim import Adam, GradientDescent
from dlnotes.training.fit import Interrupted
from dlnotes.training.folder import TRANSLATOR
from dlnotes.training.objectives import Sequence
from dlnotes.training.translation import Translator, bleu, train_translator
from small import fitted

NUMBERS = {"eins": "one", "zwei": "two", "drei": "three", "vier": "four", "fünf": "five"}
SMALL = {"embedding_dim": 16, "hidden_size": 24, "maxout_size": 16, "dropout": 0.0}


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A language of five words, translated word by word."""
    folder = tmp_path_factory.mktemp("numbers")
    random = np.random.default_rng(0)
    for split, n in (("train", 300), ("val", 40), ("test2016", 40)):
        rows = [random.choice(list(NUMBERS), random.integers(1, 5)).tolist() for _ in range(n)]
        for language, word in (("de", str), ("en", NUMBERS.get)):
            text = "".join(" ".join(map(word, row)).capitalize() + ".\n" for row in rows)
            (folder / f"{split}.{language}").write_text(text, "utf-8")
    return folder


@pytest.fixture(scope="module")
def data(folder):
    return load_pairs(folder)


def make(data, **more):
    torch.manual_seed(0)
    vocabularies = data.source_vocabulary, data.target_vocabulary
    return Translator.create("seq2seq", SMALL | more, *vocabularies)


def test_the_loss_is_the_mean_over_the_tokens_to_be_written(data):
    """A full-batch step by hand, its loss summed token by token."""
    model, twin = make(data).model, make(data).model
    rule = GradientDescent(model.parameters(), lr=0.5)
    state = fitted(
        model, rule, data.train, data.dev, Sequence(), epochs=1, batch_size=None, bucket=1,
        progress=False,
    )  # fmt: skip
    tokens, labels = data.train.batch(np.arange(len(data.train)))
    log_p = twin(tokens, labels[:, :-1]).log_softmax(2)
    losses = [
        -log_p[i, j, word]
        for i, row in enumerate(labels.tolist())
        for j, word in enumerate(row[1:])
        if word != 0
    ]
    loss = torch.stack(losses).mean()
    assert len(losses) == (data.train._target.lengths + 1).sum()
    assert state.history[0]["train_loss"] == pytest.approx(loss.item(), rel=1e-5)
    loss.backward()
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p, q - 0.5 * q.grad, rtol=1e-4, atol=1e-6)


def test_dev_figures_do_not_depend_on_the_batches(data, monkeypatch):
    model = make(data).model
    whole = Sequence().evaluate(model, data.dev)
    tokens, labels = data.dev.batch(np.arange(len(data.dev)))
    model.eval()
    logits, target = Sequence().forward(model, tokens, labels), Sequence.targets(labels)
    assert whole.loss == pytest.approx(nn.functional.cross_entropy(logits, target).item(), rel=1e-5)
    real = target >= 0
    assert whole.tokens == int(real.sum())
    right = (logits.argmax(1) == target)[real].float().mean().item()
    assert whole.accuracy == pytest.approx(right)
    monkeypatch.setattr("dlnotes.training.objectives._BATCH_TOKENS", 7)
    pieces = Sequence().evaluate(model, data.dev)
    assert pieces.loss == pytest.approx(whole.loss, rel=1e-5)
    assert (pieces.accuracy, pieces.tokens) == (pytest.approx(whole.accuracy), whole.tokens)
    assert Sequence().evaluate(model.train(), data.dev).loss == pytest.approx(whole.loss)
    assert model.training


@pytest.mark.parametrize("stop_after", [3, 10])
def test_interrupted_and_resumed_equals_uninterrupted(data, tmp_path, stop_after):
    """Within an epoch and at its end."""
    options = {"epochs": 2, "batch_size": 30, "seed": 5, "progress": False}
    whole = make(data, dropout=0.2).model
    fitted(whole, Adam(whole.parameters(), lr=0.01), data.train, data.dev, Sequence(), **options)

    model = make(data, dropout=0.2).model
    optimizer = Adam(model.parameters(), lr=0.01)

    def interrupt(*_):
        interrupt.calls += 1
        if interrupt.calls == stop_after:
            os.kill(os.getpid(), signal.SIGINT)

    interrupt.calls = 0
    optimizer.register_step_post_hook(interrupt)
    path = tmp_path / "checkpoint.pt"
    with pytest.raises(Interrupted):
        fitted(model, optimizer, data.train, data.dev, Sequence(), checkpoint=path, **options)
    other = make(data, dropout=0.2).model
    rule = Adam(other.parameters(), lr=0.01)
    steps = []
    rule.register_step_post_hook(lambda *_: steps.append(1))
    fitted(other, rule, data.train, data.dev, Sequence(), checkpoint=path, resume=True, **options)
    assert stop_after + len(steps) == 2 * -(-len(data.train) // 30)  # and not from the start
    for a, b in zip(whole.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(a, b)


class SeveralLabels:
    """Documents whose labels are the classes of their words, ascending."""

    def __init__(self, n, seed):
        random = np.random.default_rng(seed)
        self.rows = [random.integers(4, 12, random.integers(2, 6)).tolist() for _ in range(n)]
        self.lengths = np.array([len(row) for row in self.rows])

    def __len__(self):
        return len(self.rows)

    @staticmethod
    def classes(row):
        return sorted({(word - 4) // 2 for word in row})

    def batch(self, indices):
        rows = [self.rows[i] for i in indices]
        labels = [[BEGIN, *(4 + c for c in self.classes(row)), END] for row in rows]
        return Batch(*(
            torch.tensor([r + [0] * (max(map(len, side)) - len(r)) for r in side])
            for side in (rows, labels)
        ))  # fmt: skip


def test_several_labels_are_learned_in_the_one_loop():
    torch.manual_seed(0)
    model = MODELS["seq2seq"](vocabulary_size=12, num_classes=4, **SMALL)
    train, dev = SeveralLabels(600, 0), SeveralLabels(60, 1)
    rule = Adam(model.parameters(), lr=0.02)
    state = fitted(model, rule, train, dev, Sequence(), epochs=8, batch_size=50, progress=False)
    assert state.history[-1]["dev_accuracy"] > 0.95
    model.eval()
    found = model.labels(dev.batch(np.arange(60)).tokens, 4)
    exact = [[c for c in row if c >= 0] == dev.classes(words) for row, words in zip(found.tolist(), dev.rows, strict=True)]  # fmt: skip
    assert np.mean(exact) > 0.9


FORMS = {
    "tuple": tuple,
    "generator": iter,
    "array": np.array,
    "column": pl.Series,
    "rows": lambda texts: [[text] for text in texts],
}


@pytest.mark.parametrize("form", FORMS)
def test_texts_come_in_many_forms(data, form):
    translator, texts = make(data), ["Eins zwei.", "", "drei"]
    assert translator.translate(FORMS[form](texts)) == translator.translate(texts)
    assert translator.write(FORMS[form](texts)) == translator.write(texts)
    assert translator.translate(FORMS[form]([])) == []


NO_TEXTS = {
    "text": ("eins", "^texts must be a list of texts, not a single one, 'eins'"),
    "None": (None, "^texts must be a list or a column of texts, not None$"),
    "None inside": (["eins", None], r"^texts\[1\] is None: every text must be a string$"),
    "bytes": ([b"eins"], r"^texts\[0\] is b'eins': every text"),
    "columns": (np.array([["eins", "zwei"]]), r"^texts must be one column of texts, not of shape"),
    "half a character": (["\ud800"], r"^texts\[0\] is '\\ud800': character 0 is half"),
}


@pytest.mark.parametrize("case", NO_TEXTS)
def test_what_is_no_text_is_told(data, case):
    texts, message = NO_TEXTS[case]
    translator = make(data)
    for call in (translator.translate, translator.write):
        with pytest.raises(UserError, match=message):
            call(texts)


@pytest.mark.parametrize("beam", [0, -1, 1_001, 10**9, True, 2.0, "2"])
def test_beams_have_bounds(data, beam):
    with pytest.raises(UserError, match=r"^beam must be .*at least 1 and below 1,001, not"):
        make(data).translate(["eins"], beam=beam)


def test_folders_may_be_text(data, folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_pairs(str(folder)).fingerprints == data.fingerprints
    translator = make(data)
    translator.save("~/kept")
    assert (tmp_path / "kept" / "config.json").exists()
    for place in ("~/kept", str(tmp_path / "kept")):
        assert Translator.load(place).translate(["eins"]) == translator.translate(["eins"])
    for device in ("nonsense", "", 3, None):
        with pytest.raises(UserError, match=r"^device must be auto, cpu"):
            Translator.load(tmp_path / "kept", device)
        with pytest.raises(UserError, match=r"^device must be auto, cpu"):
            translator.to(device)
    with pytest.raises(UserError, match=r"^folder must be a path, not ''$"):
        Translator.load("")


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "run"
    return out, *train_translator(
        data,
        out=out,
        model_settings=SMALL,
        lr=0.02,
        epochs=10,
        batch_size=20,
        progress=False,
        beam=3,
    )


def test_a_run_learns_is_recorded_and_is_read_again(trained, data):
    out, translator, record = trained
    assert record["test"]["tokenized"]["bleu"] > 90
    assert record["test"]["pairs"] == 40
    assert record["dev"]["perplexity"] == pytest.approx(np.exp(record["dev"]["loss"]))
    assert {f"{s}.{x}" for s in ("train", "val", "test2016") for x in ("de", "en")} == set(record["data"])  # fmt: skip
    assert len((out / "test2016.en").read_text("utf-8").splitlines()) == 40
    assert {p.name for p in (out / TRANSLATOR).iterdir()} == {
        "config.json", "model.safetensors", "source.txt", "target.txt",
    }  # fmt: skip
    texts = ["Zwei drei.", "", "fünf eins zwei.", "vier vier vier vier.", "unbekannt."]
    again = Translator.load(out)
    assert again.translate(texts)[:4] == ["two three.", "", "five one two.", "four four four four."]
    assert again.translate(texts) == translator.translate(texts)
    with torch.no_grad():
        again.model.output.bias[1] += 100.0
    assert "<unk>" not in " ".join(again.translate(texts))
    again = Translator.load(out)
    assert again.translate(texts, beam=1) == [again.translate([t], beam=1)[0] for t in texts]
    assert again.translate([]) == []
    assert all(len(tokens) <= 2 for tokens in again.write(texts, max_length=2))
    with pytest.raises(UserError, match="already holds a run"):
        train_translator(data, out=out, model_settings=SMALL)


TRANSFORMER = {"embedding_dim": 16, "num_layers": 1, "num_heads": 2, "feedforward_dim": 32, "dropout": 0.0}  # fmt: skip


def test_the_transformer_is_trained_and_kept_in_the_same_way(data, tmp_path):
    """Its output shares its weights with the word vectors; they are the same when read again."""
    translator, record = train_translator(
        data, out=tmp_path / "run", model="transformer", model_settings=TRANSFORMER, lr=0.01,
        epochs=6, batch_size=20, progress=False, test=None,
    )  # fmt: skip
    assert record["dev"]["accuracy"] > 0.8
    again = Translator.load(tmp_path / "run")
    assert again.model.output.weight is again.model.target_vectors.weight
    for a, b in zip(translator.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(a, b)
    texts = ["Zwei drei.", "fünf eins zwei."]
    assert again.translate(texts, beam=2) == translator.translate(texts, beam=2)


def test_half_precision(data):
    model = make(data).model
    batch = data.dev.batch(np.arange(10))
    full = Sequence().forward(model, *batch)
    with torch.autocast("cpu", torch.bfloat16):
        half = Sequence().forward(model, *batch)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), full, rtol=0.05, atol=0.02)
    half.float().square().sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_bleu_is_sacrebleus_and_says_how():
    sacrebleu = pytest.importorskip("sacrebleu")
    references = ["A man's dog runs, fast.", "Two T-shirts hang on the blue wall."]
    texts = ["a man 's dog runs , fast .", "two t @-@ shirts hang at the wall ."]
    written = [text.split() for text in texts]
    figures = bleu(written, references)
    lines = ["a man's dog runs, fast.", "two t-shirts hang at the wall."]
    expected = sacrebleu.corpus_bleu(lines, [references], lowercase=True).score
    assert figures["detokenized"]["bleu"] == pytest.approx(expected)
    assert "case:lc" in figures["detokenized"]["signature"]
    assert "tok:13a" in figures["detokenized"]["signature"]
    cut = ["a man 's dog runs , fast .", "two t @-@ shirts hang on the blue wall ."]
    joined = [" ".join(tokens) for tokens in written]
    expected = sacrebleu.corpus_bleu(joined, [cut], tokenize="none", force=True).score
    assert figures["tokenized"]["bleu"] == pytest.approx(expected)
    assert "tok:none" in figures["tokenized"]["signature"]
    perfect = bleu([cut[0].split(), cut[1].split()], references)
    assert [perfect[k]["bleu"] for k in ("detokenized", "tokenized")] == pytest.approx([100, 100])


def test_what_is_no_translator_is_told(trained, tmp_path):
    out = trained[0] / TRANSLATOR
    with pytest.raises(UserError, match="is not a trained translator"):
        Translator.load(tmp_path)
    for name in ("config.json", "model.safetensors", "source.txt"):
        broken = tmp_path / name.replace(".", "-")
        broken.mkdir()
        for path in out.iterdir():
            if path.name != name:
                (broken / path.name).write_bytes(path.read_bytes())
        with pytest.raises(UserError, match=name):
            Translator.load(broken)
        (broken / name).write_text("{}")
        with pytest.raises(UserError, match=re.escape(str(broken))):
            Translator.load(broken)
    with pytest.raises(UserError, match="beam must be at least 1"):
        trained[1].translate(["x"], beam=0)


def test_settings_are_checked_before_training(data, tmp_path):
    for wrong, message in (
        ({"model": "bert"}, "model must be one of seq2seq"),
        ({"optimizer": "shampoo"}, "optimizer must be one of"),
        ({"schedule": "cosine"}, "schedule must be one of"),
        ({"model_settings": {"hidden_size": 0}}, "seq2seq: hidden_size is 0"),
        ({"lr": -1.0}, "lr must be at least 0"),
        ({"clip_norm": 0.0}, "clip_norm must be above 0"),
    ):
        with pytest.raises(UserError, match=message):
            train_translator(data, out=tmp_path / message[:9], **{"model_settings": SMALL} | wrong)


def test_batches_are_drawn_by_the_sources_length(data):
    for indices in BatchSampler(data.train.lengths, 16).epoch(0):
        tokens, labels = data.train.batch(indices)
        assert tokens.shape[0] == labels.shape[0] == len(indices)
        assert (labels[:, 0] == BEGIN).all()
        assert ((labels == END).sum(1) == 1).all()
