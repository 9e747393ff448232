"""An entry that is being built, by this process alone."""

import mmap
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from torch import Tensor

from trainer.cache import locks, room
from trainer.cache.entry import Layout


class Draft:
    """Leaving the context without `commit` abandons it; so does the process's death."""

    tensor: Tensor
    """To be filled; zeros at first. It is the file itself: not to be written to after `commit`."""

    def __init__(self, path: Path, descriptor: int, layout: Layout, committed: Callable[[int], Tensor]) -> None:
        self._path, self._descriptor, self._layout, self._committed = path, descriptor, layout, committed
        self._mapping = mmap.mmap(descriptor, layout.size)
        self._open = True
        self.tensor = layout.tensor(self._mapping)

    def commit(self) -> Tensor:
        """Make it an entry, flushed to the disk; the entry's tensor, mapped as `find` does. OSError when the disk fails."""
        self._layout.seal(self._mapping)
        self._mapping.flush()
        os.fsync(self._descriptor)
        self._path.replace(self._path.with_suffix(room.ENTRY))
        self._open = False
        found = self._committed(self._descriptor)
        locks.free(self._descriptor)
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._open:
            self._open = False
            self._path.unlink(missing_ok=True)
            locks.free(self._descriptor)
