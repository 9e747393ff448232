"""How folders and tables are listed: one listing for server and trainer, nothing left out uncounted, nothing ambiguous guessed."""

import os
import socket
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from service import inspection as inspected_data
from service.domain.errors import InvalidInput
from service.domain.parsing import parse_study
from service.inspection import inspect_study
from tests.trainer.narrowed import image_info
from trainer.checkpoints import digest
from trainer.configuration import ListingFacts
from trainer.data.examples import EXAMPLES, BadData, Look, MissingData
from trainer.data.images.dataset import ImageDataset, find, listed
from trainer.data.images.decoding import FORMATS, Decoder
from trainer.data.images.listing import folders, scan
from trainer.loop import train
from trainer.protocol import Finished, RunPrepared
from trainer.tasks.image_classification.config import ImageClassificationConfig, ImageClassificationInfo
from trainer.tasks.images.config import HEIC_SUFFIXES, IMAGE_SUFFIXES, ImageData, ImageModel, NearDuplicates

Tree = Callable[..., Path]


@pytest.fixture(autouse=True)
def _each_look_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspected_data, "KEPT_SECONDS", 1e-9)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """Makes files in a folder; each image has a content of its own."""
    random = np.random.default_rng(0)

    def tree(*names: str, root: str = "data") -> Path:
        for name in names:
            file = tmp_path / root / name
            file.parent.mkdir(parents=True, exist_ok=True)
            if file.suffix in IMAGE_SUFFIXES:
                Image.fromarray(random.integers(0, 256, (12, 12, 3), dtype=np.uint8)).save(file, format="PNG")
            else:
                file.write_text(name)
        return tmp_path / root

    return tree


def config(path: Path, **options: Any) -> ImageData:
    return ImageData(path=str(path), **options)


def left_out(path: Path, **options: Any) -> dict[str, tuple[int, tuple[str, ...]]]:
    """By reason; the same for server and trainer."""
    facts = find(config(path, **options)).listing
    return {one.reason: (one.count, one.examples) for one in facts.left_out}


def refused(path: Path, **options: Any) -> tuple[str, str]:
    """The code and text with which the server refuses the data; the trainer refuses it too."""
    with pytest.raises(BadData):
        find(config(path, **options))
    with pytest.raises(InvalidInput) as caught:
        inspect_study(parse_study(study(path, **options)))
    [fault] = caught.value.faults
    return fault.code, fault.message


def study(path: Path, **options: Any) -> dict[str, Any]:
    return {
        "name": "a",
        "data": {"path": str(path), "validation": 0.3, **options},
        "model": {"name": "small_cnn", "weights": "random"},
        "search_space": {"lr": {"type": "float", "low": 0.1, "high": 1.0}},
        "fixed": {"batch_size": 2},
        "objective": {"metric": "accuracy", "direction": "maximize"},
        "budget": {"trials": 1},
    }


def numbered(folder: str, count: int, suffix: str = ".png") -> Iterator[str]:
    return (f"{folder}/{number}{suffix}" for number in range(count))


# Compatibility with 0.1


def test_what_version_0_1_did_not_have_is_not_written_while_it_has_its_default() -> None:
    assert set(ImageData(path="a").model_dump()) >= {"path", "validation", "test", "seed", "location"}
    new = {"split", "root", "columns", "similar_labels"}
    assert not new & set(ImageData(path="a").model_dump()) and not new & set(ImageData(path="a").model_dump(mode="json"))
    changed = ImageData(path="a.csv", split="given", root="b", columns={"label": "c"}, similar_labels="keep")
    assert new <= set(changed.model_dump()) and ImageData.model_validate_json(changed.model_dump_json()) == changed
    facts = ImageClassificationInfo(
        classes=("a",),
        images={},
        fingerprint="",
        split="",
        weights_sha256=None,
        near_duplicates=NearDuplicates(groups=0, images=0, crossing=0, mixed=0),
    )
    assert "listing" not in facts.model_dump() and "across" not in facts.model_dump()["near_duplicates"]


def test_files_that_are_left_out_do_not_part_a_run_from_its_checkpoints() -> None:
    run = ImageClassificationConfig(data=ImageData(path="a"), model=ImageModel(name="small_cnn"))
    facts = ImageClassificationInfo(classes=("a",), images={}, fingerprint="", split="", weights_sha256=None)
    assert digest(run, facts) == digest(run, facts.model_copy(update={"listing": ListingFacts(notes=("A note.",))}))


