"""A text classifier as an estimator of scikit-learn.

.. code-block:: python

    from dlnotes.sklearn import TextClassifierEstimator
    from sklearn.model_selection import GridSearchCV

    search = GridSearchCV(
        TextClassifierEstimator("textcnn", epochs=5),
        {"lr": [1e-3, 1e-2], "model_settings": [{"maps": 50}, {"maps": 100}]},
    )
    search.fit(texts, labels).predict(["I would watch it again"])
"""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

try:
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.utils import check_array, check_random_state, column_or_1d
    from sklearn.utils.validation import check_is_fitted
except ModuleNotFoundError as error:
    raise ImportError(
        'dlnotes.sklearn needs scikit-learn: pip install "dlnotes[sklearn]"'
    ) from error

import numpy as np
import torch
from numpy.typing import NDArray
from typing_extensions import Self

from dlnotes.arguments import Seed, check, check_names, plain
from dlnotes.data.columns import FOR_FILES, as_labels, as_targets, as_texts, check_pairs
from dlnotes.data.reading import Reading
from dlnotes.errors import UserError
from dlnotes.training.classifier import TextClassifier
from dlnotes.training.fit import Interrupted
from dlnotes.training.settings import Training

_DEFAULTS: dict[str, Any] = {
    field.name: None if field.default is dataclasses.MISSING else field.default
    for settings in (Training, Reading)
    for field in dataclasses.fields(settings)
    if field.name not in (*FOR_FILES, "seed")
}


