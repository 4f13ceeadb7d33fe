"""The cache of compiled loops when files are damaged, folders are odd and compilers fail.

A damaged library kills the process that loads it, so every case runs in a process of its own: a
fork of a server that has imported torch and dlnotes and has compiled nothing.
"""

import ctypes
import math
import multiprocessing
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import warnings
from pathlib import Path

import pytest
import torch

from dlnotes import kernel
from dlnotes.activations import sigmoid
from dlnotes.optim import Adam, GradientDescent, Momentum, _kernel, _native

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    [
        "torch._dynamo",
        "pytest",
        "dlnotes.optim",
        "dlnotes.activations",
        "dlnotes.oracles.optimizers",
    ]
)
COMPILER, COMPILER_CPP = shutil.which("gcc") or shutil.which("cc"), shutil.which("c++")
pytestmark = pytest.mark.skipif(
    COMPILER is None or COMPILER_CPP is None, reason="needs a C and a C++ compiler"
)

ANSWER = "int run(void) { return 42; }"
OTHER = "int run(void) { return 43; }"


# What runs in processes of its own


def enter(pipe, environment, function, arguments):
    """Call a function and send what came of it, with the warnings."""
    for name, value in environment.items():
        os.environ.pop(name, None) if value is None else os.environ.update({name: str(value)})
    for cached in ("_distrust", "_machine"):
        getattr(kernel, cached).cache_clear()
    tempfile.tempdir = None  # $TMPDIR may be another one now
    torch.set_num_threads(1)
    signal.alarm(60)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        try:
            result, error = function(*arguments), ""
        except BaseException:
            result, error = None, traceback.format_exc()
    pipe.send((result, error, [str(w.message) for w in seen]))


def start(function, *arguments, **environment):
    """Start a function in a process of its own."""
    reading, writing = SERVER.Pipe(duplex=False)
    process = SERVER.Process(target=enter, args=(writing, environment, function, arguments))
    process.start()
    writing.close()
    return process, reading


def finish(process, reading):
    """The result of a function and its warnings; its process has to survive."""
    try:
        result, error, said = reading.recv()
    except EOFError:
        process.join()
        raise AssertionError(f"the process died with {process.exitcode}") from None
    process.join()
    assert not error, error
    assert process.exitcode == 0
    return result, said


def apart(function, *arguments, **environment):
    return finish(*start(function, *arguments, **environment))


def count_runs():
    """A list that grows with each run of a compiler."""
    runs = []
    run = kernel._run
    kernel._run = lambda command: runs.append(command) or run(command)
    return runs


def answer(source=ANSWER):
    """What a compiled function returns, and how often a compiler has run for it."""
    runs = count_runs()
    return ctypes.CDLL(str(kernel.compiled(source))).run(), len(runs)


def failure(source=ANSWER):
    """Why a source is not compiled; it is said, too."""
    try:
        path = kernel.compiled(source)
    except (OSError, RuntimeError) as reason:
        kernel.warn_once_not_compiled(reason)
        return str(reason)
    raise AssertionError(f"there is {path}")


def train(rule=Adam):
    """Two steps of a rule: its numbers, its kernels, and whether a compiler ran at the second."""
    p = torch.nn.Parameter(torch.linspace(-1, 1, 43))
    optimizer = rule([p], lr=0.1)
    counts, runs = [], count_runs()
    for _ in range(2):
        p.grad = p.detach().clone()
        optimizer.step()
        counts.append(len(runs))
    built = [type(k).__name__ for k in _kernel._built.values()]
    return p.tolist(), built, type(_native.load()).__name__, counts


def activate():
    """Values and slopes of an activation."""
    x = torch.linspace(-3, 3, 101, requires_grad=True)
    y = sigmoid(x)
    y.sum().backward()
    return torch.stack([y.detach(), x.grad]).tolist()


def expected_steps(rule=torch.optim.Adam, lr=0.1):
    p = torch.nn.Parameter(torch.linspace(-1, 1, 43))
    optimizer = rule([p], lr=lr)
    for _ in range(2):
        p.grad = p.detach().clone()
        optimizer.step()
    return p.detach()


def is_right(numbers):
    torch.testing.assert_close(torch.tensor(numbers), expected_steps(), rtol=1e-5, atol=1e-7)


def files(cache):
    folder = Path(cache, "kernels")
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def no_leftovers(cache):
    assert not [name for name in files(cache) if name.startswith("compiling-")], files(cache)


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A cache with the answer's library."""
    cache = tmp_path_factory.mktemp("filled")
    assert apart(answer, DLNOTES_CACHE=cache) == ((42, 1), [])
    assert apart(answer, DLNOTES_CACHE=cache) == ((42, 0), [])
    return cache


