"""Why a classifier chose a label: it reads the text again without each of its words."""

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

# Of all copies of a text together: texts of up to 1,024 tokens are read without each word.
_TOKENS = 1 << 20
# Padded tokens that are read at once: enough to keep the cores busy, little memory.
_BATCH_TOKENS = 1 << 15


def neighbours(words: Int[Tensor, " t"]) -> int:
    """How many neighbouring tokens of a text are left out together.

    1 stands for words: all occurrences of one at a time. A text that would have to be read so often
    that its copies had more than 2²⁰ tokens together (only texts of more than 1,024 tokens) is read
    without pieces of neighbouring tokens instead, so that even a book takes seconds.
    """
    most = max(1, _TOKENS // max(1, len(words)))  # copies
    return 1 if len(words.unique()) <= most else -(-len(words) // most)


def groups(words: Int[Tensor, " t"]) -> Int[Tensor, " t"]:
    """Numbers from 0: tokens with the same number are left out together, see :func:`neighbours`."""
    width = neighbours(words)
    if width > 1:
        return torch.arange(len(words), device=words.device) // width
    numbers: Tensor = words.unique(return_inverse=True)[1]
    return numbers


def log_odds(
    scores: Float[Tensor, "n c"], label: int, multi_label: bool = False
) -> Float[Tensor, " n"]:
    r"""Logarithm of the ratio of a class's probability to that of all others together.

    .. math:: \log\frac{p_y}{1 - p_y} = s_y - \log\sum_{k \ne y} e^{s_k}

    Taken from the scores :math:`s`, it is exact where :math:`p_y` rounds to 1, too. Where a
    document may have several labels it is the score :math:`s_y` itself.

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
    token :math:`i`; what stands behind them moves up. Above 0 the token speaks for the label, below
    0 against it. The weights of a word's occurrences are equal and add up to what the word does: at
    :math:`\log 2 = 0.69` it doubles the odds. Of the model this needs nothing but scores.

    Occlusion comes from Zeiler & Fergus 2014 (https://arxiv.org/abs/1311.2901), the erasure of
    words from Li et al. 2016 (https://arxiv.org/abs/1612.08220), and the difference of log-odds,
    *weight of evidence*, from Robnik-Šikonja & Kononenko 2008
    (https://doi.org/10.1109/TKDE.2007.190734).

    Differs from Li et al.: they set the vector of one occurrence to zero and give the relative
    difference of the log-likelihood. Leaving tokens out suits every model. A maximum over time
    hardly changes as long as a word stands elsewhere in the text, so all its occurrences go. On the
    scale of log-odds the words against a label of probability 0.99 are as visible as those for it.
    Of some long texts pieces of neighbours are left out, see :func:`neighbours`; they share their
    weight in the same way.

    Args:
        model: Maps token ids ``b t`` to scores ``b c``. It is in evaluation mode meanwhile.
        tokens: ``1 t``, with any padding on the right.
        label: :math:`y`; None for the most probable class.
        temperature: Divides the scores, see `Decision`.
        multi_label: Whether a document may have several labels.
        words: Equal numbers for tokens that are left out together, as the pieces of a word are;
            None to leave out equal tokens together.

    Returns:
        ``t``, in float64 on the CPU; 0 at padding.

    Raises:
        UserError: The model gives scores that are not numbers.
    """
    real = tokens[0] != PAD
    length = int(real.nonzero().max()) + 1 if real.any() else 0
    row = tokens[0, :length]
    group = groups(row if words is None else words[:length].to(row.device))
    left_out = torch.arange(-1, int(group.max()) + 1 if length else 0, device=row.device)
    parts = []
    with evaluating(model), torch.inference_mode():
        for some in left_out.split(max(1, _BATCH_TOKENS // max(1, length))):  # -1: nothing
            gone = group == some.unsqueeze(1)  # n length
            # What stays moves to the left, in its order.
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
    """Occlusion of raw text, for an ensemble whose members cut it into different tokens.

    A word is what stands between two white spaces, so that punctuation is left out together with
    the word before it.

    Args:
        score: Gives the scores of raw texts.
        text: The text.
        label_names: Label of each class number.
        characters: Leave out characters instead of words.
        multi_label: Whether a document may have several labels.
        answers: From the scores of the text to the labels that are to be explained and their
            probabilities; default: the most probable one.

    Returns:
        The most probable label, or each of `answers`, and the weights for it, see
        :func:`occlusion`.

    Raises:
        UserError: What `score` raises.
    """
    # Words at the odd places, with what stands between them at the even ones.
    parts = re.split(r"(\S)" if characters else r"(\S+)", text)
    words = parts[1::2]
    number = {word: i for i, word in enumerate(dict.fromkeys(words))}
    ids = torch.tensor([number[word] for word in words], dtype=torch.int64)
    group = groups(ids)
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
            {evidence(ids): _falls(scores, group, label, multi_label).tolist()},
            OCCLUSION,
        )
        for label, probability in found
    ]


def _most_probable(scores: Float[Tensor, " c"]) -> list[tuple[int, float]]:
    probability, label = scores.softmax(-1).max(-1)
    return [(int(label), float(probability))]


def evidence(words: Int[Tensor, " t"]) -> str:
    """Name of the weights of a text."""
    width = neighbours(words)
    return "change in log-odds" + (f" of {width} neighbouring words at a time" if width > 1 else "")


def _falls(
    scores: Float[Tensor, "n c"], group: Int[Tensor, " t"], label: int, multi_label: bool
) -> Float[Tensor, " t"]:
    """Fall of the log-odds from the first row to that of each token's group, shared by it."""
    odds = log_odds(scores, label, multi_label)
    return ((odds[0] - odds[1:]) / group.bincount())[group]
