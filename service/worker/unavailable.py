"""Studies from which this worker claims nothing, because it cannot read their data or weights."""

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

LOOKS = (2.0, 300.0)  # first and longest delay between two attempts to read, in seconds


def hung(config: TrainConfig, detail: str, step: int = 0) -> Unavailable:
    """The trainer hung while it read data and weights, as on a dead mount. Which of the two it read is not known."""
    weights = config.model.weights_file
    return Unavailable(what="data", detail=detail, paths=(config.data.path, *(() if weights is None else (weights,))), step=step)


@dataclass(slots=True)
class _Study:
    """The reason, and the time of the next attempt to read."""

    why: Unavailable
    backoff: Backoff
    due: float  # monotonic seconds
    left_alone: bool = True
    stored: bool = False  # whether `left_alone` was reported to the store
    looking: bool = False


class UnavailableStudies:
    """Thread-safe. One thread calls `tend` periodically.

    Each attempt to read runs in its own thread, because it may block for ever on a dead mount.
    """

    def __init__(self, store: Store, worker: str) -> None:
        self._store, self._worker = store, worker
        self._studies: dict[str, _Study] = {}
        self._lock = threading.Lock()

    def add(self, study: str, why: Unavailable) -> None:
        """Claim nothing of the study from now on: its data or weights could not be read."""
        with self._lock:
            known = self._studies.get(study)
            if known is None:
                known = self._studies[study] = _Study(why, Backoff(*LOOKS), due=0.0)
            elif known.left_alone:
                return
            known.why, known.left_alone, known.stored = why, True, False
            known.due = time.monotonic() + known.backoff.delay()
        log.warning("no trials of study %s are claimed until its %s can be read on this machine: %s", study, why.what, why.detail)

    def ids(self) -> frozenset[str]:
        """The studies from which nothing is claimed. A study stays among them until its recovery is reported to the store."""
        with self._lock:
            return frozenset(study for study, known in self._studies.items() if known.left_alone or not known.stored)

    def was_read(self, study: str) -> None:
        """Note that data and weights of the study were read: the next failure starts with the shortest delay."""
        with self._lock:
            if (known := self._studies.get(study)) is not None and not known.left_alone and known.stored:
                del self._studies[study]

    def tend(self) -> bool:
        """Report changes to the store, and start the attempts that are due. True if trials of a study can be claimed again.

        Raises StoreUnavailable.
        """
        claimable = False
        for study, known in self._all():
            if not known.stored:
                claimable = self._report(study, known) or claimable
        for study, known in self._all():
            if known.left_alone and not known.looking and time.monotonic() >= known.due:
                known.looking = True
                threading.Thread(target=self._look, args=(study, known), name="look", daemon=True).start()
        return claimable

    def _all(self) -> list[tuple[str, _Study]]:
        with self._lock:
            return list(self._studies.items())

    def _report(self, study: str, known: _Study) -> bool:
        """Report to the store whether this worker can read the study. True if its trials can be claimed. Raises StoreUnavailable."""
        with self._lock:
            left_alone, why = known.left_alone, known.why
        try:
            if left_alone:
                goes_on = operations.report_unavailable(self._store, self._worker, study, why.what, why.detail)
            else:
                goes_on = operations.report_available(self._store, self._worker, study)
        except StoreUnavailable:
            raise
        except ThawlineError as error:
            log.info("no further attempts to read the data or weights of study %s: %s", study, error)
            goes_on = False
        with self._lock:
            if not goes_on:
                self._studies.pop(study, None)
            elif known.left_alone is left_alone and known.why is why:  # no change since the report
                known.stored = True
            return goes_on and not left_alone

    def _look(self, study: str, known: _Study) -> None:
        readable = all(is_readable(Path(path)) for path in known.why.paths)
        with self._lock:
            known.looking = False
            known.due = time.monotonic() + known.backoff.delay()
            known.left_alone = not readable
            known.stored = False  # report it again also if it is not readable: the answer shows whether the study still exists and runs
        if readable:
            log.info("trials of study %s are claimed again: its %s can be read", study, known.why.what)
