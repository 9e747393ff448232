"""Scripts: the folders in which a worker runs them, and the process that does."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from service.settings import Settings
from service.worker.devices import Slot
from trainer.tasks.script.config import RUNNER


@dataclass(frozen=True, slots=True)
class AllowedScripts:
    """The folders in which the operator of this worker allows scripts, with symbolic links resolved."""

    folders: tuple[Path, ...]

    @classmethod
    def below(cls, folders: Sequence[Path]) -> "AllowedScripts":
        """Raises OSError for a folder that does not exist."""
        return cls(tuple(folder.resolve(strict=True) for folder in folders))

    def refusal(self, workdir: str) -> str | None:
        """Why scripts in this folder may not run here; None if they may."""
        if not self.folders:
            return f"the worker allows no scripts; start it with `thaw worker --allow-scripts {workdir}`"
        try:
            inside = any(Path(workdir).resolve().is_relative_to(folder) for folder in self.folders)
        except (OSError, RuntimeError):  # a cycle of symbolic links
            inside = False
        listed = ", ".join(map(str, self.folders))
        return None if inside else f"{workdir} lies outside the folders that the worker allows by --allow-scripts ({listed})"

    def command(self, slot: Slot, settings: Settings) -> tuple[str, ...]:
        """The command line of the slot's process that runs scripts; empty if none are allowed."""
        if not self.folders:
            return ()
        options = ["--threads", str(slot.threads), "--disk-floor-bytes", str(settings.disk_floor_bytes)]
        if slot.cpus:
            options += ["--cpus", ",".join(map(str, slot.cpus))]
        return sys.executable, "-P", "-m", RUNNER, *(part for folder in self.folders for part in ("--allow", str(folder))), *options
