"""Stories with questions as the memory networks read them."""

import torch
from torch import Tensor

from dlnotes.nn import PAD, QUESTION, SENTENCE_END


def documents(told: list[tuple[list[list[int]], list[int]]]) -> Tensor:
    """A row of token ids for each story, its sentences apart, its question at the end."""
    rows = []
    for story, question in told:
        row = []
        for i, sentence in enumerate(story):
            row += [*([SENTENCE_END] if i else []), *sentence]
        rows.append([*row, QUESTION, *question])
    tokens = torch.full((len(rows), max(map(len, rows))), PAD)
    for to, row in zip(tokens, rows, strict=True):
        to[: len(row)] = torch.tensor(row)
    return tokens
