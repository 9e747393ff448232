"""The second release: identity and session key of the database, imports, failure reason `infeasible`, resumption, unavailable studies,
names and faults of devices, device memory that a trial needs.

Earlier sessions end, since the new session key signs none of their cookies.
"""

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0004"
branch_labels = None
depends_on = None

REASONS_BEFORE = "reason IN ('out_of_memory', 'diverged', 'crashed', 'timeout', 'bad_data', 'script_error', 'lost')"
REASONS = REASONS_BEFORE.replace("'lost')", "'lost', 'infeasible')")


def upgrade() -> None:
    _add_random_values()
    op.add_column("worker", sa.Column("set_aside", sa.Integer(), server_default="0", nullable=False))
    op.add_column("worker", sa.Column("device_names", sa.JSON(none_as_null=True), nullable=True))
    op.add_column("worker", sa.Column("unusable", sa.JSON(none_as_null=True), nullable=True))
    op.add_column("study", sa.Column("unpublished", sa.BigInteger(), nullable=True))
    op.add_column("study", sa.Column("recheck", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("study", sa.Column("idle_seconds", sa.Double(), nullable=False, server_default="0"))
    op.add_column("idempotency", sa.Column("study_id", sa.String(length=16), nullable=True))
    op.add_column("trial", sa.Column("least_device_bytes", sa.BigInteger(), nullable=True))
    op.create_index(op.f("ix_idempotency_study_id"), "idempotency", ["study_id"], unique=False)
    if op.get_bind().dialect.name == "sqlite":
        _change_sqlite_constraint()
    else:
        op.drop_constraint(op.f("ck_trial_reason"), "trial", type_="check")
        op.create_check_constraint(op.f("ck_trial_reason"), "trial", REASONS)
    op.create_table(
        "unavailable",
        sa.Column("study_id", sa.String(length=16), nullable=False),
        sa.Column("worker", sa.String(length=128), nullable=False),
        sa.Column("what", sa.String(length=8), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("since", sa.Double(), nullable=False),
        sa.CheckConstraint("what IN ('data', 'weights')", name=op.f("ck_unavailable_what")),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("study_id", "worker"),
        sqlite_with_rowid=False,
    )
    op.drop_table("artifact")  # no version wrote a row to it
    op.drop_table("api_key")  # nor to it


def _add_random_values() -> None:
    """The random identity of the database, and the random key that signs the session cookies of its servers."""
    identity = op.create_table(
        "database_identity",
        sa.Column("one", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.CheckConstraint("one = 1", name=op.f("ck_database_identity_single")),
        sa.PrimaryKeyConstraint("one"),
    )
    op.bulk_insert(identity, [{"one": 1, "id": secrets.token_hex(16)}])
    session_key = op.create_table(
        "session_key",
        sa.Column("one", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.CheckConstraint("one = 1", name=op.f("ck_session_key_single")),
        sa.PrimaryKeyConstraint("one"),
    )
    op.bulk_insert(session_key, [{"one": 1, "key": secrets.token_hex(32)}])


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
