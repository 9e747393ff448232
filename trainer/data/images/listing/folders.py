"""Lists the images of a folder that has a folder for each class."""

import importlib.util
import os
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from trainer.configuration import ListingFacts, Part
from trainer.data.examples import PART_NAMES, Example, Look, UnfitData, shown
from trainer.tasks.images.config import HEIC_SUFFIXES, IMAGE_SUFFIXES, ImageData

NO_HEIC_READER = 'HEIC, which needs the package pillow-heif: pip install "thawline[heic]"'


@dataclass(frozen=True, slots=True, eq=False)
class Scan:
    """The images of a folder or table. `labels` is sorted and includes the names of label folders without images."""

    labels: tuple[str, ...]
    examples: tuple[Example, ...]
    facts: ListingFacts


def is_image(look: Look, name: str) -> bool:
    """Whether a file of that name is read as an image. A file that is not is recorded as left out."""
    suffix = os.path.splitext(name)[1].lower()
    if suffix in IMAGE_SUFFIXES or (suffix in HEIC_SUFFIXES and reads_heic()):
        return True
    look.leave_out(NO_HEIC_READER if suffix in HEIC_SUFFIXES else "not an image by its suffix", name)
    return False


def reads_heic() -> bool:
    """Whether HEIC files can be read. A server without Pillow assumes that its workers can read them."""
    return importlib.util.find_spec("pillow_heif") is not None or importlib.util.find_spec("PIL") is None


Identity = tuple[int, int]  # device and inode; equal for all links to a folder

HIDDEN = "hidden (the name begins with a dot), with all that is in it"
BROKEN = "broken link"
SPECIAL = "not a regular file (pipe, socket or device)"
READ_ALREADY = "link to a folder that is read already, or that contains the link"
COPY = "copy of an image in another part of the data's own split, and used there alone"  # found by content, after the listing
BESIDE = "not in a class folder"
BESIDE_PARTS = "not in a folder of the split that the data gives"
ONE_CLASS = "lead to the same real folder by a link, and an image has one class and one part; remove the link"
SAY_OTHERWISE = "write data.split: drawn if each of these folders is a class, or data.split: given if they are parts of a split"


def read(data: ImageData, look: Look) -> Scan:
    """The images of a folder. Raises UnfitData, OSError, and the errors of the hooks of `look`."""
    root = Path(data.path)
    look.permit(root)
    if not root.exists():
        unnamed = "the folder that data.path names does not exist on the server; correct data.path"
        raise UnfitData("missing_data", f"there is no folder {shown(data.path)} here; correct the path", unnamed=unnamed)
    if not root.is_dir():
        text = f"{shown(data.path)} is neither a folder with a folder per class nor a table (.csv, .tsv); correct the path"
        raise UnfitData("not_a_folder", text)
    walk = _Walk(root, look)
    entries = list(walk.entries(walk.top))
    tops = [entry for entry in entries if entry.is_folder]
    parts = _parts_of(data, tops, root, look)
    if not parts:
        walk.leave_files_out(entries, BESIDE)
        return Scan(tuple(sorted({top.path.name for top in tops})), tuple(walk.examples(tops, None)), ListingFacts())
    walk.leave_files_out(entries, BESIDE_PARTS)
    for top in tops:
        if top.path not in parts:
            walk.leave_folder_out(top, BESIDE_PARTS)
    return _given(walk, {top: parts[top.path] for top in tops if top.path in parts})


def files_below(folder: Path, look: Look) -> Iterator[tuple[str, Path]]:
    """Path relative to the folder, and path, of each image below the folder, at any depth. Raises UnfitData, OSError."""
    walk = _Walk(folder, look)
    walk.leave_top_open()
    for entry in walk.images(walk.top, count=False):
        yield entry.name, entry.path


