"""Mutation testing: change the code of a package in one place and see whether a test notices.

It is run by hand, since it takes from minutes to an hour::

    pip install -e '.[demo,dev,mutants]'
    python scripts/mutants.py --package optim --sample 300 --seed 0

The changes are those of two tools: all of mutmut's (numbers, texts, operators, arguments,
assignments) and those of cosmic-ray's that mutmut lacks (negated conditions, loops that never run,
exceptions that are not caught, removed decorators). The tools' own runners start a new Python for
every mutant; here a process that has imported torch forks a child for each, in a copy of the
checkout.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib
import json
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, cast

import cosmic_ray.plugins
import coverage
import libcst
import pytest
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from mutmut.mutation.mutators import mutation_operators

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "evaluate": (
        ["training/evaluate.py"],
        [
            f"tests/training/test_{x}.py"
            for x in ("evaluate", "translation", "classifier", "finite")
        ],
    ),
    "readers": (
        ["data/readers.py"],
        [f"tests/data/test_{x}.py" for x in ("readers", "dataset", "tokenization", "corpora")],
    ),
    "optim": (["optim"], ["tests/optim"]),
    "activations": (["activations"], ["tests/activations"]),
}
"""What is mutated, below src/dlnotes, and the tests that should notice."""

COSMIC_RAY = ("AddNot", "ZeroIterationForLoop", "ExceptionReplacer", "RemoveDecorator")
COPIED = ("src", "tests", "scripts", "pyproject.toml", "README.md")
# Slow to import and none of our code: imported once, before the forks.
IMPORTED = (
    *("torch._dynamo", "torch.optim", "torch.func", "torch.utils.tensorboard", "polars", "numpy"),
    *("hypothesis", "sklearn.metrics", "matplotlib.figure", "rich.table", "tyro", "xdist"),
)
# What their functions return is kept for the whole process, so a test may depend on them without
# running them.
KEPT = ("optim/_kernel.py", "optim/_native.py")
PATIENCE = 20  # seconds for one test; the slowest that runs here takes --longest
MEMORY = 16 << 30  # bytes of address space for a child

Verdict = Literal["killed", "timed out", "survived"]


@dataclass(frozen=True)
class Mutant:
    """A change of the code in one place."""

    file: str
    line: int
    before: str
    after: str
    operator: str
    code: str = field(repr=False)

    @property
    def key(self) -> tuple[str, str, str]:
        """Identifies a mutant across runs, without line numbers, which may change."""
        return self.file, self.before, self.after

    @property
    def digest(self) -> str:
        """Of the whole file."""
        return hashlib.sha256(self.code.encode()).hexdigest()[:16]


@dataclass
class Tests:
    """Tests that pass on the code as it is."""

    seconds: dict[str, float]
    lines: dict[str, dict[int, list[str]]]
    """By file and line: the tests that run it, or "" where it is run at import."""
    kills: Counter[str] = field(default_factory=Counter)

    def of(self, mutant: Mutant) -> list[str]:
        """Those that run the function; first those that have found most, then the fastest."""
        names = set(self.seconds)
        body = _body(ROOT / mutant.file, mutant.line)
        if body and not mutant.file.endswith(KEPT):
            lines = self.lines[mutant.file]
            running = {name for line in body for name in lines.get(line, ())}
            if "" not in running:
                names &= running
        return sorted(names, key=lambda name: (-self.kills[name], self.seconds[name]))


def _body(file: Path, line: int) -> range | None:
    """The lines of the innermost function in whose body a line is."""
    found = None
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef):
            body = range(node.body[0].lineno, (node.end_lineno or 0) + 1)
            if line in body and (found is None or len(body) < len(found)):
                found = body
    return found


def main(
    package: Literal["evaluate", "readers", "optim", "activations"],
    sample: int = 300,
    seed: int = 0,
    again: bool = False,
    longest: float = 1.0,
    processes: int = 2,
    minutes: float = float("inf"),
    only: tuple[str, ...] = (),
    out: Path | None = None,
) -> None:
    """Draw mutants, run the tests on each, write results/mutants/PACKAGE.json.

    If a record exists, its reasons for survivors are kept, and the score of the first run stays as
    ``before``. An interrupted run continues where it stopped.

    Args:
        package: What to mutate.
        sample: Number of mutants, drawn at random; all, if there are fewer.
        seed: Seed of the sample.
        again: Run only the mutants that survived in the record without a reason, with new tests of
            the same code. Tests that were left out stay out.
        longest: Leave out tests that take more seconds of CPU time, which does not depend on other
            work of the machine.
        processes: Number of mutants that run at a time.
        minutes: Begin no mutant later than this after the start. The mutants that were reached, the
            first ones of a random order, are then the sample.
        only: With ``again``: run only these tests, the new ones, by pytest's names. All others have
            been run on the survivors before.
        out: File to write in place of the default.
    """
    began = time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the temporary folder goes, too
    record = out or ROOT / "results" / "mutants" / f"{package}.json"
    old: dict[str, Any] = json.loads(record.read_text("utf-8")) if record.exists() else {}
    where, folders = PACKAGES[package]
    sources = files(where)
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in sources)).hexdigest()
    if again and old.get("sources") != digest:
        raise SystemExit(f"the code is not that of {record}: run without --again")
    population, drawn = draw(sources, sample, seed)
    reasons = {key(x): x["reason"] for x in old.get("survivors", ()) if x.get("reason")}
    alive = {(key(x), x["line"]) for x in old.get("survivors", ())}  # of the same code
    chosen = [x for x in drawn if (x.key, x.line) in alive] if again else drawn
    tried = [x for x in chosen if not (again and x.key in reasons)]
    partial = record.with_suffix(".partial")
    with tempfile.TemporaryDirectory(prefix="dlnotes-mutants-") as folder:
        skipped = old["tests_left_out"] if again and not only else []
        runner = Runner(Path(folder), [*only] or folders, longest, processes, skipped)
        verdicts = runner.run(tried, partial, began + 60 * minutes)
    if again and len(verdicts) < len(tried):
        raise SystemExit(f"{len(tried) - len(verdicts)} survivors are left: run the same again")
    if not again:
        drawn = chosen = [x for x in drawn if x in verdicts]
    survivors = [x for x in chosen if verdicts.get(x, "survived") == "survived"]
    counts = Counter(verdicts.values())
    if again:
        counts["timed out"] += old["timed_out"]
        counts["killed"] = len(drawn) - len(survivors) - counts["timed out"]
    explained = sum(x.key in reasons for x in survivors)
    summary = {
        "mutants": len(drawn),
        "killed": counts["killed"],
        "timed_out": counts["timed out"],
        "survived": len(survivors),
        "explained": explained,
        "score": round(1 - len(survivors) / len(drawn), 4),
        "score_without_explained": round(
            1 - (len(survivors) - explained) / (len(drawn) - explained), 4
        ),
    }
    first = {name: old[name] for name in summary if name in old}
    # Imported here, for the forked children must import their own copy.
    from dlnotes.files import write_json
    from dlnotes.training.record import provenance

    write_json(
        record,
        {
            **provenance(seed),
            "tools": {name: version(name) for name in ("mutmut", "cosmic-ray")},
            "package": package,
            "sources": digest,
            "population": population,
            **summary,
            "before": old.get("before") or first or None,
            "seconds": round(time.monotonic() - began),
            "tests": old["tests"] if only else len(runner.tests.seconds),
            "tests_left_out": sorted({*old["tests_left_out"], *runner.left_out})
            if only
            else runner.left_out,
            "survivors": [
                {k: v for k, v in asdict(x).items() if k != "code"} | {"reason": reasons.get(x.key)}
                for x in survivors
            ],
        },
    )
    partial.unlink(missing_ok=True)
    print(f"{record}: {summary}")


def key(entry: dict[str, Any]) -> tuple[str, str, str]:
    """`Mutant.key` of an entry of a record."""
    return entry["file"], entry["before"], entry["after"]


# --- mutants ------------------------------------------------------------------------------------


def files(where: list[str]) -> list[Path]:
    """The files to mutate."""
    home = ROOT / "src" / "dlnotes"
    paths = [home / name for name in where]
    return sorted(f for path in paths for f in (path.glob("*.py") if path.is_dir() else [path]))


def draw(sources: list[Path], sample: int, seed: int) -> tuple[int, list[Mutant]]:
    """Number of candidates in all files, and a sample without those that do not change the meaning.

    Whether a candidate is drawn depends only on itself, so a change elsewhere in the file leaves
    the sample as it is.
    """
    candidates: list[tuple[bytes, Path, str, Callable[[], str | None]]] = []
    meanings: dict[Path, set[str]] = {}
    for file in sources:
        code, seen = file.read_text("utf-8"), Counter[str]()
        meanings[file] = {_meaning(code)}
        for operator, text, make in _candidates(code):
            identity = f"{seed} {file.relative_to(ROOT / 'src' / 'dlnotes')} {operator} {text}"
            seen[identity] += 1
            place = hashlib.sha256(f"{identity} {seen[identity]}".encode()).digest()
            candidates.append((place, file, operator, make))
    drawn: list[Mutant] = []
    for _, file, operator, make in sorted(candidates, key=lambda x: x[0]):
        if len(drawn) == sample:
            break
        with contextlib.suppress(SyntaxError, AttributeError):  # cosmic-ray and ``a.Error``, say
            mutated = make()
            if mutated and (meaning := _meaning(mutated)) not in meanings[file]:
                meanings[file].add(meaning)
                changed = _difference(file.read_text("utf-8"), mutated)
                drawn.append(Mutant(str(file.relative_to(ROOT)), *changed, operator, mutated))
    return len(candidates), drawn


def _candidates(code: str) -> Iterator[tuple[str, str, Callable[[], str | None]]]:
    """An operator's name, a text that tells its places apart, and a function that applies it."""
    module = libcst.parse_module(code)

    def replaced(old: libcst.CSTNode, new: libcst.CSTNode) -> Callable[[], str]:
        return lambda: cast(libcst.Module, module.deep_replace(old, new)).code

    for node in _nodes(module):
        for kind, mutate in mutation_operators:
            if isinstance(node, kind):
                for new in mutate(node):
                    text = f"{module.code_for_node(node)} → {module.code_for_node(new)}"
                    yield f"mutmut {mutate.__name__}", text, replaced(node, new)
    tree = get_ast(code)
    for name in COSMIC_RAY:
        operator = cosmic_ray.plugins.get_operator(f"core/{name}")()
        places = [
            node.get_code() for node in ast_nodes(tree) for _ in operator.mutation_positions(node)
        ]
        for k, text in enumerate(places):
            yield f"cosmic-ray {name}", text, partial(mutate_code, code, operator, k)


