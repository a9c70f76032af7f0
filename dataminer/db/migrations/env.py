"""Alembic's entry: run the migrations over the connection that :mod:`dataminer.db.schema` gives."""

from alembic import context

from dataminer.db import models

context.configure(
    connection=context.config.attributes["connection"], target_metadata=models.Project.metadata
)
with context.begin_transaction():
    context.run_migrations()
