"""The reference: what the book's cells import is in it, and docstrings have no runaway equations."""

import ast
import importlib
import inspect
import io
import pkgutil
import re
from pathlib import Path

import pytest

pytest.importorskip("sphinx", reason="needs the extra docs")

from docutils import nodes
from docutils.core import publish_doctree
from sphinx.ext.napoleon import Config, GoogleDocstring

import dlnotes

ROOT = Path(__file__).parents[2]
PAGES = [*sorted((ROOT / "docs").rglob("*.md")), *sorted(ROOT.glob("README*.md"))]
REFERENCE = sorted((ROOT / "docs" / "en" / "reference").glob("*.md"))


def imported(page):
    """The names of dlnotes that a page's cells and snippets import, with their modules."""
    code = re.findall(
        r"^```(?:\{code-cell\} )?python\n(.*?)^```", page.read_text("utf-8"), re.M | re.S
    )
    for node in (node for cell in code for node in ast.walk(ast.parse(cell))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("dlnotes"):
            yield from ((node.module, name.name) for name in node.names)


def documented():
    """The last part of each name in the reference, and what it names."""
    for page in REFERENCE:
        for path in re.findall(r"^\.\. auto\w+:: (dlnotes\.[\w.]+)", page.read_text("utf-8"), re.M):
            module, _, name = path.rpartition(".")
            yield name, getattr(importlib.import_module(module), name)


def test_the_reference_has_every_name_that_a_cell_imports():
    known = list(documented())
    names = {found: page.name for page in PAGES for found in imported(page)}
    assert ("dlnotes.data.batches", "SGD") in names
    missing = []
    for (module, name), page in names.items():
        value = getattr(importlib.import_module(module), name)
        if not any(name == other and value is thing for other, thing in known):
            missing.append(f"{module}.{name} of {page}")
    assert not missing


def test_a_name_is_in_the_reference_once():
    things = [thing for _, thing in documented() if inspect.isclass(thing) or callable(thing)]
    assert len(things) == len({id(thing) for thing in things})


def docstrings(module):
    """Every docstring of a module: its own, those of its classes and functions, and of methods."""
    yield module.__name__, inspect.getdoc(module)
    for name, thing in vars(module).items():
        if getattr(thing, "__module__", None) == module.__name__ and callable(thing):
            yield f"{module.__name__}.{name}", inspect.getdoc(thing)
            for method, value in vars(thing).items() if inspect.isclass(thing) else ():
                value = getattr(value, "fget", None) or getattr(value, "__func__", value)
                if inspect.isfunction(value):
                    yield f"{module.__name__}.{name}.{method}", value.__doc__


def quotes(docstring):
    """The paragraphs that Sphinx takes for quotations: indented text outside of a directive."""
    text = str(GoogleDocstring(inspect.cleandoc(docstring), CONFIG))
    quiet = {"report_level": 5, "warning_stream": io.StringIO()}
    tree = publish_doctree(text, settings_overrides=quiet)
    return [quote.astext() for quote in tree.findall(nodes.block_quote)]


CONFIG = Config(napoleon_use_rtype=False, napoleon_custom_sections=[("Shapes", "Shapes")])


def test_an_indented_equation_is_found():
    assert quotes("Rule.\n\n    θ ← θ − α g\n    t ← t + 1\n\nArgs:\n    lr: α.") == [
        "θ ← θ − α g\nt ← t + 1"
    ]
    assert not quotes(
        "Rule.\n\n.. math::\n    θ ← θ − α g\n\n- one\n- two\n\nShapes:\n    ``b t``."
    )


@pytest.mark.filterwarnings("ignore")
def test_no_docstring_has_an_indented_equation_without_a_directive():
    found = {}
    for info in pkgutil.walk_packages(dlnotes.__path__, "dlnotes."):
        # The first is part of an exported classifier, and reads its folder; the others need CUDA.
        if info.name == "dlnotes.export.predict" or "triton" in info.name:
            continue
        try:
            module = importlib.import_module(info.name)
        except ModuleNotFoundError as error:  # of an extra that is not installed
            if str(error.name).startswith("dlnotes"):
                raise
            continue
        for name, docstring in docstrings(module):
            if docstring and (quoted := quotes(docstring)):
                found[name] = quoted
    assert not found
