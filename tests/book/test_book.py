"""The book's pages: both languages have the same parts, the snippets run, the rows are the records'."""

import itertools
import json
import os
import re
import sys
from pathlib import Path

import pytest
import torch
import yaml

import book

pytest.importorskip("sphinx", reason="needs the extra docs")
pytest.importorskip("myst_nb", reason="needs the extra docs")

from jupyter_client.kernelspec import KernelSpecManager
from sphinx.pycode import ModuleAnalyzer

from chapters import figures, mathjax, notebooks, pages, ravine, rows, words
from dlnotes.claims import report
from dlnotes.errors import UserError
from dlnotes.optim import OPTIMIZERS

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted(path.name for path in (DOCS / "en").glob("*.md"))
CHAPTERS = [name for name in PAGES if name != "index.md"]
LANGUAGES = sorted(words.LANGUAGES)


def read(language, name):
    return (DOCS / language / name).read_text("utf-8")


def headings(text):
    without_code = re.sub(r"^```(\{code-cell\} )?python\n.*?^```", "", text, flags=re.M | re.S)
    return re.findall(r"^(#+) (.*)", without_code, re.M)


def code(text):
    """What a reader can run, cells and answers, in the page's order."""
    return re.findall(r"^```(?:\{code-cell\} )?python\n(.*?)^```$", text, re.M | re.S)


def directives(text):
    """Every directive with its argument, and its content where that is names.

    Without tables of contents: pages in folders are in English alone.
    """
    found = re.findall(r"^(?:`{3,}|:{3,})\{(?!toctree)([\w-]+)\} ?(.*)", text, re.M)
    named = re.findall(r"^```\{(?:proof|speed|verdicts)\}\n(.*?)^```", text, re.M | re.S)
    return found, named


def links(text):
    """Where a page links to; the models' pages are in English alone."""
    english = r'<a href="\.\./en/(models/(?!index)\w+)\.html" hreflang="en">'
    return re.findall(r"\]\((.*?)\)", re.sub(english, r"[](\1.md)", text))


def test_there_are_chapters():
    assert {"gradient-descent.md", "momentum.md"} <= set(CHAPTERS)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_the_same_structure_in_both_languages(name):
    pages = {language: read(language, name) for language in LANGUAGES}
    levels = {language: [level for level, _ in headings(page)] for language, page in pages.items()}
    assert levels["en"] == levels["zh"]
    assert directives(pages["en"]) == directives(pages["zh"])
    assert code(pages["en"]) == code(pages["zh"])
    assert links(pages["en"]) == links(pages["zh"])


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_first_page_says_which_chapter_lacks_which_part(language):
    titles = {name: headings(read(language, name))[0][1] for name in CHAPTERS}
    names = {en: en if language == "en" else zh for en, zh in words.HEADINGS.items()}
    listed = re.search(r"toctree.*?\n\n(.*?)```", read("en", "index.md"), re.S)[1].splitlines()
    order = [f"{name}.md" for name in listed if f"{name}.md" in CHAPTERS]
    assert sorted(order) == CHAPTERS
    lacking = {
        part: [titles[n] for n in order if f"\n## {section}\n" not in read(language, n)]
        for part, section in names.items()
    }
    said = {
        "See it move": ("three have no figure to play with: {}.", "{}三章没有可以动手操作的图"),
        "Is it fast?": ("no measurement of speed in {}.", "{}没有速度的测量"),
    }
    for part, pages_without in lacking.items():
        assert not pages_without or part in said, (part, pages_without)
        if pages_without:
            *first, last = (f"*{t}*" if language == "en" else f"《{t}》" for t in pages_without)
            both = (f"{', '.join(first)} and {last}", f"{''.join(first)}和{last}")
            place = LANGUAGES.index(language)
            assert said[part][place].format(both[place]) in read(language, "index.md")
        elif part in said:
            for phrase in said[part][LANGUAGES.index(language)].split("{}"):
                assert not phrase.strip(".") or phrase not in read(language, "index.md")


