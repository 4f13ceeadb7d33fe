"""The lab can say no: planted claims, noise, and a method that wins by a larger budget."""

import html
import json
import math
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from dlnotes.claims import CHAPTERS, CLAIMS, lab, report
from dlnotes.claims.claim import Budget, Claim, Finding, Verdict
from dlnotes.claims.races import Method, Problem, race, train
from dlnotes.claims.statistics import decide, student_interval
from dlnotes.errors import UserError
from dlnotes.optim import GradientDescent, UpdateRule

RECORDED = Path(__file__).parents[2] / "results" / "claims"
TRIALS = 400
FEWEST, MOST = 12, 29  # 95 % of the binomial distribution of 400 trials of 5 %


class Still(UpdateRule):
    """Learns nothing."""

    @staticmethod
    def rule(theta, g, *, lr):
        return theta + 0 * lr * g


def regression():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(90, 3, generator=generator, dtype=torch.float64)
    y = x.sum(1) + 0.1 * torch.randn(90, generator=generator, dtype=torch.float64)

    def loss(parameters, batch):
        return ((batch[0] @ parameters["w"] - batch[1]) ** 2).mean()

    def init(generator):
        return {"w": torch.randn(3, generator=generator, dtype=torch.float64)}

    parts = [(x[i : i + 30], y[i : i + 30]) for i in (0, 30, 60)]
    return Problem("regression", init, loss, loss, *parts, higher_is_better=False)


def chaos():
    """What is measured has nothing to do with what is learned: noise that a seed reproduces."""

    def measure(parameters, data):
        return ((parameters["w"] * 1e7).sin() * 1e4).sin().sum()

    base = regression()
    return Problem(**{**vars(base), "name": "chaos", "measure": measure, "higher_is_better": True})


def planted(ours, theirs, problem=regression):
    def experiment(budget):
        methods = [
            Method("ours", *ours, rates=(0.03, 0.1, 0.3)),
            Method("theirs", *theirs, rates=(0.03, 0.1, 0.3)),
        ]
        found = race(problem(), methods, budget, steps=20, batch_size=5)
        differences = found.differences("ours", "theirs")
        figure = Figure()
        figure.subplots().plot(differences)
        return Finding(
            verdict=decide(differences),
            effect=float(np.mean(differences)),
            effect_name="loss",
            interval=student_interval(differences),
            runs=found.runs,
            numbers=found.rows(),
            figure=figure,
        )

    return Claim(
        name="planted",
        notes="§0",
        sentence="Ours <is> better.",
        hypothesis="It is.",
        criterion="That it is.",
        literature="None (https://example.org/a).",
        experiment=experiment,
    )


LEARNS, STILL = (GradientDescent, {}), (Still, {})


@pytest.mark.parametrize(
    ("claim", "verdict"),
    [
        (planted(LEARNS, STILL), Verdict.HOLDS),
        (planted(STILL, LEARNS), Verdict.DOES_NOT_HOLD),
        (planted(LEARNS, LEARNS), Verdict.NOT_DECIDED),
        (planted(LEARNS, (GradientDescent, {"weight_decay": 0.1}), chaos), Verdict.NOT_DECIDED),
    ],
    ids=["true", "false", "the same", "noise"],
)
def test_planted_claims_get_their_verdicts(claim, verdict):
    assert claim.experiment(Budget()).verdict is verdict


def test_a_quick_run_decides_nothing():
    claim = planted(LEARNS, STILL)
    assert claim.experiment(Budget(quick=True)).verdict is Verdict.NOT_DECIDED


def test_a_win_by_a_larger_budget_is_caught():
    """The best of many trials on the seeds of the verdict wins on noise; the lab has it run again."""
    problem, many = chaos(), tuple(np.geomspace(0.01, 0.3, 200).tolist())
    method = Method("many", GradientDescent, rates=many)
    tried = train(problem, method, [(rate, s) for rate in many for s in range(10)], 5, 5)
    by_rate = np.array([run.dev[-1] for run in tried]).reshape(len(many), 10)
    best = by_rate[by_rate.mean(1).argmax()]
    # What an unfair comparison would say, against rivals of one trial each.
    unfair = [decide(best - rival) for rival in by_rate[:40]]
    assert unfair.count(Verdict.HOLDS) > 4 * 0.05 * 40

    with pytest.raises(ValueError, match="same number of rates"):
        race(
            problem,
            [method, Method("one", GradientDescent, rates=(0.1,))],
            Budget(),
            steps=5,
            batch_size=5,
        )
    rivals = [method, Method("as many", GradientDescent, {"weight_decay": 0.01}, many)]
    found = race(problem, rivals, Budget(), steps=5, batch_size=5)
    assert decide(found.differences("many", "as many")) is Verdict.NOT_DECIDED


