"""SQL that the two databases support with different syntax, and metric rows of an imported study, many in one statement."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import psycopg
from sqlalchemy import JSON, Column, ColumnElement, Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.visitors import InternalTraversal

from service.domain.states import ValueKind
from service.store.engine import Transaction
from service.store.rows import HeldTrial

Insert = postgresql.Insert | sqlite.Insert


def insert_or_replace(tx: Transaction, table: Table) -> Insert:
    """An INSERT that overwrites the row with the same primary key."""
    return _insert_or_replace(tx.dialect.name, table)


@cache  # building the statement takes longer than running it, and every report needs it
def _insert_or_replace(dialect: str, table: Table) -> Insert:
    statement = _insert(dialect, table)
    others = [column.name for column in table.columns if not column.primary_key]
    keys = [column.name for column in table.primary_key]
    return statement.on_conflict_do_update(index_elements=keys, set_={name: statement.excluded[name] for name in others})


def insert_if_new(tx: Transaction, table: Table) -> Insert:
    """An INSERT that does nothing when a row with the same key or unique value exists."""
    return _insert(tx.dialect.name, table).on_conflict_do_nothing()


class WithoutKeys(ColumnElement[Any]):
    """A column of JSON objects without some keys. The keys are literals in the SQL: pass constants, never external text."""

    inherit_cache = True
    type = JSON()
    _traverse_internals = [("column", InternalTraversal.dp_clauseelement), ("keys", InternalTraversal.dp_plain_obj)]  # noqa: RUF012

    def __init__(self, column: Column[Any], keys: tuple[str, ...]) -> None:
        self.column = column
        self.keys = keys


@compiles(WithoutKeys, "sqlite")
def _without_keys_sqlite(element: WithoutKeys, compiler: SQLCompiler, **options: Any) -> str:
    paths = ", ".join(f"'$.{key}'" for key in element.keys)
    return f"json_remove({compiler.process(element.column, **options)}, {paths})"


@compiles(WithoutKeys, "postgresql")
def _without_keys_postgresql(element: WithoutKeys, compiler: SQLCompiler, **options: Any) -> str:
    """Uses json_each, which keeps the values as stored; jsonb rejects some texts that json accepts, such as \\u0000."""
    listed = ", ".join(f"'{key}'" for key in element.keys)
    column = compiler.process(element.column, **options)
    kept = f"SELECT json_object_agg(each.key, each.value) FROM json_each({column}) AS each WHERE each.key NOT IN ({listed})"  # noqa: S608
    return f"coalesce(({kept}), '{{}}'::json)"


def _insert(dialect: str, table: Table) -> Insert:
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)


COLUMNS = ("trial", "step", "name", "attempt", "value", "kind", "seq")
MetricRow = tuple[int, int, str, int, float | None, str, int]


def metric_rows(one: HeldTrial, steps: Sequence[int], metrics: Mapping[str, Sequence[float | str | None]]) -> Iterator[MetricRow]:
    """The rows of a trial's metrics. Each column has a number, a ValueKind or None (no value) for each step."""
    key, attempt, seq, finite = one.id, one.attempt, one.changed, str(ValueKind.FINITE)
    columns = sorted(metrics.items())
    # The table stores its rows in the order of its key (WITHOUT ROWID): inserting in that order is three times as fast.
    for index, step in enumerate(steps):
        for name, column in columns:
            value = column[index]
            if isinstance(value, str):
                yield key, step, name, attempt, None, value, seq
            elif value is not None:
                yield key, step, name, attempt, float(value), finite, seq


def insert_metrics(tx: Transaction, rows: Sequence[MetricRow]) -> None:
    """Insert the rows through the driver, without SQLAlchemy's cost for each row, to hold the write lock for less time."""
    listed = ", ".join(COLUMNS)
    if tx.dialect.name == "sqlite":
        marks = ", ".join("?" * len(COLUMNS))
        tx.exec_driver_sql(f"INSERT INTO metric ({listed}) VALUES ({marks})", list(rows))  # noqa: S608  (fixed words)
    else:
        _copy(tx, f"COPY metric ({listed}) FROM STDIN", rows)


def _copy(tx: Transaction, statement: str, rows: Sequence[MetricRow]) -> None:
    driver: Any = tx.connection.dbapi_connection
    try:
        with driver.cursor() as cursor, cursor.copy(statement) as copy:
            for row in rows:
                copy.write_row(row)
    except psycopg.OperationalError as error:
        raise OperationalError(statement, None, error) from error
