"""Worker state `draining`, and the memory of the workers' devices."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

STATES = "state IN ('alive', 'draining', 'gone')"
KEPT = "id, host, pid, slots, devices, state, started_at, seen_at"


def upgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        _copy_table()
    else:
        op.add_column("worker", sa.Column("memory", sa.JSON(), nullable=True))
        op.drop_constraint(op.f("ck_worker_state"), "worker", type_="check")
        op.create_check_constraint(op.f("ck_worker_state"), "worker", STATES)


def _copy_table() -> None:
    """Copy the table, because SQLite cannot change a constraint of an existing table."""
    op.rename_table("worker", "worker_of_0002")
    op.create_table(
        "worker",
        sa.Column("id", sa.String(length=128), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("slots", sa.Integer(), nullable=False),
        sa.Column("devices", sa.JSON(), nullable=False),
        sa.Column("memory", sa.JSON(), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("seen_at", sa.Double(), nullable=False),
        sa.CheckConstraint(STATES, name=op.f("ck_worker_state")),
        sa.PrimaryKeyConstraint("id"),
    )
    op.execute(f"INSERT INTO worker ({KEPT}) SELECT {KEPT} FROM worker_of_0002")  # noqa: S608  (columns of our own)
    op.drop_table("worker_of_0002")