def test_what_word_vectors_gain_is_what_the_records_say():
    for language in LANGUAGES:
        line = next(
            x for x in read(language, "text-classification.md").splitlines() if "90.0 ± 0.4" in x
        )
        for model, name in (
            ("dmn", "DMN+"),
            ("rcnn", "RCNN"),
            ("han", "HAN"),
            ("textcnn", "TextCNN"),
        ):
            shown = []
            for vectors in ("", "-word2vec"):
                entry = json.loads(
                    (rows.RESULTS / f"trec-{model}{vectors}.json").read_text("utf-8")
                )
                test = entry["record"]["test"]["accuracy"]
                assert len(test["runs"]) == 5
                shown.append(f"{100 * test['mean']:.1f} ± {100 * test['std']:.1f}")
            assert f"{name} {shown[0]} {'and' if language == 'en' else '和'} {shown[1]}" in line


def test_a_rare_weight_moves_as_far_as_the_page_on_choosing_says():
    moved = {}
    for rule, between in itertools.product(("gradient-descent", "adagrad", "adam"), (1, 100)):
        w = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
        optimizer = OPTIMIZERS[rule]([w], lr=1.0)
        for step in range(1, 10_001):
            w.grad = torch.full_like(w, float(step % between == 0))
            optimizer.step()
        moved[rule, between] = -w.item()
    for rule, share in (("gradient-descent", 0.01), ("adagrad", 0.1), ("adam", 0.1)):
        assert moved[rule, 100] / moved[rule, 1] == pytest.approx(share, rel=0.07)
    assert moved["adagrad", 100] == pytest.approx(2 * 100**0.5, rel=0.08)
    assert moved["adam", 100] == pytest.approx(0.1 * 10_000, rel=0.03)


def test_no_language_has_a_page_more():
    assert {path.name for path in (DOCS / "zh").glob("*.md")} == set(PAGES)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_has_its_sections_in_order_and_three_exercises(name, language):
    text = read(language, name)
    sections = [title for level, title in headings(text) if level == "##"]
    names = {en: en if language == "en" else zh for en, zh in words.HEADINGS.items()}
    known = [title for title in sections if title in names.values()]
    assert known == [title for title in names.values() if title in known]
    assert {names[english] for english in words.MANDATORY} <= set(known)
    kinds = [kind for kind, _ in directives(text)[0]]
    assert kinds.count("exercise") == kinds.count("answer") == 3
    assert {"picture", "literalinclude", "code-cell", "notebook", "verdicts"} <= set(kinds)
    answers = re.findall(r"^:::\{answer\}\n(.*?)^:::$", text, re.M | re.S)
    assert all("assert" in answer for answer in answers)


@pytest.mark.parametrize("name", CHAPTERS)
def test_every_snippet_of_a_chapter_runs_and_the_answers_are_right(name, capsys, monkeypatch):
    without = NotImplementedError("not compiled, to be quick")
    monkeypatch.setattr("dlnotes.optim._native.load", lambda: without)
    monkeypatch.setattr("dlnotes.activations._elementwise.in_one_pass", lambda *_: None)
    namespace = {}
    for snippet in code(read("en", name)):
        exec(compile(snippet, name, "exec"), namespace)
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize("language", LANGUAGES)
def test_emphasis_is_closed_where_markdown_sees_it(language):
    """After a full stop and before a Chinese character, ** does not end."""
    for name in PAGES:
        assert not re.findall(r"[。：，]\*\*\w", read(language, name))


def test_the_speed_row_is_that_of_the_record():
    record = json.loads((rows.RESULTS / "benchmarks" / "optimizers.json").read_text("utf-8"))
    (mid,) = (
        row for row in record["rows"] if (row["rule"], row.get("model")) == ("momentum", "mid")
    )
    times = mid["milliseconds"]
    table = rows.speed("momentum", "en")
    first = [cell.strip() for cell in table.splitlines()[2].strip("| ").split("|")]
    assert float(first[1]) == pytest.approx(times["ours"], rel=5e-3)
    assert float(first[4]) == pytest.approx(times["default"] / times["ours"], abs=5e-3)
    sparse = [line for line in table.splitlines() if "embedding" in line]
    assert sparse
    assert sparse[0].count("–") == 4  # torch's momentum takes no sparse gradient


