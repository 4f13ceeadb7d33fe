"""Documents of several labels: figures against scikit-learn's, trainings, predictions, files."""

import json
import math
import pickle
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dlnotes import TextClassifier
from dlnotes.data.dataset import load_dataset
from dlnotes.data.labels import LabelSets
from dlnotes.errors import UserError
from dlnotes.models import MODELS
from dlnotes.models.averaging import average_scores, greedy_weights
from dlnotes.training import ensemble, multi_label
from dlnotes.training.attribution import log_odds
from dlnotes.training.classifier import Ensemble
from dlnotes.training.decision import Decision
from dlnotes.training.fit import Interrupted
from dlnotes.training.multi_label import multi_label_metrics, score_and_loss
from dlnotes.training.objectives import Hierarchical, MultiLabel, SingleLabel
from dlnotes.training.settings import Training
from dlnotes.training.targets import class_weights, objective_for, start_at_frequencies
from dlnotes.training.train import train_classifier

WORDS = {"sport": ["goal", "team"], "tech": ["chip", "code"], "law": ["court"], "rare": ["zebra"]}
SMALL = {"fasttext": {"buckets": 50, "embedding_dim": 8}}


def documents(n, seed):
    """Texts that contain words of each of their labels; some have none."""
    random = np.random.default_rng(seed)
    out = []
    for i in range(n):
        labels = [name for name in ("sport", "tech", "law") if random.random() < 0.4]
        labels += ["rare"] if i % 12 == 0 else []
        words = [random.choice(WORDS[name]) for name in labels for _ in range(2)]
        out.append((labels, " ".join(random.permutation([*words, "the", "of", "a"]))))
    return out


@pytest.fixture
def dataset():
    return load_dataset({"train": documents(240, 0), "test": documents(60, 1)}, split_seed=0)


@pytest.fixture(scope="module")
def trained():
    texts = [text for _, text in documents(240, 0)]
    labels = [sets for sets, _ in documents(240, 0)]
    quick = {"lr": 0.1, "batch_size": 16, "epochs": 6, "model_settings": SMALL["fasttext"]}
    return TextClassifier.train(texts, labels, "fasttext", **quick)


def scores_and_labels(n=120, c=7, seed=0, ties=False):
    random = np.random.default_rng(seed)
    labels = random.random((n, c)) < 0.3
    labels[:9] = False
    labels[:, c - 1] = False
    logits = torch.from_numpy(random.normal(size=(n, c)) * 3).float()
    return (logits.round(decimals=0) if ties else logits), labels


def sets_of(dense):
    return LabelSets.build(np.nonzero(dense)[1], dense.sum(1), dense.shape[1])


# --- figures --------------------------------------------------------------------------------------


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("threshold", [0.5, (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)])
def test_figures_are_scikit_learns(ties, sparse, threshold, monkeypatch):
    sklearn = pytest.importorskip("sklearn.metrics")
    monkeypatch.setattr(multi_label, "_SCORES", 50)  # several pieces
    logits, y = scores_and_labels(ties=ties)
    found = multi_label_metrics(logits, sets_of(y) if sparse else y, Decision(threshold=threshold))
    p = logits.sigmoid().numpy()
    given = p >= np.float32(threshold)
    np.testing.assert_array_equal(found.given, given)
    np.testing.assert_array_equal(found.correct, (given == y).all(1))
    one = {"zero_division": 0}
    for name, function in (("precision", sklearn.precision_score), ("recall", sklearn.recall_score), ("f1", sklearn.f1_score)):  # fmt: skip
        np.testing.assert_allclose(getattr(found, name), function(y, given, average=None, **one))
    assert found.micro_f1 == pytest.approx(sklearn.f1_score(y, given, average="micro"))
    assert found.micro_precision == pytest.approx(
        sklearn.precision_score(y, given, average="micro")
    )
    assert found.micro_recall == pytest.approx(sklearn.recall_score(y, given, average="micro"))
    seen = (y | given).any(0)
    assert found.macro_f1 == pytest.approx(sklearn.f1_score(y[:, seen], given[:, seen], average="macro"))  # fmt: skip
    samples = sklearn.f1_score(y, given, average="samples", zero_division=1)
    assert found.samples_f1 == pytest.approx(samples)
    assert found.subset_accuracy == pytest.approx(sklearn.accuracy_score(y, given))
    assert found.hamming_loss == pytest.approx(sklearn.hamming_loss(y, given))
    bce = F.binary_cross_entropy_with_logits(logits, torch.from_numpy(y).float(), reduction="none")
    np.testing.assert_allclose(found.losses, bce.sum(1).numpy(), rtol=1e-5)
    assert found.loss == pytest.approx(bce.sum(1).mean().item())
    precisions = [sklearn.average_precision_score(y[:, k], p[:, k]) for k in range(6)]
    np.testing.assert_allclose(found.average_precision[:6], precisions)
    assert math.isnan(found.average_precision[6])  # a label that no document has
    assert found.mean_average_precision == pytest.approx(np.mean(precisions))
    assert found.summary()["mean_average_precision"] == found.mean_average_precision


