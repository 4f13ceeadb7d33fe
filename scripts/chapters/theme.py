"""The theme's own words in Chinese, as an extension of Sphinx: Furo has none."""

from __future__ import annotations

from gettext import NullTranslations

from jinja2.ext import Extension
from sphinx.application import Sphinx
from sphinx.config import Config

TRANSLATED = {
    "Next": "下一页",
    "Previous": "上一页",
    "Home": "首页",
    "On this page": "本页内容",
    "Back to top": "回到顶部",
    "Skip to content": "跳到正文",
    "Error": "错误",
    "Please activate JavaScript to enable the search functionality.": "搜索需要启用 JavaScript。",
    "Copyright &#169; %(copyright)s": "版权所有 &#169; %(copyright)s",
    "Made with ": "网页主题：",
}
"""Texts that Furo's templates translate and that Sphinx's own catalogue does not have."""

FIXED = {
    'aria-label="Toggle Light / Dark / Auto color theme"': 'aria-label="切换浅色、深色或自动配色"',
    'aria-label="Toggle site navigation sidebar"': 'aria-label="展开或收起全站目录"',
    'aria-label="Toggle table of contents sidebar"': 'aria-label="展开或收起本页目录"',
    "<title>Contents</title>": "<title>目录</title>",
    "<title>Menu</title>": "<title>菜单</title>",
    "<title>Expand</title>": "<title>展开</title>",
    "<title>Light mode</title>": "<title>浅色</title>",
    "<title>Dark mode</title>": "<title>深色</title>",
    "<title>Auto light/dark, in light mode</title>": "<title>自动配色，当前为浅色</title>",
    "<title>Auto light/dark, in dark mode</title>": "<title>自动配色，当前为深色</title>",
    "{{ furo_navigation_tree }}": (
        '{{ furo_navigation_tree|replace("Toggle navigation of ", "展开或收起：") }}'
    ),
}
"""Texts that Furo's templates do not translate."""

COPYRIGHT = "dlnotes 的作者，采用 MIT 许可证"


class _Chinese(NullTranslations):
    def gettext(self, message: str) -> str:
        return TRANSLATED.get(message, message)


class _Fixed(Extension):
    """Translates templates when they are loaded."""

    def preprocess(self, source: str, name: str | None, filename: str | None = None) -> str:
        for english, chinese in FIXED.items():
            source = source.replace(english, chinese)
        return source


def _set_copyright(app: Sphinx, config: Config) -> None:
    if config.language.startswith("zh"):
        config.copyright = COPYRIGHT


def _translate(app: Sphinx) -> None:
    if app.config.language.startswith("zh"):
        app.translator.add_fallback(_Chinese())
        app.builder.templates.environment.add_extension(_Fixed)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register both with Sphinx."""
    app.connect("config-inited", _set_copyright)
    app.connect("builder-inited", _translate)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