def _nodes(node: libcst.CSTNode) -> Iterator[libcst.CSTNode]:
    yield node
    for child in node.children:
        yield from _nodes(child)


def _difference(code: str, mutated: str) -> tuple[int, str, str]:
    """The number of the first line that differs, and the lines that do."""
    before, after = code.splitlines(), mutated.splitlines()
    start = next(i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b)
    end = 1
    while end < min(len(before), len(after)) - start and before[-end] == after[-end]:
        end += 1
    end -= 1
    changed = ["\n".join(x[start : len(x) - end]).strip() for x in (before, after)]
    return start + 1, changed[0], changed[1]


def _meaning(code: str) -> str:
    """The part of the code in which a mutant must differ, since results depend on it."""
    return ast.dump(_Meaning().visit(ast.parse(code)))


class _Meaning(ast.NodeTransformer):
    """Removes docstrings, annotations, what only type checkers read, and the texts of messages."""

    def __init__(self) -> None:
        self._message = False

    def visit_Expr(self, node: ast.Expr) -> Any:
        return None if isinstance(node.value, ast.Constant) else self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> Any:
        node.returns = None
        return self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> Any:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> Any:
        if node.value is None:
            node.annotation = ast.Constant(None)
            return node
        return self.generic_visit(ast.Assign([node.target], node.value, lineno=node.lineno))

    def visit_Assign(self, node: ast.Assign) -> Any:
        names = [x.id for x in node.targets if isinstance(x, ast.Name)]
        return None if "__all__" in names else self.generic_visit(node)

    def visit_If(self, node: ast.If) -> Any:
        only_types = "TYPE_CHECKING" in ast.dump(node.test)
        return None if only_types else self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> Any:
        return self._in_message(node)

    def visit_Call(self, node: ast.Call) -> Any:
        name = ast.unparse(node.func)
        if name == "cast":
            return self.generic_visit(ast.Call(node.func, node.args[1:], node.keywords))
        node.keywords = [k for k in node.keywords if k.arg != "stacklevel"]
        for k in node.keywords:
            if k.arg == "encoding" and isinstance(k.value, ast.Constant):
                k.value.value = str(k.value.value).lower()
        return self._in_message(node, name.endswith(("Error", "warn")))

    def visit_Constant(self, node: ast.Constant) -> Any:
        return ast.Constant("") if self._message and isinstance(node.value, str) else node

    def visit_Subscript(self, node: ast.Subscript) -> Any:
        node.value = self.visit(node.value)
        return self._in_message(node, False)

    def _in_message(self, node: ast.AST, message: bool = True) -> ast.AST:
        outer, self._message = self._message, message
        node = self.generic_visit(node)
        self._message = outer
        return node


