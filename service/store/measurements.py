"""The metrics of trials, as one transaction changes them: written together at its end."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Integer, delete, insert, literal, select

from service.domain.records import Report
from service.store.codec import finite, kind_of, number_of
from service.store.dialect import insert_or_replace
from service.store.engine import Transaction
from service.store.rows import HeldTrial
from service.store.schema import metric, trial


class Measurements:
    """What the trials of a ledger report. But for `forget_above` nothing reaches the database before `write`."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx
        self._reported: dict[tuple[int, int, str], dict[str, Any]] = {}
        self._copies: list[int] = []

    def at(self, one: HeldTrial, step: int) -> dict[str, float]:
        """What earlier transactions reported of the trial for the step."""
        return self._found(one, step)

    def told(self, one: HeldTrial, step: int) -> dict[str, float]:
        """What the attempt that runs has reported for the step in earlier transactions."""
        return self._found(one, step, metric.c.attempt == one.attempt)

    def _found(self, one: HeldTrial, step: int, *conditions: ColumnElement[bool]) -> dict[str, float]:
        query = select(metric.c.name, metric.c.value, metric.c.kind).where(metric.c.trial == one.id, metric.c.step == step, *conditions)
        return {name: number_of(value, kind) for name, value, kind in self._tx.execute(query)}

    def by_step(self, one: HeldTrial, name: str, steps: Sequence[int]) -> dict[int, float]:
        """One metric of the trial at those of the steps that have it, with what this transaction reports."""
        query = select(metric.c.step, metric.c.value, metric.c.kind)
        query = query.where(metric.c.trial == one.id, metric.c.name == name, metric.c.step.in_(steps))
        found = {step: number_of(value, kind) for step, value, kind in self._tx.execute(query)}
        reported = {step: self._reported[one.id, step, name] for step in steps if (one.id, step, name) in self._reported}
        return found | {step: number_of(row["value"], row["kind"]) for step, row in reported.items()}

    def report(self, one: HeldTrial, reports: Iterable[Report], seq: int) -> None:
        """Keep the metrics of steps; a later report of a step supersedes the earlier one. `seq` is the event's that tells of them."""
        for report in reports:
            for name, number in report.metrics.items():
                key = {"trial": one.id, "step": report.step, "name": name}
                value = {"attempt": one.attempt, "value": finite(number), "kind": kind_of(number), "seq": seq}
                self._reported[one.id, report.step, name] = key | value

    def forget_above(self, one: HeldTrial, step: int) -> None:
        """Drop the metrics of later steps: the trial goes on from this one."""
        self._tx.execute(delete(metric).where(metric.c.trial == one.id, metric.c.step > step))

    def copy_to(self, duplicate: HeldTrial) -> None:
        """Give an answered duplicate the metrics of its original."""
        self._copies.append(duplicate.id)

    def write(self, seq: int) -> None:
        """Send all of it to the database. `seq` is that of the study's last event."""
        if self._reported:
            self._tx.execute(insert_or_replace(self._tx, metric), list(self._reported.values()))
        if self._copies:
            self._tx.execute(_copying(self._copies, seq))


def _copying(duplicates: Collection[int], seq: int) -> Any:
    """Metrics of originals, inserted for their duplicates."""
    duplicate, original = trial.alias("duplicate"), trial.alias("original")
    same = (original.c.study_id == duplicate.c.study_id) & (original.c.number == duplicate.c.duplicate_of)
    columns = ("trial", "step", "name", "attempt", "value", "kind", "seq")
    copied = (
        select(duplicate.c.id, metric.c.step, metric.c.name, literal(0, Integer), metric.c.value, metric.c.kind, literal(seq))
        .join(original, same)
        .join(metric, metric.c.trial == original.c.id)
        .where(duplicate.c.id.in_(duplicates))
    )
    return insert(metric).from_select(columns, copied)
