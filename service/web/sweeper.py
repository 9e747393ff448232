"""The server's thread that looks for workers that were lost."""

import logging
import threading
import time

from service.reaper import Reaper
from service.settings import Settings
from service.store import Store

log = logging.getLogger("thawline.web")

LATE_AFTER_SWEEPS = 12


class Sweeper:
    """Sweeps twice a heartbeat between `start` and `stop`. A sweep that fails is told and tried again."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._reaper = Reaper(store, settings.lease_seconds)
        self._pause_seconds = settings.look_seconds
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sweeper", daemon=True)
        self._made_at = time.monotonic()

    def start(self) -> None:
        """Begin to sweep."""
        self._thread.start()

    def stop(self) -> None:
        """Sweep no more; waits for a sweep under way."""
        self._stopping.set()
        self._thread.join(timeout=5)

    def age_seconds(self) -> float:
        """Since the last sweep that went through, or since the server was made."""
        age = self._reaper.seconds_since_sweep
        return time.monotonic() - self._made_at if age is None else age

    def is_late(self) -> bool:
        """Whether several sweeps in a row have not gone through."""
        return self.age_seconds() > LATE_AFTER_SWEEPS * self._pause_seconds

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._reaper.sweep()
            except Exception:
                log.exception("the sweep for lost trials failed")
            self._stopping.wait(self._pause_seconds)
