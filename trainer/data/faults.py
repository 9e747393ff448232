"""What makes data unfit to train on, said with the names of the files."""

from collections.abc import Sequence
from typing import Self

LISTED = 20


class BadData(Exception):
    """Nothing can be trained on this data; the text says why and is meant for the user."""

    @classmethod
    def listing(cls, what: str, items: Sequence[str]) -> Self:
        """A fault of several files: what is wrong, then up to 20 of them."""
        shown = "; ".join(item.encode("utf-8", "replace").decode() for item in items[:LISTED])
        return cls(f"{what}: {shown}" + (f"; and {len(items) - LISTED} more" if len(items) > LISTED else ""))
