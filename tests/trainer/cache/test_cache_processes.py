"""Several processes with one cache, and some that die."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import torch

from trainer.cache import Cache, CacheKey

PLENTY = 10**9
KEY = CacheKey("pixels", {"number": 1})
WORDS = """
import sys, time
from pathlib import Path
import torch
from trainer.cache import Cache, CacheKey
folder, key = Path(sys.argv[1]), CacheKey("pixels", {"number": 1})
cache = Cache(folder, 10**9)
"""
BUILDER_THAT_HANGS = (
    WORDS
    + """
with cache.begin(key, (2**20,), torch.uint8) as draft:
    draft.tensor[:2**19] = 7
    print("half", flush=True)
    time.sleep(60)
"""
)
ONE_OF_TWO = (
    WORDS
    + """
print("ready", flush=True)
sys.stdin.readline()
while (found := cache.find(key)) is None:
    if draft := cache.begin(key, (2**20,), torch.uint8):
        with draft:
            time.sleep(0.3)
            draft.tensor.fill_(7)
            draft.commit()
            print("built", flush=True)
    time.sleep(0.01)
print(int(found.sum()), flush=True)
"""
)


def started(program: str, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3],
    )  # fmt: skip


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_a_builder_that_is_killed_leaves_nothing_and_blocks_nobody(tmp_path: Path) -> None:
    with started(BUILDER_THAT_HANGS, tmp_path) as builder:
        assert said(builder) == "half"
        cache = Cache(tmp_path, PLENTY)
        assert cache.busy(KEY) and cache.begin(KEY, (2**20,), torch.uint8) is None and cache.find(KEY) is None
        builder.send_signal(signal.SIGKILL)
        builder.wait()
        assert not cache.busy(KEY) and cache.find(KEY) is None
        assert [path.suffix for path in tmp_path.glob("*/*")] == [".draft"]
        draft = cache.begin(KEY, (2**20,), torch.uint8)
        assert draft is not None
        with draft:
            assert not draft.tensor.any()  # nothing of what the dead one had written
            draft.commit()
        assert cache.find(KEY) is not None


def test_what_dead_builders_left_is_swept_and_what_living_ones_write_is_not(tmp_path: Path) -> None:
    left = tmp_path / "features" / ("0" * 64 + ".draft")
    left.parent.mkdir()
    left.write_bytes(bytes(100))
    draft = Cache(tmp_path, PLENTY).begin(KEY, (4,), torch.uint8)
    left.write_bytes(bytes(100))
    Cache(tmp_path, PLENTY)
    assert draft is not None and not left.exists()
    with draft:
        draft.tensor.fill_(3)
        assert draft.commit().tolist() == [3, 3, 3, 3]


def test_two_processes_that_want_an_entry_build_it_once(tmp_path: Path) -> None:
    with started(ONE_OF_TWO, tmp_path) as one, started(ONE_OF_TWO, tmp_path) as other:
        assert (said(one), said(other)) == ("ready", "ready")
        ends = [process.communicate("go\n", timeout=600)[0].split() for process in (one, other)]
    assert sorted(map(len, ends)) == [1, 2] and {end[-1] for end in ends} == {str(7 * 2**20)}


def test_threads_that_want_an_entry_build_it_once(tmp_path: Path) -> None:
    cache, built, found = Cache(tmp_path, PLENTY), list[int](), list[int]()

    def want() -> None:
        while (tensor := cache.find(KEY)) is None:
            if draft := cache.begin(KEY, (1000,), torch.uint8):
                with draft:
                    time.sleep(0.05)
                    draft.tensor.fill_(1)
                    draft.commit()
                    built.append(1)
            time.sleep(0.001)
        found.append(int(tensor.sum()))

    threads = [threading.Thread(target=want) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert built == [1] and found == [1000] * 8


def test_what_is_found_is_mapped_and_not_copied(tmp_path: Path) -> None:
    size = 64 * 2**20
    draft = Cache(tmp_path, PLENTY).begin(KEY, (size,), torch.uint8)
    assert draft is not None
    with draft:
        draft.tensor.fill_(1)
        draft.commit()
    del draft
    before = own_bytes()
    found = Cache(tmp_path, PLENTY).find(KEY)
    assert found is not None and int(found.sum()) == size  # every page was touched
    assert own_bytes() - before < size // 8


def own_bytes() -> int:
    """Memory of this process that no other can share."""
    match = re.search(r"^RssAnon:\s+(\d+) kB", Path(f"/proc/{os.getpid()}/status").read_text(), re.MULTILINE)
    assert match
    return int(match[1]) * 1024
