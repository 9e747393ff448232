"""The schema that the migrations give, as each database states it."""

from contextlib import closing

from sqlalchemy import make_url, text

from service.store import open_store
from tests.goldens.golden import Goldens

SQLITE = "SELECT trim(sql) || ';' FROM sqlite_master WHERE sql IS NOT NULL ORDER BY type, name"  # NULL: what a table implies
POSTGRESQL = """
SELECT line FROM (
    SELECT format('%s: %s %s%s%s', table_name, column_name, data_type || coalesce('(' || character_maximum_length || ')', ''),
        CASE is_nullable WHEN 'NO' THEN ' not null' ELSE '' END, coalesce(' default ' || column_default, '')) AS line
        FROM information_schema.columns WHERE table_schema = 'public'
    UNION ALL SELECT format('%s: constraint %s %s', conrelid::regclass, conname, pg_get_constraintdef(oid)) FROM pg_constraint
        WHERE connamespace = 'public'::regnamespace AND contype <> 'n'  -- not null is a constraint since PostgreSQL 18
    UNION ALL SELECT format('%s: index %s', tablename, indexdef) FROM pg_indexes WHERE schemaname = 'public'
    UNION ALL SELECT format('%s: trigger %s', tgrelid::regclass, pg_get_triggerdef(oid)) FROM pg_trigger WHERE NOT tgisinternal
    UNION ALL SELECT format('function %s', pg_get_functiondef(oid)) FROM pg_proc WHERE pronamespace = 'public'::regnamespace
) AS lines ORDER BY line COLLATE "C"
"""


def test_the_schema_of_a_new_database(database_url: str, goldens: Goldens) -> None:
    backend = make_url(database_url).get_backend_name()
    with closing(open_store(database_url)) as store, store.reading() as tx:
        stated = tx.scalars(text(SQLITE if backend == "sqlite" else POSTGRESQL)).all()
        revision = tx.scalar(text("SELECT version_num FROM thaw_schema"))
    lines = "\n".join([f"-- revision {revision}", *stated]).splitlines()
    goldens.check(f"schema-{backend}.txt", "".join(f"{line.rstrip()}\n" for line in lines if line.strip()))