@pytest.fixture
def cache(filled, tmp_path):
    """A copy of it."""
    shutil.copytree(filled, tmp_path / "cache", symlinks=True)
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A cache with what two steps of Adam need."""
    cache = tmp_path_factory.mktemp("trained")
    (numbers, built, library, _), said = apart(train, DLNOTES_CACHE=cache)
    is_right(numbers)
    assert (built, library, said) == (["Kernel"], "PyDLL", [])
    return cache


def script(path, text):
    """An executable shell script."""
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


# Damaged files


def replace(path, make):
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    make(path)


def flip(path, start, stop):
    content = bytearray(path.read_bytes())
    content[start:stop] = bytes(b ^ 0xFF for b in content[start:stop])
    replace(path, lambda p: p.write_bytes(content))  # a new file: nobody has mapped it


def cut(path, n):
    content = path.read_bytes()[:n]
    replace(path, lambda p: p.write_bytes(content))


def sparse(path, n):
    with path.open("wb") as f:
        f.truncate(n)


FILE_DAMAGES = {
    "empty": lambda p: cut(p, 0),
    "cut by a byte": lambda p: cut(p, -1),
    "a byte more": lambda p: p.write_bytes(p.read_bytes() + b"\n"),
    "missing": Path.unlink,
    "a folder": lambda p: replace(p, Path.mkdir),
    "a full folder": lambda p: replace(p, lambda q: (q / "more").mkdir(parents=True)),
    "a pipe": lambda p: replace(p, os.mkfifo),
    "a dangling link": lambda p: replace(p, lambda q: q.symlink_to("nowhere")),
    "a link to itself": lambda p: replace(p, lambda q: q.symlink_to(q.name)),
    "a link to an endless file": lambda p: replace(p, lambda q: q.symlink_to("/dev/zero")),
    "a link to a folder": lambda p: replace(p, lambda q: q.symlink_to(q.parent)),
    "as large as a disk": lambda p: replace(p, lambda q: sparse(q, 1 << 40)),
}
LIBRARY_DAMAGES = {
    "8,000 bytes": lambda p: cut(p, 8000),
    "its header alone": lambda p: cut(p, 64),
    "another magic": lambda p: flip(p, 0, 4),
    "flipped program headers": lambda p: flip(p, 64, 400),
    "flipped bytes in the middle": lambda p: flip(p, p.stat().st_size // 2, -100),
    "one flipped bit": lambda p: flip(p, 4096, 4097),
    "a text": lambda p: replace(p, lambda q: q.write_text("no library")),
}
SEAL_DAMAGES = {
    "cut in half": lambda p: cut(p, 32),
    "of another library": lambda p: p.write_text("0" * 64),
    "in capitals": lambda p: p.write_text(p.read_text().upper()),
    "in UTF-16": lambda p: p.write_text(p.read_text(), encoding="utf-16"),
    "no ASCII": lambda p: p.write_bytes(b"\xff" * 64),
    "zeros": lambda p: p.write_bytes(bytes(64)),
}
DAMAGES = [
    *[(suffix, name, make) for suffix in (".so", ".sha256") for name, make in FILE_DAMAGES.items()],
    *[(".so", *case) for case in LIBRARY_DAMAGES.items()],
    *[(".sha256", *case) for case in SEAL_DAMAGES.items()],
]


@pytest.mark.parametrize(
    ("suffix", "damage"), [(s, d) for s, _, d in DAMAGES], ids=[f"{s} {n}" for s, n, _ in DAMAGES]
)
def test_a_damaged_file_is_compiled_again(cache, suffix, damage):
    before = files(cache)
    (damaged,) = Path(cache, "kernels").glob(f"*{suffix}")
    damage(damaged)
    assert apart(answer, DLNOTES_CACHE=cache) == ((42, 1), [])
    assert files(cache) == before
    assert apart(answer, DLNOTES_CACHE=cache) == ((42, 0), []), "the cache has not been repaired"


def test_a_whole_library_behind_a_link_is_used(cache, tmp_path):
    (library,) = Path(cache, "kernels").glob("*.so")
    library.rename(tmp_path / "elsewhere.so")
    library.symlink_to(tmp_path / "elsewhere.so")
    assert apart(answer, DLNOTES_CACHE=cache) == ((42, 0), [])


def test_the_library_of_another_source_does_not_pass_for_this_one(cache):
    """It is intact, with its own hash, but calling it would crash."""
    folder = Path(cache, "kernels")
    ours = {path.suffix: path for path in folder.iterdir()}
    assert apart(answer, OTHER, DLNOTES_CACHE=cache) == ((43, 1), [])
    for path in folder.iterdir():
        if path not in ours.values():
            path.replace(ours[path.suffix])
    assert apart(answer, DLNOTES_CACHE=cache) == ((42, 1), [])
    assert apart(answer, DLNOTES_CACHE=cache) == ((42, 0), [])


def unreadable(cache):
    for path in Path(cache, "kernels").iterdir():
        path.chmod(0)
    if os.geteuid() == 0:  # who may read everything
        for path in [*cache.rglob("*"), cache]:
            os.chown(path, 65534, 65534)
        os.setuid(65534)
    return answer()


def test_a_library_that_may_not_be_read_is_compiled_again(cache):
    if os.geteuid() == 0:
        # The folders above belong to the tests' user alone.
        place = Path(tempfile.mkdtemp(dir="/var/tmp"))
        place.chmod(0o755)
        cache = Path(shutil.copytree(cache, place / "cache"))
    before = files(cache)
    try:
        assert apart(unreadable, cache, DLNOTES_CACHE=cache, TMPDIR="/tmp") == ((42, 1), [])
        assert files(cache) == before
        assert all(path.stat().st_mode & 0o400 for path in Path(cache, "kernels").iterdir())
    finally:
        if os.geteuid() == 0:
            shutil.rmtree(place)


@pytest.mark.parametrize("damage", ["8,000 bytes", "flipped program headers", "empty"])
def test_an_optimizer_survives_damaged_libraries(trained, tmp_path, damage):
    cache = tmp_path / "cache"
    shutil.copytree(trained, cache)
    before = files(cache)
    for library in Path(cache, "kernels").glob("*.so"):
        {**FILE_DAMAGES, **LIBRARY_DAMAGES}[damage](library)
    (numbers, built, library, counts), said = apart(train, DLNOTES_CACHE=cache)
    is_right(numbers)
    assert (built, library, counts, said) == (["Kernel"], "PyDLL", [2, 2], [])
    assert files(cache) == before
    (*_, counts), _ = apart(train, DLNOTES_CACHE=cache)
    assert counts == [0, 0]


# Odd folders


def test_missing_folders_are_made_for_the_user_alone(tmp_path):
    cache = tmp_path / "not" / "there" / "yet"
    assert apart(answer, DLNOTES_CACHE=cache) == ((42, 1), [])
    assert stat.S_IMODE(Path(cache, "kernels").stat().st_mode) == 0o700


def twice(cache, other=None):
    """Two answers in one process, and where their libraries lie."""
    first, second = kernel.compiled(ANSWER), kernel.compiled(OTHER)
    answers = [ctypes.CDLL(str(path)).run() for path in (first, second)]
    again = kernel.compiled(ANSWER) == first
    return answers, again, [str(first.parent), str(second.parent)]


def in_a_temporary_folder(cache, temporary, **environment):
    """Compile with a cache that cannot be used; the warnings."""
    temporary.mkdir(exist_ok=True)
    before = files(cache)
    (answers, again, folders), said = apart(
        twice, cache, DLNOTES_CACHE=cache, TMPDIR=temporary, **environment
    )
    assert answers == [42, 43]
    assert again
    assert len({*folders}) == 1
    assert folders[0].startswith(str(temporary))
    assert files(cache) == before
    return said


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o720, 0o702, 0o1777])
def test_a_cache_that_others_can_write_to_is_not_used(cache, tmp_path, mode):
    Path(cache, "kernels").chmod(mode)
    said = in_a_temporary_folder(cache, tmp_path / "temporary")
    assert len(said) == 1
    assert "chmod go-w" in said[0]
    assert "\n" not in said[0]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_cache_of_another_user_is_not_used(cache, tmp_path):
    os.chown(Path(cache, "kernels"), 65534, 65534)
    said = in_a_temporary_folder(cache, tmp_path / "temporary")
    assert len(said) == 1
    assert "can write to" in said[0]


@pytest.mark.parametrize("make", ["a file", "its parent is a file", "a dangling link", "a loop"])
def test_something_in_the_place_of_the_cache(tmp_path, make):
    cache = tmp_path / "cache"
    if make == "its parent is a file":
        cache.write_text("")
    else:
        cache.mkdir()
        place = cache / "kernels"
        {
            "a file": place.touch,
            "a dangling link": lambda: place.symlink_to("nowhere"),
            "a loop": lambda: place.symlink_to("kernels"),
        }[make]()
    assert in_a_temporary_folder(cache, tmp_path / "temporary") == []


def test_a_linked_cache_is_used(filled, tmp_path):
    (tmp_path / "link").symlink_to(filled)
    assert apart(answer, DLNOTES_CACHE=tmp_path / "link") == ((42, 0), [])


def relative(parent):
    os.chdir(parent)
    return answer()


@pytest.mark.parametrize("name", ["with blanks", "-o", "cache'\"$(x)", "Größe"])
def test_any_name_of_a_cache(tmp_path, name):
    for runs in (1, 0):
        assert apart(relative, tmp_path, DLNOTES_CACHE=name) == ((42, runs), [])
    assert len(files(tmp_path / name)) == 2


def without_a_home():
    def refuse():
        raise RuntimeError("Could not determine home directory.")

    kernel.Path.home = refuse
    return answer()


def test_no_home(tmp_path):
    result = apart(without_a_home, DLNOTES_CACHE=None, XDG_CACHE_HOME=None, TMPDIR=tmp_path)
    assert result == ((42, 1), [])


def limited(size):
    import resource

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    return failure(), activate(), train()


@pytest.mark.parametrize("size", [0, 100, 5000])
def test_files_may_not_grow(tmp_path, size):
    """A quota: nothing can be compiled, and that is said once, with the cause."""
    (reason, values, (numbers, *_)), said = apart(
        limited, size, DLNOTES_CACHE=tmp_path / "cache", TMPDIR=tmp_path
    )
    assert "No usable temporary directory" in reason or "failed" in reason or "large" in reason
    is_right(numbers)
    assert len(values[0]) == 101
    assert len(said) == 1
    assert "\n" not in said[0]
    no_leftovers(tmp_path / "cache")


@pytest.fixture
def disk(tmp_path):
    """A file system of a few pages."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24k,mode=700", "none", str(place)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("may not mount a file system")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=False)