def test_the_speed_row_of_a_first_chapter_is_that_of_the_record():
    record = json.loads((rows.RESULTS / "benchmarks" / "foundations.json").read_text("utf-8"))
    names = ["update of a perceptron", "update of 20 layers", "clip_grad_norm_"]
    lines = rows.speed("\n".join(names), "en").splitlines()
    assert lines[0] == "| timed | ours, µs | torch, µs | ours / torch |"
    for name, line in zip(names, lines[2:5], strict=True):
        shown, *cells = [cell.strip() for cell in line.strip("| ").split("|")]
        assert shown.strip("`") == name
        expected = [record["rows"][name][key] for key in ("ours", "torch", "ratio")]
        numbers = [float(cell.replace(",", "")) for cell in cells]
        assert numbers == pytest.approx(expected, rel=2e-2)
    assert lines[-1].endswith("`python scripts/bench_foundations.py` repeats them.")
    assert "| 感知器的一次更新 |" in rows.speed(names[0], "zh_CN")


def test_the_proof_row_is_a_comparison_that_has_just_run():
    table = rows.proof("gradient descent", "en").splitlines()
    cells = [cell.strip() for cell in table[2].strip("| ").split("|")]
    assert cells[:2] == ["gradient descent", "`torch.optim.SGD, 300 steps`"]
    assert 0 <= float(cells[4]) <= float(cells[5]) == 1e-10


def test_comparisons_that_have_run_are_not_run_again(tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "_rows", {})
    a, b = tmp_path / "a.md", tmp_path / "b.md"
    a.write_text("```{proof}\nrelu\nno such\n```\n\n```{speed}\nelu\n```\n", "utf-8")
    b.write_text(":::{proof}\ntanh\n:::\n", "utf-8")
    assert rows.named_in([a, b]) == {"relu", "no such", "tanh"}
    for name in ("relu", "no such", "tanh"):
        rows.keep_rows(name, rows.compare(name))
    monkeypatch.setattr(rows, "compare", None)
    for name in ("relu", "tanh"):
        assert name in rows.proof(name, "en")
    with pytest.raises(UserError, match="proof: dlnotes verify has no comparison 'no such'"):
        rows.proof("no such", "en")
    with pytest.raises(TypeError):
        rows.proof("elu", "en")
    b.write_bytes(b"a\xff")
    with pytest.raises(UserError, match=r"b\.md is not UTF-8: invalid start byte at byte 1"):
        rows.named_in([a, b])


def fails(name="", folder=None):
    raise ZeroDivisionError("this")


def leaves(name="", folder=None):
    sys.exit(3)


@pytest.mark.parametrize(
    ("part", "function", "message"),
    [
        ("draw", fails, r"^the figure \w+: ZeroDivisionError: this$"),
        ("draw", leaves, r"^the figure \w+: SystemExit: 3$"),
        ("compare", fails, r"^the comparison .+: ZeroDivisionError: this$"),
    ],
)
def test_what_fails_beforehand_is_named(tmp_path, monkeypatch, part, function, message):
    monkeypatch.setattr(pages, "FIGURES", ["ravine_momentum"])
    monkeypatch.setattr(pages, part, function)
    if part == "compare":
        monkeypatch.setattr(pages, "draw", print)
    with pytest.raises(UserError, match=message):
        pages.make_beforehand(tmp_path)


@pytest.mark.parametrize(("row", "name"), [("proof", "x"), ("speed", "x"), ("verdicts", "x")])
def test_a_name_that_no_record_has_is_refused(row, name):
    with pytest.raises(UserError, match=f"{row}: .* 'x'"):
        rows.ROWS[row](name, "en")


def test_a_verdict_that_is_not_translated_is_refused(tmp_path):
    known = tmp_path / "translations.yaml"
    known.write_text('"old sentence": "旧"\n')
    assert words.translate("old sentence", "zh_CN", known) == "旧"
    assert words.translate("new sentence", "en", known) == "new sentence"
    with pytest.raises(UserError, match="no translation of the record's 'new sentence'"):
        words.translate("new sentence", "zh_CN", known)


def claims():
    record = json.loads((rows.RESULTS / "claims" / "record.json").read_text("utf-8"))
    return {row["name"]: row for row in record["claims"]}


