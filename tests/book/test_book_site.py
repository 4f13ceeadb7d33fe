"""The built site: no warning, no dead link; in a browser, on a desktop and on a phone, no barrier."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import pytest

pytest.importorskip("sphinx", reason="needs the extra docs")
pytest.importorskip("myst_nb", reason="needs the extra docs")

from browser import CHROMIUM, Browser
from chapters import mathjax, ravine, words
from dlnotes.errors import UserError

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    page.relative_to(ROOT / "docs").with_suffix(".html").as_posix()
    for language in words.LANGUAGES
    for page in (ROOT / "docs" / language).rglob("*.md")
)
CHAPTERS = [  # and the pages of the models, which have the same parts
    page
    for page in PAGES
    if not page.endswith("index.html") and (page.count("/") == 1 or "/models/" in page)
]

# As many threads as users have: with one, a fork of a process with threads would not be noticed.
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "2"}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # the site is built first
in_a_browser = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The whole book, as `make docs` builds it: Sphinx fails on a warning."""
    try:
        mathjax.place(tmp_path_factory.mktemp("mathjax"))
    except UserError as error:
        pytest.skip(f"needs MathJax: {error}")
    out = tmp_path_factory.mktemp("book") / "site"
    done = subprocess.run(
        [sys.executable, "scripts/book.py", "--out", str(out)],
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return out


@pytest.mark.parametrize(("sign", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_build_at_once(tmp_path, sign, code):
    out = tmp_path / "site"
    with subprocess.Popen(
        [sys.executable, "scripts/book.py", "--out", str(out)],
        cwd=ROOT,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as program:
        until = time.monotonic() + 200
        while not list(out.glob(".building-*/en/_static/*")) and time.monotonic() < until:
            time.sleep(0.1)
        time.sleep(1)
        program.send_signal(sign)
        printed, said = program.communicate(timeout=30)
    assert program.returncode == code, said
    assert printed == ""
    assert "Traceback" not in said
    assert "errors above" not in said
    assert list(out.iterdir()) == []


class Parts(HTMLParser):
    """The links, ids and pictures of a page."""

    def __init__(self, text):
        super().__init__()
        self.links, self.ids, self.pictures = [], set(), []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.ids.add(given.get("id"))
        if tag == "img":
            self.pictures.append(given)
        address = given.get("href") if tag in ("a", "link") else given.get("src")
        if address:
            self.links.append(address)


def test_no_link_is_dead_and_every_picture_has_a_text(site):
    pages = {path: Parts(path.read_text("utf-8")) for path in sorted(site.rglob("*.html"))}
    assert {site / page for page in PAGES} <= set(pages)
    checked = 0
    for path, parts in pages.items():
        for link in parts.links:
            address = urlsplit(link)
            if address.scheme in ("http", "https", "data"):
                continue
            target = (path.parent / unquote(address.path)).resolve() if address.path else path
            assert target.is_file(), f"{path.relative_to(site)} links to {link}"
            if address.fragment and target in pages:
                assert unquote(address.fragment) in pages[target].ids, f"{path.name}: {link}"
            checked += 1
        assert all(picture.get("alt") for picture in parts.pictures), path
    assert checked > 100


@pytest.mark.parametrize("page", CHAPTERS)
def test_a_page_shows_what_its_cells_print_and_has_a_notebook(site, page):
    text = (site / page).read_text("utf-8")
    assert "cell_output" in text
    assert "output stderr" not in text
    assert text.count('class="exercise admonition"') == 3
    notebook = site / page.replace("/", "/notebooks/", 1).replace(".html", ".ipynb")
    assert json.loads(notebook.read_text("utf-8"))["nbformat"] == 4


def test_no_notebook_links_to_a_file(site):
    """A reader has a notebook alone in a folder."""
    notebooks = sorted(site.rglob("*.ipynb"))
    assert len(notebooks) > len(CHAPTERS)
    for path in notebooks:
        cells = json.loads(path.read_text("utf-8"))["cells"]
        text = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
        prose = re.sub(r"^(`{3,}).*?^\1|`[^`\n]+`", "", text, flags=re.M | re.S)
        for target in re.findall(r"\]\((\S+?)\)|(?:href|src)=\"(.*?)\"", prose):
            assert "".join(target).startswith(("https://", "attachment:")), (path.name, target)


# One of each kind: rules, activations, classifiers, a model of one's own, a model's page.
@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("gradient-descent", "after 8 steps"),
        ("activations", ""),
        ("text-classification", ""),
        ("how-to/own-model", ""),
        ("models/textcnn", ""),
    ],
)
def test_a_notebook_runs(site, tmp_path, name, shown):
    """From top to bottom in a kernel, as a reader's, and complains about nothing."""
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    made = nbformat.read(site / "en" / "notebooks" / f"{name}.ipynb", as_version=4)
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(made, timeout=120, kernel_name="python3", resources=resources).execute(
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")}
    )
    streams = [o for c in made.cells for o in c.get("outputs", []) if o.output_type == "stream"]
    assert [o.text for o in streams if o.name == "stderr"] == []
    printed = "".join(o.text for o in streams)
    assert printed
    assert shown in printed


@pytest.fixture(scope="module", params=["desktop", "phone"])
def browser(request, tmp_path_factory):
    size = {"width": 360, "height": 740, "phone": True} if request.param == "phone" else {}
    browser = Browser(tmp_path_factory.mktemp("profile"), dark=request.param == "phone", **size)
    yield browser
    browser.close()


def show(browser, site, page):
    browser.events.clear()
    browser.open((site / page).as_uri())
    browser.until("!window.MathJax || MathJax.startup.promise.then(() => true)")
    wait_for_a_frame(browser)


def wait_for_a_frame(browser):
    """After which the observers of sizes have run."""
    browser.run("new Promise(done => requestAnimationFrame(() => setTimeout(done)))")


@in_a_browser
def test_pages_fit_and_say_nothing_to_the_console(site, browser):
    for page in [*PAGES, "en/search.html", "zh/search.html"]:
        show(browser, site, page)
        assert browser.run("document.documentElement.scrollWidth <= innerWidth"), page
        assert browser.complaints() == [], page
        assert all(url.startswith(("file:", "data:")) for url in browser.requested()), page
        failed = [e for e in browser.events if e.get("method") == "Network.loadingFailed"]
        assert failed == [], page
        formulas = browser.run("document.querySelectorAll('.math').length")
        assert (
            browser.run("document.querySelectorAll('.math mjx-container > svg').length") >= formulas
        )
        assert browser.run("document.querySelectorAll('mjx-merror').length") == 0, page
        if page in CHAPTERS:
            assert formulas > 0, page
        language = browser.run("document.documentElement.lang")
        assert language.startswith(page[:2]), page


SCROLLS = """
[...document.querySelectorAll('.table-wrapper, .highlight pre, div.math')]
    .filter(e => e.scrollWidth > e.clientWidth)
"""


@in_a_browser
def test_tables_fit_and_what_scrolls_shows_it_and_takes_the_keyboard(site, browser):
    named = set()
    for page in PAGES:
        show(browser, site, page)
        browser.run("document.querySelectorAll('details').forEach(d => d.open = true)")
        wait_for_a_frame(browser)
        wide = browser.run(f"innerWidth >= 1280 ? {SCROLLS}.map(e => e.className) : []")
        assert not any("table-wrapper" in name for name in wide), page
        seen = json.loads(
            browser.run(
                f"JSON.stringify({SCROLLS}.map(e => [e.tabIndex, e.role, e.ariaLabel,"
                " getComputedStyle(e).backgroundAttachment]))"
            )
        )
        for place, role, name, shadow in seen:
            assert (place, role, shadow) == (0, "group", "local, local, scroll, scroll"), page
            named.add(name)
        others = "document.querySelectorAll('[role=group][tabindex=\"0\"]').length"
        assert browser.run(others) == len(seen), page
    assert named <= {"Table", "Code", "Formula", "表格", "代码", "公式"}
    assert {"Code", "代码"} <= named


@in_a_browser
def test_a_number_is_not_broken(site, browser):
    found = 0
    for page in ("en/adaptive-rates.html", "zh/text-classification.html"):
        show(browser, site, page)
        boxes = "[...document.querySelectorAll('.number')].map(e => e.getClientRects().length)"
        lines = browser.run(boxes)
        assert set(lines) <= {0, 1}, page  # 0 in an answer that is closed
        found += len(lines)
    assert found > 3


@in_a_browser
@pytest.mark.parametrize(("language", "word"), [("en", "inertia"), ("zh", "惯性")])
def test_the_search_finds_a_word_of_a_page(site, browser, language, word):
    browser.events.clear()
    browser.open((site / language / "search.html").as_uri() + f"?q={quote(word)}")
    found = browser.until("document.querySelector('#search-results li a')?.getAttribute('href')")
    assert found.startswith("momentum.html")
    assert browser.complaints() == []


@in_a_browser
def test_axe_finds_no_serious_barrier(site, browser):
    package = pytest.importorskip("axe_playwright_python", reason="needs axe-playwright-python")
    axe = (Path(package.__file__).parent / "axe.min.js").read_text("utf-8")
    for page in PAGES:
        show(browser, site, page)
        browser.run(f"{axe}; true")
        found = browser.run("axe.run().then(result => JSON.stringify(result.violations))")
        serious = [
            (rule["id"], rule["nodes"][0]["html"])
            for rule in json.loads(found)
            if rule["impact"] in ("serious", "critical")
        ]
        assert serious == [], page


def drawn(browser):
    return json.loads(browser.run("document.querySelector('figure.ravine').dataset.drawn"))


def python_path(given, rule):
    return ravine.path(rule, given["lr"], given["beta"], given["steps"]).tolist()


@in_a_browser
@pytest.mark.parametrize("rule", ["gradient-descent", "momentum"])
def test_the_figure_is_pythons_trajectory_with_the_keyboard_alone(site, browser, rule):
    show(browser, site, f"en/{rule}.html")
    first = drawn(browser)
    sliders = browser.run("document.querySelectorAll('.ravine input').length")
    assert sliders == (3 if rule == "momentum" else 2)
    seen = [first]
    browser.run("document.querySelector('.ravine input').focus()")
    for _ in range(sliders):
        for _ in range(3):
            browser.press("ArrowRight", 39)
        seen.append(drawn(browser))
        browser.press("Tab", 9)
    assert len({(s["lr"], s["beta"], s["steps"]) for s in seen}) == sliders + 1
    for given in seen:
        flat = [x for point in given["path"] for x in point]
        ours = [x for point in python_path(given, rule) for x in point]
        assert len(flat) == 2 * given["steps"] + 2
        assert flat == pytest.approx(ours, rel=1e-12, abs=1e-300)
    browser.press("Enter", 13)  # the button, which the last Tab has reached
    assert drawn(browser) == first
    said = browser.run("document.querySelector('.ravine .said').textContent")
    assert said.startswith("After 40 steps: f = ")
    assert browser.run("[...document.querySelectorAll('.ravine img')].every(i => i.hidden)")


@in_a_browser
def test_without_javascript_the_figure_is_a_picture(site, browser):
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.call("Page.navigate", url=(site / "en" / "momentum.html").as_uri())
        browser.until("document.readyState === 'complete'")
        shown = browser.run(
            "[...document.querySelectorAll('.ravine img')]"
            ".filter(i => i.getClientRects().length && i.naturalWidth > 0).length"
        )
        assert shown == 1  # the one of the colour scheme
        assert browser.run("document.querySelectorAll('.ravine input').length") == 0
        assert "TeX" in browser.run("document.querySelector('noscript .formulas').textContent")
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)
