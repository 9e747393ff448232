"""Drop the tables of artifacts and API keys, to which no version wrote a row."""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_table("artifact")
    op.drop_table("api_key")
