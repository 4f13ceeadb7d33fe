"""On a page in Chinese, what the theme itself says is Chinese, too."""

import re
from html.parser import HTMLParser

import pytest

pytest.importorskip("sphinx", reason="needs the extra docs")
pytest.importorskip("furo", reason="needs the extra docs")

from chapters import theme

CONF = """
project = "dlnotes"
copyright = "somebody"
extensions = ["chapters.theme"]
html_theme = "furo"
html_show_sphinx = False
html_theme_options = {"top_of_page_buttons": []}
"""
PAGES = {
    "index": "一\n==\n\n.. toctree::\n\n   a\n   b\n",
    "a": "二\n==\n\n三\n--\n\n文字。\n",
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
    said = {}
    for language in ("en", "zh_CN"):
        out = tmp_path_factory.mktemp(language)
        assert build_main(["-q", "-W", "-D", f"language={language}", str(source), str(out)]) == 0
        pages = (*PAGES, "search")
        said[language] = {p: Words((out / f"{p}.html").read_text("utf-8")).said for p in pages}
    return said


@pytest.mark.parametrize("page", [*PAGES, "search"])
def test_nothing_is_left_in_english(built, page):
    allowed = {"dlnotes", "Furo", "MIT", "JavaScript"}
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