def test_verdicts_say_what_the_record_says():
    for name in ("sigmoid-saturates", "momentum-is-torchs"):  # which are not rephrased
        row, text = claims()[name], rows.verdicts(name, "en")
        assert row["sentence"] in text
        assert f"**{row['verdict']}**{row['says'].removeprefix(row['verdict'])}" in text


def test_what_is_rephrased_is_in_a_record_and_keeps_verdict_and_number():
    sentences = yaml.safe_load(words.REPHRASINGS.read_text("utf-8"))
    conditions = {row["says"].removeprefix(row["verdict"]).strip() for row in claims().values()}
    effects = {row["effect_name"] for row in claims().values()}
    for old, new in sentences.items():
        assert old in conditions | effects
        assert ("{}" in new) == (old in effects)
    for row in claims().values():
        text = rows.verdicts(row["name"], "en")
        assert f"**{row['verdict']}**" in text
        assert report.effect(row["effect"], row["interval"]) in text


def test_a_measured_number_stands_in_its_sentence_or_before_its_name(monkeypatch, tmp_path):
    known = tmp_path / "rephrasings.yaml"
    known.write_text('"steps, a / b": "a needs {} times as many steps as b"\n')
    monkeypatch.setattr(words, "REPHRASINGS", known)
    assert words.measured("2.0", "steps, a / b", "en") == "a needs 2.0 times as many steps as b"
    assert words.measured("2.0", "lead of a", "en") == "2.0 (lead of a)"
    lead = "updates to the target, single examples / batches of 64"
    assert words.measured("2.0", lead, "zh_CN").startswith("2.0（达到目标")


def test_mathjax_is_the_version_that_the_book_is_made_for(tmp_path, monkeypatch):
    mathjax.place(tmp_path / "site")
    assert (tmp_path / "site" / mathjax.FILE).stat().st_size > 10**6
    monkeypatch.setattr(mathjax, "SHA256", "0" * 64)
    with pytest.raises(UserError, match=r"tex-svg\.js is not MathJax 3\.2\.2"):
        mathjax.place(tmp_path / "other")
    monkeypatch.setattr(mathjax, "PACKAGE", "no-such-package")
    with pytest.raises(UserError, match=r"MathJax 3\.2\.2, which the package no-such-package has"):
        mathjax.place(tmp_path / "other")
    assert not (tmp_path / "other").exists()


def keep_environment(monkeypatch):
    """Restore after the test what a build sets for the kernels."""
    for name in ("IPYTHONDIR", "JUPYTER_PATH", "JUPYTER_PREFER_ENV_PATH", "PYTHONWARNINGS"):
        monkeypatch.setenv(name, os.environ.get(name, ""))


@pytest.mark.parametrize("variable", ["JUPYTER_PATH", "JUPYTER_DATA_DIR"])
def test_cells_run_with_this_python_whatever_kernels_the_user_has(tmp_path, monkeypatch, variable):
    keep_environment(monkeypatch)
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "0")
    kernel = tmp_path / "kernels" / "python3"
    kernel.mkdir(parents=True)
    (kernel / "kernel.json").write_text(
        '{"argv": ["another"], "display_name": "P", "language": "python"}'
    )
    monkeypatch.setenv(variable, str(tmp_path))
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    assert KernelSpecManager().get_kernel_spec("python3").argv[0] == "another"
    book._set_up_kernels(tmp_path / "ipython")
    assert KernelSpecManager().get_kernel_spec("python3").argv[0] != "another"
    assert "PYTHONWARNINGS" not in os.environ


def test_a_folder_that_is_no_site_is_not_overwritten(tmp_path, monkeypatch, capsys):
    def build(out, cells):
        for folder in LANGUAGES:
            (out / folder).mkdir()

    monkeypatch.setattr(book, "build", build)
    keep_environment(monkeypatch)
    (tmp_path / "en").mkdir()
    (tmp_path / "en" / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="en is not of a site of this program"):
        book.main(tmp_path)
    assert (tmp_path / "en" / "mine.txt").read_text() == "mine"
    for _ in range(2):  # its own site it replaces
        book.main(tmp_path / "site")
    assert {path.name for path in (tmp_path / "site").iterdir()} == {"en", "index.html", "zh"}


