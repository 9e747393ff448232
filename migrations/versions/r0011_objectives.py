"""Another objective for a study that has ended: the value of a complete or pruned trial may change, and nothing else of an ended trial."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

ENDED = "OLD.state IN ('complete', 'pruned', 'failed', 'cancelled')"
JUDGED = "OLD.state IN ('complete', 'pruned')"
JUDGEMENT = {"value", "value_kind", "changed"}


def upgrade() -> None:
    on_sqlite = op.get_bind().dialect.name == "sqlite"
    differs = "IS NOT" if on_sqlite else "IS DISTINCT FROM"
    as_text = "" if on_sqlite else "::text"  # PostgreSQL compares no json
    columns = [str(column["name"]) for column in sa.inspect(op.get_bind()).get_columns("trial")]
    kept = " OR ".join(f"NEW.{name}{as_text} {differs} OLD.{name}{as_text}" for name in columns if name not in JUDGEMENT)
    refused = f"{ENDED} AND NOT ({JUDGED} AND NOT ({kept}))"
    if on_sqlite:
        op.execute("DROP TRIGGER trial_end_absorbs")
        op.execute(
            f"CREATE TRIGGER trial_end_absorbs BEFORE UPDATE ON trial WHEN {refused}\n"
            "BEGIN SELECT RAISE(ABORT, 'a trial that has ended never changes, except its value'); END"
        )
    else:
        op.execute("DROP TRIGGER trial_end_absorbs ON trial")
        op.execute(
            f"CREATE TRIGGER trial_end_absorbs BEFORE UPDATE ON trial FOR EACH ROW WHEN ({refused})\nEXECUTE FUNCTION thaw_refuse_change()"
        )
