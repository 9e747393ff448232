"""A random key that signs the session cookies of this database's servers. Earlier sessions end."""

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    session_key = op.create_table(
        "session_key",
        sa.Column("one", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.CheckConstraint("one = 1", name=op.f("ck_session_key_single")),
        sa.PrimaryKeyConstraint("one"),
    )
    op.bulk_insert(session_key, [{"one": 1, "key": secrets.token_hex(32)}])
