"""First schema: studies, trials, metrics, events, workers and idempotency keys."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
ENDED = "OLD.state IN ('complete', 'pruned', 'failed', 'cancelled')"

SQLITE_ABSORBS = f"""
CREATE TRIGGER trial_end_absorbs BEFORE UPDATE ON trial WHEN {ENDED}
BEGIN SELECT RAISE(ABORT, 'a trial that has ended never changes'); END
"""
POSTGRESQL_REFUSES = """
CREATE FUNCTION thaw_refuse_change() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'a trial that has ended never changes' USING ERRCODE = 'integrity_constraint_violation'; END $$
"""
POSTGRESQL_ABSORBS = f"""
CREATE TRIGGER trial_end_absorbs BEFORE UPDATE ON trial FOR EACH ROW WHEN ({ENDED}) EXECUTE FUNCTION thaw_refuse_change()
"""


def upgrade() -> None:
    _create_tables()
    if op.get_bind().dialect.name == "sqlite":
        op.execute(SQLITE_ABSORBS)
    else:
        op.execute(POSTGRESQL_REFUSES)
        op.execute(POSTGRESQL_ABSORBS)


def _create_tables() -> None:
    op.create_table(
        "api_key",
        sa.Column("id", sa.String(length=16), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("revoked_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
        sa.UniqueConstraint("sha256"),
    )
    op.create_table(
        "idempotency",
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("request_sha256", sa.String(length=64), nullable=False),
        sa.Column("answer", sa.Text(), nullable=True),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_index(op.f("ix_idempotency_at"), "idempotency", ["at"], unique=False)
    op.create_table(
        "study",
        sa.Column("id", sa.String(length=16), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.Column("facts", sa.Text(), nullable=True),
        sa.Column("created", sa.Integer(), nullable=False),
        sa.Column("exhausted", sa.Boolean(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=True),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.CheckConstraint("state IN ('active', 'paused', 'stopped', 'complete', 'failed')", name=op.f("ck_study_state")),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )
    op.create_index(op.f("ix_study_state"), "study", ["state"], unique=False)
    op.create_table(
        "worker",
        sa.Column("id", sa.String(length=128), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("slots", sa.Integer(), nullable=False),
        sa.Column("devices", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("seen_at", sa.Double(), nullable=False),
        sa.CheckConstraint("state IN ('alive', 'gone')", name=op.f("ck_worker_state")),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "event",
        sa.Column("study_id", sa.String(length=16), nullable=False),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("study_id", "seq"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "trial",
        sa.Column("id", KEY, nullable=False),
        sa.Column("study_id", sa.String(length=16), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("params", sa.JSON(), nullable=False),
        sa.Column("params_key", sa.String(length=64), nullable=False),
        sa.Column("value", sa.Double(), nullable=True),
        sa.Column("value_kind", sa.String(length=8), nullable=False),
        sa.Column("metrics", sa.JSON(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("lost", sa.Integer(), nullable=False),
        sa.Column("heartbeat", sa.BigInteger(), nullable=False),
        sa.Column("worker", sa.String(length=128), nullable=True),
        sa.Column("checkpoints", sa.JSON(), nullable=False),
        sa.Column("reason", sa.String(length=16), nullable=True),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.Column("duplicate_of", sa.Integer(), nullable=True),
        sa.Column("source", sa.String(length=16), nullable=False),
        sa.Column("memory", sa.JSON(), nullable=False),
        sa.Column("result", sa.JSON(), nullable=False),
        sa.Column("changed", sa.BigInteger(), nullable=False),
        sa.Column("queued_at", sa.Double(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=True),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.CheckConstraint("(state = 'failed') = (reason IS NOT NULL)", name=op.f("ck_trial_failure_has_reason")),
        sa.CheckConstraint("(value_kind = 'finite') = (value IS NOT NULL)", name=op.f("ck_trial_value_is_finite")),
        sa.CheckConstraint(
            "reason IN ('out_of_memory', 'diverged', 'crashed', 'timeout', 'bad_data', 'script_error', 'lost')",
            name=op.f("ck_trial_reason"),
        ),
        sa.CheckConstraint("state <> 'running' OR (worker IS NOT NULL AND attempt > 0)", name=op.f("ck_trial_running_has_lease")),
        sa.CheckConstraint(
            "state IN ('queued', 'running', 'paused', 'complete', 'pruned', 'failed', 'cancelled')", name=op.f("ck_trial_state")
        ),
        sa.CheckConstraint("value_kind IN ('finite', 'nan', 'pos_inf', 'neg_inf', 'missing')", name=op.f("ck_trial_value_kind")),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("study_id", "number"),
    )
    op.create_index(op.f("ix_trial_study_id_changed"), "trial", ["study_id", "changed"], unique=False)
    op.create_index(op.f("ix_trial_study_id_params_key"), "trial", ["study_id", "params_key"], unique=False)
    op.create_index(op.f("ix_trial_study_id_state"), "trial", ["study_id", "state"], unique=False)
    op.create_table(
        "artifact",
        sa.Column("id", KEY, nullable=False),
        sa.Column("study_id", sa.String(length=16), nullable=False),
        sa.Column("trial", KEY, nullable=True),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["trial"], ["trial.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_artifact_study_id"), "artifact", ["study_id"], unique=False)
    op.create_index(op.f("ix_artifact_trial"), "artifact", ["trial"], unique=False)
    op.create_table(
        "metric",
        sa.Column("trial", KEY, nullable=False),
        sa.Column("step", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("value", sa.Double(), nullable=True),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("(kind = 'finite') = (value IS NOT NULL)", name=op.f("ck_metric_value_is_finite")),
        sa.CheckConstraint("kind IN ('finite', 'nan', 'pos_inf', 'neg_inf', 'missing')", name=op.f("ck_metric_kind")),
        sa.ForeignKeyConstraint(["trial"], ["trial.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("trial", "step", "name"),
        sqlite_with_rowid=False,
    )
