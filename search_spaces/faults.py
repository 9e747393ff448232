"""Faults of a document: path, code, and a message with the remedy."""

from collections.abc import Iterable
from dataclasses import dataclass

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of a document.

    `path` leads from the root of the document to the field, `code` is a stable identifier for programs, and `message` states the fault and
    the remedy. The message never repeats the offending value.
    """

    path: Path
    code: str
    message: str

    @property
    def pointer(self) -> str:
        """The path as a URI fragment JSON pointer (RFC 6901), such as `#/search_space/lr/low`."""
        return "#" + "".join("/" + _escaped(str(part)) for part in self.path)

    @classmethod
    def at(cls, pointer: str, code: str, message: str) -> "Fault":
        """The fault with this pointer. The inverse of `pointer`, with indexes as text."""
        return cls(tuple(part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]), code, message)

    def below(self, prefix: Path) -> "Fault":
        """The fault in a document that contains this one at `prefix`."""
        return Fault((*prefix, *self.path), self.code, self.message)


def _escaped(part: str) -> str:
    return part.replace("~", "~0").replace("/", "~1")


class Faulty(ValueError):
    """Raised by validators to report faults with exact paths inside the validated model."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(f"{fault.pointer}: {fault.message}" for fault in self.faults))


def raise_if_any(faults: Iterable[Fault]) -> None:
    """Raise Faulty if there is any fault."""
    if found := tuple(faults):
        raise Faulty(found)