@pytest.mark.parametrize("ties", [False, True])
def test_figures_at_k_are_the_formulas(ties):
    logits, y = scores_and_labels(ties=ties)
    found = multi_label_metrics(logits, y)
    order = np.argsort(-logits.numpy(), axis=1, kind="stable")
    some = np.flatnonzero(y.any(1))
    for k in (1, 3, 5):
        rows = []
        for i in some:
            hit = y[i, order[i, :k]]
            gain = sum(h / math.log2(j + 2) for j, h in enumerate(hit))
            ideal = sum(1 / math.log2(j + 2) for j in range(min(k, y[i].sum())))
            rows.append((hit.sum() / k, hit.sum() / y[i].sum(), gain / ideal))
        expected = np.mean(rows, axis=0)
        names = ("precision", "recall", "ndcg")
        for name, value in zip(names, expected, strict=True):
            assert found.summary()[f"{name}_at_{k}"] == pytest.approx(value)
    if not ties:
        ndcg = pytest.importorskip("sklearn.metrics").ndcg_score
        assert found.at_k["ndcg_at_3"] == pytest.approx(ndcg(y[some], logits.numpy()[some], k=3))


def test_as_many_labels_are_looked_at_as_there_are():
    logits, y = scores_and_labels(c=4)
    names = multi_label_metrics(logits, y).at_k
    assert list(names) == [f"{n}_at_{k}" for k in (1, 3) for n in ("precision", "recall", "ndcg")]


def test_documents_without_any_label_have_figures():
    y = np.zeros((5, 3), bool)
    found = multi_label_metrics(torch.full((5, 3), -3.0), y)
    assert found.subset_accuracy == found.samples_f1 == 1
    assert found.micro_f1 == found.macro_f1 == found.mean_average_precision == 0
    assert set(found.at_k.values()) == {0.0}
    json.dumps(found.per_class(list("abc")), allow_nan=False)


def test_scores_that_are_not_numbers_are_refused():
    logits, y = scores_and_labels()
    logits[3, 2] = math.nan
    with pytest.raises(UserError, match="the model gives 1 of 120 documents scores that are not numbers"):  # fmt: skip
        multi_label_metrics(logits, y)
    assert math.isnan(multi_label_metrics(logits, y, whose=None).loss)


def test_impossible_labels_have_no_part_in_the_loss():
    logits, y = scores_and_labels()
    without = multi_label_metrics(logits[:, :6], y[:, :6]).loss
    logits[:, 6] = -math.inf
    assert multi_label_metrics(logits, y).loss == pytest.approx(without)


def test_temperature_changes_loss_and_calibration_alone():
    logits, y = scores_and_labels()
    one, other = (multi_label_metrics(logits, y, Decision(temperature=t)) for t in (1.0, 3.0))
    assert other.loss < one.loss
    assert other.ece != one.ece
    assert other.micro_f1 == one.micro_f1
    assert one.reliability.counts.sum() == y.size