@pytest.mark.parametrize("room", [0, 1, 2, 4])
def test_a_full_disk(disk, tmp_path, room):
    """At 0 the folder can be made and nothing else; later the text, a part of the library, …"""
    Path(disk, "kernels").mkdir(mode=0o700)
    with Path(disk, "rest").open("wb", buffering=0) as f:
        try:
            for _ in range(6 - room):
                f.write(bytes(4096))
        except OSError:
            pass
    assert in_a_temporary_folder(disk, tmp_path / "temporary") == []


def test_a_cache_without_programs(disk, tmp_path):
    """A file system from which nothing may be run."""
    subprocess.run(["mount", "-o", "remount,noexec,size=9m", str(disk)], check=True)
    assert in_a_temporary_folder(disk, tmp_path / "temporary") == []


def test_a_cache_that_is_read_only(disk, tmp_path):
    Path(disk, "kernels").mkdir(mode=0o700)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    assert in_a_temporary_folder(disk, tmp_path / "temporary") == []


def deleted(cache, temporary):
    """Answers before and after the cache is deleted, and after the temporary folder is."""
    found = [answer()]
    shutil.rmtree(cache)
    found += [answer(), answer()]
    shutil.rmtree(cache)
    cache.touch()
    found += [answer(), answer()]
    for folder in temporary.iterdir():
        shutil.rmtree(folder)
    return [*found, answer(), answer()]


