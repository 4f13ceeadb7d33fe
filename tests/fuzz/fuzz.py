"""Fuzz what reads files of others: ``python tests/fuzz/fuzz.py TARGET SECONDS [FOLDER]``.

With the package atheris (libFuzzer for Python, which needs not be installed for anything else) the
coverage of dlnotes guides it; without, the seeds and the files in ``corpus/`` are changed at random.
What a target trips over, or takes more than ten seconds for, is written to FOLDER (default: the
current one) as ``crash-…``; once mended, it belongs into ``corpus/TARGET/``, where
``test_corpus.py`` reads it again.
"""

import argparse
import hashlib
import os
import random
import resource
import signal
import sys
import time
import traceback
from pathlib import Path

try:
    import atheris
except ImportError:
    atheris = None

if atheris:
    reading = ["dlnotes.data", "dlnotes.files", "dlnotes.training"]
    with atheris.instrument_imports(include=[*reading, "dlnotes.serving", "uvicorn.protocols"]):
        import targets
else:
    import targets
from seeds import seeds

CORPUS = Path(__file__).parent / "corpus"


def known(target: str) -> list[bytes]:
    """What the fuzzer begins with."""
    return [*seeds(target), *(p.read_bytes() for p in sorted((CORPUS / target).glob("*")))]


def changed(data: bytes, others: list[bytes], draw: random.Random) -> bytes:
    """Some changes to some bytes."""
    content = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 4, 8))):
        at = draw.randrange(len(content) + 1)
        to = min(len(content), at + draw.choice((1, 2, 4, 16, 64)))
        other = draw.choice(others)
        start = draw.randrange(len(other) + 1)
        content[at:to] = draw.choice(
            (
                draw.randbytes(to - at),
                b"",
                bytes(content[at:to]) * 2,
                other[start : start + 32],
                draw.choice((b"\0", b'"', b"\r\n", b"\xff", b"-1", b"9" * 20, b"NaN", b"[", b"\t")),
            )
        )
    return bytes(content)


def without_atheris(target: str, seconds: float, place: Path) -> None:
    """Change what is known at random; print how many files were read."""
    draw, begins = random.Random(0), known(target)
    until, count = time.process_time() + seconds, 0
    while time.process_time() < until:
        data = changed(draw.choice(begins), begins, draw)
        count += 1
        signal.alarm(10)
        try:
            if targets.check(target, data) is None and len(begins) < 1000:
                begins.append(data)  # what can be read leads further than what is refused
        except BaseException:
            name = f"crash-{hashlib.sha256(data).hexdigest()[:16]}"
            (place / name).write_bytes(data)
            print(f"{target}: {name}: {traceback.format_exc(limit=-2)}", flush=True)
        signal.alarm(0)
    print(f"{target}: {count} files in {seconds:.0f} s of CPU time")


def with_atheris(target: str, seconds: float, place: Path) -> None:
    """Let libFuzzer change what is known; it prints how many files were read."""
    corpus = place / f"found-{target}"
    corpus.mkdir(exist_ok=True)
    for i, data in enumerate(known(target)):
        (corpus / f"known-{i}").write_bytes(data)
    options = [f"-max_total_time={seconds:.0f}", "-timeout=10", "-rss_limit_mb=4096"]
    options += ["-max_len=20000", f"-artifact_prefix={place}/", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], *options, str(corpus)], lambda data: _checked(target, data))
    atheris.Fuzz()


def _checked(target: str, data: bytes) -> None:
    targets.check(target, data)


def main() -> None:
    """Fuzz one target."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", choices=targets.TARGETS)
    parser.add_argument("seconds", type=float)
    parser.add_argument("folder", type=Path, nargs="?", default=Path())
    parser.add_argument("--plain", action="store_true", help="without atheris")
    given = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.environ["DLNOTES_CACHE"] = str(targets.folder() / "cache")
    guided = atheris and not given.plain
    (with_atheris if guided else without_atheris)(given.target, given.seconds, given.folder)
    targets.remove_folder()


if __name__ == "__main__":
    main()
