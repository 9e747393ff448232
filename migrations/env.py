"""What Alembic runs: the revisions, on the connection and inside the transaction that `service.store.migrate` gives it."""

from alembic import context

from service.store.schema import VERSION_TABLE, metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    transactional_ddl=True,
    include_name=lambda name, kind, _parents: kind != "table" or name in metadata.tables,  # other tables may live beside ours
)
with context.begin_transaction():
    context.run_migrations()
