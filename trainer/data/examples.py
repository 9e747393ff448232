"""Labelled examples as listings name them, and the errors of unusable data."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Self

from trainer.configuration import LeftOut, Part


class BadData(Exception):
    """Nothing can be trained on this data; the text says why and is meant for the user."""

    listed: ClassVar[int] = 20  # most items of a fault of several files

    @classmethod
    def listing(cls, what: str, items: Sequence[str]) -> Self:
        """A fault of several files: what is wrong, then the first of them."""
        shown = "; ".join(item.encode("utf-8", "replace").decode() for item in items[: cls.listed])
        return cls(f"{what}: {shown}" + (f"; and {len(items) - cls.listed} more" if len(items) > cls.listed else ""))


class ChangedData(BadData):
    """Data or weights were read, and their digests prove that they are not those that were checked."""


class MissingData(BadData):
    """Some or all of the data is not there, or the system refuses to read it. Another machine, or a later try, may read it."""

    listed = 3  # the files of a folder that is away have one cause in common


class NoTestExamples(BadData):
    """The run shall be scored on test examples, and the split has none."""


PART_NAMES: dict[str, Part] = {
    "train": "train", "val": "validation", "validation": "validation", "valid": "validation", "dev": "validation", "test": "test",
}  # fmt: skip
"""Names of folders and values of the split column, in lower case."""

LISTED = 20  # faults in one message
EXAMPLES = 5  # names of files that were left out, for each reason
LONGEST = 200  # characters of a name that is shown


@dataclass(frozen=True, slots=True)
class Example:
    """An example and its label. `name` is the example as the user knows it: relative to the data, or as the table has it."""

    file: Path
    name: str
    label: str
    part: Part | None = None  # of the split that the data gives
    group: str | None = None


class UnfitData(Exception):
    """The data cannot be used. The text names the fault and the remedy, for the user.

    `code` is for programs, `place` the field of a study that is to be changed. `unnamed` says the same without names of folders and labels
    that nothing shows to belong to a data set: the server names no entries of other folders.
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
    """One look at the data. `tick` is called for each entry, and `permit` with each path that is about to be followed; both may raise."""

    tick: Callable[[], None] = _no_limit
    permit: Callable[[Path], None] = _anything
    _left_out: dict[str, tuple[int, list[str]]] = field(default_factory=dict)

    def leave_out(self, reason: str, name: str) -> None:
        """Count a file that is not used."""
        count, examples = self._left_out.get(reason, (0, []))
        self._left_out[reason] = (count + 1, [*examples, shown(name)] if len(examples) < EXAMPLES else examples)

    @property
    def left_out(self) -> tuple[LeftOut, ...]:
        """The most frequent reasons first."""
        ordered = sorted(self._left_out.items(), key=lambda one: (-one[1][0], one[0]))
        return tuple(LeftOut(reason=reason, count=count, examples=tuple(examples)) for reason, (count, examples) in ordered)


def shown(name: str) -> str:
    """The name in one line that can be written anywhere: control characters replaced, cut where it is very long."""
    text = "".join(character if character.isprintable() else "\ufffd" for character in name)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def enumerated(items: Sequence[str], most: int = LISTED) -> str:
    """The first items, and how many more there are."""
    text = "; ".join(shown(item) for item in items[:most])
    return text + (f"; and {len(items) - most} more" if len(items) > most else "")