def test_folders_that_are_deleted_while_the_process_runs(tmp_path):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    found, said = apart(
        deleted, tmp_path / "cache", temporary, DLNOTES_CACHE=tmp_path / "cache", TMPDIR=temporary
    )
    assert found == [(42, 1), (42, 1), (42, 0), (42, 1), (42, 0), (42, 1), (42, 0)]
    assert said == []


# Compilers


def test_the_compiler_may_have_flags_and_wrappers(tmp_path):
    log = tmp_path / "log"
    folder = tmp_path / "with blanks"
    folder.mkdir()
    wrapper = script(folder / "my cc", f'echo "$1" >> {log}\nexec "$@"')
    for n, command in enumerate(
        [
            f"{COMPILER} -m64",
            f"  {COMPILER}   -O1 ",
            f"'{wrapper}' {COMPILER}",
            f'"{wrapper}" {COMPILER} -DX="a b"',
            str(wrapper).replace(" ", "\\ ") + f" {COMPILER}",
        ]
    ):
        cache = tmp_path / str(n)
        assert apart(answer, CC=command, DLNOTES_CACHE=cache) == ((42, 1), [])
        assert apart(answer, CC=command, DLNOTES_CACHE=cache) == ((42, 0), [])
    assert log.read_text().split() == [COMPILER] * 3


