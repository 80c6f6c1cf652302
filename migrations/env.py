"""Alembic's entry: runs the revisions on DATABASE_URL, one migrator at a time."""

from alembic import context
from sqlalchemy import create_engine, text

from app import config
from app.tables import Table

LOCK = 7_301_922


def run() -> None:
    engine = create_engine(config.database_url())
    with engine.connect() as connection:
        context.configure(connection=connection, target_metadata=Table.metadata, compare_type=True)
        with context.begin_transaction():
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
            connection.execute(text("SET LOCAL lock_timeout = '10s'"))
            context.run_migrations()
    engine.dispose()


run()
