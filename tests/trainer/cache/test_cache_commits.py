"""Entries that are hashed and written in the background: absent or whole, built once, one at a time."""

import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from trainer.cache import Cache, CacheKey, Layout

PLENTY = 10**9
KEY, OTHER = CacheKey("features", {"number": 1}), CacheKey("features", {"number": 2})
KILLED_WHILE_IT_HASHES = """
import sys, threading, time
from pathlib import Path
import torch
from trainer.cache import Cache, CacheKey, Layout
def sha256(layout, mapping, *, alone):
    print("hashing", flush=True)
    time.sleep(60)
Layout.sha256 = sha256
cache = Cache(Path(sys.argv[1]), 10**9)
with cache.begin(CacheKey("features", {"number": 1}), (1000,), torch.uint8) as draft:
    draft.tensor.fill_(7)
    draft.commit_later()
"""
ENDS_AT_ONCE = """
import sys
from pathlib import Path
import torch
from trainer.cache import PART, Cache, CacheKey
cache = Cache(Path(sys.argv[1]), 10**9)
with cache.begin(CacheKey("features", {"number": 1}), (2 * PART,), torch.uint8) as draft:
    draft.tensor.fill_(7)
    draft.commit_later()
"""


class Gate:
    """Holds up hashing until it is opened."""

    def __init__(self) -> None:
        self.reached, self.opened = threading.Semaphore(0), threading.Semaphore(0)

    def open(self, times: int = 1) -> None:
        self.opened.release(times)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """Each hash waits for the gate."""
    found, sha256 = Gate(), Layout.sha256

    def gated(layout: Layout, mapping: Any, *, alone: bool = False) -> bytes:
        found.reached.release()
        assert found.opened.acquire(timeout=20)
        return sha256(layout, mapping, alone=alone)

    monkeypatch.setattr(Layout, "sha256", gated)
    yield found
    found.open(100)


def begun(cache: Cache, key: CacheKey = KEY, value: int = 7) -> None:
    """Build an entry that is committed in the background."""
    draft = cache.begin(key, (1000,), torch.uint8)
    assert draft is not None
    with draft:
        draft.tensor.fill_(value)
        draft.commit_later()


def files(folder: Path) -> list[str]:
    return sorted(path.suffix for path in folder.glob("features/*"))


def test_while_an_entry_is_hashed_it_is_being_built(tmp_path: Path, gate: Gate) -> None:
    mine, theirs = Cache(tmp_path, PLENTY), Cache(tmp_path, PLENTY)
    begun(mine)
    assert gate.reached.acquire(timeout=20)
    for cache in (mine, theirs):
        assert cache.busy(KEY) and cache.find(KEY) is None and cache.begin(KEY, (1000,), torch.uint8) is None and not cache.holds(KEY)
    assert files(tmp_path) == [".draft"]
    gate.open(2)  # the other checks what it finds
    mine.wait()
    for cache in (mine, theirs):
        found = cache.find(KEY)
        assert not cache.busy(KEY) and found is not None and bool((found == 7).all())
    assert files(tmp_path) == [".tensor"]


def test_what_is_hashed_in_the_background_has_the_hash_of_the_foreground(tmp_path: Path) -> None:
    folders = tmp_path / "before", tmp_path / "behind"
    cache = Cache(folders[0], PLENTY)
    draft = cache.begin(KEY, (1000,), torch.uint8)
    assert draft is not None
    with draft:
        draft.tensor.fill_(7)
        draft.commit()
    begun(behind := Cache(folders[1], PLENTY))
    behind.wait()
    one, other = (next(folder.glob("features/*.tensor")).read_bytes() for folder in folders)
    assert one == other


def test_one_entry_is_hashed_at_a_time(tmp_path: Path, gate: Gate) -> None:
    cache = Cache(tmp_path, PLENTY)
    begun(cache)
    second = threading.Thread(target=begun, args=(cache, OTHER))
    second.start()
    assert gate.reached.acquire(timeout=20)
    second.join(0.1)
    assert second.is_alive() and not gate.reached.acquire(blocking=False)
    gate.open()
    second.join(20)
    assert not second.is_alive() and cache.find(KEY) is not None and cache.find(OTHER) is None
    gate.open()
    cache.wait()
    assert cache.find(OTHER) is not None


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyError("a fault of the program")])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_commit_that_fails_leaves_nothing_and_blocks_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    def failing(descriptor: int) -> None:
        raise error

    cache = Cache(tmp_path, PLENTY)
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", failing)
        begun(cache)
        cache.wait()
    assert files(tmp_path) == [] and not cache.busy(KEY) and cache.find(KEY) is None
    assert ("No space left on device" in caplog.text) == isinstance(error, OSError)
    begun(cache)
    cache.wait()
    assert cache.find(KEY) is not None


def test_a_process_that_is_killed_while_it_hashes_leaves_nothing_that_is_found(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED_WHILE_IT_HASHES, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3]
    )
    assert process.stdout is not None and process.stdout.readline() == "hashing\n"
    cache = Cache(tmp_path, PLENTY)
    assert cache.busy(KEY)
    process.send_signal(signal.SIGKILL)
    process.wait(60)
    process.stdout.close()
    assert not cache.busy(KEY) and cache.find(KEY) is None
    begun(cache)
    cache.wait()
    assert cache.find(KEY) is not None and files(tmp_path) == [".tensor"]


def test_a_process_that_ends_writes_the_entry_first(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", ENDS_AT_ONCE, str(tmp_path)], check=True, timeout=120, cwd=Path(__file__).parents[3])
    found = Cache(tmp_path, PLENTY).find(KEY)
    assert found is not None and bool((found == 7).all())