# --- tests --------------------------------------------------------------------------------------


class Runner:
    """Forks a child for each mutant, each in its own copy of the checkout."""

    def __init__(
        self, home: Path, folders: list[str], longest: float, processes: int, skipped: list[str]
    ) -> None:
        for name in IMPORTED:
            importlib.import_module(name)
        if any(name.split(".")[0] == "dlnotes" for name in sys.modules):
            raise RuntimeError("dlnotes has been imported before the forks")
        os.environ["PYTHONHASHSEED"] = "0"
        self.home, self.folders = home, folders
        self.original = home / "original"
        for name in COPIED:
            if (ROOT / name).is_dir():
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(ROOT / name, self.original / name, ignore=ignored)
            else:
                shutil.copy2(ROOT / name, self.original / name)
        self.slots = [home / str(i) for i in range(processes)]
        first = self.slots[0]
        shutil.copytree(self.original, first / "checkout")
        self.kernels = home / "kernels"
        self.skipped = {*skipped}
        # Which tests run which lines; then the times, kernels cached.
        for measured in (True, False):
            pid = self._start(first, None, measured)
            os.waitpid(pid, 0)
            passed, failed, waited = json.loads((first / "passed.json").read_text("utf-8"))
            if measured:  # which takes time itself
                self.skipped |= {k for k, s in passed.items() if s > 10 * longest}
        for slot in self.slots[1:]:
            shutil.copytree(first / "checkout", slot / "checkout")
        slow = [k for k, s in passed.items() if s > longest]
        self.left_out = sorted({*failed, *slow, *self.skipped})
        data = coverage.CoverageData(str(first / "coverage"))
        data.read()
        self.tests = Tests(
            {k: s for k, s in passed.items() if s <= longest},
            {
                str(Path(file).relative_to(first / "checkout")): data.contexts_by_lineno(file)
                for file in data.measured_files()
            },
        )
        total = sum(self.tests.seconds.values())
        self.limit = 60 + 4 * sum(waited[name] for name in self.tests.seconds)
        print(f"{len(self.tests.seconds)} tests, {total:.0f} s; left out: {self.left_out}")

    def run(self, mutants: list[Mutant], partial: Path, until: float) -> dict[Mutant, Verdict]:
        """The verdict on each mutant that begins in time; those so far are saved to a file."""
        known = json.loads(partial.read_text("utf-8")) if partial.exists() else {}
        verdicts: dict[Mutant, Verdict] = {x: known[x.digest] for x in mutants if x.digest in known}
        waiting, free = [x for x in reversed(mutants) if x not in verdicts], list(self.slots)
        running: dict[int, tuple[Mutant, Path, float]] = {}
        while waiting or running:
            if time.monotonic() > until:
                waiting.clear()
            while waiting and free:
                mutant, slot = waiting.pop(), free.pop()
                file = slot / "checkout" / mutant.file
                file.write_text(mutant.code, "utf-8")
                for cached in file.parent.glob(f"__pycache__/{file.stem}.*"):
                    cached.unlink()
                tests = self.tests.of(mutant)
                running[self._start(slot, tests)] = mutant, slot, time.monotonic()
            time.sleep(0.05)
            for pid, (mutant, slot, began) in list(running.items()):
                late = time.monotonic() - began > self.limit
                if late:
                    os.killpg(pid, signal.SIGKILL)
                ended, status = os.waitpid(pid, 0 if late else os.WNOHANG)
                if not ended:
                    continue
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)  # what its tests have left
                del running[pid]
                free.append(slot)
                shutil.copy2(self.original / mutant.file, slot / "checkout" / mutant.file)
                verdict = self._verdict(slot, status, late)
                verdicts[mutant] = known[mutant.digest] = verdict
                partial.write_text(json.dumps(known), "utf-8")
                seconds = time.monotonic() - began
                print(
                    f"{len(verdicts):4}/{len(mutants)} {verdict:9} {seconds:5.1f} s "
                    f"{mutant.file}:{mutant.line} {mutant.before[:70]!r} → {mutant.after[:70]!r}",
                    flush=True,
                )
        return verdicts

    def _verdict(self, slot: Path, status: int, late: bool) -> Verdict:
        if late:
            return "timed out"
        if status == 0:
            return "survived"
        output = (slot / "output").read_text("utf-8", errors="replace")
        for name in re.findall(r"^(?:FAILED|ERROR) (tests/\S+)", output, re.MULTILINE):
            self.tests.kills[name] += name in self.tests.seconds
        return "timed out" if "Failed: Timeout" in output else "killed"

    def _start(self, slot: Path, tests: list[str] | None, measured: bool = False) -> int:
        sys.stdout.flush()
        pid = os.fork()
        if pid:
            return pid
        status = 70
        try:
            os.setsid()
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
            output = os.open(slot / "output", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            for stream in (1, 2):
                os.dup2(output, stream)
            checkout, temporary = slot / "checkout", slot / "tmp"
            os.chdir(checkout)
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir()
            os.environ["PYTHONPATH"] = str(checkout / "src")
            os.environ["TMPDIR"] = tempfile.tempdir = str(temporary)
            sys.path[:0] = [str(checkout / "src")]
            if tests is not None:
                # A mutant of the same size in the same second would be taken for the one before.
                sys.dont_write_bytecode = True
                os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
            status = self._tested(slot, tests, measured)
        except BaseException as error:  # of a mutant, at import
            print(f"{type(error).__name__}: {error}", flush=True)
        finally:
            os._exit(int(status))

    def _tested(self, slot: Path, tests: list[str] | None, measured: bool) -> int:
        arguments = ["-p", "no:cacheprovider", "-p", "no:xdist", "-m", "not slow and not cuda"]
        arguments += ["-q", "--tb=line", "-o", f"timeout={PATIENCE}"]
        if tests is not None:
            arguments.append("-x")
        watch = None
        if measured:
            data = str(slot / "coverage")
            watch = coverage.Coverage(
                data, include=[str(slot / "checkout/src/*")], config_file=False
            )
            watch.start()
        plugin = Plugin(tests, self.skipped, self.kernels, slot / "passed.json", watch)
        status = pytest.main([*arguments, *self.folders], plugins=[plugin])
        if watch:
            watch.stop()
            watch.save()
        import dlnotes

        assert Path(dlnotes.__file__).is_relative_to(slot)
        return status


class Plugin:
    """Chooses and orders the tests, keeps their times, and lends them the compiled kernels."""

    def __init__(
        self,
        order: list[str] | None,
        skipped: set[str],
        kernels: Path,
        passed: Path,
        watch: coverage.Coverage | None,
    ) -> None:
        self._order, self._skipped = order, skipped
        self._kernels, self._passed, self._watch = kernels, passed, watch
        self._made: Path | None = None
        self._seconds: dict[str, float] = {}
        self._waited: defaultdict[str, float] = defaultdict(float)
        self._failed: set[str] = set()

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Those in order, in that order; without one, all but those to skip."""
        if self._order is None:
            items[:] = [item for item in items if item.nodeid not in self._skipped]
        else:
            place = {name: i for i, name in enumerate(self._order)}
            items[:] = sorted(
                (item for item in items if item.nodeid in place), key=lambda x: place[x.nodeid]
            )

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Say whose lines are run, and take the time."""
        if self._watch:
            self._watch.switch_context(item.nodeid)
        began = sum(os.times()[:4])
        result = yield
        self._seconds[item.nodeid] = sum(os.times()[:4]) - began
        if self._watch:
            self._watch.switch_context("")
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Iterator[None]:
        """Without them every mutant would compile its kernels again."""
        result = yield
        if fixturedef.argname == "_own_cache":
            self._made = Path(os.environ["DLNOTES_CACHE"], "kernels")  # gone when the session ends
            if self._kernels.exists():
                shutil.copytree(self._kernels, self._made, dirs_exist_ok=True)
                self._made.chmod(0o700)
        return result

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add the time of a phase, pauses included."""
        self._waited[report.nodeid] += report.duration
        if not report.passed:
            self._failed.add(report.nodeid)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        """Of the code as it is: what passes, and the kernels."""
        if self._order is None:
            passed = {k: s for k, s in self._seconds.items() if k not in self._failed}
            figures = [passed, sorted(self._failed), self._waited]
            self._passed.write_text(json.dumps(figures), "utf-8")
            if self._made and self._made.is_dir():
                shutil.copytree(self._made, self._kernels, dirs_exist_ok=True)


if __name__ == "__main__":
    import tyro

    tyro.cli(main)
