"""Sphinx's settings for the book, shared by its languages: `scripts/book.py` builds each of them.

A language is a folder of pages beside this file, with the same names in each.
"""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "scripts"))

from chapters.pictures import INTERACTIVE  # noqa: E402

project = "dlnotes"
copyright = "the authors of dlnotes, MIT license"
html_title = "dlnotes"
extensions = [
    "myst_nb",
    "sphinx.ext.mathjax",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "chapters.directives",
    "chapters.theme",
]
exclude_patterns = ["**.ipynb_checkpoints"]

myst_enable_extensions = ["amsmath", "colon_fence", "dollarmath"]
myst_heading_anchors = 3
# A page that is built has run: `scripts/book.py` gives every build an empty cache of its own, which
# the languages share, because their cells are the same.
nb_execution_mode = "cache"
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_execution_timeout = 300
nb_merge_streams = True

# The reference, from the docstrings.
default_role = "code"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_preserve_defaults = True
autodoc_type_aliases = {"Count": "int", "Natural": "int", "Seed": "int", "Share": "float"}
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
napoleon_custom_sections = [("Shapes", "Shapes")]
toc_object_entries_show_parents = "hide"

html_theme = "furo"
pygments_dark_style = "a11y-high-contrast-dark"
html_static_path = ["_static"]
html_css_files = ["book.css"]
html_js_files = [(f"{name}.js", {"defer": "defer"}) for name in ("interactive", *INTERACTIVE)]
templates_path = ["_templates"]
html_copy_source = False
html_show_sphinx = False
html_show_search_summary = False  # it is fetched, which pages opened as files may not do
html_theme_options = {"top_of_page_buttons": []}
# One file, beside the pages: formulas are drawn without a network, and without
# fonts of their own.
mathjax_path = "mathjax/tex-svg.js"
mathjax3_config = {"options": {"enableMenu": False}}