def test_root_and_columns_without_a_table_are_refused(tree: Tree) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_study(study(tree(*numbered("cat", 3)), root="/elsewhere"))
    assert "apply to a table" in caught.value.faults[0].message


# What is left out


def test_a_link_to_a_folder_is_followed_once_and_keeps_the_images_in_their_class(tree: Tree, tmp_path: Path) -> None:
    root = tree(*numbered("cat", 3), *numbered("dog", 3))
    elsewhere = tree(*numbered("more", 5), root="elsewhere") / "more"
    (root / "cat" / "a-link").symlink_to(elsewhere)
    (root / "cat" / "b-link").symlink_to(elsewhere)
    found = find(config(root))
    assert sum(found.counts.values()) == 3 + 3 + 5
    assert {file.name for content in found.contents for file in content.files if "link" in file.name} == {
        f"cat/a-link/{i}.png" for i in range(5)
    }
    assert left_out(root) == {folders.READ_ALREADY: (1, ("cat/b-link",))}


def test_a_link_in_a_circle_ends_and_is_counted(tree: Tree) -> None:
    root = tree(*numbered("cat/in", 3), *numbered("dog", 3))
    (root / "cat" / "in" / "circle").symlink_to(root / "cat")
    (root / "cat" / "out").symlink_to(root)
    assert sum(find(config(root)).counts.values()) == 6
    assert left_out(root) == {folders.READ_ALREADY: (2, ("cat/out", "cat/in/circle"))}


def test_a_class_folder_may_be_a_link(tree: Tree) -> None:
    root = tree(*numbered("cat", 3))
    (root / "dog").symlink_to(tree(*numbered("dogs", 3), root="elsewhere") / "dogs")
    assert find(config(root)).classes == ("cat", "dog")


def test_a_folder_that_links_lead_to_from_two_classes_is_refused(tree: Tree) -> None:
    root = tree(*numbered("cat", 3), *numbered("dog", 3))
    (root / "cat" / "dogs").symlink_to(root / "dog")
    code, text = refused(root)
    assert code == "folder_in_two_classes" and "dog" not in text, "the server names no folder that a link may lead to"


def test_every_file_that_is_left_out_is_counted_by_its_reason(tree: Tree) -> None:
    root = tree(
        *numbered("cat", 3),
        *numbered("dog", 3),
        "cat/notes.txt",
        "cat/old.tga",
        "cat/.hidden.png",
        ".cache/x.png",
        "beside.png",
        "README.md",
    )
    (root / "dog" / "gone.png").symlink_to(root / "nowhere.png")
    os.mkfifo(root / "dog" / "pipe.png")
    with closing(socket.socket(socket.AF_UNIX)) as unix:
        unix.bind(os.path.relpath(root / "dog" / "socket.png"))
    assert left_out(root) == {
        "not an image by its suffix": (3, ("README.md", "cat/notes.txt", "cat/old.tga")),
        folders.HIDDEN: (2, (".cache", "cat/.hidden.png")),
        folders.SPECIAL: (2, ("dog/pipe.png", "dog/socket.png")),
        folders.BROKEN: (1, ("dog/gone.png",)),
        folders.BESIDE: (1, ("beside.png",)),
    }


def test_no_more_than_a_few_names_are_kept_of_what_is_left_out(tree: Tree) -> None:
    root = tree(*numbered("cat", 3), *numbered("dog", 3), *numbered("cat", 50, ".txt"))
    [(count, names)] = left_out(root).values()
    assert count == 50 and len(names) == EXAMPLES


def test_the_suffixes_are_those_of_the_formats_that_are_decoded() -> None:
    known = {suffix for suffix, name in Image.registered_extensions().items() if name in FORMATS}
    assert known - IMAGE_SUFFIXES - HEIC_SUFFIXES == {".pfm"}, "floating-point pixels"
    assert known >= IMAGE_SUFFIXES


