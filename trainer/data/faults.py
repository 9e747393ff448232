"""What makes data unfit to train on, said with the names of the files."""

from collections.abc import Sequence
from typing import ClassVar, Self


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
