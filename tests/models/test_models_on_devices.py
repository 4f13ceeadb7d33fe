"""Models on a device against the CPU, and what would make a training step wait for a GPU.

On the CPU the models of sentences compute the whole grid here, as they do on a GPU.
"""

import contextlib
import copy

import pytest
import torch
from torch.nn import functional as F

from dlnotes.models import HAN, MODELS, TRANSLATORS, FastText
from dlnotes.nn import PAD, QUESTION, SENTENCE_END
from dlnotes.nn.decoding import BEGIN, beam_search
from small import SMALL, without_tf32
from waiting import no_waiting

V, C = 40, 3
VARIANTS = {
    **{name: (name, {}) for name in MODELS},
    "fasttext, hierarchical": ("fasttext", {"output": "hierarchical"}),
    "textcnn, two channels": ("textcnn", {"channels": "multichannel"}),
    "textrnn, two layers": ("textrnn", {"num_layers": 2, "cell": "gru", "pooling": "last"}),
    "rcnn, lstm": ("rcnn", {"cell": "lstm"}),
    "rcnn, written out": ("rcnn", {"fused": False}),
    "transformer, gelu": ("transformer", {"activation": "gelu", "pooling": "max"}),
    "dmn, first": ("dmn", {"variant": "dmn"}),
    "seq2seq, multiplicative": ("seq2seq", {"attention": "multiplicative"}),
}
TRANSLATOR = {
    "seq2seq": {"embedding_dim": 8, "hidden_size": 8, "maxout_size": 8},
    "transformer": {"embedding_dim": 8, "num_heads": 2, "num_layers": 1, "feedforward_dim": 8},
}
every_model = pytest.mark.parametrize("name", VARIANTS)
every_translator = pytest.mark.parametrize("name", TRANSLATORS)
CLOSE = {"rtol": 1e-9, "atol": 1e-11}


@pytest.fixture(autouse=True)
def _exact():
    with without_tf32():
        yield


def build(name, **more):
    kind, settings = VARIANTS[name]
    torch.manual_seed(0)
    settings = {"dropout": 0.0, "sparse": False, **SMALL[kind], **settings, **more}
    return MODELS[kind](vocabulary_size=V, num_classes=C, **settings).double()


def on(device, model):
    """The model there; on the CPU, too, it may not look at the documents."""
    model = copy.deepcopy(model).to(device)
    if getattr(model, "reads_sentences", False):
        model.data_dependent = False
    return model


def translator(name):
    torch.manual_seed(0)
    sizes = {"source_vocabulary_size": V, "target_vocabulary_size": V}
    return TRANSLATORS[name](**sizes, **TRANSLATOR[name], dropout=0.0).double()


