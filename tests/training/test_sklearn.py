"""The estimator does what scikit-learn asks of one, in its own checks and in its own tools."""

import inspect
import os
import pickle
import signal
import subprocess
import sys
import warnings

import numpy as np
import polars as pl
import pytest

sklearn = pytest.importorskip("sklearn")

import joblib  # noqa: E402
from sklearn.base import clone, is_classifier  # noqa: E402
from sklearn.calibration import CalibratedClassifierCV  # noqa: E402
from sklearn.exceptions import DataConversionWarning, NotFittedError  # noqa: E402
from sklearn.feature_extraction.text import TfidfVectorizer  # noqa: E402
from sklearn.model_selection import GridSearchCV, cross_val_score  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import FunctionTransformer  # noqa: E402
from sklearn.utils import estimator_checks  # noqa: E402

from dlnotes import TextClassifier  # noqa: E402
from dlnotes.arguments import fields_of  # noqa: E402
from dlnotes.data.layout import Layout  # noqa: E402
from dlnotes.data.reading import Reading  # noqa: E402
from dlnotes.errors import UserError  # noqa: E402
from dlnotes.optim import Adam  # noqa: E402
from dlnotes.sklearn import TextClassifierEstimator  # noqa: E402
from dlnotes.training.settings import Training  # noqa: E402

QUICK = {"model_settings": {"buckets": 50, "embedding_dim": 8}, "lr": 0.1, "batch_size": 8, "epochs": 4}  # fmt: skip
ASKED = ["the goal of the match", "court", "web code"]


@pytest.fixture(scope="module")
def columns(labelled):
    labels, texts = zip(*labelled(90, 0), strict=True)
    return list(texts), list(labels)


@pytest.fixture(scope="module")
def fitted(columns):
    return TextClassifierEstimator(**QUICK).fit(*columns)


# --- scikit-learn's own checks --------------------------------------------------------------------

modern = tuple(map(int, sklearn.__version__.split(".")[:2])) >= (1, 6)


class Row(str):
    """A text whose integer is that of the row of numbers which it was made of."""

    def __int__(self):
        return int(self.split()[0])


def as_column(X):
    words = [[f"{'abcdefghijkl'[k]}{round(2 * float(x))}" for k, x in enumerate(row)] for row in X]
    texts = [Row(" ".join([str(int(row[0])), *each])) for row, each in zip(X, words, strict=True)]
    return np.array(texts, dtype=object)[:, None]


def on_text(estimator, X, X_test=None, kernel=None):
    """What the checks do to their numbers before they are given to an estimator."""
    return as_column(X) if X_test is None else (as_column(X), as_column(X_test))


NOT_ON_TEXT = {
    "check_complex_data": "gives complex numbers and wants to hear of that; any number is refused",
    "check_estimators_dtypes": "converts the texts to numbers",
    "check_fit2d_predict1d": "wants one dimension refused, which is how texts usually come",
    "check_n_features_in_after_fitting": "takes the second column, and there is one",
    "check_positive_only_tag_during_fit": "subtracts the mean",
}
"""Checks that need numbers, whatever they are given."""

ON_NUMBERS = dict.fromkeys(
    [
        *NOT_ON_TEXT,
        *("check_classifier_data_not_an_array", "check_classifiers_classes"),
        *("check_classifiers_one_label", "check_classifiers_regression_target"),
        *("check_classifiers_train", "check_dict_unchanged", "check_dont_overwrite_parameters"),
        *("check_dtype_object", "check_estimator_sparse_array", "check_estimators_fit_returns_self"),
        *("check_estimators_nan_inf", "check_estimators_overwrite_params"),
        *("check_estimators_pickle", "check_f_contiguous_array_estimator"),
        *("check_fit2d_1feature", "check_fit2d_1sample", "check_fit_check_is_fitted"),
        *("check_fit_idempotent", "check_fit_score_takes_y"),
        *("check_methods_sample_order_invariance", "check_methods_subset_invariance"),
        *("check_n_features_in", "check_pipeline_consistency", "check_readonly_memmap_input"),
        "check_supervised_y_2d",
        "check_classifiers_multilabel_output_format_decision_function",
        "check_classifiers_multilabel_output_format_predict",
        "check_classifiers_multilabel_output_format_predict_proba",
        "check_classifiers_multilabel_representation_invariance",
    ],
    "gives numbers where texts are read; passes on texts, see test_checks_on_text",
) | NOT_ON_TEXT  # fmt: skip
"""What fails where scikit-learn's checks give their numbers to the estimator as they are."""