def site_of_sphinx(folder):
    folder.mkdir()
    (folder / ".buildinfo").touch()


@pytest.mark.parametrize(
    "make",
    [
        lambda out: (out / "index.html").write_text("mine"),
        lambda out: (out / "index.html").mkdir(),
        lambda out: (out / "zh").symlink_to("nowhere"),
        lambda out: (out / "en").symlink_to(out.parent),
        lambda out: (out / "en").write_text("a file"),
        lambda out: site_of_sphinx(out / "en"),
    ],
)
def test_what_is_of_somebody_else_is_told_before_anything_is_built(tmp_path, monkeypatch, make):
    monkeypatch.setattr(book, "build", None)
    out = tmp_path / "out"
    out.mkdir()
    (tmp_path / ".dlnotes").touch()
    make(out)
    before = sorted(out.iterdir())
    with pytest.raises(UserError, match=r"--out: .*out/\S+ is not of a site of this program"):
        book.main(out)
    assert sorted(out.iterdir()) == before


def test_the_best_rates_are_polyaks():
    """Neighbouring rates end farther away."""
    for rule in ("gradient-descent", "momentum"):
        best = ravine.best(rule)
        ends = [
            ravine.path(rule, **{**best, "lr": best["lr"] * k}, steps=200)[-1].norm()
            for k in (0.95, 1.0, 1.05)
        ]
        assert ends[1] < min(ends[0], ends[2])
    assert ravine.path("momentum", 0.05, 0.0).equal(ravine.path("gradient-descent", 0.05))


def test_what_is_included_from_the_source_is_there():
    found = 0
    for page in sorted(DOCS.rglob("*.md")):
        pattern = r"\{literalinclude\} *(\S+)\n:pyobject: *(\S+)"
        for file, name in re.findall(pattern, page.read_text("utf-8")):
            source = (page.parent / file).resolve()
            tags = ModuleAnalyzer.for_file(str(source), source.stem).find_tags()
            assert name in tags, (page.name, file, name)
            found += 1
    assert found > 20


@pytest.mark.parametrize(("language", "summary"), [("en", "What was tested"), ("zh_CN", "检验的")])
def test_an_undecided_claim_says_what_was_tested(language, summary):
    record = json.loads((rows.RESULTS / "claims" / "record.json").read_text("utf-8"))
    verdicts = {row["name"]: row["verdict"] for row in record["claims"]}
    pages = "".join(read("en", name) for name in CHAPTERS)
    named = set(re.findall(r"[\w-]+", " ".join(re.findall(r"\{verdicts\}\n(.*?)```", pages, re.S))))
    undecided = [name for name in named if verdicts.get(name) == "not decided"]
    assert undecided
    for name, verdict in verdicts.items():
        if name in named:
            text = rows.verdicts(name, language)
            assert (f"<summary>{summary}" in text) == (name in undecided), (name, verdict)


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_notebook_has_no_directive_and_the_pages_code(language, tmp_path, monkeypatch):
    # The comparisons take a minute; the slow tests run them.
    monkeypatch.setitem(rows.ROWS, "proof", lambda names, language: f"compared: {names}")
    for name in figures.FIGURES:
        (tmp_path / "_static" / "figures").mkdir(parents=True, exist_ok=True)
        (tmp_path / "_static" / "figures" / f"{name}.png").write_bytes(b"a picture")
    for name in CHAPTERS:
        text = read(language, name)
        made = notebooks.notebook(text, DOCS / language, tmp_path, words.LANGUAGES[language])
        prose = "\n".join(cell.source for cell in made.cells if cell.cell_type == "markdown")
        cells = [cell.source for cell in made.cells if cell.cell_type == "code"]
        assert cells
        assert all(f"{cell}\n" in code(text) for cell in cells)
        assert not re.search(r"^(```|:::+)\{", prose, re.M)
        assert re.search(r"^(class|def) ", prose, re.M)  # included from the source
        assert "<details>" in prose
        pictures = set(re.findall(r"\(attachment:(\S+)\)", prose))
        attached = {a for cell in made.cells for a in cell.get("attachments", {})}
        assert pictures == attached
        assert len(pictures) >= 1


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_notebook_alone_in_a_folder_has_no_dead_link(language, tmp_path, monkeypatch):
    for name in rows.ROWS:
        monkeypatch.setitem(rows.ROWS, name, lambda names, language: f"records: {names}")
    (tmp_path / "_static" / "figures").mkdir(parents=True)
    for name in figures.FIGURES:
        (tmp_path / "_static" / "figures" / f"{name}.png").write_bytes(b"a picture")
    linked = 0
    for page in sorted((DOCS / language).rglob("*.md")):
        text = page.read_text("utf-8")
        if "{code-cell}" in text:
            made = notebooks.notebook(text, page.parent, tmp_path, words.LANGUAGES[language])
            prose = "\n".join(c.source for c in made.cells if c.cell_type == "markdown")
            prose = re.sub(r"^(`{3,}).*?^\1|`[^`\n]+`", "", prose, flags=re.M | re.S)
            for target in re.findall(r"\]\((\S+?)\)|(?:href|src)=\"(.*?)\"", prose):
                there = "".join(target).startswith(("https://", "attachment:"))
                assert there, (page.name, target)
            linked += len(re.findall(r"\]\([\w./-]+\.md", text))
    assert linked > 10