def test_the_rate_of_false_positives_is_the_nominal_one():
    noise = np.random.default_rng(0).normal(size=(TRIALS, 10))
    verdicts = [decide(differences) for differences in noise]
    assert FEWEST <= TRIALS - verdicts.count(Verdict.NOT_DECIDED) <= MOST


@pytest.mark.slow
def test_the_rate_of_false_positives_of_whole_experiments_is_the_nominal_one():
    """Two rules that differ, tuned and raced on noise."""
    positive = 0
    for trial in range(TRIALS):
        base = chaos()

        def measure(parameters, data, shift=trial):
            return ((parameters["w"] * 1e7 + shift).sin() * 1e4).sin().sum()

        problem = Problem(**{**vars(base), "measure": measure})
        methods = [
            Method("a", GradientDescent, rates=(0.05, 0.1, 0.2)),
            Method("b", GradientDescent, {"weight_decay": 0.1}, (0.05, 0.1, 0.2)),
        ]
        found = race(problem, methods, Budget(), steps=4, batch_size=5, tuning_seeds=1)
        positive += decide(found.differences("a", "b")) is not Verdict.NOT_DECIDED
    assert FEWEST <= positive <= MOST


def finding(**changed):
    given = {"verdict": Verdict.HOLDS, "effect": 1.0, "effect_name": "x", "interval": (0.0, 2.0)}
    return Finding(**{**given, "runs": 1, "numbers": [], "figure": Figure(), **changed})


def test_a_finding_must_make_sense():
    assert (
        finding(verdict=Verdict.HOLDS_ONLY_IF, condition="it rains").says
        == "holds only if it rains"
    )
    for wrong in (
        {"verdict": Verdict.HOLDS_ONLY_IF},
        {"condition": "it rains"},
        {"interval": (2.0, 0.0)},
        {"interval": (math.nan, 1.0)},
        {"effect": 2.1},
        {"effect": -0.1},
        {"effect": math.nan},
        {"effect": 0.0, "interval": (0.32, 0.84)},
    ):
        with pytest.raises(ValueError, match=r"condition must|interval must|effect must"):
            finding(**wrong)
    assert finding(effect=2.0 + 1e-9).effect > 2  # rounding
    assert finding(effect=math.inf, interval=(1.0, math.inf)).effect == math.inf
    assert finding(effect=math.inf, interval=(math.inf, math.inf)).effect == math.inf
    with pytest.raises(ValueError, match="effect must"):
        finding(effect=math.inf)


def test_a_part_of_an_experiment_tells_its_share_of_the_whole():
    told = []
    budget = Budget(progress=told.append)
    budget.part(0, 0.5).done(0.5)
    budget.part(0.5, 1).part(0.5, 1).done(1)
    assert told == [0.25, 1]


@pytest.fixture
def outcome(tmp_path):
    return lab.run(planted(LEARNS, STILL), Path(__file__), folder=tmp_path / "cache")


def test_a_second_run_computes_nothing(tmp_path, outcome):
    claim = planted(LEARNS, STILL)
    object.__setattr__(claim, "experiment", None)  # would fail
    again = lab.run(claim, Path(__file__), folder=tmp_path / "cache")
    assert again.record == outcome.record
    assert again.svg == outcome.svg


def test_other_texts_are_another_experiment(tmp_path):
    seen = []

    def experiment(budget):
        seen.append(dict(budget.corpora))
        return finding()

    claim = replace(planted(LEARNS, STILL), experiment=experiment, corpora=("trec",))
    for corpora in ({"trec": "a", "bbc": "b"}, {"trec": "a"}, {"trec": "c"}, {}, {"trec": "c"}):
        lab.run(claim, Path(__file__), folder=tmp_path, corpora=corpora)
    assert seen == [{"trec": "a"}, {"trec": "c"}, {}]  # those that it does not read do not count