def arithmetic():
    """Whether a compiled loop knows NaN, and a small number of torch's after it was loaded."""
    source = "int run(float x) { return x != x; }"
    library = ctypes.CDLL(str(kernel.compiled(source)))
    small = torch.tensor([1e-40]) * 1
    return library.run(ctypes.c_float(math.nan)), small.item() != 0


@pytest.mark.parametrize("flag", ["-ffast-math", "-funsafe-math-optimizations"])
def test_fast_arithmetic_that_the_compiler_is_told_of_is_not_used(tmp_path, flag):
    """It would change how the whole process rounds."""
    command = f"{COMPILER} {flag}"
    assert apart(arithmetic, CC=command, DLNOTES_CACHE=tmp_path) == ((1, True), [])


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_compilers_path_need_not_be_text(tmp_path):
    folder = os.fsdecode(os.fsencode(tmp_path) + b"/\xff")
    Path(folder).mkdir()
    command = script(Path(folder) / "cc", f'exec {COMPILER} "$@"')
    assert apart(answer, CC=command, DLNOTES_CACHE=tmp_path / "c") == ((42, 1), [])


@pytest.mark.parametrize("command", ["", "   "])
def test_an_empty_name_is_none(tmp_path, command):
    assert apart(answer, CC=command, DLNOTES_CACHE=tmp_path) == ((42, 1), [])


def test_other_flags_make_another_library(tmp_path):
    source = "int run(void) { return X; }"
    for x in (1, 2):
        command = f"{COMPILER} -DX={x}"
        assert apart(answer, source, CC=command, DLNOTES_CACHE=tmp_path) == ((x, 1), [])


def test_another_compiler_of_the_same_name_makes_another_library(tmp_path):
    source = "int run(void) { return X; }"
    for x in (1, 22):
        command = script(tmp_path / "cc", f'exec {COMPILER} -DX={x} "$@"')
        assert apart(answer, source, CC=command, DLNOTES_CACHE=tmp_path / "c") == ((x, 1), [])


FAILING = {
    "unbalanced": ("'gcc -m64", "No closing quotation"),
    "missing": ("/no/such/compiler", "there is no C compiler ($CC is '/no/such/compiler')"),
    "with blanks, unquoted": ("/no such/gcc", "$CC is '/no such/gcc'"),
    "a folder": ("/usr", "$CC is '/usr'"),
    "a text": ("text", "there is no C compiler"),
    "of another format": ("no format", "Exec format error"),
    "silent": ("exit 3", "exit status 3"),
    "writes nothing": ("exit 0", "it wrote no library"),
    "writes a folder": ("folder", "Is a directory"),
    "killed": ("kill -9 $$", "exit status -9"),
    "an error": (
        "printf 'In x.c\\nx.c:1: error: no math.h\\nended\\n' >&2; exit 1",
        "x.c:1: error: no math",
    ),
    "megabytes": ("yes 'an error' | head -c 9000000 >&2; exit 1", "failed: an error"),
    "no UTF-8": ("printf 'error \\377\\n' >&2; exit 1", "failed: error"),
    "garbage": ("garbage", "invalid ELF header"),
}
WRITE = 'while [ "$1" != -o ]; do shift; done\n'


def failing_compiler(tmp_path, text):
    path = tmp_path / "cc"
    if text.startswith(("'", "/")):
        return text
    if text == "text":
        path.write_text("no program")
    elif text == "no format":
        path.write_bytes(b"\x7fELF no program")
        path.chmod(0o755)
    elif text == "garbage":
        script(path, WRITE + 'yes garbage | head -c 20000 > "$2"')
    elif text == "folder":
        script(path, WRITE + 'mkdir "$2"')
    else:
        script(path, text)
    return f"'{path}'"


@pytest.mark.parametrize("case", FAILING)
def test_a_compiler_that_fails(tmp_path, case):
    text, cause = FAILING[case]
    cache = tmp_path / "cache"
    command = failing_compiler(tmp_path, text)
    environment = {"DLNOTES_CACHE": cache, "TMPDIR": tmp_path, "CC": command}
    reason, said = apart(failure, **environment)
    assert cause in reason.splitlines()[0]
    assert len(said) == 1
    assert "\n" not in said[0]
    assert cause in said[0]
    assert len(said[0]) < 600
    assert files(cache) == [], "what could not be loaded has been kept"
    if "/cc'" in command:  # repaired, it is tried again
        (tmp_path / "cc").unlink()
        (tmp_path / "cc").symlink_to(COMPILER)
        assert apart(answer, **environment) == ((42, 1), [])


