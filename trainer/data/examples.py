"""Labelled examples, the errors of unusable data, and the record of files that are left out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

from trainer.configuration import LeftOut, Part


class BadData(Exception):
    """This data cannot be used for training; the text gives the reason to the user."""

    listed: ClassVar[int] = 20  # most files that a message names

    @classmethod
    def listing(cls, fault: str, items: Sequence[str]) -> Self:
        """A fault of several files: the sentence, then the first of the files."""
        shown = "; ".join(item.encode("utf-8", "replace").decode() for item in items[: cls.listed])
        return cls(f"{fault}: {shown}" + (f"; and {len(items) - cls.listed} more" if len(items) > cls.listed else ""))


class ChangedData(BadData):
    """Data or weights were read, and their digests differ from those of the check."""


class MissingData(BadData):
    """Data is missing or cannot be read. Another machine, or a later try, may be able to read it."""

    listed = 3  # a few names are enough: the files of a missing folder have one common cause


class NoTestExamples(BadData):
    """The run is to be scored on test examples, but the split has none."""


PART_NAMES: dict[str, Part] = {
    "train": "train", "val": "validation", "validation": "validation", "valid": "validation", "dev": "validation", "test": "test",
}  # fmt: skip
"""Names of folders and values of the split column, in lower case."""

LISTED = 20  # faults in one message
EXAMPLES = 5  # names of left-out files for each reason
LONGEST = 200  # characters of a name in a message


@dataclass(frozen=True, slots=True)
class Example:
    """An example and its label. `name` is the path relative to the data folder, or the path in the table."""

    file: Path
    name: str
    label: str
    part: Part | None = None  # in the data's own split
    group: str | None = None


@dataclass(frozen=True, slots=True)
class InputRow:
    """An example of a file or folder for an exported model. If it cannot be used, `fault` states the reason."""

    place: Mapping[str, str | int]  # its line, its path or both: columns of the output
    content: Any = None  # of the modality
    target: str = ""  # in the form of `TargetReader.parse`, if targets are read
    fault: str | None = None

    @property
    def name(self) -> str:
        """For messages."""
        return " ".join(f"{name} {shown(str(value))}" for name, value in self.place.items())


class UnfitData(Exception):
    """The data cannot be used. The text states the fault and the remedy for the user.

    `code` is for programs; `place` is the field of the study to change. `unnamed` is the same text without the names of folders and labels.
    The server uses it where the path need not be a data set, so that it reveals no names of files in other folders.
    """

    def __init__(self, code: str, text: str, *, place: tuple[str, ...] = ("data", "path"), unnamed: str | None = None) -> None:
        super().__init__(text)
        self.code, self.place, self.unnamed = code, place, unnamed or text


def _anything(_: Path) -> None:
    return None


def _no_limit() -> None:
    return None


@dataclass(slots=True)
class Look:
    """The hooks and the record of one listing of the data.

    `tick` is called for each entry, `permit` with each path before it is followed. Both may raise, to stop the listing.
    """

    tick: Callable[[], None] = _no_limit
    permit: Callable[[Path], None] = _anything
    _left_out: dict[str, tuple[int, list[str]]] = field(default_factory=dict)

    def leave_out(self, reason: str, name: str) -> None:
        """Record a file that is not used."""
        count, examples = self._left_out.get(reason, (0, []))
        self._left_out[reason] = (count + 1, [*examples, shown(name)] if len(examples) < EXAMPLES else examples)

    @property
    def left_out(self) -> tuple[LeftOut, ...]:
        """The reasons with their counts, most frequent first."""
        ordered = sorted(self._left_out.items(), key=lambda one: (-one[1][0], one[0]))
        return tuple(LeftOut(reason=reason, count=count, examples=tuple(examples)) for reason, (count, examples) in ordered)


def shown(name: str) -> str:
    """The name in one line for a message: control characters replaced, cut after LONGEST characters."""
    text = "".join(character if character.isprintable() else "\ufffd" for character in name)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def enumerated(items: Sequence[str], most: int = LISTED) -> str:
    """The first items joined by semicolons, and the number of the others."""
    text = "; ".join(shown(item) for item in items[:most])
    return text + (f"; and {len(items) - most} more" if len(items) > most else "")