@pytest.mark.parametrize("suffix", [".jfif", ".avif", ".webp", ".bmp", ".tif", ".jp2", ".ppm", ".qoi", ".heic"])
def test_an_image_of_each_common_format_is_read(suffix: str, tree: Tree) -> None:
    root = tree(*numbered("cat", 3), *numbered("dog", 3))
    for number in range(2):
        Image.fromarray(np.full((16, 16, 3), 80 * number + 40, np.uint8)).save(root / "cat" / f"more-{number}{suffix.upper()}")
    found = find(config(root))
    assert sum(found.counts.values()) == 8 and not found.listing.left_out and found.listing.heic is (suffix == ".heic")
    assert abs(int(Decoder().square((root / "cat" / f"more-0{suffix.upper()}").read_bytes(), 8).mean()) - 40) < 4


def test_heic_files_without_their_reader_are_counted_with_the_way_to_install_it(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tree(*numbered("cat", 3), *numbered("dog", 3), "cat/phone.heic", "cat/phone.HEIF")
    monkeypatch.setattr(folders, "reads_heic", lambda: False)
    [(reason, (count, _))] = left_out(root).items()
    assert count == 2 and 'pip install "thawline[heic]"' in reason


def test_a_folder_that_cannot_be_read_is_refused_and_not_passed_over(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    root, scandir = tree(*numbered("cat", 3), *numbered("dog", 3), *numbered("dog/deep", 3)), os.scandir

    def denied(path: Path) -> Any:
        if path.name == "deep":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", denied)
    code, text = refused(root)
    assert code == "unreadable_data" and "deep" not in text


def test_the_clock_of_a_look_is_asked_for_each_entry_and_each_row(tree: Tree) -> None:
    root = tree(*numbered("cat", 30), *numbered("dog", 30))
    names = [*numbered("cat", 30), *numbered("dog", 30)]
    (root / "all.csv").write_text("path,label\n" + "".join(f"{name},{name[:3]}\n" for name in names))
    for path in (root, root / "all.csv"):
        asked: list[None] = []
        scan(config(path), Look(tick=partial(asked.append, None)))
        assert len(asked) >= 60


def test_the_server_names_no_folder_without_images(tree: Tree) -> None:
    root = tree("divorce-papers/x.txt", *numbered("cat", 1), *numbered("dog", 3))
    code, text = refused(root)
    assert code == "class_too_small" and "cat" in text and "1 folders without any" in text and "divorce" not in text


# Folders of a given split


def three(cats: str = "cat", *, train: str = "train", validation: str = "val", test: str = "test", count: int = 4) -> list[str]:
    return [name for part in (train, validation, test) for label in (cats, "dog") for name in numbered(f"{part}/{label}", count)]


def parts(found: ImageDataset) -> dict[str, str]:
    return {file.name: content.part for content in found.contents for file in content.files}


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


# Tables


@pytest.fixture
def pets(tree: Tree) -> Path:
    return tree(*numbered("img", 12))


def table(root: Path, header: str, *rows: str, name: str = "all.csv", newline: str = "\n", mark: str = "") -> Path:
    (root / name).write_bytes((mark + newline.join([header, *rows, ""])).encode())
    return root / name


def label_of(number: int) -> str:
    return "cat" if number % 2 else "dog"


def rows_of(form: str, count: int = 12, **more: Callable[[int], str]) -> list[str]:
    return [form.format(path=f"img/{n}.png", label=label_of(n), **{name: made(n) for name, made in more.items()}) for n in range(count)]


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_separators_line_ends_and_a_byte_order_mark_are_understood(pets: Path, separator: str, newline: str, mark: str) -> None:
    made = table(pets, separator.join(["label", "path"]), *rows_of(f"{{label}}{separator}{{path}}"), newline=newline, mark=mark)
    found = find(config(made))
    assert found.classes == ("cat", "dog") and found.listing.separator == separator and sum(found.counts.values()) == 12


def test_names_are_stripped_and_columns_found_whatever_their_case(pets: Path) -> None:
    made = table(pets, " Path , LABEL", *rows_of(" {path} ,  {label} "))
    inspect_study(parse_study(study(made)))
    assert find(config(made)).classes == ("cat", "dog")


@pytest.mark.parametrize("row", ["img/3.jpg,", ",cat", "img/3.jpg,   ", ",", "img/3.jpg"])
def test_a_blank_label_or_path_is_refused_with_its_line(pets: Path, row: str) -> None:
    code, text = refused(table(pets, "path,label", *rows_of("{path},{label}"), "", row))
    assert code == "unfit_rows" and "line 15: " in text and "missing" in text


@pytest.mark.parametrize(
    ("names", "code"),
    [
        (("cat", "Cat"), "similar_labels"),
        (("1", "1.0"), "similar_labels"),
        (("big cat", "big  cat"), "similar_labels"),
        ((unicodedata.normalize("NFC", "ö"), unicodedata.normalize("NFD", "ö")), "similar_labels"),
        (("cat", "cats"), None),
        (("1", "10"), None),
    ],
)
def test_class_names_that_are_nearly_equal_are_refused_unless_they_are_kept(pets: Path, names: tuple[str, str], code: str | None) -> None:
    made = table(pets, "path,label", *(f"img/{n}.png,{names[n % 2]}" for n in range(12)))
    if code is not None:
        found, text = refused(made)
        assert found == code and "data.similar_labels: keep" in text
    assert find(config(made, similar_labels="keep")).classes == tuple(sorted(names))
    assert listed(config(made), accepted=True).labels == tuple(sorted(names)), "a study that was accepted before goes on"


def test_absolute_paths_and_a_root_are_understood(pets: Path, tmp_path: Path) -> None:
    (tmp_path / "tables").mkdir()
    absolute = table(tmp_path / "tables", "path,label", *rows_of(f"{pets}/{{path}},{{label}}"), name="absolute.csv")
    relative = table(tmp_path / "tables", "path,label", *rows_of("{path},{label}"))
    above = table(tmp_path / "tables", "path,label", *rows_of(f"../{pets.name}/{{path}},{{label}}"), name="above.csv")
    first = find(config(absolute))
    assert first.fingerprint == find(config(relative, root=str(pets))).fingerprint == find(config(above)).fingerprint
    code, text = refused(relative)
    assert code == "missing_files" and "12 of 12" in text and "line 2: img/0.png" in text and "data.root" in text
    assert refused(relative, root=str(pets / "nowhere"))[0] == "missing_data"


def test_columns_may_have_other_names_and_the_unused_ones_are_told(pets: Path) -> None:
    made = table(pets, "id,filename,class,photographer", *rows_of("7,{path},{label},ann"))
    facts = find(config(made, columns={"path": "filename", "label": "class"})).listing
    assert facts.columns == {"path": "filename", "label": "class"} and facts.unused_columns == ("id", "photographer")


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ("id,filename,class", "its columns are: id; filename; class; write, say, data.columns: {path: filename, label: class}"),
        ("picture;label", "its columns are: picture; label; write, say, data.columns: {path: picture}"),
        ("path\tWhat: it is", 'write, say, data.columns: {label: "What: it is"}'),
        ("img/0.png,cat", "its first line is no header but an image; add a first line such as path,label"),
        ("", "its columns are: none"),
    ],
)
def test_a_header_without_the_columns_is_refused_with_the_line_to_write(pets: Path, header: str, says: str) -> None:
    code, text = refused(table(pets, header, "a,b,c"))
    assert code == "missing_column" and says in text


