"""Why a classifier chose a label: occlusion scores the text again without each of its words."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from dlnotes.data.vocabulary import PAD
from dlnotes.training.evaluate import check_scores, evaluating
from dlnotes.training.explain import OCCLUSION, Explanation

# Most tokens in all copies of a text together. It suffices to leave out every single word of a
# text of up to 1,024 tokens.
_TOKENS = 1 << 20
# Padded tokens per batch: enough to keep the cores busy, and little memory.
_BATCH_TOKENS = 1 << 15


def occlusion_width(words: Int[Tensor, " t"]) -> int:
    """How many neighbouring tokens of a text are left out together.

    1 means one word at a time, with all its occurrences. If the copies of a text would have more
    than 2²⁰ tokens in total (which needs a text of more than 1,024 tokens), stretches of
    neighbouring tokens are left out instead, so that even a book takes only seconds.
    """
    most = max(1, _TOKENS // max(1, len(words)))  # copies
    return 1 if len(words.unique()) <= most else -(-len(words) // most)


def occlusion_groups(words: Int[Tensor, " t"]) -> Int[Tensor, " t"]:
    """Group number of each token, from 0; a group is left out as one."""
    width = occlusion_width(words)
    if width > 1:
        return torch.arange(len(words), device=words.device) // width
    numbers: Tensor = words.unique(return_inverse=True)[1]
    return numbers


def log_odds(
    scores: Float[Tensor, "n c"], label: int, multi_label: bool = False
) -> Float[Tensor, " n"]:
    r"""Logarithm of the ratio of a class's probability to the probability of all other classes.

    .. math:: \log\frac{p_y}{1 - p_y} = s_y - \log\sum_{k \ne y} e^{s_k}

    It is computed from the scores :math:`s` and therefore exact even where :math:`p_y` rounds to 1.
    Where a document may have several labels, it is the score :math:`s_y` itself.

    Args:
        scores: ``n c``, unnormalised.
        label: :math:`y`.
        multi_label: Whether a document may have several labels.

    Returns:
        ``n``, in float64.
    """
    s = scores.double()
    if multi_label:
        return s[:, label]
    others = torch.arange(s.shape[1], device=s.device) != label
    return s[:, label] - s[:, others].logsumexp(1)


def occlusion(
    model: nn.Module,
    tokens: Int[Tensor, "1 t"],
    *,
    label: int | None = None,
    temperature: float = 1.0,
    multi_label: bool = False,
    words: Int[Tensor, " t"] | None = None,
) -> Float[Tensor, " t"]:
    r"""How much each token raises the log-odds of a label, in nats.

    .. math::
        w_i = \frac{1}{n_i} \left(\log\frac{p(y \mid x)}{1 - p(y \mid x)}
            - \log\frac{p(y \mid x_{\setminus i})}{1 - p(y \mid x_{\setminus i})}\right)

    where :math:`x_{\setminus i}` is the text :math:`x` without the :math:`n_i` occurrences of its
    token :math:`i`; the tokens after them move up. A weight above 0 speaks for the label, one below
    0 against it. All occurrences of a word have the same weight, and these weights add up to the
    effect of the word: a word with :math:`\log 2 = 0.69` doubles the odds. The method needs nothing
    but the model's scores.

    Occlusion comes from Zeiler & Fergus 2014 (https://arxiv.org/abs/1311.2901), the erasure of
    words from Li et al. 2016 (https://arxiv.org/abs/1612.08220), and the difference of log-odds,
    *weight of evidence*, from Robnik-Šikonja & Kononenko 2008
    (https://doi.org/10.1109/TKDE.2007.190734).

    Differs from Li et al.: they set the vector of one occurrence to zero and give the relative
    difference of the log-likelihood. Leaving tokens out works with every model. All occurrences of
    a word are left out because a maximum over time hardly changes while one of them remains. On
    the scale of log-odds, the words against a label of probability 0.99 are as visible as those for
    it. In some long texts, stretches of neighbouring tokens are left out (see
    :func:`occlusion_width`); the tokens of a stretch share its weight in the same way.

    Args:
        model: Maps token ids ``b t`` to scores ``b c``. It is put into evaluation mode meanwhile.
        tokens: ``1 t``, with any padding on the right.
        label: :math:`y`; None for the most probable class.
        temperature: Divides the scores, see `Decision`.
        multi_label: Whether a document may have several labels.
        words: A number for each token; tokens with the same number are left out together, such as
            the subwords of a word. None to leave out equal tokens together.

    Returns:
        ``t``, in float64 on the CPU; 0 at padding.

    Raises:
        UserError: The model returns scores that are NaN.
    """
    real = tokens[0] != PAD
    length = int(real.nonzero().max()) + 1 if real.any() else 0
    row = tokens[0, :length]
    group = occlusion_groups(row if words is None else words[:length].to(row.device))
    left_out = torch.arange(-1, int(group.max()) + 1 if length else 0, device=row.device)
    parts = []
    with evaluating(model), torch.inference_mode():
        for some in left_out.split(max(1, _BATCH_TOKENS // max(1, length))):  # -1: the whole text
            gone = group == some.unsqueeze(1)  # n length
            # The tokens that stay move to the left and keep their order.
            gone, order = gone.byte().sort(dim=1, stable=True)
            parts.append(model(row[order].masked_fill(gone.bool(), PAD)).cpu())
    scores = check_scores(torch.cat(parts), "the model") / temperature
    if label is None:
        label = int(scores[0].argmax())
    weights = F.pad(_falls(scores, group.cpu(), label, multi_label), (0, tokens.shape[1] - length))
    return weights.masked_fill(~real.cpu(), 0.0)


def explain_words(
    score: Callable[[Sequence[str]], Float[Tensor, "n c"]],
    text: str,
    label_names: Sequence[str],
    *,
    characters: bool = False,
    multi_label: bool = False,
    answers: Callable[[Float[Tensor, " c"]], list[tuple[int, float]]] | None = None,
) -> list[Explanation]:
    """Explain raw text by occlusion, for an ensemble whose members tokenize it differently.

    Words are separated by white space alone, so that punctuation is left out together with the word
    before it.

    Args:
        score: Maps raw texts to their scores.
        text: The text.
        label_names: Label of each class number.
        characters: Leave out characters instead of words.
        multi_label: Whether a document may have several labels.
        answers: Maps the scores of the text to the labels to explain and their probabilities;
            default: the most probable label alone.

    Returns:
        An explanation for each label of `answers`, with its weights, see :func:`occlusion`.

    Raises:
        UserError: Raised by `score`.
    """
    # Words have odd positions; the text between them has even ones.
    parts = re.split(r"(\S)" if characters else r"(\S+)", text)
    words = parts[1::2]
    number = {word: i for i, word in enumerate(dict.fromkeys(words))}
    ids = torch.tensor([number[word] for word in words], dtype=torch.int64)
    group = occlusion_groups(ids)
    copies = [text]
    for left_out in range(int(group.max()) + 1 if words else 0):
        kept = parts.copy()
        for i in (group == left_out).nonzero().flatten().tolist():
            kept[2 * i + 1] = ""
        copies.append("".join(kept))
    scores = score(copies)
    found = (answers or _most_probable)(scores[0])
    return [
        Explanation(
            label_names[label],
            probability,
            words,
            {weights_name(ids): _falls(scores, group, label, multi_label).tolist()},
            OCCLUSION,
        )
        for label, probability in found
    ]


def _most_probable(scores: Float[Tensor, " c"]) -> list[tuple[int, float]]:
    probability, label = scores.softmax(-1).max(-1)
    return [(int(label), float(probability))]


def weights_name(words: Int[Tensor, " t"]) -> str:
    """Name of the weights of a text, for display."""
    width = occlusion_width(words)
    return "change in log-odds" + (f" of {width} neighbouring words at a time" if width > 1 else "")


def _falls(
    scores: Float[Tensor, "n c"], group: Int[Tensor, " t"], label: int, multi_label: bool
) -> Float[Tensor, " t"]:
    """Fall of the log-odds from the first row to each token's group, shared among its tokens."""
    odds = log_odds(scores, label, multi_label)
    return ((odds[0] - odds[1:]) / group.bincount())[group]
