"""Faults: what is wrong with a document, each with the place where it is wrong and the remedy."""

from collections.abc import Iterable
from dataclasses import dataclass

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong.

    `path` leads from the root of the document to the field, `code` is a stable word for programs,
    `message` says what is wrong and what to do about it. It never repeats the offending value.
    """

    path: Path
    code: str
    message: str

    @property
    def pointer(self) -> str:
        """The path as a URI fragment JSON pointer (RFC 6901), such as `#/search_space/lr/low`."""
        return "#" + "".join("/" + _escaped(str(part)) for part in self.path)

    def below(self, prefix: Path) -> "Fault":
        """The same fault seen from a document that holds this one at `prefix`."""
        return Fault((*prefix, *self.path), self.code, self.message)


def _escaped(part: str) -> str:
    return part.replace("~", "~0").replace("/", "~1")


class Faulty(ValueError):
    """Raised by a validator that knows the place of its faults better than pydantic does."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(f"{fault.pointer}: {fault.message}" for fault in self.faults))


def raise_if_any(faults: Iterable[Fault]) -> None:
    """Raise `Faulty` with all of them, or return when there are none."""
    if found := tuple(faults):
        raise Faulty(found)