@pytest.mark.parametrize(
    ("language", "shown"),
    [
        ("en", "See *momentum*, the errata (*Errata*), [it](https://a.b/c.md) and `[x](y.md)`."),
        (
            "zh",
            "See momentum（*动量*）, the errata（*勘误*）, [it](https://a.b/c.md) and `[x](y.md)`.",
        ),
    ],
)
def test_a_link_to_a_page_is_its_title_in_a_notebook(language, shown, tmp_path):
    text = "See [momentum](momentum.md), [the errata](errata.md#adam-s-2), [it](https://a.b/c.md) and `[x](y.md)`."
    found = notebooks.plain(text, DOCS / language, tmp_path, words.LANGUAGES[language], {})
    assert found == shown
    code = "```python\nf[rule](a.md)\n```"
    assert notebooks.plain(code, DOCS / language, tmp_path, "en", {}) == code


def test_a_notebook_says_that_a_figure_is_interactive_on_the_page(tmp_path):
    (tmp_path / "_static" / "figures").mkdir(parents=True)
    (tmp_path / "_static" / "figures" / "race_all.png").write_bytes(b"a picture")
    figure = "```{race} race_all\n:alt: paths\n\nPress Play.\n```"
    note = (
        "*The figure of this section is interactive on the book's page; here it is a picture.*\n\n"
    )
    picture = "![paths](attachment:race_all.png)\n\nPress Play."
    text = f"## The idea\n\nA race.\n\n## See it move\n\nPlay the race.\n\n{figure}"
    found = notebooks.plain(text, DOCS, tmp_path, "en", {})
    shown = f"## The idea\n\nA race.\n\n## See it move\n\n{note}Play the race.\n\n{picture}"
    assert found == shown
    assert notebooks.plain(figure, DOCS, tmp_path, "en", {}) == note + picture
    assert "本节的图" in notebooks.plain(figure, DOCS, tmp_path, "zh_CN", {})
    still = figure.replace("{race}", "{picture}")
    assert notebooks.plain(still, DOCS, tmp_path, "en", {}) == picture


def test_the_figures_can_be_drawn(tmp_path):
    figures.draw("ravine_momentum", tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {f"ravine_momentum{end}" for end in ("-light.svg", "-dark.svg", ".png")}
    light, dark = ((tmp_path / f"ravine_momentum-{s}.svg").read_text() for s in ("light", "dark"))
    assert figures.INK["light"] in light
    assert figures.INK["dark"] in dark
    assert figures.INK["dark"] not in light


def test_the_ravines_path_is_the_rule():
    points = ravine.path("momentum", 0.1, 0.5, steps=2)
    theta, V = torch.tensor(ravine.START, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    curvature = torch.tensor([1.0, ravine.KAPPA], dtype=torch.float64)
    for point in points[1:]:
        V = 0.5 * V + 0.5 * curvature * theta
        theta = theta - 0.1 * V
        torch.testing.assert_close(point, theta)
