"""Runs the migrations on the connection that precall.store.migration hands over, in one transaction: all or none."""

from alembic import context

from precall.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