# --- objectives -----------------------------------------------------------------------------------


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_loss_is_the_formula(gamma):
    logits, y = scores_and_labels()
    z, w = logits.double().numpy(), np.linspace(0.5, 3, 7)
    p = 1 / (1 + np.exp(-z))
    each = -(w * y * (1 - p) ** gamma * np.log(p) + (1 - y) * p**gamma * np.log(1 - p))
    found = MultiLabel(torch.tensor(w), focal_gamma=gamma).loss(logits, torch.from_numpy(y))
    assert found.item() == pytest.approx(each.sum(1).mean(), rel=1e-5)

    labels = torch.from_numpy(np.arange(len(z)) % 7)
    q = logits.double().softmax(-1)[torch.arange(len(z)), labels].numpy()
    share = w[labels]
    expected = -(share * (1 - q) ** gamma * np.log(q)).sum() / share.sum()
    found = SingleLabel(torch.tensor(w), focal_gamma=gamma).loss(logits, labels)
    assert found.item() == pytest.approx(expected, rel=1e-5)
    likelihood = torch.from_numpy(np.log(q)).float()
    found = Hierarchical(torch.tensor(w), gamma).loss(likelihood, labels)
    assert found.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("objective", [SingleLabel, MultiLabel])
def test_the_focal_loss_of_sure_decisions_has_gradients(gamma, objective):
    logits = torch.tensor([[200.0, -200.0], [-200.0, 200.0]], requires_grad=True)
    labels = torch.tensor([0, 0]) if objective is SingleLabel else torch.tensor([[1, 0], [1, 0]])
    objective(focal_gamma=gamma).loss(logits, labels).backward()
    assert logits.grad.isfinite().all()


def test_without_gamma_the_loss_is_what_it_was():
    logits, _ = scores_and_labels()
    labels = torch.arange(len(logits)) % 7
    assert torch.equal(SingleLabel().loss(logits, labels), F.cross_entropy(logits, labels))


def test_epochs_are_told_apart_by_the_best_common_threshold(dataset):
    logits, y = scores_and_labels()
    best = MultiLabel(threshold=None).decision(logits, y)
    grid = [multi_label_metrics(logits, y, Decision(threshold=t / 200)).micro_f1 for t in range(201)]  # fmt: skip
    assert multi_label_metrics(logits, y, best).micro_f1 >= max(grid) > 0
    for how, threshold in (("none", 0.5), ("one", None), ("label", None)):
        objective = objective_for(torch.nn.Linear(2, 4), Training(threshold=how), dataset)
        assert objective.threshold == threshold


def test_weights_balance_each_label(dataset):
    counts, n = dataset.train.labels.counts(), len(dataset.train)
    np.testing.assert_allclose(class_weights(dataset), (n - counts) / counts, rtol=1e-6)
    assert Training(class_weights="balanced").class_weights == "balanced"


@pytest.mark.parametrize("balanced", [False, True])
def test_an_untrained_model_gives_labels_their_frequencies(dataset, balanced):
    model = torch.nn.Module()
    model.output = torch.nn.Linear(3, 6)  # two rows before those of the labels, as in seq2seq
    before = model.output.bias[:2].clone()
    start_at_frequencies(model, dataset, class_weights(dataset) if balanced else None)
    assert torch.equal(model.output.bias[:2], before)
    found = model.output.bias[2:].sigmoid()
    share = torch.from_numpy(dataset.train.labels.counts() / len(dataset.train)).float()
    torch.testing.assert_close(found, torch.full((4,), 0.5) if balanced else share, atol=0.02, rtol=0)  # fmt: skip


# --- trainings ------------------------------------------------------------------------------------

SETTINGS = {
    "fasttext": SMALL["fasttext"],
    "textcnn": {"embedding_dim": 8, "maps": 4},
    "textrnn": {"embedding_dim": 8, "hidden_size": 6},
    "rcnn": {"embedding_dim": 8, "context_size": 4, "hidden_size": 6},
    "han": {"embedding_dim": 8, "hidden_size": 6},
    "seq2seq": {"embedding_dim": 8, "hidden_size": 6, "maxout_size": 6},
    "transformer": {"embedding_dim": 8, "num_layers": 1, "num_heads": 2, "feedforward_dim": 16},
    "dmn": {"embedding_dim": 8, "hidden_size": 8},
    "entnet": {"embedding_dim": 8},
}


