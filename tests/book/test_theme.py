"""On pages in Chinese the theme says its own words in Chinese, too, and the search finds terms."""

import re
from html.parser import HTMLParser
from urllib.parse import quote

import pytest

pytest.importorskip("sphinx", reason="needs the extra docs")
pytest.importorskip("furo", reason="needs the extra docs")

from browser import CHROMIUM, Browser
from chapters import theme
from chapters.search import ChineseSearch

CONF = """
from chapters.search import ChineseSearch

project = "dlnotes"
copyright = "somebody"
extensions = ["chapters.theme"]
html_theme = "furo"
html_show_sphinx = False
html_theme_options = {"top_of_page_buttons": []}


def setup(app):
    app.add_search_language(ChineseSearch)
"""
PAGES = {
    "index": "一\n==\n\n.. toctree::\n\n   a\n   b\n",
    "a": "二\n==\n\n三\n--\n\n学习率太大，Adam优化器也会发散。\n",
    "b": "四\n==\n\n.. toctree::\n\n   c\n",
    "c": "五\n==\n",
}


class Words(HTMLParser):
    """What a reader sees or hears."""

    def __init__(self, text):
        super().__init__()
        self.said, self._inside = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self._inside.append(tag)
        names = ("title", "aria-label", "placeholder", "alt")
        self.said += [value for name, value in attrs if name in names]

    def handle_endtag(self, tag):
        while self._inside and self._inside.pop() != tag:
            pass

    def handle_data(self, data):
        if not {"script", "style"} & set(self._inside):
            self.said += [data.strip()] if data.strip() else []


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Language → page → what it says."""
    from sphinx.cmd.build import build_main

    source = tmp_path_factory.mktemp("pages")
    (source / "conf.py").write_text(CONF)
    for name, text in PAGES.items():
        (source / f"{name}.rst").write_text(text, "utf-8")
    said = {"folder": {}}
    for language in ("en", "zh_CN"):
        out = tmp_path_factory.mktemp(language)
        assert build_main(["-q", "-W", "-D", f"language={language}", str(source), str(out)]) == 0
        pages = (*PAGES, "search")
        said["folder"][language] = out
        said[language] = {p: Words((out / f"{p}.html").read_text("utf-8")).said for p in pages}
    return said


@pytest.mark.parametrize("page", [*PAGES, "search"])
def test_nothing_is_left_in_english(built, page):
    allowed = {"dlnotes", "Furo", "MIT", "JavaScript", "Adam"}
    words = {word for said in built["zh_CN"][page] for word in re.findall("[A-Za-z]+", said)}
    assert words <= allowed
    assert {"Furo", "Skip", "Menu", "somebody"} <= {
        word for said in built["en"][page] for word in re.findall("[A-Za-z]+", said)
    }


def test_what_is_translated_is_what_the_theme_says(built):
    """A word that another version of Furo no longer has is noticed."""
    shown = {said for page in built["zh_CN"].values() for said in page}
    for chinese in theme.TRANSLATED.values():
        if "%" not in chinese:
            assert chinese in shown
    for chinese in theme.FIXED.values():
        (told,) = re.findall(r'aria-label="(.*)"|<title>(.*)</title>|(展开或收起：)', chinese)
        assert any("".join(told) in said for said in shown), chinese
    assert f"版权所有 © {theme.COPYRIGHT}" in shown


def test_text_is_cut_into_pairs_of_characters_and_words():
    search = ChineseSearch({})
    found = search.split("学习率 α=0.1，Adam优化器")
    assert found[:4] == ["学习", "习率", "优化", "化器"]
    assert {"学", "器", "Adam"} < set(found)
    assert [w for w in ("学习", "熵", "Adam", "a", "1") if search.word_filter(w)] == [
        "学习",
        "熵",
        "Adam",
    ]


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_a_term_that_no_dictionary_has_is_found(built, tmp_path):
    browser = Browser(tmp_path)
    page = built["folder"]["zh_CN"] / "search.html"
    counts = {}
    for query in ("学习率", "率", "Adam优化器", "adam", "学习器", "率学"):
        browser.open(f"{page.as_uri()}?q={quote(query)}")
        browser.until("document.querySelector('#search-results .search-summary')?.textContent")
        counts[query] = browser.until(
            "Search._pulse_status < 0 && 1 + document.querySelectorAll('#search-results li').length"
        )
    browser.close()
    assert counts == {"学习率": 2, "率": 2, "Adam优化器": 2, "adam": 2, "学习器": 1, "率学": 1}
