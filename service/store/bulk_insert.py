"""Metric rows of an imported study, many in one statement."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import psycopg
from sqlalchemy.exc import OperationalError

from service.domain.states import ValueKind
from service.store.engine import Transaction
from service.store.rows import HeldTrial

COLUMNS = ("trial", "step", "name", "attempt", "value", "kind", "seq")
Row = tuple[int, int, str, int, float | None, str, int]


def metric_rows(one: HeldTrial, steps: Sequence[int], metrics: Mapping[str, Sequence[float | str | None]]) -> Iterator[Row]:
    """Metrics of an inserted trial in columns: a value for each step, a word for what is no finite number, None where it has none."""
    key, attempt, seq, finite = one.id, one.attempt, one.changed, str(ValueKind.FINITE)
    columns = sorted(metrics.items())
    for place, step in enumerate(steps):  # in the order of the table's key, in which rows are added three times as fast
        for name, column in columns:
            told = column[place]
            if isinstance(told, str):
                yield key, step, name, attempt, None, told, seq
            elif told is not None:
                yield key, step, name, attempt, float(told), finite, seq


def insert_metrics(tx: Transaction, rows: Sequence[Row]) -> None:
    """Insert the rows, past what SQLAlchemy does for each of them: others wait for it."""
    listed = ", ".join(COLUMNS)
    if tx.dialect.name == "sqlite":
        marks = ", ".join("?" * len(COLUMNS))
        tx.exec_driver_sql(f"INSERT INTO metric ({listed}) VALUES ({marks})", list(rows))  # noqa: S608  (fixed words)
    else:
        _copy(tx, f"COPY metric ({listed}) FROM STDIN", rows)


def _copy(tx: Transaction, statement: str, rows: Sequence[Row]) -> None:
    driver: Any = tx.connection.dbapi_connection
    try:
        with driver.cursor() as cursor, cursor.copy(statement) as copy:
            for row in rows:
                copy.write_row(row)
    except psycopg.OperationalError as error:
        raise OperationalError(statement, None, error) from error
