"""A toy trainer that stops, and its worker with it, just before or just after its first checkpoint gets its name."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.chaos.history import note
from trainer import files

POINT = "THAW_CHAOS_FREEZE_AT"


def install() -> None:
    point = os.environ[POINT]
    frozen = False

    def freeze(folder: Path) -> None:
        nonlocal frozen
        if not frozen:
            frozen = True
            note("frozen", point=point, number=int(folder.parent.name), attempt=int(folder.name[1:]))
            os.kill(os.getppid(), signal.SIGUSR1)
            os.kill(os.getpid(), signal.SIGSTOP)

    replace, write = Path.replace, files.write

    def freeze_before(self: Path, target: Any) -> Any:
        freeze(self.parent)
        return replace(self, target)

    def freeze_after(path: Path, fill: Callable[..., object]) -> str:
        sha256 = write(path, fill)
        freeze(path.parent)
        return sha256

    if point == "before the checkpoint's rename":
        Path.replace = freeze_before  # type: ignore[method-assign]
    if point == "between rename and pointer":
        files.write = freeze_after
