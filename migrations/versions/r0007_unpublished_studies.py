"""Hidden studies: an import writes several transactions, and the last one makes the study visible."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("study", sa.Column("unpublished", sa.BigInteger(), nullable=True))
