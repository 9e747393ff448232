"""What has to go for a new entry, and when there is no room."""

import os
import resource
from pathlib import Path

import pytest
import torch

from trainer.cache import Cache, CacheKey

MEGABYTE = 2**20
PAGES = 4096  # bytes of an entry beside its megabyte
ROOM = 3 * (MEGABYTE + PAGES)  # for three entries


def key(number: int) -> CacheKey:
    return CacheKey("pixels" if number % 2 else "features", {"number": number})


def keep(cache: Cache, number: int) -> bool:
    draft = cache.begin(key(number), (MEGABYTE,), torch.uint8)
    if draft is None:
        return False
    with draft:
        draft.tensor.fill_(number)
        draft.commit()
    return True


def numbers(folder: Path) -> set[int]:
    cache = Cache(folder, ROOM)
    held = {path.stem for path in folder.glob("*/*.tensor")}
    return {number for number in range(10) if key(number).digest in held and cache.find(key(number)) is not None}


def used_at(folder: Path, number: int, second: int) -> None:
    os.utime(folder / key(number).kind / f"{key(number).digest}.tensor", (second, second))


def bytes_held(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*/*"))


def test_what_was_not_used_for_longest_goes_whatever_its_kind(tmp_path: Path) -> None:
    cache = Cache(tmp_path, ROOM)
    for number in range(3):
        assert keep(cache, number)
        used_at(tmp_path, number, 100 + number)
    assert cache.find(key(0)) is not None  # used again
    assert keep(cache, 3)
    assert numbers(tmp_path) == {0, 2, 3} and bytes_held(tmp_path) == ROOM


def test_what_this_process_is_using_counts_as_used_now(tmp_path: Path) -> None:
    cache = Cache(tmp_path, ROOM)
    for number in range(3):
        assert keep(cache, number)
    in_use = cache.find(key(0))
    for number in range(3):
        used_at(tmp_path, number, 100 + number)
    assert keep(cache, 3)
    assert numbers(tmp_path) == {0, 2, 3} and in_use is not None


def test_drafts_take_room_too_and_are_not_driven_out(tmp_path: Path) -> None:
    cache = Cache(tmp_path, ROOM)
    drafts = [cache.begin(key(number), (MEGABYTE,), torch.uint8) for number in range(3)]
    assert all(drafts) and not keep(cache, 3)
    for draft in filter(None, drafts):
        with draft:
            pass
    assert keep(cache, 3)


def test_a_draft_has_its_blocks_before_it_is_filled(tmp_path: Path) -> None:
    draft = Cache(tmp_path, ROOM).begin(key(1), (MEGABYTE,), torch.uint8)
    assert draft is not None
    (file,) = tmp_path.glob("*/*.draft")
    with draft:
        assert file.stat().st_blocks * 512 >= MEGABYTE  # a write into a hole could find the disk full, and end the process


def test_what_could_never_fit_drives_out_nothing(tmp_path: Path) -> None:
    cache = Cache(tmp_path, ROOM)
    assert keep(cache, 1)
    assert cache.begin(key(2), (ROOM,), torch.uint8) is None
    assert numbers(tmp_path) == {1} and bytes_held(tmp_path) == ROOM / 3


def test_a_disk_that_is_nearly_full_is_not_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(tmp_path, ROOM)
    assert keep(cache, 1)
    monkeypatch.setattr("trainer.cache.DISK_RESERVE", 2**60)
    monkeypatch.setattr("trainer.cache.DISK_RESERVE_SHARE", 1.0)
    assert not keep(cache, 2)
    assert numbers(tmp_path) == {1}


def test_below_the_floor_nothing_more_is_stored(tmp_path: Path) -> None:
    assert keep(Cache(tmp_path, ROOM), 1)
    assert not keep(Cache(tmp_path, ROOM, floor_bytes=2**62), 2)
    assert numbers(tmp_path) == {1}


def test_a_disk_that_refuses_the_blocks_is_told_before_anything_is_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = Cache(tmp_path, ROOM)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MEGABYTE // 2, hard))  # as a full disk does, the kernel refuses to make the file longer
    try:
        assert not keep(cache, 1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "cannot be written" in caplog.text and bytes_held(tmp_path) == 0
    assert keep(cache, 1)
