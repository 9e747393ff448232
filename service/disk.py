"""How much room a disk has left, and the floor below which nothing is taken in that can wait: the rest is for results."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from service.domain.errors import DiskFull


def free_bytes(path: Path) -> int | None:
    """Of the file system that the path lies on, or will lie on; None where that cannot be told."""
    for place in (path, *path.parents):
        try:
            return shutil.disk_usage(place).free
        except FileNotFoundError:
            continue
        except OSError:
            return None
    return None


@dataclass(frozen=True, slots=True)
class Disk:
    """Where a path lies, and how many bytes are to stay free there; 0 for none."""

    path: Path
    floor_bytes: int

    @property
    def is_low(self) -> bool:
        """Whether less is free. A disk that does not say counts as one with room."""
        free = free_bytes(self.path) if self.floor_bytes else None
        return free is not None and free < self.floor_bytes

    def require_room(self) -> None:
        """Raises DiskFull below the floor."""
        if self.is_low:
            raise DiskFull(
                "The server's disk is nearly full, and what is left is for the results of trials; free some space, and try again."
            )
