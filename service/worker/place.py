"""What the slots of a worker share."""

import threading
from dataclasses import dataclass

from service.worker.checkpoints import Shelf
from service.worker.control_plane import ControlPlane
from service.worker.leases import Leases


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a silent trainer is given, in seconds."""

    start: float = 300.0  # until its first line: importing torch on a busy machine
    prepare: float = 7_200.0  # while it decodes a data set, or downloads weights
    stall: float = 900.0  # between two batches
    grace: float = 5.0  # to end a run when told; then it is killed


USUAL = Patience()


@dataclass(frozen=True, slots=True)
class Workplace:
    """The store, the leases, the checkpoints and the clocks of one worker."""

    control: ControlPlane
    leases: Leases
    shelf: Shelf
    patience: Patience
    leaving: threading.Event
    draining: threading.Event  # set when slots shall end once their trials have
    stir: threading.Event  # set when idle slots should look for work at once, and when the worker leaves or drains

    def drain(self) -> None:
        """Let every slot end once its trials have."""
        self.draining.set()
        self.stir.set()

    def rest(self, seconds: float) -> None:
        """Wait for so long, or until there is a reason to look up."""
        self.stir.wait(seconds)
        if not self.leaving.is_set() and not self.draining.is_set():
            self.stir.clear()
