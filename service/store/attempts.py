"""Attempts and their logs, buffered in one transaction and written with one statement for each kind of change."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, func, insert, select, tuple_, update

from service.domain.states import AttemptEnd, TrialState
from service.store.codec import cleaned
from service.store.engine import Transaction
from service.store.rows import HeldTrial
from service.store.schema import attempt, log

LOG_BYTES = 10_000_000  # UTF-8 bytes stored of an attempt's log
CHUNK_BYTES = 64_000
CUT = "... the log is longer than 10 MB; the rest was not kept\n"

AttemptKey = tuple[int, int]
"""A trial's key and the number of the attempt."""


@dataclass(slots=True)
class Position:
    """The end of an attempt's stored log."""

    seq: int  # of the last chunk
    bytes: int  # stored so far; LOG_BYTES + 1 or more marks a truncated log


class Attempts:
    """Begins and ends attempts as the trials of a unit of work change. Only `write` writes to the database."""

    def __init__(self, tx: Transaction, now: float) -> None:
        self._tx = tx
        self._now = now
        self._begun: list[dict[str, Any]] = []
        self._ended: list[dict[str, Any]] = []
        self._chunks: list[dict[str, Any]] = []
        self._positions: dict[AttemptKey, Position] = {}
        self._grown: set[AttemptKey] = set()
        self._earlier: dict[AttemptKey, int] = {}
        self.token_sha256: str | None = None  # of the attempts that begin, if they are claimed over REST
        self.begun: list[HeldTrial] = []  # the trials whose attempts began in this transaction

    def follow(self, before: HeldTrial, after: HeldTrial, why: str | None) -> None:
        """Begin an attempt when its trial starts, end it when the trial stops running. `why` replaces the trial's detail."""
        if before.state is not TrialState.RUNNING and after.state is TrialState.RUNNING:
            self.begin(after)
        if before.state is TrialState.RUNNING and after.state is not TrialState.RUNNING:
            detail = why or after.detail
            ended = {"ended_at": self._now, "ending": _ending(before, after), "step": after.step, "detail": detail and cleaned(detail)}
            self._ended.append({"its_trial": after.id, "its_attempt": before.attempt, **ended})

    def begin(self, trial: HeldTrial) -> None:
        """Begin the attempt of a trial that was just started from its newest checkpoint."""
        # Without checkpoints the last report is that of a script, which keeps its own: its first report corrects the step.
        resumed = trial.checkpoints[0].step if trial.checkpoints else trial.step
        worker = trial.worker and cleaned(trial.worker)
        row = {"trial": trial.id, "attempt": trial.attempt, "worker": worker, "resumed": resumed, "started_at": self._now}
        self._begun.append(row | {"token_sha256": self.token_sha256})
        self.begun.append(trial)

    def resumed_before(self, trial: HeldTrial, step: int) -> None:
        """Note that the running attempt reported `step`, so it resumed from an earlier one: it could not use a later checkpoint."""
        key = (trial.id, trial.attempt)
        self._earlier[key] = min(step - 1, self._earlier.get(key, step - 1))

    def ending(self, trial: int, number: int) -> AttemptEnd | None:
        """The end of the attempt that an earlier transaction stored; None when it has not ended."""
        stored = self._tx.scalar(select(attempt.c.ending).where(attempt.c.trial == trial, attempt.c.attempt == number))
        return None if stored is None else AttemptEnd(stored)

    def detail(self, trial: int, number: int) -> str | None:
        """Why the attempt ended, as an earlier transaction stored it."""
        return self._tx.scalar(select(attempt.c.detail).where(attempt.c.trial == trial, attempt.c.attempt == number))

    def find_logs(self, keys: Collection[AttemptKey]) -> None:
        """Load the ends of these attempts' logs. Call it before `log`."""
        if keys:
            found = self._tx.execute(POSITIONS, {"keys": list(keys)})
            self._positions |= {(trial, number): Position(seq or 0, kept) for trial, number, kept, seq in found}

    def log(self, trial: HeldTrial, text: str, start: int | None = None) -> int | None:
        """Append whole lines to a log that `find_logs` loaded.

        `start` is the offset of the lines in bytes; lines that are stored already are not appended again. Returns the number of the
        last chunk, or None when nothing was appended.
        """
        key = (trial.id, trial.attempt)
        position = self._positions.setdefault(key, Position(0, 0))
        if position.bytes > LOG_BYTES:
            return None
        # A worker sends a write again when it received no answer, so the first bytes may be stored already.
        stored = 0 if start is None else max(0, position.bytes - start)
        new = cleaned(text).encode()[stored:].decode(errors="ignore")
        if not new:
            return None
        free = LOG_BYTES - position.bytes
        fits = _size(new) <= free
        for part in _parts(new if fits else _lines_within(new, free) + CUT):
            position.seq += 1
            position.bytes += _size(part)
            self._chunks.append({"trial": key[0], "attempt": key[1], "seq": position.seq, "at": self._now, "text": part})
        if not fits:
            position.bytes = max(position.bytes, LOG_BYTES + 1)
        self._grown.add(key)
        return position.seq

    def write(self) -> None:
        """Write the buffered changes to the database."""
        if self._begun:
            self._tx.execute(insert(attempt), self._begun)
        if self._chunks:
            self._tx.execute(insert(log), self._chunks)
            grown = [{"its_trial": key[0], "its_attempt": key[1], "log_bytes": self._positions[key].bytes} for key in self._grown]
            self._tx.execute(CHANGE, grown)
        if self._earlier:
            keys = self._earlier.items()
            self._tx.execute(EARLIER, [{"its_trial": trial, "its_attempt": number, "at_most": step} for (trial, number), step in keys])
        if self._ended:
            self._tx.execute(CHANGE, self._ended)


def _ending(before: HeldTrial, after: HeldTrial) -> AttemptEnd:
    if after.crashes > before.crashes:
        return AttemptEnd.CRASHED
    if after.lost > before.lost:
        return AttemptEnd.LOST
    return AttemptEnd.RELEASED if after.state is TrialState.QUEUED else AttemptEnd(after.state)


def _lines_within(text: str, size: int) -> str:
    """The first lines that fit into `size` bytes."""
    encoded = text.encode()
    return encoded[: encoded.rfind(b"\n", 0, size) + 1].decode()


def _parts(text: str) -> Iterator[str]:
    """Split the text into chunks of whole lines. A line that is longer than a chunk is split."""
    encoded = text.encode()
    while len(encoded) > CHUNK_BYTES:
        end = encoded.rfind(b"\n", 0, CHUNK_BYTES) + 1
        head = encoded[: end or CHUNK_BYTES].decode(errors="ignore")
        yield head
        encoded = encoded[_size(head) :]
    if encoded:
        yield encoded.decode()


def _size(text: str) -> int:
    return len(text.encode())


_LAST = select(func.max(log.c.seq)).where(log.c.trial == attempt.c.trial, log.c.attempt == attempt.c.attempt).scalar_subquery()
CHANGE = update(attempt).where(attempt.c.trial == bindparam("its_trial"), attempt.c.attempt == bindparam("its_attempt"))
EARLIER = CHANGE.where(attempt.c.resumed > bindparam("at_most")).values(resumed=bindparam("at_most"))
POSITIONS = select(attempt.c.trial, attempt.c.attempt, attempt.c.log_bytes, _LAST).where(
    tuple_(attempt.c.trial, attempt.c.attempt).in_(bindparam("keys", expanding=True))
)