def checks():
    if not modern:
        return lambda function: pytest.mark.skip("expected_failed_checks is of 1.6")(function)
    return estimator_checks.parametrize_with_checks(
        [TextClassifierEstimator(**QUICK | {"model_settings": {"buckets": 50, "embedding_dim": 16}})],
        expected_failed_checks=lambda estimator: NOT_ON_TEXT,
    )  # fmt: skip


@checks()
def test_checks_on_text(estimator, check, monkeypatch):
    if "sparse" not in estimator_checks._check_name(check):  # a sparse matrix never holds texts
        monkeypatch.setattr(estimator_checks, "_enforce_estimator_tags_X", on_text)
    else:
        monkeypatch.setattr(estimator_checks, "_enforce_estimator_tags_X", lambda _, X: X)
    check(estimator)


@pytest.mark.skipif(not modern, reason="expected_failed_checks is of 1.6")
def test_checks_on_numbers():
    estimator = TextClassifierEstimator(**QUICK)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = estimator_checks.check_estimator(
            estimator, expected_failed_checks=ON_NUMBERS, on_skip=None
        )
    assert len(results) > 45
    failed = {result["check_name"] for result in results if result["status"] == "xfail"}
    assert failed == set(ON_NUMBERS)


def test_a_matrix_of_labels_is_predicted_as_a_matrix():
    sparse = pytest.importorskip("scipy.sparse")
    Y = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 0]] * 12)
    X = ["goal", "court", "goal court", "the"] * 12
    estimator = TextClassifierEstimator(**QUICK | {"epochs": 15}).fit(X, Y)
    assert estimator.classes_.tolist() == [0, 1, 2]
    assert estimator.predict(X).tolist() == Y.tolist()
    assert estimator.score(X, Y) == 1
    assert estimator.predict_proba(X).shape == Y.shape
    for same in (Y.tolist(), sparse.csr_matrix(Y), pl.DataFrame(Y, schema=["a", "b", "c"])):
        other = clone(estimator).fit(X, same)
        assert np.array_equal(other.predict_proba(X), estimator.predict_proba(X))
    assert other.classes_.tolist() == ["a", "b", "c"]
    again = pickle.loads(pickle.dumps(estimator))
    assert again.predict(["court goal"]).tolist() == [[1, 1, 0]]
    single = estimator.fit(X[:2] * 9, ["x", "y"] * 9)
    assert single.predict(["goal"]).tolist() == ["x"]


@pytest.mark.parametrize(
    ("wanted", "y", "told"),
    [
        (True, ["a", "b"], "True, so that y must be a matrix of 0 and 1 .*, not one label"),
        (True, np.array([0, 1]), "True, so that y must be a matrix"),
        (False, np.eye(2), "False, so that y must be one label for each text, not a matrix"),
    ],
)
def test_multi_label_and_y_must_agree(wanted, y, told):
    with pytest.raises(UserError, match=f"^multi_label is {told}"):
        TextClassifierEstimator(**QUICK, multi_label=wanted).fit(["x", "y"], y)


# --- parameters -----------------------------------------------------------------------------------


def test_every_setting_is_a_parameter_with_its_default():
    parameters = dict(inspect.signature(TextClassifierEstimator).parameters)
    own = ["model", "model_settings", "random_state", "device", "verbose"]
    settings = {*fields_of(Training), *fields_of(Reading)} - {"seed", *fields_of(Layout)}
    assert [*parameters][:5] == own
    assert set(parameters) == {*own, *settings}
    assert [n for n, p in parameters.items() if p.kind is not p.KEYWORD_ONLY] == ["model"]
    defaults = vars(Training()) | vars(Reading()) | {"optimizer_settings": None}
    assert {n: parameters[n].default for n in settings} == {n: defaults[n] for n in settings}
    assert TextClassifierEstimator().get_params() == {n: p.default for n, p in parameters.items()}
    with pytest.raises(UserError, match=r"TextClassifierEstimator has no parameter 'epoch'; .* did you mean 'epochs'"):  # fmt: skip
        TextClassifierEstimator(epoch=3)


