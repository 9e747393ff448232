"""Writes of what a study brings along from elsewhere, many rows at once."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import insert

from service.domain.states import ValueKind
from service.store.engine import Transaction
from service.store.rows import HeldTrial
from service.store.schema import metric

ROWS = 20_000  # in one statement


class Carrier:
    """Gathers what trials reported; it reaches the database in large pieces, the last one by `write`."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx
        self._rows: list[dict[str, Any]] = []

    def add(self, one: HeldTrial, steps: Sequence[int], metrics: Mapping[str, Sequence[float | str | None]]) -> None:
        """Metrics of an inserted trial in columns: a value for each step, a word for what is no finite number, None where it has none."""
        for name, column in metrics.items():
            fixed = {"trial": one.id, "name": name, "attempt": one.attempt, "seq": one.changed}
            self._rows += [
                {**fixed, "step": step, "value": None, "kind": told} if isinstance(told, str)
                else {**fixed, "step": step, "value": told, "kind": ValueKind.FINITE}
                for step, told in zip(steps, column, strict=True) if told is not None
            ]  # fmt: skip
        if len(self._rows) >= ROWS:
            self.write()

    def write(self) -> None:
        """Send what was gathered."""
        if self._rows:
            self._tx.execute(insert(metric), self._rows)
            self._rows = []