@pytest.mark.parametrize("model", list(MODELS))
def test_every_model_learns_several_labels(model, tmp_path):
    texts = [text for _, text in documents(240, 0)]
    labels = [sets for sets, _ in documents(240, 0)]
    given = {"lr": 0.02, "batch_size": 16, "epochs": 6, "model_settings": SETTINGS[model]}
    classifier = TextClassifier.train(texts, labels, model, clip_norm=1.0, **given)
    first, last = (classifier.record["history"][i]["train_loss"] for i in (0, -1))
    assert last < first
    assert classifier.multi_label
    classifier.save(tmp_path / "saved")
    again = TextClassifier.load(tmp_path / "saved")
    assert again.multi_label
    assert again.decision == classifier.decision
    np.testing.assert_allclose(again.predict_proba(texts[:5]), classifier.predict_proba(texts[:5]), rtol=1e-5, atol=1e-7)  # fmt: skip
    (explained, *_) = again.explain(["goal code"])
    assert explained.label in WORDS


def test_a_hierarchical_softmax_is_refused(dataset, tmp_path):
    with pytest.raises(UserError, match="output must be 'softmax' where a text may have several"):
        train_classifier(
            dataset, model_settings={"output": "hierarchical"}, out=tmp_path / "run", progress=False
        )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("refit", [False, True])
@pytest.mark.parametrize("threshold", ["none", "one", "label"])
def test_a_run_is_recorded_and_resumed_bit_for_bit(
    dataset, refit, threshold, tmp_path, monkeypatch
):
    how = {
        "lr": 0.1, "epochs": 3, "batch_size": 16, "refit": refit, "threshold": threshold,
        "class_weights": "balanced", "focal_gamma": 1.0, "label_smoothing": 0.05,
        "model_settings": SMALL["fasttext"], "progress": False,
    }  # fmt: skip
    one, record = train_classifier(dataset, out=tmp_path / "one", **how)
    assert record["test"].keys() >= {"micro_f1", "macro_f1", "samples_f1", "ndcg_at_1", "classes"}
    assert "accuracy" not in record["test"]
    assert record["test"]["classes"].keys() == WORDS.keys()
    assert record["history"][0]["dev_micro_f1"] > 0

    from dlnotes.training import fit as fitting

    update, count = fitting._Loop.update, [0]

    def interrupted(self, indices):
        count[0] += 1
        if count[0] == 20:
            raise Interrupted
        return update(self, indices)

    monkeypatch.setattr(fitting._Loop, "update", interrupted)
    with pytest.raises(Interrupted):
        train_classifier(dataset, out=tmp_path / "two", checkpoint_every=7, **how)
    monkeypatch.setattr(fitting._Loop, "update", update)
    two, again = train_classifier(dataset, out=tmp_path / "two", resume=True, **how)
    for name, weight in one.model.state_dict().items():
        assert torch.equal(weight, two.model.state_dict()[name]), name
    assert again["test"] == record["test"]
    assert two.decision == one.decision
    finished, _ = train_classifier(dataset, out=tmp_path / "two", resume=True, **how)
    assert finished.multi_label
    assert finished.decision == one.decision


def test_bootstrap_draws_sets_and_boosting_is_refused(dataset):
    drawn = ensemble.bootstrap(dataset, 3)
    assert drawn.multi_label
    assert len(drawn.train) == len(dataset.train)
    with pytest.raises(UserError, match="boosting is for documents of one label each"):
        ensemble.boost(dataset, [], {}, 0)


# --- answers --------------------------------------------------------------------------------------