def test_parameters_are_kept_as_they_are_and_checked_by_fit(columns):
    settings = {"maps": 4}
    estimator = TextClassifierEstimator("textcnn", model_settings=settings, epochs=-1)
    assert repr(estimator) == "TextClassifierEstimator(epochs=-1, model='textcnn', model_settings={'maps': 4})"  # fmt: skip
    twin = clone(estimator).set_params(lr=0.5)
    assert estimator.model_settings is settings
    assert (twin.epochs, twin.lr, twin.model_settings) == (-1, 0.5, settings)
    with pytest.raises(UserError, match=r"^epochs must be at least 1 or None, not -1$"):
        estimator.fit(*columns)
    assert is_classifier(estimator)


def test_fit_is_the_training_of_the_classifier(columns, fitted):
    ours = TextClassifier.train(*columns, seed=0, **QUICK)
    assert np.array_equal(fitted.predict_proba(ASKED), ours.predict_proba(ASKED))
    assert fitted.predict(ASKED).tolist() == ours.predict(ASKED) == ["sport", "law", "tech"]
    assert fitted.classes_.tolist() == ours.labels
    assert fitted.classifier_.record["dev"] == ours.record["dev"]


def test_random_state_is_the_seed(columns, fitted):
    def seed(estimator):
        return clone(estimator).fit(*columns).classifier_.record["settings"]["seed"]

    estimator = TextClassifierEstimator(**QUICK | {"epochs": 1})
    assert seed(estimator) == 0
    assert seed(estimator.set_params(random_state=7)) == 7
    state = np.random.RandomState(3)
    assert seed(estimator.set_params(random_state=state)) == state.__class__(3).randint(2**31 - 1)
    estimator.set_params(random_state=None)
    assert seed(estimator) != seed(estimator)


# --- input ----------------------------------------------------------------------------------------

FORMS = {
    "tuple": tuple,
    "generator": iter,
    "array": np.array,
    "column of an array": lambda texts: np.array(texts, dtype=object)[:, None],
    "rows": lambda texts: [[text] for text in texts],
    "polars column": pl.Series,
    "polars data frame": lambda texts: pl.DataFrame({"text": texts}),
    "pandas column": lambda texts: pytest.importorskip("pandas").Series(texts),
    "pandas data frame": lambda texts: pytest.importorskip("pandas").DataFrame({"text": texts}),
}


@pytest.mark.parametrize("form", FORMS)
def test_texts_may_come_in_many_forms(columns, fitted, form):
    texts, labels = columns
    give = FORMS[form]
    assert np.array_equal(fitted.predict_proba(give(ASKED)), fitted.predict_proba(ASKED))
    again = clone(fitted).set_params(epochs=1).fit(give(texts), np.array(labels))
    expected = clone(fitted).set_params(epochs=1).fit(texts, labels)
    assert np.array_equal(again.predict_proba(ASKED), expected.predict_proba(ASKED))
    assert again.n_features_in_ == 1
    assert hasattr(again, "feature_names_in_") == ("data frame" in form)


def test_it_reads_what_tfidf_reads(columns, fitted):
    """And refuses a single string as that does."""
    for give in (list, tuple, iter, np.array, pl.Series, lambda texts: np.array(texts, dtype=object)):  # fmt: skip
        TfidfVectorizer().fit(give(ASKED))
        fitted.predict(give(ASKED))
    for bad in ("a text", [None, "a"], [1.5], [b"a", 3]):
        for read in (TfidfVectorizer().fit, fitted.predict):
            with pytest.raises((ValueError, AttributeError)):
                read(bad)