def _given(walk: "_Walk", parts: dict["_Entry", Part]) -> Scan:
    classes, examples = set[str](), list[Example]()
    for top, part in parts.items():
        walk.enter(top)
        entries = list(walk.entries(top))
        folders = [entry for entry in entries if entry.is_folder]
        walk.leave_files_out(entries, BESIDE)
        classes |= {folder.path.name for folder in folders}
        examples += walk.examples(folders, part)
    folders_of = tuple((shown(top.name), part) for top, part in parts.items())
    given = tuple(part for part in ("train", "validation", "test") if part in parts.values())
    note = "The data's own split is used: " + ", ".join(f"{name}/ for {part}" for name, part in folders_of) + "."
    return Scan(tuple(sorted(classes)), tuple(examples), ListingFacts(given=given, folders=folders_of, notes=(note,)))


def _parts_of(data: ImageData, entries: list["_Entry"], root: Path, look: Look) -> dict[Path, Part]:
    """The folders that are parts of the data's own split; empty if every folder is a class. Raises UnfitData if it is ambiguous."""
    tops = [entry.path for entry in entries]
    named = {top: part for top in tops if (part := PART_NAMES.get(top.name.casefold())) is not None}
    if not named or data.split == "drawn":
        return {}
    shapes = {entry.path: _shape(entry, root, look) for entry in entries}
    named = {top: part for top, part in named.items() if shapes[top] != "empty"} or named
    nested = [top for top in named if shapes[top] == "nested"]
    others = [top for top in tops if top not in named and shapes[top] != "empty" and top.name.casefold() not in PART_NAMES]
    names = _names(sorted(named))
    if data.split == "auto":
        if not nested and others and len(named) == 1:
            return {}  # for example a class named train beside bus and car
        if others:
            raise UnfitData(
                "ambiguous_layout",
                f"{names} may be parts of a split, and {_names(others)} may be classes beside them; {SAY_OTHERWISE}",
                unnamed=f"{names} may be parts of a split, and {len(others)} other folders may be classes beside them; {SAY_OTHERWISE}",
                place=("data", "split"),
            )
    if flat := [top for top in named if top not in nested and shapes[top] != "empty"]:
        raise UnfitData(
            "parts_without_classes",
            f"{_names(flat)} would be part of a split, and holds no class folders with images; put the images into a folder per class, "
            "or write data.split: drawn if each folder is a class",
            place=("data", "split"),
        )
    for part in ("train", "validation", "test"):
        if len(twice := [top for top, own in named.items() if own == part]) > 1:
            raise UnfitData("part_named_twice", f"{_names(twice)} all mean {part}; leave one of them", place=("data", "split"))
    return named


def _names(tops: list[Path]) -> str:
    return " and ".join(f"{shown(top.name)}/" for top in tops[:3]) + (f" and {len(tops) - 3} more" if len(tops) > 3 else "")


def _shape(top: "_Entry", root: Path, look: Look) -> str:
    """nested: images in subfolders; flat: images only in the folder itself; empty: no images."""
    quiet = Look(look.tick, look.permit)
    walk = _Walk(root, quiet)
    walk.enter(top)
    entries = list(walk.entries(top))
    if any(entry.is_folder and next(walk.images(entry, count=False), None) for entry in entries):
        return "nested"
    return "flat" if any(not entry.is_folder and is_image(quiet, entry.name) for entry in entries) else "empty"


@dataclass(frozen=True, slots=True)
class _Entry:
    path: Path
    name: str  # relative to the data folder, with slashes
    is_folder: bool
    is_link: bool


