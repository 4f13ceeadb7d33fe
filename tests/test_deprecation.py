"""Every old name still works, says where it went, and is used nowhere in the package."""

import importlib
import importlib.util
import pkgutil
import subprocess
import sys

import pytest

import dlnotes
from dlnotes.deprecation import MOVED


def attribute(path):
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


@pytest.mark.parametrize("old", MOVED)
def test_an_old_name_is_the_new_thing_and_says_so(old):
    with pytest.warns(DeprecationWarning, match="is now") as warned:
        found = attribute(old)
    assert [str(w.message) for w in warned] == [f"{old} is now {MOVED[old]}"]
    assert warned[0].filename == __file__  # the line that has to be changed
    assert found is attribute(MOVED[old])


@pytest.mark.parametrize("old", MOVED)
def test_an_old_name_can_be_imported(old):
    module, _, name = old.rpartition(".")
    with pytest.warns(DeprecationWarning, match="is now"):
        exec(f"from {module} import {name}", {})


@pytest.mark.parametrize("old", MOVED)
def test_an_old_name_is_not_listed(old):
    module, _, name = old.rpartition(".")
    module = importlib.import_module(module)
    assert name not in vars(module)
    assert name not in getattr(module, "__all__", ())


@pytest.mark.parametrize("module", sorted({old.rpartition(".")[0] for old in MOVED}))
def test_another_name_is_an_error_as_ever(module):
    with pytest.raises(AttributeError, match=f"module '{module}' has no attribute 'nothing'"):
        _ = importlib.import_module(module).nothing
    with pytest.raises(ImportError, match="nothing"):
        exec(f"from {module} import nothing", {})


def test_no_module_uses_an_old_name():
    modules = [m.name for m in pkgutil.walk_packages(dlnotes.__path__, "dlnotes.")]
    modules.remove("dlnotes.export.predict")  # a program, which is copied beside what it reads
    if not importlib.util.find_spec("fastapi"):  # of the extra serve
        modules = [name for name in modules if not name.startswith("dlnotes.serving.")]
    program = f"import importlib\nfor name in {modules}: importlib.import_module(name)"
    done = subprocess.run(
        [sys.executable, "-W", "error:dlnotes.:DeprecationWarning", "-c", program],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
