"""The baseline of a race as a program: dlnotes reads, scikit-learn learns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_PROGRAM = """\
{path}from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
{imports}from sklearn.pipeline import make_pipeline
{load}from dlnotes.data.dataset import load_dataset

data = load_dataset({sources}{settings})
train, dev = ([d.text(i) for i in range(len(d))] for d in (data.train, data.dev))
features = TfidfVectorizer(tokenizer=str.split, token_pattern=None, lowercase=False,
                           ngram_range=(1, 2), sublinear_tf=True)
{learn}
"""

_ONE_LABEL = """\
model = make_pipeline(features, LogisticRegression(C=10, max_iter=1000))
model.fit(train, data.train.labels)
print("accuracy on dev:", accuracy_score(data.dev.labels, model.predict(dev)))"""

_SEVERAL_LABELS = """\
each = LogisticRegression(C=10, solver="liblinear", max_iter=1000)
model = make_pipeline(features, OneVsRestClassifier(each))
model.fit(train, data.train.labels.dense())
given = model.predict_proba(dev) >= {threshold}
print("micro-F1 on dev:", f1_score(data.dev.labels.dense(), given, average="micro"))"""


def program(
    source: str | Mapping[str, Sequence[Path]],
    settings: Mapping[str, Any],
    *,
    threshold: float | tuple[float, ...] | None = None,
    data_dir: Path | None = None,
) -> str:
    """A program that trains and measures `TFIDF` as `dlnotes.training.trials.run_trial` does.

    Args:
        source: Name of a corpus, or the files of each split.
        settings: How the documents are read: arguments of `load_dataset`.
        threshold: Probabilities from which labels are given, where a document may have several.
        data_dir: Folder of corpora.
    """
    if isinstance(source, str):
        folder = f", data_dir=Path({str(data_dir)!r})" if data_dir else ""
        sources = f"load({source!r}{folder})"
    else:
        sources = repr({split: [*map(str, files)] for split, files in source.items()})
    if threshold is None:
        imports, learn = "from sklearn.metrics import accuracy_score\n", _ONE_LABEL
    else:
        imports = (
            "from sklearn.metrics import f1_score\n"
            "from sklearn.multiclass import OneVsRestClassifier\n"
        )
        learn = _SEVERAL_LABELS.format(threshold=threshold)
    return _PROGRAM.format(
        path="from pathlib import Path\n" * ("Path(" in sources),
        imports=imports,
        load="from dlnotes.data.corpora import load\n" * isinstance(source, str),
        sources=sources,
        settings="".join(f", {name}={value!r}" for name, value in settings.items()),
        learn=learn,
    )
