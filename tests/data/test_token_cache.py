"""The cache of tokens: whole entries or none, whoever else reads, writes, damages or dies."""

import contextlib
import json
import os
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from dlnotes.data import tokenized
from dlnotes.data.tokenized import _beside, tokenize
from dlnotes.errors import UserError


@pytest.fixture
def tsv(tmp_path):
    path = tmp_path / "train.tsv"
    rows = [f"{'ab'[i % 2]}\tword{i} the {'cat ' * (i % 5)}\n" for i in range(200)]
    path.write_text("".join(rows))
    return path


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def content(texts):
    parts = (texts.tokens, texts.offsets, texts.types, texts.labels, texts.label_names, texts.lines)
    return [list(part) for part in parts]


def replaced(entry, change):
    """The entry with other content."""
    data = bytearray(entry.read_bytes())
    beside = entry.parent.with_name(f"{entry.name}-{threading.get_ident()}")
    beside.write_bytes(bytes(change(data)))
    beside.replace(entry)  # nobody's map of it may be cut


def flipped(place):
    def change(data):
        data[place] ^= 1
        return data

    return change


def with_json(data):
    at = data.rindex(b'["')
    return data[:at] + json.dumps([1, None, {"a": 10**30}]).encode()


DAMAGE = {
    "empty": lambda entry: entry.write_bytes(b""),
    "cut": lambda entry: replaced(entry, lambda data: data[:-40]),
    "cut within the digest": lambda entry: replaced(entry, lambda data: data[:30]),
    "cut to the digest": lambda entry: replaced(entry, lambda data: data[:64]),
    "longer": lambda entry: replaced(entry, lambda data: data + b"\0" * 8),
    "a bit of the digest": lambda entry: replaced(entry, flipped(3)),
    "a bit of the sizes": lambda entry: replaced(entry, flipped(70)),
    "a huge size": lambda entry: replaced(entry, lambda d: d[:64] + b"\xff" * 8 + d[72:]),
    "a bit of a token": lambda entry: replaced(entry, flipped(100)),
    "a bit of the end": lambda entry: replaced(entry, flipped(-5)),
    "NUL": lambda entry: entry.write_bytes(bytes(4096)),
    "other JSON": lambda entry: replaced(entry, with_json),
    "a folder": lambda entry: (entry.unlink(), entry.mkdir(), (entry / "tokens").touch()),
    "a link to itself": lambda entry: (entry.unlink(), entry.symlink_to(entry)),
    "a pipe": lambda entry: (entry.unlink(), os.mkfifo(entry)),
    "gone": lambda entry: entry.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_entry_is_made_again(tsv, cache, damage):
    expected = content(tokenize(tsv))
    tokenize(tsv, cache_dir=cache)
    (entry,) = cache.iterdir()
    damage(entry)
    assert content(tokenize(tsv, cache_dir=cache)) == expected
    assert [entry] == list(cache.iterdir())
    assert entry.is_file()
    made = entry.stat().st_mtime_ns
    texts = tokenize(tsv, cache_dir=cache)
    assert content(texts) == expected
    assert isinstance(texts.tokens, np.memmap)
    assert entry.stat().st_mtime_ns == made


def test_an_entry_of_another_file_is_none(tsv, cache, tmp_path):
    other = tmp_path / "other.tsv"
    other.write_text("a\tsomething else\nb\tentirely\n")
    tokenize(tsv, cache_dir=cache)
    (entry,) = cache.iterdir()
    tokenize(other, cache_dir=cache)
    (foreign,) = set(cache.iterdir()) - {entry}
    shutil.copy(foreign, entry)
    assert content(tokenize(tsv, cache_dir=cache)) == content(tokenize(tsv))


@pytest.mark.filterwarnings("ignore:the cache")  # where a folder comes at a bad moment
def test_many_at_once_on_cold_and_damaged_entries(tsv, cache):
    expected = content(tokenize(tsv))
    damages = [DAMAGE[name] for name in ("cut", "a folder", "gone")]

    def start(number):
        for damage in damages[number % 4 : number % 4 + 1]:
            for entry in cache.glob("[!.]*"):
                with contextlib.suppress(OSError):  # another one was faster
                    damage(entry)
        return content(tokenize(tsv, cache_dir=cache)) == expected

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(start, range(80)))
    assert len(list(cache.glob(".*"))) == 0