def test_the_report_is_one_page_that_loads_nothing(outcome):
    page = report.report([outcome], {"commit": "abc"})
    loaded = r"<script|<link|<img|@import|\ssrc=|url\((?!#planted-)"
    assert not re.search(loaded, re.sub(r"<pre[^>]*>.*?</pre>", "", page, flags=re.DOTALL))
    assert not re.search("<script|<link|<img", page)
    assert "default-src 'none'" in page
    assert "prefers-color-scheme: dark" in page
    assert "width=device-width" in page
    assert "Ours &lt;is&gt; better." in page
    assert "<is>" not in page
    assert '<a href="https://example.org/a">https://example.org/a</a>).' in page
    assert "def planted" in page  # the source
    (figure,) = re.findall(r"<svg[^>]*>", page)
    found = report.effect(outcome.effect, outcome.interval)
    said = html.escape(f"{outcome.says}; {outcome.effect_name}: {found}")
    assert f'role="img" aria-label="{said}"' in figure
    assert "test_the_report" in page
    assert re.search(r'<summary>The numbers: 2 rows</summary><div class="wide"[^>]*><table>', page)
    ids = re.findall(r'\sid="([^"]*)"', page)
    assert len(ids) == len(set(ids))


def planted_in(outcome, name, verdict):
    claim = replace(outcome.claim, name=name, sentence=f"{name}.")
    return replace(outcome, claim=claim, verdict=verdict.value, says=f"{verdict.value} it rains")


def test_the_report_has_chapters_and_counts_verdicts(outcome):
    first, second = (modules[0].replace("_", "-") for modules in (*CHAPTERS.values(),)[:2])
    chapters = list(CHAPTERS)[:2]
    found = [
        planted_in(outcome, first, Verdict.HOLDS_ONLY_IF),
        planted_in(outcome, second, Verdict.NOT_DECIDED),
        planted_in(outcome, "elsewhere", Verdict.NOT_DECIDED),
    ]
    page = report.report(found, {})
    titles = re.findall('<h2 id="([^"]*)">([^<]*)</h2>', page)
    assert [title for _, title in titles] == [*chapters, "Others"]
    contents = page[page.index("<nav") : page.index("</nav>")]
    assert re.findall('href="#([^"]*)"', contents) == [anchor for anchor, _ in titles]
    told = re.sub("<[^>]*>", "", page[: page.index("<nav")])
    assert "Of 3 claims: 1 hold under a condition, 2 not decided." in told
    assert [*re.findall('<section id="([^"]*)"', page)] == [first, second, "elsewhere"]
    table = page[page.index('<table class="all">') : page.index("</table>")]
    assert re.findall('href="#([^"]*)"', table) == [first, second, "elsewhere"]
    assert page.count("<b>holds only if</b> it rains") == 2  # in the table, and at the claim
    ids = re.findall(r'\sid="([^"]*)"', re.sub(r"<svg.*?</svg>", "", page, flags=re.DOTALL))
    assert len(ids) == len(set(ids))


def test_the_committed_reports_figures_have_a_text():
    page = (RECORDED / "report.html").read_text("utf-8")
    record = json.loads((RECORDED / "record.json").read_text("utf-8"))
    names = re.findall(r'<svg role="img" aria-label="([^"]+)"', page)
    assert len(re.findall("<svg", page)) == len(names) == len(record["claims"])
    for name, row in zip(names, record["claims"], strict=True):
        assert html.unescape(name).startswith(f"{row['says']}; {row['effect_name']}: ")


def test_the_committed_record_is_of_all_claims():
    record = json.loads((RECORDED / "record.json").read_text("utf-8"))
    assert not record["quick"]
    assert [row["name"].replace("-", "_") for row in record["claims"]] == [*CLAIMS]
    for row in record["claims"]:
        claim = lab.load(row["name"].replace("-", "_"))
        texts = ("sentence", "hypothesis", "criterion", "literature", "notes")
        assert {text: row[text] for text in texts} == {text: getattr(claim, text) for text in texts}
        assert row["says"].startswith(row["verdict"])


def test_the_committed_report_is_that_of_the_record():
    record = json.loads((RECORDED / "record.json").read_text("utf-8"))
    file = RECORDED / "report.html"
    page = file.read_text("utf-8")
    assert file.stat().st_size < 8e6
    assert f"commit {record['commit'][:12]}" in page
    for row in record["claims"]:
        section = page[page.index(f'<section id="{row["name"]}">') :]
        section = section[: section.index("<figure")]
        told = html.unescape(re.sub("<[^>]*>", "", section))
        for text in (row["sentence"], row["says"], report.effect(row["effect"], row["interval"])):
            assert text in told


