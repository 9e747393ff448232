"""Tables of images."""

import os
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from service.domain.errors import InvalidInput
from service.domain.parsing import parse_study
from service.inspection import inspect_study
from tests.trainer.listing.data import Tree, config, numbered, parts, refused, study
from trainer.data.examples import BadData, MissingData
from trainer.data.images.dataset import find, listed


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


def test_root_and_columns_without_a_table_are_refused(tree: Tree) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_study(study(tree(*numbered("cat", 3)), root="/elsewhere"))
    assert "apply to a table" in caught.value.faults[0].message


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