def test_tokens_stay_when_the_entry_is_replaced_or_removed(tsv, cache):
    expected = content(tokenize(tsv))
    texts = tokenize(tsv, cache_dir=cache)
    (entry,) = cache.iterdir()
    shutil.rmtree(cache)
    assert content(texts) == expected
    assert content(tokenize(tsv, cache_dir=cache)) == expected
    assert entry.is_file()


def test_what_killed_processes_left_is_removed_when_it_is_old(tsv, cache):
    cache.mkdir()
    old, folder, fresh = (cache / f".building-{name}" for name in ("old", "folder", "fresh"))
    old.touch()
    fresh.touch()
    folder.mkdir()
    (folder / "tokens").touch()
    for path in (old, folder / "tokens", folder):
        os.utime(path, (time.time() - 4000,) * 2)
    tokenize(tsv, cache_dir=cache)
    assert fresh.exists()
    assert len(list(cache.iterdir())) == 2


def full(*_):
    raise OSError(28, "No space left on device")


TROUBLE = {
    "a file in its place": lambda cache, _: cache.touch(),
    "full": lambda _, patch: patch.setattr(Path, "replace", full),
}


@pytest.mark.parametrize("trouble", TROUBLE.values(), ids=TROUBLE)
def test_without_a_cache_it_goes_on_in_memory(tsv, cache, monkeypatch, trouble):
    expected = content(tokenize(tsv))
    trouble(cache, monkeypatch)
    with pytest.warns(UserWarning, match=r"the cache .*cache cannot be written .*DLNOTES_CACHE"):
        texts = tokenize(tsv, cache_dir=cache)
    assert content(texts) == expected
    assert cache.is_file() or list(cache.iterdir()) == []


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_cache_that_cannot_be_written_is_read(tsv, cache):
    expected = content(tokenize(tsv, cache_dir=cache))
    cache.chmod(0o500)
    try:
        assert isinstance(tokenize(tsv, cache_dir=cache).tokens, np.memmap)
        with pytest.warns(UserWarning, match="cannot be written .Permission denied"):
            tokenize(tsv, "cased", cache_dir=cache)
    finally:
        cache.chmod(0o700)
    assert content(tokenize(tsv, cache_dir=cache)) == expected


def test_a_file_that_changes_while_it_is_read_is_told_and_not_kept(tsv, cache, monkeypatch):
    read = tokenized.read

    def changing(source, *how, **more):
        yield from read(source, *how, **more)
        Path(source).write_text("a\tx\nb\ty\n")

    monkeypatch.setattr(tokenized, "read", changing)
    with pytest.raises(UserError, match=r"train\.tsv was changed while it was read; try again"):
        tokenize(tsv, cache_dir=cache)
    assert list(cache.iterdir()) == []


def test_a_failed_read_is_told_as_such(tsv, cache, monkeypatch):
    """An error that is not the cache's is not taken for one."""

    def broken(*_, **__):
        raise RuntimeError("broken")
        yield

    monkeypatch.setattr(tokenized, "read", broken)
    with pytest.raises(RuntimeError, match="broken"):
        tokenize(tsv, cache_dir=cache)
    assert list(cache.iterdir()) == []


def test_tokens_are_made_beside_and_in_order():
    frames = [pl.DataFrame({"text": [str(i)]}) for i in range(7)]
    threads, taken = set(), []

    def split(frame):
        threads.add(threading.current_thread())
        return frame["text"] + "!"

    def given():
        for frame in frames:
            taken.append(frame)
            yield frame

    for i, (frame, tokens) in enumerate(_beside(given(), split)):
        assert frame is frames[i]
        assert tokens.to_list() == [f"{i}!"]
        assert len(taken) == min(i + 2, 7)  # one frame ahead
    assert i == 6
    assert len(threads) == 1
    assert threading.main_thread() not in threads

    def fault(frame):
        raise UserError("no tokens")

    with pytest.raises(UserError, match="no tokens"):
        list(_beside(given(), fault))
