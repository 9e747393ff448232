"""Attempts and logs of trials, and counters of failures in a row, crashes and seconds of stale leases."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column("study", sa.Column("failures", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("trial", sa.Column("crashes", sa.Integer(), nullable=False, server_default="0"))
    op.create_table(
        "attempt",
        sa.Column("trial", KEY, nullable=False),
        sa.Column("attempt", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("worker", sa.String(length=128), nullable=False),
        sa.Column("resumed", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("ended_at", sa.Double(), nullable=True),
        sa.Column("ending", sa.String(length=16), nullable=True),
        sa.Column("step", sa.Integer(), nullable=True),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.Column("log_bytes", sa.Integer(), nullable=False, server_default="0"),
        sa.CheckConstraint(
            "ending IN ('complete', 'pruned', 'failed', 'cancelled', 'released', 'lost', 'crashed')", name=op.f("ck_attempt_ending")
        ),
        sa.CheckConstraint("(ending IS NULL) = (ended_at IS NULL)", name=op.f("ck_attempt_ending_has_time")),
        sa.ForeignKeyConstraint(["trial"], ["trial.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("trial", "attempt"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "log",
        sa.Column("trial", KEY, nullable=False),
        sa.Column("attempt", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("seq", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["trial"], ["trial.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("trial", "attempt", "seq"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "standstill",
        sa.Column("trial", KEY, nullable=False),
        sa.Column("heartbeats", sa.BigInteger(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["trial"], ["trial.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("trial"),
        sqlite_with_rowid=False,
    )