def test_a_compiler_that_prints_megabytes_and_succeeds(tmp_path):
    command = script(tmp_path / "cc", f'yes warning | head -c 9000000 >&2; exec {COMPILER} "$@"')
    assert apart(answer, CC=command, DLNOTES_CACHE=tmp_path / "cache") == ((42, 1), [])


def test_flags_that_a_compiler_does_not_know(tmp_path):
    """The first flags that work are taken."""
    command = script(
        tmp_path / "cc",
        f'for x in "$@"; do [ "$x" != -fopenmp ] || exit 1; done; exec {COMPILER} "$@"',
    )
    environment = {"CC": command, "DLNOTES_CACHE": tmp_path / "cache"}
    assert apart(answer, **environment) == ((42, 3), [])
    assert apart(answer, **environment) == ((42, 0), [])


def test_a_compiler_that_was_killed_is_not_asked_for_less(tmp_path):
    """An interruption hits the compiler, too; it must not leave a slower library for ever."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        pytest.skip("interruptions are ignored, as in a background job of a shell")
    log = tmp_path / "log"
    command = script(
        tmp_path / "cc", f'echo >> {log}; [ -s {log}.2 ] || {{ echo > {log}.2; kill -INT $$; }}'
        f'\nexec {COMPILER} "$@"',
    )  # fmt: skip
    source = "int run(void) {\n#ifdef _OPENMP\nreturn 1;\n#endif\nreturn 0; }"
    environment = {"CC": command, "DLNOTES_CACHE": tmp_path / "cache", "TMPDIR": tmp_path}
    assert apart(answer, source, **environment) == ((1, 2), [])  # in the temporary folder
    assert files(tmp_path / "cache") == []
    assert apart(answer, source, **environment) == ((1, 1), [])


def asked_for_input():
    """Compile while somebody could still type."""
    kernel._PATIENCE = 2
    reading, _ = os.pipe()
    os.dup2(reading, 0)
    return failure()


def test_a_compiler_that_reads_finds_nothing(tmp_path):
    command = script(tmp_path / "cc", "read x; echo error: $? >&2; exit 1")
    reason, _ = apart(asked_for_input, CC=command, DLNOTES_CACHE=tmp_path, TMPDIR=tmp_path)
    assert "error: 1" in reason


def hanging():
    kernel._PATIENCE = 0.5
    start = time.monotonic()
    reasons = failure(), failure(OTHER)
    return reasons, time.monotonic() - start


def test_a_compiler_that_hangs_is_waited_for_once(tmp_path):
    """In the worst case that takes two minutes; not for each rule and each dtype again."""
    log = tmp_path / "log"
    command = script(tmp_path / "cc", f"echo x >> {log}; exec sleep 60")
    cache = tmp_path / "cache"
    (reasons, seconds), said = apart(hanging, CC=command, DLNOTES_CACHE=cache, TMPDIR=tmp_path)
    assert all("took more than" in reason for reason in reasons)
    assert len(said) == 1
    assert log.read_text().split() == ["x"]
    assert seconds < 5
    no_leftovers(cache)


NOBODY = "/no/such/compiler"
MISSING = {
    "no C": ({"CC": NOBODY}, "no C compiler"),
    "no C++": ({"CXX": NOBODY}, "no C++ compiler"),
    "neither": ({"CC": NOBODY, "CXX": NOBODY}, "compiler ($C"),
    "none in the path": ({"CC": None, "CXX": None, "PATH": "/no/such/folder"}, "looked for $C"),
    "C++ fails": ({"CXX": "false"}, "false failed: exit status 1"),
    "both succeed and write nothing": ({"CC": "true", "CXX": "true"}, "it wrote no library"),
}


def everything():
    """Steps of several rules and an activation, each more than once."""
    first = train()
    train(Momentum)
    train(GradientDescent)
    return first, activate(), activate()


@pytest.mark.parametrize("case", MISSING)
def test_a_missing_compiler_is_said_once_and_results_are_right(tmp_path, case):
    environment, cause = MISSING[case]
    (steps, values, again), said = apart(
        everything, DLNOTES_CACHE=tmp_path / "cache", TMPDIR=tmp_path, **environment
    )
    numbers, _, library, counts = steps
    is_right(numbers)
    assert counts[0] == counts[1], "the compiler is tried again at every step"
    assert library != "PyDLL" or "CXX" not in environment
    x = torch.linspace(-3, 3, 101, requires_grad=True)
    y = torch.sigmoid(x)
    y.sum().backward()
    torch.testing.assert_close(torch.tensor(values), torch.stack([y.detach(), x.grad]))
    assert again == values
    assert len(said) == 1, said
    assert cause in said[0]
    assert "\n" not in said[0]


def test_activations_say_it_too(tmp_path):
    values, said = apart(activate, DLNOTES_CACHE=tmp_path, TMPDIR=tmp_path, CC=NOBODY)
    assert len(values[1]) == 101
    assert len(said) == 1
    assert f"there is no C compiler ($CC is '{NOBODY}')" in said[0]


def test_activations_need_no_second_compiler(tmp_path):
    _, said = apart(activate, DLNOTES_CACHE=tmp_path, CXX=NOBODY)
    assert said == []


# Several at once


@pytest.mark.parametrize("n", [2, 8])
def test_processes_that_compile_the_same_at_once(tmp_path, n):
    running = [start(answer, DLNOTES_CACHE=tmp_path) for _ in range(n)]
    assert all(finish(*process)[0][0] == 42 for process in running)
    assert len(files(tmp_path)) == 2
    assert apart(answer, DLNOTES_CACHE=tmp_path) == ((42, 0), [])


def in_threads(n, function, *arguments):
    found = []
    ready = threading.Barrier(n)

    def work():
        ready.wait()
        found.append(function(*arguments))

    threads = [threading.Thread(target=work) for _ in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def compile_and_call():
    return ctypes.CDLL(str(kernel.compiled(ANSWER))).run()


@pytest.mark.parametrize("n", [2, 8])
def test_threads_that_compile_the_same_at_once(tmp_path, n):
    assert apart(in_threads, n, compile_and_call, DLNOTES_CACHE=tmp_path) == ([42] * n, [])
    assert len(files(tmp_path)) == 2


def step_once():
    p = torch.nn.Parameter(torch.linspace(-1, 1, 43))
    p.grad = p.detach().clone()
    Adam([p], lr=0.1).step()
    return p.tolist()


@pytest.mark.slow
@pytest.mark.parametrize("n", [2, 8])
def test_cold_steps_at_once(tmp_path, n):
    (alone,), said = apart(in_threads, 1, step_once, DLNOTES_CACHE=tmp_path / "1")
    found, said = apart(in_threads, n, step_once, DLNOTES_CACHE=tmp_path / "2")
    assert (found, said) == ([alone] * n, [])
    running = [start(step_once, DLNOTES_CACHE=tmp_path / "3") for _ in range(n)]
    assert [finish(*process) for process in running] == [(alone, [])] * n
    for cache in tmp_path.iterdir():
        assert len(files(cache)) == 4


def test_a_compilation_that_is_killed_leaves_nothing_for_ever(tmp_path):
    """Its folder goes once it is old; that of somebody who is still compiling stays."""
    cache, waits = tmp_path / "cache", tmp_path / "waits"
    slow = script(tmp_path / "cc", f'echo > {waits}; sleep 2; exec {COMPILER} "$@"')
    process, _ = start(answer, CC=slow, DLNOTES_CACHE=cache)
    while not waits.exists():
        time.sleep(0.01)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    (left,) = Path(cache, "kernels").glob("compiling-*")
    working = Path(cache, "kernels", "compiling-now")
    working.mkdir()
    assert apart(answer, DLNOTES_CACHE=cache)[0] == (42, 1)
    assert left.exists(), "it may be somebody's who is still compiling"
    old = time.time() - kernel._ABANDONED - 1
    os.utime(left, (old, old))
    assert apart(answer, OTHER, DLNOTES_CACHE=cache)[0] == (43, 1)
    assert not left.exists()
    assert working.exists()


def test_nobody_compiles_for_longer_than_a_folder_is_kept():
    longest = max(len(language.extras) for language in (kernel.C, kernel.CPP))
    assert 2 * longest * kernel._PATIENCE < kernel._ABANDONED


# Forks and ends


def forked(temporary):
    """A child compiles into its parent's temporary folder and leaves it to the parent."""
    first = answer()
    (folder,) = temporary.iterdir()
    reading, writing = os.pipe()
    if os.fork() == 0:
        found = answer(), answer(OTHER)
        os.write(writing, repr((found, sorted(temporary.iterdir()) == [folder])).encode())
        import atexit

        atexit._run_exitfuncs()
        os._exit(0)
    os.wait()
    return first, os.read(reading, 1000).decode(), answer(), answer(OTHER)