@dataclass(slots=True)
class _Walk:
    """Walks class folders and follows links to folders, each real folder once in a class.

    Without the check of identities a link to a folder above it would be followed without end.
    """

    root: Path
    look: Look
    _above: set[Identity] = field(init=False)  # folders that contain the walked one; a link to one of them is a cycle
    _owners: dict[Identity, str] = field(default_factory=dict)  # by real folder, the class folder in which it was read

    def __post_init__(self) -> None:
        self._above = {_identity(folder) for folder in (self.root.resolve(), *self.root.resolve().parents)}

    @property
    def top(self) -> _Entry:
        """The data folder itself."""
        return _Entry(self.root, "", is_folder=True, is_link=False)

    def enter(self, folder: _Entry) -> None:
        """Add a folder to those that contain the walked one."""
        self._above.add(_identity(folder.path))

    def leave_top_open(self) -> None:
        """Let `images` read the data folder itself."""
        self._above.discard(_identity(self.root))

    def examples(self, folders: list[_Entry], part: Part | None) -> Iterator[Example]:
        """The images in the class folders."""
        for folder in folders:
            for file in self.images(folder):
                yield Example(file.path, file.name, folder.path.name, part)

    def images(self, top: _Entry, *, count: bool = True) -> Iterator[_Entry]:
        """The image files below a class folder. Links to folders come last, so that a file is named by its own path if it has one there."""
        folders, links, seen = deque([top]), deque[_Entry](), set[Identity]()
        while folders or links:
            folder = folders.popleft() if folders else links.popleft()
            identity = _identity(folder.path)
            if identity in seen or identity in self._above:
                self.look.leave_out(READ_ALREADY, folder.name)
                continue
            if count and (other := self._owners.setdefault(identity, top.name)) != top.name:
                raise UnfitData(
                    "folder_in_two_classes",
                    f"{shown(top.name)} and {shown(other)} {ONE_CLASS}",
                    unnamed=f"two class folders {ONE_CLASS}",
                )
            seen.add(identity)
            below = list[_Entry]()
            for entry in self.entries(folder):
                if entry.is_folder and entry.is_link:
                    links.append(entry)
                elif entry.is_folder:
                    below.append(entry)
                elif is_image(self.look, entry.name):
                    yield entry
            folders.extendleft(reversed(below))

    def entries(self, folder: _Entry) -> Iterator[_Entry]:
        """Folders and regular files sorted by name; other entries are recorded as left out. Raises UnfitData."""
        try:
            with os.scandir(folder.path) as found:
                entries = list(self._ticked(found))
        except OSError as error:
            raise UnfitData(
                "unreadable_data",
                f"the folder {shown(folder.name)} cannot be read: {error.strerror}; make it readable for the user that runs this",
                unnamed="a folder in it cannot be read; make it readable for the user that runs this",
            ) from None
        prefix = f"{folder.name}/" if folder.name else ""
        for entry in sorted(entries, key=lambda entry: entry.name):
            self.look.tick()
            path, name, is_link = folder.path / entry.name, prefix + entry.name, entry.is_symlink()
            if entry.name.startswith("."):
                self.look.leave_out(HIDDEN, name)
            elif is_link and not path.exists():
                self.look.leave_out(BROKEN, name)
            else:
                if is_link:
                    self.look.permit(path)
                if (is_folder := entry.is_dir()) or entry.is_file():
                    yield _Entry(path, name, is_folder=is_folder, is_link=is_link)
                else:
                    self.look.leave_out(SPECIAL, name)

    def leave_files_out(self, entries: list[_Entry], reason: str) -> None:
        """Record the image files that lie beside class folders as left out."""
        for entry in entries:
            if not entry.is_folder and is_image(self.look, entry.name):
                self.look.leave_out(reason, entry.name)

    def leave_folder_out(self, top: _Entry, reason: str) -> None:
        """Record the images below a folder that is not part of the split as left out."""
        for file in self.images(top, count=False):
            self.look.leave_out(reason, file.name)

    def _ticked(self, found: Iterator[os.DirEntry[str]]) -> Iterator[os.DirEntry[str]]:
        for entry in found:
            self.look.tick()
            yield entry


def _identity(folder: Path) -> Identity:
    status = os.stat(folder)
    return status.st_dev, status.st_ino
