"""The models' pages: one for each model, with the parts of a chapter; drawings of the real shapes."""

import json
import re
from pathlib import Path

import pytest
import torch
from torch import nn

pytest.importorskip("sphinx", reason="needs the extra docs")
pytest.importorskip("myst_nb", reason="needs the extra docs")

from test_book import code, directives, headings

import tables
from chapters import flows, notebooks, of_models, rows, words
from chapters.figures import FIGURES
from dlnotes.errors import UserError
from dlnotes.models import MODELS
from dlnotes.oracles import comparisons

FOLDER = Path(__file__).parents[2] / "docs" / "en" / "models"
NAMES = [*MODELS, "ensemble"]
OWN = ["How good is it?", "When to use it"]


def read(name):
    return (FOLDER / f"{name}.md").read_text("utf-8")


def test_every_model_of_the_registry_has_a_page_and_no_page_is_of_none():
    assert sorted(path.stem for path in FOLDER.glob("*.md")) == sorted([*NAMES, "index"])
    index = read("index")
    tree = re.search(r"^```\{toctree\}\n(.*?)^```", index, re.M | re.S)[1]
    assert [line for line in tree.splitlines() if line and line[0] != ":"] == NAMES
    assert re.findall(r"^\| \[[^]]+\]\((\w+)\.md\)", index, re.M) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_page_has_its_sections_in_order_and_three_exercises(name):
    text = read(name)
    sections = [title for level, title in headings(text) if level == "##"]
    known = [title for title in sections if title in words.HEADINGS]
    assert known == [title for title in words.HEADINGS if title in known]
    # Not of every model do the notes make a claim.
    needed = {*words.MANDATORY, "The formula", "The code", "Is it fast?", *OWN}
    assert needed - {"What the notes claim"} <= set(sections)
    found, named = directives(text)
    assert ("picture", f"flow_{name}") in found
    kinds = [kind for kind, _ in found]
    assert kinds.count("exercise") == kinds.count("answer") == 3
    assert {"literalinclude", "code-cell", "notebook"} <= set(kinds)
    assert ("verdicts" in kinds) == ("What the notes claim" in sections)
    assert f"```{{figures-of}}\n{name}\n```" in text
    assert f"```{{time-of}}\n{name}\n```" in text
    answers = re.findall(r"^:::\{answer\}\n(.*?)^:::$", text, re.M | re.S)
    assert all("assert" in answer for answer in answers)
    if name != "ensemble":
        known_notes = {comparison.note for comparison in comparisons()}
        proved = [note for notes in named for note in notes.splitlines()]
        assert {note for note in proved if note in known_notes}


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_snippets_of_a_page_run_and_the_answers_are_right(name, capsys, monkeypatch):
    without = NotImplementedError("not compiled, to be quick")
    monkeypatch.setattr("dlnotes.optim._native.load", lambda: without)
    namespace = {}
    for snippet in code(read(name)):
        exec(compile(snippet, name, "exec"), namespace)
    printed = capsys.readouterr().out
    for right, of in re.findall(r"(\d+) of (\d+) (?:right|unseen)", printed):
        if f"fasttext: {right}" not in printed:  # which can only guess
            assert int(right) > 0.9 * int(of), printed
    if name == "fasttext":
        assert "up to 2 words: ['positive', 'negative']" in printed
        assert "up to 1 words: ['positive', 'negative']" not in printed


def test_a_notebook_has_no_directive(tmp_path, monkeypatch):
    monkeypatch.setitem(rows.ROWS, "proof", lambda names, language: f"compared: {names}")
    pictures = tmp_path / "_static" / "figures"
    pictures.mkdir(parents=True)
    for name in NAMES:
        (pictures / f"flow_{name}.png").write_bytes(b"a picture")
    notebooks.write_notebooks(FOLDER.parent / "models", tmp_path, "en")
    assert sorted(path.stem for path in (tmp_path / "notebooks").iterdir()) == sorted(NAMES)
    for name in NAMES:
        made = json.loads((tmp_path / "notebooks" / f"{name}.ipynb").read_text("utf-8"))
        prose = "\n".join(
            "".join(c["source"]) for c in made["cells"] if c["cell_type"] == "markdown"
        )
        assert not re.search(r"^(```|:::+)\{", prose, re.M)
        assert re.search(r"^(class|def) ", prose, re.M)  # included from the source
        assert f"(attachment:flow_{name}.png)" in prose


