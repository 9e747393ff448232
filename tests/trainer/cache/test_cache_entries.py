"""What is written is found again, whole and unchanged, or not at all."""

import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from trainer.cache import PAGE, Cache, CacheKey

PLENTY = 10**9
KEY = CacheKey("features", {"weights": "a1", "stages": ["stem", "block1"], "size": 64})
OTHER = CacheKey("features", {"weights": "a2", "stages": ["stem", "block1"], "size": 64})


def keep(cache: Cache, key: CacheKey, content: Tensor) -> Tensor:
    draft = cache.begin(key, content.shape, content.dtype)
    assert draft is not None
    with draft:
        draft.tensor.copy_(content)
        return draft.commit()


def counted(dtype: torch.dtype, shape: Sequence[int]) -> Tensor:
    return torch.arange(math.prod(shape)).to(dtype).view(tuple(shape))


def file_of(folder: Path, key: CacheKey) -> Path:
    return folder / key.kind / f"{key.digest}.tensor"


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*/*"))


@pytest.mark.parametrize("shape", [(), (7,), (3, 1, 50)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64, torch.uint8, torch.int64, torch.bool])
def test_an_entry_is_found_by_another_process_with_its_shape_and_type(tmp_path: Path, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    content = counted(dtype, shape)
    written = keep(Cache(tmp_path, PLENTY), KEY, content)
    read = Cache(tmp_path, PLENTY).find(KEY)
    assert read is not None
    for found in (written, read):
        assert found.dtype == dtype and found.shape == shape and torch.equal(found, content)


def test_the_data_begins_on_a_page(tmp_path: Path) -> None:
    found = keep(Cache(tmp_path, PLENTY), KEY, counted(torch.uint8, (9,)))
    assert found.data_ptr() % PAGE == 0


def test_keys_are_told_apart_by_every_fact_and_by_kind_but_not_by_order() -> None:
    turned = CacheKey(KEY.kind, dict(reversed(list(KEY.facts.items()))))
    assert turned.digest == KEY.digest
    assert len({KEY.digest, OTHER.digest, CacheKey("pixels", KEY.facts).digest}) == 3


def test_facts_that_are_not_finite_are_no_key() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        _ = CacheKey("features", {"mean": math.nan}).digest


def test_nothing_is_left_of_a_draft_that_was_not_committed(tmp_path: Path) -> None:
    cache = Cache(tmp_path, PLENTY)
    draft = cache.begin(KEY, (4,), torch.uint8)
    assert draft is not None
    with pytest.raises(KeyError), draft:
        assert cache.find(KEY) is None
        raise KeyError
    assert cache.find(KEY) is None and not cache.busy(KEY) and files(tmp_path) == []
    assert torch.equal(keep(cache, KEY, counted(torch.uint8, (4,))), torch.tensor([0, 1, 2, 3]))


def test_an_entry_is_built_by_one_at_a_time_and_once(tmp_path: Path) -> None:
    mine, theirs = Cache(tmp_path, PLENTY), Cache(tmp_path, PLENTY)
    draft = mine.begin(KEY, (4,), torch.uint8)
    assert draft is not None
    with draft:
        assert theirs.begin(KEY, (4,), torch.uint8) is None and theirs.busy(KEY) and not theirs.busy(OTHER)
        draft.commit()
    assert not theirs.busy(KEY) and theirs.begin(KEY, (4,), torch.uint8) is None
    assert theirs.find(KEY) is not None and len(files(tmp_path)) == 1


def flipped(place: int) -> Callable[[Path], object]:
    def flip(file: Path) -> None:
        content = bytearray(file.read_bytes())
        content[place] ^= 1
        file.write_bytes(content)

    return flip


@pytest.mark.parametrize(
    "harm",
    [
        flipped(-1), flipped(PAGE), flipped(0), flipped(8), flipped(12), flipped(20), flipped(60), flipped(120),
        lambda file: file.write_bytes(file.read_bytes()[:-1]),
        lambda file: file.write_bytes(file.read_bytes() + b"\0"),
        lambda file: file.write_bytes(file.read_bytes()[:100]),
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(bytes(file.stat().st_size)),
    ],
)  # fmt: skip
def test_what_is_damaged_anywhere_is_removed_and_built_again(
    tmp_path: Path, harm: Callable[[Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    content = counted(torch.float32, (1000,))
    keep(Cache(tmp_path, PLENTY), KEY, content)
    harm(file_of(tmp_path, KEY))
    cache = Cache(tmp_path, PLENTY)
    assert cache.find(KEY) is None and files(tmp_path) == []
    assert KEY.digest in caplog.text and "is removed" in caplog.text
    keep(cache, KEY, content)
    assert cache.find(KEY) is not None


def test_parts_that_changed_places_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.cache.PART", PAGE)
    content = counted(torch.int32, (5000,))  # five parts, the last one shorter
    keep(Cache(tmp_path, PLENTY), KEY, content)
    found = Cache(tmp_path, PLENTY).find(KEY)
    assert found is not None and torch.equal(found, content)
    file = file_of(tmp_path, KEY)
    whole = file.read_bytes()
    file.write_bytes(whole[:PAGE] + whole[2 * PAGE : 3 * PAGE] + whole[PAGE : 2 * PAGE] + whole[3 * PAGE :])
    assert Cache(tmp_path, PLENTY).find(KEY) is None


def test_the_entry_of_another_key_is_removed_from_under_this_ones_name(tmp_path: Path) -> None:
    cache = Cache(tmp_path, PLENTY)
    keep(cache, OTHER, counted(torch.float32, (8,)))
    shutil.copy(file_of(tmp_path, OTHER), file_of(tmp_path, KEY))
    assert cache.find(KEY) is None and not file_of(tmp_path, KEY).exists()
    assert cache.find(OTHER) is not None


def test_a_write_into_what_was_found_never_reaches_the_file(tmp_path: Path) -> None:
    content = counted(torch.uint8, (5000,))
    mine = keep(Cache(tmp_path, PLENTY), KEY, content)
    theirs = Cache(tmp_path, PLENTY).find(KEY)
    mine.zero_()
    again = Cache(tmp_path, PLENTY).find(KEY)
    assert theirs is not None and torch.equal(theirs, content)
    assert again is not None and torch.equal(again, content)


def test_the_content_is_checked_once_a_process(tmp_path: Path) -> None:
    keep(Cache(tmp_path, PLENTY), KEY, counted(torch.uint8, (8,)))
    cache = Cache(tmp_path, PLENTY)
    found = cache.find(KEY)
    assert found is not None and cache.find(KEY) is found
    del found
    with file_of(tmp_path, KEY).open("r+b") as file:  # the same file, damaged behind the cache's back
        file.seek(PAGE)
        file.write(b"\xff")
    unchecked = cache.find(KEY)
    assert unchecked is not None and int(unchecked[0]) == 255
    assert Cache(tmp_path, PLENTY).find(KEY) is None


def test_what_is_in_use_stays_usable_when_its_file_is_gone(tmp_path: Path) -> None:
    cache, content = Cache(tmp_path, PLENTY), counted(torch.uint8, (5000,))
    found = keep(cache, KEY, content)
    file_of(tmp_path, KEY).unlink()
    assert cache.find(KEY) is found and torch.equal(found, content)
    del found
    assert cache.find(KEY) is None


def test_without_a_folder_or_bytes_nothing_is_kept(tmp_path: Path) -> None:
    for cache in (Cache.none(), Cache(None, PLENTY), Cache(tmp_path / "cache", 0)):
        assert cache.begin(KEY, (4,), torch.uint8) is None and cache.find(KEY) is None and not cache.busy(KEY)
    assert not (tmp_path / "cache").exists()


def test_what_is_empty_is_not_kept(tmp_path: Path) -> None:
    assert Cache(tmp_path, PLENTY).begin(KEY, (0, 3), torch.uint8) is None


def test_a_folder_that_cannot_be_used_is_as_good_as_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("no folder")
    cache = Cache(tmp_path / "file", PLENTY)
    assert cache.find(KEY) is None and cache.begin(KEY, (4,), torch.uint8) is None
    assert "cannot be written" in caplog.text