def test_a_figure_has_the_colours_of_the_page(outcome):
    svg = ET.fromstring(outcome.svg.replace("xlink:href", "href"))
    assert svg.attrib["viewBox"]
    assert "currentColor" in outcome.svg
    assert not re.search("#000000|#ffffff", outcome.svg)


def test_claims_are_found_by_name():
    hyphens = CLAIMS[0].replace("_", "-")
    assert lab.chosen([hyphens, CLAIMS[0], CLAIMS[1]]) == [CLAIMS[0], CLAIMS[1]]
    assert lab.chosen([]) == [*CLAIMS]
    with pytest.raises(UserError, match=f"no claim '{hyphens}x'; the nearest are {hyphens}"):
        lab.chosen([hyphens + "x"])


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("NOPE", f"an example is {CLAIMS[0].replace('_', '-')}"),
        ("", f"an example is {CLAIMS[0].replace('_', '-')}"),
        ("XOR", "the nearest are perceptron-learns-and-or-not-xor, hidden-layer-learns-xor"),
        ("ReLU-units-dye", "the nearest are relu-units-die"),
    ],
)
def test_an_unknown_claim_is_told_with_few_others(name, told):
    with pytest.raises(UserError) as error:
        lab.chosen([name])
    assert str(error.value).startswith(f"there is no claim {name!r}; {told}")
    assert str(error.value).count(", ") < 5
    with pytest.raises(UserError) as error:
        lab.chosen(["a"])
    assert str(error.value).count(", ") == 4


@pytest.mark.parametrize("module", CLAIMS)
def test_every_claim_says_what_it_needs(module):
    claim = lab.load(module)
    assert claim.name.replace("-", "_") == module
    for text in (claim.notes, claim.sentence, claim.hypothesis, claim.criterion, claim.literature):
        assert text.strip()
    assert claim.notes.startswith("§")
    assert claim.sentence.endswith(".")


def test_every_claim_is_in_the_table():
    folder = Path(lab.__file__).parent
    defined = {file.stem for file in folder.glob("*.py") if "\nCLAIM = " in file.read_text("utf-8")}
    assert defined == {*CLAIMS}
    assert len({*CLAIMS}) == len(CLAIMS)


#: Networks with given or random weights, sums and derivatives: nothing is trained.
WITHOUT_TRAINING = {
    "a_constant_slope_means_linear",
    "beta2_is_usually_9999",
    "depth_makes_gradients_vanish_or_explode",
    "depth_needs_fewer_units",
    "full_batch_direction_is_exact",
    "mini_batch_costs_less_per_example",
    "nesterov_corrects_momentum",
    "no_activation_is_one_linear_map",
    "one_hidden_layer_fits_any_function",
    "sigmoid_saturates",
    "too_large_batch_needs_too_much_memory",
}


@pytest.mark.slow
@pytest.mark.parametrize("module", CLAIMS)
def test_every_claim_runs_quickly(module, tmp_path):
    shares = []
    claim = lab.load(module)
    source = Path(lab.__file__).parent / f"{module}.py"
    found = lab.run(claim, source, quick=True, folder=tmp_path, progress=shares.append)
    assert found.runs == 0 if module in WITHOUT_TRAINING else found.runs > 0
    assert found.numbers
    assert shares[-1] == 1
    assert shares == sorted(shares)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (12, "12"), (-1.5, "−1.500"), (123456.7, "123,457"), (1e-7, "1.00e-07"), (0.01234, "0.01234"),
     (math.nan, "–"), (math.inf, "∞"), (-math.inf, "−∞"), ("x", "x"), (None, "")],
)  # fmt: skip
def test_numbers_as_they_are_shown(value, text):
    assert report.shown(value) == text


@pytest.mark.parametrize(
    ("value", "interval", "text"),
    [
        (1.5, (1.0, 2.0), "1.500 [1, 2]"),
        (14.0, (14.0, 14.0), "14"),
        (1.0, (2.0, 2.0), "1 [2, 2]"),
        (2.0001, (2.0, 2.0002), "2.000 [2, 2.000]"),
        (None, (None, 3), " [, 3]"),
    ],
)
def test_effects_as_they_are_shown(value, interval, text):
    assert report.effect(value, interval) == text


@pytest.mark.parametrize(("value", "text"), [(0.44, "0.4 s"), (12.2, "12 s"), (200, "3 min 20 s")])
def test_times_as_they_are_shown(value, text):
    assert report.seconds(value) == text
