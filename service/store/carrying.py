"""Writes of what a study brings along from elsewhere, many rows at once."""

from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
from sqlalchemy.exc import OperationalError

from service.domain.states import ValueKind
from service.store.engine import Transaction
from service.store.rows import HeldTrial

ROWS = 20_000  # in one statement
COLUMNS = ("trial", "step", "name", "attempt", "value", "kind", "seq")
Row = tuple[int, int, str, int, float | None, str, int]


class Carrier:
    """Gathers what trials reported; it reaches the database in large pieces, the last one by `write`."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx
        self._rows: list[Row] = []

    def add(self, one: HeldTrial, steps: Sequence[int], metrics: Mapping[str, Sequence[float | str | None]]) -> None:
        """Metrics of an inserted trial in columns: a value for each step, a word for what is no finite number, None where it has none."""
        key, attempt, seq, finite = one.id, one.attempt, one.changed, str(ValueKind.FINITE)
        columns = sorted(metrics.items())
        for place, step in enumerate(steps):  # in the order of the table's key, in which rows are added three times as fast
            for name, column in columns:
                told = column[place]
                if isinstance(told, str):
                    self._rows.append((key, step, name, attempt, None, told, seq))
                elif told is not None:
                    self._rows.append((key, step, name, attempt, told, finite, seq))
        if len(self._rows) >= ROWS:
            self.write()

    def write(self) -> None:
        """Send what was gathered, past what SQLAlchemy does for each row: others wait for it."""
        if not self._rows:
            return
        listed = ", ".join(COLUMNS)
        if self._tx.dialect.name == "sqlite":
            marks = ", ".join("?" * len(COLUMNS))
            self._tx.exec_driver_sql(f"INSERT INTO metric ({listed}) VALUES ({marks})", self._rows)  # noqa: S608  (fixed words)
        else:
            self._copy(f"COPY metric ({listed}) FROM STDIN")
        self._rows = []

    def _copy(self, statement: str) -> None:
        driver: Any = self._tx.connection.dbapi_connection
        try:
            with driver.cursor() as cursor, cursor.copy(statement) as copy:
                for row in self._rows:
                    copy.write_row(row)
        except psycopg.OperationalError as error:
            raise OperationalError(statement, None, error) from error
