"""What an entry of the cache is known by."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Union

JSON = Union[None, bool, int, float, str, Sequence["JSON"], Mapping[str, "JSON"]]  # noqa: UP007  # a string has no `|`


@dataclass(frozen=True, slots=True)
class Key:
    """Everything that the content of an entry follows from. Equal facts give the same entry, whatever their order."""

    kind: str  # what the entry holds, such as features
    facts: Mapping[str, JSON]

    @property
    def text(self) -> str:
        """The one way to write it; ValueError for facts that are not finite."""
        return json.dumps({"kind": self.kind, "facts": self.facts}, sort_keys=True, separators=(",", ":"), allow_nan=False, default=dict)

    @property
    def digest(self) -> str:
        """SHA-256 of `text`, which names the file."""
        return hashlib.sha256(self.text.encode()).hexdigest()
