"""Lists the labelled images of a folder or table by names and columns alone, and refuses unusable data sets.

Refused are too few classes, a contradictory split, and labels that are nearly equal. Used by the server and the trainer; imports no torch.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from trainer.configuration import counted
from trainer.data.examples import InputRow, Look, UnfitData, enumerated, shown
from trainer.data.given import Remedies, refuse_contradictions, refuse_divided_groups, split_notes
from trainer.data.images.listing import folders, tables
from trainer.data.images.listing.folders import Scan
from trainer.data.labels import is_foul, refuse_similar
from trainer.data.targets import TargetReader
from trainer.targets.classes.config import MAX_CLASS_NAME
from trainer.tasks.images.config import HEIC_SUFFIXES, ImageData

HEIC = tuple(HEIC_SUFFIXES)
UNREADABLE = "make it readable for the user that runs this"
REMEDIES = Remedies(
    no_split="it needs the folders train/ and test/ or val/ with class folders in them, or a column split; add it",
    no_train="add a part named train",
    two_tests="write data.test: 0 and data.split: given to use the data's own, or data.split: drawn if folders named so are classes",
)


def scan(data: ImageData, look: Look | None = None, target: TargetReader | None = None) -> Scan:
    """Every image with its label, and its part and group if the data has them. Reads names only, not images.

    `target` reads the targets of a table; without it the label of an image is its class. Raises UnfitData and the errors of the hooks of
    `look`.
    """
    look = look or Look()
    try:
        if target is not None and not data.is_table:
            role = data.columns.role_of_target
            text = f"{shown(data.path)} is no table; give a table (.csv, .tsv) with the columns path and {role} as data.path"
            raise UnfitData("not_a_table", text)
        found = tables.read(data, look, target) if data.is_table else folders.read(data, look)
    except OSError as error:
        text = f"{shown(data.path)} cannot be read: {error.strerror or type(error).__name__}; {UNREADABLE}"
        raise UnfitData("unreadable_data", text) from None
    found = Scan(found.labels, found.examples, found.facts.model_copy(update={"left_out": look.left_out}))
    _refuse_names_outside_utf8(found, target)
    _refuse_empty(data, found, target)
    if target is None:
        _refuse_one_class(data, found)
    refuse_contradictions(data, found.facts.given, REMEDIES)
    if target is None:
        _refuse_missing_classes(found)
    else:
        target.refuse(data, found.examples, found.facts.given)
    refuse_divided_groups(((example.group, example.part) for example in found.examples), found.facts)
    notes = [*found.facts.notes, *split_notes(data, found.facts.given)]
    heic = any(example.name.lower().endswith(HEIC) for example in found.examples)
    facts = found.facts.model_copy(update={"notes": tuple(notes), "heic": heic})
    return Scan(found.labels, found.examples, facts)


def input_rows(data: ImageData, target: TargetReader | None, look: Look, *, targets: bool) -> Iterator[InputRow]:
    """The images at the path: rows of a table, every image below a folder, or one file. Raises UnfitData.

    With `targets` a folder has a folder for each label.
    """
    path = Path(data.path)
    try:
        if not path.exists():
            raise UnfitData("missing_data", f"there is no file or folder {shown(data.path)} here; correct the path")
        if data.is_table:
            yield from tables.input_rows(data, look, target, targets=targets)
        elif targets:
            for example in folders.read(data, look).examples:
                yield InputRow({"path": example.name}, example.file, example.label)
        elif path.is_dir():
            yield from (InputRow({"path": name}, file) for name, file in folders.files_below(path, look))
        elif folders.is_image(look, path.name):
            yield InputRow({"path": path.name}, path)
        else:
            raise UnfitData("unknown_format", f"{shown(data.path)} is neither an image, nor a folder, nor a table (.csv, .tsv)")
    except OSError as error:
        raise UnfitData(
            "unreadable_data", f"{shown(data.path)} cannot be read: {error.strerror or type(error).__name__}; {UNREADABLE}"
        ) from None


def refuse_similar_labels(data: ImageData, found: Scan, target: TargetReader | None = None) -> None:
    """Raises UnfitData for names that differ only in case, spaces, Unicode form or number format, unless `similar_labels` is keep.

    Not part of `scan`, so that a study that was accepted before this check existed can continue.
    """
    if data.similar_labels == "refuse":
        names, noun = _names(found, target)
        refuse_similar(names, f"{noun} names", "classes" if target is None else "labels")


def _refuse_names_outside_utf8(found: Scan, target: TargetReader | None) -> None:
    names, noun = _names(found, target)
    if invalid := [name for name in names if name != name.encode("utf-8", "replace").decode()]:
        raise UnfitData(f"foul_{noun}_names", f"these {noun} names are not UTF-8: {enumerated(invalid)}; rename them")


def _names(found: Scan, target: TargetReader | None) -> tuple[Sequence[str], str]:
    """The names that study files and exported configurations contain, and the noun for what they name."""
    return (found.labels, "class") if target is None else (target.names(found.labels), "label")


def refuse_unwritable_names(data: ImageData, found: Scan, target: TargetReader | None = None) -> None:
    """Raises UnfitData for names that `search_spaces.documents` cannot read in a study file or an exported configuration.

    Not part of `scan`, so that a study that was accepted before this check existed can continue.
    """
    names, noun = _names(found, target)
    if invalid := [name for name in names if any(map(is_foul, name))]:
        names_of = counted(len(invalid), f"{noun} name")
        why = "cannot be written to a study file: line breaks, other control characters, direction marks, or bytes that are not UTF-8"
        raise UnfitData(
            f"foul_{noun}_names",
            f"{names_of} in {shown(data.path)} {why}: {enumerated([*map(ascii, invalid)])}; rename the folders or labels",
            unnamed=f"{names_of} {why}; rename the folders or labels",
        )
    if long := [name for name in names if len(name) > MAX_CLASS_NAME]:
        names_of, why = counted(len(long), f"{noun} name"), f"{'has' if len(long) == 1 else 'have'} more than {MAX_CLASS_NAME} characters"
        raise UnfitData(
            f"long_{noun}_names",
            f"{names_of} in {shown(data.path)} {why}: {enumerated(long)}; shorten them",
            unnamed=f"{names_of} {why}; shorten them",
        )


def _refuse_empty(data: ImageData, found: Scan, target: TargetReader | None) -> None:
    if not found.examples:
        left_out = "".join(f"; {one.count} left out: {one.reason}" for one in found.facts.left_out)
        folders_needed = "it needs a folder per class with .jpg, .png or similar files"
        needs = folders_needed if target is None else "it needs rows with a path and a target"
        raise UnfitData("empty_data", f"{shown(data.path)} holds no images{left_out}; {needs}")


def _refuse_one_class(data: ImageData, found: Scan) -> None:
    if len(found.labels) < 2:
        raise UnfitData(
            "one_class",
            f"{shown(data.path)} has one class only ({shown(found.labels[0])}); a classifier needs two or more",
            unnamed="only one class was found; a classifier needs two or more",
        )


def _refuse_missing_classes(found: Scan) -> None:
    """Raises UnfitData if a part lacks a class: without training images it cannot be learned, without test images it has no recall."""
    there = {(example.label, example.part) for example in found.examples}
    lacking = [f"{part} lacks {shown(name)}" for part in found.facts.given for name in found.labels if (name, part) not in there]
    if lacking:
        raise UnfitData(
            "class_missing_in_part",
            f"each class needs images in each part of the data's own split: {enumerated(lacking)}; add images, remove the class from the "
            "other parts, or write data.split: drawn if folders named so are classes",
        )
