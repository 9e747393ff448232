"""Failure reason `infeasible`, resumption of ended studies, and the study of an idempotency key."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

REASONS_BEFORE = "reason IN ('out_of_memory', 'diverged', 'crashed', 'timeout', 'bad_data', 'script_error', 'lost')"
REASONS = REASONS_BEFORE.replace("'lost')", "'lost', 'infeasible')")


def upgrade() -> None:
    op.add_column("study", sa.Column("recheck", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("study", sa.Column("idle_seconds", sa.Double(), nullable=False, server_default="0"))
    op.add_column("idempotency", sa.Column("study_id", sa.String(length=16), nullable=True))
    op.create_index(op.f("ix_idempotency_study_id"), "idempotency", ["study_id"], unique=False)
    if op.get_bind().dialect.name == "sqlite":
        _change_sqlite_constraint()
    else:
        op.drop_constraint(op.f("ck_trial_reason"), "trial", type_="check")
        op.create_check_constraint(op.f("ck_trial_reason"), "trial", REASONS)


def _change_sqlite_constraint() -> None:
    """Change the constraint in the text of sqlite_master, the procedure of sqlite.org/lang_altertable.html for constraints.

    Copying the table would delete the rows that refer to it: foreign keys cannot be disabled within a transaction.
    """
    connection = op.get_bind()
    version = connection.exec_driver_sql("PRAGMA schema_version").scalar_one()
    connection.exec_driver_sql("PRAGMA writable_schema = ON")
    changed = connection.execute(
        sa.text("UPDATE sqlite_master SET sql = replace(sql, :before, :after) WHERE type = 'table' AND name = 'trial'"),
        {"before": REASONS_BEFORE, "after": REASONS},
    )
    connection.exec_driver_sql(f"PRAGMA schema_version = {version + 1}")
    connection.exec_driver_sql("PRAGMA writable_schema = OFF")
    if changed.rowcount != 1:
        raise RuntimeError("the table of trials was not found")
