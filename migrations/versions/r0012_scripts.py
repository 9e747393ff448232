"""Scripts: folders in which a worker may run them, the failure reason `metric_missing`, and studies whose script a worker may not run."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

REASONS_BEFORE = "reason IN ('out_of_memory', 'diverged', 'crashed', 'timeout', 'bad_data', 'script_error', 'lost', 'infeasible')"
REASONS = REASONS_BEFORE.replace("'infeasible')", "'infeasible', 'metric_missing')")
WHAT_BEFORE = "what IN ('data', 'weights')"
WHAT = WHAT_BEFORE.replace("'weights')", "'weights', 'script')")


def upgrade() -> None:
    op.add_column("worker", sa.Column("scripts", sa.JSON(none_as_null=True), nullable=True))
    for table, name, before, after in (("trial", "reason", REASONS_BEFORE, REASONS), ("unavailable", "what", WHAT_BEFORE, WHAT)):
        if op.get_bind().dialect.name == "sqlite":
            _change_sqlite_constraint(table, before, after)
        else:
            op.drop_constraint(op.f(f"ck_{table}_{name}"), table, type_="check")
            op.create_check_constraint(op.f(f"ck_{table}_{name}"), table, after)


def _change_sqlite_constraint(table: str, before: str, after: str) -> None:
    """See revision 0010: copying the table would delete the rows that refer to it."""
    connection = op.get_bind()
    version = connection.exec_driver_sql("PRAGMA schema_version").scalar_one()
    connection.exec_driver_sql("PRAGMA writable_schema = ON")
    changed = connection.execute(
        sa.text("UPDATE sqlite_master SET sql = replace(sql, :before, :after) WHERE type = 'table' AND name = :table"),
        {"before": before, "after": after, "table": table},
    )
    connection.exec_driver_sql(f"PRAGMA schema_version = {version + 1}")
    connection.exec_driver_sql("PRAGMA writable_schema = OFF")
    if changed.rowcount != 1:
        raise RuntimeError(f"the table {table} was not found")