def test_a_column_that_is_there_twice_or_not_at_all_is_refused(pets: Path) -> None:
    assert refused(table(pets, "path,label,label", "a,b,c"))[0] == "column_twice"
    code, text = refused(table(pets, "path,label", *rows_of("{path},{label}")), columns={"group": "patient"})
    assert code == "missing_column" and "no column patient" in text


def test_a_line_without_end_is_refused_before_it_is_in_memory(pets: Path) -> None:
    made = table(pets, "path,label", *rows_of("{path},{label}"))
    os.truncate(made, 400 * 2**20)
    code, text = refused(made)
    assert code == "unreadable_table" and "characters" in text
    os.truncate(made, 600 * 2**20)
    assert "larger than 512 MB" in refused(made)[1]


def test_files_of_an_accepted_table_that_are_gone_are_the_machines_fault(pets: Path) -> None:
    made = table(pets, "path,label", *rows_of("{path},{label}"))
    (pets / "img/3.png").unlink()
    with pytest.raises(MissingData, match=r"line 5: img/3\.png"):
        listed(config(made), accepted=True)
    with pytest.raises(BadData) as caught:
        listed(config(made))
    assert not isinstance(caught.value, MissingData), "a table that was never accepted is wrong"


def test_a_pipe_named_like_a_table_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.csv")
    assert refused(tmp_path / "a.csv")[0] == "unreadable_table"


