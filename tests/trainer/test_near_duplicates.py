"""Different files that show the same picture: found without linking others, and kept on one side of the split."""

import hashlib
import io
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageEnhance
from sklearn.datasets import load_digits

from trainer.cache import Cache
from trainer.configuration import split_sizes
from trainer.data import groups
from trainer.data.contents import Distinct
from trainer.data.dataset import digest_of
from trainer.data.images import near_duplicates, reading
from trainer.data.images.dataset import ImageDataset, find
from trainer.data.images.near_duplicates import SIDE, Thumbnails, clusters
from trainer.data.split import Group, split
from trainer.tasks.image_classification.config import ImageClassificationInfo
from trainer.tasks.images.config import ImageData

LETTERS = ("a", "b", "c")


def photograph(number: int, side: int = 96) -> Image.Image:
    """A picture with broad and fine structure."""
    random = np.random.default_rng(number)
    broad = Image.fromarray(random.integers(20, 236, (6, 6, 3), dtype=np.uint8)).resize((side, side), Image.Resampling.BICUBIC)
    fine = Image.fromarray(random.integers(0, 256, (16, 16), dtype=np.uint8)).resize((side, side), Image.Resampling.BICUBIC)
    return Image.blend(broad, fine.convert("RGB"), 0.2)


def compressed(image: Image.Image, quality: int) -> Image.Image:
    into = io.BytesIO()
    image.save(into, "JPEG", quality=quality)
    return Image.open(into)


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "JPEG at 30": lambda image: compressed(image, 30),
    "JPEG at 75": lambda image: compressed(image, 75),
    "half as large": lambda image: image.resize((image.width // 2, image.height // 2)),
    "twice as large": lambda image: image.resize((image.width * 2, image.height * 2), Image.Resampling.BICUBIC),
    "5 % brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.05),
    "5 % darker": lambda image: ImageEnhance.Brightness(image).enhance(0.95),
    "cropped by a pixel": lambda image: image.crop((1, 1, image.width - 1, image.height - 1)),
    "all at once": lambda image: compressed(ImageEnhance.Brightness(image.resize((image.width // 2, image.height // 2))).enhance(1.05), 75),
}


def thumbnails_of(images: Iterable[Image.Image]) -> Thumbnails:
    small = [np.asarray(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)) for image in images]
    return Thumbnails.of(torch.from_numpy(np.stack(small)))


def together(numbers: NDArray[np.int64]) -> set[Group]:
    members = defaultdict[int, list[int]](list)
    for row, number in enumerate(numbers.tolist()):
        members[number].append(row)
    return {tuple(rows) for rows in members.values() if len(rows) > 1}


@pytest.mark.parametrize("copy", COPIES.values(), ids=COPIES)
def test_a_copy_is_joined_with_its_picture_and_with_no_other(copy: Callable[[Image.Image], Image.Image]) -> None:
    originals = [photograph(number) for number in range(30)]
    found = clusters(thumbnails_of([*originals, *map(copy, originals[:10])]))
    assert together(found) == {(number, 30 + number) for number in range(10)}


def test_no_two_handwritten_digits_are_the_same_picture() -> None:
    digits = [Image.fromarray(np.rint(pixels * (255 / 16)).astype(np.uint8)) for pixels in load_digits().images]
    assert together(clusters(thumbnails_of(digits))) == set()


def test_plain_pictures_say_too_little_to_be_joined() -> None:
    plain = [Image.new("RGB", (20, 20), (level, level, 200)) for level in range(100, 110)]
    assert together(clusters(thumbnails_of(plain))) == set()


def test_the_same_shape_much_brighter_or_in_another_colour_is_another_picture() -> None:
    shape = np.asarray(photograph(1)).astype(int) // 2
    reddish = shape + np.array([60, 0, 0])
    found = clusters(thumbnails_of(Image.fromarray(np.clip(one, 0, 255).astype(np.uint8)) for one in (shape, shape + 60, reddish)))
    assert together(found) == set()


def test_blocks_of_many_likely_pairs_give_what_pairs_one_by_one_give(monkeypatch: pytest.MonkeyPatch) -> None:
    random, scene = np.random.default_rng(0), np.asarray(photograph(0, SIDE)).astype(float)
    noise = random.uniform(0, 8, 60)[:, None, None, None] * random.normal(size=(60, SIDE, SIDE, 3))  # some are near, some are not
    crowd = Thumbnails.of(torch.from_numpy(np.clip(scene + noise, 0, 255).astype(np.uint8)))
    one_by_one = clusters(crowd)
    monkeypatch.setattr(near_duplicates, "DENSE", 1)
    monkeypatch.setattr(near_duplicates, "BLOCK", 16)
    assert together(clusters(crowd)) == together(one_by_one)
    assert 1 < len(set(one_by_one.tolist())) < 60, "neither all together nor each alone"


def distinct(labels: Sequence[int]) -> list[Distinct]:
    """Contents in the order of their SHA-256s, with labels that have nothing to do with it."""
    sha256s = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(len(labels))]
    return [Distinct(sha256, label, ()) for sha256, label in sorted(zip(sha256s, labels, strict=True))]


@pytest.mark.parametrize(
    ("options", "digest"),
    [
        ({}, "79f676a249f0be3e9360f9898f713c432bf5d784c4f854fe19e244a933cac4b0"),
        ({"test": 0.15, "seed": 7}, "a6325a00582d94c7b757794c2e69c4d6d71e45592649d447c7814feffab4464a"),
    ],
)
def test_without_groups_images_go_where_they_always_went(options: dict[str, float], digest: str) -> None:
    contents = distinct([int(number % 3 == 0) for number in range(100)])
    found = split(ImageData(path="x", **options), ("a", "b"), contents)
    assert digest_of((content.sha256, part) for content, part in zip(contents, found.parts, strict=True)) == digest


@st.composite
def grouped(draw: st.DrawFn) -> tuple[list[Distinct], list[Group]]:
    """Contents of three classes, and groups among them, of which few have several labels."""
    contents = distinct(draw(st.lists(st.integers(0, 2), min_size=30, max_size=60)) + [0, 1, 2] * 3)
    rows, found = draw(st.permutations(range(len(contents)))), list[Group]()
    for size in draw(st.lists(st.integers(2, 5), max_size=10)):
        label = contents[rows[0]].label
        own = [row for row in rows if contents[row].label == label or draw(st.integers(0, 40)) == 0][:size]
        rows = [row for row in rows if row not in own]
        if len(own) > 1:
            found.append(tuple(sorted(own)))
        if not rows:
            break
    return contents, sorted(found)


@settings(max_examples=60, deadline=None)
@given(grouped(), st.integers(0, 5))
def test_groups_stay_whole_and_the_parts_as_large_as_they_can(made: tuple[list[Distinct], list[Group]], seed: int) -> None:
    contents, found = made
    wanted = ImageData(path="x", validation=0.2, test=0.2, seed=seed)
    done = split(wanted, LETTERS, contents, found)
    assert all(len({done.parts[row] for row in group}) == 1 for group in done.kept)
    in_groups = {row for group in found for row in group}
    for label in range(3):
        rows = [row for row, content in enumerate(contents) if content.label == label]
        train, validation, test = split_sizes(len(rows), wanted)
        counts = Counter(done.parts[row] for row in rows)
        assert all(counts[part] > 0 for part in ("train", "validation", "test"))
        if sum(row not in in_groups for row in rows) > validation + test:  # enough single images to fill what groups leave
            # A group of several labels goes to a part that lacks one of them, also if it exceeds the size of the part in another one.
            mixed = [group for group in found if len({contents[row].label for row in group}) > 1]
            most = sum(contents[row].label == label for group in mixed for row in group)
            sizes = counts["train"] - train, counts["validation"] - validation, counts["test"] - test
            assert max(map(abs, sizes)) <= most


def test_a_class_whose_groups_leave_too_few_pictures_is_split_by_content() -> None:
    contents = distinct([0] * 10 + [1] * 10)
    first = [row for row, content in enumerate(contents) if content.label == 0]
    second = [row for row, content in enumerate(contents) if content.label == 1]
    pair, crowd = tuple(second[:2]), tuple(first[:9])
    config = ImageData(path="x", test=0.2)
    done, plain = split(config, ("a", "b"), contents, [crowd, pair]), split(config, ("a", "b"), contents)
    assert done.kept == (pair,)
    assert [done.parts[row] for row in first] == [plain.parts[row] for row in first]


def test_large_groups_do_not_end_in_test_more_often_than_others() -> None:
    contents = distinct([0] * 200)
    group = tuple(range(0, 40, 2))
    sides = Counter(
        split(ImageData(path="x", validation=0.3, test=0.3, seed=seed), ("a",), contents, [group]).parts[0] for seed in range(100)
    )
    assert 15 <= sides["test"] <= 40 and 25 <= sides["train"] <= 60


def folder_of(root: Path, pictures: dict[str, Image.Image]) -> Path:
    for name, image in pictures.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        image.save(root / name)
    return root


@pytest.fixture
def pictures() -> dict[str, Image.Image]:
    """Twenty different pictures in each of two classes."""
    return {f"{label}/{number}.png": photograph(100 * place + number, 48) for place, label in enumerate("ab") for number in range(20)}


def config_of(root: Path, **options: float) -> ImageData:
    return ImageData(path=str(root), test=0.2, **options)


def part_of(dataset: ImageDataset, name: str) -> str:
    (part,) = {content.part for content in dataset.contents for file in content.files if file.name == name}
    return part


def test_what_is_found_is_told(tmp_path: Path, pictures: dict[str, Image.Image]) -> None:
    for number in range(6):
        pictures[f"a/{number}-copy.jpg"] = pictures[f"a/{number}.png"]
    pictures["b/stray.jpg"] = ImageEnhance.Brightness(pictures["a/0.png"]).enhance(1.03)
    root, torn = folder_of(tmp_path / "data", pictures), list[int]()
    for seed in range(4):
        dataset = find(config_of(root, seed=seed))
        reported = dataset.near_duplicates
        assert (reported.groups, reported.images, reported.mixed, reported.too_large) == (6, 13, 1, 0)
        assert set(reported.examples[0]) == {"a/0.png", "a/0-copy.jpg", "b/stray.jpg"}, "mixed labels first"
        assert all(part_of(dataset, f"a/{number}.png") == part_of(dataset, f"a/{number}-copy.jpg") for number in range(6))
        assert part_of(dataset, "a/0.png") == part_of(dataset, "b/stray.jpg")
        torn.append(reported.crossing)
    assert 0 < max(torn) <= 6


def test_nothing_to_find_changes_nothing(tmp_path: Path, pictures: dict[str, Image.Image]) -> None:
    root = folder_of(tmp_path / "data", pictures)
    dataset = find(config_of(root))
    assert dataset.near_duplicates.groups == dataset.near_duplicates.images == 0 and dataset.near_duplicates.examples == ()
    plain = split(config_of(root), dataset.classes, dataset.contents)
    assert tuple(content.part for content in dataset.contents) == plain.parts


def faded(start: Image.Image, end: Image.Image, count: int) -> list[Image.Image]:
    """From the one to the other in steps too small to see."""
    return [Image.blend(start, end, step / (count - 1)) for step in range(count)]


def test_a_chain_from_one_picture_to_another_is_broken_up(tmp_path: Path, pictures: dict[str, Image.Image]) -> None:
    frames = faded(photograph(501, 48), photograph(502, 48), 60)
    root = folder_of(tmp_path / "data", pictures | {f"a/frame{number:02}.png": frame for number, frame in enumerate(frames)})
    dataset = find(config_of(root))
    reported = dataset.near_duplicates
    assert reported.groups >= 3 and reported.too_large == 0 and reported.images >= 50
    frames_by_part = Counter(part_of(dataset, f"a/frame{number:02}.png") for number in range(60))
    assert frames_by_part["train"] < 60, "one chain as one group would be on one side"


def test_a_picture_that_is_most_of_its_class_is_told_and_not_kept_together(tmp_path: Path, pictures: dict[str, Image.Image]) -> None:
    shades = {f"a/shade{level}.png": ImageEnhance.Brightness(photograph(7, 48)).enhance(1 + level / 400) for level in range(20)}
    root = folder_of(tmp_path / "data", pictures | shades)
    dataset = find(config_of(root))
    assert (dataset.near_duplicates.groups, dataset.near_duplicates.too_large) == (0, 1)
    assert dataset.counts == {"train": 36, "validation": 12, "test": 12}


def test_a_picture_under_many_labels_says_nothing(tmp_path: Path) -> None:
    pictures = {f"{label}/{number}.png": photograph(1000 * place + number, 32) for place, label in enumerate("abcd") for number in range(5)}
    blank = photograph(9, 32)
    pictures |= {f"{label}/blank.png": ImageEnhance.Brightness(blank).enhance(1 + place / 200) for place, label in enumerate("abcd")}
    reported = find(config_of(folder_of(tmp_path / "data", pictures))).near_duplicates
    assert (reported.groups, reported.too_large) == (0, 1)


def refuse(*_: object) -> torch.Tensor:
    raise AssertionError("images were decoded once more")


def test_the_search_is_made_once_for_all_processes(
    tmp_path: Path, pictures: dict[str, Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures["a/copy.jpg"] = pictures["a/3.png"]
    root, cache = folder_of(tmp_path / "data", pictures), Cache(tmp_path / "cache", 10**8)
    alone = find(config_of(root))
    groups._kept.clear()  # as in another process
    first = find(config_of(root), cache)
    groups._kept.clear()
    monkeypatch.setattr(reading, "thumbnails", refuse)
    assert find(config_of(root), Cache(tmp_path / "cache", 10**8)) == first == alone
    assert find(config_of(root, seed=1)).near_duplicates.groups == 1, "another split of the same images needs no search either"


def test_more_images_than_can_be_compared_are_sorted_by_their_gradients_first(
    tmp_path: Path, pictures: dict[str, Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(8):
        pictures[f"b/{number}-copy.png"] = ImageEnhance.Brightness(pictures[f"b/{number}.png"]).enhance(0.97)
    root = folder_of(tmp_path / "data", pictures)
    monkeypatch.setattr(near_duplicates, "MOST_COMPARED", 24)
    reported = find(config_of(root)).near_duplicates
    assert 5 <= reported.groups <= 8 and reported.images == 2 * reported.groups


def test_names_that_are_not_utf8_can_be_told(tmp_path: Path, pictures: dict[str, Image.Image]) -> None:
    root = folder_of(tmp_path / "data", pictures)
    pictures["a/0.png"].resize((96, 96)).save(str(root / "a" / "caf") + "\udce9.png")
    reported = find(config_of(root)).near_duplicates
    facts = ImageClassificationInfo(classes=("a", "b"), images={}, fingerprint="", split="", weights_sha256=None, near_duplicates=reported)
    assert ImageClassificationInfo.model_validate_json(facts.model_dump_json()) == facts and "a/caf?.png" in reported.examples[0]
