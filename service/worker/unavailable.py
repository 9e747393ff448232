"""Studies whose trials this worker does not claim, because it cannot read their data or weights."""

import logging
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from service import operations
from service.domain.errors import StoreUnavailable, ThawlineError
from service.store import Store
from service.timing import Backoff
from trainer.configuration import TrainConfig
from trainer.files import is_readable
from trainer.protocol import Unavailable

log = logging.getLogger(__name__)

RETRY = (2.0, 300.0)  # first and longest delay between two attempts to read, in seconds


def hung(config: TrainConfig, detail: str, step: int = 0) -> Unavailable:
    """The result for a trainer that hung while it read data or weights, as on a dead mount. Which of the two is not known."""
    weights = config.model.weights_file
    return Unavailable(what="data", detail=detail, paths=(config.data.path, *(() if weights is None else (weights,))), step=step)


@dataclass(slots=True)
class _Study:
    """The reason, and the time of the next attempt to read."""

    reason: Unavailable
    backoff: Backoff
    due: float  # monotonic seconds
    excluded: bool = True  # from claims
    stored: bool = False  # whether `excluded` was reported to the store
    reading: bool = False


class UnavailableStudies:
    """Thread-safe. One thread calls `update` periodically.

    Each attempt to read runs in its own thread, because it may block for ever on a dead mount.
    """

    def __init__(self, store: Store, worker: str) -> None:
        self._store, self._worker = store, worker
        self._studies: dict[str, _Study] = {}
        self._lock = threading.Lock()

    def add(self, study: str, reason: Unavailable) -> None:
        """Exclude the study from claims, because its data or weights could not be read."""
        with self._lock:
            known = self._studies.get(study)
            if known is None:
                known = self._studies[study] = _Study(reason, Backoff(*RETRY), due=0.0)
            elif known.excluded:
                return
            known.reason, known.excluded, known.stored = reason, True, False
            known.due = time.monotonic() + known.backoff.delay()
        log.warning("no trials of study %s are claimed until its %s can be read on this machine: %s", study, reason.what, reason.detail)

    def ids(self) -> frozenset[str]:
        """The ids of the excluded studies. A study stays excluded until its recovery is reported to the store."""
        with self._lock:
            return frozenset(study for study, known in self._studies.items() if known.excluded or not known.stored)

    def was_read(self, study: str) -> None:
        """Reset the retry delay, because the study's data and weights were read."""
        with self._lock:
            if (known := self._studies.get(study)) is not None and not known.excluded and known.stored:
                del self._studies[study]

    def update(self) -> bool:
        """Report changes to the store, and start due attempts to read. Returns whether trials of a study can be claimed again.

        Raises StoreUnavailable.
        """
        claimable = False
        for study, known in self._all():
            if not known.stored:
                claimable = self._report(study, known) or claimable
        for study, known in self._all():
            if known.excluded and not known.reading and time.monotonic() >= known.due:
                known.reading = True
                threading.Thread(target=self._try_to_read, args=(study, known), name="read", daemon=True).start()
        return claimable

    def _all(self) -> list[tuple[str, _Study]]:
        with self._lock:
            return list(self._studies.items())

    def _report(self, study: str, known: _Study) -> bool:
        """Report whether this worker can read the study. Returns whether its trials can be claimed. Raises StoreUnavailable."""
        with self._lock:
            excluded, reason = known.excluded, known.reason
        try:
            if excluded:
                accepted = operations.report_unavailable(self._store, self._worker, study, reason.what, reason.detail)
            else:
                accepted = operations.report_available(self._store, self._worker, study)
        except StoreUnavailable:
            raise
        except ThawlineError as error:
            log.info("no further attempts to read the data or weights of study %s: %s", study, error)
            accepted = False
        with self._lock:
            if not accepted:
                self._studies.pop(study, None)
            elif known.excluded is excluded and known.reason is reason:  # not changed by another thread since the report
                known.stored = True
            return accepted and not excluded

    def _try_to_read(self, study: str, known: _Study) -> None:
        readable = all(is_readable(Path(path)) for path in known.reason.paths)
        with self._lock:
            known.reading = False
            known.due = time.monotonic() + known.backoff.delay()
            known.excluded = not readable
            # Reported again even if nothing changed: the result of the report shows whether the study still exists and runs.
            known.stored = False
        if readable:
            log.info("trials of study %s are claimed again, because its %s can be read", study, known.reason.what)