class TextClassifierEstimator(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """`TextClassifier.train` with the interface of scikit-learn.

    Every field of `Training` and `Reading` is a parameter of its own, with the same default, except
    for the seed, which is `random_state` here. Parameters are checked by `fit`.

    Texts are what scikit-learn's ``TfidfVectorizer`` takes: n strings in a list, a tuple, a
    generator, an array or a column of a data frame (not bytes and not files). An array of shape
    (n, 1) or a data frame of one column is accepted as well. There is no ``sample_weight``: see
    `class_weights`.

    A text may have several labels, or none: `y` is then a matrix of 0 and 1, as
    ``MultiLabelBinarizer`` gives it, and `predict` gives such a matrix, with the thresholds that
    were chosen on the dev documents (see `threshold`). `score` is then the share of texts whose
    labels are all correct.

    Args:
        model: A name in `dlnotes.models.MODELS`.
        model_settings: The model's hyper-parameters where they differ from its defaults. To search
            over them, list mappings: ``{"model_settings": [{"maps": 50}, {"maps": 100}]}``.
        random_state: Seed of the training: an integer; a ``RandomState``, from which it is drawn;
            or None for another one at every `fit`.
        device: See `choose_device`.
        verbose: Show progress.
        settings: Fields of `Training` (such as ``epochs`` and ``lr``) and of `Reading` (such as
            ``tokenizer`` and ``max_tokens``).

    Attributes:
        classes_: The labels, sorted, shape (classes,); for a matrix, the numbers or the names of
            its columns.
        multilabel_: Whether `y` was a matrix.
        classifier_: The trained `TextClassifier`: its `save` writes it to a folder, its `record`
            says how the training went.
        n_features_in_: 1, the text.
        feature_names_in_: Name of the data frame's column, shape (1,), if `fit` was given a data
            frame.

    Raises:
        UserError: A parameter does not exist.
    """

    def __init__(
        self,
        model: str = "fasttext",
        *,
        model_settings: Any = None,
        random_state: Any = 0,
        device: str = "auto",
        verbose: bool = False,
        **settings: Any,
    ) -> None:
        known = inspect.signature(type(self)).parameters
        check_names(type(self).__name__, "parameter", settings, known)
        self.model, self.model_settings = model, model_settings
        self.random_state, self.device, self.verbose = random_state, device, verbose
        for name, default in _DEFAULTS.items():
            setattr(self, name, settings.get(name, default))

    def fit(self, X: Any, y: Any = None, **unsupported: Any) -> Self:
        """Train a new classifier.

        Args:
            X: n texts.
            y: n labels: strings, integers, whole floats or bools. Or a matrix of shape (n, classes)
                that holds 1 where a text has a label and 0 where it has not.
            unsupported: Other arguments of scikit-learn, which are refused.

        Raises:
            UserError: Texts, labels or parameters cannot be used, or the training diverged.
            KeyboardInterrupt: A signal stopped the training.
        """
        for name in [name for name, value in unsupported.items() if value is not None]:
            instead = "; see class_weights" if name == "sample_weight" else ""
            raise UserError(f"{type(self).__name__} does not support {name}{instead}")
        if y is None:
            raise UserError(
                f"{type(self).__name__} requires y to be passed, but the target y is None"
            )
        texts, several = self._texts(X), _is_matrix(y)
        wanted = plain("multi_label", self.multi_label)
        check({"multi_label": bool | None}, {"multi_label": wanted})
        if wanted is not None and wanted != several:
            kinds = ("one label for each text", "a matrix of 0 and 1 with a column for each label")
            raise UserError(
                f"multi_label is {wanted}, so that y must be {kinds[wanted]}, not {kinds[several]}"
            )
        if several:
            labels: Any = y
            found: Any = as_targets(y, "y")
            classes = np.array(found.classes)
            check_pairs(texts, found.sets, ("X", "y"))
        elif not hasattr(y, "__array__") and any(isinstance(row, list | tuple | set) for row in y):
            raise UserError(
                "y must be a matrix of 0 and 1 where a text may have several labels, as "
                "sklearn.preprocessing.MultiLabelBinarizer gives it, not lists of labels"
            )
        else:
            labels = as_labels(y, "y")
            y = column_or_1d(y, warn=True) if hasattr(y, "__array__") else np.array(labels)
            classes = np.unique(y)
            check_pairs(texts, labels, ("X", "y"))
        check({"verbose": bool}, {"verbose": plain("verbose", self.verbose)})
        settings = {name: getattr(self, name) for name in _DEFAULTS}
        settings["optimizer_settings"] = settings["optimizer_settings"] or {}
        try:
            self.classifier_ = TextClassifier.train(
                texts,
                labels,
                self.model,
                model_settings=self.model_settings,
                device=self.device,
                progress=self.verbose,
                seed=self._seed(),
                **settings,
            )
        except Interrupted as error:  # a search would count it as a failed fit, and go on
            raise KeyboardInterrupt from error
        self.classes_, self.multilabel_ = classes, several
        self.n_features_in_ = 1
        if (names := _column_names(X)) is not None:
            self.feature_names_in_ = names
        elif hasattr(self, "feature_names_in_"):  # from an earlier fit
            del self.feature_names_in_
        return self

    def predict(self, X: Any) -> NDArray[Any]:
        """Most probable label of each text, or which labels it has.

        Scores and searches compare labels, so there is always one here: only
        ``classifier_.predict`` withholds labels for the sake of `precision`.

        Args:
            X: n texts.

        Returns:
            n labels, with the data type of `classes_`; or a matrix (n, classes) of 0 and 1.

        Raises:
            UserError: Texts that cannot be used.
            sklearn.exceptions.NotFittedError: `fit` has not been called.
        """
        probabilities = self.predict_proba(X)
        if self.multilabel_:
            chosen = self.classifier_.decision.chosen(torch.from_numpy(probabilities))
            return chosen.numpy().astype(np.int64)
        best = probabilities.argmax(1)
        labels: NDArray[Any] = self.classes_[best]
        return labels

    def predict_proba(self, X: Any) -> NDArray[np.float32]:
        """Probability of each class for each text.

        Args:
            X: n texts.

        Returns:
            Probabilities, shape (n, classes), in the order of `classes_`.

        Raises:
            UserError: Texts that cannot be used.
            sklearn.exceptions.NotFittedError: `fit` has not been called.
        """
        check_is_fitted(self)
        texts, names = self._texts(X), _column_names(X)
        known = getattr(self, "feature_names_in_", None)
        if names is not None and known is not None and names[0] != known[0]:
            raise UserError(
                f"X has the column {names[0]!r}, but {type(self).__name__} was fitted on "
                f"{known[0]!r}"
            )
        classifier: TextClassifier = self.classifier_
        return classifier.predict_proba(texts)

    def _texts(self, X: Any) -> list[str]:
        """The texts; for other arrays the error is in scikit-learn's own words."""
        shape, names = tuple(getattr(X, "shape", ())), _column_names(X)
        if (len(shape) == 2 and shape[1] != 1) or hasattr(X, "toarray"):
            check_array(X, dtype=None)
            raise UserError(
                f"X has {shape[-1]} features, but {type(self).__name__} is expecting 1 features as "
                f"input: a column of texts{'' if names is None else f', such as X[{names[0]!r}]'}"
            )
        return as_texts(X, "X")

    def _seed(self) -> Any:
        if self.random_state is None or isinstance(self.random_state, np.random.RandomState):
            return int(check_random_state(self.random_state).randint(2**31 - 1))
        seed = plain("random_state", self.random_state)
        check({"random_state": Seed}, {"random_state": seed})
        return seed

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = tags.input_tags.one_d_array = True
        tags.classifier_tags.multi_label = True
        return tags

    def _more_tags(self) -> dict[str, Any]:
        """The tags for scikit-learn before 1.6."""
        return {"X_types": ["1darray", "2darray", "string"], "multilabel": True}


def _column_names(X: Any) -> NDArray[np.object_] | None:
    """Names of a data frame's columns; None if they are not strings."""
    names = list(getattr(X, "columns", ()))
    if names and all(isinstance(name, str) for name in names):
        return np.array(names, dtype=object)
    return None


def _is_matrix(y: Any) -> bool:
    """Whether `y` has several columns."""
    try:
        shape = getattr(y, "shape", None) or np.asarray(y).shape
    except ValueError:  # lists of different lengths
        return False
    return len(shape) == 2 and shape[1] > 1


def _explicit(function: Any) -> inspect.Signature:
    """The signature of ``__init__``, with the settings by name, as scikit-learn reads them."""
    signature = inspect.signature(function)
    *named, _ = signature.parameters.values()
    settings = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default)
        for name, default in _DEFAULTS.items()
    ]
    return signature.replace(parameters=[*named, *settings])


_init: Any = TextClassifierEstimator.__init__
_init.__signature__ = _explicit(_init)
