"""What the READMEs show is what happens: commands and snippets run, tables are current, both agree."""

import contextlib
import io
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
CHINESE = (ROOT / "README.zh.md").read_text("utf-8")
RESULTS = {path.name: path.read_text("utf-8") for path in (ROOT / "docs/en/results").glob("*.md")}


def blocks(language, text=README):
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def outline(text):
    """The levels of the headings, without the comments in code."""
    return re.findall(r"^#+(?= )", re.sub(r"^```.*?^```$", "", text, flags=re.S | re.M), re.M)


def links(text):
    """Where links and pictures lead, without those that a script writes."""
    text = re.sub(r"^<!-- ([a-z-]+) -->\n.*?^<!-- /\1 -->$", "", text, flags=re.S | re.M)
    found = re.findall(r"\]\(([^)]+)\)|src=\"([^\"]+)\"", text)
    return [a or b for a, b in found if not a.startswith("#")]


def code_words(text):
    """Commands, options, files and names: what stands between backticks outside of blocks."""
    text = re.sub(r"^```.*?^```$", "", text, flags=re.S | re.M)
    return set(re.findall(r"`([^`\n]+)`", text))


def commands():
    lines = "".join(blocks("sh")).splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.strip()]


def run(arguments, folder, **options):
    return subprocess.run(
        arguments, cwd=folder, capture_output=True, text=True, check=False, **options
    )


def test_every_make_target_exists():
    targets = {c[1] for c in commands() if c[0] == "make"} | set(
        re.findall(r"`make (\S+?)`", README)
    )
    assert {"demo", "test", "board"} <= targets
    for target in targets:
        done = run(["make", "--dry-run", target], ROOT)
        assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def after_the_commands(tmp_path_factory):
    """A folder in which every python command of the README has run, in order."""
    folder = tmp_path_factory.mktemp("reader")
    (folder / "scripts").symlink_to(ROOT / "scripts")
    rows = ["I loved it,good", "a waste of time,bad", "I would watch it again,good", "so dull,bad"]
    for name, repeats in (("reviews.csv", 25), ("more-reviews.csv", 3)):
        text = "\n".join(["text,label", *rows * repeats])
        (folder / name).write_text(text + "\n")
    outputs = {}
    for command in commands():
        if command[0] in ("python", "dlnotes"):
            program = ["-m", "dlnotes"] if command[0] == "dlnotes" else []
            done = run([sys.executable, *program, *command[1:]], folder)
            assert done.returncode == 0, done.stderr
            outputs[Path(command[1]).stem] = done.stdout
    return folder, outputs


def test_the_commands_on_own_data_run(after_the_commands):
    _, outputs = after_the_commands
    assert set(outputs) == {"train", "predict", "evaluate"}
    assert '"label": "good"' in outputs["predict"]
    assert "macro-F1" in outputs["evaluate"]


def test_the_python_snippets_run(after_the_commands, monkeypatch):
    folder, _ = after_the_commands
    monkeypatch.chdir(folder)
    snippets = blocks("python")
    assert snippets
    for snippet in snippets:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(snippet, "README.md", "exec"), {})
        assert printed.getvalue().strip()


def test_what_a_snippet_prints_is_shown(capsys):
    shown = re.findall(r"^```python\n([^`]*)^```\n\n```text\n(.*?)^```$", README, re.S | re.M)
    assert len(shown) == 2  # Adam's rule, and a rule of one's own
    for snippet, output in shown:
        exec(compile(snippet, "README.md", "exec"), {})
        assert capsys.readouterr().out.strip("\n") == output.strip("\n")


def test_the_tables_are_those_of_the_records():
    done = run([sys.executable, "scripts/tables.py", "--check"], ROOT)
    assert done.returncode == 0, done.stderr


def test_both_languages_have_the_same_parts():
    assert outline(CHINESE) == outline(README)
    assert len(outline(README)) > 6
    for language in ("sh", "python", "json", "text"):
        assert blocks(language, CHINESE) == blocks(language)
        assert blocks(language)
    other = {"README.md": "README.zh.md", "docs/book-zh.png": "docs/book.png"}
    assert [other.get(link, link) for link in links(CHINESE)] == links(README)
    assert code_words(CHINESE) == code_words(README)
    assert "`dlnotes verify`" in README


def test_they_are_short():
    for text in (README, CHINESE):
        assert len(text.splitlines()) <= 200


@pytest.mark.parametrize("text", [README, CHINESE], ids=["en", "zh"])
def test_links_lead_to_files_and_headings(text):
    assert len(links(text)) > 20
    written = re.findall(r"\]\((docs/[^)]+)\)", text)  # by scripts/tables.py as well
    assert {"docs/en/results/claims.md"} < set(written)
    for path in {*links(text), *written}:
        assert path.startswith("https://") or (ROOT / path).exists(), path
    titles = {title.lower() for title in re.findall(r"^#+ (.+)", text, re.M)}
    for anchor in re.findall(r"\]\(#([^)]+)\)", text):
        assert anchor in titles


@pytest.mark.parametrize("page", sorted(RESULTS))
def test_files_that_the_pages_of_results_name_exist(page):
    for path in re.findall(r"`((?:scripts|tests|src/dlnotes|results)/[\w/.-]+\w)`", RESULTS[page]):
        assert (ROOT / path).exists(), path
    for name in re.findall(r"scripts/(\w+\.py)", README + RESULTS[page]):
        assert (ROOT / "scripts" / name).exists(), name
    for target in re.findall(r"`make (\S+?)`", RESULTS[page]):
        done = run(["make", "--dry-run", target], ROOT)
        assert done.returncode == 0, done.stderr
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", RESULTS[page]):
        assert (ROOT / "docs/en/results" / link).exists(), link


def test_every_page_of_results_is_in_its_index():
    tree = re.search(r"^```\{toctree\}\n(.*?)^```$", RESULTS["index.md"], re.S | re.M)[1]
    assert {f"{name}.md" for name in tree.split() if name.isalpha() or "-" in name} >= (
        RESULTS.keys() - {"index.md"}
    )


@pytest.mark.slow
def test_the_demo(tmp_path):
    """Its table has the three rows, and our models reach what the README says of them."""
    done = run([sys.executable, "scripts/demo.py", "--out", str(tmp_path / "demo")], ROOT)
    assert done.returncode == 0, done.stderr
    rows = dict(
        re.findall(r"^ +(FastText|TextCNN|TF-IDF)[^\d]* (0\.\d+)", done.stdout, re.MULTILINE)
    )
    assert set(rows) == {"FastText", "TextCNN", "TF-IDF"}
    assert all(float(accuracy) > 0.94 for accuracy in rows.values())
    assert re.search(r"sports \d\.\d+ +The striker", done.stdout)
    assert re.search(r"business \d\.\d+ +Shares fell", done.stdout)