def test_labels_are_predicted_as_they_were_given(trained):
    texts = ["goal team", "zebra court", "the of"]
    probabilities = trained.predict_proba(texts)
    given = trained.decision.chosen(torch.from_numpy(probabilities)).numpy()
    for row, p, labels in zip(given, probabilities, trained.predict(texts), strict=True):
        best_first = sorted(np.flatnonzero(row), key=lambda k: -p[k])
        assert labels == [trained.labels[k] for k in best_first]
    told = trained.classify(texts, top_k=2)
    assert [t["labels"] for t in told] == trained.predict(texts)
    for t, p in zip(told, probabilities, strict=True):
        assert t["probabilities"] == pytest.approx(
            [p[trained.labels.index(x)] for x in t["labels"]]
        )
        assert [x["probability"] for x in t["top"]] == pytest.approx(sorted(p)[:-3:-1])
    assert trained.predict([]) == []


def test_labels_of_other_types_and_matrices():
    matrix = np.array([[1, 0, 1], [0, 1, 0], [0, 0, 0], [1, 1, 0]] * 10)
    texts = ["a c", "b", "x", "a b"] * 10
    quick = {"lr": 0.2, "epochs": 15, "batch_size": 8, "model_settings": SMALL["fasttext"]}
    numbered = TextClassifier.train(texts, matrix, **quick)
    assert numbered.labels == [0, 1, 2]
    assert [sorted(found) for found in numbered.predict(texts[:4])] == [[0, 2], [1], [], [0, 1]]


def test_answers_come_in_pieces(trained, monkeypatch):
    texts = [text for _, text in documents(20, 5)]
    whole = trained.answers(texts, 2)
    monkeypatch.setattr("dlnotes.training.classifier._SCORES", 9)
    for one, other in zip(whole, trained.answers(texts, 2), strict=True):
        assert one.labels == other.labels
        assert one.probabilities == pytest.approx(other.probabilities, rel=1e-5)


def test_every_given_label_is_explained(trained):
    texts = ["goal chip court", "the of"]
    probabilities = trained.predict_proba(texts)
    expected = [
        label for row, p in zip(trained.predict(texts), probabilities, strict=True)
        for label in (row or [trained.labels[p.argmax()]])
    ]  # fmt: skip
    found = trained.explain(texts)
    assert [e.label for e in found] == expected
    (sport,) = [e for e in found if e.label == "sport"]
    (line,) = sport.weights.values()
    assert sport.tokens[int(np.argmax(line))] == "goal"
    scores = torch.tensor([[1.0, 2.0]])
    assert log_odds(scores, 1, multi_label=True).item() == 2.0


def test_a_pickle_keeps_the_kind_of_label(trained):
    again = pickle.loads(pickle.dumps(trained))
    assert again.multi_label
    assert again.predict(["goal team"]) == trained.predict(["goal team"])


def test_evaluation_reads_files_of_one_label_too(trained, tmp_path):
    (tmp_path / "one.csv").write_text("label,text\nsport,goal team\ntech,chip code\n")
    found = trained.evaluate([tmp_path / "one.csv"])
    assert found.documents.sum() == 2
    assert len(found.correct) == 2


def test_evaluation_reads_marks_of_which_no_line_has_two(trained, tmp_path):
    (tmp_path / "one.txt").write_text("__label__sport goal team\nthe of\n")
    found = trained.evaluate([tmp_path / "one.txt"])
    assert (found.documents.sum(), len(found.correct)) == (1, 2)
    member = Ensemble([trained, trained], [0.5, 0.5], ["a", "b"])
    assert member.evaluate([tmp_path / "one.txt"]).losses == pytest.approx(found.losses)


def test_a_precision_is_refused_before_the_first_epoch(dataset, monkeypatch):
    monkeypatch.setattr("dlnotes.training.run.Run.fit", None)
    with pytest.raises(UserError, match=r"^precision \(0\.9\) is for classifiers that give one"):
        train_classifier(dataset, "fasttext", precision=0.9, progress=False)