def test_a_forked_child_leaves_its_parents_folder(tmp_path):
    (tmp_path / "file").touch()
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    found, _ = apart(forked, temporary, DLNOTES_CACHE=tmp_path / "file", TMPDIR=temporary)
    assert found == ((42, 1), "(((42, 0), (43, 1)), True)", (42, 0), (43, 0))


LAST_STEP = """
import atexit, torch
from torch.nn import Parameter
from dlnotes.activations import sigmoid
from dlnotes.optim import GradientDescent
p = Parameter(torch.ones(3))
p.grad = torch.ones(3)
optimizer = GradientDescent([p], lr=.5)
def last():
    optimizer.step()
    with torch.no_grad():
        print(p.tolist(), sigmoid(torch.zeros(2)).tolist())
atexit.register(last)
if {first}:
    optimizer.step()
"""


@pytest.mark.slow
@pytest.mark.parametrize("usable", [True, False])
@pytest.mark.parametrize("first", [True, False])
def test_a_step_while_the_interpreter_ends(trained, tmp_path, first, usable):
    """Cold, or after the temporary folder has gone; nothing is left behind."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    (tmp_path / "file").touch()
    cache = shutil.copytree(trained, tmp_path / "cache") if usable else tmp_path / "file"
    done = subprocess.run(
        [sys.executable, "-c", LAST_STEP.format(first=first)],
        env={**os.environ, "DLNOTES_CACHE": str(cache), "TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    value = 0.0 if first else 0.5
    assert done.stdout == f"{[value] * 3} [0.5, 0.5]\n", done.stderr
    assert done.stderr == ""
    assert list(temporary.iterdir()) == []


def steps_in_parallel():
    """Steps on two threads, of tensors that end in the middle of a block and have several."""
    torch.set_num_threads(2)
    sizes = [3 * _kernel.BLOCK + 7, 5, 0, _kernel.BLOCK, 1, 2 * _kernel.BLOCK]
    found = []
    for rule in (Adam, torch.optim.Adam):
        params = [torch.nn.Parameter(torch.linspace(-1, 1, n)) for n in sizes]
        optimizer = rule(params, lr=0.1)
        for _ in range(5):
            for p in params:
                p.grad = p.detach().clone()
            optimizer.step()
        found.append([p.detach() for p in params])
        assert all(optimizer.state[p]["step"].item() == 5 for p in params)
    assert [type(k).__name__ for k in _kernel._built.values()] == ["Kernel"]
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-6)


def test_a_parallel_step_counts_once_and_takes_each_block_once(trained):
    apart(steps_in_parallel, DLNOTES_CACHE=trained)


FORK = """
import os, signal, sys, torch
from torch.nn import Parameter
import dlnotes.optim
torch.set_num_threads(2)
rule = {"ours": dlnotes.optim.Adam, "torch": torch.optim.Adam}[sys.argv[1]]
def make(n):
    p = Parameter(torch.ones(n))
    p.grad = torch.ones(n)
    return p, rule([p], lr=.5, fused=True)
p, optimizer = make(1 << 18)
optimizer.step()
reading, writing = os.pipe()
if os.fork() == 0:
    signal.alarm(10)
    q, small = make(100)
    small.step()
    os.write(writing, f"small {q[0].item()} ".encode())
    optimizer.step()
    os.write(writing, f"large {p[0].item()}".encode())
    os._exit(0)
os.close(writing)
os.wait()
optimizer.step()
print(os.read(reading, 99).decode(), "parent", p[0].item())
"""


@pytest.mark.slow
def test_a_fork_after_a_parallel_step_is_as_with_torch(trained):
    """With GNU OpenMP a large step of the child waits for ever for threads that only its parent has.

    That is so for every parallel operation of torch, its own fused step included. Our small steps
    are not affected.
    """
    found = {}
    for whose in ("torch", "ours"):
        done = subprocess.run(
            [sys.executable, "-c", FORK, whose],
            env={**os.environ, "DLNOTES_CACHE": str(trained)},
            capture_output=True,
            text=True,
            check=True,
        )
        found[whose] = done.stdout
        assert "parent" in done.stdout
    assert "small 0.5" in found["ours"], found
    ours, torchs = ("large" in found[whose] for whose in ("ours", "torch"))
    assert ours >= torchs, found