def test_the_name_of_the_column_is_remembered(columns, fitted):
    texts, labels = columns
    frame = pl.DataFrame({"title": texts, "body": texts})
    estimator = clone(fitted).set_params(epochs=1).fit(frame[["body"]], labels)
    assert estimator.feature_names_in_.tolist() == ["body"]
    assert estimator.score(frame[["body"]], labels) == estimator.score(texts, labels)
    with pytest.raises(UserError, match=r"^X has the column 'title', but TextClassifierEstimator was fitted on 'body'$"):  # fmt: skip
        estimator.predict(frame[["title"]])
    with pytest.raises(UserError, match=r"^X has 2 features, but .* a column of texts, such as X\['title'\]$"):  # fmt: skip
        estimator.predict(frame)
    estimator.fit(texts, labels)
    assert not hasattr(estimator, "feature_names_in_")
    estimator.predict(frame[["title"]])


BAD = {
    "a string": ("abc", None, "^X must be a list of texts, not a single one, 'abc'"),
    "None inside": (["a", None], None, r"^X\[1\] is None: every text must be a string$"),
    "columns": ([["a", "b"]] * 2, None, r"^X\[0\] is \['a', 'b'\]: every text"),
    "label": (["a", "b"], ["x", None], r"^y\[1\] is None: every label"),
    "no labels": (["a", "b"], 0, "requires y to be passed, but the target y is None"),
    "lengths": (["a", "b"], ["x"], "^X and y must be equally long, not 2 and 1$"),
    "nothing": ([], [], "^X is empty: there is nothing to learn from$"),
    "NaN among labels": (["a", "b"], np.array([1.0, np.nan]), r"^y\[1\] is nan: every label"),
    "one label for all": (["a", "b"], "xy", r"^y must be a list of labels, not a single one, 'xy'"),
    "one class": (["a", "b"], ["x", "x"], "only one class, 'x'"),
    "half a character": (["a", "\ud800"], None, r"^X\[1\] is '\\ud800': character 0 is half"),
    "lists of labels": (
        ["a", "b"],
        [["x"], ["x", "y"]],
        "^y must be a matrix of 0 and 1 where a text",
    ),
    "other numbers": (
        ["a", "b"],
        np.array([[1, 2], [0, 1]]),
        "^y must be one column of labels, or several that hold 0 and 1",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_told_with_its_place(case):
    X, y, message = BAD[case]
    y = ["x", "y"] if y is None else None if isinstance(y, int) else y
    with pytest.raises(UserError, match=message):
        TextClassifierEstimator(**QUICK).fit(X, y)


PARAMETERS = {
    "seed text": ({"random_state": "x"}, "^random_state must be an integer of at least 0 and below"),
    "seed negative": ({"random_state": -1}, r"^random_state must be at least 0 and below .*, not -1$"),
    "generator": ({"random_state": np.random.default_rng(0)}, "^random_state must be an integer"),
    "verbose": ({"verbose": None}, "^verbose must be True or False, not None$"),
    "device": ({"device": "nonsense"}, r"^device must be auto, .*, not 'nonsense'$"),
    "model_settings": ({"model_settings": "buckets=3"}, "^model_settings must be a mapping or None"),
    "optimizer_settings": ({"optimizer_settings": 3}, "^optimizer_settings must be a mapping, not 3$"),
    "epochs": ({"epochs": "1"}, "^epochs must be an integer of at least 1 or None, not '1'$"),
}  # fmt: skip


@pytest.mark.parametrize("case", PARAMETERS)
def test_parameters_that_are_wrong_are_named_as_they_were_given(case):
    change, message = PARAMETERS[case]
    estimator = clone(TextClassifierEstimator(**QUICK | change))
    with pytest.raises(UserError, match=message):
        estimator.fit(["a", "b"] * 9, ["x", "y"] * 9)


def test_before_fit_it_says_so(columns, fitted):
    for estimator in (TextClassifierEstimator(), clone(fitted)):
        for call in (estimator.predict, estimator.predict_proba):
            with pytest.raises(NotFittedError, match="is not fitted yet"):
                call(columns[0])


def test_what_is_not_supported_says_so(columns):
    with pytest.raises(UserError, match=r"^TextClassifierEstimator does not support sample_weight; see class_weights$"):  # fmt: skip
        TextClassifierEstimator().fit(*columns, sample_weight=np.ones(90))
    with pytest.raises(UserError, match=r"does not support early$"):
        TextClassifierEstimator().fit(*columns, early=3)
    for method in ("predict", "predict_proba"):
        with pytest.raises(NotFittedError):
            getattr(TextClassifierEstimator(), method)(ASKED)


@pytest.mark.parametrize("kind", [int, float, bool, str, np.uint8, "U9", object])
def test_labels_keep_their_data_type(columns, fitted, kind):
    texts, names = columns
    labels = np.array([int(name == "law") for name in names]).astype(kind)
    if kind is object:
        labels = np.array([str(label) for label in labels], dtype=object)
    estimator = clone(fitted).fit(texts, labels)
    assert estimator.classes_.tolist() == sorted(set(labels.tolist()))
    predicted = estimator.predict(ASKED)
    assert predicted.dtype == labels.dtype
    assert predicted.tolist() == [labels[names.index(name)] for name in ("sport", "law", "tech")]
    with pytest.warns(DataConversionWarning):
        clone(fitted).set_params(epochs=1).fit(texts, labels[:, None])


# --- pickles and scikit-learn's tools -------------------------------------------------------------


@pytest.mark.parametrize("how", ["pickle", "joblib", "joblib, mapped into memory"])
def test_what_was_kept_predicts_the_same(fitted, tmp_path, how):
    if how == "pickle":
        kept = pickle.loads(pickle.dumps(fitted))
    else:
        joblib.dump(fitted, tmp_path / "fitted.joblib")
        mode = "r" if "mapped" in how else None
        kept = joblib.load(tmp_path / "fitted.joblib", mmap_mode=mode)
    assert np.array_equal(kept.predict_proba(ASKED), fitted.predict_proba(ASKED))
    assert kept.get_params() == fitted.get_params()
    kept.classifier_.save(tmp_path / "folder")
    assert TextClassifier.load(tmp_path / "folder").predict(ASKED) == fitted.predict(ASKED).tolist()


def lower(texts):
    return [text.lower() for text in texts]


def test_in_a_pipeline_and_cross_validation(columns):
    texts, labels = columns
    pipeline = make_pipeline(FunctionTransformer(lower), TextClassifierEstimator(**QUICK))
    pipeline.fit([text.upper() for text in texts], labels)
    assert pipeline.predict(["GOAL", "Court"]).tolist() == ["sport", "law"]
    assert pipeline.classes_.tolist() == ["law", "sport", "tech"]
    for X in (texts, np.array(texts), np.array(texts, dtype=object)[:, None]):
        found = cross_val_score(pipeline[-1], X, labels, cv=3, error_score="raise")
        assert found.shape == (3,)
        assert found.mean() > 0.9
    found = cross_val_score(
        pipeline[-1], texts, labels, cv=2, scoring="neg_log_loss", error_score="raise"
    )
    assert (found > -0.7).all()


@pytest.mark.slow
def test_in_a_grid_search_on_two_processes(columns):
    grid = {"lr": [1e-9, 0.1], "model_settings": [QUICK["model_settings"]]}
    search = GridSearchCV(TextClassifierEstimator(**QUICK), grid, cv=2, n_jobs=2, error_score="raise")  # fmt: skip
    search.fit(*columns)
    assert search.best_params_["lr"] == 0.1
    assert search.best_score_ > 0.9
    assert search.predict(ASKED).tolist() == ["sport", "law", "tech"]


def test_its_probabilities_can_be_calibrated(columns):
    texts, labels = columns
    calibrated = CalibratedClassifierCV(TextClassifierEstimator(**QUICK), cv=2)
    calibrated.fit(texts, np.array(labels))  # a list for y needs scikit-learn 1.6 or so
    probabilities = calibrated.predict_proba(ASKED)
    assert np.allclose(probabilities.sum(1), 1)
    assert calibrated.predict(ASKED).tolist() == ["sport", "law", "tech"]


def test_an_interruption_is_not_taken_for_a_failed_fit(columns, monkeypatch):
    def interrupt(*args, **options):
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Adam, "step", interrupt)
    with pytest.raises(KeyboardInterrupt):
        cross_val_score(TextClassifierEstimator(**QUICK), *columns, cv=2)


def test_without_scikit_learn_one_line_says_what_to_install():
    program = "import sys; sys.modules['sklearn'] = None; import dlnotes.sklearn"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last == 'ImportError: dlnotes.sklearn needs scikit-learn: pip install "dlnotes[sklearn]"'