# --- ensembles ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["probabilities", "logits"])
def test_averages_of_several_labels(kind):
    a, b = (scores_and_labels(seed=i)[0].double() for i in (0, 1))
    found = average_scores([a, b], [0.25, 0.75], kind, multi_label=True).sigmoid()
    expected = (0.25 * a + 0.75 * b).sigmoid()
    if kind == "probabilities":
        expected = 0.25 * a.sigmoid() + 0.75 * b.sigmoid()
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("kind", ["probabilities", "logits"])
def test_greedy_weights_are_never_worse_than_the_best_member(kind):
    _, y = scores_and_labels()
    random = np.random.default_rng(0)
    members = [torch.from_numpy(2.0 * y + random.normal(size=y.shape) * s) for s in (1, 2, 3)]
    weights = greedy_weights(
        members, torch.zeros(0), kind=kind, rounds=6, multi_label=True,
        figures=lambda z: score_and_loss(z, y),
    )  # fmt: skip
    whole = score_and_loss(average_scores(members, weights, kind, multi_label=True), y)[0]
    assert whole >= max(score_and_loss(m, y)[0] for m in members)
    best = Decision(threshold=0.5)
    assert score_and_loss(members[0], y)[0] >= multi_label_metrics(members[0].float(), y, best).micro_f1  # fmt: skip


def test_an_ensemble_is_made_saved_and_asked(tmp_path):
    train, test = documents(240, 0), documents(60, 1)
    sources = {"train": train, "test": test}
    runs = []
    for seed in (0, 1):
        data = load_dataset(sources, split_seed=7)
        out = tmp_path / f"run-{seed}"
        train_classifier(
            data, out=out, seed=seed, lr=0.1, epochs=4, batch_size=16, progress=False,
            model_settings=SMALL["fasttext"],
        )  # fmt: skip
        runs.append(out)
    members = ensemble.load_members(runs, sources)
    made, record = ensemble.make_ensemble(members, tmp_path / "whole")
    assert made.multi_label
    assert record["dev"]["micro_f1"] >= max(m["dev"]["micro_f1"] for m in record["members"])
    assert "threshold" in record["decision"]
    loaded = TextClassifier.load(tmp_path / "whole")
    assert isinstance(loaded, Ensemble)
    texts = ["goal code", "the of"]
    assert loaded.predict(texts) == made.predict(texts)
    assert loaded.evaluate(test).summary() == pytest.approx(
        {k: v for k, v in record["test"].items() if k != "classes"}
    )
    assert loaded.explain(texts)[0].label in WORDS


def test_members_of_one_and_of_several_labels_are_refused(trained):
    texts, labels = zip(*[(words[0], name) for name, words in WORDS.items()] * 6, strict=True)
    single = TextClassifier.train(
        list(texts), list(labels), epochs=1, model_settings=SMALL["fasttext"]
    )
    for members in ([trained, single], [single, trained]):
        names = ["several" if m is trained else "one" for m in members]
        with pytest.raises(UserError, match="several gives a text any number of labels and one gives it one"):  # fmt: skip
            Ensemble(members, [0.5, 0.5], names)


# --- speed ----------------------------------------------------------------------------------------


def test_three_thousand_labels_take_little_memory_and_time():
    import tracemalloc

    random = np.random.default_rng(0)
    n, c = 2000, 3000
    sets = LabelSets.build(random.integers(0, c, 2 * n), np.full(n, 2), c)
    logits = torch.from_numpy(random.normal(size=(n, c)).astype(np.float32))
    tracemalloc.start()
    found = multi_label_metrics(logits, sets)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.given.shape == (n, c)
    assert peak < 8 * n * c  # NumPy's own, beside the scores


def test_the_baseline_gives_several_labels(dataset):
    pytest.importorskip("sklearn")
    from dlnotes.training.baseline import tfidf_logistic_regression, tfidf_svm

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        record = tfidf_logistic_regression(dataset, thresholds=("one", "label", "none"))
    assert record["test"]["micro_f1"] > 0.9
    assert list(record["test_by_threshold"]) == ["one", "label", "none"]
    assert record["test"] == record["test_by_threshold"]["one"]
    with pytest.raises(UserError, match="svm is for one label per document"):
        tfidf_svm(dataset)
