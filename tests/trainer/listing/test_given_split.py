"""Folders of a split that the data has of its own: nothing ambiguous is guessed."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from service.domain.errors import InvalidInput
from service.domain.parsing import parse_study
from service.inspection import inspect_study
from tests.trainer.listing.data import Tree, config, left_out, numbered, parts, refused, study
from tests.trainer.narrowed import image_info
from trainer.data.images.dataset import find
from trainer.data.images.listing import folders
from trainer.loop import train
from trainer.protocol import Finished, RunPrepared
from trainer.tasks.image_classification.config import ImageClassificationConfig
from trainer.tasks.images.config import ImageModel


def three(cats: str = "cat", *, train: str = "train", validation: str = "val", test: str = "test", count: int = 4) -> list[str]:
    return [name for part in (train, validation, test) for label in (cats, "dog") for name in numbered(f"{part}/{label}", count)]


@pytest.mark.parametrize("validation", ["val", "validation", "valid", "dev", "Val"])
def test_train_val_and_test_folders_are_the_split_and_not_classes(tree: Tree, validation: str) -> None:
    root = tree(*three(validation=validation))
    inspect_study(parse_study(study(root)))
    found = find(config(root))
    assert found.classes == ("cat", "dog") and found.counts == {"train": 8, "validation": 8, "test": 8}
    names = {"train": "train", validation: "validation", "test": "test"}
    assert all(part == names[name.split("/")[0]] for name, part in parts(found).items())
    assert found.listing.given == ("train", "validation", "test")
    assert f"{validation}/ for validation" in found.listing.notes[0]


@pytest.mark.parametrize(
    ("there", "counts", "note"),
    [
        (("train", "test"), {"train": 12, "validation": 4, "test": 8}, "validation is drawn from its train part by data.validation (0.25)"),
        (("train", "val"), {"train": 16, "validation": 8, "test": 0}, "data.validation (0.25) is not used"),
        (("train",), {"train": 12, "validation": 4, "test": 0}, "The data has no validation part"),
    ],
)
def test_parts_that_are_not_there_are_drawn_from_train_and_it_is_said(
    tree: Tree, there: tuple[str, ...], counts: Mapping[str, int], note: str
) -> None:
    sizes = {"train": 8, "val": 4, "test": 4}
    root = tree(*(name for part in there for label in ("cat", "dog") for name in numbered(f"{part}/{label}", sizes[part])))
    found = find(config(root, validation=0.25))
    assert found.counts == counts and any(note in one for one in found.listing.notes)
    assert all(part != "train" for name, part in parts(found).items() if not name.startswith("train/"))


def test_a_test_share_is_drawn_from_train_where_only_validation_is_given(tree: Tree) -> None:
    root = tree(*(name for part in ("train", "val") for label in ("cat", "dog") for name in numbered(f"{part}/{label}", 8)))
    found = find(config(root, test=0.25))
    assert found.counts == {"train": 12, "validation": 16, "test": 4}
    assert all(part == "validation" for name, part in parts(found).items() if name.startswith("val/"))


@pytest.mark.parametrize(
    ("names", "options", "code", "says"),
    [
        (three(), {"test": 0.2}, "test_given_twice", "write data.test: 0 and data.split: given"),
        ([*three(), *numbered("bird", 3)], {}, "ambiguous_layout", "write data.split: drawn if each of these folders is a class"),
        ([*numbered("train", 4), *numbered("test", 4)], {}, "parts_without_classes", "data.split: drawn"),
        ([name for name in three() if not name.startswith("train")], {}, "no_train_part", "part named train"),
        ([*three(), *numbered("dev/cat", 4)], {}, "part_named_twice", "all mean validation"),
        ([*three(), *numbered("train/fox", 4)], {}, "class_missing_in_part", "validation lacks fox"),
        ([*three(), *numbered("test/fox", 4)], {}, "class_missing_in_part", "train lacks fox"),
        ([*numbered("cat", 4), *numbered("dog", 4)], {"split": "given"}, "no_given_split", "leave data.split out"),
    ],
)  # fmt: skip
def test_a_layout_that_could_mean_two_things_is_refused_with_what_to_write(
    tree: Tree, names: list[str], options: Mapping[str, Any], code: str, says: str
) -> None:
    found, text = refused(tree(*names), **options)
    assert found == code and says in text


def test_folders_named_like_parts_are_classes_when_the_study_says_so(tree: Tree) -> None:
    root = tree(*three(), *numbered("bird", 4))
    assert find(config(root, split="drawn")).classes == ("bird", "test", "train", "val")
    assert find(config(root, split="given")).classes == ("cat", "dog")
    assert left_out(root, split="given") == {folders.BESIDE_PARTS: (4, tuple(f"bird/{number}.png" for number in range(4)))}
    trains = tree(*numbered("train", 4), *numbered("bus", 4), root="vehicles")
    assert find(config(trains)).classes == ("bus", "train"), "one class of this name beside others is a class"


def test_a_copy_in_two_given_parts_is_used_where_it_is_measured_and_counted(tree: Tree) -> None:
    root = tree(*three())
    (root / "train/cat/copy.png").write_bytes((root / "test/cat/0.png").read_bytes())
    found = find(config(root))
    assert found.counts == {"train": 8, "validation": 8, "test": 8}
    assert [(one.count, one.examples) for one in found.listing.left_out] == [(1, ("train/cat/copy.png",))]


def test_near_duplicates_across_a_given_split_are_counted_and_not_moved(tree: Tree) -> None:
    root, random = tree(*three()), np.random.default_rng(3)
    picture = Image.fromarray(random.integers(0, 256, (6, 6, 3), dtype=np.uint8)).resize((90, 90), Image.Resampling.BICUBIC)
    for place, quality in (("train/cat", 60), ("test/cat", 90)):
        picture.save(root / place / "photograph.jpg", quality=quality)
    found = find(config(root))
    reported = found.near_duplicates
    assert (reported.groups, reported.across, reported.crossing) == (1, 1, 0)
    assert {parts(found)[name] for name in reported.examples[0]} == {"train", "test"}


def test_the_fingerprint_covers_the_given_split(tree: Tree) -> None:
    root = tree(*three())
    before = find(config(root))
    (root / "train/cat/0.png").rename(root / "val/cat/moved.png")
    after = find(config(root))
    assert before.fingerprint != after.fingerprint and before.split != after.split


def test_a_run_trains_validates_and_scores_on_the_given_parts(tree: Tree) -> None:
    root = tree(*three(count=5))
    run = ImageClassificationConfig(
        data=config(root), model=ImageModel(name="small_cnn", weights="random"), image_size=16, epochs=1, batch_size=2
    )
    lines = list(train(run, device=torch.device("cpu"), share=False, score_test=True))
    [prepared] = [line for line in lines if isinstance(line, RunPrepared)]
    [finished] = [line for line in lines if isinstance(line, Finished)]
    assert image_info(prepared.facts).images == {"train": 10, "validation": 10, "test": 10}
    assert prepared.facts.listing is not None and prepared.facts.listing.given == ("train", "validation", "test")
    assert finished.test is not None
    assert images_in(finished.test.report["confusion_matrix"]) == images_in(finished.report["confusion_matrix"]) == 10


def images_in(confusion_matrix: Sequence[Sequence[int]]) -> int:
    return sum(sum(row) for row in confusion_matrix)


def test_nothing_to_confirm_on_is_refused_and_a_given_test_part_is_something(tree: Tree) -> None:
    root = tree(*three())
    document = {**study(root, split="given"), "confirm": {"top": 1, "seeds": 2}, "baseline": {"lr": 0.5}}
    inspect_study(parse_study(document))
    for file in sorted((root / "test").rglob("*.png")):
        file.unlink()
    with pytest.raises(InvalidInput) as caught:
        inspect_study(parse_study(document))
    assert [(fault.pointer, fault.code) for fault in caught.value.faults] == [("#/data/test", "nothing_to_confirm_on")]