def test_labels_that_look_like_numbers_sort_as_text(pets: Path) -> None:
    made = table(pets, "path,label", *(f"img/{n}.png,{(10, 9, 2)[n % 3]}" for n in range(12)))
    assert find(config(made)).classes == ("10", "2", "9")


def test_a_column_split_is_used_in_any_spelling(pets: Path) -> None:
    values = ["Train", "TRAIN", "val", "Validation", "dev", "test"]
    rows = [f"img/{n}.png,{label_of(n // 6)},{values[n % 6]}" for n in range(12)]
    found = find(config(table(pets, "path,label,split", *rows)))
    assert found.counts == {"train": 4, "validation": 6, "test": 2}
    assert found.listing.given == ("train", "validation", "test") and "the column split" in found.listing.notes[0]
    for other in ({"split": "drawn"}, {"columns": {"split": None}}):
        drawn = find(config(pets / "all.csv", **other))
        assert not drawn.listing.given and drawn.listing.unused_columns == ("split",)


@pytest.mark.parametrize("value", ["", "holdout"])
def test_a_split_that_is_none_is_refused_with_its_line(pets: Path, value: str) -> None:
    code, text = refused(table(pets, "path,label,split", *rows_of("{path},{label},train"), f"img/0.png,cat,{value}"))
    assert code == "unfit_rows" and "line 14" in text


def test_a_group_in_two_given_parts_is_refused(pets: Path) -> None:
    rows = [f"img/{n}.png,{label_of(n)},{'train' if n < 6 else 'test'},{n % 4}" for n in range(12)]
    code, text = refused(table(pets, "path,label,split,group", *rows))
    assert code == "group_in_two_parts" and "columns: {group: null}" in text
    assert find(config(pets / "all.csv", columns={"group": None})).counts["test"] == 6


def test_groups_stay_whole_whatever_the_order_of_the_rows(tree: Tree) -> None:
    root, random = tree(*numbered("img", 90)), np.random.default_rng(2)
    group = [int(random.integers(0, 12)) for _ in range(90)]
    rows = [f"img/{n}.png,{label_of(n)},patient {group[n]}" for n in range(90)]
    found = find(config(table(root, "path,label,group", *rows), validation=0.2, test=0.2))
    part = parts(found)
    assert all(len({part[f"img/{n}.png"] for n in range(90) if group[n] == one}) == 1 for one in range(12))
    assert found.listing.groups == len(set(group))
    shares = {name: count / 90 for name, count in found.counts.items()}
    assert 0.1 < shares["test"] < 0.3 and 0.1 < shares["validation"] < 0.3, "as near to the shares as whole groups allow"
    shuffled = [rows[int(place)] for place in random.permutation(90)]
    again = find(config(table(root, "path,label,group", *shuffled, name="shuffled.csv"), validation=0.2, test=0.2))
    assert again.split == found.split


def test_groups_that_leave_a_part_empty_are_told_with_the_class(pets: Path) -> None:
    made = table(pets, "path,label,group", *rows_of("{path},{label},{group}", group=lambda n: label_of(n)))
    with pytest.raises(BadData, match="leave a part of the split empty when their groups stay whole: cat has 1"):
        find(config(made))


def test_a_group_takes_the_near_duplicates_of_its_images_with_it(tree: Tree) -> None:
    root, random = tree(*numbered("img", 40)), np.random.default_rng(3)
    rows = [f"img/{n}.png,{label_of(n)},{n // 2}" for n in range(40)]
    for number in range(6):  # the same picture in two groups each
        picture = Image.fromarray(random.integers(0, 256, (6, 6, 3), dtype=np.uint8)).resize((90, 90), Image.Resampling.BICUBIC)
        for copy, quality in enumerate((60, 90)):
            picture.save(root / "img" / f"p{number}-{copy}.jpg", quality=quality)
            rows.append(f"img/p{number}-{copy}.jpg,cat,{2 * number + copy}")
    found = find(config(table(root, "path,label,group", *rows), validation=0.3))
    part = parts(found)
    assert found.near_duplicates.groups == 6
    for number in range(6):
        files = [f"img/p{number}-{copy}.jpg" for copy in (0, 1)] + [f"img/{n}.png" for n in range(4 * number, 4 * number + 4)]
        assert len({part[name] for name in files}) == 1