@pytest.mark.parametrize("name", NAMES)
def test_a_drawing_has_the_shapes_of_the_model(name):
    """The first stage is what the model is given, the last what it returns."""
    assert f"flow_{name}" in FIGURES
    flow = flows.FLOWS[name]
    given, returned = [], []
    model = flow.model(flow.sizes)
    if isinstance(model, nn.Module):
        assert type(model) is MODELS[name]
        model.eval()
        model.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
        model.register_forward_hook(lambda _, inputs, output: returned.append(output))
    with torch.no_grad():
        result = flow.run(model, flow.sizes)
    shapes = flows.shapes(flow)
    assert set(shapes) == {stage.name for stage in flow.stages()}
    assert list(shapes.values())[-1] == tuple(result.shape)
    if name != "ensemble":
        assert next(iter(shapes.values())) == tuple(given[0].shape)
        assert list(shapes.values())[-1] == tuple(returned[0].shape)
    # Two letters of the same number would let a wrong shape pass.
    numbers = [n for letter, n in flow.sizes.items() if letter != "u"]
    assert len(set(numbers)) == len(numbers)


def test_a_stage_that_the_model_does_not_have_is_refused():
    flow = flows.FLOWS["textrnn"]
    rows_of = [list(row) for row in flow.rows]
    wrong = rows_of[1][0]._replace(dims="b t h")
    with pytest.raises(UserError, match=r"forward:x has the shape \(2, 7, 300\).*b t h, which is"):
        flows.shapes(flows.Flow(flow.model, flow.run, flow.sizes, ((wrong,),)))
    gone = rows_of[1][0]._replace(found="forward:embedded")
    with pytest.raises(UserError, match=r"no tensor forward:embedded, the stage 'word vectors'"):
        flows.shapes(flows.Flow(flow.model, flow.run, flow.sizes, ((gone,),)))


@pytest.mark.parametrize(
    ("dim", "number"), [("t", 7), ("2h", 10), ("t+h-1", 11), ("2t-1", 13), ("1", 1)]
)
def test_the_number_of_a_dimension(dim, number):
    assert flows.size(dim, {"t": 7, "h": 5}) == number


@pytest.mark.parametrize("name", NAMES)
def test_the_figures_are_those_of_the_records(name):
    records = [json.loads(p.read_text("utf-8")) for p in of_models.RESULTS.glob(f"*-{name}*.json")]
    table, times = of_models.figures_of(name, "en"), of_models.time_of(name, "en")
    for entry in records:
        test = entry["record"]["test"]
        if entry["model"] != name or entry["corpus"].startswith("babi"):
            continue
        figure = test.get("accuracy") or test.get("micro_f1")
        if figure:
            mean, std = 100 * figure["mean"], 100 * figure["std"]
            row = rf"^\| {entry['corpus']} \| .*{mean:.1f} ± {std:.1f} "
            assert re.search(row, table, re.M), entry["corpus"]
        assert re.search(
            rf"^\| {entry['corpus']}.* {entry['record']['seconds']['mean']:,.0f} \|", times, re.M
        )
    if name == "ensemble":
        for entry in records:
            (best,) = entry["record"]["best_member"].values()
            assert re.search(
                rf"^\| {entry['corpus']} \| .* \| {100 * best['mean']:.1f} ± {100 * best['std']:.1f} \|$",
                table,
                re.M,
            )
    with pytest.raises(UserError, match="no record of the model 'x'"):
        of_models.figures_of("x", "en")
    with pytest.raises(UserError, match="no record of the model 'x'"):
        of_models.time_of("x", "en")


def test_the_figures_on_a_corpus_are_of_all_models():
    for corpus in ("trec", "mr"):
        table = of_models.figures_on(corpus, "en")
        for name in NAMES:
            assert f"\n| {tables.MODELS[name]}" in table, name
        assert table.startswith("| model | test accuracy | macro-F1 | seeds |")
    with pytest.raises(UserError, match="no record of the corpus 'x'"):
        of_models.figures_on("x", "en")
