"""The way of a batch through each model: named stages, with the shapes that they have in a run.

The stages are declared here. Their shapes are compared with those of local variables in the model's
functions while a small batch runs through it, so that a stage that the model no longer has, or that
has another shape, is an error when the page is built.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import dlnotes
from dlnotes import models
from dlnotes.errors import UserError
from dlnotes.models.averaging import average_scores
from dlnotes.nn import PAD, QUESTION, SENTENCE_END

_PACKAGE = str(Path(dlnotes.__file__).parent)
_TERM = re.compile(r"([+-]?)(\d*)([a-z]?)")


class Stage(NamedTuple):
    """A tensor on the way through the model, and its box in the drawing.

    Attributes:
        name: What it is.
        dims: Its shape in the letters of the flow, such as ``b t 2h``.
        found: The variable that holds it, ``[MODULE.]FUNCTION:VARIABLE``; see `watch`.
        how: How it is computed from the stages before it.
        column: Position of its box: 0 left, 1 right, 0.5 in the middle.
        after: Names of the stages that it is computed from; None for all of the row above.
    """

    name: str
    dims: str
    found: str
    how: str = ""
    column: float = 0.5
    after: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Flow:
    """The stages of a model.

    Attributes:
        model: Makes the model with the sizes.
        run: Puts a batch through it.
        sizes: Letter → number, of the batch and of the model.
        rows: Stages from top to bottom; those of a row are side by side.
        loop: An arrow from one stage back to an earlier one: their names, and a text that says how
            often.
    """

    model: Callable[[dict[str, int]], Any]
    run: Callable[[Any, dict[str, int]], object]
    sizes: dict[str, int]
    rows: tuple[tuple[Stage, ...], ...]
    loop: tuple[str, str, str] | None = None

    def stages(self) -> list[Stage]:
        """All stages, from top to bottom."""
        return [stage for row in self.rows for stage in row]


def shapes(flow: Flow) -> dict[str, tuple[int, ...]]:
    """The shape of each stage in a run, by its name.

    Raises:
        UserError: A stage is not there, or its shape is not the declared one.
    """
    torch.manual_seed(0)
    model = flow.model(flow.sizes)
    if isinstance(model, nn.Module):
        model.eval()
    with torch.no_grad():
        seen = watch(model, lambda: flow.run(model, flow.sizes))
    found = {}
    for stage in flow.stages():
        if stage.found not in seen:
            raise UserError(f"flow: there is no tensor {stage.found}, the stage {stage.name!r}")
        expected = tuple(size(dim, flow.sizes) for dim in stage.dims.split())
        if seen[stage.found] != expected:
            raise UserError(
                f"flow: {stage.found} has the shape {seen[stage.found]}; the stage {stage.name!r} "
                f"says {stage.dims}, which is {expected}"
            )
        found[stage.name] = expected
    return found


def watch(model: object, run: Callable[[], object]) -> dict[str, tuple[int, ...]]:
    """The shapes of the tensors in the local variables of this package's functions.

    Variables are recorded when their function returns, as ``[MODULE.]FUNCTION:VARIABLE``. MODULE is
    the name of the submodule whose method the function is; VARIABLE is ``return`` for the returned
    value. Elements of lists and tuples are ``VARIABLE[0]`` and so on, those of named tuples
    ``VARIABLE.FIELD``. Of a function that runs several times, the last shapes remain.

    Args:
        model: The model, if it is a module.
        run: What to watch.
    """
    modules = model.named_modules() if isinstance(model, nn.Module) else ()
    names = {id(module): name for name, module in modules}
    seen: dict[str, tuple[int, ...]] = {}

    def look(frame: FrameType, event: str, returned: object) -> None:
        if event != "return" or not frame.f_code.co_filename.startswith(_PACKAGE):
            return
        variables = frame.f_locals
        module = names.get(id(variables.get("self")), "")
        function = f"{module}.{frame.f_code.co_name}" if module else frame.f_code.co_name
        for name, value in (*variables.items(), ("return", returned)):
            for end, tensor in _tensors(value):
                seen[f"{function}:{name}{end}"] = tuple(tensor.shape)

    before = sys.getprofile()
    sys.setprofile(look)
    try:
        run()
    finally:
        sys.setprofile(before)
    return seen


def _tensors(value: object) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield "", value
    elif isinstance(value, (tuple, list)):
        fields = getattr(value, "_fields", None)
        ends = (
            [f".{field}" for field in fields] if fields else [f"[{i}]" for i in range(len(value))]
        )
        for end, each in zip(ends, value, strict=True):
            if isinstance(each, Tensor):
                yield end, each


def size(dim: str, sizes: dict[str, int]) -> int:
    """The value of a dimension such as ``2h`` or ``t+h-1``.

    Args:
        dim: A sum of terms: numbers, letters, and numbers before letters.
        sizes: Letter → number.
    """
    total = 0
    for sign, number, letter in _TERM.findall(dim):
        if number or letter:
            term = int(number or 1) * (sizes[letter] if letter else 1)
            total += -term if sign == "-" else term
    return total


def _documents(sizes: dict[str, int]) -> Tensor:
    """A batch of ``b`` documents of ``t`` tokens, the last of which is shorter."""
    tokens = torch.randint(4, 20, (sizes["b"], sizes["t"]))
    tokens[-1, -2:] = PAD
    return tokens


def _texts(sizes: dict[str, int]) -> Tensor:
    """Documents of ``s`` sentences of at most ``w`` words."""
    s, w = sizes["s"], sizes["w"]
    sentence = [4] * (w - 1) + [SENTENCE_END]
    document = [5, *sentence] + sentence * (s - 1)
    return torch.tensor([document] * sizes["b"])


def _stories(sizes: dict[str, int]) -> Tensor:
    """The same, with a question of ``q`` words after the story."""
    texts = _texts(sizes)
    asked = torch.tensor([QUESTION, *[6] * sizes["q"]])
    return torch.cat([texts, asked.expand(sizes["b"], -1)], dim=1)


def _classifier(
    name: str, prepare: Callable[[Any], None] | None = None, **settings: str | int
) -> Callable[[dict[str, int]], nn.Module]:
    """Makes a classifier.

    Args:
        name: Name of the model.
        prepare: Called with the model before it runs.
        settings: Its hyper-parameters: letters of the flow, or numbers.
    """

    def make(sizes: dict[str, int]) -> nn.Module:
        given: dict[str, Any] = {
            setting: sizes[value] if isinstance(value, str) else value
            for setting, value in settings.items()
        }
        model = models.MODELS[name](vocabulary_size=20, num_classes=sizes["c"], **given)
        if prepare:
            prepare(model)
        return model

    return make


def _whole_maps(model: models.TextCNN) -> None:
    model.few_kernels = True  # the maxima of whole feature maps, with the same numbers


def _written_out(model: models.Transformer) -> None:
    for layer in model.encoder.layers:
        layer.self_attn.fused = False  # type: ignore[union-attr]  # to see the weights


def _in_one_group(model: models.HAN) -> None:
    model.data_dependent = False  # all sentences in one group


def _on(batch: Callable[[dict[str, int]], Tensor]) -> Callable[[Any, dict[str, int]], object]:
    return lambda model, sizes: model(batch(sizes))


def _average(_: object, sizes: dict[str, int]) -> object:
    scores = [torch.randn(sizes["b"], sizes["c"]) for _ in range(3)]
    return average_scores(scores, [0.5, 0.25, 0.25])


_TOKENS = Stage("token ids", "b t", "forward:tokens")
_SCORES = Stage("scores", "b c", "forward:scores", "linear map")

FLOWS: dict[str, Flow] = {
    "fasttext": Flow(
        # Dense gradients: the compiled code for sparse ones has no variables to watch.
        _classifier("fasttext", embedding_dim="e", buckets=1000, sparse=False),
        _on(_documents),
        {"b": 2, "t": 7, "e": 10, "c": 4},
        (
            (_TOKENS,),
            (Stage("ids of words and bigrams", "b 2t-1", "mean_vectors:ids", "hash the bigrams"),),
            (Stage("document vector", "b e", "_mean:return", "look up their vectors, average"),),
            (_SCORES,),
        ),
    ),
    "textcnn": Flow(
        _classifier("textcnn", _whole_maps, embedding_dim="e", maps="m"),
        _on(_documents),
        {"b": 2, "t": 7, "e": 200, "m": 100, "h": 5, "c": 4},
        (
            (_TOKENS,),
            (Stage("word vectors", "b t e", "forward:x", "look up"),),
            (Stage("feature maps, width h", "b m t+h-1", "_maxima:c", "m filters per width"),),
            (Stage("best windows, width h", "b m", "_maxima:pooled[2]", "maximum over time"),),
            (Stage("features", "b 3m", "forward:features", "join the 3 widths, ReLU"),),
            (_SCORES,),
        ),
    ),
    "textrnn": Flow(
        _classifier("textrnn", embedding_dim="e", hidden_size="h"),
        _on(_documents),
        {"b": 2, "t": 7, "e": 300, "h": 128, "c": 4},
        (
            (_TOKENS,),
            (Stage("word vectors", "b t e", "forward:x", "look up"),),
            (
                Stage("states, rightward", "b t h", "recurrence.forward:right", "LSTM →", 0),
                Stage("states, leftward", "b t h", "recurrence.forward:left", "LSTM ←", 1),
            ),
            (Stage("states", "b t 2h", "forward:h", "join"),),
            (Stage("pooled state", "b 2h", "masked_max:return", "maximum over t"),),
            (_SCORES,),
        ),
    ),
    "rcnn": Flow(
        _classifier("rcnn", embedding_dim="e", context_size="l", hidden_size="h"),
        _on(_documents),
        {"b": 2, "t": 7, "e": 200, "l": 100, "h": 300, "c": 4},
        (
            (_TOKENS,),
            (Stage("word vectors e", "b t e", "forward:e", "look up"),),
            (
                Stage("left contexts", "b t l", "forward:left", "recurrence →", 0),
                Stage("right contexts", "b t l", "forward:right", "recurrence ←", 1),
            ),
            (
                Stage(
                    "words in context x",
                    "b t 2l+e",
                    "forward:x",
                    "join",
                    after=("left contexts", "word vectors e", "right contexts"),
                ),
            ),
            (Stage("latent vectors", "b t h", "masked_max:x", "linear map"),),
            (Stage("document vector y", "b h", "forward:y", "maximum over t, tanh"),),
            (_SCORES,),
        ),
    ),
    "han": Flow(
        _classifier(
            "han",
            _in_one_group,
            embedding_dim="e",
            hidden_size="h",
            context_size="a",
            max_sentences="s",
            max_words="w",
        ),
        _on(_texts),
        {"b": 2, "s": 3, "w": 5, "n": 6, "t": 16, "e": 200, "h": 50, "a": 80, "c": 4},
        (
            (_TOKENS,),
            (Stage("sentences", "b s w", "_read:grid.words", "cut at the marks"),),
            (Stage("word states", "n w 2h", "_read_sentences:h", "look up, GRU ⇄"),),
            (Stage("word weights α", "n w", "word_attention.forward:alpha", "attention"),),
            (
                Stage(
                    "sentence vectors",
                    "n 2h",
                    "_read:s_i",
                    "weighted sum",
                    after=("word states", "word weights α"),
                ),
            ),
            (Stage("sentence states", "b s 2h", "sentences.forward:x", "GRU ⇄"),),
            (Stage("sentence weights α", "b s", "sentence_attention.forward:alpha", "attention"),),
            (
                Stage(
                    "document vector v",
                    "b 2h",
                    "_read:v",
                    "weighted sum",
                    after=("sentence states", "sentence weights α"),
                ),
            ),
            (_SCORES,),
        ),
    ),
    "seq2seq": Flow(
        _classifier("seq2seq", embedding_dim="e", hidden_size="h", maxout_size="k"),
        _on(_documents),
        {"b": 2, "t": 7, "e": 200, "h": 110, "k": 90, "u": 1, "c": 4},
        (
            (Stage("token ids", "b t", "_read:source", column=0),),
            (Stage("encoder states h", "b t 2h", "_read:h", "look up, GRU ⇄", 0),),
            (Stage("state s before", "b h", "_read:s", "first: tanh of leftward h₁", 1),),
            (
                Stage(
                    "weights α",
                    "b t",
                    "_decode:weight",
                    "compare h with s, softmax",
                    0,
                    ("encoder states h", "state s before"),
                ),
            ),
            (
                Stage(
                    "context c",
                    "b 2h",
                    "_decode:context",
                    "sum of h, weighted by α",
                    0,
                    ("weights α", "encoder states h"),
                ),
            ),
            (
                Stage(
                    "state s",
                    "b h",
                    "_decode:s",
                    "GRU of last label, c, s",
                    1,
                    ("state s before", "context c"),
                ),
            ),
            (
                Stage(
                    "s, c and last label",
                    "b u 3h+e",
                    "_decode:read",
                    "join",
                    after=("context c", "state s"),
                ),
            ),
            (Stage("logits of the next label", "b u c+4", "_decode:logits", "maxout, linear map"),),
            (Stage("scores", "b c", "forward:return", "the columns of the classes"),),
        ),
    ),
    "transformer": Flow(
        _classifier(
            "transformer",
            _written_out,
            embedding_dim="e",
            num_heads="h",
            num_layers=2,
            feedforward_dim="f",
        ),
        _on(_documents),
        {"b": 2, "t": 7, "e": 128, "h": 4, "d": 32, "f": 256, "c": 3},
        (
            (_TOKENS,),
            (Stage("inputs x", "b t e", "_encode:x", "look up, add positions"),),
            (
                Stage(
                    "queries and keys",
                    "b h t d",
                    "encoder.layers.1.self_attn.project:q",
                    "linear maps",
                    0,
                ),
                Stage("values", "b h t d", "encoder.layers.1.self_attn.project:v", "linear map", 1),
            ),
            (
                Stage(
                    "weights A",
                    "b h t t",
                    "attention:weights",
                    "softmax of the products",
                    0,
                    ("queries and keys",),
                ),
            ),
            (
                Stage(
                    "attention's output",
                    "b t e",
                    "encoder.layers.1.self_attn.attend:y",
                    "weighted sums, joined",
                    after=("weights A", "values"),
                ),
            ),
            (
                Stage(
                    "states h",
                    "b t e",
                    "encoder.layers.1.forward:x",
                    "add x, norm, feed-forward, add, norm",
                ),
            ),
            (Stage("pooled state", "b e", "masked_mean:return", "mean over t"),),
            (_SCORES,),
        ),
        ("states h", "inputs x", "next layer"),
    ),
    "dmn": Flow(
        _classifier("dmn", embedding_dim="e", hidden_size="h"),
        _on(_stories),
        {"b": 2, "s": 3, "w": 5, "q": 4, "t": 21, "e": 70, "h": 80, "c": 6},
        (
            (_TOKENS,),
            (
                Stage("story's sentences", "b s w", "prepare:grid.words", "cut at the mark", 0),
                Stage("question's words", "b q", "prepare:question", "cut at the mark", 1),
            ),
            (
                Stage(
                    "facts f",
                    "b s h",
                    "_episodes:f",
                    "positions, GRU ⇄",
                    0,
                    ("story's sentences",),
                ),
                Stage("question q", "b h", "forward:q", "GRU →", 1, ("question's words",)),
            ),
            (
                Stage(
                    "fact weights g",
                    "b s",
                    "_episodes:g",
                    "compare, softmax",
                ),
            ),
            (
                Stage(
                    "episode e",
                    "b h",
                    "_episodes:e",
                    "attention GRU",
                    after=("fact weights g", "facts f"),
                ),
            ),
            (Stage("memory m", "b h", "_episodes:m", "ReLU of a linear map"),),
            (Stage("memory and question", "b 2h", "forward:answer", "join"),),
            (_SCORES,),
        ),
        ("memory m", "fact weights g", "3 passes"),
    ),
    "entnet": Flow(
        _classifier("entnet", embedding_dim="d", slots="m"),
        _on(_stories),
        {"b": 2, "s": 3, "w": 5, "q": 4, "t": 21, "d": 100, "m": 20, "c": 6},
        (
            (_TOKENS,),
            (
                Stage("story's sentences", "b s w", "prepare:grid.words", "cut at the mark", 0),
                Stage("question's words", "b q", "prepare:question", "cut at the mark", 1),
            ),
            (
                Stage(
                    "sentence vectors s",
                    "b s d",
                    "_remember:s",
                    "masks, sum",
                    0,
                    ("story's sentences",),
                ),
                Stage(
                    "question q",
                    "b d",
                    "_ask:q",
                    "masks, sum",
                    1,
                    ("question's words",),
                ),
            ),
            (
                Stage(
                    "gates of a sentence",
                    "b m",
                    "slot_step:gate",
                    "compare, sigmoid",
                    0,
                    ("sentence vectors s",),
                ),
            ),
            (
                Stage(
                    "slots h",
                    "b m d",
                    "_remember:h",
                    "new content, add, normalise",
                    0,
                ),
            ),
            (
                Stage(
                    "slot weights p",
                    "b m 1",
                    "forward:p",
                    "softmax of q · h",
                    after=("slots h", "question q"),
                ),
            ),
            (
                Stage(
                    "answer u",
                    "b d",
                    "forward:u",
                    "weighted sum",
                ),
            ),
            (Stage("scores", "b c", "forward:scores", "add q, PReLU, linear map"),),
        ),
        ("slots h", "gates of a sentence", "next sentence"),
    ),
    "ensemble": Flow(
        lambda sizes: None,
        _average,
        {"b": 2, "c": 4},
        (
            (
                Stage("scores, member 1", "b c", "average_scores:scores[0]", "model 1", 0),
                Stage("scores, member 2", "b c", "average_scores:scores[1]", "model 2", 1),
            ),
            (
                Stage("w₁ p₁", "b c", "_plus:term", "softmax, times w₁", 0, ("scores, member 1",)),
                Stage("w₂ p₂", "b c", "_plus:term", "softmax, times w₂", 1, ("scores, member 2",)),
            ),
            (Stage("probabilities p", "b c", "average_scores:total", "add"),),
            (Stage("scores log p", "b c", "average_scores:return", "logarithm"),),
        ),
    ),
}
"""Model → its stages."""
