"""Alembic environment: runs the revisions in the connection and transaction that `service.store.migrate` passes."""

from alembic import context

from service.store.schema import VERSION_TABLE, metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    transactional_ddl=True,
    include_name=lambda name, kind, _parents: kind != "table" or name in metadata.tables,  # ignore tables of other programs
)
with context.begin_transaction():
    context.run_migrations()
