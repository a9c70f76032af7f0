"""Alembic's entry: run the migrations over the connection that :mod:`dataminer.db.schema` gives."""

from alembic import context

from dataminer.db import models
from dataminer.db.tables import VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=models.Project.metadata,
    version_table=VERSION_TABLE,
)
with context.begin_transaction():
    context.run_migrations()