def rows(lengths, seed=1):
    """Documents with sentences and a question."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for n in lengths:
        row = torch.randint(4, V, (n,), generator=generator)
        row[2::4] = SENTENCE_END
        if n > 6:
            row[-3] = QUESTION
        made.append(row)
    return made


def padded(made, columns=0):
    columns = max(columns, *map(len, made))
    return torch.stack([F.pad(row, (0, columns - len(row)), value=PAD) for row in made])


LENGTHS = [9, 1, 0, 4, 2, 14, 12, 3]
WEIGHTS = torch.linspace(-1, 2, len(LENGTHS) * C, dtype=torch.float64).view(-1, C)


def run(model, tokens, weights):
    """Scores and gradients, on the CPU."""
    scores = model(tokens)
    (scores * weights.to(scores.device)).sum().backward()
    gradients = {key: p.grad.cpu() for key, p in model.named_parameters() if p.grad is not None}
    return scores.detach().cpu(), gradients


@every_model
@pytest.mark.parametrize("columns", [0, 33])
def test_a_padded_batch_is_its_documents_one_by_one_on_the_cpu(name, columns, device):
    model, made = build(name), rows(LENGTHS)
    scores, gradients = run(on(device, model), padded(made, columns).to(device), WEIGHTS)
    singles = [run(model, row[None], w[None])[0] for row, w in zip(made, WEIGHTS, strict=True)]
    torch.testing.assert_close(scores, torch.cat(singles), **CLOSE)
    expected = {key: p.grad for key, p in model.named_parameters() if p.grad is not None}
    assert any(g.any() for g in expected.values())
    torch.testing.assert_close(gradients, expected, **CLOSE)


@every_translator
def test_a_translator_scores_as_on_the_cpu(name, device):
    model, sources = translator(name), rows([5, 2, 9], seed=2)
    targets = padded([F.pad(row, (1, 0), value=BEGIN) for row in rows([4, 7, 1], seed=3)])
    twin = copy.deepcopy(model).to(device)
    found = twin(padded(sources, 15).to(device), targets.to(device))
    expected = torch.cat([model(s[None], t[None]) for s, t in zip(sources, targets, strict=True)])
    torch.testing.assert_close(found.detach().cpu(), expected.detach(), **CLOSE)
    weights = torch.cos(torch.arange(expected.numel(), dtype=torch.float64)).view_as(expected)
    (found * weights.to(device)).sum().backward()
    (expected * weights).sum().backward()
    for (key, p), q in zip(model.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(q.grad.cpu(), p.grad, msg=lambda m, k=key: f"{k}: {m}", **CLOSE)


@every_translator
@pytest.mark.parametrize("beam", [1, 3])
def test_a_translator_writes_what_it_writes_on_the_cpu(name, beam, device):
    model, sources = translator(name).eval(), padded(rows([5, 2, 9], seed=2))
    twin = copy.deepcopy(model).to(device)
    with torch.no_grad():
        expected, score = beam_search(model, sources, beam=beam, max_length=6)
        found, its_score = beam_search(twin, sources.to(device), beam=beam, max_length=6)
    assert torch.equal(found.cpu(), expected)
    torch.testing.assert_close(its_score.cpu(), score, **CLOSE)


@every_model
def test_bfloat16_autocast_is_near_float32(name, device):
    model = on(device, build(name)).float()
    tokens = padded(rows(LENGTHS)).to(device)
    exact = model(tokens)
    with torch.autocast(device.type, torch.bfloat16):
        scores = model(tokens)
        loss = F.cross_entropy(scores.float(), torch.arange(len(tokens), device=device) % C)
    loss.backward()
    assert scores.isfinite().all()
    assert not torch.equal(scores.float(), exact)
    allowed = 0.05 * (1 + exact.abs().max().item())
    torch.testing.assert_close(scores.float(), exact, rtol=0, atol=allowed)
    for key, p in model.named_parameters():
        assert p.grad is None or (p.grad.isfinite().all() and p.grad.dtype == p.dtype), key


def test_what_waits_is_found(device):
    """Otherwise the tests above would prove nothing."""
    x = torch.arange(4.0, device=device)
    for f in (
        lambda: x.sum().item(),
        lambda: x[x > 1],
        lambda: x.nonzero(),
        lambda: bool(x.any()),
        lambda: x.unique(),
        lambda: x.repeat_interleave(x.long()),
        *([] if device.type == "cpu" else [x.tolist, x.cpu]),  # what CUDA alone knows
        lambda: torch.sparse_coo_tensor(x.long()[None], x).coalesce(),
    ):
        with pytest.raises(RuntimeError), no_waiting(device):
            f()
    model = build("han").to(device)
    model.data_dependent = True
    with pytest.raises(RuntimeError), no_waiting(device):
        model(padded(rows(LENGTHS)).to(device))


def test_models_that_look_at_documents_say_so(device):
    """HAN waits on no device other than a CPU, FastText on none."""
    tokens = padded(rows(LENGTHS)).to(device)
    for kind in (HAN, FastText):
        torch.manual_seed(0)
        model = kind(vocabulary_size=V, num_classes=C, embedding_dim=4).to(device)
        looks = kind is HAN and device.type == "cpu"
        told = pytest.raises(RuntimeError) if looks else contextlib.nullcontext()
        with told, no_waiting(device):
            model(tokens)
