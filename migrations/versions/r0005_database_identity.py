"""A random identity of the database, and the number of results that workers set aside."""

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    identity = op.create_table(
        "database_identity",
        sa.Column("one", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.CheckConstraint("one = 1", name=op.f("ck_database_identity_single")),
        sa.PrimaryKeyConstraint("one"),
    )
    op.bulk_insert(identity, [{"one": 1, "id": secrets.token_hex(16)}])
    op.add_column("worker", sa.Column("set_aside", sa.Integer(), server_default="0", nullable=False))
