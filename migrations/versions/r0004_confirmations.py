"""Confirmation of the best configurations, and the manifest of the examples that a study was checked with."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

RULE = "(source = 'confirmation') = (confirms IS NOT NULL AND round IS NOT NULL)"


def upgrade() -> None:
    op.create_table(
        "manifest",
        sa.Column("study_id", sa.String(length=16), nullable=False),
        sa.Column("digests", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("study_id"),
    )
    op.add_column("study", sa.Column("confirmation", sa.Text(), nullable=True))
    op.add_column("trial", sa.Column("confirms", sa.Integer(), nullable=True))
    if op.get_bind().dialect.name == "sqlite":  # SQLite can add a constraint only with a new column
        op.execute(f"ALTER TABLE trial ADD COLUMN round INTEGER CONSTRAINT ck_trial_confirmation_has_round CHECK ({RULE})")
    else:
        op.add_column("trial", sa.Column("round", sa.Integer(), nullable=True))
        op.create_check_constraint(op.f("ck_trial_confirmation_has_round"), "trial", RULE)
