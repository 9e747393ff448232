"""The server's background thread: requeues the trials of lost workers and removes obsolete rows."""

import logging
import threading
import time
from collections.abc import Callable, Mapping

from service import operations
from service.domain.errors import StoreUnavailable
from service.reaper import Reaper
from service.settings import Settings
from service.store import Store

log = logging.getLogger("thawline.web")

LATE_AFTER_SWEEPS = 12
TIDY_SECONDS = 60.0  # between two checks of imports and workers; an import without progress between two checks is aborted
REMOVAL_SECONDS = 1.0  # limit on the time in which one sweep removes rows of deleted studies and failed imports


class Sweeper:
    """Runs a sweep every `look_seconds` between `start` and `stop`. A failed sweep is logged; the next one is the retry."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._reaper = Reaper(store, settings.lease_seconds)
        self._cleanup = Cleanup(store)
        self._pause_seconds = settings.look_seconds
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sweeper", daemon=True)
        self._made_at = time.monotonic()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread. Waits up to 5 seconds for a sweep in progress."""
        self._stopping.set()
        self._thread.join(timeout=5)

    def age_seconds(self) -> float:
        """Seconds since the last successful sweep, or since the sweeper was created."""
        age = self._reaper.seconds_since_sweep
        return time.monotonic() - self._made_at if age is None else age

    def is_late(self) -> bool:
        """Whether no sweep has succeeded for `LATE_AFTER_SWEEPS` intervals."""
        return self.age_seconds() > LATE_AFTER_SWEEPS * self._pause_seconds

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._reaper.sweep()
            except Exception:
                log.exception("the sweep for lost trials failed")
            try:
                self._cleanup.sweep()
            except Exception:
                log.exception("obsolete rows could not be removed")
            self._stopping.wait(self._pause_seconds)


class Cleanup:
    """Removes the rows of deleted studies, failed imports, workers without a heartbeat for 30 days, and excess idempotency keys."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._imports: Mapping[str, int] = {}
        self._looked_at: float | None = None

    def sweep(self) -> None:
        """Remove hidden rows for at most `REMOVAL_SECONDS`; once a minute also stalled imports, old workers and excess keys.

        StoreUnavailable is logged, not raised.
        """
        now = self._clock()
        try:
            if self._looked_at is None or now - self._looked_at >= TIDY_SECONDS:
                self._imports = operations.sweep_imports(self._store, self._imports)
                operations.forget_workers(self._store)
                operations.bound_keys(self._store)
                self._looked_at = now
            while operations.remove_hidden(self._store) and self._clock() - now < REMOVAL_SECONDS:
                pass
        except StoreUnavailable as error:
            log.warning("obsolete rows could not be removed: %s", error)
