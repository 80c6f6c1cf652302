"""Migrations of the database schema, by Alembic."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from app import config
from app.persistence.db import engine

MIGRATIONS = Path(__file__).resolve().parents[2] / "migrations"


def alembic_config() -> Config:
    """Return Alembic's configuration for the configured database. Raises ConfigurationError when there is none."""
    settings = Config()
    settings.set_main_option("script_location", str(MIGRATIONS))
    settings.set_main_option("path_separator", "os")
    # Alembic interpolates `%` in options, and a password may contain it.
    settings.set_main_option("sqlalchemy.url", config.database_url().replace("%", "%%"))
    return settings


def upgrade() -> None:
    """Migrate the database to the newest revision. Processes that migrate at the same time wait for each other."""
    command.upgrade(alembic_config(), "head")


def is_current() -> bool:
    """Whether the database has the newest revision of this version of the service."""
    heads = set(ScriptDirectory.from_config(alembic_config()).get_heads())
    with engine().connect() as connection:
        return set(MigrationContext.configure(connection).get_current_heads()) == heads
