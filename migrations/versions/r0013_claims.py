"""Claims over REST: the digest of the token that writes to an attempt."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("attempt", sa.Column("token_sha256", sa.String(length=64), nullable=True))
